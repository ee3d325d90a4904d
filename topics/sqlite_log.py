# SPDX-License-Identifier: Apache-2.0
"""The embedded log: the log contract over one SQLite file, for one machine and any number of its processes.

`sqlite_store` holds the transactions; here is who waits for whom:

- **Group commit.** While one transaction is being synced, later calls gather; they are the next one: one sync for all.
  Calls of one handle take effect in the order in which they were made.
- With `threads=True` SQLite runs in one writing and one reading thread, and one that copies the WAL back into the
  database meanwhile; the event loop is never blocked, but by `open`.
  With `threads=False` everything happens inside the calling coroutine, with no thread and no clock but the loop's:
  the deterministic simulator's mode.
- **Waiting.** A commit of this handle wakes its own readers at once. Commits of others are noticed every 25 ms, and
  only while somebody waits.

A process whose event loop is never idle should call `sys.setswitchinterval(0.0005)` once: with Python's 5 ms a loop
that waits for nothing keeps the interpreter's lock from the two threads for seconds (measured: 11 s for one read).

What a crash leaves is what the last answered call promised, see `sqlite_store`. A handle belongs to one event loop.
It never answers before the sync, never retries by itself, and never looks into a value.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from schemas.errors import LogError
from topics.log import MAX_VALUE_BYTES, Appended, Ends, Entry, Stored
from topics.sqlite_store import GRANTS, Append, Done, Put, Store
from topics.sqlite_wal import LOOK_AGAIN_S, SCRUB_S

POLL_S = 0.025
"""How late a waiting reader notices a commit of another process, seconds."""
GROUP_BYTES = 8 << 20
GROUP_CALLS = 1_000

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Group:
    """Calls that become one transaction."""

    calls: list[Append | Put] = field(default_factory=list)
    weight: int = 0
    task: asyncio.Task[list[Done]] | None = None

    def takes(self, call: Append | Put) -> bool:
        return len(self.calls) < GROUP_CALLS and (not self.calls or self.weight + call.weight <= GROUP_BYTES)


class SqliteLog:
    """A `topics.log.Log` in one file. Make it with `open`."""

    def __init__(self, writer: Store, reader: Store, copier: Store | None, *, threads: bool, alone: bool) -> None:
        self._writer = writer
        self._reader = reader
        self._copier = copier
        self._alone = alone
        self._write_thread = ThreadPoolExecutor(1, "sqlite-log-writer") if threads else None
        # One connection serves both when there may be no second one: then also one thread.
        own_thread = threads and reader is not writer
        self._read_thread = ThreadPoolExecutor(1, "sqlite-log-reader") if own_thread else self._write_thread
        self._copy_thread = ThreadPoolExecutor(1, "sqlite-log-copier") if copier is not None else None
        self._checkpointing: asyncio.Task[None] | None = None
        self._forming: _Group | None = None
        self._last: asyncio.Task[Any] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._erasing: set[asyncio.Task[Any]] = set()
        self._scrubbing = asyncio.Lock()
        self._scrub_owed = False
        """An earlier deletion could not make sure of its bytes."""
        self._out_of_reach: set[str] = set()
        """Records of which writing the grants anew has left a key; doing so again would leave it too."""
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        path: str,
        *,
        topics: Iterable[str] = (),
        create: bool = True,
        clock_ms: Callable[[], int],
        threads: bool = True,
        vfs: str | None = None,
        exclusive: bool = False,
        random_id: Callable[[], str],
    ) -> SqliteLog:
        """Open or make the log; recovers what a crash left. Blocks the caller for as long as that takes.

        Args:
            path: the database file, mode 0600; `-wal`, `-shm` and `-lock` stand beside it.
            topics: mailbox topics that must exist afterwards; others stay.
            create: False insists that the log is there.
            clock_ms: milliseconds since the epoch.
            threads: see above.
            vfs: an SQLite VFS by name; None is the real disk.
            exclusive: no other connection may exist, in any process; needed where the VFS has no shared memory.
            random_id: makes the `log_id` of a new log.

        Raises LogError `unavailable` (path `sqlite`: the library is older than 3.51.3; `file`: not there, not a log, or
        no more files may be opened; `schema_version`: a newer version made it), `storage_full`, `topic_unknown` (a name
        that is none).
        Raises SettingsError when the log was moved to Kafka: two logs would grow apart.
        """
        alone = exclusive or vfs is not None
        with contextlib.ExitStack() as undo:
            writer = Store.make(path, vfs=vfs, exclusive=alone, clock_ms=clock_ms, create=create, random_id=random_id)
            undo.callback(writer.close)
            writer.create_topics(topics)
            reader, copier = writer, None
            if threads and not alone:
                reader = Store(path, vfs=vfs, exclusive=False, clock_ms=clock_ms)
                undo.callback(reader.close)
                copier = Store(path, vfs=vfs, exclusive=False, clock_ms=clock_ms)
                undo.callback(copier.close)
            opened = cls(writer, reader, copier, threads=threads, alone=alone)
            undo.pop_all()
        return opened

    @staticmethod
    def renew_identity(path: str, *, clock_ms: Callable[[], int], random_id: Callable[[], str]) -> str:
        """Give a log that was put back from a copy an identity of its own; returns it. Blocks.

        Without it readers' cursors point past the copy's end, and what is appended next is never read. No process may
        have the log open. Raises LogError as `open`.
        """
        store = Store.make(path, vfs=None, exclusive=False, clock_ms=clock_ms, create=False, random_id=random_id)
        try:
            return store.renew_identity(random_id)
        finally:
            store.close()

    @property
    def log_id(self) -> str:
        """As the contract; kept in the file."""
        return self._writer.log_id

    # ---------------------------------------------------------------- the contract

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        """As the contract. Cancelled, it may still be carried out: append the same again."""
        return await self.append_granted(entries, {})

    async def append_granted(
        self, entries: Sequence[Entry], grants: Mapping[str, Mapping[str, bytes]]
    ) -> list[Appended | LogError]:
        """As `topics.log.GrantsAtOnce`: one transaction, one sync. What is refused for the disk is as if the grants had
        been put first."""
        if self._closed:
            return [LogError("log_closed") for _ in entries]
        if not entries:
            for topic, some in grants.items():
                await self.put_grants(topic, some)
            return []
        done = await self._commit(Append.of(entries, [_put(topic, some) for topic, some in grants.items()]))
        if not isinstance(done, list):
            raise done or LogError("unavailable")
        self._wake({entry.topic for entry, at in zip(entries, done, strict=True) if isinstance(at, Appended)})
        return done

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As the contract. What other processes commit is seen within `POLL_S` seconds while this waits."""
        return await self._poll({topic: after}, limit, max_bytes, wait_s, say_topic=False)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As the contract. What other processes commit is seen within `POLL_S` seconds while this waits."""
        return await self._poll(dict(after), limit, max_bytes, wait_s, say_topic=True)

    async def ends(self, topic: str) -> Ends:
        """As the contract."""
        return await self._read(lambda store: store.ends(topic))

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """As the contract. Raises LogError `topic_unknown` (not a grants topic), `too_large`, `storage_full`,
        `unavailable`, `log_closed`; then none of these grants is stored."""
        self._refuse_closed()
        done = await self._commit(_put(topic, grants))
        if isinstance(done, LogError):
            raise done

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """As the contract; what is committed, of any process. Raises LogError `unavailable`, `log_closed`."""
        return await self._read(lambda store: store.get_grants(topic, keys))

    async def grants_left(self, idents: Collection[str]) -> set[str]:
        """As `topics.log.ShowsGrants`. Reads the whole file: a second per gigabyte or two, for each 64 records.

        What stands there although it was deleted (a crash before the deletion's end) is overwritten first, unless a
        reader of another process is in the way."""
        wanted = sorted(idents)
        kept = await self._read(lambda store: store.grants_kept(wanted))
        left = await self._bytes_left([ident for ident in wanted if ident not in kept])
        with contextlib.suppress(LogError):
            for doubt in (False, True):  # it may be a deletion that is under way: then its end is enough
                if left - (self._out_of_reach if doubt else set()):
                    if doubt:
                        await self._in(self._write_thread, self._writer.doubt)
                    await self._to_its_end(self._scrub())
                    left = await self._bytes_left(sorted(left))
            self._out_of_reach = (self._out_of_reach - set(wanted)) | left
        self._refuse_closed()
        return kept | left

    async def _bytes_left(self, idents: Sequence[str]) -> set[str]:
        if self._read_thread is None:
            return self._reader.bytes_left(idents)
        return await asyncio.to_thread(self._reader.bytes_left, idents)  # its connection is not used, nor its thread

    async def grant_keys(self, ident: str) -> dict[str, list[str]]:
        """As `topics.log.FindsGrants`. Raises LogError `unavailable` also while the bytes of what an earlier call has
        deleted still stand in the WAL: whoever asks what is left would take them for gone."""
        if self._scrub_owed:
            await self._to_its_end(self._scrub())
        return await self._read(lambda store: store.grant_keys(ident))

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """As the contract; the bytes are gone from database and WAL as well.

        Raises LogError `unavailable` also when a reader of another process held the WAL for ten seconds (for one,
        after an earlier call that waited ten in vain): the grants are gone then, their bytes may not be; call again.
        Meanwhile others' calls go on, a second late at most.
        """
        await self._to_its_end(self._erased(self._queued(lambda store: store.delete_grants(topic, keys))))

    async def close(self) -> None:
        """As the contract. The commit in progress is awaited and answered truly; calls behind it were not made.
        Cancelled, it closes all the same."""
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for event in self._events(self._waiting):
            event.set()
        if self._watch is not None:
            self._watch.cancel()
        under_way = [task for task in (self._last, self._checkpointing) if task is not None and not task.done()]
        if under_way or self._erasing:
            await asyncio.wait([*under_way, *self._erasing])
        if self._copier is not None:
            await self._in(self._copy_thread, self._copier.close)
        await self._in(self._read_thread, self._reader.close)
        await self._in(self._write_thread, self._writer.close)
        for thread in (self._copy_thread, self._read_thread, self._write_thread):
            if thread is not None:
                thread.shutdown()

    # ---------------------------------------------------------------- administration

    async def create_topics(self, names: Iterable[str]) -> None:
        """Durable when it returns; those there already stay as they are.

        Raises LogError `topic_unknown` for a name that is no topic's, `storage_full`, `unavailable`, `log_closed`.
        """
        wanted = list(names)
        await asyncio.shield(self._queued(lambda store: store.create_topics(wanted)))

    async def topics(self) -> list[str]:
        """Names of all topics that exist. Raises LogError `unavailable`, `log_closed`."""
        return await self._read(lambda store: store.topics())

    async def trim(self, topic: str, before: int) -> int:
        """Retention: remove entries with offset < `before`; returns the first offset kept.

        Durable when it returns, the bytes gone from the file. A removed entry's ident is still recognised. Its grants
        go with it: a key to what nobody is handed any more is only a danger.
        """
        return await self._to_its_end(self._erased(self._queued(lambda store: store.trim(topic, before))))

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with its entries. Made again it goes on at its next offset, so that no cursor lies."""
        await self._to_its_end(self._erased(self._queued(lambda store: store.delete_topic(topic))))

    # ---------------------------------------------------------------- committing

    async def _commit(self, call: Append | Put) -> Done:
        if self._write_thread is None:
            [done] = self._writer.write([call])
            if self._writer.checkpoint_due:
                self._writer.checkpoint()
            return done
        group = self._forming
        if group is None or not group.takes(call):
            group = self._forming = _Group()
            group.task = self._last = asyncio.create_task(self._write(group, self._last))
        place = len(group.calls)
        group.calls.append(call)
        group.weight += call.weight
        assert group.task is not None
        # Shielded: one caller's cancellation is not that of the others in the group.
        return (await asyncio.shield(group.task))[place]

    async def _write(self, group: _Group, before: asyncio.Task[Any] | None) -> list[Done]:
        if before is not None and not before.done():
            await asyncio.wait([before])
        if self._forming is group:
            self._forming = None  # from here on nobody joins
        if self._closed:
            closed: list[Done] = []
            for call in group.calls:
                many = [LogError("log_closed") for _ in call.entries] if isinstance(call, Append) else None
                closed.append(list(many) if many is not None else LogError("log_closed"))
            return closed
        done = await self._in(self._write_thread, self._writer.write, group.calls)
        idle = self._checkpointing is None or self._checkpointing.done()
        if idle and self._writer.checkpoint_due and not self._closed and self._write_thread is not None:
            self._checkpointing = asyncio.create_task(self._checkpoint())
        return done

    async def _checkpoint(self) -> None:
        """Most of the WAL beside the commits that follow; its end in the writing thread, where the next commit waits
        for it and then starts the WAL anew. A crash in between leaves a longer WAL, which opening reads."""
        if self._copier is not None:
            await self._in(self._copy_thread, self._copier.copy_back)
        if not self._closed:
            await self._in(self._write_thread, self._writer.checkpoint)

    def _queued(self, work: Callable[[Store], _T]) -> asyncio.Future[_T]:
        """Alone in its transactions, after every call made before and before every call made after this one."""
        self._refuse_closed()
        if self._write_thread is None:
            done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
            done.set_result(work(self._writer))
            return done
        self._forming = None
        task = self._last = asyncio.create_task(self._in_turn(work, self._last))
        task.add_done_callback(_heard)
        return task

    async def _in_turn(self, work: Callable[[Store], _T], before: asyncio.Task[Any] | None) -> _T:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._refuse_closed()
        return await self._in(self._write_thread, work, self._writer)

    async def _erased(self, deletion: asyncio.Future[_T]) -> _T:
        done = await deletion
        try:
            await self._scrub()
        except LogError:
            self._scrub_owed = True
            raise
        return done

    async def _to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Whoever waits may be cancelled; what was deleted is scrubbed all the same."""
        task = asyncio.create_task(work)
        self._erasing.add(task)
        task.add_done_callback(self._erasing.discard)
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _scrub(self) -> None:
        """What was deleted stands nowhere any more when it returns. What is committed while readers are in the way goes
        on between the tries. Raises LogError `unavailable`, `storage_full`; `log_closed`: the next to open does it."""
        loop = asyncio.get_running_loop()
        # Where a deletion has waited in vain, those after it try once each: their rows at least go, and at once.
        give_up = loop.time() + (0.0 if self._scrub_owed else SCRUB_S)
        # One at a time: a commit waits for one try at most, however many wait for the reader.
        async with self._scrubbing:
            self._refuse_closed()
            while not await self._in(self._write_thread, self._writer.scrub):
                if loop.time() >= give_up:
                    raise LogError("unavailable")
                await asyncio.sleep(LOOK_AGAIN_S)
                self._refuse_closed()
            self._scrub_owed = False

    # ---------------------------------------------------------------- reading and waiting

    async def _read(self, work: Callable[[Store], _T]) -> _T:
        self._refuse_closed()
        return await self._in(self._read_thread, work, self._reader)

    async def _poll(
        self, after: Mapping[str, int], limit: int, max_bytes: int, wait_s: float, *, say_topic: bool
    ) -> list[Stored]:
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        with self._listening(after) as grown:
            while True:
                grown.clear()  # before the read: what is committed after it sets the event again
                found = await self._read(lambda store: store.read(after, limit, max_bytes, say_topic=say_topic))
                if found or loop.time() >= end:
                    return found
                self._keep_watch()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        await grown.wait()

    @contextlib.contextmanager
    def _listening(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                self._waiting[topic].discard(event)
                if not self._waiting[topic]:
                    del self._waiting[topic]

    def _events(self, topics: Iterable[str]) -> list[asyncio.Event]:
        return [event for topic in topics for event in self._waiting.get(topic, ())]

    def _wake(self, topics: Iterable[str]) -> None:
        for event in self._events(topics):
            event.set()

    def _keep_watch(self) -> None:
        if not self._alone and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(self._watch_others())

    async def _watch_others(self) -> None:
        """Look for commits of other handles and processes while somebody waits."""
        while self._waiting and not self._closed:
            try:
                self._wake(await self._read(lambda store: store.changed()))
            except LogError:
                self._wake(list(self._waiting))  # they read again and so learn it themselves
            await asyncio.sleep(POLL_S)

    # ---------------------------------------------------------------- threads

    async def _in(self, thread: ThreadPoolExecutor | None, work: Callable[..., _T], *arguments: object) -> _T:
        if thread is None:
            return work(*arguments)
        try:
            waiting = asyncio.get_running_loop().run_in_executor(thread, lambda: work(*arguments))
        except RuntimeError:  # closed while the caller was about something else
            self._refuse_closed()
            raise
        return await waiting

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("log_closed")


def _heard(task: asyncio.Task[Any]) -> None:
    """Whoever waited for it may be gone."""
    if not task.cancelled():
        task.exception()


def _put(topic: str, grants: Mapping[str, bytes]) -> Put:
    if not GRANTS.fullmatch(topic):
        raise LogError("topic_unknown")
    if any(len(value) > MAX_VALUE_BYTES for value in grants.values()):
        raise LogError("too_large", expected=MAX_VALUE_BYTES)
    if not all(map(str.isascii, grants)):
        raise ValueError("a grant's key is not ASCII")  # it would break the transaction of others
    return Put(topic, tuple(grants.items()))
