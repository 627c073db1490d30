"""Prices at the desk: draft, publish, push, and every simulated meter holds them."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headend.domain import tariffs as domain
from headend.domain.roles import Role
from headend.store import people
from headend.web import desk, price_forms
from tests.web.shop import Browser, Shop, open_shop

# The shop that tests share lives in one loop with them.
in_the_shop = pytest.mark.asyncio(loop_scope="module")

HOURS = "00:00 谷\n08:00 高峰\n22:00 valley"
TERMS = {"price_peak": "0.8312", "price_valley": "0.34", "season_1_hours": HOURS}


def today(shop: Shop, days: int = 0) -> str:
    now = shop.services.clock.now().astimezone(desk.zone_of(shop.services))
    return (now.date() + timedelta(days=days)).isoformat()


async def new_tariff(manager: Browser, name: str = "Court") -> str:
    """Its address, at its draft's place."""
    made = await manager.post("/prices", name=name, site="")
    assert made.status_code == 303, made.text
    return str(made.headers["location"]).removesuffix("/draft")


async def until(shop: Shop, where: str, count: str) -> dict[str, Any]:
    """The push of a tariff once so many meters are in that state."""
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        owner = await people.find_operator(tx, "manager")
        assert owner is not None
        token = await people.add_token(tx, owner, where, at=at, expires_at=at + timedelta(hours=1))
    number = where.rsplit("/", 1)[1]
    async with asyncio.timeout(90):
        while True:
            answer = await shop.served.http.get(
                f"/api/v1/tariffs/{number}/push", headers={"authorization": f"Bearer {token}"}
            )
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                if count in " ".join(f"{k}:{v}" for k, v in found["counts"].items()):
                    return found
            await asyncio.sleep(0.1)


@in_the_shop
async def test_a_draft_becomes_a_version_and_every_meter_that_answers_holds_it(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        where = await new_tariff(manager)
        kept = await manager.post(f"{where}/draft", edits="0", **TERMS)
        assert kept.status_code == 303, kept.text
        for name in ("M1", "M2"):
            assigned = await manager.post(
                f"{where}/assign", kind="meter", place_site="court", place_name=name,
                from_day=today(shop), assign_reason="new prices", step="assign",
            )  # fmt: skip
            assert assigned.status_code == 303, assigned.text
        alone = await manager.post(f"{where}/publish", valid_from=today(shop))
        assert alone.status_code == 422
        assert 'id="approver-error"' in alone.text, "a first price is looked at by two"
        at = shop.services.clock.now()
        async with shop.services.database.transaction() as tx:
            second = await people.add_operator(tx, "boss", Role.MANAGER, at=at)
            assert second is not None
            await tx.execute("UPDATE tariff_version SET needs_second = true WHERE state = 'draft'")
        async with shop.services.database.transaction() as tx:
            token = await people.add_token(
                tx, second, "t", at=at, expires_at=at + timedelta(hours=1)
            )
            own = await people.find_operator(tx, "manager")
            assert own is not None
            mine = await people.add_token(tx, own, "t", at=at, expires_at=at + timedelta(hours=1))
        number = where.rsplit("/", 1)[1]
        for approver, status in ((mine, 409), (token, 200)):
            told = await shop.served.http.post(
                f"/api/v1/tariffs/{number}/publish",
                json={"valid_from": today(shop)},
                headers={"authorization": f"Bearer {mine}", "x-approver-token": approver},
            )
            assert told.status_code == status, told.text
        push = await until(shop, where, "holds:2")
        assert push["state"] in ("runs", "done")
        for unit in (1, 2):
            meter = shop.meter(unit)
            # Sharp and flat do not occur: they get the dearest price.
            assert meter.account.prices_fen_per_kwh == (83, 83, 83, 34)
            assert [(slot.minute, int(slot.rate)) for slot in meter.day_table.slots] == [
                (0, 4), (480, 2), (1320, 4)
            ]  # fmt: skip
        page = await manager.get(where)
        assert page.text.count("holds it") >= 2
        assert "its price of Peak is −0.0012 yuan off" in page.text
        changed = await manager.post(f"{where}/draft", edits="0", **TERMS)
        assert changed.status_code == 303, "the next version begins as a draft"
        async with shop.services.database.transaction() as tx:
            states = await tx.rows("SELECT number, state FROM tariff_version ORDER BY number")
        assert states == [(1, "published"), (2, "draft")]


@in_the_shop
async def test_a_published_version_never_changes(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        where = await new_tariff(manager)
        await manager.post(f"{where}/draft", edits="0", price_flat="0.6")
        done = await manager.post(f"{where}/publish", valid_from=today(shop))
        assert done.status_code == 303, "no meter has it: nobody else is needed"
        for change in (
            "UPDATE tariff_version SET terms = '{}'",
            "UPDATE tariff_version SET valid_from = valid_from + 1",
            "UPDATE tariff_version SET state = 'draft'",
            "DELETE FROM tariff_version",
        ):
            with pytest.raises(Exception, match=r"never changed again|only ever added to"):
                async with shop.services.database.transaction() as tx:
                    await tx.execute(change)
        taken = await manager.post(f"{where}/draft", edits="0", price_flat="0.7")
        assert taken.status_code == 303
        twice = await manager.post(f"{where}/publish", valid_from=today(shop))
        assert twice.status_code == 422
        assert 'id="valid_from-error"' in twice.text


@in_the_shop
async def test_two_who_edit_at_once_do_not_overwrite_each_other(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        where = await new_tariff(manager)
        await manager.post(f"{where}/draft", edits="0", price_flat="0.6")
        first = await manager.post(f"{where}/draft", edits="1", price_flat="0.7")
        second = await manager.post(f"{where}/draft", edits="1", price_flat="0.8")
        assert (first.status_code, second.status_code) == (303, 422)
        assert "edited this draft meanwhile" in second.text
        assert 'value="0.8"' in second.text, "what was typed stays"
        assert 'value="0.7"' in (await manager.get(f"{where}/draft")).text


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("price_flat", "a"), ("price_flat", "-1"), ("price_flat", "0.12345"), ("price_flat", "1e3"),
        ("price_flat", "999.99"), ("price_flat", ""), ("service", "½"), ("fee", "1,5"),
        ("fee", "0.001"), ("season_1_from", "02-30"), ("season_1_from", "1 May"),
        ("season_1_hours", "08:00 flat"), ("season_1_hours", "00:00 dawn"),
        ("season_1_hours", "00:00 flat\n25:00 flat"), ("season_1_hours", "00:00 flat\n00:00 flat"),
        ("season_2_hours", "00:00 flat"), ("season_1_rest", "flat"), ("tiers", "0 0.05"),
        ("tiers", "2160"), ("tiers", "2160 x"), ("tiers", "4200 0.3\n2160 0.05"),
        ("tier_reset", "13-01"), ("holidays", "yesterday"), ("working_days", "2026-02-30"),
        ("note", "n" * 201),
    ],
)  # fmt: skip
@in_the_shop
async def test_every_wrong_field_is_told_beside_it_and_nothing_is_kept(
    shop_of_wrongs: Shop, field: str, typed: str
) -> None:
    manager = await shop_of_wrongs.browser(Role.MANAGER, language="zh-CN")
    listed = (await manager.get("/prices")).text
    found = re.search(r'href="(/prices/\d+)"', listed)
    where = found[1] if found else await new_tariff(manager, "Wrongs")
    answer = await manager.post(f"{where}/draft", edits="0", **{"price_flat": "0.6", field: typed})
    assert answer.status_code == 422
    beside = {"season_2_hours": "season_2_from", "season_1_rest": "season_1_rest"}.get(field, field)
    told = re.search(rf'id="{beside}-error">([^<]+)<', answer.text)
    assert told is not None, answer.text
    assert not told[1].isascii(), "in Chinese"
    async with shop_of_wrongs.services.database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM tariff_version") == 0


@pytest.mark.parametrize(
    ("typed", "beside"),
    [
        ({"from_day": "2001-01-01"}, "from_day"),
        ({"from_day": "soon"}, "from_day"),
        ({"from_day": "2999-01-01"}, "from_day"),
        ({"assign_reason": ""}, "assign_reason"),
        ({"kind": "planet"}, "kind"),
        ({"place_site": "nowhere"}, "place_site"),
        ({"place_name": "M99"}, "place_name"),
        ({"place_name": "\0"}, "place_name"),
    ],
)
@in_the_shop
async def test_a_wrong_assignment_is_told_beside_its_field(
    shop_of_wrongs: Shop, typed: dict[str, str], beside: str
) -> None:
    manager = await shop_of_wrongs.browser(Role.MANAGER)
    found = re.search(r'href="(/prices/\d+)"', (await manager.get("/prices")).text)
    where = found[1] if found else await new_tariff(manager, "Wrongs")
    right = {
        "kind": "meter", "place_site": "court", "place_name": "M1",
        "from_day": today(shop_of_wrongs), "assign_reason": "r", "step": "assign",
    }  # fmt: skip
    answer = await manager.post(f"{where}/assign", **(right | typed))
    assert answer.status_code == 422
    assert f'id="{beside}-error"' in answer.text
    async with shop_of_wrongs.services.database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM tariff_assignment") == 0


def test_every_sentence_about_terms_has_its_place_in_the_catalogue() -> None:
    folder = Path(domain.__file__).parent
    for name, known in (
        ("tariffs.py", price_forms.SENTENCES),
        ("tariff_records.py", price_forms.SENTENCES),
        ("tariff_meter.py", price_forms.CANNOT),
    ):
        text = re.sub(r"\(\n\s+", "(", (folder / name).read_text())
        said = re.findall(r'(?:BadTerms\([\w."]+, |CannotHold\()"([^"]+)"', text)
        assert said
        assert set(said) <= set(known), name


@in_the_shop
async def test_terms_come_back_from_the_editor_as_they_are(shop_of_wrongs: Shop) -> None:
    manager = await shop_of_wrongs.browser(Role.MANAGER)
    visitor = desk.Visitor(caller=None, csrf="", language="en", theme="auto", path="")
    assert manager
    form = desk.Form(
        TERMS
        | {
            "price_flat": "0.6", "price_deep_valley": "0.1", "season_2_from": "07-01",
            "season_2_hours": "00:00 deep valley\n12:00 flat", "season_2_rest": "00:00 flat",
            "rest_6": "1", "rest_7": "1", "holidays": "2026-10-01\n2026-10-02",
            "working_days": "2026-10-10", "tiers": "2160 0.05\n4200.5 0.3", "tier_reset": "07-01",
            "service": "0.02", "fee": "0.50",
        }
    )  # fmt: skip
    terms = price_forms.terms_of(form, visitor)
    assert terms is not None, form.errors
    again = desk.Form(price_forms.typed(terms))
    assert price_forms.terms_of(again, visitor) == terms, again.errors
    assert isinstance(shop_of_wrongs.services.clock.now(), datetime)
