# SPDX-License-Identifier: Apache-2.0
"""Two domains for training on one machine that exchange under an agreement: what `umuhuza demo` and `umuhuza sandbox`
have in common.

    found -> members, agreement -> gateways run -> watched, introduced -> ledgers, bridges and agencies run

Each domain has keys, registry, log, ledger and witness of its own, as two countries have; what their operators read to
each other on the telephone is copied from folder to folder here. Each witness cosigns both ledgers, and both have to
sign. Asks for nothing that an operator does not do too (docs/operations/bridge.md).

Must never: make a domain that is not signed as one for training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters.keystore import Keys, write_keys
from gateway.settings import FILE_NAME as GATEWAY_FILE
from schemas.agreements import agreement_from_json
from schemas.keys import HYBRID, Suite
from schemas.registry import Agency, Role
from schemas.registry_signing import contents_now
from topics.borders import excerpt_for
from topics.cosigning import POLICY_FILE
from topics.durable_file import replace_file
from topics.home_check import NEWEST, POLICY, ROOT
from topics.witness_folder import PUBLIC_FILE as WITNESS_PUBLIC_FILE
from topics.witness_folder import read_note_keys
from umuhuza.children import command
from umuhuza.gateway_command import init_gateway
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.ledger_command import init_ledger
from umuhuza.ledger_settings import FILE_NAME as LEDGER_FILE
from umuhuza.registry_holder import REGISTRY_FILE, ROOT_FILE, add_agency, change_registry, held, init_registry
from umuhuza.witness_command import add_log, make_witness, trust

AGREEMENT = "demo-2026"
"""The invented one that the policy knows."""
_SINCE, _FOR = timedelta(days=-30), timedelta(days=365)


@dataclass(frozen=True, slots=True)
class DomainFolders:
    """Where the files of one domain lie."""

    name: str
    """`bi`."""
    registry: Path
    """A holder's folder."""
    gateway: Path
    ledger: Path
    witness: Path
    ready: Path
    """Written by the gateway with its address."""

    @property
    def operator(self) -> str:
        return f"{self.name}/operator"

    @property
    def registry_file(self) -> Path:
        return self.registry / REGISTRY_FILE

    @property
    def root(self) -> str:
        """Fingerprint of the registry's root."""
        return (self.registry / ROOT_FILE).read_text(encoding="ascii").strip()

    @property
    def neighbours(self) -> Path:
        """The gateway's folder of other domains."""
        return self.gateway / "neighbours"

    @property
    def address(self) -> str:
        """Of the gateway, once it answers."""
        return self.ready.read_text(encoding="ascii").strip()


def found(here: DomainFolders, *, now: float | None = None) -> None:
    """A domain with an operator and no other member: registry, gateway over one file, ledger, witness.

    Args:
        now: since when the operator's key counts, seconds since the epoch; None: since now.
    """
    _, root = init_registry(here.registry, here.name, True)
    operator = init_gateway(
        here.gateway,
        agency=here.operator,
        registry=here.registry_file.resolve(),
        registry_root=root.text,
        host="127.0.0.1",
        port=0,
        now=now,
    )
    add_agency(here.registry, operator)
    init_ledger(here.ledger, here.gateway, port=0)
    make_witness(here.witness, f"{here.name}.umuhuza/witness")
    furnish(here)


def furnish(here: DomainFolders, *, asks_every_s: float = 1.0) -> None:
    """Tell a new gateway of its witness and its neighbours, and that it needs no process beside its own for so few
    records; the ledger asks its witnesses often."""
    here.neighbours.mkdir(exist_ok=True)
    neighbours = f'neighbours = "{here.neighbours.resolve()}"\n'
    with (here.gateway / GATEWAY_FILE).open("a", encoding="utf-8") as out:
        out.write(f'witness = "{here.witness.resolve()}"\n{neighbours}checkers = 0\n')
    with (here.ledger / LEDGER_FILE).open("a", encoding="utf-8") as out:
        ready = (here.ledger / here.ready.name).resolve()
        out.write(f'{neighbours}witness_seconds = {asks_every_s}\nready_file = "{ready}"\n')


def member(
    folder: Path,
    agency: str,
    names: Mapping[str, str],
    roles: Sequence[Role],
    *,
    protected: bool = False,
    suite: Suite = HYBRID,
    now: float | None = None,
) -> Agency:
    """New keys in clear in an agency's folder; its entry for the registry."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = Keys.generate(agency, os.urandom, suite)
    write_keys(folder / "keys.json", keys)
    return keys.enrolment(dict(names), tuple(roles), protected, int(time.time() if now is None else now))


def agree(one: DomainFolders, other: DomainFolders, focal_points: Sequence[str], now: float | None = None) -> None:
    """The same invented agreement in both registries, for a year: the flows `bilateral` and `receipt`, between these
    agencies.

    Raises RegistryError.
    """
    today = datetime.fromtimestamp(time.time() if now is None else now, UTC).date()
    terms: dict[str, Any] = {
        "domains": sorted((one.name, other.name)),
        "agencies": [],
        "flows": ["bilateral", "receipt"],
        "types": [],
        "purposes": ["return"],
        "focal_points": list(focal_points),
        "authorisations": [],
        "retention_days": 365,
        "legal_ref": "Accord de démonstration (fictif)",
        "document_sha256": None,
        "since": (today + _SINCE).isoformat(),
        "until": (today + _FOR).isoformat(),
        "root_fingerprints": {here.name: here.root for here in (one, other)},
    }
    for here in (one, other):
        mine = held(here.registry)
        contents = contents_now(mine.trusted)
        agreements = {**contents.agreements, AGREEMENT: agreement_from_json(terms, AGREEMENT, here.name)}
        change_registry(mine, replace(contents, agreements=agreements)).require_published()


def watched(here: DomainFolders, *by: DomainFolders) -> None:
    """Its ledger asks the witnesses of these domains, which their gateways serve; all of them have to sign.

    What the ledger was told before is forgotten: the gateways may have other addresses now."""
    (here.ledger / POLICY_FILE).unlink(missing_ok=True)
    own = here.ledger / LEDGER_PUBLIC_FILE
    for one in by:
        add_log(one.witness, read_note_keys(own))
        trust(
            here.ledger, own, one.name, read_note_keys(one.witness / WITNESS_PUBLIC_FILE), f"{one.address}/v1/witness"
        )


def introduce(other: DomainFolders, ours: str, *folders: Path) -> None:
    """What the domain `ours` holds of another one, into these folders of neighbours: root, whom to believe of its
    ledger, excerpt of its registry. For its gateway, and for each agency that writes over the border.

    An excerpt that is there stays: newer ones come with the bridge, which keeps each version for what was logged
    under it."""
    excerpt = excerpt_for(held(other.registry).trusted, ours)
    policy = (other.ledger / POLICY_FILE).read_bytes()
    for folder in folders:
        here = folder / other.name
        here.mkdir(parents=True, exist_ok=True)
        replace_file(here / POLICY, policy)
        if not (here / NEWEST).exists():
            replace_file(here / NEWEST, excerpt)
        replace_file(here / ROOT, other.root.encode("ascii"))


def bridge(here: DomainFolders, other: DomainFolders) -> Callable[[], object]:
    """Carries from here to there, looking twice a second; its own address stands beside the gateway's."""
    where = ("--url", other.address, "--gateway", str(here.gateway), "--every", "0.5")
    health = ("--port", "0", "--ready-file", str(here.ready.with_name(f"{here.ready.name}-{other.name}")))
    return command("bridge", "run", other.name, *where, *health)
