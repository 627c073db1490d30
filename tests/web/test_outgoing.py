"""What leaves the house, at the desk: who is told, how it goes, told again; and backups."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headend.domain.alarms import AlarmKind
from headend.domain.outgoing import secret_of
from headend.domain.roles import Role
from headend.services.safety import Safety
from headend.store import alarms, backup_runs, letters, outbox
from headend.store.backup_runs import Run
from tests.headend.outgoing.receiver import receiver
from tests.web.shop import Browser, Shop, open_shop

NOW = datetime(2026, 3, 20, tzinfo=UTC)
RUN = Run(
    kind="backup", file="f", began_at=NOW, ended_at=NOW, bytes=1, succeeded=True, detail=""
)  # fmt: skip


async def shown(browser: Browser, where: str, text: str) -> str:
    """The page once it says that."""
    async with asyncio.timeout(30):
        while True:
            page = await browser.get(where)
            if text in page.text:
                return page.text
            await asyncio.sleep(0.1)


async def tampered(shop: Shop) -> None:
    async with shop.services.database.transaction() as tx:
        known = shop.services.lines.find_meter("M1").known
        at = shop.services.clock.now()
        await alarms.raise_alarm(tx, AlarmKind.TAMPER, known.meter_id, "open and 50 W", at)


async def test_a_webhook_is_made_fails_is_tried_now_and_told_again(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop, receiver() as there:
        manager = await shop.browser(Role.MANAGER)
        for field, bad in (("name", ""), ("url", "ftp://x"), ("kinds", "sales")):
            typed = {"name": "books", "url": "https://x.example/h", "kinds": "alarm", field: bad}
            wrong = await manager.post("/outgoing", **typed)
            assert wrong.status_code == 422
            assert f'id="{field}-error"' in wrong.text
        made = await manager.post("/outgoing", name="books", url=there.url, kinds="alarm")
        secret = re.search(r"whsec_[0-9a-f]+", made.text)
        assert secret is not None, made.text
        assert secret[0] == secret_of(shop.services.outgoing.key, 1)
        assert "whsec_" not in (await manager.get("/outgoing/1")).text, "shown once"
        assert "never" in (await manager.get("/outgoing/1")).text

        there.status = 503
        await tampered(shop)
        page = await shown(manager, "/outgoing/1", "failed 1 times")
        assert "alarm.raised" in page
        async with shop.services.database.transaction() as tx:
            # The rest grows to hours; nobody waits for it who presses the button.
            await tx.execute("UPDATE webhook SET rests_until = now() + interval '6 hours'")
        there.status = 200
        tried = await manager.post("/outgoing/1/retry")
        assert tried.status_code == 303
        page = await shown(manager, "/outgoing/1", "at work")
        assert len(there.events) == 2
        assert "alarm.raised" not in page
        assert "ago" in (await manager.get("/outgoing")).text

        wrong = await manager.post("/outgoing/1/replay", after="soon")
        assert 'id="after-error"' in wrong.text
        await manager.post("/outgoing/1/replay", after="0")
        async with asyncio.timeout(30):
            while len(there.events) < 3:
                await asyncio.sleep(0.1)
        assert len({one["id"] for one in there.events}) == 1, "known by its id"
        await manager.post("/outgoing/1/disable")
        assert (await manager.post("/outgoing/1/retry")).status_code == 409
        cashier = await shop.browser(Role.CASHIER)
        assert (await cashier.get("/outgoing")).status_code == 403
        assert "/outgoing" not in (await cashier.get("/")).text


async def test_letters_given_up_are_tried_again_by_hand(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        at = shop.services.clock.now()
        async with shop.services.database.transaction() as tx:
            await tx.execute(
                "INSERT INTO letter (road, recipient, subject, body, made_at, next_try_at, about,"
                " state, tries, last_error) VALUES ('mail', 'a@b.example', 's', 'b', %s, %s, 'x',"
                " 'dead', 9, 'the server says no')",
                at,
                at,
            )
        assert "the server says no" in (await manager.get("/outgoing")).text
        assert (await manager.post("/letters/mail")).status_code == 303
        async with shop.services.database.transaction() as tx:
            (road,) = await letters.roads(tx)
        assert (road.waiting, road.dead) == (1, 0)


async def test_the_age_of_backups_and_rehearsals_is_said_plainly(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        manager = await shop.browser(Role.MANAGER)
        assert "No backups are made" in (await manager.get("/outgoing")).text
        at = shop.services.clock.now()
        async with shop.services.database.transaction() as tx:
            for kind, days, well in (("backup", 2, True), ("backup", 1, False), ("drill", 5, True)):
                began = at - timedelta(days=days)
                await backup_runs.add(
                    tx, Run(kind=kind, file=f"{kind}.backup", began_at=began, ended_at=began,
                            bytes=1, succeeded=well, detail="the disk is full"),
                )  # fmt: skip
        page = (await manager.get("/outgoing")).text
        assert "The newest backup failed" in page
        assert "the disk is full" in page
        assert "not rehearsed" not in page
        assert "too old, or none" in (await manager.get("/")).text
        admin = await shop.browser(Role.CASHIER)
        assert "Last backup" not in (await admin.get("/")).text


def test_when_a_backup_or_a_rehearsal_is_too_old() -> None:
    def run(now: Run | None, days: float) -> Run | None:
        return now and Run(
            kind=now.kind, file="f", began_at=NOW - timedelta(days=days), ended_at=NOW, bytes=1,
            succeeded=True, detail="",
        )  # fmt: skip

    for backup_days, drill_days, old, unrehearsed in (
        (1.0, 91, False, False),
        (1.2, 91, True, False),
        (1.0, 93, False, True),
    ):
        safe = Safety(
            now=NOW, backup_age_max=timedelta(hours=26), backup=run(RUN, backup_days), failed=None,
            drill=run(RUN, drill_days),
        )  # fmt: skip
        assert (safe.backup_is_old, safe.drill_is_old) == (old, unrehearsed)
        assert safe.is_well == (not old and not unrehearsed)


async def test_anothers_webhook_does_not_exist(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        at = shop.services.clock.now()
        async with shop.services.database.transaction() as tx:
            await outbox.add_webhook(
                tx, name="theirs", url="https://x.example/", kinds=[],
                by=shop.numbers[Role.MANAGER], at=at,
            )  # fmt: skip
            await tx.execute("UPDATE operator SET all_sites = false WHERE name = 'integrator'")
        narrow = await shop.browser(Role.INTEGRATOR)
        assert "theirs" not in (await narrow.get("/outgoing")).text
        assert "Last backup" not in (await narrow.get("/outgoing")).text
        assert (await narrow.get("/outgoing/1")).status_code == 404
        assert (await narrow.post("/outgoing/1/retry")).status_code == 404
        assert (await narrow.post("/letters/mail")).status_code == 404
