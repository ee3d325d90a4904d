# SPDX-License-Identifier: Apache-2.0
"""Kafka's jars: fetched once by Maven from a pinned pom, every jar checked against a committed list, kept per user.

    libs = resolve()            # ~/.cache/umuhuza/kafka-4.3.1/libs (XDG_CACHE_HOME is respected)

Invariants: `resolve` returns only a folder that holds exactly the jars of `jars.sha256` with exactly those bytes, and
checks it every time (about 0.1 s for 44 MB); the folder appears whole, by a rename; two commands at once take turns;
with a good folder nothing touches the network. A jar that is damaged, missing or too many is never used: the folder is
made again, and where Maven's own copy is damaged too, once more with nothing of Maven's kept.

The list was made from Maven Central. After a change of pom.xml, make it again and read the difference:

    python -m umuhuza.kafka.artefacts > jars.sha256
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

JAVA_AT_LEAST = 17
MAVEN_AT_LEAST = (3, 6)
_JAVA_EN = "On Debian 12: sudo apt-get install openjdk-17-jre-headless; on Debian 13: openjdk-21-jre-headless"
_JAVA_FR = "Sous Debian 12 : sudo apt-get install openjdk-17-jre-headless ; sous Debian 13 : openjdk-21-jre-headless"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.7.1:copy-dependencies"
_POM = "{http://maven.apache.org/POM/4.0.0}"


class KafkaMissingError(Exception):
    """What Kafka needs is not there, or it does not start. Both texts are for the operator and say what helps."""

    def __init__(self, en: str, fr: str) -> None:
        super().__init__(en)
        self._fr = fr

    def describe(self, language: str = "en") -> str:
        return self._fr if language == "fr" else str(self)


Progress = Callable[[int, int], None]
"""Called with (jars there, jars in all) as they arrive."""
Told = Callable[[str, str], None]
"""Called with a sentence in French and in English."""


@dataclass(frozen=True, slots=True)
class Differences:
    """How a folder differs from the list: names of jars."""

    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.wrong or self.extra)

    def __str__(self) -> str:
        marked = [*(f"-{n}" for n in self.missing), *(f"≠{n}" for n in self.wrong), *(f"+{n}" for n in self.extra)]
        return " ".join(marked[:6]) + (" …" if len(marked) > 6 else "")


def version() -> str:
    """Kafka's version, from the pom."""
    found = ElementTree.fromstring(_data("pom.xml")).findtext(f"{_POM}properties/{_POM}kafka.version")
    assert found is not None
    return found


def expected() -> dict[str, str]:
    """Jar -> SHA-256, from the committed list."""
    rows = [line.split() for line in _data("jars.sha256").splitlines()]
    return {name: digest for digest, name in rows}


def cache() -> Path:
    """Where this user's copy is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    # The specification: a relative path is to be ignored.
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return base / "umuhuza" / f"kafka-{version()}"


def differences(libs: Path, wanted: Mapping[str, str]) -> Differences:
    """What in `libs` is not as listed."""
    there = {path.name: path for path in libs.iterdir()} if libs.is_dir() else {}
    return Differences(
        tuple(sorted(wanted.keys() - there.keys())),
        tuple(sorted(name for name in wanted.keys() & there.keys() if _digest(there[name]) != wanted[name])),
        tuple(sorted(there.keys() - wanted.keys())),
    )


def resolve(
    progress: Progress = lambda _there, _all: None,
    told: Told = lambda _fr, _en: None,
) -> Path:
    """The folder of checked jars, for `java -cp "<folder>/*"`.

    Args:
        told: is told that something is fetched, and why.

    Raises:
        KafkaMissingError: no Maven or one too old, nothing could be fetched, or what came is not what was listed.
    """
    folder, wanted = cache(), expected()
    libs = folder / "libs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _turn(folder / "lock"):
        found = differences(libs, wanted)
        if not found:
            return libs
        if libs.exists():
            told(
                f"Les fichiers de Kafka gardés ici ne sont pas ceux de la liste ({found}) : ils sont repris.",
                f"The Kafka files kept here are not those of the list ({found}): they are fetched again.",
            )
        maven = find_maven()
        if not libs.exists():
            told(
                f"Maven va chercher Kafka {version()} (44 Mo, une seule fois).",
                f"Maven fetches Kafka {version()} (44 MB, once).",
            )
        for left in folder.glob("new-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="new-", dir=folder) as fresh:
            new = Path(fresh) / "libs"
            _fetch(maven, new, progress, len(wanted), None)
            found = differences(new, wanted)
            if found:
                # Maven's own copy may be the damaged one: once more, with nothing kept from before.
                shutil.rmtree(new, ignore_errors=True)
                _fetch(maven, new, progress, len(wanted), Path(fresh) / "repository")
                found = differences(new, wanted)
            if found:
                raise KafkaMissingError(
                    f"Kafka's files are not those that were checked ({found}): nothing was installed; "
                    "ask who runs your Maven repository",
                    f"les fichiers de Kafka ne sont pas ceux qui ont été vérifiés ({found}) : rien n'est installé ; "
                    "demandez à qui tient votre dépôt Maven",
                )
            _install(new, libs, Path(fresh) / "old")
    return libs


def _install(new: Path, libs: Path, old: Path) -> None:
    """Put `new` in place of `libs`. Killed between the two renames, the next `resolve` finds nothing and fetches."""
    for jar in new.iterdir():
        with jar.open("rb") as file:
            os.fsync(file.fileno())
    if libs.exists():
        libs.rename(old)
    new.rename(libs)


def _fetch(maven: str, libs: Path, progress: Progress, count: int, repository: Path | None) -> None:
    """Let Maven put the pom's jars into `libs`. Raises KafkaMissingError with the last thing that Maven said."""
    with tempfile.TemporaryDirectory(prefix="umuhuza-pom-") as work:
        # Away from the package, which may be read-only, and where Maven would look for a parent.
        pom = Path(work) / "pom.xml"
        pom.write_text(_data("pom.xml"), encoding="utf-8")
        command = [maven, "-B", "-C", "-f", str(pom), _COPY, "-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
        if repository is not None:
            command.append(f"-Dmaven.repo.local={repository}")
        arrived: set[str] = set()
        said: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    jar = re.search(r"Downloaded from \S+: \S+/([^/\s]+\.jar)|to \S+/([^/\s]+\.jar)\s*$", line)
                    if jar is not None:
                        arrived.add(jar[1] or jar[2])
                        progress(min(count, len(arrived)), count)
                    elif "ERROR" in line:
                        said.append(re.sub(r"\x1b\[[0-9;]*m|^\[?ERROR\]?", "", line).strip())
                process.wait()
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            reason = next((line for line in said if line), "?")[:300]
            raise KafkaMissingError(
                f"Maven could not fetch Kafka: {reason}", f"Maven n'a pas pu aller chercher Kafka : {reason}"
            )


def find_java() -> str:
    """The path of a Java that runs Kafka: JAVA_HOME's, else PATH's. Raises KafkaMissingError: missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    said = "" if java is None else _said([java, "-version"])
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if java is None or found is None:
        raise KafkaMissingError(
            f"Java is missing (17 or newer). {_JAVA_EN}", f"il manque Java (17 ou plus récent). {_JAVA_FR}"
        )
    if int(found[1]) < JAVA_AT_LEAST:
        raise KafkaMissingError(
            f"Java {found[1]} is too old (17 or newer). {_JAVA_EN}",
            f"Java {found[1]} est trop ancien (17 ou plus récent). {_JAVA_FR}",
        )
    return java


def find_maven() -> str:
    """The path of Maven. Raises KafkaMissingError: missing, too old, or without the Java that it needs."""
    maven = shutil.which("mvn")
    found = None if maven is None else re.search(r"Apache Maven (\d+)\.(\d+)", _said([maven, "-v"]))
    if maven is None or found is None or (int(found[1]), int(found[2])) < MAVEN_AT_LEAST:
        raise KafkaMissingError(
            "Maven is missing (3.6 or newer), it fetches Kafka once. On Debian: sudo apt-get install maven",
            "il manque Maven (3.6 ou plus récent), qui va chercher Kafka une fois. "
            "Sous Debian : sudo apt-get install maven",
        )
    return maven


def _said(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.decode("utf-8", errors="replace")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _data(name: str) -> str:
    return resources.files("umuhuza.kafka").joinpath(name).read_text(encoding="utf-8")


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One command at a time; the lock goes with the process that holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """The list of what the pom resolves to now, as `sha256sum` would write it."""
    with tempfile.TemporaryDirectory() as folder:
        libs = Path(folder) / "libs"
        _fetch(find_maven(), libs, lambda _there, _all: None, len(expected()), Path(folder) / "repository")
        for jar in sorted(libs.iterdir()):
            sys.stdout.write(f"{_digest(jar)}  {jar.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
