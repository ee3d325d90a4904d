# SPDX-License-Identifier: Apache-2.0
"""Print an assertion for `POST /v1/token` (RFC 7523), made with an agency's `keys.json`. Needs `cryptography` only.

    python docs/examples/assertion.py keys.json

In another language: any JOSE library, ES256, exactly these three header members and these six claims. The assertion
counts once and for 60 seconds; the token that it is exchanged for counts for five minutes.
"""

import base64
import hashlib
import json
import secrets
import sys
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def assertion(keys: str, now: int) -> str:
    """A compact JWS."""
    held = json.loads(keys)
    scalar = base64.urlsafe_b64decode(held["sig"] + "=")
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    agency = held["agency"]
    header = {"alg": "ES256", "kid": b64url(hashlib.sha256(public).digest())[:22], "typ": "JWT"}
    claims = {
        "iss": agency,
        "sub": agency,
        "aud": f"urn:umuhuza:{agency.partition('/')[0]}:gateway",
        "jti": b64url(secrets.token_bytes(16)),
        "iat": now,
        "exp": now + 60,
    }
    signed = ".".join(b64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as file:
        sys.stdout.write(assertion(file.read(), int(time.time())))
