# SPDX-License-Identifier: Apache-2.0
"""The way in: what arrives, what is held, what is turned away, and who is told.

The hostile records are put straight into the log, as only a malicious gateway could: the reader trusts nobody on the
way. For each: its code and path, a signed receipt iff its issuer is certain, the good record behind it arrives, the
cursor has moved, and a planted name stands nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import pytest
from typing_extensions import Unpack

from adapters.connectors.contract import Arrived, NotNowError, Problem, UndeliverableError
from adapters.mailbox_rows import Incoming
from adapters.runner import Runner
from schemas import events, lifecycle
from schemas.envelope import EVENT_TYP, Kind, chain_hash, new_evt, new_thread, parse_record, sign_jws
from schemas.errors import LogError, RegistryError
from schemas.forms import Facts, Receipt
from schemas.keys import SigningKey, b64url, signature_twin, unb64url
from schemas.sealing import make_grant
from tests.agencies import PLANTED, Agencies, Agency, at, bytes_of, identified, referral, said
from tests.domain import Signed
from topics.catalogue import topics_of
from topics.log import Ends, Entry, grant_key
from topics.sqlite_log import SqliteLog

SHELTER, MINISTRY = "bi/k7t4", "bi/min-solidarity"
DAY = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


class Changes(TypedDict, total=False):
    kind: Kind
    thread: str
    evt: str
    spoil: Callable[[bytes, bytes], tuple[bytes, bytes]]
    iat: int
    seq: int
    prev: str
    chain: bool


def good(town: Agencies, **more: Unpack[Changes]) -> Signed:
    """A referral from the ministry to the shelter, made by hand."""
    return town.seal(MINISTRY, SHELTER, "referral.requested", referral(), **more)


@dataclass(frozen=True)
class Bad:
    """One hostile record, its entry in the log, and what becomes of it."""

    record: Signed
    code: str
    path: str | None
    told: bool
    """Whether the issuer is certain and gets a signed receipt."""
    entry: Entry | None = None
    grants: dict[str, bytes] | None = None
    state: str = "quarantined"


def resign(town: Agencies, record: Signed, change: Callable[[dict[str, object]], None]) -> bytes:
    """The record with another manifest, signed by its issuer."""
    line1, _, body = record.value.partition(b"\n")
    payload = json.loads(unb64url(line1.split(b".")[1].decode()))
    change(payload)
    return sign_jws(EVENT_TYP, payload, town.domain.members[record.manifest.iss].sig) + b"\n" + body


def valued(record: Signed, value: bytes) -> Entry:
    return replace(record.entry, value=value)


def spoil_gender(content: bytes, identity: bytes) -> tuple[bytes, bytes]:
    """An HTCDS code that there is none, and a name where nobody looks."""
    assert b'"Feminine"' in content
    return content.replace(b'"Feminine"', json.dumps(PLANTED).encode()), identity


def with_gender() -> Facts:
    return referral(htcds={"prs_Gender": "Feminine"})


def hostile() -> dict[str, Callable[[Agencies], Bad]]:
    def forged_signature(town: Agencies) -> Bad:
        record = good(town)
        head, payload, signature = record.value.partition(b"\n")[0].split(b".")
        flipped = bytearray(unb64url(signature.decode()))
        flipped[5] ^= 1
        line1 = b".".join((head, payload, b64url(bytes(flipped)).encode()))
        value = line1 + record.value[len(line1) :]
        return Bad(record, "signature_invalid", "L1", told=False, entry=valued(record, value))

    def other_agencys_key(town: Agencies) -> Bad:
        facts = referral()
        evt, thread = new_evt(int(town.now * 1000), town.domain.random), new_thread(town.domain.random)
        parts = events.compose(
            *("referral.requested", facts),
            iss=MINISTRY,
            to=SHELTER,
            evt=evt,
            thread=thread,
            ref=None,
            pseudonym="pseudonym-1",
            recorded_at=at(),
            allowed=None,
            salt=bytes(32),
        )
        record = town.domain.record(
            *(MINISTRY, SHELTER, "referral", "request"),
            content=parts.content,
            identity=parts.identity,
            evt=evt,
            thread=thread,
            signer=town.domain.members["bi/r5w2"].sig,
            chain=False,
        )
        return Bad(record, "issuer_mismatch", "L1.header.kid", told=False)

    def unknown_key(town: Agencies) -> Bad:
        record = town.domain.record(MINISTRY, SHELTER, signer=SigningKey.generate(town.domain.random), chain=False)
        return Bad(record, "key_unknown", None, told=False)

    def revoked_key(town: Agencies) -> Bad:
        record = good(town)
        town.domain.revoke("bi/iom", town.domain.members["bi/iom"].sig.kid, int(town.now))
        record = town.seal("bi/iom", SHELTER, "referral.requested", referral())
        return Bad(record, "key_revoked", None, told=False)

    def swapped_parts(town: Agencies) -> Bad:
        record = good(town)
        line1, _, body = record.value.partition(b"\n")
        value = line1 + b"\n" + b"~".join(reversed(body.split(b"~")))
        return Bad(record, "part_digest_mismatch", "L2[0]", told=False, entry=valued(record, value))

    def parts_of_another(town: Agencies) -> Bad:
        one, two = good(town), good(town)
        value = two.value.partition(b"\n")[0] + b"\n" + one.value.partition(b"\n")[2]
        return Bad(two, "part_digest_mismatch", "L2[0]", told=False, entry=valued(two, value))

    def parts_of_another_signed(town: Agencies) -> Bad:
        one, two = good(town), good(town)
        stolen = json.loads(unb64url(one.value.split(b".")[1].decode()))["parts"]
        value = resign(town, two, lambda payload: payload.update(parts=stolen)).partition(b"\n")[0]
        value += b"\n" + one.value.partition(b"\n")[2]
        return Bad(two, "header_forbidden", "L2[0].header", told=False, entry=valued(two, value))

    def wrong_commitment(town: Agencies) -> Bad:
        record = good(town)

        def change(payload: dict[str, object]) -> None:
            parts = payload["parts"]
            assert isinstance(parts, list)
            parts[1]["kc"] = parts[0]["kc"]

        value = resign(town, record, change)
        manifest = parse_record(value).manifest
        key = town.domain.members[SHELTER].seal
        grant = make_grant(manifest, record.keys, SHELTER, key.public)
        return Bad(
            *(record, "key_commitment_mismatch", "L1.parts[1].kc"),
            told=True,
            entry=valued(record, value),
            grants={grant_key(manifest.ident, key.kid): grant},
        )

    def grant_for_another_kid(town: Agencies) -> Bad:
        record = good(town)
        other = town.domain.members["bi/r5w2"].seal
        grant = make_grant(record.manifest, record.keys, "bi/r5w2", other.public)
        key = grant_key(record.manifest.ident, town.domain.members[SHELTER].seal.kid)
        return Bad(record, "grant_unopenable", "grant.kid", told=True, grants={key: grant})

    def grant_of_another_record(town: Agencies) -> Bad:
        one, two = good(town), good(town)
        key = grant_key(two.manifest.ident, town.domain.members[SHELTER].seal.kid)
        return Bad(two, "grant_unopenable", "grant", told=True, grants={key: one.grants[0]})

    def grant_without_sense(town: Agencies) -> Bad:
        record = good(town)
        key = grant_key(record.manifest.ident, town.domain.members[SHELTER].seal.kid)
        return Bad(record, "record_malformed", "grant", told=True, grants={key: b"{"})

    def type_of_another_kind(town: Agencies) -> Bad:
        record = good(town, kind="update")
        return Bad(record, "not_permitted", "event.referral.requested.kind", told=True)

    def sender_not_permitted(town: Agencies) -> Bad:
        ministry = town.domain.registry.agency(MINISTRY)
        town.domain.registry = town.domain.registry.with_agency(replace(ministry, roles=("legal-aid",)), int(town.now))
        return Bad(good(town), "not_permitted", "event.referral.requested.from", told=True)

    def invalid_code(town: Agencies) -> Bad:
        record = town.seal(MINISTRY, SHELTER, "referral.requested", with_gender(), spoil=spoil_gender)
        return Bad(record, "payload_invalid", "content.payload.entry[", told=True)

    def no_json(town: Agencies) -> Bad:
        record = good(town, spoil=lambda content, identity: (b"{" + PLANTED.encode(), identity))
        return Bad(record, "payload_invalid", "content", told=True)

    def deep_json(town: Agencies) -> Bad:
        record = good(town, spoil=lambda content, identity: (b"[" * 400 + b"]" * 400, identity))
        return Bad(record, "payload_invalid", "content", told=True)

    def unknown_member(town: Agencies) -> Bad:
        named = b'{"' + PLANTED.encode() + b'":1,'
        record = good(town, spoil=lambda content, identity: (content.replace(b"{", named, 1), identity))
        return Bad(record, "payload_invalid", "content.*", told=True)

    def unknown_type(town: Agencies) -> Bad:
        record = good(town, spoil=lambda c, i: (c.replace(b"referral.requested", b"referral.revoked", 1), i))
        return Bad(record, "payload_invalid", "content.type", told=True)

    def consent_of_another(town: Agencies) -> Bad:
        """The content of a record to somebody else, sealed to us."""
        other = events.compose(
            *("referral.requested", referral()),
            iss=MINISTRY,
            to="bi/r5w2",
            evt=new_evt(int(town.now * 1000), town.domain.random),
            thread=new_thread(town.domain.random),
            ref=None,
            pseudonym="pseudonym-1",
            recorded_at=at(),
            allowed=None,
            salt=bytes(32),
        )
        record = good(town, spoil=lambda _content, _identity: (other.content, other.identity))
        return Bad(record, "payload_invalid", "content.claims.recipient", told=True)

    def clock_two_days_ahead(town: Agencies) -> Bad:
        return Bad(good(town, iat=int(town.now) + 2 * DAY), "clock_ahead", "L1.iat", told=True)

    def broken_chain(town: Agencies) -> Bad:
        town.put(good(town))
        return Bad(good(town, prev=b64url(bytes(32)), chain=False), "chain_broken", "L1.prev", told=True)

    def number_used_twice(town: Agencies) -> Bad:
        town.put(good(town))
        return Bad(good(town, seq=1, prev="", chain=False), "chain_broken", "L1.seq", told=True)

    def training_record(town: Agencies) -> Bad:
        record = good(town)
        value = resign(town, record, lambda payload: payload.update(training=True))
        return Bad(record, "training_record", None, told=False, entry=valued(record, value))

    def malformed(town: Agencies) -> Bad:
        record = good(town)
        return Bad(record, "record_malformed", "record", told=False, entry=valued(record, b"x" * 90))

    def key_copy_differs(town: Agencies) -> Bad:
        record = good(town)
        return Bad(record, "key_mismatch", "key", told=False, entry=replace(record.entry, key=b"x"))

    def header_copy_differs(town: Agencies) -> Bad:
        record = good(town)
        headers = (("ce_source", b"bi/k7t4"),)
        return Bad(record, "header_mismatch", "ce_source", told=False, entry=replace(record.entry, headers=headers))

    def put_into_another_mailbox(town: Agencies) -> Bad:
        record = good(town)
        return Bad(record, "topic_mismatch", "topic", told=False, entry=replace(record.entry, topic="bi.case.k7t4"))

    def thread_of_somebody_else(town: Agencies) -> Bad:
        iom = town["bi/iom"]
        evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
        town.settle()
        return Bad(good(town, thread=iom.outgoing(evt).thread), "not_permitted", "L1.thread", told=True)

    def beginning_twice(town: Agencies) -> Bad:
        first = good(town)
        town.put(first)
        again = good(town, thread=first.manifest.thread)
        return Bad(again, "transition_invalid", "referral.requested", told=True)

    found = {name: make for name, make in locals().items() if callable(make)}
    return {name.replace("_", " "): make for name, make in found.items()}


@pytest.mark.parametrize("what", hostile())
def test_a_bad_record_is_turned_away_and_the_good_one_behind_it_arrives(town: Agencies, what: str) -> None:
    shelter = town[SHELTER]
    bad = hostile()[what](town)
    town.put(bad.record, entry=bad.entry, grants=bad.grants)
    behind = town.seal("bi/r5w2", SHELTER, "referral.requested", referral())
    town.put(behind)
    before = {one.evt for one in shelter.system.arrived}
    town.settle()

    [item] = shelter.inbox("quarantined")
    assert item.code == bad.code
    assert (item.path or "").startswith(bad.path or "")
    assert (item.path is None) == (bad.path is None)
    arrived = [one.evt for one in shelter.system.arrived if one.evt not in before]
    assert arrived[-1] == behind.manifest.evt
    assert bad.record.manifest.evt not in arrived
    for topic in ("bi.referral.k7t4", "bi.case.k7t4"):
        ends: Ends = town.run(town.log.ends(topic))
        assert shelter.box.cursor("log-1", topic) == ends.next - 1

    receipts = [one for one in town[MINISTRY].opened("receipt.rejected") if one.facts.receipt]
    if bad.told:
        [receipt] = [one.facts.receipt for one in receipts]
        assert receipt is not None
        assert (receipt.code, receipt.path) == (item.code, item.path)
        value = (bad.entry or bad.record.entry).value
        assert receipt.signed_sha256 == parse_record(value).digest.hex()
        assert not receipt.opened
    else:
        assert receipts == []
        assert shelter.sent("receipt.rejected") == []
        assert (item.iss, item.evt, item.ident) == ("", "", "")
    nothing_planted(town, item)


def nothing_planted(town: Agencies, *items: Incoming) -> None:
    for item in items:
        assert PLANTED not in f"{item.code} {item.path}"
    assert PLANTED.encode() not in bytes_of(town.folder)


# -- the same again ----------------------------------------------------------------------------------------------------


def twin(record: Signed) -> Entry:
    line1, _, body = record.value.partition(b"\n")
    head, payload, signature = line1.split(b".")
    other = b64url(signature_twin(unb64url(signature.decode()))).encode()
    return valued(record, b".".join((head, payload, other)) + b"\n" + body)


def through_another_log(town: Agencies, entries: list[Entry], records: list[Signed], tmp_path: Path) -> None:
    """The domain has moved to another log: cursors start again, everything comes again."""
    other = SqliteLog.open(
        str(tmp_path / "log-2.db"),
        topics=topics_of(town.domain.registry),
        clock_ms=lambda: int(town.now * 1000),
        threads=False,
        random_id=lambda: "log-2",
    )
    for record in records:
        town.run(other.put_grants("bi.grants.k7t4", record.grant_puts()))
    # The idents are the log's own word, and no reader may believe it.
    town.run(other.append([replace(entry, ident=f"{entry.ident}-{n}") for n, entry in enumerate(entries)]))
    shelter = town[SHELTER]
    before, shelter.runner.log = shelter.runner.log, other
    shelter.receive()
    shelter.deliver()
    shelter.runner.log = before
    town.run(other.close())


@pytest.mark.parametrize("as_twin", [False, True])
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_record_that_comes_again_is_the_same_record_whether_taken_or_quarantined(
    town: Agencies, tmp_path: Path, as_twin: bool, spoilt: bool
) -> None:
    shelter = town[SHELTER]
    spoil = (lambda c, i: (b"{", i)) if spoilt else (lambda c, i: (c, i))
    record = good(town, spoil=spoil)
    town.put(record)
    town.settle()
    before = [item.state for item in shelter.inbox()]
    again = twin(record) if as_twin else record.entry
    assert (again.value == record.value) != as_twin
    behind = town.seal("bi/r5w2", SHELTER, "referral.requested", referral())
    through_another_log(town, [again, behind.entry], [record, behind], tmp_path)
    assert [item.state for item in shelter.inbox()][: len(before)] == before
    assert len(shelter.inbox()) == 2
    assert shelter.box.cursor("log-2", "bi.referral.k7t4") == 1
    town.settle()
    assert [item.state for item in shelter.inbox()] == [before[0], "delivered"]
    assert len([item for item in shelter.box.outbox() if item.peer == MINISTRY]) == 1  # one receipt


def test_another_record_under_a_known_event_is_turned_away_and_the_first_stands(town: Agencies, tmp_path: Path) -> None:
    shelter = town[SHELTER]
    first = good(town)
    town.put(first)
    town.settle()
    other = good(town, evt=first.manifest.evt, chain=False)
    behind = good(town)
    through_another_log(town, [first.entry, other.entry, other.entry, behind.entry], [first, other, behind], tmp_path)
    assert [(item.state, item.code) for item in shelter.inbox()][:2] == [
        ("delivered", None),
        ("quarantined", "evt_conflict"),
    ]
    assert len(shelter.inbox()) == 3
    town.settle()
    [receipt] = [one.facts.receipt for one in town[MINISTRY].opened("receipt.rejected")]
    assert receipt is not None
    assert receipt.code == "evt_conflict"
    assert receipt.signed_sha256 == parse_record(other.value).digest.hex()
    delivered = [one.facts.receipt for one in town[MINISTRY].opened("receipt.delivered")]
    assert [one.signed_sha256 for one in delivered if one] == [
        parse_record(record.value).digest.hex() for record in (first, behind)
    ]


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
    assert iom.inbox()[0].state == "held"
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
        may_answer=("referral.received", "referral.accepted", "referral.declined"),
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
    seen = town[SHELTER].box.seen_hash(MINISTRY, "bi.referral.k7t4", 1)
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
