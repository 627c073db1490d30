"""What may be asked, and when a schedule is due."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from headend.domain.reports import (
    DAYS_MAX,
    GROUPINGS,
    MADE_UP_MAX,
    BadReport,
    Cadence,
    Grouping,
    Report,
    ReportKind,
    due_instants,
    period_of,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 1)


@pytest.mark.parametrize("kind", list(ReportKind))
def test_each_kind_has_columns_of_one_name_each(kind: ReportKind) -> None:
    for by in GROUPINGS.get(kind, (None,)):
        report = Report(kind=kind, grouping=by, first=DAY, last=DAY, sites=None)
        names = [column.name for column in report.columns]
        assert len(set(names)) == len(names)
        assert all(column.title("zh") != column.title("en") for column in report.columns)


@pytest.mark.parametrize(
    ("kind", "by", "days"),
    [
        (ReportKind.TURNOVER, None, 1),
        (ReportKind.USE, Grouping.OPERATOR, 1),
        (ReportKind.LOSS, Grouping.DAY, 1),
        (ReportKind.TURNOVER, Grouping.DAY, 0),
        (ReportKind.TURNOVER, Grouping.DAY, DAYS_MAX + 1),
    ],
)
def test_what_is_no_report(kind: ReportKind, by: Grouping | None, days: int) -> None:
    with pytest.raises(BadReport):
        Report(kind=kind, grouping=by, first=DAY, last=DAY + timedelta(days=days - 1), sites=None)


def test_each_missed_day_is_due_once_and_not_for_ever() -> None:
    made = datetime(2026, 3, 1, 12, tzinfo=UTC)  # 20:00 in Shanghai
    now = datetime(2026, 3, 5, 0, 0, tzinfo=UTC)  # 08:00
    due = list(due_instants(Cadence.DAILY, time(7), SHANGHAI, made, now))
    assert [at.astimezone(SHANGHAI).day for at in due] == [2, 3, 4, 5]
    assert list(due_instants(Cadence.DAILY, time(7), SHANGHAI, due[-1], now)) == []
    late = due[-1] + timedelta(days=400)
    assert len(list(due_instants(Cadence.DAILY, time(7), SHANGHAI, due[-1], late))) == MADE_UP_MAX


@pytest.mark.parametrize(
    ("cadence", "days", "period"),
    [
        (Cadence.WEEKLY, [2, 9, 16, 23, 30], (date(2026, 2, 23), date(2026, 3, 1))),
        (Cadence.MONTHLY, [1], (date(2026, 2, 1), date(2026, 2, 28))),
    ],
)
def test_mondays_and_firsts(cadence: Cadence, days: list[int], period: tuple[date, date]) -> None:
    zone = SHANGHAI
    after = datetime(2026, 2, 28, 12, tzinfo=zone)
    due = list(due_instants(cadence, time(7), zone, after, datetime(2026, 3, 31, 12, tzinfo=zone)))
    assert [at.day for at in due] == days
    assert period_of(cadence, due[0].date()) == period
