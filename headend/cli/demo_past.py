"""A month that a meter of the demonstration may have lived: it ends at what the meter shows now.

Told backwards from its registers, so that books and meter agree to the fen on the last day.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from headend.store.demo_history import Stands

DAYS: Final = 31
FEN_PER_KWH: Final = 60
AMOUNTS_FEN: Final = (5_000, 10_000, 10_000, 20_000, 30_000)
# Above this and what is in the meter now nobody went and bought.
CREDIT_BUYS_ABOVE_FEN: Final = 9_000
DAY_WH_MAX: Final = 15_000
# Counts of 14 to 30 months stand on these meters (simulators/history.py).
DAYS_LIVED: Final = 600
WEEKEND_PERMILLE: Final = 1_150


@dataclass(frozen=True, slots=True, kw_only=True)
class Evening:
    """What a meter showed in one night; sold_fen: bought during the day before it."""

    day: date
    energy_wh: int | None
    volume_l: int | None
    credit_fen: int | None
    purchase_count: int | None
    total_purchased_fen: int | None
    sold_fen: int


def evenings(chance: random.Random, now: Stands, last: date) -> list[Evening]:
    """The last DAYS nights up to `last`, oldest first."""
    energy, volume, credit = now.energy_wh, now.volume_l, now.credit_fen
    count, total = now.purchase_count, now.total_purchased_fen
    knows_money = credit is not None and count is not None and total is not None
    told: list[Evening] = []
    for n in range(DAYS):
        day = last - timedelta(days=n)
        used = _used(chance, now.energy_wh, day)
        energy = None if energy is None else energy - used
        volume = None if volume is None else max(0, volume - chance.randrange(50, 400))
        if credit is not None:
            credit += used * FEN_PER_KWH // 1000
        sold = 0
        if credit is not None and count is not None and total is not None:
            high = max(now.credit_fen or 0, CREDIT_BUYS_ABOVE_FEN) + chance.randrange(6_000)
            if n < DAYS - 1 and credit > high:
                sold = _sold(chance, credit, count, total)
        told.append(
            Evening(
                day=day,
                energy_wh=energy,
                volume_l=volume,
                credit_fen=credit if knows_money else now.credit_fen,
                purchase_count=count,
                total_purchased_fen=total,
                sold_fen=sold,
            )
        )
        if sold:
            assert credit is not None
            assert count is not None
            assert total is not None
            credit, count, total = credit - sold, count - 1, total - sold
    return told[::-1]


def _used(chance: random.Random, energy_wh: int | None, day: date) -> int:
    usual = min((energy_wh or 0) // DAYS_LIVED, DAY_WH_MAX)
    permille = chance.randrange(700, 1_300) * (WEEKEND_PERMILLE if day.weekday() > 4 else 1_000)
    return usual * permille // 1_000_000 // 10 * 10


def _sold(chance: random.Random, credit_fen: int, count: int, total_fen: int) -> int:
    amount = chance.choice(AMOUNTS_FEN)
    return amount if amount <= credit_fen and count > 1 and amount < total_fen else 0


def with_masters(
    past: list[tuple[Stands, list[Evening]]], truth: Mapping[str, Any]
) -> list[tuple[Stands, list[Evening]]]:
    """The past of a master meter is that of its circuits, together."""
    boxes = {one["name"]: one.get("cabinet") for one in truth["meters"]}
    masters = {one["name"]: one["measures"] for one in truth["meters"] if one.get("measures")}
    told = []
    for stands, evening in past:
        circuits = [
            (one, its)
            for one, its in past
            if stands.meter in masters and boxes.get(one.meter) == masters[stands.meter]
        ]
        told.append((stands, _fed(stands, circuits) or evening))
    return told


def _fed(now: Stands, circuits: Sequence[tuple[Stands, Sequence[Evening]]]) -> list[Evening]:
    """The same nights of a master meter: it moved on as its circuits did, all of them together.

    What it stands at now above them is the share that is lost, all the month. Empty where it or
    one of them tells no energy.
    """
    stands = [one.energy_wh for one, _ in circuits]
    if now.energy_wh is None or not stands or None in stands:
        return []
    all_now = sum(one for one in stands if one is not None)
    told = []
    for night in zip(*(past for _, past in circuits), strict=True):
        then = sum(one.energy_wh or 0 for one in night)
        told.append(
            Evening(
                day=night[0].day,
                energy_wh=now.energy_wh * then // all_now // 10 * 10,
                volume_l=None,
                credit_fen=None,
                purchase_count=None,
                total_purchased_fen=None,
                sold_fen=0,
            )
        )
    return told
