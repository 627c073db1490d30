"""Money in the platform from end to end: billed, warned, cut at zero, paid, light on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from headend.domain.alarms import AlarmKind
from headend.domain.commands import CommandKind, CommandState, Rejected, Why
from headend.domain.ledger import Operation
from headend.domain.roles import Role
from headend.domain.tariffs import Rate, Terms
from headend.services import platform_money
from headend.services.books import Wish
from headend.services.orders import TopUpOrder
from headend.services.platform_money import (
    WARNED_BEFORE,
    ModeWish,
    Paid,
    look,
    pay,
    set_mode,
)
from headend.services.restore_clock import restore_clocks
from headend.store import (
    accounts,
    alarms,
    bulk,
    charges,
    commands,
    ledger,
    money_modes,
    tariff_places,
    tariffs,
)
from headend.store.database import Transaction
from tests.web.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def number(shop: Shop, meter: str = "M1") -> int:
    return shop.services.lines.find_meter(meter).known.meter_id


async def into_the_platform(shop: Shop, meter: str = "M1") -> None:
    """Whatever the simulated meter still had was used up before."""
    meter_id = await number(shop, meter)
    async with shop.services.database.transaction() as tx:
        await tx.execute(
            "UPDATE meter_last SET remaining_credit_fen = 0 WHERE meter_id = %s", meter_id
        )
        done = await set_mode(
            tx,
            shop.services.orders,
            ModeWish(
                meter_id=meter_id, platform=True, operator_id=shop.numbers[Role.MANAGER],
                approver_id=None, reason="test", command_id=uuid4(),
            ),
            shop.services.clock.now(),
        )  # fmt: skip
        assert done is None


async def at_rest(shop: Shop, meter_id: int) -> None:
    """No order of it is under way: one would spare it from a cut."""
    async with asyncio.timeout(60):
        while True:
            async with shop.services.database.transaction() as tx:
                given = await commands.listing(tx, meter_ids=[meter_id])
            if all(one.state is CommandState.CONFIRMED for one in given):
                return
            await asyncio.sleep(0.05)


async def paid(shop: Shop, fen: int, meter: str = "M1") -> Paid:
    async with shop.services.database.transaction() as tx:
        done = await pay(
            tx,
            Wish(transfer_id=uuid4(), amount_fen=fen, operator_id=shop.numbers[Role.CASHIER]),
            shop.services.clock,
            meter_id=await number(shop, meter),
        )
    assert isinstance(done, Paid)
    return done


async def warned(tx: Transaction, meter_id: int) -> bool:
    """Whether the customer counts as warned that little is left."""
    found: bool = await tx.value(
        "SELECT warned_at IS NOT NULL FROM platform_meter WHERE meter_id = %s", meter_id
    )
    return found


async def owes(tx: Transaction, shop: Shop, meter_id: int, fen: int) -> None:
    """Energy of so many fen was used; the books know no other way below zero."""
    site_id = await tx.value("SELECT site_id FROM meter WHERE meter_id = %s", meter_id)
    now = shop.services.clock.now()
    customer = await accounts.customer_of_meter(tx, meter_id, now)
    await ledger.direct(
        tx, Operation.CHARGE, transfer_id=uuid4(), debit=customer.account_id,
        credit=await charges.energy_account(tx, site_id, now), amount_fen=fen,
        operator_id=shop.numbers[Role.MANAGER], at=now, reason="test",
    )  # fmt: skip


async def ended(shop: Shop, command_id: object) -> CommandState:
    async with asyncio.timeout(60):
        while True:
            async with shop.services.database.transaction() as tx:
                found = await commands.find(tx, command_id)  # type: ignore[arg-type]
            assert found is not None
            if found.state in (CommandState.CONFIRMED, CommandState.REFUSED):
                return found.state
            await asyncio.sleep(0.1)


async def test_warned_then_cut_at_zero_then_light_with_the_payment(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_money, "LOOK_S", 3600.0)  # this test looks by itself
    async with open_shop(dsn, tmp_path) as shop:
        services, meter_id = shop.services, await number(shop)
        await into_the_platform(shop)
        await at_rest(shop, meter_id)
        await paid(shop, 500)
        now = services.clock.now()
        async with services.database.transaction() as tx:
            await owes(tx, shop, meter_id, 500)
            await look(tx, services.orders, now)
            assert await warned(tx, meter_id)
            assert await commands.listing(tx, kinds={CommandKind.CUT}) == [], "told first"
        async with services.database.transaction() as tx:
            await look(tx, services.orders, now + WARNED_BEFORE / 2)
            assert await commands.listing(tx, kinds={CommandKind.CUT}) == [], "an hour to pay"
        async with services.database.transaction() as tx:
            await look(tx, services.orders, now + WARNED_BEFORE + timedelta(minutes=1))
            (cut,) = await commands.listing(tx, kinds={CommandKind.CUT})
        assert await ended(shop, cut.command_id) is CommandState.CONFIRMED
        assert not shop.meter(1).look().relay_closed, "the witness is dark"
        done = await paid(shop, 5_000)
        assert (done.balance_fen, done.restore_id is not None) == (5_000, True)
        async with services.database.transaction() as tx:
            (clock,) = await restore_clocks(tx, services.clock.now())
        assert (clock.chain.amount_fen, clock.stage) == (5_000, "in_meter")
        assert clock.chain.command_id == done.restore_id
        async with services.database.transaction() as tx:
            # The relay may not move within ten minutes; the test does not wait for them.
            await tx.execute(
                "UPDATE command SET not_before = ordered_at WHERE command_id = %s", done.restore_id
            )
            await look(tx, services.orders, services.clock.now())
            assert not await warned(tx, meter_id)


async def test_nothing_is_put_into_a_platform_meter_and_a_payment_is_one(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        services, meter_id = shop.services, await number(shop)
        await into_the_platform(shop)
        await at_rest(shop, meter_id)
        async with services.database.transaction() as tx:
            answer = await services.orders.top_up(
                tx,
                TopUpOrder(command_id=uuid4(), meter_id=meter_id, amount_fen=100,
                           operator_id=shop.numbers[Role.CASHIER]),
            )  # fmt: skip
        assert answer == Rejected(Why.PLATFORM_MONEY)
        wish = Wish(transfer_id=uuid4(), amount_fen=700, operator_id=shop.numbers[Role.CASHIER])

        async def once() -> object:
            async with services.database.transaction() as tx:
                return await pay(tx, wish, services.clock, meter_id=meter_id)

        answers = await asyncio.gather(*(once() for _ in range(5)))
        assert {one.balance_fen for one in answers if isinstance(one, Paid)} == {700}
        assert await shop.booked() == 1


async def test_many_at_zero_are_a_list_for_a_person(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_money, "LOOK_S", 3600.0)
    monkeypatch.setattr(platform_money, "CUTS_ALONE", 1)
    async with open_shop(dsn, tmp_path) as shop:
        services = shop.services
        later = services.clock.now() + WARNED_BEFORE + timedelta(minutes=1)
        async with services.database.transaction() as tx:
            for meter in ("M1", "M2"):
                await owes(tx, shop, await number(shop, meter), 100)
        for meter in ("M1", "M2"):
            await into_the_platform(shop, meter)
        async with asyncio.timeout(60):
            while True:  # until the orders that turn the meters' own accounts off have ended
                async with services.database.transaction() as tx:
                    if not await tx.value("SELECT count(*) FROM command WHERE state IN"
                                          " ('queued', 'claimed', 'sent')"):  # fmt: skip
                        break
                await asyncio.sleep(0.1)
        async with services.database.transaction() as tx:
            await look(tx, services.orders, services.clock.now())
        for _ in range(2):
            async with services.database.transaction() as tx:
                await look(tx, services.orders, later)
        async with services.database.transaction() as tx:
            (job,) = await bulk.list_jobs(tx, limit=5)
            assert await commands.listing(tx, kinds={CommandKind.CUT}) == []
            assert [
                a for a in await alarms.standing(tx) if a.code == AlarmKind.PLATFORM_CUTS_WAIT.value
            ]
        assert (job.state.value, job.damage.meters) == ("planned", 2)


async def test_a_meter_with_money_or_without_a_reading_stays_as_it_is(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        for meter, why in (("M1", "money-in-meter"), ("M4", "not-read-lately")):
            async with shop.services.database.transaction() as tx:
                refused = await set_mode(
                    tx, shop.services.orders,
                    ModeWish(
                        meter_id=await number(shop, meter), platform=True, approver_id=None,
                        operator_id=shop.numbers[Role.MANAGER], reason="r", command_id=uuid4(),
                    ),
                    shop.services.clock.now(),
                )  # fmt: skip
            assert refused is not None
            assert refused[0] == why


async def priced(shop: Shop) -> None:
    """A tariff for the whole property since yesterday."""
    at, by = shop.services.clock.now(), shop.numbers[Role.MANAGER]
    since = at.date() - timedelta(days=1)
    site = shop.services.lines.sites["court"].site_id
    async with shop.services.database.transaction() as tx:
        made = await tariffs.add(tx, "flat", site_id=None, by=by, at=at)
        assert made is not None
        terms = Terms(prices_x4={Rate.FLAT: 6000})
        kept = await tariffs.keep_draft(tx, made.tariff_id, terms, note="", by=by, at=at, edits=0)
        assert kept is not None
        await tariffs.publish(
            tx, kept, valid_from=since, by=by, at=at, needs_second=False, approver=None
        )
        await tariff_places.assign(
            tx, made.tariff_id, "site", site, from_day=since, reason="test", by=by, at=at
        )


async def test_leaving_the_platform_reads_the_meter_first(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await priced(shop)
        await into_the_platform(shop)
        manager = await shop.browser(Role.MANAGER)
        typed = {"mode": "meter", "mode_reason": "test"}
        async with shop.services.database.transaction() as tx:
            # As if the anchor were of this morning: only a look of now ends the bill.
            await tx.execute("UPDATE reading SET at = at - interval '5 hours'")
            before = await charges.last_point(tx, await number(shop))
        shop.served.wire.line.bus.units.pop(2)
        done = await manager.post("/meters/M1/bill/mode", **typed, command_id=str(uuid4()))
        assert done.status_code == 303, done.text
        async with shop.services.database.transaction() as tx:
            after = await charges.last_point(tx, await number(shop))
            assert before is not None
            assert after is not None
            assert after.at - before.at > timedelta(hours=4), "read for the purpose"

        await into_the_platform_now(shop, "M2")
        silent = await manager.post("/meters/M2/bill/mode", **typed, command_id=str(uuid4()))
        assert silent.status_code == 422
        assert "read it, then change" in silent.text


async def into_the_platform_now(shop: Shop, meter: str) -> None:
    """In the platform by its books, its last reading of five hours ago."""
    async with shop.services.database.transaction() as tx:
        at = shop.services.clock.now()
        point = await charges.last_point(tx, await number(shop, meter))
        assert point is not None
        await money_modes.set_mode(
            tx, await number(shop, meter), anchor=point,
            anchor_day=at.date() - timedelta(days=1), at=at, by=shop.numbers[Role.MANAGER],
            approver=None, reason="test",
        )  # fmt: skip
