"""Modbus RTU as a slave sees it: checksums, where a request ends, what an exception looks like.

Written from the Modbus specification, independent of the head-end's own codec.
"""

from __future__ import annotations

import enum

from fastcrc import crc16

READ_HOLDING = 0x03
READ_INPUT = 0x04
WRITE_ONE = 0x06
WRITE_MANY = 0x10
REPORT_VERSION = 0x11
MASKED_WRITE = 0x20  # Acrel's own (spec acrel.md 3.1)

READ_WORDS_MAX = 125  # what one answer of 256 bytes can carry
FRAME_BYTES_MAX = 256
FRAME_BYTES_MIN = 4

_LENGTH_FIXED = {
    READ_HOLDING: 8,
    READ_INPUT: 8,
    WRITE_ONE: 8,
    REPORT_VERSION: 12,  # the maker's tool sends eight bytes along (spec acrel.md 3.6)
}


class No(enum.IntEnum):
    """Exception codes a slave answers with."""

    FUNCTION = 1
    ADDRESS = 2
    VALUE = 3


def sealed(body: bytes) -> bytes:
    """A body with its checksum, low byte first."""
    return body + crc16.modbus(body).to_bytes(2, "little")


def is_sealed(frame: bytes) -> bool:
    """Whether the last two bytes are the right checksum of the others."""
    return len(frame) >= FRAME_BYTES_MIN and crc16.modbus(frame) == 0


def exception(unit: int, function: int, code: No) -> bytes:
    """The five bytes of a refusal."""
    return sealed(bytes((unit, function | 0x80, code)))


def request_length(data: bytes | bytearray) -> int | None:
    """How long the request beginning here will be; None when that cannot be told yet, or at all."""
    if len(data) < 2:
        return None
    function = data[1]
    if function in (WRITE_MANY, MASKED_WRITE):
        return 9 + data[6] if len(data) > 6 else None
    return _LENGTH_FIXED.get(function)


def is_whole_request(data: bytes) -> bool:
    """Whether these bytes are exactly one request with a good checksum.

    A function without a known length counts as whole when the checksum holds: a real slave, too,
    only has the silence and the checksum to go by.
    """
    length = request_length(data)
    if length is not None and len(data) != length and data[1] != MASKED_WRITE:
        return False
    return is_sealed(data)


def take_request(buffer: bytearray) -> bytes | None:
    """Remove and give the first request of a stream, for links that keep no silence between
    requests. None when it is not all there. Bytes that cannot begin a request are dropped."""
    while len(buffer) >= FRAME_BYTES_MIN:
        length = request_length(buffer)
        if length is None and (len(buffer) < 7 and buffer[1] in (WRITE_MANY, MASKED_WRITE)):
            return None
        if length is not None and len(buffer) < length:
            return None
        if length is not None and is_sealed(bytes(buffer[:length])):
            frame = bytes(buffer[:length])
            del buffer[:length]
            return frame
        del buffer[:1]
    return None
