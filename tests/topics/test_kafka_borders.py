# SPDX-License-Identifier: Apache-2.0
"""What waits for a bridge on Kafka: who may touch it, where it may stand, and that it stays when the log is moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import LogError, RegistryError
from schemas.registry import Registry
from tests.borders import NAME, Countries
from tests.domain import NOW
from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.kafka_harness import appended, random_id, run, wipe
from tests.topics.test_kafka_admin import raw
from topics import kafka_admin, kafka_move
from topics.borders import border, bordered
from topics.catalogue import outgoing_of, topics_of
from topics.home_check import NEWEST
from topics.kafka_access import KafkaAccess
from topics.kafka_admin import Finding
from topics.kafka_catalogue import hosted_for, kafka_acls, kafka_topics
from topics.kafka_log import KafkaLog
from topics.kafka_producer import Item
from topics.log import grants_topic
from topics.sqlite_log import SqliteLog
from umuhuza.kafka_command import read_members

COUNTRIES = Countries()
WAITS, ITS_GRANTS = "tn.bilateral.inlctp", "tn.grants.inlctp"


def with_border() -> Registry:
    """Burundi's, with its border to Tunisia; one of its focal points writes to Kafka itself."""
    ours = COUNTRIES.published(COUNTRIES.bi)
    registry = bordered(ours.registry, [border(ours, COUNTRIES.published(COUNTRIES.tn))])
    agencies = {**registry.agencies, "bi/ccsprtp": replace(registry.agency("bi/ccsprtp"), direct=True)}
    return replace(registry, agencies=agencies)


REGISTRY = with_border()


def rights(name: str) -> set[tuple[str, str]]:
    return {(acl.principal, acl.operation) for acl in kafka_acls(REGISTRY) if acl.name == name}


def test_what_goes_abroad_is_the_gateways_alone_and_the_ledger_reads_it() -> None:
    assert {WAITS, ITS_GRANTS} <= hosted_for(REGISTRY, "tn") <= kafka_topics(REGISTRY, 1).keys()
    for name in hosted_for(REGISTRY, "tn"):
        assert rights(name) == {
            ("User:bi.operator", "read"),
            ("User:bi.operator", "write"),
            ("User:bi.ledger", "read"),
        }
    mine = [acl for acl in kafka_acls(REGISTRY) if acl.principal == "User:bi.ccsprtp"]
    assert any(acl.operation == "write" for acl in mine), "at home it writes by itself"


def test_nobody_abroad_that_no_agreement_names_has_a_topic() -> None:
    assert not [name for name in kafka_topics(REGISTRY, 1) if name.endswith((".m2p9", ".iom")) and name[:3] == "tn."]


def test_an_operator_names_the_folder_of_neighbours_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_bytes(COUNTRIES.bi.registry_file)
    folder = COUNTRIES.neighbours_of_burundi(tmp_path / "neighbours")
    root = COUNTRIES.bi.pin.text
    assert outgoing_of(read_members(tmp_path / "registry.json", root)) == ()
    assert WAITS in outgoing_of(read_members(tmp_path / "registry.json", root, folder))
    (folder / "tn" / NEWEST).write_bytes(b"{}")
    with pytest.raises(RegistryError) as caught:
        read_members(tmp_path / "registry.json", root, folder)
    assert caught.value.path == "neighbours"


@pytest.fixture
def admin() -> KafkaAccess:
    """A broker without topics or rights of either country's."""
    needs_kafka()
    cluster = _shared()
    cluster.start()
    access = cluster.access("admin")
    for domain in ("bi", "tn"):
        wipe(access, domain)
    with raw(access) as clients:
        clients.remove_acls(sorted(clients.acls(), key=repr))
    return access


def test_the_brokers_keep_an_agency_from_what_goes_abroad_although_it_writes_to_them_itself(admin: KafkaAccess) -> None:
    assert run(kafka_admin.apply(admin, REGISTRY, nodes=1)).findings == ()
    with raw(_shared().access("bi/operator")) as gateway:
        assert not isinstance(gateway.produce([Item(WAITS, b"k", b"v")])[0], LogError)
    with raw(_shared().access("bi/ccsprtp")) as agency:
        assert agency.describe([WAITS])[WAITS].code == "not_permitted"
        for topic in (WAITS, ITS_GRANTS):
            [answer] = agency.produce([Item(topic, b"k", b"v")])
            assert isinstance(answer, LogError)
            assert answer.code == "not_permitted"


def test_a_neighbour_whose_log_is_on_the_same_brokers_is_named_and_loses_nothing(admin: KafkaAccess) -> None:
    """Its mailboxes have the names of what waits for it here: our gateway would read them and write to them."""
    run(kafka_admin.apply(admin, COUNTRIES.tn.registry, nodes=1))
    done = run(kafka_admin.apply(admin, REGISTRY, nodes=1))
    assert done.findings == (Finding("shared", "tn.registry.log"),)
    with raw(admin) as clients:
        ours = {acl.name for acl in clients.acls() if acl.principal.startswith("User:bi.")}
    assert ours
    assert not [name for name in ours if name.startswith("tn.")]
    with raw(_shared().access("bi/operator")) as gateway:
        assert gateway.describe([WAITS])[WAITS].code == "not_permitted"


def test_what_waits_for_a_bridge_is_moved_with_the_log_and_named_anew(admin: KafkaAccess, tmp_path: Path) -> None:
    run(kafka_admin.apply(admin, REGISTRY, nodes=1))
    sent = [COUNTRIES.bi.record("bi/ccsprtp", "tn/inlctp", "bilateral", agreement=NAME) for _ in range(2)]
    file = tmp_path / "log.db"

    async def written() -> None:
        log = SqliteLog.open(
            str(file), topics=topics_of(REGISTRY), clock_ms=lambda: NOW * 1000, random_id=random_id, threads=False
        )
        for one in sent:
            await log.put_grants(ITS_GRANTS, one.grant_puts())
            appended(await log.append([one.entry]))
        await log.close()

    async def reread() -> tuple[list[bytes], int, list[str]]:
        log = await KafkaLog.open(_shared().access("bi/operator"), domain="bi", random_id=random_id, sweeps=False)
        try:
            found = await log.read(WAITS, -1)
            grants = await log.get_grants(grants_topic("tn/inlctp"), [key for one in sent for key in one.grant_puts()])
            return [one.value for one in found], len(grants), await log.topics()
        finally:
            await log.close()

    run(written())
    with kafka_move.opened(file, alone=True) as store:
        moved = kafka_move.move(admin, store, dry_run=False, progress=lambda _there, _in_all: None)
    assert (moved.domain, moved.entries, moved.appended, moved.obstacles) == ("bi", 2, 2, ())
    values, grants, topics = run(reread())
    assert (values, grants) == ([one.value for one in sent], 2)
    assert WAITS in topics
    # Deleted and made again by somebody: refused, until the operator says that it is meant.
    with raw(admin) as clients:
        clients.delete_topic(WAITS)
    run(kafka_admin.apply(admin, REGISTRY, nodes=1))
    with pytest.raises(LogError) as caught:
        run(reread())
    assert (caught.value.code, caught.value.path) == ("unavailable", WAITS)
    run(KafkaLog.renew_identity(admin, domain="bi", random_id=random_id))
    assert run(reread())[:2] == ([], 2)
