# SPDX-License-Identifier: Apache-2.0
"""The watched folder: an agency that works in Excel drops workbooks and finds workbooks.

    a-envoyer/  ->  Drafts        (`drops.py`: read, offered, reported, moved)
    recus/      <-  what arrived  (`received.py`: one workbook per thread, answered in its sheet « Réponse »)
    rapports/   <-  reports row by row, and `suivi.xlsx`: what became of each row sent (`tracking.py`); what is overdue
                    stands there and in `A-TRAITER.txt`, without a word of anybody (`notices.py`); what an erasure
                    leaves to a person stands on a page of its own (`by_hand.py`)

Invariants: nothing about the content of a file is raised; nothing dropped is lost, doubled or overwritten; names of
persons stand inside the agency's own files only, never in a file's name, an error or a log.
All blocking work runs in threads, all parsing in a child process. `deliver`, `settle` and `changed` never run at the
same time as each other (one lock): they share the threads' files and the journal.

Files stay in clear in the agency's folder (0700, 0600), originals in `envoyes/`: whoever may open the folder may read
them. Their sealing and removal belong to attended sessions.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from adapters.connectors import by_hand, notices, places, sheets, template
from adapters.connectors.by_hand import ErasedHere
from adapters.connectors.contract import Arrived, Batch, Erased, Escalation, LastContact, NotNowError, Outcome
from adapters.connectors.drops import Drops, Quiet
from adapters.connectors.places import Names, Places
from adapters.connectors.received import Received, answer_in_words
from adapters.connectors.threads import Threads
from adapters.connectors.tracking import Attached, Came, Journal, Moved, Noticed, write_tracking
from schemas.errors import Language, SourceError
from schemas.plain.attachment import ANNOUNCED
from schemas.plain.rights import ByHand

JOURNAL = "suivi.jsonl"
ERASED = "effacements.jsonl"
TRACKING = "suivi.xlsx"
TO_DO = "A-TRAITER.txt"
TEMPLATE = "modele-orientation.xlsx"
TEMPLATE_CSV = "modele-orientation.csv"
READ_ME = "LISEZ-MOI.txt"
_WRITE_AT_ONCE = 300
"""Rows up to which `suivi.xlsx` is made anew at every change; beyond, at a look, `_REST_S` after the last time."""
_REST_S = 30.0


class FolderConnector:
    """A connector over one agency's folder.

    Args:
        root: the agency's folder; made (0700) if it is not there.
        agency: its id, for the words in LISEZ-MOI.txt.
        recipients: (agency id, label) of those it may write to, asked anew for every file.
        now: aware; its zone is the agency's own: dates typed without a time are meant in it.
        quiet_s: seconds for which a file must not have changed before it is read.
        max_rows: per file; more is refused whole.
    """

    name: ClassVar[str] = "folder"

    def __init__(
        self,
        root: Path,
        *,
        agency: str,
        recipients: Callable[[], Sequence[tuple[str, str]]],
        now: Callable[[], datetime.datetime],
        language: Language = "fr",
        names: Names | None = None,
        quiet_s: float = 2.0,
        max_rows: int = sheets.MAX_ROWS,
    ) -> None:
        self._agency = agency
        self._recipients = recipients
        self._now = now
        self._language = language
        self._names = names or Names()
        self.places = Places.under(root, self._names)
        self._journal = Journal(self.places.reports / JOURNAL)
        self._threads = Threads(self.places.states)
        self._erased_here = ErasedHere(self.places.states / ERASED)
        quiet = Quiet(now, quiet_s)
        self._drops = Drops(self.places, self._journal, self._threads, recipients, now, language, quiet, max_rows)
        self._received = Received(self.places, self._threads, now, language, quiet)
        self._prepared = False
        self._tracking_stale = True
        self._erased = False
        """What was erased stands in `suivi.xlsx` until it is written anew, and that cannot wait."""
        self._tracking_at = float("-inf")
        self._by_hand: tuple[str, ...] = ()
        """What people have to do with files, as `A-TRAITER.txt` says it."""
        self._contacts: tuple[LastContact, ...] = ()
        """As last told: nobody before the clock was first looked at."""
        self._lock = asyncio.Lock()

    async def collect(self) -> AsyncIterator[Batch]:
        """What was dropped and what was answered, then ends. Bad input is a Problem.

        Raises:
            SourceError: `storage_full`, or `folder_unusable`.
        """
        try:
            async with self._lock:
                await asyncio.to_thread(self._prepare)
            async with aclosing(self._received.collect()) as answered:
                async for batch in answered:
                    yield batch
            async with aclosing(self._drops.collect()) as dropped:
                async for batch in dropped:
                    yield batch
            await self._catch_up()
        except OSError as failed:
            raise _of_the_folder(failed) from None

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Report and move, or remember the answer's fate. Idempotent. Raises NotNowError."""
        mine = self._received if self._received.is_mine(batch.source) else self._drops
        async with self._lock:
            try:
                await asyncio.to_thread(self._prepare)
                await asyncio.to_thread(mine.settle, batch, outcomes)
            except OSError:
                raise NotNowError from None
            self._tracking_stale = True

    async def deliver(self, arrived: Arrived) -> None:
        """A workbook in `recus/`, or a line of `suivi.xlsx` for an answer. Idempotent. Raises NotNowError."""
        if arrived.type.startswith(("receipt.", "chain.")):
            return  # what machines told each other; `changed` says what it means
        async with self._lock:
            try:
                await asyncio.to_thread(self._prepare)
                if self._is_for_a_workbook(arrived):
                    kept = await asyncio.to_thread(self._received.remember, arrived)
                    self._tracking_stale = self._tracking_stale or bool(self._journal.noticed)
                    # Open in a program: what arrived is remembered durably, and shown at a later look.
                    await self._received.write(kept)
                else:
                    await asyncio.to_thread(self._came, arrived)
                    if len(self._journal.rows) <= _WRITE_AT_ONCE:
                        await self._write_tracking()
            except OSError:
                raise NotNowError from None

    async def erase(self, ident: str) -> Erased:
        """Out of the workbook in `recus/`, of the table and its journal, and of what is remembered of it. What is left
        to a person is told on a page in `rapports/`. Idempotent.

        Raises NotNowError: also where somebody has the workbook or the table open.
        """
        async with self._lock:
            try:
                await asyncio.to_thread(self._prepare)
                found = await asyncio.to_thread(self._found, ident)
                if await asyncio.to_thread(self._journal.erase, self._agency, ident):
                    self._erased = self._tracking_stale = True
                gone = await self._received.erase(ident)
                await self._write_tracking()
                # If we died between journal and table, the table is stale at the next start.
                stays = self._tracking_stale and await asyncio.to_thread((self.places.reports / TRACKING).exists)
                if stays or not gone:
                    raise NotNowError
            except OSError:
                raise NotNowError from None
            return found

    def _found(self, ident: str) -> Erased:
        """Where that event is told before it is erased, with all that earlier looks found; the page for a person."""
        there, moved = self._received.copies(ident)
        own = self._own_files(ident)
        shown = [f"{self.places.received.name}/{name}" for name in there]
        left: list[tuple[ByHand, list[str]]] = []
        if moved:
            left.append(("find-moved-copies", [f"{self.places.received.name}/{name}" for name in moved]))
        if there or moved:
            left.append(("destroy-other-copies", shown))
        if own:
            left.append(("destroy-own-files", own))
        if not left:
            return self._erased_here.of(ident) or Erased()
        data = by_hand.page(ident, left, self._now(), self._language)
        places.write_durably(self.places.reports / by_hand.page_name(ident), data)
        return self._erased_here.note(ident, Erased(bool(there), tuple(code for code, _ in left)))

    def _own_files(self, ident: str) -> list[str]:
        """The file from which we sent that event, while it is where we put it."""
        agency, _, evt = ident.rpartition("/")
        row = self._journal.rows.get(evt) if agency == self._agency else None
        taken = None if row is None else self._journal.files.get(row.source)
        if taken is None or not (self.places.root / taken.moved).exists():
            return []
        return [taken.moved]

    async def escalated(self, escalation: Escalation) -> None:
        """Beside its row in `suivi.xlsx`, and in `A-TRAITER.txt`, at the next look at the latest. Idempotent.

        Raises NotNowError.
        """
        due = datetime.datetime.fromtimestamp(escalation.due_at, self._now().tzinfo)
        line = Noticed(
            kind=escalation.kind,
            thread=escalation.thread,
            evt=escalation.evt,
            peer=escalation.peer,
            due_at=due.isoformat(),
            at=self._now().isoformat(),
        )
        async with self._lock:
            try:
                await asyncio.to_thread(self._prepare)
                if await asyncio.to_thread(self._journal.add, [line]):
                    self._tracking_stale = True
                await self._write_tracking()
            except OSError:
                raise NotNowError from None

    async def contacts(self, known: Sequence[LastContact]) -> None:
        """Who is silent in `A-TRAITER.txt`, everybody on a sheet of `suivi.xlsx`. Idempotent. Raises NotNowError."""
        async with self._lock:
            if _to_call(known) != _to_call(self._contacts):
                self._tracking_stale = True
            self._contacts = tuple(known)
            try:
                await asyncio.to_thread(self._prepare)
                await self._write_tracking()
            except OSError:
                raise NotNowError from None

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        """Beside the answer's row, or in `suivi.xlsx`, at the next look. Idempotent. Raises NotNowError."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._prepare)
                if self._received.is_mine(source):
                    await asyncio.to_thread(self._received.changed, evt, source, line, state, code)
                else:
                    moved = self._moved(evt, line, source, state, code)
                    if await asyncio.to_thread(self._journal.add, [moved]):
                        self._tracking_stale = True
            except OSError:
                raise NotNowError from None

    def _moved(self, evt: str, line: str, source: str, state: str, code: str | None) -> Moved | Attached:
        """Attachments are told under the line of what they go with."""
        at = self._now().isoformat()
        if not line.endswith(f" {ANNOUNCED}"):
            return Moved(evt=evt, state=state, code=code, at=at)
        row = line.removesuffix(f" {ANNOUNCED}")
        return Attached(source=source, line=row, state=state, code=code, at=at)

    def _is_for_a_workbook(self, arrived: Arrived) -> bool:
        if arrived.type == "referral.requested" or arrived.type.startswith("case.") or arrived.files:
            return True
        return self._threads.of_thread(arrived.thread) is not None

    def _came(self, arrived: Arrived) -> None:
        came = Came(
            ident=arrived.ident,
            thread=arrived.thread,
            ref=arrived.ref,
            person=arrived.person,
            type=arrived.type,
            state=arrived.state,
            words=answer_in_words(arrived, self._now().tzinfo, self._language),
            late=arrived.late,
            at=arrived.facts.occurred_at.isoformat(),
        )
        if self._journal.add([came]):
            self._tracking_stale = True

    async def _catch_up(self) -> None:
        """Workbooks and the table that could not be written, or need not have been, until now."""
        async with self._lock:
            for kept in self._threads.all():
                if kept.to_write:
                    await self._received.write(kept)
            await self._write_tracking()

    async def _write_tracking(self) -> None:
        """`suivi.xlsx` and `A-TRAITER.txt` anew; the table not while somebody has it open: then at a later look."""
        path = self.places.reports / TRACKING
        left = await asyncio.to_thread(self._left_by_hand)
        if left != self._by_hand:
            self._tracking_stale = True
        if not self._tracking_stale:
            return
        silent = any(one.silent_since is not None for one in self._contacts)
        empty = not (self._journal.rows or self._journal.came or self._journal.noticed or silent)
        if empty and not await asyncio.to_thread(path.exists):
            if left != self._by_hand:
                await asyncio.to_thread(self._write_to_do)
            return
        now = self._now().timestamp()
        # Ten thousand rows take three seconds: not after every one of their ten thousand changes.
        many = len(self._journal.rows) > _WRITE_AT_ONCE and not self._erased
        if many and 0 <= now - self._tracking_at < _REST_S:
            return
        to_do = await asyncio.to_thread(self._write_to_do)
        if await asyncio.to_thread(places.is_open_elsewhere, path):
            return
        data = await asyncio.to_thread(
            write_tracking,
            self._journal,
            recipients=self._recipients(),
            now=self._now(),
            language=self._language,
            to_do=to_do,
            contacts=self._contacts,
        )
        try:
            await asyncio.to_thread(places.write_durably, path, data)
        except PermissionError:
            return  # Excel on Windows holds it
        self._tracking_stale = self._erased = False
        self._tracking_at = now

    def _write_to_do(self) -> dict[str, str]:
        """`A-TRAITER.txt` as it is now, or gone; and what has to be done, by the evt of ours that it is about."""
        names, zone = dict(self._recipients()), self._now().tzinfo
        standing = notices.standing(self._journal, self._received.arrivals(), self._now())
        path = self.places.reports / TO_DO
        telephones = {one.agency: one.telephone for one in self._contacts if one.telephone is not None}
        silent = [one for one in self._contacts if one.silent_since is not None]
        lines = [notices.silence_in_words(one, names, zone, self._language) for one in silent]
        to_do: dict[str, str] = {}
        for one in standing:
            words = notices.in_words(one, names, zone, self._language, telephones)
            kept = self._threads.of_thread(one.thread)
            sent = self._journal.rows.get(one.evt)
            where = kept.file if kept is not None else sent.line.replace("!", " ") if sent is not None else ""
            lines.append(f"{words} ({where})" if where else words)
            to_do[one.evt] = "\n".join(filter(None, (to_do.get(one.evt), words)))
        left = self._left_by_hand()
        lines.extend(left)
        if lines:
            places.write_durably(path, notices.file_of(lines, self._now(), self._language))
        else:
            path.unlink(missing_ok=True)
        self._by_hand = left
        return to_do

    def _left_by_hand(self) -> tuple[str, ...]:
        """Pages of erasures that nobody has done yet; what was dropped and is never read, without its name: it may be
        somebody's."""
        french = self._language == "fr"
        what = "Effacement à finir par une personne : " if french else "Erasure for a person to finish: "
        pages = sorted(path.name for path in self.places.reports.glob(f"{by_hand.PAGE}*.txt"))
        lines = [f"{what}{self.places.reports.name}/{name}" for name in pages]
        count = places.not_files(self.places.to_send)
        if count:
            name = self.places.to_send.name
            lines.append(
                f"Dossiers ou raccourcis déposés dans {name} : {count}. Ils ne sont pas lus : déposez les fichiers "
                "eux-mêmes, puis retirez-les."
                if french
                else f"Folders or shortcuts dropped into {name}: {count}. They are not read: drop the files "
                "themselves, then take them away."
            )
        return tuple(lines)

    def _prepare(self) -> None:
        """Folders, words and templates, once per process. Never replaces a file: it may have been filled in."""
        if self._prepared:
            return
        self.places.make()
        self._threads.load()
        self._journal.load()
        read_me = self.places.root / READ_ME
        if not read_me.exists():
            places.write_durably(read_me, _read_me(self._names, self._agency))
        recipients = self._recipients()
        if recipients and not (self.places.root / TEMPLATE).exists():
            form = template.template_xlsx(recipients=recipients, language=self._language)
            places.write_durably(self.places.root / TEMPLATE, form)
        if not (self.places.root / TEMPLATE_CSV).exists():
            places.write_durably(self.places.root / TEMPLATE_CSV, template.template_csv(self._language))
        self._prepared = True


def _to_call(known: Sequence[LastContact]) -> list[tuple[str, int | None, str | None]]:
    return [(one.agency, one.silent_since, one.telephone) for one in known]


def _of_the_folder(failed: OSError) -> SourceError:
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        return SourceError("storage_full", path="folder")
    return SourceError("folder_unusable")


def _read_me(names: Names, agency: str) -> bytes:
    """For any editor: marked UTF-8, line ends of Windows."""
    return b"\xef\xbb\xbf" + _words(names, agency).replace("\n", "\r\n").encode("utf-8")


def _words(names: Names, agency: str) -> str:
    return f"""\
UMUHUZA : DOSSIER D'ÉCHANGE DE L'AGENCE {agency}

En cas de danger immédiat, téléphonez d'abord. Umuhuza n'est jamais le seul canal.

{names.to_send}/
    Déposez ici vos classeurs remplis (XLSX ou CSV). Le modèle est {TEMPLATE}.
    Enregistrez et fermez le fichier avant de le déposer. Il disparaît de ce dossier
    une fois pris en charge : c'est normal.
{names.attached}/
    Les fichiers (PDF, JPEG, PNG) à joindre à une orientation : mettez-les ici, puis écrivez
    leurs noms dans la colonne « Pièces jointes » du classeur.
{names.reports}/
    Un rapport par fichier déposé : chaque ligne envoyée ou refusée, et pourquoi.
    Les lignes refusées sont reprises dans un fichier « .a-corriger.xlsx » : corrigez-les,
    puis déposez ce fichier dans {names.to_send}/. Ne redéposez pas les lignes envoyées.
    {TRACKING} : où en est chaque envoi. « Arrivé sur la machine » ne veut pas dire lu
    par une personne.
    {TO_DO} : ce qui attend quelqu'un maintenant ; téléphonez. Absent : rien n'attend.
    {by_hand.PAGE}….txt : après un effacement, ce que vous seul pouvez retrouver et détruire.
    Supprimez la page quand c'est fait.
{names.received}/
    Ce que vous recevez : un classeur par orientation ou dossier. Répondez sur sa feuille
    « Réponse », enregistrez, fermez. Chaque ligne nouvelle part une fois. Les pièces jointes
    sont à côté, sous un nom neutre que le classeur indique.
{names.sent}/
    Vos fichiers pris en charge, tels que déposés.
{names.refused}/
    Vos fichiers dont aucune ligne n'a pu partir ; le rapport dit pourquoi.

Ces dossiers contiennent des données sur des personnes. N'en faites pas de copie ailleurs,
ne mettez pas de nom de personne dans le nom d'un fichier.


UMUHUZA: EXCHANGE FOLDER OF AGENCY {agency}

In immediate danger telephone first. Umuhuza is never the only channel.

{names.to_send}/
    Drop your filled-in workbooks here (XLSX or CSV). The template is {TEMPLATE}.
    Save and close the file before you drop it. It leaves this folder once it was
    taken over: that is as it should be.
{names.attached}/
    Files (PDF, JPEG, PNG) to go with a referral: put them here, then write their names into
    the column « Attachments » of the workbook.
{names.reports}/
    One report per dropped file: every row sent or refused, and why. Refused rows are
    repeated in a file « .a-corriger.xlsx »: correct them and drop that file into
    {names.to_send}/. Do not drop the sent rows again.
    {TRACKING}: what became of each row. « Arrived on the computer » does not mean read
    by a person.
    {TO_DO}: what waits for somebody now; telephone. Not there: nothing waits.
    {by_hand.PAGE}….txt: after an erasure, what only you can find and destroy. Delete the
    page when it is done.
{names.received}/
    What you receive: one workbook per referral or case. Answer on its sheet « Réponse »,
    save, close. Every new row is sent once. Attachments lie beside it, under a neutral name
    that the workbook tells.
{names.sent}/
    Your files that were taken over, as dropped.
{names.refused}/
    Your files of which no row could be sent; the report says why.

These folders hold data about persons. Make no copies elsewhere, and put no person's name
into a file's name.
"""
