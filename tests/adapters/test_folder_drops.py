# SPDX-License-Identifier: Apache-2.0
"""What is dropped into `a-envoyer/`: sent or refused with reasons, reported, moved, never lost and never doubled."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from openpyxl import load_workbook

from adapters.connectors import places
from adapters.connectors.contract import Connector, Draft, NotNowError, Problem
from adapters.connectors.folder import FolderConnector
from schemas.errors import CODES, SourceError
from tests.adapters.folder_office import CASE, PLANTED, ZONE, Office, drafts, filled, problems, row, table


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "iom")


def test_the_connector_fits_the_contract(office: Office) -> None:
    connector: Connector = office.connector
    assert connector.name == "folder"


def test_a_filled_template_becomes_one_draft_per_row(office: Office) -> None:
    office.drop(filled(row(), row(reference_interne="D-2", nom_donne="Emmanuel")))
    [batch] = office.go_round()
    assert re.fullmatch("sha256:[0-9a-f]{64}", batch.source)
    assert [(draft.line, draft.to, draft.type, draft.person) for draft in drafts([batch])] == [
        ("Orientation!4", "bi/k7t4", "referral.requested", "D-2026-14"),
        ("Orientation!5", "bi/k7t4", "referral.requested", "D-2"),
    ]


def test_case_rows_are_sent_from_the_sheet_dossier(office: Office) -> None:
    office.drop(filled(CASE, form="Dossier"))
    [draft] = drafts(office.go_round())
    assert (draft.line, draft.to, draft.type) == ("Dossier!4", "bi/iom", "case.identified")
    assert draft.facts.htcds == {
        "prs_FirstName": "Aline",
        "vic_TypeOfExploitation": ("ForcedLabour", "Servitude"),
        "cas_Status": "Active",
    }
    assert draft.facts.birth is not None
    assert draft.facts.birth.date == "2001"
    assert draft.facts.referral is None


def test_good_rows_go_and_bad_rows_come_back_with_every_reason(office: Office) -> None:
    bad = row(reference_interne="D-3", prs_Birthdate="31/02/2026", services="Santé; Médecine", priorite=None)
    office.drop(filled(row(), bad))
    [batch] = office.go_round()
    assert [draft.line for draft in drafts([batch])] == ["Orientation!4"]
    assert [problem.line for problem in problems([batch])] == ["Orientation!5"] * 3
    words = office.words("rapports/novembre.rapport.xlsx")
    assert "1 ligne envoyée, 1 refusée" in words
    assert "il n'y a pas de 31 février 2026" in words
    assert "« Médecine » n'est pas dans la liste" in words
    assert "Cette rubrique est obligatoire" in words
    assert "Orientation, ligne 4 | D-2026-14 | Envoyée" in words
    assert office.names("envoyes") == ["novembre.xlsx"]
    assert office.names("a-envoyer") == []


def test_the_rows_to_correct_can_be_corrected_and_dropped_again(office: Office) -> None:
    office.drop(
        filled(row(), row(reference_interne="D-3", prs_Birthdate="31/02/2006", motif="+257 79 00 00 00 avant 18 h"))
    )
    office.go_round()
    back = office.root / "rapports" / "novembre.a-corriger.xlsx"
    book = load_workbook(back)
    assert book.sheetnames == ["Orientation", "Listes"]
    sheet = book["Orientation"]
    assert sheet.max_row < 1100
    at = {cell.value: cell.column for cell in sheet[2] if cell.value}
    assert sheet.cell(4, at["reference_interne"]).value == "D-3"
    assert sheet.cell(5, at["reference_interne"]).value is None
    assert "31 février 2006" in str(sheet.cell(4, 1).value)
    sheet.cell(4, at["prs_Birthdate"], "28/02/2006")
    book.save(office.root / "a-envoyer" / "novembre.a-corriger.xlsx")
    [batch] = office.go_round()
    [draft] = drafts([batch])
    assert problems([batch]) == []
    assert draft.person == "D-3"
    assert draft.facts.referral is not None
    assert draft.facts.referral.birth.date == "2006-02-28"
    assert draft.facts.referral.reason == "+257 79 00 00 00 avant 18 h"


def test_the_mailbox_refusal_of_a_row_is_reported_beside_it(office: Office) -> None:
    office.drop(filled(row()))
    safeguard = Problem(
        "ligne 4", "safeguard_missing", "Une protection manque.", "A safeguard is missing.", "Orientation!4"
    )
    office.go_round(lambda _draft: safeguard)
    words = office.words("rapports/novembre.rapport.xlsx")
    assert "REFUSÉE" in words
    assert "Une protection manque." in words
    assert office.names("refuses") == ["novembre.xlsx"]
    assert "novembre.a-corriger.xlsx" in office.names("rapports")


def test_a_consent_withdrawn_on_the_day_that_was_typed_is_told_with_what_to_write(
    office: Office,
) -> None:
    office.drop(filled(row()))
    words, where = CODES["consent_withdrawn"], "lawful.consent.given_at"
    said = (f"{words.title_fr} [{where}]. {words.advice_fr}", f"{words.title_en} [{where}]. {words.advice_en}")
    office.go_round(lambda draft: Problem(draft.line, words.code, *said, line=draft.line, path=where))
    report = office.words("rapports/novembre.rapport.xlsx")
    assert "La personne a retiré ce consentement" in report
    assert "notez aussi l'heure (22/11/2026 14:30)" in report
    assert "Consentement donné le" in report
    assert where not in report


def test_a_file_without_one_good_row_goes_to_refuses_and_is_kept_as_dropped(office: Office) -> None:
    data = filled(row(base=None))
    office.drop(data)
    office.go_round()
    assert (office.root / "refuses" / "novembre.xlsx").read_bytes() == data
    assert "consent_missing" in office.words("rapports/novembre.rapport.xlsx")


def test_folders_are_0700_and_files_0600(office: Office) -> None:
    office.drop(filled(row(), row(base=None)))
    office.go_round()
    for path in office.root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path.name


def test_the_folder_explains_itself_in_french_then_english(office: Office) -> None:
    office.go_round()
    words = (office.root / "LISEZ-MOI.txt").read_text(encoding="utf-8-sig")
    assert words.index("téléphonez d'abord") < words.index("telephone first")
    assert {"modele-orientation.xlsx", "modele-orientation.csv"} <= set(office.names("."))


def test_a_template_that_was_filled_in_place_is_not_replaced(office: Office) -> None:
    office.go_round()
    mine = filled(row())
    (office.root / "modele-orientation.xlsx").write_bytes(mine)
    office.restarted()
    office.go_round()
    assert (office.root / "modele-orientation.xlsx").read_bytes() == mine


@pytest.mark.parametrize("dies_at", ["write_report", "move"])
def test_a_crash_before_the_report_or_before_the_move_ends_in_the_same_files(
    office: Office, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    office.drop(filled(row(), row(base=None)))

    def died(*_arguments: object, **_options: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        if dies_at == "move":
            patch.setattr(places, "move", died)
        else:
            patch.setattr("adapters.connectors.report.write_report", died)
        with pytest.raises(NotNowError) as failed:
            office.go_round()
    assert failed.value.__cause__ is None
    assert office.names("a-envoyer") == ["novembre.xlsx"]
    office.restarted()
    [batch] = office.go_round()
    assert [outcome.again for outcome in office.outcomes(batch) if outcome.evt] == [True]
    assert office.names("rapports") == [
        "novembre.a-corriger.xlsx",
        "novembre.rapport.xlsx",
        "suivi.jsonl",
        "suivi.xlsx",
    ]
    assert office.names("envoyes") == ["novembre.xlsx"]
    assert office.names("a-envoyer") == []
    assert "Déjà" not in office.words("rapports/novembre.rapport.xlsx")
    assert office.go_round() == []


def test_a_crash_between_link_and_unlink_leaves_one_file_in_the_end(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.drop(filled(row()))

    unlink = Path.unlink

    def died(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "a-envoyer":
            raise OSError("power cut")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", died)
        with pytest.raises(NotNowError):
            office.go_round()
    assert office.names("a-envoyer") == office.names("envoyes") == ["novembre.xlsx"]
    office.restarted()
    office.go_round()
    assert office.names("a-envoyer") == []
    assert office.names("envoyes") == ["novembre.xlsx"]
    assert [name for name in office.names("rapports") if "rapport." in name] == ["novembre.rapport.xlsx"]


def test_settling_twice_changes_nothing(office: Office) -> None:
    office.drop(filled(row()))
    [batch] = office.go_round()
    before = office.words("rapports/novembre.rapport.xlsx")
    asyncio.run(office.connector.settle(batch, office.outcomes(batch)))
    assert office.words("rapports/novembre.rapport.xlsx") == before
    assert office.names("envoyes") == ["novembre.xlsx"]


def test_the_same_file_dropped_again_sends_nothing_and_says_so(office: Office) -> None:
    data = filled(row())
    office.drop(data)
    [first] = office.go_round()
    office.drop(data, "encore.xlsx")
    [second] = office.go_round()
    assert second.source == first.source
    assert "déjà été envoyées" in office.words("rapports/encore.rapport.xlsx")
    assert office.names("envoyes") == ["encore.xlsx", "novembre.xlsx"]


def test_a_row_sent_from_an_earlier_file_is_not_sent_again_from_a_corrected_one(office: Office) -> None:
    office.drop(filled(row(), row(reference_interne="D-3", prs_Birthdate="31/02/2006")))
    office.go_round()
    office.drop(filled(row(), row(reference_interne="D-3", prs_Birthdate="28/02/2006")), "novembre-corrige.xlsx")
    [batch] = office.go_round()
    assert [draft.person for draft in drafts([batch])] == ["D-3"]
    [problem] = problems([batch])
    assert (problem.line, problem.code) == ("Orientation!4", "duplicate")
    assert "« novembre.xlsx », ligne 4" in problem.fr


def test_a_row_that_stands_twice_in_a_file_is_sent_once(office: Office) -> None:
    office.drop(filled(row(), row()))
    [batch] = office.go_round()
    assert [draft.line for draft in drafts([batch])] == ["Orientation!4"]
    assert [(problem.line, problem.code) for problem in problems([batch])] == [("Orientation!5", "duplicate")]


def test_two_files_of_one_name_do_not_overwrite_each_other(office: Office) -> None:
    office.drop(filled(row()))
    office.go_round()
    office.drop(filled(row(reference_interne="D-2")))
    office.go_round()
    assert office.names("envoyes") == ["novembre-2.xlsx", "novembre.xlsx"]
    assert [name for name in office.names("rapports") if "rapport." in name] == [
        "novembre-2.rapport.xlsx",
        "novembre.rapport.xlsx",
    ]


def _changed_at(path: Path) -> datetime:
    seen = path.stat()
    return datetime.fromtimestamp(max(seen.st_mtime, seen.st_ctime), ZONE)


def test_a_file_still_being_copied_is_left_alone(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom", quiet_s=5.0)
    path = office.drop(filled(row())[:4000])
    office.at = _changed_at(path)
    assert office.collected() == []
    path.write_bytes(filled(row()))
    office.at = _changed_at(path) + timedelta(seconds=4)
    assert office.collected() == []
    office.at += timedelta(seconds=4)
    assert len(drafts(office.collected())) == 1


def test_two_equal_looks_are_enough_where_the_clock_here_is_behind(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom", quiet_s=5.0)
    office.drop(filled(row()))
    office.at -= timedelta(days=3650)
    assert office.collected() == []
    office.at += timedelta(seconds=5)
    assert len(office.collected()) == 1


def test_a_file_saved_again_while_it_was_being_sent_is_kept_in_both_versions(office: Office) -> None:
    first, second = filled(row()), filled(row(reference_interne="D-2"))
    path = office.drop(first)
    [batch] = office.collected()
    path.write_bytes(second)
    asyncio.run(office.connector.settle(batch, office.outcomes(batch)))
    assert (office.root / "envoyes" / "novembre.xlsx").read_bytes() == first
    assert path.read_bytes() == second
    [later] = office.go_round()
    assert [draft.person for draft in drafts([later])] == ["D-2"]


@pytest.mark.parametrize(
    "name", ["~$novembre.xlsx", ".~lock.novembre.xlsx#", "novembre.xlsx.part", ".cache", "Thumbs.db"]
)
def test_locks_hidden_and_unfinished_files_are_not_read(office: Office, name: str) -> None:
    office.drop(b"not ours", name)
    assert office.go_round() == []
    assert (office.root / "a-envoyer" / name).exists()


def test_a_link_is_not_followed(office: Office, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere.csv"
    secret.write_text("destinataire;priorite\n")
    office.go_round()
    (office.root / "a-envoyer" / "lien.csv").symlink_to(secret)
    assert office.go_round() == []


def test_names_of_persons_stand_in_no_file_name_and_no_exception(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    office.drop(filled(row(), row(reference_interne="D-9", prs_Birthdate=f"31/02/2006 {PLANTED}")))

    def full(*_arguments: object) -> None:
        raise OSError(28, f"No space for {PLANTED}")

    with monkeypatch.context() as patch:
        patch.setattr(places, "write_durably", full)
        patch.setattr("adapters.connectors.folder.FolderConnector._prepare", lambda _self: None)
        places.Places.make(office.connector.places)
        with pytest.raises(NotNowError) as failed:
            office.go_round()
    assert PLANTED not in repr(failed.value)
    assert failed.value.__cause__ is None
    office.go_round()
    assert not [name for name in office.every_name() if PLANTED in name or "Aline" in name]
    assert PLANTED not in caplog.text
    for batch in (drafts(office.collected()),):
        assert PLANTED not in repr([draft.facts for draft in batch])


def test_rows_of_the_mailbox_keep_their_agency_reference_out_of_facts(office: Office) -> None:
    office.drop(filled(row()))
    [draft] = drafts(office.go_round())
    assert isinstance(draft, Draft)
    assert "D-2026-14" not in draft.facts.model_dump_json()


def test_a_folder_that_cannot_be_used_is_said_with_a_code_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "iom").write_text("a file where the folder should be")
    with pytest.raises(SourceError) as failed:
        Office(tmp_path / "iom").collected()
    assert failed.value.code == "folder_unusable"
    assert str(tmp_path) not in str(failed.value)
    assert failed.value.__cause__ is None


def test_an_office_that_works_in_english_is_told_in_english_where(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom", language="en")
    names = list(row())
    files = {
        "cells.xlsx": filled(row(services="Logement", reference_interne="D-1"), row(reference_interne="D-2")),
        "double.xlsx": filled(row(reference_interne="D-3"), row(reference_interne="D-3")),
        "column.xlsx": table(names[1:], list(row().values())[1:]),
        "unknown.xlsx": table([*names, "couleur"], [*row(reference_interne="D-4").values(), "bleu"]),
        "sheet.xlsx": table(["rien"], ["rien"], title="Feuille1"),
        "empty.xlsx": table(names),
        "text.csv": "Destinataire;Priorité\nFoyer;éteint".encode("cp1252"),
    }
    wheres = set()
    for name, data in files.items():
        office.drop(data, name)
        office.go_round()
    for report in office.names("rapports"):
        if "rapport" in report:
            wheres |= {line[3] for line in office.sheet(f"rapports/{report}")[5:] if line[3]}
    assert {"row 5", "file", "sheet « Orientation »"} <= wheres
    assert {re.sub("column [A-Z]+", "column X", where) for where in wheres} >= {
        "row 4, column X (« Services asked for »)",
        "sheet « Orientation », column X",
    }
    assert not any(re.search("ligne|colonne|feuille|fichier", where) for where in wheres)


def test_a_new_folder_is_furnished_once_whoever_comes_first(tmp_path: Path) -> None:
    """Every turn of an adapter looks at its folder at once when it begins; none of them may call it unusable."""

    async def begin(connector: FolderConnector) -> None:
        await asyncio.gather(*(_looked(connector), connector.contacts([])))

    for n in range(20):
        asyncio.run(begin(Office(tmp_path / str(n)).connector))


async def _looked(connector: Connector) -> None:
    assert [batch async for batch in connector.collect()] == []
