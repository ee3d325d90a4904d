# SPDX-License-Identifier: Apache-2.0
"""For all tests: the same examples every time, and nothing left out unnoticed."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Derandomised: a red test is red again. `--hypothesis-profile=wide` looks further, on a developer's machine.
settings.register_profile(
    "same", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("wide", deadline=None, max_examples=2000)
settings.load_profile("same")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With UMUHUZA_REQUIRE=all a test that skips because something is missing fails instead."""
    report = yield
    if report.skipped and os.environ.get("UMUHUZA_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"skipped, but UMUHUZA_REQUIRE=all: {report.longrepr}"
    return report
