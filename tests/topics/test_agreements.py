# SPDX-License-Identifier: Apache-2.0
"""Persons are transferred only under an agreement in force, with whose authorisation is asked for, and never back into
the State from which they seek asylum."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.agreements import Agreement, agreement_from_json
from schemas.data_files import read_together
from schemas.registry import Agency, Registry, Role, SignedProtocol, empty_registry
from tests.borders import Countries
from tests.domain import NOW
from tests.topics.claimed import Agreed, Claimed, Consent, Held, Safeguards
from tests.vectors.protocol_cases import TERMS as PROTOCOL
from topics.borders import border, bordered
from topics.catalogue import Act, Verdict, agreement_fits, child_authorised, may
from topics.policy_file import policy, read_policy

AT = datetime.fromtimestamp(NOW, UTC)
POLICY = read_together("topics", "policy")
MEMBERS: dict[str, Role] = {"commission": "focal-point", "iom": "facilitator", "shelter": "shelter"}
YES = Verdict(True, "", "event.transfer.requested")


ADULT = Safeguards()


def claimed(
    owner: str, agreed: Agreed | None, safeguards: Safeguards | None = ADULT, held: tuple[Held, ...] = ()
) -> Claimed:
    return Claimed(owner, "consent", Consent(AT + timedelta(days=1)), safeguards, agreed, held)


def registry(domain: str) -> Registry:
    made = empty_registry(domain, NOW)
    for name, role in MEMBERS.items():
        made = made.with_agency(Agency(f"{domain}/{name}", {"fr": name}, (role,), ()), NOW)
    return made


def asked(agreed: Agreed | None, *, age: str = "adult", domain: str = "bi", to: str = "iom") -> Verdict:
    """A transfer between two bodies of one domain."""
    claims = claimed(f"{domain}/{to}", agreed, Safeguards(age))
    act = Act("send", f"{domain}/commission", f"{domain}.bilateral.{to}", "request", "transfer.requested", claims, AT)
    return may(act, registry(domain))


def across(agreed: Agreed, *, age: str = "adult", sender: str = "tn/inlctp", owner: str = "bi/ccsprtp") -> Verdict:
    """A transfer over the border."""
    act = Act("send", sender, "", None, "transfer.requested", claimed(owner, agreed, Safeguards(age)), AT)
    return agreement_fits(act, "bilateral", sender, owner, YES)


def test_a_transfer_under_the_agreement_is_allowed() -> None:
    assert asked(Agreed(origin="rw")) == YES


@pytest.mark.parametrize(
    ("agreed", "rule"),
    [
        (None, "event.transfer.requested.agreement"),
        (Agreed(id="Ndayishimiye"), "agreement.*"),
    ],
)
def test_without_an_agreement_there_is_no_transfer(agreed: Agreed | None, rule: str) -> None:
    assert asked(agreed) == Verdict(False, "agreement_missing", rule)


def test_an_agreement_binds_only_its_own_domains() -> None:
    assert asked(Agreed(), domain="rw") == Verdict(False, "agreement_missing", "agreement.demo-2026.domains")


@pytest.mark.parametrize(("days", "ok"), [(-1, False), (0, True), (1095, True), (1096, False)])
def test_an_agreement_counts_from_its_first_day_until_its_last(days: int, ok: bool) -> None:
    signed = policy().agreements["demo-2026"]
    at = datetime(signed.since.year, signed.since.month, signed.since.day, tzinfo=UTC) + timedelta(days=days)
    act = Act("send", "bi/a", "", None, "transfer.requested", claimed("bi/b", Agreed(origin="rw")), at)
    verdict = agreement_fits(act, "bilateral", "bi/a", "bi/b", YES)
    assert verdict == (YES if ok else Verdict(False, "agreement_missing", "agreement.demo-2026.until"))


def test_nobody_is_returned_against_her_wish() -> None:
    assert asked(Agreed(voluntary=False)) == Verdict(False, "not_permitted", "agreement.voluntary")


def test_nobody_who_wants_asylum_is_sent_to_her_state_of_origin_whatever_is_signed() -> None:
    everything = ("data-protection-authority", "family-judge", "guardian")
    wished = Agreed(authorisations=everything, asylum_wished=True)
    assert across(wished) == Verdict(False, "not_permitted", "agreement.origin")
    assert across(replace(wished, origin="rw")) == YES


@pytest.mark.parametrize("age", ["child", "unknown"])
def test_a_tunisian_childs_transfer_needs_the_guardian_and_the_family_judge(age: str) -> None:
    refused = Verdict(False, "safeguard_missing", "authorisations.tn.child")
    for held in ((), ("guardian",), ("family-judge",)):
        assert asked(Agreed(authorisations=held, origin="bi"), age=age, domain="tn") == refused
    both = Agreed(authorisations=("family-judge", "guardian"))
    assert asked(both, age=age, domain="tn").ok
    assert asked(Agreed(), age="adult", domain="tn").ok


def test_a_claim_without_age_is_no_adults() -> None:
    act = Act("send", "tn/a", "", None, "transfer.requested", claimed("tn/b", Agreed(), None), AT)
    assert agreement_fits(act, "bilateral", "tn/a", "tn/b", YES).code == "safeguard_missing"


def test_what_leaves_tunisia_needs_the_data_protection_authority() -> None:
    refused = Verdict(False, "agreement_missing", "authorisations.tn.abroad")
    assert across(Agreed()) == refused
    assert across(Agreed(), sender="bi/ccsprtp", owner="tn/inlctp") == refused
    assert across(Agreed(authorisations=("data-protection-authority",))) == YES


def over_a_border(countries: Countries, name: str, at: datetime = AT) -> Verdict:
    """Tunisia's focal point asks Burundi's, under that agreement, as Tunisia's adapter sees it."""
    ours = countries.published(countries.tn)
    registry = bordered(ours.registry, [border(ours, countries.published(countries.bi))])
    claims = claimed("bi/ccsprtp", Agreed(id=name, origin="ke", authorisations=("data-protection-authority",)))
    claims = replace(claims, consent=Consent(at + timedelta(days=1)))
    act = Act("send", "tn/inlctp", "bi.bilateral.ccsprtp", "request", "transfer.requested", claims, at)
    return may(act, registry)


def test_over_a_border_only_what_both_registries_hold_is_an_agreement() -> None:
    """Whatever the policy names: there `demo-2026` is in force for years."""
    countries = Countries()
    signed = {one.name: countries.terms(one.name) for one in (countries.bi, countries.tn)}
    countries.bi.agreements, countries.tn.agreements = ({"accord-2026": signed[name]} for name in ("bi", "tn"))
    assert over_a_border(countries, "accord-2026").ok
    assert over_a_border(countries, "demo-2026") == Verdict(False, "agreement_missing", "agreement.*")
    later = AT + timedelta(days=91)
    assert over_a_border(countries, "accord-2026", later).rule == "agreement.accord-2026.until"
    countries.bi.agreements = {"accord-2026": countries.terms("bi", flows=["receipt"])}
    countries.tn.agreements = {"accord-2026": countries.terms("tn", flows=["receipt"])}
    assert over_a_border(countries, "accord-2026").rule == "agreement.accord-2026.flows"
    countries.tn.agreements = {"accord-2026": signed["tn"], "other": signed["tn"]}
    countries.bi.agreements = {"other": signed["bi"]}
    assert over_a_border(countries, "other").ok
    assert over_a_border(countries, "accord-2026").rule == "agreement.accord-2026.bi"


def test_only_focal_points_and_facilitators_have_a_say() -> None:
    assert asked(Agreed(), to="shelter").rule == "flow.bilateral.mailbox"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('child = ["guardian", "family-judge"]', 'child = ["guardian", "ndayishimiye"]'),
        ('flows = ["bilateral"]', 'flows = ["bilaterals"]'),
        ("until = 2029-01-15", 'until = "2029-01-15"'),
        ("until = 2029-01-15\n", ""),
        ("abroad = []\n", ""),
        ("[authorisations.tn]", "[authorisation.tn]"),
    ],
)
def test_a_wrong_agreement_is_refused(before: str, after: str) -> None:
    assert before in POLICY
    with pytest.raises(ValueError, match="unknown|missing"):
        read_policy(POLICY.replace(before, after, 1))


# -- a child, whichever event tells of her -----------------------------------------------------------------------------


def of_a_child(*held: str, age: str = "child", domain: str = "tn", event: str = "referral.requested") -> Verdict:
    claims = claimed(f"{domain}/b", None, Safeguards(age, "guardian"), tuple(map(Held, held)))
    act = Act("send", f"{domain}/a", "", None, event, claims, AT)
    return child_authorised(act, event.partition(".")[0], f"{domain}/a", f"{domain}/b", YES)


@pytest.mark.parametrize("age", ["child", "unknown"])
def test_a_tunisian_child_is_told_of_only_with_guardian_and_judge(age: str) -> None:
    refused = Verdict(False, "safeguard_missing", "authorisations.tn.child")
    for held in ((), ("guardian",), ("family-judge",), ("data-protection-authority", "guardian")):
        assert of_a_child(*held, age=age) == refused
    assert of_a_child("guardian", "family-judge", age=age) == YES
    assert of_a_child(age="adult") == YES
    assert of_a_child(age=age, domain="bi") == YES
    assert of_a_child(age=age, event="investigation.opened") == YES


def test_who_is_told_of_on_a_thread_that_never_said_how_old_she_is_may_be_a_child() -> None:
    claims = claimed("tn/b", None, None)
    act = Act("send", "tn/a", "", None, "information.answered", claims, AT)
    assert not child_authorised(act, "referral", "tn/a", "tn/b", YES).ok
    assert child_authorised(replace(act, concerning=Safeguards()), "referral", "tn/a", "tn/b", YES).ok


def test_between_two_domains_what_either_asks_for_is_needed() -> None:
    claims = claimed("bi/b", None, Safeguards("child", "guardian"))
    act = Act("send", "tn/a", "", None, "referral.requested", claims, AT)
    assert child_authorised(act, "referral", "tn/a", "bi/b", YES).rule == "authorisations.tn.child"
    assert child_authorised(act, "referral", "bi/a", "tn/b", YES).rule == "authorisations.tn.child"


def inside(name: str, protocols: dict[str, SignedProtocol], at: datetime = AT) -> Verdict:
    """The commission asks IOM, both of Burundi, under what is called so."""
    claims = replace(claimed("bi/iom", Agreed(id=name, origin="rw")), consent=Consent(at + timedelta(days=1)))
    act = Act("send", "bi/commission", "bi.bilateral.iom", "request", "transfer.requested", claims, at)
    return may(act, replace(registry("bi"), protocols=protocols))


def protocol(name: str = "commission-oim", **changes: Any) -> Agreement:
    told = {**PROTOCOL, "agencies": ["bi/commission", "bi/iom"], **changes}
    return agreement_from_json(told, name, "bi")


def test_inside_a_country_a_protocol_that_both_have_signed_is_an_agreement() -> None:
    signed = {"commission-oim": SignedProtocol(protocol(), (), ())}
    assert inside("commission-oim", signed) == YES
    assert inside("another", signed) == Verdict(False, "agreement_missing", "agreement.*")


@pytest.mark.parametrize(
    ("lacking", "ended_by", "member"),
    [
        (("bi/iom",), (), "signatures"),
        (("bi/commission", "bi/iom"), (), "signatures"),
        ((), ("bi/iom",), "ended"),
        (("bi/iom",), ("bi/iom",), "ended"),
    ],
)
def test_one_that_lacks_a_signature_or_was_ended_is_none(
    lacking: tuple[str, ...], ended_by: tuple[str, ...], member: str
) -> None:
    found = inside("commission-oim", {"commission-oim": SignedProtocol(protocol(), lacking, ended_by)})
    assert found == Verdict(False, "agreement_missing", f"agreement.commission-oim.{member}")


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"flows": ["receipt"]}, "flows"),
        ({"types": ["transfer.arrived"]}, "types"),
        ({"since": "2027-01-01"}, "since"),
        ({"until": "2026-03-02"}, "until"),
        ({"agencies": ["bi/commission", "bi/shelter"]}, "focal_points"),
    ],
)
def test_a_signed_protocol_opens_what_it_names_and_no_more(changes: dict[str, Any], member: str) -> None:
    found = inside("commission-oim", {"commission-oim": SignedProtocol(protocol(**changes), (), ())})
    assert found == Verdict(False, "agreement_missing", f"agreement.commission-oim.{member}")


def test_a_registry_with_unsigned_protocols_loses_nothing_that_the_policy_allows() -> None:
    unsigned = {"demo-2026": SignedProtocol(protocol("demo-2026"), ("bi/iom",), ())}
    assert inside("demo-2026", unsigned) == inside("demo-2026", {}) == YES
    ended = {"demo-2026": SignedProtocol(protocol("demo-2026"), (), ("bi/iom",))}
    assert inside("demo-2026", ended).rule == "agreement.demo-2026.ended"
