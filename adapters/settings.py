# SPDX-License-Identifier: Apache-2.0
"""What an agency's adapter is told when it starts: `agency.toml`, then UMUHUZA_AGENCY_* environment, then arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from schemas.attachments import DEFAULT_LIMIT, MAX_BYTES
from topics.settings import load

PREFIX = "UMUHUZA_AGENCY_"
ADDRESS = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,8}$"
"""A mail address without quotes, spaces, or anything that could end a header (RFC 5321, dot-string@domain)."""
Address = Annotated[str, StringConstraints(pattern=ADDRESS, max_length=254)]
FILE_NAME = "agency.toml"


class AgencySettings(BaseModel):
    """One agency's settings; paths in the file are relative to it, seconds as the names say."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    agency: str = Field(
        pattern=r"^[a-z]{2}/[a-z0-9][a-z0-9-]{0,31}$", description="This agency's id, bi/iom.", examples=["bi/iom"]
    )
    gateway: str = Field(
        pattern=r"^https?://", description="Address of the domain's gateway.", examples=["https://gateway.example:8440"]
    )
    registry_root: str = Field(
        pattern=r"^[A-Za-z0-9_-]{43}$", description="Fingerprint of the domain's root; compare it by telephone."
    )
    gateway_agency: str = Field(
        pattern=r"^[a-z]{2}/[a-z0-9-]+$",
        description="The agency whose registry entry holds the gateway's key.",
        examples=["bi/operator"],
    )
    keys: Path = Field(Path("keys.json"), description="Private keys of this agency, mode 0600.")
    mailbox: Path = Field(Path("mailbox.db"), description="Outbox, inbox and cursors: one SQLite file. Back it up.")
    registry: Path = Field(Path("registry.json"), description="Copy of the domain's registry; renewed by itself.")
    folder: Path | None = Field(None, description="Watched folder for spreadsheets, with its sub-folders.")
    kobo: Path | None = Field(None, description="Folder in which KoboToolbox submissions (JSON) are dropped.")
    kobo_to: str | None = Field(None, description="Agency that Kobo submissions are sent to.")
    language: Literal["fr", "en"] = Field("fr", description="Language of reports and workbooks.")
    timezone: str = Field("Africa/Bujumbura", description="Zone in which dates without one are meant and shown.")
    quiet_seconds: float = Field(2.0, ge=0, description="A dropped file must not have changed for this long.")
    collect_seconds: float = Field(2.0, gt=0, description="How often the folders are looked at.")
    wait_seconds: float = Field(55.0, gt=0, le=60, description="Length of one long poll of the mailboxes.")
    idle_seconds: float = Field(1.0, gt=0, description="How often the outbox is looked at.")
    attachments_mib: float = Field(
        DEFAULT_LIMIT / 2**20,
        ge=0,
        le=MAX_BYTES / 2**20,
        description="Mebibytes of attachments to one event, sent or taken; 0: none.",
    )
    watch_seconds: float = Field(30.0, gt=0, description="How often the clock is looked at: deadlines, arrivals.")
    arrival_grace_minutes: int = Field(
        60, ge=0, description="So long after she was expected, an arrival that nobody reported alarms."
    )
    registry_seconds: float = Field(600.0, gt=0, description="How often a newer registry is asked for.")
    trust: Path | None = Field(
        None,
        description="The ledger's and its witnesses' public keys (witnesses.policy); receipts are then kept, and "
        "decide about revoked keys.",
    )
    neighbours: Path | None = Field(
        None, description="Folder of what is held of other domains; without it nothing passes a border."
    )
    receipt_seconds: float = Field(60.0, gt=0, description="How often receipts are asked for, with `trust`.")
    mail_host: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.:-]{1,253}$",
        description="Mail server for notices without content; without it none.",
    )
    mail_port: int | None = Field(None, ge=1, le=65535, description="Its port; by default 587, or 465 with `tls`.")
    mail_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How it is encrypted; `none` only for a server on this machine itself."
    )
    mail_from: Address | None = Field(None, description="Address that notices come from; choose one that says nothing.")
    mail_to: tuple[Address, ...] = Field((), max_length=20, description="Addresses that notices go to.")
    mail_user: str | None = Field(None, pattern=r"^[^\x00-\x1f]{1,200}$", description="Login at the mail server.")
    mail_password: Path | None = Field(None, description="File with its password, one line, mode 0600.")
    mail_ca_file: Path | None = Field(
        None, description="PEM of the authority that signed the mail server's certificate."
    )
    mail_minutes: int = Field(
        30, ge=5, le=1440, description="About how often a notice may go; when exactly is drawn beforehand."
    )
    ca_file: Path | None = Field(None, description="PEM of the authority that signed the gateway's TLS certificate.")
    kafka: Path | None = Field(
        None,
        description="To read the mailboxes from Kafka: folder with bootstrap, ca.pem, certificate.pem and key.pem.",
    )
    kafka_write: bool = Field(
        False, description="Write to Kafka too, if the registry says that this agency may (`direct`)."
    )

    @field_validator("mail_to", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        """In the environment addresses are separated by commas."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def domain(self) -> str:
        return self.agency.partition("/")[0]


def load_agency(folder: Path, arguments: dict[str, object] | None = None) -> AgencySettings:
    """Raises topics.settings.SettingsError."""
    return load(AgencySettings, prefix=PREFIX, file=folder / FILE_NAME, arguments=arguments)
