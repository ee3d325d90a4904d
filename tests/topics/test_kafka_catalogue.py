# SPDX-License-Identifier: Apache-2.0
"""Topics and ACLs that follow from the catalogue, and the library's errors in the tree's words. No broker needed."""

from __future__ import annotations

import importlib
import inspect
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.envelope import KINDS, split_topic
from schemas.errors import LogError
from schemas.registry import Agency, Registry
from tests.domain import NOW, Domain
from topics import kafka_access, kafka_clients
from topics.catalogue import Act, mailboxes_of, may, topics_of
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import KafkaAcl, kafka_acls, kafka_principal, kafka_topic, kafka_topics
from topics.log import grants_topic
from topics.topic_names import ledger_topic, registry_topic

DIRECT = ("bi/iom", "bi/police")


def with_direct(registry: Registry) -> Registry:
    """Two agencies have opted in; one has a name that begins like another's."""
    for agency in DIRECT:
        registry = registry.with_agency(replace(registry.agency(agency), direct=True), NOW)
    neighbour = Agency("bi/iom-gitega", {"fr": "Antenne (inventée)"}, ("assistance",), ())
    return registry.with_agency(neighbour, NOW)


REGISTRY = with_direct(Domain().registry)
ACLS = kafka_acls(REGISTRY)


def allowed(agency: str, operation: str) -> set[str]:
    return {acl.name for acl in ACLS if acl.principal == kafka_principal(agency) and acl.operation == operation}


def members() -> list[str]:
    return [agency for agency in REGISTRY.agencies if "operator" not in REGISTRY.agency(agency).roles]


def test_every_topic_of_the_domain_is_on_kafka_and_one_says_which_log_it_is() -> None:
    topics = kafka_topics(REGISTRY, 1)
    assert set(topics) == {*topics_of(REGISTRY), "bi.registry.log", "bi.ledger"}
    assert all(name == topic.name for name, topic in topics.items())


def test_every_topic_is_synced_before_it_acknowledges_and_mailboxes_are_kept_for_ever() -> None:
    for name, topic in kafka_topics(REGISTRY, 3).items():
        assert topic.settings["flush.messages"] == "1"
        compacted = name != ledger_topic("bi") and (name == registry_topic("bi") or split_topic(name)[0] == "grants")
        assert topic.settings["cleanup.policy"] == ("compact" if compacted else "delete")
        if not compacted:
            assert topic.settings["retention.ms"] == "-1"


def test_no_topic_leans_on_its_brokers_for_whose_clock_counts() -> None:
    for name, topic in kafka_topics(REGISTRY, 3).items():
        assert topic.settings["message.timestamp.type"] == "LogAppendTime", name


@pytest.mark.parametrize(("nodes", "replicas", "in_sync"), [(1, 1, "1"), (2, 2, "2"), (3, 3, "2"), (5, 3, "2")])
def test_with_three_brokers_two_have_what_is_acknowledged(nodes: int, replicas: int, in_sync: str) -> None:
    for topic in kafka_topics(REGISTRY, nodes).values():
        assert topic.replication == replicas
        assert topic.settings["min.insync.replicas"] == in_sync
        assert topic.settings["unclean.leader.election.enable"] == "false"


@pytest.mark.parametrize("name", ["bi.ledger.k7t4", "bi.nonsense.k7t4", "bi.referral", "bi.referral.*", "", "x"])
def test_what_is_no_topic_of_ours_has_no_settings(name: str) -> None:
    with pytest.raises(LogError) as caught:
        kafka_topic(name, 1)
    assert caught.value.code == "topic_unknown"


def test_acls_allow_single_topics_by_their_full_name_and_nothing_else() -> None:
    names = set(kafka_topics(REGISTRY, 1))
    for acl in ACLS:
        assert (acl.resource, acl.pattern, acl.permission, acl.host) == ("topic", "literal", "allow", "*")
        assert acl.operation in ("read", "write")
        assert acl.name in names


@pytest.mark.parametrize("agency", members())
def test_an_agency_reads_its_own_mailboxes_its_own_grants_and_the_logs_identity(agency: str) -> None:
    own = {*mailboxes_of(REGISTRY.agency(agency)), grants_topic(agency), "bi.registry.log"}
    assert allowed(agency, "read") == own


@pytest.mark.parametrize("agency", members())
def test_an_agency_writes_where_policy_lets_it_send_and_only_when_it_opted_in(agency: str) -> None:
    mailboxes = [topic for other in REGISTRY.agencies.values() for topic in mailboxes_of(other)]
    sends = {
        topic for topic in mailboxes if any(may(Act("send", agency, topic, kind=kind), REGISTRY).ok for kind in KINDS)
    }
    assert sends
    assert allowed(agency, "write") == (sends if agency in DIRECT else set())


def test_the_firewall_is_on_the_brokers_too() -> None:
    writes = allowed("bi/police", "write")
    protected = [agency for agency, one in REGISTRY.agencies.items() if one.protected]
    assert protected
    for agency in protected:
        assert not {topic for topic in writes if topic.endswith("." + agency.partition("/")[2])} & {
            f"bi.referral.{agency[3:]}", f"bi.case.{agency[3:]}"
        }  # fmt: skip


def test_the_gateway_reads_and_writes_every_mailbox_and_grant_but_not_the_logs_identity_nor_the_ledger() -> None:
    everything = set(topics_of(REGISTRY))
    assert allowed("bi/operator", "write") == everything
    assert allowed("bi/operator", "read") == everything | {"bi.registry.log"}


def test_the_ledgers_keeper_reads_everything_and_writes_the_ledger_alone_which_nobody_else_writes() -> None:
    assert allowed("bi/ledger", "read") == {*topics_of(REGISTRY), ledger_topic("bi"), "bi.registry.log"}
    assert allowed("bi/ledger", "write") == {ledger_topic("bi")}
    assert {acl.principal for acl in ACLS if acl.name == ledger_topic("bi")} == {"User:bi.ledger"}


def test_an_agency_that_has_the_ledgers_name_does_not_get_its_rights() -> None:
    homonym = Agency("bi/ledger", {"fr": "Agence (inventée)"}, ("assistance",), ())
    acls = kafka_acls(REGISTRY.with_agency(homonym, NOW))
    assert not [acl for acl in acls if acl.name == ledger_topic("bi")]
    assert KafkaAcl("User:bi.ledger", "read", "bi.case.iom") not in acls


def test_an_agency_that_left_the_registry_keeps_no_acl() -> None:
    smaller = replace(REGISTRY, agencies={k: v for k, v in REGISTRY.agencies.items() if k != "bi/iom"})
    left = kafka_acls(smaller)
    assert not [acl for acl in left if acl.principal == "User:bi.iom" or acl.name.endswith(".iom")]
    assert KafkaAcl("User:bi.police", "read", "bi.receipt.police") in left


@pytest.mark.parametrize("agency", ["bi/iom", "bi/operator"])
def test_an_agency_whose_signing_keys_are_revoked_keeps_no_acl(agency: str) -> None:
    [kid] = [key.kid for key in REGISTRY.agency(agency).keys if key.use == "sig"]
    left = kafka_acls(REGISTRY.with_key_revoked(agency, kid, NOW))
    assert not [acl for acl in left if acl.principal == kafka_principal(agency)]
    assert {acl for acl in ACLS if acl.principal != kafka_principal(agency)} == left


def test_an_agency_that_changed_its_signing_key_keeps_its_acls() -> None:
    iom, other = REGISTRY.agency("bi/iom"), REGISTRY.agency("bi/police")
    [old] = [key.kid for key in iom.keys if key.use == "sig"]
    new = next(key for key in other.keys if key.use == "sig")
    changed = REGISTRY.with_agency(replace(iom, keys=(*iom.keys, new)), NOW).with_key_revoked("bi/iom", old, NOW)
    assert kafka_acls(changed) == ACLS


def _library_errors() -> list[type[Exception]]:
    # Not imported above: the library warns when it is imported by anybody but the driver.
    found = vars(importlib.import_module("kafka.errors")).values()
    return [one for one in found if inspect.isclass(one) and issubclass(one, Exception) and hasattr(one, "retriable")]


def test_what_the_library_would_retry_is_retried_and_nothing_unknown_is_taken_for_a_no() -> None:
    codes = {}
    for kind in _library_errors():
        error = kafka_access.error_of(kind.__new__(kind), "bi.referral.k7t4")
        codes[kind.__name__] = error.code
        assert error.path == "bi.referral.k7t4"
        if getattr(kind, "retriable", False):
            assert error.retriable, kind.__name__
    assert len(codes) > 100
    assert {name for name, code in codes.items() if code == "storage_full"} == {"KafkaStorageError"}
    assert codes["TopicAuthorizationFailedError"] == codes["ClusterAuthorizationFailedError"] == "not_permitted"
    assert codes["MessageSizeTooLargeError"] == codes["RecordListTooLargeError"] == "too_large"
    refused = {name for name, code in codes.items() if code not in ("unavailable", "storage_full")}
    known = ("AuthorizationFailedError", "AuthorizationError", "TooLargeError", "TopicError")
    assert all(name.endswith(known) for name in refused)


def test_files_that_are_no_certificates_are_named_without_what_is_in_them(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN NOTHING-----", encoding="ascii")
    with pytest.raises(LogError) as caught:
        kafka_clients.Clients(KafkaAccess(("127.0.0.1:1",), bad, bad, bad))
    assert (caught.value.code, caught.value.path) == ("not_permitted", "tls.ca")
    with pytest.raises(LogError) as caught:
        kafka_clients.Clients(KafkaAccess(("127.0.0.1:1",), tmp_path / "absent", bad, bad))
    assert (caught.value.code, caught.value.path) == ("not_permitted", "tls.ca")


def test_importing_the_driver_warns_of_nothing_and_keeps_other_warnings() -> None:
    program = (
        "import warnings, topics.kafka_log\n"
        "warnings.warn('read_text is deprecated. Use files() instead.', DeprecationWarning)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("DeprecationWarning: read_text is deprecated. Use files() instead.")
    assert "kafka" not in done.stderr


def test_the_librarys_logger_stays_at_warning() -> None:
    logger = logging.getLogger("kafka")
    assert logging.getLogger("kafka.producer.kafka").getEffectiveLevel() >= logging.WARNING
    before = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        with pytest.raises(LogError):
            kafka_clients.Clients(KafkaAccess(("127.0.0.1:1",), Path("absent"), Path("absent"), Path("absent")))
        assert logger.level == logging.WARNING
    finally:
        logger.setLevel(before)
