"""Files of reports: what stands in them, whole or not there, by schedule once each."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from openpyxl import load_workbook

from headend.domain.problems import Problem
from headend.domain.reports import Cadence, Grouping, Report, ReportKind, Row
from headend.domain.roles import Role
from headend.services.report_files import Reader, safe_text, write_file
from headend.services.reports import ReportDesk
from headend.store import people, report_schedules
from headend.store.database import Database
from headend.store.report_schedules import NewSchedule, Run
from headend.web.words import said
from tests.headend.house import SHANGHAI, TestClock

READER = Reader(language="en", zone=SHANGHAI, say=said)
ARREARS = Report(
    kind=ReportKind.ARREARS,
    grouping=None,
    first=date(2026, 3, 1),
    last=date(2026, 3, 1),
    sites=None,
)
SEEN = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)
ROW: Row = (
    "court", "A", "=1+1", "M1", "=cmd|' /C calc'!A0", "+8613800138000", 1234, -5, "dark", SEEN,
    None,
)  # fmt: skip


async def rows(*given: Row) -> AsyncIterator[Row]:
    for row in given:
        yield row


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "＝1"])
def test_what_a_spreadsheet_would_calculate_is_text(text: str) -> None:
    assert safe_text(text) == "'" + text
    assert safe_text("a" + text) == "a" + text


async def test_a_csv_says_each_value_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    await write_file(path, "csv", ARREARS, rows(ROW), reader=READER, told=lambda _: None)
    text = path.read_bytes().decode("utf-8-sig")
    titles, row, totals = csv.reader(io.StringIO(text))
    assert titles[6] == "Owed, yuan"
    assert row[:8] == [
        "court", "A", "'=1+1", "M1", "'=cmd|' /C calc'!A0", "'+8613800138000", "12.34", "-0.05"
    ]  # fmt: skip
    assert row[8:] == ["off", "2026-03-01 10:03:04", ""]
    assert (totals[0], totals[6], totals[7]) == ("Total", "12.34", "-0.05")


async def test_an_xlsx_holds_numbers_and_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    await write_file(path, "xlsx", ARREARS, rows(ROW), reader=READER, told=lambda _: None)
    sheet = load_workbook(path).active
    assert sheet is not None
    cells = list(sheet.iter_rows())
    assert [len(line) for line in cells] == [11, 11, 11]
    assert not any(cell.data_type == "f" for line in cells for cell in line)
    assert cells[1][4].value == "'=cmd|' /C calc'!A0"
    assert Decimal(str(cells[1][6].value)) == Decimal("12.34")
    assert cells[1][9].value == datetime(2026, 3, 1, 10, 3, 4)  # noqa: DTZ001  # as a sheet has it


async def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[Row]:
        yield ROW
        raise ConnectionError("the database went away")

    for kind in ("csv", "xlsx"):
        path = tmp_path / f"a.{kind}"
        path.write_text("the file of yesterday")
        with pytest.raises(ConnectionError):
            await write_file(path, kind, ARREARS, broken(), reader=READER, told=lambda _: None)
        assert path.read_text() == "the file of yesterday"
        assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".part")] == []


class Post:
    """A mailer that keeps letters, or refuses them."""

    def __init__(self, problem: Problem | None = None) -> None:
        self.letters: list[tuple[Sequence[str], str, bytes]] = []
        self._problem = problem

    async def send_file(
        self, to: Sequence[str], subject: str, text: str, *, name: str, media_type: str, data: bytes
    ) -> None:
        assert media_type == "text/csv"
        if self._problem is not None:
            raise self._problem
        self.letters.append((to, name, data))


async def scheduled(
    database: Database, clock: TestClock, folder: Path, post: Post | None, **more: object
) -> ReportDesk:
    """A desk with one daily schedule at seven, kept since the clock's now."""
    async with database.transaction() as tx:
        owner = await people.add_operator(tx, "wang", Role.MANAGER, at=clock.now())
        assert owner is not None
        wanted = {
            "name": "每日 sales/1", "kind": ReportKind.TURNOVER, "grouping": Grouping.DAY,
            "site_id": None, "format": "csv", "language": "en", "cadence": Cadence.DAILY,
            "at_time": time(7), "folder": "finance", "mail_to": (), "owner_id": owner.operator_id,
        } | more  # fmt: skip
        await report_schedules.add_schedule(tx, NewSchedule(**wanted), clock.now())  # type: ignore[arg-type]
    return ReportDesk(database, clock, folder=folder, zone=SHANGHAI, say=said, mailer=post)


async def all_runs(database: Database) -> list[Run]:
    async with database.transaction() as tx:
        return await report_schedules.runs(tx, 0, see_all=True)


async def test_what_was_missed_is_made_up_once_each(database: Database, tmp_path: Path) -> None:
    clock = TestClock()  # 20 March, ten in the morning
    desk = await scheduled(database, clock, tmp_path, None)
    assert await desk.look() == 0, "nothing was due since it was kept"
    clock.instant += timedelta(days=3)  # nothing ran meanwhile
    assert await desk.look() == 3
    assert await desk.look() == 0, "a second tick makes nothing twice"
    made = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.csv"))
    assert made == [
        f"finance/每日-sales-1-turnover-by-day-2026-03-{day}-2026-03-{day}.csv"
        for day in (20, 21, 22)
    ]
    assert {run.state for run in await all_runs(database)} == {"done"}


async def test_a_run_that_a_crash_left_is_made_by_the_next_start(
    database: Database, tmp_path: Path
) -> None:
    clock = TestClock()
    desk = await scheduled(database, clock, tmp_path, None)
    async with database.transaction() as tx:
        owner = await people.find_operator(tx, "wang")
        assert owner is not None
        run_id = uuid4()
        day = date(2026, 3, 1)
        for _ in range(2):  # asked twice: one file
            await report_schedules.add_run(
                tx, run_id=run_id, asked_by=owner.operator_id, kind=ReportKind.LINES,
                grouping=None, site_id=None, first=day, last=day, format="xlsx", language="zh",
                at=clock.now(),
            )  # fmt: skip
        begun = await report_schedules.next_run(tx)
        assert begun is not None
        assert begun.state == "running"
    assert await desk.look() == 1
    (run,) = await all_runs(database)
    assert (run.state, run.rows) == ("done", 0)
    assert run.file is not None
    assert (tmp_path / run.file).is_file()


async def test_it_goes_out_by_mail_and_says_when_it_did_not(
    database: Database, tmp_path: Path
) -> None:
    clock, post = TestClock(), Post()
    desk = await scheduled(database, clock, tmp_path, post, mail_to=["cfo@example.com"])
    clock.instant += timedelta(days=1)
    await desk.look()
    ((to, name, data),) = post.letters
    assert list(to) == ["cfo@example.com"]
    assert data == (tmp_path / "finance" / name).read_bytes()
    desk.mailer = Post(Problem("no-mail"))
    clock.instant += timedelta(days=1)
    await desk.look()
    newest = max(await all_runs(database), key=lambda run: run.asked_at)
    assert newest.state == "done", "the file is there"
    assert "was not mailed" in newest.note


async def test_whose_eyes_are_closed_sees_nothing(database: Database, tmp_path: Path) -> None:
    clock = TestClock()
    desk = await scheduled(database, clock, tmp_path, None)
    async with database.transaction() as tx:
        owner = await people.find_operator(tx, "wang")
        assert owner is not None
        await people.disable_operator(tx, owner.operator_id, clock.now())
    clock.instant += timedelta(days=1)
    await desk.look()
    (run,) = await all_runs(database)
    assert (run.state, run.file) == ("failed", None)
    assert "wang" in run.note
    assert list(tmp_path.rglob("*.csv")) == []
