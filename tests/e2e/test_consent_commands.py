# SPDX-License-Identifier: Apache-2.0
"""What a caseworker types about consent, children and cards, and what she reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.keystore import write_keys
from adapters.settings import FILE_NAME
from adapters.ticket_card import card
from schemas.forms import Birth, Caregiver, Facts, Lawful
from tests.agencies import PLANTED, Agencies, referral, said
from tests.domain import seeded
from tests.e2e.planted import every_file, traces
from umuhuza.cli import build
from umuhuza.consent_command import CODE_LENGTH, new_code, read_code

IOM, SHELTER = "bi/iom", "bi/k7t4"
HER = "DOSSIER-17"


@dataclass
class Office:
    """IOM's folder over the mailbox that it has in the town."""

    town: Agencies
    folder: Path

    def type(self, command: str, *arguments: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(build(), ["agency", command, "--dir", str(self.folder), *arguments])
        assert done.exit_code == exit_code, (done.output, done.stderr, done.exception)
        return " ".join((done.stdout + done.stderr).split())

    def json(self, command: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(build(), ["agency", command, "--dir", str(self.folder), *arguments, "--json"])
        assert done.exit_code == exit_code, (done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    (tmp_path / "town").mkdir()
    with Agencies(tmp_path / "town") as town:
        monkeypatch.setattr("umuhuza.agency.time.time", lambda: town.now)
        folder = tmp_path / "iom"
        folder.mkdir()
        write_keys(folder / "keys.json", town.keys(IOM))
        (folder / "registry.txt").write_bytes(town.domain.registry_file)
        (folder / FILE_NAME).write_text(
            f'agency = "{IOM}"\ngateway = "http://127.0.0.1:1"\ngateway_agency = "bi/operator"\n'
            f'registry_root = "{town.domain.pin.text}"\nregistry = "registry.txt"\n'
            f'mailbox = "{town.path(IOM)}"\n',
            encoding="utf-8",
        )
        yield Office(town, folder)


def sheltered(office: Office, facts: Facts | None = None) -> None:
    town = office.town
    town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", facts or referral(), person=HER))
    town.settle()
    [thread] = town[SHELTER].box.threads()
    town[SHELTER].evt(town[SHELTER].draft(IOM, "referral.accepted", said(), thread=thread.id))
    town.settle()
    town.wait(60)


def test_she_withdraws_and_it_is_seen_who_has_confirmed(office: Office) -> None:
    sheltered(office)
    assert "Donné" in office.type("consents")
    shown = office.type("withdraw", "--person", HER, "--scope", "sharing")
    assert "l'accompagnement en cours continue" in shown
    assert "Ce qui a été lu ne peut pas redevenir non lu" in shown
    [withdrawal] = office.json("consents")["withdrawals"]
    assert (withdrawal["complete"], withdrawal["told"][0]["state"]) == (False, "waiting")
    office.town.settle()
    [withdrawal] = office.json("consents", "--person", HER)["withdrawals"]
    assert (withdrawal["complete"], withdrawal["told"][0]["state"]) == (True, "confirmed")
    shown = office.type("consents")
    assert "confirmé le" in shown
    assert "Retiré pour le partage" in shown
    assert "Ce qui a été lu ne peut pas redevenir non lu" in shown


def test_the_same_in_english(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "en")
    sheltered(office)
    shown = office.type("withdraw", "--person", HER, "--scope", "service")
    assert "the service ends too" in shown
    assert "What was read cannot be unread" in shown
    office.town.settle()
    assert "Withdrawn for the service too" in office.type("consents")


def test_a_reference_that_is_nobodys_is_said(office: Office) -> None:
    for command, more in (("withdraw", ("--scope", "service")), ("ticket", ("--out", "card.html"))):
        office.type(command, "--person", "DOSSIER-99", *more, exit_code=2)


def test_a_child_without_guardian_is_listed_overdue_and_taken_off(office: Office) -> None:
    facts = referral(
        lawful=Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="Seule, la nuit."),
        birth=Birth(precision="age", age_years=14, basis="estimated"),
    )
    assert facts.referral is not None
    asked = facts.referral.model_copy(update={"caregiver": Caregiver(status="pending")})
    sheltered(office, facts.model_copy(update={"referral": asked}))
    [due] = office.json("children")["representatives_due"]
    assert (due["person"], due["overdue"]) == (HER, False)
    assert "l'avis de l'enfant n'a pas été demandé" in office.type("consents")
    office.town.wait(72 * 3600)
    assert "EN RETARD" in office.type("children")
    assert office.json("children", "--appointed", HER)["representatives_due"] == []
    office.type("children", "--appointed", "DOSSIER-99", exit_code=2)


def test_a_card_leads_to_her_here_and_says_nothing_else(office: Office, tmp_path: Path) -> None:
    sheltered(office)
    file = tmp_path / "carte.html"
    code = office.json("ticket", "--person", HER, "--out", str(file))["code"]
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text(encoding="utf-8")
    assert code in text
    for word in (PLANTED, HER, "OIM", "iom", "traite", "trafic", "umuhuza", "Umuhuza", "refuge", "police", "http"):
        assert word not in text.replace("http-equiv", "")
    for spoken in (code, code.lower(), code.replace("-", " "), code.replace("1", "l").replace("0", "o")):
        assert office.json("ticket", "--find", spoken)["person"] == HER
    assert office.json("ticket", "--find", "ZZZZ-ZZZZ-ZZZZ", exit_code=1)["person"] is None
    assert office.json("ticket", "--person", HER, "--out", str(file))["code"] == code
    elsewhere = [path for path in every_file(tmp_path) if path != file and not path.name.startswith("bi-iom.db")]
    assert traces([code, code.replace("-", "")], elsewhere) == []


def test_a_card_is_in_the_persons_language_and_says_to_us_what_nobody_has_reviewed(
    office: Office, tmp_path: Path
) -> None:
    sheltered(office)
    file = tmp_path / "carte.html"
    for language, on_the_card, told in (
        ("en", 'lang="en" dir="ltr"', ""),
        ("ar", "يُرجى الاحتفاظ بهذه البطاقة", "un brouillon"),
        ("rn", "À lire avec un interprète.", "Lisez-la avec un interprète"),
    ):
        said = office.type("ticket", "--person", HER, "--out", str(file), "--language", language)
        assert on_the_card in file.read_text(encoding="utf-8").replace("\u00a0", " ")
        assert told in said
        assert ("brouillon" in said) == (language == "ar")
    office.type("ticket", "--person", HER, "--out", str(file), "--language", "sw", exit_code=2)


def test_a_line_that_would_not_fit_on_the_card_is_refused(office: Office, tmp_path: Path) -> None:
    sheltered(office)
    file = tmp_path / "carte.html"
    office.type("ticket", "--person", HER, "--out", str(file), "--contact", "2" * 61, exit_code=2)
    assert not file.exists()
    office.type("ticket", "--person", HER, "--out", str(file), "--contact", "2" * 60)
    assert "2" * 60 in file.read_text(encoding="utf-8")


def test_codes_are_random_and_what_is_written_on_a_card_is_escaped() -> None:
    codes = {new_code(seeded(str(number))) for number in range(200)}
    assert len(codes) == 200
    assert all(len(code) == CODE_LENGTH and read_code(code) == code for code in codes)
    assert "<b>" not in card("AAAABBBBCCCC", "<b>+257</b>")
    assert "Gardez cette carte" in card("AAAABBBBCCCC", None)
    assert "Keep this card" in card("AAAABBBBCCCC", None)


def test_no_name_stands_in_what_is_shown_or_kept(office: Office, tmp_path: Path) -> None:
    sheltered(office)
    commands: tuple[Callable[[], str], ...] = (
        lambda: office.type("withdraw", "--person", HER, "--scope", "service"),
        lambda: office.type("consents"),
        lambda: office.type("children"),
    )
    for command in commands:
        assert PLANTED not in command()
    office.town.settle()
    assert traces([PLANTED], every_file(tmp_path)) == []
