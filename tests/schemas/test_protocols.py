# SPDX-License-Identifier: Apache-2.0
"""A protocol inside a country counts with the word of every agency that it binds, and nothing that looks like it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from schemas.agreements import agreement_from_json, agreement_to_json, terms_of
from schemas.errors import RecordError, RegistryError
from schemas.keys import unb64url
from schemas.protocols import protocols_in, read_signature, sign_protocol, standing
from schemas.registry import Agency, Key, registry_from_json, registry_to_json
from schemas.registry_trust import trusted
from tests.domain import NOW, Domain, sign_registry
from tests.vectors.protocol_cases import NAME, TERMS

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FOLDER / "protocols.json").read_text(encoding="utf-8"))
SIGNING = json.loads((FOLDER / "keys.json").read_text(encoding="utf-8"))["signing"]


def entry(agency: str, told: dict[str, Any]) -> Agency:
    made = SIGNING[told["key"]]
    doubt = told.get("compromised_since")
    key = Key(
        made["kid"], "sig", "ES256", unb64url(made["pub"]), told["activated"], told["expires"], told["revoked"], doubt
    )
    return Agency(agency, MappingProxyType({"fr": agency}), (), (key,))


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: str(vector["id"]))
def test_vector(vector: dict[str, Any]) -> None:
    agencies = {agency: entry(agency, told) for agency, told in vector["agencies"].items()}
    protocol = agreement_from_json(json.loads(vector["input"]), vector["name"], "bi")
    found = standing(protocol, agencies, training=vector["training"])
    assert (list(found.lacking), list(found.ended_by)) == (vector["lacking"], vector["ended_by"])
    assert ("ended" if found.ended_by else "unsigned" if found.lacking else "ok") == vector["result"]
    assert found.counts is (vector["result"] == "ok")
    said = ""
    for lines, ending in ((protocol.signatures, False), (protocol.endings, True)):
        for line in lines:
            try:
                read_signature(line, protocol, agencies, training=vector["training"], ending=ending)
            except (RecordError, RegistryError) as exc:
                said += f"{exc!r} {exc}"
    assert VECTORS["planted"] not in said


def test_most_vectors_are_wrong() -> None:
    results = [vector["result"] for vector in VECTORS["vectors"]]
    assert results.count("ok") * 3 < len(results)


def signed(domain: Domain, *by: str, **changes: Any) -> dict[str, Any]:
    protocol = agreement_from_json({**TERMS, **changes}, NAME, "bi")
    words = tuple(sign_protocol(protocol, one, NOW, domain.members[one].sig, training=False) for one in by)
    return agreement_to_json(replace(protocol, signatures=words))


def test_a_registry_says_of_each_protocol_whether_it_counts_also_to_a_process_beside() -> None:
    domain = Domain("protocoles")
    whole = agreement_from_json(signed(domain, "bi/iom", "bi/k7t4"), NAME, "bi")
    old = agreement_from_json(TERMS, "avant", "bi")
    domain.agreements = {NAME: whole, "avant": old}
    found = trusted(domain.registry_file, domain.pin)
    assert {name: one.counts for name, one in found.registry.protocols.items()} == {NAME: True, "avant": False}
    assert found.registry.protocols["avant"].lacking == ("bi/iom", "bi/k7t4")
    again = registry_from_json(json.loads(json.dumps(registry_to_json(found.registry))))
    assert again.protocols == found.registry.protocols


def test_the_next_version_in_which_a_key_is_revoked_has_the_protocol_no_more() -> None:
    domain = Domain("protocoles")
    whole = agreement_from_json(signed(domain, "bi/iom", "bi/k7t4"), NAME, "bi")
    later = domain.registry.with_key_revoked("bi/iom", domain.members["bi/iom"].sig.kid, NOW + 60)
    found = trusted(sign_registry(later, domain.root, {NAME: whole}), domain.pin)
    assert found.registry.protocols[NAME].lacking == ("bi/iom",)
    assert protocols_in({NAME: whole}, domain.registry.agencies, training=False)[NAME].counts


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"signatures": "x"}, "signatures"),
        ({"signatures": [""]}, "signatures"),
        ({"signatures": ["x", "x"]}, "signatures"),
        ({"signatures": ["x" * 2049]}, "signatures"),
        ({"endings": [f"{n}" for n in range(33)]}, "endings"),
        ({"endings": [1]}, "endings"),
        ({"words": []}, "*"),
    ],
)
def test_a_target_whose_signatures_have_no_shape_is_refused(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        agreement_from_json({**TERMS, **changes}, NAME, "bi")
    assert (caught.value.code, caught.value.path) == ("registry_invalid", f"agreement.{path}")


def test_an_agreement_between_countries_carries_no_agencys_signature() -> None:
    both = {**TERMS, "domains": ["bi", "tn"], "root_fingerprints": {"bi": "A" * 43, "tn": "B" * 42 + "A"}}
    agreement_from_json(both, NAME, "bi")
    with pytest.raises(RegistryError):
        agreement_from_json({**both, "signatures": ["x"]}, NAME, "bi")


def test_what_is_signed_is_the_terms_and_not_who_signed_them() -> None:
    domain = Domain("protocoles")
    one, both = (agreement_from_json(signed(domain, *by), NAME, "bi") for by in (["bi/iom"], ["bi/iom", "bi/k7t4"]))
    assert terms_of(one) == terms_of(both)
