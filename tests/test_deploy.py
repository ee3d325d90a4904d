# SPDX-License-Identifier: Apache-2.0
"""What stands in `deploy/` is loaded here: units as systemd reads them, alerts against the metrics that there are."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from gateway.metrics import Metrics
from schemas.errors import CODES
from tests.command_lines import parse
from umuhuza.bridge_process import Health as Bridging
from umuhuza.ledger_process import Health

ROOT = Path(__file__).resolve().parents[1]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
KAFKA = ROOT / "deploy" / "systemd" / "umuhuza-kafka.service"
WITNESS = ROOT / "deploy" / "systemd" / "umuhuza-witness.service"
"""Uses no log at all."""
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"

HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "LimitCORE": "0",
    "StateDirectoryMode": "0700",
    "User": "umuhuza",
}


class _AsWritten(configparser.ConfigParser):
    """systemd's names have capitals."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(path: Path) -> configparser.ConfigParser:
    read = _AsWritten(strict=False, interpolation=None, delimiters=("=",))
    read.read_string(path.read_text(encoding="utf-8"))
    return read


def test_there_is_a_unit_for_each_process() -> None:
    assert [path.name for path in UNITS] == [
        "umuhuza-agency@.service",
        "umuhuza-bridge@.service",
        "umuhuza-gateway.service",
        "umuhuza-kafka.service",
        "umuhuza-ledger.service",
        "umuhuza-witness.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_its_process_no_more_than_it_needs(path: Path) -> None:
    service = unit(path)["Service"]
    user = "umuhuza-kafka" if path == KAFKA else "umuhuza"
    assert {name: service.get(name) for name in HARDENED} == HARDENED | {"User": user}
    assert service["Restart"] == "always"


def test_who_uses_kafka_starts_after_it_and_stops_before_it() -> None:
    for path in UNITS:
        if path not in (KAFKA, WITNESS):
            assert KAFKA.name in unit(path)["Unit"]["After"].split()


@pytest.mark.parametrize("path", [one for one in UNITS if one != KAFKA], ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_there_is(path: Path) -> None:
    program, *arguments = unit(path)["Service"]["ExecStart"].replace("%i", "iom").split()
    assert program == "/opt/umuhuza/.venv/bin/umuhuza"
    parse(arguments)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        assert unit(path).sections() == ["Unit", "Service", "Install"]
        return
    copy = tmp_path / path.name.replace("@", "@iom")
    text = path.read_text(encoding="utf-8").replace("/opt/umuhuza/.venv/bin/umuhuza", sys.executable)
    text = text.replace("ExecStart=/usr/bin/java", f"ExecStart={sys.executable}")
    copy.write_text(text, encoding="utf-8")
    ran = subprocess.run([program, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=120)
    said = [line for line in ran.stderr.splitlines() if copy.name in line or "Unknown" in line]
    assert (ran.returncode, said) == (0, []), ran.stderr


@dataclass
class Alert:
    name: str
    values: dict[str, str] = field(default_factory=dict)


def alerts() -> list[Alert]:
    """The file as YAML of exactly this form; anything else is an error here, as a typing slip would be."""
    found: list[Alert] = []
    for number, line in enumerate(ALERTS.read_text(encoding="utf-8").splitlines(), 1):
        groups = ("  - name: umuhuza-gateway", "  - name: umuhuza-kafka", "  - name: umuhuza-ledger")
        if line.startswith("#") or line in ("groups:", *groups, "    rules:"):
            continue
        if (start := re.fullmatch(r"      - alert: ([A-Za-z]+)", line)) is not None:
            found.append(Alert(start[1]))
            continue
        if re.fullmatch(r"        (labels|annotations):", line):
            continue
        value = re.fullmatch(r"        (?:  )?(expr|for|severity|summary|runbook_url): (.+)", line)
        assert value is not None, f"line {number}"
        text = value[2]
        quoted = text.startswith('"')
        assert quoted == (value[1] in ("summary", "runbook_url")), f"line {number}"
        if quoted:
            assert re.fullmatch(r'"[^"\\]+"', text), f"line {number}"
        else:
            assert ": " not in text, f"line {number}: YAML would read a mapping"
            assert " #" not in text, f"line {number}: YAML would read a comment"
        found[-1].values[value[1]] = text.strip('"')
    return found


def sample_names() -> set[str]:
    """Every name that /metrics can show."""
    metrics = Metrics()
    metrics.watch(
        storage=lambda: 0.0,
        log_wal=lambda: 0.0,
        registry_age=lambda: 0.0,
        registry_refused=lambda: 0.0,
        registry_ends=lambda: 0.0,
        ledger_differs=lambda: 0.0,
        pending=lambda: 0.0,
    )
    metrics.request("/v1/records", "200").inc()
    metrics.record("referral", "request", "accepted").inc()
    metrics.witness_request("cosigned").inc()
    metrics.contact("tn", "believed").inc()
    metrics.met("tn", lambda: 0.0)
    return {sample.name for family in metrics.collectors.collect() for sample in family.samples}


def ledger_names() -> set[str]:
    """As `sample_names`, of the ledger's own process."""
    found = {sample.name for family in Health().collect() for sample in family.samples}
    return found | {f"umuhuza_ledger_{name}_total" for name in ("entries", "rejects")}


def bridge_names() -> set[str]:
    """Of the bridge's process; some have no sample before their first time."""
    return {f"{one.name}_total" if one.type == "counter" else one.name for one in Bridging("tn").collect()}


def test_every_alert_is_complete_and_asks_for_metrics_and_codes_that_exist() -> None:
    names = sample_names()
    assert len(alerts()) >= 10
    assert len({alert.name for alert in alerts()}) == len(alerts())
    for alert in alerts():
        assert alert.values.keys() - {"for"} == {"expr", "severity", "summary", "runbook_url"}, alert.name
        assert alert.values["severity"] in ("page", "ticket")
        expression = alert.values["expr"]
        assert expression.count("(") == expression.count(")")
        used = set(re.findall(r"umuhuza_(?:gateway|ledger|bridge)_\w+", expression))
        assert used <= names | ledger_names() | bridge_names(), alert.name
        assert used or expression.startswith("up{")
        for codes in re.findall(r'code=~?"([a-z_|]+)"', expression):
            assert set(codes.split("|")) <= CODES.keys(), alert.name


def test_every_alert_leads_to_a_heading_that_says_what_to_do() -> None:
    for alert in alerts():
        file, _, anchor = alert.values["runbook_url"].partition("#")
        assert file in tuple(f"docs/operations{page}.md" for page in ("", "/kafka", "/ledger", "/witness", "/bridge"))
        page = (ROOT / file).read_text(encoding="utf-8")
        assert anchor in {_anchor(line.lstrip("# ")) for line in page.splitlines() if line.startswith("#")}, alert.name


def test_the_alerts_are_yaml() -> None:
    read = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    found = [(rule["alert"], rule["expr"]) for group in read["groups"] for rule in group["rules"]]
    assert found == [(alert.name, alert.values["expr"]) for alert in alerts()]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_a_slip_in_the_alerts_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "alerts.yml"
    wrong.write_text(ALERTS.read_text(encoding="utf-8").replace("        expr:", "       expr:", 1), encoding="utf-8")
    monkeypatch.setitem(globals(), "ALERTS", wrong)
    with pytest.raises(AssertionError, match="line"):
        alerts()
