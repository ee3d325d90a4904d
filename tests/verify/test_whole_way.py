# SPDX-License-Identifier: Apache-2.0
"""What a gateway, a sequencer and a witness of ours really give out, checked with files and `docs/verify` alone."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from schemas.keys import b64url
from schemas.notes import NoteSigner, SignatureType
from schemas.proof_texts import TlogProof
from tests.domain import Signed, seeded
from tests.gateway import gateway_world
from tests.topics import ledger_world
from tests.verify.verifiers import Verifier
from topics.log import Appended, grants_topic
from topics.proofs import inclusion_proof

WITNESS = NoteSigner.generate("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("verify/tn"))


def _said(verifier: Verifier, folder: Path, *words: str) -> str:
    ran = subprocess.run([*verifier.by_hand, *words], cwd=folder, capture_output=True, encoding="utf-8", timeout=180)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_record_sealed_and_sent_through_a_gateway_is_opened_and_its_promise_believed(
    tmp_path: Path, by_node: Verifier, by_java: Verifier
) -> None:
    async def sent() -> tuple[Signed, bytes, bytes]:
        world = gateway_world.World(tmp_path)
        async with world.opened() as gateway:
            log, record = world.log(gateway), world.domain.record()
            await log.put_grants(grants_topic(record.manifest.to), record.grant_puts())
            [answer] = await log.append([record.entry])
            await log.close()
        assert isinstance(answer, Appended)
        assert answer.promise is not None
        return record, answer.promise, world.gateway_key.public

    record, promise, gateway_key = asyncio.run(sent())
    (tmp_path / "record").write_bytes(record.value)
    (tmp_path / "promise").write_bytes(promise)
    sender = b64url(gateway_world.World(tmp_path).domain.members["bi/iom"].sig.public.public)
    keys = [f"{name}={b64url(key)}" for name, key in record.keys.items()]
    for verifier, opened in ((by_node, "opened with the key"), (by_java, "opened / ouverte")):
        assert _said(verifier, tmp_path, "record", "record", sender, *keys).count(opened) == len(keys)
        told = _said(verifier, tmp_path, "promise", "promise", b64url(gateway_key), "bi", "record")
        assert record.manifest.evt in told


def test_a_receipt_of_a_real_ledger_with_two_signatures_and_a_witness_is_believed(
    tmp_path: Path, by_node: Verifier, by_java: Verifier
) -> None:
    world = ledger_world.World(tmp_path)

    async def work() -> None:
        records = [world.domain.record() for _ in range(5)]
        await world.put(*records)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        published = world.checkpoints().publish(sequencer.view)
        assert published is not None
        head, view = published.checkpoint, sequencer.view
        cosigned = published.note.with_signatures([WITNESS.sign(head.text, world.domain.now)])
        for index in (0, 3):
            path = tuple(inclusion_proof(view.nodes(head.size), index, head.size))
            receipt = TlogProof(index, path, cosigned.dumps(), view.entry(index))
            (tmp_path / f"receipt-{index}").write_bytes(receipt.dumps())
            (tmp_path / f"record-{index}").write_bytes(records[index].value)

    world.run(work)
    keys = [*(one.public.vkey for one in ledger_world.SIGNERS), WITNESS.public.vkey]
    for verifier in (by_node, by_java):
        for index in (0, 3):
            told = _said(verifier, tmp_path, "receipt", f"receipt-{index}", f"record-{index}", *keys)
            assert WITNESS.name in told
            assert "ML-DSA-44" in told, "what is not checked is said"
