"""From nothing to the first sale at the desk: property, gateway, scan, rooms, first reading."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from headend.domain.roles import Role
from headend.domain.site_file import parse_site_file
from headend.services import sign_in
from headend.store import people
from protocols.catalog import load_meter_types
from simulators.serial_terminal import SerialTerminal
from simulators.tcp_slave import TcpLine
from tests.headend.house import line_of
from tests.headend.terminals.whole import SECRET
from tests.web.shop import PASSWORD, Browser, Shop, open_shop
from tests.web.test_vend import form_of, proved

HOUSE = "Hill House 山居"
AT = f"/setup/{quote(HOUSE)}"


@asynccontextmanager
async def new_wire(*units: str) -> AsyncIterator[TcpLine]:
    """A converter that nobody knows yet."""
    wire = line_of(*units)
    await wire.plug()
    try:
        yield wire
    finally:
        await wire.unplug()


async def founded(manager: Browser, wire: TcpLine, name: str = "cellar") -> None:
    await manager.post("/setup", name=HOUSE, buildings="A、B", zone="Asia/Shanghai")
    answer = await manager.post(
        f"{AT}/gateway", kind="tcp", name=name, host="127.0.0.1", port=str(wire.port)
    )
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == f"{AT}/meters?line={name}"


async def scanned(manager: Browser, line: str, last: int) -> str:
    return (await manager.get(f"{AT}/meters/{line}/live?first=1&last={last}")).text


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page))


async def test_from_nothing_to_the_first_sale(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, new_wire("ddsy:1-2") as wire:
        manager = await shop.browser(Role.MANAGER)
        await founded(manager, wire)
        page = await manager.get(f"{AT}/meters?line=cellar&first=1&last=3&scan=1")
        assert f"{quote(HOUSE)}/meters/cellar/live?first=1&amp;last=3" in page.text
        found = await scanned(manager, "cellar", 3)
        assert "3 of 3 unit ids asked, 2 answered" in found
        typed = hidden(found)
        assert typed["type-1"] == "acrel_ddsy1352"
        chosen = typed | {
            "line": "cellar", "use-1": "1", "name-1": "M-201", "room-1": "201", "building-1": "A",
            "floor-1": "2", "name-2": "M-202", "room-2": "202", "building-2": "A",
        }  # fmt: skip
        answer = await manager.post(f"{AT}/meters", **chosen)
        assert (answer.status_code, answer.headers["location"]) == (303, "/setup")
        lines = shop.services.lines
        async with asyncio.timeout(30):
            while "M-201" not in lines.meters:
                await asyncio.sleep(0.02)
        assert "M-202" not in lines.meters, "it was not ticked"
        assert "M1" in lines.meters, "the other property stands"
        assert "is in the property" in await scanned(manager, "cellar", 2)

        await manager.post(f"{AT}/read")
        async with asyncio.timeout(30):
            while "1 of 1 meters were read" not in (await manager.get("/setup")).text:
                await shop.services.sink.flush()
        assert "Enter a price" in (await manager.get("/setup")).text
        await price_of(shop, manager)
        where, after = await form_of(manager, "M-201")
        await manager.post(where, meter="M-201", amount="50", after=after)
        await proved(manager, where.replace("/new/", "/"))
        assert "Sales: 1" in (await manager.get("/setup")).text

        # The file that says it again is the same property, scan and hands left out.
        text = (await manager.get(f"{AT}/file")).text
        site = parse_site_file(text, "kept", load_meter_types())
        (meter,) = site.meters
        assert (site.name, meter.name, meter.room, meter.unit) == (HOUSE, "M-201", "201", 1)
        assert [(room.name, room.building, room.floor) for room in site.rooms] == [("201", "A", 2)]


async def price_of(shop: Shop, manager: Browser) -> None:
    """The step of the price: by two persons, whole or not at all, and in the meter."""
    for price, said in (("", "Enter the price"), ("0.12345", "four decimals"), ("99999", "")):
        wrong = await manager.post(f"{AT}/price", price=price)
        assert wrong.status_code == 422
        assert 'id="price-error"' in wrong.text
        assert said in wrong.text
    alone = await manager.post(f"{AT}/price", price="0.65")
    assert 'id="approver-error"' in alone.text
    async with shop.services.database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM tariff") == 0, "nothing of it stays"
        made = await people.add_operator(
            tx, "second", Role.MANAGER, at=shop.services.clock.now(), person="somebody else"
        )
        assert made is not None
        await sign_in.set_password(tx, made, PASSWORD, shop.services.clock, by=None)
    done = await manager.post(
        f"{AT}/price", price="0.65", approver="second", approver_password=PASSWORD
    )
    assert done.status_code == 303, done.text
    assert "0.6500" in (await manager.get(done.headers["location"])).text
    page = (await manager.get("/setup")).text
    assert "A price is published from here." in page
    async with shop.services.database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM tariff_push") == 1, "on its way to the meters"


async def test_a_cabinet_is_added_whole_with_its_rooms(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, new_wire("adf:1") as wire:
        manager = await shop.browser(Role.TECHNICIAN)
        await founded(manager, wire)
        typed = hidden(await scanned(manager, "cellar", 4))
        assert sorted(key for key in typed if key.startswith("type-")) == ["type-1"]
        chosen = typed | {
            "line": "cellar", "use-1": "1", "name-1": "CAB", "room-1": "301\n\n302",
            "building-1": "B", "floor-1": "3", "opens-1": "1",
        }  # fmt: skip
        answer = await manager.post(f"{AT}/meters", **chosen)
        assert answer.status_code == 303, answer.text
        async with asyncio.timeout(30):
            while "CAB-01" not in shop.services.lines.meters:
                await asyncio.sleep(0.02)
        meters = shop.services.lines.meters
        assert (meters["CAB-01"].known.room, meters["CAB-03"].known.room) == ("301", "302")
        assert meters["CAB-02"].known.room is None
        # What opens its relays was tried: it can be cut, and the file says so.
        assert "forced_open_state = 1" in (await manager.get(f"{AT}/file")).text


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_added(
    dsn: str, tmp_path: Path, language: str
) -> None:
    async with open_shop(dsn, tmp_path) as shop, new_wire("ddsy:1") as wire:
        manager = await shop.browser(Role.MANAGER, language)
        good = {"name": HOUSE, "buildings": "A", "zone": "Asia/Shanghai"}
        for wrong, beside in (
            ({"name": ""}, "name"), ({"name": "court"}, "name"), ({"name": "x" * 61}, "name"),
            ({"buildings": " ,、"}, "buildings"), ({"zone": "Asia/Nowhere"}, "zone"),
        ):  # fmt: skip
            answer = await manager.post("/setup", **(good | wrong))
            assert answer.status_code == 422
            assert f'id="{beside}-error"' in answer.text, wrong
        assert list(shop.services.lines.sites) == ["court"]
        await founded(manager, wire)

        box = {"kind": "tcp", "name": "roof", "host": "127.0.0.1", "port": "1"}
        for wrong, beside in (
            ({"kind": "pigeon"}, "kind"), ({"name": ""}, "name"), ({"name": "cellar"}, "name"),
            ({"host": ""}, "host"), ({"port": "70000"}, "port"), ({"port": "many"}, "port"),
            ({"port": str(wire.port)}, "host"), ({"baud": "9601"}, "baud"),
            ({"parity": "X"}, "parity"), ({"kind": "dtu"}, "registration"),
            ({"kind": "acrel_gateway", "registration": "D/01"}, "option"),
        ):  # fmt: skip
            answer = await manager.post(f"{AT}/gateway", **(box | {"baud": "9600"} | wrong))
            assert answer.status_code == 422, wrong
            assert f'id="{beside}-error"' in answer.text, (wrong, answer.text)
        # A name of another property is one too.
        answer = await manager.post(f"{AT}/gateway", **(box | {"name": "G1"}))
        assert 'role="alert"' in answer.text

        row = {"line": "cellar", "type-1": "acrel_ddsy1352", "use-1": "1", "name-1": "M9",
               "room-1": "9", "building-1": "A", "floor-1": "1"}  # fmt: skip
        for wrong, beside in (
            ({"use-1": ""}, "form"), ({"name-1": ""}, "name-1"), ({"floor-1": "up"}, "floor-1"),
            ({"building-1": ""}, "building-1"), ({"building-1": "Z"}, "form"),
            ({"type-1": "no_such"}, "form"), ({"line": "L1"}, "form"),
        ):  # fmt: skip
            answer = await manager.post(f"{AT}/meters", **(row | wrong))
            assert answer.status_code == 422, wrong
            said = 'role="alert"' if beside == "form" else f'id="{beside}-error"'
            assert said in answer.text, (wrong, answer.text)
        assert not any(m.known.site == HOUSE for m in shop.services.lines.meters.values())


async def test_a_recharge_terminal_on_a_serial_wire(dsn: str, tmp_path: Path) -> None:
    """Named at the desk with its device; with none it is waited for until it calls."""
    wire, secret = tmp_path / "ttyT1", tmp_path / "T1.secret"
    secret.write_bytes(SECRET)
    async with open_shop(dsn, tmp_path) as shop, new_wire("ddsy:1") as converter:
        box = SerialTerminal(
            wire, converter.line.bus, name="T1", secret=SECRET, now_s=time.time, meters={}
        )
        await box.plug()
        try:
            manager = await shop.browser(Role.MANAGER)
            await founded(manager, converter)
            typed = {"kind": "terminal", "option": f"file:{secret}"}
            for name, registration, device in (("kiosk", "T1", str(wire)), ("gate", "T2", "")):
                more = {"name": name, "registration": registration, "device": device}
                answer = await manager.post(f"{AT}/gateway", **(typed | more))
                assert answer.status_code == 303, answer.text
            lines = shop.services.lines.lines
            assert await lines["kiosk"].wait_up(30)
            assert "ttyT1" in (await manager.get(f"{AT}/file")).text
            assert not lines["gate"].line.is_up
        finally:
            await box.unplug()


async def test_only_who_may_see_all_properties_founds_one(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, new_wire("ddsy:1") as wire:
        manager = await shop.browser(Role.MANAGER)
        await founded(manager, wire)
        async with shop.services.database.transaction() as tx:
            court = shop.services.lines.sites["court"].site_id
            number = shop.numbers[Role.TECHNICIAN]
            await tx.execute("INSERT INTO operator_site VALUES (%s, %s)", number, court)
            await tx.execute("UPDATE operator SET all_sites = false WHERE operator_id = %s", number)
        technician = await shop.browser(Role.TECHNICIAN)
        page = (await technician.get("/setup")).text
        assert "court" in page
        assert HOUSE not in page
        assert (await technician.post("/setup", name="x", buildings="A")).status_code == 404
        for path in (f"{AT}/gateway", f"{AT}/meters", f"{AT}/file", f"{AT}/meters/cellar/live"):
            assert (await technician.get(path)).status_code == 404, path
        assert (await technician.get("/setup/court/meters/cellar/live")).status_code == 404
