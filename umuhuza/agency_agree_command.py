# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency agree`: an agency signs a protocol of its own country, or ends one.

    one agency      agency agree foyer-oim.json         (reads it, signs, the signature is in the file)
    the other       agency agree foyer-oim.json         (the same file, brought over)
    a holder        registry agree foyer-oim --file foyer-oim.json
    either, later   agency agree foyer-oim --end        (foyer-oim.json with its ending, for a holder)

What is signed is read from the file once; if the file is another when the signature is to be put into it, nothing is
written. If we crash before the file is replaced nothing has happened. Must never: sign what was not shown, or what a
signature in the file is not about; change a term.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import orjson
import typer

from schemas.agreement_text import read_aloud
from schemas.agreements import Agreement, agreement_from_json, agreement_to_json, terms_of
from schemas.errors import RegistryError
from schemas.protocols import digest_of, read_signature, sign_protocol, standing
from schemas.registry import Registry
from schemas.spoken import require_same
from topics.durable_file import replace_file
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.agreement_command import names_in, read_agreement_json, words_lines
from umuhuza.asking import line
from umuhuza.options import Folder, Json
from umuhuza.registry_words import protocol_json, protocol_line
from umuhuza.words import language, result, say, t


def agree(
    what: Annotated[
        str,
        typer.Argument(
            help=t(
                "Fichier du protocole, ou son nom au registre.", "The protocol's file, or its name in the registry."
            ),
            metavar="FILE|NAME",
        ),
    ],
    folder: Folder,
    name: Annotated[
        str | None, typer.Option(help=t("Son nom, si le fichier en porte un autre.", "Its name, if not the file's."))
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Les douze mots du texte que vous avez lu ; sinon ils sont demandés.",
                "The twelve words of the text that you have read; else they are asked for.",
            )
        ),
    ] = None,
    end: Annotated[
        bool, typer.Option("--end", help=t("Y met fin, sans l'autre.", "End it, without the other."))
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help=t("Fichier à écrire (le même, ou NOM.json).", "File to write (the same, or NAME.json).")),
    ] = None,
    as_json: Json = False,
) -> None:
    file = out or (Path(what) if Path(what).is_file() else Path(f"{what}.json"))
    if out is None and file.exists() and not Path(what).is_file():
        raise typer.BadParameter(
            t(f"{file.name} existe déjà : nommez un autre fichier", f"{file.name} is there already: name another file"),
            param_hint="--out",
        )
    with opened_agency(folder) as parts:
        registry, agency = parts.registry(), parts.settings.agency
        read = functools.partial(_read, what, name, registry)
        protocol = read()
        if protocol.crosses or agency not in protocol.agencies:
            raise typer.BadParameter(
                t(f"ce n'est pas un protocole de {agency}", f"this is no protocol of {agency}"), param_hint="FILE|NAME"
            )
        _require_same_signed(protocol, registry)
        text = [*read_aloud(protocol, language(), names_in(registry)), *words_lines(protocol)]
        if words is None:
            for row in text:
                say(row)
            words = line(_question(agency, end=end))
        if not words:
            raise typer.BadParameter(
                t("les douze mots du texte lu", "the twelve words of the text that was read"), param_hint="--words"
            )
        require_same("agreement", terms_of(protocol), words)
        key = parts.keys.sig
        signed = _with_word(protocol, parts, registry, end=end)
    if read() != protocol:
        raise RegistryError("protocol_changed", "file")
    replace_file(file, orjson.dumps(agreement_to_json(signed), option=orjson.OPT_INDENT_2) + b"\n")
    found = standing(signed, registry.agencies, training=registry.training)
    digest = digest_of(protocol)
    result(
        {"ok": True, "file": str(file), "name": protocol.name, "agency": agency, "kid": key.kid, "sha256": digest}
        | protocol_json(found),
        as_json=as_json,
        lines=[
            t(
                f"{'Fin signée' if end else 'Signé'} par {agency}, clé {key.kid} : {protocol.name}, SHA-256 {digest}",
                f"{'Ending signed' if end else 'Signed'} by {agency}, key {key.kid}: {protocol.name}, SHA-256 {digest}",
            ),
            protocol_line(found),
            _next(file, protocol.name, carry=bool(found.lacking) and not end),
        ],
    )


def _read(what: str, name: str | None, registry: Registry) -> Agreement:
    """Raises RegistryError `registry_invalid`, typer.BadParameter."""
    held = registry.protocols.get(what)
    if held is not None:
        return held.terms
    file = Path(what)
    if not file.is_file():
        raise typer.BadParameter(
            t("ni fichier ni protocole du registre", "neither a file nor a protocol of the registry"),
            param_hint="FILE|NAME",
        )
    return agreement_from_json(read_agreement_json(file), name or file.stem, registry.domain)


def _require_same_signed(protocol: Agreement, registry: Registry) -> None:
    """Whoever signed before signed these terms; one whose key was revoked since has to sign again, no more.

    Raises:
        RegistryError: protocol_changed.
        RecordError: as `schemas.protocols.read_signature`.
    """
    for signature in protocol.signatures:
        try:
            read_signature(signature, protocol, registry.agencies, training=registry.training)
        except RegistryError as exc:
            if exc.code == "protocol_changed":
                raise


def _with_word(protocol: Agreement, parts: AgencyParts, registry: Registry, *, end: bool) -> Agreement:
    """With this agency's signature or ending.

    Raises:
        RegistryError: key_unknown, key_revoked, protocol_ended (it has done so before).
        KeyStoreError, SettingsError: its key cannot be opened.
    """
    key, agency, now = parts.keys.sig, parts.settings.agency, int(parts.now())
    registry.new_signing_key(agency, key.kid, now)
    found = standing(protocol, registry.agencies, training=registry.training)
    if agency in found.ended_by:
        raise RegistryError("protocol_ended", f"agreement.{agency}")
    if not end and agency not in found.lacking:
        return protocol
    word = sign_protocol(protocol, agency, now, key, training=registry.training, ending=end)
    if end:
        return replace(protocol, endings=(*protocol.endings, word))
    # What counts no longer is not carried on: the holders refuse a file with a revoked key's signature.
    return replace(
        protocol, signatures=(*(one for one in protocol.signatures if _counts(one, protocol, registry)), word)
    )


def _counts(signature: str, protocol: Agreement, registry: Registry) -> bool:
    try:
        read_signature(signature, protocol, registry.agencies, training=registry.training)
    except RegistryError:
        return False
    return True


def _question(agency: str, *, end: bool) -> str:
    if end:
        return t(
            f"Pour y mettre fin au nom de {agency}, tapez les douze mots : ",
            f"To end it for {agency}, type the twelve words: ",
        )
    return t(
        f"Pour signer au nom de {agency}, tapez les douze mots : ", f"To sign for {agency}, type the twelve words: "
    )


def _next(file: Path, name: str, *, carry: bool) -> str:
    if carry:
        return t(
            f"À l'autre agence : umuhuza agency agree {file.name} --dir …",
            f"For the other agency: umuhuza agency agree {file.name} --dir …",
        )
    return t(
        f"Aux détenteurs du registre : umuhuza registry agree {name} --file {file.name} --dir …",
        f"For the registry's holders: umuhuza registry agree {name} --file {file.name} --dir …",
    )


def add_to(app: typer.Typer) -> None:
    """Set `agree` beside the commands of `umuhuza agency`. Harmless when it is there."""
    if any(one.callback is agree for one in app.registered_commands):
        return
    app.command(
        "agree",
        help=t(
            "Lit un protocole entre agences du pays et le signe pour la vôtre, ou y met fin.",
            "Read a protocol between agencies of the country and sign it for yours, or end it.",
        ),
    )(agree)
