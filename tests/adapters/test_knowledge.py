# SPDX-License-Identifier: Apache-2.0
"""A document reaches everybody byte for byte, and its publisher sees where a person has read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.knowledge import Document, Knowledge, documents
from schemas.errors import OrderError, PayloadError
from schemas.plain.knowledge import CHUNK_BYTES, CHUNKS, GuidancePublished, chunks_of
from tests.agencies import Agencies
from tests.domain import MEMBERS
from umuhuza.examples import samples_directory as made

COMMISSION, IOM, SHELTER, POLICE = "bi/min-solidarity", "bi/iom", "bi/k7t4", "bi/police"


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COMMISSION, ("Commission (inventée)", ("coordination",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def pieces(data: bytes, version: int = 2) -> list[GuidancePublished]:
    cut = chunks_of(data)
    return [
        made.guidance(data, chunks=chunks, piece=number, pieces=len(cut), version=version)
        for number, chunks in enumerate(cut, 1)
    ]


def arrived(town: Agencies, agency: str) -> list[Document]:
    return documents(town[agency].box.arrivals.all(), town[agency].runner.inbox.opened)


def test_a_large_document_arrives_whole_and_its_readers_are_counted(town: Agencies) -> None:
    data = bytes(range(256)) * (CHUNK_BYTES * CHUNKS // 256 + 9)
    commission = Knowledge(town[COMMISSION].runner.desk)
    told = commission.publish(pieces(data))
    assert {IOM, SHELTER, POLICE} <= set(told)
    town.settle()
    assert commission.acknowledgements("pon-identification", 2) == dict.fromkeys(told, False)
    for agency in (IOM, SHELTER, POLICE):
        [document] = arrived(town, agency)
        assert document.data == data
    [document] = arrived(town, SHELTER)
    Knowledge(town[SHELTER].runner.desk).acknowledge(document, "head")
    town.settle()
    assert commission.acknowledgements("pon-identification", 2) == {one: one == SHELTER for one in told}
    with pytest.raises(OrderError):
        Knowledge(town[SHELTER].runner.desk).acknowledge(document, "head")


def test_a_version_never_changes_and_half_a_document_is_not_published(town: Agencies) -> None:
    commission = Knowledge(town[COMMISSION].runner.desk)
    commission.publish(pieces(b"one"))
    with pytest.raises(PayloadError) as caught:
        commission.publish(pieces(b"two"))
    assert caught.value.path == "version"
    commission.publish(pieces(b"two", version=3))
    with pytest.raises(PayloadError):
        commission.publish(pieces(b"x" * (CHUNK_BYTES * CHUNKS + 1), version=4)[1:])
    with pytest.raises(PayloadError):
        commission.publish([])


def test_what_is_not_whole_is_not_acknowledged(town: Agencies) -> None:
    document = Document(COMMISSION, "thread", made.guidance(), None)
    with pytest.raises(PayloadError):
        Knowledge(town[SHELTER].runner.desk).acknowledge(document, "head")
