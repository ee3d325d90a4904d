# SPDX-License-Identifier: Apache-2.0
"""Make the brokers as the catalogue says: topics, their settings, ACLs, quotas. For an administrator of the cluster.

`apply` compares and changes only what differs, so that it can be run at any time, by hand, at every start or after a
crash in the middle of itself; with `dry_run` it says what it would do. The order is the safe one: topics first, then
what is allowed too much is taken away, then what is missing is given.

It touches only what is the domain's: topics of the registry's agencies, also of those that have left it, for what was
sent to them is still erased; those that it hosts for neighbours; ACLs
whose principal is one of the domain's (`User:bi.*`), quotas of its agencies. It never deletes a topic, never changes a
setting that the catalogue does not name, never shrinks or moves a topic. What it finds and may not mend by itself, it
names in `Applied.findings`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from schemas.registry import Registry
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import (
    KafkaAcl,
    KafkaTopic,
    hosted_for,
    kafka_acls,
    kafka_quotas,
    kafka_topic,
    kafka_topics,
)
from topics.kafka_clients import Clients, Described
from topics.kafka_identity import establish
from topics.kafka_log import recorder
from topics.topic_names import registry_topic


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person has to decide. `what` is one of:

    - "replaced": a recorded topic is gone or another one by now; to be confirmed with `KafkaLog.renew_identity`;
    - "partitions": a topic has more than one; "replicas": it has fewer than the catalogue says;
    - "foreign": an ACL of somebody else's (`User:*`, say) allows something on our topics;
    - "shared": that other domain's own log is on these brokers too, where its mailboxes have the names of what waits
      for it here. Nothing is made there and nobody gets a right: two domains that exchange need brokers of their own.
    """

    what: str
    topic: str
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What was changed, or would be; empty when all was as it must be."""

    created: tuple[str, ...]
    """Topics."""
    settings: Mapping[str, Mapping[str, str]]
    """Topic -> settings that differed, as they are now."""
    allowed: tuple[KafkaAcl, ...]
    removed: tuple[KafkaAcl, ...]
    findings: tuple[Finding, ...]
    dry_run: bool
    quotas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Principal's name -> quotas that differed, as they are now."""
    departed: tuple[str, ...] = ()
    """Topics of agencies that have left the registry: they stay, with their settings, and nobody new may use them."""

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, done."""
        return bool(self.created or self.settings or self.allowed or self.removed or self.quotas)


async def apply(
    access: KafkaAccess,
    registry: Registry,
    *,
    nodes: int,
    dry_run: bool = False,
    random_id: Callable[[], str] = lambda: os.urandom(16).hex(),
) -> Applied:
    """Bring the cluster to what this registry needs.

    Args:
        access: an administrator's.
        registry: with its borders, where something passes them (`topics.neighbours`).
        nodes: brokers of the cluster; decides replicas and how many must have a record before it is acknowledged.
        dry_run: change nothing.
        random_id: names the log when it is made.

    Raises LogError as `KafkaLog.open`, and `not_permitted` when `access` is no administrator's. What was done before
    it is there, and doing it again is harmless.
    """
    return await asyncio.to_thread(_apply, access, registry, nodes, random_id, dry_run)


def _apply(access: KafkaAccess, registry: Registry, nodes: int, random_id: Callable[[], str], dry_run: bool) -> Applied:
    clients = Clients(access)
    try:
        clients.probe()
        shared = _shared(registry, clients.describe())
        withheld = frozenset[str]().union(*(hosted_for(registry, domain) for domain in shared))
        wanted = {name: one for name, one in kafka_topics(registry, nodes).items() if name not in withheld}
        done = establish(clients, recorder(clients), registry.domain, wanted, random_id=random_id, dry_run=dry_run)
        described = clients.describe()
        departed = [name for name in done.departed if not _anothers(name, registry, described)]
        topics = {**wanted, **{name: kafka_topic(name, nodes) for name in departed}}
        there = {name: topic for name, topic in topics.items() if name in described}
        settings = _differing(there, clients.settings(sorted(there)))
        found = clients.acls()
        ours = {acl for acl in found if acl.principal.startswith(f"User:{registry.domain}.")}
        needed = kafka_acls(registry, withheld, departed)
        limited = clients.quotas()
        quotas = {
            user: {key: value for key, value in wanted_of.items() if limited.get(user, {}).get(key) != value}
            for user, wanted_of in sorted(kafka_quotas(registry).items())
        }
        quotas = {user: values for user, values in quotas.items() if values}
        if not dry_run:
            clients.change_quotas(quotas)
            clients.change_settings(settings)
            clients.remove_acls(_sorted(ours - needed))
            clients.add_acls(_sorted(needed - ours))
            clients.until_acls(needed - ours, ours - needed)
        findings = [Finding("replaced", name) for name in done.replaced if name in topics]
        findings += [finding for name, topic in there.items() for finding in _shape(topic, described[name])]
        findings += _foreign(found - ours, topics)
        findings += [Finding("shared", registry_topic(domain)) for domain in shared]
        allowed, removed = _sorted(needed - ours), _sorted(ours - needed)
        return Applied(done.created, settings, allowed, removed, tuple(findings), dry_run, quotas, tuple(departed))
    finally:
        clients.close_producer()
        clients.close()


def _shared(registry: Registry, described: Collection[str]) -> list[str]:
    """Neighbours whose own log is on this cluster."""
    return sorted(domain for domain in registry.borders if registry_topic(domain) in described)


def _anothers(name: str, registry: Registry, described: Collection[str]) -> bool:
    """Whether a topic that our log has recorded is by now that of another domain's own log on this cluster."""
    domain = name.partition(".")[0]
    return domain != registry.domain and registry_topic(domain) in described


def _differing(wanted: Mapping[str, KafkaTopic], found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    differing = {
        name: {key: value for key, value in topic.settings.items() if found.get(name, {}).get(key) != value}
        for name, topic in sorted(wanted.items())
    }
    return {name: values for name, values in differing.items() if values}


def _shape(wanted: KafkaTopic, found: Described) -> list[Finding]:
    wrong = []
    if found.partitions != 1:
        wrong.append(Finding("partitions", wanted.name))
    if found.replication < wanted.replication:
        wrong.append(Finding("replicas", wanted.name))
    return wrong


def _foreign(others: set[KafkaAcl], wanted: Mapping[str, KafkaTopic]) -> list[Finding]:
    """Whoever else may do something with our topics; `User:*` is everybody."""
    return [
        Finding("foreign", acl.name, acl.principal)
        for acl in _sorted(others)
        if acl.resource == "topic"
        and acl.permission == "allow"
        and (
            acl.name in wanted
            or acl.name == "*"
            or (acl.pattern == "prefixed" and any(name.startswith(acl.name) for name in wanted))
        )
    ]


def _sorted(acls: set[KafkaAcl] | frozenset[KafkaAcl]) -> tuple[KafkaAcl, ...]:
    return tuple(sorted(acls, key=lambda acl: (acl.principal, acl.name, acl.operation, acl.pattern, acl.permission)))
