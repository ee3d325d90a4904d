# SPDX-License-Identifier: Apache-2.0
"""An agency that writes to Kafka itself writes what it likes: no gateway stands in between.

Whatever it writes, the mailbox's owner and the gateway read on, take what is in order, and keep the rest apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from schemas.errors import LogError
from tests.kafka.test_direct import MAILBOX, Office, Sealed, Story, Town, sealed, settle, told
from topics.kafka_clients import IDENT_HEADER, Clients
from topics.kafka_producer import Item
from topics.log import Entry, Log, grants_topic

__all__ = ["told"]


class NotUtf8(str):
    """A header's name as no honest client could send it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe\x80"


def item(entry: Entry, *more: tuple[str, bytes], ident: str | None = None) -> Item:
    headers = (*entry.headers, (IDENT_HEADER, (entry.ident if ident is None else ident).encode()), *more)
    return Item(entry.topic, entry.key, entry.value, headers)


def written_by_hand(town: Town, items: list[Item]) -> None:
    clients = Clients(town.cluster.access("bi/iom"))
    try:
        for answer in clients.produce(items):
            assert not isinstance(answer, LogError)
    finally:
        clients.close_producer()
        clients.close()


def hostile(good: list[Sealed]) -> list[Item]:
    """Good and bad records, turn and turn about; the whole in one batch."""
    entries = [one.entry for one in good]
    forged = entries[0].value.replace(b".", b".A", 1)
    return [
        item(entries[0]),
        Item(MAILBOX, b"k", entries[0].value, ((NotUtf8("xxx"), b"v"),)),
        Item(MAILBOX, b"k", None),  # a tombstone, which means nothing in a mailbox
        item(entries[1]),
        Item(MAILBOX, b"\xff\x00", b"\x00\xff" * 50_000, (("ce_id", b"\xff"), ("ce_id", b"twice"), ("", b""))),
        item(replace(entries[0], value=forged)),
        item(replace(entries[2], headers=(("ce_source", b"bi/police"),))),
        item(entries[2], ident="bi/police/" + "0" * 300),  # whose copies say another's name: it is what was signed
        item(entries[1]),  # again, as after a lost answer
        item(entries[3], ("x" * 300, b"y" * 20_000)),
    ]


@pytest.mark.parametrize("way", ["by itself", "through the gateway"])
def test_a_reader_takes_what_is_in_order_and_keeps_the_rest_apart(way: str, told: Callable[[Story], None]) -> None:
    async def story(town: Town) -> None:
        good = await sealed(town, 4)
        for one in good:
            await town.gateway.door.log.put_grants(grants_topic("bi/k7t4"), one.grants)
        bad = hostile(good)
        written_by_hand(town, bad)
        http = town.world.log(town.gateway, "bi/k7t4", now=time.time)
        log: Log = town.direct("bi/k7t4") if way == "by itself" else http
        async with town.office("bi/k7t4", log) as k7t4:
            await settle(k7t4, until=lambda: len(k7t4.system.arrived) == 4)
            await settle(k7t4, until=lambda: k7t4.box.arrivals.cursor(log.log_id, MAILBOX) == len(bad) - 1)
            assert {f"bi/iom/{one.evt}" for one in k7t4.system.arrived} == {one.entry.ident for one in good}
            assert len(k7t4.system.arrived) == 4
            assert kept_apart(k7t4) == {1, 2, 4, 5, 6}
        # And the gateway, which follows, knows the chain as far as it holds.
        iom = town.world.log(town.gateway, "bi/iom", now=time.time)
        assert (await iom.sent_heads())[MAILBOX].seq == 4
        await iom.close()
        if way == "by itself":
            await http.close()

    told(story)


def kept_apart(office: Office) -> set[int]:
    return {one.log_offset for one in office.box.arrivals.all() if one.state == "quarantined"}
