# SPDX-License-Identifier: Apache-2.0
"""What a receiver does with an example of `docs/examples/`, and with one that a payload vector has spoilt."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from schemas.errors import UmuhuzaError
from schemas.events import Opened, decompose
from topics.catalogue import Act, may
from umuhuza.fictional import fictional_registry
from umuhuza.publish import DOCS, PUBLISHED

EXAMPLES = DOCS / "examples"
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "payloads"
Json = dict[str, Any]


def committed(event: str) -> Json:
    """The example as it stands in `docs/`."""
    found: Json = json.loads((EXAMPLES / f"{event}.json").read_text(encoding="utf-8"))
    return found


def vectors() -> list[Json]:
    """Every payload vector, file by file."""
    found: list[Json] = []
    for path in sorted(VECTORS.glob("*.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["vectors"]
    return found


def patched(document: Json, patch: list[Json]) -> Json:
    """A copy changed by a JSON Patch (RFC 6902) of add, remove and replace. KeyError, IndexError: it does not fit."""
    document = copy.deepcopy(document)
    for change in patch:
        *above, last = change["path"].removeprefix("/").split("/")
        node: Any = document
        for part in above:
            node = node[int(part) if isinstance(node, list) else part]
        where: int | str = last
        if isinstance(node, list):
            where = len(node) if last == "-" else int(last)
        if change["op"] == "add" and isinstance(node, list):
            if not 0 <= int(where) <= len(node):
                raise IndexError(change["path"])
            node.insert(int(where), change["value"])
            continue
        if change["op"] != "add":
            node[where]  # what is not there cannot be replaced or removed
        if change["op"] == "remove":
            del node[where]
        else:
            node[where] = change["value"]
    return document


def _bytes(part: Any) -> bytes:
    return b"" if part is None else json.dumps(part, ensure_ascii=False).encode()


def received(example: Json) -> Opened:
    """Opened as its recipient's adapter does: the gate, the rules, then whether its sender may send it.

    Raises:
        PayloadError, PolicyError: as the adapter would say them.
    """
    said = example["manifest"]
    opened = decompose(
        _bytes(example["content"]),
        _bytes(example["identity"]),
        iss=said["iss"],
        to=said["to"],
        evt=said["evt"],
        thread=said["thread"],
    )
    at = datetime.fromisoformat(example["content"]["recorded_at"])
    act = Act("receive", said["iss"], said["topic"], said["kind"], opened.type, opened.claims, at)
    may(act, fictional_registry()).require()
    return opened


def spoilt(vector: Json) -> Json:
    return patched(committed(vector["event"]), vector["patch"])


def refusal(vector: Json) -> tuple[str, str | None] | None:
    """(code, path) with which the spoilt example is refused; None when it is taken."""
    try:
        received(spoilt(vector))
    except UmuhuzaError as exc:
        return exc.code, exc.path
    return None


@cache
def validator(name: str) -> Draft202012Validator:
    """Of one published schema: `<event>` or `<event>.identity`."""
    return Draft202012Validator(json.loads((PUBLISHED / f"{name}.schema.json").read_text(encoding="utf-8")))


def schema_refuses(vector: Json) -> bool:
    """Whether a published schema says no, of content or, where there is one, of identity."""
    made, event = spoilt(vector), vector["event"]
    if not validator(event).is_valid(made["content"]):
        return True
    has_schema = (PUBLISHED / f"{event}.identity.schema.json").exists()
    return made["identity"] is not None and has_schema and not validator(f"{event}.identity").is_valid(made["identity"])
