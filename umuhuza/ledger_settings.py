# SPDX-License-Identifier: Apache-2.0
"""What a ledger is told when it starts: `ledger.toml`, then UMUHUZA_LEDGER_* environment, then arguments.

Its private keys stay in a file of their own, mode 0600, one line each as Go's sumdb/note writes them, in
clear or locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.errors import KeyStoreError, LogError
from schemas.keys import fingerprint_of
from schemas.notes import NoteKey, NoteSigner, SignatureType, read_vkey
from schemas.registry_bundle import RootPin
from topics.private_file import Passphrase, read_own, read_private
from topics.registry_file import registry_pin
from topics.settings import SettingsError, load
from topics.witness_folder import note_signers
from umuhuza.asking import current_passphrase

PREFIX = "UMUHUZA_LEDGER_"
PRIVATE = "ledger"
"""What a ledger's locked key file is locked as."""
FILE_NAME = "ledger.toml"
ALGORITHMS = {
    SignatureType.ED25519: "Ed25519",
    SignatureType.COSIGNATURE: "Ed25519",
    SignatureType.ML_DSA_44: "ML-DSA-44",
}


class LedgerSettings(BaseSettings):
    """One ledger's settings; seconds as their names say."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    registry: Path = Field(description="The domain's registry file; every version becomes an entry.")
    registry_root: str = Field(description="Fingerprint of the domain's root, 43 characters; compare it by telephone.")
    log: Path | None = Field(None, description="The domain's log as one SQLite file; this or `kafka`.")
    kafka: Path | None = Field(
        None,
        description="The domain's log on Apache Kafka: folder with bootstrap, ca.pem, certificate.pem and key.pem.",
    )
    store: Path | None = Field(
        None,
        description="The ledger itself as one SQLite file, to be backed up; without it, Kafka's topic.",
    )
    keys: Path = Field(Path("ledger.keys"), description="The ledger's private signing keys, mode 0600.")
    view: Path = Field(Path("view.db"), description="Tiles, bundles and places; made again when missing or damaged.")
    neighbours: Path | None = Field(
        None, description="Folder of what is held of other domains, the gateway's; without it nothing passes a border."
    )
    registries: Path = Field(Path("registries"), description="Every registry version, by its hash; to be backed up.")
    checkpoint_seconds: float = Field(1.0, gt=0, description="At most so often a checkpoint is signed.")
    witness_seconds: float = Field(
        60.0, gt=0, description="How often the witnesses of witnesses.policy are asked to cosign."
    )
    erasure_seconds: float = Field(
        600.0, gt=0, description="Longest time between two reads of the whole log while an erasure is not done."
    )
    retention_hours: float | None = Field(
        None,
        gt=0,
        description="How often what is past its retention and was delivered is removed; without it, only by hand.",
    )
    retention_kafka: Path | None = Field(
        None, description="On Kafka: folder of an administrator of the cluster, who alone may remove."
    )
    host: str = Field("127.0.0.1", description="Address on which health and metrics are answered.")
    port: int = Field(8441, ge=0, le=65535, description="Port for health and metrics; 0 chooses a free one.")
    ready_file: Path | None = Field(None, description="Written with that address once the ledger has caught up.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_ledger_settings` reads the environment itself, so that an unknown name in it is refused too.
        return (init_settings,)


def load_ledger_settings(
    file: Path, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> LedgerSettings:
    """Merge file, environment and arguments (the later wins); paths in the file are relative to it.

    Raises SettingsError: an unknown name, a missing or a wrong value, no log or two, no store, nobody who may remove.
    """
    found = load(
        LedgerSettings, prefix=PREFIX, file=file, section="ledger", arguments=arguments, environment=environment
    )
    if (found.log is None) == (found.kafka is None):
        raise SettingsError(
            "log, kafka: one of the two is needed, and not both", "log, kafka : il faut l'un des deux, et un seul"
        )
    if found.kafka is None and found.store is None:
        raise SettingsError("store: is needed without kafka", "store : il le faut quand il n'y a pas de kafka")
    if found.retention_hours is not None and found.kafka is not None and found.retention_kafka is None:
        raise SettingsError(
            "retention_kafka: is needed with retention_hours on Kafka",
            "retention_kafka : il le faut avec retention_hours sur Kafka",
        )
    return found


def key_line(key: NoteKey) -> str:
    """A public key as two people read it to each other: name, algorithm, fingerprint."""
    return f"{key.name}  {ALGORITHMS[key.kind]:9}  {fingerprint_of(key.public)}"


def read_root(settings: LedgerSettings) -> RootPin:
    """The domain's root. Raises SettingsError."""
    return registry_pin(settings.registry_root)


def read_signers(file: Path, passphrase: Passphrase = current_passphrase) -> tuple[NoteSigner, ...]:
    """The ledger's private keys, one a line, in clear or locked.

    Args:
        passphrase: asked only where the file is locked.

    Raises:
        SettingsError: missing, readable by others, or no keys.
        KeyStoreError: keys_damaged, passphrase_wrong, passphrase_missing.
    """
    return _of_one_ledger(note_signers(read_private(read_own(file, "keys"), PRIVATE).open(passphrase)))


def read_public(file: Path) -> tuple[NoteKey, ...]:
    """The public keys of that file, for whoever only looks: nothing is asked for.

    Raises:
        SettingsError: as `read_signers`.
        KeyStoreError: keys_damaged.
    """
    found = read_private(read_own(file, "keys"), PRIVATE)
    if found.public is None:
        return tuple(one.public for one in read_signers(file))
    try:
        return _of_one_ledger(tuple(map(read_vkey, found.public.split())))
    except LogError:
        raise KeyStoreError("keys_damaged", "keys") from None


_K = TypeVar("_K", NoteSigner, NoteKey)


def _of_one_ledger(keys: tuple[_K, ...]) -> tuple[_K, ...]:
    if len({one.name for one in keys}) != 1:
        raise SettingsError("keys: not a ledger's keys", "keys : ce ne sont pas les clés d'un registre de preuve")
    return keys
