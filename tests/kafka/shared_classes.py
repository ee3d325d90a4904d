# SPDX-License-Identifier: Apache-2.0
"""Kafka's classes as Java keeps them once they are loaded and checked, for the many brokers that tests start.

A broker that starts with this archive (JEP 350) takes 3 seconds of a processor instead of 4 or 5, on the first day of a
fresh machine too. Java itself compares the archive with its own version and with every jar's size and time, and goes on
without it where they differ; so a wrong one costs time and nothing else.

    python -m tests.kafka.shared_classes      makes it, unless it is there for this Java and these jars
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from umuhuza.kafka import artefacts
from umuhuza.kafka.artefacts import KafkaMissingError
from umuhuza.kafka.cluster import Cluster


def archive() -> Path:
    """Where it stands, made or not."""
    return artefacts.cache() / "tests.jsa"


def options() -> tuple[str, ...]:
    """What Java has to be told; nothing when there is no archive."""
    return (
        (f"-XX:SharedArchiveFile={archive()}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off") if archive().exists() else ()
    )


def _key(libs: Path) -> str:
    java = subprocess.run([artefacts.find_java(), "-version"], capture_output=True, check=True).stderr
    jars = "".join(f"{jar.name} {jar.stat().st_mtime_ns}\n" for jar in sorted(libs.iterdir()))
    return hashlib.sha256(java + jars.encode()).hexdigest()


def make() -> None:
    """Start a broker, let it write down what it loaded when it ends. Killed on the way: made again next time.

    Raises:
        KafkaMissingError: no Java, or the broker does not start.
    """
    key, mark = _key(artefacts.resolve()), archive().with_suffix(".key")
    if archive().exists() and mark.exists() and mark.read_text(encoding="ascii") == key:
        return
    new = archive().with_suffix(".new")
    folder = Path(tempfile.mkdtemp(prefix="umuhuza-kafka-"))
    cluster = Cluster.open_or_make(folder, 1, java_options=(f"-XX:ArchiveClassesAtExit={new}", "-Xlog:cds=off"))
    try:
        cluster.start()
        cluster.stop()
    finally:
        cluster.kill(1)
        shutil.rmtree(folder)
    new.replace(archive())
    mark.write_text(key, encoding="ascii")


if __name__ == "__main__":
    try:
        make()
    except KafkaMissingError as exc:
        sys.exit(str(exc))
