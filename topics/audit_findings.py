# SPDX-License-Identifier: Apache-2.0
"""What an audit is given, whom it believes, and what it says: values shared by the parts of `topics.audit`.

A finding is a code of `schemas.errors` and a place, never a value. It is *open* when time or another file may explain
it (a ledger that is behind, a number that has not come); every other one contradicts something that was signed.

Pure. Must never: hold a record, a key of an agency, or anything that a record says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from schemas.ledgers import AnnouncedLedger
from schemas.registry import Registry
from schemas.trust_policy import TrustPolicy
from topics.home_check import Homes

About = Literal["record", "entry", "chain", "checkpoint", "receipt", "promise", "registry", "grant"]
"""What is wrong, or missing: a record of the log, an entry of the ledger, an issuer's numbering, something that
somebody holds, a registry file, a grant that should be gone."""
MAX_KEPT = 10_000
"""Findings that are kept one by one; beyond, they are counted."""
BUNDLE = 256
"""Entries that are looked at together: memory is bounded by their records."""


Shown = Literal["records", "entries", "hashes"]
"""How far down a source can be looked at: to the records; to the ledger's entries; to their hashes alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    about: About
    topic: str | None = None
    offset: int | None = None
    index: int | None = None
    """In the ledger's tree."""
    name: str | None = None
    """Of the file that shows it, as the source calls it."""
    open: bool = False


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A record as the source has it; nothing of it is believed."""

    offset: int
    at_ms: int
    """The log's time, milliseconds since the epoch."""
    value: bytes
    home: bytes | None = None
    """Of one that came over a border: the header `umuhuza-home` beside it (`schemas.home_proof`)."""


@dataclass(frozen=True, slots=True)
class Held:
    """Something that somebody kept: a checkpoint, a receipt, a promise."""

    name: str
    """Of its file."""
    data: bytes
    own: bool = True
    """It came with the log that is audited; else the auditor brought it, from an agency, a witness, another auditor."""


class AuditSource(Protocol):
    """A domain's log and ledger, as somebody handed them over. Raises LogError when it cannot be read now."""

    @property
    def domain(self) -> str: ...

    @property
    def whole(self) -> bool:
        """Whether every entry is here; else this is an excerpt, and receipts stand for entries."""

    @property
    def shown(self) -> Shown:
        """What was handed over; what was not is not missing, and nothing is said about it."""

    def checkpoints(self) -> Iterable[Held]:
        """Every checkpoint that was handed over or brought: signed notes."""

    def receipts(self) -> Iterable[Held]:
        """C2SP tlog-proofs with the entry as `extra`."""

    def promises(self) -> Iterable[Held]:
        """Evidence of promises (`topics.promise.evidence`). Asked twice."""

    def entries(self, first: int) -> Iterator[bytes]:
        """The ledger's entries from this index on, in order. Asked twice."""

    def hashes(self) -> Iterator[bytes]:
        """The entries' leaf hashes, in order; asked where no entries are shown."""

    def registry_file(self, sha256: bytes) -> bytes | None:
        """A registry file by its hash."""

    def published_registry(self) -> bytes | None:
        """The one that is handed out to members now."""

    def neighbour_file(self, domain: str, name: str) -> bytes | None:
        """What the domain holds of another one (`topics.audit_abroad`): a file by its name."""

    def topics(self) -> Sequence[str]:
        """Mailbox topics in which there may be records."""

    def records(self, topic: str, first: int, behind: int | None) -> Iterable[KeptRecord]:
        """Those with first <= offset < behind (None: to the end), ascending; what is not there is left out."""

    def grants_left(self, topic: str, keys: Sequence[str]) -> Sequence[str] | None:
        """Those of these grants (`topics.log.grant_key`) that are still there; None: grants were not handed over."""


RegistryReader = Callable[[bytes], tuple[Registry, bytes]]
"""Verifies a registry file against the domain's root: what it says, and the digest by which a ledger names it. Raises
RegistryError."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the auditor believes; from somebody whom she trusts, never from what is audited."""

    policy: TrustPolicy
    """The ledger's keys, the witnesses', and how many witnesses are needed."""
    read_registry: RegistryReader
    homes: Homes | None = None
    """Whom she believes of other domains, whose records came over a border; None: of none."""
    announced: tuple[AnnouncedLedger, ...] = ()
    """The domain's ledgers, by a registry under the root that she believes; none: it announces none."""


class Findings:
    """What was found so far; the same twice is one."""

    def __init__(self) -> None:
        self._kept: dict[Finding, None] = {}
        self.counts: Counter[str] = Counter()
        """All, by code."""
        self._open = 0
        """Of those that are kept."""
        self.contradictions = 0
        """Those that are not open."""

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The first `MAX_KEPT`, open ones half of them at most, in the order in which they were found."""
        return tuple(self._kept)

    @property
    def number(self) -> int:
        """Of those that are kept."""
        return len(self._kept)

    def since(self, number: int) -> tuple[Finding, ...]:
        """Those kept behind the first `number`."""
        return tuple(islice(self._kept, number, None))

    def add(self, finding: Finding) -> None:
        if finding in self._kept:
            return
        self.counts[finding.code] += 1
        self.contradictions += not finding.open
        # However many open ones somebody can cause, they leave room for those that prove a lie.
        if len(self._kept) < MAX_KEPT and not (finding.open and self._open >= MAX_KEPT // 2):
            self._kept[finding] = None
            self._open += finding.open


Stage = Literal["tree", "records"]
Progress = Callable[[Stage, int, int | None], None]
"""Called with the stage, how many entries are done, and how many there are, where that is known."""


def silent_progress(_stage: Stage, _done: int, _of: int | None) -> None:
    """Tells nobody."""
