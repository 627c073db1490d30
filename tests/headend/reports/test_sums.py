"""Sums of reports against a pencil and against the books, to the fen and the Wh."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
import pytest_asyncio

from headend.domain.reports import Grouping, Report, ReportKind, Row
from headend.store import reports
from headend.store.database import Database
from tests.conftest import TEMPLATE, fresh_database
from tests.headend.reports.month import CASHIERS, DAYS, FIRST, Month, month

LAST = FIRST + timedelta(days=DAYS - 1)
pytestmark = pytest.mark.asyncio(loop_scope="module")
G = Grouping


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(server: str) -> Any:
    with fresh_database(server, TEMPLATE) as dsn:
        opened = Database(dsn)
        await opened.open()
        yield await month(opened)
        await opened.close()


async def rows_of(made: Month, report: Report) -> list[dict[str, Any]]:
    async with made.database.transaction() as tx:
        found: list[Row] = [row async for row in reports.rows(tx, report)]
    names = [column.name for column in report.columns]
    return [dict(zip(names, row, strict=True)) for row in found]


def asked(kind: ReportKind, by: Grouping | None = None, **more: Any) -> Report:
    return Report(
        **{"kind": kind, "grouping": by, "first": FIRST, "last": LAST, "sites": None} | more
    )


@pytest.mark.parametrize(
    "by", [G.DAY, G.MONTH, G.BUILDING, G.OPERATOR, G.CHANNEL, G.TARIFF], ids=lambda by: by.value
)
async def test_every_grouping_adds_up_to_the_books(made: Month, by: Grouping) -> None:
    rows = await rows_of(made, asked(ReportKind.TURNOVER, by))
    for name in ("taken", "paid_back", "corrected", "posted"):
        assert sum(row[f"{name}_fen"] for row in rows) == made.fen(name), name
    assert sum(row["payments"] for row in rows) == made.fen("payments")
    if "used_wh" in rows[0]:
        assert sum(row["used_wh"] for row in rows) == made.wh()
    async with made.database.transaction() as tx:
        # What the tills moved is what was taken, less what was given: another road to one number.
        tills = await tx.value(
            "SELECT sum(posted_fen)::bigint FROM account_balance JOIN account USING (account_id)"
            " WHERE kind = 'till'"
        )
        in_meters = await tx.value(
            "SELECT sum(posted_fen)::bigint FROM account_balance JOIN account USING (account_id)"
            " WHERE kind = 'meter'"
        )
    got = sum(r["taken_fen"] - r["paid_back_fen"] + r["corrected_fen"] for r in rows)
    assert got == -tills
    assert sum(row["posted_fen"] for row in rows) == in_meters


async def test_each_day_on_the_wall_of_the_property(made: Month) -> None:
    rows = {r["day"]: r for r in await rows_of(made, asked(ReportKind.TURNOVER, G.DAY))}
    assert set(rows) == {FIRST + timedelta(days=n) for n in range(DAYS)}
    for day, row in rows.items():
        assert row["taken_fen"] == made.fen("taken", day=day)
        assert row["posted_fen"] == made.fen("posted", day=day)
        assert row["used_wh"] == made.wh(day=day)


async def test_a_day_asked_alone_is_that_day(made: Month) -> None:
    day = date(2026, 3, 17)
    (row,) = await rows_of(made, asked(ReportKind.TURNOVER, G.DAY, first=day, last=day))
    assert row["taken_fen"] == made.fen("taken", day=day)
    assert row["used_wh"] == made.wh(day=day), "the reading before the first day counts"


async def test_by_building_operator_and_meter(made: Month) -> None:
    by_house = {
        r["building"]: r for r in await rows_of(made, asked(ReportKind.TURNOVER, G.BUILDING))
    }
    assert set(by_house) == {"A", "B", None}
    for building, row in by_house.items():
        assert row["posted_fen"] == made.fen("posted", building=building)
        assert row["used_wh"] == made.wh(building=building)
    by_person = {
        r["operator"]: r for r in await rows_of(made, asked(ReportKind.TURNOVER, G.OPERATOR))
    }
    for operator in CASHIERS:
        assert by_person[operator]["taken_fen"] == made.fen("taken", operator=operator)
    by_meter = {r["meter"]: r for r in await rows_of(made, asked(ReportKind.USE, G.METER))}
    assert "MASTER" not in by_meter, "a master measures once more what others measure"
    for name, row in by_meter.items():
        assert row["used_wh"] == made.wh(meter=name)
        # The halves of an odd number differ by one.
        assert abs(row["flat_wh"] + row["peak_wh"] - row["used_wh"]) <= 1


async def test_nobody_sees_another_property(made: Month) -> None:
    north = made.sites["North Court"]
    for scope in ({"sites": (north,)}, {"site_id": north}):
        rows = await rows_of(made, asked(ReportKind.TURNOVER, G.DAY, **scope))
        assert sum(r["taken_fen"] for r in rows) == made.fen("taken", site="North Court")
        assert sum(r["used_wh"] for r in rows) == made.wh(site="North Court")
    nothing = {"sites": (north,), "site_id": made.sites["South Court"]}
    for kind in ReportKind:
        by = {ReportKind.TURNOVER: G.DAY, ReportKind.USE: G.DAY}.get(kind)
        assert await rows_of(made, asked(kind, by, **nothing)) == [], kind
        here = await rows_of(made, asked(kind, by, sites=(north,)))
        assert all(row.get("site", "North Court") == "North Court" for row in here)


async def test_every_line_that_moved_money(made: Month) -> None:
    rows = await rows_of(made, asked(ReportKind.LINES))
    paid = [r for r in rows if r["operation"] == "payment"]
    assert sum(r["amount_fen"] for r in paid) == made.fen("taken")
    assert len(paid) == made.fen("payments")
    assert [r["entry_no"] for r in rows] == sorted(r["entry_no"] for r in rows)
    landed = [r for r in rows if r["operation"] == "top_up"]
    assert {r["channel"] for r in landed} == {"remote", "card"}
    assert sum(r["amount_fen"] for r in landed) == made.fen("posted")


async def test_loss_is_what_the_master_counted_and_the_circuits_did_not(made: Month) -> None:
    rows = {r["master"]: r for r in await rows_of(made, asked(ReportKind.LOSS))}
    assert set(rows) == {"MASTER", "SMASTER"}
    for row in rows.values():
        assert row["circuits"] == len(("M1", "M2", "M3", "M4"))
        assert row["first_night"] < row["last_night"]
        assert row["loss_wh"] == row["master_wh"] - row["circuits_wh"] > 0
        assert row["loss_permille"] in (28, 29), "3 % of the circuits, rounded down at each step"
        assert row["unread"] == 0
    before, north = FIRST - timedelta(days=1), made.sites["North Court"]
    (whole,) = await rows_of(made, asked(ReportKind.LOSS, first=before, sites=(north,)))
    assert (whole["first_night"], whole["last_night"]) == (before, LAST)
    assert whole["circuits_wh"] == made.wh(site="North Court")


async def test_where_no_two_nights_are_whole_no_loss_is_told(made: Month) -> None:
    rows = await rows_of(made, asked(ReportKind.LOSS, first=LAST, last=LAST))
    assert [(r["loss_wh"], r["circuits"], r["unread"]) for r in rows] == [(None, 4, 5)] * 2
