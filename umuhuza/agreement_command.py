# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry agreement draft | read | compare`: an agreement before it is signed, and on both sides afterwards.

    one operator       registry agreement draft bi-tn-2026 --with tn ...
    carried over       registry agreement draft bi-tn-2026 --from bi-tn-2026.json      (adds the own root)
    on the telephone   registry agreement read bi-tn-2026.json          (the same articles, twelve words)
    each at home       registry agree bi-tn-2026 --file bi-tn-2026.json --words "..."
    afterwards         registry agreement compare bi-tn-2026 --theirs tn.json      (which member differs)

A protocol between agencies of one country is drafted with `--between` in place of `--with`, and has no roots; each of
the agencies signs the draft with its own key (`umuhuza agency agree`) before the holders publish it.

What is missing is asked for at a terminal, never of a program. If we crash before the file is replaced nothing has
happened. Must never: sign or publish; write over a file that is no draft of the same name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from schemas import ijson
from schemas.agreement_text import control_words, differences, draft_from, read_aloud
from schemas.agreements import Agreement, agreement_from_json, agreement_to_json
from schemas.errors import RegistryError
from schemas.protocols import standing
from schemas.registry import Registry
from schemas.registry_bundle import MAX_REGISTRY_BYTES, RootPin
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.spoken import grouped
from topics.durable_file import replace_file
from umuhuza.asking import line
from umuhuza.options import require_file
from umuhuza.registry_holder import held
from umuhuza.registry_words import protocol_json, protocol_line
from umuhuza.words import language, result, t, table

app = typer.Typer(
    no_args_is_help=True,
    help=t(
        "Un accord entre pays ou un protocole entre agences, avant de le signer : ébaucher, lire à deux, comparer.",
        "An agreement between countries or a protocol between agencies, before signing: draft, read together, compare.",
    ),
)
MAX_AGREEMENT_BYTES = 256 * 1024
_YEARS = 3

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]
Name = Annotated[str, typer.Argument(help=t("Nom de l'accord : bi-tn-2026.", "The agreement's name: bi-tn-2026."))]
Json = Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))]


def add_to(registry: typer.Typer) -> None:
    """Set the group beside the commands of `umuhuza registry`. Harmless when it is there."""
    if not any(one.typer_instance is app for one in registry.registered_groups):
        registry.add_typer(app, name="agreement")


def read_agreement_json(file: Path) -> Any:
    """Raises RegistryError `registry_invalid` (path `file`, or where the JSON is wrong)."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_AGREEMENT_BYTES + 1)
        return ijson.loads(data, max_bytes=MAX_AGREEMENT_BYTES, max_depth=4)
    except OSError:
        raise RegistryError("registry_invalid", "file") from None
    except ijson.IJsonError as exc:
        raise RegistryError("registry_invalid", exc.path or "file") from None


def names_in(registry: Registry) -> dict[str, str]:
    """Agency -> its name in the language of this process; a protected place has none but its handle."""
    return {agency.id: agency.name(language()) for agency in registry.agencies.values()}


def words_lines(agreement: Agreement) -> list[str]:
    """The control words, for people."""
    head = t("Mots de contrôle, à comparer :", "Control words, to be compared:")
    return [head, *(f"   {row}" for row in grouped(control_words(agreement, language())))]


# ---------------------------------------------------------------------------------------------------------------------
# draft


@app.command(
    help=t(
        "Ébauche un accord : d'après un modèle (--from), d'après les options, ou en posant les questions qui restent.",
        "Draft an agreement: from a template (--from), from options, or by asking what is left.",
    )
)
def draft(
    name: Name,
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", help=t("Fichier à écrire (NOM.json).", "File to write (NAME.json)."))
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help=t(
                "Accord en JSON dont on part : un ancien, un modèle, ou l'ébauche de l'autre.",
                "Agreement as JSON to start from: an old one, a template, or the other side's draft.",
            ),
        ),
    ] = None,
    other: Annotated[
        list[str] | None, typer.Option("--with", help=t("L'autre domaine : tn.", "The other domain: tn."))
    ] = None,
    between: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Agence liée par un protocole d'un seul pays : bi/police ; deux fois au moins.",
                "Agency bound by a protocol inside one country: bi/police; twice at least.",
            )
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Racine d'un autre domaine, lue au téléphone : tn=EMPREINTE.",
                "Another domain's root, read on the telephone: tn=FINGERPRINT.",
            )
        ),
    ] = None,
    focal_point: Annotated[
        list[str] | None, typer.Option(help=t("Point focal : bi/ccsprtp.", "Focal point: bi/ccsprtp."))
    ] = None,
    agency: Annotated[
        list[str] | None,
        typer.Option(help=t("Autre agence qui échange : bi/iom.", "Another agency that exchanges: bi/iom.")),
    ] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(help=t("Flux (bilateral, receipt sans autre choix).", "Flow (default: bilateral, receipt).")),
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(help=t("Événement ; aucun : tous ceux des flux.", "Event; none: all those of the flows.")),
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option(help=t("Finalité.", "Purpose."))] = None,
    authorisation: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Autorisation obtenue : autorité;numéro;portée,portée;AAAA-MM-JJ.",
                "Authorisation held: authority;reference;scope,scope;YYYY-MM-DD.",
            )
        ),
    ] = None,
    retention_days: Annotated[
        int | None, typer.Option(min=1, help=t("Conservation en jours.", "Kept for so many days."))
    ] = None,
    legal_ref: Annotated[
        str | None, typer.Option(help=t("Titre et date du texte signé.", "Title and date of the text signed."))
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(help=t("Le texte signé : son empreinte y entre.", "The text signed: its digest goes in.")),
    ] = None,
    since: Annotated[str | None, typer.Option(help=t("Premier jour, AAAA-MM-JJ.", "First day, YYYY-MM-DD."))] = None,
    until: Annotated[str | None, typer.Option(help=t("Dernier jour, AAAA-MM-JJ.", "Last day, YYYY-MM-DD."))] = None,
    as_json: Json = False,
) -> None:
    mine = held(folder)
    raw = _started(template, mine.registry.domain, other or [], between or [])
    for member, given in (
        ("focal_points", focal_point),
        ("flows", flow),
        ("types", type),
        ("purposes", purpose),
        ("retention_days", retention_days),
        ("legal_ref", legal_ref),
        ("since", since),
        ("until", until),
    ):
        if given:
            raw[member] = given
    if agency:
        raw["agencies"] = [*(between or []), *agency]
    if authorisation:
        raw["authorisations"] = [_authorisation(one) for one in authorisation]
    if document is not None:
        raw["document_sha256"] = _digest(document)
    _ask_for_what_is_left(raw)
    if isinstance(raw.get("domains"), list) and len(raw["domains"]) > 1:
        # The own root is what this folder is believed by, whatever a template said.
        given_roots = dict(_root(one) for one in root or [])
        raw["root_fingerprints"] = {
            **raw["root_fingerprints"],
            **given_roots,
            mine.registry.domain: mine.trusted.pin.text,
        }
    agreement, lacking = draft_from(raw, name, mine.registry.domain)
    told = agreement_to_json(agreement)
    told["root_fingerprints"] = {k: v for k, v in agreement.root_fingerprints.items() if k not in lacking}
    file = out or Path(f"{name}.json")
    replace_file(file, orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    result(
        {"ok": True, "file": str(file), "missing_roots": sorted(lacking), "terms": told},
        as_json=as_json,
        lines=[
            *read_aloud(agreement, language(), names_in(mine.registry), lacking),
            t(f"Ébauche écrite : {file}", f"Draft written: {file}"),
            *(
                [
                    t(
                        f"À l'autre : umuhuza registry agreement draft {name} --from {file.name} --dir …, "
                        "qui y met sa racine et vous le renvoie.",
                        f"For the other side: umuhuza registry agreement draft {name} --from {file.name} --dir …, "
                        "which adds its root; then back to you.",
                    )
                ]
                if lacking
                else words_lines(agreement)
            ),
        ],
    )


def _started(template: Path | None, domain: str, others: list[str], between: list[str]) -> dict[str, Any]:
    """The members to begin with. Raises typer.BadParameter, RegistryError `registry_invalid`."""
    if template is not None:
        raw = read_agreement_json(template)
        if not isinstance(raw, dict) or not isinstance(raw.get("root_fingerprints"), dict):
            raise RegistryError("registry_invalid", "agreement.*")
        raw = dict(raw)
    else:
        if bool(others) is bool(between):
            raise typer.BadParameter(
                t("--with PAYS, --between AGENCE ou --from FICHIER", "--with COUNTRY, --between AGENCY or --from FILE"),
                param_hint="--with",
            )
        today = datetime.now(UTC).date()
        raw = {
            "domains": [],
            "agencies": [],
            "flows": ["bilateral", "receipt"] if others else ["referral", "receipt"],
            "types": [],
            "purposes": [],
            "focal_points": [],
            "authorisations": [],
            "retention_days": 1825,
            "legal_ref": "",
            "document_sha256": None,
            "since": today.isoformat(),
            "until": (today + timedelta(days=_YEARS * 365)).isoformat(),
            "root_fingerprints": {},
        }
    if others:
        raw["domains"] = sorted({domain, *others})
    if between:
        raw |= {"domains": [domain], "agencies": between, "root_fingerprints": {}}
    return raw


def _ask_for_what_is_left(raw: dict[str, Any]) -> None:
    """What nobody can guess is asked for at a terminal. Raises typer.BadParameter elsewhere."""
    crosses = isinstance(raw.get("domains"), list) and len(raw["domains"]) > 1
    wanted = [("legal_ref", "--legal-ref", t("Titre et date du texte signé", "Title and date of the text signed"))]
    if crosses:
        told = t("Points focaux, séparés par des espaces", "Focal points, separated by spaces")
        wanted.append(("focal_points", "--focal-point", told))
    wanted.append(("purposes", "--purpose", t("Finalité", "Purpose")))
    for member, option, question in wanted:
        if raw.get(member):
            continue
        said = line(question + t(" : ", ": "))
        if not said:
            raise typer.BadParameter(t("il manque", "missing"), param_hint=option)
        raw[member] = said if member == "legal_ref" else said.split() if member == "focal_points" else [said]


def _authorisation(text: str) -> dict[str, Any]:
    parts = [part.strip() for part in text.split(";")]
    if len(parts) != 4:
        raise typer.BadParameter(
            t(
                "attendu autorité;numéro;portée,portée;AAAA-MM-JJ",
                "expected authority;reference;scope,scope;YYYY-MM-DD",
            ),
            param_hint="--authorisation",
        )
    authority, ref, scope, until = parts
    return {"authority": authority, "ref": ref, "scope": [one.strip() for one in scope.split(",")], "until": until}


def _root(text: str) -> tuple[str, str]:
    domain, _, fingerprint = text.partition("=")
    try:
        return domain, RootPin.read(fingerprint).text
    except ValueError:
        raise typer.BadParameter(
            t("attendu tn=EMPREINTE, 43 caractères", "expected tn=FINGERPRINT, 43 characters"), param_hint="--root"
        ) from None


def _digest(file: Path) -> str:
    require_file(file, "--document")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_ours(agreement: Agreement, mine: TrustedRegistry) -> None:
    """What only this side can know, before it signs: its members, and its own root.

    Raises:
        RegistryError: agency_unknown; registry_root_unknown (path `agreement.root_fingerprints.bi`).
    """
    domain = mine.registry.domain
    for member, named in (("agencies", agreement.agencies), ("focal_points", agreement.focal_points)):
        for number, one in enumerate(named):
            if one.partition("/")[0] == domain and one not in mine.registry.agencies:
                raise RegistryError("agency_unknown", f"agreement.{member}[{number}]")
    if agreement.crosses:
        roots = [RootPin.of(mine.files[path]).text for path in mine.files if path.endswith(".root.json")]
        if agreement.root_fingerprints[domain] not in roots:
            raise RegistryError("registry_root_unknown", f"agreement.root_fingerprints.{domain}")


# ---------------------------------------------------------------------------------------------------------------------
# read


@app.command(
    help=t(
        "Lit un accord à haute voix : ses articles, et douze mots que les deux parties comparent.",
        "Read an agreement aloud: its articles, and twelve words that both sides compare.",
    )
)
def read(
    what: Annotated[
        str,
        typer.Argument(
            help=t("Fichier JSON, ou nom d'un accord du registre.", "JSON file, or name of one in the registry."),
            metavar="FILE|NAME",
        ),
    ],
    folder: Folder,
    name: Annotated[
        str | None, typer.Option(help=t("Son nom, si le fichier en porte un autre.", "Its name, if not the file's."))
    ] = None,
    as_json: Json = False,
) -> None:
    mine = held(folder).trusted
    agreement, lacking = _named(what, name, mine)
    registry = mine.registry
    protocol = None if agreement.crosses else standing(agreement, registry.agencies, training=registry.training)
    result(
        {
            "ok": True,
            "name": agreement.name,
            "missing_roots": sorted(lacking),
            **({} if protocol is None else {"protocol": protocol_json(protocol)}),
            "words": {} if lacking else {one: control_words(agreement, one) for one in ("fr", "en")},
            "text": {one: read_aloud(agreement, one, None, lacking) for one in ("fr", "en")},
        },
        as_json=as_json,
        lines=[
            *read_aloud(agreement, language(), names_in(mine.registry), lacking),
            *([] if lacking else words_lines(agreement)),
            *([] if protocol is None else [protocol_line(protocol)]),
        ],
    )


def _named(what: str, name: str | None, mine: TrustedRegistry) -> tuple[Agreement, frozenset[str]]:
    """A file, or what the registry holds. Raises RegistryError, typer.BadParameter."""
    if what in mine.agreements:
        return mine.agreements[what], frozenset()
    file = Path(what)
    if not file.is_file():
        raise typer.BadParameter(
            t("ni fichier ni accord du registre", "neither a file nor in the registry"), param_hint="FILE|NAME"
        )
    return draft_from(read_agreement_json(file), name or file.stem, mine.registry.domain)


# ---------------------------------------------------------------------------------------------------------------------
# compare


@app.command(
    help=t(
        "Compare un accord à celui de l'autre (fichier ou extrait de registre) et nomme ce qui diffère. 1 : autre.",
        "Compare an agreement with the other side's (file or excerpt), naming what differs. 1: other.",
    )
)
def compare(
    what: Annotated[
        str,
        typer.Argument(
            help=t("Fichier JSON, ou nom d'un accord du registre.", "JSON file, or name of one in the registry."),
            metavar="FILE|NAME",
        ),
    ],
    folder: Folder,
    theirs: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "L'accord de l'autre en JSON, ou l'extrait de son registre ; sinon le registre d'ici.",
                "The other side's agreement as JSON, or its excerpt; else the own registry.",
            )
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help=t("Son nom, si le fichier en porte un autre.", "Its name, if not the file's."))
    ] = None,
    as_json: Json = False,
) -> None:
    mine = held(folder).trusted
    ours, lacking = _named(what, name, mine)
    missing = {f"root_fingerprints.{domain}" for domain in lacking}
    other = mine.agreements.get(ours.name) if theirs is None else _theirs(theirs, ours)
    found = [] if other is None else differences(ours, other)
    same = other is not None and not found
    found = [replace(one, here="") if one.path in missing else one for one in found]
    rows = [(one.path, one.here or "–", one.there or "–") for one in found]
    if as_json:
        told = [{"path": one.path, "here": one.here, "there": one.there} for one in found]
        result({"ok": same, "name": ours.name, "found": other is not None, "differences": told}, as_json=True)
    elif other is None:
        said = t("Le registre d'ici ne l'a pas.", "The own registry does not have it.")
        if theirs is not None:
            said = t("L'autre ne l'a pas (encore).", "The other side does not have it (yet).")
        result({}, as_json=False, lines=[said])
    elif same:
        result({}, as_json=False, lines=[t("Les mêmes termes.", "The same terms."), *words_lines(ours)])
    else:
        headers = (t("Membre", "Member"), t("ici", "here"), t("là-bas", "there"))
        table(t("Ce qui diffère", "What differs"), headers, rows)
    if not same:
        raise SystemExit(1)


def _theirs(file: Path, ours: Agreement) -> Agreement | None:
    """The other side's, None where its registry has none of this name.

    An excerpt is believed by the root that our own text names for it: who has another root is not whom we mean.

    Raises:
        RegistryError: registry_invalid, registry_root_unknown and what else `trusted` finds.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_REGISTRY_BYTES + 1)
        raw = ijson.loads(data, max_bytes=MAX_REGISTRY_BYTES)
    except OSError:
        raise RegistryError("registry_invalid", "theirs") from None
    except ijson.IJsonError as exc:
        raise RegistryError("registry_invalid", exc.path or "theirs") from None
    if isinstance(raw, dict) and "domains" in raw:
        domains = raw["domains"] if isinstance(raw["domains"], list) and raw["domains"] else [""]
        return draft_from(raw, ours.name, str(domains[0]), "theirs")[0]
    refused: RegistryError | None = None
    for fingerprint in ours.root_fingerprints.values():
        try:
            return trusted(data, RootPin.read(fingerprint), excerpt=True).agreements.get(ours.name)
        except RegistryError as exc:
            refused = exc
            if exc.code != "registry_root_unknown":
                raise
    raise RegistryError("registry_root_unknown", "theirs") if refused is None else refused


def read_signed_text(file: Path, name: str, domain: str) -> Agreement:
    """A file that is complete enough to be signed. Raises RegistryError `registry_invalid`."""
    return agreement_from_json(read_agreement_json(file), name, domain)
