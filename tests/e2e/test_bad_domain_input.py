# SPDX-License-Identifier: Apache-2.0
"""What the domain's rules refuse, given through the command line as an agency's own program gives it.

Each is refused with its code, a path that says where and never what, an advice in French or English, and one line in
`umuhuza agency refusals`; nothing of it reaches the outbox. `ITEMS` says which test shows what; many stand beside the
part that does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from adapters.refusal_book import RefusalBook
from schemas.errors import CODES
from tests.e2e.commands import Done, umuhuza, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, on_one_log
from tests.e2e.items import missing
from tests.e2e.planted import every_file, forms, traces

NOW = datetime.now(UTC).replace(microsecond=0)
WHEN = (NOW - timedelta(hours=2)).isoformat().replace("+00:00", "Z")
READING = "tests/adapters/test_folder_reading.py"
BAD = "tests/e2e/test_bad_input.py"
HERE_FILE = "tests/e2e/test_bad_domain_input.py"
REFUSED = f"{HERE_FILE}::test_it_is_refused_with_its_code_its_place_and_what_to_do"

ITEMS: dict[str, tuple[str, ...]] = {
    "codes not in HTCDS": (
        REFUSED,
        "tests/scenarios/test_15_a_code_that_is_not_in_the_standard.py::test_its_own_adapter_refuses_it",
    ),
    "unknown members": (REFUSED, "tests/schemas/test_fhir.py::test_the_gate_refuses"),
    "missing guardian": (REFUSED, f"{BAD}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named"),
    "expired consent": (REFUSED,),
    "consent for another recipient or purpose": (REFUSED,),
    "referral to an agency without the role": (REFUSED,),
    "investigation data to a shelter": (REFUSED,),
    "acceptance by a third agency": (
        f"{HERE_FILE}::test_an_acceptance_by_a_third_agency_answers_nothing",
        "tests/adapters/test_hostile_records.py::test_a_bad_record_is_turned_away_and_the_good_one_behind_it_arrives",
    ),
    "answer to an unknown thread": (REFUSED,),
    "one-word names": (f"{READING}::test_one_word_and_arabic_names_are_whole_names",),
    "vers 2008": (f"{READING}::test_a_birth_is_as_precise_as_it_was_typed",),
    "Arabic names": (f"{READING}::test_one_word_and_arabic_names_are_whole_names",),
    "31/02/2026": (f"{BAD}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named", REFUSED),
    "day-first dates": (f"{READING}::test_a_birth_that_is_not_clear_is_refused_with_what_to_write",),
    "statistics that would single out a person": (
        "tests/adapters/test_statistics.py::test_small_counts_are_hidden_and_zeros_and_row_totals_never",
        "tests/adapters/test_statistics.py::test_one_release_singles_nobody_out",
        "tests/adapters/test_statistics.py::test_three_releases_together_single_nobody_out",
    ),
}

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator")),
    Member("bi/police", ("police", "front-line")),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True),
    Member("bi/tiers", ("assistance",)),
)
NAME = "Nduwimana-Plantée"


def consent(days: int = 90, scope: str = "referral", given: int = 1) -> dict[str, Any]:
    return {
        "basis": "consent",
        "consent": {
            "given_at": (NOW - timedelta(days=given)).isoformat(),
            "expires_at": (NOW + timedelta(days=days)).isoformat(),
            "language": "rn",
            "scope": [scope],
        },
    }


def referral(**changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "priority": "urgent",
        "name": {"as_given": NAME},
        "birth": {"precision": "year", "date": "1998"},
        "services": ["SocialCare"],
        **changes.pop("referral", {}),
    }
    return {"occurred_at": WHEN, "lawful": consent(), "referral": asked, **changes}


def opened_file() -> dict[str, Any]:
    said = {
        "stage": "investigation",
        "acts": ["recruitment"],
        "means": ["deception"],
        "purposes": ["forced-labour"],
        "child": "no",
        "victims": 1,
        "file_number": f"RMP {NAME}",
        "summary": NAME,
        "opened_at": WHEN,
    }
    duty = {"basis": "legal-duty", "legal_reference": "Texte fictif, article 1", "author": NAME, "reason": NAME}
    return {"occurred_at": WHEN, "lawful": duty, "said": said}


CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a code not in HTCDS": (
        "bi/iom",
        {"to": "bi/k7t4", "type": "referral.requested", "facts": referral(htcds={"prs_Gender": NAME})},
        "payload_invalid",
        "htcds.prs_Gender",
    ),
    "a field not in HTCDS": (
        "bi/iom",
        {"to": "bi/k7t4", "type": "referral.requested", "facts": referral(htcds={NAME: "Feminine"})},
        "payload_invalid",
        "htcds.*",
    ),
    "an unknown member": (
        "bi/iom",
        {"to": "bi/k7t4", "type": "referral.requested", "facts": referral(referral={NAME: "x"})},
        "payload_invalid",
        "facts.referral.*",
    ),
    "a child without guardian": (
        "bi/iom",
        {
            "to": "bi/k7t4",
            "type": "referral.requested",
            "facts": referral(referral={"birth": {"precision": "year", "date": str(NOW.year - 12)}}),
        },
        "safeguard_missing",
        "referral.caregiver",
    ),
    "an expired consent": (
        "bi/iom",
        {"to": "bi/k7t4", "type": "referral.requested", "facts": referral(lawful=consent(days=-1, given=30))},
        "consent_expired",
        "lawful.consent.expires_at",
    ),
    "a consent for another purpose": (
        "bi/iom",
        {"to": "bi/k7t4", "type": "referral.requested", "facts": referral(lawful=consent(scope="statistics"))},
        "consent_missing",
        "lawful.consent.scope",
    ),
    "no consent at all": (
        "bi/iom",
        {
            "to": "bi/k7t4",
            "type": "referral.requested",
            "facts": {key: value for key, value in referral().items() if key != "lawful"},
        },
        "consent_missing",
        "lawful",
    ),
    "a referral to an agency without the role": (
        "bi/iom",
        {"to": "bi/police", "type": "referral.requested", "facts": referral()},
        "not_permitted",
        "flow.referral.mailbox",
    ),
    "investigation data to a shelter": (
        "bi/police",
        {"to": "bi/k7t4", "type": "investigation.opened", "facts": opened_file()},
        "not_permitted",
        "flow.investigation.mailbox",
    ),
    "an answer to an unknown thread": (
        "bi/tiers",
        {"to": "bi/iom", "type": "referral.accepted", "thread": "a" * 22, "facts": {"occurred_at": WHEN}},
        "thread_unknown",
        "thread",
    ),
    "a day that there is not": (
        "bi/iom",
        {
            "to": "bi/k7t4",
            "type": "referral.requested",
            "facts": referral(referral={"birth": {"precision": "day", "date": "2026-02-31"}}),
        },
        "payload_invalid",
        "facts.referral.birth",
    ),
}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[DomainOnDisk]:
    with DomainOnDisk.made(tmp_path_factory.mktemp("rules") / "bi", MEMBERS, log=log) as made:
        for member in MEMBERS:
            made.start_agency(member.id)
        yield made


def sent(domain: DomainOnDisk, file: Path, agency: str, draft: dict[str, Any], language: str = "fr") -> Done:
    file.write_bytes(orjson.dumps(draft))
    return umuhuza("agency", "send", file, "--dir", domain.folder(agency), "--json", language=language)


def test_every_item_has_its_tests() -> None:
    assert missing(ITEMS) == []
    assert len(ITEMS) >= 15


@on_one_log
@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_it_is_refused_with_its_code_its_place_and_what_to_do(domain: DomainOnDisk, tmp_path: Path, case: str) -> None:
    agency, draft, code, path = CASES[case]
    language: Literal["fr", "en"] = ("fr", "en")[list(CASES).index(case) % 2]
    before = len(domain.outbox(agency))
    done = sent(domain, tmp_path / "envoi.json", agency, draft, language)
    assert done.code != 0
    told = " ".join((done.out + done.err).split())
    assert NAME not in told
    assert code in told
    assert CODES[code].advice(language) in told
    assert len(domain.outbox(agency)) == before
    with domain.box(agency) as box:
        line = RefusalBook(box).since()[-1]
    assert (line.direction, line.code, line.path) == ("outgoing", code, path)
    assert line.peer in (draft["to"], "")


@on_one_log
def test_an_auditor_sees_every_refusal_and_no_value(domain: DomainOnDisk) -> None:
    ours = [(code, path) for agency, _, code, path in CASES.values() if agency == "bi/iom"]
    listed = umuhuza("agency", "refusals", "--dir", domain.folder("bi/iom"), "--json").json["refusals"]
    assert [(one["code"], one["path"]) for one in listed] == ours
    for language in ("fr", "en"):
        told = " ".join(umuhuza("agency", "refusals", "--dir", domain.folder("bi/iom"), language=language).out.split())
        assert CODES["consent_expired"].advice("fr" if language == "fr" else "en") in told
        assert NAME not in told
    later = umuhuza("agency", "refusals", "--dir", domain.folder("bi/iom"), "--since", "2100-01-01", "--json")
    assert later.json["refusals"] == []


@on_one_log
def test_an_acceptance_by_a_third_agency_answers_nothing(domain: DomainOnDisk, tmp_path: Path) -> None:
    good = {"to": "bi/k7t4", "type": "referral.requested", "facts": referral()}
    assert sent(domain, tmp_path / "bon.json", "bi/iom", good).code == 0
    [there] = until("the referral is at the shelter", lambda: domain.inbox("bi/k7t4", "bi/iom"))
    answer = {"to": "bi/iom", "type": "referral.accepted", "thread": there.thread, "facts": {"occurred_at": WHEN}}
    done = sent(domain, tmp_path / "tiers.json", "bi/tiers", answer)
    assert done.code == 1
    assert done.json["refused"][0]["code"] == "thread_unknown"
    assert domain.outbox("bi/tiers") == []
    assert domain.inbox("bi/iom", "bi/tiers") == []


@on_one_log
def test_nothing_of_all_this_stands_anywhere_else(domain: DomainOnDisk) -> None:
    """Her name may be in the outbox of who wrote it and with the shelter that took her: sealed in one, opened in the
    other's folder; in no log, no metric, no other agency's file."""
    metrics = domain.metrics().encode()
    domain.end()
    files = every_file(domain.root, but=[domain.folder("bi/k7t4")])
    assert {"passerelle", "journaux", "iom", "police"} <= {path.relative_to(domain.root).parts[0] for path in files}
    assert traces([NAME], [*files, *domain.log_files()]) == []
    assert not forms(NAME).stand_in(metrics)
