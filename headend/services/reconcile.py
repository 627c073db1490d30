"""Every day each meter's own registers are held against the books.

Whatever differs is kept with its kind and its age until the meter agrees again or a person closes
it. A meter whose story the books cannot tell is sold nothing more, and an alarm says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from headend.domain.alarms import AlarmKind
from headend.domain.books import Asker, BooksWhy, NotBooked, may_not_ask
from headend.domain.clock import Clock
from headend.domain.ledger import AMOUNT_FEN_MAX, AMOUNT_FEN_MIN, Operation
from headend.domain.reconciliation import (
    FREEZES,
    DifferenceKind,
    Finding,
    classify,
    pair_wrong_meters,
)
from headend.store import alarms, ledger, reconcile, sales
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.store.reconcile import Compared

log = logging.getLogger(__name__)

# Looks come nightly and with every order; an hour later a difference is known.
RECONCILE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """One comparison of all meters that are in the books."""

    meters: int
    agree: int
    unread: int  # no look, or a type that shows no purchases
    differences: Mapping[int, Finding]  # by meter


async def reconcile_all(database: Database, clock: Clock) -> Reconciliation:
    """Compare every meter with the books, keep what differs, close what agrees again."""
    at = clock.now()
    async with database.transaction() as tx:
        await ledger.under_grants(tx)
        seen = await reconcile.compared(tx)
        findings, agreeing = _judged(seen)
        for meter_id, found in findings.items():
            if not await reconcile.record(tx, meter_id, found, at):
                continue
            log.warning("meter number %d: %s (%s)", meter_id, found.detail, found.kind.value)
            if found.kind in FREEZES:
                await sales.freeze(tx, meter_id, found.detail, at)
                await alarms.raise_alarm(tx, AlarmKind.BOOKS_DIFFER, meter_id, found.detail, at)
        for meter_id in agreeing:
            if await reconcile.close(
                tx, meter_id, closed_by=None, reason="meter and books agree again", at=at
            ):
                await alarms.clear_alarm(tx, AlarmKind.BOOKS_DIFFER, meter_id, at)
                log.info("meter number %d and the books agree again", meter_id)
    return Reconciliation(
        meters=len(seen),
        agree=len(agreeing),
        unread=len(seen) - len(agreeing) - len(findings),
        differences=findings,
    )


def _judged(seen: list[Compared]) -> tuple[dict[int, Finding], list[int]]:
    """Findings by meter, and the meters that agree. A wrong meter is sought on the same site."""
    by_site: dict[int, dict[int, Finding]] = defaultdict(dict)
    agreeing = []
    for one in seen:
        if one.look is None or one.expected is None:
            continue
        found = classify(one.look, one.expected)
        if found is None:
            agreeing.append(one.meter_id)
        else:
            by_site[one.site_id][one.meter_id] = found
    findings: dict[int, Finding] = {}
    for of_site in by_site.values():
        findings |= pair_wrong_meters(of_site)
    return dict(sorted(findings.items())), agreeing


async def keep_reconciled(database: Database, clock: Clock) -> None:
    """Compare all meters every hour; runs until cancelled. A comparison too many is harmless."""
    while True:
        with contextlib.suppress(DatabaseAway):  # the database has said so itself
            await reconcile_all(database, clock)
        await asyncio.sleep(RECONCILE_EVERY_S)


async def accept_meter(
    tx: Transaction,
    meter_id: int,
    clock: Clock,
    *,
    asked_by: Asker,
    approved_by: Asker | None,
    reason: str,
) -> NotBooked | None:
    """Take what the meter shows now as right: its books begin anew there, and sales go on.

    Where its count lies below one that was used before (an exchange, a cleared account), a new
    epoch begins: its counts start anew, and no sale of the one before may still be open.

    None when done. Money is not moved: whoever finds that some is missing or too much books a
    correction. Above the limit of corrections a second person approves.
    """
    await sales.lock_meter(tx, meter_id)  # no sale begins meanwhile
    (seen,) = await reconcile.compared(tx, meter_id) or (None,)
    if seen is None or seen.look is None:
        return NotBooked(BooksWhy.NO_SUCH_ACCOUNT, f"meter number {meter_id} was never read")
    if seen.expected is not None and seen.expected.doubtful:
        return NotBooked(BooksWhy.SALE_OPEN, "a sale may be in its last look, or not: look again")
    if seen.sale_is_open:
        return NotBooked(BooksWhy.SALE_OPEN, "a sale is open: cancel it or wait for its end first")
    found = None if seen.expected is None else classify(seen.look, seen.expected)
    if found is not None and found.kind is DifferenceKind.ESCALATED:
        return NotBooked(BooksWhy.SALE_OPEN, found.detail)
    size_fen = 0 if found is None else abs(found.ahead_fen or 0)
    refused = may_not_ask(
        Operation.CORRECTION,
        min(max(size_fen, AMOUNT_FEN_MIN), AMOUNT_FEN_MAX),
        reason,
        asked_by,
        approved_by,
    )
    if refused is not None:
        return refused
    at = clock.now()
    approver_id = None if approved_by is None else approved_by.operator_id
    await reconcile.begin_anew(
        tx,
        seen,
        epoch=seen.epoch + seen.began_anew,
        operator_id=asked_by.operator_id,
        approver_id=approver_id,
        reason=reason,
    )
    await reconcile.close(tx, meter_id, closed_by=asked_by.operator_id, reason=reason, at=at)
    await alarms.clear_alarm(tx, AlarmKind.BOOKS_DIFFER, meter_id, at)
    if seen.look.purchase_count is not None:
        await sales.thaw(
            tx,
            meter_id,
            operator_id=asked_by.operator_id,
            reason=reason,
            count_agreed=seen.look.purchase_count,
            at=at,
        )
    return None
