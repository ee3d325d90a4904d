# SPDX-License-Identifier: Apache-2.0
"""Programs for Node.js of `tests/node`, whose packages are installed from the lock file when they are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = Path(__file__).parent / "node"


def node_with(package: str) -> str:
    """Node's path, for a test that needs this package; without it the test is skipped, or fails where all is required.

    That is said by UMUHUZA_REQUIRE=all, as continuous integration does.
    """
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        _missing("node and npm are not installed: no second implementation read this")
    assert found is not None
    assert npm is not None
    if not (NODE / "node_modules" / package).is_dir():
        run = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=NODE, capture_output=True, text=True, timeout=300)
        if run.returncode != 0:
            _missing(f"npm ci failed: {run.stderr[-300:]}")
    return found


def _missing(reason: str) -> None:
    if os.environ.get("UMUHUZA_REQUIRE") == "all":
        pytest.fail(f"UMUHUZA_REQUIRE=all, but {reason}")
    pytest.skip(reason)
