# SPDX-License-Identifier: Apache-2.0
"""What a stick brings is taken whole, in any order and any number of times, or refused before anything of it is taken.

A real gateway and real adapters (`tests.scenarios.town`); only nobody but the carrier uses the network.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.mailbox import Mailbox
from adapters.stick import Stick, Took
from schemas.bundle import Bundle, open_bundle, seal_bundle
from schemas.errors import UmuhuzaError
from schemas.keys import SealingKey, SigningKey
from tests.agencies import InMemory
from tests.domain import seeded
from tests.scenarios.by_stick import carried, contact, taken, to_agency, to_gateway
from tests.scenarios.town import Town
from umuhuza.children import until_alone

IOM, SHELTER, OPERATOR = "bi/iom", "bi/k7t4", "bi/operator"
NAME = "Personne-Inventée-S"
NOTHING = Took()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Town.made(tmp_path, "sqlite") as made:
        yield made


def ask(town: Town, name: str = NAME) -> str:
    return town[IOM].draft(SHELTER, "referral.requested", town.referral(name, priority="normal"), person=name)


def refused(what: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(UmuhuzaError) as told:
        what()
    assert NAME not in told.value.describe("fr")
    return told.value.code, told.value.path


def state(town: Town, agency: str) -> str:
    """All that a mailbox says of what has come and gone."""
    box = town[agency].box
    return repr((box.arrivals.all(), box.outbox(), box.arrivals.cursors()))


def opener(town: Town, reader: str) -> SealingKey:
    return town.domain.opens if reader == OPERATOR else town.domain.members[reader].seal


def opened(town: Town, data: bytes, reader: str) -> Bundle:
    return open_bundle(data, [opener(town, reader)])


def resealed(town: Town, data: bytes, reader: str, signer: SigningKey | None = None, **changes: Any) -> bytes:
    """The same lines under another head, or of another's hand."""
    found = opened(town, data, reader)
    head = replace(found.head, **changes)
    key = signer or town.domain.members[head.iss].sig
    return seal_bundle(head, found.contents, key, opener(town, reader).public)


# -- whole or not at all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: data[:-40] + b"x" + data[-39:]])
def test_a_bad_copy_is_refused_and_nothing_of_it_is_taken(town: Town, spoil: Callable[[bytes], bytes]) -> None:
    ask(town)
    bundle = to_agency(town, IOM, SHELTER)
    before = state(town, SHELTER)
    assert refused(lambda: taken(town, SHELTER, spoil(bundle))) == ("bundle_damaged", "file")
    request = to_gateway(town, IOM)
    assert refused(lambda: carried(town, spoil(request))) == ("bundle_damaged", "file")
    assert state(town, SHELTER) == before
    assert town.run(town.log.read("bi.referral.k7t4", -1)) == []
    assert taken(town, SHELTER, bundle).arrived == 1


def test_a_bundle_counts_by_its_writer_and_only_where_it_is_for(town: Town) -> None:
    ask(town)
    direct, request = to_agency(town, IOM, SHELTER), to_gateway(town, IOM)
    answer = carried(town, request)
    thief = SigningKey.generate(seeded("thief"))
    before = state(town, SHELTER), state(town, IOM)
    cases: list[tuple[Callable[[], object], tuple[str, str | None]]] = [
        (lambda: taken(town, SHELTER, request), ("bundle_unopenable", "file")),
        (lambda: carried(town, direct), ("bundle_unopenable", "file")),
        (lambda: taken(town, SHELTER, resealed(town, direct, SHELTER, thief)), ("key_unknown", None)),
        (lambda: taken(town, SHELTER, resealed(town, direct, SHELTER, to=IOM)), ("bundle_misplaced", "head.to")),
        (
            lambda: taken(town, SHELTER, resealed(town, direct, SHELTER, training=True)),
            ("training_record", "head.training"),
        ),
        (lambda: carried(town, resealed(town, request, OPERATOR, thief)), ("key_unknown", None)),
        (lambda: carried(town, resealed(town, request, OPERATOR, to=IOM)), ("bundle_misplaced", "head.to")),
        (
            lambda: carried(town, resealed(town, request, OPERATOR, iss="bi/nobody", signer=thief)),
            ("agency_unknown", "head.iss"),
        ),
        (lambda: taken(town, IOM, resealed(town, answer, IOM, iss="bi/police")), ("bundle_misplaced", "head.iss")),
        (lambda: to_agency(town, IOM, IOM), ("bundle_misplaced", "to")),
        (lambda: to_agency(town, IOM, "tn/inlctp"), ("bundle_misplaced", "to")),
    ]
    assert [refused(call) for call, _ in cases] == [told for _, told in cases]
    assert (state(town, SHELTER), state(town, IOM)) == before


def test_a_record_of_a_third_agencys_is_not_taken_from_whoever_hands_it_over(town: Town) -> None:
    ask(town)
    bundle = to_agency(town, IOM, SHELTER)
    before = state(town, SHELTER)
    forged = resealed(town, bundle, SHELTER, iss="bi/police")
    assert refused(lambda: taken(town, SHELTER, forged)) == ("issuer_mismatch", "record[0]")
    assert state(town, SHELTER) == before


def test_a_promise_that_is_not_the_gateways_settles_nothing(town: Town) -> None:
    ask(town)
    good = carried(town, to_gateway(town, IOM))
    found = opened(town, good, IOM)
    [told] = found.contents.answers
    head, payload, signature = str(told["promise"]).split(".")
    lies = replace(found.contents, answers=({**told, "promise": f"{head}.{payload}.{signature[::-1]}"},))
    operator = town.domain.operator.sig
    bad = seal_bundle(found.head, lies, operator, town.domain.members[IOM].seal.public)
    before = state(town, IOM)
    assert refused(lambda: taken(town, IOM, bad))[0] in ("signature_invalid", "record_malformed")
    assert state(town, IOM) == before
    moved = replace(found.contents, answers=({**told, "offset": 7},))
    other = seal_bundle(found.head, moved, operator, town.domain.members[IOM].seal.public)
    assert refused(lambda: taken(town, IOM, other)) == ("root_mismatch", "promise")
    assert state(town, IOM) == before


# -- again, late, out of order -----------------------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_older_answers_after_newer_ones_lose_nothing(town: Town) -> None:
    first = ask(town)
    one = carried(town, to_gateway(town, IOM))
    assert taken(town, IOM, one).settled == 1
    early = carried(town, to_gateway(town, SHELTER))
    ask(town, "Personne-Inventée-T")
    request = to_gateway(town, IOM)
    answers = [carried(town, request), carried(town, request)]
    late = carried(town, to_gateway(town, SHELTER))
    assert [len(opened(town, data, SHELTER).contents.mail) for data in (early, late)] == [1, 2]

    assert taken(town, SHELTER, late).arrived == 2
    before = state(town, SHELTER)
    assert [taken(town, SHELTER, data) for data in (early, late, early)] == [NOTHING] * 3
    assert state(town, SHELTER) == before
    assert [taken(town, IOM, data).settled for data in (*answers, one)] == [1, 0, 0]
    assert town[SHELTER].inbox()[0].evt == first
    assert len(town.run(town.log.read("bi.referral.k7t4", -1))) == 2


def test_what_is_handed_over_in_the_wrong_order_waits_for_its_beginning(town: Town) -> None:
    asked = ask(town)
    first = to_agency(town, IOM, SHELTER)
    iom = town[IOM]
    update = iom.draft(SHELTER, "referral.revoked", town.plainly(), thread=iom.thread(asked))
    both = to_agency(town, IOM, SHELTER)
    found = opened(town, both, SHELTER)
    only = tuple(one for one in found.contents.records if iom.outgoing(update).l1 in one.record.partition(b"\n")[:1])
    reader = town.domain.members[SHELTER].seal.public
    later = seal_bundle(found.head, replace(found.contents, records=only), town.domain.members[IOM].sig, reader)
    assert taken(town, SHELTER, later) == Took(arrived=1)
    [held] = town[SHELTER].inbox()
    assert (held.state, held.code) == ("held", "thread_unknown")
    assert taken(town, SHELTER, first).delivered == 2
    assert taken(town, SHELTER, both) == NOTHING
    assert town[SHELTER].system.types == ["referral.requested", "referral.revoked"]


def test_an_answer_that_begins_behind_our_cursor_is_not_taken(town: Town) -> None:
    """The mailbox was put back from a copy: what is between would be skipped for ever."""
    ask(town)
    town.run(town[IOM].runner.send())
    found = opened(town, carried(town, to_gateway(town, SHELTER)), SHELTER)
    places = found.contents.log
    assert places is not None
    ahead = replace(places, after={**places.after, "bi.referral.k7t4": 0})
    contents = replace(found.contents, log=ahead, mail=())
    bundle = seal_bundle(found.head, contents, town.domain.operator.sig, town.domain.members[SHELTER].seal.public)
    assert refused(lambda: taken(town, SHELTER, bundle)) == ("bundle_misplaced", "mail")


def test_a_later_minor_version_is_read_and_a_later_version_is_refused(town: Town) -> None:
    ask(town)
    newer = resealed(town, to_agency(town, IOM, SHELTER), SHELTER, minor=3)
    assert taken(town, SHELTER, newer).arrived == 1


def test_a_handed_record_that_the_log_refuses_stays_and_says_so(town: Town) -> None:
    """Its issuer was struck from the registry meanwhile: nobody else can bring it to the log either."""
    ask(town)
    taken(town, SHELTER, to_agency(town, IOM, SHELTER))
    iom = town.domain.members[IOM]
    town.domain.revoke(IOM, iom.sig.kid, int(town.clock()))
    (town.folder / "registry.json").write_bytes(town.domain.registry_file)
    town.wait(seconds=5)
    contact(town, SHELTER)
    [item] = town[SHELTER].inbox()
    assert (item.state, item.code, item.log[:8]) == ("delivered", "key_revoked", "refused/")
    assert contact(town, SHELTER).settled == 0


def test_a_stolen_key_that_we_know_to_be_revoked_hands_over_nothing(town: Town) -> None:
    ask(town)
    bundle = to_agency(town, IOM, SHELTER)
    town.domain.revoke(IOM, town.domain.members[IOM].sig.kid, int(town.clock()))
    assert refused(lambda: taken(town, SHELTER, bundle)) == ("key_revoked", None)


# -- the crash ---------------------------------------------------------------------------------------------------------


async def _take(town: Town, answer: bytes, step: Callable[[str], None]) -> None:
    before = town[SHELTER].runner.desk
    desk = replace(before, mailbox=Mailbox.open(town.path(SHELTER)))
    made = Stick(desk, gateway=OPERATOR, registry_file=lambda: None, take_registry=lambda _data: None, step=step)
    await made.take(answer, [InMemory()])


@pytest.mark.parametrize("at", ["opened", "settled", "read", "stored", "delivered"])
def test_killed_during_an_import_it_takes_the_rest_from_the_same_stick(town: Town, at: str) -> None:
    asked = ask(town)
    taken(town, IOM, carried(town, to_gateway(town, IOM)))
    taken(town, SHELTER, carried(town, to_gateway(town, SHELTER)))
    town[SHELTER].draft(IOM, "referral.accepted", town.plainly(), thread=town[SHELTER].thread(asked))
    ask(town, "Personne-Inventée-T")
    taken(town, IOM, carried(town, to_gateway(town, IOM)))
    answer = carried(town, to_gateway(town, SHELTER))  # two promises, a referral

    def die(step: str) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    town[SHELTER].box.close()
    until_alone()
    child = os.fork()
    if child == 0:  # nothing of the parent's loop and files is used here, but for their names
        try:
            asyncio.run(_take(town, answer, die))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    town.start(SHELTER)
    taken(town, SHELTER, answer)
    shelter = town[SHELTER]
    assert [item.state for item in shelter.box.outbox()] == ["promised", "promised", "waiting"]
    assert [item.state for item in shelter.inbox()] == ["delivered", "delivered"]
    assert taken(town, SHELTER, answer) == NOTHING
