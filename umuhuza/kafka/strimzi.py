# SPDX-License-Identifier: Apache-2.0
"""A domain on a Kafka that Strimzi runs in Kubernetes: its resources, from the registry and the catalogue.

    for name, text in resources(registry).items(): ...       # kafka.yaml, topics.yaml, users.yaml

Topics and rights are the catalogue's: what `umuhuza kafka apply` does on other clusters, Strimzi's operators do here.
What differs: Strimzi allows no `ssl.principal.mapping.rules`, and its users are who their certificate's whole subject
says. So the agency bi/iom comes with a certificate of Strimzi's own clients' authority whose subject is `CN=bi.iom`,
as the principal `User:CN=bi.iom` and not as `User:bi.iom`; Strimzi writes the ACLs for that name. Certificates made by
`umuhuza kafka issue` (O=bi, CN=iom) are of no use there.

The API is kafka.strimzi.io/v1. Pure: no I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from schemas.registry import Registry
from topics.kafka_catalogue import KafkaTopic, kafka_acls, kafka_quotas, kafka_topic, kafka_topics, ledger_client
from umuhuza.kafka.certificates import ADMIN, principal_of
from umuhuza.kafka.production import Hosts, node_properties

API = "kafka.strimzi.io/v1"
CLUSTER = "umuhuza"
NODES = 3
_STRIMZI_S = (
    "listeners",
    "advertised.",
    "broker.",
    "listener.",
    "inter.broker.listener.name",
    "ssl.",
    "log.dir",
    "authorizer.",
    "super.user",
    "node.id",
    "process.roles",
    "controller.",
    "allow.everyone.if.no.acl.found",
)
"""What Strimzi says to its nodes itself and refuses to be told (`KafkaClusterSpec.FORBIDDEN_PREFIXES`, API 1.2), and
the authorizer's default, which is ours."""
_QUOTAS = {
    "producer_byte_rate": "producerByteRate",
    "consumer_byte_rate": "consumerByteRate",
    "request_percentage": "requestPercentage",
}
_GENERATED = "Made by `umuhuza kafka strimzi` from the registry and the catalogue: make it again, do not edit."


def resources(registry: Registry, storage: str = "20Gi", known: Collection[str] = ()) -> dict[str, str]:
    """File name -> YAML.

    Args:
        storage: of each node.
        known: topics that were made before (`topics_in`). Those of agencies that have left stay: a KafkaTopic that is
            taken away takes its records with it, and what was sent to them is still erased.

    Raises LogError `topic_unknown`: a known one's name is no topic's.
    """
    topics = kafka_topics(registry, NODES)
    departed = sorted(set(known) - topics.keys())
    topics |= {name: kafka_topic(name, NODES) for name in departed}
    return {
        "kafka.yaml": _documents([_pool("controller", "2Gi"), _pool("broker", storage), _kafka()]),
        "topics.yaml": _documents(_topics(topics)),
        "users.yaml": _documents(_users(registry, departed)),
    }


def topics_in(text: str) -> set[str]:
    """Names of the topics in a `topics.yaml` that was made here."""
    return {json.loads(name) for name in re.findall(r'^  name: ("[^"\n]+")$', text, re.MULTILINE)}


def _kafka() -> dict[str, Any]:
    hosts = Hosts(("a", "b", "c"))
    told = node_properties(hosts, 1)
    config = {name: value for name, value in told.items() if not name.startswith(_STRIMZI_S)}
    return {
        "apiVersion": API,
        "kind": "Kafka",
        "metadata": {"name": CLUSTER},
        "spec": {
            "kafka": {
                "listeners": [
                    {
                        "name": "clients",
                        "port": 9092,
                        "type": "internal",
                        "tls": True,
                        "authentication": {"type": "tls"},
                    }
                ],
                "authorization": {"type": "simple", "superUsers": [f"CN={ADMIN}"]},
                "config": config,
            },
            "entityOperator": {"topicOperator": {}, "userOperator": {}},
        },
    }


def _pool(role: str, size: str) -> dict[str, Any]:
    volume = {
        "id": 0,
        "type": "persistent-claim",
        "size": size,
        # A cluster that is deleted by mistake leaves its disks.
        "deleteClaim": False,
        "kraftMetadata": "shared",
    }
    return _resource(
        "KafkaNodePool",
        role,
        {"replicas": NODES, "roles": [role], "storage": {"type": "jbod", "volumes": [volume]}},
    )


def _topics(topics: Mapping[str, KafkaTopic]) -> list[dict[str, Any]]:
    return [
        _resource(
            "KafkaTopic",
            name,
            {"partitions": 1, "replicas": topic.replication, "config": dict(sorted(topic.settings.items()))},
        )
        for name, topic in sorted(topics.items())
    ]


def _users(registry: Registry, departed: Collection[str]) -> list[dict[str, Any]]:
    keeper = ledger_client(registry)
    clients = (*registry.agencies, *(() if keeper is None else (keeper,)))
    rights: dict[str, dict[str, set[str]]] = {f"User:{principal_of(client)}": {} for client in clients}
    for acl in kafka_acls(registry, departed=departed):
        rights[acl.principal].setdefault(acl.name, set()).add(acl.operation.capitalize())
    agencies = {f"User:{principal_of(agency)}": agency for agency in registry.agencies}
    quotas = kafka_quotas(registry)
    limits = {
        principal: {_QUOTAS[name]: int(value) for name, value in quotas[agency.replace("/", ".")].items()}
        for principal, agency in agencies.items()
        if agency.replace("/", ".") in quotas
    }
    users = [_resource("KafkaUser", ADMIN, {"authentication": {"type": "tls"}})]
    for principal, topics in sorted(rights.items()):
        acls = [
            {
                "type": "allow",
                "resource": {"type": "topic", "name": name, "patternType": "literal"},
                "operations": sorted(operations),
            }
            for name, operations in sorted(topics.items())
        ]
        spec: dict[str, Any] = {
            "authentication": {"type": "tls"},
            "authorization": {"type": "simple", "acls": acls},
        }
        if principal in limits:
            spec["quotas"] = limits[principal]
        users.append(_resource("KafkaUser", principal.removeprefix("User:"), spec))
    return users


def _resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    labels = {"strimzi.io/cluster": CLUSTER}
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}


def _documents(documents: Sequence[Mapping[str, Any]]) -> str:
    parts = ["\n".join(yaml_lines(document)) + "\n" for document in documents]
    return f"# SPDX-License-Identifier: Apache-2.0\n# {_GENERATED}\n" + "---\n".join(["", *parts]).lstrip("\n")


def yaml_lines(value: Mapping[str, Any], indent: str = "") -> list[str]:
    """A mapping as YAML 1.2 block style. Text that could be read as anything else is quoted."""
    lines: list[str] = []
    for name, one in value.items():
        if isinstance(one, Mapping) and one:
            lines += [f"{indent}{name}:", *yaml_lines(one, indent + "  ")]
        elif isinstance(one, list) and one:
            lines.append(f"{indent}{name}:")
            for item in one:
                if isinstance(item, Mapping):
                    first, *rest = yaml_lines(item, indent + "    ")
                    lines += [f"{indent}  - {first.lstrip()}", *rest]
                else:
                    lines.append(f"{indent}  - {_scalar(item)}")
        else:
            lines.append(f"{indent}{name}: {_scalar(one)}")
    return lines


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and value.replace("-", "").isalpha() and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
