# SPDX-License-Identifier: Apache-2.0
"""The log contract through a gateway: a real server in a process of its own over an SQLite log.

Each handle is one agency's: issuers write, the mailbox's owner reads. The checks append entries without their grants;
a gateway takes no record that its recipient could not open, so `GrantingLog` puts the grants that were made with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from schemas.envelope import Acts
from schemas.errors import LogError, UmuhuzaError
from schemas.keys import b64url
from tests.domain import NOW, Domain
from tests.topics.log_contract import ISSUERS, MAILBOXES, EntryMaker, SmallDisk
from topics.http_log import HttpLog
from topics.log import Appended, Ends, Entry, Log, Stored, grants_topic
from topics.sqlite_log import SqliteLog

READY_S = 30.0


def connect(domain: Domain, agency: str, address: str, shift: float) -> HttpLog:
    member = domain.members[agency]
    return HttpLog(
        address,
        agency,
        member.sig,
        domain="bi",
        now=lambda: time.time() + shift,
        random=os.urandom,
        gateway_key=domain.members["bi/operator"].sig.public,
    )


def write_gateway(directory: Path, domain: Domain, **more: str | int | float | None) -> Path:
    """Everything that a gateway of this domain needs, in files; returns the settings file. None: left out."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "registry.json").write_bytes(domain.registry_file)
    key = directory / "gateway.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(b64url(domain.operator.sig.private_bytes()), encoding="ascii")
        opener = directory / "gateway.seal"
        opener.touch(mode=0o600)
        opener.write_text(b64url(domain.opens.private_bytes()), encoding="ascii")
    values: dict[str, str | int | float | None] = {
        "registry": "registry.json",
        "registry_root": domain.pin.text,
        "signing_key": "gateway.key",
        "sealing_key": "gateway.seal",
        "agency": domain.operator.id,
        "log": "log.db",
        "index": "index.db",
        "port": 0,
        "ready_file": "ready",
        "records_per_minute": 1_000_000,
        "megabytes_per_hour": 1_000_000,
        "waiting_reads": 100,
        "checkers": 1,
    }
    values.update(more)
    settings = directory / "gateway.toml"
    lines = [
        f"{name} = {repr(v).lower() if not isinstance(v, str) else chr(34) + v + chr(34)}"
        for name, v in values.items()
        if v is not None
    ]
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return settings


class GatewayProcess:
    """Starts one and waits until it answers."""

    def __init__(self, settings: Path, shift: float, log: Path | None = None) -> None:
        self._ready = settings.with_name("ready")
        self._ready.unlink(missing_ok=True)
        self._said = (log or settings.with_name("gateway.log")).open("ab")
        program = str(Path(__file__).with_name("http_gateway.py"))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", program, str(settings), repr(shift)], stdout=self._said, stderr=self._said
        )
        until = time.monotonic() + READY_S
        while not self._ready.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop(signal.SIGKILL)
                raise RuntimeError("the gateway did not start")
            time.sleep(0.02)
        self.address = self._ready.read_text(encoding="ascii").strip()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(30)
        self._said.close()
        return code


class GrantingLog:
    """A `Log` that puts each record's grants before it, unless the check did."""

    def __init__(self, log: HttpLog, maker: EntryMaker) -> None:
        self._log = log
        self._maker = maker
        self._put: set[str] = set()

    @property
    def log_id(self) -> str:
        return self._log.log_id

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        made = {one.manifest.ident: one for chain in self._maker._made.values() for one in chain}
        for entry in entries:
            signed = made.get(entry.ident)
            if signed is not None and entry.ident not in self._put and signed.value == entry.value:
                with contextlib.suppress(LogError):  # closed: `append` says so itself
                    await self._log.put_grants(grants_topic(signed.manifest.to), signed.grant_puts())
        return await self._log.append(entries)

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._log.read(topic, after, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._log.poll(after, limit, max_bytes, wait_s)

    async def ends(self, topic: str) -> Ends:
        return await self._log.ends(topic)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        await self._log.put_grants(topic, grants)
        self._put |= {key.partition("|")[0] for key in grants}

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self._log.delete_grants(topic, keys)

    async def close(self) -> None:
        await self._log.close()


class HttpHarness:
    """One gateway, and handles of several agencies upon it."""

    recognises_repeats = True

    def __init__(self, directory: Path) -> None:
        self.maker = EntryMaker()
        self._directory = directory
        self._settings = write_gateway(directory, self.maker.domain)
        self._shift = NOW - time.time()
        self._gateway = GatewayProcess(self._settings, self._shift)

    def open_writer(self, issuer: int) -> Log:
        assert issuer < ISSUERS
        return GrantingLog(self._connect(f"bi/n{issuer}"), self.maker)

    def open_reader(self, mailbox: int) -> Log:
        return self._connect(MAILBOXES[mailbox][0])

    def _connect(self, agency: str) -> HttpLog:
        return connect(self.maker.domain, agency, self._gateway.address, self._shift)

    def reopen(self) -> None:
        self._gateway.stop()
        self._gateway = GatewayProcess(self._settings, self._shift)

    async def trim(self, topic: str, before: int) -> None:
        log = SqliteLog.open(
            str(self._directory / "log.db"), clock_ms=lambda: 0, random_id=lambda: "unused", create=False
        )
        await log.trim(topic, before)
        await log.close()

    async def erase(self, ident: str, issuer: int, mailbox: int) -> None:
        owner = MAILBOXES[mailbox][0]
        signed = self.maker.domain.record(f"bi/n{issuer}", owner, "receipt", "control", acts=Acts(erase=(ident,)))
        log = self._connect(f"bi/n{issuer}")
        await log.put_grants(grants_topic(owner), signed.grant_puts())
        [answer] = await log.append([signed.entry])
        assert isinstance(answer, Appended)
        await log.close()

    def small_disk(self) -> AbstractContextManager[SmallDisk] | None:
        return None

    def writer_process(self, issuer: int, mailbox: int, count: int) -> Sequence[str]:
        program = str(Path(__file__).with_name("http_writer.py"))
        arguments = [self._gateway.address, repr(self._shift), str(issuer), str(mailbox), str(count)]
        return [sys.executable, "-W", "error", program, *arguments]

    def kill(self, process: subprocess.Popen[str]) -> None:
        self._gateway.stop(signal.SIGKILL)
        process.kill()

    def close(self) -> None:
        self._gateway.stop()
