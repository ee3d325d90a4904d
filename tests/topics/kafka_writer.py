# SPDX-License-Identifier: Apache-2.0
"""A process that appends records to a Kafka log, one by one, and says what was acknowledged.

kafka_writer.py ACCESS.json ISSUER MAILBOX COUNT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.topics.kafka_harness import open_kafka, read_access
from tests.topics.log_contract import EntryMaker, ack_line, placed


async def write(access: str, issuer: int, mailbox: int, count: int) -> None:
    maker = EntryMaker()
    log = await open_kafka(read_access(access))
    for n in range(count):
        entry = maker.entry(issuer, mailbox, n)
        [answer] = placed(await log.append([entry]))
        sys.stdout.write(ack_line(entry, answer) + "\n")
        sys.stdout.flush()
    await log.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
