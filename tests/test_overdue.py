# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency outbox` says what is overdue, beside what it is about, in words that tell what to do."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Outgoing, Thread
from tests.domain import Domain
from umuhuza.agency_command import app, init_agency

EVT = "0199f0e0-0000-7000-8000-00000000000b"


def agency(folder: Path, answered_within_s: int) -> Path:
    """An agency whose referral was logged five hours ago, with a deadline so many seconds after that."""
    asked = int(time.time()) - 5 * 3600
    init_agency(
        folder,
        agency="bi/iom",
        gateway="https://passerelle.invalid",
        registry_root=Domain("overdue").pin.text,
        gateway_agency="bi/operator",
        names={"fr": "OIM (inventée)"},
        roles=("assistance",),
        protected=False,
        kobo_to=None,
    )
    box = Mailbox.open(folder / "mailbox.db")
    by = asked + answered_within_s
    with box.transaction():
        box.enqueue(
            Outgoing(
                evt=EVT,
                source="s",
                line="1",
                connector="",
                peer="bi/k7t4",
                topic="bi.referral.k7t4",
                type="referral.requested",
                kind="request",
                thread="fil-1",
                ref=None,
                answer_by=by,
                parts="[]",
                body=b"",
                grants=(),
                created_at=asked,
            )
        )
        box.put_thread(Thread("fil-1", "bi/k7t4", None, "referral", "initiator", "p", "requested", EVT, by), asked)
        box.mark_signed(EVT, 1, b"l1", "chain", ())
        box.mark_promised(EVT, 0, None, asked)
    box.close()
    return folder


def test_the_outbox_shows_what_is_overdue_and_whom_to_telephone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    folder = agency(tmp_path / "oim", 2 * 3600)
    ran = CliRunner().invoke(app, ["outbox", "--dir", str(folder), "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)["overdue"]
    assert [(one["kind"], one["peer"], one["evt"]) for one in found] == [
        ("telephone", "bi/k7t4", None),
        ("overdue", "bi/k7t4", EVT),
    ]
    assert "Téléphonez" in found[0]["words"]
    shown = CliRunner().invoke(app, ["outbox", "--dir", str(folder)])
    assert "échéance est passée" in shown.output.replace("\n", " ")


def test_before_half_of_the_time_nothing_is_shown_but_a_silent_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    folder = agency(tmp_path / "oim", 72 * 3600)
    ran = CliRunner().invoke(app, ["outbox", "--dir", str(folder), "--json"])
    assert [one["kind"] for one in json.loads(ran.stdout)["overdue"]] == ["telephone"]
