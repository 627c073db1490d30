"""Water meters over a real socket: a night with their volume, a counter that fell, a valve."""

from __future__ import annotations

from pathlib import Path

from headend.domain.places import Gateway, GatewayKind, MeterPlace
from headend.store.database import Database
from simulators.cjt188_meter import Bus188, Unit188
from simulators.tcp_slave import TcpLine
from simulators.wire import WireTiming
from tests.headend.house import site_on, small_house

NUMBER = "00000019121301"


async def test_a_night_reads_the_volume_and_refuses_one_that_fell(
    database: Database, tmp_path: Path
) -> None:
    unit = Unit188(NUMBER, litres=4_567_890, has_valve=True, low_first=False)
    line = TcpLine(Bus188([unit]), timing=WireTiming(baud=1_000_000, turnaround_s=0.0))
    await line.plug()
    try:
        async with small_house(database, tmp_path) as house:
            meter = MeterPlace(
                name="W1", line="L1", meter_type="cjt188_water_valve", address=NUMBER
            )
            court = site_on(line.port, (meter,))
            assert court.gateways == (
                Gateway(name="G1", kind=GatewayKind.TCP, host="127.0.0.1", port=line.port),
            )
            await house.move_in(court)
            assert await house.book.lines["L1"].wait_up(30)
            assert await house.collect() == {"W1": "read"}
            await house.sink.flush()
            async with database.transaction() as tx:
                row = await tx.row("SELECT energy_wh, relay_closed_bits, extra FROM reading")
            assert row is not None
            assert (row[0], row[1]) == (None, 1)
            assert row[2]["volume_l"] == 4_567_890

            unit.litres = 1_000
            house.later(days=1)
            assert await house.collect() == {"W1": "implausible"}
    finally:
        await line.unplug()
