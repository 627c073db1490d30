"""Nights and money with a prepaid DL/T 645 meter: from the order to the proof in its chip."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateways.key_box import SchemeHolder
from headend.domain.commands import Accepted, CommandKind, CommandState, Rejected, Why
from headend.domain.places import MeterPlace
from headend.services.decisions import Verdict
from headend.store.database import Database
from simulators.dlt645_meter import Bus645, Unit645, opened
from simulators.dlt645_purse import Purse
from simulators.metering import Forced
from simulators.tcp_slave import TcpLine
from simulators.wire import WireTiming
from tests.headend.house import site_on, small_house
from tests.headend.money.shop import PATIENCE_S, ScriptedBus, Shop, opened_shop
from tests.sim.helpers import HandClock
from tests.sim.helpers import meter as new_meter

S = CommandState
ADDRESS, NUMBER = "230615000007", "230615000001"
KEY = bytes(range(32))
PLACE = MeterPlace(name="M1", line="L1", meter_type="dlt645_prepaid_single_phase", address=ADDRESS)


def mac(key: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(key, message, hashlib.sha256).digest()


class SealsWrong(SchemeHolder):
    """Its sessions open; its purchases are sealed with another key until somebody mends it."""

    is_wrong = True

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        made = super().seal(meter_number, challenge, fields)
        return bytes(byte ^ self.is_wrong for byte in made)


def bus_of_one(key: bytes = KEY) -> Bus645:
    made = new_meter(HandClock(), number=NUMBER, credit_fen=10_000)
    return Bus645([Unit645(meter=made, address=ADDRESS, purse=Purse(key=key))])


@asynccontextmanager
async def chip_shop(
    database: Database, folder: Path, bus: Bus645, *, keys: bool = True
) -> AsyncIterator[Shop]:
    wire = TcpLine(bus, timing=WireTiming(baud=1_000_000, turnaround_s=0.0))
    await wire.plug()
    try:
        async with small_house(database, folder) as house:
            if keys:
                house.book._key_holder = SchemeHolder(mac(KEY))
            site = site_on(wire.port, (PLACE,))
            line = replace(site.lines[0], reply_timeout_ms=300, reply_late_ms_max=400)
            await house.move_in(replace(site, lines=(line,)))
            assert await house.book.lines["L1"].wait_up(PATIENCE_S)
            async with opened_shop(house, database, cast(ScriptedBus, bus), wire) as opened_:
                yield opened_
    finally:
        await wire.unplug()


def unit(bus: Bus645) -> Unit645:
    return bus.units[ADDRESS]


async def test_a_night_a_top_up_a_cut_and_a_restore(database: Database, tmp_path: Path) -> None:
    bus = bus_of_one()
    async with chip_shop(database, tmp_path, bus) as s:
        assert await s.house.collect() == {"M1": "read"}
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert [a.amount_fen for a in unit(bus).meter.applied] == [5_000]
        assert await s.books() == (5_000, 0, 0)
        assert len(await s.attempts(command.command_id)) == 1
        await s.reaches(await s.switched(CommandKind.CUT), S.CONFIRMED)
        assert not unit(bus).meter.look().relay_closed
        s.later(hours=1)  # a relay is not switched to and fro
        await s.reaches(await s.switched(CommandKind.RESTORE), S.CONFIRMED)
        assert unit(bus).meter.look().relay_closed
        assert unit(bus).meter.forced is Forced.RELEASED
        assert len(bus.writes()) == 3


@pytest.mark.parametrize("fate", ["lose", "mute"])
async def test_a_top_up_without_an_answer_is_looked_at_and_credited_once(
    database: Database, tmp_path: Path, fate: str
) -> None:
    bus = bus_of_one()
    async with chip_shop(database, tmp_path, bus) as s:
        met: list[bytes] = []

        def script(frame: bytes) -> str | None:
            said: Any = opened(frame)
            if said[1] == 0x03 and said[2][:4] == bytes.fromhex("FF020107") and not met:
                met.append(frame)
                return fate
            return None

        bus.script = script
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert met
        assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
        assert [a.amount_fen for a in unit(bus).meter.applied] == [5_000]
        assert unit(bus).purse is not None
        assert unit(bus).purse.repeats == 0  # type: ignore[union-attr]


async def test_a_chip_of_another_key_is_not_locked_by_us(
    database: Database, tmp_path: Path
) -> None:
    bus = bus_of_one(key=b"another key")
    async with chip_shop(database, tmp_path, bus) as s:
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.REFUSED)
        assert "two codes" in command.outcome
        purse = unit(bus).purse
        assert purse is not None
        assert purse.mac_failures <= 2
        assert not purse.is_locked
        assert unit(bus).meter.applied == []


async def test_wrong_codes_are_counted_over_sessions_orders_and_restarts(
    database: Database, tmp_path: Path
) -> None:
    bus, holder = bus_of_one(), SealsWrong(mac(KEY))
    purse = unit(bus).purse
    assert purse is not None
    async with chip_shop(database, tmp_path, bus) as s:

        async def restarted() -> None:
            if s.sender is not None:
                await s.kill_sender()
            meter = s.house.book.meters["M1"]
            meter.driver = meter.meter_type.new_driver({"key_holder": holder})
            await s.open_sender()

        await restarted()
        first = await s.sell(5_000)
        await s.reaches(first, S.REFUSED)
        assert purse.mac_failures == 1
        assert "wrong_code" in [e.new_state for e in await s.events(first)]
        await restarted()
        second = await s.sell(5_000)
        await s.reaches(second, S.ESCALATED)
        assert purse.mac_failures == 2
        await restarted()
        await s.pay(5_000)
        assert isinstance(refused := await s.order(5_000), Rejected)
        assert refused.why is Why.SALES_FROZEN
        async with database.transaction() as tx:
            said = Verdict(
                command_id=second,
                carried_out=False,
                operator_id=s.wang,
                approver_id=s.li,
                reason="seen on its display",
            )
            assert isinstance(await s.decisions.decide(tx, said), Accepted)
        await asyncio.sleep(1.5)  # the burn that gives the money back is held, too
        assert purse.mac_failures == 2
        holder.is_wrong = False
        async with database.transaction() as tx:
            await s.decisions.thaw(
                tx, s.ids["M1"], operator_id=s.wang, reason="key", count_agreed=0
            )
        s.later(minutes=10)
        burn = await s.follower(second, CommandKind.BURN)
        assert burn is not None
        await s.reaches(burn.command_id, S.CONFIRMED)
        await s.reaches(await s.sell(7_000), S.CONFIRMED)
        assert [a.amount_fen for a in unit(bus).meter.applied if a.amount_fen] == [7_000]
        assert purse.mac_failures == 0


async def test_without_keys_nothing_is_sold(database: Database, tmp_path: Path) -> None:
    async with chip_shop(database, tmp_path, bus_of_one(), keys=False) as s:
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.REFUSED, S.CONFIRMED)
        assert command.state is S.REFUSED
        assert "key holder" in command.outcome
