# SPDX-License-Identifier: Apache-2.0
"""Our own chains in the mailbox's file: the last number signed on each topic, and the numbers that were given up.

A part of `adapters.mailbox.Mailbox` (its `chains`): same file, same transactions, same crash rules. A number that the
log refused for good is void; the next manifest on its topic names it, and is remembered as the one that did: where that
manifest is never read itself, its voids are unnamed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.mailbox_file import MailboxFile
from adapters.mailbox_rows import STOPPED


class Chains:
    """See the module's docstring. Made by `Mailbox`."""

    def __init__(self, file: MailboxFile) -> None:
        self._file = file

    def head(self, topic: str) -> tuple[int, str]:
        """(seq, chain hash) of the last manifest signed on that topic; (0, "") when none."""
        row = self._file.row("SELECT seq, hash FROM head WHERE topic = ?", topic)
        return (0, "") if row is None else (int(row[0]), str(row[1]))

    def heads(self) -> dict[str, tuple[int, str]]:
        """Topic -> `head`, for every topic that we have written to."""
        return {str(t): (int(s), str(h)) for t, s, h in self._file.rows("SELECT topic, seq, hash FROM head")}

    def set_head(self, topic: str, seq: int, chain: str) -> None:
        """The chain goes on behind number `seq`. Only upwards: a lower one would be used twice."""
        self._file.run(
            "INSERT INTO head VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            topic,
            seq,
            chain,
        )

    def unnamed_voids(self, topic: str) -> tuple[int, ...]:
        """Numbers of ours on that topic that were refused for good and that no manifest has named yet."""
        rows = self._file.rows(
            "SELECT seq FROM void WHERE topic = ? AND named_by IS NULL ORDER BY seq LIMIT 500", topic
        )
        return tuple(int(seq) for (seq,) in rows)

    def topics_to_void(self) -> list[str]:
        """Topics with unnamed voids and nothing else to send there.

        Not where a `chain.voided` was itself refused: another one would be, for ever; the next ordinary record names
        them all.
        """
        rows = self._file.rows(
            "SELECT DISTINCT topic FROM void WHERE named_by IS NULL AND NOT EXISTS (SELECT 1 FROM outgoing"
            f" WHERE outgoing.topic = void.topic AND outgoing.state IN ('waiting', 'signed') AND evt NOT IN {STOPPED})"
            " AND NOT EXISTS (SELECT 1 FROM outgoing JOIN void AS again USING (topic, seq)"
            " WHERE outgoing.topic = void.topic AND again.named_by IS NULL AND outgoing.type = 'chain.voided')"
            " ORDER BY topic"
        )
        return [str(topic) for (topic,) in rows]

    def give_up(self, topic: str, seq: int) -> None:
        """The number is void: its manifest will never be read, and what that was to name is unnamed again."""
        self._file.run("INSERT INTO void VALUES(?, ?, NULL) ON CONFLICT DO NOTHING", topic, seq)
        self.unname(topic, seq)

    def stands(self, topic: str, seq: int, *, unless_named: bool = False) -> None:
        """The number stands in the log: it was given up by mistake. `unless_named`: a manifest that names it stays."""
        unnamed = " AND named_by IS NULL" if unless_named else ""
        self._file.run(f"DELETE FROM void WHERE topic = ? AND seq = ?{unnamed}", topic, seq)

    def name(self, topic: str, voids: Sequence[int], by: int) -> None:
        """The manifest with number `by` names these numbers."""
        for void in voids:
            self._file.run("UPDATE void SET named_by = ? WHERE topic = ? AND seq = ?", by, topic, void)

    def unname(self, topic: str, by: int) -> None:
        """The manifest with number `by` names nothing: another one has to."""
        self._file.run("UPDATE void SET named_by = NULL WHERE topic = ? AND named_by = ?", topic, by)
