# SPDX-License-Identifier: Apache-2.0
"""A scan goes with a referral.

IOM refers somebody to a shelter, with the scan of a medical certificate of three mebibytes and a photograph of her
papers. The referral is there at once; the files follow in sealed chunks through the gateway, within its limits of size,
rate and time, and are handed over when they are whole. Whoever searches the log, the gateway's words or the brokers'
disks finds neither the name of the file nor a line of it. Then she asks that all of it be erased: the keys of the
referral and of every chunk are gone, by one command.
"""

from __future__ import annotations

from schemas.attachments import File
from schemas.plain.attachment import ANNOUNCED, CHUNK
from tests.scenarios.town import Town
from umuhuza.examples.samples_attachment import file

NAME = "Uwineza-Inventée"
LINE = "Fracture inventée, vue le 3 novembre\n"
SCAN = File(f"Certificat médical de {NAME}.pdf", b"%PDF-1.7\n" + LINE.encode() * (3 * 2**20 // len(LINE.encode())))
PAPERS = file(180_000, "jpg", f"{NAME}.jpg")


def test_a_scan_of_three_mebibytes_goes_with_a_referral_and_can_be_erased(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    evt = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-18", files=[SCAN, PAPERS])
    town.settle(["bi/iom", "bi/k7t4"])

    assert shelter.system.types == ["referral.requested", ANNOUNCED]
    arrived = shelter.system.arrived[1]
    assert [(one.name, one.data) for one in arrived.files] == [(SCAN.name, SCAN.data), (PAPERS.name, PAPERS.data)]
    assert shelter.inbox(CHUNK) != []
    assert iom.outgoing(arrived.evt).state == "delivered"
    assert town.found(NAME, LINE.strip()) == []

    records = [item.evt for item in shelter.inbox() if item.type in ("referral.requested", ANNOUNCED, CHUNK)]
    assert all(len(town.grants_of("bi/k7t4", one, "bi/iom")) == 1 for one in records)
    iom.corrections.erase(f"bi/iom/{evt}", "person")
    town.settle(["bi/iom", "bi/k7t4"])
    town.wait(minutes=2)
    town.settle(["bi/iom", "bi/k7t4"])
    assert [one for one in records if town.grants_of("bi/k7t4", one, "bi/iom")] == []
    assert {item.state for item in shelter.inbox() if item.evt in records} == {"erased"}
    assert shelter.system.types == ["erasure.requested"]
    assert len(iom.inbox("erasure.attested")) == 1
