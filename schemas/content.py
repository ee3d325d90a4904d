# SPDX-License-Identifier: Apache-2.0
"""The shape of a record's content, per event type: what the gate asks of the parsed JSON before anything else does.

Invariants: closed: a member that is not named here is refused; the JSON Schemas are published from these very shapes
(`schemas.publish`).
Must never: put a value into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schemas import plain
from schemas.claims import AgreementClaim, Claims, SafeguardClaim, has_safeguards
from schemas.elements import TABLES
from schemas.event_types import EVENTS, PURPOSES
from schemas.forms import Authorisation, Receipt
from schemas.message_gate import CONTENT, IDENTITY
from schemas.minimise import KNOWN_PATHS
from schemas.plain.transfer import TransferRequested
from schemas.shape import Code, Const, Given, List, Moment, Object, Shape, closed, of_model


def _claims_shape(event: str) -> Shape:
    if event not in PURPOSES:
        return Const(None)
    transfer = plain.PLAIN.get(event) is TransferRequested
    said: dict[str, Shape] = {
        "purpose": Const(PURPOSES[event]),
        "recipient": Given("to"),
        "safeguards": of_model(SafeguardClaim) if has_safeguards(event) else Const(None),
        **({"agreement": of_model(AgreementClaim)} if transfer else {}),
    }
    held: dict[str, Shape] = {} if transfer else {"authorisations": List(of_model(Authorisation), 1, 8)}
    return Object({**of_model(Claims).required, **said}, held)


def _receipt_shape(rejected: bool) -> Object:
    whole = of_model(Receipt)
    members = {**whole.required, **whole.optional}
    code, path = members.pop("code"), members.pop("path")
    opened = members.pop("opened")
    if not rejected:
        return Object(members, {"opened": opened})
    # Present means said: null is not an answer.
    return Object({**members, "code": _not_null(code)}, {"opened": opened, "path": _not_null(path)})


def _not_null(shape: Shape) -> Shape:
    inner: Shape = getattr(shape, "shape", shape)
    return inner


def _payload_shape(event: str) -> Shape:
    if event in CONTENT:
        return CONTENT[event]
    if event in plain.PLAIN:
        return plain.content_shape(event, claims=event in PURPOSES)
    if event.startswith("receipt."):
        return _receipt_shape(rejected=event == "receipt.rejected")
    return closed()


SHAPES: Mapping[str, Object] = MappingProxyType(
    {
        event.name: closed(
            type=Const(event.name),
            schema=Const(event.schema),
            occurred_at=Moment(),
            recorded_at=Moment(),
            claims=_claims_shape(event.name),
            payload=_payload_shape(event.name),
            withheld=List(Code(KNOWN_PATHS), 0, len(KNOWN_PATHS) if event.name in TABLES else 0),
        )
        for event in EVENTS.values()
    }
)
"""What `content` must be, per event type."""
NAMED: Mapping[str, Shape] = MappingProxyType(
    {
        **IDENTITY,
        **{
            event: shape
            for event in EVENTS
            if event in plain.PLAIN and (shape := plain.identity_shape(event, claims=event in PURPOSES)) is not None
        },
    }
)
"""What the identity part must be, where somebody may be named."""
