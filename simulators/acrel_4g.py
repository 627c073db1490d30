"""A prepaid meter with a modem of its own: it dials in, says its serial number, asks the time,
beats, pushes its live block and carries Modbus RTU in frames (spec acrel.md 4.1).

Written from the spec, not from the head-end: no length, no escaping, a checksum and an end mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from simulators import rtu
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming

LIVE_REGISTER, LIVE_WORDS, LIVE_WORDS_8_RATES = 0x0200, 48, 72


class Answers(enum.Enum):
    """How the modem shows the answer to a pass-through request."""

    RTU = "rtu"
    SERIAL_AND_RTU = "serial_and_rtu"
    # After a write the serial number only, whatever the meter said; else serial number and answer.
    SERIAL_AFTER_WRITE = "serial_after_write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modem:
    """What the modem says about itself and how it behaves."""

    serial: str  # 14 digits
    iccid: str = "898604282219C0423610"
    rssi: int = 26  # 1 to 31
    interval_min: int = 30  # between two uploads
    answers: Answers = Answers.SERIAL_AND_RTU
    serial_in_uploads: bool = True
    eight_rates: bool = False
    unit: int = 1
    key: str = "1-1"


def frame(command: int, body: bytes = b"") -> bytes:
    """A whole frame."""
    return b"\x7b\x7b" + rtu.sealed(bytes((command,)) + body) + b"\x7d\x7d"


class Acrel4gSpeech:
    """One connection of such a meter. Registers again at each heartbeat until that is answered."""

    def __init__(
        self, modem: Modem, counts: Counter[str], on_time: Callable[[bytes], None]
    ) -> None:
        self._modem = modem
        self._serial = modem.serial.encode("ascii").ljust(20, b"\0")
        self._counts = counts
        self._on_time = on_time
        self._registered = False
        self._buffer = b""

    def hello(self) -> bytes:
        modem = self._modem
        iccid = modem.iccid.encode("ascii").ljust(30, b"\0")
        firmware = b"\x01\x00\x01\x00\x01\x02"
        tail = bytes((modem.rssi,)) + firmware + bytes((modem.interval_min,))
        return frame(0x84, self._serial + iccid + tail)

    def heartbeat(self) -> bytes | None:
        return frame(0x94) if self._registered else self.hello()

    def packet(self, data: bytes) -> bytes:
        answers = self._modem.answers
        if answers is Answers.RTU:
            return frame(0x90, data)
        writes = (rtu.WRITE_ONE, rtu.WRITE_MANY, rtu.MASKED_WRITE)
        is_write = len(data) > 1 and data[1] & 0x7F in writes
        if answers is Answers.SERIAL_AFTER_WRITE and is_write:
            return frame(0x90, self._serial)
        return frame(0x90, self._serial + data)

    def upload(self, answer: bytes) -> bytes:
        """The meter's own answer to a read of its live block, as an upload."""
        section = b"[[" + self._modem.key.encode("ascii") + b"((" + answer + b"))]]"
        return frame(0x91, (self._serial if self._modem.serial_in_uploads else b"") + section)

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        self._buffer += data
        frames: list[bytes] = []
        says: list[bytes] = []
        while (inside := self._take()) is not None:
            command, body = inside[0], inside[1:]
            self._counts[f"got_{command:02x}"] += 1
            if command == 0x90:
                frames.append(body)
            elif command == 0x84 and not self._registered:
                self._registered = True
                says.append(frame(0x93, self._serial))
            elif command == 0x93:
                self._on_time(body)
        return frames, says

    def _take(self) -> bytes | None:
        """One frame off the buffer. The head-end sends nothing but frames, one after the other."""
        at = 5
        while (at := self._buffer.find(b"\x7d\x7d", at)) >= 0:
            inside = self._buffer[2:at]
            if rtu.is_sealed(inside) or inside == rtu.sealed(inside[:1]):
                assert self._buffer.startswith(b"\x7b\x7b"), "something between two frames"
                self._buffer = self._buffer[at + 2 :]
                return inside[:-2]
            at += 1
        return None


class Acrel4g(Dtu):
    """The meter: a box whose line is one meter inside it."""

    def __init__(
        self,
        bus: Bus,
        modem: Modem,
        plan: DtuPlan,
        *,
        host: str,
        port: int,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        upload_s: float | None = None,
    ) -> None:
        """`upload_s`: between two uploads in a hurried world; None: as the modem says."""
        super().__init__(
            bus,
            plan,
            host=host,
            port=port,
            timing=timing,
            faults=faults,
            seed=seed,
            new_speech=self._new_speech_of_modem,
        )
        self.modem = modem
        self.told_times: list[bytes] = []  # yy MM dd weekday hh mm ss, as the head-end said it
        self._upload_s = 60.0 * modem.interval_min if upload_s is None else upload_s
        self._uploads: asyncio.Task[None] | None = None

    def _new_speech_of_modem(self) -> Acrel4gSpeech:
        return Acrel4gSpeech(self.modem, self.counts, self.told_times.append)

    async def plug(self) -> None:
        await super().plug()
        self._uploads = asyncio.create_task(self._push_for_ever(), name="uploads of a 4G meter")

    async def unplug(self) -> None:
        if self._uploads is not None:
            self._uploads.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._uploads
            self._uploads = None
        await super().unplug()

    def push(self) -> bool:
        """Push the live block now; whether there was a connection for it."""
        words = LIVE_WORDS_8_RATES if self.modem.eight_rates else LIVE_WORDS
        request = struct.pack(">BBHH", self.modem.unit, rtu.READ_HOLDING, LIVE_REGISTER, words)
        answer = self.line.bus.answer(rtu.sealed(request))
        assert answer is not None, "the meter inside answers its own modem"
        said = self.say(self._new_speech_of_modem().upload(answer))
        self.counts["pushed"] += said
        return said

    async def _push_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._upload_s)
            self.push()
