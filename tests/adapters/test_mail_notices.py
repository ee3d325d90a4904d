# SPDX-License-Identifier: Apache-2.0
"""Notices by e-mail: they say that somebody should look, through a real server, and nothing else to anybody."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.deadlines import Alarm
from adapters.mail_book import AGAIN_AFTER_S, LONGEST_RETRY_S, MailBook
from adapters.mail_letter import LetterKind, letter
from adapters.mail_sending import MailNotices, Relay, relay_of, send
from adapters.mailbox import Mailbox
from adapters.settings import ADDRESS, AgencySettings, load_agency
from schemas.errors import MailError
from tests.agencies import PLANTED, Agencies, referral
from tests.forked import CONTEXT
from tests.mail_server import HEAD, OFFICE, PASSWORD, SENDER, SILENT, USER, MailServer, Security, notify
from topics.settings import SettingsError

IOM, SHELTER = "bi/iom", "bi/k7t4"
KINDS: tuple[LetterKind, ...] = ("arrived", "overdue", "test")
SLOT = 600.0
START = 1_800_000_000.0
HALF = Alarm("half", SHELTER, "fil", "evt", 1)
LATE = Alarm("overdue", SHELTER, "fil", "evt", 2)


def text_of(raw: bytes) -> str:
    """What a letter says, its padding included."""
    payload = message_from_bytes(raw, policy=policy.default).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def drawn(seed: int = 1) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Mailbox]:
    mailbox = Mailbox.open(tmp_path / "mailbox.db")
    yield mailbox
    mailbox.close()


def book_of(box: Mailbox, seed: int = 1) -> MailBook:
    """Its moments are drawn from a seed; the names of letters are no part of that."""
    moments = drawn(seed)
    return MailBook(box, SLOT, lambda size: moments.randbytes(size) if size == 4 else b"n" * size)


def arrives(box: Mailbox, n: int, type: str = "referral.requested") -> None:
    """Something for a person, as the inbox has it."""
    columns = "log, topic, log_offset, at_ms, ident, iss, evt, digest, type, kind, thread, late, crossed, record, state"
    box.change(
        f"INSERT INTO incoming(n, {columns}) VALUES(?1, 'l', 't', ?1, 1, ?2, 'bi/iom', ?2, x'', ?3, 'request', 'f', 0,"
        " 0, x'', 'delivered')",
        n,
        f"bi/iom/{n}",
        type,
    )


def waiting(book: MailBook, now: float) -> list[str]:
    return [one.kind for one in book.due(now, [OFFICE])]


def at_its_time(book: MailBook, now: float, standing: Sequence[Alarm] = ()) -> float:
    """The first moment from now on at which something could be said; it is asked as the adapter does, and says it."""
    for _ in range(200):
        before = book._box.query("SELECT next_at FROM mail")
        book.turn(now, standing, [OFFICE])
        if before and book._box.query("SELECT next_at FROM mail") != before:
            return now
        now += 10
    raise AssertionError("never")


# -- what stands in a letter -------------------------------------------------------------------------------------------


def test_all_letters_to_one_recipient_look_alike_but_for_one_sentence() -> None:
    made = [letter(kind, SENDER, OFFICE, "0" * 32, int(START) + 86_400 * day) for day, kind in enumerate(KINDS)]
    assert len({len(one) for one in made}) == 1
    parsed = [message_from_bytes(one, policy=policy.default) for one in made]
    assert {tuple(one.keys()) for one in parsed} == {tuple(parsed[0].keys())}
    assert {one["Subject"] for one in parsed} == {"Umuhuza"}
    assert {one["Auto-Submitted"] for one in parsed} == {"auto-generated"}
    assert len({one.get_payload() for one in parsed}) == 3
    assert len({len(text_of(one).encode()) for one in made}) == 1
    assert all(one.isascii() for one in made)


def test_each_letter_says_what_to_do_in_french_and_english() -> None:
    def body(kind: LetterKind) -> str:
        return text_of(letter(kind, SENDER, OFFICE, "0" * 32, int(START)))

    assert "ouvrez Umuhuza." in body("arrived")
    assert "open Umuhuza." in body("arrived")
    assert "téléphonez." in body("overdue")
    assert "open Umuhuza, and telephone." in body("overdue")
    for kind in KINDS:
        assert not re.search(r"\d", body(kind))  # no number, no date


@given(st.from_regex(ADDRESS, fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_an_address_that_the_settings_take_is_one_recipient_and_no_other_header(address: str) -> None:
    raw = letter("arrived", SENDER, address, "0" * 32, int(START))
    head = raw.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode()
    names = [line.partition(":")[0] for line in head.split("\r\n")]
    assert sorted(names) == sorted(set(names))
    assert set(names) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding",
        "MIME-Version",
    }  # fmt: skip


@pytest.mark.parametrize(
    "address",
    ["a@b.invalid\r\nBcc: x@y.invalid", "a@b.invalid\n", "a b@c.invalid", "<a@b.invalid>", "a@b.invalid,c@d.invalid",
     "a@", "@b", "é@b.invalid", "a@b.invalid\x00"],
)  # fmt: skip
def test_an_address_that_could_end_a_header_is_refused_by_the_settings_without_its_value(
    tmp_path: Path, address: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        told(tmp_path, {"mail_to": (address,)})
    assert "mail_to" in str(caught.value)
    assert "b.invalid" not in str(caught.value)


def told(folder: Path, values: dict[str, object]) -> AgencySettings:
    base = {"agency": SHELTER, "gateway": "http://127.0.0.1:1", "gateway_agency": "bi/operator"}
    (folder / "agency.toml").write_text("", encoding="utf-8")
    return load_agency(folder, {**base, "registry_root": "A" * 43, "mail_host": "localhost", **values})


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "mail_from and mail_to"),
        ({"mail_from": SENDER}, "mail_from and mail_to"),
        ({"mail_user": USER}, "mail_password"),
        ({"mail_security": "none", "mail_host": "mail.invalid"}, "mail_security"),
        ({"mail_security": "none", "mail_user": USER, "mail_password": Path("x")}, "mail_security"),
        ({"mail_ca_file": Path("/nowhere/ca.pem")}, "mail_ca_file"),
    ],
)
def test_settings_under_which_mail_would_be_unsafe_or_go_nowhere_are_refused(
    tmp_path: Path, values: dict[str, object], name: str
) -> None:
    if name != "mail_from and mail_to":
        values = {"mail_from": SENDER, "mail_to": (OFFICE,), **values}
    with pytest.raises(SettingsError) as caught:
        relay_of(told(tmp_path, values))
    assert name in str(caught.value)


def test_mail_is_encrypted_unless_the_settings_say_that_the_server_is_here(tmp_path: Path) -> None:
    relay = relay_of(told(tmp_path, {"mail_from": SENDER, "mail_to": f"{OFFICE}, {HEAD}"}))
    assert relay is not None
    assert (relay.security, relay.port, relay.recipients) == ("starttls", 587, (OFFICE, HEAD))
    assert relay.context is not None
    assert relay.context.verify_mode is ssl.CERT_REQUIRED
    assert relay.context.check_hostname
    assert relay_of(told(tmp_path, {}).model_copy(update={"mail_host": None})) is None


def test_the_password_may_come_as_a_passphrase_does_and_no_child_inherits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = told(tmp_path, {"mail_from": SENDER, "mail_to": OFFICE, "mail_user": USER})
    monkeypatch.setenv("UMUHUZA_MAIL_PASSWORD", "secret-inventé")
    relay = relay_of(settings)
    assert relay is not None
    assert [relay.password(), relay.password()] == ["secret-inventé"] * 2
    assert "UMUHUZA_MAIL_PASSWORD" not in os.environ
    assert "inventé" not in repr(relay)
    (tmp_path / "umuhuza-mail-password").write_text("de-systemd\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    relay = relay_of(settings)
    assert relay is not None
    assert relay.password() == "de-systemd"
    file = tmp_path / "mot-de-passe.txt"
    file.touch(mode=0o600)
    file.write_text("du-fichier\n", encoding="utf-8")
    relay = relay_of(settings.model_copy(update={"mail_password": file}))
    assert relay is not None
    assert relay.password() == "du-fichier", "what the settings name comes first"


# -- when --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 6 * SLOT), max_size=6), st.lists(st.floats(0, 6 * SLOT), max_size=3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_when_letters_may_go_does_not_hang_on_what_happens(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[float], alarmed: list[float], seed: int
) -> None:
    """Who sees when letters go sees moments that were drawn before; and never two within half of that time."""

    def moments(arrivals: Sequence[float], alarmed: Sequence[float]) -> tuple[list[float], list[float]]:
        box = Mailbox.open(tmp_path_factory.mktemp("box") / "mailbox.db")
        book = book_of(box, seed)
        passed, letters, last, n = [], [], None, 0
        for step in range(0, int(7 * SLOT), 30):
            now = START + step
            while n < len([one for one in arrivals if one <= step]):
                n += 1
                arrives(box, n)
            standing = [replace(LATE, evt=f"e{i}") for i, one in enumerate(alarmed) if one <= step]
            if book.turn(now, standing, [OFFICE]):
                letters.append(now)
            for one in book.due(now, [OFFICE]):
                book.sent(one, int(now))
            at = box.query("SELECT next_at FROM mail")[0][0]
            if at != last:
                passed.append(now)
                last = at
        box.close()
        return passed, letters

    quiet, none = moments((), ())
    busy, letters = moments(sorted(arrivals), sorted(alarmed))
    assert none == []
    assert busy == quiet
    assert set(letters) <= set(quiet)
    assert all(later - earlier >= SLOT / 2 - 30 for earlier, later in zip(letters, letters[1:], strict=False))


def test_what_lay_there_before_notices_were_asked_for_is_not_told_and_what_comes_is_told_once(box: Mailbox) -> None:
    arrives(box, 1)
    book = book_of(box)
    now = at_its_time(book, START)
    assert waiting(book, now) == []
    arrives(box, 2)
    arrives(box, 3)
    now = at_its_time(book, now)
    assert waiting(book, now) == ["arrived"]
    [one] = book.due(now, [OFFICE])
    book.sent(one, int(now))
    now = at_its_time(book, now)
    assert waiting(book, now) == []


@pytest.mark.parametrize("type", ["receipt.delivered", "chain.voided", "attachment.chunk", "service.published"])
def test_nobody_is_called_to_the_computer_for_what_machines_tell_each_other(box: Mailbox, type: str) -> None:
    book = book_of(box)
    now = at_its_time(book, START)
    arrives(box, 1, type)
    now = at_its_time(book, now)
    assert waiting(book, now) == []


def test_what_is_overdue_goes_before_what_arrived_and_is_told_again_after_a_day_while_it_stands(box: Mailbox) -> None:
    book = book_of(box)
    now = at_its_time(book, START)
    arrives(box, 1)
    now = at_its_time(book, now, [HALF, LATE])
    assert waiting(book, now) == ["overdue"]
    [one] = book.due(now, [OFFICE])
    book.sent(one, int(now))
    now = at_its_time(book, now, [LATE])
    assert waiting(book, now) == []
    now = at_its_time(book, now + AGAIN_AFTER_S, [LATE])
    now = at_its_time(book, now, [LATE])
    assert waiting(book, now) == ["overdue"]
    [one] = book.due(now, [OFFICE])
    book.sent(one, int(now))
    now = at_its_time(book, now)  # it was answered
    now = at_its_time(book, now, [LATE])
    assert waiting(book, now) == ["overdue"]


def test_letters_that_no_server_takes_do_not_add_up_and_become_urgent(box: Mailbox) -> None:
    book = book_of(box)
    now = at_its_time(book, START)
    for n in range(1, 5):
        arrives(box, n)
        now = at_its_time(book, now)
    assert waiting(book, now) == ["arrived"]
    now = at_its_time(book, now, [SILENT])
    assert waiting(book, now) == ["overdue"]
    assert book.state().waiting == 1


def test_who_is_taken_out_of_the_settings_gets_no_letter_any_more(box: Mailbox) -> None:
    book = book_of(box)
    now = at_its_time(book, START)
    now = at_its_time(book, now, [SILENT])
    assert book.due(now, [HEAD]) == []
    assert book.state().waiting == 0


def test_a_clock_that_was_years_ahead_silences_nobody(box: Mailbox) -> None:
    book = book_of(box)
    book.turn(START + 5e8, [], [OFFICE])
    now = at_its_time(book, START)
    now = at_its_time(book, now, [SILENT])
    assert waiting(book, now) == ["overdue"]
    [one] = book.due(now, [OFFICE])
    book.attempt(one, now + 5e8)
    assert waiting(book, now) == ["overdue"]


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_a_letter_reaches_the_server_and_nobody_learns_which_machine_sent_it(
    tmp_path: Path, security: Security
) -> None:
    with MailServer.running(tmp_path, security) as server:
        asyncio.run(send(server.relay(OFFICE), OFFICE, letter("test", SENDER, OFFICE, "ab" * 16, int(START))))
        [message] = server.messages
    assert (message["To"], message["From"], server.recipients) == (OFFICE, SENDER, [OFFICE])
    assert message["Message-ID"] == f"<{'ab' * 16}@foyer.invalid>"
    assert set(server.greeted) == {"[127.0.0.1]"}
    assert socket.gethostname().encode() not in server.taken[0]


def test_a_server_without_encryption_is_told_neither_address_nor_password(tmp_path: Path) -> None:
    with MailServer.running(tmp_path, "starttls", offers_tls=False) as server:
        assert refused(server.relay(OFFICE)) == ("mail_insecure", "mail_security")
        assert server.named_a_sender == 0


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_whose_certificate_is_not_vouched_for_gets_nothing(tmp_path: Path, security: Security) -> None:
    with MailServer.running(tmp_path, security) as server:
        relay = replace(server.relay(OFFICE), context=ssl.create_default_context())
        assert refused(relay)[0] == "mail_insecure"
        assert (server.named_a_sender, server.taken) == (0, [])


def refused(relay: Relay, recipient: str = OFFICE) -> tuple[str, str | None]:
    with pytest.raises(MailError) as caught:
        asyncio.run(send(relay, recipient, letter("test", SENDER, recipient, "0" * 32, int(START))))
    assert PASSWORD not in caught.value.describe()
    assert OFFICE not in caught.value.describe()
    return caught.value.code, caught.value.path


def test_what_the_server_objects_to_is_said_by_code_and_setting(tmp_path: Path) -> None:
    with MailServer.running(tmp_path, "starttls") as server:
        assert refused(server.relay(OFFICE, password="faux")) == ("mail_login_refused", "mail_user")
        server.answers = {OFFICE: f"550 {PLANTED} unknown", HEAD: "451 later"}
        assert refused(server.relay(OFFICE)) == ("mail_refused", "mail_to")
        assert refused(server.relay(HEAD), HEAD)[0] == "mail_unreachable"
    assert refused(server.relay(OFFICE))[0] == "mail_unreachable"  # nobody listens there any more


# -- the whole way -----------------------------------------------------------------------------------------------------


def notices_of(
    box: Mailbox, server: MailServer, now: float, standing: Sequence[Alarm], *recipients: str
) -> MailNotices:
    return MailNotices(book_of(box), server.relay(*recipients), lambda: standing, lambda: now)


def test_one_recipient_that_is_refused_keeps_no_other_from_her_letter_and_is_tried_again(
    box: Mailbox, tmp_path: Path
) -> None:
    now = at_its_time(book_of(box), START)
    box.change("UPDATE mail SET next_at = ?", now)
    with MailServer.running(tmp_path, "none") as server:
        server.answers = {OFFICE: "550 no"}
        with pytest.raises(MailError):
            asyncio.run(notices_of(box, server, now, [SILENT], OFFICE, HEAD).turn())
        assert server.recipients == [HEAD]
        assert (book_of(box).state().waiting, book_of(box).state().code) == (1, "")
        server.answers = {}
        assert asyncio.run(notices_of(box, server, now + 1, [SILENT], OFFICE, HEAD).turn()) == 0  # not yet
        assert asyncio.run(notices_of(box, server, now + 100, [SILENT], OFFICE, HEAD).turn()) == 1
        assert server.recipients == [HEAD, OFFICE]
    assert book_of(box).state().waiting == 0


@pytest.mark.parametrize("step", ["made", "attempted", "taken", "sent"])
def test_an_adapter_that_is_killed_neither_floods_nor_silences(tmp_path: Path, step: str) -> None:
    """SIGKILL at every point; then it starts again."""
    file = tmp_path / "mailbox.db"
    with MailServer.running(tmp_path, "none") as server:
        box = Mailbox.open(file)
        box.change("INSERT INTO mail VALUES(1, ?, -1, NULL, '')", START)
        box.close()
        for again in range(2):  # killed, and at once killed again
            child = CONTEXT.Process(target=notify, args=(file, server.port, START + again, [OFFICE], step))
            child.start()
            child.join(30)
            assert again or child.exitcode == -signal.SIGKILL
        assert len(server.taken) <= 1
        box = Mailbox.open(file)
        asyncio.run(notices_of(box, server, START + LONGEST_RETRY_S, [SILENT], OFFICE).turn())
        box.close()
    assert 1 <= len(server.taken) <= 2
    assert len({message["Message-ID"] for message in server.messages}) == 1


def test_no_word_about_anybody_is_in_all_that_was_mailed(tmp_path: Path) -> None:
    """A referral arrives and is not answered; the shelter's machine falls silent."""
    with Agencies(tmp_path) as town, MailServer.running(tmp_path, "starttls") as server:
        iom = town[IOM]

        def turn(agency: str) -> None:
            one = town[agency]
            one.box.change("UPDATE mail SET next_at = ?", town.now)
            book = MailBook(one.box, SLOT, drawn().randbytes)
            asyncio.run(MailNotices(book, server.relay(OFFICE), one.runner.deadlines.alarms, lambda: town.now).turn())

        turn(IOM)
        turn(SHELTER)
        evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
        town.settle()
        turn(SHELTER)
        assert len(server.taken) == 1
        town.wait(80 * 3600)
        turn(IOM)
        thread = iom.outgoing(evt).thread
        assert len(server.taken) == 2
        everything = b"".join(server.taken) + "".join(map(text_of, server.taken)).encode()
    for word in (PLANTED, "Aline", thread, evt, "k7t4", "iom", "SocialCare", "referral", "1999"):
        assert word.encode() not in everything
    assert len({len(one) for one in server.taken}) == 1
    assert {one["Subject"] for one in server.messages} == {"Umuhuza"}
