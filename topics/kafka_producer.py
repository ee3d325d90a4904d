# SPDX-License-Identifier: Apache-2.0
"""The producer of one writing thread of a Kafka cluster. Everything here blocks.

Knows topics, bytes and how an attempt fails; nothing of the log's contract. Of each topic at most one batch is in
flight, since who calls waits. After a failed attempt the producer is closed and the same bytes go out once more, in the
same order, through a new one.

Facts of kafka-python 3.0 that it is built around: a producer whose batches are not done cannot be closed, not even when
it is collected, so every produce is waited for up to the delivery timeout first and its sender is told to give up then;
a topic that nobody knows blocks `send` until it times out, so topics are described before.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import LogError
from topics.kafka_access import Reach, error_of, whole

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files by two functions that Python 3.11 deprecates, while it is imported.
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated\. Use files\(\)", DeprecationWarning)
    from kafka import KafkaProducer
    from kafka import errors as kafka_errors

BATCH_BYTES = 1_000_000
"""Of one topic in one produce; below the broker's `max.message.bytes`, with room for the batch's own header."""
DELIVERY_S = 8.0
ATTEMPTS = 2
DOWN_S = 1.0
"""After a call that found no broker, others fail at once for so long, instead of queueing for the same."""


@dataclass(frozen=True, slots=True)
class Item:
    """What goes into a topic; value None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    at_ms: int | None = None
    """Milliseconds since the epoch, for a topic that keeps what its writer says; None: now."""

    @property
    def weight(self) -> int:
        """Bytes in a batch, rounded up."""
        return 64 + len(self.key) + len(self.value or b"") + sum(len(n) * 4 + len(v) + 10 for n, v in self.headers)


class Producing:
    """Writes for one principal; belongs to one thread, which makes, uses and closes it."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._producer: KafkaProducer | None = None
        self._unfinished: list[KafkaProducer] = []
        """Given up, and not closed yet."""
        self._alone_until = 0.0
        self._closed = False

    def stop(self) -> None:
        """From any thread: nothing is begun any more. `close` in the writing thread does the rest."""
        self._closed = True

    def produce(
        self, items: Sequence[Item], attempts: int = ATTEMPTS, *, time_refused: str = "unavailable"
    ) -> list[tuple[int, int] | LogError]:
        """Offset and time of each, or why not; the caller sees to it that one topic's fit into one batch.

        Args:
            attempts: a second one may leave a second copy; who cannot have it looks what is there instead.
            time_refused: code of a refusal for the record's time. A topic that takes our clock for it is an
                administrator's to mend: until then it is no reason to give up.
        """
        results: list[tuple[int, int] | LogError] = [LogError("unavailable") for _ in items]
        if time.monotonic() < self._alone_until:
            return results
        waiting = list(range(len(items)))
        began = time.monotonic()
        for _ in range(attempts):
            waiting = self._send(items, waiting, results, time_refused)
            now = time.monotonic()
            # What took long already is the caller's to try again: others wait behind it.
            if not waiting or self._closed or now < self._alone_until or now - began >= DELIVERY_S / 2:
                break
        return results

    def _send(
        self, items: Sequence[Item], which: list[int], results: list[tuple[int, int] | LogError], time_refused: str
    ) -> list[int]:
        """One attempt; returns those to be sent again, in order."""
        broken: BaseException = kafka_errors.KafkaTimeoutError()
        sent = {}
        try:
            producer = self._made_producer()
        except (kafka_errors.KafkaError, OSError) as cause:
            # Not one broker answers: whoever queued behind this produce need not wait for the same again.
            self._alone_until = time.monotonic() + DOWN_S
            for place in which:
                results[place] = error_of(cause, items[place].topic)
            return which
        try:
            for place in which:
                item = items[place]
                sent[place] = producer.send(
                    item.topic, item.value, item.key, list(item.headers), partition=0, timestamp_ms=item.at_ms
                )
        except kafka_errors.KafkaError as cause:
            broken = cause
        with contextlib.suppress(kafka_errors.KafkaTimeoutError):
            producer.flush(DELIVERY_S + 2)
        again: list[int] = []
        for place in which:
            one = sent.get(place)
            if one is not None and one.succeeded():
                results[place] = (one.value.offset, one.value.timestamp)
                continue
            why = (one.exception if one is not None else None) or broken
            error = error_of(why, items[place].topic)
            if isinstance(why, kafka_errors.InvalidTimestampError):
                error = LogError(time_refused, items[place].topic)
            results[place] = error
            if error.retriable:
                again.append(place)
        if any(isinstance(results[place], LogError) for place in which):
            self._drop_producer()
        return again

    def _made_producer(self) -> KafkaProducer:
        if self._closed:
            raise kafka_errors.KafkaTimeoutError()
        self._close_unfinished(0)
        if self._producer is None:
            self._producer = whole(
                KafkaProducer,
                self._reach.settings(
                    acks="all",
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    batch_size=BATCH_BYTES + 40_000,
                    linger_ms=1_000,  # `flush` sends; nothing leaves before a call's entries are all in
                    max_block_ms=5_000,
                    max_request_size=8 << 20,
                    delivery_timeout_ms=int(DELIVERY_S * 1000),
                    metrics_enabled=False,
                ),
            )
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=2)
            except kafka_errors.KafkaTimeoutError:
                # `close` waits for what is under way before it would end the sender. The answer for that is given
                # already, and the same bytes go out through the next producer: this one must not send them behind it.
                if producer._sender is not None:
                    producer._sender.force_close()
                self._unfinished.append(producer)
                self._close_unfinished(2)

    def _close_unfinished(self, wait_s: float) -> None:
        """Wait for senders that were told to give up; one that is forgotten would keep its thread and connection."""
        for producer in list(self._unfinished):
            with contextlib.suppress(kafka_errors.KafkaTimeoutError):
                producer.close(timeout=wait_s)
                self._unfinished.remove(producer)

    def close(self) -> None:
        """In the writing thread. It may be used again afterwards, unless it was stopped."""
        self._drop_producer()
        self._close_unfinished(DELIVERY_S)
