# SPDX-License-Identifier: Apache-2.0
"""Key trouble between two countries: new holders of a registry while the link is down, and a stranger's key in an
agency's entry, whether everybody can see it or the other country alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.held_back import Disputes, HeldBack
from adapters.own_entry import OwnEntry
from schemas.errors import RegistryError
from schemas.forms import Facts
from schemas.keys import HYBRID, SealingKey, SigningKey
from schemas.objections import sign_objection
from schemas.plain.transfer import TransferAccepted
from schemas.registry import Key, Registry
from schemas.registry_metadata import Holder
from schemas.registry_signing import assembled, proposal, signed_by
from schemas.registry_trust import trusted
from tests.borders import neighbour
from tests.domain import YEAR, seeded, sign_registry
from tests.scenarios.test_returns_over_the_border import WOMAN, Crossing, transfer
from tests.scenarios.test_two_countries import answer, request
from tests.two_countries import Both, Country, idents, run
from topics.borders import excerpt_for
from topics.log import grant_key, grants_topic
from topics.neighbours import Neighbours
from umuhuza.agency import refresh_neighbours

US, THEM = "tn/inlctp", "bi/ccsprtp"


def rotated(country: Country, at: int) -> SigningKey:
    """Its holder hands over to another one; who was, and whose key may be anybody's now."""
    domain = country.domain
    before, fresh = domain.root, SigningKey.generate(seeded("new holder"))
    held = trusted(domain.registry_file, domain.pin)
    change = proposal(held, at, holders=[Holder("b", fresh.public)], threshold=1, targets_threshold=1)
    made = assembled(signed_by(change, [before, fresh], held), held, fresh, at)
    domain.registry = made.registry
    domain._file = (domain.registry, domain.agreements, made.data)
    country.published()
    return before


def test_new_holders_at_home_while_the_link_is_down_stop_nothing(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        await tn.carry()
        tn.wire.cut = bi.wire.cut = True
        first = request(both)
        await tn.send(first)
        await tn.ledger_turn()
        both.wait(days=1)
        old = rotated(tn, int(both.clock()))
        await tn.ledger_turn()
        second = request(both)
        await tn.send(second)
        assert (await tn.carry()).code == "unavailable"
        both.wait(days=4)
        tn.wire.cut = bi.wire.cut = False
        turn = await tn.carry()
        assert (turn.promised, turn.refused, turn.code, turn.path) == (2, 0, None, None)
        assert idents(await bi.mailbox(THEM)) == [first.manifest.ident, second.manifest.ident]
        back = answer(both, second)
        [told, _] = await bi.send(back)
        assert "problem" not in told, "the agreement names the first root, and holds"
        assert (await bi.carry()).promised == 1
        # Who held the registry before publishes nothing any more.
        held = bi.neighbours.theirs("tn")
        later = tn.domain.registry.renewed(int(both.clock()))
        stolen = trusted(sign_registry(later, old, tn.domain.agreements), tn.domain.pin)
        with pytest.raises(RegistryError) as caught:
            bi.neighbours.take_registry("tn", excerpt_for(stolen, "bi"))
        assert caught.value.code in ("registry_rollback", "registry_threshold")
        assert bi.neighbours.theirs("tn").digest == held.digest

    run(tmp_path, story)


def with_a_strangers_key(both: Both) -> tuple[Registry, str]:
    """Tunisia's next registry, as somebody with its holders' keys makes it; the key that he put there."""
    domain, now = both.tn.domain, int(both.clock())
    rogue = SealingKey.generate(seeded("rogue"))
    key = Key(rogue.kid, "seal", HYBRID, rogue.public.public, now - 60, now + YEAR)
    entry = domain.registry.agency(US)
    return domain.registry.with_agency(replace(entry, keys=(*entry.keys, key)), now), rogue.kid


def watching(crossing: Crossing) -> tuple[OwnEntry, Neighbours]:
    """As the agency's own process watches (`umuhuza.agency`), and what it holds of other domains in its own folder."""
    both, tn, office = crossing.both, crossing.both.tn, crossing.offices[US]
    folder = tn.folder / "at-the-agency"
    neighbour(folder, both.bi.domain, both.countries.published(both.bi.domain), "tn")
    known = Neighbours(folder, lambda: tn.registry_file.trusted, tn.world.clock)
    file, keys = tn.folder / "own-keys.json", office.runner.desk.keys
    return OwnEntry(file, keys, lambda: known.registry, tn.world.clock, lambda: known.of_us), known


async def asked_for_a_return(both: Both) -> tuple[Crossing, str, Disputes]:
    """Burundi has a request of Tunisia's to answer; its adapter holds back from whom it is told to."""
    crossing = Crossing.of(both, US, THEM)
    office = crossing.offices[THEM]
    file = both.bi.folder / "told.jsonl"
    disputes = Disputes(file, lambda: both.bi.neighbours.registry, both.bi.world.clock)
    office.runner.log = HeldBack(office.log, disputes.agencies)
    thread = await crossing.says(US, THEM, "transfer.requested", transfer(crossing.today, WOMAN), person="R-9")
    return crossing, thread, disputes


async def answered(crossing: Crossing, thread: str, disputes: Disputes) -> str:
    """Burundi's focal point accepts, and its adapter does what it can; the code that the answer waits with."""
    disputes.told(await crossing.offices[THEM].log.objections())
    said = Facts(occurred_at=crossing.today, said=TransferAccepted())
    evt = crossing.offer(THEM, US, "transfer.accepted", said, thread=thread).evt
    await crossing.offices[THEM].turn()
    item = crossing.offices[THEM].box.outgoing(evt)
    assert item is not None
    return item.code or ""


async def objects(crossing: Crossing, own: OwnEntry) -> None:
    """The owner says so at home, and the bridge brings it over."""
    line = own.objection(crossing.both.tn.domain.members[US].sig)
    assert line is not None
    await crossing.offices[US].log.object_to_keys(line)
    await crossing.both.tn.carry()


def test_a_strangers_key_that_the_excerpt_carries_alarms_its_owner_and_holds_back_senders_abroad(
    tmp_path: Path,
) -> None:
    async def story(both: Both) -> None:
        tn = both.tn
        crossing, thread, disputes = await asked_for_a_return(both)
        tn.domain.registry, kid = with_a_strangers_key(both)
        tn.published()
        both.wait()
        assert (await tn.carry()).code is None
        assert kid in {key.kid for key in both.bi.neighbours.theirs("tn").registry.agency(US).keys}
        own, _ = watching(crossing)
        with pytest.raises(RegistryError) as caught:
            own.require_ours()
        assert (caught.value.code, caught.value.path) == ("registry_key_foreign", "agency.keys.seal")
        await objects(crossing, own)
        assert await answered(crossing, thread, disputes) == "recipient_disputed"
        assert disputes.agencies() == {US}
        # The holders decide; what waited goes by itself, and not to the stranger.
        tn.domain.revoke(US, kid, int(both.clock()))
        tn.published()
        both.wait(seconds=3600)
        await tn.carry()
        disputes.told(await crossing.offices[THEM].log.objections())
        await crossing.settle()
        [arrived] = [one for one in crossing.offices[US].box.arrivals.all() if one.type == "transfer.accepted"]
        ident = f"{arrived.iss}/{arrived.evt}"
        for country in (both.bi, tn):
            assert await country.log.get_grants(grants_topic(US), [grant_key(ident, kid)]) == {}
        await crossing.close()

    run(tmp_path, story)


def test_a_strangers_key_that_was_shown_to_the_other_country_alone_alarms_its_owner_too(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        crossing, thread, disputes = await asked_for_a_return(both)
        own, known = watching(crossing)
        await refresh_neighbours(known, crossing.offices[US].log)
        own.require_ours()
        registry, kid = with_a_strangers_key(both)
        forged = trusted(sign_registry(registry, tn.domain.root, tn.domain.agreements), tn.domain.pin)
        bi.neighbours.take_registry("tn", excerpt_for(forged, "bi"))
        assert kid not in {key.kid for key in tn.registry_file.trusted.registry.agency(US).keys}
        both.wait(seconds=120)
        turn = await tn.carry()
        assert (turn.code, turn.path) == ("registry_rollback", "of-us"), "the operator is told"
        await refresh_neighbours(known, crossing.offices[US].log)
        with pytest.raises(RegistryError) as caught:
            own.require_ours()
        assert (caught.value.code, caught.value.path) == ("registry_key_foreign", "neighbours.bi.agency.keys.seal")
        await objects(crossing, own)
        assert await answered(crossing, thread, disputes) == "recipient_disputed"
        at_home = Disputes(tn.folder / "told.jsonl", lambda: tn.neighbours.registry, tn.world.clock)
        at_home.told(await crossing.offices[US].log.objections())
        assert len(tn.gateway.door.objections.lines()) == 1, "it stands, for what Burundi was shown"
        assert at_home.agencies() == frozenset(), "in the registry at home there is nothing wrong"
        # Two honest versions further on, Burundi holds what Tunisia's holders say.
        for _ in range(2):
            tn.domain.registry = tn.domain.registry.renewed(int(both.clock()))
        tn.published()
        both.wait(seconds=3600)
        assert (await tn.carry()).code in (None, "registry_rollback")
        both.wait(seconds=120)
        assert (await tn.carry()).code is None
        await refresh_neighbours(known, crossing.offices[US].log)
        own.require_ours()
        disputes.told(await crossing.offices[THEM].log.objections())
        assert disputes.agencies() == frozenset()
        await crossing.settle()
        assert crossing.states(thread) == {"accepted"}
        await crossing.close()

    run(tmp_path, story)


def test_nobody_objects_for_another_country_and_no_shelter_is_named_abroad(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        crossing = Crossing.of(both, US, THEM)
        now = int(both.clock())
        book = bi.gateway.door.objections
        await tn.carry()
        seal = {name: one.seal.kid for name, one in {**tn.domain.members, **bi.domain.members}.items()}
        honest = sign_objection(US, [seal[US]], now, tn.domain.members[US].sig)
        forged = sign_objection(US, [seal[US]], now, tn.domain.members["tn/iom"].sig)
        of_ours = sign_objection(THEM, [seal[THEM]], now, bi.domain.members[THEM].sig)
        book.carried("tn", [forged, of_ours, b"nothing"])
        assert book.lines() == []
        book.carried("tn", [honest, forged])
        assert book.lines() == [honest]
        book.carried("tn", [])
        assert book.lines() == []
        # A protected place says it at home; no agreement names it, and it does not travel.
        shelter = tn.domain.members["tn/m2p9"]
        at_home = sign_objection("tn/m2p9", [shelter.seal.kid], now, shelter.sig)
        await tn.office("tn/m2p9").log.object_to_keys(at_home)
        await crossing.offices[US].log.object_to_keys(honest)
        assert (await tn.carry()).code is None
        assert tn.gateway.door.objections.lines() == [at_home, honest]
        assert book.lines() == [honest]
        assert tn.watch.told == (honest,), "nothing else was said"
        await crossing.close()

    run(tmp_path, story)


def test_records_go_also_to_a_gateway_that_tells_nothing_of_keys(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        tn = both.tn
        tn.wire.lacks = ("GET", "/v1/bridge/registry")
        asked = request(both)
        await tn.send(asked)
        turn = await tn.carry()
        assert (turn.promised, turn.waiting) == (1, 0)
        assert turn.code is not None, "and the operator is told that something is amiss"
        assert idents(await both.bi.mailbox(THEM)) == [asked.manifest.ident]

    run(tmp_path, story)
