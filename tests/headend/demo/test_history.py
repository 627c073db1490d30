"""The month behind the demonstration obeys the laws of a real one."""

from __future__ import annotations

import itertools
import random
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from headend.cli.demo_history import lay_history
from headend.cli.demo_past import DAYS, evenings, with_masters
from headend.domain.clock import SystemClock
from headend.domain.reports import Grouping, Report, ReportKind
from headend.services.reconcile import reconcile_all
from headend.services.seals import verify_database
from headend.store import accounts, nights, readings, reports, tariffs
from headend.store.database import Database
from headend.store.demo_history import Stands
from headend.store.places import load_sites
from protocols.reading import Origin, Reading
from protocols.reading import Quantity as Q
from tests.headend.store.places_for_tests import imported, meter, small_site

SHANGHAI = ZoneInfo("Asia/Shanghai")
SHOWS = {
    Q.ENERGY: 9_000_000,
    Q.REMAINING_CREDIT: 3_000,
    Q.PURCHASE_COUNT: 40,
    Q.TOTAL_PURCHASED: 2_000_000,
}
TRUTH = {"meters": [{"name": "M3", "gap": "meter_silent"}, {"name": "M1", "gap": None}]}


async def laid(database: Database) -> None:
    meters = tuple(meter(f"M{unit}", unit, "L1", room=f"A-10{unit}") for unit in range(1, 4))
    site = small_site("North Court", prefix="", meters=meters, device="/dev/ttyN")
    await imported(database, site)
    at = SystemClock().now()
    async with database.transaction() as tx:
        numbers: dict[str, int] = dict(await tx.rows("SELECT name, meter_id FROM meter"))
        for name in ("M1", "M2"):
            seen = Reading(
                meter_id=numbers[name], at=at, received_at=at, origin=Origin.POLLED, values=SHOWS
            )
            await readings.store_readings(tx, [seen])


async def test_books_nights_and_seals_of_the_month_hold(database: Database) -> None:
    await laid(database)
    async with database.transaction() as tx:
        (site,) = await load_sites(tx)
    told = await lay_history(database, SystemClock(), site, TRUTH, 1)
    assert (told.days_sealed, told.nights) == (DAYS, DAYS)
    assert told.sales > 0
    assert told.customers > 0
    assert (await verify_database(database)).is_sound
    compared = await reconcile_all(database, SystemClock())
    assert (compared.agree, dict(compared.differences)) == (2, {}), "meters and books agree"
    async with database.transaction() as tx:
        assert await accounts.sum_of_balances_fen(tx) == 0
        (offered,) = await tariffs.listing(tx, None, SystemClock().now().date())
        assert (offered.has_draft, offered.now) == (True, None), (
            "a price to think about, in force nowhere"
        )
        rows = await nights.completeness(tx, site=site.name, count=DAYS)
        assert sum(night.read + night.back_filled for night in rows) > 2 * DAYS
        assert rows[0].gaps, "the silent meter has its reason"
        asked = Report(
            kind=ReportKind.TURNOVER, grouping=Grouping.DAY, sites=None, site_id=None,
            first=datetime.now(SHANGHAI).date() - timedelta(days=DAYS),
            last=datetime.now(SHANGHAI).date(),
        )  # fmt: skip
        assert [row async for row in reports.rows(tx, asked)]
    again = await lay_history(database, SystemClock(), site, TRUTH, 1)
    assert again == told, "a second time adds nothing"


def test_a_meters_past_ends_where_it_stands() -> None:
    now = Stands(
        meter_id=1, meter="M1", site_id=1, room="101", energy_wh=9_000_000, volume_l=None,
        credit_fen=3_000, purchase_count=40, total_purchased_fen=2_000_000,
    )  # fmt: skip
    for seed in range(50):
        told = evenings(random.Random(seed), now, date(2026, 3, 31))
        assert [one.day for one in told] == [date(2026, 3, n) for n in range(1, 32)]
        last = told[-1]
        assert last.purchase_count == 40
        assert last.total_purchased_fen == 2_000_000
        assert last.energy_wh is not None
        assert 0 < last.energy_wh < 9_000_000
        for before, after in itertools.pairwise(told):
            assert before.energy_wh is not None
            assert after.energy_wh is not None
            assert before.energy_wh <= after.energy_wh
            assert before.total_purchased_fen is not None
            assert before.total_purchased_fen + after.sold_fen == after.total_purchased_fen
            assert before.purchase_count is not None
            assert before.purchase_count + bool(after.sold_fen) == after.purchase_count


def test_a_masters_past_moves_as_its_circuits_did_and_loses_the_same_share() -> None:
    def stands(name: str, energy_wh: int | None) -> Stands:
        return Stands(
            meter_id=1, meter=name, site_id=1, room=None, energy_wh=energy_wh, volume_l=None,
            credit_fen=None, purchase_count=None, total_purchased_fen=None,
        )  # fmt: skip

    truth = {
        "meters": [
            {"name": "box-01", "cabinet": "box"},
            {"name": "box-02", "cabinet": "box"},
            {"name": "other", "cabinet": None},
            {"name": "box master", "cabinet": None, "measures": "box"},
        ]
    }
    past = []
    for name, energy_wh in (
        ("box-01", 6_000_000),
        ("box-02", 4_000_000),
        ("other", 9_000_000),
        ("box master", 11_500_000),
    ):
        now = stands(name, energy_wh)
        past.append((now, evenings(random.Random(name), now, date(2026, 3, 31))))
    told = {now.meter: its for now, its in with_masters(past, truth)}
    assert [told[name] for name in ("box-01", "box-02", "other")] == [its for _, its in past[:3]]
    used = {name: (its[-1].energy_wh or 0) - (its[0].energy_wh or 0) for name, its in told.items()}
    circuits = used["box-01"] + used["box-02"]
    assert circuits > 0
    assert abs(used["box master"] - circuits * 1150 // 1000) <= 20
    assert (told["box master"][-1].energy_wh or 0) < 11_500_000
    # One circuit that tells nothing: the master's past is its own again.
    past[0] = (stands("box-01", None), past[0][1])
    assert {now.meter: its for now, its in with_masters(past, truth)}["box master"] == (past[3][1])
