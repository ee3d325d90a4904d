# SPDX-License-Identifier: Apache-2.0
"""Files dropped into `a-envoyer/`: read when nobody writes to them any more, reported on, moved.

    read        the bytes are hashed and parsed; nothing is changed. Crash: read again, same `source`
    (accepted)  the outbox has it. Crash: offered again, the outbox says `again`
    named       the journal holds the names of report and destination. Crash: the same names are used again
    reported    report and rows to correct are durable. Crash: written again, the same
    moved       files that its rows name first, itself last; a file is in its folder or moved, never gone

Invariants: `source` is `sha256:` and the hash of exactly the bytes that were parsed; a row that says what a sent row of
an earlier file said is not sent twice; a file that changed after it was read stays, and what was read is kept.
Never: raises because of what is in a file, deletes what was dropped.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapters.connectors import answers, attached, columns, places, report, rows, sheets
from adapters.connectors.as_typed import in_words
from adapters.connectors.column_type import FORMS
from adapters.connectors.contract import Batch, Draft, Outcome, Problem
from adapters.connectors.places import Look, Places
from adapters.connectors.report import RowResult
from adapters.connectors.row import Note
from adapters.connectors.rows import Reading
from adapters.connectors.threads import KeptAnswer, Threads
from adapters.connectors.tracking import Journal, SentRow, TakenFile
from schemas.attachments import File
from schemas.errors import Language


@dataclass(frozen=True, slots=True)
class _Taken:
    """A file that was read and offered, and is not settled yet."""

    path: Path
    look: Look
    data: bytes
    reading: Reading


class Quiet:
    """Tells files that are whole from files that are still being copied: unchanged for `quiet_s` seconds."""

    def __init__(self, now: Callable[[], datetime.datetime], quiet_s: float) -> None:
        self._now = now
        self._quiet_s = quiet_s
        self._seen: dict[Path, tuple[Look, float]] = {}

    def is_quiet(self, path: Path, look: Look) -> bool:
        """By the file's own times, or because two looks of ours that far apart saw the same."""
        if self._quiet_s <= 0:
            return True
        now = self._now().timestamp()
        before = self._seen.get(path)
        if before is None or before[0] != look:
            self._seen[path] = (look, now)
            return now - look.changed_at >= self._quiet_s
        return max(now - before[1], now - look.changed_at) >= self._quiet_s

    def forget(self, path: Path) -> None:
        self._seen.pop(path, None)


@dataclass(slots=True)
class Drops:
    places: Places
    journal: Journal
    threads: Threads
    recipients: Callable[[], Sequence[tuple[str, str]]]
    now: Callable[[], datetime.datetime]
    language: Language
    quiet: Quiet
    max_rows: int
    _taken: dict[str, _Taken] = field(default_factory=dict)

    async def collect(self) -> AsyncGenerator[Batch, None]:
        """One batch per file that is whole. Raises OSError where the folder itself cannot be read."""
        for path in await asyncio.to_thread(places.dropped, self.places.to_send):
            seen = await asyncio.to_thread(places.look, path)
            if seen is None or not self.quiet.is_quiet(path, seen):
                continue
            try:
                data = await asyncio.to_thread(places.read, path, sheets.MAX_FILE_BYTES)
            except (FileNotFoundError, PermissionError):
                continue  # taken away again, or held open by Excel: the next look will tell
            source = f"sha256:{await asyncio.to_thread(_hash_whole, path, data)}"
            try:
                reading = await self._read(data, path.name, source)
            except attached.StillWrittenError:
                continue  # a file that it names is being copied: both are taken together
            self._taken[source] = _Taken(path, seen, data, reading)
            yield Batch(source, path.name, reading.items)

    async def _read(self, data: bytes, name: str, source: str) -> Reading:
        tables = await sheets.read_tables(
            data, name, sheets=(*FORMS, answers.SHEET, answers.KEY_SHEET), max_rows=self.max_rows
        )
        if isinstance(tables, Problem):
            return Reading((tables,), (), {}, {})
        if tables.named(answers.SHEET) is not None:
            return self._read_answers(tables)
        first = self.journal.files.get(source)
        fetch = attached.Fetching(self.places, self.quiet.is_quiet, first.attached if first else {})
        reading = await asyncio.to_thread(
            rows.read_form, tables, recipients=self.recipients(), now=self.now(), max_rows=self.max_rows, fetch=fetch
        )
        return self._without_repeats(reading, source)

    def _read_answers(self, tables: sheets.Tables) -> Reading:
        """A delivered workbook that was dropped here instead of saved in its place."""
        table = tables.named(answers.SHEET)
        keys = answers.keys_of(tables.named(answers.KEY_SHEET))
        if table is None or keys is None:
            return Reading((_NOT_OURS,), (), {}, {})
        found = answers.answer_rows(table)
        if isinstance(found, Problem):
            return Reading((found,), (), {}, {})
        kept = self.threads.of_ident(keys.ident)
        items: list[Draft | Problem] = []
        for row in found:
            done = kept.answers.get(row.number) if kept else None
            if done is not None and done.state == "sent":
                if done.digest != row.digest:
                    items.append(changed_after(row.line, row.number))
                continue
            draft = answers.draft_of(row, keys, now=self.now(), person=kept.person if kept else None)
            items.extend([draft] if isinstance(draft, Draft) else draft)
        texts = {row.line: dict(row.texts) for row in found}
        digests = {row.line: row.digest for row in found}
        return Reading(tuple(items) or (_NOTHING_NEW,), (), texts, digests)

    def _without_repeats(self, reading: Reading, source: str) -> Reading:
        """Rows that an earlier file sent already, or that stand twice in this one, become problems."""
        first: dict[str, str] = {}
        items: list[Draft | Problem] = []
        for item in reading.items:
            digest = reading.digests.get(item.line) if isinstance(item, Draft) else None
            if digest is None:
                items.append(item)
                continue
            earlier = self.journal.by_digest.get(digest)
            if earlier is not None and earlier.source != source:
                items.append(_repeated(item.line, earlier, self.now().tzinfo))
            elif digest in first:
                items.append(_doubled(item.line, first[digest]))
            else:
                items.append(item)
            first.setdefault(digest, item.line)
        return replace(reading, items=tuple(items))

    def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Report, then move. Blocks; raises OSError; idempotent."""
        taken = self._taken.get(batch.source) or self._find(batch)
        if taken is None:
            return  # moved already
        results = results_of(batch, outcomes, taken.reading)
        first = self.journal.files.get(batch.source)
        dropped_again = first is not None and self._is_elsewhere(first, taken.path)
        sent = _sent_files(batch, outcomes)
        files = self._names(batch, taken.path.name, results, sent) if first is None or dropped_again else first
        now = self.now()
        if dropped_again:
            results = [replace(result, again=True) for result in results]
        else:
            # Known names first: a crash from here on writes the same files again, not others beside them.
            self.journal.add([files, *self._sent_rows(batch, outcomes, taken.reading, now)])
            self._remember_answers(batch, outcomes, taken.reading)
        to_correct = report.write_to_correct(
            results, taken.reading.rows, recipients=self.recipients(), language=self.language
        )
        if to_correct is not None and files.to_correct is not None:
            places.write_durably(self.places.reports / files.to_correct, to_correct)
        written = report.write_report(
            taken.path.name, results, now=now, language=self.language, to_correct=files.to_correct
        )
        places.write_durably(self.places.reports / files.report, written)
        if not dropped_again:
            attached.move(sent, files.attached, self.places)
        self._move(taken, self.places.root / files.moved)
        self._taken.pop(batch.source, None)
        self.quiet.forget(taken.path)

    def _find(self, batch: Batch) -> _Taken | None:
        """After a restart: the file may be there still."""
        path = self.places.to_send / batch.name
        seen = places.look(path) if Path(batch.name).name == batch.name else None
        if seen is None:
            return None
        data = places.read(path, sheets.MAX_FILE_BYTES)
        if f"sha256:{_hash_whole(path, data)}" != batch.source:
            return None
        texts: dict[str, dict[str, str]] = {}
        return _Taken(path, seen, data, Reading(batch.items, (), texts, {}))

    def _is_elsewhere(self, files: TakenFile, path: Path) -> bool:
        """Whether the file of that content was moved before, so that this is another drop of it."""
        target = self.places.root / files.moved
        return target.exists() and not (path.exists() and target.samefile(path))

    def _names(self, batch: Batch, name: str, results: Sequence[RowResult], sent: Sequence[File]) -> TakenFile:
        taken = frozenset(self.journal.names)
        any_sent = any(result.sent for result in results)
        folder = self.places.sent if any_sent else self.places.refused
        stem = Path(name).stem or "fichier"
        refused = any(result.line and result.problems for result in results)
        return TakenFile(
            source=batch.source,
            report=places.free_name(self.places.reports, f"{stem}.rapport.xlsx", taken=taken),
            to_correct=(
                places.free_name(self.places.reports, f"{stem}.a-corriger.xlsx", taken=taken)
                if refused and all(not result.line.startswith(answers.SHEET) for result in results)
                else None
            ),
            moved=f"{folder.name}/{places.free_name(folder, name, taken=taken)}",
            at=self.now().isoformat(),
            attached=attached.destinations(sent, self.places, taken),
        )

    def _sent_rows(
        self, batch: Batch, outcomes: Sequence[Outcome], reading: Reading, now: datetime.datetime
    ) -> list[SentRow]:
        drafts = {item.line: item for item in batch.items if isinstance(item, Draft)}
        return [
            SentRow(
                evt=outcome.evt,
                source=batch.source,
                line=outcome.line,
                type=drafts[outcome.line].type,
                to=drafts[outcome.line].to,
                person=drafts[outcome.line].person,
                file=batch.name,
                digest=reading.digests.get(outcome.line, ""),
                at=now.isoformat(),
            )
            for outcome in outcomes
            if outcome.evt is not None and outcome.line in drafts and drafts[outcome.line].thread is None
        ]

    def _remember_answers(self, batch: Batch, outcomes: Sequence[Outcome], reading: Reading) -> None:
        drafts = {item.line: item for item in batch.items if isinstance(item, Draft) and item.thread is not None}
        for outcome in outcomes:
            draft = drafts.get(outcome.line)
            kept = self.threads.of_thread(draft.thread) if draft is not None and draft.thread else None
            if draft is None or kept is None or outcome.evt is None:
                continue
            kept.answers[int(outcome.line.rpartition("!")[2])] = KeptAnswer(
                digest=reading.digests.get(outcome.line, ""),
                type=draft.type,
                state="sent",
                texts=dict(reading.rows.get(outcome.line, {})),
                words=taken_over(self.now(), self.language),
                evt=outcome.evt,
            )
            kept.to_write = kept.to_write or "status"
            self.threads.store(kept)

    def _move(self, taken: _Taken, target: Path) -> None:
        if places.look(taken.path) != taken.look:
            # Saved again since we read it: what was read is kept here, what is new is collected as new.
            if not target.exists():
                places.write_durably(target, taken.data)
            return
        try:
            places.move(taken.path, target)
        except FileExistsError:
            places.move(taken.path, target.with_name(places.free_name(target.parent, target.name)))


def _sent_files(batch: Batch, outcomes: Sequence[Outcome]) -> list[File]:
    """Files of rows that were sent and of none that has to be corrected, each once."""
    sent = {outcome.line for outcome in outcomes if outcome.evt is not None}
    drafts = [item for item in batch.items if isinstance(item, Draft)]
    needed = {file.name for draft in drafts if draft.line not in sent for file in draft.files}
    found = {file.name: file for draft in drafts if draft.line in sent for file in draft.files}
    return [file for name, file in found.items() if name not in needed]


def _hash_whole(path: Path, data: bytes) -> str:
    """SHA-256 of the file; `data` holds it unless it is over the limit."""
    if len(data) <= sheets.MAX_FILE_BYTES:
        return hashlib.sha256(data).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def placed(problem: Problem) -> Problem:
    """What the rules found, named as its author sees it: row and column."""
    column = None if problem.path is None else columns.column_at(problem.path)
    _, _, row = problem.line.rpartition("!")
    if column is None:
        return replace(problem, where=f"ligne {row}", where_en=f"row {row}")
    technical = f" [{problem.path}]"
    return replace(
        problem,
        where=f"ligne {row}, « {column.fr} »",
        where_en=f"row {row}, « {column.en} »",
        fr=problem.fr.replace(technical, ""),
        en=problem.en.replace(technical, ""),
    )


def results_of(batch: Batch, outcomes: Sequence[Outcome], reading: Reading) -> list[RowResult]:
    """One result per row of the file, in its order; the file as a whole first."""
    drafts = {item.line: item for item in batch.items if isinstance(item, Draft)}
    problems: dict[str, list[Problem]] = {}
    for item in batch.items:
        if isinstance(item, Problem):
            problems.setdefault(item.line, []).append(item)
    sent: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.line not in drafts:
            continue
        if outcome.problem is not None:
            problems.setdefault(outcome.line, []).append(placed(outcome.problem))
        else:
            sent[outcome.line] = outcome
    notes: dict[str, list[Note]] = {}
    for note in reading.notes:
        notes.setdefault(note.line, []).append(note)
    lines = dict.fromkeys([*(item.line for item in batch.items if item.line), *(line for line in notes if line)])
    whole = [""] if "" in problems or "" in notes else []
    return [
        RowResult(
            line,
            reading.rows.get(line, {}).get("reference_interne") or None,
            line in sent,
            tuple(problems.get(line, ())),
            tuple(notes.get(line, ())),
        )
        for line in [*whole, *lines]
    ]


def _repeated(line: str, earlier: SentRow, zone: datetime.tzinfo | None) -> Problem:
    number = line.rpartition("!")[2]
    at = datetime.datetime.fromisoformat(earlier.at).astimezone(zone)
    before = earlier.line.rpartition("!")[2]
    return Problem(
        f"ligne {number}",
        "duplicate",
        f"Cette ligne a déjà été envoyée le {in_words(at.date())} (fichier « {earlier.file} », ligne {before}). "
        "Elle n'est pas partie une seconde fois ; pour la renvoyer vraiment, changez la date de la décision.",
        f"This row was sent already on {at:%d/%m/%Y} (file « {earlier.file} », row {before}). "
        "It was not sent again; to send it again on purpose, change the date of the decision.",
        line,
        where_en=f"row {number}",
    )


def _doubled(line: str, first: str) -> Problem:
    number, before = line.rpartition("!")[2], first.rpartition("!")[2]
    return Problem(
        f"ligne {number}",
        "duplicate",
        f"Cette ligne dit la même chose que la ligne {before}. Gardez-en une seule.",
        f"This row says the same as row {before}. Keep only one.",
        line,
        where_en=f"row {number}",
    )


def taken_over(now: datetime.datetime, language: Language) -> str:
    """What stands beside an answer that is on its way."""
    if language == "en":
        return f"Taken over on {now:%d/%m/%Y %H:%M}, being sent"
    return f"Prise en charge le {in_words(now.date())}, {now:%H:%M} : envoi en cours"


def changed_after(line: str, number: int) -> Problem:
    """A row of « Réponse » that was edited after it was sent."""
    return Problem(
        f"ligne {number}",
        "duplicate",
        "Cette étape a déjà été envoyée : sa modification n'est pas partie. Ajoutez une nouvelle ligne.",
        "This step was sent already: its change was not sent. Add a new row.",
        line,
        where_en=f"row {number}",
    )


_NOT_OURS = Problem(
    "fichier",
    "thread_unknown",
    "Ce classeur ne dit plus à quelle orientation il répond. Répondez dans le classeur d'origine, dossier « recus ».",
    "This workbook no longer says which referral it answers. Answer in the original workbook, folder « recus ».",
    where_en="file",
)
_NOTHING_NEW = Problem(
    "fichier",
    "row_invalid",
    "La feuille « Réponse » ne contient aucune ligne nouvelle : rien n'a été envoyé.",
    "The sheet « Réponse » holds no new row: nothing was sent.",
    where_en="file",
)
