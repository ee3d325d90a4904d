# SPDX-License-Identifier: Apache-2.0
"""The policy as data: flows, events, firewall, what travels, figures. Read strictly, from the files in `policy/`.

Purpose: values that `topics.catalogue.may` decides by; nothing here decides.
Invariants: an unknown or missing flow, kind, role or member is an error at once, so that no typing mistake opens or
closes anything in silence; law enforcement has no mailbox in flows of assistance, whatever the file says.
Must never: do I/O but reading the policy's own files, once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, get_args

from schemas.data_files import read_together
from schemas.envelope import FLOWS, KINDS, Kind
from schemas.forms import Authority, Basis, Priority
from schemas.lifecycle import MACHINES
from schemas.plain.transfer import RiskLevel
from schemas.registry import ROLES


@dataclass(frozen=True, slots=True)
class EventRule:
    """One type of event: where it travels, who says it to whom, on what it may rest."""

    name: str
    flow: str
    """"*": whichever flow its sender may otherwise send in to that owner (the flow of the chain it mends, of the thread
    it belongs to)."""
    kind: Kind
    machine: str | None
    by: Literal["initiator", "recipient", "holder"]
    sender: frozenset[str]
    to: frozenset[str]
    basis: frozenset[str]
    answer_within_s: Mapping[str, int]
    agreement: bool = False
    """Only under an agreement in force, with the authorisations that the domains concerned ask for."""
    said_as: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """Member of what is said -> code -> roles whose word that is; other codes are anybody's."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two bodies may transfer persons under."""

    domains: frozenset[str]
    flows: frozenset[str]
    since: date
    until: date
    """The first day on which it is no longer in force."""


@dataclass(frozen=True, slots=True)
class Authorisations:
    """Whose authorisation a domain asks for; `schemas.forms.Authority`."""

    child: frozenset[str]
    """For a child, and for somebody who may be one."""
    child_in_danger: frozenset[str]
    """The same on vital interests, where there is no guardian to ask."""
    child_not_in: frozenset[str]
    """Flows to which this does not apply."""
    abroad: frozenset[str]
    """To pass its border."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one agency may take of one gateway."""

    records_per_minute: int
    megabytes_per_hour: int
    grants_per_record: int
    waiting_reads: int


@dataclass(frozen=True, slots=True)
class Places:
    """How long a yes keeps a place that nobody has taken yet. Seconds."""

    hold_s: int
    """At most, of one yes."""
    untaken_s: int
    """Of one asker at one service, places times seconds."""
    within_s: int
    """Within this time."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it, as `read_policy` gives it."""

    version: int
    mailboxes: Mapping[str, frozenset[str]]
    """Flow -> roles that have such a mailbox."""
    retention_days: Mapping[str, int]
    """Flow -> how long what travels in it is kept."""
    events: Mapping[str, EventRule]
    law_enforcement: frozenset[str]
    open_flows: frozenset[str]
    """Flows in which a protected handle may address law enforcement; never the other way round."""
    answers: frozenset[str]
    """Events that pass the firewall as the answer to what passed it the other way, and only so."""
    listens_only: Mapping[str, frozenset[str]]
    """Flows in which law enforcement sends nothing -> the events that it receives there."""
    always: Mapping[str, frozenset[str]]
    by_service: Mapping[str, Mapping[str, frozenset[str]]]
    never: Mapping[str, Mapping[str, frozenset[str]]]
    """Event -> role of the reader -> what does not travel to it, whichever service is asked for."""
    quota: Quota
    auditors: frozenset[str]
    """Roles that may read the ledger's entries."""
    kafka: Mapping[str, Mapping[str, str]]
    agreements: Mapping[str, Agreement]
    authorisations: Mapping[str, Authorisations]
    """By domain."""
    attach: Mapping[str, frozenset[str]]
    """Event that may carry files -> roles of those that it may carry them to."""
    places: Places
    risk_stops: frozenset[str]
    """Levels of risk at which nobody departs."""


_SECTIONS = frozenset(
    (
        *("version", "flow", "event", "firewall", "minimise", "attach", "quota", "ledger", "kafka", "agreement"),
        *("authorisations", "places", "risk"),
    )
)
_SPAN = re.compile(r"([0-9]+)([hd])")


def _span(text: str) -> int:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError("a span is hours or days: 2h, 14d")
    return int(match[1]) * (3600 if match[2] == "h" else 86_400)


def _roles(raw: Iterable[str]) -> frozenset[str]:
    roles = frozenset(ROLES) if list(raw) == ["*"] else frozenset(raw)
    if not roles <= set(ROLES):
        raise ValueError("unknown role")
    return roles


def read_policy(text: str) -> Policy:
    """Read a policy strictly: an unknown or missing flow, kind, role or member is a ValueError (its author sees it)."""
    return policy_of(tomllib.loads(text))


def policy_of(raw: Mapping[str, Any]) -> Policy:
    """As `read_policy`, of what the text says."""
    if raw.keys() != _SECTIONS or raw["version"] != 1:
        raise ValueError("unknown or missing section")
    for name, flow in raw["flow"].items():
        _members(f"flow {name}", flow, {"mailbox", "retention_days"})
    _members("firewall", raw["firewall"], {"law_enforcement", "protected_flows_open", "answers", "listens_only"})
    for name, item in raw["minimise"].items():
        _members(f"minimise {name}", item, {"always"}, {"service", "never"})
    _members("ledger", raw["ledger"], {"auditors"})
    _members("places", raw["places"], {"hold", "untaken", "within"})
    _members("risk", raw["risk"], {"stops"})
    if not set(raw["risk"]["stops"]) <= set(get_args(RiskLevel)):
        raise ValueError("risk: unknown level")
    _members("quota", raw["quota"], {"records_per_minute", "megabytes_per_hour", "grants_per_record", "waiting_reads"})
    if not raw["flow"].keys() <= set(FLOWS):
        raise ValueError("unknown flow")
    mailboxes = {name: _roles(raw["flow"][name]["mailbox"]) for name in FLOWS if name in raw["flow"]}
    events = {name: _event(name, event) for name, event in raw["event"].items()}
    if not {e.flow for e in events.values()} <= mailboxes.keys() | {"*"}:
        raise ValueError("unknown flow")
    if not raw["minimise"].keys() <= events.keys():
        raise ValueError("minimise: unknown event")
    for name, item in raw["attach"].items():
        _members(f"attach {name}", item, {"to"})
    if not raw["attach"].keys() <= events.keys():
        raise ValueError("attach: unknown event")
    law = _roles(raw["firewall"]["law_enforcement"])
    listens = {flow: frozenset(heard) for flow, heard in raw["firewall"]["listens_only"].items()}
    if not {*raw["firewall"]["protected_flows_open"], *listens} <= set(FLOWS):
        raise ValueError("firewall: unknown flow")
    if any(name not in events or events[name].flow != flow for flow, heard in listens.items() for name in heard):
        raise ValueError("firewall: unknown event of that flow")
    answers = frozenset(raw["firewall"]["answers"])
    if any(name not in events or events[name].machine is not None or events[name].flow == "*" for name in answers):
        raise ValueError("firewall: only what machines tell each other answers")
    if law & (mailboxes.get("referral", frozenset()) | mailboxes.get("case", frozenset())):
        raise ValueError("firewall: law enforcement has no mailbox in assistance flows")
    return Policy(
        version=1,
        mailboxes=MappingProxyType(mailboxes),
        retention_days=MappingProxyType({name: int(raw["flow"][name]["retention_days"]) for name in mailboxes}),
        events=MappingProxyType(events),
        law_enforcement=law,
        open_flows=frozenset(raw["firewall"]["protected_flows_open"]),
        answers=answers,
        listens_only=MappingProxyType(listens),
        always=MappingProxyType({name: frozenset(item["always"]) for name, item in raw["minimise"].items()}),
        by_service=MappingProxyType(
            {
                name: MappingProxyType({service: frozenset(fields) for service, fields in item["service"].items()})
                for name, item in raw["minimise"].items()
                if "service" in item
            }
        ),
        never=MappingProxyType(
            {
                name: MappingProxyType({role: frozenset(item["never"][role]) for role in _roles(item["never"])})
                for name, item in raw["minimise"].items()
                if "never" in item
            }
        ),
        quota=Quota(**raw["quota"]),
        auditors=_roles(raw["ledger"]["auditors"]),
        kafka=MappingProxyType({name: MappingProxyType(item) for name, item in raw["kafka"].items()}),
        agreements=MappingProxyType({name: _agreement(name, item) for name, item in raw["agreement"].items()}),
        authorisations=MappingProxyType(
            {name: _authorisations(name, item) for name, item in raw["authorisations"].items()}
        ),
        attach=MappingProxyType({name: _roles(item["to"]) for name, item in raw["attach"].items()}),
        risk_stops=frozenset(raw["risk"]["stops"]),
        places=Places(**{f"{name}_s": _span(span) for name, span in raw["places"].items()}),
    )


def _agreement(name: str, raw: Mapping[str, Any]) -> Agreement:
    members = {"title_fr", "title_en", "domains", "flows", "from", "until", "source"}
    _members(f"agreement {name}", raw, members)
    if not set(raw["flows"]) <= set(FLOWS) or not isinstance(raw["from"], date) or not isinstance(raw["until"], date):
        raise ValueError(f"agreement {name}: unknown flow or date")
    return Agreement(frozenset(raw["domains"]), frozenset(raw["flows"]), raw["from"], raw["until"])


def _authorisations(name: str, raw: Mapping[str, Any]) -> Authorisations:
    _members(f"authorisations {name}", raw, {"child", "child_in_danger", "child_not_in", "abroad"})
    if not {*raw["child"], *raw["child_in_danger"], *raw["abroad"]} <= set(get_args(Authority)):
        raise ValueError(f"authorisations {name}: unknown authority")
    if not set(raw["child_not_in"]) <= set(FLOWS):
        raise ValueError(f"authorisations {name}: unknown flow")
    return Authorisations(**{member: frozenset(raw[member]) for member in raw})


def _members(where: str, raw: Mapping[str, Any], needed: set[str], may: Iterable[str] = ()) -> None:
    if not needed <= raw.keys() or not raw.keys() <= needed.union(may):
        raise ValueError(f"{where}: unknown or missing member")


def _event(name: str, raw: Mapping[str, Any]) -> EventRule:
    optional = {"machine", "basis", "answer_within", "agreement", "as"}
    _members(f"event {name}", raw, {"flow", "kind", "by", "from", "to"}, optional)
    if raw["kind"] not in KINDS or raw["by"] not in ("initiator", "recipient", "holder"):
        raise ValueError(f"event {name}: unknown kind or party")
    if raw.get("machine") not in (None, "*", *MACHINES) or not set(raw.get("basis", ())) <= set(get_args(Basis)):
        raise ValueError(f"event {name}: unknown machine or basis")
    if not raw.get("answer_within", {}).keys() <= set(get_args(Priority)):
        raise ValueError(f"event {name}: unknown priority")
    return EventRule(
        name=name,
        flow=raw["flow"],
        kind=raw["kind"],
        machine=raw.get("machine"),
        by=raw["by"],
        sender=_roles(raw["from"]),
        to=_roles(raw["to"]),
        basis=frozenset(raw.get("basis", ())),
        answer_within_s=MappingProxyType({k: _span(v) for k, v in raw.get("answer_within", {}).items()}),
        agreement=bool(raw.get("agreement", False)),
        said_as=MappingProxyType(
            {
                member: MappingProxyType({code: _roles(whose) for code, whose in codes.items()})
                for member, codes in raw.get("as", {}).items()
            }
        ),
    )


@lru_cache(maxsize=1)
def policy() -> Policy:
    """The policy that ships with this version."""
    return read_policy(read_together("topics", "policy"))
