# SPDX-License-Identifier: Apache-2.0
"""The closed element table: for every event its resources, their elements, cardinalities, types and codes.

The gate (`schemas.message_gate`), the published JSON Schemas and part of the minimisation (`Table.htcds`) are all made
from `TABLES`. An element that it does not name is refused, and so are all of `id`, `meta`, `text`, `contained` and
`extension` on resources. Codes are bound here, also where FHIR leaves them open.

A message has two halves. `content` is a Bundle of type message in which nothing names or locates a person; `identity`
is a Bundle of type collection with the naming elements of the same resources under the same fullUrls.

Must never: put a value into an error; know how facts become messages (`schemas.fhir`).

Sources: HL7 FHIR R4 (4.0.1) Messaging, Task, ServiceRequest, EpisodeOfCare, Procedure; HTCDS 2.0 by IOM (CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from schemas import htcds
from schemas.element_shapes import (
    AGENCY,
    ASSISTANCE_FIELDS,
    BORN_PATIENT,
    CAREGIVER,
    CONSENT,
    FROM_FHIR,
    HTCDS,
    LINE,
    NAMED_CAREGIVER,
    NAMED_PATIENT,
    PATIENT,
    PLAIN_PATIENT,
    SERVICE_SYSTEM,
    SERVICE_TYPES,
    SPEAKING_PATIENT,
    THREAD,
    codes_of,
    coding,
    concept,
    form_items,
    htcds_items,
    identifier,
    party,
    sheet,
)
from schemas.forms import Answer, Birth, Caregiver, Feedback, Information, Lawful, Question, Referral
from schemas.shape import (
    Code,
    Const,
    Given,
    Leaf,
    List,
    Moment,
    Object,
    Period,
    Reference,
    Shape,
    String,
    closed,
    leaves,
)

_CASE_LEAVES = (*leaves(Birth, "birth"), *leaves(Caregiver, "caregiver"), *leaves(Lawful, "lawful"))
_REFERRAL_LEAVES = (*leaves(Referral, "referral"), *leaves(Lawful, "lawful"))
_INFORMATION_LEAVES = (*leaves(Information, "information"), *leaves(Lawful, "lawful"))


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
    many: frozenset[str] = field(init=False)
    """Paths of answers that are lists."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "many", frozenset(leaf.path for leaf in self.leaves if leaf.many))


def role_of(resource: Mapping[str, Any]) -> str:
    """Which entry of a table a resource is: its type, for a sheet with its questionnaire; "" where it has no type."""
    kind = resource.get("resourceType")
    if kind == "QuestionnaireResponse":
        return f"{kind}|{resource.get('questionnaire')}"
    return kind if isinstance(kind, str) else ""


def sheet_role(questionnaire: str) -> str:
    """The role of the sheet that answers this questionnaire (`role_of`)."""
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


def _case(event: str, status: str) -> Table:
    fields = frozenset(name for name in htcds.FIELDS if not name.startswith(("per_", "org_")))
    answers = HTCDS
    form = "urn:umuhuza:form:case:1.0"
    content = {
        "MessageHeader": _header(event, "EpisodeOfCare", answers=False),
        "EpisodeOfCare": Entry(
            closed(
                resourceType=Const("EpisodeOfCare"),
                identifier=List(identifier(THREAD, Given("thread")), 1, 1),
                status=Const(status),
                patient=PATIENT,
            )
        ),
        "Patient": Entry(PLAIN_PATIENT),
        "RelatedPerson": Entry(CAREGIVER, required=False),
        "Consent": Entry(CONSENT, required=False),
        sheet_role(answers): Entry(sheet(answers, htcds_items(fields, False), True), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_CASE_LEAVES, False), True), required=False),
    }
    identity = {
        "Patient": Entry(BORN_PATIENT, required=False),
        "RelatedPerson": Entry(NAMED_CAREGIVER, required=False),
        sheet_role(answers): Entry(sheet(answers, htcds_items(fields, True), False), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_CASE_LEAVES, True), False), required=False),
    }
    return Table(event, content, identity, fields, form, _CASE_LEAVES)


def _task(status: str, initiator: str, provider: str, more: Mapping[str, Shape]) -> Entry:
    return Entry(
        Object(
            {
                "resourceType": Const("Task"),
                "identifier": List(identifier(THREAD, Given("thread")), 1, 1),
                "status": Const(status),
                "intent": Const("order"),
                "code": concept("http://hl7.org/fhir/CodeSystem/task-code", Const("fulfill")),
                "focus": Reference(("ServiceRequest",)),
                "for": PATIENT,
                "requester": party(initiator),
                "owner": party(provider),
                **more,
            }
        )
    )


def _request() -> Table:
    fields = ASSISTANCE_FIELDS
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
                code=closed(coding=List(coding(SERVICE_SYSTEM, SERVICE_TYPES), 1, 1), text_=LINE),
                orderDetail_=List(concept(SERVICE_SYSTEM, SERVICE_TYPES), 1, 8),
                subject=PATIENT,
            )
        ),
        "Patient": Entry(SPEAKING_PATIENT),
        "RelatedPerson": Entry(CAREGIVER, required=False),
        "Consent": Entry(CONSENT, required=False),
        sheet_role(HTCDS): Entry(sheet(HTCDS, htcds_items(fields, False), True), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_REFERRAL_LEAVES, False), True)),
    }
    identity = {
        "Patient": Entry(NAMED_PATIENT),
        "RelatedPerson": Entry(NAMED_CAREGIVER, required=False),
        sheet_role(HTCDS): Entry(sheet(HTCDS, htcds_items(fields, True), False), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_REFERRAL_LEAVES, True), False), required=False),
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
        closed(resourceType=Const("ServiceRequest"), status=Const(status), intent=Const("order"), subject=PATIENT)
    )


def _answer(event: str, status: str, order: str) -> Table:
    """What the recipient says of the referral as a whole."""
    more: dict[str, Shape] = {}
    fields = _ANSWER_FIELDS.get(event, frozenset())
    if event == "referral.declined":
        more["statusReason"] = concept(REASON_SYSTEM, codes_of(Answer, "reason"))
    if event == "referral.ended":
        more["statusReason"] = concept(END_SYSTEM, codes_of(Answer, "end_reason"))
    if event == "referral.completed":
        more["businessStatus"] = concept(OUTCOME_SYSTEM, codes_of(Answer, "outcome"))
    content = {
        "MessageHeader": _header(event, "Task", answers=True),
        "Task": _task(status, "to", "iss", more),
        "ServiceRequest": _order(order),
        "Patient": Entry(PLAIN_PATIENT),
    }
    if fields:
        content[sheet_role(HTCDS)] = Entry(sheet(HTCDS, htcds_items(fields, False), True), required=False)
    return Table(event, content, {}, fields, None)


def _word(event: str, status: str, order: str) -> Table:
    """What the initiator says of the referral as a whole, after the request."""
    content = {
        "MessageHeader": _header(event, "Task", answers=False),
        "Task": _task(status, "iss", "to", {}),
        "ServiceRequest": _order(order),
        "Patient": Entry(PLAIN_PATIENT),
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
                    "identifier": List(identifier(THREAD, Given("thread")), 1, 1),
                    "status": Const(status),
                    "intent": Const("order"),
                    "code": concept(TASK_SYSTEM, Const("journey")),
                    "for": PATIENT,
                    "requester": party(initiator),
                    "owner": party(provider),
                    **times,
                }
            )
        ),
        "Patient": Entry(PLAIN_PATIENT),
    }
    return Table(event, content, {}, frozenset(), None)


def _question() -> Table:
    event, form = "information.requested", "urn:umuhuza:form:question:1.0"
    asked = leaves(Question, "question")
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(PLAIN_PATIENT),
        sheet_role(form): Entry(sheet(form, form_items(asked, False), True)),
    }
    identity = {sheet_role(form): Entry(sheet(form, form_items(asked, True), False), required=False)}
    return Table(event, content, identity, frozenset(), form, asked)


def _information() -> Table:
    event, form = "information.answered", "urn:umuhuza:form:information:1.0"
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(PLAIN_PATIENT),
        "Consent": Entry(CONSENT, required=False),
        sheet_role(HTCDS): Entry(sheet(HTCDS, htcds_items(ASSISTANCE_FIELDS, False), True), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_INFORMATION_LEAVES, False), True)),
    }
    identity = {
        sheet_role(HTCDS): Entry(sheet(HTCDS, htcds_items(ASSISTANCE_FIELDS, True), False), required=False),
        sheet_role(form): Entry(sheet(form, form_items(_INFORMATION_LEAVES, True), False), required=False),
    }
    return Table(event, content, identity, ASSISTANCE_FIELDS, form, _INFORMATION_LEAVES)


def _feedback() -> Table:
    event, form = "feedback.given", "urn:umuhuza:form:feedback:1.0"
    said = leaves(Feedback, "feedback")
    content = {
        "MessageHeader": _header(event, "QuestionnaireResponse", answers=True),
        "Patient": Entry(PLAIN_PATIENT),
        sheet_role(form): Entry(sheet(form, form_items(said, False), True)),
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
                code=concept(SERVICE_SYSTEM, SERVICE_TYPES),
                subject=PATIENT,
                performedPeriod=Period(open=True),
            )
        ),
        "Patient": Entry(PLAIN_PATIENT),
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
