# SPDX-License-Identifier: Apache-2.0
"""What a person gets when she asked what is held about her: words for her, and the sheet as HTML, CSV or JSON. No I/O.

    copy_for_her   at a holder: her own answers to closed questions, in words, out of the records that it can open
    Sheet, html, csv_text, json_text   at the agency that she chose: every answer, and who has not answered yet

Invariants: French or English as she wants it, else French; she is a person on it, never a case; what is written on a
page is escaped, a cell is never a formula.
Must never: hold what is about others (who brought her, who advised, caregivers, free text); name an agency that an
answer does not come from.
"""

from __future__ import annotations

import csv
import html as markup
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from adapters.access import Asked, Holdings, Opener, from_others
from adapters.connectors import paper
from schemas import htcds
from schemas.errors import KeyStoreError, Language, UmuhuzaError
from schemas.forms import Birth, Facts
from schemas.whom import referral_of

MOST_TEXT = 7900
"""Characters of a copy; the form takes 8,000."""
_HERS = frozenset(
    name
    for name, field in htcds.FIELDS.items()
    if name.startswith(("prs_", "vic_", "spl_", "con_")) and field.kind != "note"
) - {"prs_Title", "prs_Deceased", "vic_RelationshipToTrafficker", "vic_TraffickingStatusDecisionMakingOrg"}
_STATUS = {
    "PossibleVictimOfTrafficking": ("traite possible", "possible trafficking"),
    "ActualVictimOfTrafficking": ("traite établie", "trafficking established"),
    "NotAVictimOfTrafficking": ("traite non retenue", "no trafficking found"),
}
"""The standard's own labels name her by what was done to her."""
_OUTCOMES = {
    "answered": ("Cette agence détient des informations sur vous.", "This agency holds information about you."),
    "nothing-held": ("Cette agence ne détient rien sur vous.", "This agency holds nothing about you."),
    "not-verified": (
        "Cette agence n'a pas pu s'assurer que la demande vient de vous. Demandez-nous comment faire.",
        "This agency could not make sure that the request is yours. Ask us what to do.",
    ),
    "restricted": (
        "Un texte ne permet pas à cette agence d'en dire plus.",
        "A text does not allow this agency to say more.",
    ),
}
_MONTHS = {
    "fr": ("janv.", "févr.", "mars", "avr.", "mai", "juin", "juill.", "août", "sept.", "oct.", "nov.", "déc."),
    "en": ("Jan.", "Feb.", "March", "April", "May", "June", "July", "Aug.", "Sept.", "Oct.", "Nov.", "Dec."),
}
_COLUMNS = (
    ("agency", "Agence", "Agency"),
    ("asked_at", "Demandé le", "Asked on"),
    ("due_at", "Réponse attendue avant le", "Answer expected by"),
    ("answered_at", "Répondu le", "Answered on"),
    ("outcome", "Réponse", "Answer"),
    ("records", "Enregistrements", "Records"),
    ("since", "Depuis le", "Since"),
    ("until", "Gardé jusqu'au", "Kept until"),
    ("onward", "Transmis à (nombre d'agences)", "Passed on to (number of agencies)"),
    ("legal_reference", "Texte", "Text"),
    ("words", "À lui lire", "To be read to her"),
)


def words_in(wanted: str | None) -> Language:
    """The language of what she gets: French unless she asked for English; others are not signed off yet."""
    return "en" if wanted == "en" else "fr"


def day(at: float, zone: tzinfo, language: Language) -> str:
    """`3 nov. 2026`, `3 Nov. 2026`. `at`: seconds since the epoch."""
    moment = datetime.fromtimestamp(at, UTC).astimezone(zone)
    number = "1er" if language == "fr" and moment.day == 1 else str(moment.day)
    return f"{number} {_MONTHS[language][moment.month - 1]} {moment.year}"


# ---------------------------------------------------------------------------------------------------------------------
# At a holder


def copy_for_her(found: Holdings, peer: str, opened: Opener, language: Language, *, whole: bool = True) -> str | None:
    """What an answer to `peer` says to her in words; None where there is nothing to say.

    Args:
        whole: with a copy of what she answered; else only what no other member of the answer tells.
    """
    pick = 0 if language == "fr" else 1
    lines: list[str] = []
    others = from_others(found, peer)
    if others:
        lines.append(
            (
                f"Nous gardons aussi {others} enregistrement(s) venu(s) d'autres agences.",
                f"We also hold {others} record(s) that came from other agencies.",
            )[pick]
        )
    if whole:
        told = _told(found, opened, language)
        lines += told
        if told:
            lines.append(
                (
                    "Les textes libres ne sont pas recopiés : ils peuvent parler d'autres personnes.",
                    "Free text is not copied: it may speak of other people.",
                )[pick]
            )
    text = "\n".join(lines)
    if len(text) > MOST_TEXT:
        rest = ("La suite vous sera lue sur place.", "The rest will be read to you in person.")[pick]
        text = text[: text.rindex("\n", 0, MOST_TEXT - len(rest))] + "\n" + rest
    return text or None


def _told(found: Holdings, opened: Opener, language: Language) -> list[str]:
    """Her answers, each once, in the order in which they were given."""
    lines: dict[str, None] = {}
    for one in found.records:
        if one.item is None:
            continue
        try:
            facts = opened(one.item).facts
        except KeyStoreError:
            raise  # a device that is away for a moment: nothing may be left out for that
        except UmuhuzaError:
            continue  # its key is gone: it is here and can be read no more
        lines.update(dict.fromkeys(_lines(facts, language)))
    return list(lines)


def _lines(facts: Facts, language: Language) -> list[str]:
    fr = language == "fr"
    referral = referral_of(facts)
    found: list[tuple[str, str]] = []
    if referral is not None:
        found.append(("Nom" if fr else "Name", referral.name.as_given))
        found.append(("Naissance" if fr else "Birth", _birth(referral.birth, language)))
        if referral.languages:
            spoken = ", ".join(htcds.label("language", one, language) for one in referral.languages)
            found.append(("Langues" if fr else "Languages", spoken))
        asked = "; ".join(htcds.label("spl_Type", one, language) for one in referral.services)
        found.append(("Accompagnement demandé" if fr else "Services asked for", asked))
    elif facts.birth is not None:
        found.append(("Naissance" if fr else "Birth", _birth(facts.birth, language)))
    for name, value in facts.htcds.items():
        if name in _HERS:
            found.append((htcds.field_label(name, language), _answer(name, value, language)))
    if facts.service is not None:
        found.append(
            (
                "Accompagnement reçu" if fr else "Service provided",
                f"{htcds.label('spl_Type', facts.service.type, language)}, "
                f"{day(facts.service.began_at.timestamp(), UTC, language)}",
            )
        )
    consent = None if facts.lawful is None else facts.lawful.consent
    if consent is not None:
        given, ends = (day(one.timestamp(), UTC, language) for one in (consent.given_at, consent.expires_at))
        found.append(
            ("Votre consentement" if fr else "Your consent", f"{given} – {ends}"),
        )
    colon = " : " if fr else ": "
    return [f"{label}{colon}{value}" for label, value in found]


def _birth(birth: Birth, language: Language) -> str:
    if birth.date is not None:
        return birth.date
    if birth.age_years is not None:
        return f"{birth.age_years} ans" if language == "fr" else f"{birth.age_years} years"
    return "inconnue" if language == "fr" else "unknown"


def _answer(name: str, value: str | Sequence[str], language: Language) -> str:
    values = (value,) if isinstance(value, str) else tuple(value)
    if name == "vic_TraffickingStatus":
        return ", ".join(_STATUS.get(one, ("autre", "other"))[0 if language == "fr" else 1] for one in values)
    known = dict(htcds.options(name, language)) if htcds.codes(name) else {}
    return ", ".join(known.get(one, one) for one in values)


# ---------------------------------------------------------------------------------------------------------------------
# At the agency that she chose


@dataclass(frozen=True, slots=True)
class Answer:
    """One agency's, or its silence."""

    agency: str
    """As it is shown."""
    asked: Asked
    late: bool
    """No answer, and its time has passed."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything on one sheet. `at`: when it was made, seconds since the epoch."""

    agency: str
    at: int
    here: Holdings
    answers: tuple[Answer, ...]


def outcome_words(one: Answer, zone: tzinfo, language: Language) -> str:
    """What that agency answered, or by when it is to."""
    pick = 0 if language == "fr" else 1
    if one.asked.answer is not None:
        return _OUTCOMES[one.asked.answer.outcome][pick]
    due = day(one.asked.due_at, zone, language)
    if one.late:
        return (
            f"Pas de réponse ; elle était attendue avant le {due}. Nous la rappelons.",
            f"No answer; it was expected by {due}. We call them again.",
        )[pick]
    return (f"Pas encore de réponse ; attendue avant le {due}.", f"No answer yet; expected by {due}.")[pick]


def html(sheet: Sheet, zone: tzinfo, language: Language) -> str:
    """A page to print, for her."""
    fr = language == "fr"
    title = "Ce que les agences gardent sur vous" if fr else "What agencies hold about you"
    said = [_section(sheet.agency, _here(sheet.here, zone, language))]
    said += [_section(one.agency, _answered(one, zone, language)) for one in sheet.answers]
    notes = (
        (
            "Vous pouvez demander qu'une information soit corrigée ou effacée. Ce qui a été lu ne peut pas redevenir "
            "non lu.",
            "Ne gardez cette feuille que si c'est sans danger pour vous. Nous pouvons la garder ici.",
        )
        if fr
        else (
            "You can ask that something be corrected or erased. What was read cannot be unread.",
            "Keep this sheet only if that is without danger for you. We can keep it here.",
        )
    )
    below = "\n".join(f"<p>{markup.escape(one)}</p>" for one in notes)
    return f"""<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
@page {{ size: A4; margin: 18mm; }}
body {{ font: 12pt/1.5 system-ui, sans-serif; color: #111; background: #fff; margin: 1rem auto; max-width: 42rem;
  padding: 0 1rem; }}
h1 {{ font-size: 18pt; line-height: 1.25; margin: 0 0 .25rem; }}
h2 {{ font-size: 13pt; margin: 1.5rem 0 .25rem; }}
section {{ break-inside: avoid; }}
p {{ margin: .25rem 0; }}
.words {{ white-space: pre-line; }}
footer {{ margin-top: 2rem; border-top: 1px solid #999; padding-top: .5rem; }}
</style>
<main>
<h1>{title}</h1>
<p>{day(sheet.at, zone, language)}</p>
{"".join(said)}
</main>
<footer>
{below}
</footer>
</html>
"""


def _section(agency: str, lines: Sequence[tuple[str, str]]) -> str:
    inner = "\n".join(f"<p{f' class={kind!r}' if kind else ''}>{markup.escape(text)}</p>" for kind, text in lines)
    return f"<section>\n<h2>{markup.escape(agency)}</h2>\n{inner}\n</section>\n"


def _here(here: Holdings, zone: tzinfo, language: Language) -> list[tuple[str, str]]:
    fr = language == "fr"
    lines = [("", "C'est l'agence par laquelle vous avez demandé." if fr else "The agency through which you asked.")]
    if not here.records:
        lines.append(("", _OUTCOMES["nothing-held"][0 if fr else 1]))
        return lines
    first, last = here.records[0].at, max(one.until for one in here.records)
    lines.append(("", _counted(len(here.records), first, last, zone, language)))
    lines.append(("", _onward(len(here.onward), language)))
    return lines


def _counted(count: int, since: float, until: float, zone: tzinfo, language: Language) -> str:
    first, last = day(since, zone, language), day(until, zone, language)
    if language == "fr":
        return f"{count} enregistrement(s), depuis le {first}, gardé(s) jusqu'au {last} au plus tard."
    return f"{count} record(s), since {first}, kept until {last} at the latest."


def _onward(count: int, language: Language) -> str:
    if language == "fr":
        return f"Transmis à {count} agence(s)." if count else "Transmis à personne."
    if count == 1:
        return "Passed on to one agency."
    return f"Passed on to {count} agencies." if count else "Passed on to nobody."


def _answered(one: Answer, zone: tzinfo, language: Language) -> list[tuple[str, str]]:
    lines = [("", outcome_words(one, zone, language))]
    answer = one.asked.answer
    if answer is None:
        return lines
    if answer.held:
        since = min(each.since.timestamp() for each in answer.held)
        until = max((each.until or each.since).timestamp() for each in answer.held)
        lines.append(("", _counted(len(answer.held), since, until, zone, language)))
    if answer.outcome == "answered":
        lines.append(("", _onward(answer.onward, language)))
    if answer.legal_reference is not None:
        lines.append(("", answer.legal_reference))
    if answer.copy_text is not None:
        lines.append(("words", answer.copy_text))
    return lines


def rows(sheet: Sheet) -> list[dict[str, object]]:
    """One per answer, by the names of the columns; times as ISO 8601 in UTC. For programs."""
    found: list[dict[str, object]] = []
    for one in sheet.answers:
        answer = one.asked.answer
        held = () if answer is None else answer.held
        found.append(
            {
                "agency": one.asked.peer,
                "asked_at": _iso(one.asked.at),
                "due_at": _iso(one.asked.due_at),
                "answered_at": None if one.asked.answered_at is None else _iso(one.asked.answered_at),
                "outcome": "late" if one.late else "waiting" if answer is None else answer.outcome,
                "records": [each.record for each in held],
                "since": min((_iso(each.since.timestamp()) for each in held), default=None),
                "until": max((_iso(each.until.timestamp()) for each in held if each.until), default=None),
                "onward": None if answer is None else answer.onward,
                "legal_reference": None if answer is None else answer.legal_reference,
                "words": None if answer is None else answer.copy_text,
            }
        )
    return found


def _iso(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat()


def json_text(sheet: Sheet) -> bytes:
    """For programs: what is here, and every answer."""
    made = {
        "agency": sheet.agency,
        "made_at": _iso(sheet.at),
        "here": {
            "records": [one.ident for one in sheet.here.records],
            "since": _iso(sheet.here.records[0].at) if sheet.here.records else None,
            "until": max((_iso(one.until) for one in sheet.here.records), default=None),
            "onward": list(sheet.here.onward),
        },
        "answers": rows(sheet),
    }
    return json.dumps(made, ensure_ascii=False, indent=1).encode("utf-8") + b"\n"


def csv_text(sheet: Sheet, zone: tzinfo, language: Language) -> bytes:
    """UTF-8 with its mark, semicolons: what Excel opens with a double click here. One row per answer."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", lineterminator="\r\n")
    writer.writerow([fr if language == "fr" else en for _, fr, en in _COLUMNS])
    for one, row in zip(sheet.answers, rows(sheet), strict=True):
        records = row["records"]
        shown = {
            **row,
            "agency": one.agency,
            "outcome": outcome_words(one, zone, language),
            "records": len(records) if isinstance(records, list) else 0,
        }
        for name in ("asked_at", "due_at", "answered_at", "since", "until"):
            moment = row[name]
            shown[name] = None if moment is None else f"{datetime.fromisoformat(str(moment)).astimezone(zone):%Y-%m-%d}"
        cells = ["" if shown[name] is None else str(shown[name]) for name, _, _ in _COLUMNS]
        writer.writerow([paper.guarded(cell) for cell in cells])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8")
