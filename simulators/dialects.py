"""What a box that dials in says around the bytes of its line: nothing, Hongdian's packets, or
Four-Faith's escapes (spec field_protocols.md C). Written from the spec, not from the head-end."""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Speech(Protocol):
    """One connection of a box, as it speaks and understands."""

    def hello(self) -> bytes:
        """Said first."""
        ...

    def heartbeat(self) -> bytes | None:
        """Said when idle; None: nothing."""
        ...

    def packet(self, data: bytes) -> bytes:
        """An answer from the line, as it goes up."""
        ...

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """What came down: bytes for the line, and what the box itself says to it."""
        ...


class Transparent:
    """Bytes as they are; maybe the registration before each packet."""

    def __init__(self, registration: bytes, heartbeat: bytes | None, on_every_packet: bool) -> None:
        self._registration = registration
        self._heartbeat = heartbeat
        self._on_every_packet = on_every_packet

    def hello(self) -> bytes:
        return self._registration

    def heartbeat(self) -> bytes | None:
        return None if self._heartbeat is None else self.packet(self._heartbeat)

    def packet(self, data: bytes) -> bytes:
        return self._registration + data if self._on_every_packet else data

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        return [data], []


class Ddp:
    """Hongdian: 7B, type, length, phone number, data, 7B. Counts what the head-end owes it."""

    def __init__(self, phone: str, counts: Counter[str]) -> None:
        self._phone = phone.encode("ascii")
        self._counts = counts
        self._buffer = b""

    def hello(self) -> bytes:
        return self._frame(0x01, bytes((10, 0, 0, 7)) + (5001).to_bytes(2, "big"))

    def heartbeat(self) -> bytes | None:
        return self.hello()

    def packet(self, data: bytes) -> bytes:
        return self._frame(0x09, data)

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        self._buffer += data
        frames: list[bytes] = []
        says: list[bytes] = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[2:4], "big")
            if len(self._buffer) < length:
                break
            frame, self._buffer = self._buffer[:length], self._buffer[length:]
            if frame[0] != 0x7B or frame[-1] != 0x7B or frame[4:15] != self._phone:
                self._counts["bad_downlinks"] += 1
                continue
            self._counts[f"got_{frame[1]:02x}"] += 1
            if frame[1] == 0x89:
                frames.append(frame[15:-1])
                says.append(self._frame(0x05, b""))
        return frames, says

    def _frame(self, kind: int, data: bytes) -> bytes:
        length = 4 + 11 + len(data) + 1
        return bytes((0x7B, kind)) + length.to_bytes(2, "big") + self._phone + data + b"\x7b"


class FourFaith:
    """PROT mode: FD and FE are escaped in data, so that one FE can be the heartbeat."""

    def __init__(self, phone: str, box_id: bytes = b"\x78\x56\x34\x12") -> None:
        assert len(box_id) == 4
        # An address with FE in it: whether the registration is escaped is not published.
        self._registration = box_id + phone.encode("ascii") + b"\0\xc0\xa8\xfe\x42\0"
        self._escaped = False  # the last byte that came down was an escape

    def hello(self) -> bytes:
        return self._registration

    def heartbeat(self) -> bytes | None:
        return b"\xfe"

    def packet(self, data: bytes) -> bytes:
        said = bytearray()
        for byte in data:
            said += {0xFD: b"\xfd\xed", 0xFE: b"\xfd\xee"}.get(byte, bytes((byte,)))
        return bytes(said)

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        meant = bytearray()
        for byte in data:
            if self._escaped:
                meant.append({0xED: 0xFD, 0xEE: 0xFE}[byte])
                self._escaped = False
            elif byte == 0xFD:
                self._escaped = True
            else:
                assert byte != 0xFE, "the head-end must escape"
                meant.append(byte)
        return [bytes(meant)] if meant else [], []
