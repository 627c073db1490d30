"""A conversation with a card, written as a generator, as drivers of meters are: no reader, no key.

It yields a command for the card or a call for the key service, and is sent what came of it. Whoever
runs it owns the reader. When the card is pulled, CardGone is thrown in; what a write did by then is
not known, and the next reading decides.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

from protocols.card_image import SERIAL_BYTES, Copy
from protocols.exchange import Effect, ProtocolError
from protocols.key_call import KeyCall, KeyDenied, KeyResult, Operation, Purpose

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Apdu:
    """One command to the card or to the reader that drives it."""

    label: str  # for people; never data
    command: bytes = field(repr=False)  # it may carry a PSC or a sector key
    effect: Effect = Effect.READ


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """What came back: data and the two status bytes."""

    data: bytes = field(repr=False)
    status: int

    @property
    def is_ok(self) -> bool:
        """Whether the status is 9000. Of a PSC this means *locked*: see card_sle4442."""
        return self.status == 0x9000


CardConversation: TypeAlias = Generator[Apdu | KeyCall, CardAnswer | KeyResult, T]


class CardError(ProtocolError):
    """Base of what cards and their conversations raise."""


class CardGone(CardError):
    """The card was pulled, or its reader was. After a write this proves nothing about it."""


class NotOurCard(CardError):
    """A foreign card, or one whose keys are not ours. Nothing was written."""


class BlankCard(NotOurCard):
    """A card as its maker delivers it."""


class CardSpent(CardError):
    """This card must not be used any more: too few tries are left, or it does not keep data."""


class CardRefused(CardError):
    """The card said no to a command."""

    def __init__(self, label: str, status: int) -> None:
        super().__init__(f"{label}: the card answered {status:04X}")
        self.status = status


class KeyNo(CardError):
    """The key service said no."""

    def __init__(self, denied: KeyDenied) -> None:
        super().__init__(": ".join(filter(None, (denied.denial.value, denied.detail))))
        self.denied = denied


class ZoneName(enum.Enum):
    """The two records of a card."""

    DOWN = 0  # from the desk to the meter
    UP = 1  # from the meter to the desk


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose cards these are: which keys, and the area they are derived through."""

    scope: str
    area: bytes  # eight bytes
    #: eight bytes of chance, fresh for each card on the reader: the runner draws them
    nonce: bytes = field(default=bytes(8), repr=False)

    def call(
        self,
        operation: Operation,
        purpose: Purpose,
        device: bytes,
        data: bytes,
        *,
        iv: bytes = b"",
        mac: bytes = b"",
        version: int | None = None,
    ) -> KeyCall:
        """A call under the key of one card, or of one meter."""
        return KeyCall(
            operation=operation,
            purpose=purpose,
            scope=self.scope,
            version=version,
            path=(self.area, device),
            data=data,
            iv=iv,
            mac=mac,
        )


class Medium(Protocol):
    """One family of cards behind one family of readers: where the two zones are and how to get in.

    Each call is a conversation. `open` comes first; a zone's copies are 0 and 1.
    """

    name: str
    #: anybody can copy it byte for byte: no bearer cards on it (spec A.1)
    is_copied_with_ease: bool
    #: somebody with the means makes a second card that no meter tells from the first (spec A.1)
    can_be_cloned: bool

    def open(self, issuer: Issuer) -> CardConversation[bytes]:
        """The card's serial. Raises BlankCard, NotOurCard, CardSpent; writes nothing."""
        ...

    def read_copies(
        self, issuer: Issuer, serial: bytes, zone: ZoneName
    ) -> CardConversation[tuple[Copy, Copy]]:
        """Both copies as they lie there."""
        ...

    def allow_writing(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        """Prove to the card that it is us. Raises CardSpent, NotOurCard."""
        ...

    def write_record(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, record: bytes
    ) -> CardConversation[None]:
        """Write one copy's record."""
        ...

    def write_commit(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, commit: bytes
    ) -> CardConversation[None]:
        """Write one copy's commit."""
        ...

    def personalise(self, issuer: Issuer, new_serial: bytes) -> CardConversation[bytes]:
        """A blank card becomes ours, with empty zones; its serial.

        `new_serial` is used by media that have none of their own. May be repeated after a pull.
        """
        ...


def transmit(command: Apdu) -> CardConversation[CardAnswer]:
    """One command, one answer."""
    answer = yield command
    assert isinstance(answer, CardAnswer), "the runner answers a command with an answer"
    return answer


def transmit_ok(command: Apdu) -> CardConversation[bytes]:
    """A command that a healthy card answers with 9000; its data. Raises CardRefused."""
    answer = yield from transmit(command)
    if not answer.is_ok:
        raise CardRefused(command.label, answer.status)
    return answer.data


def ask_keys(call: KeyCall) -> CardConversation[KeyResult]:
    """One call to the key service."""
    result = yield call
    assert isinstance(result, KeyResult), "the runner answers a call with a result"
    return result


def padded_serial(raw: bytes) -> bytes:
    """A UID of 4 or 7 bytes as a serial of eight."""
    return raw[:SERIAL_BYTES].ljust(SERIAL_BYTES, b"\0")


def secret_of(issuer: Issuer, serial: bytes, what: bytes, length: int) -> CardConversation[bytes]:
    """A secret that a simple card itself knows: a sector key, a PSC. Made for this card alone.

    It is a MAC over a label, so no key leaves the key service; whoever takes it from the wire of a
    reader opens one card (spec A.2, A.4).
    """
    made = yield from ask_keys(issuer.call(Operation.MAC, Purpose.CARD_ACCESS, serial, what))
    return made.value[:length]


def run(
    conversation: CardConversation[T],
    card: Callable[[bytes], bytes],
    keys: Callable[[KeyCall], KeyResult | KeyDenied],
) -> T:
    """Run a conversation on a card that is a function, for units, tests and tools.

    `card` takes a command and gives data and status; it raises CardGone itself.
    """
    try:
        step = next(conversation)
        while True:
            try:
                answer: CardAnswer | KeyResult
                if isinstance(step, Apdu):
                    answer = answer_of(card(step.command))
                else:
                    told = keys(step)
                    if isinstance(told, KeyDenied):
                        raise KeyNo(told)
                    answer = told
            except ProtocolError as error:
                step = conversation.throw(error)
            else:
                step = conversation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def answer_of(raw: bytes) -> CardAnswer:
    """Data and status from what a reader gave. Raises CardGone on fewer than two bytes.

    A card pulled in the middle of a command reads as success without bytes on some readers.
    """
    if len(raw) < 2:
        raise CardGone("the card was pulled")
    return CardAnswer(raw[:-2], int.from_bytes(raw[-2:], "big"))
