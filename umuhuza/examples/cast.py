# SPDX-License-Identifier: Apache-2.0
"""Who says what to whom in the examples, under which identifiers: invented agencies, people, threads and events.

Identifiers follow from names, so that examples refer to each other (a receipt to the referral it receipts) and are the
same whenever they are made. In a real record each of them is random.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from schemas.envelope import new_evt, new_thread
from schemas.event_types import EVENTS
from schemas.keys import RandomBytes, b64url
from schemas.lifecycle import MACHINES
from topics.policy_file import policy

NOW = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)
"""When everything here is written down."""

PEOPLE = (
    "Keza Uwimana",
    "Kéza Uwimana",
    "Espérance Nininahazwe",
    "Diane Ndayisenga",
    "Aimé Ntahomvukiye",
    "Aline Ndayizeye",
    "فاطمة",
)
"""Everybody who is named. All invented."""

_PAIRS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "referral": ("bi/iom", "bi/k7t4"),
        "case": ("bi/iom", "bi/min-solidarity"),
        "alert": ("bi/k7t4", "bi/police"),
        "warning": ("bi/police", "bi/iom"),
        "transfer": ("tn/inlctp", "bi/ccsprtp"),
        "service": ("bi/k7t4", "bi/iom"),
        "availability": ("bi/hotline", "bi/k7t4"),
        "investigation": ("bi/police", "bi/judiciary"),
        "notice": ("bi/judiciary", "bi/legal-aid"),
        "guidance": ("bi/ccsprtp", "bi/k7t4"),
        "expertise": ("bi/ccsprtp", "tn/inlctp"),
        "contact": ("bi/ccsprtp", "bi/police"),
        "disclosure": ("bi/judiciary", "bi/iom"),
        "access": ("bi/legal-aid", "bi/k7t4"),
        "erasure": ("bi/iom", "bi/k7t4"),
        "submission": ("bi/iom", "bi/ccsprtp"),
    }
)
"""Machine -> who opens its thread in the examples, who receives it. What belongs to any thread is of a referral's."""
_HANDED_OVER = ("bi/police", "bi/iom")
_ANOTHER_PAIR: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"case.identified": _HANDED_OVER, "handover.acknowledged": _HANDED_OVER}
)
_BY_RECIPIENT = frozenset(("receipt.delivered", "receipt.rejected", "consent.acknowledged"))
"""Of what either side may say: what in the examples the recipient of the thread says."""
_ANSWERED: Mapping[str, str] = MappingProxyType(
    {
        "attachment.announced": "referral.requested",
        "attachment.chunk": "attachment.announced",
        "consent.acknowledged": "consent.withdrawn",
        "information.answered": "information.requested",
        "receipt.delivered": "referral.requested",
        "receipt.rejected": "referral.requested",
        "record.corrected": "referral.requested",
        "record.retracted": "referral.requested",
    }
)
"""What an event refers to, where that is not the first of its thread."""


def _drawn(seed: str) -> RandomBytes:
    """Bytes that follow from a name. Only for what protects nothing."""
    counter = itertools.count()

    def draw(count: int) -> bytes:
        return hashlib.shake_256(f"umuhuza example {seed}/{next(counter)}".encode()).digest(count)

    return draw


def _machine(event: str) -> str:
    named = EVENTS[event].machine
    return "referral" if named is None or named == "*" else named


def thread_pair(event: str) -> tuple[str, str]:
    """(who opened the event's thread, who received it). Raises KeyError: a machine without a pair in `_PAIRS`."""
    return _ANOTHER_PAIR.get(event) or _PAIRS[_machine(event)]


def parties(event: str) -> tuple[str, str]:
    """(sender, recipient) of the event in the examples."""
    initiator, recipient = thread_pair(event)
    if policy().events[event].by == "recipient" or event in _BY_RECIPIENT:
        return recipient, initiator
    return initiator, recipient


def flow_of(event: str) -> str:
    """The flow in which the example travels."""
    flow = EVENTS[event].flow
    return "referral" if flow == "*" else flow


def evt_of(event: str) -> str:
    """The example's event id."""
    return new_evt(int(NOW.timestamp() * 1000), _drawn(f"evt {event}"))


def thread_of(event: str) -> str:
    return new_thread(_drawn(f"thread {_machine(event)} {thread_pair(event)}"))


def pseudonym_of(event: str) -> str:
    """Of the person, between these two agencies alone."""
    return b64url(_drawn(f"pseudonym {thread_pair(event)}")(12))


def salt_of(event: str) -> bytes:
    return _drawn(f"salt {event}")(32)


def ref_of(event: str) -> str | None:
    """The event that this one answers, corrects or retracts."""
    answered = _ANSWERED.get(event)
    if answered is None and policy().events[event].by == "recipient":
        answered = _opening(event)
    return None if answered is None else evt_of(answered)


def _opening(event: str) -> str:
    """The first event of the thread: of the machine's, the one between the same two."""
    opening = dict.fromkeys(name for before, name, _ in MACHINES[_machine(event)].steps if before is None)
    return next(name for name in opening if thread_pair(name) == thread_pair(event))
