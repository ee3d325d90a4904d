# SPDX-License-Identifier: Apache-2.0
"""Each rule of the policy, switched off or widened, is noticed by a table that was written from the design.

The table is `tests/topics/expected_rules.py`. What is asked first is what somebody may do (`may`, in a domain with an
agency of every single role, a protected place and a police that is everything else too); then, where one wall hides
behind another, what the rule says.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest

from schemas import minimise
from schemas.data_files import read_together
from schemas.envelope import FLOWS, mailbox_topic
from schemas.event_types import EVENTS, FLOWS_WITH
from schemas.registry import ROLES, Agency, Registry, Role
from tests.topics.claimed import Agreed, Claimed, Consent, Held, Safeguards
from tests.topics.expected_rules import (
    ALL,
    ANSWERS,
    ANY,
    CARRIES_FILES,
    CHILDREN,
    EVENTS_TOLD,
    LAW,
    MAILBOXES,
    NEVER,
    NONE,
    ONLY_HEARD,
    OPEN_TO_THE_LAW,
    TRAVELS,
    Told,
)
from topics import policy_file
from topics.catalogue import Act, Verdict, allowed_fields, answer_within_s, child_authorised, may, may_attach
from topics.policy_file import Policy, policy_of

RAW: dict[str, Any] = tomllib.loads(read_together("topics", "policy"))
AT = datetime(2026, 11, 3, 10, tzinfo=UTC)
UNTIL = Consent(AT + timedelta(days=1))
Mutation = tuple[str, dict[str, Any]]


# ---- a domain in which every role stands alone ----


def _agency(name: str, *roles: Role, protected: bool = False) -> Agency:
    return Agency(name, {"fr": name}, roles, (), protected)


_PLACE = tuple(role for role in ROLES if role not in LAW)
_MEMBERS = (
    *(_agency(f"bi/{role}", role) for role in ROLES),
    _agency("bi/k7t4", *_PLACE, protected=True),
    _agency("bi/law", *ROLES),
    _agency("tn/inlctp", "focal-point"),
    _agency("rw/inlctp", "focal-point"),
)
DOMAIN = Registry("bi", 1, 0, MappingProxyType({one.id: one for one in _MEMBERS}))
HERE = [one for one in _MEMBERS if one.id.startswith("bi/")]


def act(event: str, sender: str, owner: str, flow: str, basis: str | None = None) -> Act:
    told = EVENTS_TOLD[event]
    chosen = basis or min(told.basis, default="consent")
    claims = Claimed(owner, chosen, UNTIL if chosen == "consent" else None)
    if told.agreement:
        claims = replace(claims, agreement=Agreed(authorisations=("data-protection-authority",)))
    return Act("send", sender, mailbox_topic(flow, owner), EVENTS[event].kind, event, claims, AT)


# ---- what the design says of it ----


def _acts_as(one: Agency) -> frozenset[str]:
    """Police that is a shelter too is police."""
    return LAW & set(one.roles) or frozenset(one.roles)


def _fits(told: Told, sender: Agency, owner: Agency) -> bool:
    return bool(told.sender & _acts_as(sender)) and bool(told.to & _acts_as(owner))


def _behind_the_firewall(event: str, flow: str, sender: Agency, owner: Agency) -> bool:
    """Whether the firewall lets nothing of this through."""
    law_sends, law_gets = bool(LAW & set(sender.roles)), bool(LAW & set(owner.roles))
    if law_sends and owner.protected:
        return True
    if law_gets and sender.protected and flow not in OPEN_TO_THE_LAW:
        return True
    if flow in ONLY_HEARD:
        return law_sends or (law_gets and event not in {*ONLY_HEARD[flow], "chain.voided"})
    return False


def expected(event: str, flow: str, sender: Agency, owner: Agency) -> bool:
    """Whether this agency may send this event into that mailbox."""
    if not MAILBOXES[flow] & _acts_as(owner) or _behind_the_firewall(event, flow, sender, owner):
        return False
    if EVENTS[event].flow == "*":
        if event != "chain.voided" and flow not in FLOWS_WITH[event]:
            return False
        others = [told for name, told in EVENTS_TOLD.items() if EVENTS[name].flow == flow]
        return any(_fits(told, sender, owner) for told in others)
    return _fits(EVENTS_TOLD[event], sender, owner)


def who_may_send_it(event: str) -> bool:
    """Exactly those whom the design names, each to exactly those, on exactly these bases."""
    flow, told = EVENTS[event].flow, EVENTS_TOLD[event]
    flows = [flow] if flow != "*" else ["referral", "case", "alert", "rights", "receipt"]
    for flow in flows:
        for sender in HERE:
            for owner in HERE:
                ok = expected(event, flow, sender, owner)
                if may(act(event, sender.id, owner.id, flow), DOMAIN).ok is not ok:
                    return False
    first = flows[0]
    pair = next((sender.id, owner.id) for sender in HERE for owner in HERE if expected(event, first, sender, owner))
    return all(
        may(act(event, *pair, first, basis), DOMAIN).ok is (not told.basis or basis in told.basis) for basis in ANY
    )


def what_it_says(event: str) -> bool:
    """The rule itself, where another one would stop the same thing."""
    told, rule = EVENTS_TOLD[event], policy_file.policy().events[event]
    within = {priority: answer_within_s(event, priority) for priority in ("immediate", "emergency", "urgent", "normal")}
    due = {name: hours * 3600 for name, hours in (told.within or {}).items()}
    return (
        (rule.sender, rule.to, rule.by, rule.basis) == (told.sender, told.to, told.by, told.basis)
        and {name: span for name, span in within.items() if span is not None} == due
        and rule.agreement is told.agreement
        and rule.said_as == told.said_as
    )


def what_travels(event: str) -> bool:
    """Exactly these fields, whichever service is asked for."""
    always, services = TRAVELS.get(event, (None, {}))
    if allowed_fields(event) != always:
        return False
    if always is None:
        return True
    known = {*services, *policy_file.policy().by_service.get(event, {})}
    never = NEVER.get(event, {})
    return all(
        allowed_fields(event, [one]) == always | services.get(one, frozenset())
        and all(
            allowed_fields(event, [one], [role]) == (always | services.get(one, NONE)) - never.get(role, NONE)
            for role in ALL
        )
        for one in known
    )


def what_carries_files() -> bool:
    """Exactly these events, to exactly these roles."""
    return all(
        may_attach(event, one).ok is bool(CARRIES_FILES.get(event, NONE) & set(one.roles))
        for event in EVENTS
        for one in HERE
    )


def who_reads(flow: str) -> bool:
    """Exactly these roles have a mailbox in the flow."""
    return all(
        may(Act("read", one.id, mailbox_topic(flow, one.id)), DOMAIN).ok is bool(MAILBOXES[flow] & _acts_as(one))
        for one in HERE
    )


def answers() -> bool:
    """A machine's word on what it was allowed to be sent, and nothing else, crosses between police and a shelter."""

    def says(event: str, flow: str, asked: str, sender: str = "bi/law", owner: str = "bi/k7t4") -> bool:
        known = EVENTS[event]
        what = Act("send", owner, mailbox_topic(asked, sender), None)
        return may(
            Act("send", sender, mailbox_topic(flow, owner), known.kind, event, None, AT, answers=what), DOMAIN
        ).ok

    machines = [name for name, event in EVENTS.items() if event.machine is None and event.flow != "*"]
    return all(
        says(name, EVENTS[name].flow, asked) is (name in ANSWERS and asked in OPEN_TO_THE_LAW)
        for name in machines
        for asked in MAILBOXES
    ) and not any(says(name, "receipt", asked, "bi/k7t4", "bi/law") for name in ANSWERS for asked in MAILBOXES)


def firewall() -> bool:
    """Police and judiciary on one side, protected places and the directory on the other."""
    rules = policy_file.policy()
    done = all(who_may_send_it(event) for event in ("receipt.delivered", "service.published", "alert.missing")) and all(
        may(act(event, sender, owner, flow), DOMAIN).ok
        is expected(event, flow, DOMAIN.agency(sender), DOMAIN.agency(owner))
        for event, flow in ((name, EVENTS[name].flow) for name in EVENTS_TOLD if EVENTS[name].flow != "*")
        for sender, owner in (("bi/law", "bi/k7t4"), ("bi/k7t4", "bi/law"), ("bi/hotline", "bi/law"))
    )
    said = (rules.law_enforcement, rules.open_flows, rules.answers, rules.listens_only)
    return done and answers() and said == (LAW, OPEN_TO_THE_LAW, ANSWERS, ONLY_HEARD)


def _transfer(sender: str, *held: str, age: str = "adult", at: datetime = AT, **signed: Any) -> str:
    """What is said to a transfer to Burundi's focal point: "" for yes, else the rule."""
    asked = act("transfer.requested", sender, "bi/focal-point", "bilateral")
    claims = Claimed("bi/focal-point", "vital-interests", None, Safeguards(age), Agreed(authorisations=held, **signed))
    verdict = may(replace(asked, claims=claims, at=at), DOMAIN)
    return "" if verdict.ok else verdict.rule


def agreements() -> bool:
    """Under the agreement, between its days and its domains, with what Tunisia asks for."""
    border = "data-protection-authority"
    first, last = datetime(2026, 1, 15, tzinfo=UTC), datetime(2029, 1, 14, 23, tzinfo=UTC)
    child = ("guardian", "family-judge", border)
    return (
        all(_transfer("tn/inlctp", border, at=day) == "" for day in (first, AT, last))
        and _transfer("tn/inlctp", border, at=first - timedelta(seconds=1)) != ""
        and _transfer("tn/inlctp", border, at=last + timedelta(hours=1)) != ""
        and _transfer("tn/inlctp") == "authorisations.tn.abroad"
        and all(_transfer("tn/inlctp", *child, age=age) == "" for age in ("child", "unknown"))
        and all(_transfer("tn/inlctp", *child[:n], *child[n + 1 :], age="child") != "" for n in range(3))
        and _transfer("bi/facilitator", age="child") == ""
        and _transfer("rw/inlctp", *child) == "agreement.demo-2026.domains"
        and _transfer("tn/inlctp", border, id="another") != ""
        and policy_file.policy().agreements["demo-2026"].flows == {"bilateral"}
        and {
            name: (asked.child, asked.child_in_danger, asked.child_not_in, asked.abroad)
            for name, asked in policy_file.policy().authorisations.items()
        }
        == CHILDREN
        and all(_of_a_child(name) for name, told in EVENTS_TOLD.items() if told.basis and not told.agreement)
    )


def _of_a_child(event: str) -> bool:
    """What is asked of this event within Tunisia and within Burundi, for each age, basis and guardian."""
    flow = "referral" if EVENTS[event].flow == "*" else EVENTS[event].flow
    for domain, (asked, asked_in_danger, not_in, _) in CHILDREN.items():
        for age in ("adult", "child", "unknown"):
            for guardian in (None, "guardian", "representative", "pending", "suspected"):
                for basis in ANY:
                    danger = basis == "vital-interests" and (flow == "alert" or guardian in ("pending", "suspected"))
                    needed = NONE if age == "adult" or flow in not_in else asked_in_danger if danger else asked
                    for held in (needed, *(needed - {one} for one in needed)):
                        having = tuple(map(Held, sorted(held)))
                        claims = Claimed(f"{domain}/b", basis, UNTIL, Safeguards(age, guardian), authorisations=having)
                        said = Act("send", f"{domain}/a", "", None, event, claims, AT)
                        unsaid = replace(said, claims=replace(claims, safeguards=None), concerning=claims.safeguards)
                        for one in (said, unsaid):
                            verdict = child_authorised(one, flow, f"{domain}/a", f"{domain}/b", Verdict(True, "", ""))
                            if verdict.ok is not (held == needed):
                                return False
    return True


# ---- changing the policy, one rule at a time ----


def _set(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.copy(raw)
    changed[path[0]] = value if len(path) == 1 else _set(raw.get(path[0], {}), path[1:], value)
    return changed


def _without(raw: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    if len(path) == 1:
        return {name: value for name, value in raw.items() if name != path[0]}
    return {**raw, path[0]: _without(raw[path[0]], path[1:])}


def _get(path: tuple[str, ...]) -> Any:
    found: Any = RAW
    for name in path:
        found = found[name]
    return found


def toggled(path: tuple[str, ...], known: Iterator[str] | frozenset[str] | tuple[str, ...]) -> Iterator[Mutation]:
    """The list at this path without each of its members, and with each that it does not have."""
    now = list(ROLES) if _get(path) == ["*"] else list(_get(path))
    for each in now:
        yield f"{'.'.join(path)} without {each}", _set(RAW, path, [one for one in now if one != each])
    for each in sorted(set(known) - set(now)):
        yield f"{'.'.join(path)} with {each}", _set(RAW, path, [*now, each])


def of_event(name: str) -> Iterator[Mutation]:
    at, raw = ("event", name), RAW["event"][name]
    yield from toggled((*at, "from"), ALL)
    yield from toggled((*at, "to"), ALL)
    for by in {"initiator", "recipient", "holder"} - {raw["by"]}:
        yield f"{name}: by {by}", _set(RAW, (*at, "by"), by)
    if "basis" in raw:
        yield from toggled((*at, "basis"), ANY)
        yield f"{name}: no basis", _without(RAW, (*at, "basis"))
    else:
        yield f"{name}: a basis", _set(RAW, (*at, "basis"), ["consent"])
    for priority in raw.get("answer_within", {}):
        yield f"{name}: no time for {priority}", _without(RAW, (*at, "answer_within", priority))
        yield f"{name}: other time for {priority}", _set(RAW, (*at, "answer_within", priority), "99d")
    for member, codes in raw.get("as", {}).items():
        yield f"{name}: {member} as anybody", _without(RAW, (*at, "as", member))
        for code in codes:
            yield f"{name}: {member} {code} as anybody", _without(RAW, (*at, "as", member, code))
            yield from toggled((*at, "as", member, code), ALL)
    yield f"{name}: agreement", _set(RAW, (*at, "agreement"), not raw.get("agreement", False))


def of_lists(name: str) -> Iterator[Mutation]:
    at = ("minimise", name)
    if name not in RAW["minimise"]:
        yield f"{name}: a list", _set(RAW, (*at, "always"), ["occurred_at"])
        return
    known = frozenset(("htcds", "referral", "information", "birth", "caregiver", *minimise.KNOWN_PATHS))
    yield f"{name}: no list", _without(RAW, at)
    yield from toggled((*at, "always"), known)
    for role in RAW["minimise"][name].get("never", {}):
        yield f"{name}: nothing kept from {role}", _without(RAW, (*at, "never", role))
        yield from toggled((*at, "never", role), frozenset(_get((*at, "never", role))))
    for service in RAW["minimise"][name].get("service", {}):
        listed = {*RAW["minimise"][name]["always"], *RAW["minimise"][name]["service"][service]}
        yield from toggled(
            (*at, "service", service), frozenset(known - listed) | frozenset(_get((*at, "service", service)))
        )


def of_firewall() -> Iterator[Mutation]:
    flows = frozenset(RAW["flow"])
    yield from toggled(("firewall", "law_enforcement"), ALL)
    yield from toggled(("firewall", "protected_flows_open"), flows)
    yield from toggled(("firewall", "answers"), tuple(EVENTS))
    heard = RAW["firewall"]["listens_only"]
    for flow in flows - heard.keys():
        yield f"{flow}: only heard", _set(RAW, ("firewall", "listens_only", flow), [])
    for flow in heard:
        yield f"{flow}: not only heard", _without(RAW, ("firewall", "listens_only", flow))
        of_flow = [name for name, event in EVENTS.items() if event.flow == flow]
        yield from toggled(("firewall", "listens_only", flow), tuple(of_flow))


def of_attachments() -> Iterator[Mutation]:
    for name in EVENTS:
        if name in RAW["attach"]:
            yield f"{name}: no files", _without(RAW, ("attach", name))
            yield from toggled(("attach", name, "to"), ALL)
        else:
            yield f"{name}: files", _set(RAW, ("attach", name), {"to": ["assistance"]})


def of_agreements() -> Iterator[Mutation]:
    for name in RAW["agreement"]:
        at = ("agreement", name)
        yield from toggled((*at, "domains"), ("rw",))
        yield from toggled((*at, "flows"), FLOWS)
        for member, days in (("from", (1, -1)), ("until", (1, -1))):
            for shift in days:
                value: date = _get((*at, member)) + timedelta(days=shift)
                yield f"{name}: {member} moved by {shift}", _set(RAW, (*at, member), value)
    authorities = ("guardian", "family-judge", "data-protection-authority")
    for domain in RAW["authorisations"]:
        yield f"{domain}: no authorisations", _without(RAW, ("authorisations", domain))
        yield from toggled(("authorisations", domain, "child"), authorities)
        yield from toggled(("authorisations", domain, "child_in_danger"), authorities)
        yield from toggled(("authorisations", domain, "child_not_in"), FLOWS)
        yield from toggled(("authorisations", domain, "abroad"), authorities)
    yield "a third domain", _set(RAW, ("authorisations", "rw"), dict.fromkeys(RAW["authorisations"]["tn"], []))


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Policy | None]:
    """Puts a policy in force; None when it is refused as it is read."""

    def put(raw: dict[str, Any]) -> Policy | None:
        try:
            changed = policy_of(raw)
        except ValueError:
            return None
        monkeypatch.setattr(policy_file, "policy", lambda: changed)
        return changed

    return put


Put = Callable[[dict[str, Any]], Policy | None]


def unnoticed(put: Put, mutations: Iterator[Mutation], *asked: Callable[[], bool]) -> list[str]:
    """Changes that none of these questions tells from the policy that ships."""
    return [what for what, raw in mutations if put(raw) is not None and all(ask() for ask in asked)]


# ---- the tests ----


def test_the_table_speaks_of_every_event_and_every_mailbox() -> None:
    """Whoever adds an event says in tests/topics/expected_rules.py who may send it to whom."""
    assert set(EVENTS_TOLD) == set(EVENTS)
    assert set(MAILBOXES) == set(RAW["flow"])
    assert set(TRAVELS) == set(RAW["minimise"])


@pytest.mark.parametrize("name", EVENTS)
def test_the_policy_does_what_the_design_says_of_an_event(name: str) -> None:
    assert who_may_send_it(name)
    assert what_it_says(name)
    assert what_travels(name)


def test_the_policy_does_what_the_design_says_of_mailboxes_firewall_and_agreements() -> None:
    assert [flow for flow in MAILBOXES if not who_reads(flow)] == []
    assert firewall()
    assert agreements()


@pytest.mark.parametrize("name", EVENTS)
def test_no_rule_of_an_event_can_be_changed_unnoticed(name: str, under: Put) -> None:
    asked = (partial(who_may_send_it, name), partial(what_it_says, name))
    assert unnoticed(under, of_event(name), *asked) == []


@pytest.mark.parametrize("name", EVENTS)
def test_no_allow_list_can_be_changed_unnoticed(name: str, under: Put) -> None:
    assert unnoticed(under, of_lists(name), partial(what_travels, name)) == []


@pytest.mark.parametrize("flow", RAW["flow"])
def test_no_mailbox_can_be_opened_or_closed_unnoticed(flow: str, under: Put) -> None:
    assert unnoticed(under, toggled(("flow", flow, "mailbox"), ALL), partial(who_reads, flow)) == []


def test_no_part_of_the_firewall_can_be_taken_down_or_moved_unnoticed(under: Put) -> None:
    found = unnoticed(under, of_firewall(), firewall)
    assert found == []


def test_no_event_can_be_made_to_carry_files_or_to_carry_none_unnoticed(under: Put) -> None:
    assert what_carries_files()
    assert unnoticed(under, of_attachments(), what_carries_files) == []


def test_no_agreement_or_authorisation_can_be_changed_unnoticed(under: Put) -> None:
    found = unnoticed(under, of_agreements(), agreements)
    assert found == []


def test_whoever_is_named_no_more_may_send_no_more(under: Put) -> None:
    """Switching a sender off shows in what somebody may do, not in the words of the rule only."""
    for name, event in EVENTS.items():
        if event.flow != "*":  # those may go wherever their sender has something else to say
            changes = toggled(("event", name, "from"), frozenset())
            assert unnoticed(under, changes, partial(who_may_send_it, name)) == []
