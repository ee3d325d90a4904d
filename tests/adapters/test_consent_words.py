# SPDX-License-Identifier: Apache-2.0
"""What a person reads in the workbook when consent is withdrawn, a case is closed or a conference is called."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any, get_args, get_origin

import pytest

from adapters.connectors.consent_in_words import lines
from adapters.connectors.facts_in_words import sections_of
from schemas.errors import Language
from schemas.forms import Facts
from schemas.plain import case, consent, record
from schemas.plain.consent import ConsentWithdrawn
from umuhuza.examples.cast import NOW
from umuhuza.examples.samples_case import SAMPLES

SAID = [(type, facts) for type, each in SAMPLES.items() for facts in each if facts.said is not None]
FORMS = [form for module in (case, consent, record) for form in module.MODELS.values()]


def codes_of(annotation: Any) -> Iterator[str]:
    """Every code that a member may hold, however deep its Literal stands."""
    if get_origin(annotation) is not None and all(isinstance(one, str) for one in get_args(annotation)):
        yield from get_args(annotation)
    for inner in get_args(annotation):
        yield from codes_of(inner)


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize(("type", "facts"), SAID, ids=[f"{type}-{n}" for n, (type, _) in enumerate(SAID)])
def test_everything_that_is_said_stands_there_in_words(type: str, facts: Facts, language: Language) -> None:
    told = lines(facts.said, lambda moment: moment.isoformat(), language)
    assert told, type
    shown = {line.value for section in sections_of(facts, UTC, language) for line in section.lines}
    assert {line.value for line in lines(facts.said, lambda _: "", language) if line.value} <= shown | {""}
    for line in told:
        assert line.value not in (line.code, "")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_code_of_a_reason_has_its_words(form: Any, language: Language) -> None:
    samples = [facts.said for each in SAMPLES.values() for facts in each if isinstance(facts.said, form)]
    for name, info in form.model_fields.items():
        for code in codes_of(info.annotation):
            value = (code,) if name == "decisions" else code
            told = lines(samples[0].model_copy(update={name: value}), lambda moment: moment.isoformat(), language)
            assert code in {line.code for line in told}


def test_a_withdrawal_says_what_to_do_and_that_what_was_read_cannot_be_unread() -> None:
    facts = Facts(occurred_at=NOW, said=ConsentWithdrawn(scope="sharing"))
    french = " ".join(line.value for section in sections_of(facts, UTC, "fr") for line in section.lines)
    english = " ".join(line.value for section in sections_of(facts, UTC, "en") for line in section.lines)
    assert "L'accompagnement en cours continue" in french
    assert "ne peut pas redevenir non lu" in french
    assert "A running service continues" in english
    assert "cannot be unread" in english
