# SPDX-License-Identifier: Apache-2.0
"""The elements that several events' tables share: code systems, persons, consents, and the sheets of questions.

HTCDS answers stand in a QuestionnaireResponse whose link ids are the standard's field names, every answer of our forms
that has no element of its own in a second one whose link ids are the paths of `schemas.forms`
("referral.risk.level"). A safe contact's number is on purpose not a `Patient.telecom`: software would dial it without
reading the conditions beside it.

Invariants: shapes only, closed and made once; what names or locates a person stands in the identity half's shapes.
Must never: put a value into an error; know which event uses what (`schemas.elements`).

Sources: HL7 FHIR R4 (4.0.1) Patient, RelatedPerson, Consent, QuestionnaireResponse; HTCDS 2.0 by IOM (CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

from pydantic import BaseModel

from schemas import htcds
from schemas.forms import Caregiver, Consent, Information, Priority
from schemas.shape import (
    Code,
    Const,
    Day,
    Flag,
    Given,
    Items,
    Leaf,
    List,
    Moment,
    Object,
    Period,
    Reference,
    Shape,
    String,
    Whole,
    closed,
    of_model,
)

HTCDS = "urn:iom:htcds:2.0"
AGENCY = "urn:umuhuza:agency"
PAIR = "urn:umuhuza:pair"
THREAD = "urn:umuhuza:thread"
SALT = "urn:umuhuza:consent:salt"
LANGUAGE = "urn:ietf:bcp:47"
MAX_INTEGER = (1 << 31) - 1
"""FHIR's integer has 32 bits."""

PRIORITIES: Mapping[Priority, str] = MappingProxyType(
    {"immediate": "stat", "emergency": "asap", "urgent": "urgent", "normal": "routine"}
)
FROM_FHIR: Mapping[str, Priority] = MappingProxyType({code: ours for ours, code in PRIORITIES.items()})


# ---- shapes that several resources use ----


def coding(system: str, code: Shape) -> Object:
    """A Coding of that system."""
    return closed(system=Const(system), code=code)


def concept(system: str, code: Shape) -> Object:
    """A CodeableConcept with exactly one coding, and no text."""
    return closed(coding=List(coding(system, code), 1, 1))


def identifier(system: str, value: Shape) -> Object:
    """An Identifier of that system."""
    return closed(system=Const(system), value=value)


def party(name: str) -> Object:
    """A logical Reference to the agency that the manifest calls `name`: "iss" or "to"."""
    return closed(identifier=identifier(AGENCY, Given(name)))


def codes_of(annotation: type[BaseModel], member: str) -> Code:
    """The codes that a member of one of our forms may have, through lists and absent answers."""
    shape = of_model(annotation)
    found = {**shape.required, **shape.optional}[member]
    while not isinstance(found, Code):
        found = cast("Any", found).shape
    return found


SERVICE_TYPES = Code(frozenset(htcds.CODELISTS["spl_Type"]))
SERVICE_SYSTEM = f"{HTCDS}:spl_Type"
FIELD_SYSTEM = "urn:umuhuza:code:field"
_TAG = String(3, 2, "[a-z]{2,3}")
LINE = String(500)
PATIENT = Reference(("Patient",))

# ---- questions ----


def _form_answer(leaf: Leaf) -> Object:
    if leaf.path.rpartition(".")[2] in ("already_given", "still_needed"):
        return closed(valueCoding=coding(SERVICE_SYSTEM, SERVICE_TYPES))
    if leaf.path in ("question.fields", "information.not_known", "information.not_shared"):
        return closed(valueCoding=coding(FIELD_SYSTEM, Code(ASKABLE)))
    if leaf.path.endswith(".language"):
        return closed(valueCoding=coding(LANGUAGE, _TAG))
    match leaf.shape:
        case Code():
            return closed(valueCoding=coding(f"urn:umuhuza:code:{leaf.path}", leaf.shape))
        case Flag() | Const():
            return closed(valueBoolean=leaf.shape)
        case Whole():
            return closed(valueInteger=Whole(leaf.shape.min, min(leaf.shape.max, MAX_INTEGER)))
        case Moment():
            return closed(valueDateTime=leaf.shape)
        case String():
            return closed(valueString=leaf.shape)
        case _:
            raise TypeError("no answer for this shape")


def _htcds_answer(each: htcds.Field) -> Object:
    system = f"{HTCDS}:{each.name}"
    match each.kind:
        case "code" | "codes":
            return closed(valueCoding=coding(system, Code(frozenset(htcds.CODELISTS[each.codelist or ""]))))
        case "country" | "countries":
            return closed(valueCoding=coding(system, String(2, 2, "[A-Z]{2}")))
        case "language" | "languages":
            return closed(valueCoding=coding(system, _TAG))
        case "boolean":
            return closed(valueBoolean=Flag())
        case "number":
            return closed(valueInteger=Whole(0, 120))
        case "date":
            return closed(valueDate=Day())
        case "phone":
            return closed(valueString=String(16, 2, r"\+?[1-9][0-9]{1,14}"))
        case "latitude" | "longitude":  # as text: a JSON number would lose digits on its way
            return closed(valueString=String(24, 1, r"-?[0-9]{1,3}(\.[0-9]{1,15})?"))
        case "note":
            return closed(valueString=String(8000))
        case "text":
            return closed(valueString=String(500))


def htcds_items(names: Iterable[str], identity: bool) -> Items:
    """The questions of the HTCDS sheet's content half, or of its identity half."""
    return Items(
        {
            each.name: List(_htcds_answer(each), 1, 300 if each.multi else 1)
            for each in htcds.FIELDS.values()
            if each.name in names and each.identity is identity
        }
    )


# Answers that have an element of their own in a resource, or stand in the claims.
_ELSEWHERE = frozenset(
    {
        *(f"referral.{name}" for name in ("priority", "services", "local_service", "languages")),
        *(f"referral.name.{name}" for name in ("as_given", "first", "last")),
        *(f"{at}birth.date" for at in ("", "referral.")),
        *(f"{at}caregiver.{name}" for at in ("", "referral.") for name in ("status", "name", "relation", "contact")),
        *(f"lawful.{name}" for name in ("basis", "legal_reference")),
        *(f"lawful.consent.{name}" for name in ("given_at", "expires_at", "scope", "form_version")),
    }
)

# Firewall: what concerns perpetrators and the trafficking event stays with the case; org_ describes organisations.
ASSISTANCE_FIELDS = frozenset(name for name in htcds.FIELDS if not name.startswith(("per_", "hte_", "org_")))
ASKABLE = frozenset(
    {
        *(f"htcds.{name}" for name in ASSISTANCE_FIELDS),
        *(f"information.{name}" for name in Information.model_fields if not name.startswith("not_")),
    }
)
"""What the recipient of a referral may ask for: what the request could have said."""


def form_items(found: Iterable[Leaf], identity: bool) -> Items:
    """The questions of our own form's sheet, of one half: what has no element of its own."""
    return Items(
        {
            leaf.path: List(_form_answer(leaf), 1, leaf.most)
            for leaf in found
            if leaf.identity is identity and leaf.path not in _ELSEWHERE
        }
    )


def sheet(questionnaire: str, items: Items, subject: bool) -> Object:
    """A QuestionnaireResponse; in the identity half it has no subject of its own."""
    if not items.answers:
        raise ValueError("a sheet without questions")
    members: dict[str, Shape] = {
        "resourceType": Const("QuestionnaireResponse"),
        "questionnaire": Const(questionnaire),
        "status": Const("completed"),
    }
    if subject:
        members["subject"] = PATIENT
        return Object(members, {"item": items})
    return Object({**members, "item": items})


_PSEUDONYM = List(identifier(PAIR, String(64, 8, r"[A-Za-z0-9._~\-]{8,64}")), 1, 1)
PLAIN_PATIENT = closed(resourceType=Const("Patient"), identifier=_PSEUDONYM)
SPEAKING_PATIENT = closed(
    resourceType=Const("Patient"),
    identifier=_PSEUDONYM,
    communication_=List(closed(language=concept(LANGUAGE, _TAG)), 1, 10),
)
_NAME = closed(text=LINE, family_=LINE, given_=List(LINE, 1, 2))
NAMED_PATIENT = closed(resourceType=Const("Patient"), name=List(_NAME, 1, 1), birthDate_=Day())
BORN_PATIENT = closed(resourceType=Const("Patient"), birthDate=Day())

CAREGIVER_SYSTEM = "urn:umuhuza:code:caregiver.status"
CAREGIVER = closed(
    resourceType=Const("RelatedPerson"),
    patient=PATIENT,
    relationship=List(concept(CAREGIVER_SYSTEM, codes_of(Caregiver, "status")), 1, 1),
)
NAMED_CAREGIVER = closed(
    resourceType=Const("RelatedPerson"),
    patient=PATIENT,
    name_=List(closed(text=LINE), 1, 1),
    relationship_=List(closed(text=LINE), 1, 1),
    telecom_=List(closed(system=Const("other"), value=LINE), 1, 1),
)

SCOPE_SYSTEM = "urn:umuhuza:code:consent.scope"
CONSENT_SCOPE = ("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")
CONSENT_CATEGORY = ("http://loinc.org", "59284-0")
INFORMED = ("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")
CONSENT = closed(
    resourceType=Const("Consent"),
    identifier=List(identifier(SALT, String(43, 43, "[A-Za-z0-9_-]{43}")), 1, 1),
    status=Const("active"),
    scope=concept(CONSENT_SCOPE[0], Const(CONSENT_SCOPE[1])),
    category=List(concept(CONSENT_CATEGORY[0], Const(CONSENT_CATEGORY[1])), 1, 1),
    patient=PATIENT,
    dateTime=Moment(),
    policyRule=closed(text=LINE),
    provision=closed(
        type=Const("permit"),
        period=Period(open=False),
        actor=List(
            closed(role=concept(INFORMED[0], Const(INFORMED[1])), reference=party("to")),
            1,
            1,
        ),
        purpose=List(coding(SCOPE_SYSTEM, codes_of(Consent, "scope")), 1, 4),
    ),
)
