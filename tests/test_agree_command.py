# SPDX-License-Identifier: Apache-2.0
"""Two agencies of one country sign a protocol, each in its own folder and with its own key, and one of them ends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from schemas.agreement_text import control_words
from schemas.agreements import agreement_from_json
from schemas.errors import UmuhuzaError
from tests.test_agency_registry_command import folders
from umuhuza import agency_agree_command
from umuhuza.cli import build
from umuhuza.registry_holder import held

LEGAL = ("--legal-ref", "Protocole inventé du 1er mars 2026", "--purpose", "hébergement", "--flow", "bilateral")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(build(), list(map(str, words)))


def told(*words: str | Path) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: str | Path) -> str:
    done = run(*words)
    assert isinstance(done.exception, UmuhuzaError), done.output
    return done.exception.code


class Country:
    """A holder, two agencies with their folders, and a draft that binds both."""

    def __init__(self, root: Path) -> None:
        folders(root, {"foyer": "facilitator", "oim": "focal-point", "tiers": "assistance"})
        self.root, self.registry, self.file = root, root / "registre", root / "foyer-oim.json"
        bound = ("--between", "bi/foyer", "--between", "bi/oim")
        told("registry", "agreement", "draft", "foyer-oim", *bound, *LEGAL, "--out", self.file, "--dir", self.registry)

    @property
    def words(self) -> str:
        raw = json.loads(self.file.read_text(encoding="utf-8"))
        return " ".join(control_words(agreement_from_json(raw, "foyer-oim", "bi"), "fr"))

    def sign(self, agency: str) -> dict[str, Any]:
        return told(*self.signing(agency), "--words", self.words)

    def signing(self, agency: str) -> tuple[str | Path, ...]:
        return ("agency", "agree", self.file, "--dir", self.root / agency)

    def publish(self) -> None:
        told("registry", "agree", "foyer-oim", "--file", self.file, "--dir", self.registry)
        for agency in ("foyer", "oim", "tiers"):
            shutil.copyfile(self.registry / "registry.json", self.root / agency / "registry.json")

    def explained(self) -> dict[str, Any]:
        root = told("registry", "show", "--dir", self.registry)["registry_root"]
        asked = ("policy", "explain", "bi/oim", "send transfer.requested to bi/foyer")
        done = run(*asked, "--registry", self.registry / "registry.json", "--registry-root", root, "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def country(tmp_path: Path) -> Country:
    return Country(tmp_path)


def test_both_sign_the_holders_publish_and_either_ends_it_alone(country: Country) -> None:
    one = country.sign("foyer")
    assert (one["agency"], one["counts"], one["lacking"]) == ("bi/foyer", False, ["bi/oim"])
    both = country.sign("oim")
    assert (both["counts"], both["lacking"], both["sha256"]) == (True, [], one["sha256"])
    country.publish()
    assert held(country.registry).registry.protocols["foyer-oim"].counts
    explained = country.explained()
    assert explained["protocols"]["foyer-oim"]["counts"] is True
    # Either ends what stands in its copy of the registry; the other is not asked.
    end = ("agency", "agree", "foyer-oim", "--end", "--out", country.file, "--dir", country.root / "oim")
    ended = told(*end, "--words", country.words)
    assert (ended["counts"], ended["ended_by"]) == (False, ["bi/oim"])
    country.publish()
    assert country.explained()["protocols"]["foyer-oim"]["ended_by"] == ["bi/oim"]
    assert refused(*country.signing("oim"), "--words", country.words) == "protocol_ended"


def test_a_draft_that_changed_after_a_signature_is_not_signed(country: Country) -> None:
    country.sign("foyer")
    raw = json.loads(country.file.read_text(encoding="utf-8"))
    country.file.write_text(json.dumps({**raw, "retention_days": 36_500}), encoding="utf-8")
    assert refused(*country.signing("oim"), "--words", country.words) == "protocol_changed"
    assert len(json.loads(country.file.read_text(encoding="utf-8"))["signatures"]) == 1


def test_a_draft_that_changes_while_it_is_read_is_not_signed(country: Country, monkeypatch: pytest.MonkeyPatch) -> None:
    words, raw = country.words, json.loads(country.file.read_text(encoding="utf-8"))

    def swapped(_question: str) -> str:
        country.file.write_text(json.dumps({**raw, "retention_days": 36_500}), encoding="utf-8")
        return words

    monkeypatch.setattr(agency_agree_command, "line", swapped)
    assert refused(*country.signing("foyer")) == "protocol_changed"
    assert "signatures" not in json.loads(country.file.read_text(encoding="utf-8"))


def test_the_words_are_those_of_the_text_and_a_program_is_not_asked(country: Country) -> None:
    before = country.file.read_bytes()
    raw = json.loads(before)
    other = agreement_from_json({**raw, "retention_days": 36_500}, "foyer-oim", "bi")
    assert refused(*country.signing("foyer"), "--words", " ".join(control_words(other, "fr"))) == "words_differ"
    assert run(*country.signing("foyer")).exit_code == 2
    assert run(*country.signing("tiers"), "--words", country.words).exit_code == 2, "it is not bound"
    assert country.file.read_bytes() == before


def test_a_file_that_lies_there_under_the_name_of_a_protocol_is_not_written_over(
    country: Country, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    country.sign("foyer")
    country.sign("oim")
    country.publish()
    elsewhere = tmp_path / "ailleurs"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    other = elsewhere / "foyer-oim.json"
    other.write_text("another draft", encoding="utf-8")
    done = run("agency", "agree", "foyer-oim", "--end", "--words", country.words, "--dir", country.root / "oim")
    assert (done.exit_code, other.read_text(encoding="utf-8")) == (2, "another draft")


def test_signing_twice_is_signing_once(country: Country) -> None:
    country.sign("foyer")
    before = json.loads(country.file.read_text(encoding="utf-8"))
    country.sign("foyer")
    assert json.loads(country.file.read_text(encoding="utf-8")) == before


def test_a_revocation_takes_the_signature_away_and_the_old_key_makes_no_new_one(country: Country) -> None:
    country.sign("foyer")
    kid = country.sign("oim")["kid"]
    country.publish()
    told("registry", "revoke", "bi/oim", "--kid", kid, "--dir", country.registry)
    assert held(country.registry).registry.protocols["foyer-oim"].lacking == ("bi/oim",)
    shown = told("registry", "show", "--dir", country.registry)["protocols"]["foyer-oim"]
    assert (shown["counts"], shown["lacking"]) == (False, ["bi/oim"])
    shutil.copyfile(country.registry / "registry.json", country.root / "oim" / "registry.json")
    assert refused(*country.signing("oim"), "--words", country.words) == "key_revoked"
