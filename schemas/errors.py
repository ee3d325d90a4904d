# SPDX-License-Identifier: Apache-2.0
"""The one error tree: what can go wrong, under which code, and what a person can do about it.

    UmuhuzaError
    ├── RecordError     the bytes of a record, its signature, its parts or its grants
    ├── PayloadError    what is inside: FHIR, HTCDS, schema versions, safeguards
    ├── PolicyError     may not: roles, flows, consent, agreement, quota
    ├── OrderError      chains, threads, states, clocks
    ├── RegistryError   who: agencies, keys, registry files
    ├── KeyStoreError   one's own private keys: locked, damaged, on a device that is not there
    ├── AccessError     tokens
    ├── LogError        the log said no, or not now
    ├── SourceError     files and systems an agency's connector reads
    └── MailError       the mail server that an agency's notices go through

Rules that every raise obeys:
- `code` is one of `CODES`, stable for ever; programs decide by it, never by a message.
- `path` says *where* (`entry[2].resource.status`, `L1.parts[0].len`, `line 3, column E`); an unknown member is
  reported as `*`, because its name may be a person's name.
- No value of the input ever enters an error. A caller that chains (`raise ... from exc`) must not chain
  exceptions that print values (pydantic's, json's): use `from None`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, ClassVar, Literal

Language = Literal["fr", "en"]


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means. `retriable`: the same bytes may be accepted later, without a person's doing."""

    code: str
    retriable: bool
    title_en: str
    title_fr: str
    advice_en: str
    advice_fr: str

    def title(self, language: Language = "en") -> str:
        """What happened, one sentence without a full stop."""
        return self.title_fr if language == "fr" else self.title_en

    def advice(self, language: Language = "en") -> str:
        """What the person who reads it can do."""
        return self.advice_fr if language == "fr" else self.advice_en


_ROWS: list[dict[str, Any]] = json.loads(
    resources.files("schemas").joinpath("data", "errors.json").read_text(encoding="utf-8")
)

CODES: Mapping[str, Code] = MappingProxyType(
    {
        row["code"]: Code(
            row["code"],
            row["retriable"],
            row["title"]["en"],
            row["title"]["fr"],
            row["advice"]["en"],
            row["advice"]["fr"],
        )
        for row in _ROWS
    }
)
"""Every code, with its words (`data/errors.json`)."""


def _raised_as(kind: str) -> frozenset[str]:
    return frozenset(row["code"] for row in _ROWS if kind in row["raised_as"])


class UmuhuzaError(Exception):
    """A failure as a value: a code, where, and never what the input was.

    Args:
        code: one of this class's `codes`.
        path: where in the input; None where the whole input is meant.
        expected: a fact of ours that helps (a limit, an expected sequence number); never input.
    """

    codes: ClassVar[frozenset[str]] = frozenset()
    retry_after_s: float = 0.0
    """Seconds for which whoever answered wants not to be asked again; 0: it did not say."""

    def __init__(self, code: str, path: str | None = None, *, expected: str | int | None = None) -> None:
        if code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no such code")
        self.code = code
        self.path = path
        self.expected = expected
        super().__init__(self.describe("en"))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.path, self.expected))

    @property
    def meaning(self) -> Code:
        """Its row of `CODES`."""
        return CODES[self.code]

    @property
    def retriable(self) -> bool:
        """Whether the same bytes may be accepted later without a person's doing."""
        return self.meaning.retriable

    def advice(self, language: Language = "en") -> str:
        """What the person who reads it can do."""
        return self.meaning.advice(language)

    def describe(self, language: Language = "en") -> str:
        """One line for a person: title, where, what was expected."""
        line = f"{self.code}: {self.meaning.title(language)}"
        if self.path is not None:
            line += f" [{self.path}]"
        if self.expected is not None:
            line += f" ({'attendu :' if language == 'fr' else 'expected:'} {self.expected})"
        return line


def _rebuild(kind: type[UmuhuzaError], code: str, path: str | None, expected: str | int | None) -> UmuhuzaError:
    return kind(code, path, expected=expected)


class RecordError(UmuhuzaError):
    """The bytes of a record, its signature, its parts or its grants."""

    codes = _raised_as("RecordError")


class PayloadError(UmuhuzaError):
    """What is inside: FHIR, HTCDS, schema versions, safeguards. Found before sealing, and again after opening."""

    codes = _raised_as("PayloadError")


class PolicyError(UmuhuzaError):
    """May not: roles, flows, consent, agreement, quota."""

    codes = _raised_as("PolicyError")


class OrderError(UmuhuzaError):
    """Chains, threads, states, clocks: not now, not twice, or not in this order."""

    codes = _raised_as("OrderError")


class RegistryError(UmuhuzaError):
    """Who: agencies, keys, registry files. Retriable ones wait for a newer file."""

    codes = _raised_as("RegistryError")


class KeyStoreError(UmuhuzaError):
    """One's own private keys. Says nothing about any record: whoever meets it keeps what it was doing."""

    codes = _raised_as("KeyStoreError")


class AccessError(UmuhuzaError):
    """Tokens and requests to a gateway."""

    codes = _raised_as("AccessError")


class LogError(UmuhuzaError):
    """The log, the way to it, or a mailbox's own file said no, or not now."""

    codes = _raised_as("LogError")


class SourceError(UmuhuzaError):
    """Files and systems that an agency's connector reads: their author corrects them."""

    codes = _raised_as("SourceError")


class MailError(UmuhuzaError):
    """The mail server of an agency's notices. Only notices wait for it; work does not."""

    codes = _raised_as("MailError")
