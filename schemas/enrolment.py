# SPDX-License-Identifier: Apache-2.0
"""What an agency sends to the registry holder: who it is and its public keys, as one line of JSON.

    {"v":1,"lost":false,"agency":{...as in the registry...}}

`lost`: the agency's earlier keys are lost, or somebody else may have them; they are to be revoked, and these take their
place. Who it is the registry knows then: names and roles of such a request do not count.

The words that are compared on the telephone are those of the bytes of this file (`schemas/spoken.py`): of every member
of it, not of the keys alone. White space at the ends does not count, so that a mail program may end the line in its
way. The file of `umuhuza agency init`, the agency alone over several lines, is read too.

Pure. Must never: hold anything private.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from schemas import ijson
from schemas.errors import Language, RegistryError
from schemas.registry import Agency, agency_from_json, agency_to_json
from schemas.spoken import fingerprint_words, require_same

MAX_BYTES = 256 * 1024
_ABOUT = "enrolment"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the registry holder, as it was read."""

    agency: Agency
    lost: bool
    _told: bytes

    def words(self, language: Language) -> tuple[str, ...]:
        """Twelve words to be read aloud."""
        return fingerprint_words(_ABOUT, self._told, language)

    def require_words(self, heard: str) -> None:
        """Raises RegistryError words_misheard, words_differ."""
        require_same(_ABOUT, self._told, heard)


def dumps_request(agency: Agency, *, lost: bool = False) -> str:
    """The request file."""
    members = {"v": 1, "lost": lost, "agency": agency_to_json(agency)}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_request(data: bytes) -> Request:
    """Raises RegistryError `registry_invalid`, with the path that is wrong."""
    told = data.strip()
    try:
        raw: Any = ijson.loads(told, max_bytes=MAX_BYTES, max_depth=6)
    except ijson.IJsonError as exc:
        raise RegistryError("registry_invalid", exc.path or "file") from None
    if not isinstance(raw, dict) or "agency" not in raw:
        return Request(agency_from_json(raw), False, told)
    if raw.keys() != {"v", "lost", "agency"} or type(raw["v"]) is not int or raw["v"] != 1:
        raise RegistryError("registry_invalid", "file")
    if type(raw["lost"]) is not bool:
        raise RegistryError("registry_invalid", "lost")
    return Request(agency_from_json(raw["agency"]), raw["lost"], told)
