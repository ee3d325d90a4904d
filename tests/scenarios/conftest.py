# SPDX-License-Identifier: Apache-2.0
"""Every scenario runs over the embedded log and over Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.conftest import needs_kafka
from tests.scenarios.town import Town


@pytest.fixture(params=["sqlite", "kafka"])
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    kind = str(request.param)
    if kind == "kafka":
        needs_kafka()
    with Town.made(tmp_path, kind) as made:
        yield made
