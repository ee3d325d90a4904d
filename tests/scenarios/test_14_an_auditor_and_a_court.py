# SPDX-License-Identifier: Apache-2.0
"""Scenario 14. An auditor proves from the log that nothing was altered or left out; a court reads one part.

The auditor has the log's records and the domain's signed registry, and no key that opens anything. Every record
carries its issuer's signature over the digests of its sealed parts, its number in its issuer's chain and the hash of
the one before. One byte changed, and exactly that record is named; one record left out, put elsewhere or invented, and
the chain says where. Of the person the auditor sees nothing.

A court has an order for the content of one record, not for who she is. The holder discloses exactly that part, until a
day; the other part opens for nobody, and somebody has to look at the disclosure afterwards.

Cutting off the end of a chain leaves no gap in it: against that stand the promises and receipts that the other side
holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from adapters.disclosures import Disclosures
from schemas.envelope import chain_hash, check_copies, parse_record
from schemas.errors import OrderError, RecordError, UmuhuzaError
from schemas.forms import Facts
from schemas.plain.rights import DisclosureRequested
from tests.scenarios.town import Agency, Town
from topics.catalogue import topics_of
from topics.log import Entry, Stored

NAME = "Gakobwa-Inventée"
WORD = "un atelier de couture inventé"


def everything(town: Town) -> list[Stored]:
    """What stands in the log, mailbox by mailbox."""
    found: list[Stored] = []
    for topic in topics_of(town.domain.registry):
        if ".grants." not in topic:
            found += town.run(town.log.read(topic, -1))
    return found


def audited(town: Town, entries: Sequence[Stored]) -> list[tuple[str, str]]:
    """What is wrong with these records, by identity and code; with the registry alone."""
    wrong: list[tuple[str, str]] = []
    chains: dict[tuple[str, str], tuple[int, str]] = {}
    for entry in entries:
        try:
            record = parse_record(entry.value)
            check_copies(record, entry.topic, entry.key, entry.headers)
            manifest = record.manifest
            record.verify(town.domain.registry.signing_key(manifest.iss, record.kid, entry.at_ms // 1000))
            record.verify_body()
        except UmuhuzaError as exc:
            wrong.append((entry.ident, exc.code))
            continue
        chain = (manifest.iss, manifest.topic)
        seq, head = chains.get(chain, (0, ""))
        if (manifest.seq, manifest.prev) != (seq + 1, head):
            wrong.append((entry.ident, "chain_broken"))
        chains[chain] = (manifest.seq, chain_hash(record.signed))
    return wrong


def told(town: Town) -> list[str]:
    """A stay: identified, referred, accepted, three services. The referral's and the services' events."""
    police, iom, shelter = town["bi/police"], town["bi/iom"], town["bi/k7t4"]
    police.draft("bi/iom", "case.identified", town.identified(NAME))
    referral = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, reason=WORD), person="IOM-14")
    town.settle()
    for type in ("referral.received", "referral.accepted", "referral.started"):
        shelter.draft("bi/iom", type, town.plainly(), thread=shelter.thread(referral))
    town.settle()
    services = [
        shelter.draft("bi/iom", "service.provided", town.served("Health"), thread=shelter.thread(referral))
        for _ in range(3)
    ]
    town.settle()
    return [referral, *services]


def test_an_auditor_finds_what_was_altered_left_out_or_invented_and_sees_nobody(town: Town) -> None:
    referral, first, second, third = told(town)
    log = everything(town)
    assert len(log) > 12
    assert audited(town, log) == []

    [place] = [n for n, entry in enumerate(log) if entry.ident == f"bi/iom/{referral}"]
    value = log[place].value
    at = value.index(b"\n") + 200
    altered = value[:at] + (b"B" if value[at : at + 1] == b"A" else b"A") + value[at + 1 :]
    [(named, _)] = audited(town, [*log[:place], replace(log[place], value=altered), *log[place + 1 :]])
    assert named == f"bi/iom/{referral}"

    left_out = [entry for entry in log if entry.ident != f"bi/k7t4/{second}"]
    assert audited(town, left_out) == [(f"bi/k7t4/{third}", "chain_broken")]

    one, two = (n for n, entry in enumerate(log) if entry.ident in (f"bi/k7t4/{first}", f"bi/k7t4/{second}"))
    exchanged = list(log)
    exchanged[one], exchanged[two] = exchanged[two], exchanged[one]
    assert (f"bi/k7t4/{second}", "chain_broken") in audited(town, exchanged)

    stranger = town.domain.record("bi/police", "bi/iom", "case", "request", signer=town.domain.members["bi/iom"].sig)
    [(named, code)] = audited(town, [*log, as_stored(stranger.entry, log[place].at_ms)])
    assert (named, code) == (stranger.manifest.ident, "issuer_mismatch")

    assert town.found(NAME, WORD) == []
    assert not any(NAME.encode() in entry.value or WORD.encode() in entry.value for entry in log)


def as_stored(entry: Entry, at_ms: int) -> Stored:
    return Stored(entry.topic, 99, entry.key, entry.ident, entry.value, at_ms, entry.headers)


def disclosures(agency: Agency) -> Disclosures:
    return Disclosures(agency.runner.desk, agency.runner.outbox)


def test_a_court_gets_the_part_of_its_order_and_no_other(town: Town) -> None:
    referral, *_ = told(town)
    iom, court = town["bi/iom"], town["bi/judiciary"]
    shelter = town["bi/k7t4"]
    [handed_over] = [item.ident for item in iom.inbox("case.identified")]
    order = DisclosureRequested(
        capacity="court",
        order="Ordonnance inventée 14/2026",
        scope=("content",),
        expires_at=town.today() + timedelta(days=30),
        record=handed_over,
    )
    court.draft("bi/iom", "disclosure.requested", Facts(occurred_at=town.today(), said=order))
    town.settle()
    [asked] = disclosures(iom).asked()
    with pytest.raises(UmuhuzaError):
        disclosures(iom).grant(asked.thread, f"bi/iom/{referral}")  # another record than the order names
    given = disclosures(iom).grant(asked.thread, handed_over)
    town.settle()
    opened = disclosures(court).open(f"bi/iom/{given}")
    assert list(opened) == ["content"]
    assert b"case.identified" in opened["content"]
    assert NAME.encode() not in opened["content"]
    assert [one.kind for one in disclosures(iom).book.reviews() if one.ident == f"bi/iom/{given}"] == ["disclosure"]

    town.wait(days=31)
    town.settle()
    with pytest.raises((RecordError, OrderError)) as ended:
        disclosures(court).open(f"bi/iom/{given}")
    assert ended.value.code == "grant_missing"
    assert shelter.inbox("disclosure.requested") == []
    assert audited(town, everything(town)) == []
    assert town.found(NAME) == []
