# SPDX-License-Identifier: Apache-2.0
"""What is said to be durable is there after a power cut, which forgets bytes and names that nobody synced."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.held_back import Disputes
from gateway.objections import ObjectionBook
from schemas.errors import LogError
from schemas.objections import sign_objection
from tests.domain import Domain
from topics.durable_file import keep_file, replace_file
from umuhuza.kafka.certificates import write_file

OLD, NEW = b"what was there", b"what is there now"


class Disk:
    """One folder as the disk has it: names as of its last sync, and of each file the bytes as of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._names = self._named()
        self._bytes = {path.stat().st_ino: path.read_bytes() for path in folder.iterdir()}
        self._real = os.fsync
        self.syncs = 0
        self.fails_at: int | None = None
        monkeypatch.setattr(os, "fsync", self._sync)

    def _named(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self._folder.iterdir()}

    def _sync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.syncs == self.fails_at:
            raise OSError(errno.ENOSPC, "full")
        self._real(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode):
            with Path(f"/proc/self/fd/{descriptor}").open("rb") as file:
                self._bytes[found.st_ino] = file.read()
        elif found.st_ino == self._folder.stat().st_ino:
            self._names = self._named()

    def after_power_cut(self) -> dict[str, bytes]:
        return {name: self._bytes.get(inode, b"") for name, inode in self._names.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def test_a_file_that_was_replaced_is_there_after_a_power_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "file"
    path.write_bytes(OLD)
    disk = Disk(folder, monkeypatch)
    replace_file(path, NEW)
    assert disk.after_power_cut() == {"file": NEW}
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(("at", "there"), [(1, OLD), (2, NEW)])
def test_a_full_disk_leaves_the_old_file_or_the_new_one_and_nothing_beside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, there: bytes
) -> None:
    path = folder / "file"
    path.write_bytes(OLD)
    Disk(folder, monkeypatch).fails_at = at
    with pytest.raises(LogError) as told:
        keep_file(path, NEW)
    assert (told.value.code, told.value.path) == ("storage_full", "file")
    assert list(folder.iterdir()) == [path]
    assert path.read_bytes() == there


def test_a_half_that_a_crash_left_is_not_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "file"
    path.write_bytes(OLD)

    def cut(_self: Path, _target: Path) -> Path:
        raise KeyboardInterrupt  # ends it there, like a crash: nothing is tidied up

    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            replace_file(path, NEW + b", half of it")
    assert path.read_bytes() == OLD
    replace_file(path, NEW)
    assert path.read_bytes() == NEW
    assert list(folder.iterdir()) == [path]


def test_a_file_for_this_user_only_is_so_from_its_first_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    real = os.fsync

    def look(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    path = folder / "file"
    path.write_bytes(OLD)
    path.chmod(0o644)
    replace_file(path, NEW, 0o600)
    assert modes[0] == stat.S_IMODE(path.stat().st_mode) == 0o600


def _disputes(folder: Path, domain: Domain) -> None:
    Disputes(folder / "told", lambda: domain.registry, lambda: float(domain.now)).told([_objection(domain)])


def _objections(folder: Path, domain: Domain) -> None:
    ObjectionBook(folder / "told", lambda: domain.registry, lambda: float(domain.now)).take(
        "bi/iom", _objection(domain)
    )


def _certificate(folder: Path, _domain: Domain) -> None:
    write_file(folder / "key.pem", NEW)


def _registry(folder: Path, domain: Domain) -> None:
    (folder / "registry").write_bytes(OLD)
    replace_file(folder / "registry", domain.registry_file)


def _objection(domain: Domain) -> bytes:
    return sign_objection("bi/iom", [domain.members["bi/k7t4"].sig.kid], domain.now, domain.members["bi/iom"].sig)


@pytest.mark.parametrize("keep", [_disputes, _objections, _certificate, _registry])
def test_what_an_owner_keeps_is_there_after_a_power_cut(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[Path, Domain], None]
) -> None:
    """An objection that was taken and then lost would let records go to a stranger's key again."""
    domain = Domain()
    disk = Disk(folder, monkeypatch)
    keep(folder, domain)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept
    assert disk.after_power_cut() == kept
