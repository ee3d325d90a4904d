# SPDX-License-Identifier: Apache-2.0
"""How much one agency may send: token buckets over an injected clock, one pair (records, bytes) per agency.

A bucket holds one period's worth and refills evenly, so that a laptop that comes back after a week empties its outbox
in bursts and then at the allowed rate. Memory only: a restart gives everybody a full bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import PolicyError

_SOONEST_S = 5.0
"""What is refused is not asked for again sooner: a bucket that is empty should hold something then."""


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
            PolicyError: quota_exceeded, with the seconds after which this one would be taken.
        """
        bucket = self._buckets.get(agency)
        if bucket is None:
            bucket = self._buckets[agency] = _Bucket(self._records, self._bytes, now)
        passed = max(now - bucket.at, 0.0)
        bucket.at = now
        bucket.records = min(self._records, bucket.records + passed * self._records / 60)
        bucket.bytes = min(self._bytes, bucket.bytes + passed * self._bytes / 3600)
        if bucket.records < 1:
            wait_s = (1 - bucket.records) * 60 / self._records
            raise _exceeded("quota.records_per_minute", self.limits.records_per_minute, wait_s)
        if bucket.bytes < size:
            wait_s = (size - bucket.bytes) * 3600 / self._bytes
            raise _exceeded("quota.megabytes_per_hour", self.limits.megabytes_per_hour, wait_s)
        bucket.records -= 1
        bucket.bytes -= size


def _exceeded(path: str, limit: int, wait_s: float) -> PolicyError:
    error = PolicyError("quota_exceeded", path, expected=limit)
    error.retry_after_s = max(wait_s, _SOONEST_S)
    return error
