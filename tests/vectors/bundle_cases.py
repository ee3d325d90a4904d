# SPDX-License-Identifier: Apache-2.0
"""Bundles as they lie on a stick, most of them wrong in one thing; put together by hand; sealed by whoever tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from schemas.bundle import BUNDLE_TYP
from schemas.keys import b64url
from tests.domain import NOW
from tests.vectors.making import DROP, PLANTED, SIGNERS, Vector, changed, compact, vector

IDENT = "019a2a7e-3400-7000-8000-000000000001"
HASH = b64url(bytes(32))
WANT: dict[str, Any] = {"cursors": {"log-1": {"bi.referral.k7t4": 6}}, "receipts": [HASH], "registry": "0" * 64}
RECORD: dict[str, Any] = {"record": "a.b.c\nd", "grants": []}
TOPIC = "bi.referral.k7t4"
LOG: dict[str, Any] = {
    "log": "log-1",
    "after": {TOPIC: -1},
    "ends": {TOPIC: [0, 0]},
    "more": False,
}
REQUEST: list[dict[str, Any]] = [{"want": WANT}, {"record": RECORD}]
ANSWER: list[dict[str, Any]] = [{"log": LOG}, {"answer": {}}, {"mail": {}}, {"receipt": {"l1": HASH, "receipt": "x"}}]


def _head(lines: bytes, count: int, header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    digest = b64url(hashlib.sha256(lines).digest())
    payload = {"v": 1, "minor": 0, "id": IDENT, "kind": "request", "iss": "bi/k7t4", "to": "bi/operator", "at": NOW}
    payload = changed(payload | {"n": count, "sha256": digest}, changes)
    head = header or {"alg": "ES256", "kid": SIGNERS["k7t4"].kid, "typ": BUNDLE_TYP}
    signed = f"{b64url(compact(head).encode())}.{b64url(compact(payload).encode())}".encode("ascii")
    return signed + b"." + b64url(SIGNERS["k7t4"].sign(signed)).encode("ascii") + b"\n"


def _of(lines: list[dict[str, Any]], end: bytes = b"", **changes: Any) -> bytes:
    body = b"".join(compact(line).encode() + b"\n" for line in lines)
    return _head(body, len(lines), **changes) + body + end


def bundle_vectors() -> list[Vector]:
    """`input` is what is sealed, in UTF-8, before its padding."""
    made: list[Vector] = []

    def add(ident: str, why: str, plaintext: bytes, code: str, path: str | None, **more: Any) -> None:
        made.append(vector(f"bundle-{ident}", why, ("bundle",), plaintext.decode("utf-8"), code, path, **more))

    def lines(ident: str, why: str, several: list[dict[str, Any]], path: str, code: str = "bundle_malformed") -> None:
        kind = "answer" if "log" in several[0] else "request"
        add(ident, why, _of(several, kind=kind), code, path)

    add("request", "an agency's to its gateway", _of(REQUEST), "ok", None, kind="request", lines=2)
    add("answer", "the gateway's", _of(ANSWER, kind="answer"), "ok", None, kind="answer", lines=4)
    add("direct", "of an agency to another", _of([{"record": RECORD}], kind="direct"), "ok", None, kind="direct")
    add("training", "under a training root", _of(REQUEST, training=True), "ok", None, kind="request")
    more = [*REQUEST, {"colour": PLANTED}]
    add("newer", "a later minor version's line", _of(more, minor=1, more=1), "ok", None, kind="request")
    lines("older-line", "a line that this version does not have", more, "line[2].*")
    lines("other-kind", "a line of another kind of bundle", [*REQUEST, {"mail": {}}], "line[2].*")
    newer = _of([*REQUEST, {"mail": {}}], minor=1)
    add("newer-other-kind", "that is wrong in every version", newer, "bundle_malformed", "line[2].*")
    changes: list[tuple[str, str, dict[str, Any], str, str]] = [
        ("v2", "another version", {"v": 2}, "version_unsupported", "head.v"),
        ("no-version", "no version", {"v": DROP}, "version_unsupported", "head.v"),
        ("no-kind", "a member is missing", {"kind": DROP}, "bundle_malformed", "head.kind"),
        ("kind", "a kind that nobody knows", {"kind": PLANTED}, "bundle_malformed", "head.kind"),
        ("unknown", "a member that nobody knows", {PLANTED: 1}, "bundle_malformed", "head.*"),
        ("not-training", "training said to be false", {"training": False}, "bundle_malformed", "head.training"),
        ("id", "no UUIDv7", {"id": PLANTED}, "bundle_malformed", "head.id"),
        ("iss", "no agency", {"iss": PLANTED}, "bundle_malformed", "head.iss"),
        ("to", "no agency", {"to": "bi"}, "bundle_malformed", "head.to"),
        ("at", "before the epoch", {"at": -1}, "bundle_malformed", "head.at"),
        ("true", "a truth value is no number", {"n": True}, "bundle_malformed", "head.n"),
        ("fewer", "a line more than it says", {"n": 1}, "bundle_malformed", "head.n"),
        ("digest", "other lines than it says", {"sha256": HASH}, "bundle_malformed", "head.sha256"),
    ]
    for ident, why, change, code, path in changes:
        add(ident, why, _of(REQUEST, **change), code, path)
    header = {"alg": "ES256", "kid": SIGNERS["k7t4"].kid, "typ": "umuhuza-event+jws"}
    add("typ", "signed as something else", _of(REQUEST, header=header), "header_forbidden", "L1.header.typ")
    add("no-head", "no head", b"{}\n", "bundle_malformed", "head")
    add("no-end", "the last line has no end", _of(REQUEST, b"{}"), "bundle_malformed", "line")
    add("no-want", "a request that asks nothing", _of([{"record": RECORD}]), "bundle_malformed", "want")
    add("no-log", "an answer of no log", _of([{"mail": {}}], kind="answer"), "bundle_malformed", "log")
    twice: list[dict[str, Any]] = [{"want": WANT}, {"want": WANT}]
    lines("twice", "a line that may stand once", twice, "line[1].want")
    lines("no-object", "a line of two members", [{"want": WANT, "record": RECORD}], "line[0]")
    wrong: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
        ("want-more", "a member that nobody knows", lambda want: want.update({PLANTED: 1}), "line[0].want.*"),
        ("want-less", "a member is missing", lambda want: want.pop("registry"), "line[0].want.registry"),
        ("want-log", "no log's name", lambda want: want.update(cursors={"a b": {}}), "line[0].want.cursors"),
        (
            "want-topic",
            "no topic",
            lambda want: want["cursors"]["log-1"].update({PLANTED: 1}),
            "line[0].want.cursors.*.*",
        ),
        ("want-hash", "31 bytes", lambda want: want.update(receipts=["A" * 42]), "line[0].want.receipts"),
        ("want-registry", "no digest", lambda want: want.update(registry=PLANTED), "line[0].want.registry"),
    ]
    for ident, why, spoil, path in wrong:
        want = json.loads(compact(WANT))
        spoil(want)
        lines(ident, why, [{"want": want}], path)
    lines("record-text", "no text", [REQUEST[0], {"record": {"record": 1, "grants": []}}], "line[1].record.record")
    accent = {"record": "é", "grants": []}
    lines("record-ascii", "not ASCII", [REQUEST[0], {"record": accent}], "line[1].record.record")
    many = {"record": "a", "grants": [{}] * 65}
    lines("record-grants", "65 grants", [REQUEST[0], {"record": many}], "line[1].record.grants", "too_large")
    back = changed(LOG, {"ends": {TOPIC: [2, 1]}})
    lines("log-ends", "it ends before it begins", [{"log": back}], "line[0].log.ends.*")
    lines("log-more", "neither yes nor no", [{"log": changed(LOG, {"more": 1})}], "line[0].log.more")
    lines("log-none", "ends of no mailbox", [{"log": changed(LOG, {"ends": {}})}], "line[0].log.ends")
    lines("receipt", "no hash", [{"log": LOG}, {"receipt": {"l1": PLANTED, "receipt": "x"}}], "line[1].receipt.l1")
    doubled = _head(b'{"mail":{},"mail":{}}\n', 1, kind="answer") + b'{"mail":{},"mail":{}}\n'
    add("doubled", "one name twice", doubled, "bundle_malformed", "line[0]")
    return made
