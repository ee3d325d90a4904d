# SPDX-License-Identifier: Apache-2.0
"""A registry through time: what a reader follows, and the cheats that it refuses because of what it held before.

What is wrong with one file alone is in the golden vectors (`tests/vectors/registry_cases.py`); here is history: keys
that rotate, holders that leave, older registries offered again, and python-tuf's own client as a second opinion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from schemas.errors import RegistryError
from schemas.keys import SigningKey
from schemas.registry import Agency
from schemas.registry_bundle import RootPin, pack, root_path, snapshot_path, targets_path, unpack
from schemas.registry_metadata import Holder
from schemas.registry_signing import (
    Contents,
    Proposal,
    assembled,
    contents_now,
    first_proposal,
    missing,
    pack_proposal,
    proposal,
    published,
    read_proposal,
    renewed,
    signed_by,
)
from schemas.registry_trust import TrustedRegistry, trusted
from tests.domain import NOW, YEAR, Domain, seeded

DAY = 86_400
KEYS = {name: SigningKey.generate(seeded(f"holder/{name}")) for name in ("a", "b", "c", "d", "e")}
AGENCIES = Domain("trust").registry.agencies


def holders(*names: str) -> list[Holder]:
    return [Holder(name, KEYS[name].public) for name in names]


def contents(*names: str) -> Contents:
    return Contents(MappingProxyType({name: AGENCIES[name] for name in names}), {})


@dataclass
class Office:
    """The holders of `bi`, together: makes versions of a registry, honest ones and others."""

    names: Sequence[str] = ("a", "b", "c")
    threshold: int = 2
    training: bool = False
    domain: str = "bi"
    now: int = NOW
    held: TrustedRegistry = field(init=False)
    pin: RootPin = field(init=False)

    def __post_init__(self) -> None:
        change = first_proposal(
            self.domain,
            self.training,
            holders(*self.names),
            threshold=self.threshold,
            targets_threshold=1,
            contents=contents() if self.domain != "bi" else contents("bi/iom"),
            now=self.now,
        )
        self.held = assembled(signed_by(change, self._keys(self.names), None), None, KEYS[self.names[0]], self.now)
        self.pin = RootPin.of(self.held.files[root_path(1)])

    def _keys(self, names: Sequence[str]) -> list[SigningKey]:
        return [KEYS[name] for name in names]

    def publish(self, change: Proposal, *signers: str) -> TrustedRegistry:
        names = signers or self.names
        self.held = assembled(signed_by(change, self._keys(names), self.held), self.held, KEYS[names[0]], self.now)
        return self.held

    def members(self, *agencies: str, by: Sequence[str] = ()) -> TrustedRegistry:
        return self.publish(proposal(self.held, self.now, contents=contents(*agencies)), *by)

    def rotate(self, *names: str, by: Sequence[str], threshold: int | None = None) -> TrustedRegistry:
        change = proposal(self.held, self.now, holders=holders(*names), threshold=threshold)
        change = signed_by(change, self._keys(by), self.held)
        self.held = assembled(change, self.held, next(KEYS[n] for n in by if n in names), self.now)
        self.names = names
        return self.held

    def again(self) -> TrustedRegistry:
        self.held = renewed(self.held, KEYS[self.names[0]], self.now)
        return self.held


def refused(data: bytes, pin: RootPin, held: TrustedRegistry | None, code: str, path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        trusted(data, pin, held)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_reader_follows_members_renewals_and_rotations_from_the_root_it_was_told() -> None:
    office = Office()
    held = trusted(office.held.data, office.pin)
    office.members("bi/iom", "bi/k7t4")
    office.again()
    office.rotate("b", "c", "d", by=("b", "c", "d"))
    office.members("bi/k7t4", by=("d",))
    office.rotate("d", "e", by=("c", "d", "e"))
    newest = trusted(office.again().data, office.pin, held)
    assert (newest.registry.version, newest.versions["root"]) == (7, 3)
    assert [holder.name for holder in newest.holders] == ["d", "e"]
    assert newest.registry.agencies.keys() == {"bi/k7t4"}
    assert trusted(newest.data, newest.pin).registry == newest.registry  # a new installation, given the newest root
    assert newest.data == trusted(newest.data, office.pin, newest).data


def test_a_registry_older_than_the_one_held_is_a_rollback() -> None:
    office = Office()
    first = office.held
    second = office.members("bi/iom", "bi/k7t4")
    refused(first.data, office.pin, second, "registry_rollback", "timestamp.version")
    office.rotate("b", "c", "d", by=("b", "c", "d"))
    refused(second.data, office.pin, office.held, "registry_rollback", "root[2]")


def test_two_registries_of_one_version_are_two_histories() -> None:
    one, other = Office(), Office()
    one.members("bi/iom", "bi/k7t4")
    other.members("bi/iom")
    refused(other.held.data, one.pin, one.held, "registry_rollback", "timestamp.version")


def test_targets_of_before_a_revocation_do_not_come_back_under_a_newer_timestamp() -> None:
    """One holder's key is enough for a snapshot and a timestamp, and that is all it is enough for."""
    office = Office()
    before = office.held
    [kid] = [key.kid for key in AGENCIES["bi/iom"].keys if key.use == "sig"]
    revoked = office.held.registry.with_key_revoked("bi/iom", kid, NOW).agencies
    office.publish(proposal(office.held, NOW, contents=replace(contents_now(office.held), agencies=revoked)))
    forged = published([before.root], before.files[targets_path(1)], contents_now(before).targets(), 9, KEYS["c"], NOW)
    refused(forged, office.pin, office.held, "registry_rollback", "targets.version")


def test_a_change_that_was_signed_and_not_published_does_not_take_its_twins_place() -> None:
    """Both were signed by enough holders; one of them, alone, keeps the other for later."""
    office = Office()
    before = office.held
    [kid] = [key.kid for key in AGENCIES["bi/iom"].keys if key.use == "sig"]
    revoked = before.registry.with_key_revoked("bi/iom", kid, NOW).agencies
    kept = signed_by(proposal(before, NOW, contents=contents_now(before)), [KEYS["a"], KEYS["b"]], before)
    office.publish(proposal(before, NOW, contents=replace(contents_now(before), agencies=revoked)))
    forged = published([before.root], kept.targets, kept.contents, 9, KEYS["c"], NOW)
    refused(forged, office.pin, office.held, "registry_rollback", "targets.version")
    assert trusted(forged, office.pin, before).versions["targets"] == office.held.versions["targets"]


def test_a_registry_of_before_a_rotation_does_not_come_back_under_the_newer_root() -> None:
    office = Office()
    office.members("bi/iom", "bi/k7t4")
    older = office.held
    newer = office.rotate("a", "b", "d", by=("a", "b", "d"))
    mixed = pack({**older.files, root_path(2): newer.root})
    refused(mixed, office.pin, None, "registry_invalid", "snapshot.meta")
    refused(mixed, office.pin, newer, "registry_invalid", "snapshot.meta")


def test_a_holder_who_was_rotated_out_signs_for_nothing_any_more() -> None:
    office = Office()
    office.rotate("b", "c", "d", by=("b", "c", "d"))
    roots = [office.held.files[root_path(n)] for n in (1, 2)]
    targets = office.held.files[targets_path(2)]
    stolen = published(roots, targets, contents_now(office.held).targets(), 9, KEYS["a"], NOW)
    refused(stolen, office.pin, office.held, "registry_threshold", "timestamp.signatures")


def test_one_holder_alone_changes_no_holders() -> None:
    office = Office()
    change = signed_by(proposal(office.held, NOW, holders=holders("a", "d"), threshold=1), [KEYS["a"]], office.held)
    assert missing(change, office.held) == {"root": 1}
    with pytest.raises(RegistryError) as caught:
        assembled(change, office.held, KEYS["a"], NOW)
    assert (caught.value.code, caught.value.path) == ("registry_threshold", "root[2].signatures")


def test_a_thief_who_counted_to_the_end_is_left_behind_by_a_rotation() -> None:
    office = Office()
    targets = office.held.files[targets_path(1)]
    data = published([office.held.root], targets, contents_now(office.held).targets(), 1 << 31, KEYS["a"], NOW)
    reader = trusted(data, office.pin, office.held)
    rescued = office.rotate("b", "c", "d", by=("b", "c", "d"))
    assert trusted(rescued.data, office.pin, reader).registry.version == 2


def test_another_countrys_registry_and_a_training_one_are_nobodys_here() -> None:
    bi, tn = Office(), Office(names=("d", "e"), domain="tn")
    training = Office(training=True)
    for other in (tn, training):
        refused(other.held.data, bi.pin, None, "registry_root_unknown", "root")
        refused(other.held.data, bi.pin, bi.held, "registry_root_unknown", "root")
        refused(bi.held.data, other.pin, None, "registry_root_unknown", "root")
    assert training.held.registry.training


def test_an_old_registry_stays_readable_and_is_stale_and_no_new_reader_takes_it() -> None:
    """Freeze: whoever shows a reader the same registry for ever stops new requests, and nothing comes in by it."""
    office = Office()
    held = trusted(office.held.data, office.pin)
    held.require_fresh(NOW + 30 * DAY - 1)
    assert not held.registry.is_stale(NOW + 30 * DAY)
    assert held.registry.is_stale(NOW + 30 * DAY + 1)
    assert held.fresh_until == NOW + 30 * DAY
    with pytest.raises(RegistryError) as caught:
        held.require_fresh(NOW + 30 * DAY)
    assert (caught.value.code, caught.value.path) == ("registry_stale", "snapshot")
    # The one who held it takes a newer one even when that is out of date as well: a revocation may be in it.
    office.now += DAY
    assert trusted(office.again().data, office.pin, held).registry.version == 2


def test_a_root_or_targets_that_end_sooner_make_the_registry_stale_then() -> None:
    office = Office()
    office.now = NOW + YEAR - 10 * DAY
    assert office.again().fresh_until == NOW + YEAR  # the targets'
    office.members("bi/iom")
    assert office.held.fresh_until == office.now + 30 * DAY
    office.now = NOW + 2 * YEAR - DAY
    office.members("bi/iom")
    assert office.held.fresh_until == NOW + 2 * YEAR  # the root's
    office.rotate("a", "b", "c", by=("a", "b"))
    assert office.held.fresh_until == office.now + 30 * DAY


def test_what_ends_within_sixty_days_is_told_with_whose_it_is() -> None:
    office = Office()
    assert office.held.expiring(NOW) == ()
    told = office.held.expiring(NOW + YEAR - 60 * DAY)
    assert [(one.what, one.of) for one in told] == [
        ("registry", "bi"),
        ("seal", "bi/iom"),
        ("sig", "bi/iom"),
        ("targets", "bi"),
    ]
    assert office.held.expiring(NOW + YEAR - 60 * DAY, of="bi/k7t4") == tuple(one for one in told if one.of == "bi")
    office.now = NOW + 2 * YEAR - 50 * DAY
    assert ("root", "bi") in [(one.what, one.of) for one in office.again().expiring(office.now)]


def test_a_key_that_has_a_successor_ends_without_a_warning() -> None:
    office = Office()
    iom = AGENCIES["bi/iom"]
    fresh = SigningKey.generate(seeded("trust/fresh"))
    younger = replace(iom.keys[0], kid=fresh.kid, public=fresh.public.public, expires=NOW + 3 * YEAR)
    renewed_agency = replace(iom, keys=(*iom.keys, younger))
    office.publish(proposal(office.held, NOW, contents=Contents({"bi/iom": renewed_agency}, {})))
    told = office.held.expiring(NOW + YEAR - 60 * DAY, of="bi/iom")
    assert [one.what for one in told if one.of == "bi/iom"] == ["seal"]


def test_a_proposal_says_the_same_to_every_holder_and_is_refused_when_it_was_changed_on_the_way() -> None:
    office = Office()
    change = proposal(office.held, NOW, contents=contents("bi/iom", "bi/police"), threshold=3)
    first = signed_by(change, [KEYS["a"]], office.held)
    carried, said = read_proposal(pack_proposal(first))
    assert carried == first
    assert said.agencies.keys() == {"bi/iom", "bi/police"}
    second = signed_by(carried, [KEYS["b"]], office.held)
    assert change.digest == second.digest
    assert missing(second, office.held) == {"root": 1}  # the newer root asks for three
    third = signed_by(second, [KEYS["c"]], office.held)
    assert assembled(third, office.held, KEYS["c"], NOW).thresholds["root"] == 3
    data = pack_proposal(first)
    for bad in (data.replace(b"bi/police", b"bi/polise"), data[:-1], b"[]", data.replace(b'"v":1', b'"v":2')):
        with pytest.raises(RegistryError, match="registry_invalid"):
            read_proposal(bad)
    office.members("bi/iom")
    with pytest.raises(RegistryError, match=r"registry_rollback.*proposal"):
        assembled(third, office.held, KEYS["c"], NOW)


@pytest.mark.parametrize(
    ("who", "threshold", "path"),
    [((), 1, "holders"), (("a", "a"), 1, "holders"), (("a", "b"), 3, "threshold"), (("a",), 0, "threshold")],
)
def test_a_domain_that_nobody_could_sign_for_is_not_made(who: tuple[str, ...], threshold: int, path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        first_proposal(
            "bi", False, holders(*who), threshold=threshold, targets_threshold=1, contents=contents(), now=NOW
        )
    assert (caught.value.code, caught.value.path) == ("registry_invalid", path)


class _Folder(FetcherInterface):
    """A web server, as python-tuf's client sees one."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("https://invented.invalid/")
        if path not in self.files:
            raise DownloadHTTPError("not found", 404)
        return iter([self.files[path]])


def test_python_tufs_own_client_reads_the_same(tmp_path: Path) -> None:
    """Another implementation of the client's workflow, with its own memory on disk, over the same files."""
    office = Office()
    first = office.held.files[root_path(1)]

    def client(files: Mapping[str, bytes], home: str = "home") -> Updater:
        folder = tmp_path / home
        (folder / "targets").mkdir(parents=True, exist_ok=True)
        return Updater(
            str(folder),
            "https://invented.invalid/metadata/",
            str(folder / "targets"),
            "https://invented.invalid/targets/",
            _Folder(files),
            bootstrap=first,
        )

    def read(files: Mapping[str, bytes]) -> bytes:
        updater = client(files)
        updater.refresh()
        target = updater.get_targetinfo("agencies/iom.json")
        assert target is not None
        return Path(updater.download_target(target)).read_bytes()

    assert read(office.held.files) == contents("bi/iom").targets()["agencies/iom.json"]
    before = office.held.files
    office.rotate("b", "c", "d", by=("b", "c", "d"))
    office.members("bi/iom", "bi/police")
    assert read(office.held.files) == contents("bi/iom").targets()["agencies/iom.json"]
    with pytest.raises(RepositoryError):
        read(before)


class Histories(RuleBasedStateMachine):
    """Whatever the holders do, a reader that comes by now and then follows, and nothing older is ever taken."""

    def __init__(self) -> None:
        super().__init__()
        self.past: list[TrustedRegistry] = []

    @initialize()
    def begin(self) -> None:
        self.office = Office()
        self.reader = trusted(self.office.held.data, self.office.pin)

    def _keep(self) -> None:
        self.past.append(self.office.held)
        self.office.now += DAY

    @rule(who=st.sets(st.sampled_from(sorted(AGENCIES)), max_size=3))
    def members_change(self, who: set[str]) -> None:
        self._keep()
        self.office.members(*sorted(who))

    @rule()
    def the_registry_is_renewed(self) -> None:
        self._keep()
        self.office.again()

    @rule(fresh=st.sampled_from("abcde"))
    def a_holder_is_replaced(self, fresh: str) -> None:
        if fresh not in self.office.names:
            self._keep()
            stay = list(self.office.names[1:])
            self.office.rotate(*stay, fresh, by=(*stay, fresh))

    @rule()
    def the_reader_comes_by(self) -> None:
        self.reader = trusted(self.office.held.data, self.office.pin, self.reader)

    @rule(pick=st.integers(0, 99))
    def somebody_offers_an_older_one(self, pick: int) -> None:
        older = [one for one in self.past if one.registry.version < self.reader.registry.version]
        if older:
            with pytest.raises(RegistryError, match="registry_rollback"):
                trusted(older[pick % len(older)].data, self.office.pin, self.reader)

    @invariant()
    def the_newest_is_believed_by_everybody(self) -> None:
        if hasattr(self, "office"):
            newest = trusted(self.office.held.data, self.office.pin, self.reader)
            assert newest.registry.version >= self.reader.registry.version
            assert unpack(newest.data) == newest.files
            assert snapshot_path(newest.versions["snapshot"]) in newest.files


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    derandomize=True, database=None, deadline=None, max_examples=8, stateful_step_count=12
)


def test_an_agency_stands_in_a_registry_as_it_was_enrolled() -> None:
    office = Office()
    office.members("bi/iom", "bi/k7t4")
    shelter: Agency = office.held.registry.agency("bi/k7t4")
    assert shelter == AGENCIES["bi/k7t4"]
    assert (
        office.held.registry.signing_key("bi/iom", AGENCIES["bi/iom"].keys[0].kid, NOW).kid
        == AGENCIES["bi/iom"].keys[0].kid
    )
