# SPDX-License-Identifier: Apache-2.0
"""At the command line, with files on a stick: a place that never uses its network, a gateway, and whoever carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from tests.e2e.shell import Shell
from tests.small_disk import full, small_disk

IOM, SHELTER = "bi/iom", "bi/k7t4"
MEMBERS = (
    Member(IOM, ("screener", "assistance", "facilitator")),
    Member(SHELTER, ("assistance", "shelter"), protected=True),
)
NAME = "Personne-Inventée-U"


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory, sh: Shell) -> Iterator[DomainOnDisk]:
    """A gateway that runs, and two agencies that have the registry from a stick and never run."""
    with DomainOnDisk.made(tmp_path_factory.mktemp("stick") / "bi", MEMBERS) as made:
        for member in MEMBERS:
            registry = made.registry_folder / "registry.json"
            assert sh("registry", "import", registry, "--dir", made.folder(member.id)).code == 0
        yield made


def test_what_is_handed_over_is_logged_later_and_promises_come_back(
    sh: Shell, domain: DomainOnDisk, tmp_path: Path
) -> None:
    iom, shelter = ("--dir", domain.folder(IOM), "--json"), ("--dir", domain.folder(SHELTER), "--json")
    domain.drop(IOM, "a.xlsx", workbook([referral(NAME)]))
    direct = sh("agency", "export", tmp_path, "--to", SHELTER, *iom).json
    assert (direct["records"], direct["more"]) == (1, False)
    assert NAME.encode() not in Path(direct["file"]).read_bytes()

    took = sh("agency", "import", direct["file"], *shelter).json
    assert (took["arrived"], took["delivered"]) == (1, 1)
    [item] = sh("agency", "inbox", *shelter).json["items"]
    assert (item["state"], item["logged"]) == ("delivered", False)
    assert "pas encore journalisé" in sh("agency", "inbox", *shelter[:2]).out
    again = sh("agency", "import", direct["file"], *shelter).json
    assert (again["settled"], again["arrived"], again["delivered"]) == (0, 0, 0)

    request, answer = tmp_path / "demande.lot", tmp_path / "reponse.lot"
    assert sh("agency", "export", request, *shelter).json["records"] == 2  # the referral, and its receipt
    gateway = ("--dir", domain.gateway_folder, "--url", domain.address)
    assert sh("gateway", "import", request, "--out", answer, *gateway, "--json").code == 0
    assert sh("agency", "import", answer, *shelter).json["settled"] == 1
    assert sh("agency", "inbox", *shelter).json["items"][0]["logged"] is True

    asked = sh("agency", "export", tmp_path, *iom).json["file"]
    brought = sh("agency", "carry", asked, "--out", tmp_path, *shelter).json["file"]
    took = sh("agency", "import", brought, *iom).json
    assert (took["settled"], took["arrived"]) == (1, 1)
    [sent] = sh("agency", "outbox", *iom).json["items"]
    assert (sent["state"], sent["offset"]) == ("delivered", 0)


def test_a_wrong_file_ends_with_1_its_code_and_nothing_taken(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    here = ("--dir", domain.folder(SHELTER), "--json")
    good = Path(sh("agency", "export", tmp_path, *here).json["file"])
    half = tmp_path / "half.lot"
    half.write_bytes(good.read_bytes()[:1000])
    for file, code in ((half, "bundle_damaged"), (good, "bundle_unopenable")):
        done = sh("agency", "import", file, *here)
        assert (done.code, done.json["problem"]["code"], done.json["problem"]["path"]) == (1, code, "file")
    assert sh("agency", "import", tmp_path / "none", *here).code == 2
    done = sh("agency", "export", good, "--to", "tn/inlctp", *here)
    assert (done.code, done.json["problem"]["code"]) == (1, "bundle_misplaced")
    again = ("--dir", domain.gateway_folder, "--json")
    assert sh("gateway", "sealing-key", *again).code == 2  # a key is never overwritten


def test_a_full_stick_keeps_what_was_there_and_gets_no_half_file(
    sh: Shell, domain: DomainOnDisk, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "stick") as stick:
        kept = stick / "lot"
        kept.write_bytes(b"of before")
        with full(stick):
            done = sh("agency", "export", kept, "--dir", domain.folder(SHELTER), "--json")
            assert (done.code, done.json["problem"]["code"]) == (3, "storage_full")
            assert sorted(one.name for one in stick.iterdir()) == ["filler", "lot"]
            assert kept.read_bytes() == b"of before"
