"""Accounts from and to files: each bad cell is named, nothing is half done, and the same file twice
is once."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from headend.domain.account_rows import COLUMNS, heading, meant, neutral
from headend.domain.customers import Person
from headend.domain.problems import Problem
from headend.domain.roles import Scope
from headend.services import account_files, account_sheets
from headend.services.account_files import Done, Plan
from headend.store import account_files as stored
from tests.headend.accounts.office import Office, office

HEAD = "Property,Building,Room,Meter,Customer number,Name,Telephone,Address"
EVERYWHERE = Scope()


def csv_of(*rows: str, head: str = HEAD) -> bytes:
    return "\r\n".join((head, *rows)).encode()


async def planned(shop: Office, content: bytes, scope: Scope = EVERYWHERE) -> Plan:
    return await account_files.dry_run(shop.services, await account_sheets.read(content), scope)


async def imported(shop: Office, content: bytes, scope: Scope = EVERYWHERE) -> Done:
    sheet = await account_sheets.read(content)
    async with shop.services.database.transaction() as tx:
        return await account_files.carry_out(
            tx, shop.services, sheet, scope,
            file_id=uuid4(), name="list.csv", operator_id=shop.cashier,
        )  # fmt: skip


async def exported(shop: Office, kind: str, scope: Scope = EVERYWHERE) -> bytes:
    async with shop.services.database.transaction() as tx:
        found = stored.everything(tx, scope)
        if kind == "xlsx":
            return await account_sheets.xlsx_file(found, "zh")
        return await account_sheets.csv_file(found, "en")


async def everything(shop: Office) -> list[tuple[object, ...]]:
    async with shop.services.database.transaction() as tx:
        return await tx.rows(
            "SELECT meter.name, customer_no, customer.name, phone, customer.address,"
            " account.name"
            " FROM account JOIN meter USING (meter_id) JOIN customer USING (customer_id)"
            " ORDER BY 1"
        )


async def test_a_file_opens_accounts_once_and_what_goes_out_comes_in(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as shop:
        file = csv_of(
            "court,,,M1,T-7,王芳,+86 138,=1+1", "court,,,M2,T-7,王芳,+86 138,=1+1", ",,,M4,,Li,,"
        )
        plan = await planned(shop, file)
        assert (plan.mistakes, len(plan.openings), plan.same) == ([], 3, 0)
        assert await everything(shop) == [], "a dry run changes nothing"
        assert await imported(shop, file) == Done(opened=3, changed=0, same=0)
        rows = await everything(shop)
        assert [row[:2] for row in rows] == [("M1", "T-7"), ("M2", "T-7"), ("M4", "100001")]
        assert rows[0][2:] == ("王芳", "+86 138", "=1+1", "王芳")
        assert await imported(shop, file) == Done(opened=0, changed=0, same=3)
        assert await everything(shop) == rows
        for kind in ("csv", "xlsx"):
            sent = await exported(shop, kind)
            assert await imported(shop, sent) == Done(opened=0, changed=0, same=3), kind
            assert await everything(shop) == rows, kind
        changed = (await exported(shop, "csv")).replace("王芳".encode(), "王芬".encode())
        assert await imported(shop, changed) == Done(opened=0, changed=1, same=1)
        assert {row[2] for row in await everything(shop)} == {"王芬", "Li"}
        assert (await everything(shop))[0][5] == "王芬", "the accounts too"
        async with shop.services.database.transaction() as tx:
            cases = await tx.value(
                "SELECT count(*) FROM account_case WHERE kind = 'opening' AND step = 'done'"
            )
            told = await tx.rows(
                "SELECT subject FROM desk_event WHERE action = 'accounts-imported'"
            )
        assert cases == 3, "each opening is on the customer's page"
        assert told[0][0].startswith("list.csv (")
        assert told[0][0].endswith("+3 ~0 =0")
        await shop.sound()


async def test_each_bad_cell_is_named_and_nothing_is_imported(dsn: str, tmp_path: Path) -> None:
    async with office(dsn, tmp_path) as shop:
        case = await shop.opened("M1")
        file = csv_of(
            ",,,M1,,Somebody else,,",
            ",B,,M2,,Li,,",
            ",,,M9,,Li,,",
            ",,,M4,no blanks,Li,mother,",
            ",,,M4,,Li,,",
            ",,,,,Li,,",
            ",,,M4,X1,,138,",
            ",,,M4,Y1,Li,,",
            ",,,M4,Y1,Wu,,",
            "",
            ",,,M2,,Li,,,too many",
        )
        plan = await planned(shop, file)
        named = {(one.row, one.column, one.problem.code) for one in plan.mistakes}
        assert named == {
            (2, "customer_no", "accounts-row-taken"),
            (3, "building", "accounts-row-place"),
            (4, "meter", "accounts-row-meter"),
            (5, "customer_no", "accounts-row-number"),
            (5, "phone", "accounts-row-phone"),
            (6, "meter", "accounts-row-meter-twice"),
            (7, "meter", "accounts-row-no-meter"),
            (8, "meter", "accounts-row-meter-twice"),
            (8, "name", "accounts-row-no-name"),
            (9, "meter", "accounts-row-meter-twice"),
            (10, "meter", "accounts-row-meter-twice"),
            (10, "name", "accounts-row-two-persons"),
            (12, "", "accounts-row-cells"),
            (12, "meter", "accounts-row-meter-twice"),
        }
        before = await everything(shop)
        with pytest.raises(Problem, match="14 mistakes, the first in row 2"):
            await imported(shop, file)
        assert await everything(shop) == before
        number = (await shop.customer()).customer_no  # type: ignore[union-attr]  # just opened
        assert case.customer_id is not None
        mended = csv_of(f",,,M2,{number},,,")
        plan = await planned(shop, mended)
        assert len(plan.openings) == 1, "one more meter for somebody who is there"


async def test_a_meter_at_work_and_a_closed_customer_wait(dsn: str, tmp_path: Path) -> None:
    async with office(dsn, tmp_path) as shop:
        async with shop.services.database.transaction() as tx:
            meter_id = shop.at_work("M1").known.meter_id
            await tx.execute(
                "INSERT INTO sales_freeze (meter_id, frozen_at, reason) VALUES (%s, now(), 'x')",
                meter_id,
            )
            await tx.execute(
                "INSERT INTO customer (customer_no, site_id, name, opened_at, closed_at)"
                " SELECT 'GONE', site_id, 'Old', now(), now() FROM site"
            )
        plan = await planned(shop, csv_of(",,,M1,,Li,,", ",,,M2,GONE,Old,,"))
        assert [one.problem.code for one in plan.mistakes] == [
            "accounts-row-busy",
            "accounts-row-closed",
        ]


async def test_an_operator_of_one_building_reaches_its_meters_only(
    dsn: str, tmp_path: Path
) -> None:
    async with office(dsn, tmp_path) as shop:
        await imported(shop, csv_of(",,,M2,FAR-1,Far,,"))
        async with shop.services.database.transaction() as tx:
            await tx.execute(
                "UPDATE meter SET room_id = (SELECT room_id FROM room LIMIT 1) WHERE name = 'M1'"
            )
            building = await tx.value("SELECT building_id FROM building WHERE name = 'A'")
        near = Scope(sites=frozenset(), buildings=frozenset({building}))
        plan = await planned(shop, csv_of(",,,M1,FAR-1,Far,,", ",,,M2,,Far,,"), near)
        assert [(one.row, one.problem.code) for one in plan.mistakes] == [
            (2, "accounts-row-number-taken"),
            (3, "accounts-row-meter"),
        ]
        sent = (await exported(shop, "csv", near)).decode()
        assert "M1" in sent
        assert "M2" not in sent
        assert "Far" not in sent


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_what_spreadsheets_write_is_read(encoding: str, separator: str) -> None:
    text = f"电表{separator}姓名{separator}电话\nM1{separator}欧阳𠮷{separator}'+86 1\n"
    sheet = await account_sheets.read(text.encode(encoding))
    assert sheet.rows[0].cells == {"meter": "M1", "name": "欧阳𠮷", "phone": "+86 1"}
    assert sheet.rows[0].number == 2


async def test_numbers_of_a_workbook_are_text_and_formulas_are_told() -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Meter", "Name", "Telephone"])
    sheet.append(["M1", "Li", 13800000000])
    sheet.append(["M2", "=HYPERLINK(1)", 1.5])
    made = io.BytesIO()
    book.save(made)
    read = await account_sheets.read(made.getvalue())
    assert read.rows[0].get("phone") == "13800000000"
    assert [(one.row, one.column, one.problem.code) for one in read.mistakes] == [
        (3, "name", "accounts-row-formula"),
        (3, "phone", "accounts-row-cell"),
    ]


def bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/workbook.xml", b" " * (account_sheets.UNPACKED_BYTES_MAX + 1))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "accounts-file-empty"),
        (csv_of(), "accounts-file-empty"),
        (b"x" * (account_sheets.FILE_BYTES_MAX + 1), "accounts-file-too-big"),
        (bomb(), "accounts-file-too-big"),
        (b"PK\x03\x04 no zip", "accounts-file-kind"),
        (b'Meter,Name\nM1,"open', "accounts-file-kind"),
        ("Meter,Name\nM1,Li\n".encode("utf-16"), "accounts-file-encoding"),
        (b"Meter,Name\nM1,\xff\xff\n", "accounts-file-encoding"),
        (b"Meter,Phone number\nM1,1\n", "accounts-file-column-unknown"),
        (b"Meter,Telephone\nM1,1\n", "accounts-file-no-column"),
        ("Meter,Name,姓名\nM1,1,2\n".encode(), "accounts-file-column-twice"),
        (csv_of(*[f",,,M{n},,L,," for n in range(account_sheets.ROWS_MAX + 1)]),
         "accounts-file-too-long"),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_read_says_why(content: bytes, code: str) -> None:
    with pytest.raises(Problem) as told:
        await account_sheets.read(content)
    assert told.value.code == code


@given(st.text(alphabet=st.sampled_from("'=+-@＝ab"), max_size=6))
def test_a_shielded_cell_is_never_a_formula_and_means_what_it_meant(text: str) -> None:
    assert not neutral(text).startswith(("=", "+", "-", "@", "＝"))
    assert meant(neutral(text)) == text


async def test_a_workbook_holds_no_formula_whatever_tenants_are_called() -> None:
    nasty = stored.Hung(
        meter="M1", meter_id=1, site_id=1, site="court", building="", room="", customer_id=1,
        customer_no="C1", person=Person(name="=cmd|' /C calc'!A0", phone="+86"),
    )  # fmt: skip

    async def found() -> AsyncIterator[stored.Hung]:
        yield nasty

    made = await account_sheets.xlsx_file(found(), "en")
    sheet = load_workbook(io.BytesIO(made)).worksheets[0]
    assert [cell.value for cell in sheet[1]] == [heading(one, "en") for one in COLUMNS]
    assert {cell.data_type for cell in sheet[2] if cell.value is not None} == {"s"}
    assert sheet["F2"].value == "'=cmd|' /C calc'!A0"
    assert b"'=cmd" in await account_sheets.csv_file(found(), "zh")
