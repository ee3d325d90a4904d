# SPDX-License-Identifier: Apache-2.0
"""An agency keeps what the ledger says of its records: better with every witness, never what is not proved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.receipt_book import PER_ROUND, ReceiptBook, ReceiptRounds
from schemas.errors import LogError
from schemas.keys import unb64url
from schemas.notes import Checkpoint, NoteSigner, read_note, sign_checkpoint
from schemas.trust_policy import TrustPolicy, read_policy
from tests.agencies import Agencies, referral
from tests.domain import NOW
from tests.trees import log_signers, witness_signers
from topics.ledger_entries import LedgerEntry
from topics.promise import Line
from topics.proofs import leaf_hash, levels, node_in, root
from topics.receipts import make_receipt

ORIGIN = "bi.umuhuza/log"
SIGNERS = log_signers("bi")


def policy() -> TrustPolicy:
    lines = [f"log {signer.public.vkey}\n" for signer in SIGNERS]
    for name in ("bi", "tn"):
        [ed, _] = witness_signers(name)
        lines.append(f"witness {name} {ed.public.vkey}\n")
    return read_policy("".join([*lines, "group both all bi tn\nquorum both\n"]).encode())


class Ledger:
    """A ledger of the records that it is shown, as a gateway tells of it; `by`: who has cosigned."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.by: list[NoteSigner] = []
        self.asked: list[int] = []
        self.signers = SIGNERS

    def log(self, line: Line, l1_sha256: str | None = None) -> None:
        l1 = unb64url(l1_sha256 or line.l1_sha256)
        self.entries.append(LedgerEntry("event", line.topic, line.offset, None, bytes(32), l1))

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        self.asked.append(len(l1_sha256))
        leaves = [leaf_hash(entry.encode()) for entry in self.entries]
        head = Checkpoint(ORIGIN, len(leaves), root(leaves))
        note = read_note(sign_checkpoint(head, self.signers, NOW))
        note = note.with_signatures(one.sign(head.text, NOW) for one in self.by)
        return [
            make_receipt(n, self.entries[n].encode(), node_in(levels(leaves)), note.dumps(), len(leaves))
            if n < len(leaves)
            else None
            for n in range(len(l1_sha256))
        ]


def ask(book: ReceiptBook, ledger: Ledger) -> int:
    return asyncio.run(book.ask(ledger, policy(), ORIGIN))


def test_a_receipt_grows_with_its_witnesses_and_is_then_left_alone(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        for _ in range(3):
            iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger = ReceiptBook(iom.box), Ledger()
        lines = book.due()
        assert len(lines) >= 3
        assert ask(book, ledger) == 0
        for line in lines:
            ledger.log(line)
        [own], [foreign] = witness_signers("bi")[:1], witness_signers("tn")[:1]
        for by, level, final in (([], "logged", False), ([own], "own", False), ([own, foreign], "foreign", True)):
            ledger.by = by
            assert ask(book, ledger) == len(lines)
            kept = book.of(lines[0].evt)
            assert kept is not None
            assert (kept.level, kept.final, kept.index, kept.kind) == (level, final, 0, "event")
        asked = len(ledger.asked)
        assert book.due() == []
        assert ask(book, ledger) == 0
        assert len(ledger.asked) == asked, "nothing is due, nobody is asked"
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        assert len(book.due()) >= 1
        assert not {line.evt for line in book.due()} & {line.evt for line in lines}


def test_while_a_witness_is_silent_the_same_receipts_are_asked_for_ever_less_often(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger, clock = ReceiptBook(iom.box), Ledger(), [0.0]
        rounds = ReceiptRounds(book, lambda: clock[0], every_s=60)

        def asked_within(minutes: int) -> int:
            before = len(ledger.asked)
            for _ in range(minutes):
                asyncio.run(rounds.turn(ledger, policy(), ORIGIN))
                clock[0] += 60
            return len(ledger.asked) - before

        assert asked_within(3) == 3, "what has no receipt is asked for each time"
        for line in book.due():
            ledger.log(line)
        ledger.by = witness_signers("bi")[:1]
        assert asked_within(120) <= 8
        assert asked_within(240) <= 4, "in the end once an hour"
        ledger.by += witness_signers("tn")[:1]
        asked_within(61)
        assert book.unfinished() == 0
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        assert asked_within(1) == 1, "what is new does not wait for that"


def test_what_a_ledger_never_logs_does_not_stand_before_what_it_does(tmp_path: Path) -> None:
    """More records than one question asks for were promised and dropped; the receipt of a later one comes all the
    same."""
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        for _ in range(PER_ROUND + 2):
            iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger = ReceiptBook(iom.box), Ledger()
        lines = book.due(1000)
        ledger.log(lines[-1])
        ledger.by = [*witness_signers("bi")[:1], *witness_signers("tn")[:1]]

        class Dropping:
            async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
                [only] = await ledger.receipts([lines[-1].l1_sha256])
                return [only if one == lines[-1].l1_sha256 else None for one in l1_sha256]

        rounds = ReceiptRounds(book, lambda: 0.0, every_s=60)
        for _ in range(len(lines) // PER_ROUND + 1):
            asyncio.run(rounds.turn(Dropping(), policy(), ORIGIN))
        assert book.of(lines[-1].evt) is not None
        ledger.entries.clear()
        for line in lines[:1]:
            ledger.log(line)
        lines[-1] = lines[0]
        for _ in range(len(book.due(1000)) // PER_ROUND + 1):
            asyncio.run(rounds.turn(Dropping(), policy(), ORIGIN))
        assert book.of(lines[0].evt) is not None, "and then from the beginning"


def test_a_worse_receipt_does_not_replace_a_better_one(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger = ReceiptBook(iom.box), Ledger()
        for line in book.due():
            ledger.log(line)
        [line, *_] = book.due()
        ledger.by = witness_signers("bi")[:1]
        ask(book, ledger)
        ledger.by = []
        ask(book, ledger)
        kept = book.of(line.evt)
        assert kept is not None
        assert kept.level == "own"


def test_another_record_at_the_promised_place_is_kept_as_the_proof_of_a_lie(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger = ReceiptBook(iom.box), Ledger()
        [line, *others] = book.due()
        ledger.log(line, "A" * 43)
        for other in others:
            ledger.log(other)
        with pytest.raises(LogError) as caught:
            ask(book, ledger)
        assert caught.value.code == "record_rewritten"
        kept = book.of(line.evt)
        assert kept is not None
        assert (kept.level, kept.final) == ("contradicted", False)
        assert all(book.of(other.evt) is not None for other in others)
        # It stays, whatever the ledger shows afterwards.
        honest = Ledger()
        for one in [line, *others]:
            honest.log(one)
        with pytest.raises(LogError):
            ask(book, honest)
        assert book.of(line.evt) == kept


def test_what_is_not_proved_is_not_kept(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        iom = town["bi/iom"]
        iom.draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        book, ledger = ReceiptBook(iom.box), Ledger()
        lines = book.due()
        for line in lines:
            ledger.log(line)
        ledger.signers = [NoteSigner(ORIGIN, signer.kind, bytes([9] * 32)) for signer in SIGNERS]
        with pytest.raises(LogError) as caught:
            ask(book, ledger)
        assert caught.value.code == "signature_invalid"
        assert all(book.of(line.evt) is None for line in lines)
