"""Meters that speak DL/T 645-2007 on one pair of wires, plain ones and prepaid ones.

Written from the standard's description (spec field_protocols.md A), not from the head-end: frames
with a sum and 33H on every data byte, items in decimal digits, a relay order that expires by the
meter's own dial, freezes at each midnight. What a meter knows comes from its metering; the security
session of a prepaid one is in dlt645_purse.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from simulators.dial import dial_datetime, dial_ms_of
from simulators.dlt645_purse import SECURITY, Purse
from simulators.load import DAY_MS
from simulators.metering import W_MS_PER_WH, Forced, Look, Meter, MonthEnd

PREAMBLE = b"\xfe\xfe"  # what these meters send before an answer
ALL = "99" * 6
READS = (0x11, 0x12, 0x13)  # what a wildcard may ask
NO_DATA, NO_RIGHT = 0x02, 0x04  # error bits
TRIP, ALLOW, CLOSE = 0x1A, 0x1B, 0x1C
TIME_STEP_MAX = timedelta(minutes=5)  # a broadcast time further off than this is ignored
LEVELS = (0x02, 0x03)  # password levels that may switch


def sealed(address: str, control: int, data: bytes) -> bytes:
    """A frame with its sum, from the first 68 to the end mark."""
    body = b"\x68" + bytes.fromhex(address)[::-1] + b"\x68" + bytes((control, len(data)))
    body += bytes((byte + 0x33) % 256 for byte in data)
    return body + bytes((sum(body) % 256, 0x16))


def opened(frame: bytes) -> tuple[str, int, bytes] | None:
    """Address, control and data of a request; None when it is none."""
    frame = frame.lstrip(b"\xfe")
    if len(frame) < 12 or frame[0] != 0x68 or frame[7] != 0x68 or frame[-1] != 0x16:
        return None
    if len(frame) != 12 + frame[9] or sum(frame[:-2]) % 256 != frame[-2]:
        return None
    data = bytes((byte - 0x33) % 256 for byte in frame[10:-2])
    return frame[1:7][::-1].hex().upper(), frame[8], data


def collided(answers: Sequence[bytes]) -> bytes:
    """What a master hears when meters answer at once, none of them in step with another."""
    if len(answers) == 1:
        return answers[0]
    mixed = bytearray()
    for late, answer in enumerate(answers):
        shifted = b"\xff" * late + answer
        mixed += b"\xff" * (len(shifted) - len(mixed))
        for at, byte in enumerate(shifted):
            mixed[at] &= byte  # a zero on the wires wins
    return bytes(mixed)


def digits(value: int, length: int) -> bytes:
    """Decimal digits in so many bytes, lowest byte first; the top bit is the sign."""
    raw = bytearray(bytes.fromhex(f"{abs(value):0{2 * length}d}"[-2 * length :])[::-1])
    if value < 0:
        raw[-1] |= 0x80
    return bytes(raw)


class Refused(Exception):
    """The meter says no, with its error bytes."""

    def __init__(self, error: int, length: int = 1) -> None:
        super().__init__(f"error {error:#x}")
        self.data = error.to_bytes(length, "little")


@dataclass(slots=True, kw_only=True)
class Unit645:
    """One meter on the wires. `purse` None: it keeps no money."""

    meter: Meter
    address: str  # 12 digits
    password: str = "000000"
    purse: Purse | None = None
    wrong_passwords: int = 0
    switched: list[int] = field(default_factory=list)  # N1 of each order it obeyed
    set_today: int = -1  # the day a broadcast last set its clock

    def answer(self, control: int, data: bytes) -> bytes | None:
        """The answer frame; None where none is due."""
        handlers: dict[int, Callable[[bytes], bytes | None]] = {
            0x11: self._read,
            0x13: lambda _: bytes.fromhex(self.address)[::-1],
            0x14: self._write,
            0x1C: self._switch,
            0x08: self._broadcast_time,
            0x03: self._security,
        }
        handler = handlers.get(control & 0x1F)
        if handler is None or control & 0x80:
            return None
        try:
            reply = handler(data)
        except Refused as refused:
            return sealed(self.address, control | 0xC0, refused.data)
        return None if reply is None else sealed(self.address, control | 0x80, reply)

    # ---- reading --------------------------------------------------------------------------------

    def _read(self, data: bytes) -> bytes:
        if len(data) < 4:
            raise Refused(NO_DATA)
        di = int.from_bytes(data[:4], "little")
        look = self.meter.look()
        value = self._item(di, look)
        if value is None:
            raise Refused(NO_DATA)
        return data[:4] + value

    def _item(self, di: int, look: Look) -> bytes | None:
        energies = _energies(look.energy_w_ms)
        by_group: dict[int, Callable[[], bytes | None]] = {
            0x0506: lambda: self._freeze(di >> 8 & 0xFF, di & 0xFF),
            **dict.fromkeys(range(0x0200, 0x0300), lambda: _live(di, look, self.meter.phases)),
        }
        if di >> 16 in by_group:
            return by_group[di >> 16]()
        shown = dial_datetime(look.dial_ms)
        simple: dict[int, Callable[[], bytes]] = {
            0x0001FF00: lambda: energies,
            **{0x00010000 + (rate << 8): partial(_part, energies, rate) for rate in range(5)},
            0x00020000: lambda: digits(0, 4),
            0x04000101: lambda: _date(shown),
            0x04000102: lambda: _time(shown),
            0x0400010C: lambda: _time(shown) + _date(shown),
            0x04000401: lambda: bytes.fromhex(self.address)[::-1],
            0x04000402: lambda: bytes.fromhex(self.meter.number)[::-1],
            0x04000503: lambda: self._state_3(look).to_bytes(2, "little"),
        }
        if di in simple:
            return simple[di]()
        return None if self.purse is None else self.purse.item(di, look)

    def _state_3(self, look: Look) -> int:
        word = 0 if look.relay_closed else 1 << 4
        word |= (1 << 6) if look.forced is Forced.OPEN else 0
        if self.purse is None:
            return word
        return word | 0b10 << 8 | (0 if self.purse.is_open else 1 << 14)

    def _freeze(self, kind: int, back: int) -> bytes | None:
        days = self.meter.day_ends
        if not 1 <= back <= len(days) or kind not in (0, 1):
            return None
        frozen: MonthEnd = days[-back]
        shown = dial_datetime(frozen.dial_ms // DAY_MS * DAY_MS)
        if kind == 0:
            return bytes.fromhex(f"{shown:%M%H%d%m%y}")
        return _energies(frozen.energy_w_ms)

    # ---- orders ---------------------------------------------------------------------------------

    def _write(self, data: bytes) -> bytes:
        if len(data) < 12:
            raise Refused(NO_DATA)
        self._check_password(data[4:8])
        if int.from_bytes(data[:4], "little") != 0x0400010C or len(data) != 19:
            raise Refused(NO_DATA)
        told = data[12:]
        self._set_clock(f"{told[6]:02x}{told[5]:02x}{told[4]:02x}", told[:3])
        return b""

    def _check_password(self, given: bytes) -> None:
        if given[0] not in LEVELS or given[1:4][::-1].hex() != self.password:
            self.wrong_passwords += 1
            raise Refused(NO_RIGHT)

    def _set_clock(self, date: str, time: bytes) -> None:
        clock = f"{time[2]:02x}{time[1]:02x}{time[0]:02x}"
        shown = datetime.strptime(date + clock, "%y%m%d%H%M%S")  # noqa: DTZ007  a dial
        self.meter.set_clock(dial_ms_of(shown))

    def _broadcast_time(self, data: bytes) -> None:
        """Obeyed once a day, not around midnight, and only for a small step."""
        now = dial_datetime(self.meter.look().dial_ms)
        told = datetime.strptime(data[::-1].hex(), "%y%m%d%H%M%S")  # noqa: DTZ007  a dial
        minutes = now.hour * 60 + now.minute
        near_midnight = minutes < 5 or minutes >= 24 * 60 - 5
        if abs(told - now) > TIME_STEP_MAX or near_midnight or self.set_today == now.toordinal():
            return
        self.set_today = now.toordinal()
        self.meter.set_clock(dial_ms_of(told))

    def _switch(self, data: bytes) -> bytes:
        if len(data) != 16:
            raise Refused(NO_RIGHT)
        self._check_password(data[:4])
        n1, until = data[8], data[10:16]
        now = dial_datetime(self.meter.look().dial_ms)
        expires = datetime.strptime(until[::-1].hex(), "%y%m%d%H%M%S")  # noqa: DTZ007  a dial
        if now > expires:
            raise Refused(0x01)
        if n1 not in (TRIP, ALLOW, CLOSE):
            raise Refused(NO_RIGHT)
        self.switched.append(n1)
        self.meter.force(Forced.OPEN if n1 == TRIP else Forced.RELEASED)
        return b""

    def _security(self, data: bytes) -> bytes:
        if self.purse is None or len(data) < 8:
            raise Refused(0x01)
        answered = self.purse.said(data, self.meter)
        if isinstance(answered, int):
            raise Refused(answered, 2)
        return answered


class Bus645:
    """Everything that speaks DL/T 645 on one pair of wires."""

    def __init__(self, units: Iterable[Unit645]) -> None:
        self.units = {unit.address: unit for unit in units}
        self.heard: list[bytes] = []
        #: asked with each request, for tests: "lose" it, or let the answer be "mute"
        self.script: Callable[[bytes], str | None] | None = None

    def is_whole(self, data: bytes) -> bool:
        return opened(data) is not None

    def party(self, frame: bytes) -> int:
        said = opened(frame)
        return int(said[0], 16) if said else 0

    def answer(self, frame: bytes) -> bytes | None:
        """The answer of whoever feels addressed; None is silence."""
        said = opened(frame)
        if said is None:
            return None
        self.heard.append(frame)
        fate = self.script(frame) if self.script is not None else None
        if fate == "lose":
            return None
        address, control, data = said
        if address == ALL:
            for unit in self.units.values():
                unit.answer(control, data)
            return None
        if "A" in address and control not in READS:
            return None  # a wildcard is refused without a word
        there = [unit for own, unit in self.units.items() if own.endswith(address.lstrip("A"))]
        answers = [one for unit in there if (one := unit.answer(control, data)) is not None]
        return None if not answers or fate == "mute" else collided([PREAMBLE + a for a in answers])

    def writes(self) -> list[bytes]:
        """The requests that could change something, in the order they were heard."""
        changing = {0x14, 0x1C}
        found = []
        for frame in self.heard:
            said = opened(frame)
            assert said is not None
            _, control, data = said
            if control in changing or (control == 0x03 and data[:4] in SECURITY.values()):
                found.append(frame)
        return found


def _energies(energy_w_ms: tuple[int, ...]) -> bytes:
    """Total, then sharp, peak, flat, valley, in steps of 10 Wh."""
    steps = [w_ms // (10 * W_MS_PER_WH) for w_ms in energy_w_ms[:4]]
    total = sum(energy_w_ms) // (10 * W_MS_PER_WH)
    return b"".join(digits(step, 4) for step in (total, *steps))


def _part(energies: bytes, rate: int) -> bytes:
    return energies[4 * rate :][:4]


def _live(di: int, look: Look, phases: int) -> bytes | None:
    volts = [digits(phase.voltage_dv, 2) for phase in look.phases[:phases]]
    amperes = [digits(phase.current_ca * 10, 3) for phase in look.phases[:phases]]
    watts = [phase.power_w for phase in look.phases[:phases]]
    powers = [digits(watt * 10, 3) for watt in (sum(watts), *watts)]
    return {
        0x02010100: volts[0],
        0x0201FF00: b"".join(volts),
        0x02020100: amperes[0],
        0x0202FF00: b"".join(amperes),
        0x02030000: powers[0],
        0x0203FF00: b"".join(powers),
        0x02060000: digits(look.phases[0].power_factor_permille, 2),
        0x02800002: digits(5000, 2),
    }.get(di)


def _date(shown: datetime) -> bytes:
    return bytes.fromhex(f"{shown.isoweekday() % 7:02d}{shown:%d%m%y}")


def _time(shown: datetime) -> bytes:
    return bytes.fromhex(f"{shown:%S%M%H}")
