# SPDX-License-Identifier: Apache-2.0
"""Writes the golden vectors: `python -m tests.vectors.generate [--force]`.

Vectors are append-only: one that is in a file already stays there as it is, byte for byte, since other people's
implementations are tested with it. `--force` makes all of them again; that is for before a release only.

Must never: take an expected result from the code that is tested. Results and paths are written by hand in the cases.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vectors.body_cases import body_vectors
from tests.vectors.bundle_cases import bundle_vectors
from tests.vectors.evidence_cases import evidence_vectors
from tests.vectors.grant_cases import RECORD, grant_vectors
from tests.vectors.home_cases import home_vectors
from tests.vectors.making import PLANTED, Vector, keys_file
from tests.vectors.note_cases import note_vectors, post_quantum_vectors, proof_vectors
from tests.vectors.protocol_cases import protocol_vectors
from tests.vectors.record_cases import record_vectors
from tests.vectors.registry_cases import registry_vectors

HERE = Path(__file__).parent
_INPUT = (
    "`input` is text, one character per byte, or a list of texts and [text, times]. `result` is ok or the code of "
    "the first refusal, `path` where. `planted` must be in no message. "
)
_RECORD_ABOUT = (
    _INPUT
    + "Parse; verify with `key` of keys.json; check the parts; open them with `keys`, where given. A good record "
    "has `digest` (base64url SHA-256 of header.payload) and `plaintexts` (without the padding)."
)
_NOTE_ABOUT = (
    _INPUT + "Read the signed note, read its text as a checkpoint, verify it with the keys of `vkeys` "
    "(c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature). A good one has `checkpoint`, and `signed`: name and "
    "key id of each known key that signed, in the note's order, with the time it states."
)
FILES: dict[str, tuple[str, Callable[[], list[Vector]], dict[str, Any]]] = {
    "records.json": (_RECORD_ABOUT, record_vectors, {}),
    "bodies.json": (_RECORD_ABOUT, body_vectors, {}),
    "evidence.json": (
        _INPUT
        + "Check the evidence of a promise with `key` of keys.json for the ledger of `domain`; `line` is what was "
        "promised: event, digest, topic, offset.",
        evidence_vectors,
        {},
    ),
    "grants.json": (
        _INPUT
        + "Open the grant beside `record` with the sealing key `opener` of keys.json; `opened` is what comes out.",
        grant_vectors,
        {"record": RECORD.value()},
    ),
    "registry.json": (
        _INPUT
        + "Read the registry file, pinned to the root of the fingerprint `root`; `members` are the agencies and roles, "
        "`ledgers` the names of the announced ledgers in order, where there are any.",
        registry_vectors,
        {},
    ),
    "notes.json": (_NOTE_ABOUT, note_vectors, {}),
    "notes-ml-dsa.json": (_NOTE_ABOUT, post_quantum_vectors, {}),
    "home.json": (
        _INPUT + "Read the header `umuhuza-home`; check `record` in `topic` with it, by the trust policy `policy`; in "
        "registry version `version`, the only one that is here, tn/inlctp has the P-256 key `signer`, the only key.",
        home_vectors,
        {},
    ),
    "bundles.json": (
        "`input` is a bundle's plaintext before its padding (schemas/bundle.py), in Unicode: pad it with spaces, "
        "seal it to any key, open it. `result` is ok or the code of the first refusal, `path` where; `planted` must be "
        "in no message. A good one has its `kind`, and how many `lines`; all are signed with `k7t4` of keys.json.",
        bundle_vectors,
        {"planted": PLANTED},
    ),
    "protocols.json": (
        "`input` is the target `agreements/<name>.json` of a registry of bi, in Unicode, under a training root iff "
        "`training`; `agencies` have each one signing key, `key` of keys.json, that counts as it says. `result` is ok "
        "where it counts, unsigned where the words of those in `lacking` are missing, ended where those in `ended_by` "
        "have ended it; `planted` must be in no message.",
        protocol_vectors,
        {"planted": PLANTED},
    ),
    "proofs.json": (
        "Merkle proofs (RFC 9162 2.1.3.2 and 2.1.4.2), hashes in base64. With the flag `inclusion`: `input` is the "
        "entry, one character per byte, said to be at `index` of the tree of `size` leaves under `root`; else that of "
        "`size` leaves under `root` is said to begin with that of `old` under `old_root`. `result` is ok or a code.",
        proof_vectors,
        {},
    ),
}
RANDOM_FILES = ("grants.json", "notes-ml-dsa.json")
"""Their inputs hold HPKE ciphertexts or ML-DSA signatures: made anew they differ."""


def built(name: str) -> dict[str, Any]:
    about, vectors, more = FILES[name]
    made = vectors()
    idents = [vector["id"] for vector in made]
    if len(set(idents)) != len(idents):
        raise ValueError(f"{name}: an id stands twice")
    return {"about": about, **more, "vectors": made}


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new file with every vector that was there before kept as it was."""
    kept = {vector["id"]: vector for vector in old["vectors"]}
    gone = kept.keys() - {vector["id"] for vector in new["vectors"]}
    if gone:
        raise ValueError(f"released vectors are no longer made: {', '.join(sorted(gone))}")
    return {**new, "vectors": [kept.get(vector["id"], vector) for vector in new["vectors"]]}


def dumped(document: dict[str, Any]) -> str:
    """JSON with one vector a line: a change shows which."""
    head = {name: value for name, value in document.items() if name != "vectors"}
    text = json.dumps(head, indent=1)
    if "vectors" not in document:
        return text + "\n"
    rows = ",\n".join(json.dumps(vector) for vector in document["vectors"])
    return f'{text[:-2]},\n "vectors": [\n{rows}\n]\n}}\n'


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write the golden vectors.")
    parser.add_argument("--force", action="store_true", help="make released vectors again, too")
    force: bool = parser.parse_args(arguments).force
    (HERE / "keys.json").write_text(dumped(keys_file()), encoding="ascii")
    for name in FILES:
        path = HERE / name
        document = built(name)
        if path.exists() and not force:
            document = merged(json.loads(path.read_text(encoding="ascii")), document)
        path.write_text(dumped(document), encoding="ascii")
        sys.stdout.write(f"{name}: {len(document['vectors'])} vectors\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
