# SPDX-License-Identifier: Apache-2.0
"""What crossed a border, audited in both countries from files: by the word of its own country's ledger alone."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.registry import Registry
from schemas.registry_bundle import RootPin
from schemas.registry_trust import trusted
from tests.borders import trust_policy
from tests.scenarios.test_two_countries import answer, request
from tests.two_countries import Both, run
from topics.audit import Report, audit
from topics.audit_abroad import file_in, homes_of
from topics.audit_domain import DomainSource
from topics.audit_export import EVERYTHING, Choice, export
from topics.audit_findings import Held, Trust
from topics.catalogue import topics_of
from topics.cosigning import ENDORSED_FILE
from topics.ledger_store import SqliteLedgerStore
from topics.sqlite_log import SqliteLog
from topics.topic_names import is_mailbox_topic
from umuhuza.audit_sources import opened_source

PINS: dict[str, RootPin] = {}
THERE, BACK = "bi.bilateral.ccsprtp", "tn.bilateral.inlctp"


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A request and its answer, and both countries' files when nothing runs any more."""

    async def story(both: Both) -> None:
        asked = request(both)
        await both.tn.send(asked)
        await both.tn.carry()
        await both.bi.send(answer(both, asked))
        await both.bi.carry()
        for country in (both.bi, both.tn):
            await country.ledger_turn()
            PINS[country.domain.name] = country.domain.pin

    folder = tmp_path_factory.mktemp("abroad")
    run(folder, story)
    return folder


@contextmanager
def source(folder: Path, domain: str) -> Iterator[DomainSource]:
    """One country's folder, as its operator hands it over."""
    here, loop = folder / domain, asyncio.Runner()
    log = SqliteLog.open(str(here / "log.db"), create=False, clock_ms=lambda: 0, random_id=lambda: "", threads=False)
    store = SqliteLedgerStore.open(here / "ledger" / "ledger.db", random_id=lambda: "")
    published = (here / "registry.json").read_bytes()

    def version(sha256: bytes) -> bytes | None:
        file = here / "ledger" / "registries" / f"{sha256.hex()}.json"
        return file.read_bytes() if file.exists() else None

    made = DomainSource(
        domain,
        log,
        store,
        loop=loop,
        names=sorted({THERE, BACK, *filter(is_mailbox_topic, topics_of(registry(domain, published)[0]))}),
        registry_file=version,
        published=published,
        neighbour_file=file_in(here / "neighbours"),
        checkpoints=[Held("endorsed", (here / "ledger" / ENDORSED_FILE).read_bytes())],
    )
    try:
        yield made
    finally:
        made.close()
        store.close()
        loop.close()


def registry(domain: str, data: bytes) -> tuple[Registry, bytes]:
    return trusted(data, PINS[domain]).registry, hashlib.sha256(data).digest()


def trust(domain: str, believed: DomainSource | None) -> Trust:
    homes = None if believed is None else homes_of(believed.neighbour_file)
    return Trust(trust_policy(domain), lambda data: registry(domain, data), homes)


def audited(folder: Path, domain: str, *, neighbours: bool = True) -> Report:
    with source(folder, domain) as made:
        return audit(made, trust(domain, made if neighbours else None))


def found(report: Report) -> list[tuple[str, str | None]]:
    return [(one.code, one.topic) for one in report.findings.kept if not one.open]


@pytest.mark.parametrize("domain", ["bi", "tn"])
def test_what_crossed_is_in_order_in_both_countries(crossed: Path, domain: str) -> None:
    report = audited(crossed, domain)
    assert (report.records, found(report)) == (2, [])
    assert report.endorsed is not None


def test_whoever_believes_no_neighbour_is_told_whose_record_nobody_vouches_for(crossed: Path) -> None:
    assert found(audited(crossed, "bi", neighbours=False)) == [("agency_unknown", THERE)]


@pytest.mark.parametrize("choice", [EVERYTHING, Choice(agency="tn/inlctp")])
def test_evidence_of_it_can_be_checked_by_somebody_else(crossed: Path, tmp_path: Path, choice: Choice) -> None:
    out = tmp_path / "preuve.zip"
    with source(crossed, "bi") as made:
        head = audit(made, trust("bi", made)).endorsed
        assert head is not None
        export(made, head, out, choice=choice, made_at=1)
    policy = tmp_path / "confiance.policy"
    policy.write_bytes(trust_policy("bi").dumps())
    with opened_source(out, policy=policy, root=PINS["bi"].text) as opened:
        report = audit(opened.source, opened.trust)
        assert (report.records, found(report), opened.stated) == (2, [], ("neighbours",))
        assert any("tn" in name for name, _ in opened.keys), "they are shown, to be compared"
    # An auditor who has Tunisia's keys from Tunisia believes those; another country's ledger vouches for nothing.
    for name, believed in (("tn", "tn"), ("wrong", "bi")):
        own = tmp_path / name / "tn"
        own.mkdir(parents=True)
        (own / "root").write_text(PINS["tn"].text)
        (own / "ledger.policy").write_bytes(trust_policy(believed).dumps())
        with opened_source(out, policy=policy, root=PINS["bi"].text, neighbours=own.parent) as opened:
            assert opened.stated == ()
            codes = [code for code, _ in found(audit(opened.source, opened.trust))]
            assert codes == ([] if believed == "tn" else ["log_unknown"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda home: home.replace(b'"index":', b'"index":1'), "root_mismatch"),
        (lambda home: home[: len(home) // 2], "note_malformed"),
        (None, "agency_unknown"),
    ],
    ids=["another place", "half of it", "none"],
)
def test_a_proof_that_somebody_changed_vouches_for_nothing(
    crossed: Path, tmp_path: Path, change: Callable[[bytes], bytes] | None, code: str
) -> None:
    whole, changed = tmp_path / "preuve.zip", tmp_path / "autre.zip"
    with source(crossed, "bi") as made:
        head = audit(made, trust("bi", made)).endorsed
        assert head is not None
        export(made, head, whole, made_at=1)
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if not name.startswith("homes/"):
                after.writestr(name, data)
            elif change is not None:
                assert change(data) != data
                after.writestr(name, change(data))
    policy = tmp_path / "confiance.policy"
    policy.write_bytes(trust_policy("bi").dumps())
    with opened_source(changed, policy=policy, root=PINS["bi"].text) as opened:
        assert found(audit(opened.source, opened.trust)) == [(code, THERE)]
