# SPDX-License-Identifier: Apache-2.0
"""Everything bad that a domain is given, through its real doors: the watched folder, HTTP, the command line.

Each item has a test that shows the code, the advice, and that nothing was lost; the last test searches what was planted
in every file and metric of everybody else. `ITEMS` says which test shows what; many stand beside the part that does the
work, and are not repeated here.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from openpyxl import load_workbook

from schemas.envelope import parse_manifest, sign_jws
from schemas.errors import CODES
from schemas.keys import SigningKey, unb64url
from tests.adapters.folder_office import table, with_member
from tests.e2e.caller import Caller
from tests.e2e.commands import umuhuza, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, on_one_log, referral, words_of, workbook
from tests.e2e.items import missing
from tests.e2e.planted import every_file, forms, traces

READING = "tests/adapters/test_folder_reading.py"
DROPS = "tests/adapters/test_folder_drops.py"
KOBO = "tests/adapters/test_kobo.py"
OUTBOX = "tests/adapters/test_outbox.py"
INBOX = "tests/adapters/test_inbox.py"
HOSTILE = "tests/adapters/test_hostile_records.py"
FHIR = "tests/schemas/test_fhir.py"
IJSON = "tests/schemas/test_ijson.py"
LOG = "tests/topics/test_sqlite_log.py"
CRASHES = "tests/e2e/test_crashes.py"
HERE_FILE = "tests/e2e/test_bad_input.py"

ITEMS: dict[str, tuple[str, ...]] = {
    "malformed XLSX": (
        f"{READING}::test_a_truncated_workbook_is_damaged",
        f"{READING}::test_a_workbook_without_its_inside_is_damaged",
        f"{HERE_FILE}::test_files_that_cannot_be_read_come_back_with_words_and_stop_nobody",
    ),
    "a 9 kB XLSX that asks for 549 GB": (
        f"{READING}::test_a_cell_at_the_far_end_of_the_sheet_is_too_large_in_words",
        f"{READING}::test_a_file_that_asks_for_six_gigabytes_within_the_limits_of_a_form_ends_its_child_only",
        f"{HERE_FILE}::test_files_that_cannot_be_read_come_back_with_words_and_stop_nobody",
    ),
    "wrong sheet": (
        f"{READING}::test_a_wrong_sheet_is_named_with_those_that_are_there",
        f"{HERE_FILE}::test_files_that_cannot_be_read_come_back_with_words_and_stop_nobody",
    ),
    "unknown code": (f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",),
    "formula injection": (
        f"{READING}::test_a_formula_in_a_cell_is_refused_and_never_believed",
        f"{READING}::test_what_begins_like_a_formula_is_text_in_every_workbook_we_write",
        f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",
    ),
    "10,000 rows": (
        f"{READING}::test_ten_thousand_rows_are_read_in_seconds",
        f"{READING}::test_more_rows_than_the_limit_are_refused_whole_and_loudly",
        f"{HERE_FILE}::test_of_ten_thousand_rows_the_good_one_goes_and_the_bad_ones_come_back",
    ),
    "wrong encoding": (
        f"{READING}::test_a_cp1252_csv_is_read_and_the_report_says_so",
        f"{READING}::test_a_csv_that_cannot_be_trusted_is_refused_with_clear_words",
        f"{HERE_FILE}::test_files_that_cannot_be_read_come_back_with_words_and_stop_nobody",
    ),
    "one-word and Arabic names": (
        f"{READING}::test_one_word_and_arabic_names_are_whole_names",
        f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",
    ),
    "vers 2008": (
        f"{READING}::test_a_birth_is_as_precise_as_it_was_typed",
        f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",
    ),
    "31/02/2026": (
        f"{READING}::test_a_birth_that_is_not_clear_is_refused_with_what_to_write",
        f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",
    ),
    "truncated JSON": (
        f"{KOBO}::test_a_file_that_is_not_a_submission_comes_back_whole",
        f"{HERE_FILE}::test_submissions_that_cannot_be_read_come_back_whole",
    ),
    "expired token": (f"{HERE_FILE}::test_an_expired_assertion_and_an_expired_token_open_nothing",),
    "wrong audience": (f"{HERE_FILE}::test_an_assertion_for_another_domains_gateway_is_refused",),
    "unknown agency": (
        f"{HERE_FILE}::test_whoever_is_not_in_the_registry_is_told_so",
        f"{HERE_FILE}::test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named",
    ),
    "revoked key": (
        f"{INBOX}::test_a_key_revoked_after_the_logs_time_counts_for_what_came_before",
        f"{HERE_FILE}::test_a_revoked_agency_learns_it_from_its_outbox_and_keeps_its_work",
    ),
    "clock an hour wrong and years wrong": (
        f"{INBOX}::test_a_clock_some_hours_ahead_is_a_laptop",
        f"{HERE_FILE}::test_an_agency_whose_clock_is_wrong_works_all_the_same_with_the_right_time",
    ),
    "replay with other bytes": (
        f"{HOSTILE}::test_another_record_under_a_known_event_is_turned_away_and_the_first_stands",
        f"{HERE_FILE}::test_another_record_under_a_known_event_is_refused_and_the_first_stands",
    ),
    "gap in sequence": (
        f"{INBOX}::test_a_gap_in_the_numbers_is_no_fault",
        f"{HERE_FILE}::test_a_gap_is_told_and_closes_when_the_missing_record_comes",
    ),
    "the third of forty records refused": (
        f"{OUTBOX}::test_forty_with_some_refused_for_good_the_others_arrive_in_order_and_the_chain_closes",
        f"{CRASHES}::test_the_third_of_forty_is_refused_the_others_arrive_and_the_chain_closes",
    ),
    "body over the limit": (f"{HERE_FILE}::test_a_body_over_the_limit_is_refused_before_it_is_read",),
    "400-deep JSON": (
        f"{IJSON}::test_takes_the_deepest_allowed_and_brackets_inside_strings_do_not_count",
        f"{FHIR}::test_400_levels_are_refused_before_anything_walks_them",
        f"{HERE_FILE}::test_lines_that_are_no_records_are_refused_one_by_one",
        f"{HERE_FILE}::test_submissions_that_cannot_be_read_come_back_whole",
    ),
    "lone surrogates": (
        f"{IJSON}::test_refuses",
        f"{HERE_FILE}::test_lines_that_are_no_records_are_refused_one_by_one",
        f"{HERE_FILE}::test_submissions_that_cannot_be_read_come_back_whole",
    ),
    "disk full": (
        f"{LOG}::test_a_full_tmpfs_refuses_and_recovers",
        f"{OUTBOX}::test_a_full_disk_stores_nothing_of_the_batch",
        f"{CRASHES}::test_a_full_disk_at_the_gateway_delays_and_loses_nothing",
        f"{CRASHES}::test_a_full_disk_at_an_agency_delays_and_loses_nothing",
    ),
    "gateway gone mid-batch": (
        f"{CRASHES}::test_a_gateway_killed_in_the_middle_of_two_hundred_loses_and_doubles_none",
    ),
    "agency killed": (f"{CRASHES}::test_agencies_killed_in_the_middle_of_everything_lose_and_double_nothing",),
    "nothing leaked": (
        f"{DROPS}::test_names_of_persons_stand_in_no_file_name_and_no_exception",
        f"{OUTBOX}::test_nothing_of_the_person_stands_in_the_outbox_file_but_the_reference",
        f"{HERE_FILE}::test_nothing_of_all_this_stands_anywhere_else",
        f"{CRASHES}::test_nothing_of_all_this_stands_anywhere_else",
    ),
}

PLANTED = {
    "Nizigiyimana": ("iom", "k7t4"),
    "عائشة الزهراء": ("iom", "k7t4"),
    "Hakizimana-Refusée": ("iom",),
    "Ndikumana-Dixmille": ("iom",),
    "Inamahoro-Dixmille": ("iom", "k7t4"),
    "Ntakarutimana-Illisible": ("iom",),
    "Bizimungu-Tronquée": ("police",),
    "Mukandayisenga-Porte": (),
    "Habonimana-Horloge": ("far", "iom"),
    "Irakoze-Révoquée": ("gone",),
    "Uwimana-Avant": ("gone", "iom"),
}
"""Each planted name, and the folders of the agencies that may hold it."""
BEFORE_THE_LOG = ("Ndikumana-Dixmille", "Inamahoro-Dixmille", "Ntakarutimana-Illisible", "Bizimungu-Tronquée")
"""Those of them that stand in what is tried over one log only."""

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator")),
    Member("bi/police", ("police", "front-line"), kobo_to="bi/iom"),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True),
    Member("bi/far", ("assistance",)),
    Member("bi/gone", ("assistance",)),
    Member("bi/caller", ("assistance",)),
)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[DomainOnDisk]:
    with DomainOnDisk.made(tmp_path_factory.mktemp("bad") / "bi", MEMBERS, log=log) as made:
        for agency in ("bi/iom", "bi/police", "bi/k7t4"):
            made.start_agency(agency)
        yield made


@pytest.fixture(scope="module")
def caller(domain: DomainOnDisk) -> Iterator[Caller]:
    with Caller(domain, "bi/caller") as made:
        yield made


def test_every_item_has_its_tests() -> None:
    assert missing(ITEMS) == []
    assert len(ITEMS) >= 26


# -- the watched folder -----------------------------------------------------------------------------------------------


def test_of_one_workbook_the_good_rows_go_and_each_bad_cell_is_named(domain: DomainOnDisk) -> None:
    bad = "Hakizimana-Refusée"
    rows = [
        referral("Nizigiyimana", prs_Birthdate="vers 1998"),
        referral(f"{bad} Un", services="Logement gratuit"),
        referral("عائشة الزهراء", motif='=HYPERLINK("http://exemple.invalid";"ici")'),
        referral(f"{bad} Deux", prs_Birthdate="31/02/2026"),
        referral(f"{bad} Trois", prs_Birthdate=f"vers {datetime.now(UTC).year - 15}"),
        referral(f"{bad} Quatre", to="bi/inconnue"),
    ]
    data = workbook(rows)
    domain.drop("bi/iom", "melange.xlsx", data)
    report = domain.report("bi/iom", "melange")
    assert "2 lignes envoyées, 4 refusées" in report
    said = {
        5: ("colonne M (« Services demandés »)", "n'est pas dans la liste", "row_invalid"),
        7: ("colonne I (« Naissance »)", "il n'y a pas de 31 février 2026", "row_invalid"),
        8: ("ligne 8, « Tuteur ou représentant »", CODES["safeguard_missing"].advice_fr, "safeguard_missing"),
        9: ("colonne A (« Destinataire »)", "Choisissez-le dans la liste déroulante", "agency_unknown"),
    }
    lines = {line.partition(" | ")[0]: line for line in report.splitlines()}
    for row in (4, 6):
        assert "Envoyée" in lines[f"Orientation, ligne {row}"]
    for row, words in said.items():
        assert "REFUSÉE" in lines[f"Orientation, ligne {row}"]
        for one in words:
            assert one in lines[f"Orientation, ligne {row}"]
    assert (domain.watched("bi/iom", "envoyes") / "melange.xlsx").read_bytes() == data
    again = words_of(domain.watched("bi/iom", "rapports") / "melange.a-corriger.xlsx")
    assert [word in again for word in ("Un", "Deux", "Trois", "Quatre")] == [True] * 4
    assert "Nizigiyimana" not in again
    there = until(
        "two workbooks at the shelter", lambda: received(domain, "bi/k7t4")[1:] and received(domain, "bi/k7t4")
    )
    told = [words_of(path) for path in there]
    assert sorted(name for name in ("Nizigiyimana", "عائشة الزهراء") if any(name in one for one in told)) == sorted(
        ("Nizigiyimana", "عائشة الزهراء")
    )
    assert any("1998" in one for one in told)
    cells = [
        cell
        for path in there
        for sheet in load_workbook(path).worksheets
        for line in sheet.iter_rows()
        for cell in line
    ]
    [danger] = [cell for cell in cells if "HYPERLINK" in str(cell.value)]
    assert danger.data_type == "s"


@on_one_log
def test_a_file_sent_by_command_beside_a_running_adapter_is_taken_by_one_of_them_only(
    domain: DomainOnDisk, tmp_path: Path
) -> None:
    for number in range(4):
        file = tmp_path / f"commande{number}.csv"
        file.write_text(f"destinataire;priorite\nbi/k7t4;urgent{number}\n", encoding="utf-8")
        done = umuhuza("agency", "send", str(file), "--dir", str(domain.folder("bi/iom")), "--json")
        assert done.code == 1, done.err
        assert done.json["refused"] != []
    kept = sorted(path.name for path in domain.watched("bi/iom", "refuses").glob("commande*"))
    assert kept == [f"commande{number}.csv" for number in range(4)]
    assert len(list(domain.watched("bi/iom", "rapports").glob("commande*.rapport.xlsx"))) == 4


def received(domain: DomainOnDisk, agency: str) -> list[Path]:
    return sorted(domain.watched(agency, "recus").glob("orientation-*.xlsx"))


@on_one_log
def test_of_ten_thousand_rows_the_good_one_goes_and_the_bad_ones_come_back(domain: DomainOnDisk) -> None:
    bad = "Ndikumana-Dixmille"
    rows = [referral(f"{bad} {number}", services="Logement gratuit") for number in range(9_999)]
    data = workbook([*rows, referral("Inamahoro-Dixmille")])
    domain.drop("bi/iom", "dixmille.xlsx", data)
    until("its report", (domain.watched("bi/iom", "rapports") / "dixmille.rapport.xlsx").exists, 300)
    report = domain.report("bi/iom", "dixmille")
    assert report.count("row_invalid") == 9_999
    assert report.count("Envoyée") == 1
    assert (domain.watched("bi/iom", "envoyes") / "dixmille.xlsx").read_bytes() == data
    again = words_of(domain.watched("bi/iom", "rapports") / "dixmille.a-corriger.xlsx")
    assert (again.count(bad), again.count("Inamahoro")) == (9_999, 0)
    until(
        "the good one is at the shelter",
        lambda: any("Inamahoro-Dixmille" in words_of(path) for path in received(domain, "bi/k7t4")),
    )


@on_one_log
def test_files_that_cannot_be_read_come_back_with_words_and_stop_nobody(domain: DomainOnDisk) -> None:
    name = "Ntakarutimana-Illisible"
    good = workbook([referral(name)])
    far = b'<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>loin</t></is></c></row>'
    sheet = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'
    bad = {
        "tronque.xlsx": (good[: len(good) // 2], "source_unreadable", "abîmé"),
        "immense.xlsx": (
            with_member(table(["destinataire"]), "xl/worksheets/sheet1.xml", sheet % far),
            "too_large",
            "XFD1048576",
        ),
        "budget.xlsx": (table(["Budget", name], [1, 2], title="Feuil1"), "source_unreadable", "« Feuil1 »"),
        "encodage.csv": (
            b"destinataire;nom_donne\r\nbi/k7t4;\x81\x8d" + name.encode("latin-1"),
            "source_unreadable",
            "« CSV UTF-8 »",
        ),
        "arabe.csv": (
            f"destinataire;nom_donne\r\nbi/k7t4;عائشة {name}".encode("cp1256"),
            "source_unreadable",
            "« CSV UTF-8 »",
        ),
    }
    assert len(bad["immense.xlsx"][0]) < 9_000
    for file, (data, _, _) in bad.items():
        domain.drop("bi/iom", file, data)
    for file, (data, code, words) in bad.items():
        report = domain.report("bi/iom", file.partition(".")[0])
        assert "rien n'a été envoyé" in report, file
        assert code in report, file
        assert words in report, file
        assert (domain.watched("bi/iom", "refuses") / file).read_bytes() == data
    assert domain.processes["iom"].poll() is None


@on_one_log
def test_submissions_that_cannot_be_read_come_back_whole(domain: DomainOnDisk) -> None:
    name = "Bizimungu-Tronquée"
    bad = {
        "tronquee.json": (json.dumps({"_id": 7, "prs_First_Name": name})[:-4].encode(), "téléchargez-le de nouveau"),
        "profonde.json": (b"[" * 400 + json.dumps(name).encode() + b"]" * 400, "téléchargez-le de nouveau"),
        "demi.json": (b'{"_id": 8, "prs_First_Name": "\\ud800 ' + name.encode() + b'"}', "téléchargez-le de nouveau"),
    }
    before = len(domain.outbox("bi/police"))
    for file, (data, _) in bad.items():
        domain.drop("bi/police", file, data, "kobo")
    kobo = domain.folder("bi/police") / "kobo"
    for file, (data, words) in bad.items():
        report, back = kobo / "rapports" / f"{file}.rapport.txt", kobo / "refuses" / file
        until(f"{file} is moved, after its report", back.exists)
        assert words in report.read_text(encoding="utf-8").replace("\xa0", " "), file
        assert b'"source_unreadable"' in report.with_suffix(".json").read_bytes()
        assert back.read_bytes() == data
    assert len(domain.outbox("bi/police")) == before
    assert domain.processes["police"].poll() is None


# -- the door ---------------------------------------------------------------------------------------------------------


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    """A problem that says what is wrong and what to do, in French."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["code"] == code
    assert told["title"] == CODES[code].title_fr
    assert told["advice"] == CODES[code].advice_fr


@on_one_log
def test_an_expired_assertion_and_an_expired_token_open_nothing(domain: DomainOnDisk, caller: Caller) -> None:
    now = int(time.time())
    refused(caller.ask_token(iat=now - 900, exp=now - 860), 401, "token_expired")
    old = {"iss": "bi/operator", "sub": "bi/caller", "aud": "urn:umuhuza:bi:gateway", "iat": now - 900}
    gateway = SigningKey.from_scalar(unb64url((domain.gateway_folder / "gateway.key").read_text().strip()))
    token = sign_jws("at+jwt", {**old, "exp": now - 600, "jti": "x" * 22, "key": caller.keys.sig.kid}, gateway)
    answer = caller.post(caller.record("bi/k7t4", 1).line, token=token.decode("ascii"))
    refused(answer, 401, "token_expired")
    assert caller.heads() == {}


@on_one_log
def test_an_assertion_for_another_domains_gateway_is_refused(caller: Caller) -> None:
    refused(caller.ask_token(aud="urn:umuhuza:tn:gateway"), 401, "audience_mismatch")


@on_one_log
def test_whoever_is_not_in_the_registry_is_told_so(caller: Caller) -> None:
    refused(caller.ask_token(iss="bi/inconnue", sub="bi/inconnue"), 403, "agency_unknown")
    refused(caller.ask_token(SigningKey.generate(os.urandom)), 403, "key_unknown")


def test_another_record_under_a_known_event_is_refused_and_the_first_stands(caller: Caller) -> None:
    first = caller.record("bi/iom", 1, content=b'{"Mukandayisenga-Porte":1}')
    [told] = caller.publish(first.line)
    [again] = caller.publish(first.line)
    assert (again["offset"], again["copy"]) == (told["offset"], True)
    other = caller.record("bi/iom", 1, content=b'{"Mukandayisenga-Porte":2}', evt=first.evt)
    [answer] = caller.publish(other.line)
    assert answer["problem"]["code"] == "evt_conflict"
    assert answer["problem"]["advice"] == CODES["evt_conflict"].advice_fr
    assert caller.heads()["bi.referral.iom"]["hash"] == first.hash


def test_a_gap_is_told_and_closes_when_the_missing_record_comes(caller: Caller) -> None:
    one = caller.record("bi/far", 1)
    two = caller.record("bi/far", 2, one.hash)
    three = caller.record("bi/far", 3, two.hash)
    told = caller.publish(one.line, three.line)
    assert "finding" not in told[0]
    assert told[1]["finding"] == "seq_gap"
    [late] = caller.publish(two.line)
    assert late["finding"] == "late"
    assert "finding" not in caller.publish(caller.record("bi/far", 4, three.hash).line)[0]
    assert caller.heads()["bi.referral.far"]["seq"] == 4


@on_one_log
def test_a_body_over_the_limit_is_refused_before_it_is_read(domain: DomainOnDisk, caller: Caller) -> None:
    where = urlsplit(domain.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    connection.putrequest("POST", "/v1/records")
    for name, value in {"authorization": f"Bearer {caller.token()}", "content-length": str(17 << 20)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert (answer.status, told["code"], told["expected"]) == (413, "too_large", 16 << 20)
    small = gzip.compress(b"\n" * (17 << 20))
    assert len(small) < 20_000
    refused(caller.post(small, content_encoding="gzip"), 413, "too_large")


def test_lines_that_are_no_records_are_refused_one_by_one(caller: Caller) -> None:
    name = "Mukandayisenga-Porte"
    head = caller.heads()["bi.referral.iom"]
    good = caller.record("bi/iom", head["seq"] + 1, head["hash"])
    bad = [
        b'{"record":' + b"[" * 400 + json.dumps(name).encode() + b"]" * 400 + b"}",
        b'{"record":"\\ud800 ' + name.encode() + b'","grants":[]}',
        b'{"record":"' + name.encode()[:-1] + b'\xff","grants":[]}',
        b'{"record":"' + name.encode(),
        json.dumps({name: 1}).encode(),
    ]
    answer = caller.post(*bad[:2], good.line, *bad[2:])
    assert answer.status_code == 200
    told = [json.loads(line) for line in answer.text.splitlines()]
    codes = [line["problem"]["code"] if "problem" in line else "taken" for line in told[:-1]]
    assert codes == ["record_malformed"] * 2 + ["taken"] + ["record_malformed"] * 3
    assert name not in answer.text
    assert caller.heads()["bi.referral.iom"]["hash"] == good.hash


# -- clocks and keys --------------------------------------------------------------------------------------------------

HOUR, YEAR = 3600.0, 365 * 86_400.0


@pytest.mark.parametrize("wrong_by", [HOUR, -5 * YEAR, 5 * YEAR], ids=["an-hour-ahead", "years-behind", "years-ahead"])
def test_an_agency_whose_clock_is_wrong_works_all_the_same_with_the_right_time(
    domain: DomainOnDisk, wrong_by: float
) -> None:
    before = len(domain.inbox("bi/iom", "bi/far"))
    name = f"Habonimana-Horloge {int(wrong_by)}"
    domain.start_agency("bi/far", clock_s=wrong_by)
    try:
        domain.drop("bi/far", f"horloge{int(wrong_by)}.xlsx", workbook([referral(name, "bi/iom")]))
        until("its referral at the other agency", lambda: len(domain.inbox("bi/iom", "bi/far")) > before)
        arrived = domain.inbox("bi/iom", "bi/far")[-1]
        assert arrived.state in ("ready", "delivered")
        assert not arrived.late
        assert abs(parse_manifest(arrived.record.partition(b"\n")[0])[3].iat - time.time()) < 120
        until("its receipt", lambda: all(item.state == "delivered" for item in domain.outbox("bi/far")))
    finally:
        domain.stop("far")
    assert "clock_ahead" not in domain.log_of("far")


def test_a_revoked_agency_learns_it_from_its_outbox_and_keeps_its_work(domain: DomainOnDisk) -> None:
    domain.start_agency("bi/gone", UMUHUZA_AGENCY_REGISTRY_SECONDS="0.5")
    domain.drop("bi/gone", "avant.xlsx", workbook([referral("Uwimana-Avant", "bi/iom")]))
    until("what it sent before", lambda: len(domain.inbox("bi/iom", "bi/gone")) == 1)
    assert umuhuza("registry", "revoke", "bi/gone", "--dir", domain.registry_folder).code == 0
    until("the gateway knows", lambda: refuses(domain, "bi/gone"))
    domain.drop("bi/gone", "apres.xlsx", workbook([referral("Irakoze-Révoquée", "bi/iom")]))

    def told() -> dict[str, Any] | None:
        items = umuhuza("agency", "outbox", "--dir", domain.folder("bi/gone"), "--json").json["items"]
        return next((item for item in items if item["code"] is not None), None)

    item = until("the outbox says it", told)
    assert item["code"] == "key_revoked"
    assert item["advice"] == CODES["key_revoked"].advice_fr
    assert item["state"] in ("signed", "refused")
    shown = umuhuza("agency", "outbox", "--dir", domain.folder("bi/gone"))
    assert "key_revoked" in shown.out
    assert CODES["key_revoked"].advice_fr in " ".join(shown.err.split())
    assert (domain.watched("bi/gone", "envoyes") / "apres.xlsx").exists()
    assert [one.iss for one in domain.inbox("bi/iom", "bi/gone")] == ["bi/gone"]
    assert domain.inbox("bi/iom", "bi/gone")[0].state in ("ready", "delivered")
    domain.stop("gone")


def refuses(domain: DomainOnDisk, agency: str) -> bool:
    with Caller(domain, agency) as caller:
        return caller.ask_token().status_code == 403


# -- and afterwards ---------------------------------------------------------------------------------------------------


def test_nothing_of_all_this_stands_anywhere_else(domain: DomainOnDisk) -> None:
    until("nothing is on its way", lambda: settled(domain))
    metrics = domain.metrics().encode()
    for code in ("evt_conflict", "record_malformed"):
        assert b'code="%b"' % code.encode() in metrics
    domain.end()
    for name, folders in PLANTED.items():
        files = every_file(domain.root, but=[domain.folder(f"bi/{folder}") for folder in folders])
        assert {"passerelle", "journaux"} <= {path.relative_to(domain.root).parts[0] for path in files}
        assert domain.log_files() != []
        assert traces([name], [*files, *domain.log_files()]) == []
        assert not forms(name).stand_in(metrics)
        if folders and (domain.cluster is None or name not in BEFORE_THE_LOG):
            assert traces([name], every_file(domain.folder(f"bi/{folders[0]}"))), name
    boxes = [path for path in every_file(domain.root) if path.name.startswith("mailbox.db")]
    assert traces(list(PLANTED), boxes) == []


def settled(domain: DomainOnDisk) -> bool:
    return all(item.state in ("delivered", "rejected") for item in domain.outbox("bi/iom"))
