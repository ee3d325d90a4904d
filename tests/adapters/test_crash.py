# SPDX-License-Identifier: Apache-2.0
"""An agency killed between any two steps, or in the middle of a write, loses nothing and doubles nothing.

Real processes, real SIGKILL. One agency sends two batches of referrals, the other accepts each; one of the two is
killed once, started again, and at the end everything is there exactly once. Over Kafka, which does not recognise what
was sent before, a record may stand in the log again, with the same bytes, and has one effect all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from schemas.envelope import Manifest, chain_hash, parse_record
from tests import crash_agency
from tests.crash_agency import WRITE, domain, open_log, place
from tests.forked import CONTEXT
from tests.kafka.conftest import kafka_cluster
from tests.topics.kafka_harness import wipe
from topics import kafka_admin
from topics.catalogue import mailboxes_of
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_cluster"]

IOM, SHELTER = "bi/iom", "bi/k7t4"
STEPS = ("collected", "accepted", "reported", "signed", "answered", "settled", "read", "stored", "delivered")
STEPS_AT_THE_LOG = ("signed", "answered", "settled", "read", "stored")
"""Between which what the log has and what the mailbox has may differ; the others are the mailbox's and the system's."""
NAMES = ("Aline Inventée", "Bella Inventée", "Chadia Inventée")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: a killed process takes nothing of the page cache with it, so a real disk's
    syncs would only cost time here. What a power cut takes is another test's."""
    memory = Path("/dev") / "shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.fixture
def folder_on_kafka(folder: Path, kafka_cluster: Cluster) -> Path:
    """The same, with a log on the brokers whose topics are new."""
    admin = kafka_cluster.access(ADMIN)
    wipe(admin)
    asyncio.run(kafka_admin.apply(admin, domain().registry, nodes=1))
    kafka_cluster.hand_over("bi/operator", folder / "kafka")
    return folder


def run(folder: Path, agency: str, step: str = "", nth: int = 0) -> bool:
    """False: it was killed."""
    child = CONTEXT.Process(target=crash_agency.run, args=(str(folder), agency, step, nth))
    child.start()
    child.join(30)
    code = child.exitcode
    child.close()
    assert code in (0, -signal.SIGKILL)
    return code == 0


def begin(folder: Path) -> None:
    first = [[str(n), SHELTER, "referral.requested", None, name] for n, name in enumerate(NAMES[:2])]
    first.append(["bad", "bi/nobody", "referral.requested", None, "Dina Inventée"])
    crash_agency.write(place(folder, IOM) / "in" / "a.json", first)
    crash_agency.write(place(folder, IOM) / "in" / "b.json", [["0", SHELTER, "referral.requested", None, NAMES[2]]])


def play(folder: Path, victim: str, step: str, nth: int) -> bool:
    """The whole story; returns whether the victim was killed in it."""
    begin(folder)
    killed = False
    for _ in range(2):
        for agency in (IOM, SHELTER):
            if agency == victim and not killed and not run(folder, agency, step, nth):
                killed = True
            run(folder, agency)
    return killed


def documents(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def in_the_log(folder: Path) -> dict[str, list[tuple[Manifest, bytes]]]:
    async def read() -> dict[str, list[tuple[Manifest, bytes]]]:
        log = await open_log(folder)
        topics = [topic for agency in domain().registry.agencies.values() for topic in mailboxes_of(agency)]
        found = {}
        for topic in topics:
            stored = await log.read(topic, -1)
            values = {one.ident: one.value for one in reversed(stored)}
            assert {one.value for one in stored} == set(values.values()), "again is with the same bytes"
            assert len(values) == len(stored) or (folder / "kafka").exists()
            records = [parse_record(values[ident]) for ident in dict.fromkeys(one.ident for one in stored)]
            found[topic] = [(record.manifest, record.signed) for record in records]
        await log.close()
        return found

    return asyncio.run(read())


def rows(folder: Path, agency: str, sql: str) -> list[tuple[Any, ...]]:
    box = apsw.Connection(str(place(folder, agency) / "mailbox.db"))
    try:
        return list(box.execute(sql))
    finally:
        box.close()


def everything_is_there_once(folder: Path) -> None:
    log = in_the_log(folder)
    for topic, records in log.items():
        for iss in {manifest.iss for manifest, _ in records}:
            chain = [(manifest, signed) for manifest, signed in records if manifest.iss == iss]
            assert [manifest.seq for manifest, _ in chain] == list(range(1, len(chain) + 1)), topic
            assert [manifest.prev for manifest, _ in chain] == ["", *(chain_hash(signed) for _, signed in chain[:-1])]
            assert [manifest.voids for manifest, _ in chain] == [()] * len(chain)

    # The sender's side: reports complete, each line one event, each event in the log once.
    reports = documents(place(folder, IOM) / "reports")
    assert {name: sorted(report) for name, report in reports.items()} == {"a": ["0", "1", "bad"], "b": ["0"]}
    assert reports["a"]["bad"] == "agency_unknown"
    evts = [reports["a"]["0"], reports["a"]["1"], reports["b"]["0"]]
    assert [manifest.evt for manifest, _ in log["bi.referral.k7t4"]] == evts
    assert list((place(folder, IOM) / "in").iterdir()) == []
    assert [documents(place(folder, IOM) / "states")[evt] for evt in evts] == [["delivered", None]] * 3

    # The receiver's side: one inbox effect each, complete, and one answer each.
    got = documents(place(folder, SHELTER) / "got")
    assert [got[evt] for evt in evts] == [["referral.requested", "requested", name] for name in NAMES]
    assert len(got) == 3
    answers = [manifest for manifest, _ in log["bi.referral.iom"]]
    assert sorted(manifest.ref or "" for manifest in answers) == sorted(evts)
    heard = documents(place(folder, IOM) / "got")
    assert sorted(heard) == sorted(manifest.evt for manifest in answers)
    assert list(heard.values()) == [["referral.accepted", "accepted", ""]] * 3

    # One receipt for each record that wants one.
    for topic, receipts in (("bi.referral.k7t4", "bi.receipt.iom"), ("bi.referral.iom", "bi.receipt.k7t4")):
        refs = [manifest.ref for manifest, _ in log[receipts]]
        assert sorted(ref or "" for ref in refs) == sorted(manifest.evt for manifest, _ in log[topic])
    for agency in (IOM, SHELTER):
        states = "SELECT type, state, count(*) FROM {} GROUP BY type, state ORDER BY type"
        sent = {"referral.requested": "delivered"} if agency == IOM else {"referral.accepted": "delivered"}
        assert rows(folder, agency, states.format("outgoing")) == sorted(
            [(type, state, 3) for type, state in sent.items()] + [("receipt.delivered", "promised", 3)]
        )
        assert {state for _, state, _ in rows(folder, agency, states.format("incoming"))} == {"delivered"}
        heads = rows(folder, agency, "SELECT topic, seq FROM head ORDER BY topic")
        assert heads == sorted(
            (topic, max(manifest.seq for manifest, _ in records if manifest.iss == agency))
            for topic, records in log.items()
            if any(manifest.iss == agency for manifest, _ in records)
        )
        assert rows(folder, agency, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", [IOM, SHELTER])
def test_killed_after_a_step_everything_is_there_once(folder: Path, victim: str, step: str, nth: int) -> None:
    assert play(folder, victim, step, nth)
    everything_is_there_once(folder)


@pytest.mark.parametrize("victim", [IOM, SHELTER])
def test_killed_in_the_middle_of_any_write_everything_is_there_once(folder: Path, victim: str) -> None:
    whole = folder / "whole"
    whole.mkdir()
    begin(whole)
    run(whole, IOM)
    run(whole, SHELTER)
    writes: int = documents(place(whole, victim))["count"][WRITE]
    assert writes > 50
    chosen = random.Random(f"writes of {victim}").sample(range(1, writes + 1), 5)
    for nth in chosen:
        inner = folder / str(nth)
        inner.mkdir()
        assert play(inner, victim, WRITE, nth), nth
        everything_is_there_once(inner)


def test_the_story_without_a_death_ends_the_same(folder: Path) -> None:
    assert not play(folder, IOM, "", 0)
    everything_is_there_once(folder)


def test_over_kafka_the_story_without_a_death_ends_the_same(folder_on_kafka: Path) -> None:
    assert not play(folder_on_kafka, IOM, "", 0)
    everything_is_there_once(folder_on_kafka)


@pytest.mark.parametrize("step", STEPS_AT_THE_LOG)
@pytest.mark.parametrize("victim", [IOM, SHELTER])
def test_over_kafka_killed_after_a_step_everything_is_there_once(folder_on_kafka: Path, victim: str, step: str) -> None:
    assert play(folder_on_kafka, victim, step, 1)
    everything_is_there_once(folder_on_kafka)
