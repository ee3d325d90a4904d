# SPDX-License-Identifier: Apache-2.0
"""A key that is revoked by now: the home ledger's order says what it still counted for, and no clock does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.home_ledger import NO_LEDGER, Place, ReceiptedLedger, ToldLedger
from adapters.receipt_book import ReceiptSource
from adapters.runner import Runner
from schemas.envelope import parse_record
from schemas.errors import AccessError, LogError
from schemas.forms import Facts
from schemas.plain.rights import DisclosureRequested
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from tests.adapters.hand_made import MINISTRY, SHELTER, good
from tests.adapters.town_ledger import Ledger
from tests.agencies import Agencies, Agency, at, identified
from tests.domain import MEMBERS
from tests.topics.ledger_world import SIGNERS
from tests.trees import log_signers

POLICY = TrustPolicy(tuple(TrustedLog(one.public) for one in SIGNERS), (), (), NONE)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


@pytest.fixture
def ledger(town: Agencies) -> Iterator[Ledger]:
    made = Ledger(town)
    yield made
    made.close()


def asks(agency: Agency, ledger: Ledger, policy: TrustPolicy = POLICY) -> Agency:
    """The agency, told whose ledger to believe."""
    home = ReceiptedLedger(ledger, lambda: policy, "bi")
    agency.runner = Runner(agency.runner.desk, agency.runner.log, [agency.system], home=home)
    return agency


def revoke(town: Agencies, seconds: float, compromised_since: int | None = None) -> None:
    """The ministry's key, from so many seconds after now on as clocks have it."""
    domain = town.domain
    kid = domain.members[MINISTRY].sig.kid
    domain.registry = domain.registry.with_key_revoked(MINISTRY, kid, int(town.now + seconds), compromised_since)


def states(agency: Agency) -> list[tuple[str, str | None]]:
    return [(item.state, item.code) for item in agency.inbox()]


def test_what_was_logged_before_a_revocation_and_arrives_after_it_is_taken_with_its_proof(
    town: Agencies, ledger: Ledger
) -> None:
    """Dated back by an hour, as somebody says since when the laptop was gone; published only now."""
    shelter = asks(town[SHELTER], ledger)
    ledger.step()
    town.put(good(town))
    ledger.step()
    revoke(town, -3600)
    ledger.step()
    shelter.receive()
    shelter.deliver()
    assert states(shelter) == [("delivered", None)]
    assert len(ledger.asked) == 1


def test_without_a_ledger_to_ask_the_logs_time_decides_alone(town: Agencies) -> None:
    shelter = town[SHELTER]
    town.put(good(town))
    revoke(town, -3600)
    shelter.receive()
    assert states(shelter) == [("quarantined", "key_revoked")]


def told(agency: Agency, source: ReceiptSource, said: list[str]) -> Agency:
    """The agency, not told whose ledger to believe."""
    home = ToldLedger(source, lambda: said.append("unchecked"))
    agency.runner = Runner(agency.runner.desk, agency.runner.log, [agency.system], home=home)
    return agency


def test_an_agency_without_trust_goes_by_the_ledgers_order_too_and_is_told_that_it_could_not_check_it(
    town: Agencies, ledger: Ledger
) -> None:
    said: list[str] = []
    shelter = told(town[SHELTER], ledger, said)
    ledger.step()
    town.put(good(town))
    ledger.step()
    shelter.receive()
    assert said == [], "no key is revoked: nobody is asked"
    town.put(good(town))
    ledger.step()
    revoke(town, -3600)
    ledger.step()
    shelter.receive()
    assert [item.code for item in shelter.inbox()] == [None, None]
    assert said == ["unchecked"]
    revoke(town, +60)  # whoever owns the log has set its clock back
    ledger.step()
    town.put(good(town))
    ledger.step()
    shelter.receive()
    assert states(shelter)[-1] == ("quarantined", "key_revoked")


def test_an_agency_without_trust_believes_no_receipt_that_contradicts_itself(town: Agencies, ledger: Ledger) -> None:
    first, second = good(town), good(town)
    for record in (first, second):
        town.put(record)
    ledger.step()
    one, other = (parse_record(record.value).digest for record in (first, second))

    class Twisted:
        async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            [data] = await ledger.receipts(l1_sha256)
            return [None if data is None else data.replace(b"index 0", b"index 1")]

    class Exchanged:
        async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            return list(reversed(await ledger.receipts(l1_sha256)))

    for liar, asked in ((Twisted(), [one]), (Exchanged(), [one, other])):
        with pytest.raises(LogError, match="root_mismatch"):
            town.run(ToldLedger(liar, lambda: None).places(asked))
    assert town.run(ToldLedger(ledger, lambda: None).places([one])) == {one: Place(0, None)}


def test_where_the_gateway_keeps_no_ledger_the_logs_time_decides(town: Agencies) -> None:
    class WithoutLedger:
        async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            raise AccessError(*NO_LEDGER)

    said: list[str] = []
    shelter = told(town[SHELTER], WithoutLedger(), said)
    before = good(town)
    town.put(before)
    town.wait(10)
    revoke(town, -5)
    shelter.receive()
    town.wait(10)
    town.put(good(town))
    shelter.receive()
    shelter.deliver()
    assert states(shelter) == [("delivered", None), ("quarantined", "key_revoked")]
    assert said == []


def test_what_a_stolen_key_signs_afterwards_is_refused_although_the_log_dates_it_back(
    town: Agencies, ledger: Ledger
) -> None:
    shelter = asks(town[SHELTER], ledger)
    ledger.step()
    revoke(town, +60)  # by the log's clock that is still to come: whoever owns the log has set it back
    ledger.step()
    town.put(good(town))
    ledger.step()
    shelter.receive()
    assert states(shelter) == [("quarantined", "key_revoked")]


def test_what_stands_behind_the_size_since_which_a_key_was_stolen_is_refused(town: Agencies, ledger: Ledger) -> None:
    shelter = asks(town[SHELTER], ledger)
    ledger.step()
    town.put(good(town))
    size = ledger.step()
    town.put(good(town))
    ledger.step()
    revoke(town, +60, compromised_since=size)
    ledger.step()
    shelter.receive()
    shelter.deliver()
    assert states(shelter) == [("delivered", None), ("quarantined", "key_revoked")]


def test_a_size_of_a_lost_ledger_is_none_of_the_one_that_follows_it(town: Agencies, ledger: Ledger) -> None:
    """All that stands in the second ledger came after the theft in the first one's time, whatever its index."""

    class Second:
        async def places(self, l1_sha256: Sequence[bytes]) -> dict[bytes, Place]:
            return {one: Place(0, None, ledger=2) for one in l1_sha256}

    shelter = town[SHELTER]
    shelter.runner = Runner(shelter.runner.desk, shelter.runner.log, [shelter.system], home=Second())
    town.put(good(town))
    revoke(town, +60, compromised_since=9999)
    shelter.receive()
    assert states(shelter) == [("quarantined", "key_revoked")]


def test_until_the_ledger_has_spoken_that_mailbox_stands_still_and_the_others_do_not(
    town: Agencies, ledger: Ledger
) -> None:
    shelter = asks(town[SHELTER], ledger)
    revoke(town, +60)
    screened = identified().model_copy(update={"htcds": {"prs_Gender": "Feminine"}})
    elsewhere = town.seal("bi/iom", SHELTER, "case.screened", screened)
    for record in (good(town), elsewhere):
        town.put(record)
    for _ in range(2):
        with pytest.raises(LogError) as caught:
            shelter.receive()
        assert (caught.value.code, caught.value.path) == ("ledger_behind", "bi.referral.k7t4")
    shelter.deliver()
    assert [one.evt for one in shelter.system.arrived] == [elsewhere.manifest.evt]
    ledger.step()  # begins here: all that is there is judged by the version that revokes, and by the log's time
    shelter.receive()
    assert [item.code for item in shelter.inbox() if item.state == "quarantined"] == []
    assert len(shelter.inbox()) == 2


def test_too_late_by_the_logs_time_and_unknown_to_the_ledger_for_an_hour_is_refused(
    town: Agencies, ledger: Ledger
) -> None:
    shelter = asks(town[SHELTER], ledger)
    revoke(town, -60)
    town.put(good(town))
    with pytest.raises(LogError, match="ledger_behind"):
        shelter.receive()
    town.wait(3601)
    shelter.receive()
    assert states(shelter) == [("quarantined", "key_revoked")]


def test_a_receipt_of_another_ledger_or_of_another_record_says_nothing(town: Agencies, ledger: Ledger) -> None:
    first, second = good(town), good(town)
    for record in (first, second):
        town.put(record)
    ledger.step()
    strangers = TrustPolicy(tuple(TrustedLog(one.public) for one in log_signers("tn")), (), (), NONE)
    one, other = (parse_record(record.value).digest for record in (first, second))

    class Exchanged:
        async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            return list(reversed(await ledger.receipts(l1_sha256)))

    with pytest.raises(LogError, match="log_unknown"):
        town.run(ReceiptedLedger(ledger, lambda: strangers, "bi").places([one]))
    with pytest.raises(LogError, match="root_mismatch"):
        town.run(ReceiptedLedger(Exchanged(), lambda: POLICY, "bi").places([one, other]))
    found = town.run(ReceiptedLedger(ledger, lambda: POLICY, "bi").places([one, other, one, bytes(32)]))
    assert found == {one: Place(0, None), other: Place(1, None)}


@pytest.mark.parametrize("asking", [False, True])
def test_a_court_is_shown_a_record_of_a_revoked_key_only_with_the_ledgers_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: bool
) -> None:
    """The time in a record that is shown is its issuer's claim: whoever stole the key writes any."""
    monkeypatch.setitem(MEMBERS, "bi/court", ("Tribunal (inventé)", ("judiciary",), False))
    with Agencies(tmp_path) as town:
        ledger = Ledger(town)
        police, iom, court = town["bi/police"], town["bi/iom"], town["bi/court"]
        shown = f"bi/police/{police.evt(police.draft('bi/iom', 'case.identified', identified()))}"
        order = DisclosureRequested(
            capacity="court", order="Ordonnance fictive", scope=("content",), expires_at=at(86_400), record=shown
        )
        request = court.evt(court.draft("bi/iom", "disclosure.requested", Facts(occurred_at=at(), said=order)))
        town.settle()
        ledger.step()
        disclosures = iom.runner.inbox.corrections.disclosures
        by = disclosures.grant(court.outgoing(request).thread, shown)
        iom.send()
        key = town.domain.members["bi/police"].sig.kid
        town.domain.registry = town.domain.registry.with_key_revoked("bi/police", key, int(town.now) + 60)
        if asking:
            asks(court, ledger)
        court.receive()
        [item] = [one for one in court.inbox() if one.evt == by]
        assert (item.state, item.code) == (("held", "ledger_behind") if asking else ("quarantined", "key_revoked"))
        court.deliver()
        [item] = [one for one in court.inbox() if one.evt == by]
        assert item.state == ("delivered" if asking else "quarantined")
        if asking:
            opened = court.runner.inbox.corrections.disclosures.open(f"bi/iom/{by}")
            assert opened.keys() == {"content"}
        ledger.close()
