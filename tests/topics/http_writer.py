# SPDX-License-Identifier: Apache-2.0
"""A process that appends records through a gateway, one by one, and says what was acknowledged.

http_writer.py ADDRESS SHIFT ISSUER MAILBOX COUNT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.topics.http_harness import GrantingLog, connect
from tests.topics.log_contract import EntryMaker, ack_line, placed


async def write(address: str, shift: float, issuer: int, mailbox: int, count: int) -> None:
    maker = EntryMaker()
    log = GrantingLog(connect(maker.domain, f"bi/n{issuer}", address, shift), maker)
    for n in range(count):
        entry = maker.entry(issuer, mailbox, n)
        [answer] = placed(await log.append([entry]))
        sys.stdout.write(ack_line(entry, answer) + "\n")
        sys.stdout.flush()
    await log.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
