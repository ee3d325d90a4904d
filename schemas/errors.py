# SPDX-License-Identifier: Apache-2.0
"""The one error tree: what can go wrong, under which code, and what a person can do about it.

    UmuhuzaError
    ├── RecordError     the bytes of a record, its signature, its parts or its grants
    ├── PayloadError    what is inside: FHIR, HTCDS, schema versions, safeguards
    ├── PolicyError     may not: roles, flows, consent, agreement, quota
    ├── OrderError      chains, threads, states, clocks
    ├── RegistryError   who: agencies, keys, registry files
    ├── AccessError     tokens
    ├── LogError        the log said no, or not now
    └── SourceError     files and systems an agency's connector reads

Rules that every raise obeys:
- `code` is one of `CODES`, stable for ever; programs decide by it, never by a message.
- `path` says *where* (`entry[2].resource.status`, `L1.parts[0].len`, `line 3, column E`); an unknown member is
  reported as `*`, because its name may be a person's name.
- No value of the input ever enters an error. A caller that chains (`raise ... from exc`) must not chain
  exceptions that print values (pydantic's, json's): use `from None`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

Language = Literal["fr", "en"]


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means. `retriable`: the same bytes may be accepted later, without a person's doing."""

    code: str
    retriable: bool
    title_en: str
    title_fr: str
    advice_en: str
    advice_fr: str

    def title(self, language: Language = "en") -> str:
        return self.title_fr if language == "fr" else self.title_en

    def advice(self, language: Language = "en") -> str:
        return self.advice_fr if language == "fr" else self.advice_en


class UmuhuzaError(Exception):
    """A failure as a value: a code, where, and never what the input was.

    Args:
        code: one of this class's `codes`.
        path: where in the input; None where the whole input is meant.
        expected: a fact of ours that helps (a limit, an expected sequence number); never input.
    """

    codes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, code: str, path: str | None = None, *, expected: str | int | None = None) -> None:
        if code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no such code")
        self.code = code
        self.path = path
        self.expected = expected
        super().__init__(self.describe("en"))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.path, self.expected))

    @property
    def meaning(self) -> Code:
        return CODES[self.code]

    @property
    def retriable(self) -> bool:
        return self.meaning.retriable

    def advice(self, language: Language = "en") -> str:
        return self.meaning.advice(language)

    def describe(self, language: Language = "en") -> str:
        """One line for a person: title, where, what was expected."""
        line = f"{self.code}: {self.meaning.title(language)}"
        if self.path is not None:
            line += f" [{self.path}]"
        if self.expected is not None:
            line += f" ({'attendu' if language == 'fr' else 'expected'}: {self.expected})"
        return line


def _rebuild(kind: type[UmuhuzaError], code: str, path: str | None, expected: str | int | None) -> UmuhuzaError:
    return kind(code, path, expected=expected)


class RecordError(UmuhuzaError):
    codes = frozenset(
        "record_malformed header_forbidden issuer_mismatch signature_invalid topic_mismatch key_mismatch header_mismatch "
        "part_digest_mismatch part_unopenable grant_missing grant_unopenable key_commitment_mismatch too_large "
        "evt_conflict duplicate version_unsupported training_record".split()
    )


class PayloadError(UmuhuzaError):
    codes = frozenset("payload_invalid safeguard_missing version_unsupported too_large".split())


class PolicyError(UmuhuzaError):
    codes = frozenset(
        "not_permitted agreement_missing consent_missing consent_expired safeguard_missing quota_exceeded".split()
    )


class OrderError(UmuhuzaError):
    codes = frozenset(
        "seq_gap chain_broken clock_ahead late_acceptance transition_invalid thread_unknown evt_conflict".split()
    )


class RegistryError(UmuhuzaError):
    codes = frozenset(
        "agency_unknown key_unknown key_revoked registry_stale registry_invalid training_record".split()
    )


class AccessError(UmuhuzaError):
    codes = frozenset("token_invalid token_expired audience_mismatch agency_unknown key_unknown key_revoked".split())


class LogError(UmuhuzaError):
    codes = frozenset(
        "topic_unknown storage_full unavailable log_closed too_large retention_passed evt_conflict not_permitted "
        "log_inconsistent ledger_behind root_mismatch record_missing record_rewritten record_unlogged quorum_missing".split()
    )


class SourceError(UmuhuzaError):
    codes = frozenset("source_unreadable row_invalid too_large storage_full".split())


def _codes(*rows: tuple[str, bool, str, str, str, str]) -> Mapping[str, Code]:
    return MappingProxyType({row[0]: Code(*row) for row in rows})


_RESEND_EN = "Nothing to do: it is sent again by itself. If it lasts more than an hour, run `umuhuza agency outbox`."
_RESEND_FR = "Rien à faire : l'envoi reprend tout seul. Si cela dure plus d'une heure, lancez `umuhuza agency outbox`."
_REPORT_EN = "The sender's software made a bad record. Send this code and path to whoever maintains it; no data of a person is in it."
_REPORT_FR = "Le logiciel de l'expéditeur a produit un enregistrement fautif. Transmettez ce code et ce chemin à son mainteneur ; ils ne contiennent aucune donnée personnelle."
_AUDIT_EN = "Stop and call the auditor: run `umuhuza audit verify` on a copy, and do not delete anything."
_AUDIT_FR = "Arrêtez-vous et appelez l'auditeur : lancez `umuhuza audit verify` sur une copie et ne supprimez rien."

CODES: Mapping[str, Code] = _codes(
    # -- the record -------------------------------------------------------------------------------------------
    ("record_malformed", False, "The record does not have the shape of wire format 1", "L'enregistrement n'a pas la forme du format 1", _REPORT_EN, _REPORT_FR),
    ("header_forbidden", False, "The signature header has a member or value that is not allowed", "L'en-tête de signature contient un membre ou une valeur interdite", _REPORT_EN, _REPORT_FR),
    ("version_unsupported", False, "This version is not known here", "Cette version n'est pas connue ici", "Update the older of the two installations.", "Mettez à jour la plus ancienne des deux installations."),
    ("issuer_mismatch", False, "The record's issuer is not the agency whose key or token was used", "L'émetteur n'est pas l'agence dont la clé ou le jeton a été utilisé", "Check which agency's keys this adapter was started with.", "Vérifiez avec les clés de quelle agence cet adaptateur a été lancé."),
    ("signature_invalid", False, "The signature does not verify", "La signature n'est pas valide", "Do not act on it. If the sender says it is theirs, compare key fingerprints by telephone.", "N'en tenez pas compte. Si l'expéditeur la revendique, comparez les empreintes de clés par téléphone."),
    ("topic_mismatch", False, "The record names another mailbox than the one it was put into", "L'enregistrement nomme une autre boîte que celle où il se trouve", _REPORT_EN, _REPORT_FR),
    ("key_mismatch", False, "The log's key is not the record's thread", "La clé du journal n'est pas le fil de l'enregistrement", _REPORT_EN, _REPORT_FR),
    ("header_mismatch", False, "A clear header differs from the signed manifest", "Un en-tête en clair diffère du manifeste signé", _REPORT_EN, _REPORT_FR),
    ("part_digest_mismatch", False, "A sealed part is not the one that was signed", "Une partie scellée n'est pas celle qui a été signée", "Ask the sender to send it again; tell the operator of the gateway.", "Demandez un nouvel envoi ; prévenez l'exploitant de la passerelle."),
    ("part_unopenable", False, "A part cannot be opened with the key that was granted", "Une partie ne s'ouvre pas avec la clé accordée", "Ask the sender to send it again.", "Demandez un nouvel envoi à l'expéditeur."),
    ("grant_missing", True, "No key was granted to this reader for this record", "Aucune clé n'a été accordée à ce lecteur pour cet enregistrement", "It is asked for again by itself. If it lasts, ask the sender to send again; after an erasure this is as it should be.", "La demande est répétée automatiquement. Si cela dure, demandez un nouvel envoi ; après un effacement, c'est normal."),
    ("grant_unopenable", False, "The grant does not open with this agency's key", "L'octroi de clé ne s'ouvre pas avec la clé de cette agence", "The sender may have used an old key of yours: check `umuhuza registry show`.", "L'expéditeur a peut-être utilisé une ancienne clé : voyez `umuhuza registry show`."),
    ("key_commitment_mismatch", False, "The granted key is not the one that the sender committed to", "La clé accordée n'est pas celle sur laquelle l'expéditeur s'est engagé", "Do not act on it; tell the auditor.", "N'en tenez pas compte ; prévenez l'auditeur."),
    ("too_large", False, "Larger than the limit", "Dépasse la taille permise", "Send less at once: fewer rows, a smaller file. Nothing was cut off.", "Envoyez moins à la fois : moins de lignes, un fichier plus petit. Rien n'a été tronqué."),
    ("evt_conflict", False, "Another record was already sent under this event's identifier", "Un autre enregistrement a déjà été envoyé sous cet identifiant", "If this computer was restored from a backup, run `umuhuza agency run`: it learns from the gateway what was sent.", "Si cet ordinateur a été restauré d'une sauvegarde, lancez `umuhuza agency run` : il apprend de la passerelle ce qui est parti."),
    ("duplicate", False, "The same record was there already", "Le même enregistrement s'y trouvait déjà", "Nothing to do.", "Rien à faire."),
    ("training_record", False, "A training record met a production registry, or the reverse", "Un enregistrement de formation a rencontré un registre de production, ou l'inverse", "Check which registry this installation uses: `umuhuza registry show`.", "Vérifiez le registre utilisé : `umuhuza registry show`."),
    # -- what is inside ---------------------------------------------------------------------------------------
    ("payload_invalid", False, "The content does not follow the standard at the place named", "Le contenu ne suit pas la norme à l'endroit indiqué", "Correct the place named and send again.", "Corrigez l'endroit indiqué et renvoyez."),
    ("safeguard_missing", False, "A child's safeguard is missing", "Une protection due à un enfant manque", "Name the guardian or the representative and the best-interest note; in danger, choose vital interests with the guardian pending.", "Indiquez le tuteur ou le représentant et la note d'intérêt supérieur ; en cas de danger, choisissez les intérêts vitaux avec tuteur en attente."),
    # -- may not ----------------------------------------------------------------------------------------------
    ("not_permitted", False, "The rules of this domain do not allow it", "Les règles de ce domaine ne le permettent pas", "The rule that decided is named: `policy` in the answer. Ask the coordinating commission if you think that it should be allowed.", "La règle appliquée est indiquée. Adressez-vous à la commission de coordination si vous pensez que cela devrait être permis."),
    ("agreement_missing", False, "No agreement in force covers this", "Aucun accord en vigueur ne couvre cet échange", "Ask the focal point whether an agreement is signed and in force.", "Demandez au point focal si un accord est signé et en vigueur."),
    ("consent_missing", False, "Neither the person's consent nor another lawful basis is stated", "Ni le consentement de la personne ni une autre base légale ne sont indiqués", "Ask the person, write down what she agreed to, and send again.", "Demandez à la personne, notez ce qu'elle accepte, puis renvoyez."),
    ("consent_expired", False, "The consent has expired", "Le consentement a expiré", "Ask the person again before sending.", "Redemandez à la personne avant d'envoyer."),
    ("quota_exceeded", True, "Too much at once for this agency", "Trop d'envois à la fois pour cette agence", _RESEND_EN, _RESEND_FR),
    # -- order and time ---------------------------------------------------------------------------------------
    ("seq_gap", True, "Something sent earlier has not arrived yet", "Un envoi antérieur n'est pas encore arrivé", "Nothing to do: it is a finding, and closes when the missing one arrives.", "Rien à faire : constat levé dès que l'envoi manquant arrive."),
    ("chain_broken", False, "This record does not follow the issuer's previous one", "Cet enregistrement ne suit pas le précédent de l'émetteur", "If this computer was restored from a backup, run `umuhuza agency run`; else tell the operator.", "Si cet ordinateur a été restauré d'une sauvegarde, lancez `umuhuza agency run` ; sinon prévenez l'exploitant."),
    ("clock_ahead", False, "The record is dated more than 24 hours ahead", "L'enregistrement est daté de plus de 24 heures dans le futur", "Set this computer's clock, then `umuhuza agency retry`.", "Réglez l'horloge de cet ordinateur, puis `umuhuza agency retry`."),
    ("late_acceptance", False, "The acceptance came after the deadline", "L'acceptation est arrivée après l'échéance", "The sender confirms or revokes: telephone.", "L'expéditeur confirme ou révoque : téléphonez."),
    ("transition_invalid", False, "This step does not fit the state of the referral or case", "Cette étape ne correspond pas à l'état de l'orientation ou du dossier", "Look at its state with `umuhuza agency inbox`, then send the step that fits.", "Consultez son état avec `umuhuza agency inbox`, puis envoyez l'étape qui convient."),
    ("thread_unknown", False, "It answers something that never arrived here", "Il répond à quelque chose qui n'est jamais arrivé ici", "Ask the sender which referral is meant.", "Demandez à l'expéditeur de quelle orientation il s'agit."),
    # -- who --------------------------------------------------------------------------------------------------
    ("agency_unknown", False, "This agency is not in the registry", "Cette agence n'est pas dans le registre", "Check the identifier; `umuhuza registry show` lists the members.", "Vérifiez l'identifiant ; `umuhuza registry show` donne la liste des membres."),
    ("key_unknown", False, "This key is not in the registry", "Cette clé n'est pas dans le registre", "Fetch the newest registry; if the key is new, its owner enrols it first.", "Récupérez le registre le plus récent ; une clé nouvelle doit d'abord être enregistrée."),
    ("key_revoked", False, "This key was revoked or has expired", "Cette clé a été révoquée ou a expiré", "Its owner makes a new key and has it added to the registry.", "Son propriétaire crée une nouvelle clé et la fait ajouter au registre."),
    ("registry_stale", True, "The registry here is older than 30 days", "Le registre local a plus de 30 jours", "Connect once to the gateway; answers still pass, new requests wait.", "Connectez-vous une fois à la passerelle ; les réponses passent, les nouvelles demandes attendent."),
    ("registry_invalid", False, "The registry file is damaged or not signed by this domain's key", "Le fichier du registre est abîmé ou n'est pas signé par la clé du domaine", "Get the file again from the operator and compare the fingerprint by telephone.", "Demandez de nouveau le fichier à l'exploitant et comparez l'empreinte par téléphone."),
    # -- the door ---------------------------------------------------------------------------------------------
    ("token_invalid", False, "The access token or assertion is not acceptable", "Le jeton d'accès ou l'assertion n'est pas acceptable", "Ask for a new token at /v1/token; check clock and keys.", "Demandez un nouveau jeton à /v1/token ; vérifiez l'horloge et les clés."),
    ("token_expired", True, "The access token has expired", "Le jeton d'accès a expiré", "Ask for a new token at /v1/token; the adapter does it by itself.", "Demandez un nouveau jeton à /v1/token ; l'adaptateur le fait tout seul."),
    ("audience_mismatch", False, "The assertion was made for another gateway", "L'assertion vise une autre passerelle", "Check the gateway's address and domain in the settings.", "Vérifiez l'adresse et le domaine de la passerelle dans les réglages."),
    # -- the log ----------------------------------------------------------------------------------------------
    ("topic_unknown", False, "No such mailbox", "Cette boîte n'existe pas", "Check the recipient and its roles; mailboxes follow from the registry.", "Vérifiez le destinataire et ses rôles ; les boîtes découlent du registre."),
    ("storage_full", True, "No space is left where this must be stored", "Il n'y a plus d'espace de stockage", "Free disk space on the machine named; nothing that was acknowledged is lost.", "Libérez de l'espace disque sur la machine indiquée ; rien de ce qui a été confirmé n'est perdu."),
    ("unavailable", True, "Not reachable now", "Injoignable pour le moment", _RESEND_EN, _RESEND_FR),
    ("log_closed", True, "The log was closed while this was under way", "Le journal a été fermé pendant l'opération", _RESEND_EN, _RESEND_FR),
    ("retention_passed", False, "The records asked for are past retention and are gone", "Les enregistrements demandés ont dépassé la durée de conservation", "Ask the senders what you missed; the reading continues at the first kept record only when you say so.", "Demandez aux expéditeurs ce qui manque ; la lecture ne reprend au premier enregistrement conservé que sur votre ordre."),
    ("ledger_behind", True, "The ledger has not reached this record yet", "Le registre de preuve n'a pas encore atteint cet enregistrement", "Wait; if it lasts an hour, tell the operator.", "Attendez ; si cela dure une heure, prévenez l'exploitant."),
    ("log_inconsistent", False, "Two views of the log contradict each other", "Deux vues du journal se contredisent", _AUDIT_EN, _AUDIT_FR),
    ("root_mismatch", False, "A Merkle root does not match the records", "Une racine de Merkle ne correspond pas aux enregistrements", _AUDIT_EN, _AUDIT_FR),
    ("record_missing", False, "A record that was logged is missing", "Un enregistrement journalisé manque", _AUDIT_EN, _AUDIT_FR),
    ("record_rewritten", False, "A record differs from what was logged", "Un enregistrement diffère de ce qui a été journalisé", _AUDIT_EN, _AUDIT_FR),
    ("record_unlogged", False, "A record is there that was never logged", "Un enregistrement présent n'a jamais été journalisé", _AUDIT_EN, _AUDIT_FR),
    ("quorum_missing", True, "Too few witnesses have signed", "Trop peu de témoins ont signé", "Wait for the other domain's witness; work goes on meanwhile.", "Attendez le témoin de l'autre domaine ; le travail continue."),
    # -- an agency's own files --------------------------------------------------------------------------------
    ("source_unreadable", False, "The file cannot be read", "Le fichier est illisible", "Save it again from the template as XLSX or as CSV in UTF-8, and drop it once more.", "Enregistrez-le de nouveau à partir du modèle, en XLSX ou en CSV UTF-8, puis redéposez-le."),
    ("row_invalid", False, "A row cannot be sent as it is", "Une ligne ne peut pas être envoyée telle quelle", "The report beside the file names the row, the column and what to write there.", "Le rapport à côté du fichier indique la ligne, la colonne et ce qu'il faut y écrire."),
)  # fmt: skip
