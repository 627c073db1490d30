"""Meter exchange: another device under the same name, and every fen of credit carried over.

The old device is looked at; where it is dead, two persons say what it held and why they think so.
The new one gets an epoch of its own. What it shows by itself counts towards the credit, the rest is
sold to it from the balance: credit before = credit after, in the meter and the books together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from headend.domain.cases import Case, CaseWhy, Seen, Step, Stopped
from headend.domain.toml_lines import toml_table
from headend.services.account_opening import order_opening, orders_opening, sell_credit
from headend.services.case_work import (
    Till,
    Untaken,
    Untold,
    begin_epoch,
)
from headend.services.looks import MeterAtWork
from headend.services.services import Services
from headend.store import account_cases, account_rules, accounts, customers, debts, exchanges, sales
from headend.store.accounts import Account
from headend.store.database import Transaction
from protocols.meter_type import Addressing, MeterType


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What hangs there now."""

    meter_type: str
    unit: int | None
    address: str | None
    meter_number: str | None
    energy_multiplier: int = 1

    def record(self) -> dict[str, Any]:
        """As JSON, by the columns of a meter."""
        return {
            "meter_type": self.meter_type,
            "unit": self.unit,
            "address": self.address,
            "meter_number": self.meter_number,
            "energy_multiplier": self.energy_multiplier,
        }


def bad_place(meter_type: MeterType | None, device: Device) -> str:
    """Which field of a device is wrong: meter_type, unit or address; empty: none."""
    if meter_type is None:
        return "meter_type"
    if meter_type.addressing is Addressing.UNIT:
        return "" if device.unit is not None and 1 <= device.unit <= 247 else "unit"
    digits = device.address or ""
    right = digits.isascii() and digits.isdigit() and len(digits) == meter_type.address_digits
    return "" if right else "address"


async def hang(
    services: Services, meter: MeterAtWork, case_id: UUID, device: Device
) -> Case | Untold:
    """The new device is there: it is looked at from now on, until it answers."""
    try:
        async with services.database.transaction() as tx:
            await sales.lock_meter(tx, meter.known.meter_id)
            case = await account_cases.find(tx, case_id, lock=True)
            if case is None or case.meter_id != meter.known.meter_id:
                return Stopped(CaseWhy.NO_SUCH_CASE, str(case_id))
            if case.wish.get("device") == device.record() and case.step is not Step.NEW_METER:
                return case  # a second click
            if case.step not in (Step.NEW_METER, Step.LOOK):
                return Stopped(CaseWhy.NOT_AT_THIS_STEP, case.step.value)
            name = await exchanges.taken_by(
                tx, case.meter_id, unit=device.unit, address=device.address
            )
            if name:
                return Stopped(CaseWhy.CLASH, name)
            at = services.clock.now()
            await exchanges.hang(tx, case.meter_id, case_id, device.record(), at)
            return await account_cases.move(
                tx,
                case,
                Step.LOOK,
                at=at,
                wish={"device": device.record()},
                facts={"exchanged_at": at.isoformat()},
            )
    except Untaken as untaken:
        return untaken.why


def is_followed(meter: MeterAtWork, case: Case) -> bool:
    """Whether this process talks to the new device already."""
    known = meter.known
    wanted = case.wish["device"]
    return (known.meter_type, known.unit, known.address, known.meter_number) == (
        wanted["meter_type"],
        wanted["unit"],
        wanted["address"],
        wanted["meter_number"],
    )


async def go_on(
    tx: Transaction, services: Services, meter: MeterAtWork, case: Case, seen: Seen
) -> Case:
    """The new device was looked at: open its account, or settle and sell. Raises Untaken."""
    rules = await account_rules.of_site(tx, meter.known.site_id)
    begun = bool(case.facts.get("orders"))
    zero = not (seen.purchase_count or seen.credit_fen or seen.total_purchased_fen)
    at = services.clock.now()
    if orders_opening(meter, rules) and not begun:
        # Prices too: a device from the shelf has none.
        await order_opening(tx, services, case, rules, what="open 1")
        return await account_cases.move(
            tx, case, Step.ORDERED, at=at, facts={"orders": 1, "found": seen.record()}
        )
    if not begun and not zero and seen.credit_fen is None:
        raise Untaken(Stopped(CaseWhy.LOOK_NEEDED, "the new meter shows no credit"))
    return await _carry(tx, services, case, seen)


async def _carry(tx: Transaction, services: Services, case: Case, seen: Seen) -> Case:
    """Books and meter end up with what the old device held."""
    account = await accounts.account(tx, case.facts["account_id"])
    assert account is not None, "the case began with it"
    old_fen = Seen.from_record(case.facts["look"]).credit_fen or 0
    new_fen = seen.credit_fen or 0
    till = Till(tx, case, services.clock, case.operator_id, case.approver_id)
    await begin_epoch(tx, case, services.clock)
    owes_fen = await _settle_old(tx, till, account, old_fen)
    # What the new device holds by itself is theirs too; they pay for it out of the old credit.
    kept_fen = min(new_fen, max(0, old_fen)) if new_fen > 0 else 0
    await till.take_over(account, kept_fen, "settlement new")
    to_sell_fen = max(0, old_fen) - kept_fen
    step = Step.SOLD if to_sell_fen else Step.DONE
    moved = await account_cases.move(
        tx,
        case,
        step,
        at=services.clock.now(),
        holds_sales=False,
        facts={
            "new_look": seen.record(),
            "credit_fen": old_fen,
            "kept_fen": kept_fen,
            "carried_fen": to_sell_fen,
            "owed_fen": owes_fen,
            "surplus_fen": max(0, new_fen - max(0, old_fen)),
        },
    )
    if to_sell_fen:
        await sell_credit(tx, services, moved, to_sell_fen)
    return moved


async def _settle_old(tx: Transaction, till: Till, account: Account, old_fen: int) -> int:
    """The old device's credit becomes balance; what it was overdrawn by is owed, as before."""
    if old_fen >= 0:
        await till.give_back(account, old_fen, "settlement old")
        return 0
    customer = await customers.of_meter(tx, till.case.meter_id)
    if customer is None:
        # Nobody has been named who could owe it.
        return 0
    await debts.book(
        tx,
        debt_id=till.case.id_of("overdrawn"),
        customer_id=customer.customer_id,
        site_id=customer.site_id,
        amount_fen=-old_fen,
        share_permille=500,
        reason=till.case.reason,
        by=till.case.operator_id,
        approver_id=till.case.approver_id,
        at=till.clock.now(),
    )
    return -old_fen


def file_lines(meter: MeterAtWork, case: Case) -> str:
    """The meter as it now stands in the site's file: whoever keeps that file pastes it in."""
    device = case.wish["device"]
    known = meter.known
    named: dict[str, Any] = {
        "name": known.name,
        "line": known.line,
        "type": device["meter_type"],
        "unit": device["unit"],
        "address": device["address"],
        "room": known.room,
        "cabinet": known.cabinet,
        "meter_number": device["meter_number"],
    }
    if device["energy_multiplier"] != 1:
        named["energy_multiplier"] = device["energy_multiplier"]
    return toml_table("meters", {k: v for k, v in named.items() if v is not None})
