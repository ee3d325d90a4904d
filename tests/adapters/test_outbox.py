# SPDX-License-Identifier: Apache-2.0
"""The way out: what a draft becomes, what is refused before it leaves, and what becomes of refused numbers."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.connectors.contract import Batch, Draft, Problem
from adapters.desk import FIRST_RETRY_S, LONGEST_RETRY_S, backoff_s
from schemas.envelope import Manifest, Part, chain_hash, new_thread, parse_manifest, parse_record
from schemas.errors import AccessError, LogError, OrderError, PolicyError, RecordError, RegistryError, UmuhuzaError
from schemas.forms import Birth, Caregiver, Facts, Lawful, Priority, Referral
from schemas.registry import STALE_AFTER_S, AgreedPolicy
from schemas.sealing import parse_grant
from tests.agencies import PLANTED, Agencies, Agency, Gate, bytes_of, consented, identified, referral, said
from tests.domain import seeded
from topics.log import Entry


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def manifests(town: Agencies, topic: str) -> list[Manifest]:
    return [parse_record(entry.value).manifest for entry in town.run(town.log.read(topic, -1))]


def tables(agency: Agency) -> dict[str, int]:
    names = ("person", "pair", "thread", "batch", "turned_down", "outgoing")
    return {name: int(agency.box.query(f"SELECT count(*) FROM {name}")[0][0]) for name in names}


# -- taking drafts -----------------------------------------------------------------------------------------------------


def test_the_same_batch_again_gives_the_same_answers_and_nothing_new(town: Agencies) -> None:
    iom = town["bi/iom"]
    good = iom.compose("bi/k7t4", "referral.requested", referral(), person="case-1")
    bad = iom.compose("bi/k7t4", "referral.requested", referral(htcds={"prs_Gender": PLANTED}))
    unread = Problem("ligne 3", "row_invalid", "fr", "en", "3")
    first = iom.runner.outbox.accept(Batch("s", "essai.xlsx", (good, bad, unread)), "memory")
    before = tables(iom)
    again = iom.runner.outbox.accept(Batch("s", "essai.xlsx", (good, bad, unread)), "memory")
    assert [one.again for one in first] == [False, False, False]
    assert [one.again for one in again] == [True, True, True]
    assert [replace(one, again=False) for one in again] == first
    assert tables(iom) == before
    assert before["outgoing"] == 1


def test_the_same_line_of_another_batch_is_another_event(town: Agencies) -> None:
    iom = town["bi/iom"]
    draft = iom.compose("bi/k7t4", "referral.requested", referral())
    one, two = iom.take(draft, source="a"), iom.take(draft, source="b")
    assert one[0].evt != two[0].evt
    assert not two[0].again


def test_one_bad_draft_refuses_no_other_and_is_told_with_code_and_path(town: Agencies) -> None:
    iom = town["bi/iom"]
    drafts = [
        iom.compose("bi/k7t4", "referral.requested", facts)
        for facts in (referral(), referral(htcds={"prs_Gender": PLANTED}), referral())
    ]
    one, two, three = iom.take(*drafts)
    assert one.evt is not None
    assert three.evt is not None
    assert two.evt is None
    assert two.problem is not None
    assert two.problem.code == "payload_invalid"
    assert "htcds.prs_Gender" in two.problem.fr
    assert two.problem.where == drafts[1].line
    assert PLANTED not in two.problem.fr + two.problem.en


def test_a_refused_draft_leaves_nothing_of_its_person(town: Agencies) -> None:
    iom = town["bi/iom"]
    outcome = iom.draft("bi/k7t4", "referral.requested", referral(htcds={"prs_Gender": "x"}), person="dossier-7731")
    assert outcome.problem is not None
    assert tables(iom) == {"person": 0, "pair": 0, "thread": 0, "batch": 1, "turned_down": 1, "outgoing": 0}


def test_a_stale_registry_stores_nothing_of_the_batch_and_is_over_when_it_is_renewed(town: Agencies) -> None:
    iom = town["bi/iom"]
    town.wait(STALE_AFTER_S + 1)
    answer_and_request = [
        iom.compose("bi/k7t4", "referral.requested", referral(htcds={"prs_Gender": "x"})),
        iom.compose("bi/k7t4", "referral.requested", referral()),
    ]
    with pytest.raises(RegistryError, match="registry_stale"):
        iom.take(*answer_and_request, source="s")
    assert set(tables(iom).values()) == {0}
    town.domain.registry = town.domain.registry.renewed(int(town.now))
    fresh = [one.again for one in iom.take(*answer_and_request, source="s")]
    assert fresh == [False, False]


def test_an_older_policy_than_the_domains_keeps_requests_here_until_it_is_updated(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    town.settle()
    before = town.domain.registry
    town.domain.registry = replace(before, policy=AgreedPolicy(2, bytes(32)))
    with pytest.raises(RegistryError) as caught:
        iom.draft("bi/k7t4", "referral.requested", referral())
    assert (caught.value.code, caught.value.path, caught.value.retriable) == ("policy_differs", "policy", True)
    # What is under way goes on by the rules that it began under.
    thread = iom.outgoing(evt).thread
    assert shelter.draft("bi/iom", "referral.received", said(), thread=thread).problem is None
    town.domain.registry = before
    assert iom.draft("bi/k7t4", "referral.requested", referral()).problem is None


def test_a_stale_registry_stops_no_answer(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    [request] = shelter.system.arrived
    town.wait(STALE_AFTER_S + 1)
    assert shelter.draft("bi/iom", "referral.accepted", said(), thread=request.thread).problem is None


def test_a_full_disk_stores_nothing_of_the_batch(town: Agencies) -> None:
    iom = town["bi/iom"]
    [(pages,)] = iom.box.query("PRAGMA page_count")
    iom.box.query(f"PRAGMA max_page_count = {pages}")
    drafts = [iom.compose("bi/k7t4", "referral.requested", referral()) for _ in range(20)]
    with pytest.raises(LogError, match="storage_full") as caught:
        iom.take(*drafts, source="s")
    assert caught.value.retriable
    assert set(tables(iom).values()) == {0}
    iom.box.query("PRAGMA max_page_count = 1000000")
    assert all(one.evt for one in iom.take(*drafts, source="s"))


# -- what is refused before it leaves ----------------------------------------------------------------------------------


def without_consent() -> Facts:
    facts = referral()
    return facts.model_copy(update={"lawful": None})


CHILD = Birth(precision="year", date="2014")


def refusals() -> dict[str, tuple[str, str, str, Facts, str, str]]:
    """Why -> sender, recipient, type, facts, code, path."""
    vital = Lawful(basis="vital-interests", author="Une collègue", reason="danger")
    expired = consented(0).model_copy()
    return {
        "law enforcement never addresses a shelter": (
            *("bi/police", "bi/k7t4", "case.identified", identified()),
            *("not_permitted", "flow.case.mailbox|firewall.law_enforcement|event.case.identified.to"),
        ),
        "police have no part in referrals": (
            *("bi/police", "bi/iom", "referral.requested", referral()),
            *("not_permitted", "event.referral.requested.from"),
        ),
        "nobody of that name": ("bi/iom", "bi/nobody", "referral.requested", referral(), "agency_unknown", ""),
        "no agency's name": ("bi/iom", "Maison Inventée", "referral.requested", referral(), "agency_unknown", ""),
        "to oneself": ("bi/iom", "bi/iom", "referral.requested", referral(), "not_permitted", "to"),
        "no consent": ("bi/iom", "bi/k7t4", "referral.requested", without_consent(), "consent_missing", "lawful"),
        "expired consent": (
            *("bi/iom", "bi/k7t4", "referral.requested", referral(lawful=expired)),
            *("consent_expired", "lawful.consent.expires_at"),
        ),
        "a child without safeguard": (
            *("bi/iom", "bi/k7t4", "referral.requested", referral(birth=CHILD)),
            *("safeguard_missing", "referral.caregiver"),
        ),
        "a child in danger, guardian not even pending": (
            *("bi/iom", "bi/k7t4", "referral.requested", referral(birth=CHILD, lawful=vital)),
            *("safeguard_missing", "referral.caregiver"),
        ),
        "a step without its beginning": (
            *("bi/k7t4", "bi/iom", "referral.accepted", said()),
            *("transition_invalid", "referral.accepted"),
        ),
        "a receipt from a caseworker": ("bi/k7t4", "bi/iom", "receipt.delivered", said(), "payload_invalid", "type"),
        "no such event": ("bi/k7t4", "bi/iom", f"referral.{PLANTED}", said(), "payload_invalid", "type"),
    }


@pytest.mark.parametrize("why", refusals())
def test_the_adapter_refuses_before_anything_leaves(town: Agencies, why: str) -> None:
    sender, to, type, facts, code, path = refusals()[why]
    agency = town[sender]
    draft = agency.compose(to, type, facts)
    with pytest.raises(UmuhuzaError) as caught, agency.box.transaction():
        agency.runner.outbox.compose(draft, "s", "memory")
    assert (caught.value.code, caught.value.path or "") in [(code, one) for one in path.split("|")]
    assert PLANTED not in str(caught.value)
    [outcome] = agency.take(draft)
    assert outcome.problem is not None
    assert outcome.problem.code == code
    assert tables(agency)["outgoing"] == 0


def test_a_child_in_danger_with_the_guardian_pending_is_sent(town: Agencies) -> None:
    facts = referral(birth=CHILD, lawful=Lawful(basis="vital-interests", author="Une collègue", reason="danger"))
    assert isinstance(facts.referral, Referral)
    pending = facts.referral.model_copy(update={"caregiver": Caregiver(status="pending")})
    facts = facts.model_copy(update={"referral": pending})
    assert town["bi/iom"].draft("bi/k7t4", "referral.requested", facts).problem is None


def test_a_step_that_does_not_fit_its_thread_is_refused(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    [request] = shelter.system.arrived

    def answer(type: str, facts: Facts, to: str = "bi/iom", thread: str | None = request.thread) -> str:
        outcome = shelter.draft(to, type, facts, thread=thread)
        return "" if outcome.problem is None else f"{outcome.problem.code} {outcome.problem.en.partition('[')[2][:19]}"

    assert answer("referral.completed", said("goals-met")).startswith("transition_invalid referral.completed")
    assert answer("referral.declined", said(reason="no-capacity")) == ""
    assert answer("referral.accepted", said()).startswith("transition_invalid")
    assert answer("referral.accepted", said(), to="bi/r5w2").startswith("transition_invalid thread")
    assert answer("referral.accepted", said(), thread="AAAAAAAAAAAAAAAAAAAAAA").startswith("thread_unknown thread")


def test_an_answer_finds_its_thread_by_what_it_answers(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    town.settle()
    good = Draft("1", "bi/iom", "referral.accepted", None, None, said(), ref=evt)
    unknown = Draft("2", "bi/iom", "referral.accepted", None, None, said(), ref=evt[::-1])
    elsewhere = Draft("3", "bi/r5w2", "referral.accepted", None, None, said(), ref=evt)
    one, two, three = shelter.take(good, unknown, elsewhere)
    assert shelter.outgoing(one.evt).thread == iom.outgoing(evt).thread
    assert [item.problem.code for item in (two, three) if item.problem] == ["thread_unknown", "thread_unknown"]


# -- what travels ------------------------------------------------------------------------------------------------------


def test_fields_that_are_not_for_this_reader_stay_and_are_named(town: Agencies) -> None:
    htcds: dict[str, str | tuple[str, ...]] = {"prs_Gender": "Feminine", "prs_MobilePhone": "+257 79 00 00 00"}
    town["bi/iom"].draft("bi/k7t4", "referral.requested", referral(services=("Legal",), htcds=htcds))
    town.settle()
    [opened] = town["bi/k7t4"].opened("referral.requested")
    assert opened.withheld == ("htcds.prs_MobilePhone",)
    assert dict(opened.facts.htcds) == {"prs_Gender": "Feminine"}


def test_two_peers_of_one_person_share_nothing(town: Agencies) -> None:
    iom = town["bi/iom"]
    for to in ("bi/k7t4", "bi/r5w2", "bi/k7t4"):
        iom.evt(iom.draft(to, "referral.requested", referral(), person="dossier-7731"))
    town.settle()
    [one, two] = town["bi/k7t4"].opened("referral.requested")
    [other] = town["bi/r5w2"].opened("referral.requested")
    assert one.pseudonym == two.pseudonym  # one person towards one peer is one
    assert one.pseudonym != other.pseudonym
    topics = ("bi.referral.k7t4", "bi.referral.r5w2")
    clear = [parse_record(town.run(town.log.read(topic, -1))[0].value) for topic in topics]
    left, right = (record.signed.decode() for record in clear)
    common = set(ngrams(payload(left))) & set(ngrams(payload(right)))
    ours = {"bi/iom", "referral", "request"}
    # Beside structure, one equal character of two digests is chance, and tells nothing.
    known = [*ours, *structure(town, clear[0].manifest)]
    told = {gram for gram in common if not any(part in one for part in (gram, gram[1:], gram[:-1]) for one in known)}
    assert told == set()
    in_clear = bytes_of(town.folder, "log.db*")
    for secret in ("dossier-7731", PLANTED, one.pseudonym or "", other.pseudonym or ""):
        assert secret.encode() not in in_clear


def payload(signed: str) -> str:
    return base64.urlsafe_b64decode(signed.partition(".")[2] + "==").decode()


def ngrams(text: str, size: int = 12) -> Iterator[str]:
    return (text[i : i + size] for i in range(len(text) - size + 1))


def structure(town: Agencies, manifest: Manifest) -> list[str]:
    """What every manifest of this moment says: names of members, versions, times, lengths."""
    names = '{"v":1,"evt":"|","iss":"bi/iom","to":"bi/|","topic":"bi.referral.|","kind":"request","thread":"|"'
    common = [
        f',"seq":1,"prev":"","iat":{manifest.iat},"answer_by":{manifest.answer_by},"reg":{manifest.reg},"parts":['
    ]
    parts = [f'{{"name":"{part.name}","sha256":"|","len":{part.len},"kc":"|"}},' for part in manifest.parts]
    time = manifest.evt[:15]  # the clock's milliseconds, which stand still in this test
    text = names + "".join(common) + "".join(parts) + "]}"
    return [text, *text.split("|"), f'{{"v":1,"evt":"{time}', '"},{"name":"content","sha256":"', '"}]}']


def test_the_grants_open_for_the_recipient_alone(town: Agencies) -> None:
    iom = town["bi/iom"]
    item = iom.outgoing(iom.draft("bi/k7t4", "referral.requested", referral()).evt)
    assert [parse_grant(grant.encode()).kid for grant in item.grants] == [town.domain.members["bi/k7t4"].seal.kid]


# -- signing, sending, refused numbers ---------------------------------------------------------------------------------


def test_signing_keeps_one_chain_per_mailbox_in_the_order_of_entry(town: Agencies) -> None:
    iom = town["bi/iom"]
    evts: dict[str, list[str]] = {"bi/k7t4": [], "bi/r5w2": []}
    for to in ("bi/k7t4", "bi/r5w2", "bi/k7t4", "bi/k7t4"):
        evts[to].append(iom.evt(iom.draft(to, "referral.requested", referral())))
    town.settle()
    for to, expected in evts.items():
        chain = manifests(town, f"bi.referral.{to[3:]}")
        assert [one.evt for one in chain] == expected
        assert [one.seq for one in chain] == list(range(1, len(expected) + 1))
        lines = [item.l1 or b"" for item in iom.box.outbox() if item.peer == to and item.type == "referral.requested"]
        assert [one.prev for one in chain] == ["", *(chain_hash(line) for line in lines[:-1])]


def test_what_was_signed_is_sent_again_byte_by_byte(town: Agencies) -> None:
    iom = town["bi/iom"]
    gate = Gate(town.log, breaks=LogError("unavailable"))
    iom.runner.log = gate
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.send()
    signed = iom.outgoing(evt).l1
    assert (iom.outgoing(evt).state, iom.outgoing(evt).code) == ("signed", "unavailable")
    gate.breaks = None
    town.wait(2 * FIRST_RETRY_S)
    town.domain.registry = town.domain.registry.renewed(int(town.now))
    iom.send()
    [stored] = town.run(town.log.read("bi.referral.k7t4", -1))
    assert stored.value.partition(b"\n")[0] == signed
    assert iom.outgoing(evt).state == "promised"


@pytest.mark.parametrize("refused", [(3,), (1,), (40,), (2, 3, 40)])
def test_forty_with_some_refused_for_good_the_others_arrive_in_order_and_the_chain_closes(
    town: Agencies, refused: tuple[int, ...]
) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    drafts = [iom.compose("bi/k7t4", "referral.requested", referral()) for _ in range(40)]
    evts = [one.evt or "" for one in iom.take(*drafts)]
    bad = {evts[number - 1] for number in refused}
    no = RecordError("signature_invalid", "L1")
    iom.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.rpartition("/")[2] in bad else None)
    town.settle()
    assert [one.evt for one in shelter.system.arrived] == [evt for evt in evts if evt not in bad]
    assert {iom.outgoing(evt).state for evt in evts if evt not in bad} == {"delivered"}
    assert {(iom.outgoing(evt).state, iom.outgoing(evt).code, iom.outgoing(evt).path) for evt in bad} == {
        ("refused", "signature_invalid", "L1")
    }
    chain = manifests(town, "bi.referral.k7t4")
    assert sorted([one.seq for one in chain] + [seq for one in chain for seq in one.voids]) == list(range(1, 42))
    [voided] = iom.sent("chain.voided")  # nothing else was on its way
    assert voided.voids == refused
    assert voided.state == "promised"
    assert iom.box.chains.unnamed_voids("bi.referral.k7t4") == ()
    assert [iom.box.thread(iom.outgoing(evt).thread) for evt in bad] == [None] * len(bad)
    assert iom.send() == 0


def test_the_next_manifest_names_the_refused_number(town: Agencies) -> None:
    iom = town["bi/iom"]
    first = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    no = RecordError("signature_invalid", "L1")
    iom.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.endswith(first) else None)
    iom.send()
    second = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.send()
    assert iom.outgoing(second).voids == (1,)
    assert iom.sent("chain.voided") == []
    [manifest] = manifests(town, "bi.referral.k7t4")
    assert (manifest.seq, manifest.voids) == (2, (1,))


def test_a_refused_manifest_has_named_nothing(town: Agencies) -> None:
    iom = town["bi/iom"]
    bad: set[str] = set()
    no = RecordError("signature_invalid", "L1")
    iom.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.rpartition("/")[2] in bad else None)
    for _ in range(2):
        bad.add(iom.evt(iom.draft("bi/k7t4", "referral.requested", referral())))
        iom.send()
    third = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.send()
    assert iom.outgoing(third).voids == (1, 2)


def test_a_log_that_refuses_everything_is_not_told_about_it_for_ever(town: Agencies) -> None:
    iom = town["bi/iom"]
    iom.runner.log = Gate(town.log, refuses=lambda _entry: RegistryError("key_revoked"))
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle(["bi/iom"])
    assert [item.state for item in iom.box.outbox()] == ["refused", "refused"]  # the referral and one chain.voided
    iom.runner.log = town.log
    last = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    town.settle(["bi/iom"])
    assert iom.outgoing(last).voids == (1, 2)


@pytest.mark.parametrize("gone", ["left", "keys", "role"])
def test_a_chain_towards_somebody_who_is_gone_stops_no_other(town: Agencies, gone: str) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    no = RecordError("signature_invalid", "L1")
    iom.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.endswith(evt) else None)
    iom.send()
    registry, shelter = town.domain.registry, town.domain.registry.agency("bi/k7t4")
    if gone == "left":
        others = {name: one for name, one in registry.agencies.items() if name != "bi/k7t4"}
        town.domain.registry = replace(registry, agencies=others)
    elif gone == "keys":
        town.domain.revoke("bi/k7t4", town.domain.members["bi/k7t4"].seal.kid, int(town.now))
    else:
        town.domain.registry = registry.with_agency(replace(shelter, roles=("clinic",)), int(town.now))
    other = iom.evt(iom.draft("bi/r5w2", "referral.requested", referral()))
    assert iom.send() == 1
    assert iom.outgoing(other).state == "promised"


def test_when_the_first_event_of_a_thread_is_refused_what_waits_behind_it_is_given_up(town: Agencies) -> None:
    iom, ministry = town["bi/iom"], town.domain.registry.agency("bi/min-solidarity")
    screener = replace(ministry, roles=("screener", "assistance"))
    town.domain.registry = town.domain.registry.with_agency(screener, int(town.now))
    first = iom.evt(iom.draft("bi/min-solidarity", "case.identified", identified()))
    iom.runner.sender.sign_waiting()
    thread = iom.outgoing(first).thread
    behind = iom.evt(iom.draft("bi/min-solidarity", "case.screened", identified(), thread=thread))
    other = iom.evt(iom.draft("bi/min-solidarity", "case.identified", identified()))
    given_up = iom.box.refuse(first, "signature_invalid", "L1", int(town.now))
    assert [item.evt for item in given_up] == [first, behind]
    assert [iom.outgoing(evt).state for evt in (first, behind)] == ["refused"] * 2
    assert {iom.outgoing(evt).code for evt in (first, behind)} == {"signature_invalid"}
    assert iom.box.thread(thread) is None
    assert iom.box.chains.unnamed_voids("bi.case.min-solidarity") == (1,)
    assert iom.outgoing(other).state == "waiting"
    assert iom.box.refuse(first, "signature_invalid", "L1", int(town.now)) == []
    town.settle()
    assert [one.evt for one in town["bi/min-solidarity"].system.arrived] == [other]


def test_what_is_signed_behind_a_refused_event_goes_on_since_it_may_be_in_the_log(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    for type in ("referral.received", "referral.accepted"):
        shelter.draft("bi/iom", type, said(), thread=thread)
    [received], [accepted] = shelter.sent("referral.received"), shelter.sent("referral.accepted")
    shelter.runner.sender.sign_waiting()
    assert [one.evt for one in shelter.box.refuse(received.evt, "too_large", None, int(town.now))] == [received.evt]
    assert shelter.outgoing(accepted.evt).state == "signed"
    assert state_of(shelter, thread) == "accepted"
    town.settle()
    assert shelter.outgoing(accepted.evt).state == "delivered"
    assert state_of(iom, thread) == state_of(shelter, thread) == "accepted"


def test_refused_one_after_the_other_a_thread_goes_back_to_before_the_first(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    for type in ("referral.received", "referral.accepted"):
        shelter.draft("bi/iom", type, said(), thread=thread)
    shelter.runner.sender.sign_waiting()
    for type in ("referral.received", "referral.accepted"):
        [item] = shelter.sent(type)
        shelter.box.refuse(item.evt, "too_large", None, int(town.now))
    assert state_of(shelter, thread) == "requested"


def test_a_refused_answer_puts_its_thread_back(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    for type in ("referral.received", "referral.accepted", "referral.started"):
        shelter.draft("bi/iom", type, said(), thread=thread)
    [accepted] = shelter.sent("referral.accepted")
    shelter.box.refuse(accepted.evt, "signature_invalid", "L1", int(town.now))
    assert state_of(shelter, thread) == "received"
    assert [item.state for item in shelter.box.outbox()][-3:] == ["waiting", "refused", "refused"]


def test_what_is_in_the_log_is_never_given_up_for_a_refusal_before_it(town: Agencies) -> None:
    """A thread's first record refused, its second signed already: that is sent, stays promised, its number counts."""
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    request = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    town.settle()
    thread = iom.outgoing(request).thread
    accepted = shelter.evt(shelter.draft("bi/iom", "referral.accepted", said(), thread=thread))
    started = shelter.evt(shelter.draft("bi/iom", "referral.started", said(), thread=thread))
    no = RecordError("signature_invalid", "L1")
    shelter.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.endswith(accepted) else None)
    shelter.send()
    assert [shelter.outgoing(evt).state for evt in (accepted, started)] == ["refused", "signed"]
    shelter.send()
    assert [shelter.outgoing(evt).state for evt in (accepted, started)] == ["refused", "promised"]
    assert shelter.box.chains.unnamed_voids("bi.referral.iom") == (1,)


def test_a_failed_request_as_a_whole_refuses_nobody_for_good(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    for error in (LogError("too_large"), PolicyError("not_permitted"), OrderError("clock_ahead")):
        iom.runner.log = Gate(town.log, breaks=error)
        assert iom.send() == 0
        assert (iom.outgoing(evt).state, iom.outgoing(evt).code) == ("signed", error.code)
        town.wait(LONGEST_RETRY_S)
    iom.runner.log = town.log
    assert iom.send() == 1


def test_a_retriable_refusal_waits_longer_each_time_and_keeps_its_mailbox_in_order(town: Agencies) -> None:
    iom = town["bi/iom"]
    first = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    later = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    elsewhere = iom.evt(iom.draft("bi/r5w2", "referral.requested", referral()))
    slow = PolicyError("quota_exceeded")
    gate = iom.runner.log = Gate(town.log, refuses=lambda entry: slow if entry.topic == "bi.referral.k7t4" else None)
    waits = []
    for _ in range(8):
        iom.send()
        waits.append(
            min(item.next_at for item in iom.box.outbox() if item.attempts and item.state == "signed") - town.now
        )
        assert iom.outgoing(first).state == iom.outgoing(later).state == "signed"
        assert iom.send() == 0
        town.wait(LONGEST_RETRY_S)
    assert iom.outgoing(elsewhere).state == "promised"
    ceilings = [min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**n) for n in range(8)]
    assert all(top / 2 <= wait <= top for wait, top in zip(waits, ceilings, strict=True))
    gate.refuses = lambda _entry: None
    iom.send()
    assert [one.evt for one in manifests(town, "bi.referral.k7t4")] == [first, later]


@pytest.mark.parametrize("code", ["agency_unknown", "key_unknown", "topic_unknown", "token_invalid"])
def test_an_installation_that_is_not_set_up_yet_keeps_its_records(town: Agencies, code: str) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    kinds = {"agency_unknown": RegistryError, "key_unknown": RegistryError, "topic_unknown": LogError}
    error = kinds.get(code, AccessError)(code)
    iom.runner.log = Gate(town.log, refuses=lambda _entry: error)
    iom.send()
    assert (iom.outgoing(evt).state, iom.outgoing(evt).code) == ("signed", code)


def test_backoff_is_bounded_and_jittered() -> None:
    random = seeded("backoff")
    for attempts, top in zip(
        range(12), itertools.chain((5 * 2**n for n in range(8)), itertools.repeat(900)), strict=False
    ):
        waits = [backoff_s(attempts, random) for _ in range(200)]
        assert top / 2 <= min(waits)
        assert max(waits) <= top
        assert max(waits) - min(waits) > top / 3  # two agencies do not come back together
    assert backoff_s(10**6, random) <= LONGEST_RETRY_S


# -- taking back -------------------------------------------------------------------------------------------------------


def test_cancelled_before_signing_a_new_thread_never_was(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    thread = iom.outgoing(evt).thread
    assert iom.box.cancel(evt, int(town.now))
    assert iom.box.thread(thread) is None
    assert iom.outgoing(evt).state == "cancelled"
    town.settle()
    assert town["bi/k7t4"].system.arrived == []
    assert iom.box.chains.head("bi.referral.k7t4") == (0, "")


def test_cancelled_before_signing_an_answer_puts_the_thread_back(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    evts = [
        shelter.evt(shelter.draft("bi/iom", type, said(), thread=thread))
        for type in ("referral.received", "referral.accepted")
    ]
    now = int(town.now)
    assert not shelter.box.cancel(evts[0], now)  # the acceptance stands on it
    assert state_of(shelter, thread) == "accepted"
    assert shelter.box.cancel(evts[1], now)
    assert state_of(shelter, thread) == "received"
    assert shelter.box.cancel(evts[0], now)
    assert state_of(shelter, thread) == "requested"
    assert not shelter.box.cancel(evts[0], now)
    assert shelter.draft("bi/iom", "referral.declined", said(reason="no-capacity"), thread=thread).problem is None


def state_of(agency: Agency, thread: str) -> str:
    found = agency.box.thread(thread)
    assert found is not None
    return found.state


def test_taking_back_does_not_undo_what_the_other_side_said_since(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    evt = shelter.evt(shelter.draft("bi/iom", "referral.accepted", said(), thread=thread))
    found = shelter.box.thread(thread)
    assert found is not None
    shelter.box.put_thread(replace(found, state="revoked", crossed=True), int(town.now))  # as the peer's word would
    assert shelter.box.cancel(evt, int(town.now))
    assert state_of(shelter, thread) == "revoked"


def test_once_signed_nothing_is_taken_back(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.runner.sender.sign_waiting()
    assert not iom.box.cancel(evt, int(town.now))
    assert not iom.box.cancel("unknown", int(town.now))
    town.settle()
    assert len(town["bi/k7t4"].system.arrived) == 1


def test_retry_sends_at_once(town: Agencies) -> None:
    iom = town["bi/iom"]
    evts = [iom.evt(iom.draft("bi/k7t4", "referral.requested", referral())) for _ in range(2)]
    iom.runner.log = Gate(town.log, breaks=LogError("unavailable"))
    iom.send()
    iom.runner.log = town.log
    assert iom.send() == 0
    assert iom.box.retry("unknown") == 0
    assert iom.box.retry(evts[0]) == 1
    assert iom.send() == 1
    assert iom.box.retry() == 1
    assert iom.send() == 1


def test_a_deadline_follows_from_the_priority(town: Agencies) -> None:
    iom = town["bi/iom"]
    hours_by_priority: dict[Priority, int] = {"immediate": 2, "emergency": 24, "urgent": 72, "normal": 14 * 24}
    for priority, hours in hours_by_priority.items():
        evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral(priority=priority)))
        thread = iom.box.thread(iom.outgoing(evt).thread)
        assert thread is not None
        assert iom.outgoing(evt).answer_by == thread.answer_by == int(town.now) + hours * 3600


def test_many_records_go_in_requests_of_bounded_size(town: Agencies) -> None:
    iom = town["bi/iom"]
    draft = iom.compose("bi/k7t4", "referral.requested", referral(), person="one")
    first = iom.outgoing(iom.take(draft)[0].evt)
    with iom.box.transaction():
        for number in range(449):
            thread = new_thread(town.domain.random)
            evt = f"{first.evt[:-3]}{number:03x}"
            iom.box.enqueue(replace(first, evt=evt, line=f"again {number}", thread=thread))
    sizes = []
    while sent := iom.send():
        sizes.append(sent)
    assert sum(sizes) == 450
    assert max(sizes) <= 200
    assert sizes[0] < sizes[1]  # how fast the link is shows with the first


def test_nothing_of_the_person_stands_in_the_outbox_file_but_the_reference(town: Agencies) -> None:
    iom = town["bi/iom"]
    iom.draft("bi/k7t4", "referral.requested", referral(), person="dossier-7731")
    town.settle()
    seen = bytes_of(town.folder)
    assert PLANTED.encode() not in seen
    assert bytes_of(town.folder, "bi-iom.db*").count(b"dossier-7731") >= 1
    assert b"dossier-7731" not in bytes_of(town.folder, "[!b]*") + bytes_of(town.folder, "bi-k7t4.db*")


def test_a_line_without_signature_cannot_be_sent(town: Agencies) -> None:
    iom = town["bi/iom"]
    item = iom.outgoing(iom.draft("bi/k7t4", "referral.requested", referral()).evt)
    with pytest.raises(ValueError, match="unsigned"):
        iom.runner.sender.entry(item)


def test_parts_of_the_manifest_are_those_that_were_sealed(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    sealed = iom.outgoing(evt)
    iom.send()
    line1 = iom.outgoing(evt).l1
    assert line1 is not None
    manifest = parse_manifest(line1)[3]
    assert manifest.parts == tuple(Part(*part) for part in json.loads(sealed.parts))
    [stored] = town.run(town.log.read("bi.referral.k7t4", -1))
    assert isinstance(stored.value, bytes)
    assert stored.value == line1 + b"\n" + sealed.body
    assert Entry(stored.topic, stored.key, stored.ident, stored.value, stored.headers) == iom.runner.sender.entry(
        iom.outgoing(evt)
    )
