# SPDX-License-Identifier: Apache-2.0
"""Every refusal at the door: its code, its status, its advice in two languages, nothing stored and nothing told."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.examine import Refused
from gateway.problems import STATUS, language_of, problem
from schemas.envelope import Acts, sign_jws
from schemas.errors import CODES, LogError
from schemas.keys import CLASSICAL, SealingKey, SigningKey, b64url, unb64url
from schemas.sealing import make_grant, seal_parts
from tests.domain import NOW, seeded
from tests.gateway.gateway_world import PLANTED, World, count_of, forged, grant_for, line_of
from topics.policy_target import policy_document

Make = Callable[[World], bytes]


def raw_manifest(world: World, **changes: object) -> dict[str, object]:
    one = world.domain.record(chain=False)
    payload = one.value.split(b".")[1].decode()
    raw = json.loads(unb64url(payload))
    assert isinstance(raw, dict)
    return raw | changes


def signed_raw(world: World, raw: dict[str, object], body: bytes = b"a~b") -> bytes:
    """Truly signed, whatever it says."""
    line1 = sign_jws("umuhuza-event+jws", raw, world.domain.members["bi/iom"].sig)
    return orjson.dumps({"record": (line1 + b"\n" + body).decode("ascii"), "grants": []})


def signed_text(world: World, payload: bytes, **header: str) -> bytes:
    """Truly signed, byte for byte, under a header with these members more."""
    key = world.domain.members["bi/iom"].sig
    head = orjson.dumps({"alg": "ES256", "kid": key.kid, "typ": "umuhuza-event+jws", **header})
    line = f"{b64url(head)}.{b64url(payload)}"
    record = f"{line}.{b64url(key.sign(line.encode('ascii')))}\na~b"
    return orjson.dumps({"record": record, "grants": []})


def with_header(world: World, **more: str) -> bytes:
    return signed_text(world, orjson.dumps(raw_manifest(world)), **more)


def changed_part(world: World) -> bytes:
    one = world.domain.record(chain=False)
    head, _, tail = one.value.rpartition(b".")
    other = b"A" * len(tail) if not tail.startswith(b"AAAA") else b"B" * len(tail)
    return line_of(replace(one, value=head + b"." + other))


def without_padding(world: World) -> bytes:
    """A part whose size would tell how much is inside."""
    sealed = seal_parts("bi/iom/x", "request", {"identity": b"", "content": b""}, seeded("p"))
    short = sealed.body.decode().split("~")[0].split(".")
    short[3] = short[3][:1000]
    text = ".".join(short)
    parts = [
        {
            "name": n,
            "sha256": b64url(hashlib.sha256(text.encode()).digest()),
            "len": len(text),
            "kc": sealed.parts[0].kc,
        }
        for n in ("identity", "content")
    ]
    return signed_raw(world, raw_manifest(world, parts=parts), f"{text}~{text}".encode())


def other_key(world: World) -> bytes:
    stranger = SealingKey.generate(seeded("stranger"), CLASSICAL)
    one = world.domain.record(chain=False)
    return line_of(one, [make_grant(one.manifest, one.keys, "bi/k7t4", stranger.public)])


def of_an_unknown_key(world: World) -> bytes:
    return line_of(world.domain.record(chain=False, signer=SigningKey.generate(seeded("nobody"))))


def revoked(world: World) -> bytes:
    signed = world.domain.record(chain=False)
    world.domain.revoke("bi/iom", world.domain.members["bi/iom"].sig.kid, at=NOW - 10)
    return line_of(signed)


def to_a_revoked_key(world: World) -> bytes:
    signed = world.domain.record(chain=False)
    world.domain.revoke("bi/k7t4", world.domain.members["bi/k7t4"].seal.kid, at=NOW - 10)
    return line_of(signed)


def planted_member(world: World) -> bytes:
    return signed_raw(world, raw_manifest(world) | {PLANTED: PLANTED})


REFUSALS: dict[str, tuple[str, str | None, Make]] = {
    "not JSON": ("record_malformed", "line", lambda w: b'{"record": "' + PLANTED.encode()),
    "400 deep": ("record_malformed", None, lambda w: b'{"record":' + b"[" * 400 + b"]" * 400 + b"}"),
    "deep grants": (
        "record_malformed",
        None,
        lambda w: b'{"grants":[' + b'{"a":' * 400 + b"1" + b"}" * 400 + b'],"record":"a"}',
    ),
    "a lone surrogate": ("record_malformed", "line", lambda w: b'{"record":"\\ud800"}'),
    "a lone surrogate in the manifest": (
        "record_malformed",
        None,
        lambda w: signed_text(w, json.dumps(raw_manifest(w, ref="\ud800")).encode("ascii")),
    ),
    "not ASCII": ("record_malformed", "line.record", lambda w: '{"record":"é"}'.encode()),
    "another member": ("record_malformed", "line.*", lambda w: b'{"record":"a","' + PLANTED.encode() + b'":1}'),
    "no body": ("record_malformed", "record", lambda w: b'{"record":"a.b.c"}'),
    "an unknown member in the manifest": ("record_malformed", "L1.*", planted_member),
    "a float": ("record_malformed", None, lambda w: signed_raw(w, raw_manifest(w, seq=1.5))),
    "a header member": ("header_forbidden", "L1.header.*", lambda w: with_header(w, jku=PLANTED)),
    "another algorithm": ("header_forbidden", "L1.header.alg", lambda w: with_header(w, alg="none")),
    "another version": ("version_unsupported", "L1.v", lambda w: signed_raw(w, raw_manifest(w, v=2))),
    "another topic": (
        "topic_mismatch",
        "L1.topic",
        lambda w: signed_raw(w, raw_manifest(w, topic="bi.referral.r5w2")),
    ),
    "another's record": ("issuer_mismatch", "L1.iss", lambda w: line_of(w.domain.record("bi/n0", chain=False))),
    "another's key": (
        "issuer_mismatch",
        "L1.header.kid",
        lambda w: line_of(w.domain.record(chain=False, signer=w.domain.members["bi/police"].sig)),
    ),
    "a forged signature": ("signature_invalid", "L1", lambda w: line_of(forged(w.domain.record(chain=False)))),
    "a key that nobody has": ("key_unknown", None, of_an_unknown_key),
    "a revoked key": ("key_revoked", None, revoked),
    "a part that was changed": ("part_digest_mismatch", "L2[1]", changed_part),
    "a part without padding": ("record_malformed", "L2[0]", without_padding),
    "too large": ("too_large", "record", lambda w: orjson.dumps({"record": "x" * 900_001, "grants": []})),
    "a recipient without that mailbox": (
        "topic_unknown",
        "L1.topic",
        lambda w: line_of(w.domain.record("bi/iom", "bi/police", "referral", chain=False)),
    ),
    "not allowed to": (
        "not_permitted",
        None,
        lambda w: line_of(w.domain.record("bi/iom", "bi/k7t4", "receipt", "request", chain=False)),
    ),
    "dated two days ahead": (
        "clock_ahead",
        "L1.iat",
        lambda w: line_of(w.domain.record(chain=False, iat=NOW + 2 * 86_400)),
    ),
    "a training record": (
        "training_record",
        "L1.training",
        lambda w: training(w),
    ),
    "no grant": ("grant_missing", "grants", lambda w: line_of(w.domain.record(chain=False), [])),
    "a grant to a stranger's key": ("key_unknown", "grants[0].kid", other_key),
    "a grant to a revoked key": ("key_revoked", "grants[0].kid", to_a_revoked_key),
    "a grant to another agency": (
        "not_permitted",
        "grants[0].rcpt",
        lambda w: (lambda one: line_of(one, [grant_for(w, one, "bi/r5w2")]))(w.domain.record(chain=False)),
    ),
    "a grant of another record": (
        "not_permitted",
        "grants[1].evt",
        lambda w: (lambda a, b: line_of(a, [*a.grants, *b.grants]))(
            w.domain.record(chain=False), w.domain.record(chain=False)
        ),
    ),
    "more grants than allowed": (
        "too_large",
        "grants",
        lambda w: (lambda one: line_of(one, [*one.grants] * 17))(w.domain.record(chain=False)),
    ),
    "erasing what is not there": (
        "not_permitted",
        "L1.acts.erase[0]",
        lambda w: line_of(
            w.domain.record(
                "bi/iom",
                "bi/k7t4",
                "receipt",
                "control",
                chain=False,
                acts=Acts(erase=("bi/iom/0192aaaa-0000-7000-8000-000000000000",)),
            )
        ),
    ),
}


def training(world: World) -> bytes:
    one = world.domain.record(chain=False)
    raw = json.loads(unb64url(one.value.split(b".")[1].decode())) | {"training": True}
    return signed_raw(world, raw, one.value.partition(b"\n")[2])


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_has_its_code_status_and_advice_and_stores_nothing(what: str, tmp_path: Path) -> None:
    code, path, make = REFUSALS[what]

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            line = make(world)
            said = b""
            if what == "a revoked key":  # its token ends too, so what is asked here is the intake
                world.registry_changed()
                answer = await gateway.door.intake.publish("bi/iom", [line])
                outcome = answer.outcomes[0]
                assert isinstance(outcome, Refused)
                told = problem(outcome.error, "en")
                assert answer.promised is None
            else:
                if what == "a grant to a revoked key":
                    world.registry_changed()
                english, french = await iom.single(line), await iom.single(line, "fr-BI, en;q=0.5")
                assert english.status_code == french.status_code == STATUS[code]
                assert english.headers["content-type"] == "application/problem+json"
                told = english.json()
                assert told["advice"] == CODES[code].advice("en")
                assert french.json()["advice"] == CODES[code].advice("fr")
                assert french.json()["title"] == CODES[code].title("fr")
                said = english.content + french.content
            assert told["code"] == code
            assert told["status"] == STATUS[code]
            assert told["retriable"] == CODES[code].retriable
            if path is not None:
                assert told["path"] == path
            for topic in gateway.door.checks.rules.topics:
                if ".grants." not in topic:
                    assert await count_of(gateway, topic) == 0
            counted = gateway.door.metrics.text()
            if what != "a revoked key":
                assert f'code="{code}"'.encode() in counted
            await gateway.door.flush()
            world.nothing_leaked(gateway, said)

    asyncio.run(run())


def test_a_stale_registry_stops_requests_only(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as k7t4:
            del k7t4
            world.clock.at += 31 * 86_400
            request = world.domain.record(iat=int(world.clock.at))
            receipt = world.domain.record("bi/iom", "bi/k7t4", "receipt", "control", iat=int(world.clock.at))
            async with world.caller(gateway) as iom:
                told = await iom.send(request, receipt)
                assert told[0]["problem"]["code"] == "registry_stale"
                assert told[1]["offset"] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("signed", "stops"),
    [
        (None, False),
        (policy_document(), False),
        (b'{"version":0}', False),  # we are ahead: everybody is updated first, then the holders sign
        (b'{"version":2}', True),
        (policy_document() + b" ", True),  # other rules under our number
    ],
)
def test_a_policy_that_is_not_the_one_the_holders_signed_stops_requests_only(
    tmp_path: Path, signed: bytes | None, stops: bool
) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            world.domain.registry = world.domain.registry.renewed(int(world.clock.at))
            world.registry_changed(signed)
            request = world.domain.record(iat=int(world.clock.at))
            receipt = world.domain.record("bi/iom", "bi/k7t4", "receipt", "control", iat=int(world.clock.at))
            async with world.caller(gateway) as iom:
                told = await iom.send(request, receipt)
                if stops:
                    assert (told[0]["problem"]["code"], told[0]["problem"]["retriable"]) == ("policy_differs", True)
                else:
                    assert told[0]["offset"] == 0
                assert told[1]["offset"] == 0

    asyncio.run(run())


def test_a_quota_holds_back_and_lets_go_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, settings={"records_per_minute": 60})
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/n0") as other:
            records = [world.domain.record() for _ in range(62)]
            told = await iom.send(*records)
            assert ["problem" in line for line in told[:-1]] == [False] * 60 + [True] * 2
            assert told[60]["problem"]["code"] == "quota_exceeded"
            assert told[60]["problem"]["retriable"] is True
            response = await iom.single(line_of(records[60]))
            assert (response.status_code, response.headers["retry-after"]) == (429, "5")
            [line, _] = await other.send(world.domain.record("bi/n0"))
            assert line["offset"] == 60  # another agency's bucket is its own
            world.clock.at += 2
            told = await iom.send(*records[60:])
            assert ["offset" in line for line in told[:-1]] == [True, True]

    asyncio.run(run())


def test_what_is_larger_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, settings={"body_max_bytes": 1 << 20})
        async with world.opened() as gateway, world.caller(gateway) as iom:
            response = await iom.post(b"x" * ((1 << 20) + 1), "application/x-ndjson")
            assert (response.status_code, response.json()["code"]) == (413, "too_large")
            bomb = gzip.compress(bytes(8 << 20))
            response = await iom.post(bomb, "application/x-ndjson", **{"content-encoding": "gzip"})
            assert (response.status_code, response.json()["code"]) == (413, "too_large")
            response = await iom.post(b"{}\n" * 1001, "application/x-ndjson")
            assert (response.status_code, response.json()["path"]) == (413, "lines")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "kind", "headers", "path"),
    [
        (b"", "application/x-ndjson", {}, "body"),
        (b"{}", "text/plain", {}, "Content-Type"),
        (b"{}", "application/x-ndjson", {"content-encoding": "br"}, "Content-Encoding"),
        (b"not gzip", "application/x-ndjson", {"content-encoding": "gzip"}, "Content-Encoding"),
        (gzip.compress(b"{}")[:-3], "application/x-ndjson", {"content-encoding": "gzip"}, "Content-Encoding"),
        (gzip.compress(b"{}") + b"more", "application/x-ndjson", {"content-encoding": "gzip"}, "Content-Encoding"),
    ],
)
def test_what_is_no_request_is_said(body: bytes, kind: str, headers: dict[str, str], path: str, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            response = await iom.post(body, kind, **headers)
            assert (response.status_code, response.json()["code"]) == (400, "request_invalid")
            assert response.json()["path"] == path

    asyncio.run(run())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/mailbox?limit=0",
        "/v1/mailbox?limit=x",
        "/v1/mailbox?wait=-1",
        "/v1/mailbox?after=referral",
        "/v1/mailbox?after=referral:x",
        "/v1/mailbox?after=bi.referral.k7t4:1",
        f"/v1/mailbox?{PLANTED}=1",
        "/v1/mailbox?limit=1&limit=2",
        "/v1/sent?after=x",
        f"/v1/sent?topic=bi.referral.k7t4&after={PLANTED}",
        "/v1/grants",
        f"/v1/{PLANTED}",
    ],
)
def test_a_query_that_is_none_is_refused_without_repeating_it(path: str, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            response = await iom.get(path)
            assert response.status_code == (404 if path == f"/v1/{PLANTED}" else 400)
            assert response.json()["code"] == "request_invalid"
            world.nothing_leaked(gateway, response.content)

    asyncio.run(run())


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(CODES)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_what_can_be_retried_is_no_fault_of_the_request() -> None:
    for code, meaning in CODES.items():
        if STATUS[code] in (429, 503, 507):
            assert meaning.retriable, code


def test_a_problem_holds_what_rfc_9457_asks_for() -> None:
    told = problem(LogError("storage_full", "log", expected=7), "fr")
    assert told["status"] == 507
    assert told["type"] == "urn:umuhuza:problem:storage_full"
    assert (told["path"], told["expected"]) == ("log", 7)
    assert told["title"] == CODES["storage_full"].title_fr


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("fr-BI,fr;q=0.9,en;q=0.8", "fr"),
        ("en;q=0.9, fr;q=0.1", "en"),
        ("rn, fr;q=0.5", "fr"),
        ("fr;q=0", "en"),
        ("fr;q=x", "en"),
        ("*", "en"),
    ],
)
def test_the_language_is_the_callers(accept: str, language: str) -> None:
    assert language_of(accept) == language
