# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bridge` as an operator uses it: a neighbour is added, what waits is carried to its gateway, and told."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.borders import NAME, Countries, trust_policy
from tests.gateway.gateway_world import World
from tests.topics.http_harness import GatewayProcess
from tests.two_countries import Both, opened
from umuhuza.bridge_command import app


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON result."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return done.exit_code, told


def waiting_in_tunisia(folder: Path, now: int) -> None:
    """A request for Burundi, logged at home and cosigned; everybody's files closed."""

    async def story(both: Both) -> None:
        signed = both.tn.domain.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME)
        [told, _] = await both.tn.send(signed)
        assert told["offset"] == 0
        await both.tn.ledger_turn()

    async def whole() -> None:
        async with opened(folder, now) as both:
            await story(both)

    asyncio.run(whole())


def test_a_neighbour_is_added_with_what_the_other_operator_wrote(tmp_path: Path) -> None:
    countries = Countries(int(time.time()))
    for domain in (countries.bi, countries.tn):
        World(tmp_path / domain.name, domain).write()
    code, told = run("excerpt", "bi", "--gateway", tmp_path / "tn", "--out", tmp_path / "tn.json")
    assert (code, told["agencies"], told["agreements"]) == (0, ["tn/inlctp", "tn/operator"], [NAME])
    (tmp_path / "tn.policy").write_bytes(trust_policy("tn").dumps())
    given = ("--registry", tmp_path / "tn.json", "--policy", tmp_path / "tn.policy", "--gateway", tmp_path / "bi")
    code, told = run("add", "tn", "--root", told["root"], *given)
    assert (code, told["ok"], told["version"]) == (0, True, countries.tn.registry.version)
    code, told = run("status", "--gateway", tmp_path / "bi")
    [tunisia] = told["neighbours"]
    assert (code, tunisia["agreements"], tunisia["problem"]) == (0, {NAME: True}, None)


def test_what_waits_is_carried_to_a_gateway_and_told(tmp_path: Path) -> None:
    now = int(time.time())
    waiting_in_tunisia(tmp_path, now)
    home = ("--gateway", tmp_path / "tn")
    code, told = run("run", "bi", "--once", "--url", "http://127.0.0.1:9", *home)
    assert (code, told["code"], told["promised"]) == (3, "unavailable", 0)
    code, told = run("status", *home)
    [burundi] = told["neighbours"]
    assert (code, burundi["waiting"], burundi["code"], burundi["heard"]) == (3, 1, "unavailable", None)
    gateway = GatewayProcess(tmp_path / "bi" / "gateway.toml", 0.0)
    try:
        code, told = run("run", "bi", "--once", "--url", gateway.address, *home)
        assert (code, told["promised"], told["waiting"], told["code"]) == (0, 1, 0, None)
    finally:
        gateway.stop()
    code, told = run("status", *home)
    [burundi] = told["neighbours"]
    assert (code, burundi["promised"], burundi["waiting"], burundi["code"]) == (0, 1, 0, None)
    assert burundi["heard"] >= now
    code, told = run("status", "--gateway", tmp_path / "bi")  # what Burundi knows of Tunisia's ledger
    [tunisia] = told["neighbours"]
    assert (code, tunisia["checkpoint"], tunisia["checkpoint_age_s"] < 600) == (0, 2, True)
