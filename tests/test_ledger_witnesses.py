# SPDX-License-Identifier: Apache-2.0
"""The ledger's process asks its witnesses beside its work, and its metrics say what came of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.domain import NOW
from tests.topics.ledger_world import ORIGIN, SIGNERS, World
from tests.trees import witness_signers
from tests.witness_servers import WitnessServer, served
from topics.cosigning import ENDORSED_FILE, POLICY_FILE, SILENT_S, Cosignatures
from topics.witness import Witness, WitnessedLogs
from umuhuza.ledger_witnesses import Witnesses


@contextmanager
def witness_at(folder: Path) -> Iterator[tuple[WitnessServer, str]]:
    folder.mkdir()
    (folder / "logs.policy").write_text("".join(f"log {one.public.vkey}\n" for one in SIGNERS) + "quorum none\n")
    Witness.create(folder / "witness.db", witness_signers("tn"))
    logs = WitnessedLogs(folder / "logs.policy")
    server = WitnessServer(Witness.open(folder / "witness.db", witness_signers("tn"), logs))
    try:
        with served(server.answers) as url:
            yield server, url
    finally:
        server.witness.close()


def write_policy(folder: Path, url: str) -> None:
    [ed, _] = witness_signers("tn")
    lines = [f"log {one.public.vkey}\n" for one in SIGNERS]
    (folder / POLICY_FILE).write_text("".join([*lines, f"witness tn {ed.public.vkey} {url}\n", "quorum tn\n"]))
    os.utime(folder / POLICY_FILE, (NOW, NOW))


def told(witnesses: Witnesses) -> dict[str, float]:
    """Metric -> value, without the prefix."""
    samples = [sample for family in witnesses.collect() for sample in family.samples]
    return {sample.name.removeprefix("umuhuza_ledger_"): sample.value for sample in samples}


def test_metrics_tell_who_has_seen_the_ledger_who_is_silent_and_who_contradicts_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    witnesses = Witnesses()

    async def asked(at: int) -> dict[str, float]:
        await witnesses.ask(tmp_path, ORIGIN, now=lambda: at)
        return told(witnesses)

    async def work() -> None:
        calm = {"witnesses_up": 1, "witnesses_silent": 0, "witnesses_contradicting": 0, "endorsed_size": 0}
        assert await asked(NOW) == calm, "without a policy nobody is missing"
        sequencer = world.sequencer()
        with witness_at(tmp_path / "tn") as (server, url):
            write_policy(tmp_path, url)
            assert await asked(NOW) == {**calm, "witnesses_up": 0}, "nothing is signed yet"
            await world.put(*[world.domain.record() for _ in range(3)])
            await world.sequenced(sequencer)
            world.checkpoints().publish(sequencer.view)
            size = sequencer.view.size
            assert await asked(NOW + 60) == {**calm, "endorsed_size": size}
            endorsed = Cosignatures(tmp_path, ORIGIN).endorsed()
            assert endorsed is not None
            assert endorsed.signed.checkpoint.size == size
            server.down = True
            assert (await asked(NOW + 60 + SILENT_S - 1))["witnesses_silent"] == 0
            assert (await asked(NOW + 60 + SILENT_S))["witnesses_silent"] == 1
            server.down = False
            assert (await asked(NOW + 70 + SILENT_S))["witnesses_silent"] == 0
        # A second ledger with the same keys, begun anew: the witness has seen more than it has.
        (tmp_path / "anew").mkdir()
        other = World(tmp_path / "anew")
        behind = other.sequencer()
        await other.sequenced(behind)
        other.checkpoints().publish(behind.view)
        again = WitnessServer(
            Witness.open(
                tmp_path / "tn" / "witness.db", witness_signers("tn"), WitnessedLogs(tmp_path / "tn" / "logs.policy")
            )
        )
        with served(again.answers) as url:
            write_policy(tmp_path / "anew", url)
            await witnesses.ask(tmp_path / "anew", ORIGIN, now=lambda: NOW + 60)
        assert told(witnesses)["witnesses_contradicting"] == 1
        assert not (tmp_path / "anew" / ENDORSED_FILE).exists()
        for view in (sequencer.view, behind.view):
            view.close()
        again.witness.close()
        await other.log.close()

    world.run(work)


def test_it_asks_again_and_again_until_it_is_told_to_stop(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        sequencer = world.sequencer()
        await world.put(world.domain.record())
        await world.sequenced(sequencer)
        world.checkpoints().publish(sequencer.view)
        stop, witnesses = asyncio.Event(), Witnesses()
        with witness_at(tmp_path / "tn") as (server, url):
            asking = asyncio.create_task(witnesses.ask_for_ever(tmp_path, ORIGIN, 0.01, stop))
            await asyncio.sleep(0)
            write_policy(tmp_path, url)  # counts from the next round on
            async with asyncio.timeout(30):
                while len(server.bodies) < 3:
                    await asyncio.sleep(0.01)
            stop.set()
            await asking
        assert witnesses.endorsed_size == sequencer.view.size
        sequencer.view.close()

    world.run(work)
