# SPDX-License-Identifier: Apache-2.0
"""The names of topics that are no mailbox: grants, the log's identity, the ledger; and telling a mailbox from them.

Names of mailboxes are `schemas.envelope.mailbox_topic` and `split_topic`, of grants `topics.log.grants_topic`.
"""

from __future__ import annotations

import re

GRANTS_TOPIC = re.compile(r"[a-z]{2}\.grants\.[a-z0-9-]+")
REGISTRY_TOPIC = re.compile(r"[a-z]{2}\.registry\.log")
LEDGER_TOPIC = re.compile(r"[a-z]{2}\.ledger")


def registry_topic(domain: str) -> str:
    """`bi.registry.log`: the log's identity, see `kafka_identity`."""
    return f"{domain}.registry.log"


def ledger_topic(domain: str) -> str:
    """`bi.ledger`: the ledger's primary store, see `kafka_ledger`."""
    return f"{domain}.ledger"


def is_mailbox_topic(topic: str) -> bool:
    """Whether records stand in it: not a topic of grants, of the log's identity or of the ledger."""
    return not any(pattern.fullmatch(topic) for pattern in (GRANTS_TOPIC, REGISTRY_TOPIC, LEDGER_TOPIC))


def is_grants_topic(topic: str) -> bool:
    """Whether the name is that of an agency's grants, whatever domain it is in."""
    return GRANTS_TOPIC.fullmatch(topic) is not None
