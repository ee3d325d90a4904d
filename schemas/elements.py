# SPDX-License-Identifier: Apache-2.0
"""The closed element table: for every event its resources, their elements, cardinalities, types and codes; the gate.

The gate (`Message.check`), the published JSON Schemas and part of the minimisation (`Table.htcds`) are all made from
`TABLES`. An element that it does not name is refused, and so are all of `id`, `meta`, `text`, `contained` and
`extension` on resources. What passes is FHIR R4, and what FHIR leaves open is closed here too: code bindings,
MessageHeader first, each resource once, fullUrls, references and their targets, sizes.

A message has two halves. `content` is a Bundle of type message in which nothing names or locates a person; `identity`
is a Bundle of type collection with the naming elements of the same resources under the same fullUrls.

HTCDS answers stand in a QuestionnaireResponse whose link ids are the standard's field names, every answer of our forms
that has no element of its own in a second one whose link ids are the paths of `schemas.forms`
("referral.risk.level"). A safe contact's number is on purpose not a `Patient.telecom`: software would dial it without
reading the conditions beside it.

Must never: put a value into an error; know how facts become messages (`schemas.fhir`).

Sources: HL7 FHIR R4 (4.0.1) Bundle, Messaging, Task, ServiceRequest, Consent; HTCDS 2.0 by IOM (CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic import BaseModel

from schemas import htcds
from schemas.forms import (
    Answer,
    Birth,
    Caregiver,
    Consent,
    Feedback,
    Information,
    Lawful,
    Priority,
    Question,
    Referral,
)
from schemas.shape import (
    FULL_URL,
    Code,
    Const,
    Context,
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
    Schema,
    Shape,
    String,
    Whole,
    WrongError,
    closed,
    leaves,
    of_model,
    where,
    wrong,
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


def _coding(system: str, code: Shape) -> Object:
    return closed(system=Const(system), code=code)


def _concept(system: str, code: Shape) -> Object:
    return closed(coding=List(_coding(system, code), 1, 1))


def _identifier(system: str, value: Shape) -> Object:
    return closed(system=Const(system), value=value)


def _party(name: str) -> Object:
    return closed(identifier=_identifier(AGENCY, Given(name)))


def _codes_of(annotation: type[BaseModel], member: str) -> Code:
    shape = of_model(annotation)
    found = {**shape.required, **shape.optional}[member]
    while not isinstance(found, Code):
        found = cast("Any", found).shape
    return found


_SERVICE_TYPES = Code(frozenset(htcds.CODELISTS["spl_Type"]))
SERVICE_SYSTEM = f"{HTCDS}:spl_Type"
FIELD_SYSTEM = "urn:umuhuza:code:field"
_TAG = String(3, 2, "[a-z]{2,3}")
_LINE = String(500)
_PATIENT = Reference(("Patient",))

# ---- questions ----


def _form_answer(leaf: Leaf) -> Object:
    if leaf.path.rpartition(".")[2] in ("already_given", "still_needed"):
        return closed(valueCoding=_coding(SERVICE_SYSTEM, _SERVICE_TYPES))
    if leaf.path in ("question.fields", "information.not_known", "information.not_shared"):
        return closed(valueCoding=_coding(FIELD_SYSTEM, Code(ASKABLE)))
    if leaf.path.endswith(".language"):
        return closed(valueCoding=_coding(LANGUAGE, _TAG))
    match leaf.shape:
        case Code():
            return closed(valueCoding=_coding(f"urn:umuhuza:code:{leaf.path}", leaf.shape))
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
            return closed(valueCoding=_coding(system, Code(frozenset(htcds.CODELISTS[each.codelist or ""]))))
        case "country" | "countries":
            return closed(valueCoding=_coding(system, String(2, 2, "[A-Z]{2}")))
        case "language" | "languages":
            return closed(valueCoding=_coding(system, _TAG))
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


def _htcds_items(names: Iterable[str], identity: bool) -> Items:
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
_ASSISTANCE_FIELDS = frozenset(name for name in htcds.FIELDS if not name.startswith(("per_", "hte_", "org_")))
ASKABLE = frozenset(
    {
        *(f"htcds.{name}" for name in _ASSISTANCE_FIELDS),
        *(f"information.{name}" for name in Information.model_fields if not name.startswith("not_")),
    }
)
"""What the recipient of a referral may ask for: what the request could have said."""

_CASE_LEAVES = (*leaves(Birth, "birth"), *leaves(Caregiver, "caregiver"), *leaves(Lawful, "lawful"))
_REFERRAL_LEAVES = (*leaves(Referral, "referral"), *leaves(Lawful, "lawful"))
_INFORMATION_LEAVES = (*leaves(Information, "information"), *leaves(Lawful, "lawful"))


def _form_items(found: Iterable[Leaf], identity: bool) -> Items:
    return Items(
        {
            leaf.path: List(_form_answer(leaf), 1, leaf.most)
            for leaf in found
            if leaf.identity is identity and leaf.path not in _ELSEWHERE
        }
    )


def _sheet(questionnaire: str, items: Items, subject: bool) -> Object:
    """A QuestionnaireResponse; in the identity half it has no subject of its own."""
    if not items.answers:
        raise ValueError("a sheet without questions")
    members: dict[str, Shape] = {
        "resourceType": Const("QuestionnaireResponse"),
        "questionnaire": Const(questionnaire),
        "status": Const("completed"),
    }
    if subject:
        members["subject"] = _PATIENT
        return Object(members, {"item": items})
    return Object({**members, "item": items})


# ---- the table ----


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a message. At most one of each role."""

    shape: Object
    required: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that one event's message may hold. The keys of `content` and `identity` are roles (`role_of`)."""

    event: str
    content: Mapping[str, Entry]
    identity: Mapping[str, Entry]
    htcds: frozenset[str]
    """HTCDS fields that may travel in this event."""
    form: str | None
    """Canonical URL of the questionnaire for our own form's answers."""
    leaves: tuple[Leaf, ...] = ()


def role_of(resource: Mapping[str, Any]) -> str:
    kind = resource.get("resourceType")
    if kind == "QuestionnaireResponse":
        return f"{kind}|{resource.get('questionnaire')}"
    return kind if isinstance(kind, str) else ""


def sheet_role(questionnaire: str) -> str:
    return f"QuestionnaireResponse|{questionnaire}"


def _header(event: str, focus: str, answers: bool) -> Entry:
    members: dict[str, Shape] = {
        "resourceType": Const("MessageHeader"),
        "eventUri": Const(f"urn:umuhuza:event:{event}"),
        "source": closed(endpoint=Given("iss", f"{AGENCY}:")),
        "destination": List(closed(endpoint=Given("to", f"{AGENCY}:")), 1, 1),
        "focus": List(Reference((focus,)), 1, 1),
    }
    response = closed(identifier=String(64, 1, r"[A-Za-z0-9.\-]{1,64}"), code=Const("ok"))
    return Entry(Object(members, {"response": response} if answers else {}))


_PSEUDONYM = List(_identifier(PAIR, String(64, 8, r"[A-Za-z0-9._~\-]{8,64}")), 1, 1)
_PLAIN_PATIENT = closed(resourceType=Const("Patient"), identifier=_PSEUDONYM)
_SPEAKING_PATIENT = closed(
    resourceType=Const("Patient"),
    identifier=_PSEUDONYM,
    communication_=List(closed(language=_concept(LANGUAGE, _TAG)), 1, 10),
)
_NAME = closed(text=_LINE, family_=_LINE, given_=List(_LINE, 1, 2))
_NAMED_PATIENT = closed(resourceType=Const("Patient"), name=List(_NAME, 1, 1), birthDate_=Day())
_BORN_PATIENT = closed(resourceType=Const("Patient"), birthDate=Day())

CAREGIVER_SYSTEM = "urn:umuhuza:code:caregiver.status"
_CAREGIVER = closed(
    resourceType=Const("RelatedPerson"),
    patient=_PATIENT,
    relationship=List(_concept(CAREGIVER_SYSTEM, _codes_of(Caregiver, "status")), 1, 1),
)
_NAMED_CAREGIVER = closed(
    resourceType=Const("RelatedPerson"),
    patient=_PATIENT,
    name_=List(closed(text=_LINE), 1, 1),
    relationship_=List(closed(text=_LINE), 1, 1),
    telecom_=List(closed(system=Const("other"), value=_LINE), 1, 1),
)

SCOPE_SYSTEM = "urn:umuhuza:code:consent.scope"
CONSENT_SCOPE = ("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")
CONSENT_CATEGORY = ("http://loinc.org", "59284-0")
INFORMED = ("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")
_CONSENT = closed(
    resourceType=Const("Consent"),
    identifier=List(_identifier(SALT, String(43, 43, "[A-Za-z0-9_-]{43}")), 1, 1),
    status=Const("active"),
    scope=_concept(CONSENT_SCOPE[0], Const(CONSENT_SCOPE[1])),
    category=List(_concept(CONSENT_CATEGORY[0], Const(CONSENT_CATEGORY[1])), 1, 1),
    patient=_PATIENT,
    dateTime=Moment(),
    policyRule=closed(text=_LINE),
    provision=closed(
        type=Const("permit"),
        period=Period(open=False),
        actor=List(
            closed(role=_concept(INFORMED[0], Const(INFORMED[1])), reference=_party("to")),
            1,
            1,
        ),
        purpose=List(_coding(SCOPE_SYSTEM, _codes_of(Consent, "scope")), 1, 4),
    ),
)


def _case(event: str, status: str) -> Table:
    fields = frozenset(name for name in htcds.FIELDS if not name.startswith(("per_", "org_")))
    answers = HTCDS
    form = "urn:umuhuza:form:case:1.0"
    content = {
        "MessageHeader": _header(event, "EpisodeOfCare", answers=False),
        "EpisodeOfCare": Entry(
            closed(
                resourceType=Const("EpisodeOfCare"),
                identifier=List(_identifier(THREAD, Given("thread")), 1, 1),
                status=Const(status),
                patient=_PATIENT,
            )
        ),
        "Patient": Entry(_PLAIN_PATIENT),
        "RelatedPerson": Entry(_CAREGIVER, required=False),
        "Consent": Entry(_CONSENT, required=False),
        sheet_role(answers): Entry(_sheet(answers, _htcds_items(fields, False), True), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_CASE_LEAVES, False), True), required=False),
    }
    identity = {
        "Patient": Entry(_BORN_PATIENT, required=False),
        "RelatedPerson": Entry(_NAMED_CAREGIVER, required=False),
        sheet_role(answers): Entry(_sheet(answers, _htcds_items(fields, True), False), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_CASE_LEAVES, True), False), required=False),
    }
    return Table(event, content, identity, fields, form, _CASE_LEAVES)


def _task(status: str, initiator: str, provider: str, more: Mapping[str, Shape]) -> Entry:
    return Entry(
        Object(
            {
                "resourceType": Const("Task"),
                "identifier": List(_identifier(THREAD, Given("thread")), 1, 1),
                "status": Const(status),
                "intent": Const("order"),
                "code": _concept("http://hl7.org/fhir/CodeSystem/task-code", Const("fulfill")),
                "focus": Reference(("ServiceRequest",)),
                "for": _PATIENT,
                "requester": _party(initiator),
                "owner": _party(provider),
                **more,
            }
        )
    )


def _request() -> Table:
    fields = _ASSISTANCE_FIELDS
    form = "urn:umuhuza:form:referral:1.0"
    priority = Code(frozenset(FROM_FHIR))
    event = "referral.requested"
    content = {
        "MessageHeader": _header(event, "Task", answers=False),
        "Task": _task("requested", "iss", "to", {"priority": priority}),
        "ServiceRequest": Entry(
            closed(
                resourceType=Const("ServiceRequest"),
                status=Const("active"),
                intent=Const("order"),
                priority=priority,
                code=closed(coding=List(_coding(SERVICE_SYSTEM, _SERVICE_TYPES), 1, 1), text_=_LINE),
                orderDetail_=List(_concept(SERVICE_SYSTEM, _SERVICE_TYPES), 1, 8),
                subject=_PATIENT,
            )
        ),
        "Patient": Entry(_SPEAKING_PATIENT),
        "RelatedPerson": Entry(_CAREGIVER, required=False),
        "Consent": Entry(_CONSENT, required=False),
        sheet_role(HTCDS): Entry(_sheet(HTCDS, _htcds_items(fields, False), True), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_REFERRAL_LEAVES, False), True)),
    }
    identity = {
        "Patient": Entry(_NAMED_PATIENT),
        "RelatedPerson": Entry(_NAMED_CAREGIVER, required=False),
        sheet_role(HTCDS): Entry(_sheet(HTCDS, _htcds_items(fields, True), False), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_REFERRAL_LEAVES, True), False), required=False),
    }
    return Table(event, content, identity, fields, form, _REFERRAL_LEAVES)


REASON_SYSTEM = "urn:umuhuza:code:answer.reason"
OUTCOME_SYSTEM = "urn:umuhuza:code:answer.outcome"
END_SYSTEM = "urn:umuhuza:code:answer.end_reason"
TASK_SYSTEM = "urn:umuhuza:code:task"


# HTCDS: the date on which the referral was accepted; the day on which the support plan really ended; a known death.
_ANSWER_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "referral.accepted": frozenset({"cas_IncomingReferralDate"}),
        "referral.completed": frozenset({"spl_ActualEndDate"}),
        "referral.ended": frozenset({"spl_ActualEndDate", "prs_Deceased"}),
    }
)


def _order(status: str) -> Entry:
    return Entry(
        closed(resourceType=Const("ServiceRequest"), status=Const(status), intent=Const("order"), subject=_PATIENT)
    )


def _answer(event: str, status: str, order: str) -> Table:
    """What the recipient says of the referral as a whole."""
    more: dict[str, Shape] = {}
    fields = _ANSWER_FIELDS.get(event, frozenset())
    if event == "referral.declined":
        more["statusReason"] = _concept(REASON_SYSTEM, _codes_of(Answer, "reason"))
    if event == "referral.ended":
        more["statusReason"] = _concept(END_SYSTEM, _codes_of(Answer, "end_reason"))
    if event == "referral.completed":
        more["businessStatus"] = _concept(OUTCOME_SYSTEM, _codes_of(Answer, "outcome"))
    content = {
        "MessageHeader": _header(event, "Task", answers=True),
        "Task": _task(status, "to", "iss", more),
        "ServiceRequest": _order(order),
        "Patient": Entry(_PLAIN_PATIENT),
    }
    if fields:
        content[sheet_role(HTCDS)] = Entry(_sheet(HTCDS, _htcds_items(fields, False), True), required=False)
    return Table(event, content, {}, fields, None)


def _word(event: str, status: str, order: str) -> Table:
    """What the initiator says of the referral as a whole, after the request."""
    content = {
        "MessageHeader": _header(event, "Task", answers=False),
        "Task": _task(status, "iss", "to", {}),
        "ServiceRequest": _order(order),
        "Patient": Entry(_PLAIN_PATIENT),
    }
    return Table(event, content, {}, frozenset(), None)


def _journey(event: str, initiator: str, provider: str, status: str, times: Mapping[str, Shape]) -> Table:
    """Her way there, as a task of its own: when, never where."""
    content = {
        "MessageHeader": _header(event, "Task", answers=False),
        "Task": Entry(
            Object(
                {
                    "resourceType": Const("Task"),
                    "identifier": List(_identifier(THREAD, Given("thread")), 1, 1),
                    "status": Const(status),
                    "intent": Const("order"),
                    "code": _concept(TASK_SYSTEM, Const("journey")),
                    "for": _PATIENT,
                    "requester": _party(initiator),
                    "owner": _party(provider),
                    **times,
                }
            )
        ),
        "Patient": Entry(_PLAIN_PATIENT),
    }
    return Table(event, content, {}, frozenset(), None)


def _question() -> Table:
    event, form = "information.requested", "urn:umuhuza:form:question:1.0"
    asked = leaves(Question, "question")
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(_PLAIN_PATIENT),
        sheet_role(form): Entry(_sheet(form, _form_items(asked, False), True)),
    }
    identity = {sheet_role(form): Entry(_sheet(form, _form_items(asked, True), False), required=False)}
    return Table(event, content, identity, frozenset(), form, asked)


def _information() -> Table:
    event, form = "information.answered", "urn:umuhuza:form:information:1.0"
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(_PLAIN_PATIENT),
        "Consent": Entry(_CONSENT, required=False),
        sheet_role(HTCDS): Entry(_sheet(HTCDS, _htcds_items(_ASSISTANCE_FIELDS, False), True), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_INFORMATION_LEAVES, False), True)),
    }
    identity = {
        sheet_role(HTCDS): Entry(_sheet(HTCDS, _htcds_items(_ASSISTANCE_FIELDS, True), False), required=False),
        sheet_role(form): Entry(_sheet(form, _form_items(_INFORMATION_LEAVES, True), False), required=False),
    }
    return Table(event, content, identity, _ASSISTANCE_FIELDS, form, _INFORMATION_LEAVES)


def _feedback() -> Table:
    event, form = "feedback.given", "urn:umuhuza:form:feedback:1.0"
    said = leaves(Feedback, "feedback")
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(_PLAIN_PATIENT),
        sheet_role(form): Entry(_sheet(form, _form_items(said, False), True)),
    }
    return Table(event, content, {}, frozenset(), form, said)


def _service() -> Table:
    event = "service.provided"
    content = {
        "MessageHeader": _header(event, "Procedure", answers=True),
        "Procedure": Entry(
            closed(
                resourceType=Const("Procedure"),
                status=Code(frozenset({"in-progress", "completed"})),
                code=_concept(SERVICE_SYSTEM, _SERVICE_TYPES),
                subject=_PATIENT,
                performedPeriod=Period(open=True),
            )
        ),
        "Patient": Entry(_PLAIN_PATIENT),
    }
    return Table(event, content, {}, frozenset(), None)


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        table.event: table
        for table in (
            _case("case.identified", "planned"),
            _case("case.screened", "active"),
            _case("case.updated", "active"),
            _request(),
            _answer("referral.received", "received", "active"),
            _answer("referral.accepted", "accepted", "active"),
            _answer("referral.declined", "rejected", "revoked"),
            _answer("referral.started", "in-progress", "active"),
            _answer("referral.completed", "completed", "completed"),
            _answer("referral.ended", "failed", "revoked"),
            _word("referral.revoked", "cancelled", "revoked"),
            _word("referral.expired", "failed", "revoked"),
            _word("referral.reopened", "accepted", "active"),
            _service(),
            _question(),
            _information(),
            _journey(
                "movement.departed",
                "iss",
                "to",
                "in-progress",
                {
                    "executionPeriod": closed(start=Moment()),
                    "restriction": closed(period=closed(end=Moment())),
                },
            ),
            _journey("movement.arrived", "to", "iss", "completed", {"executionPeriod": closed(end=Moment())}),
            _feedback(),
        )
    }
)


# ---- the gate ----


@dataclass(frozen=True, slots=True)
class Message:
    """The Bundle of one half of a message, as a shape."""

    entries: Mapping[str, Entry]
    kind: Literal["message", "collection"]

    def frame(self) -> Object:
        """The Bundle around its resources."""
        members: dict[str, Shape] = {
            "resourceType": Const("Bundle"),
            "type": Const(self.kind),
            "entry": _ENTRY_LIST,
        }
        return Object({"id": Given("evt"), **members} if self.kind == "message" else members)

    def check(self, value: Any, context: Context) -> None:
        self.frame().check(value, context)
        found: dict[str, str] = {}
        roles: set[str] = set()
        pending: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        unknown: list[int] = []
        for index, each in enumerate(value["entry"]):
            resource = each["resource"]
            role = role_of(resource)
            entry = self.entries.get(role)
            if entry is None:
                if not context.tolerant or index == 0:
                    known = resource.get("resourceType") == "QuestionnaireResponse"
                    wrong("entry", index, "resource", "questionnaire" if known else "resourceType")
                unknown.append(index)
                continue
            if role in roles or (self.kind == "message" and (index == 0) != (role == "MessageHeader")):
                wrong("entry", index, "resource", "resourceType")
            if each["fullUrl"] in found:
                wrong("entry", index, "fullUrl")
            roles.add(role)
            found[each["fullUrl"]] = role
            context.references = []
            try:
                entry.shape.check(resource, context)
            except WrongError as exc:
                raise exc.under("resource").under(index).under("entry") from None
            pending += context.references
        if not all(role in roles for role, entry in self.entries.items() if entry.required):
            wrong("entry")
        if self.kind == "message":
            for reference, allowed in pending:
                if found.get(reference["reference"], "").partition("|")[0] not in allowed:
                    wrong(*(where(value, reference) or ()), "reference")
        for index in reversed(unknown):
            del value["entry"][index]

    def schema(self) -> Schema:
        """Of the Bundle; its resources are in `$defs` (`definitions`)."""
        frame = self.frame().schema()
        refs: list[Schema] = [{"$ref": f"#/$defs/{_definition(role)}"} for role in self.entries]
        one_each: list[Schema] = [
            {"contains": ref, "minContains": int(entry.required), "maxContains": 1}
            for ref, entry in zip(refs, self.entries.values(), strict=True)
        ]
        entry: Schema = {"type": "array", "minItems": 1, "maxItems": len(refs), "allOf": one_each}
        if self.kind == "message":
            entry |= {"prefixItems": refs[:1], "items": {"anyOf": refs[1:]}}
        else:
            entry["items"] = {"anyOf": refs}
        frame["properties"]["entry"] = entry
        return frame

    def definitions(self) -> Schema:
        return {
            _definition(role): closed(fullUrl=FULL_URL, resource=entry.shape).schema()
            for role, entry in self.entries.items()
        }


def _definition(role: str) -> str:
    kind, _, questionnaire = role.partition("|")
    return kind if not questionnaire else f"{kind}-{'htcds' if questionnaire == HTCDS else 'form'}"


@dataclass(frozen=True, slots=True)
class _AnyResource:
    """Any object, for the frame: the table's shape is asked afterwards, by role."""

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not dict or not value:
            wrong()

    def schema(self) -> Schema:
        return {"type": "object"}


_ENTRY_LIST = List(closed(fullUrl=FULL_URL, resource=_AnyResource()), 1, 16)

CONTENT: Mapping[str, Message] = MappingProxyType(
    {event: Message(table.content, "message") for event, table in TABLES.items()}
)
IDENTITY: Mapping[str, Message] = MappingProxyType(
    {event: Message(table.identity, "collection") for event, table in TABLES.items() if table.identity}
)


def check_pair(content: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Both halves passed their gates: whoever is named must be in the content, under the same fullUrl.

    Raises:
        WrongError: below the identity Bundle.
    """
    known = {each["fullUrl"]: role_of(each["resource"]) for each in content["entry"]}
    for index, each in enumerate(identity["entry"]):
        resource = each["resource"]
        if known.get(each["fullUrl"]) != role_of(resource):
            wrong("entry", index, "fullUrl")
        patient = resource.get("patient")
        if patient is not None and known.get(patient["reference"]) != "Patient":
            wrong("entry", index, "resource", "patient", "reference")
