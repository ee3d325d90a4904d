# SPDX-License-Identifier: Apache-2.0
"""Cheating with the ledger itself: its operator makes it again, cuts it, shows two, leaves somebody out, or breaks a
promise. What others hold gives it away: a cosigned checkpoint, a receipt, a promise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.ledgers import AnnouncedLedger, LastTree
from schemas.notes import Checkpoint, NoteSigner, SignatureType, read_note, sign_checkpoint, verify_checkpoint
from schemas.trust_policy import TrustedLog, TrustPolicy
from tests.cheating.cheats import NO_WITNESS, POLICY, TO_IOM, TO_SHELTER, WITNESS, Town, shown, where
from tests.domain import NOW, seeded
from tests.topics.ledger_world import ORIGIN, SIGNERS
from topics.audit import audit
from topics.audit_findings import Held, Trust
from topics.audit_records import UNLOGGED_AFTER_S
from topics.audit_tree import FormerLedger
from topics.ledger_entries import Batch, LedgerEntry
from topics.proofs import leaf_hash, root


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Five records to the shelter, logged and cosigned."""
    with Town(tmp_path / "bi") as made:
        made.publish(*(made.domain.record() for _ in range(5)))
        made.sequence()
        assert made.found() == []
        yield made


def without(entries: list[LedgerEntry], offset: int) -> list[LedgerEntry]:
    """As if the record at that offset had never been: what stood behind it moved up."""
    made: list[LedgerEntry] = []
    for one in entries:
        if one.topic != TO_SHELTER or one.offset is None or one.offset < offset:
            made.append(one)
        elif one.offset > offset:
            made.append(replace(one, offset=one.offset - 1, previous=one.offset - 2 if one.offset > 1 else None))
    return made


def removed_everywhere(town: Town, offset: int) -> None:
    """Log and ledger made again without one record, as if it had never been."""
    town.in_log(f"DELETE FROM entry WHERE offset = {offset}")
    for behind in range(offset + 1, 5):
        town.in_log(f"UPDATE entry SET offset = {behind - 1} WHERE offset = {behind}")
    town.rebuild(lambda entries: without(entries, offset))


def test_a_ledger_made_again_without_one_record_contradicts_the_checkpoint_that_the_witness_signed(town: Town) -> None:
    removed_everywhere(town, 2)
    town.promises.clear()
    report = town.audited()
    assert ("log_inconsistent", "checkpoint") in shown(report)
    assert where(report, "log_inconsistent").name == "cosigned-0"


def test_a_batch_that_names_another_tree_is_passed_over_by_an_auditor_as_by_every_reader(town: Town) -> None:
    """On Kafka whoever may write to the ledger's topic can leave one there: it enters nothing and hides nothing."""
    lie = LedgerEntry("event", TO_SHELTER, 5, 4, bytes(32), bytes(32))
    value = Batch(len(town.entries()), bytes(32), [lie.encode()]).encode()
    town.in_ledger(
        "INSERT INTO batch (size, root, value) SELECT size, root, ? FROM batch ORDER BY position DESC LIMIT 1", value
    )
    town.publish(town.domain.record())
    town.sequence()
    report = town.audited()
    assert report.findings.kept == ()
    assert report.kinds["event"] == 6


def test_a_ledger_made_again_without_one_record_contradicts_a_receipt(town: Town) -> None:
    town.receipt(2)
    town.brought.clear()
    removed_everywhere(town, 2)
    town.promises.clear()
    assert ("log_inconsistent", "receipt") in shown(town.audited())


def test_a_ledger_made_again_without_one_record_breaks_the_promise_that_its_sender_holds(town: Town) -> None:
    town.brought.clear()
    removed_everywhere(town, 2)
    report = town.audited()
    assert ("record_rewritten", "promise") in shown(report)
    assert [one.code for one in report.findings.kept if one.about == "chain"] == ["seq_gap"]


def test_an_entry_that_is_changed_in_the_store_is_not_under_the_signed_root(town: Town) -> None:
    town.publish(town.domain.record())
    town.sequence()
    town.in_store(lambda batch: batch.replace(b"\n5\n4\n", b"\n5\n3\n"))
    assert ("root_mismatch", "checkpoint") in shown(town.audited())


def test_a_ledger_that_is_cut_off_and_signed_again_contradicts_what_it_had_signed(town: Town) -> None:
    town.publish(town.domain.record())
    town.sequence()
    town.in_log("DELETE FROM entry WHERE offset = 5")
    town.wait(60)
    town.rebuild(lambda entries: entries[:-1])
    town.promises.clear()
    report = town.audited()
    assert shown(report) == [("log_inconsistent", "checkpoint")]
    assert where(report, "log_inconsistent").name == "cosigned-1"


def test_an_old_copy_with_its_old_checkpoint_is_behind_and_says_so(town: Town) -> None:
    """Not to be told from a lie by files alone: the auditor asks for a newer copy, and then it is one or the other."""
    old = town.own
    town.wait(60)
    town.publish(town.domain.record())
    town.sequence()
    town.in_log("DELETE FROM entry WHERE offset = 5")
    town.in_store(lambda _batch: None)
    town.own = old
    report = town.audited()
    assert report.faultless
    assert {(one.code, one.about) for one in report.findings.kept} == {
        ("ledger_behind", "checkpoint"),
        ("ledger_behind", "promise"),
    }


def test_two_checkpoints_of_one_size_are_two_histories(town: Town) -> None:
    """The operator forks: to one witness this tree, to somebody else another as large."""
    [own] = [town.own]
    assert own is not None
    checkpoint = verify_checkpoint(own, [one.public for one in SIGNERS]).checkpoint
    other = sign_checkpoint(replace(checkpoint, root=bytes(32)), SIGNERS, town.world.at_ms // 1000)
    report = town.audited(Held("shown-elsewhere", other, own=False))
    assert shown(report) == [("log_inconsistent", "checkpoint")]
    assert where(report, "log_inconsistent").name == "shown-elsewhere"


def test_two_auditors_who_were_shown_two_ledgers_find_out_with_one_checkpoint(town: Town, tmp_path: Path) -> None:
    """Each view is faultless in itself; nobody cosigned, nobody kept a promise."""
    town.brought.clear()
    town.promises.clear()
    first = town.own
    town.run(town.world.log.close())
    shutil.copytree(town.folder, tmp_path / "other")
    with Town(tmp_path / "other") as other:
        other.world.registries.files.update(town.world.registries.files)
        removed_everywhere(other, 4)
        for view in (town, other):
            alone = view.audited(policy=NO_WITNESS)
            assert alone.faultless, alone.findings.kept
        assert first is not None
        together = other.audited(Held("the-other-auditors", first, own=False), policy=NO_WITNESS)
        assert ("log_inconsistent", "checkpoint") in shown(together)


def test_a_record_that_the_ledger_passes_over_is_unlogged(town: Town) -> None:
    """One agency's record is left out between others: the entries themselves no longer join."""
    town.brought.clear()
    town.promises.clear()
    town.rebuild(lambda entries: [one for one in entries if one.offset != 2])
    report = town.audited()
    assert set(shown(report)) == {
        ("log_inconsistent", "entry"),
        ("record_unlogged", "record"),
        ("quorum_missing", "checkpoint"),
    }
    assert where(report, "record_unlogged").offset == 2


def test_an_agencys_last_record_that_is_left_out_for_an_hour_is_unlogged(town: Town) -> None:
    """Everybody else's records are logged; its own waits. At first that is no lie, later it is one."""
    town.publish(town.domain.record())
    town.wait(UNLOGGED_AFTER_S / 2)
    town.sign(cosigned=True)
    assert town.audited().faultless
    town.wait(UNLOGGED_AFTER_S)
    town.sign(cosigned=True)
    report = town.audited()
    assert shown(report) == [("record_unlogged", "record")]
    assert where(report, "record_unlogged").offset == 5


def test_a_promise_for_another_record_than_was_logged_is_a_lie(town: Town) -> None:
    town.promise(town.domain.record(chain=False), 3)
    report = town.audited()
    assert shown(report) == [("record_rewritten", "promise")]
    assert where(report, "record_rewritten").name == "promise-5"


def test_a_promise_of_a_place_that_the_ledger_went_past_is_a_lie(town: Town) -> None:
    town.brought.clear()
    town.in_log("DELETE FROM entry WHERE offset = 2")
    gap = LedgerEntry("gap", TO_SHELTER, 2, 1, detail="2")
    town.rebuild(
        lambda entries: [
            gap if one.offset == 2 else replace(one, previous=1) if one.offset == 3 else one for one in entries
        ]
    )
    assert ("record_missing", "promise") in shown(town.audited())


def test_a_promise_made_of_a_true_one_accuses_nobody(town: Town) -> None:
    """Whoever has a promise and changes what it is of, or who gave it, has nothing in hand."""
    domain, true = town.domain, json.loads(town.promises[0].data)
    town.promises[:] = [Held("moved", json.dumps(true | {"offset": 99}).encode(), own=False)]
    town.promise(domain.record(chain=False), 3, iss="bi/k7t4")
    assert [(one.code, one.name) for one in town.audited().findings.kept] == [
        ("root_mismatch", "moved"),
        ("key_unknown", "promise-1"),
    ]


def test_a_promise_signed_with_the_gateways_key_after_its_revocation_is_none(town: Town) -> None:
    domain = town.domain
    domain.revoke("bi/operator", domain.operator.sig.kid, town.world.at_ms // 1000 + 60)
    town.wait(120)
    town.sequence()
    town.promise(domain.record(chain=False), 3)
    assert [(one.code, one.name) for one in town.audited().findings.kept] == [("key_revoked", "promise-5")]


def test_a_ledger_that_is_cut_off_beside_its_own_larger_checkpoint_is_no_older_copy(town: Town) -> None:
    """An older copy would have an older checkpoint: what is handed over together has to fit."""
    town.promises.clear()
    town.brought.clear()
    town.in_store(lambda _batch: None)
    report = town.audited(policy=NO_WITNESS)
    assert ("log_inconsistent", "checkpoint") in shown(report)


def test_a_promise_that_no_gateway_signed_proves_nothing(town: Town) -> None:
    town.promises.append(Held("forged", town.promises[0].data.replace(b".", b".A", 1), own=False))
    report = town.audited()
    assert [(one.about, one.name) for one in report.findings.kept] == [("promise", "forged")]


def test_without_enough_witnesses_nobody_knows_that_there_is_one_history(town: Town) -> None:
    town.brought.clear()
    town.sign()
    assert shown(town.audited()) == [("quorum_missing", "checkpoint")]


def test_a_checkpoint_that_its_ledger_did_not_sign_counts_for_nothing(town: Town) -> None:
    stranger = NoteSigner(ORIGIN, SignatureType.ED25519, seeded("stranger")(32))
    assert town.own is not None
    checkpoint = verify_checkpoint(town.own, [one.public for one in SIGNERS]).checkpoint
    town.own = sign_checkpoint(checkpoint, [stranger], 1)
    assert shown(town.audited()) == [("signature_invalid", "checkpoint")]


# -- a ledger that was lost, and the one that follows ------------------------------------------------------------------

SECOND = NoteSigner("bi.umuhuza/log2", SignatureType.ED25519, seeded("second ledger")(32))


def followed(town: Town) -> TrustPolicy:
    """What the store holds now is signed as the domain's second ledger, and cosigned; whom to believe from now on."""
    leaves = [leaf_hash(one) for one in town.encoded()]
    at = town.world.at_ms // 1000
    note = read_note(sign_checkpoint(Checkpoint(SECOND.name, len(leaves), root(leaves)), (SECOND,), at))
    town.own = note.with_signatures([WITNESS.sign(note.text, at)]).dumps()
    return replace(POLICY, logs=(*POLICY.logs, TrustedLog(SECOND.public)))


def test_a_ledger_that_follows_a_lost_one_is_believed_beside_the_old_evidence(town: Town) -> None:
    """The same log in another order, as a sequencer that begins anew enters it; old receipts and promises hold."""
    town.publish(town.domain.record("bi/police", "bi/iom", "case", "update"))
    town.sequence()
    town.receipt(2)
    town.receipt(6)
    town.rebuild(lambda entries: sorted(entries, key=lambda one: (one.kind == "registry", one.topic != TO_IOM)))
    report = town.audited(policy=followed(town))
    assert report.findings.kept == ()
    assert (report.origin, report.receipts) == ("bi.umuhuza/log2", 2)


def test_a_ledger_that_follows_and_has_another_record_contradicts_an_old_receipt(town: Town) -> None:
    town.receipt(2)
    removed_everywhere(town, 2)
    town.promises.clear()
    report = town.audited(policy=followed(town))
    assert ("log_inconsistent", "receipt") in shown(report)


def test_a_ledger_that_follows_and_ends_before_an_old_receipt_has_to_explain_itself(town: Town) -> None:
    town.receipt(4)
    town.in_log("DELETE FROM entry WHERE offset = 4")
    town.rebuild(lambda entries: [one for one in entries if one.offset != 4])
    town.promises.clear()
    report = town.audited(policy=followed(town))
    assert [(one.code, one.about, one.open) for one in report.findings.kept] == [("ledger_behind", "receipt", True)]


def test_a_second_ledger_that_nobody_was_told_of_is_not_believed(town: Town) -> None:
    followed(town)
    assert ("log_unknown", "checkpoint") in shown(town.audited())


def announced(town: Town, last: LastTree | None = None) -> Trust:
    """What an auditor believes who was told of the first ledger alone, and has the registry."""
    ledgers = (
        AnnouncedLedger(ORIGIN, tuple(one.public for one in SIGNERS), 1, last),
        AnnouncedLedger(SECOND.name, (SECOND.public,), 2),
    )
    return replace(town.trust(), announced=ledgers)


def test_a_second_ledger_that_the_registry_announces_is_believed_and_the_lost_one_is_told_of(town: Town) -> None:
    town.receipt(2)
    last = LastTree(6, root([leaf_hash(one) for one in town.encoded()]))
    followed(town)
    with town.source() as source:
        report = audit(source, announced(town, last))
    assert report.findings.kept == ()
    assert report.origin == SECOND.name
    assert report.formers == (FormerLedger(ORIGIN, last, held=6, receipts=1),)


def test_a_checkpoint_of_the_lost_one_with_another_root_than_announced_contradicts_it(town: Town) -> None:
    followed(town)
    with town.source() as source:
        report = audit(source, announced(town, LastTree(6, bytes(32))))
    assert shown(report) == [("log_inconsistent", "checkpoint")]


def test_two_histories_of_the_lost_one_are_found_although_its_tree_is_gone(town: Town) -> None:
    head = Checkpoint(ORIGIN, 6, bytes(32))
    town.brought.append(Held("other", sign_checkpoint(head, SIGNERS, 1), own=False))
    followed(town)
    with town.source() as source:
        assert shown(audit(source, announced(town))) == [("log_inconsistent", "checkpoint")]


def test_an_auditor_who_was_told_of_another_second_ledger_is_told_that_it_was_never_announced(town: Town) -> None:
    stranger = NoteSigner(SECOND.name, SignatureType.ED25519, seeded("stranger")(32))
    followed(town)
    trust = announced(town)
    policy = replace(POLICY, logs=(*POLICY.logs, TrustedLog(stranger.public)))
    with town.source() as source:
        report = audit(source, replace(trust, policy=policy))
    assert [(one.code, one.about) for one in report.findings.kept if one.open] == [("ledger_differs", "registry")]
    assert ("log_unknown", "checkpoint") in shown(report), "neither key is believed"


def test_a_theft_in_the_time_of_the_lost_one_doubts_all_of_the_second(town: Town) -> None:
    """A size of the first tree is none of the second's: nobody may take what stands there before it for older."""
    domain = town.domain
    kid = domain.members["bi/iom"].sig.kid
    first = domain.registry.with_key_revoked("bi/iom", kid, NOW, compromised_since=9999)
    for registry, doubted in ((first, 5), (first.with_key_revoked("bi/iom", kid, NOW, 9999, 2), 5)):
        domain.registry = registry
        town.sequence()
        followed(town)
        with town.source() as source:
            report = audit(source, announced(town))
        assert [(one.code, one.open) for one in report.findings.kept] == [("key_revoked", True)] * doubted
    later = town.domain.registry.agency("bi/iom").keys
    assert all(key.compromised_in == 1 for key in later if key.kid == kid), "a doubt never shrinks"
    with town.source() as source:
        alone = audit(source, town.trust())
    assert not [one for one in alone.findings.kept if one.code == "key_revoked"], "in the first tree it is that size"
