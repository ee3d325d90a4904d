# SPDX-License-Identifier: Apache-2.0
"""People of several agencies at their command lines, over a real gateway and adapters that run.

with Offices.open(folder, shell, MEMBERS) as offices:
    thread = offices.json("iom", "expertise", "ask", "--to", "bi/ccsprtp", ...)["thread"]
    offices.until("it is there", lambda: offices.json("ccsprtp", "expertise", "list")["questions"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson

from schemas.errors import CODES
from tests.e2e.commands import Done, until
from tests.e2e.domain_on_disk import DomainOnDisk, Member
from tests.e2e.shell import Shell

PLANTED = "Ndayishimiye-Inventée"
"""A name that must stand in no word of a command that was not asked for it."""
_T = TypeVar("_T")


def moment(days: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def said(done: Done) -> str:
    """What a person reads, whatever the width of the terminal."""
    assert "Traceback" not in done.err
    return " ".join((done.out + done.err).replace("│", " ").split())


@dataclass
class Offices:
    domain: DomainOnDisk
    sh: Shell
    files: Path
    _made: int = 0

    @classmethod
    @contextmanager
    def open(cls, folder: Path, sh: Shell, members: Sequence[Member], log: str = "sqlite") -> Iterator[Offices]:
        """All of them enrolled, their adapters at work. `log`: as of `DomainOnDisk.made`."""
        with DomainOnDisk.made(folder / "bi", members, log=log) as domain:
            for member in members:
                domain.start_agency(member.id)
            files = folder / "fichiers"
            files.mkdir()
            yield cls(domain, sh, files)

    def folder(self, agency: str) -> Path:
        return self.domain.folder(f"bi/{agency}")

    def words(self, agency: str, *command: str | Path, language: str = "fr", code: int = 0) -> str:
        """What a person reads who types `umuhuza agency COMMAND`."""
        done = self.sh("agency", *command, "--dir", self.folder(agency), language=language)
        assert done.code == code, done.out + done.err
        return said(done)

    def json(self, agency: str, *command: str | Path, code: int = 0, language: str = "fr") -> dict[str, Any]:
        done = self.sh("agency", *command, "--dir", self.folder(agency), "--json", language=language)
        assert done.code == code, done.out + done.err
        assert done.err == ""
        found = done.json
        assert found["ok"] is (code == 0)
        return found

    def refused(self, agency: str, code: str, path: str | None, *command: str | Path) -> None:
        """Exit 1 with that code and path, title and advice, French to a person, English to a program; no value."""
        meaning = CODES[code]
        shown = self.words(agency, *command, code=1)
        assert f"{code}: {meaning.title_fr}" in shown
        assert f"→ {meaning.advice_fr}" in shown
        problem = self.json(agency, *command, code=1, language="en")["problem"]
        assert (problem["code"], problem.get("path")) == (code, path)
        assert (problem["title"], problem["advice"]) == (meaning.title_en, meaning.advice_en)
        assert PLANTED not in shown + str(problem)

    def mistyped(self, agency: str, french: str, english: str, *command: str | Path) -> None:
        """Exit 2 and one sentence, in French to a person, in English to a program, without what was typed."""
        shown = self.words(agency, *command, code=2)
        assert french in shown
        problem = self.json(agency, *command, code=2, language="en")["problem"]
        assert problem["code"] == "usage"
        assert english in problem["title"].replace("\n", " ")
        assert PLANTED not in shown + str(problem)

    def file(self, value: object, suffix: str = ".json") -> Path:
        self._made += 1
        path = self.files / f"fichier-{self._made}{suffix}"
        path.write_bytes(value if isinstance(value, bytes) else orjson.dumps(value))
        return path

    def send(self, agency: str, to: str, type: str, facts: dict[str, Any], **more: str) -> str:
        """One event by `umuhuza agency send`; its evt."""
        return self._sent(agency, to, type, facts, (), **more)

    def _sent(self, agency: str, to: str, type: str, facts: dict[str, Any], files: Sequence[Path], **more: str) -> str:
        draft = {"to": f"bi/{to}", "type": type, "facts": {"occurred_at": moment(), **facts}, **more}
        attached = [word for file in files for word in ("--attach", file)]
        [accepted] = self.json(agency, "send", self.file(draft), *attached)["accepted"]
        return str(accepted["evt"])

    def refer(
        self, agency: str, to: str, person: str, name: str = f"Aline {PLANTED}", files: Sequence[Path] = ()
    ) -> str:
        """A referral with her consent, and files; its evt, once it has arrived."""
        consent = {"given_at": moment(-1), "expires_at": moment(90)}
        referral = {
            "priority": "urgent",
            "name": {"as_given": name},
            "birth": {"precision": "year", "date": "1999"},
            "services": ["SocialCare"],
        }
        facts = {"lawful": {"basis": "consent", "consent": consent}, "referral": referral}
        evt = self._sent(agency, to, "referral.requested", facts, files, person=person)
        self.arrived(to, f"bi/{agency}/{evt}")
        return evt

    def arrived(self, agency: str, ident: str) -> dict[str, Any]:
        """The item of the inbox, once it has been handed over."""
        return until(f"{ident} is there", lambda: self.item(agency, ident, "delivered"))

    def item(self, agency: str, ident: str, state: str) -> dict[str, Any] | None:
        items = self.json(agency, "inbox")["items"]
        return next((one for one in items if (one["ident"], one["state"]) == (ident, state)), None)

    def until(self, what: str, seen: Callable[[], _T | None]) -> _T:
        return until(what, seen)
