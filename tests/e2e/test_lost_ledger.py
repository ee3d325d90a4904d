# SPDX-License-Identifier: Apache-2.0
"""A ledger is lost with its folder: another one is announced, agencies go on, an audit of files verifies it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from adapters.receipt_book import ReceiptBook
from schemas.notes import read_vkey
from schemas.proof_texts import read_tlog_proof
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from tests.e2e.commands import environment, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from tests.e2e.shell import Shell
from tests.e2e.test_ledger_process import running

IOM, SHELTER = "bi/iom", "bi/k7t4"


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as shell:
        yield shell


def receipts(domain: DomainOnDisk) -> list[str]:
    """Of which ledger each receipt is that the sender keeps, in the order of what it sent."""
    with domain.box(IOM) as box:
        sent = sorted((item for item in box.outbox() if item.kind != "control"), key=lambda item: item.n)
        kept = [ReceiptBook(box).of(item.evt) for item in sent]
        return [read_tlog_proof(one.data).checkpoint.split(b"\n")[0].decode() for one in kept if one is not None]


def test_agencies_go_on_with_the_ledger_that_follows_a_lost_one(sh: Shell, tmp_path: Path) -> None:
    """The agency was told the first ledger's keys alone, and nobody tells it anything afterwards but the registry."""
    members = [Member(IOM, ("screener", "assistance")), Member(SHELTER, ("assistance", "shelter"), True, folder=False)]
    old, new = tmp_path / "preuve", tmp_path / "preuve2"
    with DomainOnDisk.made(tmp_path, members) as domain:
        announce = ("registry", "ledger", "--dir", domain.registry_folder, "--json")
        made = sh("ledger", "init", "--dir", old, "--gateway", domain.gateway_folder, "--port", "0", "--json")
        believed = tmp_path / "confiance"
        logs = tuple(TrustedLog(read_vkey(one)) for one in made.json["keys"])
        believed.write_bytes(TrustPolicy(logs, (), (), NONE).dumps())
        with (domain.folder(IOM) / "agency.toml").open("a", encoding="utf-8") as settings:
            settings.write(f'trust = "{believed}"\nreceipt_seconds = 0.5\nregistry_seconds = 0.5\n')
        domain.stop("passerelle")  # it serves the ledger from its next start on
        domain.start_gateway()
        domain.start_agency(IOM)
        with running(old):
            assert sh(*announce, old / "ledger.pub").json["published"]
            domain.drop(IOM, "avant.xlsx", workbook([referral("Aline")]))
            until("a receipt of the first", lambda: receipts(domain) == ["bi.umuhuza/log"] or None)
        lost = sh("ledger", "status", "--dir", old, "--json").json["signed"]
        (tmp_path / "dernier").write_bytes((old / "checkpoint").read_bytes())
        shutil.rmtree(old)

        follows = ("ledger", "init", "--number", "2", "--dir", new, "--gateway", domain.gateway_folder)
        assert sh(*follows, "--port", "0", "--json").json["origin"] == "bi.umuhuza/log2"
        toml = domain.gateway_folder / "gateway.toml"
        toml.write_text(toml.read_text().replace(f'ledger = "{old}"', f'ledger = "{new}"'))
        assert sh(*announce, new / "ledger.pub").code == 2, "it has to be said that the first one is lost"
        domain.stop("passerelle")
        domain.start_gateway()
        waits = subprocess.Popen(
            [sys.executable, "-m", "umuhuza", "ledger", "run", "--dir", str(new)], env=environment()
        )
        try:
            until("entries", lambda: sh("ledger", "status", "--dir", new, "--json").json.get("size"))
        finally:
            waits.terminate()
            waits.wait()
        assert not (new / "checkpoint").exists(), "it signs nothing before it is announced, not even at its end"
        last = ("--last", tmp_path / "dernier", "--policy", believed)
        assert sh(*announce, new / "ledger.pub", "--lost", "bi.umuhuza/log", *last).json["published"]
        with running(new) as (_, address):
            assert httpx2.get(f"{address}/readyz", trust_env=False).json() == {"ok": True}
            domain.drop(IOM, "apres.xlsx", workbook([referral("Béatrice")]))
            until("receipts of both", lambda: receipts(domain) == ["bi.umuhuza/log", "bi.umuhuza/log2"] or None)
            assert "umuhuza_gateway_ledger_differs 0.0" in domain.metrics()
        domain.stop("iom")
        brought = ("--policy", believed, "--root", domain.root_key, "--held", tmp_path / "dernier")
        done = sh("audit", "verify", "--dir", tmp_path, *brought, "--json")
        told = done.json
        assert (told["origin"], told["contradictions"], told["stated"]) == ("bi.umuhuza/log2", 0, []), told
        assert told["formers"] == [{"origin": "bi.umuhuza/log", "announced": lost, "held": lost, "receipts": 1}]
        said = " ".join(sh("audit", "verify", "--dir", tmp_path, *brought).out.split())
        assert (
            f"Avant lui, perdu : bi.umuhuza/log ; d'après le registre, ses témoins l'avaient signé sur {lost}" in said
        )
