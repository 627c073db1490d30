"""A town's control socket: JSON lines on a Unix socket, for tests and the demo.

One request a line, one answer a line: {"do": "meter", "name": "M1-101"} and the like; see `_ACTS`.
An answer is {"ok": true, …} or {"ok": false, "error": "one sentence"}.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulators.cards import RfCard
from simulators.dtu import Dtu
from simulators.faults import fault_rates
from simulators.metering import W_MS_PER_WH, Meter
from simulators.mqtt_gateway import PassThroughGateway
from simulators.rf_terminal import RfTerminal, TerminalCard

if TYPE_CHECKING:
    from simulators.town import RunningLine, Town

SOCKET_PATH_BYTES_MAX = 107  # the kernel's limit for a Unix socket's name
LINE_BYTES_MAX = 65_536  # no request comes near; more is a mistake
UID_BYTES = 4  # of an RF card; its serial is this, filled up to eight
TAP_S_MAX, LOOK_S = 60.0, 0.05


class ControlError(Exception):
    """The request cannot be done; the text is one sentence."""


class Control:
    """Serves one town."""

    def __init__(self, town: Town, path: Path) -> None:
        self.path = path
        self._town = town
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        if len(str(self.path).encode()) > SOCKET_PATH_BYTES_MAX:
            raise OSError(f"the path {self.path} is too long for a socket; take a shorter folder")
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, str(self.path), limit=LINE_BYTES_MAX
        )

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a line too long, or the asker is gone: nobody is left to tell
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise ControlError("a request is a JSON object")
            act = _ACTS.get(asked.get("do", ""))
            if act is None:
                raise ControlError(f'"do" must be one of {", ".join(_ACTS)}')
            return {"ok": True, **await act(self._town, asked)}
        except (ControlError, ValueError, TypeError, KeyError, OSError) as error:
            return {"ok": False, "error": str(error)}


async def _meters(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    return {"meters": [*town.meters, *town.water], "lines": list(town.lines)}


async def _meter(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    if (water := town.water.get(str(asked.get("name", "")))) is not None:
        return {"volume_l": water.litres, "relay_closed": water.valve_open}
    return _witness(_meter_of(town, asked))


async def _card(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Somebody puts a purchase card into the meter: the next count, this amount."""
    meter = _meter_of(town, asked)
    meter.advance()
    meter.purchase(int(asked.get("amount_fen", 0)), meter.purchase_count + 1)
    return _witness(meter)


async def _fit_slot(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Build a card slot into a meter: {"name": …, "keys": the file with its maker's keys}."""
    meter = _meter_of(town, asked)
    town.slots.fit(asked["name"], meter, Path(str(asked.get("keys", ""))))
    return {}


async def _hold(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Hold a card to a meter's slot: {"name": …, "memory": its bytes in hex}."""
    _meter_of(town, asked).advance()
    return town.slots.hold(asked["name"], bytes.fromhex(str(asked.get("memory", ""))))


async def _set_clock(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Make a meter's clock wrong by so many seconds from a right one."""
    meter = _meter_of(town, asked)
    meter.set_clock(meter.now_ms() + int(asked.get("offset_s", 0)) * 1000)
    return {}


async def _unplug(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    await _line_of(town, asked).unplug()
    return {}


async def _plug(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    line = _line_of(town, asked)
    await line.unplug()
    await line.plug()
    return {}


async def _vanish(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    _dtu_of(town, asked).vanish()
    return {}


async def _drop(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    _dtu_of(town, asked).drop()
    return {}


async def _manners(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Change a box's bad manners: split, glue, park, park_s_mean, vanish, latency_s."""
    dtu = _dtu_of(town, asked)
    allowed = {"split", "glue", "park", "park_s_mean", "vanish", "latency_s", "jitter_s"}
    given = {key: float(value) for key, value in asked.items() if key in allowed}
    dtu.plan = replace(dtu.plan, **given)  # type: ignore[arg-type]
    return {}


async def _faults(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Set a line's fault rates; none given: calm."""
    name = str(asked.get("line", ""))
    if name not in town.faults:
        raise ControlError(f"no line is called {name!r}")
    rates = asked.get("rates", {})
    town.faults[name].rates = fault_rates({key: float(value) for key, value in rates.items()})
    return {"counts": dict(town.faults[name].counts)}


async def _access(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Somebody types its password into an MQTT gateway; back once it is connected."""
    line = _line_of(town, asked)
    if not isinstance(line, PassThroughGateway):
        raise ControlError(f"line {asked.get('line')!r} is not behind an MQTT gateway")
    await line.give_access(str(asked.get("password", "")))
    return {}


async def _tap(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    """Hold a card to a terminal until it is done: {"line": …, "serial": …, "memory": its bytes}.
    "buy_fen": so much out of the balance instead of what the card carries."""
    terminal = _line_of(town, asked)
    if not isinstance(terminal, RfTerminal):
        raise ControlError(f"line {asked.get('line')!r} has no terminal")
    serial, memory = str(asked.get("serial", "")), bytes.fromhex(str(asked.get("memory", "")))
    chip = RfCard(bytes.fromhex(serial)[:UID_BYTES])
    if len(memory) != len(chip.memory):
        raise ControlError(f"an RF card has {len(chip.memory)} bytes")
    chip.memory[:] = memory
    card = TerminalCard(serial, str(asked.get("meter_number", "")), 0, 0, chip=chip)
    told = len(terminal.screen)
    buy_fen = int(asked.get("buy_fen", 0))
    _ = terminal.buy(card, buy_fen) if buy_fen else terminal.tap(card)
    for _ in range(int(TAP_S_MAX / LOOK_S)):
        if terminal.is_at_rest:
            break
        await asyncio.sleep(LOOK_S)
    return {
        "screen": terminal.screen[told:],
        "verdict": terminal.verdict,
        "written_back": card.written_back,
        "memory": chip.memory.hex(),
    }


async def _report(town: Town, asked: dict[str, Any]) -> dict[str, Any]:
    return {"report": _line_of(town, asked).report.as_json()}


_ACTS: dict[str, Callable[[Town, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "list": _meters,
    "meter": _meter,
    "card": _card,
    "fit_slot": _fit_slot,
    "hold": _hold,
    "set_clock": _set_clock,
    "unplug": _unplug,
    "plug": _plug,
    "vanish": _vanish,
    "drop": _drop,
    "manners": _manners,
    "faults": _faults,
    "access": _access,
    "tap": _tap,
    "report": _report,
}


def _meter_of(town: Town, asked: dict[str, Any]) -> Meter:
    name = str(asked.get("name", ""))
    if name not in town.meters:
        raise ControlError(f"no meter is called {name!r}")
    return town.meters[name]


def _line_of(town: Town, asked: dict[str, Any]) -> RunningLine:
    name = str(asked.get("line", ""))
    if name not in town.lines:
        raise ControlError(f"no running line is called {name!r}")
    return town.lines[name]


def _dtu_of(town: Town, asked: dict[str, Any]) -> Dtu:
    line = _line_of(town, asked)
    if not isinstance(line, Dtu):
        raise ControlError(f"line {asked.get('line')!r} is not behind a DTU")
    return line


def _witness(meter: Meter) -> dict[str, Any]:
    """The meter's own true state, past everything a wire could spoil."""
    look = meter.look()
    return {
        "meter_number": look.meter_number,
        "energy_wh": look.total_w_ms // W_MS_PER_WH,
        "energy_by_rate_wh": [w_ms // W_MS_PER_WH for w_ms in look.energy_w_ms],
        "remaining_credit_fen": look.remaining_fen,
        "purchase_count": look.purchase_count,
        "total_purchased_fen": look.total_purchased_fen,
        "relay_closed": look.relay_closed,
        "forced": look.forced.value,
        "applied": [
            {"purchase_count": a.purchase_count, "amount_fen": a.amount_fen} for a in meter.applied
        ],
    }


async def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Ask a running town. Raises OSError when it is not there."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_BYTES_MAX)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        answer = await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()
    if not answer:
        raise OSError("the town hung up")
    parsed: dict[str, Any] = json.loads(answer)
    return parsed
