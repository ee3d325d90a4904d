# SPDX-License-Identifier: Apache-2.0
"""What an agency keeps of what became abroad of its records: a promise that it could check, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.crossed_book import CrossedBook
from adapters.mailbox import Mailbox
from schemas.errors import UmuhuzaError
from schemas.keys import SigningKey, b64url
from schemas.registry import Registry
from tests.borders import Countries
from tests.domain import NOW
from topics.borders import border, bordered
from topics.http_log import Crossed
from topics.promise import Line, evidence, make_promise

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
    book.keep(LINE, Crossed("bi", promised(LINE)), registry())
    kept = book.of(LINE.evt)
    assert kept is not None
    assert (kept.state, kept.domain, kept.offset, kept.at) == ("taken-in", "bi", 7, NOW)
    assert kept.promise is not None


def test_a_refusal_is_kept_as_the_bridge_has_told_it(book: CrossedBook) -> None:
    book.keep(LINE, Crossed("bi", None, "not_permitted", "event.x"), registry())
    kept = book.of(LINE.evt)
    assert kept is not None
    assert (kept.state, kept.code, kept.path, kept.promise) == ("refused", "not_permitted", "event.x", None)


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
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_promise_of_that_domain_for_that_record_is_not_kept(book: CrossedBook, lie: str) -> None:
    told, code = LIES[lie]
    with pytest.raises(UmuhuzaError) as caught:
        book.keep(LINE, told, registry())
    assert caught.value.code == code
    assert book.of(LINE.evt) is None
