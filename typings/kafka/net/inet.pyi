# SPDX-License-Identifier: Apache-2.0
import socket

class KafkaNetSocket:
    async def sock_connect(
        self, net: object, sock: socket.socket, sockaddr: object, timeout_at: float | None = None
    ) -> socket.socket: ...
