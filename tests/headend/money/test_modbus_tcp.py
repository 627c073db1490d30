"""Nights and money over Modbus TCP: from the order to the proof."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from headend.domain.commands import CommandKind, CommandState
from headend.domain.places import Gateway, GatewayKind, LinePlace, Site
from headend.store.database import Database
from simulators.line_command import LineWish
from simulators.modbus_tcp import ModbusTcpLine
from tests.headend.house import ddsy, site_on, small_house
from tests.headend.money.shop import PATIENCE_S, ScriptedBus, Shop, opened_shop

S = CommandState


def site(port: int) -> Site:
    """The little court, its line behind a box with an Ethernet port."""
    gateway = Gateway(name="G1", kind=GatewayKind.MODBUS_TCP, host="127.0.0.1", port=port)
    line = LinePlace(name="L1", gateway="G1", reply_timeout_ms=300, reply_late_ms_max=400)
    return replace(site_on(1, (ddsy(1),)), gateways=(gateway,), lines=(line,))


@asynccontextmanager
async def ethernet_shop(database: Database, folder: Path) -> AsyncIterator[Shop]:
    wish = LineWish.parse(
        meters=["ddsy:1"],
        pty=None,
        tcp="127.0.0.1:0",
        baud=1_000_000,
        bits=10,
        turnaround_s=0.0,
        seed=1,
        faults="{}",
    )
    bus = ScriptedBus(wish.bus())
    wire = ModbusTcpLine(bus, timing=wish.timing)
    await wire.plug()
    try:
        async with small_house(database, folder) as house:
            await house.move_in(site(wire.port))
            assert await house.book.lines["L1"].wait_up(PATIENCE_S)
            async with opened_shop(house, database, bus, wire) as opened:
                yield opened
    finally:
        await wire.unplug()


async def test_a_night_a_top_up_a_cut_and_a_restore(database: Database, tmp_path: Path) -> None:
    async with ethernet_shop(database, tmp_path) as s:
        assert await s.house.collect() == {"M1": "read"}
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert s.credited() == [5_000]
        assert await s.books() == (5_000, 0, 0)
        assert len(await s.attempts(command.command_id)) == 1
        await s.reaches(await s.switched(CommandKind.CUT), S.CONFIRMED)
        assert not s.meter().look().relay_closed
        s.later(hours=1)  # a relay is not switched to and fro
        await s.restored()
        assert s.meter().look().relay_closed
        assert len(s.bus.writes()) == 4, "each once: money, open, close, let go"


async def test_a_box_that_hangs_up_in_a_top_up_is_looked_at_and_never_written_again(
    database: Database, tmp_path: Path
) -> None:
    async with ethernet_shop(database, tmp_path) as s:
        wire = s.wire
        hung_up: list[bytes] = []
        assert isinstance(wire, ModbusTcpLine)

        def hang_up_at_the_write(frame: bytes) -> None:
            if frame[1] == 0x20 and not hung_up:
                hung_up.append(frame)
                wire.drop()  # the meter does it; nobody hears its answer

        s.bus.script = hang_up_at_the_write
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert hung_up
        assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == 1, "looked at, never sent again"
