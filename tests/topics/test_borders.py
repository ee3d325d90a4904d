# SPDX-License-Identifier: Apache-2.0
"""What passes a border is what both countries have signed, on the day, and nothing beyond it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import RegistryError
from schemas.ledgers import AnnouncedLedger
from schemas.notes import NoteSigner, SignatureType
from schemas.registry import Registry, registry_from_json, registry_to_json
from schemas.registry_bundle import pack, unpack
from schemas.registry_trust import TrustedRegistry, excerpt_of, trusted
from tests.borders import NAME, TODAY, Countries, day
from tests.domain import NOW, seeded
from tests.trees import log_signers
from topics.borders import Crossing, border, bordered, excerpt_for, may_cross
from topics.catalogue import outgoing_of, topics_of
from topics.home_check import POLICY
from topics.neighbours import Neighbours

REQUEST = Crossing("tn/inlctp", "bi/ccsprtp", "bilateral", "request", NAME)
ANSWER = Crossing("bi/ccsprtp", "tn/inlctp", "bilateral", "answer", NAME)


def burundi(countries: Countries) -> Registry:
    ours, theirs = countries.published(countries.bi), countries.published(countries.tn)
    return bordered(ours.registry, [border(ours, theirs)])


def rule(crossing: Crossing, countries: Countries, at: date = TODAY) -> str:
    """ "" when it may; else the rule that does not cover it."""
    verdict = may_cross(crossing, burundi(countries), at)
    assert verdict.code == ("" if verdict.ok else "agreement_missing")
    return "" if verdict.ok else verdict.rule.removeprefix(f"agreement.{NAME}.")


@pytest.fixture(scope="module")
def countries() -> Countries:
    return Countries()


def test_what_both_have_signed_passes_in_both_directions(countries: Countries) -> None:
    assert rule(REQUEST, countries) == rule(ANSWER, countries) == ""
    assert rule(replace(REQUEST, type="transfer.requested"), countries) == ""


@pytest.mark.parametrize(
    ("crossing", "told"),
    [
        (replace(REQUEST, agreement=None), "agreement"),
        (replace(REQUEST, agreement="another"), "agreement.*"),
        (replace(REQUEST, flow="referral"), "flows"),
        (replace(REQUEST, kind="update"), "types"),
        (replace(REQUEST, type="return.departed"), "types"),
        (replace(REQUEST, iss="tn/iom"), "focal_points"),
        (replace(REQUEST, to="bi/iom"), "focal_points"),
        (replace(REQUEST, iss="ke/ccsprtp"), "agreement.*"),
        (replace(REQUEST, to="tn/iom"), "agreement.*"),
    ],
)
def test_what_is_not_named_does_not(countries: Countries, crossing: Crossing, told: str) -> None:
    if crossing.to == "tn/iom":  # two of one foreign domain: not ours to carry
        assert rule(replace(crossing, agreement=NAME), countries) == told
    assert rule(crossing, countries) == told


@pytest.mark.parametrize(
    ("at", "told"), [(day(-30), ""), (day(-31), "since"), (day(90), "authorisations"), (day(91), "until")]
)
def test_it_begins_and_ends_on_its_days(countries: Countries, at: date, told: str) -> None:
    assert rule(REQUEST, countries, at) == told
    if told == "authorisations":  # of the data-protection authority; a receipt does not rest on it
        receipt = replace(ANSWER, flow="receipt", kind="control")
        assert rule(receipt, countries, at) == ""


def test_whoever_takes_it_out_ends_it_and_is_named() -> None:
    for ending in ("bi", "tn"):
        countries = Countries()
        getattr(countries, ending).agreements = {}
        assert rule(REQUEST, countries) == rule(ANSWER, countries) == ending
        assert outgoing_of(burundi(countries)) == ()


@pytest.mark.parametrize("changes", [{"retention_days": 30}, {"flows": ["bilateral"]}, {"legal_ref": "Autre texte"}])
def test_terms_that_differ_are_no_agreement(changes: dict[str, Any]) -> None:
    countries = Countries()
    countries.tn.agreements = {NAME: countries.terms("tn", **changes)}
    assert rule(REQUEST, countries) == "tn"


def test_an_agreement_with_another_root_is_none() -> None:
    """A second Tunisia with keys of its own has signed the very same terms."""
    countries, other = Countries(), Countries()
    other.tn = replace(other.tn, seed="impostor")
    other.tn.agreements = {NAME: countries.terms("tn")}
    countries.tn = other.tn
    assert rule(REQUEST, countries) == "tn"


def test_training_never_meets_production() -> None:
    countries = Countries()
    countries.tn.registry = replace(countries.tn.registry, training=True)
    countries.agree()
    assert rule(REQUEST, countries) == "agreement.*"


def test_burundi_hosts_what_its_focal_point_sends_and_nothing_else(countries: Countries) -> None:
    registry = burundi(countries)
    assert outgoing_of(registry) == ("tn.bilateral.inlctp", "tn.receipt.inlctp")
    assert {name for name in topics_of(registry) if name.startswith("tn.")} == {
        "tn.bilateral.inlctp",
        "tn.receipt.inlctp",
        "tn.grants.inlctp",
    }


def test_the_bordered_registry_reaches_checkers_as_it_is(countries: Countries) -> None:
    registry = burundi(countries)
    read = registry_from_json(registry_to_json(registry))
    assert topics_of(read) == topics_of(registry)
    assert may_cross(REQUEST, read, TODAY) == may_cross(REQUEST, registry, TODAY)
    assert read.seal_keys("tn/inlctp", NOW) == registry.seal_keys("tn/inlctp", NOW)


def test_whom_no_agreement_names_is_neither_named_nor_let_in(countries: Countries) -> None:
    registry = burundi(countries)
    for stranger in ("tn/m2p9", "tn/iom"):
        with pytest.raises(RegistryError, match="agency_unknown"):
            registry.party(stranger)
    with pytest.raises(RegistryError, match="agency_unknown"):
        registry.agency("tn/inlctp")  # reached, and no member


def test_the_excerpt_for_the_other_country_names_no_shelter(countries: Countries) -> None:
    theirs = countries.published(countries.tn)
    excerpt = excerpt_for(theirs, "bi")
    for name in ("Refuge-Inventé", "OIM Tunisie"):
        assert name.encode() in theirs.data
        assert name.encode() not in excerpt
    read = trusted(excerpt, countries.tn.pin, excerpt=True)
    assert sorted(read.registry.agencies) == ["tn/inlctp", "tn/operator"]
    assert read.digest == theirs.digest
    with pytest.raises(RegistryError, match="registry_invalid"):
        trusted(excerpt, countries.tn.pin)  # not the whole: no member is given this one


def test_neighbours_hold_the_newest_and_every_version_before(tmp_path: Path) -> None:
    countries = Countries()
    here = countries.neighbours_of_burundi(tmp_path / "neighbours")
    clock = [float(NOW)]
    neighbours = Neighbours(here, lambda: countries.published(countries.bi), lambda: clock[0])
    first = neighbours.theirs("tn")
    countries.tn.revoke("tn/inlctp", countries.tn.members["tn/inlctp"].sig.kid)
    newer = excerpt_for(countries.published(countries.tn), "bi")
    taken = neighbours.take_registry("tn", newer)
    assert taken.registry.version == first.registry.version + 1
    again = Neighbours(here, lambda: countries.published(countries.bi), lambda: clock[0])
    assert again.theirs("tn").registry == taken.registry
    for held in (neighbours, again):
        assert held.trust("tn").version(taken.registry.version) == taken.registry
        assert held.trust("tn").version(99) is None
        # An older one is kept for what was logged under it; the newest stays the newest.
        assert held.take_registry("tn", first.data).registry == taken.registry
        assert held.trust("tn").version(first.registry.version) == first.registry
    with pytest.raises(RegistryError, match="registry_root_unknown"):
        neighbours.take_registry("tn", excerpt_for(countries.published(countries.bi), "tn"))
    with pytest.raises(RegistryError, match="agency_unknown"):
        neighbours.take_registry("ke", newer)


def test_an_excerpt_without_anybody_in_it_keeps_nobody_out(tmp_path: Path) -> None:
    """A bridge that was taken over brings it first, as the newest and as an older one; the true ones come later."""
    countries = Countries()
    here = countries.neighbours_of_burundi(tmp_path / "neighbours")
    clock = [float(NOW)]
    both = [Neighbours(here, lambda: countries.published(countries.bi), lambda: clock[0]) for _ in range(2)]
    true: list[tuple[bytes, TrustedRegistry]] = []
    for _ in range(2):
        countries.tn.registry = countries.tn.registry.renewed(NOW)
        whole = countries.published(countries.tn)
        true.append((excerpt_for(whole, "bi"), whole))
    for _, whole in reversed(true):
        assert not both[0].take_registry("tn", excerpt_of(whole, [])).registry.agencies
    for data, whole in true:
        both[0].take_registry("tn", data)
        clock[0] += 2
        for one in both:
            found = one.trust("tn").version(whole.registry.version)
            assert found is not None
            assert "tn/inlctp" in found.agencies
    both[0].take_registry("tn", excerpt_of(true[1][1], []))
    assert "tn/inlctp" in both[0].theirs("tn").registry.agencies
    assert both[1].registry.borders["tn"].agreements


def test_what_is_handed_on_is_what_was_brought(tmp_path: Path) -> None:
    countries = Countries()
    here = countries.neighbours_of_burundi(tmp_path / "gateway")
    ours = countries.published(countries.bi)
    gateway = Neighbours(here, lambda: ours, lambda: float(NOW))
    desk = Neighbours(countries.neighbours_of_burundi(tmp_path / "desk"), lambda: ours, lambda: float(NOW))
    first = countries.tn.registry.version
    for _ in range(2):
        countries.tn.registry = countries.tn.registry.renewed(NOW)
        gateway.take_registry("tn", excerpt_for(countries.published(countries.tn), "bi"))
    newest = gateway.file("tn", "")
    assert newest is not None
    desk.take_registry("tn", newest)
    assert desk.trust("tn").version(first + 1) is None
    assert desk.wanted == {("tn", first + 1)}
    between = gateway.file("tn", str(first + 1))
    assert between is not None
    desk.take_registry("tn", between)
    found = desk.trust("tn").version(first + 1)
    assert found is not None
    assert (found.version, desk.wanted) == (first + 1, set())
    assert desk.theirs("tn").registry.version == first + 2
    assert gateway.file("tn", "99") is None
    assert gateway.file("tn", "../root") is None
    assert gateway.file("tn", "metadata/timestamp.json") == gateway.theirs("tn").files["metadata/timestamp.json"]


def test_a_neighbour_whose_files_are_damaged_is_none_until_they_are_mended(tmp_path: Path) -> None:
    countries = Countries()
    here = countries.neighbours_of_burundi(tmp_path / "neighbours")
    ours = countries.published(countries.bi)
    clock = [float(NOW)]
    neighbours = Neighbours(here, lambda: ours, lambda: clock[0])
    assert list(neighbours.registry.borders) == ["tn"]
    assert neighbours.registry is neighbours.registry
    whole = (here / "tn" / "registry.json").read_bytes()
    (here / "tn" / "registry.json").write_bytes(whole[:-9])
    clock[0] += 2
    assert dict(neighbours.registry.borders) == {}
    assert neighbours.problems == {"tn": "registry_invalid"}
    (here / "tn" / "registry.json").write_bytes(whole)
    clock[0] += 2
    assert list(neighbours.registry.borders) == ["tn"]


def test_a_neighbours_second_ledger_is_believed_once_its_registry_announces_it(tmp_path: Path) -> None:
    """Nobody in Burundi is told by telephone; its witnesses have still to sign."""
    countries = Countries()
    tn = countries.tn
    here = countries.neighbours_of_burundi(tmp_path / "neighbours")
    neighbours = Neighbours(here, lambda: countries.published(countries.bi), lambda: float(NOW))
    before = neighbours.trust("tn").policy
    second = NoteSigner.generate("tn.umuhuza/log2", SignatureType.ED25519, seeded("second")).public
    keys = tuple(one.public for one in log_signers("tn"))
    tn.registry = replace(
        tn.registry.renewed(NOW),
        ledgers=(AnnouncedLedger(keys[0].name, keys, NOW), AnnouncedLedger(second.name, (second,), NOW)),
    )
    neighbours.take_registry("tn", excerpt_for(countries.published(tn), "bi"))
    found = neighbours.trust("tn").policy
    assert (before.log_keys(second.name), found.log_keys(second.name)) == ((), (second,))
    assert (found.quorum, found.witnesses) == (before.quorum, before.witnesses)
    assert neighbours.warnings == {}
    wrong = NoteSigner.generate(second.name, SignatureType.ED25519, seeded("another")).public
    with (here / "tn" / POLICY).open("ab") as policy:
        policy.write(f"log {wrong.vkey}\n".encode())
    again = Neighbours(here, lambda: countries.published(countries.bi), lambda: float(NOW))
    assert again.trust("tn").policy.log_keys(second.name) == ()
    assert again.warnings == {"tn": "ledger_differs"}


def test_an_excerpt_that_leaves_out_what_became_of_a_ledger_is_refused() -> None:
    countries = Countries()
    keys = tuple(one.public for one in log_signers("tn"))
    ledgers = (AnnouncedLedger(keys[0].name, keys, NOW),)
    countries.tn.registry = replace(countries.tn.registry.renewed(NOW), ledgers=ledgers)
    whole = countries.published(countries.tn)
    excerpt = excerpt_of(whole, [])
    assert trusted(excerpt, countries.tn.pin, excerpt=True).registry.ledgers == ledgers
    files = {path: data for path, data in unpack(excerpt).items() if not path.endswith(".ledgers.json")}
    with pytest.raises(RegistryError, match="registry_invalid"):
        trusted(pack(files), countries.tn.pin, excerpt=True)
