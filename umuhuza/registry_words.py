# SPDX-License-Identifier: Apache-2.0
"""What the registry's commands say to holders: what was published, what waits for whom, what ends soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from schemas.errors import RegistryError
from schemas.keys import VerifyKey, unb64url
from schemas.ledgers import AnnouncedLedger
from schemas.registry import SignedProtocol
from schemas.registry_bundle import RootPin
from schemas.registry_metadata import Holder
from schemas.registry_signing import Proposal, read_proposal
from schemas.registry_trust import Expiring
from umuhuza.registry_holder import Changed
from umuhuza.words import t


def read_holders(texts: Sequence[str]) -> list[Holder]:
    """`name=public key` (base64url, as `umuhuza registry holder` prints it). Raises typer.BadParameter."""
    found = []
    for text in texts:
        name, _, public = text.partition("=")
        try:
            found.append(Holder(name, VerifyKey(unb64url(public))))
        except (ValueError, RegistryError):
            raise typer.BadParameter(
                t(
                    "attendu nom=clé, comme l'affiche « registry holder »",
                    "expected name=key, as `registry holder` prints it",
                ),
                param_hint="--holder",
            ) from None
    return found


def waiting_lines(changed: Changed) -> list[str]:
    """What to do with a change that is not published yet; nothing when it is."""
    if changed.published or changed.proposal is None:
        return []
    change, _ = read_proposal(changed.proposal.read_bytes())
    roles = missing_words(changed.missing)
    return [
        t(
            f"Pas encore publié : il manque des signatures ({roles}).",
            f"Not published yet: signatures are missing ({roles}).",
        ),
        t(
            f"Portez {changed.proposal} à un autre détenteur ; comparez au téléphone : {spoken(change)}",
            f"Carry {changed.proposal} to another holder; compare on the telephone: {spoken(change)}",
        ),
        t("Là-bas : umuhuza registry sign proposal.json --dir …", "There: umuhuza registry sign proposal.json --dir …"),
    ]


def missing_words(missing: Mapping[str, int]) -> str:
    """How many signatures are still wanted, and for what."""
    return ", ".join(f"{role_words(role)} {count}" for role, count in missing.items())


def role_words(role: str) -> str:
    """What a role of the registry signs, for people."""
    match role:
        case "root":
            return t("changement de détenteurs", "change of holders")
        case "targets":
            return t("membres", "members")
        case _:
            return t("publication", "publication")


def spoken(change: Proposal) -> str:
    """What two holders read to each other before the second signs."""
    return RootPin(change.digest).spoken


def published_lines(changed: Changed, *said: str) -> list[str]:
    """What was done, or what is still to be done before it counts."""
    return list(said) if changed.published else waiting_lines(changed)


def protocol_line(found: SignedProtocol) -> str:
    """Whether a protocol counts, and if not why."""
    name = found.terms.name
    between = ", ".join(found.terms.agencies)
    if found.ended_by:
        ended = ", ".join(found.ended_by)
        return t(
            f"Protocole {name} ({between}) : ne compte plus, {ended} y a mis fin",
            f"Protocol {name} ({between}): counts no longer, ended by {ended}",
        )
    if found.lacking:
        lacking = ", ".join(found.lacking)
        return t(
            f"Protocole {name} ({between}) : ne compte pas, il manque la signature de {lacking}",
            f"Protocol {name} ({between}): does not count, the signature of {lacking} is missing",
        )
    first, last = found.terms.since.isoformat(), found.terms.until.isoformat()
    return t(
        f"Protocole {name} ({between}) : signé par toutes, du {first} au {last}",
        f"Protocol {name} ({between}): signed by all, from {first} to {last}",
    )


def protocol_json(found: SignedProtocol) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "agencies": list(found.terms.agencies),
        "counts": found.counts,
        "lacking": list(found.lacking),
        "ended_by": list(found.ended_by),
        "since": found.terms.since.isoformat(),
        "until": found.terms.until.isoformat(),
    }


def passphrase_line() -> str:
    """What to do with a passphrase that was just chosen."""
    return t(
        "La phrase de passe sur papier, loin de la clé : sans elle, personne n'ouvre plus la clé.",
        "The passphrase on paper, away from the key: without it nobody opens the key any more.",
    )


def ledger_line(one: AnnouncedLedger, *, lost: bool) -> str:
    """An announced ledger, for people."""
    known = "" if one.last is None else t(f", cosigné sur {one.last.size}", f", cosigned over {one.last.size}")
    return t(
        f"Registre de preuve : {one.origin}, depuis le {day(one.since)}{', perdu' if lost else ''}{known}",
        f"Ledger: {one.origin}, since {day(one.since)}{', lost' if lost else ''}{known}",
    )


def ending_line(one: Expiring) -> str:
    """What ends soon, for people."""
    return t(f"Expire le {day(one.at)} : {one.what} {one.of}", f"Ends on {day(one.at)}: {one.what} {one.of}")


def day(seconds: int) -> str:
    """A time, seconds since the epoch, for people: to the minute, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
