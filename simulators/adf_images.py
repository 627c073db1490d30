"""What the registers of a cabinet circuit show (spec acrel.md 2.10, 2.11), as bytes."""

from __future__ import annotations

from simulators.acrel_live import energy_u32, i16, i32, rates_u32, u16, u32
from simulators.dial import dial_datetime
from simulators.metering import Look, Phase

FREQUENCY_CHZ = 5000  # 50.00 Hz
_RECORD_BYTES = 20


def single_phase_values(look: Look, phase: Phase) -> bytes:
    """0300 to 0320. A phase of a three-phase user shows the user's own energy and money."""
    energy = energy_u32(look.total_w_ms)
    image = (
        u16(phase.voltage_dv)
        + u16(phase.current_ca)
        + i16(phase.power_w)
        + i16(phase.reactive_var)
        + i16(phase.power_factor_permille)
        + u16(FREQUENCY_CHZ)
        + energy
        + u32(0)  # 0308 reactive energy
        + i32(look.remaining_fen)  # 030A
        + u32(look.total_purchased_fen)  # 030C
        + u16(look.purchase_count)  # 030E
        + u32(look.account.base_amount_fen)  # 030F
        + u16(_status_word(look))  # 0311
        + i32(look.account.base_amount_fen)  # 0312
        + u16(0)  # 0314: not described
        + u32(look.account.overdraft_fen)  # 0315
        + u16(look.account.recover_s)  # 0317
        + u16(look.account.recover_s)  # 0318
        + energy  # 0319 forward
        + u32(0) * 3  # 031B reverse, 031D and 031F reactive
    )
    assert len(image) == 2 * 33
    return image


def three_phase_values(look: Look) -> bytes:
    """033F to 0396: everything of a three-phase user."""
    phases = look.phases
    share = [_phase_energy(look, index) for index in range(3)]
    image = (
        b"".join(u16(p.voltage_dv) for p in phases)
        + b"".join(u16(p.current_ca) for p in phases)
        + i16(sum(p.power_w for p in phases))  # 0345
        + b"".join(i16(p.power_w) for p in phases)
        + i16(sum(p.reactive_var for p in phases))  # 0349
        + b"".join(i16(p.reactive_var) for p in phases)
        + i16(max(p.power_factor_permille for p in phases))  # 034D
        + b"".join(i16(p.power_factor_permille) for p in phases)
        + u16(FREQUENCY_CHZ)  # 0351
        + b"".join(energy_u32(e) for e in share)  # 0352
        + u32(0) * 3  # 0358 phase kvarh
        + energy_u32(look.total_w_ms)  # 035E
        + u32(0)  # 0360
        + i32(look.remaining_fen)  # 0362
        + u32(look.total_purchased_fen)  # 0364
        + u16(look.purchase_count)  # 0366
        + u32(look.account.base_amount_fen)  # 0367
        + u16(_status_word(look))  # 0369
        + i32(look.account.base_amount_fen)  # 036A
        + u16(0)  # 036C: not described
        + u32(look.account.overdraft_fen)  # 036D
        + u16(look.account.recover_s)  # 036F
        + u16(look.account.recover_s)  # 0370
        + b"".join(u16(_line_voltage_dv(p)) for p in phases)  # 0371
        + u16(0) * 3  # 0374 neutral current, unbalance
    )
    image += b"".join(energy_u32(e) + u32(0) for e in share)  # 0377 phase forward, reverse
    image += u32(0) * 6  # 0383 phase kvarh
    image += energy_u32(look.total_w_ms) + u32(0) * 3  # 038F forward, 0391 reverse, 0393, 0395
    assert len(image) == 2 * 88
    return image


def prepaid_registers(look: Look) -> bytes:
    """0500 to 0512; the three-phase copy at 0536 ends one register earlier."""
    account = look.account
    return (
        u16(account.prepaid)
        + b"".join(u32(price) for price in account.prices_fen_per_kwh)
        + u32(account.alarm_1_fen)
        + u32(account.alarm_2_fen)
        + u32(look.recharges[0].amount_fen if look.recharges else 0)  # 050D last purchase
        + u16(look.purchase_count)  # 050F
        + u32(account.base_amount_fen)  # 0510
        + u16(account.prepaid)  # 0512, listed again
    )


def month_record(look: Look, index: int) -> bytes:
    """1A00+index, newest first: YY MM DD hh, then energy by rate. Never written: zeros."""
    if index >= len(look.month_ends):
        return bytes(_RECORD_BYTES)
    month = look.month_ends[index]
    at = dial_datetime(month.dial_ms)
    stamp = bytes((at.year % 100, at.month, at.day, at.hour))
    return stamp + rates_u32(month.energy_w_ms)


def recharge_record(look: Look, index: int) -> bytes:
    """1B00+index, newest first: YY MM DD hh mm ss, count, amount, remaining, total energy."""
    if index >= len(look.recharges):
        return bytes(_RECORD_BYTES)
    entry = look.recharges[index]
    at = dial_datetime(entry.dial_ms)
    stamp = bytes((at.year % 100, at.month, at.day, at.hour, at.minute, at.second))
    return (
        stamp
        + u16(entry.purchase_count)
        + u32(entry.amount_fen)
        + i32(entry.remaining_fen)
        + energy_u32(entry.energy_w_ms)
    )


def _status_word(look: Look) -> int:
    """0311 and 0369: bits are not published; 0x0300 was seen while energised."""
    return 0x0300 if look.relay_closed else 0


def _phase_energy(look: Look, index: int) -> int:
    """A phase's share of the energy; the last takes what rounding leaves."""
    thirds = look.total_w_ms // 3
    return thirds if index < 2 else look.total_w_ms - 2 * thirds


def _line_voltage_dv(phase: Phase) -> int:
    return phase.voltage_dv * 1732 // 1000
