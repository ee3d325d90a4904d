# SPDX-License-Identifier: Apache-2.0
"""What must hold when the weather is fine again and everything has settled.

Each check returns what is wrong, in words, and looks only at what survives: the agencies' own systems, the mailboxes,
the log, and every byte on every disk. Nothing here knows how the product works inside, but for the mailbox's own
questions (`outbox`, `inbox`, `threads`).
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Outgoing
from schemas.envelope import Record, chain_hash, parse_manifest, parse_record
from tests.sim_agency import PLANTED_NAME, PLANTED_NUMBER, System
from tests.sim_machine import Machine
from topics.log import Stored


@dataclass(frozen=True)
class Remains:
    """One agency, as it is afterwards."""

    system: System
    mailbox: Mailbox
    machine: Machine


@dataclass(frozen=True)
class Logged:
    stored: Stored
    record: Record


def unsettled(agencies: Mapping[str, Remains]) -> list[str]:
    """What is still on its way. Empty: the world is at rest."""
    found = []
    for name, agency in agencies.items():
        found += [f"{name}: file {source} was never reported back" for source in agency.system.files]
        for item in agency.mailbox.outbox():
            if item.state in ("waiting", "signed") or (item.state == "promised" and item.speaks):
                found.append(f"{name}: {item.type} {item.evt} is {item.state} ({item.code})")
        found += [f"{name}: {topic} has void numbers to name" for topic in agency.mailbox.chains.topics_to_void()]
        found += [f"{name}: {item.evt} is not told" for item in agency.mailbox.untold()]
        found += [
            f"{name}: {one.ident} is {one.state} ({one.code})"
            for one in agency.mailbox.arrivals.all()
            if one.state in ("held", "ready")
        ]
    return found


def violations(agencies: Mapping[str, Remains], log: Sequence[Stored], disks: Sequence[Machine]) -> list[str]:
    """Everything that does not hold."""
    logged = [Logged(one, parse_record(one.value)) for one in log]
    found = list(unsettled(agencies))
    for check in (_acknowledged, _arrived_once, _in_the_log, _order, _threads, _receipts, _told):
        found += check(agencies, logged)
    found += _chains(agencies, logged)
    found += _no_names(disks)
    return found


def _sent(agencies: Mapping[str, Remains]) -> Iterator[tuple[str, Outgoing]]:
    for name, agency in agencies.items():
        for item in agency.mailbox.outbox():
            yield name, item


def _inboxes(agencies: Mapping[str, Remains]) -> dict[str, dict[str, list[Incoming]]]:
    found: dict[str, dict[str, list[Incoming]]] = {}
    for name, agency in agencies.items():
        by_ident: dict[str, list[Incoming]] = defaultdict(list)
        for item in agency.mailbox.arrivals.all():
            by_ident[item.ident].append(item)
        found[name] = by_ident
    return found


def _acknowledged(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Every draft whose outcome had an evt is in the outbox and came to an end."""
    for name, agency in agencies.items():
        for (source, line), outcome in agency.system.outcomes.items():
            if outcome.evt is None:
                continue
            item = agency.mailbox.outgoing(outcome.evt)
            if item is None:
                yield f"{name}: {outcome.evt} ({source}, {line}) was acknowledged and is lost"
            elif item.state not in ("delivered", "rejected", "refused", "cancelled"):
                yield f"{name}: {outcome.evt} ended as {item.state}"
            elif item.state in ("rejected", "refused") and not item.code:
                yield f"{name}: {outcome.evt} is {item.state} without a code"


def _arrived_once(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Delivered means: exactly one effect at the recipient. Not delivered means: none."""
    inboxes = _inboxes(agencies)
    sent = {f"{name}/{item.evt}": item for name, item in _sent(agencies)}
    for ident, item in sent.items():
        if not item.speaks:
            continue
        at = agencies[item.peer]
        there = inboxes[item.peer].get(ident, [])
        alive = [one for one in there if one.state != "quarantined"]
        effects = int(ident in at.system.received)
        if item.state == "delivered":
            kept = ident in at.system.refused_here
            if not kept and (len(alive) != 1 or effects != 1):
                yield f"{ident} is delivered, with {len(alive)} rows and {effects} effects at {item.peer}"
        elif item.state == "rejected":
            if effects or item.code not in {one.code for one in there}:
                yield f"{ident} was rejected ({item.code}), with {effects} effects at {item.peer}"
        elif there or effects:
            yield f"{ident} is {item.state} and yet at {item.peer}"
    for name, agency in agencies.items():
        for ident, arrived in agency.system.received.items():
            item_sent = sent.get(ident)
            if item_sent is None or (item_sent.type, item_sent.thread) != (arrived.type, arrived.thread):
                yield f"{name}: {ident} was received and never sent so"
        for ident, rows in inboxes[name].items():
            if len([one for one in rows if one.state != "quarantined"]) > 1:
                yield f"{name}: {ident} is in the inbox more than once"
            delivered = any(one.state == "delivered" and one.kind != "control" for one in rows)
            if delivered and ident not in agency.system.received:
                yield f"{name}: {ident} counts as delivered and never reached the system"


def _in_the_log(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """A promise was kept: the same bytes stand at the promised place, once."""
    places = {(one.stored.topic, one.stored.offset): one for one in logged}
    for ident, count in Counter(one.stored.ident for one in logged).items():
        if count != 1:
            yield f"{ident} is in the log {count} times"
    for name, item in _sent(agencies):
        if item.log_offset is None:
            continue
        found = places.get((item.topic, item.log_offset))
        if found is None or item.l1 is None or found.record.signed != parse_manifest(item.l1)[1]:
            yield f"{name}: {item.evt} was promised at {item.topic}:{item.log_offset} and is not there"


def _order(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Per thread, what came from one side came in the order in which it was sent."""
    places = {(name, item.evt): item.n for name, item in _sent(agencies)}
    for name, agency in agencies.items():
        newest: dict[tuple[str, str], int] = {}
        for arrived in agency.system.received.values():
            key = (arrived.thread, arrived.iss)
            place = places.get((arrived.iss, arrived.evt), 0)
            if place < newest.get(key, 0):
                yield f"{name}: {arrived.ident} came after what was sent later on its thread"
            newest[key] = max(place, newest.get(key, 0))


def _threads(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Both sides of a thread end in the same state, unless one event of it was rejected."""
    spoilt = {item.thread for _, item in _sent(agencies) if item.state == "rejected"}
    for name, agency in agencies.items():
        for thread in agency.mailbox.threads():
            if thread.id in spoilt:
                continue
            other = agencies[thread.peer].mailbox.thread(thread.id)
            if other is None:
                yield f"{name}: {thread.peer} knows nothing of thread {thread.id} ({thread.state})"
            elif other.state != thread.state:
                yield f"{name}: thread {thread.id} is {thread.state} here and {other.state} at {thread.peer}"


def _receipts(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Every record that is no control record has exactly one receipt in the log."""
    receipts = Counter(
        (one.record.manifest.to, one.record.manifest.iss, one.record.manifest.ref)
        for one in logged
        if one.record.manifest.flow == "receipt" and one.record.manifest.ref is not None
    )
    for one in logged:
        manifest = one.record.manifest
        if manifest.kind != "control":
            count = receipts[manifest.iss, manifest.to, manifest.evt]
            if count != 1:
                yield f"{manifest.ident} to {manifest.to} has {count} receipts"
        elif receipts[manifest.iss, manifest.to, manifest.evt] > 1:
            yield f"{manifest.ident} to {manifest.to} has several receipts"


def _told(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """The last thing a caseworker heard of an item is what it is."""
    for name, agency in agencies.items():
        for item in agency.mailbox.outbox():
            if item.connector and agency.system.told.get(item.evt, [("", None)])[-1][0] != item.state:
                yield f"{name}: {item.evt} is {item.state}, the caseworker was told otherwise"


def _chains(agencies: Mapping[str, Remains], logged: Sequence[Logged]) -> Iterator[str]:
    """Numbers of a chain are dense, or named void by a later one; neighbours hold each other's hash."""
    chains: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    voids: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in logged:
        manifest = one.record.manifest
        chain = (manifest.iss, manifest.topic)
        if manifest.seq in chains[chain]:
            yield f"{chain}: number {manifest.seq} is there twice"
        chains[chain][manifest.seq] = one.record
        voids[chain] |= set(manifest.voids)
    for chain, records in chains.items():
        held = _unnamed(agencies[chain[0]], chain[1])
        for seq in range(1, max(records) + 1):
            if seq in held and seq not in records:
                continue
            if (seq in records) == (seq in voids[chain]):
                yield f"{chain}: number {seq} is " + ("there and void" if seq in records else "missing")
            before = records.get(seq - 1)
            if seq in records and before is not None and records[seq].manifest.prev != chain_hash(before.signed):
                yield f"{chain}: number {seq} does not hold the hash of the one before"
    for name, agency in agencies.items():
        for topic, (seq, _) in agency.mailbox.chains.heads().items():
            present = chains.get((name, topic), {})
            last = max(present, default=0)
            if not set(range(last + 1, seq + 1)) <= _unnamed(agency, topic):
                yield f"{name}: the chain on {topic} ends at {seq} here, at {max(present, default=0)} in the log"


def _unnamed(agency: Remains, topic: str) -> set[int]:
    """Void numbers that the next ordinary record will name; allowed only where what was to name them was refused."""
    refused = any(
        item.type == "chain.voided" and item.topic == topic and item.state == "refused"
        for item in agency.mailbox.outbox()
    )
    return set(agency.mailbox.chains.unnamed_voids(topic)) if refused else set()


def _no_names(disks: Sequence[Machine]) -> Iterator[str]:
    """No name, no telephone number: not in a file, a journal, a free page; neither as text nor as base64 nor UTF-16."""
    needles = [form for text in (PLANTED_NAME, PLANTED_NUMBER) for form in _written(text)]
    for machine in disks:
        for path in machine.disk.paths():
            content = machine.disk.snapshot_bytes(path)
            if any(needle in content for needle in needles):
                yield f"{machine.name}: a name stands in clear in {path}"


def _written(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    yield text.encode("utf-16-le")
    for shift in range(3):
        # Whatever stands before and behind, these characters of the base64 text are always the same.
        encoded = base64.b64encode(bytes(shift) + raw)
        yield encoded[(0, 2, 3)[shift] : (len(raw) + shift) // 3 * 4]
