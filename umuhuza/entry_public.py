# SPDX-License-Identifier: Apache-2.0
"""What a holder enters of an agency beside its request: where it answers, and the keys of its TLS certificates.

Both are public, and nobody has to have them. They are the holder's word, checked on the telephone like the rest. Must
never enter an address of a protected place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.errors import RegistryError
from schemas.registry import Agency, Key, agency_from_json, agency_to_json, tls_key
from umuhuza.words import t

_MAX_BYTES = 256 * 1024

Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        help=t(
            "Adresse où l'agence répond : gateway=https://… ou witness=https://… ; plusieurs fois possible.",
            "Address at which the agency answers: gateway=https://… or witness=https://…; may be repeated.",
        )
    ),
]
TlsCertificate = Annotated[
    list[Path] | None,
    typer.Option(
        help=t(
            "Certificat TLS de l'agence (PEM) : le registre en garde l'empreinte de clé ; plusieurs fois possible.",
            "TLS certificate of the agency (PEM): the registry keeps its key's pin; may be repeated.",
        )
    ),
]


def with_public(agency: Agency, endpoints: Sequence[str] | None, certificates: Sequence[Path] | None) -> Agency:
    """The entry with these; an endpoint replaces the one of its name, a TLS key comes beside those that are there.

    Raises:
        typer.BadParameter: not name=URL; a file that is no certificate.
        RegistryError: registry_invalid: an unknown name, a URL that is none, an address of a protected place.
    """
    known = {key.kid for key in agency.keys}
    keys = [key for file in certificates or () for key in _keys_in(file)]
    fresh = tuple({key.kid: key for key in keys if key.kid not in known}.values())
    named = {**agency.endpoints, **dict(map(_named, endpoints or ()))}
    entry = replace(agency, keys=(*agency.keys, *fresh), endpoints=MappingProxyType(named))
    return agency_from_json(agency_to_json(entry))


def _named(text: str) -> tuple[str, str]:
    name, is_there, url = text.partition("=")
    if not is_there:
        raise typer.BadParameter(t("attendu nom=adresse", "expected name=address"), param_hint="--endpoint")
    return name, url


def _keys_in(file: Path) -> list[Key]:
    """Of the first certificate in a PEM file: the server's own, before those that signed it."""
    try:
        with file.open("rb") as stream:
            [certificate, *_] = x509.load_pem_x509_certificates(stream.read(_MAX_BYTES))
    except (OSError, ValueError):
        raise typer.BadParameter(
            t("ce n'est pas un certificat PEM", "not a PEM certificate"), param_hint="--tls-certificate"
        ) from None
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    begins, ends = (int(at.timestamp()) for at in (certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    if ends <= begins:
        raise RegistryError("registry_invalid", "agency.keys.expires")
    return [tls_key(spki, begins, ends)]
