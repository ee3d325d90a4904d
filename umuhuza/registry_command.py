# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry`: who is a member of the domain, with which keys. For the domain's registry holders.

What the folder holds stands in `umuhuza/registry_holder.py`. A change is published when enough holders have signed it;
until then it waits in `proposal.json`, and the command says who has still to sign and what to compare on the telephone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import RegistryError
from schemas.keys import fingerprint_of
from schemas.ledgers import number_in, origin_of
from schemas.registry import Agency, Registry
from schemas.registry_bundle import RootPin
from schemas.registry_trust import TrustedRegistry
from topics.policy_target import same_policy
from umuhuza import registry_carry_command, registry_ledger_command, registry_rotate_command, registry_terms_command
from umuhuza.asking import new_passphrase
from umuhuza.entry_public import Endpoint, TlsCertificate, with_public
from umuhuza.holder_keys import HOLDERS
from umuhuza.options import Json, NoPassphrase, one_of, require_file
from umuhuza.registry_holder import (
    HOLDERS_OF_PRODUCTION,
    Changed,
    change_agencies,
    change_registry,
    found_domain,
    held,
    init_registry,
    read_enrolment,
    with_request,
)
from umuhuza.registry_words import (
    day,
    ending_line,
    ledger_line,
    passphrase_line,
    protocol_json,
    protocol_line,
    published_lines,
    read_holders,
    waiting_lines,
)
from umuhuza.words import labelled, result, t, table

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


@app.command(
    help=t(
        "Crée un domaine : ses détenteurs et un registre vide. Sans --holder, les clés sont faites ici : trois, dont "
        "deux doivent signer pour changer de détenteurs ; une seule pour la formation.",
        "Make a domain: its holders and an empty registry. Without --holder the keys are made here: three, of which "
        "two must sign a change of holders; one alone for training.",
    )
)
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
    holder: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Détenteur dont la clé est faite ailleurs : nom=clé publique ; plusieurs fois possible.",
                "Holder whose key was made elsewhere: name=public key; may be repeated.",
            )
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=t(
                "Combien de détenteurs signent un changement de détenteurs (2 par défaut).",
                "How many holders sign a change of holders (default: 2).",
            ),
        ),
    ] = None,
    members_threshold: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=t(
                "Combien de détenteurs signent qui est membre (par défaut : 2 avec plusieurs --holder, sinon 1).",
                "How many holders sign who is a member (default: 2 with several --holder, else 1).",
            ),
        ),
    ] = None,
    no_passphrase: NoPassphrase = False,
    as_json: Json = False,
) -> None:
    if len(domain) != 2 or not domain.isascii() or not domain.isalpha() or not domain.islower():
        raise typer.BadParameter(
            t("deux lettres minuscules, comme bi", "two small letters, such as bi"), param_hint="--domain"
        )
    here = not holder
    count = len(holder) if holder else 1 if training else HOLDERS_OF_PRODUCTION
    for option, wanted in (("--threshold", threshold), ("--members-threshold", members_threshold)):
        if wanted is not None and wanted > count:  # before any key is made
            raise typer.BadParameter(
                t(f"il n'y a que {count} détenteur(s)", f"there are only {count} holder(s)"), param_hint=option
            )
    try:
        if holder:
            changed, root = found_domain(
                folder,
                domain,
                training,
                read_holders(holder),
                threshold=threshold,
                targets_threshold=members_threshold,
            )
        else:
            registry, root = init_registry(
                folder,
                domain,
                training,
                passphrase=None if no_passphrase else new_passphrase,
                threshold=threshold,
                targets_threshold=members_threshold or 1,
            )
            changed = Changed(registry, {})
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "un registre ou des clés s'y trouvent déjà ; rien n'est jamais écrasé",
                "a registry or keys are there already; nothing is ever overwritten",
            ),
            param_hint="--dir",
        ) from None
    if root is None:
        _say_waiting(changed, domain, as_json)
        return
    result(
        {"ok": True, "domain": domain, "published": True, "registry_root": root.text, "fingerprint": root.spoken}
        | ({"locked": not no_passphrase} if here else {}),
        as_json=as_json,
        lines=[
            t(f"Domaine {domain} créé dans {folder}.", f"Domain {domain} made in {folder}."),
            labelled("Racine (registry_root)", "Root (registry_root)", root.text),
            labelled("Empreinte, à lire au téléphone", "Fingerprint, to be read on the telephone", root.spoken),
            *(_about_keys(folder, locked=not no_passphrase) if here else []),
        ],
    )


def _about_keys(folder: Path, *, locked: bool) -> list[str]:
    """What to do with keys that were made here."""
    return [
        t(
            f"Les clés sont dans {folder / HOLDERS} : remettez chacune à son détenteur, sur un support à garder "
            "hors ligne, avec une copie en lieu sûr ; ne laissez ici que celles qui signent ici.",
            f"The keys are in {folder / HOLDERS}: hand each to its holder, on a medium kept off line, with a copy "
            "in a safe place; leave only those here that sign here.",
        ),
        *(
            [
                passphrase_line(),
                t(
                    "Chaque détenteur change ensuite la sienne : umuhuza registry protect --dir …",
                    "Each holder then changes it for the own key: umuhuza registry protect --dir …",
                ),
            ]
            if locked
            else []
        ),
    ]


def _say_waiting(changed: Changed, domain: str, as_json: bool) -> None:
    result(
        {"ok": True, "domain": domain, "published": False, "missing": dict(changed.missing)}
        | {"proposal": str(changed.proposal)},
        as_json=as_json,
        lines=waiting_lines(changed),
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
    endpoint: Endpoint = None,
    tls_certificate: TlsCertificate = None,
    as_json: Json = False,
) -> None:
    require_file(request, "REQUEST")
    agency = read_enrolment(request)
    mine = held(folder)
    entry = with_public(with_request(mine.registry, agency, direct), endpoint, tls_certificate)
    changed = change_agencies(mine, lambda registry, now: registry.with_agency(entry, now))
    prints = {key.kid: fingerprint_of(key.public) for key in agency.keys}
    result(
        {"ok": True, "agency": agency.id, "version": changed.registry.version, "published": changed.published}
        | {"direct": entry.direct, "fingerprints": prints, "endpoints": dict(entry.endpoints)},
        as_json=as_json,
        lines=[
            *published_lines(
                changed,
                t(
                    f"{agency.id} est au registre (version {changed.registry.version}).",
                    f"{agency.id} is in the registry (version {changed.registry.version}).",
                ),
            ),
            *(
                [
                    t(
                        "Elle écrit elle-même sur Kafka : lancez umuhuza kafka up, qui lui en donne les droits.",
                        "It writes to Kafka itself: run umuhuza kafka up, which gives it the rights.",
                    )
                ]
                if entry.direct
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
    compromised_since: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=t(
                "Taille du registre de preuve depuis laquelle la clé était volée : rien de ce qui y est inscrit "
                "ensuite ne compte.",
                "Size of the ledger's tree since which the key was stolen: nothing that stands there from then on "
                "counts.",
            ),
        ),
    ] = None,
    compromised_in: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Le registre de preuve dont c'est la taille ; à dire dès que plusieurs sont annoncés.",
                "The ledger whose size it is; to be said once several are announced.",
            )
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    mine = held(folder)
    number = _ledger_of(mine.registry, compromised_since, compromised_in)
    keys = mine.registry.agency(agency).keys
    if kid is not None and all(key.kid != kid for key in keys):
        raise RegistryError("key_unknown", "kid")
    kids = [
        key.kid for key in keys if kid in (None, key.kid) and (key.revoked is None or compromised_since is not None)
    ]
    if not kids:
        raise RegistryError("key_revoked", "agency.keys" if kid is None else "kid")

    def without(registry: Registry, now: int) -> Registry:
        for one in kids:
            registry = registry.with_key_revoked(agency, one, now, compromised_since, number)
        return registry

    changed = Changed(mine.registry, {}) if dry_run else change_agencies(mine, without)
    version = changed.registry.version
    result(
        {"ok": True, "agency": agency, "revoked": kids, "version": version, "dry_run": dry_run}
        | {"published": changed.published and not dry_run},
        as_json=as_json,
        lines=[
            *(
                t(f"Clé qui serait révoquée : {one}", f"Key that would be revoked: {one}")
                if dry_run or not changed.published
                else t(f"Clé révoquée : {one}", f"Key revoked: {one}")
                for one in kids
            ),
            *(
                [t("Rien n'a été changé (--dry-run).", "Nothing was changed (--dry-run).")]
                if dry_run
                else published_lines(
                    changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
                )
            ),
        ],
    )


def _ledger_of(registry: Registry, since: int | None, named: str | None) -> int:
    """Number of the ledger whose tree a size is of. Raises typer.BadParameter."""
    known = [one.origin for one in registry.ledgers] or [origin_of(registry.domain)]
    if since is None or (named is None and len(known) == 1):
        if named is not None:
            raise typer.BadParameter(
                t("avec --compromised-since", "with --compromised-since"), param_hint="--compromised-in"
            )
        return number_in(known[0])
    if named is None:
        raise typer.BadParameter(
            t("une taille de quel registre de preuve ? ", "a size of which ledger? ") + ", ".join(known),
            param_hint="--compromised-in",
        )
    one_of(named, known, "--compromised-in")
    return number_in(named)


@app.command(
    help=t(
        "Publie de nouveau le registre, daté d'aujourd'hui (à faire tous les 30 jours au plus).",
        "Publish the registry again, dated today (every 30 days at most).",
    )
)
def renew(folder: Folder, as_json: Json = False) -> None:
    changed = change_registry(held(folder))
    version = changed.registry.version
    result(
        {"ok": True, "version": version, "published": changed.published},
        as_json=as_json,
        lines=published_lines(
            changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
        ),
    )


@app.command(
    help=t(
        "Montre les membres, leurs rôles et leurs clés, les détenteurs et ce qui expire ; ou ce qu'une proposition "
        "changerait.",
        "Show the members, their roles and keys, the holders and what ends soon; or what a proposal would change.",
    )
)
def show(
    folder: Folder,
    proposal: Annotated[
        Path | None,
        typer.Argument(help=t("Proposition à montrer (proposal.json).", "Proposal to show (proposal.json).")),
    ] = None,
    as_json: Json = False,
) -> None:
    if proposal is not None:
        registry_rotate_command.show_proposal(folder, proposal, as_json)
        return
    mine = held(folder)
    registry, now = mine.registry, int(time.time())
    agencies = [_shown(agency, now) for agency in registry.agencies.values()]
    if as_json:
        result(_as_json(mine.trusted, mine.first_root, now) | {"agencies": agencies}, as_json=True)
        return
    table(
        t(
            f"Domaine {registry.domain}, version {registry.version}, du {day(registry.issued)}",
            f"Domain {registry.domain}, version {registry.version}, of {day(registry.issued)}",
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
    thresholds = mine.trusted.thresholds
    lines = [
        labelled(
            f"Détenteurs ({thresholds['root']} pour en changer, {thresholds['targets']} pour les membres)",
            f"Holders ({thresholds['root']} to change them, {thresholds['targets']} for members)",
            ", ".join(holder.name for holder in mine.trusted.holders),
        ),
        labelled("Racine (registry_root)", "Root (registry_root)", mine.trusted.pin.text),
        *(f"{one['id']}  {name}: {url}" for one in agencies for name, url in one["endpoints"].items()),
        *(ledger_line(one, lost=one is not registry.ledgers[-1]) for one in registry.ledgers),
        *(protocol_line(one) for one in registry.protocols.values()),
        *(ending_line(one) for one in mine.trusted.expiring(now)),
    ]
    result({}, as_json=False, lines=lines)


def _as_json(found: TrustedRegistry, first_root: RootPin, now: int) -> dict[str, Any]:
    registry = found.registry
    return {
        "ok": True,
        "domain": registry.domain,
        "version": registry.version,
        "issued": registry.issued,
        "training": registry.training,
        "stale": registry.is_stale(now),
        "registry_root": first_root.text,
        "newest_root": found.pin.text,
        "digest": found.digest.hex(),
        "versions": dict(found.versions),
        "expires": dict(found.expires),
        "thresholds": dict(found.thresholds),
        "holders": [
            {"name": one.name, "kid": one.key.kid, "fingerprint": fingerprint_of(one.key.public)}
            for one in found.holders
        ],
        "expiring": [{"what": one.what, "of": one.of, "at": one.at} for one in found.expiring(now)],
        "agreements": sorted(found.agreements),
        "protocols": {name: protocol_json(one) for name, one in registry.protocols.items()},
        "policy": None if found.policy is None else same_policy(found),
        "ledgers": registry_ledger_command.ledgers_shown(registry.ledgers),
    }


def _shown(agency: Agency, now: int) -> dict[str, Any]:
    return {
        "id": agency.id,
        "name": agency.name(t("fr", "en")),
        "protected": agency.protected,
        "direct": agency.direct,
        "roles": list(agency.roles),
        "endpoints": dict(agency.endpoints),
        "keys": [
            {
                "kid": key.kid,
                "use": key.use,
                "suite": key.suite,
                "fingerprint": fingerprint_of(key.public),
                "expires": key.expires,
                "revoked": key.revoked,
                "compromised_since": key.compromised_since,
                "compromised_in": None
                if key.compromised_since is None
                else origin_of(agency.id.partition("/")[0], key.compromised_in),
                "counts": key.counts_at(now),
            }
            for key in agency.keys
        ],
    }


registry_rotate_command.add_to(app)
registry_carry_command.add_to(app)
registry_terms_command.add_to(app)
registry_ledger_command.add_to(app)
