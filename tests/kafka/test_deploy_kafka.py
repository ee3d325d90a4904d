# SPDX-License-Identifier: Apache-2.0
"""The Kafka files of `deploy/`: made by the code, read by YAML's own rules, and started on real nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import orjson
import pytest
import yaml
from typer.testing import CliRunner

from tests.kafka.conftest import QUICK, needs_kafka
from topics.kafka_catalogue import kafka_acls, kafka_quotas, kafka_topics
from topics.settings import SettingsError
from umuhuza.cli import build
from umuhuza.kafka import artefacts, certificates, deployment
from umuhuza.kafka.certificates import Credentials
from umuhuza.kafka.cluster import _free_ports
from umuhuza.kafka.probe import NoAnswerError, ask
from umuhuza.kafka.production import ETC, LIBS, LOGS, Hosts, Site, format_arguments, node_properties
from umuhuza.kafka.strimzi import resources, topics_in
from umuhuza.publish import deployment_differing, main

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NOW = 1_800_000_000
WITHIN_S = 90.0
DIRECTORY = "kWkYtHn5TEqZJuXqVbU2mA"


def read_properties(text: str) -> dict[str, str]:
    rows = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    return {name: value.replace("\\\\", "\\") for name, _, value in rows}


# ---------------------------------------------------------------------------------------------------------------------
# Made, not written


def test_the_files_are_what_the_code_makes_and_a_change_by_hand_is_seen(tmp_path: Path) -> None:
    assert deployment_differing(DEPLOY) == []
    published = tmp_path / "published"
    published.mkdir()
    assert main([], published, deploy=tmp_path) == 0
    assert main(["--check"], published, deploy=tmp_path) == 0
    (tmp_path / "kafka" / "one" / "server.properties").write_text("allow.everyone.if.no.acl.found=true\n")
    (tmp_path / "strimzi" / "more.yaml").write_text("")
    assert deployment_differing(tmp_path) == ["deploy/kafka/one/server.properties", "deploy/strimzi/more.yaml"]
    assert main(["--check"], published, deploy=tmp_path) == 1


def test_nodes_of_the_examples_differ_in_nothing_but_who_they_are() -> None:
    told = [read_properties((DEPLOY / f"kafka/three/node-{node}.properties").read_text()) for node in (1, 2, 3)]
    own = {"node.id", "advertised.listeners"}
    assert [{name: value for name, value in one.items() if name not in own} for one in told[1:]] == [
        {name: value for name, value in told[0].items() if name not in own}
    ] * 2
    assert [one["node.id"] for one in told] == ["1", "2", "3"]


def test_no_host_of_the_examples_can_exist() -> None:
    for name, text in deployment.files().items():
        hosts = set(re.findall(r"//([\w.-]+):[0-9]+", text)) - {"0.0.0.0"}
        assert all(host.endswith(".example") for host in hosts), name


# ---------------------------------------------------------------------------------------------------------------------
# Folders for other machines

THREE = Hosts(("10.0.0.1", "10.0.0.2", "10.0.0.3"))


def test_each_node_gets_what_is_its_own_and_no_more(tmp_path: Path) -> None:
    site = Site.open_or_make(tmp_path / "site", THREE)
    assert site.prepare(NOW) == ("node-1", "node-2", "node-3", "admin")
    assert site.client("bi/iom", NOW)
    for node in (1, 2, 3):
        folder = site.folder / f"node-{node}"
        names = {path.name for path in folder.iterdir()}
        assert names == {"ca.pem", "format.sh", "keystore.pem", "log4j2.properties", "server.properties"}
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert read_properties((folder / "server.properties").read_text()) == node_properties(THREE, node)
    scripts = {(site.folder / f"node-{node}" / "format.sh").read_text() for node in (1, 2, 3)}
    assert len(scripts) == 1
    assert scripts.pop().count("@10.0.0.") == 3
    assert (
        site.folder / "clients" / "bi.iom" / "bootstrap"
    ).read_text() == "10.0.0.1:9092,10.0.0.2:9092,10.0.0.3:9092\n"


def test_preparing_again_changes_nothing_until_certificates_near_their_end(tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    site = Site.open_or_make(tmp_path, THREE)
    site.prepare(NOW)
    site.client("bi/iom", NOW)
    before = contents()
    again = Site.open_or_make(tmp_path, THREE)
    assert again.prepare(NOW) == ()
    assert not again.client("bi/iom", NOW)
    assert contents() == before
    later = NOW + certificates.CERTIFICATE_S - certificates.RENEW_S + 1
    assert again.prepare(later) == ("node-1", "node-2", "node-3", "admin")
    assert again.client("bi/iom", later)
    assert contents()["ca/ca.pem"] == before["ca/ca.pem"]


def test_a_cluster_keeps_its_hosts_and_a_folder_its_cluster(tmp_path: Path) -> None:
    Site.open_or_make(tmp_path / "site", THREE)
    with pytest.raises(SettingsError, match="other hosts"):
        Site.open_or_make(tmp_path / "site", Hosts(("10.0.0.9",)))
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "cluster.json").write_text("{}")
    with pytest.raises(SettingsError, match="another"):
        Site.open_or_make(tmp_path / "local", THREE)
    (tmp_path / "site" / "site.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"site\.json"):
        Site.open_or_make(tmp_path / "site", THREE)


@pytest.mark.parametrize(
    "hosts",
    [
        lambda: Hosts(("a", "b")),
        lambda: Hosts(("a", "a", "b")),
        lambda: Hosts(("a:9092",)),
        lambda: Hosts(("a",), ("b", "c")),
        lambda: Hosts(()),
        lambda: Hosts(("A",)),
        lambda: Hosts(("a'; rm",)),
    ],
)
def test_hosts_that_cannot_work_are_refused(hosts: Callable[[], Hosts]) -> None:
    with pytest.raises(SettingsError):
        hosts()


# ---------------------------------------------------------------------------------------------------------------------
# Started


Process = subprocess.Popen[bytes]


@contextmanager
def running(folder: Path, libs: Path, node: int, text: str, arguments: list[str]) -> Iterator[Process]:
    """One node told `text`, its disk formatted first, as the service would start it; ended afterwards."""
    home = folder / f"node-{node}"
    properties = home / "started.properties"
    properties.write_text(text)
    java = artefacts.find_java()
    logging = f"-Dlog4j2.configurationFile={home / 'started-log4j2.properties'}"
    told = (home / "log4j2.properties").read_text().replace(str(LOGS), str(home / "logs"))
    (home / "started-log4j2.properties").write_text(told)
    arguments = [str(properties) if one == str(ETC / "server.properties") else one for one in arguments]
    tool = [java, "-Xmx128m", *QUICK, logging, "-cp", f"{libs}/*", "kafka.tools.StorageTool", *arguments]
    formatted = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert formatted.returncode == 0, formatted.stdout.decode()
    command = [
        java,
        "-Xmx256m",
        "-XX:+UseSerialGC",
        *QUICK,
        logging,
        "-cp",
        f"{libs}/*",
        "kafka.Kafka",
        str(properties),
    ]
    with (home / "console").open("wb") as console, subprocess.Popen(command, stdout=console, stderr=console) as process:
        try:
            yield process
            assert process.poll() is None, (home / "console").read_text()
        finally:
            process.kill()


def wait_for(address: str, files: Path, *processes: Process) -> None:
    credentials = Credentials(files / "ca.pem", files / "certificate.pem", files / "key.pem", NOW)
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            if ask(address, credentials).brokers:
                return
        except NoAnswerError:
            assert time.monotonic() < deadline, address
        assert [process.poll() for process in processes] == [None] * len(processes)
        time.sleep(0.2)


def local(text: str, folder: Path, node: int, changes: Mapping[str, str]) -> str:
    """An example's text for this machine: its placeholders replaced, nothing else."""
    home = folder / f"node-{node}"
    for found, put in (*changes.items(), (str(ETC), str(home)), ("/var/lib/umuhuza-kafka/data", str(home / "data"))):
        assert found in text, found
        text = text.replace(found, put)
    return text


def registry_file(folder: Path) -> Path:
    """A folder as `registry init` makes it, with two agencies."""
    runner, app = CliRunner(), build()

    def run(*arguments: str) -> bytes:
        ran = runner.invoke(app, list(arguments))
        assert ran.exit_code == 0, ran.output
        return ran.stdout.encode()

    run("registry", "init", "--dir", str(folder), "--domain", "bi", "--no-passphrase")
    key = orjson.loads(run("registry", "show", "--dir", str(folder), "--json"))["registry_root"]
    for agency, role in (("bi/iom", "screener"), ("bi/k7t4", "shelter")):
        own = folder.parent / agency.rpartition("/")[2]
        init = ["agency", "init", "--dir", str(own), "--agency", agency, "--name", "Agence inventée", "--role", role]
        run(*init, "--gateway", "http://127.0.0.1:1", "--registry-root", key)
        run("registry", "add", str(own / "inscription.json"), "--dir", str(folder))
    return folder


def test_the_only_node_starts_with_the_example_and_takes_the_registrys_topics_and_rights(tmp_path: Path) -> None:
    needs_kafka()
    libs, (clients, controllers) = artefacts.resolve(), _free_ports(2)
    site = Site.open_or_make(tmp_path / "site", Hosts(("127.0.0.1",)))
    site.prepare(time.time())
    ports = {
        "kafka-1.example:9092": f"127.0.0.1:{clients}",
        "kafka-1.example:9093": f"127.0.0.1:{controllers}",
        "0.0.0.0:9092": f"127.0.0.1:{clients}",
        "0.0.0.0:9093": f"127.0.0.1:{controllers}",
    }
    text = local((DEPLOY / "kafka/one/server.properties").read_text(), site.folder, 1, ports)
    arguments = format_arguments(site.hosts, 1, site.cluster_id, {1: DIRECTORY})
    arguments = [one.replace("127.0.0.1:9093", f"127.0.0.1:{controllers}") for one in arguments]
    registre = registry_file(tmp_path / "registre")
    runner, app, files = CliRunner(), build(), site.folder / "clients" / "admin"
    apply = ["kafka", "apply", "--kafka-files", str(files), "--kafka", f"127.0.0.1:{clients}", "--json"]
    apply += ["--registry", str(registre)]
    with running(site.folder, libs, 1, text, arguments) as node:
        wait_for(f"127.0.0.1:{clients}", files, node)
        foreseen = runner.invoke(app, [*apply, "--dry-run"])
        assert foreseen.exit_code == 0, foreseen.output
        named = orjson.loads(runner.invoke(app, [*apply, "--no-rights"]).stdout)
        done = [orjson.loads(runner.invoke(app, apply).stdout) for _ in range(2)]
        restored = ["kafka", "restored", "--kafka-files", str(files), "--kafka", f"127.0.0.1:{clients}"]
        renewed = runner.invoke(app, [*restored, "--domain", "bi", "--json"])
    assert renewed.exit_code == 0, renewed.output
    assert "bi.registry.log" in named["created"]
    assert "bi.registry.log" in orjson.loads(foreseen.stdout)["created"]
    assert (named["allowed"], done[0]["created"]) == ([], [])
    assert "User:bi.iom read bi.grants.iom" in done[0]["allowed"]
    assert orjson.loads(foreseen.stdout)["allowed"] == done[0]["allowed"]
    assert (done[1]["created"], done[1]["allowed"], done[1]["settings"], done[1]["findings"]) == ([], [], {}, [])


def test_a_folder_without_an_address_is_said_before_anything_is_tried(tmp_path: Path) -> None:
    registre = registry_file(tmp_path / "registre")
    apply = ["kafka", "apply", "--registry", str(registre), "--kafka-files", str(tmp_path)]
    for arguments in (apply, [*apply, "--dir", str(tmp_path)], [*apply[:4], "--kafka", "127.0.0.1:1"]):
        ran = CliRunner().invoke(build(), arguments)
        assert isinstance(ran.exception, SettingsError), ran.output


def test_a_broker_and_a_controller_of_the_production_example_find_each_other(tmp_path: Path) -> None:
    needs_kafka()
    libs, (clients, controllers) = artefacts.resolve(), _free_ports(2)
    site = Site.open_or_make(tmp_path / "site", Hosts(("127.0.0.1", "b", "c"), ("localhost", "e", "f")))
    site.prepare(time.time())
    voters = ",".join(f"kafka-{node}.example:9093" for node in (4, 5, 6))
    quorum = {voters: f"localhost:{controllers}"}
    broker = local(
        (DEPLOY / "kafka/production/broker-1.properties").read_text(),
        site.folder,
        1,
        quorum | {"kafka-1.example:9092": f"127.0.0.1:{clients}", "0.0.0.0:9092": f"127.0.0.1:{clients}"},
    )
    controller = local(
        (DEPLOY / "kafka/production/controller-4.properties").read_text(),
        site.folder,
        4,
        quorum | {"kafka-4.example:9093": f"localhost:{controllers}", "0.0.0.0:9093": f"127.0.0.1:{controllers}"},
    )
    only = ["-I", f"4@localhost:{controllers}:{DIRECTORY}"]
    plain = format_arguments(site.hosts, 1, site.cluster_id, {})
    assert "-I" not in plain
    first = [*plain[:3], *only, *plain[3:]]
    with running(site.folder, libs, 4, controller, first) as one, running(site.folder, libs, 1, broker, plain) as other:
        wait_for(f"127.0.0.1:{clients}", site.folder / "clients" / "admin", one, other)


# ---------------------------------------------------------------------------------------------------------------------
# The container


def compose() -> dict[str, Any]:
    read = yaml.safe_load((DEPLOY / "kafka/compose.yaml").read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """As Compose does: `${NAME}` and `${NAME:?why}` are variables, `$$` is a dollar."""

    def put(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables[found[1]]

    return re.sub(r"\$\$|\$\{([A-Z_]+)(?::\?[^}]*)?\}", put, text)


def test_the_container_is_told_what_the_only_node_is_told() -> None:
    service = compose()["services"]["kafka"]
    variables = {"KAFKA_HOST": "kafka-1.example", "KAFKA_CLUSTER_ID": "id", "KAFKA_NODE": "/srv/node-1"}
    told = {name: interpolated(value, variables) for name, value in service["environment"].items()}
    example = read_properties((DEPLOY / "kafka/one/server.properties").read_text())
    data = {"log.dirs": "/var/lib/kafka/data", "controller.quorum.voters": "1@kafka-1.example:9093"}
    expected = {deployment.variable(name): value for name, value in (example | data).items()}
    assert told == expected | {"CLUSTER_ID": "id", "KAFKA_HEAP_OPTS": "-Xms64m -Xmx512m"}
    assert [interpolated(one, variables) for one in service["volumes"]] == [
        "/srv/node-1:/etc/umuhuza-kafka:ro",
        "data:/var/lib/kafka/data",
    ]
    assert interpolated(service["hostname"], variables) == "kafka-1.example"
    assert re.fullmatch(rf"apache/kafka:{re.escape(artefacts.version())}@sha256:[0-9a-f]{{64}}", service["image"])
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])


def test_the_images_own_program_makes_that_file_of_it_and_a_node_starts_from_it(tmp_path: Path) -> None:
    """What the image runs before Kafka is in Kafka's own jar; there is no container here to run the rest."""
    needs_kafka()
    libs, (clients, controllers) = artefacts.resolve(), _free_ports(2)
    site = Site.open_or_make(tmp_path / "site", Hosts(("127.0.0.1",)))
    site.prepare(time.time())
    variables = {"KAFKA_HOST": "127.0.0.1", "KAFKA_CLUSTER_ID": site.cluster_id}
    home = site.folder / "node-1"
    environment = {}
    for name, value in compose()["services"]["kafka"]["environment"].items():
        text = interpolated(value, variables).replace(":9092", f":{clients}").replace(":9093", f":{controllers}")
        text = text.replace(str(ETC), str(home)).replace("/var/lib/kafka/data", str(home / "data"))
        environment[name] = text.replace("0.0.0.0", "127.0.0.1")
    folders = {name: tmp_path / name for name in ("default", "mounted", "final")}
    for folder in folders.values():
        folder.mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folders["default"] / name).touch()
    setup = [artefacts.find_java(), "-Xmx128m", *QUICK, "-cp", f"{libs}/*", "kafka.docker.KafkaDockerWrapper", "setup"]
    for option, folder in zip("DMF", folders.values(), strict=True):
        setup += [f"-{option}", str(folder)]
    environment["PATH"] = os.environ["PATH"]
    ran = subprocess.run(setup, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert ran.returncode == 0, ran.stdout.decode()
    assert f"cluster.id={site.cluster_id}" in (home / "data" / "meta.properties").read_text()
    made = (folders["final"] / "server.properties").read_text()
    assert "$/$2.$1/," in made
    formatted_already = ["version-mapping"]
    with running(site.folder, libs, 1, made, formatted_already) as node:
        wait_for(f"127.0.0.1:{clients}", site.folder / "clients" / "admin", node)


# ---------------------------------------------------------------------------------------------------------------------
# Strimzi


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "strimzi" / name).read_text(encoding="utf-8")))


def closed(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    required = sorted(properties.keys() - set(optional))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


LABELLED = closed(
    {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"},
        "labels": closed({"strimzi.io/cluster": {"const": "umuhuza"}}),
    }
)
COUNT = {"type": "integer", "minimum": 0}
SETTINGS = {"type": "object", "additionalProperties": {"type": "string"}}
ACL = closed(
    {
        "type": {"enum": ["allow", "deny"]},
        "resource": closed(
            {
                "type": {"enum": ["topic", "group", "cluster", "transactionalId"]},
                "name": {"type": "string"},
                "patternType": {"enum": ["literal", "prefix"]},
            }
        ),
        "operations": {"type": "array", "items": {"enum": ["Read", "Write", "Create", "Delete", "Alter", "Describe"]}},
    }
)
SPECS: dict[str, dict[str, Any]] = {
    "KafkaTopic": closed(
        {"partitions": {"type": "integer", "minimum": 1}, "replicas": {"type": "integer"}, "config": SETTINGS}
    ),
    "KafkaUser": closed(
        {
            "authentication": closed({"type": {"enum": ["tls", "tls-external", "scram-sha-512"]}}),
            "authorization": closed({"type": {"const": "simple"}, "acls": {"type": "array", "items": ACL}}),
            "quotas": closed(dict.fromkeys(("producerByteRate", "consumerByteRate", "requestPercentage"), COUNT)),
        },
        "authorization",
        "quotas",
    ),
}
"""The part of Strimzi's own schemas (kafka.strimzi.io/v1) that our resources use, closed: a member that we do not mean
is an error here. The schemas themselves come in no package that an ordinary client fetches."""


@pytest.mark.parametrize("name", ["topics.yaml", "users.yaml"])
def test_strimzis_resources_have_the_form_of_their_kind(name: str) -> None:
    found = documents(name)
    assert len(found) > 3
    for document in found:
        kinds = {"apiVersion": {"const": "kafka.strimzi.io/v1"}, "kind": {"enum": list(SPECS)}}
        form = closed({**kinds, "metadata": LABELLED, "spec": SPECS[document["kind"]]})
        assert list(jsonschema.Draft202012Validator(form).iter_errors(document)) == []


def test_strimzis_topics_and_rights_are_the_catalogues_to_the_letter() -> None:
    registry = deployment.example_registry()
    topics = {one["metadata"]["name"]: one["spec"] for one in documents("topics.yaml")}
    assert topics == {
        name: {"partitions": 1, "replicas": topic.replication, "config": dict(topic.settings)}
        for name, topic in kafka_topics(registry, 3).items()
    }
    rights = {
        (f"User:{user['metadata']['name']}", operation.lower(), acl["resource"]["name"])
        for user in documents("users.yaml")
        for acl in user["spec"].get("authorization", {"acls": []})["acls"]
        for operation in acl["operations"]
        if (acl["type"], acl["resource"]["patternType"]) == ("allow", "literal")
    }
    assert rights == {(acl.principal, acl.operation, acl.name) for acl in kafka_acls(registry)}
    limited = {user["metadata"]["name"] for user in documents("users.yaml") if "quotas" in user["spec"]}
    assert limited == kafka_quotas(registry).keys()


def test_strimzis_topics_of_an_agency_that_has_left_stay_and_its_user_goes() -> None:
    """Strimzi deletes the records with a KafkaTopic that is taken away, and the ledger's rights with its line."""
    registry = deployment.example_registry()
    gone = next(agency for agency in registry.agencies if agency.endswith("/k7t4"))
    left = replace(registry, agencies={name: one for name, one in registry.agencies.items() if name != gone})
    before = resources(registry)
    after = resources(left, known=topics_in(before["topics.yaml"]))
    assert after["topics.yaml"] == before["topics.yaml"]
    users = {one["metadata"]["name"]: one["spec"] for one in yaml.safe_load_all(after["users.yaml"])}
    assert "bi.k7t4" not in users
    may = {
        (who, operation, acl["resource"]["name"])
        for who, spec in users.items()
        for acl in spec.get("authorization", {"acls": []})["acls"]
        for operation in acl["operations"]
        if acl["resource"]["name"] in ("bi.grants.k7t4", "bi.referral.k7t4")
    }
    assert may == {
        ("bi.operator", "Read", "bi.grants.k7t4"),
        ("bi.operator", "Write", "bi.grants.k7t4"),
        ("bi.ledger", "Read", "bi.grants.k7t4"),
        ("bi.ledger", "Read", "bi.referral.k7t4"),
    }
    assert "bi.grants.k7t4" not in resources(left)["topics.yaml"]


def test_strimzis_cluster_asks_for_certificates_denies_by_default_and_is_told_nothing_that_it_refuses() -> None:
    *pools, kafka = documents("kafka.yaml")
    assert [(pool["kind"], pool["spec"]["roles"], pool["spec"]["replicas"]) for pool in pools] == [
        ("KafkaNodePool", ["controller"], 3),
        ("KafkaNodePool", ["broker"], 3),
    ]
    assert all(volume["deleteClaim"] is False for pool in pools for volume in pool["spec"]["storage"]["volumes"])
    told = kafka["spec"]["kafka"]
    assert [(one["tls"], one["authentication"]) for one in told["listeners"]] == [(True, {"type": "tls"})]
    assert told["authorization"] == {"type": "simple", "superUsers": ["CN=admin"]}
    refused = (
        "listeners advertised. broker. listener. host.name port inter.broker. sasl. ssl. security. password. log.dir"
    )
    refused += " authorizer. super.user node.id process.roles controller. metadata.log.dir"
    assert [name for name in told["config"] if name.startswith(tuple(refused.split()))] == []
    example = read_properties((DEPLOY / "kafka/three/node-1.properties").read_text())
    assert {name: example[name] for name in told["config"]} == told["config"]
    assert told["config"]["log.flush.interval.messages"] == "1"
    assert told["config"]["min.insync.replicas"] == "2"


def test_an_operator_makes_them_from_their_own_registry(tmp_path: Path) -> None:
    registre = registry_file(tmp_path / "registre")
    ran = CliRunner().invoke(
        build(), ["kafka", "strimzi", "--registry", str(registre), "--out", str(tmp_path / "k8s"), "--json"]
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["files"] == ["kafka.yaml", "topics.yaml", "users.yaml"]
    users = list(yaml.safe_load_all((tmp_path / "k8s" / "users.yaml").read_text()))
    assert [user["metadata"]["name"] for user in users] == ["admin", "bi.iom", "bi.k7t4", "bi.ledger"]


# ---------------------------------------------------------------------------------------------------------------------
# The service


def test_the_service_starts_what_is_checked_with_the_settings_that_are_prepared() -> None:
    unit = (DEPLOY / "systemd" / "umuhuza-kafka.service").read_text()
    assert f"WorkingDirectory={LIBS}\n" in unit
    assert f"-cp {LIBS}/* kafka.Kafka {ETC / 'server.properties'}\n" in unit
    assert f"-Dlog4j2.configurationFile={ETC / 'log4j2.properties'}" in unit
    assert f"LogsDirectory={LOGS.name}\n" in unit
    assert f"StateDirectory={PurePosixPath('/var/lib/umuhuza-kafka').name}\n" in unit
    checks = re.search(r"^ExecStartPre=/usr/bin/sha256sum .* /opt/umuhuza/(\S+)$", unit, re.MULTILINE)
    assert checks is not None
    assert (ROOT / checks[1]).read_text().splitlines()[0].split()[1].endswith(".jar")
