"""A meter's registers begin anew: its counts too, and nothing of the life before meets them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from headend.domain.books import Asker, BooksWhy, NotBooked
from headend.domain.commands import (
    Accepted,
    CommandKind,
    CommandState,
    Rejected,
    Why,
)
from headend.domain.reconciliation import DifferenceKind
from headend.services import reconcile
from headend.services.orders import ConfigureOrder
from headend.store import queue, sales
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from protocols.settings import AlarmAmounts, ClearAccount, OpenAccount, Prices, Setting
from simulators.metering import Meter
from tests.headend.money.shop import Fate, Shop, always, shop

S = CommandState
OPENED = OpenAccount(
    prices=Prices(sharp_fen=98, peak_fen=83, flat_fen=62, valley_fen=34),
    alarms=AlarmAmounts(alarm_1_fen=2_000, alarm_2_fen=0),
)


async def accept(s: Shop, unit: int = 1, *, approved: bool = True) -> NotBooked | None:
    """Wang accepts what the last look shows."""
    async with s.database.transaction() as tx:
        return await reconcile.accept_meter(
            tx,
            s.ids[f"M{unit}"],
            s.clock,
            asked_by=Asker(s.wang, "Wang"),
            approved_by=Asker(s.li, "Li") if approved else None,
            reason="the meter was exchanged",
        )


async def epoch(s: Shop, unit: int = 1) -> int:
    async with s.database.transaction() as tx:
        found: int = await tx.value("SELECT meter_epoch(%s)", s.ids[f"M{unit}"])
    return found


async def differences(s: Shop) -> dict[int, DifferenceKind]:
    found = await reconcile.reconcile_all(s.database, s.clock)
    return {meter: one.kind for meter, one in found.differences.items()}


def exchange(meter: Meter, *, count: int, total_fen: int) -> None:
    """Another device of the same type at the same address."""
    meter.purchase_count = count
    meter.total_purchased_fen = total_fen


async def sold(s: Shop, amount_fen: int) -> tuple[int, int]:
    """Sold and proved; its epoch and count."""
    command = await s.reaches(await s.sell(amount_fen), S.CONFIRMED)
    sale = await s.sale(command)
    return sale.epoch, sale.purchase_count


async def test_counts_begin_anew_after_an_exchange_and_meet_none_of_before(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        exchange(s.meter(), count=0, total_fen=0)
        await s.read_once()
        before = [await sold(s, fen) for fen in (100, 200, 300)]
        assert before == [(0, 1), (0, 2), (0, 3)]
        await s.read_once()
        assert await differences(s) == {}

        exchange(s.meter(), count=0, total_fen=450)  # the maker set the carried credit
        await s.read_once()
        assert await differences(s) == {s.ids["M1"]: DifferenceKind.RESET}
        await s.pay(700)
        refused = await s.order(700)
        assert isinstance(refused, Rejected)
        assert refused.why is Why.SALES_FROZEN
        assert await accept(s) is None
        assert await epoch(s) == 1
        s.clock.later(minutes=1)
        assert await differences(s) == {}

        after = [await sold(s, fen) for fen in (700, 800, 900, 1_000)]
        assert after == [(1, 1), (1, 2), (1, 3), (1, 4)]
        assert s.credited() == [100, 200, 300, 700, 800, 900, 1_000]
        assert await s.books() == (4_000, 700, 0)
        await s.read_once()
        assert await differences(s) == {}, "opening of this epoch, and what was posted since"

        # A third life, and a difference in it is still found.
        exchange(s.meter(), count=2, total_fen=9_000)
        await s.read_once()
        assert await accept(s) is None
        assert await epoch(s) == 2
        s.clock.later(minutes=1)
        assert await sold(s, 1_100) == (2, 3)
        s.meter().purchase(77, 4)
        await s.read_once()
        assert await differences(s) == {s.ids["M1"]: DifferenceKind.FOREIGN_PURCHASE}
        assert await accept(s) is None
        assert await epoch(s) == 2, "counts that only went on are of the same life"


async def test_no_epoch_begins_over_an_open_sale(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await sold(s, 100)
        s.bus.script = always(Fate.MUTE, write=True)
        command_id = await s.sell(500)
        await s.reaches(command_id, S.UNKNOWN)
        await s.kill_sender()
        exchange(s.meter(), count=0, total_fen=0)
        await s.read_once()
        refused = await accept(s)
        assert refused is not None
        assert refused.why is BooksWhy.SALE_OPEN
        assert await epoch(s) == 0
        # What the old meter took or not only a person who has seen it can say.
        s.bus.script = None
        await s.open_sender()
        s.later(minutes=1)
        await s.reaches(command_id, S.ESCALATED)
        refused = await accept(s)
        assert refused is not None
        assert refused.why is BooksWhy.SALE_OPEN
        assert s.credited() == [100, 500]


async def test_a_sale_opened_after_the_look_holds_the_border_too(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.pay(500)
        assert isinstance(await s.order(500), Accepted)
        refused = await accept(s)
        assert refused is not None
        assert refused.why is BooksWhy.SALE_OPEN


RULES = {
    "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, booked_count, booked_fen,"
    " reason, epoch, operator_id) VALUES ({meter}, now(), 0, 0, 0, 'x', 2, {li})": (
        "epochs_follow_one_another"
    ),
    "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, booked_count, booked_fen,"
    " reason, epoch) VALUES ({meter}, now(), 0, 0, 0, 'x', 1)": "an_epoch_is_begun_by_a_person",
    "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, booked_count, booked_fen,"
    " reason, epoch, operator_id) VALUES ({meter}, now(), 0, 0, 0, 'x', 1, {li})": (
        "no_sale_is_open_as_an_epoch_begins"
    ),
    "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, booked_count, booked_fen,"
    " reason) VALUES ({meter}, now(), 0, 0, 0, 'x')": "a_count_that_fell_begins_an_epoch",
    "UPDATE sale SET epoch = 1 WHERE state = 'open'": "a_count_is_tied_to_its_amount",
}


async def test_the_database_knows_the_border(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await sold(s, 100)
        await s.kill_sender()
        await s.sell(500)
        for sql, sentence in RULES.items():
            with pytest.raises(DatabaseRefused) as refused:
                async with database.transaction() as tx:
                    await tx.execute(sql.format(meter=s.ids["M1"], li=s.li))
            cause = refused.value.__cause__
            assert isinstance(cause, psycopg.Error)
            assert cause.diag.constraint_name == sentence, sql
        async with database.transaction() as tx:  # nobody chooses an epoch
            await tx.execute(
                "UPDATE sale SET state = 'reversed', closed_at = now() WHERE state = 'open'"
            )
            await tx.execute(
                "INSERT INTO sale (sale_id, meter_id, purchase_count, amount_fen, channel,"
                " opened_at, epoch) VALUES (gen_random_uuid(), %s, 99, 1, 'remote', now(), 7)",
                s.ids["M1"],
            )
            assert await tx.value("SELECT epoch FROM sale WHERE state = 'open'") == 0


async def test_another_number_at_the_meter_stops_its_sales(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.sell(500)
        async with database.transaction() as tx:
            for number, frozen in (("1", False), ("1", False), ("2", True)):
                await tx.execute("UPDATE meter SET meter_number = %s", number)
                for unit in (1, 2):  # M2 has never been sold to: nothing can be mistaken
                    stop = await sales.frozen(tx, s.ids[f"M{unit}"])
                    assert (stop is not None) is (frozen and unit == 1)


async def clear(s: Shop, setting: Setting | None = None) -> UUID:
    command_id = uuid4()
    async with s.database.transaction() as tx:
        accepted = await s.orders.configure(
            tx,
            ConfigureOrder(
                command_id=command_id,
                meter_id=s.ids["M1"],
                setting=setting or ClearAccount(),
                operator_id=s.wang,
                reason="the tenant moved out",
            ),
        )
    assert isinstance(accepted, Accepted), accepted
    return command_id


async def test_a_cleared_account_is_sold_to_after_a_person_accepted_it(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        exchange(s.meter(), count=0, total_fen=0)
        await s.read_once()
        assert await sold(s, 100) == (0, 1)
        await s.kill_sender()
        cleared = await clear(s)
        await s.pay(500)
        refused = await s.order(500)
        assert isinstance(refused, Rejected)
        assert refused.why is Why.SALES_FROZEN, "not while the account is being cleared"
        await s.open_sender()
        await s.reaches(cleared, S.CONFIRMED)
        assert s.meter().purchase_count == 0
        refused = await s.order(500)
        assert isinstance(refused, Rejected)
        assert refused.why is Why.SALES_FROZEN
        assert "accept the meter" in refused.detail
        await s.reaches(await clear(s, OPENED), S.CONFIRMED)
        await s.read_once()
        assert await accept(s) is None
        assert await sold(s, 500) == (1, 1)
        assert s.credited() == [100, 500]


async def test_no_copy_that_may_be_under_way_meets_the_other_life(
    database: Database, tmp_path: Path
) -> None:
    """A network may deliver a frame twice, the second time half a minute later."""
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        exchange(s.meter(), count=0, total_fen=0)
        await s.read_once()
        await sold(s, 100)
        await s.kill_sender()

        async def next_kind(in_flight_s: float, after_s: float) -> CommandKind | None:
            at = s.clock.now() + timedelta(seconds=after_s)
            async with (
                database.transaction() as tx,
                tx.connection.transaction(force_rollback=True),
            ):
                claimed = await queue.claim(tx, [s.ids["M1"]], at, in_flight_s_max=in_flight_s)
            return None if claimed is None else claimed.kind

        again = await s.sell(200)
        assert await next_kind(30.0, 0.0) is CommandKind.TOP_UP, "it waits for nothing"
        await s.open_sender()
        await s.reaches(again, S.CONFIRMED)
        await s.kill_sender()
        cleared = await clear(s)
        assert await next_kind(30.0, 0.0) is None, "the purchase may still be doubled"
        assert await next_kind(30.0, 31.0) is CommandKind.CONFIGURE
        s.clock.later(seconds=31)
        await s.open_sender()
        await s.reaches(cleared, S.CONFIRMED)
        await s.kill_sender()
        async with database.transaction() as tx:  # the look and the word of a quick technician
            await tx.execute(
                "UPDATE meter_last SET at = %s, purchase_count = 0,"
                " total_purchased_fen = 0 WHERE meter_id = %s",
                s.clock.now(),
                s.ids["M1"],
            )
        assert await accept(s) is None
        await s.sell(500)
        assert await next_kind(30.0, 1.0) is None, "the clearing may still be doubled"
        assert await next_kind(30.0, 40.0) is CommandKind.TOP_UP
