# SPDX-License-Identifier: Apache-2.0
"""The AsyncAPI document is read by the standard parser, and says what catalogue, policy and record format say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import cloudevents_headers
from schemas.event_types import EVENTS
from schemas.publish import files
from schemas.registry import ROLES
from tests.domain import Domain
from tests.node_programs import NODE, node_with
from topics.catalogue import mailboxes_of
from topics.policy_file import policy
from umuhuza.publish import DOCS

FILE = DOCS / "asyncapi.json"


@pytest.fixture(scope="module")
def node() -> str:
    return node_with("@asyncapi/parser")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def parsed(node: str, file: Path) -> tuple[int, dict[str, Any]]:
    run = subprocess.run(
        [node, "asyncapi.mjs", str(file)], cwd=NODE, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert run.stdout, run.stderr[-2000:]
    return run.returncode, json.loads(run.stdout)


def messages_of(said: dict[str, Any]) -> dict[str, set[str]]:
    return {address.split(".")[1]: set(names) for address, names in said["channels"].items()}


def test_the_standard_parser_takes_the_document_and_every_schema_behind_it(node: str) -> None:
    status, said = parsed(node, FILE)
    assert [one for one in said["diagnostics"] if one["severity"] in ("error", "warning")] == []
    assert (status, said["ok"]) == (0, True)
    assert said["messages"].keys() == EVENTS.keys()
    for name, message in said["messages"].items():
        published = json.loads(files()[f"{name}.schema.json"])
        assert message["payload"]["$id"] == published["$id"]
        assert message["payload"]["required"] == published["required"]
    travelling = messages_of(said)
    assert travelling.keys() == policy().mailboxes.keys()
    for name, event in EVENTS.items():
        assert {flow for flow, names in travelling.items() if name in names} == (
            set(travelling) if event.flow == "*" else {event.flow}
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("../schemas/published/receipt.delivered.schema.json", "../schemas/published/none.schema.json"),
        ('"address": "{domain}.receipt.{agency}"', '"address": "{domain}.receipt.{office}"'),
    ],
)
def test_the_standard_parser_notices_a_wrong_document(node: str, tmp_path: Path, before: str, after: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert before in text
    wrong = tmp_path / "docs" / "asyncapi.json"
    wrong.parent.mkdir()
    (tmp_path / "schemas").symlink_to(DOCS.parent / "schemas")
    wrong.write_text(text.replace(before, after), encoding="utf-8")
    status, said = parsed(node, wrong)
    assert (status, said["ok"]) == (1, False)


def test_the_address_of_a_channel_is_the_mailbox_of_an_agency(document: dict[str, Any]) -> None:
    for agency in Domain().registry.agencies.values():
        domain, _, name = agency.id.partition("/")
        addresses = {
            channel["address"].replace("{domain}", domain).replace("{agency}", name)
            for channel in document["channels"].values()
        }
        assert set(mailboxes_of(agency)) <= addresses


def test_headers_are_those_that_a_record_has(document: dict[str, Any]) -> None:
    message = document["components"]["messages"]["referral.requested"]
    headers = {name: value.decode("ascii") for name, value in cloudevents_headers(Domain().record().manifest)}
    assert headers.keys() == message["headers"]["properties"].keys() == set(message["headers"]["required"])
    assert message["headers"]["properties"]["ce_type"]["pattern"] == "^referral\\.request$"
    assert headers["ce_type"] == "referral.request"
    assert headers["content-type"] == message["headers"]["properties"]["content-type"]["const"]


def test_who_may_send_it_to_whom_is_the_policys_word(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        rule, said = policy().events[name], message["x-umuhuza"]
        for member, roles in (("from", rule.sender), ("to", rule.to)):
            assert set(ROLES if said[member] == ["*"] else said[member]) == roles
        assert said["by"] == rule.by
        assert frozenset(said["basis"]) == rule.basis
        assert said["answerWithinSeconds"] == dict(rule.answer_within_s)
        assert ("identity" in said) == (f"{name}.identity.schema.json" in files())
