# SPDX-License-Identifier: Apache-2.0
"""KoboToolbox submissions in a folder: what is sent, what comes back with a reason, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.connectors import kobo, kobo_form
from adapters.connectors.contract import Batch, Connector, Draft, NotNowError, Outcome, Problem
from adapters.connectors.kobo import KoboFolder
from schemas import htcds
from schemas.errors import CODES

NOW = datetime(2026, 11, 4, 9, 0, tzinfo=UTC)
ROOT = "6f1c1f0e-0000-4000-8000-000000000001"


def submission(root: str = ROOT, **changes: Any) -> dict[str, Any]:
    """A complete submission as Kobo's API gives it; a change to None takes the member out. Everyone is invented."""
    value: dict[str, Any] = {
        "_id": 101,
        "_uuid": root,
        "_xform_id_string": "aHTCDSinvented",
        "__version__": "vSmt4GQA3C9uBMLPEVfgND",
        "_submission_time": "2026-11-03T08:20:00",
        "_submitted_by": None,
        "_attachments": [],
        "_geolocation": [None, None],
        "_validation_status": {},
        "_tags": [],
        "_notes": [],
        "_status": "submitted_via_web",
        "formhub/uuid": "00000000000000000000000000000000",
        "meta/instanceID": f"uuid:{root}",
        "meta/rootUuid": f"uuid:{root}",
        "start": "2026-11-03T10:05:00.000+02:00",
        "end": "2026-11-03T10:15:00.000+02:00",
        "con_Consent": "TRUE",
        "prs_First_Name": "Aline (inventée)",
        "prs_Second_Name": "Ndayishimiye",
        "prs_Birthdate": "2001-05-17",
        "prs_Gender": "Feminine",
        "prs_Citizenship": "BI",
        "prs_MobilePhone": "+257 79 00 00 00",
        "prs_MailingCountry": "Burundi",
        "vic_TraffickingStatus": "PossibleVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "Police",
        "vic_Methods_of_Control": "DebtBondage  WithholdsDocuments",
        "vic_TypeOfExploitation": "ForcedLabour",
        "vic_ForcedLabourIndustry": "T_ActivitiesOfHouseholdsAsEmployers",
        "cas_Status": "Active",
    }
    value.update(changes)
    return {key: each for key, each in value.items() if each is not None or key == "_submitted_by"}


def folder(at: Path, now: datetime = NOW) -> KoboFolder:
    return KoboFolder(at, to="bi/iom", now=lambda: now)


def drop(at: Path, content: object, name: str = "soumission.json") -> Path:
    """Renamed into place, as a careful program does."""
    part = at / f"{name}.part"
    part.write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())
    os.utime(part, ns=(1, 1))  # so that the clock's coarseness cannot hide the rename
    part.rename(at / name)
    return at / name


def collected(connector: KoboFolder) -> list[Batch]:
    async def every() -> list[Batch]:
        return [batch async for batch in connector.collect()]

    return asyncio.run(every())


def said(batch: Batch, again: bool = False) -> list[Outcome]:
    """What an outbox answers: an event id per draft, the problem itself otherwise."""
    return [
        Outcome(item.line, None, item, again)
        if isinstance(item, Problem)
        else Outcome(item.line, f"evt-of-{batch.source}", None, again)
        for item in batch.items
    ]


def settled(connector: KoboFolder, batches: list[Batch], again: bool = False) -> None:
    for batch in batches:
        asyncio.run(connector.settle(batch, said(batch, again)))


def one(at: Path, content: object) -> Batch:
    drop(at, content)
    (batch,) = collected(folder(at))
    return batch


def problems(batch: Batch) -> list[Problem]:
    found = [item for item in batch.items if isinstance(item, Problem)]
    assert len(found) == len(batch.items) > 0
    for each in found:
        assert each.code in CODES
        assert each.fr
        assert each.en
    return found


def draft(batch: Batch) -> Draft:
    (item,) = batch.items
    assert isinstance(item, Draft), item
    return item


def report(at: Path, name: str = "soumission.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((at / "rapports" / f"{name}.rapport.json").read_bytes())
    return found


def files(at: Path, sub: str) -> list[str]:
    return sorted(path.name for path in (at / sub).iterdir() if path.is_file())


# --- what a submission says -----------------------------------------------------------------------------------------


def test_it_is_a_connector(tmp_path: Path) -> None:
    connector: Connector = folder(tmp_path)
    assert connector.name == "kobo"


def test_a_submission_becomes_one_draft_in_the_words_of_the_standard(tmp_path: Path) -> None:
    batch = one(tmp_path, submission())
    item = draft(batch)
    assert (batch.source, batch.name) == (f"kobo:{ROOT}", "soumission.json")
    assert (item.line, item.to, item.type, item.person, item.thread) == (
        "submission",
        "bi/iom",
        "case.identified",
        "kobo:101",
        None,
    )
    assert item.facts.occurred_at == datetime(2026, 11, 3, 8, 5, tzinfo=UTC)
    assert item.facts.htcds == {
        "con_Consent": "true",
        "prs_FirstName": "Aline (inventée)",
        "prs_SecondName": "Ndayishimiye",
        "prs_Birthdate": "2001-05-17",
        "prs_Gender": "Feminine",
        "prs_Citizenship": ("BI",),
        "prs_MobilePhone": "+25779000000",
        "prs_MailingCountry": "BI",
        "vic_TraffickingStatus": "PossibleVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "Police",
        "vic_MethodsOfControl": ("DebtBondage", "WithholdsDocuments"),
        "vic_TypeOfExploitation": ("ForcedLabour",),
        "vic_ForcedLabourIndustry": "T_ActivitiesOfHouseholdsAsEmployers",
        "cas_Status": "Active",
    }
    lawful = item.facts.lawful
    assert lawful is not None
    assert lawful.basis == "consent"
    assert lawful.consent is not None
    assert lawful.consent.given_at == item.facts.occurred_at
    assert lawful.consent.expires_at == item.facts.occurred_at + timedelta(days=365)
    assert lawful.consent.form_version == "vSmt4GQA3C9uBMLPEVfgND"


def test_every_question_of_the_form_is_a_field_of_the_standard() -> None:
    assert len(kobo_form.QUESTIONS) == 31
    assert {kobo_form.RENAMED.get(question, question) for question in kobo_form.QUESTIONS} <= set(htcds.FIELDS)
    assert set(kobo_form.RENAMED) <= set(kobo_form.QUESTIONS)
    assert not set(kobo_form.RENAMED) & set(htcds.FIELDS)


def test_groups_do_not_matter(tmp_path: Path) -> None:
    grouped = {
        (f"identite/noms/{key}" if key.startswith("prs_") else key): value for key, value in submission().items()
    }
    assert draft(one(tmp_path, grouped)).facts.htcds["prs_SecondName"] == "Ndayishimiye"


def test_a_one_word_and_an_arabic_name_are_complete(tmp_path: Path) -> None:
    values = draft(one(tmp_path, submission(prs_First_Name=None, prs_Second_Name="آمنة"))).facts.htcds
    assert values["prs_SecondName"] == "آمنة"
    assert "prs_FirstName" not in values


def test_renamed_questions_and_spare_spaces_are_handled_and_said(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission(vic_Methods_of_Control="DebtBondage ", prs_Title="Vendeuse"))
    batches = collected(connector)
    assert draft(batches[0]).facts.htcds["vic_MethodsOfControl"] == ("DebtBondage",)
    settled(connector, batches)
    told = " ".join(note["fr"] for note in report(tmp_path)["soumissions"][0]["notes"])
    for words in ("prs_First_Name", "prs_Second_Name", "vic_Methods_of_Control", "DebtBondage", "« Second Name »"):
        assert words in told
    assert "À savoir" in (tmp_path / "rapports" / "soumission.json.rapport.txt").read_text(encoding="utf-8")


def test_a_free_reason_is_kept_in_the_details_when_no_code_fits(tmp_path: Path) -> None:
    values = draft(
        one(
            tmp_path,
            submission(cas_ReasonForIncomingReferral="Besoin d'un abri", cas_IncomingReferralDetails="Ce soir."),
        )
    ).facts.htcds
    assert values["cas_ReasonForIncomingReferral"] == "Other"
    assert values["cas_IncomingReferralDetails"] == "Ce soir.\nMotif de l'orientation reçue : Besoin d'un abri"


def test_a_reason_that_is_a_code_in_words_becomes_the_code(tmp_path: Path) -> None:
    values = draft(
        one(tmp_path, submission(cas_ReasonForIncomingReferral="migration ou changement de lieu"))
    ).facts.htcds
    assert values["cas_ReasonForIncomingReferral"] == "MigrationOrChangeOfLocation"
    assert "cas_IncomingReferralDetails" not in values


def test_without_a_start_the_time_of_reception_counts_and_is_utc(tmp_path: Path) -> None:
    assert draft(one(tmp_path, submission(start=None))).facts.occurred_at == datetime(2026, 11, 3, 8, 20, tzinfo=UTC)


def test_a_telephone_clock_years_ahead_gives_way_to_the_time_of_reception(tmp_path: Path) -> None:
    batch = one(tmp_path, submission(start="2031-01-01T10:00:00+02:00"))
    assert draft(batch).facts.occurred_at == datetime(2026, 11, 3, 8, 20, tzinfo=UTC)


def test_without_a_number_the_root_uuid_refers_to_the_person(tmp_path: Path) -> None:
    assert draft(one(tmp_path, submission(_id=None))).person == f"kobo:{ROOT}"


# --- what comes back with a reason ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"con_Consent": "FALSE"}, "consent_missing", "con_Consent"),
        ({"con_Consent": None}, "consent_missing", "con_Consent"),
        ({"con_Consent": "peut-être"}, "payload_invalid", "con_Consent"),
        ({"start": "2024-01-01T10:00:00+02:00"}, "consent_expired", "con_Consent"),
        ({"favourite_colour": "bleu"}, "row_invalid", "favourite_colour"),
        ({"vic_TypeOfExploitation": "ForcedLabour Espionage"}, "payload_invalid", "vic_TypeOfExploitation"),
        ({"prs_Gender": "female"}, "payload_invalid", "prs_Gender"),
        ({"prs_Birthdate": "2026-02-31"}, "payload_invalid", "prs_Birthdate"),
        ({"prs_Birthdate": "vers 2008"}, "payload_invalid", "prs_Birthdate"),
        ({"prs_Birthdate": "2027-01-01"}, "payload_invalid", "prs_Birthdate"),
        ({"prs_MobilePhone": "79 00 00 00 ou sa voisine"}, "payload_invalid", "prs_MobilePhone"),
        ({"prs_MailingCountry": "Atlantide"}, "payload_invalid", "prs_MailingCountry"),
        ({"prs_First_Name": "a\u0000b"}, "payload_invalid", "prs_First_Name"),
        ({"prs_First_Name": ["a"]}, "row_invalid", "prs_First_Name"),
        ({"prs_FirstName": "Aline"}, "row_invalid", "prs_FirstName"),
        ({"groupe/prs_Gender": "Feminine"}, "row_invalid", "prs_Gender"),
        (
            {"vic_ForcedLabourIndustry": "F_Construction P_Education"},
            "payload_invalid",
            "vic_ForcedLabourIndustry",
        ),
        ({"start": None, "_submission_time": None}, "row_invalid", "start"),
        ({"start": "hier", "_submission_time": "2031-01-01T00:00:00"}, "row_invalid", "start"),
        ({"_uuid": None, "meta/instanceID": None, "meta/rootUuid": None}, "row_invalid", "soumission"),
        ({"_validation_status": {"uid": "validation_status_not_approved"}}, "row_invalid", "soumission"),
        ({"cas_ReasonForIncomingReferral": "x" * 9000}, "payload_invalid", "cas_ReasonForIncomingReferral"),
    ],
)
def test_what_cannot_be_sent_says_where_and_why(tmp_path: Path, changes: dict[str, Any], code: str, where: str) -> None:
    batch = one(tmp_path, submission(**changes))
    (found,) = problems(batch)
    assert found.code == code
    assert where in found.where
    assert found.line == "submission"


def test_every_defect_of_a_submission_is_said_at_once_under_its_own_line(tmp_path: Path) -> None:
    found = problems(one(tmp_path, submission(prs_Gender="female", con_Consent="FALSE", favourite_colour="bleu")))
    assert {each.code for each in found} == {"payload_invalid", "consent_missing", "row_invalid"}
    assert len({each.line for each in found}) == 3


def test_free_text_and_odd_question_names_are_not_quoted(tmp_path: Path) -> None:
    batch = one(
        tmp_path,
        submission(prs_MailingCountry="chez Aline Ndayishimiye", **{"Aline Ndayishimiye a dit": "x"}),
    )
    assert len(problems(batch)) == 2
    assert "Ndayishimiye" not in repr(batch.items)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(submission()).encode()[:200],
        b"",
        b"\x00" * 100,
        b"[" * 400 + b"]" * 400,
        b'{"a":' * 400 + b"1" + b"}" * 400,
        json.dumps(submission(prs_First_Name="Inès")).replace("\\u00e8", "è").encode("cp1252"),
        json.dumps(submission()).encode("utf-16"),
        json.dumps(submission()).replace("Ndayishimiye", "Nda\\ud800").encode(),
        json.dumps(submission()).replace("Ndayishimiye", "Nda\ud800").encode("utf-8", "surrogatepass"),
        json.dumps(submission())[:-1].encode() + b', "prs_Gender": "Masculine"}',
        b'{"_id": NaN}',
        b'"Ndayishimiye"',
        b"{}",
        b"[]",
        b'{"results": []}',
        b'{"count": 0, "results": null}',
    ],
    ids=str,
)
def test_a_file_that_is_not_a_submission_comes_back_whole(tmp_path: Path, content: bytes) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, content)
    (batch,) = collected(connector)
    (found,) = problems(batch)
    assert (found.code, found.where) == ("source_unreadable", "fichier")
    settled(connector, [batch])
    assert (tmp_path / "refuses" / "soumission.json").read_bytes() == content
    assert report(tmp_path)["ok"] is False
    assert "Ndayishimiye" not in json.dumps(report(tmp_path))


def test_a_file_over_the_limit_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, b" " * (kobo.MAX_BYTES + 1))
    (batch,) = collected(connector)
    assert problems(batch)[0].code == "source_unreadable"
    assert "1 Mio" in problems(batch)[0].fr
    settled(connector, [batch])
    assert files(tmp_path, "refuses") == ["soumission.json"]


def test_a_byte_order_mark_from_notepad_is_forgiven(tmp_path: Path) -> None:
    draft(one(tmp_path, b"\xef\xbb\xbf" + json.dumps(submission()).encode()))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*kobo_form.QUESTIONS, "start", "_uuid", "_id", "_submission_time", "_validation_status", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_whatever_stands_in_a_submission_nothing_is_raised_and_nothing_is_lost(changes: dict[str, Any]) -> None:
    reading = kobo_form.read(
        submission() | changes, to="bi/iom", event_type="case.identified", now=NOW, consent_days=365
    )
    assert reading.items
    assert len({item.line for item in reading.items}) == len(reading.items)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_page_of_the_api_is_many_batches_and_one_report(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    second = str(UUID(int=2))
    page = {
        "count": 3,
        "next": "https://kobo.example/?start=3",
        "previous": None,
        "results": [submission(), submission(second, con_Consent="FALSE"), "?"],
    }
    drop(tmp_path, page)
    batches = collected(connector)
    assert [batch.source.split(":")[:3] for batch in batches[:2]] == [["kobo", ROOT], ["kobo", second, "refusee"]]
    assert problems(batches[1])[0].where.startswith("soumission 2, ")
    assert problems(batches[2])[0].code == "source_unreadable"
    settled(connector, batches[:2])
    assert files(tmp_path, "refuses") == []
    settled(connector, batches[2:])
    told = report(tmp_path)
    assert [entry["ok"] for entry in told["soumissions"]] == [True, False, False]
    assert told["evt"] == [f"evt-of-kobo:{ROOT}"]
    assert "n'est pas la dernière" in told["soumissions"][0]["notes"][-1]["fr"]
    assert files(tmp_path, "refuses") == ["soumission.json"]


def test_a_list_of_submissions_is_read_too(tmp_path: Path) -> None:
    drop(tmp_path, [submission(), submission(str(UUID(int=2)))])
    assert [draft(batch).person for batch in collected(folder(tmp_path))] == ["kobo:101", "kobo:101"]


def test_a_file_still_being_written_waits_until_two_looks_agree(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    path = tmp_path / "soumission.json"
    whole = json.dumps(submission()).encode()
    path.write_bytes(whole[:100])
    os.utime(path, ns=(path.stat().st_ctime_ns + 10**9,) * 2)  # written "after" its last rename or chmod
    assert collected(connector) == []
    with path.open("ab") as file:
        file.write(whole[100:])
    os.utime(path, ns=(path.stat().st_ctime_ns + 2 * 10**9,) * 2)
    assert collected(connector) == []
    (batch,) = collected(connector)
    draft(batch)


def test_temporary_hidden_and_other_things_are_left_alone(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    for name in ("a.json.part", ".b.json", "~c.json", "d.txt", "e.json.tmp"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "f.json").mkdir()
    os.mkfifo(tmp_path / "g.json")
    (tmp_path / "h.json").symlink_to("/etc/passwd")
    assert collected(connector) == []
    assert collected(connector) == []


def test_a_folder_that_is_away_yields_nothing(tmp_path: Path) -> None:
    connector = folder(tmp_path / "partage")
    (tmp_path / "partage").rename(tmp_path / "ailleurs")
    assert collected(connector) == []


def test_a_settled_file_goes_to_traites_with_its_report(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    batches = collected(connector)
    settled(connector, batches)
    assert files(tmp_path, "traites") == ["soumission.json"]
    assert files(tmp_path, ".") == []
    told = report(tmp_path)
    assert (told["ok"], told["evt"], told["problems"]) == (True, [f"evt-of-kobo:{ROOT}"], [])
    assert "prise en charge" in (tmp_path / "rapports" / "soumission.json.rapport.txt").read_text(encoding="utf-8")
    settled(connector, batches)  # at least once: again changes nothing
    assert report(tmp_path) == told
    assert collected(connector) == []


def test_what_the_outbox_refuses_is_reported_with_its_advice(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    (batch,) = collected(connector)
    refusal = Problem(
        "soumission", "not_permitted", "Interdit par les règles.", "Forbidden by the rules.", "submission"
    )
    asyncio.run(connector.settle(batch, [Outcome("submission", None, refusal)]))
    (told,) = report(tmp_path)["problems"]
    assert (told["code"], told["fr"]) == ("not_permitted", "Interdit par les règles.")
    assert told["advice"]["fr"] == CODES["not_permitted"].advice("fr")
    assert files(tmp_path, "refuses") == ["soumission.json"]


def test_files_of_the_same_name_never_overwrite_each_other_nor_their_reports(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    for number in range(3):
        drop(tmp_path, submission(str(UUID(int=number + 1)), _id=number))
        settled(connector, collected(connector))
    assert files(tmp_path, "traites") == ["soumission-2.json", "soumission-3.json", "soumission.json"]
    assert [name for name in files(tmp_path, "rapports") if name.endswith(".json")] == [
        "soumission-2.json.rapport.json",
        "soumission-3.json.rapport.json",
        "soumission.json.rapport.json",
    ]


def test_a_file_replaced_while_it_was_being_settled_is_not_moved_but_collected_anew(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    batches = collected(connector)
    drop(tmp_path, submission(str(UUID(int=2))))
    settled(connector, batches)
    assert files(tmp_path, "traites") == []
    (batch,) = collected(connector)
    assert batch.source == f"kobo:{UUID(int=2)}"


# --- the same submission again --------------------------------------------------------------------------------------


def test_the_same_submission_in_another_page_keeps_its_key_whatever_kobo_adds(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    drop(tmp_path, {"results": [submission(_tags=["vu"], _validation_status={"uid": "validation_status_approved"})]})
    batches = collected(connector)
    assert batches[0].source == f"kobo:{ROOT}"
    settled(connector, batches, again=True)
    (entry,) = report(tmp_path, "soumission-2.json")["soumissions"]
    assert entry["again"] is True
    assert "déjà prise en charge" in entry["notes"][-1]["fr"]


@pytest.mark.parametrize("member", ["meta/rootUuid", "meta/deprecatedID"])
def test_an_edit_of_what_was_sent_asks_for_a_correction(tmp_path: Path, member: str) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    edited = submission(str(UUID(int=9)), prs_Birthdate="2002-05-17")
    if member != "meta/rootUuid":
        del edited["meta/rootUuid"]  # older servers
    edited[member] = f"uuid:{ROOT}"
    drop(tmp_path, edited)
    (batch,) = collected(connector)
    (found,) = problems(batch)
    assert found.code == "row_invalid"
    assert "correction" in found.fr
    settled(connector, [batch])
    assert files(tmp_path, "refuses") == ["soumission.json"]
    drop(tmp_path, submission())
    assert collected(connector)[0].source == f"kobo:{ROOT}"  # what was sent stays known


def test_two_versions_in_one_page_send_the_first_and_say_the_second(tmp_path: Path) -> None:
    drop(tmp_path, [submission(), submission(prs_Gender="Masculine")])
    first, second = collected(folder(tmp_path))
    draft(first)
    assert "correction" in problems(second)[0].fr


def test_a_refused_submission_corrected_in_kobo_is_sent_under_its_own_key(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission(con_Consent="FALSE"))
    batches = collected(connector)
    settled(connector, batches)
    drop(tmp_path, submission())
    (batch,) = collected(connector)
    draft(batch)
    assert batch.source == f"kobo:{ROOT}" != batches[0].source


def test_a_submission_that_the_outbox_refused_may_come_again_under_a_new_key(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    refusal = Problem("soumission", "not_permitted", "Interdit.", "Forbidden.", "submission")
    sources = []
    for _ in range(2):
        drop(tmp_path, submission())
        (batch,) = collected(connector)
        sources.append(batch.source)
        for _ in range(2):  # settle runs at least once: twice counts once
            asyncio.run(connector.settle(batch, [Outcome("submission", None, refusal)]))
    drop(tmp_path, submission(prs_Gender="Masculine"))
    (batch,) = collected(connector)
    draft(batch)
    assert [*sources, batch.source] == [f"kobo:{ROOT}", f"kobo:{ROOT}:2", f"kobo:{ROOT}:3"]
    settled(connector, [batch])
    drop(tmp_path, submission(prs_Gender="Masculine"))
    assert collected(connector)[0].source == f"kobo:{ROOT}:3"


def test_a_refusal_told_twice_counts_once(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    refusal = Problem("soumission", "not_permitted", "Interdit.", "Forbidden.", "submission")
    page = [submission(), submission(str(UUID(int=2)))]
    drop(tmp_path, page)
    first, second = collected(connector)
    for batch in (first, first, second):  # the page stays open until its second submission is settled
        asyncio.run(connector.settle(batch, [Outcome("submission", None, refusal)]))
    drop(tmp_path, page)
    assert [batch.source for batch in collected(connector)] == [f"kobo:{ROOT}:2", f"kobo:{UUID(int=2)}:2"]


def test_what_was_sent_stays_known_even_if_a_later_answer_is_a_refusal(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    drop(tmp_path, submission())
    refusal = Problem("soumission", "not_permitted", "Interdit.", "Forbidden.", "submission")
    (batch,) = collected(connector)
    asyncio.run(connector.settle(batch, [Outcome("submission", None, refusal)]))
    drop(tmp_path, submission(prs_Gender="Masculine"))
    assert "correction" in problems(collected(connector)[0])[0].fr


def test_when_the_memory_of_submissions_is_lost_the_author_is_told_to_look(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission(prs_Gender="Masculine"))
    settled(connector, collected(connector), again=True)
    assert "Si vous l'avez modifiée" in report(tmp_path)["soumissions"][0]["notes"][-1]["fr"]


# --- crashes --------------------------------------------------------------------------------------------------------


def stopping(at_call: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its n-th call on, a system call fails: the disk is full, the share is away."""
    real, calls = getattr(os, at_call), [0]

    def failing(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] >= number:
            raise OSError(28, "No space left on device")
        return real(*args, **more)

    monkeypatch.setattr(os, at_call, failing)


@pytest.mark.parametrize(
    ("call", "number"), [("fsync", n) for n in range(1, 9)] + [("replace", n) for n in (1, 2, 3)] + [("rename", 1)]
)
def test_wherever_settling_stops_it_ends_the_same_when_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    drop(tmp_path, submission())
    connector = folder(tmp_path)
    (batch,) = collected(connector)
    with monkeypatch.context() as patch:
        stopping(call, number, patch)
        with pytest.raises(NotNowError):
            asyncio.run(connector.settle(batch, said(batch)))
    for restarted in (connector, folder(tmp_path)):  # the same process, then a new one
        for each in collected(restarted):
            assert each.source == batch.source
            asyncio.run(restarted.settle(each, said(each, again=True)))
        asyncio.run(restarted.settle(batch, said(batch)))
    assert files(tmp_path, "traites") == ["soumission.json"]
    assert files(tmp_path, ".") == []
    told = report(tmp_path)
    assert (told["ok"], told["evt"], len(told["soumissions"])) == (True, [f"evt-of-kobo:{ROOT}"], 1)
    assert [name for name in files(tmp_path, "rapports") if not name.startswith(".")] == [
        "soumission.json.rapport.json",
        "soumission.json.rapport.txt",
    ]


def test_the_report_is_on_the_disk_before_the_file_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path, submission())
    connector = folder(tmp_path)
    (batch,) = collected(connector)
    stopping("rename", 1, monkeypatch)
    with pytest.raises(NotNowError):
        asyncio.run(connector.settle(batch, said(batch)))
    assert report(tmp_path)["ok"] is True
    assert (tmp_path / "soumission.json").exists()


def test_a_damaged_report_is_not_trusted_and_not_overwritten(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    (tmp_path / "rapports" / "soumission.json.rapport.json").write_bytes(b'{"sha256":')
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    assert report(tmp_path, "soumission-2.json")["ok"] is True
    assert (tmp_path / "rapports" / "soumission.json.rapport.json").read_bytes() == b'{"sha256":'


# --- the other way --------------------------------------------------------------------------------------------------


def test_states_are_added_to_the_report_once_each(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    source, evt = f"kobo:{ROOT}", f"evt-of-kobo:{ROOT}"
    for state, code in (("promised", None), ("delivered", None), ("delivered", None), ("refused", "key_revoked")):
        asyncio.run(connector.changed(evt, "submission", source, state, code))
    (entry,) = report(tmp_path)["soumissions"]
    assert [(each["state"], each["code"]) for each in entry["states"]] == [
        ("promised", None),
        ("delivered", None),
        ("refused", "key_revoked"),
    ]
    assert entry["state"] == "refused"
    words = (tmp_path / "rapports" / "soumission.json.rapport.txt").read_text(encoding="utf-8")
    assert "Arrivé sur l'ordinateur du destinataire, pas encore lu par une personne" in words
    assert CODES["key_revoked"].title("fr") in words


def test_a_change_of_something_unknown_or_taken_away_does_nothing(tmp_path: Path) -> None:
    connector = folder(tmp_path)
    asyncio.run(connector.changed("e", "submission", "kobo:unknown", "delivered", None))
    asyncio.run(connector.changed("e", "submission", "sha256:00", "delivered", None))
    drop(tmp_path, submission())
    settled(connector, collected(connector))
    (tmp_path / "rapports" / "soumission.json.rapport.json").unlink()
    asyncio.run(connector.changed(f"evt-of-kobo:{ROOT}", "submission", f"kobo:{ROOT}", "delivered", None))
    assert not (tmp_path / "rapports" / "soumission.json.rapport.json").exists()


def test_what_the_connector_writes_is_for_its_user_only(tmp_path: Path) -> None:
    connector = folder(tmp_path / "kobo")
    drop(tmp_path / "kobo", submission())
    settled(connector, collected(connector))
    assert (tmp_path / "kobo").stat().st_mode & 0o077 == 0
    for path in (tmp_path / "kobo" / "rapports").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
