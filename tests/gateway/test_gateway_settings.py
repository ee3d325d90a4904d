# SPDX-License-Identifier: Apache-2.0
"""Settings, the OpenAPI document, quotas, threads: what stands around the door."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from gateway import openapi
from gateway.metrics import Metrics
from gateway.quota import Limits, Quotas
from gateway.settings import load_settings, read_registry_root, read_signing_key
from gateway.workers import Threads
from schemas.errors import PolicyError, RegistryError
from tests.domain import Domain
from tests.gateway.gateway_world import World, forged, line_of
from tests.gateway.test_gateway_manifests import manifest_of, opted_in
from tests.topics.http_harness import write_gateway
from topics.registry_file import RegistryFile
from topics.settings import SettingsError

LIMITS = Limits(records_per_minute=60, megabytes_per_hour=36, grants_per_record=16, waiting_reads=4)


def test_arguments_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = write_gateway(tmp_path, Domain("settings"), port=1000)
    assert load_settings(file, environment={}).port == 1000
    assert load_settings(file, environment={"UMUHUZA_GATEWAY_PORT": "2000"}).port == 2000
    assert load_settings(file, {"port": 3000}, {"UMUHUZA_GATEWAY_PORT": "2000"}).port == 3000
    assert load_settings(file, {"port": None}, {}).port == 1000
    assert load_settings(file, environment={}).log == tmp_path / "log.db"


def test_an_unknown_setting_names_the_nearest_known_one(tmp_path: Path) -> None:
    file = write_gateway(tmp_path, Domain("settings"))
    with pytest.raises(SettingsError, match="`wait_max_seconds`"):
        load_settings(file, {"wait_max_second": 1}, {})
    with pytest.raises(SettingsError, match="`UMUHUZA_GATEWAY_REGISTRY`"):
        load_settings(file, environment={"UMUHUZA_GATEWAY_REGISTRI": "x"})
    file.write_text(file.read_text() + "keep_alive = 5\n")
    with pytest.raises(SettingsError, match="`keep_alive_seconds`"):
        load_settings(file, environment={})


def test_wrong_and_missing_values_are_named_and_not_shown(tmp_path: Path) -> None:
    file = write_gateway(tmp_path, Domain("settings"))
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {"port": "secret-value"}, {})
    assert "port" in str(caught.value)
    assert "secret-value" not in str(caught.value)
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(SettingsError, match="registry"):
        load_settings(tmp_path / "empty.toml", environment={})
    (tmp_path / "bad.toml").write_text("port = = 1")
    for name in ("bad.toml", "not-there.toml"):
        with pytest.raises(SettingsError):
            load_settings(tmp_path / name, environment={})


def test_the_signing_key_is_its_owners_alone(tmp_path: Path) -> None:
    domain = Domain("settings")
    settings = load_settings(write_gateway(tmp_path, domain), environment={})
    assert read_signing_key(settings.signing_key).kid == domain.members["bi/operator"].sig.kid
    assert read_registry_root(settings) == domain.pin
    settings.signing_key.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_signing_key(settings.signing_key)
    settings.signing_key.chmod(0o600)
    settings.signing_key.write_text("not a key")
    with pytest.raises(SettingsError) as caught:
        read_signing_key(settings.signing_key)
    assert "not a key" in str(caught.value)
    with pytest.raises(SettingsError):
        read_signing_key(tmp_path / "absent")
    with pytest.raises(SettingsError):
        read_registry_root(settings.model_copy(update={"registry_root": "AAAA"}))


def test_a_registry_file_never_goes_back(tmp_path: Path) -> None:
    domain = Domain("settings")
    path = tmp_path / "registry.json"
    now = [1000.0]

    def write() -> None:
        path.write_bytes(domain.registry_file)
        os.utime(path, ns=(int(now[0] * 1e9), int(now[0] * 1e9)))
        now[0] += 2

    write()
    held = RegistryFile(path, domain.pin, lambda: now[0])
    first, old = held.registry.version, domain.registry

    def seen() -> tuple[int, str | None]:
        return held.registry.version, held.problem

    domain.registry = domain.registry.renewed(domain.now)
    write()
    assert seen() == (first + 1, None)
    domain.registry = old
    write()
    assert seen() == (first + 1, "registry_rollback")
    # Another file of the same version is another history.
    domain.registry = old.renewed(domain.now + 5)
    write()
    assert seen() == (first + 1, "registry_rollback")
    assert held.registry.issued == domain.now
    path.unlink()
    now[0] += 2
    assert seen() == (first + 1, "registry_invalid")
    domain.registry = old.renewed(domain.now).renewed(domain.now)
    write()
    assert seen() == (first + 2, None)
    with pytest.raises(RegistryError):
        RegistryFile(tmp_path / "absent", domain.pin, lambda: now[0])


def test_a_bucket_fills_evenly_and_never_above_its_size() -> None:
    quotas = Quotas(LIMITS)
    for _ in range(60):
        quotas.take("bi/iom", 10, 0.0)
    with pytest.raises(PolicyError) as caught:
        quotas.take("bi/iom", 10, 0.5)
    assert (caught.value.code, caught.value.path) == ("quota_exceeded", "quota.records_per_minute")
    quotas.take("bi/iom", 10, 1.5)
    quotas.take("bi/n0", 10, 1.5)
    for _ in range(60):
        quotas.take("bi/iom", 10, 1e6)
    with pytest.raises(PolicyError):
        quotas.take("bi/iom", 10, 1e6)
    with pytest.raises(PolicyError):
        quotas.take("bi/iom", 10, 0.0)  # a clock that was set back fills nothing


def test_bytes_are_counted_too() -> None:
    quotas = Quotas(LIMITS)
    quotas.take("bi/iom", 20_000_000, 0.0)
    with pytest.raises(PolicyError) as caught:
        quotas.take("bi/iom", 20_000_000, 0.0)
    assert caught.value.path == "quota.megabytes_per_hour"
    quotas.take("bi/iom", 20_000_000, 400.0)


def test_threads_keep_the_order_share_trips_and_isolate_mistakes() -> None:
    names: set[str] = set()

    def work(number: int) -> int:
        names.add(threading.current_thread().name)
        if number < 0:
            raise ValueError("negative")
        return number * 2

    async def run() -> None:
        threads = Threads(2)
        assert await threads.map(work, []) == []
        assert await threads.map(work, range(500)) == [n * 2 for n in range(500)]
        answers = await asyncio.gather(
            *(threads.map(work, [n]) for n in (*range(20), -1, *range(20, 40))), return_exceptions=True
        )
        assert isinstance(answers[20], ValueError)
        assert [answer for place, answer in enumerate(answers) if place != 20] == [[n * 2] for n in range(40)]
        threads.close()

    asyncio.run(run())
    assert all(name.startswith("umuhuza-work") for name in names)


def test_the_published_document_is_what_the_code_says() -> None:
    assert openapi.main(["--check"]) == 0


def test_the_document_describes_every_route_and_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            served = (await iom.get("/openapi.json")).json()
            assert served == orjson.loads(openapi.text())
            assert set(served["paths"]) == {
                "/v1/records",
                "/v1/mailbox",
                "/v1/token",
                "/v1/sent",
                "/v1/ends",
                "/v1/grants",
                "/v1/registry",
                "/v1/registry/{path}",
                "/v1/objections",
                "/v1/bridge/registry",
                "/v1/bridge/checkpoint",
                "/v1/bridge/objections",
                "/v1/bridge/receipts",
                "/v1/crossed",
                "/v1/crossed/receipts",
                "/v1/bridge/records",
                "/v1/bundles",
                "/v1/witness/add-checkpoint",
                "/v1/log/checkpoint",
                "/v1/log/tile/{tile}",
                "/v1/receipts",
                "/healthz",
                "/readyz",
                "/metrics",
            }
            for method, path in (("GET", "/v1/records"), ("POST", "/v1/mailbox"), ("DELETE", "/v1/token")):
                response = await iom.client.request(method, path)
                assert response.status_code in (400, 405)
                assert response.json()["code"] == "request_invalid"

    asyncio.run(run())


def validator(name: str) -> Draft202012Validator:
    """Of one component of the document, references resolved within it."""
    document = orjson.loads(openapi.text())
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def check(name: str, value: object) -> None:
    problems = [error.json_path for error in validator(name).iter_errors(value)]
    assert problems == []


def test_the_twins_are_true(tmp_path: Path) -> None:
    """What the two bare routes take and answer is what the document says of them."""

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/k7t4") as k7t4:
            records = [world.domain.record() for _ in range(3)]
            for record in records:
                check("PublishLine", orjson.loads(line_of(record)))
            told = await iom.send(records[0], records[2], forged(records[1]), records[0])
            for line in (told[0], told[1], told[3]):
                check("AcceptedLine", line)
            assert told[1]["finding"] == "seq_gap"
            check("RefusedLine", told[2])
            check("PromiseLine", told[4])
            single = await iom.single(line_of(records[1]))
            check("AcceptedLine", single.json())
            opted_in(world)
            world.registry_changed()
            manifest = manifest_of(line_of(world.domain.record()))
            check("ManifestLine", orjson.loads(manifest))
            granted = (await iom.single(manifest)).json()
            check("GrantedLine", granted)
            assert not validator("AcceptedLine").is_valid(granted)
            assert (await iom.send_lines([manifest]))[0] == granted
            for line in await k7t4.mailbox():
                check("MailboxLine", line)
            refused = await iom.single(b"{}")
            check("Problem", refused.json())
            operations = orjson.loads(openapi.text())["paths"]
            kinds = operations["/v1/records"]["post"]["responses"]["200"]["content"]
            assert {single.headers["content-type"], "application/x-ndjson"} == set(kinds)
            responses = operations["/v1/records"]["post"]["responses"]
            assert str(refused.status_code) in responses
            assert not validator("AcceptedLine").is_valid(told[0] | {"more": 1})

    asyncio.run(run())


def test_metrics_have_the_units_in_their_names_and_no_agency() -> None:
    metrics = Metrics()
    metrics.request("/v1/records", "200").inc()
    metrics.record("referral", "request", "accepted").inc()
    metrics.watch(
        storage=lambda: 7.0,
        log_wal=lambda: 5.0,
        registry_age=lambda: 8.0,
        registry_refused=lambda: 0.0,
        registry_ends=lambda: 9.0,
        ledger_differs=lambda: 0.0,
        pending=lambda: 3.0,
    )
    text = metrics.text().decode()
    for name in (
        'umuhuza_gateway_requests_total{code="200",route="/v1/records"} 1.0',
        'umuhuza_gateway_records_total{code="accepted",flow="referral",kind="request"} 1.0',
        "umuhuza_gateway_append_seconds_bucket",
        "umuhuza_gateway_waiting_reads 0.0",
        "umuhuza_gateway_storage_bytes 7.0",
        "umuhuza_gateway_log_wal_bytes 5.0",
        "umuhuza_gateway_registry_age_seconds 8.0",
        "umuhuza_gateway_index_lag_records 0.0",
        "umuhuza_gateway_clock_suspects_total 0.0",
    ):
        assert name in text
    assert "agency" not in text
