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
- **Grants come beside their record.** `poll` keeps those of the last answer for the `get_grants` that follows, once:
  they would cross the link a second time.
- **A page is as large as the link is fast** (`topics.link_pace`), and of one that breaks off, the whole lines are read.

Calls, tokens, clocks and patience are `topics.gateway_calls`'. After `unavailable` it is not known whether an append
arrived, and appending again is safe.
"""

from __future__ import annotations

import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import httpx2
import orjson

from schemas.envelope import chain_hash, split_topic
from schemas.errors import CODES, LogError, RecordError, UmuhuzaError
from schemas.keys import RandomBytes, Signer, VerifyKey
from topics.gateway_calls import GatewayCalls, error_of
from topics.link_pace import Portion
from topics.log import MAX_VALUE_BYTES, Appended, Ends, Entry, Stored, grant_key, grants_topic
from topics.promise import Line, Promise, check_line, evidence, read_promise
from topics.refusal import NotTaken
from topics.tiles import TileId

_REQUEST_LINES = 1000
_REQUEST_BYTES = 12 << 20
_KEYS_PER_REQUEST = 40
_PAGE_LEAST = 64 << 10
_PAGE_MOST = 16 << 20


def stored_of(told: Any) -> tuple[Stored, tuple[bytes, ...]]:
    """An entry of a mailbox and its grants, as a gateway tells them; unverified. Raises ValueError, without a value."""
    try:
        words = isinstance(told["topic"], str) and isinstance(told["ident"], str)
        counts = _is_count(told["offset"]) and _is_count(told["at"])
        if not (words and counts and isinstance(told["grants"], list)):
            raise ValueError("types")
        stored = Stored(
            told["topic"],
            told["offset"],
            told["key"].encode("ascii", "replace"),
            told["ident"],
            told["record"].encode("ascii", "replace"),
            told["at"],
            tuple((name, value.encode("latin-1")) for name, value in told["headers"].items()),
        )
        return stored, tuple(orjson.dumps(grant) for grant in told["grants"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("shape") from None


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
class Crossed:
    """What our gateway says became of a record abroad."""

    domain: str
    promise: bytes | None
    """That domain's, as evidence (`topics.promise`), not checked; None: it was refused."""
    code: str | None = None
    path: str | None = None
    refusal: str | None = None
    """That domain's signed word (`topics.refusal`), not checked; None: the bridge alone says so."""


def _crossed(told: Mapping[str, Any]) -> Crossed | None:
    """Raises KeyError, TypeError, ValueError: it is none."""
    domain, promise, code, path = (told[name] for name in ("domain", "promise", "code", "path"))
    if domain is None:
        return None
    if not isinstance(domain, str) or (promise is None) == (code is None):
        raise ValueError
    if promise is not None:
        return Crossed(domain, orjson.dumps(promise))
    refusal = told.get("refusal")  # gateways of earlier versions have none
    if code not in CODES or not isinstance(path, str | None) or not isinstance(refusal, str | None):
        raise ValueError
    return Crossed(domain, None, code, path, refusal)


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
        tls: whom to believe; None: the authorities that browsers believe.
        gzip: compress requests over 1 KiB and ask for compressed answers.
        timeout_s: of silence, in each direction, beside the time that a read waits.
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
        tls: ssl.SSLContext | None = None,
        gzip: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self._agency = agency
        self._domain = domain
        self._gateway_key = gateway_key
        self._calls = GatewayCalls(
            base_url,
            agency,
            signing_key,
            domain=domain,
            now=now,
            random=random,
            transport=transport,
            tls=tls,
            gzip=gzip,
            timeout_s=timeout_s,
        )
        self._staged: dict[str, dict[str, bytes]] = {}
        self._granted: dict[str, bytes] = {}
        self._beside: dict[str, dict[str, bytes]] = {}
        """Ident -> our grants by their keys, as they came with the last page."""
        self._page = Portion(_PAGE_MOST, _PAGE_LEAST, _PAGE_MOST)

    @property
    def log_id(self) -> str:
        """ "" before the first answer."""
        return self._calls.log_id

    @property
    def clock_offset_s(self) -> float:
        """Gateway's clock minus own clock at the last answer; add it to `now` before dating anything."""
        return self._calls.clock_offset_s

    @property
    def now(self) -> float:
        """The own clock, corrected."""
        return self._calls.now

    async def access_token(self) -> str:
        """A token that counts now, for whoever calls the gateway by other means. Raises the gateway's refusal."""
        return await self._calls.access_token()

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
            elif self._calls.closed:
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

    async def carry(self, lines: Sequence[bytes], entries: Sequence[Entry]) -> list[Appended | NotTaken]:
        """As another domain's bridge: lines of one contact (`schemas.home_proof`), answered as `append` answers, and
        with what the gateway has signed of those that it refuses.

        Args:
            lines: at most 1,000 and 12 MiB; the first has the checkpoint.
            entries: what each of them holds.
        """
        self._calls.refuse_closed()
        refusals: list[str | None] = []
        answers = await self._post([line + b"\n" for line in lines], entries, "/v1/bridge/records", refusals)
        return [
            answer if isinstance(answer, Appended) else NotTaken(answer or LogError("unavailable", "gateway"), refusal)
            for answer, refusal in zip(answers, refusals, strict=True)
        ]

    async def give_registry(self, data: bytes) -> None:
        """As another domain's bridge: the newest excerpt of its registry; durable when it returns. Raises what it is
        refused with."""
        await self._calls.call("PUT", "/v1/bridge/registry", body=data, headers={"content-type": "application/json"})

    async def show_checkpoint(self, data: bytes) -> None:
        """As another domain's bridge: the newest checkpoint of its ledger. Raises what it is refused with."""
        await self._calls.call("PUT", "/v1/bridge/checkpoint", body=data, headers={"content-type": "text/plain"})

    async def held_registry(self, etag: str) -> tuple[bytes, str] | None:
        """As another domain's bridge: what is held there of its own registry, unverified, and its ETag; None when
        `etag` still is."""
        response = await self._calls.call("GET", "/v1/bridge/registry", headers={"if-none-match": etag} if etag else {})
        return None if response.status_code == 304 else (response.content, response.headers.get("etag", ""))

    async def bring_objections(self, lines: Sequence[bytes]) -> None:
        """As another domain's bridge: all that its agencies say of keys in their entries; durable when it returns."""
        body = b"".join(line + b"\n" for line in lines)
        await self._calls.call(
            "PUT", "/v1/bridge/objections", body=body, headers={"content-type": "application/x-ndjson"}
        )

    async def _post(
        self,
        lines: Sequence[bytes],
        entries: Sequence[Entry],
        path: str = "/v1/records",
        refusals: list[str | None] | None = None,
    ) -> list[Appended | UmuhuzaError | None]:
        """`refusals`: filled with what was signed of each line."""
        response = await self._calls.call(
            "POST", path, body=b"".join(lines), headers={"content-type": "application/x-ndjson"}
        )
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
        except orjson.JSONDecodeError:
            raise LogError("unavailable", "gateway") from None
        if len(told) != len(entries) + 1 or not all(isinstance(one, dict) for one in told) or "promise" not in told[-1]:
            raise LogError("unavailable", "gateway")
        if refusals is not None:
            signed = [one.get("refusal") for one in told[:-1]]
            refusals += [one if isinstance(one, str) else None for one in signed]
        text = told[-1]["promise"]
        keys = self._gateway_keys()
        promise = promise_in(text, keys) if keys and isinstance(text, str) else None
        return [
            read_answer(entry, one, text, promise, self._domain, checked=bool(keys))
            for entry, one in zip(entries, told[:-1], strict=True)
        ]

    def _gateway_keys(self) -> Sequence[VerifyKey]:
        if self._gateway_key is None:
            return ()
        return (self._gateway_key,) if isinstance(self._gateway_key, VerifyKey) else self._gateway_key()

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
        found = await self.poll_granted(after, limit, max_bytes, wait_s)
        beside = {stored.ident: _by_key(stored.ident, grants) for stored, grants in found}
        self._beside = {ident: grants for ident, grants in beside.items() if grants}
        return [stored for stored, _ in found]

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
            "bytes": str(min(max_bytes, self._page.size)),
            "wait": f"{wait_s:.3f}",
        }
        try:
            response = await self._calls.call("GET", "/v1/mailbox", query=query, wait_s=wait_s, lines=True)
        except LogError:
            self._page.broke()
            raise
        if response.cut:
            self._page.broke()
        else:
            self._page.took(len(response.content), response.seconds)
        try:
            found = [stored_of(orjson.loads(line)) for line in response.content.split(b"\n") if line]
        except ValueError:
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
        told = await self._calls.json("/v1/ends", {"flows": ",".join(flows)})
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
        self._calls.refuse_closed()
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
        self._calls.refuse_closed()
        for key, data in grants.items():
            self._staged.setdefault(ident, {})[f"{topic}#{key}"] = data
            self._granted[f"{topic}#{key}"] = data

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """As the contract: what is staged here, else what the gateway keeps for this agency.

        Of another agency's grants topic only what is staged can be had; for the rest raises LogError `not_permitted`.
        """
        self._calls.refuse_closed()
        found = self.staged(topic, keys)
        asked = [key for key in keys if key not in found]
        if asked and topic != grants_topic(self._agency):
            raise LogError("not_permitted", "topic")
        came = {ident: self._beside.pop(ident) for key in asked if (ident := key.partition("|")[0]) in self._beside}
        found |= {key: data for beside in came.values() for key, data in beside.items() if key in asked}
        asked = [key for key in asked if key.partition("|")[0] not in came]
        for start in range(0, len(asked), _KEYS_PER_REQUEST):
            told = await self._calls.json("/v1/grants", {"key": asked[start : start + _KEYS_PER_REQUEST]})
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
        self._calls.refuse_closed()
        self.unstage(topic, keys)
        if await self.get_grants(topic, keys):
            raise LogError("not_permitted", "grants")

    async def close(self) -> None:
        """As the contract. Staged grants are forgotten; nothing that was acknowledged is lost."""
        self._beside.clear()
        await self._calls.close()

    # -----------------------------------------------------------------------------------------------------------------
    # What only a gateway offers

    async def fetch_registry(self, etag: str | None = None) -> tuple[bytes, str] | None:
        """The registry file as it is, unverified, and its ETag; None when `etag` is still the newest."""
        headers = {} if etag is None else {"if-none-match": etag}
        response = await self._calls.call("GET", "/v1/registry", headers=headers)
        if response.status_code == 304:
            return None
        return response.content, response.headers.get("etag", "")

    async def fetch_neighbour(self, domain: str, version: int | None = None) -> bytes:
        """What our domain holds of another one's registry, unverified: the newest, or that version."""
        path = f"/v1/registry/{domain}" if version is None else f"/v1/registry/{domain}/{version}"
        return (await self._calls.call("GET", path)).content

    async def fetch_of_us(self, domain: str) -> bytes:
        """What that domain holds of our own domain's registry, unverified; empty: it has not told."""
        return (await self._calls.call("GET", f"/v1/registry/{domain}/of-us")).content

    async def fetch_entries(self, bundle: TileId) -> bytes:
        """A bundle of the ledger's entries as it is served, unverified; for agencies that policy names auditors."""
        return (await self._calls.call("GET", f"/v1/log/{bundle.path}")).content

    async def object_to_keys(self, objection: bytes) -> None:
        """Tell the domain that keys in our entry are not ours (`schemas/objections.py`); durable when it returns."""
        await self._calls.call("POST", "/v1/objections", body=objection, headers={"content-type": "application/jose"})

    async def objections(self) -> list[bytes]:
        """What members say of keys in their entries, one signed line each; unverified."""
        return (await self._calls.call("GET", "/v1/objections")).content.splitlines()

    async def sent_heads(self) -> dict[str, SentHead]:
        """Topic -> the own chain's end there: what a restored adapter continues from."""
        told = await self._calls.json("/v1/sent", {})
        try:
            return {
                topic: SentHead(int(head["seq"]), str(head["hash"]), int(head["offset"]))
                for topic, head in told["heads"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LogError("unavailable", "gateway") from None

    async def sent(self, topic: str, after: int = 0) -> list[SentManifest]:
        """The own manifests on a topic with `seq` above `after`, ascending; ask again after the last until []."""
        response = await self._calls.call("GET", "/v1/sent", query={"topic": topic, "after": str(after)})
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
        return await self._receipts(l1_sha256, {})

    async def erased(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """As `receipts`, of the entries that call done what these records command to erase; None: not done yet."""
        return await self._receipts(l1_sha256, {"of": "erased"})

    async def crossed(self, l1_sha256: Sequence[str]) -> list[Crossed | None]:
        """What became abroad of records that go over a border, by the hashes of their `header.payload`, in order; None:
        nothing is known yet.

        As it came: whoever keeps a promise checks it. A gateway without neighbours answers nothing.

        Raises:
            UmuhuzaError: no answer, or one that is none.
        """
        response = await self._calls.call("GET", "/v1/crossed", query={"l1": list(l1_sha256)})
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
            found = [(one["l1"], _crossed(one)) for one in told]
        except (KeyError, TypeError, ValueError):
            raise LogError("unavailable", "gateway") from None
        if [l1 for l1, _ in found] != list(l1_sha256):
            raise LogError("unavailable", "gateway")
        return [one for _, one in found]

    async def receipts_abroad(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """As `receipts`, of the other domain's ledger; None: our bridge has none yet. Raises as `crossed`."""
        return await self._receipts(l1_sha256, {}, "/v1/crossed/receipts")

    async def carried_receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """As another domain's bridge: as `receipts`, of records that it brought."""
        return await self._receipts(l1_sha256, {}, "/v1/bridge/receipts")

    async def _receipts(
        self, l1_sha256: Sequence[str], query: Mapping[str, str], path: str = "/v1/receipts"
    ) -> list[bytes | None]:
        response = await self._calls.call("GET", path, query={"l1": list(l1_sha256), **query})
        try:
            told = [orjson.loads(line) for line in response.content.split(b"\n") if line]
            found = [(one["l1"], one["receipt"]) for one in told]
            data = [None if receipt is None else receipt.encode("utf-8") for _, receipt in found]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LogError("unavailable", "gateway") from None
        if [l1 for l1, _ in found] != list(l1_sha256):
            raise LogError("unavailable", "gateway")
        return data

    async def exchange(self, bundle: bytes) -> bytes:
        """Bring a sealed bundle, one's own or another's; the sealed bundle that goes back (`schemas.bundle`).

        Raises what it is refused with. Brought again, it is answered as before.
        """
        headers = {"content-type": "application/octet-stream"}
        return (await self._calls.call("POST", "/v1/bundles", body=bundle, headers=headers)).content

    def _own_flow(self, topic: str) -> str:
        try:
            flow, owner = split_topic(topic)
        except RecordError:
            raise LogError("topic_unknown", topic) from None
        if owner != self._agency:  # whatever is another's is not there for us
            raise LogError("topic_unknown", topic)
        return flow


def _by_key(ident: str, grants: Sequence[bytes]) -> dict[str, bytes]:
    """Those of a page's grants that are this record's own, under their keys; none where one is not a grant."""
    found: dict[str, bytes] = {}
    for grant in grants:
        told = orjson.loads(grant)
        if (
            isinstance(told, dict)
            and isinstance(told.get("kid"), str)
            and f"{told.get('iss')}/{told.get('evt')}" == ident
        ):
            found[grant_key(ident, told["kid"])] = grant
    return found


def _is_count(value: object) -> TypeGuard[int]:
    """A number as ours are: from 0, within what JSON readers keep exactly."""
    return type(value) is int and 0 <= value < 2**53


def _evt(entry: Entry) -> str:
    return entry.ident.rpartition("/")[2]


def _hash(entry: Entry) -> str:
    return chain_hash(entry.value.partition(b"\n")[0])


def read_answer(
    entry: Entry, told: Mapping[str, Any], text: Any, promise: Promise | None, domain: str, *, checked: bool
) -> Appended | UmuhuzaError | None:
    """What a gateway's answer line says of an entry. None: its manifest was taken.

    Args:
        text: the promise as it came, kept as evidence.
        promise: what it says, once its signature was checked.
        checked: whether one has to be there: else lines are believed.
    """
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
            check_line(line, index, path, promise, domain)
        except LogError as exc:
            return exc
    kept = evidence(line, index, path, text) if isinstance(text, str) else None
    return Appended(offset, at_ms, told.get("copy") is True, kept)


def promise_in(text: str, keys: Sequence[VerifyKey]) -> Promise:
    """What a promise says that one of these keys (at least one) has signed.

    Raises what `read_promise` raises for the last of the keys when none signed it."""
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
