# SPDX-License-Identifier: Apache-2.0
"""A domain's ledgers in its registry: the target `ledgers.json`, and the ways in which it must not be believed."""

from __future__ import annotations

from typing import Any

from schemas.keys import b64url
from schemas.notes import NoteKey, NoteSigner, SignatureType, read_vkey
from tests.domain import NOW, seeded
from tests.vectors.making import DROP, PLANTED, Payload, Vector, changed
from tests.vectors.registry_agency_cases import INVALID, IOM, key_entry, registry_vector
from tests.vectors.repositories import Repository, compact


def vkey(origin: str, kind: SignatureType = SignatureType.ED25519, seed: str = "") -> str:
    return NoteSigner.generate(origin, kind, seeded(f"vectors/ledgers/{origin}{seed}")).public.vkey


FIRST, SECOND = "bi.umuhuza/log", "bi.umuhuza/log2"
BOTH = (vkey(FIRST), vkey(FIRST, SignatureType.ML_DSA_44))
LAST: Payload = {"size": 4711, "root": b64url(bytes(range(32)))}
ONE: Payload = {"origin": FIRST, "keys": list(BOTH), "since": NOW - 9}
LOST: Payload = ONE | {"last": LAST}
NEXT: Payload = {"origin": SECOND, "keys": [vkey(SECOND)], "since": NOW}


def _said(*ledgers: Any, agency: Payload = IOM) -> Repository:
    return Repository([agency], targets={"ledgers.json": compact({"ledgers": list(ledgers)})})


def _stolen(**changes: Any) -> Payload:
    key = key_entry("iom", "sig", **({"revoked": NOW, "compromised_since": 41} | changes))
    return IOM | {"keys": [key]}


def ledger_vectors() -> list[Vector]:
    return [*_valid(), *_invalid()]


def _valid() -> list[Vector]:
    members = {"bi/iom": ["screener", "assistance"]}
    table: tuple[tuple[str, str, Repository, list[str]], ...] = (
        ("ok-ledger", "the domain's ledger, with both its keys", _said(ONE), [FIRST]),
        (
            "ok-ledgers",
            "one that was lost, cosigned over 4711 entries, and the next",
            _said(LOST, NEXT),
            [FIRST, SECOND],
        ),
        ("ok-ledgers-unknown", "nobody knows how far the lost one was cosigned", _said(ONE, NEXT), [FIRST, SECOND]),
        (
            "ok-compromised-in",
            "a key that was stolen in the second ledger's time",
            _said(LOST, NEXT, agency=_stolen(compromised_in=SECOND)),
            [FIRST, SECOND],
        ),
    )
    found = [
        registry_vector(ident, why, made, "ok", None, "valid", members=members, ledgers=ledgers)
        for ident, why, made, ledgers in table
    ]
    alone = Repository([_stolen(compromised_in=SECOND)])
    why = "a ledger that the registry does not list, where it lists none: told by other ways"
    return [*found, registry_vector("ok-compromised-in-alone", why, alone, "ok", None, "valid", members=members)]


def _invalid() -> list[Vector]:
    found: list[Vector] = []

    def wrong(ident: str, why: str, path: str, made: Repository, says: Any = "") -> None:
        found.append(registry_vector(ident, why, made, INVALID, path, says=says))

    for ident, why, text in (
        ("array", "an object", compact([ONE])),
        ("empty", "who announces none leaves the target away", compact({"ledgers": []})),
        ("more", "no other members", compact({"ledgers": [ONE], PLANTED: 1})),
        ("object", "in order", compact({"ledgers": {"0": ONE}})),
        ("twice", "a member twice", '{"ledgers":[],"ledgers":[]}'),
        ("many", "32 at most", compact({"ledgers": [ONE] * 33})),
    ):
        wrong(f"ledgers-{ident}", why, "ledgers", Repository([IOM], targets={"ledgers.json": text}), text)
    other = vkey("tn.umuhuza/log")
    cosigner = vkey(FIRST, SignatureType.COSIGNATURE)
    for ident, why, path, changes in (
        ("origin-missing", "a name", "*", {"origin": DROP}),
        ("since-missing", "from when on", "*", {"since": DROP}),
        ("unknown", "no other members", "*", {PLANTED: 1}),
        ("origin-number", "text", "origin", {"origin": 5}),
        ("origin-other", "another country's", "origin", {"origin": "tn.umuhuza/log", "keys": [other]}),
        ("origin-one", "the first has no number", "origin", {"origin": "bi.umuhuza/log1"}),
        ("origin-zero", "no leading zero", "origin", {"origin": "bi.umuhuza/log02"}),
        ("origin-behind", "nothing behind it", "origin", {"origin": "bi.umuhuza/log2/x"}),
        ("keys-none", "unsigned by anybody", "keys", {"keys": []}),
        ("keys-many", "four at most", "keys", {"keys": [vkey(FIRST, seed=str(n)) for n in range(5)]}),
        ("keys-text", "a list", "keys", {"keys": BOTH[0]}),
        ("keys-twice", "one key counts once", "keys", {"keys": [BOTH[0], BOTH[0]]}),
        ("key-other-name", "a key under another ledger's name", "keys[0]", {"keys": [vkey(SECOND)]}),
        ("key-witness", "a witness's key makes no checkpoint", "keys[1]", {"keys": [BOTH[0], cosigner]}),
        ("key-id", "a key id follows from its key", "keys[0]", {"keys": [BOTH[0].replace("+", "+0", 1)]}),
        ("key-padding", "canonical base64", "keys[0]", {"keys": [BOTH[0] + "="]}),
        ("key-number", "text", "keys[0]", {"keys": [5]}),
        ("since-text", "seconds", "since", {"since": "2026"}),
        ("since-true", "true is not 1", "since", {"since": True}),
        ("since-zero", "a time", "since", {"since": 0}),
    ):
        path = f"ledgers[0].{path}"
        wrong(f"ledger-{ident}", why, path, _said(changed(ONE, changes), NEXT), changes if PLANTED in changes else "")
    for ident, why, path, last in (
        ("null", "absent or said", "last", None),
        ("more", "no other members", "last", LAST | {PLANTED: 1}),
        ("size-zero", "an empty tree says nothing", "last.size", LAST | {"size": 0}),
        ("size-text", "a size", "last.size", LAST | {"size": "4711"}),
        ("root-short", "32 bytes", "last.root", LAST | {"root": b64url(bytes(31))}),
        ("root-padded", "without padding", "last.root", LAST | {"root": LAST["root"] + "="}),
        ("root-number", "text", "last.root", LAST | {"root": 5}),
    ):
        wrong(f"ledger-last-{ident}", why, f"ledgers[0].{path}", _said(ONE | {"last": last}, NEXT))
    reused = NoteKey(SECOND, SignatureType.ED25519, read_vkey(BOTH[0]).public).vkey
    same = {"keys": [vkey(SECOND).partition("+")[0] + "+" + BOTH[0].partition("+")[2]]}
    for ident, why, path, second in (
        ("again", "each once", "origin", ONE),
        ("before", "in order", "origin", NEXT | {"origin": FIRST, "keys": [vkey(FIRST, seed="again")]}),
        ("since-before", "in order", "since", NEXT | {"since": NOW - 10}),
        ("last-of-the-newest", "the one that counts is not lost", "last", NEXT | {"last": LAST}),
        ("keys-of-the-lost", "whoever has the lost machine has them", "keys", NEXT | {"keys": [reused]}),
        ("key-of-another-id", "a key id is of a name and a key", "keys[0]", NEXT | same),
    ):
        wrong(f"ledger-second-{ident}", why, f"ledgers[1].{path}", _said(ONE, second))
    for ident, why, made in (
        ("first", "the first is never named", _said(LOST, NEXT, agency=_stolen(compromised_in=FIRST))),
        ("unlisted", "a ledger that the registry does not list", _said(ONE, agency=_stolen(compromised_in=SECOND))),
        ("number", "a name", _said(LOST, NEXT, agency=_stolen(compromised_in=2))),
        ("other", "another country's", _said(LOST, NEXT, agency=_stolen(compromised_in="tn.umuhuza/log2"))),
        (
            "alone",
            "of which size?",
            _said(LOST, NEXT, agency=_stolen(compromised_in=SECOND, compromised_since=DROP)),
        ),
    ):
        wrong(f"key-compromised-in-{ident}", why, "agencies.iom.keys[0].compromised_in", made)
    return found
