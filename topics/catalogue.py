# SPDX-License-Identifier: Apache-2.0
"""The one policy, asked: who has which mailbox, who may do what, what may travel, what must be inside. `may()`.

The gateway asks it before it appends, adapters ask it before they send and again after they receive, topic lists and
quotas are compiled from it (`topics.kafka_catalogue`). The rules stand in `topics.policy_file`, and nowhere else. No
I/O.

What the gateway cannot see (the exact type, the claims) it does not ask about: it asks by flow and kind. Adapters ask
with everything. `Verdict.rule` is the dotted path of the line of the policy that decided, so that a refusal can be
looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from schemas.envelope import FLOWS, KINDS, Kind, mailbox_topic, split_topic
from schemas.errors import PolicyError, RecordError, RegistryError
from schemas.event_types import FLOWS_WITH
from schemas.registry import Agency, Border, Registry, SignedProtocol
from topics import policy_file
from topics.agreement_cover import uncovered
from topics.log import grants_topic
from topics.policy_file import EventRule

Do = Literal["send", "read", "receive"]


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


# ---------------------------------------------------------------------------------------------------------------------
# Mailboxes


def acting(agency: Agency) -> frozenset[str]:
    """The roles in which an agency acts. Who enforces the law does nothing else here: no second role that it was given,
    by mistake or for good reasons, opens the firewall."""
    roles = frozenset[str](agency.roles)
    return roles & policy_file.policy().law_enforcement or roles


def flows_of(agency: Agency) -> tuple[str, ...]:
    """Flows in which the agency has a mailbox, in the catalogue's order."""
    roles = acting(agency)
    return tuple(flow for flow, owners in policy_file.policy().mailboxes.items() if owners & roles)


def mailboxes_of(agency: Agency) -> tuple[str, ...]:
    """`bi.referral.iom`, `bi.case.iom`, `bi.receipt.iom`."""
    return tuple(mailbox_topic(flow, agency.id) for flow in flows_of(agency))


def topics_of(registry: Registry) -> tuple[str, ...]:
    """Every topic of a domain: mailboxes, and one grants topic per agency; what goes over its borders with them."""
    names = [topic for agency in registry.agencies.values() for topic in mailboxes_of(agency)]
    names += [grants_topic(agency) for agency in registry.agencies]
    names += outgoing_of(registry)
    names += [grants_topic(to) for to in {split_topic(topic)[1] for topic in outgoing_of(registry)}]
    return tuple(sorted(names))


def outgoing_of(registry: Registry) -> tuple[str, ...]:
    """Mailboxes of agencies abroad that this domain hosts until a bridge has brought over what stands in them: in
    flows that an agreement opens, of agencies that it names."""
    return tuple(
        mailbox_topic(flow, agency.id)
        for border in registry.borders.values()
        for agency in border.agencies.values()
        for flow in flows_of(agency)
        if any(
            flow in agreement.flows and agency.id in (*agreement.agencies, *agreement.focal_points)
            for agreement in border.agreements.values()
        )
    )


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
        agency = registry.party(act.agency)
        flow, owner_id = split_topic(act.topic)
        owner = registry.party(owner_id)
    except (RegistryError, RecordError):
        return _no("not_permitted", "registry")
    roles = policy_file.policy().mailboxes.get(flow)
    if roles is None or not roles & acting(owner):
        return _no("not_permitted", f"flow.{flow}.mailbox" if flow in FLOWS else "flow")
    if act.do == "read":
        return Verdict(True, _YES, f"flow.{flow}.mailbox") if agency.id == owner.id else _no("not_permitted", "read")
    return _may_send(act, flow, agency, owner, registry)


def _may_send(act: Act, flow: str, sender: Agency, owner: Agency, registry: Registry) -> Verdict:
    rules = policy_file.policy()
    if _is_walled(flow, sender, owner) and not _is_answer(act, flow, sender, owner, registry):
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
        return agreement_fits(act, flow, sender.id, owner.id, verdict, registry)
    return child_authorised(act, flow, sender.id, owner.id, verdict)


def _is_walled(flow: str, sender: Agency, owner: Agency) -> bool:
    """Law enforcement addresses no protected place, and is addressed by it in the open flows only."""
    rules = policy_file.policy()
    if owner.protected and rules.law_enforcement & set(sender.roles):
        return True
    return sender.protected and bool(rules.law_enforcement & set(owner.roles)) and flow not in rules.open_flows


def _may_answer(act: Act, flow: str) -> bool:
    events = [policy_file.policy().events[name] for name in policy_file.policy().answers]
    return any(event.flow == flow and event.kind == act.kind and act.type in (None, event.name) for event in events)


def _is_answer(act: Act, flow: str, sender: Agency, owner: Agency, registry: Registry) -> bool:
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
        _may_send(Act("send", asked.agency, asked.topic, kind), asked_flow, owner, sender, registry).ok
        for kind in KINDS
        if asked.kind in (None, kind)
    )


def _may_be_heard(act: Act, flow: str, sender: Agency, owner: Agency) -> bool:
    """Where law enforcement only listens: nothing from it, and to it only what it is to hear (or mends a chain)."""
    rules = policy_file.policy()
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
    others = policy_file.policy().events.values()
    return any(other.flow == flow and _roles_fit(other, sender, owner) for other in others)


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
        asked = policy_file.policy().authorisations.get(domain)
        if asked is None or flow in asked.child_not_in:
            continue
        if not (asked.child_in_danger if in_danger else asked.child) <= held:
            member = "child_in_danger" if in_danger else "child"
            return _no("safeguard_missing", f"authorisations.{domain}.{member}")
    return otherwise


def agreement_fits(
    act: Act, flow: str, sender: str, owner: str, otherwise: Verdict, registry: Registry | None = None
) -> Verdict:
    """Whether an agreement in force, and the authorisations that the domains ask for, allow it; `otherwise` then.

    Never against her wish, and never to the State of origin of somebody who wants asylum, whatever is signed.

    Args:
        registry: ours. Over one of its borders only what stands in both registries is an agreement; between members
            it is a protocol that all it binds have signed, or one of the policy's. None: both are members, and no
            protocol is known.
    """
    rules = policy_file.policy()
    claim = None if act.claims is None else act.claims.agreement
    if claim is None or act.at is None:
        return _no("agreement_missing", f"event.{act.type}.agreement")
    domains = [agency.partition("/")[0] for agency in (sender, owner)]
    abroad = next((one for one in (sender, owner) if registry is not None and one not in registry.agencies), None)
    if abroad is None or registry is None:
        found = None if registry is None else registry.protocols.get(claim.id)
        wrong = _protocols(found, act, flow, (sender, owner))
        if wrong is None and (found is None or not found.counts):
            wrong = _policys(claim.id, domains, flow, act.at.date())
            wrong = f"agreement.{claim.id}.signatures" if wrong == "agreement.*" and found is not None else wrong
    else:
        wrong = _both_domains(claim.id, act, flow, (sender, owner), registry.borders.get(abroad.partition("/")[0]))
    if wrong is not None:
        return _no("agreement_missing", wrong)
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


def _protocols(found: SignedProtocol | None, act: Act, flow: str, parties: tuple[str, str]) -> str | None:
    """What of a protocol does not cover it. One that is not signed is none, one that was ended has been refused."""
    assert act.at is not None
    if found is None:
        return None
    if found.ended_by:
        return f"agreement.{found.terms.name}.ended"
    wrong = uncovered(found.terms, *parties, flow, act.kind, act.type, act.at.date()) if found.counts else None
    return None if wrong is None else f"agreement.{found.terms.name}.{wrong}"


def _policys(name: str, domains: Iterable[str], flow: str, day: date) -> str | None:
    """What of the policy's agreements does not cover it."""
    signed = policy_file.policy().agreements.get(name)
    if signed is None:
        return "agreement.*"
    if not signed.domains.issuperset(domains):
        return f"agreement.{name}.domains"
    if flow not in signed.flows:
        return f"agreement.{name}.flows"
    return None if signed.since <= day < signed.until else f"agreement.{name}.until"


def _both_domains(name: str, act: Act, flow: str, parties: tuple[str, str], border: Border | None) -> str | None:
    """What of the agreements that stand in both registries does not cover it."""
    assert act.at is not None
    signed = None if border is None else border.agreements.get(name)
    if border is None or signed is None:
        one_sided = None if border is None else border.one_sided.get(name)
        return "agreement.*" if one_sided is None else f"agreement.{name}.{one_sided}"
    wrong = uncovered(signed, *parties, flow, act.kind, act.type, act.at.date())
    return None if wrong is None else f"agreement.{name}.{wrong}"


# ---------------------------------------------------------------------------------------------------------------------
# What travels, until when


def allowed_fields(event: str, services: Iterable[str] = (), roles: Iterable[str] = ()) -> frozenset[str] | None:
    """Paths that may travel in this event, each with all that is below it; None: the event carries no person's data.

    Args:
        services: asked for on the thread; they widen what may travel.
        roles: of the reader; they narrow it.
    """
    rules = policy_file.policy()
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
    return Verdict(True, _YES, rule) if policy_file.policy().auditors & acting(agency) else _no("not_permitted", rule)


def retention_s(flow: str) -> int:
    """Seconds for which a record of that flow is kept. Raises KeyError: no such flow."""
    return policy_file.policy().retention_days[flow] * 86_400


def may_attach(event: str, to: Agency) -> Verdict:
    """Whether this event may carry files to this reader; asked by sender and receiver, beside `may`."""
    roles = policy_file.policy().attach.get(event)
    if roles is None:
        return _no("not_permitted", "attach.*")
    rule = f"attach.{event}.to"
    return Verdict(True, _YES, rule) if roles & set(to.roles) else _no("not_permitted", rule)


def answer_within_s(event: str, priority: str) -> int | None:
    """Seconds within which an answer is due, None when none is."""
    return policy_file.policy().events[event].answer_within_s.get(priority)
