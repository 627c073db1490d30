"""Acrel meters with a modem of their own: frames 7B7B … 7D7D over TCP (spec acrel.md 4.1).

A frame has no length and escapes nothing, so an end mark counts only where the checksum holds. The
serial number is all the identity there is. Requests to the meter travel as Modbus RTU inside frames
of command 90; what comes back is the meter's answer, the same behind a serial number, or the serial
number alone. The last one says that the modem took the frame: nothing about the meter is proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from protocols.acrel_blocks import LIVE_WORDS_4_RATES, LIVE_WORDS_8_RATES, decode_live
from protocols.dtu import SAMPLE_BYTES_MAX, BadPattern
from protocols.exchange import BadAnswer
from protocols.modbus import READ_HOLDING, crc16_modbus
from protocols.numbers import bcd_digits
from protocols.reading import METER_EPOCH, Quantity, meter_dial
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    DialNow,
    Event,
    Heartbeat,
    Introduced,
    Named,
    NewStream,
    Pushed,
    Taken,
    Told,
    TurnedAway,
    Unrecognised,
)
from protocols.uplink import Upload

MAGIC = b"\x7b\x7b"
END = b"\x7d\x7d"

REGISTER = 0x84
PASS_THROUGH = 0x90
UPLOAD = 0x91
TIME = 0x93
HEARTBEAT = 0x94
COMMANDS = range(0x80, 0xA0)  # all known ones lie here; what follows 7B7B otherwise is no frame

FRAME_BYTES_MIN = 7
FRAME_BYTES_MAX = 2048  # a register frame has 65, an upload of eight rates some 190
STARTS_MAX = 8  # torn frames in front of a whole one

SERIAL_BYTES = 20
SERIAL = re.compile("[0-9A-Za-z]{1,20}")  # 14 digits on every meter seen
REGISTER_BYTES = 58
# 3GPP 27.007, AT+CSQ: steps of 2 dBm, 0 means -113 or less and 31 means -51 or more.
RSSI_STEPS = range(1, 32)

SECTION, SECTION_END = b"[[", b"]]"
SEGMENT, SEGMENT_END = b"((", b"))"
KEY_BYTES_MAX = 20  # of a section: "1-1"
PHASES_BY_TYPE_CODE = {7: 1, 5: 3}  # of others the cabinet's byte 95 tells
LIVE_BYTES = (2 * LIVE_WORDS_4_RATES, 2 * LIVE_WORDS_8_RATES)


def frame_of(command: int, body: bytes = b"") -> bytes:
    """A whole frame."""
    inside = bytes((command,)) + body
    return MAGIC + inside + crc16_modbus(inside).to_bytes(2, "little") + END


REGISTER_ACK = frame_of(REGISTER)
UPLOAD_ACK = frame_of(UPLOAD)


def time_answer(dial: datetime) -> bytes:
    """What a meter that asks for the time is told: yy MM dd weekday hh mm ss, Sunday 0."""
    fields = (dial.year % 100, dial.month, dial.day, dial.isoweekday() % 7)
    return frame_of(TIME, bytes((*fields, dial.hour, dial.minute, dial.second)))


def known_meters(boxes: Mapping[str, Box]) -> NewStream:
    """Streams that know these meters by serial number. Raises BadPattern."""
    by_serial: dict[str, str] = {}
    for gateway, box in boxes.items():
        serial = box.registration
        if not SERIAL.fullmatch(serial):
            raise BadPattern(f'{gateway}: "{serial}" is no serial number; it has up to 20 digits')
        if serial in by_serial:
            raise BadPattern(f"{by_serial[serial]} and {gateway} have the same serial number")
        by_serial[serial] = gateway

    def new_stream(dial_now: DialNow) -> Acrel4gStream:
        return Acrel4gStream(by_serial, dial_now)

    return new_stream


class Frames:
    """Takes whole frames out of a stream; steps over what belongs to none. Never raises."""

    __slots__ = ("_buffer", "_looked_at")

    def __init__(self) -> None:
        self._buffer = b""
        self._looked_at = 0  # end marks before this place have been tried

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Command and body of each whole frame."""
        if not self._buffer and _is_whole(data):
            yield data[2:-4]
            return
        self._buffer += data
        while (inside := self._take()) is not None:
            yield inside
        self._trim()

    def _take(self) -> bytes | None:
        """The first frame whose checksum holds, by the place where it begins."""
        buffer = self._buffer
        starts = _starts(buffer)
        for start in starts:
            end = buffer.find(END, max(start + FRAME_BYTES_MIN - 2, self._looked_at))
            while 0 <= end <= start + FRAME_BYTES_MAX:
                if not crc16_modbus(buffer[start + 2 : end]):
                    self._buffer = buffer[end + 2 :]
                    self._looked_at = 0
                    return buffer[start + 2 : end - 2]
                end = buffer.find(END, end + 1)
        self._looked_at = max(0, len(buffer) - 1)
        return None

    def _trim(self) -> None:
        """Keep what may still become a frame."""
        buffer = self._buffer
        kept = next((s for s in _starts(buffer) if len(buffer) - s < FRAME_BYTES_MAX), len(buffer))
        if kept == len(buffer):
            # The last byte may be half a magic.
            kept -= len(MAGIC) if buffer.endswith(MAGIC) else buffer.endswith(MAGIC[:1])
        self._buffer = buffer[kept:]
        self._looked_at = max(0, self._looked_at - kept)


def _is_whole(data: bytes) -> bool:
    return (
        data.startswith(MAGIC)
        and data.endswith(END)
        and len(data) >= FRAME_BYTES_MIN
        and data[2] in COMMANDS
        and not crc16_modbus(data[2:-2])
    )


def _starts(buffer: bytes) -> list[int]:
    """Where a frame may begin: the magic before a possible command."""
    starts: list[int] = []
    at = buffer.find(MAGIC)
    while at >= 0 and len(starts) < STARTS_MAX:
        if at + 2 < len(buffer) and buffer[at + 2] in COMMANDS:
            starts.append(at)
        at = buffer.find(MAGIC, at + 1)
    return starts


class Acrel4gStream:
    """One TCP connection of a 4G meter, from its first byte. Never raises."""

    __slots__ = ("_by_serial", "_dial_now", "_frames", "_introduced", "name", "sample", "serial")

    def __init__(self, by_serial: Mapping[str, str], dial_now: DialNow) -> None:
        self.name: str | None = None
        self.sample = b""
        self.serial = ""
        self._by_serial = by_serial
        self._dial_now = dial_now
        self._frames = Frames()
        self._introduced = False

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. Whether an answer is due makes no difference to frames."""
        if self.name is None and len(self.sample) < SAMPLE_BYTES_MAX:
            self.sample = (self.sample + data)[:SAMPLE_BYTES_MAX]
        return tuple(event for inside in self._frames.receive(data) for event in self._of(inside))

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """A Modbus RTU frame as pass-through."""
        return frame_of(PASS_THROUGH, frame)

    def _of(self, inside: bytes) -> Iterator[Event]:
        command, body = inside[0], inside[1:]
        serial = serial_of(body)
        if serial is not None:
            if self.serial and serial != self.serial:
                yield TurnedAway(f"it called itself {self.serial} and then {serial}")
                return
            if not self.serial:
                yield from self._introduce(serial)
            body_left = body[SERIAL_BYTES:]
        else:
            body_left = body
        if self.name is None:
            return  # a stranger is never spoken to
        yield from self._of_known(self.name, command, body_left, has_serial=serial is not None)

    def _introduce(self, serial: str) -> Iterator[Event]:
        name = self._by_serial.get(serial)
        if name is not None:
            self.serial, self.name, self.sample = serial, name, b""
            yield Named(name)
        elif not self._introduced:
            self._introduced = True
            yield Introduced(serial)

    def _of_known(
        self, name: str, command: int, body: bytes, *, has_serial: bool
    ) -> Iterator[Event]:
        if command == HEARTBEAT:
            yield Heartbeat(body)
        elif command == PASS_THROUGH:
            if body:
                yield Bytes(body)
            elif has_serial:
                yield Taken()
        elif command == UPLOAD:
            yield Answer(UPLOAD_ACK)
            uploads = uploads_of(body)
            yield from (Pushed(upload) for upload in uploads or ())
            if uploads is None:
                yield _unrecognised(command, body)
        elif command == TIME:
            yield Answer(time_answer(self._dial_now(name)))
        elif command == REGISTER and has_serial:
            yield Answer(REGISTER_ACK)  # of whatever length: unanswered, it would go on registering
            known_length = SERIAL_BYTES + len(body) == REGISTER_BYTES
            yield Told(facts_of(body)) if known_length else _unrecognised(command, body)
        else:
            yield _unrecognised(command, body)


def _unrecognised(command: int, body: bytes) -> Unrecognised:
    return Unrecognised((bytes((command,)) + body)[:SAMPLE_BYTES_MAX])


def serial_of(body: bytes) -> str | None:
    """The serial number in front of a body, padded with zeros; None when there is none."""
    if len(body) < SERIAL_BYTES:
        return None
    digits = body[:SERIAL_BYTES].rstrip(b"\0")
    try:
        text = digits.decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if SERIAL.fullmatch(text) else None


def facts_of(body: bytes) -> dict[str, str | int]:
    """What a register frame tells behind its serial number; doubtful fields are left out."""
    facts: dict[str, str | int] = {}
    iccid = body[:30].rstrip(b"\0")
    if re.fullmatch(b"[0-9A-Fa-f]{18,22}", iccid):
        facts["iccid"] = iccid.decode()
    if body[30] in RSSI_STEPS:
        facts["rssi_dbm"] = 2 * body[30] - 113
    versions = [bcd_digits(body[at : at + 2]) for at in (31, 33, 35)]
    if all(versions):
        facts["firmware"] = " ".join(f"{digits[:2]}.{digits[2:]}" for digits in versions if digits)
    if body[37]:
        facts["interval_s"] = 60 * body[37]
    return facts


def uploads_of(body: bytes) -> tuple[Upload, ...] | None:
    """The looks in an upload behind its serial number: sections [[key((answer))…]], one after the
    other. None where the shape or a value is none of these meters'."""
    uploads: list[Upload] = []
    at = 0
    while at < len(body):
        opened = body.find(SEGMENT, at, at + len(SECTION) + KEY_BYTES_MAX + len(SEGMENT))
        if not body.startswith(SECTION, at) or opened < 0:
            return None
        at = opened
        while body.startswith(SEGMENT, at):
            found = _segment(body, at + len(SEGMENT))
            if found is None:
                return None
            upload, at = found
            uploads.append(upload)
        if not body.startswith(SECTION_END, at):
            return None
        at += len(SECTION_END)
    return tuple(uploads) or None


def _segment(body: bytes, at: int) -> tuple[Upload, int] | None:
    """One answer to a read of the live block, and the place behind its closing mark. Its length is
    its own byte count: the mark may also stand in the data. Its checksum is optional, and zero in
    the only published examples; the frame's own covers it."""
    if len(body) < at + 3 or body[at + 1] != READ_HOLDING or body[at + 2] not in LIVE_BYTES:
        return None
    end = at + 3 + body[at + 2]
    payload = body[at + 3 : end]
    closed = next((c for c in (end, end + 2) if body.startswith(SEGMENT_END, c)), None)
    if len(payload) < body[at + 2] or closed is None:
        return None
    type_code = int.from_bytes(payload[:2], "big")
    phases = PHASES_BY_TYPE_CODE.get(type_code, 1 if payload[95] else 3)
    try:
        values = decode_live(payload, phases=phases).values
    except BadAnswer:
        return None
    clock_s = values.get(Quantity.CLOCK)
    dial = None if clock_s is None else meter_dial(clock_s)
    assert dial is None or dial >= METER_EPOCH
    return Upload(unit=body[at], dial=dial, values=values), closed + len(SEGMENT_END)
