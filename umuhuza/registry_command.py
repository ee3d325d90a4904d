# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry`: who is a member of the domain, with which keys. Held by the domain's registry holder.

The folder holds `domain.key` (the domain's private key: keep it off line, mode 0600) and `registry.jws` (the signed
file that everybody reads).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.keystore import write_private
from schemas.enrolment import MAX_BYTES, Request, read_request
from schemas.errors import RegistryError
from schemas.keys import SigningKey, b64url, fingerprint_of, unb64url
from schemas.registry import (
    Agency,
    Registry,
    empty_registry,
    read_registry,
    sign_registry,
)
from topics.registry_file import replace_registry_file
from topics.settings import SettingsError
from umuhuza.options import Json
from umuhuza.words import result, t, table

app = typer.Typer(
    no_args_is_help=True,
    help=t("Le registre du domaine : qui, avec quelles clés.", "The domain's registry: who, with which keys."),
)

KEY_FILE = "domain.key"
REGISTRY_FILE = "registry.jws"

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def init_registry(folder: Path, domain: str, training: bool) -> tuple[Registry, SigningKey]:
    """Make a domain: its key and an empty registry. Raises FileExistsError rather than overwrite a key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = SigningKey.generate(os.urandom)
    write_private(folder / KEY_FILE, b64url(key.private_bytes()) + "\n")
    registry = empty_registry(domain, int(time.time()), training)
    replace_registry_file(folder / REGISTRY_FILE, sign_registry(registry, key))
    return registry, key


def held(folder: Path) -> tuple[Registry, SigningKey]:
    """The registry and the key that signs it.

    Raises:
        SettingsError: there is no registry in this folder.
        RegistryError: registry_invalid.
    """
    if not (folder / KEY_FILE).exists() and not (folder / REGISTRY_FILE).exists():
        raise SettingsError("no registry in this folder", "pas de registre dans ce dossier")
    try:
        key = SigningKey.from_scalar(unb64url((folder / KEY_FILE).read_text(encoding="ascii").strip()))
        return read_registry((folder / REGISTRY_FILE).read_bytes(), key.public), key
    except (OSError, ValueError):
        raise RegistryError("registry_invalid", "dir") from None


def publish(folder: Path, registry: Registry, key: SigningKey) -> None:
    """Replace the signed file, durably and at once."""
    replace_registry_file(folder / REGISTRY_FILE, sign_registry(registry, key))


def read_enrolment(file: Path) -> Agency:
    """An agency's request file. Raises RegistryError `registry_invalid`."""
    return read_enrolment_request(file).agency


def read_enrolment_request(file: Path) -> Request:
    """A request file with all that it says. Raises RegistryError `registry_invalid`."""
    try:
        with file.open("rb") as stream:
            return read_request(stream.read(MAX_BYTES + 1))
    except OSError:
        raise RegistryError("registry_invalid", "file") from None


def add_agency(folder: Path, agency: Agency, direct: bool | None = None) -> Registry:
    """Sign the next version with this agency in it.

    An agency that is known keeps the keys that its request does not repeat: a new sealing key must not make what was
    sealed to the old one unverifiable. Whether it writes to the brokers itself is the operator's word, never its
    request's: None leaves it as it was, and a new agency does not.

    Raises:
        RegistryError: registry_invalid (agency of another domain, a key that another agency holds).
    """
    registry, key = held(folder)
    if agency.id.partition("/")[0] != registry.domain:
        raise RegistryError("registry_invalid", "agency.id", expected=registry.domain)
    others = {k.kid for other in registry.agencies.values() if other.id != agency.id for k in other.keys}
    if others & {k.kid for k in agency.keys}:
        raise RegistryError("registry_invalid", "agency.keys")
    known = registry.agencies.get(agency.id)
    if known is not None:
        fresh = {k.kid for k in agency.keys}
        kept = tuple(k for k in known.keys if k.kid not in fresh)
        revoked = {k.kid: k for k in known.keys if k.revoked is not None}
        keys = kept + tuple(revoked.get(k.kid, k) for k in agency.keys)
        agency = Agency(agency.id, agency.names, agency.roles, keys, agency.protected)
    if direct is None:
        direct = known is not None and known.direct
    agency = replace(agency, direct=direct)
    registry = registry.with_agency(agency, int(time.time()))
    publish(folder, registry, key)
    return registry


def revoke_keys(folder: Path, agency: str, kids: Sequence[str]) -> Registry:
    """Sign the next version, in which these keys count for nothing signed from now on.

    Raises:
        RegistryError: agency_unknown, key_unknown.
    """
    registry, key = held(folder)
    now = int(time.time())
    for one in kids:
        registry = registry.with_key_revoked(agency, one, now)
    publish(folder, registry, key)
    return registry


@app.command(help=t("Crée un domaine : sa clé et un registre vide.", "Make a domain: its key and an empty registry."))
def init(
    folder: Folder,
    domain: Annotated[str, typer.Option(help=t("Code du domaine : bi, tn.", "The domain's code: bi, tn."))],
    training: Annotated[
        bool,
        typer.Option(
            "--training",
            help=t("Domaine de formation, jamais mêlé à la production.", "For training, never mixed with production."),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    if len(domain) != 2 or not domain.isascii() or not domain.isalpha() or not domain.islower():
        raise typer.BadParameter(
            t("deux lettres minuscules, comme bi", "two small letters, such as bi"), param_hint="--domain"
        )
    try:
        _, key = init_registry(folder, domain, training)
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "une clé de domaine s'y trouve déjà ; elle n'est jamais écrasée",
                "a domain key is there already; it is never overwritten",
            ),
            param_hint="--dir",
        ) from None
    public = key.public.public
    result(
        {"ok": True, "domain": domain, "registry_key": b64url(public), "fingerprint": fingerprint_of(public)},
        as_json=as_json,
        lines=[
            t(f"Domaine {domain} créé dans {folder}.", f"Domain {domain} made in {folder}."),
            t("Clé publique (registry_key) : ", "Public key (registry_key): ") + b64url(public),
            t("Empreinte, à lire au téléphone : ", "Fingerprint, to be read on the telephone: ")
            + fingerprint_of(public),
            t(
                f"Gardez {KEY_FILE} hors ligne, avec une copie en lieu sûr : qui la détient décide qui est membre.",
                f"Keep {KEY_FILE} off line, with a copy in a safe place: who holds it decides who is a member.",
            ),
        ],
    )


@app.command(
    help=t("Ajoute ou met à jour une agence d'après sa demande.", "Add or renew an agency from its request file.")
)
def add(
    request: Annotated[
        Path,
        typer.Argument(help=t("Demande de l'agence (inscription.json).", "The agency's request (inscription.json).")),
    ],
    folder: Folder,
    direct: Annotated[
        bool | None,
        typer.Option(
            "--direct/--no-direct",
            help=t(
                "L'agence écrit elle-même sur Kafka (sinon comme avant ; nouvelle : par la passerelle).",
                "The agency writes to Kafka itself (else as before; a new one: through the gateway).",
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    if not request.is_file():
        raise typer.BadParameter(t("ce fichier n'existe pas", "there is no such file"), param_hint="REQUEST")
    agency = read_enrolment(request)
    registry = add_agency(folder, agency, direct)
    writes = registry.agency(agency.id).direct
    prints = {key.kid: fingerprint_of(key.public) for key in agency.keys}
    result(
        {"ok": True, "agency": agency.id, "version": registry.version, "direct": writes, "fingerprints": prints},
        as_json=as_json,
        lines=[
            t(
                f"{agency.id} est au registre (version {registry.version}).",
                f"{agency.id} is in the registry (version {registry.version}).",
            ),
            *(
                [
                    t(
                        "Elle écrit elle-même sur Kafka : lancez umuhuza kafka up, qui lui en donne les droits.",
                        "It writes to Kafka itself: run umuhuza kafka up, which gives it the rights.",
                    )
                ]
                if writes
                else []
            ),
            t("Comparez au téléphone avec l'agence :", "Compare on the telephone with the agency:"),
            *(f"  {key.use:4}  {prints[key.kid]}" for key in agency.keys),
        ],
    )


@app.command(
    help=t(
        "Révoque les clés d'une agence : rien de signé ensuite n'est accepté.",
        "Revoke an agency's keys: nothing signed afterwards is accepted.",
    )
)
def revoke(
    agency: Annotated[str, typer.Argument(help=t("Identifiant de l'agence : bi/iom.", "The agency's id: bi/iom."))],
    folder: Folder,
    kid: Annotated[str | None, typer.Option(help=t("Une seule clé ; sinon toutes.", "One key only; else all."))] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    registry, _ = held(folder)
    kids = [k.kid for k in registry.agency(agency).keys if k.revoked is None and kid in (None, k.kid)]
    if not kids:
        raise RegistryError("key_unknown", "kid")
    if not dry_run:
        registry = revoke_keys(folder, agency, kids)
    result(
        {"ok": True, "agency": agency, "revoked": kids, "version": registry.version, "dry_run": dry_run},
        as_json=as_json,
        lines=[
            *(
                t(f"Clé qui serait révoquée : {one}", f"Key that would be revoked: {one}")
                if dry_run
                else t(f"Clé révoquée : {one}", f"Key revoked: {one}")
                for one in kids
            ),
            t("Rien n'a été changé (--dry-run).", "Nothing was changed (--dry-run).")
            if dry_run
            else t(f"Registre version {registry.version} publié.", f"Registry version {registry.version} published."),
        ],
    )


@app.command(
    help=t(
        "Publie de nouveau le registre, daté d'aujourd'hui (à faire tous les 30 jours au plus).",
        "Publish the registry again, dated today (every 30 days at most).",
    )
)
def renew(folder: Folder, as_json: Json = False) -> None:
    registry, key = held(folder)
    registry = registry.renewed(int(time.time()))
    publish(folder, registry, key)
    result(
        {"ok": True, "version": registry.version},
        as_json=as_json,
        lines=[t(f"Registre version {registry.version} publié.", f"Registry version {registry.version} published.")],
    )


@app.command(help=t("Montre les membres, leurs rôles et leurs clés.", "Show the members, their roles and keys."))
def show(folder: Folder, as_json: Json = False) -> None:
    registry, key = held(folder)
    now = int(time.time())
    agencies = [_shown(agency, now) for agency in registry.agencies.values()]
    if as_json:
        result(
            {
                "ok": True,
                "domain": registry.domain,
                "version": registry.version,
                "issued": registry.issued,
                "training": registry.training,
                "stale": registry.is_stale(now),
                "registry_key": b64url(key.public.public),
                "agencies": agencies,
            },
            as_json=True,
        )
        return
    issued = datetime.fromtimestamp(registry.issued, UTC).strftime("%Y-%m-%d %H:%M UTC")
    table(
        t(
            f"Domaine {registry.domain}, version {registry.version}, du {issued}",
            f"Domain {registry.domain}, version {registry.version}, of {issued}",
        ),
        (
            t("Agence", "Agency"),
            t("Nom", "Name"),
            t("Rôles", "Roles"),
            t("Clés valables", "Keys that count"),
            t("Révoquées", "Revoked"),
        ),
        [
            (
                agency["id"],
                agency["name"],
                ", ".join(agency["roles"]),
                str(sum(k["counts"] for k in agency["keys"])),
                str(sum(k["revoked"] is not None for k in agency["keys"])),
            )
            for agency in agencies
        ],
    )


def _shown(agency: Agency, now: int) -> dict[str, Any]:
    return {
        "id": agency.id,
        "name": agency.name(t("fr", "en")),
        "protected": agency.protected,
        "direct": agency.direct,
        "roles": list(agency.roles),
        "keys": [
            {
                "kid": key.kid,
                "use": key.use,
                "suite": key.suite,
                "fingerprint": fingerprint_of(key.public),
                "expires": key.expires,
                "revoked": key.revoked,
                "counts": key.counts_at(now),
            }
            for key in agency.keys
        ],
    }
