# SPDX-License-Identifier: Apache-2.0
"""The border, in `umuhuza demo`: a request of Tunisia's is blocked without the authorisation that it asks for, then
admitted; both countries log and cosign it; a byte of it altered in one country is found by both.

As `umuhuza.demo_story`: what is told was seen. Everybody is invented.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from adapters.receipts_abroad import ReceiptsAbroad
from schemas.envelope import parse_record
from schemas.errors import LogError
from schemas.forms import Facts
from schemas.lifecycle import state_label
from schemas.plain.transfer import TransferAccepted
from topics.audit import Report, audit
from topics.audit_findings import AuditSource, Held, KeptRecord, Shown
from topics.bridge_book import BOOK, BridgeBook
from topics.home_check import POLICY, ROOT
from topics.ledger_entries import decode_entry
from topics.ledger_served import VIEW
from topics.ledger_view import LedgerView
from umuhuza.audit_sources import opened_source
from umuhuza.border_facts import return_asked
from umuhuza.demo_neighbour import ABROAD, CCSPRTP, INLCTP, endorsed, start_bridges
from umuhuza.demo_stage import DemoError, Stage
from umuhuza.paired_domains import AGREEMENT, DomainFolders
from umuhuza.words import language, t

HER_NAME = "Habonimana Espérance (inventée)"
_HERS = "TN-2026-007"
"""The Tunisian authority's own reference of her: it never travels."""
TOPIC = "bi.bilateral.ccsprtp"
PROMISE = "promesse-du-burundi.json"


# ---------------------------------------------------------------------------------------------------------------------
# Blocked, then admitted


def crossing(stage: Stage) -> str:
    """Returns the evt of the request that has crossed. Raises DemoError."""
    with stage.scene("border") as proof:
        start_bridges(stage)
        today = stage.today()
        asked = partial(return_asked, today, name=HER_NAME, origin="bi", language="rn")
        blocked = stage.offered(INLCTP, CCSPRTP, "transfer.requested", asked(authorised=False), person=_HERS).problem
        if blocked is None:
            raise DemoError("authorisation")
        stage.tell(
            "En Tunisie, une femme burundaise veut rentrer chez elle. L'instance nationale le demande au Burundi, sans "
            "l'autorisation que la Tunisie exige : bloqué, rien n'est parti.",
            "In Tunisia, a woman from Burundi wishes to go home. The national authority asks Burundi, without the "
            "authorisation that Tunisia requires: blocked, nothing has left.",
            f"{blocked.code} · {t(blocked.fr, blocked.en)}",
        )
        begun = time.monotonic()
        evt = stage.say(INLCTP, CCSPRTP, "transfer.requested", asked(authorised=True), person=_HERS)
        item = stage.arrived(CCSPRTP, "transfer.requested")
        took = round(time.monotonic() - begun, 1)
        stage.tell(
            f"Avec l'autorisation, sous l'accord {AGREEMENT} (fictif) : la demande passe la frontière en {took} s. La "
            "commission du Burundi la lit ; personne en chemin.",
            f"With the authorisation, under the agreement {AGREEMENT} (fictional): the request crosses the border in "
            f"{took} s. Burundi's commission reads it; nobody on the way does.",
        )
        accepted = Facts(occurred_at=stage.today(), said=TransferAccepted(expected_from=today + timedelta(days=3)))
        answer = stage.say(CCSPRTP, INLCTP, "transfer.accepted", accepted, thread=item.thread)
        stage.reaches("accepted", item.thread, CCSPRTP, INLCTP)
        stage.until(t("accusés de réception", "receipts"), stage.settled)
        seen = {here.name: stage.until(here.name, partial(_seen, here)) for here in (stage.home, stage.abroad)}
        states = [stage.state(agency, item.thread) for agency in (INLCTP, CCSPRTP)]
        stage.tell(
            "Elle est attendue. Chacun des deux pays a inscrit la demande et la réponse, et cosigné le registre de "
            "preuve de l'autre :",
            "She is expected. Each country has entered request and answer in its ledger, and cosigned the other's:",
            "\n".join(
                t(
                    f"{name} : {count} inscriptions, vu par {', '.join(by)}",
                    f"{name}: {count} entries, seen by {', '.join(by)}",
                )
                for name, (count, by) in seen.items()
            )
            + "\n"
            + t("La demande : ", "The request: ")
            + state_label("transfer", states[0] or "", language()),
        )
        for sender, what in ((INLCTP, evt), (CCSPRTP, answer)):
            stage.until(t("reçu de l'autre pays", "the other country's receipt"), partial(_proven, stage, sender, what))
        stage.tell(
            "Et chacun des deux expéditeurs garde le reçu du registre de preuve de l'autre pays : la promesse y fut "
            "tenue.",
            "And each of the two senders keeps the receipt of the other country's ledger: there, the promise was kept.",
        )
        read = stage.opened(CCSPRTP, item).facts
        proof |= {
            "blocked": blocked.code,
            "thread_state": states,
            "logged": {name: count for name, (count, _) in seen.items()},
            "seen_by": {name: list(by) for name, (_, by) in seen.items()},
            "read_there": HER_NAME in ("" if read.said is None else read.said.model_dump_json()),
            "crossed_s": took,
            "proven_abroad": True,
        }
    return evt


def _proven(stage: Stage, agency: str, evt: str) -> bool:
    """Whether it keeps what the other domain's ledger says of this record, and that is that it stands there."""
    box = stage.mailbox(agency)
    try:
        kept = ReceiptsAbroad(box).of(evt)
    finally:
        box.close()
    return kept is not None and kept.kind == "event" and kept.level != "contradicted"


def _entered(name: str, count: int, by: Sequence[str]) -> str:
    witnesses = ", ".join(by)
    return t(f"{name} : {count} inscriptions, vues par {witnesses}", f"{name}: {count} entries, seen by {witnesses}")


def _seen(here: DomainFolders) -> tuple[int, tuple[str, ...]] | None:
    """How many records that passed the border its ledger has, and who has seen all of it; None: not yet."""
    try:
        view = LedgerView.reading(here.ledger / VIEW)
    except LogError:
        return None
    try:
        entries = [decode_entry(one) for one in view.entries()]
        size, by = endorsed(here)
    except LogError:
        return None
    finally:
        view.close()
    count = sum(one.topic is not None and ".bilateral." in one.topic for one in entries)
    return (count, by) if count >= 2 and size == len(entries) else None


# ---------------------------------------------------------------------------------------------------------------------
# One byte, in one country


class OneByteAltered:
    """A domain's log and ledger as they are, but for one byte in the middle of one record."""

    def __init__(self, source: AuditSource, topic: str, offset: int) -> None:
        self._source = source
        self._place = (topic, offset)

    @property
    def domain(self) -> str:
        return self._source.domain

    @property
    def whole(self) -> bool:
        return self._source.whole

    @property
    def shown(self) -> Shown:
        return self._source.shown

    def checkpoints(self) -> Iterable[Held]:
        return self._source.checkpoints()

    def receipts(self) -> Iterable[Held]:
        return self._source.receipts()

    def promises(self) -> Iterable[Held]:
        return self._source.promises()

    def entries(self, first: int) -> Iterator[bytes]:
        return self._source.entries(first)

    def hashes(self) -> Iterator[bytes]:
        return self._source.hashes()

    def registry_file(self, sha256: bytes) -> bytes | None:
        return self._source.registry_file(sha256)

    def published_registry(self) -> bytes | None:
        return self._source.published_registry()

    def neighbour_file(self, domain: str, name: str) -> bytes | None:
        return self._source.neighbour_file(domain, name)

    def topics(self) -> Sequence[str]:
        return self._source.topics()

    def records(self, topic: str, first: int, behind: int | None) -> Iterator[KeptRecord]:
        for one in self._source.records(topic, first, behind):
            yield replace(one, value=_altered(one.value)) if (topic, one.offset) == self._place else one

    def grants_left(self, topic: str, keys: Sequence[str]) -> Sequence[str] | None:
        return self._source.grants_left(topic, keys)


def _altered(value: bytes) -> bytes:
    place = len(value) // 2
    return value[:place] + (b"B" if value[place : place + 1] == b"A" else b"A") + value[place + 1 :]


def both_checks(stage: Stage, evt: str, evidence: Path, policy: Path) -> None:
    """Burundi's check of its log, and Tunisia's of Burundi's, by what Tunisia believes and was promised: of the
    evidence as it is, and with one byte of that record altered.

    Raises DemoError: one finds nothing, or something before."""
    theirs = stage.abroad.neighbours / stage.home.name
    promise, root = _promise(stage, theirs, evt), (theirs / ROOT).read_text(encoding="ascii").strip()
    own = opened_source(evidence, policy=policy, root=stage.root_key)
    others = opened_source(evidence, policy=theirs / POLICY, root=root, held=(promise,))
    with stage.scene("both_checks") as proof:
        for name, source in ((stage.home.name, own), (stage.abroad.name, others)):
            with source as opened:
                offset = next(one.offset for one in opened.source.records(TOPIC, 0, None) if _is(one, evt))
                before = audit(opened.source, opened.trust).findings.contradictions
                after = _named(audit(OneByteAltered(opened.source, TOPIC, offset), opened.trust), offset)
            if before or not after:
                raise DemoError(f"audit: {name}: {before}, {after}")
            proof[name] = {"before": before, "after": after}
        stage.tell(
            "Un octet de la demande venue de Tunisie est changé au Burundi. Les deux pays vérifient, chacun avec ce "
            "qu'il croit : avant, tout est vert ; après, les deux vérifications sont rouges, et nomment le même "
            "enregistrement.",
            "One byte of the request from Tunisia is altered in Burundi. Both countries check, each by what it "
            "believes: before, all is green; after, both checks are red, and name the same record.",
        )
        for name, check in proof.items():
            for one in check["after"]:
                stage.note(f"✗ {name} · {TOPIC} {offset if one['is_it'] else ''} · {one['code']}", "red")


def _is(one: KeptRecord, evt: str) -> bool:
    return parse_record(one.value).manifest.evt == evt


def _named(report: Report, offset: int) -> list[dict[str, Any]]:
    """What contradicts: its code, and whether it is about that record."""
    return [
        {"code": one.code, "is_it": (one.topic, one.offset) == (TOPIC, offset)}
        for one in report.findings.kept
        if not one.open
    ]


def _promise(stage: Stage, theirs: Path, evt: str) -> Path:
    """What Burundi's gateway has promised Tunisia's bridge for the record, as a file. Raises DemoError."""
    book = BridgeBook.open(theirs / BOOK)
    try:
        data = book.promise(f"{INLCTP}/{evt}")
    finally:
        book.close()
    if data is None:
        raise DemoError(PROMISE)
    file = stage.root / ABROAD / PROMISE
    file.write_bytes(data)
    return file
