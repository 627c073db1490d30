"""Webhooks: signed, told at least once, in a scope, tried for days, told again from a cursor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from headend.domain.alarms import AlarmKind
from headend.domain.outgoing import retry_after, secret_of, url_fault, wants
from headend.services.outgoing import Outgoing, Roads, outgoing_key
from headend.store import alarms, outbox, people
from headend.store.database import Database
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop
from tests.headend.outgoing.receiver import receiver

KEY = b"k" * 32


@asynccontextmanager
async def sending(shop: Shop, **roads: object) -> AsyncIterator[Outgoing]:
    given = Roads(key=KEY, say=lambda kind, language: str(kind), **roads)  # type: ignore[arg-type]
    out = Outgoing(shop.database, TestClock(instant=shop.now()), given)
    try:
        yield out
    finally:
        await out.http.aclose()


async def subscribe(shop: Shop, url: str, *kinds: str, by: int | None = None) -> int:
    async with shop.transaction() as tx:
        return await outbox.add_webhook(
            tx, name="books", url=url, kinds=kinds, by=by or shop.manager, at=shop.now()
        )


async def raised(shop: Shop, meter: int = 0) -> None:
    async with shop.transaction() as tx:
        await alarms.raise_alarm(
            tx, AlarmKind.TAMPER, shop.meters[meter], "its relay is open", shop.now()
        )


async def test_an_event_is_told_once_signed_and_known_by_its_id(shop: Shop) -> None:
    async with receiver() as there, sending(shop) as out:
        number = await subscribe(shop, there.url, "alarm")
        await raised(shop)
        assert await out.turn() == 1
        assert await out.turn() == 0
        (event,) = there.events
        assert (event["kind"], event["data"]["meter"], event["site"]) == (
            "alarm.raised", "M1", "North Court",
        )  # fmt: skip
        assert there.is_signed(secret_of(KEY, number))
        assert not there.is_signed(secret_of(KEY, number + 1))
        assert there.got[0][0]["headend-event-id"] == event["id"]


async def test_killed_between_the_answer_and_its_note_it_is_told_again(shop: Shop) -> None:
    async with receiver() as there, sending(shop) as out:
        await subscribe(shop, there.url)
        await raised(shop)
        there.hangs = asyncio.Event()
        turn = asyncio.create_task(out.turn())
        await asyncio.wait_for(there.came.wait(), 20)
        turn.cancel()  # the receiver has it, we never heard so
        with pytest.raises(asyncio.CancelledError):
            await turn
        there.hangs.set()
        there.hangs = None
        async with sending(shop) as next_life:
            assert await next_life.turn() == 1
        assert len({event["id"] for event in there.events}) == 1
        assert len(there.events) == 2


async def test_a_later_commit_of_an_earlier_number_is_not_missed(
    shop: Shop, database: Database
) -> None:
    async with sending(shop) as out:
        with psycopg.connect(database.conninfo) as slow:
            slow.execute(  # takes its number now and commits later
                "INSERT INTO outgoing_event (kind, at, body) VALUES ('night.closed', now(), '{}')"
            )
            await raised(shop)
            await out.turn()
            async with shop.transaction() as tx:
                first = await outbox.events_after(tx, 0, None, count=10)
            slow.commit()
        await out.turn()
        async with shop.transaction() as tx:
            then = await outbox.events_after(tx, first[-1].position, None, count=10)
        assert [e.kind for e in first + then] == ["alarm.raised", "night.closed"]


async def test_what_is_not_taken_is_tried_for_days_then_given_up_and_told_again(
    shop: Shop,
) -> None:
    async with receiver() as there, sending(shop) as out:
        number = await subscribe(shop, there.url)
        await raised(shop)
        there.status = 500
        assert isinstance(out.clock, TestClock)
        while out.clock.instant < shop.now() + timedelta(days=5):
            tried = len(there.got)
            await out.turn()
            if len(there.got) == tried:
                out.clock.instant += timedelta(hours=6)
        assert 15 < len(there.got) < 60, "it rests between two tries"
        async with shop.transaction() as tx:
            (dead, *_) = await outbox.deliveries(tx, number, "dead")
            assert dead.last_error == "it answered 500"
            standing = {one.code for one in await alarms.standing(tx)}
            assert "delivery-given-up" in standing
            (hook,) = await outbox.webhooks(tx)
            assert await outbox.replay(tx, hook, dead.event.position - 1) >= 1
        there.status = 200
        await out.turn()
        assert there.events[-1]["id"]
        async with shop.transaction() as tx:
            assert await outbox.deliveries(tx, number, "dead") == []


async def test_a_redirect_leads_nowhere(shop: Shop) -> None:
    async with receiver() as there, receiver() as elsewhere, sending(shop) as out:
        await subscribe(shop, there.url)
        there.status, there.extra = 307, f"location: {elsewhere.url}\r\n"
        await raised(shop)
        assert await out.turn() == 0
        assert (len(there.got), len(elsewhere.got)) == (1, 0)


async def test_only_what_its_operator_may_see_is_told(shop: Shop) -> None:
    async with receiver() as there, sending(shop) as out:
        async with shop.transaction() as tx:
            other = await tx.value(
                "INSERT INTO site (name, time_zone, night_opens, night_closes)"
                " VALUES ('far', 'Asia/Shanghai', '23:55', '06:00') RETURNING site_id"
            )
            wang = await people.find_operator(tx, "wang")
            assert wang is not None
            far = await people.add_operator(tx, "far", wang.role, at=shop.now(), sites=[other])
            assert far is not None
        await subscribe(shop, there.url, by=far.operator_id)
        await raised(shop)
        await out.turn()
        assert there.got == []


async def test_an_address_that_is_no_longer_allowed_gets_nothing(shop: Shop) -> None:
    async with receiver() as there, sending(shop, hosts=frozenset({"books.example"})) as out:
        await subscribe(shop, there.url)
        await raised(shop)
        await out.turn()
        assert there.got == []


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "https://", "https://user:pw@a.example/", "https://a.example/#x",
     "file:///etc/passwd", "https://a.example:99999/", "https://a b/", "https://ä.example/",
     "https://a.example/" + "x" * 500, "http://[::1", "//a.example"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    assert url_fault(url, ()) is not None


def test_an_allow_list_allows_only_what_is_on_it() -> None:
    assert url_fault("https://a.example:8443/x?y=1", ()) is None
    assert url_fault("https://a.example/", {"a.example"}) is None
    assert url_fault("https://a.example.evil.example/", {"a.example"}) is not None


def test_waits_double_and_have_an_end_and_families_cover_their_kinds() -> None:
    waits = [retry_after(n) for n in range(1, 40)]
    assert waits[:3] == [timedelta(seconds=10), timedelta(seconds=20), timedelta(seconds=40)]
    assert waits[-1] == timedelta(hours=6)
    assert wants([], "sale.landed")
    assert wants(["sale"], "sale.landed")
    assert not wants(["sale.opened", "alarm"], "sale.landed")


def test_the_key_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    key = outgoing_key(tmp_path)
    assert len(key) == 32
    assert outgoing_key(tmp_path) == key
    (file,) = (tmp_path / "secrets").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert secret_of(key, 1) != secret_of(key, 2)
