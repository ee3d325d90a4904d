# SPDX-License-Identifier: Apache-2.0
"""What a gateway is told when it starts: TOML file, then UMUHUZA_GATEWAY_* environment, then arguments.

Misconfiguration is refused: an unknown key is an error that names the nearest known one. Secrets stay in files of
their own (the signing key); a setting only says where, so that settings may be printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.keys import HYBRID, SealingKey, SigningKey, unb64url
from schemas.registry_bundle import RootPin
from topics.passphrase import unattended
from topics.private_file import Passphrase, read_own, read_private
from topics.registry_file import registry_pin
from topics.settings import SettingsError, load

FILE_NAME = "gateway.toml"
PREFIX = "UMUHUZA_GATEWAY_"
PRIVATE, SEALING = "gateway", "gateway-seal"
"""What a gateway's locked key files are locked as."""


class Settings(BaseSettings):
    """One gateway's settings; seconds, bytes and counts as their names say."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    registry: Path = Field(description="The domain's registry, a file or a folder; read again when it changes.")
    registry_root: str = Field(description="Fingerprint of the domain's root, 43 characters; compare it by telephone.")
    signing_key: Path = Field(description="File with this gateway's private key (base64url scalar), mode 0600.")
    sealing_key: Path | None = Field(
        None, description="File with the private key that opens bundles from sticks, mode 0600; without it, none."
    )
    agency: str = Field(description="The agency whose registry entry holds this gateway's key, bi/operator.")
    log: Path | None = Field(None, description="The domain's log as one SQLite file; this or `kafka`.")
    kafka: Path | None = Field(
        None,
        description="The domain's log on Apache Kafka: folder with bootstrap, ca.pem, certificate.pem and key.pem.",
    )
    index: Path = Field(description="This gateway's own index; made again when it is missing or damaged.")
    witness: Path | None = Field(
        None, description="Folder of this domain's witness, which cosigns other domains' ledgers; without it, none."
    )
    neighbours: Path | None = Field(
        None, description="Folder of what is held of other domains; without it nothing passes a border."
    )
    ledger: Path | None = Field(None, description="Folder of the domain's ledger, to serve its tiles to auditors.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8440, ge=0, le=65535, description="Port to listen on; 0 chooses a free one.")
    ready_file: Path | None = Field(None, description="Written with the address once requests are answered.")
    tls_certificate: Path | None = Field(None, description="PEM chain; without it TLS ends at a proxy before.")
    tls_key: Path | None = Field(None, description="PEM private key of the certificate.")
    checkers: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Processes that verify signatures; without it one per core, at most 4, and none for a single core.",
    )
    body_max_bytes: int = Field(16 << 20, ge=1 << 20, le=256 << 20, description="Largest request, decompressed.")
    lines_max: int = Field(1000, ge=1, le=1000, description="Most records in one request.")
    body_seconds: float = Field(60.0, gt=0, description="A request body may stand still for this long.")
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
    return load(Settings, prefix=PREFIX, file=file, section="gateway", arguments=arguments, environment=environment)


def read_signing_key(file: Path, passphrase: Passphrase = unattended) -> SigningKey:
    """This gateway's private key: one line, base64url of the 32-byte scalar, in clear or locked.

    Args:
        passphrase: asked only where the file is locked.

    Raises:
        SettingsError: missing, readable by others, or not a key.
        KeyStoreError: keys_damaged, passphrase_wrong, passphrase_missing.
    """
    text = read_own(file, "signing_key")
    try:
        return gateway_key(read_private(text, PRIVATE).open(passphrase))
    except ValueError:
        raise SettingsError("signing_key: not a key", "signing_key : ce n'est pas une clé") from None


def gateway_key(text: str) -> SigningKey:
    """The key in what its file holds. Raises ValueError."""
    scalar = unb64url(text.strip())
    if len(scalar) != 32:
        raise ValueError("length")
    return SigningKey.from_scalar(scalar)


def read_sealing_key(settings: Settings, passphrase: Passphrase = unattended) -> SealingKey | None:
    """What opens bundles: one line, base64url of the 32-byte seed, in clear or locked. None: this gateway takes none.

    Raises:
        SettingsError: missing, readable by others, or not a key.
        KeyStoreError: keys_damaged, passphrase_wrong, passphrase_missing.
    """
    if settings.sealing_key is None:
        return None
    text = read_private(read_own(settings.sealing_key, "sealing_key"), SEALING).open(passphrase)
    try:
        return sealing_key(text)
    except ValueError:
        raise SettingsError("sealing_key: not a key", "sealing_key : ce n'est pas une clé") from None


def sealing_key(text: str) -> SealingKey:
    """The key in what its file holds. Raises ValueError."""
    seed = unb64url(text.strip())
    if len(seed) != 32:
        raise ValueError("length")
    return SealingKey(HYBRID, seed)


def read_registry_root(settings: Settings) -> RootPin:
    """The domain's root, against which registries are checked. Raises SettingsError."""
    return registry_pin(settings.registry_root)
