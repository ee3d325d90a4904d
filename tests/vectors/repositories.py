# SPDX-License-Identifier: Apache-2.0
"""TUF repositories put together by hand, out of plain dicts: so that one can be wrong in any way that a cheat's can be.

Nothing of the product makes them but the keys' arithmetic. Hashes, lengths and signatures follow what was changed, so
that each vector is wrong in one thing alone; `after`, `files` and `packed` change what follows nothing any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.keys import VerifyKey, b64url, der_signature
from tests.domain import NOW, YEAR
from tests.vectors.making import SIGNERS, Payload

DAY = 86_400
Change = Callable[[Any], Any]
"""Takes the dict, changes it; what it returns, if anything, is put in its place."""
Files = dict[str, str]


def canonical(value: Any) -> str:
    """OLPC's canonical JSON, which TUF signs: sorted names, nothing escaped but the quote and the backslash."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value)


def key_of(name: str) -> Payload:
    public = SIGNERS[name].public
    return {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public.pem()}}


def key_id(name: str) -> str:
    return hashlib.sha256(canonical(key_of(name)).encode()).hexdigest()


def holder(name: str) -> Payload:
    return key_of(name) | {"x-umuhuza-holder": name}


def pem_of(public: VerifyKey) -> str:
    return public.pem()


def at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def described(text: str, version: int | None = None) -> Payload:
    data = text.encode()
    found: Payload = {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
    return found if version is None else found | {"version": version}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass
class Repository:
    """What goes into one registry file, valid unless something is changed."""

    agencies: Sequence[Any] = ()
    version: int = 7
    domain: str = "bi"
    training: bool = False
    holders: Sequence[str] = ("root-bi",)
    threshold: int = 1
    """Of root and targets."""
    signers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Who signs instead, by role (`root`, `root2`, `targets`, `snapshot`, `timestamp`)."""
    signed: Mapping[str, Change] = field(default_factory=dict)
    """Changes before signing, by role."""
    after: Mapping[str, Change] = field(default_factory=dict)
    """Changes of the signed metadata, by role: they take the signature's worth away."""
    second: Sequence[str] | None = None
    """Holders of a second root."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """More targets, by name, or others instead."""
    files: Change | None = None
    packed: Change | None = None
    roots: list[str] = field(init=False, default_factory=list)

    def text(self) -> str:
        """The file, one character per byte."""
        files = self._files()
        if self.files is not None:
            self.files(files)
        whole = compact({"v": 1, "files": dict(sorted(files.items()))})
        if self.packed is not None:
            whole = self.packed(whole)
        return whole.encode("utf-8").decode("latin-1")

    @property
    def pin(self) -> str:
        """Fingerprint of the first root."""
        if not self.roots:
            self._files()
        return b64url(hashlib.sha256(self.roots[0].encode()).digest())

    def _files(self) -> Files:
        self.roots = [self._metadata("root", self._root(1, self.holders), self.holders)]
        if self.second is not None:
            both = [*self.holders, *(name for name in self.second if name not in self.holders)]
            self.roots.append(self._metadata("root2", self._root(2, self.second), both))
        newest = self.holders if self.second is None else self.second
        contents = {}
        for agency in self.agencies:
            named = isinstance(agency, dict) and isinstance(agency.get("id"), str)
            name = agency["id"].partition("/")[2] if named else "iom"
            contents[f"agencies/{name}.json"] = agency if isinstance(agency, str) else compact(agency)
        contents |= self.targets
        listed = {name: described(text) for name, text in sorted(contents.items())}
        targets = self._metadata("targets", self._common("targets", 3, YEAR) | {"targets": listed}, newest)
        number = len(self.roots)
        metas = {"root.json": described(self.roots[-1], number), "targets.json": described(targets, 3)}
        snapshot = self._metadata(
            "snapshot", self._common("snapshot", self.version, 30 * DAY) | {"meta": metas}, newest[:1]
        )
        meta = {"snapshot.json": described(snapshot, self.version)}
        timestamp = self._metadata(
            "timestamp", self._common("timestamp", self.version, 30 * DAY) | {"meta": meta}, newest[:1]
        )
        files = {f"metadata/{n + 1}.root.json": text for n, text in enumerate(self.roots)}
        files["metadata/3.targets.json"] = targets
        files[f"metadata/{self.version}.snapshot.json"] = snapshot
        files["metadata/timestamp.json"] = timestamp
        for name, text in contents.items():
            folder, slash, file = name.rpartition("/")
            files[f"targets/{folder}{slash}{hashlib.sha256(text.encode()).hexdigest()}.{file}"] = text
        return files

    def _common(self, role: str, version: int, lifetime: int) -> Payload:
        return {"_type": role, "spec_version": "1.0.33", "version": version, "expires": at(NOW + lifetime)}

    def _root(self, version: int, holders: Sequence[str]) -> Payload:
        ids = [key_id(name) for name in holders]
        more = {"root": self.threshold, "targets": self.threshold}
        return self._common("root", version, 2 * YEAR) | {
            "consistent_snapshot": True,
            "keys": {key_id(name): holder(name) for name in holders},
            "roles": {
                role: {"keyids": ids, "threshold": more.get(role, 1)}
                for role in ("root", "targets", "snapshot", "timestamp")
            },
            "x-umuhuza-domain": self.domain,
            "x-umuhuza-training": self.training,
        }

    def _metadata(self, role: str, signed: Any, signers: Sequence[str]) -> str:
        if role in self.signed:
            signed = self.signed[role](signed) or signed
        message = canonical(signed).encode()
        who = self.signers.get(role, signers)
        signatures = [{"keyid": key_id(name), "sig": signature(name, message)} for name in who]
        metadata: Any = {"signatures": signatures, "signed": signed}
        if role in self.after:
            metadata = self.after[role](metadata) or metadata
        return metadata if isinstance(metadata, str) else compact(metadata)


def signature(name: str, message: bytes) -> str:
    return der_signature(SIGNERS[name].sign(message)).hex()


def put(*path: str | int, value: Any) -> Change:
    """A change that sets one member, wherever it is."""

    def change(document: Any) -> None:
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    """A change that takes one member away."""

    def change(document: Any) -> None:
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return change
