# SPDX-License-Identifier: Apache-2.0
"""What a record says with a correction of it, and whether its reader may learn what the correction brings. Pure.

Invariants: the record itself is never changed, its facts are made anew; a correction brings no field that the record
could not have brought to this reader (the same allow-list, for the same services); where a correction names a field and
brings nothing for it, the field says nothing any more, if its form allows that.
Must never: put a value into an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from adapters.mailbox_rows import Thread
from schemas.errors import OrderError, PayloadError, PolicyError
from schemas.forms import Caregiver, Facts, Form, Information, Referral
from schemas.lifecycle import MACHINES, next_events
from schemas.plain.alert import AlertMissing
from schemas.plain.record import RecordCorrected, Right
from schemas.plain.transfer import TransferRequested
from topics.catalogue import allowed_fields, answer_within_s

_FORM: Mapping[str, str] = {
    "referral.requested": "referral",
    "transfer.requested": "referral",
    "information.answered": "information",
    "case.identified": "",
    "case.screened": "",
    "case.updated": "",
    "alert.missing": "said",
}
"""Event whose form can be corrected -> where in `Facts` that form stands; "" where it is `Facts` itself."""
_MEMBERS: Mapping[str, frozenset[str]] = {
    "referral": frozenset(Referral.model_fields),
    "information": frozenset(Information.model_fields),
    "": frozenset(("birth", "caregiver")),
    "said": frozenset(("name", "birth")),
}
_CODED = ("referral.requested", "information.answered", "case.identified", "case.screened", "case.updated")


def require(said: RecordCorrected, type: str, services: tuple[str, ...]) -> None:
    """That this corrects what such a record says, and brings its reader nothing else.

    Args:
        type: of the record that it corrects.
        services: asked for on the thread; they widen what may travel.

    Raises:
        OrderError: `transition_invalid`: no such record can be corrected.
        PayloadError: `payload_invalid`: the record has no such field.
        PolicyError: `not_permitted`: its reader does not get that field.
    """
    form = _FORM.get(type)
    if form is None:
        raise OrderError("transition_invalid", "said.evt")
    services = services if said.right is None or said.right.services is None else said.right.services
    whole = form in ("said",) or type == "transfer.requested"  # made for one reader: nothing is left out
    allowed = None if whole else allowed_fields(type, services)
    for at, member, path in _brought(said, form):
        coded = member.startswith("htcds.")
        if (coded and type not in _CODED) or (not coded and member not in _MEMBERS[form]):
            raise PayloadError("payload_invalid", path=at)
        if allowed is not None and not any(path == one or path.startswith(f"{one}.") for one in allowed):
            if form != "" or not any(one.startswith(f"{path}.") for one in allowed):
                raise PolicyError("not_permitted", at)
            _require_parts(said, path, allowed)


def on_thread(thread: Thread, said: RecordCorrected, type: str, recorded_at: int) -> Thread:
    """The thread with a correction of the request that began it: both sides count alike, from what the record says.

    A priority that was wrong gives the time for the answer anew, from the correction on, while nobody has answered.

    Args:
        type: of the record that it corrects.
        recorded_at: of the correction, seconds since the epoch.
    """
    right = said.right
    if right is None or said.evt != thread.opened_by:
        return thread
    if right.services is not None:
        thread = replace(thread, services=right.services)
    expiry = MACHINES[thread.machine].expiry
    awaits = expiry is not None and expiry in next_events(thread.machine, thread.state, "initiator")
    within = None if right.priority is None else answer_within_s(type, right.priority)
    return thread if within is None or not awaits else replace(thread, answer_by=recorded_at + within)


def _require_parts(said: RecordCorrected, path: str, allowed: frozenset[str]) -> None:
    """Where a reader gets some members of a form only (of a caregiver: the status, not the name)."""
    caregiver = None if said.right is None else said.right.caregiver
    for name in Caregiver.model_fields if caregiver is not None else ():
        if f"{path}.{name}" not in allowed and getattr(caregiver, name) not in (None, False, "not-asked"):
            raise PolicyError("not_permitted", f"said.right.caregiver.{name}")


def _brought(said: RecordCorrected, form: str) -> Iterator[tuple[str, str, str]]:
    """Each thing that it brings: where in the event, which member of the form, and its path in the record's facts."""
    before = f"{form}." if form in ("referral", "information") else ""
    for name in ("name", "birth"):
        if getattr(said, name) is not None:
            yield f"said.{name}", name, before + name
    right = said.right or Right()
    for name in Right.model_fields:
        if name != "htcds" and getattr(right, name) is not None:
            yield f"said.right.{name}", name, before + name
    for index, one in enumerate(right.htcds or ()):
        yield f"said.right.htcds[{index}].field", f"htcds.{one.field}", f"htcds.{one.field}"


def as_corrected(facts: Facts, said: RecordCorrected) -> Facts:
    """The facts with one correction. Members that its form does not have are passed over."""
    coded = {one.field: one.answer for one in (said.right.htcds if said.right else None) or ()}
    kept = {name: value for name, value in facts.htcds.items() if f"htcds.{name}" not in said.fields}
    update: dict[str, Any] = {"htcds": {**kept, **coded}}
    changes = {name: getattr(said, name) for name in ("name", "birth") if getattr(said, name) is not None}
    if said.right is not None:
        brought = {name: getattr(said.right, name) for name in Right.model_fields if name != "htcds"}
        changes |= {name: value for name, value in brought.items() if value is not None}
    if facts.referral is not None:
        update["referral"] = _changed(facts.referral, "referral", said, changes)
    elif facts.information is not None:
        update["information"] = _changed(facts.information, "information", said, changes)
    elif isinstance(facts.said, TransferRequested):
        update["said"] = facts.said.model_copy(
            update={"referral": _changed(facts.said.referral, "referral", said, changes)}
        )
    elif isinstance(facts.said, AlertMissing):
        update["said"] = _changed(facts.said, "said", said, changes)
    else:
        update |= {name: value for name, value in changes.items() if name in _MEMBERS[""]}
    return facts.model_copy(update=update)


def _changed(form: Form, at: str, said: RecordCorrected, changes: Mapping[str, Any]) -> Form:
    """What is named and not brought says nothing any more; who looks after a child is never taken away."""
    fields = type(form).model_fields
    wrong = {path.split(".")[1] for path in said.fields if path.startswith(f"{at}.")}
    nothing = {
        name: fields[name].get_default()
        for name in wrong & fields.keys()
        if not fields[name].is_required() and name != "caregiver"
    }
    return form.model_copy(update={**nothing, **{name: value for name, value in changes.items() if name in fields}})
