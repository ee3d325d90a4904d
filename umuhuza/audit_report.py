# SPDX-License-Identifier: Apache-2.0
"""An audit's report for a judge or anybody else who will not run the audit: what it says, whatever it is written on.

It says what was shown, what was not, which records it is about, and how the reader can have it checked by somebody who
owes nobody anything. French or English; on a page (`umuhuza.audit_page`) or as PDF (`umuhuza.audit_pdf`), the same.
Must never: hold what a record says, or call something proven that was only stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from adapters.connectors import paper
from schemas.errors import CODES, Language, LogError
from schemas.proof_texts import read_tlog_proof
from topics.audit import Report
from topics.audit_export import manifest_of
from topics.audit_findings import AuditSource
from topics.ledger_entries import RECORD_KINDS, LedgerEntry, decode_entry
from umuhuza.audit_words import clock, pick, verdict, what, where

MOST_ROWS = 500
_KINDS = {
    "event": ("compte", "counts"),
    "erasure": ("compte : effacement", "counts: erasure"),
    "duplicate": ("répétition", "repeat"),
    "reject": ("refusé", "refused"),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """A record of an excerpt, for a line of the report."""

    index: int
    entry: LedgerEntry
    at: int
    """The log's time, seconds since the epoch."""
    iss: str
    to: str
    executed: int | None = None
    """Of a command to erase: index of the entry that calls it done."""


def listed(source: AuditSource) -> Iterator[Listed]:
    """The records of an excerpt, in the ledger's order, as far as they can be read."""
    entries: list[tuple[int, LedgerEntry]] = []
    for held in source.receipts():
        if not held.own:
            continue
        try:
            proof = read_tlog_proof(held.data)
            entries.append((proof.index, decode_entry(proof.extra or b"")))
        except LogError:
            continue
    done = {(entry.topic, entry.offset): index for index, entry in entries if entry.kind == "erased"}
    for index, entry in sorted(entries, key=lambda one: one[0]):
        if entry.kind not in RECORD_KINDS or entry.topic is None or entry.offset is None:
            continue
        for record in source.records(entry.topic, entry.offset, entry.offset + 1):
            manifest = manifest_of(record.value)
            if manifest is not None:
                executed = done.get((entry.topic, entry.offset)) if entry.kind == "erasure" else None
                yield Listed(index, entry, record.at_ms // 1000, manifest.iss, manifest.to, executed)


# ---------------------------------------------------------------------------------------------------------------------
# What stands on a sheet: plain text, escaped by nobody yet


@dataclass(frozen=True, slots=True)
class Code:
    """For machines, or to be compared letter by letter."""

    text: str


Text: TypeAlias = str | Code
Line: TypeAlias = tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    line: Line


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    headers: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    widths: tuple[int, ...]
    """Parts of the sheet's width."""


Block: TypeAlias = Heading | Paragraph | Bullets | Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """A report."""

    language: Language
    title: str
    about: str
    """Which ledger, and when the report was made."""
    made_at: int
    """Seconds since the epoch."""
    verdict: tuple[str, ...]
    faultless: bool
    blocks: tuple[Block, ...]


def report_sheet(
    report: Report,
    language: Language,
    *,
    made_at: int,
    stated: Sequence[str] = (),
    keys: Sequence[tuple[str, str]] = (),
    records: Sequence[Listed] = (),
) -> Sheet:
    """The report.

    Args:
        stated: what of the keys came from the source itself.
        keys: name and fingerprint of every key that was believed.
        records: of an excerpt.
        made_at: seconds since the epoch.
    """
    writer = _Writer(language)
    return Sheet(
        language,
        writer.pick("Vérification d'un registre de preuve", "Audit of a ledger"),
        f"{report.origin} · {clock(made_at)}",
        made_at,
        tuple(writer.own(line) for line in verdict(report, stated, language)),
        report.faultless,
        (
            *writer.shown(report),
            *writer.records(records),
            *writer.findings(report),
            *writer.keys(keys),
            *writer.how(),
        ),
    )


class _Writer:
    def __init__(self, language: Language) -> None:
        self._language = language

    def pick(self, fr: str, en: str) -> str:
        return self.own(pick(self._language, fr, en))

    def own(self, plain: str) -> str:
        """Our own words; French with the spaces that do not break."""
        return paper.french(plain) if self._language == "fr" else plain

    def shown(self, report: Report) -> list[Block]:
        """What it means, and what it does not."""
        shown = self._of_records() if report.shown == "records" else self._of_served(report)
        if report.whole and report.shown == "records":
            shown.append(
                self.pick(
                    "Rien n'a été omis jusqu'au dernier point de contrôle, reçu ou promesse apportés.",
                    "Nothing was left out up to the last checkpoint, receipt or promise that was brought.",
                )
            )
        not_shown = [] if report.shown == "records" else [self._not_served(report)]
        not_shown += [
            self.pick(
                "Ce que disent les enregistrements : ils sont scellés, et cette vérification n'ouvre rien.",
                "What the records say: they are sealed, and this audit opens nothing.",
            ),
            self.pick(
                "Que ce que dit un expéditeur est vrai ; seulement qu'il l'a dit, et à quelle place.",
                "That what a sender says is true; only that he said it, and at which place.",
            ),
            self.pick(
                "L'heure exacte : celle du journal est déclarée par son exploitant ; celle d'un témoin dit au plus "
                "tard.",
                "The exact time: the log's is what its operator states; a witness's says at the latest.",
            ),
        ]
        if not report.faultless:
            shown = [self.pick("Voir les constats.", "See the findings.")]
        return [
            Heading(self.pick("Ce qui est montré", "What is shown")),
            Bullets(tuple(shown)),
            Heading(self.pick("Ce qui n’est pas montré", "What is not shown")),
            Bullets(tuple(not_shown)),
        ]

    def _not_served(self, report: Report) -> str:
        if report.shown == "hashes":
            return self.pick(
                "Les entrées, les enregistrements et les promesses, que la passerelle ne donne pas à tous : "
                "demandez une preuve en un fichier.",
                "Entries, records and promises, which the gateway does not give to everybody: ask for evidence in a "
                "file.",
            )
        return self.pick(
            "Les enregistrements, que la passerelle ne donne qu'à leurs destinataires : demandez une preuve en un "
            "fichier.",
            "The records, which the gateway gives to their recipients only: ask for evidence in a file.",
        )

    def _of_records(self) -> list[str]:
        return [
            self.pick(
                "Chaque enregistrement vérifié est, octet pour octet, celui qui a été inscrit ; une clé qui comptait à "
                "cette place l'a signé ; ses parties scellées sont celles que son auteur a scellées.",
                "Each record that was verified is, byte for byte, the one that was entered; a key that counted at that "
                "place signed it; its sealed parts are those that its author sealed.",
            ),
            self.pick(
                "Sa place dans l'ordre de tous les enregistrements est fixée par un arbre de hachage signé. Qui "
                "l'aurait changée, ou ôté un enregistrement, aurait dû changer aussi ce que gardent les témoins.",
                "Its place in the order of all records is fixed by a signed hash tree. Whoever changed it, or took a "
                "record away, would have had to change what witnesses keep as well.",
            ),
        ]

    def _of_served(self, report: Report) -> list[str]:
        shown = [
            self.pick(
                "Il n'y a qu'un arbre sous ce qui a été signé ; ce que d'autres en ont gardé et apporté y a sa place.",
                "There is one tree under what was signed, and what others kept of it and brought has its place there.",
            )
        ]
        if report.shown == "entries":
            shown.append(
                self.pick(
                    "Chaque entrée suit la précédente ; les promesses apportées sont tenues.",
                    "Each entry follows the one before; the promises that were brought are kept.",
                )
            )
        return shown

    def _executed(self, one: Listed) -> str:
        if one.executed is None:
            return ""
        return self.pick(f" ; exécuté, entrée {one.executed}", f"; executed, entry {one.executed}")

    def records(self, records: Sequence[Listed]) -> list[Block]:
        """An excerpt's."""
        if not records:
            return []
        rows = tuple(
            (
                (str(one.index),),
                (clock(one.at),),
                (f"{one.iss} → {one.to}",),
                (Code(f"{one.entry.topic}, {one.entry.offset}"),),
                (self.own(_KINDS[one.entry.kind][self._language != "fr"]) + self._executed(one),),
                (Code("" if one.entry.value_sha256 is None else one.entry.value_sha256.hex()),),
            )
            for one in records[:MOST_ROWS]
        )
        headers = (
            self.pick("Entrée", "Entry"),
            self.pick("Heure du journal", "The log's time"),
            self.pick("De → à", "From → to"),
            self.pick("Boîte, position", "Mailbox, offset"),
            self.pick("Le registre de preuve dit", "The ledger says"),
            self.pick("Empreinte SHA-256 de l'enregistrement", "SHA-256 of the record"),
        )
        return [
            Heading(self.pick("Enregistrements", "Records")),
            Table(headers, rows, (10, 14, 15, 19, 12, 30)),
            *self._more(len(records)),
        ]

    def findings(self, report: Report) -> list[Block]:
        """What contradicts, and what is still to come."""
        kept = report.findings.kept
        if not kept:
            return []
        headers = (self.pick("Constat", "Finding"), self.pick("Où", "Where"), self.pick("Que faire", "What to do"))
        rows = tuple(
            (
                (
                    f"{self.own(what(one, self._language))} (",
                    Code(one.code),
                    ")",
                    self.pick(" ; reste ouvert", "; still open") if one.open else "",
                ),
                (where(one, self._language),),
                (self.own(CODES[one.code].advice(self._language)),),
            )
            for one in kept[:MOST_ROWS]
        )
        return [
            Heading(self.pick("Constats", "Findings")),
            Table(headers, rows, (36, 24, 40)),
            *self._more(sum(report.findings.counts.values())),
        ]

    def _more(self, number: int) -> list[Block]:
        more = number - MOST_ROWS
        return [Paragraph((self.pick(f"… et {more} de plus.", f"... and {more} more."),))] if more > 0 else []

    def keys(self, keys: Sequence[tuple[str, str]]) -> list[Block]:
        """Whom the audit believed."""
        compare = self.pick(
            "Comparez ces empreintes avec celles que vous avez reçues par une autre voie.",
            "Compare these fingerprints with those that you had by another way.",
        )
        rows = tuple(((name,), (Code(fingerprint),)) for name, fingerprint in keys)
        return [
            Heading(self.pick("Clés tenues pour vraies", "Keys that were believed")),
            Paragraph((compare,)),
            Table((self.pick("Qui", "Who"), self.pick("Empreinte", "Fingerprint")), rows, (35, 65)),
        ]

    def how(self) -> list[Block]:
        """Without believing this."""
        offline = self.pick("Sans réseau, avec le fichier de la preuve :", "Without a network, with the evidence file:")
        verifiers = self.pick(
            "Dans le même fichier, le dossier verify/ contient une page et deux programmes, écrits indépendamment, "
            "qui vérifient un enregistrement, son reçu et sa promesse sans notre logiciel.",
            "In the same file, the folder verify/ holds a page and two programs, written independently, that check "
            "a record, its receipt and its promise without our software.",
        )
        command = Code("umuhuza audit verify preuve.zip --policy confiance.policy")
        return [
            Heading(self.pick("Le vérifier soi-même", "Check it yourself")),
            Paragraph((f"{offline} ", command, f". {verifiers}")),
        ]
