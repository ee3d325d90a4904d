# SPDX-License-Identifier: Apache-2.0
"""How a process is told its settings: a TOML file, then the environment, then arguments; the later wins.

Misconfiguration is refused: an unknown name in any of the three is an error that names the nearest known one. Paths in
a file are relative to the file. Secrets stay in files of their own; a setting says where, so that they may be shown.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError


class SettingsError(Exception):
    """The settings cannot be used. The texts are for the operator: names of settings, never values.

    Args:
        en, fr: the same in both languages; without `fr` the English one serves for both.
    """

    def __init__(self, en: str, fr: str | None = None) -> None:
        super().__init__(en)
        self._fr = en if fr is None else fr

    def describe(self, language: str = "en") -> str:
        """What is wrong and where, never with a value; `language`: fr or en."""
        return self._fr if language == "fr" else str(self)


_M = TypeVar("_M", bound=BaseModel)


def load(
    model: type[_M],
    *,
    prefix: str,
    file: Path | None = None,
    section: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> _M:
    """Merge and validate.

    Args:
        prefix: of environment variables, `UMUHUZA_AGENCY_`.
        section: table of the file that is read when it is there; else the whole file.

    Raises:
        SettingsError: unreadable file, unknown name, missing or wrong value.
    """
    values, _ = merged(model, prefix=prefix, file=file, section=section, arguments=arguments, environment=environment)
    try:
        return model(**values)
    except ValidationError as exc:
        where = sorted({(".".join(map(str, error["loc"])), error["type"]) for error in exc.errors()})
        en, fr = (", ".join(f"{name} ({_said(model, name, kind)[word]})" for name, kind in where) for word in (0, 1))
        raise SettingsError(f"settings are missing or wrong: {en}", f"réglages absents ou fautifs : {fr}") from None


_KINDS = {
    "missing": ("missing", "absent"),
    "string_pattern_mismatch": ("not of its form", "pas de la forme voulue"),
    "string_too_short": ("too short", "trop court"),
    "string_too_long": ("too long", "trop long"),
    "string_type": ("not a text", "pas un texte"),
    "tuple_type": ("not a list", "pas une liste"),
    "int_type": ("not a whole number", "pas un nombre entier"),
    "int_parsing": ("not a whole number", "pas un nombre entier"),
    "float_parsing": ("not a number", "pas un nombre"),
    "bool_parsing": ("neither true nor false", "ni true ni false"),
    "path_type": ("not a path", "pas un chemin"),
    "greater_than": ("too small", "trop petit"),
    "greater_than_equal": ("too small", "trop petit"),
    "less_than": ("too large", "trop grand"),
    "less_than_equal": ("too large", "trop grand"),
    "literal_error": ("not one of the choices", "pas l'un des choix"),
}
"""What pydantic calls the usual mistakes, in words; what is not here is told as pydantic calls it."""


def _said(model: type[BaseModel], name: str, kind: str) -> tuple[str, str]:
    en, fr = _KINDS.get(kind, (kind, kind))
    field = model.model_fields.get(name)
    if kind == "string_pattern_mismatch" and field is not None and field.examples:
        return f"{en}, such as {field.examples[0]}", f"{fr}, par exemple {field.examples[0]}"
    return en, fr


def merged(
    model: type[BaseModel],
    *,
    prefix: str,
    file: Path | None = None,
    section: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by name, and where each comes from (`file`, `environment`, `argument`). Raises SettingsError."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if file is not None:
        values |= _defaults_beside(model, file)
        sources |= dict.fromkeys(values, "default")
        given = _from_file(model, file, section)
        values |= given
        sources |= dict.fromkeys(given, "file")
    for name, value in (os.environ if environment is None else environment).items():
        if name.upper().startswith(prefix):
            known = _known(model, name[len(prefix) :].lower(), prefix)
            values[known], sources[known] = value, "environment"
    for name, value in (arguments or {}).items():
        if value is not None:
            known = _known(model, name, "")
            values[known], sources[known] = value, "argument"
    return values, sources


def _from_file(model: type[BaseModel], file: Path, section: str | None) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = tomllib.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(
            f"there is no {file.name} in {file.parent}: is it the right folder?",
            f"pas de fichier {file.name} dans {file.parent} : est-ce le bon dossier ?",
        ) from None
    except OSError:
        raise SettingsError(
            f"the settings file {file} cannot be read: this account needs the right to do so",
            f"le fichier de réglages {file} ne peut pas être lu : ce compte doit en avoir le droit",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise SettingsError(
            f"the settings file {file.name} is not TOML", f"le fichier de réglages {file.name} n'est pas du TOML"
        ) from None
    if section is not None and isinstance(raw.get(section), dict):
        raw = raw[section]
    values: dict[str, Any] = {}
    for name, value in raw.items():
        known = _known(model, name, "")
        is_path = isinstance(value, str) and _takes_path(model.model_fields[known].annotation)
        values[known] = file.parent / value if is_path else value
    return values


def _defaults_beside(model: type[BaseModel], file: Path) -> dict[str, Any]:
    """Default paths lie beside the settings file, whatever folder the process was started in."""
    return {
        name: file.parent / field.default
        for name, field in model.model_fields.items()
        if isinstance(field.default, Path) and not field.default.is_absolute()
    }


def _takes_path(annotation: Any) -> bool:
    if get_origin(annotation) in (types.UnionType,):
        return Path in get_args(annotation)
    return annotation is Path


def _known(model: type[BaseModel], name: str, prefix: str) -> str:
    known = list(model.model_fields)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    shown = prefix + near.upper() if prefix else near
    raise SettingsError(
        f"unknown setting; the nearest known one is `{shown}`",
        f"réglage inconnu ; le plus proche qui existe est « {shown} »",
    )
