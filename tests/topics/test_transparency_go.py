# SPDX-License-Identifier: Apache-2.0
"""Go's own packages for signed notes and transparency logs believe what we make, and refuse what is forged."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pytest

from schemas.notes import SignatureType, read_note, verify_checkpoint
from tests.domain import NOW
from tests.go_programs import answers, go_program
from tests.trees import Ledger, witness_signers
from topics.proofs import consistency_proof, inclusion_proof, levels, node_in
from topics.tiles import GrowingTree

LEDGER = Ledger("bi")
VKEYS = [key.vkey for key in LEDGER.keys if key.kind is SignatureType.ED25519]
SIZES = (1, 2, 3, 7, 8, 255, 256, 257, 300)
Case = dict[str, Any]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_program("verify.go", tmp_path_factory.mktemp("go"))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def note_of(size: int, ledger: Ledger = LEDGER) -> str:
    return ledger.checkpoint(size).decode("utf-8")


def inclusion(size: int, index: int, **changes: Any) -> Case:
    path = inclusion_proof(node_in(levels(LEDGER.leaves(size))), index, size)
    case = {
        "kind": "inclusion",
        "vkeys": VKEYS,
        "note": note_of(size),
        "index": index,
        "entry": b64(LEDGER.entry(index)),
        "proof": [b64(node) for node in path],
    }
    return {**case, **changes}


def consistency(old: int, size: int, **changes: Any) -> Case:
    path = consistency_proof(node_in(levels(LEDGER.leaves(size))), old, size)
    case = {
        "kind": "consistency",
        "vkeys": VKEYS,
        "note": note_of(size),
        "old": note_of(old),
        "proof": [b64(node) for node in path],
    }
    return {**case, **changes}


def test_go_believes_our_checkpoints_and_passes_over_keys_it_does_not_know(go: Path) -> None:
    witnesses = [signer for domain in ("tn", "iom") for signer in witness_signers(domain)]
    note = read_note(LEDGER.checkpoint(5))
    cosigned = note.with_signatures(signer.sign(note.text, NOW) for signer in witnesses).dumps().decode("utf-8")
    ed25519 = [one.public.vkey for one in witnesses if one.kind is SignatureType.COSIGNATURE]
    found = answers(
        go,
        [
            {"kind": "note", "vkeys": VKEYS, "note": cosigned},
            {"kind": "note", "vkeys": [*VKEYS, *ed25519], "note": cosigned},
            {"kind": "note", "vkeys": ed25519[:1], "note": cosigned},
        ],
    )
    assert [(one["ok"], one["signed"]) for one in found] == [(True, 1), (True, 3), (True, 1)]


def test_go_refuses_altered_checkpoints_and_cosignatures_as_we_do(go: Path) -> None:
    good = note_of(5)
    [witness, _] = witness_signers("tn")
    note = read_note(good.encode())
    elsewhere = note.with_signatures([witness.sign(LEDGER.head(6).text, NOW)]).dumps().decode("utf-8")
    bad = [
        good.replace("\n5\n", "\n6\n"),
        good.replace("bi.umuhuza/log\n5", "tn.umuhuza/log\n5"),
        good[:-1],
        good + "\n",
        good.replace("\n\n", "\n"),
        good.replace("— ", "- "),
        "",
        elsewhere,
    ]
    vkeys = [*VKEYS, witness.public.vkey]
    found = answers(go, [{"kind": "note", "vkeys": vkeys, "note": one} for one in bad])
    assert [one["ok"] for one in found] == [False] * len(bad)


def test_we_believe_what_go_signs_with_our_key(go: Path) -> None:
    [signer, _] = LEDGER.signers
    [made] = answers(go, [{"kind": "sign", "skey": signer.skey, "text": LEDGER.head(7).text}])
    assert made["ok"]
    read = verify_checkpoint(made["note"].encode("utf-8"), LEDGER.keys)
    assert read.checkpoint == LEDGER.head(7)
    # Ed25519 is deterministic: the same bytes.
    assert read.note.signatures == (signer.sign(LEDGER.head(7).text, NOW),)


def test_go_finds_every_entry_in_our_trees(go: Path) -> None:
    dice = random.Random(6962)
    places = [(size, index) for size in SIZES for index in {0, size - 1, dice.randrange(size)}]
    assert {one["ok"] for one in answers(go, [inclusion(size, index) for size, index in places])} == {True}


def test_go_sees_that_our_trees_only_grow(go: Path) -> None:
    pairs = [(old, size) for size in SIZES for old in SIZES if old <= size]
    assert {one["ok"] for one in answers(go, [consistency(old, size) for old, size in pairs])} == {True}


def test_go_refuses_proofs_that_do_not_hold(go: Path) -> None:
    good, fork = inclusion(300, 77), Ledger("bi", "forked", 100)
    short = good["proof"][:-1]
    grown = consistency(200, 300)
    bad = [
        {**good, "entry": b64(LEDGER.entry(78))},
        {**good, "index": 78},
        {**good, "proof": short},
        {**good, "proof": [*good["proof"], good["proof"][0]]},
        {**good, "proof": good["proof"][::-1]},
        {**good, "note": note_of(299)},
        {**good, "note": note_of(300).replace("\n300\n", "\n299\n")},
        {**grown, "note": note_of(300, fork)},
        {**grown, "old": note_of(200, fork)},
        {**grown, "old": note_of(201)},
        {**grown, "proof": grown["proof"][:-1]},
        {**grown, "proof": grown["proof"][::-1]},
    ]
    assert [one["ok"] for one in answers(go, bad)] == [False] * len(bad)


def test_go_reads_our_tiles(go: Path, tmp_path: Path) -> None:
    cases: list[Case] = []
    for size in (1, 256, 300, 66_000):
        folder, tree = tmp_path / str(size), GrowingTree()
        leaves = LEDGER.leaves(size)
        for leaf in leaves:
            tree.append(leaf)
        for tile in tree.take():
            path = folder / tile.id.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tile.data)
        cases.append(
            {"kind": "tiles", "vkeys": VKEYS, "note": note_of(size), "tiles": str(folder), "index": size * 2 // 3}
        )
    found = answers(go, cases)
    for case, one in zip(cases, found, strict=True):
        assert one["ok"], one
        size = int(Path(case["tiles"]).name)
        assert base64.b64decode(one["root"]) == LEDGER.head(size).root
        ours = inclusion_proof(node_in(levels(LEDGER.leaves(size))), case["index"], size)
        assert base64.b64decode(one.get("proof", "")) == b"".join(ours)
    # And not what is not the tree's.
    spoilt = tmp_path / "300" / "tile" / "0" / "001.p" / "44"
    spoilt.write_bytes(bytes(32) + spoilt.read_bytes()[32:])
    assert not answers(go, [cases[2]])[0]["ok"]
