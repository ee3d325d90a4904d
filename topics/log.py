# SPDX-License-Identifier: Apache-2.0
"""The log's contract: bytes, never meaning. One contract test suite runs against every driver.

A log is a set of topics; a topic is a totally ordered sequence of entries at offsets 0, 1, 2, ... A driver stores
and returns bytes; who may write or read them is decided before (gateway, broker ACLs), what they mean is decided
elsewhere (`schemas`). Beside the topics it keeps *grants*: small deletable values under string keys.

What every driver promises:

- **Durable at acknowledgement.** `append` and `put_grants` return only when the bytes survive a power cut.
- **At least once.** If `append` raises, is cancelled, or the process dies, each entry may or may not be there; the
  caller appends the same bytes again. SQLite and HTTP recognise the repeat (`copy=True`, the first offset); Kafka
  may hold a second identical copy, which readers recognise by `ident`.
- **Order.** Entries of one call to one topic take ascending offsets in the order given, never interleaved with those
  of another call.
- **No silent skip.** Reading below the first kept offset raises `retention_passed`.

Cursors belong to the reader: a cursor is (log_id, topic, offset). Another `log_id` means another log: start at -1
and recognise what is known by `ident`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from schemas.errors import UmuhuzaError

MAX_VALUE_BYTES = 900_000
"""Largest entry value; larger is answered with `too_large` (Kafka's max.message.bytes leaves room for headers)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is appended: a record and what the log must know of it."""

    topic: str
    """Mailbox topic, "bi.referral.k7t4"."""
    key: bytes
    """The thread: base64url text as in the manifest, ASCII."""
    ident: str
    """"<iss>/<evt>": what a retry is recognised by."""
    value: bytes
    """The record, never parsed here."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Unauthenticated CloudEvents copies."""


@dataclass(frozen=True, slots=True)
class Appended:
    """An acknowledgement: the entry survives a power cut, at this place."""

    offset: int
    """From 0, dense, per topic."""
    at_ms: int
    """The log's clock at append, milliseconds since the epoch (Kafka: LogAppendTime)."""
    copy: bool = False
    """The same bytes were there already; `offset` and `at_ms` are the first copy's."""
    promise: bytes | None = None
    """Over HTTP: the gateway's signed promise with this line's Merkle path, as evidence (JSON, see gateway)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is read: an entry with its place. The log's own word, to be verified by the reader."""

    topic: str
    offset: int
    key: bytes
    ident: str
    value: bytes
    at_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a topic begins and ends now: entries `first` to `next - 1` can be read."""

    first: int
    """Offset of the first entry still kept (== next when none is)."""
    next: int
    """Offset that the next append will take."""


class Log(Protocol):
    """See the module's docstring. One handle belongs to one event loop."""

    @property
    def log_id(self) -> str:
        """Random, made with the log, never changed. Over HTTP it is known after the first answer."""

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        """Append in the order given; one answer each; one refused entry refuses no other.

        Durable before it returns. Refusals: `topic_unknown`, `too_large`, `storage_full`, `unavailable`,
        `log_closed`, `evt_conflict` (this `ident` is there with other bytes; not noticed by Kafka);
        over HTTP also every code with which a gateway refuses a record, as its own class of the error tree.
        """

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """Entries with offset > after (-1: from the start), ascending, at least one even past `max_bytes`.

        Nothing there: waits up to `wait_s` seconds for one, then returns []. Raises LogError `retention_passed` when
        after + 1 < first kept offset, `topic_unknown`, `log_closed`, `unavailable`.
        """

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """`read` over several topics with one wait: returns as soon as any has something.

        Ascending per topic; no order between topics; every topic with entries gets a fair share of the limits.
        Raises as `read`; `path` of the error then is the topic.
        """

    async def ends(self, topic: str) -> Ends:
        """First kept and next offset. Raises LogError `topic_unknown`, `log_closed`, `unavailable`."""

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """Store grants under `{domain}.grants.{agency}`, key "<iss>/<evt>|<kid>"; same key: replaced.

        Durable when it returns, and always before the record it belongs to is appended. Over HTTP grants travel with
        their record: they are staged in this handle and become durable with the append (decision record 0004).
        """

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of `keys` that are there. Sees every put this handle made."""

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """Durably gone when it returns; no error when absent.

        Over HTTP nothing is deleted by a bare call: grants go as the effect of a signed record with `acts.erase`; the
        call confirms that they are gone and else raises `not_permitted`.
        """

    async def close(self) -> None:
        """Idempotent. Pending and later calls end with LogError `log_closed`."""


@runtime_checkable
class AnswersAtOnce(Protocol):
    """A log that is far away and answers for several topics in one exchange."""

    async def ends_of(self, topics: Sequence[str]) -> dict[str, Ends]:
        """`Log.ends` of each, all as they were at one moment or another during the call. Raises as `Log.ends`."""


@runtime_checkable
class GrantsAtOnce(Protocol):
    """A log that stores entries and their grants in one step."""

    async def append_granted(
        self, entries: Sequence[Entry], grants: Mapping[str, Mapping[str, bytes]]
    ) -> Sequence[Appended | UmuhuzaError]:
        """`Log.put_grants` of all (topic -> key -> bytes), then `Log.append`, in half the time: no entry is durable
        before these grants are. Refusals and errors as the two; grants may be there of entries that are refused."""


@runtime_checkable
class ShowsGrants(Protocol):
    """A log that can be read as whoever has its disks reads it, from the earliest offset on."""

    async def grants_left(self, idents: Collection[str]) -> set[str]:
        """Those of these records ("<iss>/<evt>") of which a grant can still be read, whoever's it is and whatever an
        index says: SQLite: its key stands in the database file or in the WAL, in use or not; Kafka: its value can be
        read from the grants topics' earliest offsets, although a tombstone may stand behind it.

        Reads everything, beside all other calls. Raises LogError `unavailable`, `not_permitted`, `log_closed`."""


@runtime_checkable
class FindsGrants(Protocol):
    """A log that finds grants by their record alone: also those of a holder who has left, whose keys no registry names
    any more."""

    async def grant_keys(self, ident: str) -> dict[str, list[str]]:
        """Grants topic -> keys of that record's grants ("<iss>/<evt>|<kid>"), of every holder and every key.

        Raises LogError `unavailable`, `log_closed`."""


async def ends_of(log: Log, topics: Sequence[str]) -> dict[str, Ends]:
    """`Log.ends` of each topic; one exchange where the log can. Raises as `Log.ends`."""
    if isinstance(log, AnswersAtOnce):
        return await log.ends_of(topics)
    return {topic: await log.ends(topic) for topic in topics}


def grants_topic(agency: str) -> str:
    """`bi/k7t4` -> `bi.grants.k7t4`."""
    domain, _, name = agency.partition("/")
    return f"{domain}.grants.{name}"


def grant_key(ident: str, kid: str) -> str:
    """The grants topic's key of one grant: `<iss>/<evt>|<kid>`."""
    return f"{ident}|{kid}"


def ident_of(key: str) -> str:
    """The record that a grant's key names: `<iss>/<evt>`."""
    return key.partition("|")[0]
