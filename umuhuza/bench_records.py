# SPDX-License-Identifier: Apache-2.0
"""Records for the benchmarks: chains of one issuer's, signed and sealed as its adapter does, before the clock runs.

Must never: be part of what is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import orjson

from adapters.keystore import Keys
from schemas.envelope import (
    Manifest,
    chain_hash,
    cloudevents_headers,
    mailbox_topic,
    new_evt,
    new_thread,
    record_value,
    sign_manifest,
)
from schemas.registry import Registry
from schemas.sealing import Sealed, make_grant, seal_parts
from topics.log import Entry

CONTENT_BYTES = 3500
IDENTITY_BYTES = 1200
"""Of a typical referral; padded to 4 KiB each: a record of 12 KB."""


@dataclass(frozen=True)
class Made:
    """One record, ready to be sent."""

    line: bytes
    entry: Entry
    kid: str
    """Of the key that the grant is sealed to."""
    grant: bytes


def filled(evt: str, thread: str) -> tuple[bytes, bytes]:
    """Identity and content of the usual size, which say nothing: for whoever never opens them."""
    return b"i" * IDENTITY_BYTES, b"c" * CONTENT_BYTES


@dataclass(frozen=True)
class _Written:
    manifest: Manifest
    sealed: Sealed
    value: bytes

    @property
    def entry(self) -> Entry:
        """As it stands in the log."""
        manifest = self.manifest
        key = manifest.thread.encode()
        return Entry(manifest.topic, key, manifest.ident, self.value, cloudevents_headers(manifest))


Parts = Callable[[str, str], tuple[bytes, bytes]]
"""Identity and content of the event with that evt, on that thread."""


def _chain(keys: Keys, to: str, registry: Registry, flow: str, parts: Parts) -> Iterator[_Written]:
    topic, prev = mailbox_topic(flow, to), ""
    now = int(time.time())
    for seq in count(1):
        evt, thread = new_evt(int(time.time() * 1000), os.urandom), new_thread(os.urandom)
        identity, content = parts(evt, thread)
        plaintexts = {"identity": identity, "content": content}
        sealed = seal_parts(f"{keys.agency}/{evt}", "request", plaintexts, os.urandom)
        manifest = Manifest(
            evt=evt,
            iss=keys.agency,
            to=to,
            topic=topic,
            kind="request",
            thread=thread,
            seq=seq,
            prev=prev,
            iat=now,
            reg=registry.version,
            parts=sealed.parts,
        )
        line1 = sign_manifest(manifest, keys.sig)
        prev = chain_hash(line1)
        yield _Written(manifest, sealed, record_value(line1, sealed.body))


def values_of(keys: Keys, to: str, registry: Registry) -> Iterator[Entry]:
    """A chain of one issuer's records to one reader without end, without grants, made while it is asked for."""
    return (one.entry for one in _chain(keys, to, registry, "referral", filled))


def chain_of(
    keys: Keys, to: str, registry: Registry, number: int, flow: str = "referral", parts: Parts = filled
) -> list[Made]:
    """A chain of one issuer's records to one reader, each on a thread of its own.

    Args:
        number: of records.
    """
    seal_to = registry.seal_keys(to, int(time.time()))[0]
    made = []
    for one in islice(_chain(keys, to, registry, flow, parts), number):
        grant = make_grant(one.manifest, one.sealed.keys, to, seal_to)
        line = orjson.dumps({"record": one.value.decode("ascii"), "grants": [orjson.loads(grant)]})
        made.append(Made(line, one.entry, seal_to.kid, grant))
    return made
