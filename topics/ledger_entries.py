# SPDX-License-Identifier: Apache-2.0
"""Entries of a domain's ledger, and batches of them as its primary store holds them: bytes to values and back.

    umuhuza-entry/1 LF kind LF topic LF offset LF previous LF hex-sha256(value)
        LF hex-sha256(header.payload) LF detail LF

An entry says what stands at a place of a mailbox topic; its leaf in the tree is SHA-256(0x00 || entry) (RFC 6962
section 2.1). `-` stands where nothing applies:

| kind | topic | offset | previous | value | header.payload | detail |
|---|---|---|---|---|---|---|
| `event` | yes | yes | yes | yes | yes | - |
| `erasure`: an event with `acts.erase` | yes | yes | yes | yes | yes | - |
| `erased`: what that record commands is done | yes | yes | - | - | yes | - |
| `duplicate`: signed bytes that an earlier entry holds | yes | yes | yes | yes | yes | - |
| `reject` | yes | yes | yes | yes | if it has one | the error's code |
| `gap`: offsets at which there is no record | yes | the first missing | yes | - | - | the last missing |
| `retention`: everything below was removed | yes | - | - | - | - | the first offset kept |
| `registry` | - | - | - | of the file | - | its version |

`previous` is the offset of the record before it in its topic (of kind event, erasure, duplicate or reject), `-` if it
is the first: an entry alone shows that no record stands between the two. `erased` names a record by its place and by
what was signed, and says no more of the log's order: it is written when no key of what the record commands to erase
could be read from the log's earliest offset any more (`topics.ledger_erasures`).

A batch is what a sequencer appends at once; it counts iff `first_index` and `previous_root` say what all batches that
count before it make (`topics.ledger_store`):

    umuhuza-batch/1 LF first_index LF base64url(previous_root) LF number of entries LF entries

with entries as in C2SP tlog-tiles' entry bundles: each behind its length, 16 bits, big-endian (`topics.tiles`).

Invariants: one value has one text and one text one value; decoding takes nothing else. An entry holds hashes and
positions and nothing of what a record says, so that it may be kept when the record may not.

Pure: no I/O, no clock. Must never know a key, a record's content, or whether an entry is true.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, product
from typing import Literal, get_args

from schemas.errors import LogError
from schemas.keys import b64url, unb64url
from schemas.notes import HASH_BYTES
from topics.tiles import pack_entries, unpack_entries

EntryKind = Literal["event", "duplicate", "registry", "erasure", "erased", "retention", "reject", "gap"]
ENTRY_KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
GOOD_KINDS = frozenset(("event", "erasure"))
"""Of records that count, and are the first with their signed bytes."""
RECORD_KINDS: frozenset[str] = frozenset(("event", "duplicate", "erasure", "reject"))
"""Kinds that say which record stands at an offset."""
ENTRY_VERSION = "umuhuza-entry/1"
BATCH_VERSION = "umuhuza-batch/1"
MAX_ENTRY_BYTES = 512
"""The longest entry there can be is shorter."""
MAX_BATCH_BYTES = 800_000
"""Of a batch's value: with its key and headers it fits into one Kafka record."""
MAX_OFFSET = 2**53 - 1

_NUMBER = r"0|[1-9][0-9]{0,15}"
_HASH = r"[0-9a-f]{64}"
_ENTRY = re.compile(
    rf"{ENTRY_VERSION}\n(?P<kind>[a-z]+)\n(?P<topic>-|[a-z]{{2}}\.[a-z]+\.[a-z0-9](?:[a-z0-9-]{{0,30}}[a-z0-9])?)\n"
    rf"(?P<offset>-|{_NUMBER})\n(?P<previous>-|{_NUMBER})\n(?P<value>-|{_HASH})\n(?P<l1>-|{_HASH})\n"
    rf"(?P<detail>-|{_NUMBER}|[a-z][a-z_]{{0,63}})\n"
)
_LINES = ("version", "kind", "topic", "offset", "previous", "value", "l1", "detail")
_FIELDS: dict[str, tuple[str, str]] = {
    # What each kind has, and what it may have besides; nothing else.
    "event": ("topic offset value l1", "previous"),
    "erasure": ("topic offset value l1", "previous"),
    "erased": ("topic offset l1", ""),
    "duplicate": ("topic offset value l1", "previous"),
    "reject": ("topic offset value detail", "previous l1"),
    "gap": ("topic offset detail", "previous"),
    "retention": ("topic detail", ""),
    "registry": ("value detail", ""),
}
_KINDS: dict[str, EntryKind] = {kind: kind for kind in ENTRY_KINDS}
_MEMBERS = ("topic", "offset", "previous", "value", "l1", "detail")
_HAS = {kind: frozenset(has.split()) for kind, (has, _) in _FIELDS.items()}
_MAY = {kind: frozenset((has + " " + may).split()) for kind, (has, may) in _FIELDS.items()}
_SHAPES = {
    kind: frozenset(
        shape
        for shape in product((False, True), repeat=len(_MEMBERS))
        if _HAS[kind] <= frozenset(compress(_MEMBERS, shape)) <= _MAY[kind]
    )
    for kind in _FIELDS
}
"""Which members of `_MEMBERS` an entry of a kind may have: looked up whole, since every entry is asked."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry; None where nothing applies. What a kind must have and may have is in the module's table."""

    kind: EntryKind
    topic: str | None = None
    """Mailbox topic, `bi.referral.k7t4`."""
    offset: int | None = None
    previous: int | None = None
    """Offset of the record before in that topic."""
    value_sha256: bytes | None = None
    """SHA-256 of the record (of the registry's file), 32 bytes."""
    l1_sha256: bytes | None = None
    """SHA-256 of `header.payload`: the record's identity, which a signature twin shares."""
    detail: str | None = None

    @property
    def number(self) -> int:
        """`detail` of a gap (last missing offset), a retention (first offset kept) or a registry (version)."""
        if self.detail is None or not self.detail.isdigit():
            raise ValueError("this entry's detail is no number")
        return int(self.detail)

    def encode(self) -> bytes:
        """The entry's text. Raises ValueError when it breaks the module's table: a bug of the caller's."""
        text = "\n".join(
            (
                ENTRY_VERSION,
                self.kind,
                self.topic or "-",
                "-" if self.offset is None else str(self.offset),
                "-" if self.previous is None else str(self.previous),
                "-" if self.value_sha256 is None else self.value_sha256.hex(),
                "-" if self.l1_sha256 is None else self.l1_sha256.hex(),
                self.detail or "-",
                "",
            )
        )
        wrong = _wrong(self)
        if wrong is not None or _ENTRY.fullmatch(text) is None:
            raise ValueError(f"not an entry: {wrong or 'a member has no such form'}")
        return text.encode("ascii")


def decode_entry(data: bytes) -> LedgerEntry:
    """Read an entry strictly.

    Raises:
        LogError: log_inconsistent, path `entry.<line>`.
    """
    found = _ENTRY.fullmatch(data.decode("latin-1")) if len(data) <= MAX_ENTRY_BYTES else None
    if found is None:
        raise LogError("log_inconsistent", f"entry.{_bad_line(data)}")
    said, topic, offset, previous, value, l1, detail = found.groups()
    kind = _KINDS.get(said)
    if kind is None:
        raise LogError("log_inconsistent", "entry.kind")
    entry = LedgerEntry(
        kind,
        None if topic == "-" else topic,
        None if offset == "-" else int(offset),
        None if previous == "-" else int(previous),
        None if value == "-" else bytes.fromhex(value),
        None if l1 == "-" else bytes.fromhex(l1),
        None if detail == "-" else detail,
    )
    wrong = _wrong(entry)
    if wrong is not None:
        raise LogError("log_inconsistent", f"entry.{wrong}")
    return entry


def _wrong(entry: LedgerEntry) -> str | None:
    """The first line that is not as the table says."""
    offset, previous, detail = entry.offset, entry.previous, entry.detail
    shape = (
        entry.topic is not None,
        offset is not None,
        previous is not None,
        entry.value_sha256 is not None,
        entry.l1_sha256 is not None,
        detail is not None,
    )
    shapes = _SHAPES.get(entry.kind)
    if shapes is None:
        return "kind"
    if shape not in shapes:
        has, may = _HAS[entry.kind], _MAY[entry.kind]
        return next(
            name for name, given in zip(_MEMBERS, shape, strict=True) if (name not in may if given else name in has)
        )
    if not 0 <= (offset or 0) <= MAX_OFFSET or not 0 <= (previous or 0) <= MAX_OFFSET:
        return "offset"
    if previous is not None and (offset is None or previous >= offset):
        return "previous"
    if detail is None or entry.kind == "reject":
        return "detail" if detail is not None and not detail[0].islower() else None
    if not detail.isdigit() or not 0 <= int(detail) <= MAX_OFFSET:
        return "detail"
    return "detail" if entry.kind == "gap" and int(detail) < (offset or 0) else None


def _bad_line(data: bytes) -> str:
    """Which line of what is no entry is the first that cannot be."""
    lines = data.decode("latin-1").split("\n")
    good = (ENTRY_VERSION, "reject", "-", "-", "-", "-", "-", "-")
    for place, name in enumerate(_LINES):
        text = lines[place] if place < len(lines) else ""
        if _ENTRY.fullmatch("\n".join((*good[:place], text, *good[place + 1 :], ""))) is None:
            return name
    return "end"


def l1_sha256_of(value: bytes) -> bytes | None:
    """SHA-256 of a record's `header.payload`, whether or not anything else in it is in order; None when its first line
    has no such thing (three pieces between dots)."""
    line1 = value.partition(b"\n")[0]
    if line1.count(b".") != 2:
        return None
    return hashlib.sha256(line1[: line1.rindex(b".")]).digest()


# ---------------------------------------------------------------------------------------------------------------------
# Batches


@dataclass(frozen=True, slots=True)
class Batch:
    """What is appended to the ledger at once."""

    first_index: int
    """Size of the tree before it."""
    previous_root: bytes
    """Root of the tree before it, 32 bytes (RFC 6962: of an empty one SHA-256(""))."""
    entries: Sequence[bytes]
    """At least one, encoded."""

    def encode(self) -> bytes:
        head = f"{BATCH_VERSION}\n{self.first_index}\n{b64url(self.previous_root)}\n{len(self.entries)}\n"
        return head.encode("ascii") + pack_entries(self.entries)


def decode_batch(data: bytes) -> Batch:
    """Read a batch strictly; its entries are not looked at.

    Raises:
        LogError: log_inconsistent, path `batch.*`.
    """
    pieces = data.split(b"\n", 4)
    if len(pieces) != 5 or pieces[0] != BATCH_VERSION.encode("ascii"):
        raise LogError("log_inconsistent", "batch.version")
    index, root, count = (piece.decode("latin-1") for piece in pieces[1:4])
    if re.fullmatch(_NUMBER, index) is None or int(index) > MAX_OFFSET:
        raise LogError("log_inconsistent", "batch.first_index")
    try:
        previous_root = unb64url(root)
    except ValueError:
        previous_root = b""
    if len(previous_root) != HASH_BYTES:
        raise LogError("log_inconsistent", "batch.previous_root")
    if re.fullmatch(_NUMBER, count) is None or count == "0":
        raise LogError("log_inconsistent", "batch.count")
    try:
        entries = tuple(unpack_entries(pieces[4], int(count)))
    except LogError:
        raise LogError("log_inconsistent", "batch.entries") from None
    return Batch(int(index), previous_root, entries)
