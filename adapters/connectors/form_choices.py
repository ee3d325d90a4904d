# SPDX-License-Identifier: Apache-2.0
"""What may be chosen in the coded columns of our own forms, in French and English.

Invariants: a code never changes once released (workbooks in the field carry its labels, records the code); the first
choice of a list stands first in the template. Choices of HTCDS fields stand in `schemas.htcds`.
"""

from __future__ import annotations

from adapters.connectors.column_type import Choice

TYPES = (
    Choice("referral.requested", "Orientation demandée", "Referral requested"),
    Choice("case.identified", "Personne identifiée", "Person identified"),
    Choice("case.screened", "Évaluation faite", "Screening done"),
)

PRIORITY = (
    Choice("immediate", "Immédiate (téléphoner d'abord, 2 h)", "Immediate (telephone first, 2 h)"),
    Choice("emergency", "Urgence (24 h)", "Emergency (24 h)"),
    Choice("urgent", "Urgent (72 h)", "Urgent (72 h)"),
    Choice("normal", "Normale (14 jours)", "Normal (14 days)"),
)
BIRTH_BASIS = (
    Choice("document", "Document vu", "Document seen"),
    Choice("declared", "Déclaré par la personne", "Declared by the person"),
    Choice("estimated", "Estimé", "Estimated"),
    Choice("disputed", "Contesté", "Disputed"),
)
SEX = (
    Choice("female", "Une femme", "A woman"),
    Choice("male", "Un homme", "A man"),
    Choice("any", "Indifférent", "Any"),
)
YES_NO_UNKNOWN = (Choice("yes", "Oui", "Yes"), Choice("no", "Non", "No"), Choice("unknown", "Inconnu", "Unknown"))
CHANNEL = (
    Choice("telephone", "Téléphone", "Telephone"),
    Choice("sms", "SMS", "SMS"),
    Choice("whatsapp", "WhatsApp", "WhatsApp"),
    Choice("in-person", "En personne", "In person"),
    Choice("through-referrer", "Par nous (agence qui oriente)", "Through us (the referring agency)"),
    Choice("none", "Aucun contact sûr", "No safe contact"),
)
CAREGIVER = (
    Choice("guardian", "Tuteur ou parent", "Guardian or parent"),
    Choice("representative", "Représentant désigné", "Appointed representative"),
    Choice("pending", "En attente (aucun connu)", "Pending (none known)"),
    Choice("suspected", "Tuteur peut-être impliqué (ne pas prévenir)", "Guardian may be involved (never notify)"),
)
ASSENT = (
    Choice("assent", "Est d'accord", "Assents"),
    Choice("dissent", "N'est pas d'accord", "Dissents"),
    Choice("not-asked", "Pas encore demandé", "Not asked yet"),
)
RISK = (
    Choice("low", "Faible", "Low"),
    Choice("medium", "Moyen", "Medium"),
    Choice("high", "Élevé", "High"),
    Choice("extreme", "Extrême", "Extreme"),
    Choice("unknown", "Inconnu", "Unknown"),
)
TRANSPORT = (
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
HOW = (
    Choice("signature", "Signature", "Signature"),
    Choice("thumbprint", "Empreinte du pouce", "Thumbprint"),
    Choice("oral", "Oral", "Oral"),
    Choice("recorded", "Enregistré", "Recorded"),
)
SCOPE = (
    Choice("referral", "Orientation", "Referral"),
    Choice("statistics", "Statistiques", "Statistics"),
    Choice("investigation", "Enquête", "Investigation"),
    Choice("return", "Retour", "Return"),
)
