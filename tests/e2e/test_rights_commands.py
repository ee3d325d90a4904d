# SPDX-License-Identifier: Apache-2.0
"""Taken back, erased, disclosed, reviewed, and asked for by the person herself: as people type it, over a gateway."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.erasure_proofs import ErasureProofs
from adapters.mailbox import Mailbox
from schemas.keys import unb64url
from schemas.notes import Checkpoint, sign_checkpoint
from schemas.proof_texts import TlogProof
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from tests.e2e.domain_on_disk import Member, on_one_log
from tests.e2e.office import PLANTED, Offices, moment
from tests.e2e.planted import every_file, traces
from tests.e2e.shell import Shell
from tests.topics.ledger_world import ORIGIN, SIGNERS
from topics.ledger_entries import LedgerEntry
from topics.proofs import leaf_hash

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator"), folder=False),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True, folder=False),
    Member("bi/court", ("judiciary",), folder=False),
)
HER = "DOSSIER-17"
NOWHERE = "bi/iom/019a4960-7c00-7000-8000-000000000001"


@pytest.fixture(scope="module")
def offices(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[Offices]:
    with Shell() as sh, Offices.open(tmp_path_factory.mktemp("droits"), sh, MEMBERS, log) as made:
        yield made


# -- taken back and erased --------------------------------------------------------------------------------------------


@on_one_log
def test_what_went_to_the_wrong_agency_is_taken_back_and_waits_for_review(offices: Offices) -> None:
    evt = offices.refer("iom", "k7t4", "DOSSIER-1")
    offices.until("it is delivered", lambda: delivered(offices, evt))
    shown = offices.words("iom", "retract", evt[-12:])
    assert "Retrait et effacement demandés. Téléphonez aussi au destinataire." in shown
    assert "Ce qui a été lu ne peut pas être désappris" in shown
    offices.until("it is gone there", lambda: offices.item("k7t4", f"bi/iom/{evt}", "erased"))
    [entry] = [one for one in offices.json("iom", "reviews")["reviews"] if one["record"] == f"bi/iom/{evt}"]
    assert (entry["kind"], entry["peer"], entry["closed_at"]) == ("incident", "bi/k7t4", None)
    assert "Envoyé par erreur" in offices.words("iom", "reviews")
    assert "Sent by mistake" in offices.words("iom", "reviews", language="en")
    number = str(entry["n"])
    assert "Réexaminé." in offices.words(
        "iom", "review", number, "--role", "data-protection", "--by", "Diane Ndayisenga"
    )
    done = offices.json("iom", "review", number, "--role", "judge", "--by", "Une autre", code=1)
    assert done == {"ok": False, "n": entry["n"]}
    assert "No open entry of that number" in offices.words(
        "iom", "review", number, "--role", "judge", "--by", "X", language="en", code=1
    )
    closed = [one for one in offices.json("iom", "reviews", "--all")["reviews"] if one["n"] == entry["n"]]
    assert [(one["role"], one["outcome"]) for one in closed] == [("data-protection", "upheld")]
    assert entry["n"] not in [one["n"] for one in offices.json("iom", "reviews")["reviews"]]
    offices.refused("iom", "transition_invalid", "record.retracted", "retract", evt)


def delivered(offices: Offices, evt: str) -> bool:
    items = offices.json("iom", "outbox")["items"]
    return any((one["evt"], one["state"]) == (evt, "delivered") for one in items)


def test_a_record_is_erased_on_both_sides_and_the_other_side_attests_it(offices: Offices) -> None:
    evt = offices.refer("iom", "k7t4", "DOSSIER-2")
    offices.until("it is delivered", lambda: delivered(offices, evt))
    done = offices.json("iom", "erase", f"bi/iom/{evt}")
    assert done["record"] == f"bi/iom/{evt}"
    offices.until("it is gone there", lambda: offices.item("k7t4", f"bi/iom/{evt}", "erased"))
    offices.until("it is attested", lambda: kinds(offices, "iom", "erasure.attested"))
    [one] = [one for one in offices.json("iom", "erasures")["erasures"] if one["evt"] == done["evt"]]
    assert (one["records"], one["state"], one["ledger"]) == ([f"bi/iom/{evt}"], "commanded", None)
    assert "le registre de preuve ne l'a pas encore dit exécuté" in offices.words("iom", "erasures")
    call_executed(offices, done["evt"])
    [one] = [one for one in offices.json("iom", "erasures")["erasures"] if one["evt"] == done["evt"]]
    assert (one["state"], one["ledger"]) == ("executed", {"index": 0, "seen": "logged"})
    assert "Exécuté, prouvé par l'entrée 0 du registre de preuve" in offices.words("iom", "erasures")
    assert "Executed, proven by entry 0 of the ledger (signed" in offices.words("iom", "erasures", language="en")
    assert "what a person must still do" in offices.words("k7t4", "erase", f"bi/iom/{evt}", language="en")


def call_executed(offices: Offices, evt: str) -> None:
    """The proof that a gateway with a ledger would have handed out."""
    box = Mailbox.open(offices.folder("iom") / "mailbox.db")
    proofs = ErasureProofs(box)
    [(topic, l1)] = [(topic, l1) for due, topic, l1 in proofs.due() if due == evt]
    entry = LedgerEntry("erased", topic, 0, l1_sha256=unb64url(l1)).encode()
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(entry)), SIGNERS, 1)
    policy = TrustPolicy(tuple(TrustedLog(one.public) for one in SIGNERS), (), (), NONE)
    proofs.keep(evt, topic, l1, TlogProof(0, (), note, entry).dumps(), policy, ORIGIN)
    box.close()


def kinds(offices: Offices, agency: str, type_: str) -> list[str]:
    return [one["ident"] for one in offices.json(agency, "inbox")["items"] if one["type"] == type_]


def test_a_scan_that_goes_with_a_referral_is_listed_written_down_and_erased_with_it(offices: Offices) -> None:
    scan = offices.file(b"%PDF-1.7\n" + bytes(300_000), ".pdf")
    evt = offices.refer("iom", "k7t4", "DOSSIER-3", files=(scan,))
    out = offices.files / "arrivees"

    def whole() -> dict[str, Any] | None:
        found = offices.json("k7t4", "attachments")["attachments"]
        return next((one for one in found if one["state"] in ("ready", "delivered")), None)

    listed = offices.until("it is whole", whole)
    assert (listed["count"], listed["there"]) == (1, listed["chunks"])
    out.mkdir()
    offices.json("k7t4", "attachments", "--out", out)
    [written] = out.iterdir()
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (scan.read_bytes(), 0o600)
    offices.json("iom", "erase", f"bi/iom/{evt}")
    offices.until("it is gone there", lambda: not offices.json("k7t4", "attachments")["attachments"])


@on_one_log
def test_what_cannot_be_taken_back_or_erased_is_said(offices: Offices) -> None:
    offices.mistyped("iom", "aucun envoi de ce nom", "no such item", "retract", PLANTED)
    offices.mistyped("iom", "connus : wrong-recipient", "known: wrong-recipient", "retract", "x", "--reason", PLANTED)
    offices.mistyped("iom", "connus : person", "known: person", "erase", NOWHERE, "--ground", PLANTED)
    offices.refused("iom", "thread_unknown", "ident", "erase", f"bi/{PLANTED}")
    offices.mistyped(
        "iom", "attendu un nombre entier", "valid integer", "review", PLANTED, "--role", "judge", "--by", "X"
    )
    offices.mistyped("iom", "connus : supervisor", "known: supervisor", "review", "1", "--role", PLANTED, "--by", "X")
    offices.mistyped(
        "iom", "connus : upheld", "known: upheld", "review", "1", "--role", "judge", "--by", "X", "--outcome", PLANTED
    )


# -- disclosed --------------------------------------------------------------------------------------------------------


def order(offices: Offices, record: str) -> str:
    """The court asks IOM for what was said, not for who she is; the thread of it."""
    facts = {
        "said": {
            "capacity": "court",
            "order": f"Ordonnance (inventée) sur {PLANTED}",
            "scope": ["content"],
            "expires_at": moment(30),
            "record": record,
        }
    }
    before = {one["thread"] for one in offices.json("iom", "disclosures")["asked"]}
    offices.send("court", "iom", "disclosure.requested", facts)

    def new() -> str | None:
        asked = offices.json("iom", "disclosures")["asked"]
        return next((str(one["thread"]) for one in asked if one["thread"] not in before), None)

    return offices.until("the order is there", new)


@on_one_log
def test_a_court_gets_the_part_of_its_order_until_somebody_says_no(offices: Offices) -> None:
    evt = offices.refer("k7t4", "iom", "CHAMBRE-3")
    record = f"bi/k7t4/{evt}"
    thread = order(offices, record)
    shown = offices.words("iom", "disclosures")
    assert "Parties : content" in shown
    assert "bi/court" in shown
    offices.refused("iom", "payload_invalid", "said.record", "disclose", thread, other(offices, record))
    offices.refused("iom", "thread_unknown", "thread", "disclose", PLANTED, record)
    offices.refused("iom", "thread_unknown", "record", "disclose", thread, NOWHERE)
    assert "Les parties demandées partent, et aucune autre." in offices.words("iom", "disclose", thread, record)
    offices.refused("iom", "thread_unknown", "thread", "disclose", thread, record)
    [given] = offices.until("the court has it", lambda: offices.json("court", "disclosures")["disclosures"])
    assert (given["record"], given["given"], given["ended"]) == (record, False, False)
    out = offices.files / "parties"
    [file] = offices.json("court", "disclosed", given["disclosure"], "--out", out)["files"]
    [path] = out.iterdir()
    assert (str(path), path.stat().st_mode & 0o777, path.name.endswith(".content.json")) == (file, 0o600, True)
    assert PLANTED not in path.read_text()
    offices.refused("court", "row_invalid", "out", "disclosed", given["disclosure"], "--out", out)
    offices.refused("court", "thread_unknown", "evt", "disclosed", f"bi/iom/{PLANTED}", "--out", out)
    [entry] = [one for one in offices.json("iom", "reviews")["reviews"] if one["kind"] == "disclosure"]
    words = ("--role", "supervisor", "--by", "Diane Ndayisenga", "--outcome", "not-upheld")
    offices.json("iom", "review", str(entry["n"]), *words)
    offices.until(
        "the court's keys are gone",
        lambda: [one for one in offices.json("court", "disclosures")["disclosures"] if one["ended"]],
    )
    assert "Ended" in offices.words("court", "disclosures", language="en")
    done = offices.json("court", "disclosed", given["disclosure"], "--out", out, code=1)
    assert done == {"ok": False, "disclosure": given["disclosure"], "ended": True}
    assert "terminée" in offices.words("court", "disclosed", given["disclosure"], "--out", out, code=1)


def other(offices: Offices, record: str) -> str:
    """Another record that IOM holds."""
    found = [one["ident"] for one in offices.json("iom", "inbox")["items"] if one["state"] == "delivered"]
    return str(next(ident for ident in found if ident != record))


@on_one_log
def test_an_order_is_refused_with_its_reason(offices: Offices) -> None:
    thread = order(offices, NOWHERE)
    offices.refused("iom", "payload_invalid", "reason", "refuse-disclosure", thread, "--reason", PLANTED)
    assert "Refus envoyé." in offices.words("iom", "refuse-disclosure", thread, "--reason", "no-order")
    offices.refused("iom", "transition_invalid", "disclosure.refused", "refuse-disclosure", thread, "--reason", "other")
    offices.refused("iom", "thread_unknown", "thread", "refuse-disclosure", PLANTED, "--reason", "other")
    offices.until("the court knows", lambda: kinds(offices, "court", "disclosure.refused"))
    assert thread not in [one["thread"] for one in offices.json("iom", "disclosures")["asked"]]


# -- asked for by the person herself ----------------------------------------------------------------------------------


def request(offices: Offices, **changes: object) -> str:
    members = {
        "name": f"Aline {PLANTED}",
        "verified_by": "document",
        "checked_by": "Diane Ndayisenga",
        "language": "fr",
        **changes,
    }
    return str(offices.file({name: value for name, value in members.items() if value is not None}))


def test_she_gets_a_sheet_with_what_is_held_about_her(offices: Offices) -> None:
    evt = offices.refer("iom", "k7t4", HER)
    file = request(offices)
    shown = offices.words("iom", "access", "request", "--person", HER, "--file", file)
    assert "✓ bi/k7t4" in shown
    again = offices.json("iom", "access", "request", "--person", HER, "--file", file)
    assert (again["asked"], again["asked_before"]) == ([], ["bi/k7t4"])
    [one] = offices.until("the shelter is asked", lambda: offices.json("k7t4", "access", "list")["to_answer"])
    assert (one["from"], one["record"], one["overdue"], one["person"]) == ("bi/iom", f"bi/iom/{evt}", False, None)
    assert one["due_at"] - one["at"] == 30 * 86_400
    listed = offices.words("k7t4", "access", "list")
    assert "Réponse attendue avant le" in listed
    assert PLANTED not in listed
    thread = one["thread"]
    # Whom it is about, and what she would be told: shown to who has to answer, and to nobody else.
    shown = offices.words("k7t4", "access", "show", thread[:8])
    assert f"Aline {PLANTED} ← bi/iom" in shown
    assert "Identité vérifiée par un document, Diane Ndayisenga" in shown
    assert "Gardé ici : 1 enregistrement(s)" in shown
    offices.refused("k7t4", "payload_invalid", "said.outcome", "access", "answer", thread, "--outcome", "nothing-held")
    done = offices.json("k7t4", "access", "answer", thread)
    assert (done["outcome"], done["records"], done["onward"]) == ("answered", [f"bi/iom/{evt}"], 0)
    offices.mistyped("k7t4", "aucune demande de ce nom", "no such request", "access", "answer", thread)
    [answer] = offices.until(
        "the answer is there",
        lambda: [each for each in offices.json("iom", "access", "list")["asked"] if each["state"] == "answered"],
    )
    assert (answer["outcome"], answer["records"], answer["person"]) == ("answered", [f"bi/iom/{evt}"], HER)
    sheets(offices)


def sheets(offices: Offices) -> None:
    page = offices.files / "feuille.html"
    assert "lisible par vous seul" in offices.words("iom", "access", "sheet", "--person", HER, "--out", page)
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o600
    for words in ("Ce que les agences gardent sur vous", f"Nom : Aline {PLANTED}", "Transmis à personne."):
        assert words in text
    assert "ictime" not in text
    offices.json("iom", "access", "sheet", "--person", HER, "--out", page, "--language", "en")
    assert "What agencies hold about you" in page.read_text(encoding="utf-8")
    table = offices.files / "feuille.csv"
    offices.json("iom", "access", "sheet", "--person", HER, "--out", table)
    [_, row] = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines(), delimiter=";"))[:2]
    assert row[4:6] == ["Cette agence détient des informations sur vous.", "1"]
    raw = offices.files / "feuille.json"
    offices.json("iom", "access", "sheet", "--person", HER, "--out", raw)
    assert [one["outcome"] for one in json.loads(raw.read_text())["answers"]] == ["answered"]
    for file in (page, table, raw):
        file.unlink()


@on_one_log
def test_she_asks_with_her_card_and_is_told_why_nothing_more_is_said(offices: Offices) -> None:
    offices.refer("iom", "k7t4", "DOSSIER-20")
    card = offices.files / "carte.html"
    code = offices.json("iom", "ticket", "--person", "DOSSIER-20", "--out", card)["code"]
    file = request(offices, verified_by=None, wants=["what-is-held", "erasure"])
    offices.mistyped(
        "iom",
        "cette agence n'a pas donné cette carte",
        "this agency did not give that card",
        *("access", "request", "--ticket", "ZZZZ-ZZZZ-ZZZZ", "--file", file),
    )
    assert offices.json("iom", "access", "request", "--ticket", code.lower(), "--file", file)["asked"] == ["bi/k7t4"]
    [one] = offices.until("the shelter is asked", lambda: offices.json("k7t4", "access", "list")["to_answer"])
    assert (one["verified_by"], one["wants"]) == ("ticket", ["what-is-held", "erasure"])
    answer = ("access", "answer", one["thread"])
    offices.mistyped("k7t4", "connus : nothing-held", "known: nothing-held", *answer, "--outcome", PLANTED)
    offices.mistyped(
        "k7t4",
        "--outcome restricted et --law vont ensemble",
        "--outcome restricted and --law go together",
        *(*answer, "--outcome", "restricted"),
    )
    offices.mistyped("k7t4", "rien sous cette référence", "nothing under this reference", *answer, "--person", PLANTED)
    law = "Texte fictif du 1er janvier 2026"
    shown = offices.words("k7t4", *answer, "--outcome", "restricted", "--law", law, language="en")
    assert "a text does not allow to say more" in shown
    [told] = offices.until(
        "the answer is there",
        lambda: [each for each in offices.json("iom", "access", "list")["asked"] if each["outcome"] == "restricted"],
    )
    assert (told["person"], told["legal_reference"], told["records"]) == ("DOSSIER-20", law, [])
    card.unlink()


@on_one_log
def test_what_cannot_be_asked_for_her_is_said(offices: Offices) -> None:
    ask = ("access", "request", "--person", HER, "--file")
    offices.refused("iom", "payload_invalid", "checked_by", *ask, request(offices, checked_by=None))
    offices.refused("iom", "payload_invalid", "verified_by", *ask, request(offices, verified_by=PLANTED))
    offices.refused("iom", "payload_invalid", "wants[0]", *ask, request(offices, wants=[PLANTED]))
    offices.refused("iom", "row_invalid", "*", *ask, request(offices, **{PLANTED: 1}))
    offices.refused("iom", "source_unreadable", "file", *ask, offices.file(b"{"))
    offices.mistyped("iom", "ce fichier n'existe pas", "there is no such file", *ask, "rien.json")
    both = ("access", "request", "--person", HER, "--ticket", "AAAA", "--file", request(offices))
    offices.mistyped("iom", "--person ou --ticket, l'un des deux", "--person or --ticket, one of them", *both)
    nobody = ("access", "request", "--person", PLANTED, "--file", request(offices))
    offices.mistyped("iom", "rien sous cette référence", "nothing under this reference", *nobody)
    # The court may be told nothing by a protected place, and a judge asks by an order.
    done = offices.json(
        "k7t4", "access", "request", "--person", "CHAMBRE-3", "--file", request(offices), "--to", "bi/court", code=1
    )
    assert done["refused"] == [{"to": "bi/court", "code": "not_permitted", "path": "firewall.law_enforcement"}]
    sheet = ("access", "sheet", "--person", HER, "--out")
    offices.mistyped("iom", "types connus : .html", "known types: .html", *sheet, offices.files / "feuille.pdf")
    offices.mistyped("iom", "aucune demande de ce nom", "no such request", "access", "show", PLANTED)


@on_one_log
def test_nothing_of_hers_stands_in_any_file_of_the_domain(offices: Offices) -> None:
    assert traces([PLANTED], every_file(offices.domain.root)) == []
