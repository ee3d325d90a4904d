# SPDX-License-Identifier: Apache-2.0
"""Invented ledgers for tests: trees over numbered entries, signed, with their proofs."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.notes import Checkpoint, NoteKey, NoteSigner, SignatureType, sign_checkpoint
from schemas.proof_texts import AddCheckpoint, TlogProof
from tests.domain import NOW, seeded
from topics.proofs import consistency_proof, inclusion_proof, leaf_hash, levels, node_in, root


def log_signers(domain: str) -> list[NoteSigner]:
    """A ledger's two keys."""
    return [
        NoteSigner.generate(f"{domain}.umuhuza/log", kind, seeded(f"ledger/{domain}/{kind}"))
        for kind in (SignatureType.ED25519, SignatureType.ML_DSA_44)
    ]


def witness_signers(domain: str) -> list[NoteSigner]:
    """A witness's two keys."""
    return [
        NoteSigner.generate(f"{domain}.umuhuza/witness", kind, seeded(f"witness/{domain}/{kind}"))
        for kind in (SignatureType.COSIGNATURE, SignatureType.ML_DSA_44)
    ]


@dataclass
class Ledger:
    """One ledger, as long as asked for; `branch` makes another history from entry `fork` on, that of `base` before."""

    domain: str = "bi"
    branch: str = ""
    fork: int = 0
    base: Ledger | None = None
    signers: list[NoteSigner] = field(init=False)

    def __post_init__(self) -> None:
        self.signers = log_signers(self.domain)

    @property
    def origin(self) -> str:
        return f"{self.domain}.umuhuza/log"

    @property
    def keys(self) -> list[NoteKey]:
        return [signer.public for signer in self.signers]

    def entry(self, index: int) -> bytes:
        if index < self.fork and self.base is not None:
            return self.base.entry(index)
        history = self.branch if index >= self.fork else ""
        return f"umuhuza-entry/1\nevent\n{self.domain}.referral.k7t4\n{index}\n{history}\n".encode()

    def leaves(self, size: int) -> list[bytes]:
        return [leaf_hash(self.entry(index)) for index in range(size)]

    def head(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, root(self.leaves(size)))

    def checkpoint(self, size: int, at: int = NOW) -> bytes:
        return sign_checkpoint(self.head(size), self.signers, at)

    def ask(self, old: int, size: int, at: int = NOW) -> bytes:
        """An `add-checkpoint` request."""
        node = node_in(levels(self.leaves(size)))
        return AddCheckpoint(old, tuple(consistency_proof(node, old, size)), self.checkpoint(size, at)).dumps()

    def proof(self, index: int, size: int, checkpoint: bytes | None = None) -> TlogProof:
        path = inclusion_proof(node_in(levels(self.leaves(size))), index, size)
        return TlogProof(index, tuple(path), checkpoint or self.checkpoint(size), self.entry(index))
