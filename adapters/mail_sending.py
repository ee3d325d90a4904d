# SPDX-License-Identifier: Apache-2.0
"""Letters to a mail server, one at a time: encrypted, with its certificate checked, within a minute, beside all work.

Invariants: TLS 1.2 or newer before the first address or password leaves, by STARTTLS or from the first byte; a server
that offers none is refused, not asked without. In clear only to this machine itself, and then without a login. The name
of this machine is never said (EHLO says an address literal).
Must never: block what an adapter does; raise what a server said, since that repeats addresses.

If we crash here: see `adapters.mail_book`; the server may have the letter, and gets it once more under its Message-ID.
Sources: RFC 5321, RFC 3207 (STARTTLS), RFC 8314 (TLS from the first byte), RFC 4954 (login).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import aiosmtplib

from adapters.deadlines import Alarm
from adapters.mail_book import MailBook
from adapters.mail_letter import letter
from adapters.settings import AgencySettings
from schemas.errors import MailError
from topics.passphrase import MAIL_PASSWORD, given
from topics.private_file import read_own
from topics.settings import SettingsError

WITHIN_S = 60.0
"""For a whole conversation with the server, however slowly it answers."""
PORTS = {"starttls": 587, "tls": 465, "none": 25}
_OURSELVES = "[127.0.0.1]"


@dataclass(frozen=True, slots=True)
class Relay:
    """The server that takes letters, and for whom they are."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: Callable[[], str] = str
    """Read at every connection: its file may be changed under a running adapter. Raises SettingsError."""
    context: ssl.SSLContext | None = None


def relay_of(settings: AgencySettings) -> Relay | None:
    """None: no notices are asked for. Raises SettingsError, which names settings and no value."""
    host, security = settings.mail_host, settings.mail_security
    if host is None:
        return None
    if settings.mail_from is None or not settings.mail_to:
        raise SettingsError(
            "mail_host: mail_from and mail_to are missing", "mail_host : il manque mail_from et mail_to"
        )
    password = _password_of(settings)
    if (settings.mail_user is None) != (password is None):
        raise SettingsError("mail_user and mail_password belong together", "mail_user et mail_password vont ensemble")
    if security == "none" and (settings.mail_user is not None or not _is_this_machine(host)):
        raise SettingsError(
            "mail_security: without encryption only to this machine itself, and without a login",
            "mail_security : sans chiffrement, seulement vers cette machine même, et sans identifiant",
        )
    return Relay(
        host,
        settings.mail_port or PORTS[security],
        security,
        settings.mail_from,
        settings.mail_to,
        settings.mail_user,
        password or str,
        None if security == "none" else _context(settings),
    )


def _context(settings: AgencySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=None if settings.mail_ca_file is None else str(settings.mail_ca_file)
        )
    except OSError:
        raise SettingsError("mail_ca_file: cannot be read", "mail_ca_file : ne peut pas être lu") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password_of(settings: AgencySettings) -> Callable[[], str] | None:
    """From the file that the settings name; without one as passphrases come, once at the start."""
    if settings.mail_password is not None:
        return partial(_password, settings.mail_password)
    told = given(MAIL_PASSWORD) if settings.mail_user is not None else None
    return None if not told else lambda: told


def _password(file: Path) -> str:
    return read_own(file, "mail_password").partition("\n")[0].removesuffix("\r")


async def send(relay: Relay, recipient: str, message: bytes) -> None:
    """Hand one letter to the server. It has it when this returns.

    Raises MailError: mail_unreachable, mail_insecure, mail_login_refused, mail_refused.
    """
    try:
        password = relay.password() if relay.user is not None else ""
    except SettingsError:
        raise MailError("mail_login_refused", "mail_password") from None
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        port=relay.port,
        local_hostname=_OURSELVES,
        use_tls=relay.security == "tls",
        start_tls=False,
        tls_context=relay.context if relay.security == "tls" else None,
        timeout=WITHIN_S,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            await client.connect()
            if relay.security == "starttls":
                await client.ehlo()
                if not client.supports_extension("starttls"):
                    raise MailError("mail_insecure", "mail_security")
                await client.starttls(tls_context=relay.context)
            if relay.user is not None:
                await client.login(relay.user, password)
            await client.sendmail(relay.sender, [recipient], message)
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
        raise _meaning(exc) from None
    finally:
        connection = client.transport
        with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            if client.is_connected:
                await client.quit(timeout=2.0)
        client.close()
        if isinstance(connection, asyncio.WriteTransport):
            # All is said, or nothing more is to be: TLS would keep the connection for half a minute to part in order.
            connection.abort()
            await asyncio.sleep(0)


def _meaning(exc: Exception) -> MailError:
    """What a failure is, without a word of what the server said."""
    causes = (exc, exc.__cause__, exc.__context__)
    if any(isinstance(one, ssl.SSLError) for one in causes):
        return MailError("mail_insecure", "mail_ca_file")
    if isinstance(exc, aiosmtplib.SMTPAuthenticationError):
        return MailError("mail_login_refused", "mail_user")
    if isinstance(exc, aiosmtplib.SMTPRecipientsRefused):
        refused = exc.recipients[0].code if exc.recipients else 0
        return MailError("mail_refused", "mail_to") if refused >= 500 else MailError("mail_unreachable", "mail_host")
    if isinstance(exc, aiosmtplib.SMTPSenderRefused) and exc.code >= 500:
        return MailError("mail_refused", "mail_from")
    if isinstance(exc, aiosmtplib.SMTPResponseException) and exc.code >= 500:
        return MailError("mail_refused", "mail_host")
    return MailError("mail_unreachable", "mail_host")


class MailNotices:
    """The turn beside the others that says by e-mail that somebody should look. Used from one event loop."""

    def __init__(
        self,
        book: MailBook,
        relay: Relay,
        alarms: Callable[[], Sequence[Alarm]],
        now: Callable[[], float],
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._book = book
        self._relay = relay
        self._alarms = alarms
        self._now = now
        self._step = step

    async def test(self) -> int:
        """One letter to each recipient, now, that says that it is a test. Returns how many. Raises MailError."""
        relay, at = self._relay, int(self._now())
        for recipient in relay.recipients:
            await send(relay, recipient, letter("test", relay.sender, recipient, os.urandom(16).hex(), at))
        return len(relay.recipients)

    async def turn(self) -> int:
        """Make what is to be said, send what is due. Returns how many letters the server took.

        Raises:
            MailError: a letter was not taken; it waits for its next time.
            UmuhuzaError: our own disk.
        """
        relay, count = self._relay, 0
        failed: MailError | None = None
        self._book.turn(self._now(), self._alarms(), relay.recipients)
        self._step("made")
        for one in self._book.due(self._now(), relay.recipients):
            self._book.attempt(one, self._now())
            self._step("attempted")
            try:
                message = letter(one.kind, relay.sender, one.recipient, one.ident, one.made_at)
                await send(relay, one.recipient, message)
            except MailError as exc:
                failed = exc
                self._book.failed(one, exc.code)
                if exc.path != "mail_to":
                    break  # nor would it take the others; their time comes next
                continue
            self._step("taken")
            self._book.sent(one, int(self._now()))
            self._step("sent")
            count += 1
        if failed is not None:
            raise failed
        return count
