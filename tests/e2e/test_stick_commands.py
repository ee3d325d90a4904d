# SPDX-License-Identifier: Apache-2.0
"""At the command line, with files on a stick: a place that never uses its network, a gateway, and whoever carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.receipt_book import ReceiptBook
from schemas.ledgers import origin_of
from schemas.trust_policy import TrustPolicy, read_policy
from tests.e2e.commands import until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from tests.e2e.shell import Shell
from tests.small_disk import full, small_disk
from topics.cosigning import POLICY_FILE
from topics.receipts import check_receipt
from topics.witness_folder import PUBLIC_FILE, read_note_keys
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.ledger_command import init_ledger
from umuhuza.stick_command import CHECKPOINT
from umuhuza.witness_command import add_log, make_witness, trust

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


@pytest.fixture(scope="module")
def ledger(domain: DomainOnDisk) -> Path:
    """Beside the gateway, with a witness whose signature counts; the agencies got its policy with the registry."""
    folder, witness = domain.root / "registre-de-preuve", domain.gateway_folder / "witness"
    domain.stop("passerelle")
    init_ledger(folder, domain.gateway_folder, port=0)
    make_witness(witness, "bi.umuhuza/witness")
    add_log(witness, read_note_keys(folder / LEDGER_PUBLIC_FILE))
    with (domain.gateway_folder / "gateway.toml").open("a", encoding="utf-8") as out:
        out.write('witness = "witness"\n')
    with (folder / "ledger.toml").open("a", encoding="utf-8") as out:
        out.write("witness_seconds = 1\n")
    domain.start_gateway()
    keys = read_note_keys(witness / PUBLIC_FILE)
    trust(folder, folder / LEDGER_PUBLIC_FILE, "bi", keys, f"{domain.address}/v1/witness")
    domain._start("registre", ("ledger", "run", "--dir", str(folder)), {})
    for member in MEMBERS:
        (domain.folder(member.id) / POLICY_FILE).write_bytes((folder / POLICY_FILE).read_bytes())
        with (domain.folder(member.id) / "agency.toml").open("a", encoding="utf-8") as out:
            out.write(f'trust = "{POLICY_FILE}"\n')
    return folder


def cosigned(sh: Shell, ledger: Path, size: int) -> bool:
    """Whether the ledger holds so much, and its witness has signed that."""
    told = sh("ledger", "status", "--dir", ledger, "--json").json
    return bool(told["behind"] == 0 and told["cosigned"] == told["size"] >= size)


def proven(domain: DomainOnDisk, agency: str, evt: str, policy: TrustPolicy) -> int:
    """How large the cosigned tree is under which the ledger's receipt proves this; 0: there is none yet."""
    with domain.box(agency) as box:
        kept = ReceiptBook(box).of(evt)
    if kept is None:
        return 0
    read = check_receipt(kept.data, policy, origin_of("bi"))
    assert (kept.final, kept.kind, read.endorsed) == (True, "event", True)
    return read.size


def test_the_ledgers_proofs_and_checkpoints_come_by_stick_alone(
    sh: Shell, domain: DomainOnDisk, ledger: Path, tmp_path: Path
) -> None:
    policy = read_policy((ledger / POLICY_FILE).read_bytes())

    def contact(agency: str) -> dict[str, object]:
        """A stick to the gateway and back; what the import tells."""
        here = ("--dir", domain.folder(agency), "--json")
        asked = sh("agency", "export", tmp_path, *here).json["file"]
        gateway = ("--dir", domain.gateway_folder, "--url", domain.address, "--json")
        answer = sh("gateway", "import", asked, "--out", tmp_path, *gateway).json["file"]
        done = sh("agency", "import", answer, *here)
        assert done.code == 0, done.out
        return done.json

    def sent(agency: str) -> dict[str, object]:
        newest: dict[str, object] = sh("agency", "outbox", "--dir", domain.folder(agency), "--json").json["items"][-1]
        return newest

    domain.drop(IOM, "b.xlsx", workbook([referral(f"{NAME}-b")]))
    assert contact(IOM)["settled"] == 1
    evt = str(sent(IOM)["evt"])
    assert (sent(IOM)["state"], sent(IOM)["receipt"]) == ("promised", None)
    before = domain.written("bi.receipt.iom")
    assert contact(SHELTER)["arrived"] == 1
    contact(SHELTER)  # its receipt goes to the gateway
    assert domain.written("bi.receipt.iom") == before + 1
    until("the ledger's tree is signed by its witness", lambda: cosigned(sh, ledger, 1))

    assert int(str(contact(IOM)["receipts"])) >= 1
    assert (sent(IOM)["state"], sent(IOM)["receipt"]) == ("delivered", "own")
    size = proven(domain, IOM, evt, policy)
    assert size > 0
    assert "preuve gardée" in sh("agency", "outbox", "--dir", domain.folder(IOM)).out
    checkpoint = domain.folder(IOM) / CHECKPOINT
    assert checkpoint.read_bytes().splitlines()[:2] == [origin_of("bi").encode(), str(size).encode()]
    assert contact(IOM)["receipts"] == 0, "what is final is not asked for again"

    # What an agency holds of the ledger it hands on: two that have met can tell a ledger that shows each its own tree.
    (domain.folder(SHELTER) / CHECKPOINT).unlink(missing_ok=True)
    direct = sh("agency", "export", tmp_path, "--to", SHELTER, "--dir", domain.folder(IOM), "--json").json["file"]
    assert sh("agency", "import", direct, "--dir", domain.folder(SHELTER), "--json").code == 0
    assert (domain.folder(SHELTER) / CHECKPOINT).read_bytes() == checkpoint.read_bytes()


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
