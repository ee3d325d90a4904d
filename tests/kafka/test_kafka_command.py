# SPDX-License-Identifier: Apache-2.0
"""`umuhuza kafka` as an operator gives it: a process each, killed where it hurts, and given again."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.keystore import Keys
from schemas.registry import Role
from tests.kafka.conftest import needs_kafka
from umuhuza.kafka.cluster import Cluster
from umuhuza.registry_holder import add_agency, held, init_registry

NOW = int(time.time())


def command(*words: str, **environment: str) -> list[str]:
    return [sys.executable, "-m", "umuhuza", "kafka", *words]


def ran(*words: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "UMUHUZA_LANG": "fr", "COLUMNS": "300", **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if done.stdout else done.stderr


def answer(*words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(ran(*words, "--json", code=code, **environment))
    return read


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    needs_kafka()
    yield tmp_path / "kafka"
    if (tmp_path / "kafka" / "cluster.json").exists():
        Cluster.open(tmp_path / "kafka").kill(1)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", True)
    members: list[tuple[str, tuple[Role, ...]]] = [
        ("bi/operator", ("operator",)),
        ("bi/iom", ("assistance", "screener")),
        ("bi/iom-gitega", ("assistance",)),
    ]
    for name, roles in members:
        keys = Keys.generate(name, os.urandom)
        add_agency(folder, keys.enrolment({"fr": name}, roles, False, NOW))
    return folder


def test_an_operators_day(folder: Path, registry: Path, tmp_path: Path) -> None:
    """Up, killed half-way; up again; once more; status; an agency's certificate; down; status."""
    first = subprocess.Popen(command("up", "--dir", str(folder)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "node-1" / "process").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    pid = Cluster.open(folder).pid(1)
    assert pid is not None

    up = answer("up", "--dir", str(folder), "--registry", str(registry))
    assert up["started"] == []
    assert up["nodes"][0]["pid"] == pid
    assert up["agencies"] == ["bi/iom", "bi/iom-gitega", "bi/operator"]
    assert "bi.referral.iom" in up["applied"]["created"]
    assert up["applied"]["findings"] == []
    assert {"admin", "node-1", "bi.iom", "bi.iom-gitega", "bi.operator"} == up["expires"].keys()

    key = held(registry).first_root.text
    again = answer("up", "--dir", str(folder), "--registry", str(registry / "registry.json"), "--registry-root", key)
    assert again["started"] == []
    assert not any(again["applied"].values())
    assert "marchait déjà" in ran("up", "--dir", str(folder))

    status = answer("status", "--dir", str(folder))
    assert status["ok"]
    assert status["nodes"][0]["ready"]

    issued = answer("issue", "bi/iom", "--dir", str(folder), "--out", str(tmp_path / "pour-iom"))
    assert issued["principal"] == "bi.iom"
    assert sorted(path.name for path in (tmp_path / "pour-iom").iterdir()) == [
        "bootstrap",
        "ca.pem",
        "certificate.pem",
        "key.pem",
    ]
    assert stat.S_IMODE((tmp_path / "pour-iom" / "key.pem").stat().st_mode) == 0o600
    ran("issue", "bi/iom", "--dir", str(folder), "--out", str(tmp_path / "pour-iom"), code=2)

    assert answer("down", "--dir", str(folder))["stopped"] is True
    assert answer("down", "--dir", str(folder))["stopped"] is False
    assert "arrêté" in ran("status", "--dir", str(folder), code=3)
    assert answer("status", "--dir", str(folder), code=3)["ok"] is False


def test_without_java_the_command_says_what_helps_and_ends_with_not_now(tmp_path: Path) -> None:
    nowhere = {"JAVA_HOME": str(tmp_path)}
    told = ran("up", "--dir", str(tmp_path / "k"), code=3, **nowhere)
    assert "il manque Java" in told
    assert "sudo apt-get install openjdk-17-jre-headless" in told
    problem = answer("up", "--dir", str(tmp_path / "k"), code=3, **nowhere)["problem"]
    assert problem["code"] == "unavailable"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["up", "--nodes", "2"], "1 ou 3"),
        (["up", "--registry", "{}/registre/registry.json"], "--registry-root"),
        (["up", "--registry", "{}/registre/registry.json", "--registry-root", "x"], "pas l'empreinte d'une racine"),
        (["up", "--registry", "{}"], "pas de registre"),
        (["down"], "umuhuza kafka up"),
        (["status"], "umuhuza kafka up"),
    ],
)
def test_what_was_asked_wrongly_is_said_and_nothing_is_made(
    tmp_path: Path, registry: Path, words: list[str], told: str
) -> None:
    place = tmp_path / "k"
    assert told in ran(*(word.format(tmp_path) for word in words), "--dir", str(place), code=2)
    assert not place.exists()
