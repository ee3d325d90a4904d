# SPDX-License-Identifier: Apache-2.0
"""The one policy: flows, mailboxes, who may do what, what must be inside. Data (`policy/`) plus `may()`.

The gateway asks it before it appends, adapters ask it before they send and again after they receive, topic lists and
quotas are compiled from it. No rule stands anywhere else. No I/O but reading its own data files once.

What the gateway cannot see (the exact type, the claims) it does not ask about: it asks by flow and kind. Adapters ask
with everything. `Verdict.rule` is the dotted path of the line of the policy that decided, so that a refusal can be
looked up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from schemas.data_files import read_together
from schemas.envelope import FLOWS, KINDS, Kind, mailbox_topic, split_topic
from schemas.errors import LogError, PolicyError, RecordError, RegistryError
from schemas.event_types import FLOWS_WITH
from schemas.forms import Authority, Basis, Priority
from schemas.lifecycle import MACHINES
from schemas.plain.transfer import RiskLevel
from schemas.registry import ROLES, Agency, Registry
from topics.log import grants_topic

Do = Literal["send", "read", "receive"]
_GRANTS = re.compile(r"[a-z]{2}\.grants\.[a-z0-9-]+")
_REGISTRY = re.compile(r"[a-z]{2}\.registry\.log")
_LEDGER = re.compile(r"[a-z]{2}\.ledger")


class Claims(Protocol):
    """What an adapter knows of the sealed claims (`schemas.claims.Claims`)."""

    @property
    def basis(self) -> str: ...
    @property
    def recipient(self) -> str: ...
    @property
    def consent(self) -> ConsentClaim | None: ...
    @property
    def safeguards(self) -> SafeguardClaim | None: ...
    @property
    def agreement(self) -> AgreementClaim | None: ...
    @property
    def authorisations(self) -> Iterable[AuthorisationClaim]: ...


class AuthorisationClaim(Protocol):
    """That a decision is held."""

    @property
    def authority(self) -> str: ...


class ConsentClaim(Protocol):
    """That she consented, and until when."""

    @property
    def expires_at(self) -> datetime: ...


class SafeguardClaim(Protocol):
    """How old she is as far as is known, and who answers for her."""

    @property
    def age(self) -> str: ...
    @property
    def guardian(self) -> str | None: ...


class AgreementClaim(Protocol):
    """Under what a person is transferred or returned."""

    @property
    def id(self) -> str: ...
    @property
    def authorisations(self) -> Iterable[str]: ...
    @property
    def origin(self) -> str: ...
    @property
    def asylum_wished(self) -> bool: ...
    @property
    def voluntary(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that somebody wants to do.

    `do`: "send" puts a record into `topic` (asked by gateway and sending adapter), "receive" takes one that arrived
    (receiving adapter), "read" reads the mailbox. `agency` is the one that acts: for "receive", the *sender*, since
    the question is whether it was allowed to send.
    """

    do: Do
    agency: str
    topic: str
    kind: Kind | None = None
    type: str | None = None
    """None: not known (gateway)."""
    claims: Claims | None = None
    at: datetime | None = None
    """When; needed with claims (consent expires)."""
    answers: Act | None = None
    """What a machine's receipt answers, as whoever asks knows it from the record itself; its kind may be unknown."""
    concerning: SafeguardClaim | None = None
    """Whom it concerns where its claims do not say: what its thread has said of her."""
    said: object | None = None
    """What a plain event says, as far as the policy asks for it (`EventRule.said_as`)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and by which line of the policy."""

    ok: bool
    code: str
    """An error code when not ok, else ""."""
    rule: str
    """Dotted path in the policy that decided."""

    def require(self) -> None:
        """Raises PolicyError with the verdict's code; its path is the rule."""
        if not self.ok:
            raise PolicyError(self.code, self.rule)


@dataclass(frozen=True, slots=True)
class EventRule:
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


# ---------------------------------------------------------------------------------------------------------------------
# Mailboxes


def acting(agency: Agency) -> frozenset[str]:
    """The roles in which an agency acts. Who enforces the law does nothing else here: no second role that it was given,
    by mistake or for good reasons, opens the firewall."""
    roles = frozenset[str](agency.roles)
    return roles & policy().law_enforcement or roles


def flows_of(agency: Agency) -> tuple[str, ...]:
    """Flows in which the agency has a mailbox, in the catalogue's order."""
    roles = acting(agency)
    return tuple(flow for flow, owners in policy().mailboxes.items() if owners & roles)


def mailboxes_of(agency: Agency) -> tuple[str, ...]:
    """`bi.referral.iom`, `bi.case.iom`, `bi.receipt.iom`."""
    return tuple(mailbox_topic(flow, agency.id) for flow in flows_of(agency))


def topics_of(registry: Registry) -> tuple[str, ...]:
    """Every topic of a domain: mailboxes, and one grants topic per agency."""
    names = [topic for agency in registry.agencies.values() for topic in mailboxes_of(agency)]
    names += [grants_topic(agency) for agency in registry.agencies]
    return tuple(sorted(names))


# ---------------------------------------------------------------------------------------------------------------------
# Kafka


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic as it must be: always one partition, since a mailbox is one order."""

    name: str
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KafkaAcl:
    """One line of who may do what on the brokers. Ours are all literal: a prefix would serve a neighbour's name."""

    principal: str
    """ "User:bi.iom"."""
    operation: str
    """ "read" or "write"; each includes seeing the topic."""
    name: str
    resource: str = "topic"
    pattern: str = "literal"
    permission: str = "allow"
    host: str = "*"


_REPLICAS = 3


def registry_topic(domain: str) -> str:
    """`bi.registry.log`: the log's identity, see `kafka_identity`."""
    return f"{domain}.registry.log"


def ledger_topic(domain: str) -> str:
    """`bi.ledger`: the ledger's primary store, see `kafka_ledger`."""
    return f"{domain}.ledger"


def is_mailbox_topic(topic: str) -> bool:
    """Whether records stand in it: not a topic of grants, of the log's identity or of the ledger."""
    return not any(pattern.fullmatch(topic) for pattern in (_GRANTS, _REGISTRY, _LEDGER))


def is_grants_topic(topic: str) -> bool:
    return _GRANTS.fullmatch(topic) is not None


def kafka_principal(agency: str) -> str:
    """`bi/iom` -> `User:bi.iom`: what the brokers make of the certificate with O=bi, CN=iom."""
    return "User:" + agency.replace("/", ".")


def kafka_topic(name: str, nodes: int) -> KafkaTopic:
    """How a topic must be on a cluster of so many brokers. Raises LogError `topic_unknown`: the name is no topic's.

    Three brokers or more: three replicas, two of which have every acknowledged record, and a replica that lacks one
    never leads.
    """
    if is_grants_topic(name):
        kind = "grants"
    elif _REGISTRY.fullmatch(name):
        kind = "registry"
    elif _LEDGER.fullmatch(name):
        kind = "ledger"
    else:
        try:
            flow, _ = split_topic(name)
        except RecordError:
            raise LogError("topic_unknown", "topic") from None
        if flow not in FLOWS:
            raise LogError("topic_unknown", "topic")
        kind = "mailbox"
    replication = min(nodes, _REPLICAS)
    safety = {"min.insync.replicas": str(min(replication, 2)), "unclean.leader.election.enable": "false"}
    return KafkaTopic(name, replication, MappingProxyType({**policy().kafka[kind], **safety}))


def kafka_topics(registry: Registry, nodes: int) -> dict[str, KafkaTopic]:
    """Every topic of a domain on Kafka, by name: `topics_of`, the ledger's, and the one that says which log it is."""
    names = (*topics_of(registry), registry_topic(registry.domain), ledger_topic(registry.domain))
    return {name: kafka_topic(name, nodes) for name in names}


def kafka_acls(registry: Registry) -> frozenset[KafkaAcl]:
    """Every ACL of a domain's agencies; what is not here is denied.

    An agency reads its own mailboxes, its own grants and the log's identity. One that has opted in (`direct`) writes
    where `may` lets it send: a broker sees neither type nor kind, so this is by topic, whatever flow and roles allow. A
    gateway (role operator) reads and writes every mailbox and every grants topic; so does whoever keeps the ledger,
    which is the operator's too. Nobody here makes topics or changes them: administrators do, who need no ACL. An
    idempotent producer needs no more than to write (Kafka 2.8 and later).

    An agency whose signing keys are all revoked has no rights: whoever took them may have its certificate.
    """
    shared = registry_topic(registry.domain)
    mailboxes = [topic for agency in registry.agencies.values() for topic in mailboxes_of(agency)]
    acls: set[KafkaAcl] = set()
    for agency in registry.agencies.values():
        who = kafka_principal(agency.id)
        if _is_revoked(agency):
            continue
        acls |= {KafkaAcl(who, "read", name) for name in (*mailboxes_of(agency), grants_topic(agency.id), shared)}
        if agency.direct:
            acls |= {KafkaAcl(who, "write", topic) for topic in mailboxes if _may_send_any(agency.id, topic, registry)}
        if "operator" in agency.roles:
            for topic in (*mailboxes, *map(grants_topic, registry.agencies), ledger_topic(registry.domain)):
                acls |= {KafkaAcl(who, "read", topic), KafkaAcl(who, "write", topic)}
    return frozenset(acls)


def kafka_quotas(registry: Registry) -> dict[str, dict[str, float]]:
    """What each agency's certificate may take of a broker, by the principal's name; a gateway carries all: no limit."""
    figures = {name: float(value) for name, value in policy().kafka["agency"].items()}
    return {
        kafka_principal(agency.id).removeprefix("User:"): dict(figures)
        for agency in registry.agencies.values()
        if "operator" not in agency.roles
    }


def _is_revoked(agency: Agency) -> bool:
    revoked = [key.revoked is not None for key in agency.keys if key.use == "sig"]
    return bool(revoked) and all(revoked)


def _may_send_any(agency: str, topic: str, registry: Registry) -> bool:
    return any(may(Act("send", agency, topic, kind=kind), registry).ok for kind in KINDS)


# ---------------------------------------------------------------------------------------------------------------------
# May


_YES = ""
ONLY_AS_ANSWER = "firewall.answers"
"""Rule of the refusal of what may be sent as an answer, when nothing is known that it answers."""


def _no(code: str, rule: str) -> Verdict:
    return Verdict(False, code, rule)


def may(act: Act, registry: Registry) -> Verdict:
    """Decide. Never raises for what is asked about: an unknown agency or topic is a `not_permitted` verdict."""
    try:
        agency = registry.agency(act.agency)
        flow, owner_id = split_topic(act.topic)
        owner = registry.agency(owner_id)
    except (RegistryError, RecordError):
        return _no("not_permitted", "registry")
    roles = policy().mailboxes.get(flow)
    if roles is None or not roles & acting(owner):
        return _no("not_permitted", f"flow.{flow}.mailbox" if flow in FLOWS else "flow")
    if act.do == "read":
        return Verdict(True, _YES, f"flow.{flow}.mailbox") if agency.id == owner.id else _no("not_permitted", "read")
    return _may_send(act, flow, agency, owner)


def _may_send(act: Act, flow: str, sender: Agency, owner: Agency) -> Verdict:
    rules = policy()
    if _is_walled(flow, sender, owner) and not _is_answer(act, flow, sender, owner):
        return _no("not_permitted", ONLY_AS_ANSWER if _may_answer(act, flow) else "firewall.law_enforcement")
    if not _may_be_heard(act, flow, sender, owner):
        return _no("not_permitted", "firewall.listens_only")
    if act.type is None:
        for event in rules.events.values():
            if event.kind == act.kind and _flow_fits(event, flow, sender, owner) and _roles_fit(event, sender, owner):
                return Verdict(True, _YES, f"event.{event.name}")
        return _no("not_permitted", f"flow.{flow}.{act.kind}")
    known = rules.events.get(act.type)
    if known is None:
        return _no("not_permitted", "event.*")
    rule = f"event.{known.name}"
    if not _flow_fits(known, flow, sender, owner):
        return _no("not_permitted", f"{rule}.flow")
    if known.kind != act.kind:
        return _no("not_permitted", f"{rule}.kind")
    if not known.sender & acting(sender):
        return _no("not_permitted", f"{rule}.from")
    if not known.to & acting(owner):
        return _no("not_permitted", f"{rule}.to")
    for member, codes in known.said_as.items():
        whose = codes.get(str(getattr(act.said, member, "")))
        if whose is not None and not whose & acting(sender):
            return _no("not_permitted", f"{rule}.as")
    verdict = _claims_fit(act, known, owner.id, rule)
    if not verdict.ok or not known.basis:
        return verdict
    if known.agreement:
        return agreement_fits(act, flow, sender.id, owner.id, verdict)
    return child_authorised(act, flow, sender.id, owner.id, verdict)


def _is_walled(flow: str, sender: Agency, owner: Agency) -> bool:
    """Law enforcement addresses no protected place, and is addressed by it in the open flows only."""
    rules = policy()
    if owner.protected and rules.law_enforcement & set(sender.roles):
        return True
    return sender.protected and bool(rules.law_enforcement & set(owner.roles)) and flow not in rules.open_flows


def _may_answer(act: Act, flow: str) -> bool:
    events = [policy().events[name] for name in policy().answers]
    return any(event.flow == flow and event.kind == act.kind and act.type in (None, event.name) for event in events)


def _is_answer(act: Act, flow: str, sender: Agency, owner: Agency) -> bool:
    """Whether it tells whoever was allowed to send what became of that, and nothing else. No receipt has a receipt."""
    asked = act.answers
    if asked is None or not _may_answer(act, flow):
        return False
    try:
        asked_flow, asked_owner = split_topic(asked.topic)
    except RecordError:
        return False
    if (asked.agency, asked_owner) != (owner.id, sender.id):
        return False
    return any(
        _may_send(Act("send", asked.agency, asked.topic, kind), asked_flow, owner, sender).ok
        for kind in KINDS
        if asked.kind in (None, kind)
    )


def _may_be_heard(act: Act, flow: str, sender: Agency, owner: Agency) -> bool:
    """Where law enforcement only listens: nothing from it, and to it only what it is to hear (or mends a chain)."""
    rules = policy()
    heard = rules.listens_only.get(flow)
    if heard is None:
        return True
    if rules.law_enforcement & set(sender.roles):
        return False
    if not rules.law_enforcement & set(owner.roles) or act.type in heard:
        return True
    names = {*heard, *(event.name for event in rules.events.values() if event.flow == "*" and event.machine is None)}
    return act.type in names if act.type else any(rules.events[name].kind == act.kind for name in names)


def _flow_fits(event: EventRule, flow: str, sender: Agency, owner: Agency) -> bool:
    """`*` is no way around the table: only into flows in which this sender may say something else to this owner, and
    in which threads know it."""
    if event.flow != "*":
        return event.flow == flow
    if event.machine == "*" and flow not in FLOWS_WITH[event.name]:
        return False
    return any(other.flow == flow and _roles_fit(other, sender, owner) for other in policy().events.values())


def _roles_fit(event: EventRule, sender: Agency, owner: Agency) -> bool:
    return bool(event.sender & acting(sender)) and bool(event.to & acting(owner))


def _claims_fit(act: Act, event: EventRule, recipient: str, rule: str) -> Verdict:
    if event.basis:
        claims = act.claims
        if claims is None or claims.basis not in event.basis or claims.recipient != recipient:
            return _no("consent_missing", f"{rule}.basis")
        if claims.basis == "consent":
            if claims.consent is None or act.at is None:
                return _no("consent_missing", f"{rule}.basis")
            if claims.consent.expires_at <= act.at:
                return _no("consent_expired", f"{rule}.basis")
    return Verdict(True, _YES, rule)


def child_authorised(act: Act, flow: str, sender: str, owner: str, otherwise: Verdict) -> Verdict:
    """Whether what the domains ask for is held where a child, or somebody who may be one, is told of; `otherwise` then.

    Nobody knows how old she is: she may be one.
    """
    claims = act.claims
    if claims is None:
        return otherwise
    whom = claims.safeguards or act.concerning
    if whom is not None and whom.age == "adult":
        return otherwise
    no_guardian = flow == "alert" or (whom is not None and whom.guardian in ("pending", "suspected"))
    in_danger = claims.basis == "vital-interests" and no_guardian
    held = {one.authority for one in claims.authorisations}
    for domain in dict.fromkeys(agency.partition("/")[0] for agency in (sender, owner)):
        asked = policy().authorisations.get(domain)
        if asked is None or flow in asked.child_not_in:
            continue
        if not (asked.child_in_danger if in_danger else asked.child) <= held:
            member = "child_in_danger" if in_danger else "child"
            return _no("safeguard_missing", f"authorisations.{domain}.{member}")
    return otherwise


def agreement_fits(act: Act, flow: str, sender: str, owner: str, otherwise: Verdict) -> Verdict:
    """Whether an agreement in force, and the authorisations that the domains ask for, allow it; `otherwise` then.

    Never against her wish, and never to the State of origin of somebody who wants asylum, whatever is signed.
    """
    rules = policy()
    claim = None if act.claims is None else act.claims.agreement
    if claim is None or act.at is None:
        return _no("agreement_missing", f"event.{act.type}.agreement")
    signed = rules.agreements.get(claim.id)
    if signed is None:
        return _no("agreement_missing", "agreement.*")
    domains = [agency.partition("/")[0] for agency in (sender, owner)]
    if not signed.domains.issuperset(domains):
        return _no("agreement_missing", f"agreement.{claim.id}.domains")
    if flow not in signed.flows:
        return _no("agreement_missing", f"agreement.{claim.id}.flows")
    if not signed.since <= act.at.date() < signed.until:
        return _no("agreement_missing", f"agreement.{claim.id}.until")
    if not claim.voluntary:
        return _no("not_permitted", "agreement.voluntary")
    if claim.asylum_wished and claim.origin == domains[1]:
        return _no("not_permitted", "agreement.origin")
    held = set(claim.authorisations)
    adult = act.claims is not None and act.claims.safeguards is not None and act.claims.safeguards.age == "adult"
    for domain in dict.fromkeys(domains):
        asked = rules.authorisations.get(domain)
        if asked is None:
            return _no("agreement_missing", "authorisations.*")
        if not adult and not asked.child <= held:
            return _no("safeguard_missing", f"authorisations.{domain}.child")
        if domains[0] != domains[1] and not asked.abroad <= held:
            return _no("agreement_missing", f"authorisations.{domain}.abroad")
    return otherwise


# ---------------------------------------------------------------------------------------------------------------------
# What travels, until when


def allowed_fields(event: str, services: Iterable[str] = (), roles: Iterable[str] = ()) -> frozenset[str] | None:
    """Paths that may travel in this event, each with all that is below it; None: the event carries no person's data.

    Args:
        services: asked for on the thread; they widen what may travel.
        roles: of the reader; they narrow it.
    """
    rules = policy()
    always = rules.always.get(event)
    if always is None:
        return None
    by_service = rules.by_service.get(event, {})
    found = always.union(*(by_service.get(service, frozenset()) for service in services))
    never = rules.never.get(event, {})
    return found.difference(*(never.get(role, frozenset()) for role in roles))


def may_audit(agency: Agency) -> Verdict:
    """Whether it may read the ledger's entries, which show who writes to whom and when."""
    rule = "ledger.auditors"
    return Verdict(True, _YES, rule) if policy().auditors & acting(agency) else _no("not_permitted", rule)


def retention_s(flow: str) -> int:
    """Seconds for which a record of that flow is kept. Raises KeyError: no such flow."""
    return policy().retention_days[flow] * 86_400


def may_attach(event: str, to: Agency) -> Verdict:
    """Whether this event may carry files to this reader; asked by sender and receiver, beside `may`."""
    roles = policy().attach.get(event)
    if roles is None:
        return _no("not_permitted", "attach.*")
    rule = f"attach.{event}.to"
    return Verdict(True, _YES, rule) if roles & set(to.roles) else _no("not_permitted", rule)


def answer_within_s(event: str, priority: str) -> int | None:
    """Seconds within which an answer is due, None when none is."""
    return policy().events[event].answer_within_s.get(priority)
