# SPDX-License-Identifier: Apache-2.0
"""What nodes are told, here and in production."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from umuhuza.kafka.properties import (
    Layout,
    Node,
    broker_properties,
    combined_properties,
    controller_properties,
    logging_properties,
    render,
)

Make = Callable[[Node, Layout], dict[str, str]]
ALL: list[Make] = [combined_properties, broker_properties, controller_properties]
ROLES = ["together", "broker", "controller"]
ETC = PurePosixPath("/etc/umuhuza-kafka")


def node(bind: str | None = None) -> Node:
    return Node(
        1,
        ETC / "keystore.pem",
        ETC / "ca.pem",
        PurePosixPath("/var/lib/umuhuza-kafka"),
        "kafka-1.bi:9092",
        "kafka-1.bi:9093",
        bind,
    )


def layout(brokers: int) -> Layout:
    ids = tuple(range(1, brokers + 1))
    return Layout(tuple(f"kafka-{one}.bi:9093" for one in ids), ids, brokers)


@pytest.mark.parametrize("make", ALL, ids=ROLES)
def test_every_listener_asks_for_a_certificate_and_nobody_may_do_anything_unless_it_is_said(make: Make) -> None:
    told = make(node(), layout(3))
    protocols = dict(pair.split(":") for pair in told["listener.security.protocol.map"].split(","))
    assert set(protocols.values()) == {"SSL"}
    assert {address.partition("://")[0] for address in told["listeners"].split(",")} <= protocols.keys()
    assert told["ssl.client.auth"] == "required"
    assert told["ssl.enabled.protocols"] == "TLSv1.3"
    assert told["authorizer.class.name"].endswith(".StandardAuthorizer")
    assert told["allow.everyone.if.no.acl.found"] == "false"
    assert told["super.users"] == "User:node-1;User:node-2;User:node-3;User:admin"
    assert told["auto.create.topics.enable"] == "false"


@pytest.mark.parametrize(
    ("brokers", "replicas", "insync"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2"), (5, "3", "2")]
)
def test_one_of_three_may_be_lost_and_no_record_with_it(brokers: int, replicas: str, insync: str) -> None:
    told = combined_properties(node(), layout(brokers))
    assert told["default.replication.factor"] == told["offsets.topic.replication.factor"] == replicas
    assert told["min.insync.replicas"] == told["transaction.state.log.min.isr"] == insync
    assert told["unclean.leader.election.enable"] == "false"


@pytest.mark.parametrize("make", [combined_properties, broker_properties], ids=["together", "broker"])
def test_a_record_is_on_disk_before_it_is_acknowledged_and_stays(make: Make) -> None:
    told = make(node(), layout(1))
    assert told["log.flush.interval.messages"] == "1"
    assert told["log.retention.ms"] == "-1"


@pytest.mark.parametrize("make", [combined_properties, broker_properties], ids=["together", "broker"])
def test_one_address_never_has_all_connections_but_on_one_machine(make: Make) -> None:
    told = make(node(), layout(3))
    assert int(told["max.connections.per.ip"]) * 5 <= int(told["max.connections"])
    assert told["max.connections.per.ip.overrides"] == f"127.0.0.1:{told['max.connections']}"


def test_roles_have_the_listeners_that_they_need() -> None:
    together, broker, controller = (make(node(), layout(3)) for make in ALL)
    assert together["process.roles"] == "broker,controller"
    assert together["listeners"] == "CLIENTS://kafka-1.bi:9092,CONTROLLER://kafka-1.bi:9093"
    assert (broker["process.roles"], broker["listeners"]) == ("broker", "CLIENTS://kafka-1.bi:9092")
    assert (controller["process.roles"], controller["listeners"]) == ("controller", "CONTROLLER://kafka-1.bi:9093")
    assert "inter.broker.listener.name" not in controller
    for told in (together, broker, controller):
        assert told["controller.quorum.bootstrap.servers"] == "kafka-1.bi:9093,kafka-2.bi:9093,kafka-3.bi:9093"
        assert told["controller.listener.names"] == "CONTROLLER"


def test_a_node_may_listen_elsewhere_than_it_is_reached() -> None:
    told = combined_properties(node(bind="0.0.0.0"), layout(1))
    assert told["listeners"] == "CLIENTS://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093"
    assert told["advertised.listeners"] == "CLIENTS://kafka-1.bi:9092,CONTROLLER://kafka-1.bi:9093"


def test_a_file_says_what_was_meant() -> None:
    assert render({"a": "b\\c"}, ["why"]) == "# SPDX-License-Identifier: Apache-2.0\n# why\na=b\\\\c\n"
    for wrong in (" a", "a ", "a\nb=c"):
        with pytest.raises(ValueError, match="as it is"):
            render({"name": wrong})


def test_logs_rotate_and_say_who_was_refused() -> None:
    told = logging_properties(PurePosixPath("/var/log/umuhuza-kafka"))
    assert "rootLogger.level=warn" in told.splitlines()
    assert "logger.authorizer.level=info" in told.splitlines()
    assert told.count(".policies.size.size=5MB") == told.count(".strategy.max=5") == 2
