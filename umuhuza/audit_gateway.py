# SPDX-License-Identifier: Apache-2.0
"""`umuhuza audit verify https://...`: what a gateway serves of its ledger, as an audit's source.

Whoever asks is served the checkpoint and the hashes; with an agency's folder whose agency policy names an auditor, the
entries too, and the registry. Nobody is served records. The address is only where things are fetched: whom to believe
comes from the auditor, who has to name it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from schemas.errors import LogError, RegistryError
from schemas.ledgers import domain_in
from schemas.notes import read_note
from schemas.registry import Registry
from schemas.trust_policy import read_endorsed
from topics.audit_findings import Trust
from topics.audit_served import ServedSource
from topics.believed_ledgers import announced_in, believed_ledgers
from topics.cosigning import HttpLedger
from topics.settings import SettingsError
from topics.tiles import TileFetch
from umuhuza.agency import gateway_log, opened_agency
from umuhuza.audit_sources import Opened, brought_by, policy_of, registry_reader


@contextmanager
def served_source(
    address: str,
    *,
    policy: Path | None,
    root: str | None = None,
    held: Sequence[Path] = (),
    identity: Path | None = None,
    ca: Path | None = None,
) -> Iterator[Opened]:
    """Reach the gateway at this address.

    Args:
        identity: folder of an agency that is an auditor.
        ca: who signs the gateway's certificate, where the machine does not know.

    Raises SettingsError: something is missing. LogError `unavailable`: it does not answer; `log_unknown`: the policy
    has no key of its ledger. UmuhuzaError: it refuses us.
    """
    if policy is None:
        raise SettingsError(
            "--policy: a gateway does not say whom to believe, name it",
            "--policy : une passerelle ne dit pas qui croire, nommez-le",
        )
    given, brought = policy_of(policy), brought_by(held)
    with ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(verify=_context(ca), trust_env=False))
        ledger = HttpLedger(client, f"{address.rstrip('/')}/v1/log")
        checkpoint = ledger.checkpoint()
        origin = read_note(checkpoint).text.partition("\n")[0]
        domain = domain_in(origin)
        if not domain:
            raise LogError("log_unknown", "checkpoint")
        entries, published = None, None
        if identity is not None:
            entries, published, root = _as_auditor(stack, identity, address, root)
        reader = _no_registry if root is None else registry_reader(root)
        announced = announced_in(published, lambda data: reader(data)[0], domain)
        believed = believed_ledgers(given, announced, domain).policy
        size = read_endorsed(checkpoint, believed, origin).signed.checkpoint.size
        source = ServedSource(
            domain, checkpoint, size, ledger.tile, entries=entries, published=published, brought=brought
        )
        yield Opened(source, Trust(given, reader, announced=announced), root or "", believed, ())


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError:
        raise SettingsError("--ca: cannot be read", "--ca : ne peut pas être lu") from None


def _no_registry(_data: bytes) -> tuple[Registry, bytes]:
    raise RegistryError("registry_invalid")  # none is looked at without a root


def _as_auditor(
    stack: ExitStack, identity: Path, address: str, root: str | None
) -> tuple[TileFetch, bytes | None, str]:
    """How entries are fetched, the registry that members are given, and the root under which to read it."""
    parts = stack.enter_context(opened_agency(identity))
    if parts.settings.gateway.rstrip("/") != address.rstrip("/"):
        raise SettingsError(
            "--identity: this agency has another gateway", "--identity : cette agence a une autre passerelle"
        )
    loop = stack.enter_context(asyncio.Runner())
    log = gateway_log(parts)
    stack.callback(lambda: loop.run(log.close()))
    fetched = loop.run(log.fetch_registry())
    published = None if fetched is None else fetched[0]
    return lambda bundle: loop.run(log.fetch_entries(bundle)), published, root or parts.settings.registry_root
