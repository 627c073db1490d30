"""Finds meters on a line by asking. Only reads; polls and commands go on in between."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from gateways.line import Line
from gateways.link import LinkDown
from gateways.turns import Priority
from headend.domain.toml_lines import toml_table
from protocols.acrel_cabinet import (
    BASE_UNIT_MAX,
    BadCabinet,
    CabinetFacts,
    Circuit,
    base_unit,
    circuits,
    read_cabinet,
)
from protocols.catalog import load_meter_types
from protocols.exchange import Conversation, Garbled, ProtocolError, Refused, Silence
from protocols.meter_type import Address, Identity, MeterType

# A circuit's meter type, and the cabinet it lies in.
_CIRCUIT = re.compile("(.+)_(?:ct|3p|1p)")


async def scan(line: Line, units: Iterable[int]) -> AsyncIterator[dict[str, object]]:
    """One row for each unit id asked: `found`, and who it is.

    A silent unit costs one reply time-out; a line that falls ends the scan with a row that says so.
    """
    mapped: set[int] = set()  # unit ids of cabinets that were proposed already
    for unit in units:
        try:
            row = await ask_unit(line, unit)
            type_name = str(row.get("type", ""))
            if unit not in mapped and (family := _CIRCUIT.fullmatch(type_name)):
                proposed = await propose_cabinet(line, unit, family[1])
                if proposed is not None:
                    mapped |= proposed.units
                    row |= {"cabinet": proposed.facts, "fragment": proposed.fragment}
        except LinkDown as error:
            yield {"unit": unit, "found": False, "stopped": True, "detail": str(error)}
            return
        yield row


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedCabinet:
    """A cabinet as its own registers tell it; `fragment` is ready to paste into a site file."""

    units: frozenset[int]  # every unit id its users take
    facts: dict[str, object]
    fragment: str


async def propose_cabinet(line: Line, unit: int, cabinet_type: str) -> ProposedCabinet | None:
    """The address map of the cabinet in which this unit lies, from registers 0903, 0904, 0962 and
    090F of its base (spec acrel.md 2.9). None when no base tells a map that holds the unit.

    Raises LinkDown.
    """
    asked: dict[int, CabinetFacts | None] = {}
    for size in sorted(BASE_UNIT_MAX, reverse=True):
        base = base_unit(unit, size)
        if base not in asked:
            asked[base] = await _ask_cabinet(line, base)
        facts = asked[base]
        if facts is None or facts.size != size:
            continue
        users = (facts.ct_users, facts.three_phase_users, facts.single_phase_users)
        try:
            found = circuits(base, size, *users)
        except BadCabinet:
            continue
        taken = {one.unit + step for one in found for step in range(one.kind.units)}
        if unit in taken:
            return _proposed(
                line.name,
                base=base,
                size=size,
                cabinet_type=cabinet_type,
                facts=facts,
                found=found,
                taken=taken,
            )
    return None


async def _ask_cabinet(line: Line, base: int) -> CabinetFacts | None:
    try:
        return await line.converse(
            Address(base), read_cabinet(Address(base)), priority=Priority.ASKED_NOW, read_tries=1
        )
    except ProtocolError:
        return None


def _proposed(
    line: str,
    *,
    base: int,
    size: int,
    cabinet_type: str,
    facts: CabinetFacts,
    found: Sequence[Circuit],
    taken: set[int],
) -> ProposedCabinet:
    told: dict[str, object] = {
        "base_unit": base,
        "size": size,
        "ct_users": facts.ct_users,
        "three_phase_users": facts.three_phase_users,
        "single_phase_users": facts.single_phase_users,
    }
    head = {"name": f"CAB{base}", "line": "" if "://" in line else line, "type": cabinet_type}
    numbered = f"  # its number: {facts.meter_number}" if facts.meter_number else ""
    return ProposedCabinet(
        units=frozenset(taken),
        facts=told
        | {
            "type": cabinet_type,
            "meter_number": facts.meter_number,
            "units": sorted(taken),  # a three-phase user answers at three
            "circuits": [
                {"number": one.number, "kind": one.kind.value, "unit": one.unit} for one in found
            ],
        },
        fragment=toml_table("cabinets", head | told).replace("]]\n", f"]]{numbered}\n", 1)
        + f"# rooms = [ … up to {len(found)}, in the order of the circuits ]\n",
    )


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
