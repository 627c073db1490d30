"""Opening, transfer, closure, exchange over simulated meters: the meter and the books agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import pytest

from headend.domain.cases import Case, CaseKind, CaseWhy, Seen, Step, Stopped
from headend.domain.commands import Rejected, Why
from headend.services import account_ending, account_opening, case_work, meter_exchange, reconcile
from headend.services.account_ending import Confirmation, Credit
from headend.services.account_opening import Opening
from headend.services.case_keeper import CaseKeeper
from headend.services.case_work import CannotLook
from headend.services.looks import Missed
from headend.services.meter_exchange import Device
from headend.store import account_cases
from headend.store.account_rules import Rules
from headend.store.database import Transaction
from headend.store.errors import DatabaseRefused
from tests.headend.accounts.office import LI, OPENING, ZHANG, Office, office


async def ending(o: Office, kind: CaseKind, *, approved: bool = False, name: str = "M1") -> Case:
    case = await case_work.begin_looked(
        o.services, o.at_work(name), kind, o.asked(approved=approved)
    )
    assert isinstance(case, Case), case
    return case


async def confirmation(o: Office, case: Case, *, approved: bool = False) -> Confirmation:
    async with o.services.database.transaction() as tx:
        plan = await account_ending.plan_of(tx, case)
    return Confirmation(
        asked=o.asked(approved=approved, case_id=case.case_id),
        credit_fen_shown=plan.credit_fen,
        balance_fen_shown=plan.balance_fen,
    )


def empty(o: Office, unit: int = 1) -> None:
    """A device from the shelf: nothing was ever bought with it."""
    device = o.device(unit)
    device.purchase_count = device.total_purchased_fen = 0
    device.credited_fen = device.spent_fen_w_ms = 0


async def agrees(o: Office) -> None:
    """The meters show what the books say, and nothing was made or lost."""
    for name in ("M1", "M2"):
        await o.services.nights.read_now(o.at_work(name))
    await o.services.sink.flush()
    found = await reconcile.reconcile_all(o.services.database, o.services.clock)
    assert found.differences == {}
    await o.sound()


async def test_opening_takes_fee_and_credit_and_the_meter_proves_it(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as o:
        await o.rules(Rules(opening_fee_fen=1000))
        wish = Opening(asked=o.asked(), person=ZHANG, amount_fen=5000)
        first = await account_opening.open_account(o.services, o.at_work(), wish)
        again = await account_opening.open_account(o.services, o.at_work(), wish)
        assert isinstance(first, Case)
        assert isinstance(again, Case)
        assert first.case_id == again.case_id
        await o.reaches(first.case_id, Step.DONE)
        assert [sale.amount_fen for sale in o.device().applied] == [5000]
        assert await o.till_fen() == 6000
        mine = await o.customer()
        assert mine is not None
        assert mine.customer_no == "100001"
        second = await account_opening.open_account(
            o.services, o.at_work(), Opening(asked=o.asked(), person=LI)
        )
        assert isinstance(second, Stopped)
        assert second.why is CaseWhy.HAS_CUSTOMER
        more = Opening(asked=o.asked(), customer_no="100001", amount_fen=700)
        other = await account_opening.open_account(o.services, o.at_work("M2"), more)
        assert isinstance(other, Case)
        await o.reaches(other.case_id, Step.DONE)
        assert [sale.amount_fen for sale in o.device(2).applied] == [700], "one account, two meters"
        await agrees(o)


async def test_opening_a_meter_by_its_own_order_begins_its_counts_anew(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as o:
        await o.rules(Rules(opening=OPENING))
        empty(o)
        wish = Opening(asked=o.asked(), person=ZHANG, amount_fen=5000, open_meter=True)
        case = await account_opening.open_account(o.services, o.at_work(), wish)
        assert isinstance(case, Case), case
        assert case.step is Step.ORDERED
        done = await o.reaches(case.case_id, Step.DONE)
        assert done.note == ""
        assert o.device().purchase_count == 1
        async with o.services.database.transaction() as tx:
            assert await tx.value("SELECT meter_epoch(%s)", case.meter_id) == 1
        await agrees(o)


async def test_closing_pays_out_what_the_meter_showed_when_it_was_cleared(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as o:
        await o.opened(fen=5000)
        before_fen = o.device().remaining_fen
        case = await ending(o, CaseKind.CLOSURE, approved=True)
        sale = await account_opening.open_account(
            o.services, o.at_work(), Opening(asked=o.asked(), person=LI)
        )
        assert isinstance(sale, Stopped)
        assert sale.why is CaseWhy.CASE_OPEN
        given = await confirmation(o, case)
        stale = replace(given, credit_fen_shown=given.credit_fen_shown + 1)
        changed = await account_ending.confirm(o.services, o.at_work(), stale)
        assert isinstance(changed, Stopped)
        assert changed.why is CaseWhy.CHANGED
        for _ in range(2):
            confirmed = await account_ending.confirm(o.services, o.at_work(), given)
            assert isinstance(confirmed, Case), confirmed
        done = await o.reaches(case.case_id, Step.DONE)
        assert o.device().remaining_fen == 0
        assert done.facts["refund_fen"] == done.facts["credit_fen"] <= before_fen
        assert await o.till_fen() == 5000 - done.facts["refund_fen"]
        assert await o.customer() is None
        await o.sound()


async def test_a_transfer_settles_to_the_fen_and_a_new_tenant_has_the_meter(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as o:
        await o.opened(fen=5000)
        case = await ending(o, CaseKind.TRANSFER, approved=True)
        credit_fen = Seen.from_record(case.facts["look"]).credit_fen
        assert credit_fen is not None
        given = replace(await confirmation(o, case), credit=Credit.SETTLED, person=LI)
        done = await account_ending.confirm(o.services, o.at_work(), given)
        assert isinstance(done, Case), done
        assert done.step is Step.DONE
        assert (done.facts["refund_fen"], done.facts["paid_in_fen"]) == (credit_fen, credit_fen)
        assert await o.till_fen() == 5000, "paid out and paid in: the same"
        mine = await o.customer()
        assert mine is not None
        assert mine.person == LI
        await o.sold(300)
        await agrees(o)


async def exchanged(o: Office, case: Case, unit: int = 3) -> Case:
    device = Device(
        meter_type="acrel_ddsy1352", unit=unit, address=None, meter_number=o.device(unit).number
    )
    moved = await meter_exchange.hang(o.services, o.at_work(), case.case_id, device)
    assert isinstance(moved, Case), moved
    return await o.reaches(case.case_id, Step.DONE)


async def test_an_exchange_carries_every_fen_into_the_new_meter(dsn: str, tmp_path: Path) -> None:
    async with office(dsn, tmp_path) as o:
        await o.opened(fen=5000)
        case = await ending(o, CaseKind.EXCHANGE, approved=True)
        old_fen = Seen.from_record(case.facts["look"]).credit_fen
        new = o.device(3)
        shelf_fen = new.remaining_fen
        done = await exchanged(o, case)
        assert old_fen is not None
        facts = done.facts
        assert facts["kept_fen"] + facts["carried_fen"] == old_fen
        assert facts["new_look"]["credit_fen"] <= shelf_fen
        assert await o.available_fen(facts["account_id"]) == 0
        assert [sale.amount_fen for sale in new.applied][-1:] == [facts["carried_fen"]] or not (
            facts["carried_fen"]
        )
        await agrees(o)
        await o.sold(200)
        assert new.applied[-1].amount_fen == 200
        clash = await meter_exchange.hang(
            o.services,
            o.at_work(),
            (await ending(o, CaseKind.EXCHANGE, approved=True)).case_id,
            Device(meter_type="acrel_ddsy1352", unit=2, address=None, meter_number=None),
        )
        assert isinstance(clash, Stopped)
        assert clash.why is CaseWhy.CLASH


async def test_a_dead_meter_is_exchanged_on_the_word_of_two(dsn: str, tmp_path: Path) -> None:
    async with office(dsn, tmp_path) as o:
        await o.opened(fen=5000)
        del o.served.wire.line.bus.units[1]
        missed = await case_work.begin_looked(o.services, o.at_work(), CaseKind.EXCHANGE, o.asked())
        assert isinstance(missed, Missed)
        alone = await case_work.begin_looked(
            o.services, o.at_work(), CaseKind.EXCHANGE, o.asked(), CannotLook(credit_fen=4321)
        )
        assert isinstance(alone, Rejected)
        assert alone.why is Why.SECOND_PERSON_NEEDED
        case = await case_work.begin_looked(
            o.services,
            o.at_work(),
            CaseKind.EXCHANGE,
            o.asked(approved=True),
            CannotLook(credit_fen=4321),
        )
        assert isinstance(case, Case)
        assert case.facts["look"]["estimated"] is True
        done = await exchanged(o, case)
        assert done.facts["kept_fen"] + done.facts["carried_fen"] == 4321
        await agrees(o)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE account_case SET step = 'look'", "has ended"),
        ("UPDATE customer SET closed_at = now()", "still open"),
        ("UPDATE customer SET customer_no = '7'", "number stays"),
        ("UPDATE account SET customer_id = NULL WHERE customer_id IS NOT NULL", "stays with"),
        ("DELETE FROM customer", "only ever added"),
        ("DELETE FROM case_photo", "only ever added"),
    ],
)
async def test_what_must_not_happen_the_database_refuses(
    dsn: str, tmp_path: Path, statement: LiteralString, said: str
) -> None:
    async with office(dsn, tmp_path) as o:
        await o.opened(fen=0)
        with pytest.raises(DatabaseRefused, match=said):
            await _tried(o, statement)


async def _tried(o: Office, statement: LiteralString) -> None:
    async with o.services.database.transaction() as tx:
        await tx.execute(statement)


async def test_a_case_that_cannot_go_on_holds_no_other_up(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(dsn, tmp_path) as o:
        sold, stuck_id = CaseKeeper._sold, o.at_work("M1").known.meter_id

        async def fails_for_the_first(keeper: CaseKeeper, tx: Transaction, case: Case) -> None:
            if case.meter_id == stuck_id:
                raise RuntimeError("a fault")
            await sold(keeper, tx, case)

        with monkeypatch.context() as broken:
            broken.setattr(CaseKeeper, "_sold", fails_for_the_first)
            cases = []
            for number, name in enumerate(("M1", "M2")):
                person = replace(ZHANG, name=f"tenant {number}")
                wish = Opening(asked=o.asked(), person=person, amount_fen=5000)
                case = await account_opening.open_account(o.services, o.at_work(name), wish)
                assert isinstance(case, Case), case
                cases.append(case)
            first, second = cases
            await o.reaches(second.case_id, Step.DONE)
            async with o.services.database.transaction() as tx:
                stuck = await account_cases.find(tx, first.case_id)
            assert stuck is not None
            assert "RuntimeError" in stuck.note
        await o.reaches(first.case_id, Step.DONE)
        assert [sale.amount_fen for sale in o.device().applied] == [5000]
