# SPDX-License-Identifier: Apache-2.0
"""What `apply` makes of a real broker, and what then each principal may and may not: asked of the broker itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.kafka_harness import open_kafka, random_id, run, wipe
from tests.topics.test_kafka_catalogue import REGISTRY
from topics import kafka_admin
from topics.catalogue import mailboxes_of, topics_of
from topics.kafka_access import KafkaAccess
from topics.kafka_admin import Finding
from topics.kafka_catalogue import KafkaAcl, kafka_acls, kafka_principal, kafka_topics
from topics.kafka_clients import Clients
from topics.kafka_log import KafkaLog
from topics.kafka_producer import Item
from topics.log import Entry, grants_topic
from umuhuza.kafka.certificates import Authority

AGENCIES = ["bi/iom", "bi/iom-gitega", "bi/police", "bi/k7t4"]
EVERYTHING = sorted(kafka_topics(REGISTRY, 1))


@contextlib.contextmanager
def raw(access: KafkaAccess) -> Iterator[Clients]:
    clients = Clients(access)
    try:
        yield clients
    finally:
        clients.close_producer()
        clients.close()


@pytest.fixture
def admin() -> KafkaAccess:
    """A broker without topics of ours and without ACLs."""
    needs_kafka()
    cluster = _shared()
    cluster.start()
    access = cluster.access("admin")
    wipe(access)
    with raw(access) as clients:
        clients.remove_acls(sorted(clients.acls(), key=repr))
    return access


def apply(admin: KafkaAccess, *, dry_run: bool = False) -> kafka_admin.Applied:
    return run(kafka_admin.apply(admin, REGISTRY, nodes=1, dry_run=dry_run))


# ---------------------------------------------------------------- apply


def test_it_makes_everything_once_and_then_finds_nothing_to_do(admin: KafkaAccess) -> None:
    first = apply(admin)
    assert first.changed
    assert list(first.created) == EVERYTHING
    assert set(first.allowed) == kafka_acls(REGISTRY)
    assert (first.removed, first.findings) == ((), ())
    second = apply(admin)
    assert not second.changed
    assert second.findings == ()
    with raw(admin) as clients:
        assert clients.acls() == kafka_acls(REGISTRY)
        for name, topic in kafka_topics(REGISTRY, 1).items():
            assert clients.settings([name])[name].items() >= topic.settings.items()
            described = clients.describe([name])[name]
            assert (described.partitions, described.replication) == (1, 1)


def test_a_dry_run_says_all_of_it_and_changes_nothing(admin: KafkaAccess) -> None:
    told = apply(admin, dry_run=True)
    assert told.dry_run
    assert list(told.created) == EVERYTHING
    assert set(told.allowed) == kafka_acls(REGISTRY)
    with raw(admin) as clients:
        assert not [name for name in clients.describe() if name.startswith("bi.")]
        assert clients.acls() == set()
    done = apply(admin)
    assert (done.created, done.allowed) == (told.created, told.allowed)


def test_settings_that_somebody_changed_come_back_and_others_stay(admin: KafkaAccess) -> None:
    apply(admin)
    with raw(admin) as clients:
        clients.change_settings(
            {"bi.receipt.iom": {"retention.ms": "1000", "flush.messages": "99", "segment.ms": "70000"}}
        )
        told = apply(admin, dry_run=True)
        assert told.settings == {"bi.receipt.iom": {"retention.ms": "-1", "flush.messages": "1"}}
        assert clients.settings(["bi.receipt.iom"])["bi.receipt.iom"]["flush.messages"] == "99"
        assert apply(admin).settings == told.settings
        found = clients.settings(["bi.receipt.iom"])["bi.receipt.iom"]
    assert (found["retention.ms"], found["flush.messages"], found["segment.ms"]) == ("-1", "1", "70000")


def test_no_agency_takes_a_broker_for_itself_and_the_gateway_is_not_held_back(admin: KafkaAccess) -> None:
    with raw(admin) as clients:
        clients.change_quotas({"bi.iom": {"producer_byte_rate": 1.0}, "bi.operator": {"consumer_byte_rate": 9e9}})
        told = apply(admin, dry_run=True)
        assert told.quotas["bi.iom"]["producer_byte_rate"] == 2_000_000
        assert clients.quotas()["bi.iom"]["producer_byte_rate"] == 1
        assert apply(admin).quotas == told.quotas
        assert not apply(admin).changed
        limits = {"producer_byte_rate": 2e6, "consumer_byte_rate": 2e7, "request_percentage": 100.0}
        members = {agency.replace("/", ".") for agency in REGISTRY.agencies} - {"bi.operator"}
        found = clients.quotas()
        assert {user: found[user] for user in members} == dict.fromkeys(members, limits)
        assert found["bi.operator"] == {"consumer_byte_rate": 9e9}
    with raw(_shared().access("bi/iom")) as agency, pytest.raises(LogError, match="not_permitted"):
        agency.change_quotas({"bi.iom": {"producer_byte_rate": 9e9}})


def test_what_our_principals_may_too_much_is_taken_away_and_others_are_only_named(admin: KafkaAccess) -> None:
    apply(admin)
    too_much = [
        KafkaAcl("User:bi.iom", "all", "bi.", pattern="prefixed"),
        KafkaAcl("User:bi.iom", "create", "kafka-cluster", resource="cluster"),
        KafkaAcl("User:bi.gone", "read", "bi.receipt.iom"),
        KafkaAcl("User:bi.police", "read", "bi.referral.k7t4", permission="deny"),
    ]
    others = [
        KafkaAcl("User:*", "read", "bi.receipt.iom"),
        KafkaAcl("User:tn.iom", "write", "bi.", pattern="prefixed"),
        KafkaAcl("User:tn.iom", "read", "tn.receipt.iom"),
    ]
    with raw(admin) as clients:
        clients.add_acls([*too_much, *others])
        clients.remove_acls([KafkaAcl("User:bi.iom", "read", "bi.receipt.iom")])
        done = apply(admin)
        assert set(done.removed) == set(too_much)
        assert done.allowed == (KafkaAcl("User:bi.iom", "read", "bi.receipt.iom"),)
        assert set(done.findings) == {
            Finding("foreign", "bi.receipt.iom", "User:*"), Finding("foreign", "bi.", "User:tn.iom")
        }  # fmt: skip
        assert clients.acls() == kafka_acls(REGISTRY) | set(others)


def test_only_an_administrator_applies(admin: KafkaAccess) -> None:
    with pytest.raises(LogError) as caught:
        run(kafka_admin.apply(_shared().access("bi/iom"), REGISTRY, nodes=1))
    assert caught.value.code == "not_permitted"
    with raw(admin) as clients:
        assert not [name for name in clients.describe() if name.startswith("bi.")]


# ---------------------------------------------------------------- what the broker allows


@pytest.fixture
def applied(admin: KafkaAccess) -> KafkaAccess:
    apply(admin)
    with raw(admin) as clients:
        clients.produce([Item(topic, b"k", b"v") for topic in EVERYTHING if topic != "bi.registry.log"])
    return admin


def readable(clients: Clients) -> set[str]:
    found = set()
    # To read includes to see: where the broker shows nothing there is nobody to ask for records.
    for topic in (name for name, one in clients.describe(EVERYTHING).items() if not one.code):
        with contextlib.suppress(LogError):
            if clients.fetch({topic: (0, 1)}, 10, 1 << 20):
                found.add(topic)
    return found


def writable(clients: Clients) -> set[str]:
    found = set()
    for topic in EVERYTHING:
        [answer] = clients.produce([Item(topic, b"x", b"y")])
        if isinstance(answer, LogError):
            assert answer.code == "not_permitted"
        else:
            found.add(topic)
    return found


@pytest.mark.parametrize("agency", AGENCIES)
def test_the_broker_lets_an_agency_do_what_the_catalogue_says_and_no_more(applied: KafkaAccess, agency: str) -> None:
    acls = {acl for acl in kafka_acls(REGISTRY) if acl.principal == kafka_principal(agency)}
    with raw(_shared().access(agency)) as clients:
        read, write = readable(clients), writable(clients)
        assert read == {acl.name for acl in acls if acl.operation == "read"}
        assert write == {acl.name for acl in acls if acl.operation == "write"}
        # Said once more without the catalogue.
        own = {*mailboxes_of(REGISTRY.agency(agency)), grants_topic(agency)}
        assert read == own | {"bi.registry.log"}
        assert not any(topic.startswith(("bi.grants.", "bi.registry.")) for topic in write)
        assert bool(write) == REGISTRY.agency(agency).direct
        assert {name for name, one in clients.describe().items() if not one.code} == read | write


def test_an_agency_makes_no_topics_deletes_none_and_changes_no_rights(applied: KafkaAccess) -> None:
    with raw(_shared().access("bi/iom")) as clients:
        for forbidden in (
            lambda: clients.create([replace(kafka_topics(REGISTRY, 1)["bi.receipt.iom"], name="bi.receipt.mine")]),
            lambda: clients.delete_topic("bi.receipt.iom"),
            lambda: clients.trim("bi.receipt.iom", 1),
            lambda: clients.change_settings({"bi.receipt.iom": {"retention.ms": "1"}}),
            lambda: clients.add_acls([KafkaAcl("User:bi.iom", "read", "bi.receipt.police")]),
            clients.acls,
        ):
            with pytest.raises(LogError):
                forbidden()
    with raw(applied) as clients:
        assert clients.acls() == kafka_acls(REGISTRY)
        assert "bi.receipt.mine" not in clients.describe()
        assert clients.settings(["bi.receipt.iom"])["bi.receipt.iom"]["retention.ms"] == "-1"
        assert clients.first("bi.receipt.iom") == 0


def test_the_gateway_may_what_it_needs_and_does_not_say_which_log_it_is(applied: KafkaAccess) -> None:
    with raw(_shared().access("bi/operator")) as clients:
        assert readable(clients) == set(EVERYTHING) - {"bi.ledger"}
        assert writable(clients) == set(topics_of(REGISTRY))
        with pytest.raises(LogError):
            clients.create([replace(kafka_topics(REGISTRY, 1)["bi.receipt.iom"], name="bi.receipt.mine")])


def test_the_ledgers_keeper_reads_everything_writes_the_ledger_and_removes_nothing(applied: KafkaAccess) -> None:
    with raw(_shared().access("bi/ledger")) as clients:
        assert readable(clients) == set(EVERYTHING)
        assert writable(clients) == {"bi.ledger"}
        for topic in ("bi.receipt.iom", "bi.ledger"):
            with pytest.raises(LogError, match="not_permitted"):
                clients.trim(topic, 0)


def test_an_agency_uses_the_log_itself_with_its_own_certificate(applied: KafkaAccess) -> None:
    async def story() -> None:
        log = await open_kafka(_shared().access("bi/k7t4"))
        try:
            waiting = asyncio.ensure_future(log.poll({"bi.referral.k7t4": 0, "bi.receipt.k7t4": 0}, wait_s=20))
            sender = await open_kafka(_shared().access("bi/iom"))
            [answer] = await sender.append([_entry("bi.referral.k7t4")])
            assert not isinstance(answer, LogError)
            [stored] = await waiting
            assert stored.ident == "bi/iom/1"
            refused = await sender.append([_entry("bi.grants.k7t4"), _entry("bi.receipt.nobody")])
            assert [one.code for one in refused if isinstance(one, LogError)] == ["not_permitted", "topic_unknown"]
            await sender.close()
            for topic, code in (("bi.referral.iom", "not_permitted"), ("bi.receipt.nobody", "topic_unknown")):
                with pytest.raises(LogError, match=code):
                    await log.read(topic, -1)
            with pytest.raises(LogError, match="not_permitted"):
                await log.put_grants("bi.grants.k7t4", {"a|k": b"1"})
            assert await log.get_grants("bi.grants.k7t4", ["k"]) == {"k": b"v"}
        finally:
            await log.close()

    run(story())


def _entry(topic: str) -> Entry:
    return Entry(topic, b"k", "bi/iom/1", b"v")


# ---------------------------------------------------------------- who is let in at all


def issued(folder: Path, authority: Authority, ca: Path, lasts_s: int, ago_s: int) -> KafkaAccess:
    made = authority.agency("bi/iom", time.time() - ago_s, lasts_s)
    folder.mkdir()
    (folder / "certificate.pem").write_bytes(made.certificate)
    (folder / "key.pem").write_bytes(made.key)
    return KafkaAccess(_shared().bootstrap, ca, folder / "certificate.pem", folder / "key.pem")


def test_certificates_that_do_not_count_are_refused_at_once_with_a_clear_code(
    applied: KafkaAccess, tmp_path: Path
) -> None:
    cluster = _shared()
    stranger = Authority.make("another cluster", time.time())
    (tmp_path / "other.pem").write_bytes(stranger.pem)
    good = cluster.access("bi/iom")
    day = 86_400
    cases = {
        "expired": (
            issued(tmp_path / "a", cluster.authority(), good.ca, day, 3 * day),
            "not_permitted",
            "tls.certificate",
        ),
        "unknown": (issued(tmp_path / "b", stranger, good.ca, day, 0), "not_permitted", "tls.certificate"),
        "not our brokers": (replace(good, ca=tmp_path / "other.pem"), "unavailable", "tls.ca"),
        "nobody there": (replace(good, bootstrap=("127.0.0.1:1",)), "unavailable", "bootstrap"),
        "another's key": (replace(good, key=cluster.access("bi/police").key), "not_permitted", "tls.key"),
    }
    for name, (access, code, path) in cases.items():
        before = time.monotonic()
        with pytest.raises(LogError) as caught:
            run(KafkaLog.open(access, domain="bi", random_id=random_id))
        assert (caught.value.code, caught.value.path) == (code, path), name
        assert time.monotonic() - before < 20, name
    # One broker of several that answers is enough.
    run(_opens(replace(good, bootstrap=("127.0.0.1:1", *good.bootstrap))))


async def _opens(access: KafkaAccess) -> None:
    await (await open_kafka(access)).close()
