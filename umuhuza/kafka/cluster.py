# SPDX-License-Identifier: Apache-2.0
"""An Apache Kafka cluster of one or three nodes in a folder of this machine.

    cluster = Cluster.open_or_make(folder, nodes=1)      # writes ports, ids, certificates; starts nothing
    cluster.start()                                      # returns when every node answers
    access = cluster.access("admin")                     # or cluster.access("bi/iom"): its certificate is issued
    cluster.kill(1); cluster.start_node(1); cluster.stop()

The folder: `cluster.json` (identity and ports, written once), `ca/`, `clients/<principal>/`, and per node `node-<id>/`
with its properties, keystore, `data/`, `logs/` and `process` (who is running).

Invariants: ports and ids never change once chosen; a data folder is formatted once and never again; a running node is
found and ended by the identity that it wrote itself (`processes`); whatever step a command was killed at, the next
`start` goes on from there. Every method is safe to call again. One command at a time works on a folder (`lock`).
Memory, measured: see `_HEAP`.
Must never: end a process that it did not start, or delete data.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.keys import b64url
from topics.settings import SettingsError
from umuhuza.kafka import artefacts, certificates, processes
from umuhuza.kafka.artefacts import KafkaMissingError
from umuhuza.kafka.certificates import ADMIN, Authority, Credentials, Issued, write_file
from umuhuza.kafka.probe import NoAnswerError, Seen, ask
from umuhuza.kafka.properties import Layout, Node, combined_properties, logging_properties, render

if TYPE_CHECKING:
    from topics.kafka_log import KafkaAccess

_HOST = "127.0.0.1"
_HEAP = "-Xmx256m"
"""Of one node. What it holds in all (resident, Java 17, x86-64): 210 MB when it has started, 265 MB after 40,000
records of 1 kB, 12,000 of 12 kB and 800 of 800 kB written and read, 315 MB with 480 topics: plan 400 MB a node. An idle
node takes 3 % of one processor."""
_JAVA = (
    "-Xms64m",
    _HEAP,
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)
START_S = 90.0
"""A node must answer within this; about 5 s on a laptop, more when it reads its data again after a power cut."""
STOP_S = 30.0
"""Time to write everything down before a node is ended hard; every acknowledged record is on disk either way."""

Told = artefacts.Told
"""Called with (French, English)."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is seen of one node."""

    node: int
    address: str
    pid: int | None
    memory_mb: int | None
    seen: Seen | None
    """None: it does not answer."""
    why: str | None
    """Why it does not answer (`probe.NoAnswerError`)."""

    @property
    def ready(self) -> bool:
        return self.seen is not None and self.node in self.seen.brokers


@dataclass(frozen=True, slots=True)
class _Member:
    """A node's part of `cluster.json`."""

    node: int
    clients: int
    controllers: int
    directory: str
    """Id of its data directory, which the first controllers are known by."""


class Cluster:
    """Keeps no state beside the folder, so any number of them, in any process, may stand for one cluster.

    Args:
        java_options: beside our own, for every node that is prepared and started.
        now: seconds (wall clock), for certificates.
    """

    def __init__(
        self,
        folder: Path,
        cluster_id: str,
        members: Sequence[_Member],
        java_options: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.cluster_id = cluster_id
        self._members = {member.node: member for member in members}
        self._java_options = tuple(java_options)
        self._now = now

    @classmethod
    def open(cls, folder: Path, java_options: Sequence[str] = (), now: Callable[[], float] = time.time) -> Cluster:
        """The cluster that was made in `folder`. Raises SettingsError: there is none, or it cannot be read."""
        folder = folder.resolve()
        try:
            raw = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
            members = [
                _Member(int(one["node"]), int(one["clients"]), int(one["controllers"]), str(one["directory"]))
                for one in raw["nodes"]
            ]
            return cls(folder, str(raw["id"]), members, java_options, now)
        except FileNotFoundError:
            raise SettingsError(
                "no Kafka cluster in this folder; make one: umuhuza kafka up",
                "pas de Kafka dans ce dossier ; pour en faire un : umuhuza kafka up",
            ) from None
        except (ValueError, KeyError, TypeError):
            raise SettingsError("cluster.json cannot be read", "cluster.json ne peut pas être lu") from None

    @classmethod
    def open_or_make(
        cls,
        folder: Path,
        nodes: int | None = None,
        java_options: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> Cluster:
        """The cluster in `folder`; when there is none, a new one of `nodes` (1 or 3; None: 1).

        Raises:
            SettingsError: the folder's cluster has another number of nodes, or the folder cannot be used.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(folder / "lock"):
            if not (folder / "cluster.json").exists():
                _make(folder, 1 if nodes is None else nodes)
        cluster = cls.open(folder, java_options, now)
        if nodes is not None and nodes != len(cluster.nodes):
            count = len(cluster.nodes)
            raise SettingsError(
                f"the cluster in this folder has {count} node(s), and keeps them",
                f"le Kafka de ce dossier a {count} nœud(s), et les garde",
            )
        return cluster

    # -- What it is ---------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(sorted(self._members))

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """`host:port` of every broker."""
        return tuple(self.address(node) for node in self.nodes)

    def now(self) -> float:
        """The clock by which certificates are issued and renewed, seconds."""
        return self._now()

    def address(self, node: int) -> str:
        return f"{_HOST}:{self._members[node].clients}"

    def node_folder(self, node: int) -> Path:
        """With `data/`, `logs/` and `server.properties` in it."""
        return self.folder / f"node-{node}"

    def pid(self, node: int) -> int | None:
        """The node's process, None when it is not running."""
        return processes.alive(self.node_folder(node) / "process")

    def layout(self) -> Layout:
        controllers = tuple(f"{_HOST}:{self._members[node].controllers}" for node in self.nodes)
        return Layout(controllers, self.nodes, len(self.nodes))

    # -- Who may come -------------------------------------------------------------------------------------------------

    def authority(self) -> Authority:
        """The cluster's authority, made when there is none. Raises SettingsError: its files are damaged."""
        with _turn(self.folder / "certificates.lock"):
            return self._authority()

    def _authority(self) -> Authority:
        folder = self.folder / "ca"
        folder.mkdir(mode=0o700, exist_ok=True)
        certificate, key = folder / "ca.pem", folder / "ca.key"
        # The certificate is written last: without it nothing was issued yet, and a key alone is made again.
        if not certificate.exists():
            made = Authority.make(self.cluster_id, self._now())
            write_file(key, made.key_pem)
            write_file(certificate, made.pem)
        try:
            return Authority.read(certificate.read_bytes(), key.read_bytes())
        except (OSError, ValueError):
            raise SettingsError(
                "ca: the authority's certificate or key cannot be read",
                "ca : le certificat ou la clé de l'autorité ne peut pas être lu",
            ) from None

    def credentials(self, who: str) -> Credentials:
        """Certificate and key of `admin` or of an agency, `bi/iom` or `bi.iom`.

        Issued when there is none, issued again from a month before its end; the files are replaced in place.

        Raises:
            ValueError: neither `admin` nor an agency.
        """
        if who == ADMIN:
            return self._credentials(ADMIN, lambda authority, now: authority.admin(now))
        agency = certificates.agency_of(who.replace("/", "."))
        principal = certificates.principal_of(agency)
        return self._credentials(principal, lambda authority, now: authority.agency(agency, now))

    def access(self, who: str, client_id: str = "umuhuza") -> KafkaAccess:
        """What the Kafka driver needs to come as `who` (see `credentials`)."""
        from topics.kafka_log import KafkaAccess

        found = self.credentials(who)
        return KafkaAccess(self.bootstrap, found.ca, found.certificate, found.key, client_id)

    def hand_over(self, agency: str, folder: Path) -> None:
        """Make a folder with what an agency needs to come to Kafka: bootstrap, ca.pem, certificate.pem, key.pem.

        Raises:
            ValueError: not an agency, or the administrator, whose key stays here.
            FileExistsError: the folder is there already.
        """
        if agency == ADMIN:
            raise ValueError("an agency, not the administrator")
        found = self.credentials(agency)
        folder.mkdir(mode=0o700)
        write_file(folder / "bootstrap", (",".join(self.bootstrap) + "\n").encode("ascii"))
        for name, path in (("ca.pem", found.ca), ("certificate.pem", found.certificate), ("key.pem", found.key)):
            write_file(folder / name, path.read_bytes())

    def _credentials(self, principal: str, issue: Callable[[Authority, float], Issued]) -> Credentials:
        folder = self.folder / "clients" / principal
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        with _turn(self.folder / "certificates.lock"):
            authority, now = self._authority(), self._now()
            held = _expiry(certificate) if key.exists() else None
            if held is None or held - now < certificates.RENEW_S:
                for made in (folder.parent, folder):
                    made.mkdir(mode=0o700, exist_ok=True)
                issued = issue(authority, now)
                held = issued.expires
                # A kill between the two leaves a key without a certificate, which the next call mends.
                certificate.unlink(missing_ok=True)
                write_file(key, issued.key)
                write_file(certificate, issued.certificate)
        return Credentials(self.folder / "ca" / "ca.pem", certificate, key, held)

    def issued(self) -> dict[str, int]:
        """Principal -> when its certificate ends, for every certificate handed out so far and for the nodes."""
        found = {}
        for path in sorted((self.folder / "clients").glob("*/certificate.pem")):
            found[path.parent.name] = _expiry(path)
        for node in self.nodes:
            found[f"node-{node}"] = _expiry(self.node_folder(node) / "keystore.pem")
        return {name: ends for name, ends in found.items() if ends is not None}

    # -- Running it ---------------------------------------------------------------------------------------------------

    def start(
        self,
        told: Told = lambda _fr, _en: None,
        progress: artefacts.Progress = lambda _there, _all: None,
    ) -> tuple[int, ...]:
        """Start what is not running and wait until every node answers and sees all of them at work.

        Args:
            told: is told the steps, in French and English.
            progress: see `artefacts.resolve`.

        Returns:
            The nodes that had to be started: none when all were running.

        Raises:
            KafkaMissingError: Java, Maven or the jars are missing; a node does not start or answer.
            SettingsError: a port is taken, the authority is damaged.
        """
        started = self._start(self.nodes, told, progress)
        self.wait(self.nodes)
        return started

    def start_node(self, node: int, wait: bool = True) -> None:
        """Start one node; see `start`. With `wait` returns when it answers and takes work."""
        self._start((node,), lambda _fr, _en: None, lambda _there, _all: None)
        if wait:
            self.wait((node,))

    def _start(self, nodes: Sequence[int], told: Told, progress: artefacts.Progress) -> tuple[int, ...]:
        with _turn(self.folder / "lock"):
            idle = tuple(node for node in nodes if self.pid(node) is None)
            if idle:
                java, libs = artefacts.find_java(), artefacts.resolve(progress, told)
                for node in idle:
                    self._prepare(node, java, libs, told)
                for node in idle:
                    told(f"Le nœud {node} démarre.", f"Node {node} starts.")
                    self._launch(node, java, libs)
        return idle

    def wait(self, nodes: Sequence[int], within_s: float = START_S) -> None:
        """Until each of `nodes` answers and sees all of them at work. Raises KafkaMissingError."""
        asks = self.credentials(ADMIN)
        deadline = time.monotonic() + within_s
        waiting = list(nodes)
        while waiting:
            node = waiting[0]
            try:
                if ask(self.address(node), asks).brokers >= set(nodes):
                    waiting.pop(0)
                    continue
            except NoAnswerError as exc:
                if exc.why == "refused":
                    raise self._failed(node) from None
            if self.pid(node) is None or time.monotonic() > deadline:
                raise self._failed(node)
            time.sleep(0.1)

    def stop(self, within_s: float = STOP_S) -> bool:
        """End every node: asked first, hard after `within_s` seconds. False when none was running."""
        with _turn(self.folder / "lock"):
            running = [node for node in self.nodes if self.pid(node) is not None]
            self._end(running, within_s)
        return bool(running)

    def stop_node(self, node: int, within_s: float = STOP_S) -> None:
        with _turn(self.folder / "lock"):
            self._end([node], within_s)

    def kill(self, node: int) -> None:
        """End one node as a power cut would its process (SIGKILL). Returns when it is gone."""
        self._end([node], 0)

    def send(self, node: int, number: signal.Signals) -> bool:
        """Signal one node (SIGSTOP and SIGCONT make it hang). False when it is not running."""
        return processes.send(self.node_folder(node) / "process", number)

    def status(self) -> list[NodeState]:
        """What each node says now. Changes nothing, except that a missing administrator's certificate is issued."""
        asks = self.credentials(ADMIN)
        return [self._seen(node, asks) for node in self.nodes]

    def _seen(self, node: int, asks: Credentials) -> NodeState:
        pid = self.pid(node)
        memory = None if pid is None else processes.rss_mb(pid)
        address = self.address(node)
        try:
            return NodeState(node, address, pid, memory, ask(address, asks), None)
        except NoAnswerError as exc:
            return NodeState(node, address, pid, memory, None, exc.why)

    def _end(self, nodes: Sequence[int], within_s: float) -> None:
        files = [self.node_folder(node) / "process" for node in nodes]
        if within_s > 0:
            for file in files:
                processes.send(file, signal.SIGTERM)
                # A node that hangs on purpose or by a debugger hears nothing until it goes on.
                processes.send(file, signal.SIGCONT)
        deadline = time.monotonic() + within_s
        for file in files:
            if within_s <= 0 or not processes.ended(file, max(0.0, deadline - time.monotonic())):
                processes.send(file, signal.SIGKILL)
                processes.ended(file, 10.0)

    def _prepare(self, node: int, java: str, libs: Path, told: Told) -> None:
        """Everything that a node needs before it runs: ports free, certificate in date, properties, formatted data."""
        folder, member = self.node_folder(node), self._members[node]
        for port in (member.clients, member.controllers):
            if not _free(port):
                raise SettingsError(
                    f"port {port} of node {node} is taken by another program; end that, or change cluster.json",
                    f"le port {port} du nœud {node} est pris par un autre programme ; arrêtez-le, "
                    "ou changez cluster.json",
                )
        for name in ("", "logs", "data"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        authority = self.authority()
        now = self._now()
        keystore = folder / "keystore.pem"
        held = _expiry(keystore)
        if held is None or held - now < certificates.RENEW_S:
            issued = authority.node(node, (_HOST, "localhost"), now)
            write_file(keystore, issued.key + issued.certificate)
        itself = Node(
            node,
            keystore=keystore,
            truststore=self.folder / "ca" / "ca.pem",
            data=folder / "data",
            clients=self.address(node),
            controllers=f"{_HOST}:{member.controllers}",
        )
        properties = combined_properties(itself, self.layout())
        write_file(folder / "server.properties", render(properties).encode("utf-8"))
        write_file(folder / "log4j2.properties", logging_properties(folder / "logs").encode("utf-8"))
        if not (folder / "formatted").exists():
            told(f"Le nœud {node} prépare son dossier de données.", f"Node {node} prepares its data folder.")
            self._format(node, java, libs)

    def _format(self, node: int, java: str, libs: Path) -> None:
        """Once per node. A data folder without the mark was never started: what a killed command left is removed."""
        folder = self.node_folder(node)
        shutil.rmtree(folder / "data")
        (folder / "data").mkdir(mode=0o700)
        first = ",".join(
            f"{member.node}@{_HOST}:{member.controllers}:{member.directory}"
            for member in (self._members[one] for one in self.nodes)
        )
        command = [java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self._java_options]
        command += [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", f"{libs}/*"]
        command += ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-I", first]
        command += ["-c", str(folder / "server.properties")]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if ran.returncode != 0:
            write_file(folder / "logs" / "format.log", ran.stdout)
            raise KafkaMissingError(
                f"node {node} could not be prepared; see {folder / 'logs' / 'format.log'}",
                f"le nœud {node} n'a pas pu être préparé ; voir {folder / 'logs' / 'format.log'}",
            )
        write_file(folder / "formatted", self.cluster_id.encode("ascii") + b"\n")

    def _launch(self, node: int, java: str, libs: Path) -> None:
        folder = self.node_folder(node)
        console = folder / "logs" / "console.log"
        # The console takes only what comes before or beside the logs: warnings of Java itself.
        if console.exists() and console.stat().st_size > 1 << 20:
            console.replace(folder / "logs" / "console.log.1")
        command = [java, *_JAVA, *self._java_options, f"-Dkafka.logs.dir={folder / 'logs'}"]
        command += [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", f"{libs}/*"]
        command += ["kafka.Kafka", str(folder / "server.properties")]
        processes.launch(folder / "process", command, console, os.environ)
        deadline = time.monotonic() + 10
        while not (folder / "process").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _failed(self, node: int) -> KafkaMissingError:
        logs = self.node_folder(node) / "logs"
        return KafkaMissingError(
            f"Kafka's node {node} does not answer; see {logs / 'server.log'} and {logs / 'console.log'}",
            f"le nœud {node} de Kafka ne répond pas ; voir {logs / 'server.log'} et {logs / 'console.log'}",
        )


def _make(folder: Path, nodes: int) -> None:
    """Choose ids and ports, once. Nothing else exists before this file does."""
    if nodes not in (1, 3):
        raise SettingsError("a cluster has 1 or 3 nodes", "un Kafka a 1 ou 3 nœuds")
    ports = iter(_free_ports(2 * nodes))
    members: list[dict[str, Any]] = [
        {"node": node, "clients": next(ports), "controllers": next(ports), "directory": _kafka_id()}
        for node in range(1, nodes + 1)
    ]
    document = {"v": 1, "id": _kafka_id(), "nodes": members}
    write_file(folder / "cluster.json", json.dumps(document, indent=2).encode("ascii") + b"\n")


def _kafka_id() -> str:
    """Kafka's form of a random UUID; one that begins with a dash would look like an option."""
    while True:
        text = b64url(uuid.uuid4().bytes)
        if not text.startswith("-"):
            return text


def _free_ports(count: int) -> list[int]:
    """Below those that the system gives to outgoing connections: such a port may be busy when a node comes back."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    candidates = random.sample(range(10_000, max(first, 20_000)), 2000)
    found: list[int] = []
    for port in candidates:
        if _free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise SettingsError("no free port", "aucun port libre")


def _free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((_HOST, port))
        except OSError:
            return False
        return True


def _expiry(path: Path) -> int | None:
    """When the certificate in a PEM file ends; None when there is none that can be read."""
    try:
        return certificates.expires(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One at a time; the lock goes with the process that holds it, and no child inherits it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
