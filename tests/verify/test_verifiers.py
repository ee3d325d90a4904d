# SPDX-License-Identifier: Apache-2.0
"""The verifiers of `docs/verify` say what ours says, of every golden vector, of damaged records and of others' vectors.

What they share with the product is the description of the format: a mistake would have to be made three times.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import parse_record
from schemas.errors import UmuhuzaError
from schemas.keys import VerifyKey, b64url, unb64url
from schemas.notes import Checkpoint, Note, read_checkpoint_text, read_note, read_vkey, verify_note
from schemas.proof_texts import TlogProof, read_tlog_proof
from schemas.sealing import commitment_of, open_parts
from tests.domain import seeded
from tests.vectors import generate
from tests.vectors.making import SIGNERS, joined, make
from tests.vectors.outside.convert import HERE, unpacked
from tests.verify import example
from tests.verify.verifiers import Field, Verifier
from topics.ledger_entries import LedgerEntry
from topics.promise import Line, evidence, make_promise
from topics.proofs import inclusion_path, leaf_hash, root, verify_inclusion

VECTORS = Path(generate.__file__).parent
Question = list[Field]


def _load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="ascii"))
    return found


SIGNING = {name: unb64url(key["pub"]) for name, key in _load("keys.json")["signing"].items()}
RECORDS = [*_load("records.json")["vectors"], *_load("bodies.json")["vectors"]]
RECORDS = [vector for vector in RECORDS if vector["id"] != "size-record-megabytes"]
"""Without the one of 8 MB: another is a byte too long, and says the same."""
EVIDENCE = _load("evidence.json")["vectors"]
NOTES = _load("notes.json")["vectors"]
PROOFS = _load("proofs.json")["vectors"]


@pytest.fixture(scope="module", params=["by_node", "by_java"], ids=["JavaScript", "Java"])
def verifier(request: pytest.FixtureRequest) -> Verifier:
    found: Verifier = request.getfixturevalue(request.param)
    return found


def _record(value: bytes, key: bytes, keys: dict[str, str]) -> Question:
    return ["record", value, key, ",".join(f"{name}={text}" for name, text in keys.items())]


def _bytes(vector: dict[str, Any]) -> bytes:
    return joined(vector["input"]).encode("latin-1")


def _ours(value: bytes, key: bytes, keys: dict[str, str]) -> list[str]:
    """What the product says, in the drivers' words: up to the digest and who sent what."""
    try:
        record = parse_record(value)
        record.verify(VerifyKey(key))
        record.verify_body()
        open_parts(record, {name: unb64url(text) for name, text in keys.items()})
    except UmuhuzaError as error:
        return [error.code, error.path or ""]
    m = record.manifest
    members = (m.evt, m.iss, m.to, m.topic, m.kind, m.thread, m.seq, m.prev, m.iat, m.reg)
    return ["ok", b64url(record.digest), ",".join(map(str, members))]


def test_every_golden_record_is_taken_or_refused_with_its_code_and_path(verifier: Verifier) -> None:
    questions = [_record(_bytes(v), SIGNING[v["key"]], v.get("keys", {})) for v in RECORDS]
    for vector, answer in zip(RECORDS, verifier.answers(questions), strict=True):
        if vector["result"] == "ok":
            assert answer[:2] == ["ok", vector["digest"]], vector["id"]
            opened = answer[3].split(",") if answer[3] else []
            assert {pair.split("=")[0] for pair in opened} == set(vector["keys"]), vector["id"]
        else:
            assert answer == [vector["result"], vector["path"]], vector["id"]


def test_a_bad_body_is_refused_by_who_has_no_key_too(verifier: Verifier) -> None:
    bad = [v for v in RECORDS if "body" in v["flags"] and v["result"] not in ("ok", "part_unopenable")]
    answers = verifier.answers([_record(_bytes(v), SIGNING[v["key"]], {}) for v in bad])
    assert answers == [[v["result"], v["path"]] for v in bad]


def test_every_golden_evidence_is_taken_or_refused_with_its_code_and_path(verifier: Verifier) -> None:
    questions: list[Question] = [["evidence", _bytes(v), SIGNING[v["key"]], v["domain"]] for v in EVIDENCE]
    for vector, answer in zip(EVIDENCE, verifier.answers(questions), strict=True):
        if vector["result"] == "ok":
            evt, digest, topic, offset = vector["line"]
            named = b64url(f"{evt},{topic},{offset},{digest}".encode())
            assert answer == ["ok", named, "bi/operator", "1793000000"], vector["id"]
        else:
            assert answer == [vector["result"], vector["path"]], vector["id"]


def _damaged() -> Iterable[tuple[bytes, bytes, dict[str, str]]]:
    """Good records with a few bytes of the manifest's JSON or of the record changed, always rightly signed or not."""
    random = seeded("verify/damaged")
    good = [vector for vector in RECORDS if vector["result"] == "ok" and len(_bytes(vector)) < 20_000]
    tokens = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"0", b"-", b".5", b"e9", b" ", b"\t", b"\x00", b"\xff"]
    tokens += [b"true", b"null", b"\\ud800", b"\\u00e9", b'"v":1,', b"~", b".", b"\n", b"=", b"A", b"9007199254740993"]
    for number in range(400):
        draw = random(8)
        vector = good[draw[0] % len(good)]
        value, token = _bytes(vector), tokens[draw[1] % len(tokens)]
        line1, _, line2 = value.partition(b"\n")
        if number % 2:
            place = int.from_bytes(draw[2:5], "big") % (len(value) if draw[5] % 2 else len(line1))
            value = value[:place] + token + value[place + draw[6] % 3 :]
        else:  # inside the JSON: only the signature says that something is wrong, once the shape is right
            header, payload, signature = line1.decode().split(".")
            text = unb64url(payload)
            place = int.from_bytes(draw[2:5], "big") % len(text)
            text = text[:place] + token + text[place + draw[6] % 3 :]
            value = f"{header}.{b64url(text)}.{signature}\n".encode() + line2
        yield value, SIGNING[vector["key"]], vector["keys"]


def test_what_happens_to_a_damaged_record_is_the_same_everywhere(verifier: Verifier) -> None:
    """No two readers see two meanings: the same code at the same place, byte for byte the same record if it is good."""
    cases = list(_damaged())
    ours = [_ours(*case) for case in cases]
    theirs = verifier.answers([_record(*case) for case in cases])
    assert [answer[:3] for answer in theirs] == ours
    assert len({tuple(answer[:1]) for answer in ours}) >= 4
    assert len({tuple(answer) for answer in ours}) > 25


def test_a_key_that_opens_a_part_but_is_not_the_one_committed_to_is_refused(verifier: Verifier) -> None:
    """AES-GCM alone lets a sender make one ciphertext that two keys open: the commitment does not."""
    made = make("verify-commitment")
    identity, content = made.payload["parts"]
    lying = made.value(parts=[identity, content | {"kc": commitment_of(bytes(32))}]).encode()
    honest, keys = made.value().encode(), made.keys()
    answers = verifier.answers([_record(value, SIGNING["iom"], keys) for value in (honest, lying)])
    assert answers[0][0] == "ok"
    assert answers[1] == ["key_commitment_mismatch", "L1.parts[1].kc"]


def test_a_promised_line_is_the_same_text_everywhere(verifier: Verifier) -> None:
    """Names with quotes, controls and other scripts, as JSON writes them: nobody sends such, and all agree on them."""
    lines = [Line(f'évé"\\/\b\f\n\r\t\x01\x1f\x7f\u2028{n} \U0001f54a', "نص", "bi.case.a", 2**53 - 1) for n in range(3)]
    promised = make_promise(
        lines, SIGNERS["gateway"], iss="bi/operator", at=1_793_000_000, domain="bi", origin="bi.umuhuza/log2"
    )
    questions: list[Question] = [
        ["evidence", evidence(line, index, promised.paths[index], promised.jws), SIGNING["gateway"], "bi"]
        for index, line in enumerate(lines)
    ]
    assert [answer[0] for answer in verifier.answers(questions)] == ["ok"] * len(lines)


def test_a_place_in_a_tree_is_proven_or_not_as_rfc_6962_says(verifier: Verifier) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(70)]
    questions: list[Question] = []
    expected: list[bool] = []

    def ask(leaf: bytes, index: int, size: int, over: bytes, path: list[bytes]) -> None:
        questions.append(["inclusion", leaf, index, size, over, ",".join(map(b64url, path))])
        expected.append(verify_inclusion(leaf, index, size, path, over))

    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 63, 64, 65, 70):
        tree = leaves[:size]
        for index in {0, size // 2, size - 1}:
            path, over = inclusion_path(tree, index), root(tree)
            ask(tree[index], index, size, over, path)
            ask(tree[index], index, size + 1, over, path)
            ask(tree[index], index + 1, size, over, path)
            ask(tree[index], index - 1, size, over, path)
            ask(tree[index], index, size, over, path[:-1])
            ask(tree[index], index, size, over, [*path, bytes(32)])
            ask(leaves[69 - index], index, size, over, path)
    ask(leaves[0], 0, 2**63 - 1, leaves[0], [])
    assert [answer[0] == "ok" for answer in verifier.answers(questions)] == expected
    assert sum(expected) >= 40


def test_every_golden_checkpoint_is_taken_or_refused_with_its_code_and_path(verifier: Verifier) -> None:
    questions: list[Question] = [["checkpoint", _bytes(v), *v["vkeys"]] for v in NOTES]
    for vector, answer in zip(NOTES, verifier.answers(questions), strict=True):
        if vector["result"] != "ok":
            assert answer == [vector["result"], vector["path"]], vector["id"]
            continue
        head = vector["checkpoint"]
        witnesses = [(name.rpartition("+")[0], at) for name, at in vector["signed"] if at is not None]
        told = ",".join(f"{name}@{at}" for name, at in witnesses)
        assert answer[:3] == ["ok", head["origin"], str(head["size"])], vector["id"]
        assert (unb64url(answer[3]), answer[4]) == (base64.b64decode(head["root"]), told), vector["id"]


def test_a_key_that_a_browser_does_not_know_is_named_and_not_counted(verifier: Verifier) -> None:
    """ML-DSA-44: what cannot be checked here is said, and never taken for a signature."""
    vector = next(v for v in _load("notes-ml-dsa.json")["vectors"] if v["result"] == "ok")
    kinds = {base64.b64decode(vkey.split("+", 2)[2])[0]: vkey for vkey in vector["vkeys"]}
    both, alone, unknown = verifier.answers(
        [["checkpoint", _bytes(vector), *keys] for keys in (vector["vkeys"], [kinds[6]], [kinds[1]])]
    )
    assert both[0] == "ok"
    assert kinds[6].partition("+")[0] in both[5].split(",")
    assert alone == ["signature_invalid", "note.signatures"]
    assert unknown[0] == "ok"
    named = [name.rpartition("+")[0] for name, at in vector["signed"] if at is not None]
    assert unknown[5].split(",") == named, "whoever signed so is named, also where nobody gave that key"


def test_every_golden_proof_holds_or_not_as_its_vector_says(verifier: Verifier) -> None:
    questions: list[Question] = []
    for vector in PROOFS:
        over, path = base64.b64decode(vector["root"]), ",".join(b64url(base64.b64decode(n)) for n in vector["proof"])
        if "inclusion" in vector["flags"]:
            questions.append(["inclusion", leaf_hash(_bytes(vector)), vector["index"], vector["size"], over, path])
        else:
            before = base64.b64decode(vector["old_root"])
            questions.append(["consistency", before, vector["old"], vector["size"], over, path])
    for vector, answer in zip(PROOFS, verifier.answers(questions), strict=True):
        assert (answer[0] == "ok") == (vector["result"] == "ok"), vector["id"]


ENTRIES = [
    LedgerEntry("event", "bi.referral.k7t4", 0, None, bytes(32), bytes(range(32))),
    LedgerEntry("erasure", "bi.rights.min-solidarity", 2**53 - 1, 2**53 - 2, bytes(32), bytes(range(32))),
    LedgerEntry("duplicate", "bi.case.a", 7, 3, bytes(range(32)), bytes(32)),
    LedgerEntry("reject", "bi.case.a", 8, 7, bytes(range(32)), None, "signature_invalid"),
    LedgerEntry("erased", "bi.case.a", 7, None, None, bytes(32)),
    LedgerEntry("gap", "bi.case.a", 9, 8, detail="12"),
    LedgerEntry("retention", "bi.case.a", detail="5"),
    LedgerEntry("registry", value_sha256=bytes(32), detail="31"),
]


def test_an_entry_of_every_kind_is_read_as_the_ledger_writes_it(verifier: Verifier) -> None:
    questions: list[Question] = []
    for entry in ENTRIES:
        text = Checkpoint(example.LOG.name, 1, leaf_hash(entry.encode())).text
        note = Note(text, (example.LOG.sign(text, example.ASKED_AT),))
        receipt = TlogProof(0, (), note.dumps(), entry.encode()).dumps()
        questions.append(["receipt", receipt, example.LOG.public.vkey])
    for entry, answer in zip(ENTRIES, verifier.answers(questions), strict=True):
        hashes = ("-" if one is None else b64url(one) for one in (entry.value_sha256, entry.l1_sha256))
        places = ("-" if one is None else str(one) for one in (entry.offset, entry.previous))
        told = (entry.kind, entry.topic or "-", *places, *hashes, entry.detail or "-")
        assert answer[0] == "ok"
        assert answer[-1] == ",".join(told)


def _altered() -> Iterable[tuple[bytes, list[str]]]:
    """The example's receipt with single bytes or lines changed."""
    good = example.files()["receipt.tlog-proof"]
    keys = [example.LOG.public.vkey, example.WITNESS.public.vkey]
    yield good, keys
    yield good, keys[:1]
    yield good, keys[1:]
    yield good, []
    yield good.replace(b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v2"), keys
    yield good, [keys[0][:-1] + "A", keys[1]]
    yield good, ["nothing"]
    random = seeded("verify/altered")
    tokens = [b"\n", b" ", b"A", b"=", b"0", b"\x00", b"\xe2\x80\x94 ", b"\xff", b"+", b"9" * 19]
    lines = good.splitlines(keepends=True)
    for number in range(200):
        draw = random(5)
        place = int.from_bytes(draw[:2], "big") % len(good)
        if number % 4 == 0:
            which = draw[0] % len(lines)
            yield b"".join(lines[:which] + lines[which : which + 1] * (draw[1] % 3) + lines[which + 1 :]), keys
        else:
            yield good[:place] + tokens[draw[2] % len(tokens)] + good[place + draw[3] % 3 :], keys


def _our_receipt(data: bytes, vkeys: list[str]) -> list[str]:
    """What the product says, in the drivers' words: up to the size of the tree."""
    try:
        keys = [read_vkey(vkey) for vkey in vkeys]
        proof = read_tlog_proof(data)
        if proof.extra is None:
            return ["note_malformed", "proof.extra"]
        note = read_note(proof.checkpoint)
        head = read_checkpoint_text(note.text)
        signed = verify_note(note, keys)
        if not any(one.key.name == head.origin and one.at is None for one in signed):
            return ["signature_invalid", "note.signatures"]
    except UmuhuzaError as error:
        return [error.code, error.path or ""]
    if not verify_inclusion(leaf_hash(proof.extra), proof.index, head.size, proof.path, head.root):
        return ["root_mismatch", "proof"]
    return ["ok", head.origin, str(head.size)]


def test_what_happens_to_an_altered_receipt_is_the_same_everywhere(verifier: Verifier) -> None:
    cases = list(_altered())
    ours = [_our_receipt(*case) for case in cases]
    theirs = verifier.answers([["receipt", data, *vkeys] for data, vkeys in cases])
    assert [answer[: len(said)] for answer, said in zip(theirs, ours, strict=True)] == ours
    assert len({tuple(answer) for answer in ours}) > 12


@pytest.mark.parametrize(("name", "question"), [("ecdsa_secp256r1_sha256_p1363", "es256"), ("ed25519", "ed25519")])
def test_the_platforms_own_signatures_are_judged_as_wycheproof_judges_them(
    verifier: Verifier, name: str, question: str
) -> None:
    """Java 17 before April 2022 takes an ES256 signature of zeros: `Verify.java` looks at the range itself.

    What Java's own verifier cannot do is written down, as what ours does otherwise is; a later release may.
    """
    cases = unpacked("wycheproof.json.xz")[name]
    questions: list[Question] = [
        [question, *(bytes.fromhex(case[part]) for part in ("key", "msg", "sig"))] for case in cases
    ]
    wrong = {
        case["id"]: answer[0]
        for case, answer in zip(cases, verifier.answers(questions), strict=True)
        if (answer[0] == "ok") != (case["result"] == "valid")
    }
    disagreements = json.loads((HERE / "disagreements.json").read_text(encoding="ascii"))
    known = {ident for row in disagreements["Verify.java"] for ident in row["ids"]} if question == "es256" else set()
    assert wrong.keys() <= (known if verifier.name == "Java" else set())
    assert set(wrong.values()) <= {"no"}, "what is refused wrongly is a nuisance, what is taken wrongly a forgery"
