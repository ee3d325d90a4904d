# SPDX-License-Identifier: Apache-2.0
"""A protocol between agencies of one domain: what each of them signs, and whether it counts.

    compact JWS, typ `umuhuza-protocol+jws`
    {"v":1,"iss":"bi/iom","protocol":"foyer-oim","sha256":"<hex, over terms_of>","iat":1793000000}
    under a training root also "training":true

Every agency that a protocol binds signs it with its own signing key; the registry's holders publish terms and
signatures in one target. An ending is the same payload under `umuhuza-protocol-end+jws`: one of them is enough, nobody
else is asked, and the same terms never count again beside it.

Whoever reads a registry judges by that registry alone, so that all readers of one version say the same: a signature
counts while its key stands in the agency's entry as a signing key that nobody has revoked, and was valid on the day it
says. That day is the agency's word; the holders compare the key with their clock when they publish. A revocation takes
a signature away whenever it was made, since no ledger has a place for it: the agency signs again with its new key.
An ending counts with a key that was revoked since, too.

Pure. Must never: take a signature for anything but these terms under this name; stop a registry from being read
because a protocol in it does not count.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas import ijson
from schemas.agreements import MAX_SIGNATURE_CHARS, Agreement, terms_of
from schemas.envelope import is_agency, jws_header, sign_jws
from schemas.errors import RecordError, RegistryError
from schemas.keys import Signer, VerifyKey, unb64url
from schemas.registry import Agency, SignedProtocol

PROTOCOL_TYP = "umuhuza-protocol+jws"
ENDING_TYP = "umuhuza-protocol-end+jws"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(agreement: Agreement) -> str:
    """Hex SHA-256 of the terms: what is signed."""
    return hashlib.sha256(terms_of(agreement)).hexdigest()


def sign_protocol(
    agreement: Agreement, agency: str, now: int, key: Signer, *, training: bool, ending: bool = False
) -> str:
    """One line: that `agency` agrees to these terms, or ends them. Raises what the key raises."""
    payload: dict[str, Any] = {
        "v": 1,
        "iss": agency,
        "protocol": agreement.name,
        "sha256": digest_of(agreement),
        "iat": now,
    }
    if training:
        payload["training"] = True
    return sign_jws(ENDING_TYP if ending else PROTOCOL_TYP, payload, key).decode("ascii")


@dataclass(frozen=True, slots=True)
class SignedBy:
    agency: str
    kid: str


def read_signature(
    line: str, agreement: Agreement, agencies: Mapping[str, Agency], *, training: bool, ending: bool = False
) -> SignedBy:
    """Whose word that is.

    Raises:
        RecordError: record_malformed, header_forbidden, signature_invalid, issuer_mismatch (an agency that the protocol
            does not bind), training_record (training beside production).
        RegistryError: protocol_changed (other terms, or another protocol's), agency_unknown, key_unknown, key_revoked.
    """
    wrong = RecordError("record_malformed", "protocol")
    try:
        header, payload, signature = line.split(".")
        kid = jws_header(header, ENDING_TYP if ending else PROTOCOL_TYP)
        raw = ijson.loads(unb64url(payload), max_bytes=MAX_SIGNATURE_CHARS, max_depth=1)
        signed = unb64url(signature)
    except (ValueError, ijson.IJsonError):
        raise wrong from None
    if not isinstance(raw, dict) or raw.keys() - {"training"} != {"v", "iss", "protocol", "sha256", "iat"}:
        raise wrong
    if type(raw["v"]) is not int or raw["v"] != 1 or type(raw["iat"]) is not int or not isinstance(raw["iss"], str):
        raise wrong
    if not is_agency(raw["iss"]) or raw.get("training", True) is not True or not isinstance(raw["protocol"], str):
        raise wrong
    if not isinstance(raw["sha256"], str) or _DIGEST.fullmatch(raw["sha256"]) is None:
        raise wrong
    if raw["iss"] not in agreement.agencies:
        raise RecordError("issuer_mismatch", "protocol.iss")
    if ("training" in raw) is not training:
        raise RecordError("training_record", "protocol.training")
    key = _key(agencies, raw["iss"], kid, None if ending else raw["iat"])
    if not key.verifies(f"{header}.{payload}".encode("ascii"), signed):
        raise RecordError("signature_invalid", "protocol")
    if raw["protocol"] != agreement.name or raw["sha256"] != digest_of(agreement):
        raise RegistryError("protocol_changed", "protocol")
    return SignedBy(raw["iss"], kid)


def _key(agencies: Mapping[str, Agency], iss: str, kid: str, at: int | None) -> VerifyKey:
    """`at`: None where a key counts that was revoked since."""
    owner = agencies.get(iss)
    if owner is None:
        raise RegistryError("agency_unknown", "protocol.iss")
    for key in owner.keys:
        if key.kid == kid and key.use == "sig":
            if at is not None and (key.revoked is not None or not key.counts_at(at)):
                raise RegistryError("key_revoked", "protocol")
            return VerifyKey(key.public)
    raise RegistryError("key_unknown", "protocol")


def standing(agreement: Agreement, agencies: Mapping[str, Agency], *, training: bool) -> SignedProtocol:
    """What the signatures beside it are worth; those that are not worth anything are passed over.

    Args:
        agencies: of the registry in which it stands.
    """

    def words(lines: Iterable[str], *, ending: bool) -> Iterator[str]:
        for line in lines:
            try:
                yield read_signature(line, agreement, agencies, training=training, ending=ending).agency
            except (RecordError, RegistryError):
                continue

    agreed, ended = set(words(agreement.signatures, ending=False)), set(words(agreement.endings, ending=True))
    return SignedProtocol(
        agreement,
        tuple(one for one in agreement.agencies if one not in agreed),
        tuple(one for one in agreement.agencies if one in ended),
    )


def protocols_in(
    agreements: Mapping[str, Agreement], agencies: Mapping[str, Agency], *, training: bool
) -> dict[str, SignedProtocol]:
    """Every protocol of a registry by its name, those too that do not count."""
    inside = {name: one for name, one in agreements.items() if not one.crosses}
    return {name: standing(one, agencies, training=training) for name, one in inside.items()}
