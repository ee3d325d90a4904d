# SPDX-License-Identifier: Apache-2.0
"""A cluster whose nodes run on other machines: everything that each of them needs, as folders to carry there.

    site = Site.open_or_make(folder, Hosts(("kafka-1.example", "kafka-2.example", "kafka-3.example")))
    site.prepare(now)                          # node-1/ ... node-3/, clients/admin/
    site.client("bi/iom", now)                 # clients/bi.iom/

The folder: `site.json` (identity and hosts, written once), `ca/`, per node `node-<id>/` (properties, logging,
authority, keystore, the command that formats its disk) and per client `clients/<principal>/` (address, authority,
certificate, key). It stays with whoever keeps the authority; what is in `node-<id>/` and `clients/<principal>/` is
carried.

Invariants: ids of cluster, nodes and directories never change once chosen; a certificate is issued again only in its
last month; every method may be called again, and whatever step one was killed at, the next goes on from there.
Must never: start, reach or end anything.
"""

from __future__ import annotations

import fcntl
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from schemas.keys import b64url
from topics.settings import SettingsError
from umuhuza.kafka import certificates
from umuhuza.kafka.certificates import ADMIN, Authority, Issued, write_file
from umuhuza.kafka.properties import (
    Layout,
    Node,
    broker_properties,
    combined_properties,
    controller_properties,
    logging_properties,
    render,
)

CLIENTS_PORT = 9092
CONTROLLERS_PORT = 9093
ETC = PurePosixPath("/etc/umuhuza-kafka")
DATA = PurePosixPath("/var/lib/umuhuza-kafka/data")
LOGS = PurePosixPath("/var/log/umuhuza-kafka")
LIBS = PurePosixPath("/opt/umuhuza-kafka/libs")
"""Where files stand on a node's machine; `deploy/systemd/umuhuza-kafka.service` says the same."""
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_COMMENTS = ("Where the node listens and what it may do; nothing follows a value on its line, it would be part of it.",)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names or IPv4 addresses by which nodes reach one another and clients reach brokers.

    Raises:
        SettingsError: a host twice, not a host's name, or a number of nodes that cannot work.
    """

    brokers: tuple[str, ...]
    controllers: tuple[str, ...] = ()
    """Empty: each broker is a controller as well (one or three of them)."""

    def __post_init__(self) -> None:
        wrong = [host for host in self.all if _HOST.fullmatch(host) is None]
        if wrong or len(set(self.all)) != len(self.all):
            raise SettingsError(
                "every node has a host of its own, written in small letters, without a port",
                "chaque nœud a sa propre machine, écrite en minuscules et sans port",
            )
        voters = self.controllers or self.brokers
        if len(voters) not in (1, 3, 5) or not self.brokers:
            raise SettingsError(
                "1, 3 or 5 nodes are controllers: an even number of them is no safer than one fewer",
                "1, 3 ou 5 nœuds sont contrôleurs : un nombre pair n'est pas plus sûr qu'un de moins",
            )

    @property
    def all(self) -> tuple[str, ...]:
        """Node 1 is the first."""
        return (*self.brokers, *self.controllers)

    @property
    def layout(self) -> Layout:
        voters = self.controllers or self.brokers
        ids = tuple(range(1, len(self.all) + 1))
        return Layout(tuple(f"{host}:{CONTROLLERS_PORT}" for host in voters), ids, len(self.brokers))

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return tuple(f"{host}:{CLIENTS_PORT}" for host in self.brokers)

    def voters(self) -> dict[int, str]:
        """Node -> `host:port` of those that are controllers."""
        first = len(self.brokers) if self.controllers else 0
        chosen = self.controllers or self.brokers
        return {first + place: f"{host}:{CONTROLLERS_PORT}" for place, host in enumerate(chosen, 1)}


def node_properties(hosts: Hosts, node: int, etc: PurePosixPath = ETC, data: PurePosixPath = DATA) -> dict[str, str]:
    """What node `node` of these hosts is told; it listens on every address of its machine."""
    host = hosts.all[node - 1]
    broker, controller = node <= len(hosts.brokers), node in hosts.voters()
    itself = Node(
        node,
        etc / "keystore.pem",
        etc / "ca.pem",
        data,
        f"{host}:{CLIENTS_PORT}" if broker else "",
        f"{host}:{CONTROLLERS_PORT}" if controller else "",
        bind="0.0.0.0",
    )
    if broker and controller:
        return combined_properties(itself, hosts.layout)
    return broker_properties(itself, hosts.layout) if broker else controller_properties(itself, hosts.layout)


def format_arguments(hosts: Hosts, node: int, cluster_id: str, directories: Mapping[int, str]) -> list[str]:
    """Of Kafka's StorageTool, for the node's empty disk. All nodes of a cluster are given the same id and voters.

    A disk is never formatted by the service itself: one that failed to mount would begin again as an empty log.
    """
    arguments = ["format", "-t", cluster_id]
    voters = hosts.voters()
    if node in voters:
        arguments += ["-I", ",".join(f"{one}@{address}:{directories[one]}" for one, address in voters.items())]
    return [*arguments, "-c", str(ETC / "server.properties")]


def format_script(arguments: list[str]) -> str:
    """Run once on the node's machine, as the user of the service."""
    quoted = " ".join(f"'{one}'" for one in arguments)
    lines = [
        "#!/bin/sh",
        "# SPDX-License-Identifier: Apache-2.0",
        "# Once, for an empty disk; Kafka refuses one that was formatted before.",
        f"exec java -Xmx128m -Dlog4j2.configurationFile='{ETC / 'log4j2.properties'}' \\",
        f"  -cp '{LIBS}/*' kafka.tools.StorageTool {quoted}",
    ]
    return "\n".join(lines) + "\n"


class Site:
    """Keeps no state beside the folder."""

    def __init__(self, folder: Path, cluster_id: str, hosts: Hosts, directories: Mapping[int, str]) -> None:
        self.folder = folder
        self.cluster_id = cluster_id
        self.hosts = hosts
        self._directories = dict(directories)

    @classmethod
    def open_or_make(cls, folder: Path, hosts: Hosts) -> Site:
        """Raises SettingsError: the folder is another cluster's, or its hosts are others."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        if (folder / "cluster.json").exists():
            raise SettingsError(
                "a Kafka of this machine is kept in this folder (umuhuza kafka up); choose another",
                "ce dossier est celui d'un Kafka de cette machine (umuhuza kafka up) ; choisissez-en un autre",
            )
        file = folder / "site.json"
        with _turn(folder):
            if not file.exists():
                ids = {str(node): _id() for node in range(1, len(hosts.all) + 1)}
                made = {
                    "v": 1,
                    "id": _id(),
                    "brokers": hosts.brokers,
                    "controllers": hosts.controllers,
                    "directories": ids,
                }
                write_file(file, json.dumps(made, indent=2).encode("ascii") + b"\n")
        try:
            raw = json.loads(file.read_bytes())
            held = Hosts(tuple(raw["brokers"]), tuple(raw["controllers"]))
            site = cls(folder, str(raw["id"]), held, {int(node): str(one) for node, one in raw["directories"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError("site.json cannot be read", "site.json ne peut pas être lu") from None
        if held != hosts:
            raise SettingsError(
                "the cluster in this folder has other hosts, and keeps them: " + ", ".join(held.all),
                "le Kafka de ce dossier a d'autres machines, et les garde : " + ", ".join(held.all),
            )
        return site

    def prepare(self, now: float) -> tuple[str, ...]:
        """Write every node's folder and the administrator's. Returns what was issued: `node-1`, `admin`.

        Raises:
            SettingsError: the authority's files are damaged.
        """
        issued = []
        with _turn(self.folder):
            authority = self._authority(now)
            for node, host in enumerate(self.hosts.all, 1):
                folder = self.folder / f"node-{node}"
                folder.mkdir(mode=0o700, exist_ok=True)
                if _old(folder / "keystore.pem", now):
                    made = authority.node(node, (host,), now)
                    write_file(folder / "keystore.pem", made.key + made.certificate)
                    issued.append(f"node-{node}")
                write_file(folder / "ca.pem", authority.pem)
                text = render(node_properties(self.hosts, node), (f"Node {node}, {host}.", *_COMMENTS))
                write_file(folder / "server.properties", text.encode("utf-8"))
                write_file(folder / "log4j2.properties", logging_properties(LOGS).encode("utf-8"))
                script = format_script(format_arguments(self.hosts, node, self.cluster_id, self._directories))
                write_file(folder / "format.sh", script.encode("utf-8"))
            if self._client(authority, ADMIN, now):
                issued.append(ADMIN)
        return tuple(issued)

    def client(self, agency: str, now: float) -> bool:
        """Make what an agency, `bi/iom`, needs to come. False: it has a certificate that lasts another month.

        Raises:
            ValueError: not an agency's id.
            SettingsError: the authority's files are damaged.
        """
        with _turn(self.folder):
            return self._client(self._authority(now), agency, now)

    def _client(self, authority: Authority, who: str, now: float) -> bool:
        principal = ADMIN if who == ADMIN else certificates.principal_of(who)
        folder = self.folder / "clients" / principal
        for made in (folder.parent, folder):
            made.mkdir(mode=0o700, exist_ok=True)
        write_file(folder / "ca.pem", authority.pem)
        write_file(folder / "bootstrap", (",".join(self.hosts.bootstrap) + "\n").encode("ascii"))
        certificate = folder / "certificate.pem"
        if (folder / "key.pem").exists() and not _old(certificate, now):
            return False
        issued: Issued = authority.admin(now) if who == ADMIN else authority.agency(who, now)
        # A kill between the two leaves a key without a certificate, which the next call mends.
        certificate.unlink(missing_ok=True)
        write_file(folder / "key.pem", issued.key)
        write_file(certificate, issued.certificate)
        return True

    def _authority(self, now: float) -> Authority:
        folder = self.folder / "ca"
        folder.mkdir(mode=0o700, exist_ok=True)
        certificate, key = folder / "ca.pem", folder / "ca.key"
        # The certificate is written last: without it nothing was issued yet, and a key alone is made again.
        if not certificate.exists():
            made = Authority.make(self.cluster_id, now)
            write_file(key, made.key_pem)
            write_file(certificate, made.pem)
        try:
            return Authority.read(certificate.read_bytes(), key.read_bytes())
        except (OSError, ValueError):
            raise SettingsError(
                "ca: the authority's certificate or key cannot be read",
                "ca : le certificat ou la clé de l'autorité ne peut pas être lu",
            ) from None


def _old(certificate: Path, now: float) -> bool:
    """There is none that can be read, or it ends within a month."""
    try:
        return certificates.expires(certificate.read_bytes()) - now < certificates.RENEW_S
    except (OSError, ValueError):
        return True


def _id() -> str:
    """Kafka's form of a random UUID; one that begins with a dash would look like an option."""
    while True:
        text = b64url(uuid.uuid4().bytes)
        if not text.startswith("-"):
            return text


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One command at a time; the lock goes with the process that holds it."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
