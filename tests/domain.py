# SPDX-License-Identifier: Apache-2.0
"""An invented domain for tests: agencies with keys, a registry, and chains of real signed and sealed records.

Everything follows from one seed, so that a failing test fails again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from schemas.agreements import Agreement
from schemas.envelope import (
    Acts,
    Kind,
    Manifest,
    chain_hash,
    cloudevents_headers,
    mailbox_topic,
    new_evt,
    new_thread,
    record_value,
    sign_manifest,
)
from schemas.keys import HYBRID, RandomBytes, SealingKey, SigningKey
from schemas.registry import Agency, Key, Registry, Role, empty_registry
from schemas.registry_bundle import RootPin
from schemas.registry_metadata import Holder, read_root, read_targets
from schemas.registry_signing import Contents, published, root_metadata, targets_metadata, with_signature
from schemas.sealing import make_grant, parse_grant, seal_parts
from topics.log import Entry, grant_key

NOW = 1_793_000_000
"""27 October 2026, in seconds."""
YEAR = 365 * 86_400

MEMBERS: dict[str, tuple[str, tuple[Role, ...], bool]] = {
    "bi/police": ("Police (inventée)", ("police", "front-line"), False),
    "bi/iom": ("OIM (inventée)", ("screener", "assistance", "facilitator"), False),
    "bi/min-solidarity": ("Ministère (inventé)", ("assistance",), False),
    "bi/k7t4": ("Maison inventée", ("assistance", "shelter"), True),
    "bi/r5w2": ("Foyer inventé", ("assistance", "shelter"), True),
    "bi/operator": ("Exploitant (inventé)", ("operator",), False),
}


def seeded(seed: str) -> RandomBytes:
    """Random bytes that follow from a seed."""
    counter = itertools.count()

    def draw(count: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(count)

    return draw


@dataclass(frozen=True)
class Member:
    id: str
    sig: SigningKey
    seal: SealingKey


@dataclass(frozen=True)
class Signed:
    """A record with what goes beside it."""

    value: bytes
    manifest: Manifest
    grants: tuple[bytes, ...]
    keys: dict[str, bytes]

    @property
    def entry(self) -> Entry:
        m = self.manifest
        return Entry(m.topic, m.thread.encode(), m.ident, self.value, cloudevents_headers(m))

    def grant_puts(self) -> dict[str, bytes]:
        """What `put_grants` takes."""
        return {grant_key(self.manifest.ident, parse_grant(g).kid): g for g in self.grants}


@dataclass
class Domain:
    """Agencies of `bi` (six, if nobody says otherwise), their keys, and the chains they have written so far."""

    seed: str = "domain"
    now: int = NOW
    extra_issuers: int = 0
    """Further members `bi/n0`, `bi/n1`, ... with the role assistance: one issuer per concurrent writer."""
    cast: Mapping[str, tuple[str, tuple[Role, ...], bool]] = field(default_factory=lambda: dict(MEMBERS))
    """Agency -> its name, its roles, and whether it is a protected place."""
    name: str = "bi"
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    abroad: Mapping[str, Member] = field(default_factory=dict)
    """Agencies of another domain, to whom records may be sealed."""
    members: dict[str, Member] = field(init=False, default_factory=dict)
    root: SigningKey = field(init=False)
    registry: Registry = field(init=False)
    opens: SealingKey = field(init=False)
    """What opens the bundles that come to its gateway."""
    random: RandomBytes = field(init=False)
    _heads: dict[tuple[str, str], tuple[int, str]] = field(init=False, default_factory=dict)
    _file: tuple[Registry, Mapping[str, Agreement], bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.random = seeded(self.seed)
        self.root = SigningKey.generate(self.random)
        self.opens = SealingKey.generate(seeded(f"{self.seed} bundles"))
        registry = empty_registry(self.name, self.now - 86_400)
        wanted = dict(self.cast)
        wanted |= {f"bi/n{i}": (f"Agence {i} (inventée)", ("assistance",), False) for i in range(self.extra_issuers)}
        for agency, (name, roles, protected) in wanted.items():
            member = Member(agency, SigningKey.generate(self.random), SealingKey.generate(self.random))
            self.members[agency] = member
            keys: tuple[Key, ...] = (
                _key(member.sig.kid, "ES256", member.sig.public.public, self.now),
                _key(member.seal.kid, HYBRID, member.seal.public.public, self.now),
            )
            if "operator" in roles:
                bundles = _key(self.opens.kid, HYBRID, self.opens.public.public, self.now)
                keys = (*keys, replace(bundles, use="bundle"))
            registry = registry.with_agency(Agency(agency, {"fr": name}, roles, keys, protected), self.now - 86_400)
        self.registry = registry

    @property
    def operator(self) -> Member:
        """Who runs the gateway."""
        return self.members[f"{self.name}/operator"]

    @property
    def registry_file(self) -> bytes:
        """Signed once: a version has one text."""
        before = self._file
        if before is None or before[0] is not self.registry or before[1] is not self.agreements:
            data = sign_registry(self.registry, self.root, self.agreements)
            before = self._file = (self.registry, self.agreements, data)
        return before[2]

    @property
    def pin(self) -> RootPin:
        """What installations of this domain are told."""
        return RootPin.of(signed_root(self.registry, self.root))

    def record(
        self,
        iss: str = "bi/iom",
        to: str = "bi/k7t4",
        flow: str = "referral",
        kind: Kind = "request",
        *,
        content: bytes = b'{"content":"of a test"}',
        identity: bytes = b"",
        parts: Mapping[str, bytes] = MappingProxyType({}),
        seq: int | None = None,
        prev: str | None = None,
        evt: str | None = None,
        thread: str | None = None,
        iat: int | None = None,
        acts: Acts | None = None,
        voids: tuple[int, ...] = (),
        ref: str | None = None,
        answer_by: int | None = None,
        agreement: str | None = None,
        signer: SigningKey | None = None,
        chain: bool = True,
    ) -> Signed:
        """The issuer's next record on that topic, signed, sealed to the recipient.

        `content` is opaque here: a gateway cannot see it. `chain=False` leaves the chain's head where it was.
        """
        topic = mailbox_topic(flow, to)
        head_seq, head_hash = self._heads.get((iss, topic), (0, ""))
        evt = evt or new_evt(self.now * 1000, self.random)
        plaintexts = {"identity": identity, "content": content, **parts}
        sealed = seal_parts(f"{iss}/{evt}", kind, plaintexts, self.random)
        manifest = Manifest(
            evt=evt,
            iss=iss,
            to=to,
            topic=topic,
            kind=kind,
            thread=thread or new_thread(self.random),
            seq=head_seq + 1 if seq is None else seq,
            prev=head_hash if prev is None else prev,
            iat=self.now if iat is None else iat,
            reg=self.registry.version,
            parts=sealed.parts,
            acts=acts,
            voids=voids,
            ref=ref,
            answer_by=answer_by,
            agreement=agreement,
        )
        line1 = sign_manifest(manifest, signer or self.members[iss].sig)
        if chain:
            self._heads[iss, topic] = (manifest.seq, chain_hash(line1))
        reader = self.members[to] if to in self.members else self.abroad[to]
        grants = (make_grant(manifest, sealed.keys, to, reader.seal.public),)
        return Signed(record_value(line1, sealed.body), manifest, grants, dict(sealed.keys))

    def revoke(self, agency: str, kid: str, at: int | None = None) -> None:
        self.registry = self.registry.with_key_revoked(agency, kid, self.now if at is None else at)

    def sized_entry(self, iss: str, to: str, padded: int) -> Entry:
        """An entry whose content part is padded to `padded` bytes (a size of `PADDED_SIZES`)."""
        return self.record(iss, to, content=b"x" * (padded - 10)).entry


def signed_root(registry: Registry, holder: SigningKey) -> bytes:
    """The domain's first root, of one holder. It follows from the domain and not from the registry's version."""
    data = root_metadata(registry.domain, registry.training, [Holder("a", holder.public)], 1, 1, 1, NOW + 5 * YEAR)
    return with_signature(read_root(data)[0], holder, Holder("a", holder.public).keyid)


def sign_registry(
    registry: Registry,
    holder: SigningKey,
    agreements: Mapping[str, Agreement] = MappingProxyType({}),
    policy: bytes | None = None,
) -> bytes:
    """A registry in its own version and of its own time, whatever was published before."""
    contents = Contents(registry.agencies, agreements, policy, registry.ledgers)
    targets = read_targets(targets_metadata(contents, registry.version, registry.issued))
    listed = with_signature(targets, holder, Holder("a", holder.public).keyid)
    root = signed_root(registry, holder)
    return published([root], listed, contents.targets(), registry.version, holder, registry.issued)


def _key(kid: str, suite: str, public: bytes, now: int) -> Key:
    return Key(kid, "sig" if suite == "ES256" else "seal", suite, public, now - YEAR, now + YEAR)


def with_value(entry: Entry, value: bytes) -> Entry:
    """The same entry with other bytes."""
    return replace(entry, value=value)
