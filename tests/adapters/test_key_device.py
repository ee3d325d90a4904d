# SPDX-License-Identifier: Apache-2.0
"""Keys in a device: SoftHSM in the place of a card. Pulled, locked or another, it costs nobody a record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import AttributeSensitive

from adapters.key_device import Device, make_device_keys
from adapters.keystore import DeviceKey, DeviceKeys, EarlierKeys, Keys, read_key_file, read_keys, write_device_keys
from schemas.errors import KeyStoreError
from schemas.keys import CLASSICAL, HYBRID, SealingKey, SealTo, b64url
from tests.agencies import Agencies, referral, said
from tests.domain import NOW, seeded
from tests.soft_card import LABEL, PIN, Card, card

__all__ = ["card"]

MESSAGE, INFO = b"message", b"info"
IOM, SHELTER = "bi/iom", "bi/k7t4"


def keys_of(where: DeviceKeys, folder: Path, agency: str = IOM) -> Keys:
    write_device_keys(folder / "keys.json", agency, where)
    return read_keys(folder / "keys.json", PIN)


def code_of(work: Callable[[], object]) -> str:
    with pytest.raises(KeyStoreError) as caught:
        work()
    assert PIN not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code


def test_a_card_signs_and_opens_what_is_sealed_to_it(card: Card, tmp_path: Path) -> None:
    keys = keys_of(card.made(), tmp_path)
    assert keys.sig.public.verifies(MESSAGE, keys.sig.sign(MESSAGE))
    [(kid, seal)] = keys.seal.items()
    assert (kid, seal.suite) == (seal.kid, CLASSICAL)
    assert seal.open(SealTo(CLASSICAL, seal.public.public).seal(MESSAGE, INFO), INFO) == MESSAGE
    with pytest.raises(ValueError, match="does not open"):
        seal.open(seal.public.seal(MESSAGE, INFO), b"other")


def test_what_it_enrols_is_what_any_agency_enrols(card: Card, tmp_path: Path) -> None:
    member = keys_of(card.made(), tmp_path).enrolment({"fr": "OIM (inventée)"}, ("assistance",), False, NOW)
    assert [(key.use, key.suite) for key in member.keys] == [("sig", "ES256"), ("seal", CLASSICAL)]


def test_the_card_gives_no_private_key_out_and_the_file_holds_no_pin(card: Card, tmp_path: Path) -> None:
    where = card.made()
    keys_of(where, tmp_path)
    assert PIN not in (tmp_path / "keys.json").read_text()
    assert read_key_file(tmp_path / "keys.json").device() == where
    with pkcs11.lib(card.module).get_token(token_label=LABEL).open(user_pin=PIN) as session:
        for key in (where.sig, where.seal):
            private = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=key.id)
            with pytest.raises(AttributeSensitive):
                private[Attribute.VALUE]
            assert not private[Attribute.EXTRACTABLE]


def test_a_pulled_card_is_absent_and_works_again_once_it_is_back(card: Card, tmp_path: Path) -> None:
    keys = keys_of(card.made(), tmp_path)
    sealed = next(iter(keys.seal.values())).public.seal(MESSAGE, INFO)
    keys.sig.sign(MESSAGE)
    card.pull()
    for _ in range(2):
        assert code_of(lambda: keys.sig.sign(MESSAGE)) == "key_device_absent"
        assert code_of(lambda: next(iter(keys.seal.values())).open(sealed, INFO)) == "key_device_absent"
    card.put_back()
    assert keys.sig.public.verifies(MESSAGE, keys.sig.sign(MESSAGE))
    assert next(iter(keys.seal.values())).open(sealed, INFO) == MESSAGE


def test_a_wrong_pin_is_tried_once_and_never_again_by_itself(card: Card) -> None:
    where, wrong = card.made(), "135791"
    device = Device(where.module, where.serial, lambda: wrong)
    assert code_of(lambda: device.sign(where.sig.id, bytes(32))) == "key_device_pin_wrong"
    # Were it tried again, it would be the right one now.
    with pkcs11.lib(card.module).get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:
        session.set_pin(PIN, wrong)
    assert code_of(lambda: device.sign(where.sig.id, bytes(32))) == "key_device_pin_wrong"
    assert len(Device(where.module, where.serial, lambda: wrong).sign(where.sig.id, bytes(32))) == 64


def test_another_card_in_the_reader_is_not_taken_for_it(card: Card, tmp_path: Path) -> None:
    keys = keys_of(replace(card.made(), serial="0123456789abcdef"), tmp_path)
    assert code_of(lambda: keys.sig.sign(MESSAGE)) == "key_device_absent"


def test_a_key_that_is_not_the_enrolled_one_signs_nothing(card: Card, tmp_path: Path) -> None:
    where = card.made()
    swapped = replace(where, sig=DeviceKey(card.made().sig.id, where.sig.public))
    assert code_of(lambda: keys_of(swapped, tmp_path).sig.sign(MESSAGE)) == "key_device_failed"


def test_a_key_that_the_card_does_not_hold_is_said_to_be_missing(card: Card, tmp_path: Path) -> None:
    where = card.made()
    gone = replace(where, sig=DeviceKey(b"\x01" * 16, where.sig.public))
    assert code_of(lambda: keys_of(gone, tmp_path).sig.sign(MESSAGE)) == "key_device_failed"


def test_a_sealing_key_signs_nothing_and_a_signing_key_opens_nothing(card: Card) -> None:
    where = card.made()
    device = Device(where.module, where.serial, lambda: PIN)
    assert code_of(lambda: device.sign(where.seal.id, bytes(32))) == "key_device_failed"
    assert code_of(lambda: device.agree(where.sig.id, where.seal.public)) == "key_device_failed"


def test_no_library_no_card_or_several_without_a_name_are_said_before_a_pin_is_asked(card: Card) -> None:
    def asked() -> str:
        raise AssertionError("asked for the PIN")

    card.another("seconde")
    for module, label in (
        ("/nulle/part.so", None),
        ("/etc/hostname", None),
        (card.module, "une autre"),
        (card.module, None),
    ):
        with pytest.raises(KeyStoreError, match="key_device_absent"):
            make_device_keys(IOM, module, label, asked, os.urandom)
    assert make_device_keys(IOM, card.module, "seconde", lambda: PIN, os.urandom).label == "seconde"


def test_a_damaged_device_entry_is_damage(card: Card, tmp_path: Path) -> None:
    where = replace(card.made(), sig=DeviceKey(b"\x01", bytes(65)))
    assert code_of(lambda: keys_of(where, tmp_path)) == "keys_damaged"


def test_an_agency_that_moves_to_a_card_still_opens_what_was_sealed_to_its_file(card: Card, tmp_path: Path) -> None:
    before = Keys.generate(IOM, seeded("before"))
    where = card.made()
    where = replace(where, earlier=EarlierKeys.of(before, SealTo(CLASSICAL, where.seal.public)))
    keys = keys_of(where, tmp_path)
    assert list(keys.seal) == [*before.seal, SealTo(CLASSICAL, where.seal.public).kid]
    [(kid, old)] = before.seal.items()
    assert (keys.seal[kid].suite, keys.seal[kid].kid) == (HYBRID, kid)
    assert keys.seal[kid].open(old.public.seal(MESSAGE, INFO), INFO) == MESSAGE
    with pytest.raises(ValueError, match="does not open"):
        keys.seal[kid].open(old.public.seal(MESSAGE, INFO), b"other")
    on_disk = (tmp_path / "keys.json").read_text()
    assert isinstance(old, SealingKey)
    assert b64url(old.private_bytes()) not in on_disk
    card.pull()
    again = read_keys(tmp_path / "keys.json", PIN)
    assert code_of(lambda: again.seal[kid].open(old.public.seal(MESSAGE, INFO), INFO)) == "key_device_absent"


def test_earlier_keys_sealed_to_another_card_are_damage_and_not_a_grant_that_does_not_open(
    card: Card, tmp_path: Path
) -> None:
    before, where = Keys.generate(IOM, seeded("before")), card.made()
    other = SealingKey.generate(seeded("other"), CLASSICAL)
    keys = keys_of(replace(where, earlier=EarlierKeys.of(before, other.public)), tmp_path)
    [(kid, old)] = before.seal.items()
    assert code_of(lambda: keys.seal[kid].open(old.public.seal(MESSAGE, INFO), INFO)) == "keys_damaged"


class WithCard(Agencies):
    """The shelter's keys are in a card."""

    card_keys: Keys | None = None

    def keys(self, agency: str) -> Keys:
        return self.card_keys if agency == SHELTER and self.card_keys is not None else super().keys(agency)

    def enrol_card(self, keys: Keys) -> None:
        known = self.domain.registry.agency(SHELTER)
        asked = keys.enrolment(known.names, known.roles, known.protected, NOW)
        self.domain.registry = self.domain.registry.with_agency(replace(known, keys=asked.keys), NOW)
        self.card_keys = keys
        self.open(SHELTER)


def test_a_card_pulled_in_the_middle_of_the_work_costs_no_record_and_turns_nobody_away(
    card: Card, tmp_path: Path
) -> None:
    made = make_device_keys(SHELTER, card.module, None, lambda: PIN, os.urandom)
    town = WithCard(tmp_path)
    with town:
        town.enrol_card(keys_of(made, tmp_path, agency=SHELTER))
        iom, shelter = town[IOM], town[SHELTER]
        iom.draft(SHELTER, "referral.requested", referral())
        iom.send()

        card.pull()
        assert code_of(shelter.receive) == "key_device_absent"
        assert shelter.inbox() == []
        card.put_back()
        town.settle()
        [item] = shelter.inbox()
        assert (item.state, shelter.system.types) == ("delivered", ["referral.requested"])

        card.pull()
        shelter.draft(IOM, "referral.received", said(), thread=item.thread)
        shelter.draft(IOM, "referral.accepted", said(), thread=item.thread)
        assert code_of(shelter.send) == "key_device_absent"
        assert {one.state for one in shelter.box.outbox() if one.kind == "answer"} == {"waiting"}
        card.put_back()
        town.settle()
        assert iom.system.types == ["referral.received", "referral.accepted"]
        assert town[SHELTER].inbox("quarantined") == iom.inbox("quarantined") == []
