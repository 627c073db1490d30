"""Frames of an Acrel gateway: 1F1F, type, length, data (spec acrel.md 4.2, field_protocols.md C4).

There is no checksum. What protects the stream is TCP below and the cipher above; here a frame must
have a type that is expected now and a length that this type can have, and one that turns out to
hold nonsense, with no frame right behind it, is taken for noise and searched for a frame inside.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MARK = b"\x1f\x1f"
HEAD_BYTES = 7  # mark, type, length
CIPHER_BLOCK_BYTES = 16


class FrameKind(enum.IntEnum):
    """The type byte."""

    LOGIN = 0x01  # both ways, XML in the clear
    HEARTBEAT = 0x02  # both ways, XML in the clear
    REPORT = 0x03  # up, enciphered XML
    PACKED_REPORT = 0x04  # up, XML deflated, then enciphered
    ASK = 0xF1  # down, enciphered: a frame for the line of one port
    ANSWER = 0xF2  # up, enciphered: what came back


# Some hundred bytes in practice.
XML_FRAME_BYTES_MAX = 4096
# A hundred meters of thirty functions each are below 200 kB. The maker's limit of 16 MiB is not
# ours: so much of it would be held for each of thousands of gateways.
REPORT_FRAME_BYTES_MAX = 256 * 1024
# 256 bytes of a line as hex, its port and address, padded.
ANSWER_FRAME_BYTES_MAX = 1024
OTHER_FRAME_BYTES_MAX = 4096  # of types nothing here understands
# Nonsense in a row that is searched for frames inside: as much as noise can cause. Whoever sends
# more is believed in its lengths, so that nobody makes us decipher the same bytes for ever.
SEARCHED_MAX = 8
# Marks that are looked at inside a frame whose rest has not come: by chance there is one in 64 kB.
INSIDE_MAX = 32

ENCIPHERED = frozenset({FrameKind.REPORT, FrameKind.PACKED_REPORT, FrameKind.ASK, FrameKind.ANSWER})
# What a box may say, with the longest data of each type.
BEFORE_LOGIN: Mapping[int, int] = MappingProxyType({FrameKind.LOGIN: XML_FRAME_BYTES_MAX})
AFTER_LOGIN: Mapping[int, int] = MappingProxyType(
    dict.fromkeys(range(256), OTHER_FRAME_BYTES_MAX)
    | {
        FrameKind.LOGIN: XML_FRAME_BYTES_MAX,
        FrameKind.HEARTBEAT: XML_FRAME_BYTES_MAX,
        FrameKind.REPORT: REPORT_FRAME_BYTES_MAX,
        FrameKind.PACKED_REPORT: REPORT_FRAME_BYTES_MAX,
        FrameKind.ANSWER: ANSWER_FRAME_BYTES_MAX,
    }
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came: `kind` is a FrameKind, or a type nobody has published."""

    kind: int
    data: bytes


def make_frame(kind: FrameKind, data: bytes) -> bytes:
    """The bytes of one frame."""
    return MARK + bytes((kind,)) + len(data).to_bytes(4, "big") + data


class FrameReader:
    """Bytes in, frames out; never raises, never holds more than one frame.

    After each frame whoever decoded it must say with settle() whether it made sense.
    """

    __slots__ = ("_at", "_buffer", "_from", "_searched", "limits")

    def __init__(self, limits: Mapping[int, int]) -> None:
        self.limits = limits  # the longest data by type; other types are noise
        self._buffer = bytearray()
        self._from = 0  # where the search goes on
        self._at = 0  # where the last frame began
        self._searched = 0

    def receive_data(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next frame, or None until more bytes come."""
        buffer = self._buffer
        while (at := buffer.find(MARK, self._from)) >= 0:
            if len(buffer) - at < HEAD_BYTES:
                break
            kind = buffer[at + 2]
            size = int.from_bytes(buffer[at + 3 : at + HEAD_BYTES], "big")
            if not self._is_possible(kind, size):
                self._from = at + 1
                continue
            end = at + HEAD_BYTES + size
            if end > len(buffer):
                inside = self._inside(at + 1)
                if inside is None:
                    break
                self._from = inside
                continue
            self._at, self._from = at, end
            return Frame(kind, bytes(buffer[at + HEAD_BYTES : end]))
        if at < 0:  # the last byte may be the first half of a mark
            at = max(self._from, len(buffer) - buffer.endswith(MARK[:1]))
        del buffer[:at]
        self._from = 0
        return None

    def _inside(self, at: int) -> int | None:
        """Where a whole frame begins behind one that is not, up to a mark or to the last byte that
        came: then that one's length was damaged. Waiting for the rest of it would hold answers
        back until they are old."""
        buffer = self._buffer
        for _ in range(INSIDE_MAX):
            at = buffer.find(MARK, at)
            if at < 0:
                return None
            if len(buffer) - at >= HEAD_BYTES:
                size = int.from_bytes(buffer[at + 3 : at + HEAD_BYTES], "big")
                end = at + HEAD_BYTES + size
                if self._is_possible(buffer[at + 2], size) and end <= len(buffer):
                    behind = bytes(buffer[end : end + len(MARK)])
                    if MARK.startswith(behind):
                        return at
            at += 1
        return None

    def settle(self, *, made_sense: bool) -> None:
        """What became of the last frame. Noise is searched once more, from its second byte."""
        if made_sense:
            self._searched = 0
            return
        behind = bytes(self._buffer[self._from : self._from + len(MARK)])
        if not MARK.startswith(behind) and self._searched < SEARCHED_MAX:
            self._searched += 1
            self._from = self._at + 1

    def _is_possible(self, kind: int, size: int) -> bool:
        if size > self.limits.get(kind, -1):
            return False
        if kind in ENCIPHERED:
            return size > 0 and size % CIPHER_BLOCK_BYTES == 0
        return True
