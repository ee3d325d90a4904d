# SPDX-License-Identifier: Apache-2.0
"""Two countries in a process of their own that kills itself at a step of the bridge: `tests/test_bridge_crash.py`.

With the bridge die both gateways and ledgers: as when the power fails on both sides.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from tests.borders import NAME
from tests.domain import Signed
from tests.two_countries import Both, opened
from topics.bridge_book import BridgeBook
from topics.http_log import HttpLog
from topics.ledger_store import SqliteLedgerStore
from topics.sqlite_log import SqliteLog

STEPS: dict[str, tuple[type[Any], str, bool]] = {
    "our registry is there, and not noted": (HttpLog, "give_registry", True),
    "our registry is noted": (BridgeBook, "show", True),
    "nothing was brought": (HttpLog, "carry", False),
    "their log has it, and nobody was answered": (SqliteLog, "append_granted", True),
    "promised, and not kept": (HttpLog, "carry", True),
    "kept, and its keys are still here": (BridgeBook, "settle", True),
    "its keys are gone, and that is not noted": (SqliteLog, "delete_grants", True),
    "its keys are noted as gone": (BridgeBook, "grants_gone", True),
    "their ledger has it, and its view does not": (SqliteLedgerStore, "append", True),
}
"""Name -> what is called there, and whether the process dies behind it or before it."""


def request(both: Both) -> Signed:
    """Tunisia's next to Burundi."""
    return both.tn.domain.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(function: Callable[..., Any], *, behind: bool) -> Callable[..., Any]:
    @wraps(function)
    async def later(*arguments: Any, **named: Any) -> Any:
        if not behind:
            die()
        await function(*arguments, **named)
        die()

    @wraps(function)
    def now(*arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        die()

    return later if asyncio.iscoroutinefunction(function) else now


def carry_and_die(folder: Path, step: str) -> None:
    """Tunisia's bridge carries what waits, Burundi's ledger logs it; dies at that step."""
    kind, name, behind = STEPS[step]

    async def story() -> None:
        async with opened(folder) as both:
            setattr(kind, name, _deadly(getattr(kind, name), behind=behind))
            await both.tn.carry()
            await both.bi.ledger_turn()

    asyncio.run(story())
