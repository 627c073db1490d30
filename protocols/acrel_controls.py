"""Tables, time control and load control of DDSY1352 and DTSY1352 (spec acrel.md 2.5, 2.6, 3.2).

Time and load control lie in one block each: a switch word, then one group of registers a phase.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.acrel_settings import Block, BlockSetting
from protocols.acrel_tables import (
    DATE_PLAN_WORDS,
    DAY_TABLE_WORDS,
    SWITCH_POINTS_BYTES,
    date_plan_bytes,
    day_table_bytes,
    rest_day_bits,
    switch_points_bytes,
    words_of,
)
from protocols.acrel_write import has_time_tables, load_control, reset_load_trips, time_control
from protocols.modbus import write_registers
from protocols.settings import (
    RECOVER_STEP_S,
    DatePlan,
    DayTable,
    LoadControl,
    ResetLoadTrips,
    TimeControl,
)

TIME_AT = 0x0420
TIME_WORDS_OF_PHASE = 26
LOAD_AT = 0x0480
LOAD_WORDS_OF_PHASE = 6
# A three-phase meter's switch word: L1, L2, L3, and one bit for all.
PHASE_BITS, ALL_PHASES_BIT = 0b0111, 0b1000


@dataclass(frozen=True, slots=True)
class Tables:
    """Where a model keeps its tariff tables."""

    day_tables: tuple[int, int]
    date_plan: int


def tariff_block(unit: int, tables: Tables, setting: DayTable | DatePlan, order: str) -> Block:
    """A day table or the date plan, written and proved as a whole."""
    if isinstance(setting, DayTable):
        address, words = tables.day_tables[setting.number - 1], DAY_TABLE_WORDS
        data = day_table_bytes(setting)
    else:
        address, words = tables.date_plan, DATE_PLAN_WORDS
        data = date_plan_bytes(setting, order)
    request = write_registers(unit, address, words_of(data))
    return Block(
        address=address,
        count=words,
        requests=lambda _: (request,),
        shows=lambda payload: payload == data,
    )


def direct_block(
    unit: int, phases: int, tables: Tables, setting: BlockSetting, order: str
) -> Block:
    """How a DDSY1352 or DTSY1352 takes and shows a setting. All phases get the same."""
    match setting:
        case DayTable() | DatePlan():
            return tariff_block(unit, tables, setting, order)
        case TimeControl():
            return _time_block(unit, phases, setting)
        case LoadControl():
            return _load_block(unit, phases, setting)
        case ResetLoadTrips():
            return Block(
                address=LOAD_AT,
                count=1 + LOAD_WORDS_OF_PHASE * phases,
                requests=lambda _: (reset_load_trips(unit),),
                shows=lambda payload: (
                    not any(any(group[6:8]) for group in _groups(payload, LOAD_WORDS_OF_PHASE))
                ),
            )


def _time_block(unit: int, phases: int, setting: TimeControl) -> Block:
    points = switch_points_bytes(setting.rest_points) + switch_points_bytes(setting.working_points)
    days = rest_day_bits(setting.rest_days)

    def shows(payload: bytes) -> bool:
        tables = all(
            group[1] == days and group[4 : 4 + 2 * SWITCH_POINTS_BYTES] == points
            for group in _groups(payload, TIME_WORDS_OF_PHASE)
        )
        wanted = tables or not has_time_tables(setting)
        return wanted and _switched(payload, phases, setting.on)

    return Block(
        address=TIME_AT,
        count=1 + TIME_WORDS_OF_PHASE * phases,
        requests=lambda payload: tuple(
            time_control(unit, phase, setting, group[2:4])
            for phase, group in enumerate(_groups(payload, TIME_WORDS_OF_PHASE), start=1)
        ),
        shows=shows,
    )


def _load_block(unit: int, phases: int, setting: LoadControl) -> Block:
    limits = _u16(setting.power_w_max, setting.power_step_w_max, setting.power_factor_permille)
    allowed, recover = _u16(setting.trips_allowed), setting.recover_s // RECOVER_STEP_S

    def shows(payload: bytes) -> bool:
        groups = all(
            (group[0:6], group[8:10], group[10]) == (limits, allowed, recover)
            for group in _groups(payload, LOAD_WORDS_OF_PHASE)
        )
        return groups and _switched(payload, phases, setting.on)

    return Block(
        address=LOAD_AT,
        count=1 + LOAD_WORDS_OF_PHASE * phases,
        requests=lambda _: tuple(
            load_control(unit, phase, setting) for phase in range(1, phases + 1)
        ),
        shows=shows,
    )


def _groups(payload: bytes, words: int) -> list[bytes]:
    """The registers of each phase, behind the switch word."""
    return [payload[at : at + 2 * words] for at in range(2, len(payload), 2 * words)]


def _switched(payload: bytes, phases: int, on: bool) -> bool:
    word = int.from_bytes(payload[:2], "big")
    if not on:
        return word == 0
    if phases == 1:
        return word != 0
    return word & PHASE_BITS == PHASE_BITS or bool(word & ALL_PHASES_BIT)


def _u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)
