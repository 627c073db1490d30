"""Who comes in: passwords, codes, lock-out, sessions; and a form without its token does nothing."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from headend.domain.clock import SystemClock
from headend.domain.roles import Role
from headend.domain.sign_in import LOCKED_FOR, TRIES_MAX, BadPassword, NotSignedIn, bad_password
from headend.services import sign_in
from headend.store import desk_sessions, people
from headend.store.database import Database
from headend.web import desk
from tests.headend.house import TestClock
from tests.web.shop import PASSWORD, Browser, open_shop


@pytest.mark.parametrize(
    ("password", "bad"),
    [
        ("short", BadPassword.TOO_SHORT),
        ("x" * 129, BadPassword.TOO_LONG),
        ("LiNa 2026 secret", BadPassword.HOLDS_THE_NAME),
        ("password123", BadPassword.EASILY_GUESSED),
        ("1234567890", BadPassword.EASILY_GUESSED),
        ("aaaaaaaaaaaa", BadPassword.EASILY_GUESSED),
        (PASSWORD, None),
        ("每天晚上都要把灯关好", None),
    ],
)
def test_what_a_password_must_be(password: str, bad: BadPassword | None) -> None:
    assert bad_password(password, "lina") is bad


async def _cashier(database: Database, clock: TestClock) -> int:
    async with database.transaction() as tx:
        made = await people.add_operator(tx, "li", Role.CASHIER, at=clock.now())
        assert made is not None
        assert await sign_in.set_password(tx, made, PASSWORD, clock, by=None) is None
    return made.operator_id


async def _try(
    database: Database, clock: TestClock, password: str = PASSWORD, code: str = "", name: str = "li"
) -> sign_in.SignedIn | NotSignedIn:
    return await sign_in.sign_in(
        database, clock, name=name, password=password, code=code, address="10.0.0.7"
    )


async def test_five_wrong_tries_lock_a_name_for_a_while_also_for_the_right_one(
    database: Database,
) -> None:
    clock = TestClock()
    await _cashier(database, clock)
    for _ in range(TRIES_MAX):
        assert await _try(database, clock, "wrong") is NotSignedIn.WRONG
    assert await _try(database, clock) is NotSignedIn.LOCKED
    clock.instant += LOCKED_FOR + timedelta(seconds=1)
    assert isinstance(await _try(database, clock), sign_in.SignedIn)


async def test_guesses_at_the_same_time_are_counted_too(database: Database) -> None:
    clock = TestClock()
    await _cashier(database, clock)
    outcomes = await asyncio.gather(*(_try(database, clock, f"guess {n}") for n in range(12)))
    assert outcomes.count(NotSignedIn.LOCKED) >= 12 - 10, "at most the pool's width gets through"
    assert await _try(database, clock) is NotSignedIn.LOCKED


async def test_who_does_not_exist_or_has_no_password_is_told_the_same(database: Database) -> None:
    clock = TestClock()
    async with database.transaction() as tx:
        await people.add_operator(tx, "wang", Role.MANAGER, at=clock.now())
    assert await _try(database, clock, name="nobody") is NotSignedIn.WRONG
    assert await _try(database, clock, name="wang") is NotSignedIn.WRONG


async def test_a_code_is_asked_for_works_once_and_only_in_its_time(database: Database) -> None:
    clock = TestClock()
    number = await _cashier(database, clock)
    secret = sign_in.new_totp_secret()
    async with database.transaction() as tx:
        await desk_sessions.offer_totp(tx, number, secret)
        step = sign_in.right_step(secret, pyotp.TOTP(secret).at(clock.now()), clock.now())
        assert step is not None
        await desk_sessions.begin_totp(tx, number, step, clock.now())
    assert await _try(database, clock) is NotSignedIn.CODE_NEEDED
    used = pyotp.TOTP(secret).at(clock.now())
    assert await _try(database, clock, code=used) is NotSignedIn.WRONG_CODE, "used to begin it"
    clock.instant += timedelta(seconds=30)
    fresh = pyotp.TOTP(secret).at(clock.now())
    assert isinstance(await _try(database, clock, code=fresh), sign_in.SignedIn)
    assert await _try(database, clock, code=fresh) is NotSignedIn.WRONG_CODE


async def test_a_session_ends_by_idleness_by_age_by_leaving_and_with_a_new_password(
    database: Database,
) -> None:
    clock = TestClock()
    number = await _cashier(database, clock)

    async def alive(cookie: str) -> bool:
        async with database.transaction() as tx:
            return await desk_sessions.session_of(tx, cookie, clock.now()) is not None

    async def fresh() -> str:
        async with database.transaction() as tx:
            return await desk_sessions.begin_session(tx, number, "", clock.now())

    idle = await fresh()
    clock.instant += timedelta(hours=4, seconds=1)
    assert not await alive(idle)
    busy = await fresh()
    for _ in range(4):
        clock.instant += timedelta(hours=2, minutes=55)
        assert await alive(busy)
    clock.instant += timedelta(hours=1)
    assert not await alive(busy), "twelve hours are the longest"
    left = await fresh()
    async with database.transaction() as tx:
        await desk_sessions.end_session(tx, left, clock.now())
    assert not await alive(left)
    old = await fresh()
    async with database.transaction() as tx:
        operator = await people.operator(tx, number)
        assert operator is not None
        await sign_in.set_password(tx, operator, PASSWORD + "!", clock, by=None)
    assert not await alive(old)
    last = await fresh()
    async with database.transaction() as tx:
        await people.disable_operator(tx, number, clock.now())
    assert not await alive(last), "who left is out at once"


async def test_in_by_the_form_and_back_to_where_one_was_going(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        async with shop.services.database.transaction() as tx:
            who = await people.find_operator(tx, "cashier")
            assert who is not None
            await sign_in.set_password(tx, who, PASSWORD, SystemClock(), by=None)
        browser = Browser(shop.served.http)
        gate = await browser.get("/vend?q=101")
        assert gate.status_code == 401
        assert 'name="next" value="/vend?q=101"' in gate.text
        token = re.search(r'name="csrf" value="([^"]+)"', gate.text)
        assert token is not None
        typed = {"name": "cashier", "next": "/vend?q=101"}
        wrong = await browser.post("/sign-in", csrf=token[1], password="no", **typed)
        assert wrong.status_code == 401
        assert 'value="cashier"' in wrong.text, "what was typed stays"
        assert 'id="password-error"' in wrong.text
        refused = await browser.post("/sign-in", csrf="forged", password=PASSWORD, **typed)
        assert refused.status_code == 403
        away = await browser.post(
            "/sign-in", csrf=token[1], password=PASSWORD, name="cashier", next="//evil.example/"
        )
        assert away.headers["location"] == "/", "never to another host"
        browser.cookies.pop(desk.SESSION_COOKIE)
        inside = await browser.post("/sign-in", csrf=token[1], password=PASSWORD, **typed)
        assert (inside.status_code, inside.headers["location"]) == (303, "/vend?q=101")
        set_cookie = inside.headers.get_list("set-cookie")
        assert any("HttpOnly" in one and desk.SESSION_COOKIE in one for one in set_cookie)
        assert (await browser.get("/vend?q=101")).status_code == 200
        assert (await browser.post("/sign-out")).status_code == 303
        assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize(
    "where", ["//evil.example", "/\\evil.example", "https://evil.example/", "evil", "/a\r\nx: y"]
)
def test_the_way_back_stays_on_this_desk(where: str) -> None:
    assert not desk.is_local(where)
    assert desk.is_local("/vend?q=1")
