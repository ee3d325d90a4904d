# SPDX-License-Identifier: Apache-2.0
"""A gateway, or what stands in front of it, that answers nonsense: every answer is an error of our tree.

Anything else ends the adapter: its loop catches our errors only.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from schemas.errors import UmuhuzaError
from tests.domain import Domain
from topics.http_log import HttpLog

GOOD = {
    "topic": "bi.referral.k7t4",
    "offset": 0,
    "at": 1_793_000_000_000,
    "key": "A" * 22,
    "ident": "bi/iom/0192aaaa-aaaa-7aaa-8aaa-aaaaaaaaaaaa",
    "headers": {},
    "record": "x",
    "grants": [],
}


class Lying(httpx2.AsyncBaseTransport):
    """Gives a token to anybody, then answers what it was told to."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/token":
            return httpx2.Response(200, content=b'{"access_token":"x","expires_in":300}')
        return httpx2.Response(self.status, content=self.body, headers={"umuhuza-log": "log-1"})


def told(status: int, body: bytes, call: Callable[[HttpLog], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        domain = Domain()
        log = HttpLog(
            "http://gateway.invalid",
            "bi/k7t4",
            domain.members["bi/k7t4"].sig,
            domain="bi",
            now=time.time,
            random=domain.random,
            transport=Lying(status, body),
        )
        try:
            return await call(log)
        finally:
            await log.close()

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["offset", "at"])
@pytest.mark.parametrize("value", [None, "7", 1.5, True, [], {}, 10**18, -1])
def test_a_mailbox_line_with_a_wrong_number_is_no_entry(name: str, value: object) -> None:
    body = json.dumps({**GOOD, name: value}).encode()
    with pytest.raises(UmuhuzaError):
        told(200, body, lambda log: log.poll({"bi.referral.k7t4": -1}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("topic", "ident", "key", "record", "headers", "grants")
        for value in (None, 7, [1], {"a": 1})
        if (name, value) != ("grants", [1])
    ],
)
def test_a_mailbox_line_with_a_wrong_text_is_no_entry(name: str, value: object) -> None:
    body = json.dumps({**GOOD, name: value}).encode()
    with pytest.raises(UmuhuzaError):
        told(200, body, lambda log: log.poll({"bi.referral.k7t4": -1}))


@pytest.mark.parametrize("value", [None, "7", 1.5, True, -1, 10**18])
def test_ends_are_numbers(value: object) -> None:
    body = json.dumps({"log": "log-1", "ends": {"referral": {"first": 0, "next": value}}}).encode()
    with pytest.raises(UmuhuzaError):
        told(200, body, lambda log: log.ends("bi.referral.k7t4"))


@pytest.mark.parametrize(
    "body", [b'{"code":["x"]}', b'{"code":{}}', b"[]", b"7", b'{"code":"unavailable","expected":{}}']
)
def test_a_refusal_that_is_none_of_ours_is_unavailable(body: bytes) -> None:
    with pytest.raises(UmuhuzaError):
        told(503, body, lambda log: log.ends("bi.referral.k7t4"))


@pytest.mark.parametrize("seq", [None, "x", 1e400, [], {}])
def test_heads_that_are_no_numbers_teach_nothing(seq: object) -> None:
    body = json.dumps({"heads": {"bi.referral.iom": {"seq": seq, "hash": "", "offset": 0}}}).encode()
    with pytest.raises(UmuhuzaError):
        told(200, body, lambda log: log.sent_heads())


@pytest.mark.parametrize("path", ["\x1b[2J", "x\ny", "Aline"])
def test_a_path_in_a_refusal_holds_nothing_that_a_path_of_ours_could_not(path: str) -> None:
    body = json.dumps({"code": "unavailable", "path": path + "é"}).encode()
    with pytest.raises(UmuhuzaError) as refused:
        told(503, body, lambda log: log.ends("bi.referral.k7t4"))
    assert refused.value.path is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"7",
        b"[]",
        b'{"l1":"A"}',
        b'{"l1":"A","receipt":7}',
        b'{"l1":"B","receipt":null}',
        b'{"l1":"A","receipt":null}\n{"l1":"A","receipt":null}',
    ],
)
def test_receipts_of_something_else_are_none(body: bytes) -> None:
    with pytest.raises(UmuhuzaError):
        told(200, body, lambda log: log.receipts(["A"]))
