# SPDX-License-Identifier: Apache-2.0
"""Bad files: each is answered in words, kept, and stops nobody; what people really type is understood or refused."""

from __future__ import annotations

import asyncio
import datetime
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from adapters.connectors import as_typed, columns, sheets, template
from adapters.connectors.as_typed import MistypedError
from adapters.connectors.column_type import FORMS
from adapters.connectors.columns import template_columns
from adapters.connectors.contract import Problem
from schemas.errors import CODES, Language
from tests.adapters.folder_office import (
    NOW,
    PLANTED,
    RECIPIENTS,
    ROW,
    Office,
    drafts,
    filled,
    problems,
    row,
    saved,
    table,
    with_member,
)

TODAY = NOW.date()

SHEET_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    b"<sheetData>%s</sheetData></worksheet>"
)
FAR = b'<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>loin</t></is></c></row>'


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "iom")


def the_problem(office: Office, data: bytes, name: str = "fichier.xlsx") -> Problem:
    """Dropped, refused whole, reported, kept as it was."""
    office.drop(data, name)
    [batch] = office.go_round()
    assert drafts([batch]) == []
    [problem] = problems([batch])
    assert problem.line == ""
    assert problem.code in CODES
    assert (office.root / "refuses" / name).read_bytes() == data
    [report] = [each for each in office.names("rapports") if "rapport." in each]
    assert problem.code in office.words(f"rapports/{report}")
    assert office.names("a-envoyer") == []
    return problem


def csv(*lines: str, encoding: str = "utf-8") -> bytes:
    return "\r\n".join([*lines, ""]).encode(encoding)


HEADER = ";".join(ROW)
LINE = ";".join(f'"{value}"' for value in ROW.values())


def test_a_cell_at_the_far_end_of_the_sheet_is_too_large_in_words(office: Office) -> None:
    data = with_member(table(["destinataire"]), "xl/worksheets/sheet1.xml", SHEET_XML % FAR)
    assert len(data) < 9_000
    problem = the_problem(office, data)
    assert problem.code == "too_large"
    assert "XFD1048576" in problem.fr


def test_a_file_that_asks_for_six_gigabytes_within_the_limits_of_a_form_ends_its_child_only(office: Office) -> None:
    far = b'<row r="200000"><c r="ALL200000" t="inlineStr"><is><t>loin</t></is></c></row>'
    near = b'<row r="1"><c r="A1" t="inlineStr"><is><t>x</t></is></c></row>'
    problem = the_problem(office, with_member(table(["x"]), "xl/worksheets/sheet1.xml", SHEET_XML % (near + far)))
    assert problem.code == "too_large"
    assert "mémoire" in problem.fr


def test_a_far_cell_that_the_early_look_does_not_see_ends_its_child_only(office: Office) -> None:
    wide = b"".join(b'<c t="inlineStr"><is><t>x</t></is></c>' for _ in range(16_000))
    rows = b'<row r="1"><c r="A1" t="inlineStr"><is><t>x</t></is></c></row><row r="1048576">' + wide + b"</row>"
    problem = the_problem(office, with_member(table(["x"]), "xl/worksheets/sheet1.xml", SHEET_XML % rows))
    assert problem.code == "too_large"
    assert "mémoire" in problem.fr


def test_a_zip_bomb_is_seen_in_its_directory(office: Office) -> None:
    problem = the_problem(office, with_member(table(["x"]), "xl/media/zero.bin", b"\0" * (301 << 20)))
    assert problem.code == "too_large"
    assert "décompressé" in problem.fr


def test_a_truncated_workbook_is_damaged(office: Office) -> None:
    problem = the_problem(office, filled(row())[:-3000])
    assert problem.code == "source_unreadable"
    assert "abîmé" in problem.fr


def test_a_workbook_without_its_inside_is_damaged(office: Office) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rien.txt", "rien")
    assert "abîmé" in the_problem(office, out.getvalue()).fr


def test_an_empty_file_is_empty(office: Office) -> None:
    assert "vide" in the_problem(office, b"").fr


def test_a_password_is_named(office: Office) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le") + b"\0" * 600
    assert "protégé par mot de passe" in the_problem(office, ole).fr


def test_the_old_excel_format_is_named(office: Office) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    assert ".xls" in the_problem(office, ole, "ancien.xls").fr


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("macros.xlsm", table(["destinataire"])),
        ("macros.xlsx", with_member(table(["destinataire"]), "xl/vbaProject.bin", b"macro")),
    ],
)
def test_macros_are_never_accepted(office: Office, name: str, data: bytes) -> None:
    assert "macros" in the_problem(office, data, name).fr


def test_a_picture_or_a_pdf_is_no_table(office: Office) -> None:
    assert "tableau" in the_problem(office, b"%PDF-1.7\n...", "formulaire.pdf").fr


def test_a_wrong_sheet_is_named_with_those_that_are_there(office: Office) -> None:
    problem = the_problem(office, table(["Budget", "2026"], [1, 2], title="Feuil1"))
    assert problem.code == "source_unreadable"
    assert "« Orientation » introuvable" in problem.fr
    assert "« Feuil1 »" in problem.fr


def test_a_form_without_rows_says_so(office: Office) -> None:
    assert "aucune ligne" in the_problem(office, filled()).fr


def test_missing_columns_are_listed(office: Office) -> None:
    problem = the_problem(office, table(["destinataire", "nom_donne", "prs_Birthdate"], ["bi/k7t4", "A", "2001"]))
    assert "« Priorité »" in problem.fr
    assert "« Base légale »" in problem.fr


def test_a_column_that_stands_twice_is_refused(office: Office) -> None:
    names = [*ROW, "Destinataire"]
    problem = the_problem(office, table(names, [*ROW.values(), "bi/k7t4"]))
    assert "« Destinataire » figure plusieurs fois (A, K)" in problem.fr


def test_a_header_of_technical_names_alone_and_of_french_labels_alone_are_both_read(office: Office) -> None:
    labels = {column.name: column.fr for column in template_columns("Orientation")}
    office.drop(table(list(ROW), list(ROW.values())), "noms.xlsx")
    other = {**ROW, "consentement_fin": "21/05/2027"}
    office.drop(table([labels[name].upper() for name in other], list(other.values())), "titres.xlsx")
    first, second = drafts(office.go_round())
    assert first.facts.referral == second.facts.referral
    assert first.line == "Orientation!2"


def test_official_htcds_columns_are_read_by_their_visible_titles_where_the_hidden_names_are_shifted(
    office: Office,
) -> None:
    names = [*ROW, "prs_MailingCity", "vic_TraffickinStatusDecisionMakingOrg", "Type of Exploitation"]
    titles = ["" for _ in ROW] + ["Mailing Street", "Trafficking Status Decision Making Organization", ""]
    office.drop(table(names, titles[:9] + titles[9:], [*ROW.values(), "Avenue inventée 3", "Police", "Forced Labour"]))
    [draft] = drafts(office.go_round())
    assert draft.facts.htcds == {
        "prs_MailingStreet": "Avenue inventée 3",
        "vic_TraffickingStatusDecisionMakingOrg": "Police",
        "vic_TypeOfExploitation": ("ForcedLabour",),
    }
    assert "Rue (adresse postale)" in office.words("rapports/novembre.rapport.xlsx")


@pytest.mark.parametrize(
    ("guide", "heading", "language"),
    [
        ("fr/guide-intervenant.md", "## Avec le tableur HTCDS de l'OIM", "fr"),
        ("caseworker.md", "## With IOM's HTCDS spreadsheet", "en"),
    ],
)
def test_the_official_htcds_spreadsheet_is_taken_with_the_titles_that_the_guide_adds(
    office: Office, guide: str, heading: str, language: Language
) -> None:
    names = ["", "cas_CaseOwner", "prs_FirstName", "prs_SecondName", "con_Consent", "prs_Birthdate", "prs_Gender"]
    titles = ["", "Case Owner", "First Name", "Second Name", "Consent", "Birthdate", "Gender"]
    values = ["1", "", "Aline", PLANTED, "true", "12/05/1999", "Feminine"]
    office.drop(table(names, titles, values, title="Sheet1"), "tel-quel.xlsx")
    [refused] = problems(office.go_round())
    assert (refused.code, drafts(office.go_round())) == ("source_unreadable", [])
    text = (Path(__file__).parents[2] / "docs" / guide).read_text(encoding="utf-8")
    told = " ".join(text.partition(heading)[2].partition("\n## ")[0].split())
    added = {columns.column(name).label(language): value for name, value in ROW.items() if name != "prs_Birthdate"}
    added = {title.rstrip(" *"): value for title, value in added.items()}
    assert [title for title in added if title not in told] == []
    office.drop(table(names, [*titles, *added], [*values, *added.values()], title="Sheet1"), "complete.xlsx")
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.birth.date == "1999-05-12"
    other_basis = ("reference_juridique", "decide_par", "pourquoi")
    assert [name for name in other_basis if columns.column(name).label(language).rstrip(" *") not in told] == []


def test_an_unknown_column_is_told_not_passed_over(office: Office) -> None:
    office.drop(filled(row(), extra={"Couleur préférée": "bleu"}))
    office.go_round()
    assert "« Couleur préférée » n'est pas connue" in office.words("rapports/novembre.rapport.xlsx")


def test_an_example_row_is_not_sent(office: Office) -> None:
    office.drop(filled(row(reference_interne="EXEMPLE-1"), row()))
    assert [draft.line for draft in drafts(office.go_round())] == ["Orientation!5"]
    assert "Ligne d'exemple" in office.words("rapports/novembre.rapport.xlsx")


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_csv_is_read_in_its_usual_clothes(office: Office, encoding: str, separator: str) -> None:
    line = separator.join(f'"{value}"' for value in ROW.values())
    office.drop(csv(separator.join(ROW), line, encoding=encoding), "envoi.csv")
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.name.as_given == f"Aline {PLANTED}"
    assert draft.line == "Orientation!2"


def test_a_cp1252_csv_is_read_and_the_report_says_so(office: Office) -> None:
    name = "Élodie-Noëlle d’Où, née Núñez à l’île"
    office.drop(csv(HEADER, LINE.replace("Aline", name), encoding="cp1252"), "envoi.csv")
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.name.as_given == f"{name} {PLANTED}"
    assert "Windows-1252" in office.words("rapports/envoi.rapport.xlsx")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (csv(HEADER, LINE, encoding="utf-16-le"), "n'est pas un tableau"),
        (csv(HEADER, LINE).replace(b"Aline", b"\x81\x8d\xff"), "encodage"),
        (csv(HEADER, LINE).replace(b"Aline", "عائشة".encode("cp1256")), "encodage"),
        (csv(HEADER, LINE).replace(b"Aline", "خديجة".encode("cp1256")), "encodage"),
        (csv(HEADER, LINE).replace(b"Aline", "عائشة".encode("iso-8859-6")), "encodage"),
        (csv(HEADER, LINE).replace(b"Aline", "Noël".encode("mac-roman")), "encodage"),
        (csv(HEADER, LINE).replace(b"Aline", "Zoé".encode("mac-roman")), "encodage"),
        (csv(HEADER, LINE) + b'"jamais ferm\xc3\xa9;', "mal formé"),
    ],
)
def test_a_csv_that_cannot_be_trusted_is_refused_with_clear_words(office: Office, data: bytes, words: str) -> None:
    assert words in the_problem(office, data, "envoi.csv").fr


def test_a_csv_template_filled_in_is_read(office: Office) -> None:
    names = [column.name for column in template_columns("Orientation")]
    line = ";".join(f'"{ROW.get(name, "")}"' for name in names)
    office.drop(template.template_csv() + line.encode(), "modele.csv")
    [draft] = drafts(office.go_round())
    assert draft.line == "Orientation!3"


def test_the_apostrophe_before_a_plus_sign_comes_off_in_csv(office: Office) -> None:
    office.drop(csv(HEADER + ";contact_canal;contact_adresse", LINE + ";SMS;'+257 79 00 00 00"), "envoi.csv")
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.safe_contact.address == "+257 79 00 00 00"


# -- many rows --------------------------------------------------------------------------------------------------------


def test_ten_thousand_rows_are_read_in_seconds(office: Office) -> None:
    lines = [LINE.replace("D-2026-14", f"D-{number}") for number in range(10_000)]
    office.drop(csv(HEADER, *lines), "tout.csv")
    began = time.monotonic()
    [batch] = office.collected()
    assert len(drafts([batch])) == 10_000
    assert time.monotonic() - began < 60


def test_more_rows_than_the_limit_are_refused_whole_and_loudly(tmp_path: Path) -> None:
    office = Office(tmp_path / "iom", max_rows=5)
    problem = the_problem(office, csv(HEADER, *[LINE] * 6), "tout.csv")
    assert problem.code == "too_large"
    assert "5 lignes" in problem.fr
    problem = the_problem(Office(tmp_path / "b", max_rows=5), csv(HEADER, *[LINE] * 60), "tout.csv")
    assert "5 lignes" in problem.fr


def test_a_child_that_takes_too_long_is_ended() -> None:
    found = asyncio.run(sheets.read_tables(filled(row()), "f.xlsx", sheets=FORMS, wall_s=0.001))
    assert isinstance(found, Problem)
    assert found.code == "too_large"


# -- formulas ---------------------------------------------------------------------------------------------------------


def test_a_formula_in_a_cell_is_refused_and_never_believed(office: Office) -> None:
    office.drop(filled(row(nom_donne='=HYPERLINK("http://invente.example","Aline")')))
    [problem] = problems(office.go_round())
    assert problem.code == "row_invalid"
    assert "formule" in problem.fr
    back = office.sheet("rapports/novembre.a-corriger.xlsx", "Orientation")
    assert "(formule)" in back[3]
    office.drop((office.root / "rapports" / "novembre.a-corriger.xlsx").read_bytes(), "encore.xlsx")
    [again] = problems(office.go_round())
    assert "formule" in again.fr


@pytest.mark.parametrize("evil", ['=cmd|" /C calc"!A0', "+1+1", "-2+3", "@SUM(A1)", "\t=1+1"])
def test_what_begins_like_a_formula_is_text_in_every_workbook_we_write(office: Office, evil: str) -> None:
    quoted = evil.replace('"', '""')
    office.drop(csv(HEADER, LINE.replace("vers 2001", "31/02/2001").replace(f"Aline {PLANTED}", quoted)), "envoi.csv")
    office.go_round()
    for name in ("envoi.rapport.xlsx", "envoi.a-corriger.xlsx"):
        with zipfile.ZipFile(office.root / "rapports" / name) as archive:
            for member in archive.namelist():
                if member.startswith("xl/worksheets/sheet"):
                    assert b"<f>" not in archive.read(member)
    assert evil.strip() in [cell.strip() for cell in office.sheet("rapports/envoi.a-corriger.xlsx")[3]]


# -- dates and births, as people write them ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "precision", "basis", "date", "age"),
    [
        ("12/05/2008", "day", "declared", "2008-05-12", None),
        ("2008-05-12", "day", "declared", "2008-05-12", None),
        ("12.05.2008", "day", "declared", "2008-05-12", None),
        ("1er mai 2008", "day", "declared", "2008-05-01", None),
        ("12 août 2008", "day", "declared", "2008-08-12", None),
        ("١٢/٠٥/٢٠٠٨", "day", "declared", "2008-05-12", None),
        (datetime.date(2008, 5, 12), "day", "declared", "2008-05-12", None),
        (datetime.datetime.fromisoformat("2008-05-12T00:00"), "day", "declared", "2008-05-12", None),
        ("05/2008", "month", "declared", "2008-05", None),
        ("mai 2008", "month", "declared", "2008-05", None),
        ("2008", "year", "declared", "2008", None),
        (2008.0, "year", "declared", "2008", None),
        ("vers 2008", "year", "estimated", "2008", None),
        ("2008 ?", "year", "estimated", "2008", None),
        ("17 ans", "age", "declared", None, 17),
        ("environ 17 ans", "age", "estimated", None, 17),
        ("inconnue", "unknown", "declared", None, None),
        ("Inconnu", "unknown", "declared", None, None),
    ],
)
def test_a_birth_is_as_precise_as_it_was_typed(
    typed: Any, precision: str, basis: str, date: str | None, age: int | None
) -> None:
    birth, _ = as_typed.birth(typed, TODAY)
    assert (birth.precision, birth.basis, birth.date, birth.age_years) == (precision, basis, date, age)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("31/02/2006", "il n'y a pas de 31 février 2006"),
        ("04/13/2006", "pas de mois 13"),
        ("12/05/08", "quatre chiffres"),
        ("17", "« 17 ans »"),
        (17.0, "« 17 ans »"),
        ("140 ans", "vraisemblable"),
        ("12/05/2027", "futur"),
        ("2027", "futur"),
        ("au printemps", "n'est pas comprise"),
        (39_580.0, "n'est pas clair"),
    ],
)
def test_a_birth_that_is_not_clear_is_refused_with_what_to_write(typed: Any, words: str) -> None:
    with pytest.raises(MistypedError) as refused:
        as_typed.birth(typed, TODAY)
    assert words in refused.value.fr
    assert str(typed) not in str(refused.value)


def test_a_date_that_could_be_misread_is_told_back_in_words(office: Office) -> None:
    office.drop(filled(row(consentement_date="03/04/2026")))
    [draft] = drafts(office.go_round())
    assert draft.facts.lawful is not None
    assert draft.facts.lawful.consent is not None
    assert draft.facts.lawful.consent.given_at.date() == datetime.date(2026, 4, 3)
    assert "3 avril 2026" in office.words("rapports/novembre.rapport.xlsx")


def test_a_real_date_cell_is_a_date(office: Office) -> None:
    office.drop(filled(row(prs_Birthdate=datetime.date(2001, 4, 3), consentement_date=datetime.date(2026, 4, 3))))
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.birth.date == "2001-04-03"


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "script"), [("عائشة", "Arab"), ("Aline", "Latn"), ("Irakoze", "Latn")])
def test_one_word_and_arabic_names_are_whole_names(office: Office, name: str, script: str) -> None:
    office.drop(filled(row(nom_donne=name)))
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert (draft.facts.referral.name.as_given, draft.facts.referral.name.script) == (name, script)


def test_a_full_row_arrives_in_the_facts_cell_by_cell(office: Office) -> None:
    office.drop(
        filled(
            row(
                date_faits="20/11/2026",
                prs_FirstName="Aline",
                prs_SecondName=PLANTED,
                naissance_base="Contesté",
                prs_Gender="feminin",
                prs_Citizenship="Burundi; Tunisie",
                services_deja="Juridique",
                langues="kirundi; français; swahili",
                interprete="Oui",
                interprete_langue="kirundi",
                interprete_sexe="Une femme",
                enceinte="Non",
                accompagnants="3; 5 ans",
                transport="Accompagnée par nous",
                contact_canal="Téléphone",
                contact_adresse=25779000000,
                contact_message="Non",
                contact_jamais="le frère; le voisin",
                risque_niveau="Élevé",
                risque_de="Un recruteur",
                tuteur="Représentant désigné",
                interet_enfant="Elle reste avec sa sœur.",
                refus_partage="Contact sûr : numéro ou compte; risque_de; prs_MobilePhone",
                motif="Hébergement",
                retour_attendu="30/11/2026",
                cas_ReferringOrganisation="OIM",
            )
        )
    )
    [batch] = office.go_round()
    assert problems([batch]) == []
    [draft] = drafts([batch])
    facts = draft.facts.model_dump(mode="json", exclude_defaults=True)
    assert facts["occurred_at"] == "2026-11-20T00:00:00+02:00"
    assert facts["htcds"] == {
        "prs_Gender": "Feminine",
        "prs_Citizenship": ["BI", "TN"],
        "cas_ReferringOrganisation": "OIM",
    }
    assert facts["lawful"] == {
        "basis": "consent",
        "consent": {"given_at": "2026-11-20T00:00:00+02:00", "expires_at": "2027-05-20T23:59:59+02:00"},
    }
    assert facts["referral"] == {
        "priority": "urgent",
        "name": {"as_given": f"Aline {PLANTED}", "first": "Aline", "last": PLANTED},
        "birth": {"precision": "year", "basis": "disputed", "date": "2001"},
        "services": ["Health", "SocialCare"],
        "languages": ["rn", "fr", "sw"],
        "interpreter": {"needed": True, "language": "rn", "sex_preferred": "female"},
        "pregnant_or_nursing": "no",
        "dependants": [3, 5],
        "safe_contact": {
            "channel": "telephone",
            "address": "25779000000",
            "never_contact": ["le frère", "le voisin"],
        },
        "caregiver": {"status": "representative", "best_interest_note": "Elle reste avec sa sœur."},
        "risk": {"level": "high", "from_whom": "Un recruteur"},
        "already_given": ["Legal"],
        "told_and_refused": ["safe_contact.address", "risk.from_whom", "prs_MobilePhone"],
        "transport": "escorted",
        "reason": "Hébergement",
        "feedback_by": "2026-11-30T23:59:59+02:00",
    }


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"services": "Santé; Médecine"}, "row_invalid", "« Médecine » n'est pas dans la liste"),
        ({"services": "Assistance social"}, "row_invalid", "« Assistance sociale »"),
        ({"prs_Gender": "Femelle"}, "row_invalid", "n'est pas dans la liste"),
        ({"prs_MobilePhone": "appelez-moi"}, "row_invalid", "indicatif"),
        ({"destinataire": "bi/police"}, "agency_unknown", "destinataire"),
        ({"refus_partage": "adresse"}, "row_invalid", "n'est le nom d'aucune rubrique"),
        ({"base": None}, "consent_missing", "obligatoire"),
        ({"consentement_fin": None}, "consent_missing", "obligatoire"),
        ({"consentement_forme": None}, "consent_missing", "obligatoire"),
        ({"consentement_fin": "20/11/2025", "consentement_date": "20/10/2025"}, "consent_expired", "expiré"),
        ({"consentement_date": "20/12/2026"}, "row_invalid", "futur"),
        ({"interprete_langue": "kirundi"}, "row_invalid", "obligatoire"),
        ({"contact_canal": "SMS"}, "row_invalid", "obligatoire"),
        ({"contact_canal": "En personne", "contact_adresse": "+25779000000"}, "row_invalid", "Laissez vide"),
        ({"tuteur_nom": "Jean"}, "row_invalid", "obligatoire"),
        ({"motif": "x" * 8001}, "row_invalid", "8000"),
        ({"nom_donne": "Aline\u202e"}, "row_invalid", "invisibles"),
        ({"type": "Personne identifiée"}, "row_invalid", "Dossier"),
    ],
)
def test_what_is_wrong_in_a_row_is_said_with_its_code(
    office: Office, changes: dict[str, Any], code: str, words: str
) -> None:
    names = ["type", *(column.name for column in template_columns("Orientation"))]
    values = row(**changes)
    office.drop(table(names, [values.get(name) for name in names]))
    [batch] = office.go_round()
    assert drafts([batch]) == []
    [problem] = problems([batch])
    assert (problem.code, problem.line) == (code, "Orientation!2")
    assert words in problem.fr
    assert problem.at("fr").startswith("ligne 2, colonne ")
    assert problem.at("en").startswith("row 2, column ")


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_example_in_a_form_is_taken_as_it_stands_in_the_form_of_its_language(
    office: Office, language: Language
) -> None:
    form = load_workbook(io.BytesIO(template.template_xlsx(recipients=RECIPIENTS, language=language)))
    rows = form["Lisez-moi" if language == "fr" else "Read me"].iter_rows()
    guide = [(str(label.value), value.value) for label, value, *_ in rows]
    begins = next(number for number, (label, _) in enumerate(guide) if label.startswith(("Exemple", "Example")))
    shown = {label.rstrip(" *"): value for label, value in guide[begins:]}
    sheet = form["Orientation"]
    for cell in sheet[3]:
        value = shown.get(str(cell.value).rstrip(" *"))
        sheet.cell(4, cell.column, "D-1" if value == "EXEMPLE-1" else value)
    office.drop(saved(form))
    [draft] = drafts(office.go_round())
    assert draft.facts.referral is not None
    assert draft.facts.referral.services == ("SocialCare", "Health")
    assert draft.facts.lawful is not None
    assert draft.facts.lawful.consent is not None
    assert (draft.facts.lawful.consent.how, draft.facts.lawful.consent.language) == ("thumbprint", "rn")


def test_another_basis_than_consent_needs_who_and_why(office: Office) -> None:
    basis = {"base": "Obligation légale", "consentement_date": None, "consentement_fin": None}
    office.drop(filled(row(**basis)))
    assert [problem.where.partition("(")[2] for problem in problems(office.go_round())] == [
        "« Référence juridique datée »)",
        "« Décidé par »)",
        "« Pourquoi sans consentement »)",
    ]


def test_recipients_are_understood_by_id_by_label_and_as_the_list_shows_them(office: Office) -> None:
    spelt = ["bi/r5w2", "foyer r5w2", "Foyer R5W2 (bi/r5w2)"]
    office.drop(filled(*(row(destinataire=each, reference_interne=each) for each in spelt)))
    assert {draft.to for draft in drafts(office.go_round())} == {"bi/r5w2"}
    assert RECIPIENTS[1][0] == "bi/r5w2"
