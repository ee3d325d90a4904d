# SPDX-License-Identifier: Apache-2.0
"""Files beside the workbooks: named in a column, taken over with their row, written down whole under neutral names."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.connectors import places
from adapters.connectors.contract import Arrived, Draft, Problem
from schemas.attachments import File, announcement
from schemas.forms import Facts
from schemas.plain.attachment import ANNOUNCED
from tests.adapters.folder_office import NOW, PLANTED, Office, arrived, drafts, filled, problems, referral_facts, row
from umuhuza.examples.samples_attachment import ABOUT, file

SCAN = file(200_000, name=f"Certificat {PLANTED}.pdf")
PHOTO = file(5_000, "png", "photo.png")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path / "dossier")
    (made.root / "pieces-jointes").mkdir(parents=True)
    return made


def put(office: Office, *files: File) -> None:
    for one in files:
        (office.root / "pieces-jointes" / one.name).write_bytes(one.data)


def named(*files: File) -> str:
    return "; ".join(one.name for one in files)


# -- what goes ---------------------------------------------------------------------------------------------------------


def test_files_that_a_row_names_go_with_it_and_are_taken_over(office: Office) -> None:
    put(office, SCAN, PHOTO)
    office.drop(filled(row(pieces_jointes=named(SCAN, PHOTO))))
    [draft] = drafts(office.go_round())
    assert draft.files == (SCAN, PHOTO)
    assert office.names("pieces-jointes") == []
    assert office.names("envoyes/pieces-jointes") == sorted([SCAN.name, PHOTO.name])
    kept = office.root / "envoyes" / "pieces-jointes" / SCAN.name
    assert kept.read_bytes() == SCAN.data
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_column_has_a_place_in_the_template_and_the_folder_is_explained(office: Office) -> None:
    office.go_round()
    assert (office.root / "pieces-jointes").is_dir()
    assert "pieces-jointes/" in (office.root / "LISEZ-MOI.txt").read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("absent.pdf", "row_invalid", "ne se trouve pas dans le dossier pieces-jointes"),
        ("../suivi.jsonl", "row_invalid", "ne se trouve pas"),
        ("notes.pdf", "attachment_type", "ni un PDF, ni une image"),
    ],
)
def test_a_file_that_cannot_go_is_told_in_its_cell_and_the_row_waits_for_it(
    office: Office, name: str, code: str, words: str
) -> None:
    put(office, SCAN, File("notes.pdf", b"pas un PDF"))
    office.drop(filled(row(pieces_jointes=f"{SCAN.name}; {name}")))
    [problem] = problems(office.go_round())
    assert problem.code == code
    assert words in problem.fr
    assert "Pièces jointes" in problem.where
    assert SCAN.name in office.names("pieces-jointes"), "the corrected row will need it"


def test_what_the_outbox_finds_too_large_is_told_in_that_column_and_the_file_stays(office: Office) -> None:
    put(office, SCAN)

    def too_large(draft: Draft) -> Problem:
        return Problem(
            draft.line, "too_large", "Dépasse la taille permise", "Larger than the limit", draft.line, "attachments"
        )

    office.drop(filled(row(pieces_jointes=SCAN.name)))
    office.go_round(too_large)
    assert "« Pièces jointes »" in office.words("rapports/novembre.rapport.xlsx")
    assert office.names("pieces-jointes") == [SCAN.name]


def test_a_workbook_waits_until_its_files_are_whole(tmp_path: Path) -> None:
    office = Office(tmp_path / "dossier", quiet_s=5.0)
    (office.root / "pieces-jointes").mkdir(parents=True)
    path = office.drop(filled(row(pieces_jointes=PHOTO.name)))
    from datetime import timedelta

    office.at = max(office.at, office.at.fromtimestamp(path.stat().st_mtime, office.at.tzinfo)) + timedelta(seconds=60)
    put(office, PHOTO)
    office.at = office.at.fromtimestamp(path.stat().st_mtime, office.at.tzinfo) + timedelta(seconds=3)
    assert office.go_round() == []
    office.at += timedelta(seconds=60)
    [draft] = drafts(office.go_round())
    assert draft.files == (PHOTO,)


def test_two_rows_may_name_one_file_and_one_that_is_refused_keeps_it(office: Office) -> None:
    put(office, PHOTO)
    rows = [
        row(pieces_jointes=PHOTO.name),
        row(pieces_jointes=PHOTO.name, destinataire="bi/r5w2", nom_donne="Bella Inventée"),
    ]
    office.drop(filled(*rows))

    def refuse(draft: Draft) -> Problem | None:
        return Problem(draft.line, "agency_unknown", "?", "?", draft.line) if draft.to == "bi/r5w2" else None

    office.go_round(refuse)
    assert office.names("pieces-jointes") == [PHOTO.name]
    office.drop(filled(rows[1]), "corrige.xlsx")
    office.go_round()
    assert office.names("pieces-jointes") == []


def test_the_same_words_with_another_file_are_another_row(office: Office) -> None:
    put(office, PHOTO)
    office.drop(filled(row(pieces_jointes=PHOTO.name)))
    office.go_round()
    put(office, File(PHOTO.name, file(5_001, "png").data))
    office.drop(filled(row(pieces_jointes=PHOTO.name)), "encore.xlsx")
    # The workbook says the same words in other bytes; what it names has changed.
    found = office.go_round()
    assert problems(found) == []


class CutError(Exception):
    """The power fails."""


@pytest.mark.parametrize("cut", ["before the files move", "between two files", "before the workbook moves"])
def test_a_power_cut_while_files_are_taken_over_loses_and_doubles_nothing(
    office: Office, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(office, SCAN, PHOTO)
    office.drop(filled(row(pieces_jointes=named(SCAN, PHOTO))))
    moved: list[Path] = []
    real: Callable[[Path, Path], None] = places.move
    most = {"before the files move": 0, "between two files": 1, "before the workbook moves": 2}[cut]

    def move(source: Path, target: Path) -> None:
        if len(moved) == most:
            raise CutError
        moved.append(source)
        real(source, target)

    monkeypatch.setattr(places, "move", move)
    with pytest.raises(CutError):
        office.go_round()
    monkeypatch.setattr(places, "move", real)
    office.restarted()
    batches = office.go_round()
    [draft] = drafts(batches)
    assert draft.files == (SCAN, PHOTO)
    assert problems(batches) == []
    assert office.names("pieces-jointes") == office.names("a-envoyer") == []
    assert office.names("envoyes/pieces-jointes") == sorted([SCAN.name, PHOTO.name])


def test_what_became_of_the_files_stands_in_the_follow_up_table(office: Office) -> None:
    put(office, PHOTO)
    office.drop(filled(row(pieces_jointes=PHOTO.name)))
    [batch] = office.go_round()
    [draft] = drafts([batch])
    office.changed("evt-1", batch, draft.line, "delivered")
    office.changed("evt-2", batch, f"{draft.line} {ANNOUNCED}", "promised")
    office.go_round()
    assert "Pièces jointes : en chemin" in office.words("rapports/suivi.xlsx")
    office.changed("evt-2", batch, f"{draft.line} {ANNOUNCED}", "rejected", "too_large")
    office.go_round()
    assert "Dépasse la taille permise" in office.words("rapports/suivi.xlsx")


# -- what arrives ------------------------------------------------------------------------------------------------------


def announced(*files: File) -> Arrived:
    facts = Facts(occurred_at=NOW, lawful=referral_facts().lawful, said=announcement(ABOUT, files))
    given = arrived(ANNOUNCED, evt="0199f0e0-0000-7000-8000-000000000009", facts=facts)
    return replace(given, files=tuple(files))


def written(office: Office) -> dict[str, bytes]:
    folder = office.root / "recus"
    return {name: (folder / name).read_bytes() for name in office.names("recus") if not name.endswith(".xlsx")}


def test_files_lie_whole_beside_their_workbook_under_neutral_names_that_it_tells(office: Office) -> None:
    office.deliver(arrived())
    office.deliver(announced(SCAN, PHOTO))
    found = written(office)
    [workbook] = [name for name in office.names("recus") if name.endswith(".xlsx")]
    stem = workbook.removesuffix(".xlsx")
    assert sorted(found.values(), key=len) == [PHOTO.data, SCAN.data]
    assert all(name.startswith(f"{stem}-piece-") for name in found)
    assert sorted(name.rpartition(".")[2] for name in found) == ["pdf", "png"]
    assert not any(PLANTED in name for name in office.every_name())
    assert {stat.S_IMODE((office.root / "recus" / name).stat().st_mode) for name in found} == {0o600}
    words = office.words(f"recus/{workbook}")
    assert all(name in words for name in found)
    assert SCAN.name in words, "what its sender called it, inside the workbook only"


def test_delivered_again_after_a_crash_nothing_stands_twice(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.deliver(arrived())
    real = places.write_durably
    count = 0

    def write(path: Path, data: bytes, *may: Callable[[], bool]) -> bool:
        nonlocal count
        count += 1
        if count == 2:
            raise CutError
        return real(path, data, *may)

    monkeypatch.setattr(places, "write_durably", write)
    with pytest.raises(CutError):
        office.deliver(announced(SCAN, PHOTO))
    monkeypatch.setattr(places, "write_durably", real)
    office.restarted()
    office.deliver(announced(SCAN, PHOTO))
    office.deliver(announced(SCAN, PHOTO))
    assert sorted(written(office).values(), key=len) == [PHOTO.data, SCAN.data]
    assert not [name for name in office.every_name() if name.endswith(".part")]


def test_erased_they_are_gone_and_the_workbook_names_them_no_more(office: Office) -> None:
    office.deliver(arrived())
    given = announced(SCAN, PHOTO)
    office.deliver(given)
    names = written(office)
    asyncio.run(office.connector.erase(given.ident))
    assert written(office) == {}
    [workbook] = office.names("recus")
    assert not any(name in office.words(f"recus/{workbook}") for name in names)
    assert SCAN.name not in office.words(f"recus/{workbook}")
    asyncio.run(office.connector.erase(given.ident))


def test_files_whose_referral_is_not_here_any_more_are_not_lost(office: Office) -> None:
    office.deliver(announced(PHOTO))
    assert list(written(office).values()) == [PHOTO.data]
