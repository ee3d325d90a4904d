# SPDX-License-Identifier: Apache-2.0
"""The golden vectors of checkpoints and Merkle proofs: our reader says what each of them states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import LogError
from schemas.notes import b64, read_checkpoint_text, read_note, read_vkey, unb64, verify_note
from tests.vectors import generate
from tests.vectors.making import joined
from topics.proofs import leaf_hash, verify_consistency, verify_inclusion

Vector = dict[str, Any]


def _load(*names: str) -> list[Vector]:
    folder = Path(generate.__file__).parent
    return [one for name in names for one in json.loads((folder / name).read_text(encoding="ascii"))["vectors"]]


NOTES = _load("notes.json", "notes-ml-dsa.json")
PROOFS = _load("proofs.json")


def _read(vector: Vector) -> tuple[dict[str, Any], list[list[Any]]]:
    note = read_note(joined(vector["input"]).encode("latin-1"))
    head = read_checkpoint_text(note.text)
    signed = verify_note(note, [read_vkey(text) for text in vector["vkeys"]])
    told = {"origin": head.origin, "size": head.size, "root": b64(head.root)}
    return told, [[f"{one.key.name}+{one.key.key_id:08x}", one.at] for one in signed]


@pytest.mark.parametrize("vector", NOTES, ids=[one["id"] for one in NOTES])
def test_a_checkpoint_is_believed_or_refused_as_its_vector_says(vector: Vector) -> None:
    if vector["result"] == "ok":
        assert _read(vector) == (vector["checkpoint"], vector["signed"])
        return
    with pytest.raises(LogError) as caught:
        _read(vector)
    assert (caught.value.code, caught.value.path) == (vector["result"], vector["path"])


@pytest.mark.parametrize("vector", PROOFS, ids=[one["id"] for one in PROOFS])
def test_a_proof_holds_or_not_as_its_vector_says(vector: Vector) -> None:
    root = unb64(vector["root"], "root")
    path = [unb64(node, "proof") for node in vector["proof"]]
    if "inclusion" in vector["flags"]:
        leaf = leaf_hash(joined(vector["input"]).encode("latin-1"))
        holds = verify_inclusion(leaf, vector["index"], vector["size"], path, root)
    else:
        old_root = unb64(vector["old_root"], "old_root")
        holds = verify_consistency(vector["old"], old_root, vector["size"], root, path)
    assert holds == (vector["result"] == "ok")


def test_every_vector_has_a_reason_of_its_own() -> None:
    every = [*NOTES, *PROOFS]
    assert len({one["id"] for one in every}) == len(every)
    assert all(one["why"] and one["flags"] for one in every)
    assert len([one for one in every if one["result"] != "ok"]) > 0.6 * len(every)
