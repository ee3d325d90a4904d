# SPDX-License-Identifier: Apache-2.0
"""The local view of the grants topics: what it finds, what it forgets, and that it can always be made again."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from schemas.errors import LogError
from tests.small_disk import full, small_disk
from topics.kafka_view import STALE_AFTER_MS, TICK, GrantsView

TOPIC = "bi.grants.k7t4"
AT = 1_793_000_000_000
WORDS = b"grant of somebody invented"
SECRET = WORDS * 70


def filled(path: Path | None) -> GrantsView:
    view = GrantsView(path)
    view.apply(TOPIC, "one", [("a|k", SECRET), ("b|k", b"2")], 2, AT)
    return view


def test_it_finds_what_was_put_last_and_nothing_erased() -> None:
    view = filled(None)
    view.apply(TOPIC, "one", [("b|k", b"3"), ("a|k", None), ("absent|k", None)], 5, AT)
    assert view.get(TOPIC, ["a|k", "b|k", "c|k"]) == {"b|k": b"3"}
    assert view.get("bi.grants.other", ["b|k"]) == {}
    assert view.next(TOPIC, "one", AT) == 5
    view.close()


def test_it_goes_on_where_it_was_when_opened_again(tmp_path: Path) -> None:
    filled(tmp_path / "view").close()
    view = GrantsView(tmp_path / "view")
    assert view.next(TOPIC, "one", AT + 1) == 2
    assert view.get(TOPIC, ["a|k"]) == {"a|k": SECRET}
    view.close()
    assert (tmp_path / "view").stat().st_mode & 0o777 == 0o600


def test_of_a_topic_that_was_made_again_it_remembers_nothing(tmp_path: Path) -> None:
    view = filled(tmp_path / "view")
    assert view.next(TOPIC, "two", AT) == 0
    assert view.get(TOPIC, ["a|k", "b|k"]) == {}
    view.close()


@pytest.mark.parametrize("later", [STALE_AFTER_MS, -STALE_AFTER_MS])
def test_a_view_that_slept_longer_than_tombstones_are_kept_begins_again(later: int) -> None:
    view = filled(None)
    assert view.next(TOPIC, "one", AT + later) == 0
    assert view.get(TOPIC, ["a|k"]) == {}
    view.close()


def test_erased_bytes_leave_the_file(tmp_path: Path) -> None:
    view = filled(tmp_path / "view")
    assert WORDS in _bytes(tmp_path)
    view.apply(TOPIC, "one", [("a|k", None)], 3, AT)
    assert WORDS not in _bytes(tmp_path)
    view.close()
    assert WORDS not in _bytes(tmp_path)


def test_it_remembers_where_something_was_erased_until_that_was_looked_after(tmp_path: Path) -> None:
    view = filled(tmp_path / "view")
    view.apply(TOPIC, "one", [(TICK, None)], 3, AT)
    assert view.erased(AT + 1) == []
    view.apply(TOPIC, "one", [("a|k", None)], 4, AT)
    view.apply(TOPIC, "one", [("b|k", None)], 5, AT + 900)
    view.close()
    view = GrantsView(tmp_path / "view")
    assert (view.erased(AT), view.erased(AT + 1)) == ([], [TOPIC])  # the first counts: others cannot put it off
    view.looked_after([TOPIC], AT + 1000)
    assert (view.erased(AT + 1000), view.erased(AT + 1001)) == ([], [TOPIC])
    view.looked_after([TOPIC], None)
    assert view.erased(AT + 9999) == []
    view.close()


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("damage", ["text", "other database", "newer version", "cut"])
def test_a_file_that_is_no_view_of_ours_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "view"
    filled(path).close()
    if damage == "text":
        path.write_bytes(b"not a database at all" * 100)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        db = apsw.Connection(str(path))
        db.execute("DROP TABLE granted" if damage == "other database" else "PRAGMA user_version=99")
        db.close()
    view = GrantsView(path)
    assert view.next(TOPIC, "one", AT) == 0
    assert view.get(TOPIC, ["a|k"]) == {}
    view.apply(TOPIC, "one", [("a|k", b"again")], 1, AT)
    assert view.get(TOPIC, ["a|k"]) == {"a|k": b"again"}
    view.close()


def test_a_full_disk_is_called_that_and_costs_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as folder:
        view = filled(folder / "view")
        with full(folder):
            with pytest.raises(LogError) as caught:
                view.apply(TOPIC, "one", [(f"{number}|k", SECRET) for number in range(200)], 202, AT)
            assert (caught.value.code, caught.value.path) == ("storage_full", "view")
            assert view.get(TOPIC, ["a|k", "1|k"]) == {"a|k": SECRET}
            with pytest.raises(LogError) as caught:
                GrantsView(folder / "another")
            assert caught.value.code == "storage_full"
        view.apply(TOPIC, "one", [("c|k", b"3")], 3, AT)
        assert view.next(TOPIC, "one", AT) == 3
        view.close()
