# SPDX-License-Identifier: Apache-2.0
"""Programs for Go of `tests/go`, built over Debian's golang.org/x/mod: no module is downloaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

GO = Path(__file__).parent / "go"
SOURCES = Path("/usr/share/gocode")
"""Where Debian's golang-golang-x-mod-dev puts it."""


def go_program(name: str, folder: Path) -> Path:
    """The program, built in `folder`; without Go the test is skipped, or fails where all is required.

    That is said by UMUHUZA_REQUIRE=all, as continuous integration does.
    """
    go = shutil.which("go")
    if go is None or not (SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        _missing("Go or golang-golang-x-mod-dev is not installed: no second implementation read this")
    assert go is not None
    made = folder / name.removesuffix(".go")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(SOURCES), "GOFLAGS": ""}
    run = subprocess.run(
        [go, "build", "-o", str(made), str(GO / name)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return made


def answers(program: Path, cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer per case, in order."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    run = subprocess.run([program], input=lines, capture_output=True, text=True, timeout=120, check=True)
    found: list[dict[str, Any]] = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(cases)
    return found


def _missing(reason: str) -> None:
    if os.environ.get("UMUHUZA_REQUIRE") == "all":
        pytest.fail(f"UMUHUZA_REQUIRE=all, but {reason}")
    pytest.skip(reason)
