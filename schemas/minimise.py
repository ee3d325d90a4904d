# SPDX-License-Identifier: Apache-2.0
"""What of the facts travels: the paths that name fields, and what an allow-list or the person herself keeps back.

Invariants: nothing leaves that the event's table (`schemas.elements`) has no place for, that is not on the reader's
list, or that she refused to share; what makes an event itself and lawful is on nobody's list to leave out.
Must never: put a value into an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from schemas import fhir, htcds
from schemas.elements import TABLES
from schemas.errors import PayloadError, PolicyError
from schemas.forms import (
    Answer,
    Birth,
    Caregiver,
    Facts,
    Feedback,
    Information,
    Lawful,
    Movement,
    Question,
    Receipt,
    Referral,
    Service,
    validated,
)
from schemas.plain.record import RecordCorrected
from schemas.shape import Leaf, form_of, leaves
from schemas.whom import referral_of

LEAVES: tuple[Leaf, ...] = tuple(
    leaf
    for name, form in (
        ("lawful", Lawful),
        ("referral", Referral),
        ("birth", Birth),
        ("caregiver", Caregiver),
        ("answer", Answer),
        ("service", Service),
        ("movement", Movement),
        ("feedback", Feedback),
        ("question", Question),
        ("information", Information),
        ("receipt", Receipt),
    )
    for leaf in leaves(form, name)
)
"""Every answer of the forms, with its path."""
KNOWN_PATHS = frozenset({*(leaf.path for leaf in LEAVES), *(f"htcds.{name}" for name in htcds.FIELDS)})
"""Every name that a field of `Facts` may have in an allow-list or in `withheld`."""

# What an event is not itself without, and what makes it lawful. Not on anybody's list to leave out.
_ALWAYS = (
    "lawful",
    "answer",
    "service",
    "movement",
    "feedback",
    "question",
    "information.not_known",
    "information.not_shared",
    "receipt",
    "referral.priority",
    "referral.services",
    "referral.local_service",
    "referral.name.as_given",
    "referral.name.script",
    "referral.birth",
    "referral.told_and_refused",
    "referral.caregiver.status",
    "caregiver.status",
)
_WHOLE = ("referral.birth", "birth", "information.birth", "lawful.consent")
"""Forms whose members make no sense alone."""


def under(path: str, above: str) -> bool:
    """Whether a path is that one, or below it."""
    return path == above or path.startswith(above + ".")


def listed(path: str, names: frozenset[str]) -> bool:
    """Whether a path, or one above it, is on a list."""
    while path not in names:
        path, _, _ = path.rpartition(".")
        if not path:
            return False
    return True


def field_paths(facts: Facts) -> tuple[str, ...]:
    """What these facts say, as the paths an allow-list names: "htcds.prs_Gender", "referral.risk.level".

    Only what is there: neither absent answers nor defaults. A list may also name what is above ("referral.risk").
    """
    return (*(f"htcds.{name}" for name in sorted(facts.htcds)), *fhir.said(facts, LEAVES))


def _strip(form: BaseModel, at: str, keep: Callable[[str], bool]) -> dict[str, Any] | None:
    """A form's members that are kept, as plain data; None when none says anything."""
    data: dict[str, Any] = {}
    says = False
    for name, info in type(form).model_fields.items():
        path = f"{at}.{name}" if at else name
        value = getattr(form, name)
        if isinstance(value, BaseModel) and form_of(info.annotation) is not None and path not in _WHOLE:
            inner = _strip(value, path, keep)
            if inner is not None:
                data[name], says = inner, True
        elif keep(path):
            data[name] = value.model_dump() if isinstance(value, BaseModel) else value
            says = says or info.is_required() or value != info.default
    if not says:
        return None
    for name, info in type(form).model_fields.items():
        if info.is_required() and name not in data:
            data[name] = getattr(form, name)
    return data


REFUSABLE = frozenset(
    ".".join(path.split(".")[:length])
    for whole in (*(f"htcds.{name}" for name in htcds.FIELDS), *(leaf.path for leaf in leaves(Referral, "referral")))
    for path in (whole, whole.partition(".")[2])
    for length in range(1, path.count(".") + 2)
) - {"htcds", "referral"}
"""What `told_and_refused` may name: a field, a group of them, an HTCDS field; with or without what it stands under."""


def _refusals_name_fields(facts: Facts) -> None:
    """What she refused and no field is called would be shared all the same, and nobody would notice.

    Raises PayloadError: `payload_invalid`. Asked of the sender only: who reads it can keep nothing back any more.
    """
    referral = referral_of(facts)
    for index, each in enumerate(() if referral is None else referral.told_and_refused):
        if each not in REFUSABLE:
            at = "referral" if facts.referral is not None else "said.referral"
            raise PayloadError("payload_invalid", path=f"{at}.told_and_refused[{index}]")


def first_refused(facts: Facts, refused: Iterable[str]) -> str | None:
    """The first field of what is told later that a person refused to share before, by names as in
    `told_and_refused`. None: there is none."""
    names = frozenset(name.removeprefix("referral.").removeprefix("htcds.") for name in refused)
    told = [path for path in field_paths(facts) if path.startswith(("information.", "htcds."))]
    if isinstance(facts.said, RecordCorrected):
        told += facts.said.fields
    return next((path for path in told if listed(path.partition(".")[2], names)), None)


def minimise(type: str, facts: Facts, allowed: frozenset[str] | None) -> tuple[Facts, tuple[str, ...]]:
    """What of these facts travels in this event to this reader, and the sorted names of what does not.

    Left out: HTCDS fields that the event's table has no place for, fields not on the allow-list, and fields that the
    person refused to share (`told_and_refused`). HTCDS values come out as `htcds.check` writes them.

    Args:
        allowed: paths as `field_paths` gives them, or above; None: no list for this reader.

    Raises:
        PayloadError: `payload_invalid`: an HTCDS value; a path of `facts`.
        PolicyError: `consent_missing`: on the basis of consent, she refused a field without which there is no event.
    """
    if facts.receipt is not None and allowed is None:
        return facts, ()  # of machines, about nobody: nothing is anybody's to leave out
    table = TABLES.get(type)
    _refusals_name_fields(facts)
    refused = frozenset(
        name
        for each in (facts.referral.told_and_refused if facts.referral is not None else ())
        for name in (each, f"htcds.{each}", f"referral.{each}")
    ).union(facts.information.not_shared if facts.information is not None else ())

    def keep(path: str) -> bool:
        if any(under(path, each) for each in _ALWAYS):
            return True
        return (allowed is None or listed(path, allowed)) and not listed(path, refused)

    checked_htcds = {name: htcds.check(name, value) for name, value in facts.htcds.items()}
    before = facts.model_copy(update={"htcds": checked_htcds})
    if facts.lawful is not None and facts.lawful.basis == "consent":
        for path in field_paths(before):
            if path.startswith("referral.") and keep(path) and listed(path, refused):
                raise PolicyError("consent_missing", path=path)
    data: dict[str, Any] = {"occurred_at": facts.occurred_at}
    data["htcds"] = {
        name: value
        for name, value in checked_htcds.items()
        if table is not None and name in table.htcds and keep(f"htcds.{name}")
    }
    for name in Facts.model_fields:
        value = getattr(facts, name)
        if not isinstance(value, BaseModel):
            continue
        if name in _WHOLE:
            data[name] = value.model_dump() if keep(name) else None
        elif name == "said":  # made for one kind of reader: nothing in it is anybody's to leave out
            data[name] = value
        else:
            data[name] = _strip(value, name, keep)
    after = validated(Facts, data)
    left = set(field_paths(after))
    return after, tuple(sorted(path for path in field_paths(before) if path not in left))
