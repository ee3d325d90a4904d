# SPDX-License-Identifier: Apache-2.0
"""How much one agency may send: token buckets over an injected clock, one pair (records, bytes) per agency.

A bucket holds one period's worth and refills evenly, so that a laptop that comes back after a week empties its outbox
in bursts and then at the allowed rate. Memory only: a restart gives everybody a full bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Limits:
    """Per agency; `grants_per_record` and `waiting_reads` are counted elsewhere."""

    records_per_minute: int
    megabytes_per_hour: int
    grants_per_record: int
    waiting_reads: int


@dataclass(slots=True)
class _Bucket:
    records: float
    bytes: float
    at: float


class Quotas:
    """Raises PolicyError `quota_exceeded` through `take`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._records = float(limits.records_per_minute)
        self._bytes = limits.megabytes_per_hour * 1e6
        self._buckets: dict[str, _Bucket] = {}

    def take(self, agency: str, size: int, now: float) -> None:
        """Count one record of `size` bytes.

        Raises:
            PolicyError: quota_exceeded.
        """
        bucket = self._buckets.get(agency)
        if bucket is None:
            bucket = self._buckets[agency] = _Bucket(self._records, self._bytes, now)
        passed = max(now - bucket.at, 0.0)
        bucket.at = now
        bucket.records = min(self._records, bucket.records + passed * self._records / 60)
        bucket.bytes = min(self._bytes, bucket.bytes + passed * self._bytes / 3600)
        if bucket.records < 1:
            raise PolicyError("quota_exceeded", "quota.records_per_minute", expected=self.limits.records_per_minute)
        if bucket.bytes < size:
            raise PolicyError("quota_exceeded", "quota.megabytes_per_hour", expected=self.limits.megabytes_per_hour)
        bucket.records -= 1
        bucket.bytes -= size
