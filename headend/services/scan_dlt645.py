"""Finds DL/T 645 meters on a line: one alone at once, several by narrowing wildcard digits.

Only reads; polls and commands go on in between. A meter whose answer drowns every other one's at
the same digits hides them: scan again with that meter unplugged where the count does not fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateways.line import Line
from gateways.link import LinkDown
from gateways.turns import Priority
from headend.domain.toml_lines import toml_table
from protocols import dlt645 as wire
from protocols import dlt645_items as items
from protocols.catalog import load_meter_types
from protocols.dlt645_purse_driver import REMAINING_DI
from protocols.dlt645_search import Ear, Heard, narrower, question
from protocols.exchange import Answer, Conversation, ProtocolError, Reply, Silence, ask
from protocols.meter_type import Address

# A hundred questions a byte: a full street box takes some minutes, a line that is noise for ever.
SEARCH_S_MAX = 900.0
VOLTAGES_DI = 0x0201FF00
VOLTAGE_BYTES = 2  # of one phase; a meter of one phase sends FF or nothing for the others


async def scan_dlt645(
    line: Line, *, search_s_max: float = SEARCH_S_MAX
) -> AsyncIterator[dict[str, object]]:
    """One row for each question asked, and one for each meter found, with its table for a site
    file. A line that falls, or a search that takes too long, ends with a row that says so."""
    loop = asyncio.get_running_loop()
    ends_s, asked = loop.time() + search_s_max, 0
    met: set[str] = set()
    try:
        for old in (False, True):
            waiting = [wire.ANY_METER]
            while waiting:
                if loop.time() > ends_s:
                    left = f"not finished: {len(waiting)} groups of digits were not asked"
                    yield _row("", asked, detail=f"{left}; connect fewer meters and scan again")
                    return
                pattern = waiting.pop()
                heard = await _listen(line, pattern, old=old)
                asked += 1
                new = [address for address in heard.addresses if address not in met]
                for address in new:
                    met.add(address)
                    yield await _found(line, address, asked, old=old)
                if heard.is_crowded:
                    narrowed = list(narrower(pattern))
                    waiting += reversed(narrowed)
                    if not narrowed:
                        detail = "bytes came, but damaged: two meters of this address?"
                        yield _row(pattern, asked, detail=detail) | {"found": True}
                        continue
                if not new:
                    yield _row(pattern, asked)
    except LinkDown as error:
        yield _row("", asked, detail=str(error)) | {"stopped": True}


async def _listen(line: Line, pattern: str, *, old: bool) -> Heard:
    ear = Ear()
    request = question(pattern, old=old, ear=ear)

    def asking() -> Conversation[Answer]:
        return (yield from ask(request))

    party = f"whoever is {pattern}"  # nobody's silence: forgotten with the question
    try:
        await line.converse(party, asking(), priority=Priority.ASKED_NOW, read_tries=1)
    except Silence:
        pass  # the ear has no answer, ever
    finally:
        line.forget(party)
    return ear.heard(pattern, wire.READ_1997 if old else wire.READ)


async def _found(line: Line, address: str, asked: int, *, old: bool) -> dict[str, object]:
    """Who it is, as far as it tells; its type is a proposal."""
    at = Address(number=address)
    if old:
        name, number = "dlt645_1997", None
    else:
        try:
            name, number = await line.converse(
                at, _who(address), priority=Priority.ASKED_NOW, read_tries=1
            )
        except ProtocolError as error:
            return _row(address, asked, detail=f"answers, but not who it is: {error}") | {
                "found": True
            }
    where = "" if "://" in line.name else line.name
    table = {"name": f"M{address}", "line": where, "type": name, "address": address}
    return _row(address, asked) | {
        "found": True,
        "type": name,
        "title": load_meter_types()[name].title,
        "type_code": None,
        "meter_number": number,
        "fragment": toml_table("meters", table),
    }


def _who(address: str) -> Conversation[tuple[str, str | None]]:
    """The type to propose and the meter number. Every question is a read anybody may ask."""
    number = yield from ask(wire.read_item(address, items.METER_NUMBER_DI))
    volts = yield from ask(wire.read_item(address, VOLTAGES_DI))
    remaining = yield from ask(wire.read_item(address, REMAINING_DI))
    phases = "single" if _phases(volts) == 1 else "three"
    prepaid = "prepaid_" if isinstance(remaining, Reply) else ""
    told = number.payload[6:0:-1].hex() if isinstance(number, Reply) else ""
    return f"dlt645_{prepaid}{phases}_phase", told if told.isdecimal() else None


def _phases(volts: Answer) -> int:
    if not isinstance(volts, Reply):
        return 1
    data = volts.payload[1:]
    others = (
        data[at : at + VOLTAGE_BYTES] for at in range(VOLTAGE_BYTES, len(data), VOLTAGE_BYTES)
    )
    return 1 + sum(one not in (b"\xff\xff", b"\x00\x00") for one in others)


def _row(address: str, asked: int, *, detail: str = "") -> dict[str, object]:
    # `unit` as every scan has it; 0: such meters have none.
    return {"unit": 0, "address": address, "found": False, "asked": asked, "detail": detail}
