"""A DL/T 645 meter by somebody else: the server of the package dlt645, over real TCP."""

from __future__ import annotations

import socket

import pytest

from gateways.line import Line
from gateways.tcp_link import dial
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.catalog import load_meter_types
from protocols.meter_type import Address
from protocols.reading import Quantity as Q

server_of = pytest.importorskip("dlt645.service.serversvc.async_server_service")

ADDRESS = "230615000007"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# The package leaves iterators of its own open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_somebody_elses_meter_is_read() -> None:
    port = free_port()
    service = server_of.AsyncMeterServerService.new_tcp_server("127.0.0.1", port)
    service.set_address(bytes.fromhex(ADDRESS)[::-1])  # as it stands on the wire
    for di, kwh in ((0x00010000, 1234.56), (0x00010100, 34.56), (0x00010200, 200.0)):
        assert service.set_00(di, kwh)
    assert service.set_02(0x02010100, 230.5)
    assert service.set_02(0x02030000, 0.2512)
    assert await service.start()
    line = Line("L1", LineTiming.network(mobile=False, start_quiet_s=0.0))
    try:
        line.attach(await dial("127.0.0.1", port))
        driver = load_meter_types()["dlt645_single_phase"].new_driver({})
        at = Address(number=ADDRESS)
        values = await line.converse(
            at,
            driver.read(at, frozenset({Q.ENERGY, Q.ENERGY_PEAK, Q.VOLTAGE_L1, Q.POWER})),
            priority=Priority.NIGHTLY,
        )
        assert values[Q.ENERGY] == 1_234_560
        assert values[Q.VOLTAGE_L1] == 2305
        assert values[Q.POWER] == 251
    finally:
        line.detach("done")
        await service.stop()
