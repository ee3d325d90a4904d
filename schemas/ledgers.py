# SPDX-License-Identifier: Apache-2.0
"""A domain's ledgers, one after the other, as its registry announces them: the target `ledgers.json`.

    {"ledgers": [
      {"origin": "bi.umuhuza/log",  "keys": [<vkey>, ...], "since": 1790000000,
       "last": {"size": 4711, "root": <base64url>}},
      {"origin": "bi.umuhuza/log2", "keys": [<vkey>, ...], "since": 1793000000}]}

A ledger that was lost is followed by another under a name of its own: `bi.umuhuza/log2`, `bi.umuhuza/log3`. The last in
the list is the one that counts now; those before it are lost, and `last` is the largest tree of theirs that enough
witnesses are known to have signed. A size of a tree, `compromised_since` of a key for instance, says nothing about
another ledger's tree: all of a later tree is later.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import LogError, RegistryError
from schemas.keys import b64url, unb64url
from schemas.notes import HASH_BYTES, MAX_SIZE, NoteKey, SignatureType, read_vkey

MAX_LEDGERS = 32
MAX_KEYS = 4
"""Of one ledger."""
LEDGERS_TARGET = "ledgers.json"
_NAME = re.compile(r"([a-z]{2})\.umuhuza/log([2-9]|[1-9][0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class LastTree:
    """The largest tree of a lost ledger that enough witnesses are known to have signed."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class AnnouncedLedger:
    """One of a domain's ledgers."""

    origin: str
    keys: tuple[NoteKey, ...]
    """With which it signs."""
    since: int
    """When its domain announced it, seconds since the epoch."""
    last: LastTree | None = None
    """Of a lost one, where it is known."""

    @property
    def number(self) -> int:
        """The first is 1."""
        return number_in(self.origin)


def origin_of(domain: str, number: int = 1) -> str:
    """The ledger's name, as its checkpoints have it: `bi.umuhuza/log`, `bi.umuhuza/log2`."""
    return f"{domain}.umuhuza/log{'' if number == 1 else number}"


def ledger_number(origin: str, domain: str) -> int:
    """Which of a domain's ledgers has this name: 1, 2, ...; 0: none of them."""
    return number_in(origin) if domain_in(origin) == domain else 0


def number_in(origin: str) -> int:
    """Which of its domain's ledgers, whatever domain that is; 0: no ledger has this name."""
    found = _NAME.fullmatch(origin)
    return 0 if found is None else int(found[2] or 1)


def domain_in(origin: str) -> str:
    """Whose ledger has this name; "": no ledger has it."""
    found = _NAME.fullmatch(origin)
    return "" if found is None else found[1]


def ledgers_to_json(ledgers: Sequence[AnnouncedLedger]) -> dict[str, Any]:
    """As the target has them."""
    return {
        "ledgers": [
            {
                "origin": one.origin,
                "keys": [key.vkey for key in one.keys],
                "since": one.since,
                **({} if one.last is None else {"last": {"size": one.last.size, "root": b64url(one.last.root)}}),
            }
            for one in ledgers
        ]
    }


def ledgers_from_json(raw: Any, domain: str, path: str = "ledgers") -> tuple[AnnouncedLedger, ...]:
    """Read what `ledgers_to_json` wrote.

    Raises:
        RegistryError: registry_invalid, with the member that is wrong (`ledgers[1].keys[0]`).
    """
    if not isinstance(raw, dict) or raw.keys() != {"ledgers"} or not isinstance(raw["ledgers"], list):
        raise RegistryError("registry_invalid", path)
    if not 0 < len(raw["ledgers"]) <= MAX_LEDGERS:
        raise RegistryError("registry_invalid", path)
    found: list[AnnouncedLedger] = []
    for number, item in enumerate(raw["ledgers"]):
        one = _ledger(item, domain, f"{path}[{number}]")
        before = found[-1] if found else None
        if before is not None and one.number <= before.number:
            raise RegistryError("registry_invalid", f"{path}[{number}].origin")
        if before is not None and one.since < before.since:
            raise RegistryError("registry_invalid", f"{path}[{number}].since")
        known = {key.public for other in found for key in other.keys}
        if any(key.public in known for key in one.keys):  # whoever stole the machine has the lost ledger's keys
            raise RegistryError("registry_invalid", f"{path}[{number}].keys")
        found.append(one)
    if found[-1].last is not None:  # it is not lost
        raise RegistryError("registry_invalid", f"{path}[{len(found) - 1}].last")
    return tuple(found)


def _ledger(raw: Any, domain: str, path: str) -> AnnouncedLedger:
    if not isinstance(raw, dict) or raw.keys() - {"last"} != {"origin", "keys", "since"}:
        raise RegistryError("registry_invalid", f"{path}.*")
    origin, keys, since = raw["origin"], raw["keys"], raw["since"]
    if not isinstance(origin, str) or not ledger_number(origin, domain):
        raise RegistryError("registry_invalid", f"{path}.origin")
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS:
        raise RegistryError("registry_invalid", f"{path}.keys")
    read = tuple(_key(text, origin, f"{path}.keys[{index}]") for index, text in enumerate(keys))
    if len({key.public for key in read}) != len(read):
        raise RegistryError("registry_invalid", f"{path}.keys")
    if type(since) is not int or since < 1:
        raise RegistryError("registry_invalid", f"{path}.since")
    return AnnouncedLedger(origin, read, since, _last(raw["last"], f"{path}.last") if "last" in raw else None)


def _key(text: Any, origin: str, path: str) -> NoteKey:
    """A ledger's key: Ed25519 or ML-DSA-44, under the ledger's own name."""
    wrong = RegistryError("registry_invalid", path)
    try:
        key = read_vkey(text if isinstance(text, str) else "")
    except LogError:
        raise wrong from None
    if key.name != origin or key.kind not in (SignatureType.ED25519, SignatureType.ML_DSA_44):
        raise wrong
    return key


def _last(raw: Any, path: str) -> LastTree:
    if not isinstance(raw, dict) or raw.keys() != {"size", "root"}:
        raise RegistryError("registry_invalid", path)
    if type(raw["size"]) is not int or not 0 < raw["size"] <= MAX_SIZE:
        raise RegistryError("registry_invalid", f"{path}.size")
    try:
        root = unb64url(raw["root"] if isinstance(raw["root"], str) else "?")
    except ValueError:
        raise RegistryError("registry_invalid", f"{path}.root") from None
    if len(root) != HASH_BYTES:
        raise RegistryError("registry_invalid", f"{path}.root")
    return LastTree(raw["size"], root)
