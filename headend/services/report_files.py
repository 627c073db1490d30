"""Reports as files: CSV and XLSX, written row by row, whole or not there at all.

A cell that a spreadsheet would take for a formula is text: what tenants and operators type goes
into these files, and somebody opens them with all rights of their desk.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import Cell
from openpyxl.styles import Font

from headend.domain.reports import Column, Report, Row, Shape, Value, add_up

FORMATS: Final = ("csv", "xlsx")
MEDIA_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
# What makes a spreadsheet calculate, or hide the cell's true beginning from whoever looks.
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# Told to whoever waits this often.
TELL_EVERY_ROWS: Final = 500
# A spreadsheet has no more.
XLSX_ROWS_MAX: Final = 1_048_000

Say: TypeAlias = Callable[[object, str], str]  # a stored code, a language: its word
Told: TypeAlias = Callable[[int], None]


class TooManyRows(ValueError):
    """More rows than a sheet holds; a CSV has no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who the file is for: their language, the wall clock, the words of codes."""

    language: str
    zone: tzinfo
    say: Say


@dataclass(slots=True)
class Totals:
    """Sums of the rows that passed by."""

    columns: Sequence[Column]
    rows: int = 0
    sums: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = [0] * len(self.columns)

    def add(self, row: Row) -> None:
        """One row more."""
        self.rows += 1
        add_up(self.columns, self.sums, row)

    def row(self, language: str) -> tuple[Value, ...]:
        """The last line of a file; empty where a sum means nothing."""
        word = "合计" if language == "zh" else "Total"
        return tuple(
            total if column.summed else (word if place == 0 else None)
            for place, (column, total) in enumerate(zip(self.columns, self.sums, strict=True))
        )

    @property
    def are_worth_it(self) -> bool:
        """Whether any column adds up to something."""
        return any(column.summed for column in self.columns)


def safe_text(text: str) -> str:
    """Text that stays text in a spreadsheet, whatever somebody typed."""
    return "'" + text if text.startswith(_DANGEROUS) else text


def decimal_text(value: int, digits: int) -> str:
    """An integer with its decimal point: -5, 2 is -0.05."""
    whole, rest = divmod(abs(value), 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{digits}}"


def as_text(value: Value, column: Column, reader: Reader) -> str:
    """A value in a CSV."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(reader.zone).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int):
        return _number_text(value, column.shape)
    if column.shape is Shape.WORD:
        return safe_text(reader.say(value, reader.language))
    return safe_text(value)


def _number_text(value: int, shape: Shape) -> str:
    digits = _DIGITS.get(shape)
    return str(value) if digits is None else decimal_text(value, digits)


_DIGITS: Final = {Shape.MONEY: 2, Shape.ENERGY: 3, Shape.SHARE: 3}


async def csv_lines(
    report: Report, rows: AsyncIterator[Row], reader: Reader, totals: Totals
) -> AsyncIterator[str]:
    """The file in pieces. It begins with a mark by which Excel knows UTF-8."""
    columns = report.columns
    yield "\ufeff" + _csv_line(safe_text(column.title(reader.language)) for column in columns)
    async for row in rows:
        totals.add(row)
        yield _csv_line(as_text(v, c, reader) for v, c in zip(row, columns, strict=True))
    if totals.are_worth_it:
        row = totals.row(reader.language)
        yield _csv_line(as_text(v, c, reader) for v, c in zip(row, columns, strict=True))


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file is at `path` at the end of the block, or was never there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def write_file(
    path: Path,
    kind: str,
    report: Report,
    rows: AsyncIterator[Row],
    *,
    reader: Reader,
    told: Told,
) -> Totals:
    """The report at `path`, atomically; `told` hears how many rows were written so far.

    Raises TooManyRows, OSError.
    """
    totals = Totals(report.columns)
    with whole_file(path) as part:
        if kind == "csv":
            with part.open("w", encoding="utf-8", newline="") as file:
                async for line in csv_lines(report, rows, reader, totals):
                    file.write(line)
                    await _tell(totals.rows, told)
        else:
            await _write_xlsx(part, report, rows, reader=reader, totals=totals, told=told)
    told(totals.rows)
    return totals


async def _write_xlsx(
    part: Path,
    report: Report,
    rows: AsyncIterator[Row],
    *,
    reader: Reader,
    totals: Totals,
    told: Told,
) -> None:
    book = Workbook(write_only=True)
    sheet = book.create_sheet(title=report.kind.value)
    sheet.freeze_panes = "A2"
    bold = Font(bold=True)

    def line(row: Row, font: Font | None = None) -> list[Cell]:
        cells = []
        for value, column in zip(row, report.columns, strict=True):
            made, shape = _xlsx_value(value, column, reader)
            cell = WriteOnlyCell(sheet, value=made)
            if shape:
                cell.number_format = shape
            if font is not None:
                cell.font = font
            cells.append(cell)
        return cells

    titles = []
    for column in report.columns:
        cell = WriteOnlyCell(sheet, value=safe_text(column.title(reader.language)))
        cell.font = bold
        titles.append(cell)
    sheet.append(titles)
    try:
        async for row in rows:
            totals.add(row)
            if totals.rows > XLSX_ROWS_MAX:
                raise TooManyRows(
                    f"a sheet holds {XLSX_ROWS_MAX} rows: ask for fewer days, or for CSV"
                )
            sheet.append(line(row))
            await _tell(totals.rows, told)
    except BaseException:
        sheet.close()  # its own temporary file is open
        raise
    if totals.are_worth_it:
        sheet.append(line(totals.row(reader.language), bold))
    await asyncio.to_thread(book.save, part)


_NUMBER_FORMATS: Final = {Shape.MONEY: "#,##0.00", Shape.ENERGY: "#,##0.000", Shape.SHARE: "0.0%"}


def _xlsx_value(value: Value, column: Column, reader: Reader) -> tuple[Any, str]:
    if value is None:
        return None, ""
    if isinstance(value, datetime):
        # A sheet knows no zones: the wall clock of the property, as on its screens.
        return value.astimezone(reader.zone).replace(tzinfo=None), "yyyy-mm-dd hh:mm:ss"
    if isinstance(value, date):
        return value, "yyyy-mm-dd"
    if isinstance(value, int):
        digits = _DIGITS.get(column.shape)
        if digits is None:
            return value, "0"
        return Decimal(value).scaleb(-digits), _NUMBER_FORMATS[column.shape]
    return as_text(value, column, reader), "@"


async def _tell(rows: int, told: Told) -> None:
    if rows % TELL_EVERY_ROWS == 0:
        told(rows)
        await asyncio.sleep(0)  # lines and pages have their turn


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
