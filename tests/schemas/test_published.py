# SPDX-License-Identifier: Apache-2.0
"""The published schemas are what the tables make, take what we write, and refuse what a schema can express."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas import htcds, publish
from schemas.event_types import EVENTS
from schemas.forms import Facts
from tests.schemas.samples import SAMPLES, sealable
from tests.schemas.test_fhir import MUTATIONS, Change, spoilt
from umuhuza.publish import PUBLISHED, differing, main

EACH = [(event, facts) for event, each in SAMPLES.items() for facts in each]


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((PUBLISHED / f"{name}.schema.json").read_text(encoding="utf-8")))


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema of an object inside of a schema."""
    if isinstance(schema, list):
        return [found for each in schema for found in objects(each)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") == "object" else []
    return here + [found for each in schema.values() for found in objects(each)]


def test_what_is_committed_is_what_the_tables_make() -> None:
    assert differing(PUBLISHED) == []


def test_every_event_type_is_published_and_identity_where_it_may_be() -> None:
    names = set(publish.files())
    for event in EVENTS.values():
        assert f"{event.name}.schema.json" in names
        assert (f"{event.name}.identity.schema.json" in names) == event.identity
        assert f"`{event.name}`" in publish.files()["README.md"]


@pytest.mark.parametrize("name", sorted(name for name in publish.files() if name.endswith(".json")))
def test_each_is_a_valid_closed_schema(name: str) -> None:
    schema = json.loads(publish.files()[name])
    Draft202012Validator.check_schema(schema)
    for each in objects(schema):
        assert each["additionalProperties"] is False or each == {"type": "object"}


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_what_we_write_is_valid(event: str, facts: Facts) -> None:
    parts = sealable(event, facts)
    assert [error.json_path for error in validator(event).iter_errors(json.loads(parts.content))] == []
    if parts.identity:
        assert [each.json_path for each in validator(f"{event}.identity").iter_errors(json.loads(parts.identity))] == []


@pytest.mark.parametrize(("what", "change_it", "_", "expressible"), MUTATIONS, ids=[each[0] for each in MUTATIONS])
def test_what_the_gate_refuses_a_schema_refuses_where_it_can_say_so(
    what: str, change_it: Change, _: str, expressible: bool
) -> None:
    content = json.loads(spoilt(change_it).content)
    assert validator("referral.requested").is_valid(content) is not expressible, what


def test_each_member_of_content_is_required_and_no_other_is_taken() -> None:
    content = json.loads(sealable("referral.declined", SAMPLES["referral.declined"][0]).content)
    for name in content:
        assert not validator("referral.declined").is_valid({key: content[key] for key in content if key != name})
    assert not validator("referral.declined").is_valid(content | {"name": "x"})
    assert not validator("referral.accepted").is_valid(content)


def test_code_lists_are_the_standards() -> None:
    text = (PUBLISHED / "case.screened.schema.json").read_text(encoding="utf-8")
    for name in ("vic_TypeOfExploitation", "vic_MethodsOfControl", "cas_Status"):
        assert json.dumps(sorted(htcds.CODELISTS[name]))[1:-1].replace(", ", ",") in "".join(text.split())


def test_the_command_names_what_differs_and_writes_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], tmp_path) == 1
    assert len(capsys.readouterr().out.split()) == len(publish.files())
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / "referral.accepted.schema.json").write_text("{}")
    (tmp_path / "stale.schema.json").write_text("{}")
    (tmp_path / "README.md").unlink()
    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out.split() == ["README.md", "referral.accepted.schema.json", "stale.schema.json"]
