"""Nights and money over boxes that dial in: from the order to the proof, over each dialect."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headend.domain.commands import CommandKind, CommandState
from headend.domain.places import Gateway, GatewayKind, LinePlace, Site
from headend.store.database import Database
from protocols.uplink import Upload
from simulators.acrel_4g import Acrel4g, Answers, Modem
from simulators.dialects import Ddp, FourFaith
from simulators.dtu import Dtu
from simulators.line_command import LineWish
from simulators.wire import WireTiming
from tests.e2e.roads import PHONE, PLAN, SERIAL
from tests.headend.house import ddsy, site_on, small_house
from tests.headend.money.shop import PATIENCE_S, Fate, ScriptedBus, Shop, opened_shop

S = CommandState
ROADS = ("4g", "ddp", "four_faith")


def gateway(road: str) -> Gateway:
    if road == "4g":
        return Gateway(name="G1", kind=GatewayKind.ACREL_4G, registration=SERIAL)
    return Gateway(
        name="G1",
        kind=GatewayKind.DTU,
        registration=f"ascii:{PHONE}",
        options={"dialect": road},
    )


def site(road: str, *, known: bool = True) -> Site:
    """The little court, its line behind a box that dials in."""
    court = site_on(1, (ddsy(1),))
    line = LinePlace(name="L1", gateway="G1", reply_timeout_ms=300, reply_late_ms_max=400)
    return replace(court, gateways=(gateway(road),), lines=(line,)) if known else court


def box_of(road: str, bus: ScriptedBus, port: int) -> Dtu:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "timing": WireTiming(baud=1_000_000, turnaround_s=0.0),
    }
    if road == "4g":
        modem = Modem(serial=SERIAL, answers=Answers.SERIAL_AFTER_WRITE)
        return Acrel4g(bus, modem, PLAN, upload_s=3600.0, **given)
    if road == "four_faith":
        return Dtu(bus, PLAN, new_speech=lambda: FourFaith(PHONE), **given)
    counts: Counter[str] = Counter()
    return Dtu(bus, PLAN, new_speech=lambda: Ddp(PHONE, counts), **given)


@asynccontextmanager
async def dialled_shop(
    database: Database, folder: Path, road: str, *, known: bool = True
) -> AsyncIterator[Shop]:
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
    async with small_house(database, folder) as house:
        await house.book.listen("127.0.0.1", 0, sockets_max=10)
        await house.move_in(site(road, known=known))
        box = box_of(road, bus, house.book.dial_in_port)
        await box.plug()
        try:
            if known:
                assert await house.book.lines["L1"].wait_up(PATIENCE_S)
            async with opened_shop(house, database, bus, box) as opened:
                yield opened
        finally:
            await box.unplug()


@pytest.mark.parametrize("road", ROADS)
async def test_a_night_a_top_up_a_cut_and_a_restore(
    road: str, database: Database, tmp_path: Path
) -> None:
    async with dialled_shop(database, tmp_path, road) as s:
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


@pytest.mark.parametrize("road", ROADS)
async def test_a_session_replaced_in_a_top_up_is_unknown_and_settled_by_a_look(
    road: str, database: Database, tmp_path: Path
) -> None:
    async with dialled_shop(database, tmp_path, road) as s:
        assert isinstance(s.wire, Dtu)
        box, written = s.wire, asyncio.Event()

        def vanish_at_the_write(frame: bytes) -> None:
            if frame[1] == 0x20 and not written.is_set():
                written.set()
                box.vanish()  # the meter does it; its answer goes with the radio

        s.bus.script = vanish_at_the_write
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert written.is_set()
        assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == 1, "looked at, never sent again"
        assert box.counts["sessions"] == 2


@pytest.mark.parametrize("road", ROADS)
async def test_both_sides_lose_their_power_in_a_top_up_and_the_money_is_right(
    road: str, database: Database, tmp_path: Path
) -> None:
    """The write is in the meter; box and program die before anybody has said so."""
    async with dialled_shop(database, tmp_path, road) as s:
        box, written = s.wire, asyncio.Event()
        assert isinstance(box, Dtu)

        def note_the_write(frame: bytes) -> Fate | None:
            if frame[1] != 0x20:
                return None
            written.set()
            return Fate.MUTE

        s.bus.script = note_the_write
        await s.open_sender()
        command_id = await s.sell(5_000)
        async with asyncio.timeout(PATIENCE_S):
            await written.wait()
        await box.unplug()
        await s.kill_sender()
        await box.plug()
        assert await s.house.book.lines["L1"].wait_up(PATIENCE_S)
        await s.open_sender()
        await s.reaches(command_id, S.CONFIRMED)
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == 1, "looked at, never sent again"
        assert await s.books() == (5_000, 0, 0)


async def test_an_adopted_4g_meter_is_read_and_its_pushes_are_handed_on(
    database: Database, tmp_path: Path
) -> None:
    async with dialled_shop(database, tmp_path, "4g", known=False) as s:
        book, box = s.house.book, s.wire
        assert isinstance(box, Acrel4g)
        uploads: list[tuple[str, Upload]] = []
        facts: list[tuple[str, Mapping[str, str | int]]] = []
        book.dial_ins.on_upload = lambda gateway, upload: uploads.append((gateway, upload))
        book.dial_ins.on_facts = lambda gateway, told: facts.append((gateway, told))
        async with asyncio.timeout(PATIENCE_S):
            while not book.strangers():
                await asyncio.sleep(0.01)
        (stranger,) = book.strangers()
        assert (stranger["dialect"], stranger["registration"]) == ("acrel_4g", SERIAL)
        await s.house.move_in(site("4g"))
        assert await book.lines["L1"].wait_up(PATIENCE_S)
        assert book.strangers() == []
        assert await s.house.collect() == {"M1": "read"}
        async with asyncio.timeout(PATIENCE_S):
            while not box.told_times or not facts:
                await asyncio.sleep(0.01)
            # Friday, ten in the morning in Shanghai: the house's clock says two by UTC.
            assert box.told_times[0] == bytes((26, 3, 20, 5, 10, 0, 0))
            box.push()
            while not uploads:
                await asyncio.sleep(0.01)
        assert facts[0][0] == uploads[0][0] == "G1"
        (session,) = book.dial_ins.sessions()
        assert (session["gateway"], session["dialect"], session["uploads"]) == ("G1", "acrel_4g", 1)
        assert session["unrecognised"] == book.dial_ins.turned_away == 0
        assert uploads[0][1].unit == 1
