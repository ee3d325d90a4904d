# SPDX-License-Identifier: Apache-2.0
"""Which ledgers and witnesses are believed, and how many witnesses must have signed (c2sp.org/tlog-policy).

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

A text that an operator reads and writes: one thing a line, `#` begins a comment, names are defined before they are
used. The names mean something in this file only. A witness with two keys (Ed25519 and ML-DSA-44) is two lines and a
group. The same file without witnesses says which ledgers a witness cosigns.

Invariants: one quorum line; no key twice, no name twice, no name in two groups, so that nobody counts twice, nor a
ledger as its own witness. A checkpoint that is believed has a signature of its own ledger and cosignatures that meet
the quorum; one wrong signature by a key of this file refuses it.

Pure: bytes in, bytes out, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import LogError
from schemas.notes import (
    NoteKey,
    SignatureType,
    SignedCheckpoint,
    malformed,
    read_checkpoint_text,
    read_note,
    read_vkey,
    verify_note,
)

MAX_POLICY_BYTES = 512 * 1024
MAX_LINES_OF_A_KIND = 64
"""Ledgers, witnesses, groups; the standard asks for 32 of each at least."""
NONE = "none"
_LEDGERS = (SignatureType.ED25519, SignatureType.ML_DSA_44)
_WITNESSES = (SignatureType.COSIGNATURE, SignatureType.ML_DSA_44)


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A key of a ledger; a ledger with two keys stands on two lines."""

    key: NoteKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedWitness:
    """A key of a witness, under a name of this file."""

    name: str
    key: NoteKey
    url: str | None = None
    """Its submission prefix: `<url>/add-checkpoint`."""


def is_foreign(witness: TrustedWitness, origin: str) -> bool:
    """Whether another domain than the ledger's keeps this witness, by their names (`tn.umuhuza/witness`)."""
    return witness.key.name.partition("/")[0] != origin.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Group:
    """Counts as having signed when `least` of its members do."""

    name: str
    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A policy as it was read; `read_policy` keeps its rules."""

    logs: tuple[TrustedLog, ...]
    witnesses: tuple[TrustedWitness, ...]
    groups: tuple[Group, ...]
    quorum: str
    """A witness, a group, or `none`."""

    def log_keys(self, origin: str) -> tuple[NoteKey, ...]:
        """The keys of one ledger; none when it is not known."""
        return tuple(log.key for log in self.logs if log.key.name == origin)

    def met_by(self, names: Collection[str]) -> bool:
        """Whether cosignatures by these witnesses, by their names here, are enough."""
        met = set(names) & {witness.name for witness in self.witnesses}
        for group in self.groups:  # members stand before the group
            if sum(member in met for member in group.members) >= group.least:
                met.add(group.name)
        return self.quorum == NONE or self.quorum in met

    def dumps(self) -> bytes:
        """As text, without comments; groups as `all`, `any` or a number."""
        lines = [_line("log", one.key.vkey, one.url) for one in self.logs]
        lines += [_line("witness", one.name, one.key.vkey, one.url) for one in self.witnesses]
        lines += [_line("group", one.name, _threshold(one), *one.members) for one in self.groups]
        return "".join([*lines, f"quorum {self.quorum}\n"]).encode("utf-8", "surrogateescape")


def _line(*words: str | None) -> str:
    return " ".join(word for word in words if word is not None) + "\n"


def _threshold(group: Group) -> str:
    if group.least == len(group.members):
        return "all"
    return "any" if group.least == 1 else str(group.least)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_policy(data: bytes) -> TrustPolicy:
    """Read a policy file.

    Raises:
        LogError: note_malformed at `policy line <n>`, or at `policy` when there is no quorum; too_large.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise LogError("too_large", "policy", expected=MAX_POLICY_BYTES)
    reading = _Reading()
    # Bytes above 0x7F are opaque to the standard: they come back out as they went in.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if any((ord(char) < 0x20 and char != "\t") or char == "\x7f" for char in set(line)):
            raise malformed(f"policy line {number}")
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if words and not words[0].startswith("#"):
            try:
                reading.take(words)
            except (LogError, ValueError):
                raise malformed(f"policy line {number}") from None
    if reading.quorum is None:
        raise malformed("policy")
    return TrustPolicy(tuple(reading.logs), tuple(reading.witnesses), tuple(reading.groups), reading.quorum)


class _Reading:
    """What the lines so far have defined. Raises ValueError or LogError for a line that may not follow them."""

    def __init__(self) -> None:
        self.logs: list[TrustedLog] = []
        self.witnesses: list[TrustedWitness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._free: set[str] = set()
        """Names that are in no group yet."""
        self._defined: set[str] = {NONE}

    def take(self, words: list[str]) -> None:
        kind, arguments = words[0], words[1:]
        if kind == "log" and len(arguments) in (1, 2):
            key = _key(arguments[0], _LEDGERS, self._keys())
            self.logs.append(TrustedLog(key, _url(arguments[1:])))
        elif kind == "witness" and len(arguments) in (2, 3):
            key = _key(arguments[1], _WITNESSES, self._keys())
            self.witnesses.append(TrustedWitness(self._new(arguments[0]), key, _url(arguments[2:])))
        elif kind == "group" and len(arguments) > 2:
            self.groups.append(self._group(arguments))
        elif kind == "quorum" and len(arguments) == 1 and self.quorum is None and arguments[0] in self._defined:
            self.quorum = arguments[0]
        else:
            raise ValueError("line")
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > MAX_LINES_OF_A_KIND:
            raise ValueError("too many")

    def _keys(self) -> list[NoteKey]:
        """All so far: a ledger is nobody's witness, and its own least of all."""
        return [*(one.key for one in self.logs), *(one.key for one in self.witnesses)]

    def _new(self, name: str) -> str:
        if name in self._defined:
            raise ValueError("name")
        self._defined.add(name)
        self._free.add(name)
        return name

    def _group(self, arguments: list[str]) -> Group:
        name, threshold, *members = arguments
        if len(set(members)) != len(members) or not set(members) <= self._free:
            raise ValueError("members")
        if threshold in ("all", "any"):
            least = len(members) if threshold == "all" else 1
        elif threshold.isascii() and threshold.isdigit() and len(threshold) < 4 and threshold[0] != "0":
            least = int(threshold)
        else:
            raise ValueError("threshold")
        if least > len(members):
            raise ValueError("threshold")
        self._free -= set(members)
        return Group(self._new(name), least, tuple(members))


def _key(text: str, kinds: Collection[SignatureType], known: Iterable[NoteKey]) -> NoteKey:
    key = read_vkey(text)
    if key.kind not in kinds or any(other.public == key.public for other in known):
        raise ValueError("key")
    return key


def _url(words: list[str]) -> str | None:
    if not words:
        return None
    [url] = words
    if not url.isascii() or not url.startswith(("https://", "http://")):
        raise ValueError("url")
    return url.rstrip("/")


# ---------------------------------------------------------------------------------------------------------------------
# Applying


@dataclass(frozen=True, slots=True)
class Endorsed:
    """A checkpoint that is believed under a policy."""

    signed: SignedCheckpoint
    by: Mapping[str, int]
    """Witnesses that cosigned it, by their names in the policy, and when, seconds since the epoch."""


def read_endorsed(data: bytes, policy: TrustPolicy, origin: str) -> Endorsed:
    """A checkpoint of ledger `origin` with every cosignature by a witness of the policy, whether or not they suffice.

    Raises:
        LogError: note_malformed, too_large; log_unknown, the policy has no key of that ledger, or the checkpoint is
            another's; signature_invalid.
    """
    note = read_note(data)
    checkpoint = read_checkpoint_text(note.text)
    own = policy.log_keys(origin)
    if not own or checkpoint.origin != origin:
        raise LogError("log_unknown", "checkpoint.origin")
    # All at once: one wrong signature by any key of the policy refuses the note.
    signed = verify_note(note, [*own, *(witness.key for witness in policy.witnesses)])
    by_ledger = tuple(one for one in signed if one.key in own)
    if not by_ledger:
        raise LogError("signature_invalid", "note.signatures")
    stated = {one.key: one.at for one in signed}
    by = {one.name: at for one in policy.witnesses if (at := stated.get(one.key)) is not None}
    return Endorsed(SignedCheckpoint(checkpoint, note, by_ledger), by)


def endorse(data: bytes, policy: TrustPolicy, origin: str) -> Endorsed:
    """A checkpoint of ledger `origin` that this policy believes.

    Raises:
        LogError: as `read_endorsed`; quorum_missing, too few witnesses have signed.
    """
    read = read_endorsed(data, policy, origin)
    if not policy.met_by(read.by):
        raise LogError("quorum_missing", "checkpoint", expected=policy.quorum)
    return read
