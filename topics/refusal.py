# SPDX-License-Identifier: Apache-2.0
"""A gateway's refusal of a record that came over a border: its own signed word, for whoever sent it.

    refusal = compact JWS, typ `umuhuza-refusal+jws`, over {v, iss, at, origin, l1_sha256, code, path, final}

`l1_sha256` is base64url SHA-256 of `header.payload`, the record's identity. `final`: nothing that people or time may do
would let the same bytes in; otherwise it waits at home, and comes again.

Signed is only what the record itself and both registries say. What the bridge that brought it could have spoilt (its
home proof, its body, its grants) is answered without a signature: who holds a bridge must not be able to make up a
refusal of what would have been taken.

Pure: no clock, no randomness. Whoever checks says whose registry it is; the message never does.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas import ijson
from schemas.envelope import jws_header, sign_jws
from schemas.errors import CODES, LogError, RecordError, RegistryError, UmuhuzaError
from schemas.keys import Signer, VerifyKey, unb64url
from schemas.ledgers import ledger_number, origin_of
from schemas.plain_text import is_one_line
from schemas.registry import Registry
from topics.borders import operators_key

REFUSAL_TYP = "umuhuza-refusal+jws"
MAX_REFUSAL_BYTES = 4096
_KINDS = {"v": int, "iss": str, "at": int, "origin": str, "l1_sha256": str, "code": str, "final": bool}
_FINAL_OF_THE_LOG = frozenset(("record_unlogged", "topic_unknown", "too_large", "not_permitted", "evt_conflict"))
"""By the code alone: over HTTP a code says no more whose error it was."""
_PATH_MAX = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a gateway has signed: it did not take this record."""

    iss: str
    """The gateway's agency, `bi/operator`."""
    at: int
    """Seconds since the epoch, the gateway's clock."""
    origin: str
    """The ledger that would have held the record, `bi.umuhuza/log`."""
    l1_sha256: str
    code: str
    path: str | None
    final: bool


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What a gateway answered a bridge for one record: why, and its signed word as it came, not checked."""

    error: UmuhuzaError
    jws: str | None = None


def waits(error: UmuhuzaError) -> bool:
    """Whether time, or people of both countries, may cure it; the sender need not do anything."""
    if error.retriable or error.code in ("agreement_missing", "agency_unknown"):
        return True
    return error.code in LogError.codes - _FINAL_OF_THE_LOG


def make_refusal(
    error: UmuhuzaError, l1_sha256: str, key: Signer, *, iss: str, at: int, domain: str, origin: str | None = None
) -> str:
    """Sign one. `origin`: None: the domain's first ledger."""
    payload = {
        "v": 1,
        "iss": iss,
        "at": at,
        "origin": origin or origin_of(domain),
        "l1_sha256": l1_sha256,
        "code": error.code,
        "path": error.path,
        "final": not waits(error),
    }
    return sign_jws(REFUSAL_TYP, payload, key).decode("ascii")


def check_refusal(text: str, l1_sha256: str, domain: str, registry: Registry) -> Refusal:
    """What that domain's gateway has signed of this record.

    Args:
        registry: ours, with its borders: an operator of that domain has to have signed, with a key that counted then.

    Raises:
        RecordError: record_malformed, header_forbidden, signature_invalid.
        RegistryError: agency_unknown, that domain is no neighbour; key_unknown, no operator of it signed; key_revoked.
        LogError: root_mismatch, it is about another record or of another domain's ledger.
    """
    malformed = RecordError("record_malformed", "refusal")
    if len(text) > MAX_REFUSAL_BYTES or text.count(".") != 2 or not text.isascii():
        raise malformed
    header, payload, signature = text.split(".")
    key = operators_key(registry, domain, jws_header(header, REFUSAL_TYP))
    try:
        signed = unb64url(signature)
        raw = ijson.loads(unb64url(payload), max_bytes=MAX_REFUSAL_BYTES, max_depth=1)
    except (ValueError, ijson.IJsonError):
        raise malformed from None
    if not VerifyKey(key.public).verifies(f"{header}.{payload}".encode("ascii"), signed):
        raise RecordError("signature_invalid", "refusal")
    if not isinstance(raw, dict) or raw.keys() != {*_KINDS, "path"} or raw["v"] != 1:
        raise malformed
    if any(type(raw[name]) is not kind for name, kind in _KINDS.items()) or raw["code"] not in CODES:
        raise malformed
    path = raw["path"]
    if path is not None and not (isinstance(path, str) and len(path) <= _PATH_MAX and is_one_line(path)):
        raise malformed
    if raw["l1_sha256"] != l1_sha256 or not ledger_number(raw["origin"], domain):
        raise LogError("root_mismatch", "refusal")
    if not key.counts_at(raw["at"]):
        raise RegistryError("key_revoked", "refusal.kid")
    del raw["v"]
    return Refusal(**raw)
