"""Somebody else's slave: a line served by pymodbus's own server, RTU frames over TCP.

Framing, function codes and exceptions are pymodbus's; only the register values are ours, copied
from a metering meter on each read. Pinned to what pymodbus 3.16.1 offers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.modbus_meter import Unit
from simulators.rtu import READ_HOLDING, No
from simulators.wire import LineReport, WireTiming

# Energy, hardware word, meter number, live block, prepaid block (spec acrel.md 2.1 to 2.4).
_BLOCKS = ((0x0000, 10), (0x0022, 1), (0x0043, 3), (0x0200, 48), (0x0400, 25))


class OtherLine:
    """A line of DDSY1352 behind pymodbus's server. Read only.

    There are no wires: the time they would take is waited out before each answer.
    """

    def __init__(
        self,
        units: Mapping[int, Unit],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        timing: WireTiming | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.timing = timing or WireTiming()
        self.report = LineReport(self.timing.gap_s)
        self._units = dict(units)
        self._server: ModbusTcpServer | None = None

    async def plug(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = ModbusTcpServer(
            [_nobody(), *(self._device(number, unit) for number, unit in self._units.items())],
            framer=FramerType.RTU,
            address=(self.host, self.port),
            trace_packet=self._only_ours,
        )
        if not await self._server.listen():
            raise OSError(f"port {self.port} on {self.host} is taken")
        listener = cast(asyncio.Server, self._server.transport)
        self.port = listener.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    def _only_ours(self, sending: bool, data: bytes) -> bytes:
        """A real bus is silent for an address nobody has; pymodbus always answers something."""
        return data if not sending or data[0] in self._units else b""

    def _device(self, number: int, unit: Unit) -> SimDevice:
        async def act(  # noqa: PLR0917  pymodbus's signature
            function_code: int,
            start_address: int,
            address: int,
            count: int,
            registers: list[int],
            new_values: list[int] | list[bool] | None,
        ) -> ExcCodes | None:
            if function_code != READ_HOLDING or new_values is not None:
                return ExcCodes.ILLEGAL_FUNCTION
            data = unit.read_registers(address, count)
            if isinstance(data, No):
                return ExcCodes(int(data))
            at = address - start_address
            registers[at : at + count] = [
                int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)
            ]
            loop = asyncio.get_running_loop()
            start_s = loop.time()
            await asyncio.sleep(self._exchange_s(count))
            self.report.exchange(start_s, loop.time())
            return None

        return SimDevice(id=number, simdata=_blank_blocks(), action=act)

    def _exchange_s(self, words: int) -> float:
        """Wire time of request and answer, and the slave's own time."""
        return (8 + 5 + 2 * words) * self.timing.char_s + self.timing.turnaround_s


def _blank_blocks() -> list[SimData]:
    return [
        SimData(start, values=[0] * words, datatype=DataType.REGISTERS) for start, words in _BLOCKS
    ]


def _nobody() -> SimDevice:
    """Takes the requests for absent units: without it pymodbus logs each as an error of its own.
    Its answers never leave, see OtherLine._only_ours."""
    return SimDevice(id=0, simdata=_blank_blocks())
