"""What the rules are told comes from the real tables: each fact is made there and seen here."""

from __future__ import annotations

from datetime import date, time, timedelta
from uuid import uuid4

import pytest

from headend.domain.commands import Accepted, CommandKind, CommandState
from headend.domain.friendly_hours import Calendar, FriendlyHours, usual_calendar
from headend.domain.ledger import Operation
from headend.domain.supply import MeterFacts
from headend.services import bulk
from headend.services.orders import Orders, SwitchOrder
from headend.store import accounts, attempts, commands, ledger, protections, sales, supply
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from headend.store.readings import store_readings
from protocols.catalog import load_meter_types
from protocols.exchange import Evidence
from protocols.reading import Origin, Quantity, Reading
from tests.headend.store.places_for_tests import imported, small_site
from tests.headend.supply.cases import NEVER, SHANGHAI
from tests.headend.supply.estate import DEBT_FEN, Estate, open_estate

S = CommandState
HOUR = timedelta(hours=1)


@pytest.fixture
async def estate(database: Database) -> Estate:
    """One line of three rooms."""
    return await open_estate(database, lines=1, meters_a_line=3)


async def of(estate: Estate, meter: str = "M1-1") -> MeterFacts:
    async with estate.transaction() as tx:
        every = {m.meter: m for m in await supply.facts(tx, estate.now, site_id=estate.site_id)}
        (alone,) = await supply.facts(tx, estate.now, meter_ids=[estate.meters[meter]])
    assert every[meter] == alone, "asked alone or with all others, it is the same meter"
    return alone


async def switch(estate: Estate, kind: CommandKind, meter: str = "M1-1") -> SwitchOrder:
    order = SwitchOrder(
        command_id=uuid4(),
        meter_id=estate.meters[meter],
        kind=kind,
        operator_id=estate.manager,
        reason="arrears",
    )
    async with estate.transaction() as tx:
        answer = await Orders(estate.clock, load_meter_types()).switch(tx, order)
    assert isinstance(answer, Accepted)
    return order


async def test_a_meter_at_rest(estate: Estate) -> None:
    facts = await of(estate)
    assert (facts.meter, facts.room, facts.building, facts.site) == ("M1-1", "R1-1", "B1", "estate")
    assert (facts.credit_fen, facts.relay_closed_bits, facts.power_w) == (DEBT_FEN, 1, 100)
    assert facts.read_at == estate.now - timedelta(hours=1)
    assert facts.calendar == NEVER
    nothing = (facts.locked_out, facts.protected, facts.command_open, facts.payment, facts.paid_at)
    assert (*nothing, facts.flagged, facts.switched_at) == (None,) * 7


async def test_a_master_is_known_by_the_meters_behind_it(estate: Estate) -> None:
    async with estate.transaction() as tx:
        await tx.execute(
            "UPDATE meter SET master_id = %s WHERE name IN ('M1-2', 'M1-3')",
            estate.meters["M1-1"],
        )
        await tx.execute("UPDATE meter SET retired_at = now() WHERE name = 'M1-3'")
    assert (await of(estate)).masters == 1, "one that was taken away hangs there no more"
    assert (await of(estate, "M1-2")).masters == 0


async def test_a_bulk_list_goes_from_line_to_line(database: Database) -> None:
    estate = await open_estate(database, lines=3, meters_a_line=2)
    async with estate.transaction() as tx:
        every = await supply.facts(tx, estate.now, site_id=estate.site_id)
    assert [meter.meter for meter in bulk.spread(every)] == [
        "M1-1", "M2-1", "M3-1", "M1-2", "M2-2", "M3-2",
    ]  # fmt: skip


async def test_protections_of_a_meter_and_of_its_room_last_until_they_expire(
    estate: Estate,
) -> None:
    async with estate.transaction() as tx:
        room_id = await tx.value("SELECT room_id FROM room WHERE name = 'R1-1'")
        by, at = estate.manager, estate.now
        await protections.protect(
            tx,
            meter_id=estate.meters["M1-1"],
            reason="an infant",
            expires_at=at + HOUR,
            by=by,
            now=estate.clock.now,
        )
        number = await protections.protect(
            tx,
            room_id=room_id,
            reason="a server",
            expires_at=at + 2 * HOUR,
            by=by,
            now=estate.clock.now,
        )
        assert [p.reason for p in await protections.protections(tx, estate.now)] == [
            "an infant",
            "a server",
        ]
    assert (await of(estate)).protected == "a server"
    assert (await of(estate, "M1-2")).protected is None
    async with estate.transaction() as tx:
        assert await protections.lift_protection(tx, number, reason="moved", by=by, at=at)
        assert not await protections.lift_protection(tx, number, reason="moved", by=by, at=at)
    assert (await of(estate)).protected == "an infant"
    estate.later(hours=1)
    assert (await of(estate)).protected is None


async def test_a_lock_out_of_a_line_locks_its_meters(estate: Estate) -> None:
    async with estate.transaction() as tx:
        line_id = await tx.value("SELECT line_id FROM line")
        number = await protections.lock_out(
            tx, line_id=line_id, reason="new busbar", by=estate.colleague, now=estate.clock.now
        )
        assert [lock.place for lock in await protections.lock_outs(tx)] == ["L1"]
    assert (await of(estate)).locked_out == "zhao works there: new busbar"
    async with estate.transaction() as tx:
        await protections.lift_lock_out(
            tx, number, reason="done", by=estate.colleague, at=estate.now
        )
    assert (await of(estate)).locked_out is None


async def test_money_on_its_way_and_money_that_arrived(estate: Estate) -> None:
    meter_id = estate.meters["M1-1"]
    async with estate.transaction() as tx:
        till = await accounts.till_of(tx, estate.manager, estate.now)
        customer = await accounts.customer_of_meter(tx, meter_id, estate.now)
        await ledger.direct(
            tx,
            Operation.PAYMENT,
            transfer_id=uuid4(),
            debit=till.account_id,
            credit=customer.account_id,
            amount_fen=5_000,
            operator_id=estate.manager,
            at=estate.now,
        )
    assert (await of(estate)).payment == "money waits in the account"
    assert (await of(estate, "M1-2")).payment is None
    sale_id = uuid4()
    async with estate.transaction() as tx:
        await sales.open_sale(
            tx,
            sale_id=sale_id,
            meter_id=meter_id,
            purchase_count=1,
            amount_fen=5_000,
            channel="remote",
            at=estate.now,
        )
    assert (await of(estate)).payment == "a sale has not landed"
    async with estate.transaction() as tx:
        await tx.execute(
            "UPDATE sale SET state = 'landed', closed_at = %s WHERE sale_id = %s",
            estate.now,
            sale_id,
        )
    assert (await of(estate)).paid_at == estate.now


async def test_an_order_is_open_until_it_ends_but_not_in_its_own_way(estate: Estate) -> None:
    order = await switch(estate, CommandKind.CUT)
    assert (await of(estate)).command_open == "cut"
    async with estate.transaction() as tx:
        (asking,) = await supply.facts(
            tx, estate.now, meter_ids=[order.meter_id], command_id=order.command_id
        )
    assert asking.command_open is None
    await estate.obey()
    facts = await of(estate)
    assert facts.command_open is None
    assert (facts.switched_at, facts.switched_to) == (estate.now, CommandKind.CUT)


async def test_only_what_may_have_moved_the_relay_counts_as_switching(estate: Estate) -> None:
    first = estate.now
    await switch(estate, CommandKind.CUT)
    await estate.obey()
    estate.later(minutes=11)
    await switch(estate, CommandKind.RESTORE)
    await estate.obey(lambda _: S.REFUSED)
    assert (await of(estate)).switched_at == first
    order = await switch(estate, CommandKind.RESTORE)
    async with estate.transaction() as tx:
        command = await commands.find(tx, order.command_id)
        assert command is not None
        await commands.move(tx, command.command_id, S.QUEUED, S.CLAIMED, estate.now)
        await attempts.begin(tx, command, began_at=estate.now, at=estate.now, before=Evidence())
    facts = await of(estate)
    assert (facts.switched_at, facts.switched_to) == (estate.now, None)


async def test_doubts_about_a_meter_are_told(estate: Estate) -> None:
    async with estate.transaction() as tx:
        await sales.freeze(tx, estate.meters["M1-1"], "the meter is ahead", estate.now)
    assert (await of(estate)).flagged == "the meter is ahead"


async def test_the_overdraft_comes_from_the_reading_that_shows_the_arrears(
    estate: Estate,
) -> None:
    values = {Quantity.REMAINING_CREDIT: -500, Quantity.OVERDRAFT: 2_000}
    look = Reading(
        meter_id=estate.meters["M1-1"],
        at=estate.now,
        received_at=estate.now,
        origin=Origin.POLLED,
        values=values,
    )
    async with estate.transaction() as tx:
        await store_readings(tx, [look])
    facts = await of(estate)
    assert (facts.credit_fen, facts.overdraft_fen) == (-500, 2_000)


async def test_the_newest_calendar_holds_and_the_older_ones_are_kept(estate: Estate) -> None:
    new = Calendar(
        time_zone=SHANGHAI,
        friendly_hours=(FriendlyHours(time(20, 30), time(7), frozenset({0, 6})),),
        spare_weekends=True,
        holidays={date(2026, 10, 1): "National Day"},
        working_days=frozenset({date(2026, 10, 10)}),
    )
    async with estate.transaction() as tx:
        await supply.set_calendar(tx, estate.site_id, new, by=estate.manager, at=estate.now)
        assert await tx.value("SELECT count(*) FROM site_calendar") == 2
    assert (await of(estate)).calendar == new
    with pytest.raises(DatabaseRefused, match="evidence"):
        await _forget_calendars(estate)


async def _forget_calendars(estate: Estate) -> None:
    async with estate.transaction() as tx:
        await tx.execute("DELETE FROM site_calendar")


async def test_a_site_without_a_calendar_has_the_usual_one(database: Database) -> None:
    await imported(database, small_site())
    async with database.transaction() as tx:
        (calendar,) = (await supply.calendars(tx)).values()
    assert calendar == usual_calendar(SHANGHAI)
