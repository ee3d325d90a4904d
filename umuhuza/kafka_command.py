# SPDX-License-Identifier: Apache-2.0
"""`umuhuza kafka`: Apache Kafka for a domain, on this machine: one node, or three on loopback.

Every command can be given again: what is done already stays as it is, and what an interrupted command left is taken up.
A cluster on other machines, or one that others run, is for `kafka_site_command`; gateways and adapters reach either by
their settings alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.errors import RegistryError
from schemas.keys import b64url
from schemas.registry import Registry
from schemas.registry_trust import TrustedRegistry
from topics.neighbours import Neighbours
from topics.registry_file import read_registry, registry_pin
from topics.settings import SettingsError
from umuhuza.kafka import artefacts, certificates
from umuhuza.kafka.artefacts import KafkaMissingError
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster, NodeState
from umuhuza.options import Json
from umuhuza.registry_holder import REGISTRY_FILE, held
from umuhuza.words import language, people, result, say, t, table

if TYPE_CHECKING:
    from topics.kafka_admin import Applied
    from topics.kafka_catalogue import KafkaAcl
    from topics.kafka_log import KafkaAccess

NOT_NOW = 3

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help=t(
            "Dossier de Kafka ; sinon umuhuza/kafka sous XDG_DATA_HOME (~/.local/share).",
            "Kafka's folder; else umuhuza/kafka under XDG_DATA_HOME (~/.local/share).",
        ),
    ),
]
KafkaFiles = Annotated[
    Path | None,
    typer.Option(
        "--kafka-files",
        help=t(
            "Au lieu de --dir, pour un Kafka d'autres machines : dossier avec ca.pem, certificate.pem et key.pem d'un "
            "administrateur.",
            "Instead of --dir, for a Kafka on other machines: folder with an administrator's ca.pem, certificate.pem "
            "and key.pem.",
        ),
    ),
]
Addresses = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        help=t(
            "Avec --kafka-files : adresses HÔTE:PORT,… ; sinon le fichier bootstrap de ce dossier.",
            "With --kafka-files: addresses HOST:PORT,…; else that folder's file bootstrap.",
        ),
    ),
]

NeighboursFolder = Annotated[
    Path | None,
    typer.Option(
        "--neighbours",
        help=t(
            "Dossier des domaines voisins (GATEWAY/neighbours) : aussi les sujets de ce qui passe les frontières.",
            "Folder of the neighbouring domains (GATEWAY/neighbours): also topics for what passes the borders.",
        ),
    ),
]


def default_folder() -> Path:
    """Where a user's cluster is when nothing else is said (XDG base directories; a relative path is ignored)."""
    home = Path(os.environ.get("XDG_DATA_HOME") or "")
    return (home if home.is_absolute() else Path.home() / ".local" / "share") / "umuhuza" / "kafka"


@app.command(
    help=t(
        "Met Kafka en marche : fichiers vérifiés, certificats, nœuds, puis sujets et droits d'après le registre.",
        "Bring Kafka up: checked files, certificates, nodes, then topics and rights from the registry.",
    )
)
def up(
    nodes: Annotated[
        int | None,
        typer.Option(help=t("1 ou 3 nœuds ; ne change plus ensuite.", "1 or 3 nodes; never changes afterwards.")),
    ] = None,
    folder: Folder = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Fichier du registre (registry.json), ou dossier fait par « registry init ».",
                "The registry file (registry.json), or the folder made by `registry init`.",
            )
        ),
    ] = None,
    registry_root: Annotated[
        str | None,
        typer.Option(help=t("Empreinte de la racine, avec un fichier.", "Fingerprint of the root, with a file.")),
    ] = None,
    neighbours: NeighboursFolder = None,
    as_json: Json = False,
) -> None:
    if nodes not in (None, 1, 3):
        raise typer.BadParameter(t("1 ou 3", "1 or 3"), param_hint="--nodes")
    members = None if registry is None else read_members(registry, registry_root, neighbours)
    where = default_folder() if folder is None else folder
    with explained(as_json):
        cluster = Cluster.open_or_make(where, nodes)
        with shown_way() as (told, arrived):
            started = cluster.start(told, arrived)
        for agency in () if members is None else members.agencies:
            cluster.credentials(agency)
    applied = None if members is None else _apply(cluster, members)
    admin = cluster.credentials(ADMIN)
    document: dict[str, Any] = {
        "ok": True,
        "started": list(started),
        **_access(cluster, ADMIN),
        "nodes": [_shown(state) for state in cluster.status()],
        "expires": cluster.issued(),
    }
    if members is not None and applied is not None:
        document |= {"domain": members.domain, "agencies": sorted(members.agencies), "applied": applied_json(applied)}
    result(
        document,
        as_json=as_json,
        lines=[
            t("Kafka est en marche.", "Kafka is up.")
            if started
            else t("Kafka marchait déjà.", "Kafka was up already."),
            t("Adresse : ", "Address: ") + ",".join(cluster.bootstrap),
            t("Certificats : ", "Certificates: ") + str(admin.certificate.parent.parent),
            *_renewals(cluster),
            *(() if applied is None else applied_lines(applied)),
        ],
    )


@app.command(
    help=t(
        "Va chercher et vérifie les fichiers de Kafka, sans rien démarrer.",
        "Fetch and check Kafka's files; start nothing.",
    )
)
def fetch(as_json: Json = False) -> None:
    with explained(as_json), shown_way() as (told, arrived):
        libs = artefacts.resolve(arrived, told)
    result(
        {"ok": True, "version": artefacts.version(), "folder": str(libs), "jars": len(artefacts.expected())},
        as_json=as_json,
        lines=[
            t(
                f"Kafka {artefacts.version()} : {len(artefacts.expected())} fichiers vérifiés dans {libs}",
                f"Kafka {artefacts.version()}: {len(artefacts.expected())} checked files in {libs}",
            )
        ],
    )


@app.command(help=t("Arrête Kafka ; les données restent.", "Stop Kafka; the data stays."))
def down(folder: Folder = None, as_json: Json = False) -> None:
    cluster = Cluster.open(default_folder() if folder is None else folder)
    stopped = cluster.stop()
    result(
        {"ok": True, "stopped": stopped, "folder": str(cluster.folder)},
        as_json=as_json,
        lines=[
            t("Kafka est arrêté ; les données restent.", "Kafka is stopped; the data stays.")
            if stopped
            else t("Kafka ne marchait pas.", "Kafka was not running.")
        ],
    )


@app.command(
    help=t(
        "Montre les nœuds, leur mémoire et la fin des certificats ; code de sortie 3 si l'un ne répond pas.",
        "Show the nodes, their memory and the end of certificates; exit code 3 when one does not answer.",
    )
)
def status(folder: Folder = None, as_json: Json = False) -> None:
    cluster = Cluster.open(default_folder() if folder is None else folder)
    states = cluster.status()
    ready = all(state.ready for state in states)
    if as_json:
        result(
            {
                "ok": ready,
                **_access(cluster, ADMIN),
                "nodes": [_shown(state) for state in states],
                "expires": cluster.issued(),
            },
            as_json=True,
        )
    else:
        table(
            f"Kafka {artefacts.version()}, {cluster.folder}",
            (t("Nœud", "Node"), t("Adresse", "Address"), t("État", "State"), "PID", t("Mémoire", "Memory")),
            [
                (
                    str(state.node),
                    state.address,
                    _state(state),
                    str(state.pid or "–"),
                    "–" if state.memory_mb is None else f"{state.memory_mb} {t('Mo', 'MB')}",
                )
                for state in states
            ],
        )
        for line in _renewals(cluster):
            say(line)
    if not ready:
        raise typer.Exit(NOT_NOW)


@app.command(
    help=t(
        "Remet à une agence de quoi venir à Kafka : adresse, autorité, certificat (et clé, sauf avec --request).",
        "Hand an agency what it needs to reach Kafka: address, authority, certificate (and key, without --request).",
    )
)
def issue(
    agency: Annotated[str, typer.Argument(help=t("Identifiant de l'agence : bi/iom.", "The agency's id: bi/iom."))],
    out: Annotated[
        Path,
        typer.Option(help=t("Dossier à faire, pour l'agence seule.", "Folder to make, for that agency only.")),
    ],
    folder: Folder = None,
    request: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Demande PKCS#10 de l'agence (PEM, P-256) : sa clé ne la quitte pas.",
                "The agency's PKCS#10 request (PEM, P-256): its key does not leave it.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    cluster = Cluster.open(default_folder() if folder is None else folder)
    try:
        principal = certificates.principal_of(agency)
    except ValueError:
        raise typer.BadParameter(
            t("attendu un identifiant, comme bi/iom", "an id was expected, such as bi/iom"), param_hint="AGENCY"
        ) from None
    if out.exists():
        raise typer.BadParameter(t("ce dossier existe déjà", "there is such a folder already"), param_hint="--out")
    files, ends = _handed(cluster, agency, request)
    out.mkdir(mode=0o700, parents=True)
    for name, data in files.items():
        certificates.write_file(out / name, data)
    until = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%d")
    result(
        {"ok": True, "agency": agency, "principal": principal, "folder": str(out), "expires": ends},
        as_json=as_json,
        lines=[
            t(f"Pour {agency}, valable jusqu'au {until} : {out}", f"For {agency}, valid until {until}: {out}"),
            *(
                ()
                if "key.pem" not in files
                else (
                    t(
                        "key.pem est secret : remettez-le en main propre, puis effacez ce dossier.",
                        "key.pem is secret: hand it over in person, then delete this folder.",
                    ),
                )
            ),
        ],
    )


@app.command(
    help=t(
        "Après qu'un sujet a été supprimé ou les données remises d'après une copie : donne au journal une nouvelle "
        "identité.",
        "After a topic was deleted or the data put back from a copy: give the log a new identity.",
    )
)
def restored(
    domain: Annotated[str, typer.Option(help=t("Code du domaine : bi, tn.", "The domain's code: bi, tn."))],
    folder: Folder = None,
    kafka_files: KafkaFiles = None,
    kafka: Addresses = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    from topics.kafka_log import KafkaLog

    access = administrator(folder, kafka_files, kafka)
    made = ""
    if not dry_run:
        made = asyncio.run(KafkaLog.renew_identity(access, domain=domain, random_id=lambda: b64url(os.urandom(12))))
    result(
        {"ok": True, "domain": domain, "log_id": made, "dry_run": dry_run},
        as_json=as_json,
        lines=[
            t("Rien n'a été changé (--dry-run).", "Nothing was changed (--dry-run).")
            if dry_run
            else t(
                "Le journal a une nouvelle identité. Relancez les passerelles : les agences relisent depuis le début, "
                "reconnaissent ce qu'elles ont déjà, et renvoient ce qui manque.",
                "The log has a new identity. Start the gateways again: agencies read from the beginning, recognise "
                "what they have, and send again what is lacking.",
            )
        ],
    )


def read_members(registry: Path, registry_root: str | None, neighbours: Path | None = None) -> Registry:
    """The registry that `--registry` and `--registry-root` name, with the borders of the domains in `neighbours`.

    Raises:
        SettingsError: no fingerprint, or none of a root; that folder is none.
        RegistryError: registry_invalid; another code, path `neighbours`: a domain there cannot be believed.
    """
    ours = _read_registry(registry, registry_root)
    if neighbours is None:
        return ours.registry
    if not neighbours.is_dir():
        raise SettingsError("--neighbours: not a folder", "--neighbours : pas un dossier")
    found = Neighbours(neighbours, lambda: ours, time.time)
    bordered = found.registry
    for code in found.problems.values():  # what is left out would lose its topics' rights
        raise RegistryError(code, "neighbours")
    return bordered


def _read_registry(registry: Path, registry_root: str | None) -> TrustedRegistry:
    if registry.is_dir() and registry_root is None:
        return held(registry).trusted
    file = registry / REGISTRY_FILE if (registry / REGISTRY_FILE).exists() else registry
    if registry_root is None:
        raise SettingsError(
            "--registry-root is needed with a registry file", "--registry-root est nécessaire avec un fichier"
        )
    return read_registry(file, registry_pin(registry_root, "--registry-root"))


def administrator(folder: Path | None, kafka_files: Path | None, kafka: str | None) -> KafkaAccess:
    """An administrator's way to Kafka: of the cluster in `folder`, else of one elsewhere. Raises SettingsError."""
    from topics.kafka_log import KafkaAccess

    if kafka_files is None:
        if kafka is not None:
            raise SettingsError("--kafka needs --kafka-files", "--kafka demande --kafka-files")
        return Cluster.open(default_folder() if folder is None else folder).access(ADMIN)
    if folder is not None:
        raise SettingsError("--dir or --kafka-files, not both", "--dir ou --kafka-files, pas les deux")
    try:
        told = (kafka_files / "bootstrap").read_text(encoding="ascii") if kafka is None else kafka
    except (OSError, UnicodeDecodeError):
        raise SettingsError(
            "--kafka-files: no file bootstrap there; give --kafka HOST:PORT",
            "--kafka-files : pas de fichier bootstrap ; donnez --kafka HÔTE:PORT",
        ) from None
    addresses = tuple(one.strip() for one in told.split(",") if one.strip())
    ca, certificate, key = (kafka_files / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    return KafkaAccess(addresses, ca, certificate, key)


def _handed(cluster: Cluster, agency: str, request: Path | None) -> tuple[dict[str, bytes], int]:
    """Files for an agency, and when its certificate ends."""
    address = {"bootstrap": (",".join(cluster.bootstrap) + "\n").encode("ascii")}
    if request is None:
        found = cluster.credentials(agency)
        files = {"ca.pem": found.ca, "certificate.pem": found.certificate, "key.pem": found.key}
        return address | {name: path.read_bytes() for name, path in files.items()}, found.expires
    authority = cluster.authority()
    try:
        certificate = authority.agency_from_request(agency, request.read_bytes(), cluster.now())
    except ValueError:
        raise typer.BadParameter(
            t("pas une demande PKCS#10 pour une clé P-256", "not a PKCS#10 request for a P-256 key"),
            param_hint="--request",
        ) from None
    return address | {"ca.pem": authority.pem, "certificate.pem": certificate}, certificates.expires(certificate)


@contextmanager
def shown_way() -> Iterator[tuple[artefacts.Told, artefacts.Progress]]:
    """The way of the downloads, once there are any, and the steps: on standard error, for people."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, console=people(), transient=True)
    bar = shown.add_task(t("Fichiers de Kafka", "Kafka's files"), total=None)

    def arrived(there: int, in_all: int) -> None:
        shown.start()
        shown.update(bar, completed=there, total=in_all)

    def told(fr: str, en: str) -> None:
        if shown.live.is_started:
            shown.stop()
        say(t(fr, en))

    try:
        yield told, arrived
    finally:
        if shown.live.is_started:
            shown.stop()


def _apply(cluster: Cluster, members: Registry) -> Applied:
    """Topics, settings and ACLs of the catalogue, made so."""
    # The Kafka library takes a second to import; only here is it needed.
    from topics.kafka_admin import apply

    say(t("Sujets et droits d'après le registre.", "Topics and rights from the registry."))
    return asyncio.run(apply(cluster.access(ADMIN), members, nodes=len(cluster.nodes)))


@contextmanager
def explained(as_json: bool) -> Iterator[None]:
    """What is missing, in a sentence, and exit code 3: nothing is wrong with what was typed."""
    try:
        yield
    except KafkaMissingError as exc:
        if as_json:
            result({"ok": False, "problem": {"code": "unavailable", "title": exc.describe(language())}}, as_json=True)
        else:
            say(exc.describe(language()))
        sys.exit(NOT_NOW)


def applied_json(applied: Applied) -> dict[str, Any]:
    """What `apply` did, for programs."""
    return {
        "created": list(applied.created),
        "settings": {topic: dict(values) for topic, values in applied.settings.items()},
        "quotas": {user: dict(values) for user, values in applied.quotas.items()},
        "allowed": [_line(acl) for acl in applied.allowed],
        "removed": [_line(acl) for acl in applied.removed],
        "departed": list(applied.departed),
        "findings": [{"what": one.what, "topic": one.topic, "principal": one.principal} for one in applied.findings],
    }


def _line(acl: KafkaAcl) -> str:
    return f"{acl.principal} {acl.operation} {acl.name}"


def applied_lines(applied: Applied) -> list[str]:
    """What was changed, counted, and what a person has to decide."""
    if applied.changed:
        created, settings = len(applied.created), len(applied.settings)
        allowed, removed = len(applied.allowed), len(applied.removed)
        lines = [
            t(
                f"Sujets créés : {created}, réglages corrigés : {settings}, droits donnés : {allowed}, "
                f"retirés : {removed}.",
                f"Topics made: {created}, settings put right: {settings}, rights given: {allowed}, taken: {removed}.",
            )
        ]
    else:
        lines = [t("Sujets et droits étaient déjà ainsi.", "Topics and rights were so already.")]
    if applied.departed:
        names = ", ".join(applied.departed)
        lines.append(
            t(f"Sujets d'agences parties, gardés : {names}.", f"Topics of agencies that have left, kept: {names}.")
        )
    meanings = {
        "replaced": t(
            "supprimé ou refait par quelqu'un ; si c'est voulu : umuhuza kafka restored",
            "deleted or made again by somebody; if that is meant: umuhuza kafka restored",
        ),
        "partitions": t("a plus d'une partition", "has more than one partition"),
        "replicas": t("a moins de copies que prévu", "has fewer copies than it should"),
        "foreign": t("un droit que le registre ne donne pas", "a right that the registry does not give"),
        "shared": t(
            "le journal de ce domaine voisin est sur ce même Kafka : il en faut un pour chacun, rien ne passera",
            "that neighbouring domain's log is on this same Kafka: each needs its own, nothing will pass",
        ),
    }
    lines += [
        f"! {one.topic} : {meanings.get(one.what, one.what)} {one.principal}".rstrip() for one in applied.findings
    ]
    return lines


def _access(cluster: Cluster, who: str) -> dict[str, Any]:
    found = cluster.credentials(who)
    return {
        "folder": str(cluster.folder),
        "version": artefacts.version(),
        "cluster_id": cluster.cluster_id,
        "bootstrap": list(cluster.bootstrap),
        "ca": str(found.ca),
        "clients": str(found.certificate.parent.parent),
    }


def _shown(state: NodeState) -> dict[str, Any]:
    return {
        "node": state.node,
        "address": state.address,
        "pid": state.pid,
        "memory_mb": state.memory_mb,
        "ready": state.ready,
        "why": state.why,
    }


def _state(state: NodeState) -> str:
    if state.ready:
        return t("répond", "answers")
    if state.pid is None:
        return t("arrêté", "stopped")
    if state.seen is not None:
        return t("se remet à jour", "catching up")
    return {
        "refused": t("refuse le certificat", "refuses the certificate"),
        "slow": t("ne répond pas à temps", "does not answer in time"),
    }.get(state.why or "", t("ne répond pas encore", "does not answer yet"))


def _renewals(cluster: Cluster) -> list[str]:
    """Certificates of running nodes and of agencies that end within a month."""
    soon = [name for name, ends in cluster.issued().items() if ends - cluster.now() < certificates.RENEW_S]
    if not soon:
        return []
    names = ", ".join(soon)
    return [
        t(
            f"Certificats qui finissent dans moins de 30 jours : {names}. "
            "Pour les nœuds : umuhuza kafka down, puis up.",
            f"Certificates that end within 30 days: {names}. For nodes: umuhuza kafka down, then up.",
        )
    ]
