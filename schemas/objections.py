# SPDX-License-Identifier: Apache-2.0
"""An agency's word that keys in its entry of the registry are not its own.

    compact JWS, typ `umuhuza-objection+jws`, {"v":1,"iss":"bi/k7t4","kids":[...],"iat":1793000000}

Signed with a key of the agency that counts, and no more than a reason to stop: whoever put a false signing key into the
entry could object to the true ones in the same words. So an objection makes no key better and none worse. It stands as
long as one of the keys it names counts, and while it stands nobody seals anything to that agency; the holders of the
registry decide who is right, and revoke.

Pure. Must never: be read as a revocation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas import ijson
from schemas.envelope import is_agency, is_kid, jws_header, sign_jws
from schemas.errors import RecordError, RegistryError
from schemas.keys import Signer, unb64url
from schemas.registry import Registry

OBJECTION_TYP = "umuhuza-objection+jws"
MAX_OBJECTION_BYTES = 4096
MAX_KEYS = 32


@dataclass(frozen=True, slots=True)
class Objection:
    """Who objects to which keys, since when (seconds since the epoch, the agency's claim)."""

    agency: str
    kids: tuple[str, ...]
    at: int
    signed_by: str
    """The kid that signed it."""

    def stands(self, registry: Registry, now: int) -> bool:
        """Whether a key that it names still counts, and the one that signed it too."""
        entry = registry.home_of(self.agency).agencies.get(self.agency)
        counting = set() if entry is None else {key.kid for key in entry.keys if key.counts_at(now)}
        return self.signed_by in counting and not counting.isdisjoint(self.kids)


def sign_objection(agency: str, kids: Iterable[str], now: int, key: Signer) -> bytes:
    """One line."""
    return sign_jws(OBJECTION_TYP, {"v": 1, "iss": agency, "kids": sorted(kids), "iat": now}, key)


def read_objection(line: bytes, registry: Registry, now: int) -> Objection:
    """Verify one, of a member or of an agency abroad that an agreement names.

    Raises:
        RecordError: record_malformed, header_forbidden, signature_invalid, too_large, issuer_mismatch.
        RegistryError: agency_unknown, key_unknown, key_revoked.
    """
    if len(line) > MAX_OBJECTION_BYTES:
        raise RecordError("too_large", "objection", expected=MAX_OBJECTION_BYTES)
    wrong = RecordError("record_malformed", "objection")
    try:
        header, payload, signature = line.decode("ascii").split(".")
        kid = jws_header(header, OBJECTION_TYP)
        raw = ijson.loads(unb64url(payload), max_bytes=MAX_OBJECTION_BYTES, max_depth=2)
        signed = unb64url(signature)
    except (ValueError, ijson.IJsonError):
        raise wrong from None
    if not isinstance(raw, dict) or raw.keys() != {"v", "iss", "kids", "iat"} or type(raw["v"]) is not int:
        raise wrong
    if raw["v"] != 1 or type(raw["iat"]) is not int or not isinstance(raw["iss"], str) or not is_agency(raw["iss"]):
        raise wrong
    kids = raw["kids"]
    if not isinstance(kids, list) or not 0 < len(kids) <= MAX_KEYS or kid in kids:
        raise wrong
    if not all(isinstance(one, str) and is_kid(one) for one in kids) or len(set(kids)) != len(kids):
        raise wrong
    home = registry.home_of(raw["iss"])
    if not home.new_signing_key(raw["iss"], kid, now).verifies(f"{header}.{payload}".encode("ascii"), signed):
        raise RecordError("signature_invalid", "objection")
    return Objection(raw["iss"], tuple(kids), raw["iat"], kid)


def disputed(lines: Iterable[bytes], registry: Registry, now: int) -> frozenset[str]:
    """The agencies to whom nothing is to be sealed now: an objection of theirs is true and stands. What is not one is
    passed over: it comes from whoever hands them on."""
    found = set()
    for line in lines:
        try:
            objection = read_objection(line, registry, now)
        except (RecordError, RegistryError):
            continue
        if objection.stands(registry, now):
            found.add(objection.agency)
    return frozenset(found)
