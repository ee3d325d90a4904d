# SPDX-License-Identifier: Apache-2.0
"""From promise to receipt: sent over HTTP, logged, cosigned at home and abroad, and proved with public keys alone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from adapters.home_ledger import NO_LEDGER
from schemas.envelope import Acts
from schemas.errors import AccessError, LogError
from schemas.keys import unb64url
from schemas.trust_policy import TrustPolicy, read_policy
from tests.domain import NOW
from tests.gateway.gateway_world import Caller, World
from tests.topics import ledger_world
from tests.topics.ledger_world import ORIGIN, SIGNERS
from tests.trees import witness_signers
from topics.cosigning import POLICY_FILE, Cosignatures
from topics.ledger_entries import LedgerEntry
from topics.promise import Line
from topics.receipt_maker import ReceiptMaker, ReceiptOf
from topics.receipts import Receipt, check_receipt, kept
from topics.witness import Witness, WitnessedLogs
from umuhuza.ledger_witnesses import LocalLedger


class Witnesses(httpx2.BaseTransport):
    """Both witnesses, reached without a network: `http://bi`, `http://tn`."""

    def __init__(self, folder: Path) -> None:
        (folder / "logs.policy").write_text("".join(f"log {one.public.vkey}\n" for one in SIGNERS) + "quorum none\n")
        self.at: dict[str, Witness] = {}
        for name in ("bi", "tn"):
            Witness.create(folder / f"{name}.db", witness_signers(name))
            logs = WitnessedLogs(folder / "logs.policy")
            self.at[name] = Witness.open(folder / f"{name}.db", witness_signers(name), logs)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.at[request.url.host].add_checkpoint(request.read(), NOW + 60)
        return httpx2.Response(200, content=getattr(answer, "lines", b""))


def policy_text(*names: str) -> str:
    lines = [f"log {one.public.vkey}\n" for one in SIGNERS]
    for name in names:
        [ed, pq] = witness_signers(name)
        lines.append(f"witness {name}-ed {ed.public.vkey} http://{name}\n")
        lines.append(f"witness {name}-pq {pq.public.vkey} http://{name}\n")
    return "".join([*lines, f"group all all {' '.join(f'{name}-ed {name}-pq' for name in names)}\nquorum all\n"])


def checked(told: dict[str, Any], policy: TrustPolicy) -> Receipt:
    return check_receipt(told["receipt"].encode("utf-8"), policy, ORIGIN)


async def receipts(caller: Caller, *hashes: str) -> list[dict[str, Any]]:
    answer = await caller.get("/v1/receipts?" + "&".join(f"l1={one}" for one in hashes))
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


def test_a_receipt_proves_more_with_every_witness(tmp_path: Path) -> None:
    world = World(tmp_path)
    ledger = ledger_world.World(tmp_path, world.domain)
    policy = read_policy(policy_text("bi", "tn").encode())
    unknown = "A" * 43

    async def run() -> None:
        async with world.opened(ledger=tmp_path) as gateway, world.caller(gateway) as caller:
            sent = await caller.send(*[world.domain.record() for _ in range(3)])
            lines = [Line(one["evt"], one["l1_sha256"], one["topic"], one["offset"]) for one in sent[:3]]
            sequencer = ledger.sequencer()
            await ledger.sequenced(sequencer)
            assert [one["receipt"] for one in await receipts(caller, lines[0].l1_sha256)] == [None]
            ledger.checkpoints().publish(sequencer.view)

            told = await receipts(caller, *(one.l1_sha256 for one in lines), unknown)
            assert [one["l1"] for one in told] == [*(one.l1_sha256 for one in lines), unknown]
            assert told[3]["receipt"] is None
            for line, one in zip(lines, told, strict=False):
                read = checked(one, policy)
                assert (read.level, read.endorsed, read.entry.kind) == ("logged", False, "event")
                assert kept(line, read)

            steps = (("bi", "own", False), ("bi tn", "foreign", True))
            network = Witnesses(tmp_path)
            for names, level, endorsed in steps:
                (tmp_path / POLICY_FILE).write_text(policy_text(*names.split()))
                with httpx2.Client(transport=network) as client:
                    Cosignatures(tmp_path, ORIGIN).ask(LocalLedger(tmp_path), client, NOW + 60)
                [one] = await receipts(caller, lines[1].l1_sha256)
                read = checked(one, policy)
                assert (read.level, read.endorsed) == (level, endorsed)
                assert kept(lines[1], read)
                with pytest.raises(LogError):
                    check_receipt(one["receipt"].replace("umuhuza-entry", "x").encode()[:-9], policy, ORIGIN)
            log = world.log(gateway)
            found, none = await log.receipts([lines[2].l1_sha256, unknown])
            await log.close()
            assert found is not None
            assert none is None
            assert kept(lines[2], check_receipt(found, policy, ORIGIN))
            acts = Acts(erase=(f"bi/iom/{lines[0].evt}",))
            command = world.domain.record("bi/iom", "bi/k7t4", "rights", "control", acts=acts)
            [commanded, *_] = await caller.send(command)
            await ledger.sequenced(sequencer)
            entry = LedgerEntry(
                "erased", commanded["topic"], commanded["offset"], l1_sha256=unb64url(commanded["l1_sha256"])
            )
            log = world.log(gateway)
            assert await log.erased([commanded["l1_sha256"]]) == [None], "commanded, not called done"
            assert await sequencer.append([entry])
            ledger.checkpoints().publish(sequencer.view)
            [done, other] = await log.erased([commanded["l1_sha256"], lines[2].l1_sha256])
            await log.close()
            assert done is not None
            assert other is None
            assert check_receipt(done, policy, ORIGIN).entry == entry
            wrong = await caller.get("/v1/receipts?l1=abc")
            assert (wrong.status_code, wrong.json()["path"]) == (400, "query.l1")
            sequencer.view.close()
            await ledger.log.close()

    asyncio.run(run())


def test_nobody_waits_while_receipts_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    ledger = ledger_world.World(tmp_path, world.domain)
    begun, answered, waited = threading.Event(), threading.Event(), list[bool]()
    make = ReceiptMaker.receipt

    def slow(maker: ReceiptMaker, l1_sha256: bytes, of: ReceiptOf = "record") -> bytes | None:
        begun.set()
        waited.append(answered.wait(60))
        return make(maker, l1_sha256, of)

    async def run() -> None:
        async with world.opened(ledger=tmp_path) as gateway, world.caller(gateway) as caller:
            [line, *_] = await caller.send(world.domain.record())
            sequencer = ledger.sequencer()
            await ledger.sequenced(sequencer)
            ledger.checkpoints().publish(sequencer.view)
            monkeypatch.setattr(ReceiptMaker, "receipt", slow)
            asked = asyncio.create_task(receipts(caller, line["l1_sha256"]))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            assert (await caller.get("/healthz")).status_code == 200
            answered.set()
            [one] = await asked
            assert one["receipt"] is not None
            assert waited == [True]
            sequencer.view.close()
            await ledger.log.close()

    asyncio.run(run())


def test_a_gateway_without_a_ledger_has_no_receipts_and_a_stranger_gets_none(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def run() -> None:
        async with world.opened() as gateway, world.caller(gateway) as caller:
            assert (await caller.get(f"/v1/receipts?l1={'A' * 43}")).status_code == 404
            log = world.log(gateway)
            with pytest.raises(AccessError) as caught:
                await log.receipts(["A" * 43])
            await log.close()
            assert (caught.value.code, caught.value.path) == NO_LEDGER
            assert (await caller.client.get(f"/v1/receipts?l1={'A' * 43}")).status_code == 401

    asyncio.run(run())
