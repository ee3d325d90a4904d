# SPDX-License-Identifier: Apache-2.0
"""What an audit asks of each record by itself: is it the one entered, and does it count? Here, or in a process.

    python -m topics.audit_checker        answers on standard output what is asked on standard input, in order

Signatures take most of an audit's time and hold the interpreter's lock, so processes share them out over the cores
(docs/decisions/0017, 0035). A process holds no key, no file and no network, knows the registry that it was last given,
and ends when its input does. Messages are `topics.process_messages`:

    {"registry":{...}}, or null                          no answer
    {"lines":[[topic, at_ms, hash, length],...]}         one of the three each, in order:
        reason                                           nothing more is said of it (`Unjudged`)
        [problem]                                        it does not count, and why
        [kid, hash, iss, evt, topic, seq, prev, voids, erase, grant]

Must never put anything else of a record into what it answers, nor raise for anything that a record can hold.
"""

from __future__ import annotations

import gc
import hashlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, BinaryIO, TypeAlias

from schemas.errors import RegistryError, UmuhuzaError
from schemas.registry import Registry, registry_from_json
from topics.process_messages import error_of, message, opened, problem_of, read_message
from topics.verification import Verified, verify_logged


@dataclass(frozen=True, slots=True)
class Asked:
    """A record at its place, and the hash under which it was entered."""

    topic: str
    at_ms: int
    """The log's time, milliseconds since the epoch."""
    value: bytes
    value_sha256: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """What an audit goes on with of a record that counts."""

    kid: str
    l1_sha256: bytes
    iss: str
    evt: str
    topic: str
    seq: int
    prev: str
    voids: tuple[int, ...]
    erase: tuple[str, ...]
    """Records whose keys it makes gateways delete."""
    grant: tuple[str, ...]
    """Records of which it brings keys to its recipient."""

    @property
    def ident(self) -> str:
        return f"{self.iss}/{self.evt}"


class Unjudged(Enum):
    """Why nothing more is said of a record."""

    REWRITTEN = "rewritten"
    """It is not the one that was entered."""
    NO_REGISTRY = "no registry"
    """It is, and there is no registry to ask."""


Judged: TypeAlias = Counted | UmuhuzaError | Unjudged


def judge(registry: Registry | None, one: Asked) -> Judged:
    """Ask both questions."""
    if hashlib.sha256(one.value).digest() != one.value_sha256:
        return Unjudged.REWRITTEN
    if registry is None:
        return Unjudged.NO_REGISTRY
    return counted_by(registry, one.topic, one.at_ms, one.value)


def counted_by(registry: Registry, topic: str, at_ms: int, value: bytes) -> Counted | UmuhuzaError:
    """What this version says of a record that stands behind its entry: as the log's time says, and a key that it
    revokes counts no more, whatever that time is."""
    found = verify_logged(registry, topic, at_ms, value)
    if not isinstance(found, Verified):
        return found
    if registry.revokes(found.manifest.iss, found.kid):
        return RegistryError("key_revoked")
    return counted(found)


def counted(found: Verified) -> Counted:
    """What is gone on with of a record that counts."""
    said = found.manifest
    erase, grant = ((), ()) if said.acts is None else (said.acts.erase, said.acts.grant)
    place = (said.iss, said.evt, said.topic)
    return Counted(found.kid, found.l1_sha256, *place, said.seq, said.prev, said.voids, erase, grant)


# ---------------------------------------------------------------------------------------------------------------------
# As a process


def question(asked: Sequence[Asked]) -> bytes:
    """As it travels."""
    lines = [[one.topic, one.at_ms, one.value_sha256.hex(), len(one.value)] for one in asked]
    return message({"lines": lines}, [one.value for one in asked])


def told(body: bytes) -> list[Judged]:
    """An answer as it came back."""
    answers, _ = opened(body)
    return [_read(one) for one in answers]


def _read(one: list[Any] | str) -> Judged:
    if isinstance(one, str):
        return Unjudged(one)
    if len(one) == 1:
        return error_of(one[0])
    kid, l1, iss, evt, topic, seq, prev, voids, erase, grant = one
    return Counted(kid, bytes.fromhex(l1), iss, evt, topic, seq, prev, tuple(voids), tuple(erase), tuple(grant))


def _written(one: Judged) -> list[Any] | str:
    if isinstance(one, Unjudged):
        return one.value
    if isinstance(one, UmuhuzaError):
        return [problem_of(one)]
    place = (one.iss, one.evt, one.topic)
    return [one.kid, one.l1_sha256.hex(), *place, one.seq, one.prev, one.voids, one.erase, one.grant]


def answered(body: bytes, registry: Registry | None) -> tuple[bytes | None, Registry | None]:
    """Answer one message; the answer, and the registry from now on."""
    head, place = opened(body)
    if "registry" in head:
        return None, None if head["registry"] is None else registry_from_json(head["registry"])
    answers: list[list[Any] | str] = []
    for topic, at_ms, digest, size in head["lines"]:
        asked = Asked(topic, at_ms, body[place : place + size], bytes.fromhex(digest))
        place += size
        answers.append(_written(judge(registry, asked)))
    return message(answers), registry


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the input ends."""
    registry: Registry | None = None
    while (body := read_message(source)) is not None:
        answer, registry = answered(body, registry)
        if answer is not None:
            sink.write(answer)
            sink.flush()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches the whole group: the audit ends first, and with it this process's input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # modules and code are there for good; records hold no cycles
    gc.set_threshold(50_000, 20, 20)
    main(sys.stdin.buffer, sys.stdout.buffer)
