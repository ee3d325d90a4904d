# SPDX-License-Identifier: Apache-2.0
"""Who says of records what can be said of each by itself, and by which rules: the seam between gateway and checkers.

Purpose: `Intake` and `Follower` ask here; whether threads, processes (`gateway.checkers`) or nobody else answer is for
whoever puts a gateway together.
Invariants: answers come in the order of the questions; the rules are those of the newest registry.
Must never: judge a record by what else is in the log (`gateway.judging`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from gateway.examine import Checked, Examined, InLog, Refused, Rules, Task, checked, examine
from schemas.registry import Registry

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Runner(Protocol):
    """Where pure work runs: threads in a server, at once in a simulator."""

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]: ...


class AtOnce:
    """Runs work where it stands."""

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        return [work(item) for item in items]


class Checker(Protocol):
    """Who says of records what can be said of each by itself: other processes, or this one."""

    async def examine(self, tasks: Sequence[Task]) -> list[Examined | Refused]:
        """`gateway.examine.examine` of each, in order."""

    async def check(self, rules: Rules, stored: Sequence[InLog]) -> list[Checked]:
        """`gateway.examine.checked` of each, in order. Raises LogError `unavailable`: ask again."""

    async def close(self) -> None:
        """Idempotent."""


class Here:
    """The `Checker` of this process."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    async def examine(self, tasks: Sequence[Task]) -> list[Examined | Refused]:
        return await self._run.map(examine, tasks)

    async def check(self, rules: Rules, stored: Sequence[InLog]) -> list[Checked]:
        return await self._run.map(checked, [(rules.registry, one) for one in stored])

    async def close(self) -> None:
        pass


class Checks:
    """The rules of the newest registry, and who checks records by them now."""

    def __init__(self, registry: Callable[[], Registry], checker: Checker | None = None) -> None:
        self._registry = registry
        self._rules: Rules | None = None
        self.checker: Checker = checker or Here(AtOnce())

    @property
    def rules(self) -> Rules:
        """Made anew when the registry is another one."""
        registry = self._registry()
        if self._rules is None or self._rules.registry is not registry:
            self._rules = Rules(registry)
        return self._rules
