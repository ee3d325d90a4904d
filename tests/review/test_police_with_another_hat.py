# SPDX-License-Identifier: Apache-2.0
"""A police or a court to whom the registry gives a second role is still police, and still outside of the firewall.

Registries are written by people: a police unit that screens at the border is entered as `police` and `screener`.
"""

from __future__ import annotations

from types import MappingProxyType

import pytest

from schemas.envelope import Kind
from schemas.registry import Agency, Registry, Role
from topics.catalogue import Act, flows_of, mailboxes_of, may
from topics.kafka_catalogue import kafka_acls

PLAIN = ("screener", "assistance", "shelter", "clinic", "hotline", "facilitator", "focal-point", "coordination")


def town(*roles: Role) -> Registry:
    members = (
        Agency("bi/police", {"fr": "Police (inventée)"}, roles, ()),
        Agency("bi/iom", {"fr": "OIM (inventée)"}, ("screener", "assistance", "facilitator"), ()),
    )
    return Registry("bi", 1, 0, MappingProxyType({one.id: one for one in members}))


@pytest.mark.parametrize("law", ["police", "judiciary"])
@pytest.mark.parametrize("second", PLAIN)
def test_no_second_role_gives_it_a_mailbox_in_which_people_are_assisted(law: Role, second: Role) -> None:
    registry = town(law, second)
    police = registry.agency("bi/police")
    assert not {"case", "referral", "bilateral", "statistics"} & set(flows_of(police))
    assert not {"bi.case.police", "bi.referral.police"} & set(mailboxes_of(police))
    asked: tuple[tuple[str, Kind], ...] = (
        ("case", "update"),
        ("case", "request"),
        ("referral", "request"),
        ("bilateral", "request"),
    )
    for flow, kind in asked:
        assert not may(Act("send", "bi/iom", f"bi.{flow}.police", kind), registry).ok
        assert not may(Act("read", "bi/police", f"bi.{flow}.police"), registry).ok
    assert not any(acl.name == "bi.case.police" for acl in kafka_acls(registry))


@pytest.mark.parametrize("second", ["screener", "assistance"])
def test_nor_may_it_speak_there_as_if_it_were_another(second: Role) -> None:
    registry = town("police", second)
    assert not may(Act("send", "bi/police", "bi.referral.iom", "request"), registry).ok
    assert not may(Act("send", "bi/police", "bi.case.iom", "update", "case.screened"), registry).ok
    assert may(Act("send", "bi/police", "bi.case.iom", "request"), registry).ok  # it hands people over, as ever
