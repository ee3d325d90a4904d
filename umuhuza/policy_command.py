# SPDX-License-Identifier: Apache-2.0
"""`umuhuza policy`: asks the policy and says yes or no, which line says so, and what would have to change.

    umuhuza policy explain bi/police "send referral.requested to bi/k7t4"
    umuhuza policy explain bi/iom "read bi.case.iom"
    umuhuza policy show referral.requested

Invariants: every decision is `topics.catalogue.may`'s; the words come from `topics/policy_words.toml`. Without a
registry a fictional domain is asked, and that is said.
Must never: decide; need a key, a network or a running domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from schemas.claims import AgreementClaim, Claims, ConsentClaim, SafeguardClaim
from schemas.envelope import FLOWS, is_agency, mailbox_topic, split_topic
from schemas.errors import CODES, RecordError
from schemas.event_types import EVENTS, PURPOSES
from schemas.forms import Basis
from schemas.registry import ROLES, Registry, SignedProtocol
from topics.catalogue import Act, Verdict, may
from topics.policy_file import policy
from topics.policy_lines import line_of, words_of
from topics.registry_file import read_registry, registry_pin
from umuhuza.fictional import fictional_registry
from umuhuza.options import Json
from umuhuza.policy_shown import listed, shown_event, shown_flow, shown_role, summary
from umuhuza.registry_words import protocol_json, protocol_line
from umuhuza.words import labelled, language, result, say, t

app = typer.Typer(no_args_is_help=True)

EXAMPLES: Sequence[tuple[str, str]] = (
    ("envoyer referral.requested à bi/k7t4", "send referral.requested to bi/k7t4"),
    (
        "envoyer referral.requested à bi/k7t4 sur vital-interests",
        "send referral.requested to bi/k7t4 on vital-interests",
    ),
    ("envoyer chain.voided à bi/k7t4 dans referral", "send chain.voided to bi/k7t4 in referral"),
    ("lire bi.case.iom", "read bi.case.iom"),
)
_SEND = re.compile(
    r"(?:send|envoyer)\s+(?P<event>\S+)\s+(?:to|à|a)\s+(?P<to>\S+)"
    r"(?:\s+(?:in|dans)\s+(?P<flow>\S+))?(?:\s+(?:on|sur)\s+(?P<basis>\S+))?",
    re.IGNORECASE,
)
_READ = re.compile(r"(?:read|lire)\s+(?P<topic>\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, understood."""

    agency: str
    event: str | None
    """None: to read."""
    owner: str
    """Agency whose mailbox it is."""
    flow: str
    basis: Basis | None
    at: datetime
    """Consent and agreement must be in force then."""

    @property
    def topic(self) -> str:
        return mailbox_topic(self.flow, self.owner)


@dataclass(frozen=True, slots=True)
class Answer:
    question: Question
    verdict: Verdict
    why: str
    change: str
    others: tuple[str, ...]
    """Agencies of this registry that might do it instead, or to whom it might be sent instead."""
    others_are: str
    """"senders", "recipients" or ""."""


# ---------------------------------------------------------------------------------------------------------------------
# What was asked


def _wrong(said: str) -> typer.BadParameter:
    examples = "".join(f"\n  umuhuza policy explain bi/iom {t(fr, en)!r}" for fr, en in EXAMPLES)
    return typer.BadParameter(f"{said}{t(' Par exemple :', ' For example:')}{examples}", param_hint="ACTION")


def _near(word: str, among: Iterable[str]) -> str:
    found = get_close_matches(word, list(among), n=3, cutoff=0.6)
    return t(f" Plutôt {', '.join(found)} ?", f" Did you mean {', '.join(found)}?") if found else ""


def _agency_id(word: str, registry: Registry, hint: str) -> str:
    if not is_agency(word):
        said = t(
            f"« {word} » n'est pas un identifiant d'agence (bi/iom).",
            f'"{word}" is not the identifier of an agency (bi/iom).',
        )
        raise typer.BadParameter(said + _near(word, registry.agencies), param_hint=hint)
    return word


def questions(agency: str, action: str, registry: Registry, at: datetime) -> list[Question]:
    """What the action may mean: one question, or one per flow for an event that goes in its thread's flow.

    Raises:
        typer.BadParameter: it is no action, with examples; or a word in it cannot be what it has to be.
    """
    who = _agency_id(agency, registry, "AGENCY")
    words = action.strip()
    read, send = _READ.fullmatch(words), _SEND.fullmatch(words)
    if read is not None:
        try:
            flow, owner = split_topic(read["topic"])
        except RecordError:
            raise _wrong(
                t("Une boîte s'écrit domaine.flux.agence.", "A mailbox is written domain.flow.agency.")
            ) from None
        return [Question(who, None, owner, flow, None, at)]
    if send is None:
        raise _wrong(t("Cette action n'est pas comprise.", "This action is not understood."))
    basis = _basis(send["basis"])
    event, owner = send["event"], _agency_id(send["to"], registry, "ACTION")
    if send["flow"] is not None and send["flow"] not in FLOWS:
        raise _wrong(t("Ce flux n'existe pas.", "There is no such flow.") + _near(send["flow"], FLOWS))
    known = EVENTS.get(event)
    if known is None:
        flows: Sequence[str] = (send["flow"] or event.partition(".")[0],)
    elif send["flow"] is not None:
        flows = (send["flow"],)
    else:
        flows = tuple(policy().mailboxes) if known.flow == "*" else (known.flow,)
    return [Question(who, event, owner, flow, basis, at) for flow in flows]


def _basis(word: str | None) -> Basis | None:
    for basis in get_args(Basis):
        if word == basis:
            found: Basis = basis
            return found
    if word is not None:
        raise _wrong(
            t("Une base légale est l'une de : ", "A lawful basis is one of: ") + ", ".join(get_args(Basis)) + "."
        )
    return None


# ---------------------------------------------------------------------------------------------------------------------
# What the policy answers


def _claims(question: Question, registry: Registry) -> Claims | None:
    """What its sender would have to claim: consent for this recipient unless another basis is asked about."""
    event = question.event
    if event is None or event not in PURPOSES:
        return None
    allowed = policy().events[event].basis
    basis = question.basis or ("consent" if "consent" in allowed else min(allowed, default="consent"))
    consent = None
    if basis == "consent":
        consent = ConsentClaim(
            commitment="A" * 43,
            given_at=question.at,
            expires_at=question.at + timedelta(days=1),
            scope=("referral",),
        )
    return Claims.model_validate(
        {
            "basis": basis,
            "purpose": PURPOSES[event],
            "recipient": question.owner,
            "consent": consent,
            "legal_reference": None,
            "safeguards": SafeguardClaim(age="adult", guardian=None, best_interest=False),
            "agreement": _agreement(question, registry) if policy().events[event].agreement else None,
        }
    )


def _protocols(question: Question, registry: Registry) -> list[SignedProtocol]:
    """Those that bind both, the ones that count first."""
    both = {question.agency, question.owner}
    found = [one for one in registry.protocols.values() if both <= set(one.terms.agencies)]
    return sorted(found, key=lambda one: (not one.counts, one.terms.name))


def _opens(found: SignedProtocol, question: Question) -> bool:
    return found.counts and question.flow in found.terms.flows and found.terms.in_force(question.at.date())


def _agreement(question: Question, registry: Registry) -> AgreementClaim | None:
    """The first protocol of both that counts, or agreement between these domains, with every authorisation: what may be
    missing is told beside a yes."""
    rules = policy()
    domains = {question.agency.partition("/")[0], question.owner.partition("/")[0]}
    between = [
        *(one.terms.name for one in _protocols(question, registry) if _opens(one, question)),
        *(name for name, signed in rules.agreements.items() if domains <= signed.domains),
    ]
    if not between and not rules.agreements:
        return None
    held = {one for asked in rules.authorisations.values() for one in (*asked.child, *asked.abroad)}
    return AgreementClaim.model_validate(
        {
            "id": (between or list(rules.agreements))[0],
            "authorisations": tuple(sorted(held)),
            "origin": question.owner.partition("/")[0],
            "asylum_wished": False,
            "voluntary": True,
        }
    )


def decide(question: Question, registry: Registry) -> Verdict:
    """The policy's answer, asked with everything, as an adapter asks."""
    if question.event is None:
        return may(Act("read", question.agency, question.topic), registry)
    known = EVENTS.get(question.event)
    kind = None if known is None else known.kind
    act = Act("send", question.agency, question.topic, kind, question.event, _claims(question, registry), question.at)
    verdict = may(act, registry)
    if known is None and question.agency in registry.agencies and question.owner in registry.agencies:
        return replace(verdict, ok=False, code="not_permitted", rule="event.*")
    return verdict


def answer(asked: Sequence[Question], registry: Registry) -> Answer:
    """The answer to show: of several flows the first that is allowed, else the first that is not."""
    decided = [(question, decide(question, registry)) for question in asked]
    question, verdict = next((one for one in decided if one[1].ok), decided[0])
    words = words_of(verdict.rule, verdict.ok, language())
    values = _values(question, verdict, registry)
    why = words.why.format_map(values)
    if verdict.rule == "registry":
        why += _near(values["unknown"], registry.agencies)
    if verdict.rule == "event.*":
        why += _near(question.event or "", EVENTS)
    others_are = {
        "from": "senders",
        "to": "recipients",
    }.get(verdict.rule.rpartition(".")[2], "")
    if verdict.rule.endswith(".mailbox") and not verdict.ok:
        others_are = "recipients" if question.event else ""
    others = _others(question, registry, others_are)
    return Answer(question, verdict, why, words.change.format_map(values), others, others_are if others else "")


def _values(question: Question, verdict: Verdict, registry: Registry) -> dict[str, str]:
    def roles(agency: str) -> str:
        return listed(registry.agencies[agency].roles) if agency in registry.agencies else "?"

    rule = policy().events.get(question.event or "")
    into = rule.to if rule is not None else frozenset[str]()
    if verdict.rule.endswith(".mailbox"):
        into = policy().mailboxes.get(question.flow, frozenset())
    code, known = CODES.get(verdict.code), EVENTS.get(question.event or "")
    return {
        "sender": question.agency,
        "to": question.owner,
        "sender_roles": roles(question.agency),
        "to_roles": roles(question.owner),
        "unknown": question.owner if question.agency in registry.agencies else question.agency,
        "event": question.event or "",
        "name": "" if known is None else known.labels[language()],
        "flow": question.flow,
        "from": listed(rule.sender) if rule is not None else "",
        "into": listed(into),
        "basis": ", ".join(sorted(rule.basis)) if rule is not None else "",
        "code": "" if code is None else code.title(language()),
        "advice": "" if code is None else code.advice(language()),
    }


def _others(question: Question, registry: Registry, which: str) -> tuple[str, ...]:
    if which == "senders":
        asked = [replace(question, agency=one) for one in registry.agencies]
        return tuple(one.agency for one in asked if decide(one, registry).ok)
    if which == "recipients":
        asked = [replace(question, owner=one) for one in registry.agencies]
        return tuple(one.owner for one in asked if decide(one, registry).ok)
    return ()


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


def _registry(file: Path | None, key: str | None) -> Registry:
    if file is None:
        return fictional_registry()
    if key is None:
        raise typer.BadParameter(
            t(
                "un registre se lit avec l'empreinte de sa racine (umuhuza registry show la montre).",
                "a registry is read with the fingerprint of its root (umuhuza registry show tells it).",
            ),
            param_hint="--registry-root",
        )
    return read_registry(file, registry_pin(key, "--registry-root")).registry


@app.command(
    help=t(
        "Dit oui ou non, quelle ligne de la politique le dit, et ce qu'il faudrait changer. ACTION : « envoyer "
        "referral.requested à bi/k7t4 » ou « lire bi.case.iom ». Sort avec 0 pour oui, 1 pour non.",
        "Say yes or no, which line of the policy says so, and what would have to change. ACTION: "
        '"send referral.requested to bi/k7t4" or "read bi.case.iom". Exits with 0 for yes, 1 for no.',
    )
)
def explain(
    agency: Annotated[str, typer.Argument(help=t("L'agence qui agirait : bi/police.", "Who would act: bi/police."))],
    action: Annotated[
        str,
        typer.Argument(
            help=t(
                "« envoyer ÉVÉNEMENT à AGENCE [dans FLUX] [sur BASE] » ou « lire BOÎTE ».",
                '"send EVENT to AGENCY [in FLOW] [on BASIS]" or "read MAILBOX".',
            )
        ),
    ],
    registry: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Fichier du registre (registry.json). Sans lui, un domaine fictif répond.",
                "Registry file (registry.json). Without it a fictional domain is asked.",
            )
        ),
    ] = None,
    registry_root: Annotated[
        str | None,
        typer.Option(help=t("Empreinte de la racine, pour lire le registre.", "Fingerprint of the root.")),
    ] = None,
    as_json: Json = False,
) -> None:
    held = _registry(registry, registry_root)
    found = answer(questions(agency, action, held, datetime.now(UTC)), held)
    line = line_of(found.verdict.rule)
    if as_json:
        result(
            {
                "ok": True,
                "allowed": found.verdict.ok,
                "code": found.verdict.code,
                "rule": found.verdict.rule,
                "file": None if line is None else line.file,
                "line": None if line is None else line.number,
                "says": None if line is None else line.text,
                "why": found.why,
                "change": found.change,
                "agency": agency,
                "topic": found.question.topic,
                "event": found.question.event,
                "protocols": {one.terms.name: protocol_json(one) for one in _protocols(found.question, held)},
                found.others_are or "others": list(found.others),
                "registry": None if registry is None else str(registry),
            },
            as_json=True,
        )
    else:
        if registry is None:
            say(
                t(
                    "Domaine fictif ; pour le vôtre : --registry FICHIER --registry-root CLÉ",
                    "A fictional domain; for yours: --registry FILE --registry-root KEY",
                )
            )
        result(
            None,
            as_json=False,
            lines=[*_lines(found), *(f"  {protocol_line(one)}" for one in _protocols(found.question, held))],
        )
    if not found.verdict.ok:
        raise typer.Exit(1)


def _lines(found: Answer) -> Iterable[str]:
    yield f"{t('OUI', 'YES') if found.verdict.ok else t('NON', 'NO')} · {found.why}"
    line = line_of(found.verdict.rule)
    yield "  " + labelled("règle", "rule", found.verdict.rule)
    if line is not None:
        yield f"  {line.file}:{line.number}: {line.text}"
    if found.verdict.ok and found.question.event is not None:
        yield "  " + labelled("boîte", "mailbox", found.question.topic)
        yield from _conditions(found.question)
    if found.change:
        yield f"  → {found.change}"
    if found.others_are == "senders":
        yield "  " + labelled("peuvent l’envoyer ici", "may send it here", ", ".join(found.others))
    if found.others_are == "recipients":
        yield "  " + labelled("peut leur être envoyé", "may be sent to", ", ".join(found.others))


def _asked_by(domain: str) -> frozenset[str]:
    asked = policy().authorisations.get(domain)
    return frozenset[str]() if asked is None else asked.child | asked.abroad


def _asked_of_a_child(domain: str, flow: str) -> frozenset[str]:
    asked = policy().authorisations.get(domain)
    return frozenset[str]() if asked is None or flow in asked.child_not_in else asked.child


def _conditions(question: Question) -> Iterable[str]:
    """What a yes depends on beside who and whom."""
    rule = policy().events[question.event or ""]
    bodies = sorted({question.agency.partition("/")[0], question.owner.partition("/")[0]})
    if rule.basis:
        bases = ", ".join(sorted(rule.basis))
        yield (
            "  "
            + t(
                f"à condition d'une base légale pour {question.owner} : {bases}",
                f"provided there is a lawful basis for {question.owner}: {bases}",
            )
        )
    asked = sorted({one for body in bodies for one in _asked_of_a_child(body, question.flow)})
    if rule.basis and not rule.agreement and asked:
        yield (
            "  "
            + t(
                f"et, pour un enfant ou qui peut en être un, de : {', '.join(asked)}",
                f"and, for a child or somebody who may be one, with: {', '.join(asked)}",
            )
        )
    if rule.agreement:
        asked = sorted({one for body in bodies for one in _asked_by(body)})
        yield (
            "  "
            + t(
                f"à condition d'un accord en vigueur entre ces domaines, de son propre gré, avec : {', '.join(asked)}",
                f"provided an agreement between these domains is in force, it is her wish, with: {', '.join(asked)}",
            )
        )
    if rule.by != "holder":
        yield (
            "  "
            + t(
                f"dans un échange, seulement par l'agence qui l'a {'ouvert' if rule.by == 'initiator' else 'reçu'}",
                f"in a thread, only by the agency that {'opened' if rule.by == 'initiator' else 'received'} it",
            )
        )


@app.command(
    help=t(
        "Montre la politique : en tout, d'un événement, d'un flux ou d'un rôle.",
        "Show the policy: all of it, or of one event, flow or role.",
    )
)
def show(
    what: Annotated[
        str | None, typer.Argument(help=t("Un événement, un flux ou un rôle.", "An event, a flow or a role."))
    ] = None,
    as_json: Json = False,
) -> None:
    if what is None:
        value, lines = summary()
    elif what in EVENTS:
        value, lines = shown_event(what)
    elif what in policy().mailboxes:
        value, lines = shown_flow(what)
    elif what in ROLES:
        value, lines = shown_role(what)
    else:
        said = t(f"« {what} » n'est ni un événement, ni un flux, ni un rôle.", f'"{what}" is no event, flow or role.')
        raise typer.BadParameter(said + _near(what, (*EVENTS, *policy().mailboxes, *ROLES)), param_hint="WHAT")
    shown: dict[str, Any] = {"ok": True, **value}
    result(shown, as_json=as_json, lines=lines)
