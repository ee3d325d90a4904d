# SPDX-License-Identifier: Apache-2.0
"""A caseworker corrects what was sent with the form in which it was written, and nothing of her stands in a command."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.plain.record import RecordCorrected
from tests.agencies import PLANTED, Agencies, referral
from tests.test_attachment_commands import Offices

IOM, SHELTER = "bi/iom", "bi/k7t4"
CONSENT = {
    "base": "Consentement de la personne",
    "consentement_date": "26/10/2026",
    "consentement_fin": "20/05/2027",
    "consentement_forme": "Signature",
}


@pytest.fixture
def offices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offices]:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    (tmp_path / "town").mkdir()
    with Agencies(tmp_path / "town") as town:
        monkeypatch.setattr("umuhuza.agency.time.time", lambda: town.now)
        yield Offices(town, tmp_path)


def sent(offices: Offices) -> str:
    iom = offices.town[IOM]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral(services=("Legal",)), person="D-1"))
    offices.town.settle()
    return evt


def sheet(offices: Offices, **cells: str) -> Path:
    """A CSV with these columns of the template and one row."""
    file = offices.root / "juste.csv"
    row = {**CONSENT, **cells}
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows((row.keys(), row.values()))
    return file


RIGHT = ("--reason", "misheard", "--source", "person")


def test_what_was_misheard_is_corrected_at_its_reader_by_one_row_of_the_form(offices: Offices) -> None:
    evt = sent(offices)
    file = sheet(
        offices,
        nom_donne=f"Alice {PLANTED}",
        priorite="Immédiate (téléphoner d'abord, 2 h)",
        langues="kirundi; swahili",
        prs_Citizenship="Rwanda",
    )
    done = offices.json(IOM, "correct", evt[-12:], "--file", file, *RIGHT, "--wrong", "Niveau de risque")
    assert {"referral.name.as_given", "referral.priority", "referral.languages", "referral.risk.level"} <= set(
        done["fields"]
    )
    assert (
        offices.json(IOM, "correct", evt, "--file", file, *RIGHT, "--wrong", "Niveau de risque")["evt"] == done["evt"]
    )
    offices.town.open(IOM)
    offices.town.settle()
    [opened] = offices.town[SHELTER].opened("record.corrected")
    said = opened.facts.said
    assert isinstance(said, RecordCorrected)
    assert said.right is not None
    assert (said.name and said.name.as_given, said.right.priority, said.right.languages) == (
        f"Alice {PLANTED}",
        "immediate",
        ("rn", "sw"),
    )
    assert [(one.field, one.values) for one in said.right.htcds or ()] == [("prs_Citizenship", ("RW",))]
    assert (said.reason, said.source) == ("misheard", "person")


def test_a_correction_is_dated_in_the_agencys_own_zone(offices: Offices) -> None:
    for zone, hours in (("Africa/Bujumbura", 2), ("Asia/Tokyo", 9)):
        evt = sent(offices)
        file = sheet(offices, langues="swahili")
        offices.json(IOM, "correct", evt, "--file", file, *RIGHT, more=f'timezone = "{zone}"\n')
        offices.town.open(IOM)
        offices.town.settle()
        opened = offices.town[SHELTER].opened("record.corrected")[-1]
        assert opened.facts.occurred_at.utcoffset() == timedelta(hours=hours)


def test_what_cannot_be_corrected_is_told_in_words_and_nothing_leaves(offices: Offices) -> None:
    evt = sent(offices)
    words = offices.type(IOM, "correct", evt, "--file", sheet(offices, langues="martien"), *RIGHT, exit_code=1)
    assert "n'est pas dans la liste" in words
    file = sheet(offices, langues="kirundi")
    words = offices.type(IOM, "correct", evt, "--file", file, *RIGHT, "--wrong", "Météo", exit_code=1)
    assert "n'est le nom d'aucune rubrique" in words
    file = sheet(offices, besoins_acces="Fauteuil roulant")
    refused = offices.json(IOM, "correct", evt, "--file", file, *RIGHT, exit_code=1)["refused"]
    assert [one["code"] for one in refused] == ["not_permitted"]  # a lawyer gets no medical part
    file.write_text("bonjour", encoding="utf-8")
    assert "fichier" in offices.type(IOM, "correct", evt, "--file", file, *RIGHT, exit_code=1)
    assert offices.town[IOM].sent("record.corrected") == []
