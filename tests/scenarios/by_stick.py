# SPDX-License-Identifier: Apache-2.0
"""Agencies that exchange by stick, for scenarios: what `umuhuza agency export | import` do, in this process."""

from __future__ import annotations

from collections.abc import Callable

from adapters.stick import Stick, Took
from tests.scenarios.town import Agency, Town

CARRIER = "bi/police"
"""Has a network, and brings others' bundles to the gateway."""


def stick(town: Town, agency: str, step: Callable[[str], None] = lambda _name: None) -> Stick:
    return Stick(
        town[agency].runner.desk,
        gateway=town.domain.operator.id,
        registry_file=lambda: town.domain.registry_file,
        take_registry=lambda _data: None,
        step=step,
    )


def to_gateway(town: Town, agency: str) -> bytes:
    """What it exports; asks for all that is there for it."""
    return stick(town, agency).for_gateway(town[agency].runner.sender).data


def to_agency(town: Town, agency: str, reader: str) -> bytes:
    return stick(town, agency).for_agency(town[agency].runner.sender, reader).data


def carried(town: Town, bundle: bytes) -> bytes:
    """Through whoever has a network; the gateway's answer."""
    return town.run(town[CARRIER].log.exchange(bundle))


def taken(town: Town, agency: str, bundle: bytes) -> Took:
    member: Agency = town[agency]
    return town.run(stick(town, agency).take(bundle, member.runner.connectors))


def contact(town: Town, agency: str) -> Took:
    """A stick to the gateway and back."""
    return taken(town, agency, carried(town, to_gateway(town, agency)))
