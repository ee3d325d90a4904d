# SPDX-License-Identifier: Apache-2.0
"""Places for tonight, procedures, focal points and questions of practice: as people type it, over a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.domain_on_disk import Member, on_one_log
from tests.e2e.office import PLANTED, Offices, moment
from tests.e2e.shell import Shell

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator"), folder=False),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True, folder=False),
    Member("bi/ccsprtp", ("coordination", "focal-point"), folder=False),
)
DOCUMENT = "# Procédure (inventée)\n\nÉcouter d'abord.\n".encode()


@pytest.fixture(scope="module")
def offices(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[Offices]:
    with Shell() as sh, Offices.open(tmp_path_factory.mktemp("savoir"), sh, MEMBERS, log) as made:
        yield made


# -- a place for tonight ----------------------------------------------------------------------------------------------


def service(**changes: object) -> dict[str, object]:
    return {
        "entry": "nuit",
        "name": "Hébergement de nuit (inventé)",
        "types": ["SocialCare"],
        "local": "hebergement",
        "ages": ["adult"],
        "sexes": ["female"],
        "languages": ["rn", "fr"],
        "telephone": "+257 79 00 00 00",
        "valid_until": moment(30),
        "places": 1,
        **changes,
    }


@on_one_log
def test_one_place_is_published_asked_for_without_a_name_held_and_given_back(offices: Offices) -> None:
    told = offices.json("k7t4", "publish-service", "--file", offices.file(service()))
    assert (told["entry"], set(told["told"])) == ("nuit", {"bi/iom", "bi/ccsprtp"})
    [found] = offices.until("it is listed", lambda: offices.json("iom", "services")["services"])
    assert (found["agency"], found["capacity"]["band"]) == ("bi/k7t4", "few")
    assert "places" not in found
    assert "1 ou 2 places" in offices.words("iom", "services")
    assert "1 or 2 places" in offices.words("iom", "services", language="en")
    wanted = ("beds", "--service", "SocialCare", "--local", "hebergement", "--sex", "female")
    [first] = offices.json("iom", *wanted)["asked"]
    assert (first["agency"], first["state"]) == ("bi/k7t4", "asked")
    offices.until("it is offered", lambda: state(offices, first, "offered"))
    assert "jusqu'à" in offices.words("iom", "beds")
    [second] = offices.json("iom", *wanted)["asked"]
    refused = offices.until("nobody else gets it", lambda: state(offices, second, "refused"))
    assert refused["reason"] == "full"
    assert offices.json("iom", "beds", "--hold", first["thread"][:8])["held"] == first["thread"][:8]
    assert state(offices, first, "held")
    offices.refused("iom", "transition_invalid", "availability.held", "beds", "--hold", second["thread"])
    assert "Libéré : 1." in offices.words("iom", "beds", "--release", first["ask"])
    assert offices.json("iom", "beds", "--release", first["ask"])["released"] == []


def state(offices: Offices, asked: dict[str, Any], wanted: str) -> dict[str, Any] | None:
    found = offices.json("iom", "beds")["asked"]
    return next((one for one in found if (one["thread"], one["state"]) == (asked["thread"], wanted)), None)


@on_one_log
def test_a_place_that_nobody_has_is_to_be_telephoned_for(offices: Offices) -> None:
    shown = offices.words("iom", "beds", "--service", "Health", code=1)
    assert "Personne n'a publié ce service pour cette personne : téléphonez." in shown
    assert "Nobody has published this service" in offices.words(
        "iom", "beds", "--service", "Health", language="en", code=1
    )


@on_one_log
def test_what_is_wrong_about_a_service_or_a_question_is_said(offices: Offices) -> None:
    for path, changes in (
        ("telephone", {"telephone": PLANTED}),
        ("sexes[0]", {"sexes": [PLANTED]}),
        ("places", {"places": -1}),
        ("capacity", {"capacity": 1}),
        ("*", {PLANTED: 1}),
    ):
        file = offices.file(service(**changes))
        offices.refused("k7t4", "payload_invalid", path, "publish-service", "--file", file)
    offices.refused("k7t4", "source_unreadable", "file", "publish-service", "--file", offices.files / "rien.json")
    offices.refused("k7t4", "source_unreadable", "file", "publish-service", "--file", offices.file(b"{"))
    offices.refused("k7t4", "row_invalid", "*", "publish-service", "--file", offices.file([1]))
    commission = ("publish-service", "--file", offices.file(service()))
    offices.refused("ccsprtp", "not_permitted", "event.service.published.from", *commission)
    offices.refused("iom", "payload_invalid", "service", "beds", "--service", PLANTED)
    offices.refused("iom", "payload_invalid", "age", "beds", "--service", "Health", "--age", PLANTED)
    offices.mistyped("iom", "attendu un nombre entier", "valid integer", "beds", "--count", PLANTED)
    offices.mistyped("iom", "aucune demande de ce nom", "no such question", "beds", "--hold", PLANTED)
    offices.mistyped("iom", "aucune demande de ce nom", "no such question", "beds", "--release", PLANTED)
    both = ("beds", "--hold", "x", "--release", "y")
    offices.mistyped("iom", "une seule chose à la fois", "one thing at a time", *both)


# -- procedures -------------------------------------------------------------------------------------------------------

TITLES = ("--title-fr", "Procédure d'identification (inventée)", "--title-en", "Identification procedure (invented)")


def test_a_procedure_reaches_everybody_and_its_publisher_sees_who_has_not_read_it(offices: Offices) -> None:
    file = offices.file(DOCUMENT, ".md")
    done = offices.json("ccsprtp", "guidance", "publish", file, "--document", "pon-identification", *TITLES)
    assert (done["version"], set(done["told"])) == (1, {"bi/iom", "bi/k7t4"})
    [found] = offices.until("it is there", lambda: offices.json("k7t4", "guidance", "list")["received"])
    assert (found["document"], found["from"], found["whole"]) == ("pon-identification", "bi/ccsprtp", True)
    assert (found["sha256"], found["acknowledged"]) == (done["sha256"], False)
    listed = offices.words("k7t4", "guidance", "list")
    assert "Procédure d'identification (inventée)" in listed
    assert "À lire et à confirmer" in listed
    out = offices.files / "lu.md"
    shown = offices.words("k7t4", "guidance", "show", "pon-identification", "--out", out, language="en")
    assert f"SHA-256 {done['sha256']}" in shown
    assert out.read_bytes() == DOCUMENT
    overwritten = ("guidance", "show", "pon-identification", "--out", out)
    offices.mistyped("k7t4", "ce fichier existe déjà", "there is such a file already", *overwritten)
    shown = offices.words("k7t4", "guidance", "acknowledge", "pon-identification", "--by", "caseworker")
    assert "confirmée" in shown
    again = ("guidance", "acknowledge", "pon-identification", "--by", "head")
    offices.refused("k7t4", "transition_invalid", "guidance.acknowledged", *again)
    offices.until("its publisher knows", lambda: read_by(offices, 1) == ["bi/k7t4"])
    assert "Pas encore : bi/iom" in offices.words("ccsprtp", "guidance", "list")
    newer = offices.json("ccsprtp", "guidance", "publish", file, "--document", "pon-identification", *TITLES)
    assert newer["version"] == 2
    offices.until("it is replaced", lambda: [one for one in received(offices) if one["replaced"]])
    assert "Replaced by a newer version" in offices.words("k7t4", "guidance", "list", language="en")
    assert offices.json("k7t4", "guidance", "show", "pon-identification")["version"] == 2
    assert offices.json("k7t4", "guidance", "show", "pon-identification", "--version", "1")["acknowledged"]


def received(offices: Offices) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = offices.json("k7t4", "guidance", "list")["received"]
    return found


def read_by(offices: Offices, version: int) -> list[str]:
    published = offices.json("ccsprtp", "guidance", "list")["published"]
    [found] = [one["read"] for one in published if one["version"] == version]
    return list(found)


@on_one_log
def test_what_is_wrong_about_a_procedure_is_said(offices: Offices) -> None:
    file = offices.file(DOCUMENT, ".md")
    publish = ("guidance", "publish", file, "--document", "autre", *TITLES)
    offices.refused("iom", "not_permitted", "event.guidance.published.from", *publish)
    named = ("guidance", "publish", file, "--document", f"{PLANTED} !", *TITLES)
    offices.refused("ccsprtp", "payload_invalid", "document", *named)
    offices.mistyped("ccsprtp", "connus : procedure", "known: procedure", *publish, "--kind", PLANTED)
    offices.refused("ccsprtp", "payload_invalid", "language", *publish, "--language", PLANTED)
    for wrong, french, english in (
        (offices.file(DOCUMENT, ".docx"), "types connus : .pdf", "known types: .pdf"),
        (offices.file(b"", ".txt"), "ce fichier est vide", "this file is empty"),
        (offices.files / "rien.pdf", "ce fichier n'existe pas", "there is no such file"),
    ):
        offices.mistyped("ccsprtp", french, english, "guidance", "publish", wrong, "--document", "autre", *TITLES)
    for command in (("show", PLANTED), ("acknowledge", PLANTED, "--by", "head")):
        offices.mistyped(
            "k7t4",
            "aucun document de ce nom et de cette version",
            "no document of that name and version",
            *("guidance", *command),
        )
    wrong_by = ("guidance", "acknowledge", "pon-identification", "--by", PLANTED)
    offices.mistyped("k7t4", "connus : head", "known: head", *wrong_by)


# -- focal points and expertise ---------------------------------------------------------------------------------------


def office(**changes: object) -> dict[str, object]:
    return {
        "entry": "permanence",
        "function": "duty-officer",
        "name_fr": "Permanence (inventée)",
        "name_en": "Duty office (invented)",
        "telephone": "+257 22 00 00 00",
        "valid_until": moment(30),
        "around_the_clock": True,
        **changes,
    }


def test_a_focal_point_can_be_called_until_it_is_withdrawn(offices: Offices) -> None:
    offices.json("ccsprtp", "contacts", "publish", "--file", offices.file(office()))
    offices.until("it is listed", lambda: offices.json("k7t4", "contacts", "list")["contacts"])
    shown = offices.words("k7t4", "contacts", "list")
    assert "+257 22 00 00 00 Permanence (inventée) (bi/ccsprtp)" in shown
    assert "permanence, jour et nuit" in shown
    assert "day and night" in offices.words("k7t4", "contacts", "list", language="en")
    assert offices.json("ccsprtp", "contacts", "list")["published"] == [{"entry": "permanence", "agencies": 2}]
    withdrawn = offices.words("ccsprtp", "contacts", "publish", "--file", offices.file(office(withdrawn=True)))
    assert "retiré" in withdrawn
    offices.until("it is gone", lambda: not offices.json("k7t4", "contacts", "list")["contacts"])
    offices.refused(
        "ccsprtp",
        "payload_invalid",
        "function",
        *("contacts", "publish", "--file", offices.file(office(function=PLANTED))),
    )
    offices.refused(
        "k7t4",
        "not_permitted",
        "event.contact.published.from",
        *("contacts", "publish", "--file", offices.file(office())),
    )


def test_a_question_of_practice_comes_back_with_its_answer(offices: Offices) -> None:
    ask = ("expertise", "ask", "--to", "bi/ccsprtp", "--topic", "children")
    done = offices.json("k7t4", *ask, "--text", "Comment entendre un enfant la nuit ?")
    [asked] = offices.until("it is there", lambda: offices.json("ccsprtp", "expertise", "list")["questions"])
    assert (asked["thread"], asked["agency"], asked["ours"]) == (done["thread"], "bi/k7t4", False)
    assert "Comment entendre un enfant la nuit ?" in offices.words("ccsprtp", "expertise", "list")
    text = offices.file("Avec un représentant, jamais seul.".encode(), ".txt")
    answer = ("expertise", "answer", asked["thread"][:8], "--file", text, "--document", "pon-enfants")
    assert "Réponse dans la boîte d'envoi." in offices.words("ccsprtp", *answer)
    offices.refused("ccsprtp", "transition_invalid", "expertise.answered", *answer)
    [mine] = offices.until(
        "the answer is there",
        lambda: [one for one in offices.json("k7t4", "expertise", "list")["questions"] if one["answer"]],
    )
    assert (mine["answer"], mine["documents"]) == ("Avec un représentant, jamais seul.", ["pon-enfants"])
    assert "Answered" in offices.words("k7t4", "expertise", "list", language="en")


@on_one_log
def test_what_is_wrong_about_a_question_is_said(offices: Offices) -> None:
    ask = ("expertise", "ask", "--to", "bi/ccsprtp", "--topic", "data")
    offices.mistyped("iom", "--text ou --file, l'un des deux", "--text or --file, one of them", *ask)
    offices.mistyped("iom", "ce fichier n'existe pas", "there is no such file", *ask, "--file", "rien.txt")
    offices.refused("iom", "source_unreadable", "file", *ask, "--file", offices.file(b"\xff\xfe\x00", ".txt"))
    topic = ("expertise", "ask", "--to", "bi/ccsprtp", "--topic", PLANTED, "--text", "x")
    offices.mistyped("iom", "connus : identification", "known: identification", *topic)
    shelter = ("expertise", "ask", "--to", "bi/k7t4", "--topic", "data", "--text", "x")
    offices.refused("iom", "not_permitted", "event.expertise.asked.to", *shelter)
    nobody = ("expertise", "ask", "--to", f"bi/{PLANTED}", "--topic", "data", "--text", "x")
    offices.refused("iom", "agency_unknown", None, *nobody)
    offices.mistyped(
        "iom", "aucune question de ce nom", "no such question", "expertise", "answer", PLANTED, "--text", "x"
    )
