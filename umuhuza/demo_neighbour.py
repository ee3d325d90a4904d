# SPDX-License-Identifier: Apache-2.0
"""The other country of the demonstration, and who watches both ledgers.

Tunisia has a registry, a gateway, a log in one file, a ledger, a witness and an agency of its own, and keeps the real
time; an agreement stands in both registries. Burundi's ledger has three witnesses: Burundi's and Tunisia's, each in its
country's gateway, and IOM's, a process. Tunisia's has the two countries'. All have to sign; ledgers ask them every
second instead of every minute, and never wait. The bridges run when the story comes to the border.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import LogError
from schemas.ledgers import origin_of
from schemas.registry import Registry
from topics.cosigning import Cosignatures
from topics.neighbours import Neighbours
from topics.witness_folder import PUBLIC_FILE, read_note_keys
from umuhuza.agency_command import write_settings
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.paired_domains import DomainFolders, agree, bridge, found, introduce, member, watched
from umuhuza.registry_holder import add_agency, held
from umuhuza.witness_command import add_log, make_witness, trust

if TYPE_CHECKING:
    from umuhuza.demo_stage import Stage

CCSPRTP, INLCTP = "bi/ccsprtp", "tn/inlctp"
GATEWAY, LEDGER, WITNESS = "passerelle", "registre-de-preuve", "temoin"
ABROAD = "tunisie"
_IOM = "temoin-oim"
WITNESSES = 3


def domain_folders(root: Path, name: str) -> DomainFolders:
    """Where a domain of the demonstration has its files."""
    gateway = root / GATEWAY
    return DomainFolders(name, root / "registre", gateway, gateway / LEDGER, gateway / WITNESS, gateway / "adresse")


def found_abroad(stage: Stage, began: float) -> None:
    """Tunisia with its one agency; its keys count since the story began."""
    found(stage.abroad, now=began)
    names = {"fr": "Instance nationale (inventée)", "en": "National authority (invented)"}
    entry = member(stage.folder(INLCTP), INLCTP, names, ("coordination", "focal-point"), now=began)
    add_agency(stage.abroad.registry, entry)


def start_watching(stage: Stage) -> None:
    """Tunisia's gateway and IOM's witness run, once Burundi's gateway does; then both ledgers, told whom to ask."""
    abroad, iom = stage.abroad, stage.root / _IOM
    where = ("--dir", str(abroad.gateway), "--ready-file", str(abroad.ready))
    stage.start(f"{GATEWAY}-{ABROAD}", "gateway", "run", *where)
    make_witness(iom, "iom.umuhuza/witness")
    add_log(iom, read_note_keys(stage.home.ledger / LEDGER_PUBLIC_FILE))
    ready = iom / "adresse"
    stage.start(_IOM, "witness", "run", "--dir", str(iom), "--port", "0", "--ready-file", str(ready))
    stage.until(ABROAD, abroad.ready.exists)
    stage.until(_IOM, ready.exists)
    for here in (stage.home, abroad):
        watched(here, stage.home, abroad)
    own = stage.home.ledger / LEDGER_PUBLIC_FILE
    trust(stage.home.ledger, own, "iom", read_note_keys(iom / PUBLIC_FILE), ready.read_text(encoding="ascii"))
    stage.start(LEDGER, "ledger", "run", "--dir", str(stage.home.ledger))
    stage.start(f"{LEDGER}-{ABROAD}", "ledger", "run", "--dir", str(abroad.ledger))


def open_border(stage: Stage) -> Registry:
    """The agreement in both registries, once all members are in them; each country learns of the other what the
    agreement names. Returns Burundi's registry with its border."""
    home, abroad = stage.home, stage.abroad
    agree(home, abroad, (CCSPRTP, INLCTP))
    there, here = stage.folder(INLCTP), stage.folder(CCSPRTP)
    write_settings(there, INLCTP, abroad.address, abroad.root, abroad.operator, quick=True)
    for folder in (there, here):
        with (folder / "agency.toml").open("a", encoding="utf-8") as out:
            out.write('neighbours = "voisins"\nreceipt_seconds = 1\n')
    introduce(abroad, home.name, home.neighbours, here / "voisins")
    introduce(home, abroad.name, abroad.neighbours, there / "voisins")
    ours = held(home.registry).trusted
    return Neighbours(home.neighbours, lambda: ours, time.time).registry


def start_bridges(stage: Stage) -> None:
    """Both ways."""
    stage.children.start("pont-tunisie", bridge(stage.abroad, stage.home))
    stage.children.start("pont-burundi", bridge(stage.home, stage.abroad))


def endorsed(here: DomainFolders) -> tuple[int, tuple[str, ...]]:
    """Entries of its ledger that all its witnesses have seen, and who they are; 0 as long as there are none."""
    try:
        seen = Cosignatures(here.ledger, origin_of(here.name)).endorsed()
    except LogError:
        seen = None
    if seen is None:
        return 0, ()
    return seen.signed.checkpoint.size, tuple(sorted({name.partition("-")[0] for name in seen.by}))
