# SPDX-License-Identifier: Apache-2.0
"""How a Kafka cluster is reached: its addresses, TLS, the library's settings and errors. Everything here blocks.

One of the three modules that import `kafka`, below `kafka_producer` and `kafka_clients`. What it must never do: connect
without a client certificate, let the library log below WARNING (it then logs values), chain one of the library's errors
(their texts may hold what was sent).

Facts of kafka-python 3.0 that it is built around: a client that cannot bootstrap leaves thread and sockets behind; a
broker that hangs in the handshake is waited for for ever.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schemas.errors import LogError
from topics.settings import SettingsError

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files by two functions that Python 3.11 deprecates, while it is imported.
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated\. Use files\(\)", DeprecationWarning)
    from kafka import errors as kafka_errors
    from kafka.net.compat import KafkaNetClient
    from kafka.net.inet import KafkaNetSocket

REQUEST_S = 10.0
"""What one call of the library may take."""
HANDSHAKE_S = 5.0

_T = TypeVar("_T")
_ADDRESS = re.compile(r"[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}")
_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (kafka_errors.KafkaStorageError, "storage_full"),
    (kafka_errors.AuthorizationError, "not_permitted"),
    (kafka_errors.MessageSizeTooLargeError, "too_large"),
    (kafka_errors.RecordListTooLargeError, "too_large"),
    (kafka_errors.InvalidTopicError, "topic_unknown"),
)


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """How to reach a cluster: TLS 1.3 with a client certificate, always. Files are PEM."""

    bootstrap: tuple[str, ...]
    """ "127.0.0.1:19092", ..."""
    ca: Path
    certificate: Path
    key: Path
    client_id: str = "umuhuza"

    @classmethod
    def of_folder(cls, folder: Path, client_id: str = "umuhuza") -> KafkaAccess:
        """From the folder that an administrator hands over (`umuhuza kafka issue`): `bootstrap`, one line of
        host:port with commas between, `ca.pem`, `certificate.pem`, `key.pem`.

        Raises SettingsError: a file is not there, or `bootstrap` holds no addresses.
        """
        names = ("bootstrap", "ca.pem", "certificate.pem", "key.pem")
        for name in names:
            if not (folder / name).is_file():
                raise SettingsError(f"kafka: {name} is not in the folder", f"kafka : {name} manque dans le dossier")
        addresses = tuple(
            one.strip() for one in (folder / names[0]).read_text("ascii", "replace").split(",") if one.strip()
        )
        if not addresses or not all(_ADDRESS.fullmatch(one) for one in addresses):
            raise SettingsError("kafka: bootstrap is not host:port,…", "kafka : bootstrap n'est pas hôte:port,…")
        return cls(addresses, folder / names[1], folder / names[2], folder / names[3], client_id)


def error_of(cause: BaseException, path: str | None = None) -> LogError:
    """The tree's error for one of the library's. What is not listed is `unavailable`: retried, never taken for a no."""
    for kind, code in _CODES:
        if isinstance(cause, kind):
            return LogError(code, path)
    # A principal that may write nowhere gets no producer id; kafka-python 3.0.12 tells that in words only.
    if type(cause) is kafka_errors.KafkaError and "AuthorizationFailed" in str(cause):
        return LogError("not_permitted", path)
    return LogError("unavailable", path)


class Reach:
    """What every client of one principal is made with."""

    def __init__(self, access: KafkaAccess) -> None:
        """Raises LogError `not_permitted` (path `tls.key`, `tls.ca`: files that cannot be used)."""
        logger = logging.getLogger("kafka")
        logger.setLevel(max(logger.level, logging.WARNING))
        self.access = access
        self.context = _tls(access)

    def settings(self, **more: object) -> dict[str, object]:
        """What every Kafka client is made with; `more` is added, and wins."""
        return {
            "bootstrap_servers": list(self.access.bootstrap),
            "client_id": self.access.client_id,
            "security_protocol": "SSL",
            "ssl_context": self.context,
            "proxy_url": f"{_Sockets.SCHEMES[0]}://",
            "bootstrap_timeout_ms": 5_000,
            "request_timeout_ms": int(REQUEST_S * 1000) // 2,
            "reconnect_backoff_max_ms": 1_000,
            **more,
        }


def whole(kind: Callable[..., _T], config: dict[str, object]) -> _T:
    """A client, or nothing: one that cannot bootstrap leaves its thread and sockets behind in kafka-python 3.0.12."""
    begun: list[KafkaNetClient] = []

    def connect(**more: object) -> KafkaNetClient:
        begun.append(KafkaNetClient(**more))
        return begun[-1]

    try:
        return kind(**config, kafka_client=connect)
    except BaseException:
        for client in begun:
            client.close()
        raise


def _tls(access: KafkaAccess) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(access.ca)
    except (OSError, ValueError):
        raise LogError("not_permitted", "tls.ca") from None
    try:
        context.load_cert_chain(access.certificate, access.key)
    except (OSError, ValueError):
        raise LogError("not_permitted", "tls.key") from None
    return context


class _Sockets(KafkaNetSocket):
    """Connects as the library does, and closes a socket whose connection failed: kafka-python 3.0.12 leaves it open.

    Chosen by the scheme of `proxy_url`, the library's way to bring sockets of one's own. No proxy is involved.
    """

    SCHEMES = ("umuhuza-direct",)

    async def sock_connect(
        self, net: object, sock: socket.socket, sockaddr: object, timeout_at: float | None = None
    ) -> socket.socket:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class _Context(ssl.SSLContext):
    """Cuts off a TLS handshake that takes too long: kafka-python 3.0.12 waits for a broker that hangs for ever."""

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        secured = super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session
        )
        if not do_handshake_on_connect:
            timer = threading.Timer(HANDSHAKE_S, _cut_off, (weakref.ref(secured),))
            timer.daemon = True
            timer.start()
        return secured


def _cut_off(connection: weakref.ref[ssl.SSLSocket]) -> None:
    secured = connection()
    if secured is not None and secured.fileno() >= 0 and secured.version() is None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(secured, socket.SHUT_RDWR)  # its owner hears of it and closes it
