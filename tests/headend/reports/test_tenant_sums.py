"""What the tenant's page works out: bills, days left, the use of a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from headend.domain.tenant_page import Bill, Look, bill, days_left, used_on_last_day

AT = datetime(2026, 3, 1, 16, tzinfo=UTC)


def look(days: float, wh: int | None, fen: int | None) -> Look:
    return Look(at=AT + timedelta(days=days), energy_wh=wh, credit_fen=fen)


@pytest.mark.parametrize(
    ("first", "last", "credited", "spent"),
    [
        (look(0, 0, 5000), look(10, 80_000, 1000), 0, 4000),
        (look(0, 0, 100), look(10, 80_000, 4100), 10_000, 6000),
        (look(0, 0, 100), look(10, 80_000, -200), 0, 300),
        (look(0, 0, 100), look(10, 80_000, 500), 0, None),  # somebody else's purchase
        (look(0, 90_000, 500), look(10, 80_000, 100), 0, None),  # another meter
        (look(0, 0, None), look(10, 1, 500), 0, None),
        (look(1, 0, 500), look(1, 0, 500), 0, None),
    ],
)
def test_what_was_spent_follows_from_the_other_three(
    first: Look, last: Look, credited: int, spent: int | None
) -> None:
    made = bill(first, last, credited)
    assert (None if made is None else made.spent_fen) == spent
    if made is not None:
        assert made.credit_before_fen + credited - made.spent_fen == made.credit_after_fen


def pace(days: float, spent_fen: int) -> Bill:
    made = bill(look(0, 0, spent_fen), look(days, 1, 0), 0)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("credit", "of", "left"),
    [
        (1000, pace(10, 1000), 10),
        (999, pace(10, 1000), 9),
        (0, pace(10, 1000), 0),
        (-50, pace(10, 1000), 0),
        (10**9, pace(10, 1), 365),
        (1000, pace(0.5, 1000), None),  # half a day says nothing
        (1000, pace(10, 0), None),
        (None, pace(10, 1000), None),
        (1000, None, None),
    ],
)
def test_how_long_it_lasts(credit: int | None, of: Bill | None, left: int | None) -> None:
    assert days_left(credit, of) == left


def test_the_use_of_the_newest_day() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    assert used_on_last_day([look(0, 1000, 0)], zone) is None
    found = used_on_last_day([look(0, 1000, 0), look(0.5, None, 1), look(1, 4500, 0)], zone)
    assert found is not None
    assert found[1] == 3500
    assert used_on_last_day([look(0, 5000, 0), look(1, 4500, 0)], zone) is None
