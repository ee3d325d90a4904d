# SPDX-License-Identifier: Apache-2.0
"""Two people enrol an agency by telephone; later its computer is stolen, and it goes on with new keys on another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from adapters.keystore import read_key_file, read_keys
from tests.e2e.commands import until
from tests.e2e.domain_on_disk import DomainOnDisk, Member, referral, workbook
from tests.e2e.enrolment_recording import LANGUAGES, RECORDINGS, SAID, TITLES, TOLD, recorded, without_words
from tests.e2e.shell import Shell
from tests.e2e.terminal import Terminal, Typed, picture_of, shown_in
from tests.soft_card import LABEL, PIN, Card, card

__all__ = ["card"]

IOM, SHELTER = "bi/iom", "bi/k7t4"
FIRST, SECOND = "six mots ecrits sur papier", "six autres mots sur papier"
QUICK = "quiet_seconds = 0.2\nidle_seconds = 0.2\ncollect_seconds = 0.2\nwait_seconds = 2.0\nwatch_seconds = 0.5\n"
ENROL = ("--name", "Lieu protégé (inventé)", "--role", "assistance", "--role", "shelter", "--protected")


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DomainOnDisk]:
    members = (Member(IOM, ("screener", "assistance", "facilitator")),)
    with DomainOnDisk.made(tmp_path_factory.mktemp("enrolment") / "bi", members) as made:
        made.members[SHELTER] = Member(SHELTER, ("assistance", "shelter"), protected=True)
        yield made


def at_the_gateway(domain: DomainOnDisk) -> tuple[str, ...]:
    return "--agency", SHELTER, "--gateway", domain.address, "--registry-root", domain.root_key


def start(domain: DomainOnDisk, passphrase: str) -> None:
    """The shelter's adapter; its passphrase comes as a service's does."""
    folder = domain.folder(SHELTER)
    settings = folder / "agency.toml"
    settings.write_text(settings.read_text() + QUICK)
    secret = folder.parent / "phrase"
    secret.write_text(passphrase + "\n", encoding="utf-8")
    secret.chmod(0o600)
    domain.start_agency(SHELTER, UMUHUZA_PASSPHRASE_FILE=str(secret))


def arrived(domain: DomainOnDisk, file: str, name: str) -> None:
    """The other agency, once it knows the registry as it is, drops a workbook, and it is on the shelter's computer."""
    until("the registry is known", lambda: domain.watch_registry(IOM).registry.version >= domain.registry.version)
    known = {item.evt for item in domain.inbox(SHELTER)}
    domain.drop(IOM, file, workbook([referral(name)]))
    until(
        f"{file} has arrived",
        lambda: {item.evt for item in domain.inbox(SHELTER) if item.state == "delivered"} - known,
    )


def test_an_agency_is_enrolled_works_is_robbed_and_works_again(domain: DomainOnDisk, sh: Shell) -> None:
    folder, registry = domain.folder(SHELTER), domain.registry_folder
    request = folder / "inscription.json"

    # Enrolled: keys behind a passphrase, twelve words, the registry.
    made = sh(
        "agency", "enrol", "--dir", folder, *at_the_gateway(domain), *ENROL, "--json", UMUHUZA_NEW_PASSPHRASE=FIRST
    )
    assert made.code == 0, made.err
    assert made.json["keys"] == read_key_file(folder / "keys.json").kind == "locked"
    words = made.json["words"]["fr"]
    other = sh("registry", "approve", request, "--dir", registry, "--words", " ".join(reversed(words)), "--json")
    assert (other.code, other.json["problem"]["code"]) == (1, "words_differ")
    assert SHELTER not in domain.registry.agencies
    approved = sh("registry", "approve", request, "--dir", registry, "--words", " ".join(words), "--json")
    assert (approved.code, approved.json["lost"], approved.json["revoked"]) == (0, False, [])
    holders = sh("registry", "words", "--dir", registry, "--json").json["words"]
    assert holders == made.json["domain_words"]

    # At work; none or a wrong passphrase ends with its own exit code, what only looks asks for none.
    assert sh("agency", "run", "--dir", folder).code == 1
    assert sh("agency", "run", "--dir", folder, UMUHUZA_PASSPHRASE="une autre").code == 4
    domain.start_agency(IOM, UMUHUZA_AGENCY_REGISTRY_SECONDS="2")
    start(domain, FIRST)
    arrived(domain, "un.xlsx", "Aline Inventée")
    assert sh("agency", "inbox", "--dir", folder, "--json").code == 0
    again = sh("agency", "run", "--dir", folder, UMUHUZA_PASSPHRASE=FIRST)
    assert (again.code, "un autre processus tourne déjà" in again.err) == (2, True)

    # Another passphrase while it runs.
    changed = sh(
        "agency", "protect", "--dir", folder, "--json", UMUHUZA_PASSPHRASE=FIRST, UMUHUZA_NEW_PASSPHRASE=SECOND
    )
    assert (changed.code, changed.json["changed"]) == (0, True)

    # Stolen: revoked at once, new keys on another computer, the chains go on where the log stands.
    domain.kill("k7t4")
    folder.rename(domain.root / "vole")
    sent_before = heads(domain)
    assert sh("registry", "revoke", SHELTER, "--dir", registry, "--json").code == 0
    again = sh("agency", "lost", "--dir", folder, *at_the_gateway(domain), "--json", UMUHUZA_NEW_PASSPHRASE=SECOND)
    assert (again.code, again.json["lost"]) == (0, True), again.err
    approved = sh(
        "registry", "approve", request, "--dir", registry, "--words", " ".join(again.json["words"]["en"]), "--json"
    )
    assert approved.code == 0, approved.out
    member = domain.registry.agency(SHELTER)
    assert (member.roles, member.protected) == (("assistance", "shelter"), True)
    assert sorted(key.revoked is None for key in member.keys) == [False, False, True, True]
    start(domain, SECOND)
    arrived(domain, "deux.xlsx", "Bella Inventée")
    until("a receipt with the new key is taken", lambda: heads(domain) > sent_before)
    domain.stop("k7t4")
    domain.stop("iom")
    with domain.box(SHELTER) as box:
        assert [item.code for item in box.outbox() if item.state == "refused"] == []


def heads(domain: DomainOnDisk) -> int:
    """How far the shelter's chain to the other agency has come, as that one has read it."""
    with domain.box(IOM) as box:
        return next(seq for seq in count(1) if box.arrivals.seen_hash(SHELTER, "bi.receipt.iom", seq) is None) - 1


def test_keys_that_may_be_known_to_somebody_are_replaced_in_the_same_folder(domain: DomainOnDisk, sh: Shell) -> None:
    folder = domain.root / "autre"
    place = ("--gateway", domain.address, "--registry-root", domain.root_key)
    who = ("--agency", "bi/r5w2", "--name", "Foyer (inventé)", "--role", "shelter")
    sh("agency", "init", "--dir", folder, *who, *place)
    sh("registry", "add", folder / "inscription.json", "--dir", domain.registry_folder)
    before = domain.registry.agency("bi/r5w2")

    # No passphrase given: nothing has happened.
    assert sh("agency", "lost", "--dir", folder).code == 1
    assert read_key_file(folder / "keys.json").kind == "clear"

    made = sh("agency", "lost", "--dir", folder, "--keep-opening", "--json", UMUHUZA_NEW_PASSPHRASE=FIRST)
    assert made.code == 0, made.err
    assert {path.name for path in folder.glob("keys*")} == {"keys.json", "keys.json.lost-1"}
    approve = ("registry", "approve", folder / "inscription.json", "--dir", domain.registry_folder, "--json")
    done = sh(*approve, "--words", " ".join(made.json["words"]["fr"]))
    assert set(done.json["revoked"]) == {key.kid for key in before.keys}
    asked = json.loads((folder / "inscription.json").read_text())["agency"]["keys"]
    now = domain.registry.agency("bi/r5w2")
    assert {key.kid for key in now.keys if key.revoked is None} == {key["kid"] for key in asked}

    # Before they expire: further keys beside these, which count on; names and roles stay.
    (folder / "registry.json").write_bytes((domain.registry_folder / "registry.json").read_bytes())
    both = {"UMUHUZA_PASSPHRASE": FIRST, "UMUHUZA_NEW_PASSPHRASE": SECOND}
    renewed = sh("agency", "renew", "--dir", folder, "--json", **both)
    assert (renewed.code, renewed.json["lost"]) == (0, False), renewed.err + renewed.out
    done = sh(*approve, "--words", " ".join(renewed.json["words"]["fr"]))
    assert (done.code, done.json["revoked"]) == (0, [])
    member = domain.registry.agency("bi/r5w2")
    assert (member.names, member.roles) == (before.names, before.roles)
    assert sum(key.revoked is None for key in member.keys) == 4
    opens = read_keys(folder / "keys.json", SECOND)
    assert set(opens.seal) == {key.kid for key in member.keys if key.use == "seal"}

    # Whoever is no member cannot have lost its keys.
    text = (folder / "inscription.json").read_text(encoding="utf-8")
    text = text.replace("bi/r5w2", "bi/zzzz").replace('"lost":false', '"lost":true')
    (folder / "inscription.json").write_text(text, encoding="utf-8")
    stranger = sh(*approve, "--words", "x")
    assert (stranger.code, stranger.json["problem"]["code"]) == (1, "agency_unknown")


def test_a_sealing_key_for_hardware_is_enrolled_only_if_the_registry_holder_allows_it(
    domain: DomainOnDisk, sh: Shell
) -> None:
    folder = domain.root / "materiel"
    made = sh(
        *("agency", "enrol", "--dir", folder, "--agency", "bi/clinic", "--name", "Clinique (inventée)"),
        *("--role", "clinic", "--gateway", domain.address, "--registry-root", domain.root_key),
        *("--hardware-suite", "--json"),
        UMUHUZA_NEW_PASSPHRASE=FIRST,
    )
    approve = ("registry", "approve", folder / "inscription.json", "--dir", domain.registry_folder, "--json")
    words = ("--words", " ".join(made.json["words"]["fr"]))
    refused = sh(*approve, *words)
    assert (refused.code, "--hardware-suite" in refused.json["problem"]["title"]) == (2, True)
    assert sh(*approve, *words, "--hardware-suite").code == 0


def test_keys_in_a_card_are_enrolled_and_a_wrong_pin_or_no_card_ends_the_adapter_with_its_own_code(
    domain: DomainOnDisk, sh: Shell, card: Card
) -> None:
    folder = domain.root / "carte"
    made = sh(
        *("agency", "enrol", "--dir", folder, "--agency", "bi/police", "--name", "Police (inventée)"),
        *("--role", "police", "--gateway", domain.address, "--registry-root", domain.root_key),
        *("--token-module", card.module, "--token-label", LABEL, "--json"),
        **card.settings,
        UMUHUZA_PASSPHRASE=PIN,
    )
    assert made.code == 0, made.err + made.out
    assert made.json["keys"] == "device"
    assert sh("agency", "outbox", "--dir", folder, "--json").code == 0
    assert sh("agency", "run", "--dir", folder, **card.settings, UMUHUZA_PASSPHRASE="000000").code == 4
    card.pull()
    assert sh("agency", "run", "--dir", folder, **card.settings, UMUHUZA_PASSPHRASE=PIN).code == 3


def test_a_folder_with_keys_is_never_enrolled_again(domain: DomainOnDisk, sh: Shell) -> None:
    folder = domain.folder(IOM)
    before = (folder / "keys.json").read_bytes()
    place = ("--gateway", domain.address, "--registry-root", domain.root_key)
    done = sh("agency", "enrol", "--dir", folder, "--agency", IOM, *ENROL, *place, UMUHUZA_NEW_PASSPHRASE=FIRST)
    assert done.code == 2
    assert "jamais écrasées" in done.err
    assert (folder / "keys.json").read_bytes() == before


def test_at_a_terminal_a_passphrase_is_typed_twice_unseen_and_six_drawn_words_do(
    domain: DomainOnDisk, tmp_path: Path
) -> None:
    folder = tmp_path / "iom"
    shutil.copytree(domain.folder(IOM), folder, ignore=shutil.ignore_patterns("mailbox*", "dossier"))
    new, again = SAID["new"]["en"], SAID["again"]["en"]

    def drawn(told: str) -> str:
        return next(line.strip() for line in told.splitlines() if len(line.split()) == 6 and line.startswith("  "))

    session = Terminal(tmp_path, "en")
    answers: list[tuple[str, Typed]] = [(new, "Gitega"), (new, FIRST), (again, SECOND), (new, ""), (again, drawn)]
    code, told = session.run("house", "agency", "protect", "--dir", "iom", answers=answers)
    assert code == 0, told
    assert "passphrase_weak" in told
    assert not {"Gitega", FIRST, SECOND} & set(map(str.strip, told.splitlines()))
    assert read_keys(folder / "keys.json", drawn(told)).agency == IOM


# -- the recording in the documents -----------------------------------------------------------------------------------


def test_the_recording_shows_what_two_people_see_today(tmp_path: Path) -> None:
    """Made again with `python -m tests.e2e.enrolment_recording`."""
    kept = (RECORDINGS / "enrolment-fr.cast").read_text(encoding="utf-8")
    assert without_words(recorded(tmp_path, "fr").cast) == without_words(kept)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_picture_is_the_recordings_and_has_words_for_who_cannot_see_it(language: str) -> None:
    [which] = [one for one in LANGUAGES if one == language]
    cast = (RECORDINGS / f"enrolment-{language}.cast").read_text(encoding="utf-8")
    picture = (RECORDINGS / f"enrolment-{language}.svg").read_text(encoding="utf-8")
    assert picture == picture_of(cast, TITLES[which], TOLD[which])
    header, *events = [json.loads(line) for line in cast.splitlines()]
    assert (header["version"], header["title"]) == (2, TITLES[which])
    assert all(kind == "o" for _, kind, _ in events)
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    assert events[-1][0] < 600, "ten minutes for two people"
    assert "words_misheard" in shown_in(cast)
