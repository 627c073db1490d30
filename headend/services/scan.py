"""Finds meters on a line by asking. Only reads; polls and commands go on in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from gateways.line import Line
from gateways.link import LinkDown
from gateways.turns import Priority
from protocols.catalog import load_meter_types
from protocols.exchange import Conversation, Garbled, ProtocolError, Refused, Silence
from protocols.meter_type import Address, Identity, MeterType


async def scan(line: Line, units: Iterable[int]) -> AsyncIterator[dict[str, object]]:
    """One row for each unit id asked: `found`, and who it is.

    A silent unit costs one reply time-out; a line that falls ends the scan with a row that says so.
    """
    for unit in units:
        try:
            row = await ask_unit(line, unit)
        except LinkDown as error:
            yield {"unit": unit, "found": False, "stopped": True, "detail": str(error)}
            return
        yield row


async def ask_unit(line: Line, unit: int) -> dict[str, object]:
    """Who answers at this unit id: the first meter type that recognises itself."""
    heard: str | None = None
    for meter_type in _candidates():
        try:
            identity = await line.converse(
                Address(unit),
                _identify(meter_type, unit),
                priority=Priority.ASKED_NOW,
                read_tries=1,  # most units are empty: a second try would double the time
            )
        except Garbled:
            return _row(unit, found=True, detail="bytes came, but damaged: two meters at this id?")
        except Silence:
            if heard is None:
                return _row(unit, found=False)
            continue  # it answered another type's question, this one it does not know
        except Refused as error:
            heard = str(error)
        except ProtocolError as error:
            heard = str(error)
        else:
            if identity.type_code is None or identity.type_code in meter_type.type_codes:
                return _row(unit, found=True, meter_type=meter_type, identity=identity)
            heard = f"type code {identity.type_code}"
    return _row(unit, found=True, detail=f"answers, but no meter type knows it ({heard})")


def _identify(meter_type: MeterType, unit: int) -> Conversation[Identity]:
    return meter_type.new_driver({}).identify(Address(unit))


def _candidates() -> list[MeterType]:
    """One type for each way to recognise a meter: equal codes and phases ask the same question."""
    chosen: dict[tuple[frozenset[int], int], MeterType] = {}
    for meter_type in load_meter_types().values():
        if meter_type.type_codes:
            chosen.setdefault((meter_type.type_codes, meter_type.phases), meter_type)
    return list(chosen.values())


def _row(
    unit: int,
    *,
    found: bool,
    meter_type: MeterType | None = None,
    identity: Identity | None = None,
    detail: str = "",
) -> dict[str, object]:
    row: dict[str, object] = {"unit": unit, "found": found}
    if meter_type is not None:
        row |= {"type": meter_type.name, "title": meter_type.title}
    if identity is not None:
        row |= {"type_code": identity.type_code, "meter_number": identity.meter_number}
        detail = identity.note
    return row | {"detail": detail}
