"""Real PostgreSQL on virtual time: what a statement does to the clock and to other sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from headend.store.errors import DatabaseAway
from headend.trial.steps import Sessions, StepDatabase
from simulators import clockloop


@dataclass
class PlainFate:
    """Nothing happens unless a test says so."""

    dead: bool = False
    database_away: bool = False
    hang_up_at: int = 0  # the statement, counted from 1, before which the server hangs up
    lose_answers: bool = False
    statements: int = 0

    async def step(self) -> None:
        await asyncio.sleep(0)

    def hangs_up(self) -> bool:
        self.statements += 1
        return self.statements == self.hang_up_at

    def loses_the_answer(self) -> bool:
        return self.lose_answers

    def loses_a_notice(self) -> bool:
        return False


@pytest.fixture
def sessions(empty_dsn: str) -> Iterator[Sessions]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE box (number integer PRIMARY KEY, amount integer)")
        connection.execute("INSERT INTO box VALUES (1, 0), (2, 0)")
    opened = Sessions(empty_dsn)
    asyncio.run(opened.fill())
    yield opened
    asyncio.run(opened.close())


def amounts(sessions: Sessions) -> list[int]:
    return [row[0] for row in sessions.admin.execute("SELECT amount FROM box ORDER BY number")]


async def add(database: StepDatabase, number: int, amount: int, then: int | None = None) -> None:
    async with database.transaction() as tx:
        await tx.execute("UPDATE box SET amount = amount + %s WHERE number = %s", amount, number)
        if then is not None:
            await tx.execute("UPDATE box SET amount = amount * 2 WHERE number = %s", then)


def run(
    sessions: Sessions,
    work: Callable[[StepDatabase], Awaitable[None]],
    fate: PlainFate | None = None,
) -> None:
    async def main() -> None:
        await work(StepDatabase(sessions, fate or PlainFate()))

    clockloop.run(main())


def test_statements_take_no_time_and_wait_for_locks_of_others(sessions: Sessions) -> None:
    async def work(database: StepDatabase) -> None:
        await asyncio.gather(*(add(database, 1, 1, then=2) for _ in range(5)), add(database, 2, 7))
        assert asyncio.get_running_loop().time() == 0.0

    run(sessions, work)
    # The sixth added between others, which then doubled it: always at the same place.
    first = amounts(sessions)
    sessions.admin.execute("UPDATE box SET amount = 0")
    run(sessions, work)
    assert amounts(sessions) == first
    assert first[0] == 5


def test_two_who_wait_for_each_other_are_told_apart(sessions: Sessions) -> None:
    async def work(database: StepDatabase) -> None:
        outcomes = await asyncio.gather(
            add(database, 1, 1, then=2), add(database, 2, 1, then=1), return_exceptions=True
        )
        assert [isinstance(outcome, DatabaseAway) for outcome in outcomes].count(True) == 1

    run(sessions, work)


def test_a_dead_process_commits_nothing(sessions: Sessions) -> None:
    fate = PlainFate()

    async def work(database: StepDatabase) -> None:
        async def dies() -> None:
            async with database.transaction() as tx:
                await tx.execute("UPDATE box SET amount = 9")
                fate.dead = True

        with pytest.raises(DatabaseAway):
            await dies()
        with pytest.raises(DatabaseAway):
            await add(database, 1, 1)

    run(sessions, work, fate)
    assert amounts(sessions) == [0, 0]


@pytest.mark.parametrize("statement", [1, 2, 3, 4])
def test_a_server_that_hangs_up_takes_the_transaction_along(
    sessions: Sessions, statement: int
) -> None:
    async def work(database: StepDatabase) -> None:
        with pytest.raises(DatabaseAway):
            await add(database, 1, 1, then=2)
        await add(database, 2, 3)

    run(sessions, work, PlainFate(hang_up_at=statement))
    assert amounts(sessions) == [0, 3]


def test_a_commit_may_arrive_though_its_answer_does_not(sessions: Sessions) -> None:
    async def work(database: StepDatabase) -> None:
        with pytest.raises(DatabaseAway):
            await add(database, 1, 1)

    run(sessions, work, PlainFate(lose_answers=True))
    assert amounts(sessions) == [1, 0]


def test_a_notice_comes_with_its_commit_and_never_without(sessions: Sessions) -> None:
    async def work(database: StepDatabase) -> None:
        heard = database.listen("news")
        assert await anext(heard) == ""
        with contextlib.suppress(ValueError):
            async with database.transaction() as tx:
                await tx.execute("NOTIFY news, 'never'")
                raise ValueError("taken back")
        async with database.transaction() as tx:
            await tx.execute("NOTIFY news, 'said'")
        assert await anext(heard) == "said"
        await heard.aclose()

    run(sessions, work)
