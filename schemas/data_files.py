# SPDX-License-Identifier: Apache-2.0
"""Data that ships with a package in several files, each about one thing, read as one TOML text."""

from __future__ import annotations

from importlib import resources


def read_together(package: str, *folder: str) -> str:
    """The `*.toml` files of a package's folder, joined in the order of their names.

    No two may say the same table: TOML refuses that where the text is parsed.
    """
    files = resources.files(package).joinpath(*folder).iterdir()
    texts = [(file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".toml")]
    return "\n".join(text for _, text in sorted(texts))
