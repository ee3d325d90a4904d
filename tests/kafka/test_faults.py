# SPDX-License-Identifier: Apache-2.0
"""What happens to a domain when its brokers fail while agencies work, on real brokers.

Every story has the same end: a verifier (`verifier.Load.verified`) finds each acknowledged record on the brokers, every
mailbox in its issuers' order, exactly one effect of each record at its reader, and nothing that nobody issued. Its
counts are printed (`pytest -s`).

What a publisher is told meanwhile is always `unavailable`, to be tried again: when no broker answers, when too few are
left to keep a record safe, when a mailbox was deleted, and when the disk is full: a broker ends when its only data
folder takes nothing more (`Shutdown broker because all log dirs have failed`), and then nobody is left who could say
`storage_full`. Where a broker has further folders, or another broker leads, that code can come, and is as retriable.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.conftest import LEAKS, MakeCluster, clusters, kafka_clusters, needs_kafka
from tests.kafka.verifier import Counts, Load, leader_of
from tests.topics.kafka_harness import wipe
from tests.topics.log_contract import EntryMaker
from topics import kafka_admin
from topics.kafka_clients import Clients
from topics.topic_names import registry_topic
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_clusters"]
pytestmark = pytest.mark.filterwarnings(LEAKS)

TOLD_S = 40.0
"""A publisher waits no longer for its `unavailable`: for what was under way before it, and for its own attempt.
30 s where the machine has the time; an adapter hangs up by itself then."""
RESUMED_S = 30.0
"""From the moment at which enough brokers answer again to the next acknowledgement."""

Running = Callable[[int], Cluster]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """The cluster of one node, or of three, of this module; never both at once, and always well when a test gets it."""
    needs_kafka()
    with clusters() as make:
        made: dict[int, Cluster] = {}

        def of(nodes: int) -> Cluster:
            for count, cluster in made.items():
                for node in cluster.nodes:
                    cluster.send(node, signal.SIGCONT)
                if count != nodes:
                    cluster.stop()
            if nodes in made:
                made[nodes].start()
            else:
                made[nodes] = make(nodes)
            return made[nodes]

        yield of


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 240))


def tell(story: str, counts: Counts) -> None:
    """On standard output: shown with `-s`, and with a test that fails."""
    sys.stdout.write(f"\n{story}: {counts}\n")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_broker_that_goes_and_comes_back_with_its_data(running: Running, tmp_path: Path, how: str) -> None:
    cluster = running(1)

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            await asyncio.to_thread(cluster.kill if how == "killed" else cluster.stop_node, 1)
            told = await load.until(lambda: load.ledger.codes["unavailable"] > 0, 60)
            await asyncio.to_thread(cluster.start)
            resumed = await load.flowing()
            counts = await load.verified()
            tell(f"broker {how}, told after {told:.1f} s, resumed after {resumed:.1f} s", counts)
            assert told < TOLD_S
            assert resumed < RESUMED_S
            assert counts.codes.keys() == {"unavailable"}
            assert counts.longest_answer_s < TOLD_S

    run(story())


def test_a_broker_that_hangs_for_a_while(running: Running, tmp_path: Path) -> None:
    """Suspended: to its clients a stalled disk or a machine that swaps looks the same."""
    cluster = running(1)

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            cluster.send(1, signal.SIGSTOP)
            told = await load.until(lambda: load.ledger.codes["unavailable"] > 0, 60)
            cluster.send(1, signal.SIGCONT)
            resumed = await load.flowing()
            counts = await load.verified()
            tell(f"broker suspended, told after {told:.1f} s, resumed after {resumed:.1f} s", counts)
            assert told < TOLD_S
            assert resumed < RESUMED_S
            assert counts.codes.keys() == {"unavailable"}
            assert counts.longest_answer_s < TOLD_S

    run(story())


_SLOW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_for_the_disk(void) {
    long ms = 0;
    FILE *file = fopen(getenv("SLOW_DISK"), "r");
    if (file) {
        if (fscanf(file, "%ld", &ms) != 1) ms = 0;
        fclose(file);
    }
    usleep(1000 * ms);
}

int fsync(int fd) {
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""
"""Before the C library: every flush of the broker takes as many milliseconds longer as the file says."""


@dataclass(frozen=True, slots=True)
class Flushes:
    cluster: Cluster
    delay: Path
    """Says by how many ms each flush is slower."""


@pytest.fixture
def flushes(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flushes]:
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler to make flushes slow with")
    (tmp_path / "slow.c").write_text(_SLOW, encoding="ascii")
    subprocess.run([cc, "-shared", "-fPIC", "-o", tmp_path / "slow.so", tmp_path / "slow.c", "-ldl"], check=True)
    delay = tmp_path / "delay"
    delay.write_text("0", encoding="ascii")
    cluster = running(1)
    cluster.stop()
    with monkeypatch.context() as patched:
        patched.setenv("LD_PRELOAD", str(tmp_path / "slow.so"))
        patched.setenv("SLOW_DISK", str(delay))
        cluster.start()
    yield Flushes(cluster, delay)
    cluster.stop()  # the next one runs without it


def test_a_disk_that_takes_a_quarter_of_a_second_for_every_flush(flushes: Flushes, tmp_path: Path) -> None:
    delay = flushes.delay

    async def story() -> None:
        async with Load.on(flushes.cluster, tmp_path) as load:
            await load.flowing()
            delay.write_text("250", encoding="ascii")
            began, before = time.monotonic(), len(load.ledger.at)
            await load.flowing()
            rate = (len(load.ledger.at) - before) / (time.monotonic() - began)
            delay.write_text("0", encoding="ascii")
            counts = await load.verified()
            tell(f"flushes of 0.25 s, {rate:.1f} records/s meanwhile", counts)
            # Slow is not down: every flush is waited for, and nobody is told no.
            assert counts.retries == 0
            assert counts.longest_answer_s > 0.25

    run(story())


def test_rights_count_when_the_command_that_gave_them_has_ended(flushes: Flushes, tmp_path: Path) -> None:
    """The controller has written a right before the broker goes by it: it makes the new topics' files first."""
    registry, topic = EntryMaker().domain.registry, registry_topic("bi")
    admin = flushes.cluster.access(ADMIN)
    operator, gateway = Clients(admin), Clients(flushes.cluster.access("bi/operator"))
    try:
        for _ in range(2):
            wipe(admin)
            operator.remove_acls(sorted(operator.acls(), key=repr))
            flushes.delay.write_text("30", encoding="ascii")
            asyncio.run(kafka_admin.apply(admin, registry, nodes=1))
            found = gateway.describe([topic])[topic]
            flushes.delay.write_text("0", encoding="ascii")
            assert found.code == ""
    finally:
        operator.close()
        gateway.close()


def test_a_disk_that_is_full(kafka_clusters: MakeCluster, running: Running, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    running(1).stop()
    cluster = kafka_clusters(start=False)
    disk = cluster.node_folder(1)
    disk.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "umuhuza-faults", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    ballast = disk / "ballast"

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            _fill(ballast)
            told = await load.until(lambda: load.ledger.codes.total() > 0, 60)
            # Its only disk has failed: it does not go on in some other way, it ends.
            await load.until(lambda: cluster.pid(1) is None, 60)
            ballast.unlink()
            await asyncio.to_thread(cluster.start)
            resumed = await load.flowing()
            counts = await load.verified()
            tell(f"disk full, told after {told:.1f} s, resumed after {resumed:.1f} s", counts)
            assert counts.codes.keys() <= {"unavailable", "storage_full"}
            assert counts.longest_answer_s < TOLD_S

    try:
        cluster.start()
        run(story())
    finally:
        cluster.kill(1)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(ballast: Path) -> None:
    """The disk to its last page."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_mailbox_that_an_administrator_deletes(running: Running, tmp_path: Path) -> None:
    cluster = running(1)
    gone, other = "bi.referral.k7t4", "bi.referral.r5w2"

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing(40)
            lost = load.count(gone)
            await asyncio.to_thread(_delete, cluster, gone)
            await load.until(lambda: load.ledger.latest.get(gone) == "unavailable", 30)
            # The others go on, and this one stays refused.
            went_on = load.count(other) + 5
            await load.until(lambda: load.count(other) >= went_on, 30)
            assert load.ledger.latest[gone] == "unavailable"
            # Made again, it is still not the mailbox that was promised.
            await load.apply()
            at = load.ledger.codes["unavailable"]
            await load.until(lambda: load.ledger.codes["unavailable"] > at, 30)
            assert load.ledger.latest[gone] == "unavailable"
            # The operator says that it is meant; gateway and agencies start again.
            await load.stop_agencies()
            await load.close_gateway()
            await load.renew_identity()
            await load.open_gateway()
            await load.start_agencies()
            resumed = await load.flowing()
            counts = await load.verified()
            tell(f"mailbox deleted with {lost} acknowledged records, resumed after {resumed:.1f} s", counts)
            assert lost > 0
            assert counts.codes.keys() == {"unavailable"}

    run(story())


def _delete(cluster: Cluster, topic: str) -> None:
    clients = Clients(cluster.access(ADMIN))
    try:
        clients.delete_topic(topic)
    finally:
        clients.close()


# ---------------------------------------------------------------------------------------------------------------------
# Three nodes


def test_one_of_three_killed_and_publishing_goes_on(running: Running, tmp_path: Path) -> None:
    cluster = running(3)
    victim = next(node for node in cluster.nodes if node != leader_of(cluster))

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            await asyncio.to_thread(cluster.kill, victim)
            moved = await load.flowing(60)
            await asyncio.to_thread(cluster.start_node, victim)
            counts = await load.verified()
            tell(f"one of three killed, next acknowledgement after {moved:.1f} s", counts)
            assert counts.codes.keys() <= {"unavailable"}
            assert counts.longest_answer_s < TOLD_S

    run(story())


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_the_active_controller_goes_and_another_takes_over(running: Running, tmp_path: Path, how: str) -> None:
    cluster = running(3)
    victim = leader_of(cluster)

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            await asyncio.to_thread(cluster.kill if how == "killed" else cluster.stop_node, victim)
            moved = await load.flowing(60)
            heir = leader_of(cluster)
            await asyncio.to_thread(cluster.start_node, victim)
            counts = await load.verified()
            tell(f"controller {how}, next acknowledgement after {moved:.1f} s", counts)
            assert heir != victim
            assert counts.codes.keys() <= {"unavailable"}
            assert counts.longest_answer_s < TOLD_S

    run(story())


def test_two_of_three_killed_and_publishing_stops_until_one_is_back(running: Running, tmp_path: Path) -> None:
    cluster = running(3)

    async def story() -> None:
        async with Load.on(cluster, tmp_path) as load:
            await load.flowing()
            for victim in (1, 2):
                await asyncio.to_thread(cluster.kill, victim)
            # From here on nothing can be written on two disks, so nothing that is sent now is acknowledged.
            at, killed = load.ledger.codes["unavailable"], time.monotonic()
            told = await load.until(lambda: load.ledger.codes["unavailable"] > at, 60)
            await asyncio.sleep(8)
            assert max(load.ledger.asked) < killed
            await asyncio.to_thread(cluster.start_node, 1)
            resumed = await load.flowing()
            await asyncio.to_thread(cluster.start_node, 2)
            counts = await load.verified()
            tell(f"two of three killed, told after {told:.1f} s, resumed after {resumed:.1f} s", counts)
            assert told < TOLD_S
            assert resumed < RESUMED_S
            assert counts.codes.keys() == {"unavailable"}
            assert counts.longest_answer_s < TOLD_S

    run(story())
