# SPDX-License-Identifier: Apache-2.0
"""The event catalogue as data (`data/events/`, one file per flow): where an event travels, as what, what it must hold.

Who may send an event to whom is not here but the policy's (`topics.catalogue`); how one is written down is
`schemas.elements` (FHIR messages) or `schemas.plain` (plain models), by whether its name stands there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from schemas.data_files import read_together
from schemas.envelope import FLOWS, KINDS, Kind
from schemas.lifecycle import MACHINES

Purpose = Literal[
    "assistance", "identification", "coordination", "protection", "investigation", "return", "rights", "receipt"
]
"""What is known of a person is shared for one of these."""
_MEMBERS = frozenset(
    ("flow", "kind", "schema", "machine", "variant", "identity", "purpose", "needs", "may", "en", "fr")
)


@dataclass(frozen=True, slots=True)
class EventType:
    """One row of the event catalogue."""

    name: str
    flow: str
    """`*`: whichever flow its thread or its chain has (`chain.voided` mends a chain where it is broken)."""
    kind: Kind
    schema: str
    """Version of its content, `major.minor`."""
    machine: str | None
    """Whose states it moves; None: no thread's; `*`: those of whichever thread it belongs to (it begins none)."""
    variant: str | None
    """The member of what it says whose code tells one step from another: `consent.withdrawn/service`."""
    identity: bool
    """Whether it may carry identity."""
    purpose: Purpose | None
    """It shares what is known of a person, for this, and therefore carries claims."""
    needs: tuple[str, ...]
    """Members of `Facts` that must be there."""
    may: tuple[str, ...]
    """Members of `Facts` that may."""
    labels: Mapping[str, str]
    """What people call it, by language."""


def _row(name: str, raw: Mapping[str, Any]) -> EventType:
    if not raw.keys() <= _MEMBERS or not {"flow", "kind", "schema", "en", "fr"} <= raw.keys():
        raise ValueError(f"event {name}: unknown or missing member")
    if raw["flow"] not in (*FLOWS, "*") or raw["kind"] not in KINDS:
        raise ValueError(f"event {name}: unknown flow or kind")
    if raw.get("machine") not in (None, "*", *MACHINES) or raw.get("purpose") not in (None, *get_args(Purpose)):
        raise ValueError(f"event {name}: unknown machine or purpose")
    return EventType(
        name=name,
        flow=raw["flow"],
        kind=raw["kind"],
        schema=raw["schema"],
        machine=raw.get("machine"),
        variant=raw.get("variant"),
        identity=raw.get("identity", False),
        purpose=raw.get("purpose"),
        needs=tuple(raw.get("needs", ())),
        may=tuple(raw.get("may", ())),
        labels=MappingProxyType({"en": raw["en"], "fr": raw["fr"]}),
    )


EVENTS: Mapping[str, EventType] = MappingProxyType(
    {name: _row(name, raw) for name, raw in tomllib.loads(read_together("schemas", "data", "events"))["event"].items()}
)
"""By name, in the order of flows' names and of the data."""

PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {event.name: event.purpose for event in EVENTS.values() if event.purpose is not None}
)
"""Events that share what is known of a person, and therefore carry claims, and for what."""


def _begins_in(machine: str) -> str | None:
    """The flow of the events that begin its threads; None: it has no threads of its own."""
    begin = {event.partition("/")[0] for before, event, _ in MACHINES[machine].steps if before is None}
    flows = {EVENTS[event].flow for event in begin & EVENTS.keys()} - {"*"}
    if len(flows) > 1:
        raise ValueError(f"machine {machine}: threads of two flows")
    return next(iter(flows), None)


THREAD_FLOW: Mapping[str, str] = MappingProxyType(
    {machine: flow for machine in MACHINES if (flow := _begins_in(machine)) is not None}
)
"""Machine -> the flow of its threads: that of their first record."""

FLOWS_WITH: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        event.name: frozenset(
            flow
            for machine, flow in THREAD_FLOW.items()
            if any(step.partition("/")[0] == event.name for step in MACHINES[machine].events)
        )
        for event in EVENTS.values()
        if event.machine == "*"
    }
)
"""Event of any thread -> the flows in which there are threads that know it."""
