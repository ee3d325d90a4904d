# SPDX-License-Identifier: Apache-2.0
"""One checker: a process that says of records what can be said of each by itself, for a gateway that asks.

    python -m gateway.checker

Signatures, digests and strict parsing hold the interpreter's lock, so threads cannot share them out over the cores;
processes can. What is asked comes in on standard input, the answers go out on standard output in the same order. It
holds no key, no log and no network; it knows the registry that it was last given, and ends when its input does, so that
none outlives its gateway. What it says is checked by nobody: it runs the same code as its gateway, started by it.

Messages are `topics.process_messages`: behind the head come, to a checker, the lines; back from it, what of them is
kept.

    {"op":"registry","registry":{...}}                                   no answer
    {"op":"examine","lines":[[agency, now, grants_limit, length],...]}   one of the two for each line:
        [hash, manifest, suspect, problem, place, [[key, place],...]]    in order (the grants' problem), and where what
                                                                         is kept is found: the record, its grants
        [problem, flow, kind, hash, manifest or null]                    refused
    {"op":"check","lines":[[topic, at_ms, length],...]}                  [hash, manifest], "unknown" or null each

A problem is [class, code, path, expected] or null. A manifest is its fields, as JSON. A place is [start, length] in the
line that was asked about, which the gateway still has (in a record there, the line end is written as in JSON), or
[-1, length]: the bytes follow the head.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from gateway.examine import Examined, Refused, Rules, Task, checked, examine
from gateway.workers import seldom_collect
from schemas.envelope import Acts, Manifest, Part
from schemas.registry import registry_from_json
from topics.process_messages import error_of, message, opened, problem_of, read_message

_BEGINNING = 96
"""Bytes: longer than what any two records or grants begin with alike."""


def manifest_of(fields: dict[str, Any]) -> Manifest:
    """A manifest that another process has read, from its fields."""
    fields["parts"] = tuple([Part(**part) for part in fields["parts"]])
    fields["voids"] = tuple(fields["voids"])
    acts = fields["acts"]
    if acts is not None:
        fields["acts"] = Acts(tuple(acts["erase"]), tuple(acts["grant"]))
    return Manifest(**fields)


def answer(body: bytes, rules: Rules | None) -> tuple[bytes | None, Rules | None]:
    """Answer one message; returns the answer and the rules that hold from now on."""
    head, place = opened(body)
    if head["op"] == "registry":
        return None, Rules(registry_from_json(head["registry"]))
    if rules is None:
        raise ValueError("no registry was given")
    told: list[Any] = []
    blobs: list[bytes] = []
    for *about, size in head["lines"]:
        line = body[place : place + size]
        place += size
        if head["op"] == "examine":
            agency, now, limit = about
            told.append(_told(examine(Task(line, agency, rules, now, limit)), line, blobs))
        else:
            topic, at_ms = about
            good = checked((rules.registry, (topic, at_ms, line)))
            told.append([good[1], good[0]] if isinstance(good, tuple) else good)
    return message(told, blobs), rules


def _told(found: Examined | Refused, line: bytes, blobs: list[bytes]) -> list[Any]:
    if isinstance(found, Refused):
        return [problem_of(found.error), found.flow, found.kind, found.hash, found.manifest]
    first, _, second = found.value.partition(b"\n")
    value = [_place(first, line), len(first), len(second)]
    if value[0] < 0 or not line.startswith(b"\\n" + second, value[0] + len(first)):
        blobs.append(found.value)
        value[0] = -1
    grants: list[tuple[str, int, int]] = []
    for key, data in found.grants.items():
        place = _place(data, line)
        if place < 0:
            blobs.append(data)
        grants.append((key, place, len(data)))
    marks = (found.clock_suspect, found.must_answer)
    return [found.hash, found.manifest, marks, problem_of(found.grants_problem), value, grants]


def _place(data: bytes, line: bytes) -> int:
    """Where these very bytes stand in the line, -1 for nowhere: wherever it is, they are the same.

    Only their beginning is searched for, since searching for something long costs more than checking its signature.
    """
    start = line.find(data[:_BEGINNING])
    while start >= 0 and not line.startswith(data, start):
        start = line.find(data[:_BEGINNING], start + 1)
    return start


def found_in(told: Sequence[Any], line: bytes, body: bytes, place: int) -> tuple[Examined | Refused, int]:
    """What `examine` found in another process, from its answer about this line; `place` is where what follows its head
    starts in `body`."""
    if len(told) == 5:
        problem, flow, kind, chain_hash, fields = told
        manifest = None if fields is None else manifest_of(fields)
        return Refused(error_of(problem), flow, kind, manifest, chain_hash), place
    chain_hash, fields, (suspect, must_answer), problem, (start, first, second), grants_at = told
    if start < 0:
        size = first + 1 + second
        value = body[place : place + size]
        place += size
    else:
        middle = start + first
        value = b"\n".join((line[start:middle], line[middle + 2 : middle + 2 + second]))
    grants: dict[str, bytes] = {}
    for key, start, size in grants_at:
        if start < 0:
            grants[key] = body[place : place + size]
            place += size
        else:
            grants[key] = line[start : start + size]
    error = None if problem is None else error_of(problem)
    return Examined(manifest_of(fields), value, chain_hash, grants, error, suspect, must_answer), place


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the input ends."""
    rules: Rules | None = None
    while (body := read_message(source)) is not None:
        told, rules = answer(body, rules)
        if told is not None:
            sink.write(told)
            sink.flush()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches the whole group: the gateway ends first, and with it this process's input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seldom_collect()
    main(sys.stdin.buffer, sys.stdout.buffer)
