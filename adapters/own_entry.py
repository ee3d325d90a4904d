# SPDX-License-Identifier: Apache-2.0
"""Whether the registry says of this agency what this agency knows: a key in its entry that it did not make is an alarm.

Whoever could put a key of theirs into an agency's entry would read what is sent to it, and could write in its name. The
holders' signatures do not tell that from an honest change; the agency itself does, and nobody else can.

Which keys it made is remembered beside the mailbox (`own-keys.json`, ids only), so that an older key, no longer in the
key store, is not taken for a foreign one. So is which of them were revoked: whoever stole such a key and has its
revocation taken back (no honest holder ever does) is found out like one with a key of their own. If we crash before it
is written, it is written at the next start or the next look.
The same is asked of our registry as other domains hold it (`topics.neighbours`): a version that was shown to them alone
would have what they send to us sealed to a stranger. What they hold may be older than ours, so that only keys that we
never made count there.
While there is a foreign key nothing is sent: the same hand may have changed the entries of others. What arrives is
read, receipts wait; and everybody is told, so that nobody seals to the stranger (`adapters/held_back.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from adapters.keystore import Keys
from schemas import ijson
from schemas.errors import RegistryError
from schemas.keys import Signer
from schemas.objections import sign_objection
from schemas.registry import Agency, Key, Registry
from topics.durable_file import replace_file

FILE_NAME = "own-keys.json"
_MAX_BYTES = 64 * 1024


def foreign_keys(entry: Agency, made: frozenset[str], now: int) -> tuple[Key, ...]:
    """The keys of an agency's entry that count now and that it did not make; those of other uses are others' to make,
    and no record is signed or opened with them."""
    return tuple(key for key in entry.keys if key.use in ("sig", "seal") and key.kid not in made and key.counts_at(now))


def kids_of(keys: Keys) -> frozenset[str]:
    """The ids of the keys in a key store."""
    return frozenset((keys.sig.kid, *keys.seal))


class OwnEntry:
    """One agency's watch over its entry. Looks again whenever there is another registry.

    Raises:
        RegistryError: registry_invalid (path `own-keys`), when what is remembered cannot be read: it is not guessed
            anew, since a foreign key might then be taken for our own.
    """

    def __init__(
        self,
        file: Path,
        keys: Keys,
        registry: Callable[[], Registry],
        now: Callable[[], float],
        abroad: Callable[[], Mapping[str, Registry]] = dict,
    ) -> None:
        """`abroad`: domain -> our domain's registry as that one holds it."""
        self._agency = keys.agency
        self._abroad = abroad
        self._registry = registry
        self._now = now
        self._file = file
        remembered, self._revoked = _read(file)
        self._made = remembered | kids_of(keys)
        if self._made != remembered:
            _write(file, self._made, self._revoked)

    def foreign(self) -> tuple[Key, ...]:
        """Keys that count and that we did not make, or that were revoked before; () where we are not a member yet."""
        entry = self._registry().agencies.get(self._agency)
        if entry is None:
            return ()
        revoked = self._revoked | {key.kid for key in entry.keys if key.revoked is not None and key.kid in self._made}
        if revoked != self._revoked:
            _write(self._file, self._made, revoked)
            self._revoked = revoked
        return foreign_keys(entry, self._made - self._revoked, int(self._now()))

    def foreign_abroad(self) -> tuple[tuple[str, Key], ...]:
        """Domain that holds it, and a key that we never made, in our entry as that domain has it."""
        now = int(self._now())
        entries = [(domain, one.agencies.get(self._agency)) for domain, one in sorted(self._abroad().items())]
        return tuple(
            (domain, key)
            for domain, entry in entries
            if entry is not None
            for key in foreign_keys(entry, self._made, now)
        )

    def objection(self, key: Signer) -> bytes | None:
        """What to tell the domain, signed; None when all is as we know it."""
        kids = {one.kid for one in (*self.foreign(), *(one for _, one in self.foreign_abroad()))}
        return sign_objection(self._agency, kids, int(self._now()), key) if kids else None

    def require_ours(self) -> None:
        """Before anything is sent. Raises RegistryError `registry_key_foreign`, with the use of the first such key."""
        for key in self.foreign():
            raise RegistryError("registry_key_foreign", f"agency.keys.{key.use}")
        for domain, key in self.foreign_abroad():
            raise RegistryError("registry_key_foreign", f"neighbours.{domain}.agency.keys.{key.use}")


def _read(file: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Keys that were made, and those of them that were revoked."""
    if not file.exists():
        return frozenset(), frozenset()
    try:
        raw = ijson.loads(file.read_bytes(), max_bytes=_MAX_BYTES, max_depth=3)
    except (OSError, ijson.IJsonError):
        raise RegistryError("registry_invalid", "own-keys") from None
    if not isinstance(raw, dict) or raw.keys() - {"revoked"} != {"v", "kids"} or raw["v"] != 1:
        raise RegistryError("registry_invalid", "own-keys")
    made, revoked = raw["kids"], raw.get("revoked", [])
    for kids in (made, revoked):
        if not isinstance(kids, list) or not all(isinstance(kid, str) for kid in kids):
            raise RegistryError("registry_invalid", "own-keys")
    return frozenset(made), frozenset(revoked)


def _write(file: Path, made: frozenset[str], revoked: frozenset[str]) -> None:
    told = {"v": 1, "kids": sorted(made), **({"revoked": sorted(revoked)} if revoked else {})}
    replace_file(file, json.dumps(told).encode("ascii"))
