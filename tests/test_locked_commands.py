# SPDX-License-Identifier: Apache-2.0
"""Private keys of registry holders, gateways, ledgers and witnesses that are locked with a passphrase."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from gateway.app import build as build_gateway
from gateway.settings import load_settings, read_signing_key
from schemas.errors import KeyStoreError, RegistryError
from schemas.keys import SigningKey, VerifyKey, b64url, unb64url
from schemas.locked import Cost
from schemas.registry_metadata import Holder
from topics.private_file import lock_private, locked_text, read_private, write_private
from topics.witness_folder import open_witness
from umuhuza.cli import build
from umuhuza.gateway_command import init_gateway
from umuhuza.holder_keys import HOLDERS, HolderKeys
from umuhuza.ledger_command import init_ledger
from umuhuza.ledger_settings import read_public, read_signers
from umuhuza.registry_holder import held, init_registry
from umuhuza.witness_command import make_witness

RIGHT, OTHER, WRONG = "six mots tires au sort", "six mots tires plus tard", "six autres mots encore"
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


@cache
def program(command: str) -> Typer:
    return build(command)


def told(*words: str | Path, current: str | None = None, new: str | None = None) -> dict[str, Any]:
    """One command, where nobody sits at a terminal; the passphrases come from the environment."""
    given = {"UMUHUZA_PASSPHRASE": current, "UMUHUZA_NEW_PASSPHRASE": new}
    done = CliRunner().invoke(program(str(words[0])), [*map(str, words), "--json"], env=given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: str | Path, current: str | None = None, new: str | None = None) -> str:
    with pytest.raises((KeyStoreError, RegistryError)) as caught:
        told(*words, current=current, new=new)
    assert RIGHT not in str(caught.value)
    return caught.value.code


def nobody() -> str:
    raise KeyStoreError("passphrase_missing")


# ---------------------------------------------------------------------------------------------------------------------
# Holders of a registry


def test_a_domains_keys_are_locked_unless_somebody_asks_for_keys_in_clear(tmp_path: Path) -> None:
    folder, clear = tmp_path / "registre", tmp_path / "formation"
    words = ("registry", "init", "--dir", folder, "--domain", "bi", "--training")
    assert refused(*words) == "passphrase_missing"
    assert refused(*words, new="court") == "passphrase_weak"
    assert not (folder / HOLDERS).exists()
    assert told(*words, new=RIGHT)["locked"] is True
    [file] = (folder / HOLDERS).iterdir()
    assert (file.name, oct(file.stat().st_mode)[-3:]) == ("a.key", "600")
    assert told("registry", "show", "--dir", folder)["version"] == 1  # who only looks is asked for nothing
    assert refused("registry", "renew", "--dir", folder) == "passphrase_missing"
    assert refused("registry", "renew", "--dir", folder, current=WRONG) == "passphrase_wrong"
    assert held(folder).registry.version == 1
    assert told("registry", "renew", "--dir", folder, current=RIGHT)["version"] == 2
    assert told("registry", "init", "--dir", clear, "--domain", "bi", "--no-passphrase")["locked"] is False
    assert told("registry", "renew", "--dir", clear)["version"] == 2


def test_a_holders_key_made_in_clear_signs_as_before_and_can_be_locked(tmp_path: Path) -> None:
    init_registry(tmp_path, "bi", True)
    key = tmp_path / HOLDERS / "a.key"
    before = key.read_text(encoding="ascii").strip()
    assert refused("registry", "protect", "--dir", tmp_path, "--holder", "z", new=RIGHT) == "registry_invalid"
    assert HolderKeys(tmp_path, cost=CHEAP).protect(None, lambda: RIGHT) == ["a"]
    assert before not in key.read_text(encoding="ascii")
    assert refused("registry", "protect", "--dir", tmp_path, current=WRONG, new=OTHER) == "passphrase_wrong"
    assert told("registry", "protect", "--dir", tmp_path, current=RIGHT, new=OTHER)["holders"] == ["a"]
    assert told("registry", "renew", "--dir", tmp_path, current=OTHER)["version"] == 2


def test_a_holder_is_made_with_a_locked_key(tmp_path: Path) -> None:
    assert refused("registry", "holder", "justice", "--dir", tmp_path) == "passphrase_missing"
    made = told("registry", "holder", "justice", "--dir", tmp_path, new=RIGHT)
    assert made["locked"] is True
    found = json.loads((tmp_path / HOLDERS / "justice.key").read_text(encoding="ascii"))
    assert made["holder"] == f"justice={found['public']}"


def test_a_passphrase_is_asked_once_for_keys_that_it_opens_and_again_for_one_that_it_does_not(tmp_path: Path) -> None:
    making = HolderKeys(tmp_path, cost=CHEAP)
    for name, passphrase in (("a", RIGHT), ("b", RIGHT), ("c", OTHER)):
        making.make(name, passphrase)
    asked: list[str] = []

    def ask(name: str) -> str:
        asked.append(name)
        return OTHER if name == "c" else RIGHT

    holders = [Holder(name, making.make(name, None).public) for name in ("x", "y")]
    made = [Holder(one.name, one.public) for one in making.of(holders)]
    assert [one.name for one in made] == ["x", "y"]
    keys = HolderKeys(tmp_path, ask)
    every = [Holder(name, VerifyKey(public_of(tmp_path, name))) for name in "abc"]
    found = keys.of([*every, *holders])
    assert [key.name for key in found] == ["x", "y", "a", "b", "c"]  # those first that need no passphrase
    assert asked == []
    for key in found:
        assert key.public.verifies(b"said", key.sign(b"said"))
    assert asked == ["a", "c"]


def public_of(folder: Path, name: str) -> bytes:
    return unb64url(json.loads((folder / HOLDERS / f"{name}.key").read_text(encoding="ascii"))["public"])


def test_no_more_keys_are_opened_than_must_sign(tmp_path: Path) -> None:
    """Two of three change the holders, one alone the members: the third's passphrase is nobody's business."""
    init_registry(tmp_path, "bi", False)
    HolderKeys(tmp_path, cost=CHEAP).protect("c", lambda: RIGHT)
    assert told("registry", "renew", "--dir", tmp_path)["version"] == 2
    assert told("registry", "rotate", "--dir", tmp_path)["published"]
    HolderKeys(tmp_path, cost=CHEAP).protect("b", lambda: OTHER)
    assert refused("registry", "rotate", "--dir", tmp_path) == "passphrase_missing"
    assert told("registry", "rotate", "--dir", tmp_path, current=OTHER)["published"]
    assert held(tmp_path).trusted.versions["root"] == 3


def test_anothers_locked_key_in_the_place_of_ones_own_does_not_open(tmp_path: Path) -> None:
    """The public key stands in clear, and is bound to what is locked: nobody signs with a key that is not the named."""
    for name in ("a", "b"):
        HolderKeys(tmp_path, cost=CHEAP).make(name, RIGHT)
    own, other = (tmp_path / HOLDERS / f"{name}.key" for name in ("a", "b"))
    own.write_text(json.dumps(json.loads(other.read_text()) | {"public": json.loads(own.read_text())["public"]}))
    with pytest.raises(KeyStoreError) as caught:
        HolderKeys(tmp_path, cost=CHEAP).protect("a", lambda: RIGHT)
    assert caught.value.code == "keys_damaged"
    own.write_text("no key")
    with pytest.raises(RegistryError, match="registry_invalid"):
        HolderKeys(tmp_path, cost=CHEAP).protect("a", lambda: RIGHT)


# ---------------------------------------------------------------------------------------------------------------------
# Services


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry, a gateway, a ledger and a witness, as the commands make them."""
    folder = tmp_path_factory.mktemp("domaine")
    _, root = init_registry(folder / "registre", "bi", True)
    gateway = folder / "passerelle"
    init_gateway(
        gateway,
        agency="bi/operator",
        registry=folder / "registre" / "registry.json",
        registry_root=root.text,
        host="127.0.0.1",
        port=0,
    )
    init_ledger(folder / "preuve", gateway, port=0)
    make_witness(folder / "temoin", "bi.umuhuza/witness")
    return folder


def test_a_services_key_in_clear_works_as_before_and_locked_it_needs_its_passphrase(domain: Path) -> None:
    gateway, ledger, witness = domain / "passerelle", domain / "preuve", domain / "temoin"
    files = (gateway / "gateway.key", ledger / "ledger.keys", witness / "witness.key")
    kid = read_signing_key(files[0], nobody).kid
    origin = read_signers(files[1], nobody)[0].name
    keys = open_witness(witness, nobody)
    keys.close()
    secrets = [file.read_text() for file in files]
    for name, folder in (("gateway", gateway), ("ledger", ledger), ("witness", witness)):
        assert told(name, "protect", "--dir", folder, new=RIGHT)["changed"] is False
    for file, secret in zip(files, secrets, strict=True):
        assert not any(line in file.read_text() for line in secret.split())
        assert oct(file.stat().st_mode)[-3:] == "600"
    assert load_settings(gateway / "gateway.toml").signing_key == files[0]
    assert read_signing_key(files[0], lambda: RIGHT).kid == kid
    assert read_signers(files[1], lambda: RIGHT)[0].name == origin
    opened = open_witness(witness, lambda: RIGHT)
    assert opened.keys == keys.keys
    opened.close()
    # Who only looks is asked for nothing.
    assert [one.name for one in read_public(files[1])] == [origin, origin]
    assert refused("gateway", "protect", "--dir", gateway, current=WRONG, new=OTHER) == "passphrase_wrong"
    for read in (lambda: read_signing_key(files[0], nobody), lambda: read_signers(files[1], nobody)):
        with pytest.raises(KeyStoreError, match="passphrase_missing"):
            read()


def test_a_locked_file_of_another_kind_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    """A gateway's key is not a holder's, though both are a scalar: what it was locked as is bound to it."""
    text = locked_text("secret", "gateway", "public", RIGHT, CHEAP)
    assert read_private(text, "gateway").open(lambda: RIGHT) == "secret"
    for wrong in (text.replace('"public":"public"', '"public":"pablic"'), text.replace('"v":2', '"v":3'), text[:-9]):
        with pytest.raises(KeyStoreError, match="keys_damaged"):
            read_private(wrong, "gateway")
    with pytest.raises(KeyStoreError, match="keys_damaged"):
        read_private(text, "holder")
    write_private(tmp_path / "key", text)
    lock_private(tmp_path / "key", "secret", "gateway", "public", OTHER, CHEAP)
    assert read_private((tmp_path / "key").read_text(), "gateway").open(lambda: OTHER) == "secret"
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "key", text)


def test_a_gateway_whose_witness_does_not_open_says_so_before_it_listens(tmp_path: Path, domain: Path) -> None:
    make_witness(tmp_path / "temoin", "bi.umuhuza/witness")
    witness = tmp_path / "temoin" / "witness.key"
    lock_private(witness, witness.read_text(), "witness", "its public keys", OTHER, CHEAP)
    key = tmp_path / "gateway.key"
    write_private(key, b64url(SigningKey.generate(os.urandom).private_bytes()))
    settings = load_settings(
        domain / "passerelle" / "gateway.toml", {"signing_key": key, "witness": tmp_path / "temoin"}, {}
    )
    for wrong, code in ((lambda: WRONG, "passphrase_wrong"), (nobody, "passphrase_missing")):
        with pytest.raises(KeyStoreError, match=code):
            build_gateway(settings, passphrase=wrong)
