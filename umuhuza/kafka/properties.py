# SPDX-License-Identifier: Apache-2.0
"""What a node of a cluster is told, as pure functions: a node for this machine and nodes for production alike.

    text = render(combined_properties(node, cluster))          # broker and controller in one process
    text = render(broker_properties(node, cluster))            # production: brokers ...
    text = render(controller_properties(node, cluster))        # ... and controllers apart

What all of them hold to: TLS 1.3 with a client certificate on every listener, deny by default (StandardAuthorizer),
nothing made by being asked for (no automatic topics), nothing deleted by time unless its topic says so, every record
flushed to disk before it is acknowledged, and never a leader that lacks acknowledged records (no unclean election).
Must never: read a file or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from umuhuza.kafka.certificates import ADMIN, MAPPING_RULES


@dataclass(frozen=True, slots=True)
class Node:
    """One process. Addresses are `host:port`."""

    id: int
    keystore: PurePath
    """PEM: PKCS#8 key, then certificate."""
    truststore: PurePath
    """PEM: the cluster's authority."""
    data: PurePath
    clients: str = ""
    """Where agencies, gateways and the other brokers reach it; empty for a controller on its own."""
    controllers: str = ""
    """Where nodes reach its controller; empty for a broker on its own."""
    bind: str | None = None
    """Address to listen on when it is not the one by which it is reached (`0.0.0.0`)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What all nodes of a cluster share."""

    controllers: tuple[str, ...]
    """`host:port` of every controller."""
    nodes: tuple[int, ...]
    """Ids of all nodes, brokers and controllers: super users."""
    brokers: int
    """How many brokers; topics are kept on up to three."""

    @property
    def replicas(self) -> int:
        return min(3, self.brokers)

    @property
    def insync(self) -> int:
        """Copies that must exist before a record is acknowledged: with three, one may be lost and work goes on."""
        return max(1, self.replicas - 1)


def combined_properties(node: Node, layout: Layout) -> dict[str, str]:
    """Broker and controller in one process: this machine, one building; upstream advises against it for more."""
    return {
        "process.roles": "broker,controller",
        **_identity(node, layout),
        "listeners": f"CLIENTS://{_bound(node.clients, node)},CONTROLLER://{_bound(node.controllers, node)}",
        "advertised.listeners": f"CLIENTS://{node.clients},CONTROLLER://{node.controllers}",
        "inter.broker.listener.name": "CLIENTS",
        **_security(node, layout),
        **_broker(node, layout),
        **_controller(layout),
    }


def broker_properties(node: Node, layout: Layout) -> dict[str, str]:
    """A broker whose controllers are other processes."""
    return {
        "process.roles": "broker",
        **_identity(node, layout),
        "listeners": f"CLIENTS://{_bound(node.clients, node)}",
        "advertised.listeners": f"CLIENTS://{node.clients}",
        "inter.broker.listener.name": "CLIENTS",
        **_security(node, layout),
        **_broker(node, layout),
    }


def controller_properties(node: Node, layout: Layout) -> dict[str, str]:
    """A controller on its own: three of them keep a cluster's metadata in production."""
    return {
        "process.roles": "controller",
        **_identity(node, layout),
        "listeners": f"CONTROLLER://{_bound(node.controllers, node)}",
        "advertised.listeners": f"CONTROLLER://{node.controllers}",
        **_security(node, layout),
        "log.dirs": str(node.data),
        **_topics(layout),
        **_controller(layout),
    }


def render(properties: Mapping[str, str], comments: Sequence[str] = ()) -> str:
    """A Java properties file. Values keep their backslashes; there is no comment after a value, it would be part of it.

    Raises:
        ValueError: a value with a line break, or one that begins with a space: both would be read as something else.
    """
    for value in properties.values():
        if value != value.strip() or "\n" in value or "\r" in value:
            raise ValueError("a value that a properties file cannot hold as it is")
    lines = [f"# {line}" for line in ("SPDX-License-Identifier: Apache-2.0", *comments)]
    lines += [f"{name}={value}".replace("\\", "\\\\") for name, value in properties.items()]
    return "\n".join(lines) + "\n"


def logging_properties(folder: PurePath) -> str:
    """Log4j 2: warnings, and every refusal by the ACLs, into files of `folder` that rotate (at most 60 MB in all).

    Neither file holds records: brokers log names of topics, principals, addresses and states.
    """
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "status=warn",
        "name=umuhuza-kafka",
        # Every line is flushed as it is written; Kafka still logs while the hook would already have closed the files.
        "shutdownHook=disable",
        *_appender("server", folder / "server.log"),
        *_appender("authorizer", folder / "authorizer.log"),
        "rootLogger.level=warn",
        "rootLogger.appenderRef.server.ref=server",
        # Denials are INFO there; what is allowed is DEBUG and stays out.
        "logger.authorizer.name=kafka.authorizer.logger",
        "logger.authorizer.level=info",
        "logger.authorizer.additivity=false",
        "logger.authorizer.appenderRef.authorizer.ref=authorizer",
    ]
    return "\n".join(lines) + "\n"


def _appender(name: str, file: PurePath) -> list[str]:
    prefix = f"appender.{name}"
    return [
        f"{prefix}.type=RollingFile",
        f"{prefix}.name={name}",
        f"{prefix}.fileName={file}",
        f"{prefix}.filePattern={file}.%i",
        f"{prefix}.layout.type=PatternLayout",
        f"{prefix}.layout.pattern=%d{{yyyy-MM-dd'T'HH:mm:ss.SSS}}{{UTC}}Z %p %m (%c)%n",
        f"{prefix}.policies.type=Policies",
        f"{prefix}.policies.size.type=SizeBasedTriggeringPolicy",
        f"{prefix}.policies.size.size=5MB",
        f"{prefix}.strategy.type=DefaultRolloverStrategy",
        f"{prefix}.strategy.max=5",
    ]


def _bound(address: str, node: Node) -> str:
    return address if node.bind is None else f"{node.bind}:{address.rpartition(':')[2]}"


def _identity(node: Node, layout: Layout) -> dict[str, str]:
    return {
        "node.id": str(node.id),
        "controller.quorum.bootstrap.servers": ",".join(layout.controllers),
        "controller.listener.names": "CONTROLLER",
    }


def _security(node: Node, layout: Layout) -> dict[str, str]:
    return {
        # TLS on the controllers' listener too: a node's principal has to be a super user there, not ANONYMOUS.
        "listener.security.protocol.map": "CLIENTS:SSL,CONTROLLER:SSL",
        "ssl.client.auth": "required",
        "ssl.protocol": "TLSv1.3",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(node.keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(node.truststore),
        "ssl.principal.mapping.rules": MAPPING_RULES,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": ";".join([*(f"User:node-{one}" for one in layout.nodes), f"User:{ADMIN}"]),
        "allow.everyone.if.no.acl.found": "false",
    }


def _topics(layout: Layout) -> dict[str, str]:
    """Defaults of topics: the catalogue says the same for each of its topics; this is for one that it did not make."""
    return {
        "auto.create.topics.enable": "false",
        "min.insync.replicas": str(layout.insync),
        "unclean.leader.election.enable": "false",
    }


def _broker(node: Node, layout: Layout) -> dict[str, str]:
    replicas, insync = str(layout.replicas), str(layout.insync)
    return {
        "log.dirs": str(node.data),
        **_topics(layout),
        "log.retention.ms": "-1",
        "log.message.timestamp.type": "LogAppendTime",
        "log.flush.interval.messages": "1",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": insync,
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": insync,
        "share.coordinator.state.topic.num.partitions": "1",
        # A small machine: the defaults are for servers of many cores. The cleaner allocates its buffer at the start.
        "log.cleaner.dedupe.buffer.size": "16777216",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.replica.fetchers": "1",
        "background.threads": "4",
        "queued.max.requests": "100",
        "max.connections": "1000",
        # A client of ours takes about ten: one that loses them in a loop must not take everybody's. A cluster on one
        # machine has all its clients at one address.
        "max.connections.per.ip": "200",
        "max.connections.per.ip.overrides": "127.0.0.1:1000",
    }


def _controller(layout: Layout) -> dict[str, str]:
    return {
        # Brokers alone warn that these two are the controllers' from Kafka 5 on.
        "default.replication.factor": str(layout.replicas),
        "num.partitions": "1",
        # An idle cluster writes nothing but its heartbeat; twice a second, flushed, would wear out a small disk.
        "metadata.max.idle.interval.ms": "5000",
    }
