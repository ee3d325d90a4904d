# SPDX-License-Identifier: Apache-2.0
"""What was signed and must not leave any more: its person withdrew her consent before the log said that it had it.

    stopped    never sent again; its number is void, and the next manifest on that topic says so
    never-left that manifest stands in the log, so the log neither has the record nor will take it
    had-left   the log has it after all (an answer came late, the void was refused, its reader confirmed it): whoever
               holds it is told of the withdrawal

Whether bytes that were under way reached the log cannot be known here while nobody answers, so nothing is decided until
the log does: if we crash in between, the row says what is still to be found out.

Tables of the mailbox's own file. Must never: let a stopped record be sent because something else failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Outgoing, Thread
from schemas.event_types import EVENTS

CODE = "consent_withdrawn"
PATH = "lawful.consent.given_at"


@dataclass(frozen=True, slots=True)
class Stopped:
    evt: str
    withdrawal: int
    left: bool
    """Whether it stands in the log after all; False: it never left."""


class StoppedBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    def stop(self, item: Outgoing, withdrawal: int) -> bool:
        """Inside the transaction that notes the withdrawal. False: it is not on its way (any more)."""
        now = self._box.outgoing(item.evt)
        if now is None or now.state != "signed" or now.seq is None:
            return False
        if self._box.was_handed(item.evt):
            # Its reader may have it from a stick: it goes to the log as well, and whoever holds it is told.
            self._box.change(
                "INSERT INTO stopped VALUES(?, ?, 'had-left', 0) ON CONFLICT DO NOTHING", item.evt, withdrawal
            )
            return False
        made = self._box.change(
            "INSERT INTO stopped VALUES(?, ?, 'stopped', 0) ON CONFLICT DO NOTHING", item.evt, withdrawal
        )
        self._box.change("INSERT INTO void VALUES(?, ?, NULL) ON CONFLICT DO NOTHING", now.topic, now.seq)
        self._box.change("UPDATE outgoing SET code = ?, path = ? WHERE evt = ?", CODE, PATH, item.evt)
        return made == 1

    def signed(self, person: str) -> list[Outgoing]:
        """What shares something of her on her consent, is signed, and is not known to be in the log; with what can say
        nothing without it: the rest of a thread that it began, the chunks of what it announced."""
        rows = self._box.query(
            "SELECT shared.evt FROM shared JOIN thread ON thread.id = shared.thread JOIN person ON person.n ="
            " thread.person JOIN outgoing ON outgoing.evt = shared.evt WHERE shared.incoming = 0 AND person.ref = ?"
            " AND shared.basis = 'consent' AND outgoing.state = 'signed' ORDER BY outgoing.n",
            person,
        )
        found: dict[str, Outgoing] = {}
        for (evt,) in rows:
            item = self._box.outgoing(str(evt))
            if item is None:
                continue
            thread = self._box.thread(item.thread)
            began = thread is not None and thread.opened_by == item.evt
            for one in self._box.outbox(open_only=True):
                belongs = one.thread == item.thread if began else one.ref == item.evt and not one.speaks
                if one.evt == item.evt or (belongs and one.state == "signed"):
                    found[one.evt] = one
        return list(found.values())

    def waiting_behind(self, item: Outgoing) -> list[str]:
        """What waits unsigned on a thread that this began, the last first."""
        thread = self._box.thread(item.thread)
        if thread is None or thread.opened_by != item.evt:
            return []
        behind = [one for one in self._box.outbox(open_only=True) if one.thread == item.thread]
        return [one.evt for one in reversed(behind) if one.state == "waiting"]

    def unsettled(self, withdrawal: int) -> bool:
        """Whether it is not known yet of something that it stopped whether that had left."""
        rows = self._box.query("SELECT 1 FROM stopped WHERE withdrawal = ? AND settled = 0 LIMIT 1", withdrawal)
        return bool(rows)

    def found_out(self) -> Sequence[Stopped]:
        """Those of which it is known now, and nobody has drawn the consequence yet."""
        rows = self._box.query(
            "SELECT evt, withdrawal, state FROM stopped WHERE settled = 0 AND state <> 'stopped' ORDER BY evt"
        )
        return [Stopped(str(evt), int(withdrawal), state == "had-left") for evt, withdrawal, state in rows]

    def settle(self, evt: str) -> None:
        self._box.change("UPDATE stopped SET settled = 1 WHERE evt = ?", evt)

    def thread_of(self, evt: str, person: str | None) -> Thread | None:
        """The thread of what had left: made again where it was taken back with what seemed never to have left."""
        item = self._box.outgoing(evt)
        if item is None:
            return None
        known, machine = self._box.thread(item.thread), EVENTS[item.type].machine
        if known is not None or machine in (None, "*") or item.thread_after is None or person is None:
            return known
        pseudonym = self._box.pseudonym(person, item.peer, lambda: item.thread[:16])
        made = Thread(
            item.thread,
            item.peer,
            person,
            str(machine),
            "initiator",
            pseudonym,
            item.thread_after,
            evt,
            answer_by=item.answer_by,
        )
        self._box.put_thread(made, item.created_at)
        return made
