# SPDX-License-Identifier: Apache-2.0
"""Tables that say which test shows what: every test that is named in one exists."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from tests.e2e.commands import HERE


def missing(items: Mapping[str, Iterable[str]]) -> list[str]:
    """Names of tests (`tests/file.py::test_name`) in the table that no file has."""
    known: dict[str, set[str]] = {}
    absent = []
    for name in sorted({test for tests in items.values() for test in tests}):
        file, _, test = name.partition("::")
        if file not in known:
            tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
            known[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if test not in known[file]:
            absent.append(name)
    return absent
