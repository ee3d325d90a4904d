# SPDX-License-Identifier: Apache-2.0
"""What stands in `deploy/kafka` and `deploy/strimzi`, made by the same functions as the cluster of `umuhuza kafka up`.

`python -m umuhuza.publish` writes it and `--check` compares it, with the published schemas. Hosts are
`kafka-N.example` (RFC 2606: no such names exist), agencies invented; `umuhuza kafka prepare` and `umuhuza kafka
strimzi` make the same with an operator's own. Pure: no I/O but the version in our own pom.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from types import MappingProxyType

from schemas.registry import Agency, Registry, Role, empty_registry
from umuhuza.kafka.artefacts import version
from umuhuza.kafka.production import ETC, LOGS, Hosts, node_properties
from umuhuza.kafka.properties import logging_properties, render
from umuhuza.kafka.strimzi import resources, yaml_lines

IMAGE = f"apache/kafka:{version()}"
DIGEST = "sha256:77e3df9054047a88b520d0cc46e16696d3b22022e1d580aeccd2632df6532837"
"""Of the image's list for all architectures, as several projects that pull it have pinned it. An image is named by its
contents, so a wrong digest starts nothing."""
IMAGE_DATA = PurePosixPath("/var/lib/kafka/data")
"""Belongs to the image's own user, so that a new volume there does."""

ONE = Hosts(("kafka-1.example",))
THREE = Hosts(("kafka-1.example", "kafka-2.example", "kafka-3.example"))
PRODUCTION = Hosts(THREE.brokers, ("kafka-4.example", "kafka-5.example", "kafka-6.example"))
_ALSO = "Replace kafka-N.example by your own hosts; `umuhuza kafka prepare` writes this file with them."


def files() -> dict[str, str]:
    """Path below `deploy/` -> text."""
    made = {
        "kafka/one/server.properties": _properties(ONE, 1, "The only node, broker and controller in one."),
        "kafka/log4j2.properties": logging_properties(LOGS),
        "kafka/compose.yaml": compose(),
    }
    for node in (1, 2, 3):
        told = f"Node {node} of three on three machines, broker and controller in one."
        made[f"kafka/three/node-{node}.properties"] = _properties(THREE, node, told)
    for node in (1, 2, 3):
        told = f"Broker {node} of three; the controllers are nodes 4 to 6."
        made[f"kafka/production/broker-{node}.properties"] = _properties(PRODUCTION, node, told)
    for node in (4, 5, 6):
        told = f"Controller {node} of 4 to 6; the brokers are nodes 1 to 3."
        made[f"kafka/production/controller-{node}.properties"] = _properties(PRODUCTION, node, told)
    return made | {f"strimzi/{name}": text for name, text in resources(example_registry()).items()}


def environment() -> dict[str, str]:
    """The only node's properties as variables of the apache/kafka image, which makes the file from them again.

    The image formats an empty disk without naming its first controllers, so that they stand in the properties as well.
    """
    voters = ",".join(f"{node}@{address}" for node, address in ONE.voters().items())
    told = node_properties(ONE, 1, data=IMAGE_DATA) | {"controller.quorum.voters": voters}
    return {variable(name): value for name, value in told.items()}


def variable(name: str) -> str:
    """`log.dirs` -> `KAFKA_LOG_DIRS`, as the image reads it: a dot is `_`, a dash `___`, an underscore `__`."""
    return "KAFKA_" + name.replace("_", "__").replace("-", "___").replace(".", "_").upper()


def compose() -> str:
    """One node in a container; its disk is a volume, its certificates are read from a folder of `prepare`."""
    told = {
        name: value.replace("$", "$$").replace(ONE.all[0], "${KAFKA_HOST}") for name, value in environment().items()
    }
    node = {
        "image": f"{IMAGE}@{DIGEST}",
        "hostname": "${KAFKA_HOST:?its name}",
        "restart": "always",
        "stop_grace_period": "120s",
        "ports": ["9092:9092"],
        "environment": {
            "CLUSTER_ID": "${KAFKA_CLUSTER_ID:?id in site.json}",
            "KAFKA_HEAP_OPTS": "-Xms64m -Xmx512m",
            **told,
        },
        "volumes": [f"${{KAFKA_NODE:?folder node-1}}:{ETC}:ro", f"data:{IMAGE_DATA}"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ulimits": {"nofile": 65536},
        "mem_limit": "1g",
    }
    document = {"name": "umuhuza-kafka", "services": {"kafka": node}, "volumes": {"data": {}}}
    comments = [
        "SPDX-License-Identifier: Apache-2.0",
        "Apache Kafka for a domain, one node in a container, told what deploy/kafka/one/server.properties says.",
        "After `umuhuza kafka prepare --broker HOST --dir kafka`, give it: KAFKA_HOST, that host; KAFKA_CLUSTER_ID,",
        "the `id` in kafka/site.json; KAFKA_NODE, the folder kafka/node-1, which belongs to user 1000 (the image's).",
        "The image formats an empty volume with that id.",
    ]
    return "".join(f"# {line}\n" for line in comments) + "\n".join(yaml_lines(document)) + "\n"


def example_registry() -> Registry:
    """Invented members of a domain; without keys, which no topic and no right depends on."""
    members: list[tuple[str, tuple[Role, ...], bool]] = [
        ("bi/operator", ("operator",), False),
        ("bi/police", ("police",), False),
        ("bi/iom", ("screener", "assistance", "facilitator"), False),
        ("bi/k7t4", ("assistance", "shelter"), True),
    ]
    registry = empty_registry("bi", 0)
    for agency, roles, protected in members:
        names = MappingProxyType({"fr": agency})
        registry = registry.with_agency(Agency(agency, names, roles, (), protected), 0)
    return registry


def _properties(hosts: Hosts, node: int, told: str) -> str:
    return render(node_properties(hosts, node), (told, _ALSO))
