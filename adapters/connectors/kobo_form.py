# SPDX-License-Identifier: Apache-2.0
"""What one KoboToolbox submission of the HTCDS XLSForm says: answers become Facts, defects become Problems.

Pure: the clock is an argument, no file is touched. The differences between IOM's form and IOM's standard are data
here, each is handled and each is said to the author (`Reading.notes`).

Invariants: a submission becomes one Draft or at least one Problem, never half of it; nothing in it is silently left
out (an unknown question is a Problem, what is not sent is a note).
Never: raises for what is inside a submission, guesses a code, or quotes free text.

Sources: HTCDS 2.0 `htcds_xlsform` (IOM, CC BY 4.0), version vSmt4GQA3C9uBMLPEVfgND; KoboToolbox API v2, data list.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from adapters.connectors.contract import Draft, Problem
from schemas import htcds
from schemas.errors import PayloadError
from schemas.forms import Consent, Facts, Lawful

LINE = "submission"
"""`Draft.line`: a submission is one batch with one draft."""

RENAMED: Mapping[str, str] = {
    "prs_First_Name": "prs_FirstName",
    "prs_Second_Name": "prs_SecondName",
    "vic_Methods_of_Control": "vic_MethodsOfControl",
}
"""Questions that the form calls otherwise than the standard."""

QUESTIONS: tuple[str, ...] = (
    "con_Consent",
    "prs_Salutation",
    "prs_First_Name",
    "prs_Second_Name",
    "prs_Birthdate",
    "prs_Gender",
    "prs_Citizenship",
    "prs_Title",
    "prs_Email",
    "prs_HomePhone",
    "prs_MobilePhone",
    "prs_MailingCity",
    "prs_MailingCountry",
    "prs_MailingState",
    "prs_MailingStreet",
    "prs_MailingPostalCode",
    "vic_MethodOfRecruitment",
    "vic_LocationOfRecruitment",
    "vic_TraffickingStatus",
    "vic_TraffickingStatusDecisionMakingOrg",
    "vic_Methods_of_Control",
    "vic_TypeOfExploitation",
    "vic_ForcedLabourIndustry",
    "vic_TypeOfSexExploitation",
    "vic_LocationOfExploitation",
    "cas_Status",
    "cas_ReferringOrganisation",
    "cas_IncomingReferralDate",
    "cas_ReferringPrimaryCaseWorker",
    "cas_ReasonForIncomingReferral",
    "cas_IncomingReferralDetails",
)
"""Every question of the form, by its own name. An agency may add others that carry a field name of the standard."""

MULTIPLE_IN_FORM_ONLY = frozenset({"vic_ForcedLabourIndustry"})
"""select_multiple in the form, a single code in the standard."""
FREE_TEXT_IN_FORM: Mapping[str, str] = {"cas_ReasonForIncomingReferral": "cas_IncomingReferralDetails"}
"""Free text in the form, a code in the standard -> the field that keeps the words when no code fits."""
MISLABELLED = frozenset({"prs_Title"})
"""The XLSForm shows "Second Name" above the person's position: a second name may stand there."""

# What Kobo and XLSForm add around the answers. Anything else beginning with "_" is Kobo's too.
_AROUND = frozenset(
    {
        "start",
        "end",
        "today",
        "username",
        "deviceid",
        "phonenumber",
        "simserial",
        "subscriberid",
        "audit",
        "formhub/uuid",
        "meta/instanceID",
        "meta/instanceName",
        "meta/rootUuid",
        "meta/deprecatedID",
        "meta/audit",
    }
)
_IDENT = re.compile(r"[A-Za-z0-9-]{1,100}")
_QUESTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
_MAX_QUESTIONS = 500
_CLOCK_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was handled, or not sent, and is told to the author. Quotes no answers."""

    fr: str
    en: str


@dataclass(frozen=True, slots=True)
class Reading:
    root: str | None
    """The submission's lasting identifier, the same after every edit; None where it has none."""
    before: str | None
    """The instance that this one replaces, as older Kobo servers say it."""
    digest: str
    """SHA-256 of the answers alone: Kobo's own members (validation, tags) may change without an edit."""
    items: tuple[Draft | Problem, ...]
    notes: tuple[Note, ...]


def in_english(where: str) -> str:
    """« soumission 2, question « prs_Gender » » -> « submission 2, question « prs_Gender » »."""
    return re.sub("^soumission", "submission", where)


@dataclass(slots=True)
class _Desk:
    """What piles up while one submission is read."""

    where: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def refuse(self, code: str, where: str, fr: str, en: str) -> None:
        line = LINE if not self.problems else f"{LINE}#{len(self.problems) + 1}"
        place = f"{self.where}, {where}" if self.where and where else self.where or where or "soumission"
        self.problems.append(Problem(place, code, fr, en, line, where_en=in_english(place)))

    def note(self, fr: str, en: str) -> None:
        if Note(fr, en) not in self.notes:
            self.notes.append(Note(fr, en))


def identify(submission: Mapping[str, Any]) -> str | None:
    """The root uuid, without its `uuid:` prefix: `meta/rootUuid`, else the instance's own."""
    return next(
        (
            found
            for name in ("meta/rootUuid", "meta/instanceID", "_uuid")
            if (found := _uuid(submission.get(name))) is not None
        ),
        None,
    )


def _uuid(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    bare = value.strip().removeprefix("uuid:")
    return bare if _IDENT.fullmatch(bare) else None


def read(
    submission: Mapping[str, Any],
    *,
    to: str,
    event_type: str,
    now: datetime,
    consent_days: int,
    where: str = "",
) -> Reading:
    """One submission, as it stands in Kobo's JSON.

    Args:
        now: aware; only for what cannot be (a birth or an interview in the future) and for expired consent.
        consent_days: how long the consent of `con_Consent` holds, counted from the interview.
        where: which submission of the file, for the author; "" when it is the only one.
    """
    desk = _Desk(where)
    answers = _answers(submission, desk)
    values = _values(answers, desk)
    root = identify(submission)
    if root is None:
        desk.refuse(
            "row_invalid",
            "",
            "La soumission n'a pas d'identifiant (meta/rootUuid, meta/instanceID ou _uuid) : exportez-la de nouveau "
            "depuis Kobo, au format JSON.",
            "The submission has no identifier (meta/rootUuid, meta/instanceID or _uuid): export it again from Kobo, "
            "as JSON.",
        )
    _validated(submission, desk)
    occurred = _occurred(submission, now, desk)
    lawful = _lawful(submission, values, occurred, now, consent_days, desk)
    _not_born_yet(values, now, desk)
    if submission.get("_attachments"):
        desk.note(
            "Les pièces jointes de Kobo ne sont pas envoyées.",
            "Kobo's attachments are not sent.",
        )
    items: tuple[Draft | Problem, ...] = tuple(desk.problems)
    if not items and root is not None and occurred is not None and lawful is not None:
        number = submission.get("_id")
        reference = str(number) if isinstance(number, int) and not isinstance(number, bool) else root
        try:
            facts = Facts(occurred_at=occurred, htcds=values, lawful=lawful)
            items = (Draft(LINE, to, event_type, f"kobo:{reference}", None, facts),)
        except ValidationError:
            desk.refuse(
                "row_invalid",
                "",
                "La soumission ne forme pas un dossier complet.",
                "The submission does not make a complete case.",
            )
            items = tuple(desk.problems)
    return Reading(root, _uuid(submission.get("meta/deprecatedID")), _digest(answers), items, tuple(desk.notes))


def _digest(answers: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(answers, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _answers(submission: Mapping[str, Any], desk: _Desk) -> dict[str, Any]:
    """Question -> answer, without groups and without what Kobo adds; unanswered questions are left out."""
    answers: dict[str, Any] = {}
    if len(submission) > _MAX_QUESTIONS:
        desk.refuse(
            "row_invalid",
            "",
            f"La soumission a plus de {_MAX_QUESTIONS} questions : ce n'est pas le formulaire HTCDS.",
            f"The submission has more than {_MAX_QUESTIONS} questions: this is not the HTCDS form.",
        )
        return answers
    for key, value in submission.items():
        if key in _AROUND or key.startswith("_") or value is None or value == "":
            continue
        question = key.rsplit("/", 1)[-1]
        if question in answers:
            desk.refuse(
                "row_invalid",
                _named(question),
                "La question figure deux fois dans la soumission : gardez-en une dans le formulaire.",
                "The question stands twice in the submission: keep one of them in the form.",
            )
            continue
        answers[question] = value
    return answers


def _named(question: str) -> str:
    """A question's name is the form author's, and shown only when it looks like one."""
    return f"question « {question} »" if _QUESTION.fullmatch(question) else "question au nom illisible"


def _values(answers: Mapping[str, Any], desk: _Desk) -> dict[str, str | tuple[str, ...]]:
    values: dict[str, str | tuple[str, ...]] = {}
    kept: dict[str, str] = {}
    for question, answer in answers.items():
        name = RENAMED.get(question, question)
        if name not in htcds.FIELDS:
            desk.refuse(
                "row_invalid",
                _named(question),
                "Cette question n'est pas dans la norme HTCDS 2.0 ; rien n'en est deviné. Retirez-la du formulaire "
                "ou donnez-lui le nom exact d'un champ HTCDS.",
                "This question is not in HTCDS 2.0; nothing is guessed from it. Remove it from the form or give it "
                "the exact name of an HTCDS field.",
            )
            continue
        if name in values:
            desk.refuse(
                "row_invalid",
                _named(question),
                f"Le champ {name} est rempli par deux questions : gardez-en une.",
                f"The field {name} is filled by two questions: keep one of them.",
            )
            continue
        if question != name:
            desk.note(
                f"La question « {question} » du formulaire est le champ {name} de la norme HTCDS.",
                f"The form's question {question} is the standard's field {name}.",
            )
        if question in MISLABELLED:
            desk.note(
                f"Le champ {name} est la fonction de la personne dans une organisation ; le formulaire l'intitule "
                "« Second Name » : vérifiez qu'aucun nom n'y figure.",
                f"The field {name} is the person's position in an organisation; the form labels it Second Name: "
                "check that no name stands there.",
            )
        value = _value(name, question, answer, kept, desk)
        if value is not None:
            values[name] = value
    for name, words in kept.items():
        _keep(name, words, values, desk)
    return values


def _value(name: str, question: str, answer: object, kept: dict[str, str], desk: _Desk) -> str | tuple[str, ...] | None:
    """The checked value, or None after a Problem (or where the words are kept elsewhere)."""
    what = htcds.FIELDS[name]
    if isinstance(answer, list | dict):
        desk.refuse(
            "row_invalid",
            _named(question),
            "Les groupes répétés ne sont pas pris en charge : une réponse simple est attendue.",
            "Repeated groups are not supported: a plain answer is expected.",
        )
        return None
    value: object = answer
    if isinstance(answer, str) and (what.multi or name in MULTIPLE_IN_FORM_ONLY):
        codes = answer.split()
        _say_spaces(answer, " ".join(codes), question, desk)
        if name in MULTIPLE_IN_FORM_ONLY and len(codes) > 1:
            desk.refuse(
                "payload_invalid",
                _named(question),
                "La norme HTCDS n'admet qu'un seul choix ici, le formulaire plusieurs : gardez le principal.",
                "HTCDS takes a single choice here, the form several: keep the main one.",
            )
            return None
        if _unknown(name, codes, question, desk):
            return None
        value = tuple(codes) if what.multi else "".join(codes)
    elif isinstance(answer, str) and what.kind in ("code", "country", "language", "boolean"):
        _say_spaces(answer, answer.strip(), question, desk)
        code = htcds.find_code(name, answer)
        if code is None and name in FREE_TEXT_IN_FORM:
            kept[name] = answer
            return "Other"
        if code is None:
            _unknown(name, [answer.strip()], question, desk)
            return None
        value = code
    try:
        return htcds.check(name, value)
    except PayloadError as error:
        expected = _EXPECTED.get(what.kind, _EXPECTED["text"])
        desk.refuse(
            error.code,
            _named(question),
            f"Réponse inutilisable pour « {htcds.field_label(name, 'fr')} » : {expected.fr}",
            f"Unusable answer for {htcds.field_label(name, 'en')}: {expected.en}",
        )
        return None


_EXPECTED: Mapping[str, Note] = {
    "text": Note(
        "une ligne de texte, 500 caractères au plus, sans caractère de contrôle.",
        "one line of text, at most 500 characters, without control characters.",
    ),
    "note": Note(
        "un texte de 8 000 caractères au plus, sans caractère de contrôle.",
        "a text of at most 8,000 characters, without control characters.",
    ),
    "date": Note(
        "une date qui existe, AAAA-MM-JJ (ou AAAA-MM, ou AAAA, si l'on n'en sait pas plus).",
        "a date that exists, YYYY-MM-DD (or YYYY-MM, or YYYY, where no more is known).",
    ),
    "phone": Note(
        "un seul numéro de téléphone, chiffres seulement, par exemple +257 79 00 00 00.",
        "a single telephone number, digits only, for example +257 79 00 00 00.",
    ),
    "number": Note("un nombre entier de 0 à 120.", "a whole number from 0 to 120."),
    "latitude": Note("des degrés décimaux de -90 à 90.", "decimal degrees from -90 to 90."),
    "longitude": Note("des degrés décimaux de -180 à 180.", "decimal degrees from -180 to 180."),
}


def _say_spaces(answer: str, clean: str, question: str, desk: _Desk) -> None:
    if answer != clean:
        desk.note(
            f"Des espaces en trop autour d'un code ont été retirés dans la question « {question} » (le formulaire "
            "écrit par exemple « DebtBondage » avec une espace finale).",
            f"Spare spaces around a code were removed in question {question} (the form spells DebtBondage with a "
            "trailing space).",
        )


def _unknown(name: str, codes: Sequence[str], question: str, desk: _Desk) -> bool:
    """Refuses codes that are not in the field's list; whether there was one."""
    known = {code for code, _ in htcds.options(name, "en")}
    unknown = [code for code in codes if code not in known]
    if unknown:
        # A code is the form's word, free text is hers: only what looks like a code is quoted.
        quoted = ", ".join(code for code in unknown[:5] if re.fullmatch(r"[A-Za-z0-9_]{1,60}", code))
        desk.refuse(
            "payload_invalid",
            _named(question),
            f"Choix inconnu de la liste « {htcds.field_label(name, 'fr')} »{f' : {quoted}' if quoted else ''}. "
            "Utilisez un code de la norme HTCDS 2.0.",
            f"Choice not in the list {htcds.field_label(name, 'en')}{f': {quoted}' if quoted else ''}. "
            "Use a code of HTCDS 2.0.",
        )
    return bool(unknown)


def _keep(name: str, words: str, values: dict[str, str | tuple[str, ...]], desk: _Desk) -> None:
    """No code fits the words: they go into the details, the code becomes Other."""
    details = FREE_TEXT_IN_FORM[name]
    already = values.get(details)
    text = f"{htcds.field_label(name, 'fr')} : {words}"
    try:
        values[details] = htcds.check(details, f"{already}\n{text}" if already else text)
    except PayloadError as error:
        desk.refuse(
            error.code,
            _named(name),
            f"Réponse inutilisable pour « {htcds.field_label(name, 'fr')} » : {_EXPECTED['note'].fr}",
            f"Unusable answer for {htcds.field_label(name, 'en')}: {_EXPECTED['note'].en}",
        )
        return
    desk.note(
        f"« {htcds.field_label(name, 'fr')} » est un texte libre dans le formulaire et un code dans la norme : le code "
        f"« Autre » est envoyé, vos mots sont gardés dans « {htcds.field_label(details, 'fr')} ».",
        f"{htcds.field_label(name, 'en')} is free text in the form and a code in the standard: the code Other is sent, "
        f"your words are kept in {htcds.field_label(details, 'en')}.",
    )


def _validated(submission: Mapping[str, Any], desk: _Desk) -> None:
    status = submission.get("_validation_status")
    uid = status.get("uid") if isinstance(status, dict) else None
    if uid in ("validation_status_not_approved", "validation_status_on_hold"):
        desk.refuse(
            "row_invalid",
            "",
            "Kobo dit que la soumission n'est pas approuvée ou est en attente : elle n'est pas envoyée. "
            "Approuvez-la dans Kobo, puis redéposez-la.",
            "Kobo says that the submission is not approved or on hold: it is not sent. Approve it in Kobo, then drop "
            "it again.",
        )


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
        # Kobo's own times carry no zone and are UTC; the form's carry the telephone's.
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _occurred(submission: Mapping[str, Any], now: datetime, desk: _Desk) -> datetime | None:
    """When the interview began; where the telephone's clock is ahead, when Kobo received it."""
    start, received = _moment(submission.get("start")), _moment(submission.get("_submission_time"))
    if start is not None and start > (received or now) + _CLOCK_SLACK:
        if received is not None and received <= now + _CLOCK_SLACK:
            desk.note(
                "L'horloge du téléphone était en avance : l'heure de réception par Kobo est utilisée.",
                "The telephone's clock was ahead: the time at which Kobo received it is used.",
            )
            return received
        start = received = None
    if start is None and received is not None and received > now + _CLOCK_SLACK:
        received = None
    found = start or received
    if found is None:
        desk.refuse(
            "row_invalid",
            "question « start »",
            "La date de l'entretien manque ou est dans le futur (start, _submission_time). Vérifiez l'horloge du "
            "téléphone et gardez la question « start » du formulaire.",
            "The date of the interview is missing or in the future (start, _submission_time). Check the telephone's "
            "clock and keep the form's question start.",
        )
    return found


def _lawful(
    submission: Mapping[str, Any],
    values: Mapping[str, str | tuple[str, ...]],
    occurred: datetime | None,
    now: datetime,
    consent_days: int,
    desk: _Desk,
) -> Lawful | None:
    if any("con_Consent" in problem.where for problem in desk.problems):
        return None  # already said
    if values.get("con_Consent") != "true":
        desk.refuse(
            "consent_missing",
            "question « con_Consent »",
            "La personne n'a pas donné son consentement : rien n'est envoyé. Expliquez-lui à qui et pourquoi ses "
            "données seraient transmises ; si elle accepte, répondez « Yes » à « Consent » dans Kobo et redéposez la "
            "soumission. En cas de danger ou d'obligation légale, utilisez le modèle Excel, où l'on nomme la base "
            "légale, l'auteur et la raison.",
            "The person has not consented: nothing is sent. Explain to her to whom and why her data would go; if she "
            "agrees, answer Yes to Consent in Kobo and drop the submission again. In danger, or under a legal duty, "
            "use the Excel template, which names the lawful basis, the author and the reason.",
        )
        return None
    if occurred is None:
        return None
    try:
        expires = occurred + timedelta(days=consent_days)
    except OverflowError:
        expires = occurred
    if expires <= now:
        desk.refuse(
            "consent_expired",
            "question « con_Consent »",
            f"Le consentement date de plus de {consent_days} jours : redemandez à la personne, puis faites une "
            "nouvelle soumission.",
            f"The consent is more than {consent_days} days old: ask the person again, then make a new submission.",
        )
        return None
    try:
        version = htcds.check("prs_Title", submission.get("__version__"))  # any one line of text
    except PayloadError:
        version = "1"
    # The form does not ask how she agreed; `oral` claims the least.
    consent = Consent(given_at=occurred, expires_at=expires, form_version=str(version), how="oral")
    return Lawful(basis="consent", consent=consent)


def _not_born_yet(values: Mapping[str, str | tuple[str, ...]], now: datetime, desk: _Desk) -> None:
    birth = values.get("prs_Birthdate")
    if isinstance(birth, str) and birth > now.date().isoformat()[: len(birth)]:
        desk.refuse(
            "payload_invalid",
            "question « prs_Birthdate »",
            "La date de naissance est dans le futur.",
            "The date of birth is in the future.",
        )
