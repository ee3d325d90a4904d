# SPDX-License-Identifier: Apache-2.0
"""What a gateway serves of its domain's ledger: checkpoint and hashes to everybody, entries to auditors, and to a
sender what became of its own records."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson

from gateway.app import Gateway
from schemas.keys import b64url, signature_twin, unb64url
from schemas.notes import verify_checkpoint
from tests.gateway.gateway_world import World, line_of
from tests.topics.ledger_world import ORIGIN, SIGNERS, Registries
from topics.ledger import Sequencer
from topics.ledger_checkpoints import Checkpoints
from topics.ledger_entries import decode_entry
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.proofs import leaf_hash, tree_root
from topics.sqlite_log import SqliteLog
from topics.tiles import TileId, node_of_tiles, unpack_entries


async def sequenced(world: World, gateway: Gateway) -> int:
    """Run the ledger beside the gateway until it has everything; the tree's size."""
    folder = world.directory / "ledger"
    folder.mkdir(exist_ok=True)
    store = SqliteLedgerStore.open(folder / "ledger.db", random_id=lambda: "store")
    view = LedgerView.open(folder / "view.db", origin=ORIGIN, store_id=store.store_id)
    log = gateway.door.log
    sequencer = Sequencer(log, store, view, Registries(world.domain), now_ms=lambda: int(world.clock() * 1000))
    await sequencer.start()
    while await sequencer.step():
        pass
    Checkpoints(folder, SIGNERS, world.clock).publish(view)
    size = view.size
    view.close()
    store.close()
    return size


async def bare(gateway: Gateway, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=gateway)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False) as client:
        return await client.get(path)


def test_whoever_asks_gets_a_checkpoint_and_the_hashes_under_it(tmp_path: Path) -> None:
    world = World(tmp_path, settings={"ledger": "ledger"})

    async def work() -> None:
        async with world.opened() as gateway, world.caller(gateway) as iom:
            assert (await bare(gateway, "/v1/log/checkpoint")).status_code == 503, "it has never run"
            for _ in range(3):
                await iom.send(*[world.domain.record() for _ in range(100)])
                await sequenced(world, gateway)
            signed = verify_checkpoint(
                (await bare(gateway, "/v1/log/checkpoint")).content, [one.public for one in SIGNERS]
            ).checkpoint
            assert signed.size == 301
            served = {path: await bare(gateway, f"/v1/log/{path}") for path in ("tile/0/000", "tile/0/001.p/45")}
            assert [len(one.content) for one in served.values()] == [8192, 45 * 32]
            above = await bare(gateway, "/v1/log/tile/1/000.p/1")
            hashes = served | {"tile/1/000.p/1": above}

            def fetch(tile: TileId) -> bytes:
                return hashes[tile.path].content

            assert tree_root(node_of_tiles(signed.size, fetch), signed.size) == signed.root
            narrower = await bare(gateway, "/v1/log/tile/0/001.p/7")
            assert narrower.content == served["tile/0/001.p/45"].content[: 7 * 32]
            for missing in ("tile/0/001", "tile/0/001.p/46", "tile/2/000.p/1", "tile/0/1", "tile/0/000.p/0", "x"):
                assert (await bare(gateway, f"/v1/log/{missing}")).status_code == 404, missing

    asyncio.run(work())


def test_entries_are_for_auditors_and_hold_nothing_of_a_record(tmp_path: Path) -> None:
    world = World(tmp_path, settings={"ledger": "ledger"})

    async def work() -> None:
        async with world.opened() as gateway, world.caller(gateway) as iom:
            record = world.domain.record()
            await iom.send(record)
            size = await sequenced(world, gateway)
            path = f"/v1/log/tile/entries/000.p/{size}"
            assert (await bare(gateway, path)).status_code == 401
            refused = await iom.get(path)
            assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
            async with world.caller(gateway, "bi/operator") as auditor:
                answer = await auditor.get(path)
            assert answer.headers["cache-control"].startswith("private")
            entries = unpack_entries(answer.content, size)
            operators = world.log(gateway, "bi/operator")
            assert await operators.fetch_entries(TileId(None, 0, size)) == answer.content
            await operators.close()
            assert decode_entry(entries[0]).value_sha256 == hashlib.sha256(record.value).digest()
            hashes = (await bare(gateway, f"/v1/log/tile/0/000.p/{size}")).content
            assert hashes == b"".join(map(leaf_hash, entries))
            world.nothing_leaked(gateway, answer.content)

    asyncio.run(work())


def test_a_sender_is_told_what_the_ledger_says_of_its_records(tmp_path: Path) -> None:
    world = World(tmp_path, settings={"ledger": "ledger"})

    async def work() -> None:
        async with world.opened() as gateway, world.caller(gateway) as iom:
            first, second = world.domain.record(), world.domain.record()
            await iom.send_lines([line_of(first)])
            await sequenced(world, gateway)
            await iom.send_lines([line_of(second)])

            async def told() -> list[Any]:
                answer = await iom.get(f"/v1/sent?topic={first.manifest.topic}")
                return [orjson.loads(line)["ledger"] for line in answer.content.splitlines()]

            assert await told() == [[{"index": 0, "kind": "event", "offset": 0}], []]
            await sequenced(world, gateway)
            assert await told() == [
                [{"index": 0, "kind": "event", "offset": 0}],
                [{"index": 2, "kind": "event", "offset": 1}],
            ]

    asyncio.run(work())


def test_a_repeat_past_retention_is_answered_as_the_first_time_even_by_a_new_index(tmp_path: Path) -> None:
    world = World(tmp_path, settings={"ledger": "ledger"})

    async def work() -> None:
        record = world.domain.record()
        topic = record.manifest.topic
        async with world.opened() as gateway, world.caller(gateway) as iom:
            await iom.send_lines([line_of(record)])
            await sequenced(world, gateway)
            log = gateway.door.log
            assert isinstance(log, SqliteLog)
            await log.trim(topic, 1)
        for path in tmp_path.glob("index.db*"):
            path.unlink()
        line1, _, body = record.value.partition(b"\n")
        text, _, signature = line1.decode("ascii").rpartition(".")
        other = f"{text}.{b64url(signature_twin(unb64url(signature)))}".encode("ascii")
        twin = replace(record, value=other + b"\n" + body)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            for again in (record, twin):
                told, promise = await iom.send_lines([line_of(again)])
                assert (told["copy"], told["offset"]) == (True, 0)
                world.check_promise(told, promise["promise"])
            conflict = world.domain.record(evt=record.manifest.evt, seq=1, prev="", chain=False)
            refused, _ = await iom.send_lines([line_of(conflict)])
            assert refused["problem"]["code"] == "evt_conflict"

    asyncio.run(work())


def test_a_gateway_without_a_ledger_has_none(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        async with world.opened() as gateway, world.caller(gateway) as iom:
            assert (await bare(gateway, "/v1/log/checkpoint")).status_code == 404
            await iom.send(world.domain.record())
            answer = await iom.get("/v1/sent?topic=bi.referral.k7t4")
            assert "ledger" not in orjson.loads(answer.content)

    asyncio.run(work())
