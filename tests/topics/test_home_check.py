# SPDX-License-Identifier: Apache-2.0
"""A record from abroad counts by what its own domain's ledger says of it, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.home_proof import HomeProof, Proven, read_carried_line, read_home_proof
from schemas.keys import SigningKey, VerifyKey, unb64url
from schemas.registry import Agency, Key, Registry, empty_registry
from schemas.trust_policy import read_policy
from tests.borders import NAME, Countries, HomeLedger, carried, trust_policy
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import forged
from tests.trees import witness_signers
from tests.vectors.making import Vector, joined
from topics.home_check import HomeTrust, HomeVerified, check_home, home_verified, refuse_doubted
from topics.verification import Verified

TOPIC = "bi.bilateral.ccsprtp"


@dataclass
class Home:
    """Tunisia: its registry versions as Burundi holds them, its ledger, and one request to Burundi."""

    tn: Domain = field(default_factory=lambda: Countries().tn)
    ledger: HomeLedger = field(default_factory=HomeLedger)
    versions: dict[int, Registry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first = self.publish()

    def publish(self) -> int:
        self.versions[self.tn.registry.version] = self.tn.registry
        return self.ledger.publish(self.tn.registry.version)

    def request(self, signer: SigningKey | None = None) -> Signed:
        return self.tn.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME, signer=signer)

    @property
    def trust(self) -> HomeTrust:
        return HomeTrust("tn", trust_policy("tn"), self.versions.get)

    def check(self, signed: Signed, home: HomeProof, topic: str = TOPIC) -> HomeVerified:
        return check_home(signed.value, topic, home, self.trust)

    def refused(self, signed: Signed, home: HomeProof, topic: str = TOPIC) -> tuple[str, str | None]:
        with pytest.raises(UmuhuzaError) as caught:
            self.check(signed, home, topic)
        return caught.value.code, caught.value.path


@pytest.fixture
def home() -> Home:
    return Home()


def test_what_was_logged_at_home_counts_here(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    found = home.check(signed, home.ledger.home(index, home.first))
    assert found.verified.manifest == signed.manifest
    assert (found.index, found.version, found.size, found.cosigned_at) == (1, home.tn.registry.version, 2, NOW)
    assert isinstance(home_verified(signed.value, TOPIC, home.ledger.home(index, home.first), home.trust), Verified)


def test_what_was_logged_before_its_key_was_revoked_counts_whenever_it_comes(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    home.tn.revoke("tn/inlctp", home.tn.members["tn/inlctp"].sig.kid)
    home.publish()
    five_days_later = home.ledger.checkpoint(NOW + 5 * 86_400)
    assert home.check(signed, home.ledger.home(index, home.first, five_days_later)).index == index


def test_what_a_key_signs_that_was_revoked_by_then_does_not(home: Home) -> None:
    home.tn.revoke("tn/inlctp", home.tn.members["tn/inlctp"].sig.kid)
    revoked = home.publish()
    signed = home.request()
    index = home.ledger.log(signed)
    assert home.refused(signed, home.ledger.home(index, revoked)) == ("key_revoked", "L1.header.kid")


def test_a_stolen_key_signs_what_no_ledger_has(home: Home) -> None:
    """Sent straight over the border, with the proof of another record, or of none."""
    logged, stolen = home.request(), home.request()
    index = home.ledger.log(logged)
    assert home.refused(stolen, home.ledger.home(index, home.first)) == ("record_unlogged", "home.proof")
    with pytest.raises(LogError) as caught:
        read_carried_line(b'{"record":"x","grants":[]}')
    assert (caught.value.code, caught.value.path) == ("record_unlogged", "home")


def test_what_home_has_refused_is_refused(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed, kind="reject")
    assert home.refused(signed, home.ledger.home(index, home.first)) == ("record_unlogged", "home.proof")


def test_a_key_called_stolen_since_a_place_is_doubted_from_there_on(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    found = home.check(signed, home.ledger.home(index, home.first))
    kid = home.tn.members["tn/inlctp"].sig.kid
    refuse_doubted(home.tn.registry.with_key_revoked("tn/inlctp", kid, NOW, index + 1), found)
    with pytest.raises(RegistryError, match="key_revoked"):
        refuse_doubted(home.tn.registry.with_key_revoked("tn/inlctp", kid, NOW, index), found)
    second = replace(found, ledger=2)  # all of a later tree is later, and an earlier one is not looked at
    with pytest.raises(RegistryError, match="key_revoked"):
        refuse_doubted(home.tn.registry.with_key_revoked("tn/inlctp", kid, NOW, index + 1), second)
    refuse_doubted(home.tn.registry.with_key_revoked("tn/inlctp", kid, NOW, 0, compromised_in=2), found)


def test_too_few_witnesses_another_ledger_or_a_changed_root_prove_nothing(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    good = home.ledger.home(index, home.first)
    alone = home.ledger.checkpoint(by=[witness_signers("tn")[0]])
    assert home.refused(signed, replace(good, checkpoint=alone)) == ("quorum_missing", "checkpoint")
    other = replace(home.ledger, domain="bi").checkpoint()
    assert home.refused(signed, replace(good, checkpoint=other))[0] == "log_unknown"
    size = home.ledger.checkpoint().replace(b"\n2\n", b"\n3\n", 1)
    assert home.refused(signed, replace(good, checkpoint=size))[0] == "signature_invalid"


CHANGES: dict[str, tuple[Callable[[HomeProof], HomeProof], tuple[str, str]]] = {
    "another place": (lambda p: replace(p, record=replace(p.record, index=0)), ("root_mismatch", "home.proof")),
    "no path": (lambda p: replace(p, record=replace(p.record, path=())), ("root_mismatch", "home.proof")),
    "another entry": (
        lambda p: replace(p, record=replace(p.record, entry=p.record.entry.replace(b"event", b"erasure"))),
        ("root_mismatch", "home.proof"),
    ),
    "a registry that is none": (lambda p: replace(p, registry=p.record), ("log_inconsistent", "home.registry")),
    "a registry not in the tree": (
        lambda p: replace(p, registry=replace(p.registry, path=(b"\0" * 32,))),
        ("root_mismatch", "home.registry"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_proof_that_was_changed_is_none(home: Home, name: str) -> None:
    change, told = CHANGES[name]
    signed = home.request()
    index = home.ledger.log(signed)
    assert home.refused(signed, change(home.ledger.home(index, home.first))) == told


def test_a_later_registry_version_is_not_the_one_in_force(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    home.tn.registry = home.tn.registry.renewed(NOW)
    later = home.publish()
    assert home.refused(signed, home.ledger.home(index, later)) == ("log_inconsistent", "home.registry")


def test_a_version_that_is_not_here_yet_is_asked_for(home: Home) -> None:
    signed = home.request()
    index = home.ledger.log(signed)
    proof = home.ledger.home(index, home.first)
    home.versions.clear()
    assert home.refused(signed, proof) == ("registry_stale", "home.registry")


def test_the_record_itself_is_checked_as_ever(home: Home) -> None:
    signed = home.request()
    other = home.request(signer=home.tn.members["tn/iom"].sig)
    for one, code in (
        (forged(signed), "signature_invalid"),
        (other, "issuer_mismatch"),
        (replace(signed, value=signed.value[:-4] + b"AAAA"), "part_digest_mismatch"),
    ):
        index = home.ledger.log(one)
        assert home.refused(one, home.ledger.home(index, home.first))[0] == code
    index = home.ledger.log(signed)
    elsewhere = home.refused(signed, home.ledger.home(index, home.first), "bi.bilateral.iom")
    assert elsewhere == ("topic_mismatch", "L1.topic")


VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "home.json").read_text(encoding="ascii"))["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=[one["id"] for one in VECTORS])
def test_a_home_proof_holds_or_not_as_its_vector_says(vector: Vector) -> None:
    public = unb64url(vector["signer"])
    key = Key(VerifyKey(public).kid, "sig", "ES256", public, 1, 2**40)
    registry = empty_registry("tn", 1).with_agency(Agency("tn/inlctp", {"fr": "X"}, ("focal-point",), (key,)), 2)
    trust = HomeTrust("tn", read_policy(vector["policy"].encode()), {vector["version"]: registry}.get)
    told: tuple[str, str | None] = ("ok", None)
    try:
        home = read_home_proof(joined(vector["input"]).encode("ascii"))
        check_home(vector["record"].encode("ascii"), vector["topic"], home, trust)
    except UmuhuzaError as exc:
        told = (exc.code, exc.path)
    assert told == (vector["result"], vector["path"])


# -- how it travels ----------------------------------------------------------------------------------------------------

HASH = st.binary(min_size=32, max_size=32)
PROVEN = st.builds(Proven, st.integers(0, 2**53 - 1), st.binary(max_size=300), st.lists(HASH, max_size=63).map(tuple))


@given(PROVEN, PROVEN)
def test_a_proof_has_one_text(record: Proven, registry: Proven) -> None:
    proof = HomeProof("— tn ü\n".encode(), record, registry)
    assert read_home_proof(proof.dumps()) == proof
    assert proof.dumps().isascii()
    with pytest.raises(LogError):
        read_home_proof(proof.dumps() + b" ")


def test_one_checkpoint_a_contact_is_enough(home: Home) -> None:
    first, second = home.request(), home.request()
    home.ledger.log(first, second)
    checkpoint = home.ledger.checkpoint()
    line = read_carried_line(carried(first, home.ledger.home(1, home.first, checkpoint)))
    behind = home.ledger.home(2, home.first, checkpoint)
    short = carried(second, behind, checkpoint=False)
    assert read_carried_line(short, line.home.checkpoint).home == behind
    with pytest.raises(LogError) as caught:
        read_carried_line(short)
    assert (caught.value.code, caught.value.path) == ("note_malformed", "home.checkpoint")


@given(st.data())
def test_a_damaged_line_is_refused_by_a_code_and_a_path(data: st.DataObject) -> None:
    line = DAMAGED
    at = data.draw(st.integers(0, len(line) - 1))
    damaged = line[:at] + data.draw(st.binary(max_size=3)) + line[at + data.draw(st.integers(1, 40)) :]
    path: str | None = "read"
    try:
        read_carried_line(damaged)
    except (RecordError, LogError) as exc:
        path = exc.path
    assert path is not None


def _example() -> bytes:
    home = Home()
    signed = home.request()
    return carried(signed, home.ledger.home(home.ledger.log(signed), home.first))


DAMAGED = _example()
