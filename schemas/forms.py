# SPDX-License-Identifier: Apache-2.0
"""What a caseworker says, before it becomes a message and after it was one: `Facts`.

A connector turns whatever its agency has (a row, a Kobo submission, a FHIR server's resource) into `Facts`;
`schemas.events` turns Facts into the sealed parts of a record and back. So connectors never see FHIR or keys, and
two agencies with different systems meet here.

Fields whose metadata says `identity` name or locate a person: they travel only in the identity part. Everything here
is sensitive; models print no values in errors (`hide_input_in_errors`) and in `repr` (`repr=False`).

Sources: IASC inter-agency referral form (2017), HTCDS 2.0 (IOM, CC BY 4.0), FHIR R4 for the words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas import htcds
from schemas.errors import PayloadError

# Embeddings, overrides and isolates change the order in which a line is shown: one name could be read as another.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _readable(value: object) -> object:
    """NFC; refuses controls (but tab and line ends), lone surrogates, noncharacters and what reorders a line."""
    if not isinstance(value, str):
        return value
    if value.isascii():
        if value.isprintable():
            return value
    else:
        value = unicodedata.normalize("NFC", value)
    for char in value:
        kind, point = unicodedata.category(char), ord(char)
        if (kind == "Cc" and char not in "\t\r\n") or kind == "Cs" or char in _REORDERING:
            raise ValueError("not readable text")
        if point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF:
            raise ValueError("not readable text")
    return value


Text = Annotated[
    str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), BeforeValidator(_readable)
]
"""One line for a person to read."""
Note = Annotated[
    str, StringConstraints(min_length=1, max_length=8000, strip_whitespace=True), BeforeValidator(_readable)
]
"""Free text; identity by nature, since anything may stand in it."""
HtcdsCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,80}$")]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
"""ISO 639 code, as in CLDR."""

YEARS = range(1900, 2200)
"""Of every date and moment: outside it is a slip of the pen, and near the calendar's edges arithmetic overflows."""


def _dated(value: datetime) -> datetime:
    if value.year not in YEARS:
        raise ValueError("year out of range")
    return value


When = Annotated[AwareDatetime, AfterValidator(_dated)]
"""A time with its zone, in `YEARS`."""

IDENTITY: dict[str, Any] = {"identity": True}


class Form(BaseModel):
    """Closed, frozen, silent about values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    __str__ = __repr__


Priority = Literal["immediate", "emergency", "urgent", "normal"]
"""2 h (telephone first), 24 h, 72 h, 14 days; FHIR stat, asap, urgent, routine."""
Basis = Literal["consent", "legal-duty", "vital-interests"]


class Birth(Form):
    """When she was born, as precisely as is known: never an invented 1 January."""

    precision: Literal["day", "month", "year", "age", "unknown"]
    basis: Literal["document", "declared", "estimated", "disputed"] = "declared"
    date: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$")] | None = Field(
        None, json_schema_extra=IDENTITY
    )
    """YYYY-MM-DD, YYYY-MM or YYYY, by `precision`; a real calendar date."""
    age_years: int | None = Field(None, ge=0, le=120)
    """With precision `age`: the age stated, at `occurred_at`."""

    @model_validator(mode="after")
    def _precise(self) -> Self:
        lengths = {"day": 10, "month": 7, "year": 4}
        if len(self.date or "") != lengths.get(self.precision, 0):
            raise ValueError("date does not fit the precision")
        if (self.age_years is not None) != (self.precision == "age"):
            raise ValueError("age does not fit the precision")
        if self.date is not None:
            parts = [int(part) for part in self.date.split("-")]
            if parts[0] not in YEARS:
                raise ValueError("year out of range")
            date(*parts, *[1] * (3 - len(parts)))  # ValueError: not in the calendar
        return self


class Name(Form):
    """One required field as given; parts where she uses them. One-word names are complete names."""

    as_given: Text = Field(json_schema_extra=IDENTITY)
    first: Text | None = Field(None, json_schema_extra=IDENTITY)
    middle: Text | None = Field(None, json_schema_extra=IDENTITY)
    last: Text | None = Field(None, json_schema_extra=IDENTITY)
    script: Literal["Latn", "Arab"] = "Latn"


class Interpreter(Form):
    """Whether she needs one, into which language, and who it may be."""

    needed: bool
    language: LanguageTag | None = None
    sex_preferred: Literal["female", "male", "any"] = "any"
    not_from_same_community: Literal[True] = True


class SafeContact(Form):
    """By which way, when and with which words she can be reached without danger."""

    channel: Literal["telephone", "sms", "whatsapp", "in-person", "through-referrer", "none"]
    address: Text | None = Field(None, json_schema_extra=IDENTITY)
    """Number or handle; absent for in-person, through-referrer, none."""
    times: Text | None = Field(None, json_schema_extra=IDENTITY)
    may_leave_message: bool = False
    may_say_who_calls: bool = False
    never_contact: tuple[Text, ...] = Field((), max_length=10, json_schema_extra=IDENTITY)


class Caregiver(Form):
    """For a child, or where age is unknown or disputed."""

    status: Literal["guardian", "representative", "pending", "suspected"]
    """`pending`: none known yet; `suspected`: the guardian may be involved and is never notified."""
    name: Text | None = Field(None, json_schema_extra=IDENTITY)
    relation: Text | None = Field(None, json_schema_extra=IDENTITY)
    contact: Text | None = Field(None, json_schema_extra=IDENTITY)
    informed: bool = False
    why_not_informed: Note | None = Field(None, json_schema_extra=IDENTITY)
    best_interest_note: Note | None = Field(None, json_schema_extra=IDENTITY)
    child_assent: Literal["assent", "dissent", "not-asked"] = "not-asked"


class Risk(Form):
    """How great the danger is, from whom, and what her safety asks of the reader."""

    level: Literal["low", "medium", "high", "extreme", "unknown"]
    from_whom: Note | None = Field(None, json_schema_extra=IDENTITY)
    must_not_know: Note | None = Field(None, json_schema_extra=IDENTITY)
    not_to_place: Note | None = Field(None, json_schema_extra=IDENTITY)


class Consent(Form):
    """What she agreed to: for this recipient, this purpose, this period."""

    given_at: When
    expires_at: When
    form_version: Text = "1"
    language: LanguageTag | None = None
    how: Literal["signature", "thumbprint", "oral", "recorded"] = "signature"
    scope: tuple[Literal["referral", "statistics", "investigation", "return"], ...] = Field(
        ("referral",), min_length=1, max_length=4
    )

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.expires_at <= self.given_at:
            raise ValueError("expires before it is given")
        return self


Authority = Literal["guardian", "family-judge", "data-protection-authority"]


class Authorisation(Form):
    """One decision that allows this, by its number: who decided stands in the decision, not here."""

    authority: Authority
    reference: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./-]{1,60}$")]
    decided_at: When
    expires_at: When | None = None

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.expires_at is not None and self.expires_at <= self.decided_at:
            raise ValueError("expires before it is given")
        return self


class Lawful(Form):
    """Why this may be shared at all: consent, or another basis with author and reason."""

    basis: Basis
    consent: Consent | None = None
    """Required iff basis is consent."""
    legal_reference: Text | None = None
    """Dated text reference; required iff basis is legal-duty."""
    author: Text | None = Field(None, json_schema_extra=IDENTITY)
    """Who decided; required unless basis is consent."""
    reason: Note | None = Field(None, json_schema_extra=IDENTITY)
    """Why; required unless basis is consent."""
    authorisations: tuple[Authorisation, ...] = Field((), max_length=8)
    """What the law of a domain asks for besides, where a child is concerned. They travel in the claims; those of a
    transfer stand beside its agreement."""


class Referral(Form):
    """The sealed referral form (design of the IASC form), beside the HTCDS answers."""

    priority: Priority
    name: Name
    birth: Birth
    services: tuple[HtcdsCode, ...] = Field(min_length=1, max_length=9)
    """HTCDS spl_Type codes asked for."""
    local_service: Text | None = None
    languages: tuple[LanguageTag, ...] = Field((), max_length=10)
    interpreter: Interpreter = Interpreter(needed=False)
    access_needs: Note | None = Field(None, json_schema_extra=IDENTITY)
    pregnant_or_nursing: Literal["yes", "no", "unknown"] = "unknown"
    dependants: tuple[Annotated[int, Field(ge=0, le=120)], ...] = Field((), max_length=20)
    """Ages in years of those who come along."""
    safe_contact: SafeContact = SafeContact(channel="through-referrer")
    caregiver: Caregiver | None = None
    risk: Risk = Risk(level="unknown")
    already_given: tuple[HtcdsCode, ...] = Field((), max_length=9)
    told_and_refused: tuple[Text, ...] = Field((), max_length=40)
    """Names of fields that she did not want shared."""
    transport: Literal["escorted", "own", "needed", "none"] = "none"
    reason: Note | None = Field(None, json_schema_extra=IDENTITY)
    feedback_by: When | None = None
    referring_unit: Text | None = None
    on_call_telephone: Text | None = Field(None, json_schema_extra=IDENTITY)


class Answer(Form):
    """What the recipient of a referral says. An answer carries no identity."""

    reason: (
        Literal[
            "no-capacity",
            "not-our-service",
            "unsafe-here",
            "person-declined",
            "incomplete",
            "duplicate",
            "other",
        ]
        | None
    ) = None
    """Required iff declined."""
    outcome: Literal["service-completed", "goals-met", "referred-on"] | None = None
    """Required iff completed."""
    expected_from: When | None = None
    end_reason: Literal["left", "no-show", "unsuitable", "closed", "transferred", "died", "unknown"] | None = None
    """Required iff ended; the codes are the lifecycle's `end_reasons`."""


class Service(Form):
    """service.provided: one service of a running referral."""

    type: HtcdsCode
    """HTCDS spl_Type."""
    began_at: When
    ended_at: When | None = None

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.ended_at is not None and self.ended_at < self.began_at:
            raise ValueError("ends before it begins")
        return self


class Movement(Form):
    """movement.departed / movement.arrived: when she left and is expected, when she came. Never where."""

    departed_at: When | None = None
    """Required iff departed."""
    expected_at: When | None = None
    """When she should be there; required iff departed. Past it and unsaid, both adapters alarm."""
    arrived_at: When | None = None
    """Required iff arrived."""

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.departed_at is not None and self.expected_at is not None and self.expected_at < self.departed_at:
            raise ValueError("expected before she left")
        return self


class Feedback(Form):
    """feedback.given: how it goes, in codes; what the initiator needs to close its own file."""

    outcome: Literal["going-well", "needs-attention", "needs-more", "not-reached", "left"]
    her_view: Literal["satisfied", "partly", "dissatisfied", "not-asked"] = "not-asked"
    still_needed: tuple[HtcdsCode, ...] = Field((), max_length=9)
    """HTCDS spl_Type codes of services that she still needs."""


FieldName = Annotated[str, StringConstraints(pattern=r"^(htcds|information)\.[A-Za-z_.]{1,80}$")]
"""A path as allow-lists name it; which ones may be asked for, `schemas.element_shapes.ASKABLE` says."""


class Question(Form):
    """information.requested: what the recipient needs to know, by the names of fields."""

    fields: tuple[FieldName, ...] = Field(min_length=1, max_length=64)
    note: Note | None = Field(None, json_schema_extra=IDENTITY)


class Information(Form):
    """information.answered: members of the request's form, said later or said better; HTCDS answers stand beside it."""

    name: Name | None = None
    birth: Birth | None = None
    languages: tuple[LanguageTag, ...] = Field((), max_length=10)
    interpreter: Interpreter | None = None
    access_needs: Note | None = Field(None, json_schema_extra=IDENTITY)
    pregnant_or_nursing: Literal["yes", "no", "unknown"] | None = None
    dependants: tuple[Annotated[int, Field(ge=0, le=120)], ...] = Field((), max_length=20)
    safe_contact: SafeContact | None = None
    caregiver: Caregiver | None = None
    risk: Risk | None = None
    already_given: tuple[HtcdsCode, ...] = Field((), max_length=9)
    transport: Literal["escorted", "own", "needed", "none"] | None = None
    reason: Note | None = Field(None, json_schema_extra=IDENTITY)
    referring_unit: Text | None = None
    on_call_telephone: Text | None = Field(None, json_schema_extra=IDENTITY)
    not_known: tuple[FieldName, ...] = Field((), max_length=64)
    """Asked for, and not known."""
    not_shared: tuple[FieldName, ...] = Field((), max_length=64)
    """Asked for, and kept back: she does not want it shared, or there is no basis."""


class Receipt(Form):
    """receipt.delivered / receipt.rejected: exactly what arrived, by digest."""

    record_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the record's value."""
    signed_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the manifest's `header.payload`."""
    topic: Text
    offset: int = Field(ge=0)
    received_at: When
    opened: bool = True
    """False: verified and kept, opened at the next session of a person."""
    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")] | None = None
    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,*/: \[\]-]{1,300}$")] | None = None
    """With `receipt.rejected`: the error code and the path that is wrong."""


class Facts(Form):
    """Everything one event says. Which members must be there depends on the event type (`schemas.event_rules`)."""

    occurred_at: When
    """When it happened; writing down is later (`recorded_at`), paper first is normal."""
    htcds: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """HTCDS field name -> text, date or code; a tuple of codes where the field is multi-valued."""
    lawful: Lawful | None = None
    referral: Referral | None = None
    birth: Birth | None = None
    """For case events; in a referral it stands in `referral`. Absent: `prs_Birthdate`, else the age is unknown."""
    caregiver: Caregiver | None = None
    """For case events about a child; in a referral it stands in `referral`."""
    answer: Answer | None = None
    service: Service | None = None
    movement: Movement | None = None
    feedback: Feedback | None = None
    question: Question | None = None
    information: Information | None = None
    receipt: Receipt | None = None
    said: Form | None = None
    """What an event says for which FHIR has nothing; of the class that `schemas.plain.PLAIN` names."""


FormT = TypeVar("FormT", bound=BaseModel)


def _members(model: type[BaseModel], found: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        found.add(name)
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                _members(part, found)
    return found


def _path(at: str, loc: Sequence[int | str], known: set[str]) -> str:
    path = at
    if loc[:1] == ("htcds",) and len(loc) > 1:  # what follows are names of pydantic's own for the kinds of answers
        loc, known = loc[:2], known | htcds.FIELDS.keys()
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + (part if part in known else "*")
    return path


def validated(model: type[FormT], data: Mapping[str, Any], at: str = "") -> FormT:
    """The form made of `data`; where that fails, an error that holds no value.

    Args:
        at: what the path of an error begins with ("content.claims"); "" for the form itself.

    Raises:
        PayloadError: `payload_invalid` at the first member that is wrong; members and keys that are not ours are `*`.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        loc = (*first["loc"][:-1], "*") if first["type"] == "extra_forbidden" else first["loc"]
    # Outside of the handler: pydantic's exception holds the input and must not be in the chain.
    raise PayloadError("payload_invalid", path=_path(at, loc, _members(model, set())) or None)
