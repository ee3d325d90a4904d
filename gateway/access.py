# SPDX-License-Identifier: Apache-2.0
"""Who is calling: assertions signed with an agency's registry key become access tokens of five minutes (RFC 7523).

    assertion  JWT, ES256 by the agency's `sig` key, typ JWT, iss = sub = agency, aud = urn:umuhuza:<domain>:gateway,
               jti used once, exp - iat <= 60 s
    token      JWT, ES256 by the gateway's key, typ at+jwt (RFC 9068), sub = agency, `key` = kid of the assertion's key

Invariants:
- A token is worth what the key behind it is worth now: revoked in the registry, its tokens end with the next request.
- A token is verified once and then known by its bytes until it expires, or the registry or this process changes.
- `jti`s are remembered until their assertion could no longer be used. Each gateway remembers its own: an assertion
  stolen within its minute could be used once at each gateway of a domain (TLS stands before that).
- Times are arguments; nothing of a token or an assertion enters an error or a log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from schemas import ijson
from schemas.envelope import is_agency, sign_jws
from schemas.errors import AccessError, PolicyError, RecordError, RegistryError
from schemas.keys import RandomBytes, SigningKey, VerifyKey, b64url, unb64url
from schemas.registry import Registry, empty_registry
from topics.borders import operator_of

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_CREDENTIALS = "client_credentials"
MAX_LIFETIME_S = 60
TOLERANCE_S = 60
"""How far the clocks of an agency and of the gateway may differ."""
MAX_TOKEN_BYTES = 4096
MAX_FORM_BYTES = 16 * 1024
_REMEMBERED_PER_AGENCY = 10_000
_REMEMBERED_TOKENS = 10_000


def audience_of(domain: str) -> str:
    return f"urn:umuhuza:{domain}:gateway"


@dataclass(frozen=True, slots=True)
class Session:
    """An authenticated call."""

    agency: str
    kid: str
    """The agency's key that asked for the token."""
    expires: int


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    expires_in: int


class Access:
    """Issues and checks tokens. Used from one thread."""

    def __init__(self, key: SigningKey, agency: str, random: RandomBytes, lifetime_s: int = 300) -> None:
        self._key = key
        self._agency = agency
        self._random = random
        self._lifetime = lifetime_s
        self._seen: dict[str, dict[str, int]] = {}
        self._known: dict[bytes, Session] = {}

    def issue(self, form: bytes, registry: Registry, now: float) -> Token:
        """Answer a token request (application/x-www-form-urlencoded).

        Raises:
            AccessError: request_invalid, token_invalid, token_expired, audience_mismatch, agency_unknown, key_unknown,
                key_revoked.
            PolicyError: quota_exceeded, too many assertions at once.
        """
        agency, kid = self._asserted(_assertion_in(form), registry, now)
        payload = {
            "iss": self._agency,
            "sub": agency,
            "aud": audience_of(registry.domain),
            "iat": int(now),
            "exp": int(now) + self._lifetime,
            "jti": b64url(self._random(16)),
            "key": kid,
        }
        return Token(sign_jws("at+jwt", payload, self._key).decode("ascii"), self._lifetime)

    def _asserted(self, text: str, registry: Registry, now: float) -> tuple[str, str]:
        jwt = _Jwt.read(text, "JWT")
        claims = jwt.claims
        agency, sub, aud, jti = (claims.get(name) for name in ("iss", "sub", "aud", "jti"))
        iat, exp = claims.get("iat"), claims.get("exp")
        if not isinstance(agency, str) or not is_agency(agency) or sub != agency:
            raise AccessError("token_invalid", "assertion.iss")
        if not isinstance(jti, str) or not 8 <= len(jti) <= 128:
            raise AccessError("token_invalid", "assertion.jti")
        if type(iat) is not int or type(exp) is not int or not 0 < exp - iat <= MAX_LIFETIME_S:
            raise AccessError("token_invalid", "assertion.exp", expected=MAX_LIFETIME_S)
        key = _signing_key(registry, agency, jwt.kid, int(now))
        if not key.verifies(jwt.signed, jwt.signature):
            raise AccessError("token_invalid", "assertion.signature")
        # After the signature, so that only the key's holder learns what is wrong with times and audience.
        if aud not in (audience_of(registry.domain), [audience_of(registry.domain)]):
            raise AccessError("audience_mismatch", "assertion.aud", expected=audience_of(registry.domain))
        if exp + TOLERANCE_S <= now:
            raise AccessError("token_expired", "assertion.exp")
        if iat - TOLERANCE_S > now:
            raise AccessError("token_invalid", "assertion.iat")
        self._use_once(agency, jti, exp + TOLERANCE_S, int(now))
        return agency, jwt.kid

    def _use_once(self, agency: str, jti: str, until: int, now: int) -> None:
        seen = self._seen.setdefault(agency, {})
        if seen.get(jti, 0) > now:
            raise AccessError("token_invalid", "assertion.jti")
        if len(seen) >= _REMEMBERED_PER_AGENCY:
            seen = self._seen[agency] = {name: end for name, end in seen.items() if end > now}
            if len(seen) >= _REMEMBERED_PER_AGENCY:
                raise PolicyError("quota_exceeded", "quota.tokens")
        seen[jti] = until

    def check(self, authorization: bytes | None, registry: Registry, now: float) -> Session:
        """The session behind an Authorization header.

        Raises:
            AccessError: token_invalid, token_expired, audience_mismatch, agency_unknown, key_unknown, key_revoked.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise AccessError("token_invalid", "Authorization")
        session = self._known.get(authorization)
        if session is None:
            session = self._verified(authorization[7:].strip(), registry, int(now))
            if len(self._known) >= _REMEMBERED_TOKENS:
                self._known = {text: kept for text, kept in self._known.items() if kept.expires > now}
            self._known[authorization] = session
        if session.expires <= now:
            self._known.pop(authorization, None)
            raise AccessError("token_expired", "Authorization")
        _signing_key(registry, session.agency, session.kid, int(now))
        return session

    def _verified(self, text: bytes, registry: Registry, now: int) -> Session:
        jwt = _Jwt.read(text.decode("ascii", "replace"), "at+jwt", "Authorization")
        claims = jwt.claims
        if claims.get("iss") != self._agency or not isinstance(claims.get("sub"), str):
            raise AccessError("token_invalid", "Authorization")
        # Through the registry and not our own key only: another gateway of this domain may have issued it.
        key = self._key.public if jwt.kid == self._key.kid else _signing_key(registry, self._agency, jwt.kid, now)
        if not key.verifies(jwt.signed, jwt.signature):
            raise AccessError("token_invalid", "Authorization")
        if claims.get("aud") != audience_of(registry.domain):
            raise AccessError("audience_mismatch", "Authorization")
        if type(claims.get("exp")) is not int or not isinstance(claims.get("key"), str):
            raise AccessError("token_invalid", "Authorization")
        return Session(claims["sub"], claims["key"], claims["exp"])


def _signing_key(registry: Registry, agency: str, kid: str, now: int) -> VerifyKey:
    """Of a member, or of an operator abroad, whose bridge it is: what such a one may ask for is the routes' to say."""
    try:
        abroad = operator_of(registry, agency)
        if abroad is None:
            return registry.new_signing_key(agency, kid, now)
        known = replace(empty_registry(agency.partition("/")[0], now), agencies={agency: abroad})
        return known.new_signing_key(agency, kid, now)
    except RegistryError as exc:
        code = exc.code
    except RecordError:
        code = "key_unknown"  # the key is another agency's
    raise AccessError(code)


def _assertion_in(form: bytes) -> str:
    try:
        pairs = parse_qsl(form.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=16)
    except ValueError:
        pairs = []
    fields = dict(pairs)
    if not pairs or len(fields) != len(pairs):
        raise AccessError("request_invalid", "form")
    kind = fields.get("grant_type")
    if kind == CLIENT_CREDENTIALS:
        if fields.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in fields:
            raise AccessError("request_invalid", "form.client_assertion")
        return fields["client_assertion"]
    if kind == JWT_BEARER and "assertion" in fields:
        return fields["assertion"]
    raise AccessError("request_invalid", "form.grant_type")


@dataclass(frozen=True, slots=True)
class _Jwt:
    kid: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @classmethod
    def read(cls, text: str, typ: str, where: str = "assertion") -> _Jwt:
        """Strict: ES256 only, the header exactly alg, kid and typ. Raises AccessError `token_invalid`."""
        if len(text) > MAX_TOKEN_BYTES or text.count(".") != 2:
            raise AccessError("token_invalid", where)
        header, payload, signature = text.split(".")
        try:
            head = ijson.loads(unb64url(header), max_bytes=512, max_depth=1)
            claims = ijson.loads(unb64url(payload), max_bytes=MAX_TOKEN_BYTES, max_depth=2)
            raw_signature = unb64url(signature)
        except (ValueError, ijson.IJsonError):
            raise AccessError("token_invalid", where) from None
        if not isinstance(head, dict) or not isinstance(claims, dict) or head.keys() != {"alg", "kid", "typ"}:
            raise AccessError("token_invalid", where)
        kid, given = head["kid"], head["typ"]
        if head["alg"] != "ES256" or not isinstance(kid, str) or not isinstance(given, str):
            raise AccessError("token_invalid", where)
        if given.lower() != typ.lower():
            raise AccessError("token_invalid", where)
        return cls(kid, claims, f"{header}.{payload}".encode("ascii"), raw_signature)
