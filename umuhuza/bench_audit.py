# SPDX-License-Identifier: Apache-2.0
"""What an audit takes, beside what it cannot do without: hashing every record, verifying every signature.

tree_to_sha256          the walk over the entries, to bare SHA-256 of the records' bytes; one thread both
signatures_to_bare      the signatures as the audit verifies them, to bare verification of the same signatures over the
                        same bytes; both shared out over the cores that are used
all_to_bare             the whole audit (read from SQLite, hashed, parsed, verified, chains, what was logged before), to
                        bare SHA-256 and bare verification; both on as many cores, by the clock
all_cpu_to_bare         the same in CPU time, of all processes together, their start included

Log and ledger lie in SQLite files, as on a domain's machine; memory does not grow with the number of records but for
the yardstick's, 2 kB each (`umuhuza.bench_bare`). What is bare is measured before and after what is compared with it,
since machines that others share change their pace; ratios of CPU times show that less.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from adapters.keystore import Keys
from schemas.envelope import parse_record
from schemas.keys import b64url
from schemas.ledgers import origin_of
from schemas.notes import Checkpoint, NoteSigner, SignatureType, sign_checkpoint
from schemas.registry import Registry, registry_to_json
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from topics.audit import audit
from topics.audit_checkers import PROCESSES_ABOVE
from topics.audit_domain import DomainSource
from topics.audit_findings import Findings, Held, Trust, silent_progress
from topics.audit_scratch import Scratch
from topics.audit_tree import check_tree
from topics.catalogue import topics_of
from topics.ledger_entries import Batch, LedgerEntry
from topics.ledger_store import SqliteLedgerStore
from topics.log import Entry
from topics.process_messages import message, opened, read_message
from topics.proofs import leaf_hash
from topics.sqlite_log import SqliteLog
from topics.tiles import GrowingTree
from topics.topic_names import is_mailbox_topic
from umuhuza.bench_bare import Share
from umuhuza.bench_records import values_of
from umuhuza.registry_holder import add_agencies, init_registry

_REGISTRY = b"measured"
_AT_ONCE = 500
READER = "bi/k7t4"
ISSUERS = 8

Told = Callable[[str, int, int], None]
"""Stage (`made`, `bare`, `tree`, `records`), done, of."""


def invented(folder: Path, count: int) -> tuple[Registry, Iterator[Entry]]:
    """A registry, and so many records of a few agencies to one reader, made while they are asked for."""
    init_registry(folder, "bi", False)
    now = int(time.time())
    issuers = [Keys.generate(f"bi/n{number}", os.urandom) for number in range(ISSUERS)]
    members = [
        keys.enrolment({"fr": "Agence inventée"}, ("assistance",), keys.agency == READER, now)
        for keys in (*issuers, Keys.generate(READER, os.urandom))
    ]
    registry = add_agencies(folder, members)
    chains = [values_of(keys, READER, registry) for keys in issuers]
    return registry, (next(chains[number % ISSUERS]) for number in range(count))


def measure_audit(
    folder: Path, registry: Registry, entries: Iterable[Entry], count: int, told: Told | None = None
) -> dict[str, float]:
    """The ratios by the names above, over these records, with how many processes shared the work.

    Args:
        folder: empty; log and ledger are made there.
        count: of the records, for who is told.

    Raises RuntimeError: an honest log was found fault with, so that nothing was measured.
    """
    tell = told or _nobody
    processes = (os.cpu_count() or 1) if count > PROCESSES_ABOVE else 1
    signer = NoteSigner.generate(origin_of(registry.domain), SignatureType.ED25519, os.urandom)
    digest = hashlib.sha256(_REGISTRY).digest()
    trust = Trust(TrustPolicy((TrustedLog(signer.public),), (), (), NONE), lambda _data: (registry, digest))
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        shares = Shares(registry, processes)
        stack.callback(shares.close)
        source = _logged(stack, folder, loop, registry, _told(entries, count, tell), shares, signer)
        hashed, bare, ours = [shares.one_by_one("sha256")], [shares.together("bare")], list[Took]()
        cpu = time.process_time()
        _walk(source, trust)
        tree = time.process_time() - cpu
        hashed.append(shares.one_by_one("sha256"))
        began, spent = time.perf_counter(), _cpu()
        report = audit(source, trust, processes=processes, progress=lambda stage, done, _of: tell(stage, done, count))
        whole, spent = time.perf_counter() - began, _cpu() - spent
        for _ in range(2):
            ours.append(shares.together("ours"))
            bare.append(shares.together("bare"))
        all_hashed = shares.together("sha256")
        least = statistics.median(one.wall for one in bare) + all_hashed.wall
        least_cpu = statistics.median(one.cpu for one in bare) + all_hashed.cpu
    if not report.faultless or report.records != count:
        raise RuntimeError("the audit found fault with an honest log")
    return {
        "tree_to_sha256": round(tree / statistics.mean(one.cpu for one in hashed), 2),
        "signatures_to_bare": round(min(one.cpu for one in ours) / min(one.cpu for one in bare), 2),
        "all_to_bare": round(whole / least, 2),
        "all_cpu_to_bare": round(spent / least_cpu, 2),
        "records": count,
        "processes": processes,
        "records_per_second": round(count / whole),
    }


def _nobody(_stage: str, _done: int, _of: int) -> None:
    """Is told nothing."""


def _told(entries: Iterable[Entry], count: int, tell: Told) -> Iterator[Entry]:
    for number, entry in enumerate(entries, 1):
        tell("made", number, count)
        yield entry


def _cpu() -> float:
    """Seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _walk(source: DomainSource, trust: Trust) -> None:
    scratch = Scratch.open(None)
    try:
        check_tree(source, trust, scratch, Findings(), silent_progress)
    finally:
        scratch.close()


# ---------------------------------------------------------------------------------------------------------------------
# The yardstick


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds: of CPU, all shares together, and by the clock, until the last is done."""

    cpu: float = 0.0
    wall: float = 0.0


class Shares:
    """The yardstick's records, shared out: in this process, or in as many as cores. Close it."""

    def __init__(self, registry: Registry, processes: int) -> None:
        self._here = Share(registry) if processes == 1 else None
        self._beside: list[subprocess.Popen[bytes]] = []
        self._next = 0
        if self._here is None:
            command = [sys.executable, "-m", "umuhuza.bench_bare"]
            for _ in range(processes):
                self._beside.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
                _asked(self._beside[-1], message({"registry": registry_to_json(registry)}))

    def add(self, values: Sequence[bytes], at: int) -> None:
        """To the next of them."""
        if self._here is not None:
            self._here.add(values, at)
            return
        head = {"at": at, "records": [len(one) for one in values]}
        _asked(self._beside[self._next], message(head, values))
        self._next = (self._next + 1) % len(self._beside)

    def one_by_one(self, name: str) -> Took:
        """One share after the other."""
        return _sum([self._run(number, name) for number in range(max(1, len(self._beside)))])

    def together(self, name: str) -> Took:
        """All at once."""
        number = max(1, len(self._beside))
        with ThreadPoolExecutor(number) as threads:
            return _sum(list(threads.map(lambda at: self._run(at, name), range(number))))

    def _run(self, at: int, name: str) -> Took:
        if self._here is not None:
            return Took(**self._here.seconds(name))
        return Took(**_asked(self._beside[at], message({"run": name})))

    def close(self) -> None:
        """Ends the processes."""
        for one in self._beside:
            one.kill()
            one.communicate()


def _sum(of: list[Took]) -> Took:
    return Took(sum(one.cpu for one in of), max(one.wall for one in of))


def _asked(process: subprocess.Popen[bytes], question: bytes) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question)
    process.stdin.flush()
    body = read_message(process.stdout)
    if body is None:
        raise RuntimeError("a process of the yardstick has ended")
    took: dict[str, float] = opened(body)[0]
    return took


# ---------------------------------------------------------------------------------------------------------------------
# What is audited


def _logged(
    stack: ExitStack,
    folder: Path,
    loop: asyncio.Runner,
    registry: Registry,
    entries: Iterator[Entry],
    shares: Shares,
    signer: NoteSigner,
) -> DomainSource:
    """What an honest ledger makes of these records, on disk; their values go to the yardstick too."""
    folder.mkdir()
    names = [name for name in topics_of(registry) if is_mailbox_topic(name)]
    now = int(time.time())
    log = SqliteLog.open(
        str(folder / "log.db"),
        topics=names,
        clock_ms=lambda: now * 1000,
        random_id=lambda: b64url(os.urandom(12)),
        threads=False,
    )
    stack.callback(lambda: loop.run(log.close()))
    store = SqliteLedgerStore.open(folder / "ledger.db", random_id=lambda: b64url(os.urandom(12)))
    stack.callback(store.close)
    tree, ends = GrowingTree(), dict[str, int]()

    def append(made: list[LedgerEntry]) -> None:
        before, encoded = tree.root(), [one.encode() for one in made]
        first = tree.size
        for one in encoded:
            tree.append(leaf_hash(one))
        store.append(Batch(first, before, encoded), tree.root())

    append([LedgerEntry("registry", value_sha256=hashlib.sha256(_REGISTRY).digest(), detail=str(registry.version))])
    while some := list(islice(entries, _AT_ONCE)):
        loop.run(log.append(some))
        shares.add([one.value for one in some], now)
        made = []
        for one in some:
            offset = ends.get(one.topic, 0)
            ends[one.topic] = offset + 1
            value = hashlib.sha256(one.value).digest()
            l1 = parse_record(one.value).digest
            made.append(LedgerEntry("event", one.topic, offset, offset - 1 if offset else None, value, l1))
        append(made)
    head = sign_checkpoint(Checkpoint(signer.name, tree.size, tree.root()), [signer], now)
    return DomainSource(
        registry.domain,
        log,
        store,
        loop=loop,
        names=names,
        registry_file=lambda _sha256: _REGISTRY,
        checkpoints=[Held("checkpoint", head)],
    )
