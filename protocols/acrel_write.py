"""Acrel's masked writes, function 0x20: frames and their answers (spec acrel.md 3.1, 3.2).

The frame looks like function 16, but inside the data each group follows an enable byte: 1 applies
it, 0 leaves what the meter has. The contents of the answer are not published, so no answer proves
anything: after every write the quantity is read back.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime

from protocols.acrel_tables import rest_day_bits, switch_points_bytes
from protocols.exchange import Effect, NotReady, ProtocolError, Request
from protocols.modbus import make_request, write_registers
from protocols.numbers import CENTURY
from protocols.settings import RECOVER_STEP_S, LoadControl, TimeControl

MASKED_WRITE = 0x20
REPLY_BYTES = 15
ALL_CIRCUITS = 0xFF  # low byte of the register: every circuit of an ADF cabinet (spec 2.9)
BOARD_FAILED = 2  # in the answer to such a write, one byte for each board

PURCHASE_AT = 0x0100
SETTINGS_AT = 0x0200
TIME_CONTROL_AT = (0x0300, 0x031C, 0x0338)  # L1, L2, L3
CLOCK_AT = 0x0354
LOAD_CONTROL_AT = (0x0400, 0x040D, 0x041A)
LOAD_TRIPS_AT = 0x0410
FORCED_BY_PHASE_AT = 0x0500
# Money to a whole cabinet at once could never be proved for each circuit: never sent.
MONEY_PAGES = frozenset({PURCHASE_AT >> 8, SETTINGS_AT >> 8})

FORCED_AT = 0x0057  # DDSY and DTSY: enable, then 1 = open, 0 = close; function 16 (spec 3.4)
TRIP_WORDS = (1, 1)
CLOSE_WORDS = (1, 0)
RELEASE_WORDS = (0, 0)


AMOUNT_STEPS_MAX = 0xFFFF_FFFE  # a 32-bit register, and all ones mean "not available"


class MoneyToAll(ProtocolError):
    """Money was about to be written to all circuits of a cabinet: a fault in this program."""


def masked_write(
    unit: int, address: int, data: bytes, *, declared_bytes: int | None = None, boards: int = 0
) -> Request:
    """One masked write. The reply's payload is what stands between function code and checksum.

    `declared_bytes`: what the header says, where the maker's tool says something else than it
    sends. `boards`: of a write to all circuits, the sub-boards that answer (12, 8 or 4); see
    failed_boards(). Raises MoneyToAll.
    """
    declared = len(data) if declared_bytes is None else declared_bytes
    assert declared % 2 == 0
    to_all = address & 0xFF == ALL_CIRCUITS
    assert to_all == bool(boards), "only a write to all circuits is answered by boards"
    if to_all and address >> 8 in MONEY_PAGES:
        raise MoneyToAll(f"a masked write to {address:#06x} is money to a whole cabinet")
    head = bytes((unit, MASKED_WRITE))
    return make_request(
        f"masked write {address:#06x}+{declared // 2} of unit {unit}",
        head + struct.pack(">HHB", address, declared // 2, declared) + data,
        Effect.WRITE,
        head=head,
        size=boards + 5 if to_all else REPLY_BYTES,
        skip=2,
    )


def failed_boards(payload: bytes) -> tuple[int, ...]:
    """Which boards, counted from 0, did not take a write to all circuits.

    `payload` is a length byte and one byte for each board.
    """
    return tuple(at for at, state in enumerate(payload[1:]) if state == BOARD_FAILED)


def steps_of(amount_fen: int, step_fen: int, what: str) -> int:
    """An amount as the meter counts it. Raises NotReady for one its registers cannot hold."""
    steps, rest = divmod(amount_fen, step_fen)
    if rest:
        raise NotReady(
            f"{what} of {amount_fen} fen does not fit a meter that counts in steps of {step_fen} "
            f"fen; choose a multiple"
        )
    if not 0 <= steps <= AMOUNT_STEPS_MAX:
        raise NotReady(f"{what} of {amount_fen} fen does not fit the meter's register; lower it")
    return steps


def purchase(unit: int, amount_steps: int, count: int) -> Request:
    """A purchase: the amount in steps of the meter's money registers, and the new count."""
    return masked_write(unit, PURCHASE_AT, struct.pack(">IHH", amount_steps, count, 0))


def purchase_registers(unit: int, address: int, amount_steps: int, count: int) -> Request:
    """The same by function 16, at 0x050D or 0x0543 of an ADF user (spec 3.3: never seen used)."""
    return write_registers(unit, address, (amount_steps >> 16, amount_steps & 0xFFFF, count))


def forced_by_phase(unit: int, phases: int, *, force: bool, state: int) -> Request:
    """Forced control of an ADF user. Which state opens is not proven (spec 3.2).

    Sent as the maker's tool sends it: eleven bytes of data, of which the header declares ten.
    """
    one = bytes((1, force, state))
    data = (one * phases).ljust(11, b"\0")
    return masked_write(unit, FORCED_BY_PHASE_AT, data, declared_bytes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepaid:
    """Groups of the prepaid settings, in money steps; None leaves what the meter has."""

    switch: bool | None = None
    remaining: int | None = None
    purchase_count: int | None = None
    total_purchased: int | None = None
    base_amount: int | None = None
    alarms: tuple[int, int] | None = None
    prices: tuple[int, int, int, int] | None = None
    overdraft: int | None = None
    meter_number: str | None = None

    def data(self) -> bytes:
        """The 60 bytes of data (spec 3.2)."""
        return b"".join(
            (
                _group(1, None if self.switch is None else (int(self.switch),)),
                _group(4, _one(self.remaining)),
                _group(2, _one(self.purchase_count)),
                _group(4, _one(self.total_purchased)),
                _group(4, _one(self.base_amount)),
                _group(4, self.alarms, values=2),
                _group(4, self.prices, values=4),
                _group(4, _one(self.overdraft)),
                _group(1, None),  # one byte of unproven meaning: left as it is
                _group(6, _one(None if self.meter_number is None else int(self.meter_number, 16))),
            )
        )


def prepaid_settings(unit: int, groups: Prepaid) -> Request:
    """Prepaid settings: the given groups are applied in one frame."""
    return masked_write(unit, SETTINGS_AT, groups.data())


def clock(unit: int, dial: datetime) -> Request:
    """The meter's dial. The weekday counts from Sunday 0 (spec 3.5)."""
    return masked_write(unit, CLOCK_AT, clock_bytes(dial).ljust(10, b"\0"))


def clock_bytes(dial: datetime) -> bytes:
    """Second, minute, hour, weekday, day, month, year."""
    assert dial.tzinfo is None, "a dial has no time zone"
    assert CENTURY <= dial.year < CENTURY + 100
    week, year = dial.isoweekday() % 7, dial.year - CENTURY
    return bytes((dial.second, dial.minute, dial.hour, week, dial.day, dial.month, year))


def time_control(unit: int, phase: int, setting: TimeControl, unknown: bytes) -> Request:
    """Time control of one phase, 1 to 3. Switched off without points, its tables stay.

    `unknown`: two bytes nobody can name, as the meter shows them, to be kept.
    """
    assert len(unknown) == 2
    tables = has_time_tables(setting)
    data = (
        bytes((1, setting.on, tables, 0, rest_day_bits(setting.rest_days)))
        + unknown
        + bytes((tables,))
        + switch_points_bytes(setting.rest_points)
        + switch_points_bytes(setting.working_points)
    )
    return masked_write(unit, TIME_CONTROL_AT[phase - 1], data)


def has_time_tables(setting: TimeControl) -> bool:
    """Whether this setting says anything about days and hours."""
    return bool(setting.on or setting.rest_days or setting.rest_points or setting.working_points)


def load_control(unit: int, phase: int, setting: LoadControl) -> Request:
    """Load control of one phase, 1 to 3. The trips so far and the last byte stay as they are."""
    data = (
        struct.pack(
            ">BBBHHH",
            1,
            setting.on,
            1,
            setting.power_w_max,
            setting.power_step_w_max,
            setting.power_factor_permille,
        )
        + bytes((1, setting.recover_s // RECOVER_STEP_S, 1))
        + setting.trips_allowed.to_bytes(2, "big")
    )
    return masked_write(unit, LOAD_CONTROL_AT[phase - 1], data.ljust(26, b"\0"))


def reset_load_trips(unit: int) -> Request:
    """The trip counters of all phases to zero: pairs of enable and count for L1, L2, L3, all."""
    return masked_write(unit, LOAD_TRIPS_AT, bytes((0, 0, 0, 0, 0, 0, 1, 0)))


def _one(value: int | None) -> tuple[int, ...] | None:
    return None if value is None else (value,)


def _group(size: int, data: tuple[int, ...] | None, *, values: int = 1) -> bytes:
    """An enable byte and so many values; zeros all over for a group that is left alone."""
    if data is None:
        return bytes(1 + size * values)
    assert len(data) == values
    return b"\x01" + b"".join(value.to_bytes(size, "big") for value in data)
