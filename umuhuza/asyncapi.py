# SPDX-License-Identifier: Apache-2.0
"""The AsyncAPI 3 document of the mailboxes, made from the event catalogue and the policy (`docs/asyncapi.json`).

A channel is a flow, its address a mailbox: `{domain}.referral.{agency}`. A message is an event type, with the headers
that its record has in clear and a reference to the published schema of what is sealed in it. What AsyncAPI has no
word for (who may send it to whom, on which basis, who in the thread) stands beside it under `x-umuhuza`.

Invariants: the same catalogue, the same text; every event is in each channel in which it may travel, and in no other.
Must never: read or write a file (`umuhuza.publish` does); say a rule that is not the policy's.

Source: AsyncAPI 3.0.0; CloudEvents 1.0.2, Kafka binding; design of the record in `docs/wire-format.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from schemas.content import NAMED
from schemas.envelope import FLOWS
from schemas.event_types import EVENTS, EventType
from schemas.registry import ROLES
from topics.policy_file import policy

VERSION = "1.0"
"""Of the record format and, so far, of every event in it."""
PUBLISHED = "../schemas/published/"
"""From `docs/`."""
_AGENCY = "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"

_ABOUT = """Mailboxes of Umuhuza: one topic per flow and agency, read by that agency only.

The value on the wire is a record (media type application/vnd.umuhuza.record): a signed manifest and one sealed part
after another, see wire-format.md. The schemas here are of the part `content` once it is opened; the part `identity`,
where somebody may be named, has a schema of its own (`x-umuhuza.identity`). A broker and a gateway see the headers,
the key and the manifest, never the event type. Over HTTP the same records travel as openapi.json says."""


def document() -> dict[str, Any]:
    """The whole document."""
    flows = [flow for flow in FLOWS if flow in policy().mailboxes]
    return {
        "asyncapi": "3.0.0",
        "id": "urn:umuhuza:mailboxes",
        "info": {
            "title": "Umuhuza: mailboxes",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {flow: _channel(flow) for flow in flows},
        "operations": {name: operation for flow in flows for name, operation in _operations(flow).items()},
        "components": {
            "parameters": {
                "domain": {"description": "Domain of the mailbox's owner: two letters."},
                "agency": {"description": f"Name or handle of the mailbox's owner: {_AGENCY}."},
            },
            "messages": {event.name: _message(event) for event in EVENTS.values()},
        },
    }


def text() -> str:
    """The document as it is published."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def travelling_in(flow: str) -> list[EventType]:
    """Events that may travel in a flow, in the catalogue's order; `*` events go where another one goes."""
    return [event for event in EVENTS.values() if event.flow in (flow, "*")]


def _roles(roles: Iterable[str]) -> list[str]:
    found = set(roles)
    return ["*"] if found == set(ROLES) else sorted(found)


def _channel(flow: str) -> dict[str, Any]:
    return {
        "address": f"{{domain}}.{flow}.{{agency}}",
        "title": f"Mailbox for {flow}",
        "description": f"Has one: {', '.join(_roles(policy().mailboxes[flow])).replace('*', 'every member')}.",
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in ("domain", "agency")},
        "messages": {event.name: _reference(event) for event in travelling_in(flow)},
        "bindings": {"kafka": {"partitions": 1, "bindingVersion": "0.5.0"}},
    }


def _reference(event: EventType) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{event.name}"}


def _operations(flow: str) -> dict[str, dict[str, Any]]:
    channel = {"$ref": f"#/channels/{flow}"}
    messages = [{"$ref": f"#/channels/{flow}/messages/{event.name}"} for event in travelling_in(flow)]
    return {
        f"send-{flow}": {
            "action": "send",
            "channel": channel,
            "title": f"Send into another agency's mailbox for {flow}",
            "messages": messages,
        },
        f"receive-{flow}": {
            "action": "receive",
            "channel": channel,
            "title": f"Read one's own mailbox for {flow}",
            "messages": messages,
        },
    }


def _headers(event: EventType) -> dict[str, Any]:
    """CloudEvents copies of what the manifest says; they must match it."""
    kind = f"[a-z]+\\.{event.kind}" if event.flow == "*" else f"{event.flow}\\.{event.kind}"
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "content-type"],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": {
                "type": "string",
                "format": "uuid",
                "description": "evt: UUIDv7, unique for ever.",
            },
            "ce_source": {"type": "string", "pattern": f"^[a-z]{{2}}/{_AGENCY}$", "description": "iss: who signed."},
            "ce_type": {
                "type": "string",
                "pattern": f"^{kind}$",
                "description": "Flow and kind, never the type.",
            },
            "content-type": {"const": "application/vnd.umuhuza.record"},
        },
    }


def _message(event: EventType) -> dict[str, Any]:
    rule = policy().events[event.name]
    said: dict[str, Any] = {
        "flow": event.flow,
        "kind": event.kind,
        "schema": event.schema,
        "machine": event.machine,
        "by": rule.by,
        "from": _roles(rule.sender),
        "to": _roles(rule.to),
        "basis": sorted(rule.basis),
        "answerWithinSeconds": dict(rule.answer_within_s),
    }
    if event.name in NAMED:
        said["identity"] = f"{PUBLISHED}{event.name}.identity.schema.json"
    return {
        "name": event.name,
        "title": event.labels["en"],
        "summary": event.labels["fr"],
        "contentType": "application/json",
        "headers": _headers(event),
        "payload": {"$ref": f"{PUBLISHED}{event.name}.schema.json"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$", "description": "The thread."},
                "bindingVersion": "0.5.0",
            }
        },
        "x-umuhuza": said,
    }
