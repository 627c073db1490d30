"""Modbus RTU, master side: build one request, recognise its one answer in a noisy stream.

The master knows what it asked, hence how the answer begins and how long it is. So no silence is
needed to find a frame: heartbeats, line noise and torn frames in front of the answer are stepped
over byte by byte, and the usual case (one whole frame at once) costs one compare and one checksum.
"""

from __future__ import annotations

import struct
from functools import lru_cache, partial

from fastcrc import crc16 as _crc16

from protocols.exchange import Answer, Effect, ProtocolError, Refusal, Reply, Request

UNIT_MIN = 1  # 0 is broadcast, which nobody answers: never used
UNIT_MAX = 247  # Modbus over serial line V1.02, 2.2
READ_WORDS_MAX = 125  # the byte count of an answer is one byte, the frame ends at 256 bytes
WRITE_WORDS_MAX = 123  # the same for a write, which carries seven bytes more
REFUSAL_BYTES = 5  # unit, function | 80H, code, checksum

READ_HOLDING = 3
READ_INPUT = 4
WRITE_REGISTERS = 16

# Acrel's factory codes: calibration, clear energy, raw prepaid block, keys (spec acrel.md 3.6).
FACTORY_CODE_MIN = 0x98
FACTORY_CODE_MAX = 0xAB

# Requests are the same every night. One process sees some tens of (unit, address, count) a unit id;
# this many cost about 5 MB.
REQUESTS_KEPT_MAX = 8192

crc16_modbus = _crc16.modbus  # over a whole frame, checksum included, it is 0


class FactoryCode(ProtocolError):
    """A frame with a factory function code was about to be sent: a fault in this program."""


def forbid_factory_codes(frame: bytes) -> None:
    """Raises FactoryCode for a frame that could calibrate, clear or re-key a meter.

    Every Request built here has passed it, and a line calls it again for each Modbus frame it
    sends. Not an assert: it must hold under `python -O` as well.
    """
    if len(frame) > 1 and FACTORY_CODE_MIN <= frame[1] <= FACTORY_CODE_MAX:
        raise FactoryCode(f"function code {frame[1]:#04x} is the factory's and is never sent")


def seal(frame: bytes) -> bytes:
    """The frame with its checksum, low byte first."""
    return frame + crc16_modbus(frame).to_bytes(2, "little")


def crc_ok(frame: bytes) -> bool:
    """Whether the last two bytes are the checksum of those before them."""
    return len(frame) > 2 and crc16_modbus(frame) == 0


class RtuReplyReader:
    """Finds the one answer to one request. Used once; never raises.

    `head` is how the answer begins, `size` its length with checksum, `skip` the bytes before its
    payload. Between calls fewer than `size` bytes are held: only what may still become the answer.
    """

    __slots__ = ("_answer", "_answered", "_buffer", "_head", "_size", "_skip")

    def __init__(self, head: bytes, size: int, skip: int) -> None:
        self._head = head
        self._size = size
        self._skip = skip
        self._buffer = b""
        self._answer: Answer | None = None
        self._answered = False

    def receive_data(self, data: bytes) -> None:
        if self._answered:
            return  # whatever follows the answer belongs to nobody
        if (
            not self._buffer
            and len(data) == self._size
            and data.startswith(self._head)
            and not crc16_modbus(data)
        ):
            self._finish(Reply(data[self._skip : -2]))
        else:
            self._search(self._buffer + data)

    def next_event(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def _finish(self, answer: Answer) -> None:
        self._answer = answer
        self._answered = True
        self._buffer = b""

    def _search(self, buffer: bytes) -> None:
        """Try each place where the answer may begin; keep from the first that is not complete."""
        head, size, total = self._head, self._size, len(buffer)
        refusal_head = bytes((head[0], head[1] | 0x80))
        keep_from = total
        at = buffer.find(head[:1])
        while at >= 0:
            rest = total - at
            if buffer.startswith(head, at) and rest >= size:
                frame = buffer[at : at + size]
                if not crc16_modbus(frame):
                    self._finish(Reply(frame[self._skip : -2]))
                    return
            elif buffer.startswith(refusal_head, at) and rest >= REFUSAL_BYTES:
                # Inside an answer that is still coming in, these five bytes may be its data.
                frame = buffer[at : at + REFUSAL_BYTES]
                if keep_from == total and not crc16_modbus(frame):
                    self._finish(Refusal(frame[2]))
                    return
            elif keep_from == total and _may_grow(buffer[at : at + size], head, refusal_head):
                keep_from = at
            at = buffer.find(head[:1], at + 1)
        self._buffer = buffer[keep_from:]


def _may_grow(tail: bytes, head: bytes, refusal_head: bytes) -> bool:
    """Whether an unfinished tail can still become the answer or a refusal."""
    return (
        tail.startswith(head)
        or head.startswith(tail)
        or tail.startswith(refusal_head)
        or refusal_head.startswith(tail)
    )


def make_request(
    label: str, body: bytes, effect: Effect, *, head: bytes, size: int, skip: int
) -> Request:
    """The one place where bytes become a Modbus request. `body` is the frame without checksum;
    for `head`, `size` and `skip` see RtuReplyReader."""
    forbid_factory_codes(body)
    assert UNIT_MIN <= body[0] <= UNIT_MAX, "never a broadcast"
    return Request(
        label=label,
        frame=seal(body),
        effect=effect,
        new_reader=partial(RtuReplyReader, head, size, skip),
        reply_bytes_max=max(size, REFUSAL_BYTES),
    )


@lru_cache(maxsize=REQUESTS_KEPT_MAX)
def read_registers(unit: int, address: int, count: int, *, function: int = READ_HOLDING) -> Request:
    """Read `count` registers from `address`; the reply's payload is 2 x count bytes."""
    assert UNIT_MIN <= unit <= UNIT_MAX
    assert 1 <= count <= READ_WORDS_MAX
    assert address + count <= 0x10000
    assert function in (READ_HOLDING, READ_INPUT)
    return make_request(
        f"read {address:#06x}+{count} of unit {unit}",
        struct.pack(">BBHH", unit, function, address, count),
        Effect.READ,
        head=bytes((unit, function, 2 * count)),
        size=5 + 2 * count,
        skip=3,
    )


def write_registers(unit: int, address: int, words: tuple[int, ...]) -> Request:
    """Write registers with function 16; the reply's payload echoes address and count."""
    assert UNIT_MIN <= unit <= UNIT_MAX
    assert 1 <= len(words) <= WRITE_WORDS_MAX
    assert address + len(words) <= 0x10000
    count = len(words)
    body = struct.pack(f">BBHHB{count}H", unit, WRITE_REGISTERS, address, count, 2 * count, *words)
    return make_request(
        f"write {address:#06x}+{count} of unit {unit}",
        body,
        Effect.WRITE,
        head=body[:6],
        size=8,
        skip=2,
    )
