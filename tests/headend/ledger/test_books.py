"""Named operations: each "no" is a value with a stable code, and books nothing."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from headend.domain.books import Booked, BooksWhy, NotBooked
from headend.domain.ledger import AccountKind
from headend.services import books
from headend.services.books import Wish
from headend.store import accounts
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop


def wish(
    shop: Shop,
    amount_fen: Any,
    *,
    transfer_id: UUID | None = None,
    approver: str | None = None,
    reason: str = "",
    operator: str = "cashier",
) -> Wish:
    return Wish(
        transfer_id=transfer_id or uuid4(),
        amount_fen=amount_fen,
        operator_id=getattr(shop, operator),
        approver_id=getattr(shop, approver) if approver else None,
        reason=reason,
    )


async def pay(shop: Shop, wanted: Wish) -> Booked | NotBooked:
    async with shop.transaction() as tx:
        return await books.payment(tx, wanted, TestClock(shop.now()), meter_id=shop.meters[0])


async def refund(shop: Shop, wanted: Wish) -> Booked | NotBooked:
    async with shop.transaction() as tx:
        return await books.refund(tx, wanted, TestClock(shop.now()), meter_id=shop.meters[0])


async def transfers(shop: Shop) -> int:
    async with shop.transaction() as tx:
        count: int = await tx.value("SELECT count(*) FROM transfer")
    return count


async def test_fifty_equal_payments_at_once_are_one(shop: Shop) -> None:
    wanted = wish(shop, 5_000)
    results = await asyncio.gather(*(pay(shop, wanted) for _ in range(50)))
    assert {result.transfer.transfer_id for result in results if isinstance(result, Booked)} == {
        wanted.transfer_id
    }
    assert await transfers(shop) == 1
    assert await shop.balance_fen(await shop.customer()) == (5_000, 5_000)


async def test_fifty_equal_refunds_at_once_are_one(shop: Shop) -> None:
    await pay(shop, wish(shop, 5_000))
    wanted = wish(shop, 5_000, reason="moved out")
    results = await asyncio.gather(*(refund(shop, wanted) for _ in range(50)))
    assert all(isinstance(result, Booked) for result in results)
    assert await shop.balance_fen(await shop.customer()) == (0, 0)


async def test_two_refunds_cannot_both_have_the_last_money(shop: Shop) -> None:
    await pay(shop, wish(shop, 5_000))
    results = await asyncio.gather(
        *(refund(shop, wish(shop, 5_000, reason="moved out")) for _ in range(2))
    )
    assert sorted(isinstance(result, Booked) for result in results) == [False, True]
    (refused,) = (result for result in results if isinstance(result, NotBooked))
    assert refused == NotBooked(BooksWhy.BALANCE_TOO_LOW, "0.00 yuan are available")


async def test_what_is_reserved_for_a_sale_is_not_paid_out(shop: Shop) -> None:
    await shop.pay(5_000)
    await shop.reserve(3_000)
    refused = await refund(shop, wish(shop, 2_001, reason="moved out"))
    assert refused == NotBooked(BooksWhy.BALANCE_TOO_LOW, "20.00 yuan are available")


async def test_an_amount_that_cannot_be_sold_is_refused(shop: Shop) -> None:
    out_of_range: list[Any] = [0, -1, -5_000, 5_000_001, 2**63, 2**200]
    for amount in [*out_of_range, 50.5, 5_000.0, "5000", True, None]:
        refused = await pay(shop, wish(shop, amount))
        assert isinstance(refused, NotBooked), amount
        assert refused.why is BooksWhy.AMOUNT_OUT_OF_RANGE
    assert await transfers(shop) == 0


async def test_who_must_agree_to_a_refund(shop: Shop) -> None:
    await pay(shop, wish(shop, 200_000))
    for amount_fen, approver, reason, why in (
        (100, None, " ", BooksWhy.REASON_NEEDED),
        (50_001, None, "moved out", BooksWhy.SECOND_PERSON_NEEDED),
        (50_001, "cashier", "moved out", BooksWhy.SAME_PERSON),
        (50_001, "twin", "moved out", BooksWhy.SAME_PERSON),
        (100, "twin", "moved out", BooksWhy.SAME_PERSON),
    ):
        result = await refund(shop, wish(shop, amount_fen, approver=approver, reason=reason))
        assert isinstance(result, NotBooked)
        assert result.why is why
    assert await transfers(shop) == 1
    for amount_fen, approver in ((50_000, None), (50_001, "manager")):
        wanted = wish(shop, amount_fen, approver=approver, reason="moved out")
        assert isinstance(await refund(shop, wanted), Booked)


async def test_an_id_is_for_one_transfer(shop: Shop) -> None:
    wanted = wish(shop, 5_000)
    first, again = await pay(shop, wanted), await pay(shop, wanted)
    assert isinstance(first, Booked)
    assert again == Booked(first.transfer, repeated=True)
    other = wish(shop, 6_000, transfer_id=wanted.transfer_id)
    refused = await pay(shop, other)
    assert isinstance(refused, NotBooked)
    assert refused.why is BooksWhy.ID_REUSED


async def test_a_payment_to_a_closed_account_is_refused(shop: Shop) -> None:
    customer = await shop.customer()
    async with shop.transaction() as tx:
        await accounts.close_account(tx, customer.account_id, shop.now())
    refused = await pay(shop, wish(shop, 5_000))
    assert isinstance(refused, NotBooked)
    assert refused.why is BooksWhy.ACCOUNT_CLOSED


async def test_money_in_the_wrong_meter_becomes_balance_of_the_right_one(shop: Shop) -> None:
    await shop.pay(5_000, meter=0)
    await shop.post(await shop.reserve(5_000, meter=0))

    async def move(amount_fen: int) -> Booked | NotBooked:
        async with shop.transaction() as tx:
            return await books.move(
                tx,
                wish(shop, amount_fen, reason="room mistyped"),
                TestClock(shop.now()),
                from_meter_id=shop.meters[0],
                to_meter_id=shop.meters[1],
            )

    refused = await move(5_001)
    assert isinstance(refused, NotBooked), "more than was ever posted to it"
    assert refused.why is BooksWhy.BALANCE_TOO_LOW
    assert isinstance(await move(5_000), Booked)
    assert await shop.balance_fen(await shop.meter_account(0)) == (0, 0)
    assert await shop.balance_fen(await shop.customer(1)) == (5_000, 5_000)


async def test_a_correction_goes_between_the_world_and_what_is_held(shop: Shop) -> None:
    customer, meter, till = await shop.customer(), await shop.meter_account(), await shop.till()

    async def correct(debit_id: int, credit_id: int) -> Booked | NotBooked:
        async with shop.transaction() as tx:
            return await books.correction(
                tx,
                wish(shop, 2_000, reason="sold by hand at the meter"),
                TestClock(shop.now()),
                debit_id=debit_id,
                credit_id=credit_id,
            )

    refused = await correct(customer.account_id, meter.account_id)
    assert isinstance(refused, NotBooked)
    assert refused.why is BooksWhy.WRONG_ACCOUNTS, "only a top-up credits a meter from a customer"
    unknown = await correct(till.account_id, 999)
    assert unknown == NotBooked(BooksWhy.NO_SUCH_ACCOUNT, "account 999")
    assert isinstance(await correct(till.account_id, meter.account_id), Booked)
    assert await shop.balance_fen(meter) == (2_000, 2_000)


async def test_a_fee_is_taken_from_the_balance(shop: Shop) -> None:
    await pay(shop, wish(shop, 5_000))
    async with shop.transaction() as tx:
        fees = await accounts.open_account(tx, AccountKind.FEE, "card fees", at=shop.now())
        taken = await books.fee(
            tx,
            wish(shop, 200),
            TestClock(shop.now()),
            meter_id=shop.meters[0],
            fee_account_id=fees.account_id,
        )
    assert isinstance(taken, Booked)
    assert await shop.balance_fen(await shop.customer()) == (4_800, 4_800)
