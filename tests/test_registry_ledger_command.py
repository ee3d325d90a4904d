# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry ledger`: the holders announce which ledger counts, and what became of the one before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.errors import LogError
from schemas.ledgers import LastTree
from schemas.notes import Checkpoint, NoteSigner, SignatureType, read_note, sign_checkpoint
from tests.domain import seeded
from tests.test_registry_command import refused, request, run, told
from topics.borders import excerpt_for
from umuhuza.registry_holder import PROPOSAL_FILE, REGISTRY_FILE, held, init_registry
from umuhuza.witness_command import app, make_witness

KINDS = (SignatureType.ED25519, SignatureType.ML_DSA_44)
WITNESS = NoteSigner.generate("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("tn witness"))


def signers(origin: str) -> tuple[NoteSigner, ...]:
    return tuple(NoteSigner.generate(origin, kind, seeded(f"{origin} {kind}")) for kind in KINDS)


def keys(folder: Path, origin: str) -> Path:
    file = folder / f"{origin.rpartition('/')[2]}.pub"
    file.write_text("".join(f"{one.public.vkey}\n" for one in signers(origin)), encoding="ascii")
    return file


def checkpoint(folder: Path, size: int, *, cosigned: bool = True) -> Path:
    head = Checkpoint("bi.umuhuza/log", size, bytes([size]) * 32)
    note = read_note(sign_checkpoint(head, signers("bi.umuhuza/log"), 1_790_000_000))
    file = folder / f"checkpoint-{size}"
    file.write_bytes((note.with_signatures([WITNESS.sign(note.text, 1_790_000_001)]) if cosigned else note).dumps())
    return file


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Whom an operator believes: one witness. Names no ledger: the registry does."""
    file = tmp_path / "witnesses.policy"
    file.write_text(f"witness tn {WITNESS.public.vkey}\nquorum tn\n", encoding="ascii")
    return file


def test_a_ledger_that_is_lost_is_followed_by_another_once_its_name_was_said(tmp_path: Path, policy: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    first, second = keys(tmp_path, "bi.umuhuza/log"), keys(tmp_path, "bi.umuhuza/log2")
    assert told("registry", "ledger", first, "--dir", folder)["published"]
    assert "bi.umuhuza/log" in run("registry", "ledger", first, "--dir", folder, code=2).output, "once is enough"
    unsaid = run("registry", "ledger", second, "--dir", folder, code=2)
    assert "--lost bi.umuhuza/log" in " ".join(unsaid.output.replace("│", "").split())
    run("registry", "ledger", second, "--dir", folder, "--lost", "bi.umuhuza/log3", code=2)
    last = ("--last", checkpoint(tmp_path, 7), "--policy", policy)
    done = told("registry", "ledger", second, "--dir", folder, "--lost", "bi.umuhuza/log", *last)
    assert [(one["origin"], one["last"] and one["last"]["size"]) for one in done["ledgers"]] == [
        ("bi.umuhuza/log", 7),
        ("bi.umuhuza/log2", None),
    ]
    lost, counts = held(folder).registry.ledgers
    assert lost.last == LastTree(7, bytes([7]) * 32)
    assert set(counts.keys) == {one.public for one in signers("bi.umuhuza/log2")}
    shown = run("registry", "show", "--dir", folder).output
    assert "bi.umuhuza/log," in shown
    assert "bi.umuhuza/log2," in shown
    run("registry", "renew", "--dir", folder)
    run("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    assert [one.number for one in held(folder).registry.ledgers] == [1, 2], "what changes later leaves them there"


def test_a_last_tree_that_too_few_witnesses_signed_is_not_announced(tmp_path: Path, policy: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    run("registry", "ledger", keys(tmp_path, "bi.umuhuza/log"), "--dir", folder)
    second = keys(tmp_path, "bi.umuhuza/log2")
    alone = checkpoint(tmp_path, 9, cosigned=False)
    with pytest.raises(LogError, match="quorum_missing"):
        refused(
            *("registry", "ledger", second, "--dir", folder, "--lost", "bi.umuhuza/log"),
            *("--last", alone, "--policy", policy),
        )
    assert len(held(folder).registry.ledgers) == 1


def test_another_countrys_ledger_or_a_witness_is_not_announced(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    found = refused("registry", "ledger", keys(tmp_path, "tn.umuhuza/log"), "--dir", folder)
    assert found == ("registry_invalid", "ledgers[0].origin")
    (tmp_path / "witness.pub").write_text(WITNESS.public.vkey)
    assert refused("registry", "ledger", tmp_path / "witness.pub", "--dir", folder)[0] == "registry_invalid"


def test_a_second_holder_sees_what_is_announced_before_signing(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    made = [told("registry", "holder", one.name, "--dir", one, "--no-passphrase")["holder"] for one in (first, second)]
    begun = ("registry", "init", "--dir", first, "--domain", "bi", "--holder", made[0], "--holder", made[1])
    told(*begun, "--members-threshold", "2")
    told("registry", "sign", first / PROPOSAL_FILE, "--dir", second)
    (first / "root").write_text(told("registry", "show", "--dir", second)["registry_root"])
    told("registry", "import", second / REGISTRY_FILE, "--dir", first)
    waits = told("registry", "ledger", keys(tmp_path, "bi.umuhuza/log"), "--dir", first)
    assert waits["published"] is False
    assert "bi.umuhuza/log" in str(told("registry", "show", first / PROPOSAL_FILE, "--dir", second)["ledgers"])
    assert "bi.umuhuza/log" in run("registry", "show", first / PROPOSAL_FILE, "--dir", second).output
    assert told("registry", "sign", first / PROPOSAL_FILE, "--dir", second)["published"]


def test_a_theft_is_dated_by_the_size_of_one_of_the_trees(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    run("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    run("registry", "ledger", keys(tmp_path, "bi.umuhuza/log"), "--dir", folder)
    run("registry", "ledger", keys(tmp_path, "bi.umuhuza/log2"), "--dir", folder, "--lost", "bi.umuhuza/log")
    revoke = ("registry", "revoke", "bi/refuge", "--dir", folder, "--compromised-since")
    run(*revoke, "41", code=2)  # of which tree?
    run(*revoke, "41", "--compromised-in", "bi.umuhuza/log3", code=2)
    run(*revoke, "41", "--compromised-in", "bi.umuhuza/log2")
    [key, _] = held(folder).registry.agency("bi/refuge").keys
    assert [key.stolen_at(*at) for at in ((9999, 1), (40, 2), (41, 2), (0, 3))] == [False, False, True, True]
    run(*revoke, "99", "--compromised-in", "bi.umuhuza/log")  # a doubt grows backwards
    [key, _] = held(folder).registry.agency("bi/refuge").keys
    assert [key.stolen_at(*at) for at in ((98, 1), (99, 1), (0, 2))] == [False, True, True]
    run(*revoke, "7", "--compromised-in", "bi.umuhuza/log2")  # and never shrinks
    assert held(folder).registry.agency("bi/refuge").keys[0] == key


def test_a_witness_takes_a_neighbours_newest_ledger_from_its_registry(tmp_path: Path) -> None:
    folder, witness = tmp_path / "registre", tmp_path / "temoin"
    _, pin = init_registry(folder, "bi", False)
    excerpt = tmp_path / "bi.json"
    make_witness(witness, "tn.umuhuza/witness")
    for number, name in enumerate(("log", "log2"), 1):
        lost = ("--lost", "bi.umuhuza/log") if number == 2 else ()
        run("registry", "ledger", keys(tmp_path, f"bi.umuhuza/{name}"), "--dir", folder, *lost)
        excerpt.write_bytes(excerpt_for(held(folder).trusted, "tn"))
        done = CliRunner().invoke(app, ["add-log", str(excerpt), "--dir", str(witness), "--root", pin.text, "--json"])
        assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["logs"] == ["bi.umuhuza/log", "bi.umuhuza/log2"]
