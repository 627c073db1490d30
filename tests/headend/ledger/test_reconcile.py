"""Meters against books over real tables: what differs is kept, freezes sales, and ends."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from headend.domain.alarms import AlarmKind
from headend.domain.books import Asker, BooksWhy
from headend.domain.purchases import SaleState
from headend.domain.reconciliation import DifferenceKind
from headend.services.reconcile import Reconciliation, accept_meter, reconcile_all
from headend.store import alarms, ledger, reconcile, sales
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop

D = DifferenceKind


async def sell(shop: Shop, count: int, amount_fen: int, meter: int = 0) -> UUID:
    """An open sale with its money reserved."""
    await shop.pay(amount_fen, meter)
    sale_id = uuid4()
    async with shop.transaction() as tx:
        await sales.open_sale(
            tx,
            sale_id=sale_id,
            meter_id=shop.meters[meter],
            purchase_count=count,
            amount_fen=amount_fen,
            channel="remote",
            at=shop.now(),
        )
    await shop.reserve(amount_fen, meter, sale_id)
    return sale_id


async def end(shop: Shop, sale_id: UUID, state: SaleState) -> datetime:
    """The sale landed, or did not; its money follows."""
    at = shop.now()
    async with shop.transaction() as tx:
        reserved = await ledger.pending_of_sale(tx, sale_id)
        assert reserved is not None
        if state is SaleState.LANDED:
            await ledger.post(tx, reserved.transfer_id, at=at)
        else:
            await ledger.void(tx, reserved.transfer_id, at=at)
        await sales.close(tx, sale_id, state, at)
    return at


async def compare(shop: Shop) -> Reconciliation:
    return await reconcile_all(shop.database, TestClock(shop.now()))


async def kinds(shop: Shop) -> dict[int, DifferenceKind]:
    return {meter: found.kind for meter, found in (await compare(shop)).differences.items()}


async def frozen(shop: Shop, meter: int = 0) -> str | None:
    async with shop.transaction() as tx:
        freeze = await sales.frozen(tx, shop.meters[meter])
    return freeze.reason if freeze else None


async def test_a_day_of_honest_sales_agrees_at_every_moment(shop: Shop) -> None:
    first = await sell(shop, 4, 5_000)
    assert await kinds(shop) == {}, "sold, not landed"
    await shop.look(4, 15_000)
    assert await kinds(shop) == {shop.meters[0]: D.IN_FLIGHT}, "landed, not proved"
    assert await frozen(shop) is None
    await end(shop, first, SaleState.LANDED)
    assert await kinds(shop) == {}, "proved; the look is older than the posting"
    await shop.look(4, 15_000)
    burned = await sell(shop, 5, 7_000)
    await end(shop, burned, SaleState.BURNED)
    assert await kinds(shop) == {}
    await shop.look(5, 15_000)
    assert await kinds(shop) == {}, "a burned count is used, its amount never came"
    late = await sell(shop, 6, 2_000)
    await shop.look(5, 15_000)
    await end(shop, late, SaleState.LANDED)
    assert await kinds(shop) == {}, "the look was before it landed"
    await shop.look(6, 17_000)
    assert await kinds(shop) == {}
    taken_back = await sell(shop, 7, 1_000)
    await end(shop, taken_back, SaleState.REVERSED)
    result = await compare(shop)
    assert (result.meters, result.agree, result.unread) == (1, 1, 0)


async def test_a_meter_ahead_freezes_its_sales_and_raises_one_alarm(shop: Shop) -> None:
    await shop.meter_account()
    await shop.look(4, 12_000)
    assert await kinds(shop) == {shop.meters[0]: D.FOREIGN_PURCHASE}
    assert "+1 purchases and +20.00 yuan" in (await frozen(shop) or "")
    assert await kinds(shop) == {shop.meters[0]: D.FOREIGN_PURCHASE}
    async with shop.transaction() as tx:
        (alarm,) = await alarms.standing(tx)
        (difference,) = await reconcile.open_differences(tx)
    assert (alarm.code, alarm.meter_id) == ("meter-and-books-differ", shop.meters[0])
    assert (difference.ahead_count, difference.ahead_fen) == (1, 2_000)
    assert difference.last_seen_at > difference.first_seen_at
    assert await frozen(shop, meter=1) is None


async def test_money_for_one_meter_that_landed_in_another_is_named(shop: Shop) -> None:
    meant = await sell(shop, 4, 5_000, meter=0)
    await shop.meter_account(1)
    await end(shop, meant, SaleState.LANDED)
    await shop.look(3, 10_000, meter=0)
    await shop.look(4, 15_000, meter=1)
    assert await kinds(shop) == dict.fromkeys(shop.meters, D.WRONG_METER)
    assert await frozen(shop, 0)
    assert await frozen(shop, 1)


async def test_a_cleared_meter_and_one_that_forgot(shop: Shop) -> None:
    for meter in (0, 1):
        await end(shop, await sell(shop, 4, 5_000, meter), SaleState.LANDED)
    await shop.look(0, 0, meter=0)
    await shop.look(3, 10_000, meter=1)
    assert await kinds(shop) == {shop.meters[0]: D.RESET, shop.meters[1]: D.ROLLBACK}


async def test_a_difference_ends_when_the_meter_agrees_again(shop: Shop) -> None:
    sale = await sell(shop, 4, 5_000)
    await shop.look(4, 15_000)
    await compare(shop)
    await end(shop, sale, SaleState.LANDED)
    await shop.look(4, 15_000)
    await compare(shop)
    async with shop.transaction() as tx:
        assert await reconcile.open_differences(tx) == []
        (past,) = await reconcile.differences_of_meter(tx, shop.meters[0])
    assert past.closed_by is None
    assert past.closed_reason == "meter and books agree again"


async def test_a_person_accepts_what_the_meter_shows(shop: Shop) -> None:
    await shop.meter_account()
    await shop.look(4, 10_000 + 60_000)
    await compare(shop)
    asked, manager = Asker(shop.cashier, "Li Na"), Asker(shop.manager, "Wang Wei")
    twin = Asker(shop.twin, "Li Na")

    async def accept(approved_by: Asker | None, reason: str = "sold by hand at 9") -> object:
        async with shop.transaction() as tx:
            return await accept_meter(
                tx,
                shop.meters[0],
                TestClock(shop.now()),
                asked_by=asked,
                approved_by=approved_by,
                reason=reason,
            )

    for approved_by, reason, why in (
        (None, "", BooksWhy.REASON_NEEDED),
        (None, "sold by hand", BooksWhy.SECOND_PERSON_NEEDED),
        (twin, "sold by hand", BooksWhy.SAME_PERSON),
    ):
        refused = await accept(approved_by, reason)
        assert getattr(refused, "why", None) is why
        assert await frozen(shop)
    assert await accept(manager) is None
    assert await frozen(shop) is None
    assert await kinds(shop) == {}
    async with shop.transaction() as tx:
        assert await alarms.standing(tx) == []
        (past,) = await reconcile.differences_of_meter(tx, shop.meters[0])
    assert past.closed_by == shop.cashier
    await end(shop, await sell(shop, 5, 5_000), SaleState.LANDED)
    await shop.look(5, 10_000 + 60_000 + 5_000)
    assert await kinds(shop) == {}, "the books go on from the new opening"


async def test_nothing_is_accepted_while_a_sale_may_be_in_the_look(shop: Shop) -> None:
    await sell(shop, 4, 5_000)
    await shop.look(5, 99_000)
    await compare(shop)
    async with shop.transaction() as tx:
        refused = await accept_meter(
            tx,
            shop.meters[0],
            TestClock(shop.now()),
            asked_by=Asker(shop.cashier, "Li Na"),
            approved_by=Asker(shop.manager, "Wang Wei"),
            reason="looks right",
        )
    assert refused is not None
    assert refused.why is BooksWhy.SALE_OPEN
    assert await frozen(shop)


async def test_a_meter_that_shows_no_purchases_is_counted_as_unread(shop: Shop) -> None:
    await shop.meter_account()
    await shop.look(None, None)
    result = await compare(shop)
    assert (result.meters, result.agree, result.unread) == (1, 0, 1)


async def test_an_alarm_of_no_meter_is_raised_once_too(shop: Shop) -> None:
    async with shop.transaction() as tx:
        assert await alarms.raise_alarm(tx, AlarmKind.CLOCK_WRONG, None, "61 s", shop.now())
        assert not await alarms.raise_alarm(tx, AlarmKind.CLOCK_WRONG, None, "62 s", shop.now())
        assert await alarms.clear_alarm(tx, AlarmKind.CLOCK_WRONG, None, shop.now())
        assert await alarms.raise_alarm(tx, AlarmKind.CLOCK_WRONG, None, "63 s", shop.now())
