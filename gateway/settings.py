# SPDX-License-Identifier: Apache-2.0
"""What a gateway is told when it starts: TOML file, then UMUHUZA_GATEWAY_* environment, then arguments.

Misconfiguration is refused: an unknown key is an error that names the nearest known one. Secrets stay in files of
their own (the signing key); a setting only says where, so that settings may be printed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.errors import RegistryError
from schemas.keys import SigningKey, VerifyKey, unb64url

PREFIX = "UMUHUZA_GATEWAY_"


class SettingsError(Exception):
    """The settings cannot be used; the text is for the operator and holds names of settings, never values."""


class Settings(BaseSettings):
    """One gateway's settings; seconds, bytes and counts as their names say."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    registry: Path = Field(description="The domain's registry file; read again when it changes.")
    registry_key: str = Field(description="The domain's public root key: base64url of the 65-byte point.")
    signing_key: Path = Field(description="File with this gateway's private key (base64url scalar), mode 0600.")
    agency: str = Field(description="The agency whose registry entry holds this gateway's key, bi/operator.")
    log: Path = Field(description="The domain's log: one SQLite file.")
    index: Path = Field(description="This gateway's own index; made again when it is missing or damaged.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8440, ge=0, le=65535, description="Port to listen on; 0 chooses a free one.")
    ready_file: Path | None = Field(None, description="Written with the address once requests are answered.")
    tls_certificate: Path | None = Field(None, description="PEM chain; without it TLS ends at a proxy before.")
    tls_key: Path | None = Field(None, description="PEM private key of the certificate.")
    workers_threads: int = Field(2, ge=1, le=64, description="Threads that verify signatures.")
    body_max_bytes: int = Field(16 << 20, ge=1 << 20, le=256 << 20, description="Largest request, decompressed.")
    lines_max: int = Field(1000, ge=1, le=1000, description="Most records in one request.")
    body_seconds: float = Field(60.0, gt=0, description="A request body has to arrive within this time.")
    send_seconds: float = Field(60.0, gt=0, description="A client that takes nothing for this time is dropped.")
    header_seconds: float = Field(20.0, gt=0, description="A connection has to send its request's head in this time.")
    keep_alive_seconds: int = Field(75, ge=1, description="How long an idle connection is kept.")
    stop_seconds: int = Field(10, ge=1, description="How long requests under way may take when stopping.")
    wait_max_seconds: float = Field(60.0, gt=0, le=300, description="Longest wait of one mailbox read.")
    token_seconds: int = Field(300, ge=10, le=3600, description="How long an access token counts.")
    records_per_minute: int | None = Field(None, ge=1, description="Instead of the policy's quota.")
    megabytes_per_hour: int | None = Field(None, ge=1, description="Instead of the policy's quota.")
    waiting_reads: int | None = Field(None, ge=1, description="Instead of the policy's quota.")
    follow_seconds: float = Field(2.0, gt=0, description="How often other gateways' records are looked for.")
    log_requests: bool = Field(True, description="Write one JSON line per request (no values).")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` reads the environment itself, so that an unknown name in it is refused too.
        return (init_settings,)


def load_settings(
    file: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Merge file, environment and arguments (the later wins).

    Paths in the file are relative to the file.

    Raises:
        SettingsError: an unknown key (with the nearest known one), a missing or a wrong value.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(file)
    known = set(Settings.model_fields)
    env = os.environ if environment is None else environment
    for name, value in env.items():
        if name.upper().startswith(PREFIX):
            values[_known(name[len(PREFIX) :].lower(), known, prefix=PREFIX)] = value
    for name, value in (arguments or {}).items():
        if value is not None:
            values[_known(name, known)] = value
    try:
        return Settings(**values)
    except ValidationError as exc:
        where = sorted({".".join(map(str, error["loc"])) + " (" + error["type"] + ")" for error in exc.errors()})
        raise SettingsError("settings are missing or wrong: " + ", ".join(where)) from None


def _from_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = tomllib.load(stream)
    except OSError:
        raise SettingsError("the settings file cannot be read") from None
    except tomllib.TOMLDecodeError:
        raise SettingsError("the settings file is not TOML") from None
    raw = raw.get("gateway", raw) if isinstance(raw.get("gateway", {}), dict) else raw
    values: dict[str, Any] = {}
    for name, value in raw.items():
        known = _known(name, set(Settings.model_fields))
        is_path = Path in getattr(Settings.model_fields[known].annotation, "__args__", ()) or (
            Settings.model_fields[known].annotation is Path
        )
        values[known] = file.parent / value if is_path and isinstance(value, str) else value
    return values


def _known(name: str, known: set[str], prefix: str = "") -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    shown = prefix + near[0].upper() if prefix else near[0]
    raise SettingsError(f"unknown setting; the nearest known one is `{shown}`")


def read_signing_key(file: Path) -> SigningKey:
    """This gateway's private key: one line, base64url of the 32-byte scalar.

    Raises:
        SettingsError: missing, readable by others, or not a key.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError("signing_key: the file cannot be read") from None
    if os.name == "posix" and mode & 0o077:
        raise SettingsError("signing_key: the file is readable by others; chmod 600")
    try:
        scalar = unb64url(text)
        if len(scalar) != 32:
            raise ValueError("length")
        return SigningKey.from_scalar(scalar)
    except ValueError:
        raise SettingsError("signing_key: not a key") from None


def read_root_key(settings: Settings) -> VerifyKey:
    """The domain's root key, against which registry files are checked. Raises SettingsError."""
    try:
        return VerifyKey(unb64url(settings.registry_key))
    except (ValueError, RegistryError):
        raise SettingsError("registry_key: not a public key") from None
