# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry approve`, `words`: the registry holder's half of an enrolment by telephone.

The holder types the twelve words that she hears; the program compares them with the file. It never shows them first:
whoever approves has to have heard them from a person. A request that says `lost` revokes the agency's
earlier keys and adds the new ones in one version: if we crash before it is published, the command is given again.

Must never: approve without the words; let a request change what an agency is when it has only lost its keys.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from schemas.enrolment import Request
from schemas.errors import RegistryError
from schemas.keys import CLASSICAL
from schemas.registry import Agency, Registry
from schemas.spoken import WORDS, fingerprint_words, grouped
from umuhuza.asking import line
from umuhuza.entry_public import Endpoint, TlsCertificate, with_public
from umuhuza.options import Json, require_file
from umuhuza.registry_holder import change_agencies, held, read_enrolment_request, with_request
from umuhuza.registry_words import published_lines
from umuhuza.words import language, result, say, t

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def approve(
    request: Annotated[
        Path,
        typer.Argument(help=t("Demande de l'agence (inscription.json).", "The agency's request (inscription.json).")),
    ],
    folder: Folder,
    words: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Les douze mots entendus ; sans cela ils sont demandés. Accents et fins de mots inutiles.",
                "The twelve words that you heard; else they are asked for. Four letters of each will do.",
            )
        ),
    ] = None,
    hardware_suite: Annotated[
        bool,
        typer.Option(
            "--hardware-suite",
            help=t(
                "Admettre une clé de scellement P-256 (dispositif) : elle ne résiste pas à un ordinateur quantique.",
                "Allow a P-256 sealing key (a device): it does not withstand a quantum computer.",
            ),
        ),
    ] = False,
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
    endpoint: Endpoint = None,
    tls_certificate: TlsCertificate = None,
    as_json: Json = False,
) -> None:
    require_file(request, "REQUEST")
    asked = read_enrolment_request(request)
    mine = held(folder)
    registry = mine.registry
    agency = _as_known(asked, registry)
    if not hardware_suite and any(one.suite == CLASSICAL for one in agency.keys):
        raise typer.BadParameter(
            t(
                "les clés de cette demande sont d'un dispositif (P-256) : ajoutez cette option si vous l'admettez",
                "the keys of this request are a device's (P-256): add this option if you allow it",
            ),
            param_hint="--hardware-suite",
        )
    gone = _earlier(agency, registry) if asked.lost else []
    if words is None:
        for told in _shown(asked, agency, registry):
            say(told)
        words = line(t("Les douze mots entendus : ", "The twelve words that you heard: "))
    if not words:
        raise typer.BadParameter(t("il faut les douze mots", "the twelve words are needed"), param_hint="--words")
    try:
        asked.require_words(words)
    except RegistryError as exc:
        if exc.path is not None or exc.code != "words_misheard":
            raise
        raise typer.BadParameter(
            t(
                f"il faut les {WORDS} mots, ni plus ni moins ; rien n'a été changé",
                f"all {WORDS} words are needed, no more and no less; nothing was changed",
            ),
            param_hint="--words",
        ) from None

    def approved(registry: Registry, now: int) -> Registry:
        for one in gone:
            registry = registry.with_key_revoked(agency.id, one, now)
        entry = with_public(with_request(registry, agency, direct), endpoint, tls_certificate)
        return registry.with_agency(entry, now)

    changed = change_agencies(mine, approved)
    version, entry = changed.registry.version, changed.registry.agencies.get(agency.id)
    domain = fingerprint_words("registry", mine.first_root.digest, language())
    result(
        {
            "ok": True,
            "agency": agency.id,
            "version": version,
            "published": changed.published,
            "lost": asked.lost,
            "revoked": gone,
            "direct": entry is not None and entry.direct,
        },
        as_json=as_json,
        lines=[
            *published_lines(
                changed,
                t(
                    f"Ce sont les mots de la demande : {agency.id} est au registre (version {version}).",
                    f"They are the request's words: {agency.id} is in the registry (version {version}).",
                ),
            ),
            *([t(f"Clés révoquées : {len(gone)}", f"Keys revoked: {len(gone)}")] if gone else []),
            t("Lisez à l'agence les mots du domaine :", "Read the domain's words to the agency:"),
            *(f"    {row}" for row in grouped(domain)),
            t(
                "Publiez ensuite registry.json là où la passerelle le lit.",
                "Then put registry.json where the gateway reads it.",
            ),
        ],
    )


def words(folder: Folder, as_json: Json = False) -> None:
    root = held(folder).first_root.digest
    result(
        {
            "ok": True,
            "words": {
                "fr": list(fingerprint_words("registry", root, "fr")),
                "en": list(fingerprint_words("registry", root, "en")),
            },
        },
        as_json=as_json,
        lines=[
            t("Les mots du domaine, à lire au téléphone :", "The domain's words, to be read on the telephone:"),
            *(f"    {row}" for row in grouped(fingerprint_words("registry", root, language()))),
        ],
    )


def _as_known(asked: Request, registry: Registry) -> Agency:
    """Who lost her keys is who she was: only the keys of her request count. Raises RegistryError `agency_unknown`."""
    if not asked.lost:
        return asked.agency
    return replace(registry.agency(asked.agency.id), keys=asked.agency.keys)


def _earlier(agency: Agency, registry: Registry) -> list[str]:
    """Keys of the agency that nobody has revoked yet and that the request does not name."""
    named = {key.kid for key in agency.keys}
    known = registry.agencies.get(agency.id)
    return [] if known is None else [key.kid for key in known.keys if key.revoked is None and key.kid not in named]


def _shown(asked: Request, agency: Agency, registry: Registry) -> list[str]:
    """What is about to be signed, for the holder to compare with what she is told on the telephone."""
    earlier = len(_earlier(agency, registry))
    if asked.lost:
        what = t(
            f"{agency.id} a perdu ses clés : {earlier} clé(s) seront révoquées, celles-ci les remplacent.",
            f"{agency.id} has lost its keys: {earlier} key(s) will be revoked, these take their place.",
        )
    elif agency.id in registry.agencies:
        what = t(
            f"{agency.id} est déjà membre : ces clés s'ajoutent aux {earlier} qu'elle garde.",
            f"{agency.id} is a member already: these keys come beside the {earlier} that it keeps.",
        )
    else:
        what = t(f"Nouveau membre : {agency.id}", f"New member: {agency.id}")
    return [
        what,
        t("  nom : ", "  name: ") + agency.names["fr"],
        t("  rôles : ", "  roles: ") + ", ".join(agency.roles),
        *(f"  {name}: {url}" for name, url in agency.endpoints.items()),
        *([t("  lieu protégé", "  protected place")] if agency.protected else []),
        t(
            "Appelez l'agence à un numéro que vous connaissiez déjà, et faites-vous lire les douze mots.",
            "Call the agency at a number that you knew before, and have the twelve words read to you.",
        ),
    ]


def add_to(app: typer.Typer) -> None:
    """The commands, in the language of this process."""
    app.command(
        name="approve",
        help=t(
            "Inscrit une agence d'après sa demande, une fois les douze mots entendus au téléphone.",
            "Enrol an agency from its request, once the twelve words were heard on the telephone.",
        ),
    )(approve)
    app.command(
        name="words",
        help=t("Les douze mots du domaine, à lire aux agences.", "The domain's twelve words, to be read to agencies."),
    )(words)
