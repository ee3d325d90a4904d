# SPDX-License-Identifier: Apache-2.0
"""A disk in memory that forgets what was not synced: an SQLite VFS for tests and for the simulator.

One `PowerCutVFS` is the disk of one simulated machine. Every file has what the processes see (volatile) and what a
power cut would leave (durable). A write, a truncation, a creation or a deletion becomes durable by a sync only, with
the rules of a strict POSIX file system:

- `xSync` makes that file's bytes durable. The first sync of a new journal or WAL also syncs its directory, as
  SQLite's own unix VFS does; the sync of a new database file does not.
- `xDelete` is durable at once only when SQLite asks for it (`syncdir`).
- At the cut each file's unsynced operations are lost, or kept as a prefix, or kept as a random subset, with torn
  writes at sectors of 512 bytes; each unsynced creation or deletion is kept or lost by itself.

Everything random comes from the seed, SQLite's own randomness (WAL salts) included: a failing seed repeats.

    disk = PowerCutVFS("laptop", seed=7)
    log = SqliteLog.open("/log.db", vfs=disk.name, exclusive=True, threads=False, ...)
    disk.crash_after(12)          # the 12th write or sync from now raises PowerCut: nothing after it happened
    ...                           # the "process" dies of PowerCut; forget its objects
    disk.reset_after_cut()        # power is back; open again and see what is left

Objects of the life before the cut stay harmless: they go on upon a ghost of the old disk, so closing or collecting
them changes nothing that survived. There is no shared memory: use WAL with `locking_mode=EXCLUSIVE`.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import apsw
from typing_extensions import Buffer, override

SECTOR = 512
Failure = Literal["full", "ioerr"]
Operation = Literal["write", "sync", "truncate", "create", "delete"]
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class PowerCut(BaseException):
    """The machine died here. A BaseException: nothing that tidies up after ordinary errors may swallow it."""


@dataclass(slots=True, eq=False)
class _File:
    """One inode: what is seen, what would survive, and what lies between, in order."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, bytes written) or (new size, None) for a truncation."""
    locks: dict[int, int] = field(default_factory=dict)

    def change(self, offset: int, data: bytes | None) -> None:
        _apply(self.seen, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def copy(self) -> _File:
        """The same bytes, seen, durable and pending, without the locks of whoever held it open."""
        return _File(bytearray(self.seen), bytearray(self.durable), list(self.pending))

    def survivor(self, rng: random.Random) -> _File:
        """What the platter holds after the cut."""
        content = bytearray(self.durable)
        kept: list[tuple[int, bytes | None]] = []
        match rng.choice(("none", "prefix", "subset", "all")):
            case "prefix":
                kept = self.pending[: rng.randint(0, len(self.pending))]
                if kept and kept[-1][1]:
                    kept[-1:] = _torn(*kept[-1], rng)
            case "subset":
                for offset, data in self.pending:
                    if rng.random() < 0.5:
                        kept += _torn(offset, data, rng) if rng.random() < 0.5 else [(offset, data)]
            case "all":
                kept = self.pending
        for offset, data in kept:
            _apply(content, offset, data)
        return _File(bytearray(content), content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _torn(offset: int, data: bytes | None, rng: random.Random) -> list[tuple[int, bytes | None]]:
    """Some of the sectors a write covers."""
    if data is None:
        return [(offset, None)]
    pieces: list[tuple[int, bytes | None]] = []
    start = offset
    while start < offset + len(data):
        stop = min((start // SECTOR + 1) * SECTOR, offset + len(data))
        if rng.random() < 0.5:
            pieces.append((start, data[start - offset : stop - offset]))
        start = stop
    return pieces


@dataclass(slots=True)
class _Injected:
    failure: Failure
    on: frozenset[Operation]
    skip: int
    times: int


class PowerCutVFS:
    """The disk of one machine. Not thread-safe: one machine is one thread, as in the simulator.

    Args:
        name: under which SQLite knows it; unique among living disks.
        seed: everything random follows from it.
        quota_bytes: the size of the disk; a write past it is SQLITE_FULL. None: endless. May be changed at any time.
    """

    def __init__(self, name: str, seed: int, quota_bytes: int | None = None) -> None:
        self.name = name
        self.quota_bytes = quota_bytes
        self.dead = False
        """True between a cut and `reset_after_cut`: an answer given meanwhile never left the machine."""
        self.cuts = 0
        self.done: Counter[Operation] = Counter()
        """Operations carried out, of all lives."""
        self._rng = random.Random(seed)
        self._countdown: int | None = None
        self._injected: list[_Injected] = []
        self._survivors: dict[str, _File] = {}
        # SQLite keeps a pointer to the VFS of every open connection: a former life may never be freed before it.
        self._lives = [_Life(self, {})]

    # What a test or the simulator does.

    def cut(self) -> None:
        """The power fails now. What is left shows after `reset_after_cut`."""
        if self.dead:
            return
        life = self._lives[-1]
        self._survivors = {}
        for name in sorted(life.files.keys() | life.durable_names.keys()):
            before, now = life.durable_names.get(name), life.files.get(name)
            stays = now if before is now or self._rng.random() < 0.5 else before
            if stays is not None:
                self._survivors[name] = stays.survivor(self._rng)
        self.dead = True
        self.cuts += 1
        self._countdown = None
        self._injected.clear()

    def crash_after(self, operations: int) -> None:
        """Cut at the n-th write, sync, truncation, creation or deletion from now (1: the next one), in the middle
        of it, and raise PowerCut there."""
        if operations < 1:
            raise ValueError("counts from 1")
        self._countdown = operations

    def reset_after_cut(self) -> None:
        """Power is back: what survived is the disk now. Cuts first when nobody did."""
        self.cut()
        self._lives.append(_Life(self, self._survivors))
        self.dead = False

    def process_dies(self) -> None:
        """A process is killed while the machine stays up: the next one sees everything written, synced or not.

        Objects of the dead process go on upon a ghost, as after a cut; what was pending may still be lost by one.
        """
        if self.dead:
            return
        life = self._lives[-1]
        names = (life.files, life.durable_names)
        copies = {id(file): file.copy() for held in names for file in held.values()}
        self._lives.append(_Life(self, {}))
        for held, kept in zip(names, (self._lives[-1].files, self._lives[-1].durable_names), strict=True):
            kept.update((name, copies[id(file)]) for name, file in held.items())
        self._countdown = None

    def bury(self) -> None:
        """Free the bytes of former lives. Only when no connection of theirs is open."""
        for life in self._lives[:-1]:
            life.files.clear()
            life.durable_names.clear()

    def snapshot_bytes(self, path: str) -> bytes:
        """What a reader of the file sees now; b"" when there is none."""
        file = self._lives[-1].files.get(path)
        return b"" if file is None else bytes(file.seen)

    def paths(self) -> list[str]:
        return sorted(self._lives[-1].files)

    def used_bytes(self) -> int:
        return sum(len(file.seen) for file in self._lives[-1].files.values())

    def fail(
        self, failure: Failure, *, on: tuple[Operation, ...] = ("write", "sync"), skip: int = 0, times: int = 1
    ) -> None:
        """Of the next operations of these kinds let `skip` pass, then fail `times` with SQLITE_FULL or SQLITE_IOERR."""
        self._injected.append(_Injected(failure, frozenset(on), skip, times))

    def forget(self) -> None:
        """Unregister, and free every byte: SQLite's library keeps a life whose name was taken over until the process
        ends. Only when no connection of any life is open."""
        for life in self._lives:
            life.unregister()
            life.files.clear()
            life.durable_names.clear()

    # What the life asks before it changes anything.

    def _before(self, operation: Operation, growth: int = 0) -> None:
        for rule in self._injected:
            if operation in rule.on:
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                if not rule.times:
                    self._injected.remove(rule)
                raise _error(rule.failure)
        if growth > 0 and self.quota_bytes is not None and self.used_bytes() + growth > self.quota_bytes:
            raise apsw.FullError("the simulated disk is full")

    def _tick(self) -> bool:
        """True when this operation is the one that the power cut interrupts."""
        if self._countdown is None:
            return False
        self._countdown -= 1
        return self._countdown == 0


def _error(failure: Failure) -> apsw.Error:
    return apsw.FullError("injected") if failure == "full" else apsw.IOError("injected")


class _Life(apsw.VFS):
    """The disk between two cuts, as SQLite sees it."""

    def __init__(self, disk: PowerCutVFS, files: dict[str, _File]) -> None:
        self.disk = disk
        self.files = dict(files)
        self.durable_names = dict(files)
        self.over = False
        self._registered = True
        super().__init__(disk.name, base=None)

    def unregister(self) -> None:
        # A later life took the name over; only the last one is registered still.
        if self._registered and self.disk._lives[-1] is self:
            super().unregister()
        self._registered = False

    def living(self) -> bool:
        return self.disk._lives[-1] is self and not self.disk.dead

    def before(self, kind: Operation, growth: int = 0) -> bool:
        """Refuse on request; for `after`, whether this life is the one that the disk serves now."""
        living = self.living()
        if living:
            self.disk._before(kind, growth)
            if kind == "sync" and self.disk._tick():
                self.disk.cut()  # before the sync had any effect
                raise PowerCut
        return living

    def after(self, kind: Operation, living: bool) -> None:
        """It is done; die in the middle of it when that was asked for."""
        self.disk.done[kind] += 1
        if living and kind != "sync" and self.disk._tick():
            self.disk.cut()  # the change was made, nobody knows whether it reached the platter
            raise PowerCut

    def sync_directory(self) -> None:
        self.durable_names = dict(self.files)

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        flags[1] = flags[0]
        if name is None:
            return _Handle(self, _File(), None, 0)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        file = self.files.get(path)
        if file is None:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError("no such file on the simulated disk")
            file = _File()
            living = self.before("create")
            self.files[path] = file
            self.after("create", living)
        return _Handle(self, file, path, flags[0])

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        living = self.before("delete")
        self.files.pop(filename, None)
        self.after("delete", living)
        if syncdir:
            self.sync_directory()

    @override
    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.files

    @override
    def xFullPathname(self, name: str) -> str:
        return name

    @override
    def xRandomness(self, numbytes: int) -> bytes:
        return self.disk._rng.randbytes(numbytes)

    @override
    def xSleep(self, microseconds: int) -> int:
        return microseconds

    @override
    def xCurrentTimeInt64(self) -> int:
        return 212_000_000_000_000

    @override
    def xCurrentTime(self) -> float:
        return 2_453_703.7

    @override
    def xGetLastError(self) -> tuple[int, str | None]:
        return 0, None


class _Handle(apsw.VFSFile):
    """One open file. After a cut it goes on upon the ghost of its inode."""

    # The base class opens a real file in __init__ when it is called: it is not.
    def __init__(self, life: _Life, file: _File, path: str | None, flags: int) -> None:
        self.life = life
        self.file = file
        self.path = path
        self.flags = flags

    @override
    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.file.seen[offset : offset + amount])

    @override
    def xWrite(self, data: Buffer, offset: int) -> None:
        written = bytes(data)
        living = self.life.before("write", offset + len(written) - len(self.file.seen))
        self.file.change(offset, written)
        self.life.after("write", living)

    @override
    def xTruncate(self, newsize: int) -> None:
        living = self.life.before("truncate")
        self.file.change(newsize, None)
        self.life.after("truncate", living)

    @override
    def xSync(self, flags: int) -> None:
        living = self.life.before("sync")
        self.file.sync()
        if self.flags & _JOURNALS and self.life.durable_names.get(self.path or "") is not self.file:
            self.life.sync_directory()
        self.life.after("sync", living)

    @override
    def xFileSize(self) -> int:
        return len(self.file.seen)

    @override
    def xLock(self, level: int) -> None:
        others = [held for who, held in self.file.locks.items() if who != id(self)]
        mine = self.file.locks.get(id(self), 0)
        if level <= mine:
            return
        highest = max(others, default=0)
        blocked = {
            apsw.SQLITE_LOCK_SHARED: highest >= apsw.SQLITE_LOCK_PENDING,
            apsw.SQLITE_LOCK_RESERVED: highest >= apsw.SQLITE_LOCK_RESERVED,
            apsw.SQLITE_LOCK_EXCLUSIVE: highest >= apsw.SQLITE_LOCK_SHARED,
        }
        if blocked[level]:
            raise apsw.BusyError("locked on the simulated disk")
        self.file.locks[id(self)] = level

    @override
    def xUnlock(self, level: int) -> None:
        if level:
            self.file.locks[id(self)] = level
        else:
            self.file.locks.pop(id(self), None)

    @override
    def xCheckReservedLock(self) -> bool:
        return any(held >= apsw.SQLITE_LOCK_RESERVED for held in self.file.locks.values())

    @override
    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    @override
    def xSectorSize(self) -> int:
        return 4096

    @override
    def xDeviceCharacteristics(self) -> int:
        # As unix disks are declared by SQLite itself: a write leaves the bytes around it alone.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    @override
    def xClose(self) -> None:
        self.file.locks.pop(id(self), None)
