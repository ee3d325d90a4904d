# SPDX-License-Identifier: Apache-2.0
"""Tokens: who gets one, what it is worth, and clocks that are wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from gateway.app import Gateway
from schemas.envelope import sign_jws
from schemas.errors import AccessError, LogError
from schemas.keys import SigningKey
from tests.domain import NOW, seeded
from tests.gateway.gateway_world import PLANTED, World, line_of
from topics.http_log import HttpLog
from topics.log import Appended, grants_topic

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def claims(**changes: Any) -> dict[str, Any]:
    made = {
        "iss": "bi/iom",
        "sub": "bi/iom",
        "aud": "urn:umuhuza:bi:gateway",
        "jti": "a-jti-of-its-own",
        "iat": NOW,
        "exp": NOW + 60,
    } | changes
    return {name: value for name, value in made.items() if value is not None}


async def ask(gateway: Gateway, form: dict[str, str] | bytes, language: str = "en") -> httpx2.Response:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    fields = {"content-type": "application/x-www-form-urlencoded", "accept-language": language}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=gateway), base_url="http://gateway", trust_env=False
    ) as client:
        return await client.post("/v1/token", content=body, headers=fields)


def form_of(assertion: bytes) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION,
        "client_assertion": assertion.decode(),
    }


def asserted(world: World, key: SigningKey | None = None, typ: str = "JWT", **changes: Any) -> bytes:
    return sign_jws(typ, claims(**changes), key or world.domain.members["bi/iom"].sig)


STRANGER = SigningKey.generate(seeded("stranger"))
REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "another audience": ("audience_mismatch", "assertion.aud", {"aud": "urn:umuhuza:tn:gateway"}),
    "expired": ("token_expired", "assertion.exp", {"iat": NOW - 200, "exp": NOW - 140}),
    "from the future": ("token_invalid", "assertion.iat", {"iat": NOW + 3600, "exp": NOW + 3660}),
    "longer than a minute": ("token_invalid", "assertion.exp", {"exp": NOW + 61}),
    "ending before it begins": ("token_invalid", "assertion.exp", {"exp": NOW}),
    "without jti": ("token_invalid", "assertion.jti", {"jti": None}),
    "for somebody else": ("token_invalid", "assertion.iss", {"sub": "bi/police"}),
    "of an unknown agency": ("agency_unknown", "", {"iss": "bi/nobody", "sub": "bi/nobody"}),
    "a name where an agency is meant": ("token_invalid", "assertion.iss", {"iss": PLANTED, "sub": PLANTED}),
    "floats for times": ("token_invalid", "assertion", {"iat": float(NOW) + 0.5}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_assertion_that_is_not_acceptable(what: str, tmp_path: Path) -> None:
    code, path, changes = REFUSED[what]

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            response = await ask(gateway, form_of(asserted(world, **changes)), "fr")
            told = response.json()
            assert told["code"] == code
            assert told.get("path", "") == path
            assert response.status_code == told["status"] == (403 if code == "agency_unknown" else 401)
            assert ("www-authenticate" in response.headers) == (response.status_code == 401)
            assert "date" in response.headers
            world.nothing_leaked(gateway, response.content)

    asyncio.run(run())


def test_signatures_of_others_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            for key, typ, code in (
                (STRANGER, "JWT", "key_unknown"),
                (world.domain.members["bi/police"].sig, "JWT", "key_unknown"),
                (None, "at+jwt", "token_invalid"),
            ):
                told = (await ask(gateway, form_of(asserted(world, key, typ)))).json()
                assert told["code"] == code
            good = asserted(world)
            forged = good.rpartition(b".")[0] + b"." + b"A" * 86
            assert (await ask(gateway, form_of(forged))).json()["code"] == "token_invalid"
            assert (await ask(gateway, form_of(good))).status_code == 200

    asyncio.run(run())


def test_an_assertion_counts_once(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            form = form_of(asserted(world))
            assert (await ask(gateway, form)).status_code == 200
            told = (await ask(gateway, form)).json()
            assert (told["code"], told["path"]) == ("token_invalid", "assertion.jti")
            other = form_of(asserted(world, world.domain.members["bi/n0"].sig, iss="bi/n0", sub="bi/n0"))
            assert (await ask(gateway, other)).status_code == 200  # a jti is its issuer's

    asyncio.run(run())


def test_both_grant_types_are_taken_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            bearer = {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": asserted(world).decode(),
            }
            response = await ask(gateway, bearer)
            assert response.status_code == 200
            assert response.json()["token_type"] == "Bearer"
            assert response.json()["expires_in"] == 300
            assert response.headers["cache-control"] == "no-store"
            wrong: list[dict[str, str] | bytes] = [
                b"",
                b"grant_type=password&username=" + PLANTED.encode(),
                {"grant_type": "client_credentials"},
                b"grant_type=a&grant_type=b",
                "grant_type=é".encode(),
            ]
            for form in wrong:
                response = await ask(gateway, form)
                assert (response.status_code, response.json()["code"]) == (400, "request_invalid")
            assert (await ask(gateway, b"x" * 20_000)).json()["code"] == "too_large"
            world.nothing_leaked(gateway)

    asyncio.run(run())


def test_a_token_ends_with_its_time_and_its_key(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            assert (await iom.get("/v1/ends")).status_code == 200
            world.clock.at += 301
            assert (await iom.get("/v1/ends")).json()["code"] == "token_expired"
            async with world.caller(gateway) as fresh:
                assert (await fresh.get("/v1/mailbox")).status_code == 200
                world.domain.revoke("bi/iom", world.domain.members["bi/iom"].sig.kid, at=int(world.clock.at))
                world.registry_changed()
                for path in ("/v1/mailbox", "/v1/ends", "/v1/registry", "/v1/sent"):
                    response = await fresh.get(path)
                    assert (response.status_code, response.json()["code"]) == (403, "key_revoked")
                response = await fresh.single(line_of(world.domain.record("bi/iom", chain=False)))
                assert response.json()["code"] == "key_revoked"

    asyncio.run(run())


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Bearer a.b.c", "Basic abc", f"Bearer {PLANTED}"])
def test_no_token_no_answer(authorization: str, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            for path in ("/v1/mailbox", "/v1/sent", "/v1/grants?key=a", "/v1/registry"):
                response = await iom.client.get(path, headers={"authorization": authorization})
                assert (response.status_code, response.json()["code"]) == (401, "token_invalid")
            response = await iom.client.post("/v1/records", content=b"{}", headers={"authorization": authorization})
            assert (response.status_code, response.json()["code"]) == (401, "token_invalid")
            world.nothing_leaked(gateway)

    asyncio.run(run())


def test_a_token_of_another_gateway_of_the_domain_counts_here(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as first,
            world.opened(index=tmp_path / "index2.db") as second,
            world.caller(first) as iom,
            world.caller(second) as elsewhere,
        ):
            response = await elsewhere.client.get("/v1/ends", headers={"authorization": f"Bearer {iom.token}"})
            assert response.status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize("off", [3600.0, -3600.0, 5 * 365 * 86_400.0, -30 * 365 * 86_400.0])
def test_a_clock_that_is_wrong_corrects_itself(off: float, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            log = world.log(gateway, now=lambda: world.clock() + off)
            signed = world.domain.record()
            await log.put_grants(grants_topic("bi/k7t4"), signed.grant_puts())
            [answer] = await log.append([signed.entry])
            assert isinstance(answer, Appended)
            assert log.clock_offset_s == pytest.approx(-off, abs=2)
            await log.close()

    asyncio.run(run())


def test_a_right_clock_is_left_alone_and_one_token_serves_many_calls(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            log = world.log(gateway)
            await asyncio.gather(*(log.ends("bi.referral.iom") for _ in range(5)))
            assert log.clock_offset_s == 0
            counted = gateway.door.metrics.text().decode()
            assert 'requests_total{code="200",route="/v1/token"} 1.0' in counted
            world.clock.at += 400
            await log.ends("bi.referral.iom")
            counted = gateway.door.metrics.text().decode()
            assert 'requests_total{code="200",route="/v1/token"} 2.0' in counted
            assert 'requests_total{code="401"' not in counted
            await log.close()

    asyncio.run(run())


def test_a_refused_token_is_asked_for_once_more_and_no_oftener(tmp_path: Path) -> None:
    asked: list[str] = []

    async def gateway_that_refuses(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if request.url.path == "/v1/token":
            return httpx2.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 300})
        return httpx2.Response(401, json={"code": "token_invalid"})

    async def run() -> None:
        world = World(tmp_path)
        log = HttpLog(
            "http://gateway",
            "bi/iom",
            world.domain.members["bi/iom"].sig,
            domain="bi",
            now=world.clock,
            random=seeded("t"),
            transport=httpx2.MockTransport(gateway_that_refuses),
        )
        with pytest.raises(AccessError) as caught:
            await log.ends("bi.referral.iom")
        assert caught.value.code == "token_invalid"
        assert asked == ["/v1/token", "/v1/ends", "/v1/token", "/v1/ends"]
        await log.close()

    asyncio.run(run())


def test_another_domains_adapter_is_told_so(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            log = world.log(gateway, domain="tn")
            with pytest.raises(AccessError) as caught:
                await log.ends("bi.referral.iom")
            assert caught.value.code == "audience_mismatch"
            await log.close()
            with pytest.raises(LogError) as closed:
                await log.ends("bi.referral.iom")
            assert closed.value.code == "log_closed"

    asyncio.run(run())
