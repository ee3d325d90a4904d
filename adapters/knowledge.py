# SPDX-License-Identifier: Apache-2.0
"""Guidance at work: a document to every member, in pieces where it is large, and who has read it.

The outbox is the only memory: what was published stands there under `guidance:<document>:<version>`, and whether a
person over there has read it is its thread's state. What arrived is put together from the inbox, and is a document only
when every piece is there and the whole is what each of them names.
Must never: take a machine's receipt for a person's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adapters.connectors.contract import Draft
from adapters.desk import Desk
from adapters.directory import hearers
from adapters.mailbox_rows import Incoming
from adapters.outbox import Outbox
from schemas.errors import PayloadError
from schemas.events import Opened
from schemas.forms import Facts, Form
from schemas.plain.knowledge import GuidanceAcknowledged, GuidancePublished, document_of


@dataclass(frozen=True, slots=True)
class Document:
    """One version that arrived."""

    agency: str
    thread: str
    said: GuidancePublished
    data: bytes | None
    """None: pieces are on their way, or `code` says what is wrong with them."""
    code: str | None = None
    """Of `schemas.errors.CODES`: the pieces do not make the document that they name."""


@dataclass(frozen=True, slots=True)
class Published:
    """One version that went out from here."""

    document: str
    version: int
    at: int
    """Seconds since the epoch."""
    read: dict[str, bool]
    """Whom it was sent to -> whether a person there has said that it was read."""


class Knowledge:
    """Used from one event loop, or from a command beside a running adapter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._outbox = Outbox(desk)

    def publish(self, pieces: Iterable[GuidancePublished]) -> list[str]:
        """Send every piece of one version to every member that may have it, one thread each. Returns whom.

        Raises:
            PayloadError: `payload_invalid`: pieces are missing, or do not make the document that they name (`pieces`);
                that version is published, and a version never changes (`version`).
        """
        known = sorted(pieces, key=lambda one: one.piece)
        if document_of(known) is None:
            raise PayloadError("payload_invalid", path="pieces")
        first, box = known[0], self._desk.mailbox
        source = _source(first.document, first.version)
        with box.transaction():
            if any(item.source == source for item in box.outbox()):
                raise PayloadError("payload_invalid", path="version")
            peers = hearers(self._desk, "knowledge", "guidance.published")
            for peer in peers:
                thread: str | None = None
                for one in known:
                    thread = self._say(peer, "guidance.published", one, thread, source, f"{peer} {one.piece}")
        return peers

    def acknowledgements(self, document: str, version: int) -> dict[str, bool]:
        """Whom that version was sent to -> whether a person there has said that it was read."""
        return next((one.read for one in self.published() if (one.document, one.version) == (document, version)), {})

    def published(self) -> list[Published]:
        """Every version that went out from here, the oldest first."""
        box = self._desk.mailbox
        found: dict[str, Published] = {}
        for item in box.outbox():
            if item.type != "guidance.published" or not item.source.startswith("guidance:"):
                continue
            _, document, version = item.source.split(":")
            one = found.setdefault(item.source, Published(document, int(version), item.created_at, {}))
            thread = box.thread(item.thread)
            one.read[item.peer] = thread is not None and thread.state == "acknowledged"
        return list(found.values())

    def acknowledge(self, document: Document, by: str) -> None:
        """A person here has read it (`by`: her function).

        Raises:
            PayloadError: it is not whole. OrderError: it was acknowledged already.
        """
        if document.data is None:
            raise PayloadError(document.code or "payload_invalid", path="pieces")
        said = GuidanceAcknowledged.model_validate(
            {
                "document": document.said.document,
                "version": document.said.version,
                "sha256": document.said.sha256,
                "by": by,
            }
        )
        line = f"{document.thread} acknowledged"
        with self._desk.mailbox.transaction():
            self._say(document.agency, "guidance.acknowledged", said, document.thread, "knowledge", line)

    def _say(self, to: str, type: str, said: Form, thread: str | None, source: str, line: str) -> str:
        """Enqueue it; returns its thread."""
        facts = Facts(occurred_at=self._desk.today(), said=said)
        evt = self._outbox.compose(Draft(line, to, type, None, thread, facts), source, "")
        item = self._desk.mailbox.outgoing(evt)
        return thread or "" if item is None else item.thread


def documents(items: Iterable[Incoming], opened: Callable[[Incoming], Opened]) -> list[Document]:
    """What arrived, one per thread, in the order of arrival. `opened`: `Inbox.opened`.

    Raises UmuhuzaError: an item cannot be opened.
    """
    pieces: dict[tuple[str, str], list[GuidancePublished]] = {}
    for item in items:
        if item.type == "guidance.published" and item.state in ("ready", "delivered"):
            said = opened(item).facts.said
            if isinstance(said, GuidancePublished):
                pieces.setdefault((item.iss, item.thread), []).append(said)
    return [_document(iss, thread, each) for (iss, thread), each in pieces.items()]


def _document(iss: str, thread: str, pieces: list[GuidancePublished]) -> Document:
    try:
        return Document(iss, thread, pieces[0], document_of(pieces))
    except PayloadError as exc:
        return Document(iss, thread, pieces[0], None, exc.code)


def _source(document: str, version: int) -> str:
    return f"guidance:{document}:{version}"
