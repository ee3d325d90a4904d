# SPDX-License-Identifier: Apache-2.0
"""Scenario 11. An age was wrong.

IOM referred a girl whose age was first put down as nineteen: she is sixteen. The correction follows the referral on its
own thread, names what was wrong, and changes nothing of what stands in the log: the chain goes on. IOM's half-year
counts, sent to the commission before, are sent again with one adult less and one child more.

The commission releases the half-year twice and the next one after it: the same table both times, and in no table that
was ever published does anything move by one person.
"""

from __future__ import annotations

from datetime import datetime

from adapters.statistics import Release, Submission, dumps, release
from schemas.envelope import parse_manifest
from schemas.forms import Birth, Facts
from schemas.plain.record import RecordCorrected
from schemas.plain.statistics import Count, StatisticsSubmitted
from tests.scenarios.town import Agency, Town

NAME = "Iradukunda-Inventée"
K = 11


def counted(town: Town, said: StatisticsSubmitted) -> Facts:
    return Facts(occurred_at=town.today(), said=said)


def table(period: str, women: int, men: int) -> StatisticsSubmitted:
    return StatisticsSubmitted(
        period=period,
        place="national",
        counted="persons-assisted",
        persons=women + men,
        counts=(
            Count(field="prs_Gender", code="Feminine", count=women),
            Count(field="prs_Gender", code="Masculine", count=men),
        ),
    )


def submissions(commission: Agency) -> list[Submission]:
    found = []
    for item in commission.inbox("statistics.submitted"):
        opened = commission.runner.inbox.opened(item)
        said = opened.facts.said
        assert isinstance(said, StatisticsSubmitted)
        counts = {(one.field, one.code): one.count for one in said.counts}
        made = datetime.fromtimestamp(item.log_offset, opened.recorded_at.tzinfo)  # the later one counts
        found.append(Submission(item.iss, said.period, said.place, said.counted, made, said.persons, counts))
    return found


def shown(found: Release) -> dict[tuple[str, str, tuple[str, ...], str], int | None]:
    return {
        (table.period, table.field, row, code): table.shown(i, j)
        for table in found.tables
        for i, row in enumerate(table.rows)
        for j, code in enumerate(table.columns)
    }


def test_corrected_on_its_thread_and_seen_in_no_difference(town: Town) -> None:
    iom, shelter, commission = town["bi/iom"], town["bi/k7t4"], town["bi/ccsprtp"]
    adult = Birth(precision="age", age_years=19, basis="estimated")
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, birth=adult), person="IOM-11")
    sent = iom.draft("bi/ccsprtp", "statistics.submitted", counted(town, table("2026-H1", 60, 40)))
    town.settle()
    first = release("2026-H1", submissions(commission), [], K)

    # The correction, on the referral's own thread.
    child = Birth(precision="age", age_years=16, basis="declared")
    correction = Facts(
        occurred_at=town.today(),
        lawful=town.consented(),
        said=RecordCorrected(
            evt=asked, fields=("referral.birth.age_years",), birth=child, reason="misheard", source="person"
        ),
    )
    corrected = iom.draft("bi/k7t4", "record.corrected", correction, thread=iom.thread(asked))
    iom.draft("bi/ccsprtp", "statistics.submitted", counted(town, table("2026-H1", 59, 41)), thread=iom.thread(sent))
    town.settle()
    [told] = shelter.opened("record.corrected")
    assert isinstance(told.facts.said, RecordCorrected)
    assert told.facts.said.birth == child
    # What stands in the log stands: the correction comes after it in the same chain.
    links = [parse_manifest(item.record.partition(b"\n")[0])[3] for item in shelter.inbox() if item.iss == "bi/iom"]
    assert [(link.evt, link.seq) for link in links] == [(asked, 1), (corrected, 2)]

    # Released again, the half-year is what it was; in the next release nothing has moved by one.
    again = release("2026-H1", submissions(commission), [first], K)
    assert dumps(again) == dumps(first)
    iom.draft("bi/ccsprtp", "statistics.submitted", counted(town, table("2026-H2", 70, 50)))
    town.settle()
    town.wait(days=1)
    following = release("2026-H2", submissions(commission), [first], K)
    before, after = shown(first), shown(following)
    assert {key[0] for key in after} >= {"2026-H2"}
    for key in before.keys() & after.keys():
        one, other = before[key], after[key]
        assert one is None or other is None or abs(one - other) == 0 or abs(one - other) >= K
    assert town.found(NAME) == []
