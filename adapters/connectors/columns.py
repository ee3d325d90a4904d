# SPDX-License-Identifier: Apache-2.0
"""The columns of the forms in spreadsheets: the referral form, the case form, the HTCDS fields beside them.

Purpose: one list from which the template is written, a header is recognised, a row is read and a report is worded.
Invariants: technical names never change once released (workbooks in the field carry them); every coded column has its
choices here or in `schemas.htcds`; a header is recognised by technical name, French label or English label.

Sources: IASC inter-agency referral form (2017) for the referral's columns; the columns of the HTCDS 2.0 Excel
spreadsheet (IOM, CC BY 4.0) for the rest. French labels are ours.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from schemas import htcds
from schemas.errors import Language

Kind = Literal[
    "text", "note", "choice", "choices", "birth", "date", "yes-no", "ages", "list", "language", "recipient", "htcds"
]
Form = Literal["Orientation", "Dossier"]
FORMS: tuple[Form, ...] = ("Orientation", "Dossier")
"""Names of the sheets that hold rows to send."""


IGNORED = "À corriger :"
"""A header that begins so is ours, in a file of rows to correct: what stands under it is not read."""


@dataclass(frozen=True, slots=True)
class Choice:
    code: str
    fr: str
    en: str

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    """Technical name, for ever."""
    fr: str
    en: str
    group: str
    kind: Kind
    help_fr: str = ""
    help_en: str = ""
    required: bool = False
    choices: tuple[Choice, ...] = ()
    field: str | None = None
    """The HTCDS field it fills or takes its codes from."""
    multi: bool = False
    forms: tuple[Form, ...] = FORMS
    width: int = 22
    """Characters."""

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en

    def help(self, language: Language) -> str:
        return self.help_fr if language == "fr" else self.help_en

    def options(self, language: Language) -> list[tuple[str, str]]:
        """(code, label) of a drop-down list; empty where anything may be typed, and for recipients."""
        if self.choices:
            return [(choice.code, choice.label(language)) for choice in self.choices]
        if self.kind == "yes-no":
            return [("true", "Oui" if language == "fr" else "Yes"), ("false", "Non" if language == "fr" else "No")]
        return htcds.options(self.field, language) if self.field else []

    def nearest(self, text: str, language: Language) -> str | None:
        """The label that looks most like a text that `code_of` does not know."""
        labels = {fold(label): label for _, label in self.options(language)}
        found = difflib.get_close_matches(fold(text), labels, n=1, cutoff=0.75)
        return labels[found[0]] if found else None

    def code_of(self, text: str) -> str | None:
        """The code meant by a code or a label, whatever its case and accents. None: unknown."""
        if self.choices:
            return _by_spelling(self.choices).get(fold(text))
        return htcds.find_code(self.field, text) if self.field else None


def fold(text: str) -> str:
    """For comparing labels: no case, accents, spaces or punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if char.isalnum())


@cache
def _by_spelling(choices: tuple[Choice, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for choice in choices:
        for spelling in (choice.code, choice.fr, choice.en):
            found[fold(spelling)] = choice.code
    return MappingProxyType(found)


GROUPS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "send": ("L'envoi", "What is sent"),
        "person": ("La personne", "The person"),
        "needs": ("Services et besoins", "Services and needs"),
        "contact": ("Contact sûr", "Safe contact"),
        "risk": ("Risques", "Risks"),
        "child": ("Enfant ou âge incertain : tuteur", "Child or age uncertain: caregiver"),
        "lawful": ("Consentement ou autre base légale", "Consent or other lawful basis"),
        "follow": ("Motif et suivi", "Reason and follow-up"),
        "htcds": ("Données HTCDS 2.0 (facultatif)", "HTCDS 2.0 data (optional)"),
    }
)
"""Groups of columns: titles in French and English."""

TYPES = (
    Choice("referral.requested", "Orientation demandée", "Referral requested"),
    Choice("case.identified", "Personne identifiée", "Person identified"),
    Choice("case.screened", "Évaluation faite", "Screening done"),
)

_PRIORITY = (
    Choice("immediate", "Immédiate (téléphoner d'abord, 2 h)", "Immediate (telephone first, 2 h)"),
    Choice("emergency", "Urgence (24 h)", "Emergency (24 h)"),
    Choice("urgent", "Urgent (72 h)", "Urgent (72 h)"),
    Choice("normal", "Normale (14 jours)", "Normal (14 days)"),
)
_BIRTH_BASIS = (
    Choice("document", "Document vu", "Document seen"),
    Choice("declared", "Déclaré par la personne", "Declared by the person"),
    Choice("estimated", "Estimé", "Estimated"),
    Choice("disputed", "Contesté", "Disputed"),
)
_SEX = (
    Choice("female", "Une femme", "A woman"),
    Choice("male", "Un homme", "A man"),
    Choice("any", "Indifférent", "Any"),
)
_YES_NO_UNKNOWN = (Choice("yes", "Oui", "Yes"), Choice("no", "Non", "No"), Choice("unknown", "Inconnu", "Unknown"))
_CHANNEL = (
    Choice("telephone", "Téléphone", "Telephone"),
    Choice("sms", "SMS", "SMS"),
    Choice("whatsapp", "WhatsApp", "WhatsApp"),
    Choice("in-person", "En personne", "In person"),
    Choice("through-referrer", "Par nous (agence qui oriente)", "Through us (the referring agency)"),
    Choice("none", "Aucun contact sûr", "No safe contact"),
)
_CAREGIVER = (
    Choice("guardian", "Tuteur ou parent", "Guardian or parent"),
    Choice("representative", "Représentant désigné", "Appointed representative"),
    Choice("pending", "En attente (aucun connu)", "Pending (none known)"),
    Choice("suspected", "Tuteur peut-être impliqué (ne pas prévenir)", "Guardian may be involved (never notify)"),
)
_ASSENT = (
    Choice("assent", "Est d'accord", "Assents"),
    Choice("dissent", "N'est pas d'accord", "Dissents"),
    Choice("not-asked", "Pas encore demandé", "Not asked yet"),
)
_RISK = (
    Choice("low", "Faible", "Low"),
    Choice("medium", "Moyen", "Medium"),
    Choice("high", "Élevé", "High"),
    Choice("extreme", "Extrême", "Extreme"),
    Choice("unknown", "Inconnu", "Unknown"),
)
_TRANSPORT = (
    Choice("escorted", "Accompagnée par nous", "Escorted by us"),
    Choice("own", "Vient par ses moyens", "Comes by own means"),
    Choice("needed", "Transport à organiser", "Transport needed"),
    Choice("none", "Sans objet", "Not applicable"),
)
BASES = (
    Choice("consent", "Consentement de la personne", "The person's consent"),
    Choice("legal-duty", "Obligation légale", "Legal duty"),
    Choice("vital-interests", "Intérêts vitaux (danger)", "Vital interests (danger)"),
)
_HOW = (
    Choice("signature", "Signature", "Signature"),
    Choice("thumbprint", "Empreinte du pouce", "Thumbprint"),
    Choice("oral", "Oral", "Oral"),
    Choice("recorded", "Enregistré", "Recorded"),
)
_SCOPE = (
    Choice("referral", "Orientation", "Referral"),
    Choice("statistics", "Statistiques", "Statistics"),
    Choice("investigation", "Enquête", "Investigation"),
    Choice("return", "Retour", "Return"),
)

_O: tuple[Form, ...] = ("Orientation",)
_SEVERAL_FR = "Plusieurs réponses : séparez-les par des points-virgules (;)."
_SEVERAL_EN = "Several answers: separate them with semicolons (;)."
_DATE_FR = "Jour/mois/année, par exemple 12/05/2026."
_DATE_EN = "Day/month/year, for example 12/05/2026."

_OWN: tuple[Column, ...] = (
    Column(
        "type",
        "Type d'envoi",
        "Type",
        "send",
        "choice",
        "Dossier : personne identifiée ou évaluation faite.",
        "Case: person identified or screening done.",
        choices=TYPES,
    ),
    Column(
        "destinataire",
        "Destinataire",
        "Recipient",
        "send",
        "recipient",
        "L'agence qui recevra cette ligne. Une ligne, un destinataire.",
        "The agency that will receive this row. One row, one recipient.",
        required=True,
        width=30,
    ),
    Column(
        "reference_interne",
        "Votre référence",
        "Your reference",
        "send",
        "text",
        "Votre numéro de dossier. Il reste chez vous : il n'est jamais envoyé.",
        "Your case number. It stays with you: it is never sent.",
        width=16,
    ),
    Column(
        "date_faits",
        "Date de la décision",
        "Date of the decision",
        "send",
        "date",
        f"Si ce n'est pas aujourd'hui. {_DATE_FR}",
        f"If it is not today. {_DATE_EN}",
        width=16,
    ),
    Column(
        "priorite",
        "Priorité",
        "Priority",
        "send",
        "choice",
        "Danger immédiat : téléphonez d'abord. Umuhuza n'est jamais le seul canal.",
        "Immediate danger: telephone first. Umuhuza is never the only channel.",
        required=True,
        choices=_PRIORITY,
        forms=_O,
        width=30,
    ),
    Column(
        "nom_donne",
        "Nom tel que la personne le donne",
        "Name as the person gives it",
        "person",
        "text",
        "Un seul nom suffit si la personne n'en a qu'un.",
        "One word is enough if she has only one name.",
        required=True,
        forms=_O,
        width=30,
    ),
    Column("prs_FirstName", "Prénom", "First Name", "person", "text", field="prs_FirstName", width=18),
    Column("prs_MiddleName", "Deuxième prénom", "Middle Name", "person", "text", field="prs_MiddleName", width=18),
    Column("prs_SecondName", "Nom de famille", "Second Name", "person", "text", field="prs_SecondName", width=18),
    Column(
        "prs_Birthdate",
        "Naissance",
        "Birth",
        "person",
        "birth",
        "Ce qui est connu, pas plus : 12/05/2008, mai 2008, 2008, vers 2008, 17 ans ou inconnue.",
        "What is known, no more: 12/05/2008, May 2008, 2008, vers 2008, 17 ans or inconnue.",
        field="prs_Birthdate",
        required=True,
        width=16,
    ),
    Column(
        "naissance_base", "Naissance : d'après", "Birth: based on", "person", "choice", choices=_BIRTH_BASIS, forms=_O
    ),
    Column("prs_Gender", "Genre", "Gender", "person", "htcds", field="prs_Gender", width=16),
    Column(
        "prs_Citizenship",
        "Nationalité",
        "Citizenship",
        "person",
        "htcds",
        _SEVERAL_FR,
        _SEVERAL_EN,
        field="prs_Citizenship",
        multi=True,
        width=18,
    ),
    Column(
        "services",
        "Services demandés",
        "Services asked for",
        "needs",
        "choices",
        _SEVERAL_FR,
        _SEVERAL_EN,
        required=True,
        field="spl_Type",
        multi=True,
        forms=_O,
        width=34,
    ),
    Column(
        "service_local",
        "Service, en vos mots",
        "Service, in your words",
        "needs",
        "text",
        "Facultatif, par exemple : hébergement sécurisé.",
        "Optional, for example: safe accommodation.",
        forms=_O,
        width=26,
    ),
    Column(
        "services_deja",
        "Services déjà donnés",
        "Services already given",
        "needs",
        "choices",
        _SEVERAL_FR,
        _SEVERAL_EN,
        field="spl_Type",
        multi=True,
        forms=_O,
        width=30,
    ),
    Column(
        "langues",
        "Langues parlées",
        "Languages spoken",
        "needs",
        "choices",
        _SEVERAL_FR,
        _SEVERAL_EN,
        field="prs_PrimaryLanguage",
        multi=True,
        forms=_O,
    ),
    Column(
        "interprete",
        "Interprète nécessaire",
        "Interpreter needed",
        "needs",
        "yes-no",
        "Jamais de la même communauté que la personne.",
        "Never from the same community as the person.",
        forms=_O,
        width=16,
    ),
    Column(
        "interprete_langue",
        "Interprète : langue",
        "Interpreter: language",
        "needs",
        "language",
        field="prs_PrimaryLanguage",
        forms=_O,
        width=18,
    ),
    Column(
        "interprete_sexe",
        "Interprète : préférence",
        "Interpreter: preferred",
        "needs",
        "choice",
        choices=_SEX,
        forms=_O,
        width=18,
    ),
    Column(
        "besoins_acces",
        "Besoins d'accès ou de santé utiles au service",
        "Access or health needs the service must know",
        "needs",
        "note",
        "Seulement ce dont le service a besoin.",
        "Only what the service needs.",
        forms=_O,
        width=34,
    ),
    Column(
        "enceinte",
        "Enceinte ou allaitante",
        "Pregnant or nursing",
        "needs",
        "choice",
        choices=_YES_NO_UNKNOWN,
        forms=_O,
        width=16,
    ),
    Column(
        "accompagnants",
        "Âge des personnes à charge qui viennent",
        "Ages of dependants who come along",
        "needs",
        "ages",
        "En années : 3; 5.",
        "In years: 3; 5.",
        forms=_O,
        width=18,
    ),
    Column("transport", "Transport", "Transport", "needs", "choice", choices=_TRANSPORT, forms=_O),
    Column(
        "contact_canal",
        "Contact sûr : par",
        "Safe contact: by",
        "contact",
        "choice",
        choices=_CHANNEL,
        forms=_O,
        width=26,
    ),
    Column(
        "contact_adresse",
        "Contact sûr : numéro ou compte",
        "Safe contact: number or handle",
        "contact",
        "text",
        "Avec téléphone, SMS ou WhatsApp.",
        "With telephone, SMS or WhatsApp.",
        forms=_O,
    ),
    Column("contact_heures", "Contact sûr : heures", "Safe contact: times", "contact", "text", forms=_O),
    Column(
        "contact_message",
        "Peut-on laisser un message ?",
        "May a message be left?",
        "contact",
        "yes-no",
        forms=_O,
        width=16,
    ),
    Column(
        "contact_qui", "Peut-on dire qui appelle ?", "May one say who calls?", "contact", "yes-no", forms=_O, width=16
    ),
    Column(
        "contact_jamais",
        "Ne jamais contacter",
        "Never contact",
        "contact",
        "list",
        _SEVERAL_FR,
        _SEVERAL_EN,
        forms=_O,
        width=26,
    ),
    Column("risque_niveau", "Niveau de risque", "Risk level", "risk", "choice", choices=_RISK, forms=_O, width=16),
    Column("risque_de", "Risque : de la part de qui", "Risk: from whom", "risk", "note", forms=_O, width=28),
    Column("risque_secret", "Qui ne doit pas savoir", "Who must not know", "risk", "note", forms=_O, width=28),
    Column(
        "risque_lieu",
        "Ne pas placer (lieu, avec qui)",
        "Not to be placed (where, with whom)",
        "risk",
        "note",
        forms=_O,
        width=28,
    ),
    Column(
        "tuteur",
        "Tuteur ou représentant",
        "Caregiver",
        "child",
        "choice",
        "Obligatoire pour un enfant, ou si l'âge est inconnu ou contesté.",
        "Required for a child, or where the age is unknown or disputed.",
        choices=_CAREGIVER,
        width=28,
    ),
    Column("tuteur_nom", "Tuteur : nom", "Caregiver: name", "child", "text"),
    Column("tuteur_lien", "Tuteur : lien", "Caregiver: relation", "child", "text"),
    Column("tuteur_contact", "Tuteur : contact", "Caregiver: contact", "child", "text"),
    Column("tuteur_informe", "Tuteur informé", "Caregiver informed", "child", "yes-no", width=16),
    Column(
        "tuteur_non_informe", "Tuteur : pourquoi non informé", "Caregiver: why not informed", "child", "note", width=28
    ),
    Column("interet_enfant", "Note d'intérêt supérieur de l'enfant", "Best-interest note", "child", "note", width=34),
    Column("accord_tuteur", "Accord du tuteur : référence", "Guardian's authorisation: reference", "child", "text"),
    Column(
        "accord_tuteur_date", "Accord du tuteur : date", "Guardian's authorisation: date", "child", "date", width=18
    ),
    Column("accord_juge", "Juge de la famille : référence", "Family judge's authorisation: reference", "child", "text"),
    Column("accord_juge_date", "Juge de la famille : date", "Family judge's authorisation: date", "child", "date"),
    Column("accord_juge_fin", "Juge de la famille : jusqu'au", "Family judge's authorisation: until", "child", "date"),
    Column("avis_enfant", "Avis de l'enfant", "The child's own view", "child", "choice", choices=_ASSENT, width=20),
    Column(
        "base",
        "Base légale",
        "Lawful basis",
        "lawful",
        "choice",
        "Le consentement d'abord. Sinon : qui a décidé, et pourquoi.",
        "Consent first. Otherwise: who decided, and why.",
        required=True,
        choices=BASES,
        width=28,
    ),
    Column(
        "consentement_date",
        "Consentement donné le",
        "Consent given on",
        "lawful",
        "date",
        f"Obligatoire avec le consentement. {_DATE_FR}",
        f"Required with consent. {_DATE_EN}",
        width=18,
    ),
    Column(
        "consentement_fin",
        "Consentement valable jusqu'au",
        "Consent valid until",
        "lawful",
        "date",
        f"Obligatoire avec le consentement. {_DATE_FR}",
        f"Required with consent. {_DATE_EN}",
        width=18,
    ),
    Column("consentement_forme", "Consentement : forme", "Consent: how", "lawful", "choice", choices=_HOW, width=20),
    Column(
        "consentement_langue",
        "Consentement : langue",
        "Consent: language",
        "lawful",
        "language",
        field="prs_PrimaryLanguage",
        width=18,
    ),
    Column(
        "consentement_version",
        "Consentement : version du formulaire",
        "Consent: form version",
        "lawful",
        "text",
        width=18,
    ),
    Column(
        "consentement_portee",
        "Consentement : pour quoi",
        "Consent: for what",
        "lawful",
        "choices",
        _SEVERAL_FR,
        _SEVERAL_EN,
        choices=_SCOPE,
        multi=True,
        width=22,
    ),
    Column(
        "reference_juridique",
        "Référence juridique datée",
        "Dated legal reference",
        "lawful",
        "text",
        "Obligatoire avec une obligation légale.",
        "Required with a legal duty.",
        width=28,
    ),
    Column(
        "decide_par",
        "Décidé par",
        "Decided by",
        "lawful",
        "text",
        "Obligatoire sans consentement.",
        "Required without consent.",
    ),
    Column(
        "pourquoi",
        "Pourquoi sans consentement",
        "Why without consent",
        "lawful",
        "note",
        "Obligatoire sans consentement.",
        "Required without consent.",
        width=34,
    ),
    Column(
        "refus_partage",
        "La personne refuse que soient partagés",
        "The person refused to share",
        "lawful",
        "list",
        f"En-têtes des colonnes. {_SEVERAL_FR}",
        f"Headers of the columns. {_SEVERAL_EN}",
        forms=_O,
        width=28,
    ),
    Column("motif", "Motif de l'orientation", "Reason for the referral", "follow", "note", forms=_O, width=40),
    Column(
        "retour_attendu",
        "Retour attendu avant le",
        "Feedback expected by",
        "follow",
        "date",
        _DATE_FR,
        _DATE_EN,
        forms=_O,
        width=16,
    ),
    Column(
        "pieces_jointes",
        "Pièces jointes",
        "Attachments",
        "follow",
        "list",
        f"Noms des fichiers mis dans le dossier pieces-jointes : PDF, JPEG ou PNG, 5 Mio en tout. {_SEVERAL_FR}",
        f"Names of the files put into the folder pieces-jointes: PDF, JPEG or PNG, 5 MiB in all. {_SEVERAL_EN}",
        forms=_O,
        width=30,
    ),
    Column("unite", "Votre service", "Your unit", "follow", "text", forms=_O),
    Column("astreinte", "Téléphone d'astreinte", "On-call telephone", "follow", "text", forms=_O),
)

_OFFICIAL = (
    "prs_Salutation",
    "prs_Title",
    "prs_Email",
    "prs_HomePhone",
    "prs_MobilePhone",
    "prs_MailingStreet",
    "prs_MailingCity",
    "prs_MailingState",
    "prs_MailingPostalCode",
    "prs_MailingCountry",
    "con_Consent",
    "vic_TraffickingStatus",
    "vic_TraffickingStatusDecisionMakingOrg",
    "vic_MethodOfRecruitment",
    "vic_LocationOfRecruitment",
    "vic_MethodsOfControl",
    "vic_TypeOfExploitation",
    "vic_ForcedLabourIndustry",
    "vic_TypeOfSexExploitation",
    "vic_LocationOfExploitation",
    "cas_Status",
    "cas_CaseOwner",
    "cas_ReferringOrganisation",
    "cas_IncomingReferralDate",
    "cas_ReferringPrimaryCaseWorker",
    "cas_ReasonForIncomingReferral",
    "cas_IncomingReferralDetails",
    "cas_ReferredOrganisation",
    "cas_ReferredPrimaryCaseWorker",
    "cas_ReasonForOutgoingReferral",
    "cas_OutgoingReferralDate",
    "cas_OutgoingReferralDetails",
    "cas_ReasonForCaseClosure",
)
"""The official spreadsheet's columns that the forms above do not hold already, grouped as there."""

_ALSO = {
    "vic_TraffickinStatusDecisionMakingOrg": "vic_TraffickingStatusDecisionMakingOrg",  # spelt so in the official file
    "Date de naissance": "prs_Birthdate",
    "Birthdate": "prs_Birthdate",
    "nom_tel_que_donne": "nom_donne",
    "Référence interne": "reference_interne",
}


def _from_htcds(name: str) -> Column:
    field = htcds.FIELDS[name]
    note = field.kind == "note"
    several = (_SEVERAL_FR, _SEVERAL_EN) if field.multi else ("", "")
    dated = (_DATE_FR, _DATE_EN) if field.kind == "date" else ("", "")
    return Column(
        name,
        htcds.field_label(name, "fr"),
        htcds.field_label(name, "en"),
        "htcds",
        "htcds",
        several[0] or dated[0],
        several[1] or dated[1],
        field=name,
        multi=field.multi,
        width=34 if note else 24,
    )


_TEMPLATE: tuple[Column, ...] = (*_OWN, *(_from_htcds(name) for name in _OFFICIAL))
_KNOWN: Mapping[str, Column] = MappingProxyType(
    {column.name: column for column in _TEMPLATE}
    | {name: _from_htcds(name) for name in htcds.FIELDS if name not in {column.name for column in _TEMPLATE}}
)


def template_columns(form: Form) -> tuple[Column, ...]:
    """The columns that the template offers for a form, in order. The referral form leaves the type out."""
    return tuple(
        column for column in _TEMPLATE if form in column.forms and not (form == "Orientation" and column.name == "type")
    )


def column(name: str) -> Column:
    """By technical name. KeyError: unknown."""
    return _KNOWN[name]


def required_columns(form: Form) -> tuple[Column, ...]:
    """Those without which no row of the form can be sent."""
    if form == "Dossier":
        return tuple(_KNOWN[name] for name in ("type", "destinataire", "base"))
    return tuple(each for each in template_columns(form) if each.required)


@cache
def _technical() -> Mapping[str, str]:
    return MappingProxyType({fold(name): name for name in _KNOWN} | {fold(old): new for old, new in _ALSO.items()})


@cache
def _labels() -> Mapping[str, str]:
    found: dict[str, str | None] = {}
    for name, each in _KNOWN.items():
        in_template = each in _TEMPLATE
        for words in {fold(each.fr), fold(each.en)}:
            if words not in found:
                found[words] = name
            elif found[words] != name and not in_template and found[words] not in {c.name for c in _TEMPLATE}:
                found[words] = None  # "Longitude" is the label of three fields: it means none of them
    return MappingProxyType({words: name for words, name in found.items() if name is not None})


def recognise(header: str) -> str | None:
    """The technical name meant by the text of a header cell. None: unknown."""
    words = fold(header)
    return _technical().get(words) or _labels().get(words)


def shown(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Recipients as the template's list shows them: `Foyer d'accueil (bi/k7t4)`."""
    return [label if label == agency else f"{label} ({agency})" for agency, label in pairs]


def recipient_meant(text: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """The agency id meant by an id, a label or both. None: unknown, or a label that two agencies share."""
    words = fold(text)
    found = {
        agency
        for (agency, label), both in zip(pairs, shown(pairs), strict=True)
        if words in (fold(agency), fold(both)) or words == fold(label)
    }
    return found.pop() if len(found) == 1 else None


def letters(index: int) -> str:
    """Column letters of a zero-based index: 0 is A."""
    found = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        found = chr(65 + rest) + found
    return found


_COLUMN_OF: Mapping[str, str] = MappingProxyType(
    {
        "to": "destinataire",
        "attach": "destinataire",
        "attachments": "pieces_jointes",
        "type": "type",
        "event": "destinataire",
        "flow": "destinataire",
        "firewall": "destinataire",
        "occurred_at": "date_faits",
        "birth": "prs_Birthdate",
        "caregiver": "tuteur",
        "caregiver.best_interest_note": "interet_enfant",
        "referral": "priorite",
        "referral.name": "nom_donne",
        "referral.birth": "prs_Birthdate",
        "referral.services": "services",
        "referral.caregiver": "tuteur",
        "referral.caregiver.best_interest_note": "interet_enfant",
        "referral.safe_contact": "contact_canal",
        "referral.interpreter": "interprete",
        "referral.told_and_refused": "refus_partage",
        "lawful": "base",
        "lawful.consent": "consentement_date",
        "lawful.consent.expires_at": "consentement_fin",
        "lawful.consent.scope": "consentement_portee",
        "lawful.legal_reference": "reference_juridique",
        "lawful.author": "decide_par",
        "lawful.reason": "pourquoi",
        "lawful.authorisations": "accord_juge",
        "authorisations": "accord_juge",
    }
)
"""Where the rules find fault (a path of `Facts`, a line of the policy) -> the column to look at."""


def column_at(path: str) -> Column | None:
    """The column that fills a place of `Facts`, by the longest part of the path that is known."""
    parts = path.partition("[")[0].split(".")
    for length in range(len(parts), 0, -1):
        name = _COLUMN_OF.get(".".join(parts[:length]))
        if name is None and length == 2 and parts[0] == "htcds":
            name = parts[1]
        if name is not None:
            return next((each for form in FORMS for each in template_columns(form) if each.name == name), None)
    return None
