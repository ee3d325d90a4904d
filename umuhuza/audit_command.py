# SPDX-License-Identifier: Apache-2.0
"""`umuhuza audit`: what an auditor or a court does with a ledger and its log, from files, without a network; and what
can be checked of a ledger by its gateway's address.

    verify    look at everything, say what contradicts what was signed      exit 0 nothing, 1 something, 3 not all is in
    export    take evidence out into one zip
    report    the same in sentences, for people who will not run this

Codes and places are told, never a value. Needs no key that opens anything.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.envelope import is_agency
from schemas.errors import CODES
from schemas.keys import b64url
from topics.audit import Report, audit
from topics.audit_export import Choice
from topics.audit_findings import Finding, Stage
from topics.audit_findings import Progress as Told
from topics.durable_file import keep_file
from topics.settings import SettingsError
from umuhuza.audit_evidence import write_evidence
from umuhuza.audit_page import page_of
from umuhuza.audit_report import listed, report_sheet
from umuhuza.audit_sources import Opened, opened_source
from umuhuza.audit_words import verdict, what, where
from umuhuza.options import Json
from umuhuza.words import language, people, program, result, t, table

CONTRADICTED, NOT_ALL = 1, 3
SHOWN = 50
"""Findings shown one by one to people; programs get all that were kept."""

app = typer.Typer(no_args_is_help=True)

Where = Annotated[
    Path | None,
    typer.Argument(
        metavar=t("PREUVE", "EVIDENCE"),
        help=t("Une preuve : le zip, ou son dossier.", "Evidence: the zip, or its folder."),
        show_default=False,
    ),
]
WhereOrAddress = Annotated[
    str | None,
    typer.Argument(
        metavar=t("PREUVE", "EVIDENCE"),
        help=t(
            "Une preuve : le zip, ou son dossier ; ou l'adresse d'une passerelle, dont l'arbre seul est vérifié.",
            "Evidence: the zip, or its folder; or a gateway's address, of which the tree alone is checked.",
        ),
        show_default=False,
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        help=t(
            "Avec une adresse : dossier d'une agence à qui la passerelle donne aussi les entrées.",
            "With an address: folder of an agency to which the gateway gives the entries too.",
        )
    ),
]
CertificateAuthority = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        help=t(
            "Avec une adresse : autorité qui a signé le certificat de la passerelle (PEM).",
            "With an address: authority that signed the gateway's certificate (PEM).",
        ),
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help=t(
            "Dossier d'un domaine ou de son registre de preuve, sur sa machine.",
            "Folder of a domain or of its ledger, on its machine.",
        ),
    ),
]
Policy = Annotated[
    Path | None,
    typer.Option(
        help=t(
            "Qui vous croyez : clés du registre de preuve et des témoins, et combien il en faut (tlog-policy).",
            "Whom you believe: keys of the ledger and the witnesses, and how many are needed (tlog-policy).",
        )
    ),
]
Root = Annotated[
    str | None,
    typer.Option(help=t("Racine du registre, reçue par une autre voie.", "The registry's root, had by another way.")),
]
HeldFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--held",
        help=t(
            "Ce que d'autres gardent : points de contrôle, reçus, promesses ; fichier ou dossier, plusieurs fois.",
            "What others keep: checkpoints, receipts, promises; a file or a folder, more than once.",
        ),
    ),
]
NeighbourFolder = Annotated[
    Path | None,
    typer.Option(
        "--neighbours",
        help=t(
            "Qui vous croyez des domaines voisins : un dossier avec <domaine>/root et <domaine>/ledger.policy.",
            "Whom you believe of neighbouring domains: a folder with <domain>/root and <domain>/ledger.policy.",
        ),
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=t(
            "Processus qui se partagent les signatures ; sans cette option, autant que de cœurs.",
            "Processes that share out the signatures; without this option, as many as cores.",
        ),
    ),
]


@app.command(
    help=t(
        "Vérifie tout. Code de sortie : 0 rien à redire, 1 une contradiction, 3 il manque encore quelque chose.",
        "Check everything. Exit code: 0 nothing to say, 1 a contradiction, 3 something is still to come.",
    )
)
def verify(
    evidence: WhereOrAddress = None,
    folder: Folder = None,
    policy: Policy = None,
    root: Root = None,
    held: HeldFiles = None,
    neighbours: NeighbourFolder = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Fichier où noter l'avancement : interrompue, la même commande continue.",
                "File in which to note how far it is: interrupted, the same command goes on.",
            )
        ),
    ] = None,
    processes: Processes = None,
    identity: Identity = None,
    ca: CertificateAuthority = None,
    as_json: Json = False,
) -> None:
    with _opened(evidence, folder, policy, root, held or (), neighbours, identity, ca) as opened:
        with _shown_way() as progress:
            report = audit(
                opened.source, opened.trust, scratch=resume, progress=progress, processes=processes or cores()
            )
        document = document_of(report, opened)
    result(document, as_json=as_json)
    if not as_json:
        _show(report, opened)
    if report.findings.contradictions:
        sys.exit(CONTRADICTED)
    if report.findings.counts:
        sys.exit(NOT_ALL)


def cores() -> int:
    """That this process may use; at most 16, since one process reads for all."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)


@contextmanager
def _opened(
    evidence: str | None,
    folder: Path | None,
    policy: Path | None,
    root: str | None,
    held: Sequence[Path],
    neighbours: Path | None,
    identity: Path | None,
    ca: Path | None,
) -> Iterator[Opened]:
    """A gateway's address, or files."""
    with ExitStack() as stack:
        if evidence is not None and folder is None and evidence.startswith(("https://", "http://")):
            if neighbours is not None:
                raise SettingsError("--neighbours goes with files", "--neighbours va avec des fichiers")
            from umuhuza.audit_gateway import served_source  # only here: files need no network

            yield stack.enter_context(
                served_source(evidence, policy=policy, root=root, held=held, identity=identity, ca=ca)
            )
            return
        if identity is not None or ca is not None:
            raise SettingsError("--identity and --ca go with an address", "--identity et --ca vont avec une adresse")
        where = _where(None if evidence is None else Path(evidence), folder)
        yield stack.enter_context(opened_source(where, policy=policy, root=root, held=held, neighbours=neighbours))


def _where(evidence: Path | None, folder: Path | None) -> Path:
    """Raises SettingsError: nothing is named, or two, or it is not there."""
    if (evidence is None) == (folder is None):
        raise SettingsError("name the evidence, or --dir, and not both", "nommez la preuve, ou --dir, et pas les deux")
    named = evidence or folder
    assert named is not None
    if not named.exists():
        raise SettingsError("nothing is there by that name", "rien ne porte ce nom")
    return named


def _can_be_made(out: Path) -> None:
    """Before the work, not after it. Raises typer.BadParameter: there is a file of this name, or no place for one."""
    if out.exists():
        raise typer.BadParameter(t("existe déjà", "is there already"), param_hint="--out")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise typer.BadParameter(t("on ne peut pas y écrire", "one cannot write there"), param_hint="--out")


@contextmanager
def _shown_way() -> Iterator[Told]:
    """How far it is, on standard error, for people."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    words = {"tree": t("Arbre", "Tree"), "records": t("Enregistrements", "Records")}
    with Progress(*columns, console=people(), transient=True, disable=not people().is_terminal) as shown:
        bars = {stage: shown.add_task(word, total=None) for stage, word in words.items()}

        def progress(stage: Stage, done: int, of: int | None) -> None:
            shown.update(bars[stage], completed=done, total=of)

        yield progress


# ---------------------------------------------------------------------------------------------------------------------
# What is said


def document_of(report: Report, opened: Opened) -> dict[str, Any]:
    """For programs."""
    endorsed = report.endorsed
    return {
        "ok": report.faultless and not report.findings.counts,
        "origin": report.origin,
        "whole": report.whole,
        "shown": report.shown,
        "entries": report.size,
        "root": b64url(report.root),
        "kinds": dict(report.kinds),
        "records": report.records,
        "promises": report.promises,
        "receipts": report.receipts,
        "registry": report.registry,
        "formers": [
            {
                "origin": one.origin,
                "announced": None if one.last is None else one.last.size,
                "held": one.held,
                "receipts": one.receipts,
            }
            for one in report.formers
        ],
        "signed": 0 if report.signed is None else report.signed.signed.checkpoint.size,
        "endorsed": 0 if endorsed is None else endorsed.signed.checkpoint.size,
        "witnesses": {} if endorsed is None else dict(endorsed.by),
        "stated": list(opened.stated),
        "keys": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in opened.keys],
        "contradictions": report.findings.contradictions,
        "counts": dict(sorted(report.findings.counts.items())),
        "findings": [_finding(one) for one in report.findings.kept],
    }


def _finding(one: Finding) -> dict[str, Any]:
    members = {"topic": one.topic, "offset": one.offset, "index": one.index, "name": one.name}
    known = {name: value for name, value in members.items() if value is not None}
    return {"code": one.code, "about": one.about, **known, "open": one.open, "title": CODES[one.code].title(language())}


def _show(report: Report, opened: Opened) -> None:
    result(None, as_json=False, lines=verdict(report, opened.stated, language()))
    if opened.stated:
        table(
            t("Clés à comparer au téléphone", "Keys to compare by telephone"),
            (t("Qui", "Who"), t("Empreinte", "Fingerprint")),
            opened.keys,
        )
    found = report.findings
    if found.kept:
        table(
            t("Ce qui ne va pas, ou manque encore", "What is wrong, or still to come"),
            (t("Quoi", "What"), t("Où", "Where"), "Code"),
            [(what(one, language()), where(one, language()), one.code) for one in found.kept[:SHOWN]],
        )
        more = sum(found.counts.values()) - SHOWN
        if more > 0:
            result(None, as_json=False, lines=[t(f"… et {more} de plus (--json)", f"... and {more} more (--json)")])


# ---------------------------------------------------------------------------------------------------------------------
# Evidence


@app.command(
    name="export",
    help=t(
        "Écrit une preuve en un zip : tout, ou une période, un fil, une agence. Elle montre qui a écrit à qui et "
        "quand, jamais quoi.",
        "Write evidence into one zip: all of it, or a period, a thread, an agency. It shows who wrote to whom and "
        "when, never what.",
    ),
)
def export_command(
    out: Annotated[Path, typer.Option("--out", help=t("Zip à écrire.", "Zip to write."))],
    evidence: Where = None,
    folder: Folder = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help=t("À partir de ce jour (UTC).", "From this day (UTC).")),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help=t("Avant ce jour (UTC).", "Before this day (UTC)."))
    ] = None,
    thread: Annotated[
        str | None, typer.Option(help=t("Ce fil, entre deux agences.", "This thread, between two agencies."))
    ] = None,
    agency: Annotated[
        str | None, typer.Option(help=t("Ce qu'elle a écrit ou reçu.", "What it wrote or was sent."))
    ] = None,
    policy: Policy = None,
    root: Root = None,
    held: HeldFiles = None,
    neighbours: NeighbourFolder = None,
    as_json: Json = False,
) -> None:
    if agency is not None and not is_agency(agency):
        raise typer.BadParameter(t("pas une agence, comme bi/iom", "no agency, like bi/iom"), param_hint="--agency")
    _can_be_made(out)
    choice = Choice(_ms(since), _ms(until), thread, agency)
    named = _where(evidence, folder)
    with opened_source(named, policy=policy, root=root, held=held or (), neighbours=neighbours) as opened:
        if not opened.source.whole:
            raise SettingsError("this is an excerpt already", "c'est déjà un extrait")
        with _shown_way() as progress:
            report, done = write_evidence(opened, out, choice, int(time.time()), progress, cores())
        if done is None:  # nothing is signed that evidence could be proved under
            result(document_of(report, opened), as_json=as_json)
            if not as_json:
                _show(report, opened)
            sys.exit(CONTRADICTED)
    found = {"entries": done.entries, "records": done.records, "promises": done.promises, "registries": done.registries}
    result(
        {"ok": report.faultless, "file": str(out), **found, "contradictions": report.findings.contradictions},
        as_json=as_json,
        lines=[
            *(
                [
                    t(
                        "Rien ne correspond à ce choix : aucun enregistrement dans cette preuve.",
                        "Nothing is of this choice: no record is in this evidence.",
                    )
                ]
                if not done.records
                else []
            ),
            t(
                f"{out} : {done.records} enregistrement(s), {done.entries} entrée(s), {done.promises} promesse(s).",
                f"{out}: {done.records} record(s), {done.entries} entries, {done.promises} promise(s).",
            ),
            *verdict(report, opened.stated, language())[:1],
            t("Ensuite : ", "Next: ") + f"{program()} audit verify {out}",
        ],
    )
    if not report.faultless:
        sys.exit(CONTRADICTED)


def _ms(day: datetime | None) -> int | None:
    return None if day is None else int(day.replace(tzinfo=UTC).timestamp() * 1000)


@app.command(
    help=t(
        "Écrit le rapport d'une vérification, à lire ou à imprimer : une page HTML, ou un PDF.",
        "Write an audit's report, to read or to print: an HTML page, or a PDF.",
    )
)
def report(
    out: Annotated[
        Path,
        typer.Option("--out", help=t("Fichier à écrire (.html ou .pdf).", "File to write (.html or .pdf).")),
    ],
    evidence: WhereOrAddress = None,
    folder: Folder = None,
    pdf: Annotated[
        bool,
        typer.Option(
            "--pdf", help=t("En PDF, quel que soit le nom du fichier.", "As PDF, whatever the file's name is.")
        ),
    ] = False,
    policy: Policy = None,
    root: Root = None,
    held: HeldFiles = None,
    neighbours: NeighbourFolder = None,
    identity: Identity = None,
    ca: CertificateAuthority = None,
    as_json: Json = False,
) -> None:
    _can_be_made(out)
    with _opened(evidence, folder, policy, root, held or (), neighbours, identity, ca) as opened:
        with _shown_way() as progress:
            found = audit(opened.source, opened.trust, progress=progress, processes=cores())
        sheet = report_sheet(
            found,
            language(),
            made_at=int(time.time()),
            stated=opened.stated,
            keys=opened.keys,
            records=() if opened.source.whole else tuple(listed(opened.source)),
        )
    if pdf or out.suffix == ".pdf":
        from umuhuza.audit_pdf import pdf_of  # its library takes a second to load

        data = pdf_of(sheet)
    else:
        data = page_of(sheet).encode("utf-8")
    keep_file(out, data)
    result(
        {"ok": found.faultless, "file": str(out), "contradictions": found.findings.contradictions},
        as_json=as_json,
        lines=[str(out), *verdict(found, opened.stated, language())[:1]],
    )
    if not found.faultless:
        sys.exit(CONTRADICTED)
