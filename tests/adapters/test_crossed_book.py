# SPDX-License-Identifier: Apache-2.0
"""What an agency keeps of what became abroad of its records: a promise or a refusal that it could check, no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.crossed_book import PER_ROUND, CrossedBook
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Outgoing
from schemas.errors import PolicyError, UmuhuzaError
from schemas.keys import SigningKey, b64url
from schemas.registry import Registry
from tests.borders import Countries
from tests.domain import NOW
from topics.borders import border, bordered
from topics.http_log import Crossed
from topics.promise import Line, evidence, make_promise, read_evidence
from topics.refusal import make_refusal

LINE = Line("0198c0de-0000-7000-8000-000000000001", b64url(bytes(32)), "bi.bilateral.ccsprtp", 4)
COUNTRIES = Countries()


def registry() -> Registry:
    """Tunisia's, with its border to Burundi."""
    ours = COUNTRIES.published(COUNTRIES.tn)
    return bordered(ours.registry, [border(ours, COUNTRIES.published(COUNTRIES.bi))])


def promised(line: Line, key: SigningKey | None = None, domain: str = "bi", at: int = NOW) -> bytes:
    """By Burundi's gateway unless said otherwise, at the place where it stands there."""
    there = replace(line, offset=7)
    made = make_promise([there], key or COUNTRIES.bi.operator.sig, iss=f"{domain}/operator", at=at, domain=domain)
    return evidence(there, 0, made.paths[0], made.jws)


@pytest.fixture
def book(tmp_path: Path) -> CrossedBook:
    return CrossedBook(Mailbox.open(tmp_path / "box.db"))


def test_a_promise_of_the_other_domain_is_kept_with_its_place_there(book: CrossedBook) -> None:
    book.keep(LINE, Crossed("bi", promised(LINE)), registry(), NOW)
    kept = book.of(LINE.evt)
    assert kept is not None
    assert (kept.state, kept.domain, kept.offset, kept.at) == ("taken-in", "bi", 7, NOW)
    assert kept.promise is not None


def refused(line: Line = LINE, key: SigningKey | None = None, domain: str = "bi", at: int = NOW) -> str:
    return make_refusal(
        PolicyError("not_permitted", "event.x"),
        line.l1_sha256,
        key or COUNTRIES.bi.operator.sig,
        iss=f"{domain}/operator",
        at=at,
        domain=domain,
    )


def test_a_signed_refusal_is_kept_with_what_it_says_whatever_the_bridge_says_of_it(book: CrossedBook) -> None:
    assert book.keep(LINE, Crossed("bi", None, "record_unlogged", "home", refused()), registry(), NOW)
    kept = book.of(LINE.evt)
    assert kept is not None
    assert (kept.state, kept.code, kept.path, kept.at) == ("refused", "not_permitted", "event.x", NOW)


def test_a_refusal_without_a_signature_is_shown_as_the_bridges_word(book: CrossedBook) -> None:
    told = Crossed("bi", None, "not_permitted", "event.x")
    assert book.keep(LINE, told, registry(), NOW)
    assert not book.keep(LINE, told, registry(), NOW), "no news"
    kept = book.of(LINE.evt)
    assert kept is not None
    assert (kept.state, kept.code, kept.path, kept.at, kept.final) == (
        "unsigned",
        "not_permitted",
        "event.x",
        None,
        False,
    )


def not_taken(refusal: str) -> Crossed:
    return Crossed("bi", None, "not_permitted", "event.x", refusal)


LIES = {
    "another record's": (Crossed("bi", promised(replace(LINE, l1_sha256=b64url(b"x" * 32)))), "root_mismatch"),
    "another mailbox's": (Crossed("bi", promised(replace(LINE, topic="bi.bilateral.iom"))), "root_mismatch"),
    "of a domain to which it does not go": (Crossed("ke", promised(LINE)), "root_mismatch"),
    "signed by our own gateway": (Crossed("bi", promised(LINE, COUNTRIES.tn.operator.sig)), "key_unknown"),
    "signed by one of its agencies": (
        Crossed("bi", promised(LINE, COUNTRIES.bi.members["bi/ccsprtp"].sig)),
        "key_unknown",
    ),
    "for another ledger": (Crossed("bi", promised(LINE, domain="tn")), "root_mismatch"),
    "from before its key counted": (Crossed("bi", promised(LINE, at=NOW - 3 * 31_536_000)), "key_revoked"),
    "no promise": (Crossed("bi", b"{}"), "record_malformed"),
    "a refusal of another record": (not_taken(refused(replace(LINE, l1_sha256=b64url(b"x" * 32)))), "root_mismatch"),
    "a refusal of a domain to which it does not go": (
        Crossed("ke", None, "not_permitted", None, refused()),
        "root_mismatch",
    ),
    "a refusal signed by our own gateway": (not_taken(refused(key=COUNTRIES.tn.operator.sig)), "key_unknown"),
    "a refusal signed by one of its agencies": (
        not_taken(refused(key=COUNTRIES.bi.members["bi/ccsprtp"].sig)),
        "key_unknown",
    ),
    "a refusal for another ledger": (not_taken(refused(domain="tn")), "root_mismatch"),
    "a refusal from before its key counted": (not_taken(refused(at=NOW - 3 * 31_536_000)), "key_revoked"),
    "a refusal with another's signature": (
        not_taken(refused().rpartition(".")[0] + "." + refused(at=NOW + 1).rpartition(".")[2]),
        "signature_invalid",
    ),
    "a promise instead of a refusal": (
        not_taken(read_evidence(promised(LINE)).promise),
        "header_forbidden",
    ),
    "no refusal": (not_taken("x.y.z"), "record_malformed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_promise_of_that_domain_for_that_record_is_not_kept(book: CrossedBook, lie: str) -> None:
    told, code = LIES[lie]
    with pytest.raises(UmuhuzaError) as caught:
        book.keep(LINE, told, registry(), NOW)
    assert caught.value.code == code
    assert book.of(LINE.evt) is None


class Bridge:
    """It says of everything that it was refused."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def crossed(self, l1_sha256: Sequence[str]) -> list[Crossed | None]:
        self.asked += l1_sha256
        return [Crossed("bi", None, "not_permitted")] * len(l1_sha256)


def test_what_is_not_final_is_asked_for_in_turns_and_behind_what_nothing_is_known_of(tmp_path: Path) -> None:
    box = Mailbox.open(tmp_path / "box.db")
    for number in range(1, PER_ROUND + 2):
        evt, l1 = f"0199f0e0-0000-7000-8000-{number:012}", f"e30.{b64url(str(number).encode())}.AA".encode()
        with box.transaction():
            box.enqueue(
                Outgoing(
                    evt=evt,
                    source="s",
                    line=str(number),
                    connector="",
                    peer="bi/ccsprtp",
                    topic="bi.bilateral.ccsprtp",
                    type="transfer.requested",
                    kind="request",
                    thread=f"fil-{number}",
                    ref=None,
                    answer_by=None,
                    parts="[]",
                    body=b"",
                    grants=(),
                )
            )
            box.mark_signed(evt, number, l1, "chain", ())
            box.mark_promised(evt, number, None, NOW)
    book, bridge = CrossedBook(box), Bridge()
    assert asyncio.run(book.ask(bridge, "tn", registry(), NOW)) == PER_ROUND
    assert asyncio.run(book.ask(bridge, "tn", registry(), NOW)) == 1, "the others said nothing new"
    assert len(set(bridge.asked)) == PER_ROUND + 1
    box.close()
