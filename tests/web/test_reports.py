"""Reports at the desk: on the page, as a file now or by and by, by schedule, through the API."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from datetime import timedelta
from pathlib import Path

from openpyxl import load_workbook

from headend.domain.reports import ReportKind
from headend.domain.roles import Role
from headend.store import people
from tests.headend.party import until
from tests.web.shop import Shop, open_shop
from tests.web.test_vend import form_of, proved


async def sold(shop: Shop) -> None:
    cashier = await shop.browser(Role.CASHIER)
    for meter, yuan in (("M1", "50.50"), ("M2", "20")):
        where, after = await form_of(cashier, meter)
        await cashier.post(where, meter=meter, amount=yuan, after=after)
        await proved(cashier, where.replace("/new/", "/"))


async def test_a_day_of_sales_on_the_page_and_in_files(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await sold(shop)
        manager = await shop.browser(Role.MANAGER)
        overview = (await manager.get("/reports")).text
        for kind in ReportKind:
            assert f'href="/reports/{kind.value}"' in overview
            assert (await manager.get(f"/reports/{kind.value}")).status_code == 200
        page = (await manager.get("/reports/turnover?by=day")).text
        assert page.count("70.50") >= 4, "taken and proved, in the row and under it"
        assert "data-chart=" in page
        by_person = (await manager.get("/reports/turnover?by=operator")).text
        assert ">cashier<" in by_person
        answer = await manager.get("/reports/turnover/file?format=csv&by=operator")
        assert "attachment" in answer.headers["content-disposition"]
        lines = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert lines[1][:3] == ["cashier", "2", "70.50"]
        assert lines[2][:3] == ["Total", "2", "70.50"]
        sheet = load_workbook(
            io.BytesIO((await manager.get("/reports/lines/file?format=xlsx")).content)
        ).active
        assert sheet is not None
        assert sheet.max_row == 1 + 4, "two payments, two top-ups"
        # Nothing is left behind; each file goes once its answer has.
        await until(lambda: not list((tmp_path / "reports" / "now").iterdir()))
        assert (await manager.get("/reports/turnover?by=nothing")).status_code == 404
        assert (await manager.get("/reports/loss?site=x")).status_code == 404

        run_id = re.findall(r'name="run_id" value="([^"]+)"', page)[0]
        today = re.findall(r'name="last" value="([^"]+)"', page)[0]
        typed = {"run_id": run_id, "by": "day", "first": today, "last": today, "format": "csv"}
        for _ in range(2):  # pressed twice: one file
            asked = await manager.post("/reports/turnover/ask", **typed)
            assert asked.headers["location"] == f"/report-files/{run_id}"
        async with asyncio.timeout(30):
            while "Get the file" not in (await manager.get(f"/report-files/{run_id}")).text:
                await asyncio.sleep(0.1)
        made = await manager.get(f"/report-files/{run_id}/file")
        assert "70.50" in made.content.decode("utf-8-sig")
        cashier = await shop.browser(Role.CASHIER)
        assert (await cashier.get(f"/report-files/{run_id}")).status_code == 404, "not theirs"

        async with shop.services.database.transaction() as tx:
            owner = await people.find_operator(tx, "auditor")
            assert owner is not None
            now = shop.services.clock.now()
            token = await people.add_token(
                tx, owner, "t", at=now, expires_at=now + timedelta(hours=1)
            )
        told = await shop.served.http.get(
            "/api/v1/reports/turnover",
            params={"by": "channel", "first": today, "last": today},
            headers={"authorization": f"Bearer {token}"},
        )
        rows = {
            row[0]: dict(zip(told.json()["columns"], row, strict=True))
            for row in told.json()["rows"]
        }
        assert rows["till"]["taken_fen"] == rows["remote"]["posted_fen"] == 7050


async def test_a_schedule_is_kept_and_stopped_and_wrong_ones_are_told_beside_the_field(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        good = {"name": "morning", "kind": "turnover:day", "site": "", "cadence": "daily",
                "at_time": "07:00", "format": "xlsx", "folder": "finance",
                "mail_to": ""}  # fmt: skip
        for wrong, field in (
            ({"name": ""}, "name"),
            ({"kind": "turnover:meter"}, "kind"),
            ({"kind": "x"}, "kind"),
            ({"cadence": "hourly"}, "kind"),
            ({"at_time": "7 o'clock"}, "at_time"),
            ({"folder": "../../etc"}, "folder"),
            ({"folder": "a/b"}, "folder"),
            ({"mail_to": "nobody"}, "mail_to"),
            ({"mail_to": "a@example.com"}, "mail_to"),  # no mail server is set
        ):
            answer = await manager.post("/report-schedules", **(good | wrong))
            assert answer.status_code == 422, wrong
            assert f'id="{field}-error"' in answer.text, wrong
        kept = await manager.post("/report-schedules", **good)
        assert kept.headers["location"] == "/reports?done=scheduled"
        again = await manager.post("/report-schedules", **good)
        assert again.status_code == 422
        page = (await manager.get("/reports")).text
        assert ">morning<" in page
        number = re.findall(r'action="/report-schedules/(\d+)/end"', page)[0]
        assert (await manager.post(f"/report-schedules/{number}/end")).status_code == 303
        assert (await manager.post(f"/report-schedules/{number}/end")).status_code == 404
        assert ">morning<" not in (await manager.get("/reports")).text
