"""What must hold at the end of every seed, asked of the meters' own books and of the database.

The judge reads the tables with its own statements and the meters from inside: a mistake of the
product's store or drivers cannot hide itself here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from headend.services.resolver import ATTEMPTS_MAX
from headend.trial.world import SHANGHAI
from simulators.metering import Forced

FINAL = ("confirmed", "refused", "expired", "cancelled")
# An order that left may reach its meter this much later (link.py: within the line's own bound).
IN_FLIGHT = timedelta(seconds=31)
TOGGLE_GAP = timedelta(minutes=10)
# What nobody could deliver by then is dropped: a cut must not fire at dawn.
CUT_WAITS_AT_MOST = timedelta(hours=2)
# At most so many relays opened, and closed, in so long, whoever asks; small, so that a trial of a
# few meters meets them.
CUTS_AT_MOST, RESTORES_AT_MOST = 2, 2
RATE_SPAN = timedelta(minutes=5)
# The usual calendar, once more and by hand: on working days, from 8 to 20 on the site's wall clock.
SATURDAY = 5
CUTS_FROM, CUTS_UNTIL = 8, 20
EFFECTS = {
    "cut": {Forced.OPEN},
    "restore": {Forced.CLOSED, Forced.RELEASED},
    "release": {Forced.RELEASED},
}


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command as the database has it."""

    command_id: UUID
    meter: str
    kind: str
    state: str
    amount_fen: int | None
    purchase_count: int | None
    ordered_at: datetime
    expires_at: datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try whose intent was recorded."""

    command_id: UUID
    meter: str
    kind: str
    sent_at: datetime
    outcome: str | None


@dataclass(frozen=True, slots=True)
class SaleRow:
    """A numbered credit."""

    meter: str
    purchase_count: int
    amount_fen: int
    state: str
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Books:
    """Everything the database says about one seed."""

    commands: dict[UUID, CommandRow]
    attempts: list[AttemptRow]
    sales: list[SaleRow]
    posted_fen: dict[tuple[str, str | None], int]  # by kind of account and meter
    reserved_fen: dict[str | None, int]
    escalated: set[str]  # meters that had an order escalated before its tries were used up
    protected: list[tuple[str, datetime]]  # meter, since when

    @classmethod
    def read(cls, connection: psycopg.Connection[Any]) -> Books:
        """By statements of the judge's own."""

        def rows(query: Any) -> list[Any]:
            return connection.execute(query).fetchall()

        commands = [
            CommandRow(*row)
            for row in rows(
                "SELECT command_id, meter.name, kind, state, amount_fen, purchase_count,"
                " ordered_at, expires_at, outcome FROM command JOIN meter USING (meter_id)"
                " ORDER BY ordered_at, command_id"
            )
        ]
        held = rows(
            "SELECT account.kind, meter.name, sum(posted_fen), sum(reserved_fen)"
            " FROM account JOIN account_balance USING (account_id)"
            " LEFT JOIN meter USING (meter_id) GROUP BY 1, 2"
        )
        return cls(
            commands={command.command_id: command for command in commands},
            attempts=[
                AttemptRow(*row)
                for row in rows(
                    "SELECT command_id, meter.name, attempt.kind, sent_at, outcome"
                    " FROM attempt JOIN meter USING (meter_id) ORDER BY sent_at, attempt_no"
                )
            ],
            sales=[
                SaleRow(*row)
                for row in rows(
                    "SELECT meter.name, purchase_count, amount_fen, state, opened_at, closed_at"
                    " FROM sale JOIN meter USING (meter_id)"
                )
            ],
            posted_fen={(kind, meter): int(posted) for kind, meter, posted, _ in held},
            reserved_fen={meter: int(reserved) for _, meter, _, reserved in held if reserved},
            escalated={
                row[0]
                for row in rows(
                    "SELECT DISTINCT meter.name FROM command_event JOIN meter USING (meter_id)"
                    " JOIN command USING (command_id)"
                    f" WHERE new_state = 'escalated' AND attempts < {ATTEMPTS_MAX}"
                )
            },
            protected=rows(
                "SELECT meter.name, granted_at FROM protection JOIN meter USING (meter_id)"
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One meter as it knows itself, past everything a wire could spoil."""

    name: str
    own: tuple[tuple[int, int], ...]  # (count, fen) it took, without what came from elsewhere
    foreign: bool  # whether anything came from elsewhere, or another device took its place
    forced: Forced
    #: right after our last sale landed: what comes from elsewhere later lights nothing by itself
    credit_after_sale_fen: int
    #: credit that no purchase explains: nothing else may ever touch it
    unexplained_fen: int = 0
    forced_log: tuple[tuple[datetime, Forced], ...] = ()  # each change of its forced control


def judge(witnesses: Iterable[Witness], books: Books, paid_fen: Mapping[str, int]) -> list[str]:
    """Every invariant that does not hold, one sentence each. `paid_fen`: by meter, as answered."""
    found = [*_ended(books)]
    for meter in witnesses:
        found += _credited(meter, books)
        found += _booked(meter, books, paid_fen.get(meter.name, 0))
        found += _switched_as_ordered(meter, books)
        found += _cuts_keep_the_rules(meter, books)
        found += _light_follows_money(meter, books)
    found += [*_no_relay_toggles_twice(books)]
    total_fen = sum(books.posted_fen.values())
    if total_fen:
        found.append(f"the books do not sum to zero but to {total_fen} fen")
    return found


def _ended(books: Books) -> Iterator[str]:
    for command in books.commands.values():
        if command.state not in FINAL:
            yield (
                f"{command.meter}: {command.kind} {command.command_id} never ended: "
                f"{command.state} ({command.outcome})"
            )


# ---- money --------------------------------------------------------------------------------------


def _credited(meter: Witness, books: Books) -> Iterator[str]:
    """Credited on the meter = paid, once each."""
    taken = Counter(meter.own)
    sales = [sale for sale in books.sales if sale.meter == meter.name]
    landed = Counter((s.purchase_count, s.amount_fen) for s in sales if s.state == "landed")
    burned = Counter((s.purchase_count, 0) for s in sales if s.state == "burned")
    for (count, fen), times in (taken - landed - burned).items():
        yield f"{meter.name}: took {fen} fen under count {count} {times} times too often"
    for (count, fen), times in (landed - taken).items():
        yield f"{meter.name}: {fen} fen under count {count} landed {times} times only in the books"
    confirmed = Counter(
        (c.purchase_count or 0, c.amount_fen or 0)
        for c in books.commands.values()
        if c.meter == meter.name and c.kind == "top_up" and c.state == "confirmed"
    )
    for (number, amount_fen), times in (confirmed - landed).items():
        yield f"{meter.name}: {amount_fen} fen under {number} confirmed {times} times, not landed"


def _booked(meter: Witness, books: Books, paid_fen: int) -> Iterator[str]:
    """Ledger = meter, and what was paid is in the meter or waits for its payer."""
    taken_fen = sum(fen for _, fen in meter.own)
    posted_fen = books.posted_fen.get(("meter", meter.name), 0)
    waiting_fen = books.posted_fen.get(("customer", meter.name), 0)
    if posted_fen != taken_fen:
        yield f"{meter.name}: the ledger posted {posted_fen} fen, the meter took {taken_fen}"
    if posted_fen + waiting_fen != paid_fen:
        yield (f"{meter.name}: {paid_fen} fen were paid, {posted_fen} posted, {waiting_fen} wait")
    if reserved_fen := books.reserved_fen.get(meter.name, 0):
        yield f"{meter.name}: {reserved_fen} fen are still reserved"
    if meter.unexplained_fen:
        yield f"{meter.name}: its credit moved by {meter.unexplained_fen} fen without a purchase"
    if waiting_fen < 0:
        yield f"{meter.name}: its customer spent {-waiting_fen} fen that nobody had paid"
    if meter.name in books.escalated and not meter.foreign:
        yield f"{meter.name}: an order was escalated after few tries, but nobody interfered"


# ---- supply -------------------------------------------------------------------------------------


def _switching(meter: Witness, books: Books) -> list[AttemptRow]:
    return [a for a in books.attempts if a.meter == meter.name and a.kind in EFFECTS]


def _switched_as_ordered(meter: Witness, books: Books) -> Iterator[str]:
    """No relay moves without an order, and none is left in a state nobody ordered."""
    attempts = _switching(meter, books)
    for at, forced in meter.forced_log:
        if not any(
            forced in EFFECTS[a.kind] and a.sent_at <= at <= a.sent_at + IN_FLIGHT for a in attempts
        ):
            yield f"{meter.name}: forced control became {forced.value} without an order"
    confirmed = [a for a in attempts if books.commands[a.command_id].state == "confirmed"]
    if confirmed:
        last = max(confirmed, key=lambda attempt: attempt.sent_at)
        if meter.forced not in EFFECTS[last.kind]:
            yield f"{meter.name}: left {meter.forced.value} after a confirmed {last.kind}"
    if meter.forced is Forced.CLOSED:
        yield f"{meter.name}: stays forced closed, whatever its credit"


def _cuts_keep_the_rules(meter: Witness, books: Books) -> Iterator[str]:
    for attempt in _switching(meter, books):
        if attempt.kind != "cut":
            continue
        command = books.commands[attempt.command_id]
        if attempt.sent_at > command.expires_at:
            yield f"{meter.name}: a cut left after it had expired"
        if attempt.sent_at > command.ordered_at + CUT_WAITS_AT_MOST:
            yield f"{meter.name}: a cut left hours after it was wanted"
        wall = attempt.sent_at + SHANGHAI
        if wall.weekday() >= SATURDAY or not CUTS_FROM <= wall.hour < CUTS_UNTIL:
            yield f"{meter.name}: cut at {wall:%A %H:%M}"
        if any(name == meter.name and since < attempt.sent_at for name, since in books.protected):
            yield f"{meter.name}: cut though it is protected"
        for sale in books.sales:
            if sale.meter == meter.name:
                yield from _cut_against_money(sale, command.ordered_at, attempt.sent_at)


def _cut_against_money(sale: SaleRow, ordered_at: datetime, sent_at: datetime) -> Iterator[str]:
    if sale.opened_at <= sent_at and (sale.closed_at is None or sent_at < sale.closed_at):
        yield f"{sale.meter}: cut while a payment was in flight"
    landed_at = sale.closed_at if sale.state == "landed" else None
    if landed_at is not None and ordered_at <= landed_at <= sent_at:
        yield f"{sale.meter}: cut although a payment had arrived"


def rates_hold(books: Books) -> Iterator[str]:
    """Hard limits below every screen, as small as a trial of a few meters sets them."""
    for kind, at_most in (("cut", CUTS_AT_MOST), ("restore", RESTORES_AT_MOST)):
        sent = [attempt.sent_at for attempt in books.attempts if attempt.kind == kind]
        for first, beyond in zip(sent, sent[at_most:], strict=False):
            if beyond < first + RATE_SPAN:
                yield f"more than {at_most} orders to {kind} left within {RATE_SPAN}"


def _no_relay_toggles_twice(books: Books) -> Iterator[str]:
    last: dict[str, AttemptRow] = {}
    for attempt in books.attempts:
        if attempt.kind not in EFFECTS:
            continue
        before = last.get(attempt.meter)
        last[attempt.meter] = attempt
        if before is None or (before.kind == "cut") == (attempt.kind == "cut"):
            continue
        if attempt.sent_at < before.sent_at + TOGGLE_GAP:
            yield f"{attempt.meter}: {attempt.kind} within ten minutes of a {before.kind}"


def _light_follows_money(meter: Witness, books: Books) -> Iterator[str]:
    """Who paid enough after a cut is not left in the dark by our own order."""
    if meter.forced is not Forced.OPEN or meter.credit_after_sale_fen <= 0:
        return
    landed = [
        s.closed_at
        for s in books.sales
        if s.meter == meter.name and s.state == "landed" and s.closed_at is not None
    ]
    cuts = [a.sent_at for a in _switching(meter, books) if a.kind == "cut"]
    if landed and (not cuts or max(cuts) < max(landed)):
        yield f"{meter.name}: paid, has credit, and stays cut"
