# SPDX-License-Identifier: Apache-2.0
"""docs/verify/README.md and LISEZ-MOI.md, followed as somebody would who trusts nobody: every command, in order.

And the same after something was changed: each way of checking then says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from schemas.errors import CODES
from schemas.keys import b64url
from tests.verify import example
from tests.verify.verifiers import DOCS, Verifier
from topics.promise import Line, evidence, make_promise

PAGES = ("README.md", "LISEZ-MOI.md")
NEEDED = ("openssl", "basenc", "node", "javac")


def _commands(page: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of docs/verify to work in."""
    return Path(shutil.copytree(DOCS, tmp_path / "verify"))


def _followed(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: nobody followed {page}")
    script = f"set -eu\n{_commands(page)}"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120
    )


def test_a_reader_who_trusts_nobody_finds_every_digest_and_every_signature_right(folder: Path) -> None:
    run = _followed(folder, "README.md")
    assert run.returncode == 0, run.stderr
    said = run.stdout
    assert said.count("Valid: ") == 3
    assert said.count("valid / valide\n") == 3
    assert said.count("Verified OK") == 1
    assert said.count("Signature Verified Successfully") == 2
    assert "Tue Nov  3 10:02:00 UTC 2026" in said
    made = example.files()
    values = {
        "kid": example.SENDER.kid,
        **dict(re.findall(r'"(root)":"([^"]*)"', said)),
        **dict(re.findall(r'"(kc)":"([^"]*)"', said)),
    }
    shown = said.splitlines()
    assert {values["kid"], values["root"], values["kc"]} <= set(shown)
    for digest in re.findall(r'"sha256":"([^"]*)"', said):
        assert digest in shown
    head = made["receipt.tlog-proof"].decode().split("\n\n")[1].splitlines()
    assert shown.count(head[2]) == 2, "the root that is reached, and the one that was signed"
    entry = shown[shown.index("umuhuza-entry/1") :]
    assert entry[5:7] == entry[8:10], "the record and what was signed, as the log names them"


def test_both_languages_give_the_same_commands() -> None:
    english, french = map(_commands, PAGES)
    assert english == french
    assert english.count("\n") > 60


def test_the_example_is_made_again_byte_for_byte() -> None:
    made = example.files()
    assert {path.name for path in example.FOLDER.iterdir()} == made.keys()
    for name, data in made.items():
        assert (example.FOLDER / name).read_bytes() == data, name


def test_every_refusal_has_the_products_own_title_in_both_languages() -> None:
    """Of the verifier in JavaScript; and the one in Java knows the same refusals."""
    thrown = {
        name: set(re.findall(r"(?:new )?Refused\(\"(\w+)\"", (DOCS / name).read_text(encoding="utf-8")))
        for name in ("verify.mjs", "Verify.java")
    }
    assert thrown["verify.mjs"] == thrown["Verify.java"]
    words = (DOCS / "words.mjs").read_text(encoding="utf-8").partition("SENTENCES")[0]
    rows = re.findall(r'^  (\w+): \{\n    en: (".*"),\n    fr: (".*"),\n  \},$', words, re.MULTILINE)
    assert {code for code, _, _ in rows} == thrown["verify.mjs"]
    for code, english, french in rows:
        assert (json.loads(english), json.loads(french)) == (CODES[code].title_en, CODES[code].title_fr)


def _changed(file: Path, old: bytes, new: bytes) -> None:
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "code"),
    [
        ("record.txt", b".", b",", "record_malformed"),
        ("promise.json", b'"offset":41', b'"offset":42', "root_mismatch"),
        ("promise.json", b"bi.directory.k7t4", b"bi.directory.r5w2", "root_mismatch"),
        ("receipt.tlog-proof", b"\n11\n", b"\n12\n", "signature_invalid"),
        ("receipt.tlog-proof", b"index 5", b"index 6", "root_mismatch"),
        ("receipt.tlog-proof", b"index 5", b"index 05", "note_malformed"),
    ],
)
def test_what_was_changed_is_refused_with_its_code_and_status_1(
    folder: Path, by_node: Verifier, file: str, old: bytes, new: bytes, code: str
) -> None:
    place = folder / "example"
    if file == "record.txt":
        data = (place / file).read_bytes()
        (place / file).write_bytes(data[:200] + b"," + data[201:])
    else:
        _changed(place / file, old, new)
    keys = dict(line.split("=", 1) for line in (place / "keys.sh").read_text().splitlines())
    words = {
        "record.txt": ["record", "record.txt", keys["SENDER"]],
        "promise.json": ["promise", "promise.json", keys["GATEWAY"], "bi", "-"],
        "receipt.tlog-proof": ["receipt", "receipt.tlog-proof", "-", keys["LOG"], keys["WITNESS"]],
    }[file]
    run = _by_hand(by_node, words, place)
    assert (run.returncode, run.stdout) == (1, "")
    assert code in run.stderr


def _by_hand(
    verifier: Verifier, words: list[str], place: Path, language: str = "en"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    more = [f"--lang={language}"] if verifier.name == "JavaScript" else []
    return subprocess.run(
        [*verifier.by_hand, *words, *more],
        cwd=place,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=180,
    )


def test_a_receipt_for_another_record_is_no_receipt_for_this_one(
    folder: Path, by_node: Verifier, by_java: Verifier
) -> None:
    """Whoever hands over a true receipt beside another record is found out by both verifiers."""
    place = folder / "example"
    other = (DOCS.parent / "wire-format.md").read_text(encoding="utf-8")
    record = re.search(r"^```text example=record\n(.*?)\n```$", other, re.DOTALL | re.MULTILINE)
    assert record is not None
    (place / "other.txt").write_text(record[1], encoding="ascii")
    keys = dict(line.split("=", 1) for line in (place / "keys.sh").read_text().splitlines())
    for verifier in (by_node, by_java):
        for words, path in (
            (["promise", "promise.json", keys["GATEWAY"], "bi", "other.txt"], "evidence"),
            (["receipt", "receipt.tlog-proof", "other.txt", keys["LOG"]], "entry"),
        ):
            run = _by_hand(verifier, words, place)
            assert (run.returncode, run.stdout) == (1, "")
            assert "record_rewritten" in run.stderr
            assert path in run.stderr


def test_nothing_that_was_signed_moves_the_readers_terminal(folder: Path, by_node: Verifier, by_java: Verifier) -> None:
    line = Line("\x1b[2Jevt\x9b\r", "digest", "bi.case.a", 1)
    promised = make_promise([line], example.GATEWAY, iss="bi/operator", at=example.ASKED_AT, domain="bi")
    (folder / "promise").write_bytes(evidence(line, 0, promised.paths[0], promised.jws))
    for verifier in (by_node, by_java):
        run = _by_hand(verifier, ["promise", "promise", b64url(example.GATEWAY.public.public), "bi"], folder)
        assert run.returncode == 0, run.stderr
        assert "\ufffd[2Jevt\ufffd\ufffd" in run.stdout
        assert not {"\x1b", "\x9b", "\r"} & set(run.stdout)


def test_what_is_called_wrongly_is_told_so_in_both_languages(
    folder: Path, by_node: Verifier, by_java: Verifier
) -> None:
    place = folder / "example"
    for words in (["record", "nowhere.txt", "A" * 87], ["record", "record.txt", "!"], ["nothing"]):
        english, french = (_by_hand(by_node, words, place, language) for language in ("en", "fr"))
        assert (english.returncode, english.stdout) == (french.returncode, french.stdout) == (2, "")
        assert english.stderr != french.stderr
    run = _by_hand(by_java, ["record", "nowhere.txt", "A" * 87], place)
    assert (run.returncode, run.stdout) == (2, "")
    assert "un fichier ne se lit pas" in run.stderr
