# SPDX-License-Identifier: Apache-2.0
"""An agency killed between any two steps while files are on their way: they arrive whole, once, or not yet.

Real processes, real SIGKILL, as in `test_crash.py`: a referral with a file of ten chunks, which the other side accepts.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests import crash_agency
from tests.adapters.test_crash import IOM, SHELTER, STEPS, documents, in_the_log, rows, run
from tests.adapters.test_crash import folder as folder_in_memory
from tests.crash_agency import WRITE, place
from umuhuza.examples.samples_attachment import file

__all__ = ["folder_in_memory"]

SIZE = 600_000
NAME = "Aline Inventée"


@pytest.fixture
def folder(folder_in_memory: Path) -> Path:
    draft = ["0", SHELTER, "referral.requested", None, NAME, SIZE]
    crash_agency.write(place(folder_in_memory, IOM) / "in" / "a.json", [draft])
    return folder_in_memory


def play(folder: Path, victim: str, step: str, nth: int) -> bool:
    """Until both have had their turns often enough; returns whether the victim was killed in it."""
    killed = False
    for _ in range(2):
        for agency in (IOM, SHELTER):
            if agency == victim and not killed and not run(folder, agency, step, nth):
                killed = True
            run(folder, agency)
    return killed


def everything_is_there_once(folder: Path) -> None:
    sent = [record for record, _ in in_the_log(folder)["bi.referral.k7t4"]]
    assert len(sent) == len({one.evt for one in sent}) == 6, "the referral, the announcement, four records of chunks"
    assert [one.seq for one in sent] == list(range(1, 7))
    got = documents(place(folder, SHELTER) / "got")
    digest = hashlib.sha256(file(SIZE).data).hexdigest()
    assert sorted(got.values(), key=str) == [
        ["attachment.announced", "requested", digest],
        ["referral.requested", "requested", NAME],
    ] or sorted(got.values(), key=str) == [
        ["attachment.announced", "accepted", digest],
        ["referral.requested", "requested", NAME],
    ]
    states = dict(rows(folder, IOM, "SELECT type, group_concat(DISTINCT state) FROM outgoing GROUP BY type"))
    assert states["attachment.announced"] == states["referral.requested"] == "delivered"
    assert states["attachment.chunk"] == "promised"
    assert rows(folder, SHELTER, "SELECT count(*) FROM chunk") == [(10,)]
    assert rows(folder, SHELTER, "SELECT count(*) FROM outgoing WHERE type = 'receipt.delivered'") == [(2,)]
    for agency in (IOM, SHELTER):
        assert {state for (state,) in rows(folder, agency, "SELECT state FROM incoming")} == {"delivered"}
        assert rows(folder, agency, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", [IOM, SHELTER])
def test_killed_after_a_step_the_file_is_there_whole_and_once(folder: Path, victim: str, step: str) -> None:
    assert play(folder, victim, step, 1)
    everything_is_there_once(folder)


@pytest.mark.parametrize("victim", [IOM, SHELTER])
def test_killed_in_the_middle_of_a_write_the_file_is_there_whole_and_once(
    folder: Path, victim: str, tmp_path: Path
) -> None:
    count = documents(place(folder, victim)) if (place(folder, victim) / "count.json").exists() else {}
    assert count == {}
    nth = random.Random(f"a write of {victim}").randint(20, 120)
    assert play(folder, victim, WRITE, nth)
    everything_is_there_once(folder)
