"""A driver's conversation with a meter, written as a generator: no sockets, no clocks, no locks.

The driver yields what it wants to happen and is sent what came of it. Whoever runs it (a real line,
a test, the simulator) decides about timing, turns and repeats. The rules of money live here:
a write may only follow an Intent, and a write is never sent twice.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Effect(enum.Enum):
    """What a request does to the meter, hence whether it may be repeated."""

    READ = "read"  # may be repeated
    WRITE = "write"  # may not


@dataclass(frozen=True, slots=True)
class Reply:
    """The meter answered: the data bytes of its frame, checksum already tested."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The meter understood and said no; `code` is the protocol's own (Modbus: 1 to 11)."""

    code: int


Answer: TypeAlias = Reply | Refusal


class ReplyReader(Protocol):
    """Bytes in, at most one answer out. Steps over noise; never raises on bad input."""

    def receive_data(self, data: bytes) -> None: ...
    def next_event(self) -> Answer | None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One frame to send and the way to recognise its one answer."""

    label: str  # for people: logs, traces, errors
    frame: bytes
    effect: Effect
    new_reader: Callable[[], ReplyReader]
    reply_bytes_max: int = 0  # how long the answer may be; a slow line adds its wire time
    # The frame is ciphertext: its second byte is no function code. Whoever made it has checked the
    # plain frame.
    enciphered: bool = False
    # A refusal with one of these bits was counted by the meter's security chip: some more, and it
    # locks.
    wrong_code_bits: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the meter says about purchases and supply; the fields it does not have stay None."""

    purchase_count: int | None = None
    total_purchased_fen: int | None = None
    remaining_credit_fen: int | None = None
    relay_closed_bits: int | None = None  # bits 0, 1, 2 = L1, L2, L3 carry current
    forced: bool | None = None  # forced control is active: it outranks the meter's own controls


@dataclass(frozen=True, slots=True)
class Intent:
    """Yielded once, before the first write: make this durable, then go on."""

    before: Evidence


class ProtocolError(Exception):
    """Base of everything this package raises."""


class Silence(ProtocolError):
    """No answer in time. After a write this proves nothing about what the meter did."""


class Garbled(Silence):
    """Bytes came in time, but no answer with a good checksum among them."""


class BadAnswer(ProtocolError):
    """An answer with a good checksum that makes no sense for this meter type."""


class WrongMeter(BadAnswer):
    """Another meter answers at this address: its type code or number is not the expected one."""


class Refused(ProtocolError):
    """The meter said no to something this driver cannot do without."""

    def __init__(self, label: str, code: int) -> None:
        super().__init__(f"{label}: refused with code {code}")
        self.code = code


class NotReady(ProtocolError):
    """The meter, or what is known of it, does not allow this order now. Nothing was written."""


class CodesRefused(NotReady):
    """The meter's security chip refused so many codes of ours that it is sent no more."""


class CountOutOfStep(ProtocolError):
    """The meter's purchase count is not the one this purchase follows. Nothing was written.

    Usually another purchase has landed in between (a card); `before` is what the meter shows.
    """

    def __init__(self, before: Evidence, expected_count: int) -> None:
        super().__init__(
            f"the meter's purchase count is {before.purchase_count}, not {expected_count}; "
            f"find the purchase that changed it before this one is sent"
        )
        self.before = before


@dataclass(frozen=True, slots=True)
class KeyWork:
    """Yielded where a key holder has something to do: run it off the wire, however long it takes,
    and send its bytes as a Reply. What it raises is thrown into the conversation."""

    work: Callable[[], bytes]


class KeysAway(ProtocolError):
    """The key holder cannot be asked now, or refuses. Nothing was written because of it."""


Conversation: TypeAlias = Generator[Request | Intent | KeyWork, Answer | None, T]


def ask_keys(work: Callable[[], bytes]) -> Conversation[bytes]:
    """Have the key holder do something. Raises KeysAway."""
    answer = yield KeyWork(work)
    assert isinstance(answer, Reply), "the runner must send the bytes as a Reply"
    return answer.payload


def ask(request: Request) -> Conversation[Answer]:
    """Yield one request and give back its answer, Reply or Refusal."""
    answer = yield request
    assert answer is not None, "the runner must send an answer or throw Silence"
    return answer


def ask_reply(request: Request) -> Conversation[bytes]:
    """Like `ask`, for requests a healthy meter always answers. Raises Refused."""
    answer = yield from ask(request)
    if isinstance(answer, Refusal):
        raise Refused(request.label, answer.code)
    return answer.payload
