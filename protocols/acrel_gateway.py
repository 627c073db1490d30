"""An Acrel gateway that dials in: login, clock, reports, and the lines behind its ports.

It proves itself with a secret (spec acrel.md 4.2), sets its clock by our answers to its heartbeats,
reports what it reads by itself, and carries frames to the RS485 line of each port.

A carried answer has no number: it names port and address, and a gateway answers one request after
the other. So that no old answer passes for a new one:

1. the lines of a gateway take turns, one request at a time (gateways/turns.py);
2. here an answer must belong to a request of this very connection that has none yet; a second one,
   or one that comes after the answer to a later request, is nobody's. Bytes that cannot be the
   answer (a gateway may label old bytes with what it asked last) go to the line and settle nothing;
3. the line's reader takes only an answer that fits what it asked;
4. a meter that did not answer is left alone until its old answer can no longer come
   (gateways/line.py).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from protocols.acrel_gateway_cipher import (
    Undecipherable,
    decipher,
    encipher,
    is_proof,
    unpack,
)
from protocols.acrel_gateway_frames import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    MARK,
    XML_FRAME_BYTES_MAX,
    Frame,
    FrameKind,
    FrameReader,
    make_frame,
)
from protocols.acrel_gateway_report import SAMPLE_BYTES_MAX, told_by
from protocols.acrel_gateway_xml import (
    XML_BYTES_MAX,
    BadXml,
    Login,
    read_login,
    read_report,
    result_answer,
    sequence_answer,
    time_answer,
)
from protocols.dtu import BadPattern
from protocols.keys import GatewaySecret
from protocols.modbus import READ_HOLDING, READ_INPUT, UNIT_MAX, UNIT_MIN, crc_ok
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
    Overflow,
    TurnedAway,
    Unrecognised,
)

# What a listener looks for in the first bytes of a connection.
FIRST_BYTES = MARK
# A login takes two frames; whatever else comes before it is stepped over.
BYTES_BEFORE_NAME_MAX = 2 * XML_FRAME_BYTES_MAX
PORT_MIN, PORT_MAX = 1, 99  # two digits
READ_FRAME_BYTES = 8
# The address of what is no plain Modbus frame. Which one a gateway expects there is not published.
NO_UNIT = 0

_CARRIED = re.compile(rb"([0-9]{2})([0-9]{3})\|((?:[0-9A-Fa-f]{2}){1,256})")

# By registration, "building/gateway": the gateway's name here, and its secret.
Known: TypeAlias = Mapping[str, tuple[str, GatewaySecret]]


def random_sequence() -> str:
    """19 digits, as the maker's platform sends: 59 bits of chance, and no gateway's integers
    overflow."""
    return str(10**18 + secrets.randbelow(10**18))


def known_gateways(
    boxes: Mapping[str, Box], *, new_sequence: Callable[[], str] = random_sequence
) -> NewStream:
    """Streams that know these gateways by building and number. `new_sequence` must not be
    guessable. Raises BadPattern."""
    known: dict[str, tuple[str, GatewaySecret]] = {}
    for gateway, box in boxes.items():
        if box.registration in known:
            other, _ = known[box.registration]
            raise BadPattern(f"{other} and {gateway} have the same building and number")
        # Whose secret nobody knows is known all the same, so that its calls say what is missing.
        known[box.registration] = (gateway, box.secret or GatewaySecret(_no_secret))

    def new_stream(dial_now: DialNow) -> AcrelGatewayStream:
        return AcrelGatewayStream(known, dial_now, new_sequence)

    return new_stream


def _no_secret() -> str:
    raise ValueError("its site file does not say where it lies")


class AcrelGatewayStream:
    """One connection of a gateway, from its first byte (protocols/stream.py).

    A stranger gets no answer; its sample is the registration to adopt it under.
    """

    __slots__ = (
        "_asked",
        "_bytes_before_name",
        "_dial_now",
        "_frames",
        "_is_over",
        "_key",
        "_known",
        "_login",
        "_new_sequence",
        "_sequence",
        "name",
        "sample",
    )

    def __init__(self, known: Known, dial_now: DialNow, new_sequence: Callable[[], str]) -> None:
        self.name: str | None = None
        self.sample = b""
        self._known = known
        self._dial_now = dial_now
        self._new_sequence = new_sequence
        self._frames = FrameReader(BEFORE_LOGIN)
        self._bytes_before_name = 0
        self._is_over = False
        self._login: Login | None = None  # who it says it is, until proved
        self._sequence: str | None = None  # waits for its proof
        self._key = b""
        # The requests without an answer, in their order: port, address, and how one would begin.
        self._asked: dict[tuple[int, int], bytes] = {}

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. Frames tell what they are, whether an answer is due or not."""
        return tuple(self._receive(data))

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """One frame for the line behind a port, and the promise to take one answer for it."""
        assert self.name is not None, "a stranger is never spoken to"
        assert PORT_MIN <= port <= PORT_MAX
        is_modbus = crc_ok(frame) and UNIT_MIN <= frame[0] <= UNIT_MAX
        unit = frame[0] if is_modbus else NO_UNIT
        self._asked.pop((port, unit), None)
        self._asked[port, unit] = _head(frame) if is_modbus else b""
        plain = f"{port:02}{unit:03}|{frame.hex()}".encode()
        return make_frame(FrameKind.ASK, encipher(plain, self._key))

    def _receive(self, data: bytes) -> Iterator[Event]:
        if self._is_over:
            return
        if self.name is None:
            self._bytes_before_name += len(data)
            if self._login is None:
                self.sample = (self.sample + data)[:SAMPLE_BYTES_MAX]
        self._frames.receive_data(data)
        while not self._is_over and (frame := self._frames.next_frame()) is not None:
            events = self._meaning(frame)
            self._frames.settle(made_sense=events is not None)
            if events is not None:
                yield from events
            elif self.name is not None:
                yield _unrecognised(frame)
        if self.name is None and self._bytes_before_name > BYTES_BEFORE_NAME_MAX:
            if not self._is_over:
                yield Overflow(self.sample)
            self._is_over = True

    def _meaning(self, frame: Frame) -> tuple[Event, ...] | None:
        """What one frame means; None: nothing anybody understands."""
        try:
            match frame.kind:
                case FrameKind.LOGIN:
                    return self._logging_in(read_login(frame.data))
                case FrameKind.HEARTBEAT:
                    return self._alive(frame.data)
                case FrameKind.REPORT | FrameKind.PACKED_REPORT | FrameKind.ANSWER:
                    return self._told(frame.kind, decipher(frame.data, self._key))
                case _:
                    return None
        except (BadXml, Undecipherable):
            return None

    # ---- login ----------------------------------------------------------------------------------

    def _logging_in(self, login: Login) -> tuple[Event, ...] | None:
        match login.operation:
            case "request":
                return self._asks_in(login)
            case "md5":
                return self._proves(login)
            case _:
                return None

    def _asks_in(self, login: Login) -> tuple[Event, ...]:
        if self.name is None:
            self.sample = login.registration.encode()[:SAMPLE_BYTES_MAX]
        elif self._login is None or login.registration != self._login.registration:
            return self._turned_away(f"it logged in again as {login.registration}")
        self._login = login
        self._sequence = None
        if login.registration not in self._known:
            self._is_over = True  # a stranger is never spoken to
            return (Introduced(login.registration),)
        _, secret = self._known[login.registration]
        try:
            self._key = secret.key()
        except ValueError as error:
            return self._turned_away(f"gateway {login.registration} has no usable secret: {error}")
        self._sequence = self._new_sequence()
        answer = sequence_answer(login.building, login.gateway, self._sequence)
        return (Answer(make_frame(FrameKind.LOGIN, answer)),)

    def _proves(self, login: Login) -> tuple[Event, ...]:
        asked, sequence = self._login, self._sequence
        self._sequence = None  # one try for each
        if asked is None or sequence is None or login.registration != asked.registration:
            return self._turned_away(f"{login.registration} sent a proof that nobody asked for")
        passed = is_proof(login.md5, self._key, sequence)
        answer = result_answer(login.building, login.gateway, passed=passed)
        told = Answer(make_frame(FrameKind.LOGIN, answer))
        if not passed:
            refused = self._turned_away(
                f"gateway {login.registration} has another secret than ours"
            )
            return (told, *refused)
        if self.name is not None:
            return (told,)  # it logged in once more
        self.name, _ = self._known[login.registration]
        self._frames.limits = AFTER_LOGIN
        return (Named(self.name), told)

    def _turned_away(self, why: str) -> tuple[Event, ...]:
        self._is_over = True
        return (TurnedAway(why),)

    # ---- after it -------------------------------------------------------------------------------

    def _alive(self, data: bytes) -> tuple[Event, ...]:
        """Any heartbeat will do, its XML is not even looked at: the answer is the time."""
        assert self.name is not None, "other frames are noise before the login"
        assert self._login is not None, "set before the name"
        now = self._dial_now(self.name)
        answer = time_answer(self._login.building, self._login.gateway, now)
        return (Heartbeat(data), Answer(make_frame(FrameKind.HEARTBEAT, answer)))

    def _told(self, kind: int, plain: bytes) -> tuple[Event, ...] | None:
        if kind == FrameKind.ANSWER:
            return self._answered(plain)
        if kind == FrameKind.PACKED_REPORT:
            plain = unpack(plain, XML_BYTES_MAX)
        assert self.name is not None, "other frames are noise before the login"
        assert self._login is not None, "set before the name"
        report = read_report(plain)
        if report.gateway != self._login.gateway:
            return None  # nobody reports in another's name
        return tuple(told_by(report, self._dial_now(self.name)))

    def _answered(self, plain: bytes) -> tuple[Event, ...]:
        found = _CARRIED.fullmatch(plain)
        asked = None if found is None else (int(found[1]), int(found[2]))
        if found is None or asked not in self._asked:
            return (Unrecognised(plain[:SAMPLE_BYTES_MAX]),)
        data = bytes.fromhex(found[3].decode())
        if _may_answer(data, self._asked[asked]):
            # Answers come in the order of the requests: those before this one stay without.
            while (oldest := next(iter(self._asked))) != asked:
                del self._asked[oldest]
            del self._asked[asked]
        return (Bytes(data, asked[0]),)


def _head(frame: bytes) -> bytes:
    """How the answer to a Modbus request begins: unit, function, and of a read its byte count."""
    is_read = frame[1] in (READ_HOLDING, READ_INPUT) and len(frame) == READ_FRAME_BYTES
    return frame[:2] + (bytes((2 * frame[5] & 0xFF,)) if is_read else b"")


def _may_answer(data: bytes, head: bytes) -> bool:
    """Whether such an answer, or a refusal, can be among the bytes; noise may come before it."""
    return not head or head in data or bytes((head[0], head[1] | 0x80)) in data


def _unrecognised(frame: Frame) -> Unrecognised:
    head = MARK + bytes((frame.kind,)) + len(frame.data).to_bytes(4, "big")
    return Unrecognised((head + frame.data)[:SAMPLE_BYTES_MAX])
