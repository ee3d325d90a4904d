# SPDX-License-Identifier: Apache-2.0
"""Registry files: who signs what, and the ways in which a file must not be believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from schemas.keys import der_signature, signature_twin
from tests.domain import NOW
from tests.vectors.making import PLANTED, SIGNERS, Payload, Vector, vector
from tests.vectors.registry_agency_cases import (
    ALL,
    INVALID,
    IOM,
    SHELTER,
    agency_vectors,
    key_entry,
    registry_vector,
    tls_entry,
)
from tests.vectors.registry_ledger_cases import ledger_vectors
from tests.vectors.repositories import (
    Change,
    Files,
    Repository,
    at,
    canonical,
    compact,
    described,
    drop,
    holder,
    key_id,
    key_of,
    put,
)

TWO = ("root-bi", "root-bi-2")
THREE = ("root-bi", "root-bi-2", "root-bi-3")
ROLES = ("root", "targets", "snapshot", "timestamp")


def registry_vectors() -> list[Vector]:
    return [
        *_valid(),
        *_signatures(),
        *_together(),
        *_shapes(),
        *_roots(),
        *_files(),
        *agency_vectors(),
        *ledger_vectors(),
    ]


def _valid() -> list[Vector]:
    members = {"bi/iom": ["screener", "assistance"], "bi/k7t4": ["assistance", "shelter"]}
    iom = {"bi/iom": ["screener", "assistance"]}
    doubted = IOM | {"keys": [key_entry("iom", "sig", revoked=NOW, compromised_since=41)]}
    agreement = {
        "domains": ["bi", "tn"],
        "agencies": [],
        "flows": ["bilateral", "receipt"],
        "types": [],
        "purposes": ["transfer of persons"],
        "focal_points": ["bi/iom"],
        "authorisations": [{"authority": "APDP", "ref": "12/2026", "scope": ["identity"], "until": "2027-12-31"}],
        "retention_days": 1825,
        "legal_ref": "Accord de démonstration (inventé)",
        "document_sha256": None,
        "since": "2026-01-01",
        "until": "2028-12-31",
        "root_fingerprints": {"bi": "A" * 43, "tn": "B" * 42 + "A"},
    }
    table: tuple[tuple[str, str, Repository, Payload], ...] = (
        ("ok", "two agencies, one of them protected", Repository(ALL), members),
        ("ok-empty", "nobody yet", Repository(), {}),
        ("ok-training", "of training", Repository([IOM], training=True), iom),
        (
            "ok-direct",
            "an agency that writes to the brokers itself",
            Repository([IOM | {"direct": True}, SHELTER | {"direct": False}]),
            members,
        ),
        (
            "ok-endpoints",
            "an agency that says where it answers, and with which TLS key",
            Repository(
                [
                    IOM
                    | {
                        "endpoints": {
                            "gateway": "https://passerelle.exemple.bi:8440/",
                            "witness": "http://127.0.0.1:1",
                        },
                        "keys": [key_entry("iom", "sig"), tls_entry()],
                    }
                ]
            ),
            iom,
        ),
        (
            "ok-twin",
            "the other valid signature",
            Repository([IOM], after={"timestamp": _signature(lambda raw: der_signature(signature_twin(raw)).hex())}),
            iom,
        ),
        (
            "ok-no-keys",
            "an agency whose keys are still to come",
            Repository([IOM | {"keys": [], "roles": []}]),
            {"bi/iom": []},
        ),
        ("ok-compromised", "a key that was stolen when the ledger had 41 entries", Repository([doubted]), iom),
        (
            "ok-two-of-three",
            "two of three holders are enough",
            Repository([IOM], holders=THREE, threshold=2, signers={"root": TWO, "targets": THREE[1:]}),
            iom,
        ),
        (
            "ok-rotated",
            "a second root, signed by two of the first and two of its own",
            Repository([IOM], holders=THREE, threshold=2, second=("root-bi-2", "root-bi-3", "root-tn")),
            iom,
        ),
        (
            "ok-stranger",
            "a signature of somebody who is not asked does not count and does not harm",
            Repository([IOM], signers={"targets": ("root-bi", "root-tn")}),
            iom,
        ),
        (
            "ok-agreement",
            "an agreement with another country, and a policy",
            Repository(
                [IOM], targets={"agreements/demo-2026.json": compact(agreement), "policy.json": '{"version":1}'}
            ),
            iom,
        ),
    )
    return [registry_vector(ident, why, made, "ok", None, "valid", members=who) for ident, why, made, who in table]


def _signature(make: Callable[[bytes], str]) -> Change:
    """Change the one signature, given as r||s."""

    def change(metadata: Any) -> None:
        message = canonical(metadata["signed"]).encode()
        metadata["signatures"][0]["sig"] = make(SIGNERS["root-bi"].sign(message))

    return change


def _flipped(raw: bytes) -> str:
    return der_signature(bytes([raw[0] ^ 1]) + raw[1:]).hex()


def _signatures() -> list[Vector]:
    found: list[Vector] = []
    where = {"root": "root[1]", "targets": "targets", "snapshot": "snapshot", "timestamp": "timestamp"}

    def wrong(ident: str, why: str, made: Repository, path: str, **more: Any) -> None:
        found.append(registry_vector(ident, why, made, "registry_threshold", f"{path}.signatures", "crypto", **more))

    for role in ROLES:
        one = where[role]
        wrong(f"{role}-signature", "a bit of it", Repository([IOM], after={role: _signature(_flipped)}), one)
        wrong(f"{role}-unsigned", "by nobody", Repository([IOM], signers={role: ()}), one)
        wrong(
            f"{role}-other-country", "by another country's holder", Repository([IOM], signers={role: ["root-tn"]}), one
        )
        wrong(
            f"{role}-under-another-id",
            "another country's signature under a holder's key id",
            Repository([IOM], after={role: _under_the_holders_id}),
            one,
        )
        wrong(
            f"{role}-changed",
            "a member changed after it was signed",
            Repository([IOM], after={role: put("signed", "expires", value=at(NOW + 400 * 86_400))}),
            one,
        )
    for role in ("root", "targets"):
        wrong(
            f"{role}-one-of-two",
            "one signature where two are asked for",
            Repository([IOM], holders=THREE, threshold=2, signers={role: ["root-bi"]}),
            where[role],
        )
        wrong(
            f"{role}-one-and-a-stranger",
            "two signatures, of which one is nobody's",
            Repository([IOM], holders=THREE, threshold=2, signers={role: ["root-bi", "root-tn"]}),
            where[role],
        )
    rotated: Payload = {"holders": THREE, "threshold": 2, "second": ("root-bi-3", "root-tn", "police")}
    wrong(
        "rotation-by-the-new",
        "holders that put themselves in place",
        Repository([IOM], **rotated, signers={"root2": ("root-tn", "police")}),
        "root[2]",
    )
    wrong(
        "rotation-by-the-old",
        "the old holders alone, so nobody knows that the new ones have their keys",
        Repository([IOM], **rotated, signers={"root2": TWO}),
        "root[2]",
    )
    wrong(
        "rotated-out",
        "targets signed by those who were rotated out",
        Repository([IOM], **rotated, signers={"targets": TWO}),
        "targets",
    )
    for ident, why, sig in (
        ("signature-empty", "none", ""),
        ("signature-uppercase", "small hex digits", "AB" * 70),
        ("signature-odd", "whole bytes", "abc" * 31),
        ("signature-number", "text", 5),
    ):
        made = Repository([IOM], after={"timestamp": put("signatures", 0, "sig", value=sig)})
        found.append(registry_vector(ident, why, made, INVALID, "timestamp.signatures"))
    wrong(
        "signature-not-der",
        "64 bytes as they are in a record",
        Repository([IOM], after={"timestamp": _signature(bytes.hex)}),
        "timestamp",
    )
    twice = Repository([IOM], holders=THREE, threshold=2, signers={"targets": ["root-bi", "root-bi"]})
    found.append(
        registry_vector("signature-twice", "one holder counts once", twice, INVALID, "targets.signatures", "crypto")
    )
    return found


def _under_the_holders_id(metadata: Any) -> None:
    message = canonical(metadata["signed"]).encode()
    metadata["signatures"][0]["sig"] = der_signature(SIGNERS["root-tn"].sign(message)).hex()


def _together() -> list[Vector]:
    """Files that are each well signed and do not belong together."""
    other = Repository([SHELTER])._files()
    snapshot, targets = "metadata/7.snapshot.json", "metadata/3.targets.json"
    table: tuple[tuple[str, str, Repository, str], ...] = (
        (
            "mixed-snapshot",
            "another snapshot of the version",
            Repository([IOM], files=_taken(other, snapshot)),
            "snapshot",
        ),
        ("mixed-targets", "other targets of the version", Repository([IOM], files=_taken(other, targets)), "targets"),
        (
            "mixed-root",
            "a snapshot of before the rotation",
            Repository(
                [IOM], holders=TWO, second=TWO, signed={"snapshot": put("meta", "root.json", "version", value=1)}
            ),
            "snapshot.meta",
        ),
        (
            "snapshot-version",
            "the snapshot is another than the timestamp says",
            Repository([IOM], signed={"snapshot": put("version", value=6)}),
            "snapshot.version",
        ),
        (
            "targets-version",
            "the targets are others than the snapshot says",
            Repository([IOM], signed={"targets": put("version", value=2)}),
            "targets.version",
        ),
        (
            "root-version",
            "the first is 1",
            Repository([IOM], signed={"root": put("version", value=2)}),
            "root[1].version",
        ),
        (
            "snapshot-length",
            "another length than stated",
            Repository([IOM], signed={"timestamp": put("meta", "snapshot.json", "length", value=5)}),
            "snapshot",
        ),
        (
            "target-hash",
            "a target under another hash than stated",
            Repository([IOM], files=_renamed_target),
            "targets.targets",
        ),
        (
            "target-changed",
            "a target that is not the one signed",
            Repository([IOM], files=_changed_target),
            "targets.targets",
        ),
        ("snapshot-missing", "the snapshot is not there", Repository([IOM], files=drop(snapshot)), "snapshot"),
        ("targets-missing", "the targets are not there", Repository([IOM], files=drop(targets)), "targets"),
        (
            "timestamp-missing",
            "the timestamp is not there",
            Repository([IOM], files=drop("metadata/timestamp.json")),
            "timestamp",
        ),
        (
            "file-more",
            "a file that nothing calls for",
            Repository([IOM], files=put(f"targets/agencies/{'0' * 64}.iom.json", value="{}")),
            "file",
        ),
        (
            "snapshot-older-beside",
            "an older snapshot lies beside",
            Repository([IOM], files=put("metadata/6.snapshot.json", value="{}")),
            "file",
        ),
    )
    return [registry_vector(ident, why, made, INVALID, path, "crypto") for ident, why, made, path in table]


def _taken(other: Files, path: str) -> Change:
    return put(path, value=other[path])


def _renamed_target(files: Files) -> None:
    [path] = [path for path in files if path.startswith("targets/")]
    files[f"targets/agencies/{'0' * 64}.iom.json"] = files.pop(path)


def _changed_target(files: Files) -> None:
    [path] = [path for path in files if path.startswith("targets/")]
    files[path] = files[path].replace("assistance", "operator  ")


def _shapes() -> list[Vector]:
    """Metadata of another shape, signed all the same: the library would carry most of it along."""
    found: list[Vector] = []
    where = {"root": "root[1]", "targets": "targets", "snapshot": "snapshot", "timestamp": "timestamp"}

    def wrong(ident: str, why: str, role: str, path: str, change: Change, **more: Any) -> None:
        made = Repository([IOM], signed={role: change})
        found.append(registry_vector(f"{role}-{ident}", why, made, INVALID, f"{where[role]}.{path}", **more))

    for role in ROLES:
        wrong("unknown", "no other members", role, "signed", put(PLANTED, value=PLANTED), says=PLANTED)
        wrong("version-0", "counted from 1", role, "version", put("version", value=0))
        wrong("version-true", "true is not 1", role, "version", put("version", value=True))
        wrong("version-text", "a number", role, "version", put("version", value=PLANTED), says=PLANTED)
        wrong("version-last", "nobody counts up to the end", role, "version", put("version", value=2**52))
        wrong("expires-local", "UTC, in one spelling", role, "expires", put("expires", value="2027-01-01T00:00:00"))
        wrong("expires-never", "a day that there is", role, "expires", put("expires", value="2027-02-30T00:00:00Z"))
        wrong("expires-number", "text", role, "expires", put("expires", value=NOW))
        wrong(
            "spec-2",
            "a later specification is not guessed at",
            role,
            "spec_version",
            put("spec_version", value="2.0.0"),
        )
        wrong("expires-missing", "everything ends", role, "signed", drop("expires"))
        other = "targets" if role != "targets" else "root"
        wrong("type", "each role signs its own", role, "_type", put("_type", value=other))
        made = Repository([IOM], after={role: put(PLANTED, value=1)})
        found.append(registry_vector(f"{role}-beside", "nothing beside", made, INVALID, where[role], says=PLANTED))
        made = Repository([IOM], after={role: lambda metadata: '{"signatures":[],' + compact(metadata)[1:]})
        found.append(registry_vector(f"{role}-duplicate", "two readers, two meanings", made, INVALID, where[role]))
        made = Repository([IOM], after={role: lambda metadata: "[]"})
        found.append(registry_vector(f"{role}-array", "an object", made, INVALID, where[role]))
        made = Repository(
            [IOM], after={role: lambda metadata: compact(metadata).replace('"version":', '"version":1e0,"v":', 1)}
        )
        found.append(registry_vector(f"{role}-float", "no fractions", made, INVALID, where[role]))
        made = Repository([IOM], after={role: lambda metadata: "[" * 400 + "]" * 400})
        found.append(registry_vector(f"{role}-deep", "400 deep", made, INVALID, where[role]))
    meta = ("meta", "snapshot.json")
    wrong("no-hash", "a hash always", "timestamp", "meta", drop(*meta, "hashes"))
    wrong("other-hash", "SHA-256", "timestamp", "meta", put(*meta, "hashes", value={"md5": "0" * 32}))
    wrong("two-snapshots", "one", "timestamp", "meta", put("meta", "other.json", value=described("{}", 1)))
    wrong("no-root", "the snapshot names the root", "snapshot", "meta", drop("meta", "root.json"))
    wrong("delegated", "no delegations", "snapshot", "meta", put("meta", "ones.json", value=described("{}", 1)))
    delegations: Payload = {"keys": {}, "roles": []}
    wrong("delegations", "no delegations", "targets", "signed", put("delegations", value=delegations))
    custom = put("targets", "agencies/iom.json", "custom", value={PLANTED: 1})
    wrong("custom", "no other members", "targets", "targets", custom, says=PLANTED)
    for ident, name in (
        ("outside", "../iom.json"),
        ("folder", f"{PLANTED}/iom.json"),
        ("uppercase", "agencies/IOM.json"),
        ("other-file", "agencies/iom.txt"),
    ):
        made = Repository([IOM], targets={name: "{}"})
        found.append(
            registry_vector(f"target-{ident}", "targets have names of three kinds", made, INVALID, "file", says=PLANTED)
        )
    return found


def _roots() -> list[Vector]:
    found: list[Vector] = []

    def wrong(ident: str, why: str, path: str, change: Change, **more: Any) -> None:
        made = Repository([IOM], holders=TWO, signed={"root": change})
        found.append(registry_vector(f"root-{ident}", why, made, INVALID, f"root[1].{path}", **more))

    first, second = key_id("root-bi"), key_id("root-bi-2")
    wrong("inconsistent", "consistent snapshots", "signed", put("consistent_snapshot", value=False))
    wrong("training-1", "1 is not true", "signed", put("x-umuhuza-training", value=1))
    wrong("domain-long", "two letters", "x-umuhuza-domain", put("x-umuhuza-domain", value="bdi"))
    wrong("no-domain", "a root says whose it is", "signed", drop("x-umuhuza-domain"))
    wrong("no-timestamp-role", "four roles", "roles", drop("roles", "timestamp"))
    wrong("mirrors-role", "four roles", "roles", put("roles", "mirrors", value={"keyids": [first], "threshold": 1}))
    wrong("threshold-0", "at least one", "roles.targets", put("roles", "targets", "threshold", value=0))
    wrong("threshold-3", "no more than there are", "roles.root", put("roles", "root", "threshold", value=3))
    wrong("holder-twice", "each once", "roles.root", put("roles", "root", "keyids", value=[first, first]))
    wrong("holder-unknown", "only keys that are there", "roles.root", put("roles", "root", "keyids", value=["0" * 64]))
    wrong("rsa", "P-256 alone", "keys", put("keys", first, "keytype", value="rsa"))
    wrong("scheme", "one scheme", "keys", put("keys", first, "scheme", value="ecdsa-sha2-nistp384"))
    wrong("no-pem", "a key", "keys", put("keys", first, "keyval", "public", value=PLANTED), says=PLANTED)
    wrong(
        "crlf",
        "another spelling of a key has another id",
        "keys",
        put("keys", first, "keyval", "public", value=key_of("root-bi")["keyval"]["public"].replace("\n", "\r\n")),
    )
    wrong("names-twice", "two holders, two names", "keys", put("keys", second, "x-umuhuza-holder", value="root-bi"))
    wrong("nameless", "holders have names", "keys", drop("keys", second, "x-umuhuza-holder"))
    wrong("idle-key", "no key without a role", "keys", _idle)
    made = Repository([IOM], holders=TWO, threshold=2, signed={"root": _same_key_twice}, after={"root": _both_ids})
    found.append(
        registry_vector(
            "root-key-twice", "one key under two ids would count twice", made, INVALID, "root[1].keys", "crypto"
        )
    )
    other = Repository([IOM])
    found.append(
        registry_vector(
            "root-foreign",
            "another root",
            Repository([IOM], holders=TWO),
            "registry_root_unknown",
            "root",
            "crypto",
            root=other.pin,
        )
    )
    training = Repository([IOM], training=True)
    found.append(
        registry_vector(
            "root-of-training",
            "training beside production",
            training,
            "registry_root_unknown",
            "root",
            "crypto",
            root=other.pin,
        )
    )
    for ident, change in (
        ("domain", put("x-umuhuza-domain", value="tn")),
        ("training", put("x-umuhuza-training", value=True)),
    ):
        made = Repository([IOM], holders=TWO, second=TWO, signed={"root2": change})
        found.append(
            registry_vector(
                f"rotated-{ident}", "a root stays of its domain", made, INVALID, "root[2].x-umuhuza-domain", "crypto"
            )
        )
    made = Repository([IOM], holders=TWO, second=TWO, signed={"root2": put("version", value=3)})
    found.append(registry_vector("root-gap", "the second is 2", made, INVALID, "root[2].version", "crypto"))
    return found


def _idle(root: Any) -> None:
    root["keys"][key_id("root-tn")] = holder("root-tn")


def _same_key_twice(root: Any) -> None:
    root["keys"] = {key_id("root-bi"): holder("root-bi"), "0" * 64: holder("root-bi") | {"x-umuhuza-holder": "second"}}
    for role in root["roles"].values():
        role["keyids"] = [key_id("root-bi"), "0" * 64]


def _both_ids(metadata: Any) -> None:
    metadata["signatures"] = [metadata["signatures"][0], metadata["signatures"][0] | {"keyid": "0" * 64}]


def _files() -> list[Vector]:
    """The one file around them."""
    table: tuple[tuple[str, str, Change], ...] = (
        ("spaced", "one spelling", lambda text: text.replace(",", ", ", 1)),
        ("lf", "nothing after it", lambda text: text + "\n"),
        ("twice", "one", lambda text: text + text),
        ("nothing", "an empty file", lambda text: ""),
        ("array", "an object", lambda text: f"[{text}]"),
        ("v-2", "a later format is not guessed at", lambda text: text.replace('{"v":1', '{"v":2', 1)),
        ("v-true", "true is not 1", lambda text: text.replace('{"v":1', '{"v":true', 1)),
        ("unknown", "no other members", lambda text: text[:-1] + f',"{PLANTED}":1}}'),
        ("duplicate", "two readers, two registries", lambda text: text[:-1] + ',"files":{}}'),
        ("no-files", "there are files", lambda text: '{"v":1,"files":[]}'),
        ("path-up", "no path leads elsewhere", lambda text: text.replace("metadata/1.root", "../metadata/1.root")),
        ("not-text", "texts", lambda text: text[:-2] + ',"targets/policy.json":{}}}'),
        ("old-format", "the registry of before", lambda text: "eyJhbGciOiJFUzI1NiJ9.e30.AA\n"),
    )
    found = [
        registry_vector(f"file-{ident}", why, Repository([IOM], packed=change), INVALID, "file", says=PLANTED)
        for ident, why, change in table
    ]
    unsorted = Repository([IOM], packed=_backwards)
    found.append(registry_vector("file-unsorted", "names in order", unsorted, INVALID, "file"))
    latin = Repository([IOM])
    text = latin.text()
    found.append(vector("registry-file-latin", "UTF-8", ["registry"], f"\xe9{text}", INVALID, "file", root=latin.pin))
    too_long = [["A", (8 << 20) + 1]]
    found.append(vector("registry-file-long", "at most 8 MiB", ["registry"], too_long, INVALID, "file", root=latin.pin))
    return found


def _backwards(text: str) -> str:
    files = json.loads(text)["files"]
    return compact({"v": 1, "files": dict(sorted(files.items(), reverse=True))})
