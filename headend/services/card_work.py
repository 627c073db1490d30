"""Work at a desk's reader that somebody began in a browser.

A browser has no reader. The reader is served by `headend card desk` on the same machine, signed in
as the same person: it asks for the work that waits for it and carries the commands, as for any
other work (card_sessions.py). What came of it is kept for a while, so that the page can show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from gateways.key_client import KeysAway
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.services.card_sessions import CardSessions, Reader, problem_of
from protocols.card_apdu import Apdu, CardError

KEPT_FOR: Final = timedelta(minutes=30)
KEPT_MAX: Final = 500
#: a desk that has not asked for so long is not there
DESK_ASKS_WITHIN: Final = timedelta(seconds=40)
ASK_S_MAX: Final = 20.0


@dataclass(slots=True)
class CardWork:
    """One piece of work, from the button to its end."""

    session: UUID
    owner: int
    action: str
    meter: str
    begun_at: datetime
    waiting: Apdu | None = None  # its first command, until a desk takes it
    taken: bool = False
    done: dict[str, Any] | None = None
    problem: Problem | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.done is not None or self.problem is not None


class CardWorks:
    """Every piece of work of the desks' browsers."""

    def __init__(self, sessions: CardSessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._works: dict[UUID, CardWork] = {}
        self._asked_at: dict[int, datetime] = {}
        self._news: dict[int, asyncio.Event] = {}

    def has_desk(self, owner: int) -> bool:
        """Whether a reader of this person's asks for work."""
        at = self._asked_at.get(owner)
        return at is not None and self._clock.now() - at < DESK_ASKS_WITHIN

    def find(self, owner: int, session: UUID) -> CardWork | None:
        """A piece of one's own work."""
        work = self._works.get(session)
        return work if work is not None and work.owner == owner else None

    async def begin(
        self,
        owner: int,
        session: UUID,
        *,
        action: str,
        meter: str,
        work: Callable[[Reader], Awaitable[dict[str, Any]]],
    ) -> CardWork:
        """Start it, once for this id. Raises Problem where another piece is under way."""
        known = self.find(owner, session)
        if known is not None:
            return known
        self._forget_old()
        if any(one.owner == owner and not one.is_over for one in self._works.values()):
            raise Problem("card-not-given", detail="this desk works on another card")
        if len(self._works) >= KEPT_MAX:
            raise Problem("card-not-given", detail="too many cards are worked on")
        kept = CardWork(session, owner, action, meter, self._clock.now())
        self._works[session] = kept

        async def told(reader: Reader) -> dict[str, Any]:
            try:
                kept.done = await work(reader)
            except Problem as problem:
                kept.problem = problem
                raise
            except (CardError, KeysAway) as error:
                kept.problem = problem_of(error)
                raise
            except BaseException:
                kept.problem = Problem("no-card-session")
                raise
            return kept.done

        try:
            step = await self._sessions.begin(owner, session, told)
        except Problem as problem:
            kept.problem = kept.problem or problem
            return kept
        kept.waiting = step.command
        self._event(owner).set()
        return kept

    async def next_for(self, owner: int, wait_s: float = ASK_S_MAX) -> CardWork | None:
        """What waits for this person's reader, at most so long; each piece is given once."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + min(wait_s, ASK_S_MAX)
        while True:
            self._asked_at[owner] = self._clock.now()
            event = self._event(owner)
            event.clear()
            for work in self._works.values():
                if work.owner == owner and work.waiting and not (work.taken or work.is_over):
                    work.taken = True
                    return work
            left_s = until_s - loop.time()
            if left_s <= 0:
                return None
            try:
                async with asyncio.timeout(left_s):
                    await event.wait()
            except TimeoutError:
                return None

    def _event(self, owner: int) -> asyncio.Event:
        return self._news.setdefault(owner, asyncio.Event())

    def _forget_old(self) -> None:
        before = self._clock.now() - KEPT_FOR
        for session, work in list(self._works.items()):
            if work.is_over and work.begun_at < before:
                del self._works[session]
