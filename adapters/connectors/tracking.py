# SPDX-License-Identifier: Apache-2.0
"""What became of what the agency sent: a journal of JSON lines, and the table `suivi.xlsx` made from it.

The journal is the agency's own record, in its own folder. Lines are only ever added, each durable; a line torn by a
crash is passed over; adding the same fact twice changes nothing. The table is made anew from it at any time.

What a machine did (« arrivée sur la machine du destinataire ») and what a person did (« prise en main par une
personne ») stand in two columns and are never mixed.
Methods that write block and raise OSError.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from adapters.connectors import paper, places
from adapters.connectors.as_typed import in_words
from adapters.connectors.contract import EscalationKind, LastContact
from adapters.connectors.facts_in_words import choice_label
from adapters.connectors.form_choices import TYPES
from schemas import lifecycle
from schemas.errors import CODES, Language
from schemas.event_types import EVENTS


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    __str__ = __repr__


class TakenFile(_Line):
    """Names chosen for a dropped file before anything is written under them."""

    k: Literal["file"] = "file"
    source: str
    report: str
    to_correct: str | None
    moved: str
    """Path from the agency's folder."""
    at: str
    attached: dict[str, str] = {}
    """Files that rows of it name -> where they are moved to, as `moved`."""


class SentRow(_Line):
    k: Literal["row"] = "row"
    evt: str
    source: str
    line: str
    type: str
    to: str
    person: str | None
    file: str
    digest: str
    at: str
    """ISO 8601 with zone, as every `at` here."""


class Moved(_Line):
    """A machine moved an outgoing item."""

    k: Literal["state"] = "state"
    evt: str
    state: str
    code: str | None
    at: str


class Attached(_Line):
    """A machine moved the attachments of a row."""

    k: Literal["attached"] = "attached"
    source: str
    line: str
    state: str
    code: str | None
    at: str


class Came(_Line):
    """An answer arrived: a person did something."""

    k: Literal["came"] = "came"
    ident: str
    thread: str
    ref: str | None
    person: str | None
    type: str
    state: str
    """The thread's state after it."""
    words: str
    """Reason, outcome, service: what the answer says beside its type."""
    late: bool
    at: str
    """When it happened, as the answerer says."""


class Noticed(_Line):
    """Something is overdue (`adapters.connectors.notices`). About nobody."""

    k: Literal["notice"] = "notice"
    kind: EscalationKind
    thread: str
    evt: str
    peer: str
    due_at: str
    at: str


Line = TakenFile | SentRow | Moved | Attached | Came | Noticed
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class Journal:
    """One process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded = False
        self.files: dict[str, TakenFile] = {}
        self.rows: dict[str, SentRow] = {}
        self.moves: dict[str, dict[str, Moved]] = {}
        self.attached: dict[tuple[str, str], dict[str, Attached]] = {}
        """(source, line) of a row -> state -> what was told of its attachments."""
        self.came: dict[str, Came] = {}
        self.noticed: dict[tuple[str, str, str], Noticed] = {}
        """By kind, thread and event."""
        self.by_digest: dict[str, SentRow] = {}
        self.names: set[str] = set()
        """Names of files promised to somebody, written or not."""

    def load(self) -> None:
        """Once."""
        if self._loaded:
            return
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n"):
                if line.strip():
                    try:
                        self._take(_LINE.validate_json(line))
                    except ValidationError:
                        continue  # torn by a crash, or edited by hand
        self._loaded = True

    def _take(self, line: Line) -> bool:
        """False: known already."""
        match line:
            case TakenFile():
                known = line.source in self.files
                self.files.setdefault(line.source, line)
                self.names.update({line.report, line.moved.rpartition("/")[2], line.to_correct or line.report})
                self.names.update(name.rpartition("/")[2] for name in line.attached.values())
            case SentRow():
                known = line.evt in self.rows
                self.rows.setdefault(line.evt, line)
                self.by_digest.setdefault(line.digest, line)
            case Moved():
                moves = self.moves.setdefault(line.evt, {})
                known = line.state in moves
                moves.setdefault(line.state, line)
            case Attached():
                states = self.attached.setdefault((line.source, line.line), {})
                known = line.state in states
                states.setdefault(line.state, line)
            case Came():
                known = line.ident in self.came
                self.came.setdefault(line.ident, line)
            case Noticed():
                key = (line.kind, line.thread, line.evt)
                known = key in self.noticed
                self.noticed.setdefault(key, line)
        return not known

    def add(self, lines: Sequence[Line]) -> bool:
        """Durable when it returns; False: everything was known. Nothing is remembered unless it is durable."""
        new = [line for line in lines if not self._knows(line)]
        if not new:
            return False
        places.append_line(self._path, b"\n".join(_written(line) for line in new))
        for line in new:
            self._take(line)
        return True

    def erase(self, agency: str, ident: str) -> bool:
        """Nothing is left of that event, ours or another's: neither row nor answer. Durable when it returns.

        Args:
            agency: our own id, by which our events are told.

        Returns whether something was there.
        """
        evt = ident.removeprefix(f"{agency}/")
        if ident not in self.came and evt not in self.rows and evt not in self.moves:
            return False
        kept: list[Line] = [*self.files.values()]
        kept += [line for line in self.rows.values() if line.evt != evt]
        kept += [line for name, moves in self.moves.items() if name != evt for line in moves.values()]
        gone = [(line.source, line.line) for line in self.rows.values() if line.evt == evt]
        kept += [line for of, states in self.attached.items() if of not in gone for line in states.values()]
        kept += [line for line in self.came.values() if line.ident != ident]
        kept += [line for line in self.noticed.values() if line.evt != evt]
        places.write_durably(self._path, b"".join(_written(line) + b"\n" for line in kept))
        self.files, self.rows, self.moves, self.attached = {}, {}, {}, {}
        self.came, self.noticed, self.by_digest = {}, {}, {}
        for line in kept:
            self._take(line)
        return True

    def _knows(self, line: Line) -> bool:
        match line:
            case TakenFile():
                return line.source in self.files
            case SentRow():
                return line.evt in self.rows
            case Moved():
                return line.state in self.moves.get(line.evt, {})
            case Attached():
                return line.state in self.attached.get((line.source, line.line), {})
            case Came():
                return line.ident in self.came
            case Noticed():
                return (line.kind, line.thread, line.evt) in self.noticed

    def answers(self) -> Mapping[str, list[Came]]:
        """evt of our row -> what came back on its thread, in order of arrival."""
        thread_of = {came.thread: came.ref for came in self.came.values() if came.ref in self.rows}
        of_person: dict[tuple[str, str], list[str]] = {}
        for row in self.rows.values():
            if row.person:
                of_person.setdefault((row.person, row.to), []).append(row.evt)
        found: dict[str, list[Came]] = {}
        for came in self.came.values():
            evt = thread_of.get(came.thread)
            if evt is None and came.person:
                same = of_person.get((came.person, came.ident.rpartition("/")[0]), [])
                evt = same[0] if len(same) == 1 else None
            found.setdefault(evt or f"?{came.thread}", []).append(came)
        return found


def _written(line: Line) -> bytes:
    return json.dumps(line.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


_HEADERS: Mapping[Language, tuple[str, ...]] = {
    "fr": (
        "Votre référence",
        "Envoi",
        "Destinataire",
        "Envoyé le",
        "Machine : où en est l'envoi",
        "Personne : où en est la réponse",
        "Depuis le",
        "À faire maintenant",
        "Précision",
        "Étapes",
        "Fichier et ligne",
    ),
    "en": (
        "Your reference",
        "What",
        "Recipient",
        "Sent on",
        "Machine: where it is",
        "Person: what was answered",
        "Since",
        "To do now",
        "Details",
        "Steps",
        "File and row",
    ),
}
_WIDTHS = (18, 22, 26, 18, 34, 34, 18, 34, 30, 40, 30)


def write_tracking(
    journal: Journal,
    *,
    recipients: Sequence[tuple[str, str]],
    now: datetime.datetime,
    language: Language = "fr",
    to_do: Mapping[str, str] = MappingProxyType({}),
    contacts: Sequence[LastContact] = (),
) -> bytes:
    """The table as XLSX, newest first; on a second sheet when everybody was last heard, and their numbers.

    Args:
        to_do: evt of our row -> what has to be done about it now.
        contacts: our own gateway (`agency` empty) and everybody we have to do with.
    """
    buffer = io.BytesIO()
    sheet_of = paper.new_paper(buffer)
    sheet = sheet_of.book.add_worksheet("Suivi" if language == "fr" else "Follow-up")
    french = language == "fr"
    for index, width in enumerate(_WIDTHS):
        sheet.set_column(index, index, width)
    paper.write(sheet, 0, 0, "Suivi de vos envois" if french else "What became of what you sent", sheet_of.title)
    sheet.set_row(0, 30)
    made = f"{in_words(now.date()) if french else now.strftime('%d/%m/%Y')}, {now:%H:%M}"
    hint = (
        f"Établi le {made}. « Arrivé sur la machine » ne veut pas dire lu par une personne. "
        "Sans réponse à temps, téléphonez."
        if french
        else f"Made {made}. « Arrived on the computer » does not mean read by a person. No answer in time: telephone."
    )
    paper.write(sheet, 1, 0, paper.french(hint), sheet_of.quiet_line)
    for index, header in enumerate(_HEADERS[language]):
        paper.write(sheet, 3, index, header, sheet_of.heading)
    sheet.set_row(3, 36)
    names = dict(recipients)
    answers = journal.answers()
    row = 4
    for sent in reversed(journal.rows.values()):
        came = answers.get(sent.evt, [])
        machine, refused = _machine_words(journal.moves.get(sent.evt, {}), bool(came), now.tzinfo, language)
        person = _person_words(sent.type, came, refused, language)
        with_files = journal.attached.get((sent.source, sent.line))
        if with_files is not None:
            words, failed = _attached_words(with_files, now.tzinfo, language)
            machine, refused = f"{machine}\n{words}", refused or failed
        cells = (
            sent.person or "",
            choice_label(TYPES, sent.type, language),
            names.get(sent.to, sent.to),
            day_in_words(sent.at, now.tzinfo, language),
            machine,
            person,
            day_in_words(came[-1].at, now.tzinfo, language) if came else "",
            to_do.get(sent.evt, ""),
            came[-1].words if came else "",
            "\n".join(_step(each, now.tzinfo, language) for each in came),
            f"{sent.file}, {sent.line.replace('!', ', ligne ' if french else ', row ')}",
        )
        for index, cell in enumerate(cells):
            style = sheet_of.text
            if index == 4:
                style = sheet_of.bad if refused else sheet_of.text
            elif index == 5:
                style = sheet_of.good if came else sheet_of.note
            elif index == 7 and cell:
                style = sheet_of.bad
            paper.write(sheet, row, index, paper.french(cell) if index in (4, 5, 7, 8, 9) else cell, style)
        sheet.set_row(row, paper.height_for(list(zip(cells, _WIDTHS, strict=True))))
        row += 1
    paper.finish_table(sheet, 3, row, len(_WIDTHS))
    if contacts:
        _write_contacts(sheet_of, contacts, names, made, now.tzinfo, language)
    sheet_of.book.close()
    return buffer.getvalue()


_CONTACTS: Mapping[Language, tuple[str, ...]] = {
    "fr": ("Agence", "Dernier signe de sa machine", "Téléphone", "À faire maintenant"),
    "en": ("Agency", "Its machine was last heard", "Telephone", "To do now"),
}
_CONTACTS_WIDTHS = (34, 28, 24, 60)


def _write_contacts(
    sheet_of: paper.Paper,
    contacts: Sequence[LastContact],
    names: Mapping[str, str],
    made: str,
    zone: datetime.tzinfo | None,
    language: Language,
) -> None:
    french = language == "fr"
    sheet = sheet_of.book.add_worksheet("Contacts")
    for index, width in enumerate(_CONTACTS_WIDTHS):
        sheet.set_column(index, index, width)
    paper.write(
        sheet, 0, 0, "Qui répond, et qui appeler" if french else "Who answers, and whom to call", sheet_of.title
    )
    sheet.set_row(0, 30)
    hint = (
        f"Établi le {made}. Les numéros sont ceux que les agences ont publiés ; gardez-en une liste sur papier."
        if french
        else f"Made {made}. The numbers are those that the agencies published; keep a list on paper."
    )
    paper.write(sheet, 1, 0, paper.french(hint), sheet_of.quiet_line)
    for index, header in enumerate(_CONTACTS[language]):
        paper.write(sheet, 3, index, header, sheet_of.heading)
    for row, one in enumerate(contacts, 4):
        own = "La passerelle de votre pays" if french else "Your country's gateway"
        do = ""
        if one.silent_since is not None and one.agency:
            do = (
                "Rien reçu depuis, et quelque chose l'attend : téléphonez."
                if french
                else ("Nothing heard since, and something waits there: telephone.")
            )
        elif one.silent_since is not None:
            do = (
                "Rien ne part, rien n'arrive : téléphonez pour ce qui presse."
                if french
                else ("Nothing leaves, nothing arrives: telephone what is urgent.")
            )
        seen = "jamais" if french else "never"
        if one.seen_at is not None:
            seen = day_in_words(moment(one.seen_at, zone), zone, language)
        cells = (names.get(one.agency, one.agency) or own, seen, one.telephone or "", do)
        for index, cell in enumerate(cells):
            style = sheet_of.bad if index == 3 and cell else sheet_of.text
            paper.write(sheet, row, index, paper.french(cell) if index in (1, 3) else cell, style)
        sheet.set_row(row, paper.height_for(list(zip(cells, _CONTACTS_WIDTHS, strict=True))))
    paper.finish_table(sheet, 3, 4 + len(contacts), len(_CONTACTS_WIDTHS))


# How far a state is; `changed` may tell them out of order after a crash.
_RANK = ("draft", "waiting", "signed", "promised", "logged", "delivered", "rejected", "cancelled", "refused")
_FAILED = ("rejected", "cancelled", "refused")


def _machine_words(
    moves: Mapping[str, Moved], answered: bool, zone: datetime.tzinfo | None, language: Language
) -> tuple[str, bool]:
    known = [state for state in _RANK if state in moves]
    if not known:
        if answered:
            return ("Arrivé sur la machine du destinataire" if language == "fr" else "Arrived there"), False
        return lifecycle.state_label("outgoing", "waiting", language), False
    last = moves[known[-1]]
    if last.state == "delivered":
        words = "Arrivé sur la machine du destinataire" if language == "fr" else "Arrived on the recipient's computer"
        return f"{words}, {day_in_words(last.at, zone, language)}", False
    words = lifecycle.state_label("outgoing", last.state, language)
    return words + _why(last, language), last.state in _FAILED


def _attached_words(
    moves: Mapping[str, Attached], zone: datetime.tzinfo | None, language: Language
) -> tuple[str, bool]:
    """What became of the attachments of a row, and whether they did not arrive."""
    french = language == "fr"
    last = moves[[state for state in _RANK if state in moves][-1]] if moves.keys() & set(_RANK) else None
    name = "Pièces jointes :" if french else "Attachments:"
    if last is not None and last.state == "delivered":
        return (
            f"{name} {'entières là-bas' if french else 'whole there'}, {day_in_words(last.at, zone, language)}",
            False,
        )
    if last is None or last.state not in _FAILED:
        return f"{name} {'en chemin' if french else 'on their way'}", False
    words = lifecycle.state_label("outgoing", last.state, language)
    advice = f". {CODES[last.code].advice(language)}" if last.code is not None and last.code in CODES else ""
    return f"{name} {words}{_why(last, language)}{advice}", True


def _why(last: Moved | Attached, language: Language) -> str:
    if last.state not in ("refused", "rejected") or last.code is None or last.code not in CODES:
        return ""
    return f"{' :' if language == 'fr' else ':'} {CODES[last.code].title(language)}"


def _person_words(type_: str, came: Sequence[Came], refused: bool, language: Language) -> str:
    if came:
        return _state_words(came[-1], language)
    if refused or not type_.startswith("referral."):
        return ""
    return "Aucune personne n'a encore répondu" if language == "fr" else "No person has answered yet"


def _state_words(came: Came, language: Language) -> str:
    event = EVENTS.get(came.type)
    machine = event.machine if event is not None and event.machine is not None else "case"
    if machine in lifecycle.MACHINES and came.state in lifecycle.MACHINES[machine].states:
        return lifecycle.state_label(machine, came.state, language)
    return came.type if event is None else event.labels[language]


def _step(came: Came, zone: datetime.tzinfo | None, language: Language) -> str:
    late = (" (après l'échéance)" if language == "fr" else " (late)") if came.late else ""
    words = f" : {came.words}" if came.words else ""
    return f"{day_in_words(came.at, zone, language)} · {_state_words(came, language)}{words}{late}"


def moment(at: float, zone: datetime.tzinfo | None) -> str:
    """Seconds since the epoch as the journal writes a moment."""
    return datetime.datetime.fromtimestamp(at, zone or datetime.UTC).isoformat()


def day_in_words(at: str, zone: datetime.tzinfo | None, language: Language) -> str:
    """A moment (ISO 8601) with its time, in the reader's zone."""
    then = datetime.datetime.fromisoformat(at)
    local = then.astimezone(zone) if zone else then
    day = in_words(local.date()) if language == "fr" else f"{local:%d/%m/%Y}"
    return f"{day}, {local:%H:%M}"
