# SPDX-License-Identifier: Apache-2.0
"""Notices by e-mail as an agency's administrator meets them: settings, a test notice, and a gateway that is down."""

from __future__ import annotations

import asyncio
import json
import time
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from adapters.contact_book import ContactBook
from adapters.mailbox import Mailbox
from schemas.errors import MailError, UmuhuzaError
from tests.domain import Domain
from tests.mail_server import OFFICE, PASSWORD, SENDER, USER, MailServer
from topics.settings import SettingsError
from umuhuza import agency_notices_command, agency_status_command
from umuhuza.agency import opened_agency, run_agency
from umuhuza.agency_command import init_agency

NOTICES, STATUS = Typer(), Typer()
agency_notices_command.add_to(NOTICES)
agency_status_command.add_to(STATUS)


def agency(folder: Path, server: MailServer, **more: object) -> Path:
    """An agency whose gateway nobody answers for, and whose notices go to that server."""
    init_agency(
        folder,
        agency="bi/k7t4",
        gateway="http://127.0.0.1:9",
        registry_root=Domain("notices").pin.text,
        gateway_agency="bi/operator",
        names={"fr": "Foyer (inventé)"},
        roles=("assistance",),
        protected=True,
        kobo_to=None,
        quick=True,
    )
    (folder / "courriel.txt").write_text(PASSWORD + "\n", encoding="utf-8")
    (folder / "courriel.txt").chmod(0o600)
    values = {
        "mail_host": "localhost",
        "mail_port": server.port,
        "mail_from": SENDER,
        "mail_to": [OFFICE],
        "mail_user": USER,
        "mail_password": "courriel.txt",
        "mail_ca_file": str(server.authority),
        **more,
    }
    with (folder / "agency.toml").open("a", encoding="utf-8") as settings:
        settings.writelines(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    return folder


def test_a_test_notice_reaches_each_recipient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    with MailServer.running(tmp_path, "starttls") as server:
        folder = agency(tmp_path / "k7t4", server)
        ran = CliRunner().invoke(NOTICES, ["notices", "test", "--dir", str(folder), "--json"])
        assert (ran.exit_code, json.loads(ran.stdout)) == (0, {"ok": True, "sent": 1})
        [message] = server.messages
    payload = message_from_bytes(server.taken[0], policy=policy.default).get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert "Ceci est un essai" in payload.decode()
    assert message["To"] == OFFICE


def test_a_password_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    with MailServer.running(tmp_path, "starttls") as server:
        folder = agency(tmp_path / "k7t4", server)
        (folder / "courriel.txt").chmod(0o644)
        ran = CliRunner().invoke(NOTICES, ["notices", "test", "--dir", str(folder)])
        assert isinstance(ran.exception, MailError)
        assert (ran.exception.code, ran.exception.path) == ("mail_login_refused", "mail_password")
        assert server.named_a_sender == 0


def test_where_no_notices_are_asked_for_nothing_is_sent(tmp_path: Path) -> None:
    with MailServer.running(tmp_path, "none") as server:
        folder = agency(tmp_path / "k7t4", server)
        text = (folder / "agency.toml").read_text(encoding="utf-8")
        (folder / "agency.toml").write_text(text.replace('mail_host = "localhost"\n', ""), encoding="utf-8")
        ran = CliRunner().invoke(NOTICES, ["notices", "test", "--dir", str(folder)])
        assert isinstance(ran.exception, SettingsError)
        assert "mail_host" in str(ran.exception)
        shown = CliRunner().invoke(STATUS, ["--dir", str(folder), "--json"])
        assert json.loads(shown.stdout)["mail"] is None


def test_a_silent_gateway_is_said_by_mail_though_the_adapter_never_reached_it(tmp_path: Path) -> None:
    """The gateway has not answered for five hours; the adapter starts again and finds it silent still."""
    troubles: list[tuple[str, str]] = []

    async def until_mailed(folder: Path, server: MailServer) -> None:
        stop = asyncio.Event()

        def trouble(turn: str, exc: UmuhuzaError) -> None:
            troubles.append((turn, exc.code))

        with opened_agency(folder) as parts:
            book = ContactBook(parts.mailbox)
            book.reached(int(time.time()) - 5 * 3600)
            book.missed(int(time.time()), "unavailable")
            parts.mailbox.change("INSERT INTO mail VALUES(1, ?, -1, NULL, '')", time.time())
            running = asyncio.create_task(run_agency(parts, stop, trouble))
            for _ in range(400):
                if server.taken or running.done():
                    break
                await asyncio.sleep(0.05)
            stop.set()
            await running

    with MailServer.running(tmp_path, "starttls") as server:
        folder = agency(tmp_path / "k7t4", server)
        asyncio.run(until_mailed(folder, server))
        assert len(server.taken) == 1
        shown = CliRunner().invoke(STATUS, ["--dir", str(folder), "--json"])
        found = json.loads(shown.stdout)
        assert found["mail"]["code"] is None
        assert [one["kind"] for one in found["overdue"]] == ["cut-off"]
    assert ("registry", "unavailable") in troubles
    assert "mail" not in [turn for turn, _ in troubles]


def test_a_mail_server_that_is_down_is_shown_and_hinders_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    with MailServer.running(tmp_path, "starttls") as server:
        folder = agency(tmp_path / "k7t4", server, mail_port=9)
    box = Mailbox.open(folder / "mailbox.db")
    box.change("INSERT INTO mail VALUES(1, 0, -1, NULL, 'mail_unreachable')")
    box.change("INSERT INTO letter VALUES(?, 'overdue', 'n', 1, 3, 0, 'mail_unreachable')", OFFICE)
    box.close()
    shown = " ".join(CliRunner().invoke(STATUS, ["--dir", str(folder)]).output.split())
    assert "1 en attente (mail_unreachable)" in shown
    assert "Il repart de lui-même" in shown
