"""The live block 0x0200 that all Acrel prepaid meters show (spec acrel.md 2.4), as bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable

from simulators.dial import dial_datetime
from simulators.metering import W_MS_PER_WH, Forced, Look, Phase
from simulators.tariff import Rate

LIVE_START = 0x0200
LIVE_WORDS = 48  # 0x60 bytes
LIVE_WORDS_8_RATES = 72  # 0x90 bytes, newer firmware

_DEEP_VALLEY_AT = 96  # byte offset in the long block
_U32_MAX = (1 << 32) - 1
_W_MS_PER_REGISTER = 10 * W_MS_PER_WH  # registers count 0.01 kWh


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


def i16(value: int) -> bytes:
    return struct.pack(">h", value)


def u32(value: int) -> bytes:
    return struct.pack(">I", value & _U32_MAX)


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def energy_u32(w_ms: int) -> bytes:
    """Energy as the registers count it: whole 0.01 kWh."""
    return u32(w_ms // _W_MS_PER_REGISTER)


def rates_u32(energy_w_ms: tuple[int, ...]) -> bytes:
    """The four classic rates: sharp, peak, flat, valley."""
    return b"".join(energy_u32(energy_w_ms[rate - 1]) for rate in list(Rate)[:4])


def week_byte(dial_ms: int) -> int:
    """Day of the week as the maker counts it: Sunday 0 (spec acrel.md 3.5)."""
    return dial_datetime(dial_ms).isoweekday() % 7


def live_block(
    look: Look,
    *,
    type_code: int,
    pt: int = 1,
    ct: int = 1,
    tail: bytes = b"\0\0",
) -> bytes:
    """The 96 bytes; `tail` is size class and three-phase mark on a cabinet."""
    head = (
        u16(type_code)
        + _electrical(look.phases)
        + u16(pt)
        + u16(ct)
        + energy_u32(look.total_w_ms)
        + rates_u32(look.energy_w_ms)
        + i32(look.remaining_fen)
        + u16(look.purchase_count)
        + u16(look.load_trips)
        + u16(look.load_limit.trips_allowed)
        + _states(look)
        + u32(look.account.base_amount_fen)
    )
    dial = dial_datetime(look.dial_ms)
    clock = bytes((dial.year % 100, dial.month, dial.day, week_byte(look.dial_ms)))
    clock += bytes((dial.hour, dial.minute, dial.second))
    block = head + clock + _demand(look) + b"\0" + tail
    assert len(block) == 2 * LIVE_WORDS
    return block


def live_block_8_rates(look: Look, *, type_code: int, pt: int = 1, ct: int = 1) -> bytes:
    """The 144 bytes of newer firmware: the clock has no weekday, deep valley stands at 96."""
    short = live_block(look, type_code=type_code, pt=pt, ct=ct)
    dial = dial_datetime(look.dial_ms)
    clock = (dial.year % 100, dial.month, dial.day, dial.hour, dial.minute, dial.second)
    block = short[:80] + bytes(clock) + bytes(_DEEP_VALLEY_AT - 86)
    block += energy_u32(look.energy_w_ms[Rate.DEEP_VALLEY - 1])
    return block.ljust(2 * LIVE_WORDS_8_RATES, b"\0")


def _electrical(phases: tuple[Phase, Phase, Phase]) -> bytes:
    """Data offsets 2 to 37: each quantity by phase, power also in total."""
    power_w = sum(p.power_w for p in phases)
    factors = [p.power_factor_permille for p in phases]
    # The total's factor: all phases of a simulated load share one.
    factor = next((p.power_factor_permille for p in phases if p.power_w), factors[0])
    return (
        b"".join(u16(p.voltage_dv) for p in phases)
        + b"".join(u16(p.current_ca) for p in phases)
        + b"".join(i16(p.power_w) for p in phases)
        + i16(power_w)
        + b"".join(i16(p.reactive_var) for p in phases)
        + i16(sum(p.reactive_var for p in phases))
        + b"".join(i16(f) for f in factors)
        + i16(factor)
    )


def _states(look: Look) -> bytes:
    """Data offsets 72 to 75: relay, alarms and controls."""
    wired = [index for index, p in enumerate(look.phases) if p.voltage_dv]
    phase_bits = sum(1 << index for index in wired)
    forced_open = phase_bits if look.forced is Forced.OPEN else 0
    alarms = (
        forced_open
        | (look.forced is not Forced.RELEASED) << 3
        | look.load_open << 4
        | (look.account.prepaid and look.remaining_fen <= 0) << 5
        | (look.account.prepaid and look.remaining_fen <= look.account.alarm_1_fen) << 6
        | (look.account.prepaid and look.remaining_fen <= look.account.alarm_2_fen) << 7
    )
    relay = phase_bits << 5 if look.relay_closed else 0
    load = (phase_bits if look.load_open else 0) | look.load_limit.on << 3
    prepaid = (phase_bits if look.prepaid_open else 0) | look.account.prepaid << 3
    return bytes((relay, alarms, load, prepaid))


def _demand(look: Look) -> bytes:
    """Data offsets 87 to 92: highest demand in W, then minute, hour, day, month of it."""
    at = dial_datetime(look.demand_dial_ms)
    return u16(min(look.demand_w, 0xFFFF)) + bytes((at.minute, at.hour, at.day, at.month))


def make_live(type_code: int, *, eight_rates: bool, ct: int = 1) -> Callable[[Look], bytes]:
    """The block of one meter as a function of its look."""
    if eight_rates:
        return lambda look: live_block_8_rates(look, type_code=type_code, ct=ct)
    return lambda look: live_block(look, type_code=type_code, ct=ct)
