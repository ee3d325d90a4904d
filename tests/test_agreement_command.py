# SPDX-License-Identifier: Apache-2.0
"""An agreement from its draft to both registries, as the operators of two countries come to it; and inside one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from schemas.agreement_text import FLOWS, control_words, differences, read_aloud
from schemas.agreements import Agreement, agreement_from_json, agreement_to_json, terms_of
from schemas.envelope import FLOWS as KNOWN_FLOWS
from schemas.errors import RegistryError
from schemas.protocols import sign_protocol
from tests.borders import Countries
from tests.domain import Domain
from topics.borders import border, excerpt_for
from umuhuza import agreement_command
from umuhuza.cli import build
from umuhuza.registry_holder import add_agencies, held, init_registry, sign_proposal

NAME = "bi-tn-2026"
LEGAL = ("--legal-ref", "Accord inventé du 1er mars 2026", "--purpose", "retour")


@cache
def program() -> Typer:
    return build("registry")


def run(*words: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(program(), ["registry", *map(str, words)])
    assert isinstance(done.exception, RegistryError) or done.exit_code == code, done.output
    return done


def told(*words: str | Path, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json", code=code).stdout)
    return found


def refused(*words: str | Path) -> tuple[str, str | None]:
    done = run(*words)
    assert isinstance(done.exception, RegistryError), done.output
    return done.exception.code, done.exception.path


@dataclass
class Operators:
    """Two, each with the own folder and a desk where the other's files are laid."""

    bi: Path
    tn: Path
    folder: Path
    burundi: Domain

    def excerpt(self, of: Path, to: str) -> Path:
        file = self.folder / f"{of.name}.excerpt.json"
        file.write_bytes(excerpt_for(held(of).trusted, to))
        return file


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    countries = Countries(int(time.time()))
    both = Operators(tmp_path / "bi", tmp_path / "tn", tmp_path, countries.bi)
    for folder, domain in ((both.bi, countries.bi), (both.tn, countries.tn)):
        init_registry(folder, domain.name, False)
        add_agencies(folder, list(domain.registry.agencies.values()))
    return both


def drafted(both: Operators) -> Path:
    """By Burundi, carried to Tunisia, which adds its root."""
    here, there = both.folder / "burundi" / f"{NAME}.json", both.folder / "tunisie" / f"{NAME}.json"
    here.parent.mkdir()
    there.parent.mkdir()
    points = ("--focal-point", "bi/ccsprtp", "--focal-point", "tn/inlctp")
    allowed = ("--authorisation", "data-protection-authority;2026/1;bilateral;2029-01-31")
    first = told(
        *("agreement", "draft", NAME, "--with", "tn", *points, *LEGAL, *allowed, "--out", here, "--dir", both.bi)
    )
    assert first["missing_roots"] == ["tn"]
    assert refused("agree", NAME, "--file", here, "--dir", both.bi) == (
        "registry_invalid",
        "agreement.root_fingerprints",
    )
    assert told("agreement", "compare", here, "--theirs", here, "--dir", both.bi)["ok"]
    second = told("agreement", "draft", NAME, "--from", here, "--out", there, "--dir", both.tn)
    assert second["missing_roots"] == []
    seen = told("agreement", "compare", here, "--theirs", there, "--dir", both.bi, code=1)
    theirs = held(both.tn).trusted.pin.text
    assert seen["differences"] == [{"path": "root_fingerprints.tn", "here": "", "there": theirs}]
    assert second["terms"] == {**first["terms"], "root_fingerprints": second["terms"]["root_fingerprints"]}
    return there


def test_two_operators_come_to_one_agreement_and_both_registries_open_the_border(operators: Operators) -> None:
    file = drafted(operators)
    heard = told("agreement", "read", file, "--dir", operators.bi)
    assert heard == told("agreement", "read", file, "--dir", operators.tn)
    assert [len(words) for words in heard["words"].values()] == [12, 12]
    told("agree", NAME, "--file", file, "--words", " ".join(heard["words"]["fr"]), "--dir", operators.bi)
    ours, theirs = held(operators.bi).trusted, held(operators.tn).trusted
    assert border(ours, theirs).one_sided == {NAME: "tn"}
    excerpt = operators.excerpt(operators.tn, "bi")
    alone = told("agreement", "compare", NAME, "--theirs", excerpt, "--dir", operators.bi, code=1)
    assert (alone["ok"], alone["found"]) == (False, False)
    told("agree", NAME, "--file", file, "--words", " ".join(heard["words"]["en"]), "--dir", operators.tn)
    assert border(ours, held(operators.tn).trusted).agreements.keys() == {NAME}
    excerpt = operators.excerpt(operators.tn, "bi")
    assert told("agreement", "compare", NAME, "--theirs", excerpt, "--dir", operators.bi)["ok"]


def test_what_one_side_changed_is_named_before_and_after_it_is_signed(operators: Operators) -> None:
    file = drafted(operators)
    longer = operators.folder / "longer" / f"{NAME}.json"
    longer.parent.mkdir()
    changed = ("--until", "2031-12-31", "--type", "transfer.requested")
    told("agreement", "draft", NAME, "--from", file, *changed, "--out", longer, "--dir", operators.tn)
    seen = told("agreement", "compare", file, "--theirs", longer, "--dir", operators.bi, code=1)
    until = json.loads(file.read_text(encoding="utf-8"))["until"]
    assert seen["differences"] == [
        {"path": "types", "here": "", "there": "transfer.requested"},
        {"path": "until", "here": until, "there": "2031-12-31"},
    ]
    words = told("agreement", "read", longer, "--dir", operators.tn)["words"]["fr"]
    code, _ = refused("agree", NAME, "--file", file, "--words", " ".join(words), "--dir", operators.bi)
    assert code == "words_differ"
    assert held(operators.bi).trusted.agreements == {}
    told("agree", NAME, "--file", file, "--dir", operators.bi)
    told("agree", NAME, "--file", longer, "--dir", operators.tn)
    excerpt = operators.excerpt(operators.tn, "bi")
    seen = told("agreement", "compare", NAME, "--theirs", excerpt, "--dir", operators.bi, code=1)
    assert [one["path"] for one in seen["differences"]] == ["types", "until"]


def test_nobody_signs_for_a_stranger_or_under_a_root_that_is_not_the_own(operators: Operators) -> None:
    file = drafted(operators)
    raw = json.loads(file.read_text(encoding="utf-8"))
    for changes, code, path in (
        ({"focal_points": ["bi/nobody", "tn/inlctp"]}, "agency_unknown", "agreement.focal_points[0]"),
        (
            {"root_fingerprints": {**raw["root_fingerprints"], "bi": "A" * 43}},
            "registry_root_unknown",
            "agreement.root_fingerprints.bi",
        ),
    ):
        file.write_text(json.dumps({**raw, **changes}), encoding="utf-8")
        assert refused("agree", NAME, "--file", file, "--dir", operators.bi) == (code, path)
    # Somebody else's registry under Tunisia's name is not what the agreement means.
    file.write_text(json.dumps({**raw, "root_fingerprints": {**raw["root_fingerprints"], "tn": "A" * 43}}))
    excerpt = operators.excerpt(operators.tn, "bi")
    code, _ = refused("agreement", "compare", file, "--theirs", excerpt, "--dir", operators.bi)
    assert code == "registry_root_unknown"


def test_what_nobody_can_guess_is_asked_of_a_person_and_never_of_a_program(
    operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = operators.folder / f"{NAME}.json"
    words = ("agreement", "draft", NAME, "--with", "tn", "--out", file, "--dir", operators.bi)
    run(*words, code=2)
    assert not file.exists()
    answers = iter(["Accord inventé", "bi/ccsprtp tn/inlctp", "retour"])
    monkeypatch.setattr(agreement_command, "line", lambda _question: next(answers))
    terms = told(*words)["terms"]
    assert (terms["legal_ref"], terms["purposes"]) == ("Accord inventé", ["retour"])
    assert terms["focal_points"] == ["bi/ccsprtp", "tn/inlctp"]
    assert terms["flows"] == ["bilateral", "receipt"]


BOUND = ("--between", "bi/iom", "--between", "bi/k7t4")


def protocol_drafted(registry: Path, file: Path) -> Path:
    told("agreement", "draft", file.stem, *BOUND, *LEGAL, "--out", file, "--dir", registry)
    return file


def signed_by(file: Path, domain: Domain, *agencies: str) -> Path:
    """With these agencies' signatures in it."""
    protocol = agreement_from_json(json.loads(file.read_text(encoding="utf-8")), file.stem, "bi")
    for agency in agencies:
        word = sign_protocol(protocol, agency, int(time.time()), domain.members[agency].sig, training=False)
        protocol = replace(protocol, signatures=(*protocol.signatures, word))
    file.write_text(json.dumps(agreement_to_json(protocol)), encoding="utf-8")
    return file


def test_a_protocol_inside_a_country_is_published_with_both_agencies_signatures(
    operators: Operators, tmp_path: Path
) -> None:
    file = protocol_drafted(operators.bi, tmp_path / "foyer-oim.json")
    read = told("agreement", "read", file, "--dir", operators.bi)
    assert (read["missing_roots"], read["text"]["fr"][0]) == ([], "Protocole foyer-oim (bi/iom, bi/k7t4)")
    enter = ("agree", "foyer-oim", "--file", file, "--dir", operators.bi)
    assert refused(*enter) == ("protocol_unsigned", "agreement.bi/iom")
    signed_by(file, operators.burundi, "bi/iom")
    assert refused(*enter) == ("protocol_unsigned", "agreement.bi/k7t4")
    assert told("agreement", "read", file, "--dir", operators.bi)["protocol"]["lacking"] == ["bi/k7t4"]
    signed_by(file, operators.burundi, "bi/k7t4")
    told(*enter)
    found = held(operators.bi).trusted.agreements["foyer-oim"]
    assert (found.crosses, found.agencies, len(found.signatures)) == (False, ("bi/iom", "bi/k7t4"), 2)
    assert held(operators.bi).registry.protocols["foyer-oim"].counts
    shown = run("agreement", "read", "foyer-oim", "--dir", operators.bi).stdout
    assert "Maison-Inventée" not in shown, "a protected place is called by its handle"
    assert "OIM (inventée)" in shown
    assert told("show", "--dir", operators.bi)["protocols"]["foyer-oim"]["counts"] is True


def test_a_protocol_with_a_signature_for_another_text_or_of_a_revoked_key_is_not_published(
    operators: Operators, tmp_path: Path
) -> None:
    file = signed_by(
        protocol_drafted(operators.bi, tmp_path / "foyer-oim.json"), operators.burundi, "bi/iom", "bi/k7t4"
    )
    raw = json.loads(file.read_text(encoding="utf-8"))
    enter = ("agree", "foyer-oim", "--file", file, "--dir", operators.bi)
    file.write_text(json.dumps({**raw, "retention_days": 36_500}), encoding="utf-8")
    assert refused(*enter)[0] == "protocol_changed"
    file.write_text(json.dumps(raw), encoding="utf-8")
    assert refused("agree", "foyer-police", "--file", file, "--dir", operators.bi)[0] == "protocol_changed"
    told("revoke", "bi/k7t4", "--kid", operators.burundi.members["bi/k7t4"].sig.kid, "--dir", operators.bi)
    assert refused(*enter)[0] == "key_revoked"
    assert held(operators.bi).registry.protocols == {}


def test_what_one_agency_has_ended_does_not_come_back(operators: Operators, tmp_path: Path) -> None:
    file = signed_by(
        protocol_drafted(operators.bi, tmp_path / "foyer-oim.json"), operators.burundi, "bi/iom", "bi/k7t4"
    )
    enter = ("agree", "foyer-oim", "--file", file, "--dir", operators.bi)
    told(*enter)
    whole = file.read_text(encoding="utf-8")
    protocol = agreement_from_json(json.loads(whole), "foyer-oim", "bi")
    key = operators.burundi.members["bi/k7t4"].sig
    end = sign_protocol(protocol, "bi/k7t4", int(time.time()), key, training=False, ending=True)
    file.write_text(json.dumps({**json.loads(whole), "endings": [end]}), encoding="utf-8")
    told(*enter)
    found = held(operators.bi).registry.protocols["foyer-oim"]
    assert (found.counts, found.ended_by) == (False, ("bi/k7t4",))
    file.write_text(whole, encoding="utf-8")
    assert refused(*enter) == ("protocol_ended", "agreement.bi/k7t4")
    assert "bi/k7t4" in run("show", "--dir", operators.bi).stdout


def test_a_second_holder_reads_the_whole_agreement_before_signing(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    init_registry(one, "bi", False, targets_threshold=2)
    domain = Domain("protocole", int(time.time()))
    members = domain.registry.agencies
    add_agencies(one, [members["bi/iom"], members["bi/k7t4"]])
    # Two of the keys go to the other holder.
    (other / "holders").mkdir(parents=True)
    for name in ("root", "registry.json"):
        (other / name).write_bytes((one / name).read_bytes())
    for key in ("b", "c"):
        (one / "holders" / f"{key}.key").rename(other / "holders" / f"{key}.key")
    file = signed_by(protocol_drafted(one, tmp_path / "foyer-oim.json"), domain, "bi/iom", "bi/k7t4")
    waits = told("agree", "foyer-oim", "--file", file, "--dir", one)
    assert (waits["published"], held(one).trusted.agreements) == (False, {})
    shown = run("show", one / "proposal.json", "--dir", other).stdout
    read = told("agreement", "read", file, "--dir", other)
    assert all(line in shown for line in read["text"]["en"][3:])
    assert "Protocol foyer-oim (bi/iom, bi/k7t4): signed by all" in " ".join(shown.split())
    sign_proposal(other, (one / "proposal.json").read_bytes())
    assert held(other).trusted.agreements.keys() == {"foyer-oim"}


# -- the text itself --------------------------------------------------------------------------------------------------


@cache
def terms() -> dict[str, Any]:
    return agreement_to_json(Countries().terms("bi"))


def agreement(**changes: Any) -> Agreement:
    return agreement_from_json({**terms(), **changes}, NAME, "bi")


CHANGES: dict[str, Any] = {
    "agencies": ["bi/iom"],
    "flows": ["bilateral"],
    "types": ["transfer.requested"],
    "purposes": ["other"],
    "focal_points": ["bi/ccsprtp"],
    "authorisations": [],
    "retention_days": 1,
    "legal_ref": "Autre texte",
    "document_sha256": "ab" * 32,
    "since": "2026-01-01",
    "until": "2029-12-31",
    "root_fingerprints": {"bi": "A" * 43, "tn": "B" * 42 + "A"},
}


@pytest.mark.parametrize("member", CHANGES)
def test_no_member_can_change_unheard(member: str) -> None:
    before, after = agreement(), agreement(**{member: CHANGES[member]})
    for language in ("fr", "en"):
        assert read_aloud(before, language) != read_aloud(after, language)
        assert control_words(before, language) != control_words(after, language)
    assert all(one.path.partition("[")[0].partition(".")[0] == member for one in differences(before, after))
    assert differences(before, after)
    assert differences(before, agreement()) == []
    assert terms_of(before) == terms_of(agreement())


def test_both_languages_have_the_same_articles_and_every_flow_is_said() -> None:
    fr, en = (read_aloud(agreement(), language) for language in ("fr", "en"))
    assert [line.partition(".")[0] for line in fr if line[0].isdigit()] == [str(n) for n in range(1, 10)]
    assert [line[:3] for line in fr[1:-1]] == [line[:3] for line in en[1:-1]]
    assert FLOWS.keys() == set(KNOWN_FLOWS)


def test_the_same_in_another_order_is_told_as_that() -> None:
    [one] = differences(agreement(), agreement(flows=["receipt", "bilateral"]))
    assert (one.path, one.here, one.there) == ("flows.*", "bilateral, receipt", "receipt, bilateral")
