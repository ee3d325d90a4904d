# SPDX-License-Identifier: Apache-2.0
"""FHIR R4 messages: how `Facts` become the two halves of one (`schemas.elements`), and how they are read back.

That they are FHIR R4 is for the gate to say, whose table is a subset of it; a test holds the gate to the judgement of
the package `fhir.resources` (`umuhuza.fhir_oracle`).

Invariants: reading what was written gives the same facts; fullUrls are derived from the event id, so the same event
gives the same bytes, whenever it is written.
Must never: put a value into an error; read a clock; make anything random.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from pydantic import BaseModel

from schemas import htcds
from schemas.element_shapes import (
    AGENCY,
    CAREGIVER_SYSTEM,
    CONSENT_CATEGORY,
    CONSENT_SCOPE,
    FROM_FHIR,
    HTCDS,
    INFORMED,
    LANGUAGE,
    PAIR,
    PRIORITIES,
    SALT,
    SCOPE_SYSTEM,
    SERVICE_SYSTEM,
    THREAD,
)
from schemas.elements import END_SYSTEM, OUTCOME_SYSTEM, REASON_SYSTEM, TABLES, TASK_SYSTEM, Table, role_of, sheet_role
from schemas.errors import PayloadError
from schemas.forms import Caregiver, Consent, Facts, Movement, Service
from schemas.shape import Const, Given, Items, Leaf, Object, WrongError, moment


@dataclass(frozen=True, slots=True)
class Names:
    """What the manifest says about a message, and the pair's pseudonym of the person."""

    iss: str
    to: str
    evt: str
    thread: str
    ref: str | None = None
    pseudonym: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What a message says: members of `Facts` as plain data, not yet a form."""

    facts: dict[str, Any]
    salt: str | None
    """base64url salt of the consent commitment."""
    pseudonym: str | None


# ---- facts -> messages ----


def full_url(names: Names, role: str) -> str:
    """The same for both halves and for every retry; says nothing (evt is random)."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:umuhuza:{names.iss}/{names.evt}#{role}").urn


def _write_answer(shape: Object, value: Any) -> dict[str, Any]:
    ((name, inner),) = shape.required.items()
    if name == "valueCoding":
        system = cast("Const", cast("Object", inner).required["system"]).value
        return {name: {"system": system, "code": value}}
    if name == "valueBoolean" and isinstance(value, str):
        value = value == "true"
    elif name == "valueInteger":
        value = int(value)
    elif name == "valueDateTime":
        value = moment(value)
    return {name: value}


def _write_items(items: Items, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """In the table's order. A tuple is several answers."""
    return [
        {
            "linkId": link,
            "answer": [
                _write_answer(cast("Object", answers.shape), each)
                for each in (values[link] if isinstance(values[link], tuple) else (values[link],))
            ],
        }
        for link, answers in items.answers.items()
        if link in values
    ]


def member(form: BaseModel | None, path: str) -> Any:
    """The value at a dotted path; None when a form on the way is absent."""
    value: Any = form
    for name in _names(path):
        if value is None:
            return None
        value = getattr(value, name)
    return value


@cache
def _names(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def said(facts: Facts, found: Iterable[Leaf]) -> dict[str, Any]:
    """What to write down of a form: path -> value, without what is absent or what everybody would assume.

    A required answer is written when its own form is there and says more than its default.
    """
    values: dict[str, Any] = {}
    absent = {name for name in Facts.model_fields if getattr(facts, name) is None}
    for leaf in found:
        if _names(leaf.path)[0] in absent:
            continue
        value = member(facts, leaf.path)
        if value is None or value == leaf.default:
            continue
        if leaf.required and _assumed(facts, leaf.path):
            continue
        values[leaf.path] = value
    return values


def _assumed(facts: Facts, path: str) -> bool:
    """Whether the form that holds `path` is exactly what its own form has by default."""
    above, _, _ = path.rpartition(".")
    outer, _, name = above.rpartition(".")
    holder = member(facts, outer) if outer else facts
    form: type[BaseModel] = type(holder)
    return bool(_default(form, name) == getattr(holder, name))


@cache
def _default(form: type[BaseModel], name: str) -> Any:
    """To compare with only; equal to nothing where the form has none."""
    info = form.model_fields[name]
    return object() if info.is_required() else info.get_default(call_default_factory=True, validated_data={})


class _Draft:
    """The two halves while they are written."""

    def __init__(self, names: Names, table: Table) -> None:
        self.names, self.table = names, table
        self.content: list[dict[str, Any]] = []
        self.identity: list[dict[str, Any]] = []

    def to(self, role: str) -> dict[str, str]:
        return {"reference": full_url(self.names, role)}

    def add(self, resource: dict[str, Any], identity: bool = False) -> None:
        entry = {"fullUrl": full_url(self.names, role_of(resource)), "resource": resource}
        (self.identity if identity else self.content).append(entry)

    def sheet(self, questionnaire: str, values: Mapping[str, Any], always: bool = False) -> None:
        """A questionnaire's answers, each in its half; the content half is there whenever the identity half is."""
        role = sheet_role(questionnaire)
        halves = []
        for entries in (self.table.content, self.table.identity):
            shape = entries[role].shape if role in entries else Object({})
            items = {**shape.required, **shape.optional}.get("item")
            halves.append(_write_items(items, values) if isinstance(items, Items) else [])
        if not (halves[0] or halves[1] or always):
            return
        head = {"resourceType": "QuestionnaireResponse", "questionnaire": questionnaire, "status": "completed"}
        clear = {**head, "subject": self.to("Patient")}
        self.add({**clear, "item": halves[0]} if halves[0] else clear)
        if halves[1]:
            self.add({**head, "item": halves[1]}, identity=True)


def _one(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _agency(name: str) -> dict[str, Any]:
    return {"identifier": {"system": AGENCY, "value": name}}


def write(event: str, facts: Facts, names: Names, salt: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The two halves of a message: content, and identity or None. The facts have been checked (`schemas.events`)."""
    table = TABLES[event]
    draft = _Draft(names, table)
    focus = {"case": "EpisodeOfCare", "service": "Procedure"}.get(event.partition(".")[0], "Task")
    if focus not in table.content and table.form is not None:
        focus = sheet_role(table.form)
    header: dict[str, Any] = {
        "resourceType": "MessageHeader",
        "eventUri": f"urn:umuhuza:event:{event}",
        "source": {"endpoint": f"{AGENCY}:{names.iss}"},
        "destination": [{"endpoint": f"{AGENCY}:{names.to}"}],
        "focus": [draft.to(focus)],
    }
    if names.ref is not None and "response" in table.content["MessageHeader"].shape.optional:
        header["response"] = {"identifier": names.ref, "code": "ok"}
    draft.add(header)
    if focus == "EpisodeOfCare":
        draft.add(
            {
                "resourceType": "EpisodeOfCare",
                "identifier": [{"system": THREAD, "value": names.thread}],
                "status": _constant(table, "EpisodeOfCare", "status"),
                "patient": draft.to("Patient"),
            }
        )
    elif facts.movement is not None:
        _write_journey(draft, facts.movement)
    elif focus == "Task":
        _write_task(draft, facts)
    elif facts.service is not None:
        _write_procedure(draft, facts.service)
    _write_patient(draft, facts)
    caregiver = facts.referral.caregiver if facts.referral is not None else facts.caregiver
    if caregiver is not None:
        _write_caregiver(draft, caregiver)
    if facts.lawful is not None and facts.lawful.consent is not None:
        _write_consent(draft, facts.lawful.consent, salt)
    if sheet_role(HTCDS) in table.content:
        draft.sheet(HTCDS, facts.htcds)
    if table.form is not None:
        answers = said(facts, table.leaves)
        if facts.referral is not None and facts.referral.name.first is not None:
            answers.pop("referral.name.middle", None)  # stands in Patient.name.given
        draft.sheet(table.form, answers, always=table.content[sheet_role(table.form)].required)
    content = {"resourceType": "Bundle", "id": names.evt, "type": "message", "entry": draft.content}
    if not draft.identity:
        return content, None
    return content, {"resourceType": "Bundle", "type": "collection", "entry": draft.identity}


def _constant(table: Table, role: str, name: str) -> Any:
    return cast("Const", table.content[role].shape.required[name]).value


def _write_task(draft: _Draft, facts: Facts) -> None:
    names, table = draft.names, draft.table
    asked = facts.referral
    initiator, provider = _parties(draft)
    task: dict[str, Any] = {
        "resourceType": "Task",
        "identifier": [{"system": THREAD, "value": names.thread}],
        "status": _constant(table, "Task", "status"),
        "intent": "order",
        "code": _one("http://hl7.org/fhir/CodeSystem/task-code", "fulfill"),
        "focus": draft.to("ServiceRequest"),
        "for": draft.to("Patient"),
        "requester": _agency(initiator),
        "owner": _agency(provider),
    }
    order: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": _constant(table, "ServiceRequest", "status"),
        "intent": "order",
        "subject": draft.to("Patient"),
    }
    if asked is not None:
        task["priority"] = order["priority"] = PRIORITIES[asked.priority]
        order["code"] = _one(SERVICE_SYSTEM, asked.services[0])
        if asked.local_service is not None:
            order["code"]["text"] = asked.local_service
        if len(asked.services) > 1:
            order["orderDetail"] = [_one(SERVICE_SYSTEM, code) for code in asked.services[1:]]
    if facts.answer is not None and facts.answer.reason is not None:
        task["statusReason"] = _one(REASON_SYSTEM, facts.answer.reason)
    if facts.answer is not None and facts.answer.end_reason is not None:
        task["statusReason"] = _one(END_SYSTEM, facts.answer.end_reason)
    if facts.answer is not None and facts.answer.outcome is not None:
        task["businessStatus"] = _one(OUTCOME_SYSTEM, facts.answer.outcome)
    draft.add(task)
    draft.add(order)


def _parties(draft: _Draft) -> tuple[str, str]:
    """(initiator, recipient) of the thread, as the event's table has them."""
    requester = cast("Object", draft.table.content["Task"].shape.required["requester"])
    party = cast("Given", cast("Object", requester.required["identifier"]).required["value"])
    names = draft.names
    return (names.iss, names.to) if party.name == "iss" else (names.to, names.iss)


def _write_journey(draft: _Draft, movement: Movement) -> None:
    initiator, provider = _parties(draft)
    times: dict[str, Any] = {}
    if movement.departed_at is not None and movement.expected_at is not None:
        times["executionPeriod"] = {"start": moment(movement.departed_at)}
        times["restriction"] = {"period": {"end": moment(movement.expected_at)}}
    elif movement.arrived_at is not None:
        times["executionPeriod"] = {"end": moment(movement.arrived_at)}
    draft.add(
        {
            "resourceType": "Task",
            "identifier": [{"system": THREAD, "value": draft.names.thread}],
            "status": _constant(draft.table, "Task", "status"),
            "intent": "order",
            "code": _one(TASK_SYSTEM, "journey"),
            "for": draft.to("Patient"),
            "requester": _agency(initiator),
            "owner": _agency(provider),
            **times,
        }
    )


def _write_procedure(draft: _Draft, service: Service) -> None:
    period = {"start": moment(service.began_at)}
    if service.ended_at is not None:
        period["end"] = moment(service.ended_at)
    draft.add(
        {
            "resourceType": "Procedure",
            "status": "in-progress" if service.ended_at is None else "completed",
            "code": _one(SERVICE_SYSTEM, service.type),
            "subject": draft.to("Patient"),
            "performedPeriod": period,
        }
    )


def _write_patient(draft: _Draft, facts: Facts) -> None:
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": PAIR, "value": draft.names.pseudonym}],
    }
    named: dict[str, Any] = {"resourceType": "Patient"}
    birth = facts.birth
    if facts.referral is not None:
        birth, name = facts.referral.birth, facts.referral.name
        if facts.referral.languages:
            patient["communication"] = [{"language": _one(LANGUAGE, tag)} for tag in facts.referral.languages]
        written: dict[str, Any] = {"text": name.as_given}
        if name.last is not None:
            written["family"] = name.last
        if name.first is not None:
            written["given"] = [name.first] if name.middle is None else [name.first, name.middle]
        named["name"] = [written]
    if birth is not None and birth.date is not None:
        named["birthDate"] = birth.date
    draft.add(patient)
    if len(named) > 1:
        draft.add(named, identity=True)


def _write_caregiver(draft: _Draft, caregiver: Caregiver) -> None:
    head = {"resourceType": "RelatedPerson", "patient": draft.to("Patient")}
    draft.add({**head, "relationship": [_one(CAREGIVER_SYSTEM, caregiver.status)]})
    named: dict[str, Any] = {}
    if caregiver.name is not None:
        named["name"] = [{"text": caregiver.name}]
    if caregiver.relation is not None:
        named["relationship"] = [{"text": caregiver.relation}]
    if caregiver.contact is not None:
        named["telecom"] = [{"system": "other", "value": caregiver.contact}]
    if named:
        draft.add({**head, **named}, identity=True)


def _write_consent(draft: _Draft, consent: Consent, salt: str) -> None:
    given, expires = moment(consent.given_at), moment(consent.expires_at)
    draft.add(
        {
            "resourceType": "Consent",
            "identifier": [{"system": SALT, "value": salt}],
            "status": "active",
            "scope": _one(*CONSENT_SCOPE),
            "category": [_one(*CONSENT_CATEGORY)],
            "patient": draft.to("Patient"),
            "dateTime": given,
            "policyRule": {"text": consent.form_version},
            "provision": {
                "type": "permit",
                "period": {"start": given, "end": expires},
                "actor": [{"role": _one(*INFORMED), "reference": _agency(draft.names.to)}],
                "purpose": [{"system": SCOPE_SYSTEM, "code": code} for code in consent.scope],
            },
        }
    )


# ---- messages -> facts ----


def _read_answer(answer: Mapping[str, Any]) -> Any:
    ((name, value),) = answer.items()
    return value["code"] if name == "valueCoding" else value


def _code_in(concept: Mapping[str, Any]) -> Any:
    return concept["coding"][0]["code"]


def _put(facts: dict[str, Any], path: str, value: Any) -> None:
    names = _names(path)
    for each in names[:-1]:
        facts = facts.setdefault(each, {})
    facts[names[-1]] = value


def read(event: str, content: Mapping[str, Any], identity: Mapping[str, Any] | None) -> Read:
    """What a message says. Both halves have passed the gate and `check_pair`.

    Raises:
        WrongError: below the content Bundle, where two elements that must agree do not.
    """
    table = TABLES[event]
    halves = [_by_role(content), _by_role(identity) if identity is not None else {}]
    here, named = halves
    facts: dict[str, Any] = {}
    for half in halves:
        for item in half.get(sheet_role(HTCDS), {}).get("item", ()):
            facts.setdefault("htcds", {})[item["linkId"]] = _read_htcds(item)
    if table.form is not None:
        for half in halves:
            for item in half.get(sheet_role(table.form), {}).get("item", ()):
                answers = [_read_answer(answer) for answer in item["answer"]]
                _put(facts, item["linkId"], answers if item["linkId"] in table.many else answers[0])
    at = "referral." if event == "referral.requested" else ""
    if at:
        _read_request(content, here, named, facts)
    elif event.startswith("movement."):
        _read_journey(here["Task"], facts)
    elif "Task" in here:
        if "statusReason" in here["Task"]:
            named_by = "end_reason" if event == "referral.ended" else "reason"
            _put(facts, f"answer.{named_by}", _code_in(here["Task"]["statusReason"]))
        if "businessStatus" in here["Task"]:
            _put(facts, "answer.outcome", _code_in(here["Task"]["businessStatus"]))
    if "Procedure" in here:
        _read_procedure(content, here["Procedure"], facts)
    if "birthDate" in named.get("Patient", {}):
        _put(facts, f"{at}birth.date", named["Patient"]["birthDate"])
    if "RelatedPerson" in here:
        _put(facts, f"{at}caregiver.status", _code_in(here["RelatedPerson"]["relationship"][0]))
        who = named.get("RelatedPerson", {})
        if "name" in who:
            _put(facts, f"{at}caregiver.name", who["name"][0]["text"])
        if "relationship" in who:
            _put(facts, f"{at}caregiver.relation", who["relationship"][0]["text"])
        if "telecom" in who:
            _put(facts, f"{at}caregiver.contact", who["telecom"][0]["value"])
    salt = None
    if "Consent" in here:
        salt = _read_consent(content, here["Consent"], facts)
    return Read(facts, salt, here["Patient"]["identifier"][0]["value"])


def _by_role(bundle: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {role_of(each["resource"]): each["resource"] for each in bundle["entry"]}


def _at(bundle: Mapping[str, Any], role: str, *parts: str) -> WrongError:
    """The error at an element of the entry that has this role."""
    index = next(index for index, each in enumerate(bundle["entry"]) if role_of(each["resource"]) == role)
    return WrongError("entry", index, "resource", *parts)


def _read_htcds(item: Mapping[str, Any]) -> str | tuple[str, ...]:
    values = []
    for answer in item["answer"]:
        value = _read_answer(answer)
        if isinstance(value, bool):
            value = "true" if value else "false"
        values.append(str(value))
    return tuple(values) if htcds.FIELDS[item["linkId"]].multi else values[0]


def _read_request(
    content: Mapping[str, Any],
    here: Mapping[str, dict[str, Any]],
    named: Mapping[str, dict[str, Any]],
    facts: dict[str, Any],
) -> None:
    task, order, patient = here["Task"], here["ServiceRequest"], here["Patient"]
    if task["priority"] != order["priority"]:
        raise _at(content, "ServiceRequest", "priority")
    _put(facts, "referral.priority", FROM_FHIR[task["priority"]])
    services = [order["code"], *order.get("orderDetail", ())]
    _put(facts, "referral.services", [_code_in(each) for each in services])
    if "text" in order["code"]:
        _put(facts, "referral.local_service", order["code"]["text"])
    if "communication" in patient:
        _put(facts, "referral.languages", [_code_in(each["language"]) for each in patient["communication"]])
    name = named.get("Patient", {"name": [{}]})["name"][0]
    for element, ours in (("text", "as_given"), ("family", "last")):
        if element in name:
            _put(facts, f"referral.name.{ours}", name[element])
    if "given" in name and "middle" in facts.get("referral", {}).get("name", {}):
        raise PayloadError("payload_invalid", path="referral.name.middle")  # said twice
    for ours, given in zip(("first", "middle"), name.get("given", ()), strict=False):
        _put(facts, f"referral.name.{ours}", given)


def _read_journey(task: Mapping[str, Any], facts: dict[str, Any]) -> None:
    period = task["executionPeriod"]
    if "restriction" in task:
        _put(facts, "movement.departed_at", period["start"])
        _put(facts, "movement.expected_at", task["restriction"]["period"]["end"])
    else:
        _put(facts, "movement.arrived_at", period["end"])


def _read_procedure(content: Mapping[str, Any], procedure: Mapping[str, Any], facts: dict[str, Any]) -> None:
    period = procedure["performedPeriod"]
    if ("end" in period) != (procedure["status"] == "completed"):
        raise _at(content, "Procedure", "status")
    facts["service"] = {"type": _code_in(procedure["code"]), "began_at": period["start"]}
    if "end" in period:
        facts["service"]["ended_at"] = period["end"]


def _read_consent(content: Mapping[str, Any], consent: Mapping[str, Any], facts: dict[str, Any]) -> str:
    period = consent["provision"]["period"]
    if period["start"] != consent["dateTime"]:
        raise _at(content, "Consent", "provision", "period", "start")
    _put(facts, "lawful.consent.given_at", period["start"])
    _put(facts, "lawful.consent.expires_at", period["end"])
    _put(facts, "lawful.consent.form_version", consent["policyRule"]["text"])
    _put(facts, "lawful.consent.scope", [each["code"] for each in consent["provision"]["purpose"]])
    return str(consent["identifier"][0]["value"])
