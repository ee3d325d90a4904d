# SPDX-License-Identifier: Apache-2.0
"""An agency without a network: what it has to say goes out on a stick, what is said to it comes in on one.

    to the gateway   sign what waits -> request: records, our cursors, receipts wanted; its answer is taken as what it
                     would have said over the network: promises, mailboxes, receipts, the registry
    to an agency     sign what waits -> direct: what it is not known to have; it acts on it at once, and whichever of
                     the two reaches the gateway first brings the records to the log (`Sender.send` does)

Invariants: a record is the same bytes whichever way it goes. A bundle is looked at whole before anything of it is
taken, and taken in any order, any number of times. What was handed over and is in no log yet says so (`CARRIED`), and
its receipt confirms to its sender that it was read, not that it was logged.
Must never: believe a bundle by who carried it; send what was stopped.

If we crash here: on the way out, records are signed and go with the next bundle; on the way in, what was taken stays
taken, and the same bundle brings the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from adapters.bundle_log import BundleLog, answered, handed
from adapters.connectors.contract import Connector
from adapters.connectors.places import write_durably
from adapters.desk import Desk
from adapters.mailbox_rows import Incoming, Outgoing
from adapters.receipt_book import ReceiptBook
from adapters.runner import Runner
from adapters.sending import Sender, carried_entry
from schemas.bundle import (
    Bundle,
    BundleKind,
    CarriedRecord,
    Contents,
    Head,
    Want,
    open_bundle,
    room_for,
    seal_bundle,
    size_of,
)
from schemas.envelope import chain_hash, new_evt
from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.keys import VerifyKey, b64url
from schemas.notes import read_checkpoint_text, read_note
from schemas.trust_policy import TrustPolicy, read_endorsed
from topics.believed_ledgers import believed_ledgers, ledgers_of
from topics.http_log import promise_in, read_answer
from topics.log import Appended
from topics.promise import Promise

MAX_RECORDS = 1000
"""A bundle."""
_WAITS = ("registry_stale", "ledger_behind")


@dataclass(frozen=True, slots=True)
class Written:
    """A sealed bundle. `more`: there was no room for all; export again once this one was answered."""

    data: bytes
    records: int
    more: bool


@dataclass(frozen=True, slots=True)
class Took:
    """What an import did. All zero: it had been here before."""

    settled: int = 0
    """Own records of which the log's word came."""
    arrived: int = 0
    """Records that had not been here."""
    delivered: int = 0
    receipts: int = 0
    more: bool = False
    """The gateway has more for us: export again."""
    waits: str | None = None
    """Code for which a mailbox stands still; the rest was taken."""


def _no_step(_name: str) -> None:
    return


class Stick:
    """See the module's docstring. Used from one event loop; an adapter may run beside it on the same mailbox.

    Args:
        gateway: the operator's id, `bi/operator`.
        registry_file: the registry as we hold it; None: none yet.
        take_registry: puts a newer one in place; keeps ours when it is newer. Raises RegistryError.
        trust: whose ledger and witnesses are believed; None: receipts and checkpoints are not kept.
        checkpoint: file of the newest checkpoint that a stick has brought.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        gateway: str,
        registry_file: Callable[[], bytes | None],
        take_registry: Callable[[bytes], None],
        trust: TrustPolicy | None = None,
        checkpoint: Path | None = None,
        step: Callable[[str], None] = _no_step,
    ) -> None:
        self._desk = desk
        self._gateway = gateway
        self._registry_file = registry_file
        self._take_registry = take_registry
        self._trust = trust
        self._checkpoint = checkpoint
        self._step = step

    # -- out ----------------------------------------------------------------------------------------------------------

    def for_gateway(self, sender: Sender) -> Written:
        """What the gateway does not have of us, what others handed us, and what we want of it.

        Raises:
            RegistryError: agency_unknown, key_unknown, key_revoked: the gateway has no key to seal to.
            LogError, KeyStoreError: our own disk or keys.
        """
        desk = self._desk
        to = desk.registry().newest_seal_key(self._gateway, int(desk.now()))
        own = sender.to_carry(MAX_RECORDS)
        self._step("signed")
        carried = desk.mailbox.arrivals.carried(MAX_RECORDS)
        file = self._registry_file()
        want = Want(
            desk.mailbox.arrivals.cursors(),
            tuple(line.l1_sha256 for line in ReceiptBook(desk.mailbox).due()) if self._trust is not None else (),
            "" if file is None else hashlib.sha256(file).hexdigest(),
        )
        # What others handed us goes first: what we answer stands on it.
        lines = [*map(_handed_line, carried), *(_own_line(sender, item) for item in own)]
        fitting = _fitting(lines, size_of("want", want.to_json()))
        data = seal_bundle(self._head("request", self._gateway), Contents(want, fitting), desk.keys.sig, to)
        return Written(data, len(fitting), len(fitting) < len(lines) or len(own) == MAX_RECORDS)

    def for_agency(self, sender: Sender, to: str) -> Written:
        """What another agency of the domain is not known to have of us, and our registry.

        Raises:
            LogError: bundle_misplaced, path `to`: ourselves, or beyond the border, which only the bridge crosses.
            RegistryError, LogError, KeyStoreError: as `for_gateway`.
        """
        desk = self._desk
        if to == desk.agency or to.partition("/")[0] != desk.registry().domain:
            raise LogError("bundle_misplaced", "to")
        key = desk.registry().newest_seal_key(to, int(desk.now()))
        sender.to_carry(MAX_RECORDS)
        self._step("signed")
        items = desk.mailbox.hand(to, MAX_RECORDS)
        self._step("handed")
        rest = Contents(registry=self._registry_file(), checkpoint=self.checkpoint())
        lines = [_own_line(sender, item) for item in items]
        fitting = _fitting(lines, sum(map(len, rest.lines())))
        contents = replace(rest, records=fitting)
        data = seal_bundle(self._head("direct", to), contents, desk.keys.sig, key)
        return Written(data, len(fitting), len(fitting) < len(lines) or len(items) == MAX_RECORDS)

    def _head(self, kind: BundleKind, to: str) -> Head:
        desk = self._desk
        at = int(desk.now())
        return Head(new_evt(at * 1000, desk.random), kind, desk.agency, to, at, desk.registry().training)

    # -- in -----------------------------------------------------------------------------------------------------------

    async def take(self, data: bytes, connectors: Sequence[Connector] = ()) -> Took:
        """Take a bundle, whichever it is.

        Raises:
            LogError: as `open_bundle`; bundle_misplaced: not for us, or not now. unavailable: our own disk.
            RecordError: signature_invalid, training_record, issuer_mismatch.
            RegistryError: agency_unknown, key_unknown, key_revoked: its writer's; a registry that cannot be believed.
        """
        bundle = open_bundle(data, self._desk.keys.seal.values())
        log = self._checked(bundle)
        self._step("opened")
        runner = Runner(self._desk, log, connectors, step=self._step)
        settled = 0 if bundle.head.kind == "direct" else self._settle(bundle, runner.sender)
        self._step("settled")
        before, waits = self._read_so_far(), None
        try:
            while await runner.inbox.receive(log, 0.0, self._step):
                """There is more of it."""
        except UmuhuzaError as exc:
            if exc.code not in _WAITS:
                raise
            waits = exc.code
        arrived, delivered = self._read_so_far() - before, 0
        while count := await runner.deliver():  # one of a thread at a time
            delivered += count
        self._keep_checkpoint(bundle.contents.checkpoint)
        receipts = await self._receipts(log)
        places = bundle.contents.log
        return Took(settled, arrived, delivered, receipts, places is not None and places.more, waits)

    def _read_so_far(self) -> int:
        counts = self._desk.mailbox.counts()
        return sum(count for name, count in counts.items() if name.startswith("incoming."))

    def _checked(self, bundle: Bundle) -> BundleLog:
        """Everything that can refuse it; nothing but a newer registry was taken then."""
        desk, head = self._desk, bundle.head
        if head.to != desk.agency:
            raise LogError("bundle_misplaced", "head.to", expected=desk.agency)
        if head.kind == "request":
            raise LogError("bundle_misplaced", "head.kind")
        if head.kind == "answer" and head.iss != self._gateway:
            raise LogError("bundle_misplaced", "head.iss", expected=self._gateway)
        if bundle.contents.registry is not None:
            self._take_registry(bundle.contents.registry)  # counts by its own signatures, and may name the writer's key
        registry = desk.registry()
        if head.training != registry.training:
            raise RecordError("training_record", "head.training")
        if head.iss not in registry.agencies:
            raise RegistryError("agency_unknown", "head.iss")
        bundle.verify(registry.new_signing_key(head.iss, bundle.kid, int(desk.now())))
        if head.kind == "direct":
            return handed(bundle, int(desk.now() * 1000))
        return answered(bundle, desk.mailbox.arrivals.cursors())

    def _settle(self, bundle: Bundle, sender: Sender) -> int:
        """What became of our records, and of what others had handed us. Returns how many of ours moved.

        Raises, with nothing settled, what a promise that does not hold raises.
        """
        box, places = self._desk.mailbox, bundle.contents.log
        own = {chain_hash(item.l1): item for item in box.outbox(open_only=True) if item.l1 is not None}
        carried = {b64url(item.digest): item for item in box.arrivals.carried(MAX_RECORDS)}
        keys = self._gateway_keys()
        promises: dict[str, Promise] = {}
        ours: list[tuple[Outgoing, Appended | UmuhuzaError]] = []
        theirs: list[tuple[Incoming, Appended | UmuhuzaError]] = []
        for told in bundle.contents.answers:
            l1, text = told.get("l1"), told.get("promise")
            if not isinstance(l1, str) or (l1 not in own and l1 not in carried):
                continue  # settled before
            if isinstance(text, str) and text not in promises:
                promises[text] = promise_in(text, keys)
            entry = sender.entry(own[l1]) if l1 in own else carried_entry(carried[l1])
            promise = promises.get(text) if isinstance(text, str) else None
            answer = read_answer(entry, told, text, promise, self._desk.registry().domain, checked=True)
            if answer is None or (isinstance(answer, LogError) and "problem" not in told):
                raise answer or LogError("bundle_malformed", "answer")
            if l1 in own:
                ours.append((own[l1], answer))
            else:
                theirs.append((carried[l1], answer))
        moved = sender.settle([item for item, _ in ours], [answer for _, answer in ours])
        if theirs and places is not None:
            sender.settle_carried(places.log, [item for item, _ in theirs], [answer for _, answer in theirs])
        return moved

    def _gateway_keys(self) -> list[VerifyKey]:
        """Raises RegistryError `key_unknown`."""
        operator = self._desk.registry().agency(self._gateway)
        keys = [VerifyKey(key.public) for key in operator.keys if key.use == "sig" and key.revoked is None]
        if not keys:
            raise RegistryError("key_unknown")
        return keys

    async def _receipts(self, log: BundleLog) -> int:
        if self._trust is None or not log.found:
            return 0
        policy, origin = self._believed(self._trust)
        return await ReceiptBook(self._desk.mailbox).ask(log, policy, origin)

    def _believed(self, trust: TrustPolicy) -> tuple[TrustPolicy, str]:
        """With what the registry announces, and the ledger that counts now."""
        registry = self._desk.registry()
        policy = believed_ledgers(trust, registry.ledgers, registry.domain).policy
        return policy, ledgers_of(policy, registry.domain)[-1]

    def _keep_checkpoint(self, data: bytes | None) -> None:
        """The largest that we can believe, for whom we hand something next; one that we cannot is passed over.

        Raises LogError `log_inconsistent`, path `checkpoint`: of one size there are two trees, both are believed, and
        somebody has signed twice.
        """
        if data is None or self._trust is None or self._checkpoint is None:
            return
        policy, origin = self._believed(self._trust)
        found = read_endorsed(data, policy, origin).signed.checkpoint
        held = self.checkpoint()
        if held is not None and read_checkpoint_text(read_note(held).text).origin == origin:  # else of a lost one
            before = read_endorsed(held, policy, origin).signed.checkpoint
            if before.size == found.size and before.root != found.root:
                raise LogError("log_inconsistent", "checkpoint")
            if before.size >= found.size:
                return
        write_durably(self._checkpoint, data)

    def checkpoint(self) -> bytes | None:
        """The newest that a stick has brought and that was believed."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return None
        return self._checkpoint.read_bytes()


def _own_line(sender: Sender, item: Outgoing) -> CarriedRecord:
    return CarriedRecord(sender.entry(item).value, tuple(orjson.loads(grant) for _, grant in sender.usable(item)))


def _handed_line(item: Incoming) -> CarriedRecord:
    return CarriedRecord(item.record, () if item.grant_value is None else (orjson.loads(item.grant_value),))


def _fitting(lines: Iterable[CarriedRecord], taken: int) -> tuple[CarriedRecord, ...]:
    """As many of the first as there is room for beside `taken` bytes: none is left out before one that goes."""
    fitting: list[CarriedRecord] = []
    for line in lines:
        taken += size_of("record", line.to_json())
        if not room_for(taken):
            break
        fitting.append(line)
    return tuple(fitting)
