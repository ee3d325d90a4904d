# SPDX-License-Identifier: Apache-2.0
"""A correction as a caseworker writes it: the form once more, with only those cells filled in that are right now.

The sheet « Orientation » of the template, or a CSV with some of its columns, with one row. What is filled in replaces
what was sent; what was wrong and is not known better is named by its column. The consent, or another lawful basis, is
filled in as in every form, since a correction tells of her too.

Invariants: nothing is corrected that was not written; a word that names no field corrects nothing and is told; the same
words and limits as of the form (`row.Row`). Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.connectors import columns
from adapters.connectors.contract import Problem
from adapters.connectors.refusals import refused_field
from adapters.connectors.rows import single_row
from adapters.connectors.sheets import Tables
from schemas import htcds
from schemas.forms import Facts, Referral, validated
from schemas.plain.record import CodedAnswer, RecordCorrected, Right
from schemas.shape import leaves

_LEAVES = tuple(leaf.path.removeprefix("referral.") for leaf in leaves(Referral, "referral"))
_OTHER = {"priorite": "priority", "services": "services", "retour_attendu": "feedback_by", "refus_partage": ""}
"""Columns of a referral that nobody refuses to share, and what they fill; "": cannot be corrected."""
_WITHOUT_FORM = ("birth", "caregiver")
"""What a case says beside its HTCDS fields: its paths begin with no form."""


def read_correction(
    tables: Tables,
    *,
    evt: str,
    of: str,
    reason: str,
    source: str,
    wrong: Sequence[str],
    now: datetime.datetime,
) -> Facts | tuple[Problem, ...]:
    """The row as what `record.corrected` says.

    Args:
        evt: which record was wrong.
        of: its event type.
        reason, source: codes of `RecordCorrected`.
        wrong: columns, by their header or name: wrong, and not known better.
        now: aware; its zone is the agency's own.

    Raises PayloadError: `payload_invalid`: nothing is corrected, an unknown code, or what no such record says.
    """
    row = single_row(tables, now)
    if isinstance(row, Problem):
        return (row,)
    referral = row.whatever_is_filled()
    codes = referral.pop("htcds")
    facts = {name: referral.pop(name) for name in ("occurred_at", "lawful")}
    gone = [_meant(text) for text in wrong]
    if row.problems or not all(gone):
        return (*row.problems, *(_unknown(text) for text, name in zip(wrong, gone, strict=True) if not name))
    fields = (*_paths(referral, of), *_all_of(gone, of), *(f"htcds.{name}" for name in codes))
    said: dict[str, Any] = {
        "evt": evt,
        "fields": tuple(dict.fromkeys(fields)),
        "reason": reason,
        "source": source,
        **{name: referral.pop(name) for name in ("name", "birth") if name in referral},
    }
    right: dict[str, Any] = {**referral, **({"htcds": tuple(map(_coded, codes.items()))} if codes else {})}
    if right:
        said["right"] = validated(Right, right, "said.right")
    corrected = validated(RecordCorrected, said, "said")
    return validated(Facts, facts).model_copy(update={"said": corrected})


def _coded(answer: tuple[str, str | tuple[str, ...]]) -> CodedAnswer:
    name, said = answer
    values = (said,) if isinstance(said, str) else said
    return validated(CodedAnswer, {"field": name, "values": values}, "said.right.htcds")


def _paths(referral: Mapping[str, Any], of: str) -> Iterator[str]:
    """Of what is brought, as an allow-list names it."""
    for leaf in _LEAVES:
        name, _, member = leaf.partition(".")
        if name not in referral:
            continue
        whole = referral[name]
        if not member or not isinstance(whole, Mapping) or member in whole:
            yield _path(leaf, of)


def _all_of(names: Sequence[str | None], of: str) -> Iterator[str]:
    for name in names:
        if name in htcds.FIELDS:
            yield f"htcds.{name}"
        for leaf in _LEAVES:
            if name is not None and (leaf == name or leaf.startswith(f"{name}.")):
                yield _path(leaf, of)


def _path(leaf: str, of: str) -> str:
    if of == "information.answered":
        return f"information.{leaf}"
    plain = of.startswith("case.") and leaf.partition(".")[0] in _WITHOUT_FORM
    return leaf if plain else f"referral.{leaf}"


def _meant(text: str) -> str | None:
    """The field that a column's header names; None: no field that could be wrong."""
    column = columns.recognise(text)
    return (_OTHER[column] or None) if column in _OTHER else refused_field(text)


def _unknown(text: str) -> Problem:
    quoted = text if len(text) <= 60 else text[:57] + "..."
    return Problem(
        "--wrong",
        "row_invalid",
        f"« {quoted} » n'est le nom d'aucune rubrique que l'on puisse corriger. Recopiez l'en-tête de la colonne.",
        f"« {quoted} » is the name of no field that can be corrected. Copy the column's header.",
    )
