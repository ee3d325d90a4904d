# SPDX-License-Identifier: Apache-2.0
"""The policy compiled for Kafka: which topics there are, how they must be, who may read and write what, and how much.

Purpose: what brokers can enforce by themselves; the rest (types, kinds, claims) is asked of `topics.catalogue.may`.
Invariants: one partition per mailbox; ACLs are literal, since a prefix would serve a neighbour's name; what is not
listed is denied.
Must never: talk to a cluster (`topics.kafka_admin` does).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schemas.envelope import FLOWS, KINDS, split_topic
from schemas.errors import LogError, RecordError
from schemas.registry import Agency, Registry
from topics import policy_file
from topics.catalogue import Act, mailboxes_of, may, outgoing_of, topics_of
from topics.log import grants_topic
from topics.topic_names import LEDGER_TOPIC, REGISTRY_TOPIC, is_grants_topic, ledger_topic, registry_topic


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic as it must be: always one partition, since a mailbox is one order."""

    name: str
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KafkaAcl:
    """One line of who may do what on the brokers. Ours are all literal: a prefix would serve a neighbour's name."""

    principal: str
    """ "User:bi.iom"."""
    operation: str
    """ "read" or "write"; each includes seeing the topic."""
    name: str
    resource: str = "topic"
    pattern: str = "literal"
    permission: str = "allow"
    host: str = "*"


_REPLICAS = 3


def kafka_principal(agency: str) -> str:
    """`bi/iom` -> `User:bi.iom`: what the brokers make of the certificate with O=bi, CN=iom."""
    return "User:" + agency.replace("/", ".")


def ledger_client(registry: Registry) -> str | None:
    """As whom the keeper of the domain's ledger comes to the brokers, `bi/ledger`: no agency, and in no registry.

    None where an agency has that name: it must not get the ledger's rights, and there is no ledger on these brokers.
    """
    keeper = f"{registry.domain}/ledger"
    return None if keeper in registry.agencies else keeper


def kafka_topic(name: str, nodes: int) -> KafkaTopic:
    """How a topic must be on a cluster of so many brokers. Raises LogError `topic_unknown`: the name is no topic's.

    Three brokers or more: three replicas, two of which have every acknowledged record, and a replica that lacks one
    never leads.
    """
    if is_grants_topic(name):
        kind = "grants"
    elif REGISTRY_TOPIC.fullmatch(name):
        kind = "registry"
    elif LEDGER_TOPIC.fullmatch(name):
        kind = "ledger"
    else:
        try:
            flow, _ = split_topic(name)
        except RecordError:
            raise LogError("topic_unknown", "topic") from None
        if flow not in FLOWS:
            raise LogError("topic_unknown", "topic")
        kind = "mailbox"
    replication = min(nodes, _REPLICAS)
    safety = {"min.insync.replicas": str(min(replication, 2)), "unclean.leader.election.enable": "false"}
    return KafkaTopic(name, replication, MappingProxyType({**policy_file.policy().kafka[kind], **safety}))


def kafka_topics(registry: Registry, nodes: int) -> dict[str, KafkaTopic]:
    """Every topic of a domain on Kafka, by name: `topics_of`, with what goes over its borders, the ledger's, and the
    one that says which log it is."""
    names = (*topics_of(registry), registry_topic(registry.domain), ledger_topic(registry.domain))
    return {name: kafka_topic(name, nodes) for name in names}


def hosted_for(registry: Registry, domain: str) -> frozenset[str]:
    """Topics of that other domain's name which ours hosts for a bridge: outgoing mailboxes and their grants."""
    outgoing = {name for name in outgoing_of(registry) if name.startswith(f"{domain}.")}
    return frozenset(outgoing | {grants_topic(split_topic(name)[1]) for name in outgoing})


def kafka_acls(
    registry: Registry, withheld: Collection[str] = (), departed: Collection[str] = ()
) -> frozenset[KafkaAcl]:
    """Every ACL of a domain's agencies; what is not here is denied.

    An agency reads its own mailboxes, its own grants and the log's identity. One that has opted in (`direct`) writes
    where `may` lets it send: a broker sees neither type nor kind, so this is by topic, whatever flow and roles allow. A
    gateway (role operator) reads and writes every mailbox and every grants topic. Whoever keeps the ledger
    (`ledger_client`) reads the same, grants to see whether what was erased is gone, and writes the ledger's topic,
    which nobody else does: neither can do the other's work. Nobody here makes topics, changes or trims them:
    administrators do, who need no ACL. An idempotent producer needs no more than to write (Kafka 2.8 and later).

    What goes over a border stands in topics of another domain's name (`catalogue.outgoing_of`). They are the gateway's,
    whose certificate the bridge has, and the ledger reads them; no agency does anything there, not even one that has
    opted in: whether an agreement covers a record today is asked for each, and no broker can.

    An agency whose signing keys are all revoked has no rights: whoever took them may have its certificate. One that has
    left the registry has none either, but its topics stay: the ledger goes on reading them, and gateways delete from
    its grants topic what is erased, to which nobody adds anything.

    Args:
        registry: with its borders, where something passes them.
        withheld: topics on which nobody gets any right: they are another log's on these brokers.
        departed: topics of the log that are nobody's in the registry any more.
    """
    shared = registry_topic(registry.domain)
    mailboxes = [topic for agency in registry.agencies.values() for topic in mailboxes_of(agency)]
    everything = [name for name in topics_of(registry) if name not in withheld]
    acls: set[KafkaAcl] = set()
    keeper, ledger = ledger_client(registry), ledger_topic(registry.domain)
    if keeper is not None:
        who = kafka_principal(keeper)
        read = (*everything, *departed, shared, ledger)
        acls |= {KafkaAcl(who, "read", name) for name in read} | {KafkaAcl(who, "write", ledger)}
    for agency in registry.agencies.values():
        who = kafka_principal(agency.id)
        if _is_revoked(agency):
            continue
        acls |= {KafkaAcl(who, "read", name) for name in (*mailboxes_of(agency), grants_topic(agency.id), shared)}
        if agency.direct:
            acls |= {KafkaAcl(who, "write", topic) for topic in mailboxes if _may_send_any(agency.id, topic, registry)}
        if "operator" in agency.roles:
            for topic in (*everything, *filter(is_grants_topic, departed)):
                acls |= {KafkaAcl(who, "read", topic), KafkaAcl(who, "write", topic)}
    return frozenset(acls)


def kafka_quotas(registry: Registry) -> dict[str, dict[str, float]]:
    """What each agency's certificate may take of a broker, by the principal's name; a gateway carries all: no limit."""
    figures = {name: float(value) for name, value in policy_file.policy().kafka["agency"].items()}
    return {
        kafka_principal(agency.id).removeprefix("User:"): dict(figures)
        for agency in registry.agencies.values()
        if "operator" not in agency.roles
    }


def _is_revoked(agency: Agency) -> bool:
    revoked = [key.revoked is not None for key in agency.keys if key.use == "sig"]
    return bool(revoked) and all(revoked)


def _may_send_any(agency: str, topic: str, registry: Registry) -> bool:
    return any(may(Act("send", agency, topic, kind=kind), registry).ok for kind in KINDS)
