# SPDX-License-Identifier: Apache-2.0
"""Keeping up with the log: what other gateways wrote, what it commands to erase, and the grants that are left to serve.

Purpose: the index says what is in the log, whoever wrote it there.
Invariants: a record counts only if its signature does (`gateway.examine.checked`); what could not be verified for want
of a newer registry is asked again when there is one; what is to be erased is not served, even while it cannot be
deleted. Where the domain has a ledger, its order and no clock says whether a key that is revoked by now still counted
for a record; what it has not reached yet is asked again each round, and counts for nothing meanwhile.
Must never: put a value into an error.

If we crash here: what was applied and not flushed is read again; a deletion that was not done is done then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence

from gateway.checking import Checks
from gateway.examine import Checked, Rules
from gateway.index import Index
from schemas.envelope import parse_manifest
from schemas.errors import LogError, RecordError
from schemas.keys import b64url
from topics.log import FindsGrants, Log, Stored, grant_key, grants_topic
from topics.verification import Verified, verify_logged


class Follower:
    """One gateway's reading of the log. Used from one event loop."""

    def __init__(
        self,
        log: Log,
        index: Index,
        checks: Checks,
        abroad: Callable[[Stored], Checked] | None = None,
        placed: Callable[[bytes, str], int | None] | None = None,
        ledger: Callable[[], int] = lambda: 1,
    ) -> None:
        """
        Args:
            abroad: what a record is whose signer is no member, by the home proof that stands beside it.
            placed: index of the ledger's entry that counts the record with this `header.payload` hash in this topic;
                -1: it refuses it; None: it has not reached it. Raises LogError: it cannot be asked now. None where the
                domain has no ledger.
            ledger: number of that ledger among the domain's.
        """
        self._abroad = abroad
        self._placed = placed
        self._ledger = ledger
        self._behind = 0
        self._log = log
        self._index = index
        self._checks = checks
        self._verified_with: Rules | None = None
        self._following = asyncio.Lock()
        self.troubled: Mapping[str, str] = {}
        """Topic that could not be followed -> code: not made yet, or no longer the one that it was."""

    async def follow(self, topics: Sequence[str] | None = None) -> int:
        """As `catch_up`; then as `erase`."""
        count = await self.catch_up(topics)
        await self.erase()
        return count

    async def catch_up(self, topics: Sequence[str] | None = None) -> int:
        """Apply what is in the log and not in the index; returns how many entries were read. What they command to
        erase is not served from here on, and is not erased yet.

        A topic that the log does not have, or not as it was, is passed by and named in `troubled`: the others go on.

        Raises:
            LogError: unavailable, log_closed.
        """
        count = 0
        async with self._following:
            rules = self._checks.rules
            asked = rules.topics if topics is None else topics
            wanted = {topic for topic in asked if ".grants." not in topic}
            trouble: dict[str, str] = {}
            while wanted:
                try:
                    stored = await self._log.poll({topic: self._index.next_offset(topic) - 1 for topic in wanted})
                except LogError as exc:
                    topic = exc.path
                    if topic is None or topic not in wanted:
                        raise
                    if exc.code == "retention_passed":
                        self._index.skip_to(topic, (await self._log.ends(topic)).first)
                        continue
                    wanted.discard(topic)
                    trouble[topic] = exc.code
                    continue
                if not stored:
                    break
                await self._apply(rules, stored)
                count += len(stored)
            if topics is None and trouble and not wanted and set(trouble.values()) == {"unavailable"}:
                raise LogError("unavailable")  # not this topic or that one: the log
            kept = {topic: code for topic, code in self.troubled.items() if topic not in asked}
            self.troubled = kept | trouble
            if topics is None and (self._verified_with is not rules or self._behind):
                await self._ask_again(rules)
                self._verified_with = rules
        return count

    async def _apply(self, rules: Rules, stored: Sequence[Stored]) -> None:
        found = await self._checks.checker.check(rules, [(one.topic, one.at_ms, one.value) for one in stored])
        for one, good in zip(stored, found, strict=True):
            good = self._by_ledger(rules, one, good)
            if good == "unknown" and self._abroad is not None:
                good = self._abroad(one) or good
            if good is None:
                self._index.passed(one.topic, one.offset)
            elif good == "unknown":
                self._index.leave_unverified(one.topic, one.offset)
            else:
                self._index.apply(good[0], good[1], one.offset, one.at_ms)

    def _by_ledger(self, rules: Rules, one: Stored, good: Checked) -> Checked:
        """What a record is whose key is revoked by now: what the ledger says of it, where there is one."""
        if self._placed is None or not rules.revoked:
            return good
        try:
            kid, signed, _, manifest = parse_manifest(one.value.partition(b"\n")[0])
        except RecordError:
            return good
        if (manifest.iss, kid) not in rules.revoked:
            return good
        try:
            index = self._placed(hashlib.sha256(signed).digest(), one.topic)
        except LogError:
            index = None
        if index is None:
            self._behind += 1
            return "unknown"
        if index < 0:
            return None
        counts = verify_logged(rules.registry, one.topic, one.at_ms, one.value, index, self._ledger())
        return (counts.manifest, b64url(counts.l1_sha256)) if isinstance(counts, Verified) else None

    @property
    def behind(self) -> int:
        """Records from keys that are revoked by now that wait for the ledger to say whether they count."""
        return self._behind

    async def _ask_again(self, rules: Rules) -> None:
        """Records whose signer was not known: another gateway had a newer registry than this one then. And those that
        wait for the ledger."""
        self._behind = 0
        for topic, offset in self._index.unverified():
            try:
                stored = await self._log.read(topic, offset - 1, limit=1)
            except LogError as exc:
                if exc.code == "unavailable" and exc.path != topic:
                    raise
                continue
            at = [one for one in stored if one.offset == offset]
            self._index.verified(topic, offset)
            await self._apply(rules, at)

    async def lag(self) -> int:
        """Entries in the log that the index has not applied."""
        total = 0
        for topic in self._checks.rules.topics:
            if ".grants." not in topic:
                try:
                    ends = await self._log.ends(topic)
                except LogError as exc:
                    if exc.code == "unavailable" and exc.path != topic:
                        raise
                    continue
                total += max(ends.next - max(self._index.next_offset(topic), ends.first), 0)
        return total

    async def erase(self) -> None:
        """Carry out the erasures that the log commands: every key of every holder of each target.

        What could not be deleted now stays to be done; it is not served meanwhile. A reader of another process may hold
        up each for seconds: whoever has others waiting asks `Committer.erase_soon`.
        """
        rules, blind = self._checks.rules, False
        for ident in self._index.erasures_to_do():
            known = self._index.event(ident)
            holders = self._index.disclosed_to(ident)
            if known is not None:
                holders.add(known.recipient)
            try:
                for agency in sorted(filter(rules.knows, holders)):
                    topic, keys = grants_topic(agency), [grant_key(ident, kid) for kid in rules.seal_kids(agency)]
                    # Asked first: what stays to be done is tried at every turn, and would write each time on Kafka.
                    await self._log.delete_grants(topic, list(await self._log.get_grants(topic, keys)))
                # Who has left is no holder that anybody knows, and a key that was rotated away is nobody's.
                if isinstance(self._log, FindsGrants):
                    if blind:
                        continue
                    blind = True  # until it has answered: what fails here fails for each record
                    found = await self._log.grant_keys(ident)
                    blind = False
                    for topic, left in found.items():
                        await self._log.delete_grants(topic, left)
            except LogError:
                continue
            self._index.erased([ident])

    async def grants_for(self, agency: str, idents: Sequence[str]) -> dict[str, list[bytes]]:
        """ident -> grants sealed to any key of this agency, erased ones left out although they may still be there."""
        kids = list(self._checks.rules.seal_kids(agency))
        wanted = {grant_key(ident, kid): ident for ident in idents if not self._index.is_erased(ident) for kid in kids}
        if not wanted:
            return {}
        found = await self._log.get_grants(grants_topic(agency), list(wanted))
        grants: dict[str, list[bytes]] = {}
        for key, data in found.items():
            # Asked again: an erasure may have been applied while the log was read.
            if not self._index.is_erased(wanted[key]):
                grants.setdefault(wanted[key], []).append(data)
        return grants
