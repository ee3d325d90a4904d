# SPDX-License-Identifier: Apache-2.0
"""Whether a record that stands in the log counts: its issuer signed it with a key that counted then, for this topic,
and its parts are those that were signed.

Gateways ask it of what they did not take in themselves, the ledger of everything; both have to come to the same, so the
rule stands here once. What needs other records (repeats, chains, targets) and what needs the clear text is asked
elsewhere.

Pure but for the registry's cache of decoded keys. Must never put a value of a record into what it returns, nor raise
for anything that a record can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.envelope import Manifest, parse_record
from schemas.errors import RecordError, RegistryError, UmuhuzaError
from schemas.registry import Registry

SIGNER_UNKNOWN = frozenset(("agency_unknown", "key_unknown"))
"""Codes after which a newer registry may say otherwise."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A record that counts."""

    manifest: Manifest
    kid: str
    """Of the key that signed it."""
    l1_sha256: bytes
    """SHA-256 of `header.payload`."""


def verify_logged(
    registry: Registry, topic: str, at_ms: int, value: bytes, index: int | None = None, ledger: int = 1
) -> Verified | UmuhuzaError:
    """Verify one record of the log.

    Args:
        topic: where it stands.
        at_ms: the log's time for it, milliseconds since the epoch; whether a key counted is asked of that moment.

        index: of its entry in the home ledger, where that has counted it and its key was revoked later: then no time
            is asked for (`Registry.signing_key`).
        ledger: number of that ledger.

    Returns:
        The record, or why it does not count: a RecordError or RegistryError without its traceback.
    """
    try:
        record = parse_record(value)
        if record.manifest.topic != topic:
            raise RecordError("topic_mismatch", "L1.topic")
        record.verify(registry.signing_key(record.manifest.iss, record.kid, at_ms // 1000, index, ledger))
        record.verify_body()
    except UmuhuzaError as exc:
        return exc.with_traceback(None)  # the frames hold the record
    return Verified(record.manifest, record.kid, record.digest)


def is_signer_unknown(found: Verified | UmuhuzaError) -> bool:
    """Whether a newer registry may say otherwise."""
    return isinstance(found, RegistryError) and found.code in SIGNER_UNKNOWN
