# SPDX-License-Identifier: Apache-2.0
"""KoboToolbox submissions of the HTCDS XLSForm, dropped into a folder as JSON files.

    folder/*.json          a submission, a list of them, or a page of Kobo's API ({"results": [...]})
    folder/rapports/       one report per file: <name>.rapport.json, and <name>.rapport.txt for people
    folder/traites/        files whose every submission was taken over
    folder/refuses/        files with something to correct; submissions already taken over are recognised on return

One submission is one batch with one draft. Its key is `kobo:<root uuid>`, which an edit in Kobo does not change, so
a page fetched twice sends nothing twice. What became of each root uuid stands in `rapports/.connus/`; were it lost,
the outbox still recognises the keys, and only the remark that a submission was edited becomes vague.

Invariants: a file is moved only after its report is on the disk, and never over another one; a file that is still
being written is left alone; nothing in a file is raised, everything is said in the report.
Crash points (each ends in the same state when `collect` and `settle` run again): before the report, the file is
collected again; between report and move, the report is rewritten and the file moved.
Never: writes into Kobo (it is collect-only: what arrives goes to another connector), follows links, reads more than
1 MiB of a file, or works on the event loop (parsing and disk run in threads).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from adapters.connectors.contract import Arrived, Batch, Erased, NotNowError, Outcome, Problem
from adapters.connectors.kobo_form import Note, Reading, identify, in_english, read
from adapters.connectors.places import write_durably
from schemas import ijson, lifecycle
from schemas.errors import CODES
from topics.durable_file import sync_folder

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
_REPORTS, _DONE, _REFUSED, _KNOWN = "rapports", "traites", "refuses", ".connus"
_SOURCE = re.compile(r"kobo:([A-Za-z0-9-]{1,100})(?::[0-9]+)?")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was when it was looked at or read."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class _Open:
    """A file that was collected and is not settled yet. In memory only: lost, the file is collected again."""

    path: Path
    seen: _Seen
    sha256: str
    readings: Mapping[str, Reading | None]
    """By source, every batch of the file, in order; None: not even a submission."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is settled, by source; written when all is."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What became of a root uuid."""

    source: str
    digest: str
    evt: str | None
    """None: not taken over; it may come again, edited or not, under `kobo:<root>:<tries + 1>`."""
    tries: int
    report: str


class KoboFolder:
    """The connector. One process per folder.

    Args:
        folder: created when missing, with its three folders, for this user only.
        to: who gets what is collected, an agency id.
        event_type: what a submission announces.
        now: aware clock.
        consent_days: setting; how long the consent in `con_Consent` holds from the interview (to be confirmed by
            counsel).
    """

    name: ClassVar[str] = "kobo"

    def __init__(
        self,
        folder: Path,
        *,
        to: str,
        event_type: str = "case.identified",
        now: Callable[[], datetime],
        consent_days: int = 365,
    ) -> None:
        self._folder = folder
        self._to = to
        self._type = event_type
        self._now = now
        self._consent_days = consent_days
        self._looks: dict[int, _Seen] = {}
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()  # settle and changed may meet in two threads
        for each in (folder, *(folder / sub for sub in (_REPORTS, _DONE, _REFUSED)), folder / _REPORTS / _KNOWN):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    # --- collect ----------------------------------------------------------------------------------------------------

    async def collect(self) -> AsyncIterator[Batch]:
        """Batches of the files that are complete.

        Complete: unchanged since an earlier look (an earlier call, also under another name such as `.part`), or
        renamed into place. A folder that cannot be listed now (a share that is away) yields nothing.
        """
        for path, seen in await asyncio.to_thread(self._complete):
            for batch in await asyncio.to_thread(self._read, path, seen):
                yield batch

    def _complete(self) -> list[tuple[Path, _Seen]]:
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError:
            return []
        looks: dict[int, _Seen] = {}
        ready: list[tuple[Path, _Seen]] = []
        for name in names:
            path = self._folder / name
            try:
                info = os.lstat(path)
            except OSError:
                continue  # gone between listing and look
            if not stat.S_ISREG(info.st_mode):
                continue
            seen = _Seen(info.st_ino, info.st_size, info.st_mtime_ns)
            looks[seen.inode] = seen
            if not name.lower().endswith(".json") or name.startswith((".", "~")):
                continue
            # A rename (and setting times or rights) moves ctime and not mtime; every write moves both.
            if self._looks.get(seen.inode) == seen or info.st_ctime_ns > info.st_mtime_ns:
                ready.append((path, seen))
        self._looks = looks
        return ready

    def _read(self, path: Path, seen: _Seen) -> list[Batch]:
        name = path.name.encode("utf-8", "replace").decode()
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(fd, "rb") as file:
                data = file.read(MAX_BYTES + 1)
                info = os.fstat(file.fileno())
        except FileNotFoundError:
            return []
        except OSError:
            where = hashlib.sha256(f"{name}\n{seen}".encode()).hexdigest()
            return [self._unreadable(path, seen, f"kobo:illisible:{where}", where, _NOT_OPENED)]
        if _Seen(info.st_ino, info.st_size, info.st_mtime_ns) != seen:
            return []  # written to after all: at the next look
        sha256 = hashlib.sha256(data).hexdigest()
        if len(data) > MAX_BYTES:
            # Not the whole content's digest, hence not called sha256.
            return [self._unreadable(path, seen, f"kobo:trop-grand:{info.st_size}:{sha256}", sha256, _TOO_LARGE)]
        try:
            # Notepad's byte order mark says nothing; everything else that is not strict JSON in UTF-8 is refused.
            value = ijson.loads(
                data.removeprefix(b"\xef\xbb\xbf"), max_bytes=MAX_BYTES, max_depth=MAX_DEPTH, floats=True
            )
        except ijson.IJsonError:
            return [self._unreadable(path, seen, f"sha256:{sha256}", sha256, _NOT_JSON)]
        submissions = _submissions(value)
        if not submissions:
            return [self._unreadable(path, seen, f"sha256:{sha256}", sha256, _NO_SUBMISSION)]
        return self._batches(path, seen, sha256, submissions, more=isinstance(value, dict) and bool(value.get("next")))

    def _unreadable(self, path: Path, seen: _Seen, source: str, sha256: str, why: Note) -> Batch:
        name = path.name.encode("utf-8", "replace").decode()
        problem = Problem("fichier", "source_unreadable", why.fr, why.en, where_en="file")
        with self._lock:
            self._open[name] = _Open(path, seen, sha256, {source: None})
        return Batch(source, name, (problem,))

    def _batches(self, path: Path, seen: _Seen, sha256: str, submissions: Sequence[Any], *, more: bool) -> list[Batch]:
        name = path.name.encode("utf-8", "replace").decode()
        batches: dict[str, Batch] = {}
        readings: dict[str, Reading | None] = {}
        sent: dict[str, str] = {}  # root -> digest, of the submissions before in this file
        for number, submission in enumerate(submissions, start=1):
            where = f"soumission {number}" if len(submissions) > 1 else ""
            if not isinstance(submission, dict):
                place = hashlib.sha256(f"{sha256}\n{number}".encode()).hexdigest()
                problem = Problem(
                    where or "fichier",
                    "source_unreadable",
                    _NO_SUBMISSION.fr,
                    _NO_SUBMISSION.en,
                    where_en=in_english(where) or "file",
                )
                batches[f"kobo:illisible:{place}"] = Batch(f"kobo:illisible:{place}", name, (problem,))
                readings[f"kobo:illisible:{place}"] = None
                continue
            reading = read(
                submission,
                to=self._to,
                event_type=self._type,
                now=self._now(),
                consent_days=self._consent_days,
                where=where,
            )
            if more and number == 1:
                reading = replace(reading, notes=(*reading.notes, _NOT_LAST_PAGE))
            source, reading = self._source(reading, sent, where)
            batches[source] = Batch(source, name, reading.items)
            readings[source] = reading
        with self._lock:
            self._open[name] = _Open(path, seen, sha256, readings)
        return list(batches.values())

    def _source(self, reading: Reading, sent: dict[str, str], where: str) -> tuple[str, Reading]:
        """The batch's key, and the reading, replaced by a Problem when it is an edit of what was sent already."""
        root = reading.root
        if root is None:
            return f"kobo:sans-identifiant:{reading.digest}", reading
        known = self._known(root)
        earlier = sent.get(root) or (known.digest if known is not None and known.evt is not None else None)
        if earlier is None and reading.before is not None and reading.before != root:
            before = self._known(reading.before)
            earlier = before.digest if before is not None and before.evt is not None else None
        if earlier is not None and earlier != reading.digest:
            where = where or "soumission"
            where_en = in_english(where)
            problem = Problem(where, "row_invalid", _EDITED.fr, _EDITED.en, "submission", where_en=where_en)
            return f"kobo:{root}:modifiee:{reading.digest[:32]}", replace(reading, items=(problem,))
        if any(isinstance(item, Problem) for item in reading.items):
            # Not the submission's own key: corrected in Kobo, it comes again and is to be sent.
            return f"kobo:{root}:refusee:{reading.digest[:32]}", reading
        sent[root] = reading.digest
        if known is None:
            return f"kobo:{root}", reading
        return (known.source if known.evt is not None else f"kobo:{root}:{known.tries + 1}"), reading

    # --- settle -----------------------------------------------------------------------------------------------------

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Writes the report; when every submission of the file is settled, moves the file.

        A batch that this object did not collect (a restart came between) is left: its file is collected again, the
        outbox recognises it, and this is called again.

        Raises:
            NotNowError: the disk is full or the folder away.
        """
        await asyncio.to_thread(self._settle, batch, tuple(outcomes))

    def _settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            opened = self._open.get(batch.name)
            if opened is None or batch.source not in opened.readings:
                return
            reading = opened.readings[batch.source]
            evt = next((each.evt for each in outcomes if each.evt is not None), None)
            again = any(each.again for each in outcomes)
            notes = list(reading.notes) if reading is not None else []
            try:
                if again and evt is not None:
                    known = None if reading is None or reading.root is None else self._known(reading.root)
                    notes.append(_AGAIN if known is not None else _AGAIN_MAYBE_EDITED)
                opened.entries[batch.source] = _entry(batch.source, evt, again, _problems(batch, outcomes), notes)
                report, path = self._report(batch.name, opened.sha256)
                if reading is not None:
                    self._remember(batch.source, reading, evt, path.name)
                if len(opened.entries) == len(opened.readings):
                    # One write for the whole file: a page of Kobo's API may hold hundreds of submissions.
                    before = {entry.get("source"): entry for entry in report["soumissions"]}
                    report["soumissions"] = [
                        opened.entries[source] | {"states": before.get(source, {}).get("states", [])}
                        for source in opened.readings
                    ]
                    self._write_report(path, report)
                    self._move(opened)
                    del self._open[batch.name]
            except OSError:
                raise NotNowError from None

    def _report(self, name: str, sha256: str) -> tuple[dict[str, Any], Path]:
        """The report of this file content, as far as written; a file of the same name and other content has its own."""
        number = 1
        while True:
            path = self._folder / _REPORTS / f"{_numbered(name, number)}.rapport.json"
            found = _load(path)
            if found is None and not path.exists():
                return {"fichier": name, "sha256": sha256, "ok": True, "soumissions": []}, path
            if found is not None and found.get("sha256") == sha256:
                return found, path
            number += 1

    def _write_report(self, path: Path, report: dict[str, Any]) -> None:
        entries = report["soumissions"]
        report["ok"] = all(entry["ok"] for entry in entries)
        report["evt"] = [entry["evt"] for entry in entries if entry["evt"] is not None]
        report["problems"] = [problem for entry in entries for problem in entry["problems"]]
        write_durably(path, json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n")
        write_durably(path.with_suffix(".txt"), _in_words(report).encode())

    def _move(self, opened: _Open) -> None:
        """Out of the way, never over another file. Only this process writes there, so looking first is enough."""
        try:
            info = os.lstat(opened.path)
        except FileNotFoundError:
            return  # moved before a crash, or taken away by someone
        if _Seen(info.st_ino, info.st_size, info.st_mtime_ns) != opened.seen:
            return  # another content under the same name: collected as a new file
        into = self._folder / (_DONE if all(entry["ok"] for entry in opened.entries.values()) else _REFUSED)
        number = 1
        while os.path.lexists(into / _numbered(opened.path.name, number)):
            number += 1
        os.rename(opened.path, into / _numbered(opened.path.name, number))
        sync_folder(into)
        sync_folder(self._folder)

    def _known_path(self, root: str) -> Path:
        return self._folder / _REPORTS / _KNOWN / f"{hashlib.sha256(root.encode()).hexdigest()[:40]}.json"

    def _known(self, root: str) -> _Known | None:
        row = _load(self._known_path(root))
        if row is None:
            return None
        try:
            return _Known(row["source"], row["digest"], row["evt"], int(row["tries"]), row["report"])
        except (KeyError, TypeError, ValueError):
            return None  # damaged: as if lost

    def _remember(self, source: str, reading: Reading, evt: str | None, report: str) -> None:
        """Only the submission's own keys are remembered: a refusal by this connector leaves no trace to send past."""
        if reading.root is None or _SOURCE.fullmatch(source) is None:
            return
        known = self._known(reading.root)
        if known is not None and known.evt is not None and evt is None:
            return
        tries = 0 if known is None else known.tries
        if evt is None and (known is None or known.source != source):
            tries += 1
        row = {"source": source, "digest": reading.digest, "evt": evt, "tries": tries, "report": report}
        write_durably(self._known_path(reading.root), json.dumps(row).encode())

    # --- the other way ----------------------------------------------------------------------------------------------

    async def deliver(self, arrived: Arrived) -> None:
        """Nothing: Kobo collects and cannot receive. An agency that receives uses the folder or another connector."""

    async def erase(self, ident: str) -> Erased:
        """Nothing: what arrives is not kept here."""
        return Erased()

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        """Adds the state to the submission's report, once. Best effort: the outbox itself is the truth."""
        await asyncio.to_thread(self._changed, evt, source, state, code)

    def _changed(self, evt: str, source: str, state: str, code: str | None) -> None:
        own = _SOURCE.fullmatch(source)
        with self._lock:
            known = self._known(own.group(1)) if own is not None else None
            if known is None:
                return
            path = self._folder / _REPORTS / known.report
            report = _load(path)
            entries = report.get("soumissions", []) if report is not None else []
            if report is None or not isinstance(entries, list):
                return  # taken away by its reader
            for entry in entries:
                if entry.get("evt") != evt:
                    continue
                states = entry.setdefault("states", [])
                if not states or (states[-1]["state"], states[-1]["code"]) != (state, code):
                    states.append({"state": state, "code": code, "at": self._now().isoformat(timespec="seconds")})
                    entry["state"] = state
            try:
                self._write_report(path, report)
            except OSError:
                return  # full disk: `umuhuza agency outbox` still shows the state


def _submissions(value: object) -> Sequence[Any]:
    if isinstance(value, dict):
        results = value.get("results")
        if isinstance(results, list):
            return results
        return [value] if identify(value) is not None or "start" in value or "_submission_time" in value else []
    return value if isinstance(value, list) else []


def _problems(batch: Batch, outcomes: Sequence[Outcome]) -> list[Problem]:
    """What the outbox said, and what the connector itself found and the outbox did not repeat."""
    said = [each.problem for each in outcomes if each.problem is not None]
    own = [item for item in batch.items if isinstance(item, Problem)]
    return said + [item for item in own if item not in said]


def _entry(
    source: str, evt: str | None, again: bool, problems: Sequence[Problem], notes: Sequence[Note]
) -> dict[str, Any]:
    return {
        "source": source,
        "ok": not problems,
        "evt": evt,
        "again": again,
        "problems": [
            {
                "where": each.where,
                "where_en": each.at("en"),
                "code": each.code,
                "fr": each.fr,
                "en": each.en,
                "advice": _advice(each.code),
            }
            for each in problems
        ],
        "notes": [{"fr": each.fr, "en": each.en} for each in notes],
    }


def _advice(code: str) -> dict[str, str]:
    meaning = CODES.get(code)
    return {} if meaning is None else {"fr": meaning.advice("fr"), "en": meaning.advice("en")}


def _in_words(report: Mapping[str, Any]) -> str:
    entries = report["soumissions"]
    taken = sum(entry["evt"] is not None for entry in entries)
    lines = [
        f"Rapport sur le fichier {report['fichier']}",
        f"Soumissions prises en charge : {taken} sur {len(entries)}",
    ]
    for entry in entries:
        lines += ["", f"{entry['source']} : {'prise en charge' if entry['evt'] is not None else 'non envoyée'}"]
        if entry["evt"] is not None:
            lines.append(f"  Envoi no {entry['evt']}")
        for problem in entry["problems"]:
            lines.append(f"  À corriger ({problem['where']}) : {problem['fr']}")
        lines += [f"  À savoir : {note['fr']}" for note in entry["notes"]]
        for state in entry["states"]:
            words = _state_words(state["state"])
            why = CODES.get(state["code"] or "")
            lines.append(f"  {state['at']} : {words}{f' ({why.title_fr})' if why is not None else ''}")
    return "\n".join(lines) + "\n"


def _state_words(state: str) -> str:
    for machine in ("outgoing", "referral", "case"):
        try:
            return lifecycle.state_label(machine, state, "fr")
        except KeyError:
            continue
    return state


def _numbered(name: str, number: int) -> str:
    """`a.json`, `a-2.json`, `a-3.json`."""
    if number == 1:
        return name
    stem, dot, ending = name.rpartition(".")
    return f"{stem}-{number}{dot}{ending}" if stem else f"{name}-{number}"


def _load(path: Path) -> dict[str, Any] | None:
    """One of our own files; None when it is missing or damaged (then it is not trusted)."""
    try:
        value = ijson.loads(path.read_bytes(), max_bytes=64 << 20)
    except (OSError, ijson.IJsonError):
        return None
    return value if isinstance(value, dict) else None


_NOT_OPENED = Note(
    "Le fichier ne peut pas être ouvert : vérifiez ses droits, puis redéposez-le.",
    "The file cannot be opened: check its permissions, then drop it again.",
)
_TOO_LARGE = Note(
    "Le fichier dépasse 1 Mio : exportez moins de soumissions à la fois, puis redéposez.",
    "The file is larger than 1 MiB: export fewer submissions at a time, then drop again.",
)
_NOT_JSON = Note(
    "Le fichier n'est pas un JSON complet en UTF-8 (tronqué, autre encodage, nom répété, imbrication trop profonde) : "
    "téléchargez-le de nouveau depuis Kobo au format JSON, sans l'ouvrir ni l'enregistrer dans un autre logiciel.",
    "The file is not complete JSON in UTF-8 (cut short, other encoding, repeated name or nested too deeply): download "
    "it from Kobo again as JSON, without opening or saving it in another program.",
)
_NO_SUBMISSION = Note(
    "Aucune soumission Kobo n'a été trouvée : exportez les données du formulaire HTCDS au format JSON.",
    "No Kobo submission was found: export the data of the HTCDS form as JSON.",
)
_EDITED = Note(
    "Cette soumission a déjà été envoyée, puis modifiée dans Kobo. La modification n'est pas envoyée : une "
    "information déjà transmise se rectifie par une correction. Téléphonez au destinataire si c'est urgent.",
    "This submission was already sent and then edited in Kobo. The edit is not sent: what was already passed on is "
    "put right by a correction. Telephone the recipient if it is urgent.",
)
_AGAIN = Note(
    "Cette soumission était déjà prise en charge : rien n'est envoyé une seconde fois.",
    "This submission had been taken over before: nothing is sent a second time.",
)
_AGAIN_MAYBE_EDITED = Note(
    f"{_AGAIN.fr} Si vous l'avez modifiée entre-temps dans Kobo, faites une correction.",
    f"{_AGAIN.en} If you have edited it in Kobo since, make a correction.",
)
_NOT_LAST_PAGE = Note(
    "Cette page de Kobo n'est pas la dernière : exportez aussi les suivantes.",
    "This page from Kobo is not the last one: export the following ones too.",
)
