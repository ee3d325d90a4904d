# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server for what needs no web framework: a witness, a ledger's health. Threads, each for one request.

Whoever connects may be anybody. At most `MOST_AT_ONCE` requests are looked at, and what comes beyond is hung up on at
once; a request that is not done after `REQUEST_SECONDS` loses its connection, also where it arrives byte by byte. So
nobody can make threads or memory grow. Nothing of a request is logged.

If it dies, requests on their way get no answer. Must never: say anything by itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

REQUEST_SECONDS = 20.0
MOST_AT_ONCE = 128


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._began: dict[socket.socket, float] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._began.pop(request, None)
            self._places.release()

    def service_actions(self) -> None:
        """Between two looks for connections."""
        late = time.monotonic() - REQUEST_SECONDS
        for request, began in list(self._began.items()):
            if began < late:
                with contextlib.suppress(OSError):  # it has just ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that broke is its owner's affair, and an address may be anybody's."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: an address that was asked for may be anything."""


@contextlib.contextmanager
def answering(app: Callable[..., list[bytes]], host: str, port: int, name: str) -> Iterator[str]:
    """Answer until the block ends; the address.

    Args:
        app: a WSGI application, safe between threads.
        port: 0 chooses a free one.
        name: of the thread.

    Raises OSError: it cannot listen there.
    """
    server = make_server(host, port, app, _Server, _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name=name)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
