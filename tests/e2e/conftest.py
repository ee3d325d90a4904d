# SPDX-License-Identifier: Apache-2.0
"""The logs over which a domain is tried from end to end."""

from __future__ import annotations

import pytest

from tests.kafka.conftest import needs_kafka


@pytest.fixture(scope="module", params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest) -> str:
    """Every test that takes it, or a domain made with it, runs over both; `domain_on_disk.on_one_log` excepts one."""
    name = str(request.param)
    if name == "kafka":
        needs_kafka()
    return name
