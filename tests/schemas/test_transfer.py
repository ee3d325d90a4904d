# SPDX-License-Identifier: Apache-2.0
"""A transfer carries what decides about it as claims, and is held to a child's safeguards; statistics count nobody."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from schemas.errors import PayloadError, UmuhuzaError
from schemas.forms import Authorisation, Birth, Facts, validated
from schemas.lifecycle import step
from schemas.plain.statistics import StatisticsSubmitted
from schemas.plain.transfer import TransferRequested
from tests.schemas.samples import opened, sealable
from umuhuza.examples.cast import NOW
from umuhuza.examples.samples_transfer import DECISIONS, child, transfer


def test_the_policy_is_told_agreement_authorisations_origin_asylum_and_wish() -> None:
    claims = sealable("transfer.requested", child(authorisations=DECISIONS, asylum_wished=True)).claims
    assert claims is not None
    assert claims.agreement is not None
    assert claims.safeguards is not None
    assert claims.agreement.model_dump() == {
        "id": "demo-2026",
        "authorisations": ("data-protection-authority", "family-judge", "guardian"),
        "origin": "bi",
        "asylum_wished": True,
        "voluntary": True,
    }
    assert claims.safeguards.age == "child"


def test_her_name_is_in_the_identity_part_only() -> None:
    parts = sealable("transfer.requested", transfer())
    assert b"Keza" not in parts.content
    assert b"Keza" in parts.identity
    assert opened(parts).facts == transfer()


@pytest.mark.parametrize(
    ("member", "value"), [("voluntary", False), ("asylum_wished", True), ("origin", "tn"), ("authorisations", [])]
)
def test_claims_that_say_something_else_than_the_form_are_refused(member: str, value: Any) -> None:
    parts = sealable("transfer.requested", child(authorisations=DECISIONS))
    content = json.loads(parts.content)
    content["claims"]["agreement"][member] = value
    with pytest.raises(PayloadError) as caught:
        opened(type(parts)(json.dumps(content).encode(), parts.identity))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", "content.claims.agreement")


def refusal(facts: Facts) -> tuple[str, str | None]:
    with pytest.raises(UmuhuzaError) as caught:
        sealable("transfer.requested", facts)
    return caught.value.code, caught.value.path


def test_an_authorisation_that_has_run_out_is_none() -> None:
    old = Authorisation(
        authority="guardian", reference="1", decided_at=NOW - timedelta(days=9), expires_at=NOW - timedelta(seconds=1)
    )
    assert refusal(transfer(authorisations=(old,))) == ("agreement_missing", "said.authorisations[0].expires_at")


def test_a_child_without_guardian_is_not_transferred() -> None:
    assert refusal(transfer(birth=Birth(precision="age", age_years=12))) == (
        "safeguard_missing",
        "said.referral.caregiver",
    )


def test_consent_to_a_referral_is_no_consent_to_a_return() -> None:
    facts = transfer()
    assert facts.lawful is not None
    assert facts.lawful.consent is not None
    consent = facts.lawful.consent.model_copy(update={"scope": ("referral",)})
    lawful = facts.lawful.model_copy(update={"consent": consent})
    assert refusal(facts.model_copy(update={"lawful": lawful})) == ("consent_missing", "lawful.consent.scope")


def test_what_she_did_not_want_shared_is_not_shared() -> None:
    facts = transfer()
    assert isinstance(facts.said, TransferRequested)
    refused = facts.said.referral.model_copy(update={"told_and_refused": ("reason",)})
    said = facts.said.model_copy(update={"referral": refused})
    assert refusal(facts.model_copy(update={"said": said})) == ("consent_missing", "said.referral.reason")


def test_who_is_on_her_way_is_received_although_the_transfer_was_declined_meanwhile() -> None:
    assert step("transfer", "declined", "return.departed", "initiator").state == "departed"
    assert step("transfer", "departed", "transfer.declined", "recipient").state == "departed"
    assert step("transfer", "departed", "return.received", "recipient").state == "received"


# -- statistics ------------------------------------------------------------------------------------------------------


def table(**changes: Any) -> dict[str, Any]:
    count = {"field": "prs_Gender", "code": "Feminine", "count": 3}
    return {
        "period": "2026-H2",
        "place": "BI-BM",
        "counted": "persons-identified",
        "persons": 5,
        "counts": [count],
        **changes,
    }


def counted(**changes: Any) -> list[dict[str, Any]]:
    return [{"field": "prs_Gender", "code": "Feminine", "count": 3, **changes}]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"counts": counted(code="Ndayishimiye")}, "counts[0].code"),
        ({"counts": counted(field="Ndayishimiye")}, "counts[0].field"),
        ({"counts": counted(field="prs_FirstName")}, "counts[0].field"),
        ({"counts": counted(count=-1)}, "counts[0].count"),
        ({"counts": counted(name="Ndayishimiye")}, "counts[0].*"),
        ({"counts": counted(count=6)}, None),
        ({"counts": counted() * 2}, None),
        ({"place": "BI-Muyinga"}, "place"),
        ({"place": "Ndayishimiye"}, "place"),
        ({"period": "2026"}, "period"),
        ({"period": "2026-H3"}, "period"),
        ({"counted": "victims"}, "counted"),
    ],
)
def test_only_htcds_codes_are_counted_by_half_years_and_provinces(changes: dict[str, Any], path: str | None) -> None:
    assert validated(StatisticsSubmitted, table()).persons == 5
    with pytest.raises(PayloadError) as caught:
        validated(StatisticsSubmitted, table(**changes))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", path)
    assert "dayishimiye" not in str(caught.value)
