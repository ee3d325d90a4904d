# SPDX-License-Identifier: Apache-2.0
"""Two invented domains with an agreement between them, and a ledger of Tunisia's that logs what a test lets it log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from schemas.agreements import Agreement, agreement_from_json
from schemas.envelope import chain_hash
from schemas.home_proof import CarriedLine, HomeProof, Proven
from schemas.keys import unb64url
from schemas.notes import Checkpoint, NoteSigner, read_note, sign_checkpoint
from schemas.registry import Role
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.trust_policy import TrustPolicy, read_policy
from tests.domain import NOW, Domain, Signed
from tests.trees import log_signers, witness_signers
from topics.borders import excerpt_for
from topics.home_check import NEWEST, POLICY, ROOT
from topics.ledger_entries import LedgerEntry
from topics.proofs import inclusion_path, leaf_hash, root

NAME = "demo-2026"
TODAY = datetime.fromtimestamp(NOW, UTC).date()
BURUNDI: dict[str, tuple[str, tuple[Role, ...], bool]] = {
    "bi/ccsprtp": ("Commission (inventée)", ("coordination", "focal-point"), False),
    "bi/iom": ("OIM (inventée)", ("screener", "assistance", "facilitator"), False),
    "bi/k7t4": ("Maison-Inventée", ("assistance", "shelter"), True),
    "bi/operator": ("Exploitant (inventé)", ("operator",), False),
}
TUNISIA: dict[str, tuple[str, tuple[Role, ...], bool]] = {
    "tn/inlctp": ("Instance nationale (inventée)", ("coordination", "focal-point"), False),
    "tn/iom": ("OIM Tunisie (inventée)", ("screener", "assistance", "facilitator"), False),
    "tn/m2p9": ("Refuge-Inventé", ("assistance", "shelter"), True),
    "tn/operator": ("Exploitant (inventé)", ("operator",), False),
}
TERMS: dict[str, Any] = {
    "domains": ["bi", "tn"],
    "agencies": [],
    "flows": ["bilateral", "receipt"],
    "types": ["transfer.requested", "transfer.accepted", "transfer.declined", "receipt.delivered"],
    "purposes": ["return"],
    "focal_points": ["bi/ccsprtp", "tn/inlctp"],
    "retention_days": 365,
    "legal_ref": "Accord fictif",
    "document_sha256": None,
}
"""Since 30 days, for 90 more; the authorisation for 60."""
AUTHORISED = {"authority": "data-protection-authority", "ref": "2026/1", "scope": ["bilateral"]}


@dataclass
class Countries:
    """`Countries()`: both, with the agreement in both registries."""

    now: int = NOW
    otherwise: Mapping[str, Any] = field(default_factory=dict)
    """Members of the agreement that are not as in `TERMS`."""
    bi: Domain = field(init=False)
    tn: Domain = field(init=False)

    def __post_init__(self) -> None:
        self.bi = Domain("burundi", self.now, cast=BURUNDI)
        self.tn = Domain("tunisia", self.now, cast=TUNISIA, name="tn")
        self.bi.abroad, self.tn.abroad = self.tn.members, self.bi.members
        self.agree()

    def agree(self, **changes: Any) -> None:
        """The agreement, with these members changed, in both registries."""
        self.bi.agreements, self.tn.agreements = (
            {NAME: self.terms("bi", **changes)},
            {NAME: self.terms("tn", **changes)},
        )

    def terms(self, domain: str, **changes: Any) -> Agreement:
        roots = {"bi": self.bi.pin.text, "tn": self.tn.pin.text}
        begun = datetime.fromtimestamp(self.now, UTC).date()
        days = {"since": begun + timedelta(days=-30), "until": begun + timedelta(days=90)}
        authorised = {**AUTHORISED, "until": (begun + timedelta(days=60)).isoformat()}
        told = {**TERMS, **{name: one.isoformat() for name, one in days.items()}, "authorisations": [authorised]}
        return agreement_from_json({**told, "root_fingerprints": roots, **self.otherwise, **changes}, NAME, domain)

    def published(self, domain: Domain) -> TrustedRegistry:
        """Its registry as it is now."""
        return trusted(domain.registry_file, domain.pin)

    def neighbours_of_burundi(self, folder: Path) -> Path:
        """What an operator in Burundi puts there, and the registry that came first."""
        return neighbour(folder, self.tn, self.published(self.tn), "bi")


def neighbour(folder: Path, other: Domain, theirs: TrustedRegistry, ours: str) -> Path:
    """A folder of neighbours with one of them; its path."""
    here = folder / other.name
    here.mkdir(parents=True, exist_ok=True)
    (here / ROOT).write_text(other.pin.text + "\n", encoding="ascii")
    (here / POLICY).write_bytes(trust_policy(other.name).dumps())
    (here / NEWEST).write_bytes(excerpt_for(theirs, ours))
    return folder


def trust_policy(domain: str) -> TrustPolicy:
    """That domain's ledger, and a witness of each country, both of whom must have signed."""
    lines = [f"log {one.public.vkey}\n" for one in log_signers(domain)]
    lines += [f"witness {name} {witness_signers(name)[0].public.vkey}\n" for name in ("bi", "tn")]
    return read_policy("".join([*lines, "group both all bi tn\nquorum both\n"]).encode())


@dataclass
class HomeLedger:
    """What Tunisia's ledger holds, put there by a test."""

    entries: list[bytes] = field(default_factory=list)
    domain: str = "tn"

    def publish(self, registry: TrustedRegistry | int) -> int:
        """A registry version; its index."""
        version = registry if isinstance(registry, int) else registry.registry.version
        digest = hashlib.sha256(str(version).encode()).digest()
        return self._add(LedgerEntry("registry", value_sha256=digest, detail=str(version)))

    def log(self, *records: Signed, kind: str = "event") -> int:
        """Records, each an entry; the last one's index."""
        index = -1
        for one in records:
            l1 = unb64url(chain_hash(one.value.partition(b"\n")[0]))
            value = hashlib.sha256(one.value).digest()
            offset = len(self.entries)
            if kind == "reject":
                entry = LedgerEntry("reject", one.manifest.topic, offset, None, value, l1, "key_revoked")
            else:
                entry = LedgerEntry("event", one.manifest.topic, offset, None, value, l1)
            index = self._add(entry)
        return index

    def _add(self, entry: LedgerEntry) -> int:
        self.entries.append(entry.encode())
        return len(self.entries) - 1

    def checkpoint(self, at: int = NOW, by: Sequence[NoteSigner] | None = None) -> bytes:
        """Over everything, cosigned by both countries unless said otherwise."""
        leaves = [leaf_hash(one) for one in self.entries]
        head = Checkpoint(f"{self.domain}.umuhuza/log", len(leaves), root(leaves))
        note = read_note(sign_checkpoint(head, log_signers(self.domain), at))
        signers = [witness_signers(name)[0] for name in ("bi", "tn")] if by is None else by
        return note.with_signatures([one.sign(head.text, at) for one in signers]).dumps()

    def proven(self, index: int) -> Proven:
        path = inclusion_path([leaf_hash(one) for one in self.entries], index)
        return Proven(index, self.entries[index], tuple(path))

    def home(self, index: int, registry: int, checkpoint: bytes | None = None) -> HomeProof:
        """Of the entry at `index`, under the registry entry at `registry`."""
        return HomeProof(checkpoint or self.checkpoint(), self.proven(index), self.proven(registry))


def carried(signed: Signed, home: HomeProof, *, checkpoint: bool = True) -> bytes:
    """A line of a contact."""
    grants = tuple(orjson.loads(one) for one in signed.grants)
    return CarriedLine(signed.value, grants, home).dumps(checkpoint=checkpoint)


def day(days: int) -> date:
    return TODAY + timedelta(days=days)
