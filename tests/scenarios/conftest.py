# SPDX-License-Identifier: Apache-2.0
"""Every scenario runs over the embedded log and over Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.conftest import needs_kafka
from tests.scenarios.town import TUNISIA, Town


@pytest.fixture(params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest) -> str:
    kind = str(request.param)
    if kind == "kafka":
        needs_kafka()
    return kind


@pytest.fixture
def town(log: str, tmp_path: Path) -> Iterator[Town]:
    """Burundi's agencies."""
    with Town.made(tmp_path, log) as made:
        yield made


@pytest.fixture
def tunisia(log: str, tmp_path: Path) -> Iterator[Town]:
    with Town.made(tmp_path, log, TUNISIA) as made:
        yield made
