# SPDX-License-Identifier: Apache-2.0
"""Files that go with a referral: sealed, in chunks, whole at the other end or not there at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.attachment_book import AttachmentBook
from adapters.connectors.contract import Arrived
from adapters.consents import Consents
from adapters.gathering import PATIENCE_S
from adapters.rights_book import RightsBook
from adapters.runner import Runner
from adapters.sending import CHUNKS_AT_ONCE
from schemas.attachments import DEFAULT_LIMIT, File, announcement, chunks, parts_of
from schemas.envelope import PADDED_SIZES, new_evt, new_thread, parse_record
from schemas.errors import LogError
from schemas.forms import Facts, Information
from schemas.plain.attachment import ANNOUNCED, CHUNK, CHUNK_BYTES, AttachmentChunk
from schemas.plain.rights import DisclosureRequested, ErasureAttested
from schemas.sealing import parse_grant
from tests.agencies import PLANTED, Agencies, Agency, at, bytes_of, consented, identified, referral, said
from tests.domain import MEMBERS
from tests.e2e.planted import every_file, traces
from topics.log import grant_key
from umuhuza.examples.samples_attachment import file

IOM, MINISTRY, SHELTER, POLICE, COURT = "bi/iom", "bi/min-solidarity", "bi/k7t4", "bi/police", "bi/court"
SCAN = file(3 * 2**20, name=f"Certificat de {PLANTED}.pdf")
PHOTO = file(70_000, "png", f"{PLANTED}.png")


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COURT, ("Tribunal (inventé)", ("judiciary",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def sent(town: Agencies, *files: File, to: str = SHELTER, person: str = "case-1") -> str:
    """A referral with files in the outbox; its evt."""
    outcome = town[IOM].draft(to, "referral.requested", referral(), person=person, files=files)
    return town[IOM].evt(outcome)


def came(agency: Agency) -> list[Arrived]:
    return [one for one in agency.system.arrived if one.type == ANNOUNCED]


def limited(agency: Agency, limit: int) -> None:
    """Its settings say so, from the next start on."""
    agency = agency.town.open(agency.id)
    desk = replace(agency.runner.desk, attachment_bytes=limit)
    agency.runner = Runner(desk, agency.town.log, [agency.system])


# -- there and whole ---------------------------------------------------------------------------------------------------


def test_files_arrive_byte_for_byte_after_what_they_belong_to(town: Agencies) -> None:
    evt = sent(town, SCAN, PHOTO)
    town.settle()
    assert town[SHELTER].system.types == ["referral.requested", ANNOUNCED]
    [arrived] = came(town[SHELTER])
    assert [(one.name, one.data) for one in arrived.files] == [(SCAN.name, SCAN.data), (PHOTO.name, PHOTO.data)]
    assert (arrived.ref, arrived.may_answer[:1]) == (evt, ("referral.received",))
    assert {item.state for item in town[IOM].box.outbox() if item.type != CHUNK} == {"delivered"}
    assert {item.state for item in town[IOM].sent(CHUNK)} == {"promised"}
    assert town[SHELTER].inbox("quarantined") == []


def test_a_small_file_travels_in_the_record_that_announces_it(town: Agencies) -> None:
    sent(town, PHOTO)
    town.settle()
    assert town[IOM].sent(CHUNK) == []
    assert [one.data for one in came(town[SHELTER])[0].files] == [PHOTO.data]


def test_an_answer_to_a_question_carries_files_too(town: Agencies) -> None:
    sent(town)
    town.settle()
    iom = town[IOM]
    [referred] = iom.sent("referral.requested")
    facts = Facts(occurred_at=at(), lawful=consented(), information=Information(languages=("rn",)))
    iom.evt(iom.draft(SHELTER, "information.answered", facts, thread=referred.thread, files=[PHOTO]))
    town.settle()
    assert town[SHELTER].system.types == ["referral.requested", "information.answered", ANNOUNCED]


def test_neither_name_nor_content_of_a_file_stands_anywhere_in_clear(town: Agencies, tmp_path: Path) -> None:
    line = "Diagnostic inventé de Claire\n"
    sent(town, File(f"{PLANTED}.pdf", b"%PDF-1.7\n" + line.encode() * 9000))
    town.settle()
    assert len(came(town[SHELTER])) == 1
    assert traces([PLANTED, line.strip()], every_file(tmp_path)) == []


def test_sizes_tell_no_more_than_how_many_chunks(town: Agencies) -> None:
    for size in (9, 5000, CHUNK_BYTES):
        sent(town, file(size))
    lengths = {parts[2:] for item in town[IOM].sent(ANNOUNCED) for parts in [tuple(_lengths(item.parts))]}
    assert len(lengths) == 1
    assert CHUNK_BYTES in PADDED_SIZES


def _lengths(parts: str) -> list[int]:
    return [part[2] for part in json.loads(parts)]


# -- refused loudly ----------------------------------------------------------------------------------------------------


def test_more_than_the_limit_is_refused_before_anything_is_sealed(town: Agencies) -> None:
    iom = town[IOM]
    outcome = iom.draft(SHELTER, "referral.requested", referral(), files=[file(DEFAULT_LIMIT - 9), file(10)])
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == ("too_large", "attachments")
    assert "fichier" in outcome.problem.fr
    assert (iom.box.outbox(), iom.box.threads()) == ([], [])
    limited(iom, 1000)
    outcome = town[IOM].draft(SHELTER, "referral.requested", referral(), files=[file(1001)])
    assert outcome.problem is not None
    assert outcome.problem.code == "too_large"


@pytest.mark.parametrize(
    ("to", "type", "facts", "files", "code", "path"),
    [
        (SHELTER, "referral.requested", referral(), [File("x.pdf", b"PK")], "attachment_type", "attachments[0]"),
        (SHELTER, "referral.requested", referral(), [PHOTO, File("x.pdf", b"")], "payload_invalid", "attachments[1]"),
        (IOM, "case.identified", identified(), [PHOTO], "not_permitted", "attach.*"),
    ],
)
def test_what_may_not_be_attached_is_refused_with_the_message_it_goes_with(
    town: Agencies, to: str, type: str, facts: Facts, files: list[File], code: str, path: str
) -> None:
    sender = town[POLICE if to == IOM else IOM]
    outcome = sender.draft(to, type, facts, files=files)
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == (code, path)
    assert sender.box.outbox() == []


def test_an_announcement_without_its_files_is_nobodys_to_send(town: Agencies) -> None:
    evt = sent(town)
    town.settle()
    facts = Facts(occurred_at=at(), lawful=consented(), said=announcement(evt, [PHOTO]))
    thread = town[IOM].outgoing(evt).thread
    for type, given in (
        (ANNOUNCED, facts),
        (CHUNK, Facts(occurred_at=at(), said=AttachmentChunk(announced=evt, first=3))),
    ):
        outcome = town[IOM].draft(SHELTER, type, given, thread=thread)
        assert outcome.problem is not None
        assert (outcome.problem.code, outcome.problem.path) == ("payload_invalid", "type")


def test_a_receiver_that_takes_less_says_so_and_the_rest_is_never_sent(town: Agencies) -> None:
    limited(town[SHELTER], 2**20)
    sent(town, SCAN)
    town.settle()
    iom, shelter = town[IOM], town[SHELTER]
    assert shelter.system.types == ["referral.requested"]
    [announced] = iom.sent(ANNOUNCED)
    assert (announced.state, announced.code, announced.path) == ("rejected", "too_large", "said.files")
    assert iom.sent("referral.requested")[0].state == "delivered"
    assert (announced.evt, "rejected", "too_large") in iom.system.changes
    given_up = [item for item in iom.sent(CHUNK) if item.state == "cancelled"]
    assert len(given_up) >= len(iom.sent(CHUNK)) - 2 * CHUNKS_AT_ONCE > 0
    # What came already opens no more, and stops nothing behind it.
    assert all(item.grant_value is None for item in shelter.inbox("quarantined"))
    iom.evt(iom.draft(SHELTER, "referral.revoked", said(), thread=announced.thread))
    town.settle()
    assert shelter.system.types[-1] == "referral.revoked"


# -- a sender that errs or lies ----------------------------------------------------------------------------------------


class Hand:
    """Records made by hand on one referral's thread, with an announcement of five chunks."""

    def __init__(self, town: Agencies, files: tuple[File, ...] = (file(5 * CHUNK_BYTES - 7),)) -> None:
        self.town, self.files, self.chunks = town, files, chunks(files)
        self.thread, self.evt = new_thread(town.domain.random), new_evt(int(town.now * 1000), town.domain.random)
        self.about = self.put("referral.requested", referral())
        self.announced = ""

    def put(self, type: str, facts: Facts, *, ref: str | None = None, files: list[bytes] | None = None) -> str:
        record = self.town.seal(IOM, SHELTER, type, facts, thread=self.thread, ref=ref, files=parts_of(files or []))
        self.town.put(record)
        return record.manifest.evt

    def announce(self, about: str | None = None, files: list[bytes] | None = None) -> str:
        about = about or self.about
        facts = Facts(occurred_at=at(), lawful=consented(), said=announcement(about, self.files))
        first = list(self.chunks[:2]) if files is None else files
        self.announced = self.put(ANNOUNCED, facts, ref=about, files=first)
        return self.announced

    def chunk(self, first: int, some: list[bytes] | None = None, of: str | None = None) -> str:
        whose = of or self.announced
        facts = Facts(occurred_at=at(), said=AttachmentChunk(announced=whose, first=first))
        return self.put(
            CHUNK, facts, ref=whose, files=list(self.chunks[first - 1 : first + 1]) if some is None else some
        )

    def told(self) -> tuple[str, str | None, str | None]:
        """State, code and path of the announcement at the shelter."""
        self.town.settle()
        self.town.settle()  # what was given up by itself is told in the next turn
        [item] = [one for one in self.town[SHELTER].inbox() if one.evt == self.announced]
        return item.state, item.code, item.path

    def turned_away(self) -> list[tuple[str, str | None]]:
        """Code and path of chunks that were not taken."""
        return [(one.code or "", one.path) for one in self.town[SHELTER].inbox("quarantined") if one.type == CHUNK]

    def rejections(self) -> list[tuple[str | None, str | None]]:
        """What the shelter's signed receipts say."""
        receipts = [one.facts.receipt for one in self.town[IOM].opened("receipt.rejected")]
        return [(one.code, one.path) for one in receipts if one is not None]


def test_made_by_hand_as_it_should_be_it_is_taken(town: Agencies) -> None:
    hand = Hand(town)
    hand.announce()
    hand.chunk(5)
    hand.chunk(3)  # order is no matter: each says its number
    assert hand.told()[0] == "delivered"
    assert [one.data for one in came(town[SHELTER])[0].files] == [one.data for one in hand.files]


def test_nothing_is_handed_over_until_the_last_chunk_is_there_and_nothing_waits_for_it(town: Agencies) -> None:
    hand = Hand(town)
    hand.announce()
    hand.chunk(3)
    assert hand.told() == ("gathering", None, None)
    hand.put("referral.revoked", Facts(occurred_at=at()), ref=hand.about)
    town.settle()
    assert town[SHELTER].system.types == ["referral.requested", "referral.revoked"]
    receipts = [one.facts.receipt for one in town[IOM].opened("receipt.delivered")]
    assert len(receipts) == 2, "one for the referral, one for its end, none for files that are not whole"


def altered(chunk: bytes) -> bytes:
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


WRONG: Mapping[str, Callable[[Hand], str]] = {
    "altered": lambda hand: hand.chunk(3, [hand.chunks[2], altered(hand.chunks[3])]),
    "reordered": lambda hand: hand.chunk(3, [hand.chunks[3], hand.chunks[2]]),
    "foreign": lambda hand: hand.chunk(3, [hand.chunks[2], file(CHUNK_BYTES, seed="another").data]),
    "shorter": lambda hand: hand.chunk(3, [hand.chunks[2], hand.chunks[3][:100]]),
}
NAMED = {"altered": 3, "reordered": 2, "foreign": 3, "shorter": 3}


@pytest.mark.parametrize("what", WRONG)
def test_a_chunk_that_is_not_the_one_announced_is_named_and_nothing_is_handed_over(town: Agencies, what: str) -> None:
    hand = Hand(town)
    hand.announce()
    WRONG[what](hand)
    hand.chunk(5)
    path = f"said.files[0].chunks[{NAMED[what]}]"
    assert hand.told() == ("quarantined", "payload_invalid", path)
    assert came(town[SHELTER]) == []
    assert hand.rejections() == [("payload_invalid", path)]
    assert all(item.grant_value is None for item in town[SHELTER].inbox() if item.type in (ANNOUNCED, CHUNK))


def test_a_missing_chunk_is_waited_for_and_then_named(town: Agencies) -> None:
    hand = Hand(town)
    hand.announce()
    hand.chunk(5)
    assert hand.told()[0] == "gathering"
    town.wait(PATIENCE_S - 3600)
    assert hand.told()[0] == "gathering"
    town.wait(7200)
    assert hand.told() == ("quarantined", "attachment_incomplete", "said.files[0].chunks[2]")
    assert hand.rejections() == [("attachment_incomplete", "said.files[0].chunks[2]")]
    hand.chunk(3)  # too late
    town.settle()
    assert hand.turned_away() == [("payload_invalid", "said.announced")]


def test_a_chunk_that_comes_twice_is_named_and_changes_nothing(town: Agencies) -> None:
    hand = Hand(town)
    hand.announce()
    hand.chunk(3)
    hand.chunk(3, [altered(hand.chunks[2]), hand.chunks[3]])
    hand.chunk(1)
    hand.chunk(5)
    assert hand.told()[0] == "delivered"
    assert hand.turned_away() == [("payload_invalid", "said.first")] * 2
    assert [one.data for one in came(town[SHELTER])[0].files] == [one.data for one in hand.files]


def test_a_chunk_of_nothing_announced_or_of_another_thread_is_named(town: Agencies) -> None:
    hand, other = Hand(town), Hand(town)
    hand.announce()
    other.announce()
    hand.chunk(3, of=other.announced)
    hand.chunk(3, of=hand.about)
    hand.chunk(4)
    hand.chunk(7)
    hand.chunk(3, [hand.chunks[2]])
    town.settle()
    assert sorted(hand.turned_away(), key=str) == [
        ("not_permitted", "L1.thread"),
        ("payload_invalid", "L1.parts"),
        ("payload_invalid", "said.announced"),
        ("payload_invalid", "said.first"),
        ("payload_invalid", "said.first"),
    ]
    hand.chunk(3)
    hand.chunk(5)
    assert hand.told()[0] == "delivered"


def test_an_announcement_must_be_of_an_event_that_carries_files_and_bring_its_own_chunks(town: Agencies) -> None:
    hand = Hand(town)
    hand.announce(files=[])
    assert hand.told() == ("quarantined", "payload_invalid", "L1.parts")
    hand.announce(about=new_evt(1, town.domain.random))
    assert hand.told() == ("quarantined", "payload_invalid", "said.about")
    revoked = hand.put("referral.revoked", Facts(occurred_at=at()), ref=hand.about)
    hand.announce(about=revoked)
    assert hand.told() == ("quarantined", "not_permitted", "attach.*")


def test_parts_that_no_event_speaks_of_are_refused(town: Agencies) -> None:
    hand = Hand(town)
    hand.put("referral.revoked", Facts(occurred_at=at()), ref=hand.about, files=[b"x"])
    town.settle()
    assert [(one.code, one.path) for one in town[SHELTER].inbox("quarantined")] == [("payload_invalid", "L1.parts[2]")]


# -- the sender's side -------------------------------------------------------------------------------------------------


def test_what_is_urgent_goes_before_the_rest_of_a_scan(town: Agencies) -> None:
    iom = town[IOM]
    sent(town, SCAN)
    for _ in range(3):
        iom.send()
    urgent = sent(town, person="case-2")
    iom.send()
    assert iom.outgoing(urgent).state == "promised"
    assert any(item.state == "waiting" for item in iom.sent(CHUNK))
    town.settle()
    assert len(came(town[SHELTER])) == 1


def test_taken_back_before_it_left_its_files_never_leave(town: Agencies) -> None:
    evt = sent(town, SCAN)
    assert town[IOM].box.cancel(evt, int(town.now))
    town.settle()
    assert {item.state for item in town[IOM].box.outbox()} == {"cancelled"}
    assert town[SHELTER].inbox() == []


def test_once_something_else_was_said_the_files_are_not_taken_back_alone(town: Agencies) -> None:
    evt = sent(town, SCAN)
    iom = town[IOM]
    iom.evt(iom.draft(SHELTER, "referral.revoked", said(), thread=iom.outgoing(evt).thread))
    assert not iom.box.cancel(evt, int(town.now))


def test_a_referral_that_the_log_refuses_takes_its_files_with_it(town: Agencies) -> None:
    evt = sent(town, SCAN)
    iom = town[IOM]
    iom.runner.sender.sign_waiting()
    iom.box.refuse(evt, "not_permitted", None, int(town.now))
    town.settle()
    town.wait(3600)
    town.settle()
    assert iom.sent(ANNOUNCED)[0].state == "rejected"
    states = [item.state for item in iom.sent(CHUNK)]
    assert states.count("cancelled") >= len(states) - 2 * CHUNKS_AT_ONCE, (
        "what nobody has the beginning of does not go on"
    )
    assert came(town[SHELTER]) == []


@pytest.mark.parametrize("how", ["withdrawn", "declined"])
def test_after_her_withdrawal_or_a_no_the_rest_of_a_file_is_not_sent(town: Agencies, how: str) -> None:
    evt = sent(town, SCAN)
    iom, shelter = town[IOM], town[SHELTER]
    for _ in range(3):
        iom.send()
    shelter.receive()
    if how == "withdrawn":
        Consents(iom.runner.desk, iom.runner.outbox).withdraw("case-1", "sharing")
    else:
        thread = iom.outgoing(evt).thread
        shelter.evt(shelter.draft(IOM, "referral.declined", said(reason="no-capacity"), thread=thread))
        shelter.send()
        iom.receive()
    town.settle()
    assert any(item.state == "cancelled" for item in iom.sent(CHUNK))
    assert came(shelter) == []
    [announced] = [item for item in shelter.inbox() if item.type == ANNOUNCED]
    assert announced.state == "gathering"


# -- erased, disclosed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [IOM, SHELTER])
def test_erasing_a_referral_erases_every_record_of_its_files(town: Agencies, tmp_path: Path, by: str) -> None:
    evt = sent(town, SCAN)
    town.settle()
    shelter = town[SHELTER]
    held = [item for item in shelter.inbox() if item.type in (ANNOUNCED, CHUNK, "referral.requested")]
    secrets = [_ciphertext(item.grant_value) for item in held]
    idents = {item.ident for item in held}
    assert set(AttachmentBook(shelter.box).belonging(f"{IOM}/{evt}", SHELTER)) | {f"{IOM}/{evt}"} == idents
    rights = town[by].runner.inbox.corrections
    asked = rights.erase(f"{IOM}/{evt}", "person")
    town.settle()
    assert {item.state for item in shelter.inbox() if item.ident in idents} == {"erased"}
    assert shelter.system.arrived == [one for one in shelter.system.arrived if one.ident not in idents]
    for member in ("bi-iom.db*", "bi-k7t4.db*"):
        there = bytes_of(tmp_path, member)
        assert not any(secret in there for secret in secrets)
    acts = parse_record(_value(town[by], asked)).manifest.acts
    assert acts is not None
    assert set(acts.erase) == idents
    assert acts.erase[0] == f"{IOM}/{evt}"
    [attested] = [one.facts.said for one in town[by].opened("erasure.attested")]
    assert isinstance(attested, ErasureAttested)
    assert attested.record == f"{IOM}/{evt}"


def _ciphertext(grant: bytes | None) -> bytes:
    assert grant is not None
    return grant[grant.index(b'"ct":"') + 6 : -2]


def _value(agency: Agency, evt: str) -> bytes:
    item = agency.outgoing(evt)
    assert item.l1 is not None
    return item.l1 + b"\n" + item.body


def test_files_alone_can_be_erased_and_the_referral_stays(town: Agencies) -> None:
    sent(town, SCAN)
    town.settle()
    iom, shelter = town[IOM], town[SHELTER]
    [announced] = iom.sent(ANNOUNCED)
    iom.runner.inbox.corrections.erase(f"{IOM}/{announced.evt}", "person")
    town.settle()
    assert shelter.system.types[0] == "referral.requested"
    assert came(shelter) == []
    assert {item.state for item in shelter.inbox() if item.type in (ANNOUNCED, CHUNK)} == {"erased"}


def test_erased_while_on_their_way_the_rest_is_never_sent_and_what_came_opens_no_more(town: Agencies) -> None:
    evt = sent(town, SCAN)
    iom, shelter = town[IOM], town[SHELTER]
    for _ in range(3):
        iom.send()
    shelter.receive()
    iom.runner.sender.sign_waiting()
    with pytest.raises(LogError):
        iom.runner.inbox.corrections.erase(f"{IOM}/{evt}", "person")  # chunks are leaving just now
    iom.send()
    iom.runner.inbox.corrections.erase(f"{IOM}/{evt}", "person")
    town.settle()
    assert any(item.state == "cancelled" for item in iom.sent(CHUNK))
    assert {item.state for item in shelter.inbox() if item.type in (ANNOUNCED, CHUNK)} == {"erased"}
    assert came(shelter) == []


def test_a_command_that_names_other_records_beside_the_one_is_refused(town: Agencies) -> None:
    first, other = sent(town, PHOTO), sent(town, person="case-2")
    town.settle()
    rights, book = town[IOM].runner.inbox.corrections, RightsBook(town[IOM].box)
    with town[IOM].box.transaction():
        asked = rights.erase(f"{IOM}/{first}", "person")
        town[IOM].box.change("DELETE FROM act")
        book.command(asked, [f"{IOM}/{first}", f"{IOM}/{other}"])
    town.settle()
    [refused] = [item for item in town[SHELTER].inbox("quarantined") if item.type == "erasure.requested"]
    assert (refused.code, refused.path) == ("not_permitted", "L1.acts.erase")


def test_a_court_gets_one_part_of_a_scan_and_no_other(town: Agencies) -> None:
    sent(town, SCAN)
    town.settle()
    shelter, court = town[MINISTRY], town[COURT]
    evt = sent(town, SCAN, to=MINISTRY)
    town.settle()
    [announced] = [item for item in shelter.inbox() if item.type == ANNOUNCED and item.iss == IOM]
    assert announced.ref == evt
    order = DisclosureRequested(
        capacity="court", order="Ordonnance inventée 7", scope=("a1",), expires_at=at(86_400), record=announced.ident
    )
    asked = court.evt(court.draft(MINISTRY, "disclosure.requested", Facts(occurred_at=at(), said=order)))
    town.settle()
    rights = shelter.runner.inbox.corrections
    given = rights.disclosures.grant(court.outgoing(asked).thread, announced.ident)
    town.settle()
    opened = court.runner.inbox.corrections.disclosures.open(f"{MINISTRY}/{given}")
    assert opened == {"a1": SCAN.data[:CHUNK_BYTES]}


def test_each_chunk_is_granted_to_its_reader_alone(town: Agencies) -> None:
    sent(town, SCAN)
    town.settle()
    for item in [*town[IOM].sent(CHUNK), *town[IOM].sent(ANNOUNCED)]:
        kids = [parse_grant(grant.encode()).kid for grant in item.grants]
        assert kids == [town.domain.members[SHELTER].seal.kid]
        found = town.run(town.log.get_grants("bi.grants.k7t4", [grant_key(f"{IOM}/{item.evt}", kids[0])]))
        assert len(found) == 1
