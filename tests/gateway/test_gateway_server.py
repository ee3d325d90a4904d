# SPDX-License-Identifier: Apache-2.0
"""The real server in a process of its own: waiting reads, chunks, slow and vanishing clients, stopping."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.domain import NOW, Domain
from tests.gateway.gateway_world import PLANTED, line_of
from tests.topics.http_harness import GatewayProcess, connect, write_gateway
from topics.log import Appended, grants_topic

SOON_S = 20.0


@dataclass
class Served:
    domain: Domain
    directory: Path
    process: GatewayProcess
    shift: float

    @property
    def host(self) -> str:
        return self.process.address.removeprefix("http://").rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.process.address.rpartition(":")[2])

    def said(self) -> bytes:
        return (self.directory / "gateway.log").read_bytes()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    domain = Domain("served", extra_issuers=2)
    shift = NOW - time.time()
    settings = write_gateway(
        tmp_path, domain, header_seconds=1.0, body_seconds=1.0, waiting_reads=2, wait_max_seconds=30.0, stop_seconds=5
    )
    process = GatewayProcess(settings, shift)
    yield Served(domain, tmp_path, process, shift)
    process.stop()


async def append_one(served: Served, flow: str = "referral") -> None:
    log = connect(served.domain, "bi/iom", served.process.address, served.shift)
    one = served.domain.record(flow=flow, kind="request" if flow == "referral" else "control")
    await log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
    [answer] = await log.append([one.entry])
    assert isinstance(answer, Appended), answer
    await log.close()


@pytest.mark.parametrize("flow", ["referral", "receipt"])
def test_a_waiting_read_wakes_for_any_flow(flow: str, served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/k7t4", served.process.address, served.shift)
        waiting = asyncio.ensure_future(log.poll({"bi.referral.k7t4": -1, "bi.receipt.k7t4": -1}, wait_s=30))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await append_one(served, flow)
        [stored] = await asyncio.wait_for(waiting, SOON_S)
        assert stored.topic == f"bi.{flow}.k7t4"
        await log.close()

    asyncio.run(run())


def test_waiting_reads_are_limited_and_a_client_that_goes_gives_its_place_back(served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/k7t4", served.process.address, served.shift)
        token = await log.access_token()
        await log.close()
        fields = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=served.process.address, trust_env=False, timeout=120) as client:

            async def waiting_reads() -> bytes:
                lines = (await client.get("/metrics")).content.splitlines()
                return next(line for line in lines if line.startswith(b"umuhuza_gateway_waiting_reads "))

            reads = [asyncio.ensure_future(client.get("/v1/mailbox?wait=20", headers=fields)) for _ in range(2)]
            until = time.monotonic() + SOON_S
            while await waiting_reads() != b"umuhuza_gateway_waiting_reads 2.0":
                assert time.monotonic() < until
            response = await client.get("/v1/mailbox?wait=20", headers=fields)
            assert (response.status_code, response.json()["code"]) == (429, "quota_exceeded")
            assert (await client.get("/v1/mailbox", headers=fields)).status_code == 200  # not waiting is no wait
            for read in reads:
                read.cancel()
            await asyncio.wait(reads)
            until = time.monotonic() + SOON_S
            while await waiting_reads() != b"umuhuza_gateway_waiting_reads 0.0":
                assert time.monotonic() < until

    asyncio.run(run())


def test_it_stops_at_once_although_a_read_waits(served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/k7t4", served.process.address, served.shift)
        await log.ends("bi.referral.k7t4")  # has its token and its connection
        waiting = asyncio.ensure_future(log.poll({"bi.referral.k7t4": -1}, wait_s=30))
        await asyncio.sleep(0.3)
        before = time.monotonic()
        await asyncio.to_thread(served.process.stop)
        assert time.monotonic() - before < SOON_S
        assert await asyncio.wait_for(waiting, SOON_S) == []
        await log.close()

    asyncio.run(run())


def test_what_was_under_way_is_finished_when_it_stops(served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/iom", served.process.address, served.shift)
        await log.sent_heads()
        records = [served.domain.record() for _ in range(200)]
        for one in records:
            await log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
        sending = asyncio.ensure_future(log.append([one.entry for one in records]))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(served.process.stop)
        answers = await asyncio.wait_for(sending, SOON_S)
        assert [answer.offset for answer in answers if isinstance(answer, Appended)] == list(range(200))
        await log.close()

    asyncio.run(run())


def test_long_answers_come_in_chunks(served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/iom", served.process.address, served.shift)
        records = [served.domain.record() for _ in range(60)]
        for one in records:
            await log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
        await log.append([one.entry for one in records])
        await log.close()
        log = connect(served.domain, "bi/k7t4", served.process.address, served.shift)
        fields = {"authorization": f"Bearer {await log.access_token()}", "accept-encoding": "identity"}
        await log.close()
        async with (
            httpx2.AsyncClient(base_url=served.process.address, trust_env=False) as client,
            client.stream("GET", "/v1/mailbox", headers=fields) as response,
        ):
            assert response.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in response.headers
            body = b"".join([chunk async for chunk in response.aiter_raw()])
        assert [orjson.loads(line)["offset"] for line in body.splitlines()] == list(range(60))

    asyncio.run(run())


def test_a_client_that_goes_in_the_middle_of_its_batch_leaves_nothing(served: Served) -> None:
    async def run() -> None:
        log = connect(served.domain, "bi/iom", served.process.address, served.shift)
        token = await log.access_token()
        body = b"\n".join(line_of(served.domain.record()) for _ in range(10))
        head = (
            f"POST /v1/records HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/x-ndjson\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        _, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(head + body[: len(body) // 2])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await log.sent_heads() == {}
        # Gone after the last byte and before the answer: taken, and told so when sent again.
        _, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(head + body)
        await writer.drain()
        until = time.monotonic() + SOON_S
        while (await log.sent_heads()).get("bi.referral.k7t4") is None:
            assert time.monotonic() < until
        writer.transport.abort()
        async with httpx2.AsyncClient(base_url=served.process.address, trust_env=False) as client:
            response = await client.post(
                "/v1/records",
                content=body,
                headers={"authorization": f"Bearer {token}", "content-type": "application/x-ndjson"},
            )
        lines = [orjson.loads(line) for line in response.content.splitlines()]
        assert [line["offset"] for line in lines[:-1]] == list(range(10))
        await log.close()

    asyncio.run(run())


async def answered(served: Served, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), SOON_S)
    writer.close()
    await writer.wait_closed()
    return answer


def test_slow_and_endless_heads_and_bodies_are_cut_off(served: Served) -> None:
    async def run() -> None:
        assert await answered(served, b"") == b""  # says nothing
        assert await answered(served, b"GET /healthz HTTP/1.1\r\nhost:") == b""
        long = b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n"
        assert (await answered(served, long)).startswith(b"HTTP/1.1 400")
        log = connect(served.domain, "bi/iom", served.process.address, served.shift)
        token = (await log.access_token()).encode()
        await log.close()
        slow = (
            b"POST /v1/records HTTP/1.1\r\nhost: g\r\nconnection: close\r\nauthorization: Bearer " + token + b"\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        answer = await answered(served, slow)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"request_invalid" in answer

    asyncio.run(run())


def test_the_request_log_holds_templates_and_counts_and_no_value(served: Served) -> None:
    async def run() -> None:
        await append_one(served)
        async with httpx2.AsyncClient(base_url=served.process.address, trust_env=False) as client:
            for path in (f"/v1/{PLANTED}", f"/v1/mailbox?{PLANTED}=1", f"/v1/sent?topic={PLANTED}"):
                await client.get(path, headers={"authorization": f"Bearer {PLANTED}", "x-name": PLANTED})
            await client.post("/v1/token", content=PLANTED.encode())

    asyncio.run(run())
    served.process.stop()
    lines = [json.loads(line) for line in served.said().splitlines()]
    [published] = [line for line in lines if line.get("route") == "/v1/records"]
    assert published["agency"] == "bi/iom"
    assert (published["lines"], published["accepted"], published["status"]) == (1, 1, 200)
    assert published["ms"] > 0
    assert PLANTED.encode() not in served.said()
    assert {line["route"] for line in lines if "route" in line} == {
        "/v1/token",
        "/v1/records",
        "/v1/mailbox",
        "/v1/sent",
        "*",
    }


def test_a_killed_gateway_leaves_no_process_behind(served: Served) -> None:
    pid = served.process.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1  # as its settings say
    served.process.stop(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(_runs(int(child)) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_address_is_told_when_it_answers_and_a_kill_loses_nothing(served: Served) -> None:
    async def first() -> list[int]:
        log = connect(served.domain, "bi/iom", served.process.address, served.shift)
        offsets = []
        for _ in range(5):
            one = served.domain.record()
            await log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
            [answer] = await log.append([one.entry])
            assert isinstance(answer, Appended)
            offsets.append(answer.offset)
        served.process.stop(signal.SIGKILL)
        await log.close()
        return offsets

    assert asyncio.run(first()) == [0, 1, 2, 3, 4]
    again = GatewayProcess(served.directory / "gateway.toml", served.shift)

    async def second() -> None:
        log = connect(served.domain, "bi/k7t4", again.address, served.shift)
        assert [one.offset for one in await log.read("bi.referral.k7t4", -1)] == [0, 1, 2, 3, 4]
        await log.close()

    asyncio.run(second())
    again.stop()


def test_what_is_refused_unread_is_not_kept(served: Served) -> None:
    """A stranger's bodies, refused for his token, would fill the memory if anything held them until a collection."""

    def resident() -> int:
        return int(Path(f"/proc/{served.process.process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096

    size = 60_000
    request = (
        b"POST /v1/records HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nonsense\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    ) + b"x" * size
    with (
        socket.create_connection((served.host, served.port), timeout=SOON_S) as client,
        client.makefile("rb") as answers,
    ):

        def refused(count: int) -> None:
            for _ in range(count):
                client.sendall(request)
                assert answers.readline().split()[1] == b"401"
                length = 0
                while (line := answers.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                answers.read(length)

        refused(50)
        before = resident()
        refused(1_500)
        assert resident() - before < 30 << 20
