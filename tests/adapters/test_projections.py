# SPDX-License-Identifier: Apache-2.0
"""What an agency is shown of its own work, and that it is always the same, made anew or not."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import projections, registry_sheets
from adapters.projections import Story
from schemas.forms import Facts
from schemas.plain.case import HandoverAcknowledged
from schemas.registry import ROLES, Role
from schemas.registry import Agency as Member
from tests.agencies import PLANTED, Agencies, Agency, identified, referral, said
from tests.domain import NOW

ZONE = ZoneInfo("Africa/Bujumbura")
IOM, SHELTER, POLICE = "bi/iom", "bi/k7t4", "bi/police"


def story(agency: Agency, known: Story | None = None) -> Story:
    opener = agency.runner.inbox.opened
    if known is None:
        return projections.read(agency.box, opener)
    return projections.read(agency.box, opener, known.known)


def at(seconds: float = 0) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


def asked(town: Agencies, person: str = "2026-014") -> str:
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral(), person=person))
    return town[IOM].outgoing(evt).thread


def test_both_ends_of_a_referral_see_where_it_is(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        thread = asked(town)
        town.settle()
        town[SHELTER].draft(IOM, "referral.accepted", said(), thread=thread, person="K-3")
        town.settle()
        [ours] = projections.cases(story(town[IOM]), at(60))
        [theirs] = projections.cases(story(town[SHELTER]), at(60))
    assert (ours.sent, ours.peer, ours.person, ours.state) == (True, SHELTER, "2026-014", "accepted")
    assert (theirs.sent, theirs.peer, theirs.person, theirs.state) == (False, IOM, "K-3", "accepted")
    assert (ours.priority, theirs.priority) == ("urgent", "urgent")
    assert (ours.services, theirs.services) == ((), ("SocialCare",))
    assert (ours.last_type, theirs.last_type) == ("referral.accepted", "referral.accepted")


def test_a_referral_without_answer_is_overdue_once_its_deadline_has_passed(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        thread = asked(town)
        town.settle()
        before, after = at(71 * 3600), at(73 * 3600)
        assert [one.overdue for one in projections.cases(story(town[IOM]), before)] == [False]
        assert [one.overdue for one in projections.cases(story(town[IOM]), after)] == [True]
        town[SHELTER].draft(IOM, "referral.accepted", said(), thread=thread)
        town.settle()
        assert [one.overdue for one in projections.cases(story(town[IOM]), after)] == [False]


def test_police_see_the_persons_they_identified_and_no_assistance(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        town[POLICE].draft(IOM, "case.identified", identified(), person="PV-7")
        asked(town)
        town.settle()
        [file] = projections.investigations(story(town[POLICE]), at())
    assert (file.type, file.person, file.peer, file.taken_over) == ("case.identified", "PV-7", IOM, None)


@pytest.mark.parametrize("taken", [True, False])
def test_police_learn_when_a_person_was_taken_over_and_only_then(tmp_path: Path, taken: bool) -> None:
    with Agencies(tmp_path) as town:
        evt = town[POLICE].evt(town[POLICE].draft(IOM, "case.identified", identified()))
        town.settle()
        thread = town[POLICE].outgoing(evt).thread
        word = Facts(occurred_at=at(), said=HandoverAcknowledged(taken_over=taken))
        town[IOM].evt(town[IOM].draft(POLICE, "handover.acknowledged", word, thread=thread))
        town.settle()
        [file] = projections.investigations(story(town[POLICE]), at())
    assert file.last_type == "handover.acknowledged"
    assert (file.taken_over is not None) is taken


def test_a_coordinating_body_is_shown_counts_without_threads_persons_or_peers(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        thread = asked(town)
        asked(town, "2026-015")
        town.settle()
        counts = projections.flows(story(town[SHELTER]))
        text = registry_sheets.json_text([registry_sheets.of_flows(counts, "fr")], ZONE).decode()
    assert [(one.type, one.sent, one.count) for one in counts] == [("referral.requested", False, 2)]
    assert thread not in text
    assert IOM not in text


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_one_view_or_none(role: Role) -> None:
    views = projections.views_of(Member("bi/x1", {"fr": "X"}, (role,), (), False))
    if role in ("police", "judiciary"):
        assert views == ("investigations",)
    elif role == "coordination":
        assert views == ("flows",)
    else:
        assert views in ((), ("cases",))


def test_police_with_another_role_still_see_no_assistance() -> None:
    assert projections.views_of(Member("bi/x1", {"fr": "X"}, ("police", "assistance"), (), False)) == (
        "investigations",
    )


def steps(town: Agencies) -> dict[str, Callable[[], object]]:
    def answer(type_: str) -> None:
        for thread in town[SHELTER].box.threads():
            town[SHELTER].draft(IOM, type_, said(), thread=thread.id)

    return {
        "ask": lambda: asked(town, f"2026-{len(town[IOM].box.threads())}"),
        "receive": lambda: answer("referral.received"),
        "accept": lambda: answer("referral.accepted"),
        "decline": lambda: (
            town[SHELTER]
            and [
                town[SHELTER].draft(IOM, "referral.declined", said(reason="no-capacity"), thread=thread.id)
                for thread in town[SHELTER].box.threads()
            ]
        ),
        "identify": lambda: town[POLICE].draft(IOM, "case.identified", identified(), person="PV-1"),
        "send": lambda: [town[name].send() for name in (IOM, SHELTER, POLICE)],
        "read": lambda: [town[name].receive() for name in (IOM, SHELTER, POLICE)],
        "deliver": lambda: [town[name].deliver() for name in (IOM, SHELTER, POLICE)],
        "later": lambda: setattr(town, "now", town.now + 86_400),
    }


NAMES = ("ask", "receive", "accept", "decline", "identify", "send", "read", "deliver", "later")


@given(st.lists(st.sampled_from(NAMES), max_size=12))
@settings(deadline=None, max_examples=12)
def test_going_on_from_any_earlier_reading_gives_what_reading_anew_gives(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, Agencies(Path(folder)) as town:
        earlier = {name: story(town[name]) for name in (IOM, SHELTER, POLICE)}
        first = dict(earlier)
        does = steps(town)
        for name in (*names, "send", "read", "deliver"):
            does[name]()
            for agency in earlier:
                anew = story(town[agency])
                assert story(town[agency]) == anew
                assert story(town[agency], earlier[agency]) == anew
                assert story(town[agency], first[agency]) == anew
                earlier[agency] = anew
        for agency in earlier:
            town.open(agency)  # another process, later
            assert story(town[agency]) == earlier[agency]
            states = {thread.id: thread.state for thread in town[agency].box.threads()}
            for entry in projections.entries(earlier[agency], at()):
                assert entry.state == states[entry.thread]


def test_all_formats_hold_the_same_rows_with_dates_as_dates_and_formulas_as_text(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        asked(town, "=HYPERLINK(0)")
        town.settle()
        rows = projections.cases(story(town[IOM]), at())
    sheets = [registry_sheets.of_cases(rows, lambda name: name, "fr")]
    sheet = openpyxl.load_workbook(io.BytesIO(registry_sheets.xlsx(sheets, ZONE, "fr"))).worksheets[0]
    [head, row] = [[cell.value for cell in line] for line in (sheet[3], sheet[4])]
    assert head[0] == "Votre référence"
    assert row[0] == "=HYPERLINK(0)"
    assert sheet[4][0].data_type == "s"
    opened = head.index("Ouvert le")
    assert isinstance(row[opened], datetime)
    lines = list(
        csv.reader(io.StringIO(registry_sheets.csv_text(sheets, ZONE, "fr").decode("utf-8-sig")), delimiter=";")
    )
    assert lines[0] == head
    assert lines[1][0] == "'=HYPERLINK(0)"
    assert lines[1][opened] == f"{row[opened]:%Y-%m-%d %H:%M}"
    [same] = json.loads(registry_sheets.json_text(sheets, ZONE))["cases"]
    assert same["person"] == "=HYPERLINK(0)"
    assert datetime.fromisoformat(same["opened_at"]).replace(tzinfo=None) == row[opened]


def test_no_name_of_a_record_is_in_any_format(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        asked(town)
        town[POLICE].draft(IOM, "case.identified", identified())
        town.settle()
        rows = projections.cases(story(town[SHELTER]), at()) + projections.cases(story(town[IOM]), at())
    sheets = [registry_sheets.of_cases(rows, lambda name: name, "en")]
    assert PLANTED not in registry_sheets.csv_text(sheets, ZONE, "en").decode()
    assert PLANTED not in registry_sheets.json_text(sheets, ZONE).decode()
