# SPDX-License-Identifier: Apache-2.0
"""Hostile records, put straight into the log, as only a malicious gateway could: the reader trusts nobody on the way.

For each: its code and path, a signed receipt iff its issuer is certain, the good record behind it arrives, the cursor
has moved, and a planted name stands nowhere. And records that come again, as themselves or as others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from schemas import events
from schemas.envelope import new_evt, new_thread, parse_record
from schemas.forms import Facts
from schemas.keys import SigningKey, b64url, signature_twin, unb64url
from schemas.sealing import make_grant
from tests.adapters.hand_made import DAY, MINISTRY, SHELTER, good, nothing_planted, resign, valued
from tests.agencies import PLANTED, Agencies, at, referral
from tests.domain import Signed
from topics.catalogue import topics_of
from topics.log import Ends, Entry, grant_key
from topics.sqlite_log import SqliteLog


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


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
        town.domain.registry = town.domain.registry.with_agency(replace(ministry, roles=("clinic",)), int(town.now))
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
        record = good(town, spoil=lambda c, i: (c.replace(b"referral.requested", b"referral.invented", 1), i))
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
        assert shelter.box.arrivals.cursor("log-1", topic) == ends.next - 1

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
    assert shelter.box.arrivals.cursor("log-2", "bi.referral.k7t4") == 1
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
