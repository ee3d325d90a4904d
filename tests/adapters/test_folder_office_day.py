# SPDX-License-Identifier: Apache-2.0
"""A caseworker's day in the folder: every answer that she is asked for, what waits for her, and what is erased."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.connectors.answers import COLUMNS
from adapters.connectors.contract import Escalation, EscalationKind, LastContact, NotNowError
from schemas.forms import Answer, Facts, Movement, Question
from tests.adapters.folder_office import (
    NOW,
    PLANTED,
    ZONE,
    Office,
    arrived,
    connector_of,
    drafts,
    filled,
    row,
)
from tests.agencies import Agencies

WORKBOOK = "orientation-Zk3x9QmA.xlsx"
THREAD = "Zk3x9QmA-_inventedThread"
TO_DO = "rapports/A-TRAITER.txt"


@pytest.fixture
def served(tmp_path: Path) -> Office:
    """A shelter that has received one referral."""
    shelter = Office(tmp_path / "k7t4")
    shelter.deliver(arrived())
    return shelter


@pytest.fixture
def sender(tmp_path: Path) -> Office:
    """An office that has sent one referral (`evt-1`)."""
    office = Office(tmp_path / "iom")
    office.drop(filled(row()))
    office.go_round()
    return office


# -- every answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "type", "said"),
    [
        (
            {"etape": "Interrompue avant son terme", "fin_motif": "La personne n'est pas venue"},
            "referral.ended",
            {"answer": Answer(end_reason="no-show")},
        ),
        ({"etape": "La personne est arrivée"}, "movement.arrived", {"movement": Movement(arrived_at=NOW)}),
        (
            {"etape": "La personne est arrivée", "date": "20/11/2026 19:30"},
            "movement.arrived",
            {"movement": Movement(arrived_at=datetime(2026, 11, 20, 19, 30, tzinfo=ZONE))},
        ),
        (
            {"etape": "Renseignement demandé", "demande": "Risque; Langues", "demande_precision": "Pour la chambre."},
            "information.requested",
            {"question": Question(fields=("information.risk", "information.languages"), note="Pour la chambre.")},
        ),
    ],
)
def test_every_answer_that_a_shelter_is_asked_for_can_be_given(
    served: Office, cells: dict[str, str], type: str, said: dict[str, Any]
) -> None:
    served.answer(WORKBOOK, 6, **cells)
    [draft] = drafts(served.go_round())
    assert draft.type == type
    expected = Facts(occurred_at=draft.facts.occurred_at, **said)
    assert draft.facts == expected


def test_feedback_says_how_it_goes_what_she_thinks_and_what_she_still_needs(served: Office) -> None:
    cells = {"nouvelles": "Demande votre attention", "avis": "En partie satisfaite", "encore": "Santé; Éducation"}
    served.answer(WORKBOOK, 6, etape="Nouvelles données", **cells)
    [draft] = drafts(served.go_round())
    assert draft.facts.feedback is not None
    assert draft.facts.feedback.model_dump() == {
        "outcome": "needs-attention",
        "her_view": "partly",
        "still_needed": ("Health", "Education"),
    }


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"etape": "Interrompue avant son terme"}, "Choisissez une réponse"),
        ({"etape": "Nouvelles données"}, "Choisissez une réponse"),
        (
            {"etape": "Nouvelles données", "nouvelles": "Cela se passe bien", "encore": "Santé; Rien"},
            "pas dans la liste",
        ),
        ({"etape": "Renseignement demandé"}, "Choisissez ce que vous demandez"),
        ({"etape": "Renseignement demandé", "demande": "Adresse secrète"}, "pas dans la liste"),
        ({"etape": "Acceptée", "fin_motif": "Non connu"}, "Interrompue avant son terme"),
        ({"etape": "Acceptée", "demande": "Risque"}, "Renseignement demandé"),
    ],
)
def test_half_an_answer_waits_and_says_why(served: Office, cells: dict[str, str], words: str) -> None:
    served.answer(WORKBOOK, 6, **cells)
    assert drafts(served.go_round()) == []
    assert words in served.status(WORKBOOK, 6)


def test_no_two_choices_of_a_list_read_alike() -> None:
    for column in COLUMNS:
        for language in ("fr", "en"):
            labels = [choice.label("fr" if language == "fr" else "en") for choice in column.choices]
            assert len(set(labels)) == len(labels), (column.name, language)


# -- what waits for somebody -------------------------------------------------------------------------------------------


def escalate(office: Office, kind: EscalationKind, *, evt: str = "evt-1", thread: str = THREAD) -> None:
    due = int((NOW - timedelta(hours=1)).timestamp())
    asyncio.run(office.connector.escalated(Escalation(kind, thread, evt, "bi/k7t4", due)))


def to_do(office: Office) -> str:
    path = office.root / TO_DO
    return path.read_text(encoding="utf-8-sig") if path.exists() else ""


def line_of(office: Office) -> list[str]:
    [line] = [each for each in office.sheet("rapports/suivi.xlsx") if each[0] == "D-2026-14"]
    return line


def test_an_overdue_answer_stands_beside_its_row_and_in_a_file_and_names_nobody(sender: Office) -> None:
    assert to_do(sender) == ""
    escalate(sender, "half")
    assert "la moitié du délai" in line_of(sender)[7]
    escalate(sender, "overdue")
    escalate(sender, "overdue")
    assert "Sans réponse à temps : téléphonez à Foyer K7T4" in line_of(sender)[7]
    words = to_do(sender)
    assert words.count("Foyer K7T4") == 1
    assert "téléphonez d'abord" in words
    for told in (PLANTED, "Aline", "D-2026-14", "Santé"):
        assert told not in words


def test_it_is_still_there_after_the_computer_was_off_and_goes_when_the_answer_has_come(sender: Office) -> None:
    escalate(sender, "overdue")
    sender.restarted()
    sender.go_round()
    assert "Sans réponse" in line_of(sender)[7]
    received = arrived("referral.received", iss="bi/k7t4", ref="evt-1", state="received", facts=Facts(occurred_at=NOW))
    sender.deliver(received)
    assert "Sans réponse" in to_do(sender)  # somebody has it; nobody has answered
    answer = {"iss": "bi/k7t4", "ref": "evt-1", "facts": Facts(occurred_at=NOW)}
    sender.deliver(arrived("referral.accepted", evt="0199f0e0-0000-7000-8000-00000000000a", state="accepted", **answer))
    sender.go_round()
    assert (line_of(sender)[7], to_do(sender)) == ("", "")


def test_a_late_acceptance_and_a_person_who_has_not_arrived_are_told(sender: Office) -> None:
    late = {"iss": "bi/k7t4", "ref": "evt-1", "facts": Facts(occurred_at=NOW), "state": "late-acceptance"}
    sender.deliver(arrived("referral.accepted", **late))
    escalate(sender, "late-acceptance")
    escalate(sender, "not-arrived", evt="evt-2")
    assert "à confirmer ou à révoquer" in line_of(sender)[7]
    assert "pas d'arrivée signalée" in to_do(sender)


def test_a_shelter_that_says_that_she_is_there_is_not_asked_where_she_is(served: Office) -> None:
    escalate(served, "not-arrived", evt="0199f0e0-0000-7000-8000-00000000000b")
    assert WORKBOOK in to_do(served)
    served.answer(WORKBOOK, 6, etape="Acceptée")
    served.answer(WORKBOOK, 7, etape="La personne est arrivée")
    served.go_round()
    served.go_round()
    assert to_do(served) == ""


def test_who_has_the_table_open_still_finds_the_file(sender: Office) -> None:
    lock = sender.root / "rapports" / "~$suivi.xlsx"
    lock.write_bytes(b"Excel")
    escalate(sender, "overdue")
    assert "Sans réponse" in to_do(sender)
    assert line_of(sender)[7] == ""
    lock.unlink()
    sender.go_round()
    assert "Sans réponse" in line_of(sender)[7]


def test_the_adapter_tells_the_office_by_itself(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        town.open("bi/iom", [connector_of(town, tmp_path, "bi/iom")])
        office = Office(tmp_path / "bi-iom")
        now = datetime.fromtimestamp(town.now, ZONE)
        consent = {
            "consentement_date": f"{now - timedelta(days=1):%d/%m/%Y}",
            "consentement_fin": f"{now + timedelta(days=90):%d/%m/%Y}",
        }
        office.drop(filled(row(**consent)))
        town.settle()
        town.wait(73 * 3600)
        town["bi/iom"].watch()
        town.settle()
        assert "Sans réponse à temps : téléphonez à Foyer K7T4" in line_of(office)[7]
        assert "Foyer K7T4" in to_do(office)


def test_what_the_office_owes_a_person_stands_until_it_has_answered(sender: Office) -> None:
    escalate(sender, "owed", thread="fil-9", evt="evt-9")
    assert "Une personne attend ce que vous détenez sur elle" in to_do(sender)
    escalate(sender, "owed-overdue", thread="fil-9", evt="evt-9")
    assert "la moitié du délai" not in to_do(sender)
    assert "est en retard" in to_do(sender)
    escalate(sender, "answered", thread="fil-9", evt="evt-9")
    assert to_do(sender) == ""


# -- what is erased ----------------------------------------------------------------------------------------------------


def journal(office: Office) -> str:
    return (office.root / "rapports" / "suivi.jsonl").read_text(encoding="utf-8")


def test_of_a_record_of_ours_that_was_erased_neither_row_nor_journal_is_left(sender: Office) -> None:
    sender.drop(filled(row(reference_interne="D-2")), "autre.xlsx")
    sender.go_round()
    escalate(sender, "overdue")
    asyncio.run(sender.connector.erase("bi/iom/evt-1"))
    assert "D-2026-14" not in journal(sender)
    assert "evt-1" not in journal(sender)
    assert {line[0] for line in sender.sheet("rapports/suivi.xlsx")} >= {"D-2"}
    assert "D-2026-14" not in sender.words("rapports/suivi.xlsx")
    assert "Sans réponse" not in to_do(sender)
    sender.restarted()
    sender.go_round()
    assert "D-2026-14" not in sender.words("rapports/suivi.xlsx")


def test_whoever_erases_what_she_sent_is_told_of_her_own_file_that_still_says_it(sender: Office) -> None:
    found = asyncio.run(sender.connector.erase("bi/iom/evt-1"))
    assert found.by_hand == ("destroy-own-files",)
    [page] = (sender.root / "rapports").glob("A-EFFACER-*.txt")
    [own] = sender.names("envoyes")
    assert f"envoyes/{own}" in page.read_text(encoding="utf-8-sig")
    assert asyncio.run(sender.connector.erase("bi/iom/evt-1")) == found


def test_an_answer_that_was_erased_is_told_no_more(sender: Office) -> None:
    declined = arrived(
        "referral.declined",
        iss="bi/k7t4",
        ref="evt-1",
        state="declined",
        facts=Facts(occurred_at=NOW, answer=Answer(reason="unsafe-here")),
    )
    sender.deliver(declined)
    assert "Pas sûr ici" in sender.words("rapports/suivi.xlsx")
    asyncio.run(sender.connector.erase(declined.ident))
    asyncio.run(sender.connector.erase(declined.ident))
    assert "Pas sûr ici" not in sender.words("rapports/suivi.xlsx")
    assert "unsafe" not in journal(sender)
    assert "Pas sûr ici" not in journal(sender)
    assert line_of(sender)[0] == "D-2026-14"  # what we sent ourselves stays


@pytest.mark.parametrize("died", [False, True])
def test_it_is_not_called_erased_while_somebody_has_the_table_open(sender: Office, died: bool) -> None:
    lock = sender.root / "rapports" / "~$suivi.xlsx"
    lock.write_bytes(b"Excel")
    with pytest.raises(NotNowError):
        asyncio.run(sender.connector.erase("bi/iom/evt-1"))
    if died:
        sender.restarted()
        with pytest.raises(NotNowError):
            asyncio.run(sender.connector.erase("bi/iom/evt-1"))
    lock.unlink()
    asyncio.run(sender.connector.erase("bi/iom/evt-1"))
    assert "D-2026-14" not in sender.words("rapports/suivi.xlsx")


# -- who is silent -----------------------------------------------------------------------------------------------------


def heard(office: Office, *known: LastContact) -> None:
    asyncio.run(office.connector.contacts(known))


SINCE = int((NOW - timedelta(hours=5)).timestamp())


def test_who_is_silent_stands_in_the_file_with_the_number_to_call_until_somebody_is_heard(sender: Office) -> None:
    heard(sender, LastContact("", SINCE), LastContact("bi/k7t4", SINCE, SINCE, "+257 79 00 00 00"))
    assert "Aucun signe depuis, et quelque chose l'attend : téléphonez à Foyer K7T4 (+257 79 00 00 00)" in to_do(sender)
    sheet = sender.sheet("rapports/suivi.xlsx", "Contacts")
    assert ["Foyer K7T4", "+257 79 00 00 00"] in [[line[0], line[2]] for line in sheet]
    heard(sender, LastContact("", SINCE), LastContact("bi/k7t4", SINCE + 60, None, "+257 79 00 00 00"))
    assert to_do(sender) == ""


def test_an_office_that_has_sent_nothing_yet_learns_that_nothing_arrives(tmp_path: Path) -> None:
    office = Office(tmp_path / "k7t4", language="en")
    heard(office, LastContact("", SINCE, SINCE))
    assert "Umuhuza does not reach the gateway any more" in to_do(office)
    heard(office, LastContact("", SINCE + 60))
    assert to_do(office) == ""


def test_where_no_number_is_known_the_paper_list_is_named(sender: Office) -> None:
    heard(sender, LastContact("", SINCE), LastContact("bi/r5w2", None, SINCE))
    assert "Foyer R5W2 (numéro inconnu ici : votre liste sur papier)" in to_do(sender)
    assert "jamais" in sender.words("rapports/suivi.xlsx", "Contacts")


def test_what_was_never_acknowledged_stands_until_it_is(sender: Office) -> None:
    batch = sender.collected()
    assert batch == []
    escalate(sender, "unacknowledged")
    assert "sa machine n'a pas dit l'avoir : téléphonez à Foyer K7T4" in line_of(sender)[7]
    escalate(sender, "undelivered")
    assert "Jamais remis" in line_of(sender)[7]
    assert to_do(sender).count("Foyer K7T4") == 1
    asyncio.run(sender.connector.changed("evt-1", "Orientation!4", "sha256:0", "delivered", None))
    sender.go_round()
    assert (line_of(sender)[7], to_do(sender)) == ("", "")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("held-abroad", "L'autre pays ne le prend pas pour l'instant"),
        ("refused-abroad", "Refusé par l'autre pays, n'arrivera pas"),
    ],
)
def test_what_the_other_country_does_not_take_stands_beside_its_row(
    sender: Office, kind: EscalationKind, words: str
) -> None:
    assert sender.collected() == []
    escalate(sender, kind)
    assert words in line_of(sender)[7]
    assert words in to_do(sender)
    asyncio.run(sender.connector.changed("evt-1", "Orientation!4", "sha256:0", "refused", "not_permitted"))
    sender.go_round()
    assert (words in to_do(sender)) is (kind == "refused-abroad"), "refused for good, it waits no longer"


# -- what is not a file -----------------------------------------------------------------------------------------------


def test_a_folder_or_a_shortcut_that_was_dropped_is_said_without_its_name_until_it_is_taken_away(
    tmp_path: Path,
) -> None:
    office = Office(tmp_path / "iom")
    office.go_round()
    place = office.root / "a-envoyer"
    (place / "Aline Inventée").mkdir()
    (place / "Bella Inventée.xlsx").symlink_to(tmp_path / "ailleurs.xlsx")
    (place / ".cache").mkdir()
    office.go_round()
    told = (office.root / TO_DO).read_text(encoding="utf-8-sig")
    assert "Dossiers ou raccourcis déposés dans a-envoyer : 2. Ils ne sont pas lus" in told
    assert "Invent" not in told
    (place / "Aline Inventée").rmdir()
    (place / "Bella Inventée.xlsx").unlink()
    office.go_round()
    assert not (office.root / TO_DO).exists()


def test_what_arrives_and_what_is_erased_does_not_need_the_folder_of_what_is_sent(tmp_path: Path) -> None:
    shelter = Office(tmp_path / "k7t4")
    shelter.go_round()
    (shelter.root / "a-envoyer").rmdir()
    shelter.deliver(arrived())
    assert shelter.names("recus") == [WORKBOOK]
    asyncio.run(shelter.connector.erase(arrived().ident))
    assert shelter.names("recus") == []
