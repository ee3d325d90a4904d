# SPDX-License-Identifier: Apache-2.0
"""Undocumented is a failing test, and so is a document that says what is not so."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
import typer.main
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.testing import CliRunner

from adapters.connectors import answers, kobo_form
from adapters.connectors.folder import JOURNAL, READ_ME, TEMPLATE, TEMPLATE_CSV, TRACKING
from adapters.connectors.places import Names
from adapters.keystore import Keys, write_keys
from adapters.settings import AgencySettings
from gateway.access import ASSERTION_TYPE, Access
from gateway.settings import Settings as GatewaySettings
from schemas.errors import CODES
from schemas.event_types import EVENTS
from schemas.keys import SigningKey
from schemas.registry import empty_registry
from tests.command_lines import parse
from tests.domain import NOW, seeded
from tests.test_deploy import bridge_names, ledger_names, sample_names
from umuhuza.cli import build
from umuhuza.ledger_settings import LedgerSettings
from umuhuza.publish import DOCS, pages_differing
from umuhuza.settings_words import SETTINGS_FR

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {
    "operations.md": "fr/exploitation.md",
    "operations/kafka.md": "fr/exploitation-kafka.md",
    "operations/witness.md": "fr/exploitation-temoins.md",
    "operations/ledger.md": "fr/exploitation-registre-de-preuve.md",
    "operations/bridge.md": "fr/exploitation-pont.md",
    "operations/usb.md": "fr/exploitation-cle-usb.md",
    "operations/keys.md": "fr/exploitation-cles.md",
    "audit.md": "fr/verifier-le-journal.md",
    "caseworker.md": "fr/guide-intervenant.md",
    "commands.md": "fr/commandes.md",
    "examples/README.md": "fr/exemples.md",
    "demo.md": "fr/demonstration.md",
    "sandbox.md": "fr/bac-a-sable.md",
    "verify/README.md": "verify/LISEZ-MOI.md",
}
"""Pages that stand in English and in French."""


@cache
def tracked() -> tuple[str, ...]:
    """Files of the repository; new ones that are not ignored are held to the same."""
    ran = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return tuple(name for name in ran.stdout.splitlines() if (ROOT / name).is_file())


def pages() -> list[Path]:
    return sorted(ROOT / name for name in tracked() if name.endswith(".md"))


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Everything is there


def commands() -> Iterator[tuple[str, object]]:
    """`umuhuza registry init` -> command, for all of them."""
    waiting: list[tuple[str, object]] = [("umuhuza", typer.main.get_command(build()))]
    while waiting:
        name, command = waiting.pop()
        yield name, command
        if isinstance(command, TyperGroup):
            waiting += [(f"{name} {child}", found) for child, found in command.commands.items()]


@pytest.mark.parametrize("page", ["commands.md", "fr/commandes.md"])
def test_every_command_option_and_argument_is_described(page: str) -> None:
    sections = re.split(r"^#{2,3} ", text(page), flags=re.MULTILINE)
    found = {section.partition("\n")[0]: section for section in sections}
    for name, command in commands():
        assert name in found, name
        for one in getattr(command, "params", ()):
            if isinstance(one, TyperOption) and "completion" not in (one.name or ""):
                assert f"`{one.opts[0]}`" in found[name], (name, one.opts)
            if isinstance(one, TyperArgument):
                assert f"`{(one.name or '').upper()}`" in found[name], (name, one.name)


@pytest.mark.parametrize(
    "pages_told",
    [
        (
            "operations.md",
            *(f"operations/{name}.md" for name in ("bridge", "kafka", "keys", "ledger", "usb", "witness")),
            "audit.md",
        ),
        (
            "fr/exploitation.md",
            "fr/exploitation-kafka.md",
            "fr/exploitation-cles.md",
            "fr/exploitation-registre-de-preuve.md",
            "fr/exploitation-temoins.md",
            "fr/exploitation-pont.md",
            "fr/exploitation-cle-usb.md",
            "fr/verifier-le-journal.md",
        ),
    ],
)
def test_what_an_operator_does_is_told_with_its_command(pages_told: tuple[str, ...]) -> None:
    told = "".join(map(text, pages_told))
    for name, command in commands():
        if isinstance(command, TyperGroup) or name in (
            *("umuhuza demo", "umuhuza sandbox", "umuhuza bench", "umuhuza agency send"),
        ):
            continue
        assert name in told, name


def test_every_setting_is_described_in_both_languages() -> None:
    rows = text("settings.md")
    for model, kind in ((AgencySettings, "agency"), (GatewaySettings, "gateway"), (LedgerSettings, "ledger")):
        assert SETTINGS_FR[kind].keys() == set(model.model_fields)
        for name, field in model.model_fields.items():
            assert field.description
            assert re.search(rf"^\| `{name}` \|.*{re.escape(field.description)} \|$", rows, re.MULTILINE), name


def test_every_error_code_is_described_in_both_languages() -> None:
    page = text("errors.md")
    for code, meaning in CODES.items():
        section = page.partition(f"\n## {code}\n")[2].partition("\n## ")[0]
        for words in (meaning.title_fr, meaning.title_en, meaning.advice_fr, meaning.advice_en):
            assert words in section, code


def test_every_event_type_is_described() -> None:
    page = text("events.md")
    for name in EVENTS:
        assert f"| `{name}` |" in page


@pytest.mark.parametrize("page", ["operations.md", "fr/exploitation.md"])
def test_every_metric_is_described_and_no_other(page: str) -> None:
    made = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in sample_names()}
    made -= {name.removesuffix("_total") for name in made if name.endswith("_total")}
    assert set(re.findall(r"^\| `(umuhuza_gateway_\w+)` \|", text(page), re.MULTILINE)) == made


@pytest.mark.parametrize("page", ["operations/ledger.md", "fr/exploitation-registre-de-preuve.md"])
def test_every_metric_of_the_ledger_is_described_and_no_other(page: str) -> None:
    assert set(re.findall(r"`(umuhuza_ledger_\w+)`", text(page))) == ledger_names()


@pytest.mark.parametrize("page", ["operations/bridge.md", "fr/exploitation-pont.md"])
def test_every_metric_of_the_bridge_is_described_and_no_other(page: str) -> None:
    assert set(re.findall(r"^\| `(umuhuza_bridge_\w+)` \|", text(page), re.MULTILINE)) == bridge_names()


def test_both_languages_say_the_same() -> None:
    """As far as a machine can tell: the same headings, tables, code and codes."""
    for english, french in PAIRS.items():
        shapes = []
        for page in (text(english), text(french)):
            headings = [line.split(" ")[0] for line in page.splitlines() if line.startswith("#")]
            rows = sum(line.startswith("|") for line in page.splitlines())
            shapes.append((headings, rows, [code for _, code in fenced(page)]))
        assert shapes[0] == shapes[1], english


def test_every_threat_names_tests_that_there_are() -> None:
    named = set(re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", text("../SECURITY.md")))
    assert len(named) > 60
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text("utf-8")]
    assert missing == []


@pytest.mark.parametrize("page", ["caseworker.md", "fr/guide-intervenant.md"])
def test_a_caseworker_finds_every_folder_and_every_step(page: str) -> None:
    told = text(page)
    names = Names()
    for name in (
        names.to_send,
        names.sent,
        names.refused,
        names.reports,
        names.received,
        TEMPLATE,
        TEMPLATE_CSV,
        TRACKING,
    ):
        assert name in told
    assert {JOURNAL, READ_ME}.isdisjoint(told.split())
    for step in answers.STEPS:
        assert f"| {step.fr if page.startswith('fr/') else step.en} |" in told
    assert answers.SHEET in told


def test_every_question_that_kobo_calls_otherwise_is_told() -> None:
    told = text("connectors.md")
    for asked, name in kobo_form.RENAMED.items():
        assert f"| `{asked}` | `{name}` |" in told
    for name in (*kobo_form.MULTIPLE_IN_FORM_ONLY, *kobo_form.FREE_TEXT_IN_FORM, *kobo_form.MISLABELLED):
        assert f"`{name}`" in told


def test_every_route_is_told_to_integrators() -> None:
    told = text("integrate.md") + text("operations.md")
    for path in orjson.loads((DOCS / "openapi.json").read_bytes())["paths"]:
        assert path in told or path == "/v1/records", path
    assert "$GATEWAY/v1/records" in told


# ---------------------------------------------------------------------------------------------------------------------
# What is said is so


def test_the_reference_pages_are_what_the_code_makes() -> None:
    assert pages_differing(DOCS) == []


def _anchors(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in found}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
    for link in links:
        if link.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = page if not file else (page.parent / file).resolve()
        assert target.exists(), link
        assert target.is_dir() or any(target == ROOT / name for name in tracked()), link
        if anchor:
            assert anchor in _anchors(target), link


def test_every_page_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    pages_of_docs = {page for page in pages() if page.is_relative_to(DOCS) and page.parent.name != "decisions"}
    assert pages_of_docs <= seen


def test_decisions_are_numbered_and_have_their_four_parts() -> None:
    found = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [path.name[:4] for path in found]
    assert numbers[:26] == [f"{number:04}" for number in range(1, 27)]
    assert len(set(numbers)) == len(numbers), "a number is given once, when work on the decision begins"
    for path in found:
        said = path.read_text(encoding="utf-8")
        assert said.startswith(f"# {path.name[:4]}. ")
        parts = [said.find(f"**{part}.**") for part in ("Context", "Options", "Decision", "Consequences")]
        assert parts == sorted(parts), path.name
        assert -1 not in parts, path.name


def test_tests_that_are_named_exist() -> None:
    for page in pages():
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (page.name, name)


def test_source_files_that_are_named_exist() -> None:
    named = re.compile(r"`((?:schemas|topics|adapters|gateway|umuhuza|tests|deploy|docs)/[\w/.@-]+\.\w+)`")
    for page in pages():
        for file in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / file).exists(), (page.name, file)


# ---------------------------------------------------------------------------------------------------------------------
# Commands that are shown


def fenced(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return [(one[0], one[1]) for one in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]


def command_lines(page: Path) -> list[str]:
    """Every line of a code block, and every code span, that begins with `umuhuza` and a command."""
    said = page.read_text(encoding="utf-8")
    blocks = [line.strip() for line in said.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", said)
    found = []
    for line in (*blocks, *spans):
        bare = line.removeprefix(".venv/bin/")
        if re.match(r"umuhuza [a-z-]", bare):
            found.append(bare.partition("  #")[0])
    return found


@pytest.mark.parametrize(
    "page", [page for page in pages() if command_lines(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_that_are_shown_are_commands(page: Path) -> None:
    names = {name for name, _ in commands()}
    for line in command_lines(page):
        if line in names or "…" in line:  # a command's name, not a call
            continue
        if re.fullmatch(r"umuhuza( [a-z]+){1,2} `?.*", line) is None:
            continue
        words = shlex.split(line)
        if " ".join(words[:3]) not in names and " ".join(words[:2]) not in names:
            continue  # words of a sentence
        parse(words[1:])


def test_a_command_that_is_none_is_seen() -> None:
    from typer._click.exceptions import UsageError

    for wrong in (["registry", "agree"], ["registry", "renew", "--folder", "x"], ["registry", "init", "--dir", "x"]):
        with pytest.raises(UsageError):
            parse(wrong)


@pytest.mark.parametrize("page", ["operations.md", "fr/exploitation.md"])
def test_a_domain_is_brought_up_as_the_page_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `sh` block in order, in an empty folder; what would run for ever is read and not run."""
    monkeypatch.chdir(tmp_path)
    runner, app, key, done = CliRunner(), build(), "", []
    for language, block in fenced(text(page)):
        assert language == "sh"
        for line in block.splitlines():
            if line.startswith("KEY=$("):
                ran = runner.invoke(app, ["registry", "show", "--dir", "registre", "--json"])
                key = orjson.loads(ran.stdout)["registry_root"]
                continue
            words = shlex.split(line.replace('"$KEY"', key))
            parse(words[1:])
            if words[1:3] == ["registry", "init"]:
                words.append("--no-passphrase")  # nobody types one here; it would be opened at each step
            if words[2] != "run":
                ran = runner.invoke(app, words[1:])
                assert ran.exit_code == 0, (line, ran.output)
                done.append(words[1:3])
    assert [name for _, name in done].count("add") == 3
    assert ["registry", "renew"] in done
    assert {path.name for path in tmp_path.iterdir()} == {"registre", "passerelle", "iom", "k7t4"}


def test_the_example_assertion_is_taken_by_the_gateway(tmp_path: Path) -> None:
    keys = Keys.generate("bi/iom", seeded("docs"))
    write_keys(tmp_path / "keys.json", keys)
    example = runpy.run_path(str(DOCS / "examples" / "assertion.py"))
    made = example["assertion"]((tmp_path / "keys.json").read_text(encoding="ascii"), NOW)
    registry = empty_registry("bi", NOW).with_agency(keys.enrolment({"fr": "OIM"}, ("screener",), False, NOW), NOW)
    access = Access(SigningKey.generate(seeded("gateway")), "bi/operator", seeded("random"))
    form = f"grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}&client_assertion={made}"
    token = access.issue(form.encode("ascii"), registry, NOW)
    assert access.check(f"Bearer {token.text}".encode("ascii"), registry, NOW).agency == "bi/iom"


# ---------------------------------------------------------------------------------------------------------------------
# What must not be there


ABSENT = (
    r"\bdoctor\b",
    r"\bPrimero\b",
    r"\bDHIS2\b",
    r"\bPostgreSQL\b",
)
"""What this version does not have. A page that promises it misleads; whoever builds it takes it from this list."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_told_that_is_not_there(page: Path) -> None:
    if page.parent.name == "decisions" or page.name == "errors.md":
        return  # options that lost are named there; codes are kept for parts of the format not in use yet
    said = page.read_text(encoding="utf-8")
    assert [word for word in ABSENT if re.search(word, said)] == []


def prose(page: str) -> str:
    """Without code and links' targets."""
    blocks = re.sub(r"^```.*?^```|^ {4}.*?$", "", page, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", blocks)


def test_french_has_french_words() -> None:
    for page in (DOCS / "fr").glob("*.md"):
        if page.name != "commandes.md":
            said = prose(page.read_text(encoding="utf-8")).lower()
            assert re.findall(r"\btrafic|\bgateway\b|\blogs?\b|\bbackup|\breferral|\boutbox|\binbox", said) == [], (
                page.name
            )


def test_no_file_names_an_index_or_a_machine() -> None:
    """An index address or a path of somebody's machine in a file would be wrong everywhere else."""
    wrong = re.compile(
        rb"(?:index-url|find-links|registry)\s*[=:]\s*[\"']?https?://|\"resolved\": ?\"https?://|/(?:home|Users)/[a-z]+/"
    )
    here = [str(path).encode() for path in (ROOT, Path.home()) if len(path.parts) > 1]
    files = [ROOT / name for name in tracked() if name != "tests/test_docs.py"]
    assert [p.name for p in files if p.is_file() and any(word + b"/" in p.read_bytes() for word in here)] == []
    assert [path.name for path in files if path.is_file() and wrong.search(path.read_bytes())] == []


def test_the_picture_is_one_and_has_words_for_who_cannot_see_it() -> None:
    picture = ElementTree.parse(DOCS / "overview.svg").getroot()
    names = {child.tag.rpartition("}")[2] for child in picture}
    assert {"title", "desc", "text"} <= names
    width = float(picture.attrib["viewBox"].split()[2])
    assert width <= 420, "text would be too small on a telephone"
