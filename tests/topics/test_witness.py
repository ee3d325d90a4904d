# SPDX-License-Identifier: Apache-2.0
"""A witness cosigns one history of each ledger, whatever is asked of it, and whenever its power fails."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from schemas.errors import LogError
from schemas.notes import Note, NoteSigner, SignatureType, read_note, read_signature_lines, verify_note
from schemas.proof_texts import AddCheckpoint, read_add_checkpoint
from tests.domain import NOW, seeded
from tests.power_cut import PowerCut, PowerCutVFS
from tests.trees import Ledger, witness_signers
from topics.witness import Cosigned, Stale, Witness, WitnessedLogs, status_of

LEDGER = Ledger("bi")
SIGNERS = witness_signers("tn")


def logs_file(folder: Path, *ledgers: Ledger) -> WitnessedLogs:
    path = folder / "logs.policy"
    path.write_text("".join(f"log {key.vkey}\n" for one in ledgers for key in one.keys) + "quorum none\n")
    return WitnessedLogs(path)


@pytest.fixture
def logs(tmp_path: Path) -> WitnessedLogs:
    return logs_file(tmp_path, LEDGER)


@pytest.fixture
def witness(tmp_path: Path, logs: WitnessedLogs) -> Witness:
    Witness.create(tmp_path / "witness.db", SIGNERS)
    return Witness.open(tmp_path / "witness.db", SIGNERS, logs)


def refused(witness: Witness, body: bytes) -> tuple[int, str, str | None]:
    with pytest.raises(LogError) as caught:
        witness.add_checkpoint(body, NOW)
    return status_of(caught.value), caught.value.code, caught.value.path


def sizes(witness: Witness) -> dict[str, int]:
    return {one.origin: one.size for one in witness.seen()}


# ---------------------------------------------------------------------------------------------------------------------
# The standard's answers


def test_a_head_that_follows_the_last_one_is_cosigned_with_both_keys(witness: Witness) -> None:
    for old, size in ((0, 3), (3, 4), (4, 9), (9, 9)):
        body = LEDGER.ask(old, size)
        answer = witness.add_checkpoint(body, NOW + size)
        assert isinstance(answer, Cosigned)
        note = read_note(read_add_checkpoint(body).checkpoint).with_signatures(read_signature_lines(answer.lines))
        signed = verify_note(note, witness.keys)
        assert [(one.key.kind, one.at) for one in signed] == [
            (SignatureType.COSIGNATURE, NOW + size),
            (SignatureType.ML_DSA_44, NOW + size),
        ]
        # What a client may do: put the answer behind its checkpoint.
        assert verify_note(read_note(read_add_checkpoint(body).checkpoint + answer.lines), witness.keys)
    assert sizes(witness) == {LEDGER.origin: 9}


def test_who_repeats_a_checkpoint_that_everybody_can_read_moves_no_disk(witness: Witness, tmp_path: Path) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    before = (tmp_path / "witness.db-wal").read_bytes()
    again = [witness.add_checkpoint(LEDGER.ask(3, 3), NOW - second) for second in (0, 1)]
    assert [one.at for one in again if isinstance(one, Cosigned)] == [NOW, NOW]
    assert (tmp_path / "witness.db-wal").read_bytes() == before


def test_an_unknown_ledger_is_404(witness: Witness) -> None:
    assert refused(witness, Ledger("tn").ask(0, 3)) == (404, "log_unknown", "checkpoint.origin")


def test_a_head_that_the_ledger_did_not_sign_is_403(witness: Witness) -> None:
    stranger = [NoteSigner.generate(LEDGER.origin, SignatureType.ED25519, seeded("stranger"))]
    forged = Ledger("bi")
    forged.signers = stranger
    assert refused(witness, forged.ask(0, 3))[:2] == (403, "signature_invalid")
    asked = read_add_checkpoint(LEDGER.ask(0, 3))
    note = read_note(asked.checkpoint)
    altered = Note(note.text.replace("\n3\n", "\n4\n"), note.signatures).dumps()
    assert refused(witness, AddCheckpoint(0, (), altered).dumps())[:2] == (403, "signature_invalid")
    assert sizes(witness) == {}


@pytest.mark.parametrize(
    "body", [b"", b"old 0\n", b"old 0\n\nnot a note\n", LEDGER.checkpoint(3), LEDGER.ask(0, 3)[:-1]]
)
def test_what_is_no_request_is_400(witness: Witness, body: bytes) -> None:
    assert refused(witness, body)[0] == 400


def test_a_request_without_end_is_413(witness: Witness) -> None:
    assert refused(witness, b"x" * (1 << 20))[0] == 413


def test_an_old_size_above_the_heads_is_400(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    body = AddCheckpoint(4, (), LEDGER.checkpoint(3)).dumps()
    assert refused(witness, body) == (400, "note_malformed", "request.old")


def test_another_old_size_is_409_with_the_size_that_it_has(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    for old, size in ((0, 9), (2, 9), (4, 9), (0, 3)):
        answer = witness.add_checkpoint(LEDGER.ask(old, size), NOW)
        assert answer == Stale(3)
        assert answer.body == b"3\n"
    assert witness.add_checkpoint(LEDGER.ask(0, 2), NOW) == Stale(3)
    assert sizes(witness) == {LEDGER.origin: 3}


def test_a_second_root_of_one_size_is_409_and_kept_as_evidence(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    body = Ledger("bi", "forked", 1).ask(3, 3)
    assert refused(witness, body) == (409, "log_inconsistent", "checkpoint.root")
    assert refused(witness, body)[0] == 409
    assert witness.evidence(LEDGER.origin) == [body]
    assert [one.contradictions for one in witness.seen()] == [1]


def test_a_second_root_of_one_size_is_evidence_whatever_old_size_goes_with_it(witness: Witness) -> None:
    """Whoever comes by a fork does not know what the witness has seen; it is told the size, as always."""
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    body = Ledger("bi", "forked", 1).ask(0, 3)
    assert witness.add_checkpoint(body, NOW) == Stale(3)
    assert witness.evidence(LEDGER.origin) == [body]
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)  # the true one, once more, is none
    assert [one.contradictions for one in witness.seen()] == [1]


def test_a_fork_or_a_proof_that_does_not_hold_is_422_and_no_proof_of_a_lie(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    fork = Ledger("bi", "forked", 2).ask(3, 9)
    assert refused(witness, fork) == (422, "root_mismatch", "request.path")
    asked = read_add_checkpoint(LEDGER.ask(3, 9))
    for path in ((), asked.path[:-1], (*asked.path, asked.path[0]), asked.path[::-1]):
        assert refused(witness, AddCheckpoint(3, path, asked.checkpoint).dumps())[0] == 422
    assert witness.evidence(LEDGER.origin) == []
    assert witness.evidence(LEDGER.origin, "root_mismatch")[0] == fork
    assert [(one.contradictions, one.unproved) for one in witness.seen()] == [(0, 5)]
    assert sizes(witness) == {LEDGER.origin: 3}
    assert isinstance(witness.add_checkpoint(LEDGER.ask(3, 9), NOW), Cosigned)


def test_a_first_request_brings_no_proof(witness: Witness) -> None:
    asked = read_add_checkpoint(LEDGER.ask(0, 3))
    assert refused(witness, AddCheckpoint(0, (bytes(32),), asked.checkpoint).dumps())[0] == 422


def test_evidence_has_a_bound(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 2), NOW)
    checkpoint = read_add_checkpoint(Ledger("bi", "forked", 1).ask(2, 3)).checkpoint
    for n in range(105):
        refused(witness, AddCheckpoint(2, (n.to_bytes(32, "big"),), checkpoint).dumps())
    assert len(witness.evidence(LEDGER.origin, "root_mismatch")) == 100
    refused(witness, Ledger("bi", "forked", 1).ask(2, 2))
    assert len(witness.evidence(LEDGER.origin)) == 1


def test_the_time_of_a_cosignature_never_goes_back(witness: Witness) -> None:
    witness.add_checkpoint(LEDGER.ask(0, 3), NOW)
    answer = witness.add_checkpoint(LEDGER.ask(3, 4), NOW - 3600)
    assert isinstance(answer, Cosigned)
    assert answer.at == NOW
    assert [(one.at, one.advanced_at) for one in witness.seen()] == [(NOW, NOW)]
    witness.add_checkpoint(LEDGER.ask(4, 4), NOW + 60)
    assert [(one.at, one.advanced_at) for one in witness.seen()] == [(NOW + 60, NOW)]


# ---------------------------------------------------------------------------------------------------------------------
# Which ledgers, which keys, which file


def test_an_operator_adds_and_takes_out_ledgers_while_it_runs(tmp_path: Path, witness: Witness) -> None:
    other = Ledger("tn")
    assert refused(witness, other.ask(0, 3))[0] == 404
    logs_file(tmp_path, LEDGER, other)
    assert isinstance(witness.add_checkpoint(other.ask(0, 3), NOW), Cosigned)
    logs_file(tmp_path, LEDGER)
    assert refused(witness, other.ask(3, 4))[0] == 404
    logs_file(tmp_path, other)
    assert isinstance(witness.add_checkpoint(other.ask(3, 4), NOW), Cosigned)


def test_a_list_of_ledgers_that_cannot_be_read_stops_it(tmp_path: Path, witness: Witness) -> None:
    (tmp_path / "logs.policy").write_text("log nonsense\n")
    assert refused(witness, LEDGER.ask(0, 3)) == (503, "unavailable", "witness.logs")
    (tmp_path / "logs.policy").unlink()
    assert refused(witness, LEDGER.ask(0, 3)) == (503, "unavailable", "witness.logs")
    logs_file(tmp_path, LEDGER)
    assert isinstance(witness.add_checkpoint(LEDGER.ask(0, 3), NOW), Cosigned)


def test_a_witness_without_its_memory_does_not_begin_again(tmp_path: Path, logs: WitnessedLogs) -> None:
    path = tmp_path / "witness.db"
    for _ in range(2):
        with pytest.raises(LogError) as caught:
            Witness.open(path, SIGNERS, logs)
        assert (caught.value.code, caught.value.path) == ("unavailable", "witness.state")
        path.write_bytes(b"")
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(LogError):
        Witness.open(path, SIGNERS, logs)


def test_another_witnesss_memory_is_not_its_own(tmp_path: Path, logs: WitnessedLogs, witness: Witness) -> None:
    witness.close()
    with pytest.raises(LogError) as caught:
        Witness.open(tmp_path / "witness.db", witness_signers("iom"), logs)
    assert (caught.value.code, caught.value.path) == ("unavailable", "witness.key")
    with pytest.raises(FileExistsError):
        Witness.create(tmp_path / "witness.db", SIGNERS)


def test_its_file_is_its_own(tmp_path: Path, witness: Witness) -> None:
    assert (tmp_path / "witness.db").stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="cosignature"):
        Witness.create(tmp_path / "other.db", LEDGER.signers)
    with pytest.raises(ValueError, match="one name"):
        Witness.create(tmp_path / "other.db", [*SIGNERS, *witness_signers("iom")])


# ---------------------------------------------------------------------------------------------------------------------
# Two at once, and deaths


class Asking(threading.Thread):
    """One request in a thread of its own, sent when the others are ready too."""

    def __init__(self, witness: Witness, body: bytes, start: threading.Barrier) -> None:
        super().__init__()
        self._witness, self._body, self._start = witness, body, start
        self.answer: Cosigned | Stale | None = None

    def run(self) -> None:
        self._start.wait()
        self.answer = self._witness.add_checkpoint(self._body, NOW)


def test_two_histories_offered_at_once_are_never_both_cosigned(tmp_path: Path, witness: Witness) -> None:
    """Two processes over one file, as two gateways of a domain have: each is asked for another branch."""
    witness.add_checkpoint(LEDGER.ask(0, 2), NOW)
    second = Witness.open(tmp_path / "witness.db", SIGNERS, WitnessedLogs(tmp_path / "logs.policy"))
    history = LEDGER
    for size in range(3, 11):
        branches = [Ledger("bi", f"{name} {size}", size - 1, history) for name in ("one", "other")]
        start = threading.Barrier(2)
        pairs = zip((witness, second), branches, strict=True)
        asking = [Asking(one, branch.ask(size - 1, size), start) for one, branch in pairs]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        [history] = [branch for branch, one in zip(branches, asking, strict=True) if isinstance(one.answer, Cosigned)]
        assert [one.answer for one in asking if not isinstance(one.answer, Cosigned)] == [Stale(size)]
    second.close()


@pytest.mark.parametrize("seed", range(12))
def test_after_a_power_cut_it_knows_all_that_it_signed_and_signs_nothing_else(tmp_path: Path, seed: int) -> None:
    logs = logs_file(tmp_path, LEDGER)
    disk = PowerCutVFS(f"witness-{seed}", seed=seed)
    path, dice = Path("/witness.db"), random.Random(seed)
    Witness.create(path, SIGNERS[:1], vfs=disk.name)
    signed: list[int] = []
    for _ in range(6):
        witness = Witness.open(path, SIGNERS[:1], logs, vfs=disk.name)
        known = sizes(witness).get(LEDGER.origin, 0)
        assert known >= max(signed, default=0)
        if known:
            assert refused(witness, Ledger("bi", "fork", 0).ask(known, known + 1))[0] == 422
        disk.crash_after(dice.randint(1, 30))
        with pytest.raises((PowerCut, LogError)):
            _cosign_on(witness, known, signed)
        disk.reset_after_cut()
    assert signed


def _cosign_on(witness: Witness, known: int, signed: list[int]) -> None:
    for size in range(known, known + 12):
        answer = witness.add_checkpoint(LEDGER.ask(size, size + 1), NOW)
        assert isinstance(answer, Cosigned)
        signed.append(answer.size)


def test_killed_at_any_moment_it_goes_on_from_what_it_said(tmp_path: Path) -> None:
    logs = logs_file(tmp_path, LEDGER)
    Witness.create(tmp_path / "witness.db", SIGNERS[:1])
    dice, said = random.Random(7), 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.topics.witness_child", str(tmp_path), "", str(said), str(said + 60)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            until = dice.randint(3, 40)
            for line in child.stdout:
                said = int(line)
                until -= 1
                if not until:
                    child.send_signal(signal.SIGKILL)
                    break
            said = max([said, *(int(line) for line in child.stdout if line.endswith("\n"))])
        witness = Witness.open(tmp_path / "witness.db", SIGNERS[:1], logs)
        known = sizes(witness)[LEDGER.origin]
        assert said <= known <= said + 1
        assert refused(witness, Ledger("bi", "fork", 0).ask(known, known + 1))[0] == 422
        assert isinstance(witness.add_checkpoint(LEDGER.ask(known, known + 1), NOW), Cosigned)
        witness.close()
        said = known + 1
