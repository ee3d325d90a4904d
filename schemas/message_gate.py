# SPDX-License-Identifier: Apache-2.0
"""The gate of a message's two halves: each Bundle against the closed table of its event, and one against the other.

What passes is FHIR R4, and what FHIR leaves open is closed here too: MessageHeader first, each resource once, fullUrls,
references and their targets, sizes. The published JSON Schemas are made from the same shapes.

Invariants: an element that the table does not name is refused; a reader of a newer minor leaves it out instead
(`Context.tolerant`).
Must never: put a value into an error.

Source: HL7 FHIR R4 (4.0.1) Bundle, Messaging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from schemas.element_shapes import HTCDS
from schemas.elements import TABLES, Entry, role_of
from schemas.shape import FULL_URL, Const, Context, Given, List, Object, Schema, Shape, WrongError, closed, where, wrong


@dataclass(frozen=True, slots=True)
class Message:
    """The Bundle of one half of a message, as a shape."""

    entries: Mapping[str, Entry]
    kind: Literal["message", "collection"]
    _frame: Object = field(init=False, repr=False, compare=False)
    _required: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_frame", self.frame())
        required = frozenset(role for role, entry in self.entries.items() if entry.required)
        object.__setattr__(self, "_required", required)

    def frame(self) -> Object:
        """The Bundle around its resources."""
        members: dict[str, Shape] = {
            "resourceType": Const("Bundle"),
            "type": Const(self.kind),
            "entry": _ENTRY_LIST,
        }
        return Object({"id": Given("evt"), **members} if self.kind == "message" else members)

    def check(self, value: Any, context: Context) -> None:
        """Hold a parsed Bundle against the shape; a tolerant reader's leftovers are taken out of it.

        Raises:
            WrongError: with where, never with what.
        """
        self._frame.check(value, context)
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
        if not roles >= self._required:
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
        """`$defs` of `schema`: one per role."""
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
