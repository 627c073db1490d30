"""A recharge terminal that dials in: it proves itself, carries its line, and says what was tapped.

Both sides prove the one credential over both nonces, so that neither a thief's terminal nor a
thief's head-end is believed. Everything but LINE and ALIVE goes up as it was said; what it means is
the service's.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from protocols.dtu import SAMPLE_BYTES_MAX, BadPattern
from protocols.keys import GatewaySecret
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    Event,
    Heartbeat,
    Introduced,
    Named,
    NewStream,
    Overflow,
    Said,
    TurnedAway,
    Unrecognised,
)
from protocols.terminal import (
    BODY_BYTES_MAX,
    BadBody,
    FrameType,
    TerminalFrame,
    TerminalReader,
    fields_of,
    frame,
    message,
)
from protocols.terminal_island import login_mac

NONCE_HEX = 16  # eight bytes
BYTES_BEFORE_NAME_MAX = 2 * BODY_BYTES_MAX
NAME_MAX = 40
# What only a terminal says, to us and not to its line.
_SAYS = frozenset(
    {
        FrameType.TAP,
        FrameType.BUY,
        FrameType.ASK_RECHARGES,
        FrameType.CARD_ANSWER,
        FrameType.ISLAND_SALE,
    }
)

Known: TypeAlias = Mapping[str, tuple[str, GatewaySecret]]


def terminal_begins(data: bytes) -> bool | None:
    """Whether these are the first bytes of a HELLO."""
    first = b"RF" + bytes((FrameType.HELLO.value,))
    if len(data) < len(first):
        return None if first.startswith(data) else False
    return data.startswith(first)


def random_nonce() -> str:
    """Sixteen hex digits nobody can guess."""
    return secrets.token_hex(NONCE_HEX // 2)


def known_terminals(
    boxes: Mapping[str, Box], *, new_nonce: Callable[[], str] = random_nonce
) -> NewStream:
    """Streams that know these terminals by name. Raises BadPattern."""
    known: dict[str, tuple[str, GatewaySecret]] = {}
    for gateway, box in boxes.items():
        if box.registration in known:
            raise BadPattern(f"{known[box.registration][0]} and {gateway} have the same name")
        known[box.registration] = (gateway, box.secret or GatewaySecret(_no_secret))
    return lambda _: TerminalStream(known, new_nonce)


def _no_secret() -> str:
    raise ValueError("its site file does not say where it lies")


class TerminalStream:
    """One connection of a terminal, from its first byte (protocols/stream.py)."""

    __slots__ = (
        "_heard",
        "_is_over",
        "_known",
        "_login",
        "_new_nonce",
        "_reader",
        "name",
        "sample",
    )

    def __init__(self, known: Known, new_nonce: Callable[[], str]) -> None:
        self.name: str | None = None
        self.sample = b""
        self._known = known
        self._new_nonce = new_nonce
        self._reader = TerminalReader()
        self._heard = 0
        self._is_over = False
        self._login: tuple[str, bytes, str, str] | None = None  # who, secret, its nonce, ours

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean."""
        return tuple(self._receive(data))

    def wrap(self, frame_bytes: bytes, port: int = 1) -> bytes:
        """One frame for its line."""
        return frame(FrameType.LINE, 0, frame_bytes)

    def _receive(self, data: bytes) -> Iterator[Event]:
        if self._is_over:
            return
        if self.name is None:
            self._heard += len(data)
            self.sample = (self.sample + data)[:SAMPLE_BYTES_MAX]
        self._reader.receive_data(data)
        while not self._is_over and (got := self._reader.next_event()) is not None:
            yield from self._meaning(got)
        if self.name is None and not self._is_over and self._heard > BYTES_BEFORE_NAME_MAX:
            self._is_over = True
            yield Overflow(self.sample)

    def _meaning(self, got: TerminalFrame) -> tuple[Event, ...]:
        if self.name is not None and got.type is FrameType.LINE:
            return (Bytes(got.body),)
        if self.name is not None and got.type is FrameType.ALIVE:
            return (Heartbeat(got.body), Answer(frame(FrameType.ALIVE_TOO, got.sequence, b"")))
        try:
            return self._message(got, fields_of(got))
        except BadBody:
            return self._strange(got)

    def _message(self, got: TerminalFrame, fields: dict[str, Any]) -> tuple[Event, ...]:
        if got.type is FrameType.HELLO:
            return self._hello(got.sequence, fields)
        if got.type is FrameType.PROOF:
            return self._proof(got.sequence, fields)
        if self.name is None or got.type not in _SAYS:
            return self._strange(got)
        return (Said(got.type.name, got.sequence, fields),)

    def _strange(self, got: TerminalFrame) -> tuple[Event, ...]:
        if self.name is None:
            return ()
        return (Unrecognised(bytes((got.type.value,)) + got.body[: SAMPLE_BYTES_MAX - 1]),)

    def _hello(self, sequence: int, fields: Mapping[str, Any]) -> tuple[Event, ...]:
        who, nonce = fields.get("name"), fields.get("nonce")
        if not (isinstance(who, str) and 1 <= len(who) <= NAME_MAX and who.isprintable()):
            return ()
        if not (isinstance(nonce, str) and len(nonce) == NONCE_HEX and nonce.isascii()):
            return ()
        if self.name is not None:
            return self._turned_away("it said hello again in the middle of a session")
        self.sample = who.encode()[:SAMPLE_BYTES_MAX]
        if who not in self._known:
            self._is_over = True  # a stranger is never spoken to
            return (Introduced(who),)
        try:
            secret = self._known[who][1].key()
        except ValueError as error:
            return self._turned_away(f"terminal {who} has no usable secret: {error}")
        ours = self._new_nonce()
        self._login = (who, secret, nonce, ours)
        return (Answer(message(FrameType.CHALLENGE, sequence, nonce=ours)),)

    def _proof(self, sequence: int, fields: Mapping[str, Any]) -> tuple[Event, ...]:
        login, self._login = self._login, None  # one try for each challenge
        if self.name is not None or login is None:
            return self._turned_away("it sent a proof that nobody asked for")
        who, secret, theirs, ours = login
        mac = fields.get("mac")
        right = login_mac(secret, b"terminal", who, theirs, ours)
        if not (isinstance(mac, str) and mac.isascii() and hmac.compare_digest(mac.lower(), right)):
            said = message(FrameType.WELCOME, sequence, ok=False, why="bad-proof")
            return (
                Answer(said),
                *self._turned_away(f"terminal {who} has another secret than ours"),
            )
        self.name = self._known[who][0]
        ours_proved = login_mac(secret, b"head-end", who, theirs, ours)
        welcome = message(FrameType.WELCOME, sequence, ok=True, mac=ours_proved)
        return (Named(self.name), Answer(welcome), Said("HELLO", sequence, {}))

    def _turned_away(self, why: str) -> tuple[Event, ...]:
        self._is_over = True
        return (TurnedAway(why),)
