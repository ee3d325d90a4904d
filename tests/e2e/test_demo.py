# SPDX-License-Identifier: Apache-2.0
"""The demonstration, as `make demo` runs it: in both languages at once, and over Kafka with a broker of its own; the
services' metrics are watched meanwhile. What each scene proves is held to here, and to what stands in the mailboxes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from openpyxl import load_workbook

from tests.e2e.commands import Done, environment, umuhuza, until
from tests.e2e.domain_on_disk import referral, words_of
from tests.e2e.planted import every_file, forms, in_base64, traces
from tests.kafka.conftest import needs_kafka
from umuhuza.demo_clock import DemoClock
from umuhuza.demo_proofs import search
from umuhuza.gateway_command import init_gateway
from umuhuza.registry_holder import init_registry

EXPECTED = {
    "ok": True,
    "referrals": {"completed": 1, "declined": 1},
    "refused": {"signature_invalid": 1},
    "rows_refused": 1,
}
SCENES: dict[str, dict[str, Any]] = {
    "identified": {"thread_state": "identified"},
    "bed": {
        "asked": 2,
        "offered": 2,
        "held": "bi/k7t4",
        "released": ["bi/r5w2"],
        "read": ["age", "count", "languages", "local", "needed_from", "service", "sex"],
        "person": None,
    },
    "screening": {
        "interpreter": "rn",
        "consent_language": "rn",
        "consent_how": "thumbprint",
        "ministry_read_her_name": False,
    },
    "seen": {
        "struck": [
            "htcds.prs_Citizenship",
            "htcds.prs_MobilePhone",
            "htcds.vic_ForcedLabourIndustry",
            "htcds.vic_MethodOfRecruitment",
        ],
        "as_read": True,
        "withheld_as_read": True,
    },
    "departure": {"departed": "promised", "alarms": ["not-arrived", "telephone"], "thread_state": "expired"},
    "arrival": {"alarms_before": ["late-acceptance", "not-arrived"], "alarms_after": [], "thread_state": "in-progress"},
    "administrator": {"found": 0},
    "police": {
        "status": 404,
        "code": "topic_unknown",
        "writing": "not_permitted",
        "told": {"taken_over": True, "telephone": "+25722000014"},
        "shelter_named": False,
    },
    "warning": {"reached": ["bi/iom", "bi/k7t4"]},
    "withdrawal": {
        "confirmed": {"bi/k7t4": 1, "bi/min-solidarity": 0},
        "stay": ["in-progress", "in-progress"],
        "care": ["accepted", "accepted"],
        "new_referral": "consent_withdrawn",
    },
    "border": {
        "blocked": "agreement_missing",
        "thread_state": ["accepted", "accepted"],
        "logged": {"bi": 2, "tn": 2},
        "seen_by": {"bi": ["bi", "iom", "tn"], "tn": ["bi", "tn"]},
        "read_there": True,
        "proven_abroad": True,
    },
    "altered": {
        "wrong_before": 0,
        "named": [{"code": "part_digest_mismatch", "part": "identity", "is_it": True}],
    },
    "evidence": {
        "contradictions": 0,
        "seen_by": ["bi", "iom", "tn"],
        "abroad": {"records": 4, "seen_by": ["bi", "tn"], "contradictions": 0},
    },
    "both_checks": {
        country: {"before": 0, "after": [{"code": "record_rewritten", "is_it": True}]} for country in ("bi", "tn")
    },
}
"""What each scene showed, as far as it is the same every time."""
LONGEST_S = 420.0
AGENCIES = {
    **{f"bi/{name}": name for name in ("police", "iom", "min-solidarity", "health", "ccsprtp", "k7t4", "r5w2")},
    "tn/inlctp": "tunisie/inlctp",
}
"""By their folders."""

SERVICES = {
    "passerelle/adresse": "umuhuza_gateway_",
    "passerelle/adresse-tn": "umuhuza_bridge_",
    "passerelle/registre-de-preuve/adresse": "umuhuza_ledger_",
    "temoin-oim/adresse": "umuhuza_witness_",
    "tunisie/passerelle/adresse": "umuhuza_gateway_",
    "tunisie/passerelle/adresse-bi": "umuhuza_bridge_",
    "tunisie/passerelle/registre-de-preuve/adresse": "umuhuza_ledger_",
}
"""Whoever runs in between, by the file with its address; what its metrics are called."""

WHO_MAY_KNOW = {
    "Ndayishimiye": ("police", "iom", "k7t4", "health"),
    "Aline": ("police", "iom", "k7t4", "health"),
    "عائشة": ("iom", "r5w2"),
    "Nkurunziza": ("iom",),
    "Habonimana": (),
    "TN-2026-007": ("tunisie/inlctp",),
    "OIM-2026-014": ("iom",),
    "OIM-2026-015": ("iom",),
    "OIM-2026-016": ("iom",),
}
"""Of the story: its planted names, and the folders of the agencies concerned. Nobody else, and no file in between; who
crosses the border is read in the two mailboxes, and stands in no file in clear."""


@dataclass(frozen=True)
class Story:
    language: str
    log: str
    root: Path
    done: Done
    metrics: dict[str, str]
    """Of each of `SERVICES`, all that it told while it ran."""
    pid: int


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Story]:
    """The demonstration in French and in English, side by side."""
    return played(tmp_path_factory, "sqlite", "fr", "en")


@pytest.fixture(scope="module")
def on_kafka(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Story]:
    """The demonstration over Kafka, in French."""
    needs_kafka()
    return played(tmp_path_factory, "kafka", "fr")


def played(places: pytest.TempPathFactory, log: str, *languages: str) -> dict[str, Story]:
    roots = {language: places.mktemp(f"demo-{language}-{log}") / "tout" for language in languages}
    running = {language: started(language, root, log, "--once", "--json") for language, root in roots.items()}
    metrics = {language: dict.fromkeys(SERVICES, "") for language in roots}
    deadline = time.monotonic() + LONGEST_S
    try:
        while any(process.poll() is None for process in running.values()):
            assert time.monotonic() < deadline, "the demonstration does not end"
            for language, root in roots.items():
                for address in SERVICES:
                    metrics[language][address] += scraped(root / address)
            time.sleep(0.2)
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    return {
        language: Story(
            language,
            log,
            root,
            Done(
                running[language].returncode,
                (root.parent / "stdout").read_text(encoding="utf-8"),
                (root.parent / "stderr").read_text(encoding="utf-8"),
            ),
            metrics[language],
            running[language].pid,
        )
        for language, root in roots.items()
    }


def started(language: str, root: Path, log: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "umuhuza", "demo", "--log", log, *options, "--dir", str(root)]
    with (root.parent / "stdout").open("wb") as out, (root.parent / "stderr").open("wb") as err:
        # Also where these tests run in the background of a shell, which has its programs ignore Ctrl-C.
        return subprocess.Popen(command, env=environment(language), stdout=out, stderr=err, preexec_fn=_heeds_ctrl_c)


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def scraped(address: Path) -> str:
    """A service's metrics, if it runs."""
    if not address.exists():
        return ""
    try:
        return httpx2.get(address.read_text().strip() + "/metrics", trust_env=False, timeout=5).text
    except httpx2.HTTPError:
        return ""


@pytest.fixture(params=["sqlite-fr", "sqlite-en", "kafka-fr"])
def story(request: pytest.FixtureRequest) -> Story:
    log, _, language = str(request.param).partition("-")
    stories: dict[str, Story] = request.getfixturevalue("on_kafka" if log == "kafka" else "in_files")
    return stories[language]


def test_its_standard_output_is_one_object_with_exactly_these_values(story: Story) -> None:
    assert story.done.code == 0, story.done.err
    [line] = story.done.out.splitlines()
    told = orjson.loads(line)
    seconds, scenes = told.pop("seconds"), told.pop("scenes")
    assert 0 < seconds < LONGEST_S
    assert seconds >= sum(scene["seconds"] for scene in scenes.values()) - 1
    boxes = {agency: records_in(story.root / folder / "mailbox.db") for agency, folder in AGENCIES.items()}
    # Whatever stands in the log has arrived at one agency, once.
    records = told.pop("records")
    assert records == sum(len(idents) for _, idents in boxes.values()) > 60
    ledger = told.pop("ledger")
    assert (ledger["records"], ledger["others"]) == (records, 0)
    assert ledger["entries"] > records, "the registry's versions are entries too"
    assert all(len(idents) == len(set(idents)) for _, idents in boxes.values())
    assert told.pop("inbox") == {agency: count for agency, (count, _) in boxes.items()}
    assert told == {**EXPECTED, "log": story.log}


@pytest.mark.parametrize("scene", SCENES)
def test_each_scene_shows_what_it_tells(story: Story, scene: str) -> None:
    showed = orjson.loads(story.done.out)["scenes"][scene]
    assert {name: showed[name] for name in SCENES[scene]} == SCENES[scene]


def test_it_ends_with_evidence_that_anybody_can_check(story: Story) -> None:
    told = orjson.loads(story.done.out)
    evidence = told["scenes"]["evidence"]
    assert evidence["records"] == told["records"]
    assert evidence["promises"] > 30
    done = umuhuza("audit", "verify", str(story.root / "preuve.zip"), "--json")
    assert done.json["contradictions"] == 0
    assert done.json["records"] == told["records"]
    abroad = umuhuza("audit", "verify", str(story.root / "tunisie" / "preuve.zip"), "--json")
    assert (abroad.json["contradictions"], abroad.json["records"]) == (0, 4)


def test_a_sender_holds_the_other_countrys_ledger_to_its_word(story: Story, tmp_path: Path) -> None:
    """Burundi's is audited with what an agency of Tunisia's keeps of it, and the reverse."""
    for agency, other, of in (("tn/inlctp", "bi", story.root), ("bi/ccsprtp", "tn", story.root / "tunisie")):
        held = tmp_path / other
        kept = umuhuza("agency", "proofs", str(held), "--dir", str(story.root / AGENCIES[agency]), "--json").json
        assert (kept["ok"], kept["refusals"]) == (True, 0)
        assert kept["proofs"][other] >= 2, "a promise, and its ledger's receipt"
        zipped = str(of / "preuve.zip")
        before = umuhuza("audit", "verify", zipped, "--json").json
        after = umuhuza("audit", "verify", zipped, "--held", str(held / other), "--json").json
        assert after["contradictions"] == 0
        assert after["receipts"] - before["receipts"] >= 1
        assert after["promises"] - before["promises"] >= 1


def test_what_blocks_at_the_border_is_told_by_its_rule(story: Story) -> None:
    assert "[authorisations.tn.abroad]" in " ".join(story.done.err.split())
    assert orjson.loads(story.done.out)["scenes"]["border"]["crossed_s"] < 60


def test_the_police_read_advice_and_the_shelter_is_warned_in_seconds(story: Story) -> None:
    scenes = orjson.loads(story.done.out)["scenes"]
    assert scenes["police"]["advice"]
    assert scenes["warning"]["within_s"] < 30
    assert scenes["seen"]["shown"] > 10


def test_the_administrator_looked_at_every_byte_and_would_have_found_her(story: Story) -> None:
    looked = orjson.loads(story.done.out)["scenes"]["administrator"]
    assert looked["files"] >= len(list((story.root / "journaux").iterdir())) + 3
    assert looked["bytes"] > 100_000
    assert looked["found_at_iom"] >= 1


def test_what_is_withheld_stands_in_no_file_of_who_received_her(story: Story) -> None:
    words = ["+25779000014", "famille ou lors", "A_AgricultureForestryAndFishing"]
    received = [
        path for agency in ("k7t4", "health", "r5w2") for path in every_file(story.root / agency / "dossier" / "recus")
    ]
    assert len(received) >= 3
    assert traces(words, received) == []
    assert traces(words[:1], every_file(story.root / "iom")) != []
    # Masked where it was told too: what is shown here is a file, and no terminal.
    assert not any(word in story.done.err for word in words)
    assert ("[-masqué-]" if story.language == "fr" else "[-masked-]") in story.done.err


def records_in(mailbox: Path) -> tuple[int, list[str]]:
    """How many that are no receipts, and the identities of all."""
    with closing(sqlite3.connect(f"file:{mailbox}?mode=ro", uri=True)) as box:
        found = box.execute("SELECT ident, type FROM incoming").fetchall()
    return sum(not type_.startswith("receipt.") for _, type_ in found), [ident for ident, _ in found]


def test_people_are_told_the_story_in_their_language(story: Story) -> None:
    said = " ".join(story.done.err.split())
    first, other = ("Un enregistrement falsifié est refusé", "A forged record is refused")
    if story.language == "en":
        first, other = other, first
    assert first in said
    assert other not in said
    assert "signature_invalid" in said
    assert "Traceback" not in said


def processes_of(root: Path) -> list[bytes]:
    """Command lines in which this folder stands."""
    proc = Path("/proc")
    if not (proc / "self" / "cmdline").exists():
        pytest.skip("this system does not list its processes under /proc")
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # ended meanwhile
            if str(root).encode() in command:
                found.append(command)
    return found


def test_every_process_has_ended(story: Story) -> None:
    assert processes_of(story.root) == []


@pytest.mark.parametrize("word", WHO_MAY_KNOW)
def test_a_name_stands_in_no_file_outside_the_agencies_concerned(story: Story, word: str) -> None:
    concerned = [story.root / folder for folder in WHO_MAY_KNOW[word]]
    files = every_file(story.root, but=concerned)
    looked_at = {path.relative_to(story.root).parts[0] for path in files}
    assert {"passerelle", "journaux", "registre", "min-solidarity"} <= looked_at
    assert traces([word], files) == []
    # ... while those concerned do have it: the search finds what is there.
    assert not concerned or traces([word], every_file(concerned[-1]))


def test_the_logs_and_the_gateways_files_were_really_written(story: Story) -> None:
    sizes = {path.name: path.stat().st_size for path in every_file(story.root / "passerelle")}
    assert sizes["index.db"] > 0
    if story.log == "kafka":
        assert "log.db" not in sizes
        segments = (story.root / "kafka" / "node-1" / "data").glob("bi.*/*.log")
        assert sum(path.stat().st_size for path in segments) > 80 * 2_000
    else:
        assert sizes["log.db"] > 80 * 2_000
        assert not (story.root / "kafka").exists()
    names = {path.name for path in every_file(story.root / "journaux")}
    services = ("passerelle", "passerelle-tunisie", "registre-de-preuve", "registre-de-preuve-tunisie")
    agencies = (Path(folder).name for folder in AGENCIES.values())
    assert names == {f"{name}.log" for name in (*services, "pont-burundi", "pont-tunisie", "temoin-oim", *agencies)}
    assert b"/v1/records" in (story.root / "journaux" / "passerelle.log").read_bytes()


def test_no_mailbox_holds_a_clear_name_not_even_of_those_concerned(story: Story) -> None:
    boxes = [*story.root.glob("*/mailbox.db*"), *story.root.glob("*/*/mailbox.db*")]
    assert len(boxes) >= len(AGENCIES)
    assert traces(["Ndayishimiye", "Aline", "عائشة", "Nkurunziza", "Habonimana"], boxes) == []


def test_the_gateways_metrics_count(story: Story) -> None:
    counted = 'umuhuza_gateway_records_total{code="accepted",flow="referral",kind="request"} 3.0'
    assert counted in story.metrics["passerelle/adresse"]


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_name_nobody(story: Story, service: str) -> None:
    assert SERVICES[service] in story.metrics[service]
    for word in (*WHO_MAY_KNOW, "bi/iom", "k7t4", "r5w2", "min-solidarity", "police"):
        assert not forms(word).stand_in(story.metrics[service].encode()), word


def test_nothing_private_is_readable_by_others(story: Story) -> None:
    for path in [
        *(story.root / folder / name for folder in AGENCIES.values() for name in ("keys.json", "mailbox.db")),
        *(story.root / folder / "registre/holders/a.key" for folder in (".", "tunisie")),
    ]:
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_on_kafka_one_agency_reads_from_the_brokers_itself(on_kafka: dict[str, Story]) -> None:
    [story] = on_kafka.values()
    assert "Le ministère lit sa boîte directement sur Kafka" in " ".join(story.done.err.split())
    door = [orjson.loads(line) for line in (story.root / "journaux" / "passerelle.log").read_bytes().splitlines()]
    through = {line.get("agency") for line in door if line.get("route") == "/v1/mailbox"}
    assert {"bi/k7t4", "bi/iom"} <= through
    assert "bi/min-solidarity" not in through


def test_on_kafka_nobody_else_can_read_the_brokers_keys(on_kafka: dict[str, Story]) -> None:
    [story] = on_kafka.values()
    keys = [*story.root.rglob("key.pem"), *story.root.rglob("ca.key")]
    assert len(keys) >= 3
    for path in keys:
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_ended_in_the_middle_it_leaves_no_broker_behind(tmp_path: Path) -> None:
    """As when a terminal is closed: the broker is a process of a session of its own, which nobody else would end."""
    needs_kafka()
    root = tmp_path / "tout"
    process = started("fr", root, "kafka")
    try:
        until("the broker runs", lambda: (root / "kafka" / "node-1" / "process").exists())
        assert len(processes_of(root)) >= 2
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    assert processes_of(root) == []


def test_left_alone_it_stays_and_takes_the_form_that_it_says_to_fill_in(tmp_path: Path) -> None:
    root = tmp_path / "tout"
    process = started("fr", root, "sqlite")
    try:

        def invited() -> list[str]:
            assert process.poll() is None, "it ended by itself"
            lines = (tmp_path / "stdout").read_text(encoding="utf-8").splitlines()
            return lines if any("Ctrl-C" in line for line in lines) else []

        said = [line.strip() for line in until("it says what to try", invited, LONGEST_S)]
        command = next(line for line in said if "agency template" in line).split()
        drop = Path(said[said.index("puis déposez-le dans") + 1])
        form = tmp_path / command[3]
        assert command[:3] == ["umuhuza", "agency", "template"]
        assert umuhuza(*command[1:3], form, *command[4:]).code == 0
        book = load_workbook(form)
        sheet = book["Orientation"]
        filled = referral("Ines Inventée")
        codes, _, row = sheet.iter_rows(min_row=2, max_row=4)
        for code, cell in zip(codes, row, strict=True):
            cell.value = filled.get(str(code.value))
        book.save(drop / "essai.xlsx")
        kept = root / "iom" / "dossier"
        report = kept / "rapports" / "essai.rapport.xlsx"
        until("its report", report.exists)
        assert "1 ligne envoyée" in words_of(report)
        shelter = root / "k7t4" / "dossier" / "recus"
        until("it is at the shelter", lambda: any("Ines Inventée" in words_of(path) for path in shelter.glob("*.xlsx")))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert processes_of(root) == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("passerelle/adresse", signal.SIGINT),
        ("k7t4/relie", signal.SIGTERM),
        ("k7t4/dossier/recus/*.xlsx", signal.SIGINT),
    ],
)
def test_ended_at_any_moment_it_leaves_no_process_behind(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    root = tmp_path / "tout"
    process = started("fr", root, "sqlite")
    try:
        until(moment, lambda: any(root.glob(moment)), LONGEST_S)
        assert len(processes_of(root)) >= 2
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    assert processes_of(root) == []
    assert "Traceback" not in (tmp_path / "stderr").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("training", "host", "word"), [(False, "127.0.0.1", "formation"), (True, "0.0.0.0", "cette machine")]
)
def test_its_clock_is_for_training_on_this_machine_only(tmp_path: Path, training: bool, host: str, word: str) -> None:
    _, root = init_registry(tmp_path / "registre", "bi", training)
    init_gateway(
        tmp_path / "passerelle",
        agency="bi/operator",
        registry=tmp_path / "registre" / "registry.json",
        registry_root=root.text,
        host=host,
        port=0,
    )
    ready = tmp_path / "adresse"
    command = [sys.executable, "-m", "umuhuza.demo_clock", str(tmp_path / "passerelle"), str(ready), str(tmp_path)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 2
    assert word in ended.stderr
    assert not ready.exists()


def test_its_clock_goes_forwards_and_shows_old_times_as_they_were(tmp_path: Path) -> None:
    clock, elsewhere = DemoClock(tmp_path), DemoClock(tmp_path)
    clock.move(-3600.0)
    before = time.time()
    assert elsewhere() == pytest.approx(before - 3600, abs=5)
    time.sleep(0.01)
    clock.move(0.0)
    assert elsewhere() == pytest.approx(time.time(), abs=5)
    assert elsewhere.shown(int(before * 1000)) == int(before * 1000) - 3_600_000
    later = int(time.time() * 1000)
    assert elsewhere.shown(later) == later
    with pytest.raises(ValueError, match="forwards"):
        clock.move(-1.0)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_without_java_it_says_so_and_what_helps(tmp_path: Path, language: str) -> None:
    done = umuhuza(
        *("demo", "--once", "--json", "--log", "kafka", "--dir", tmp_path / "tout"),
        language=language,
        PATH="/nowhere",
        JAVA_HOME="",
    )
    assert done.code == 3
    problem = done.json["problem"]
    assert (done.json["ok"], problem["code"]) == (False, "unavailable")
    assert ("il manque Java" if language == "fr" else "Java is missing") in problem["title"]
    assert "apt-get install" in problem["title"]
    assert "Traceback" not in done.err


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "a-garder.txt"
    kept.write_text("précieux")
    done = umuhuza("demo", "--once", "--dir", tmp_path)
    assert done.code == 2
    assert "n'est pas vide" in done.err
    assert umuhuza("demo", "--once", "--dir", tmp_path, language="en").err.count("is not empty") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a-garder.txt"]


def written(tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """One name, as eight careless programs would leave it behind."""
    import base64
    import json
    import zlib

    name = "Ndayishimiye Élise"
    yield "utf8", name.encode()
    yield "utf16", name.encode("utf-16")
    yield "latin1", name.encode("latin-1")
    yield "json", json.dumps({"nom": name}).encode()
    for shift in range(3):
        yield f"base64-{shift}", base64.urlsafe_b64encode(b"x" * shift + name.encode() + b"yz")
    yield "hex", name.encode().hex().encode()
    yield "gzip", zlib.compress(name.encode(), wbits=31)


def test_the_administrators_search_finds_a_name_however_it_is_written_and_reads_no_holes(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for label, data in written(tmp_path):
        if label not in ("gzip", "json", "latin1"):  # grep sees these as they are
            (folder / label).write_bytes(b"\0\1\2" + data.replace("É".encode(), b"E"))
    (folder / "upper").write_bytes(b"NDAYISHIMIYE")
    with (folder / "reserved").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(40 << 20)
        file.write(b"Ndayishimiye")
    found = search("Ndayishimiye", [folder])
    assert found.files == found.found == len(list(folder.iterdir())) >= 8
    assert found.bytes < 10 << 20
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "random").write_bytes(os.urandom(100_000))
    assert search("Ndayishimiye", [tmp_path / "noise"]).found == 0


def test_the_search_itself_finds_a_name_however_it_is_written(tmp_path: Path) -> None:
    for label, data in written(tmp_path):
        (tmp_path / label).write_bytes(b"\0\1\2" + data if label != "gzip" else data)
    missed = [path.name for path in every_file(tmp_path) if not traces(["Ndayishimiye Élise"], [path])]
    assert missed == []
    (tmp_path / "innocent").write_bytes(os.urandom(100_000))
    assert traces(["Ndayishimiye", "Aline", "عائشة"], [tmp_path / "innocent"]) == []
    assert len(in_base64(b"Nkurunziza")) >= 3
