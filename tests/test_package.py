# SPDX-License-Identifier: Apache-2.0
"""What an operator installs: one wheel that holds what the commands need, and nothing of our tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_evidence_from_an_installed_package_brings_the_verifiers_along(tmp_path: Path) -> None:
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert not any(name.startswith(("tests/", "docs/")) for name in packed.namelist())
        packed.extractall(tmp_path / "installed")
    program = "from umuhuza.audit_evidence import verifiers; print(*verifiers())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    source = ROOT / "docs" / "verify"
    there = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    assert sorted(done.stdout.split()) == sorted(f"verify/{name}" for name in there)
    assert {"Verify.java", "index.html", "verify.mjs"} < set(there)
