# SPDX-License-Identifier: Apache-2.0
"""A witness as a process of its own, for who keeps a witness and no gateway (IOM as the third of two domains).

    POST /add-checkpoint, /v1/witness/add-checkpoint    as `gateway.witness_routes`
    GET  /healthz    200 while the process runs
    GET  /readyz     200 when its memory and its list of ledgers can be read, else 503 with a code
    GET  /metrics    Prometheus

TLS ends at a proxy before it. A request has to arrive in time (`umuhuza.guarded_server`) and be no longer than a
request can be.
Whatever ends the process, the next start goes on: see `topics.witness`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from schemas.errors import LogError
from schemas.proof_texts import MAX_PROOF_BYTES
from topics.witness import SIZE_TYPE, Stale, Witness, status_of
from umuhuza import guarded_server

PATHS = ("/add-checkpoint", "/v1/witness/add-checkpoint")
_PHRASES = {200: "OK", 404: "Not Found", 409: "Conflict", 413: "Content Too Large", 503: "Service Unavailable"}
_JSON, _PROBLEM, _TEXT = "application/json", "application/problem+json", "text/plain; charset=utf-8"
Answer = tuple[int, str, bytes]


class WitnessApp:
    """The WSGI application over one witness. Safe between threads, as the witness is."""

    def __init__(self, witness: Witness, now: Callable[[], float] = time.time) -> None:
        self._witness = witness
        self._now = now
        self._collectors = CollectorRegistry()
        self._requests = Counter(
            "umuhuza_witness_requests",
            "Checkpoints brought to this witness, by outcome: cosigned, stale, or the refusal's code",
            ("code",),
            registry=self._collectors,
        )
        contradictions = Gauge(
            "umuhuza_witness_contradictions",
            "Signed checkpoints that contradict what was seen before, kept as evidence",
            registry=self._collectors,
        )
        contradictions.set_function(lambda: float(sum(one.contradictions for one in witness.seen())))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        status, kind, body = self._answer(environ)
        fields = [("content-type", kind), ("content-length", str(len(body))), ("cache-control", "no-store")]
        start_response(f"{status} {_PHRASES.get(status, 'Refused')}", fields)
        return [body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "POST" and path in PATHS:
            return self._add_checkpoint(environ)
        if method == "GET" and path == "/healthz":
            return 200, _JSON, b'{"ok":true}'
        if method == "GET" and path == "/readyz":
            return self._ready()
        if method == "GET" and path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(self._collectors)
        return 404, _JSON, b'{"ok":false}'

    def _ready(self) -> Answer:
        try:
            self._witness.check()
        except LogError as exc:
            return 503, _JSON, orjson.dumps({"ok": False, "code": exc.code})
        return 200, _JSON, b'{"ok":true}'

    def _add_checkpoint(self, environ: dict[str, Any]) -> Answer:
        try:
            answer = self._witness.add_checkpoint(_body(environ), int(self._now()))
        except LogError as exc:
            self._requests.labels(exc.code).inc()
            return _problem(exc)
        if isinstance(answer, Stale):
            self._requests.labels("stale").inc()
            return 409, SIZE_TYPE, answer.body
        self._requests.labels("cosigned").inc()
        return 200, _TEXT, answer.lines


def _body(environ: dict[str, Any]) -> bytes:
    """Raises LogError note_malformed, too_large."""
    length = str(environ.get("CONTENT_LENGTH") or "")
    if not (length.isascii() and length.isdigit()):
        raise LogError("note_malformed", "request")
    if len(length) > 9 or int(length) > MAX_PROOF_BYTES:
        raise LogError("too_large", "request", expected=MAX_PROOF_BYTES)
    try:
        body: bytes = environ["wsgi.input"].read(int(length))
    except OSError:
        body = b""
    if len(body) != int(length):
        raise LogError("note_malformed", "request")
    return body


def _problem(error: LogError) -> Answer:
    """RFC 9457, as a gateway's."""
    meaning = error.meaning
    told = {
        "type": f"urn:umuhuza:problem:{error.code}",
        "title": meaning.title_en,
        "status": status_of(error),
        "code": error.code,
        "retriable": meaning.retriable,
        "advice": meaning.advice_en,
        **({} if error.path is None else {"path": error.path}),
    }
    return status_of(error), _PROBLEM, orjson.dumps(told)


def answering(app: WitnessApp, host: str, port: int) -> AbstractContextManager[str]:
    """Answer in threads of their own; the address. Raises OSError: it cannot listen there."""
    return guarded_server.answering(app, host, port, "witness")


def serve(witness: Witness, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT. Raises OSError: it cannot listen there."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with answering(WitnessApp(witness), host, port) as address:
        ready(address)
        stop.wait()
