"""Cases that wait for a meter go on by themselves, whoever began them and whatever restarted since.

Each step is one transaction that looks again where the case is. What fails is noted on the case and
tried again; nothing is sent twice, because everything a case orders has an id of the case.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from headend.domain.books import NotBooked
from headend.domain.cases import Case, CaseKind, Seen, Step, Stopped
from headend.domain.commands import FINAL, Command, CommandState, Rejected
from headend.domain.money import yuan
from headend.services import meter_exchange
from headend.services.account_ending import credit_before_clearing, settle_closure
from headend.services.account_opening import sell_credit
from headend.services.case_work import Till, Untaken, begin_epoch, see
from headend.services.looks import MeterAtWork, Missed
from headend.services.services import Services
from headend.store import account_cases, commands, sales
from headend.store.database import Transaction
from headend.store.errors import DatabaseAway

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
# A meter that did not answer is left alone for so long.
TRY_AGAIN: Final = timedelta(seconds=10)


class CaseKeeper:
    """Moves waiting cases on. `keep()` runs until cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._not_before: dict[UUID, datetime] = {}

    async def keep(self) -> None:
        """Look every second which case may go on."""
        while True:
            try:
                await self.round()
            except DatabaseAway as away:
                log.warning("cases wait for the database: %s", away)
            await asyncio.sleep(LOOK_EVERY_S)

    async def round(self) -> None:
        """Each waiting case once; one that cannot go on holds no other up."""
        async with self._services.database.transaction() as tx:
            waiting = await account_cases.that_wait(tx)
        now = self._services.clock.now()
        self._not_before = {case_id: at for case_id, at in self._not_before.items() if at > now}
        for case in waiting:
            if case.case_id in self._not_before:
                continue
            try:
                note = await self._advance(case)
            except Untaken as untaken:
                note = said(untaken)
            except DatabaseAway:
                raise
            except Exception as fault:
                log.exception("case %s cannot go on", case.case_id)
                note = f"an error of this program ({type(fault).__name__}): {fault}"
            if note is not None:
                self._not_before[case.case_id] = now + TRY_AGAIN
                await self._note(case, note)

    async def _advance(self, case: Case) -> str | None:
        """One step; a note when it cannot be taken yet. Raises Untaken."""
        if case.step is Step.LOOK:
            return await self._look(case)
        async with self._services.database.transaction() as tx:
            await sales.lock_meter(tx, case.meter_id)
            found = await account_cases.find(tx, case.case_id, lock=True)
            if found is None or found.step is not case.step:
                return None
            if case.step is Step.SOLD:
                await self._sold(tx, found)
                return None
            if case.kind is CaseKind.CLOSURE:
                await self._cleared(tx, found)
            else:
                await self._opened(tx, found)
            return None

    # ---- the meter's own account ----------------------------------------------------------------

    async def _opened(self, tx: Transaction, case: Case) -> None:
        """The open-account order of an opening or an exchange."""
        what = "open" if case.kind is CaseKind.OPENING else f"open {case.facts['orders']}"
        command = await commands.find(tx, case.id_of(what))
        assert command is not None, "ordered with the step"
        if command.state is CommandState.CONFIRMED:
            await self._move(tx, case, Step.LOOK)
        elif command.state in FINAL:
            # The credit is safe in the books. The meter is looked at as it is.
            await self._move(tx, case, Step.LOOK, note=ended(command))

    async def _cleared(self, tx: Transaction, case: Case) -> None:
        """The clear-account order of a closure."""
        command = await commands.find(tx, case.id_of(f"clear {case.facts['tries']}"))
        assert command is not None, "ordered with the step"
        if command.state is not CommandState.CONFIRMED:
            if command.state in FINAL:
                await self._move(tx, case, Step.CONFIRM, note=ended(command))
            return
        credit_fen = await credit_before_clearing(tx, case)
        if credit_fen is None:
            credit_fen = Seen.from_record(case.facts["look"]).credit_fen or 0
        till = Till(tx, case, self._services.clock, case.facts["closed_by"], case.approver_id)
        settled = await settle_closure(tx, till, case, credit_fen)
        at = self._services.clock.now()
        await account_cases.move(tx, case, Step.DONE, at=at, facts=settled, holds_sales=False)

    # ---- looks ----------------------------------------------------------------------------------

    async def _look(self, case: Case) -> str | None:
        meter = self._services.lines.by_id.get(case.meter_id)
        if meter is None:
            return "the meter is not among those this head-end reads"
        if case.kind is CaseKind.EXCHANGE and not meter_exchange.is_followed(meter, case):
            return None  # the places are being followed
        seen = await see(self._services, meter)
        if isinstance(seen, Missed):
            return seen.detail
        async with self._services.database.transaction() as tx:
            await sales.lock_meter(tx, case.meter_id)
            found = await account_cases.find(tx, case.case_id, lock=True)
            if found is None or found.step is not Step.LOOK:
                return None
            if case.kind is CaseKind.EXCHANGE:
                await meter_exchange.go_on(tx, self._services, meter, found, seen)
                return None
            return await self._begin_opened(tx, found, meter, seen)

    async def _begin_opened(
        self, tx: Transaction, case: Case, meter: MeterAtWork, seen: Seen
    ) -> str | None:
        """An opened meter stands at zero: its books begin there, and the first credit is sold."""
        command = await commands.find(tx, case.id_of("open"))
        opened = command is not None and command.state is CommandState.CONFIRMED
        if opened and (seen.purchase_count or seen.total_purchased_fen):
            return (
                f"meter {meter.known.name} shows count {seen.purchase_count} and "
                f"{yuan(seen.total_purchased_fen)} yuan after it was opened: accept it or find "
                "out why"
            )
        if opened:
            await begin_epoch(tx, case, self._services.clock)
        amount_fen = case.wish["amount_fen"]
        moved = await account_cases.move(
            tx,
            case,
            Step.SOLD if amount_fen else Step.DONE,
            at=self._services.clock.now(),
            facts={"look": seen.record()},
            holds_sales=False,
            note=case.note,
        )
        if amount_fen:
            await sell_credit(tx, self._services, moved, amount_fen)
        return None

    async def _sold(self, tx: Transaction, case: Case) -> None:
        command = await commands.find(tx, case.id_of("top-up"))
        assert command is not None, "ordered with the step"
        if command.state is CommandState.CONFIRMED:
            await self._move(tx, case, Step.DONE, note=case.note)
        elif command.state in FINAL:
            # What did not reach the meter waits as balance: nothing is lost.
            await self._move(tx, case, Step.DONE, note=ended(command))

    async def _move(self, tx: Transaction, case: Case, step: Step, note: str = "") -> None:
        await account_cases.move(tx, case, step, at=self._services.clock.now(), note=note)

    async def _note(self, case: Case, note: str) -> None:
        if case.note == note:
            return
        async with self._services.database.transaction() as tx:
            found = await account_cases.find(tx, case.case_id, lock=True)
            if found is not None and found.step is case.step:
                await self._move(tx, found, found.step, note)


def ended(command: Command) -> str:
    """How an order ended that was not carried out."""
    return f"{command.kind.value} {command.state.value}: {command.outcome}"


def said(untaken: Untaken) -> str:
    """Why a step could not be taken, for the case's note."""
    why: Stopped | Rejected | NotBooked = untaken.why
    return f"{why.why.value}: {why.detail}".removesuffix(": ")


async def keep_cases(services: Services) -> None:
    """For the standing work of a head-end."""
    await CaseKeeper(services).keep()
