# SPDX-License-Identifier: Apache-2.0
"""The files of `docs/verify/example`: `python -m tests.verify.example` writes them, the same bytes every time.

A hotline asks a shelter for a bed. Everybody is invented and the keys protect nothing. The files are what an agency has
in its hands: the record, the gateway's promise, the log's receipt with a witness's cosignature, and the keys.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from schemas.envelope import Manifest, record_value, sign_manifest
from schemas.keys import SigningKey, b64url
from schemas.notes import Checkpoint, Note, NoteSigner, SignatureType
from schemas.proof_texts import TlogProof
from schemas.sealing import seal_parts
from tests.domain import seeded
from topics.ledger_entries import LedgerEntry, l1_sha256_of
from topics.promise import Line, evidence, make_promise
from topics.proofs import inclusion_path, leaf_hash, root

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "verify" / "example"
ASKED_AT = 1_793_700_060
OFFSET, INDEX, SIZE = 41, 5, 11

SENDER = SigningKey.generate(seeded("verify/sender"))
GATEWAY = SigningKey.generate(seeded("verify/gateway"))
LOG = NoteSigner.generate("bi.umuhuza/log", SignatureType.ED25519, seeded("verify/log"))
WITNESS = NoteSigner.generate("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("verify/witness"))


def _record() -> tuple[Manifest, bytes, dict[str, bytes]]:
    example = json.loads((DOCS / "examples" / "availability.asked.json").read_text(encoding="utf-8"))
    stated = example["manifest"]
    content = json.dumps(example["content"], separators=(",", ":"), ensure_ascii=False).encode()
    random = seeded("verify/parts")
    sealed = seal_parts(f"{stated['iss']}/{stated['evt']}", "request", {"identity": b"", "content": content}, random)
    manifest = Manifest(**stated, seq=1, prev="", iat=ASKED_AT, reg=7, parts=sealed.parts)
    return manifest, record_value(sign_manifest(manifest, SENDER), sealed.body), dict(sealed.keys)


def _promise(line: Line) -> bytes:
    random = seeded("verify/others")
    others = [Line(f"other-{n}", b64url(random(32)), "bi.case.police", n) for n in range(2)]
    lines = [others[0], line, others[1]]
    promised = make_promise(lines, GATEWAY, iss="bi/operator", at=ASKED_AT + 1, domain="bi")
    return evidence(line, 1, promised.paths[1], promised.jws)


def _entry(manifest: Manifest, value: bytes) -> bytes:
    hashes = (hashlib.sha256(value).digest(), l1_sha256_of(value))
    return LedgerEntry("event", manifest.topic, OFFSET, OFFSET - 1, *hashes).encode()


def _receipt(entry: bytes) -> bytes:
    random = seeded("verify/log/others")
    leaves = [random(32) for _ in range(SIZE)]
    leaves[INDEX] = leaf_hash(entry)
    text = Checkpoint(LOG.name, SIZE, root(leaves)).text
    note = Note(text, (LOG.sign(text, ASKED_AT + 2), WITNESS.sign(text, ASKED_AT + 60)))
    return TlogProof(INDEX, tuple(inclusion_path(leaves, INDEX)), note.dumps(), entry).dumps()


def files() -> dict[str, bytes]:
    """Name -> bytes."""
    manifest, value, keys = _record()
    digest = b64url(hashlib.sha256(value.partition(b"\n")[0].rpartition(b".")[0]).digest())
    known = {
        "SENDER": b64url(SENDER.public.public),
        "GATEWAY": b64url(GATEWAY.public.public),
        "LOG": LOG.public.vkey,
        "WITNESS": WITNESS.public.vkey,
        "CONTENT": b64url(keys["content"]),
    }
    return {
        "record.txt": value,
        "promise.json": _promise(Line(manifest.evt, digest, manifest.topic, OFFSET)),
        "receipt.tlog-proof": _receipt(_entry(manifest, value)),
        "keys.sh": "".join(f"{name}={text}\n" for name, text in known.items()).encode("ascii"),
    }


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
