# SPDX-License-Identifier: Apache-2.0
"""The story of `umuhuza demo`, scene by scene: what each does, what is shown, what it proves.

A bed asked for without a name; screening with an interpreter and consent read aloud; what the shelter will see, the
rest struck out; departure, the shelter's power fails; arrival, the late acceptance counts; the administrator finds
noise; the police are refused, and told "taken over"; a safety warning; a withdrawal; a request from the other country,
blocked, then admitted; one byte altered, named; and named by both countries.

Invariants: a scene goes on when what it waits for stands in a mailbox; what it proves (`Stage.scene`) is read there or
in files, and is the same over SQLite and Kafka. Must never: tell more than was seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import python_calamine
from rich.panel import Panel
from rich.text import Text

from adapters.connectors import columns
from adapters.connectors.column_type import FORMS
from adapters.connectors.facts_in_words import sections_of
from adapters.connectors.template import FIRST_ROW
from adapters.deadlines import alarms
from adapters.directory import Directory
from schemas.errors import LogError
from schemas.forms import Facts, Movement
from schemas.minimise import minimise
from schemas.plain.directory import AvailabilityAsked
from topics.catalogue import allowed_fields
from topics.ledger_checkpoints import CHECKPOINT
from topics.ledger_entries import decode_entry
from topics.ledger_served import VIEW
from topics.ledger_view import LedgerView
from umuhuza import demo_border, demo_evidence, demo_protection
from umuhuza import demo_people as people
from umuhuza.demo_neighbour import WITNESSES, endorsed
from umuhuza.demo_people import HER, IOM, MINISTRY, OTHER, POLICE, SHELTER, Her, answer
from umuhuza.demo_stage import AGENCIES, HOURS_AGO, ZONE, DemoError, Stage, prepare
from umuhuza.overdue import alarm_words
from umuhuza.paired_domains import DomainFolders
from umuhuza.words import labelled, language, t

_SHOWN = ("nom_donne", "prs_Birthdate", "services", "langues", "interprete", "contact_canal", "risque_niveau", "motif")
"""Columns of which the first lines of the shelter's view are shown; there are more."""


def play(stage: Stage) -> dict[str, Any]:
    """All of it; returns what is counted at the end. Raises DemoError."""
    stage.console.print(
        Panel(
            t(
                "Deux pays, chacun avec sa passerelle et son registre de preuve ; huit agences.\n"
                "Chacune garde son système. Tout est formation : toutes les personnes sont inventées.",
                "Two countries, each with its gateway and its ledger; eight agencies.\n"
                "Each keeps its own system. All of it is training: everybody is invented.",
            ),
            title="Umuhuza",
            expand=False,
        )
    )
    stage.clock.move(-HOURS_AGO * 3600)
    with stage.scene("ready"):
        stage.log.begin(stage.tell)
        prepare(stage)
        stage.tell(
            "Sept agences sont reliées à la passerelle du Burundi, une à celle de la Tunisie, chacune avec ses clés.",
            "Seven agencies are connected to Burundi's gateway, one to Tunisia's, each with keys of its own.",
            stage.address,
        )
        stage.log.connected(stage.tell)
    her = Her()
    _identified(stage, her)
    _a_bed_without_a_name(stage)
    facts = _screening(stage, her)
    _what_the_shelter_sees(stage, her, facts)
    _departure(stage, her)
    _arrival(stage, her)
    demo_protection.administrator(stage, her)
    demo_protection.police(stage, her)
    demo_protection.warning(stage, her)
    demo_protection.withdrawal(stage, her)
    crossed = demo_border.crossing(stage)
    refused = demo_protection.altered(stage, her)
    counted = _counted(stage, refused)
    demo_evidence.checked(stage)
    demo_border.both_checks(stage, crossed, stage.root / demo_evidence.EVIDENCE, stage.root / demo_evidence.POLICY)
    return counted


# ---------------------------------------------------------------------------------------------------------------------
# Until the shelter has her referral


def _identified(stage: Stage, her: Her) -> None:
    with stage.scene("identified") as proof:
        submission = orjson.dumps(people.kobo_submission(stage.today()))
        people.put(stage.folder(POLICE) / "kobo", "soumission-101.json", submission)
        item = stage.arrived(IOM, "case.identified")
        her.handed, her.case = item.evt, item.thread
        proof["thread_state"] = stage.state(IOM, her.case)
        stage.tell(
            "La police identifie une personne (formulaire Kobo) ; l'OIM l'a reçue. La passerelle n'a rien pu lire.",
            "The police identify a person (Kobo form); IOM has it. The gateway could read nothing.",
        )


def _a_bed_without_a_name(stage: Stage) -> None:
    with stage.scene("bed") as proof:
        for shelter in (SHELTER, OTHER):
            with stage.desk(shelter) as parts:
                Directory(parts.desk).publish(people.night_shelter(stage.today()), 1)
        for shelter in (SHELTER, OTHER):
            stage.until(shelter, partial(_has_published, stage, shelter))
        question = AvailabilityAsked(
            service="SocialCare",
            local="hebergement",
            age="adult",
            sex="female",
            needed_from=stage.today(),
            languages=("rn",),
        )
        with stage.desk(IOM) as parts:
            directory = Directory(parts.desk)
            name, outcomes = directory.ask(question)
            offers = stage.until(
                "availability.answered",
                lambda: (
                    found
                    if len(found := [one for one in directory.book.asks() if one.ask == name and one.hold_until]) == 2
                    else None
                ),
            )
            released = directory.take(next(one.thread for one in offers if one.peer == SHELTER))
        stage.arrived(SHELTER, "availability.held")
        stage.arrived(OTHER, "availability.released")
        read = stage.opened(SHELTER, stage.arrived(SHELTER, "availability.asked"))
        asked = {} if read.facts.said is None else read.facts.said.model_dump()
        proof |= {
            "asked": len(outcomes),
            "offered": len(offers),
            "held": SHELTER,
            "released": released,
            "read": sorted(asked),
            "person": read.pseudonym,
        }
        stage.tell(
            "L'OIM demande un lit pour ce soir, sans nom : deux lieux protégés disent oui, un lit est retenu, l'autre "
            "libéré.",
            "IOM asks for a bed tonight, without a name: two protected places say yes, one bed is held, the other "
            "released.",
            t("Tout ce qu'ils ont lu : ", "All that they read: ") + _question_in_words(asked),
        )


def _has_published(stage: Stage, shelter: str) -> bool:
    return any(item.iss == shelter for item in stage.inbox(IOM, "service.published"))


def _question_in_words(asked: Mapping[str, Any]) -> str:
    """Every member of the question, in order; what has no words of its own as it stands."""
    words = {
        "adult": t("un adulte", "an adult"),
        "child": t("un enfant", "a child"),
        "female": t("une femme", "a woman"),
        "male": t("un homme", "a man"),
    }
    said = []
    for name, value in asked.items():
        if isinstance(value, datetime):
            said.append(t(f"dès {_clock(value)}", f"from {_clock(value)}"))
        elif name == "count":
            said.append(t(f"{value} place", f"{value} place"))
        elif isinstance(value, tuple):
            said += [t(f"parle {one}", f"speaks {one}") for one in value]
        elif value is not None:
            said.append(words.get(str(value), str(value)))
    return ", ".join(said)


def _screening(stage: Stage, her: Her) -> Facts:
    with stage.scene("screening") as proof:
        now = stage.today()
        workbook = people.iom_workbook(now)
        facts = people.drafted(workbook, now)
        consent = None if facts.lawful is None else facts.lawful.consent
        if consent is None or facts.referral is None:
            raise DemoError("orientations.xlsx")
        stage.tell(
            "L'OIM l'évalue avec une interprète d'une autre communauté, qui lui lit le consentement à haute voix :",
            "IOM screens her with an interpreter from another community, who reads the consent aloud to her:",
            t(*people.READ_ALOUD),
        )
        stage.note(
            t(
                f"Elle accepte, de l'empreinte du pouce, jusqu'au {consent.expires_at:%d/%m/%Y} ; sa nationalité ne "
                "sera pas dite.",
                f"She agrees, by thumbprint, until {consent.expires_at:%d/%m/%Y}; her citizenship will not be told.",
            )
        )
        folder = stage.folder(IOM) / "dossier"
        people.put(folder / "a-envoyer", "orientations.xlsx", workbook)
        report = stage.until(
            "rapport", lambda: next(iter((folder / "rapports").glob("orientations*rapport*.xlsx")), None)
        )
        stage.tell(
            "L'OIM dépose un classeur : une évaluation, deux orientations, une ligne fautive qui revient avec un "
            "rapport.",
            "IOM drops a workbook: one screening, two referrals, and one bad row that comes back with a report.",
            str(report),
        )
        told = stage.opened(MINISTRY, stage.arrived(MINISTRY, "case.screened"))
        stage.tell(
            "Le ministère est informé de la décision, sans le nom de la personne.",
            "The ministry is told of the decision, without the person's name.",
        )
        proof |= {
            "interpreter": facts.referral.interpreter.language if facts.referral.interpreter.needed else None,
            "consent_language": consent.language,
            "consent_how": consent.how,
            "ministry_read_her_name": people.NAME in told.facts.model_dump_json(),
        }
        return facts


def _what_the_shelter_sees(stage: Stage, her: Her, facts: Facts) -> None:
    """The view is made from the policy, as the adapter makes what it seals; then it is compared with what arrived."""
    with stage.scene("seen") as proof:
        services = () if facts.referral is None else facts.referral.services
        seen, withheld = minimise("referral.requested", facts, allowed_fields("referral.requested", services))
        item = stage.arrived(SHELTER, "referral.requested")
        her.stay, her.asked = item.thread, item.evt
        arrived = stage.opened(SHELTER, item)
        before, after = _lines(facts), _lines(seen)
        struck = [one for one in before if one not in after]
        labels = [columns.column(name).label(language()) for name in _SHOWN]
        shown = [one for one in after if one[0] in labels]
        stage.tell(
            "Ce que le lieu protégé verra de ce que l'OIM a écrit ; le reste est barré, et ne part pas :",
            "What the protected place will see of what IOM wrote; the rest is struck out, and does not leave:",
        )
        more = len(after) - len(shown)
        line = Text(" · ".join(labelled(label, label, value) for label, value in shown))
        line.append(t(f" · et {more} autres", f" · and {more} more"), style="dim")
        stage.show(line)
        stage.show(Text(" · ").join(_struck(stage, label, value) for label, value in struck))
        proof |= {
            "shown": len(after),
            "struck": list(withheld),
            "as_read": arrived.facts.referral == seen.referral and arrived.facts.htcds == seen.htcds,
            "withheld_as_read": arrived.withheld == withheld,
        }
        answer(
            stage, OTHER, [{"etape": "Reçue par une personne"}, {"etape": "Déclinée", "motif": people.unsafe_here()}]
        )
        stage.arrived(IOM, "referral.declined")
        stage.tell(
            "L'autre lieu protégé décline la seconde orientation, celle d'une autre personne : pas sûr ici pour elle.",
            "The other protected place declines the second referral, of another person: not safe here for her.",
        )


def _lines(facts: Facts) -> list[tuple[str, str]]:
    return [(said.label, said.value) for section in sections_of(facts, ZONE, language()) for said in section.lines]


def _struck(stage: Stage, label: str, value: str) -> Text:
    """Struck out where a terminal can; masked elsewhere, so that it does not stand in a file."""
    if stage.console.is_terminal:
        return Text(labelled(label, label, value), style="strike dim")
    return Text(labelled(label, label, f"[-{t('masqué', 'masked')}-]"))


# ---------------------------------------------------------------------------------------------------------------------
# On her way


def _departure(stage: Stage, her: Her) -> None:
    with stage.scene("departure") as proof:
        answer(stage, SHELTER, [{"etape": "Reçue par une personne"}])
        stage.reaches("received", her.stay, IOM)
        stage.until(t("accusés de réception", "receipts"), stage.settled)
        stage.power_cut(SHELTER)
        now = stage.today()
        expected = now + timedelta(hours=2)
        gone = Movement(departed_at=now, expected_at=expected)
        evt = stage.say(
            IOM, SHELTER, "movement.departed", Facts(occurred_at=now, movement=gone), thread=her.stay, person=HER
        )
        stage.until("movement.departed", lambda: _sent(stage, IOM, evt) == "promised")
        stage.tell(
            f"Le lit est retenu : elle part, attendue à {_clock(expected)}. Au lieu protégé, le courant tombe.",
            f"The bed is held: she leaves, expected at {_clock(expected)}. At the protected place the power fails.",
        )
        stage.clock.move(0.0)
        stage.reaches("expired", her.stay, IOM)
        found = _alarms(stage)
        stage.tell(
            "Plus de quatre heures passent. L'écran de l'OIM dit à qui téléphoner :",
            "More than four hours pass. IOM's screen says whom to telephone:",
            "\n".join(words for _, words in found),
        )
        proof |= {
            "departed": _sent(stage, IOM, evt),
            "alarms": sorted(kind for kind, _ in found),
            "thread_state": stage.state(IOM, her.stay),
        }


def _clock(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%H:%M")


def _sent(stage: Stage, agency: str, evt: str) -> str:
    box = stage.mailbox(agency)
    try:
        item = box.outgoing(evt)
        return "" if item is None else item.state
    finally:
        box.close()


def _alarms(stage: Stage) -> list[tuple[str, str]]:
    """What `umuhuza agency outbox` shows IOM as overdue: kind and words."""
    with stage.desk(IOM) as parts:
        grace_s = parts.settings.arrival_grace_minutes * 60.0
        return [(one.kind, alarm_words(one)) for one in alarms(parts.mailbox, parts.now(), grace_s)]


def _arrival(stage: Stage, her: Her) -> None:
    with stage.scene("arrival") as proof:
        # On paper first: the workbook is on the shelter's laptop, and so is its reader's answer.
        answer(stage, SHELTER, [{"etape": "Acceptée"}], after=1)
        stage.run_agency(SHELTER)
        stage.reaches("late-acceptance", her.stay, IOM)
        late = _alarms(stage)
        stage.tell(
            "L'OIM a téléphoné : elle est bien arrivée. Le courant revient ; l'acceptation part après l'échéance, et "
            "compte :",
            "IOM has telephoned: she is there. Power is back; the acceptance leaves after the deadline, and counts:",
            "\n".join(words for kind, words in late if kind == "late-acceptance"),
        )
        stage.say(IOM, SHELTER, "referral.reopened", Facts(occurred_at=stage.today()), thread=her.stay)
        # The shelter had believed in "accepted" all along, until it read that time had run out; then, that it counts.
        stage.arrived(SHELTER, "referral.reopened")
        stage.reaches("accepted", her.stay, IOM, SHELTER)
        came = stage.today() - timedelta(hours=2, minutes=10)
        there = {"etape": "La personne est arrivée", "date": f"{came:%d/%m/%Y %H:%M}"}
        answer(stage, SHELTER, [there, {"etape": "Accompagnement commencé"}], after=2)
        stage.arrived(IOM, "movement.arrived")
        stage.reaches("in-progress", her.stay, IOM, SHELTER)
        stage.until("movement.arrived", lambda: not _alarms(stage))
        stage.tell(
            "L'OIM confirme. Le lieu protégé a noté l'arrivée à l'heure où elle eut lieu ; plus rien n'alerte.",
            "IOM confirms. The protected place has noted the arrival at the time it took place; no alarm is left.",
        )
        proof |= {
            "alarms_before": sorted(kind for kind, _ in late),
            "alarms_after": [kind for kind, _ in _alarms(stage)],
            "thread_state": stage.state(IOM, her.stay),
        }


# ---------------------------------------------------------------------------------------------------------------------
# Afterwards


def _counted(stage: Stage, refused: str) -> dict[str, Any]:
    """What is there now, read from the mailboxes and the log."""
    inbox: dict[str, int] = {}
    for agency in AGENCIES:
        inbox[agency] = sum(not item.type.startswith("receipt.") for item in stage.everything(agency))
    states: dict[str, int] = {}
    for thread in stage.threads(IOM):
        if thread.machine == "referral":
            states[thread.state] = states.get(thread.state, 0) + 1
    records = len(asyncio.run(stage.log.entries(stage.topics())))
    return {
        "log": stage.log.name,
        "records": records,
        "ledger": stage.until("ledger", partial(_in_ledger, stage.home, records)),
        "referrals": states,
        "refused": {refused: 1},
        "rows_refused": _rows_to_correct(stage),
        "inbox": {agency: count for agency, count in inbox.items() if count},
        "scenes": stage.proofs,
    }


def _in_ledger(here: DomainFolders, records: int) -> dict[str, int] | None:
    """What the ledger says of the story, once it has signed all of it and its witnesses have seen it."""
    try:
        view = LedgerView.reading(here.ledger / VIEW)
    except LogError:
        return None
    try:
        kinds = Counter(decode_entry(entry).kind for entry in view.entries())
        counted = kinds["event"] + kinds["erasure"]
        signed = int((here.ledger / CHECKPOINT).read_text(encoding="utf-8").splitlines()[1])
        if counted < records or min(signed, endorsed(here)[0]) < view.size:
            return None
        others = view.size - counted - kinds["registry"] - kinds["erased"]
        return {"entries": view.size, "records": counted, "others": others, "witnesses": WITNESSES}
    except (OSError, LogError):
        return None
    finally:
        view.close()


def _rows_to_correct(stage: Stage) -> int:
    """Rows that came back to IOM's caseworker, in the workbook of rows to correct."""
    reports = stage.folder(IOM) / "dossier" / "rapports"
    count = 0
    for workbook in reports.glob("*.a-corriger.xlsx"):
        book = python_calamine.CalamineWorkbook.from_path(str(workbook))
        for form in FORMS:
            if form in book.sheet_names:
                found = book.get_sheet_by_name(form).to_python(skip_empty_area=False)[FIRST_ROW:]
                count += sum(any(str(cell).strip() for cell in row) for row in found)
    return count
