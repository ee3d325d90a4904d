# SPDX-License-Identifier: Apache-2.0
"""A ledger gathers cosignatures from witnesses that are slow, down, far ahead or lying, and never waits for one."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from schemas.errors import LogError
from schemas.notes import NoteSigner
from schemas.trust_policy import is_foreign, read_policy
from tests.domain import NOW
from tests.trees import Ledger, witness_signers
from tests.witness_servers import Answer, LedgerOnDisk, WitnessServer, served
from topics.cosigning import (
    COSIGNED_FILE,
    ENDORSED_FILE,
    FACTS_FILE,
    POLICY_FILE,
    SILENT_S,
    Cosignatures,
    HttpLedger,
    Round,
)
from topics.witness import Witness, WitnessedLogs

LEDGER = Ledger("bi")
DAY = 86_400


@dataclass
class Country:
    """Burundi's ledger with its own witness and Tunisia's; both must sign."""

    folder: Path
    ledger: LedgerOnDisk
    own: WitnessServer
    foreign: WitnessServer
    log_url: str

    @property
    def book(self) -> Cosignatures:
        return Cosignatures(self.folder, LEDGER.origin)

    def ask(self, now: int = NOW) -> Round:
        self.own.now = self.foreign.now = now
        with httpx2.Client(trust_env=False) as client:
            return self.book.ask(HttpLedger(client, self.log_url), client, now)


def witness_at(folder: Path, domain: str) -> WitnessServer:
    folder.mkdir()
    (folder / "logs.policy").write_text("".join(f"log {key.vkey}\n" for key in LEDGER.keys) + "quorum none\n")
    signers = witness_signers(domain)
    Witness.create(folder / "witness.db", signers)
    return WitnessServer(Witness.open(folder / "witness.db", signers, WitnessedLogs(folder / "logs.policy")))


def write_policy(folder: Path, own: str, foreign: str) -> None:
    lines = [f"log {key.vkey}\n" for key in LEDGER.keys]
    for name, url in (("bi", own), ("tn", foreign)):
        [ed, pq] = witness_signers(name)
        lines += [f"witness {name}-ed {ed.public.vkey} {url}\n", f"witness {name}-pq {pq.public.vkey} {url}\n"]
        lines += [f"group {name} all {name}-ed {name}-pq\n"]
    (folder / POLICY_FILE).write_text("".join([*lines, "group both all bi tn\n", "quorum both\n"]))
    os.utime(folder / POLICY_FILE, (NOW, NOW))


@pytest.fixture
def country(tmp_path: Path) -> Iterator[Country]:
    own, foreign = witness_at(tmp_path / "bi", "bi"), witness_at(tmp_path / "tn", "tn")
    ledger = LedgerOnDisk(LEDGER, 5)
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(served(one.answers)) for one in (ledger, own, foreign)]
        write_policy(tmp_path, *urls[1:])
        yield Country(tmp_path, ledger, own, foreign, urls[0])
        own.witness.close()
        foreign.witness.close()


def codes(done: Round) -> dict[str, str | None]:
    return {fact.name: fact.code for fact in done.facts}


def test_one_round_has_every_witness_sign_with_every_key(country: Country) -> None:
    done = country.ask(NOW + 60)
    assert (done.size, done.endorsed) == (5, True)
    assert set(codes(done).values()) == {None}
    endorsed = country.book.endorsed()
    assert endorsed is not None
    assert endorsed.signed.checkpoint == LEDGER.head(5)
    assert endorsed.by == dict.fromkeys(("bi-ed", "bi-pq", "tn-ed", "tn-pq"), NOW + 60)
    assert (country.folder / COSIGNED_FILE).read_bytes() == (country.folder / ENDORSED_FILE).read_bytes()
    assert len(country.own.bodies) == len(country.foreign.bodies) == 1


def test_later_rounds_prove_that_the_ledger_has_only_grown(country: Country) -> None:
    for size in (5, 6, 300, 300):
        country.ledger.size = size
        done = country.ask()
        assert (done.size, done.endorsed) == (size, True)
    assert len(country.foreign.bodies) == 4
    assert [body.split(b"\n", 1)[0] for body in country.foreign.bodies] == [b"old 0", b"old 5", b"old 6", b"old 300"]


def test_a_ledger_that_forgot_what_a_witness_saw_is_told_the_size_and_goes_on(country: Country) -> None:
    country.ask()
    (country.folder / FACTS_FILE).write_bytes(b"{broken")
    country.ledger.size = 9
    assert country.ask().endorsed
    assert [body.split(b"\n", 1)[0] for body in country.foreign.bodies] == [b"old 0", b"old 0", b"old 5"]


def test_a_witness_that_is_down_costs_the_quorum_and_nothing_else(country: Country) -> None:
    country.ask()
    country.foreign.down = True
    country.ledger.size = 9
    done = country.ask(NOW + 60)
    assert not done.endorsed
    assert codes(done) == {"bi-ed": None, "bi-pq": None, "tn-ed": "unavailable", "tn-pq": "unavailable"}
    cosigned, endorsed = country.book.cosigned(), country.book.endorsed()
    assert cosigned is not None
    assert endorsed is not None
    assert (cosigned.signed.checkpoint.size, set(cosigned.by)) == (9, {"bi-ed", "bi-pq"})
    assert endorsed.signed.checkpoint.size == 5
    country.foreign.down = False
    assert country.ask(NOW + 120).endorsed


def test_a_witness_is_missed_after_a_day_however_it_became_silent(country: Country) -> None:
    country.foreign.down = True
    country.ask(NOW + 60)
    assert country.book.silent(NOW + SILENT_S - 1) == ()
    assert country.book.silent(NOW + SILENT_S) == ("tn-ed", "tn-pq")
    country.foreign.down = False
    country.ask(NOW + 2 * DAY)
    assert country.book.silent(NOW + 2 * DAY) == ()
    country.foreign.down = True
    country.ask(NOW + 3 * DAY)
    assert country.book.silent(NOW + 3 * DAY) == ("tn-ed", "tn-pq")
    # And when nobody asks any more.
    assert country.book.silent(NOW + 4 * DAY) == ("bi-ed", "bi-pq", "tn-ed", "tn-pq")


def test_a_ledger_that_shrank_or_forked_is_found_by_its_witnesses(country: Country) -> None:
    country.ledger.size = 9
    country.ask()
    country.ledger.size = 7
    assert set(codes(country.ask()).values()) == {"log_inconsistent"}
    country.ledger.size, country.ledger.ledger = 12, Ledger("bi", "forked", 8)
    done = country.ask()
    assert (done.endorsed, set(codes(done).values())) == (False, {"log_inconsistent"})
    country.ledger.size = 9
    assert set(codes(country.ask()).values()) == {"log_inconsistent"}
    cosigned = country.book.cosigned()
    assert cosigned is not None
    assert cosigned.signed.checkpoint == LEDGER.head(9)
    assert len(country.foreign.witness.evidence(LEDGER.origin)) == 1


def test_a_ledger_that_the_witness_does_not_know_is_said_to_be_so(country: Country) -> None:
    (country.folder / "tn" / "logs.policy").write_text("quorum none\n")
    assert codes(country.ask())["tn-ed"] == "log_unknown"


def test_tiles_that_are_not_the_checkpoints_never_reach_a_witness_as_a_proof(country: Country) -> None:
    country.ask()
    country.ledger.size = 9
    country.ledger.asked.clear()
    true_answers = country.ledger.answers

    def short(path: str, body: bytes) -> Answer:
        status, kind, content = true_answers(path, body)
        return status, kind, content[:-32] if "tile" in path else content

    with served(short) as country.log_url, pytest.raises(LogError) as caught:
        country.ask()
    assert (caught.value.code, caught.value.path) == ("root_mismatch", "tile")
    assert len(country.foreign.bodies) == 1


LIES: dict[str, tuple[Answer, str]] = {
    "nothing": ((200, "text/plain", b""), "note_malformed"),
    "no lines": ((200, "text/plain", b"thank you\n"), "note_malformed"),
    "too much": ((200, "text/plain", b"x" * (1 << 20)), "too_large"),
    "a size that is none": ((409, "text/x.tlog.size", b"05\n"), "note_malformed"),
    "no size": ((409, "text/x.tlog.size", b""), "note_malformed"),
    "a size that is too large": ((409, "text/x.tlog.size", b"99\n"), "log_inconsistent"),
    "the same size for ever": ((409, "text/x.tlog.size", b"0\n"), "unavailable"),
    "a contradiction": ((409, "text/plain", b"root\n"), "log_inconsistent"),
    "another page": ((302, "text/plain", b""), "unavailable"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_witness_should_not_say_is_its_own_affair(country: Country, lie: str) -> None:
    answer, code = LIES[lie]
    with served(lambda _path, _body: answer) as url:
        write_policy(country.folder, url, url)
        done = country.ask()
    assert set(codes(done).values()) == {code}
    assert country.book.cosigned() is None


def test_a_signature_over_something_else_is_not_kept(country: Country) -> None:
    signers = witness_signers("tn")

    def wrong(_path: str, _body: bytes) -> Answer:
        return 200, "text/plain", signers[0].sign(LEDGER.head(6).text, NOW).line.encode()

    def strangers(_path: str, _body: bytes) -> Answer:
        return 200, "text/plain", witness_signers("iom")[0].sign(LEDGER.head(5).text, NOW).line.encode()

    for lie in (wrong, strangers):
        with served(lie) as url:
            write_policy(country.folder, url, url)
            done = country.ask()
        assert set(codes(done).values()) == {"signature_invalid"}
        assert country.book.cosigned() is None


@contextlib.contextmanager
def endless(drop: bytes, pause_s: float) -> Iterator[tuple[str, list[int]]]:
    """A server whose answer never ends, and how many bytes it got rid of."""
    sent, ended = [0], threading.Event()

    def answer(listening: socket.socket) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                connection.settimeout(5)
                connection.recv(1 << 20)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
                while not ended.wait(pause_s):
                    sent[0] += connection.send(drop)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", sent
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(("drop", "pause_s", "code"), [(bytes(65536), 0.0, "too_large"), (b"x", 0.01, "unavailable")])
def test_an_answer_without_end_is_cut_off(
    country: Country, monkeypatch: pytest.MonkeyPatch, drop: bytes, pause_s: float, code: str
) -> None:
    """It takes neither the ledger's memory nor, drop by drop, the time in which the others are asked."""
    monkeypatch.setattr("topics.cosigning.ASK_SECONDS", 0.5)
    with endless(drop, pause_s) as (url, sent):
        write_policy(country.folder, url, url)
        assert set(codes(country.ask()).values()) == {code}
    assert sent[0] < 16 << 20, "what the sockets hold"


def test_a_time_that_no_file_holds_is_refused_and_what_is_known_of_others_stays(country: Country) -> None:
    country.ask()
    mad = witness_signers("tn")[0]

    def later(_path: str, _body: bytes) -> Answer:
        return 200, "text/plain", mad.sign(LEDGER.head(5).text, 1 << 60).line.encode()

    with served(country.own.answers) as own, served(later) as foreign:
        write_policy(country.folder, own, foreign)
        done = country.ask(NOW + 9)
    assert codes(done)["tn-ed"] == "note_malformed"
    assert country.book.facts() == done.facts
    assert country.book.silent(NOW + 9) == ()


def test_one_key_of_a_witness_counts_by_itself(country: Country) -> None:
    def only(signer: NoteSigner, _path: str, _body: bytes) -> Answer:
        return 200, "text/plain", signer.sign(LEDGER.head(5).text, NOW).line.encode()

    with served(lambda path, body: only(witness_signers("tn")[1], path, body)) as url:
        write_policy(country.folder, url, url)
        done = country.ask()
    others = dict.fromkeys(("bi-ed", "bi-pq", "tn-ed"), "signature_invalid")
    assert codes(done) == {**others, "tn-pq": None}
    cosigned = country.book.cosigned()
    assert cosigned is not None
    assert cosigned.by == {"tn-pq": NOW}


def test_without_its_own_ledger_nothing_is_asked(country: Country) -> None:
    nothing: Answer = (404, "text/plain", b"")
    with served(lambda _path, _body: nothing) as country.log_url, pytest.raises(LogError) as caught:
        country.ask()
    assert (caught.value.code, caught.value.path) == ("unavailable", "ledger")
    stranger = LedgerOnDisk(Ledger("tn"), 5)
    with served(stranger.answers) as country.log_url, pytest.raises(LogError) as caught:
        country.ask()
    assert caught.value.code == "signature_invalid"
    assert not country.own.bodies


def test_a_policy_is_needed_that_knows_the_ledger(country: Country) -> None:
    with pytest.raises(LogError) as caught:
        Cosignatures(country.folder, "tn.umuhuza/log")
    assert caught.value.code == "log_unknown"
    (country.folder / POLICY_FILE).unlink()
    with pytest.raises(LogError) as caught:
        Cosignatures(country.folder, LEDGER.origin)
    assert (caught.value.code, caught.value.path) == ("unavailable", POLICY_FILE)


def test_whose_a_witness_is_shows_in_its_name(country: Country) -> None:
    policy = read_policy((country.folder / POLICY_FILE).read_bytes())
    assert [one.name for one in policy.witnesses if is_foreign(one, LEDGER.origin)] == ["tn-ed", "tn-pq"]
