# SPDX-License-Identifier: Apache-2.0
"""`umuhuza witness` as two operators use it: Burundi's ledger, cosigned by Burundi's own witness and by Tunisia's."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from schemas.trust_policy import read_policy
from tests.trees import Ledger
from tests.witness_servers import LedgerOnDisk, WitnessServer, served
from topics.settings import SettingsError
from topics.witness_folder import open_witness
from umuhuza.witness_command import app, make_witness

LEDGER = Ledger("bi")


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON result."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return done.exit_code, told


@pytest.fixture
def keys_of_ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.pub"
    path.write_text("# of the ledger of Burundi\n" + "".join(f"{key.vkey}\n" for key in LEDGER.keys))
    return path


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[WitnessServer, str]]:
    server = WitnessServer(open_witness(folder))
    try:
        with served(server.answers) as url:
            yield server, url
    finally:
        server.witness.close()


def test_two_domains_cosign_each_others_ledger(tmp_path: Path, keys_of_ledger: Path) -> None:
    ledger, disk = tmp_path / "registre-de-preuve", LedgerOnDisk(LEDGER, 5)
    ledger.mkdir()
    for name in ("bi", "tn"):
        code, told = run("init", "--dir", tmp_path / name, "--name", f"{name}.umuhuza/witness")
        assert (code, told["name"], len(told["keys"])) == (0, f"{name}.umuhuza/witness", 2)
        assert oct((tmp_path / name / "witness.key").stat().st_mode)[-3:] == "600"
        code, told = run("add-log", keys_of_ledger, "--dir", tmp_path / name)
        assert (code, told["logs"]) == (0, ["bi.umuhuza/log"])
    with (
        serving(tmp_path / "bi") as (_, own),
        serving(tmp_path / "tn") as (foreign, abroad),
        served(disk.answers) as log,
    ):
        for name, url in (("bi", own), ("tn", abroad)):
            pub = tmp_path / name / "witness.pub"
            code, told = run("trust", pub, "--ledger", ledger, "--name", name, "--url", url, "--keys", keys_of_ledger)
            assert code == 0
        assert told["witnesses"] == ["bi-ed25519", "bi-ml-dsa-44", "tn-ed25519", "tn-ml-dsa-44"]
        code, told = run("run-once", "--ledger", ledger, "--log", log)
        assert (code, told["size"], told["endorsed"]) == (0, 5, True)
        assert [(one["name"], one["foreign"], one["size"]) for one in told["witnesses"]][1:3] == [
            ("bi-ml-dsa-44", False, 5),
            ("tn-ed25519", True, 5),
        ]
        foreign.down = True
        disk.size = 9
        code, told = run("run-once", "--ledger", ledger, "--log", log)
        assert (code, told["ok"], told["endorsed"]) == (3, False, False)
        foreign.down = False
        disk.ledger = Ledger("bi", "forked", 2)
        code, told = run("run-once", "--ledger", ledger, "--log", log)
        assert code == 1
        assert {one["code"] for one in told["witnesses"]} == {"log_inconsistent"}
    code, told = run("status", "--dir", tmp_path / "bi", "--ledger", ledger)
    assert code == 1
    assert [(one["log"], one["size"], one["contradictions"]) for one in told["seen"]] == [("bi.umuhuza/log", 9, 1)]
    code, told = run("status", "--dir", tmp_path / "tn")
    seen = told["seen"][0]
    assert (code, seen["size"], seen["contradictions"], seen["unproved"]) == (0, 5, 0, 1)


def test_a_witness_that_nobody_heard_for_a_day_is_told(tmp_path: Path, keys_of_ledger: Path) -> None:
    make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    pub, url = tmp_path / "tn" / "witness.pub", "https://tn.example/v1/witness"
    assert run("trust", pub, "--ledger", tmp_path, "--name", "tn", "--url", url, "--keys", keys_of_ledger)[0] == 0
    code, told = run("status", "--ledger", tmp_path)
    assert (code, told["ok"]) == (0, True)
    os.utime(tmp_path / "witnesses.policy", (1, 1))
    code, told = run("status", "--ledger", tmp_path)
    assert (code, [one["silent"] for one in told["witnesses"]]) == (1, [True, True])


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, keys_of_ledger: Path) -> None:
    make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    before = (tmp_path / "tn" / "witness.key").read_bytes()
    assert CliRunner().invoke(app, ["init", "--dir", str(tmp_path / "tn"), "--name", "x"]).exit_code == 2
    assert (tmp_path / "tn" / "witness.key").read_bytes() == before
    pub, url = tmp_path / "tn" / "witness.pub", "https://tn.example/v1/witness"
    again = ("trust", pub, "--ledger", tmp_path, "--name", "tn", "--url", url, "--keys", keys_of_ledger)
    assert run(*again)[0] == 0
    policy = (tmp_path / "witnesses.policy").read_bytes()
    with pytest.raises(SettingsError):
        run(*again)
    assert (tmp_path / "witnesses.policy").read_bytes() == policy
    by_hand = policy.replace(b"group tn all", b"group tn any")
    (tmp_path / "witnesses.policy").write_bytes(by_hand)
    make_witness(tmp_path / "iom", "iom.example/witness")
    with pytest.raises(SettingsError) as caught:
        run("trust", tmp_path / "iom" / "witness.pub", "--ledger", tmp_path, "--name", "iom", "--url", url)
    assert "by hand" in str(caught.value)
    assert (tmp_path / "witnesses.policy").read_bytes() == by_hand


def test_what_an_interrupted_init_left_can_sign_nothing_and_is_made_again(tmp_path: Path) -> None:
    make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    (tmp_path / "tn" / "witness.key").unlink()  # the last thing that init writes
    with pytest.raises(SettingsError):
        open_witness(tmp_path / "tn")
    keys = make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    assert open_witness(tmp_path / "tn").keys == keys


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense\n", b"\xff\n", LEDGER.signers[0].skey.encode()],
    ids=["empty", "words", "bytes", "private"],
)
def test_a_file_without_public_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        run("add-log", tmp_path / "keys", "--dir", tmp_path / "tn")
    assert "vkey" in str(caught.value)
    assert read_policy((tmp_path / "tn" / "logs.policy").read_bytes()).logs == ()


def test_a_witnesss_keys_are_no_ledgers(tmp_path: Path) -> None:
    make_witness(tmp_path / "tn", "tn.umuhuza/witness")
    with pytest.raises(SettingsError):
        run("add-log", tmp_path / "tn" / "witness.pub", "--dir", tmp_path / "tn")


def test_people_get_tables_and_no_keys_of_ours(tmp_path: Path, keys_of_ledger: Path) -> None:
    done = CliRunner().invoke(app, ["init", "--dir", str(tmp_path / "tn"), "--name", "tn.umuhuza/witness"])
    assert done.exit_code == 0
    secret = (tmp_path / "tn" / "witness.key").read_text()
    assert not any(line and line in done.stdout for line in secret.splitlines())
    assert "PRIVATE" not in done.stdout
    assert CliRunner().invoke(app, ["add-log", str(keys_of_ledger), "--dir", str(tmp_path / "tn")]).exit_code == 0
    shown = CliRunner().invoke(app, ["status", "--dir", str(tmp_path / "tn")])
    assert shown.exit_code == 0
    assert CliRunner().invoke(app, ["status"]).exit_code == 2
