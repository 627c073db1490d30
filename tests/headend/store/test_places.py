"""Importing sites: all or nothing, again and again, and nothing a reading hangs on is lost."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from headend.domain.places import Gateway, GatewayKind
from headend.domain.site_file import parse_site_file
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from headend.store.nights import open_cells, open_night
from headend.store.places import (
    PLACES_CHANGED,
    Clash,
    Counts,
    KnownMeter,
    import_site,
    load_lines,
    load_meters,
    load_sites,
)
from headend.store.places_whole import load_whole_site
from protocols.catalog import load_meter_types
from tests.headend.store.places_for_tests import WINDOW, imported, meter, small_site

EXAMPLE = Path(__file__).parents[3] / "config" / "sites" / "example.toml"


async def meters_of(database: Database) -> dict[str, KnownMeter]:
    async with database.transaction() as tx:
        return {known.name: known for known in await load_meters(tx)}


async def test_what_was_imported_is_what_is_loaded(database: Database) -> None:
    site = small_site()
    await imported(database, site)
    async with database.transaction() as tx:
        (known_site,) = await load_sites(tx)
        (line,) = await load_lines(tx)
        first, second = await load_meters(tx)
    assert known_site.place == dataclasses.replace(
        site, buildings=(), rooms=(), gateways=(), lines=(), meters=()
    )
    assert (line.site, line.place, line.gateway) == (site.name, site.lines[0], site.gateways[0])
    assert (first.name, first.line, first.unit) == ("M1", "L1", 1)
    assert (first.building, first.room, first.meter_type) == ("A", "A-101", "acrel_ddsy1352")
    assert (second.room, dict(second.options)) == (None, {"variant": "60", "eight_rates": False})
    assert first.time_zone.key == "Asia/Shanghai"
    assert known_site.known_since.utcoffset() == timedelta(0)


async def test_the_example_is_loaded_as_the_whole_that_was_imported(database: Database) -> None:
    site = parse_site_file(EXAMPLE.read_text(encoding="utf-8"), "example", load_meter_types())
    await imported(database, site)
    async with database.transaction() as tx:
        (known,) = await load_sites(tx)
        assert await load_whole_site(tx, known) == site
    # Without its last meter: what is retired is not part of the whole.
    less = dataclasses.replace(site, meters=site.meters[:-1])
    await imported(database, less)
    async with database.transaction() as tx:
        assert await load_whole_site(tx, known) == less


async def test_importing_twice_changes_nothing(database: Database) -> None:
    first = await imported(database, small_site())
    assert first.kinds["meter"] == Counts(added=2, changed=0, retired=0, total=2)
    second = await imported(database, small_site())
    assert not second.changed_anything
    assert str(second) == "site North Court: 2 meters on 1 lines; nothing changed"


async def test_a_meter_that_vanished_is_retired_and_comes_back_as_the_same(
    database: Database,
) -> None:
    await imported(database, small_site())
    before = await meters_of(database)
    without = await imported(database, small_site(meters=(meter("M1", 1, room="A-101"),)))
    assert without.kinds["meter"] == Counts(added=0, changed=0, retired=1, total=1)
    assert set(await meters_of(database)) == {"M1"}
    await imported(database, small_site())
    assert await meters_of(database) == before


async def test_a_retired_meter_leaves_its_address_and_no_open_cell(database: Database) -> None:
    report = await imported(database, small_site())
    async with database.transaction() as tx:
        night_id = await open_night(tx, report.site_id, WINDOW)
    await imported(database, small_site(meters=(meter("M1", 1), meter("M3", 2))))
    meters = await meters_of(database)
    assert meters["M3"].unit == 2
    async with database.transaction() as tx:
        await open_night(tx, report.site_id, WINDOW)
        assert set(await open_cells(tx, night_id)) == {known.meter_id for known in meters.values()}
        cells = await tx.value("SELECT count(*) FROM night_cell WHERE night_id = %s", night_id)
    assert cells == 2


async def test_two_meters_may_swap_their_addresses(database: Database) -> None:
    await imported(database, small_site())
    before = await meters_of(database)
    report = await imported(database, small_site(meters=(meter("M1", 2), meter("M2", 1))))
    assert report.kinds["meter"].changed == 2
    after = await meters_of(database)
    assert (after["M1"].unit, after["M2"].unit) == (2, 1)
    assert after["M1"].meter_id == before["M1"].meter_id


async def test_the_database_itself_refuses_two_meters_at_one_address(database: Database) -> None:
    """The site file's check comes first; this holds when a program forgets it."""
    with pytest.raises(DatabaseRefused, match="two_live_meters_of_a_line_cannot_share_a_unit_id"):
        await imported(database, small_site(meters=(meter("M1", 7), meter("M2", 7))))
    assert not await meters_of(database)


@pytest.mark.parametrize(
    ("prefix", "device", "sentence"),
    [
        ("", "/dev/ttyUSB9", "gateway G1 of this file and a gateway of site North Court have the"),
        ("S-", "/dev/ttyUSB0", "have the same serial device, /dev/ttyUSB0; change one of them."),
    ],
)
async def test_what_belongs_to_another_site_is_a_clash(
    database: Database, prefix: str, device: str, sentence: str
) -> None:
    await imported(database, small_site())
    async with database.transaction() as tx:
        clash = await import_site(tx, small_site("South Court", prefix=prefix, device=device))
    assert isinstance(clash, Clash)
    assert sentence in str(clash)
    async with database.transaction() as tx:
        assert [site.name for site in await load_sites(tx)] == ["North Court"]


async def test_a_tcp_address_and_a_registration_belong_to_one_site(database: Database) -> None:
    tcp = Gateway(name="T", kind=GatewayKind.TCP, host="10.0.0.5", port=502)
    dtu = Gateway(name="D", kind=GatewayKind.DTU, registration="ascii:D1")
    await imported(
        database, dataclasses.replace(small_site(), gateways=(tcp, dtu), lines=(), meters=())
    )
    for other in (tcp, dtu):
        taken = dataclasses.replace(other, name="other")
        site = dataclasses.replace(
            small_site("South Court"), gateways=(taken,), lines=(), meters=()
        )
        async with database.transaction() as tx:
            clash = await import_site(tx, site)
        assert isinstance(clash, Clash)
        assert clash.value in {"10.0.0.5:502", "ascii:D1"}


async def test_an_import_is_told_to_who_listens(database: Database) -> None:
    told = database.listen(PLACES_CHANGED)
    assert await anext(told) == ""
    await imported(database, small_site())
    assert await anext(told) == "North Court"
    await told.aclose()
