# SPDX-License-Identifier: Apache-2.0
"""What TUF's conformance suite asks of a client (github.com/theupdateframework/tuf-conformance), asked of our reader.

`CASES` names each of its cases and what answers it here: a golden vector, a test, or the reason why it does not apply.
The suite drives a client's program that downloads file after file; ours reads one file that holds all of them, and so
refuses the whole where another client would keep the half that it got. Where we are stricter, the reason is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Role, Snapshot, TargetFile, Targets, Timestamp

from schemas.errors import RegistryError
from schemas.keys import SigningKey
from schemas.registry_bundle import TIMESTAMP, RootPin, pack, root_path, snapshot_path, targets_path
from schemas.registry_metadata import Holder, read_root
from schemas.registry_signing import root_metadata, with_signature
from schemas.registry_trust import TrustedRegistry, trusted
from tests.domain import NOW, YEAR, seeded
from tests.schemas import test_registry_trust

SPEC = "1.0.33"
KEYS = {name: SigningKey.generate(seeded(f"conformance/{name}")) for name in "0123456789"}
ROLES = ("timestamp", "snapshot", "targets")
_FILE = Path(__file__).parents[1] / "vectors" / "registry.json"
VECTORS = frozenset(one["id"] for one in json.loads(_FILE.read_text(encoding="utf-8"))["vectors"])


def sign(metadata: Metadata[Any], names: str) -> bytes:
    data = metadata.to_bytes()
    for name in names:
        data = with_signature(metadata, KEYS[name], Holder("", KEYS[name].public).keyid)
    return data


def root(
    version: int,
    keys: str,
    threshold: int,
    signed: str,
    *,
    role: tuple[str, str, int] | None = None,
    until: int = NOW + YEAR,
) -> bytes:
    """A root version.

    Args:
        keys: who the holders are, a digit each; the same for every role.
        role: a role, other keys and another threshold for it.
    """
    every = sorted({*keys, *(role[1] if role else "")})
    data = root_metadata("bi", False, [Holder(f"h{n}", KEYS[n].public) for n in every], threshold, 1, version, NOW)
    metadata = read_root(data)[0]
    for one in metadata.signed.roles.values():
        one.keyids = _ids(keys)
    if role is not None:
        metadata.signed.roles[role[0]] = Role(_ids(role[1]), role[2])
    metadata.signed.expires = _at(until)
    return sign(metadata, signed)


def registry(
    roots: Sequence[bytes],
    signed: str | Mapping[str, str],
    versions: Mapping[str, int] | None = None,
    until: Mapping[str, int] | None = None,
) -> bytes:
    """One registry file over these roots.

    Args:
        signed: who signs targets, snapshot and timestamp; by role, or all of them the same.
        versions: by role, else 1.
        until: when it expires, by role, else in a year.
    """
    by = dict.fromkeys(ROLES, signed) if isinstance(signed, str) else signed
    number = dict.fromkeys(ROLES, 1) | dict(versions or {})
    ends = {role: _at((until or {}).get(role, NOW + YEAR)) for role in ROLES}
    none: dict[str, TargetFile] = {}
    targets = sign(Metadata(Targets(number["targets"], SPEC, ends["targets"], none)), by["targets"])
    metas = {"root.json": _meta(len(roots), roots[-1]), "targets.json": _meta(number["targets"], targets)}
    snapshot = sign(Metadata(Snapshot(number["snapshot"], SPEC, ends["snapshot"], metas)), by["snapshot"])
    stamp = Timestamp(number["timestamp"], SPEC, ends["timestamp"], _meta(number["snapshot"], snapshot))
    files = {root_path(n + 1): data for n, data in enumerate(roots)}
    files |= {targets_path(number["targets"]): targets, snapshot_path(number["snapshot"]): snapshot}
    return pack(files | {TIMESTAMP: sign(Metadata(stamp), by["timestamp"])})


def _ids(names: str) -> list[str]:
    return [Holder("", KEYS[name].public).keyid for name in names]


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def refused(data: bytes, pin: RootPin, held: TrustedRegistry | None = None) -> tuple[str, str | None]:
    with pytest.raises(RegistryError) as caught:
        trusted(data, pin, held)
    return caught.value.code, caught.value.path


# ---------------------------------------------------------------------------------------------------------------------
# Rotation

ROTATIONS: dict[str, tuple[tuple[tuple[str, int, str], ...], bool]] = {
    "1-of-1-key-rotation": ((("1", 1, "1"), ("2", 1, "21"), ("2", 1, "2")), True),
    "1-of-1-key-rotation-unused-signatures": ((("1", 1, "314"), ("2", 1, "3214"), ("2", 1, "324")), True),
    "3-of-5-sign-with-different-keycombos": (
        (("01234", 3, "024"), ("01234", 3, "041"), ("01234", 3, "013"), ("01234", 3, "013")),
        True,
    ),
    "3-of-5-one-key-rotated": ((("01234", 3, "024"), ("01345", 3, "041")), True),
    "3-of-5-one-key-rotated-with-intermediate-step": (
        (("01234", 3, "024"), ("01345", 3, "0245"), ("01345", 3, "045")),
        True,
    ),
    "3-of-5-all-keys-rotated-with-intermediate-step": (
        (("01234", 3, "024"), ("56789", 3, "024567"), ("56789", 3, "567")),
        True,
    ),
    "1-of-3-threshold-increase-to-2-of-3": ((("123", 1, "1"), ("123", 2, "12")), True),
    "2-of-3-threshold-decrease-to-1-of-3": ((("123", 2, "12"), ("123", 1, "12"), ("123", 1, "1")), True),
    "1-of-2-threshold-increase-to-2-of-2": ((("1", 1, "1"), ("12", 2, "12")), True),
    "1-of-1-key-rotation-fail-not-signed-with-old-key": ((("1", 1, "1"), ("2", 1, "234")), False),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": ((("1", 1, "1"), ("2", 1, "134")), False),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys": ((("01234", 3, "024"), ("01345", 3, "024")), False),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys": ((("01234", 3, "024"), ("01345", 3, "045")), False),
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": ((("123", 1, "1"), ("123", 2, "2")), False),
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached": ((("123", 2, "12"), ("123", 1, "1")), False),
}
"""By the suite's names: roots as (holders, threshold, who signed), and whether the last one is to be followed."""


@pytest.mark.parametrize("case", ROTATIONS)
def test_a_root_is_followed_iff_enough_holders_of_it_and_of_the_one_before_have_signed_it(case: str) -> None:
    chain, good = ROTATIONS[case]
    roots = [root(n + 1, *one) for n, one in enumerate(chain)]
    pin = RootPin.of(roots[0])
    data = registry(roots, chain[-1][0][0])
    if good:
        found = trusted(data, pin)
        assert (found.versions["root"], found.root) == (len(roots), roots[-1])
    else:
        assert refused(data, pin) == ("registry_threshold", f"root[{len(roots)}].signatures")


OTHER_ROLES: dict[str, tuple[str, int, str, bool]] = {
    "1-of-1-key-rotation": ("2", 1, "2", True),
    "1-of-1-key-rotation-unused-signatures": ("1", 1, "314", True),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": ("2", 1, "134", False),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": ("01345", 3, "024", False),
    "2-of-5-one-key-signature-mising-threshold-not-reached": ("01345", 3, "04", False),
    "3-of-5-sign-first-combo": ("01234", 3, "024", True),
    "3-of-5-sign-second-combo": ("01234", 3, "041", True),
    "3-of-5-sign-third-combo": ("01234", 3, "013", True),
    "3-of-5-sign-fourth-combo": ("01234", 3, "123", True),
    "3-of-5-sign-fifth-combo": ("01234", 3, "234", True),
}
"""By the suite's names: (keys of the role in the second root, threshold, who signed, good)."""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", OTHER_ROLES)
def test_the_newest_root_says_who_signs_each_other_role(case: str, role: str) -> None:
    keys, threshold, signed, good = OTHER_ROLES[case]
    roots = [root(1, "9", 1, "9"), root(2, "9", 1, "9", role=(role, keys, threshold))]
    held = trusted(registry(roots[:1], "9"), RootPin.of(roots[0]))
    data = registry(roots, {one: signed if one == role else "9" for one in ROLES}, dict.fromkeys(ROLES, 2))
    if good:
        assert trusted(data, RootPin.of(roots[0]), held).versions[role] == 2
    else:
        assert refused(data, RootPin.of(roots[0]), held) == ("registry_threshold", f"{role}.signatures")


# ---------------------------------------------------------------------------------------------------------------------
# Rollback, and how to recover from somebody who counted ahead


@pytest.mark.parametrize("role", ROLES)
def test_no_role_goes_back_and_a_rotation_of_its_keys_lets_it_begin_again(role: str) -> None:
    roots = [root(1, "12", 1, "1"), root(2, "23", 1, "12")]
    pin = RootPin.of(roots[0])
    ahead = trusted(registry(roots[:1], "1", {role: 100}), pin)
    lower = dict.fromkeys(ROLES, 2)
    assert refused(registry(roots[:1], "1", lower), pin, ahead) == ("registry_rollback", f"{role}.version")
    recovered = trusted(registry(roots, "3", lower), pin, ahead)
    assert recovered.versions == {"root": 2, **lower}


def test_other_bytes_under_the_version_that_is_held_are_another_history() -> None:
    only = root(1, "1", 1, "1")
    held = trusted(registry([only], "1"), RootPin.of(only))
    changed = registry([only], "1", until={"timestamp": NOW + YEAR - 1})
    assert refused(changed, RootPin.of(only), held) == ("registry_rollback", "timestamp.version")


# ---------------------------------------------------------------------------------------------------------------------
# Expiry


def test_a_root_that_has_expired_is_still_the_way_to_the_next_one() -> None:
    roots = [root(1, "1", 1, "1", until=NOW - 9), root(2, "2", 1, "12", until=NOW - 1), root(3, "2", 1, "2")]
    found = trusted(registry(roots, "2"), RootPin.of(roots[0]))
    found.require_fresh(NOW)
    ended = trusted(registry(roots[:2], "2"), RootPin.of(roots[0]))
    assert ended.versions["root"] == 2
    with pytest.raises(RegistryError) as caught:
        ended.require_fresh(NOW)
    assert (caught.value.code, caught.value.path) == ("registry_stale", "root")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_has_expired_stops_a_new_reader_and_new_requests_and_is_followed_by_who_held_one(role: str) -> None:
    only = root(1, "1", 1, "1")
    pin = RootPin.of(only)
    held = trusted(registry([only], "1"), pin)
    expired = trusted(registry([only], "1", dict.fromkeys(ROLES, 2), {role: NOW - 5}), pin, held)
    assert expired.versions[role] == 2
    assert expired.fresh_until < NOW
    with pytest.raises(RegistryError) as caught:
        expired.require_fresh(NOW)
    assert (caught.value.code, caught.value.path) == ("registry_stale", role)
    # What was held has expired by then, and is a good beginning all the same.
    newest = trusted(registry([only], "1", dict.fromkeys(ROLES, 3)), pin, expired)
    newest.require_fresh(NOW)


# ---------------------------------------------------------------------------------------------------------------------
# The suite's cases

_ROTATES = "test_a_root_is_followed_iff_enough_holders_of_it_and_of_the_one_before_have_signed_it"
_NAMES = "test_the_newest_root_says_who_signs_each_other_role"
_BACK = "test_no_role_goes_back_and_a_rotation_of_its_keys_lets_it_begin_again"
_HISTORY = "test_other_bytes_under_the_version_that_is_held_are_another_history"
_EXPIRED = "test_a_role_that_has_expired_stops_a_new_reader_and_new_requests_and_is_followed_by_who_held_one"
_EXPIRED_ROOT = "test_a_root_that_has_expired_is_still_the_way_to_the_next_one"
_FOLLOWS = "test_a_reader_follows_members_renewals_and_rotations_from_the_root_it_was_told"
_NO_DELEGATIONS = "no delegations: a reader refuses them"

CASES: dict[str, tuple[str, ...]] = {
    # test_basic
    "basic_init_and_refresh": (_FOLLOWS, "registry-ok"),
    "implicit_refresh": ("nothing is downloaded: all files are in one",),
    "invalid_initial_root": ("registry-root-version-0", "registry-root-unknown"),
    "unsigned_initial_root": ("registry-root-unsigned", "registry-root-signature", "registry-root-foreign"),
    "timestamp_content_changes": (_HISTORY,),
    "timestamp_eq_versions_check": (_HISTORY, "test_two_registries_of_one_version_are_two_histories"),
    "new_targets_hash_mismatch": ("registry-mixed-targets", "registry-targets-changed"),
    "new_targets_version_mismatch": ("registry-targets-version",),
    "custom_fields": (
        "registry-root-unknown",
        "stricter: an unknown member is refused, not carried along",
    ),
    # test_expiration
    "root_expired": (_EXPIRED_ROOT,),
    "timestamp_expired": (_EXPIRED, "looser: who held one takes a newer one though expired: a revocation may be in it"),
    "snapshot_expired": (_EXPIRED,),
    "targets_expired": (_EXPIRED,),
    "expired_metadata": (_EXPIRED,),
    # test_keys
    "root_has_keys_but_not_snapshot": (_NAMES,),
    "snapshot_threshold": ("registry-root-threshold-3", "stricter: a threshold that nobody can reach is no root"),
    "duplicate_keys_root": ("registry-root-key-twice", "registry-root-holder-twice", "registry-signature-twice"),
    "wrong_hashing_algorithm": (
        "registry-root-unknown",
        "stricter: keyid_hash_algorithms is an unknown member",
    ),
    # test_rollback
    "simple_snapshot_rollback": ("registry-mixed-snapshot", "registry-snapshot-older-beside"),
    "new_timestamp_version_rollback": (_BACK, "test_a_registry_older_than_the_one_held_is_a_rollback"),
    "snapshot_rollback": (_BACK,),
    "targets_rollback": (_BACK, "test_targets_of_before_a_revocation_do_not_come_back_under_a_newer_timestamp"),
    "new_snapshot_version_mismatch": ("registry-snapshot-version",),
    "new_timestamp_fast_forward_recovery": (_BACK, "test_a_thief_who_counted_to_the_end_is_left_behind_by_a_rotation"),
    "new_snapshot_fast_forward_recovery": (_BACK,),
    "new_targets_fast_forward_recovery": (
        _BACK,
        "stricter: the targets' own keys are rotated, not the snapshot's; a holder has one key for all four roles",
    ),
    # test_updater_key_rotations
    "root_rotation": (_ROTATES,),
    "non_root_rotations": (_NAMES,),
    # test_file_download: a target is read as its hash and length say
    "client_downloads_expected_file": ("registry-ok",),
    "client_downloads_expected_file_in_sub_dir": ("registry-ok", "registry-target-folder"),
    "repository_substitutes_target_file": ("registry-target-changed", "registry-target-hash"),
    "multiple_changes_to_target": (_FOLLOWS, "registry-target-changed"),
    # The others
    "test_quoting_issues": ("registry-target-uppercase", "names of roles and targets are closed: nothing is quoted"),
    "test_static_repositories": ("repositories of others, with keys and delegations that ours do not have",),
    "test_delegated_expiration": ("registry-targets-delegations", _NO_DELEGATIONS),
    "test_updater_delegation_graphs": ("registry-targets-delegations", _NO_DELEGATIONS),
}
"""Case of the suite -> vectors, tests, or (a sentence) why it is otherwise here."""


@pytest.mark.parametrize("case", CASES)
def test_each_case_of_the_suite_has_its_answer(case: str) -> None:
    here = {**globals(), **vars(test_registry_trust)}
    for answer in CASES[case]:
        if answer.startswith("test_"):
            assert callable(here[answer])
        elif " " not in answer:
            assert answer in VECTORS
    assert CASES[case]
