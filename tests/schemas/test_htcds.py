# SPDX-License-Identifier: Apache-2.0
"""HTCDS 2.0 as data: every field and code is there, named in two languages, and bad values are refused silently."""

from __future__ import annotations

import datetime
import json
from importlib import resources

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas import htcds
from schemas.errors import PayloadError

PLANTED = "Ndayishimiye"


def refused(name: str, value: object) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        htcds.check(name, value)
    assert caught.value.code == "payload_invalid"
    return caught.value


def test_the_standard_is_complete() -> None:
    assert len(htcds.FIELDS) == 83
    assert sum(field.core for field in htcds.FIELDS.values()) == 40
    assert {name for name, field in htcds.FIELDS.items() if field.status == "DEPRECATED"} == {
        "vic_AgreementToManagePersonalData",
        "vic_Vulnerabilities",
        "vic_DetailsOfVulnerabilities",
    }
    sizes = {name: len(codes) for name, codes in htcds.CODELISTS.items()}
    assert sizes == {
        "org_Type": 9,
        "prs_Gender": 6,
        "prs_MaritalStatus": 6,
        "prs_HighestLevelOfEducation": 9,
        "vic_TraffickingStatus": 3,
        "vic_TraffickingStatusDecisionMakingOrg": 5,
        "vic_RelationshipToTrafficker": 3,
        "vic_RecruitmentWebsitesAndApps": 15,
        "vic_MethodOfRecruitment": 10,
        "vic_MethodsOfControl": 16,
        "vic_TypeOfExploitation": 11,
        "vic_ForcedLabourIndustry": 21,
        "vic_TypeOfSexExploitation": 4,
        "vic_ExploitationWebsitesAndApps": 15,
        "vic_Vulnerabilities": 12,
        "per_RoleInProcess": 15,
        "cas_Status": 4,
        "cas_ReasonForIncomingReferral": 3,
        "cas_ReasonForOutgoingReferral": 3,
        "hte_Type": 3,
        "spl_Type": 9,
    }


def test_codes_are_spelt_as_the_standard_spells_them() -> None:
    assert "Unaquainted" in htcds.CODELISTS["vic_RelationshipToTrafficker"]
    assert "4Sale" in htcds.CODELISTS["vic_RecruitmentWebsitesAndApps"]
    assert all(code == code.strip() for codes in htcds.CODELISTS.values() for code in codes)


@pytest.mark.parametrize("file", ["htcds-fields.json", "htcds-codelists.json"])
def test_the_data_says_whose_it_is(file: str) -> None:
    head = json.loads(resources.files("schemas").joinpath("data", file).read_text(encoding="utf-8"))
    assert "UNMigration/HTCDS" in head["source"]
    assert "IOM" in head["attribution"]
    assert head["licence"].startswith("CC BY 4.0")


def test_everything_has_an_english_and_a_french_label_and_no_unreviewed_other() -> None:
    labelled = [field.labels for field in htcds.FIELDS.values()]
    labelled += [code.labels for codes in htcds.CODELISTS.values() for code in codes.values()]
    for labels in labelled:
        assert set(labels) == set(htcds.LANGUAGES)
        for language in ("en", "fr"):
            words = labels[language]
            assert words
            assert words == words.strip()
        assert labels["rn"] is None
        assert labels["ar"] is None


def test_french_labels_of_one_list_do_not_collide() -> None:
    for codes in htcds.CODELISTS.values():
        assert len({code.labels["fr"] for code in codes.values()}) == len(codes)
    assert len({field.labels["fr"] for field in htcds.FIELDS.values()}) == len(htcds.FIELDS)


def test_french_says_traite_and_never_trafic() -> None:
    words = [each.labels["fr"] or "" for codes in htcds.CODELISTS.values() for each in codes.values()]
    words += [field.labels["fr"] or "" for field in htcds.FIELDS.values()]
    assert not [each for each in words if "trafic" in each.lower()]


def test_what_names_or_locates_a_person_is_identity() -> None:
    for name, field in htcds.FIELDS.items():
        if name.startswith(("prs_Mailing", "org_Shipping", "per_")) or field.kind in ("text", "note", "phone"):
            assert field.identity, name
    for name in (
        "prs_Birthdate",
        "prs_IdentityNumber",
        "prs_Email",
        "hte_Country",
        "hte_Date",
        "hte_Latitude",
        "cas_CaseOwner",
    ):
        assert htcds.FIELDS[name].identity, name
    for name in ("prs_Gender", "prs_Citizenship", "vic_TypeOfExploitation", "spl_Type", "hte_Type", "con_Consent"):
        assert not htcds.FIELDS[name].identity, name


def test_a_list_belongs_to_every_coded_field_and_to_no_other() -> None:
    for field in htcds.FIELDS.values():
        assert (field.kind in ("code", "codes")) == (field.codelist is not None)
        assert field.codelist is None or field.codelist in htcds.CODELISTS


def test_labels_fall_back_from_kirundi_to_french_to_english() -> None:
    assert htcds.label("spl_Type", "Health", "en") == "Health"
    assert htcds.label("spl_Type", "Health", "rn") == "Santé"
    assert htcds.label("spl_Type", "Health", "ar") == "Santé"
    assert htcds.label("country", "BI", "rn") == "Uburundi"
    assert htcds.label("country", "TN", "ar") == "تونس"
    assert htcds.label("language", "rn", "fr") == "kirundi"
    assert htcds.label("boolean", "true", "fr") == "Oui"
    assert htcds.field_label("prs_SecondName", "fr") == "Nom de famille"
    assert htcds.field_label("prs_SecondName", "en") == "Second Name"


@pytest.mark.parametrize(("codelist", "code"), [("spl_Type", PLANTED), (PLANTED, "Health"), ("country", "ZZ")])
def test_an_unknown_code_or_list_has_no_label_and_is_not_quoted(codelist: str, code: str) -> None:
    with pytest.raises(PayloadError) as caught:
        htcds.label(codelist, code, "fr")
    assert PLANTED not in str(caught.value)


def test_pick_lists_offer_only_what_is_accepted() -> None:
    for name, field in htcds.FIELDS.items():
        for language in ("fr", "en"):
            for code, words in htcds.options(name, language):
                assert words
                assert htcds.check(name, (code,) if field.multi else code) == ((code,) if field.multi else code)


def test_pick_lists_begin_near_to_here_and_keep_the_scale_of_the_standard() -> None:
    countries = htcds.options("prs_Citizenship", "fr")
    assert len(countries) == 249
    assert countries[0] == ("BI", "Burundi")
    assert countries[1] == ("TN", "Tunisie")
    rest = [words for _, words in countries[7:]]
    assert rest.index("Égypte") < rest.index("Espagne") < rest.index("Zambie")
    assert htcds.options("prs_PrimaryLanguage", "fr")[0] == ("rn", "kirundi")
    assert htcds.options("prs_HighestLevelOfEducation", "fr")[0][0] == "EarlyChildhoodEducation"
    assert htcds.options("prs_FirstName", "fr") == []


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("spl_Type", "Health", "Health"),
        ("spl_Type", "  sante ", "Health"),
        ("spl_Type", "SANTÉ", "Health"),
        ("vic_MethodsOfControl", "DebtBondage ", "DebtBondage"),
        ("vic_MethodsOfControl", "servitude pour dettes", "DebtBondage"),
        ("vic_RelationshipToTrafficker", "unaquainted", "Unaquainted"),
        ("prs_Citizenship", "burundi", "BI"),
        ("prs_Citizenship", "BDI", "BI"),
        ("prs_Citizenship", "Emirats arabes unis", "AE"),
        ("prs_Citizenship", "R.D. Congo", "CD"),
        ("prs_PrimaryLanguage", "Kirundi", "rn"),
        ("prs_PrimaryLanguage", "run", "rn"),
        ("prs_PrimaryLanguage", "swa", "sw"),
        ("con_Consent", "Oui", "true"),
        ("con_Consent", "FALSE", "false"),
        ("spl_Type", "Hôtel", None),
        ("prs_FirstName", "Aline", None),
        ("spl_Type", "", None),
    ],
)
def test_people_may_write_code_or_label_as_they_like(field: str, text: str, code: str | None) -> None:
    assert htcds.find_code(field, text) == code


def test_every_code_and_label_finds_its_code() -> None:
    for name, field in htcds.FIELDS.items():
        if field.codelist is None:
            continue
        for code, entry in htcds.CODELISTS[field.codelist].items():
            assert htcds.find_code(name, code) == code
            assert htcds.find_code(name, entry.labels["fr"] or "") == code
            assert htcds.find_code(name, entry.labels["en"] or "") == code


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("prs_FirstName", " Aline\u00a0Inès ", "Aline Inès"),
        ("prs_FirstName", "Ine\u0300s", "Inès"),
        ("prs_FirstName", "آمنة", "آمنة"),
        ("cco_CaseComment", "un\r\ndeux\n", "un\ndeux"),
        ("prs_Birthdate", "2008-02-29", "2008-02-29"),
        ("prs_Birthdate", "2008-02", "2008-02"),
        ("prs_Birthdate", "2008", "2008"),
        ("prs_Birthdate", datetime.date(2008, 5, 1), "2008-05-01"),
        ("prs_MobilePhone", "+257 79-00 00.00", "+25779000000"),
        ("prs_MobilePhone", "00257 79 00 00 00", "+25779000000"),
        ("vic_AgeWhenTrafficked", 17.0, "17"),
        ("vic_AgeWhenTrafficked", "017", "17"),
        ("con_Consent", "TRUE", "true"),
        ("con_Consent", False, "false"),
        ("prs_Citizenship", ["BI", "TN", "BI"], ("BI", "TN")),
        ("prs_PrimaryLanguage", "run", "rn"),
        ("hte_Latitude", -3.38, "-3.38"),
    ],
)
def test_values_come_out_normalised(name: str, value: object, normal: object) -> None:
    assert htcds.check(name, value) == normal


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prs_Birthdate", "2026-02-31"),
        ("prs_Birthdate", "31/02/2026"),
        ("prs_Birthdate", "2026-13"),
        ("prs_Birthdate", "2026-00"),
        ("prs_Birthdate", "0026-01-01"),
        ("prs_Birthdate", "vers 2008"),
        ("prs_Birthdate", "2026-1-1"),
        ("prs_Birthdate", "\u0662\u0660\u0662\u0666"),
        ("prs_Birthdate", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
        ("prs_FirstName", "Al\ud800ine"),
        ("prs_FirstName", "Al\x00ine"),
        ("prs_FirstName", "Al\x1bine"),
        ("prs_FirstName", "Aline\u202e"),
        ("prs_FirstName", "   "),
        ("prs_FirstName", ""),
        ("prs_FirstName", "a" * 501),
        ("prs_FirstName", 3),
        ("prs_FirstName", None),
        ("cco_CaseComment", "a" * 8001),
        ("spl_Type", "Sante"),
        ("spl_Type", "health"),
        ("spl_Type", ("Health",)),
        ("vic_MethodsOfControl", "DebtBondage"),
        ("vic_MethodsOfControl", ("DebtBondage ",)),
        ("vic_MethodsOfControl", ()),
        ("vic_MethodsOfControl", (None,)),
        ("prs_Citizenship", ("ZZ",)),
        ("prs_Citizenship", ("EU",)),
        ("prs_PrimaryLanguage", "und"),
        ("prs_MobilePhone", "79 00 00 00 (voisine)"),
        ("prs_MobilePhone", "0"),
        ("vic_AgeWhenTrafficked", 121),
        ("vic_AgeWhenTrafficked", -1),
        ("vic_AgeWhenTrafficked", 1.5),
        ("vic_AgeWhenTrafficked", True),
        ("vic_AgeWhenTrafficked", 10**300),
        ("hte_Latitude", "91"),
        ("hte_Longitude", float("nan")),
        ("hte_Longitude", float("inf")),
        ("con_Consent", "peut-être"),
        ("con_Consent", 1),
    ],
)
def test_bad_values_are_refused_by_field(name: str, value: object) -> None:
    assert refused(name, value).path == f"htcds.{name}"


def test_an_unknown_field_is_never_named() -> None:
    error = refused(PLANTED, "x")
    assert error.path == "htcds.*"
    assert PLANTED not in str(error)


def test_no_refusal_carries_the_value_even_in_its_chain() -> None:
    for name in htcds.FIELDS:
        error = refused(name, PLANTED + "\x00")
        seen: BaseException | None = error
        while seen is not None:
            assert PLANTED not in repr(seen)
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


anything = st.one_of(
    st.text(max_size=40),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=5), max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(htcds.FIELDS)), anything)
def test_checking_is_total_and_settles_at_once(name: str, value: object) -> None:
    try:
        once = htcds.check(name, value)
    except PayloadError as error:
        event(error.code)  # any other exception fails the test
    else:
        assert htcds.check(name, once) == once
