# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bridge` as an operator uses it: a neighbour is added, what waits is carried to its gateway, and told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
from typer.testing import CliRunner

from gateway.settings import load_settings
from tests.borders import NAME, Countries, trust_policy
from tests.gateway.gateway_world import World
from tests.topics.http_harness import GatewayProcess
from tests.two_countries import Both, opened
from umuhuza.bridge_command import app
from umuhuza.bridge_process import Running
from umuhuza.bridge_process import run as run_bridge


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON result."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return done.exit_code, told


def while_it_runs(gateway: Path, url: str, paths: Sequence[str]) -> dict[str, str]:
    """What the bridge's process answers after its first turn; ended as a service manager ends it."""
    ready = gateway / "bridge.ready"
    ready.unlink(missing_ok=True)

    def asked() -> dict[str, str]:
        address = ready.read_text(encoding="ascii")
        with httpx2.Client(trust_env=False) as client:
            return {path: client.get(address + path).text for path in paths}

    async def whole() -> dict[str, str]:
        settings = load_settings(gateway / "gateway.toml")
        running = asyncio.create_task(
            run_bridge(settings, "bi", Running(url, 60.0, port=0, ready_file=ready), lambda _turn: None)
        )
        async with asyncio.timeout(30):
            while not ready.exists():
                assert not running.done()
                await asyncio.sleep(0.02)
            told = await asyncio.to_thread(asked)
            os.kill(os.getpid(), signal.SIGTERM)
            await running
        return told

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(whole())
    finally:
        signal.signal(signal.SIGTERM, before)  # the loop leaves the system's own


def samples(text: str) -> set[str]:
    return {line for line in text.splitlines() if not line.startswith("#")}


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
    root = told["root"]
    code, told = run("add", "tn", "--root", root, *given)
    assert (code, told["ok"], told["version"]) == (0, True, countries.tn.registry.version)
    first = countries.tn.registry.version
    countries.tn.registry = replace(countries.tn.registry, version=first + 1)
    World(tmp_path / "tn", countries.tn).write()
    run("excerpt", "bi", "--gateway", tmp_path / "tn", "--out", tmp_path / "tn.json")
    code, told = run("add", "tn", "--root", root, *given)
    assert (code, told["version"]) == (0, first + 1)
    assert (tmp_path / "bi" / "neighbours" / "tn" / "registries" / f"{first}.json").exists(), "an audit asks for it"
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
    assert burundi["waiting_s"] < 600
    gateway = GatewayProcess(tmp_path / "bi" / "gateway.toml", 0.0)
    try:
        code, told = run("run", "bi", "--once", "--url", gateway.address, *home)
        assert (code, told["promised"], told["waiting"], told["code"]) == (0, 1, 0, None)
        said = while_it_runs(tmp_path / "tn", gateway.address, ("/readyz", "/metrics"))
        assert said["/readyz"] == '{"ok":true}'
        assert samples(said["/metrics"]) >= {
            'umuhuza_bridge_up{domain="bi"} 1.0',
            'umuhuza_bridge_promised_total{domain="bi"} 1.0',
            'umuhuza_bridge_waiting_records{domain="bi"} 0.0',
        }
        assert "checkpoint_age_seconds{" not in said["/metrics"], "Burundi's own bridge has never come here"
    finally:
        gateway.stop()
    said = while_it_runs(tmp_path / "tn", "http://127.0.0.1:9", ("/healthz", "/readyz", "/metrics"))
    assert (said["/healthz"], said["/readyz"]) == ('{"ok":true}', '{"ok":false,"code":"unavailable"}')
    assert 'umuhuza_bridge_hindered{code="unavailable",domain="bi"} 1.0' in samples(said["/metrics"])
    code, told = run("status", *home)
    assert (code, told["neighbours"][0]["code"]) == (3, "unavailable")
    [burundi] = told["neighbours"]
    assert (burundi["promised"], burundi["waiting"], burundi["waiting_s"]) == (1, 0, None)
    assert burundi["heard"] >= now
    code, told = run("status", "--gateway", tmp_path / "bi")  # what Burundi knows of Tunisia's ledger
    [tunisia] = told["neighbours"]
    assert (code, tunisia["checkpoint"], tunisia["checkpoint_age_s"] < 600) == (0, 2, True)
