# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency outbox` says what is overdue, beside what it is about, in words that tell what to do."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from adapters.contact_book import ContactBook
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Outgoing, Thread
from schemas.errors import CODES
from tests.domain import Domain
from umuhuza import agency_status_command
from umuhuza.agency_command import app, init_agency

STATUS = Typer()
agency_status_command.add_to(STATUS)
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


def test_status_says_who_is_silent_and_which_number_to_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    folder = agency(tmp_path / "oim", 72 * 3600)
    box = Mailbox.open(folder / "mailbox.db")
    said = {
        "entry": "permanence",
        "function": "duty-officer",
        "name_fr": "Permanence (inventée)",
        "name_en": "Duty office (invented)",
        "telephone": "+257 79 00 00 00",
        "languages": [],
        "around_the_clock": True,
        "valid_until": "2099-01-01T00:00:00Z",
        "withdrawn": False,
    }
    box.change("INSERT INTO office VALUES('bi/k7t4/e', 'bi/k7t4', ?, 1)", json.dumps(said))
    contact = ContactBook(box)
    contact.reached(int(time.time()) - 5 * 3600)
    contact.missed(int(time.time()), "unavailable")
    box.close()
    ran = CliRunner().invoke(STATUS, ["--dir", str(folder), "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert (found["gateway"]["code"], found["gateway"]["running"]) == ("unavailable", True)
    [peer] = found["contacts"]
    assert (peer["agency"], peer["telephone"], peer["seen_at"]) == ("bi/k7t4", "+257 79 00 00 00", None)
    assert peer["silent_since"] is not None
    assert {one["kind"]: one["telephone"] for one in found["overdue"]} == {
        "telephone": "+257 79 00 00 00",
        "cut-off": None,
    }
    shown = " ".join(CliRunner().invoke(STATUS, ["--dir", str(folder)]).output.split())
    assert "La passerelle ne répond plus depuis le" in shown
    assert "bi/k7t4 (+257 79 00 00 00) : rien vu depuis" in shown
    inbox = CliRunner().invoke(app, ["inbox", "--dir", str(folder)])
    assert "rien ne part, rien n'arrive" in " ".join(inbox.output.split())


def test_status_says_when_the_adapter_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    folder = agency(tmp_path / "oim", 72 * 3600)
    assert "encore jamais tourné" in CliRunner().invoke(STATUS, ["--dir", str(folder)]).output
    box = Mailbox.open(folder / "mailbox.db")
    ContactBook(box).reached(int(time.time()) - 3600)
    box.close()
    shown = " ".join(CliRunner().invoke(STATUS, ["--dir", str(folder)]).output.split())
    assert "L'adaptateur ne tourne pas depuis le" in shown


ABROAD = {
    "refused": (
        ("jws", 1),
        "Refusé par l'autre domaine (tn), preuve gardée",
        "Refused by the other domain (tn), proof kept",
    ),
    "waiting": (("jws", 0), "ne le prend pas pour l'instant", "does not take it for now"),
    "unsigned": ((None, 0), "sans signature de l'autre domaine (tn)", "without the other domain's (tn) signature"),
}


@pytest.mark.parametrize("state", ABROAD)
def test_what_another_country_refused_is_said_with_the_reason_and_who_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    (refusal, final), *words = ABROAD[state]
    folder = agency(tmp_path / "oim", 72 * 3600)
    box = Mailbox.open(folder / "mailbox.db")
    box.change("UPDATE outgoing SET topic = 'tn.bilateral.inlctp', peer = 'tn/inlctp'")
    now = int(time.time())
    signed_at = None if refusal is None else now
    box.change(
        "INSERT INTO crossed(evt, domain, at, code, refusal, final, heard_at) VALUES(?, 'tn', ?, ?, ?, ?, ?)",
        *(EVT, signed_at, "not_permitted", refusal, final, now),
    )
    if final:
        box.refuse_abroad(EVT, "not_permitted", None, now)
    box.close()
    for language, said in zip(("fr", "en"), words, strict=True):
        monkeypatch.setenv("UMUHUZA_LANG", language)
        shown = " ".join(CliRunner().invoke(app, ["outbox", "--dir", str(folder)]).output.split())
        assert said in shown
        assert CODES["not_permitted"].advice("fr" if language == "fr" else "en") in shown
        found = json.loads(CliRunner().invoke(app, ["outbox", "--dir", str(folder), "--json"]).stdout)
        told = {one["kind"] for one in found["overdue"] if one["evt"] == EVT and one["kind"].endswith("-abroad")}
        assert told == {"refused": {"refused-abroad"}, "waiting": {"held-abroad"}, "unsigned": set()}[state]
        [item] = found["items"]
        assert (item["abroad"]["state"], item["abroad"]["signed"]) == (state, refusal is not None)
        assert item["state"] == ("refused" if final else "promised")
