# SPDX-License-Identifier: Apache-2.0
"""Attachments on their way in: announced, gathered chunk by chunk, and handed over only when they are whole.

    announced   taken like any event of its thread; `gathering` while chunks are missing, and nothing waits for it
    chunk       noted by number, in the transaction that stores its record
    whole       every chunk checked: ready for the agency's system, and only now receipt.delivered
    not whole   turned away with the path of the chunk that is wrong or missing: receipt.rejected, its keys forgotten

The bytes stay sealed in the mailbox's records until they are handed over; nothing is put together anywhere else.
Must never: hand over a part of a file; judge a file by more than its first bytes; log a name.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.attachment_book import AttachmentBook
from adapters.desk import Desk
from adapters.mailbox_rows import Incoming
from schemas import events
from schemas.attachments import File, count_of, joined, part_names, size_of, where
from schemas.envelope import Manifest, Record, parse_record
from schemas.errors import KeyStoreError, PayloadError, PolicyError, RecordError, UmuhuzaError
from schemas.plain.attachment import ANNOUNCED, AttachmentAnnounced, AttachmentChunk
from schemas.sealing import open_grant, open_parts, parse_grant
from topics.catalogue import may_attach

PATIENCE_S = 14 * 86_400
"""Attachments that are not whole by then will not be: the sender is told, and sends them once more."""


class Gathering:
    """See the module's docstring. Used from one event loop, inside the inbox's transactions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.book = AttachmentBook(desk.mailbox)

    # -- before a record is taken -------------------------------------------------------------------------------------

    def check(self, record: Record, opened: events.Opened) -> None:
        """Attachments are of an event that may carry them, not larger than we take, and each chunk is of one announced.

        Raises:
            PayloadError: `too_large` (our own limit as expected), `payload_invalid`: other parts, numbers or events
                than there can be.
            PolicyError: `not_permitted`: that event carries no files to us; a chunk of somebody else's thread.
        """
        said, manifest = opened.facts.said, record.manifest
        if isinstance(said, AttachmentAnnounced):
            self._check_announced(said, manifest)
            count, first = count_of(said), 1
        elif isinstance(said, AttachmentChunk):
            count, first = self._count_announced(said, manifest), said.first
        elif len(manifest.parts) > 2:
            raise PayloadError("payload_invalid", path="L1.parts[2]")
        else:
            return
        names = part_names(first, count)
        if tuple(part.name for part in manifest.parts[2:]) != names:
            raise PayloadError("payload_invalid", path="L1.parts")
        if isinstance(said, AttachmentChunk):
            announced = f"{manifest.iss}/{said.announced}"
            if first == 1 or any(self.book.has(announced, first + index) for index in range(len(names))):
                raise PayloadError("payload_invalid", path="said.first")  # it has come already

    def _check_announced(self, said: AttachmentAnnounced, manifest: Manifest) -> None:
        limit = self._desk.attachment_bytes
        if size_of(said) > limit:
            raise PayloadError("too_large", path="said.files", expected=limit)
        about = self._desk.mailbox.arrivals.of(f"{manifest.iss}/{said.about}")
        if about is None or about.thread != manifest.thread or manifest.ref != said.about or about.state == "erased":
            raise PayloadError("payload_invalid", path="said.about")
        may_attach(about.type, self._desk.registry().agency(self._desk.agency)).require()

    def _count_announced(self, said: AttachmentChunk, manifest: Manifest) -> int:
        announced = f"{manifest.iss}/{said.announced}"
        item = self._desk.mailbox.arrivals.of(announced)
        # The log has the announcement before its sender signs a chunk, so that it is here or never was.
        if item is None or item.type != ANNOUNCED or item.state == "erased" or manifest.ref != said.announced:
            raise PayloadError("payload_invalid", path="said.announced")
        if item.thread != manifest.thread:
            raise PolicyError("not_permitted", "L1.thread")
        return count_of(self._said(item))

    # -- as it is taken -----------------------------------------------------------------------------------------------

    def admitted(self, item: Incoming, record: Record, opened: events.Opened) -> bool:
        """Whether an announcement waits for chunks. One whose record carries all of them is checked here and now.

        Raises UmuhuzaError: what its record carries is not what it announces.
        """
        said = opened.facts.said
        if not isinstance(said, AttachmentAnnounced):
            return False
        count = count_of(said)
        if len(record.manifest.parts) - 2 < count:
            return True
        joined(said, _numbered(1, self._parts(record, item.grant_value)))
        return False

    def noted(self, item: Incoming, record: Record, opened: events.Opened) -> Incoming | None:
        """Remember which chunks came; the announcement that has all of them now, if it was the last one's record."""
        said, manifest = opened.facts.said, record.manifest
        some = len(manifest.parts) - 2
        if isinstance(said, AttachmentAnnounced):
            self.book.note(item.ident, 1, some, item.ident)
        elif isinstance(said, AttachmentChunk):
            announced = f"{item.iss}/{said.announced}"
            self.book.note(announced, said.first, some, item.ident)
            for whole in self._desk.mailbox.arrivals.gathering(announced):
                if len(self.book.chunks(announced)) == count_of(self._said(whole)):
                    return whole
        return None

    def overdue(self) -> list[tuple[Incoming, PayloadError]]:
        """What has waited for chunks too long, each with the first chunk that is missing."""
        return [
            (item, PayloadError("attachment_incomplete", path=self._missing(item)))
            for item in self._desk.mailbox.arrivals.gathering()
            if self._desk.now() - item.at_ms / 1000 > PATIENCE_S
        ]

    def _missing(self, item: Incoming) -> str:
        try:
            said = self._said(item)
        except KeyStoreError:
            raise  # our own keys are away for a moment: nobody is judged for that
        except UmuhuzaError:
            return "said.files"
        there = self.book.chunks(item.ident)
        number = next((one for one in range(1, count_of(said) + 1) if one not in there), 0)
        return where(said, number) if number else "said.files"

    # -- whole --------------------------------------------------------------------------------------------------------

    def files(self, item: Incoming) -> tuple[File, ...]:
        """The files of an announcement that has all its chunks.

        Raises UmuhuzaError: a chunk is missing, altered or not the one announced (`schemas.attachments.joined`), or
        cannot be opened any more.
        """
        numbers: dict[int, bytes] = {}
        begins: dict[str, int] = {}
        for number, ident in self.book.chunks(item.ident).items():
            begins.setdefault(ident, number)
        for ident, first in begins.items():
            carrier = self._desk.mailbox.arrivals.of(ident)
            if carrier is None:
                raise RecordError("grant_missing", "grant")
            numbers |= _numbered(first, self._parts(parse_record(carrier.record), carrier.grant_value))
        return joined(self._said(item), numbers)

    def _said(self, item: Incoming) -> AttachmentAnnounced:
        record = parse_record(item.record)
        parts = self._parts(record, item.grant_value, ("identity", "content"))
        m = record.manifest
        said = events.decompose(
            parts["content"], parts["identity"], iss=m.iss, to=m.to, evt=m.evt, thread=m.thread
        ).facts.said
        if not isinstance(said, AttachmentAnnounced):
            raise PayloadError("payload_invalid", path="said.announced")
        return said

    def _parts(self, record: Record, grant: bytes | None, names: tuple[str, ...] | None = None) -> dict[str, bytes]:
        """The named parts; else the attachments' own, in order."""
        if grant is None:
            raise RecordError("grant_missing", "grant")
        key = self._desk.keys.seal.get(parse_grant(grant).kid)
        if key is None:
            raise RecordError("grant_unopenable", "grant.kid")
        wanted = names or tuple(part.name for part in record.manifest.parts[2:])
        return open_parts(record, open_grant(record, grant, key), wanted)


def _numbered(first: int, parts: Mapping[str, bytes]) -> dict[int, bytes]:
    """Chunk number -> padded chunk, in the order of the record's parts."""
    return {first + index: data for index, data in enumerate(parts.values())}
