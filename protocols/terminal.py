"""The RF recharge terminal's protocol: ours, described in docs/terminal-protocol.md.

The ADF300L-RF's factory protocol is not published (spec acrel.md 5). A terminal stands beside a
cabinet: it carries the cabinet's RS485 line and takes cards. Frames over TCP or a serial wire:

    52 46 | type | sequence (2) | length (2) | body | CRC-16/MODBUS (2, low byte first)

A body is JSON, except of LINE, whose body is the bytes of the line as they are. Any bytes give an
event or nothing; noise is stepped over, memory is bounded.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

import fastcrc

MARK = b"RF"
HEAD_BYTES = 7
BODY_BYTES_MAX = 2048
RECHARGES_MAX = 20  # what a tap shows on request
_OVERHEAD = HEAD_BYTES + 2


class FrameType(enum.Enum):
    """What a frame says. Even: the terminal to us; odd: we to it. LINE goes both ways."""

    HELLO = 0x02  # who it is, and its chance
    CHALLENGE = 0x03  # our chance
    PROOF = 0x04  # its credential over both
    WELCOME = 0x05  # or why not
    ALIVE = 0x06
    ALIVE_TOO = 0x07
    LINE = 0x10  # bytes of the RS485 line
    TAP = 0x20  # a card is there: under an id of the terminal's own, its serial
    IDENTIFIED = 0x21  # whose it is, or why not
    BUY = 0x22  # so much out of the balance, under an id of the terminal's own
    BOUGHT = 0x23  # how far a purchase is, as it goes on
    ASK_RECHARGES = 0x24
    RECHARGES = 0x25  # the last twenty
    CARD_ANSWER = 0x26  # to CARD_COMMAND
    CARD_COMMAND = 0x27  # for the card: the terminal holds no key
    ISLAND_SALE = 0x30  # sold while we were away, in its sequence
    ISLAND_TAKEN = 0x31  # taken over, or the clash by name
    CAP = 0x33  # what it may sell while we are away, sealed
    SHOW = 0x35  # for its screen


@dataclass(frozen=True, slots=True)
class TerminalFrame:
    """One frame."""

    type: FrameType
    sequence: int  # of the sender, 0 to 65535; an answer repeats the one it answers
    body: bytes


class BadBody(ValueError):
    """The body of a good frame is none of its type; the text quotes nothing of it."""


def frame(kind: FrameType, sequence: int, body: bytes) -> bytes:
    """A frame as it goes out. Raises ValueError for a body that is too long."""
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a body has at most {BODY_BYTES_MAX} bytes")
    plain = (
        MARK
        + bytes((kind.value,))
        + sequence.to_bytes(2, "big")
        + len(body).to_bytes(2, "big")
        + body
    )
    return plain + fastcrc.crc16.modbus(plain).to_bytes(2, "little")


def message(kind: FrameType, sequence: int, /, **fields: Any) -> bytes:
    """A frame with a JSON body."""
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return frame(kind, sequence, body)


def fields_of(got: TerminalFrame) -> dict[str, Any]:
    """The JSON body of a frame. Raises BadBody."""
    try:
        told = json.loads(got.body)
    except (ValueError, RecursionError) as error:
        raise BadBody(f"the body of a {got.type.name} is not JSON") from error
    if not isinstance(told, dict):
        raise BadBody(f"the body of a {got.type.name} is no object")
    return told


class TerminalReader:
    """Bytes in, frames out. Steps over noise and over frames of types nobody knows."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.dropped_bytes = 0

    def receive_data(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._held += data

    def next_event(self) -> TerminalFrame | None:
        """The next good frame, or None until more bytes come."""
        while True:
            start = self._held.find(MARK)
            if start < 0:
                self._drop(len(self._held) - (self._held[-1:] == MARK[:1]))
                return None
            self._drop(start)
            if len(self._held) < HEAD_BYTES:
                return None
            length = int.from_bytes(self._held[5:7], "big")
            if length > BODY_BYTES_MAX:
                self._drop(1)
                continue
            if len(self._held) < _OVERHEAD + length:
                return None
            found = self._taken(length)
            if found is not None:
                return found

    def _taken(self, length: int) -> TerminalFrame | None:
        whole = bytes(self._held[: _OVERHEAD + length])
        if fastcrc.crc16.modbus(whole[:-2]).to_bytes(2, "little") != whole[-2:]:
            self._drop(1)  # the mark was noise: a frame may begin within
            return None
        del self._held[: len(whole)]
        try:
            kind = FrameType(whole[2])
        except ValueError:
            return None
        return TerminalFrame(kind, int.from_bytes(whole[3:5], "big"), whole[HEAD_BYTES:-2])

    def _drop(self, count: int) -> None:
        del self._held[:count]
        self.dropped_bytes += count
