# SPDX-License-Identifier: Apache-2.0
"""The two standalone verifiers of `docs/verify`, each one process that is asked many questions.

A question is a list of fields (`record`, the value, the key, ...), bytes among them written as base64url; the answer is
`ok` with what was found, or a refusal's code and path. Both drivers understand the same questions.

Never: skipped silently. What is not installed is named, and is a failure where all is required (UMUHUZA_REQUIRE=all).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.keys import b64url

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs" / "verify"
Field = bytes | str | int


@dataclass(frozen=True, slots=True)
class Verifier:
    """One of them, running until it is closed."""

    name: str
    by_hand: tuple[str, ...]
    """What a person types, before `record`, `promise`, ..."""
    _process: subprocess.Popen[bytes]

    def answers(self, questions: Sequence[Sequence[Field]]) -> list[list[str]]:
        """One answer each, in order."""
        return [self._answer("\t".join(map(_field, question))) for question in questions]

    def _answer(self, question: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().decode()
        assert answer.endswith("\n"), "the verifier stopped at this question"
        return answer[:-1].split("\t")


def _field(field: Field) -> str:
    return b64url(field) if isinstance(field, bytes) else str(field)


@contextmanager
def _running(name: str, command: Sequence[str], by_hand: tuple[str, ...]) -> Iterator[Verifier]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Verifier(name, by_hand, process)
        finally:
            process.kill()


@contextmanager
def javascript() -> Iterator[Verifier]:
    """Needs Node.js, nothing else."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the verifier in JavaScript was not run")
    with _running("JavaScript", (node, str(HERE / "driver.mjs")), (node, str(DOCS / "check.mjs"))) as verifier:
        yield verifier


@contextmanager
def java(folder: Path) -> Iterator[Verifier]:
    """Compiled into `folder`; needs a development kit, not only what runs Java."""
    javac, runtime = shutil.which("javac"), shutil.which("java")
    if javac is None or runtime is None:
        pytest.skip("javac is not installed: the verifier in Java was not run (Debian: openjdk-17-jdk-headless)")
    sources = (str(DOCS / "Verify.java"), str(HERE / "Driver.java"))
    quick = "-XX:TieredStopAtLevel=1"
    compiled = [javac, f"-J{quick}", "-Xlint:all", "-Werror", "-d", str(folder), *sources]
    run = subprocess.run(compiled, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stderr.decode()
    start = (runtime, quick, "-cp", str(folder))
    with _running("Java", (*start, "Driver"), (*start, "Verify")) as verifier:
        yield verifier
