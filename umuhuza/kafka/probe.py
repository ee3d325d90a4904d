# SPDX-License-Identifier: Apache-2.0
"""Ask a broker whom it knows: one TLS connection, one Metadata request, in milliseconds and without a client library.

A client library reports a refused handshake as a timeout of half a minute; this says at once why nobody answers. It is
what readiness and `umuhuza kafka status` are decided by.

Protocol: Metadata (api key 3) version 4 with a version 1 header, as https://kafka.apache.org/protocol gives them.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass

from umuhuza.kafka.certificates import Credentials

_MAX_ANSWER = 4 << 20


class NoAnswerError(Exception):
    """The broker did not answer. `why`: `closed` nobody listens or it hung up, `refused` TLS refused one of the two
    certificates, `slow` not in time, `strange` not a broker's answer."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Seen:
    """What one broker says of its cluster."""

    brokers: frozenset[int]
    """Ids of the brokers that take work; one that has just started joins when it has caught up."""


def ask(address: str, credentials: Credentials | None, *, ca: str | None = None, timeout_s: float = 3.0) -> Seen:
    """One question to one broker, `host:port`.

    Args:
        credentials: who asks; None to come without a certificate, with `ca` to know the broker by.

    Raises:
        NoAnswerError: as its `why` says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    host, _, port = address.rpartition(":")
    try:
        context.load_verify_locations(ca if credentials is None else str(credentials.ca))
        if credentials is not None:
            context.load_cert_chain(credentials.certificate, credentials.key)
        with (
            socket.create_connection((host, int(port)), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.settimeout(timeout_s)
            # Version 4: no topics (an empty list), and none made by asking.
            body = struct.pack(">hhih", 3, 4, 1, 4) + b"look" + struct.pack(">ib", 0, 0)
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            if not 0 < size <= _MAX_ANSWER:
                raise NoAnswerError("strange")
            return _read(_exactly(connection, size))
    except TimeoutError:
        raise NoAnswerError("slow") from None
    except ssl.SSLEOFError:
        raise NoAnswerError("closed") from None
    except ssl.SSLError:
        raise NoAnswerError("refused") from None
    except OSError:
        raise NoAnswerError("closed") from None
    except struct.error:
        raise NoAnswerError("strange") from None


def _exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise NoAnswerError("closed")
        data += more
    return data


def _read(answer: bytes) -> Seen:
    """correlation id, throttle time, [node id, host, port, rack], ..."""
    at = 8
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    ids = set()
    for _ in range(count):
        (node,) = struct.unpack_from(">i", answer, at)
        ids.add(node)
        at = _past_text(answer, _past_text(answer, at + 4) + 4)
    return Seen(frozenset(ids))


def _past_text(answer: bytes, at: int) -> int:
    (size,) = struct.unpack_from(">h", answer, at)
    return at + 2 + max(0, int(size))
