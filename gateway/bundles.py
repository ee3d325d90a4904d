# SPDX-License-Identifier: Apache-2.0
"""What comes in on a stick, and what goes back on it: one bundle in, one bundle out (`schemas.bundle`).

    open -> whose -> the same way in as POST /v1/records -> its mailboxes, receipts, registry, checkpoint -> seal

Whoever brings a bundle may be anybody of the domain: it is opened here only, counts by the signature within, and its
answer opens for the agency that wrote it, and for nobody else. Records of others are taken too where they are for that
agency (it was handed them directly): each counts by its issuer's signature.

Invariants: what is answered as accepted is durable; an answer holds each mailbox without a gap from the cursor that was
told; the same bundle again gets the same promises. Must never: tell whoever brings it what is inside.

If we crash here: records may be in the log; the bundle is brought again, and they are copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.door import Door
from gateway.routes import answer_lines, count_outcomes, mailbox_lines, own_topics
from schemas.bundle import (
    MAX_LINES,
    Bundle,
    CarriedRecord,
    Contents,
    Head,
    Places,
    Want,
    open_bundle,
    room_for,
    seal_bundle,
    size_of,
)
from schemas.envelope import new_evt
from schemas.errors import LogError, RecordError, RegistryError
from schemas.keys import b64url, unb64url
from schemas.registry import Registry

_MAIL_LINES = 2000
_PAGE, _PAGE_BYTES = 200, 4 << 20


async def exchange(door: Door, data: bytes) -> bytes:
    """Take a bundle in; the sealed answer.

    Raises:
        LogError: as `open_bundle`; bundle_misplaced (`head.kind`, `head.to`): not an agency's to this gateway;
            unavailable (`sealing_key`): this gateway opens none; what the log says.
        RecordError: signature_invalid, training_record.
        RegistryError: agency_unknown, key_unknown, key_revoked: its writer's, or every key to answer to.
    """
    if door.opener is None:
        raise LogError("unavailable", "sealing_key")
    bundle = open_bundle(data, [door.opener])
    registry, now = door.registry, int(door.now())
    _checked(bundle, registry, door.settings.agency, now)
    agency, want = bundle.head.iss, bundle.contents.want or Want()
    to = registry.newest_seal_key(agency, now)
    answers = await _published(door, agency, bundle.contents.records)
    file = door.registry_file.data
    given = None if hashlib.sha256(file).hexdigest() == want.registry else file
    receipts, checkpoint = await _proofs(door, want.receipts)
    rest = Contents(answers=answers, receipts=receipts, registry=given, checkpoint=checkpoint)
    log, mail = await _mail(door, agency, want, sum(map(len, rest.lines())))
    contents = replace(rest, log=log, mail=mail)
    head = Head(new_evt(now * 1000, door.random), "answer", door.settings.agency, agency, now, registry.training)
    return seal_bundle(head, contents, door.key, to)


def _checked(bundle: Bundle, registry: Registry, gateway: str, now: int) -> None:
    head = bundle.head
    if head.kind != "request":
        raise LogError("bundle_misplaced", "head.kind", expected="request")
    if head.to != gateway:
        raise LogError("bundle_misplaced", "head.to", expected=gateway)
    if head.training != registry.training:
        raise RecordError("training_record", "head.training")
    if head.iss not in registry.agencies:
        raise RegistryError("agency_unknown", "head.iss")
    bundle.verify(registry.new_signing_key(head.iss, bundle.kid, now))


async def _published(door: Door, agency: str, records: Sequence[CarriedRecord]) -> tuple[Mapping[str, Any], ...]:
    """What became of each, in order."""
    told: list[Mapping[str, Any]] = []
    step = min(door.settings.lines_max, 1000)
    for first in range(0, len(records), step):
        some = records[first : first + step]
        lines = [orjson.dumps(one.to_json()) for one in some]
        answer = await door.intake.publish(agency, lines)
        count_outcomes(door, answer)
        said = [orjson.loads(line) for line in b"".join(answer_lines(answer, "en")).splitlines()]
        promise = said[-1]["promise"]
        for record, one in zip(some, said[:-1], strict=True):
            told.append(_answer(record, one, promise))
    return tuple(told)


def _answer(record: CarriedRecord, said: dict[str, Any], promise: str | None) -> dict[str, Any]:
    signed = record.record.partition(b"\n")[0].rpartition(b".")[0]
    of = {"l1": b64url(hashlib.sha256(signed).digest())}
    if "problem" in said:
        names = ("code", "path", "expected")
        return of | {"problem": {name: said["problem"][name] for name in names if name in said["problem"]}}
    return of | {name: value for name, value in said.items() if name != "line"} | {"promise": promise}


async def _proofs(door: Door, wanted: Sequence[str]) -> tuple[dict[str, bytes], bytes | None]:
    """Receipts that can be had now, and the best checkpoint; nothing while there is no ledger."""
    found: dict[str, bytes] = {}
    if door.receipts is None:
        return found, None
    try:
        made = await door.receipts.receipts([unb64url(l1) for l1 in wanted], "record") if wanted else []
        found = {l1: receipt for l1, receipt in zip(wanted, made, strict=True) if receipt is not None}
        return found, await door.receipts.checkpoint()
    except LogError:  # not now: with the next bundle
        return found, None


async def _mail(door: Door, agency: str, want: Want, taken: int) -> tuple[Places, tuple[Mapping[str, Any], ...]]:
    """Its mailboxes from its cursors on, as much as there is room for beside `taken` bytes."""
    own = own_topics(door, agency, None)
    known = want.cursors.get(door.log.log_id, {})
    after = {topic: known.get(topic, -1) for topic in own}
    mail: list[Mapping[str, Any]] = []
    reached, more = dict(after), False
    while own and not more:
        stored = await door.log.poll(reached, _PAGE, _PAGE_BYTES)
        if not stored:
            break
        for one, line in zip(stored, await mailbox_lines(door, agency, stored), strict=True):
            entry = orjson.loads(line)
            taken += size_of("mail", entry)
            if not room_for(taken + 64 * 1024) or len(mail) >= min(_MAIL_LINES, MAX_LINES):
                more = True
                break
            mail.append(entry)
            reached[one.topic] = one.offset
    ends = {topic: await door.log.ends(topic) for topic in own}
    places = Places(door.log.log_id, after, {topic: (end.first, end.next) for topic, end in ends.items()}, more)
    return places, tuple(mail)
