# SPDX-License-Identifier: Apache-2.0
"""What must hold between two countries when everything has settled: what crossed, both ledgers, both witnesses.

Each check returns what is wrong, in words. Counting only: every record of each log against the ledger, every record of
one log for the other country against the other log.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.envelope import parse_record
from schemas.ledgers import origin_of
from schemas.trust_policy import TrustPolicy, read_endorsed
from tests.topics.ledger_world import entries_in
from topics.bridge_book import BridgeBook
from topics.cosigning import ENDORSED_FILE
from topics.ledger_entries import LedgerEntry
from topics.ledger_view import LedgerView
from topics.log import Stored
from topics.proofs import leaf_hash, root
from topics.witness import Witness


@dataclass(frozen=True)
class CountryRemains:
    """One country's middle, as it is afterwards."""

    name: str
    log: Sequence[Stored]
    log_id: str
    view: LedgerView
    ledger: Path
    policy: TrustPolicy
    book: BridgeBook
    witness: Witness

    def written_for(self, other: str) -> list[Stored]:
        """What this country's agencies have written for the other's."""
        return [one for one in self.log if one.topic.startswith(f"{other}.") and one.ident.startswith(f"{self.name}/")]


def _pairs(countries: Mapping[str, CountryRemains]) -> Iterator[tuple[CountryRemains, CountryRemains]]:
    bi, tn = countries["bi"], countries["tn"]
    yield from ((bi, tn), (tn, bi))


def carried(countries: Mapping[str, CountryRemains]) -> list[str]:
    """What has still to cross, or to be logged, or to be cosigned. Empty: both countries are at rest."""
    found = []
    for home, other in _pairs(countries):
        ends = Counter(one.topic for one in home.log)
        found += [
            f"{topic}: not all of it has left {home.name}"
            for topic in sorted({one.topic for one in home.written_for(other.name)})
            if home.book.cursor(home.log_id, topic) + 1 < ends[topic]
        ]
        found += [f"{home.name}: keys of what was promised abroad are still there" for _ in home.book.grants_due()[:1]]
        if sum(state.next for state in home.view.topics.values()) < len(home.log):
            found.append(f"{home.name}: the ledger is behind its log")
        path = home.ledger / ENDORSED_FILE
        endorsed = read_endorsed(path.read_bytes(), home.policy, origin_of(home.name)) if path.exists() else None
        if endorsed is None or endorsed.signed.checkpoint.size < home.view.size:
            found.append(f"{home.name}: its last entries are not cosigned")
    return found


def crossed(countries: Mapping[str, CountryRemains]) -> list[str]:
    """Everything that does not hold between the countries."""
    found = carried(countries)
    for home, other in _pairs(countries):
        found += _once_and_whole(home, other)
        found += _promised(home, other)
        found += _ledger(home)
        found += _cosigned(home, other)
    return found


def _once_and_whole(home: CountryRemains, other: CountryRemains) -> Iterator[str]:
    """The same records stand in the other log: each once, with the same bytes, in the same order, and no more."""
    refused = {one.ident for one in home.book.refusals(10_000)}
    there = [one for one in other.log if one.ident.startswith(f"{home.name}/")]
    here = [one for one in home.written_for(other.name) if one.ident not in refused]
    for one in refused:
        if any(each.ident == one for each in there):
            yield f"{one} was refused in {other.name} and stands there"
    for topic in sorted({one.topic for one in (*here, *there)}):
        sent = [(one.ident, one.value) for one in here if one.topic == topic]
        arrived = [(one.ident, one.value) for one in there if one.topic == topic]
        if sent == arrived:
            continue
        for ident, count in Counter(ident for ident, _ in arrived).items():
            if count != 1:
                yield f"{ident} is {count} times in {other.name}"
        yield f"{topic}: {len(sent)} were sent from {home.name}, {len(arrived)} are in {other.name}, or in other order"


def _promised(home: CountryRemains, other: CountryRemains) -> Iterator[str]:
    """Of every record that crossed the bridge keeps the other country's promise."""
    there = {one.ident for one in other.log}
    for one in home.written_for(other.name):
        if one.ident in there and home.book.promise(one.ident) is None:
            yield f"{one.ident} is in {other.name} without a promise"


def _ledger(home: CountryRemains) -> Iterator[str]:
    """Every record of the log is one entry, an event, of these very bytes; there is no entry without its record."""
    entries = [one for one in entries_in(home.view) if one.kind != "registry"]
    found: dict[tuple[str | None, int | None], LedgerEntry] = {(one.topic, one.offset): one for one in entries}
    if len(found) != len(entries):
        yield f"{home.name}: two entries speak of one place"
    for one in home.log:
        entry = found.pop((one.topic, one.offset), None)
        if entry is None:
            yield f"{home.name}: {one.topic}:{one.offset} is not in the ledger"
        elif entry.kind != "event":
            yield f"{home.name}: {one.topic}:{one.offset} is a {entry.kind} ({entry.detail})"
        elif entry.value_sha256 != hashlib.sha256(one.value).digest():
            yield f"{home.name}: {one.topic}:{one.offset} has other bytes than the ledger says"
        elif entry.l1_sha256 != parse_record(one.value).digest:
            yield f"{home.name}: {one.topic}:{one.offset} has another manifest than the ledger says"
    for topic, offset in found:
        yield f"{home.name}: the ledger has {topic}:{offset}, the log does not"


def _cosigned(home: CountryRemains, other: CountryRemains) -> Iterator[str]:
    """The newest endorsed head is this tree's, and what each witness saw last is a part of it."""
    leaves = [leaf_hash(one) for one in home.view.entries()]
    endorsed = read_endorsed((home.ledger / ENDORSED_FILE).read_bytes(), home.policy, origin_of(home.name))
    head = endorsed.signed.checkpoint
    if not home.policy.met_by(endorsed.by) or root(leaves[: head.size]) != head.root:
        yield f"{home.name}: the endorsed checkpoint is not of its tree, or not of the quorum"
    for witness in (home.witness, other.witness):
        for seen in witness.seen():
            if seen.origin != origin_of(home.name):
                continue
            if seen.size > len(leaves) or root(leaves[: seen.size]) != seen.root:
                yield f"a witness has cosigned another history of {home.name}"
            if seen.contradictions or seen.unproved:
                yield f"a witness has evidence against {home.name}"
