# SPDX-License-Identifier: Apache-2.0
"""What was typed wrongly, said in French or English.

Typer says it in English only; its sentences are few and are translated here by their form. A sentence that is not in
the table is shown as it is, rather than not at all. An id that begins with a dash, as one in 64 of those that other
programs make, is an id here and no option.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import islice

import typer
from typer import rich_utils
from typer.core import TyperCommand, TyperGroup, TyperOption

from umuhuza.words import language, say, t

_FRENCH: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.DOTALL), french)
    for pattern, french in (
        (r"No such command '(.*?)'\. Did you mean (.*)\?", "La commande « {0} » n'existe pas. Plutôt {1} ?"),
        (r"No such command '(.*?)'\.", "La commande « {0} » n'existe pas."),
        (r"No such option: (\S+) \(Possible options: (.*)\)", "L'option {0} n'existe pas. Plutôt {1} ?"),
        (r"No such option: (\S+)(?: Did you mean (.*)\?)?", "L'option {0} n'existe pas."),
        (r"Missing option '?(.*?)'?\.", "Il manque l'option {0}."),
        (r"Missing argument '?(.*?)'?\.", "Il manque l'argument {0}."),
        (r"Missing command\.", "Il manque une commande."),
        (r"Got unexpected extra argument\(s\) \((.*)\)", "De trop sur la ligne : {0}"),
        (r"Option '?(\S+?)'? requires an argument\.?", "L'option {0} attend une valeur."),
        (
            r"Invalid value for '?([^':]*)'?: Input should be greater than or equal to (.*)",
            "Valeur refusée pour {0} : {1} au moins",
        ),
        (
            r"Invalid value for '?([^':]*)'?: Input should be less than or equal to (.*)",
            "Valeur refusée pour {0} : {1} au plus",
        ),
        (
            r"Invalid value for '?([^':]*)'?: Input should be a valid integer.*",
            "Valeur refusée pour {0} : attendu un nombre entier",
        ),
        (
            r"Invalid value for '?([^':]*)'?: path '(.*)' is not readable\.",
            "Valeur refusée pour {0} : « {1} » ne peut pas être lu (droits)",
        ),
        (
            r"Invalid value for '?([^':]*)'?: .*does not match the formats '%Y-%m-%d'\.?",
            "Valeur refusée pour {0} : attendu un jour, AAAA-MM-JJ",
        ),
        (
            r"Invalid value for '?([^':]*)'?: (?:Value error, )?'.*' is not one of (.*?)\.?",
            "Valeur refusée pour {0} : attendu {1}",
        ),
        (r"Invalid value for '?([^':]*)'?: Input should be (.*)", "Valeur refusée pour {0} : attendu {1}"),
        (r"Invalid value for '?([^':]*)'?: (.*)", "Valeur refusée pour {0} : {1}"),
        (r"Invalid value: (.*)", "Valeur refusée : {0}"),
    )
]

_SYSTEM_FRENCH: Mapping[int, str] = {
    errno.EACCES: "accès interdit",
    errno.EPERM: "opération interdite",
    errno.ENOENT: "ce fichier ou ce dossier n'existe pas",
    errno.ENOTDIR: "ce n'est pas un dossier",
    errno.EISDIR: "c'est un dossier, pas un fichier",
    errno.EEXIST: "cela existe déjà",
    errno.ENOTEMPTY: "le dossier n'est pas vide",
    errno.EROFS: "le disque est en lecture seule",
    errno.ENOSPC: "le disque est plein",
    errno.EDQUOT: "l'espace accordé est épuisé",
    errno.EIO: "le disque ne répond pas comme il faut",
    errno.EXDEV: "ce sont deux disques différents",
    errno.EMFILE: "trop de fichiers ouverts",
    errno.ENAMETOOLONG: "ce nom est trop long",
    errno.EADDRINUSE: "ce port est pris par un autre programme",
    errno.ECONNREFUSED: "personne ne répond à cette adresse",
}


def usage_words(error: typer.TyperException) -> str:
    """One sentence, in the language of this process."""
    said = getattr(error, "format_message", lambda: str(error))()
    if language() == "fr":
        for pattern, french in _FRENCH:
            found = pattern.fullmatch(said)
            if found is not None:
                return french.format(*found.groups())
    return str(said)


def system_words(error: OSError) -> str:
    """What the computer says, in the language of this process where it is one of the usual things."""
    number = error.errno or 0
    french = _SYSTEM_FRENCH.get(number) if language() == "fr" else None
    return os.strerror(number) if french is None else french


def show_usage(error: typer.TyperException) -> None:
    """The sentence, and where to look. A command without arguments has shown its help already: nothing more."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    say(usage_words(error))
    context = getattr(error, "ctx", None)
    if context is not None:
        say(t("Aide : ", "Help: ") + f"{context.command_path} --help")


def french_frame() -> None:
    """The titles around a help text, and the options that Typer adds, which it knows in English only.

    Once per process, before any help is shown. « Usage » is the same word in both languages.
    """
    rich_utils.OPTIONS_PANEL_TITLE = "Options"
    rich_utils.COMMANDS_PANEL_TITLE = "Commandes"
    rich_utils.ARGUMENTS_PANEL_TITLE = "Arguments"
    rich_utils.ERRORS_PANEL_TITLE = "Erreur"
    rich_utils.REQUIRED_LONG_STRING = "[obligatoire]"
    rich_utils.DEFAULT_STRING = "[par défaut : {}]"
    for kind in (TyperCommand, TyperGroup):
        setattr(kind, _ASKED_FIRST, _worded(getattr(kind, _ASKED_FIRST)))


_ASKED_FIRST = "get_help_option"
"""What Typer asks a command for whenever it shows help or parses; it makes these options by itself, with English texts
that nothing sets."""
_OPTIONS_OF_TYPER = {
    "help": ("Montre cette aide, sans rien faire.", "Show this message and exit."),
    "install_completion": (
        "Installe la complétion des commandes dans ce terminal.",
        "Install completion for the current shell.",
    ),
    "show_completion": (
        "Montre la complétion des commandes, pour l'adapter ou l'installer ailleurs.",
        "Show completion for the current shell, to copy it or customize the installation.",
    ),
}


def _worded(maker: Callable[..., TyperOption | None]) -> Callable[..., TyperOption | None]:
    @wraps(maker)
    def made(command: TyperCommand | TyperGroup, *arguments: object) -> TyperOption | None:
        found = maker(command, *arguments)
        for option in (*command.params, found):
            if isinstance(option, TyperOption) and option.name in _OPTIONS_OF_TYPER:
                option.help = t(*_OPTIONS_OF_TYPER[option.name])
        return found

    return made


_SHOWN_ID = re.compile(r"-[A-Za-z0-9_][A-Za-z0-9_-]{6}(?:[A-Za-z0-9_-]{14})?")
"""A thread that begins with a dash, as our lists show it (8 characters) or whole (22)."""
_PARSE = "parse_args"


def take_ids_with_a_dash() -> None:
    """Let every command read such an id where it stands; no command of ours has options of one dash. Idempotent."""
    parse = getattr(TyperCommand, _PARSE)
    if not hasattr(parse, "__wrapped__"):
        setattr(TyperCommand, _PARSE, _ids_last(parse))


def _ids_last(parse: Callable[[TyperCommand, typer.Context, list[str]], list[str]]) -> Callable[..., list[str]]:
    @wraps(parse)
    def parsed(command: TyperCommand, context: typer.Context, words: list[str]) -> list[str]:
        if "--" not in words and any(_SHOWN_ID.fullmatch(word) for word in words):
            words = list(_apart(command, words))
        return parse(command, context, words)

    return parsed


def _apart(command: TyperCommand, words: Sequence[str]) -> Iterator[str]:
    """The options with their values, then everything else behind `--`, each in its order."""
    values = {
        name: 0 if option.is_flag or option.count else option.nargs
        for option in command.params
        if isinstance(option, TyperOption)
        for name in (*option.opts, *option.secondary_opts)
    }
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word.startswith("-") and not _SHOWN_ID.fullmatch(word):
            yield word
            yield from islice(rest, 0 if "=" in word else values.get(word, 0))
        else:
            others.append(word)
    yield "--"
    yield from others
