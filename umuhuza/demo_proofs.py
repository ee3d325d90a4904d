# SPDX-License-Identifier: Apache-2.0
"""What `umuhuza demo` tries against the domain, with real keys and real bytes: a search for a name, a query that is not
permitted, a forged record, one altered byte. Each says what happened; none says what ought to.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from adapters.keystore import read_keys
from schemas.envelope import (
    Manifest,
    check_copies,
    cloudevents_headers,
    new_evt,
    new_thread,
    parse_record,
    record_value,
    sign_manifest,
)
from schemas.errors import UmuhuzaError
from schemas.keys import b64url
from schemas.registry import Registry
from schemas.sealing import make_grant, seal_parts
from topics.gateway_calls import error_of
from topics.http_log import HttpLog
from topics.log import Entry, Stored, grant_key, grants_topic
from topics.neighbours import Neighbours
from umuhuza.demo_stage import DemoError, Stage
from umuhuza.words import language

# ---------------------------------------------------------------------------------------------------------------------
# A name, in every byte


@dataclass(frozen=True)
class Search:
    files: int
    bytes: int
    """Without what was reserved and never written."""
    found: int
    """Files in which the word stands."""


def spellings(word: str) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """A word as programs write it: in small letters, for a text in small letters (UTF-8, UTF-16, hexadecimal); and
    exactly (base64 at three alignments)."""
    plain = word.encode("utf-8")
    small = {plain, word.encode("utf-16-le"), word.encode("utf-16-be"), plain.hex().encode()}
    exact = set()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + plain)
        inner = whole[-(-shift * 8 // 6) : (shift + len(plain)) * 8 // 6]  # the ends depend on their neighbours
        exact |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(one.lower() for one in small), frozenset(exact)


def search(word: str, folders: Iterable[Path]) -> Search:
    """Look for a word in every byte of every file in these folders, as an administrator with `grep -r` does."""
    small, exact = spellings(word)
    files = size = found = 0
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            try:
                content = _written(path) if path.is_file() else None
            except FileNotFoundError:
                continue  # a broker's file that was replaced meanwhile
            if content is not None:
                lowered = content.lower()
                files += 1
                size += len(content)
                found += any(one in lowered for one in small) or any(one in content for one in exact)
    return Search(files, size, found)


def _written(path: Path) -> bytes:
    """What stands in a file; a broker reserves megabytes for each index, of which nothing is on the disk."""
    with path.open("rb") as file:
        if not hasattr(os, "SEEK_DATA"):
            return file.read()
        number, size, at = file.fileno(), os.fstat(file.fileno()).st_size, 0
        parts = []
        while at < size:
            try:
                begins = os.lseek(number, at, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    break  # nothing but what was reserved
                raise
            at = os.lseek(number, begins, os.SEEK_HOLE)
            parts.append(os.pread(number, at - begins, begins))
    return b"\0".join(parts)


def noise(entries: Sequence[Stored], ident: str) -> str:
    """What stands in the log where she is named: the beginning of the sealed bytes."""
    record = parse_record(next(one for one in entries if one.ident == ident).value)
    sealed = record.body[0].split(".")[3]
    return f"{sealed[:48]}…"


# ---------------------------------------------------------------------------------------------------------------------
# A query that is not permitted


@dataclass(frozen=True)
class Refused:
    status: int
    code: str
    title: str
    advice: str


async def ask_for_referrals(stage: Stage, agency: str) -> Refused:
    """With the agency's own valid key and token: the gateway is asked for a mailbox in the flow of referrals."""
    keys = read_keys(stage.folder(agency) / "keys.json")
    log = HttpLog(stage.address, agency, keys.sig, domain="bi", now=time.time, random=os.urandom)
    try:
        token = await log.access_token()
        async with httpx2.AsyncClient(base_url=stage.address, trust_env=False) as client:
            answer = await client.get("/v1/mailbox?flows=referral", headers={"authorization": f"Bearer {token}"})
    finally:
        await log.close()
    problem = error_of(answer.json())
    return Refused(answer.status_code, problem.code, problem.meaning.title(language()), problem.advice(language()))


# ---------------------------------------------------------------------------------------------------------------------
# A forged record, an altered byte


async def forge(stage: Stage) -> UmuhuzaError | None:
    """Somebody holds a police laptop's session and changes a signed manifest: the gateway must refuse it."""
    keys = read_keys(stage.folder("bi/police") / "keys.json")
    registry = stage.members
    now = int(stage.clock())
    evt = new_evt(now * 1000, os.urandom)
    sealed = seal_parts(f"bi/police/{evt}", "request", {"identity": b"", "content": b"{}"}, os.urandom)
    honest = Manifest(
        evt=evt,
        iss="bi/police",
        to="bi/iom",
        topic="bi.case.iom",
        kind="request",
        thread=new_thread(os.urandom),
        seq=2,
        prev=b64url(os.urandom(32)),
        iat=now,
        reg=registry.version,
        parts=sealed.parts,
        training=registry.training,
    )
    changed = replace(honest, thread=new_thread(os.urandom))
    signature = sign_manifest(honest, keys.sig).rpartition(b".")[2]
    line1 = sign_manifest(changed, keys.sig).rpartition(b".")[0] + b"." + signature
    value = record_value(line1, sealed.body)
    log = HttpLog(stage.address, "bi/police", keys.sig, domain="bi", now=time.time, random=os.urandom)
    try:
        recipient = registry.seal_keys("bi/iom", now)[0]
        grant = make_grant(changed, sealed.keys, "bi/iom", recipient)
        await log.put_grants(grants_topic("bi/iom"), {grant_key(changed.ident, recipient.kid): grant})
        said = (
            await log.append(
                [Entry(changed.topic, changed.thread.encode(), changed.ident, value, cloudevents_headers(changed))]
            )
        )[0]
    finally:
        await log.close()
    return said if isinstance(said, UmuhuzaError) else None


@dataclass(frozen=True)
class Finding:
    """A record that is not as it was signed."""

    ident: str
    code: str
    part: str
    """Name of the part; "" where it is the manifest."""


def with_a_byte_altered(entries: Sequence[Stored], ident: str) -> list[Stored]:
    """A copy of these entries with one byte of that record changed, in the middle of its first sealed part.

    Raises DemoError: it is not among them.
    """
    found = []
    changed = False
    for entry in entries:
        if entry.ident == ident and not changed:
            place = entry.value.index(b"\n") + 1 + len(parse_record(entry.value).body[0]) // 2
            other = b"B" if entry.value[place : place + 1] == b"A" else b"A"
            entry = replace(entry, value=entry.value[:place] + other + entry.value[place + 1 :])
            changed = True
        found.append(entry)
    if not changed:
        raise DemoError(ident)
    return found


def checked(entries: Sequence[Stored], registry: Registry, at: int, abroad: Neighbours) -> list[Finding]:
    """Every record against its issuer's signature and digests, as any reader checks it; no key to open is needed.

    Args:
        at: a time at which the issuers' keys count, seconds since the epoch.
        abroad: by whom what came over a border is judged.
    """
    found = []
    for entry in entries:
        part = ""
        try:
            record = parse_record(entry.value)
            check_copies(record, entry.topic, entry.key, entry.headers)
            judged = abroad.judged(entry)
            if isinstance(judged, UmuhuzaError):
                raise judged
            if judged is not None:
                continue
            record.verify(registry.signing_key(record.manifest.iss, record.kid, at))
            record.verify_body()
        except UmuhuzaError as exc:
            index = re.fullmatch(r"L2\[([0-9]+)\]", exc.path or "")
            if index is not None:
                part = record.manifest.parts[int(index[1])].name
            found.append(Finding(entry.ident, exc.code, part))
    return found
