# SPDX-License-Identifier: Apache-2.0
"""A real mail server on 127.0.0.1 in a thread of its own, which keeps what it takes; and an agency that dies while it
sends notices to it.

    with MailServer.running(folder, "starttls") as server:
        asyncio.run(send(server.relay("office@agence.invalid"), ...))
        [message] = server.messages
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from adapters.deadlines import Alarm
from adapters.mail_book import MailBook
from adapters.mail_sending import MailNotices, Relay
from adapters.mailbox import Mailbox
from umuhuza.kafka.certificates import Authority

USER, PASSWORD = "avis-invente", "mot-de-passe-invente"
SENDER = "avis@foyer.invalid"
OFFICE, HEAD = "bureau@foyer.invalid", "direction@foyer.invalid"
SILENT = Alarm("cut-off", "", "", "", 1)
Security = Literal["starttls", "tls", "none"]


class MailServer:
    """Takes what it is given, unless a test says otherwise."""

    def __init__(self, folder: Path, security: Security) -> None:
        self.folder = folder
        self.security: Security = security
        self.port = 0
        self.taken: list[bytes] = []
        """Messages as they came over the wire, without the server's own headers."""
        self.recipients: list[str] = []
        self.greeted: list[str] = []
        """What clients called themselves."""
        self.named_a_sender = 0
        self.answers: dict[str, str] = {}
        """Recipient -> answer to RCPT TO instead of yes."""

    @property
    def messages(self) -> list[EmailMessage]:
        found = [message_from_bytes(one, policy=policy.default) for one in self.taken]
        return [one for one in found if isinstance(one, EmailMessage)]

    @property
    def authority(self) -> Path:
        return self.folder / "autorite.pem"

    def relay(self, *recipients: str, user: str | None = USER, password: str = PASSWORD) -> Relay:
        """How an agency reaches it that trusts its authority."""
        login = None if self.security == "none" else user
        context = None if self.security == "none" else ssl.create_default_context(cafile=str(self.authority))
        host = "127.0.0.1" if self.security == "none" else "localhost"
        return Relay(host, self.port, self.security, SENDER, recipients, login, lambda: password, context)

    # -- what aiosmtpd asks --------------------------------------------------------------------------------------------

    async def _ehlo(
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.greeted.append(hostname)
        session.host_name = hostname
        return responses

    async def _mail(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.named_a_sender += 1
        envelope.mail_from = address
        return "250 OK"

    async def _rcpt(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def _data(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert envelope.original_content is not None
        self.taken.append(envelope.original_content)
        self.recipients += envelope.rcpt_tos
        return "250 OK"

    @property
    def hooks(self) -> SimpleNamespace:
        return SimpleNamespace(
            handle_EHLO=self._ehlo, handle_MAIL=self._mail, handle_RCPT=self._rcpt, handle_DATA=self._data
        )

    # -- its life ------------------------------------------------------------------------------------------------------

    @classmethod
    @contextmanager
    def running(cls, folder: Path, security: Security, offers_tls: bool = True) -> Iterator[MailServer]:
        """Until the end of the block. `offers_tls`: one asked for STARTTLS may not have it."""
        server = cls(folder, security)
        issued = _certificate(folder)
        ready, stop = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()
        conversations: list[SMTP] = []

        def protocol() -> SMTP:
            starts = security == "starttls" and offers_tls
            made = SMTP(
                server.hooks,
                hostname="mail.invalid",
                tls_context=issued if starts else None,
                require_starttls=starts,
                auth_required=starts,
                auth_require_tls=starts,
                authenticator=_let_in,
                loop=loop,
            )
            conversations.append(made)
            return made

        async def serve() -> None:
            implicit = issued if security == "tls" else None
            listening = await loop.create_server(
                protocol, "127.0.0.1", 0, ssl=implicit, ssl_shutdown_timeout=None if implicit is None else 5.0
            )
            async with listening:
                server.port = listening.sockets[0].getsockname()[1]
                ready.set()
                await stop.wait()
            for one in conversations:
                # One that is closing ends by itself; it may not be aborted (Python 3.11 fails at one closed twice).
                if isinstance(one.transport, asyncio.WriteTransport) and not one.transport.is_closing():
                    one.transport.abort()
            async with asyncio.timeout(40):
                while any(one.transport is not None for one in conversations):
                    await asyncio.sleep(0.01)
            at_work = asyncio.all_tasks() - {asyncio.current_task()}
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(60)
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(60)
            loop.close()


def _let_in(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data == LoginPassword(USER.encode(), PASSWORD.encode()), handled=False)


def _certificate(folder: Path) -> ssl.SSLContext:
    """Of `localhost`, by an authority of its own, whose certificate then lies in the folder."""
    authority = Authority.make("courriel", time.time())
    issued = authority.node(1, ["localhost"], time.time())
    (folder / "autorite.pem").write_bytes(authority.pem)
    (folder / "serveur.pem").write_bytes(issued.certificate)
    (folder / "serveur.cle").write_bytes(issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "serveur.pem", folder / "serveur.cle")
    return context


def notify(mailbox: Path, port: int, now: float, recipients: Sequence[str], dies_at: str) -> None:
    """One turn of an agency whose gateway is silent, in a process that kills itself at that step."""
    relay = Relay("127.0.0.1", port, "none", SENDER, tuple(recipients))
    book = MailBook(Mailbox.open(mailbox), 600.0, os.urandom)

    def step(name: str) -> None:
        if name == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(MailNotices(book, relay, lambda: [SILENT], lambda: now, step).turn())
