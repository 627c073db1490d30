"""Acrel's masked writes, function 0x20: frames and their answers (spec acrel.md 3.1, 3.2).

The frame looks like function 16, but inside the data each group follows an enable byte: 1 applies
it, 0 leaves what the meter has. The contents of the answer are not published, so no answer proves
anything: after every write the quantity is read back.
"""

from __future__ import annotations

import struct

from protocols.exchange import Effect, ProtocolError, Request
from protocols.modbus import make_request, write_registers

MASKED_WRITE = 0x20
REPLY_BYTES = 15
ALL_CIRCUITS = 0xFF  # low byte of the register: every circuit of an ADF cabinet (spec 2.9)
BOARD_FAILED = 2  # in the answer to such a write, one byte for each board

PURCHASE_AT = 0x0100
SETTINGS_AT = 0x0200
CLOCK_AT = 0x0354
FORCED_BY_PHASE_AT = 0x0500
# Money to a whole cabinet at once could never be proved for each circuit: never sent.
MONEY_PAGES = frozenset({PURCHASE_AT >> 8, SETTINGS_AT >> 8})

FORCED_AT = 0x0057  # DDSY and DTSY: enable, then 1 = open, 0 = close; function 16 (spec 3.4)
TRIP_WORDS = (1, 1)
CLOSE_WORDS = (1, 0)
RELEASE_WORDS = (0, 0)


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
