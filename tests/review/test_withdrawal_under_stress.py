# SPDX-License-Identifier: Apache-2.0
"""A withdrawal met by what else happens: items that wait, a gateway that refuses, holders that boast, police that ask.

A withdrawal must always be taken, must stop nothing but what rested on her consent, and must never cost her a bed that
she did not give up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.envelope import parse_record
from schemas.errors import LogError, OrderError, RegistryError, UmuhuzaError
from schemas.forms import Consent, Facts, Information, Lawful, Movement, Name
from schemas.plain.consent import ConsentAcknowledged, ConsentGranted, ConsentWithdrawn
from tests.agencies import Agencies, Gate, at, consented, identified, referral, said
from tests.schemas.samples import SAMPLES
from topics.log import Appended, Ends, Entry

IOM, SHELTER, MINISTRY, POLICE, OTHER = "bi/iom", "bi/k7t4", "bi/min-solidarity", "bi/police", "bi/r5w2"
HER = "DOSSIER-17"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def in_the_shelter(town: Agencies) -> str:
    """IOM has referred her and the shelter has begun; the thread."""
    iom, shelter = town[IOM], town[SHELTER]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    town.settle()
    thread = shelter.thread_with(IOM)
    for type in ("referral.accepted", "referral.started"):
        shelter.evt(shelter.draft(IOM, type, said(), thread=thread, person="CHAMBRE-3"))
    town.settle()
    town.wait(60)
    return thread


def granted() -> Facts:
    consent = Consent(given_at=at(-60), expires_at=at(86_400 * 200))
    return Facts(occurred_at=at(), said=ConsentGranted(extent="full", consent=consent))


def told() -> Facts:
    """Information given on her consent."""
    return Facts(occurred_at=at(), lawful=consented(), information=Information(name=Name(as_given="Aline Inventée")))


class Away(Gate):
    """No network."""

    async def ends(self, topic: str) -> Ends:
        raise LogError("unavailable", topic)


class Cut(Away):
    """The network goes while something is under way: the log takes it, or does not, and nobody hears."""

    took: bool = False

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        if self.took:
            await self.log.append(entries)
        raise LogError("unavailable", "append")


def cut_off(town: Agencies, *, took: bool) -> str:
    """A referral is signed and under way when the network goes; then she withdraws. The referral."""
    iom = town[IOM]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    gate = Cut(town.log)
    gate.took = took
    iom.runner.log = gate
    iom.send()
    assert iom.outgoing(asked).state == "signed"
    done = iom.consents.withdraw(HER, "sharing")
    assert (done.stopped, done.told) == ((asked,), ())
    for _ in range(3):
        town.wait(1000)
        with suppress(LogError):
            iom.send()
    assert iom.outgoing(asked).l1 is not None
    iom.runner.log = town.log
    return asked


def test_what_was_signed_when_the_network_went_does_not_leave_after_she_has_withdrawn(town: Agencies) -> None:
    asked = cut_off(town, took=False)
    town.wait(1000)
    town.settle()
    iom = town[IOM]
    assert [one.type for one in town[SHELTER].inbox()] == ["chain.voided"]
    assert (iom.outgoing(asked).state, iom.outgoing(asked).code) == ("refused", "consent_withdrawn")
    assert iom.sent("consent.withdrawn") == []  # nobody holds anything of her
    assert [thread for thread in iom.box.threads() if thread.peer == SHELTER] == []
    # Its number is void, and the chain goes on for others.
    other = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="DOSSIER-18"))
    town.settle()
    assert iom.outgoing(other).state == "delivered"
    assert town[SHELTER].inbox("quarantined") == []


def test_whoever_got_it_all_the_same_before_the_network_went_is_told_that_she_withdrew(town: Agencies) -> None:
    asked = cut_off(town, took=True)
    for _ in range(3):
        town.wait(1000)
        town.settle()
    assert town[IOM].outgoing(asked).state == "delivered"
    assert [one.facts.said for one in town[SHELTER].opened("consent.withdrawn")] == [ConsentWithdrawn(scope="sharing")]
    assert town[SHELTER].inbox("quarantined") == []
    [holder] = town[IOM].consents.book.holders(int(town.now), HER)
    assert holder.state == "withdrawn-sharing"


def test_a_gateway_that_has_it_says_so_when_its_number_is_called_void_and_its_reader_is_told(town: Agencies) -> None:
    asked = cut_off(town, took=True)
    iom = town[IOM]

    def has_it(entry: Entry) -> UmuhuzaError | None:
        manifest = parse_record(entry.value).manifest
        return OrderError("chain_broken", "L1.voids[0]") if manifest.voids else None

    iom.runner.log = Gate(town.log, has_it)
    for _ in range(4):
        town.wait(1000)
        iom.send()
        iom.deliver()
    assert iom.outgoing(asked).state == "promised"
    assert [one.type for one in iom.box.outbox() if one.state == "promised"] == [
        "referral.requested",
        "consent.withdrawn",
    ]


def test_a_withdrawal_drafted_by_hand_would_stop_nothing_here_and_is_sent_to_its_command(town: Agencies) -> None:
    thread, iom = in_the_shelter(town), town[IOM]
    said_so = Facts(occurred_at=at(60), said=ConsentWithdrawn(scope="sharing"))
    refused = iom.draft(SHELTER, "consent.withdrawn", said_so, thread=thread)
    assert refused.problem is not None
    assert (refused.problem.code, refused.problem.path) == ("command_needed", "type")
    assert "withdraw" in refused.problem.fr


def test_a_consent_renewed_and_not_sent_yet_does_not_keep_her_from_withdrawing_it(town: Agencies) -> None:
    thread, iom = in_the_shelter(town), town[IOM]
    renewed = iom.evt(iom.draft(SHELTER, "consent.granted", granted(), thread=thread))
    done = iom.consents.withdraw(HER, "sharing")
    assert renewed in done.taken_back
    town.settle()
    assert town[SHELTER].opened("consent.granted") == []
    assert [one.facts.said for one in town[SHELTER].opened("consent.withdrawn")] == [ConsentWithdrawn(scope="sharing")]


def test_nor_does_it_stop_the_mailbox_of_who_is_told_by_another(town: Agencies) -> None:
    thread, shelter = in_the_shelter(town), town[SHELTER]
    shelter.evt(shelter.draft(MINISTRY, "referral.requested", referral(services=("Health",)), person="CHAMBRE-3"))
    town.settle()
    onward = shelter.thread_with(MINISTRY)
    town.wait(60)
    shelter.evt(shelter.draft(MINISTRY, "consent.granted", granted(), thread=onward))
    town[IOM].consents.withdraw(HER, "sharing")
    town[IOM].send()
    shelter.receive()
    town.settle()
    assert "consent.withdrawn" in [item.type for item in shelter.inbox() if item.thread == thread]
    assert town[MINISTRY].opened("consent.granted") == []


@pytest.mark.parametrize("type", ["consent.withdrawn", "consent.granted"])
def test_a_gateway_that_refuses_what_is_said_of_consent_stops_nothing_else(town: Agencies, type: str) -> None:
    thread, iom = in_the_shelter(town), town[IOM]
    if type == "consent.granted":
        iom.evt(iom.draft(SHELTER, type, granted(), thread=thread))
    else:
        iom.consents.withdraw(HER, "service")
    [refused] = [one.evt for one in iom.sent(type)]
    iom.runner.log = Gate(
        town.log, lambda entry: RegistryError("key_revoked") if entry.ident.endswith(refused) else None
    )
    other = iom.evt(iom.draft(OTHER, "referral.requested", referral(), person="DOSSIER-18"))
    for _ in range(3):
        iom.send()
        town.wait(1000)
    assert iom.outgoing(refused).state == "refused"
    assert iom.outgoing(other).state == "promised"
    assert iom.state_of(thread) == "in-progress"


def test_an_alert_that_she_is_missing_leaves_although_she_had_withdrawn_sharing(town: Agencies) -> None:
    in_the_shelter(town)
    iom = town[IOM]
    alert = iom.evt(iom.draft(POLICE, "alert.missing", SAMPLES["alert.missing"][0], person=HER))
    done = iom.consents.withdraw(HER, "sharing")
    assert alert not in done.taken_back
    town.settle()
    assert town[POLICE].opened("alert.missing")


def test_what_waits_to_tell_of_her_is_taken_back_although_something_waits_behind_it(town: Agencies) -> None:
    thread, iom = in_the_shelter(town), town[IOM]
    tells = iom.evt(iom.draft(SHELTER, "information.answered", told(), thread=thread))
    on_her_way = Movement(departed_at=at(), expected_at=at(7200))
    left = iom.evt(iom.draft(SHELTER, "movement.departed", Facts(occurred_at=at(), movement=on_her_way), thread=thread))
    done = iom.consents.withdraw(HER, "sharing")
    assert done.taken_back == (tells,)
    town.settle()
    assert town[SHELTER].opened("information.answered") == []
    assert iom.outgoing(left).state == "delivered"


def test_a_request_that_waits_with_more_behind_it_never_leaves(town: Agencies) -> None:
    iom = town[IOM]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    thread = iom.outgoing(asked).thread
    revoked = iom.evt(iom.draft(SHELTER, "referral.revoked", said(), thread=thread))
    done = iom.consents.withdraw(HER, "sharing")
    assert set(done.taken_back) == {asked, revoked}
    town.settle()
    assert town[SHELTER].inbox() == []
    assert iom.box.thread(thread) is None


def test_what_was_written_while_nobody_answered_can_still_be_taken_back(town: Agencies) -> None:
    """A laptop without a network: the first attempt is signed, what comes later waits for an answer first."""
    in_the_shelter(town)
    iom = town[IOM]
    iom.runner.log = Away(town.log, breaks=LogError("unavailable"))
    first = iom.evt(iom.draft(MINISTRY, "referral.requested", referral(), person="DOSSIER-18"))
    iom.send()
    hers = iom.evt(iom.draft(MINISTRY, "referral.requested", referral(), person=HER))
    with pytest.raises(LogError):
        iom.send()
    assert (iom.outgoing(first).state, iom.outgoing(hers).state) == ("signed", "waiting")
    done = iom.consents.withdraw(HER, "sharing")
    assert done.taken_back == (hers,)
    iom.runner.log = town.log
    town.wait(1000)
    town.settle()
    assert [item.ident for item in town[MINISTRY].inbox()] == [f"{IOM}/{first}"]


def test_a_consent_that_ran_out_while_the_record_waited_takes_the_record_with_it(town: Agencies) -> None:
    iom = town[IOM]
    soon = Lawful(basis="consent", consent=Consent(given_at=at(-7200), expires_at=at(3600)))
    late = iom.evt(iom.draft(SHELTER, "referral.requested", referral(lawful=soon), person=HER))
    other = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="DOSSIER-18"))
    town.wait(3601)
    town.settle()
    item = iom.outgoing(late)
    assert (item.state, item.code, item.path) == ("refused", "consent_expired", "lawful.consent.expires_at")
    assert (late, "refused", "consent_expired") in iom.system.changes
    assert [one.ident for one in town[SHELTER].inbox()] == [f"{IOM}/{other}"]


def test_holders_that_boast_of_many_more_do_not_stop_the_mailbox(town: Agencies) -> None:
    in_the_shelter(town)
    shelter, ministry = town[SHELTER], town[MINISTRY]
    shelter.evt(shelter.draft(MINISTRY, "referral.requested", referral(services=("Health",)), person="CHAMBRE-3"))
    town.settle()
    town.wait(60)
    done = town[IOM].consents.withdraw(HER, "sharing")
    town[IOM].send()
    shelter.receive()
    shelter.send()
    ministry.receive()
    asked = next(item for item in shelter.sent("consent.withdrawn"))
    boast = Facts(occurred_at=at(), said=ConsentAcknowledged(scope="sharing", onward_confirmed=10_000))
    town.put(
        town.seal(MINISTRY, SHELTER, "consent.acknowledged", boast, flow="referral", thread=asked.thread, ref=asked.evt)
    )
    shelter.receive()
    shelter.send()
    town[IOM].receive()
    [noted] = town[IOM].consents.book.told(done.number)
    assert noted.onward == 10_000


def test_who_handed_her_over_cannot_end_her_stay(town: Agencies) -> None:
    """On a case no service runs: police that say she wants no service any more stop nothing but sharing."""
    police, iom = town[POLICE], town[IOM]
    police.evt(police.draft(IOM, "case.identified", identified()))
    town.settle()
    case = iom.thread_with(POLICE)
    iom.consents.link(case, HER)
    stay = in_the_shelter(town)
    police.evt(
        police.draft(
            IOM, "consent.withdrawn", Facts(occurred_at=at(), said=ConsentWithdrawn(scope="service")), thread=case
        )
    )
    town.settle()
    assert (iom.state_of(stay), town[SHELTER].state_of(stay)) == ("in-progress", "in-progress")
    assert [one.facts.said for one in town[SHELTER].opened("consent.withdrawn")] == [ConsentWithdrawn(scope="sharing")]


def test_what_is_told_on_a_withdrawn_consent_is_not_taken_by_its_reader_either(town: Agencies) -> None:
    """An adapter that does not hold back what it must (or a hostile one) is held to it by the other side."""
    thread, iom, shelter = in_the_shelter(town), town[IOM], town[SHELTER]
    iom.consents.withdraw(HER, "sharing")
    town.settle()
    seq, head = iom.box.chains.head("bi.referral.k7t4")
    old = town.seal(IOM, SHELTER, "information.answered", told(), thread=thread, seq=seq + 1, prev=head)
    town.put(old)
    shelter.receive()
    [item] = [one for one in shelter.inbox() if one.ident == old.manifest.ident]
    assert (item.state, item.code, item.path) == ("quarantined", "consent_withdrawn", "lawful.consent.given_at")
    anew = told().model_copy(
        update={"lawful": Lawful(basis="consent", consent=Consent(given_at=at(61), expires_at=at(86_400)))}
    )
    new = town.seal(IOM, SHELTER, "information.answered", anew, thread=thread)
    town.put(new)
    shelter.receive()
    assert [one.state for one in shelter.inbox() if one.ident == new.manifest.ident] == ["ready"]


def test_a_consent_given_anew_before_a_withdrawal_is_passed_on_stands_at_the_reader(town: Agencies) -> None:
    """The shelter was told of a withdrawal and links the thread hours later; in between she consented anew."""
    iom, shelter, ministry = town[IOM], town[SHELTER], town[MINISTRY]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    town.settle()
    stay = shelter.thread_with(IOM)
    shelter.evt(shelter.draft(MINISTRY, "referral.requested", referral(), person="CHAMBRE-3"))
    town.settle()
    onward = ministry.thread_with(SHELTER)
    town.wait(60)
    iom.consents.withdraw(HER, "sharing")
    town.settle()
    town.wait(7200)
    shelter.consents.link(stay, "CHAMBRE-3")
    town.settle()
    anew = Lawful(basis="consent", consent=Consent(given_at=at(3600), expires_at=at(86_400 * 9)))
    facts = told().model_copy(update={"lawful": anew})
    shelter.evt(shelter.draft(MINISTRY, "information.answered", facts, thread=onward))
    town.settle()
    assert ministry.inbox("quarantined") == []
    assert len(ministry.opened("information.answered")) == 1
