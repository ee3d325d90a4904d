# SPDX-License-Identifier: Apache-2.0
"""Protocols between two agencies as they stand in a registry, most of them wrong in one thing; put together by hand."""

from __future__ import annotations

import hashlib
from typing import Any

from schemas.keys import b64url
from tests.domain import NOW
from tests.vectors.making import DROP, PLANTED, SIGNERS, Vector, changed, compact, vector

TYP, END_TYP = "umuhuza-protocol+jws", "umuhuza-protocol-end+jws"
TERMS: dict[str, Any] = {
    "domains": ["bi"],
    "agencies": ["bi/iom", "bi/k7t4"],
    "flows": ["bilateral", "receipt"],
    "types": [],
    "purposes": ["hébergement"],
    "focal_points": [],
    "authorisations": [],
    "retention_days": 365,
    "legal_ref": "Protocole inventé du 1er mars 2026",
    "document_sha256": None,
    "since": "2026-03-01",
    "until": "2028-12-31",
    "root_fingerprints": {},
}
NAME = "foyer-oim"
YEAR = 365 * 86_400
KEYS: dict[str, dict[str, Any]] = {
    f"bi/{name}": {"key": name, "activated": NOW - 86_400, "expires": NOW + YEAR, "revoked": None}
    for name in ("iom", "k7t4", "police")
}


def digest(terms: dict[str, Any], name: str = NAME) -> str:
    """Members sorted by their names, the name among them, no spaces, UTF-8."""
    members = {"name": name, **terms}
    said = "{" + ",".join(f"{compact(one)}:{_sorted(members[one])}" for one in sorted(members)) + "}"
    return hashlib.sha256(said.encode()).hexdigest()


def _sorted(value: Any) -> str:
    return compact(dict(sorted(value.items())) if isinstance(value, dict) else value)


def word(who: str, typ: str = TYP, signer: str | None = None, header: Any = None, **changes: Any) -> str:
    key = SIGNERS[signer or who]
    payload = {"v": 1, "iss": f"bi/{who}", "protocol": NAME, "sha256": digest(TERMS), "iat": NOW}
    head = changed({"alg": "ES256", "kid": key.kid, "typ": typ}, header or {})
    signed = ".".join(b64url(compact(one).encode()) for one in (head, changed(payload, changes)))
    return f"{signed}.{b64url(key.sign(signed.encode('ascii')))}"


def protocol_vectors() -> list[Vector]:
    """`input` is the target; it counts, or the agencies in `lacking` have not signed, those of `ended_by` ended it."""
    made: list[Vector] = []

    def add(
        ident: str,
        why: str,
        signatures: list[str],
        *,
        lacking: tuple[str, ...] = (),
        ended_by: tuple[str, ...] = (),
        endings: tuple[str, ...] = (),
        name: str = NAME,
        keys: dict[str, dict[str, Any]] | None = None,
        training: bool = False,
        **terms: Any,
    ) -> None:
        target = changed(TERMS, terms) | ({"signatures": signatures} if signatures else {})
        target |= {"endings": list(endings)} if endings else {}
        result = "ended" if ended_by else "unsigned" if lacking else "ok"
        more = {"lacking": list(lacking), "ended_by": list(ended_by), "training": training, "name": name}
        entries = KEYS | (keys or {})
        made.append(
            vector(f"protocol-{ident}", why, ("protocol",), compact(target), result, None, agencies=entries, **more)
        )

    def theirs(ident: str, why: str, other: str, **more: Any) -> None:
        add(ident, why, [word("iom"), other], lacking=("bi/k7t4",), **more)

    iom, k7t4 = word("iom"), word("k7t4")
    both = ("bi/iom", "bi/k7t4")
    add("signed", "signed by both", [iom, k7t4])
    add("other-order", "who signs first is of no weight", [k7t4, iom])
    add("stranger", "a third agency's word takes nothing away", [iom, k7t4, word("police")])
    expired = {"bi/k7t4": KEYS["bi/k7t4"] | {"expires": NOW + 1}}
    add("expired-since", "a key that was valid on the day it signed", [iom, k7t4], keys=expired)
    under_training: dict[str, Any] = {"training": True}
    signed = [word("iom", **under_training), word("k7t4", **under_training)]
    add("training", "both under a training root", signed, training=True)
    add("none", "nobody has signed", [], lacking=both)
    add("one", "one signature is missing", [iom], lacking=("bi/k7t4",))
    twin = word("iom", iat=NOW + 1)
    theirs("twice", "one agency's twice is not both", twin)
    theirs("for-the-other", "signed by one in the other's name", word("k7t4", signer="iom"))
    theirs("outsider", "signed by a third agency in its name", word("k7t4", signer="police"))
    theirs("not-bound", "a third agency in its place", word("police"))
    theirs("unknown-key", "a key that stands in no entry", word("k7t4", signer="gateway"))
    theirs("kid", "another key's name over it", word("k7t4", header={"kid": SIGNERS["iom"].kid}))
    theirs("other-terms", "signed another text", word("k7t4", sha256=digest(TERMS | {"retention_days": 366})))
    theirs("other-name", "signed another protocol of the same terms", word("k7t4", protocol="foyer-oim-2"))
    theirs("planted-name", "another name", word("k7t4", protocol=PLANTED))
    theirs("digest-short", "no digest", word("k7t4", sha256="ab"))
    for ident, why, changes in (
        ("retention", "kept longer than was signed", {"retention_days": 3650}),
        ("flows", "one flow more than was signed", {"flows": ["bilateral", "receipt", "case"]}),
        ("until", "goes on for longer than was signed", {"until": "2029-12-31"}),
        ("third", "a third agency was added", {"agencies": ["bi/iom", "bi/k7t4", "bi/police"]}),
    ):
        more = ("bi/police",) if ident == "third" else ()
        add(f"changed-{ident}", why, [iom, k7t4], lacking=(*both, *more), **changes)
    add("renamed", "stands under another name", [iom, k7t4], lacking=both, name="foyer-police")
    for ident, why, entry in (
        ("revoked", "its key is revoked, after it signed", {"revoked": NOW + 86_400}),
        ("revoked-before", "its key was revoked before", {"revoked": NOW - 1}),
        ("stolen", "its key was stolen", {"revoked": NOW + 86_400, "compromised_since": 12}),
        ("too-early", "its key was not valid yet on that day", {"activated": NOW + 1}),
        ("expired", "its key was not valid any more on that day", {"expires": NOW}),
        ("another-key", "its entry has another key", {"key": "police"}),
    ):
        entries = {"bi/k7t4": KEYS["bi/k7t4"] | entry}
        entries |= {"bi/police": KEYS["bi/police"] | {"key": "gateway"}} if ident == "another-key" else {}
        theirs(ident, why, k7t4, keys=entries)
    for typ in ("umuhuza-event+jws", "umuhuza-objection+jws", "umuhuza-bundle+jws", END_TYP, "umuhuza-protocol"):
        theirs(
            f"typ-{typ.removesuffix('+jws').removeprefix('umuhuza-')}", "signed as something else", word("k7t4", typ)
        )
    theirs("alg", "another algorithm is claimed", word("k7t4", header={"alg": "none"}))
    theirs("header", "a header that nobody asked for", word("k7t4", header={"crit": []}))
    theirs("version", "another version", word("k7t4", v=2))
    theirs("version-bool", "true is no number", word("k7t4", v=True))
    unknown: dict[str, Any] = {PLANTED: 1}
    theirs("member", "a member that nobody knows", word("k7t4", **unknown))
    theirs("no-day", "a member is missing", word("k7t4", iat=DROP))
    theirs("training-word", "signed under a training root", word("k7t4", training=True))
    add("training-both", "production's words under a training root", [iom, k7t4], lacking=both, training=True)
    theirs("cut", "the signature is cut off", k7t4.rpartition(".")[0])
    theirs("altered", "one letter is another", k7t4[:-4] + ("A" if k7t4[-4] != "A" else "B") + k7t4[-3:])
    theirs("borrowed", "the other's signature under its payload", f"{k7t4.rpartition('.')[0]}.{iom.rpartition('.')[2]}")
    theirs("text", "no signature", PLANTED)
    end = word("k7t4", END_TYP, iat=NOW + 60)
    add("ended", "one of them has ended it", [iom, k7t4], endings=(end,), ended_by=("bi/k7t4",))
    gone = {"bi/k7t4": KEYS["bi/k7t4"] | {"revoked": NOW + 120}}
    add(
        "ended-revoked",
        "what ended stays ended when the key goes",
        [iom, k7t4],
        endings=(end,),
        ended_by=("bi/k7t4",),
        lacking=("bi/k7t4",),
        keys=gone,
    )
    add("end-stranger", "a third agency cannot end it", [iom, k7t4], endings=(word("police", END_TYP),))
    add("end-other", "another protocol's ending", [iom, k7t4], endings=(word("k7t4", END_TYP, protocol="foyer-2"),))
    add("end-typ", "an agreement is no ending", [iom, k7t4], endings=(word("iom", iat=NOW + 1),))
    add("end-forged", "ended in the other's name", [iom, k7t4], endings=(word("k7t4", END_TYP, signer="iom"),))
    return made
