# SPDX-License-Identifier: Apache-2.0
"""The mailbox file: who may read it, what a transaction is, what is due when, and what a broken file is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Outgoing, Thread
from schemas.errors import LogError, OrderError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mailbox.db"


@pytest.fixture
def box(path: Path) -> Iterator[Mailbox]:
    opened = Mailbox.open(path)
    yield opened
    opened.close()


def going(n: int, topic: str = "bi.referral.k7t4", thread: str = "t", type: str = "referral.requested") -> Outgoing:
    return Outgoing(
        evt=f"evt-{n}",
        source="s",
        line=str(n),
        connector="memory",
        peer="bi/k7t4",
        topic=topic,
        type=type,
        kind="request",
        thread=thread,
        ref=None,
        answer_by=None,
        parts="[]",
        body=b"sealed",
        grants=("{}",),
    )


def coming(n: int, thread: str = "t", state: str = "ready") -> Incoming:
    item = Incoming(
        log="log-1",
        topic="bi.referral.iom",
        log_offset=n,
        at_ms=0,
        ident=f"bi/k7t4/{n}",
        iss="bi/k7t4",
        evt=str(n),
        digest=bytes([n]),
        type="referral.accepted",
        kind="answer",
        thread=thread,
        ref=None,
        late=False,
        crossed=False,
        record=b"record",
        grant_value=None,
        state="ready",
    )
    return replace(item, state="held") if state == "held" else item


def sign(box: Mailbox, *numbers: int, topic: str = "bi.referral.k7t4") -> None:
    for number in numbers:
        seq, _ = box.chains.head(topic)
        assert box.mark_signed(f"evt-{number}", seq + 1, b"l1", f"hash-{seq + 1}", ())


# -- the file ----------------------------------------------------------------------------------------------------------


def test_only_its_owner_reads_it_and_what_stands_beside_it(box: Mailbox, path: Path) -> None:
    box.chains.set_head("bi.case.iom", 1, "hash-1")
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["mailbox.db", "mailbox.db-shm", "mailbox.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_every_commit_is_synced_and_what_is_deleted_is_overwritten(box: Mailbox) -> None:
    names = ("journal_mode", "synchronous", "secure_delete")
    assert [box.query(f"PRAGMA {name}")[0][0] for name in names] == ["wal", 2, 1]


def test_what_is_no_mailbox_is_said_to_be_none(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("Ndayishimiye " * 500)
    with pytest.raises(LogError) as caught:
        Mailbox.open(text)
    assert (caught.value.code, caught.value.path) == ("log_inconsistent", "mailbox")
    assert text.read_text().startswith("Ndayishimiye ")


def test_a_folder_that_is_not_there_and_a_path_that_is_a_folder_are_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path / "gone" / "mailbox.db", tmp_path):
        with pytest.raises(LogError) as caught:
            Mailbox.open(path)
        assert (caught.value.code, caught.value.path) == ("unavailable", "mailbox")
        assert str(path) not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_mailbox_of_a_newer_version_is_left_alone(path: Path) -> None:
    Mailbox.open(path).close()
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(LogError) as caught:
        Mailbox.open(path)
    assert (caught.value.code, caught.value.path) == ("unavailable", "mailbox.version")


def test_an_older_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(LogError, match="3.51.3"):
        Mailbox.open(path)


def test_opening_again_keeps_everything_and_closing_twice_is_nothing(path: Path) -> None:
    box = Mailbox.open(path)
    box.chains.set_head("bi.case.iom", 1, "hash-1")
    box.chains.set_head("bi.case.iom", 2, "hash-2")
    box.close()
    box.close()
    again = Mailbox.open(path)
    assert (again.chains.head("bi.case.iom"), again.chains.head("bi.case.k7t4")) == ((2, "hash-2"), (0, ""))
    again.close()


def test_a_second_process_waits_for_the_first_and_then_says_that_it_cannot(box: Mailbox, path: Path) -> None:
    other = Mailbox.open(path)
    other._file._db.set_busy_timeout(20)
    with box.transaction():
        box.chains.set_head("bi.case.iom", 1, "first")
        with pytest.raises(LogError, match="unavailable"):
            other.chains.set_head("bi.case.iom", 1, "second")
        assert other.chains.head("bi.case.iom") == (0, "")
    other.chains.set_head("bi.case.iom", 1, "second")
    assert box.chains.head("bi.case.iom") == (1, "second")
    other.close()


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing_whatever_is_raised(box: Mailbox) -> None:
    class Stop(BaseException):
        pass

    def failing() -> None:
        with box.transaction():
            box.chains.set_head("bi.case.iom", 1, "one")
            with box.transaction():
                box.enqueue(going(1))
            raise Stop

    with pytest.raises(Stop):
        failing()
    assert box.chains.head("bi.case.iom") == (0, "")
    assert box.outbox() == []
    box.chains.set_head("bi.case.iom", 1, "two")
    assert box.chains.head("bi.case.iom") == (1, "two")


def test_an_attempt_undoes_itself_and_no_more(box: Mailbox) -> None:
    def attempt(*, fails: bool) -> None:
        with box.attempt():
            box.chains.set_head("bi.case.k7t4", 1, str(fails))
            if fails:
                raise OrderError("thread_unknown")

    with box.transaction():
        box.chains.set_head("bi.case.iom", 1, "one")
        with pytest.raises(OrderError):
            attempt(fails=True)
        assert box.chains.head("bi.case.k7t4") == (0, "")
        attempt(fails=False)
    assert (box.chains.head("bi.case.iom"), box.chains.head("bi.case.k7t4")) == ((1, "one"), (1, "False"))


# -- persons and threads -----------------------------------------------------------------------------------------------


def test_a_person_has_one_pseudonym_per_peer(box: Mailbox) -> None:
    fresh = iter("abcdef").__next__
    pairs = [("p", "bi/a"), ("p", "bi/b"), ("q", "bi/a"), ("p", "bi/a")]
    assert [box.pseudonym(person, peer, fresh) for person, peer in pairs] == ["a", "b", "c", "a"]


def test_threads_come_back_as_they_were_put_the_last_changed_first(box: Mailbox) -> None:
    one = Thread("t1", "bi/a", "case-1", "referral", "initiator", "p1", "requested", "e1", 77)
    two = Thread("t2", "bi/b", None, "case", "recipient", "p2", "identified", "e2")
    box.put_thread(one, 1)
    box.put_thread(two, 2)
    assert box.threads() == [two, one]
    moved = replace(one, state="accepted", crossed=True, person="case-2", answer_by=None)
    box.put_thread(moved, 3)
    assert box.threads() == [moved, two]
    box.drop_thread("t1")
    assert box.thread("t1") is None


# -- outbox ------------------------------------------------------------------------------------------------------------


def test_a_number_is_given_once_and_only_to_the_next(box: Mailbox) -> None:
    for n in (1, 2):
        box.enqueue(going(n))
    assert not box.mark_signed("evt-1", 2, b"l1", "h", ())
    assert box.mark_signed("evt-1", 1, b"l1", "h1", ())
    assert not box.mark_signed("evt-1", 2, b"other", "h2", ())  # its bytes are fixed
    assert not box.mark_signed("evt-2", 1, b"l1", "h", ())
    assert not box.mark_signed("nobody", 2, b"l1", "h", ())
    assert box.mark_signed("evt-2", 2, b"l1", "h2", ())
    assert box.chains.heads() == {"bi.referral.k7t4": (2, "h2")}
    found = box.outgoing("evt-1")
    assert found is not None
    assert (found.state, found.seq, found.l1) == ("signed", 1, b"l1")


def test_a_postponed_item_stops_its_own_mailbox_and_no_other(box: Mailbox) -> None:
    for n in (1, 2, 3):
        box.enqueue(going(n))
    box.enqueue(going(4, topic="bi.referral.r5w2"))
    sign(box, 1, 2, 3)
    sign(box, 4, topic="bi.referral.r5w2")
    assert [item.evt for item in box.due(0.0, 10)] == ["evt-1", "evt-2", "evt-3", "evt-4"]
    box.postpone("evt-2", "unavailable", 50.0)
    assert [item.evt for item in box.due(49.0, 10)] == ["evt-1", "evt-4"]
    assert [item.evt for item in box.due(50.0, 2)] == ["evt-1", "evt-2"]


def test_the_words_of_the_log_and_of_the_peer_move_an_item_forward_only(box: Mailbox) -> None:
    def state() -> tuple[str, str | None]:
        item = box.outgoing("evt-1")
        assert item is not None
        return item.state, item.code

    box.enqueue(going(1))
    box.mark_promised("evt-1", 7, None)
    assert state() == ("waiting", None)  # unsigned: nobody can have promised it
    sign(box, 1)
    box.postpone("evt-1", "unavailable", 1.0)
    box.mark_arrival("evt-1", "delivered", None, None)  # its receipt overtook the promise
    box.mark_promised("evt-1", 7, b"p")
    assert state() == ("delivered", None)
    box.mark_arrival("evt-1", "rejected", "payload_invalid", "content")
    box.postpone("evt-1", "unavailable", 2.0)
    assert box.refuse("evt-1", "signature_invalid", None, 0) == []
    assert state() == ("delivered", None)
    assert box.due(3.0, 10) == []


def test_each_state_is_told_once(box: Mailbox) -> None:
    box.enqueue(going(1))
    box.enqueue(replace(going(2), connector=""))  # a receipt: nobody to tell
    sign(box, 1, 2)
    assert [(item.evt, item.state) for item in box.untold()] == [("evt-1", "signed")]
    box.mark_told("evt-1", "waiting")  # told of a state that has passed since
    assert len(box.untold()) == 1
    box.mark_told("evt-1", "signed")
    assert box.untold() == []


def test_lines_that_became_nothing_are_remembered(box: Mailbox) -> None:
    assert box.begin_batch("s", "memory", 0)
    assert not box.begin_batch("s", "memory", 1)
    box.turn_down("s", "3", "row_invalid", None)
    found = box.known_line("s", "3")
    assert found is not None
    assert (found.code, found.path) == ("row_invalid", None)
    assert box.known_line("s", "4") is None
    box.mark_settled("s")


# -- inbox -------------------------------------------------------------------------------------------------------------


def test_a_cursor_belongs_to_one_log_and_never_goes_back(box: Mailbox) -> None:
    assert box.arrivals.cursor("log-1", "bi.referral.iom") == -1
    for offset in (4, 2):
        box.arrivals.advance("log-1", "bi.referral.iom", offset)
    assert box.arrivals.cursor("log-1", "bi.referral.iom") == 4
    assert box.arrivals.cursor("log-2", "bi.referral.iom") == -1


def test_storing_moves_the_cursor_with_it(box: Mailbox) -> None:
    box.arrivals.store(coming(0))
    assert box.arrivals.cursor("log-1", "bi.referral.iom") == 0
    assert [(item.topic, item.log_offset) for item in box.arrivals.all()] == [("bi.referral.iom", 0)]
    with pytest.raises(apsw.ConstraintError):
        box.arrivals.store(replace(coming(1), ident="bi/k7t4/0"))
    assert box.arrivals.cursor("log-1", "bi.referral.iom") == 0


def test_delivery_takes_the_first_of_each_thread(box: Mailbox) -> None:
    for n, thread in enumerate(("a", "a", "b", "c")):
        box.arrivals.store(coming(n, thread))
    assert [item.evt for item in box.arrivals.ready(0.0)] == ["0", "2", "3"]
    first, second, _ = box.arrivals.ready(0.0)
    box.arrivals.postpone_delivery(first.n, "unavailable", 9.0)
    box.arrivals.mark_delivered(second.n)
    assert [item.evt for item in box.arrivals.ready(0.0)] == ["3"]
    assert [item.evt for item in box.arrivals.ready(9.0)] == ["0", "3"]
    assert box.counts() == {"incoming.ready": 3, "incoming.delivered": 1}


def test_an_item_that_was_held_is_delivered_behind_what_is_there(box: Mailbox) -> None:
    box.arrivals.store(coming(0, state="held"))
    box.arrivals.store(coming(1))
    [held] = box.arrivals.held(0.0)
    box.arrivals.settle_held(replace(held, state="ready"))
    order = []
    while ready := box.arrivals.ready(0.0):
        order.append(ready[0].evt)
        box.arrivals.mark_delivered(ready[0].n)
    assert order == ["1", "0"]


def test_what_is_deleted_leaves_no_bytes_behind(box: Mailbox, path: Path) -> None:
    box.put_thread(Thread("planted-thread-id", "bi/a", None, "referral", "initiator", "p", "requested", "e"), 0)
    box.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"planted-thread-id" in path.read_bytes()
    box.drop_thread("planted-thread-id")
    box.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"planted-thread-id" not in path.read_bytes()


def test_what_every_round_asks_reads_no_record_that_is_done_with(box: Mailbox) -> None:
    """An agency keeps its records for years: a turn that looked at each of them would take longer every month."""
    asked: set[str] = set()

    def note(_: object, sql: str, __: object) -> bool:
        asked.add(sql)
        return True

    box._file._db.exec_trace = note
    box.arrivals.held(0.0)
    box.arrivals.must_wait("t")
    box.arrivals.may_begin("t", 1)
    box.arrivals.wake_held("t")
    box.arrivals.ready(0.0)
    box.waiting(10, 0.0)
    box.due(0.0, 10)
    box.untold(10)
    box.chains.topics_to_void()
    box.arrivals.knows("bi/k7t4/1", b"d")
    box.arrivals.of("bi/k7t4/1")
    box.outgoing("1")
    box.thread("t")
    box.dues.is_held("t")
    box.dues.awaited(("requested",))
    box.dues.journeys()
    box.dues.unacknowledged()
    box._file._db.exec_trace = None
    plans = {
        sql: [step for _, _, _, step in box._file._db.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))]
        for sql in asked
        if sql.lstrip().startswith(("SELECT", "UPDATE"))
    }
    assert len(plans) >= 15
    whole = {"SCAN incoming", "SCAN outgoing", "SCAN thread"}
    assert {sql: steps for sql, steps in plans.items() if whole.intersection(steps)} == {}


def test_what_is_asked_again_and_again_is_planned_once_and_passes_over_what_nobody_waits_for(box: Mailbox) -> None:
    """A bound LIMIT would have SQLite plan anew each time; receipts have no connector to tell, and there are as many of
    them as of anything else."""
    assert box._file._db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1
    plans: list[str] = []

    def note(_: object, sql: str, __: object) -> bool:
        plans.append(sql)
        return True

    box._file._db.exec_trace = note
    box.untold(10)
    box._file._db.exec_trace = None
    steps = [step for *_, step in box._file._db.execute(f"EXPLAIN QUERY PLAN {plans[-1]}", (10,))]
    assert steps == ["SCAN outgoing USING INDEX outgoing_untold"]
