# SPDX-License-Identifier: Apache-2.0
"""The ledger as its operator has it: prepared beside a gateway, killed in the middle, started again, asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from schemas.envelope import Acts
from schemas.notes import read_vkey, verify_checkpoint
from tests.domain import Domain, Signed
from tests.e2e.commands import environment, until
from tests.e2e.shell import Shell
from tests.topics.http_harness import write_gateway
from tests.topics.ledger_world import entries_in, shown
from topics.catalogue import topics_of
from topics.ledger_view import LedgerView
from topics.log import Appended
from topics.sqlite_log import SqliteLog
from topics.topic_names import is_mailbox_topic


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as shell:
        yield shell


def append(folder: Path, domain: Domain, records: list[Signed]) -> None:
    """As the gateway would, into the log that the ledger reads."""

    async def work() -> None:
        log = SqliteLog.open(
            str(folder / "log.db"),
            topics=[name for name in topics_of(domain.registry) if is_mailbox_topic(name)],
            clock_ms=lambda: int(time.time() * 1000),
            random_id=lambda: "log",
            threads=False,
        )
        answers = await log.append([one.entry for one in records])
        assert all(isinstance(one, Appended) for one in answers)
        await log.close()

    asyncio.run(work())


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its address, once it has caught up."""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "umuhuza", "ledger", "run", "--dir", str(folder), "--ready-file", str(ready)]
    process = subprocess.Popen(command, env=environment())
    try:
        until("the ledger is ready", lambda: ready.exists() or process.poll() is not None)
        yield process, ready.read_text(encoding="ascii")
    finally:
        process.kill()
        process.wait()


def signed_size(folder: Path) -> int:
    keys = [read_vkey(line) for line in (folder / "ledger.pub").read_text(encoding="ascii").splitlines()]
    signed = verify_checkpoint((folder / "checkpoint").read_bytes(), keys)
    assert len(signed.signed) == 2
    return signed.checkpoint.size


def test_killed_and_started_again_it_goes_on_and_says_how_it_is(sh: Shell, tmp_path: Path) -> None:
    domain = Domain()
    gateway, ledger = tmp_path / "passerelle", tmp_path / "passerelle" / "registre"
    write_gateway(gateway, domain)
    records = [domain.record() for _ in range(9)]
    append(gateway, domain, records[:3])
    made = sh("ledger", "init", "--dir", ledger, "--gateway", gateway, "--port", "0", "--json")
    assert (made.code, made.json["origin"]) == (0, "bi.umuhuza/log")
    before = (ledger / "ledger.toml").read_bytes()
    assert sh("ledger", "init", "--dir", ledger, "--gateway", gateway).code == 2, "keys are never overwritten"
    assert (ledger / "ledger.toml").read_bytes() == before, "nor are the settings of a ledger that runs"
    assert f'ledger = "{ledger}"' in (gateway / "gateway.toml").read_text(encoding="utf-8")
    with running(ledger) as (process, address):
        assert httpx2.get(f"{address}/readyz", trust_env=False).json() == {"ok": True}
        append(gateway, domain, records[3:6])
        until("what came is signed", lambda: signed_size(ledger) == 7)
        metrics = httpx2.get(f"{address}/metrics", trust_env=False).text
        assert 'umuhuza_ledger_entries_total{kind="event"} 6.0' in metrics
        assert "umuhuza_ledger_up 1.0" in metrics
        assert "k7t4" not in metrics
        append(gateway, domain, records[6:])
        process.kill()
    with running(ledger) as (process, address):
        until("all is signed", lambda: signed_size(ledger) == 10)
        told = sh("ledger", "status", "--dir", ledger, "--json").json
        assert told | {"ok": True, "size": 10, "signed": 10, "cosigned": 0, "behind": 0} == told
        erase = domain.record(flow="rights", kind="control", acts=Acts(erase=(records[0].manifest.ident,)))
        append(gateway, domain, [erase])
        until("the erasure is called done", lambda: signed_size(ledger) == 12)
        told = sh("ledger", "status", "--dir", ledger, "--json").json
        assert told["erasures"] == {"open": 0, "overdue": 0}
        assert "umuhuza_ledger_erasures_overdue 0.0" in httpx2.get(f"{address}/metrics", trust_env=False).text
        process.terminate()
        assert process.wait(60) == 0
    dry = sh("ledger", "retention", "--dir", ledger, "--dry-run", "--json").json
    assert (dry["due"], dry["removed"]) == ([], {})
    view = LedgerView.reading(ledger / "view.db")
    assert sorted(shown(entries_in(view))) == [
        "erased bi.rights.k7t4 0",
        "erasure bi.rights.k7t4 0",
        *(f"event bi.referral.k7t4 {offset}" for offset in range(9)),
        f"registry {domain.registry.version}",
    ]
    view.close()
