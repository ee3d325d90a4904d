# SPDX-License-Identifier: Apache-2.0
"""Policy files: who is believed, who must have signed, and what a line may not say."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError
from schemas.notes import Note, NoteSigner, SignatureType, read_note
from schemas.trust_policy import TrustPolicy, endorse, read_endorsed, read_policy
from tests.domain import NOW, seeded
from tests.trees import Ledger, witness_signers

LEDGER = Ledger("bi")
NAMES = ("bi", "tn", "iom")
WITNESSES = {name: witness_signers(name) for name in NAMES}
POLICY = "".join(
    [
        "# who must have seen the ledger of Burundi\n\n",
        *(f"log {key.vkey} https://bi.example/v1/log/\n" for key in LEDGER.keys),
        *(
            f"witness {name}{end} {signer.public.vkey}\thttps://{name}.example/v1/witness\n"
            for name, signers in WITNESSES.items()
            for end, signer in zip(("", "-pq"), signers, strict=True)
        ),
        "  group BI any bi bi-pq\n",
        "group TN all tn tn-pq   \n",
        "group two 2 BI TN iom-pq\n",
        "quorum two\n",
    ]
)


def cosigned(*names: str, at: int = NOW) -> bytes:
    """A checkpoint with these witnesses' signatures; `tn` its Ed25519 key, `tn-pq` the other."""
    note = read_note(LEDGER.checkpoint(5))
    signers = [WITNESSES[name.removesuffix("-pq")][name.endswith("-pq")] for name in names]
    return note.with_signatures(signer.sign(note.text, at) for signer in signers).dumps()


def code_of(data: bytes, policy: TrustPolicy, origin: str = LEDGER.origin) -> tuple[str, str | None]:
    with pytest.raises(LogError) as caught:
        endorse(data, policy, origin)
    return caught.value.code, caught.value.path


def test_a_policy_is_what_its_lines_say() -> None:
    policy = read_policy(POLICY.encode())
    assert policy.log_keys("bi.umuhuza/log") == tuple(LEDGER.keys)
    assert policy.log_keys("tn.umuhuza/log") == ()
    assert [(one.name, one.url) for one in policy.witnesses][:2] == [
        ("bi", "https://bi.example/v1/witness"),
        ("bi-pq", "https://bi.example/v1/witness"),
    ]
    assert policy.logs[0].url == "https://bi.example/v1/log"
    assert [(group.least, group.members) for group in policy.groups] == [
        (1, ("bi", "bi-pq")),
        (2, ("tn", "tn-pq")),
        (2, ("BI", "TN", "iom-pq")),
    ]
    assert read_policy(policy.dumps()) == policy


def test_the_quorum_is_met_by_those_whom_the_groups_name_and_by_no_others() -> None:
    policy = read_policy(POLICY.encode())
    every = [witness.name for witness in policy.witnesses]
    for count in range(len(every) + 1):
        for names in combinations(every, count):
            home = "bi" in names or "bi-pq" in names
            foreign = {"tn", "tn-pq"} <= set(names)
            assert policy.met_by(names) == (home + foreign + ("iom-pq" in names) >= 2), names
    assert not policy.met_by(["two", "BI", "TN", "nobody"])


def test_a_checkpoint_is_believed_when_enough_witnesses_have_signed_it() -> None:
    policy = read_policy(POLICY.encode())
    read = endorse(cosigned("bi", "tn", "tn-pq", at=NOW + 7), policy, LEDGER.origin)
    assert read.signed.checkpoint == LEDGER.head(5)
    assert read.by == {"bi": NOW + 7, "tn": NOW + 7, "tn-pq": NOW + 7}
    assert code_of(cosigned("bi", "bi-pq", "tn"), policy) == ("quorum_missing", "checkpoint")
    assert read_endorsed(cosigned("bi", "tn"), policy, LEDGER.origin).by.keys() == {"bi", "tn"}


def test_a_wrong_cosignature_refuses_what_would_have_been_enough_without_it() -> None:
    policy = read_policy(POLICY.encode())
    good = read_note(cosigned("bi", "tn", "tn-pq"))
    elsewhere = read_note(Ledger("bi").checkpoint(6))
    wrong = WITNESSES["iom"][1].sign(elsewhere.text, NOW)
    assert code_of(good.with_signatures([wrong]).dumps(), policy) == ("signature_invalid", "note.signatures[5]")


def test_no_number_of_witnesses_replaces_the_ledgers_signature() -> None:
    policy = read_policy(POLICY.encode())
    note = read_note(cosigned("bi", "tn", "tn-pq", "iom-pq"))
    without = Note(note.text, tuple(one for one in note.signatures if one.name != LEDGER.origin))
    assert code_of(without.dumps(), policy) == ("signature_invalid", "note.signatures")


def test_another_ledgers_checkpoint_is_not_ours() -> None:
    policy = read_policy(POLICY.encode())
    assert code_of(Ledger("tn").checkpoint(5), policy) == ("log_unknown", "checkpoint.origin")
    assert code_of(cosigned("bi"), policy, "tn.umuhuza/log") == ("log_unknown", "checkpoint.origin")


def test_a_policy_may_ask_for_no_witness() -> None:
    policy = read_policy(f"log {LEDGER.keys[0].vkey}\nquorum none".encode())
    assert policy.met_by(())
    assert endorse(LEDGER.checkpoint(5), policy, LEDGER.origin).by == {}


def test_names_may_be_any_octets() -> None:
    [key, _] = WITNESSES["tn"]
    data = b"witness t\xe9moin " + key.public.vkey.encode() + b"\nquorum t\xe9moin\n"
    policy = read_policy(data)
    assert policy.dumps() == data
    assert policy.met_by([policy.witnesses[0].name])


TN = WITNESSES["tn"][0].public.vkey
TN_PQ = WITNESSES["tn"][1].public.vkey
LOG = LEDGER.keys[0].vkey
SAME_KEY = NoteSigner.generate("other/witness", SignatureType.COSIGNATURE, seeded("witness/tn/4")).public.vkey


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        (f"witness tn {TN}\n", None),
        ("quorum\n", 1),
        ("quorum tn\n", 1),
        ("quorum none\nquorum none\n", 2),
        ("quorum none none\n", 1),
        ("Quorum none\n", 1),
        ("quorum none\x00\n", 1),
        ("quorum none\r\n", 1),
        (f"log\t{LOG} ftp://x\nquorum none\n", 1),
        (f"log {LOG} https://x y\nquorum none\n", 1),
        (f"log {LOG}\nlog {LOG}\nquorum none\n", 2),
        (f"log {TN}\nquorum none\n", 1),
        (f"log {TN_PQ}\nwitness tn {TN_PQ}\nquorum tn\n", 2),
        (f"witness tn {TN_PQ}\nlog {TN_PQ}\nquorum tn\n", 2),
        (f"log {LOG[:-4]}\nquorum none\n", 1),
        (f"witness tn {LOG}\nquorum none\n", 1),
        (f"witness {TN}\nquorum none\n", 1),
        (f"witness none {TN}\nquorum none\n", 1),
        (f"witness tn {TN}\nwitness tn {TN_PQ}\nquorum none\n", 2),
        (f"witness tn {TN}\nwitness other {SAME_KEY}\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g all\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g all tn tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g 2 tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g 0 tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g 01 tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g some tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup tn all tn\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g all none\nquorum none\n", 2),
        (f"group g all tn\nwitness tn {TN}\nquorum none\n", 1),
        (f"witness tn {TN}\ngroup g all g\nquorum none\n", 2),
        (f"witness tn {TN}\ngroup g all tn\ngroup h all tn\nquorum none\n", 3),
        ("mirror x\nquorum none\n", 1),
    ],
)
def test_what_is_no_policy_is_refused_with_its_line(text: str, line: int | None) -> None:
    with pytest.raises(LogError) as caught:
        read_policy(text.encode())
    where = "policy" if line is None else f"policy line {line}"
    assert (caught.value.code, caught.value.path) == ("note_malformed", where)


def test_a_policy_without_end_is_not_read() -> None:
    with pytest.raises(LogError) as caught:
        read_policy(b"#" * (1 << 20))
    assert caught.value.code == "too_large"
    many = "".join(f"group g{n} all w{n}\n" for n in range(65))
    with pytest.raises(LogError):
        read_policy(many.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    try:
        policy = read_policy(data)
    except LogError:
        return
    assert read_policy(policy.dumps()) == policy
