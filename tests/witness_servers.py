# SPDX-License-Identifier: Apache-2.0
"""Ledgers and witnesses on this machine's network: each a server of its own, ended with its block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from schemas.errors import LogError
from tests.domain import NOW
from tests.trees import Ledger
from topics.tiles import GrowingTree, TileId, read_tile_path
from topics.witness import SIZE_TYPE, Stale, Witness, status_of

Answer = tuple[int, str, bytes]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def served(answers: Callable[[str, bytes], Answer]) -> Iterator[str]:
    """The address of a server that answers (path, body) so."""

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, kind, content = answers(environ["PATH_INFO"], body)
        start_response(f"{status} -", [("content-type", kind), ("content-length", str(len(content)))])
        return [content]

    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class LedgerOnDisk:
    """A ledger that serves its checkpoint and tiles, of whatever size it has now."""

    ledger: Ledger
    size: int
    asked: list[str] = field(default_factory=list)

    def answers(self, path: str, _body: bytes) -> Answer:
        self.asked.append(path)
        if path == "/checkpoint":
            return 200, "text/plain; charset=utf-8", self.ledger.checkpoint(self.size)
        tree = GrowingTree()
        for leaf in self.ledger.leaves(self.size):
            tree.append(leaf)
        tiles: dict[TileId, bytes] = {tile.id: tile.data for tile in tree.take()}
        data = tiles.get(read_tile_path(path[1:]))
        return (404, "text/plain", b"") if data is None else (200, "application/octet-stream", data)


@dataclass
class WitnessServer:
    """A witness behind the standard's interface, by the least that can be written."""

    witness: Witness
    now: int = NOW
    down: bool = False
    bodies: list[bytes] = field(default_factory=list)

    def answers(self, path: str, body: bytes) -> Answer:
        if path != "/add-checkpoint" or self.down:
            return 500, "text/plain", b"down"
        self.bodies.append(body)
        try:
            answer = self.witness.add_checkpoint(body, self.now)
        except LogError as exc:
            return status_of(exc), "text/plain", exc.code.encode()
        if isinstance(answer, Stale):
            return 409, SIZE_TYPE, answer.body
        return 200, "text/plain", answer.lines
