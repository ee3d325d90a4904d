# SPDX-License-Identifier: Apache-2.0
"""Where `umuhuza audit` finds what it audits: evidence in a zip or folder, or a domain's own folder on its machine.

A domain's folder has a ledger's settings in it, or in a folder below; agencies' folders beside it (as the
demonstration leaves them) give the promises that they keep. Whom to believe comes from the auditor; what she does not
name is taken from the source itself, and `Opened.stated` says so: it then shows only that the source fits itself.

Reads only, but for what SQLite does to open a log. Must never: read a key that opens anything, or an agency's records.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from adapters.erasure_proofs import ErasureProofs
from adapters.mailbox import Mailbox
from adapters.receipt_book import ReceiptBook
from schemas.errors import LogError, RegistryError
from schemas.keys import fingerprint_of
from schemas.notes import NoteKey
from schemas.plain_text import harmless
from schemas.proof_texts import PROOF_HEADER
from schemas.registry import Registry
from schemas.registry_bundle import RootPin
from schemas.registry_trust import trusted
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy, read_policy
from topics.audit_abroad import NeighbourFile, file_in, homes_of, is_domain, known_domain
from topics.audit_domain import DomainSource
from topics.audit_findings import AuditSource, Held, RegistryReader, Trust
from topics.believed_ledgers import announced_in, believed_ledgers
from topics.catalogue import topics_of
from topics.cosigning import COSIGNED_FILE, ENDORSED_FILE, POLICY_FILE
from topics.evidence_files import ABOUT, EvidenceSource
from topics.home_check import POLICY, ROOT
from topics.ledger_checkpoints import CHECKPOINT
from topics.ledger_entries import decode_batch, decode_entry
from topics.ledger_store import LedgerStore
from topics.registry_file import registry_pin
from topics.settings import SettingsError
from topics.topic_names import is_mailbox_topic
from topics.witness_folder import read_note_keys
from umuhuza.ledger_command import PUBLIC_FILE
from umuhuza.ledger_process import open_log, open_store
from umuhuza.ledger_settings import ALGORITHMS, FILE_NAME, LedgerSettings, load_ledger_settings
from umuhuza.words import t

_MAILBOX = "mailbox.db"
"""An agency's, as `adapters.settings` names it."""
_MAX_FILE_BYTES = 16 << 20
_SIGNED = "\n\n\N{EM DASH} ".encode()
"""Between the text of a signed note and its signatures (c2sp.org/signed-note)."""
_KINDS = ("checkpoints", "receipts", "promises")


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, whom to believe about it, and which of that the source itself has stated."""

    source: AuditSource
    trust: Trust
    root: str
    """The registry's root, as settings write it; "" where no registry is looked at."""
    policy: TrustPolicy
    stated: tuple[str, ...]
    """`policy`, `root`, `neighbours`: taken from the source."""
    abroad: tuple[tuple[str, RootPin, TrustPolicy], ...] = ()
    """What is believed of other domains, whose records came over a border."""

    @property
    def keys(self) -> list[tuple[str, str]]:
        """What to compare by telephone: what it is and the fingerprint, of everything that is believed."""
        keys: list[NoteKey] = [one.key for one in self.policy.logs]
        keys += [one.key for one in self.policy.witnesses]
        for _, _, policy in self.abroad:
            keys += [one.key for one in policy.logs]
            keys += [one.key for one in policy.witnesses]
        named = {f"{key.name} {ALGORITHMS[key.kind]}": fingerprint_of(key.public) for key in keys}
        if self.root:
            named[t("racine du registre", "registry's root")] = RootPin.read(self.root).spoken
        for domain, pin, _ in self.abroad:
            named[t(f"racine du registre de {domain}", f"registry's root of {domain}")] = pin.spoken
        return list(named.items())


@contextmanager
def opened_source(
    where: Path,
    *,
    policy: Path | None = None,
    root: str | None = None,
    held: Sequence[Path] = (),
    neighbours: Path | None = None,
) -> Iterator[Opened]:
    """Open what is there.

    Args:
        policy: whom the auditor believes (c2sp.org/tlog-policy).
        root: the registry's root.
        held: files, or folders of files: checkpoints, receipts and promises that others keep.
        neighbours: whom the auditor believes of other domains, a folder as `topics.audit_abroad` has it.

    Raises SettingsError: there is nothing to audit, or a file cannot be read. LogError.
    """
    brought = brought_by(held)
    given = None if policy is None else policy_of(policy)
    if where.is_file() or (where / ABOUT).is_file():
        source = EvidenceSource.open(where, brought)
        try:
            yield _evidence(source, given, root, neighbours)
        finally:
            source.close()
        return
    folder = _ledger_folder(where)
    settings = load_ledger_settings(folder / FILE_NAME)
    stated = tuple(name for name, value in (("policy", given), ("root", root)) if value is None)
    believed = _own_policy(settings) if given is None else given
    root = settings.registry_root if root is None else root
    reader = registry_reader(root)
    with _domain(where, settings, reader, brought) as domain:
        there = () if settings.neighbours is None else tuple(path.name for path in _folders(settings.neighbours, 1))
        yield _opened(Opened(domain, Trust(believed, reader), root, believed, stated), neighbours, there)


def _opened(opened: Opened, neighbours: Path | None, there: Sequence[str]) -> Opened:
    """With whom to believe of other domains: as the auditor says, else as the source does.

    Args:
        there: domains of which the source has something.

    Raises SettingsError: a file of the auditor's is none.
    """
    if neighbours is not None:
        read, names = file_in(neighbours), [path.name for path in _folders(neighbours, 1)]
    else:
        read, names = opened.source.neighbour_file, list(there)
    try:
        known = [(name, known_domain(read, name)) for name in names if is_domain(name)]
    except (LogError, RegistryError) as exc:
        if neighbours is None:
            raise
        raise SettingsError(
            f"--neighbours: cannot be believed: {exc.path}", f"--neighbours : ne peut pas être cru : {exc.path}"
        ) from None
    abroad = tuple((name, *believed) for name, believed in known if believed is not None)
    if neighbours is not None and not abroad:
        raise SettingsError(
            "--neighbours: no domain is there: it needs <domain>/root and <domain>/ledger.policy",
            "--neighbours : aucun domaine n'y est : il faut <domaine>/root et <domaine>/ledger.policy",
        )
    opened = announcing(opened)
    stated = (*opened.stated, *(("neighbours",) if abroad and neighbours is None else ()))
    trust = replace(opened.trust, homes=homes_of(read if neighbours is None else _either(read, opened.source)))
    return replace(opened, trust=trust, stated=stated, abroad=abroad)


def announcing(opened: Opened) -> Opened:
    """With the ledgers that the published registry announces, signed by its holders. A root that the source states
    itself adds no key to a policy that comes from the auditor."""
    if "root" in opened.stated and "policy" not in opened.stated:
        return opened
    domain, read = opened.source.domain, opened.trust.read_registry
    announced = announced_in(opened.source.published_registry(), lambda data: read(data)[0], domain)
    believed = believed_ledgers(opened.policy, announced, domain)
    return replace(opened, trust=replace(opened.trust, announced=announced), policy=believed.policy)


def _either(read: NeighbourFile, source: AuditSource) -> NeighbourFile:
    """Whom to believe from the auditor; registries, which their own domain's root proves, from whoever has them."""

    def file(domain: str, name: str) -> bytes | None:
        found = read(domain, name)
        return source.neighbour_file(domain, name) if found is None and name not in (ROOT, POLICY) else found

    return file


def registry_reader(root: str) -> RegistryReader:
    """Reads registry files under this root. Raises SettingsError: it is none."""
    pin = registry_pin(root, "--root")

    def read(data: bytes) -> tuple[Registry, bytes]:
        return trusted(data, pin).registry, hashlib.sha256(data).digest()

    return read


# ---------------------------------------------------------------------------------------------------------------------
# Evidence


def _evidence(source: EvidenceSource, policy: TrustPolicy | None, root: str | None, neighbours: Path | None) -> Opened:
    stated_policy, stated_root = source.stated()
    stated = tuple(name for name, value in (("policy", policy), ("root", root)) if value is None)
    if policy is None:
        policy = None if stated_policy is None else read_policy(stated_policy)
    root = stated_root if root is None else root
    if policy is None or root is None:
        raise SettingsError(
            "--policy and --root: the evidence does not state them, name them",
            "--policy et --root : la preuve ne les indique pas, nommez-les",
        )
    opened = Opened(source, Trust(policy, registry_reader(root)), root, policy, stated)
    return _opened(opened, neighbours, source.neighbours())


def policy_of(path: Path) -> TrustPolicy:
    """Whom the auditor believes. Raises SettingsError: the file is none."""
    try:
        return read_policy(_bytes(path, "--policy"))
    except LogError as exc:
        raise SettingsError(
            f"--policy: not as c2sp.org/tlog-policy has it: {exc.path}",
            f"--policy : pas comme le veut c2sp.org/tlog-policy : {exc.path}",
        ) from None


# ---------------------------------------------------------------------------------------------------------------------
# A domain's folder


def _ledger_folder(where: Path) -> Path:
    found = [folder for folder in (where, *_folders(where, 2)) if (folder / FILE_NAME).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(
            "several ledgers are there; name one's folder", "il y a plusieurs registres de preuve ; nommez le dossier"
        )
    raise SettingsError(
        "neither evidence (a zip or its folder) nor a ledger's settings are there",
        "il n'y a là ni preuve (un zip ou son dossier), ni réglages d'un registre de preuve",
    )


def _folders(where: Path, depth: int) -> Iterator[Path]:
    try:
        below = sorted(path for path in where.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return
    for folder in below:
        yield folder
        if depth > 1:
            yield from _folders(folder, depth - 1)


def _own_policy(settings: LedgerSettings) -> TrustPolicy:
    """The operator's: whom it asks for cosignatures; without one, the ledger's own keys and no witness."""
    path = settings.keys.parent / POLICY_FILE
    if path.is_file():
        return read_policy(path.read_bytes())
    keys = read_note_keys(settings.keys.parent / PUBLIC_FILE)
    return TrustPolicy(tuple(TrustedLog(key) for key in keys), (), (), NONE)


@contextmanager
def _domain(
    where: Path, settings: LedgerSettings, reader: RegistryReader, brought: dict[str, list[Held]]
) -> Iterator[DomainSource]:
    published = _bytes(settings.registry, "registry")
    domain = reader(published)[0].domain
    store = open_store(settings, domain, create=False)
    loop = asyncio.Runner()
    try:
        log = loop.run(open_log(settings, domain))
        folder = settings.keys.parent
        own = [one for name in (CHECKPOINT, COSIGNED_FILE, ENDORSED_FILE) for one in _file(folder / name, own=True)]
        source = DomainSource(
            domain,
            log,
            store,
            loop=loop,
            names=_names(store, settings, reader, published),
            registry_file=partial(_kept_registry, settings.registries),
            published=published,
            neighbour_file=None if settings.neighbours is None else file_in(settings.neighbours),
            checkpoints=[*own, *brought["checkpoints"]],
            receipts=lambda: chain(_receipts(where), brought["receipts"]),
            promises=lambda: chain(_promises(where), brought["promises"]),
        )
        try:
            yield source
        finally:
            source.close()
    finally:
        loop.close()
        store.close()


def _names(store: LedgerStore, settings: LedgerSettings, reader: RegistryReader, published: bytes) -> list[str]:
    """Mailbox topics of every registry version that the ledger names, and of the one published now."""
    names = set(topics_of(reader(published)[0]))
    position = -1
    while stored := store.read(position):
        for one in stored:
            position = one.position
            names |= _named_in(one.value, settings, reader)
    return sorted(name for name in names if is_mailbox_topic(name))


def _named_in(batch: bytes, settings: LedgerSettings, reader: RegistryReader) -> set[str]:
    """Topics that a batch's entries and its registry versions name."""
    names: set[str] = set()
    try:
        entries = [decode_entry(one) for one in decode_batch(batch).entries]
    except LogError:
        return names  # not effective; the audit says what is missing then
    for entry in entries:
        if entry.topic is not None:
            names.add(entry.topic)
        elif entry.value_sha256 is not None:
            data = _kept_registry(settings.registries, entry.value_sha256)
            if data is not None:
                with suppress(RegistryError):
                    names |= set(topics_of(reader(data)[0]))
    return names


def _kept_registry(folder: Path, sha256: bytes) -> bytes | None:
    """A registry version by its hash, whatever its file's ending."""
    for path in folder.glob(f"{sha256.hex()}.*"):
        if path.suffix != ".part":
            return path.read_bytes()
    return None


def _promises(where: Path) -> Iterator[Held]:
    """Those that agencies keep whose folders are here."""
    for name, box in _mailboxes(where):
        for number, item in enumerate(box.outbox(), 1):
            if item.promise is not None:
                yield Held(f"{name}/promise-{number}", item.promise, own=False)


def _receipts(where: Path) -> Iterator[Held]:
    """The same."""
    for name, box in _mailboxes(where):
        for number, data in enumerate((*ReceiptBook(box).held(), *ErasureProofs(box).held()), 1):
            yield Held(f"{name}/receipt-{number}", data, own=False)


def _mailboxes(where: Path) -> Iterator[tuple[str, Mailbox]]:
    for folder in _folders(where, 1):
        if (folder / _MAILBOX).is_file():
            box = Mailbox.open(folder / _MAILBOX)
            try:
                yield folder.name, box
            finally:
                box.close()


# ---------------------------------------------------------------------------------------------------------------------
# What others hold


def brought_by(paths: Sequence[Path]) -> dict[str, list[Held]]:
    """By what each file holds. Raises SettingsError: it cannot be read, or is nothing that anybody gave out: a page
    that lies beside must not be told as a lie of the ledger's operator."""
    found: dict[str, list[Held]] = {kind: [] for kind in _KINDS}
    for path in paths:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            data = _bytes(file, "--held")
            found[_kind(data, harmless(file.name))].append(Held(harmless(file.name), data, own=False))
    return found


def _kind(data: bytes, name: str) -> str:
    if data.startswith(PROOF_HEADER.encode("ascii")):
        return "receipts"
    if data.lstrip().startswith(b"{") and b'"promise"' in data:
        return "promises"
    if _SIGNED in data:
        return "checkpoints"
    raise SettingsError(
        f"--held: {name}: neither a checkpoint, nor a receipt, nor a promise; take it away",
        f"--held : {name} : ni point de contrôle, ni reçu, ni promesse ; retirez-le",
    )


def _file(path: Path, *, own: bool) -> list[Held]:
    return [Held(path.name, _bytes(path, path.name), own)] if path.is_file() else []


def _bytes(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_FILE_BYTES)
    except OSError:
        raise SettingsError(f"{name}: cannot be read", f"{name} : ne peut pas être lu") from None
