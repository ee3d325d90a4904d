# SPDX-License-Identifier: Apache-2.0
"""How facts become messages, and what the gate refuses, with path and code. See also test_fhir_differential."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from schemas.element_shapes import HTCDS
from schemas.elements import TABLES, role_of
from schemas.errors import PayloadError, UmuhuzaError
from schemas.event_types import EVENTS
from schemas.events import Opened, Sealable
from schemas.forms import Caregiver, Facts
from schemas.lifecycle import MACHINES
from schemas.message_gate import IDENTITY
from schemas.plain import PLAIN
from tests.schemas.samples import (
    CONSENT,
    EVT,
    GUARDIAN,
    NOW,
    PSEUDONYM,
    SAMPLES,
    THREAD,
    VITAL,
    child,
    identified,
    opened,
    requested,
    sealable,
)

MESSAGES = [(event, facts) for event, each in SAMPLES.items() if event in TABLES for facts in each]
FORM = "urn:umuhuza:form:referral:1.0"
Json = dict[str, Any]


def bundle(event: str = "referral.requested", facts: Facts | None = None) -> Json:
    found: Json = json.loads(sealable(event, facts or SAMPLES[event][0]).content)["payload"]
    return found


def place(message: Json, role: str) -> int:
    return next(index for index, each in enumerate(message["entry"]) if role_of(each["resource"]) == role)


def resource(message: Json, role: str) -> Json:
    found: Json = message["entry"][place(message, role)]["resource"]
    return found


# ---- what we write ----


@pytest.mark.parametrize(("event", "facts"), MESSAGES)
def test_every_message_begins_with_its_header_and_names_nobody(event: str, facts: Facts) -> None:
    message = bundle(event, facts)
    header = message["entry"][0]["resource"]
    assert (message["type"], message["id"]) == ("message", EVT)
    assert header["eventUri"] == f"urn:umuhuza:event:{event}"
    assert resource(message, "Patient")["identifier"] == [{"system": "urn:umuhuza:pair", "value": PSEUDONYM}]
    assert not {"name", "birthDate", "telecom", "address"} & resource(message, "Patient").keys()


@pytest.mark.parametrize(("event", "facts"), MESSAGES)
def test_identity_stands_under_the_fullurls_of_the_content(event: str, facts: Facts) -> None:
    parts = sealable(event, facts)
    if not parts.identity:
        return
    here = {each["fullUrl"]: role_of(each["resource"]) for each in json.loads(parts.content)["payload"]["entry"]}
    for each in json.loads(parts.identity)["entry"]:
        assert here[each["fullUrl"]] == role_of(each["resource"])


def test_task_status_is_what_the_referral_has_become() -> None:
    machine = MACHINES["referral"]
    for event in ("requested", "received", "accepted", "declined", "started", "completed"):
        after = {
            machine.states[step.state].task_status
            for (_, name, _), step in machine.steps.items()
            if name == f"referral.{event}" and not step.crossed
        }
        assert resource(bundle(f"referral.{event}"), "Task")["status"] in after


def test_htcds_answers_keep_the_standards_names_and_codes() -> None:
    sheet = resource(bundle(), f"QuestionnaireResponse|{HTCDS}")
    answers = {item["linkId"]: item["answer"] for item in sheet["item"]}
    assert answers["prs_Gender"] == [{"valueCoding": {"system": "urn:iom:htcds:2.0:prs_Gender", "code": "Feminine"}}]
    assert [each["valueCoding"]["code"] for each in answers["prs_Citizenship"]] == ["BI", "RW"]
    assert answers["con_Consent"] == [{"valueBoolean": True}]
    assert answers["cas_OutgoingReferralDate"] == [{"valueDate": "2026-11-03"}]
    assert "prs_FirstName" not in answers


def test_the_request_as_fhir_servers_read_it() -> None:
    message = bundle()
    task, order = resource(message, "Task"), resource(message, "ServiceRequest")
    assert (task["priority"], order["priority"]) == ("urgent", "urgent")
    assert order["code"]["text"] == "hébergement, deux semaines"
    assert [order["code"]["coding"][0]["code"], order["orderDetail"][0]["coding"][0]["code"]] == [
        "SocialCare",
        "Health",
    ]
    assert task["requester"]["identifier"]["value"] == "bi/iom"
    assert task["identifier"][0]["value"] == THREAD
    person = next(
        each["resource"]
        for each in json.loads(sealable("referral.requested", requested()).identity)["entry"]
        if each["resource"]["resourceType"] == "Patient"
    )
    assert person == {
        "resourceType": "Patient",
        "name": [{"text": "Keza Uwimana", "family": "Uwimana", "given": ["Keza"]}],
        "birthDate": "1999-05-17",
    }


def test_a_safe_contact_is_no_telecom_that_software_would_dial() -> None:
    parts = sealable("referral.requested", requested())
    assert '"telecom"' not in parts.content.decode() + parts.identity.decode()


# ---- what the gate refuses ----

Change = Callable[[Json], None]


def change(role: str, *path: str | int, to: Any) -> Change:
    def do(message: Json) -> None:
        node: Any = resource(message, role)
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = to

    return do


def drop(role: str, name: str) -> Change:
    return lambda message: resource(message, role).pop(name)


def extend(message: Json, node: Json) -> None:
    message["entry"].append({"fullUrl": uuid.uuid4().urn, "resource": node})


def swap_first(message: Json) -> None:
    message["entry"][0], message["entry"][1] = message["entry"][1], message["entry"][0]


def twice(message: Json) -> None:
    message["entry"].append(copy.deepcopy(message["entry"][1]))


def same_url(message: Json) -> None:
    message["entry"][2]["fullUrl"] = message["entry"][1]["fullUrl"]


def point(role: str, name: str, target: str | None) -> Change:
    def do(message: Json) -> None:
        url = uuid.uuid4().urn if target is None else message["entry"][place(message, target)]["fullUrl"]
        resource(message, role)[name] = {"reference": url}

    return do


def two_answers_to_one_question(message: Json) -> None:
    items = resource(message, f"QuestionnaireResponse|{HTCDS}")["item"]
    items.append(copy.deepcopy(items[0]))


SHEET = f"QuestionnaireResponse|{HTCDS}"
OURS = f"QuestionnaireResponse|{FORM}"
DEEP: Any = None
for _ in range(400):
    DEEP = {"extension": [DEEP]}

# (what, change, path below content.payload, does the published schema refuse it too)
MUTATIONS: list[tuple[str, Change, str, bool]] = [
    ("code outside its binding", change("Task", "status", to="banana"), "entry[1].resource.status", True),
    ("the status of another event", change("Task", "status", to="accepted"), "entry[1].resource.status", True),
    ("no code of HTCDS", change(SHEET, "item", 0, "answer", 0, "valueCoding", "code", to="Keza"),
     "entry[5].resource.item[0].answer[0].valueCoding.code", True),
    ("code system of another field", change(SHEET, "item", 0, "answer", 0, "valueCoding", "system", to="urn:x"),
     "entry[5].resource.item[0].answer[0].valueCoding.system", True),
    ("answer of another type", change(SHEET, "item", 0, "answer", to=[{"valueString": "Feminine"}]),
     "entry[5].resource.item[0].answer[0].*", True),
    ("a field that names, in the content", change(SHEET, "item", 0, to={"linkId": "prs_FirstName", "answer": [
        {"valueString": "Keza"}]}), "entry[5].resource.item[0].linkId", True),
    ("an unknown question", change(SHEET, "item", 0, "linkId", to="Keza"), "entry[5].resource.item[0].linkId", True),
    ("a question about perpetrators in a referral", change(SHEET, "item", 0, "linkId", to="hte_Type"),
     "entry[5].resource.item[0].linkId", True),
    ("one question twice", two_answers_to_one_question, "entry[5].resource.item[5].linkId", False),
    ("two answers where one is asked", lambda m: resource(m, SHEET)["item"][0]["answer"].append(
        resource(m, SHEET)["item"][0]["answer"][0]), "entry[5].resource.item[0].answer", True),
    ("a bundle of another type", lambda m: m.update(type="document"), "type", True),
    ("a bundle of another event", lambda m: m.update(id=EVT[:-1] + "9"), "id", False),
    ("an id longer than 64", lambda m: m.update(id="x" * 65), "id", False),
    ("a resource's own id", change("Task", "id", to="x" * 65), "entry[1].resource.*", True),
    ("header not first", swap_first, "entry[0].resource.resourceType", True),
    ("no header", lambda m: m["entry"].pop(0), "entry[0].resource.resourceType", True),
    ("the header of another event", change("MessageHeader", "eventUri", to="urn:umuhuza:event:case.screened"),
     "entry[0].resource.eventUri", True),
    ("somebody else's sender", change("MessageHeader", "source", "endpoint", to="urn:umuhuza:agency:bi/police"),
     "entry[0].resource.source.endpoint", False),
    ("a resource twice", twice, "entry[7].resource.resourceType", True),
    ("a fullUrl twice", same_url, "entry[2].fullUrl", False),
    ("a fullUrl that is a place", lambda m: m["entry"][1].update(fullUrl="http://10.0.0.7/Task/1"),
     "entry[1].fullUrl", True),
    ("a dangling reference", point("Task", "focus", None), "entry[1].resource.focus.reference", False),
    ("a reference to the wrong kind", point("Task", "for", "ServiceRequest"), "entry[1].resource.for.reference", False),
    ("a reference to elsewhere", change("Task", "focus", to={"reference": "Task/1"}),
     "entry[1].resource.focus.reference", True),
    ("an empty entry", lambda m: m["entry"].append({}), "entry[7].fullUrl", True),
    ("an entry with an empty resource", lambda m: extend(m, {}), "entry[7].resource", True),
    ("an entry with a request", lambda m: m["entry"][1].update(request={"method": "GET", "url": "x"}),
     "entry[1].*", True),
    ("an unknown resource type", lambda m: extend(m, {"resourceType": "Keza Uwimana"}),
     "entry[7].resource.resourceType", True),
    ("a resource this event has no place for", lambda m: extend(m, {"resourceType": "CarePlan", "status": "active"}),
     "entry[7].resource.resourceType", True),
    ("a questionnaire of somebody else", change(OURS, "questionnaire", to="urn:x"),
     "entry[6].resource.questionnaire", True),
    ("an extension with value and extensions (ext-1)", change("Task", "extension", to=[
        {"url": "urn:x", "valueString": "a", "extension": [{"url": "urn:y", "valueString": "b"}]}]),
     "entry[1].resource.*", True),
    ("a name in the content", change("Patient", "name", to=[{"text": "Keza Uwimana"}]), "entry[3].resource.*", True),
    ("narrative", change("Patient", "text", to={"status": "generated", "div": "<div>Keza</div>"}),
     "entry[3].resource.*", True),
    ("a period that ends before it starts", change("Consent", "provision", "period", "end", to="2020-01-01T00:00:00Z"),
     "entry[4].resource.provision.period.end", False),
    ("a consent that starts at two times", change("Consent", "dateTime", to="2020-01-01T00:00:00Z"),
     "entry[4].resource.provision.period.start", False),
    ("consent for another reader", change("Consent", "provision", "actor", 0, "reference", "identifier", "value",
        to="bi/police"), "entry[4].resource.provision.actor[0].reference.identifier.value", False),
    ("a time without zone", change("Consent", "dateTime", to="2026-11-02T10:00:00"),
     "entry[4].resource.dateTime", True),
    ("the 31st of February", change(SHEET, "item", 3, "answer", 0, "valueDate", to="2026-02-31"),
     "entry[5].resource.item[3].answer[0].valueDate", False),
    ("a text longer than 8,000", change("ServiceRequest", "code", "text", to="x" * 8001),
     "entry[2].resource.code.text", True),
    ("priorities that disagree", change("ServiceRequest", "priority", to="stat"), "entry[2].resource.priority", False),
    ("a missing element", drop("ServiceRequest", "subject"), "entry[2].resource.subject", True),
    ("a missing resource", lambda m: m["entry"].pop(place(m, "ServiceRequest")), "entry", True),
    ("null for an element", change("Task", "intent", to=None), "entry[1].resource.intent", True),
    ("a number for a text", change("ServiceRequest", "code", "text", to=7), "entry[2].resource.code.text", True),
    ("an empty list", change("ServiceRequest", "orderDetail", to=[]), "entry[2].resource.orderDetail", True),
    ("an object for a list", change("Task", "identifier", to={}), "entry[1].resource.identifier", True),
    ("a list for a bundle's entry", lambda m: m["entry"].append([]), "entry[7]", True),
    ("white space that is no space for a text", change("ServiceRequest", "code", "text", to="\u00a0"),
     "entry[2].resource.code.text", False),
    ("nothing but white space for an answer", change(OURS, "item", 0, "answer", to=[{"valueString": "\u2028\t"}]),
     "entry[6].resource.item[0].answer[0].*", True),
    ("a number of more than 32 bits", change(OURS, "item", 5, "answer", 0, "valueInteger", to=2**31),
     "entry[6].resource.item[5].answer[0].valueInteger", True),
    ("an unhashable link id", change(SHEET, "item", 0, "linkId", to=["x"]), "entry[5].resource.item[0].linkId", True),
    ("a boolean for a number", change(SHEET, "item", 0, to={"linkId": "vic_AgeWhenTrafficked", "answer": [
        {"valueInteger": True}]}), "entry[5].resource.item[0].answer[0].valueInteger", True),
]  # fmt: skip


def spoilt(change_it: Change, event: str = "referral.requested") -> Sealable:
    parts = sealable(event, SAMPLES[event][0])
    content = json.loads(parts.content)
    change_it(content["payload"])
    return Sealable(json.dumps(content).encode(), parts.identity)


@pytest.mark.parametrize(("what", "change_it", "path", "_"), MUTATIONS, ids=[each[0] for each in MUTATIONS])
def test_the_gate_refuses(what: str, change_it: Change, path: str, _: bool) -> None:
    with pytest.raises(PayloadError) as caught:
        opened(spoilt(change_it))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", f"content.payload.{path}"), what


def test_the_sample_that_is_spoilt_is_sound() -> None:
    assert isinstance(opened(spoilt(lambda message: None)), Opened)


def test_400_levels_are_refused_before_anything_walks_them() -> None:
    with pytest.raises(PayloadError) as caught:
        opened(spoilt(change("Task", "extension", to=[DEEP])))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", "content")


@pytest.mark.parametrize("event", sorted(IDENTITY))
def test_identity_cannot_speak_of_somebody_who_is_not_in_the_content(event: str) -> None:
    parts = sealable(event, SAMPLES[event][0])
    for changed, path in (
        ({"fullUrl": uuid.uuid4().urn}, "identity.entry[0].fullUrl"),
        ({"resource": {"resourceType": "Task"}}, "identity.entry[0].resource.resourceType"),
    ):
        named = json.loads(parts.identity)
        named["entry"][0].update(changed)
        with pytest.raises(PayloadError) as caught:
            opened(Sealable(parts.content, json.dumps(named).encode()))
        assert caught.value.path == path


def test_a_caregiver_belongs_to_the_person_of_the_message() -> None:
    parts = sealable("referral.requested", child(GUARDIAN))
    named = json.loads(parts.identity)
    index = place(named, "RelatedPerson")
    named["entry"][index]["resource"]["patient"]["reference"] = named["entry"][index]["fullUrl"]
    with pytest.raises(PayloadError) as caught:
        opened(Sealable(parts.content, json.dumps(named).encode()))
    assert caught.value.path == f"identity.entry[{index}].resource.patient.reference"


def test_a_middle_name_said_twice_is_refused() -> None:
    parts = sealable("referral.requested", requested())
    named = json.loads(parts.identity)
    item = {"linkId": "referral.name.middle", "answer": [{"valueString": "x"}]}
    resource(named, OURS)["item"].append(item)
    with pytest.raises(PayloadError) as caught:
        opened(Sealable(parts.content, json.dumps(named).encode()))
    assert caught.value.path == "referral.name.middle"


def test_procedures_that_ended_are_completed_and_the_others_are_not() -> None:
    for status in ("in-progress", "entered-in-error"):
        with pytest.raises(PayloadError) as caught:
            opened(spoilt(change("Procedure", "status", to=status), "service.provided"))
        assert caught.value.path == "content.payload.entry[1].resource.status"


def test_a_decline_needs_one_of_its_reasons_and_no_text() -> None:
    reason = change("Task", "statusReason", "coding", 0, "code", to="Keza Uwimana")
    text = change("Task", "statusReason", "text", to="Keza Uwimana")
    for change_it, path in ((reason, "statusReason.coding[0].code"), (text, "statusReason.*")):
        with pytest.raises(PayloadError) as caught:
            opened(spoilt(change_it, "referral.declined"))
        assert caught.value.path == f"content.payload.entry[1].resource.{path}"


def test_consent_and_its_resource_go_together() -> None:
    with_it = sealable("referral.requested", requested())
    without = sealable("referral.requested", requested(lawful=VITAL))
    for claims, payload in ((with_it, without), (without, with_it)):
        content = json.loads(payload.content) | {"claims": json.loads(claims.content)["claims"]}
        with pytest.raises(UmuhuzaError):
            opened(Sealable(json.dumps(content).encode(), payload.identity))


def test_the_table_has_every_event_that_is_no_plain_model_and_names_only_where_identity_may_be() -> None:
    no_form = {"receipt.delivered", "receipt.rejected", "chain.voided", "transfer.expired", "transfer.reopened"}
    assert set(TABLES) == set(EVENTS) - no_form - set(PLAIN)
    for event, table in TABLES.items():
        assert bool(table.identity) == EVENTS[event].identity
        assert not any(name.startswith("per_") for name in table.htcds)


def test_an_adversarial_bundle_is_refused_quickly() -> None:
    many = [{"linkId": "prs_Gender", "answer": []} for _ in range(5000)]
    began = time.process_time()
    with pytest.raises(PayloadError):
        opened(spoilt(change(SHEET, "item", to=many)))
    assert time.process_time() - began < 1


def test_a_case_of_a_child_has_its_caregiver_under_the_same_url() -> None:
    facts = identified(
        htcds={}, lawful=CONSENT, caregiver=Caregiver(status="guardian", best_interest_note="x", name="y")
    )
    parts = sealable("case.screened", facts)
    here, named = json.loads(parts.content)["payload"], json.loads(parts.identity)
    clear = here["entry"][place(here, "RelatedPerson")]
    assert named["entry"][place(named, "RelatedPerson")]["fullUrl"] == clear["fullUrl"]
    assert clear["resource"]["relationship"][0]["coding"][0]["code"] == "guardian"
    assert opened(parts).facts == facts
    assert opened(parts).recorded_at == NOW
