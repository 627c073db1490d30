"""DTUs with frames of their own: Hongdian DDP, and Four-Faith's PROT mode (spec field_protocols.md
C2, C3). The other modes of these boxes (TRNS and the like) are the transparent dialect.

DDP packets carry a length and the box's number; there is no checksum, and TCP has one. PROT has no
frames after its registration: two bytes are escaped, so that one of them can be the heartbeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from protocols.dtu import SAMPLE_BYTES_MAX, BadPattern, parse_pattern
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
    TurnedAway,
    Unrecognised,
)

# Both name themselves by the phone number of their SIM card.
PHONE_BYTES = 11


def phone_of(registration: str, digits: str) -> str:
    """The phone number in a site file's registration, "ascii:13812345678". Raises BadPattern."""
    exact = parse_pattern(registration).exact
    if len(exact) != 1 or not exact[0].isdigit() or str(len(exact[0])) not in digits.split(" or "):
        raise BadPattern(f'"{registration}" is no phone number: ascii: and {digits} digits')
    return exact[0].decode()


def by_phone(boxes: Mapping[str, Box], digits: str) -> dict[str, str]:
    """Gateways by phone number. Raises BadPattern."""
    known: dict[str, str] = {}
    for gateway, box in boxes.items():
        phone = phone_of(box.registration, digits)
        if phone in known:
            raise BadPattern(f"{known[phone]} and {gateway} have the same registration")
        known[phone] = gateway
    return known


# ---- Hongdian DDP --------------------------------------------------------------------------------

DDP_PHONE_DIGITS = "11"
DDP_MARK = 0x7B  # first and last byte of a packet
DDP_HEAD_BYTES = 4  # mark, type, length
DDP_BYTES_MIN = DDP_HEAD_BYTES + PHONE_BYTES + 1
DDP_DATA_BYTES_MAX = 1024
DDP_BYTES_MAX = DDP_BYTES_MIN + DDP_DATA_BYTES_MAX

DDP_REGISTER = 0x01
DDP_LOG_OFF = 0x02
DDP_DATA_ACK = 0x05
DDP_DATA = 0x09
# What a box may begin a packet with: also invalid, parameters, log, upgrade.
DDP_TYPES = frozenset({0x01, 0x02, 0x04, 0x05, 0x09, 0x0B, 0x0D, 0x0E, 0x0F})
DDP_REGISTERED = 0x81
DDP_LOGGED_OFF = 0x82
DDP_TOOK_DATA = 0x85
DDP_SEND = 0x89


def ddp_packet(kind: int, phone: str, data: bytes = b"") -> bytes:
    """A whole packet to a box."""
    assert len(data) <= DDP_DATA_BYTES_MAX
    length = DDP_BYTES_MIN + len(data)
    head = bytes((DDP_MARK, kind)) + length.to_bytes(2, "big")
    return head + phone.encode("ascii") + data + bytes((DDP_MARK,))


def ddp_begins(data: bytes) -> bool | None:
    """Whether bytes begin as a packet of a box does; None: too few to tell."""
    if data[:1] != bytes((DDP_MARK,)):
        return False if data else None
    if len(data) > 1 and data[1] not in DDP_TYPES:
        return False
    if len(data) < DDP_HEAD_BYTES:
        return None
    phone = data[DDP_HEAD_BYTES : DDP_HEAD_BYTES + PHONE_BYTES]
    sound = not phone or phone.isdigit()
    return sound and DDP_BYTES_MIN <= int.from_bytes(data[2:4], "big") <= DDP_BYTES_MAX


def _ddp_end(buffer: bytes, at: int) -> int:
    """Where the packet that begins at `at` ends, as it says itself."""
    return at + int.from_bytes(buffer[at + 2 : at + 4], "big")


def known_ddp(boxes: Mapping[str, Box]) -> NewStream:
    """Streams that know these boxes by phone number. Raises BadPattern."""
    known = by_phone(boxes, DDP_PHONE_DIGITS)

    def new_stream(dial_now: DialNow) -> DdpStream:
        return DdpStream(known)

    return new_stream


class DdpStream:
    """One TCP connection of a Hongdian DTU, from its first byte. Never raises."""

    __slots__ = ("_buffer", "_introduced", "_known", "_phone", "name", "sample")

    def __init__(self, known: Mapping[str, str]) -> None:
        self.name: str | None = None
        self.sample = b""
        self._known = known
        self._phone = ""
        self._introduced = False
        self._buffer = b""

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. Whether an answer is due makes no difference to packets."""
        if self.name is None and len(self.sample) < SAMPLE_BYTES_MAX:
            self.sample = (self.sample + data)[:SAMPLE_BYTES_MAX]
        return tuple(event for packet in self._packets(data) for event in self._of(packet))

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """A frame for the line as user data."""
        return ddp_packet(DDP_SEND, self._phone, frame)

    def _packets(self, data: bytes) -> Iterator[bytes]:
        """Whole packets, without their last mark. What cannot be one is stepped over."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while (at := buffer.find(DDP_MARK, at)) >= 0:
            begins = ddp_begins(buffer[at : at + DDP_HEAD_BYTES + PHONE_BYTES])
            if begins is None:
                break
            if begins:
                end = _ddp_end(buffer, at)
                if end > len(buffer):
                    inside = self._inside(buffer, at + 1)
                    if inside is None:
                        break
                    at = inside
                    continue
                if buffer[end - 1] == DDP_MARK:
                    yield buffer[at : end - 1]
                    at = end
                    continue
            at += 1
        self._buffer = buffer[at:] if at >= 0 else b""

    def _inside(self, buffer: bytes, at: int) -> int | None:
        """Where a whole packet of this box begins, behind the end mark of one that is not whole:
        then that one's length was damaged. Waiting for the rest of it would hold answers back until
        they are old."""
        phone = self._phone.encode("ascii")
        while phone and (at := buffer.find(phone, at)) >= 0:
            begin = at - DDP_HEAD_BYTES
            behind_an_end = begin > 0 and buffer[begin - 1] == DDP_MARK
            if behind_an_end and ddp_begins(buffer[begin : at + PHONE_BYTES]):
                end = _ddp_end(buffer, begin)
                if end <= len(buffer) and buffer[end - 1] == DDP_MARK:
                    return begin
            at += 1
        return None

    def _of(self, packet: bytes) -> Iterator[Event]:
        kind, data = packet[1], packet[4 + PHONE_BYTES :]
        phone = packet[4 : 4 + PHONE_BYTES].decode("ascii")
        if self._phone and phone != self._phone:
            yield TurnedAway(f"it called itself {self._phone} and then {phone}")
            return
        if not self._phone:
            yield from self._introduce(phone)
        if self.name is not None:
            yield from self._of_known(kind, data, packet)

    def _introduce(self, phone: str) -> Iterator[Event]:
        name = self._known.get(phone)
        if name is not None:
            self._phone, self.name, self.sample = phone, name, b""
            yield Named(name)
        elif not self._introduced:
            self._introduced = True
            yield Introduced(f"ascii:{phone}")

    def _of_known(self, kind: int, data: bytes, packet: bytes) -> Iterator[Event]:
        if kind == DDP_DATA:
            # A box that waits for this and does not get it says the same again, and an answer that
            # comes twice could pass for the next one.
            yield Answer(ddp_packet(DDP_TOOK_DATA, self._phone))
            if data:
                yield Bytes(data)
        elif kind == DDP_REGISTER:  # said again: its heartbeat
            yield Answer(ddp_packet(DDP_REGISTERED, self._phone))
            yield Heartbeat(data)
        elif kind == DDP_DATA_ACK:
            yield Heartbeat(data)
        elif kind == DDP_LOG_OFF:
            yield Answer(ddp_packet(DDP_LOGGED_OFF, self._phone))
        else:
            yield Unrecognised(packet[:SAMPLE_BYTES_MAX])


# ---- Four-Faith PROT -----------------------------------------------------------------------------

# Its registration is an id, the phone number, 00, the IP address, 00. The text says 21 bytes, the
# only published example has 22: a number of 12 digits. Both are read.
FF_PHONE_DIGITS = "11 or 12"
FF_ID_BYTES = 4
FF_ADDRESS_BYTES = 4
FF_REGISTRATION = re.compile(rb".{4}([0-9]{11,12})\0.{4}\0", re.DOTALL)
FF_REGISTRATION_BYTES_MAX = FF_ID_BYTES + 12 + 1 + FF_ADDRESS_BYTES + 1
FF_ESCAPE = 0xFD
FF_HEARTBEAT = 0xFE
FF_ESCAPED = {0xED: 0xFD, 0xEE: 0xFE}  # what follows the escape: what it stands for


def four_faith_begins(data: bytes) -> bool | None:
    """Whether bytes begin as the registration of a box does; None: too few to tell."""
    found = _registration(data)
    return None if found is None else bool(found[0])


def _registration(data: bytes) -> tuple[str, int] | None:
    """The phone number of the registration in front, and how long that is on the wire. Empty: it is
    none; None: too few bytes. Whether a box escapes it is not published: both are read."""
    plain, at = bytearray(), 0
    while at < len(data) and len(plain) < FF_REGISTRATION_BYTES_MAX:
        meant = (
            FF_ESCAPED.get(data[at + 1]) if data[at] == FF_ESCAPE and at + 1 < len(data) else None
        )
        plain.append(data[at] if meant is None else meant)
        at += 1 if meant is None else 2
        if found := FF_REGISTRATION.fullmatch(plain):
            return found[1].decode("ascii"), at
    digits, ended, _ = bytes(plain[FF_ID_BYTES:]).partition(b"\0")
    sound = digits.isdigit() and 11 * bool(ended) <= len(digits) <= 12
    may_grow = len(plain) <= FF_ID_BYTES or (sound and len(plain) < FF_REGISTRATION_BYTES_MAX)
    return None if may_grow else ("", 0)


def escape(data: bytes) -> bytes:
    """Data as PROT carries it, in both directions."""
    return data.replace(b"\xfd", b"\xfd\xed").replace(b"\xfe", b"\xfd\xee")


def known_four_faith(boxes: Mapping[str, Box]) -> NewStream:
    """Streams that know these boxes by phone number. Raises BadPattern."""
    known = by_phone(boxes, FF_PHONE_DIGITS)

    def new_stream(dial_now: DialNow) -> FourFaithStream:
        return FourFaithStream(known)

    return new_stream


class FourFaithStream:
    """One TCP connection of a Four-Faith DTU in PROT mode, from its registration. Never raises."""

    __slots__ = ("_held", "_introduced", "_known", "_registered", "name", "sample")

    def __init__(self, known: Mapping[str, str]) -> None:
        self.name: str | None = None
        self.sample = b""
        self._known = known
        self._registered = b""  # as it came
        self._introduced = False
        self._held = b""  # a piece of a registration; later, an escape whose second byte is to come

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. Whether an answer is due makes no difference: a heartbeat can
        never be part of escaped data."""
        if self.name is not None:
            return tuple(self._of_known(data))
        if len(self.sample) < SAMPLE_BYTES_MAX:
            self.sample = (self.sample + data)[:SAMPLE_BYTES_MAX]
        return () if self._introduced else self._of_unknown(self._held + data)

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """A frame for the line, escaped."""
        return escape(frame)

    def _of_unknown(self, data: bytes) -> tuple[Event, ...]:
        found = _registration(data)
        if found is None:
            self._held = data
            return ()
        self._held = b""
        phone, length = found
        if not phone:
            return ()  # not where one begins; the next connection will say it again
        name = self._known.get(phone)
        if name is None:
            self._introduced = True
            return (Introduced(f"ascii:{phone}"),)
        self.name, self.sample, self._registered = name, b"", data[:length]
        return (Named(name), *self._of_known(data[length:]))

    def _of_known(self, data: bytes) -> Iterator[Event]:
        data = self._held + data
        self._held = b""
        if data.startswith(self._registered):
            yield Heartbeat(self._registered)
            data = data[len(self._registered) :]
        beat = bytes((FF_HEARTBEAT,))
        rest = data.lstrip(beat)
        if rest.endswith(bytes((FF_ESCAPE,))):
            rest, self._held = rest[:-1], rest[-1:]
        rest = rest.rstrip(beat)
        if len(rest) + len(self._held) < len(data):
            yield Heartbeat(beat)
        if rest:
            yield Bytes(_unescaped(rest))


def _unescaped(data: bytes) -> bytes:
    """What was meant. An escape before another byte stands for itself, and so does a heartbeat
    between two bytes of one packet: such a box does not escape, and readers know their frames."""
    return data.replace(b"\xfd\xee", b"\xfe").replace(b"\xfd\xed", b"\xfd")
