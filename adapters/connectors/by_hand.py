# SPDX-License-Identifier: Apache-2.0
"""What an erasure found in the folder, and the page that tells a person what she must still do herself.

    effacements.jsonl   one line per event that was erased: what was there, what was not. Ids and codes only
    A-EFFACER-….txt     in `rapports/`, where something is left to do; whoever has done it deletes the page

A copy that we wrote and that is no longer at its place was moved, renamed or kept by somebody: no program finds it, so
none says that it is gone. If we die between deleting a copy and remembering that, it is looked for in vain by a person:
the safe side.

Invariants: a line is added before what it tells is done, and what was once missing stays missing; no word of a person
stands here, and no name of a file that an agency chose itself but on its own page. Methods that write block and raise
OSError.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.connectors import places
from adapters.connectors.contract import Erased
from adapters.connectors.tracking import day_in_words
from schemas.errors import Language
from schemas.plain.rights import BY_HAND, ByHand

PAGE = "A-EFFACER-"
_WORDS: Mapping[ByHand, tuple[str, str]] = {
    "find-moved-copies": (
        "N'est plus à sa place : retrouvez ce fichier et détruisez-le.",
        "Is no longer at its place: find this file and destroy it.",
    ),
    "destroy-other-copies": (
        "Effacé ici. Détruisez ce que vous en avez enregistré ailleurs, imprimé, photographié ou transmis.",
        "Erased here. Destroy whatever you saved of it elsewhere, printed, photographed or passed on.",
    ),
    "destroy-own-files": (
        "Votre fichier d'origine la décrit encore : ôtez-en la ligne, ou détruisez-le.",
        "Your own file still tells of it: take the row out, or destroy the file.",
    ),
}


class ErasedHere:
    """See the module's docstring. One process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Erased] | None = None

    def of(self, ident: str) -> Erased | None:
        """What the erasures of that event found; None: nothing of it was erased here."""
        return self._all().get(ident)

    def note(self, ident: str, found: Erased) -> Erased:
        """Durable when it returns; what was found before counts too."""
        before = self._all().get(ident)
        whole = found if before is None else together(before, found)
        if whole != before:
            line = {"ident": ident, "deleted": whole.deleted, "by_hand": whole.by_hand}
            places.append_line(self._path, json.dumps(line, separators=(",", ":")).encode("ascii"))
            self._all()[ident] = whole
        return whole

    def _all(self) -> dict[str, Erased]:
        if self._known is None:
            self._known = {}
            for line in self._path.read_bytes().split(b"\n") if self._path.exists() else ():
                try:
                    raw = json.loads(line)
                    ident, by_hand = str(raw["ident"]), tuple(one for one in BY_HAND if one in raw["by_hand"])
                    self._known[ident] = Erased(bool(raw["deleted"]), by_hand)
                except (ValueError, KeyError, TypeError):
                    continue  # torn by a crash, or edited by hand
        return self._known


def together(one: Erased, other: Erased) -> Erased:
    """Both looks at one event: deleted once is deleted, missing once is missing."""
    return Erased(one.deleted or other.deleted, tuple(each for each in BY_HAND if each in one.by_hand + other.by_hand))


def page_name(ident: str) -> str:
    """Of the page in `rapports/`: tells nothing but that event's number."""
    return f"{PAGE}{ident.rpartition('/')[2][-12:]}.txt"


def page(
    ident: str, found: Sequence[tuple[ByHand, Sequence[str]]], now: datetime.datetime, language: Language
) -> bytes:
    """The page, for any editor: marked UTF-8, line ends of Windows.

    Args:
        found: what is left to do, each with the files that it is about, from the agency's folder.
    """
    french = language == "fr"
    made = day_in_words(now.isoformat(), now.tzinfo, language)
    lines = [
        f"EFFACEMENT : CE QUI RESTE À FAIRE PAR VOUS (établi le {made})"
        if french
        else f"ERASURE: WHAT IS LEFT FOR YOU TO DO (made {made})",
        "",
        f"Enregistrement : {ident}" if french else f"Record: {ident}",
        "",
    ]
    for code, names in found:
        lines += [*names, "    " + _WORDS[code][0 if french else 1], ""]
    lines += [
        "Les clés sont effacées, et ce que l'ordinateur a trouvé à sa place aussi. L'attestation dit à l'autre agence"
        " ce qui reste ci-dessus."
        if french
        else "The keys are gone, and so is what the computer found at its place. The attestation tells the other agency"
        " what is left above.",
        "Fait ? Supprimez cette page." if french else "Done? Delete this page.",
        "",
    ]
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode("utf-8")
