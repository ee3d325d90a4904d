# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry agree | policy`: on what terms members exchange, signed by the holders as the members are."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from schemas.agreement_text import read_aloud
from schemas.agreements import Agreement, terms_of
from schemas.errors import RegistryError
from schemas.protocols import read_signature, standing
from schemas.registry_signing import contents_now
from schemas.registry_trust import TrustedRegistry
from schemas.spoken import require_same
from topics.policy_target import policy_document
from umuhuza import agreement_command
from umuhuza.agreement_command import names_in, read_signed_text, require_ours, words_lines
from umuhuza.options import Json, require_file
from umuhuza.registry_holder import change_registry, held
from umuhuza.registry_words import protocol_line, published_lines
from umuhuza.words import language, result, t

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def agree(
    name: Annotated[str, typer.Argument(help=t("Nom de l'accord : bi-tn-2026.", "The agreement's name: bi-tn-2026."))],
    folder: Folder,
    file: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "L'accord en JSON, comme le décrit « Format filaire » ; remplace celui du même nom.",
                "The agreement as JSON, as the wire format describes it; replaces the one of this name.",
            )
        ),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Les douze mots que l'autre partie a lus : s'ils sont d'un autre accord, rien n'est signé.",
                "The twelve words that the other side read: if they are another agreement's, nothing is signed.",
            )
        ),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help=t("Met fin à l'accord.", "End the agreement."))] = False,
    as_json: Json = False,
) -> None:
    if file is not None:
        require_file(file, "--file")
    if (file is None) is not end:
        raise typer.BadParameter(t("--file ou --end", "--file or --end"), param_hint="--file")
    mine = held(folder)
    contents = contents_now(mine.trusted)
    agreements = dict(contents.agreements)
    text: list[str] = []
    if file is None:
        if agreements.pop(name, None) is None:
            raise typer.BadParameter(
                t("aucun accord de ce nom n'est au registre", "no agreement of this name is in the registry"),
                param_hint="NAME",
            )
    else:
        agreement = read_signed_text(file, name, mine.registry.domain)
        require_ours(agreement, mine.trusted)
        if words is not None:
            require_same("agreement", terms_of(agreement), words)
        if not agreement.crosses:
            agreement = _signed(agreement, mine.trusted)
        agreements[name] = agreement
        text = [*read_aloud(agreement, language(), names_in(mine.registry)), *words_lines(agreement)]
        if not agreement.crosses:
            text.append(protocol_line(standing(agreement, mine.registry.agencies, training=mine.registry.training)))
    changed = change_registry(mine, replace(contents, agreements=agreements))
    version = changed.registry.version
    result(
        {"ok": True, "published": changed.published, "version": version, "agreements": sorted(agreements)},
        as_json=as_json,
        lines=[
            *text,
            *published_lines(
                changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
            ),
        ],
    )


def _signed(protocol: Agreement, mine: TrustedRegistry) -> Agreement:
    """The protocol as it may be published: signed by every agency that it binds, each with a key that counts now, or
    ended by one of them. What ended these terms once stays beside them.

    Raises:
        RegistryError: protocol_unsigned (path: whose signature is missing), protocol_changed, protocol_ended,
            key_revoked, key_unknown.
        RecordError: as `schemas.protocols.read_signature`.
    """
    registry, now = mine.registry, int(time.time())
    before = mine.agreements.get(protocol.name)
    same = before is not None and terms_of(before) == terms_of(protocol)
    known = before.endings if before is not None and same else ()
    for lines, ending in ((protocol.signatures, False), (protocol.endings, True)):
        for line in lines:
            if line in known:
                continue
            by = read_signature(line, protocol, registry.agencies, training=registry.training, ending=ending)
            registry.new_signing_key(by.agency, by.kid, now)
    protocol = replace(protocol, endings=tuple(dict.fromkeys((*known, *protocol.endings))))
    found = standing(protocol, registry.agencies, training=registry.training)
    if found.ended_by and (not same or known):
        raise RegistryError("protocol_ended", f"agreement.{found.ended_by[0]}")
    if found.lacking and not found.ended_by:
        raise RegistryError("protocol_unsigned", f"agreement.{found.lacking[0]}")
    return protocol


def policy(folder: Folder, as_json: Json = False) -> None:
    mine = held(folder)
    changed = change_registry(mine, replace(contents_now(mine.trusted), policy=policy_document()))
    version = changed.registry.version
    result(
        {"ok": True, "published": changed.published, "version": version},
        as_json=as_json,
        lines=published_lines(
            changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
        ),
    )


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza registry`."""
    agreement_command.add_to(app)
    app.command(
        help=t(
            "Inscrit un accord entre pays, ou un protocole entre agences, ou y met fin.",
            "Enter an agreement between countries, or a protocol between agencies, or end it.",
        )
    )(agree)
    app.command(
        help=t(
            "Inscrit la politique de cette installation comme celle du domaine : qui en applique une autre le saura.",
            "Enter this installation's policy as the domain's: whoever applies another one will know.",
        )
    )(policy)
