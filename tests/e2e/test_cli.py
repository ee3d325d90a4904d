# SPDX-License-Identifier: Apache-2.0
"""The command line as an IT officer types it: help, exit codes, JSON, and every wrong thing that is easily typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from schemas.errors import CODES
from tests.e2e.commands import Done, environment, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, on_one_log, referral, workbook
from tests.e2e.shell import Shell
from umuhuza.kafka.certificates import Authority

COMMANDS: dict[tuple[str, ...], bool] = {
    ("demo",): True,
    ("sandbox",): True,
    ("bench",): True,
    ("registry", "init"): True,
    ("registry", "add"): True,
    ("registry", "approve"): True,
    ("registry", "words"): True,
    ("registry", "ledger"): True,
    ("registry", "revoke"): True,
    ("registry", "renew"): True,
    ("registry", "show"): True,
    ("registry", "holder"): True,
    ("registry", "protect"): True,
    ("registry", "rotate"): True,
    ("registry", "sign"): True,
    ("registry", "export"): True,
    ("registry", "agree"): True,
    ("registry", "agreement", "draft"): True,
    ("registry", "agreement", "read"): True,
    ("registry", "agreement", "compare"): True,
    ("registry", "policy"): True,
    ("registry", "import"): True,
    ("gateway", "init"): True,
    ("gateway", "run"): False,
    ("gateway", "restored"): True,
    ("gateway", "protect"): True,
    ("gateway", "import"): True,
    ("gateway", "sealing-key"): True,
    ("ledger", "init"): True,
    ("ledger", "run"): False,
    ("ledger", "status"): True,
    ("ledger", "retention"): True,
    ("ledger", "protect"): True,
    ("audit", "verify"): True,
    ("audit", "export"): True,
    ("audit", "report"): True,
    ("kafka", "up"): True,
    ("kafka", "fetch"): True,
    ("kafka", "down"): True,
    ("kafka", "status"): True,
    ("kafka", "issue"): True,
    ("kafka", "restored"): True,
    ("kafka", "prepare"): True,
    ("kafka", "apply"): True,
    ("kafka", "strimzi"): True,
    ("log", "move"): True,
    ("witness", "init"): True,
    ("witness", "add-log"): True,
    ("witness", "protect"): True,
    ("witness", "run"): False,
    ("witness", "status"): True,
    ("witness", "trust"): True,
    ("witness", "run-once"): True,
    ("bridge", "excerpt"): True,
    ("bridge", "add"): True,
    ("bridge", "run"): True,
    ("bridge", "status"): True,
    ("agency", "services"): True,
    ("agency", "publish-service"): True,
    ("agency", "beds"): True,
    ("agency", "init"): True,
    ("agency", "agree"): True,
    ("agency", "enrol"): True,
    ("agency", "lost"): True,
    ("agency", "renew"): True,
    ("agency", "words"): True,
    ("agency", "protect"): True,
    ("agency", "run"): False,
    ("agency", "status"): True,
    ("agency", "notices", "test"): True,
    ("agency", "send"): True,
    ("agency", "refusals"): True,
    ("agency", "inbox"): True,
    ("agency", "outbox"): True,
    ("agency", "retry"): True,
    ("agency", "cancel"): True,
    ("agency", "template"): True,
    ("agency", "attachments"): True,
    ("agency", "correct"): True,
    ("agency", "export"): True,
    ("agency", "import"): True,
    ("agency", "carry"): True,
    ("agency", "retract"): True,
    ("agency", "erase"): True,
    ("agency", "erasures"): True,
    ("agency", "proofs"): True,
    ("agency", "disclosures"): True,
    ("agency", "disclose"): True,
    ("agency", "refuse-disclosure"): True,
    ("agency", "disclosed"): True,
    ("agency", "reviews"): True,
    ("agency", "review"): True,
    ("agency", "registry"): True,
    ("agency", "consents"): True,
    ("agency", "withdraw"): True,
    ("agency", "link"): True,
    ("agency", "children"): True,
    ("agency", "ticket"): True,
    ("agency", "access", "request"): True,
    ("agency", "access", "list"): True,
    ("agency", "access", "show"): True,
    ("agency", "access", "answer"): True,
    ("agency", "access", "sheet"): True,
    ("agency", "guidance", "publish"): True,
    ("agency", "guidance", "list"): True,
    ("agency", "guidance", "show"): True,
    ("agency", "guidance", "acknowledge"): True,
    ("agency", "contacts", "publish"): True,
    ("agency", "contacts", "list"): True,
    ("agency", "expertise", "ask"): True,
    ("agency", "expertise", "answer"): True,
    ("agency", "expertise", "list"): True,
    ("statistics", "release"): True,
    ("statistics", "build"): True,
    ("policy", "explain"): True,
    ("policy", "show"): True,
    ("config", "show"): True,
}
"""Every command, and whether it has a result (`--json`); the others run until they are stopped."""

MEMBERS = (
    Member("bi/iom", ("screener", "assistance", "facilitator")),
    Member("bi/k7t4", ("assistance", "shelter"), protected=True, folder=False),
)


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory, log: str) -> Iterator[DomainOnDisk]:
    """A gateway that runs, and an agency that has met it and does not run."""
    with DomainOnDisk.made(tmp_path_factory.mktemp("cli") / "bi", MEMBERS, log=log) as made:
        made.start_agency("bi/iom")
        made.stop("iom")
        yield made


def said(done: Done) -> str:
    """What a person reads, whatever the width of the terminal."""
    assert "Traceback" not in done.err
    return " ".join((done.out + done.err).replace("│", " ").split())


# -- help -------------------------------------------------------------------------------------------------------------


def test_every_command_is_in_the_table(sh: Shell) -> None:
    """By the command line's own tree, so that a new command cannot be forgotten here."""
    program = (
        "import json, typer; from umuhuza.cli import build; from typer.main import get_command\n"
        "def walk(c, at):\n"
        "    if hasattr(c, 'commands'):\n"
        "        return {k: v for n, o in c.commands.items() for k, v in walk(o, [*at, n]).items()}\n"
        "    return {' '.join(at): any('--json' in p.opts for p in c.params)}\n"
        "print(json.dumps(walk(get_command(build()), [])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {" ".join(command): has for command, has in COMMANDS.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself_in_both_languages(sh: Shell, command: tuple[str, ...]) -> None:
    french = sh(*command, "--help")
    english = sh(*command, "--help", language="en")
    assert (french.code, english.code) == (0, 0)
    assert said(french) != said(english)
    assert said(french).startswith("Usage: umuhuza " + " ".join(command))
    assert "Montre cette aide" in said(french)
    assert not {"Show", "Install"} & set(said(french).split())
    assert "Show this message and exit." in said(english)
    assert described(french) != described(english)
    assert min(len(described(french)), len(described(english))) > 10


def described(done: Done) -> str:
    """The sentence under the usage line."""
    lines = [line.strip() for line in done.out.splitlines() if line.strip()]
    return lines[1]


@pytest.mark.parametrize(
    ("locale", "word"),
    [
        ({"LANG": "ar"}, "Montre cette aide"),
        ({"LANG": "ar_TN.UTF-8"}, "Montre cette aide"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "rn_BI.UTF-8"}, "Montre cette aide"),
        ({"UMUHUZA_LANG": "ar"}, "Montre cette aide"),
        ({"LANG": "ar_TN", "PYTHONIOENCODING": "iso8859-6"}, "Montre cette aide"),
        ({"LANG": "de_DE.UTF-8"}, "Show this message and exit."),
    ],
    ids=str,
)
def test_arabic_and_kirundi_locales_get_french_and_no_error(locale: dict[str, str], word: str) -> None:
    unset = ("UMUHUZA_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    others = {name: value for name, value in environment().items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "umuhuza", "agency", "ticket", "--help"],
        env={**others, **locale},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert word in done.stdout


def test_lang_on_the_line_wins_over_the_environment() -> None:
    """Really as installed: the console script."""
    script = Path(sys.executable).with_name("umuhuza")
    for language, word in (("fr", "Le registre du domaine"), ("en", "The domain's registry")):
        other = environment("en" if language == "fr" else "fr")
        done = subprocess.run(
            [script, "--lang", language, "registry", "--help"], env=other, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert word in done.stdout
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout.count(".") == 2


# -- what is typed wrongly --------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[list[str], str, str]] = {
    "an unknown command": (["demonstration"], "La commande « demonstration » n'existe pas", "No such command"),
    "an unknown subcommand": (["agency", "inbxo"], "Plutôt 'inbox' ?", "Did you mean 'inbox'?"),
    "an unknown option": (
        ["agency", "outbox", "--dirr", "x"],
        "L'option --dirr n'existe pas",
        "No such option: --dirr",
    ),
    "no folder": (["agency", "outbox"], "Il manque l'option --dir", "Missing option '--dir'"),
    "no value": (["registry", "show", "--dir"], "L'option --dir attend une valeur", "requires an argument"),
    "no argument": (["registry", "add", "--dir", "x"], "Il manque l'argument", "Missing argument"),
    "too much": (["bench", "x"], "De trop sur la ligne : x", "unexpected extra argument"),
    "no number": (["bench", "--rounds", "beaucoup"], "attendu un nombre entier", "valid integer"),
    "too small a number": (["bench", "--events", "3"], "400 au moins", "greater than or equal to 400"),
    "a folder without an agency": (
        ["agency", "inbox", "--dir", "{empty}"],
        "Réglages : pas de fichier agency.toml dans",
        "Settings: there is no agency.toml in",
    ),
    "a folder without a gateway": (
        ["gateway", "run", "--dir", "{empty}"],
        "pas de fichier gateway.toml dans",
        "there is no gateway.toml in",
    ),
    "a gateway that runs already": (
        ["gateway", "run", "--dir", "{gateway}", "--port", "0"],
        "arrêtez-le d'abord",
        "end that one first",
    ),
    "a folder without a registry": (
        ["registry", "show", "--dir", "{empty}"],
        "pas de registre dans ce dossier",
        "no registry in this folder",
    ),
    "a folder without settings": (
        ["config", "show", "--dir", "{empty}"],
        "ni agency.toml, ni gateway.toml, ni ledger.toml dans ce dossier",
        "no agency.toml, gateway.toml or ledger.toml in this folder",
    ),
    "a request that is not there": (
        ["registry", "add", "{empty}/rien.json", "--dir", "{registry}"],
        "ce fichier n'existe pas",
        "there is no such file",
    ),
    "a file that is not there": (
        ["agency", "send", "{empty}/rien.xlsx", "--dir", "{iom}"],
        "ce fichier n'existe pas",
        "there is no such file",
    ),
    "a folder where a file is wanted": (
        ["agency", "send", "{empty}", "--dir", "{iom}"],
        "c'est un dossier ; nommez un de ses fichiers",
        "this is a folder; name one of its files",
    ),
    "a registry in the folder of an agency": (
        ["registry", "show", "--dir", "{iom}"],
        "ce dossier n'est pas celui d'un détenteur du registre",
        "this folder is not that of a holder of the registry",
    ),
    "a wrong domain": (
        ["registry", "init", "--dir", "{empty}/r", "--domain", "Burundi"],
        "deux lettres minuscules, comme bi",
        "two small letters, such as bi",
    ),
    "a domain's key that is there": (
        ["registry", "init", "--dir", "{registry}", "--domain", "bi"],
        "rien n'est jamais écrasé",
        "nothing is ever overwritten",
    ),
    "a gateway's key that is there": (
        [
            "gateway",
            "init",
            "--dir",
            "{gateway}",
            *["--registry", "r", "--agency", "bi/operator", "--registry-root", "{key}"],
        ],
        "une clé de passerelle s'y trouve déjà",
        "a gateway key is there already",
    ),
    "an agency's keys that are there": (
        ["agency", "init", "--dir", "{iom}", *["--agency", "bi/iom", "--name", "X", "--role", "assistance"], "{to}"],
        "elles ne sont jamais écrasées",
        "they are never overwritten",
    ),
    "a wrong role": (
        ["agency", "init", "--dir", "{empty}/a", *["--agency", "bi/x", "--name", "X", "--role", "asistance"], "{to}"],
        "rôle inconnu ; connus : front-line",
        "unknown role; known: front-line",
    ),
    "a wrong agency": (
        ["agency", "init", "--dir", "{empty}/a", "--agency", "O I M", *["--name", "X", "--role", "assistance"], "{to}"],
        "réglages absents ou fautifs : agency (pas de la forme voulue, par exemple bi/iom)",
        "settings are missing or wrong: agency (not of its form, such as bi/iom)",
    ),
    "a wrong registry key": (
        [
            "gateway",
            "init",
            "--dir",
            "{empty}/g",
            *["--registry", "r", "--agency", "bi/operator", "--registry-root", "abc"],
        ],
        "registry_root : ce n'est pas l'empreinte d'une racine",
        "registry_root: not the fingerprint of a root",
    ),
    "an unknown event": (
        ["agency", "cancel", "abcdef123456", "--dir", "{iom}"],
        "aucun envoi de ce nom",
        "no such item",
    ),
    "a form of another kind": (
        ["agency", "template", "{empty}/f.docx", "--dir", "{iom}"],
        "un nom en .xlsx ou .csv",
        "a name that ends in .xlsx or .csv",
    ),
    "another language": (["--lang", "de", "bench"], "attendu fr ou en", "expected fr or en"),
    "another part": (["bench", "--part", "foo"], "attendu 'all', 'audit', 'link'", "'all', 'audit', 'link'"),
    "a form into nowhere": (
        ["agency", "template", "{empty}/rien/f.xlsx", "--dir", "{iom}"],
        "Le système refuse : ce fichier ou ce dossier n'existe pas",
        "The system refuses: No such file or directory",
    ),
}


def typed(domain: DomainOnDisk, words: list[str], empty: Path) -> list[str]:
    places = {
        "empty": empty,
        "registry": domain.registry_folder,
        "gateway": domain.gateway_folder,
        "iom": domain.folder("bi/iom"),
        "key": domain.root_key,
    }
    to = ["--gateway", domain.address, "--registry-root", domain.root_key]
    return [one for word in words for one in (to if word == "{to}" else [word.format(**places)])]


@pytest.mark.parametrize("what", WRONG)
@on_one_log
def test_what_is_typed_wrongly_ends_with_2_and_one_sentence(
    sh: Shell, domain: DomainOnDisk, tmp_path: Path, what: str
) -> None:
    words, french, english = WRONG[what]
    arguments = typed(domain, words, tmp_path)
    done = sh(*arguments)
    assert done.code == 2, done.err
    assert done.out == ""
    assert french in said(done)
    done = sh(*arguments, language="en")
    assert done.code == 2
    assert english in said(done)
    assert list(tmp_path.iterdir()) == []  # nothing is left half prepared
    if COMMANDS.get(tuple(words[:2])):
        done = sh(*arguments[:2], "--json", *arguments[2:])
        assert done.code == 2
        assert done.err == ""
        assert done.json["ok"] is False
        sentence = french.removeprefix("Réglages : ").removeprefix("Le système refuse : ")
        assert sentence in done.json["problem"]["title"].replace("\n", " ")
        assert done.json["problem"]["code"] in ("usage", "settings", "system")


@on_one_log
def test_an_id_that_begins_with_a_dash_is_no_option(sh: Shell, domain: DomainOnDisk) -> None:
    rest = ("--text", "-", "--dir", domain.folder("bi/iom"))
    for shown in ("-TbYnQ3l", "-TbYnQ3lxxxxxxxxxxxxxA"):
        for words in ((shown, *rest), (*rest, shown)):
            done = sh("agency", "expertise", "answer", *words)
            assert (done.code, "aucune question de ce nom" in done.err) == (2, True), done.err
    assert "L'option -T n'existe pas." in sh("agency", "expertise", "answer", "-TbYn", *rest).err
    assert "L'option --txt n'existe pas" in sh("agency", "expertise", "answer", "-TbYnQ3l", "--txt", "oui").err


@on_one_log
def test_a_form_that_is_filled_in_is_never_written_over(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    for name in ("orientation.xlsx", "orientation.csv"):
        form = tmp_path / name
        assert sh("agency", "template", form, "--dir", domain.folder("bi/iom")).code == 0
        form.write_bytes(filled := form.read_bytes() + b"filled in")
        done = sh("agency", "template", form, "--dir", domain.folder("bi/iom"))
        assert (done.code, "existe déjà" in said(done)) == (2, True)
        assert form.read_bytes() == filled


@on_one_log
def test_a_second_adapter_on_one_mailbox_is_refused_and_the_first_goes_on(sh: Shell, domain: DomainOnDisk) -> None:
    domain.start_agency("bi/iom")
    try:
        done = sh("agency", "run", "--dir", domain.folder("bi/iom"))
        assert (done.code, "arrêtez-le d'abord" in said(done)) == (2, True)
        assert sh("agency", "status", "--dir", domain.folder("bi/iom")).code == 0
    finally:
        domain.stop("iom")
    domain.start_agency("bi/iom")  # what ended is not in the way
    domain.stop("iom")


def test_a_command_group_alone_shows_its_help(sh: Shell) -> None:
    for group in ([], ["registry"], ["gateway"], ["agency"], ["agency", "guidance"], ["config"]):
        done = sh(*group)
        assert done.code == 2
        assert "Usage: umuhuza" in said(done)


# -- what is refused, and what has to wait ----------------------------------------------------------------------------


def refused(done: Done, code: str, exit_code: int = 1) -> None:
    assert done.code == exit_code, done.out + done.err
    problem = done.json["problem"]
    assert done.json["ok"] is False
    assert (problem["code"], problem["retriable"]) == (code, CODES[code].retriable)
    assert problem["title"] == CODES[code].title_fr
    assert problem["advice"] == CODES[code].advice_fr


@on_one_log
def test_a_refusal_ends_with_1_its_code_and_its_advice(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    registry = domain.registry_folder
    refused(sh("registry", "revoke", "bi/inconnue", "--dir", registry, "--json"), "agency_unknown")
    refused(sh("registry", "revoke", "bi/iom", "--kid", "abc", "--dir", registry, "--json"), "key_unknown")
    spoilt = tmp_path / "registre"
    spoilt.mkdir()
    for file in ("root", "registry.json"):
        data = bytearray((registry / file).read_bytes())
        data[-20] ^= 1 if file == "registry.json" else 0  # in the last member's entry
        (spoilt / file).write_bytes(data)
    refused(sh("registry", "show", "--dir", spoilt, "--json"), "registry_invalid")
    request = tmp_path / "inscription.json"
    request.write_text('{"id": "bi/Ndayishimiye", ')
    refused(sh("registry", "add", request, "--dir", registry, "--json"), "registry_invalid")
    draft = tmp_path / "brouillon.json"
    draft.write_text('{"to": "bi/k7t4", "Ndayishimiye": 1}')
    refused(sh("agency", "send", draft, "--dir", domain.folder("bi/iom"), "--json"), "row_invalid")
    for done in (
        sh("registry", "add", request, "--dir", registry),
        sh("agency", "send", draft, "--dir", domain.folder("bi/iom")),
    ):
        assert done.code == 1
        assert "→ " in done.err
        assert "Ndayishimiye" not in said(done)


@on_one_log
def test_what_has_to_wait_ends_with_3(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    new = tmp_path / "nouvelle"
    words = ["--agency", "bi/nouvelle", "--name", "Nouvelle (inventée)", "--role", "assistance"]
    done = sh("agency", "init", "--dir", new, *words, "--gateway", address, "--registry-root", domain.root_key)
    assert done.code == 0
    refused(sh("agency", "template", tmp_path / "f.xlsx", "--dir", new, "--json"), "unavailable", 3)
    assert not (tmp_path / "f.xlsx").exists()


@on_one_log
def test_a_gateway_that_cannot_start_says_why(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    port = domain.address.rpartition(":")[2]
    other = shutil.copytree(domain.gateway_folder, tmp_path / "other")
    done = sh("gateway", "run", "--dir", other, "--port", port)
    assert done.code == 2
    assert "pris par un autre programme" in said(done)
    words: list[str | Path] = [
        "--registry",
        domain.registry_folder / "registry.json",
        "--registry-root",
        domain.root_key,
    ]
    assert sh("gateway", "init", "--dir", tmp_path / "g", *words, "--agency", "bi/autre", "--json").json["ok"]
    done = sh("gateway", "run", "--dir", tmp_path / "g")
    assert done.code == 1
    assert CODES["agency_unknown"].title_fr in said(done)


@on_one_log
def test_a_gateway_without_its_brokers_says_so_and_ends(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    """As after a power cut, when it is up before they are: something to read, and something to start again."""
    folder, access = tmp_path / "gateway", tmp_path / "access"
    shutil.copytree(domain.gateway_folder, folder)
    access.mkdir()
    authority = Authority.make("invented", time.time())
    issued = authority.agency("bi/operator", time.time())
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        (access / "bootstrap").write_text(f"127.0.0.1:{nobody.getsockname()[1]}\n", encoding="ascii")
    for name, held in (("ca.pem", authority.pem), ("certificate.pem", issued.certificate), ("key.pem", issued.key)):
        (access / name).touch(mode=0o600)
        (access / name).write_bytes(held)
    settings = (folder / "gateway.toml").read_text(encoding="utf-8")
    over_kafka = re.sub(r"(?m)^log = .*$", f'kafka = "{access}"', settings)
    (folder / "gateway.toml").write_text(over_kafka, encoding="utf-8")
    done = sh("gateway", "run", "--dir", folder, "--port", "0")
    assert done.code == 3
    assert CODES["unavailable"].title_fr in done.err
    assert "Traceback" not in said(done)


# -- settings ---------------------------------------------------------------------------------------------------------


@on_one_log
def test_the_environment_wins_over_the_file_and_config_says_so(sh: Shell, domain: DomainOnDisk) -> None:
    folder = domain.folder("bi/iom")
    before = {row["name"]: row for row in sh("config", "show", "--dir", folder, "--json").json["settings"]}
    assert (before["language"]["value"], before["language"]["source"]) == ("fr", "file")
    done = sh("config", "show", "--dir", folder, "--json", UMUHUZA_AGENCY_LANGUAGE="en")
    after = {row["name"]: row for row in done.json["settings"]}
    assert (after["language"]["value"], after["language"]["source"]) == ("en", "environment")
    assert after["ca_file"]["source"] == "default"
    shown = said(sh("config", "show", "--dir", folder))
    assert "registry_seconds" in shown
    assert "d'office" in shown
    assert before["language"]["meaning"] == "Langue des rapports et des classeurs."
    in_english = sh("config", "show", "--dir", folder, "--json", language="en").json["settings"]
    assert "Language of reports and workbooks." in {row["meaning"] for row in in_english}
    secrets = json.loads((folder / "keys.json").read_text())
    assert secrets["sig"] not in shown
    gateway = sh("config", "show", "--dir", domain.gateway_folder, "--json", UMUHUZA_GATEWAY_PORT="9999").json
    assert gateway["kind"] == "gateway"
    assert {"name": "port", "value": "9999", "source": "environment"}.items() <= next(
        row for row in gateway["settings"] if row["name"] == "port"
    ).items()


@on_one_log
def test_an_unknown_setting_names_the_nearest_one(sh: Shell, domain: DomainOnDisk) -> None:
    folder = domain.folder("bi/iom")
    settings = folder / "agency.toml"
    kept = settings.read_text()
    try:
        settings.write_text(kept + 'langage = "en"\n')
        done = sh("agency", "outbox", "--dir", folder)
        assert done.code == 2
        assert "réglage inconnu ; le plus proche qui existe est « language »" in said(done)
        settings.write_text("ceci n'est pas du TOML")
        assert "n'est pas du TOML" in said(sh("agency", "outbox", "--dir", folder))
    finally:
        settings.write_text(kept)
    done = sh("agency", "outbox", "--dir", folder, UMUHUZA_AGENCY_GATEWAI="http://exemple.invalid")
    assert done.code == 2
    assert "UMUHUZA_AGENCY_GATEWAY" in said(done)
    done = sh("agency", "outbox", "--dir", folder, UMUHUZA_AGENCY_WAIT_SECONDS="longtemps", language="en")
    assert "wait_seconds" in said(done)
    assert "longtemps" not in said(done)


# -- the work ---------------------------------------------------------------------------------------------------------


def draft(name: str) -> dict[str, object]:
    return {
        "to": "bi/k7t4",
        "type": "referral.requested",
        "person": "OIM-2026-099",
        "facts": {
            "occurred_at": "2026-11-01T08:00:00Z",
            "lawful": {
                "basis": "consent",
                "consent": {"given_at": "2026-11-01T08:00:00Z", "expires_at": "2035-11-01T08:00:00Z"},
            },
            "referral": {
                "priority": "urgent",
                "name": {"as_given": name},
                "birth": {"precision": "year", "date": "1999"},
                "services": ["SocialCare"],
            },
        },
    }


def test_one_agencys_day_at_the_command_line(sh: Shell, domain: DomainOnDisk, tmp_path: Path) -> None:
    folder = domain.folder("bi/iom")
    here = ("--dir", folder, "--json")
    # Forms.
    for name in ("formulaire.xlsx", "formulaire.csv"):
        assert sh("agency", "template", tmp_path / name, *here).json == {"ok": True, "file": str(tmp_path / name)}
        assert (tmp_path / name).stat().st_size > 500
    # Three ways to send.
    book = tmp_path / "classeur.xlsx"
    book.write_bytes(workbook([referral("Ines Inventée"), referral("Jean Inventé", prs_Birthdate="31/02/2001")]))
    done = sh("agency", "send", book, *here)
    assert done.code == 1  # one of its rows is refused, the other is taken
    [good], [bad] = done.json["accepted"], done.json["refused"]
    assert bad["code"] == "row_invalid"
    assert "31 février" in bad["message"]
    table = tmp_path / "table.csv"
    row = referral("Carine Inventée")
    table.write_text("\r\n".join([";".join(row), ";".join(f'"{cell}"' for cell in row.values()), ""]), encoding="utf-8")
    done = sh("agency", "send", table, *here)
    assert done.code == 0, done.out
    file = tmp_path / "brouillon.json"
    file.write_bytes(orjson.dumps(draft("Divine Inventée")))
    done = sh("agency", "send", file, *here)
    assert done.code == 0, done.out
    [by_json] = done.json["accepted"]
    assert not by_json["again"]
    assert sh("agency", "send", file, *here).json["accepted"] == [{**by_json, "again": True}]
    # What is going out; one is taken back.
    items = sh("agency", "outbox", *here).json["items"]
    assert [item["state"] for item in items] == ["waiting"] * 3
    assert good["evt"] in {item["evt"] for item in items}
    short = by_json["evt"][-12:]
    assert sh("agency", "cancel", short, "--dry-run", *here).json == {
        "ok": True, "evt": by_json["evt"], "state": "waiting", "dry_run": True,
    }  # fmt: skip
    assert sh("agency", "cancel", short, *here).json["state"] == "cancelled"
    done = sh("agency", "cancel", short, *here)
    assert (done.code, done.json["ok"]) == (1, False)
    shown = sh("agency", "outbox", "--dir", folder, TZ="Asia/Tokyo").out
    assert "Inventé" not in shown
    # Times are those of the agency's zone, as in its workbooks, whatever the computer's.
    assert shown == sh("agency", "outbox", "--dir", folder, TZ="America/Lima").out
    # Off they go.
    domain.start_agency("bi/iom")
    domain.start_agency("bi/k7t4")
    until("both are there", lambda: {item["state"] for item in sh("agency", "outbox", *here).json["items"]} == {
        "cancelled", "delivered",
    })  # fmt: skip
    assert sh("agency", "outbox", "--waiting", *here).json["items"] == []
    assert sh("agency", "retry", *here).json == {"ok": True, "retried": 0}
    done = sh("agency", "cancel", good["evt"], "--dir", folder)
    assert done.code == 1
    assert "Téléphonez au destinataire" in said(done)
    # What has arrived, at the other end.
    there = sh("agency", "inbox", "--dir", domain.folder("bi/k7t4"), "--json").json["items"]
    assert [(item["from"], item["type"], item["state"]) for item in there] == [
        ("bi/iom", "referral.requested", "delivered")
    ] * 2
    shown = said(sh("agency", "inbox", "--dir", domain.folder("bi/k7t4")))
    assert shown.count("referral.requested ← bi/iom") == 2
    assert "Inventé" not in shown
    domain.stop("iom")
    domain.stop("k7t4")


@on_one_log
def test_the_registry_is_renewed_shown_and_revoked_with_care(sh: Shell, domain: DomainOnDisk) -> None:
    here = ("--dir", domain.registry_folder)
    first = sh("registry", "show", *here, "--json").json
    assert first["registry_root"] == domain.root_key
    assert {agency["id"] for agency in first["agencies"]} == {"bi/operator", "bi/iom", "bi/k7t4"}
    tried = sh("registry", "revoke", "bi/k7t4", *here, "--dry-run", "--json").json
    assert (len(tried["revoked"]), tried["dry_run"]) == (2, True)
    words = said(sh("registry", "revoke", "bi/k7t4", *here, "--dry-run"))
    assert "Clé qui serait révoquée" in words
    assert "Rien n'a été changé" in words
    assert sh("registry", "show", *here, "--json").json == first
    assert sh("registry", "renew", *here, "--json").json["version"] == first["version"] + 1
    done = sh("registry", "revoke", "bi/k7t4", "--kid", tried["revoked"][0], *here, "--json").json
    assert done["revoked"] == tried["revoked"][:1]
    keys = {
        key["kid"]: key["counts"]
        for agency in sh("registry", "show", *here, "--json").json["agencies"]
        if agency["id"] == "bi/k7t4"
        for key in agency["keys"]
    }
    assert keys == {tried["revoked"][0]: False, tried["revoked"][1]: True}
    assert "bi/k7t4" in said(sh("registry", "show", *here))


def test_a_new_domain_is_made_with_the_commands_alone(sh: Shell, tmp_path: Path) -> None:
    registry, gateway, agency = (tmp_path / name for name in ("registre", "passerelle", "agence"))
    made = sh("registry", "init", "--dir", registry, "--domain", "bi", "--no-passphrase", "--json").json
    assert made["fingerprint"].count(" ") == 7
    key = made["registry_root"]
    words: list[str | Path] = [
        "--registry",
        registry / "registry.json",
        "--registry-root",
        key,
        "--agency",
        "bi/operator",
    ]
    request = sh("gateway", "init", "--dir", gateway, *words, "--json").json["request"]
    assert sh("registry", "add", request, "--dir", registry, "--json").json["agency"] == "bi/operator"
    done = sh("gateway", "restored", "--dir", gateway, "--json")  # no log yet
    assert (done.code, done.json["problem"]["code"]) == (2, "settings")
    words = ["--agency", "bi/k7t4", "--name", "Maison (inventée)", "--role", "assistance", "--role", "shelter"]
    told = sh(
        "agency", "init", "--dir", agency, *words, "--protected", "--gateway", "http://127.0.0.1:1",
        "--registry-root", key, "--json",
    ).json  # fmt: skip
    added = sh("registry", "add", told["request"], "--dir", registry, "--json").json
    assert sorted(added["fingerprints"].values()) == sorted(told["fingerprints"])
    assert all(path.stat().st_mode & 0o077 == 0 for path in (agency / "keys.json", registry / "holders" / "a.key"))


@on_one_log
def test_a_log_put_back_from_a_copy_gets_a_new_identity_only_when_asked(
    sh: Shell, domain: DomainOnDisk, tmp_path: Path
) -> None:
    for name in ("gateway.toml", "log.db"):
        (tmp_path / name).write_bytes((domain.gateway_folder / name).read_bytes())
    before = (tmp_path / "log.db").read_bytes()
    tried = sh("gateway", "restored", "--dir", tmp_path, "--dry-run", "--json").json
    assert (tried["log_id"], tried["dry_run"]) == ("", True)
    assert (tmp_path / "log.db").read_bytes() == before
    ids = [sh("gateway", "restored", "--dir", tmp_path, "--json").json["log_id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert "nouvelle identité" in said(sh("gateway", "restored", "--dir", tmp_path))


@on_one_log
def test_output_that_nobody_reads_is_no_error(domain: DomainOnDisk) -> None:
    """`umuhuza registry show | head -0`"""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "umuhuza", "registry", "show", "--dir", str(domain.registry_folder)]
    done = subprocess.run(
        command, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=180
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
