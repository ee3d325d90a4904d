# SPDX-License-Identifier: Apache-2.0
"""The benchmark on a broker of its own: it ends, it says everything that it promises, and leaves nothing running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.kafka.conftest import needs_kafka


def test_the_benchmark_on_kafka_tells_ratios_latencies_and_memory() -> None:
    needs_kafka()
    command = [sys.executable, "-m", "umuhuza", "bench", "--kafka", "--json", "--rounds", "1", "--events", "400"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["kafka"]
    assert found["direct"]["ratio"] > 0
    assert found["per_second"].keys() == found["to_embedded"].keys() == found["ratios"].keys()
    assert {way: one.keys() for way, one in found["latency_ms"].items()} == dict.fromkeys(
        ("bare", "direct", "gateway"), {"p50": 0, "p99": 0}.keys()
    )
    assert all(size > 0 for size in found["memory_mb"].values())
    assert set(found["memory_mb"]) >= {"broker", "gateway", "adapter"}
    cluster = Path("/proc")
    assert not any("umuhuza-bench-" in _line(process) for process in cluster.glob("[0-9]*"))


def _line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
