"""CJ/T 188 frames, master side: water, heat and gas meters.

    FE FE | 68 | T | A0..A6 | C | L | DI DI SER data | CS | 16

The address is seven bytes of BCD, lowest first; CS is the sum from the 68 on. Nothing is added to
the data bytes, unlike DL/T 645. The two bytes of a data item come in either order, by edition and
maker. Standards CJ/T 188-2004 and -2018; spec field_protocols.md B.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from protocols.exchange import Answer, Effect, Refusal, Reply, Request

ADDRESS_DIGITS = 14
PREAMBLE = b"\xfe\xfe\xfe"  # wakes receivers; two to four are in use
START, END = 0x68, 0x16
HEAD_BYTES = 11  # 68, T, address, control, length
TAIL_BYTES = 2
ITEM_BYTES = 3  # data item and serial number: every good answer has them
FRAME_BYTES_MAX = HEAD_BYTES + 0xFF + TAIL_BYTES
FROM_METER, ABNORMAL = 0x80, 0x40

READ, WRITE = 0x01, 0x04
DATA = 0x901F  # totals, temperatures, clock, status
VALVE = 0xA017


@dataclass(frozen=True, slots=True)
class Frame:
    """One sound frame."""

    kind: int  # T: 10 to 19 water, 20 to 29 heat, 30 to 39 gas
    address: str  # 14 digits, most significant first; A is a wildcard
    control: int
    data: bytes  # data item, serial number and what follows


def encode(frame: Frame, preamble: bytes = PREAMBLE) -> bytes:
    """The frame on the wire."""
    assert len(frame.address) == ADDRESS_DIGITS
    assert len(frame.data) <= 0xFF
    address = bytes.fromhex(frame.address)[::-1]
    body = bytes((START, frame.kind, *address, frame.control, len(frame.data))) + frame.data
    return preamble + body + bytes((sum(body) & 0xFF, END))


def item_bytes(item: int, *, low_first: bool) -> bytes:
    """A data item on the wire: 1F 90 with the low byte first, else 90 1F."""
    return item.to_bytes(2, "little" if low_first else "big")


def frame_at(buffer: bytes, at: int) -> Frame | None:
    """The sound frame whose 68 stands at this place, or None. Never raises."""
    if buffer[at : at + 1] != b"\x68" or len(buffer) - at < HEAD_BYTES + TAIL_BYTES:
        return None
    end = at + HEAD_BYTES + buffer[at + 10]
    if len(buffer) < end + TAIL_BYTES or buffer[end + 1] != END:
        return None
    if sum(buffer[at:end]) & 0xFF != buffer[end]:
        return None
    address = buffer[at + 2 : at + 9][::-1].hex().upper()
    return Frame(buffer[at + 1], address, buffer[at + 9], buffer[at + HEAD_BYTES : end])


class Cjt188Reader:
    """Finds the one answer to one request. Used once; never raises.

    The answer is the meter's of that address, has the control byte's function, and repeats serial
    number and data item, the item in either order. The payload is what follows them. Every 68 in
    the stream may be its beginning, so a head in noise that announces a long frame hides nothing.
    """

    __slots__ = ("_answer", "_asked", "_buffer", "_done")

    def __init__(self, asked: Frame) -> None:
        self._asked = asked
        self._buffer = b""
        self._answer: Answer | None = None
        self._done = False

    def receive_data(self, data: bytes) -> None:
        if self._done:
            return  # whatever follows the answer belongs to nobody
        buffer = self._buffer + data
        at = buffer.find(START)
        while at >= 0:
            frame = frame_at(buffer, at)
            answer = None if frame is None else self._answer_in(frame)
            if answer is not None:
                self._answer, self._done, self._buffer = answer, True, b""
                return
            at = buffer.find(START, at + 1)
        # Only what a frame that began in time may still need.
        tail = buffer[-(FRAME_BYTES_MAX - 1) :]
        begins = tail.find(START)
        self._buffer = tail[begins:] if begins >= 0 else b""

    def next_event(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def _answer_in(self, frame: Frame) -> Answer | None:
        asked = self._asked
        function = frame.control & ~ABNORMAL
        if frame.address != asked.address or function != asked.control | FROM_METER:
            return None
        if frame.control & ABNORMAL:
            # What follows the serial number differs by maker; the last byte is kept as the code.
            return Refusal(frame.data[-1] if frame.data else 0)
        item, serial = asked.data[:2], asked.data[2]
        repeats = frame.data[:2] in (item, item[::-1]) and frame.data[2:3] == bytes((serial,))
        return Reply(frame.data[ITEM_BYTES:]) if repeats else None


def request(
    label: str, frame: Frame, effect: Effect = Effect.READ, preamble: bytes = PREAMBLE
) -> Request:
    """One request to one meter; its data begin with data item and serial number."""
    assert len(frame.data) >= ITEM_BYTES
    return Request(
        label=f"{label} of {frame.address}",
        frame=encode(frame, preamble),
        effect=effect,
        new_reader=partial(Cjt188Reader, frame),
        reply_bytes_max=len(PREAMBLE) + 1 + HEAD_BYTES + 0x40 + TAIL_BYTES,
        # Its second byte is a preamble: not a Modbus function code.
        enciphered=True,
    )
