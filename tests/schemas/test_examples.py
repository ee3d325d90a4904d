# SPDX-License-Identifier: Apache-2.0
"""The examples in `docs/examples/` are valid, say what the samples say, and name nobody who is not invented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.event_types import EVENTS
from schemas.lifecycle import MACHINES
from schemas.minimise import minimise
from tests.schemas.payload_gate import EXAMPLES, committed, patched, received, validator
from topics.policy_file import policy
from umuhuza import publish
from umuhuza.examples import SAMPLES, pages
from umuhuza.examples.cast import PEOPLE, evt_of, parties

EACH = list(EVENTS)


def texts(value: Any) -> Iterator[str]:
    """Every text inside of a JSON value, in its order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def test_every_event_type_has_one_example_and_there_is_no_other() -> None:
    assert {path.name.removesuffix(".json") for path in EXAMPLES.glob("*.json")} == set(EVENTS)
    assert set(SAMPLES) == set(EVENTS)


@pytest.mark.parametrize("event", EACH)
def test_what_is_committed_is_what_the_samples_make(event: str) -> None:
    text = (EXAMPLES / f"{event}.json").read_text(encoding="utf-8")
    assert text == json.dumps(pages.example(event), ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize("event", EACH)
def test_an_example_passes_its_published_schemas(event: str) -> None:
    example = committed(event)
    assert [error.json_path for error in validator(event).iter_errors(example["content"])] == []
    if example["identity"] is not None:
        named = validator(f"{event}.identity").iter_errors(example["identity"])
        assert [error.json_path for error in named] == []
    for path in example["schemas"].values():
        assert (EXAMPLES / path).resolve().is_file()


@pytest.mark.parametrize("event", EACH)
def test_a_recipient_opens_it_and_finds_what_the_sample_says(event: str) -> None:
    facts = SAMPLES[event][0]
    told, withheld = minimise(event, facts, pages.allowed(event, facts))
    opened = received(committed(event))
    assert opened.facts == told
    assert opened.withheld == withheld


@pytest.mark.parametrize("event", [name for name in EACH if not EVENTS[name].identity])
def test_what_may_name_nobody_names_nobody(event: str) -> None:
    assert committed(event)["identity"] is None


NAME_LIKE = re.compile(r"\b[A-ZÉ][a-zéèêëïçà]+ [A-ZÉ][a-zéèêëïçà]+\b")
TELEPHONE = re.compile(r"\+[0-9][0-9 ]{6,}[0-9]")
NAMING = ("as_given", "author", "reviewer", "person", "participants")


def naming(value: Any) -> Iterator[str]:
    """What stands where a person is named: in members and answers that are for it."""
    if isinstance(value, list):
        for each in value:
            yield from naming(each)
    if not isinstance(value, dict):
        return
    if str(value.get("linkId", "")).rpartition(".")[2] in NAMING:
        yield from texts([answer["valueString"] for answer in value["answer"] if "valueString" in answer])
    if value.get("resourceType") in ("Patient", "RelatedPerson"):
        yield from (each["text"] for each in value.get("name", ()) if "text" in each)
    for name, each in value.items():
        if name in NAMING and not isinstance(each, dict):
            yield from texts(each)
        else:
            yield from naming(each)


@pytest.mark.parametrize("event", EACH)
def test_everybody_is_invented_and_no_telephone_rings(event: str) -> None:
    example = committed(event)
    said = [*texts(example["content"]), *texts(example["identity"])]
    assert set(naming([example["content"], example["identity"]])) <= set(PEOPLE)
    assert {name for text in said for name in NAME_LIKE.findall(text)} <= set(PEOPLE)
    for number in (found for text in said for found in TELEPHONE.findall(text)):
        assert "00000" in number.replace(" ", ""), number


@pytest.mark.parametrize("event", EACH)
def test_names_stand_in_the_identity_part_alone(event: str) -> None:
    clear = "\n".join(texts(committed(event)["content"]))
    assert [name for person in PEOPLE for name in person.split() if name in clear] == []


def test_examples_refer_to_each_other_within_their_threads() -> None:
    ids = {evt_of(event): event for event in EVENTS}
    assert len(ids) == len(EVENTS)
    for event in EVENTS:
        said = committed(event)["manifest"]
        if "ref" in said:
            answered = committed(ids[said["ref"]])["manifest"]
            assert answered["thread"] == said["thread"], event
            assert {answered["iss"], answered["to"]} == {said["iss"], said["to"]}, event


def test_no_two_examples_share_a_salt() -> None:
    salts = [
        text
        for event in EVENTS
        for text in texts(committed(event)["content"]["claims"] or {})
        if re.fullmatch(r"[A-Za-z0-9_-]{43}", text)
    ]
    assert len(salts) > 3
    assert len(set(salts)) == len(salts)


@pytest.mark.parametrize("event", EACH)
def test_it_is_sent_by_who_may_send_it(event: str) -> None:
    rule, machine = policy().events[event], EVENTS[event].machine
    said = committed(event)["manifest"]
    assert (said["iss"], said["to"]) == parties(event)
    assert said["kind"] == rule.kind
    if machine in MACHINES:
        party = {"initiator", "recipient"} if rule.by == "holder" else {rule.by}
        assert party & {by for _, name, by in MACHINES[str(machine)].steps if name.partition("/")[0] == event}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_says_of_each_event_what_it_is_for_and_links_it(language: Any) -> None:
    page = pages.page(language)
    for event in EVENTS:
        assert f"[`{event}`](" in page
        assert f"| {pages.purpose(event, language)} |" in page
    events = (publish.DOCS / "events.md").read_text(encoding="utf-8")
    assert all(f"(examples/{event}.json)" in events for event in EVENTS)


def test_what_she_may_see_calls_nobody_a_victim_and_no_trade_a_traffic() -> None:
    french = " ".join(pages.purpose(event, "fr") for event in EVENTS).lower()
    assert [word for word in ("victime", "trafic") if word in french] == []


def test_an_example_that_is_changed_or_stale_is_named(tmp_path: Path) -> None:
    for name, text in pages.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("utf-8"))
    folder = tmp_path / pages.FOLDER
    changed = patched(committed("referral.declined"), [{"op": "replace", "path": "/identity", "value": {}}])
    (folder / "referral.declined.json").write_text(json.dumps(changed), encoding="utf-8")
    (folder / "referral.vanished.json").write_text("{}", encoding="utf-8")
    named = [name for name in publish.pages_differing(tmp_path) if name.startswith("docs/examples/")]
    assert named == ["docs/examples/referral.declined.json", "docs/examples/referral.vanished.json"]
