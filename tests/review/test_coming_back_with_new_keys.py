# SPDX-License-Identifier: Apache-2.0
"""A laptop is stolen: its keys are revoked, new ones enrolled, the mailbox comes from yesterday's backup.

What was sent since the backup was signed with the key that is revoked now. It stands in the log all the same, under
numbers that must not be used again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.keystore import Keys
from adapters.mailbox_rows import Outgoing
from schemas.envelope import chain_hash, parse_manifest, parse_record
from schemas.errors import OrderError, RegistryError
from schemas.keys import HYBRID, SealingKey, SigningKey
from schemas.registry import Key
from tests.agencies import Agencies, Gate, referral
from tests.domain import Member
from topics.http_log import SentHead, SentManifest
from topics.log import Entry

SHELTER, IOM = "bi/k7t4", "bi/iom"
TOPIC = "bi.referral.k7t4"


@dataclass
class Source:
    """What a gateway answers under /v1/sent, from the log."""

    town: Agencies

    async def sent_heads(self) -> dict[str, SentHead]:
        heads = {}
        for topic in await self.town.log.topics():
            for one in [] if ".grants." in topic else await self.sent(topic, 0):
                heads[topic] = SentHead(one.seq, chain_hash(one.line1), one.offset)
        return heads

    async def sent(self, topic: str, after: int) -> Sequence[SentManifest]:
        mine = []
        for stored in await self.town.log.read(topic, -1):
            manifest = parse_record(stored.value).manifest
            if manifest.iss == IOM and manifest.seq > after:
                mine.append(SentManifest(manifest.seq, stored.offset, stored.at_ms, stored.value.partition(b"\n")[0]))
        return sorted(mine, key=lambda one: one.seq)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def ask(town: Agencies, count: int) -> list[str]:
    return [town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral())) for _ in range(count)]


def stolen(town: Agencies, copy: Path) -> None:
    """Old keys revoked, new ones enrolled, the mailbox put back from the copy."""
    town.wait(3600)
    old = town.domain.members[IOM]
    town.domain.revoke(IOM, old.sig.kid, int(town.now))
    town.domain.revoke(IOM, old.seal.kid, int(town.now))
    sig, seal = SigningKey.generate(town.domain.random), SealingKey.generate(town.domain.random)
    now, later = int(town.now), int(town.now) + 86_400 * 365
    fresh = (
        Key(sig.kid, "sig", "ES256", sig.public.public, now, later),
        Key(seal.kid, "seal", HYBRID, seal.public.public, now, later),
    )
    agency = town.domain.registry.agency(IOM)
    town.domain.registry = town.domain.registry.with_agency(replace(agency, keys=(*agency.keys, *fresh)), now)
    town.domain.members[IOM] = Member(IOM, sig, seal)
    assert town.keys(IOM) == Keys(IOM, sig, {seal.kid: seal})
    town[IOM].box.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{town.path(IOM)}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, town.path(IOM))
    town.open(IOM)


def backup(town: Agencies) -> Path:
    town[IOM].box.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(shutil.copy(town.path(IOM), town.folder / "backup.db"))


def test_numbers_that_the_old_key_has_used_are_not_used_again(town: Agencies) -> None:
    ask(town, 1)
    town.settle()
    copy = backup(town)
    ask(town, 3)
    town.settle()
    stolen(town, copy)
    assert town.run(town[IOM].runner.reconcile(Source(town))) == 3
    [evt] = ask(town, 1)
    town.settle()
    sent = [parse_record(stored.value).manifest for stored in town.run(town.log.read(TOPIC, -1))]
    assert [manifest.seq for manifest in sent] == [1, 2, 3, 4, 5]
    assert sent[-1].evt == evt
    assert town[IOM].outgoing(evt).state == "delivered"
    assert town[SHELTER].inbox("quarantined") == []


def test_a_manifest_that_no_key_of_ours_has_signed_teaches_nothing(town: Agencies) -> None:
    ask(town, 1)
    town.settle()
    copy = backup(town)
    stolen(town, copy)
    forged = town.domain.record(IOM, SHELTER, signer=SigningKey.generate(town.domain.random), seq=2, prev="A" * 43)
    town.put(forged)
    assert town.run(town[IOM].runner.reconcile(Source(town))) == 0
    assert town[IOM].box.chains.head(TOPIC)[0] == 1


# -- signed before the key was revoked, and not in the log yet ---------------------------------------------------------


def counting(town: Agencies) -> Gate:
    """A gateway that takes nothing that a revoked key has signed, as gateways do."""

    def refuses(entry: Entry) -> RegistryError | None:
        keys = town.domain.registry.agency(entry.ident.rpartition("/")[0]).keys
        revoked = {key.kid for key in keys if key.revoked is not None}
        return RegistryError("key_revoked") if parse_manifest(entry.value.partition(b"\n")[0])[0] in revoked else None

    return Gate(town.log, refuses)


def rotated(town: Agencies, agency: str) -> str:
    """Its signing key is revoked; it goes on at once with a new one. Returns the new one's kid."""
    town.wait(60)
    now, old = int(town.now), town.domain.members[agency]
    town.domain.revoke(agency, old.sig.kid, now)
    sig = SigningKey.generate(town.domain.random)
    owner = town.domain.registry.agency(agency)
    key = Key(sig.kid, "sig", "ES256", sig.public.public, now, now + 86_400 * 365)
    town.domain.registry = town.domain.registry.with_agency(replace(owner, keys=(*owner.keys, key)), now)
    town.domain.members[agency] = replace(old, sig=sig)
    town.open(agency)
    town[agency].runner.log = counting(town)
    return sig.kid


def test_a_receipt_that_had_not_left_when_its_key_was_revoked_goes_with_the_new_one(town: Agencies) -> None:
    """Found by the simulator: it was refused for good, and its sender never learnt that the record had arrived."""
    [evt] = ask(town, 1)
    town[IOM].send()
    town[SHELTER].receive()
    town[SHELTER].runner.sender.sign_waiting()
    fresh = rotated(town, SHELTER)
    town.settle()
    [receipt] = town[SHELTER].sent("receipt.delivered")
    assert (receipt.state, receipt.seq, receipt.voids) == ("promised", 2, (1,))
    assert receipt.l1 is not None
    assert parse_manifest(receipt.l1)[0] == fresh
    assert town[IOM].outgoing(evt).state == "delivered"


def test_a_referral_that_had_not_left_when_its_key_was_revoked_is_told_to_its_author(town: Agencies) -> None:
    [evt] = ask(town, 1)
    town[IOM].runner.sender.sign_waiting()
    rotated(town, IOM)
    town.settle()
    assert (town[IOM].outgoing(evt).state, town[IOM].outgoing(evt).code) == ("refused", "key_revoked")
    assert [item.type for item in town[SHELTER].inbox()] == ["chain.voided"]
    [again] = ask(town, 1)
    town.settle()
    assert town[IOM].outgoing(again).state == "delivered"


def test_a_receipt_of_which_the_log_says_that_its_newest_key_is_revoked_is_not_signed_for_ever(town: Agencies) -> None:
    ask(town, 1)
    town[IOM].send()
    town[SHELTER].receive()
    town[SHELTER].runner.sender.sign_waiting()
    rotated(town, SHELTER)
    town[SHELTER].runner.log = Gate(town.log, refuses=lambda _entry: RegistryError("key_revoked"))
    for _ in range(3):
        town[SHELTER].send()
    [receipt] = town[SHELTER].sent("receipt.delivered")
    assert (receipt.state, receipt.code) == ("refused", "key_revoked")


# -- a number that was given up although the log has it ----------------------------------------------------------------


def strict(town: Agencies) -> Gate:
    """A gateway that refuses a manifest which voids a number that is in the log, as gateways do."""

    def refuses(entry: Entry) -> OrderError | None:
        voids = parse_manifest(entry.value.partition(b"\n")[0])[3].voids
        used = {
            parse_record(stored.value).manifest.seq
            for stored in town.log._reader.read({TOPIC: -1}, 99, 1 << 20, say_topic=False)
        }
        for place, seq in enumerate(voids):
            if seq in used:
                return OrderError("chain_broken", f"L1.voids[{place}]")
        return None

    return Gate(town.log, refuses)


def given_up_though_logged(town: Agencies, count: int) -> list[Outgoing]:
    """Promised, but we were told otherwise: a gateway's mistake, or another program's at a copy of this mailbox."""
    lost = ask(town, count)
    iom = town[IOM]
    iom.send()
    for evt in lost:
        iom.box.change("UPDATE outgoing SET state = 'signed' WHERE evt = ?", evt)
        iom.box.refuse(evt, "not_permitted", None, int(town.now))
    return [iom.outgoing(evt) for evt in lost]


@pytest.mark.parametrize("count", [1, 3])
def test_a_number_given_up_by_mistake_does_not_end_the_chain_for_ever(town: Agencies, count: int) -> None:
    given_up_though_logged(town, count)
    iom = town[IOM]
    iom.runner.log = strict(town)
    for _ in range(count + 2):
        iom.send()
        town.wait(1000)
    [evt] = ask(town, 1)
    for _ in range(3):
        iom.send()
        town.wait(1000)
    town.settle()
    assert iom.outgoing(evt).state == "delivered"
    assert iom.box.chains.unnamed_voids(TOPIC) == ()


def test_the_record_that_named_such_a_number_is_not_given_up_for_it(town: Agencies) -> None:
    given_up_though_logged(town, 2)
    iom = town[IOM]
    iom.runner.log = strict(town)
    [evt] = ask(town, 1)
    for _ in range(4):
        iom.send()
        town.wait(1000)
    town.settle()
    assert iom.outgoing(evt).state == "delivered"
    assert town[SHELTER].system.arrived[-1].evt == evt
