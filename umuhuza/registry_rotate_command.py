# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry holder | protect | rotate | sign`: who holds the registry, and how several of them agree.

Two holders with a telephone: the first makes a change and carries `proposal.json` to the second, who looks at what it
changes (`registry show proposal.json`), hears the same fingerprint read out, and signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.agreement_text import differences as changed_members
from schemas.agreement_text import read_aloud
from schemas.agreements import Agreement
from schemas.keys import b64url, fingerprint_of
from schemas.ledgers import AnnouncedLedger
from schemas.protocols import standing
from schemas.registry import Agency
from schemas.registry_metadata import Holder, read_root
from schemas.registry_signing import Contents, contents_now, missing, read_proposal
from schemas.registry_trust import TrustedRegistry
from umuhuza.agreement_command import names_in, words_lines
from umuhuza.asking import new_passphrase
from umuhuza.holder_keys import HOLDERS, HolderKeys
from umuhuza.options import Json, NoPassphrase, require_file
from umuhuza.registry_holder import PROPOSAL_FILE, REGISTRY_FILE, change_registry, held, sign_proposal
from umuhuza.registry_words import (
    missing_words,
    passphrase_line,
    protocol_line,
    published_lines,
    read_holders,
    role_words,
    spoken,
)
from umuhuza.words import labelled, language, result, t

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def holder(
    name: Annotated[
        str,
        typer.Argument(
            help=t(
                "Nom du détenteur dans le registre, lu par tous : une fonction (cenatrap-1), pas une personne.",
                "The holder's name in the registry, read by all: an office (cenatrap-1), not a person.",
            )
        ),
    ],
    folder: Folder,
    no_passphrase: NoPassphrase = False,
    as_json: Json = False,
) -> None:
    try:
        if (folder / HOLDERS / f"{name}.key").exists():
            raise FileExistsError(name)
        key = HolderKeys(folder).make(name, None if no_passphrase else new_passphrase())
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "cette clé existe déjà ; elle n'est jamais écrasée",
                "this key is there already; it is never overwritten",
            ),
            param_hint="NAME",
        ) from None
    public = f"{name}={b64url(key.public.public)}"
    print_ = fingerprint_of(key.public.public)
    result(
        {"ok": True, "holder": public, "fingerprint": print_, "file": str(folder / HOLDERS / f"{name}.key")}
        | {"locked": not no_passphrase},
        as_json=as_json,
        lines=[
            labelled("À donner à qui crée le domaine (--holder)", "For whoever makes the domain (--holder)", public),
            labelled("Empreinte, à lire au téléphone", "Fingerprint, to be read on the telephone", print_),
            t(
                f"La clé privée est dans {folder / HOLDERS} : hors ligne, avec une copie en lieu sûr.",
                f"The private key is in {folder / HOLDERS}: off line, with a copy in a safe place.",
            ),
            *([] if no_passphrase else [passphrase_line()]),
        ],
    )


def protect(
    folder: Folder,
    name: Annotated[
        str | None,
        typer.Option(
            "--holder", help=t("Une seule clé ; sinon toutes celles d'ici.", "One key only; else all that are here.")
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    names = HolderKeys(folder).protect(name, new_passphrase)
    result(
        {"ok": True, "holders": names, "keys": "locked"},
        as_json=as_json,
        lines=[
            t(f"Clés verrouillées : {', '.join(names)}.", f"Keys locked: {', '.join(names)}."),
            passphrase_line(),
            t(
                "Les copies d'avant s'ouvrent comme avant : détruisez-les, et faites-en de nouvelles.",
                "Copies made before open as before: destroy them, and make new ones.",
            ),
        ],
    )


def rotate(
    folder: Folder,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help=t("Nouveau détenteur : nom=clé publique.", "New holder: name=public key.")),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help=t("Détenteur à retirer.", "Holder to remove."))
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=t("Combien signent un changement de détenteurs.", "How many sign a change of holders."),
        ),
    ] = None,
    members_threshold: Annotated[
        int | None,
        typer.Option(min=1, help=t("Combien signent qui est membre.", "How many sign who is a member.")),
    ] = None,
    as_json: Json = False,
) -> None:
    mine = held(folder)
    gone = set(remove or [])
    known = {one.name for one in mine.trusted.holders}
    if gone - known:
        raise typer.BadParameter(
            t("ce détenteur n'est pas du registre", "this holder is not of the registry"), param_hint="--remove"
        )
    fresh = read_holders(add or [])
    if {one.name for one in fresh} & (known - gone):
        raise typer.BadParameter(
            t("un détenteur porte déjà ce nom ; retirez-le d'abord", "a holder has this name; remove that one too"),
            param_hint="--add",
        )
    holders = [one for one in mine.trusted.holders if one.name not in gone] + fresh
    changed = change_registry(mine, holders=holders, threshold=threshold, targets_threshold=members_threshold)
    pin = held(folder).trusted.pin
    result(
        {"ok": True, "published": changed.published, "version": changed.registry.version}
        | {"missing": dict(changed.missing), "holders": [one.name for one in holders], "newest_root": pin.text},
        as_json=as_json,
        lines=published_lines(
            changed,
            t(
                f"Registre version {changed.registry.version} publié ; détenteurs : {_names(holders)}.",
                f"Registry version {changed.registry.version} published; holders: {_names(holders)}.",
            ),
            t(
                "Les installations suivent d'elles-mêmes. Pour de nouvelles, la racine peut être celle-ci : ",
                "Installations follow by themselves. New ones may be given this root: ",
            )
            + pin.text,
        ),
    )


def sign(
    proposal: Annotated[
        Path, typer.Argument(help=t("Proposition d'un autre détenteur.", "Another holder's proposal."))
    ],
    folder: Folder,
    as_json: Json = False,
) -> None:
    require_file(proposal, "PROPOSAL")
    data = proposal.read_bytes()
    change, _ = read_proposal(data)
    changed = sign_proposal(folder, data)
    root = held(folder).first_root.text if changed.published else None
    result(
        {"ok": True, "published": changed.published, "version": changed.registry.version}
        | {"missing": dict(changed.missing), "fingerprint": spoken(change), "registry_root": root}
        | ({} if changed.published else {"proposal": str(folder / PROPOSAL_FILE)}),
        as_json=as_json,
        lines=published_lines(
            changed,
            t(
                f"Registre version {changed.registry.version} publié : {folder / REGISTRY_FILE}.",
                f"Registry version {changed.registry.version} published: {folder / REGISTRY_FILE}.",
            ),
        ),
    )


def show_proposal(folder: Path, file: Path, as_json: bool) -> None:
    """What a proposal would change, before one signs it. Raises RegistryError `registry_invalid`."""
    require_file(file, "PROPOSAL")
    change, contents = read_proposal(file.read_bytes())
    before = held(folder).trusted if (folder / REGISTRY_FILE).exists() else None
    said = differences(Contents({}, {}) if before is None else contents_now(before), contents)
    old = {} if before is None else before.agreements
    if change.root is not None:
        root, holders = read_root(change.root)
        said["holders"] = [one.name for one in holders]
        said["thresholds"] = {role: one.threshold for role, one in root.signed.roles.items()}
    lacking = dict(missing(change, before))
    result(
        {
            "ok": True,
            "fingerprint": spoken(change),
            "missing": lacking,
            "builds_on_ours": _builds_on(change.base, before),
        }
        | said,
        as_json=as_json,
        lines=[
            labelled("Empreinte, à comparer au téléphone", "Fingerprint, to compare on the telephone", spoken(change)),
            *(f"  {labelled(*_SAID[word], _listed(what))}" for word, what in said.items() if what),
            *(line for name in said["agreements"] for line in _agreement(name, old.get(name), contents, before)),
            *(
                [t("Signatures qui manquent : ", "Signatures still missing: ") + missing_words(lacking)]
                if lacking
                else []
            ),
            *(
                []
                if _builds_on(change.base, before)
                else [
                    t(
                        "Attention : elle part d'une autre version du registre que la vôtre.",
                        "Beware: it builds on another version of the registry than yours.",
                    )
                ]
            ),
        ],
    )


_SAID = {
    "members_added": ("membres nouveaux", "members that come"),
    "members_removed": ("membres retirés", "members that go"),
    "members_changed": ("membres modifiés", "members that change"),
    "keys_added": ("clés nouvelles", "keys that come"),
    "keys_revoked": ("clés révoquées", "keys that are revoked"),
    "keys_restored": ("clés révoquées qui compteraient de nouveau", "revoked keys that would count again"),
    "keys_removed": ("clés retirées", "keys that go"),
    "keys_changed": ("clés modifiées", "keys that change"),
    "roles": ("rôles donnés", "roles that are given"),
    "direct": ("écriraient elles-mêmes sur Kafka", "would write to Kafka themselves"),
    "endpoints": ("adresses", "addresses"),
    "agreements": ("accords", "agreements"),
    "ledgers": ("registre de preuve annoncé", "ledger that is announced"),
    "policy": ("politique", "policy"),
    "holders": ("détenteurs", "holders"),
    "thresholds": ("signatures exigées", "signatures required"),
}


def _agreement(name: str, before: Agreement | None, after: Contents, held_now: TrustedRegistry | None) -> list[str]:
    """What becomes of an agreement: it is ended, or its whole text with what differs from the one in force."""
    agreement = after.agreements.get(name)
    if agreement is None:
        return [t(f"  {name} : fin de l'accord", f"  {name}: the agreement ends")]
    changes = [] if before is None else changed_members(before, agreement)
    return [
        *read_aloud(agreement, language(), {} if held_now is None else names_in(held_now.registry)),
        *words_lines(agreement),
        *(f"  {one.path}: {one.here or '–'} → {one.there or '–'}" for one in changes),
        *(
            []
            if agreement.crosses or held_now is None
            else [protocol_line(standing(agreement, after.agencies, training=held_now.registry.training))]
        ),
    ]


def _listed(what: object) -> str:
    if isinstance(what, dict):
        return ", ".join(f"{role_words(role)} {count}" for role, count in what.items() if role in ("root", "targets"))
    return ", ".join(map(str, what)) if isinstance(what, list) else str(what)


def differences(before: Contents, after: Contents) -> dict[str, Any]:
    """What changes: members that come, go or change, with their roles, keys that come, go, are revoked or count again,
    agreements, the policy."""
    old, new = before.agencies, after.agencies
    keys_before = {(one.id, key.kid): key for one in old.values() for key in one.keys}
    keys_after = {(one.id, key.kid): key for one in new.values() for key in one.keys}
    revoked_before, revoked_after = _revoked(old.values()), _revoked(new.values())
    return {
        "members_added": sorted(new.keys() - old.keys()),
        "members_removed": sorted(old.keys() - new.keys()),
        "members_changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
        "keys_added": [
            f"{one.id} {key.use} {fingerprint_of(key.public)}"
            for one in after.sorted()
            for key in one.keys
            if (one.id, key.kid) not in keys_before
        ],
        "keys_revoked": sorted(f"{name} {kid}" for name, kid in revoked_after - revoked_before),
        # What an honest holder hardly ever does, and a thief of one key needs: it must not hide in "changed".
        "keys_restored": sorted(f"{name} {kid}" for name, kid in revoked_before & keys_after.keys() - revoked_after),
        "keys_removed": sorted(f"{name} {kid}" for name, kid in keys_before.keys() - keys_after.keys() if name in new),
        "keys_changed": sorted(
            f"{name} {kid}"
            for name, kid in keys_before.keys() & keys_after.keys() - (revoked_before ^ revoked_after)
            if keys_before[name, kid] != keys_after[name, kid]
        ),
        "roles": [
            f"{one.id} {'+'.join(one.roles)}"
            for one in after.sorted()
            if one.id not in old or one.roles != old[one.id].roles
        ],
        "direct": [one.id for one in after.sorted() if one.direct and not (one.id in old and old[one.id].direct)],
        "endpoints": [
            f"{one.id} {name}={url}"
            for one in after.sorted()
            for name, url in one.endpoints.items()
            if one.id not in old or old[one.id].endpoints.get(name) != url
        ],
        "agreements": sorted(
            name
            for name in before.agreements.keys() | after.agreements.keys()
            if before.agreements.get(name) != after.agreements.get(name)
        ),
        "ledgers": [
            *(_announcement(one) for one in after.ledgers if one not in before.ledgers),
            # What an honest holder never does.
            *(f"– {one.origin}" for one in before.ledgers if one.origin not in {two.origin for two in after.ledgers}),
        ],
        "policy": ["policy.json"] if before.policy != after.policy else [],
    }


def _announcement(one: AnnouncedLedger) -> str:
    """Its name and keys; of a lost one also how far it was cosigned."""
    last = "" if one.last is None else f" ≤ {one.last.size}"
    return f"{one.origin}{last} {' '.join(fingerprint_of(key.public) for key in one.keys)}"


def _revoked(agencies: Iterable[Agency]) -> set[tuple[str, str]]:
    return {(one.id, key.kid) for one in agencies for key in one.keys if key.revoked is not None}


def _builds_on(base: bytes, before: TrustedRegistry | None) -> bool:
    return base == (b"" if before is None else before.digest)


def _names(holders: list[Holder]) -> str:
    return ", ".join(one.name for one in holders)


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza registry`."""
    app.command(
        help=t("Fait la clé d'un détenteur, sur sa machine.", "Make a holder's key, on that holder's machine.")
    )(holder)
    app.command(
        help=t(
            "Verrouille par une phrase de passe les clés de détenteurs qui sont ici, ou en change.",
            "Lock the holders' keys that are here with a passphrase, or change it.",
        )
    )(protect)
    app.command(
        help=t(
            "Change les détenteurs ou le nombre de signatures, ou renouvelle la racine avant son échéance.",
            "Change the holders or how many must sign, or renew the root before it ends.",
        )
    )(rotate)
    app.command(
        help=t(
            "Signe la proposition d'un autre détenteur ; publie quand il y a assez de signatures.",
            "Sign another holder's proposal; publish it once there are enough signatures.",
        )
    )(sign)
