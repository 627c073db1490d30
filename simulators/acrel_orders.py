"""Acrel's masked writes (function 0x20) as the meter takes them (spec acrel.md 3.1, 3.2).

Inside the data a group is applied only when its enable byte is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from simulators.dial import dial_ms_of
from simulators.metering import Account, Forced, LoadLimit, Meter
from simulators.modbus_meter import Written
from simulators.rtu import No

PURCHASE = 0x0100
SETTINGS = 0x0200
TIME_CONTROL = (0x0300, 0x031C, 0x0338)  # L1, L2, L3
CLOCK = 0x0354
LOAD_CONTROL = (0x0400, 0x040D, 0x041A)  # L1, L2, L3: here they share one limit
LOAD_COUNTS = 0x0410
FORCED = 0x0500

_PURCHASE_BYTES = 8
_SETTINGS_BYTES = 60
_TIME_BYTES = 56
_CLOCK_BYTES = 10
_LOAD_BYTES = 26
_LOAD_COUNT_BYTES = 8
_FORCED_BYTES_MIN = 9  # the maker's tool sends two or three more, whatever it declares


def masked_orders(
    meter: Meter, *, refuse_aloud: bool = False
) -> dict[int, Callable[[bytes], Written]]:
    """The handlers of one meter by register.

    What a real meter answers to a purchase with a wrong count is not published: by default it
    answers as if all were well and does nothing, so only a look tells; with `refuse_aloud` it
    answers exception 3.
    """

    def purchase(data: bytes) -> Written:
        if len(data) != _PURCHASE_BYTES:
            return No.VALUE
        taken = meter.purchase(_u32(data, 0), _u16(data, 4))
        return No.VALUE if refuse_aloud and not taken else None

    return {
        PURCHASE: purchase,
        SETTINGS: lambda data: _apply_settings(meter, data),
        CLOCK: lambda data: _set_clock(meter, data),
        **dict.fromkeys(LOAD_CONTROL, lambda data: _load_control(meter, data)),
        LOAD_COUNTS: lambda data: _load_counts(meter, data),
        FORCED: lambda data: _forced_by_phase(meter, data),
    }


def forced_control(meter: Meter) -> Callable[[int, bytes], Written]:
    """Registers 0x0057-0x0058: enable, then 1 = open, 0 = close (spec acrel.md 3.4)."""

    def write(offset: int, data: bytes) -> Written:
        if offset or len(data) != 4:
            return No.ADDRESS
        enable, opened = _u16(data, 0), _u16(data, 2)
        if enable > 1 or opened > 1:
            return No.VALUE
        if not enable:
            meter.force(Forced.RELEASED)
        else:
            meter.force(Forced.OPEN if opened else Forced.CLOSED)
        return None

    return write


def purchase_registers(meter: Meter) -> Callable[[int, bytes], Written]:
    """The cabinet's second way to buy: amount and count in three registers (spec acrel.md 3.3)."""

    def write(offset: int, data: bytes) -> Written:
        if offset or len(data) != 6:
            return No.ADDRESS
        meter.purchase(_u32(data, 0), _u16(data, 4))
        return None

    return write


class TimeTables:
    """Time control (spec acrel.md 2.6): kept and shown; this meter's relay does not heed it."""

    def __init__(self, phases: int) -> None:
        self.words = 1 + 26 * phases
        self._on = [False] * phases
        # Rest-day mask, two bytes nobody can name, then both tables.
        self._tables = [bytes((0, 0, 7, phase)).ljust(52, b"\0") for phase in range(phases)]

    def image(self) -> bytes:
        """Registers 0x0420 on: with three phases, bits 0 to 2 of the switch are L3, L2, L1."""
        switch = int(self._on[0])
        if len(self._on) > 1:
            switch = sum(4 >> phase for phase, on in enumerate(self._on) if on)
        return switch.to_bytes(2, "big") + b"".join(self._tables)

    def orders(self) -> dict[int, Callable[[bytes], Written]]:
        """The handlers of the phases there are."""
        return {TIME_CONTROL[phase]: self._write_of(phase) for phase in range(len(self._on))}

    def _write_of(self, phase: int) -> Callable[[bytes], Written]:
        def write(data: bytes) -> Written:
            if len(data) != _TIME_BYTES:
                return No.VALUE
            table = self._tables[phase]
            if data[0]:
                self._on[phase] = bool(data[1])
            if data[2]:
                table = bytes((0, data[4])) + data[5:7] + table[4:]
            if data[7]:
                table = table[:4] + data[8:]
            self._tables[phase] = table
            return None

        return write


def load_registers(meter: Meter) -> Callable[[int, bytes], Written]:
    """A cabinet's second way to set load control: registers 0x0700 on (spec acrel.md 2.10)."""

    def write(offset: int, data: bytes) -> Written:
        limit, words = meter.load_limit, [_u16(data, at) for at in range(0, len(data), 2)]
        match (offset, words):
            case (0, [on, max_w, step_w, factor]):
                limit = replace(
                    limit, on=bool(on), max_w=max_w, step_w=step_w, power_factor_permille=factor
                )
            case (5, [trips_allowed, recover]):
                limit = replace(limit, trips_allowed=trips_allowed, recover_s=10 * recover)
            case _:
                return No.ADDRESS
        meter.set_load_limit(limit)
        return None

    return write


def decode_clock(data: bytes) -> datetime | None:
    """sec, min, hour, week, day, month, year; None when there is no such time."""
    second, minute, hour, _week, day, month, year = data[:7]
    try:
        return datetime(2000 + year, month, day, hour, minute, second)  # noqa: DTZ001  a dial
    except ValueError:
        return None


def _set_clock(meter: Meter, data: bytes) -> Written:
    dial = decode_clock(data) if len(data) == _CLOCK_BYTES else None
    if dial is None:
        return No.VALUE
    meter.set_clock(dial_ms_of(dial))
    return None


def _apply_settings(meter: Meter, data: bytes) -> Written:
    if len(data) != _SETTINGS_BYTES:
        return No.VALUE
    if data[53] and not data[54:60].hex().isdigit():
        return No.VALUE
    meter.set_account(
        _new_account(meter.account, data),
        remaining_fen=int.from_bytes(data[3:7], "big", signed=True) if data[2] else None,
        purchase_count=_u16(data, 8) if data[7] else None,
        total_purchased_fen=_u32(data, 11) if data[10] else None,
    )
    if data[53]:
        meter.number = data[54:60].hex()
    return None


def _new_account(account: Account, data: bytes) -> Account:
    """The settings with the enabled groups replaced; offsets as in spec acrel.md 3.2."""
    if data[0]:
        account = replace(account, prepaid=bool(data[1]))
    if data[15]:
        account = replace(account, base_amount_fen=_u32(data, 16))
    if data[20]:
        account = replace(account, alarm_1_fen=_u32(data, 21), alarm_2_fen=_u32(data, 25))
    if data[29]:
        prices = (_u32(data, 30), _u32(data, 34), _u32(data, 38), _u32(data, 42))
        account = replace(account, prices_fen_per_kwh=prices)
    if data[46]:
        account = replace(account, overdraft_fen=_u32(data, 47))
    if data[51]:
        account = replace(account, recover_s=data[52])
    return account


def _load_control(meter: Meter, data: bytes) -> Written:
    if len(data) != _LOAD_BYTES:
        return No.VALUE
    limit: LoadLimit = meter.load_limit
    if data[0]:
        limit = replace(limit, on=bool(data[1]))
    if data[2]:
        limit = replace(
            limit, max_w=_u16(data, 3), step_w=_u16(data, 5), power_factor_permille=_u16(data, 7)
        )
    if data[9]:
        limit = replace(limit, recover_s=10 * data[10])
    if data[11]:
        limit = replace(limit, trips_allowed=_u16(data, 12))
    meter.set_load_limit(limit, trips=_u16(data, 15) if data[14] else None)
    return None


def _load_counts(meter: Meter, data: bytes) -> Written:
    """Pairs of enable and count for L1, L2, L3 and all; this meter has one counter."""
    if len(data) != _LOAD_COUNT_BYTES:
        return No.VALUE
    for at in range(0, _LOAD_COUNT_BYTES, 2):
        if data[at]:
            meter.set_load_limit(meter.load_limit, trips=data[at + 1])
    return None


def _forced_by_phase(meter: Meter, data: bytes) -> Written:
    """Enable, force, state for L1, L2, L3. Here state 1 opens, as the maker's tool labels it; the
    real polarity is not proven (spec acrel.md 3.2). All phases of this meter share one relay."""
    if len(data) < _FORCED_BYTES_MIN:
        return No.VALUE
    for at in range(0, _FORCED_BYTES_MIN, 3):
        enable, force, state = data[at : at + 3]
        if not enable:
            continue
        if not force:
            meter.force(Forced.RELEASED)
        else:
            meter.force(Forced.OPEN if state else Forced.CLOSED)
    return None


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
