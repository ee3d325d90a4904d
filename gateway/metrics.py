# SPDX-License-Identifier: Apache-2.0
"""What a gateway counts, for Prometheus, in base units.

Labels are routes, flows, kinds, codes and neighbouring domains, which are closed lists of ours. Never an agency, a
topic, a thread or an id: who writes to whom is nobody's business who may read metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One gateway's metrics, in a collector registry of their own."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "umuhuza_gateway_requests",
            "Requests by route template and status",
            ("route", "code"),
            registry=self.collectors,
        )
        self._records = Counter(
            "umuhuza_gateway_records",
            "Records by flow, kind and outcome: accepted, copy, granted (its issuer writes it), or the refusal's code",
            ("flow", "kind", "code"),
            registry=self.collectors,
        )
        self.append_seconds = Histogram(
            "umuhuza_gateway_append_seconds",
            "How long the log took to make a group of records durable",
            registry=self.collectors,
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
        )
        self.waiting_reads = Gauge(
            "umuhuza_gateway_waiting_reads", "Mailbox reads that wait for a record", registry=self.collectors
        )
        self.clock_suspects = Counter(
            "umuhuza_gateway_clock_suspects", "Records accepted although dated ahead", registry=self.collectors
        )
        self.checkers_lost = Counter(
            "umuhuza_gateway_checkers_lost",
            "Processes that check signatures and ended before the gateway did",
            registry=self.collectors,
        )
        self._witness_requests = Counter(
            "umuhuza_gateway_witness_requests",
            "Checkpoints brought to this domain's witness, by outcome: cosigned, stale, or the refusal's code",
            ("code",),
            registry=self.collectors,
        )
        self._contacts = Counter(
            "umuhuza_gateway_contacts",
            "Contacts of other domains' bridges, by domain: believed, or the code for which their checkpoint was not",
            ("domain", "code"),
            registry=self.collectors,
        )
        self._contact_age = Gauge(
            "umuhuza_gateway_neighbour_checkpoint_age_seconds",
            "Since a witness signed the newest checkpoint that another domain's bridge has brought",
            ("domain",),
            registry=self.collectors,
        )
        self.index_lag = Gauge(
            "umuhuza_gateway_index_lag_records",
            "Records in the log that the index has not applied",
            registry=self.collectors,
        )
        self.log_up = Gauge("umuhuza_gateway_log_up", "1 when the log answered last", registry=self.collectors)
        self.topics_missing = Gauge(
            "umuhuza_gateway_topics_missing",
            "Mailboxes of the registry that the log does not have, or not as they were",
            registry=self.collectors,
        )
        self._pending = Gauge(
            "umuhuza_gateway_pending_records", "Records on their way to the log", registry=self.collectors
        )
        self.index_unwritten = Gauge(
            "umuhuza_gateway_index_unwritten_records",
            "Records of the index that only memory knows",
            registry=self.collectors,
        )
        self._storage = Gauge("umuhuza_gateway_storage_bytes", "Size of the log's files", registry=self.collectors)
        self._log_wal = Gauge(
            "umuhuza_gateway_log_wal_bytes",
            "Size of the file with what the embedded log has committed and not yet brought into its database",
            registry=self.collectors,
        )
        self._registry_age = Gauge(
            "umuhuza_gateway_registry_age_seconds", "Since the registry in use was issued", registry=self.collectors
        )
        self._registry_refused = Gauge(
            "umuhuza_gateway_registry_refused",
            "1 when the registry file on disk is damaged or older",
            registry=self.collectors,
        )
        self._registry_ends = Gauge(
            "umuhuza_gateway_registry_ends_seconds",
            "Until the root, the targets or the last key of a member end, whichever is first",
            registry=self.collectors,
        )
        self._ledger_differs = Gauge(
            "umuhuza_gateway_ledger_differs",
            "1 when the ledger that is served is not the one that the registry announces",
            registry=self.collectors,
        )
        self.request = lru_cache(maxsize=4096)(self._requests.labels)
        self.record = lru_cache(maxsize=4096)(self._records.labels)
        self.contact = lru_cache(maxsize=64)(self._contacts.labels)
        self.witness_request = lru_cache(maxsize=64)(self._witness_requests.labels)

    def met(self, domain: str, age: Callable[[], float]) -> None:
        """A domain whose bridge comes here; `age` is asked when the gauge is read, in seconds."""
        self._contact_age.labels(domain).set_function(age)

    def watch(
        self,
        *,
        storage: Callable[[], float],
        log_wal: Callable[[], float],
        registry_age: Callable[[], float],
        registry_refused: Callable[[], float],
        registry_ends: Callable[[], float],
        ledger_differs: Callable[[], float],
        pending: Callable[[], float],
    ) -> None:
        """Gauges that are asked for when they are read."""
        self._pending.set_function(pending)
        self._storage.set_function(storage)
        self._log_wal.set_function(log_wal)
        self._registry_age.set_function(registry_age)
        self._registry_refused.set_function(registry_refused)
        self._registry_ends.set_function(registry_ends)
        self._ledger_differs.set_function(ledger_differs)

    def text(self) -> bytes:
        return generate_latest(self.collectors)
