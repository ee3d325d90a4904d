# SPDX-License-Identifier: Apache-2.0
"""What can be said of a line by itself: shape, issuer, key, signature, digests, right, clock, grants.

A line holds a record, or the manifest of one that its issuer writes to Kafka itself: of that everything is asked but
what only the body could answer, and besides whether the registry lets this agency write there (`direct`).

Pure but for caches, so it may run in any thread; the time is an argument. What depends on other records (replay, order,
targets) is for `gateway.judging`. Must never put a value of the input into an error, nor keep an exception with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import orjson

from schemas.envelope import MAX_RECORD_BYTES, Manifest, Record, chain_hash, parse_manifest, parse_record
from schemas.errors import LogError, OrderError, PolicyError, RecordError, RegistryError, UmuhuzaError
from schemas.home_proof import CarriedLine
from schemas.keys import b64url
from schemas.registry import Registry
from schemas.sealing import MAX_GRANT_BYTES, grant_of
from topics.borders import Crossing, crosses, may_cross
from topics.catalogue import ONLY_AS_ANSWER, Act, Verdict, may, topics_of
from topics.home_check import HomeTrust, check_home, refuse_doubted
from topics.log import grant_key
from topics.policy_target import policy_stands
from topics.verification import Verified, is_signer_unknown, verify_logged

CLOCK_AHEAD_S = 86_400
CLOCK_SUSPECT_S = 120
"""Further ahead than this an `iat` is accepted and marked: the sender's clock is wrong."""
DIRECT = "registry.direct"
"""Path of the refusal of a manifest from an agency that may not write to Kafka itself."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A line that is in order by itself."""

    manifest: Manifest
    value: bytes
    """The record; nothing when the line was a manifest alone."""
    hash: str
    """base64url SHA-256 of `header.payload`."""
    grants: Mapping[str, bytes]
    """Key in the grants topic of `to` -> bytes."""
    grants_problem: UmuhuzaError | None
    """Why the grants cannot be taken; not asked of a repeat."""
    clock_suspect: bool
    must_answer: bool = False
    """It may be sent only as the answer to what its reader had sent: the intake knows whether it is."""
    home: bytes = b""
    """Of a record that came over a border: its home proof, which is kept beside it (`schemas.home_proof`)."""

    @property
    def alone(self) -> bool:
        """A manifest whose record is not ours to append."""
        return not self.value


@dataclass(frozen=True, slots=True)
class Refused:
    error: UmuhuzaError
    flow: str = ""
    kind: str = ""
    manifest: Manifest | None = None
    """Of a record that names the caller as its issuer or its reader, or that a bridge has brought. Nothing of it is
    verified: it may be compared, not believed."""
    hash: str = ""
    """Of a record from another domain, set only where what it was refused for is its own, and not how it was
    brought."""


class Rules:
    """What a registry version makes of the policy, worked out once per version."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.topics = frozenset(topics_of(registry))
        self.policy_stands = policy_stands(registry)
        self.revoked = frozenset(
            (one.id, key.kid) for one in registry.agencies.values() for key in one.keys if key.revoked is not None
        )
        """Member and key."""
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}
        self._seal_kids: dict[str, dict[str, tuple[str, int, int]]] = {}

    def may_send(self, m: Manifest) -> Verdict:
        asked = (m.iss, m.topic, m.kind)
        verdict = self._verdicts.get(asked)
        if verdict is None:
            verdict = may(Act("send", m.iss, m.topic, m.kind), self.registry)
            self._verdicts[asked] = verdict
        return verdict

    def knows(self, agency: str) -> bool:
        """Whether it is a member, or one abroad whom members may reach."""
        border = self.registry.borders.get(agency.partition("/")[0])
        return agency in self.registry.agencies or (border is not None and agency in border.agencies)

    def seal_kids(self, agency: str) -> Mapping[str, tuple[str, int, int]]:
        """kid -> suite, counts from, counts until; revoked and expired ones too."""
        kids = self._seal_kids.get(agency)
        if kids is None:
            kids = self._seal_kids[agency] = {
                key.kid: (
                    key.suite,
                    key.activated,
                    key.expires if key.revoked is None else min(key.revoked, key.expires),
                )
                for key in self.registry.party(agency).keys
                if key.use == "seal"
            }
        return kids


@dataclass(frozen=True, slots=True)
class Task:
    """What `examine` needs, for a thread."""

    line: bytes
    agency: str
    rules: Rules
    now: int
    grants_limit: int


def examine(task: Task) -> Examined | Refused:
    """Everything that can be said of a line by itself. Pure but for caches."""
    record: Record | None = None
    try:
        text, raw_grants, alone = _outer(task.line)
        record = _manifest_alone(text) if alone else parse_record(text)
        return _examined(task, record, raw_grants)
    except UmuhuzaError as exc:
        # Without its traceback: the frames hold the line.
        error = exc.with_traceback(None)
    if record is None:
        return Refused(error)
    m = record.manifest
    if task.agency not in (m.iss, m.to):
        return Refused(error, m.flow, m.kind)
    return Refused(error, m.flow, m.kind, m, b64url(record.digest))


def _outer(line: bytes) -> tuple[bytes, list[object], bool]:
    """Record or manifest, grants, and whether it is a manifest."""
    problem: str | None = None
    raw: object = None
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError:
        problem = "line"
    if problem is not None:  # outside of the handler: the exception holds the line
        raise RecordError("record_malformed", problem)
    if not isinstance(raw, dict) or raw.keys() - {"grants"} not in ({"record"}, {"manifest"}):
        raise RecordError("record_malformed", "line.*")
    what = "record" if "record" in raw else "manifest"
    text, grants = raw[what], raw.get("grants", [])
    if not isinstance(text, str) or not text.isascii():
        raise RecordError("record_malformed", f"line.{what}")
    if not isinstance(grants, list):
        raise RecordError("record_malformed", "line.grants")
    return text.encode("ascii"), grants, what == "manifest"


def _manifest_alone(line1: bytes) -> Record:
    """A record without its body. Raises RecordError as `parse_record`."""
    kid, signed, signature, manifest = parse_manifest(line1)
    if len(line1) + sum(part.len + 1 for part in manifest.parts) > MAX_RECORD_BYTES:
        raise RecordError("too_large", "record", expected=MAX_RECORD_BYTES)
    return Record(b"", manifest, kid, signed, signature, ())


def _examined(task: Task, record: Record, raw_grants: list[object]) -> Examined:
    m, registry, now = record.manifest, task.rules.registry, task.now
    # Its reader may bring it too: it was handed it on a stick, and answers what the log has to hold first.
    if m.iss != task.agency and (m.to != task.agency or not record.value):
        raise RecordError("issuer_mismatch", "L1.iss")
    record.verify(registry.new_signing_key(m.iss, record.kid, now))
    if record.value:
        record.verify_body()
    else:
        _may_write(m, registry)
    _agreed(m, task)
    return _allowed(task, record, raw_grants)


def examine_carried(line: CarriedLine, task: Task, trust: HomeTrust, newest: Registry) -> Examined | Refused:
    """The same of a record that the bridge of another domain brings: by its home proof, and what both have signed.

    Args:
        task: who calls and by which rules; its `line` is not looked at.
        trust: of the domain whose bridge it is.
        newest: that domain's registry, as we have it now.
    """
    flow = kind = named = ""
    m: Manifest | None = None
    try:
        line1 = line.record.partition(b"\n")[0]
        m = parse_manifest(line1)[3]
        flow, kind = m.flow, m.kind
        if m.to.partition("/")[0] != task.rules.registry.domain:
            raise LogError("topic_unknown", "L1.topic")  # what goes on to a third domain goes there from its home
        named = chain_hash(line1)
        _agreed(m, task)  # first: whoever is refused for an agreement that was ended is told so
        named = ""  # what the bridge can spoil by itself is not signed: proof, signature, body
        found = check_home(line.record, m.topic, line.home, trust)
        named = b64url(found.verified.l1_sha256)
        refuse_doubted(newest, found)
        taken = _allowed(task, parse_record(line.record), list(line.grants))
        return replace(taken, home=line.home.dumps())
    except UmuhuzaError as exc:
        return Refused(exc.with_traceback(None), flow, kind, m if named else None, named)


def _agreed(m: Manifest, task: Task) -> None:
    """Raises PolicyError `agreement_missing`: it is to pass a border, and nothing in force covers it."""
    if crosses(m):
        day = datetime.fromtimestamp(task.now, UTC).date()
        may_cross(Crossing.of(m), task.rules.registry, day).require()


def _allowed(task: Task, record: Record, raw_grants: list[object]) -> Examined:
    """What is asked of a record whose signature counts, wherever it comes from."""
    m, registry, now = record.manifest, task.rules.registry, task.now
    if m.training != registry.training:
        raise RecordError("training_record", "L1.training")
    if m.topic not in task.rules.topics:
        raise LogError("topic_unknown", "L1.topic")
    verdict = task.rules.may_send(m)
    must_answer = verdict.rule == ONLY_AS_ANSWER and m.ref is not None
    if not verdict.ok and not must_answer:
        raise PolicyError(verdict.code, verdict.rule)
    if m.kind == "request" and registry.is_stale(now):
        raise RegistryError("registry_stale", "registry")
    if m.kind == "request" and not task.rules.policy_stands:
        raise RegistryError("policy_differs", "policy")
    if m.iat > now + CLOCK_AHEAD_S:
        raise OrderError("clock_ahead", "L1.iat")
    grants: dict[str, bytes] = {}
    problem: UmuhuzaError | None = None
    try:
        grants = _grants_of(m, raw_grants, task)
    except UmuhuzaError as exc:
        problem = exc.with_traceback(None)
    suspect = m.iat > now + CLOCK_SUSPECT_S
    return Examined(m, record.value, b64url(record.digest), grants, problem, suspect, must_answer)


def _may_write(m: Manifest, registry: Registry) -> None:
    """Who writes to Kafka itself has opted in. What makes gateways act goes through one: a disclosure whose keys were
    stored and whose record never came would stand in no log, and no erasure would find it."""
    if not registry.agency(m.iss).direct:
        raise PolicyError("not_permitted", DIRECT)
    if m.acts is not None:
        raise PolicyError("not_permitted", "L1.acts")


def _grants_of(m: Manifest, raw: list[object], task: Task) -> dict[str, bytes]:
    if len(raw) > task.grants_limit:
        raise RecordError("too_large", "grants", expected=task.grants_limit)
    targets = {m.ident, *(m.acts.grant if m.acts is not None else ())}
    kids = task.rules.seal_kids(m.to)
    grants: dict[str, bytes] = {}
    reaches = False
    revoked: str | None = None
    for index, item in enumerate(raw):
        where = f"grants[{index}]"
        grant = grant_of(item)
        if grant.ident not in targets:
            raise PolicyError("not_permitted", f"{where}.evt")
        if grant.rcpt != m.to:
            raise PolicyError("not_permitted", f"{where}.rcpt")
        known = kids.get(grant.kid)
        if known is None:
            raise RegistryError("key_unknown", f"{where}.kid")
        suite, activated, until = known
        if not activated <= task.now < until:
            # One key of several may have been revoked since the event was sealed: nobody is granted anything by it.
            revoked = revoked or f"{where}.kid"
            continue
        if grant.suite != suite:
            raise RecordError("record_malformed", f"{where}.suite")
        data = orjson.dumps(item)
        if len(data) > MAX_GRANT_BYTES:
            raise RecordError("too_large", where, expected=MAX_GRANT_BYTES)
        grants[grant_key(grant.ident, grant.kid)] = data
        reaches = reaches or grant.ident == m.ident
    if not reaches and revoked is not None:
        raise RegistryError("key_revoked", revoked)
    if not reaches:
        raise RecordError("grant_missing", "grants")
    return grants


InLog = tuple[str, int, bytes]
"""Topic, the log's time in milliseconds, the record: of the log."""


Checked = tuple[Manifest, str] | Literal["unknown"] | None
"""What a record of the log is: its manifest and hash; "unknown", signed by whom this registry does not name, perhaps a
newer one does; or nothing that counts."""


def checked(task: tuple[Registry, InLog]) -> Checked:
    """A record of the log that counts (`topics.verification`). Others are passed by; the ledger says so of them."""
    registry, (topic, at_ms, value) = task
    found = verify_logged(registry, topic, at_ms, value)
    if isinstance(found, Verified):
        return found.manifest, b64url(found.l1_sha256)
    return "unknown" if is_signer_unknown(found) else None
