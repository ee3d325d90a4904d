# SPDX-License-Identifier: Apache-2.0
"""What the connector remembers of the workbooks in `recus/`: one JSON file per thread, beside them.

It exists so that a workbook can be written again (a new event, the state of an answer) and so that a row that was sent
is recognised. Losing it loses no event: the outbox knows what was sent, and the workbook names its own thread.

Invariants: a file is whole or absent (`places.write_durably`); the name in `recus/` tells nothing of a person.
Every method that writes blocks and raises OSError.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.connectors import places

_SAFE = re.compile(r"[A-Za-z0-9_-]{8,64}")


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    __str__ = __repr__


class KeptLine(_Kept):
    label: str
    value: str
    code: str = ""


class KeptSection(_Kept):
    title: str
    lines: list[KeptLine]


class KeptEvent(_Kept):
    """One event that arrived, as it is shown."""

    ident: str
    iss: str
    evt: str
    type: str
    label: str
    """What happened, in words."""
    sender: str
    occurred: str
    """In words."""
    arrived: str
    """In words: the log's time."""
    late: bool = False
    sections: list[KeptSection]
    files: list[str] = []
    """Attachments written beside the workbook, by name in `recus/`."""


class KeptAnswer(_Kept):
    """One row of the sheet « Réponse » that was taken."""

    digest: str
    """Of what the row said."""
    type: str
    state: Literal["sent", "refused"]
    texts: dict[str, str]
    """What it said, by column: the workbook can be made again."""
    words: str
    """What stands in its column « Statut »."""
    evt: str | None = None
    changed: str | None = None
    """Digest of a later change to a sent row: told once."""


class Kept(_Kept):
    """One thread's workbook."""

    thread: str
    file: str
    """Name in `recus/`."""
    person: str | None = None
    state_label: str = ""
    steps: list[str] = []
    """Event types offered on the sheet « Réponse »."""
    events: list[KeptEvent] = []
    answers: dict[int, KeptAnswer] = {}
    """By row, as the author sees it."""
    to_write: Literal["", "status", "event"] = ""
    """What this file says and the workbook does not show yet."""
    written: bool = False
    """Whether the workbook has ever been there."""
    moved: bool = False
    """Whether it was once not where we had put it: somebody has a copy that we do not find."""
    read: str = ""
    """SHA-256 of the workbook in which nothing new was found."""


class Threads:
    """The files of one folder, kept in memory too: this process is their only writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_thread: dict[str, Kept] = {}
        self._of_ident: dict[str, str] = {}
        self._loaded = False

    def load(self) -> None:
        """Once; a damaged file is passed over, as if it had been lost."""
        if self._loaded:
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                kept = Kept.model_validate_json(path.read_bytes())
            except ValidationError:
                continue
            if kept.to_write != "event":
                kept.written = True  # by a version that did not say so
            self._remember(kept)
        self._loaded = True

    def _remember(self, kept: Kept) -> None:
        self._by_thread[kept.thread] = kept
        for event in kept.events:
            self._of_ident[event.ident] = kept.thread

    def of_thread(self, thread: str) -> Kept | None:
        return self._by_thread.get(thread)

    def of_ident(self, ident: str) -> Kept | None:
        """The thread that an event arrived on."""
        thread = self._of_ident.get(ident)
        return self._by_thread[thread] if thread is not None else None

    def of_file(self, name: str) -> Kept | None:
        return next((kept for kept in self._by_thread.values() if kept.file == name), None)

    def all(self) -> list[Kept]:
        return list(self._by_thread.values())

    def begin(self, thread: str, kind: str) -> Kept:
        """A new thread with a neutral file name, not yet stored: `orientation-` and the thread's first characters."""
        safe = thread if _SAFE.fullmatch(thread) else hashlib.sha256(thread.encode()).hexdigest()
        taken = {kept.file.casefold() for kept in self._by_thread.values()}
        length = 8
        # File names there may not tell upper from lower case.
        while f"{kind}-{safe[:length]}.xlsx".casefold() in taken and length < len(safe):
            length += 4
        return Kept(thread=thread, file=f"{kind}-{safe[:length]}.xlsx")

    def forget(self, kept: Kept) -> None:
        """The thread's file goes, and nothing of it is remembered."""
        name = hashlib.sha256(kept.thread.encode()).hexdigest()[:32]
        (self._folder / f"{name}.json").unlink(missing_ok=True)
        self._by_thread.pop(kept.thread, None)
        self._of_ident = {ident: thread for ident, thread in self._of_ident.items() if thread != kept.thread}

    def store(self, kept: Kept) -> None:
        """Durable when it returns."""
        name = hashlib.sha256(kept.thread.encode()).hexdigest()[:32]
        data = json.dumps(kept.model_dump(mode="json"), ensure_ascii=False).encode("utf-8")
        places.write_durably(self._folder / f"{name}.json", data)
        self._remember(kept)
