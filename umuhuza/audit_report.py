# SPDX-License-Identifier: Apache-2.0
"""An audit's report as one page, for a judge or anybody else who will not run the audit: on a telephone, on paper.

It says what was shown, what was not, which records it is about, and how the reader can have it checked by somebody who
owes nobody anything. French or English. Nothing is fetched, nothing runs (`adapters.page_frame`). Everything that came
from the source is escaped. Must never: hold what a record says, or call something proven that was only stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from adapters.connectors import paper
from adapters.page_frame import page
from schemas.errors import CODES, Language, LogError
from schemas.page_words import WORDS
from schemas.proof_texts import read_tlog_proof
from topics.audit import Report
from topics.audit_export import manifest_of
from topics.audit_findings import AuditSource
from topics.ledger_entries import RECORD_KINDS, LedgerEntry, decode_entry
from umuhuza.audit_words import clock, pick, verdict, what, where

MOST_ROWS = 500
_STYLE = """
main{max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem;color:var(--head)}h2{font-size:1.1rem;color:var(--head);margin-top:1.6rem}
.verdict{background:var(--band);padding:.2rem 1rem;border-left:.4rem solid var(--bar)}
.verdict.bad{background:var(--sand)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid var(--line);padding:.35rem .5rem}
code{overflow-wrap:anywhere}.quiet{color:var(--quiet)}
@media (max-width:40rem){thead{position:absolute;left:-999rem}tr{display:block;padding:.4rem 0;
border-bottom:1px solid var(--line)}td{display:block;border:0;padding:.1rem 0}td::before{content:attr(data-of);
display:block;color:var(--quiet);font-size:.85rem}}
@media print{:root{--ink:#000;--paper:#fff}h2{break-after:avoid}tr{break-inside:avoid}.wide{overflow:visible}}
"""
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
    for index, entry in sorted(entries, key=lambda one: one[0]):
        if entry.kind not in RECORD_KINDS or entry.topic is None or entry.offset is None:
            continue
        for record in source.records(entry.topic, entry.offset, entry.offset + 1):
            manifest = manifest_of(record.value)
            if manifest is not None:
                yield Listed(index, entry, record.at_ms // 1000, manifest.iss, manifest.to)


def report_page(
    report: Report,
    language: Language,
    *,
    made_at: int,
    stated: Sequence[str] = (),
    keys: Sequence[tuple[str, str]] = (),
    records: Sequence[Listed] = (),
) -> str:
    """The page.

    Args:
        stated: what of the keys came from the source itself.
        keys: name and fingerprint of every key that was believed.
        records: of an excerpt.
        made_at: seconds since the epoch.
    """
    writer = _Writer(language)
    title = pick(language, "Vérification d'un registre de preuve", "Audit of a ledger")
    body = [
        f"<h1>{writer.text(title)}</h1>\n",
        f'<p class="quiet">{writer.text(report.origin)} · {clock(made_at)}</p>\n',
        f'<div class="verdict{"" if report.faultless else " bad"}">',
        *(f"<p>{writer.text(line)}</p>" for line in verdict(report, stated, language)),
        "</div>\n",
        *writer.shown(report),
        *writer.records(records),
        *writer.findings(report),
        *writer.keys(keys),
        *writer.how(),
    ]
    return page(WORDS[language], title, _STYLE, "".join(body))


class _Writer:
    def __init__(self, language: Language) -> None:
        self._language = language

    def _pick(self, fr: str, en: str) -> str:
        return self.text(pick(self._language, fr, en))

    def text(self, plain: str) -> str:
        """Escaped; French with the spaces that do not break."""
        return escape(paper.french(plain) if self._language == "fr" else plain)

    def _table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """`headers`, `rows`: escaped."""
        head = "".join(f"<th>{one}</th>" for one in headers)
        lines = []
        for row in rows:
            cells = (f'<td data-of="{of}">{cell}</td>' for of, cell in zip(headers, row, strict=True))
            lines.append(f"<tr>{''.join(cells)}</tr>\n")
        return (
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>\n'
        )

    def shown(self, report: Report) -> list[str]:
        """What it means, and what it does not."""
        shown = [
            self._pick(
                "Chaque enregistrement vérifié est, octet pour octet, celui qui a été inscrit ; une clé qui comptait à "
                "cette place l'a signé ; ses parties scellées sont celles que son auteur a scellées.",
                "Each record that was verified is, byte for byte, the one that was entered; a key that counted at that "
                "place signed it; its sealed parts are those that its author sealed.",
            ),
            self._pick(
                "Sa place dans l'ordre de tous les enregistrements est fixée par un arbre de hachage signé. Qui "
                "l'aurait changée, ou ôté un enregistrement, aurait dû changer aussi ce que gardent les témoins.",
                "Its place in the order of all records is fixed by a signed hash tree. Whoever changed it, or took a "
                "record away, would have had to change what witnesses keep as well.",
            ),
        ]
        if report.whole:
            shown.append(
                self._pick(
                    "Rien n'a été omis jusqu'au dernier point de contrôle, reçu ou promesse apportés.",
                    "Nothing was left out up to the last checkpoint, receipt or promise that was brought.",
                )
            )
        not_shown = [
            self._pick(
                "Ce que disent les enregistrements : ils sont scellés, et cette vérification n'ouvre rien.",
                "What the records say: they are sealed, and this audit opens nothing.",
            ),
            self._pick(
                "Que ce que dit un expéditeur est vrai ; seulement qu'il l'a dit, et à quelle place.",
                "That what a sender says is true; only that he said it, and at which place.",
            ),
            self._pick(
                "L'heure exacte : celle du journal est déclarée par son exploitant ; celle d'un témoin dit au plus "
                "tard.",
                "The exact time: the log's is what its operator states; a witness's says at the latest.",
            ),
        ]
        return [
            f"<h2>{self._pick('Ce qui est montré', 'What is shown')}</h2>\n<ul>",
            *(f"<li>{one}</li>" for one in (shown if report.faultless else shown[:0])),
            "" if report.faultless else f"<li>{self._pick('Voir les constats.', 'See the findings.')}</li>",
            f"</ul>\n<h2>{self._pick('Ce qui n’est pas montré', 'What is not shown')}</h2>\n<ul>",
            *(f"<li>{one}</li>" for one in not_shown),
            "</ul>\n",
        ]

    def records(self, records: Sequence[Listed]) -> list[str]:
        if not records:
            return []
        rows = [
            (
                str(one.index),
                escape(clock(one.at)),
                f"{escape(one.iss)} → {escape(one.to)}",
                f"<code>{escape(one.entry.topic or '')}, {one.entry.offset}</code>",
                self.text(_KINDS[one.entry.kind][self._language != "fr"]),
                f"<code>{'' if one.entry.value_sha256 is None else one.entry.value_sha256.hex()}</code>",
            )
            for one in records[:MOST_ROWS]
        ]
        headers = (
            self._pick("Inscription", "Entry"),
            self._pick("Heure du journal", "The log's time"),
            self._pick("De → à", "From → to"),
            self._pick("Boîte, position", "Mailbox, offset"),
            self._pick("Le registre de preuve dit", "The ledger says"),
            self._pick("Empreinte SHA-256 de l'enregistrement", "SHA-256 of the record"),
        )
        more = len(records) - MOST_ROWS
        return [
            f"<h2>{self._pick('Enregistrements', 'Records')}</h2>\n",
            self._table(headers, rows),
            f"<p>{self._pick(f'… et {more} de plus.', f'... and {more} more.')}</p>\n" if more > 0 else "",
        ]

    def findings(self, report: Report) -> list[str]:
        kept = report.findings.kept
        if not kept:
            return []
        headers = (self._pick("Constat", "Finding"), self._pick("Où", "Where"), self._pick("Que faire", "What to do"))
        rows = [
            (
                f"{self.text(what(one, self._language))} (<code>{one.code}</code>)",
                escape(where(one, self._language)),
                self.text(CODES[one.code].advice(self._language)),
            )
            for one in kept[:MOST_ROWS]
        ]
        more = sum(report.findings.counts.values()) - MOST_ROWS
        return [
            f"<h2>{self._pick('Constats', 'Findings')}</h2>\n",
            self._table(headers, rows),
            f"<p>{self._pick(f'… et {more} de plus.', f'... and {more} more.')}</p>\n" if more > 0 else "",
        ]

    def keys(self, keys: Sequence[tuple[str, str]]) -> list[str]:
        rows = [(escape(name), f"<code>{escape(fingerprint)}</code>") for name, fingerprint in keys]
        compare = self._pick(
            "Comparez ces empreintes avec celles que vous avez reçues par une autre voie.",
            "Compare these fingerprints with those that you had by another way.",
        )
        return [
            f"<h2>{self._pick('Clés crues', 'Keys that were believed')}</h2>\n<p>{compare}</p>\n",
            self._table((self._pick("Qui", "Who"), self._pick("Empreinte", "Fingerprint")), rows),
        ]

    def how(self) -> list[str]:
        offline = self._pick(
            "Sans réseau, avec le fichier de la preuve :", "Without a network, with the evidence file:"
        )
        return [
            f"<h2>{self._pick('Le vérifier soi-même', 'Check it yourself')}</h2>\n<p>{offline} ",
            "<code>umuhuza audit verify preuve.zip --policy …</code>. ",
            self._pick(
                "Dans le même fichier, le dossier verify/ contient une page et deux programmes, écrits indépendamment, "
                "qui vérifient un enregistrement, son reçu et sa promesse sans notre logiciel.",
                "In the same file, the folder verify/ holds a page and two programs, written independently, that check "
                "a record, its receipt and its promise without our software.",
            ),
            "</p>\n",
        ]
