"""The books hold, whoever writes to them: what must not happen is refused by the database."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from headend.domain.books import FLOWS
from headend.domain.ledger import AccountKind, Operation
from headend.store import accounts, ledger
from headend.store.errors import DatabaseRefused
from headend.store.ledger import AlreadyResolved, TransferIdReused
from tests.headend.ledger.shop import Shop

# With one index named in ON CONFLICT this breaks within some rounds.
EQUAL_ROUNDS, EQUAL_AT_ONCE = 40, 8
BOOKS = ("transfer", "operation_flow", "meter_opening", "seal_entry", "day_seal")


async def test_money_waits_with_the_customer_until_the_meter_has_it(shop: Shop) -> None:
    await shop.pay(5_000)
    reserved = await shop.reserve(3_000)
    customer, meter = await shop.customer(), await shop.meter_account()
    assert await shop.balance_fen(customer) == (5_000, 2_000)
    assert await shop.balance_fen(meter) == (0, 0)
    await shop.post(reserved)
    assert await shop.balance_fen(customer) == (2_000, 2_000)
    assert await shop.balance_fen(meter) == (3_000, 3_000)
    async with shop.transaction() as tx:
        assert await accounts.balance_fen(tx, (await shop.till()).account_id) == -5_000
        assert await accounts.sum_of_balances_fen(tx) == 0


async def test_a_void_lets_the_money_go_back(shop: Shop) -> None:
    await shop.pay(5_000)
    reserved = await shop.reserve(5_000)
    async with shop.transaction() as tx:
        await ledger.void(tx, reserved.transfer_id, at=shop.now())
    assert await shop.balance_fen(await shop.customer()) == (5_000, 5_000)


async def test_a_pending_transfer_is_resolved_once(shop: Shop) -> None:
    await shop.pay(5_000)
    reserved = await shop.reserve(5_000)
    await shop.post(reserved)
    for resolve in (ledger.post, ledger.void):
        with pytest.raises(AlreadyResolved):
            async with shop.transaction() as tx:
                await resolve(tx, reserved.transfer_id, at=shop.now())
    assert await shop.balance_fen(await shop.meter_account()) == (5_000, 5_000)


async def test_a_second_resolution_under_another_id_is_refused_by_the_table(shop: Shop) -> None:
    await shop.pay(5_000)
    reserved = await shop.reserve(5_000)
    await shop.post(reserved)
    with pytest.raises(DatabaseRefused, match="a_pending_transfer_is_resolved_once"):
        await _resolve_by_hand(shop, reserved.transfer_id, "void", 5_000)


async def test_a_resolution_moves_exactly_what_was_reserved(shop: Shop) -> None:
    await shop.pay(5_000)
    reserved = await shop.reserve(5_000)
    with pytest.raises(DatabaseRefused, match="a_resolution_moves_what_was_reserved"):
        await _resolve_by_hand(shop, reserved.transfer_id, "post", 4_999)


async def test_only_a_pending_transfer_can_be_resolved(shop: Shop) -> None:
    paid = await shop.pay(5_000)
    with pytest.raises(DatabaseRefused, match="a_resolution_moves_what_was_reserved"):
        await _resolve_by_hand(shop, paid.transfer_id, "void", 5_000)


async def _resolve_by_hand(shop: Shop, pending_id: UUID, phase: str, amount_fen: int) -> None:
    async with shop.transaction() as tx:
        await tx.execute(
            "INSERT INTO transfer (transfer_id, phase, operation, debit, credit, amount_fen,"
            " pending_id, operator_id, reason, at)"
            " SELECT %s, %s, 'top_up', debit, credit, %s, transfer_id, operator_id, '', at"
            " FROM transfer WHERE transfer_id = %s",
            uuid4(),
            phase,
            amount_fen,
            pending_id,
        )


async def test_the_same_id_twice_is_one_transfer_and_never_another(shop: Shop) -> None:
    paid = await shop.pay(5_000)
    assert await shop.pay(5_000, transfer_id=paid.transfer_id) == paid
    with pytest.raises(TransferIdReused):
        await shop.pay(5_001, transfer_id=paid.transfer_id)
    assert await shop.balance_fen(await shop.customer()) == (5_000, 5_000)


async def test_fifty_at_once_spend_what_is_there_and_no_more(shop: Shop) -> None:
    await shop.pay(1_000)
    await shop.meter_account()
    results = await asyncio.gather(*(shop.reserve(100) for _ in range(50)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 40
    assert all("less than 100 fen to spend" in str(error) for error in refused)
    assert await shop.balance_fen(await shop.customer()) == (1_000, 0)


async def test_fifty_first_sales_at_once_open_one_account_each(shop: Shop) -> None:
    opened = await asyncio.gather(*(shop.meter_account() for _ in range(50)))
    assert len({account.account_id for account in opened}) == 1
    async with shop.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM account WHERE kind = 'meter'") == 1


async def test_a_closed_account_moves_no_money_and_closes_empty(shop: Shop) -> None:
    await shop.pay(100)
    customer = await shop.customer()
    with pytest.raises(DatabaseRefused, match="there is still money in it"):
        async with shop.transaction() as tx:
            await accounts.close_account(tx, customer.account_id, shop.now())
    await shop.post(await shop.reserve(100))
    async with shop.transaction() as tx:
        assert await accounts.close_account(tx, customer.account_id, shop.now())
        assert not await accounts.close_account(tx, customer.account_id, shop.now())
    assert (await shop.customer()).closed_at is not None, "a closed one is not reopened by a look"
    with pytest.raises(DatabaseRefused, match="the account is closed"):
        await shop.pay(100)


CHANGES = ("UPDATE {} SET {column} = {column}", "DELETE FROM {}", "TRUNCATE {} CASCADE")


async def test_nothing_booked_is_changed_even_by_the_owner(shop: Shop) -> None:
    for table in BOOKS:
        for change in CHANGES:
            statement = change.format(table, column=await _a_column(shop, table))
            with pytest.raises(DatabaseRefused, match="is only ever added to"):
                await _run(shop, statement)


async def test_a_session_under_grants_has_no_right_to_change(shop: Shop) -> None:
    """The triggers are switched off here: the grants stand alone."""
    for table in (*BOOKS, "command_event"):
        await _run(shop, f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for change in CHANGES:
            statement = change.format(table, column=await _a_column(shop, table))
            with pytest.raises(DatabaseRefused, match="permission denied"):
                await _under_grants(shop, statement)


async def _a_column(shop: Shop, table: str) -> str:
    async with shop.transaction() as tx:
        column: str = await tx.value(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = %s"
            " AND is_identity = 'NO' AND is_generated = 'NEVER' ORDER BY ordinal_position DESC"
            " LIMIT 1",
            table,
        )
    return column


async def _run(shop: Shop, statement: str) -> None:
    async with shop.transaction() as tx:
        await tx.connection.execute(statement.encode())


async def _under_grants(shop: Shop, statement: str) -> None:
    async with shop.transaction() as tx:
        assert await ledger.under_grants(tx)
        await tx.connection.execute(statement.encode())


async def test_a_session_under_grants_does_its_work_and_gives_the_role_back(shop: Shop) -> None:
    customer, till = await shop.customer(), await shop.till()
    async with shop.transaction() as tx:
        before = await tx.value("SELECT current_user")
        assert await ledger.under_grants(tx)
        await ledger.direct(
            tx,
            Operation.PAYMENT,
            transfer_id=uuid4(),
            debit=till.account_id,
            credit=customer.account_id,
            amount_fen=5_000,
            operator_id=shop.cashier,
            at=shop.now(),
        )
    async with shop.transaction() as tx:
        assert await tx.value("SELECT current_user") == before


async def test_the_flows_of_the_table_are_those_of_the_program(shop: Shop) -> None:
    async with shop.transaction() as tx:
        rows = await tx.rows("SELECT operation, debit_kind, credit_kind FROM operation_flow")
    assert {(Operation(o), AccountKind(d), AccountKind(c)) for o, d, c in rows} == {
        (operation, debit, credit) for operation, pairs in FLOWS.items() for debit, credit in pairs
    }


async def test_the_database_knows_who_may_move_what(shop: Shop) -> None:
    await shop.pay(100_000)
    customer, till = await shop.customer(), await shop.till()

    async def attempt(
        operation: Operation, amount_fen: int, approver: int | None, reason: str
    ) -> None:
        async with shop.transaction() as tx:
            await ledger.direct(
                tx,
                operation,
                transfer_id=uuid4(),
                debit=customer.account_id,
                credit=till.account_id,
                amount_fen=amount_fen,
                operator_id=shop.cashier,
                approver_id=approver,
                reason=reason,
                at=shop.now(),
            )

    refund, gone = Operation.REFUND, "moved out"
    for operation, amount_fen, approver, reason, refusal in (
        (refund, 50_001, None, gone, "a_second_person_approves"),
        (refund, 50_001, shop.cashier, gone, "one person"),
        (refund, 50_001, shop.twin, gone, "one person"),
        (refund, 100, None, "", "has_a_reason"),
        (refund, 0, None, gone, "1_to_5000000_fen"),
        (Operation.MOVE, 100, None, "mistyped", "never moves money from a customer"),
        (Operation.PAYMENT, 100, None, "", "never moves money from a customer"),
    ):
        with pytest.raises(DatabaseRefused, match=refusal):
            await attempt(operation, amount_fen, approver, reason)
    assert await shop.balance_fen(customer) == (100_000, 100_000)
    await attempt(refund, 40_000, None, gone)
    await attempt(refund, 50_001, shop.manager, gone)
    assert await shop.balance_fen(customer) == (9_999, 9_999)


async def test_taking_a_sale_back_has_a_reason_and_a_second_person_in_flesh(shop: Shop) -> None:
    await shop.pay(60_000)
    reserved = await shop.reserve(60_000)

    async def take_back(approver: int | None, reason: str) -> None:
        async with shop.transaction() as tx:
            await ledger.void(
                tx,
                reserved.transfer_id,
                at=shop.now(),
                operation=Operation.REVERSAL,
                operator_id=shop.cashier,
                approver_id=approver,
                reason=reason,
            )

    for approver, reason, refusal in (
        (None, "mistyped", "a_second_person_approves"),
        (shop.cashier, "mistyped", "one person"),
        (shop.twin, "mistyped", "one person"),
        (shop.manager, "", "has_a_reason"),
    ):
        with pytest.raises(DatabaseRefused, match=refusal):
            await take_back(approver, reason)
    await take_back(shop.manager, "mistyped")
    assert await shop.balance_fen(await shop.customer()) == (60_000, 60_000)


async def test_the_books_of_a_meter_begin_where_its_registers_stood(shop: Shop) -> None:
    await shop.meter_account()
    await shop.look(9, 90_000)  # too late: the first sale has fixed the opening
    await shop.meter_account()
    async with shop.transaction() as tx:
        rows = await tx.rows("SELECT purchase_count, total_purchased_fen FROM meter_opening")
    assert rows == [(3, 10_000)]


async def test_an_integrator_takes_money_through_a_channel(shop: Shop) -> None:
    async with shop.transaction() as tx:
        kiosk = await accounts.till_of(tx, shop.integrator, shop.now())
        again = await accounts.till_of(tx, shop.integrator, shop.now())
    assert kiosk.kind is AccountKind.CHANNEL
    assert again == kiosk


async def test_equal_wishes_at_once_are_one_transfer(shop: Shop) -> None:
    """None of them waits for the others before it writes, so which unique index notices an equal
    row first is the database's affair: every one of them has to be forgiven."""
    till, customer = await shop.till(), await shop.customer()

    async def pay(transfer_id: UUID, together: asyncio.Barrier) -> UUID:
        async with shop.transaction() as tx:
            await together.wait()
            booked = await ledger.direct(
                tx,
                Operation.PAYMENT,
                transfer_id=transfer_id,
                debit=till.account_id,
                credit=customer.account_id,
                amount_fen=100,
                operator_id=shop.cashier,
                at=shop.now(),
            )
        return booked.transfer_id

    for round_ in range(EQUAL_ROUNDS):
        wished, together = uuid4(), asyncio.Barrier(EQUAL_AT_ONCE)
        booked = await asyncio.gather(*(pay(wished, together) for _ in range(EQUAL_AT_ONCE)))
        assert set(booked) == {wished}, f"round {round_}"
    assert await shop.balance_fen(customer) == (100 * EQUAL_ROUNDS, 100 * EQUAL_ROUNDS)


async def test_only_an_equal_id_is_forgiven_no_other_rule(shop: Shop) -> None:
    """What is not the same wish once more is refused aloud: nothing is dropped in silence."""
    await shop.pay(5_000)
    reserved = await shop.reserve(2_000)
    await shop.post(reserved)
    for id_of_another in (reserved.transfer_id, (await shop.pay(1_000)).transfer_id):
        with pytest.raises(TransferIdReused):
            await shop.pay(3_000, transfer_id=id_of_another)
    assert await shop.balance_fen(await shop.customer()) == (4_000, 4_000)
