# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and the proofs beside them: what a second implementation has to believe, and what not.

Signatures are Ed25519 and follow from the seeds; those of ML-DSA-44 are random, and stand in a file of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from schemas.notes import Note, NoteSignature, NoteSigner, SignatureType, b64
from tests.domain import NOW, seeded
from tests.trees import Ledger, log_signers, witness_signers
from tests.vectors.making import Vector, vector
from topics.proofs import consistency_proof, inclusion_proof, levels, node_in

LEDGER = Ledger("bi")
[LOG, LOG_PQ] = log_signers("bi")
[WITNESS, WITNESS_PQ] = witness_signers("tn")
OTHER = NoteSigner.generate(LEDGER.origin, SignatureType.ED25519, seeded("vectors/note/other"))
HEAD = LEDGER.head(7)
ED25519 = Note(HEAD.text, (LOG.sign(HEAD.text, NOW), WITNESS.sign(HEAD.text, NOW)))
GOOD = ED25519.dumps().decode("utf-8")
_LINE = ED25519.signatures[0].line


def _text(text: str) -> str:
    """As vectors hold bytes: one character each."""
    return text.encode("utf-8").decode("latin-1")


def _note(ident: str, why: str, text: str, result: str, path: str | None, *flags: str, **more: Any) -> Vector:
    keys = more.pop("vkeys", [LOG.public.vkey, WITNESS.public.vkey])
    return vector(ident, why, ("note", *flags), _text(text), result, path, vkeys=keys, **more)


def _told(by: Sequence[tuple[NoteSigner, int | None]], size: int = 7) -> dict[str, Any]:
    return {
        "checkpoint": {"origin": LEDGER.origin, "size": size, "root": b64(LEDGER.head(size).root)},
        "signed": [[f"{signer.name}+{signer.public.key_id:08x}", at] for signer, at in by],
    }


def _timeless() -> NoteSignature:
    """The witness's over time 0, which `NoteSigner` does not make."""
    seed = base64.b64decode(WITNESS.skey.split("+", 4)[4])[1:]
    signed = ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign(f"cosignature/v1\ntime 0\n{HEAD.text}".encode())
    return NoteSignature(WITNESS.name, WITNESS.public.key_id, bytes(8) + signed)


def note_vectors() -> list[Vector]:
    empty = Note(LEDGER.head(0).text, (LOG.sign(LEDGER.head(0).text, NOW),)).dumps().decode("utf-8")
    stranger = Note(HEAD.text, (*ED25519.signatures, OTHER.sign(HEAD.text, NOW))).dumps().decode("utf-8")
    collides = Note(HEAD.text, (NoteSignature(LOG.name, LOG.public.key_id ^ 1, bytes(64)), *ED25519.signatures))
    wrong = Note(HEAD.text, (NoteSignature(LOG.name, LOG.public.key_id, bytes(64)), ED25519.signatures[1]))
    late = ED25519.signatures[1]
    retimed = NoteSignature(late.name, late.key_id, (NOW + 1).to_bytes(8, "big") + late.signature[8:])
    malformed, invalid = "note_malformed", "signature_invalid"
    cases = [
        _note(
            "note-cosigned",
            "a ledger's and a witness's signature",
            GOOD,
            "ok",
            None,
            **_told([(LOG, None), (WITNESS, NOW)]),
        ),
        _note("note-empty-tree", "a ledger without entries", empty, "ok", None, **_told([(LOG, None)], 0)),
        _note(
            "note-stranger",
            "a signature by an unknown key is passed over",
            stranger,
            "ok",
            None,
            **_told([(LOG, None), (WITNESS, NOW)]),
        ),
        _note(
            "note-same-name",
            "a key of a known name with another id is unknown",
            collides.dumps().decode(),
            "ok",
            None,
            **_told([(LOG, None), (WITNESS, NOW)]),
        ),
        _note(
            "note-witness-unknown",
            "only the ledger's key is known",
            GOOD,
            "ok",
            None,
            vkeys=[LOG.public.vkey],
            **_told([(LOG, None)]),
        ),
        _note(
            "note-no-known-key",
            "nobody who is known has signed",
            GOOD,
            invalid,
            "note.signatures",
            vkeys=[OTHER.public.vkey],
        ),
        _note(
            "note-signature-wrong",
            "a known key's signature is not one",
            wrong.dumps().decode(),
            invalid,
            "note.signatures[0]",
        ),
        _note(
            "note-size-altered", "the size is another", GOOD.replace("\n7\n", "\n8\n"), invalid, "note.signatures[0]"
        ),
        _note(
            "note-root-altered",
            "the root is another",
            GOOD.replace(b64(HEAD.root), b64(LEDGER.head(8).root)),
            invalid,
            "note.signatures[0]",
        ),
        _note(
            "note-origin-altered",
            "the checkpoint is said to be another ledger's",
            GOOD.replace("bi.umuhuza/log\n7", "tn.umuhuza/log\n7"),
            invalid,
            "note.signatures[0]",
        ),
        _note(
            "note-time-altered",
            "a cosignature with another time",
            Note(HEAD.text, (ED25519.signatures[0], retimed)).dumps().decode(),
            invalid,
            "note.signatures[1]",
        ),
        _note(
            "note-time-zero",
            "a witness that states no time does not say that it is the newest tree: not counted",
            Note(HEAD.text, (ED25519.signatures[0], _timeless())).dumps().decode(),
            "ok",
            None,
            **_told([(LOG, None), (WITNESS, None)]),
        ),
        _note("note-no-signature", "a checkpoint that nobody signed", HEAD.text, malformed, "note"),
        _note("note-no-blank-line", "no empty line before the signatures", HEAD.text + _LINE, malformed, "note"),
        _note("note-no-last-line-feed", "cut off", GOOD[:-1], malformed, "note.signatures"),
        _note("note-crlf", "line ends of another system", GOOD.replace("\n", "\r\n"), malformed, "note"),
        _note("note-twice", "two lines of one key", GOOD + _LINE, malformed, "note.signatures[2]"),
        _note("note-hyphen", "a hyphen for the dash", GOOD.replace("— bi", "- bi"), malformed, "note.signatures[0]"),
        _note(
            "note-no-padding",
            "base64 without its padding",
            f"{HEAD.text}\n{_LINE.replace('=', '')}",
            malformed,
            "note.signatures[0]",
        ),
        _note(
            "note-trailing-bits",
            "base64 with bits beyond the last byte",
            f"{HEAD.text}\n— {LOG.name} AAAAAAB=\n",
            malformed,
            "note.signatures[0]",
        ),
        _note(
            "note-name-with-plus",
            "a name with a plus",
            f"{HEAD.text}\n— bi+log AAAAAAA=\n",
            malformed,
            "note.signatures[0]",
        ),
        _note(
            "note-short",
            "a signature without bytes",
            f"{HEAD.text}\n— {LOG.name} AAAAAA==\n",
            malformed,
            "note.signatures[0]",
        ),
    ]
    checkpoints = [
        ("extension", "a fourth line", HEAD.text + "more\n", "checkpoint.extension"),
        ("leading-zero", "a size with a zero before it", HEAD.text.replace("\n7\n", "\n07\n"), "checkpoint.size"),
        ("negative", "a size below zero", HEAD.text.replace("\n7\n", "\n-7\n"), "checkpoint.size"),
        ("huge", "a size above 2^63-1", HEAD.text.replace("\n7\n", "\n9223372036854775808\n"), "checkpoint.size"),
        ("short-root", "a root of 31 bytes", f"{LEDGER.origin}\n7\n{b64(bytes(31))}\n", "checkpoint.root"),
        ("empty-root", "no entries, yet a root", f"{LEDGER.origin}\n0\n{b64(bytes(32))}\n", "checkpoint.root"),
        ("origin-space", "an origin with a space", "bi umuhuza" + HEAD.text[len(LEDGER.origin) :], "checkpoint.origin"),
    ]  # fmt: skip
    for ident, why, text, path in checkpoints:
        cases.append(_note(f"checkpoint-{ident}", why, f"{text}\n{_LINE}", malformed, path, "checkpoint"))
    return cases


def post_quantum_vectors() -> list[Vector]:
    """Made anew these differ: OpenSSL draws randomness for each signature."""
    keys = [LOG.public.vkey, LOG_PQ.public.vkey, WITNESS_PQ.public.vkey]
    note = Note(HEAD.text, (LOG.sign(HEAD.text, NOW), LOG_PQ.sign(HEAD.text, NOW), WITNESS_PQ.sign(HEAD.text, NOW)))
    text = note.dumps().decode("utf-8")
    swapped = NoteSignature(LOG.name, LOG_PQ.public.key_id, note.signatures[2].signature)
    by = [(LOG, None), (LOG_PQ, NOW), (WITNESS_PQ, NOW)]
    altered = text.replace("\n7\n", "\n8\n")
    renamed = Note(HEAD.text, (swapped,)).dumps().decode("utf-8")
    invalid, flags = "signature_invalid", ("ml-dsa",)
    return [
        _note("ml-dsa-cosigned", "both kinds of signatures", text, "ok", None, *flags, vkeys=keys, **_told(by)),
        _note("ml-dsa-altered", "another size", altered, invalid, "note.signatures[1]", *flags, vkeys=keys[1:]),
        _note(
            "ml-dsa-renamed", "a witness's as the ledger's", renamed, invalid, "note.signatures[0]", *flags, vkeys=keys
        ),
    ]


def proof_vectors() -> list[Vector]:
    """Merkle proofs: `input` is the entry or nothing, everything else is beside it."""
    made: list[Vector] = []
    for size, index in ((1, 0), (2, 1), (7, 0), (7, 6), (8, 5), (300, 255)):
        leaves = LEDGER.leaves(size)
        path = [b64(node) for node in inclusion_proof(node_in(levels(leaves)), index, size)]
        facts = {"index": index, "size": size, "root": b64(LEDGER.head(size).root), "proof": path}
        entry = LEDGER.entry(index).decode("ascii")
        ident = f"inclusion-{index}-of-{size}"
        made.append(vector(ident, "an entry is in the tree", ("inclusion",), entry, "ok", None, **facts))
        bad: list[tuple[str, str, str, dict[str, Any]]] = [
            ("entry", "another entry", entry + "x", facts),
            ("index", "an index beyond the tree", entry, {**facts, "index": size}),
            ("longer", "one hash too many", entry, {**facts, "proof": [*path, path[0] if path else b64(bytes(32))]}),
            ("root", "another root", entry, {**facts, "root": b64(LEDGER.head(size + 1).root)}),
        ]
        if path:
            bad.append(("shorter", "one hash too few", entry, {**facts, "proof": path[:-1]}))
        for what, why, text, changed in bad:
            made.append(vector(f"{ident}-{what}", why, ("inclusion",), text, "root_mismatch", None, **changed))
    for old, size in ((1, 2), (3, 7), (4, 7), (7, 7), (255, 300), (256, 300)):
        node = node_in(levels(LEDGER.leaves(size)))
        path = [b64(hashed) for hashed in consistency_proof(node, old, size)]
        facts = {
            "old": old,
            "old_root": b64(LEDGER.head(old).root),
            "size": size,
            "root": b64(LEDGER.head(size).root),
            "proof": path,
        }
        ident = f"consistency-{old}-to-{size}"
        made.append(vector(ident, "the tree has only grown", ("consistency",), "", "ok", None, **facts))
        fork = Ledger("bi", "forked", 0).head(old).root
        bad = [
            ("forked", "another tree before", "", {**facts, "old_root": b64(fork)}),
            ("longer", "one hash too many", "", {**facts, "proof": [*path, b64(fork)]}),
            ("backwards", "the tree has shrunk", "", {**facts, "old": size + 1}),
        ]
        if path:
            bad.append(("shorter", "one hash too few", "", {**facts, "proof": path[:-1]}))
        for what, why, text, changed in bad:
            made.append(vector(f"{ident}-{what}", why, ("consistency",), text, "log_inconsistent", None, **changed))
    return made
