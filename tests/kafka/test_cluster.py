# SPDX-License-Identifier: Apache-2.0
"""Real brokers: who is let in, what a restart keeps, and which processes are left alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kafka.conftest import MakeCluster
from topics.kafka_access import KafkaAccess
from topics.settings import SettingsError
from umuhuza.kafka import processes
from umuhuza.kafka.artefacts import KafkaMissingError
from umuhuza.kafka.certificates import RENEW_S, Authority, Credentials, Issued, write_file
from umuhuza.kafka.cluster import Cluster
from umuhuza.kafka.probe import NoAnswerError, ask

# ---------------------------------------------------------------------------------------------------------------------
# Who is let in


def carrying(folder: Path, issued: Issued, ca: Path) -> Credentials:
    write_file(folder / "certificate.pem", issued.certificate)
    write_file(folder / "key.pem", issued.key)
    return Credentials(ca, folder / "certificate.pem", folder / "key.pem", issued.expires)


def test_an_agency_with_its_certificate_is_answered(kafka_cluster: Cluster) -> None:
    assert ask(kafka_cluster.bootstrap[0], kafka_cluster.credentials("bi/iom")).brokers == {1}


def test_without_a_certificate_nobody_is_answered(kafka_cluster: Cluster) -> None:
    ca = str(kafka_cluster.credentials("admin").ca)
    with pytest.raises(NoAnswerError) as caught:
        ask(kafka_cluster.bootstrap[0], None, ca=ca)
    assert caught.value.why == "refused"


@pytest.mark.parametrize(
    "issue",
    [
        lambda ca, now: ca.agency("bi/iom", now - 86_400, lasts_s=3600),
        lambda ca, now: Authority.make("another", now).agency("bi/iom", now),
        lambda ca, now: Authority.make("another", now).admin(now),
    ],
    ids=["expired", "of another authority", "an administrator's of another authority"],
)
def test_a_certificate_that_does_not_count_is_refused(
    kafka_cluster: Cluster, tmp_path: Path, issue: Callable[[Authority, float], Issued]
) -> None:
    who = carrying(tmp_path, issue(kafka_cluster.authority(), time.time()), kafka_cluster.credentials("admin").ca)
    with pytest.raises(NoAnswerError) as caught:
        ask(kafka_cluster.bootstrap[0], who)
    assert caught.value.why == "refused"


def test_a_subject_that_no_rule_names_is_refused(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """As our own authority would never issue it: the organisation has three letters."""
    issued = kafka_cluster.authority()._issue("bin", "iom", time.time(), 3600)
    who = carrying(tmp_path, issued, kafka_cluster.credentials("admin").ca)
    with pytest.raises(NoAnswerError):
        ask(kafka_cluster.bootstrap[0], who)


def test_older_tls_is_refused(kafka_cluster: Cluster) -> None:
    found = kafka_cluster.credentials("admin")
    context = ssl.create_default_context(cafile=str(found.ca))
    context.load_cert_chain(found.certificate, found.key)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = kafka_cluster.bootstrap[0].partition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(plain, server_hostname=host)


def test_a_client_does_not_take_an_agency_for_a_broker(tmp_path: Path) -> None:
    """An agency that got hold of the address shows its own certificate: it is for clients only."""
    cluster = Cluster.open_or_make(tmp_path, 1)
    found = cluster.credentials("bi/iom")
    poses = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    poses.load_cert_chain(found.certificate, found.key)
    client = ssl.create_default_context(cafile=str(found.ca))
    client.check_hostname = False  # its names are another matter: the purpose alone refuses it
    left, right = socket.socketpair()

    def pose() -> None:
        with left, contextlib.suppress(ssl.SSLError, OSError):
            poses.wrap_socket(left, server_side=True)

    thread = threading.Thread(target=pose)
    thread.start()
    with right, pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        client.wrap_socket(right)
    thread.join()


def test_nothing_that_is_secret_can_be_read_by_others(kafka_cluster: Cluster) -> None:
    kafka_cluster.credentials("bi/iom")
    secret = [*kafka_cluster.folder.rglob("*key*"), *kafka_cluster.folder.rglob("keystore.pem")]
    assert len(secret) >= 4
    for path in secret:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((kafka_cluster.folder / "clients").stat().st_mode) == 0o700


# ---------------------------------------------------------------------------------------------------------------------
# Up, again, and after interruptions


def test_a_second_start_starts_nothing(kafka_cluster: Cluster) -> None:
    before = kafka_cluster.pid(1)
    assert Cluster.open(kafka_cluster.folder).start() == ()
    assert kafka_cluster.pid(1) == before


def test_status_tells_who_answers_and_what_it_takes(kafka_cluster: Cluster) -> None:
    [state] = kafka_cluster.status()
    assert (state.ready, state.pid, state.why) == (True, kafka_cluster.pid(1), None)
    assert state.memory_mb is not None
    assert state.memory_mb < 400


def test_a_cluster_keeps_its_number_of_nodes(kafka_cluster: Cluster) -> None:
    with pytest.raises(SettingsError, match="1 node"):
        Cluster.open_or_make(kafka_cluster.folder, 3)


def test_a_broker_comes_back_as_it_was(kafka_clusters: MakeCluster) -> None:
    """Stopped, killed, and killed while it was made: the same address, the same identity, the same certificates."""
    cluster = kafka_clusters(start=False)
    folder = cluster.node_folder(1)
    # What a command leaves that was killed while the data folder was being prepared.
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "bootstrap.checkpoint").write_bytes(b"half")
    assert cluster.start() == (1,)
    identity = (folder / "data" / "meta.properties").read_text(encoding="ascii")
    found = cluster.credentials("bi/iom")
    certificate = found.certificate.read_bytes()

    assert cluster.stop()
    assert cluster.pid(1) is None
    assert not cluster.stop()
    assert [state.why for state in cluster.status()] == ["closed"]

    again = Cluster.open(cluster.folder)
    assert again.bootstrap == cluster.bootstrap
    assert again.start() == (1,)
    again.kill(1)
    assert again.pid(1) is None
    again.start_node(1)
    assert (folder / "data" / "meta.properties").read_text(encoding="ascii") == identity
    assert again.credentials("bi/iom").certificate.read_bytes() == certificate


def test_a_broker_that_hangs_is_ended_and_one_that_cannot_start_says_where_to_look(
    kafka_clusters: MakeCluster,
) -> None:
    cluster = kafka_clusters()
    assert cluster.send(1, signal.SIGSTOP)
    with pytest.raises(NoAnswerError) as silent:
        ask(cluster.bootstrap[0], cluster.credentials("admin"), timeout_s=0.5)
    assert silent.value.why == "slow"
    assert cluster.stop(within_s=20)
    assert cluster.pid(1) is None

    (cluster.node_folder(1) / "data" / "meta.properties").unlink()
    with pytest.raises(KafkaMissingError, match=r"console\.log") as caught:
        cluster.start()
    assert "ne répond pas" in caught.value.describe("fr")


def test_three_nodes_know_each_other_and_lose_one(kafka_clusters: MakeCluster) -> None:
    cluster = kafka_clusters(nodes=3)
    assert all(state.seen is not None and state.seen.brokers == {1, 2, 3} for state in cluster.status())
    cluster.kill(2)
    states = cluster.status()
    assert [state.pid is None for state in states] == [False, True, False]
    assert cluster.start() == (2,)
    assert cluster.stop()
    assert [cluster.pid(node) for node in cluster.nodes] == [None, None, None]


def test_a_port_that_another_program_took_is_named(kafka_clusters: MakeCluster) -> None:
    cluster = kafka_clusters(start=False)
    port = int(cluster.bootstrap[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SettingsError, match=str(port)):
        cluster.start()


def test_a_certificate_is_renewed_in_its_last_month(tmp_path: Path) -> None:
    clock = [time.time()]
    cluster = Cluster.open_or_make(tmp_path, 1, now=lambda: clock[0])
    first = cluster.credentials("bi/iom")
    clock[0] = first.expires - RENEW_S - 60
    assert cluster.credentials("bi/iom").expires == first.expires
    clock[0] += 120
    renewed = cluster.credentials("bi/iom")
    assert renewed.expires > first.expires
    assert cluster.issued() == {"bi.iom": renewed.expires}


def test_half_a_pair_is_issued_again(tmp_path: Path) -> None:
    cluster = Cluster.open_or_make(tmp_path, 1)
    first = cluster.credentials("bi/iom")
    before = first.key.read_bytes()
    first.certificate.unlink()
    assert cluster.credentials("bi/iom").key.read_bytes() != before


@pytest.mark.parametrize("who", ["bi", "root", "node-1", "bi/../admin", "../bi.iom"])
def test_only_agencies_and_the_administrator_have_credentials(tmp_path: Path, who: str) -> None:
    with pytest.raises(ValueError, match="agency"):
        Cluster.open_or_make(tmp_path, 1).credentials(who)


def test_what_is_handed_to_an_agency_is_its_own_and_nobodys_else(tmp_path: Path) -> None:
    cluster = Cluster.open_or_make(tmp_path / "kafka", 1)
    cluster.hand_over("bi/iom", tmp_path / "iom")
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "iom").iterdir()}
    assert names == dict.fromkeys(("bootstrap", "ca.pem", "certificate.pem", "key.pem"), 0o600)
    assert stat.S_IMODE((tmp_path / "iom").stat().st_mode) == 0o700
    assert KafkaAccess.of_folder(tmp_path / "iom").bootstrap == cluster.bootstrap
    for who in ("admin", "iom"):
        with pytest.raises(ValueError, match="agency"):
            cluster.hand_over(who, tmp_path / who.upper())
    with pytest.raises(FileExistsError):
        cluster.hand_over("bi/iom", tmp_path / "iom")


def test_a_folder_without_a_cluster_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="umuhuza kafka up"):
        Cluster.open(tmp_path)
    (tmp_path / "cluster.json").write_text("{", encoding="ascii")
    with pytest.raises(SettingsError, match=r"cluster\.json"):
        Cluster.open(tmp_path)


def test_ports_are_not_those_of_outgoing_connections(tmp_path: Path) -> None:
    """Such a port may be busy just when the broker comes back."""
    Cluster.open_or_make(tmp_path, 3)
    nodes = json.loads((tmp_path / "cluster.json").read_text(encoding="ascii"))["nodes"]
    ports = [port for node in nodes for port in (node["clients"], node["controllers"])]
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert len(set(ports)) == 6
    assert all(port < first for port in ports)


# ---------------------------------------------------------------------------------------------------------------------
# Whose process it is


def launched(folder: Path) -> Path:
    file = folder / "process"
    processes.launch(file, [sys.executable, "-c", "import time; time.sleep(60)"], folder / "out", os.environ)
    deadline = time.monotonic() + 10
    while processes.alive(file) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return file


def test_a_process_is_known_ended_and_then_unknown(tmp_path: Path) -> None:
    file = launched(tmp_path)
    assert not processes.ended(file, 0.0)
    assert processes.send(file, signal.SIGTERM)
    assert processes.ended(file, 10.0)
    assert processes.alive(file) is None
    assert not processes.send(file, signal.SIGTERM)


@pytest.mark.parametrize("what", ["start time", "boot"])
def test_a_number_that_is_anothers_now_is_left_alone(tmp_path: Path, what: str) -> None:
    file = launched(tmp_path)
    genuine = file.read_text(encoding="utf-8")
    stat_line, boot = genuine.splitlines()
    name, _, rest = stat_line.rpartition(")")
    fields = rest.split()
    if what == "start time":
        fields[19] = str(int(fields[19]) - 1)
    else:
        boot = "0" * len(boot)
    file.write_text(f"{name}) {' '.join(fields)}\n{boot}\n", encoding="utf-8")
    assert processes.alive(file) is None
    assert not processes.send(file, signal.SIGKILL)
    file.write_text(genuine, encoding="utf-8")
    assert processes.alive(file) is not None
    processes.send(file, signal.SIGKILL)
    assert processes.ended(file, 10.0)


def test_a_damaged_process_file_is_nobody(tmp_path: Path) -> None:
    for text in ("", "1", "x y z\n\n", "1 (init) S 0\nboot\n"):
        (tmp_path / "process").write_text(text, encoding="ascii")
        assert processes.alive(tmp_path / "process") is None
