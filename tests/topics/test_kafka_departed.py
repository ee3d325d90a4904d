# SPDX-License-Identifier: Apache-2.0
"""What an agency that has left the registry leaves on Kafka: its topics stay, its rights go, and its keys to what is
erased or past retention go too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from schemas.errors import LogError
from tests.domain import Domain, Signed
from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.kafka_harness import appended, random_id, run, wipe
from tests.topics.ledger_world import ORIGIN, Registries
from tests.topics.test_kafka_admin import raw
from topics import kafka_admin
from topics.catalogue import mailboxes_of
from topics.kafka_admin import Applied, Finding
from topics.kafka_catalogue import kafka_topic
from topics.kafka_log import KafkaLog
from topics.ledger import Sequencer
from topics.ledger_retention import Due, Trims, due, execute
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Ends, grants_topic

GONE = "bi/r5w2"
ITS_GRANTS, ITS_BOX = grants_topic(GONE), "bi.referral.r5w2"
BOX, GRANTS = "bi.referral.k7t4", grants_topic("bi/k7t4")


@dataclass
class Town:
    """A domain on a real broker, which an agency leaves."""

    folder: Path
    domain: Domain = field(default_factory=Domain)

    def __post_init__(self) -> None:
        self.registries = Registries(self.domain)

    def apply(self) -> Applied:
        return run(kafka_admin.apply(_shared().access("admin"), self.domain.registry, nodes=1))

    def leaves(self) -> None:
        """The agency, from the registry."""
        left = {name: one for name, one in self.domain.registry.agencies.items() if name != GONE}
        self.domain.registry = replace(self.domain.registry.renewed(self.domain.now), agencies=MappingProxyType(left))

    @asynccontextmanager
    async def log(self, who: str) -> AsyncIterator[KafkaLog]:
        log = await KafkaLog.open(_shared().access(who), domain="bi", random_id=random_id, sweeps=False)
        try:
            yield log
        finally:
            await log.close()

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[tuple[KafkaLog, Sequencer]]:
        """Up to date."""
        store = SqliteLedgerStore.open(self.folder / "ledger.db", random_id=lambda: "store")
        view = LedgerView.open(self.folder / "view.db", origin=ORIGIN, store_id=store.store_id)
        try:
            async with self.log("bi/ledger") as log:
                sequencer = Sequencer(
                    log, store, view, self.registries, now_ms=lambda: self.domain.now * 1000, in_thread=False
                )
                await sequencer.start()
                while await sequencer.step():
                    """Until all is in."""
                yield log, sequencer
        finally:
            view.close()
            store.close()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    needs_kafka()
    _shared().start()
    wipe(_shared().access("admin"))
    with raw(_shared().access("admin")) as clients:
        clients.remove_acls(sorted(clients.acls(), key=repr))
    town = Town(tmp_path)
    town.apply()
    return town


async def code_of(call: Awaitable[object]) -> tuple[str, str | None]:
    with pytest.raises(LogError) as caught:
        await call
    return caught.value.code, caught.value.path


def test_topics_of_who_has_left_stay_and_only_the_gateway_and_the_ledger_use_them(town: Town) -> None:
    topics = (*mailboxes_of(town.domain.registry.agency(GONE)), ITS_GRANTS)
    one = town.domain.record(to=GONE)

    async def sent() -> None:
        async with town.log("bi/operator") as gateway, town.ledger():
            await gateway.put_grants(ITS_GRANTS, one.grant_puts())
            appended(await gateway.append([one.entry]))
        async with town.ledger() as (_, sequencer):
            assert sequencer.view.topic(ITS_BOX).next == 1

    async def left() -> None:
        async with town.log("bi/operator") as gateway:
            assert await gateway.grant_keys(one.manifest.ident) == {ITS_GRANTS: list(one.grant_puts())}
            assert await gateway.grant_keys("bi/iom/nobody") == {}
            assert await code_of(gateway.read(ITS_BOX, -1)) == ("not_permitted", ITS_BOX)
            assert (await code_of(KafkaLog.open(_shared().access(GONE), domain="bi", random_id=random_id)))[0] == (
                "not_permitted"
            )
            async with town.ledger() as (log, sequencer):
                assert await log.grants_left({one.manifest.ident}) == {one.manifest.ident}
                assert (await code_of(log.delete_grants(ITS_GRANTS, list(one.grant_puts()))))[0] == "not_permitted"
                assert not sequencer.work.trouble

    run(sent())
    town.leaves()
    done = town.apply()
    assert (done.created, done.findings, done.departed) == ((), (), tuple(sorted(topics)))
    assert not town.apply().changed
    run(left())

    async def unknown() -> None:
        async with town.log("bi/operator") as gateway:
            assert await code_of(gateway.grant_keys(one.manifest.ident)) == ("unavailable", ITS_GRANTS)

    with raw(_shared().access("admin")) as clients:
        clients.create([replace(kafka_topic(ITS_BOX, 1), name="bi.something.else")])
        run(KafkaLog.renew_identity(_shared().access("admin"), domain="bi", random_id=random_id))
        assert town.apply().departed == tuple(sorted(topics)), "another program's is not ours"
        clients.delete_topic(ITS_GRANTS)
    done = town.apply()
    assert (done.created, done.findings) == ((), (Finding("replaced", ITS_GRANTS),)), "that it is gone, is said"
    run(unknown())


def test_retention_takes_the_keys_to_what_it_removes_whoever_has_them_and_no_others(town: Town) -> None:
    sent = [town.domain.record() for _ in range(3)]
    passed, old, young = sent

    def disclosed(one: Signed) -> str:
        return f"{one.manifest.ident}|a-key-that-no-registry-names"

    async def answered(gateway: KafkaLog, one: Signed) -> None:
        receipt = town.domain.record(iss="bi/k7t4", to="bi/iom", flow="receipt", kind="control", ref=one.manifest.evt)
        appended(await gateway.append([receipt.entry]))

    async def found(log: KafkaLog, sequencer: Sequencer) -> list[Due]:
        keep = {"referral": 0, "receipt": 10**9}
        return await due(log, sequencer.view, now_ms=(town.domain.now + 10**8) * 1000, keep_s=keep)

    class TrimsOnly:
        """As it was before grants went too."""

        def __init__(self, admin: KafkaLog) -> None:
            self.trim = admin.trim

    class DiesThen(TrimsOnly):
        """Between the grants and the records."""

        def __init__(self, admin: KafkaLog) -> None:
            self.remove_grants = admin.remove_grants

        async def trim(self, topic: str, before: int) -> int:
            raise LogError("unavailable")

    async def first() -> None:
        async with town.log("bi/operator") as gateway:
            for one in sent:
                await gateway.put_grants(ITS_GRANTS, {disclosed(one): b"{}"})
                await gateway.put_grants(GRANTS, one.grant_puts())
                appended(await gateway.append([one.entry]))
            await answered(gateway, passed)

    async def then() -> None:
        idents = {one.manifest.ident for one in sent}
        async with town.log("bi/operator") as gateway, town.log("admin") as admin:

            async def removed(trims: Trims) -> dict[str, int]:
                async with town.ledger() as (log, sequencer):
                    return await execute(sequencer, log, trims, await found(log, sequencer))

            async def kept() -> list[set[str]]:
                own = await gateway.get_grants(GRANTS, [key for one in sent for key in one.grant_puts()])
                others = await gateway.get_grants(ITS_GRANTS, [disclosed(one) for one in sent])
                return [{key.partition("|")[0] for key in keys} for keys in (own, others)]

            assert await removed(TrimsOnly(admin)) == {BOX: 1}
            assert await kept() == [idents, idents]
            await answered(gateway, old)
            assert (await code_of(removed(DiesThen(admin))))[0] == "unavailable"
            assert await admin.ends(BOX) == Ends(1, 3)
            assert await kept() == [{young.manifest.ident}, {young.manifest.ident}], "those left behind before, too"
            assert await removed(admin) == {BOX: 2}
            assert await removed(admin) == {}
            assert await kept() == [{young.manifest.ident}, {young.manifest.ident}]

    run(first())
    town.leaves()
    town.apply()
    run(then())
