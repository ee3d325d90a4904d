# SPDX-License-Identifier: Apache-2.0
"""The sequencer over the embedded log: what is logged of whom, in which order, and under which registry."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from schemas.envelope import Acts
from schemas.errors import LogError
from schemas.keys import SigningKey, b64url, signature_twin, unb64url
from schemas.notes import verify_checkpoint
from schemas.registry import Key
from tests.domain import NOW, YEAR, Domain, Signed, with_value
from tests.topics.ledger_world import SIGNERS, World, entries_in, shown
from topics.durable_file import replace_file
from topics.ledger import HOLD_MS
from topics.ledger_registries import KeptRegistries
from topics.log import Entry
from topics.proofs import consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion

TO_IOM, TO_SHELTER = "bi.case.iom", "bi.referral.k7t4"


def twin(signed: Signed) -> Entry:
    """The same signed bytes under the other signature that verifies; the log takes it for another record."""
    line1, _, body = signed.value.partition(b"\n")
    text, _, signature = line1.decode("ascii").rpartition(".")
    other = f"{text}.{b64url(signature_twin(unb64url(signature)))}".encode("ascii")
    return replace(with_value(signed.entry, other + b"\n" + body), ident=signed.entry.ident + "twin")


def test_every_record_has_its_entry_in_order_and_the_registry_stands_behind_what_was_there(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        signed = [domain.record() for _ in range(3)]
        await world.put(*signed)
        sequencer = world.sequencer()
        assert shown(await world.sequenced(sequencer)) == [
            f"event {TO_SHELTER} 0",
            f"event {TO_SHELTER} 1",
            f"event {TO_SHELTER} 2",
            f"registry {domain.registry.version}",
        ]
        await world.put(domain.record(iss="bi/police", to="bi/iom", flow="case", kind="update"), domain.record())
        entries = await world.sequenced(sequencer)
        assert sorted(shown(entries[4:])) == [f"event {TO_IOM} 0", f"event {TO_SHELTER} 3"]
        assert [one.previous for one in entries if one.topic == TO_SHELTER] == [None, 0, 1, 2]
        for entry, one in zip(entries[:3], signed, strict=True):
            assert entry.value_sha256 == hashlib.sha256(one.value).digest()
        assert entries[3].value_sha256 == hashlib.sha256(domain.registry_file).digest()

    world.run(work)


def test_what_does_not_count_is_logged_with_its_code(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        good = domain.record()
        altered = with_value(domain.record().entry, domain.record().value[:-1] + b"A")
        forged = domain.record(signer=domain.members["bi/police"].sig)
        noise = Entry(TO_SHELTER, b"t", "noise", b"no record at all")
        elsewhere = replace(domain.record(to="bi/r5w2").entry, topic=TO_SHELTER)
        again = domain.record(evt=good.manifest.evt, seq=99, chain=False)
        conflict = replace(again.entry, ident="another for the log")
        await world.put(good, altered, forged, noise, elsewhere, twin(good), conflict)
        entries = await world.sequenced()
        assert shown(entries)[:7] == [
            f"event {TO_SHELTER} 0",
            f"reject {TO_SHELTER} 1 {entries[1].detail}",
            f"reject {TO_SHELTER} 2 issuer_mismatch",
            f"reject {TO_SHELTER} 3 record_malformed",
            f"reject {TO_SHELTER} 4 topic_mismatch",
            f"duplicate {TO_SHELTER} 5",
            f"reject {TO_SHELTER} 6 evt_conflict",
        ]
        assert entries[1].detail in ("record_malformed", "part_digest_mismatch")
        assert entries[3].l1_sha256 is None
        assert entries[5].l1_sha256 == entries[0].l1_sha256
        assert entries[5].value_sha256 != entries[0].value_sha256

    world.run(work)


def test_an_erasure_is_its_own_kind(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        target = domain.record()
        erase = domain.record(flow="rights", kind="control", acts=Acts(erase=(target.manifest.ident,)))
        await world.put(target, erase)
        assert sorted(one.kind for one in await world.sequenced()) == ["erasure", "event", "registry"]

    world.run(work)


def test_a_repeat_is_recognised_when_its_first_copy_is_past_retention_and_the_view_was_lost(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        first = world.domain.record()
        await world.put(first, world.domain.record())
        await world.sequenced()
        await world.log.trim(TO_SHELTER, 1)
        (tmp_path / "view.db").unlink()
        await world.put(twin(first))
        assert shown(await world.sequenced())[-1] == f"duplicate {TO_SHELTER} 2"

    world.run(work)


def test_the_keys_of_what_retention_removed_go_with_it_and_no_others(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        old, young = world.domain.record(), world.domain.record()
        await world.put(old, young)
        for one in (old, young):
            await world.log.put_grants("bi.grants.k7t4", one.grant_puts())
        disclosed = f"{old.manifest.ident}|another-holders"
        await world.log.put_grants("bi.grants.r5w2", {disclosed: b"{}"})
        await world.log.trim(TO_SHELTER, 1)
        both = {old.manifest.ident, young.manifest.ident}
        assert await world.log.grants_left(both) == {young.manifest.ident}

    world.run(work)


def test_a_ledger_without_its_last_registry_file_says_which_file_to_bring(tmp_path: Path) -> None:
    """One on another machine, that takes over: `registries/` was not copied."""
    world = World(tmp_path)

    async def work() -> None:
        await world.put(world.domain.record())
        last = [one for one in await world.sequenced() if one.kind == "registry"][-1]
        assert last.value_sha256 is not None
        world.registries.files.clear()
        world.domain.registry = world.domain.registry.renewed(world.domain.now)
        await world.put(world.domain.record())
        with pytest.raises(LogError) as caught:
            await world.sequenced(world.sequencer(view="again.db"))
        told = (caught.value.code, caught.value.path, caught.value.expected)
        assert told == ("unavailable", "registry", f"registries/{last.value_sha256.hex()}.json")

    world.run(work)


def test_what_was_removed_before_it_was_sequenced_is_a_gap(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(world.domain.record(), world.domain.record(), world.domain.record())
        await world.log.trim(TO_SHELTER, 2)
        sequencer = world.sequencer()
        assert shown(await world.sequenced(sequencer))[:2] == [f"gap {TO_SHELTER} 0 1", f"event {TO_SHELTER} 2"]
        assert sequencer.work.gaps == 2

    world.run(work)


def test_what_was_sent_before_a_key_was_revoked_stands_before_the_revocation_and_the_thief_behind(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        await world.put(domain.record())
        domain.now += 60
        domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid)
        entries = await world.sequenced(sequencer)
        assert shown(entries[1:]) == [f"event {TO_SHELTER} 0", f"registry {domain.registry.version}"]
        # The log's clock still says a time before: somebody who owns the log gives the thief that time.
        await world.put(domain.record())
        assert shown(await world.sequenced(sequencer))[-1] == f"reject {TO_SHELTER} 1 key_revoked"

    world.run(work)


def test_what_was_sent_after_the_revocation_and_before_the_ledger_saw_it_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid, at=NOW + 10)
        world.at_ms += 20_000
        await world.put(domain.record())
        entries = await world.sequenced(sequencer)
        assert shown(entries[1:]) == [f"reject {TO_SHELTER} 0 key_revoked", f"registry {domain.registry.version}"]

    world.run(work)


def with_new_key(domain: Domain) -> SigningKey:
    """IOM makes another signing key, which the next version names."""
    key = SigningKey.generate(domain.random)
    agency = domain.registry.agency("bi/iom")
    made = Key(key.kid, "sig", "ES256", key.public.public, NOW - 1, NOW + YEAR)
    domain.registry = domain.registry.with_agency(replace(agency, keys=(*agency.keys, made)), NOW)
    return key


def test_a_record_of_a_key_that_only_the_next_version_names_stands_behind_that_version(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        await world.put(domain.record())
        key = with_new_key(domain)
        await world.put(domain.record(signer=key))
        entries = await world.sequenced(sequencer)
        assert shown(entries[1:]) == [
            f"event {TO_SHELTER} 0",
            f"registry {domain.registry.version}",
            f"event {TO_SHELTER} 1",
        ]

    world.run(work)


def test_a_record_of_a_newer_registry_is_waited_for_and_a_version_that_never_comes_holds_nobody_up(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain = world.domain
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        old = domain.registry
        key = with_new_key(domain)
        await world.put(domain.record(signer=key), domain.record(flow="rights", kind="control"))
        domain.registry, newer = old, domain.registry
        assert shown(await world.sequenced(sequencer))[1:] == ["event bi.rights.k7t4 0"], "others are not held up"
        assert sequencer.work.held == 1
        domain.registry = newer
        assert shown(await world.sequenced(sequencer))[2:] == [
            f"registry {newer.version}",
            f"event {TO_SHELTER} 0",
        ]
        unknown = SigningKey.generate(domain.random)
        domain.registry = replace(newer, version=newer.version + 1)
        liar = domain.record(signer=unknown)
        domain.registry = newer
        await world.put(liar)
        assert len(await world.sequenced(sequencer)) == 4
        world.at_ms += HOLD_MS + 1
        assert shown(await world.sequenced(sequencer))[-1] == f"reject {TO_SHELTER} 1 key_unknown"

    world.run(work)


def test_a_clock_that_is_a_year_behind_holds_no_mailbox_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)

    async def work() -> None:
        domain, log_ms = world.domain, world.at_ms
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        known = domain.registry
        domain.registry = replace(known, version=known.version + 9)
        liar = domain.record(signer=SigningKey.generate(domain.random))
        domain.registry = known
        await world.put(liar, domain.record())
        world.at_ms = log_ms - 365 * 86_400_000
        assert len(await world.sequenced(sequencer)) == 1
        monkeypatch.setattr("topics.ledger.HOLD_MS", 0)
        assert shown(await world.sequenced(sequencer))[1:] == [
            f"reject {TO_SHELTER} 0 key_unknown",
            f"event {TO_SHELTER} 1",
        ]

    world.run(work)


def test_signed_bytes_of_a_good_record_that_stand_elsewhere_teach_a_new_view_nothing(tmp_path: Path) -> None:
    """Before a signature that is none, and in another mailbox of the same owner: the ledger goes on without them."""
    world = World(tmp_path)

    async def work() -> None:
        good = world.domain.record()
        signed, _, body = good.value.partition(b"\n")
        broken = with_value(good.entry, signed.rpartition(b".")[0] + b".AAAA\n" + body)
        moved = replace(good.entry, topic="bi.case.k7t4", ident="moved")
        await world.put(moved, replace(broken, ident="broken"), good)
        await world.put(
            world.domain.record(iss="bi/k7t4", to="bi/iom", flow="receipt", kind="control", ref=good.manifest.evt)
        )
        await world.sequenced()
        again = world.sequencer(view="again.db")
        await world.sequenced(again)
        assert again.view.topic(TO_SHELTER).read_to == 1
        assert again.view.topic("bi.case.k7t4").read_to == -1

    world.run(work)


def test_of_two_processes_in_one_folder_the_one_that_has_read_less_signs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(world.domain.record())
        behind, ahead = world.sequencer(), world.sequencer(view="ahead.db")
        await world.sequenced(behind)
        first, second = world.checkpoints(), world.checkpoints()
        first.publish(behind.view)
        await world.put(world.domain.record())
        await world.sequenced(ahead)
        newest = second.publish(ahead.view)
        assert newest is not None
        assert first.publish(behind.view) is None
        assert (tmp_path / "checkpoint").read_bytes() == newest.dumps()
        with pytest.raises(LogError, match="log_inconsistent"):
            first.publish(behind.view)  # it had a round to catch up in
        await world.sequenced(behind)
        assert first.publish(behind.view) is None, "that tree is signed already"

    world.run(work)


def test_an_older_registry_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        old = world.domain.registry
        with_new_key(world.domain)
        sequencer = world.sequencer()
        before = await world.sequenced(sequencer)
        world.domain.registry = old
        await world.put(world.domain.record())
        assert shown(await world.sequenced(sequencer))[len(before) :] == [f"event {TO_SHELTER} 0"]

    world.run(work)


def test_a_log_that_ends_before_the_ledger_stops_it(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(world.domain.record(), world.domain.record())
        await world.sequenced()
        await world.log.close()
        (tmp_path / "log.db").unlink()
        world.log = world.open_log()
        await world.put(world.domain.record())
        with pytest.raises(LogError) as caught:
            await world.sequencer().start()
        assert (caught.value.code, caught.value.path) == ("log_inconsistent", TO_SHELTER)

    world.run(work)


def test_proofs_from_the_view_hold_under_the_signed_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        sequencer = world.sequencer()
        checkpoints = world.checkpoints()
        await world.put(*[world.domain.record() for _ in range(5)])
        await world.sequenced(sequencer)
        first = checkpoints.publish(sequencer.view)
        assert first is not None
        assert checkpoints.publish(sequencer.view) is None, "nothing new to sign"
        await world.put(world.domain.record())
        await world.sequenced(sequencer)
        second = checkpoints.publish(sequencer.view)
        assert second is not None
        view = sequencer.view
        signed = verify_checkpoint((tmp_path / "checkpoint").read_bytes(), [one.public for one in SIGNERS])
        assert len(signed.signed) == 2
        old, new = first.checkpoint, signed.checkpoint
        proof = consistency_proof(view.nodes(new.size), old.size, new.size)
        assert verify_consistency(old.size, old.root, new.size, new.root, proof)
        for index in range(new.size):
            path = inclusion_proof(view.nodes(new.size), index, new.size)
            assert verify_inclusion(leaf_hash(view.entry(index)), index, new.size, path, new.root)

    world.run(work)


def test_nothing_is_signed_below_or_beside_what_was_signed_or_cosigned(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(world.domain.record(), world.domain.record())
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        world.checkpoints().publish(sequencer.view)
        (tmp_path / "checkpoint").rename(tmp_path / "cosigned")
        for name in ("ledger.db", "view.db"):
            (tmp_path / name).unlink()
        # The store is lost and made anew, in another order: the log has the same records.
        await world.log.trim(TO_SHELTER, 1)
        for _ in range(2):
            again = world.sequencer()
            await again.start()
            with pytest.raises(LogError):
                world.checkpoints().check(again.view)  # before anything is appended
            await world.sequenced(again)
            with pytest.raises(LogError) as caught:
                world.checkpoints().publish(again.view)
            assert (caught.value.code, caught.value.path) == ("log_inconsistent", "cosigned")
            assert not (tmp_path / "checkpoint").exists()
            await world.put(*[world.domain.record() for _ in range(5)])

    world.run(work)


def test_a_view_made_again_is_the_same(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        for _ in range(3):
            await world.put(*[world.domain.record() for _ in range(100)])
            first = world.sequencer()
            await world.sequenced(first)
        other = world.sequencer(view="other.db")
        await other.start()
        assert entries_in(other.view) == entries_in(first.view)
        await other.step()
        assert other.view.topics == first.view.topics

    world.run(work)


def test_a_view_whose_tiles_were_changed_on_the_disk_is_made_again(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(*[world.domain.record() for _ in range(5)])
        first = world.sequencer()
        entries = await world.sequenced(first)
        first.view.close()
        connection = apsw.Connection(str(tmp_path / "view.db"))
        connection.execute("UPDATE tile SET data = zeroblob(length(data))")
        connection.close()
        assert await world.sequenced() == entries  # their root is compared there

    world.run(work)


def test_registry_files_are_kept_by_their_hash_and_a_new_one_is_seen_at_once(tmp_path: Path) -> None:
    domain = Domain()
    path = tmp_path / "registry.json"
    replace_file(path, domain.registry_file)
    registries = KeptRegistries(path, domain.pin, tmp_path / "registries")
    first = registries.held()
    registries.keep(first)
    domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid)
    replace_file(path, domain.registry_file)
    second = registries.held()
    assert second.registry.version == first.registry.version + 1
    assert registries.kept(second.sha256) is None, "not kept yet"
    registries.keep(second)
    registries.keep(second)
    kept = {one.sha256: registries.kept(one.sha256) for one in (first, second)}
    assert [one and one.version for one in kept.values()] == [first.registry.version, second.registry.version]
    replace_file(path, first.data)
    assert registries.held() == second, "an older file changes nothing"
    assert registries.problem == "registry_rollback"
    file = tmp_path / "registries" / f"{first.sha256.hex()}.json"
    file.write_bytes(file.read_bytes()[:-1])
    assert registries.kept(first.sha256) is None, "altered"
