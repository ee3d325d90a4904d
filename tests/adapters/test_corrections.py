# SPDX-License-Identifier: Apache-2.0
"""What should not stand is taken back on both sides, and a court gets one part until its day, with somebody looking."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from adapters.connectors.contract import NotNowError
from adapters.corrections import Corrections
from adapters.rights_book import Review, RightsBook
from schemas.envelope import Acts
from schemas.errors import LogError, OrderError, PayloadError, PolicyError, RecordError, UmuhuzaError
from schemas.forms import Birth, Facts, Lawful, Name
from schemas.plain.record import RecordCorrected, RecordRetracted
from schemas.plain.rights import DisclosureRequested, DisclosureReviewed, ErasureAttested, ErasureRequested
from schemas.sealing import parse_grant
from tests.agencies import PLANTED, Agencies, Agency, at, bytes_of, consented, identified, referral
from tests.domain import MEMBERS
from tests.e2e.planted import every_file, traces

IOM, MINISTRY, SHELTER, POLICE, COURT = "bi/iom", "bi/min-solidarity", "bi/k7t4", "bi/police", "bi/court"
COMMISSION = "bi/ccsprtp"
DAY = 86_400


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COURT, ("Tribunal (inventé)", ("judiciary",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def rights(agency: Agency) -> Corrections:
    return agency.runner.inbox.corrections


def sent(town: Agencies, sender: str, to: str, facts: Facts | None = None) -> str:
    """A referral that has arrived; its evt."""
    evt = town[sender].evt(town[sender].draft(to, "referral.requested", facts or referral(), person="case-1"))
    town.settle()
    return evt


def states(agency: Agency, ident: str) -> list[str]:
    return [item.state for item in agency.inbox() if item.ident == ident]


def attested(agency: Agency) -> list[ErasureAttested]:
    return [one.facts.said for one in agency.opened("erasure.attested") if isinstance(one.facts.said, ErasureAttested)]


def open_reviews(agency: Agency) -> list[Review]:
    return RightsBook(agency.box).reviews()


def grant_bytes(agency: Agency, evt: str) -> bytes:
    """The ciphertext of the one grant of a record, as its holder keeps it."""
    [item] = [item for item in agency.inbox() if item.evt == evt]
    assert item.grant_value is not None
    raw = item.grant_value
    assert parse_grant(raw).evt == evt
    return raw[raw.index(b'"ct":"') + 6 : -2]


# -- retraction and erasure --------------------------------------------------------------------------------------------


def test_what_went_to_the_wrong_agency_is_retracted_erased_there_and_attested(town: Agencies, tmp_path: Path) -> None:
    evt = sent(town, IOM, MINISTRY)
    iom, ministry = town[IOM], town[MINISTRY]
    secret = grant_bytes(ministry, evt)
    assert secret in bytes_of(tmp_path, "bi-min-solidarity.db*")
    assert rights(iom).retract(evt, "wrong-recipient") == "retracted"
    town.settle()
    assert states(ministry, f"{IOM}/{evt}") == ["erased"]
    assert f"{IOM}/{evt}" not in {one.ident for one in ministry.system.arrived}
    for agency in (iom, ministry):
        assert secret not in bytes_of(tmp_path, f"{agency.id.replace('/', '-')}.db*")
        thread = agency.box.thread(iom.outgoing(evt).thread)
        assert thread is not None
        assert thread.state == "retracted"
    assert [(one.record, one.gone) for one in attested(iom)] == [(f"{IOM}/{evt}", ("grant", "delivered-copies"))]
    assert [(one.kind, one.ident) for one in open_reviews(ministry)] == [("incident", f"{IOM}/{evt}")]
    assert [(one.kind, one.peer) for one in open_reviews(iom)] == [("incident", MINISTRY)]
    with pytest.raises(RecordError) as caught:
        ministry.runner.inbox.opened(next(item for item in ministry.inbox() if item.evt == evt))
    assert caught.value.code == "grant_missing"
    assert traces([PLANTED], every_file(tmp_path)) == []


def test_the_record_and_its_chain_stay_when_its_keys_go(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    [before] = [item.record for item in town[MINISTRY].inbox() if item.evt == evt]
    rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
    town.settle()
    assert [item.record for item in town[MINISTRY].inbox() if item.evt == evt] == [before]
    sent(town, IOM, MINISTRY)  # the chain goes on
    assert town[MINISTRY].inbox("quarantined") == []


def test_what_is_not_signed_yet_is_only_cancelled(town: Agencies) -> None:
    iom = town[IOM]
    evt = iom.evt(iom.draft(MINISTRY, "referral.requested", referral()))
    assert rights(iom).retract(evt, "wrong-recipient") == "cancelled"
    town.settle()
    assert town[MINISTRY].inbox() == []
    assert open_reviews(iom) == []


def test_what_is_on_its_way_just_now_is_retracted_a_moment_later(town: Agencies) -> None:
    iom = town[IOM]
    evt = iom.evt(iom.draft(MINISTRY, "referral.requested", referral()))
    iom.runner.sender.sign_waiting()
    with pytest.raises(LogError) as caught:
        rights(iom).retract(evt, "wrong-recipient")
    assert caught.value.retriable
    assert iom.sent("record.retracted") == []
    town.settle()
    assert rights(iom).retract(evt, "wrong-recipient") == "retracted"


def test_what_erases_is_not_said_by_hand_where_it_would_erase_nothing(town: Agencies) -> None:
    """Drafted as JSON the words would leave, and every key would stay where it is."""
    evt = sent(town, IOM, MINISTRY)
    iom, ident = town[IOM], f"{IOM}/{evt}"
    thread = iom.outgoing(evt).thread
    for type_, words, on in (
        ("record.retracted", RecordRetracted(evt=evt, reason="wrong-recipient"), thread),
        ("erasure.requested", ErasureRequested(record=ident, ground="person"), None),
        ("erasure.attested", ErasureAttested(record=ident, gone=("grant",)), None),
    ):
        refused = iom.draft(MINISTRY, type_, Facts(occurred_at=at(), said=words), thread=on)
        assert refused.problem is not None
        assert (refused.problem.code, refused.problem.path) == ("command_needed", "type")
        assert "umuhuza agency retract" in refused.problem.fr
    town.settle()
    assert states(town[MINISTRY], ident) == ["delivered"]
    assert iom.sent("record.retracted") == iom.sent("erasure.requested") == []


def test_nobody_retracts_what_she_did_not_send(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    with pytest.raises(OrderError) as caught:
        rights(town[MINISTRY]).retract(evt, "sent-by-mistake")
    assert caught.value.code == "thread_unknown"


def test_a_copy_that_a_program_holds_open_is_attested_when_it_is_gone(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    ministry = town[MINISTRY]

    def busy(_ident: str) -> None:
        raise NotNowError

    ministry.system.before_erase = busy
    rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
    town.settle()
    assert town[IOM].system.types == ["erasure.executed"]
    assert states(ministry, f"{IOM}/{evt}") == ["erased"]
    ministry.system.before_erase = lambda _ident: None
    town.settle()
    assert attested(town[IOM]) == []  # not looked at again before its time
    town.wait(61)
    town.settle()
    assert len(attested(town[IOM])) == 1
    assert "referral.requested" not in ministry.system.types


def test_a_copy_that_was_moved_is_not_attested_as_gone_and_whoever_asked_learns_what_is_left(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    town[MINISTRY].system.left_by_hand = ("find-moved-copies",)
    rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
    town.settle()
    [said] = attested(town[IOM])
    assert (said.gone, said.by_hand) == (("grant",), ("find-moved-copies",))


def test_an_erasure_that_was_cut_short_goes_on_at_the_next_start(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
    town[IOM].send()
    town[MINISTRY].receive()  # and then the power fails
    assert town[MINISTRY].sent("erasure.attested") == []
    town.open(MINISTRY)
    town.settle()
    assert len(attested(town[IOM])) == 1


def test_a_record_that_comes_after_its_erasure_is_never_opened(town: Agencies) -> None:
    iom, ministry = town[IOM], town[MINISTRY]
    evt = iom.evt(iom.draft(MINISTRY, "referral.requested", referral()))
    iom.send()
    RightsBook(ministry.box).erase(f"{IOM}/{evt}", MINISTRY, "", int(town.now))
    town.settle()
    assert states(ministry, f"{IOM}/{evt}") == ["erased"]
    assert ministry.system.arrived == []


def test_a_mailbox_put_back_from_a_copy_of_before_erases_again_before_anything_else(
    town: Agencies, tmp_path: Path
) -> None:
    """The copy has the record's key; the log has the command, which the adapter reads anew."""
    evt = sent(town, IOM, MINISTRY)
    secret = grant_bytes(town[MINISTRY], evt)
    town[MINISTRY].box.query("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = Path(shutil.copy(town.path(MINISTRY), tmp_path / "copy"))
    rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
    town.settle()
    town[MINISTRY].box.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{town.path(MINISTRY)}{suffix}").unlink(missing_ok=True)
    copy.replace(town.path(MINISTRY))
    town.open(MINISTRY)
    assert states(town[MINISTRY], f"{IOM}/{evt}") == ["delivered"]
    town[MINISTRY].receive()
    assert states(town[MINISTRY], f"{IOM}/{evt}") == ["erased"]
    town.settle()
    assert secret not in bytes_of(tmp_path, "bi-*.db*")


def test_a_holder_erases_what_it_got_and_tells_who_sent_it(town: Agencies, tmp_path: Path) -> None:
    evt = sent(town, IOM, MINISTRY)
    secret = grant_bytes(town[MINISTRY], evt)
    rights(town[MINISTRY]).erase(f"{IOM}/{evt}", "retention")
    town.settle()
    assert states(town[MINISTRY], f"{IOM}/{evt}") == ["erased"]
    assert secret not in bytes_of(tmp_path, "bi-*.db*")
    assert len(attested(town[MINISTRY])) == 1


def test_two_who_ask_for_the_same_erasure_are_both_told(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    for _ in range(2):
        rights(town[IOM]).erase(f"{IOM}/{evt}", "person")
        town.settle()
    assert len(attested(town[IOM])) == 2


def test_nobody_commands_the_erasure_of_others_records(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    ident = f"{IOM}/{evt}"
    facts = Facts(occurred_at=at(), said=ErasureRequested(record=ident, ground="person"))
    town.put(town.seal(SHELTER, MINISTRY, "erasure.requested", facts, acts=Acts(erase=(ident,))))
    town.settle()
    assert states(town[MINISTRY], ident) == ["delivered"]
    [refused] = town[MINISTRY].inbox("quarantined")
    assert (refused.code, refused.path) == ("not_permitted", "L1.acts.erase[0]")


def test_an_erasure_commands_no_other_record_than_it_names(town: Agencies) -> None:
    one, other = (f"{IOM}/{sent(town, IOM, MINISTRY)}" for _ in range(2))
    facts = Facts(occurred_at=at(), said=ErasureRequested(record=one, ground="person"))
    town.put(town.seal(IOM, MINISTRY, "erasure.requested", facts, acts=Acts(erase=(other,)), chain=False))
    town.settle()
    assert states(town[MINISTRY], other) == ["delivered"]


# -- correction --------------------------------------------------------------------------------------------------------


def test_a_correction_changes_what_is_read_and_leaves_what_was_sent(town: Agencies) -> None:
    evt = sent(town, IOM, MINISTRY)
    iom, ministry = town[IOM], town[MINISTRY]
    right = Birth(precision="year", date="2001")
    said = RecordCorrected(
        evt=evt,
        fields=("referral.birth.date",),
        birth=right,
        name=Name(as_given="Aline K."),
        reason="misread",
        source="document",
    )
    corrected = Facts(occurred_at=at(), lawful=consented(), said=said)
    iom.evt(iom.draft(MINISTRY, "record.corrected", corrected, thread=iom.outgoing(evt).thread))
    town.settle()
    opened = [(item, ministry.runner.inbox.opened(item)) for item in ministry.inbox("delivered")]
    facts = rights(ministry).open_corrected(f"{IOM}/{evt}", opened)
    assert facts is not None
    assert facts.referral is not None
    assert (facts.referral.birth, facts.referral.name.as_given) == (right, "Aline K.")
    [as_sent] = ministry.opened("referral.requested")
    assert as_sent.facts.referral is not None
    assert as_sent.facts.referral.birth.date == "1999"


# -- disclosure --------------------------------------------------------------------------------------------------------


def held_by_iom(town: Agencies) -> str:
    """What police told the screener: its ident."""
    police = town[POLICE]
    evt = police.evt(police.draft(IOM, "case.identified", identified()))
    town.settle()
    return f"{POLICE}/{evt}"


def ask(town: Agencies, *scope: str, record: str | None = None, days: float = 30) -> str:
    """A court's order arrives at IOM; the thread."""
    said = DisclosureRequested(
        capacity="court",
        order=f"Ordonnance fictive, affaire {PLANTED}",
        scope=scope,
        expires_at=datetime.fromtimestamp(town.now + days * DAY, UTC),
        record=record,
        subject=None if record else "ce que la police a transmis",
    )
    evt = town[COURT].evt(town[COURT].draft(IOM, "disclosure.requested", Facts(occurred_at=at(), said=said)))
    town.settle()
    return town[COURT].outgoing(evt).thread


def test_nobody_asks_as_the_court_but_the_judiciary_neither_here_nor_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MEMBERS, COURT, ("Tribunal (inventé)", ("judiciary",), False))
    monkeypatch.setitem(MEMBERS, COMMISSION, ("Commission (inventée)", ("coordination",), False))

    def order(capacity: Literal["court", "auditor"]) -> Facts:
        said = DisclosureRequested(
            capacity=capacity, order="Ordonnance fictive", scope=("content",), expires_at=at(DAY), subject="fictif"
        )
        return Facts(occurred_at=at(), said=said)

    with Agencies(tmp_path) as town:
        as_court, as_auditor = order("court"), order("auditor")
        for asker, own, others in ((COMMISSION, as_auditor, as_court), (COURT, as_court, as_auditor)):
            refused = town[asker].draft(IOM, "disclosure.requested", others)
            assert refused.problem is not None
            assert (refused.problem.code, refused.problem.path) == ("not_permitted", "event.disclosure.requested.as")
            town[asker].evt(town[asker].draft(IOM, "disclosure.requested", own))
        town.settle()
        assert len(rights(town[IOM]).disclosures.asked()) == 2
        seq, head = town[COMMISSION].box.chains.head("bi.rights.iom")
        town.put(town.seal(COMMISSION, IOM, "disclosure.requested", as_court, seq=seq + 1, prev=head))
        town.settle()
        [away] = town[IOM].inbox("quarantined")
        assert (away.code, away.path) == ("not_permitted", "event.disclosure.requested.as")


def test_no_holder_says_that_a_judge_has_looked_at_what_it_disclosed(town: Agencies) -> None:
    granted(town, "content")
    iom = town[IOM]
    [one] = [each for each in open_reviews(iom) if each.kind == "disclosure"]
    with pytest.raises(PolicyError) as caught:
        rights(iom).disclosures.review(one.n, "judge", "Diane", "upheld")
    assert caught.value.path == "event.disclosure.reviewed.as"
    assert one in open_reviews(iom)


def granted(town: Agencies, *scope: str, days: float = 30) -> tuple[str, str]:
    """(the record, the disclosure)."""
    ident = held_by_iom(town)
    evt = rights(town[IOM]).disclosures.grant(ask(town, *scope, record=ident, days=days), ident)
    town.settle()
    return ident, f"{IOM}/{evt}"


def unopenable(town: Agencies, by: str) -> bool:
    with pytest.raises(UmuhuzaError) as caught:
        rights(town[COURT]).disclosures.open(by)
    return caught.value.code == "grant_missing"


def test_a_court_opens_exactly_the_part_of_its_order(town: Agencies, tmp_path: Path) -> None:
    _, by = granted(town, "content")
    parts = rights(town[COURT]).disclosures.open(by)
    assert parts.keys() == {"content"}
    assert b"Feminine" in parts["content"]
    assert PLANTED.encode() not in parts["content"]
    assert traces([PLANTED], every_file(tmp_path)) == []


def test_who_she_is_is_opened_only_where_the_order_says_so(town: Agencies) -> None:
    _, by = granted(town, "identity")
    parts = rights(town[COURT]).disclosures.open(by)
    assert parts.keys() == {"identity"}
    assert PLANTED.encode() in parts["identity"]


def test_a_court_gets_no_other_record_than_the_order_names(town: Agencies) -> None:
    thread = ask(town, "content", record=held_by_iom(town))
    other = held_by_iom(town)
    with pytest.raises(PayloadError) as caught:
        rights(town[IOM]).disclosures.grant(thread, other)
    assert caught.value.path == "said.record"


def test_a_part_that_the_record_does_not_have_is_not_disclosed(town: Agencies) -> None:
    ident = held_by_iom(town)
    with pytest.raises(PolicyError) as caught:
        rights(town[IOM]).disclosures.grant(ask(town, "content", "a1"), ident)
    assert caught.value.path == "said.scope"
    assert town[IOM].sent("disclosure.granted") == []


def test_without_a_request_nothing_is_disclosed_and_a_request_is_answered_once(town: Agencies) -> None:
    ident = held_by_iom(town)
    disclosures = rights(town[IOM]).disclosures
    with pytest.raises(OrderError):
        disclosures.grant("A" * 22, ident)
    thread = ask(town, "content")
    assert [one.thread for one in disclosures.asked()] == [thread]
    disclosures.grant(thread, ident)
    assert disclosures.asked() == []
    with pytest.raises(OrderError):
        disclosures.grant(thread, ident)


def test_a_disclosure_stays_on_the_list_until_a_named_role_has_reviewed_it(town: Agencies, tmp_path: Path) -> None:
    _, by = granted(town, "content")
    iom = town[IOM]
    [one] = [each for each in open_reviews(iom) if each.kind == "disclosure"]
    assert (one.ident, one.peer) == (by, COURT)
    assert rights(iom).disclosures.review(one.n, "data-protection", f"Diane {PLANTED}", "upheld")
    assert not rights(iom).disclosures.review(one.n, "data-protection", f"Diane {PLANTED}", "upheld")
    town.settle()
    [told] = town[COURT].opened("disclosure.reviewed")
    assert isinstance(told.facts.said, DisclosureReviewed)
    assert (told.facts.said.role, told.facts.said.outcome) == ("data-protection", "upheld")
    assert [each for each in open_reviews(iom) if each.kind == "disclosure"] == []
    assert rights(town[COURT]).disclosures.open(by).keys() == {"content"}
    assert traces([PLANTED], every_file(tmp_path)) == []


def test_what_a_review_does_not_uphold_ends_at_once(town: Agencies) -> None:
    ident, by = granted(town, "content")
    iom = town[IOM]
    [one] = [each for each in open_reviews(iom) if each.kind == "disclosure"]
    rights(iom).disclosures.review(one.n, "data-protection", "Diane", "not-upheld")
    town.settle()
    assert unopenable(town, by)
    assert states(iom, ident) == ["delivered"]  # the first holder's own keys are not touched


def test_a_disclosure_ends_on_its_day_also_while_the_holder_is_away(town: Agencies) -> None:
    _, by = granted(town, "content", days=3)
    town.wait(3 * DAY - 1)
    town[COURT].deliver()
    assert rights(town[COURT]).disclosures.open(by)
    town.wait(1)
    town[COURT].deliver()
    assert unopenable(town, by)
    town.settle()
    assert len(town[IOM].sent("disclosure.ended")) == 1
    assert town[COURT].inbox("quarantined") == []


def test_the_erasure_of_a_record_ends_its_disclosures(town: Agencies) -> None:
    ident, by = granted(town, "content")
    rights(town[POLICE]).erase(ident, "order")
    town.settle()
    assert unopenable(town, by)
    assert states(town[IOM], ident) == ["erased"]


# -- break-glass -------------------------------------------------------------------------------------------------------


def test_who_shares_without_consent_is_reviewed_on_both_sides_and_why_stands_in_no_file(
    town: Agencies, tmp_path: Path
) -> None:
    lawful = Lawful(basis="vital-interests", author=f"Diane {PLANTED}", reason=f"{PLANTED} est en danger.")
    evt = sent(town, IOM, SHELTER, referral(lawful=lawful))
    for agency, peer in ((town[IOM], SHELTER), (town[SHELTER], IOM)):
        assert [(one.kind, one.ident, one.peer) for one in open_reviews(agency)] == [
            ("break-glass", f"{IOM}/{evt}", peer)
        ]
    assert traces([PLANTED], every_file(tmp_path)) == []


def test_who_shares_with_consent_is_not_reviewed(town: Agencies) -> None:
    sent(town, IOM, SHELTER)
    assert open_reviews(town[IOM]) == open_reviews(town[SHELTER]) == []
