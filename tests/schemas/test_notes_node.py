# SPDX-License-Identifier: Apache-2.0
"""Our ML-DSA-44 signatures on checkpoints, a ledger's and a witness's, hold for an implementation that is not ours."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from schemas.notes import Checkpoint, NoteSigner, SignatureType, read_note, sign_checkpoint
from tests.domain import seeded
from tests.node_programs import NODE, node_with

AT = 1_793_000_000
LEDGER = NoteSigner.generate("bi.umuhuza/log", SignatureType.ML_DSA_44, seeded("node/ledger"))
WITNESS = NoteSigner.generate("tn.umuhuza/witness", SignatureType.ML_DSA_44, seeded("node/witness"))


def cosigned(size: int) -> str:
    """A checkpoint of that size with both signatures, the witness's an hour later."""
    head = Checkpoint(LEDGER.name, size, hashlib.sha256(b"%d" % size).digest())
    note = read_note(sign_checkpoint(head, [LEDGER], AT))
    return note.with_signatures([WITNESS.sign(note.text, AT + 3600)]).dumps().decode("utf-8")


def stated(*asked: tuple[str, NoteSigner]) -> list[int | None]:
    """What the other implementation says of these notes and keys."""
    node = node_with("@noble/post-quantum")
    questions = json.dumps([{"note": note, "vkey": signer.public.vkey} for note, signer in asked])
    done = subprocess.run(
        [node, "ml_dsa.mjs"], cwd=NODE, input=questions, capture_output=True, text=True, encoding="utf-8", timeout=180
    )
    if done.returncode:
        pytest.fail(done.stderr[-1000:])
    answers: list[int | None] = json.loads(done.stdout)
    return answers


def test_another_implementation_reads_a_ledgers_and_a_witnesss_ml_dsa_signature() -> None:
    sizes = (1, 7, 2**40)
    asked = [(cosigned(size), signer) for size in sizes for signer in (LEDGER, WITNESS)]
    assert stated(*asked) == [AT, AT + 3600] * len(sizes)


def test_it_refuses_another_size_root_origin_time_or_key_as_we_do() -> None:
    good = cosigned(7)
    root = good.split("\n")[2]
    stranger = NoteSigner.generate(LEDGER.name, SignatureType.ML_DSA_44, seeded("node/stranger"))
    line = good.rstrip("\n").rpartition(" ")
    later = line[2][:16].replace(line[2][8:12], "AAAA") + line[2][16:]
    assert (
        stated(
            (good.replace("\n7\n", "\n8\n"), LEDGER),
            (good.replace(root, root[::-1][1:] + "="), LEDGER),
            (good.replace("bi.umuhuza/log\n7", "bi.umuhuza/other\n7"), WITNESS),
            (f"{line[0]} {later}\n", WITNESS),
            (good, stranger),
        )
        == [None] * 5
    )
