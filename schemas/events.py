# SPDX-License-Identifier: Apache-2.0
"""The event catalogue, and the way from `Facts` to the sealed parts of a record and back.

    Facts -> minimise -> rules -> claims + FHIR message -> content, identity      (compose, the sender's adapter)
    content, identity -> strict JSON -> gate -> Facts -> rules                    (decompose, the receiver's adapter)

Invariants: `decompose(compose(facts)).facts == minimise(facts)`; compose decomposes its own output before it returns
it; the same rules hold on both sides, so what one adapter sent the other does not refuse; claims say the same as the
message they stand beside.
Must never: put a value into an error; make anything random or read a clock (salt and time are arguments); let a field
out that the event's table (`schemas.elements`), the recipient's allow-list or the person herself keeps back.

Paths in errors begin with `content` or `identity` where the bytes are wrong, and with a member of `Facts`
(`referral.birth`, `lawful.consent.expires_at`, `htcds.prs_Gender`) where what they say is.

Compatibility (design: a minor version only adds optional members): the same major version is read. In a newer minor,
members, link ids and resources that this version does not know are left out, everywhere; the rest is held to the same
rules. An older minor is brought up to today's first (`schemas.upcast`). Another major version is `version_unsupported`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, StringConstraints

from schemas import fhir, htcds, ijson, lifecycle, plain
from schemas.elements import CONTENT, IDENTITY, TABLES, check_pair
from schemas.errors import PayloadError, PolicyError
from schemas.event_types import EVENTS, PURPOSES, EventType, Purpose
from schemas.forms import (
    Answer,
    Authorisation,
    Authority,
    Basis,
    Birth,
    Caregiver,
    Consent,
    Facts,
    Feedback,
    Form,
    Information,
    Lawful,
    Movement,
    Question,
    Receipt,
    Referral,
    Service,
    Text,
    validated,
)
from schemas.plain.alert import AlertMissing
from schemas.plain.record import RecordCorrected, RecordRetracted
from schemas.plain.transfer import AgreementId, Country, TransferRequested
from schemas.shape import (
    Code,
    Const,
    Context,
    Given,
    Leaf,
    List,
    Moment,
    Object,
    Shape,
    WrongError,
    checked,
    closed,
    form_of,
    leaves,
    moment,
    of_model,
)
from schemas.upcast import upcast

Age = Literal["adult", "child", "unknown"]

MAX_PART_BYTES = 256 * 1024
"""Of content and of identity, padding included: the largest pad size."""
ADULT_YEARS = 18
SALT_BYTES = 32


class ConsentClaim(Form):
    """That the person consented: when, until when, for what. The rest of it is committed to, not repeated."""

    commitment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
    """base64url SHA-256 of a salt of its own and the consent (`commitment`): joins no two records."""
    given_at: AwareDatetime
    expires_at: AwareDatetime
    scope: tuple[Literal["referral", "statistics", "investigation", "return"], ...]


class SafeguardClaim(Form):
    """What is done for a child, or for someone who may be one, in codes."""

    age: Age
    """`unknown` also when it is disputed, or when the birth is known too roughly to tell."""
    guardian: Literal["guardian", "representative", "pending", "suspected"] | None
    best_interest: bool
    """A best-interest note exists; it may be withheld from this reader."""


class AgreementClaim(Form):
    """Under what a person is transferred or returned, as far as the policy asks."""

    id: AgreementId
    authorisations: tuple[Authority, ...]
    """Whose are held and in force; sorted, each once."""
    origin: Country
    asylum_wished: bool
    voluntary: bool
    """Established to be her own wish, and recorded."""


class Claims(Form):
    """Why this may be shared, in codes, for `may(...)`. Author and reason are identity and stand there."""

    basis: Basis
    purpose: Purpose
    recipient: Text
    """Agency id."""
    consent: ConsentClaim | None
    legal_reference: Text | None
    safeguards: SafeguardClaim | None
    agreement: AgreementClaim | None = None
    """With a transfer, and with nothing else."""
    authorisations: tuple[Authorisation, ...] = ()
    """Held for a child, and in force; of a transfer, see `agreement`."""


@dataclass(frozen=True, slots=True)
class Sealable:
    """UTF-8 JSON, not padded. `identity` is b"" when nobody is named."""

    content: bytes
    identity: bytes
    claims: Claims | None = None
    """The claims inside, for asking the policy."""

    def __repr__(self) -> str:
        return "Sealable(...)"


@dataclass(frozen=True, slots=True)
class Opened:
    """A record's content, validated again by its reader. Holds values of a person: never printed, logged or kept."""

    type: str
    schema: str
    occurred_at: datetime
    recorded_at: datetime
    claims: Claims | None
    withheld: tuple[str, ...]
    """Names of fields that the sender has and this reader does not get."""
    facts: Facts
    bundle: dict[str, Any]
    """The FHIR message as parsed (content half); {} where the payload is a plain model."""
    pseudonym: str | None = None
    """This pair's pseudonym of the person."""

    def __repr__(self) -> str:
        return f"Opened(type={self.type!r}, ...)"


# ---- the shape of content ----

_LEAVES: tuple[Leaf, ...] = tuple(
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
_KNOWN_PATHS = frozenset({*(leaf.path for leaf in _LEAVES), *(f"htcds.{name}" for name in htcds.FIELDS)})


def _has_safeguards(event: str) -> bool:
    """Whether it says who she is as a whole. Of plain events only a transfer does; what is added to a referral that
    said so does not."""
    if event in plain.PLAIN:
        return plain.PLAIN[event] is TransferRequested
    return event != "information.answered"


def _claims_shape(event: str) -> Shape:
    if event not in PURPOSES:
        return Const(None)
    transfer = plain.PLAIN.get(event) is TransferRequested
    said: dict[str, Shape] = {
        "purpose": Const(PURPOSES[event]),
        "recipient": Given("to"),
        "safeguards": of_model(SafeguardClaim) if _has_safeguards(event) else Const(None),
        **({"agreement": of_model(AgreementClaim)} if transfer else {}),
    }
    held: dict[str, Shape] = {} if transfer else {"authorisations": List(of_model(Authorisation), 1, 8)}
    return Object({**of_model(Claims).required, **said}, held)


def _receipt_shape(rejected: bool) -> Object:
    whole = of_model(Receipt)
    members = {**whole.required, **whole.optional}
    code, path = members.pop("code"), members.pop("path")
    opened = members.pop("opened")
    if not rejected:
        return Object(members, {"opened": opened})
    # Present means said: null is not an answer.
    return Object({**members, "code": _not_null(code)}, {"opened": opened, "path": _not_null(path)})


def _not_null(shape: Shape) -> Shape:
    inner: Shape = getattr(shape, "shape", shape)
    return inner


def _payload_shape(event: str) -> Shape:
    if event in CONTENT:
        return CONTENT[event]
    if event in plain.PLAIN:
        return plain.content_shape(event, claims=event in PURPOSES)
    if event.startswith("receipt."):
        return _receipt_shape(rejected=event == "receipt.rejected")
    return closed()


SHAPES: Mapping[str, Object] = MappingProxyType(
    {
        event.name: closed(
            type=Const(event.name),
            schema=Const(event.schema),
            occurred_at=Moment(),
            recorded_at=Moment(),
            claims=_claims_shape(event.name),
            payload=_payload_shape(event.name),
            withheld=List(Code(_KNOWN_PATHS), 0, len(_KNOWN_PATHS) if event.name in TABLES else 0),
        )
        for event in EVENTS.values()
    }
)
"""What `content` must be, per event type."""
NAMED: Mapping[str, Shape] = MappingProxyType(
    {
        **IDENTITY,
        **{
            event: shape
            for event in EVENTS
            if event in plain.PLAIN and (shape := plain.identity_shape(event, claims=event in PURPOSES)) is not None
        },
    }
)
"""What the identity part must be, where somebody may be named."""


# ---- minimisation ----

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


def _under(path: str, above: str) -> bool:
    return path == above or path.startswith(above + ".")


def _listed(path: str, names: frozenset[str]) -> bool:
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
    return (*(f"htcds.{name}" for name in sorted(facts.htcds)), *fhir.said(facts, _LEAVES))


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


_REFUSABLE = frozenset(
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
        if each not in _REFUSABLE:
            at = "referral" if facts.referral is not None else "said.referral"
            raise PayloadError("payload_invalid", path=f"{at}.told_and_refused[{index}]")


def first_refused(facts: Facts, refused: Iterable[str]) -> str | None:
    """The first field of what is told later that a person refused to share before, by names as in
    `told_and_refused`. None: there is none."""
    names = frozenset(name.removeprefix("referral.").removeprefix("htcds.") for name in refused)
    told = [path for path in field_paths(facts) if path.startswith(("information.", "htcds."))]
    if isinstance(facts.said, RecordCorrected):
        told += facts.said.fields
    return next((path for path in told if _listed(path.partition(".")[2], names)), None)


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
        if any(_under(path, each) for each in _ALWAYS):
            return True
        return (allowed is None or _listed(path, allowed)) and not _listed(path, refused)

    checked_htcds = {name: htcds.check(name, value) for name, value in facts.htcds.items()}
    before = facts.model_copy(update={"htcds": checked_htcds})
    if facts.lawful is not None and facts.lawful.basis == "consent":
        for path in field_paths(before):
            if path.startswith("referral.") and keep(path) and _listed(path, refused):
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


# ---- rules that both sides enforce ----


def step_of(type: str, facts: Facts) -> str:
    """What `lifecycle.step` calls this event: its type, with its code where that makes another step of it."""
    variant = EVENTS[type].variant
    return type if variant is None else f"{type}/{getattr(facts.said, variant, '')}"


def step_on(machine: str, state: str, type: str, facts: Facts, by: lifecycle.Party, opened_by: str) -> lifecycle.Step:
    """The step that an event makes on a thread that is there.

    Only the retraction of the record that began the thread retracts the thread: what is taken back of one later word
    takes no bed with it.

    Args:
        opened_by: the `evt` that began the thread.

    Raises:
        OrderError: as `lifecycle.step`.
    """
    step = lifecycle.step(machine, state, step_of(type, facts), by)
    if isinstance(facts.said, RecordRetracted) and facts.said.evt != opened_by:
        return replace(step, state=state)
    return step


_MEMBERS = tuple(name for name in Facts.model_fields if name not in ("occurred_at", "htcds"))
# Which event says which of the members that several share a form for: member -> the one event that has it.
_ANSWERS = {"reason": "referral.declined", "outcome": "referral.completed", "end_reason": "referral.ended"}
_TIMES = {"departed_at": "movement.departed", "expected_at": "movement.departed", "arrived_at": "movement.arrived"}


def _members(type: str, facts: Facts) -> None:
    """Which members of Facts an event has.

    Raises:
        PayloadError: `payload_invalid`, one is missing or has no place.
        PolicyError: `consent_missing`, neither consent nor another basis.
    """
    event = EVENTS[type]
    if type in PURPOSES and facts.lawful is None:
        raise PolicyError("consent_missing", path="lawful")
    for name in _MEMBERS:
        there = getattr(facts, name) is not None
        if there != (name in event.needs) and not (there and name in event.may):
            raise PayloadError("payload_invalid", path=name)
    if facts.said is not None and facts.said.__class__ is not plain.PLAIN[type]:
        raise PayloadError("payload_invalid", path="said")
    if facts.htcds and type not in TABLES:
        raise PayloadError("payload_invalid", path="htcds")
    for at, form, whose in (("answer", facts.answer, _ANSWERS), ("movement", facts.movement, _TIMES)):
        for name, only in whose.items():
            if form is not None and (getattr(form, name) is not None) != (type == only):
                raise PayloadError("payload_invalid", path=f"{at}.{name}")
    if type == "information.answered" and facts.information is None and not facts.htcds:
        raise PayloadError("payload_invalid", path="information")  # it answers nothing
    if facts.receipt is not None:
        rejected = type == "receipt.rejected"
        if (facts.receipt.code is not None) != rejected:
            raise PayloadError("payload_invalid", path="receipt.code")
        if facts.receipt.path is not None and not rejected:
            raise PayloadError("payload_invalid", path="receipt.path")


_CONSENT_SCOPES: Mapping[Purpose, str] = MappingProxyType(
    {
        "assistance": "referral",
        "identification": "referral",
        "coordination": "referral",
        "investigation": "investigation",
        "return": "return",
    }
)
"""Purpose -> what she must have consented to. A correction goes to who has the record already, whatever it was for."""
CONSENT_AHEAD = timedelta(days=1)
"""Clocks in the field differ by so much; dated later, a consent has not been given."""


def _lawful(type: str, lawful: Lawful, recorded_at: datetime) -> None:
    """Rule 1: consent for this recipient, purpose and period; else a coded basis with author and reason.

    Raises:
        PolicyError: `consent_missing`, `consent_expired`.
        PayloadError: `payload_invalid`.
    """
    if lawful.basis == "consent":
        if lawful.consent is None:
            raise PolicyError("consent_missing", path="lawful.consent")
        if lawful.consent.expires_at <= recorded_at:
            raise PolicyError("consent_expired", path="lawful.consent.expires_at")
        if lawful.consent.given_at > recorded_at + CONSENT_AHEAD:
            raise PolicyError("consent_missing", path="lawful.consent.given_at")
        asked = _CONSENT_SCOPES.get(PURPOSES[type])
        if asked is not None and asked not in lawful.consent.scope:
            raise PolicyError("consent_missing", path="lawful.consent.scope")
    elif lawful.consent is not None:
        raise PayloadError("payload_invalid", path="lawful.consent")
    else:
        for name in ("author", "reason"):
            if getattr(lawful, name) is None:
                raise PayloadError("payload_invalid", path=f"lawful.{name}")
    if (lawful.legal_reference is not None) != (lawful.basis == "legal-duty"):
        raise PayloadError("payload_invalid", path="lawful.legal_reference")


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def _age_at(text: str, on: date) -> Age:
    """Age class of someone born on a day, in a month or in a year; `unknown` when that leaves both open."""
    earliest = date.fromisoformat(text + "0001-01-01"[len(text) :])
    if len(text) == 10:
        latest = earliest
    elif len(text) == 7:
        latest = (earliest + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    else:
        latest = earliest.replace(month=12, day=31)
    if _years(latest, on) >= ADULT_YEARS:
        return "adult"
    return "child" if _years(earliest, on) < ADULT_YEARS else "unknown"


def referral_of(facts: Facts) -> Referral | None:
    """The referral form of an event: its own, or that of a transfer."""
    return facts.said.referral if isinstance(facts.said, TransferRequested) else facts.referral


def _caregiver_of(facts: Facts) -> tuple[Caregiver | None, str]:
    """The caregiver, and where in the facts."""
    referral = referral_of(facts)
    if referral is None:
        return facts.caregiver, "caregiver"
    return referral.caregiver, "referral.caregiver" if facts.referral is not None else "said.referral.caregiver"


def age_of(facts: Facts) -> Age:
    """Adult, child or unknown at `occurred_at`: from the birth, else from `prs_Birthdate`. Disputed is unknown, and so
    is what a case says in both places in two ways."""
    referral = referral_of(facts)
    birth = referral.birth if referral is not None else facts.birth
    on = facts.occurred_at.date()
    born = facts.htcds.get("prs_Birthdate") if referral is None else None
    other: Age | None = _age_at(born, on) if isinstance(born, str) else None
    if birth is None:
        return other or "unknown"
    found = age_at(birth, on)
    return found if other in (None, found) else "unknown"


def age_at(birth: Birth, on: date) -> Age:
    """Of somebody born so, on that day."""
    if birth.basis == "disputed":
        return "unknown"
    if birth.date is not None:
        return _age_at(birth.date, on)
    if birth.age_years is None:
        return "unknown"
    return "adult" if birth.age_years >= ADULT_YEARS else "child"


def _safeguards(claim: SafeguardClaim, facts: Facts) -> None:
    """Rule 3: children, and people who may be children.

    Raises:
        PayloadError: `safeguard_missing`, at the caregiver or the member of it that is missing.
    """
    basis = facts.lawful.basis if facts.lawful is not None else None
    caregiver, path = _caregiver_of(facts)
    if caregiver is not None and caregiver.status == "suspected" and caregiver.informed:
        raise PayloadError("safeguard_missing", path=f"{path}.informed")  # never notified
    if claim.age == "adult":
        return
    if claim.guardian is None:
        raise PayloadError("safeguard_missing", path=path)
    if claim.guardian == "pending":
        if basis != "vital-interests":
            raise PayloadError("safeguard_missing", path=f"{path}.status")
    elif not claim.best_interest:
        raise PayloadError("safeguard_missing", path=f"{path}.best_interest_note")
    if claim.guardian == "suspected" and basis == "consent":  # whose would it be?
        raise PayloadError("safeguard_missing", path=f"{path}.status")


def age_told(facts: Facts) -> Age | None:
    """How old she is as far as this event alone says; None: it does not say."""
    said = facts.said
    if isinstance(said, AlertMissing):
        return said.age
    if referral_of(facts) is not None or facts.birth is not None or "prs_Birthdate" in facts.htcds:
        return age_of(facts)
    birth = said.birth if isinstance(said, RecordCorrected) else None
    if facts.information is not None:
        birth = facts.information.birth
    return None if birth is None else age_of(Facts(occurred_at=facts.occurred_at, birth=birth))


def _authorised(held: tuple[Authorisation, ...], recorded_at: datetime) -> None:
    """A decision that has run out is none, nor is one that has not been taken yet.

    Raises PayloadError: `safeguard_missing`.
    """
    for index, one in enumerate(held):
        if one.decided_at > recorded_at:
            raise PayloadError("safeguard_missing", path=f"lawful.authorisations[{index}].decided_at")
        if one.expires_at is not None and one.expires_at <= recorded_at:
            raise PayloadError("safeguard_missing", path=f"lawful.authorisations[{index}].expires_at")


def _rules(type: str, facts: Facts, claims: Claims | None, recorded_at: datetime) -> None:
    if facts.lawful is not None:
        _lawful(type, facts.lawful, recorded_at)
        if facts.lawful.authorisations and isinstance(facts.said, TransferRequested):
            raise PayloadError("payload_invalid", path="lawful.authorisations")  # they stand beside the agreement
        _authorised(facts.lawful.authorisations, recorded_at)
    if claims is not None and claims.safeguards is not None:
        _safeguards(claims.safeguards, facts)
    if isinstance(facts.said, TransferRequested):
        _transfer(facts.said, facts.lawful, recorded_at)
    if isinstance(facts.said, AlertMissing):
        _missing(facts.said)


def _missing(said: AlertMissing) -> None:
    """An adult who left freely is not looked for, whatever else the alert calls her.

    Raises PayloadError: `payload_invalid`.
    """
    if said.birth is None or said.circumstance != "left-freely":
        return
    if age_at(said.birth, said.missing_since.date()) == "adult":
        raise PayloadError("payload_invalid", path="said.circumstance")


def _transfer(said: TransferRequested, lawful: Lawful | None, recorded_at: datetime) -> None:
    """What the policy need not be asked: an authorisation that has run out is none, and a refusal of hers counts.

    Raises PolicyError: `agreement_missing`, `consent_missing`.
    """
    for index, one in enumerate(said.authorisations):
        if one.expires_at is not None and one.expires_at <= recorded_at:
            raise PolicyError("agreement_missing", path=f"said.authorisations[{index}].expires_at")
    if lawful is not None and lawful.basis == "consent":
        refused = frozenset(
            name for each in said.referral.told_and_refused for name in (each, each.removeprefix("referral."))
        )
        for path in fhir.said(Facts(occurred_at=recorded_at, referral=said.referral), _LEAVES):
            if _listed(path.removeprefix("referral."), refused):
                raise PolicyError("consent_missing", path=f"said.{path}")


# ---- claims ----


def commitment(consent: Consent, recipient: str, purpose: str, salt: bytes) -> str:
    """base64url SHA-256 of `salt` and the lines below, joined by LF; times in UTC, ISO 8601.

        umuhuza/1 consent | recipient | purpose | given_at | expires_at | scopes | how | language or - | form_version

    The salt travels in the message (Consent.identifier), so holders can show that this consent was the one, and
    nobody else can guess it.
    """
    lines = (
        "umuhuza/1 consent",
        recipient,
        purpose,
        consent.given_at.astimezone(UTC).isoformat(),
        consent.expires_at.astimezone(UTC).isoformat(),
        " ".join(consent.scope),
        consent.how,
        consent.language or "-",
        consent.form_version,
    )
    return _base64url(hashlib.sha256(salt + "\n".join(lines).encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _claim(type: str, facts: Facts, to: str, salt: bytes) -> Claims | None:
    if facts.lawful is None:
        return None
    lawful, consent = facts.lawful, None
    if lawful.consent is not None:
        consent = ConsentClaim(
            commitment=commitment(lawful.consent, to, PURPOSES[type], salt),
            given_at=lawful.consent.given_at,
            expires_at=lawful.consent.expires_at,
            scope=lawful.consent.scope,
        )
    caregiver, _ = _caregiver_of(facts)
    said = facts.said
    return Claims(
        basis=lawful.basis,
        purpose=PURPOSES[type],
        recipient=to,
        consent=consent,
        legal_reference=lawful.legal_reference,
        safeguards=None
        if not _has_safeguards(type)
        else SafeguardClaim(
            age=age_of(facts),
            guardian=caregiver.status if caregiver is not None else None,
            best_interest=caregiver is not None and caregiver.best_interest_note is not None,
        ),
        agreement=_agreement_claim(said) if isinstance(said, TransferRequested) else None,
        authorisations=lawful.authorisations,
    )


def _agreement_claim(said: TransferRequested) -> AgreementClaim:
    return AgreementClaim(
        id=said.agreement,
        authorisations=tuple(sorted({one.authority for one in said.authorisations})),
        origin=said.origin,
        asylum_wished=said.asylum_wished,
        voluntary=said.voluntariness == "voluntary",
    )


def _written_claims(claims: Claims) -> dict[str, Any]:
    data = claims.model_dump(exclude={"authorisations", *(() if claims.agreement else ("agreement",))})
    if claims.authorisations:
        data["authorisations"] = [_written_authorisation(one) for one in claims.authorisations]
    if claims.consent is not None:
        data["consent"]["given_at"] = moment(claims.consent.given_at)
        data["consent"]["expires_at"] = moment(claims.consent.expires_at)
    return data


def _written_authorisation(one: Authorisation) -> dict[str, str]:
    data = {"authority": one.authority, "reference": one.reference, "decided_at": moment(one.decided_at)}
    return data if one.expires_at is None else {**data, "expires_at": moment(one.expires_at)}


def _agree(claims: Claims, facts: Facts, withheld: tuple[str, ...], salt: str | None) -> None:
    """Claims say what the message says, as far as this reader sees it.

    Raises:
        PayloadError: `payload_invalid` below `content.claims`.
    """
    at = "content.claims"
    if facts.lawful is None:
        raise PayloadError("payload_invalid", path=at)
    consent = facts.lawful.consent
    if (claims.consent is None) != (consent is None):
        raise PayloadError("payload_invalid", path=f"{at}.consent")
    if claims.consent is not None and consent is not None:
        for name in ("given_at", "expires_at", "scope"):
            if getattr(claims.consent, name) != getattr(consent, name):
                raise PayloadError("payload_invalid", path=f"{at}.consent.{name}")
        salted = base64.urlsafe_b64decode((salt or "") + "=")
        if claims.consent.commitment != commitment(consent, claims.recipient, claims.purpose, salted):
            raise PayloadError("payload_invalid", path=f"{at}.consent.commitment")
    if isinstance(facts.said, TransferRequested) and claims.agreement != _agreement_claim(facts.said):
        raise PayloadError("payload_invalid", path=f"{at}.agreement")
    if claims.safeguards is None:  # see `_has_safeguards`
        return
    caregiver, _ = _caregiver_of(facts)
    if claims.safeguards.guardian != (caregiver.status if caregiver is not None else None):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.guardian")
    noted = caregiver is not None and caregiver.best_interest_note is not None
    note = "caregiver.best_interest_note"
    if claims.safeguards.best_interest != noted and not {note, f"referral.{note}"}.intersection(withheld):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.best_interest")
    kept_back = any(_under(path, "birth") or path == "htcds.prs_Birthdate" for path in withheld)
    if claims.safeguards.age != age_of(facts) and not (kept_back and facts.referral is None):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.age")


# ---- compose ----


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _written_receipt(receipt: Receipt) -> dict[str, Any]:
    data = receipt.model_dump(exclude_none=True)
    return {**data, "received_at": moment(receipt.received_at)}


def _written_plain(said: Form, lawful: Lawful | None, salt: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    content, named = plain.halves(said)
    payload: dict[str, Any] = {"said": content}
    identity: dict[str, Any] = {"said": named} if named else {}
    if lawful is not None:
        payload["lawful"], author = plain.halves(lawful)
        del payload["lawful"]["authorisations"]
        if lawful.consent is not None:
            payload["salt"] = _base64url(salt)
        if author:
            identity["lawful"] = author
    return payload, identity or None


def compose(
    type: str,
    facts: Facts,
    *,
    iss: str,
    to: str,
    evt: str,
    thread: str,
    ref: str | None,
    pseudonym: str,
    recorded_at: datetime,
    allowed: frozenset[str] | None,
    salt: bytes,
) -> Sealable:
    """The parts of one record: what this reader may see of these facts, with claims, as checked JSON.

    What is returned has been read again by `decompose`, as the recipient will: what it would reject never leaves.
    Deterministic: the same arguments, the same bytes.

    Args:
        evt: event id (UUID text). thread: base64url. ref: the `evt` answered, for answers.
        pseudonym: this pair's pseudonym of the person, 8 to 64 URL-safe characters; not used by control events.
        recorded_at: now, with a zone.
        allowed: the reader's allow-list (`minimise`), None for none.
        salt: 32 random bytes, fresh for every record.

    Raises:
        PayloadError: `payload_invalid`, `safeguard_missing`, `too_large`, with a path of `facts`.
        PolicyError: `consent_missing`, `consent_expired`.
        ValueError: a salt of another length (a fault of the program).
    """
    if len(salt) != SALT_BYTES:
        raise ValueError("the salt is 32 bytes")
    if type not in EVENTS:
        raise PayloadError("payload_invalid", path="type")
    if facts.answer == Answer():
        facts = facts.model_copy(update={"answer": None})
    if facts.information == Information():
        facts = facts.model_copy(update={"information": None})
    _members(type, facts)
    reduced, withheld = minimise(type, facts, allowed)
    claims = _claim(type, facts.model_copy(update={"htcds": _normal(facts)}), to, salt)
    _rules(type, reduced, claims, recorded_at)
    named: dict[str, Any] | None = None
    payload: dict[str, Any] = {}
    if type in TABLES:
        names = fhir.Names(iss, to, evt, thread, ref, pseudonym)
        payload, named = fhir.write(type, reduced, names, _base64url(salt))
    elif reduced.said is not None:
        payload, named = _written_plain(reduced.said, reduced.lawful, salt)
    elif reduced.receipt is not None:
        payload = _written_receipt(reduced.receipt)
    content = _json(
        {
            "type": type,
            "schema": EVENTS[type].schema,
            "occurred_at": moment(facts.occurred_at),
            "recorded_at": moment(recorded_at),
            "claims": None if claims is None else _written_claims(claims),
            "payload": payload,
            "withheld": withheld,
        }
    )
    identity = b"" if named is None else _json(named)
    opened = decompose(content, identity, iss=iss, to=to, evt=evt, thread=thread)
    if opened.facts != reduced or opened.claims != claims:
        raise PayloadError("payload_invalid", path="facts")  # a fault of ours; better refused here than sent
    return Sealable(content, identity, claims)


def _normal(facts: Facts) -> dict[str, str | tuple[str, ...]]:
    return {name: htcds.check(name, value) for name, value in facts.htcds.items()}


# ---- decompose ----

_VERSION = re.compile(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")


def _loads(data: bytes, at: str) -> Any:
    if len(data) > MAX_PART_BYTES:
        raise PayloadError("too_large", path=at, expected=MAX_PART_BYTES)
    try:
        return ijson.loads(data, max_bytes=MAX_PART_BYTES)
    except ijson.IJsonError as exc:
        path = f"{at}.{exc.path}" if exc.path else at
    raise PayloadError("payload_invalid", path=path)


def _versions(value: Any) -> tuple[EventType, str, int, int]:
    """(event, schema version said, its minor, today's minor)."""
    if not isinstance(value, dict):
        raise PayloadError("payload_invalid", path="content")
    event = EVENTS.get(value["type"]) if isinstance(value.get("type"), str) else None
    if event is None:
        raise PayloadError("payload_invalid", path="content.type")
    said = value.get("schema")
    found = _VERSION.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        raise PayloadError("payload_invalid", path="content.schema")
    major, _, minor = event.schema.partition(".")
    if found[1] != major:
        raise PayloadError("version_unsupported", path="content.schema", expected=event.schema)
    return event, found[0], int(found[2]), int(minor)


def decompose(content: bytes, identity: bytes, *, iss: str, to: str, evt: str, thread: str) -> Opened:
    """What a record's parts say. Bytes off the wire, trailing-space padding included; the manifest's values beside.

    Raises:
        PayloadError: `payload_invalid`, `version_unsupported`, `safeguard_missing`, `too_large`.
        PolicyError: `consent_missing`, `consent_expired` (at `recorded_at`).
    """
    try:
        return _decomposed(content, identity, iss=iss, to=to, evt=evt, thread=thread)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # A fault of ours, met by somebody's record. That record is refused, with its sender told; let through, the
        # fault would stop the reader at it, and everything behind it, at every start. Raised below, outside of the
        # handler: what these exceptions say may quote the record.
        pass
    raise PayloadError("payload_invalid", path="content")


def _decomposed(content: bytes, identity: bytes, *, iss: str, to: str, evt: str, thread: str) -> Opened:
    value = _loads(content, "content")
    event, version, written, today = _versions(value)
    context = Context({"iss": iss, "to": to, "evt": evt, "thread": thread}, tolerant=written > today)
    value["schema"] = event.schema
    if written > today:
        value["withheld"] = [each for each in value["withheld"] if each in _KNOWN_PATHS]
    named = _loads(identity, "identity") if identity.strip(b" ") and event.name in NAMED else None
    upcast(event.name, written, today, value, named)
    checked(SHAPES[event.name], value, context, "content")
    if identity.strip(b" "):
        if event.name not in NAMED:
            raise PayloadError("payload_invalid", path="identity")
        checked(NAMED[event.name], named, replace(context, references=[]), "identity")
    payload = value["payload"]
    bundle: dict[str, Any] = {}
    salt = pseudonym = None
    data: dict[str, Any] = {}
    if event.name in TABLES:
        bundle = payload
        said = _read(event.name, payload, named)
        data, salt, pseudonym = said.facts, said.salt, said.pseudonym
    elif event.name in plain.PLAIN:
        if named is None and event.name in NAMED:
            checked(NAMED[event.name], {}, context, "identity")
        data, salt = _read_plain(event.name, payload, named or {})
    elif event.name.startswith("receipt."):
        data = {"receipt": payload}
    claims = None
    if value["claims"] is not None:
        claims = validated(Claims, value["claims"], "content.claims")
        lawful = data.setdefault("lawful", {})
        if lawful.get("basis", claims.basis) != claims.basis:
            raise PayloadError("payload_invalid", path="content.claims.basis")
        lawful["basis"] = claims.basis
        lawful["legal_reference"] = claims.legal_reference
        lawful["authorisations"] = claims.authorisations
    facts = validated(Facts, {**data, "occurred_at": value["occurred_at"]})
    for name, answer in facts.htcds.items():
        if htcds.check(name, answer) != answer:
            raise PayloadError("payload_invalid", path=f"htcds.{name}")
    recorded_at = datetime.fromisoformat(value["recorded_at"])
    withheld = tuple(value["withheld"])
    if withheld and (list(withheld) != sorted(set(withheld)) or set(withheld).intersection(field_paths(facts))):
        raise PayloadError("payload_invalid", path="content.withheld")
    _members(event.name, facts)
    if claims is not None:
        _agree(claims, facts, withheld, salt)
    _rules(event.name, facts, claims, recorded_at)
    return Opened(event.name, version, facts.occurred_at, recorded_at, claims, withheld, facts, bundle, pseudonym)


def _read(event: str, payload: dict[str, Any], named: dict[str, Any] | None) -> fhir.Read:
    """Both halves, together, to plain facts; FHIR's own rules included."""
    try:
        if named is not None:
            check_pair(payload, named)
    except WrongError as exc:
        path = exc.path("identity")
    else:
        try:
            return fhir.read(event, payload, named)
        except WrongError as exc:
            path = exc.path("content.payload")
    raise PayloadError("payload_invalid", path=path)


def _read_plain(event: str, payload: dict[str, Any], named: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Members of `Facts`, and the salt of the consent's commitment."""
    said = plain.together(payload["said"], named.get("said", {}))
    data: dict[str, Any] = {"said": validated(plain.PLAIN[event], said, "said")}
    if "lawful" in payload:
        data["lawful"] = plain.together(payload["lawful"], named.get("lawful", {}))
    return data, payload.get("salt")
