# SPDX-License-Identifier: Apache-2.0
"""`python -m umuhuza.publish [--check]`: write `schemas/published/`, the reference pages of `docs/` with the examples,
the AsyncAPI document and the verifier's page, and the Kafka files of `deploy/`, or say which of them differ from what
they are made from.

Exit status: 0 written, or nothing differs; 1 with the names of the files that differ, are missing or are no longer
made; 2 for wrong arguments.
Must never: touch a file that the generator would not make, except to report a stale one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas import publish
from umuhuza import asyncapi, reference, verify_page
from umuhuza.examples import pages
from umuhuza.kafka import deployment

PUBLISHED = Path(publish.__file__).parent / "published"
DOCS = Path(__file__).resolve().parents[1] / "docs"
DEPLOY = DOCS.parent / "deploy"


def differing(folder: Path) -> list[str]:
    """Names of the files in `folder` that are not what the tables make, sorted."""
    wanted = publish.files()
    there = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".md")}
    return sorted(
        name
        for name in wanted.keys() | there.keys()
        if name not in wanted or there.get(name) != wanted[name].encode("utf-8")
    )


def documents() -> dict[str, str]:
    """Path below `docs/` -> text, of everything there that is made. Starts two processes, side by side."""
    verifier = {verify_page.NAME: verify_page.text(DOCS / "verify")}
    return {**reference.files(), **pages.files(), **verifier, "asyncapi.json": asyncapi.text()}


def pages_differing(docs: Path) -> list[str]:
    """Made files below `docs` that are not what the code makes, and examples no longer made, sorted."""
    wanted = documents()
    there = {f"{pages.FOLDER}/{path.name}" for path in (docs / pages.FOLDER).glob("*.json")}
    return sorted(
        f"docs/{name}"
        for name in wanted.keys() | there
        if name not in wanted
        or not (docs / name).exists()
        or (docs / name).read_bytes() != wanted[name].encode("utf-8")
    )


def deployment_differing(deploy: Path) -> list[str]:
    """Kafka files below `deploy` that are not what the code makes, or no longer made, sorted."""
    wanted = deployment.files()
    places = {name.rpartition("/")[0] for name in wanted}
    there = {f"{place}/{path.name}" for place in places for path in (deploy / place).glob("*.*")}
    return sorted(
        f"deploy/{name}"
        for name in wanted.keys() | there
        if name not in wanted or name not in there or (deploy / name).read_bytes() != wanted[name].encode("utf-8")
    )


def main(
    arguments: Sequence[str] | None = None,
    folder: Path = PUBLISHED,
    docs: Path | None = None,
    deploy: Path | None = None,
) -> int:
    """`docs`: where the reference pages stand; `deploy`: where the Kafka files stand; None leaves them out."""
    parser = argparse.ArgumentParser(prog="python -m umuhuza.publish", description="Published schemas and pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    if parser.parse_args(arguments).check:
        names = differing(folder) + ([] if docs is None else pages_differing(docs))
        names += [] if deploy is None else deployment_differing(deploy)
        sys.stdout.write("".join(f"{name}\n" for name in names))
        return 1 if names else 0
    for name, text in publish.files().items():
        (folder / name).write_bytes(text.encode("utf-8"))
    if docs is not None:
        for name, text in documents().items():
            (docs / name).parent.mkdir(parents=True, exist_ok=True)
            (docs / name).write_bytes(text.encode("utf-8"))
    if deploy is not None:
        for name, text in deployment.files().items():
            (deploy / name).parent.mkdir(parents=True, exist_ok=True)
            (deploy / name).write_bytes(text.encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(docs=DOCS, deploy=DEPLOY))
