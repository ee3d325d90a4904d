# SPDX-License-Identifier: Apache-2.0
"""What an agency's certificate opens and what it does not, by Kafka's own tools and by bare clients.

The whole table, every principal against every topic, is asked in `tests/topics/test_kafka_admin.py`. Here another
client than ours asks, and asks for what ours never would: groups, offsets, names, neighbours' mailboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from schemas.envelope import parse_record
from schemas.errors import LogError
from schemas.registry import Registry
from schemas.sealing import open_grant, open_parts
from tests.domain import NOW, Domain, Signed
from tests.kafka import kafka_tools
from tests.topics.kafka_harness import appended, open_kafka, wipe
from tests.topics.test_kafka_catalogue import REGISTRY
from topics import kafka_admin
from topics.kafka_catalogue import KafkaAcl, kafka_acls, kafka_principal
from topics.kafka_clients import Clients
from topics.kafka_producer import Item
from topics.log import grants_topic
from umuhuza.kafka.cluster import Cluster

MAILBOX = "bi.referral.k7t4"
NEIGHBOURS = ("bi/iom", "bi/iom-gitega")
"""The first is the beginning of the second."""


@dataclass
class Town:
    cluster: Cluster
    domain: Domain
    sent: Signed
    """In the mailbox MAILBOX, with its grant."""


@pytest.fixture(scope="module")
def town(kafka_cluster: Cluster) -> Town:
    """Brokers as the catalogue says, and one record."""
    kafka_cluster.start()
    admin = kafka_cluster.access("admin")
    domain = Domain()
    sent = domain.record()
    wipe(admin)

    async def work() -> None:
        await kafka_admin.apply(admin, REGISTRY, nodes=1)
        gateway = await open_kafka(kafka_cluster.access("bi/operator"))
        await gateway.put_grants(grants_topic("bi/k7t4"), sent.grant_puts())
        appended(await gateway.append([sent.entry]))
        await gateway.close()

    asyncio.run(work())
    return Town(kafka_cluster, domain, sent)


def console(town: Town, agency: str, topic: str, *more: str) -> tuple[bytes, str]:
    """What the console consumer shows of a topic, and what it complains of."""
    kafka_tools.needs_tools()
    arguments = ["--topic", topic, *(more or ("--partition", "0", "--offset", "earliest"))]
    arguments += ["--max-messages", "1", "--timeout-ms", "40000"]
    done = kafka_tools.run(kafka_tools.CONSUMER, town.cluster.access(agency), *arguments)
    return done.stdout, done.stderr.decode("utf-8", "replace")


@contextlib.contextmanager
def bare(town: Town, agency: str) -> Iterator[Clients]:
    clients = Clients(town.cluster.access(agency))
    try:
        yield clients
    finally:
        clients.close_producer()
        clients.close()


# ---------------------------------------------------------------------------------------------------------------------
# Kafka's own tools


def test_an_agency_reads_and_opens_its_mail_with_nothing_but_kafkas_console_consumer(town: Town) -> None:
    shown, _ = console(town, "bi/k7t4", MAILBOX)
    assert shown == town.sent.value + b"\n"
    granted, _ = console(town, "bi/k7t4", grants_topic("bi/k7t4"))
    record = parse_record(shown.removesuffix(b"\n"))
    record.verify(town.domain.members["bi/iom"].sig.public)
    record.verify_body()
    keys = open_grant(record, granted.removesuffix(b"\n"), town.domain.members["bi/k7t4"].seal)
    assert open_parts(record, keys, ("content",))["content"].rstrip(b" ") == b'{"content":"of a test"}'


@pytest.mark.parametrize(
    ("agency", "topic"),
    [
        ("bi/iom", MAILBOX),  # which it may write
        ("bi/iom", "bi.grants.k7t4"),
        ("bi/iom-gitega", "bi.referral.iom"),
        ("bi/iom", "bi.referral.iom-gitega"),
    ],
)
def test_the_console_consumer_is_refused_on_what_is_anothers(town: Town, agency: str, topic: str) -> None:
    shown, complaint = console(town, agency, topic)
    assert shown == b""
    assert "TopicAuthorizationException" in complaint
    assert topic in complaint


def test_nobody_joins_a_group(town: Town) -> None:
    """Cursors are their readers': what brokers keep of groups would say who reads what and when."""
    shown, complaint = console(town, "bi/k7t4", MAILBOX, "--from-beginning", "--group", "bi.k7t4")
    assert shown == b""
    assert "GroupAuthorizationException" in complaint


def test_the_console_producer_writes_only_where_its_agency_has_opted_in(town: Town) -> None:
    kafka_tools.needs_tools()
    topic = "bi.referral.min-solidarity"
    complaints = {
        agency: kafka_tools.run(
            kafka_tools.PRODUCER, town.cluster.access(agency), "--topic", topic, text=agency.encode() + b"\n"
        ).stderr.decode("utf-8", "replace")
        for agency in ("bi/k7t4", "bi/iom")
    }
    assert "TopicAuthorizationException" in complaints["bi/k7t4"]
    assert complaints["bi/iom"] == ""
    with bare(town, "bi/min-solidarity") as owner:
        assert owner.ends([topic]) == {topic: 1}
        found = owner.fetch({topic: (0, 1)}, 10, 1 << 20)
        assert not isinstance(found, str)
        assert [one.value for one in found[topic]] == [b"bi/iom"]


def test_an_agencys_tools_name_no_mailbox_of_others_nor_its_length_unless_it_writes_there(town: Town) -> None:
    kafka_tools.needs_tools()
    ends = {
        agency: {
            line.rpartition(":")[0].removesuffix(":0")
            for line in kafka_tools.run(kafka_tools.OFFSETS, town.cluster.access(agency)).stdout.decode().split()
        }
        for agency in ("bi/min-solidarity", "bi/iom")
    }
    assert ends["bi/min-solidarity"] == {
        f"bi.{flow}.min-solidarity"
        for flow in ("referral", "case", "alert", "rights", "directory", "knowledge", "receipt", "grants")
    } | {"bi.registry.log"}
    # Whoever writes a mailbox by itself learns its offsets: the price of that right.
    assert MAILBOX in ends["bi/iom"]


# ---------------------------------------------------------------------------------------------------------------------
# Bare clients


def test_a_neighbours_name_opens_nothing(town: Town) -> None:
    """`iom` begins `iom-gitega`, and mailboxes' names end with them: a prefix would have let one into the other's."""
    with bare(town, "bi/operator") as operator:
        for agency in NEIGHBOURS:
            name = agency.partition("/")[2]
            for flow in ("referral", "case", "receipt", "grants"):
                answers = operator.produce([Item(f"bi.{flow}.{name}", b"k", f"for {name}".encode())])
                assert not isinstance(answers[0], LogError)
    for reader, owner in (NEIGHBOURS, NEIGHBOURS[::-1]):
        writes = {acl.name for acl in kafka_acls(REGISTRY) if _is(acl, reader, "write")}
        assert bool(writes) == (reader == "bi/iom")
        with bare(town, reader) as clients:
            for flow in ("referral", "case", "receipt", "grants"):
                mine, theirs = (f"bi.{flow}.{who.partition('/')[2]}" for who in (reader, owner))
                found = clients.fetch({mine: (0, 1)}, 1, 1 << 20)
                assert not isinstance(found, str)
                assert found[mine][0].value == f"for {reader[3:]}".encode()
                seen = clients.describe([theirs])[theirs]
                assert seen.code == ("" if theirs in writes else "not_permitted")
                if theirs in writes:  # it sees how far the mailbox goes, and nothing that is in it
                    with pytest.raises(LogError) as caught:
                        clients.fetch({theirs: (0, 1)}, 1, 1 << 20)
                    assert caught.value.code == "not_permitted"


def _is(acl: KafkaAcl, agency: str, operation: str) -> bool:
    return (acl.principal, acl.operation) == (kafka_principal(agency), operation)


def test_an_agency_reads_the_logs_identity_and_does_not_write_it(town: Town) -> None:
    with bare(town, "bi/iom") as iom:
        pairs = dict(pair for some, _ in iom.through("bi.registry.log", 0) for pair in some)
        assert pairs[b"log_id"]
        for topic in ("bi.registry.log", "bi.grants.iom", "bi.grants.k7t4"):
            for value in (b"mine", None):  # a tombstone is a write too
                [answer] = iom.produce([Item(topic, b"log_id", value)])
                assert isinstance(answer, LogError)
                assert answer.code == "not_permitted"
        assert dict(pair for some, _ in iom.through("bi.registry.log", 0) for pair in some) == pairs


def _left(registry: Registry) -> Registry:
    return replace(registry, agencies={name: one for name, one in registry.agencies.items() if name != "bi/iom"})


def _revoked(registry: Registry) -> Registry:
    for key in registry.agency("bi/iom").keys:
        registry = registry.with_key_revoked("bi/iom", key.kid, NOW)
    return registry


@pytest.mark.parametrize("change", [_left, _revoked])
def test_leaving_the_registry_closes_every_door(town: Town, change: Callable[[Registry], Registry]) -> None:
    """Its certificate still counts; what it opened is gone with the next `apply`, and comes back with the agency."""
    admin = town.cluster.access("admin")
    with bare(town, "bi/iom") as iom:
        assert "bi.referral.iom" in iom.describe()
        asyncio.run(kafka_admin.apply(admin, change(REGISTRY), nodes=1))
        try:
            assert iom.describe() == {}
            mine = ["bi.referral.iom", "bi.grants.iom", "bi.registry.log"]
            assert {one.code for one in iom.describe(mine).values()} == {"not_permitted"}
            [answer] = iom.produce([Item(MAILBOX, b"k", b"v")])
            assert isinstance(answer, LogError)
            assert answer.code == "not_permitted"
        finally:
            asyncio.run(kafka_admin.apply(admin, REGISTRY, nodes=1))
        assert "bi.referral.iom" in iom.describe()
