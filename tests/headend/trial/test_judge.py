"""The judge objects to each kind of wrong: one that never objects proves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from headend.trial.judge import (
    AttemptRow,
    Books,
    CommandRow,
    SaleRow,
    Witness,
    judge,
    rates_hold,
)
from simulators.metering import Forced

NOON = datetime(2026, 3, 18, 4, 0, tzinfo=UTC)  # a Wednesday in Shanghai
SOLD, CUT, RESTORED = UUID(int=1), UUID(int=2), UUID(int=3)


def command(
    number: UUID, kind: str, state: str = "confirmed", amount_fen: int | None = None
) -> CommandRow:
    return CommandRow(
        command_id=number,
        meter="M",
        kind=kind,
        state=state,
        amount_fen=amount_fen,
        purchase_count=4 if kind == "top_up" else None,
        ordered_at=NOON,
        expires_at=NOON + timedelta(hours=2),
        outcome="",
    )


def attempt(number: UUID, kind: str, minutes: float) -> AttemptRow:
    return AttemptRow(number, "M", kind, NOON + timedelta(minutes=minutes), "applied")


# A meter that was cut, paid fifty yuan half an hour later and has its light back.
GOOD_BOOKS = Books(
    commands={
        SOLD: command(SOLD, "top_up", amount_fen=5000),
        CUT: command(CUT, "cut"),
        RESTORED: command(RESTORED, "restore"),
    },
    attempts=[
        attempt(CUT, "cut", 1),
        attempt(SOLD, "top_up", 30),
        attempt(RESTORED, "restore", 31),
    ],
    sales=[
        SaleRow("M", 4, 5000, "landed", NOON + timedelta(minutes=29), NOON + timedelta(minutes=30))
    ],
    posted_fen={("till", None): -5000, ("customer", "M"): 0, ("meter", "M"): 5000},
    reserved_fen={},
    escalated=set(),
    protected=[],
)
GOOD_METER = Witness(
    name="M",
    own=((4, 5000),),
    foreign=False,
    forced=Forced.RELEASED,
    credit_after_sale_fen=5000,
    forced_log=(
        (NOON + timedelta(minutes=1), Forced.OPEN),
        (NOON + timedelta(minutes=31), Forced.RELEASED),
    ),
)
PAID = {"M": 5000}


def test_a_good_day_is_not_objected_to() -> None:
    assert judge([GOOD_METER], GOOD_BOOKS, PAID) == []
    assert list(rates_hold(GOOD_BOOKS)) == []


WRONG_METERS = {
    "times too often": replace(GOOD_METER, own=((4, 5000), (4, 5000))),
    "only in the books": replace(GOOD_METER, own=()),
    "without an order": replace(
        GOOD_METER, forced_log=((NOON + timedelta(minutes=5), Forced.OPEN),)
    ),
    "left open after a confirmed restore": replace(GOOD_METER, forced=Forced.OPEN),
    "stays forced closed": replace(GOOD_METER, forced=Forced.CLOSED),
    "stays cut": replace(GOOD_METER, forced=Forced.OPEN),
    "without a purchase": replace(GOOD_METER, unexplained_fen=-200),
}


@pytest.mark.parametrize("objection", WRONG_METERS)
def test_a_meter_that_tells_another_story(objection: str) -> None:
    found = judge([WRONG_METERS[objection]], GOOD_BOOKS, PAID)
    assert any(objection in sentence for sentence in found), found


def moved(minutes: float) -> Books:
    """The same day with the restore at another minute."""
    others = [one for one in GOOD_BOOKS.attempts if one.kind != "restore"]
    return replace(GOOD_BOOKS, attempts=[*others, attempt(RESTORED, "restore", minutes)])


def cut_at(at: datetime) -> Books:
    changed = replace(GOOD_BOOKS.attempts[0], sent_at=at)
    return replace(GOOD_BOOKS, attempts=[changed, *GOOD_BOOKS.attempts[1:]])


WRONG_BOOKS = {
    "never ended": replace(
        GOOD_BOOKS, commands=GOOD_BOOKS.commands | {CUT: command(CUT, "cut", "unknown")}
    ),
    "the ledger posted 4000": replace(
        GOOD_BOOKS,
        posted_fen={("till", None): -5000, ("customer", "M"): 1000, ("meter", "M"): 4000},
    ),
    "do not sum to zero": replace(
        GOOD_BOOKS, posted_fen=GOOD_BOOKS.posted_fen | {("fee", None): 1}
    ),
    "still reserved": replace(GOOD_BOOKS, reserved_fen={"M": 5000}),
    "were paid": replace(GOOD_BOOKS, posted_fen=GOOD_BOOKS.posted_fen | {("customer", "M"): 77}),
    "nobody interfered": replace(GOOD_BOOKS, escalated={"M"}),
    "confirmed 1 times, not landed": replace(
        GOOD_BOOKS, sales=[replace(GOOD_BOOKS.sales[0], state="burned")]
    ),
    "restore within ten minutes of a cut": moved(9),
    "after it had expired": cut_at(NOON + timedelta(hours=3)),
    "hours after it was wanted": cut_at(NOON + timedelta(hours=2, minutes=1)),
    "nobody had paid": replace(
        GOOD_BOOKS, posted_fen=GOOD_BOOKS.posted_fen | {("customer", "M"): -5000}
    ),
    "cut at Wednesday 20:30": cut_at(NOON + timedelta(hours=8, minutes=30)),
    "cut at Saturday": cut_at(NOON + timedelta(days=3)),
    "protected": replace(GOOD_BOOKS, protected=[("M", NOON)]),
    "payment was in flight": cut_at(NOON + timedelta(minutes=29, seconds=30)),
    "payment had arrived": cut_at(NOON + timedelta(minutes=45)),
}


@pytest.mark.parametrize("objection", WRONG_BOOKS)
def test_books_that_tell_another_story(objection: str) -> None:
    found = judge([GOOD_METER], WRONG_BOOKS[objection], PAID)
    assert any(objection in sentence for sentence in found), found


def test_more_cuts_than_the_limit() -> None:
    three = [replace(attempt(CUT, "cut", minute), meter=f"M{minute}") for minute in (1, 2, 3)]
    assert any("more than 2" in found for found in rates_hold(replace(GOOD_BOOKS, attempts=three)))
