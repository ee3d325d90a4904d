# SPDX-License-Identifier: Apache-2.0
"""What arrives in `recus/`, answered in the same workbook; and `suivi.xlsx`, where the sender sees it."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from adapters.connectors import delivered, places
from adapters.connectors.answers import steps_ahead
from adapters.connectors.contract import Erased, NotNowError, Problem
from schemas.forms import Answer, Facts
from tests.adapters.folder_office import (
    CASE,
    NOW,
    PLANTED,
    RECIPIENTS,
    ZONE,
    Office,
    arrived,
    connector_of,
    drafts,
    filled,
    problems,
    referral_facts,
    row,
)
from tests.agencies import Agencies

WORKBOOK = "orientation-Zk3x9QmA.xlsx"
EVIL = '=HYPERLINK("http://invente.example","ouvrir")'


@pytest.fixture
def shelter(tmp_path: Path) -> Office:
    return Office(tmp_path / "k7t4")


@pytest.fixture
def served(shelter: Office) -> Office:
    """A shelter that has received one referral."""
    shelter.deliver(arrived())
    return shelter


def answered(**answer: Any) -> Facts:
    return Facts(occurred_at=NOW, answer=Answer.model_validate(answer) if answer else None)


# -- what is erased ---------------------------------------------------------------------------------------------------


def test_the_workbook_of_a_record_that_was_erased_is_gone_with_all_that_was_remembered(served: Office) -> None:
    asyncio.run(served.connector.erase(arrived().ident))
    assert served.names("recus") == []
    assert not [path for path in served.root.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]
    asyncio.run(served.connector.erase(arrived().ident))


def left_to_do(office: Office) -> str:
    """The pages of erasures that nobody has done yet."""
    pages = sorted((office.root / "rapports").glob("A-EFFACER-*.txt"))
    return "\n".join(page.read_text(encoding="utf-8-sig") for page in pages)


def test_of_a_workbook_that_was_moved_nobody_says_that_it_is_gone_and_somebody_is_told_to_find_it(
    served: Office,
) -> None:
    elsewhere = served.root.parent / "mes-dossiers.xlsx"
    (served.root / "recus" / WORKBOOK).rename(elsewhere)
    found = asyncio.run(served.connector.erase(arrived().ident))
    assert found == Erased(deleted=False, by_hand=("find-moved-copies", "destroy-other-copies"))
    assert f"recus/{WORKBOOK}" in left_to_do(served)
    assert "N'est plus à sa place : retrouvez ce fichier et détruisez-le." in left_to_do(served)
    assert PLANTED not in left_to_do(served)
    served.go_round()
    assert "Effacement à finir par une personne" in (served.root / "rapports" / "A-TRAITER.txt").read_text(
        encoding="utf-8-sig"
    )
    served.restarted()
    assert asyncio.run(served.connector.erase(arrived().ident)) == found  # the same word, however often it is asked
    for page in (served.root / "rapports").glob("A-EFFACER-*.txt"):
        page.unlink()  # she has done it
    served.go_round()
    assert not (served.root / "rapports" / "A-TRAITER.txt").exists()


def test_a_workbook_written_anew_does_not_hide_that_an_older_copy_was_moved(served: Office) -> None:
    (served.root / "recus" / WORKBOOK).rename(served.root.parent / "ailleurs.xlsx")
    served.deliver(arrived("record.retracted", evt="0192d3a0-0000-7000-8000-00000000beef", facts=answered()))
    assert served.names("recus") == [WORKBOOK]
    found = asyncio.run(served.connector.erase(arrived().ident))
    assert found.by_hand == ("find-moved-copies", "destroy-other-copies")
    assert f"recus/{WORKBOOK}" in left_to_do(served)


def test_of_a_workbook_at_its_place_it_is_said_that_it_is_gone_and_what_people_must_still_do(served: Office) -> None:
    found = asyncio.run(served.connector.erase(arrived().ident))
    assert found == Erased(deleted=True, by_hand=("destroy-other-copies",))
    assert "imprimé" in left_to_do(served)


def test_what_else_was_said_on_the_thread_stays(served: Office) -> None:
    told = arrived("record.retracted", evt="0192d3a0-0000-7000-8000-00000000beef", facts=answered())
    served.deliver(told)
    asyncio.run(served.connector.erase(arrived().ident))
    words = served.words(f"recus/{WORKBOOK}")
    assert "effacé" in words
    assert "Retirée : envoyée par erreur" in words
    assert PLANTED not in words


def test_a_workbook_that_somebody_has_open_is_erased_later(served: Office) -> None:
    lock = served.root / "recus" / f"~${WORKBOOK}"
    lock.write_bytes(b"Excel")
    with pytest.raises(NotNowError):
        asyncio.run(served.connector.erase(arrived().ident))
    lock.unlink()
    asyncio.run(served.connector.erase(arrived().ident))
    assert served.names("recus") == []


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_a_referral_becomes_a_workbook_with_a_neutral_name(served: Office) -> None:
    assert served.names("recus") == [WORKBOOK]
    words = served.words(f"recus/{WORKBOOK}", "Orientation")
    assert "Orientation reçue · OIM Burundi" in words
    assert f"Nom tel que la personne le donne | Aline {PLANTED}" in words
    assert "Naissance | vers 2001 | 2001" in words
    assert "Services demandés | Santé; Juridique | Health; Legal" in words
    assert "Type d'exploitation | Travail forcé | ForcedLabour" in words
    assert "Urgence : réponse attendue en 24 heures." in words
    assert not [name for name in served.every_name() if PLANTED in name]


def test_immediate_danger_says_telephone_first(shelter: Office) -> None:
    shelter.deliver(arrived(facts=referral_facts(priority="immediate")))
    assert "téléphonez d'abord" in shelter.words(f"recus/{WORKBOOK}")


def test_what_arrived_is_protected_and_the_answer_is_open_but_for_its_status(served: Office) -> None:
    book = load_workbook(served.root / "recus" / WORKBOOK)
    assert book.sheetnames == ["Orientation", "Réponse", "Listes", "Umuhuza"]
    assert book["Umuhuza"].sheet_state == "veryHidden"
    assert [book[name].protection.sheet for name in ("Orientation", "Réponse", "Umuhuza")] == [True] * 3
    assert book["Réponse"].row_dimensions[4].hidden
    with zipfile.ZipFile(served.root / "recus" / WORKBOOK) as archive:
        assert PLANTED.encode() not in archive.read("docProps/core.xml") + archive.read("docProps/app.xml")


def test_what_begins_like_a_formula_is_delivered_as_text(shelter: Office) -> None:
    shelter.deliver(arrived(facts=referral_facts(reason=EVIL), issuer_label=EVIL))
    with zipfile.ZipFile(shelter.root / "recus" / WORKBOOK) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if name.startswith("xl/worksheets/sheet")]
    assert not any(b"<f>" in sheet or b"<hyperlink" in sheet for sheet in sheets)
    assert EVIL in shelter.words(f"recus/{WORKBOOK}")


def test_delivering_twice_writes_one_workbook(served: Office) -> None:
    before = (served.root / "recus" / WORKBOOK).read_bytes()
    served.deliver(arrived())
    served.restarted()
    served.deliver(arrived())
    assert served.names("recus") == [WORKBOOK]
    assert (served.root / "recus" / WORKBOOK).read_bytes() == before


def test_a_crash_before_the_workbook_is_written_ends_in_the_workbook(
    shelter: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_arguments: object, **_options: object) -> bytes:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("adapters.connectors.delivered.write_delivered", died)
        with pytest.raises(NotNowError) as failed:
            shelter.deliver(arrived())
    assert failed.value.__cause__ is None
    shelter.restarted()
    shelter.deliver(arrived())
    assert shelter.names("recus") == [WORKBOOK]


def test_a_case_is_delivered_without_a_sheet_for_answers(shelter: Office) -> None:
    shelter.deliver(arrived("case.identified", may_answer=(), state="identified"))
    shelter.deliver(
        arrived("case.screened", may_answer=(), state="screened", evt="0199f0e0-0000-7000-8000-00000000000b")
    )
    assert shelter.names("recus") == ["dossier-Zk3x9QmA.xlsx"]
    words = shelter.words("recus/dossier-Zk3x9QmA.xlsx", "Dossier")
    assert "Personne identifiée" in words
    assert "Évaluation faite" in words
    assert shelter.go_round() == []


def test_two_threads_that_look_alike_get_two_workbooks(served: Office) -> None:
    served.deliver(arrived(thread="zk3X9qMaSomethingElse0", evt="0199f0e0-0000-7000-8000-00000000000c"))
    assert len(served.names("recus")) == 2


# -- answers ----------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_somebody_answers(served: Office) -> None:
    assert served.go_round() == []
    assert served.go_round() == []


def test_a_row_of_the_answer_becomes_a_draft_on_the_same_thread(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée", attendue="25/11/2026", reference="K-7")
    [batch] = served.go_round()
    [draft] = drafts([batch])
    assert (draft.line, draft.to, draft.type) == ("Réponse!6", "bi/iom", "referral.accepted")
    assert (draft.thread, draft.ref, draft.person) == (
        "Zk3x9QmA-_inventedThread",
        "0199f0e0-0000-7000-8000-000000000001",
        "K-7",
    )
    assert draft.facts.answer == Answer(expected_from=datetime(2026, 11, 25, tzinfo=ZONE))
    assert draft.facts.occurred_at == NOW
    assert draft.facts.referral is None
    assert "Prise en charge le 21 novembre 2026, 12:00" in served.status(WORKBOOK, 6)


def test_saving_again_sends_only_what_is_new(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Reçue par une personne")
    assert [draft.type for draft in drafts(served.go_round())] == ["referral.received"]
    assert served.go_round() == []
    served.answer(WORKBOOK, 7, etape="Acceptée")
    served.answer(WORKBOOK, 8, etape="Service fourni", service="Santé", debut="20/11/2026", fin="21/11/2026")
    served.answer(WORKBOOK, 9, etape="Terminée", resultat="Objectifs atteints")
    assert [draft.type for draft in drafts(served.go_round())] == [
        "referral.accepted",
        "service.provided",
        "referral.completed",
    ]
    served.restarted()
    assert served.go_round() == []


def test_without_its_memory_the_connector_offers_the_same_rows_under_the_same_names(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    [first] = served.go_round()
    for path in (served.root / "recus" / ".umuhuza").iterdir():
        path.unlink()
    served.restarted()
    [second] = served.go_round()
    assert (second.source, second.items[0].line) == (first.source, first.items[0].line)
    assert drafts([second])[0].thread == "Zk3x9QmA-_inventedThread"
    assert [outcome.again for outcome in served.outcomes(second)] == [True]
    assert served.go_round() == []


def test_a_row_changed_after_it_was_sent_is_told_not_sent(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    served.go_round()
    served.answer(WORKBOOK, 6, etape="Déclinée", motif="Plus de place")
    [batch] = served.go_round()
    assert drafts([batch]) == []
    assert problems([batch])[0].code == "duplicate"
    assert "modification n'est pas partie" in served.status(WORKBOOK, 6)
    assert served.go_round() == []


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"etape": "Déclinée"}, "Choisissez une réponse"),
        ({"etape": "Terminée"}, "Choisissez une réponse"),
        ({"etape": "Service fourni", "service": "Santé"}, "a commencé"),
        ({"etape": "Acceptée", "motif": "Plus de place"}, "ne va qu'avec l'étape « Déclinée »"),
        ({"etape": "Peut-être"}, "pas dans la liste"),
        ({"motif": "Plus de place"}, "Choisissez l'étape"),
        ({"etape": "Acceptée", "date": "31/02/2026"}, "31 février"),
        ({"etape": "Acceptée", "date": "21/11/2027"}, "futur"),
        ({"etape": "=1+1"}, "pas dans la liste"),
    ],
)
def test_an_incomplete_answer_waits_and_says_why_beside_its_row(
    served: Office, cells: dict[str, str], words: str
) -> None:
    served.answer(WORKBOOK, 6, **cells)
    served.answer(WORKBOOK, 7, etape="Commencé")
    batches = served.go_round()
    assert drafts(batches) == []
    assert words in served.status(WORKBOOK, 6)
    assert "En attente : corrigez d'abord la ligne 6." in served.status(WORKBOOK, 7)
    assert served.go_round() == []


def test_a_corrected_answer_goes_and_so_do_those_below(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Déclinée")
    served.answer(WORKBOOK, 7, etape="Reçue par une personne")
    served.go_round()
    served.answer(WORKBOOK, 6, motif="Plus de place")
    sent = drafts(served.go_round())
    assert [draft.type for draft in sent] == ["referral.declined", "referral.received"]
    assert sent[0].facts.answer == Answer(reason="no-capacity")


def test_a_refused_row_that_is_cleared_stands_in_nobodys_way(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Déclinée")
    served.answer(WORKBOOK, 7, etape="Acceptée")
    served.go_round()
    served.answer(WORKBOOK, 6, etape=None)
    path = served.root / "recus" / WORKBOOK
    book = load_workbook(path)
    book["Réponse"].cell(6, 1).value = None
    book.save(path)
    assert [draft.type for draft in drafts(served.go_round())] == ["referral.accepted"]
    assert served.status(WORKBOOK, 6) == ""


def test_an_answer_that_the_mailbox_refuses_is_told_beside_its_row(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    refused = Problem("ligne 6", "transition_invalid", "Cette étape ne convient pas.", "Not now.", "Réponse!6")
    served.go_round(lambda _draft: refused)
    assert "Cette étape ne convient pas." in served.status(WORKBOOK, 6)


def test_the_status_follows_what_becomes_of_the_answer(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    [batch] = served.go_round()
    served.changed("evt-1", batch, "Réponse!6", "delivered")
    served.go_round()
    assert "Arrivé sur l'ordinateur du destinataire" in served.status(WORKBOOK, 6)
    book = load_workbook(served.root / "recus" / WORKBOOK)
    assert book["Réponse"].cell(6, 1).value == "Acceptée"


@pytest.mark.parametrize("lock", [f"~${WORKBOOK}", f".~lock.{WORKBOOK}#", f"~${WORKBOOK[2:]}"])
def test_a_workbook_that_is_open_is_neither_read_nor_replaced(served: Office, lock: str) -> None:
    (served.root / "recus" / lock).write_bytes(b"somebody")
    served.at = datetime.now(ZONE)
    served.answer(WORKBOOK, 6, etape="Acceptée")
    before = (served.root / "recus" / WORKBOOK).read_bytes()
    assert served.go_round() == []
    served.deliver(arrived("record.corrected", evt="0199f0e0-0000-7000-8000-00000000000d"))
    assert (served.root / "recus" / WORKBOOK).read_bytes() == before
    (served.root / "recus" / lock).unlink()
    assert [draft.type for draft in drafts(served.go_round())] == ["referral.accepted"]
    assert "Correction" in served.words(f"recus/{WORKBOOK}")


def test_a_lock_left_behind_by_a_crash_does_not_hold_answers_back_for_ever(served: Office) -> None:
    (served.root / "recus" / f"~${WORKBOOK}").write_bytes(b"somebody")
    served.answer(WORKBOOK, 6, etape="Acceptée")
    served.at = datetime.now(ZONE) + timedelta(minutes=11)
    assert [draft.type for draft in drafts(served.go_round())] == ["referral.accepted"]


def test_a_workbook_saved_between_reading_and_writing_is_not_replaced(
    served: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = delivered.write_delivered
    served.answer(WORKBOOK, 6, etape="Reçue par une personne")

    def slow(*arguments: Any, **options: Any) -> bytes:
        data = write(*arguments, **options)
        served.answer(WORKBOOK, 7, etape="Acceptée")
        return data

    with monkeypatch.context() as patch:
        patch.setattr("adapters.connectors.delivered.write_delivered", slow)
        served.go_round()
    assert [draft.type for draft in drafts(served.go_round())] == ["referral.accepted"]
    served.go_round()
    assert "Prise en charge" in served.status(WORKBOOK, 6)
    assert "Prise en charge" in served.status(WORKBOOK, 7)


def test_a_workbook_opened_while_ours_goes_to_the_disk_is_not_replaced(
    served: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old disk takes its time; whoever opens the workbook meanwhile saves it later, with her answers."""
    served.answer(WORKBOOK, 6, etape="Reçue par une personne")
    book, lock = served.root / "recus" / WORKBOOK, served.root / "recus" / f".~lock.{WORKBOOK}#"
    as_opened = book.read_bytes()
    write = places.write_durably

    def slow(path: Path, data: bytes, *may: Callable[[], bool]) -> bool:
        if path == book:
            lock.touch()
        return write(path, data, *may)

    with monkeypatch.context() as patch:
        patch.setattr(places, "write_durably", slow)
        served.go_round()
        served.go_round()
    assert book.read_bytes() == as_opened
    assert not book.with_name(f"{WORKBOOK}.part").exists()
    lock.unlink()
    served.go_round()
    assert "Prise en charge" in served.status(WORKBOOK, 6)


def test_a_workbook_held_by_excel_on_windows_keeps_its_status_for_later(
    served: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    write = places.write_durably

    def held(path: Path, data: bytes, *may: Callable[[], bool]) -> bool:
        if path.suffix == ".xlsx":
            raise PermissionError(13, "held")
        return write(path, data, *may)

    with monkeypatch.context() as patch:
        patch.setattr(places, "write_durably", held)
        assert [draft.type for draft in drafts(served.go_round())] == ["referral.accepted"]
    served.go_round()
    assert "Prise en charge" in served.status(WORKBOOK, 6)


def test_a_workbook_dropped_into_a_envoyer_instead_is_an_answer_too(served: Office) -> None:
    served.answer(WORKBOOK, 6, etape="Acceptée")
    data = (served.root / "recus" / WORKBOOK).read_bytes()
    served.deliver(arrived())
    book = load_workbook(served.root / "recus" / WORKBOOK)
    book["Réponse"].cell(6, 1).value = None
    book.save(served.root / "recus" / WORKBOOK)
    served.drop(data, "ma-reponse.xlsx")
    [draft] = drafts(served.go_round())
    assert (draft.type, draft.thread) == ("referral.accepted", "Zk3x9QmA-_inventedThread")
    assert served.names("envoyes") == ["ma-reponse.xlsx"]
    served.drop((served.root / "envoyes" / "ma-reponse.xlsx").read_bytes() + b"", "encore.xlsx")
    assert drafts(served.go_round()) == []


def test_an_answered_workbook_that_cannot_be_read_is_told_once_and_kept(served: Office) -> None:
    (served.root / "recus" / WORKBOOK).write_bytes(b"PK broken")
    [batch] = served.go_round()
    assert problems([batch])[0].code == "source_unreadable"
    assert served.go_round() == []
    assert (served.root / "recus" / WORKBOOK).read_bytes() == b"PK broken"
    assert "source_unreadable" in served.words("rapports/orientation-Zk3x9QmA.reponse.rapport.xlsx")


def test_the_steps_offered_are_those_that_can_still_come() -> None:
    assert steps_ahead("requested", ("referral.received", "referral.accepted", "referral.declined")) == [
        "referral.received",
        "information.requested",
        "referral.accepted",
        "referral.declined",
        "movement.arrived",
        "referral.started",
        "service.provided",
        "feedback.given",
        "referral.completed",
        "referral.ended",
    ]
    assert steps_ahead("in-progress", ("service.provided", "referral.completed")) == [
        "information.requested",
        "movement.arrived",
        "service.provided",
        "feedback.given",
        "referral.completed",
        "referral.ended",
    ]
    assert steps_ahead("completed", ("feedback.given",)) == ["feedback.given"]
    assert steps_ahead("completed", ()) == []


# -- the sender's table -----------------------------------------------------------------------------------------------


def test_the_follow_up_keeps_machine_and_person_apart(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom")
    office.drop(filled(row()))
    [batch] = office.go_round()
    assert "Aucune personne n'a encore répondu" in office.words("rapports/suivi.xlsx")
    office.changed("evt-1", batch, "Orientation!4", "delivered")
    office.go_round()
    [line] = [each for each in office.sheet("rapports/suivi.xlsx") if each[0] == "D-2026-14"]
    assert line[4].startswith("Arrivé sur la machine du destinataire")
    assert line[5] == "Aucune personne n'a encore répondu"
    declined = arrived(
        "referral.declined",
        iss="bi/k7t4",
        ref="evt-1",
        state="declined",
        facts=answered(reason="no-capacity"),
        person="D-2026-14",
    )
    office.deliver(declined)
    office.deliver(declined)
    office.restarted()
    office.go_round()
    [line] = [each for each in office.sheet("rapports/suivi.xlsx") if each[0] == "D-2026-14"]
    assert line[4].startswith("Arrivé sur la machine du destinataire")
    assert line[5] == "Déclinée"
    assert "Plus de place" in line[8]
    assert line[9].count("\n") == 0
    assert office.names("recus") == []


def test_a_line_of_the_journal_torn_by_a_crash_loses_nothing_else(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom")
    office.drop(filled(row()))
    office.go_round()
    with (office.root / "rapports" / "suivi.jsonl").open("ab") as journal:
        journal.write(b'{"k":"state","evt":"evt-1","sta')
    office.restarted()
    second = filled(row(reference_interne="D-2"))
    office.drop(second)
    office.go_round()
    office.restarted()
    office.drop(second, "encore.xlsx")
    office.go_round()
    assert "déjà été envoyées" in office.words("rapports/encore.rapport.xlsx")
    assert {line[0] for line in office.sheet("rapports/suivi.xlsx")} >= {"D-2026-14", "D-2"}


# -- the whole way, with real mailboxes -------------------------------------------------------------------------------


def test_a_row_travels_to_a_shelter_and_its_answer_comes_back(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        now = datetime.fromtimestamp(town.now, ZONE)

        town.open("bi/iom", [connector_of(town, tmp_path, "bi/iom")])
        town.open("bi/k7t4", [connector_of(town, tmp_path, "bi/k7t4")])
        sender, shelter = Office(tmp_path / "bi-iom"), Office(tmp_path / "bi-k7t4")
        given, until = now - timedelta(days=1), now + timedelta(days=90)
        consent = {"consentement_date": f"{given:%d/%m/%Y}", "consentement_fin": f"{until:%d/%m/%Y}"}
        sender.drop(filled(row(**consent), row(prs_Birthdate="15 ans", reference_interne="D-3", **consent)))
        town.settle()
        report = sender.words("rapports/novembre.rapport.xlsx")
        assert "1 ligne envoyée, 1 refusée" in report
        assert "safeguard_missing" in report
        [workbook] = shelter.names("recus")
        assert f"Aline {PLANTED}" in shelter.words(f"recus/{workbook}", "Orientation")
        shelter.answer(workbook, 6, etape="Reçue par une personne")
        shelter.answer(workbook, 7, etape="Acceptée")
        shelter.answer(workbook, 8, etape="Accompagnement commencé")
        shelter.answer(workbook, 9, etape="Service fourni", service="Santé", debut=f"{given:%d/%m/%Y}")
        shelter.answer(workbook, 10, etape="Terminée", resultat="Service mené à bien")
        town.settle()
        town.settle()
        [line] = [each for each in sender.sheet("rapports/suivi.xlsx") if each[0] == "D-2026-14"]
        assert line[5] == "Terminée"
        assert "Service mené à bien" in line[8]
        assert [
            "Arrivé sur l'ordinateur du destinataire" in shelter.status(workbook, number) for number in range(6, 11)
        ] == [True] * 5
        outside = [path for path in tmp_path.iterdir() if path.is_file()]
        assert not [path.name for path in outside if PLANTED.encode() in path.read_bytes()]


def test_asyncio_lock_of_the_connector_serves_several_loops(served: Office) -> None:
    for _ in range(2):
        asyncio.run(served.connector.deliver(arrived()))
    assert served.names("recus") == [WORKBOOK]


def test_case_rows_pass_the_real_rules_and_arrive_as_a_case(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        for agency in ("bi/police", "bi/iom", "bi/min-solidarity"):
            town.open(agency, [connector_of(town, tmp_path, agency, (*RECIPIENTS, ("bi/min-solidarity", "Ministère")))])
        police, iom = Office(tmp_path / "bi-police"), Office(tmp_path / "bi-iom")
        police.drop(filled(CASE, form="Dossier"))
        screened = {**CASE, "type": "Évaluation faite", "destinataire": "bi/min-solidarity", "prs_FirstName": None}
        iom.drop(filled(screened, form="Dossier"))
        town.settle()
        assert "1 ligne envoyée, 0 refusée" in police.words("rapports/novembre.rapport.xlsx")
        assert "1 ligne envoyée, 0 refusée" in iom.words("rapports/novembre.rapport.xlsx")
        [workbook] = iom.names("recus")
        assert workbook.startswith("dossier-")
        assert "Personne identifiée" in iom.words(f"recus/{workbook}", "Dossier")
