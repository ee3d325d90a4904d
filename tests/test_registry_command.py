# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry` as holders use it: alone for training, two with a telephone, on a stick, after a theft."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer import Typer
from typer.testing import CliRunner, Result

from adapters.keystore import Keys
from adapters.settings import load_agency
from schemas.agreements import agreement_from_json, agreement_to_json
from schemas.errors import RegistryError
from schemas.keys import fingerprint_of
from schemas.registry import Agency, dumps_agency
from schemas.registry_bundle import RootPin
from schemas.registry_signing import Contents, contents_now
from tests.domain import NOW, Domain, seeded
from topics.durable_file import replace_file
from topics.policy_target import same_policy
from topics.registry_file import RegistryFile, read_registry
from umuhuza import registry_holder
from umuhuza.agency_command import init_agency
from umuhuza.children import until_alone
from umuhuza.cli import build
from umuhuza.registry_holder import (
    PROPOSAL_FILE,
    REGISTRY_FILE,
    add_agencies,
    add_agency,
    change_registry,
    held,
    init_registry,
    sign_proposal,
)
from umuhuza.registry_rotate_command import differences

DAY = 86_400
CLEAR = "--no-passphrase"
"""Keys that open at once: how locked ones behave is in `tests/test_locked_commands.py`."""


@cache
def program() -> Typer:
    """Made once: making it takes longer than most of what is asked of it."""
    return build("registry")


def run(*words: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(program(), [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def told(*words: str | Path, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json", code=code).stdout)
    return found


def refused(*words: str | Path) -> tuple[str, str | None]:
    """Code and path of a refusal, as a program gets them."""
    with pytest.raises(RegistryError) as caught:
        CliRunner().invoke(program(), [str(word) for word in words], catch_exceptions=False)
    return caught.value.code, caught.value.path


def request(folder: Path, name: str, seed: str = "one") -> Path:
    """An agency's enrolment request."""
    keys = Keys.generate(f"bi/{name}", seeded(f"{name}/{seed}"))
    file = folder / f"{name}-{seed}.json"
    file.write_text(
        dumps_agency(keys.enrolment({"fr": f"Agence {name} (inventée)"}, ("assistance",), False, int(time.time()))),
        encoding="utf-8",
    )
    return file


@pytest.fixture
def office(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three holders of a domain where one signs for members, each with a folder of their own and one key in it."""
    folders = tuple(tmp_path / name for name in ("cenatrap", "justice", "iom"))
    made = [told("registry", "holder", folder.name, "--dir", folder, CLEAR)["holder"] for folder in folders]
    holders = [word for one in made for word in ("--holder", one)]
    first, second, third = folders
    begun = told("registry", "init", "--dir", first, "--domain", "bi", *holders, "--members-threshold", "1")
    assert (begun["published"], begun["missing"]) == (False, {"root": 1})
    assert told("registry", "sign", first / PROPOSAL_FILE, "--dir", second)["published"]
    root = told("registry", "show", "--dir", second)["registry_root"]
    for other in (first, third):
        (other / "root").write_text(root)
        told("registry", "import", second / REGISTRY_FILE, "--dir", other)
        (other / PROPOSAL_FILE).unlink(missing_ok=True)
    return first, second, third


def test_a_training_domain_has_one_holder_and_a_production_domain_three_of_whom_two_decide(tmp_path: Path) -> None:
    training, production = tmp_path / "formation", tmp_path / "production"
    run("registry", "init", "--dir", training, "--domain", "bi", "--training", CLEAR)
    run("registry", "init", "--dir", production, "--domain", "bi", CLEAR)
    shown = told("registry", "show", "--dir", training)
    assert (len(shown["holders"]), shown["thresholds"]["root"], shown["training"]) == (1, 1, True)
    shown = told("registry", "show", "--dir", production)
    assert [one["name"] for one in shown["holders"]] == ["a", "b", "c"]
    assert shown["thresholds"] == {"root": 2, "targets": 1, "snapshot": 1, "timestamp": 1}
    assert all(key.stat().st_mode & 0o077 == 0 for key in production.glob("holders/*.key"))
    before = (production / REGISTRY_FILE).read_bytes()
    run("registry", "init", "--dir", production, "--domain", "bi", code=2)
    assert (production / REGISTRY_FILE).read_bytes() == before


def test_a_registry_of_training_is_never_taken_where_production_is_and_the_reverse(tmp_path: Path) -> None:
    training, production = tmp_path / "formation", tmp_path / "production"
    init_registry(training, "bi", True)
    init_registry(production, "bi", False)
    for here, there in ((training, production), (production, training)):
        assert refused("registry", "import", here / REGISTRY_FILE, "--dir", there) == ("registry_root_unknown", "root")


def test_one_holder_enrols_an_agency_and_two_change_the_holders(
    office: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second, third = office
    added = told("registry", "add", request(tmp_path, "refuge"), "--dir", first)
    assert (added["published"], added["version"]) == (True, 2)
    told("registry", "import", first / REGISTRY_FILE, "--dir", second)
    fresh = told("registry", "holder", "cndh", "--dir", tmp_path / "cndh", CLEAR)["holder"]
    began = run("registry", "rotate", "--dir", first, "--remove", "iom", "--add", fresh).stdout
    assert held(first).trusted.versions["root"] == 1
    seen = told("registry", "show", first / PROPOSAL_FILE, "--dir", second)
    assert (seen["holders"], seen["missing"]) == (["cenatrap", "cndh", "justice"], {"root": 1})
    assert seen["builds_on_ours"]
    assert seen["fingerprint"] in run("registry", "show", first / PROPOSAL_FILE, "--dir", second).stdout
    assert seen["fingerprint"] in began
    signed = told("registry", "sign", first / PROPOSAL_FILE, "--dir", second)
    assert signed["published"]
    assert [one.name for one in held(second).trusted.holders] == ["cenatrap", "cndh", "justice"]
    # The one who was removed follows like everybody, and can publish nothing any more.
    told("registry", "import", second / REGISTRY_FILE, "--dir", third)
    left = told("registry", "renew", "--dir", third)
    assert left["published"] is False


def test_a_proposal_that_builds_on_an_older_registry_is_not_signed(
    office: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second, _ = office
    run("registry", "rotate", "--dir", first, "--threshold", "3")
    run("registry", "add", request(tmp_path, "refuge"), "--dir", second)
    assert not told("registry", "show", first / PROPOSAL_FILE, "--dir", second)["builds_on_ours"]
    assert refused("registry", "sign", first / PROPOSAL_FILE, "--dir", second) == ("registry_rollback", "proposal")


def test_of_two_changes_at_once_none_undoes_the_other(office: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A renewal by the clock, say, and a revocation: who read before the other wrote is told so, and did nothing."""
    first, _, _ = office
    told("registry", "add", request(tmp_path, "refuge"), "--dir", first)
    before = held(first)
    revoked = told("registry", "revoke", "bi/refuge", "--dir", first)
    with pytest.raises(RegistryError) as caught:
        change_registry(before)
    assert (caught.value.code, caught.value.path) == ("registry_rollback", "proposal")
    assert held(first).registry.version == revoked["version"]


def test_who_is_asked_to_sign_sees_what_a_thief_would_hide_in_a_change() -> None:
    """A stolen key that counts again, one that is forgotten, one that lives longer, a role, a way to the brokers."""
    before = Domain().registry
    iom, shelter, police = (before.agency(name) for name in ("bi/iom", "bi/k7t4", "bi/police"))
    stolen, other = (replace(key, revoked=NOW) for key in iom.keys)
    revoked = {**before.agencies, "bi/iom": replace(iom, keys=(stolen, other))}
    longer = replace(shelter.keys[0], expires=shelter.keys[0].expires + 1)
    after = {
        **before.agencies,
        "bi/iom": replace(iom, keys=(replace(stolen, revoked=None),), roles=("operator",)),
        "bi/k7t4": replace(shelter, keys=(longer, *shelter.keys[1:])),
        "bi/police": replace(police, direct=True),
    }
    said = differences(Contents(revoked, {}), Contents(after, {}))
    assert said["keys_restored"] == [f"bi/iom {stolen.kid}"]
    assert said["keys_removed"] == [f"bi/iom {other.kid}"]
    assert said["keys_changed"] == [f"bi/k7t4 {longer.kid}"]
    assert said["roles"] == ["bi/iom operator"]
    assert said["direct"] == ["bi/police"]
    assert said["keys_revoked"] == said["keys_added"] == []


def test_where_holders_are_several_people_nobody_alone_makes_a_member(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    holders = [
        word
        for folder in (first, second)
        for word in ("--holder", told("registry", "holder", folder.name, "--dir", folder, CLEAR)["holder"])
    ]
    run("registry", "init", "--dir", first, "--domain", "bi", *holders)
    run("registry", "sign", first / PROPOSAL_FILE, "--dir", second)
    (first / "root").write_text(told("registry", "show", "--dir", second)["registry_root"])
    told("registry", "import", second / REGISTRY_FILE, "--dir", first)
    added = told("registry", "add", request(tmp_path, "refuge"), "--dir", first)
    assert (added["published"], added["version"]) == (False, 1)
    seen = told("registry", "show", first / PROPOSAL_FILE, "--dir", second)
    assert seen["members_added"] == ["bi/refuge"]
    assert len(seen["keys_added"]) == 2
    assert "bi/refuge assistance" in run("registry", "show", first / PROPOSAL_FILE, "--dir", second).stdout
    assert told("registry", "sign", first / PROPOSAL_FILE, "--dir", second)["published"]
    assert "bi/refuge" in held(second).registry.agencies
    with pytest.raises(RegistryError, match="registry_threshold"):
        add_agency(second, held(second).registry.agency("bi/refuge"))


def test_a_theft_that_is_found_out_later_takes_back_what_came_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    run("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    told("registry", "revoke", "bi/refuge", "--dir", folder)
    done = told("registry", "revoke", "bi/refuge", "--compromised-since", "41", "--dir", folder)
    assert (len(done["revoked"]), done["published"]) == (2, True)
    keys = held(folder).registry.agency("bi/refuge").keys
    assert {key.compromised_since for key in keys} == {41}
    assert refused("registry", "revoke", "bi/refuge", "--dir", folder) == ("key_revoked", "agency.keys")


def test_a_stick_carries_the_registry_as_a_file_or_as_a_folder_that_any_tuf_client_reads(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    _, root = init_registry(folder, "bi", False)
    for name in ("refuge", "clinique"):
        run("registry", "add", request(tmp_path, name), "--dir", folder)
    agency = tmp_path / "agence"
    init_agency(
        agency,
        agency="bi/refuge",
        gateway="http://127.0.0.1:9",
        registry_root=root.text,
        gateway_agency="bi/operator",
        names={"fr": "Refuge (inventé)"},
        roles=("shelter",),
        protected=True,
        kobo_to=None,
    )
    stick, usb = tmp_path / "registre-bi.json", tmp_path / "usb"
    run("registry", "export", stick, "--dir", folder)
    run("registry", "export", usb, "--folder", "--dir", folder)
    assert told("registry", "import", stick, "--dir", agency)["version"] == 3
    place = load_agency(agency).registry
    assert place.read_bytes() == stick.read_bytes()
    place.unlink()
    assert told("registry", "import", usb, "--dir", agency)["version"] == 3
    assert place.read_bytes() == stick.read_bytes()
    # An older stick, and one of another domain, change nothing.
    run("registry", "renew", "--dir", folder)
    told("registry", "import", folder / REGISTRY_FILE, "--dir", agency)
    assert refused("registry", "import", stick, "--dir", agency) == ("registry_rollback", "timestamp.version")
    init_registry(tmp_path / "tn", "tn", False)
    other = tmp_path / "tn" / REGISTRY_FILE
    assert refused("registry", "import", other, "--dir", agency) == ("registry_root_unknown", "root")
    assert read_registry(place, root).registry.version == 4


def test_a_registry_that_is_out_of_date_is_no_beginning(tmp_path: Path) -> None:
    folder, other = tmp_path / "registre", tmp_path / "ailleurs"
    _, root = init_registry(folder, "bi", False, now=time.time() - 31 * DAY)
    other.mkdir()
    (other / "root").write_text(root.text)
    assert refused("registry", "import", folder / REGISTRY_FILE, "--dir", other) == ("registry_stale", "snapshot")
    assert not (other / REGISTRY_FILE).exists()
    assert told("registry", "show", "--dir", folder)["stale"]
    run("registry", "renew", "--dir", folder)
    assert not told("registry", "import", folder / REGISTRY_FILE, "--dir", other)["stale"]


def test_renewing_renews_targets_that_end_soon_and_says_what_only_two_can(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False, now=time.time() - 330 * DAY)
    before = told("registry", "show", "--dir", folder)
    assert "targets" in {one["what"] for one in before["expiring"]}
    run("registry", "renew", "--dir", folder)
    after = told("registry", "show", "--dir", folder)
    assert after["expires"]["targets"] > before["expires"]["targets"]
    assert after["versions"]["root"] == 1
    old = tmp_path / "ancien"
    init_registry(old, "bi", False, now=time.time() - 700 * DAY)
    run("registry", "renew", "--dir", old)
    shown = told("registry", "show", "--dir", old)
    assert [one["what"] for one in shown["expiring"]] == ["root"]
    assert "root bi" in run("registry", "show", "--dir", old).stdout
    run("registry", "rotate", "--dir", old)
    assert told("registry", "show", "--dir", old)["expiring"] == []
    assert told("registry", "show", "--dir", old)["registry_root"] == shown["registry_root"]


def certificate(folder: Path, ends: datetime) -> tuple[Path, bytes]:
    """A TLS certificate as any authority makes it, and the pin of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "passerelle.exemple.bi")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends - timedelta(days=90)).not_valid_after(ends)
    file = folder / "certificate.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return file, hashlib.sha256(spki).digest()


def test_a_registry_says_where_an_agency_answers_and_with_which_tls_key(tmp_path: Path) -> None:
    folder, url = tmp_path / "registre", "https://passerelle.exemple.bi:8440"
    init_registry(folder, "bi", False)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    pem, pin = certificate(tmp_path, ends)
    asked = ("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    assert told(*asked, "--endpoint", f"gateway={url}", "--tls-certificate", pem)["endpoints"] == {"gateway": url}
    [shown] = told("registry", "show", "--dir", folder)["agencies"]
    [key] = [key for key in shown["keys"] if key["use"] == "tls"]
    assert (shown["endpoints"], key["fingerprint"], key["counts"]) == ({"gateway": url}, fingerprint_of(pin), True)
    assert [(one["what"], one["at"]) for one in told("registry", "show", "--dir", folder)["expiring"]] == [
        ("tls", int(ends.timestamp()))
    ]
    assert url in run("registry", "show", "--dir", folder).stdout
    # Renewed: what was entered stays, and another address takes the place of the first.
    assert told(*asked)["endpoints"] == {"gateway": url}
    other = f"gateway={url}/deux"
    assert told(*asked, "--endpoint", other, "--tls-certificate", pem)["endpoints"] == {"gateway": f"{url}/deux"}
    assert sum(key.use == "tls" for key in held(folder).registry.agency("bi/refuge").keys) == 1
    for wrong in (["--endpoint", "gateway"], ["--tls-certificate", folder / "root"]):
        run(*asked, *wrong, code=2)
    for address in ("gossip=https://exemple.bi", "gateway=exemple.bi", "gateway=https://a:b@exemple.bi"):
        assert refused(*asked, "--endpoint", address) == ("registry_invalid", "agency.endpoints")


def test_no_address_of_a_protected_place_is_entered(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    file = request(tmp_path, "k7t4")
    file.write_text(file.read_text(encoding="utf-8").replace('"protected": false', '"protected": true'), "utf-8")
    asked = ("registry", "add", file, "--dir", folder, "--endpoint", "gateway=https://refuge.exemple.bi")
    assert refused(*asked) == ("registry_invalid", "agency.endpoints")
    assert held(folder).registry.agencies == {}


def test_a_holder_of_no_such_name_or_key_is_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    for words in (["--remove", "z"], ["--add", "z=abc"], ["--add", "a=" + "A" * 87]):
        run("registry", "rotate", "--dir", folder, *words, code=2)
    same = told("registry", "holder", "a", "--dir", tmp_path / "x", CLEAR)["holder"]
    run("registry", "rotate", "--dir", folder, "--add", same, code=2)
    run("registry", "holder", "a", "--dir", tmp_path / "x", code=2)
    assert held(folder).trusted.versions["root"] == 1


def test_an_agency_cannot_say_of_its_own_keys_since_when_they_were_stolen(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    file = request(tmp_path, "refuge")
    asked = json.loads(file.read_text(encoding="utf-8"))
    asked["keys"][0] |= {"revoked": 1, "compromised_since": 1}
    file.write_text(json.dumps(asked), encoding="utf-8")
    assert refused("registry", "add", file, "--dir", folder) == ("registry_invalid", "agency.keys")


def test_a_folder_that_is_half_copied_changes_nothing_for_who_holds_a_registry(tmp_path: Path) -> None:
    """A web server's folder is not replaced at once: its timestamp comes last, and until then nothing is new."""
    folder, served = tmp_path / "registre", tmp_path / "servi"
    _, root = init_registry(folder, "bi", False)
    run("registry", "export", served, "--folder", "--dir", folder)
    clock = [0.0]
    holds = RegistryFile(served, root, lambda: clock[0])
    before = holds.data
    run("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    newest = held(folder).trusted
    for name in sorted(newest.files, key=lambda name: name == "metadata/timestamp.json"):
        assert holds.data == before
        file = served / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(newest.files[name])
        clock[0] += 2
    assert holds.registry == newest.registry
    (served / "metadata" / "timestamp.json").write_bytes(b"{}")
    clock[0] += 2
    assert (holds.registry, holds.problem) == (newest.registry, "registry_invalid")


@pytest.mark.parametrize("at", ["proposal", "root", "registry"])
def test_killed_while_a_domain_is_made_the_same_signature_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    folder, made = tmp_path / "registre", tmp_path / "ailleurs"
    one = told("registry", "holder", "seul", "--dir", folder, CLEAR)["holder"]
    told("registry", "init", "--dir", made, "--domain", "bi", "--holder", one)
    until_alone()
    child = os.fork()
    if child == 0:  # dies as on a power cut, after this file and before the next
        real = replace_file

        def last(path: Path, data: bytes) -> None:
            if path.name == REGISTRY_FILE and at == "root":
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, data)
            if path.stem == at:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(registry_holder, "replace_file", last)
        sign_proposal(folder, (made / PROPOSAL_FILE).read_bytes())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if at != "registry":
        assert not (folder / REGISTRY_FILE).exists()
        assert told("registry", "sign", folder / PROPOSAL_FILE, "--dir", folder)["published"]
    found = held(folder)
    assert (found.first_root, found.registry.version) == (RootPin.of(found.trusted.root), 1)


def test_members_of_other_domains_and_keys_of_others_are_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    run("registry", "add", request(tmp_path, "refuge"), "--dir", folder)
    member: Agency = held(folder).registry.agency("bi/refuge")
    for wrong in (
        Agency("tn/refuge", member.names, member.roles, ()),
        Agency("bi/autre", member.names, member.roles, member.keys),
    ):
        with pytest.raises(RegistryError, match="registry_invalid"):
            add_agency(folder, wrong)


def test_several_members_come_in_with_one_version_or_none_of_them_does(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    first, second = (
        Keys.generate(name, seeded(name)).enrolment({"fr": "Agence inventée"}, ("assistance",), False, int(time.time()))
        for name in ("bi/refuge", "bi/accueil")
    )
    with pytest.raises(RegistryError, match="registry_invalid"):
        add_agencies(folder, [first, replace(second, keys=first.keys)])
    assert held(folder).registry.agencies == {}
    assert add_agencies(folder, [first, second]).version == 2
    assert held(folder).registry.agencies.keys() == {"bi/refuge", "bi/accueil"}


def agreement(**changes: object) -> dict[str, object]:
    """Between Burundi and Tunisia; invented."""
    return {
        "domains": ["bi", "tn"],
        "agencies": [],
        "flows": ["bilateral", "receipt"],
        "types": [],
        "purposes": ["transfert de personnes"],
        "focal_points": ["bi/refuge"],
        "authorisations": [{"authority": "APDP", "ref": "12/2026", "scope": ["identity"], "until": "2027-12-31"}],
        "retention_days": 1825,
        "legal_ref": "Accord inventé du 1er mars 2026",
        "document_sha256": None,
        "since": "2026-03-01",
        "until": "2028-12-31",
        "root_fingerprints": {"bi": "A" * 43, "tn": "B" * 42 + "A"},
        **changes,
    }


def test_an_agreement_is_entered_read_back_and_ended(tmp_path: Path) -> None:
    folder, file = tmp_path / "registre", tmp_path / "accord.json"
    _, root = init_registry(folder, "bi", False)
    refuge = Domain("accord", cast={"bi/refuge": ("Refuge inventé", ("assistance",), False)})
    add_agency(folder, refuge.registry.agencies["bi/refuge"])
    terms = agreement(root_fingerprints={"bi": root.text, "tn": "B" * 42 + "A"})
    file.write_text(json.dumps(terms), encoding="utf-8")
    done = told("registry", "agree", "bi-tn-2026", "--file", file, "--dir", folder)
    assert (done["agreements"], done["published"]) == (["bi-tn-2026"], True)
    found = held(folder).trusted.agreements["bi-tn-2026"]
    assert (found.crosses, found.in_force(date(2028, 12, 31)), found.in_force(date(2029, 1, 1))) == (True, True, False)
    assert agreement_to_json(found) == terms
    told("registry", "agree", "bi-tn-2026", "--end", "--dir", folder)
    assert held(folder).trusted.agreements == {}
    run("registry", "agree", "bi-tn-2026", "--end", "--dir", folder, code=2)
    run("registry", "agree", "x", "--dir", folder, code=2)


def test_a_protocol_inside_a_country_binds_agencies_and_names_no_root(tmp_path: Path) -> None:
    inside = agreement(domains=["bi"], agencies=["bi/police", "bi/refuge"], root_fingerprints={})
    found = agreement_from_json(inside, "police-refuge", "bi")
    assert not found.crosses


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"domains": ["tn", "rw"]}, "domains"),
        ({"domains": ["bi"]}, "agencies"),
        ({"domains": ["bi"], "agencies": ["bi/refuge"]}, "agencies"),
        ({"agencies": ["rw/refuge"]}, "agencies"),
        ({"flows": ["gossip"]}, "flows"),
        ({"flows": ["receipt", "receipt"]}, "flows"),
        ({"types": ["Ndayizeye"]}, "types"),
        ({"purposes": [""]}, "purposes"),
        ({"focal_points": ["bi/IOM"]}, "focal_points"),
        ({"authorisations": [{"authority": "APDP"}]}, "authorisations[0]"),
        ({"retention_days": True}, "retention_days"),
        ({"retention_days": 0}, "retention_days"),
        ({"legal_ref": 5}, "legal_ref"),
        ({"document_sha256": "ABC"}, "document_sha256"),
        ({"since": "2026-02-30"}, "since"),
        ({"until": "2020-01-01"}, "until"),
        ({"root_fingerprints": {"bi": "A" * 43}}, "root_fingerprints"),
        ({"root_fingerprints": {"bi": "A" * 43, "tn": "A" * 43}}, "root_fingerprints"),
        ({"Ndayizeye": 1}, "*"),
    ],
)
def test_an_agreement_that_says_too_little_or_too_much_is_not_entered(changes: dict[str, object], path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        agreement_from_json(agreement(**changes), "bi-tn-2026", "bi")
    assert (caught.value.code, caught.value.path) == ("registry_invalid", f"agreement.{path}")
    assert "Ndayizeye" not in str(caught.value)


def test_the_domains_policy_is_signed_and_another_one_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    init_registry(folder, "bi", False)
    assert told("registry", "show", "--dir", folder)["policy"] is None
    assert same_policy(held(folder).trusted)
    run("registry", "policy", "--dir", folder)
    assert told("registry", "show", "--dir", folder)["policy"] is True
    mine = held(folder)
    change_registry(mine, replace(contents_now(mine.trusted), policy=b'{"version":2}'))
    assert told("registry", "show", "--dir", folder)["policy"] is False
    assert not same_policy(held(folder).trusted)


def test_a_domain_that_more_holders_must_sign_than_there_are_is_refused_before_any_key_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "registre"
    run("registry", "init", "--domain", "bi", "--threshold", "4", "--no-passphrase", "--dir", folder, code=2)
    assert not folder.exists()
    run("registry", "init", "--domain", "bi", "--threshold", "3", "--no-passphrase", "--dir", folder)
