# SPDX-License-Identifier: Apache-2.0
"""Kafka's own command-line tools, as an agency's technician would use them: another client than ours.

They come in one jar that no broker needs. Maven fetches it once into the user's cache, beside the brokers' jars that it
runs with; it is used only if it has the digest that stands here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from topics.kafka_access import KafkaAccess
from umuhuza.kafka import artefacts
from umuhuza.kafka.artefacts import KafkaMissingError

CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
_SHA256 = {"4.3.1": "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c"}
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
_LOGGING = """\
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %m %throwable{short}%n
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.7.1:copy"


@cache
def _jar() -> Path:
    """Raises KafkaMissingError."""
    version = artefacts.version()
    folder = artefacts.cache().with_name(f"kafka-tools-{version}")
    jar = folder / f"kafka-tools-{version}.jar"
    if not jar.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            wanted = f"-Dartifact=org.apache.kafka:kafka-tools:{version}"
            command = [artefacts.find_maven(), "-B", "-q", _COPY, wanted, f"-DoutputDirectory={fresh}"]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=300, cwd=fresh)
            if done.returncode:
                raise KafkaMissingError("Maven could not fetch Kafka's tools", "outils de Kafka introuvables")
            (Path(fresh) / jar.name).replace(jar)
    with jar.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == _SHA256[version]
    return jar


def needs_tools() -> None:
    """Skip, with the reason, where they cannot be had."""
    try:
        _jar()
    except KafkaMissingError as exc:
        pytest.skip(str(exc))


def run(tool: str, access: KafkaAccess, *arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one of the tools as whoever `access` is, with `text` on its standard input.

    What it complains of is on standard error; the exit status of most says nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        properties = Path(folder) / "client.properties"
        pair = Path(folder) / "pair.pem"
        for path in (properties, pair):
            path.touch(mode=0o600)
        pair.write_bytes(access.key.read_bytes() + access.certificate.read_bytes())
        lines = {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": access.ca,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": pair,
            "request.timeout.ms": 30_000,
            "default.api.timeout.ms": 40_000,
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="ascii")
        command = [artefacts.find_java(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        (Path(folder) / "log4j2.properties").write_text(_LOGGING, encoding="ascii")
        command.append(f"-Dlog4j2.configurationFile={folder}/log4j2.properties")
        command += ["-cp", f"{artefacts.resolve()}/*{os.pathsep}{_jar()}", tool]
        command += ["--bootstrap-server", ",".join(access.bootstrap), "--command-config", str(properties), *arguments]
        return subprocess.run(command, input=text, capture_output=True, check=False, timeout=180)
