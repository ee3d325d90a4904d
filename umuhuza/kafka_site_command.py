# SPDX-License-Identifier: Apache-2.0
"""`umuhuza kafka prepare | apply | strimzi`: a domain's Kafka on other machines, or one that others run.

`prepare` writes what each node and each client needs and starts nothing; `apply` makes topics, settings and rights on
any cluster, from the registry; `strimzi` writes them as Kubernetes resources. All can be given again.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.keys import b64url
from schemas.registry import Registry
from topics.kafka_catalogue import kafka_topics, ledger_client
from umuhuza.kafka.certificates import write_file
from umuhuza.kafka.production import Hosts, Site
from umuhuza.kafka.strimzi import resources, topics_in
from umuhuza.kafka_command import (
    Addresses,
    Folder,
    KafkaFiles,
    NeighboursFolder,
    administrator,
    applied_json,
    applied_lines,
    read_members,
)
from umuhuza.options import Json
from umuhuza.words import result, t

if TYPE_CHECKING:
    from topics.kafka_admin import Applied
    from topics.kafka_log import KafkaAccess

Members = Annotated[
    Path,
    typer.Option(
        "--registry",
        help=t(
            "Fichier du registre (registry.json), ou dossier fait par « registry init ».",
            "The registry file (registry.json), or the folder made by `registry init`.",
        ),
    ),
]
RegistryKey = Annotated[
    str | None,
    typer.Option(
        "--registry-root", help=t("Empreinte de la racine, avec un fichier.", "Fingerprint of the root, with a file.")
    ),
]


def prepare(
    broker: Annotated[
        list[str],
        typer.Option(
            help=t(
                "Machine d'un nœud (nom ou adresse, sans port) ; une fois par nœud.",
                "A node's host (name or address, no port); once per node.",
            )
        ),
    ],
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier à écrire, à garder.", "Folder to write, to keep."))],
    controller: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Machine d'un contrôleur ; sans cette option chaque nœud l'est aussi.",
                "A controller's host; without this option each node is one as well.",
            )
        ),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Registre (fichier, ou dossier de « registry init ») : aussi un dossier par agence, et un pour le "
                "registre de preuve.",
                "Registry: a folder per agency and one for the ledger too (file, or folder of `registry init`).",
            )
        ),
    ] = None,
    registry_root: RegistryKey = None,
    as_json: Json = False,
) -> None:
    members = None if registry is None else read_members(registry, registry_root)
    site = Site.open_or_make(folder, Hosts(tuple(broker), tuple(controller or ())))
    now = time.time()
    issued = [*site.prepare(now)]
    if members is not None:
        keeper = ledger_client(members)
        clients = (*members.agencies, *(() if keeper is None else (keeper,)))
        issued += [client for client in clients if site.client(client, now)]
    result(
        {"ok": True, "folder": str(site.folder), "cluster_id": site.cluster_id, "issued": issued},
        as_json=as_json,
        lines=[
            t(
                f"Dossiers node-1 à node-{len(site.hosts.all)} et clients/ : {site.folder}",
                f"Folders node-1 to node-{len(site.hosts.all)} and clients/: {site.folder}",
            ),
            t("Certificats faits : ", "Certificates made: ") + (", ".join(issued) or t("aucun", "none")),
        ],
    )


def apply(
    registry: Members,
    registry_root: RegistryKey = None,
    folder: Folder = None,
    kafka_files: KafkaFiles = None,
    kafka: Addresses = None,
    neighbours: NeighboursFolder = None,
    rights: Annotated[
        bool,
        typer.Option(
            "--rights/--no-rights",
            help=t(
                "Sans les droits, là où un autre les tient (Strimzi).",
                "Without rights, where somebody else keeps them (Strimzi).",
            ),
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    members = read_members(registry, registry_root, neighbours)
    applied = _apply(administrator(folder, kafka_files, kafka), members, rights, dry_run)
    heading = t("Rien n'a été changé (--dry-run) ; serait fait :", "Nothing was changed (--dry-run); it would be:")
    result(
        {"ok": True, "domain": members.domain, "dry_run": dry_run, **applied_json(applied)},
        as_json=as_json,
        lines=[*((heading,) if dry_run and applied.changed else ()), *applied_lines(applied)],
    )


def strimzi(
    registry: Members,
    out: Annotated[Path, typer.Option(help=t("Dossier à écrire.", "Folder to write."))],
    registry_root: RegistryKey = None,
    storage: Annotated[
        str, typer.Option(help=t("Disque de chaque nœud.", "Disk of each node."), metavar="20Gi")
    ] = "20Gi",
    neighbours: NeighboursFolder = None,
    as_json: Json = False,
) -> None:
    members = read_members(registry, registry_root, neighbours)
    out.mkdir(parents=True, exist_ok=True)
    before = out / "topics.yaml"
    known = topics_in(before.read_text(encoding="utf-8")) if before.is_file() else ()
    made = resources(members, storage, known)
    for name, text in made.items():
        write_file(out / name, text.encode("utf-8"))
    result(
        {"ok": True, "domain": members.domain, "folder": str(out), "files": sorted(made)},
        as_json=as_json,
        lines=[t("Écrit : ", "Written: ") + ", ".join(str(out / name) for name in sorted(made))],
    )


def add_to(app: typer.Typer) -> None:
    """Set these commands beside those of `umuhuza kafka`. Harmless when they are there."""
    if any(one.callback is prepare for one in app.registered_commands):
        return
    app.command(
        help=t(
            "Prépare un Kafka pour d'autres machines : réglages et certificats de chaque nœud, accès de chaque agence.",
            "Prepare a Kafka for other machines: settings and certificates of each node, access of each agency.",
        )
    )(prepare)
    app.command(
        help=t(
            "Met sujets, réglages et droits de Kafka comme le registre le demande ; ne touche à rien d'autre.",
            "Make Kafka's topics, settings and rights as the registry asks; touch nothing else.",
        )
    )(apply)
    app.command(
        help=t(
            "Écrit les ressources Strimzi d'un domaine : Kafka, sujets, utilisateurs et leurs droits.",
            "Write a domain's Strimzi resources: Kafka, topics, users and their rights.",
        )
    )(strimzi)


def _apply(access: KafkaAccess, members: Registry, rights: bool, dry_run: bool) -> Applied:
    """Topics, settings and ACLs; or, without rights, what is missing of the topics and the log's identity.

    Raises LogError as `topics.kafka_admin.apply`.
    """
    # The Kafka library takes a second to import; help needs none of it.
    from topics.kafka_admin import Applied, Finding, apply
    from topics.kafka_clients import Clients
    from topics.kafka_identity import establish
    from topics.kafka_log import recorder

    clients = Clients(access)
    try:
        clients.probe()
        nodes = clients.nodes()
        if not rights:
            wanted = kafka_topics(members, nodes)
            done = establish(clients, recorder(clients), members.domain, wanted, random_id=_log_id, dry_run=dry_run)
            findings = tuple(Finding("replaced", topic) for topic in done.replaced)
            return Applied(done.created, {}, (), (), findings, dry_run, departed=done.departed)
    finally:
        clients.close_producer()
        clients.close()
    return asyncio.run(apply(access, members, nodes=nodes, dry_run=dry_run))


def _log_id() -> str:
    return b64url(os.urandom(12))
