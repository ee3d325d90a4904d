# SPDX-License-Identifier: Apache-2.0
"""Closed shapes: one small language in which a message is described once, and then both checked and published.

A shape says what a parsed JSON value must be. `check` is the gate: it walks the value and raises at the first thing
that is wrong. `schema` is the same statement as JSON Schema 2020-12. What a schema cannot say (the value must be that
of the manifest, references must resolve, link ids are unique) only the gate says.

Invariants: every object is closed; every string is bounded; a check costs no more than the value is long.
Must never: put a value, or the name of an unknown member, into an error.

`Context.tolerant` is for a newer minor version of a schema, which may only have added optional members: what is not
known is then taken out of the value (in place) instead of refused; what is known is held to the same rules.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any, Literal, NoReturn, Protocol, cast

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from schemas.errors import PayloadError

Schema = dict[str, Any]
MAX_TEXT = 8000
"""Characters of any one string."""

_YEAR = r"(19|20|21)[0-9]{2}"
"""As in HTCDS dates, and far from the calendar's edges: no zone or month more leaves the years 1 to 9999."""
_MOMENT = (
    _YEAR + r"-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)"
)
_DAY = _YEAR + r"(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?"
_URN = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_MOMENT_RE, _DAY_RE, _URN_RE = re.compile(_MOMENT), re.compile(_DAY), re.compile(_URN)


def moment(value: datetime) -> str:
    """RFC 3339, to the microsecond where there is one; an offset FHIR cannot write becomes UTC."""
    offset = value.utcoffset()
    if offset is None:
        raise ValueError("a time without zone")
    if offset % timedelta(minutes=1) or abs(offset) > timedelta(hours=14):
        value = value.astimezone(UTC)
    return value.isoformat()


class WrongError(Exception):
    """Inside the gate: something is wrong, here. Gathers the path on its way out."""

    def __init__(self, *parts: int | str) -> None:
        super().__init__()
        self.parts = list(parts)

    def under(self, part: int | str) -> WrongError:
        """The same error, one step further out."""
        self.parts.insert(0, part)
        return self

    def path(self, at: str) -> str:
        """Where it is, as errors name places: `content.payload.entry[2].resource`."""
        return at + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.parts)


def wrong(*parts: int | str) -> NoReturn:
    """Raises WrongError: wrong here, or at these steps below here."""
    raise WrongError(*parts)


@dataclass(slots=True)
class Context:
    """What a check may compare with, and what it found on its way."""

    given: Mapping[str, str]
    """Values that the manifest fixes: evt, thread, source, destination, ..."""
    tolerant: bool = False
    references: list[tuple[dict[str, Any], tuple[str, ...]]] = field(default_factory=list)
    """(the Reference itself, resource types it may point at)."""


class Shape(Protocol):
    """What a JSON value must be: asked of values, and published as a JSON Schema."""

    def check(self, value: Any, context: Context) -> None:
        """Raises WrongError with where, never with what; a tolerant context has leftovers taken out of `value`."""

    def schema(self) -> Schema:
        """The same as JSON Schema 2020-12, as far as one can say it."""


@dataclass(frozen=True, slots=True)
class Const:
    """Exactly this value, of this type."""

    value: str | bool | None

    def check(self, value: Any, context: Context) -> None:
        if value != self.value or value.__class__ is not self.value.__class__:
            wrong()

    def schema(self) -> Schema:
        return {"const": self.value}


@dataclass(frozen=True, slots=True)
class Given:
    """Exactly what the manifest says (`Context.given`), after a fixed prefix."""

    name: str
    prefix: str = ""

    def check(self, value: Any, context: Context) -> None:
        if value != self.prefix + context.given[self.name]:
            wrong()

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{self.prefix}[!-~]{{1,120}}$"}


@dataclass(frozen=True, slots=True)
class String:
    """A string of so many characters; one without a pattern says something."""

    max: int = MAX_TEXT
    min: int = 1
    pattern: str | None = None
    """For the whole string; without anchors."""
    _fits: Callable[[str], object] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fits", None if self.pattern is None else re.compile(self.pattern).fullmatch)

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not str or not self.min <= len(value) <= self.max:
            wrong()
        if self._fits is None:
            if value.isspace():  # FHIR: a string says something
                wrong()
        elif self._fits(value) is None:
            wrong()

    def schema(self) -> Schema:
        schema: Schema = {"type": "string", "minLength": self.min, "maxLength": self.max}
        if self.pattern is not None:
            schema["pattern"] = f"^({self.pattern})$"
        return schema


@dataclass(frozen=True, slots=True)
class Code:
    """One of these codes."""

    codes: frozenset[str]

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not str or value not in self.codes:
            wrong()

    def schema(self) -> Schema:
        return {"enum": sorted(self.codes)}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not bool:
            wrong()

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, I-JSON's at most."""

    min: int = 0
    max: int = (1 << 53) - 1

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not int or not self.min <= value <= self.max:
            wrong()

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.min, "maximum": self.max}


@dataclass(frozen=True, slots=True)
class Moment:
    """FHIR dateTime to the second, with its zone (RFC 3339)."""

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not str or _MOMENT_RE.fullmatch(value) is None:
            wrong()
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise WrongError from None

    def schema(self) -> Schema:
        return {"type": "string", "format": "date-time", "pattern": f"^{_MOMENT}$"}


@dataclass(frozen=True, slots=True)
class Day:
    """FHIR date: YYYY-MM-DD, YYYY-MM or YYYY, in the calendar."""

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not str or _DAY_RE.fullmatch(value) is None:
            wrong()
        try:
            date.fromisoformat(value + "0001-01-01"[len(value) :])
        except ValueError:
            raise WrongError from None

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_DAY}$"}


@dataclass(frozen=True, slots=True)
class Nullable:
    """That shape, or null."""

    shape: Shape

    def check(self, value: Any, context: Context) -> None:
        if value is not None:
            self.shape.check(value, context)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "null"}, self.shape.schema()]}


@dataclass(frozen=True, slots=True)
class List:
    """So many values of one shape."""

    shape: Shape
    min: int = 0
    max: int = 64

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not list or not self.min <= len(value) <= self.max:
            wrong()
        for index, each in enumerate(value):
            try:
                self.shape.check(each, context)
            except WrongError as exc:
                raise exc.under(index) from None

    def schema(self) -> Schema:
        return {"type": "array", "minItems": self.min, "maxItems": self.max, "items": self.shape.schema()}


@dataclass(frozen=True, slots=True)
class Object:
    """Closed: what is in neither mapping is refused."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)
    _checks: Mapping[str, Callable[[Any, Context], None]] = field(init=False, repr=False, compare=False)
    _least: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        members = {**self.optional, **self.required}
        object.__setattr__(self, "_checks", {name: shape.check for name, shape in members.items()})
        object.__setattr__(self, "_least", frozenset(self.required))

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not dict:
            wrong()
        checks = self._checks
        unknown: list[str] = []
        for name, each in value.items():
            check = checks.get(name)
            if check is None:
                unknown.append(name)
                continue
            try:
                check(each, context)
            except WrongError as exc:
                raise exc.under(name) from None
        if unknown:
            if not context.tolerant:
                wrong("*")
            for name in unknown:
                del value[name]
        if not value.keys() >= self._least:
            wrong(next(name for name in self.required if name not in value))

    def schema(self) -> Schema:
        schema: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: each.schema() for name, each in {**self.required, **self.optional}.items()},
        }
        if self.required:
            schema["required"] = list(self.required)
        return schema


def closed(**members: Shape) -> Object:
    """An object from its members; a trailing `_` makes one optional, a leading one escapes a Python keyword."""
    required: dict[str, Shape] = {}
    optional: dict[str, Shape] = {}
    for name, shape in members.items():
        (optional if name.endswith("_") else required)[name.strip("_")] = shape
    return Object(required, optional)


@dataclass(frozen=True, slots=True)
class Period:
    """FHIR Period: start, and an end that is not before it."""

    open: bool
    """Whether the end may be missing."""

    def _object(self) -> Object:
        return _OPEN_PERIOD if self.open else _FULL_PERIOD

    def check(self, value: Any, context: Context) -> None:
        self._object().check(value, context)
        if "end" in value and datetime.fromisoformat(value["end"]) < datetime.fromisoformat(value["start"]):
            wrong("end")

    def schema(self) -> Schema:
        return self._object().schema()


_OPEN_PERIOD = closed(start=Moment(), end_=Moment())
_FULL_PERIOD = closed(start=Moment(), end=Moment())


@dataclass(frozen=True, slots=True)
class Reference:
    """To another entry of the same message, by `fullUrl`; resolved when all entries are known."""

    targets: tuple[str, ...]

    def check(self, value: Any, context: Context) -> None:
        _REFERENCE.check(value, context)
        context.references.append((value, self.targets))

    def schema(self) -> Schema:
        return _REFERENCE.schema()


FULL_URL = String(max=45, pattern=_URN)
_REFERENCE = closed(reference=FULL_URL)


@dataclass(frozen=True, slots=True)
class Items:
    """QuestionnaireResponse.item: each link id once, with the answers that its question allows."""

    answers: Mapping[str, List]

    def check(self, value: Any, context: Context) -> None:
        if value.__class__ is not list or not value:
            wrong()
        seen: set[str] = set()
        unknown: list[int] = []
        for index, item in enumerate(value):
            if item.__class__ is not dict:
                wrong(index)
            link = item.get("linkId")
            answers = self.answers.get(link) if isinstance(link, str) else None
            if answers is None or link is None:
                if not context.tolerant:
                    wrong(index, "linkId")
                unknown.append(index)
                continue
            if link in seen:
                wrong(index, "linkId")
            seen.add(link)
            try:
                if len(item) == 2 and "answer" in item:
                    answers.check(item["answer"], context)
                    continue
            except WrongError as exc:
                raise exc.under("answer").under(index) from None
            try:
                Object({"linkId": _ANY, "answer": answers}).check(item, context)
            except WrongError as exc:
                raise exc.under(index) from None
        for index in reversed(unknown):
            del value[index]

    def schema(self) -> Schema:
        return {
            "type": "array",
            "minItems": 1,
            "maxItems": len(self.answers),
            "items": {
                "type": "object",
                "required": ["linkId", "answer"],
                "additionalProperties": False,
                "properties": {"linkId": {"enum": list(self.answers)}, "answer": {}},
                "allOf": [
                    {
                        "if": {"properties": {"linkId": {"const": link}}},
                        "then": {"properties": {"answer": answers.schema()}},
                    }
                    for link, answers in self.answers.items()
                ],
            },
        }


_ANY = String()


def where(value: Any, node: Any) -> tuple[int | str, ...] | None:
    """The path to this very object inside of a value; only asked for when an error needs it."""
    if value is node:
        return ()
    if not isinstance(value, dict | list):
        return None
    parts: Iterable[tuple[int | str, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    for part, each in parts:
        found = where(each, node)
        if found is not None:
            return (part, *found)
    return None


def checked(shape: Shape, value: Any, context: Context, at: str) -> None:
    """Run the gate. Raises PayloadError `payload_invalid` with the path of the first thing wrong."""
    try:
        shape.check(value, context)
        return
    except WrongError as exc:
        path = exc.path(at)
    raise PayloadError("payload_invalid", path=path)


# ---- shapes and leaves of the forms ----


@dataclass(frozen=True, slots=True)
class Leaf:
    """One answerable member of a form, by its path below the form it was asked of ("risk.level")."""

    path: str
    shape: Shape
    many: bool
    """A tuple of answers."""
    most: int
    required: bool
    """Of its own form, when that form is there."""
    default: Any
    identity: bool


def _limit(metadata: tuple[Any, ...], *names: str) -> Any:
    for each in metadata:
        for name in names:
            found = getattr(each, name, None)
            if found is not None:
                return found
    return None


def of_annotation(annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
    """The shape that JSON of this annotation must have. TypeError for what the forms do not use."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        said = (each.metadata if isinstance(each, FieldInfo) else (each,) for each in annotation.__metadata__)
        return of_annotation(args[0], (*chain.from_iterable(said), *metadata))
    if origin in (typing.Union, types.UnionType):
        inner = [each for each in args if each is not type(None)]
        if len(inner) == 1 and len(args) == 2:
            return Nullable(of_annotation(inner[0], metadata))
    if origin is Literal:
        return Const(True) if args == (True,) else Code(frozenset(args))
    if origin is tuple and args[1:] == (Ellipsis,):
        least, most = _limit(metadata, "min_length"), _limit(metadata, "max_length")
        return List(of_annotation(args[0]), least or 0, most or 64)
    if annotation is AwareDatetime:
        return Moment()
    if annotation is bool:
        return Flag()
    if annotation is int:
        least, most = _limit(metadata, "ge"), _limit(metadata, "le")
        return Whole(0 if least is None else least, (1 << 53) - 1 if most is None else most)
    if annotation is str:
        pattern = _limit(metadata, "pattern")
        least, most = _limit(metadata, "min_length"), _limit(metadata, "max_length")
        return String(most or MAX_TEXT, least or 0, None if pattern is None else pattern.strip("^$"))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_model(annotation)
    raise TypeError("no shape for this annotation")


def of_model(model: type[BaseModel]) -> Object:
    """The closed shape of a form's JSON; members without a default are required."""
    required: dict[str, Shape] = {}
    optional: dict[str, Shape] = {}
    for name, info in model.model_fields.items():
        shape = of_annotation(info.annotation, tuple(info.metadata))
        (required if info.is_required() else optional)[name] = shape
    return Object(required, optional)


def form_of(annotation: Any) -> type[BaseModel] | None:
    """The form that a field holds, if it holds one (or None)."""
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def leaves(model: type[BaseModel], at: str) -> tuple[Leaf, ...]:
    """Every answerable member below a form, in order; `at` is what their paths begin with."""
    found: list[Leaf] = []
    for name, info in model.model_fields.items():
        path = f"{at}.{name}" if at else name
        inner = form_of(info.annotation)
        if inner is not None:
            if typing.get_origin(info.annotation) is not tuple:  # a list of forms is no answer
                found.extend(leaves(inner, path))
            continue
        shape = of_annotation(info.annotation, tuple(info.metadata))
        if isinstance(shape, Nullable):
            shape = shape.shape
        many, most = False, 1
        if isinstance(shape, List):
            many, most, shape = True, shape.max, shape.shape
        extra = cast("dict[str, Any]", info.json_schema_extra or {})
        default = None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
        found.append(Leaf(path, shape, many, most, info.is_required(), default, bool(extra.get("identity"))))
    return tuple(found)
