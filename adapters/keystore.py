# SPDX-License-Identifier: Apache-2.0
"""An agency's private keys in one file of mode 0600; they never leave it.

The file is JSON: the ES256 scalar and the seeds of the sealing keys. An older sealing key stays beside the newer one
as long as records sealed to it may still have to be opened. Nothing here is ever printed or logged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas import ijson
from schemas.envelope import is_agency
from schemas.errors import RegistryError
from schemas.keys import SUITES, RandomBytes, SealingKey, SigningKey, Suite, b64url, unb64url
from schemas.registry import Agency, Key, Role

KEY_LIFETIME_S = 3 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Keys:
    """What an agency signs with and what it opens with."""

    agency: str
    sig: SigningKey
    seal: Mapping[str, SealingKey]
    """By kid, the newest last."""

    @classmethod
    def generate(cls, agency: str, random: RandomBytes, suite: Suite = "647a-0011-0002") -> Keys:
        sealing = SealingKey.generate(random, suite)
        return cls(agency, SigningKey.generate(random), {sealing.kid: sealing})

    def enrolment(self, names: Mapping[str, str], roles: tuple[Role, ...], protected: bool, now: int) -> Agency:
        """What the operator adds to the registry: public keys only."""
        expires = now + KEY_LIFETIME_S
        # An hour back: the registry holder's clock may be behind the agency's.
        keys = [Key(self.sig.kid, "sig", "ES256", self.sig.public.public, now - 3600, expires)]
        keys += [Key(kid, "seal", key.suite, key.public.public, now - 3600, expires) for kid, key in self.seal.items()]
        return Agency(self.agency, names, roles, tuple(keys), protected)


def write_private(path: Path, text: str) -> None:
    """A new file for this user only (0600), durable, whole or not at all.

    Raises:
        FileExistsError: something is there already; a private key is never overwritten.
    """
    # Half a key file would be in the way of the next attempt, so it is written under another name first.
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.link(fresh, path)  # unlike a rename, refuses when something is there
    finally:
        fresh.unlink()
    _sync_directory(path.parent)


def write_keys(path: Path, keys: Keys) -> None:
    """Durable and private (0600); refuses to overwrite.

    Raises:
        FileExistsError: keys are there already; overwriting them would make every record sealed to them unreadable.
    """
    document = {
        "v": 1,
        "agency": keys.agency,
        "sig": b64url(keys.sig.private_bytes()),
        "seal": [{"suite": key.suite, "seed": b64url(key.private_bytes())} for key in keys.seal.values()],
    }
    write_private(path, json.dumps(document))


def _sync_directory(path: Path) -> None:
    """A new name survives a power cut only once its directory is synced."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_keys(path: Path) -> Keys:
    """Raises RegistryError `registry_invalid` (path `keys`) when it is no key file, OSError as open does."""
    try:
        raw = ijson.loads(path.read_bytes(), max_bytes=64 * 1024, max_depth=4)
        if raw["v"] != 1 or not is_agency(raw["agency"]) or not raw["seal"]:
            raise ValueError("shape")
        seal = [SealingKey(_suite(item["suite"]), unb64url(item["seed"])) for item in raw["seal"]]
        scalar = unb64url(raw["sig"])
        if len(scalar) != 32:
            raise ValueError("length")
        return Keys(raw["agency"], SigningKey.from_scalar(scalar), {key.kid: key for key in seal})
    except (ijson.IJsonError, RegistryError, ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError("registry_invalid", "keys") from None


def _suite(text: str) -> Suite:
    for suite in SUITES:
        if suite == text:
            return suite
    raise ValueError("unknown suite")
