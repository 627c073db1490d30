"""Rows of a file of customers and their meters: columns, cells, and what is wrong with them.

One row is one meter and who pays for it. The same columns go out and come in, so a file that was
exported, filled in and imported again changes exactly what somebody changed in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headend.domain.customers import Person, is_address, is_customer_number, is_name, is_phone
from headend.domain.problems import Problem

#: column → its headings, English and Chinese
HEADINGS: Final[Mapping[str, tuple[str, str]]] = {
    "property": ("Property", "项目"),
    "building": ("Building", "楼栋"),
    "room": ("Room", "房间"),
    "meter": ("Meter", "电表"),
    "customer_no": ("Customer number", "户号"),
    "name": ("Name", "姓名"),
    "phone": ("Telephone", "电话"),
    "address": ("Address", "地址"),
}
COLUMNS: Final = tuple(HEADINGS)
NEEDED: Final = ("meter", "name")
#: where a meter stands: may be left out, and is never changed by a file
PLACE: Final = ("property", "building", "room")
PERSON: Final = ("customer_no", "name", "phone", "address")

# What makes a spreadsheet calculate, or hide the true beginning of a cell.
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def neutral(text: str) -> str:
    """Text that stays text in a spreadsheet, whatever somebody typed."""
    return "'" + text if text.lstrip("'").startswith(_DANGEROUS) else text


def meant(cell: str) -> str:
    """What a cell says: the inverse of neutral()."""
    shielded = cell.startswith("'") and cell.lstrip("'").startswith(_DANGEROUS)
    return cell[1:] if shielded else cell


def heading(column: str, language: str) -> str:
    """How a column is called in "zh" or (anything else) English."""
    english, chinese = HEADINGS[column]
    return chinese if language == "zh" else english


def column_of(title: str) -> str | None:
    """The column a heading means, in either language or by its name; None: none of ours."""
    wanted = " ".join(title.split()).casefold()
    for column, titles in HEADINGS.items():
        if wanted in (column, *(one.casefold() for one in titles)):
            return column
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a file as it was written. `number`: what a spreadsheet shows beside it."""

    number: int
    cells: Mapping[str, str]  # by column; one that the file does not have is not in it

    def get(self, column: str) -> str:
        """What stands there; "" also where the file has no such column."""
        return self.cells.get(column, "")

    @property
    def says_nothing(self) -> bool:
        """Whether nobody was filled in for this meter: the row is passed over."""
        return not any(self.get(column) for column in PERSON)

    def person(self, there: Person | None = None) -> Person:
        """Who it is; a column that the file does not have leaves what is `there` alone."""
        old = there or Person(name="")
        return Person(
            name=self.get("name") or old.name,
            phone=self.cells.get("phone", old.phone),
            address=self.cells.get("address", old.address),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing wrong in one cell: what, and what to do."""

    row: int
    column: str  # "": the row as a whole
    problem: Problem

    def where(self, language: str) -> str:
        """Its column as the file calls it."""
        return heading(self.column, language) if self.column else ""


def mistake(row: Row, column: str, code: str, **facts: object) -> Mistake:
    """Something wrong with a row; `code` and `facts` are those of a Problem."""
    return Mistake(row=row.number, column=column, problem=Problem(code, **facts))


_SHAPES: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "customer_no": (is_customer_number, "accounts-row-number"),
    "name": (is_name, "accounts-row-name"),
    "phone": (is_phone, "accounts-row-phone"),
    "address": (is_address, "accounts-row-address"),
}


def mistakes_inside(rows: Sequence[Row]) -> Iterator[Mistake]:
    """What is wrong with rows by themselves and among each other, without looking elsewhere."""
    meters: dict[str, int] = {}
    persons: dict[str, Row] = {}
    for row in rows:
        if not row.get("meter"):
            yield mistake(row, "meter", "accounts-row-no-meter")
        elif row.get("meter") in meters:
            first = meters[row.get("meter")]
            yield mistake(row, "meter", "accounts-row-meter-twice", detail=first)
        meters.setdefault(row.get("meter"), row.number)
        for column, (fits, code) in _SHAPES.items():
            if row.get(column) and not fits(row.get(column)):
                yield mistake(row, column, code)
        number = row.get("customer_no")
        if not number and not row.get("name") and not row.says_nothing:
            yield mistake(row, "name", "accounts-row-no-name")
        first_of = persons.setdefault(number, row)
        if number and first_of is not row:
            for column in ("name", "phone", "address"):
                if row.get(column) != first_of.get(column):
                    yield mistake(row, column, "accounts-row-two-persons", detail=first_of.number)
