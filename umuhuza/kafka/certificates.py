# SPDX-License-Identifier: Apache-2.0
"""Certificates of a Kafka cluster: its own authority, one certificate per node, one per agency, one for the operator.

The subject decides who the broker believes a client to be (`MAPPING_RULES`):

    agency bi/iom   O=bi, CN=iom                   principal `User:bi.iom`
    node 1          O=umuhuza-kafka, CN=node-1     principal `User:node-1`, a super user
    administrator   O=umuhuza-kafka, CN=admin      principal `User:admin`, a super user

In DER the order is O, then CN, because Java writes a subject last part first: `CN=iom,O=bi` (RFC 2253).

Invariants: an agency's principal has a dot and a super user's has none, and an agency's O has two letters, so no name
that an agency may bear maps to a super user; agency certificates are for clients only (extended key usage), so an
agency cannot pose as a broker; private keys are written 0600 and never overwritten in place.
Must never: print a key, or sign a name that came from outside unchecked.

Keys are P-256, signatures ECDSA with SHA-256. Times are seconds since the epoch.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.envelope import is_agency
from topics.durable_file import replace_file

ORGANIZATION = "umuhuza-kafka"
ADMIN = "admin"
MAPPING_RULES = (
    r"RULE:^CN=([a-z0-9-]+),O=([a-z]{2})$/$2.$1/,"
    rf"RULE:^CN=(node-[0-9]+|{ADMIN}),O={ORGANIZATION}$/$1/"
)
"""`ssl.principal.mapping.rules`. There is no DEFAULT: another subject is nobody, and its connection is refused."""

AUTHORITY_S = 10 * 365 * 86_400
CERTIFICATE_S = 397 * 86_400
"""Of nodes, agencies and the administrator."""
RENEW_S = 30 * 86_400
"""A certificate with less than this left is issued again."""
_CLOCKS_S = 3600
"""Certificates count from an hour ago: clocks differ."""
_PRINCIPAL = re.compile(r"([a-z]{2})\.(.+)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files with which a client proves who it is (PEM)."""

    ca: Path
    certificate: Path
    key: Path
    expires: int


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, PEM, with the authority that vouches for it."""

    certificate: bytes
    key: bytes
    expires: int


def principal_of(agency: str) -> str:
    """`bi/iom` -> `bi.iom`, the name in ACLs and of folders. Raises ValueError: not an agency's id."""
    if not is_agency(agency):
        raise ValueError("not an agency's id")
    return agency.replace("/", ".")


def agency_of(principal: str) -> str:
    """`bi.iom` -> `bi/iom`. Raises ValueError: not an agency's principal."""
    found = _PRINCIPAL.fullmatch(principal)
    if found is None or not is_agency(f"{found[1]}/{found[2]}"):
        raise ValueError("not an agency's principal")
    return f"{found[1]}/{found[2]}"


class Authority:
    """A cluster's own certificate authority. Who reads its key can be anybody on this cluster."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def make(cls, cluster_id: str, now: float) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(ORGANIZATION, f"authority {cluster_id}")
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _dated(name, name, key.public_key(), now, AUTHORITY_S)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Authority:
        """Raises ValueError: not an authority's certificate and its key."""
        held, vouched = serialization.load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)
        if isinstance(held, ec.EllipticCurvePrivateKey) and vouched.public_key() == held.public_key():
            return cls(vouched, held)
        raise ValueError("no P-256 key, or another's")

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    @property
    def expires(self) -> int:
        return _expires(self._certificate)

    def node(self, node_id: int, hosts: Sequence[str], now: float, lasts_s: int = CERTIFICATE_S) -> Issued:
        """For a broker or controller; `hosts` are the names and addresses by which it is reached."""
        return self._issue(ORGANIZATION, f"node-{node_id}", now, lasts_s, hosts)

    def admin(self, now: float, lasts_s: int = CERTIFICATE_S) -> Issued:
        """For the operator's administration of topics and ACLs."""
        return self._issue(ORGANIZATION, ADMIN, now, lasts_s)

    def agency(self, agency: str, now: float, lasts_s: int = CERTIFICATE_S) -> Issued:
        """For an agency, `bi/iom`. Raises ValueError: not an agency's id."""
        domain, _, name = principal_of(agency).partition(".")
        return self._issue(domain, name, now, lasts_s)

    def agency_from_request(self, agency: str, request: bytes, now: float, lasts_s: int = CERTIFICATE_S) -> bytes:
        """The certificate, PEM, for a key that never left the agency: `request` is its PKCS#10 request (RFC 2986).

        The subject is ours, whatever the request asks for; only its public key is taken.

        Raises:
            ValueError: not an agency's id, no request, its signature is wrong, or its key is not P-256.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            public = asked.public_key()
        except ValueError:
            raise ValueError("not a request") from None
        domain, _, name = principal_of(agency).partition(".")
        if (
            isinstance(public, ec.EllipticCurvePublicKey)
            and isinstance(public.curve, ec.SECP256R1)
            and asked.is_signature_valid
        ):
            signed = self._sign(_name(domain, name), public, now, lasts_s, ())
            return signed.public_bytes(serialization.Encoding.PEM)
        raise ValueError("not a request for a P-256 key, or its signature is wrong")

    def _issue(self, organization: str, common: str, now: float, lasts_s: int, hosts: Sequence[str] = ()) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(organization, common), key.public_key(), now, lasts_s, hosts)
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM),
            _key_pem(key),
            _expires(certificate),
        )

    def _sign(
        self, name: x509.Name, public: ec.EllipticCurvePublicKey, now: float, lasts_s: int, hosts: Sequence[str]
    ) -> x509.Certificate:
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if hosts:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _dated(name, self._certificate.subject, public, now, lasts_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def expires(certificate: bytes) -> int:
    """When a PEM certificate ends. Raises ValueError: not a certificate."""
    return _expires(x509.load_pem_x509_certificate(certificate))


def write_file(path: Path, data: bytes) -> None:
    """A file for this user only (0600), durable, the old one or the new one and never half of either."""
    replace_file(path, data, 0o600)


def _name(organization: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _dated(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: float, lasts_s: int
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(seconds=_CLOCKS_S))
        .not_valid_after(moment + timedelta(seconds=lasts_s))
    )


def _expires(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
