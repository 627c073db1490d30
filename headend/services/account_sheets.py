"""Files of accounts as bytes: CSV (UTF-8 or GB18030) and XLSX, read with care and written safely.

Whoever sends a file may be wrong or hostile: its size, its rows and what it unpacks to are bounded,
and a formula is neither calculated nor taken for a value.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openpyxl import Workbook, load_workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import Cell
from openpyxl.styles import Font

from headend.domain.account_rows import (
    COLUMNS,
    NEEDED,
    Mistake,
    Row,
    column_of,
    heading,
    meant,
    neutral,
)
from headend.domain.problems import Problem
from headend.store.account_files import Hung

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
ROWS_MAX: Final = 10_000
# An XLSX is a zip: a small one may unpack to anything.
UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
CELLS_MAX: Final = 40
_UTF8_MARK: Final = "\ufeff"
_FORMULA: Final = "\0formula"
_NO_TEXT: Final = "\0no-text"
_MARKS: Final = {_FORMULA: "accounts-row-formula", _NO_TEXT: "accounts-row-cell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The rows of a file, and the cells that could not be understood."""

    rows: Sequence[Row]
    mistakes: Sequence[Mistake]
    sha256: str


async def read(content: bytes) -> Sheet:
    """The rows of a file. Raises Problem for what is wrong with the file as a whole."""
    if len(content) > FILE_BYTES_MAX:
        raise Problem("accounts-file-too-big", detail=f"{FILE_BYTES_MAX // 1024 // 1024} MB")
    return await asyncio.to_thread(_read, content)


def _read(content: bytes) -> Sheet:
    lines = _xlsx_lines(content) if content.startswith(b"PK") else _csv_lines(content)
    titles: list[str | None] | None = None
    rows: list[Row] = []
    mistakes: list[Mistake] = []
    for number, cells in enumerate(lines, start=1):
        while cells and not cells[-1].strip():
            cells.pop()
        if not cells:
            continue
        if titles is None:
            titles = _titles(cells)
            continue
        if len(rows) == ROWS_MAX:
            raise Problem("accounts-file-too-long", count=ROWS_MAX)
        rows.append(_row(number, titles, cells, mistakes))
    if not rows:
        raise Problem("accounts-file-empty")
    return Sheet(rows=rows, mistakes=mistakes, sha256=hashlib.sha256(content).hexdigest())


def _titles(cells: Sequence[str]) -> list[str | None]:
    titles: list[str | None] = []
    known = ", ".join(f"{heading(one, 'en')} / {heading(one, 'zh')}" for one in COLUMNS)
    for cell in cells:
        title = meant(cell.removeprefix(_UTF8_MARK).strip())
        column = column_of(title)
        if column is None and title:
            raise Problem("accounts-file-column-unknown", column=title[:40], detail=known)
        if column is not None and column in titles:
            raise Problem("accounts-file-column-twice", column=title)
        titles.append(column)
    for column in NEEDED:
        if column not in titles:
            raise Problem("accounts-file-no-column", column=heading(column, "en"), detail=known)
    return titles


def _row(
    number: int, titles: Sequence[str | None], cells: Sequence[str], mistakes: list[Mistake]
) -> Row:
    if len(cells) > len(titles):
        mistakes.append(Mistake(row=number, column="", problem=Problem("accounts-row-cells")))
    found: dict[str, str] = {}
    for place, column in enumerate(titles):
        cell = cells[place] if place < len(cells) else ""
        if column is None:
            continue
        if cell in _MARKS:
            mistakes.append(Mistake(row=number, column=column, problem=Problem(_MARKS[cell])))
            cell = ""
        # No table holds a zero byte; nobody types it.
        found[column] = meant(cell.replace("\0", "").strip())
    return Row(number=number, cells=found)


def _csv_lines(content: bytes) -> Iterator[list[str]]:
    text = _decoded(content)
    first = text.partition("\n")[0]
    # Excel writes what its country writes; a list of names holds commas, a heading does not.
    separator = max(",;\t", key=first.count)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    except csv.Error as error:
        raise Problem("accounts-file-kind") from error


def _decoded(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break  # UTF-16, or no text at all
        return text
    raise Problem("accounts-file-encoding")


def _xlsx_lines(content: bytes) -> Iterator[list[str]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(one.file_size for one in packed.infolist())
        if unpacked > UNPACKED_BYTES_MAX:
            raise Problem(
                "accounts-file-too-big", detail=f"{UNPACKED_BYTES_MAX // 1024 // 1024} MB"
            )
        book = load_workbook(io.BytesIO(content), read_only=True, keep_links=False)
        sheet = book.worksheets[0]
        # The file says how large it is; what it says may be wrong.
        sheet.reset_dimensions()
        for cells in sheet.iter_rows(max_col=CELLS_MAX):
            yield [_cell_text(cell) for cell in cells]
        book.close()
    except Problem:
        raise
    # What a broken file makes of a reader of zip and XML is not for us to list.
    except Exception as error:
        raise Problem("accounts-file-kind") from error


def _cell_text(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        return _FORMULA
    if isinstance(value, str):
        return value
    # Spreadsheets keep a number of digits as a number: a telephone is one, 1.5 is not.
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return str(int(value))
    return _NO_TEXT


async def csv_file(found: AsyncIterator[Hung], language: str) -> bytes:
    """The accounts as a CSV. It begins with a mark by which Excel knows UTF-8."""
    titles = _csv_line(heading(column, language) for column in COLUMNS)
    lines = [_csv_line(neutral(text) for text in _cells(hung)) async for hung in found]
    return (_UTF8_MARK + titles + "".join(lines)).encode()


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


async def xlsx_file(found: AsyncIterator[Hung], language: str) -> bytes:
    """The accounts as a workbook; every cell is text, so that no telephone loses its zeros."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet(title="accounts")
    sheet.freeze_panes = "A2"

    def line(texts: Iterable[str], *, bold: bool = False) -> list[Cell]:
        cells = []
        for text in texts:
            cell = WriteOnlyCell(sheet, value=text or None)
            cell.number_format = "@"
            if bold:
                cell.font = Font(bold=True)
            cells.append(cell)
        return cells

    sheet.append(line((heading(column, language) for column in COLUMNS), bold=True))
    async for hung in found:
        sheet.append(line(neutral(text) for text in _cells(hung)))
    made = io.BytesIO()
    await asyncio.to_thread(book.save, made)
    return made.getvalue()


def _cells(hung: Hung) -> tuple[str, ...]:
    person = hung.person
    return (
        hung.site,
        hung.building,
        hung.room,
        hung.meter,
        hung.customer_no,
        person.name,
        person.phone,
        person.address,
    )
