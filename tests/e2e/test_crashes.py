# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed, disks that are full, a record that is refused: nothing is lost, doubled or leaked.

The gateway and one agency live on small file systems of their own where this process may mount them (root on Linux).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from adapters.mailbox_rows import Incoming
from schemas.envelope import parse_manifest
from schemas.errors import CODES
from tests.e2e.commands import umuhuza, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from tests.e2e.planted import every_file, forms, traces
from tests.small_disk import full, mounted, unmount

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator")),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True),
    Member("bi/r5w2", ("assistance",), folder=False),
)
PLANTED = ("Quarantedeux-Un", "Deuxcents-Coupée", "Pleine-Passerelle", "Pleine-Agence", "Tuée-Partout")
"""Names of `bi/iom`'s people, referred to one of the other two."""


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[DomainOnDisk]:
    """All enrolled; only the gateway runs. Its folder and `bi/iom`'s are small disks where that is allowed."""
    root = tmp_path_factory.mktemp("crashes") / "bi"
    with contextlib.ExitStack() as stack:
        for folder, megabytes in (("passerelle", 48), ("iom", 48)):
            (root / folder).mkdir(parents=True)
            if mounted(root / folder, megabytes):
                stack.callback(unmount, root / folder)
        yield stack.enter_context(DomainOnDisk.made(root, MEMBERS, log=log))


def queued(domain: DomainOnDisk, name: str, count: int, to: str) -> list[str]:
    """Rows taken into `bi/iom`'s outbox by the command line, while its adapter does not run; their events, in order."""
    book = domain.root / "source.xlsx"
    book.write_bytes(workbook([referral(f"{name} {number}", to) for number in range(count)], ("bi/k7t4", "bi/r5w2")))
    done = umuhuza("agency", "send", book, "--dir", domain.folder("bi/iom"), "--json")
    book.unlink()
    assert done.code == 0, done.out + done.err
    accepted = done.json["accepted"]
    assert len(accepted) == count
    return [item["evt"] for item in accepted]


def evts(items: Sequence[Incoming]) -> list[str]:
    return [item.evt for item in items]


def all_of(domain: DomainOnDisk, agency: str, wanted: Sequence[str]) -> bool:
    return set(wanted) <= set(evts(domain.inbox(agency)))


def exactly_once(domain: DomainOnDisk, agency: str, wanted: Sequence[str]) -> None:
    """In order, none twice, none turned away, all receipted."""
    items = [item for item in domain.inbox(agency) if item.evt in set(wanted)]
    assert evts(sorted(items, key=lambda item: item.log_offset)) == list(wanted)
    until("receipts for all", lambda: sent_states(domain, wanted) == {"delivered"})
    until(
        "all handed over",
        lambda: {item.state for item in domain.inbox(agency) if item.evt in set(wanted)} == {"delivered"},
    )
    assert all(item.code is None for item in domain.inbox(agency))


def sent_states(domain: DomainOnDisk, wanted: Sequence[str]) -> set[str]:
    return {item.state for item in domain.outbox("bi/iom") if item.evt in set(wanted)}


def connect(domain: DomainOnDisk, *agencies: str) -> None:
    for agency in agencies:
        if domain.members[agency].name not in domain.processes:
            domain.start_agency(agency)


def first_contact(domain: DomainOnDisk) -> None:
    """`bi/iom` has met its gateway once, so that it knows whom it can write to; then its adapter is stopped."""
    if not (domain.folder("bi/iom") / "registry.json").exists():
        domain.start_agency("bi/iom")
    if "iom" in domain.processes:
        domain.stop("iom")


def test_the_third_of_forty_is_refused_the_others_arrive_and_the_chain_closes(domain: DomainOnDisk) -> None:
    first_contact(domain)
    wanted = queued(domain, "Quarantedeux-Un", 40, "bi/r5w2")
    third = wanted[2]
    with domain.box("bi/iom") as box:
        item = box.outgoing(third)
        assert item is not None
        # A bad sector: a byte of the sealed body is not what it was when its digest was taken.
        spoilt = bytearray(item.body)
        at = len(spoilt) // 2
        spoilt[at] = ord("A") if spoilt[at] != ord("A") else ord("B")
        with box.transaction():
            box.change("UPDATE outgoing SET body = ? WHERE evt = ?", bytes(spoilt), third)
    connect(domain, "bi/iom", "bi/r5w2")
    rest = [evt for evt in wanted if evt != third]
    until("the other thirty-nine", lambda: all_of(domain, "bi/r5w2", rest))
    exactly_once(domain, "bi/r5w2", rest)
    [refused] = [item for item in domain.outbox("bi/iom") if item.evt == third]
    assert (refused.state, refused.code) == ("refused", "part_digest_mismatch")
    assert refused.seq == 3
    shown = umuhuza("agency", "outbox", "--dir", domain.folder("bi/iom"), "--json").json["items"]
    [told] = [item for item in shown if item["evt"] == third]
    assert told["advice"] == CODES["part_digest_mismatch"].advice_fr
    # The chain closes: a later record of it names the number that will never come.
    until("the refused number is named", lambda: 3 in voided(domain, "bi/r5w2"))


def voided(domain: DomainOnDisk, agency: str) -> set[int]:
    with domain.box(agency) as box:
        records = [item.record for item in box.arrivals.all() if item.iss == "bi/iom"]
    return {seq for record in records for seq in parse_manifest(record.partition(b"\n")[0])[3].voids}


def test_a_gateway_killed_in_the_middle_of_two_hundred_loses_and_doubles_none(domain: DomainOnDisk) -> None:
    first_contact(domain)
    wanted = queued(domain, "Deuxcents-Coupée", 200, "bi/r5w2")
    before = domain.written("bi.referral.r5w2")

    def kill_it() -> None:
        # The first of them stands on the log's disk: what the gateway answers has hardly begun to arrive.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if domain.written("bi.referral.r5w2") > before:
                domain.kill("passerelle")
                return

    killing = threading.Thread(target=kill_it)
    killing.start()
    domain.start_agency("bi/iom", connected=False)
    killing.join()
    assert "passerelle" not in domain.processes, "nothing reaches the gateway"
    assert sent_states(domain, wanted) & {"waiting", "signed"}, "it was not in the middle of them"
    until("the agency has noticed", lambda: "unavailable" in domain.log_of("iom") or troubled(domain, wanted))
    until("it says what to do", lambda: CODES["unavailable"].advice_fr in domain.log_of("iom"))
    domain.start_gateway()
    assert umuhuza("agency", "retry", "--dir", domain.folder("bi/iom"), "--json").json["ok"]
    connect(domain, "bi/r5w2")
    until("all two hundred", lambda: all_of(domain, "bi/r5w2", wanted))
    exactly_once(domain, "bi/r5w2", wanted)


def troubled(domain: DomainOnDisk, wanted: Sequence[str]) -> bool:
    return any(item.code == "unavailable" for item in domain.outbox("bi/iom") if item.evt in set(wanted))


def test_a_full_disk_at_the_gateway_delays_and_loses_nothing(domain: DomainOnDisk) -> None:
    connect(domain, "bi/iom", "bi/r5w2")
    known = {item.evt for item in domain.outbox("bi/iom")}

    def sent() -> list[str]:
        return [item.evt for item in domain.outbox("bi/iom") if item.evt not in known]

    with full(domain.gateway_folder):
        name = "pleine-passerelle.xlsx"
        domain.drop("bi/iom", name, workbook([referral("Pleine-Passerelle", "bi/r5w2")], ("bi/r5w2",)))
        if domain.cluster is None:
            until("it is told that the disk is full", lambda: "storage_full" in codes(domain))
            [told] = [item for item in shown_outbox(domain) if item["code"] == "storage_full"]
            assert told["advice"] == CODES["storage_full"].advice_fr
            assert told["state"] == "signed"
        else:
            # The log is the brokers': it takes the record. What the gateway cannot write is its copy of the grants,
            # unless its file has room inside: then the recipient has its record meanwhile.
            until("it is in the log", lambda: sent() and sent_states(domain, sent()) <= {"promised", "delivered"})
            until(
                "its recipient has it or is told that the disk is full",
                lambda: "storage_full" in domain.log_of("r5w2") or all_of(domain, "bi/r5w2", sent()),
            )
        assert domain.processes["passerelle"].poll() is None
    assert umuhuza("agency", "retry", "--dir", domain.folder("bi/iom")).code == 0
    [evt] = sent()
    until("it arrives", lambda: all_of(domain, "bi/r5w2", [evt]))
    exactly_once(domain, "bi/r5w2", [evt])


def codes(domain: DomainOnDisk) -> set[str | None]:
    return {item.code for item in domain.outbox("bi/iom")}


def shown_outbox(domain: DomainOnDisk) -> list[dict[str, Any]]:
    found = umuhuza("agency", "outbox", "--waiting", "--dir", domain.folder("bi/iom"), "--json").json["items"]
    assert isinstance(found, list)
    return found


def test_a_full_disk_at_an_agency_delays_and_loses_nothing(domain: DomainOnDisk) -> None:
    connect(domain, "bi/iom", "bi/r5w2")
    known = {item.evt for item in domain.outbox("bi/iom")}
    data = workbook([referral("Pleine-Agence", "bi/r5w2")], ("bi/r5w2",))
    dropped = domain.watched("bi/iom", "a-envoyer") / "pleine-agence.xlsx"
    # Copied while there was room, and renamed when there is none.
    half = dropped.with_name(f"{dropped.name}.part")
    half.write_bytes(data)
    # SQLite writes into what room its write-ahead log has kept from before: none is left to it.
    with domain.box("bi/iom") as box:
        until("nothing is kept free in the mailbox", box.scrub)
    with full(domain.folder("bi/iom")):
        half.rename(dropped)
        until("it says that the disk is full", lambda: '"storage_full"' in domain.log_of("iom"))
        assert CODES["storage_full"].advice_fr in domain.log_of("iom")
        assert dropped.read_bytes() == data
        assert domain.processes["iom"].poll() is None
    until("it is taken", lambda: not dropped.exists())
    [evt] = [item.evt for item in domain.outbox("bi/iom") if item.evt not in known]
    until("it arrives", lambda: all_of(domain, "bi/r5w2", [evt]))
    exactly_once(domain, "bi/r5w2", [evt])
    assert (domain.watched("bi/iom", "envoyes") / dropped.name).read_bytes() == data


def test_agencies_killed_in_the_middle_of_everything_lose_and_double_nothing(domain: DomainOnDisk) -> None:
    connect(domain, "bi/iom", "bi/k7t4")
    known = {item.evt for item in domain.outbox("bi/iom")}
    data = workbook([referral(f"Tuée-Partout {number}") for number in range(40)])

    def sent() -> list[str]:
        return [item.evt for item in domain.outbox("bi/iom") if item.evt not in known]

    # While the file is taken in ...
    domain.drop("bi/iom", "tuee.xlsx", data)
    report = domain.watched("bi/iom", "rapports") / "tuee.rapport.xlsx"
    until("something of it is in the outbox", lambda: sent() or report.exists())
    domain.kill("iom")
    domain.start_agency("bi/iom")
    until("all forty are in the outbox", lambda: len(sent()) == 40)
    # ... while the shelter's workbooks are written ...
    received = domain.watched("bi/k7t4", "recus")
    until("the first workbooks", lambda: len(list(received.glob("orientation-*.xlsx"))) >= 3)
    domain.kill("k7t4")
    # ... and while receipts come in.
    domain.kill("iom")
    domain.start_agency("bi/k7t4")
    domain.start_agency("bi/iom")
    wanted = sent()
    assert len(wanted) == 40
    until("all forty at the shelter", lambda: all_of(domain, "bi/k7t4", wanted))
    exactly_once(domain, "bi/k7t4", wanted)
    assert len(list(received.glob("orientation-*.xlsx"))) == 40
    assert not list(received.glob("*.part"))
    put_away = domain.watched("bi/iom", "envoyes") / "tuee.xlsx"
    until("the workbook is put away", put_away.exists)
    assert put_away.read_bytes() == data
    assert report.exists()


def test_nothing_of_all_this_stands_anywhere_else(domain: DomainOnDisk) -> None:
    metrics = domain.metrics().encode()
    domain.end()
    files = every_file(domain.root, but=[domain.folder(member.id) for member in MEMBERS])
    assert {"passerelle", "journaux", "registre"} <= {path.relative_to(domain.root).parts[0] for path in files}
    assert domain.log_files() != []
    assert traces(PLANTED, [*files, *domain.log_files()]) == []
    for name in PLANTED:
        assert not forms(name).stand_in(metrics)
    # Those referred to one of the two agencies are unknown to the other.
    assert traces(["Tuée-Partout"], every_file(domain.folder("bi/r5w2"))) == []
    assert traces(PLANTED[:-1], every_file(domain.folder("bi/k7t4"))) == []
    assert traces(PLANTED, [path for path in every_file(domain.root) if path.name.startswith("mailbox.db")]) == []
    assert traces(PLANTED[:1], every_file(domain.folder("bi/iom"))), "the search finds what is there"
