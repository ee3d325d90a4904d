# SPDX-License-Identifier: Apache-2.0
"""Refusals as RFC 9457 problem details: one table from our codes to HTTP statuses, complete by test.

Programs decide by `code`, people read `title` and `advice` in their language, statuses are for what stands between
(proxies, generic clients). A problem holds a code, a place and facts of ours; never a value of what was sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from schemas.errors import Language, UmuhuzaError

PROBLEM_JSON = "application/problem+json"

_BY_STATUS: Mapping[int, tuple[str, ...]] = {
    400: (
        "record_malformed",
        "header_forbidden",
        "version_unsupported",
        "topic_mismatch",
        "key_mismatch",
        "header_mismatch",
        "request_invalid",
        "note_malformed",
        "bundle_damaged",
        "bundle_malformed",
        "bundle_misplaced",
    ),
    401: ("token_invalid", "token_expired", "audience_mismatch"),
    403: (
        "issuer_mismatch",
        "signature_invalid",
        "not_permitted",
        "agreement_missing",
        "training_record",
        "agency_unknown",
        "key_unknown",
        "key_revoked",
        "registry_key_foreign",
    ),
    404: ("topic_unknown", "thread_unknown", "record_missing", "log_unknown"),
    409: (
        "evt_conflict",
        "duplicate",
        "seq_gap",
        "chain_broken",
        "late_acceptance",
        "transition_invalid",
        "command_needed",
    ),
    410: ("retention_passed",),
    413: ("too_large",),
    422: (
        "part_digest_mismatch",
        "part_unopenable",
        "grant_missing",
        "grant_unopenable",
        "key_commitment_mismatch",
        "payload_invalid",
        "safeguard_missing",
        "risk_extreme",
        "attachment_type",
        "attachment_incomplete",
        "consent_missing",
        "consent_withdrawn",
        "consent_expired",
        "clock_ahead",
        "source_unreadable",
        "folder_unusable",
        "row_invalid",
        "words_misheard",
        "words_differ",
        "protocol_unsigned",
        "protocol_changed",
        "protocol_ended",
        "bundle_unopenable",
    ),
    429: ("quota_exceeded",),
    500: (
        "registry_invalid",
        "passphrase_missing",
        "passphrase_wrong",
        "passphrase_weak",
        "keys_damaged",
        "key_device_pin_wrong",
        "key_device_locked",
        "key_device_failed",
        "mail_insecure",
        "mail_login_refused",
        "mail_refused",
        "registry_root_unknown",
        "registry_threshold",
        "registry_rollback",
        "log_inconsistent",
        "root_mismatch",
        "record_rewritten",
        "record_unlogged",
    ),
    503: (
        "unavailable",
        "log_closed",
        "registry_stale",
        "registry_expiring",
        "recipient_disputed",
        "policy_differs",
        "ledger_behind",
        "ledger_differs",
        "quorum_missing",
        "key_device_absent",
        "erasure_pending",
        "mail_unreachable",
    ),
    507: ("storage_full",),
}

STATUS: Mapping[str, int] = MappingProxyType({code: status for status, codes in _BY_STATUS.items() for code in codes})
"""The HTTP status of every code."""
WAITS = frozenset((429, 503, 507))
"""Statuses that say when to ask again (RFC 9110 section 10.2.3), in the header and in the problem."""
_PATIENCE_S = 5.0


def status_of(error: UmuhuzaError) -> int:
    return STATUS[error.code]


def problem(error: UmuhuzaError, language: Language = "en") -> dict[str, Any]:
    """The problem object; `path`, `expected` and `retry_after` (seconds) only where there are any."""
    meaning = error.meaning
    body: dict[str, Any] = {
        "type": f"urn:umuhuza:problem:{error.code}",
        "title": meaning.title(language),
        "status": STATUS[error.code],
        "code": error.code,
        "retriable": meaning.retriable,
        "advice": meaning.advice(language),
    }
    if error.path is not None:
        body["path"] = error.path
    if error.expected is not None:
        body["expected"] = error.expected
    if STATUS[error.code] in WAITS:
        body["retry_after"] = retry_after(error)
    return body


def retry_after(error: UmuhuzaError) -> int:
    """Seconds, for one of `WAITS`: what the error says of itself, else a little."""
    return max(1, math.ceil(error.retry_after_s or _PATIENCE_S))


def language_of(accept: str) -> Language:
    """French or English from an Accept-Language header (RFC 9110 section 12.5.4); English when neither is asked for."""
    best: tuple[float, Language] = (0.0, "en")
    for item in accept.split(","):
        tag, _, weight = item.strip().partition(";")
        name = tag.strip().lower().partition("-")[0]
        quality = _quality(weight)
        if name == "fr" and quality > best[0]:
            best = (quality, "fr")
        elif name in ("en", "*") and quality > best[0]:
            best = (quality, "en")
    return best[1]


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
