# SPDX-License-Identifier: Apache-2.0
"""The sandbox as a developer starts it: what is printed runs, a record crosses the border, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.e2e.commands import environment, until
from tests.e2e.shell import Shell


@dataclass(frozen=True)
class Started:
    """A sandbox in a session of its own, as a terminal starts it."""

    process: subprocess.Popen[bytes]
    told: dict[str, Any]

    def end(self, number: signal.Signals) -> int:
        """A terminal sends Ctrl-C to everybody in it. Returns the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(60)


def begin(out: Path, *arguments: str | Path, **more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "umuhuza", "sandbox", "--json", *map(str, arguments)]
    with out.open("wb") as stream, out.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen(command, env=environment(**more), stdout=stream, stderr=errors, start_new_session=True)


def started(out: Path, *arguments: str | Path) -> Started:
    process = begin(out, *arguments)
    try:
        until("ready", lambda: out.read_bytes().endswith(b"\n") or process.poll() is not None, 120)
        assert process.poll() is None, out.read_text() + out.with_suffix(".err").read_text()
        return Started(process, orjson.loads(out.read_bytes()))
    except BaseException:
        kill(process)
        raise


def kill(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of its session, and itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def nobody_left(process: subprocess.Popen[bytes]) -> bool:
    """Whether no process of its session is there any more."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as made:
        yield made


def lines(told: dict[str, Any], domain: str, agency: str, flow: str) -> list[dict[str, Any]]:
    """That mailbox, read with the token that lies in the agency's folder."""
    answer = httpx2.get(
        f"{told['domains'][domain]['gateway']}/v1/mailbox?after={flow}:-1&wait=20",
        headers=bearer(told, domain, agency),
        timeout=120,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


def bearer(told: dict[str, Any], domain: str, agency: str) -> dict[str, str]:
    token = Path(told["domains"][domain]["agencies"][agency]["token"])
    assert token.stat().st_mode & 0o077 == 0
    return {"authorization": f"Bearer {token.read_text()}"}


def publish(told: dict[str, Any]) -> dict[str, Any]:
    """As the line under `publish` does."""
    answer = httpx2.post(
        f"{told['domains']['bi']['gateway']}/v1/records",
        content=Path(told["files"]["record"]).read_bytes(),
        headers={**bearer(told, "bi", "bi/iom"), "content-type": "application/x-ndjson"},
        timeout=120,
        trust_env=False,
    )
    first: dict[str, Any] = orjson.loads(answer.content.splitlines()[0])
    assert "offset" in first, first
    return first


def test_a_record_crosses_the_border_and_the_sandbox_goes_on_where_it_was_ended(tmp_path: Path, sh: Shell) -> None:
    root = tmp_path / "bac à sable"
    first = started(tmp_path / "first.out", "--dir", root)
    try:
        told = first.told
        assert told["ok"], told
        assert len(told["processes"]) == 9
        assert publish(told)["offset"] == 0
        [arrived] = until("it is across", lambda: lines(told, "tn", "tn/inlctp", "bilateral"))
        assert arrived["record"] == orjson.loads(Path(told["files"]["record"]).read_bytes())["record"]
        assert orjson.loads(arrived["headers"]["umuhuza-home"])["checkpoint"].startswith("bi.umuhuza/log\n")
        [receipt] = until("its receipt", lambda: lines(told, "bi", "bi/iom", "receipt"))
        assert receipt["ident"].startswith("tn/inlctp/")
        # What is told can be typed, whatever the folder is called.
        words = told["try"]["refused"].split(maxsplit=1)[1]
        done = sh(*as_typed(words), "--json")
        assert (done.code, done.json["refused"][0]["code"]) == (1, "agreement_missing")
        # Nobody else starts it here meanwhile.
        again = sh("sandbox", "--dir", root, "--json")
        assert (again.code, again.json["problem"]["code"]) == (2, "settings")
        assert first.end(signal.SIGINT) == 0
        assert nobody_left(first.process)
    finally:
        kill(first.process)
    second = started(tmp_path / "second.out", "--dir", root)
    try:
        told = second.told
        assert publish(told)["copy"] is True
        done = sh(*as_typed(told["try"]["send"].split(maxsplit=1)[1]), "--json")
        assert done.code == 0, done.out
        until("both arrived", lambda: len(lines(told, "tn", "tn/inlctp", "bilateral")) == 2)
        until("cosigned", lambda: audited(sh, root / "tn")["records"] >= 3)
        assert second.end(signal.SIGTERM) == 0
        assert nobody_left(second.process)
    finally:
        kill(second.process)
    for country in ("bi", "tn"):
        assert audited(sh, root / country)["contradictions"] == 0
    said = [log.read_text(encoding="utf-8") for log in (root / "logs").iterdir()]
    assert [text for text in said if "Traceback" in text] == []


def audited(sh: Shell, folder: Path) -> dict[str, Any]:
    return sh("audit", "verify", "--dir", folder, "--json").json


def as_typed(words: str) -> list[str]:
    """As a shell takes them apart."""
    done = subprocess.run(["sh", "-c", f'printf "%s\\0" {words}'], capture_output=True, check=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_ended_while_it_starts_it_leaves_neither_process_nor_folder(tmp_path: Path) -> None:
    process = begin(tmp_path / "out", TMPDIR=str(tmp_path))
    try:
        until("a gateway", lambda: any(tmp_path.glob("umuhuza-sandbox-*/bi/gateway/address")), 120)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(60) == 128 + signal.SIGHUP
        assert nobody_left(process)
    finally:
        kill(process)
    assert list(tmp_path.glob("umuhuza-sandbox-*")) == []
    assert (tmp_path / "out").read_bytes() == b""


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, sh: Shell) -> None:
    (tmp_path / "a-garder.json").write_text(json.dumps({}))
    for language, words in (("fr", "n'est pas un bac à sable"), ("en", "holds no sandbox")):
        done = sh("sandbox", "--dir", tmp_path, "--json", language=language)
        assert (done.code, done.json["problem"]["code"]) == (2, "settings")
        assert words in done.json["problem"]["title"]
    assert [path.name for path in tmp_path.iterdir()] == ["a-garder.json"]
