"""Shifts, customers and guards at the desk: kept once, named beside the field when wrong."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from headend.domain.nights import CellState, GapReason
from headend.domain.roles import Role
from headend.store import accounts, desk_nights, nights, protections, shifts
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from tests.headend.house import QUICK
from tests.web.shop import Shop, open_shop
from tests.web.test_vend import form_of, proved


async def test_a_shift_from_float_to_count(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        # A sale before the shift belongs to no shift.
        where, after = await form_of(cashier)
        await cashier.post(where, meter="M1", amount="10", after=after)
        await proved(cashier, where.replace("/new/", "/"))
        page = (await cashier.get("/shift")).text
        shift_id = re.findall(r'name="shift_id" value="([^"]+)"', page)[0]
        for _ in range(2):  # pressed twice: one shift
            await cashier.post("/shift/open", shift_id=shift_id, float="200")
        where, after = await form_of(cashier, "M2")
        await cashier.post(where, meter="M2", amount="50.50", after=after)
        await proved(cashier, where.replace("/new/", "/"))
        page = (await cashier.get("/shift")).text
        assert "250.50" not in page, "the count is blind"
        wrong = await cashier.post("/shift/close", shift_id=shift_id, counted="two hundred")
        assert wrong.status_code == 422
        assert 'id="counted-error"' in wrong.text
        assert "two hundred" in wrong.text
        await cashier.post("/shift/close", shift_id=shift_id, counted="250", note="a coin fell")
        await cashier.post("/shift/close", shift_id=shift_id, counted="999")
        async with shop.services.database.transaction() as tx:
            (one,) = await shifts.listing(tx, shop.numbers[Role.CASHIER])
        assert (one.float_fen, one.taken_fen, one.counted_fen) == (20000, 5050, 25000)
        assert (one.expected_fen, one.over_fen, one.note) == (25050, -50, "a coin fell")
        assert "−0.50" in (await cashier.get("/shift")).text
        manager = await shop.browser(Role.MANAGER)
        assert "−0.50" in (await manager.get("/shift")).text, "who approves sees everybody's"
        # Somebody else's shift is not closed by knowing its id.
        page = (await cashier.get("/shift")).text
        fresh = re.findall(r'name="shift_id" value="([^"]+)"', page)[0]
        await cashier.post("/shift/open", shift_id=fresh, float="0")
        await manager.post("/shift/close", shift_id=fresh, counted="0")
        async with shop.services.database.transaction() as tx:
            assert await shifts.current(tx, shop.numbers[Role.CASHIER]) is not None


async def test_a_closed_shift_is_never_changed(database: Database) -> None:
    with pytest.raises(DatabaseRefused, match="only ever added to"):
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM cashier_shift")
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO operator (name, person, role, all_sites, created_at)"
            " VALUES ('li', 'li', 'cashier', true, now())"
        )
        await tx.execute(
            "INSERT INTO cashier_shift (shift_id, operator_id, opened_at, float_fen,"
            " till_opened_fen, closed_at, till_closed_fen, counted_fen)"
            " VALUES (gen_random_uuid(), 1, now(), 0, 0, now(), 0, 0)"
        )
    with pytest.raises(DatabaseRefused, match="closed once"):
        async with database.transaction() as tx:
            await tx.execute("UPDATE cashier_shift SET counted_fen = 5")


async def test_a_customer_is_found_by_name_and_telephone(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        wrong = await cashier.post("/meters/M1/customer", customer="", contact="1")
        assert wrong.status_code == 422
        assert 'id="customer-error"' in wrong.text
        kept = await cashier.post("/meters/M1/customer", customer="王小明", contact="138 0013 8000")
        assert kept.status_code == 303
        for asked in ("小明", "0013"):
            assert "/vend?meter=M1" in (await cashier.get(f"/vend?q={asked}")).text
        async with shop.services.database.transaction() as tx:
            number = shop.services.lines.find_meter("M1").known.meter_id
            known = await accounts.customer_of_meter(tx, number, shop.services.clock.now())
        assert (known.name, known.contact) == ("王小明", "138 0013 8000")


async def test_protected_locked_out_and_free_again(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        wrong = await manager.post("/meters/M1/protect", protect_reason="", days="0")
        assert wrong.status_code == 422
        assert 'id="protect_reason-error"' in wrong.text
        assert 'id="days-error"' in wrong.text
        await manager.post("/meters/M1/protect", protect_reason="oxygen", days="30")
        page = (await manager.get("/meters/M1")).text
        order = re.findall(r'name="command_id" value="([^"]+)"', page)[0]
        cut = await manager.post("/meters/M1/switch", command_id=order, kind="cut", reason="owes")
        assert cut.status_code == 409
        assert "oxygen" in cut.text, "the rule that spares it is named with its reason"
        await manager.post("/meters/M1/lift-protection", lift_reason="moved out")
        await manager.post("/meters/M1/lock-out", lock_reason="new breaker")
        async with shop.services.database.transaction() as tx:
            assert await protections.protections(tx, shop.services.clock.now()) == []
            assert [one.reason for one in await protections.lock_outs(tx)] == ["new breaker"]
        await manager.post("/meters/M1/lift-lock-out", lift_reason="done")
        async with shop.services.database.transaction() as tx:
            assert await protections.lock_outs(tx) == []


async def test_a_meter_is_cut_and_restored_from_its_page(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        page = (await manager.get("/meters/M2")).text
        order = re.findall(r'name="command_id" value="([^"]+)"', page)[0]
        bare = await manager.post("/meters/M2/switch", command_id=order, kind="cut", reason="")
        assert bare.status_code == 422
        assert 'id="reason-error"' in bare.text
        cut = await manager.post("/meters/M2/switch", command_id=order, kind="cut", reason="owes")
        assert cut.headers["location"] == f"/commands/{order}"
        again = await manager.post("/meters/M2/switch", command_id=order, kind="cut", reason="owes")
        assert again.headers["location"] == f"/commands/{order}", "pressed twice: one order"
        async with shop.services.database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM command") == 1


@pytest.mark.asyncio(loop_scope="module")  # the shop that tests share lives in this loop
async def test_a_dry_run_names_who_is_spared_by_which_rule(shop_of_wrongs: Shop) -> None:
    manager = await shop_of_wrongs.browser(Role.MANAGER)
    where = (await manager.get("/bulk/new")).headers["location"]
    dry = await manager.post(where, action="cut", site="court", below="0", reason="arrears")
    assert dry.status_code == 200
    assert "enough credit" in dry.text, "who is spared hears the rule"
    wrong = await manager.post(where, action="cut", site="court", below="x", reason="")
    assert wrong.status_code == 422
    assert 'id="below-error"' in wrong.text
    assert 'id="reason-error"' in wrong.text
    empty = await manager.post(
        where, action="cut", site="court", below="0", reason="arrears", step="plan"
    )
    assert empty.status_code == 409, "nobody owes anything"


async def test_a_bulk_job_is_planned_started_watched_and_taken_back(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        where = (await manager.get("/bulk/new")).headers["location"]
        typed = {"action": "cut", "meters": "M1, M2", "reason": "works on the riser"}
        planned = await manager.post(where, step="plan", **typed)
        job = where.replace("/new/", "/")
        assert planned.headers["location"] == job
        again = await manager.post(where, step="plan", **typed)
        assert again.headers["location"] == job, "pressed twice: one job"
        assert (await manager.get(where)).headers["location"] == job, "Back finds the job"
        auditor = await shop.browser(Role.AUDITOR)
        assert "Start with the first five" not in (await auditor.get(job)).text
        assert (await manager.post(f"{job}/start")).status_code == 303
        async with asyncio.timeout(60):
            while (await manager.get(job)).text.count(">proved<") < 2:
                await asyncio.sleep(0.1)
        page = (await manager.get(job)).text
        undo_id = re.findall(r'name="undo_id" value="([^"]+)"', page)[0]
        undone = await manager.post(f"{job}/undo", undo_id=undo_id)
        assert undone.headers["location"] == f"/bulk/{undo_id}"
        assert (await manager.post(f"{job}/undo", undo_id=undo_id)).status_code == 303
        assert "takes back" in (await manager.get("/bulk")).text


async def test_the_board_counts_a_night_as_its_cells_are(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await shop.services.nights.collect_now("court", QUICK)
        await shop.services.nights.finished("court")
        async with shop.services.database.transaction() as tx:
            usual = await nights.completeness(tx, site="court", count=7)
            cells = await desk_nights.counted(tx, "court", usual[0].night)
            (row,) = await desk_nights.gaps(tx, "court", nights=7, limit=10)
        assert sorted(cells, key=lambda cell: cell[2]) == [
            (CellState.OPEN, GapReason.METER_SILENT, 1),
            (CellState.READ, None, 2),
        ]
        assert (usual[0].meters, usual[0].read) == (3, 2)
        assert usual[0].gaps == {GapReason.METER_SILENT: 1}, "M4 does not answer"
        assert (row.meter, row.gaps) == ("M4", 1)
        manager = await shop.browser(Role.MANAGER)
        night = await manager.get(f"/nights/court/{usual[0].night}?reason=meter_silent")
        assert "/meters/M4" in night.text
        assert "/meters/M1" not in night.text
        assert (await manager.get("/nights/court/2001-01-01")).status_code == 404
