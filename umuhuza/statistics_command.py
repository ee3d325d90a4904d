# SPDX-License-Identifier: Apache-2.0
"""`umuhuza statistics`: an agency's own counts, and the commission's release of everybody's.

Must never: publish before the release file is durable (a second try must give the same, not another release); leave
the release file, which holds every figure, readable by others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adapters import projections, statistics, statistics_html, statistics_pages
from adapters.connectors.places import write_durably
from adapters.projections import Entry
from adapters.settings import FILE_NAME
from adapters.statistics import Release, Submission
from schemas import htcds, ijson
from schemas.errors import Language, RegistryError, SourceError, UmuhuzaError
from schemas.forms import validated
from schemas.plain.statistics import StatisticsSubmitted
from topics.policy_file import policy
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import result, say, t

app = typer.Typer(no_args_is_help=True)
_MAX_BYTES = 16 << 20
_LANGUAGES: tuple[tuple[Language, str], ...] = (("fr", "statistiques"), ("en", "statistics"))
Counted = Literal["persons-identified", "persons-assisted", "cases-opened"]


def _half_year(text: str) -> str:
    if not statistics.is_period(text):
        raise typer.BadParameter(t("attendu un semestre, 2026-H1", "expected a half-year, 2026-H1"))
    return text


Period = Annotated[
    str, typer.Option("--period", callback=_half_year, help=t("Semestre, 2026-H1.", "Half-year, 2026-H1."))
]


@app.command(
    help=t(
        "Publie un semestre : tableaux et graphiques, français et anglais, petits nombres masqués.",
        "Release a half-year: tables and charts, French and English, small counts hidden.",
    )
)
def release(
    period: Period,
    sources: Annotated[
        list[Path],
        typer.Option(
            "--in",
            help=t(
                "Dossier de la commission (ses messages reçus), ou dossier ou fichier JSON ; plusieurs fois possible.",
                "The commission's folder (what it received), or a folder or file of JSON; may be repeated.",
            ),
        ),
    ],
    previous: Annotated[
        Path,
        typer.Option(
            help=t(
                "Dossier des publications précédentes, réservé à la commission.",
                "Folder of earlier releases, the commission's own.",
            )
        ),
    ],
    out: Annotated[Path, typer.Option(help=t("Dossier à publier.", "Folder to publish."))],
    least: Annotated[
        int,
        typer.Option(
            "--k", min=2, help=t("Plus petit nombre montré, zéro à part.", "Least count shown, apart from 0.")
        ),
    ] = statistics.K,
    arabic: Annotated[
        bool,
        typer.Option(
            "--arabic",
            help=t(
                "Aussi la page en arabe, qui se dit brouillon tant que personne ne l'a relue.",
                "The page in Arabic too, which says that it is a draft until somebody has reviewed it.",
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    earlier = list(_releases(previous))
    known = any(one.period == period for one in earlier)
    submissions = [] if known else [one for path in sources for one in _submissions(path)]
    for one in submissions:
        statistics.check(one)
    if not known and not any(one.period == period for one in submissions):
        say(
            t(
                f"Aucune agence n'a transmis de dénombrements pour {period} : rien n'est publié, rien n'est figé.",
                f"No agency has submitted counts for {period}: nothing is released, nothing is final.",
            )
        )
        raise typer.Exit(1)
    found = statistics.release(period, submissions, earlier, least)
    previous.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = previous / f"release-{period}.json"
    if not known:
        write_durably(kept, json.dumps(statistics.dumps(found), indent=1).encode("utf-8"))
    written = _publish(found, out, arabic)
    agencies = len(found.sources.get(period, ()))
    revised = sum(table.revised for table in found.tables)
    result(
        {
            "period": period,
            "tables": len(found.tables),
            "agencies": agencies,
            "revised": revised,
            "known": known,
            "published": [str(path) for path in written],
            "kept": str(kept),
        },
        as_json=as_json,
        lines=[
            t(
                f"Semestre {period} : {len(found.tables)} tableaux, {agencies} agences, {revised} révisés.",
                f"Half-year {period}: {len(found.tables)} tables, {agencies} agencies, {revised} revised.",
            ),
            *(
                [
                    t(
                        "Déjà publié : les mêmes tableaux. Les corrections entrent dans la publication suivante.",
                        "Released already: the same tables. Corrections enter the next release.",
                    )
                ]
                if known
                else []
            ),
            t("À publier : ", "To publish: ") + ", ".join(map(str, written)),
            t(f"À garder pour vous, avec tous les chiffres : {kept}", f"To keep, with every figure: {kept}"),
        ],
    )


def _publish(found: Release, out: Path, arabic: bool) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for words, stem in _LANGUAGES:
        for suffix, data in (
            ("html", statistics_html.page(found, words)),
            ("xlsx", statistics_pages.xlsx(found, words)),
            ("csv", statistics_pages.csv_text(found, words)),
        ):
            path = out / f"{stem}-{found.period}.{suffix}"
            write_durably(path, data)
            written.append(path)
    if arabic:
        written.append(out / f"statistics-ar-{found.period}.html")
        write_durably(written[-1], statistics_html.page(found, "ar"))
    return written


def _releases(folder: Path) -> Iterator[Release]:
    for path in sorted(folder.glob("release-*.json")):
        yield statistics.loads(_object(path))


def _object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises SourceError."""
    try:
        raw = ijson.loads(path.read_bytes(), max_bytes=_MAX_BYTES, max_depth=16)
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    except ijson.IJsonError as exc:
        raise SourceError("source_unreadable", exc.path or "file") from None
    if not isinstance(raw, dict):
        raise SourceError("source_unreadable", "file")
    return raw


def _submissions(path: Path) -> Iterator[Submission]:
    if (path / FILE_NAME).is_file():
        with opened_agency(path) as parts:
            yield from received(parts)
    elif path.is_dir():
        for each in sorted(path.glob("*.json")):
            yield _in_file(each)
    else:
        yield _in_file(path)


def received(parts: AgencyParts) -> list[Submission]:
    """What stands in the mailbox, without what was retracted or cannot be opened any more."""
    inbox = parts.inbox()
    found = []
    for item in parts.mailbox.arrivals.all():
        if item.type != "statistics.submitted" or item.state not in ("ready", "delivered"):
            continue
        thread = parts.mailbox.thread(item.thread)
        if thread is None or thread.state == "retracted":
            continue
        try:
            said = inbox.opened(item).facts.said
        except UmuhuzaError:
            continue  # erased since
        if isinstance(said, StatisticsSubmitted):
            found.append(_submission(item.iss, datetime.fromtimestamp(item.at_ms / 1000, UTC), said))
    return found


def _in_file(path: Path) -> Submission:
    """`{"agency", "at", "said"}`. Raises SourceError, PayloadError."""
    raw = _object(path)
    try:
        agency, at, said = str(raw["agency"]), datetime.fromisoformat(str(raw["at"])), raw["said"]
    except (KeyError, ValueError):
        raise SourceError("row_invalid", "*", expected="agency, at, said") from None
    if at.tzinfo is None or not isinstance(said, dict):
        raise SourceError("row_invalid", "at", expected="agency, at, said")
    return _submission(agency, at, validated(StatisticsSubmitted, said, "said"))


def _submission(agency: str, at: datetime, said: StatisticsSubmitted) -> Submission:
    fields = statistics.counted_fields()
    counts = {(one.field, one.code): one.count for one in said.counts if one.field in fields}
    return Submission(agency, said.period, said.place, said.counted, at, said.persons, counts)


@app.command(
    help=t(
        "Compte ce que votre agence a reçu, en un fichier pour « agency send ».",
        "Count what your agency received, into a file for `agency send`.",
    )
)
def build(
    folder: Folder,
    period: Period,
    counted: Annotated[Counted, typer.Option(help=t("Ce qui est compté.", "What is counted."))] = "persons-assisted",
    place: Annotated[
        str, typer.Option(help=t("Province, par son code ; ou national.", "Province, by its code; or national."))
    ] = "national",
    to: Annotated[
        str | None, typer.Option(help=t("La commission qui reçoit.", "The commission that receives."))
    ] = None,
    out: Annotated[Path | None, typer.Option(help=t("Fichier à écrire.", "File to write."))] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        opener = parts.inbox().opened
        now = datetime.fromtimestamp(parts.now(), UTC)
        found = projections.cases(projections.read(parts.mailbox, opener), now)
        said = counts_of(found, period, place, counted)
        draft = {
            "to": to or _commission(parts),
            "type": "statistics.submitted",
            "facts": {"occurred_at": now.isoformat(timespec="seconds"), "said": said.model_dump(mode="json")},
        }
    path = out or folder / f"statistiques-{period}.json"
    write_durably(path, json.dumps(draft, ensure_ascii=False, indent=1).encode("utf-8"))
    result(
        {"persons": said.persons, "file": str(path)},
        as_json=as_json,
        lines=[
            t(f"{said.persons} comptés, dans {path}.", f"{said.persons} counted, in {path}."),
            t(
                "Ce que vous avez envoyé est scellé pour son destinataire : seul ce que vous recevez en dit les codes. "
                "Complétez le fichier d'après vos dossiers.",
                "What you sent is sealed to its recipient: only what you received tells its codes. "
                "Complete the file from your own records.",
            ),
            t(
                f"Ensuite : umuhuza agency send {path} --dir {folder}",
                f"Then: umuhuza agency send {path} --dir {folder}",
            ),
        ],
    )


def _commission(parts: AgencyParts) -> str:
    """The only member with a mailbox for counts. Raises RegistryError."""
    roles = policy().mailboxes.get("statistics", frozenset())
    found = [one.id for one in parts.registry().agencies.values() if roles & set(one.roles)]
    if len(found) != 1:
        raise RegistryError("agency_unknown", "to", expected="--to")
    return found[0]


_ASSISTED = ("accepted", "in-progress", "completed", "ended")


def counts_of(entries: tuple[Entry, ...], period: str, place: str, counted: Counted) -> StatisticsSubmitted:
    """What an agency's projection says of one half-year, each person (or case) once.

    Threads without a reference of the agency's own count as persons of their own.
    """
    chosen: dict[str, dict[str, tuple[str, ...]]] = {}
    for one in entries:
        if statistics.period_of((one.occurred_at or one.opened_at).date()) != period:
            continue
        if counted == "persons-assisted":
            fits = one.machine == "referral" and not one.sent and one.state in _ASSISTED
        else:
            fits = one.machine == "case" and one.state != "retracted"
        if fits:
            key = one.thread if counted == "cases-opened" or one.person is None else f"={one.person}"
            chosen.setdefault(key, {}).update(one.htcds)
    found: dict[tuple[str, str], int] = {}
    for answers in chosen.values():
        for field, codes in answers.items():
            for code in set(codes):
                found[field, code] = found.get((field, code), 0) + 1
    return validated(StatisticsSubmitted, _form(found, period, place, counted, len(chosen)), "said")


def _form(found: Mapping[tuple[str, str], int], period: str, place: str, counted: str, persons: int) -> dict[str, Any]:
    coded = [key for key in sorted(found) if htcds.codes(key[0])]
    return {
        "period": period,
        "place": place,
        "counted": counted,
        "persons": persons,
        "counts": tuple({"field": field, "code": code, "count": found[field, code]} for field, code in coded),
    }
