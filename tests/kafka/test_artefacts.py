# SPDX-License-Identifier: Apache-2.0
"""What runs is what was checked. Maven is played by a script here, since a repository that lies cannot be had; the
broker's tests use the real one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from umuhuza.kafka import artefacts
from umuhuza.kafka.artefacts import KafkaMissingError

JARS = {"a.jar": b"one", "b.jar": b"two"}

# Copies $REMOTE (the repository) into -DoutputDirectory, or $KEPT (Maven's own copy) unless it is told to keep nothing.
MAVEN = """#!/bin/sh
if [ "$1" = -v ]; then echo "Apache Maven 3.8.7"; exit 0; fi
from="$KEPT"
for word in "$@"; do
  case "$word" in
    -DoutputDirectory=*) out="${word#-DoutputDirectory=}" ;;
    -Dmaven.repo.local=*) from="$REMOTE" ;;
  esac
done
echo run >> "$RUNS"
[ -d "$from" ] || { echo "[ERROR] no route to the repository"; exit 1; }
mkdir -p "$out"
for jar in "$from"/*.jar; do cp "$jar" "$out/"; echo "Downloaded from central: https://x/${jar##*/} (1 kB)"; done
"""


class Place:
    """A cache, a repository and what Maven keeps, all in one folder."""

    def __init__(self, root: Path) -> None:
        self.libs = root / "cache" / "umuhuza" / f"kafka-{artefacts.version()}" / "libs"
        self.remote, self.kept, self._runs = root / "remote", root / "kept", root / "runs"
        for folder in (self.remote, self.kept):
            folder.mkdir()
            for name, data in JARS.items():
                (folder / name).write_bytes(data)

    @property
    def runs(self) -> int:
        return self._runs.read_text(encoding="ascii").count("run") if self._runs.exists() else 0

    def cached(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.libs.iterdir()} if self.libs.exists() else {}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mvn").write_text(MAVEN, encoding="ascii")
    (programs / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in (("REMOTE", place.remote), ("KEPT", place.kept), ("RUNS", tmp_path / "runs")):
        monkeypatch.setenv(name, str(value))
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in JARS.items()}
    monkeypatch.setattr(artefacts, "expected", lambda: listed)
    return place


def test_the_first_time_jars_are_fetched_and_the_way_is_told(place: Place) -> None:
    seen: list[tuple[int, int]] = []
    assert artefacts.resolve(lambda there, in_all: seen.append((there, in_all))) == place.libs
    assert place.cached() == JARS
    assert seen == [(1, 2), (2, 2)]


def test_the_second_time_nothing_is_asked_of_anybody(place: Place) -> None:
    artefacts.resolve()
    shutil.rmtree(place.remote)
    shutil.rmtree(place.kept)
    assert artefacts.resolve() == place.libs
    assert place.runs == 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda libs: (libs / "a.jar").write_bytes(b"evil"), "≠a.jar"),
        (lambda libs: (libs / "a.jar").unlink(), "-a.jar"),
        (lambda libs: (libs / "c.jar").write_bytes(b"more"), "+c.jar"),
    ],
    ids=["changed", "missing", "one too many"],
)
def test_a_spoilt_cache_is_named_and_repaired(place: Place, spoil: Callable[[Path], object], named: str) -> None:
    artefacts.resolve()
    spoil(place.libs)
    told: list[str] = []
    artefacts.resolve(told=lambda fr, en: told.extend((fr, en)))
    assert place.cached() == JARS
    assert len(told) == 2
    assert all(named in text for text in told)


def test_a_spoilt_cache_is_refused_when_it_cannot_be_repaired(place: Place) -> None:
    artefacts.resolve()
    (place.libs / "a.jar").write_bytes(b"evil")
    shutil.rmtree(place.kept)
    with pytest.raises(KafkaMissingError, match="no route to the repository"):
        artefacts.resolve()


def test_a_damaged_copy_of_mavens_own_is_passed_over(place: Place) -> None:
    (place.kept / "a.jar").write_bytes(b"damaged")
    artefacts.resolve()
    assert place.cached() == JARS
    assert place.runs == 2


@pytest.mark.parametrize(
    ("name", "data"), [("a.jar", b"evil"), ("c.jar", b"more")], ids=["another's bytes", "one too many"]
)
def test_what_a_repository_gives_is_refused_unless_it_is_as_listed(place: Place, name: str, data: bytes) -> None:
    for folder in (place.remote, place.kept):
        (folder / name).write_bytes(data)
    with pytest.raises(KafkaMissingError, match=name) as caught:
        artefacts.resolve()
    assert name in caught.value.describe("fr")
    assert place.cached() == {}


def test_killed_at_any_point_the_next_time_begins_again(place: Place) -> None:
    half = place.libs.parent / "new-killed" / "libs"
    half.mkdir(parents=True)
    (half / "a.jar").write_bytes(b"ha")
    artefacts.resolve()
    assert place.cached() == JARS
    assert sorted(path.name for path in place.libs.parent.iterdir()) == ["libs", "lock"]


def test_without_maven_one_sentence_says_what_helps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KafkaMissingError, match="sudo apt-get install maven") as caught:
        artefacts.resolve()
    assert "il manque Maven" in caught.value.describe("fr")


def test_without_java_one_sentence_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KafkaMissingError, match="sudo apt-get install openjdk-17-jre-headless") as caught:
        artefacts.find_java()
    assert "il manque Java" in caught.value.describe("fr")


@pytest.mark.parametrize(("said", "named"), [('openjdk version "11.0.2"', "11"), ('java version "1.8.0_392"', "8")])
def test_a_java_that_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, named: str
) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n", encoding="ascii")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(KafkaMissingError, match=f"Java {named}") as caught:
        artefacts.find_java()
    assert "trop ancien" in caught.value.describe("fr")


def test_the_list_names_every_jar_once_with_its_hash() -> None:
    listed = artefacts.expected()
    assert len(listed) == 47
    assert all(len(digest) == 64 and int(digest, 16) for digest in listed.values())
    assert f"kafka_2.13-{artefacts.version()}.jar" in listed
