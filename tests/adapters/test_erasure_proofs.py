# SPDX-License-Identifier: Apache-2.0
"""Whoever commanded an erasure sees that it was executed when the ledger has said so, and keeps the proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.erasure_proofs import CommandedErasure, ErasureProofs
from schemas.errors import LogError
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from tests.adapters.town_ledger import Ledger
from tests.agencies import Agencies, referral
from tests.topics.ledger_world import ORIGIN, SIGNERS
from topics.receipts import check_receipt

POLICY = TrustPolicy(tuple(TrustedLog(one.public) for one in SIGNERS), (), (), NONE)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


@pytest.fixture
def ledger(town: Agencies) -> Iterator[Ledger]:
    made = Ledger(town)
    yield made
    made.close()


def command(town: Agencies) -> str:
    """A referral that arrived, and that IOM wants erased; its ident."""
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    town.settle()
    iom.runner.inbox.corrections.erase(f"bi/iom/{evt}", "person")
    town.settle()
    return f"bi/iom/{evt}"


def carry_out(town: Agencies, target: str) -> None:
    """As gateways do."""
    kid = town.domain.members["bi/k7t4"].seal.kid
    town.run(town.log.delete_grants("bi.grants.k7t4", [f"{target}|{kid}"]))


def ask(town: Agencies, ledger: Ledger) -> list[CommandedErasure]:
    proofs = ErasureProofs(town["bi/iom"].box)
    town.run(proofs.ask(ledger, POLICY, ORIGIN))
    return proofs.commanded()


def test_executed_is_said_once_the_ledger_has_and_with_a_proof_that_anybody_can_check(
    town: Agencies, ledger: Ledger
) -> None:
    target = command(town)
    assert town.run(town.log.grants_left({target})) == {target}
    ledger.step()
    [one] = ask(town, ledger)
    assert (one.records, one.peer, one.proof) == ((target,), "bi/k7t4", None), "commanded, logged, not executed"
    ledger.erase()
    [one] = ask(town, ledger)
    assert one.proof is None, "the ledger has looked, and the key is there"
    carry_out(town, target)
    size = ledger.erase()
    [one] = ask(town, ledger)
    assert one.proof is not None
    assert (one.proof.level, one.proof.final, one.proof.index) == ("logged", True, size - 1)
    read = check_receipt(one.proof.data, POLICY, ORIGIN)
    assert (read.entry.kind, read.entry.topic) == ("erased", "bi.rights.k7t4")
    proofs = ErasureProofs(town["bi/iom"].box)
    assert (proofs.due(), proofs.held()) == ([], [one.proof.data]), "kept, and asked for no more"


def test_the_entry_of_the_command_or_of_another_erasure_is_no_proof_that_it_was_executed(
    town: Agencies, ledger: Ledger
) -> None:
    for _ in range(2):
        target = command(town)
        carry_out(town, target)
    ledger.step()
    ledger.erase()
    proofs = ErasureProofs(town["bi/iom"].box)

    class Commanded:
        async def erased(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            return await ledger.receipts(l1_sha256)

    class Exchanged:
        async def erased(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
            return list(reversed(await ledger.erased(l1_sha256)))

    for liar in (Commanded(), Exchanged()):
        with pytest.raises(LogError, match="root_mismatch"):
            town.run(proofs.ask(liar, POLICY, ORIGIN))
        assert [one.proof for one in proofs.commanded()] == [None, None]
    assert all(one.proof is not None for one in ask(town, ledger))
