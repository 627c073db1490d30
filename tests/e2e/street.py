"""A street for the story: a DTU, a box of 36 circuits and a corner shop, and one clock over all.

Nothing is known of them when it begins: the walk commissions them in the browser. The clock is this
machine's, put ahead: a head-end and its meters share it, so that an afternoon is metered, a night
opens and a day is sealed without waiting for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import httpx
import pytest

from gateways import timing
from headend.app import HeadEnd, running
from headend.domain.roles import Role
from headend.services import alarm_watch, seals, sign_in
from headend.services.services import Services
from headend.settings import Settings
from headend.store import people
from headend.units.check_cards import AREA
from protocols.key_call import Purpose
from simulators import dtu as box
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.adf_cabinet import CabinetPlan, cabinet_units
from simulators.card_meter import CardReader
from simulators.dtu import Dtu, DtuPlan
from simulators.load import Load, Profile
from simulators.metering import Account, Meter
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming
from tests.headend.cards.counter import MeterAccount
from tests.headend.cards.desk import Desk, key_service
from tests.headend.house import QUICK, SHANGHAI
from tests.web.shop import PASSWORD

CIRCUITS = 36
SHOP_UNIT = CIRCUITS + 1
SHOP_NUMBER = "249900000101"
REGISTRATION = "STREET-DTU-01"
# A mobile network that is in a good mood: whoever watches the stages has time to see them.
LATENCY_S = 0.01
# The rooms whose tenants did not pay: in the box, the first of them.
POOR = 14
POOR_FEN, RICH_FEN = 300, 20_000
SHOP_FEN = 500
_EPOCH = datetime(2000, 1, 1, tzinfo=SHANGHAI)
_TUESDAY = 1


class StreetClock:
    """This machine's clock, put ahead to the next Tuesday at ten, and later ever further."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self.until(time(10))
        while self.local().weekday() != _TUESDAY:
            self.later(days=1)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def local(self) -> datetime:
        return self.now().astimezone(SHANGHAI)

    def now_ms(self) -> int:
        """As a meter's right local clock: milliseconds since 2000-01-01 00:00."""
        return (self.local() - _EPOCH) // timedelta(milliseconds=1)

    def later(self, **step: float) -> None:
        self._ahead += timedelta(**step)

    def until(self, wall: time) -> None:
        """On to the next time that the street's clocks show this."""
        there = datetime.combine(self.local().date(), wall, tzinfo=SHANGHAI)
        if there < self.local():
            there += timedelta(days=1)
        self._ahead += there - self.local()


@dataclass
class Street:
    """The head-end, the box of the street, what hangs on it, and the people."""

    head_end: HeadEnd
    http: httpx.AsyncClient
    clock: StreetClock
    dtu: Dtu
    rooms: list[Meter]
    shop: Meter
    tokens: dict[Role, str]
    roots: dict[Purpose, bytes]
    folder: Path
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return self.head_end.services

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.head_end.http_port}"

    def counter(self) -> Desk:
        """The counter whose reader a test may serve, and the slot in the shop's meter."""
        slot = CardReader(
            SHOP_NUMBER,
            AREA,
            self.roots[Purpose.RECHARGE],
            self.roots[Purpose.PARAMETERS],
            self.roots[Purpose.WRITE_BACK],
            account=MeterAccount(self.shop),  # type: ignore[arg-type]
            now_s=int(self.clock.now().timestamp()),
        )
        log = self.folder / "key-log"
        return Desk(self.head_end, self.http, self.tokens, slot, self.roots, log)

    def slow(self, latency_s: float) -> None:
        """How long each packet of the box is on its way."""
        self.dtu.plan = replace(self.dtu.plan, latency_s=latency_s)

    async def tick(self, site: str) -> None:
        """The look that the schedule takes every five minutes, and its end."""
        await self.services.nights.tick(site)
        await self.services.nights.finished(site)


def _meter(clock: StreetClock, unit: int, account: Account, fen: int, load: Load) -> Meter:
    return Meter(
        number=SHOP_NUMBER if unit == SHOP_UNIT else f"2499{unit:08d}",
        load=load,
        now_ms=clock.now_ms,
        account=account,
        credited_fen=fen,
        purchase_count=1,
        total_purchased_fen=fen,
    )


def _built(clock: StreetClock) -> tuple[Bus, list[Meter], Meter]:
    """What hangs on the line: the box at unit 1, the shop behind it."""
    rooms = [
        _meter(
            clock,
            unit,
            Account(),
            POOR_FEN if unit <= POOR else RICH_FEN,
            Load(seed=unit, peak_w=100),
        )
        for unit in range(1, CIRCUITS + 1)
    ]
    baker = Load(seed=7, profile=Profile.SHOP, peak_w=20_000)
    shop = _meter(clock, SHOP_UNIT, Account(), SHOP_FEN, baker)
    bus = Bus()
    plan = CabinetPlan(base_unit=1, single_phase_users=CIRCUITS)
    bus.add(dict(cabinet_units(plan, rooms, number="249900009999")))
    bus.add({SHOP_UNIT: acrel_unit(DDSY1352, shop, SHOP_UNIT)})
    return bus, rooms, shop


@asynccontextmanager
async def open_street(dsn: str, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Street]:
    """A head-end with nothing in it but its people; the box dials and is a stranger."""
    # What looks every minute looks every half second: the story has no minutes to wait.
    patch.setattr(alarm_watch, "WATCH_EVERY_S", 0.5)
    patch.setattr(seals, "CHAIN_EVERY_S", 0.5)
    # A mobile network that keeps answers back for seconds at most, and no half minutes.
    patch.setattr(timing, "MOBILE_REPLY_TIMEOUT_S", 1.5)
    patch.setattr(timing, "MOBILE_REPLY_LATE_S_MAX", 3.0)
    patch.setattr(box, "PACKING_GAP_S", 0.01)
    clock = StreetClock()
    bus, rooms, shop = _built(clock)
    sock = folder / "keys.sock"
    settings = Settings(
        data_folder=folder,
        database_url=dsn,
        http_port=0,
        dial_in_host="127.0.0.1",
        dial_in_port=0,
        mqtt_broker="off",
        key_service_socket=str(sock),
        card_area=AREA.decode(),
    )
    async with (
        key_service(folder, sock, patch) as roots,
        running(settings, clock=clock, pace=QUICK) as head_end,
    ):
        plan = DtuPlan(
            registration=REGISTRATION.encode(), latency_s=LATENCY_S, jitter_s=0.0, reconnect_s=0.1
        )
        port = head_end.services.lines.dial_ins.port
        wire = WireTiming(baud=1_000_000, turnaround_s=0.0)
        dtu = Dtu(bus, plan, host="127.0.0.1", port=port, timing=wire)
        await dtu.plug()
        try:
            url = f"http://127.0.0.1:{head_end.http_port}"
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
                tokens = await _hired(head_end.services)
                yield Street(head_end, http, clock, dtu, rooms, shop, tokens, roots, folder)
        finally:
            await dtu.unplug()


async def _hired(services: Services) -> dict[Role, str]:
    """Somebody of each role by its name, a second manager, and a token for each reader."""
    at, tokens = services.clock.now(), {}
    async with services.database.transaction() as tx:
        for name, role in [(role.value, role) for role in Role] + [("boss", Role.MANAGER)]:
            made = await people.add_operator(tx, name, role, at=at)
            assert made is not None
            assert await sign_in.set_password(tx, made, PASSWORD, services.clock, by=None) is None
            if name == role.value:
                tokens[role] = await people.add_token(
                    tx, made, "reader", at=at, expires_at=at + timedelta(days=9)
                )
    return tokens


async def until(holds: object, wait_s: float = 60.0) -> None:
    """Until this callable says yes."""
    assert callable(holds)
    async with asyncio.timeout(wait_s):
        while not holds():
            await asyncio.sleep(0.02)
