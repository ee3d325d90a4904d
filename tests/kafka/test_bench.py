# SPDX-License-Identifier: Apache-2.0
"""The benchmark, once, with a broker of its own where there can be one: it ends, it says everything that it promises,
and leaves nothing running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.conftest import kafka_is_here, needs_kafka


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    command = [sys.executable, "-m", "umuhuza", "bench", "--json", "--rounds", "1", "--events", "400"]
    on_kafka = ["--kafka"] if kafka_is_here() else []
    done = subprocess.run([*command, *on_kafka], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_benchmark_gives_ratios_to_the_limit_of_the_same_run(told: dict[str, Any]) -> None:
    agency = {"receive_agency", "receive_and_answer"}
    through_the_gateway = {"publish_single", "publish_batch", "receive"}
    assert told["ratios"].keys() == {*through_the_gateway, "ledger_append", "ledger", *agency}
    assert told["cpu_us_per_event"].keys() == through_the_gateway
    assert all(ratio > 0 for ratio in told["ratios"].values())
    assert all(told["audit"][name] > 0 for name in ("tree_to_sha256", "signatures_to_bare", "all_to_bare"))
    assert told["per_second"]["validate"] > 0
    assert told["validate_to_fhir_resources"] > 1


def test_the_benchmark_on_kafka_tells_ratios_latencies_and_memory(told: dict[str, Any]) -> None:
    needs_kafka()
    found = told["kafka"]
    assert found["direct"]["ratio"] > 0
    assert found["per_second"].keys() == found["to_embedded"].keys() == found["ratios"].keys()
    assert {way: one.keys() for way, one in found["latency_ms"].items()} == dict.fromkeys(
        ("bare", "direct", "gateway"), {"p50": 0, "p99": 0}.keys()
    )
    assert all(size > 0 for size in found["memory_mb"].values())
    assert set(found["memory_mb"]) >= {"broker", "gateway", "adapter"}


def test_the_benchmark_leaves_no_process_behind(told: dict[str, Any]) -> None:
    assert told["ok"]
    assert not any("umuhuza-bench-" in _line(process) for process in Path("/proc").glob("[0-9]*"))


def _line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
