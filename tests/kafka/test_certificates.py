# SPDX-License-Identifier: Apache-2.0
"""Who a certificate makes its holder, without a broker; `test_cluster` shows a broker the same."""

from __future__ import annotations

import re
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from umuhuza.kafka import certificates
from umuhuza.kafka.certificates import (
    CERTIFICATE_S,
    MAPPING_RULES,
    Authority,
    Issued,
    agency_of,
    principal_of,
    write_file,
)

NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("cluster", NOW)


def mapped(certificate: bytes) -> str | None:
    """The principal as the broker makes it: the subject last part first, then the first rule that fits all of it."""
    subject = x509.load_pem_x509_certificate(certificate).subject
    text = ",".join(part.rfc4514_string() for part in reversed(list(subject)))
    for rule in re.findall(r"RULE:(.*?)/(.*?)/", MAPPING_RULES):
        found = re.fullmatch(rule[0].strip("^$"), text)
        if found is not None:
            return found.expand(rule[1].replace("$", "\\"))
    return None


def request_for(key: ec.EllipticCurvePrivateKey, organization: str, common: str) -> bytes:
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def purposes(issued: Issued) -> set[str]:
    read = x509.load_pem_x509_certificate(issued.certificate)
    return {one._name for one in read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}


def test_an_agency_is_known_by_its_domain_and_name(authority: Authority) -> None:
    assert mapped(authority.agency("bi/iom", NOW).certificate) == "bi.iom"
    assert mapped(authority.agency("bi/iom-gitega", NOW).certificate) == "bi.iom-gitega"


def test_nodes_and_the_administrator_are_known_by_names_without_a_dot(authority: Authority) -> None:
    assert mapped(authority.node(1, ("127.0.0.1",), NOW).certificate) == "node-1"
    assert mapped(authority.admin(NOW).certificate) == "admin"


@pytest.mark.parametrize("name", ["admin", "node-1", "node-12"])
def test_an_agency_named_like_a_super_user_is_still_an_agency(authority: Authority, name: str) -> None:
    assert mapped(authority.agency(f"bi/{name}", NOW).certificate) == f"bi.{name}"


@pytest.mark.parametrize(
    "name",
    ["iom", "", "bi/", "BI/iom", "bi/iom,O=umuhuza-kafka", "umuhuza-kafka/admin", "bi/a.b", "bi/iom\n", "bi.iom"],
)
def test_what_is_no_agency_gets_no_certificate(authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="agency"):
        authority.agency(name, NOW)


def test_principal_and_agency_are_two_forms_of_one_name() -> None:
    assert agency_of(principal_of("bi/k7t4")) == "bi/k7t4"
    for wrong in ("admin", "node-1", "bi", "bi.iom.x", "bi/iom"):
        with pytest.raises(ValueError, match="principal"):
            agency_of(wrong)


def test_an_agency_can_come_as_a_client_only(authority: Authority) -> None:
    assert purposes(authority.agency("bi/iom", NOW)) == {"clientAuth"}
    assert purposes(authority.admin(NOW)) == {"clientAuth"}
    assert purposes(authority.node(1, ("127.0.0.1",), NOW)) == {"clientAuth", "serverAuth"}


def test_an_agency_cannot_issue_certificates(authority: Authority) -> None:
    read = x509.load_pem_x509_certificate(authority.agency("bi/iom", NOW).certificate)
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not read.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_certificate_lasts_thirteen_months(authority: Authority) -> None:
    issued = authority.agency("bi/iom", NOW)
    assert issued.expires == int(NOW) + CERTIFICATE_S == certificates.expires(issued.certificate)
    assert authority.expires > issued.expires


def test_a_certificate_and_its_key_belong_together(authority: Authority, tmp_path: Path) -> None:
    issued = authority.agency("bi/iom", NOW)
    write_file(tmp_path / "c.pem", issued.certificate)
    write_file(tmp_path / "k.pem", issued.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")


def test_a_request_gets_our_name_whatever_it_asks_for(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.agency_from_request("bi/iom", request_for(key, "umuhuza-kafka", "admin"), NOW)
    assert mapped(certificate) == "bi.iom"
    assert x509.load_pem_x509_certificate(certificate).public_key() == key.public_key()


def test_a_request_that_is_damaged_or_for_another_curve_is_refused(authority: Authority) -> None:
    good = request_for(ec.generate_private_key(ec.SECP256R1()), "bi", "iom")
    other = request_for(ec.generate_private_key(ec.SECP384R1()), "bi", "iom")
    body = good.splitlines()
    forged = b"\n".join([*body[:-2], body[-2][:-8] + b"AAAAAAA=", body[-1]])
    for wrong in (other, forged, b"", b"nothing"):
        with pytest.raises(ValueError, match="request"):
            authority.agency_from_request("bi/iom", wrong, NOW)


def test_an_authority_is_read_back_and_a_key_of_another_is_refused(authority: Authority) -> None:
    assert Authority.read(authority.pem, authority.key_pem).pem == authority.pem
    with pytest.raises(ValueError, match="another"):
        Authority.read(authority.pem, Authority.make("cluster", NOW).key_pem)


def test_a_file_is_for_its_owner_only_and_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"old")
    file.chmod(0o644)
    write_file(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]
