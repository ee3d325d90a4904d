# SPDX-License-Identifier: Apache-2.0
"""The way in: what arrives, what is held, what is turned away for a reason of ours, and who is told.

Records that no honest agency would send are in `test_hostile_records.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.connectors.contract import Arrived, NotNowError, Problem, UndeliverableError
from adapters.runner import Runner
from schemas import lifecycle
from schemas.envelope import chain_hash, new_evt, new_thread, parse_record
from schemas.errors import LogError, RegistryError
from schemas.forms import Facts, Receipt
from tests.adapters.hand_made import DAY, MINISTRY, SHELTER, good, nothing_planted, resign, valued
from tests.agencies import PLANTED, Agencies, Agency, at, bytes_of, identified, referral, said
from tests.domain import Signed


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


# -- what is fine although it looks odd --------------------------------------------------------------------------------


def test_a_key_revoked_after_the_logs_time_counts_for_what_came_before(town: Agencies) -> None:
    town.put(good(town))
    town.wait(60)
    town.domain.revoke(MINISTRY, town.domain.members[MINISTRY].sig.kid, int(town.now))
    town.put(good(town))
    town.settle()
    assert [(item.state, item.code) for item in town[SHELTER].inbox()] == [
        ("delivered", None),
        ("quarantined", "key_revoked"),
    ]


def test_a_record_that_took_days_is_delivered_and_marked_late(town: Agencies) -> None:
    town.put(good(town, iat=int(town.now) - 3 * DAY))
    town.put(good(town, iat=int(town.now) - DAY + 60))
    town.settle()
    assert [one.late for one in town[SHELTER].system.arrived] == [True, False]


def test_a_clock_some_hours_ahead_is_a_laptop(town: Agencies) -> None:
    town.put(good(town, iat=int(town.now) + DAY - 60))
    town.settle()
    assert len(town[SHELTER].system.arrived) == 1


def test_a_gap_in_the_numbers_is_no_fault(town: Agencies) -> None:
    first, second, third = good(town), good(town), good(town)
    for record in (first, third, second):
        town.put(record)
    town.settle()
    assert [one.evt for one in town[SHELTER].system.arrived] == [
        record.manifest.evt for record in (first, third, second)
    ]


def test_what_a_member_sent_before_it_left_is_still_delivered(town: Agencies) -> None:
    town.put(good(town))
    shelter = town[SHELTER]
    shelter.receive()
    registry = town.domain.registry
    left = {name: one for name, one in registry.agencies.items() if name != MINISTRY}
    town.domain.registry = replace(registry, agencies=left)
    shelter.deliver()
    assert [one.issuer_label for one in shelter.system.arrived] == [MINISTRY]


@pytest.mark.parametrize("what", ["a member", "a key"])
def test_whoever_joined_in_a_registry_we_have_not_fetched_is_no_stranger(town: Agencies, what: str) -> None:
    newer = town.domain.registry
    ministry = newer.agency(MINISTRY)
    others = {name: one for name, one in newer.agencies.items() if name != MINISTRY}
    if what == "a key":
        others[MINISTRY] = replace(ministry, keys=tuple(key for key in ministry.keys if key.use == "seal"))
    ours = [replace(newer, version=newer.version - 1, agencies=others)]
    shelter = town[SHELTER]
    shelter.runner = Runner(
        replace(shelter.runner.desk, registry=lambda: ours[-1]), shelter.runner.log, [shelter.system]
    )
    first, behind, elsewhere = good(town), good(town), town.seal("bi/iom", SHELTER, "case.screened", screened())
    for record in (first, behind, elsewhere):
        town.put(record)
    for _ in range(2):
        with pytest.raises(RegistryError) as caught:
            shelter.receive()
        assert (caught.value.code, caught.value.path) == ("registry_stale", "bi.referral.k7t4")
    shelter.deliver()
    assert [one.evt for one in shelter.system.arrived] == [elsewhere.manifest.evt]
    ours.append(newer)
    shelter.receive()
    shelter.deliver()
    assert [one.evt for one in shelter.system.arrived][1:] == [first.manifest.evt, behind.manifest.evt]


def test_a_registry_that_never_comes_stops_a_mailbox_for_a_day_only(town: Agencies) -> None:
    shelter, record = town[SHELTER], good(town)
    value = resign(town, record, lambda payload: payload.update(reg=2**50))
    registry = town.domain.registry
    left = {name: one for name, one in registry.agencies.items() if name != MINISTRY}
    town.domain.registry = replace(registry, agencies=left)
    town.put(record, entry=valued(record, value))
    with pytest.raises(RegistryError, match="registry_stale"):
        shelter.receive()
    town.wait(DAY + 1)
    assert shelter.receive() == 1
    assert [(item.state, item.code) for item in shelter.inbox()] == [("quarantined", "agency_unknown")]


def test_law_enforcement_writing_to_a_shelter_is_turned_away_and_hears_nothing(town: Agencies) -> None:
    """Even a receipt would tell them that the handle is there."""
    shelter = town[SHELTER]
    town.put(town.seal("bi/police", SHELTER, "referral.requested", referral()))
    town.put(good(town))
    town.settle()
    assert [(item.code, item.path) for item in shelter.inbox("quarantined")] == [
        ("not_permitted", "firewall.law_enforcement")
    ]
    assert [item.peer for item in shelter.box.outbox()] == [MINISTRY]
    assert len(shelter.system.arrived) == 1


def test_police_putting_a_referral_into_the_case_mailbox_are_refused_for_the_flow(town: Agencies) -> None:
    """Flow and kind are allowed to them, which is all that a gateway sees; the type is not."""
    iom = town["bi/iom"]
    town.put(town.seal("bi/police", "bi/iom", "referral.requested", referral(), flow="case"))
    town.settle()
    [item] = iom.inbox("quarantined")
    assert (item.code, item.path) == ("not_permitted", "event.referral.requested.flow")
    [opened] = town["bi/police"].opened("receipt.rejected")
    assert opened.facts.receipt is not None
    assert (opened.facts.receipt.code, opened.facts.receipt.path) == (item.code, item.path)


# -- held --------------------------------------------------------------------------------------------------------------


def test_a_grant_that_comes_later_opens_the_record_then(town: Agencies) -> None:
    shelter = town[SHELTER]
    record = good(town)
    town.put(record, grants={})
    other = town.seal("bi/r5w2", SHELTER, "referral.requested", referral())
    town.put(other)
    town.settle()
    assert [(item.state, item.code) for item in shelter.inbox()] == [("held", "grant_missing"), ("delivered", None)]
    assert shelter.sent("receipt.rejected") == []
    town.run(town.log.put_grants("bi.grants.k7t4", record.grant_puts()))
    town.wait(900)
    town.settle()
    assert [one.evt for one in shelter.system.arrived] == [other.manifest.evt, record.manifest.evt]
    assert len(town[MINISTRY].opened("receipt.delivered")) == 1


def test_a_grant_that_does_not_come_in_a_day_is_told(town: Agencies) -> None:
    shelter = town[SHELTER]
    town.put(good(town), grants={})
    for _ in range(100):
        town.wait(900)
        town.settle()
    [item] = shelter.inbox()
    assert (item.state, item.code) == ("quarantined", "grant_missing")
    [opened] = town[MINISTRY].opened("receipt.rejected")
    assert opened.facts.receipt is not None
    assert opened.facts.receipt.code == "grant_missing"


def conversation(town: Agencies) -> list[Signed]:
    """The ministry's three answers to a referral of the shelter's."""
    shelter = town[SHELTER]
    evt = shelter.evt(shelter.draft(MINISTRY, "referral.requested", referral()))
    shelter.send()
    thread = shelter.outgoing(evt).thread
    return [
        town.seal(MINISTRY, SHELTER, type, said(), thread=thread, ref=evt)
        for type in ("referral.received", "referral.accepted", "referral.started")
    ]


def test_an_answer_without_its_grant_holds_what_follows_on_its_thread(town: Agencies) -> None:
    shelter = town[SHELTER]
    received, accepted, started = conversation(town)
    town.put(received)
    town.put(accepted, grants={})
    town.put(started)
    town.put(good(town))
    town.settle([SHELTER])
    assert shelter.system.types == ["referral.received", "referral.requested"]
    assert [item.state for item in shelter.inbox()] == ["delivered", "held", "held", "delivered"]
    town.run(town.log.put_grants("bi.grants.k7t4", accepted.grant_puts()))
    town.wait(900)
    town.settle([SHELTER])
    assert shelter.system.types == [
        *("referral.received", "referral.requested"),
        *("referral.accepted", "referral.started"),
    ]
    assert [one.state for one in shelter.system.arrived][2:] == ["accepted", "in-progress"]


@pytest.mark.parametrize("late", [(), ("begins",), ("follows",), ("begins", "follows")])
def test_what_overtook_its_threads_beginning_waits_and_is_delivered_behind_it(
    town: Agencies, monkeypatch: pytest.MonkeyPatch, late: tuple[str, ...]
) -> None:
    """A screening put into the log before its identification, with each one's grant there or late."""
    # Today a screening may also begin a case; without that step it only follows, as most events to come do.
    case = lifecycle.MACHINES["case"]
    steps = {key: step for key, step in case.steps.items() if key != (None, "case.screened", "initiator")}
    monkeypatch.setattr(lifecycle, "MACHINES", {**lifecycle.MACHINES, "case": replace(case, steps=steps)})
    registry, iom = town.domain.registry, town["bi/iom"]
    screener = replace(registry.agency(MINISTRY), roles=("screener", "assistance"))
    town.domain.registry = registry.with_agency(screener, int(town.now))
    thread = new_thread(town.domain.random)
    follows = town.seal(MINISTRY, "bi/iom", "case.screened", screened(), thread=thread)
    begins = town.seal(MINISTRY, "bi/iom", "case.identified", identified(), thread=thread)
    other = town.seal(MINISTRY, "bi/iom", "referral.requested", referral())
    town.put(follows, grants={} if "follows" in late else None)
    town.put(begins, grants={} if "begins" in late else None)
    town.put(other)
    iom.receive()
    assert next(item.state for item in iom.inbox() if item.thread == thread) == "held"
    for _ in range(3):
        town.settle()
        town.wait(901)
    if late:
        assert iom.system.types == ["referral.requested"]
    for name, record in (("begins", begins), ("follows", follows)):
        if name in late:
            town.run(town.log.put_grants("bi.grants.iom", record.grant_puts()))
            town.settle()
            town.wait(901)
            town.settle()
    cases = [one for one in iom.system.arrived if one.thread == thread]
    assert [(one.type, one.state) for one in cases] == [
        ("case.identified", "identified"),
        ("case.screened", "screened"),
    ]
    assert {item.state for item in iom.inbox()} == {"delivered"}
    assert {item.code for item in iom.inbox()} == {None}
    assert len(town[MINISTRY].opened("receipt.delivered")) == 3
    assert iom.sent("receipt.rejected") == []


def screened() -> Facts:
    return identified().model_copy(update={"htcds": {"prs_Gender": "Feminine"}})


def test_an_answer_to_what_we_never_sent_is_told_once_all_is_read(town: Agencies) -> None:
    shelter = town[SHELTER]
    for number in range(3):
        town.put(good(town))
        if number == 0:
            lost = town.seal("bi/r5w2", SHELTER, "referral.accepted", said(), ref=new_evt(1, town.domain.random))
            town.put(lost)
    shelter.receive()
    shelter.deliver()
    assert [item.code for item in shelter.inbox("quarantined")] == ["thread_unknown"]
    town.settle()
    [opened] = town["bi/r5w2"].opened("receipt.rejected")
    assert opened.facts.receipt is not None
    assert (opened.facts.receipt.code, opened.facts.receipt.path) == ("thread_unknown", "L1.thread")
    assert len(shelter.system.arrived) == 3


# -- receipts ----------------------------------------------------------------------------------------------------------


def receipt_for(sent_digest: str, code: str | None = None, path: str | None = None) -> Facts:
    return Facts(
        occurred_at=at(),
        receipt=Receipt(
            record_sha256="0" * 64,
            signed_sha256=sent_digest,
            topic="bi.referral.k7t4",
            offset=0,
            received_at=at(),
            opened=True,
            code=code,
            path=path,
        ),
    )


def sent_referral(town: Agencies) -> tuple[Agency, str, str, str]:
    """(agency, evt, digest of what was signed, thread); signed and in the log, not read by the shelter."""
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    iom.send()
    [stored] = town.run(town.log.read("bi.referral.k7t4", -1))
    return iom, evt, parse_record(stored.value).digest.hex(), iom.outgoing(evt).thread


def test_a_receipt_tells_that_a_machine_has_it(town: Agencies) -> None:
    iom, evt, digest, thread = sent_referral(town)
    town.put(town.seal(SHELTER, "bi/iom", "receipt.delivered", receipt_for(digest), thread=thread, ref=evt))
    iom.receive()
    assert iom.outgoing(evt).state == "delivered"
    found = iom.box.thread(thread)
    assert found is not None
    assert found.state == "requested"  # received is a person's act
    assert iom.system.arrived == []


def test_a_receipt_of_something_else_than_was_sent_is_an_alarm(town: Agencies) -> None:
    iom, evt, _, thread = sent_referral(town)
    town.put(town.seal(SHELTER, "bi/iom", "receipt.delivered", receipt_for("1" * 64), thread=thread, ref=evt))
    iom.receive()
    item = iom.outgoing(evt)
    assert (item.state, item.code, item.path) == ("rejected", "record_rewritten", "receipt.signed_sha256")


def test_only_the_recipients_word_counts(town: Agencies) -> None:
    iom, evt, digest, thread = sent_referral(town)
    town.put(town.seal("bi/r5w2", "bi/iom", "receipt.delivered", receipt_for(digest), thread=thread, ref=evt))
    iom.receive()
    assert iom.outgoing(evt).state == "promised"


def test_the_first_receipt_counts(town: Agencies) -> None:
    iom, evt, digest, thread = sent_referral(town)
    no = receipt_for(digest, code="payload_invalid", path="content")
    town.put(town.seal(SHELTER, "bi/iom", "receipt.rejected", no, thread=thread, ref=evt))
    town.put(town.seal(SHELTER, "bi/iom", "receipt.delivered", receipt_for(digest), thread=thread, ref=evt))
    iom.receive()
    item = iom.outgoing(evt)
    assert (item.state, item.code, item.path) == ("rejected", "payload_invalid", "content")


def test_receipts_are_answered_by_none(town: Agencies) -> None:
    iom, evt, _, thread = sent_referral(town)
    receipt = receipt_for("1" * 64)
    town.put(town.seal(SHELTER, "bi/iom", "receipt.delivered", receipt, thread=thread, ref=evt))
    broken = town.seal(
        *(SHELTER, "bi/iom", "receipt.delivered", receipt), thread=thread, ref=evt, spoil=lambda c, i: (b"{", i)
    )
    town.put(broken)
    iom.receive()
    assert [item.kind for item in iom.inbox()] == ["control", "control"]
    assert [item.state for item in iom.inbox()] == ["delivered", "quarantined"]
    assert [item.type for item in iom.box.outbox()] == ["referral.requested"]


# -- delivery ----------------------------------------------------------------------------------------------------------


def test_what_arrives_says_all_that_a_person_needs(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town[SHELTER]
    facts = referral()
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", facts, person="dossier-7731"))
    town.settle()
    [arrived] = shelter.system.arrived
    assert arrived == Arrived(
        ident=f"bi/iom/{evt}",
        iss="bi/iom",
        evt=evt,
        type="referral.requested",
        thread=iom.outgoing(evt).thread,
        ref=None,
        facts=facts,
        person=None,
        state="requested",
        issuer_label="OIM (inventée)",
        late=False,
        at_ms=int(town.now * 1000),
        may_answer=("referral.received", "referral.accepted", "referral.declined", "information.requested"),
    )
    shelter.draft("bi/iom", "referral.accepted", said(), thread=arrived.thread)
    town.settle()
    [answer] = iom.system.arrived
    assert (answer.type, answer.person, answer.state, answer.ref) == (
        *("referral.accepted", "dossier-7731", "accepted"),
        evt,
    )


def test_a_system_that_cannot_now_is_tried_later_and_stops_only_its_thread(town: Agencies) -> None:
    shelter = town[SHELTER]
    received, accepted, started = conversation(town)
    for record in (received, accepted, started, good(town)):
        town.put(record)

    def closed(arrived: Arrived) -> None:
        if arrived.type == "referral.accepted":
            raise NotNowError

    shelter.system.before_deliver = closed
    town.settle([SHELTER])
    assert shelter.system.types == ["referral.received", "referral.requested"]
    [stuck] = [item for item in shelter.inbox("ready") if item.attempts]
    assert stuck.code == "unavailable"
    assert 2.5 <= stuck.next_at - town.now <= 5
    assert shelter.deliver() == 0
    for _ in range(12):
        town.wait(900)
        shelter.deliver()
    [stuck] = [item for item in shelter.inbox("ready") if item.attempts]
    assert stuck.attempts == 13
    assert stuck.next_at - town.now <= 900
    shelter.system.before_deliver = lambda _arrived: None
    town.wait(900)
    town.settle([SHELTER])
    assert shelter.system.types[2:] == ["referral.accepted", "referral.started"]
    assert [item.code for item in shelter.inbox()] == [None] * 4


def test_what_a_system_will_never_take_is_quarantined_and_may_be_tried_again_by_hand(town: Agencies) -> None:
    shelter = town[SHELTER]
    town.put(good(town))
    town.put(good(town))
    first = town.run(town.log.read("bi.referral.k7t4", -1))[0].ident.rpartition("/")[2]

    def never(arrived: Arrived) -> None:
        if arrived.evt == first:
            raise UndeliverableError(Problem("ligne 1", "row_invalid", PLANTED, PLANTED))

    shelter.system.before_deliver = never
    town.settle()
    [item] = shelter.inbox("quarantined")
    assert (item.evt, item.code, item.path) == (first, "row_invalid", None)
    assert len(shelter.system.arrived) == 1
    assert len(town[MINISTRY].opened("receipt.delivered")) == 2  # the machine has both
    shelter.system.before_deliver = lambda _arrived: None
    assert shelter.box.retry(first) == 1
    town.settle()
    assert [one.evt for one in shelter.system.arrived][-1] == first
    nothing_planted(town, item)


def test_what_was_turned_away_for_its_own_sake_is_not_retried(town: Agencies) -> None:
    shelter = town[SHELTER]
    town.put(good(town, spoil=lambda c, i: (b"{", i)))
    town.settle()
    assert shelter.box.retry() == 0
    assert [item.state for item in shelter.inbox()] == ["quarantined"]


def test_our_own_disk_failing_quarantines_nothing(town: Agencies, monkeypatch: pytest.MonkeyPatch) -> None:
    shelter = town[SHELTER]
    town.put(good(town))
    shelter.receive()

    def failing(_thread: str) -> None:
        raise LogError("unavailable", "mailbox")

    with monkeypatch.context() as broken:
        broken.setattr(shelter.box, "thread", failing)
        with pytest.raises(LogError):
            shelter.deliver()
    assert [item.state for item in shelter.inbox()] == ["ready"]
    shelter.deliver()
    assert len(shelter.system.arrived) == 1


def test_a_key_that_is_gone_at_delivery_quarantines_the_item(town: Agencies, monkeypatch: pytest.MonkeyPatch) -> None:
    shelter = town[SHELTER]
    town.put(good(town))
    shelter.receive()
    monkeypatch.setattr(town, "keys", lambda agency: replace(Agencies.keys(town, agency), seal={}))
    shelter = town.open(SHELTER)
    shelter.deliver()
    assert [(item.state, item.code) for item in shelter.inbox()] == [("quarantined", "grant_unopenable")]


def test_the_chain_as_seen_is_what_the_issuer_signed(town: Agencies) -> None:
    first = good(town)
    town.put(first)
    town.settle()
    seen = town[SHELTER].box.arrivals.seen_hash(MINISTRY, "bi.referral.k7t4", 1)
    assert seen == chain_hash(first.value.partition(b"\n")[0])


def test_bodies_stay_sealed_at_rest(town: Agencies) -> None:
    shelter = town[SHELTER]
    town["bi/iom"].draft(SHELTER, "referral.requested", referral(), person="dossier-7731")
    town.settle()
    assert shelter.system.arrived[0].facts.referral is not None
    seen = bytes_of(town.folder)
    assert PLANTED.encode() not in seen
    assert PLANTED.encode() not in bytes_of(town.folder, "*-wal")
    for name in town._members:
        assert town.path(name).stat().st_mode & 0o777 == 0o600
