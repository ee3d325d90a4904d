# SPDX-License-Identifier: Apache-2.0
"""The one policy: who has which mailbox, who may send what to whom, and that a wrong policy file is refused."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from schemas import lifecycle, minimise
from schemas.data_files import read_together
from schemas.envelope import FLOWS, KINDS, Kind, mailbox_topic
from schemas.errors import PolicyError
from schemas.event_types import EVENTS, FLOWS_WITH, PURPOSES
from schemas.registry import ROLES, Agency, Registry, Role
from tests.domain import MEMBERS, NOW, Domain
from tests.topics.claimed import Agreed, Claimed, Consent
from topics.catalogue import Act, Do, Verdict, allowed_fields, answer_within_s, flows_of, mailboxes_of, may, topics_of
from topics.policy_file import policy, read_policy

POLICY = read_together("topics", "policy")
REGISTRY = Domain().registry
AT = datetime.fromtimestamp(NOW, UTC)
POLICE, IOM, MINISTRY, SHELTER, SHELTER2, OPERATOR = MEMBERS


def claims(to: str, basis: str = "consent") -> Claimed:
    return Claimed(to, basis, Consent(AT + timedelta(days=1)) if basis == "consent" else None, agreement=Agreed())


def send(sender: str, to: str, type: str, registry: Registry = REGISTRY) -> Verdict:
    """Asked as an adapter asks, with everything."""
    event = EVENTS[type]
    flow = event.flow if event.flow != "*" else "referral"
    basis = "consent" if "consent" in policy().events[type].basis else "vital-interests"
    return may(Act("send", sender, mailbox_topic(flow, to), event.kind, type, claims(to, basis), AT), registry)


def gateway(sender: str, to: str, flow: str, kind: Kind, registry: Registry = REGISTRY) -> Verdict:
    """Asked as a gateway asks, by flow and kind."""
    return may(Act("send", sender, mailbox_topic(flow, to), kind), registry)


# -- mailboxes ---------------------------------------------------------------------------------------------------------


def test_a_mailbox_exists_where_somebody_may_send() -> None:
    assert {name: flows_of(agency) for name, agency in REGISTRY.agencies.items()} == {
        POLICE: ("alert", "investigation", "rights", "directory", "knowledge", "receipt"),
        IOM: ("referral", "case", "alert", "bilateral", "rights", "directory", "knowledge", "receipt"),
        MINISTRY: ("referral", "case", "alert", "rights", "directory", "knowledge", "receipt"),
        SHELTER: ("referral", "case", "alert", "rights", "directory", "knowledge", "receipt"),
        SHELTER2: ("referral", "case", "alert", "rights", "directory", "knowledge", "receipt"),
        OPERATOR: ("alert", "rights", "directory", "knowledge", "receipt"),
    }
    assert mailboxes_of(REGISTRY.agency(IOM))[:2] == ("bi.referral.iom", "bi.case.iom")
    assert mailboxes_of(REGISTRY.agency(IOM)) == tuple(f"bi.{flow}.iom" for flow in flows_of(REGISTRY.agency(IOM)))
    for topic in topics_of(REGISTRY):
        domain, flow, name = topic.split(".")
        if flow != "grants":
            senders = [
                one for one in REGISTRY.agencies for kind in KINDS if gateway(one, f"{domain}/{name}", flow, kind).ok
            ]
            assert senders


def test_every_agency_has_one_topic_for_its_grants() -> None:
    grants = [topic for topic in topics_of(REGISTRY) if topic.split(".")[1] == "grants"]
    assert grants == sorted(f"bi.grants.{name[3:]}" for name in REGISTRY.agencies)
    mailboxes = sum(len(flows_of(agency)) for agency in REGISTRY.agencies.values())
    assert len(topics_of(REGISTRY)) == len(set(topics_of(REGISTRY))) == len(REGISTRY.agencies) + mailboxes


def test_only_the_owner_reads_a_mailbox() -> None:
    for owner, reader, flow in itertools.product(MEMBERS, MEMBERS, FLOWS):
        verdict = may(Act("read", reader, mailbox_topic(flow, owner)), REGISTRY)
        assert verdict.ok == (owner == reader and flow in flows_of(REGISTRY.agency(owner)))
        if not verdict.ok:
            assert verdict.code == "not_permitted"


@pytest.mark.parametrize(
    ("topic", "agency"),
    [
        ("bi.referral.nobody", IOM),
        ("bi.referral.iom", "bi/nobody"),
        ("bi.referral.iom", "Ndayishimiye"),
        ("bi.grants.iom", IOM),
        ("bi.investigation.iom", IOM),
        ("bi.ndayishimiye.iom", IOM),
        ("Ndayishimiye", IOM),
        ("bi.referral.iom.x", IOM),
        ("", IOM),
    ],
)
def test_what_is_unknown_is_not_permitted_and_not_repeated(topic: str, agency: str) -> None:
    for do, kind in itertools.product(get_args(Do), (*KINDS, None)):
        verdict = may(Act(do, agency, topic, kind), REGISTRY)
        assert (verdict.ok, verdict.code) == (False, "not_permitted")
        assert "dayishimiye" not in verdict.rule


# -- who to whom -------------------------------------------------------------------------------------------------------

ASSISTANCE = (IOM, MINISTRY, SHELTER, SHELTER2)
REFERRALS = set(itertools.product(ASSISTANCE, ASSISTANCE))
BY_POLICE = {(POLICE, shelter) for shelter in (SHELTER, SHELTER2)}
TO_POLICE = {(shelter, POLICE) for shelter in (SHELTER, SHELTER2)}
# Everybody, but law enforcement and shelters to each other.
EVERYBODY = set(itertools.product(MEMBERS, MEMBERS)) - BY_POLICE - TO_POLICE
AT_WORK = (POLICE, *ASSISTANCE)
EXPECTED: Mapping[str, set[tuple[str, str]]] = {
    # Those who assist her tell one another.
    **{type: REFERRALS for type in EVENTS if type.startswith(("case.", "reflection.", "conference."))}
    | {
        # Police and the screener identify; only IOM screens here, and tells those who assist.
        "case.identified": {(POLICE, IOM), (IOM, IOM)},
        "case.screened": {(IOM, one) for one in ASSISTANCE},
    },
    "handover.acknowledged": {(IOM, POLICE), (MINISTRY, POLICE)},
    # Of any thread: asked here for the referral's.
    **{type: REFERRALS for type in EVENTS if type.startswith(("consent.", "record."))},
    **{type: REFERRALS for type, event in EVENTS.items() if event.flow == "referral"},
    **dict.fromkeys(("receipt.delivered", "receipt.rejected"), EVERYBODY),
    # Whoever holds a record may be asked to erase it, and says that it did.
    **{type: EVERYBODY for type in EVENTS if type.startswith("erasure.")},
    # No court and no commission here to ask, nobody to answer to.
    **{type: set() for type in EVENTS if type.startswith("disclosure.")},
    # The agency that a person chose asks whoever may hold something of her.
    "access.requested": {pair for pair in EVERYBODY if pair[0] in ASSISTANCE},
    "access.answered": {pair for pair in EVERYBODY if pair[1] in ASSISTANCE},
    # One facilitator, and no focal point or commission.
    **{type: {(IOM, IOM)} for type, event in EVENTS.items() if event.flow == "bilateral"},
    "statistics.submitted": set(),
    # Providers tell everybody; police listen and ask nothing; a shelter tells them nothing.
    "service.published": set(itertools.product(ASSISTANCE, MEMBERS)) - TO_POLICE,
    **{type: REFERRALS for type in EVENTS if type.startswith("availability.")},
    # A shelter may call the police; they may not call it: who works with it warns it.
    **{type: set(itertools.product(AT_WORK, AT_WORK)) - BY_POLICE for type in ("alert.missing", "alert.cleared")},
    "safety.warning": set(itertools.product(AT_WORK, MEMBERS)) - BY_POLICE,
    # No judiciary and no legal aid here.
    **{type: {(POLICE, POLICE)} for type in EVENTS if type.startswith(("investigation.", "proceeding."))},
    # No commission here; IOM facilitates.
    "guidance.published": set(),
    "guidance.acknowledged": set(),
    "expertise.asked": {(one, IOM) for one in MEMBERS},
    "expertise.answered": {(IOM, one) for one in MEMBERS},
    "contact.published": {(IOM, one) for one in MEMBERS},
    # Into the referral flow: those who have a chain there.
    "chain.voided": REFERRALS,
}


@pytest.mark.parametrize("type", EVENTS)
def test_for_every_event_exactly_these_may_send_to_exactly_those(type: str) -> None:
    allowed = {pair for pair in itertools.product(MEMBERS, MEMBERS) if send(*pair, type).ok}
    assert allowed == EXPECTED[type]


@pytest.mark.parametrize("type", EVENTS)
def test_receiver_and_sender_are_told_the_same(type: str) -> None:
    event = EVENTS[type]
    flow = event.flow if event.flow != "*" else "referral"
    for sender, to in itertools.product(MEMBERS, MEMBERS):
        sent = Act("send", sender, mailbox_topic(flow, to), event.kind, type, claims(to), AT)
        assert may(sent, REGISTRY) == may(replace(sent, do="receive"), REGISTRY)


def test_a_gateway_lets_pass_whatever_some_event_of_that_flow_and_kind_would_be() -> None:
    for sender, to, flow, kind in itertools.product(MEMBERS, MEMBERS, ("referral", "case", "receipt"), KINDS):
        typed = [
            may(Act("send", sender, mailbox_topic(flow, to), kind, type, claims(to), AT), REGISTRY).ok
            for type, event in EVENTS.items()
            if event.kind == kind
        ]
        assert gateway(sender, to, flow, kind).ok == any(typed), (sender, to, flow, kind)


def test_a_voided_chain_is_no_way_into_a_flow_in_which_one_has_nothing_to_say() -> None:
    assert not gateway(POLICE, IOM, "referral", "control").ok
    assert not gateway(OPERATOR, IOM, "case", "control").ok
    assert gateway(POLICE, IOM, "case", "control").ok
    for flow, ok in (("case", True), ("referral", False), ("receipt", True)):
        act = Act("send", POLICE, mailbox_topic(flow, IOM), "control", "chain.voided", None, AT)
        assert may(act, REGISTRY).ok == ok
        assert ok or may(act, REGISTRY).rule == "event.chain.voided.flow"


def test_a_refusal_names_the_line_that_decided() -> None:
    assert send(POLICE, IOM, "referral.requested").rule == "event.referral.requested.from"
    assert send(MINISTRY, SHELTER, "case.identified").rule == "event.case.identified.from"
    assert send(IOM, SHELTER, "case.identified").rule == "event.case.identified.to"
    assert send(IOM, POLICE, "case.screened").rule == "flow.case.mailbox"
    assert gateway(POLICE, IOM, "referral", "request").rule == "flow.referral.request"
    assert gateway(IOM, SHELTER, "investigation", "update").rule == "flow.investigation.mailbox"
    assert send(IOM, SHELTER, "referral.requested") == Verdict(True, "", "event.referral.requested")
    wrong_kind = Act("send", IOM, "bi.referral.k7t4", "answer", "referral.requested", claims(SHELTER), AT)
    assert may(wrong_kind, REGISTRY).rule == "event.referral.requested.kind"
    wrong_flow = Act("send", IOM, "bi.case.k7t4", "request", "referral.requested", claims(SHELTER), AT)
    assert may(wrong_flow, REGISTRY).rule == "event.referral.requested.flow"
    unknown = Act("send", IOM, "bi.case.k7t4", "request", "case.Ndayishimiye", claims(SHELTER), AT)
    assert may(unknown, REGISTRY).rule == "event.*"


def test_a_verdict_raises_with_its_code_and_rule() -> None:
    send(IOM, SHELTER, "referral.requested").require()
    with pytest.raises(PolicyError) as caught:
        send(POLICE, IOM, "referral.requested").require()
    assert (caught.value.code, caught.value.path) == ("not_permitted", "event.referral.requested.from")


# -- firewall ----------------------------------------------------------------------------------------------------------


def with_member(agency: Agency) -> Registry:
    return REGISTRY.with_agency(agency, NOW)


@pytest.mark.parametrize("role", ["police", "judiciary"])
def test_law_enforcement_never_addresses_a_protected_handle_nor_is_addressed_by_one(role: Role) -> None:
    # Every other role as well: what else it is makes no difference.
    everything = tuple(one for one in ROLES if one not in ("police", "judiciary"))
    law = replace(REGISTRY.agency(POLICE), id="bi/law", roles=(*everything, role))
    registry = with_member(law)
    for flow, kind, shelter in itertools.product(("referral", "case", "receipt"), KINDS, (SHELTER, SHELTER2)):
        for verdict in (
            gateway("bi/law", shelter, flow, kind, registry),
            gateway(shelter, "bi/law", flow, kind, registry),
        ):
            assert not verdict.ok
    assert send("bi/law", SHELTER, "referral.requested", registry).rule == "firewall.law_enforcement"
    assert send("bi/law", SHELTER, "receipt.rejected", registry).rule == "firewall.answers"
    assert send(SHELTER, "bi/law", "erasure.attested", registry).rule == "firewall.law_enforcement"
    assert send(SHELTER, "bi/law", "receipt.delivered", registry).rule == "firewall.answers"
    assert send("bi/law", IOM, "receipt.delivered", registry).ok


def answer(sender: str, to: str, asked: Act | None, type: str | None = "receipt.delivered") -> Verdict:
    """A receipt, of something that its reader had sent."""
    return may(Act("send", sender, mailbox_topic("receipt", to), "control", type, None, AT, answers=asked), REGISTRY)


@pytest.mark.parametrize("type", ["receipt.delivered", "receipt.rejected", None])
def test_a_receipt_crosses_the_firewall_as_the_answer_to_what_was_allowed_and_only_so(type: str | None) -> None:
    alert = Act("send", SHELTER, mailbox_topic("alert", POLICE), "update")
    assert answer(POLICE, SHELTER, alert, type).ok
    assert answer(POLICE, SHELTER, replace(alert, kind=None), type).ok
    for nothing in (
        None,  # nothing that is known
        replace(alert, agency=SHELTER2),  # another's alert
        replace(alert, topic=mailbox_topic("alert", IOM)),  # not to the police
        replace(alert, topic="Ndayishimiye"),
        replace(alert, topic=mailbox_topic("referral", POLICE), kind="request"),  # what a shelter may not send them
        replace(alert, topic=mailbox_topic("receipt", POLICE), kind="control"),  # no receipt has a receipt
    ):
        assert answer(POLICE, SHELTER, nothing, type) == Verdict(False, "not_permitted", "firewall.answers")
    # Police may send a shelter nothing that it could answer.
    warning = Act("send", POLICE, mailbox_topic("alert", SHELTER), "update")
    assert not answer(SHELTER, POLICE, warning, type).ok


def test_no_other_event_crosses_as_an_answer() -> None:
    alert = Act("send", SHELTER, mailbox_topic("alert", POLICE), "update")
    for type, event in EVENTS.items():
        for flow in FLOWS_WITH.get(type, [event.flow if event.flow != "*" else "receipt"]):
            act = Act("send", POLICE, mailbox_topic(flow, SHELTER), event.kind, type, claims(SHELTER), AT, alert)
            assert may(act, REGISTRY).ok is type.startswith("receipt."), (type, flow)


def test_the_firewall_is_about_the_handle_not_the_role() -> None:
    registry = with_member(replace(REGISTRY.agency(SHELTER), protected=False))
    assert send(POLICE, SHELTER, "receipt.delivered", registry).ok


def test_in_an_alert_a_shelter_may_call_the_police_and_they_may_not_call_it() -> None:
    assert send(SHELTER, POLICE, "alert.missing").ok
    assert send(POLICE, SHELTER, "safety.warning").rule == "firewall.law_enforcement"
    assert gateway(POLICE, SHELTER, "alert", "update").rule == "firewall.law_enforcement"
    assert send(POLICE, IOM, "safety.warning").ok
    assert send(IOM, SHELTER, "safety.warning").ok


@pytest.mark.parametrize("role", ["police", "judiciary"])
def test_law_enforcement_reads_what_services_there_are_and_asks_for_no_place(role: Role) -> None:
    everything = tuple(one for one in ROLES if one not in ("police", "judiciary"))
    registry = with_member(replace(REGISTRY.agency(POLICE), id="bi/law", roles=(*everything, role)))
    assert send(IOM, "bi/law", "service.published", registry).ok
    for type in EVENTS:
        if EVENTS[type].flow == "directory":
            assert send("bi/law", IOM, type, registry).rule == "firewall.listens_only"
    for kind in KINDS:
        assert not gateway("bi/law", IOM, "directory", kind, registry).ok
        assert gateway(IOM, "bi/law", "directory", kind, registry).ok == (kind in ("update", "control"))


def test_an_investigation_reaches_police_and_judiciary_and_legal_aid_only_its_notices() -> None:
    registry = REGISTRY
    bodies: tuple[tuple[str, Role], ...] = (("bi/judiciary", "judiciary"), ("bi/legal-aid", "legal-aid"))
    for name, role in bodies:
        registry = registry.with_agency(replace(REGISTRY.agency(MINISTRY), id=name, roles=(role,)), NOW)
    for type in ("investigation.opened", "investigation.updated", "proceeding.notice"):
        assert send(POLICE, "bi/judiciary", type, registry).ok
        assert send("bi/judiciary", POLICE, type, registry).ok
        assert send(POLICE, "bi/legal-aid", type, registry).ok == (type == "proceeding.notice")
        for one in (*ASSISTANCE, "bi/legal-aid"):
            assert not send(one, POLICE, type, registry).ok
        for one in ASSISTANCE:
            assert not send(POLICE, one, type, registry).ok


def test_the_commission_publishes_guidance_to_everybody_and_everybody_may_acknowledge_it() -> None:
    commission = replace(REGISTRY.agency(MINISTRY), id="bi/ccsprtp", roles=("coordination", "focal-point"))
    registry = with_member(commission)
    for one in MEMBERS:
        assert send("bi/ccsprtp", one, "guidance.published", registry).ok
        assert send(one, "bi/ccsprtp", "guidance.acknowledged", registry).ok
        assert send(one, "bi/ccsprtp", "expertise.asked", registry).ok
        assert not send(one, "bi/ccsprtp", "guidance.published", registry).ok


# -- claims ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "at", "code"),
    [
        (claims(SHELTER), AT, ""),
        (claims(SHELTER, "legal-duty"), AT, ""),
        (claims(SHELTER, "vital-interests"), AT, ""),
        (claims(SHELTER, "legal-duty"), None, ""),
        (None, AT, "consent_missing"),
        (claims(SHELTER2), AT, "consent_missing"),
        (claims(SHELTER, "because"), AT, "consent_missing"),
        (Claimed(SHELTER), AT, "consent_missing"),
        (claims(SHELTER), None, "consent_missing"),
        (claims(SHELTER), AT + timedelta(days=1), "consent_expired"),
        (claims(SHELTER), AT + timedelta(days=1, seconds=-1), ""),
    ],
)
def test_a_referral_needs_a_basis_for_this_recipient_now(
    claimed: Claimed | None, at: datetime | None, code: str
) -> None:
    verdict = may(Act("send", IOM, "bi.referral.k7t4", "request", "referral.requested", claimed, at), REGISTRY)
    assert verdict.code == code
    assert verdict.ok == (code == "")
    assert code == "" or verdict.rule == "event.referral.requested.basis"


# -- the policy file ---------------------------------------------------------------------------------------------------


def test_policy_and_event_catalogue_say_the_same() -> None:
    rules = policy().events
    assert rules.keys() == EVENTS.keys()
    for name, event in EVENTS.items():
        assert (rules[name].flow, rules[name].kind, rules[name].machine) == (event.flow, event.kind, event.machine)


def test_who_is_asked_for_a_basis_is_who_shares_what_is_known_of_a_person() -> None:
    assert {name for name, rule in policy().events.items() if rule.basis} == set(PURPOSES)
    assert set(policy().always) == {name for name, event in EVENTS.items() if event.identity}


def test_who_may_speak_is_who_has_a_step_in_the_machine() -> None:
    for rule in policy().events.values():
        if rule.machine is not None:
            parties = {
                by
                for machine in (lifecycle.MACHINES if rule.machine == "*" else (rule.machine,))
                for _, event, by in lifecycle.MACHINES[machine].steps
                if event.partition("/")[0] == rule.name
            }
            if rule.machine == "*":
                assert rule.by in parties or (rule.by == "holder" and parties), rule.name
            else:  # what `umuhuza policy explain` says of a thread is what its machine does
                assert parties == ({rule.by} if rule.by != "holder" else set(lifecycle.PARTIES)), rule.name


def test_every_path_of_an_allow_list_is_one_that_facts_can_have() -> None:
    for name in policy().always:
        listed = set(policy().always[name]).union(*policy().by_service.get(name, {}).values())
        for path in listed - {"occurred_at", "lawful", "htcds"}:
            assert any(known == path or known.startswith(path + ".") for known in minimise.KNOWN_PATHS), path


def test_what_travels_grows_with_the_services_asked_for() -> None:
    bare = allowed_fields("referral.requested")
    assert bare is not None
    assert "referral.access_needs" not in bare
    legal, health = (allowed_fields("referral.requested", [one]) for one in ("Legal", "Health"))
    assert legal is not None
    assert health is not None
    assert "htcds.vic_MethodOfRecruitment" in legal - health
    assert "referral.access_needs" in health - legal  # a lawyer gets no medical part
    assert allowed_fields("referral.requested", ["Legal", "Health", "Unknown"]) == legal | health
    assert allowed_fields("receipt.delivered") is None


def test_deadlines_are_those_of_the_four_priorities() -> None:
    hours = {"immediate": 2, "emergency": 24, "urgent": 72, "normal": 336}
    assert {one: answer_within_s("referral.requested", one) for one in hours} == {
        one: count * 3600 for one, count in hours.items()
    }
    assert answer_within_s("referral.requested", "whenever") is None
    assert answer_within_s("referral.accepted", "urgent") is None


def test_a_place_is_kept_for_four_hours_and_for_one_asker_for_eight_a_day_without_being_taken() -> None:
    kept = policy().places
    assert (kept.hold_s, kept.untaken_s, kept.within_s) == (4 * 3600, 8 * 3600, 24 * 3600)


def test_nobody_departs_at_extreme_risk() -> None:
    assert policy().risk_stops == {"extreme"}


def test_the_policy_that_ships_is_read() -> None:
    assert read_policy(POLICY) == policy()
    assert policy().law_enforcement == {"police", "judiciary"}


WRONG: Mapping[str, tuple[str, str]] = {
    "police with a referral mailbox": (
        'mailbox = ["assistance"]                    # never police',
        'mailbox = ["assistance", "police"] # never police',
    ),
    "judiciary with a case mailbox": ('mailbox = ["screener", "assistance"]', 'mailbox = ["screener", "judiciary"]'),
    "everybody with a case mailbox": ('mailbox = ["screener", "assistance"]', 'mailbox = ["*"]'),
    "an unknown role": ('mailbox = ["screener", "assistance"]', 'mailbox = ["screener", "ndayishimiye"]'),
    "an unknown role in the firewall": ('["police", "judiciary"]', '["police", "ndayishimiye"]'),
    "an unknown sender": ('from = ["screener"]', 'from = ["ndayishimiye"]'),
    "an unknown recipient": ('to = ["assistance", "screener"]', 'to = ["assistance", "ndayishimiye"]'),
    "an unknown flow": ("[flow.referral]", "[flow.referrals]"),
    "an event of an unknown flow": ('flow = "case"\nkind = "update"', 'flow = "cases"\nkind = "update"'),
    "an event of a flow without mailboxes": ('[flow.receipt]\nmailbox = ["*"]\nretention_days = 1825\n', ""),
    "an unknown kind": ('kind = "update"\nmachine = "case"', 'kind = "updates"\nmachine = "case"'),
    "an unknown machine": ('kind = "update"\nmachine = "case"', 'kind = "update"\nmachine = "cases"'),
    "an unknown party": ('by = "recipient"', 'by = "anybody"'),
    "an unknown basis": ('basis = ["consent", "legal-duty", "vital-interests"]', 'basis = ["curiosity"]'),
    "an unknown priority": ("{ immediate = ", "{ soon = "),
    "a span in minutes": ('immediate = "2h"', 'immediate = "120m"'),
    "an unknown member of an event": ('machine = "case"\n', 'machine = "case"\nmachines = "case"\n'),
    "a missing member of an event": ('from = ["screener"]\n', ""),
    "an unknown member of a flow": ("retention_days = 1825\n", "retention_day = 1825\n"),
    "a missing member of a flow": ("retention_days = 1825\n", ""),
    "an unknown member of the firewall": ("law_enforcement =", "law_enforcements ="),
    "an open flow that is none": ('["alert"]', '["alerts"]'),
    "a flow to listen in that is none": ("{ directory =", "{ directories ="),
    "an event to hear that is none": ('["service.published"]', '["service.ndayishimiye"]'),
    "an event to hear of another flow": ('["service.published"]', '["case.identified"]'),
    "an unknown member of an allow-list": ('always = ["occurred_at"', 'allways = ["occurred_at"'),
    "an allow-list of no event": ('[minimise."case.identified"]', '[minimise."case.identifed"]'),
    "files with no event": ('[attach."referral.requested"]', '[attach."referral.asked"]'),
    "files to an unknown role": (
        '[attach."referral.requested"]\nto = ["assistance"]',
        '[attach."referral.requested"]\nto = ["ndayishimiye"]',
    ),
    "an unknown member of attach": (
        '[attach."referral.requested"]\nto =',
        '[attach."referral.requested"]\nfrom = ["assistance"]\nto =',
    ),
    "how long places are kept, misspelt": ('untaken = "8h"', 'untakken = "8h"'),
    "places kept for minutes": ('hold = "4h"', 'hold = "240m"'),
    "a word of an unknown role": ('court = ["judiciary"]', 'court = ["ndayishimiye"]'),
    "an unknown level of risk": ('stops = ["extreme"]', 'stops = ["extremely"]'),
    "an unknown quota": ("records_per_minute", "records_per_second"),
    "a missing quota": ("waiting_reads = 4\n", ""),
    "an unknown section": ("[quota]", "[quotas]"),
    "another version": ("version = 1", "version = 2"),
    "no TOML": ("[quota]", "[quota"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_policy_is_refused(what: str) -> None:
    before, after = WRONG[what]
    assert before in POLICY
    with pytest.raises(ValueError, match="unknown|missing|firewall|hours or days|Expected"):
        read_policy(POLICY.replace(before, after, 1))


def test_the_refusal_is_for_the_change_and_not_for_the_file() -> None:
    harmless = POLICY.replace('urgent = "72h"', 'urgent = "3d"')
    assert tomllib.loads(harmless) != tomllib.loads(POLICY)
    assert read_policy(harmless) == policy()
