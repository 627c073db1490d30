"""A month of a small property, made by chance: what happened is kept beside it, for arithmetics."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from headend.domain.ledger import Operation
from headend.domain.nights import GapReason, NightWindow
from headend.domain.places import Building, Room
from headend.domain.roles import Role
from headend.store import accounts, ledger, nights, people, sales
from headend.store.database import Database, Transaction
from headend.store.nights import Gap, Look
from headend.store.places import site_id
from protocols.reading import Origin, Quantity, Reading
from tests.headend.store.places_for_tests import imported, meter, small_site

SHANGHAI = ZoneInfo("Asia/Shanghai")
FIRST = date(2026, 3, 1)
DAYS = 31
ROOMS = {"M1": "A", "M2": "A", "M3": "B", "M4": None}
CASHIERS = ("li", "zhao")


@dataclass
class Month:
    """The database, and what a clerk with a pencil would have written down."""

    database: Database
    sites: dict[str, int] = field(default_factory=dict)
    meters: dict[str, int] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    #: (site, day, building, meter, operator, what) → fen
    money: Counter[tuple[str, date, str | None, str, str, str]] = field(default_factory=Counter)
    #: (site, day, building, meter) → Wh
    used: Counter[tuple[str, date, str | None, str]] = field(default_factory=Counter)

    def fen(self, what: str, **where: object) -> int:
        """The pencil's sum."""
        names = ("site", "day", "building", "meter", "operator", "what")
        wanted = where | {"what": what}
        return sum(
            fen
            for key, fen in self.money.items()
            if all(dict(zip(names, key, strict=True))[name] == v for name, v in wanted.items())
        )

    def wh(self, **where: object) -> int:
        names = ("site", "day", "building", "meter")
        return sum(
            wh
            for key, wh in self.used.items()
            if all(dict(zip(names, key, strict=True))[name] == v for name, v in where.items())
        )


async def month(database: Database, seed: int = 1) -> Month:
    """Two properties; the first has a master meter over all its circuits."""
    chance = random.Random(seed)
    made = Month(database)
    for name, prefix in (("North Court", ""), ("South Court", "S")):
        # The master stands last in the file: circuits name it before it is known.
        meters = tuple(
            meter(
                f"{prefix}{one}",
                unit,
                f"{prefix}L1",
                room=None if building is None else f"{building}-10{unit}",
                master=f"{prefix}MASTER",
            )
            for unit, (one, building) in enumerate(ROOMS.items(), start=1)
        )
        site = replace(
            small_site(name, prefix=prefix, meters=(), device=f"/dev/tty{prefix or 'N'}"),
            buildings=(Building(name="A"), Building(name="B")),
            rooms=tuple(
                Room(name=f"{building}-10{unit}", building=building, floor=1)
                for unit, building in enumerate(ROOMS.values(), start=1)
                if building is not None
            ),
            meters=(*meters, meter(f"{prefix}MASTER", 9, f"{prefix}L1")),
        )
        await imported(database, site)
    async with database.transaction() as tx:
        for name in ("North Court", "South Court"):
            found = await site_id(tx, name)
            assert found is not None
            made.sites[name] = found
        for number, name in await tx.rows("SELECT meter_id, name FROM meter"):
            made.meters[name] = number
        for name, role in (*((c, Role.CASHIER) for c in CASHIERS), ("wang", Role.MANAGER)):
            added = await people.add_operator(tx, name, role, at=_at(FIRST, 0))
            assert added is not None
            made.operators[name] = added.operator_id
        await _nights(tx, made, chance)
        await _money(tx, made, chance)
    return made


def _at(day: date, minute: int) -> datetime:
    return datetime.combine(day, time(), tzinfo=SHANGHAI).astimezone(UTC) + timedelta(
        minutes=minute
    )


def _places(made: Month) -> list[tuple[str, str, str | None, str]]:
    return [
        (site, prefix + name, building, prefix)
        for site, prefix in (("North Court", ""), ("South Court", "S"))
        for name, building in ROOMS.items()
    ]


async def _nights(tx: Transaction, made: Month, chance: random.Random) -> None:
    """A reading for each meter and night but some; the master counts 3 % more than its circuits."""
    shown = dict.fromkeys((name for _, name, _, _ in _places(made)), 1_000_000)
    owed: Counter[str] = Counter()
    counted = {"MASTER": 9_000_000, "SMASTER": 9_000_000}
    for night in (FIRST - timedelta(days=1) + timedelta(days=n) for n in range(DAYS + 1)):
        looks, gaps = [], []
        for site in made.sites:
            window = NightWindow(night=night, opens_at=_at(night, 1435), closes_at=_at(night, 1800))
            number = await nights.open_night(tx, made.sites[site], window)
            at = _at(night, 1440)
            prefix = "S" if site == "South Court" else ""
            for place, name, building, _ in _places(made):
                if place != site:
                    continue
                wh = chance.randrange(0, 9_000)
                shown[name] += wh
                counted[prefix + "MASTER"] += wh + wh * 3 // 100
                owed[name] += wh
                ends = night in (FIRST - timedelta(days=1), FIRST + timedelta(days=DAYS - 1))
                if not ends and chance.random() < 0.1:
                    gaps.append(
                        Gap(
                            night_id=number,
                            meter_id=made.meters[name],
                            reason=GapReason.METER_SILENT,
                            detail="",
                            at=at,
                        )
                    )
                    continue
                if night >= FIRST:
                    made.used[site, night, building, name] += owed[name]
                owed[name] = 0
                looks.append(_look(made.meters[name], at, shown[name]))
            looks.append(_look(made.meters[prefix + "MASTER"], at, counted[prefix + "MASTER"]))
        await nights.save(tx, looks, gaps)
        for site in made.sites:
            await nights.close_nights(tx, made.sites[site], _at(night, 1801))


def _look(meter_id: int, at: datetime, wh: int) -> Look:
    values = {
        Quantity.ENERGY: wh,
        Quantity.ENERGY_FLAT: wh // 2,
        Quantity.ENERGY_PEAK: wh - wh // 2,
    }
    return Look(
        reading=Reading(
            meter_id=meter_id, at=at, received_at=at, origin=Origin.POLLED, values=values
        )
    )


async def _money(tx: Transaction, made: Month, chance: random.Random) -> None:
    """Sales that land, sales that do not, refunds and corrections, also in the first minutes and
    the last of a day."""
    counts: Counter[str] = Counter()
    for day in (FIRST + timedelta(days=n) for n in range(DAYS)):
        for minute in sorted(chance.sample(range(1440), 6) + [0, 1439]):
            site, name, building, _ = chance.choice(_places(made))
            cashier = chance.choice(CASHIERS)
            await _sale(tx, made, chance, (site, day, building, name), cashier, minute, counts)


async def _sale(  # noqa: PLR0917  # one line of a generator
    tx: Transaction,
    made: Month,
    chance: random.Random,
    where: tuple[str, date, str | None, str],
    cashier: str,
    minute: int,
    counts: Counter[str],
) -> None:
    at, number, operator = _at(where[1], minute), made.meters[where[3]], made.operators[cashier]
    fen = chance.randrange(1, 40_000)
    till = await accounts.till_of(tx, operator, at)
    customer = await accounts.customer_of_meter(tx, number, at)
    held = await accounts.account_of_meter(tx, number, at)

    def note(what: str, amount: int) -> None:
        made.money[(*where, cashier, what)] += amount

    async def move(operation: Operation, debit: int, credit: int, amount: int) -> None:
        await ledger.direct(
            tx, operation, transfer_id=uuid4(), debit=debit, credit=credit, amount_fen=amount,
            operator_id=operator, at=at, reason="generated",
        )  # fmt: skip

    await move(Operation.PAYMENT, till.account_id, customer.account_id, fen)
    note("taken", fen)
    note("payments", 1)
    fate = chance.random()
    if fate < 0.1:
        back = chance.randrange(1, fen + 1)
        await move(Operation.REFUND, customer.account_id, till.account_id, back)
        note("paid_back", back)
    elif fate < 0.2:
        await move(Operation.CORRECTION, till.account_id, customer.account_id, fen // 2 + 1)
        note("corrected", fen // 2 + 1)
    elif fate < 0.25:
        await move(Operation.CORRECTION, customer.account_id, till.account_id, fen // 2 + 1)
        note("corrected", -(fen // 2 + 1))
    else:
        sale_id = uuid4()
        counts[where[3]] += 1
        await sales.open_sale(
            tx, sale_id=sale_id, meter_id=number, purchase_count=counts[where[3]], amount_fen=fen,
            channel=chance.choice(("remote", "card")), at=at,
        )  # fmt: skip
        reserved = await ledger.pending(
            tx, transfer_id=uuid4(), debit=customer.account_id, credit=held.account_id,
            amount_fen=fen, operator_id=operator, at=at, sale_id=sale_id,
        )  # fmt: skip
        if fate < 0.3:
            await ledger.void(tx, reserved.transfer_id, at=at)
            await tx.execute(
                "UPDATE sale SET state = 'reversed', closed_at = %s WHERE sale_id = %s", at, sale_id
            )
            counts[where[3]] -= 1
        else:
            await ledger.post(tx, reserved.transfer_id, at=at)
            await tx.execute(
                "UPDATE sale SET state = 'landed', closed_at = %s WHERE sale_id = %s", at, sale_id
            )
            note("posted", fen)
