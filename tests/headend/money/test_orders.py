"""Which orders are taken, which are refused, and what people may do with those that exist."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from headend.domain.commands import Accepted, Command, CommandKind, CommandState, Rejected, Why
from headend.domain.ledger import SECOND_PERSON_ABOVE_FEN
from headend.domain.purchases import SaleState
from headend.services.decisions import Verdict
from headend.services.orders import ConfigureOrder, Orders, SwitchOrder, TopUpOrder
from headend.store import accounts
from headend.store.database import Database
from protocols.catalog import load_meter_types
from protocols.settings import Overdraft
from tests.headend.house import ddsy
from tests.headend.money.shop import Fate, Shop, always, shop

S = CommandState


def why(answer: Accepted | Rejected) -> Why | None:
    return answer.why if isinstance(answer, Rejected) else None


async def decide(
    s: Shop, command_id: UUID, *, carried_out: bool, **more: int
) -> Accepted | Rejected:
    async with s.database.transaction() as tx:
        return await s.decisions.decide(
            tx,
            Verdict(
                command_id=command_id,
                carried_out=carried_out,
                operator_id=s.wang,
                reason="seen on its display",
                **more,
            ),
        )


async def cancel(s: Shop, command_id: UUID, **more: int) -> Accepted | Rejected:
    async with s.database.transaction() as tx:
        return await s.decisions.cancel(
            tx, command_id, operator_id=s.li, reason="the wrong room", **more
        )


async def test_a_refused_order_books_nothing_and_says_why(
    database: Database, tmp_path: Path
) -> None:
    places = (ddsy(1), ddsy(2), ddsy(9))  # nobody answers at 9: it was never read
    async with shop(database, tmp_path, places=places) as s:
        for amount in (0, -1, 5_000_001, True, 50.0):
            assert why(await s.order(amount)) is Why.AMOUNT_OUT_OF_RANGE  # type: ignore[arg-type]
        assert why(await s.order(100, 9)) is Why.COUNT_UNKNOWN
        assert why(await s.order(100)) is Why.NOT_PAID
        s.ids["M77"] = 77
        assert why(await s.order(100, 77)) is Why.NO_SUCH_METER
        await s.sell(500)
        await s.pay(100)
        assert why(await s.order(100)) is Why.SALE_OPEN, "the money waits as balance"
        async with database.transaction() as tx:
            customer = await s.customer(tx, 2)
            await accounts.close_account(tx, customer.account_id, s.clock.now())
        assert why(await s.order(100, 2)) is Why.ACCOUNT_CLOSED
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM command") == 1
            assert await tx.value("SELECT count(*) FROM sale") == 1
        assert await s.books() == (0, 100, 500)


async def test_the_same_id_is_one_order_and_never_another(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.pay(1_000)
        await s.pay(1_000, 2)
        same = uuid4()
        answers = await asyncio.gather(*(s.order(500, command_id=same) for _ in range(50)))
        assert sum(isinstance(a, Accepted) and not a.repeated for a in answers) == 1
        assert sum(isinstance(a, Accepted) and a.repeated for a in answers) == 49
        assert why(await s.order(501, command_id=same)) is Why.ID_REUSED
        assert why(await s.order(500, 2, command_id=same)) is Why.ID_REUSED
        assert await s.books() == (0, 500, 500)


async def test_two_clerks_at_once_sell_to_a_meter_once(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.pay(10_000)
        answers = await asyncio.gather(*(s.order(500) for _ in range(20)))
        assert sum(isinstance(a, Accepted) for a in answers) == 1
        assert {why(a) for a in answers} == {None, Why.SALE_OPEN}
        assert await s.books() == (0, 9_500, 500)


async def test_a_setting_the_meter_type_lacks_is_refused(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        ddsy_type = replace(load_meter_types()["acrel_ddsy1352"], writes=frozenset())
        orders = Orders(s.clock, {ddsy_type.name: ddsy_type})
        order = ConfigureOrder(
            command_id=uuid4(),
            meter_id=s.ids["M1"],
            setting=Overdraft(overdraft_fen=1_000),
            operator_id=s.li,
            reason="credit agreed",
        )
        async with database.transaction() as tx:
            assert why(await orders.configure(tx, order)) is Why.METER_HAS_NO_SUCH_WRITE


async def test_who_asks_for_a_switch_does_not_approve_it(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s, database.transaction() as tx:
        order = SwitchOrder(
            command_id=uuid4(),
            meter_id=s.ids["M1"],
            kind=CommandKind.CUT,
            operator_id=s.li,
            approver_id=s.li,
            reason="overdue",
        )
        assert why(await s.orders.switch(tx, order)) is Why.SAME_PERSON


async def test_an_order_that_waits_is_taken_back_with_its_money(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        command_id = await s.sell(500)
        assert isinstance(await cancel(s, command_id), Accepted)
        command = await s.command(command_id)
        assert command.state is S.CANCELLED
        assert (await s.sale(command)).state is SaleState.REVERSED
        assert await s.books() == (0, 500, 0)
        again = await cancel(s, command_id)
        assert isinstance(again, Accepted)
        assert again.repeated
        await s.open_sender()
        accepted = await s.order(400)
        assert isinstance(accepted, Accepted)
        landed = await s.reaches(accepted.command.command_id, S.CONFIRMED)
        assert landed.purchase_count == command.purchase_count, "its number was free again"
        assert s.credited() == [400]
        assert why(await cancel(s, landed.command_id)) is Why.NOT_NOW
        assert why(await cancel(s, uuid4())) is Why.NO_SUCH_COMMAND


async def _another_account_of(database: Database, operator_id: int) -> int:
    async with database.transaction() as tx:
        number: int = await tx.value(
            "INSERT INTO operator (name, person, role, all_sites, created_at)"
            " SELECT name || ' at home', person, role, all_sites, now() FROM operator"
            " WHERE operator_id = %s RETURNING operator_id",
            operator_id,
        )
    return number


async def test_two_accounts_of_one_person_are_no_second_person(
    database: Database, tmp_path: Path
) -> None:
    """Neither for a sale whose money goes back at once nor for one that is burned first: there no
    transfer carries the approver, so that the books could not refuse."""
    async with shop(database, tmp_path) as s:
        waits = await s.sell(SECOND_PERSON_ABOVE_FEN + 1)
        at_home = await _another_account_of(database, s.li)
        assert why(await cancel(s, waits, approver_id=at_home)) is Why.SAME_PERSON
        order = SwitchOrder(
            command_id=uuid4(),
            meter_id=s.ids["M1"],
            kind=CommandKind.CUT,
            operator_id=s.li,
            approver_id=at_home,
            reason="overdue",
        )
        async with database.transaction() as tx:
            assert why(await s.orders.switch(tx, order)) is Why.SAME_PERSON
        assert isinstance(await cancel(s, waits, approver_id=s.wang), Accepted)
        s.bus.script = always(Fate.IGNORE, write=True)
        await s.open_sender()
        accepted = await s.order(SECOND_PERSON_ABOVE_FEN + 1)
        assert isinstance(accepted, Accepted)
        left = accepted.command.command_id
        await s.reaches(left, S.ESCALATED)
        decider_at_home = await _another_account_of(database, s.wang)
        answer = await decide(s, left, carried_out=False, approver_id=decider_at_home)
        assert why(answer) is Why.SAME_PERSON
        assert (await s.command(left)).state is S.ESCALATED


async def test_much_money_is_taken_back_by_two(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        command_id = await s.sell(SECOND_PERSON_ABOVE_FEN + 1)
        assert why(await cancel(s, command_id)) is Why.SECOND_PERSON_NEEDED
        assert why(await cancel(s, command_id, approver_id=s.li)) is Why.SAME_PERSON
        assert isinstance(await cancel(s, command_id, approver_id=s.wang), Accepted)
        assert await s.books() == (0, SECOND_PERSON_ABOVE_FEN + 1, 0)


async def half_sent(s: Shop, amount_fen: int) -> Command:
    """A sale of which a copy left, proved not to have arrived, waiting for its next try."""
    s.bus.script = always(Fate.LOSE, write=True)
    await s.open_sender()
    command_id = await s.sell(amount_fen)
    await s.reaches(command_id, S.UNKNOWN)
    await s.kill_sender()
    async with s.database.transaction() as tx:
        await tx.execute(
            "UPDATE attempt SET ended_at = now(), outcome = 'not_applied' WHERE command_id = %s",
            command_id,
        )
        await tx.execute(
            "UPDATE command SET state = 'queued', look_again_at = NULL WHERE command_id = %s",
            command_id,
        )
    s.bus.script = None
    return await s.command(command_id)


@pytest.mark.parametrize("by_clock", [True, False])
async def test_a_sale_that_may_still_land_is_burned_before_its_money_goes_back(
    database: Database, tmp_path: Path, by_clock: bool
) -> None:
    async with shop(database, tmp_path) as s:
        command = await half_sent(s, 500)
        if by_clock:
            s.later(days=8)
            async with database.transaction() as tx:
                await s.decisions.expire_due(tx)
        else:
            await cancel(s, command.command_id)
        ended = await s.command(command.command_id)
        assert ended.state is (S.EXPIRED if by_clock else S.CANCELLED)
        assert await s.books() == (0, 0, 500), "not yet"
        await s.pay(100)
        assert why(await s.order(100)) is Why.SALE_OPEN
        burn = await s.follower(command.command_id, CommandKind.BURN)
        assert burn is not None
        await s.open_sender()
        await s.reaches(burn.command_id, S.CONFIRMED)
        assert s.credited() == [0], "the number is used up, and nothing came with it"
        assert (await s.sale(command)).state is SaleState.BURNED
        assert await s.books() == (0, 600, 0)
        accepted = await s.order(300)
        assert isinstance(accepted, Accepted)
        landed = await s.reaches(accepted.command.command_id, S.CONFIRMED)
        assert landed.purchase_count == (command.purchase_count or 0) + 1


async def test_a_burn_that_comes_too_late_finds_the_credit_and_keeps_it(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        command = await half_sent(s, 500)
        await cancel(s, command.command_id)
        assert command.purchase_count is not None
        s.meter().purchase(500, command.purchase_count)  # the copy lands after all
        await s.open_sender()
        burn = await s.follower(command.command_id, CommandKind.BURN)
        assert burn is not None
        await s.reaches(burn.command_id, S.REFUSED)
        assert s.credited() == [500]
        assert (await s.sale(command)).state is SaleState.LANDED
        assert await s.books() == (500, 0, 0), "electricity or money, never both"


async def test_a_late_copy_is_found_by_the_next_try(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        command = await half_sent(s, 500)
        assert command.purchase_count is not None
        s.meter().purchase(500, command.purchase_count)
        s.bus.heard.clear()
        await s.open_sender()
        await s.reaches(command.command_id, S.CONFIRMED)
        assert s.bus.writes() == []
        assert await s.books() == (500, 0, 0)


async def test_a_person_ends_what_the_evidence_left_open(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        meter = s.meter()
        meter.purchase(3_300, meter.purchase_count + 1)
        await s.open_sender()
        command_id = await s.sell(500)
        assert why(await decide(s, uuid4(), carried_out=False)) is Why.NO_SUCH_COMMAND
        command = await s.reaches(command_id, S.ESCALATED)
        assert isinstance(await decide(s, command_id, carried_out=False), Accepted)
        assert (await s.command(command_id)).state is S.REFUSED
        assert (await s.sale(command)).state is SaleState.REVERSED, "no copy of it ever left"
        assert await s.books() == (0, 500, 0)
        assert why(await decide(s, command_id, carried_out=True)) is Why.NOT_NOW
        assert why(await s.order(500)) is Why.SALES_FROZEN
        async with database.transaction() as tx:
            assert await s.decisions.thaw(
                tx,
                s.ids["M1"],
                operator_id=s.wang,
                reason="a card of the old system",
                count_agreed=meter.purchase_count,
            )
        accepted = await s.order(500)
        assert isinstance(accepted, Accepted)
        await s.reaches(accepted.command.command_id, S.CONFIRMED)
        assert s.credited() == [3_300, 500]


async def test_a_person_who_saw_the_credit_posts_it(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = always(Fate.IGNORE, write=True)
        await s.open_sender()
        command_id = await s.sell(SECOND_PERSON_ABOVE_FEN + 1)
        await s.reaches(command_id, S.ESCALATED)
        answer = await decide(s, command_id, carried_out=True)
        assert why(answer) is Why.SECOND_PERSON_NEEDED
        answer = await decide(s, command_id, carried_out=True, approver_id=s.li)
        assert isinstance(answer, Accepted)
        assert answer.command.state is S.CONFIRMED
        assert await s.books() == (SECOND_PERSON_ABOVE_FEN + 1, 0, 0)


async def test_the_order_and_its_money_are_one_transaction(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.pay(500)

        async def sold_and_then_a_fault() -> None:
            order = TopUpOrder(
                command_id=uuid4(), meter_id=s.ids["M1"], amount_fen=500, operator_id=s.li
            )
            async with database.transaction() as tx:
                assert isinstance(await s.orders.top_up(tx, order), Accepted)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await sold_and_then_a_fault()
        assert await s.books() == (0, 500, 0)
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM sale") == 0


async def test_a_count_in_doubt_is_agreed_by_a_person(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await s.reaches(await s.sell(500), S.CONFIRMED)
        meter = s.meter()
        meter.purchase(3_300, meter.purchase_count + 1)
        await s.read_once()  # the night sees it before any order does
        await s.pay(700)
        assert why(await s.order(700)) is Why.SALES_FROZEN
        async with database.transaction() as tx:
            assert not await s.decisions.thaw(
                tx,
                s.ids["M1"],
                operator_id=s.wang,
                reason="a card of the old system",
                count_agreed=meter.purchase_count,
            )
        accepted = await s.order(700)
        assert isinstance(accepted, Accepted)
        await s.reaches(accepted.command.command_id, S.CONFIRMED)
        assert s.credited() == [500, 3_300, 700]
