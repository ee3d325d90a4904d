# SPDX-License-Identifier: Apache-2.0
"""The yardstick of an audit, one core's share of it: SHA-256 and ECDSA verification as the library gives them.

    python -m umuhuza.bench_bare        a process: takes records and orders on standard input, answers in order

What is verified are the signatures of real records over the bytes that were signed; what is hashed are as many bytes
as the records have, out of one buffer. Both lie ready before the clock runs. `ours` is the same signatures as the audit
asks for them: key looked up by agency and time, signature rewritten for the library, answer given as an error.

Messages are `topics.process_messages`: {"registry":{...}}, {"at":seconds,"records":[length,...]} with the records
behind, {"run":name}; every message is answered, a run with its seconds.
"""

from __future__ import annotations

import gc
import hashlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.envelope import MAX_RECORD_BYTES, Record, parse_record
from schemas.keys import der_signature
from schemas.registry import Registry, registry_from_json
from topics.process_messages import message, opened, read_message

_ES256 = ec.ECDSA(hashes.SHA256())
_BUFFER = memoryview(bytes(MAX_RECORD_BYTES))


@dataclass(slots=True)
class Share:
    """Some records' signatures and lengths, in this process."""

    registry: Registry
    at: int = 0
    """Seconds since the epoch, when they were signed."""
    records: list[Record] = field(default_factory=list)
    """Without what is sealed, so that memory stays small."""
    bare_rows: list[tuple[ec.EllipticCurvePublicKey, bytes, bytes]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    _points: dict[str, ec.EllipticCurvePublicKey] = field(default_factory=dict)

    def add(self, values: Sequence[bytes], at: int) -> None:
        """Make them ready."""
        self.at = at
        for value in values:
            record = replace(parse_record(value), value=b"", body=())
            if record.kid not in self._points:
                public = self.registry.signing_key(record.manifest.iss, record.kid, at).public
                self._points[record.kid] = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            self.records.append(record)
            self.bare_rows.append((self._points[record.kid], der_signature(record.signature), record.signed))
            self.sizes.append(len(value))

    def sha256(self) -> None:
        """Of as many bytes."""
        for size in self.sizes:
            hashlib.sha256(_BUFFER[:size]).digest()

    def bare(self) -> None:
        """Every signature, nothing else."""
        for key, signature, signed in self.bare_rows:
            key.verify(signature, signed, _ES256)

    def ours(self) -> None:
        """Every signature as the audit asks."""
        for record in self.records:
            record.verify(self.registry.signing_key(record.manifest.iss, record.kid, self.at))

    def seconds(self, name: str) -> dict[str, float]:
        """CPU time of one of the three, and its time by the clock: {"cpu", "wall"}."""
        runs: dict[str, Callable[[], None]] = {"sha256": self.sha256, "bare": self.bare, "ours": self.ours}
        wall, cpu = time.perf_counter(), time.process_time()
        runs[name]()
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the input ends."""
    share: Share | None = None
    while (body := read_message(source)) is not None:
        head, place = opened(body)
        took: dict[str, float] = {}
        if "registry" in head:
            share = Share(registry_from_json(head["registry"]))
        elif share is not None and "run" in head:
            took = share.seconds(head["run"])
        elif share is not None:
            values = []
            for size in head["records"]:
                values.append(body[place : place + size])
                place += size
            share.add(values, head["at"])
            gc.freeze()
        sink.write(message(took))
        sink.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends first, and with it the input
    main(sys.stdin.buffer, sys.stdout.buffer)
