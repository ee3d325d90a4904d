# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.e2e.enrolment_recording`: the recording and the picture of an enrolment in `docs/recordings`.

Two people with a telephone: the registry holder (`registre$`) and the one who sets up a protected place (`maison$`).
The keys are new each time, and with them the words: `tests/e2e/test_enrolment.py` runs the same session and compares
all else.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import Language
from tests.e2e.terminal import Terminal, picture_of, shown_in
from umuhuza.publish import DOCS

RECORDINGS = DOCS / "recordings"
LANGUAGES: tuple[Language, ...] = ("fr", "en")
PASSPHRASE = "farine blanchir bustier moufle avide cruel"
HOLDERS_PASSPHRASE = "gazelle ombre tiroir cactus brume lisse"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
_ROW = re.compile(r"^ +\d+ \w+ +\d+ \w+ +\d+ \w+(?=\r?$)", re.MULTILINE)
"""Three of the twelve words, numbered."""


@dataclass(frozen=True)
class Recorded:
    cast: str
    picture: str


TITLES: dict[Language, str] = {"fr": "Une inscription par téléphone", "en": "An enrolment by telephone"}
TOLD: dict[Language, str] = {
    "fr": "Deux personnes au téléphone : la maison crée ses clés, les verrouille et lit douze mots ; le détenteur du "
    "registre les tape, un mot mal entendu est refusé avec sa place, puis l'agence est inscrite.",
    "en": "Two people on the telephone: the house makes its keys, locks them and reads out twelve words; the registry "
    "holder types them, a misheard word is refused with its place, then the agency is enrolled.",
}
SAID: dict[str, dict[Language, str]] = {
    "holder": {"fr": "registre", "en": "registry"},
    "house": {"fr": "maison", "en": "house"},
    "name": {"fr": "Lieu protégé", "en": "Protected place"},
    "new": {
        "fr": "Nouvelle phrase de passe (vide : six mots tirés au sort) : ",
        "en": "New passphrase (empty: six words drawn at random): ",
    },
    "open": {"fr": "Phrase de passe du détenteur a : ", "en": "Passphrase of the holder a: "},
    "again": {"fr": "Encore une fois : ", "en": "Once more: "},
    "heard": {"fr": "Les douze mots entendus : ", "en": "The twelve words that you heard: "},
    "begin": {"fr": "Le détenteur du registre, une seule fois :", "en": "The registry holder, once:"},
    "house begins": {
        "fr": "La maison, sur son ordinateur (la racine du domaine lui a été donnée sur papier) :",
        "en": "The house, on its computer (it was given the domain's root on paper):",
    },
    "telephone": {
        "fr": "inscription.json est envoyé par courriel. Le détenteur appelle la maison : il entend les douze mots.",
        "en": "inscription.json is sent by mail. The holder calls the house, and hears the twelve words.",
    },
    "misheard": {
        "fr": "Le mot 7 était mal entendu : il est relu, lettre par lettre.",
        "en": "Word 7 was misheard: it is read again, letter by letter.",
    },
    "compare": {
        "fr": "La maison entend les mots du domaine : ce sont ceux de son écran. C'est fait.",
        "en": "The house hears the domain's words: they are those on its screen. Done.",
    },
}


def recorded(folder: Path, language: Language) -> Recorded:
    """The session, played in an empty folder."""
    say = {name: both[language] for name, both in SAID.items()}
    session = Terminal(folder, language)
    session.note(say["begin"])
    code, told = session.run(
        say["holder"],
        "registry",
        "init",
        "--dir",
        "registre",
        "--domain",
        "bi",
        answers=[(say["new"], HOLDERS_PASSPHRASE), (say["again"], HOLDERS_PASSPHRASE)],
    )
    assert code == 0, told
    [key] = _KEY.findall(told)
    session.note(say["house begins"])
    code, told = session.run(
        say["house"],
        *("agency", "enrol", "--dir", "maison", "--agency", "bi/k7t4", "--name", say["name"]),
        *("--role", "assistance", "--role", "shelter", "--protected"),
        *("--gateway", "https://passerelle.exemple.bi", "--registry-root", key),
        answers=[(say["new"], PASSPHRASE), (say["again"], PASSPHRASE)],
    )
    assert code == 0, told
    assert PASSPHRASE not in told
    session.note(say["telephone"])
    words = re.findall(r" \d+ (\w+)", "\n".join(_ROW.findall(told)))[:12]
    misheard = [*words[:6], words[0], *words[7:]]
    approve = ("registry", "approve", "maison/inscription.json", "--dir", "registre")
    code, told = session.run(say["holder"], *approve, answers=[(say["heard"], " ".join(misheard))])
    assert code == 1, told
    session.note(say["misheard"])
    code, told = session.run(
        say["holder"], *approve, answers=[(say["heard"], " ".join(words)), (say["open"], HOLDERS_PASSPHRASE)]
    )
    assert code == 0, told
    assert HOLDERS_PASSPHRASE not in told
    session.note(say["compare"])
    cast = session.cast(TITLES[language])
    return Recorded(cast, picture_of(cast, TITLES[language], TOLD[language]))


def without_words(cast: str) -> str:
    """What a recording shows, but for what is new with every key."""
    text = _KEY.sub("KEY", shown_in(cast))
    text = re.sub(r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}", "FINGERPRINT", text)
    text = _ROW.sub("WORDS", text)
    return re.sub(r"(?<= : |d: )(?:\w+ ){11}\w+", "WORDS", text)


def main() -> int:
    RECORDINGS.mkdir(exist_ok=True)
    for language in LANGUAGES:
        with tempfile.TemporaryDirectory() as folder:
            made = recorded(Path(folder), language)
        (RECORDINGS / f"enrolment-{language}.cast").write_text(made.cast, encoding="utf-8")
        (RECORDINGS / f"enrolment-{language}.svg").write_text(made.picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
