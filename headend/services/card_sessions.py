"""Work at a reader that is somewhere else: we make the commands, the desk carries them to the card.

The desk (a cashier's machine) holds a reader and no key. It begins a session, gets a command, sends
back what the card answered, and so on until the work is done. What happens between is a plain
coroutine here. A desk that goes away in the middle is a pulled card.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from gateways.card_reader import CardUnsettled, NoCard, NoReader, ReaderBusy
from gateways.key_client import KeyRefused, KeysAway
from headend.domain.problems import Problem
from headend.units.unit_process import UnitDown, UnitFailed
from protocols.card_apdu import (
    Apdu,
    BlankCard,
    CardAnswer,
    CardConversation,
    CardError,
    CardGone,
    CardRefused,
    CardSpent,
    KeyNo,
    NotOurCard,
    answer_of,
)
from protocols.exchange import Effect, ProtocolError
from protocols.key_call import KeyCall, KeyResult, Purpose

T = TypeVar("T")

SESSIONS_MAX = 200
# A cashier who looks elsewhere for a minute has put the card away.
DESK_S_MAX = 60.0

AskKeys = Callable[[KeyCall], Awaitable[KeyResult]]


@dataclass(frozen=True, slots=True)
class Step:
    """A command for the card, or the end of the work."""

    command: Apdu | None = None
    done: dict[str, Any] | None = None


@dataclass
class Reader:
    """The card on a desk's reader, as the work sees it."""

    keys: AskKeys
    #: how long a command waits for the card's answer, until the card counts as pulled
    answer_s_max: float = DESK_S_MAX
    _secrets: dict[KeyCall, KeyResult] = field(default_factory=dict, repr=False)
    _out: asyncio.Queue[Apdu] = field(default_factory=lambda: asyncio.Queue(1))
    _back: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(1))

    async def converse(self, conversation: CardConversation[T]) -> T:
        """Run one conversation. Raises CardError; CardUnsettled if it was pulled after a write."""
        wrote = False
        try:
            step = await _stepped(conversation.send, None)
            while True:
                try:
                    answer: CardAnswer | KeyResult
                    if isinstance(step, Apdu):
                        wrote |= step.effect is Effect.WRITE
                        answer = await self._transmit(step)
                    else:
                        answer = await self._ask(step)
                except ProtocolError as error:
                    step = await _stepped(conversation.throw, error)
                else:
                    step = await _stepped(conversation.send, answer)
        except _Ended as end:
            result: T = end.value
            return result
        except CardGone as gone:
            if wrote:
                raise CardUnsettled("the card was pulled while it was written") from gone
            raise
        finally:
            conversation.close()

    async def _transmit(self, command: Apdu) -> CardAnswer:
        await self._out.put(command)
        try:
            async with asyncio.timeout(self.answer_s_max):
                raw = await self._back.get()
        except TimeoutError:
            raw = None
        if raw is None:
            raise CardGone("the card was pulled")
        return answer_of(raw)

    async def _ask(self, call: KeyCall) -> KeyResult:
        """A card's own secret, which crosses its reader anyway, is asked for once a session: an RF
        card would make a line in the key log for each sector it enters."""
        if call in self._secrets:
            return self._secrets[call]
        try:
            result = await self.keys(call)
        except KeyRefused as refused:
            raise KeyNo(refused.denied) from refused
        if call.purpose is Purpose.CARD_ACCESS:
            self._secrets[call] = result
        return result

    async def next_command(self) -> Apdu:
        return await self._out.get()

    def answer(self, raw: bytes | None) -> None:
        """What the card said; None: it was pulled."""
        self._back.put_nowait(raw)


class _Ended(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


async def _stepped(go_on: Callable[..., Apdu | KeyCall], given: object) -> Apdu | KeyCall:
    """In a thread: a closed unit thinks in a process of its own, for up to two seconds."""

    def step() -> Apdu | KeyCall:
        try:
            return go_on(given)
        except StopIteration as end:
            raise _Ended(end.value) from None

    return await asyncio.to_thread(step)


class CardSessions:
    """Every piece of work at a reader that is under way, by the caller's own id."""

    def __init__(self, keys: AskKeys) -> None:
        self._keys = keys
        self._at_work: dict[tuple[int, UUID], tuple[Reader, asyncio.Task[dict[str, Any]]]] = {}

    async def begin(
        self, owner: int, session: UUID, work: Callable[[Reader], Awaitable[dict[str, Any]]]
    ) -> Step:
        """Start; the first command, or the end. Raises Problem."""
        if len(self._at_work) >= SESSIONS_MAX or (owner, session) in self._at_work:
            raise Problem("card-not-given", detail="this work is under way already")
        reader = Reader(self._keys)

        async def run() -> dict[str, Any]:
            return await work(reader)

        self._at_work[owner, session] = reader, asyncio.create_task(run(), name="card session")
        return await self._next(owner, session)

    async def answer(self, owner: int, session: UUID, raw: bytes | None) -> Step:
        """The card's answer, None for a pulled card; the next command or the end."""
        found = self._at_work.get((owner, session))
        if found is None:
            raise Problem("no-card-session")
        try:
            found[0].answer(raw)
        except asyncio.QueueFull:
            raise Problem("no-card-session") from None
        return await self._next(owner, session)

    async def close(self) -> None:
        """End everything: each card is as good as pulled."""
        for _, task in self._at_work.values():
            task.cancel()
        for _, task in list(self._at_work.values()):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        self._at_work.clear()

    async def _next(self, owner: int, session: UUID) -> Step:
        reader, task = self._at_work[owner, session]
        command = asyncio.create_task(reader.next_command())
        await asyncio.wait({command, task}, return_when=asyncio.FIRST_COMPLETED)
        if command.done():
            # A desk that never answers: its work ends by itself, and nobody fetches its end.
            task.add_done_callback(lambda _: self._forget(owner, session, task))
            return Step(command=command.result())
        command.cancel()
        self._at_work.pop((owner, session), None)
        try:
            return Step(done=task.result())
        except (CardError, KeysAway) as error:
            raise problem_of(error) from error

    def _forget(self, owner: int, session: UUID, task: asyncio.Task[dict[str, Any]]) -> None:
        if not task.cancelled():
            task.exception()  # seen, so that it is not reported as lost

        def drop() -> None:
            self._at_work.pop((owner, session), None)

        asyncio.get_running_loop().call_later(DESK_S_MAX, drop)


_CODES: tuple[tuple[type[Exception], str], ...] = (
    (KeysAway, "keys-away"),
    (KeyNo, "keys-refused"),
    (BlankCard, "card-blank"),
    (NotOurCard, "card-not-ours"),
    (CardSpent, "card-spent"),
    (CardUnsettled, "card-unsettled"),
    (CardGone, "card-gone"),
    (UnitFailed, "unit-failed"),
    (UnitDown, "unit-failed"),
    (NoCard, "card-gone"),
    (NoReader, "no-reader"),
    (ReaderBusy, "no-reader"),
    (CardRefused, "card-said-no"),
)


def problem_of(error: CardError | KeysAway) -> Problem:
    """What went wrong at the reader, as people are told."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Problem(code, detail=error)
    return Problem("card-said-no", detail=error)
