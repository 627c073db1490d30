"""Rules of the product that have no switch, each taken out: what stands in their place.

Not here, because nothing breaks without it: that an unknown order holds its meter (its sale, the
gap between two toggles and the payment in flight hold it as well). Those of cards: broken_cards.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from headend.domain import reconciliation, supply
from headend.domain.bulk import BulkLimits, Job, Refused
from headend.domain.commands import EXPIRES_AFTER, Command, CommandKind
from headend.domain.reconciliation import Doubtful
from headend.domain.supply import CutRules, Rule
from headend.services import bulk, delivery, settling, switch_orders
from headend.services.bulk import BulkWish
from headend.store import accounts, bulk_items, people, queue, sales, switches
from headend.store import commands as stored_commands
from headend.store import supply as supply_store
from headend.store.accounts import Balance
from headend.store.database import Transaction
from headend.store.reconcile import Compared
from headend.trial.arrangement import Arrangement, Patch

_approve, _plan, _recover, _balance = bulk.approve, bulk.plan, queue.recover, accounts.balance
LONG_FOR_EVER: Final = timedelta(days=30)


async def _nothing(*_: Any, **__: Any) -> None:
    """Not done."""


async def _no(*_: Any, **__: Any) -> bool:
    return False


async def _none_of_them(*_: Any, **__: Any) -> int:
    return 0


async def _none_cancelled(*_: Any, **__: Any) -> list[UUID]:
    return []


def _at_once(*_: Any, **__: Any) -> datetime | None:
    return None


def _without(*rules: Rule) -> tuple[Patch, ...]:
    """The supply rules without these, when a list is made and right before an order is sent."""

    def rest(ladder: Any) -> Any:
        return tuple((rule, objects) for rule, objects in ladder if rule not in rules)

    last = {kind: rest(ladder) for kind, ladder in supply._LAST_CHECKS.items()}
    return (
        Patch(supply, "CUT_LADDER", rest(supply.CUT_LADDER)),
        Patch(supply, "_LAST_CHECKS", last),
    )


async def _sent_is_queued(tx: Transaction, now: datetime, **given: Any) -> int:
    """What was on its way when the program died is taken for not sent."""
    moved = await _recover(tx, now, **given)
    await tx.execute(
        "UPDATE command SET state = 'queued', look_again_at = NULL, changed_at = %s"
        " WHERE state = 'unknown'",
        now,
    )
    return moved


async def _rich(tx: Transaction, account_id: int) -> Balance:
    """Whoever comes has money enough."""
    held = await _balance(tx, account_id)
    return replace(held, posted_fen=held.posted_fen + 10_000_000)


async def _any_hash(
    tx: Transaction, bulk_id: UUID, sha256: str, *, by: int, now: datetime
) -> Job | Refused:
    job = await bulk.find(tx, bulk_id)
    return await _approve(tx, bulk_id, job.sha256, by=by, now=now)


async def _any_length(tx: Transaction, wish: BulkWish, now: datetime) -> Job | Refused:
    return await _plan(tx, replace(wish, limits=replace(wish.limits, size_max=1_000)), now)


async def _nobody_looks(tx: Transaction, wish: BulkWish, now: datetime) -> Job | Refused:
    return await _plan(tx, replace(wish, limits=replace(wish.limits, go_on_by_person=False)), now)


def _all_at_once(limits: BulkLimits, batch: int) -> int:
    return limits.batch_max


async def _whatever_the_job(tx: Transaction, command: Command, now: datetime) -> str | None:
    """The last look of an order, blind for a stop."""
    found = await supply_store.facts(
        tx, now, meter_ids=[command.meter_id], command_id=command.command_id
    )
    rules = CutRules(cut_below_fen=None, ordered_at=command.ordered_at)
    return supply.last_check(command.kind, found[0], rules, now) if found else None


def _only_what_is_certain(
    count: int | None, fen: int | None, _doubtful: list[Doubtful]
) -> int | None:
    return 0 if count in (None, 0) and fen in (None, 0) else None


def _bulk(*patches: Patch, sql: tuple[str, ...] = ()) -> Arrangement:
    return Arrangement(has_bulk=True, patches=patches, sql=sql)


_PERSONS = "DROP TRIGGER approval_is_of_this_list_by_another_person ON bulk_approval"

# Two more that guard one door with another: money goes before a cut on its line, and what lands
# takes back a cut that still waits. Each rule is taken out where the other is out already.
CUTS_FIRST = (
    Patch(
        queue,
        "_RANK",
        "array_position(ARRAY['cut', 'restore', 'release', 'configure', 'top_up', 'burn'], kind)",
    ),
)
CUTS_STAY = (Patch(settling, "cancel_queued", _none_cancelled),)

RULES: Mapping[str, Arrangement] = {
    # ---- money --------------------------------------------------------------------------------
    "one_open_sale": Arrangement(
        patches=(Patch(sales, "open_of_meter", _nothing),),
        sql=(
            "DROP INDEX a_meter_has_one_open_sale",
            "DROP INDEX a_purchase_count_belongs_to_one_sale",
        ),
    ),
    "paid_first": Arrangement(
        patches=(Patch(accounts, "balance", _rich),),
        sql=("DROP TRIGGER check_transfer ON transfer",),
    ),
    "an_exchange_begins_an_epoch": Arrangement(
        exchanges=True,
        patches=(Patch(Compared, "began_anew", False),),
        sql=("DROP TRIGGER opening_begins ON meter_opening",),
    ),
    # ---- crashes ------------------------------------------------------------------------------
    "taken_up_at_boot": Arrangement(patches=(Patch(queue, "recover", _none_of_them),)),
    "sent_is_unknown": Arrangement(
        much_is_parked=True,
        dies_mid_air=True,
        patches=(Patch(queue, "recover", _sent_is_queued),),
    ),
    # ---- supply -------------------------------------------------------------------------------
    "toggle_gap": Arrangement(
        patches=(
            Patch(delivery, "may_toggle_at", _at_once),
            Patch(switch_orders, "may_toggle_at", _at_once),
            Patch(settling, "may_toggle_at", _at_once),
            *_without(Rule.TOGGLED_RECENTLY),
        )
    ),
    "rates": Arrangement(patches=(Patch(switches, "full_until", _nothing),)),
    "expiry": Arrangement(
        long_outages=True,
        patches=(
            Patch(
                stored_commands,
                "EXPIRES_AFTER",
                {**EXPIRES_AFTER, CommandKind.CUT: LONG_FOR_EVER},
            ),
        ),
    ),
    "release": Arrangement(patches=(Patch(settling, "_release", _nothing),)),
    "light_with_the_money": Arrangement(patches=(Patch(settling, "_light_again", _nothing),)),
    "protection": Arrangement(patches=_without(Rule.PROTECTED)),
    "friendly_hours": Arrangement(patches=_without(Rule.FRIENDLY_HOURS)),
    "payment_in_flight": Arrangement(patches=(*CUTS_FIRST, *_without(Rule.PAYMENT_IN_FLIGHT))),
    "credit_arrived": Arrangement(patches=(*CUTS_STAY, *_without(Rule.CREDIT_ARRIVED))),
    # ---- lists --------------------------------------------------------------------------------
    "second_person": _bulk(Patch(people, "is_same_person", _no), sql=(_PERSONS,)),
    "this_very_list": _bulk(Patch(bulk, "approve", _any_hash)),
    "size_cap": _bulk(Patch(bulk, "plan", _any_length)),
    "canary": _bulk(Patch(BulkLimits, "batch_size", _all_at_once)),
    "somebody_looks": _bulk(Patch(bulk, "plan", _nobody_looks)),
    "stop": _bulk(
        Patch(bulk, "last_look", _whatever_the_job),
        Patch(bulk_items, "cancel_queued", _none_of_them),
    ),
    # ---- books --------------------------------------------------------------------------------
    "freeze": Arrangement(patches=(Patch(sales, "freeze", _no),)),
    "in_flight_is_no_difference": Arrangement(
        patches=(Patch(reconciliation, "_explained_by", _only_what_is_certain),)
    ),
}
