# SPDX-License-Identifier: Apache-2.0
"""Somebody who speaks HTTP to a gateway with an agency's keys and their own ideas of what to send."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2
import orjson

from schemas.envelope import (
    Manifest,
    chain_hash,
    mailbox_topic,
    new_evt,
    new_thread,
    record_value,
    sign_jws,
    sign_manifest,
)
from schemas.keys import SigningKey, b64url
from schemas.sealing import make_grant, seal_parts
from tests.e2e.domain_on_disk import DomainOnDisk


@dataclass(frozen=True)
class Made:
    line: bytes
    """Of a publish request."""
    evt: str
    hash: str
    """What the next record's `prev` is."""


class Caller:
    def __init__(self, domain: DomainOnDisk, agency: str) -> None:
        self.domain = domain
        self.agency = agency
        self.keys = domain.keys(agency)
        self._http = httpx2.Client(base_url=domain.address, trust_env=False, timeout=120)
        self._token = ""

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask_token(self, key: SigningKey | None = None, **claims: Any) -> httpx2.Response:
        """A token request; `claims` replace those of an honest assertion."""
        now = int(time.time())
        honest = {
            "iss": self.agency,
            "sub": self.agency,
            "aud": "urn:umuhuza:bi:gateway",
            "jti": b64url(os.urandom(16)),
            "iat": now,
            "exp": now + 60,
        }
        assertion = sign_jws("JWT", {**honest, **claims}, key or self.keys.sig).decode("ascii")
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        return self._http.post("/v1/token", data=form, headers={"accept-language": "fr"})

    def token(self) -> str:
        if not self._token:
            answer = self.ask_token()
            assert answer.status_code == 200, answer.text
            self._token = str(answer.json()["access_token"])
        return self._token

    def record(self, to: str, seq: int, prev: str = "", *, content: bytes = b"{}", evt: str | None = None) -> Made:
        """A signed and sealed record of a chain that is the caller's own affair."""
        now = int(time.time())
        evt = evt or new_evt(now * 1000, os.urandom)
        sealed = seal_parts(f"{self.agency}/{evt}", "request", {"identity": b"", "content": content}, os.urandom)
        manifest = Manifest(
            evt=evt,
            iss=self.agency,
            to=to,
            topic=mailbox_topic("referral", to),
            kind="request",
            thread=new_thread(os.urandom),
            seq=seq,
            prev=prev,
            iat=now,
            reg=self.domain.registry.version,
            parts=sealed.parts,
        )
        line1 = sign_manifest(manifest, self.keys.sig)
        grant = make_grant(manifest, sealed.keys, to, self.domain.registry.seal_keys(to, now)[0])
        value = record_value(line1, sealed.body).decode("ascii")
        line = orjson.dumps({"record": value, "grants": [orjson.loads(grant)]})
        return Made(line, evt, chain_hash(line1))

    def post(self, *lines: bytes, token: str | None = None, **headers: str) -> httpx2.Response:
        """Publish lines; header names with `_` for `-`."""
        return self._http.post(
            "/v1/records",
            content=b"\n".join(lines),
            headers={
                "authorization": f"Bearer {self.token() if token is None else token}",
                "content-type": "application/x-ndjson",
                "accept-language": "fr",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )

    def publish(self, *lines: bytes) -> list[dict[str, Any]]:
        """The answer's lines, without the promise."""
        answer = self.post(*lines)
        assert answer.status_code == 200, answer.text
        told = [orjson.loads(line) for line in answer.content.splitlines()]
        assert "promise" in told[-1]
        return told[:-1]

    def heads(self) -> dict[str, Any]:
        """The caller's chains as the gateway knows them."""
        answer = self._http.get("/v1/sent", headers={"authorization": f"Bearer {self.token()}"})
        assert answer.status_code == 200
        found = answer.json()["heads"]
        assert isinstance(found, dict)
        return found
