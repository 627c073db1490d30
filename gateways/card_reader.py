"""Card readers over PC/SC. The only place that knows pyscard, which is imported when it is needed.

One card, one conversation, one exclusive connection. A pulled card or reader after a write has left
is *outcome unknown*, not an error: the card knows, and the next reading decides. Connections are
always left with "leave the card": to reset or power off a reader whose card is gone hangs some
(spec cards_keys.md A.8).
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gateways.key_client import KeyRefused
from protocols.card_apdu import (
    Apdu,
    CardAnswer,
    CardConversation,
    CardError,
    CardGone,
    KeyNo,
    answer_of,
)
from protocols.exchange import Effect, ProtocolError
from protocols.key_call import KeyCall, KeyResult

T = TypeVar("T")

# A card answers within a second; a CPU card that thinks asks for more time by itself.
ANSWER_S_MAX = 5.0
AskKeys = Callable[[KeyCall], Awaitable[KeyResult]]


class NoReader(CardError):
    """There is no such reader, or no PC/SC service. Nothing was written."""


class NoCard(CardError):
    """No card lies on the reader. Nothing was written."""


class ReaderBusy(CardError):
    """Another program uses this reader. Nothing was written."""


class CardUnsettled(CardError):
    """The card was pulled, or fell silent, after a write had left: what it holds is not known."""


class PcscReader:
    """One reader by its name. Conversations run one after the other."""

    def __init__(self, name: str, *, answer_s_max: float = ANSWER_S_MAX) -> None:
        self.name = name
        self._answer_s_max = answer_s_max
        self._turn = asyncio.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    async def converse(self, conversation: CardConversation[T], keys: AskKeys) -> T:
        """Run one conversation with the card that lies there.

        Raises NoReader, NoCard, ReaderBusy before anything is sent; CardGone when it was pulled and
        nothing had been written; CardUnsettled when something had; and what the conversation and
        `keys` raise.
        """
        async with self._turn:
            connection = await self._in_thread(_connect, self.name)
            wrote = False
            try:
                step = await self._stepped(conversation.send, None)
                while True:
                    try:
                        answer: CardAnswer | KeyResult
                        if isinstance(step, Apdu):
                            wrote |= step.effect is Effect.WRITE
                            raw = await self._in_thread(connection.transmit, step.command)
                            answer = answer_of(raw)
                        else:
                            answer = await _asked(keys, step)
                    except ProtocolError as error:
                        step = await self._stepped(conversation.throw, error)
                    else:
                        step = await self._stepped(conversation.send, answer)
            except _Ended as end:
                result: T = end.value
                return result
            except CardGone as gone:
                if wrote:
                    raise CardUnsettled(
                        "the card was pulled while it was written: put it on the reader again"
                    ) from gone
                raise
            finally:
                conversation.close()
                await self._in_thread(connection.leave)

    async def wait(self, *, present: bool, timeout_s: float) -> bool:
        """Wait until a card lies there, or none does; whether it came to that."""
        return bool(await self._in_thread(_wait, self.name, present, timeout_s, plus_s=timeout_s))

    async def close(self) -> None:
        """No conversation after this."""
        self._worker.shutdown(wait=False)

    async def _stepped(self, go_on: Callable[..., Apdu | KeyCall], given: object) -> Apdu | KeyCall:
        """The next step, made in the thread: a closed unit thinks in a process of its own."""
        return await self._in_thread(_next_step, go_on, given)

    async def _in_thread(self, work: Callable[..., T], *given: object, plus_s: float = 0.0) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._worker, work, *given)
        try:
            return await asyncio.wait_for(future, self._answer_s_max + plus_s)
        except TimeoutError:
            # The thread is stuck in a driver; leave it there and begin anew.
            self._worker.shutdown(wait=False)
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
            raise CardGone(f"{self.name} does not answer") from None


class _Ended(Exception):
    """The conversation returned; a StopIteration cannot pass through a future."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _next_step(go_on: Callable[..., Apdu | KeyCall], given: object) -> Apdu | KeyCall:
    try:
        return go_on(given)
    except StopIteration as end:
        raise _Ended(end.value) from None


async def _asked(keys: AskKeys, call: KeyCall) -> KeyResult:
    try:
        return await keys(call)
    except KeyRefused as refused:
        raise KeyNo(refused.denied) from refused


def readers() -> list[str]:
    """The names of the readers there are. Raises NoReader without PC/SC."""
    scard = _scard()
    context = _context(scard)
    try:
        code, names = scard.SCardListReaders(context, [])
        return list(names) if code == scard.SCARD_S_SUCCESS else []
    finally:
        scard.SCardReleaseContext(context)


class _Connection:
    """An exclusive connection to the card on a reader."""

    def __init__(self, scard: Any, context: Any, card: Any, protocol: int) -> None:
        self._scard = scard
        self._context = context
        self._card = card
        self._protocol = protocol

    def transmit(self, command: bytes) -> bytes:
        """One command; CardGone when the card or the reader went."""
        code, answer = self._scard.SCardTransmit(self._card, self._protocol, list(command))
        if code != self._scard.SCARD_S_SUCCESS:
            raise CardGone(self._scard.SCardGetErrorMessage(code))
        return bytes(answer)

    def leave(self) -> None:
        """Let the card be, whatever has become of it."""
        self._scard.SCardDisconnect(self._card, self._scard.SCARD_LEAVE_CARD)
        self._scard.SCardReleaseContext(self._context)


def _connect(name: str) -> _Connection:
    scard = _scard()
    context = _context(scard)
    code, card, protocol = scard.SCardConnect(
        context,
        name,
        scard.SCARD_SHARE_EXCLUSIVE,
        scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
    )
    if code == scard.SCARD_S_SUCCESS:
        return _Connection(scard, context, card, protocol)
    told = scard.SCardGetErrorMessage(code)
    scard.SCardReleaseContext(context)
    if code == scard.SCARD_E_SHARING_VIOLATION:
        raise ReaderBusy(f"{name} is in use by another program")
    if code in (
        scard.SCARD_E_NO_SMARTCARD,
        scard.SCARD_W_REMOVED_CARD,
        scard.SCARD_W_UNPOWERED_CARD,
        scard.SCARD_W_UNRESPONSIVE_CARD,
    ):
        raise NoCard(f"no card on {name}: {told}")
    raise NoReader(f"{name}: {told}")


def _wait(name: str, present: bool, timeout_s: float) -> bool:
    """On the service's own word: asking by connecting again and again resets the card."""
    scard = _scard()
    context = _context(scard)
    try:
        wanted = scard.SCARD_STATE_PRESENT if present else scard.SCARD_STATE_EMPTY
        state, left_ms = scard.SCARD_STATE_UNAWARE, int(timeout_s * 1000)
        # The first answer comes at once and says how it stands; the second is the change.
        for _ in range(8):
            code, told = scard.SCardGetStatusChange(context, left_ms, [(name, state)])
            if code == scard.SCARD_E_TIMEOUT:
                return False
            if code != scard.SCARD_S_SUCCESS:
                raise NoReader(f"{name}: {scard.SCardGetErrorMessage(code)}")
            state = told[0][1]
            if state & wanted:
                return True
        return False
    finally:
        scard.SCardReleaseContext(context)


def _scard() -> Any:
    try:
        return importlib.import_module("smartcard.scard")
    except ImportError as error:
        raise NoReader("pyscard is not installed: pip install pyscard (needs PC/SC)") from error


def _context(scard: Any) -> Any:
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    if code != scard.SCARD_S_SUCCESS:
        raise NoReader(f"no PC/SC service: {scard.SCardGetErrorMessage(code)}")
    return context
