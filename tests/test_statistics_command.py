# SPDX-License-Identifier: Apache-2.0
"""`umuhuza statistics release` as the commission runs it, from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from adapters.projections import Entry
from tests.adapters.test_projections import at
from umuhuza.cli import build
from umuhuza.statistics_command import counts_of


def submitted(folder: Path, agency: str, day: int = 1, period: str = "2026-H1", **counts: int) -> None:
    said: dict[str, Any] = {
        "period": period,
        "place": "BI-GTG",
        "counted": "persons-assisted",
        "persons": sum(counts.values()),
        "counts": [{"field": "vic_TraffickingStatus", "code": code, "count": n} for code, n in counts.items()],
    }
    name = f"{agency.replace('/', '-')}-{period}-{day}.json"
    made = {"agency": agency, "at": f"2026-07-{day:02d}T08:00:00+02:00", "said": said}
    (folder / name).write_text(json.dumps(made), encoding="utf-8")


def released(folder: Path, period: str = "2026-H1", *more: str) -> Result:
    return CliRunner().invoke(
        build(),
        [
            *("statistics", "release", "--period", period, "--in", str(folder / "in")),
            *("--previous", str(folder / "kept"), "--out", str(folder / "out"), *more),
        ],
    )


def folder_of(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    submitted(tmp_path / "in", "bi/iom", ActualVictimOfTrafficking=40, PossibleVictimOfTrafficking=30)
    submitted(tmp_path / "in", "bi/k7t4", ActualVictimOfTrafficking=21, PossibleVictimOfTrafficking=19)
    return tmp_path


def test_a_release_is_six_files_to_publish_and_one_that_only_the_commission_reads(tmp_path: Path) -> None:
    done = released(folder_of(tmp_path))
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{stem}-2026-H1.{suffix}" for stem in ("statistics", "statistiques") for suffix in ("csv", "html", "xlsx")
    ]
    kept = tmp_path / "kept" / "release-2026-H1.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "61" in (tmp_path / "out" / "statistiques-2026-H1.csv").read_text(encoding="utf-8-sig")


def test_a_release_says_in_json_what_it_wrote(tmp_path: Path) -> None:
    done = released(folder_of(tmp_path), "2026-H1", "--json")
    said = json.loads(done.stdout)
    assert (said["period"], said["agencies"], said["known"]) == ("2026-H1", 2, False)
    assert sorted(Path(one) for one in said["published"]) == sorted((tmp_path / "out").iterdir())
    assert Path(said["kept"]).is_file()
    assert json.loads(released(tmp_path, "2026-H1", "--json").stdout)["known"] is True


def test_the_page_in_arabic_is_written_when_asked_for_and_is_marked_as_a_draft(tmp_path: Path) -> None:
    done = released(folder_of(tmp_path), "2026-H1", "--arabic")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "statistics-ar-2026-H1.html").read_text(encoding="utf-8")
    assert '<html lang="ar" dir="rtl">' in page
    assert "مسودة" in page
    assert "<td>61</td>" in page


def test_releasing_again_after_a_correction_changes_no_byte_of_the_tables(tmp_path: Path) -> None:
    released(folder_of(tmp_path))
    before = (tmp_path / "out" / "statistics-2026-H1.csv").read_bytes()
    submitted(tmp_path / "in", "bi/iom", 9, ActualVictimOfTrafficking=39, PossibleVictimOfTrafficking=31)
    assert released(tmp_path).exit_code == 0
    assert (tmp_path / "out" / "statistics-2026-H1.csv").read_bytes() == before


def test_a_submission_below_the_province_or_with_an_unknown_code_stops_the_release(tmp_path: Path) -> None:
    submitted(folder_of(tmp_path) / "in", "bi/r5w2", VictimeConnue=12)
    done = released(tmp_path)
    assert done.exit_code != 0
    assert "VictimeConnue" not in done.output
    assert not (tmp_path / "out").exists()


def entry(thread: str, person: str | None, gender: str) -> Entry:
    return Entry(
        thread=thread,
        type="referral.requested",
        sent=False,
        peer="bi/iom",
        person=person,
        machine="referral",
        state="accepted",
        priority="urgent",
        services=("SocialCare",),
        opened_at=at(),
        occurred_at=None,
        last_at=at(),
        last_type="referral.accepted",
        answer_by=None,
        overdue=False,
        crossed=False,
        late=False,
        htcds={"prs_Gender": (gender,)},
        file={},
        taken_over=None,
    )


def test_an_agency_counts_a_person_whom_it_knows_from_two_referrals_once() -> None:
    period = f"{at().year}-H{1 if at().month <= 6 else 2}"
    entries = (
        entry("t1", "K-3", "Feminine"),
        entry("t2", "K-3", "Feminine"),
        entry("t3", None, "Masculine"),
        entry("t4", None, "Feminine"),
    )
    said = counts_of(entries, period, "national", "persons-assisted")
    assert said.persons == 3
    assert [(one.code, one.count) for one in said.counts] == [("Feminine", 2), ("Masculine", 1)]
    assert counts_of(entries, "2019-H1", "national", "persons-assisted").persons == 0
