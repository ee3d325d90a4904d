# SPDX-License-Identifier: Apache-2.0
"""Which step may follow which: the state machines of threads, as data (`data/lifecycle/`).

Purpose: sender's and receiver's adapters ask the same table, so that nobody sends what the other must refuse.
A machine belongs to one thread between one pair of agencies: the `initiator` sent the thread's first event, the
`recipient` is the other one.

Invariants, checked when the data is read and by property tests: deterministic (one step per state, event and sender);
every state can be reached; a final state is left only by a listed event; replaying an accepted sequence gives the same
state; both sides reach the same state whichever of two crossing events each of them saw first (except where one
reopens a case that the other one closes: no rule can know who is right).
Never: knows clocks or deadlines (whether an expiry counts is the initiator's mailbox's to say), rights (`topics.
catalogue`), or persons.

An event whose code matters to the step has a name for each ("consent.withdrawn/service"); a machine to which it does
not matter lists the event alone.

`received` is a person's act. That a machine has a record is not a state here but a receipt (`receipt.delivered`).

Sources: HL7 FHIR R4 Task.status; HL7 BSeR's transitions (here revocation is unilateral: a withdrawal of consent
cannot wait for the recipient).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from schemas.data_files import read_together
from schemas.errors import OrderError

Party = Literal["initiator", "recipient"]
PARTIES: tuple[Party, ...] = ("initiator", "recipient")


@dataclass(frozen=True, slots=True)
class Step:
    """What an event makes of a thread."""

    state: str
    crossed: bool
    """The sender had not seen yet what the other side did: delivered, and marked so for the person who reads it."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of a machine, as people and FHIR know it."""

    final: bool
    """Nothing more is expected; deadlines no longer run."""
    task_status: str | None
    """FHIR R4 Task.status; None where the machine is no Task."""
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """The states of one kind of thread, and what leads from one to the next."""

    states: Mapping[str, State]
    steps: Mapping[tuple[str | None, str, str], Step]
    """(state or None before the first event, event type, party) -> step."""
    events: tuple[str, ...]
    """Every event type that may move or visit it, in the data's order."""
    end_reasons: Mapping[str, Mapping[str, str]]
    """Coded reasons of `referral.ended` -> labels by language; empty elsewhere."""
    expiry: str | None = None
    """The event with which the initiator ends what was not answered in time, and never before its time."""
    reopening: str | None = None
    """The event with which the initiator confirms an acceptance that came too late."""


def _each_step(rows: list[dict[str, Any]]) -> Iterator[tuple[tuple[str | None, str, str], Step]]:
    for row in rows:
        events = [row["event"]] if isinstance(row["event"], str) else row["event"]
        for event in events:
            for before in row["from"]:
                for by in row["by"]:
                    yield (before or None, event, by), Step(row.get("to", before), row.get("crossed", False))


def _read(table: dict[str, Any]) -> Machine:
    states = {
        name: State(row.get("final", False), row.get("task"), MappingProxyType({"en": row["en"], "fr": row["fr"]}))
        for name, row in table["states"].items()
    }
    steps: dict[tuple[str | None, str, str], Step] = {}
    for key, step in _each_step(table.get("step", [])):
        before, _, by = key
        if key in steps:
            raise ValueError(f"lifecycle: two steps for {key}")
        if (before is not None and before not in states) or step.state not in states or by not in PARTIES:
            raise ValueError(f"lifecycle: unknown state or party in {key}")
        steps[key] = step
    return Machine(
        MappingProxyType(states),
        MappingProxyType(steps),
        tuple(dict.fromkeys(event for _, event, _ in steps)),
        MappingProxyType({name: MappingProxyType(row) for name, row in table.get("end_reasons", {}).items()}),
        table.get("expiry"),
        table.get("reopening"),
    )


_DATA = tomllib.loads(read_together("schemas", "data", "lifecycle"))
_OUTGOING = _read(_DATA["outgoing"])  # words for the states of `adapters.mailbox`; no steps

MACHINES: Mapping[str, Machine] = MappingProxyType(
    {name: _read(table) for name, table in sorted(_DATA.items()) if name not in ("version", "outgoing")}
)
"""By name: `referral`, `case`, ..."""


def step(machine: str, state: str | None, event: str, by: Party) -> Step:
    """The state after an event; `state` None: the thread's first.

    A sender must not send what comes back `crossed` here: it has seen the other side's last word (`next_events` does
    not offer it). A receiver delivers it.

    Raises:
        OrderError: `transition_invalid`, path the event type, or `*` when that is none of ours.
        KeyError: no such machine.
    """
    known, whole = MACHINES[machine], event.partition("/")[0]
    found = known.steps.get((state, event, by)) or known.steps.get((state, whole, by))
    if found is None:
        raise OrderError("transition_invalid", path=next((one for one in (event, whole) if one in known.events), "*"))
    return found


def next_events(machine: str, state: str | None, by: Party) -> tuple[str, ...]:
    """Event types that this party may send now, crossings apart. Raises KeyError: no such machine."""
    steps = MACHINES[machine].steps
    return tuple(
        event
        for event in MACHINES[machine].events
        if (found := steps.get((state, event, by))) is not None and not found.crossed
    )


def task_status(state: str) -> str:
    """FHIR R4 Task.status of a referral's state. Raises KeyError: no such state."""
    status = MACHINES["referral"].states[state].task_status
    if status is None:
        raise KeyError(state)
    return status


def state_label(machine: str, state: str, language: str) -> str:
    """How a state is shown (French unless English is asked); `outgoing` names the states of an item being sent.

    Raises KeyError: no such machine or state.
    """
    return _machine(machine).states[state].labels["en" if language == "en" else "fr"]


def _machine(name: str) -> Machine:
    return _OUTGOING if name == "outgoing" else MACHINES[name]
