"""A line that the site file changes while its box is connected: what was before says nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from headend.domain.places import Gateway, GatewayKind, LinePlace, Site
from headend.services.lines import LineAtWork
from headend.store.database import Database
from simulators.dtu import Dtu
from tests.headend.house import House
from tests.headend.money import test_roads as roads
from tests.headend.money.shop import PATIENCE_S, Shop


async def until_up(s: Shop) -> LineAtWork:
    at_work = s.house.book.lines["L1"]
    assert await at_work.wait_up(PATIENCE_S)
    return at_work


def slower(site: Site) -> Site:
    (line,) = (one for one in site.lines if one.name == "L1")
    others = tuple(one for one in site.lines if one.name != "L1")
    return replace(site, lines=(replace(line, baud=1200, reply_timeout_ms=350), *others))


async def test_a_changed_line_hangs_up_and_speaks_with_its_new_patience(
    database: Database, tmp_path: Path
) -> None:
    async with roads.dialled_shop(database, tmp_path, "ddp") as s:
        box, before = s.wire, await until_up(s)
        assert isinstance(box, Dtu)
        await s.house.move_in(slower(roads.site("ddp")))
        after = await until_up(s)
        assert after is not before
        assert not before.line.is_up
        assert after.line.timing.reply_timeout_s == 0.35
        assert after.line.timing.char_s > before.line.timing.char_s
        assert box.counts["sessions"] == 2
        assert await s.house.collect() == {"M1": "read"}
        assert before.line.snapshot().exchanges == 0


def with_a_second_line(site: Site) -> Site:
    """On a converter nobody listens at: its keeper is at work all the time."""
    gateway = Gateway(name="G0", kind=GatewayKind.TCP, host="127.0.0.1", port=1)
    line = LinePlace(name="L0", gateway="G0")
    return replace(site, gateways=(*site.gateways, gateway), lines=(*site.lines, line))


async def test_a_box_that_dials_into_the_middle_of_a_change_meets_no_line_of_before(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with roads.dialled_shop(database, tmp_path, "ddp") as s:
        box = s.wire
        assert isinstance(box, Dtu)
        await s.house.move_in(with_a_second_line(roads.site("ddp")))
        before = await until_up(s)
        may_go_on, close = asyncio.Event(), LineAtWork.close

        async def slow(self: LineAtWork) -> None:
            await close(self)
            if self.name == "L0":  # an adapter that takes its time to let go
                await may_go_on.wait()

        monkeypatch.setattr(LineAtWork, "close", slow)
        changed = slower(with_a_second_line(roads.site("ddp")))
        lines = tuple(replace(one, turnaround_ms=1) for one in changed.lines)
        moving = asyncio.create_task(s.house.move_in(replace(changed, lines=lines)))
        calls = box.counts["sessions"]
        async with asyncio.timeout(PATIENCE_S):
            while box.counts["sessions"] == calls or before.line.snapshot().link is not None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not before.line.is_up
        may_go_on.set()
        await moving
        after = await until_up(s)
        assert after is not before
        assert await s.house.collect() == {"M1": "read"}


async def hung_up(house: House, box: Dtu) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while house.book.dial_ins.sessions():
            await asyncio.sleep(0.01)


async def test_a_gateway_taken_out_is_hung_up_on(database: Database, tmp_path: Path) -> None:
    async with roads.dialled_shop(database, tmp_path, "four_faith") as s:
        assert isinstance(s.wire, Dtu)
        before = await until_up(s)
        without = roads.site("four_faith", known=False)
        await s.house.move_in(without)
        await hung_up(s.house, s.wire)
        assert not before.line.is_up
