# SPDX-License-Identifier: Apache-2.0
"""`umuhuza policy` as somebody asks it: yes or no, the line that says so, what would have to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from schemas.data_files import read_together
from schemas.envelope import FLOWS, KINDS, mailbox_topic
from schemas.event_types import EVENTS
from schemas.registry import ROLES
from tests.domain import Domain
from topics.catalogue import Act, may
from topics.policy_file import policy
from topics.policy_lines import line_of, words_of
from umuhuza.cli import build
from umuhuza.fictional import fictional_registry
from umuhuza.usage import usage_words

ROOT = Path(__file__).resolve().parents[1]


@cache
def app() -> typer.Typer:
    return build("policy")


def asked(*words: str) -> tuple[int, dict[str, Any]]:
    ran = CliRunner().invoke(app(), ["policy", *words, "--json"])
    return ran.exit_code, json.loads(ran.stdout) if ran.stdout else {}


def refused(*words: str) -> str:
    """What is said to words that cannot be understood."""
    ran = CliRunner().invoke(app(), ["policy", *words], standalone_mode=False)
    assert isinstance(ran.exception, typer.BadParameter)
    return usage_words(ran.exception)


def told(*words: str, lang: str = "en", code: int = 0) -> str:
    """Everything that a person sees, results and words."""
    ran = subprocess.run(
        [sys.executable, "-m", "umuhuza", "--lang", lang, "policy", *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("agency", "action", "allowed", "rule", "file"),
    [
        ("bi/iom", "send referral.requested to bi/k7t4", True, "event.referral.requested", "referral.toml"),
        ("bi/iom", "envoyer referral.requested à bi/k7t4", True, "event.referral.requested", "referral.toml"),
        ("bi/iom", "Lire bi.case.iom", True, "flow.case.mailbox", "case.toml"),
        ("bi/police", "send case.identified to bi/iom", True, "event.case.identified", "case.toml"),
        ("bi/police", "send referral.requested to bi/k7t4", False, "firewall.law_enforcement", "_general.toml"),
        ("bi/police", "send referral.requested to bi/iom", False, "event.referral.requested.from", "referral.toml"),
        ("bi/iom", "send case.identified to bi/unicef", False, "event.case.identified.to", "case.toml"),
        ("bi/iom", "send case.screened to bi/police", False, "flow.case.mailbox", "case.toml"),
        ("bi/iom", "send chain.voided to bi/police in case", False, "flow.case.mailbox", "case.toml"),
        ("bi/police", "send chain.voided to bi/iom in referral", False, "event.chain.voided.flow", "any.toml"),
        ("bi/police", "read bi.referral.k7t4", False, "read", None),
        ("bi/police", "read bi.referral.police", False, "flow.referral.mailbox", "referral.toml"),
        ("bi/polise", "read bi.case.iom", False, "registry", None),
        ("bi/iom", "send referral.requested to bi/k7t5", False, "registry", None),
        ("bi/iom", "send referral.request to bi/k7t4", False, "event.*", None),
        ("tn/inlctp", "send transfer.requested to bi/ccsprtp", True, "event.transfer.requested", "bilateral.toml"),
    ],
)
def test_yes_or_no_and_the_line_that_says_so(
    agency: str, action: str, allowed: bool, rule: str, file: str | None
) -> None:
    status, said = asked("explain", agency, action)
    assert (status, said["allowed"], said["rule"]) == (0 if allowed else 1, allowed, rule)
    assert said["why"].endswith((".", "?"))
    assert bool(said["change"]) is not allowed
    if file is None:
        assert said["file"] is None
        return
    assert said["file"] == f"topics/policy/{file}"
    line = (ROOT / said["file"]).read_text(encoding="utf-8").splitlines()[said["line"] - 1]
    assert line.startswith(said["says"])
    assert (
        f"{said['rule'].rpartition('.')[2]} =" in line or f'"{rule.removeprefix("event.")}"' in line or ".flow" in rule
    )


def test_the_answer_is_the_policys_for_everybody_and_every_event() -> None:
    registry = fictional_registry()
    for agency in ("bi/iom", "bi/police", "bi/k7t4", "tn/inlctp"):
        for name, event in EVENTS.items():
            if event.flow != "*" and not policy().events[name].basis:
                topic = mailbox_topic(event.flow, "bi/iom")
                verdict = may(Act("send", agency, topic, event.kind, name), registry)
                _, said = asked("explain", agency, f"send {name} to bi/iom")
                assert (said["allowed"], said["rule"]) == (verdict.ok, verdict.rule)


def test_a_basis_that_the_event_does_not_take_is_refused_where_the_basis_stands() -> None:
    known = policy().events["referral.requested"].basis
    assert known == {"consent", "legal-duty", "vital-interests"}
    for basis in known:
        assert asked("explain", "bi/iom", f"send referral.requested to bi/k7t4 on {basis}")[1]["allowed"]
    assert "legal-duty" in refused("explain", "bi/iom", "send referral.requested to bi/k7t4 on curiosity")


def test_it_says_who_else_could() -> None:
    _, said = asked("explain", "bi/hotline", "send case.screened to bi/k7t4")
    assert said["senders"] == ["bi/iom", "tn/dpe", "tn/iom"]
    _, said = asked("explain", "bi/iom", "send case.identified to bi/unicef")
    assert said["recipients"] == ["bi/iom", "tn/dpe", "tn/iom"]


def test_one_reads_it_in_french_and_in_english() -> None:
    words = ("explain", "bi/police", "send referral.requested to bi/k7t4")
    french, english = told(*words, lang="fr", code=1), told(*words, lang="en", code=1)
    assert "NON · Police et justice n'écrivent jamais à un lieu protégé" in french
    assert "NO · Police and judiciary never write to a protected place" in english
    for said in (french, english):
        assert "topics/policy/_general.toml:" in said
        assert 'law_enforcement = ["police", "judiciary"]' in said
        assert "→ " in said
    assert "Domaine fictif" in french
    assert "A fictional domain" in english


def test_an_action_that_is_none_gives_examples_that_work() -> None:
    said = told("explain", "bi/iom", "please look into their mailbox", lang="fr", code=2)
    examples = [line.partition("bi/iom ")[2].strip("'") for line in said.splitlines() if "policy explain" in line]
    assert len(examples) == 5  # and the hint where help is
    for example in examples[:4]:
        assert asked("explain", "bi/iom", example)[0] == 0, example


@pytest.mark.parametrize(
    ("agency", "action", "hint"),
    [
        ("police", "read bi.case.iom", "bi/police"),
        ("bi/iom", "send referral.requested to k7t4", "bi/k7t4"),
        ("bi/iom", "read the mailbox", "umuhuza policy explain"),
        ("bi/iom", "read bi-case-iom", "domain.flow.agency"),
        ("bi/iom", "send chain.voided to bi/k7t4 in referal", "referral"),
        ("", "", "bi/iom"),
    ],
)
def test_wrong_words_are_answered_with_the_nearest_right_ones(agency: str, action: str, hint: str) -> None:
    assert hint in refused("explain", agency, action)


def test_a_misspelt_agency_or_event_is_answered_with_the_nearest() -> None:
    assert "bi/police" in asked("explain", "bi/polise", "read bi.case.iom")[1]["why"]
    assert "referral.requested" in asked("explain", "bi/iom", "send referal.requested to bi/k7t4")[1]["why"]


def test_ones_own_registry_is_asked_and_its_signature_checked(tmp_path: Path) -> None:
    domain = Domain()
    file = tmp_path / "registry.json"
    file.write_bytes(domain.registry_file)
    key = domain.pin.text
    own = ("--registry", str(file), "--registry-root", key)
    assert asked("explain", "bi/iom", "send referral.requested to bi/k7t4", *own)[1]["allowed"]
    assert asked("explain", "bi/unicef", "read bi.case.unicef", *own)[1]["rule"] == "registry"
    other = Domain(seed="another").pin.text
    said = told("explain", "bi/iom", "read bi.case.iom", "--registry", str(file), "--registry-root", other, code=1)
    assert "YES" not in said
    assert "registry-root" in refused("explain", "bi/iom", "read bi.case.iom", "--registry", str(file))


@pytest.mark.parametrize("what", [*EVENTS, *policy().mailboxes, *ROLES])
def test_every_event_flow_and_role_can_be_shown(what: str) -> None:
    status, said = asked("show", what)
    assert status == 0
    assert what in said.values()


def test_what_is_shown_of_a_role_is_what_it_may_do() -> None:
    _, police = asked("show", "police")
    assert police["law_enforcement"] is True
    assert "case.identified" in police["sends"]
    assert not {"referral", "case"} & set(police["mailboxes"])
    assert not any(name.startswith(("referral.", "case.")) for name in police["receives"])
    assert "referral.requested" in asked("show", "assistance")[1]["receives"]


def test_something_that_is_not_there_is_not_shown() -> None:
    assert "shelter" in refused("show", "shelters")
    summary = told("show", lang="fr")
    for name in (*EVENTS, *policy().mailboxes, *ROLES):
        assert name in summary


def test_every_rule_that_can_decide_has_words_in_both_languages() -> None:
    registry = fictional_registry()
    acts = [
        Act(do, agency, mailbox_topic(flow, owner), kind if event is None else EVENTS[event].kind, event)
        for do in ("send", "read")
        for agency in ("bi/police", "bi/iom", "bi/k7t4", "bi/nobody")
        for owner in ("bi/police", "bi/iom", "bi/k7t4", "bi/nobody")
        for flow in FLOWS
        for event in (None, *EVENTS)
        for kind in (KINDS if event is None else KINDS[:1])
    ]
    acts.append(Act("send", "bi/police", "bi.case.iom", "update", "none.such"))
    verdicts = {(verdict.rule, verdict.ok) for verdict in (may(act, registry) for act in acts)}
    assert len(verdicts) > 20
    own = ("event.x.basis", "event.x.agreement", "agreement.*", "agreement.x.until", "agreement.voluntary")
    verdicts |= {(rule, False) for rule in (*own, "agreement.origin", "authorisations.*", "authorisations.tn.child")}
    verdicts |= {("event.x.as", False), ("attach.*", False), ("attach.referral.requested.to", False)}
    for rule, ok in verdicts:
        for language in ("fr", "en"):
            words = words_of(rule, ok, "fr" if language == "fr" else "en")
            assert words.why.strip()
            assert "{code}" not in words.why, rule  # its own words, not the last resort's
            assert bool(words.change) is not ok


def test_the_line_of_a_rule_is_found_for_every_member_of_the_policy() -> None:
    text = read_together("topics", "policy")
    for name, rule in policy().events.items():
        there = [member for member, is_there in (("basis", rule.basis), ("as", rule.said_as)) if is_there]
        for member in ("flow", "kind", "by", "from", "to", *there):
            line = line_of(f"event.{name}.{member}")
            assert line is not None, (name, member)
            assert line.text in text
    for flow in policy().mailboxes:
        assert line_of(f"flow.{flow}.mailbox") is not None
    for name in policy().attach:
        assert line_of(f"attach.{name}.to") is not None
    assert line_of("event.*") is None
