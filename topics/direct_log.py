# SPDX-License-Identifier: Apache-2.0
"""The log contract for an agency that reaches its domain's Kafka: it reads there, and may write there.

Composed of Kafka's log, opened with the agency's own certificate, and of the gateway (`http_log`):

- **Reading** is Kafka's: mailboxes, their ends, and the grants of one's own. The brokers' ACLs say what that is.
- **Writing** goes through the gateway, which promises; or, when `writes` says so, straight to Kafka. Then the gateway
  gets the manifest with the grants first, checks it like a record and stores the grants; only what it granted is
  produced. So a grant is durable before its record here too, and policy is asked before anything is in the log. Nothing
  is promised for what is written by hand: an offset is all the evidence.
- What makes gateways act (`acts`) goes through the gateway even then, and so does what is to pass a border, and what
  the brokers do not let us write or the gateway does not know us to write: setting that up is the operator's, and
  meanwhile nothing stands still.

Order per topic is that of the call: behind a failure nothing of its topic is sent by either way. Appending again is
safe: when a record stands in the log, the gateway answers its manifest with its place, and nothing is written twice; a
gateway that has not read so far yet may let a second copy pass, which readers know by `ident`.

Kafka's handle is opened with the first call, and again when it is of no use any more: when the log was given another
identity, and after `REOPEN_S` without an answer, so that renewed certificates are read and an expired one is named.
Gateway and brokers must speak of the same log: if they do not, nothing is read or written (`log_inconsistent`), since
records would come in by one door and be looked for behind another.

If we crash after the gateway's answer, before the record is written: an orphan grant; the caller appends again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from schemas.envelope import cloudevents_headers, parse_manifest
from schemas.errors import LogError, RecordError, UmuhuzaError
from topics.borders import crosses
from topics.http_log import HttpLog
from topics.log import Appended, Ends, Entry, Log, Stored

_T = TypeVar("_T")
REOPEN_S = 30.0
_NOT_BY_HAND = "registry.direct"
"""Path of a gateway's `not_permitted` for an agency that may not write by itself."""


class DirectLog:
    """One agency's view of its domain's log. Owns the gateway's handle and Kafka's; used from one event loop.

    Args:
        open_log: opens Kafka's log with the agency's certificate; raises LogError.
        gateway: the way to the gateway, of the same agency.
        writes: whether to write straight to Kafka, asked at every append: the agency wants it and the registry has it.
        on_refused: told when the brokers, or the gateway, do not let us write what the registry lets us.
    """

    def __init__(
        self,
        open_log: Callable[[], Awaitable[Log]],
        gateway: HttpLog,
        *,
        writes: Callable[[], bool] = lambda: False,
        on_refused: Callable[[UmuhuzaError], None] = lambda _error: None,
    ) -> None:
        self._open_log = open_log
        self._gateway = gateway
        self._writes = writes
        self._on_refused = on_refused
        self._log: Log | None = None
        self._log_id = ""
        self._opening = asyncio.Lock()
        self._failing_since: float | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def log_id(self) -> str:
        """ "" before Kafka was reached for the first time."""
        return self._log_id

    # -----------------------------------------------------------------------------------------------------------------
    # Writing

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        """As the contract; `Appended.promise` is there for what went through the gateway.

        Raises:
            LogError: unavailable, log_closed: append all again; log_inconsistent (path `log_id`): see the module.
            UmuhuzaError: what the gateway refused the request as a whole with.
        """
        if self._closed:
            return [LogError("log_closed") for _ in entries]
        if not self._writes():
            return await self._gateway.append(entries)
        answers: list[Appended | UmuhuzaError] = [LogError("unavailable", entry.topic) for entry in entries]
        stopped: set[str] = set()
        ways = [(place, _by_hand(entry)) for place, entry in enumerate(entries)]
        for written, several in groupby(ways, key=lambda way: way[1] is not None):
            going = [(place, made) for place, made in several if entries[place].topic not in stopped]
            if not going:
                continue
            told: Sequence[Appended | UmuhuzaError]
            if written:
                told = await self._write([made for _, made in going if made is not None])
            else:
                told = await self._gateway.append([entries[place] for place, _ in going])
            for (place, _), answer in zip(going, told, strict=True):
                answers[place] = answer
                if isinstance(answer, UmuhuzaError) and answer.retriable:
                    stopped.add(entries[place].topic)
        return answers

    async def _write(self, entries: Sequence[Entry]) -> list[Appended | UmuhuzaError]:
        """Manifests and grants to the gateway, then the records of those that it granted to Kafka."""
        await self._opened()  # nobody is told of records that cannot be written anyway
        answers = await self._gateway.announce(entries)
        async with self._kafka() as log:
            if self._gateway.log_id != log.log_id:  # it has just said which it serves
                raise LogError("log_inconsistent", "log_id")
            granted = [place for place, answer in enumerate(answers) if answer is None]
            done = await log.append([entries[place] for place in granted])
            for place, answer in zip(granted, done, strict=True):
                answers[place] = answer
                if isinstance(answer, Appended):
                    self._gateway.forget_staged(entries[place].ident)
            self._judge(log, next((one for one in done if isinstance(one, LogError)), None))
        refused = [place for place, answer in enumerate(answers) if _not_let(answer, place in granted)]
        if refused:
            first = answers[refused[0]]
            assert isinstance(first, UmuhuzaError)
            self._on_refused(first)
            # Nothing of these topics was written, so the order is kept. Their grants are staged still.
            for place, answer in zip(refused, await self._gateway.append([entries[p] for p in refused]), strict=True):
                answers[place] = answer
        return [LogError("unavailable") if _is_closed(answer) else answer for answer in answers if answer is not None]

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """Staged in this handle until the record that they belong to is appended, as over HTTP."""
        self._refuse_closed()
        await self._gateway.put_grants(topic, grants)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """Unstages what is staged; confirms that the rest is gone. Raises LogError `not_permitted` when it is not."""
        self._refuse_closed()
        self._gateway.unstage(topic, keys)
        if await self.get_grants(topic, keys):
            raise LogError("not_permitted", "grants")

    # -----------------------------------------------------------------------------------------------------------------
    # Reading

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As the contract, and `not_permitted` for a mailbox that is not our own."""
        return await self.poll({topic: after}, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As `read`. Raises besides LogError `log_inconsistent` (path `log_id`): the gateway serves another log."""
        if not after:
            return []
        await self._same_log(await self._opened(), next(iter(after)))
        return await self._read(lambda log: log.poll(after, limit, max_bytes, wait_s))

    async def ends(self, topic: str) -> Ends:
        """As `read`."""
        return await self._read(lambda log: log.ends(topic))

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """What is staged here, else what Kafka has up to its end now: a record that was read before this call and has
        no grant in the answer had none when it was read. Another agency's, not staged: LogError `not_permitted`."""
        self._refuse_closed()
        found = self._gateway.staged(topic, keys)
        asked = [key for key in keys if key not in found]
        if asked:
            found |= await self._read(lambda log: log.get_grants(topic, asked))
        return found

    async def _read(self, work: Callable[[Log], Awaitable[_T]]) -> _T:
        async with self._kafka() as log:
            found = await work(log)
        self._judge(log, None)
        return found

    async def close(self) -> None:
        """As the contract."""
        if self._closed:
            return
        self._closed = True
        async with self._opening:  # one that is being opened is closed too
            log, self._log = self._log, None
        if log is not None:
            await log.close()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._gateway.close()

    # -----------------------------------------------------------------------------------------------------------------
    # Kafka's handle

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("log_closed")

    async def _opened(self) -> Log:
        """Raises LogError: what opening it raises; log_closed."""
        self._refuse_closed()
        async with self._opening:
            self._refuse_closed()
            if self._log is None:
                if self._leaving:  # one at a time: they keep what they read in the same file
                    await asyncio.wait(self._leaving)
                self._log = await self._open_log()
                self._log_id = self._log.log_id
            return self._log

    @asynccontextmanager
    async def _kafka(self) -> AsyncIterator[Log]:
        """Kafka's handle for one call; an error of the call says whether the handle is of use."""
        log = await self._opened()
        try:
            yield log
        except LogError as exc:
            self._judge(log, exc)
            if _is_closed(exc) and not self._closed:  # it was left under this call
                raise LogError("unavailable", "log_id") from None
            raise

    def _judge(self, log: Log, error: LogError | None) -> None:
        """Leave a handle whose log is another by now, or that has been without an answer for long."""
        if self._closed or log is not self._log:
            return
        if error is None:
            self._failing_since = None
            return
        if error.code != "unavailable":
            return
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        if error.path == "log_id" or now - self._failing_since > REOPEN_S:
            self._log, self._failing_since = None, None
            leaving = asyncio.create_task(log.close())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _same_log(self, log: Log, topic: str) -> None:
        """Raises LogError `log_inconsistent` when the gateway, asked now, serves another log than the brokers."""
        if self._gateway.log_id in ("", log.log_id):
            return
        await self._gateway.ends(topic)
        if self._gateway.log_id != log.log_id:
            raise LogError("log_inconsistent", "log_id")


def _by_hand(entry: Entry) -> Entry | None:
    """The entry as it is produced, with its CloudEvents headers; None when it has to go through the gateway."""
    try:
        manifest = parse_manifest(entry.value.partition(b"\n")[0])[3]
    except RecordError:
        return None  # the gateway's way says what is wrong with it
    if manifest.acts is not None or crosses(manifest):
        return None
    return replace(entry, headers=cloudevents_headers(manifest))


def _not_let(answer: Appended | UmuhuzaError | None, granted: bool) -> bool:
    """Whether this is not about the record, but about who may write it by hand."""
    if not isinstance(answer, UmuhuzaError) or answer.code != "not_permitted":
        return False
    return granted or answer.path == _NOT_BY_HAND


def _is_closed(answer: Appended | UmuhuzaError | None) -> bool:
    return isinstance(answer, LogError) and answer.code == "log_closed"
