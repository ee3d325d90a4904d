# SPDX-License-Identifier: Apache-2.0
"""A program in another language, made of off-the-shelf parts, agrees with the golden vectors."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.bundle import seal_plaintext
from schemas.keys import unb64url
from tests.node_programs import NODE, node_with
from tests.vectors.making import SEALERS

TESTS = Path(__file__).parent.parent
VECTORS = TESTS / "vectors"


@pytest.fixture(scope="module")
def node() -> str:
    return node_with("jose")


def _verify(node: str, vectors: Path) -> tuple[int, dict[str, Any], list[str]]:
    run = subprocess.run(
        [node, "verify.mjs", str(vectors)], cwd=NODE, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert run.stdout, run.stderr[-2000:]
    return run.returncode, json.loads(run.stdout.splitlines()[-1]), run.stderr.splitlines()


def _stated(result: str) -> list[str]:
    names = ("records.json", "bodies.json", "grants.json", "registry.json")
    vectors = [v for name in names for v in json.loads((VECTORS / name).read_text(encoding="ascii"))["vectors"]]
    return [vector["id"] for vector in vectors if (vector["result"] == "ok") == (result == "ok")]


def test_the_other_language_opens_what_is_valid_and_refuses_what_is_forged(node: str) -> None:
    status, summary, failures = _verify(node, VECTORS)
    assert failures == []
    assert (status, summary["ok"]) == (0, True)
    assert summary["valid"] == summary["opened"] == len(_stated("ok"))
    assert summary["refused"] + summary["lenient"] == len(_stated("refused"))
    assert summary["refused"] > 250


@pytest.mark.parametrize(
    ("file", "vector", "change"),
    [
        ("records.json", "record-arabic", {"digest": "A" * 43}),
        ("records.json", "record-request", {"plaintexts": {"identity": "", "content": ""}}),
        ("records.json", "signature-one-bit", {"result": "ok"}),
        ("bodies.json", "body-header-spaced", {"result": "part_unopenable", "flags": ["crypto"]}),
        ("grants.json", "grant-hybrid", {"opener": "k7t4-next"}),
        ("grants.json", "grant-classical", {"opened": {}}),
        ("registry.json", "registry-ok", {"members": {}}),
    ],
)
def test_the_other_language_notices_a_wrong_vector(
    node: str, tmp_path: Path, file: str, vector: str, change: dict[str, Any]
) -> None:
    for path in VECTORS.glob("*.json"):
        document = json.loads(path.read_text(encoding="ascii"))
        if "vectors" in document:
            kept = [found for found in document["vectors"] if found["id"] == vector]
            assert bool(kept) == (path.name == file)
            document["vectors"] = [found | change for found in kept]
        (tmp_path / path.name).write_text(json.dumps(document), encoding="ascii")
    status, summary, failures = _verify(node, tmp_path)
    assert (status, summary["ok"]) == (1, False)
    assert all(line.startswith(f"{vector}: ") for line in failures)


def test_the_lock_file_names_no_registry() -> None:
    text = (NODE / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in text
    packages = json.loads(text)["packages"]
    assert all(entry["integrity"].startswith("sha512-") for name, entry in packages.items() if name)


def _opened(node: str, reader: str, signer: str, *files: Path) -> list[dict[str, Any]]:
    run = subprocess.run(
        [node, "bundle.mjs", str(VECTORS / "keys.json"), reader, signer, *map(str, files)],
        cwd=NODE,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("reader", ["k7t4", "police"], ids=["hybrid", "classical"])
def test_the_other_language_opens_a_stick_and_refuses_what_is_not_whole_or_not_its_own(
    node: str, tmp_path: Path, reader: str
) -> None:
    vectors = json.loads((VECTORS / "bundles.json").read_text(encoding="ascii"))["vectors"]
    good = [one for one in vectors if one["result"] == "ok"]
    faults = {"bundle-v2": "v", "bundle-digest": "sha256", "bundle-fewer": "n", "bundle-typ": "typ"}
    wrong = [one for one in vectors if one["id"] in faults]
    files = []
    for vector in [*good, *wrong]:
        files.append(tmp_path / f"{vector['id']}.lot")
        files[-1].write_bytes(seal_plaintext(vector["input"].encode(), SEALERS[reader].public))
    read = _opened(node, reader, "k7t4", *files)
    for vector, told in zip(good, read, strict=False):
        text, *lines = vector["input"].splitlines()
        assert told["head"] == json.loads(unb64url(text.split(".")[1]))
        assert told["head"]["kind"] == vector["kind"]
        assert told["lines"] == [json.loads(line) for line in lines]
    assert [told.get("refused") for told in read[len(good) :]] == [faults[one["id"]] for one in wrong]
    spoilt = tmp_path / "half.lot"
    spoilt.write_bytes(files[0].read_bytes()[:-1])
    assert _opened(node, reader, "k7t4", spoilt) == [{"refused": "damaged"}]
    assert _opened(node, f"{reader}-next", "k7t4", files[0]) == [{"refused": "unopenable"}]
    assert _opened(node, reader, "iom", files[0]) == [{"refused": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}]
