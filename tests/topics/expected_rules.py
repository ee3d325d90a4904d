# SPDX-License-Identifier: Apache-2.0
"""Who may do what, written down a second time, by hand, from the design and not from the policy.

The one place to extend with an event: a row in `EVENTS_TOLD`, and in `TRAVELS` where somebody may be named.
`tests/topics/test_policy_mutations.py` changes the policy rule by rule and asks whether this table notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.registry import ROLES

Roles = frozenset[str]


def roles(*names: str) -> Roles:
    return frozenset(names)


ALL: Roles = frozenset(ROLES)
LAW = roles("police", "judiciary")
ASSISTANCE = roles("assistance")
CARE = roles("screener", "assistance")
FRONT = roles("front-line", "screener", "assistance", "hotline")
"""Who looks for a bed."""
PLACES = roles("assistance", "shelter", "clinic")
"""Who has one."""
BORDER = roles("focal-point", "facilitator")
COURTS = roles("judiciary", "coordination")
"""Who may ask for disclosure: courts, and the commission as auditor."""
CHOSEN = roles("assistance", "screener", "hotline", "legal-aid", "coordination")
"""Agencies that a person may choose to ask for her."""
WATCHING = roles("front-line", "screener", "assistance", "shelter", "clinic", "hotline", "police")
"""Who may notice that somebody is missing."""
SEARCHING = roles("police", "hotline", "screener", "assistance")
COUNTING = roles("front-line", "screener", "assistance", "hotline", "police", "judiciary", "legal-aid", "coordination")

ANY = roles("consent", "legal-duty", "vital-interests")
NONE: Roles = frozenset()
HOURS = {"immediate": 2, "emergency": 24, "urgent": 72, "normal": 14 * 24}

MAILBOXES: Mapping[str, Roles] = {
    # Assistance is behind the firewall: police and judiciary have no mailbox there, and it has none in theirs.
    "case": CARE,
    "referral": ASSISTANCE,
    "investigation": LAW | {"legal-aid"},
    "statistics": roles("coordination"),
    "bilateral": BORDER,
    "receipt": ALL,
    "rights": ALL,
    "alert": ALL,
    "knowledge": ALL,
    "directory": ALL,
}
OPEN_TO_THE_LAW = roles("alert")
"""Flows in which a protected place may call police and judiciary; they never address it."""
ANSWERS = roles("receipt.delivered", "receipt.rejected")
"""What crosses between them and a protected place as the machine's answer to what the other was allowed to send."""
ONLY_HEARD: Mapping[str, Roles] = {"directory": roles("service.published")}
"""Flows in which police and judiciary send nothing, and what they hear there."""


CHILDREN: Mapping[str, tuple[Roles, Roles, Roles, Roles]] = {
    "bi": (NONE, NONE, NONE, NONE),
    "tn": (
        roles("guardian", "family-judge"),
        NONE,
        roles("investigation"),
        roles("data-protection-authority"),
    ),
}
"""Domain -> whose authorisation a child needs; where she is in danger and there is no guardian to ask; the flows to
which that does not apply; and to pass the border."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who may send an event to whom, who of the two in a thread, on which basis, by when an answer is due (hours)."""

    sender: Roles
    to: Roles
    by: str
    basis: Roles = NONE
    within: Mapping[str, int] | None = None
    agreement: bool = False
    said_as: Mapping[str, Mapping[str, Roles]] = field(default_factory=dict)
    """Member -> code -> whose word that is."""


def _same(names: str, told: Told) -> dict[str, Told]:
    return dict.fromkeys(names.split(), told)


EVENTS_TOLD: Mapping[str, Told] = {
    # Case: the front line, police included, hands a person to a screener; screeners and assistance go on from there.
    "case.identified": Told(roles("front-line", "police", "hotline", "screener"), roles("screener"), "initiator", ANY),
    "case.screened": Told(roles("screener"), CARE, "holder", ANY),
    **_same("case.updated conference.called conference.decided", Told(CARE, CARE, "holder", ANY)),
    **_same("case.handover case.closed case.reopened reflection.started reflection.ended", Told(CARE, CARE, "holder")),
    # Referral: between those who assist, nobody else.
    "referral.requested": Told(ASSISTANCE, ASSISTANCE, "initiator", ANY, HOURS),
    **_same(
        "referral.revoked referral.expired referral.reopened movement.departed",
        Told(ASSISTANCE, ASSISTANCE, "initiator"),
    ),
    **_same(
        "referral.received referral.accepted referral.declined referral.started referral.completed referral.ended "
        "service.provided information.requested movement.arrived feedback.given",
        Told(ASSISTANCE, ASSISTANCE, "recipient"),
    ),
    "information.answered": Told(ASSISTANCE, ASSISTANCE, "initiator", ANY),
    # Files go with what she agreed to have shared, on the same basis; their chunks say nothing of their own.
    "attachment.announced": Told(ASSISTANCE, ASSISTANCE, "initiator", ANY),
    "attachment.chunk": Told(ASSISTANCE, ASSISTANCE, "initiator"),
    # Directory: who has places publishes and answers; who looks for one asks, without a name.
    "service.published": Told(PLACES | {"legal-aid", "hotline"}, ALL, "initiator"),
    **_same("availability.asked availability.held", Told(FRONT, PLACES, "initiator")),
    "availability.answered": Told(PLACES, FRONT, "recipient"),
    # The asker needs it no more; the provider could not keep it.
    "availability.released": Told(FRONT | {"shelter", "clinic"}, FRONT | {"shelter", "clinic"}, "holder"),
    # Alert: on vital interests or a duty, never on consent; a warning may go to everybody.
    "alert.missing": Told(WATCHING, SEARCHING, "initiator", roles("legal-duty", "vital-interests")),
    "alert.cleared": Told(WATCHING, SEARCHING, "initiator"),
    "safety.warning": Told(WATCHING | {"judiciary"}, ALL, "initiator"),
    # Investigation: police and judiciary among themselves; legal aid is given notice and nothing else.
    "investigation.opened": Told(LAW, LAW, "initiator", roles("consent", "legal-duty")),
    "investigation.updated": Told(LAW, LAW, "holder", roles("consent", "legal-duty")),
    "proceeding.notice": Told(LAW, LAW | {"legal-aid"}, "initiator", roles("consent", "legal-duty")),
    # Bilateral: focal points and IOM, under an agreement.
    "transfer.requested": Told(BORDER, BORDER, "initiator", ANY, HOURS, agreement=True),
    **_same(
        "transfer.accepted transfer.declined return.received return.followed-up", Told(BORDER, BORDER, "recipient")
    ),
    **_same(
        "transfer.expired transfer.reopened return.counselled return.documented return.departed",
        Told(BORDER, BORDER, "initiator"),
    ),
    "return.risk-assessed": Told(BORDER, BORDER, "holder"),  # both sides look at it
    # Rights: courts ask the holders, the person's chosen agency asks for her, everybody erases.
    # Nobody speaks as the court but the judiciary, as the auditor but the commission.
    "disclosure.requested": Told(
        COURTS,
        ALL,
        "initiator",
        said_as={"capacity": {"court": roles("judiciary"), "auditor": roles("coordination")}},
    ),
    **_same("disclosure.granted disclosure.refused disclosure.ended", Told(ALL, COURTS, "recipient")),
    "disclosure.reviewed": Told(
        ALL,
        COURTS,
        "recipient",
        said_as={"role": {"judge": roles("judiciary"), "coordination": roles("coordination")}},
    ),
    "access.requested": Told(CHOSEN, ALL, "initiator", within={"normal": 30 * 24}),
    "access.answered": Told(ALL, CHOSEN, "recipient"),
    "erasure.requested": Told(ALL, ALL, "initiator"),
    **_same("erasure.executed erasure.attested", Told(ALL, ALL, "recipient")),
    # Statistics: counts to the commission, no persons.
    "statistics.submitted": Told(COUNTING, roles("coordination"), "initiator"),
    # Knowledge: the commission publishes, everybody acknowledges and asks.
    "guidance.published": Told(roles("coordination"), ALL, "initiator"),
    "guidance.acknowledged": Told(ALL, roles("coordination"), "recipient"),
    "expertise.asked": Told(ALL, BORDER | {"coordination"}, "initiator"),
    "expertise.answered": Told(BORDER | {"coordination"}, ALL, "recipient"),
    "contact.published": Told(BORDER | {"coordination"}, ALL, "initiator"),
    # Receipts: from every machine to every machine; to police the one word that a person was taken over.
    **_same("receipt.delivered receipt.rejected", Told(ALL, ALL, "holder")),
    "handover.acknowledged": Told(CARE, roles("police"), "recipient"),
    # In the flow of the thread or the chain to which they belong.
    **_same(
        "chain.voided consent.granted consent.withdrawn consent.acknowledged record.retracted", Told(ALL, ALL, "holder")
    ),
    "record.corrected": Told(ALL, ALL, "holder", ANY),
}

# ---- what may travel of a person, where somebody may be named ----

_LAWFUL = roles("occurred_at", "lawful")
_ONLY_WHEN = roles("occurred_at")
_DECIDED = _LAWFUL | {
    *(f"caregiver.{name}" for name in ("status", "informed", "child_assent", "best_interest_note")),
    *(f"htcds.{name}" for name in ("cas_Status", "con_Consent", "prs_Gender", "prs_Citizenship")),
    *(f"htcds.vic_{name}" for name in ("TraffickingStatus", "TraffickingStatusDecisionMakingOrg")),
    *(f"htcds.vic_{name}" for name in ("MethodOfRecruitment", "MethodsOfControl", "TypeOfExploitation")),
    *(f"htcds.vic_{name}" for name in ("ForcedLabourIndustry", "TypeOfSexExploitation", "AgeWhenTrafficked")),
}
"""What was decided, never who she is."""
_ASKED_FOR_HTCDS = roles(
    "htcds.prs_Gender",
    "htcds.prs_Citizenship",
    "htcds.cas_ReasonForOutgoingReferral",
    "htcds.cas_OutgoingReferralDate",
    "htcds.spl_Type",
    "htcds.vic_TraffickingStatus",
)
_FOR_EVERY_SERVICE = roles(
    *("name", "birth", "languages", "interpreter", "dependants", "safe_contact", "caregiver", "risk"),
    *("already_given", "transport", "reason", "referring_unit", "on_call_telephone"),
)


def _services(form: str) -> dict[str, Roles]:
    """What a service needs beside: a lawyer gets no medical part, a lender nothing of what was done to her."""
    access, nursing = f"{form}.access_needs", f"{form}.pregnant_or_nursing"
    exploited, controlled = "htcds.vic_TypeOfExploitation", "htcds.vic_MethodsOfControl"
    schooling = "htcds.prs_HighestLevelOfEducation"
    return {
        "Health": roles(access, nursing, exploited, controlled),
        "SocialCare": roles(access, nursing, exploited),
        "SexualExploitationRehabilitation": roles(
            access, nursing, exploited, controlled, "htcds.vic_TypeOfSexExploitation"
        ),
        "LabourExploitationRehabilitation": roles(access, exploited, controlled, "htcds.vic_ForcedLabourIndustry"),
        "Legal": roles(exploited, controlled, "htcds.vic_MethodOfRecruitment"),
        "Education": roles(access, schooling),
        "Financial": NONE,
        "Livelihood": roles(schooling),
        "RightsBasedTraining": NONE,
    }


TRAVELS: Mapping[str, tuple[Roles, Mapping[str, Roles]]] = {
    "case.identified": (_LAWFUL | {"birth", "caregiver", "htcds"}, {}),
    "case.screened": (_DECIDED, {}),
    "case.updated": (_DECIDED, {}),
    "referral.requested": (
        _LAWFUL
        | _ASKED_FOR_HTCDS
        | {f"referral.{name}" for name in _FOR_EVERY_SERVICE}
        | {f"referral.{name}" for name in ("priority", "services", "local_service", "told_and_refused", "feedback_by")},
        _services("referral"),
    ),
    "information.requested": (_ONLY_WHEN | {"question"}, {}),
    "information.answered": (
        _LAWFUL
        | _ASKED_FOR_HTCDS
        | {f"information.{name}" for name in _FOR_EVERY_SERVICE}
        | {"information.not_known", "information.not_shared"},
        _services("information"),
    ),
    # Made for one reader as they are: nothing in them is left out for another.
    **dict.fromkeys(
        roles(
            *("conference.called", "conference.decided", "alert.missing", "transfer.requested", "record.corrected"),
            *("investigation.opened", "investigation.updated", "proceeding.notice", "attachment.announced"),
        ),
        (_LAWFUL, {}),
    ),
    **dict.fromkeys(
        ("disclosure.requested", "disclosure.refused", "disclosure.reviewed", "access.requested", "access.answered"),
        (_ONLY_WHEN, {}),
    ),
}

# ---- what may carry files, and to whom ----

CARRIES_FILES: Mapping[str, Roles] = {"referral.requested": ASSISTANCE, "information.answered": ASSISTANCE}
"""Nobody can strike out a line of a scan: only who assists her gets one, with what she asked to have shared."""

NEVER: Mapping[str, Mapping[str, Roles]] = {
    event: {"legal-aid": roles(f"{form}.access_needs", f"{form}.pregnant_or_nursing")}
    for event, form in (("referral.requested", "referral"), ("information.answered", "information"))
}
"""What never goes to a reader with that role, whichever service it is asked for: a lawyer gets no medical part."""
