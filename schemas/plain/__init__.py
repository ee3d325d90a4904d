# SPDX-License-Identifier: Apache-2.0
"""Events for which FHIR has nothing: plain forms, one module per flow, each with its `MODELS`.

What an event says is one form in `Facts.said`. Its members whose metadata says `identity` travel in the identity part,
at the same place; a form inside a list names nobody, since the halves of a list could not be put together again. Where
the event carries claims, `lawful` stands beside it, with the salt of the consent's commitment:

    content.payload   {"said": {...}, "lawful": {...}, "salt": "..."}
    identity          {"said": {...}, "lawful": {"author": ..., "reason": ...}}

Of `lawful`, the authorisations stand in the claims alone, as they do beside a FHIR message.

Must never: put a value into an error.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.forms import Form, Lawful
from schemas.plain import (
    alert,
    attachment,
    case,
    consent,
    directory,
    investigation,
    knowledge,
    record,
    rights,
    statistics,
    transfer,
)
from schemas.shape import Object, Shape, String, form_of, moment, of_annotation

PLAIN: Mapping[str, type[Form]] = MappingProxyType(
    {
        event: model
        for module in (
            alert,
            attachment,
            case,
            consent,
            directory,
            investigation,
            knowledge,
            record,
            rights,
            statistics,
            transfer,
        )
        for event, model in module.MODELS.items()
    }
)
"""Event type -> form of what it says."""

_SALT = String(43, 43, "[A-Za-z0-9_-]{43}")


def _identity(info: FieldInfo) -> bool:
    return bool(cast("dict[str, Any]", info.json_schema_extra or {}).get("identity"))


def _names_somebody(model: type[BaseModel]) -> bool:
    return any(
        _identity(info) or ((inner := form_of(info.annotation)) is not None and _names_somebody(inner))
        for info in model.model_fields.values()
    )


def _alone(info: FieldInfo) -> type[BaseModel] | None:
    """The form that a field holds as such, not in a list."""
    return None if typing.get_origin(info.annotation) is tuple else form_of(info.annotation)


def _half(model: type[BaseModel], identity: bool) -> Object:
    """The members of a form that travel in that part. A required one that names is required where it travels."""
    required: dict[str, Shape] = {}
    optional: dict[str, Shape] = {}
    for name, info in model.model_fields.items():
        inner = _alone(info)
        if inner is not None and _names_somebody(inner):
            half = _half(inner, identity)
            if half.required or half.optional:
                must = info.is_required() and (bool(half.required) or not identity)
                (required if must else optional)[name] = half
        elif _identity(info) is identity:
            shape = of_annotation(info.annotation, tuple(info.metadata))
            (required if info.is_required() else optional)[name] = shape
    return Object(required, optional)


def content_shape(event: str, claims: bool) -> Object:
    """Of the payload of this event."""
    said = {"said": cast("Shape", _half(PLAIN[event], identity=False))}
    if not claims:
        return Object(said)
    lawful = _half(Lawful, identity=False)
    basis = Object(lawful.required, {name: each for name, each in lawful.optional.items() if name != "authorisations"})
    return Object({**said, "lawful": basis}, {"salt": _SALT})


def identity_shape(event: str, claims: bool) -> Object | None:
    """Of the identity part; None where nobody can be named."""
    half = _half(PLAIN[event], identity=True)
    lawful: dict[str, Shape] = {"lawful": _half(Lawful, identity=True)} if claims else {}
    if half.required:
        return Object({"said": half}, lawful)
    said: dict[str, Shape] = {"said": half} if half.optional else {}
    return Object({}, {**said, **lawful}) if said or lawful else None


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, tuple | list):
        return [_written(each) for each in value]
    if isinstance(value, BaseModel):
        return {
            name: _written(inner) for name in type(value).model_fields if (inner := getattr(value, name)) is not None
        }
    return value


def halves(form: BaseModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a form travels in content and what in identity, as JSON; what is None in neither."""
    content: dict[str, Any] = {}
    named: dict[str, Any] = {}
    for name, info in type(form).model_fields.items():
        value = getattr(form, name)
        if value is None:
            continue
        if isinstance(value, BaseModel) and _names_somebody(type(value)):
            content[name], inner = halves(value)
            if inner:
                named[name] = inner
        elif _identity(info):
            named[name] = _written(value)
        else:
            content[name] = _written(value)
    return content, named


def together(content: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `halves`."""
    found = dict(content)
    for name, value in named.items():
        found[name] = together(found.get(name, {}), value) if isinstance(value, dict) else value
    return found
