# SPDX-License-Identifier: Apache-2.0
"""Which ledgers are believed when a registry announces them and a policy names them too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.ledgers import AnnouncedLedger
from schemas.notes import NoteKey, NoteSigner, SignatureType
from schemas.trust_policy import NONE, TrustedLog, TrustedWitness, TrustPolicy
from tests.domain import seeded
from topics.believed_ledgers import believed_ledgers, ledgers_of

FIRST, SECOND, ABROAD = "bi.umuhuza/log", "bi.umuhuza/log2", "tn.umuhuza/log"


def key(origin: str, seed: str = "", kind: SignatureType = SignatureType.ED25519) -> NoteKey:
    return NoteSigner.generate(origin, kind, seeded(f"{origin}{seed}")).public


def policy(*keys: NoteKey) -> TrustPolicy:
    return TrustPolicy(tuple(TrustedLog(one) for one in keys), (), (), NONE)


def announced(*keys: NoteKey) -> list[AnnouncedLedger]:
    origins = dict.fromkeys(one.name for one in keys)
    return [AnnouncedLedger(name, tuple(one for one in keys if one.name == name), 1) for name in origins]


OLD, NEW, ML_DSA = key(FIRST), key(SECOND), key(FIRST, kind=SignatureType.ML_DSA_44)


@pytest.mark.parametrize(
    ("named", "said", "believed", "differs"),
    [
        ([OLD], [], [OLD], []),
        ([OLD], [OLD, NEW], [OLD, NEW], []),
        ([OLD], [OLD, ML_DSA, NEW], [OLD, NEW], []),  # a policy may be narrower
        ([], [OLD, NEW], [OLD, NEW], []),
        ([OLD, NEW], [OLD], [OLD], [SECOND]),  # nobody announced it
        ([OLD, key(SECOND, "other")], [OLD, NEW], [OLD], [SECOND]),  # whose keys are right?
        ([OLD, key(FIRST, "other")], [OLD, NEW], [OLD, NEW], [FIRST]),  # those that both name
    ],
)
def test_what_both_name_is_believed_and_the_rest_is_told(
    named: list[NoteKey], said: list[NoteKey], believed: list[NoteKey], differs: list[str]
) -> None:
    found = believed_ledgers(policy(*named), announced(*said), "bi")
    assert [one.key for one in found.policy.logs] == believed
    assert found.differs == tuple(differs)
    told = found.trouble
    assert (None if told is None else (told.code, told.path)) == (("ledger_differs", "trust") if differs else None)


def test_the_one_that_counts_is_the_last_that_the_registry_announces_and_witnesses_stay_the_policys() -> None:
    witness = NoteSigner.generate("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("witness")).public
    before = replace(policy(OLD, key(ABROAD)), witnesses=(TrustedWitness("tn", witness),), quorum="tn")
    found = believed_ledgers(before, announced(OLD, NEW), "bi").policy
    assert ledgers_of(found, "bi") == (FIRST, SECOND)
    assert ledgers_of(found, "tn") == (ABROAD,)
    assert not found.met_by(())
    assert found.met_by(["tn"])


def test_a_ledger_that_is_announced_with_a_witnesss_key_is_not_its_own_witness() -> None:
    both = key(SECOND, kind=SignatureType.ML_DSA_44)
    before = replace(policy(OLD), witnesses=(TrustedWitness("tn", both),), quorum="tn")
    assert [one.key for one in believed_ledgers(before, announced(OLD, both), "bi").policy.logs] == [OLD]
