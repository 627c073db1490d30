"""Photographs of a case over the API: the same bytes come back, and only pictures are kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from headend.domain.photos import PHOTO_BYTES_MAX
from headend.domain.roles import Role
from tests.web.test_api_accounts import Program, opened, program

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


async def sent(
    it: Program, case: str, content: bytes, role: Role = Role.TECHNICIAN, title: str = "old meter"
) -> httpx.Response:
    return await it.shop.served.http.post(
        f"/api/v1/cases/{case}/photos",
        params={"title": title},
        content=content,
        headers={"authorization": f"Bearer {it.tokens[role]}"},
    )


async def test_a_photograph_of_an_exchange_in_and_out(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        await opened(it)
        case, other = [
            (
                await it.told(
                    "POST",
                    f"/meters/{meter}/exchange",
                    Role.TECHNICIAN,
                    reason="r",
                    approver=it.deputy,
                )
            )["case_id"]
            for meter in ("M1", "M2")
        ]
        first = await sent(it, case, PICTURE)
        assert first.status_code == 200, first.text
        kept = first.json()
        assert kept["sha256"] == hashlib.sha256(PICTURE).hexdigest()
        assert (kept["title"], kept["media_type"], kept["size_bytes"], kept["added_by"]) == (
            "old meter", "image/png", len(PICTURE), "technician",
        )  # fmt: skip
        again = await sent(it, case, PICTURE, title="sent once more")
        assert again.json() == kept, "the same bytes are the same photograph"
        (listed,) = (await it.told("GET", f"/cases/{case}", Role.AUDITOR))["photos"]
        assert listed == {name: kept[name] for name in ("number", "title", "sha256", "added_at")}
        path = f"/cases/{case}/photos"
        back = await it.call("GET", f"{path}/{kept['number']}", Role.AUDITOR)
        assert (back.content, back.headers["content-type"]) == (PICTURE, "image/png")
        assert back.headers["x-content-type-options"] == "nosniff"

        # Whoever may not do this work proves nothing in it.
        assert (await sent(it, case, PICTURE, Role.CASHIER)).status_code == 403
        assert (await sent(it, case, PICTURE, Role.AUDITOR)).status_code == 403
        too_big = PICTURE.ljust(PHOTO_BYTES_MAX + 1, b"\0")
        for content in (b"", b"<svg onload=x>", too_big):
            no = await sent(it, case, content)
            assert (no.status_code, no.json()["code"]) == (422, "photo-refused")
        assert len((await it.told("GET", f"/cases/{case}"))["photos"]) == 1
        for number in (kept["number"] + 1, "x"):
            assert (await it.call("GET", f"{path}/{number}")).status_code in (404, 422)
        wrong = await it.call("GET", f"/cases/{other}/photos/{kept['number']}")
        assert (wrong.status_code, wrong.json()["code"]) == (404, "no-such-photo")
