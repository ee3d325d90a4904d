# SPDX-License-Identifier: Apache-2.0
"""`docs/verify/index.html`: the standalone verifier as one file that a browser opens from a disk.

Browsers load no module beside a page that was opened as a file, so the modules stand inside. The page's own policy lets
run exactly this script and nothing else, and lets nothing be fetched or sent.

Invariants: the script is `verify.mjs`, `words.mjs` and `source/page.mjs` as they stand in the folder, without the words
`import` and `export`; the same files give the same bytes. Must never: hold a byte that is not in those files.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from adapters.page_frame import COLOURS, FONTS

NAME = "verify/index.html"
_IMPORT = re.compile(r"^import \{[^}]*\} from \"[^\"]*\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_NAME = re.compile(r"^(?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)
_POLICY = "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"


def _module(path: Path) -> str:
    return _EXPORT.sub("", _IMPORT.sub("", path.read_text(encoding="utf-8")))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def text(folder: Path) -> str:
    """The page.

    Args:
        folder: `docs/verify`.

    Raises:
        ValueError: two modules call something by one name, or a script would end early.
    """
    sources = [_module(folder / name) for name in ("verify.mjs", "words.mjs", "source/page.mjs")]
    names = [
        name
        for source in sources
        for name in re.findall(r"^(?:async )?(?:const|let|function|class) (\w+)", source, re.M)
    ]
    script = "\n" + "\n".join(sources)
    if len(set(names)) != len(names) or "</script" in script or re.search(r"^(?:im|ex)port\b", script, re.M):
        raise ValueError("the modules do not fit into one script")
    style = COLOURS + FONTS + (folder / "source" / "page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    page = (folder / "source" / "page.html").read_text(encoding="utf-8")
    for place, filled in (("@policy@", policy), ("@style@", style), ("@script@", script)):
        page = page.replace(place, filled)
    return page
