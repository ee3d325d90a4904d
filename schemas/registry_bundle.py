# SPDX-License-Identifier: Apache-2.0
"""A TUF repository as one file, so that it is replaced at once or not at all, and carried on a stick as it is.

    {"v":1,"files":{"metadata/1.root.json":"...","metadata/2.snapshot.json":"...", ...}}

The members of `files` are the files of a repository with consistent snapshots (TUF 1.0.33, section 6.2), each as the
text that it is; a web server or any TUF client can be given the same as a folder. There is one spelling: compact JSON,
names in order, nothing that the metadata do not call for, so that the file's SHA-256 says which registry it is.

Pure. Verifies nothing: `schemas/registry_trust.py` does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schemas import ijson
from schemas.errors import RegistryError
from schemas.keys import b64url, unb64url

MAX_REGISTRY_BYTES = 8 << 20
TIMESTAMP = "metadata/timestamp.json"
_PATH = re.compile(
    r"metadata/(?:timestamp|[1-9][0-9]{0,15}\.(?:root|snapshot|targets))\.json"
    r"|targets/(?:(?:agencies|agreements)/)?[0-9a-f]{64}\.[a-z0-9][a-z0-9-]{0,60}\.json"
)


@dataclass(frozen=True, slots=True)
class RootPin:
    """Which root a domain is trusted by: SHA-256 of one `N.root.json`, its signatures included.

    Told out of band (paper, telephone); any version of the chain will do, so that an installation made after a rotation
    may be given the newer one. Production and training have different roots, and so does every country.
    """

    digest: bytes

    @classmethod
    def of(cls, root: bytes) -> RootPin:
        return cls(hashlib.sha256(root).digest())

    @classmethod
    def read(cls, text: str) -> RootPin:
        """From 43 characters of base64url. Raises ValueError, without the text in it."""
        digest = unb64url(text)
        if len(digest) != 32:
            raise ValueError("not a fingerprint")
        return cls(digest)

    @property
    def text(self) -> str:
        """43 characters, for settings and paper."""
        return b64url(self.digest)

    @property
    def spoken(self) -> str:
        """The first 128 bits in groups of four hex digits, to be read aloud."""
        digits = self.digest.hex()
        return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


def root_path(version: int) -> str:
    return f"metadata/{version}.root.json"


def snapshot_path(version: int) -> str:
    return f"metadata/{version}.snapshot.json"


def targets_path(version: int) -> str:
    return f"metadata/{version}.targets.json"


def target_path(name: str, digest: str) -> str:
    """Where the target `agencies/iom.json` with this SHA-256 (hex) lies."""
    folder, slash, file = name.rpartition("/")
    return f"targets/{folder}{slash}{digest}.{file}"


def pack(files: Mapping[str, bytes]) -> bytes:
    """The one file.

    Raises:
        RegistryError: registry_invalid, when a member is not UTF-8 text.
    """
    try:
        texts = {path: files[path].decode("utf-8") for path in sorted(files)}
    except UnicodeDecodeError:
        raise RegistryError("registry_invalid", "file") from None
    return json.dumps({"v": 1, "files": texts}, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def unpack(data: bytes) -> Mapping[str, bytes]:
    """The repository's files by their paths, none of which leads anywhere else.

    Raises:
        RegistryError: registry_invalid, path `file`.
    """
    try:
        raw = ijson.loads(data, max_bytes=MAX_REGISTRY_BYTES, max_depth=2)
    except ijson.IJsonError:
        raise RegistryError("registry_invalid", "file") from None
    if not isinstance(raw, dict) or raw.keys() != {"v", "files"} or type(raw["v"]) is not int or raw["v"] != 1:
        raise RegistryError("registry_invalid", "file")
    if not isinstance(raw["files"], dict):
        raise RegistryError("registry_invalid", "file")
    files: dict[str, bytes] = {}
    for path, text in raw["files"].items():
        if _PATH.fullmatch(path) is None or not isinstance(text, str):
            raise RegistryError("registry_invalid", "file")
        files[path] = text.encode("utf-8")
    if pack(files) != data:
        raise RegistryError("registry_invalid", "file")
    return MappingProxyType(files)


def is_repository_path(path: str) -> bool:
    """Whether a file of a repository may be called so."""
    return _PATH.fullmatch(path) is not None
