# SPDX-License-Identifier: Apache-2.0
"""A witness in a process of its own, to be killed: cosigns the ledger's heads one by one and says each that it did."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.domain import NOW
from tests.trees import Ledger, witness_signers
from topics.witness import Cosigned, Witness, WitnessedLogs

if __name__ == "__main__":
    folder, branch, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ledger = Ledger("bi", branch, 0 if branch else 10**9)
    witness = Witness.open(folder / "witness.db", witness_signers("tn")[:1], WitnessedLogs(folder / "logs.policy"))
    asks = [ledger.ask(size, size + 1) for size in range(first, last)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for size, ask in enumerate(asks, first):
        answer = witness.add_checkpoint(ask, NOW + size)
        if isinstance(answer, Cosigned):
            sys.stdout.write(f"{answer.size}\n")
            sys.stdout.flush()
