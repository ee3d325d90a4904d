# SPDX-License-Identifier: Apache-2.0
"""Home proofs as they stand beside a record that came over a border, most of them wrong in one thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from schemas.home_proof import HomeProof
from schemas.keys import b64url
from schemas.notes import Checkpoint, read_note, sign_checkpoint
from tests.borders import NAME, Countries, HomeLedger, trust_policy
from tests.domain import NOW
from tests.trees import log_signers, witness_signers
from tests.vectors.making import Vector, vector
from topics.proofs import leaf_hash, root

TOPIC = "bi.bilateral.ccsprtp"
Change = Callable[[dict[str, Any]], object]


def _checkpoint(ledger: HomeLedger, by: tuple[str, ...] = ("bi", "tn")) -> bytes:
    """With Ed25519 alone: made again, it is the same."""
    leaves = [leaf_hash(one) for one in ledger.entries]
    head = Checkpoint("tn.umuhuza/log", len(leaves), root(leaves))
    note = read_note(sign_checkpoint(head, log_signers("tn")[:1], NOW))
    return note.with_signatures([witness_signers(name)[0].sign(head.text, NOW + 60) for name in by]).dumps()


def home_vectors() -> list[Vector]:
    """`input` is the header `umuhuza-home`; the record, whom to believe and the key in force are beside it."""
    tn = Countries().tn
    ledger = HomeLedger()
    version = tn.registry.version
    ledger.publish(version)
    signed, other = (tn.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME) for _ in range(2))
    index = ledger.log(signed)
    refused = ledger.log(other, kind="reject")
    later = ledger.publish(version + 1)
    good = HomeProof(_checkpoint(ledger), ledger.proven(index), ledger.proven(0))
    facts = {
        "topic": TOPIC,
        "policy": trust_policy("tn").dumps().decode("ascii"),
        "version": version,
        "signer": b64url(tn.members["tn/inlctp"].sig.public.public),
    }
    made: list[Vector] = []

    def add(ident: str, why: str, home: HomeProof | bytes, code: str, path: str | None, value: bytes = b"") -> None:
        text = home if isinstance(home, bytes) else home.dumps()
        record = (value or signed.value).decode("ascii")
        made.append(vector(f"home-{ident}", why, ("home",), text.decode("ascii"), code, path, record=record, **facts))

    add("good", "logged at home, under two witnesses", good, "ok", None)
    alone = replace(good, checkpoint=_checkpoint(ledger, ("tn",)))
    add("one-witness", "the other witness has not signed", alone, "quorum_missing", "checkpoint")
    add("another-record", "the proof is another record's", good, "record_unlogged", "home.proof", other.value)
    rejected = replace(good, record=ledger.proven(refused))
    add("refused-at-home", "home has refused it", rejected, "record_unlogged", "home.proof", other.value)
    moved = replace(good, record=replace(good.record, index=0))
    add("another-place", "the path is that of another place", moved, "root_mismatch", "home.proof")
    behind = replace(good, registry=ledger.proven(later))
    add("later-registry", "a version that came behind the record", behind, "log_inconsistent", "home.registry")
    none = replace(good, registry=good.record)
    add("no-registry", "an entry that is no registry's", none, "log_inconsistent", "home.registry")
    changes: list[tuple[str, str, Change, str]] = [
        ("no-proof", "a member is missing", lambda raw: raw.pop("proof"), "home"),
        ("unknown", "a member that nobody knows", lambda raw: raw.update(more=1), "home"),
        ("negative", "a place before the first", lambda raw: raw["proof"].update(index=-1), "home.proof.index"),
        ("short-hash", "a hash of 31 bytes", lambda raw: raw["proof"].update(path=["A" * 42]), "home.proof.path[0]"),
        ("long-path", "64 hashes", lambda raw: raw["registry"].update(path=["A"] * 64), "home.registry.path"),
    ]
    for ident, why, change, path in changes:
        raw = json.loads(good.dumps())
        change(raw)
        add(ident, why, json.dumps(raw, separators=(",", ":")).encode("ascii"), "note_malformed", path)
    add("spaced", "the same with a space: one text for one value", good.dumps() + b" ", "note_malformed", "home")
    return made
