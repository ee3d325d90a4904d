# SPDX-License-Identifier: Apache-2.0
"""The second half of `umuhuza demo`: who may not know, what is hers, and what cannot be changed unseen.

The gateway's administrator, the police, a warning, a withdrawal, a forged record and an altered byte. As
`umuhuza.demo_story`: what is told was seen.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from adapters.consents import Consents
from adapters.outbox import Outbox
from schemas.forms import Facts
from schemas.lifecycle import state_label
from schemas.plain.alert import SafetyWarning
from schemas.plain.case import HandoverAcknowledged
from topics.neighbours import Neighbours
from umuhuza import demo_people as people
from umuhuza.demo_neighbour import GATEWAY
from umuhuza.demo_people import CLINIC, HER, HER_THERE, IOM, OTHER, POLICE, SHELTER, Her, answer
from umuhuza.demo_proofs import ask_for_referrals, checked, forge, noise, search, with_a_byte_altered
from umuhuza.demo_stage import LOGS, MEMBERS, DemoError, Stage
from umuhuza.registry_holder import held
from umuhuza.words import language, t

# ---------------------------------------------------------------------------------------------------------------------
# Who may not know


def administrator(stage: Stage, her: Her) -> None:
    with stage.scene("administrator") as proof:
        places = [stage.root / GATEWAY, stage.root / "kafka", stage.root / LOGS]
        found = search(people.NAME, [place for place in places if place.exists()])
        control = search(people.NAME, [stage.folder(IOM) / "dossier"])
        entries = asyncio.run(stage.log.entries(["bi.referral.k7t4"]))
        stage.tell(
            f"L'administrateur de la passerelle cherche son nom dans {found.files} fichiers, "
            f"{found.bytes / 1e6:.1f} Mo, octet par octet : {found.found} fois.",
            f"The gateway's administrator searches her name in {found.files} files, {found.bytes / 1e6:.1f} MB, byte "
            f"by byte: {found.found} times.",
            t("Là où elle est nommée, il lit : ", "Where she is named he reads: ")
            + noise(entries, f"{IOM}/{her.asked}"),
        )
        proof |= {"files": found.files, "bytes": found.bytes, "found": found.found, "found_at_iom": control.found}


def police(stage: Stage, her: Her) -> None:
    with stage.scene("police") as proof:
        refused = asyncio.run(ask_for_referrals(stage, POLICE))
        stage.tell(
            "La police demande à la passerelle les orientations, avec sa clé valable : refusé.",
            "The police ask the gateway for referrals, with their valid key: refused.",
            f"{refused.status} {refused.code} · {refused.title}\n{refused.advice}",
        )
        _, wrote = stage.offer(POLICE, SHELTER, "safety.warning", _suspect_free(stage, None))
        said = HandoverAcknowledged(taken_over=True, telephone=people.IOM_TELEPHONE)
        taken = Facts(occurred_at=stage.today(), said=said)
        stage.say(IOM, POLICE, "handover.acknowledged", taken, thread=her.case, ref=her.handed)
        item = stage.arrived(POLICE, "handover.acknowledged")
        told = stage.opened(POLICE, item).facts.said
        on_her = [one for one in stage.everything(POLICE) if one.thread == her.case]
        stage.tell(
            f"Ce que la police apprend de l'OIM : prise en charge, téléphone {people.IOM_TELEPHONE}. Jamais où.",
            f"What the police learn from IOM: taken over, telephone {people.IOM_TELEPHONE}. Never where.",
        )
        proof |= {
            "status": refused.status,
            "code": refused.code,
            "advice": refused.advice,
            "writing": wrote,
            "told": None if told is None else told.model_dump(mode="json"),
            "shelter_named": any(b"k7t4" in one.record for one in on_her),
        }


def _suspect_free(stage: Stage, about: str | None) -> Facts:
    said = SafetyWarning(
        danger="suspect-released",
        since=stage.today() - timedelta(minutes=30),
        about=about,
        telephone=people.POLICE_TELEPHONE,
    )
    return Facts(occurred_at=stage.today(), said=said)


def warning(stage: Stage, her: Her) -> None:
    with stage.scene("warning") as proof:
        with stage.desk(IOM) as parts:
            Consents(parts.desk, Outbox(parts.desk)).link(her.case, HER)
        begun = time.monotonic()
        stage.say(POLICE, IOM, "safety.warning", _suspect_free(stage, her.handed))
        stage.arrived(SHELTER, "safety.warning")
        took = round(time.monotonic() - begun, 1)
        reached = [one.id for one in MEMBERS if stage.inbox(one.id, "safety.warning")]
        stage.tell(
            f"Un suspect est libéré : la police avertit l'OIM, qui avertit qui l'héberge. {took} s, sans que la police "
            "sache où.",
            f"A suspect is released: the police warn IOM, which warns who shelters her. {took} s, and the police do "
            "not learn where.",
            t("Danger immédiat : on téléphone aussi.", "Immediate danger: one telephones as well."),
        )
        proof |= {"reached": reached, "within_s": took}


# ---------------------------------------------------------------------------------------------------------------------
# What is hers


def withdrawal(stage: Stage, her: Her) -> None:
    with stage.scene("withdrawal") as proof:
        with stage.desk(SHELTER) as parts:
            Consents(parts.desk, Outbox(parts.desk)).link(her.stay, HER_THERE)
        stage.say(SHELTER, CLINIC, "referral.requested", people.onward(stage.today()), person=HER_THERE)
        care = stage.arrived(CLINIC, "referral.requested").thread
        stage.say(CLINIC, SHELTER, "referral.accepted", Facts(occurred_at=stage.today()), thread=care)
        stage.reaches("accepted", care, SHELTER)
        stage.tell(
            "Avec son accord, le lieu protégé demande pour elle un soin au centre de santé.",
            "With her consent the protected place asks the health centre for care.",
        )
        with stage.desk(IOM) as parts:
            consents = Consents(parts.desk, Outbox(parts.desk))
            number = consents.withdraw(HER, "sharing").number
            stage.until(
                "consent.acknowledged", lambda: all(one.confirmed_at is not None for one in consents.book.told(number))
            )
            told = {one.peer: one.onward for one in consents.book.told(number)}
        _, again = stage.offer(IOM, OTHER, "referral.requested", people.onward(stage.today()), person=HER)
        stays = [stage.state(agency, her.stay) for agency in (IOM, SHELTER)]
        stage.tell(
            "Elle retire son accord au partage. Tous ceux qui détiennent quelque chose confirment :",
            "She withdraws her consent to sharing. Everybody who holds something confirms:",
            "\n".join(
                t(f"{peer} : confirmé, et {behind or 0} autre(s) après lui", f"{peer}: confirmed, {behind or 0} behind")
                for peer, behind in sorted(told.items())
            ),
        )
        stage.note(
            t(
                f"Son lit reste : {state_label('referral', stays[0] or '', 'fr')}. Une nouvelle orientation : refusée.",
                f"Her bed stays: {state_label('referral', stays[0] or '', 'en')}. A new referral: refused.",
            )
            + f" ({again})"
        )
        proof |= {
            "confirmed": dict(sorted(told.items())),
            "stay": stays,
            "care": [stage.state(agency, care) for agency in (SHELTER, CLINIC)],
            "new_referral": again,
        }
        served = {"etape": "Service fourni", "service": people.social_care(), "debut": people.day(stage.today())}
        answer(stage, SHELTER, [served, {"etape": "Terminée", "resultat": people.goals_met()}], after=4)
        stage.reaches("completed", her.stay, IOM)
        stage.tell(
            "L'accompagnement va à son terme, et le lieu protégé le dit dans le classeur reçu.",
            "The service runs to its end, and the protected place says so in the workbook it received.",
        )


def altered(stage: Stage, her: Her) -> str:
    with stage.scene("altered") as proof:
        refused = asyncio.run(forge(stage))
        if refused is None:
            raise DemoError(t("un faux a été accepté", "a forged record was accepted"))
        stage.tell(
            "Un enregistrement falsifié est refusé à la porte.",
            "A forged record is refused at the door.",
            refused.describe(language()),
        )
        stage.until(t("accusés de réception", "receipts"), stage.settled)
        entries = asyncio.run(stage.log.entries(stage.topics()))
        at, ident = int(stage.clock()), f"{IOM}/{her.asked}"
        abroad = Neighbours(stage.home.neighbours, lambda: held(stage.home.registry).trusted, time.time)
        honest = checked(entries, stage.members, at, abroad)
        found = checked(with_a_byte_altered(entries, ident), stage.members, at, abroad)
        stage.tell(
            f"Un octet est changé dans une copie du journal : sur {len(entries)} enregistrements, un seul est nommé.",
            f"One byte is changed in a copy of the log: of {len(entries)} records, exactly one is named.",
            "\n".join(f"{one.ident} · {one.part} · {one.code}" for one in found),
        )
        proof |= {
            "records": len(entries),
            "wrong_before": len(honest),
            "named": [{"code": one.code, "part": one.part, "is_it": one.ident == ident} for one in found],
        }
        return refused.code
