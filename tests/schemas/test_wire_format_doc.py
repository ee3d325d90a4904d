# SPDX-License-Identifier: Apache-2.0
"""docs/wire-format.md says what the code does: its example verifies, its tables are complete, its limits are ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from schemas import envelope, sealing
from schemas.envelope import chain_hash, jws_header, parse_record
from schemas.errors import RecordError
from schemas.keys import CLASSICAL, SUITES, SealingKey, VerifyKey, b64url, unb64url
from schemas.sealing import open_grant, open_parts

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "wire-format.md").read_text(encoding="utf-8")
VECTORS = ROOT / "tests" / "vectors"
EXAMPLES = dict(re.findall(r"^```\w+ example=([\w-]+)\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE))


def _vectors(name: str) -> dict[str, dict[str, Any]]:
    return {v["id"]: v for v in json.loads((VECTORS / name).read_text(encoding="ascii"))["vectors"]}


def _section(title: str) -> str:
    return re.split(r"^##+ ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _first_column(section: str) -> set[str]:
    return {
        name for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }


def test_the_example_is_a_vector_and_verifies_and_opens() -> None:
    value = EXAMPLES["record"].encode("ascii")
    assert EXAMPLES["record"] == _vectors("records.json")["record-granted"]["input"]
    assert EXAMPLES["grant"] == _vectors("grants.json")["grant-classical"]["input"]
    record = parse_record(value)
    record.verify(VerifyKey(unb64url(EXAMPLES["public-key"])))
    record.verify_body()
    header, payload, _ = value.split(b"\n")[0].decode().split(".")
    assert unb64url(header).decode() == EXAMPLES["header"]
    assert unb64url(payload).decode() == EXAMPLES["payload"]
    assert unb64url(record.body[1].split(".")[0]).decode() == EXAMPLES["part-header"]
    assert b64url(record.digest) == chain_hash(value.split(b"\n")[0]) == EXAMPLES["digest"]
    key = SealingKey(CLASSICAL, unb64url(EXAMPLES["private-scalar"]))
    keys = open_grant(record, EXAMPLES["grant"].encode(), key)
    assert {name: b64url(part) for name, part in keys.items()} == json.loads(EXAMPLES["opened"])
    grant = json.loads(EXAMPLES["grant"])
    sealed = json.loads(key.open(unb64url(grant["ct"]), f"{EXAMPLES['info']}\n".encode()))
    assert sealed == json.loads(EXAMPLES["opened"])
    content = open_parts(record, keys)["content"]
    assert content == EXAMPLES["content"].encode().ljust(1024)


def test_the_header_in_the_text_is_an_events_header() -> None:
    assert jws_header(b64url(EXAMPLES["header"].encode()), envelope.EVENT_TYP) == json.loads(EXAMPLES["header"])["kid"]


def test_every_member_is_described() -> None:
    payload, parts = _section("L1: payload").split("Each of `parts`")
    assert _first_column(payload) == envelope._REQUIRED | envelope._OPTIONAL
    assert _first_column(parts) == envelope._PART_MEMBERS
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", payload, re.MULTILINE)
    assert {name for name, required in rows if required == "yes"} == envelope._REQUIRED
    assert " ".join(envelope.FLOWS) in payload
    assert _first_column(_section("Grants")) - {"647a", "0010"} == set(json.loads(EXAMPLES["grant"]))
    assert all(f"`{suite}`" in TEXT for suite in SUITES)


def test_the_limits_are_ours() -> None:
    for limit in (
        envelope.MAX_RECORD_BYTES,
        envelope.MAX_MANIFEST_BYTES,
        envelope.MAX_PADDED_BYTES,
        *envelope.PADDED_SIZES,
    ):
        assert f"{limit:,}" in TEXT
    assert f"2 to {envelope.MAX_PARTS} objects" in TEXT
    assert f"at most {sealing.MAX_GRANT_BYTES // 1024} KiB" in _section("Grants")


def test_every_code_of_the_format_is_explained() -> None:
    listed = _first_column(_section("Error codes"))
    used = {
        vector["result"]
        for name in ("records.json", "bodies.json", "grants.json", "registry.json")
        for vector in _vectors(name).values()
    }
    assert RecordError.codes | (used - {"ok"}) <= listed
    steps = set(re.findall(r"`([a-z]+_[a-z_]+)`", _section("Reading, in this order")))
    assert steps <= listed
