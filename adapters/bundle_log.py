# SPDX-License-Identifier: Apache-2.0
"""A bundle, read like a log: what came on a stick goes the way in that everything goes (`adapters.inbox`).

    answer    our mailboxes as the gateway has them, under the log's own name: cursors go on where they are
    direct    records that another agency handed us, under a name of the bundle's own: of the log it says nothing

Invariants: read-only; nothing is skipped, a mailbox that begins behind our cursor is refused whole. Must never: make
what was handed over look as if it stood in the log.

If we crash here: nothing is kept here; the same bundle is read again, and the mailbox knows what it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from adapters.mailbox_rows import CARRIED
from schemas.bundle import Bundle
from schemas.envelope import cloudevents_headers, parse_manifest
from schemas.errors import LogError, RecordError
from schemas.sealing import grant_of
from topics.http_log import stored_of
from topics.log import Appended, Ends, Entry, Stored, grant_key

NEVER = 2**53 - 1
"""End of a mailbox that a stick alone cannot bring to an end: what waits for the rest waits for the log."""


@dataclass(frozen=True, slots=True)
class BundleLog:
    """A `topics.log.Log` that can only be read."""

    log_id: str
    entries: Mapping[str, Sequence[Stored]] = field(repr=False)
    """By topic, ascending."""
    at_end: Mapping[str, Ends]
    grants: Mapping[str, bytes] = field(repr=False)
    found: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """base64url hash -> receipt."""
    last: int = 0
    """The end of topics that it does not name."""

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        """Nothing is appended to a stick that was read."""
        return [LogError("unavailable", "bundle") for _ in entries]

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As `Log.read`, without waiting."""
        return await self.poll({topic: after}, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        """As `Log.poll`, without waiting; all of it is here already, so only `limit` counts."""
        del max_bytes, wait_s
        found = [one for topic, offset in after.items() for one in self.entries.get(topic, ()) if one.offset > offset]
        return found[:limit]

    async def ends(self, topic: str) -> Ends:
        """As `Log.ends`, when the bundle was made."""
        return self.at_end.get(topic, Ends(0, self.last))

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """Raises LogError `unavailable`."""
        raise LogError("unavailable", "bundle")

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """As `Log.get_grants`."""
        del topic  # only ours are here
        return {key: self.grants[key] for key in keys if key in self.grants}

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """Raises LogError `unavailable`."""
        raise LogError("unavailable", "bundle")

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """As a gateway's (`adapters.receipt_book.ReceiptSource`)."""
        return [self.found.get(one) for one in l1_sha256]

    async def close(self) -> None:
        """Nothing is open."""


NOTHING = BundleLog("", {}, {}, {})
"""While nothing was read."""


def answered(bundle: Bundle, cursors: Mapping[str, Mapping[str, int]]) -> BundleLog:
    """Our mailboxes as an answer has them.

    Args:
        cursors: log -> topic -> what we have taken.

    Raises:
        LogError: bundle_malformed, path `mail[3]`. bundle_misplaced, path `mail`: it begins behind our cursor (our
            mailbox was put back from a copy): what is between would be skipped.
    """
    places = bundle.contents.log
    if places is None:
        raise LogError("bundle_misplaced", "log")
    held = cursors.get(places.log, {})
    if any(after > held.get(topic, -1) for topic, after in places.after.items()):
        raise LogError("bundle_misplaced", "mail")
    entries: dict[str, list[Stored]] = {}
    grants: dict[str, bytes] = {}
    for number, told in enumerate(bundle.contents.mail):
        try:
            stored, given = stored_of(told)
            read = [grant_of(orjson.loads(one)) for one in given]
        except (ValueError, RecordError):
            raise LogError("bundle_malformed", f"mail[{number}]") from None
        several = entries.setdefault(stored.topic, [])
        before = several[-1].offset if several else places.after.get(stored.topic, NEVER)
        if stored.offset <= before:
            raise LogError("bundle_malformed", f"mail[{number}]")
        several.append(stored)
        grants |= {grant_key(one.ident, one.kid): data for one, data in zip(read, given, strict=True)}
    ends = {topic: Ends(*end) for topic, end in places.ends.items()}
    return BundleLog(places.log, entries, ends, grants, bundle.contents.receipts)


def handed(bundle: Bundle, now_ms: int) -> BundleLog:
    """What another agency handed us. Its log's name is its own, so that the same bundle again is known.

    Args:
        now_ms: counts as the log's time until the log has them.

    Raises:
        LogError: bundle_malformed, path `record[3]`. RecordError: issuer_mismatch: a record of a third agency's.
    """
    entries: dict[str, list[Stored]] = {}
    grants: dict[str, bytes] = {}
    for number, one in enumerate(bundle.contents.records):
        try:
            m = parse_manifest(one.record.partition(b"\n")[0])[3]
            read = [grant_of(raw) for raw in one.grants]
        except RecordError:
            raise LogError("bundle_malformed", f"record[{number}]") from None
        if m.iss != bundle.head.iss or m.to != bundle.head.to:
            raise RecordError("issuer_mismatch", f"record[{number}]")
        several = entries.setdefault(m.topic, [])
        headers = cloudevents_headers(m)
        several.append(Stored(m.topic, len(several), m.thread.encode(), m.ident, one.record, now_ms, headers))
        grants |= {
            grant_key(grant.ident, grant.kid): orjson.dumps(raw) for grant, raw in zip(read, one.grants, strict=True)
        }
    return BundleLog(f"{CARRIED}{bundle.head.ident}", entries, {}, grants, last=NEVER)
