# SPDX-License-Identifier: Apache-2.0
"""A gateway of the invented domain in this process, its clock, its callers, and everything that it ever said."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import httpx2
import orjson

from gateway.app import Gateway, build, json_line
from gateway.settings import load_settings
from schemas.envelope import Acts, record_value
from schemas.keys import VerifyKey
from schemas.sealing import make_grant
from tests.domain import NOW, Domain, Signed, seeded, sign_registry
from tests.topics.http_harness import write_gateway
from topics.http_log import HttpLog
from topics.log import Log, grants_topic
from topics.promise import Line, verify_promise

PLANTED = "Nzeyimana-Bukuru"
"""An invented name; wherever a caller plants it, it must come out nowhere."""


@dataclass
class Clock:
    at: float = float(NOW)

    def __call__(self) -> float:
        return self.at


class Ticks(Protocol):
    """A clock that a test moves."""

    at: float

    def __call__(self) -> float: ...


@dataclass
class Caller:
    """One agency's view by bare HTTP."""

    client: httpx2.AsyncClient
    token: str
    agency: str
    world: World

    async def send(self, *signed: Signed, language: str = "en", **headers: str) -> list[dict[str, Any]]:
        """NDJSON; the answer lines, the promise's included."""
        return await self.send_lines([line_of(one) for one in signed], language=language, **headers)

    async def send_lines(self, lines: Sequence[bytes], language: str = "en", **headers: str) -> list[dict[str, Any]]:
        response = await self.post(b"\n".join(lines), "application/x-ndjson", language, **headers)
        assert response.status_code == 200, response.text
        return [orjson.loads(line) for line in response.content.splitlines()]

    async def single(self, line: bytes, language: str = "en") -> httpx2.Response:
        return await self.post(line, "application/json", language)

    async def post(self, body: bytes, kind: str, language: str = "en", **headers: str) -> httpx2.Response:
        fields = {"content-type": kind, "accept-language": language, "authorization": f"Bearer {self.token}", **headers}
        return await self.client.post("/v1/records", content=body, headers=fields)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers={"authorization": f"Bearer {self.token}", **headers})

    async def mailbox(self, **query: str) -> list[dict[str, Any]]:
        response = await self.client.get("/v1/mailbox", params=query, headers={"authorization": f"Bearer {self.token}"})
        assert response.status_code == 200, response.text
        return [orjson.loads(line) for line in response.content.splitlines()]


@dataclass
class World:
    directory: Path
    domain: Domain = field(default_factory=lambda: Domain("gateway", extra_issuers=3))
    clock: Ticks = field(default_factory=Clock)
    said: io.BytesIO = field(default_factory=io.BytesIO)
    settings: dict[str, Any] = field(default_factory=dict)
    _tries: Any = field(default_factory=itertools.count)

    @property
    def gateway_key(self) -> VerifyKey:
        return self.domain.operator.sig.public

    def write(self) -> Path:
        return write_gateway(self.directory, self.domain, **self.settings)

    def registry_changed(self, policy: bytes | None = None) -> None:
        """The file that the gateway reads is now the domain's registry, with this policy signed; a new mtime for
        certain."""
        path = self.directory / "registry.json"
        if policy is None:
            path.write_bytes(self.domain.registry_file)
        else:
            path.write_bytes(sign_registry(self.domain.registry, self.domain.root, self.domain.agreements, policy))
        stamp = path.stat().st_mtime_ns + 1_000_000_000
        os.utime(path, ns=(stamp, stamp))
        self.clock.at += 1.5

    @contextlib.asynccontextmanager
    async def opened(self, over: Callable[[Log], Log] = lambda log: log, **arguments: Any) -> AsyncIterator[Gateway]:
        """A running gateway over the files in the directory; `over` as `gateway.app.build` has it."""
        # Its records are checked in this process unless a test asks for others.
        settings = load_settings(self.write(), arguments={"checkers": 0, **arguments}, environment={})
        gateway = build(
            settings,
            now=self.clock,
            random=seeded(f"gateway/{next(self._tries)}"),
            logger=json_line(self.said),
            over=over,
        )
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.stop()

    @contextlib.asynccontextmanager
    async def caller(self, gateway: Gateway, agency: str = "bi/iom") -> AsyncIterator[Caller]:
        log = self.log(gateway, agency)
        token = await log.access_token()
        await log.close()
        transport = httpx2.ASGITransport(app=gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False) as client:
            yield Caller(client, token, agency, self)

    def log(
        self, gateway: Gateway, agency: str = "bi/iom", now: Callable[[], float] | None = None, domain: str = ""
    ) -> HttpLog:
        return HttpLog(
            "http://gateway",
            agency,
            self.domain.members[agency].sig,
            domain=domain or self.domain.name,
            now=now or self.clock,
            random=seeded(f"caller/{next(self._tries)}"),
            transport=httpx2.ASGITransport(app=gateway),
            gateway_key=self.gateway_key,
        )

    def check_promise(self, told: dict[str, Any], promise: str) -> None:
        """The line's evidence holds."""
        line = Line(told["evt"], told["l1_sha256"], told["topic"], told["offset"])
        verify_promise(line, told["index"], told["path"], promise, self.gateway_key, "bi")

    def nothing_leaked(self, gateway: Gateway, *texts: str | bytes) -> None:
        """The planted name is in nothing that the gateway said, counted or kept."""
        name = PLANTED.encode()
        said = [self.said.getvalue(), gateway.door.metrics.text()]
        said += [text.encode() if isinstance(text, str) else text for text in texts]
        said += [path.read_bytes() for path in self.directory.iterdir() if path.is_file()]
        for text in said:
            assert name not in text
            assert name.lower() not in text.lower()


def line_of(signed: Signed, grants: Sequence[bytes] | None = None) -> bytes:
    chosen = signed.grants if grants is None else grants
    return orjson.dumps({"record": signed.value.decode("ascii"), "grants": [orjson.loads(g) for g in chosen]})


def grant_for(world: World, signed: Signed, rcpt: str) -> bytes:
    """A grant of `signed`'s keys to another recipient: disclosure, rotation."""
    return make_grant(signed.manifest, signed.keys, rcpt, world.domain.members[rcpt].seal.public)


def erasing(world: World, target: Signed, iss: str, to: str) -> Signed:
    return world.domain.record(iss, to, "receipt", "control", acts=Acts(erase=(target.manifest.ident,)))


async def count_of(gateway: Gateway, topic: str) -> int:
    return (await gateway.door.log.ends(topic)).next


async def grants_kept(gateway: Gateway, signed: Signed) -> int:
    topic = grants_topic(signed.manifest.to)
    return len(await gateway.door.log.get_grants(topic, list(signed.grant_puts())))


def forged(signed: Signed) -> Signed:
    """The same record with a signature that is none."""
    line1, _, body = signed.value.partition(b"\n")
    return replace(signed, value=record_value(line1.rpartition(b".")[0] + b"." + b"A" * 86, body))
