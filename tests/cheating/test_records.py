# SPDX-License-Identifier: Apache-2.0
"""Cheating with the log: whoever has its files changes what was sent, and an auditor names the place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Acts, record_value, sign_manifest
from schemas.keys import b64url, signature_twin, unb64url
from tests.cheating.cheats import TO_IOM, TO_SHELTER, Town, shown, where
from tests.domain import Signed, with_value
from topics.audit_records import ERASED_AFTER_S, UNLOGGED_AFTER_S
from topics.ledger_entries import LedgerEntry, l1_sha256_of
from topics.log import Entry, grant_key


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Seven records in two mailboxes, logged and cosigned; senders hold promises."""
    with Town(tmp_path) as made:
        domain = made.domain
        made.publish(*(domain.record() for _ in range(4)))
        made.publish(*(domain.record("bi/police", "bi/iom", "case", "update") for _ in range(3)))
        made.sequence()
        assert made.found() == []
        yield made


def twin(signed: Signed) -> bytes:
    """The same record under the other signature that verifies, (r, n-s)."""
    line1, _, body = signed.value.partition(b"\n")
    text, _, signature = line1.decode("ascii").rpartition(".")
    return f"{text}.{b64url(signature_twin(unb64url(signature)))}".encode("ascii") + b"\n" + body


def places(town: Town) -> list[tuple[str, str | None, int | None]]:
    return [(one.code, one.topic, one.offset) for one in town.audited().findings.kept if not one.open]


def logged_as(entries: list[LedgerEntry], number: int, **changes: Any) -> list[LedgerEntry]:
    """The same entries, that one with other members."""
    return [*entries[:number], replace(entries[number], **changes), *entries[number + 1 :]]


# -- what stands there is changed -------------------------------------------------------------------------------------


def test_a_record_that_is_rewritten_is_named_with_its_place(town: Town) -> None:
    town.in_log("UPDATE entry SET value = CAST(value || 'A' AS BLOB) WHERE ident LIKE 'bi/iom/%' AND offset = 2")
    report = town.audited()
    assert shown(report) == [("record_rewritten", "record")]
    found = where(report, "record_rewritten")
    assert (found.topic, found.offset) == (TO_SHELTER, 2)
    assert found.index is not None
    assert town.entries()[found.index].offset == 2


def test_two_records_that_change_places_are_both_named(town: Town) -> None:
    town.in_log(
        "UPDATE entry SET offset = -1 WHERE ident LIKE 'bi/iom/%' AND offset = 1;"
        "UPDATE entry SET offset = 1 WHERE ident LIKE 'bi/iom/%' AND offset = 2;"
        "UPDATE entry SET offset = 2 WHERE ident LIKE 'bi/iom/%' AND offset = -1"
    )
    assert places(town) == [("record_rewritten", TO_SHELTER, 1), ("record_rewritten", TO_SHELTER, 2)]


def test_a_record_that_is_taken_out_is_missing_in_the_middle_and_at_the_end(town: Town) -> None:
    town.in_log("DELETE FROM entry WHERE ident LIKE 'bi/iom/%' AND offset IN (1, 3)")
    assert places(town) == [("record_missing", TO_SHELTER, 1), ("record_missing", TO_SHELTER, 3)]


def test_a_mailbox_that_is_emptied_lacks_every_record(town: Town) -> None:
    town.in_log("DELETE FROM entry WHERE ident LIKE 'bi/police/%'")
    assert shown(town.audited()) == [("record_missing", "record")] * 3


def test_a_record_that_is_put_in_afterwards_is_unlogged(town: Town) -> None:
    """Nobody who has the log's file alone can make the ledger speak of it, and its date gives it away."""
    town.in_log(
        "UPDATE topic SET next = 5 WHERE name = 'bi.referral.k7t4';"
        "INSERT INTO entry SELECT 99, topic, 4, at_ms, ident || 'x', key, headers, value FROM entry"
        " WHERE ident LIKE 'bi/iom/%' AND offset = 3"
    )
    assert town.audited().faultless  # so far it may only be late
    town.wait(2 * UNLOGGED_AFTER_S)
    town.sign(cosigned=True)
    assert places(town) == [("record_unlogged", TO_SHELTER, 4)]


def test_the_signature_twin_of_a_record_in_its_place_is_a_rewritten_record(town: Town) -> None:
    last = town.domain.record()
    town.publish(last)
    town.sequence()
    town.in_log("UPDATE entry SET value = ? WHERE ident = ?", twin(last), last.manifest.ident)
    assert shown(town.audited()) == [("record_rewritten", "record")]


# -- the ledger speaks of what ought not to count ---------------------------------------------------------------------


def test_a_signature_twin_is_logged_as_a_repeat_and_a_ledger_that_counts_it_is_caught(town: Town) -> None:
    last = town.domain.record()
    town.publish(last, replace(with_value(last.entry, twin(last)), ident="twin"))
    assert [one.kind for one in town.sequence()[-2:]] == ["event", "duplicate"]
    assert town.found() == []
    town.brought.clear()
    town.rebuild(lambda entries: logged_as(entries, len(entries) - 1, kind="event"))
    assert ("duplicate", "record") in town.found()


def test_a_replayed_record_is_logged_as_a_repeat_and_a_ledger_that_counts_it_is_caught(town: Town) -> None:
    last = town.domain.record()
    town.publish(last)
    town.publish(replace(last.entry, ident="again"))
    assert [one.kind for one in town.sequence()[-2:]] == ["event", "duplicate"]
    assert town.found() == []
    town.brought.clear()
    town.rebuild(lambda entries: logged_as(entries, len(entries) - 1, kind="event"))
    assert ("duplicate", "record") in town.found()


def test_a_ciphertext_that_another_agency_signs_as_its_own_counts_nowhere(town: Town) -> None:
    """The police take what the shelter was sent, and sign those sealed parts as theirs: each part says whose it is."""
    stolen = town.domain.record()
    town.publish(stolen)
    own = town.domain.record("bi/police", "bi/iom", "case", "update")
    claimed = replace(own.manifest, parts=stolen.manifest.parts)
    line1 = sign_manifest(claimed, town.domain.members["bi/police"].sig)
    forged = record_value(line1, stolen.value.partition(b"\n")[2])
    town.publish(with_value(own.entry, forged))
    assert [one.detail for one in town.sequence() if one.kind == "reject"] == ["header_forbidden"]
    assert town.found() == []
    town.brought.clear()
    town.rebuild(
        lambda entries: [replace(one, kind="event", detail=None) if one.kind == "reject" else one for one in entries]
    )
    assert ("header_forbidden", "record") in town.found()


def test_a_record_that_nobody_signed_is_named_when_the_ledger_counts_it(town: Town) -> None:
    forged = town.domain.record(signer=town.domain.members["bi/police"].sig, chain=False)
    town.publish(forged.entry)
    assert town.sequence()[-1].detail == "issuer_mismatch"
    town.brought.clear()
    town.rebuild(lambda entries: logged_as(entries, len(entries) - 1, kind="event", detail=None))
    assert ("issuer_mismatch", "record") in town.found()


def test_a_good_record_that_the_ledger_refuses_was_refused_without_a_reason(town: Town) -> None:
    town.publish(town.domain.record())
    town.sequence()
    town.brought.clear()
    town.rebuild(lambda entries: logged_as(entries, len(entries) - 1, kind="reject", detail="quota_exceeded"))
    report = town.audited()
    assert ("log_inconsistent", "entry") in shown(report)
    assert where(report, "log_inconsistent").offset == 4


def test_a_second_record_under_one_event_is_a_conflict(town: Town) -> None:
    first = town.domain.record()
    again = town.domain.record(evt=first.manifest.evt, content=b'{"content":"another"}', chain=False)
    town.publish(first)
    town.publish(replace(again.entry, ident="again"))
    assert town.sequence()[-1].detail == "evt_conflict"
    assert town.found() == []
    town.brought.clear()
    town.rebuild(lambda entries: logged_as(entries, len(entries) - 1, kind="event", detail=None))
    assert ("evt_conflict", "record") in town.found()


# -- an issuer's order ------------------------------------------------------------------------------------------------


def test_a_record_that_never_reached_the_log_leaves_a_gap_in_its_issuers_numbers_until_it_comes(town: Town) -> None:
    held_back = town.domain.record()
    town.publish(town.domain.record())
    town.sequence()
    report = town.audited()
    assert shown(report) == []
    assert [(one.code, one.about, one.offset) for one in report.findings.kept] == [("seq_gap", "chain", 4)]
    town.publish(held_back)
    town.sequence()
    assert town.audited().findings.kept == ()


def test_a_number_that_its_issuer_declares_void_is_no_gap(town: Town) -> None:
    refused = town.domain.record()
    town.publish(town.domain.record(voids=(refused.manifest.seq,)))
    town.sequence()
    assert town.audited().findings.kept == ()


def test_a_record_that_names_another_before_it_breaks_its_chain(town: Town) -> None:
    town.publish(town.domain.record(prev=b64url(bytes(32))))
    town.sequence()
    report = town.audited()
    assert shown(report) == [("chain_broken", "chain")]
    assert where(report, "chain_broken").offset == 4


# -- erasure ----------------------------------------------------------------------------------------------------------


def test_keys_that_an_erasure_should_have_deleted_are_named(town: Town) -> None:
    target = town.domain.record()
    town.publish(target)
    town.run(town.world.log.put_grants("bi.grants.k7t4", target.grant_puts()))
    town.publish(town.domain.record(flow="rights", kind="control", acts=Acts(erase=(target.manifest.ident,))))
    town.sequence()
    report = town.audited()
    assert [(one.code, one.about, one.topic) for one in report.findings.kept] == [
        ("erasure_pending", "grant", TO_SHELTER)
    ]
    town.run(town.world.log.delete_grants("bi.grants.k7t4", list(target.grant_puts())))
    assert town.audited().findings.kept == ()


def commanded(town: Town, by: str = "bi/iom") -> tuple[Signed, Signed]:
    """A record to the shelter with its grant there, and one that commands its erasure, logged."""
    target = town.domain.record()
    town.publish(target)
    town.run(town.world.log.put_grants("bi.grants.k7t4", target.grant_puts()))
    erase = town.domain.record(by, flow="rights", kind="control", acts=Acts(erase=(target.manifest.ident,)))
    town.publish(erase)
    town.sequence()
    return target, erase


def test_an_erasure_that_is_called_done_while_a_key_is_there_is_caught(town: Town) -> None:
    _, erase = commanded(town)
    town.call_erased(erase)
    assert shown(town.audited()) == [("erasure_pending", "grant")]


def test_keys_of_whom_a_record_was_disclosed_to_are_looked_for_too(town: Town) -> None:
    target = town.domain.record()
    town.publish(target)
    ident, reader = target.manifest.ident, town.domain.members["bi/r5w2"]
    town.publish(town.domain.record(to="bi/r5w2", flow="rights", kind="control", acts=Acts(grant=(ident,))))
    town.run(town.world.log.put_grants("bi.grants.r5w2", {grant_key(ident, reader.seal.kid): b"disclosed"}))
    erase = town.domain.record(flow="rights", kind="control", acts=Acts(erase=(ident,)))
    town.publish(erase)
    town.sequence()
    town.call_erased(erase)
    assert shown(town.audited()) == [("erasure_pending", "grant")]


def test_an_erasure_that_nobody_has_called_done_after_a_day_is_named_and_then_it_is_done(town: Town) -> None:
    target, erase = commanded(town)
    town.run(town.world.log.delete_grants("bi.grants.k7t4", list(target.grant_puts())))
    assert town.audited().findings.kept == ()
    town.wait(ERASED_AFTER_S + 1)
    town.sign(cosigned=True)
    [open_] = town.audited().findings.kept
    assert (open_.code, open_.about, open_.topic, open_.open) == ("erasure_pending", "entry", "bi.rights.k7t4", True)
    town.call_erased(erase)
    assert town.audited().findings.kept == ()


def test_what_a_third_agency_commands_is_no_erasure(town: Town) -> None:
    _, erase = commanded(town, "bi/r5w2")
    town.call_erased(erase)
    assert town.audited().findings.kept == ()


def test_what_is_called_done_twice_or_was_never_commanded_does_not_follow(town: Town) -> None:
    _, erase = commanded(town)
    town.call_erased(erase)
    town.call_erased(erase)
    assert ("log_inconsistent", "entry") in shown(town.audited())


# -- an honest log ----------------------------------------------------------------------------------------------------


def test_an_honest_log_with_all_that_happens_in_one_has_no_findings(town: Town) -> None:
    """Noise written past the gateway, a repeat, a hole, a mailbox under retention, a revoked key, an erasure."""
    domain = town.domain
    first = domain.record()
    town.publish(Entry(TO_IOM, b"t", "noise", b"no record at all"), first.entry)
    town.publish(replace(first.entry, ident="again"))
    town.sequence()
    town.publish(domain.record(flow="rights", kind="control", acts=Acts(erase=(first.manifest.ident,))))
    domain.revoke("bi/police", domain.members["bi/police"].sig.kid)
    town.publish(domain.record("bi/police", "bi/iom", "case", "update").entry)
    entries = town.sequence()
    assert {one.kind for one in entries} == {"event", "duplicate", "reject", "erasure", "registry"}
    assert town.audited().findings.kept == ()
    assert l1_sha256_of(first.value) is not None


def test_a_record_that_is_not_logged_yet_is_told_and_is_no_fault(town: Town) -> None:
    town.publish(town.domain.record())
    report = town.audited()
    assert report.faultless
    assert {(one.code, one.about) for one in report.findings.kept} == {
        ("ledger_behind", "record"),
        ("ledger_behind", "promise"),
    }
