# SPDX-License-Identifier: Apache-2.0
"""Who watches the demonstration's ledger: Burundi's own witness, in its gateway; Tunisia's and IOM's, each a process.

All three have to sign (`witnesses.policy`); the ledger asks them every second instead of every minute, and never waits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.settings import FILE_NAME as SETTINGS_FILE
from schemas.errors import LogError
from topics.cosigning import Cosignatures
from topics.promise import origin_of
from topics.witness_folder import PUBLIC_FILE, read_note_keys
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.ledger_settings import FILE_NAME as LEDGER_FILE
from umuhuza.witness_command import add_log, make_witness, trust

if TYPE_CHECKING:
    from umuhuza.demo_stage import Stage

OWN = "temoin"
ABROAD = {"tn": "temoin-tunisie", "iom": "temoin-oim"}
WITNESSES = 1 + len(ABROAD)


def make_own(gateway: Path, ledger: Path) -> None:
    """The gateway's witness, before the gateway starts; and the ledger asks often, before it starts."""
    _make(gateway / OWN, "bi", ledger)
    with (gateway / SETTINGS_FILE).open("a", encoding="utf-8") as out:
        out.write(f'witness = "{OWN}"\n')
    with (ledger / LEDGER_FILE).open("a", encoding="utf-8") as out:
        out.write("witness_seconds = 1\n")


def start_abroad(stage: Stage, gateway: Path, ledger: Path) -> None:
    """Tunisia's and IOM's, once the gateway answers; then the ledger is told of all three."""
    for name, folder in ABROAD.items():
        _make(stage.root / folder, name, ledger)
        ready = stage.root / folder / "adresse"
        stage.start(
            folder, "witness", "run", "--dir", str(stage.root / folder), "--port", "0", "--ready-file", str(ready)
        )
    _trust(ledger, "bi", gateway / OWN, f"{stage.address}/v1/witness")
    for name, folder in ABROAD.items():
        ready = stage.root / folder / "adresse"
        stage.until(folder, ready.exists)
        _trust(ledger, name, stage.root / folder, ready.read_text(encoding="ascii"))


def endorsed_size(ledger: Path) -> int:
    """Entries that all three have seen; 0 as long as there are none."""
    try:
        endorsed = Cosignatures(ledger, origin_of("bi")).endorsed()
    except LogError:
        return 0
    return 0 if endorsed is None else endorsed.signed.checkpoint.size


def _make(folder: Path, domain: str, ledger: Path) -> None:
    make_witness(folder, f"{domain}.umuhuza/witness")
    add_log(folder, read_note_keys(ledger / LEDGER_PUBLIC_FILE))


def _trust(ledger: Path, name: str, witness: Path, url: str) -> None:
    trust(ledger, ledger / LEDGER_PUBLIC_FILE, name, read_note_keys(witness / PUBLIC_FILE), url)
