"""Small sites for the store's tests: real domain values, no file."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from headend.domain.nights import NightWindow
from headend.domain.places import (
    Building,
    Gateway,
    GatewayKind,
    LinePlace,
    MeterPlace,
    Room,
    Site,
)
from headend.store.database import Database
from headend.store.places import ImportReport, import_site
from protocols.reading import Origin, Quantity, Reading

# The night of 20 March in Shanghai: 23:55 there is 15:55 UTC, 06:00 is 22:00.
WINDOW = NightWindow(
    night=datetime(2026, 3, 20, tzinfo=UTC).date(),
    opens_at=datetime(2026, 3, 20, 15, 55, tzinfo=UTC),
    closes_at=datetime(2026, 3, 20, 22, 0, tzinfo=UTC),
)


def meter(name: str, unit: int, line: str = "L1", **more: object) -> MeterPlace:
    return MeterPlace(name=name, line=line, meter_type="acrel_ddsy1352", unit=unit, **more)  # type: ignore[arg-type]


def small_site(
    name: str = "North Court",
    *,
    prefix: str = "",
    meters: tuple[MeterPlace, ...] | None = None,
    device: str = "/dev/ttyUSB0",
) -> Site:
    """One building, two rooms, one serial line L1, meters M1 and M2 at 1 and 2."""
    line = f"{prefix}L1"
    return Site(
        name=name,
        time_zone=ZoneInfo("Asia/Shanghai"),
        night_opens=time(23, 55),
        night_closes=time(6, 0),
        buildings=(Building(name="A"),),
        rooms=(Room(name="A-101", building="A", floor=1), Room(name="A-102", building="A")),
        gateways=(Gateway(name=f"{prefix}G1", kind=GatewayKind.SERIAL, device=device),),
        lines=(LinePlace(name=line, gateway=f"{prefix}G1"),),
        cabinets=(),
        meters=meters
        if meters is not None
        else (
            meter(f"{prefix}M1", 1, line, room="A-101"),
            meter(f"{prefix}M2", 2, line, options={"variant": "60", "eight_rates": False}),
        ),
    )


async def imported(database: Database, site: Site) -> ImportReport:
    async with database.transaction() as tx:
        report = await import_site(tx, site)
    assert isinstance(report, ImportReport), report
    return report


def reading(
    meter_id: int, at: datetime, energy_wh: int | None = 1000, origin: Origin = Origin.POLLED
) -> Reading:
    values = {} if energy_wh is None else {Quantity.ENERGY: energy_wh}
    return Reading(
        meter_id=meter_id,
        at=at,
        received_at=at,
        origin=origin,
        values=values | {Quantity.VOLTAGE_L1: 2301},
    )
