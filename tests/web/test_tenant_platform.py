"""The tenant's page where the money is in the platform: what is charged, what was used since."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from headend.domain.roles import Role
from headend.domain.tariffs import Rate, Terms, Tier
from headend.store import money_modes
from tests.web.shop import open_shop
from tests.web.test_bills import a_charged_day, read, tariff
from tests.web.test_platform_money import into_the_platform, number, paid
from tests.web.test_tenant import link_to, opened


def row(page: str, name: str) -> str:
    """The amount beside a row of the month."""
    _, _, rest = page.partition(name)
    return rest.partition('<td class="right num">')[2].partition("<")[0]


async def test_the_balance_is_what_is_charged_and_use_since_stands_beside_it(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await tariff(shop, Terms(prices_x4={Rate.FLAT: 5469}, tiers=(Tier(5_000, 500),)))
        await into_the_platform(shop)
        await paid(shop, 5000)
        path = await link_to(await shop.browser(Role.CASHIER), "M1")
        meter_id = await number(shop, "M1")
        async with shop.services.database.transaction() as tx:
            meter = await money_modes.platform_meter(tx, meter_id)
            assert meter is not None
            # The meter itself says something else, which is no money of anybody any more.
            await tx.execute(
                "UPDATE meter_last SET remaining_credit_fen = 98765 WHERE meter_id = %s", meter_id
            )
        before = (await opened(shop, path)).text
        assert "987.65" not in before
        assert "50.00" in before
        assert f"After the days up to {meter.billed_day} were charged." in before
        assert "The meter was not read since." in before

        at = max(meter.anchor.at + timedelta(microseconds=1), shop.services.clock.now())
        await read(shop, "M1", at, meter.anchor.energy_wh + 10_000)
        after = (await opened(shop, path)).text
        # 10 kWh at 0.5469, 5 of them above the tier at 0.0500 more: 5.719, said as 5.72.
        assert "10.00 kWh were used, about 5.72 yuan: about 44.28 yuan are left." in after
        assert "Balance" in after
        assert "50.00" in after, "the books have charged nothing yet"
        zh = await opened(shop, path + "?lang=zh")
        assert "此后用电 10.00 kWh，约 5.72 元：约剩 44.28 元。" in zh.text


async def test_the_month_is_explained_from_the_books_and_day_by_day(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await tariff(shop, Terms(prices_x4={Rate.FLAT: 5469}, fee_fen_per_day=30))
        await into_the_platform(shop)
        await paid(shop, 5000)
        path = await link_to(await shop.browser(Role.CASHIER), "M1")
        day, _ = await a_charged_day(shop)
        page = (await opened(shop, path)).text
        # 3.21 kWh at 0.5469 and the fee of a day: 2.0555 yuan, booked 2.05.
        assert f"After the days up to {day} were charged." in page
        assert "47.95" in page
        assert row(page, "topped up") == "50.00"
        assert row(page, "− charged") == "2.05"

        assert "3.210 × 0.5469" in page, "each day can be checked"
        assert page.count("50.00 yuan") == 1, "the payment among the last ones"
