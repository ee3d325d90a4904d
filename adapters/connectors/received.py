# SPDX-License-Identifier: Apache-2.0
"""The workbooks in `recus/`: written when something arrives, read again when their reader has answered.

    remembered  what arrived is in the thread's JSON file. Crash: the workbook is written from it later
    written     the workbook shows it (`.part`, rename): its reader's answers are read from it just before and kept
    (answered)  she saves; new rows become one batch each, in order, `source` naming event, row and what the row says
    settled     the row's fate is remembered; the workbook's column « Statut » follows when nobody has it open

A workbook is never replaced while a program has it open, nor when it changed since its answers were read; then it is
tried again at the next look. Between that check and the rename lie microseconds in which a program without lock file
could save: its own warning (« le fichier a changé ») is the last defence, and the row is asked for again.

Invariants: a row is sent once, whatever is saved how often; a row changed after it was sent is told, not sent; nothing
that its reader wrote is lost by our writing.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adapters.connectors import answers, attached, delivered, places, report, sheets
from adapters.connectors.answers import AnswerRow, Keys
from adapters.connectors.contract import Arrived, Batch, Draft, Outcome, Problem
from adapters.connectors.drops import Quiet, changed_after, taken_over
from adapters.connectors.facts_in_words import moment_in_words, sections_of
from adapters.connectors.places import Look, Places
from adapters.connectors.report import RowResult
from adapters.connectors.threads import Kept, KeptAnswer, KeptEvent, KeptLine, KeptSection, Threads
from schemas import lifecycle
from schemas.errors import CODES, Language
from schemas.event_types import EVENTS

SOURCE = "reponse:"
"""`reponse:<ident>#<row>:<digest of the row>`."""
_UNREADABLE = "reponse-illisible:"
_WORKBOOKS = (".xlsx", ".ods")
_LOCK_LASTS_S = 600.0
"""A lock file beside a workbook that nobody saved for so long was left behind by a crash: its answers are read."""

_TITLES: Mapping[str, tuple[str, str]] = {
    "referral.requested": ("Orientation reçue", "Referral received"),
    "case.identified": ("Personne identifiée", "Person identified"),
    "case.screened": ("Évaluation faite", "Screening done"),
    "referral.revoked": ("Orientation révoquée par l'expéditeur", "Referral revoked by the sender"),
    "referral.expired": ("Orientation expirée", "Referral expired"),
    "referral.reopened": ("Acceptation tardive confirmée", "Late acceptance confirmed"),
    "information.answered": ("Renseignement donné", "Information given"),
    "movement.departed": ("La personne est en route", "The person is on her way"),
    "attachment.announced": ("Pièces jointes", "Attachments"),
    "record.retracted": ("Retirée : envoyée par erreur", "Retracted: sent by mistake"),
    "record.corrected": ("Correction", "Correction"),
}


@dataclass(slots=True)
class Received:
    places: Places
    threads: Threads
    now: Callable[[], datetime.datetime]
    language: Language
    quiet: Quiet
    _seen: dict[Path, Look] = field(default_factory=dict)
    """Workbooks in which nothing new was, as they looked then."""
    _rows: dict[str, AnswerRow] = field(default_factory=dict)
    """Source -> the row offered and not settled yet."""

    def remember(self, arrived: Arrived) -> Kept:
        """Add an event to its thread, durably. Blocks; raises OSError; idempotent."""
        self.threads.load()
        kind = "dossier" if arrived.type.startswith("case.") else "orientation"
        kept = self.threads.of_thread(arrived.thread) or self.threads.begin(arrived.thread, kind)
        if any(event.ident == arrived.ident for event in kept.events):
            return kept
        files = attached.write_arrived(arrived, kept.file.removesuffix(".xlsx"), self.places.received)
        kept.events.append(self._shown(arrived, files))
        kept.person = arrived.person or kept.person
        machine = "case" if kind == "dossier" else "referral"
        if arrived.state in lifecycle.MACHINES[machine].states and len(kept.events) > 1:
            kept.state_label = lifecycle.state_label(machine, arrived.state, self.language)
        if machine == "referral" and not kept.steps:
            kept.steps = answers.steps_ahead(arrived.state, arrived.may_answer)
        kept.to_write = "event"
        self.threads.store(kept)
        return kept

    def _shown(self, arrived: Arrived, files: Sequence[str]) -> KeptEvent:
        zone = self.now().tzinfo
        at = datetime.datetime.fromtimestamp(arrived.at_ms / 1000, datetime.UTC)
        title = _TITLES.get(arrived.type)
        labels = EVENTS[arrived.type].labels
        return KeptEvent(
            ident=arrived.ident,
            iss=arrived.iss,
            evt=arrived.evt,
            type=arrived.type,
            label=title[0 if self.language == "fr" else 1] if title else labels[self.language],
            sender=arrived.issuer_label,
            occurred=moment_in_words(arrived.facts.occurred_at, zone, self.language),
            arrived=moment_in_words(at, zone, self.language),
            late=arrived.late,
            files=list(files),
            sections=[
                *_about_files(arrived, files, self.language),
                *(
                    KeptSection(
                        title=section.title,
                        lines=[KeptLine(label=said.label, value=said.value, code=said.code) for said in section.lines],
                    )
                    for section in sections_of(arrived.facts, zone, self.language)
                ),
            ],
        )

    def arrivals(self) -> frozenset[str]:
        """Threads on which we have said ourselves that she is there."""
        return frozenset(
            kept.thread
            for kept in self.threads.all()
            if any(each.type == "movement.arrived" and each.state == "sent" for each in kept.answers.values())
        )

    async def write(self, kept: Kept) -> bool:
        """Write the workbook as far as it may be written now; True when it shows everything. Raises OSError."""
        if not kept.to_write:
            return True
        path = self.places.received / kept.file
        before = await asyncio.to_thread(places.look, path)
        typed: dict[int, dict[str, str]] = {number: answer.texts for number, answer in kept.answers.items()}
        if before is None and await asyncio.to_thread(path.exists):
            return False  # a link or folder under that name: not ours to replace
        if before is None and kept.written:
            kept.moved = True
        if before is None and kept.to_write == "status":
            kept.to_write = ""  # its reader filed it elsewhere: the status is in nobody's way
            await asyncio.to_thread(self.threads.store, kept)
            return True
        if before is not None:
            if await asyncio.to_thread(places.is_open_elsewhere, path):
                return False
            found = await self._rows_in(path)
            if found is None:
                return False
            typed = {row.number: dict(row.texts) for row in found}
        data = await asyncio.to_thread(delivered.write_delivered, kept, typed, language=self.language)
        try:
            if not await asyncio.to_thread(places.write_durably, path, data, partial(_is_as_before, path, before)):
                return False
        except PermissionError:
            if before is None:
                raise
            return False  # Excel on Windows holds it
        kept.to_write, kept.written = "", True
        await asyncio.to_thread(self.threads.store, kept)
        return True

    def copies(self, ident: str) -> tuple[list[str], list[str]]:
        """Files in `recus/` in which that event still is told: those at their place, those of which a copy is not there
        any more. Blocks; nothing once it was erased, and nothing of a workbook that was never written."""
        self.threads.load()
        kept = self.threads.of_ident(ident)
        event = None if kept is None else next((one for one in kept.events if one.ident == ident), None)
        if kept is None or event is None or not event.sections:
            return [], []
        names = [*([kept.file] if kept.written else []), *event.files]
        there = [name for name in names if (self.places.received / name).exists()]
        moved = [name for name in names if name not in there or (kept.moved and name == kept.file)]
        return there, moved

    async def erase(self, ident: str) -> bool:
        """Take what an event said out of its workbook; the whole workbook when nothing else is said in it.

        False: somebody has it open; nothing that she writes is lost, and it is asked for again. Raises OSError.
        """
        await asyncio.to_thread(self.threads.load)
        kept = self.threads.of_ident(ident)
        if kept is None:
            return True
        files = [name for event in kept.events if event.ident == ident for name in event.files]
        gone = await asyncio.to_thread(attached.remove, files, self.places.received)
        for event in kept.events:
            if event.ident == ident and event.sections:
                event.sections = []
                event.label += " · effacé" if self.language == "fr" else " · erased"
                kept.to_write = "event"
        if not gone:
            await asyncio.to_thread(self.threads.store, kept)
            return False
        if len(kept.events) > 1:
            await asyncio.to_thread(self.threads.store, kept)
            return await self.write(kept)
        path = self.places.received / kept.file
        if await asyncio.to_thread(places.is_open_elsewhere, path):
            await asyncio.to_thread(self.threads.store, kept)
            return False
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except PermissionError:
            return False  # Excel on Windows holds it
        await asyncio.to_thread(self.threads.forget, kept)
        return True

    async def _rows_in(self, path: Path) -> list[AnswerRow] | None:
        """The rows filled in; None: the workbook cannot be read, so it is not ours to replace."""
        data = await asyncio.to_thread(places.read, path, sheets.MAX_FILE_BYTES)
        tables = await sheets.read_tables(data, path.name, sheets=(answers.SHEET, answers.KEY_SHEET))
        if isinstance(tables, Problem):
            return None
        table = tables.named(answers.SHEET)
        if table is None:
            return []
        found = answers.answer_rows(table)
        return None if isinstance(found, Problem) else found

    async def collect(self) -> AsyncGenerator[Batch, None]:
        """One batch per new row, in order. Raises OSError where the folder itself cannot be read."""
        for path in await asyncio.to_thread(places.dropped, self.places.received):
            seen = await asyncio.to_thread(places.look, path)
            if seen is None or path.suffix.lower() not in _WORKBOOKS or self._seen.get(path) == seen:
                continue
            if not self.quiet.is_quiet(path, seen) or await self._is_being_edited(path, seen):
                continue
            try:
                data = await asyncio.to_thread(places.read, path, sheets.MAX_FILE_BYTES)
            except (FileNotFoundError, PermissionError):
                continue
            digest = hashlib.sha256(data).hexdigest()
            kept = self.threads.of_file(path.name)
            if kept is not None and kept.read == digest:
                self._seen[path] = seen
                continue
            offered = False
            async for batch in self._batches(path, data, digest, kept):
                offered = True
                yield batch
            # Whatever was offered is looked for once more at the next look: settled rows are known then.
            if not offered:
                self._seen[path] = seen
                if kept is not None:
                    kept.read = digest
                    await asyncio.to_thread(self.threads.store, kept)

    async def _is_being_edited(self, path: Path, seen: Look) -> bool:
        if self.now().timestamp() - seen.changed_at > _LOCK_LASTS_S:
            return False
        return await asyncio.to_thread(places.is_open_elsewhere, path)

    async def _batches(self, path: Path, data: bytes, digest: str, kept: Kept | None) -> AsyncGenerator[Batch, None]:
        tables = await sheets.read_tables(data, path.name, sheets=(answers.SHEET, answers.KEY_SHEET))
        if isinstance(tables, Problem):
            yield Batch(f"{_UNREADABLE}{digest}", path.name, (tables,))
            return
        table = tables.named(answers.SHEET)
        if table is None:
            return
        keys = answers.keys_of(tables.named(answers.KEY_SHEET)) or _keys_of(kept)
        found = answers.answer_rows(table)
        if keys is None or isinstance(found, Problem):
            yield Batch(f"{_UNREADABLE}{digest}", path.name, (found if isinstance(found, Problem) else _NO_THREAD,))
            return
        about = self.threads.of_ident(keys.ident)
        if about is not None:
            await self._forget_cleared(about, {row.number for row in found})
        for row in found:
            items = self._items(row, keys, about)
            if items:
                source = f"{SOURCE}{keys.ident}#{row.number}:{row.digest}"
                self._rows[source] = row
                yield Batch(source, path.name, items)
            done = about.answers.get(row.number) if about else None
            if done is not None and done.state == "refused":
                return  # steps have an order: those below wait until this one is corrected or cleared

    async def _forget_cleared(self, kept: Kept, filled: set[int]) -> None:
        """A refused row that its author cleared no longer stands in the way."""
        cleared = [number for number, each in kept.answers.items() if each.state == "refused" and number not in filled]
        if cleared:
            for number in cleared:
                del kept.answers[number]
            kept.to_write = kept.to_write or "status"
            await asyncio.to_thread(self.threads.store, kept)

    def _items(self, row: AnswerRow, keys: Keys, kept: Kept | None) -> tuple[Draft | Problem, ...]:
        """What a row asks for; nothing when it was dealt with."""
        done = kept.answers.get(row.number) if kept else None
        if done is not None and row.digest in (done.digest, done.changed):
            return ()
        if done is not None and done.state == "sent":
            return (changed_after(row.line, row.number),)
        draft = answers.draft_of(row, keys, now=self.now(), person=kept.person if kept else None)
        return (draft,) if isinstance(draft, Draft) else tuple(draft)

    def is_mine(self, source: str) -> bool:
        return source.startswith((SOURCE, _UNREADABLE))

    def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Remember what became of a row. Blocks; raises OSError; idempotent."""
        if batch.source.startswith(_UNREADABLE):
            self._report(batch)
            return
        ident, number, digest = _parts(batch.source)
        kept = self.threads.of_ident(ident)
        row = self._rows.pop(batch.source, None)
        if kept is None:
            path = self.places.received / batch.name
            seen = places.look(path)
            if seen is not None:
                self._seen[path] = seen
            return
        problems = [item for item in batch.items if isinstance(item, Problem)]
        problems += [outcome.problem for outcome in outcomes if outcome.problem and outcome.problem not in problems]
        draft = next((item for item in batch.items if isinstance(item, Draft)), None)
        done = kept.answers.get(number)
        texts = dict(row.texts) if row else {}
        if problems and done is not None and done.state == "sent":
            words = " ".join(problem.fr if self.language == "fr" else problem.en for problem in problems)
            kept.answers[number] = done.model_copy(update={"changed": digest, "words": words})
        elif problems:
            words = "\n".join(_to_correct(problem, self.language) for problem in problems)
            type_ = draft.type if draft else ""
            kept.answers[number] = KeptAnswer(digest=digest, type=type_, state="refused", texts=texts, words=words)
        elif draft is not None:
            evt = next((outcome.evt for outcome in outcomes if outcome.evt), None)
            kept.answers[number] = KeptAnswer(
                digest=digest,
                type=draft.type,
                state="sent",
                texts=texts,
                words=taken_over(self.now(), self.language),
                evt=evt,
            )
        kept.to_write = kept.to_write or "status"
        self.threads.store(kept)

    def _report(self, batch: Batch) -> None:
        """A workbook that cannot be read has no column to say so in."""
        path = self.places.received / batch.name
        seen = places.look(path)
        problems = tuple(item for item in batch.items if isinstance(item, Problem))
        data = report.write_report(
            batch.name, [RowResult("", None, False, problems, ())], now=self.now(), language=self.language
        )
        places.write_durably(self.places.reports / f"{path.stem}.reponse.rapport.xlsx", data)
        if seen is not None:
            self._seen[path] = seen

    def changed(self, evt: str, source: str, line: str, state: str, code: str | None) -> None:
        """An answer of ours moved: say so beside its row. Blocks; raises OSError."""
        if not source.startswith(SOURCE) or state not in ("promised", "delivered", "rejected", "refused", "cancelled"):
            return
        self.threads.load()
        ident, number, _ = _parts(source)
        kept = self.threads.of_ident(ident)
        answer = kept.answers.get(number) if kept else None
        if kept is None or answer is None or answer.evt not in (None, evt):
            return
        now = self.now()
        words = f"{lifecycle.state_label('outgoing', state, self.language)} ({moment_in_words(now, now.tzinfo)})"
        if code is not None and code in CODES:
            words += f" : {CODES[code].title(self.language)}"
        failed = state in ("rejected", "refused", "cancelled")
        update = {"words": words, "state": "refused" if failed else "sent"}
        kept.answers[number] = answer.model_copy(update=update)
        kept.to_write = kept.to_write or "status"
        self.threads.store(kept)


def _about_files(arrived: Arrived, files: Sequence[str], language: Language) -> list[KeptSection]:
    lines = [KeptLine(label=label, value=value) for label, value in attached.in_words(arrived, files, language)]
    return [KeptSection(title="Pièces jointes" if language == "fr" else "Attachments", lines=lines)] if lines else []


def _is_as_before(path: Path, before: Look | None) -> bool:
    """Nobody has opened the workbook or saved it since it was looked at."""
    return places.look(path) == before and (before is None or not places.is_open_elsewhere(path))


def _keys_of(kept: Kept | None) -> Keys | None:
    if kept is None or not kept.events:
        return None
    first = kept.events[0]
    return Keys(kept.thread, first.ident, first.iss, first.evt)


def _parts(source: str) -> tuple[str, int, str]:
    ident, _, row = source.removeprefix(SOURCE).rpartition("#")
    number, _, digest = row.partition(":")
    return ident, int(number), digest


def _to_correct(problem: Problem, language: Language) -> str:
    name = problem.at(language).partition("(")[2].rstrip(")")
    if language == "en":
        return f"To correct {name}: {problem.en}" if name else f"To correct: {problem.en}"
    return f"À corriger {name} : {problem.fr}" if name else f"À corriger : {problem.fr}"


_NO_THREAD = Problem(
    "fichier",
    "thread_unknown",
    "Ce classeur ne dit plus à quelle orientation il répond. Répondez dans le classeur d'origine.",
    "This workbook no longer says which referral it answers. Answer in the original workbook.",
    where_en="file",
)


def answer_in_words(arrived: Arrived, zone: datetime.tzinfo | None, language: Language) -> str:
    """What an answer says beside its type, on one line."""
    lines = [said for section in sections_of(arrived.facts, zone, language) for said in section.lines]
    return "; ".join(f"{said.label} : {said.value}" for said in lines)
