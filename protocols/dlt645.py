"""DL/T 645 frames, master side: build one request, recognise its one answer in noise.

A frame tells its address, its length and a sum, and every data byte is 33H larger on the wire. The
reader looks for 68 … 68, and where a frame turns out not to be one it goes on one byte later: what
looked like a frame may have been the tail of another.

Standards DL/T 645-2007 and -1997; spec field_protocols.md A1, A2, A6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from protocols.exchange import Answer, Effect, Refusal, Reply, Request

ADDRESS_DIGITS = 12
ANY_METER = "A" * ADDRESS_DIGITS  # answered by whoever is there: on a line of one meter only
ALL_METERS = "9" * ADDRESS_DIGITS  # broadcast: heard by all, answered by nobody
PREAMBLE = b"\xfe\xfe\xfe\xfe"  # wakes receivers; a meter answers with any number of them
START, END = 0x68, 0x16
HEAD_BYTES = 10  # 68, address, 68, control, length
FRAME_BYTES_MIN = HEAD_BYTES + 2
# Meters send at most 200 data bytes a frame; the length byte would allow 255.
DATA_BYTES_MAX = 200
FROM_METER, ABNORMAL, MORE = 0x80, 0x40, 0x20
FUNCTION = 0x1F

READ, READ_NEXT, READ_ADDRESS, WRITE = 0x11, 0x12, 0x13, 0x14
BROADCAST_TIME, SWITCH, SECURITY = 0x08, 0x1C, 0x03
READ_1997 = 0x01


@dataclass(frozen=True, slots=True)
class Frame:
    """One sound frame, its data 33H smaller again."""

    address: str  # 12 digits, most significant first; A and 9 are wildcards
    control: int
    data: bytes

    @property
    def function(self) -> int:
        return self.control & FUNCTION

    @property
    def from_meter(self) -> bool:
        return bool(self.control & FROM_METER)

    @property
    def is_abnormal(self) -> bool:
        return bool(self.control & ABNORMAL)

    @property
    def more_follows(self) -> bool:
        return bool(self.control & MORE)


def encode(frame: Frame, preamble: bytes = PREAMBLE) -> bytes:
    """The frame on the wire."""
    assert len(frame.address) == ADDRESS_DIGITS
    assert len(frame.data) <= 0xFF
    head = bytes((START, *reversed(bytes.fromhex(frame.address)), START, frame.control))
    body = head + bytes((len(frame.data),)) + bytes((b + 0x33) & 0xFF for b in frame.data)
    return preamble + body + bytes((sum(body) & 0xFF, END))


def take_frame(buffer: bytes) -> tuple[Frame | None, bytes]:
    """The first sound frame and what follows it; without one, what may still become one.

    Never raises; keeps at most one frame's length of bytes.
    """
    at = buffer.find(START)
    while at >= 0:
        rest = buffer[at:]
        if len(rest) < HEAD_BYTES:
            if len(rest) <= 7 or rest[7] == START:
                return None, rest
        elif rest[7] == START:
            end = HEAD_BYTES + rest[9] + 2
            if len(rest) < end:
                return None, rest
            if rest[end - 1] == END and sum(rest[: end - 2]) & 0xFF == rest[end - 2]:
                return _decoded(rest[:end]), rest[end:]
        at = buffer.find(START, at + 1)
    return None, b""


def _decoded(raw: bytes) -> Frame:
    return Frame(
        raw[6:0:-1].hex().upper(), raw[8], bytes((b - 0x33) & 0xFF for b in raw[HEAD_BYTES:-2])
    )


class Dlt645Reader:
    """Finds the one answer to one request. Used once; never raises.

    `address`: whose answer; the wildcard takes anybody's. `echoed` is how the data of a normal
    answer begin (the data item that was asked for), and what the payload is without. The payload's
    first byte is the control byte, which tells whether more follows.
    """

    __slots__ = ("_address", "_answer", "_buffer", "_done", "_echoed", "_function")

    def __init__(self, address: str, function: int, echoed: bytes) -> None:
        self._address = address
        self._function = function
        self._echoed = echoed
        self._buffer = b""
        self._answer: Answer | None = None
        self._done = False

    def receive_data(self, data: bytes) -> None:
        if self._done:
            return  # whatever follows the answer belongs to nobody
        self._buffer += data
        # A frame that never ends, or noise that looks like its head, must not hold back others.
        while not self._done:
            frame, rest = take_frame(self._buffer)
            if frame is None:
                self._buffer = self._without_impostor(rest)
                return
            self._buffer = rest
            self._consider(frame)

    def _without_impostor(self, rest: bytes) -> bytes:
        """A head in noise may announce a frame that swallows the true one: look inside it."""
        inside = rest
        while (at := inside.find(START, 1)) > 0:
            inside = inside[at:]
            frame, after = take_frame(inside)
            if frame is not None and self._is_ours(frame):
                self._consider(frame)
                return after
        return rest

    def next_event(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def _is_ours(self, frame: Frame) -> bool:
        return (
            frame.from_meter
            and frame.function == self._function
            and self._address in (ANY_METER, frame.address)
            and (frame.is_abnormal or frame.data.startswith(self._echoed))
        )

    def _consider(self, frame: Frame) -> None:
        if not self._is_ours(frame):
            return  # an echo of our own request, a neighbour, or an older answer
        self._done = True
        self._buffer = b""
        if frame.is_abnormal:
            self._answer = Refusal(int.from_bytes(frame.data[:2], "little"))
        else:
            data = frame.data[len(self._echoed) :]
            if self._function == READ_ADDRESS:
                data = frame.data
            self._answer = Reply(bytes((frame.control,)) + data)


def request(
    label: str,
    address: str,
    control: int,
    data: bytes = b"",
    *,
    effect: Effect = Effect.READ,
    echoed: bytes = b"",
) -> Request:
    """One request to one meter."""
    return Request(
        label=f"{label} of {address}",
        frame=encode(Frame(address, control, data)),
        effect=effect,
        new_reader=partial(Dlt645Reader, address, control & FUNCTION, echoed),
        reply_bytes_max=7 + FRAME_BYTES_MIN + DATA_BYTES_MAX,
        # Its second byte is a preamble or an address: not a Modbus function code.
        enciphered=True,
    )


def di_bytes(di: int) -> bytes:
    """A data identifier of 2007 on the wire, lowest byte first."""
    return di.to_bytes(4, "little")


def read_item(address: str, di: int) -> Request:
    """Read one data item (2007)."""
    echoed = di_bytes(di)
    return request(f"read {di:08X}", address, READ, echoed, echoed=echoed)


def read_next(address: str, di: int, sequence: int) -> Request:
    """Read the next part of an item that was too long for one frame; sequence 1, 2, …"""
    echoed = di_bytes(di)
    return request(
        f"read {di:08X} part {sequence + 1}",
        address,
        READ_NEXT,
        echoed + bytes((sequence,)),
        echoed=echoed,
    )


def read_item_1997(address: str, di: int) -> Request:
    """Read one data item (1997)."""
    echoed = di.to_bytes(2, "little")
    return request(f"read {di:04X}", address, READ_1997, echoed, echoed=echoed)


def read_address(address: str = ANY_METER) -> Request:
    """Who is there: on a line of one meter only. The payload is six bytes after the control."""
    return request("read address", address, READ_ADDRESS)


def bcd(digits: str) -> bytes:
    """Decimal digits as the wire has them: packed, lowest byte first."""
    return bytes(reversed(bytes.fromhex(digits)))
