# SPDX-License-Identifier: Apache-2.0
"""`umuhuza config`: what a process would be told, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from adapters import settings as agency_settings
from gateway import settings as gateway_settings
from topics.settings import SettingsError, merged
from umuhuza import ledger_settings
from umuhuza.options import Json
from umuhuza.settings_words import SETTINGS_FR
from umuhuza.words import result, t, table

_FROM = {
    "default": ("d'office", "default"),
    "environment": ("environnement", "environment"),
    "file": ("fichier", "file"),
    "missing": ("manque", "missing"),
}

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `show` a subcommand while it is the only one."""


@app.command(
    help=t(
        "Montre les réglages en vigueur et d'où ils viennent.", "Show the settings in force and where they come from."
    )
)
def show(
    folder: Annotated[
        Path,
        typer.Option("--dir", help=t("Dossier d'une agence, d'une passerelle…", "Folder of an agency, a gateway…")),
    ],
    as_json: Json = False,
) -> None:
    for file, model, prefix, kind in (
        (folder / agency_settings.FILE_NAME, agency_settings.AgencySettings, agency_settings.PREFIX, "agency"),
        (folder / "gateway.toml", gateway_settings.Settings, gateway_settings.PREFIX, "gateway"),
        (folder / ledger_settings.FILE_NAME, ledger_settings.LedgerSettings, ledger_settings.PREFIX, "ledger"),
    ):
        if file.exists():
            rows = _rows(model, prefix, file, kind)
            result({"ok": True, "kind": kind, "file": str(file), "settings": rows}, as_json=as_json)
            if not as_json:
                from_words = {name: t(*words) for name, words in _FROM.items()}
                table(
                    str(file),
                    (t("Réglage", "Setting"), t("Valeur", "Value"), t("D'où", "From"), t("Sens", "Meaning")),
                    [
                        (row["name"], str(row["value"]), from_words.get(row["source"], row["source"]), row["meaning"])
                        for row in rows
                    ],
                )
            return
    raise SettingsError(
        "no agency.toml, gateway.toml or ledger.toml in this folder",
        "ni agency.toml, ni gateway.toml, ni ledger.toml dans ce dossier",
    )


def _rows(model: type[BaseModel], prefix: str, file: Path, kind: str) -> list[dict[str, Any]]:
    values, sources = merged(model, prefix=prefix, file=file)
    rows = []
    for name, field in model.model_fields.items():
        missing = name not in values and field.is_required()
        value = values.get(name, None if missing else field.get_default())
        rows.append(
            {
                "name": name,
                "value": str(value) if isinstance(value, Path) else value,
                "source": sources.get(name, "missing" if missing else "default"),
                "meaning": t(SETTINGS_FR[kind][name], field.description or ""),
            }
        )
    return rows
