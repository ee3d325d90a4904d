# SPDX-License-Identifier: Apache-2.0
"""Command lines that documents and units name, read as the program would read them and not run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import typer.main
from typer.core import TyperGroup

from umuhuza.cli import build


@cache
def _program() -> typer._click.core.Command:
    """Made once: making it takes longer than reading a hundred lines with it."""
    return typer.main.get_command(build())


def parse(arguments: Sequence[str]) -> None:
    """Raises UsageError for a command, option or value that there is not."""
    command = _program()
    rest = list(arguments)
    parent = None
    name = "umuhuza"
    while True:
        context = command.make_context(name, rest, parent=parent)
        if not isinstance(command, TyperGroup):
            return
        found, chosen, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        if chosen is None:
            raise ValueError(f"no such command: {found}")
        name, command, parent = str(found), chosen, context
