# SPDX-License-Identifier: Apache-2.0
"""Whether a record that came over a border counts: its own domain has logged it, with a key that counted there.

    checkpoint   signed by the home ledger, with the cosignatures that our trust policy for that domain asks for
    record       its entry is in that tree, as an event or an erasure, of this topic and these very bytes
    registry     the entry of a registry version is in that tree, before the record; we hold that version, verified
    signature    by a key that this version names for the issuer and does not revoke

**Only the issuer's home ledger decides whether a key counted**, by place and not by any clock: what was logged at home
before a revocation counts when it is delivered days later, and what a stolen key signs and sends straight to us has no
entry at home. The version is bound to its entry by its number, which its holders have signed; not by the file's hash,
since we are given an excerpt (`schemas.registry_trust.excerpt_of`) without the agencies that are not our business.

What times can say is asked too: a key counts nowhere in the span between when that version was issued and when the
checkpoint was cosigned, if it was activated behind that span or had expired before it.

Pure. Must never: ask another ledger than the issuer's, take a record without its proof, put a value into an error.
What remains: a home ledger that names an older registry entry than the last one before the record. Its own audit finds
that (`topics.audit_records`), and its witnesses keep it from showing two histories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from schemas.envelope import Record, parse_record
from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.home_proof import HomeProof, Proven, read_home_proof
from schemas.keys import VerifyKey
from schemas.ledgers import ledger_number
from schemas.notes import read_checkpoint_text, read_note
from schemas.registry import Registry
from schemas.trust_policy import Endorsed, TrustPolicy, endorse
from topics.ledger_entries import GOOD_KINDS, LedgerEntry, decode_entry
from topics.proofs import leaf_hash, verify_inclusion
from topics.verification import Verified

ROOT, POLICY, NEWEST, VERSIONS = "root", "ledger.policy", "registry.json", "registries"
"""Files about a domain: its root, whom to believe of its ledger, its newest registry, and a folder of all versions."""


@dataclass(frozen=True, slots=True)
class HomeTrust:
    """By what records of another domain are judged."""

    domain: str
    policy: TrustPolicy
    """Its ledger's keys, its witnesses, and how many of them must have signed."""
    version: Callable[[int], Registry | None]
    """Its registry of that version, verified; None: not here."""


@dataclass(frozen=True, slots=True)
class HomeVerified:
    """A record that counts at home."""

    verified: Verified
    ledger: int
    """Number of the home ledger among its domain's."""
    index: int
    """Of its entry there."""
    version: int
    """Of the registry in force there."""
    size: int
    """Of the tree whose checkpoint proves it."""
    cosigned_at: int | None
    """When the last of the witnesses signed that tree, seconds since the epoch; None where none was asked for."""


def check_home(value: bytes, topic: str, home: HomeProof, trust: HomeTrust) -> HomeVerified:
    """Check a record with its home proof.

    Args:
        value: the record.
        topic: into which it goes, or where it stands.

    Raises:
        RecordError: as `parse_record`; topic_mismatch, issuer_mismatch, signature_invalid, part_digest_mismatch.
        RegistryError: agency_unknown, key_unknown, key_revoked, of the issuer at home; registry_stale, path
            `home.registry`: that version is not here yet.
        LogError: log_unknown, signature_invalid, quorum_missing: the checkpoint is not believed; root_mismatch
            (`home.proof`, `home.registry`): the entry is not in its tree; record_unlogged (`home.proof`): the entry is
            another record's, or a refusal; log_inconsistent: what is proven is no entry of its kind.
    """
    record = parse_record(value)
    m = record.manifest
    if m.topic != topic:
        raise RecordError("topic_mismatch", "L1.topic")
    if m.iss.partition("/")[0] != trust.domain:
        raise RecordError("issuer_mismatch", "L1.iss")
    endorsed = believed(home.checkpoint, trust)
    logged = _included(home.record, endorsed, "home.proof")
    if logged.kind not in GOOD_KINDS or logged.topic != topic:
        raise LogError("record_unlogged", "home.proof")
    if (logged.value_sha256, logged.l1_sha256) != (hashlib.sha256(value).digest(), record.digest):
        raise LogError("record_unlogged", "home.proof")
    published = _included(home.registry, endorsed, "home.registry")
    if published.kind != "registry" or home.registry.index >= home.record.index:
        raise LogError("log_inconsistent", "home.registry")
    registry = trust.version(published.number)
    if registry is None:
        raise RegistryError("registry_stale", "home.registry")
    cosigned_at = max(endorsed.by.values(), default=None)
    record.verify(_key_then(registry, record, cosigned_at))
    record.verify_body()
    head = endorsed.signed.checkpoint
    verified = Verified(m, record.kid, record.digest)
    number = ledger_number(head.origin, trust.domain)
    return HomeVerified(verified, number, home.record.index, published.number, head.size, cosigned_at)


def believed(checkpoint: bytes, trust: HomeTrust) -> Endorsed:
    """A checkpoint of that domain's ledger, or of a later one that took its place, as far as the policy knows it.

    Raises:
        LogError: as `endorse`.
    """
    origin = read_checkpoint_text(read_note(checkpoint).text).origin
    if not ledger_number(origin, trust.domain):
        raise LogError("log_unknown", "checkpoint.origin")
    return endorse(checkpoint, trust.policy, origin)


Homes: TypeAlias = Callable[[str], HomeTrust]
"""Whom to believe of a domain. Raises RegistryError `agency_unknown`: it is no neighbour; others: it cannot be told."""


def judged_by_home(value: bytes, topic: str, home: bytes, homes: Homes) -> Verified | UmuhuzaError:
    """As `topics.verification.verify_logged`, by the proof that stands beside a record.

    Args:
        home: the header `umuhuza-home`.
    """
    try:
        proof = read_home_proof(home)
        issuer = parse_record(value).manifest.iss
        return home_verified(value, topic, proof, homes(issuer.partition("/")[0]))
    except UmuhuzaError as exc:
        return exc.with_traceback(None)


def home_verified(value: bytes, topic: str, home: HomeProof, trust: HomeTrust) -> Verified | UmuhuzaError:
    """As `topics.verification.verify_logged`, of a record that came over a border: the record, or why it does not
    count, without its traceback."""
    try:
        return check_home(value, topic, home, trust).verified
    except UmuhuzaError as exc:
        return exc.with_traceback(None)


def refuse_doubted(newest: Registry, found: HomeVerified) -> None:
    """Whether what is known by now casts doubt on it: a key called stolen from a place of the home ledger on. Asked
    where a record comes in, not of what stands in the log: that is for an audit to show.

    Raises:
        RegistryError: key_revoked.
    """
    owner = newest.agencies.get(found.verified.manifest.iss)
    for key in () if owner is None else owner.keys:
        if key.kid == found.verified.kid and key.stolen_at(found.index, found.ledger):
            raise RegistryError("key_revoked", "L1.header.kid")


def _included(proven: Proven, endorsed: Endorsed, where: str) -> LedgerEntry:
    head = endorsed.signed.checkpoint
    if not verify_inclusion(leaf_hash(proven.entry), proven.index, head.size, proven.path, head.root):
        raise LogError("root_mismatch", where)
    return decode_entry(proven.entry)


def _key_then(registry: Registry, record: Record, cosigned_at: int | None) -> VerifyKey:
    """The key, if it counted at some moment between the version's issue and the cosignature."""
    iss, kid = record.manifest.iss, record.kid
    for key in registry.agency(iss).keys:
        if key.kid == kid and key.use == "sig":
            begun = cosigned_at is None or key.activated <= cosigned_at
            if not begun or key.expires <= registry.issued or key.revoked is not None:
                raise RegistryError("key_revoked", "L1.header.kid")
            return VerifyKey(key.public)
    # For the code alone: unknown, or another agency's.
    return registry.signing_key(iss, kid, registry.issued)
