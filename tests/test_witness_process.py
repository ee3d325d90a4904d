# SPDX-License-Identifier: Apache-2.0
"""A witness without a gateway: the same answers over HTTP, its health, and an end when it is asked to end."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from schemas.notes import read_note, read_signature_lines, verify_note
from tests.domain import NOW
from tests.e2e.commands import environment, until
from tests.trees import Ledger
from topics.witness_folder import open_witness
from umuhuza.witness_command import add_log, make_witness
from umuhuza.witness_process import WitnessApp, answering

LEDGER = Ledger("bi")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_witness(tmp_path / "oim", "iom.example/witness")
    add_log(tmp_path / "oim", tuple(LEDGER.keys))
    return tmp_path / "oim"


@contextlib.contextmanager
def client_of(folder: Path) -> Iterator[httpx2.Client]:
    witness = open_witness(folder)
    try:
        with (
            answering(WitnessApp(witness, lambda: NOW), "127.0.0.1", 0) as address,
            httpx2.Client(base_url=address, trust_env=False, timeout=10) as client,
        ):
            yield client
    finally:
        witness.close()


@pytest.mark.parametrize("path", ["/add-checkpoint", "/v1/witness/add-checkpoint"])
def test_it_answers_as_the_standard_says(folder: Path, path: str) -> None:
    fork = Ledger("bi", "forked", 1)
    with client_of(folder) as client:
        good = client.post(path, content=LEDGER.ask(0, 3))
        assert (good.status_code, good.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        note = read_note(LEDGER.checkpoint(3)).with_signatures(read_signature_lines(good.content))
        assert [one.at for one in verify_note(note, open_witness(folder).keys)] == [NOW, NOW]
        stale = client.post(path, content=LEDGER.ask(0, 5))
        assert (stale.status_code, stale.headers["content-type"], stale.text) == (409, "text/x.tlog.size", "3\n")
        for body, status, code in (
            (b"nonsense", 400, "note_malformed"),
            (b"", 400, "note_malformed"),
            (b"x" * (1 << 20), 413, "too_large"),
            (Ledger("tn").ask(0, 3), 404, "log_unknown"),
            (fork.ask(3, 3), 409, "log_inconsistent"),
            (fork.ask(3, 9), 422, "root_mismatch"),
        ):
            refused = client.post(path, content=body)
            assert (refused.status_code, refused.json()["code"], refused.json()["status"]) == (status, code, status)
        metrics = client.get("/metrics").text
        assert 'umuhuza_witness_requests_total{code="cosigned"} 1.0' in metrics
        assert "umuhuza_witness_contradictions 1.0" in metrics
        assert "umuhuza/log" not in metrics


def test_it_says_how_it_is(folder: Path) -> None:
    with client_of(folder) as client:
        assert client.get("/healthz").json() == client.get("/readyz").json() == {"ok": True}
        assert client.get("/add-checkpoint").status_code == client.post("/metrics", content=b"").status_code == 404
        (folder / "logs.policy").write_text("nonsense\n")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ok": False, "code": "unavailable"})
        assert client.get("/healthz").status_code == 200
        assert client.post("/add-checkpoint", content=LEDGER.ask(0, 3)).status_code == 503


def test_a_request_without_a_length_or_cut_off_is_no_request(folder: Path) -> None:
    body = LEDGER.ask(0, 3)
    with client_of(folder) as client:
        port = int(str(client.base_url).rstrip("/").rpartition(":")[2])
        for head in (b"", b"content-length: 99999\r\n", b"content-length: -1\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"POST /add-checkpoint HTTP/1.0\r\n" + head + b"\r\n" + body)
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as answer:
                    assert answer.readline().startswith(b"HTTP/1.0 400 "), head
    assert open_witness(folder).seen() == []


def test_whoever_says_nothing_or_drips_holds_nobody_up_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umuhuza.guarded_server.MOST_AT_ONCE", 3)
    monkeypatch.setattr("umuhuza.guarded_server.REQUEST_SECONDS", 0.5)
    with client_of(folder) as client, contextlib.ExitStack() as held:
        port = int(str(client.base_url).rstrip("/").rpartition(":")[2])
        silent = [held.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(4)]
        silent[0].sendall(b"POST /add-checkpoint HTTP/1.0\r\ncontent-length: 1000\r\n\r\n")
        assert silent[3].recv(1) == b"", "there is no place left: hung up on at once"
        try:
            for _ in range(1000):
                silent[0].sendall(b"x")
                if select.select(silent[:1], (), (), 0.01)[0]:
                    break
            ended = silent[0].recv(1 << 16)
        except ConnectionError:
            ended = b""
        assert not ended.startswith(b"HTTP/1.0 200")
        until("they are gone", lambda: all(select.select([one], (), (), 0)[0] for one in silent))

        def answered() -> bool:
            try:
                return client.get("/healthz").status_code == 200
            except httpx2.TransportError:
                return False  # the places are given back a moment after their connections ended

        until("others are answered", answered)


@contextlib.contextmanager
def running(folder: Path, ready: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and the address on which it answers."""
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "umuhuza", "witness", "run", "--dir", str(folder), "--port", "0"]
    process = subprocess.Popen([*command, "--ready-file", str(ready)], env=environment())
    try:
        until("the witness is ready", lambda: ready.exists() or process.poll() is not None)
        yield process, ready.read_text(encoding="ascii")
    finally:
        process.kill()
        process.wait()


def test_as_a_process_it_ends_when_it_is_told_to_and_goes_on_afterwards(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path / "ready") as (process, address):
        url = f"{address}/add-checkpoint"
        assert httpx2.post(url, content=LEDGER.ask(0, 3), trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with client_of(folder) as client:
        assert client.post("/add-checkpoint", content=LEDGER.ask(3, 9)).status_code == 200
