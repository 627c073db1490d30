"""Nights and money over an Acrel gateway: two ports, one connection, one request at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from headend.domain.commands import CommandKind, CommandState
from headend.domain.site_file import parse_site_file
from headend.services.decisions import Decisions
from headend.services.orders import Orders
from headend.store.database import Database
from protocols.catalog import load_meter_types
from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.line_command import LineWish
from simulators.metering import Meter
from simulators.wire import WireTiming
from tests.headend.house import small_house
from tests.headend.money.shop import Fate, RunningClock, ScriptedBus, Shop, once

S = CommandState
SECRET = "0123456789abcdef"
SITE = """[site]
name = "court"
time_zone = "Asia/Shanghai"
[[buildings]]
name = "A"
[[gateways]]
name = "G1"
kind = "acrel_gateway"
registration = "310115D001/01"
heartbeat_s = 3600
options = {{ secret = "file:{secret}" }}
[[lines]]
name = "L1"
gateway = "G1"
port = 1
reply_timeout_ms = 800
reply_late_ms_max = 1000
[[lines]]
name = "L2"
gateway = "G1"
port = 2
reply_timeout_ms = 800
reply_late_ms_max = 1000
"""
METER = '[[meters]]\nname = "M{n}"\nline = "L{line}"\ntype = "acrel_ddsy1352"\nunit = {unit}\n'
# M3 answers at unit 1, as M1 does: another port.
METERS = ((1, 1, 1), (2, 1, 2), (3, 2, 1))


def bus_of(meters: str, seed: int) -> ScriptedBus:
    wish = LineWish.parse(
        meters=[meters],
        pty=None,
        tcp="127.0.0.1:0",
        baud=1_000_000,
        bits=10,
        turnaround_s=0.0,
        seed=seed,
        faults="{}",
    )
    return ScriptedBus(wish.bus())


@asynccontextmanager
async def gateway_shop(
    database: Database, folder: Path
) -> AsyncIterator[tuple[Shop, AcrelGateway, ScriptedBus]]:
    """A shop behind a gateway, its meters read in a first night; and the second port's bus."""
    secret = folder / "G1.secret"
    secret.write_text(SECRET + "\n")
    text = SITE.format(secret=secret)
    text += "".join(METER.format(n=n, line=line, unit=unit) for n, line, unit in METERS)
    buses = {1: bus_of("ddsy:1-2", 1), 2: bus_of("ddsy:1", 2)}
    async with small_house(database, folder) as house:
        await house.book.listen("127.0.0.1", 0, sockets_max=10)
        await house.move_in(parse_site_file(text, "court.toml", load_meter_types()))
        clock = RunningClock()
        gateway = AcrelGateway(
            buses,
            GatewayPlan(
                building="310115D001",
                number="01",
                secret=SECRET,
                heartbeat_s=3600.0,
                meter_patience_s=0.2,
                latency_s=0.0,
                jitter_s=0.0,
                reconnect_s=0.02,
            ),
            host="127.0.0.1",
            port=house.book.dial_in_port,
            now_ms=buses[1].units[1].meter.now_ms,
            timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
        )
        await gateway.plug()
        try:
            for line in house.book.lines.values():
                assert await line.wait_up(20)
            assert await house.collect() == {"M1": "read", "M2": "read", "M3": "read"}
            clock.later(minutes=1)
            shop = Shop(
                house,
                database,
                clock,
                buses[1],
                cast(Any, gateway),
                Orders(clock, load_meter_types()),
                Decisions(clock),
            )
            async with database.transaction() as tx:
                ((shop.li,),) = await tx.rows(
                    "INSERT INTO operator (name, person, role, all_sites, created_at)"
                    " VALUES ('li', 'Li', 'cashier', true, now()) RETURNING operator_id"
                )
            shop.ids = {name: m.known.meter_id for name, m in house.book.meters.items()}
            for bus in buses.values():
                bus.heard.clear()
                for unit in bus.units.values():
                    unit.meter.applied.clear()
            yield shop, gateway, buses[2]
            if shop.sender is not None:
                await shop.sender.stop()
        finally:
            await gateway.unplug()


def taken(meter: Meter) -> list[int]:
    return [entry.amount_fen for entry in meter.applied]


async def test_sold_cut_and_restored_on_both_ports(database: Database, tmp_path: Path) -> None:
    async with gateway_shop(database, tmp_path) as (s, gateway, second):
        await s.open_sender()
        sales = [await s.sell(5_000, 1), await s.sell(7_000, 3)]
        for command_id in sales:
            await s.reaches(command_id, S.CONFIRMED)
        assert (s.credited(), taken(second.units[1].meter)) == ([5_000], [7_000])
        assert await s.books(1) == (5_000, 0, 0)
        assert await s.books(3) == (7_000, 0, 0)
        for kind, closed in ((CommandKind.CUT, False), (CommandKind.RESTORE, True)):
            for number in (1, 3):
                await s.reaches(await s.switched(kind, number), S.CONFIRMED)
            for bus in (s.bus, second):
                assert bus.units[1].meter.look().relay_closed is closed
            s.later(minutes=11)  # a relay is not moved to and fro
        assert gateway.ports.counts["queued"] == 0, "one request at a time"


async def test_a_connection_lost_in_the_middle_of_a_top_up_ends_with_the_right_money(
    database: Database, tmp_path: Path
) -> None:
    async with gateway_shop(database, tmp_path) as (s, gateway, second):
        for fate, writes in ((Fate.MUTE, 1), (Fate.LOSE, 2)):
            script = once(fate, write=True)

            def cut_off(frame: bytes, script: Any = script) -> Fate | None:
                met = script(frame)
                if met is not None:
                    gateway.drop()
                return cast("Fate | None", met)

            second.script, second.heard = cut_off, []
            if s.sender is None:
                await s.open_sender()
            before = len(taken(second.units[1].meter))
            command = await s.reaches(await s.sell(5_000, 3), S.CONFIRMED)
            assert taken(second.units[1].meter)[before:] == [5_000], fate
            assert len(second.writes()) == writes, "sent again only after a look"
            assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
        assert await s.books(3) == (10_000, 0, 0)
        assert gateway.counts["sessions"] == 3
