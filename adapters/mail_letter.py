# SPDX-License-Identifier: Apache-2.0
"""The e-mails that Umuhuza sends: three letters that say that somebody should look, and nothing else.

Invariants: all letters to one recipient have the same subject, the same headers and the same length, whatever they are
about; no name, number, agency, thread, host or program stands in one. What differs is one sentence, inside base64, so
that no relay shortens its padding. Pure.
Must never: take a word from a record, a connector or a person.

Sources: RFC 5322 (headers), RFC 3834 (Auto-Submitted: no robot answers), RFC 2045 (base64).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal

LetterKind = Literal["arrived", "overdue", "test"]
SUBJECT = "Umuhuza"
BODY_BYTES = 768
"""Of every body, before base64."""
_WORDS: Mapping[LetterKind, tuple[str, str]] = {
    "arrived": (
        "Quelque chose est arrivé et vous attend : ouvrez Umuhuza.",
        "Something has arrived that waits for you: open Umuhuza.",
    ),
    "overdue": (
        "Quelque chose d'urgent est en retard : ouvrez Umuhuza, et téléphonez.",
        "Something urgent is overdue: open Umuhuza, and telephone.",
    ),
    "test": (
        "Ceci est un essai : les avis par courriel d'Umuhuza arrivent jusqu'ici.",
        "This is a test: Umuhuza's notices by e-mail come as far as this.",
    ),
}
_ALWAYS = (
    "Ce message n'en dira jamais plus. Ne répondez pas, ne le transférez pas ; il peut arriver tard ou manquer.\n"
    "En cas de danger immédiat, téléphonez d'abord.",
    "This message will never say more. Do not answer it, do not forward it; it may be late or missing.\n"
    "In immediate danger telephone first.",
)


def letter(kind: LetterKind, sender: str, recipient: str, ident: str, made_at: int) -> bytes:
    """The whole message as it goes over the wire, lines ended by CR LF, ASCII.

    Args:
        sender, recipient: addresses of letters, digits and signs only (`adapters.settings.ADDRESS`).
        ident: random; the left side of the Message-ID, the same when the letter is sent again.
        made_at: seconds since the epoch; no time of anything but of the letter.

    Raises ValueError: an address that would break a header.
    """
    french, english = _WORDS[kind]
    body = f"{french}\n{_ALWAYS[0]}\n\n{english}\n{_ALWAYS[1]}\n".encode()
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = SUBJECT
    message["Date"] = format_datetime(datetime.fromtimestamp(made_at, UTC))
    message["Message-ID"] = f"<{ident}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body.ljust(BODY_BYTES).decode(), cte="base64")
    return message.as_bytes()
