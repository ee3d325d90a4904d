# SPDX-License-Identifier: Apache-2.0
"""One agency put together from its folder: settings, keys, mailbox, registry copy, connectors, the gateway.

Owns nothing: composes `adapters` and `topics` for the commands.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adapters.connectors.contract import Connector, Escalation
from adapters.connectors.folder import FolderConnector
from adapters.connectors.kobo import KoboFolder
from adapters.consent_book import ConsentBook
from adapters.crossed_book import CrossedBook
from adapters.deadlines import alarms
from adapters.desk import Desk
from adapters.directory import DirectoryDesk
from adapters.erasure_proofs import ErasureProofs
from adapters.held_back import FILE_NAME as OBJECTIONS
from adapters.held_back import Disputes, HeldBack
from adapters.home_ledger import HomeLedger, ReceiptedLedger, ToldLedger
from adapters.inbox import Inbox
from adapters.keystore import Keys, read_key_file
from adapters.mail_book import MailBook
from adapters.mailbox import Mailbox
from adapters.outbox import Outbox
from adapters.own_entry import FILE_NAME as OWN_KEYS
from adapters.own_entry import OwnEntry
from adapters.receipt_book import PER_ROUND, ReceiptBook, ReceiptRounds
from adapters.receipts_abroad import GivenBy, ReceiptsAbroad
from adapters.runner import Pace, Runner
from adapters.settings import AgencySettings, load_agency
from schemas.errors import LogError, PayloadError, RegistryError, UmuhuzaError
from schemas.keys import VerifyKey
from schemas.registry import Registry, empty_registry
from schemas.registry_bundle import RootPin
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.trust_policy import TrustPolicy, read_policy
from topics.believed_ledgers import believed_ledgers, ledgers_of
from topics.catalogue import flows_of
from topics.direct_log import DirectLog
from topics.http_log import HttpLog
from topics.log import Log
from topics.neighbours import Neighbours
from topics.policy_target import same_policy
from topics.registry_file import RegistryFile, registry_pin, take_registry_file
from topics.settings import SettingsError
from topics.sqlite_turn import Turn
from umuhuza.asking import current_passphrase, current_pin
from umuhuza.words import times_in

if TYPE_CHECKING:
    from adapters.mail_sending import MailNotices

LOOK_S = 1.0
"""How soon another log is noticed."""


@dataclass
class AgencyParts:
    """Everything a command about one agency needs. `close` when done.

    Keys are opened when something first needs them: what only looks asks for no passphrase.
    """

    folder: Path
    settings: AgencySettings
    unlock: Callable[[], Keys]
    mailbox: Mailbox
    registry: Callable[[], Registry]
    collecting: Turn
    """Whoever looks at the agency's folders holds it, `agency run` and `agency send` alike: else both take one file."""
    trusted: Callable[[], TrustedRegistry | None]
    """The registry with all that was signed; None before the first contact."""
    clock_offset_s: Callable[[], float] = lambda: 0.0
    reread: Callable[[], None] = lambda: None
    """The registry's file was replaced by this program: read it now, not at the next look."""
    neighbours: Neighbours | None = None
    """Other domains; what comes from them and goes to them is judged by it."""

    @cached_property
    def keys(self) -> Keys:
        """Raises KeyStoreError, SettingsError."""
        return self.unlock()

    @cached_property
    def connectors(self) -> tuple[Connector, ...]:
        """Raises KeyStoreError, SettingsError."""
        return _connectors(self)

    @property
    def desk(self) -> Desk:
        limit = int(self.settings.attachments_mib * 2**20)
        return Desk(self.mailbox, self.keys, self.registry, self.now, os.urandom, limit, self.neighbours)

    def inbox(self) -> Inbox:
        """The way in of this agency, for opening again what has arrived."""
        return Inbox(self.desk, Outbox(self.desk))

    def now(self) -> float:
        """Corrected by the gateway's clock, once it is known."""
        return time.time() + self.clock_offset_s()

    def close(self) -> None:
        self.mailbox.close()
        self.collecting.close()


def open_agency(folder: Path) -> AgencyParts:
    """Read an agency's folder; needs no network. The caller closes what it gets; see `opened_agency`.

    Raises:
        SettingsError: no or wrong settings.
        UmuhuzaError: key file, registry copy or mailbox cannot be used.
    """
    settings = load_agency(folder)
    if settings.kafka_write and settings.kafka is None:
        raise SettingsError("kafka_write: `kafka` is missing", "kafka_write : il manque « kafka »")
    pin = registry_pin(settings.registry_root)
    if settings.kobo is not None and settings.kobo_to is None:
        raise SettingsError(
            "kobo_to is missing: the agency that Kobo submissions are sent to",
            "kobo_to manque : l'agence à qui les soumissions Kobo sont envoyées",
        )
    times_in(zone_of(settings))
    try:
        file = read_key_file(settings.keys)
    except OSError:
        raise SettingsError("keys: the file cannot be read", "keys : le fichier ne peut pas être lu") from None
    if file.agency != settings.agency:
        raise SettingsError("keys: they are another agency's", "keys : ce sont celles d'une autre agence")
    held = _RegistryCopy(settings.registry, pin, settings.domain)
    box = Mailbox.open(settings.mailbox)
    turn = Turn(f"{settings.mailbox}-collecting")
    neighbours = None if settings.neighbours is None else Neighbours(settings.neighbours, held.present, time.monotonic)
    ask = current_pin if file.kind == "device" else current_passphrase

    def registry() -> Registry:
        return held.registry() if neighbours is None or held.trusted() is None else neighbours.registry

    return AgencyParts(
        folder,
        settings,
        lambda: file.open(ask),
        box,
        registry,
        turn,
        held.trusted,
        reread=held.reread,
        neighbours=neighbours,
    )


@contextmanager
def opened_agency(folder: Path) -> Iterator[AgencyParts]:
    """`open_agency`, closed at the end whatever happens."""
    parts = open_agency(folder)
    try:
        yield parts
    finally:
        parts.close()


class _RegistryCopy:
    """The registry as this agency last saw it; an empty one before the first contact."""

    def __init__(self, path: Path, pin: RootPin, domain: str) -> None:
        self._path, self._pin, self._domain = path, pin, domain
        self._file: RegistryFile | None = None

    def trusted(self) -> TrustedRegistry | None:
        if self._file is None:
            if not self._path.exists():
                return None
            self._file = RegistryFile(self._path, self._pin, time.monotonic)
        return self._file.trusted

    def reread(self) -> None:
        if self._file is not None:
            self._file.look_again()

    def present(self) -> TrustedRegistry:
        """Raises RegistryError `registry_invalid` before the first contact."""
        found = self.trusted()
        if found is None:
            raise RegistryError("registry_invalid", "file")
        return found

    def registry(self) -> Registry:
        found = self.trusted()
        return empty_registry(self._domain, int(time.time())) if found is None else found.registry


def recipients_of(parts: AgencyParts) -> list[tuple[str, str]]:
    """Whom the form offers: (id, name) of every other member that has a mailbox for people's work."""
    return [
        (agency.id, agency.name(parts.settings.language))
        for agency in parts.registry().agencies.values()
        if agency.id != parts.settings.agency and {"referral", "case"} & set(flows_of(agency))
    ]


def zone_of(settings: AgencySettings) -> ZoneInfo:
    """Raises SettingsError."""
    try:
        return ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SettingsError(
            "timezone: not a zone of the IANA list, such as Africa/Bujumbura",
            "timezone : n'est pas de la liste IANA, comme Africa/Bujumbura",
        ) from None


def _connectors(parts: AgencyParts) -> tuple[Connector, ...]:
    settings = parts.settings
    zone = zone_of(settings)

    def now() -> datetime:
        return datetime.fromtimestamp(parts.now(), zone)

    made: list[Connector] = [DirectoryDesk(parts.desk)]  # first: see there
    if settings.folder is not None:
        made.append(
            FolderConnector(
                settings.folder,
                agency=settings.agency,
                recipients=lambda: recipients_of(parts),
                now=now,
                language=settings.language,
                quiet_s=settings.quiet_seconds,
            )
        )
    if settings.kobo is not None and settings.kobo_to is not None:
        made.append(KoboFolder(settings.kobo, to=settings.kobo_to, now=now))
    return tuple(made)


def gateway_log(parts: AgencyParts) -> HttpLog:
    """The way to the domain's gateway. The agency's clock follows the gateway's from the first answer on.

    Promises are checked against the gateway's key in the registry; before the first registry there is none to check
    against, and nothing to promise either.
    """
    settings = parts.settings

    def gateway_keys() -> list[VerifyKey]:
        """Asked at every answer: the gateway's key is rotated under running adapters."""
        operator = parts.registry().agencies.get(settings.gateway_agency)
        keys = () if operator is None else operator.keys
        return [VerifyKey(key.public) for key in keys if key.use == "sig" and key.revoked is None]

    context = None if settings.ca_file is None else ssl.create_default_context(cafile=str(settings.ca_file))
    log = HttpLog(
        settings.gateway,
        settings.agency,
        parts.keys.sig,
        domain=settings.domain,
        now=time.time,
        random=os.urandom,
        gateway_key=gateway_keys,
        tls=context,
    )
    parts.clock_offset_s = lambda: log.clock_offset_s
    return log


def agency_log(parts: AgencyParts, gateway: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None]) -> Log:
    """Where records go and come from: the gateway; or Kafka, with the gateway beside it. Owns `gateway`.

    Raises:
        SettingsError: the folder `kafka` lacks what the brokers want to see.
    """
    settings = parts.settings
    if settings.kafka is None:
        return gateway
    # Only here: it takes a third of a second, which no agency without Kafka should wait.
    from topics.kafka_log import KafkaAccess, KafkaLog

    access = KafkaAccess.of_folder(settings.kafka, client_id=f"umuhuza-agency-{settings.agency.replace('/', '.')}")
    view = settings.mailbox.with_name(f"{settings.mailbox.stem}-grants.db")

    async def open_log() -> KafkaLog:
        return await KafkaLog.open(access, domain=settings.domain, view=view, random_id=lambda: os.urandom(16).hex())

    def writes() -> bool:
        return settings.kafka_write and parts.registry().agency(settings.agency).direct

    return DirectLog(open_log, gateway, writes=writes, on_refused=lambda exc: on_trouble("kafka", exc))


def home_ledger(parts: AgencyParts, gateway: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None]) -> HomeLedger:
    """Who says where records from revoked keys stand. An agency that was not told whose ledger to believe is told so
    whenever something was decided by one: `log_unknown`, path `trust`."""
    trust = parts.settings.trust
    if trust is None:
        return ToldLedger(gateway, lambda: on_trouble("trust", LogError("log_unknown", "trust")))
    return ReceiptedLedger(gateway, lambda: _believed(parts, trust, on_trouble), parts.settings.domain)


def trust_of(settings: AgencySettings) -> TrustPolicy | None:
    """Whose ledger and witnesses this agency was told to believe, its registry not asked.

    Raises LogError `unavailable`, `policy_malformed`.
    """
    return None if settings.trust is None else _trusted(settings.trust)


def _believed(parts: AgencyParts, file: Path, on_trouble: Callable[[str, UmuhuzaError], None]) -> TrustPolicy:
    """The same with what the registry announces of the domain's ledgers; where it says otherwise, that is told. Raises
    as `trust_of`."""
    found = believed_ledgers(_trusted(file), parts.registry().ledgers, parts.settings.domain)
    if found.trouble is not None:
        on_trouble("trust", found.trouble)
    return found.policy


def _trusted(file: Path) -> TrustPolicy:
    """Read each time: an operator may add a witness. Raises LogError `unavailable`, `policy_malformed`."""
    try:
        return read_policy(file.read_bytes())
    except OSError:
        raise LogError("unavailable", "trust") from None


async def refresh_registry(parts: AgencyParts, log: HttpLog, etag: str = "") -> str:
    """Fetch a newer registry if there is one; returns its etag.

    Raises:
        UmuhuzaError: unreachable, or not to be believed, or older than ours: ours stays. A first one that is out of
            date is not taken (`registry_stale`).
    """
    fetched = await log.fetch_registry(etag or None)
    if fetched is None:
        return etag
    data, new_etag = fetched
    settings, pin = parts.settings, registry_pin(parts.settings.registry_root)
    held = parts.trusted()
    if held is None or trusted(data, pin, held).data != held.data:
        take_registry_file(settings.registry, pin, data, int(parts.now()))
        parts.reread()
    return new_etag


async def refresh_neighbours(neighbours: Neighbours, log: HttpLog) -> None:
    """Fetch what our domain holds of others: the newest, and versions that a record was logged under and that are not
    here. Raises UmuhuzaError, as `refresh_registry`."""
    for domain in neighbours.domains():
        neighbours.take_registry(domain, await log.fetch_neighbour(domain))
    for domain, version in sorted(neighbours.wanted):
        neighbours.take_registry(domain, await log.fetch_neighbour(domain, version))
    for domain in neighbours.domains():
        if held := await log.fetch_of_us(domain):
            neighbours.take_of_us(domain, held)


async def run_agency(
    parts: AgencyParts,
    stop: asyncio.Event,
    on_trouble: Callable[[str, UmuhuzaError], None],
    on_ready: Callable[[], None] = lambda: None,
    on_escalation: Callable[[Escalation], None] = lambda _escalation: None,
) -> None:
    """Run until `stop`: the registry is kept fresh beside the runner's turns."""
    settings = parts.settings
    notices = mail_notices(parts)
    gateway = gateway_log(parts)
    disputes = Disputes(settings.mailbox.with_name(OBJECTIONS), parts.registry, parts.now)
    log = HeldBack(agency_log(parts, gateway, on_trouble), disputes.agencies)
    pace = Pace(settings.collect_seconds, settings.wait_seconds, settings.idle_seconds, settings.watch_seconds)
    others = parts.neighbours
    elsewhere: Callable[[], Mapping[str, Registry]] = dict if others is None else lambda: others.of_us
    own = OwnEntry(settings.mailbox.with_name(OWN_KEYS), parts.keys, parts.registry, parts.now, elsewhere)
    runner = Runner(
        parts.desk,
        log,
        parts.connectors,
        pace=pace,
        collecting=parts.collecting,
        before_send=own.require_ours,
        on_trouble=on_trouble,
        arrival_grace_s=settings.arrival_grace_minutes * 60.0,
        on_escalation=on_escalation,
        home=home_ledger(parts, gateway, on_trouble),
    )
    beside = [] if notices is None else [asyncio.create_task(_keep_notices(parts, notices, on_trouble, stop))]
    try:
        try:
            etag = await _until_enrolled(parts, gateway, on_trouble, stop)
            await _until_reconciled(runner, gateway, on_trouble, stop)
            if stop.is_set():
                return
            beside += [
                asyncio.create_task(_keep_up(parts, runner, gateway, own, disputes, on_trouble, stop, etag)),
                asyncio.create_task(_keep_receipts(parts, gateway, on_trouble, stop)),
                asyncio.create_task(_keep_crossed(parts, gateway, on_trouble, stop)),
            ]
            on_ready()
            await runner.run(stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    finally:
        await log.close()


def mail_notices(parts: AgencyParts) -> MailNotices | None:
    """Notices by e-mail, where the settings ask for them. Raises SettingsError."""
    settings = parts.settings
    if settings.mail_host is None:
        return None
    # Only here: who sends no mail need not load what sends it.
    from adapters.mail_sending import MailNotices, relay_of

    relay = relay_of(settings)
    if relay is None:
        return None
    book = MailBook(parts.mailbox, settings.mail_minutes * 60.0, os.urandom)
    grace_s = settings.arrival_grace_minutes * 60.0
    return MailNotices(book, relay, lambda: alarms(parts.mailbox, parts.now(), grace_s), parts.now)


async def _keep_notices(
    parts: AgencyParts,
    notices: MailNotices,
    on_trouble: Callable[[str, UmuhuzaError], None],
    stop: asyncio.Event,
) -> None:
    """Beside the work, and without the gateway too: that it is silent is one of the things to be said."""
    while not stop.is_set():
        try:
            await notices.turn()
        except UmuhuzaError as exc:
            on_trouble("mail", exc)
        await _pause(stop, parts.settings.watch_seconds)


async def _until_enrolled(
    parts: AgencyParts, log: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None], stop: asyncio.Event
) -> str:
    """Before the first registry that knows us there is nothing to do but to ask again. Returns its etag, "" when nobody
    was asked."""
    etag, wait = "", 0.5
    while not stop.is_set() and parts.settings.agency not in parts.registry().agencies:
        try:
            etag = await refresh_registry(parts, log, etag)
        except UmuhuzaError as exc:
            on_trouble("registry", exc)
        else:
            if parts.settings.agency in parts.registry().agencies:
                break
            on_trouble("registry", RegistryError("agency_unknown"))
        await _pause(stop, _spread(wait))
        wait = min(30.0, wait * 2)
    return etag


async def _until_reconciled(
    runner: Runner, log: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None], stop: asyncio.Event
) -> None:
    """Before the first number is used: a mailbox restored from a backup must learn what it has sent since.

    An agency that cannot reach its gateway could not send anyway, so waiting here loses nothing but the folder's
    reports; those come as soon as there is a network.
    """
    wait = 0.5
    while not stop.is_set():
        try:
            await runner.reconcile(log)
        except UmuhuzaError as exc:
            on_trouble("reconcile", exc)
            runner.note_way(exc.code)
            await _watch(runner, on_trouble)
            await _pause(stop, _spread(max(wait, exc.retry_after_s)))
            wait = min(60.0, wait * 2)
        else:
            return


async def _watch(runner: Runner, on_trouble: Callable[[str, UmuhuzaError], None]) -> None:
    """What is due is due without a network too: somebody has to telephone."""
    try:
        await runner.watch()
    except UmuhuzaError as exc:
        on_trouble("watch", exc)


async def _keep_up(
    parts: AgencyParts,
    runner: Runner,
    log: HttpLog,
    own: OwnEntry,
    disputes: Disputes,
    on_trouble: Callable[[str, UmuhuzaError], None],
    stop: asyncio.Event,
    etag: str,
) -> None:
    """Beside the work: a newer registry, whether it says the truth of us and what others say of it, and whether the
    gateway still has what it promised us."""
    wait = 0.5
    while not stop.is_set():
        try:
            etag = await refresh_registry(parts, log, etag)
            objection = own.objection(parts.keys.sig)
            if objection is not None:
                await log.object_to_keys(objection)
            disputes.told(await log.objections())
            await runner.reconcile(log)
            _escalate_children(parts, on_trouble)
            _warn_of_registry(parts, on_trouble)
            if parts.neighbours is not None:
                await refresh_neighbours(parts.neighbours, log)
        except UmuhuzaError as exc:
            on_trouble("registry", exc)
            wait = max(min(60.0, wait * 2), exc.retry_after_s)
        else:
            wait = parts.settings.registry_seconds
        await _pause_in(log, stop, _spread(wait))


async def _keep_receipts(
    parts: AgencyParts, log: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None], stop: asyncio.Event
) -> None:
    """Beside the work: what the ledger says of what we sent. The policy is read again each time."""
    if parts.settings.trust is None:
        return
    rounds = ReceiptRounds(ReceiptBook(parts.mailbox), time.monotonic, parts.settings.receipt_seconds)
    while not stop.is_set():
        try:
            policy = _believed(parts, parts.settings.trust, on_trouble)
            origin = ledgers_of(policy, parts.settings.domain)[-1]
            await rounds.turn(log, policy, origin)
            await ErasureProofs(parts.mailbox).ask(log, policy, origin)
        except UmuhuzaError as exc:
            on_trouble("receipts", exc)
        await _pause(stop, _spread(parts.settings.receipt_seconds))


async def _keep_crossed(
    parts: AgencyParts, log: HttpLog, on_trouble: Callable[[str, UmuhuzaError], None], stop: asyncio.Event
) -> None:
    """Beside the work: what became abroad of what we sent over a border."""
    if parts.neighbours is None:
        return
    book = CrossedBook(parts.mailbox)
    rounds: dict[str, ReceiptRounds] = {}
    while not stop.is_set():
        try:
            while await book.ask(log, parts.settings.domain, parts.registry(), int(parts.now())) == PER_ROUND:
                """More are due."""
        except UmuhuzaError as exc:
            on_trouble("crossed", exc)
        for domain in parts.neighbours.domains():
            kept = ReceiptsAbroad(parts.mailbox, domain)
            if domain not in rounds:
                rounds[domain] = ReceiptRounds(kept, time.monotonic, parts.settings.receipt_seconds, patient=True)
            try:
                policy = parts.neighbours.trust(domain).policy
                await rounds[domain].turn(GivenBy(log.receipts_abroad), policy, ledgers_of(policy, domain)[-1])
            except UmuhuzaError as exc:
                # That a gateway is silent, others say; one of an earlier version has no such path.
                if exc.code != "unavailable":
                    on_trouble("crossed", exc)
        await _pause(stop, parts.settings.receipt_seconds)


def _escalate_children(parts: AgencyParts, on_trouble: Callable[[str, UmuhuzaError], None]) -> None:
    """A child whose representative is overdue is said like any trouble; who it is, `umuhuza agency children` shows."""
    now = parts.now()
    if any(one.due_at <= now for one in ConsentBook(parts.mailbox).representatives_due()):
        on_trouble("children", PayloadError("safeguard_missing", "caregiver.status"))


def _warn_of_registry(parts: AgencyParts, on_trouble: Callable[[str, UmuhuzaError], None]) -> None:
    """Sixty days ahead: a new key, a new root and new targets take people who have to meet. And at once, when another
    policy is applied here than the domain has agreed on."""
    held = parts.trusted()
    for one in () if held is None else held.expiring(int(parts.now()), of=parts.settings.agency):
        on_trouble(f"registry.{one.what}", RegistryError("registry_expiring", one.what))
    if held is not None and not same_policy(held):
        on_trouble("policy", RegistryError("policy_differs", "policy"))


async def _pause_in(log: HttpLog, stop: asyncio.Event, seconds: float) -> None:
    """Cut short when the log becomes another one (put back from a copy): what it lacks is sent again soon, not in the
    next round, when newer records stand before it."""
    known, until = log.log_id, time.monotonic() + seconds
    while not stop.is_set() and log.log_id == known and (left := until - time.monotonic()) > 0:
        await _pause(stop, min(left, LOOK_S))


def _spread(seconds: float) -> float:
    """Up to a half longer: when power comes back to a town, its agencies do not go on asking in the same seconds."""
    return seconds * (1 + int.from_bytes(os.urandom(2), "big") / 131_072)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
