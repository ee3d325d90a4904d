# SPDX-License-Identifier: Apache-2.0
"""The verifiers, made ready once for all files of tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.verify.verifiers import Verifier, java, javascript


@pytest.fixture(scope="session")
def by_node() -> Iterator[Verifier]:
    with javascript() as verifier:
        yield verifier


@pytest.fixture(scope="session")
def by_java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verifier]:
    with java(tmp_path_factory.mktemp("java")) as verifier:
        yield verifier
