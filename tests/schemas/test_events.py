# SPDX-License-Identifier: Apache-2.0
"""What a caseworker says arrives as she said it, minus what this reader may not have; what may not go, does not go."""

from __future__ import annotations

import base64
import hashlib
import json
import traceback
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import htcds
from schemas.errors import PayloadError, PolicyError, UmuhuzaError
from schemas.event_types import EVENTS
from schemas.events import MAX_PART_BYTES, Sealable, compose, decompose
from schemas.forms import (
    Answer,
    Birth,
    Caregiver,
    Consent,
    Facts,
    Interpreter,
    Lawful,
    Name,
    Referral,
    Risk,
    SafeContact,
    validated,
)
from schemas.minimise import field_paths, minimise
from tests.schemas.samples import (
    CONSENT,
    DUTY,
    EVT,
    GUARDIAN,
    MANIFEST,
    NOW,
    PSEUDONYM,
    SALT,
    SAMPLES,
    VITAL,
    child,
    identified,
    opened,
    referral,
    requested,
    sealable,
)

EACH = [(event, facts) for event, each in SAMPLES.items() for facts in each]


def refused(type: str, facts: Facts, **more: Any) -> tuple[str, str | None]:
    with pytest.raises(UmuhuzaError) as caught:
        sealable(type, facts, **more)
    return caught.value.code, caught.value.path


def reopened(parts: Sealable, **changes: Any) -> tuple[str, str | None]:
    """How the receiver refuses content in which members of the top level were changed."""
    content = json.loads(parts.content) | changes
    with pytest.raises(UmuhuzaError) as caught:
        decompose(json.dumps(content).encode(), parts.identity, **MANIFEST)
    return caught.value.code, caught.value.path


# ---- there and back ----


def test_every_event_type_has_a_sample() -> None:
    assert set(SAMPLES) == set(EVENTS)


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_what_is_said_arrives(event: str, facts: Facts) -> None:
    read = opened(sealable(event, facts))
    assert read.facts == facts
    assert (read.type, read.schema, read.withheld) == (event, EVENTS[event].schema, ())
    assert (read.occurred_at, read.recorded_at) == (facts.occurred_at, NOW)
    assert (read.claims is not None) == (facts.lawful is not None)


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_padding_changes_nothing_and_the_same_event_gives_the_same_bytes(event: str, facts: Facts) -> None:
    parts = sealable(event, facts)
    assert parts == sealable(event, facts)
    padded = Sealable(parts.content.ljust(65536), parts.identity.ljust(4096))
    assert opened(padded).facts == facts


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_content_has_exactly_the_members_of_the_wire_format(event: str, facts: Facts) -> None:
    content = json.loads(sealable(event, facts).content)
    assert list(content) == ["type", "schema", "occurred_at", "recorded_at", "claims", "payload", "withheld"]


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_nobody_is_named_outside_the_identity_part_and_answers_have_none(event: str, facts: Facts) -> None:
    parts = sealable(event, facts)
    text = parts.content.decode()
    for planted in ("Keza", "Uwimana", "فاطمة", "Nininahazwe", "tante", "oncle", "25779", "Ndayisenga", "1999", "peur"):
        assert planted not in text
    assert EVENTS[event].identity or parts.identity == b""


def test_an_answer_that_brings_an_identity_part_is_refused() -> None:
    parts = sealable("referral.accepted", Facts(occurred_at=NOW))
    request = sealable("referral.requested", requested())
    with pytest.raises(PayloadError) as caught:
        opened(Sealable(parts.content, request.identity))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", "identity")


def test_one_word_and_arabic_names_are_complete() -> None:
    for name in (Name(as_given="Keza"), Name(as_given="كلثوم بنت علي", script="Arab"), Name(as_given="N’Diaye")):
        facts = requested(referral=referral(name=name))
        assert opened(sealable("referral.requested", facts)).facts == facts


def test_a_middle_name_without_a_first_name_survives() -> None:
    for name in (Name(as_given="A B", middle="B"), Name(as_given="A B", first="A", middle="B", last="C")):
        facts = requested(referral=referral(name=name))
        assert opened(sealable("referral.requested", facts)).facts == facts


def test_times_arrive_as_the_same_instant_whatever_their_zone() -> None:
    for zone in (
        timezone(timedelta(hours=2)),
        timezone(timedelta(hours=-3, minutes=-30)),
        timezone(timedelta(0, 1172)),
    ):
        facts = Facts(occurred_at=datetime(2026, 11, 3, 10, 0, 0, 123456, zone))
        assert opened(sealable("referral.started", facts)).facts == facts


def test_the_pseudonym_is_the_pairs() -> None:
    assert opened(sealable("referral.requested", requested())).pseudonym == PSEUDONYM
    assert opened(sealable("receipt.delivered", SAMPLES["receipt.delivered"][0])).pseudonym is None


def test_an_answer_refers_to_what_it_answers() -> None:
    read = opened(sealable("referral.received", Facts(occurred_at=NOW), ref=EVT))
    assert read.bundle["entry"][0]["resource"]["response"] == {"identifier": EVT, "code": "ok"}


# ---- minimisation ----


def test_without_a_list_everything_the_event_has_a_place_for_travels() -> None:
    facts = requested(htcds={"prs_Gender": "Feminine", "per_RoleDetails": "x", "hte_City": "x", "org_Name": "x"})
    read = opened(sealable("referral.requested", facts))
    assert read.facts.htcds == {"prs_Gender": "Feminine"}
    assert read.withheld == ("htcds.hte_City", "htcds.org_Name", "htcds.per_RoleDetails")


def test_only_what_is_on_the_readers_list_travels_and_the_rest_is_named() -> None:
    allowed = frozenset({"htcds.prs_Gender", "referral.languages", "referral.safe_contact.channel", "referral.name"})
    read = opened(sealable("referral.requested", requested(), allowed=allowed))
    assert read.facts.htcds == {"prs_Gender": "Feminine"}
    form = read.facts.referral
    assert form is not None
    assert form.safe_contact == SafeContact(channel="sms")
    assert form.risk == Risk(level="unknown")
    assert form.interpreter == Interpreter(needed=False)
    assert (form.reason, form.dependants, form.languages) == (None, (), ("rn", "fr"))
    assert "referral.safe_contact.address" in read.withheld
    assert "referral.risk.from_whom" in read.withheld
    assert "htcds.prs_Citizenship" in read.withheld
    assert not set(read.withheld) & set(field_paths(read.facts))
    assert set(read.withheld) | set(field_paths(read.facts)) == set(field_paths(requested()))


def test_a_list_may_name_what_is_above() -> None:
    whole = minimise("referral.requested", requested(), frozenset({"referral", "htcds"}))
    assert whole == (requested(), ())
    risk, _ = minimise("referral.requested", requested(), frozenset({"referral.risk"}))
    assert risk.referral is not None
    assert risk.referral.risk == referral().risk


def test_what_makes_it_an_event_and_lawful_always_travels() -> None:
    read = opened(sealable("referral.requested", child(GUARDIAN), allowed=frozenset()))
    assert read.facts.lawful == CONSENT
    form = read.facts.referral
    assert form is not None
    assert form.caregiver == Caregiver(status="guardian")
    assert form.birth == Birth(precision="month", date="2012-02")
    assert form.name == Name(as_given="Keza Uwimana")
    assert read.claims is not None
    assert read.claims.safeguards is not None
    assert read.claims.safeguards.best_interest


def test_a_ministry_that_is_only_told_still_learns_that_it_is_about_an_adult() -> None:
    read = opened(sealable("case.screened", identified(lawful=CONSENT), allowed=frozenset({"htcds.cas_Status"})))
    assert read.facts.htcds == {"cas_Status": "Active"}
    assert read.claims is not None
    assert read.claims.safeguards is not None
    assert read.claims.safeguards.age == "adult"


def test_what_she_refused_to_share_does_not_travel() -> None:
    facts = requested(referral=referral(told_and_refused=("prs_Citizenship", "referral.risk", "reason")))
    read = opened(sealable("referral.requested", facts))
    assert "prs_Citizenship" not in read.facts.htcds
    assert read.facts.referral is not None
    assert (read.facts.referral.reason, read.facts.referral.risk) == (None, Risk(level="unknown"))
    assert "htcds.prs_Citizenship" in read.withheld


def test_with_consent_a_refused_field_that_must_travel_stops_the_event() -> None:
    facts = requested(referral=referral(told_and_refused=("name",)))
    assert refused("referral.requested", facts) == ("consent_missing", "referral.name.as_given")
    sealable("referral.requested", facts.model_copy(update={"lawful": VITAL}))


# ---- children and people who may be children ----


def test_a_child_with_a_guardian_and_a_best_interest_note_is_referred() -> None:
    read = opened(sealable("referral.requested", child(GUARDIAN)))
    assert read.claims is not None
    assert read.claims.safeguards is not None
    assert (read.claims.safeguards.age, read.claims.safeguards.guardian) == ("child", "guardian")


@pytest.mark.parametrize(
    ("caregiver", "lawful", "path"),
    [
        (None, CONSENT, "referral.caregiver"),
        (None, VITAL, "referral.caregiver"),
        (Caregiver(status="guardian"), CONSENT, "referral.caregiver.best_interest_note"),
        (Caregiver(status="representative"), VITAL, "referral.caregiver.best_interest_note"),
        (Caregiver(status="pending"), CONSENT, "referral.caregiver.status"),
        (Caregiver(status="pending"), DUTY, "referral.caregiver.status"),
        (Caregiver(status="suspected"), VITAL, "referral.caregiver.best_interest_note"),
        (Caregiver(status="suspected", best_interest_note="x"), CONSENT, "referral.caregiver.status"),
        (
            Caregiver(status="suspected", best_interest_note="x", informed=True),
            VITAL,
            "referral.caregiver.informed",
        ),
    ],
)
def test_a_child_without_her_safeguards_is_refused(caregiver: Caregiver | None, lawful: Lawful, path: str) -> None:
    assert refused("referral.requested", child(caregiver, lawful)) == ("safeguard_missing", path)


def test_an_unaccompanied_child_at_night_goes_under_vital_interests() -> None:
    assert opened(sealable("referral.requested", child(Caregiver(status="pending"), VITAL))).facts.referral is not None


def test_a_suspected_guardian_who_is_not_told_is_no_obstacle() -> None:
    sealable("referral.requested", child(Caregiver(status="suspected", best_interest_note="x"), VITAL))


@pytest.mark.parametrize(
    ("birth", "age"),
    [
        (Birth(precision="day", date="2008-11-03"), "adult"),
        (Birth(precision="day", date="2008-11-04"), "child"),
        (Birth(precision="month", date="2008-10"), "adult"),
        (Birth(precision="month", date="2008-11"), "unknown"),
        (Birth(precision="month", date="2008-12"), "child"),
        (Birth(precision="year", date="2007"), "adult"),
        (Birth(precision="year", date="2008"), "unknown"),
        (Birth(precision="year", date="2009"), "child"),
        (Birth(precision="age", age_years=18), "adult"),
        (Birth(precision="age", age_years=17), "child"),
        (Birth(precision="unknown"), "unknown"),
        (Birth(precision="day", date="1970-01-01", basis="disputed"), "unknown"),
        (Birth(precision="day", date="2008-02-29"), "adult"),
    ],
)
def test_who_may_be_under_eighteen_is_treated_as_a_child(birth: Birth, age: str) -> None:
    facts = requested(referral=referral(birth=birth, caregiver=GUARDIAN))
    claims = opened(sealable("referral.requested", facts)).claims
    assert claims is not None
    assert claims.safeguards is not None
    assert claims.safeguards.age == age
    alone = requested(referral=referral(birth=birth))
    if age == "adult":
        sealable("referral.requested", alone)
    else:
        assert refused("referral.requested", alone) == ("safeguard_missing", "referral.caregiver")


def test_a_case_asks_the_same_by_its_own_birth_or_the_standards() -> None:
    assert refused("case.identified", identified(htcds={})) == ("safeguard_missing", "caregiver")
    born = {"prs_Birthdate": "2015-01-01"}
    assert refused("case.screened", identified(htcds=born)) == ("safeguard_missing", "caregiver")
    sealable("case.identified", identified(htcds={}, birth=Birth(precision="age", age_years=40)))
    disputed = Birth(precision="age", age_years=40, basis="disputed")
    assert refused("case.identified", identified(birth=disputed)) == ("safeguard_missing", "caregiver")


def test_a_claim_of_another_age_than_the_message_says_is_refused() -> None:
    parts = sealable("referral.requested", child(GUARDIAN))
    claims = json.loads(parts.content)["claims"]
    claims["safeguards"]["age"] = "adult"
    assert reopened(parts, claims=claims) == ("payload_invalid", "content.claims.safeguards.age")


@pytest.mark.parametrize(("member", "value"), [("guardian", "pending"), ("guardian", None), ("best_interest", False)])
def test_claims_of_other_safeguards_than_the_message_has_are_refused(member: str, value: object) -> None:
    parts = sealable("referral.requested", child(GUARDIAN))
    claims = json.loads(parts.content)["claims"]
    claims["safeguards"][member] = value
    assert reopened(parts, claims=claims) == ("payload_invalid", f"content.claims.safeguards.{member}")


# ---- consent, or another basis ----


def consent(**changes: Any) -> Lawful:
    plain: dict[str, Any] = {"given_at": NOW - timedelta(days=1), "expires_at": NOW + timedelta(days=1), **changes}
    return Lawful(basis="consent", consent=Consent(**plain))


@pytest.mark.parametrize(
    ("lawful", "code", "path"),
    [
        (None, "consent_missing", "lawful"),
        (Lawful(basis="consent"), "consent_missing", "lawful.consent"),
        (consent(expires_at=NOW), "consent_expired", "lawful.consent.expires_at"),
        (consent(scope=("statistics",)), "consent_missing", "lawful.consent.scope"),
        (Lawful(basis="vital-interests", reason="x"), "payload_invalid", "lawful.author"),
        (Lawful(basis="vital-interests", author="x"), "payload_invalid", "lawful.reason"),
        (Lawful(basis="legal-duty", author="x", reason="x"), "payload_invalid", "lawful.legal_reference"),
        (VITAL.model_copy(update={"legal_reference": "x"}), "payload_invalid", "lawful.legal_reference"),
        (VITAL.model_copy(update={"consent": CONSENT.consent}), "payload_invalid", "lawful.consent"),
    ],
)
def test_nothing_is_shared_without_a_sound_basis(lawful: Lawful | None, code: str, path: str) -> None:
    assert refused("referral.requested", requested(lawful=lawful)) == (code, path)


def test_consent_counts_when_it_was_written_down_not_when_it_happened() -> None:
    assert refused("referral.requested", requested(), recorded_at=NOW + timedelta(days=91)) == (
        "consent_expired",
        "lawful.consent.expires_at",
    )


def test_a_consent_for_somebody_else_is_refused_by_whoever_gets_it() -> None:
    parts = sealable("referral.requested", requested())
    with pytest.raises(PayloadError) as caught:
        decompose(parts.content, parts.identity, **{**MANIFEST, "to": "bi/r5w2"})
    assert caught.value.path == "content.claims.recipient"


def test_the_commitment_opens_with_the_salt_and_joins_no_two_records() -> None:
    claims = opened(sealable("referral.requested", requested())).claims
    assert claims is not None
    assert claims.consent is not None
    lines = [
        "umuhuza/1 consent",
        "bi/k7t4",
        "assistance",
        "2026-11-02T10:00:00+00:00",
        "2027-02-01T10:00:00+00:00",
        "referral",
        "thumbprint",
        "rn",
        "1",
    ]
    digest = hashlib.sha256(SALT + "\n".join(lines).encode()).digest()
    assert claims.consent.commitment == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    other = opened(sealable("referral.requested", requested(), salt=bytes(32))).claims
    assert other is not None
    assert other.consent is not None
    assert other.consent.commitment != claims.consent.commitment


@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("commitment", "A" * 43, "content.claims.consent.commitment"),
        ("expires_at", "2030-01-01T00:00:00Z", "content.claims.consent.expires_at"),
        ("given_at", "2020-01-01T00:00:00Z", "content.claims.consent.given_at"),
        ("scope", ["referral", "return"], "content.claims.consent.scope"),
    ],
)
def test_claims_that_say_something_else_than_the_consent_are_refused(member: str, value: object, path: str) -> None:
    parts = sealable("referral.requested", requested())
    claims = json.loads(parts.content)["claims"]
    claims["consent"][member] = value
    assert reopened(parts, claims=claims) == ("payload_invalid", path)


def test_claims_cannot_change_the_basis() -> None:
    parts = sealable("referral.requested", requested())
    claims = json.loads(parts.content)["claims"]
    assert reopened(parts, claims=claims | {"basis": "vital-interests"}) == ("payload_invalid", "lawful.consent")
    assert reopened(parts, claims=claims | {"consent": None}) == ("payload_invalid", "content.claims.consent")


def test_a_salt_of_another_length_is_the_programs_fault() -> None:
    with pytest.raises(ValueError, match="salt"):
        sealable("referral.started", Facts(occurred_at=NOW), salt=b"")


# ---- members ----


@pytest.mark.parametrize(
    ("event", "facts", "path"),
    [
        ("referral.requested", identified(), "referral"),
        ("referral.requested", requested(caregiver=GUARDIAN), "caregiver"),
        ("case.identified", requested(), "referral"),
        ("referral.accepted", requested(), "lawful"),
        ("referral.declined", Facts(occurred_at=NOW), "answer"),
        ("referral.declined", Facts(occurred_at=NOW, answer=Answer(outcome="goals-met")), "answer.reason"),
        ("referral.completed", Facts(occurred_at=NOW, answer=Answer(reason="other")), "answer.reason"),
        (
            "referral.completed",
            Facts(occurred_at=NOW, answer=Answer(reason="other", outcome="goals-met")),
            "answer.reason",
        ),
        ("referral.started", Facts(occurred_at=NOW, answer=Answer(reason="other")), "answer"),
        ("service.provided", Facts(occurred_at=NOW), "service"),
        ("receipt.delivered", Facts(occurred_at=NOW), "receipt"),
        ("receipt.delivered", SAMPLES["receipt.rejected"][0], "receipt.code"),
        ("receipt.rejected", SAMPLES["receipt.delivered"][0], "receipt.code"),
        (
            "receipt.delivered",
            SAMPLES["receipt.delivered"][0].model_copy(update={"htcds": {"cas_Status": "Active"}}),
            "htcds",
        ),
        ("chain.voided", SAMPLES["receipt.delivered"][0], "receipt"),
        ("case.invented", requested(), "type"),
        ("referral.requested", requested(htcds={"Keza Uwimana": "x"}), "htcds.*"),
        ("referral.requested", requested(htcds={"prs_Gender": "Keza Uwimana"}), "htcds.prs_Gender"),
    ],
)
def test_an_event_has_its_own_members_and_no_others(event: str, facts: Facts, path: str) -> None:
    assert refused(event, facts) == ("payload_invalid", path)


def test_an_empty_answer_is_none() -> None:
    assert opened(sealable("referral.started", Facts(occurred_at=NOW, answer=Answer()))).facts.answer is None


def test_a_pseudonym_that_could_be_a_name_is_refused() -> None:
    code, path = refused("referral.requested", requested(), pseudonym="Keza Uwimana")
    assert (code, path) == ("payload_invalid", "content.payload.entry[3].resource.identifier[0].value")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("cas_Status", {"valueCoding": {"system": "urn:iom:htcds:2.0:cas_Status", "code": "Active"}}),
        ("prs_PrimaryLanguage", {"valueCoding": {"system": "urn:iom:htcds:2.0:prs_PrimaryLanguage", "code": "fra"}}),
        ("prs_Citizenship", {"valueCoding": {"system": "urn:iom:htcds:2.0:prs_Citizenship", "code": "XX"}}),
    ],
)
def test_htcds_answers_that_fit_the_shape_are_held_to_the_standard(name: str, answer: object) -> None:
    parts = sealable("case.identified", identified(htcds={"cas_Status": "Active", "prs_Birthdate": "1980"}))
    content = json.loads(parts.content)
    sheet = next(each["resource"] for each in content["payload"]["entry"] if "item" in each["resource"])
    sheet["item"] = [{"linkId": name, "answer": [answer]}]
    if name == "cas_Status":
        opened(Sealable(json.dumps(content).encode(), parts.identity))
    else:  # a code that does not exist, or one that the standard spells otherwise
        assert reopened(parts, payload=content["payload"]) == ("payload_invalid", f"htcds.{name}")


# ---- versions ----


def test_another_major_version_is_not_read() -> None:
    parts = sealable("referral.requested", requested())
    for version in ("2.0", "11.3"):
        assert reopened(parts, schema=version) == ("version_unsupported", "content.schema")
    for no_version in ("1", "1.00", "0.9", "", 1, None, "1.0 "):
        assert reopened(parts, schema=no_version) == ("payload_invalid", "content.schema")


def test_what_a_newer_minor_version_added_is_left_out_and_the_rest_is_read() -> None:
    parts = sealable("referral.requested", requested())
    content = json.loads(parts.content)
    content["schema"] = "1.7"
    content["added"] = {"x": 1}
    content["claims"]["added"] = True
    entries = content["payload"]["entry"]
    entries[1]["resource"]["description"] = "x"
    form = next(each["resource"] for each in entries if each["resource"].get("questionnaire", "").startswith("urn:umu"))
    form["item"].insert(0, {"linkId": "referral.added", "answer": [{"valueBoolean": True}]})
    entries.insert(2, {"fullUrl": "urn:uuid:" + EVT, "resource": {"resourceType": "CarePlan", "status": "x"}})
    newer = decompose(json.dumps(content).encode(), parts.identity, **MANIFEST)
    assert (newer.facts, newer.schema) == (requested(), "1.7")
    assert "CarePlan" not in json.dumps(newer.bundle)
    content["schema"] = "1.0"
    with pytest.raises(PayloadError):
        decompose(json.dumps(content).encode(), parts.identity, **MANIFEST)


def test_a_newer_minor_version_may_not_break_what_is_known() -> None:
    parts = sealable("referral.accepted", Facts(occurred_at=NOW))
    content = json.loads(parts.content) | {"schema": "1.1"}
    content["payload"]["entry"][1]["resource"]["status"] = "completed"
    with pytest.raises(PayloadError) as caught:
        decompose(json.dumps(content).encode(), b"", **MANIFEST)
    assert caught.value.path == "content.payload.entry[1].resource.status"


# ---- bytes ----


@pytest.mark.parametrize(
    ("content", "code", "path"),
    [
        (b"", "payload_invalid", "content"),
        (b"null", "payload_invalid", "content"),
        (b"[]", "payload_invalid", "content"),
        (b"{}", "payload_invalid", "content.type"),
        (b'{"type":["case.identified"]}', "payload_invalid", "content.type"),
        (b'{"type":"Keza Uwimana"}', "payload_invalid", "content.type"),
        (b'{"type":"chain.voided","type":"chain.voided"}', "payload_invalid", "content.*"),
        (b'{"Keza Uwimana', "payload_invalid", "content"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "payload_invalid", "content"),
        (b'{"type":"chain.voided","schema":"1.0"}', "payload_invalid", "content.occurred_at"),
        (b'{"type":"chain.voided","schema":"1.0","Keza":1}', "payload_invalid", "content.*"),
        (b" " * (MAX_PART_BYTES + 1), "too_large", "content"),
    ],
)
def test_bytes_that_are_no_content_are_refused(content: bytes, code: str, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decompose(content, b"", **MANIFEST)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_identity_bytes_are_held_to_the_same() -> None:
    parts = sealable("referral.requested", requested())
    for identity, expected in (
        (b"{", ("payload_invalid", "identity")),
        (b"{}", ("payload_invalid", "identity.resourceType")),
        (b"x" * (MAX_PART_BYTES + 1), ("too_large", "identity")),
        (b"", ("payload_invalid", "referral.name")),
    ):
        with pytest.raises(PayloadError) as caught:
            decompose(parts.content, identity, **MANIFEST)
        assert (caught.value.code, caught.value.path) == expected


@pytest.mark.parametrize(
    "withheld",
    [["referral.reason"], ["Keza Uwimana"], ["referral.access_needs"] * 2, ["referral.transport", "birth.date"]],
)
def test_withheld_names_known_fields_once_in_order_and_none_that_is_there(withheld: list[str]) -> None:
    code, path = reopened(sealable("referral.requested", requested()), withheld=withheld)
    assert code == "payload_invalid"
    assert path in ("content.withheld", "content.withheld[0]")


# ---- silence ----


def _everything_shown(error: BaseException) -> str:
    shown = [str(error), repr(error)]
    hidden: BaseException | None = error
    while hidden is not None:  # also what `from None` would hide
        shown += [str(hidden), repr(hidden)]
        hidden = hidden.__cause__ or hidden.__context__
    return "".join(shown) + "".join(traceback.format_exception(error))


def _spoilt(value: Any, at: str = "") -> list[tuple[str, Any]]:
    """Every way of replacing one string of a JSON value by a planted name, or planting a member."""
    planted = "Keza Uwimana\u00a0?"
    found: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        found.append((at + ".+", {**value, planted: planted}))
        for name, each in value.items():
            found += [(where, {**value, name: new}) for where, new in _spoilt(each, f"{at}.{name}")]
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += [
                (where, [*value[:index], new, *value[index + 1 :]]) for where, new in _spoilt(each, f"{at}[{index}]")
            ]
    else:
        found.append((at, planted))
    return found


@pytest.mark.parametrize("event", ["referral.requested", "referral.declined", "case.identified", "receipt.rejected"])
def test_no_error_ever_says_what_was_there(event: str) -> None:
    parts = sealable(event, SAMPLES[event][0])
    errors: list[UmuhuzaError] = []
    for half in ("content", "identity"):
        text = getattr(parts, half)
        for _, spoilt in _spoilt(json.loads(text)) if text else []:
            data = json.dumps(spoilt, ensure_ascii=False).encode()
            try:
                opened(Sealable(data, parts.identity) if half == "content" else Sealable(parts.content, data))
            except UmuhuzaError as exc:
                errors.append(exc)
    assert len(errors) > 12
    for error in errors:
        assert "Keza" not in _everything_shown(error)
        assert "Uwimana" not in (error.path or "")


def test_forms_that_fail_say_where_and_not_what() -> None:
    for data, path in (
        ({"occurred_at": NOW, "Keza Uwimana": 1}, "*"),
        ({"occurred_at": "Keza Uwimana"}, "occurred_at"),
        ({"occurred_at": NOW, "htcds": {"Keza Uwimana": 3}}, "htcds.*"),
        ({"occurred_at": NOW, "htcds": {"prs_Gender": 3}}, "htcds.prs_Gender"),
        ({"occurred_at": NOW, "referral": {"name": {"as_given": "Keza\u0007"}}}, "referral.priority"),
        (
            {"occurred_at": NOW, "referral": {"priority": "urgent", "name": {"as_given": "Keza\u202e"}}},
            "referral.name.as_given",
        ),
        ({"occurred_at": NOW, "birth": {"precision": "day", "date": "2026-02-31"}}, "birth"),
        ({"occurred_at": NOW, "birth": {"precision": "year", "date": "2026-02-01"}}, "birth"),
        ({"occurred_at": NOW, "birth": {"precision": "age"}}, "birth"),
    ):
        with pytest.raises(PayloadError) as caught:
            validated(Facts, data)
        assert (caught.value.code, caught.value.path) == ("payload_invalid", path)
        assert "Keza" not in _everything_shown(caught.value)


def test_values_do_not_show_what_they_hold() -> None:
    parts = sealable("referral.requested", requested())
    for each in (requested(), parts, opened(parts), requested().referral):
        assert "Keza" not in repr(each)
        assert "Keza" not in str(each)


# ---- any facts at all ----

_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf", "Cn"]), min_size=1, max_size=30
).filter(lambda text: text.strip() != "")
_maybe = st.none() | _texts
_tags = st.sampled_from(["rn", "fr", "sw", "ar"])
_moments = st.integers(0, 800_000_000_000_000).map(lambda micros: NOW - timedelta(microseconds=micros))
_services = st.lists(st.sampled_from(sorted(htcds.CODELISTS["spl_Type"])), min_size=1, max_size=9).map(tuple)
_days = st.dates(min_value=datetime(1930, 1, 1, tzinfo=UTC).date(), max_value=datetime(2024, 1, 1, tzinfo=UTC).date())


@st.composite
def births(draw: st.DrawFn) -> Birth:
    precision = draw(st.sampled_from(["day", "month", "year", "age", "unknown"]))
    day = draw(_days).isoformat()
    length = {"day": 10, "month": 7, "year": 4}.get(precision)
    return Birth(
        precision=precision,
        basis=draw(st.sampled_from(["document", "declared", "estimated", "disputed"])),
        date=None if length is None else day[:length],
        age_years=draw(st.integers(0, 120)) if precision == "age" else None,
    )


@st.composite
def htcds_answers(draw: st.DrawFn) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {}
    for name in draw(st.lists(st.sampled_from(sorted(htcds.FIELDS)), max_size=12, unique=True)):
        each = htcds.FIELDS[name]
        codes = [code for code, _ in htcds.options(name, "fr")]
        if each.multi:
            found[name] = tuple(draw(st.lists(st.sampled_from(codes), min_size=1, max_size=4, unique=True)))
        elif codes:
            found[name] = draw(st.sampled_from(codes))
        elif each.kind == "date":
            found[name] = draw(_days).isoformat()[: draw(st.sampled_from([4, 7, 10]))]
        elif each.kind == "phone":
            found[name] = f"+2577{draw(st.integers(0, 9999999)):07}"
        elif each.kind == "number":
            found[name] = str(draw(st.integers(0, 120)))
        elif each.kind in ("latitude", "longitude"):
            found[name] = f"{draw(st.integers(-89, 89))}.{draw(st.integers(0, 999999))}"
        else:
            found[name] = draw(_texts)
    return found


@st.composite
def lawfuls(draw: st.DrawFn) -> Lawful:
    basis = draw(st.sampled_from(["consent", "legal-duty", "vital-interests"]))
    if basis != "consent":
        duty = draw(_texts) if basis == "legal-duty" else None
        return Lawful(basis=basis, legal_reference=duty, author=draw(_texts), reason=draw(_texts))
    scope = {"referral", *draw(st.sets(st.sampled_from(["statistics", "investigation", "return"])))}
    return Lawful(
        basis="consent",
        author=draw(_maybe),
        consent=Consent(
            given_at=draw(_moments),
            expires_at=NOW + timedelta(days=draw(st.integers(1, 400))),
            form_version=draw(_texts),
            language=draw(st.none() | _tags),
            how=draw(st.sampled_from(["signature", "thumbprint", "oral", "recorded"])),
            scope=tuple(sorted(scope)),
        ),
    )


@st.composite
def caregivers(draw: st.DrawFn, basis: str) -> Caregiver:
    statuses = ["guardian", "representative"]
    statuses += {"consent": [], "legal-duty": ["suspected"], "vital-interests": ["suspected", "pending"]}[basis]
    status = draw(st.sampled_from(statuses))
    return Caregiver(
        status=status,
        name=draw(_maybe),
        relation=draw(_maybe),
        contact=draw(_maybe),
        informed=status != "suspected" and draw(st.booleans()),
        why_not_informed=draw(_maybe),
        best_interest_note=draw(_maybe if status == "pending" else _texts),
        child_assent=draw(st.sampled_from(["assent", "dissent", "not-asked"])),
    )


@st.composite
def names(draw: st.DrawFn) -> Name:
    script = draw(st.sampled_from(["Latn", "Arab"]))
    return Name(as_given=draw(_texts), first=draw(_maybe), middle=draw(_maybe), last=draw(_maybe), script=script)


@st.composite
def referrals(draw: st.DrawFn, basis: str) -> Referral:
    return Referral(
        priority=draw(st.sampled_from(["immediate", "emergency", "urgent", "normal"])),
        name=draw(names()),
        birth=draw(births()),
        services=draw(_services),
        local_service=draw(_maybe),
        languages=tuple(draw(st.lists(_tags, max_size=4))),
        interpreter=Interpreter(
            needed=draw(st.booleans()),
            language=draw(st.none() | _tags),
            sex_preferred=draw(st.sampled_from(["female", "male", "any"])),
        ),
        access_needs=draw(_maybe),
        pregnant_or_nursing=draw(st.sampled_from(["yes", "no", "unknown"])),
        dependants=tuple(draw(st.lists(st.integers(0, 120), max_size=5))),
        safe_contact=SafeContact(
            channel=draw(st.sampled_from(["telephone", "in-person", "through-referrer", "none"])),
            address=draw(_maybe),
            times=draw(_maybe),
            may_leave_message=draw(st.booleans()),
            never_contact=tuple(draw(st.lists(_texts, max_size=3))),
        ),
        caregiver=draw(caregivers(basis)),
        risk=Risk(level=draw(st.sampled_from(["low", "unknown", "extreme"])), must_not_know=draw(_maybe)),
        already_given=draw(st.just(()) | _services),
        transport=draw(st.sampled_from(["escorted", "own", "needed", "none"])),
        reason=draw(_maybe),
        feedback_by=draw(st.none() | _moments),
        referring_unit=draw(_maybe),
        on_call_telephone=draw(_maybe),
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Facts]:
    type = draw(st.sampled_from(["referral.requested", "case.identified", "case.screened"]))
    lawful = draw(lawfuls())
    rest: dict[str, Any] = {"caregiver": draw(caregivers(lawful.basis)), "birth": draw(st.none() | births())}
    if type == "referral.requested":
        rest = {"referral": draw(referrals(lawful.basis))}
    return type, Facts(occurred_at=draw(_moments), htcds=draw(htcds_answers()), lawful=lawful, **rest)


_lists = st.none() | st.frozensets(
    st.sampled_from(
        sorted({"referral", "htcds", "birth", "caregiver", *field_paths(requested()), *field_paths(child(GUARDIAN))})
    )
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(requests(), _lists)
def test_any_request_arrives_as_its_minimised_self(request_: tuple[str, Facts], allowed: frozenset[str] | None) -> None:
    type, facts = request_
    expected, withheld = minimise(type, facts, allowed)
    parts = compose(type, facts, **MANIFEST, ref=None, pseudonym=PSEUDONYM, recorded_at=NOW, allowed=allowed, salt=SALT)
    read = opened(parts)
    assert read.facts == expected
    assert read.withheld == withheld
    assert not set(withheld) & set(field_paths(read.facts))
    assert minimise(type, expected, allowed) == (expected, ())  # nothing more to leave out
    with pytest.raises(PayloadError):
        decompose(parts.content, parts.identity, **{**MANIFEST, "evt": EVT[:-1] + "2"})


def test_policy_errors_are_of_their_own_class() -> None:
    with pytest.raises(PolicyError):
        sealable("referral.requested", requested(lawful=Lawful(basis="consent")))
