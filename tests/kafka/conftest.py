# SPDX-License-Identifier: Apache-2.0
"""Real brokers for tests.

    kafka_cluster       one running node, the same for every test that takes it; leave it running
    second_cluster      another one, for whoever needs two or takes one away for a while; leave it running
    kafka_clusters      makes clusters of one's own: `kafka_clusters(nodes=3)`, ended with the test

Without Java or Maven, or where the jars cannot be fetched, these tests are skipped and say which is missing.
Tests elsewhere import both fixtures from here; all share the one node.
"""

from __future__ import annotations

import atexit
import gc
import logging
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

from tests.kafka import shared_classes
from umuhuza.kafka import artefacts
from umuhuza.kafka.artefacts import KafkaMissingError
from umuhuza.kafka.cluster import Cluster

QUICK = ("-XX:TieredStopAtLevel=1", *shared_classes.options())
"""Compiles quickly rather than well: half the time to start, for brokers that live for seconds."""


LEAKS = "ignore:unclosed <(ssl|socket):ResourceWarning"
"""For tests that take brokers away: kafka-python 3.0 leaves the socket of a connection that is refused, or given up in
its handshake, to the collector."""


class MakeCluster(Protocol):
    def __call__(self, nodes: int = 1, *, start: bool = True) -> Cluster: ...


def needs_kafka() -> None:
    """Skip, with the reason, where no broker can run."""
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)


def kafka_is_here() -> bool:
    """Whether a broker can run."""
    return _missing() is None


@cache
def _missing() -> str | None:
    try:
        artefacts.find_java()
        artefacts.resolve()
    except KafkaMissingError as exc:
        return str(exc)
    return None


@cache
def _shared() -> Cluster:
    return _running()


@cache
def _second() -> Cluster:
    return _running()


def _running() -> Cluster:
    folder = Path(tempfile.mkdtemp(prefix="umuhuza-kafka-"))
    cluster = Cluster.open_or_make(folder, 1, java_options=QUICK)
    # One for the whole run, whichever of the fixture's importers asked first: ended with the process.
    atexit.register(_end, cluster)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        # Python's own way to end at SIGTERM (`timeout` sends it) skips what was registered for the exit.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster.start()
    return cluster


@pytest.fixture(scope="session")
def second_cluster() -> Cluster:
    needs_kafka()
    return _second()


def _end(cluster: Cluster) -> None:
    for node in cluster.nodes:
        cluster.kill(node)
    shutil.rmtree(cluster.folder)


@pytest.fixture(scope="session")
def kafka_cluster() -> Cluster:
    needs_kafka()
    return _shared()


@contextmanager
def clusters() -> Iterator[MakeCluster]:
    """Makes clusters that end with the context."""
    made: list[Cluster] = []

    def make(nodes: int = 1, *, start: bool = True) -> Cluster:
        cluster = Cluster.open_or_make(Path(tempfile.mkdtemp(prefix="umuhuza-kafka-")), nodes, java_options=QUICK)
        made.append(cluster)
        if start:
            cluster.start()
        return cluster

    with brokers_go_away():
        try:
            yield make
        finally:
            for cluster in made:
                _end(cluster)


@contextmanager
def brokers_go_away() -> Iterator[None]:
    """Whose sockets of LEAKS are nobody else's trouble."""
    # pytest keeps log records, with them their exceptions, and with these the sockets.
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed <(ssl|socket)", ResourceWarning)
            gc.collect()


@pytest.fixture
def kafka_clusters() -> Iterator[MakeCluster]:
    needs_kafka()
    with clusters() as make:
        yield make
