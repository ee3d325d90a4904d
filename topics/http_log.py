# SPDX-License-Identifier: Apache-2.0
"""The log contract through a domain's gateway, for one agency: it sends its own records and reads its own mailboxes.

Where HTTP differs from a log of one's own, and what this driver makes of it:

- **Grants travel with their record.** `put_grants` keeps them in this handle; they go with the `append` of the record
  that they belong to and are durable with it (docs/decisions/0004). A crash in between loses both, and the caller
  appends again.
- **Records may take another way** (`announce`): an agency that writes to Kafka itself sends the gateway the manifest
  with the grants, and writes the record when these are durable. `topics.direct_log` does that.
- **Nothing is deleted by a bare call.** `delete_grants` confirms that they are gone, else raises `not_permitted`.
- **Promises are checked here.** An answer whose Merkle path or signature does not fit is not an acknowledgement.
- **Clocks.** Every answer has the gateway's Date; `clock_offset_s` is what to add to the own clock. A token that was
  refused while the clocks differ is asked for once more with the corrected time.

Tokens are fetched when needed, once per expiry. A 401 is answered by one new token, not more. A connection error is
`unavailable`; whether an append arrived is then not known, and appending again is safe.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard
from urllib.parse import urlencode

import httpx2
import orjson

from schemas.envelope import chain_hash, sign_jws, split_topic
from schemas.errors import (
    AccessError,
    LogError,
    OrderError,
    PayloadError,
    PolicyError,
    RecordError,
    RegistryError,
    SourceError,
    UmuhuzaError,
)
from schemas.keys import RandomBytes, Signer, VerifyKey, b64url
from topics.log import MAX_VALUE_BYTES, Appended, Ends, Entry, Stored, grants_topic
from topics.promise import Line, Promise, check_line, evidence, read_promise
from topics.tiles import TileId

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_S = 60
_RENEW_BEFORE_S = 30.0
_GZIP_ABOVE = 1024
_REQUEST_LINES = 1000
_REQUEST_BYTES = 12 << 20
_KEYS_PER_REQUEST = 40
_CLOCK_DIFFERS_S = 5.0
_PLAIN = re.compile(r"[A-Za-z0-9_.,:;/*@\[\]{}()<>=+ -]{1,200}")
"""What is taken over from a gateway into errors, which people see on terminals."""
_TREE: tuple[type[UmuhuzaError], ...] = (
    LogError,
    AccessError,
    RecordError,
    OrderError,
    PolicyError,
    RegistryError,
    PayloadError,
    SourceError,
)


def error_of(problem: object) -> UmuhuzaError:
    """The error of the tree that a problem object stands for; `unavailable` for one that is not ours.

    Title and advice are ours, by the code; only `path` and `expected` are taken over, and only if they are plain.
    """
    if isinstance(problem, dict):
        code, path, expected = problem.get("code"), problem.get("path"), problem.get("expected")
        for kind in _TREE:
            if isinstance(code, str) and code in kind.codes:
                return kind(
                    code,
                    path if isinstance(path, str) and _PLAIN.fullmatch(path) else None,
                    expected=expected
                    if isinstance(expected, int) or (isinstance(expected, str) and _PLAIN.fullmatch(expected))
                    else None,
                )
    return LogError("unavailable", "gateway")


@dataclass(frozen=True, slots=True)
class SentHead:
    """The own chain's end on one topic, as the gateway knows it."""

    seq: int
    hash: str
    offset: int


@dataclass(frozen=True, slots=True)
class SentManifest:
    """One of our own manifests as the gateway tells it; whoever uses it verifies `line1`."""

    seq: int
    offset: int
    at_ms: int
    line1: bytes


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: float


class HttpLog:
    """One agency's view of its domain's log. Used from one event loop.

    Args:
        base_url: the gateway's address.
        agency, signing_key: who asks.
        domain: whose gateway it must be.
        now: the own clock, seconds since the epoch; may be wrong.
        random: for `jti`s.
        transport: instead of the network (tests, simulator).
        gateway_key: promises must be signed by it, or by one of those that the call gives (a gateway's key is rotated
            under running adapters); None, or none given: promises are kept unchecked as evidence.
        gzip: compress requests over 1 KiB and ask for compressed answers.
        timeout_s: per connection, read and write, beside the time that a read waits.
    """

    def __init__(
        self,
        base_url: str,
        agency: str,
        signing_key: Signer,
        *,
        domain: str,
        now: Callable[[], float],
        random: RandomBytes,
        transport: httpx2.AsyncBaseTransport | None = None,
        gateway_key: VerifyKey | Callable[[], Sequence[VerifyKey]] | None = None,
        gzip: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self._agency = agency
        self._key = signing_key
        self._domain = domain
        self._now = now
        self._random = random
        self._gateway_key = gateway_key
        self._gzip = gzip
        self._timeout = timeout_s
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            transport=transport,
            headers={"accept-encoding": "gzip" if gzip else "identity", "user-agent": "umuhuza"},
            timeout=timeout_s,
            limits=httpx2.Limits(max_connections=8, max_keepalive_connections=8),
            trust_env=False,
        )
        self._token: _Token | None = None
        self._token_lock = asyncio.Lock()
        self._staged: dict[str, dict[str, bytes]] = {}
        self._granted: dict[str, bytes] = {}
        self._log_id = ""
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        self.clock_offset_s = 0.0
        """Gateway's clock minus own clock at the last answer; add it to `now` before dating anything."""

    @property
    def log_id(self) -> str:
        """ "" before the first answer."""
        return self._log_id

    @property
    def now(self) -> float:
        """The own clock, corrected."""
        return self._now() + self.clock_offset_s

    # -----------------------------------------------------------------------------------------------------------------
    # The log contract

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        """As the contract; up to 1,000 records or 12 MiB per request, more are several requests in turn.

        Each record takes the grants along that were staged for it. Durable when its `Appended` is there: the promise
        was checked, if there is a key to check it against; `promise` keeps it as evidence.

        Raises:
            LogError: unavailable (it is not known which of them arrived: append all again), log_closed.
            RecordError: signature_invalid, record_malformed, header_forbidden: the promise is of none of the gateway's
                keys. The records may be in the log; appended again they are recognised.
            UmuhuzaError: what the gateway refused the request as a whole with (token, quota).
        """
        answers = await self._publish(entries, self._line)
        return [LogError("unavailable", "gateway") if answer is None else answer for answer in answers]

    async def announce(self, entries: Sequence[Entry]) -> list[Appended | UmuhuzaError | None]:
        """Send manifests and staged grants of records that will be written to the log by another way than this.

        None: in order by all that a gateway can see, and the grants are durable; `forget_staged` them once the record
        is written. `Appended`: the record stands in the log already. An error: as `append` would have answered; path
        "registry.direct" with `not_permitted` when this agency may not write by itself. Raises as `append`.
        """
        return await self._publish(entries, self._manifest_line)

    def forget_staged(self, ident: str) -> None:
        """The grants of this record are durable, and it is in the log."""
        for key in self._staged.pop(ident, {}):
            self._granted.pop(key, None)

    async def _publish(
        self, entries: Sequence[Entry], line_of: Callable[[Entry], bytes]
    ) -> list[Appended | UmuhuzaError | None]:
        """One answer each; None only for a manifest."""
        answers: list[Appended | UmuhuzaError | None] = [None] * len(entries)
        lines: list[tuple[int, bytes]] = []
        for place, entry in enumerate(entries):
            if len(entry.value) > MAX_VALUE_BYTES:
                answers[place] = LogError("too_large", "record", expected=MAX_VALUE_BYTES)
            elif self._closed:
                answers[place] = LogError("log_closed")
            elif (mismatch := _mismatch(entry)) is not None:
                answers[place] = mismatch
            else:
                lines.append((place, line_of(entry)))
        for group in _groups(lines):
            told = await self._post([line for _, line in group], [entries[place] for place, _ in group])
            for (place, _), answer in zip(group, told, strict=True):
                answers[place] = answer
                if isinstance(answer, Appended):
                    self.forget_staged(entries[place].ident)
        return answers

    def _line(self, entry: Entry) -> bytes:
        told = {"record": entry.value.decode("ascii"), "grants": self._grants_of(entry)}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    def _manifest_line(self, entry: Entry) -> bytes:
        line1 = entry.value.partition(b"\n")[0].decode("ascii")
        told = {"manifest": line1, "grants": self._grants_of(entry)}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    def _grants_of(self, entry: Entry) -> list[orjson.Fragment]:
        return [orjson.Fragment(data) for data in self._staged.get(entry.ident, {}).values()]

    async def carry(self, lines: Sequence[bytes], entries: Sequence[Entry]) -> list[Appended | UmuhuzaError]:
        """As another domain's bridge: lines of one contact (`schemas.home_proof`), answered as `append` answers.

        Args:
            lines: at most 1,000 and 12 MiB; the first has the checkpoint.
            entries: what each of them holds.
        """
        self._refuse_closed()
        answers = await self._post([line + b"\n" for line in lines], entries, "/v1/bridge/records")
        return [LogError("unavailable", "gateway") if answer is None else answer for answer in answers]

    async def give_registry(self, data: bytes) -> None:
        """As another domain's bridge: the newest excerpt of its registry; durable when it returns. Raises what it is
        refused with."""
        await self._call("PUT", "/v1/bridge/registry", body=data, headers={"content-type": "application/json"})

    async def _post(
        self, lines: Sequence[bytes], entries: Sequence[Entry], path: str = "/v1/records"
    ) -> list[Appended | UmuhuzaError | None]:
        response = await self._call(
            "POST", path, body=b"".join(lines), headers={"content-type": "application/x-ndjson"}
        )
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
        except orjson.JSONDecodeError:
            raise LogError("unavailable", "gateway") from None
        if len(told) != len(entries) + 1 or not all(isinstance(one, dict) for one in told) or "promise" not in told[-1]:
            raise LogError("unavailable", "gateway")
        text = told[-1]["promise"]
        keys = self._gateway_keys()
        promise = _promise_in(text, keys) if keys and isinstance(text, str) else None
        return [
            self._answer(entry, one, text, promise, checked=bool(keys))
            for entry, one in zip(entries, told[:-1], strict=True)
        ]

    def _gateway_keys(self) -> Sequence[VerifyKey]:
        if self._gateway_key is None:
            return ()
        return (self._gateway_key,) if isinstance(self._gateway_key, VerifyKey) else self._gateway_key()

    def _answer(
        self, entry: Entry, told: dict[str, Any], text: Any, promise: Promise | None, *, checked: bool
    ) -> Appended | UmuhuzaError | None:
        if "problem" in told:
            return error_of(told["problem"])
        if "granted" in told:
            named = (told["granted"], told.get("evt"), told.get("topic"), told.get("l1_sha256"))
            fits = named == (True, _evt(entry), entry.topic, _hash(entry))
            return None if fits else LogError("log_inconsistent", "topic")
        offset, at_ms, path, index = (told.get(name) for name in ("offset", "at", "path", "index"))
        if not (_is_count(offset) and _is_count(at_ms) and _is_count(index)):
            return LogError("unavailable", "gateway")
        if not isinstance(path, list) or not all(isinstance(one, str) for one in path):
            return LogError("unavailable", "gateway")
        if told.get("topic") != entry.topic:
            return LogError("log_inconsistent", "topic")
        line = Line(_evt(entry), _hash(entry), entry.topic, offset)
        if checked:
            if promise is None:
                return LogError("root_mismatch", "promise")
            try:
                check_line(line, index, path, promise, self._domain)
            except LogError as exc:
                return exc
        kept = evidence(line, index, path, text) if isinstance(text, str) else None
        return Appended(offset, at_ms, told.get("copy") is True, kept)

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As the contract, of an own mailbox only: any other topic is `topic_unknown`."""
        return await self.poll({topic: after}, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As the contract, of own mailboxes only; one request. The gateway may answer before `wait_s` seconds are over.

        Entries are as the gateway gives them: verify before use. Raises besides LogError `log_inconsistent` for entries
        that were not asked for, and what the gateway refuses the request with.
        """
        return [stored for stored, _ in await self.poll_granted(after, limit, max_bytes, wait_s)]

    async def poll_granted(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[tuple[Stored, tuple[bytes, ...]]]:
        """`poll`, each record with the grants that came beside it: saves asking for them."""
        if not after:
            return []
        flows = {self._own_flow(topic): number for topic, number in after.items()}
        query = {
            "flows": ",".join(flows),
            "after": ",".join(f"{flow}:{number}" for flow, number in flows.items()),
            "limit": str(limit),
            "bytes": str(max_bytes),
            "wait": f"{wait_s:.3f}",
        }
        response = await self._call("GET", "/v1/mailbox", query=query, wait_s=wait_s)
        found: list[tuple[Stored, tuple[bytes, ...]]] = []
        try:
            for line in response.content.split(b"\n"):
                if line:
                    one = orjson.loads(line)
                    words = (one["topic"], one["ident"])
                    if not all(isinstance(word, str) for word in words) or not _is_count(one["offset"]):
                        raise ValueError("types")
                    if not _is_count(one["at"]) or not isinstance(one["grants"], list):
                        raise ValueError("types")
                    stored = Stored(
                        one["topic"],
                        one["offset"],
                        one["key"].encode("ascii", "replace"),
                        one["ident"],
                        one["record"].encode("ascii", "replace"),
                        one["at"],
                        tuple((name, value.encode("latin-1")) for name, value in one["headers"].items()),
                    )
                    found.append((stored, tuple(orjson.dumps(grant) for grant in one["grants"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LogError("unavailable", "gateway") from None
        if any(stored.topic not in after or stored.offset <= after[stored.topic] for stored, _ in found):
            raise LogError("log_inconsistent", "mailbox")
        return found

    async def ends(self, topic: str) -> Ends:
        """As the contract, of an own mailbox only."""
        return (await self.ends_of([topic]))[topic]

    async def ends_of(self, topics: Sequence[str]) -> dict[str, Ends]:
        """`ends` of several own mailboxes in one request. Raises as `ends`."""
        if not topics:
            return {}
        flows = {self._own_flow(topic): topic for topic in topics}
        told = await self._json("/v1/ends", {"flows": ",".join(flows)})
        found: dict[str, Ends] = {}
        for flow, topic in flows.items():
            try:
                first, following = told["ends"][flow]["first"], told["ends"][flow]["next"]
            except (KeyError, TypeError):
                raise LogError("unavailable", "gateway") from None
            if not _is_count(first) or not _is_count(following):
                raise LogError("unavailable", "gateway")
            found[topic] = Ends(first, following)
        return found

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """Staged in this handle until the record that they belong to is appended: the one named in their key.

        A grant for an earlier record (`acts.grant`) is staged with `stage_grants` under the record that grants it.
        Staged again, a record's grants are those of the later call: a key may have been revoked since the earlier one.
        """
        self._refuse_closed()
        for ident in {key.partition("|")[0] for key in grants}:
            before = self._staged.get(ident, {})
            if any(f"{topic}#{key}" in before for key in grants):
                for old in [one for one in before if one.startswith(f"{topic}#{ident}|")]:
                    del before[old]
                    self._granted.pop(old, None)
        for key, data in grants.items():
            self._staged.setdefault(key.partition("|")[0], {})[f"{topic}#{key}"] = data
            self._granted[f"{topic}#{key}"] = data

    def stage_grants(self, ident: str, topic: str, grants: Mapping[str, bytes]) -> None:
        """Grants that travel with record `ident` though they are for others: disclosure and rotation."""
        self._refuse_closed()
        for key, data in grants.items():
            self._staged.setdefault(ident, {})[f"{topic}#{key}"] = data
            self._granted[f"{topic}#{key}"] = data

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """As the contract: what is staged here, else what the gateway keeps for this agency.

        Of another agency's grants topic only what is staged can be had; for the rest raises LogError `not_permitted`.
        """
        self._refuse_closed()
        found = self.staged(topic, keys)
        asked = [key for key in keys if key not in found]
        if asked and topic != grants_topic(self._agency):
            raise LogError("not_permitted", "topic")
        for start in range(0, len(asked), _KEYS_PER_REQUEST):
            told = await self._json("/v1/grants", {"key": asked[start : start + _KEYS_PER_REQUEST]})
            try:
                found |= {key: orjson.dumps(grant) for key, grant in told["grants"].items() if key in asked}
            except (KeyError, AttributeError, TypeError):
                raise LogError("unavailable", "gateway") from None
        return found

    def staged(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of `keys` that wait in this handle for their record."""
        return {key: self._granted[f"{topic}#{key}"] for key in keys if f"{topic}#{key}" in self._granted}

    def unstage(self, topic: str, keys: Sequence[str]) -> None:
        """Take these back."""
        for key in keys:
            if self._granted.pop(f"{topic}#{key}", None) is not None:
                for staged in self._staged.values():
                    staged.pop(f"{topic}#{key}", None)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """Unstages what is staged; confirms that the rest is gone. Raises LogError `not_permitted` when it is not."""
        self._refuse_closed()
        self.unstage(topic, keys)
        if await self.get_grants(topic, keys):
            raise LogError("not_permitted", "grants")

    async def close(self) -> None:
        """As the contract. Staged grants are forgotten; nothing that was acknowledged is lost."""
        if self._closed:
            return
        self._closed = True
        for call in list(self._calls):
            call.cancel()
        await self._client.aclose()

    # -----------------------------------------------------------------------------------------------------------------
    # What only a gateway offers

    async def fetch_registry(self, etag: str | None = None) -> tuple[bytes, str] | None:
        """The registry file as it is, unverified, and its ETag; None when `etag` is still the newest."""
        headers = {} if etag is None else {"if-none-match": etag}
        response = await self._call("GET", "/v1/registry", headers=headers)
        if response.status_code == 304:
            return None
        return response.content, response.headers.get("etag", "")

    async def fetch_neighbour(self, domain: str, version: int | None = None) -> bytes:
        """What our domain holds of another one's registry, unverified: the newest, or that version."""
        path = f"/v1/registry/{domain}" if version is None else f"/v1/registry/{domain}/{version}"
        return (await self._call("GET", path)).content

    async def fetch_entries(self, bundle: TileId) -> bytes:
        """A bundle of the ledger's entries as it is served, unverified; for agencies that policy names auditors."""
        return (await self._call("GET", f"/v1/log/{bundle.path}")).content

    async def object_to_keys(self, objection: bytes) -> None:
        """Tell the domain that keys in our entry are not ours (`schemas/objections.py`); durable when it returns."""
        await self._call("POST", "/v1/objections", body=objection, headers={"content-type": "application/jose"})

    async def objections(self) -> list[bytes]:
        """What members say of keys in their entries, one signed line each; unverified."""
        return (await self._call("GET", "/v1/objections")).content.splitlines()

    async def sent_heads(self) -> dict[str, SentHead]:
        """Topic -> the own chain's end there: what a restored adapter continues from."""
        told = await self._json("/v1/sent", {})
        try:
            return {
                topic: SentHead(int(head["seq"]), str(head["hash"]), int(head["offset"]))
                for topic, head in told["heads"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LogError("unavailable", "gateway") from None

    async def sent(self, topic: str, after: int = 0) -> list[SentManifest]:
        """The own manifests on a topic with `seq` above `after`, ascending; ask again after the last until []."""
        response = await self._call("GET", "/v1/sent", query={"topic": topic, "after": str(after)})
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
            return [
                SentManifest(int(one["seq"]), int(one["offset"]), int(one["at"]), one["manifest"].encode("ascii"))
                for one in told
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LogError("unavailable", "gateway") from None

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """Receipts of records by the hashes of their `header.payload`, in order; None: not logged yet.

        Bytes as they came: whoever keeps one checks it (`topics.receipts`). A gateway without a ledger has none.

        Raises:
            UmuhuzaError: no answer, or one that is none.
        """
        response = await self._call("GET", "/v1/receipts", query={"l1": list(l1_sha256)})
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
            found = [(one["l1"], one["receipt"]) for one in told]
            data = [None if receipt is None else receipt.encode("utf-8") for _, receipt in found]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LogError("unavailable", "gateway") from None
        if [l1 for l1, _ in found] != list(l1_sha256):
            raise LogError("unavailable", "gateway")
        return data

    # -----------------------------------------------------------------------------------------------------------------
    # Calls

    def _own_flow(self, topic: str) -> str:
        try:
            flow, owner = split_topic(topic)
        except RecordError:
            raise LogError("topic_unknown", topic) from None
        if owner != self._agency:  # whatever is another's is not there for us
            raise LogError("topic_unknown", topic)
        return flow

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("log_closed")

    async def _json(self, path: str, query: Mapping[str, str | list[str]]) -> Any:
        response = await self._call("GET", path, query=query)
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise LogError("unavailable", "gateway") from None

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> httpx2.Response:
        """One authenticated request; raises what the gateway refused it with."""
        self._refuse_closed()
        fields = dict(headers or {})
        if body is not None and self._gzip and len(body) > _GZIP_ABOVE:
            body = _gzip(body)
            fields["content-encoding"] = "gzip"
        async with self._under_way():
            for attempt in (1, 2):
                fields["authorization"] = f"Bearer {await self.access_token()}"
                response = await self._request(method, path, query, body, fields, wait_s)
                if response.status_code != 401 or attempt == 2:
                    break
                self._token = None
        if response.status_code in (200, 304):
            return response
        raise self._refusal(response)

    @asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        """Lets `close` end this call with `log_closed`, and nobody else's cancellation look like it."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._closed:
                raise
            task.uncancel()
            raise LogError("log_closed") from None
        finally:
            self._calls.discard(task)

    @staticmethod
    def _refusal(response: httpx2.Response) -> UmuhuzaError:
        try:
            return error_of(orjson.loads(response.content))
        except orjson.JSONDecodeError:
            return LogError("unavailable", "gateway")

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        wait_s: float,
    ) -> httpx2.Response:
        timeout = httpx2.Timeout(self._timeout, read=self._timeout + wait_s)
        closed = False
        try:
            response = await self._client.request(
                method, path, params=query, content=body, headers=dict(headers), timeout=timeout
            )
        except (httpx2.HTTPError, httpx2.InvalidURL):
            closed = self._closed
        except RuntimeError:
            if not self._closed:
                raise
            closed = True
        else:
            self._learn(response)
            return response
        raise LogError("log_closed" if closed else "unavailable", None if closed else "gateway")

    def _learn(self, response: httpx2.Response) -> None:
        self._log_id = response.headers.get("umuhuza-log", self._log_id)
        date = response.headers.get("date")
        if date is None:
            return
        try:
            offset = parsedate_to_datetime(date).timestamp() - self._now()
        except (ValueError, TypeError, OverflowError):
            return
        # Date has whole seconds and the answer took its time: small differences are none.
        self.clock_offset_s = offset if abs(offset) > _CLOCK_DIFFERS_S else 0.0

    async def access_token(self) -> str:
        """A token that counts now, for whoever calls the gateway by other means. Raises the gateway's refusal."""
        async with self._token_lock:
            if self._token is None or self._token.until <= self.now:
                self._token = await self._new_token()
            return self._token.text

    async def _new_token(self) -> _Token:
        for attempt in (1, 2):
            before = self.clock_offset_s
            response = await self._request("POST", "/v1/token", None, self._form(), _FORM, 0.0)
            if response.status_code == 200:
                try:
                    told = json.loads(response.content)
                    lifetime = float(told["expires_in"])
                    return _Token(str(told["access_token"]), self.now + max(lifetime - _RENEW_BEFORE_S, lifetime / 2))
                except (ValueError, KeyError, TypeError):
                    raise LogError("unavailable", "gateway") from None
            # A refusal teaches the right time: once more with it, if it was ours that was wrong.
            if attempt == 2 or abs(self.clock_offset_s - before) <= _CLOCK_DIFFERS_S:
                break
        raise self._refusal(response)

    def _form(self) -> bytes:
        at = int(self.now)
        claims = {
            "iss": self._agency,
            "sub": self._agency,
            "aud": f"urn:umuhuza:{self._domain}:gateway",
            "jti": b64url(self._random(16)),
            "iat": at,
            "exp": at + _ASSERTION_S,
        }
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": sign_jws("JWT", claims, self._key).decode("ascii"),
        }
        return urlencode(fields).encode("ascii")


def _is_count(value: object) -> TypeGuard[int]:
    """A number as ours are: from 0, within what JSON readers keep exactly."""
    return type(value) is int and 0 <= value < 2**53


def _evt(entry: Entry) -> str:
    return entry.ident.rpartition("/")[2]


def _hash(entry: Entry) -> str:
    return chain_hash(entry.value.partition(b"\n")[0])


def _promise_in(text: str, keys: Sequence[VerifyKey]) -> Promise:
    """Raises what `read_promise` raises for the last of the keys when none signed it."""
    for key in keys[:-1]:
        try:
            return read_promise(text, key)
        except UmuhuzaError:
            continue
    return read_promise(text, keys[-1])


def _mismatch(entry: Entry) -> RecordError | None:
    """A gateway places a record where its manifest says: an entry that says otherwise is refused here."""
    try:
        payload = entry.value.split(b".", 2)[1]
        raw = orjson.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        named = (raw["topic"], raw["thread"].encode("ascii"), f"{raw['iss']}/{raw['evt']}")
    except (ValueError, LookupError, TypeError, AttributeError):
        return RecordError("record_malformed", "record")
    if not entry.value.isascii():
        return RecordError("record_malformed", "record")
    for mine, theirs, code in zip(
        (entry.topic, entry.key, entry.ident), named, ("topic_mismatch", "key_mismatch", "header_mismatch"), strict=True
    ):
        if mine != theirs:
            return RecordError(code, "entry")
    return None


_FORM = {"content-type": "application/x-www-form-urlencoded"}


def _groups(lines: Sequence[tuple[int, bytes]]) -> list[list[tuple[int, bytes]]]:
    groups: list[list[tuple[int, bytes]]] = []
    size = 0
    for line in lines:
        if not groups or len(groups[-1]) >= _REQUEST_LINES or size + len(line[1]) > _REQUEST_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(line)
        size += len(line[1])
    return groups


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(body) + packer.flush()
