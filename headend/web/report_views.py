"""A report as a page shows it: cells as people read them, and a chart that says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any, Final
from urllib.parse import quote

from headend.domain.reports import Column, Grouping, Report, ReportKind, Row, Shape, Value
from headend.services.report_files import Totals
from headend.web import desk, texts, words

# A table longer than this is a file.
ROWS_SHOWN: Final = 400
# More bars than this are a carpet.
BARS_MAX: Final = 40
_RIGHT: Final = frozenset({Shape.COUNT, Shape.MONEY, Shape.ENERGY, Shape.SHARE})
# The columns that are drawn: what stands along the axis, and what is as high.
_DRAWN: Final[Mapping[ReportKind, tuple[str, tuple[str, ...]]]] = {
    ReportKind.ARREARS: ("meter", ("owed_fen",)),
    ReportKind.LOSS: ("master", ("loss_wh",)),
}
# Without a number worth drawing: how many, by the day of this instant.
_COUNTED: Final = {
    ReportKind.LINES: "at",
    ReportKind.CARDS_OUT: "since",
    ReportKind.UNKNOWN: "ordered_at",
}
_COLOURS: Final = ("--accent", "--good")


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell as text; `right`: a number, under its title on the right."""

    text: str
    title: str
    right: bool
    link: str = ""


def cell(value: Value, column: Column, language: str, zone: tzinfo) -> CellView:
    """A value as people read it."""
    link = ""
    if column.name == "meter" and isinstance(value, str):
        link = "/meters/"
    elif column.name == "command_id":
        link = "/commands/"
    return CellView(
        text=_text(value, column, language, zone),
        title=column.title(language),
        right=column.shape in _RIGHT,
        link=link + quote(str(value), safe="") if link else "",
    )


def _text(value: Value, column: Column, language: str, zone: tzinfo) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return texts.local(value, zone, "%Y-%m-%d %H:%M")
    if isinstance(value, int):
        return _number(value, column.shape)
    if column.shape is Shape.WORD:
        return words.said(value, language)
    return str(value)


def _number(value: int, shape: Shape) -> str:
    if shape is Shape.MONEY:
        return texts.yuan(value)
    if shape is Shape.ENERGY:
        return ("−" if value < 0 else "") + texts.kwh(abs(value))
    if shape is Shape.SHARE:
        sign = "−" if value < 0 else ""
        return f"{sign}{abs(value) // 10}.{abs(value) % 10} %"
    return f"{value:,}"


def charts(
    report: Report, rows: Sequence[Row], language: str, zone: tzinfo
) -> list[tuple[str, dict[str, Any]]]:
    """(title, chart) of each curve worth drawing over these rows."""
    if not rows:
        return []
    columns = {column.name: place for place, column in enumerate(report.columns)}
    if report.kind in _COUNTED:
        return [_by_day_counted(rows, columns[_COUNTED[report.kind]], language, zone)]
    if report.grouping is None:
        along, drawn = _DRAWN[report.kind]
    else:
        along = report.columns[0].name
        money = "posted_fen" if report.grouping is Grouping.CHANNEL else "taken_fen"
        drawn = tuple(name for name in ("used_wh", money) if name in columns)
    return [
        _chart(report, rows, columns[along], columns[name], colour, language)
        for name, colour in zip(drawn, _COLOURS, strict=False)
    ]


def _chart(  # noqa: PLR0917  # two columns of one table
    report: Report, rows: Sequence[Row], along: int, up: int, colour: str, language: str
) -> tuple[str, dict[str, Any]]:
    column, key = report.columns[up], report.columns[along]
    title = column.title(language)
    divisor = 100 if column.shape is Shape.MONEY else 1000
    drawn = rows if key.shape is Shape.DAY else rows[:BARS_MAX]
    heights = [_height(row[up], divisor) for row in drawn]
    names: list[str] | None = None
    if key.shape is Shape.DAY:
        xs = [desk.noon_s(day) for day in _days(row[along] for row in drawn)]
    else:
        xs = list(range(len(drawn)))
        names = [
            words.said(row[along], language) if row[along] is not None else "–" for row in drawn
        ]
    return title, _bars(xs, heights, names, key.title(language), title, colour)


def _height(value: Value, divisor: int) -> float | None:
    return value / divisor if isinstance(value, int) else None


def _days(values: Iterable[Value]) -> Iterable[date]:
    for value in values:
        assert isinstance(value, date)
        yield value


def _by_day_counted(
    rows: Sequence[Row], place: int, language: str, zone: tzinfo
) -> tuple[str, dict[str, Any]]:
    counts: dict[date, int] = {}
    for row in rows:
        at = row[place]
        assert isinstance(at, datetime)
        day = at.astimezone(zone).date()
        counts[day] = counts.get(day, 0) + 1
    title, by = ("数量", "日期") if language == "zh" else ("How many", "Day")
    days = sorted(counts)
    return title, _bars(
        [desk.noon_s(day) for day in days],
        [counts[day] for day in days],
        None,
        by,
        title,
        "--accent",
    )


def _bars(  # noqa: PLR0917  # what a chart is made of
    xs: Sequence[int],
    heights: Sequence[float | None],
    names: Sequence[str] | None,
    x: str,
    label: str,
    colour: str,
) -> dict[str, Any]:
    # A single bar would be as wide as the page.
    series = [{"label": label, "colour": colour, "bars": True}]
    made: dict[str, Any] = {"x": x, "series": series, "data": [xs, heights]}
    if names is not None:
        made["labels"] = names
    return made


def totals_row(totals: Totals, report: Report, language: str, zone: tzinfo) -> list[CellView]:
    """The last line under a table; empty where nothing adds up."""
    if not totals.are_worth_it:
        return []
    return [
        CellView(
            text="" if value is None else _text(value, column, language, zone),
            title=column.title(language),
            right=column.shape in _RIGHT,
        )
        for value, column in zip(totals.row(language), report.columns, strict=True)
    ]
