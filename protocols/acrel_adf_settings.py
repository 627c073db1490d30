"""Settings of an ADF circuit by register, as its manual has them (spec acrel.md 2.10 to 2.12)."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.acrel_controls import Tables
from protocols.acrel_settings import Block
from protocols.acrel_tables import rest_day_bits, switch_points_bytes, words_of
from protocols.acrel_write import Prepaid, has_time_tables, reset_load_trips
from protocols.exchange import Request
from protocols.modbus import write_registers
from protocols.settings import RECOVER_STEP_S, LoadControl, ResetLoadTrips, TimeControl

TABLES = Tables(day_tables=(0x0914, 0x0929), date_plan=0x093E)  # of the cabinet, at its base unit

# From the prepaid switch on.
PRICES_AT, ALARMS_AT = 1, 9

TIME_AT, TIME_WORDS = 0x0600, 26  # switch, two tables of 12 registers, rest days
LOAD_AT, LOAD_WORDS = 0x0700, 8
TRIPS_AT, ALLOWED_AT = 4, 5  # registers from LOAD_AT on; ALLOWED is followed by the recover time


def register_requests(unit: int, switch_at: int, groups: Prepaid) -> tuple[Request, ...]:
    """The write of one setting the manual has a register for; none when there is no such register.

    An account is opened in one frame or not at all: torn writes would leave half of one.
    """
    by_register = (
        (0, Prepaid(switch=groups.switch), _words16(groups.switch)),
        (PRICES_AT, Prepaid(prices=groups.prices), _words32(groups.prices or ())),
        (ALARMS_AT, Prepaid(alarms=groups.alarms), _words32(groups.alarms or ())),
    )
    for offset, alone, words in by_register:
        if words and groups == alone:
            return (write_registers(unit, switch_at + offset, words),)
    return ()


def controls_block(
    unit: int, setting: TimeControl | LoadControl | ResetLoadTrips, *, rest_first: bool
) -> Block:
    """Time and load control of a single-phase circuit."""
    match setting:
        case TimeControl():
            return _time_block(unit, setting, rest_first)
        case LoadControl():
            return _load_block(unit, setting)
        case ResetLoadTrips():
            return Block(
                address=LOAD_AT,
                count=LOAD_WORDS,
                requests=lambda _: (reset_load_trips(unit),),
                shows=lambda payload: not any(payload[2 * TRIPS_AT : 2 * TRIPS_AT + 2]),
            )


def _time_block(unit: int, setting: TimeControl, rest_first: bool) -> Block:
    tables = [
        switch_points_bytes(setting.rest_points),
        switch_points_bytes(setting.working_points),
    ]
    if not rest_first:
        tables.reverse()
    switch = int(setting.on).to_bytes(2, "big")
    data = switch + b"".join(tables) + rest_day_bits(setting.rest_days).to_bytes(2, "big")
    if not has_time_tables(setting):
        data = switch  # its tables stay
    request = write_registers(unit, TIME_AT, words_of(data))
    return Block(
        address=TIME_AT,
        count=TIME_WORDS,
        requests=lambda _: (request,),
        shows=lambda payload: payload.startswith(data),
    )


def _load_block(unit: int, setting: LoadControl) -> Block:
    limits = (
        int(setting.on),
        setting.power_w_max,
        setting.power_step_w_max,
        setting.power_factor_permille,
    )
    then = (setting.trips_allowed, setting.recover_s // RECOVER_STEP_S)

    def shows(payload: bytes) -> bool:
        words = words_of(payload)
        return words[:4] == limits and words[ALLOWED_AT : ALLOWED_AT + 2] == then

    return Block(
        address=LOAD_AT,
        count=LOAD_WORDS,
        # In two writes: between them lies the count of trips, which is the meter's own.
        requests=lambda _: (
            write_registers(unit, LOAD_AT + ALLOWED_AT, then),
            write_registers(unit, LOAD_AT, limits),
        ),
        shows=shows,
    )


def _words16(value: bool | None) -> tuple[int, ...]:
    return () if value is None else (int(value),)


def _words32(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(word for value in values for word in (value >> 16, value & 0xFFFF))
