# SPDX-License-Identifier: Apache-2.0
"""The golden vectors: our reader says exactly what each of them states, and nothing of what it read."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Record, parse_record
from schemas.errors import UmuhuzaError
from schemas.keys import SealingKey, VerifyKey, b64url, unb64url
from schemas.registry import registry_from_json, registry_to_json
from schemas.registry_bundle import RootPin
from schemas.registry_trust import trusted
from schemas.sealing import open_grant, open_parts
from tests.vectors import generate
from tests.vectors.making import joined, keys_file
from topics.promise import verify_evidence

VECTORS = Path(generate.__file__).parent
Vector = dict[str, Any]


def _load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="ascii"))
    return found


KEYS = _load("keys.json")
SIGNING = {name: VerifyKey(unb64url(key["pub"])) for name, key in KEYS["signing"].items()}
SEALING = {name: SealingKey(key["suite"], unb64url(key["seed"])) for name, key in KEYS["sealing"].items()}
RECORDS = [*_load("records.json")["vectors"], *_load("bodies.json")["vectors"]]
GRANTS = _load("grants.json")
REGISTRY = _load("registry.json")["vectors"]
EVIDENCE = _load("evidence.json")["vectors"]
EVERY = [*RECORDS, *GRANTS["vectors"], *REGISTRY, *EVIDENCE]


def _bytes(vector: Vector) -> bytes:
    return joined(vector["input"]).encode("latin-1")


def _ids(vectors: list[Vector]) -> list[str]:
    return [vector["id"] for vector in vectors]


def _refused(vector: Vector, read: Callable[[Vector], object]) -> None:
    with pytest.raises(UmuhuzaError) as caught:
        read(vector)
    error = caught.value
    assert (error.code, error.path) == (vector["result"], vector["path"])
    told = "".join(traceback.format_exception(error)) + repr(error) + error.describe("fr") + repr(error.__reduce__())
    for value in vector.get("planted", ()):
        assert value not in told


def _read(vector: Vector) -> tuple[Record, dict[str, bytes]]:
    record = parse_record(_bytes(vector))
    record.verify(SIGNING[vector["key"]])
    record.verify_body()
    return record, open_parts(record, {name: unb64url(key) for name, key in vector.get("keys", {}).items()})


def _open(vector: Vector) -> dict[str, bytes]:
    record = parse_record(GRANTS["record"].encode())
    return open_grant(record, _bytes(vector), SEALING[vector["opener"]])


@pytest.mark.parametrize("vector", RECORDS, ids=_ids(RECORDS))
def test_a_record_is_read_or_refused_as_its_vector_says(vector: Vector) -> None:
    if vector["result"] != "ok":
        _refused(vector, _read)
        return
    record, opened = _read(vector)
    assert b64url(record.digest) == vector["digest"]
    texts = {name: joined(text) for name, text in vector["plaintexts"].items()}
    assert {name: data.decode().rstrip(" ") for name, data in opened.items()} == texts
    stated = json.loads(unb64url(record.signed.decode().split(".")[1]))
    assert stated.pop("v") == 1
    for member, value in stated.items():
        held = getattr(record.manifest, member)
        if member == "parts":
            held = [{"name": p.name, "sha256": p.sha256, "len": p.len, "kc": p.kc} for p in held]
        elif member == "acts":
            held = {name: list(getattr(held, name)) for name in ("erase", "grant") if getattr(held, name)}
        elif member == "voids":
            held = list(held)
        assert held == value, member


KEYLESS = [v for v in RECORDS if "body" in v["flags"] and v["result"] not in ("ok", "part_unopenable")]


@pytest.mark.parametrize("vector", KEYLESS, ids=_ids(KEYLESS))
def test_a_gateway_without_keys_refuses_a_bad_body_all_the_same(vector: Vector) -> None:
    _refused(vector, lambda v: parse_record(_bytes(v)).verify_body())


UNCHECKED = [v for v in KEYLESS if "keys" in v and v["result"] in ("header_forbidden", "record_malformed")]
UNCHECKED = [v for v in UNCHECKED if "-size-" not in v["id"]]


@pytest.mark.parametrize("vector", UNCHECKED, ids=_ids(UNCHECKED))
def test_a_bad_part_does_not_open_even_where_the_check_before_was_forgotten(vector: Vector) -> None:
    keys = {name: unb64url(key) for name, key in vector["keys"].items()}
    with pytest.raises(UmuhuzaError) as caught:
        open_parts(parse_record(_bytes(vector)), keys)
    assert caught.value.code in (vector["result"], "part_unopenable")


@pytest.mark.parametrize("vector", GRANTS["vectors"], ids=_ids(GRANTS["vectors"]))
def test_a_grant_opens_or_not_as_its_vector_says(vector: Vector) -> None:
    if vector["result"] != "ok":
        _refused(vector, _open)
        return
    assert {name: b64url(key) for name, key in _open(vector).items()} == vector["opened"]


@pytest.mark.parametrize("vector", REGISTRY, ids=_ids(REGISTRY))
def test_a_registry_file_is_read_or_refused_as_its_vector_says(vector: Vector) -> None:
    root = RootPin.read(vector["root"])
    if vector["result"] != "ok":
        _refused(vector, lambda v: trusted(_bytes(v), root))
        return
    registry = trusted(_bytes(vector), root).registry
    assert {agency.id: list(agency.roles) for agency in registry.agencies.values()} == vector["members"]
    assert (registry.domain, registry.version) == ("bi", 7)
    assert [one.origin for one in registry.ledgers] == vector.get("ledgers", [])
    assert registry_from_json(registry_to_json(registry)).ledgers == registry.ledgers


@pytest.mark.parametrize("vector", EVIDENCE, ids=_ids(EVIDENCE))
def test_evidence_of_a_promise_counts_or_not_as_its_vector_says(vector: Vector) -> None:
    key, domain = SIGNING[vector["key"]], vector["domain"]
    if vector["result"] != "ok":
        _refused(vector, lambda v: verify_evidence(_bytes(v), key, domain))
        return
    line, promise = verify_evidence(_bytes(vector), key, domain)
    assert [line.evt, line.l1_sha256, line.topic, line.offset] == vector["line"]
    assert (promise.iss, promise.at) == ("bi/operator", 1_793_000_000)


def test_every_vector_has_a_reason_and_most_are_invalid() -> None:
    idents = _ids(EVERY)
    assert len(set(idents)) == len(idents)
    assert all(vector["why"] and vector["flags"] for vector in EVERY)
    invalid = [vector for vector in EVERY if vector["result"] != "ok"]
    assert len(invalid) > 0.85 * len(EVERY)
    assert len([vector for vector in RECORDS if vector["result"] != "ok"]) >= 120


def test_the_twin_is_the_same_record() -> None:
    by_id = {vector["id"]: vector for vector in RECORDS}
    assert by_id["record-signature-twin"]["input"] != by_id["record-control"]["input"]
    assert by_id["record-signature-twin"]["digest"] == by_id["record-control"]["digest"]


def test_the_generator_makes_the_released_vectors_again() -> None:
    """All but what randomness is in: HPKE's ciphertexts, ML-DSA's signatures."""
    assert keys_file() == KEYS
    for name in generate.FILES:
        released, again = _load(name), json.loads(generate.dumped(generate.built(name)))
        if name in generate.RANDOM_FILES:
            hidden = {"input": None}
            released["vectors"] = [vector | hidden for vector in released["vectors"]]
            again["vectors"] = [vector | hidden for vector in again["vectors"]]
        assert released == again, name


def test_the_generator_never_changes_a_released_vector() -> None:
    released = {"about": "old", "vectors": [{"id": "a", "why": "kept"}]}
    made = {"about": "new", "vectors": [{"id": "a", "why": "changed"}, {"id": "b", "why": "added"}]}
    assert generate.merged(released, made)["vectors"] == [{"id": "a", "why": "kept"}, {"id": "b", "why": "added"}]
    with pytest.raises(ValueError, match="no longer made"):
        generate.merged(released, {"about": "new", "vectors": []})
