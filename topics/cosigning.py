# SPDX-License-Identifier: Apache-2.0
"""Cosignatures for a ledger: asks witnesses, keeps what they answered, and says who has been silent for too long.

In a ledger's folder, each replaced atomically:

    witnesses.policy   whom to ask and how many must sign (`schemas.trust_policy`); an operator's
    cosigned           the largest checkpoint that any witness of the policy has cosigned
    endorsed           the newest checkpoint whose cosignatures meet the quorum
    witnesses.json     per witness: what it cosigned last, when we heard it, and what it answered last

One round (`ask`) sends the ledger's newest checkpoint to every witness with the proof that it follows what that witness
saw last. A checkpoint that has not grown is sent too: each round is also the sign of life that `silent` goes by. The
ledger never waits for any of this.

If we crash: a witness may have cosigned what we did not keep. It then tells its size, and the next round goes on from
there. Must never: keep a signature that was not verified, or take a witness's clock for ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx2
import orjson

from schemas import ijson
from schemas.errors import LogError
from schemas.notes import (
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    SignedCheckpoint,
    read_decimal,
    read_signature_lines,
    verify_checkpoint,
    verify_note,
)
from schemas.proof_texts import AddCheckpoint
from schemas.trust_policy import Endorsed, TrustedWitness, TrustPolicy, read_endorsed, read_policy
from topics.durable_file import keep_file
from topics.proofs import consistency_proof
from topics.tiles import TileId, node_of_tiles
from topics.witness import SIZE_TYPE

POLICY_FILE, COSIGNED_FILE, ENDORSED_FILE, FACTS_FILE = "witnesses.policy", "cosigned", "endorsed", "witnesses.json"
SILENT_S = 86_400
"""A witness that was not heard for so long is missing: somebody has to be told."""
ASK_SECONDS = 10.0
_MAX_FACTS_BYTES = 256 * 1024
_MAX_TIME = (1 << 53) - 1
_REFUSALS = {400: "note_malformed", 403: "signature_invalid", 404: "log_unknown", 422: "log_inconsistent"}


class LedgerSource(Protocol):
    """Where a ledger's head and tiles are read; both raise LogError."""

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint."""

    def tile(self, tile: TileId) -> bytes:
        """The bytes of one tile of hashes."""


class HttpLedger:
    """A ledger as it serves itself (c2sp.org/tlog-tiles).

    Args:
        prefix: `https://bi.example/v1/log`.
    """

    def __init__(self, client: httpx2.Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix.rstrip("/")

    def checkpoint(self) -> bytes:
        return self._get("checkpoint")

    def tile(self, tile: TileId) -> bytes:
        return self._get(tile.path)

    def _get(self, path: str) -> bytes:
        """Raises LogError `unavailable`."""
        try:
            status, _, data = _asked(self._client, "GET", f"{self._prefix}/{path}")
        except LogError:
            status, data = 0, b""
        if status != 200:
            raise LogError("unavailable", "ledger")
        return data


def _asked(client: httpx2.Client, method: str, url: str, content: bytes | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body. No more is read of it than there can be, nor for longer than `ASK_SECONDS`: who
    answers may want the ledger to run out of memory, or nobody else to be heard.

    Raises LogError `unavailable`, `too_large` (path `witness`).
    """
    until = time.monotonic() + ASK_SECONDS
    data = b""
    try:
        # Packed answers are not asked for: a few bytes could unpack to any number.
        plain = {"accept-encoding": "identity"}
        with client.stream(method, url, content=content, headers=plain, timeout=ASK_SECONDS) as answer:
            if "content-encoding" in answer.headers:
                raise LogError("unavailable", "witness")
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > MAX_NOTE_BYTES:
                    raise LogError("too_large", "witness", expected=MAX_NOTE_BYTES)
                if time.monotonic() > until:
                    raise LogError("unavailable", "witness")
    except httpx2.HTTPError:
        raise LogError("unavailable", "witness") from None
    return answer.status_code, answer.headers.get("content-type", ""), data


@dataclass(frozen=True, slots=True)
class WitnessFact:
    """What we know of one witness, by its name in the policy."""

    name: str
    size: int = 0
    """Of the last checkpoint that it cosigned for us."""
    at: int = 0
    """The time that its last cosignature states."""
    heard_at: int = 0
    """When we had that cosignature, by our clock, seconds since the epoch; 0: never."""
    asked_at: int = 0
    code: str | None = None
    """Why it did not cosign the last time; None when it did."""


@dataclass(frozen=True, slots=True)
class Round:
    """What came of asking everybody once."""

    size: int
    facts: tuple[WitnessFact, ...]
    endorsed: bool
    """Whether the cosignatures of this checkpoint meet the quorum."""


class Cosignatures:
    """The cosignatures of the ledger whose folder this is.

    Args:
        origin: the ledger's, `bi.umuhuza/log`.

    Raises LogError `unavailable` (path `witnesses.policy`): no policy, or none that can be read;
    `log_unknown`: it has no key of this ledger.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        self._folder = folder
        self.origin = origin
        try:
            self.policy: TrustPolicy = read_policy((folder / POLICY_FILE).read_bytes())
        except OSError:
            raise LogError("unavailable", POLICY_FILE) from None
        if not self.policy.log_keys(origin):
            raise LogError("log_unknown", POLICY_FILE)

    def facts(self) -> tuple[WitnessFact, ...]:
        """One per witness of the policy, in its order; those of witnesses that were taken out are forgotten.

        A file that cannot be read counts as none: nothing in it is more than what witnesses tell again.
        """
        known: dict[str, WitnessFact] = {}
        try:
            raw = ijson.loads((self._folder / FACTS_FILE).read_bytes(), max_bytes=_MAX_FACTS_BYTES, max_depth=3)
            known = {name: _fact(name, members) for name, members in raw.items()}
        except (OSError, ijson.IJsonError, TypeError, AttributeError, ValueError):
            known = {}
        return tuple(known.get(one.name, WitnessFact(one.name)) for one in self.policy.witnesses)

    def silent(self, now: int) -> tuple[str, ...]:
        """Witnesses that were not heard for a day (`silent`). Raises LogError `unavailable`."""
        try:
            since = int((self._folder / POLICY_FILE).stat().st_mtime)
        except OSError:
            raise LogError("unavailable", POLICY_FILE) from None
        return silent(self.policy, self.facts(), since=since, now=now)

    def cosigned(self) -> Endorsed | None:
        """The largest checkpoint that any witness has cosigned. Raises LogError: the file is not of this policy."""
        return self._read(COSIGNED_FILE)

    def endorsed(self) -> Endorsed | None:
        """The newest checkpoint that met the quorum when it was put there. Raises LogError."""
        return self._read(ENDORSED_FILE)

    def _read(self, name: str) -> Endorsed | None:
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise LogError("unavailable", name) from None
        return read_endorsed(data, self.policy, self.origin)

    # ---------------------------------------------------------------- asking

    def ask(self, source: LedgerSource, client: httpx2.Client, now: int) -> Round:
        """Ask every witness that has an address, once. What is answered is verified, then durable.

        Args:
            now: seconds since the epoch, our clock.

        Raises:
            LogError: the ledger's own checkpoint or tiles cannot be had or are not its own. What a witness does is
                told in its fact.
        """
        signed = verify_checkpoint(source.checkpoint(), self.policy.log_keys(self.origin))
        if signed.checkpoint.origin != self.origin:
            raise LogError("log_unknown", "checkpoint.origin")
        prover = _Prover(signed, source)
        facts = {fact.name: fact for fact in self.facts()}
        lines: list[NoteSignature] = []
        for url, several in _by_address(self.policy.witnesses):
            old = min(facts[one.name].size for one in several)
            found, heard, code = _ask_one(client, url, several, prover, min(old, signed.checkpoint.size))
            lines += found
            for one in several:
                at = heard.get(one.name)
                if at is not None:
                    facts[one.name] = WitnessFact(one.name, signed.checkpoint.size, at, now, now)
                else:  # without a code the other of its keys has signed
                    facts[one.name] = replace(facts[one.name], asked_at=now, code=code or "signature_invalid")
        endorsed = self._keep(signed, lines, facts.values())
        return Round(signed.checkpoint.size, tuple(facts.values()), endorsed)

    def _keep(self, signed: SignedCheckpoint, lines: Sequence[NoteSignature], facts: Iterable[WitnessFact]) -> bool:
        data = signed.note.with_signatures(lines).dumps()
        read = read_endorsed(data, self.policy, self.origin)
        enough = self.policy.met_by(read.by)
        if enough:
            keep_file(self._folder / ENDORSED_FILE, data)
        held = self.cosigned()
        if read.by and (held is None or held.signed.checkpoint.size <= signed.checkpoint.size):
            keep_file(self._folder / COSIGNED_FILE, data)
        # Last: facts that are older than the files cost one question more, never a signature.
        members = {fact.name: {k: v for k, v in asdict(fact).items() if k != "name"} for fact in facts}
        keep_file(self._folder / FACTS_FILE, orjson.dumps(members, option=orjson.OPT_INDENT_2))
        return enough


def _fact(name: str, members: dict[str, int | str | None]) -> WitnessFact:
    """Raises TypeError, ValueError: this is not what `_keep` wrote."""
    code = members.pop("code")
    numbers = {key: value for key, value in members.items() if type(value) is int and value >= 0}
    if numbers.keys() != {"size", "at", "heard_at", "asked_at"} or not (code is None or code in LogError.codes):
        raise ValueError("facts")
    return WitnessFact(name, **numbers, code=None if code is None else str(code))


class _Prover:
    """Proofs that one checkpoint follows older ones, each tile read once."""

    def __init__(self, signed: SignedCheckpoint, source: LedgerSource) -> None:
        self.signed = signed
        self._node = node_of_tiles(signed.checkpoint.size, source.tile)

    def request(self, old: int) -> bytes:
        """Raises what reading tiles raises."""
        path = consistency_proof(self._node, old, self.signed.checkpoint.size)
        return AddCheckpoint(old, tuple(path), self.signed.dumps()).dumps()


def _by_address(witnesses: Sequence[TrustedWitness]) -> list[tuple[str, list[TrustedWitness]]]:
    found: dict[str, list[TrustedWitness]] = {}
    for one in witnesses:
        if one.url is not None:
            found.setdefault(one.url, []).append(one)
    return list(found.items())


def _ask_one(
    client: httpx2.Client, url: str, several: Sequence[TrustedWitness], prover: _Prover, old: int
) -> tuple[Sequence[NoteSignature], Mapping[str, int], str | None]:
    """One witness: its signatures, the times that they state by name, or why there are none.

    Raises what reading our own tiles raises: that is no witness's doing.
    """
    for _ in range(2):
        request = prover.request(old)
        try:
            answer = _answer_of(client, url, request, several)
            if not isinstance(answer, int):
                return answer, _heard(prover.signed, answer, several), None
        except LogError as exc:
            return (), {}, exc.code
        if answer > prover.signed.checkpoint.size:
            # It has cosigned more than this ledger has: it was put back from a copy, or there are two.
            return (), {}, "log_inconsistent"
        old = answer
    return (), {}, "unavailable"


def _answer_of(
    client: httpx2.Client, url: str, request: bytes, several: Sequence[TrustedWitness]
) -> tuple[NoteSignature, ...] | int:
    """The signature lines by this witness's keys, or the size that it has. Raises LogError."""
    status, kind, data = _asked(client, "POST", f"{url}/add-checkpoint", request)
    if status == 200:
        keys = {(one.key.name, one.key.key_id) for one in several}
        return tuple(one for one in read_signature_lines(data) if (one.name, one.key_id) in keys)
    if status != 409:
        raise LogError(_REFUSALS.get(status, "unavailable"), "witness")
    if kind.partition(";")[0].strip() != SIZE_TYPE:
        raise LogError("log_inconsistent", "witness")
    return read_decimal(data.decode("latin-1").removesuffix("\n") or "-", "witness.size")


def _heard(
    signed: SignedCheckpoint, found: Sequence[NoteSignature], several: Sequence[TrustedWitness]
) -> Mapping[str, int]:
    """Witness -> the time its cosignature states. Raises LogError signature_invalid; note_malformed, a time that no
    file of ours holds: one witness must not make what we know of the others unreadable."""
    checked = verify_note(Note(signed.note.text, tuple(found)), [one.key for one in several])
    stated = {one.key: one.at for one in checked}
    if any(at is not None and at > _MAX_TIME for at in stated.values()):
        raise LogError("note_malformed", "witness.time")
    return {one.name: at for one in several if (at := stated.get(one.key)) is not None}


# ---------------------------------------------------------------------------------------------------------------------
# Who is missing


def silent(
    policy: TrustPolicy, facts: Iterable[WitnessFact], *, since: int, now: int, after_s: int = SILENT_S
) -> tuple[str, ...]:
    """Witnesses of the policy that were not heard for `after_s` seconds, whatever the reason; in its order.

    Args:
        since: when the policy was made: one that was never heard counts from then.

    One without an address is brought its checkpoints by other ways, and is not judged here.
    """
    heard = {fact.name: fact.heard_at for fact in facts}
    return tuple(
        one.name for one in policy.witnesses if one.url is not None and now - (heard.get(one.name) or since) >= after_s
    )
