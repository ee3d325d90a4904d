# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order, every place of every mailbox has one entry, and there is one history."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain import Domain, Signed
from tests.topics.ledger_world import World, entries_in
from tests.topics.test_ledger import twin, with_new_key
from topics.ledger import Sequencer
from topics.ledger_entries import LedgerEntry

VIEWS = ("one.db", "two.db")
STEPS = st.lists(
    st.sampled_from(
        (
            *("record", "record", "elsewhere", "twin", "noise", "new key", "revoked"),
            *("first steps", "second steps", "first restarts", "second restarts", "first view lost"),
        )
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class Play:
    """Two sequencers, each with a view of its own, over one store and one log."""

    world: World
    sent: list[Signed] = field(default_factory=list)
    sequencers: list[Sequencer] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.sequencers = [self.world.sequencer(view=name) for name in VIEWS]

    async def do(self, step: str) -> None:
        domain = self.world.domain
        self.world.at_ms += 1_000
        self.number += 1
        if step in ("record", "elsewhere"):
            self.sent.append(domain.record(to="bi/r5w2" if step == "elsewhere" else "bi/k7t4"))
            await self.world.put(self.sent[-1])
        elif step == "twin" and self.sent:
            entry = twin(self.sent[0])
            await self.world.put(replace(entry, ident=f"{entry.ident}{self.number}"))
        elif step == "noise":
            entry = domain.record(chain=False).entry
            await self.world.put(replace(entry, ident=f"noise {self.number}", value=b"noise %d" % self.number))
        elif step == "new key":
            with_new_key(domain)
        elif step == "revoked":
            domain.revoke("bi/police", domain.members["bi/police"].sig.kid)
        elif step.endswith("steps"):
            await self.sequencers[step == "second steps"].step()
        elif step.endswith(("restarts", "lost")):
            which = step.startswith("second")
            self.sequencers[which].view.close()
            if step.endswith("lost"):
                (self.world.folder / VIEWS[which]).unlink()
            self.sequencers[which] = self.world.sequencer(view=VIEWS[which])
            await self.sequencers[which].start()

    async def come_to_rest(self) -> list[LedgerEntry]:
        for _ in range(2):
            for one in self.sequencers:
                while await one.step():
                    """Until nothing is new."""
        first, second = (entries_in(one.view) for one in self.sequencers)
        assert first == second
        assert self.sequencers[0].view.topics == self.sequencers[1].view.topics
        return first


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_every_place_has_one_entry_and_there_is_one_history(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), Domain())

        async def work() -> None:
            play = Play(world)
            for step in steps:
                await play.do(step)
            entries = await play.come_to_rest()
            for topic in {one.topic for one in entries if one.topic is not None}:
                offsets = [one.offset for one in entries if one.topic == topic]
                assert offsets == list(range((await world.log.ends(topic)).next))
            events = Counter(one.l1_sha256 for one in entries if one.kind == "event")
            assert set(events.values()) <= {1}
            assert events.total() == len(play.sent)
            versions = [one.number for one in entries if one.kind == "registry"]
            assert versions == sorted(set(versions))
            assert versions[-1] == world.domain.registry.version
            for one in play.sequencers:
                one.view.close()

        world.run(work)
