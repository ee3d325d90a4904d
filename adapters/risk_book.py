# SPDX-License-Identifier: Apache-2.0
"""How dangerous each side of a transfer has said that a return is, as far as it keeps somebody from departing.

Both sides look at the risk (design, flow `bilateral`). While the last word of either is one at which the policy lets
nobody depart (`risk.stops`: extreme), nobody departs; and once one side has said so, the other has to look too, and say
otherwise, after it. So neither takes its own alarm back alone.

It keeps the sender's adapter from saying that she has left. The reader's takes a departure whatever it thinks of it:
somebody who is on her way is awaited, whoever should not have let her go.

A table of the mailbox's own file: threads, sides, yes or no; no level, no reason. Written in the transactions of outbox
and inbox. What was refused or cancelled was never said.
"""

from __future__ import annotations

from adapters.mailbox import Mailbox
from schemas.forms import Facts
from schemas.plain.record import RecordCorrected
from schemas.plain.transfer import ReturnRiskAssessed, TransferRequested
from topics.policy_file import policy


class RiskBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    def note(self, facts: Facts, thread: str, evt: str, *, ours: bool) -> None:
        """What an event of a transfer says of the risk; nothing when it says nothing."""
        level = _level(facts)
        if level is not None:
            sql = "INSERT INTO risk(evt, ours, thread, stops) VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING"
            self._box.change(sql, evt, int(ours), thread, int(level in policy().risk_stops))

    def may_depart(self, thread: str) -> bool:
        """Whether nothing that either side has said keeps her from departing."""
        rows = self._box.query(
            "SELECT risk.ours, risk.stops FROM risk LEFT JOIN outgoing ON outgoing.evt = risk.evt AND risk.ours = 1"
            " WHERE risk.thread = ? AND coalesce(outgoing.state, '') NOT IN ('refused', 'cancelled', 'rejected')"
            " ORDER BY risk.n",
            thread,
        )
        last: dict[int, bool] = {}
        looked: set[int] = {0, 1}
        for ours, stops in rows:
            last[ours] = bool(stops)
            # Whoever says that nobody may depart asks the other side to look.
            looked = looked - {1 - ours} if stops else looked | {ours}
        return looked == {0, 1} and not any(last.values())


def _level(facts: Facts) -> str | None:
    said = facts.said
    if isinstance(said, ReturnRiskAssessed):
        return said.level
    if isinstance(said, TransferRequested):
        return None if said.referral.risk is None else said.referral.risk.level
    if isinstance(said, RecordCorrected) and said.right is not None and said.right.risk is not None:
        return said.right.risk.level
    return None
