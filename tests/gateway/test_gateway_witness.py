# SPDX-License-Identifier: Apache-2.0
"""A gateway's witness over HTTP: the standard's statuses, and a witness that is broken stops nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import Gateway
from schemas.notes import read_note, read_signature_lines, verify_note
from tests.domain import NOW
from tests.gateway.gateway_world import World
from tests.trees import Ledger
from topics.settings import SettingsError
from topics.witness_folder import read_note_keys
from umuhuza.witness_command import add_log, make_witness

LEDGER = Ledger("tn")
PATH = "/v1/witness/add-checkpoint"


@pytest.fixture
def world(tmp_path: Path) -> World:
    keys = make_witness(tmp_path / "witness", "bi.umuhuza/witness")
    assert [key.name for key in keys] == ["bi.umuhuza/witness"] * 2
    add_log(tmp_path / "witness", tuple(LEDGER.keys))
    return World(tmp_path)


async def asked(gateway: Gateway, body: bytes) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=gateway)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway", trust_env=False) as client:
        return await client.post(PATH, content=body)


def test_a_foreign_ledger_is_cosigned_without_a_login(world: World) -> None:
    async def run() -> None:
        async with world.opened(witness=world.directory / "witness") as gateway:
            first = await asked(gateway, LEDGER.ask(0, 3))
            assert first.status_code == 200
            assert first.headers["content-type"] == "text/plain; charset=utf-8"
            note = read_note(LEDGER.checkpoint(3)).with_signatures(read_signature_lines(first.content))
            keys = read_note_keys(world.directory / "witness" / "witness.pub")
            assert [one.at for one in verify_note(note, keys)] == [NOW, NOW]
            stale = await asked(gateway, LEDGER.ask(0, 5))
            assert (stale.status_code, stale.content) == (409, b"3\n")
            assert stale.headers["content-type"] == "text/x.tlog.size"

    asyncio.run(run())


def test_refusals_have_the_standards_status_and_our_code(world: World) -> None:
    fork = Ledger("tn", "forked", 1)
    cases: list[tuple[bytes, int, str, str]] = [
        (b"nonsense", 400, "note_malformed", "request"),
        (Ledger("fr").ask(0, 3), 404, "log_unknown", "checkpoint.origin"),
        (LEDGER.ask(0, 3).replace(b"\n3\n", b"\n4\n"), 403, "signature_invalid", "note.signatures[0]"),
        (fork.ask(3, 3), 409, "log_inconsistent", "checkpoint.root"),
        (fork.ask(3, 9), 422, "root_mismatch", "request.path"),
        (b"x" * (1 << 20), 413, "too_large", "body"),
    ]

    async def run() -> None:
        async with world.opened(witness=world.directory / "witness") as gateway:
            assert (await asked(gateway, LEDGER.ask(0, 3))).status_code == 200
            for body, status, code, path in cases:
                answer = await asked(gateway, body)
                told: dict[str, Any] = answer.json()
                assert (answer.status_code, told["status"], told["code"], told["path"]) == (status, status, code, path)
            counted = gateway.door.metrics.text()
            for outcome, count in (("cosigned", 1), ("log_inconsistent", 1), ("root_mismatch", 1)):
                assert f'umuhuza_gateway_witness_requests_total{{code="{outcome}"}} {count}.0'.encode() in counted

    asyncio.run(run())


def test_a_gateway_without_a_witness_knows_no_ledger(world: World) -> None:
    async def run() -> None:
        async with world.opened() as gateway:
            answer = await asked(gateway, LEDGER.ask(0, 3))
            assert (answer.status_code, answer.json()["code"]) == (404, "log_unknown")

    asyncio.run(run())


def test_a_witness_that_lost_its_memory_stops_only_itself(world: World) -> None:
    (world.directory / "witness" / "witness.db").unlink()

    async def run() -> None:
        async with world.opened(witness=world.directory / "witness") as gateway:
            answer = await asked(gateway, LEDGER.ask(0, 3))
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            async with world.caller(gateway) as caller:
                assert (await caller.get("/readyz")).status_code == 200

    asyncio.run(run())


def test_a_key_file_that_others_can_read_is_refused_at_the_start(world: World) -> None:
    (world.directory / "witness" / "witness.key").chmod(0o644)

    async def run() -> None:
        async with world.opened(witness=world.directory / "witness"):
            pass

    with pytest.raises(SettingsError) as caught:
        asyncio.run(run())
    assert "chmod 600" in str(caught.value)
