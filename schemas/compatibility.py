# SPDX-License-Identifier: Apache-2.0
"""Whether today's published schemas are a minor version of those that were released (`released/<version>/`).

A minor version only adds optional members (design; `schemas.events`, "Compatibility"). Then whatever was valid is valid
still, and a reader of the older minor, who leaves out what it does not know, reads everything that is written today.
So nothing may be removed, renamed, required, tightened or widened: a new code, too, would be refused by older readers.
Where older readers leave out whole entries, more of them may come: link ids of a questionnaire, optional resources of a
message, names in `withheld`.

Conservative: what cannot be judged is reported. Must never: read or write a file but its own released data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

RELEASED = "1.0"
"""The last released minor."""
_SAID_ONLY = frozenset(("$schema", "$id", "title", "description"))


def released() -> dict[str, dict[str, Any]]:
    """File name -> schema, of the last released minor."""
    folder = resources.files("schemas").joinpath("released", RELEASED)
    return {
        file.name: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda one: one.name)
        if file.name.endswith(".json")
    }


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths at which the newer schema is more than a minor version of the older one; () when it is one."""
    return tuple(dict.fromkeys(_object(old, new, "$", grows=False)))


def _is_minor(old: Any, new: Any) -> bool:
    """Whether it is a later minor of the same major version."""
    before, after = str(old).split("."), str(new).split(".")
    return before[0] == after[0] and int(before[1]) < int(after[1])


def _grows(path: str, schema: Mapping[str, Any]) -> bool:
    """Whether an older reader leaves out entries of this list that it does not know."""
    items = schema.get("items")
    asked = isinstance(items, dict) and "linkId" in items.get("properties", {})
    return asked or path.endswith((".properties.entry", ".properties.withheld"))


def _object(old: Mapping[str, Any], new: Mapping[str, Any], path: str, grows: bool) -> Iterator[str]:
    grows = grows or _grows(path, old)
    for key in (old.keys() | new.keys()) - _SAID_ONLY:
        at = f"{path}.{key}"
        if key not in old or key not in new:
            yield at
        elif old[key] == new[key] or path == "$.properties.schema" and key == "const" and _is_minor(old[key], new[key]):
            continue
        elif key in ("properties", "$defs"):
            yield from _members(old[key], new[key], at, grows)
        elif key == "required":
            if set(old[key]) != set(new[key]):
                yield at
        elif key == "maxItems" and grows:
            if new[key] < old[key]:
                yield at
        elif key == "enum" and grows:
            if not set(old[key]) <= set(new[key]):
                yield at
        elif key in ("allOf", "anyOf", "prefixItems"):
            yield from _each(old[key], new[key], at, grows)
        elif isinstance(old[key], dict) and isinstance(new[key], dict):
            yield from _object(old[key], new[key], at, grows and key in ("items", "contains"))
        else:
            yield at


def _members(old: Mapping[str, Any], new: Mapping[str, Any], path: str, grows: bool) -> Iterator[str]:
    """Each that was there is there and the same; new ones are optional, or `required` says otherwise."""
    for name, schema in old.items():
        if name not in new:
            yield f"{path}.{name}"
        else:
            yield from _object(schema, new[name], f"{path}.{name}", grows and name == "linkId")


def _each(old: list[Any], new: list[Any], path: str, grows: bool) -> Iterator[str]:
    """The same alternatives or conditions, in whichever order; more of them where older readers leave entries out."""
    left = [one for one in new if one not in old]
    for index, one in enumerate(old):
        if one in new:
            continue
        same = next((other for other in left if _about(one) is not None and _about(other) == _about(one)), None)
        if same is None:
            yield f"{path}[{index}]"
            continue
        left.remove(same)
        yield from _object(one, same, f"{path}[{index}]", grows=False)
    for one in left:
        if not grows or one.get("minContains", 0) > 0:
            yield path


def _about(schema: Mapping[str, Any]) -> Any:
    """What a condition is about: a link id, a resource; None where that cannot be told."""
    return schema.get("if", schema.get("contains"))
