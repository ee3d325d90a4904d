# SPDX-License-Identifier: Apache-2.0
"""`agency send` while `agency run` is at work in the same folders: one of them has a file, never both.

Both run here as they do in their commands, in two threads, so that one can be held in the middle of its look.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from adapters.connectors.contract import Arrived, Batch, Erased, Outcome
from adapters.connectors.folder import FolderConnector
from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from topics.sqlite_turn import Turn
from umuhuza.agency import open_agency, run_agency
from umuhuza.agency_command import send

IOM = Member("bi/iom", ("screener", "assistance"))
SHELTER = Member("bi/k7t4", ("assistance", "shelter"), protected=True)
PATIENCE_S = 120.0
A_MOMENT_S = 0.5
"""For what must not happen: if nobody keeps anybody out, it takes milliseconds."""


class Looking:
    """The folder's connector, whose first look lasts until somebody else wants the folder."""

    name: ClassVar[str] = FolderConnector.name

    def __init__(self, folder: FolderConnector, file: str) -> None:
        self._folder = folder
        self._file = folder.places.to_send / file
        self.looks = threading.Event()
        self.asked = threading.Event()
        """Another thread wants its turn."""
        self.entered = threading.Event()
        """... and has it."""
        self.disturbed: list[str] = []
        """What happened to the folder during the look."""

    async def collect(self) -> AsyncIterator[Batch]:
        if not self.looks.is_set():
            self.looks.set()
            self._until_wanted()
            if self._file.exists():
                self.disturbed.append("a file was dropped")
            if self.entered.wait(A_MOMENT_S):
                self.disturbed.append("another has its turn")
        async for batch in self._folder.collect():
            yield batch

    def _until_wanted(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self.asked.is_set() and not self._file.exists() and time.monotonic() < until:
            time.sleep(0.01)

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        await self._folder.settle(batch, outcomes)

    async def deliver(self, arrived: Arrived) -> None:
        await self._folder.deliver(arrived)

    async def erase(self, ident: str) -> Erased:
        return await self._folder.erase(ident)

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        await self._folder.changed(evt, line, source, state, code)


def test_send_waits_for_its_turn_while_the_adapter_looks_at_the_folder(
    tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = tmp_path / "novembre.xlsx"
    filled.write_bytes(workbook([referral("Aline")]))
    stop, loops = threading.Event(), []
    with DomainOnDisk.made(tmp_path, [SHELTER, IOM], log=log) as domain:
        parts = open_agency(domain.folder("bi/iom"))
        folder = parts.connectors[-1]  # the directory stands before it
        assert isinstance(folder, FolderConnector)
        connector = Looking(folder, filled.name)
        parts.connectors = (connector,)

        async def work() -> None:
            ended = asyncio.Event()
            loops.append((asyncio.get_running_loop(), ended))
            if stop.is_set():
                ended.set()
            await run_agency(parts, ended, lambda _turn, _exc: None)

        adapter = threading.Thread(target=lambda: asyncio.run(work()))
        enter = Turn.__enter__

        def entering(turn: Turn) -> None:
            if threading.current_thread() is not adapter and turn is not parts.collecting:
                connector.asked.set()
                enter(turn)
                connector.entered.set()
            else:
                enter(turn)

        adapter.start()
        try:
            assert connector.looks.wait(PATIENCE_S)
            monkeypatch.setattr(Turn, "__enter__", entering)
            send(filled, domain.folder("bi/iom"), as_json=True)
        finally:
            stop.set()
            for loop, ended in loops:
                loop.call_soon_threadsafe(ended.set)
            adapter.join(PATIENCE_S)
            parts.close()
        assert connector.disturbed == []
        [accepted] = orjson.loads(capsys.readouterr().out)["accepted"]
        [item] = [one for one in domain.outbox("bi/iom") if one.type == "referral.requested"]
        assert (accepted["evt"], accepted["again"]) == (item.evt, False)
