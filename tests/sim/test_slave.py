"""Registers and functions as a slave answers them, against published frames."""

from __future__ import annotations

import struct
from datetime import datetime

import pytest

from simulators import rtu
from simulators.acrel_live import live_block, live_block_8_rates
from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, acrel_unit
from simulators.adf_cabinet import CabinetPlan, UserKind, cabinet_units
from simulators.dial import dial_ms_of
from simulators.load import HOUR_MS, Load
from simulators.metering import (
    W_MS_PER_WH,
    Account,
    CountRule,
    Forced,
    LoadLimit,
    Look,
    Meter,
    Phase,
)
from simulators.modbus_meter import Bus
from tests.sim.helpers import HandClock, meter, read, registers

# The live block of a DDSY1352 as constructed from the maker's own tool: spec acrel.md 2.4.
LIVE_VECTOR = bytes.fromhex(
    "010360000709000000000004d2000000000af5000000000af5013800000000013803e20000000003e200010001"
    "0012d687000493e000061a8000051ae700030d4000002298000c00000003200000080000000019030e050a141e"
    "000000000000000000df70"
)
PURCHASE_100_YUAN_COUNT_13 = bytes.fromhex("0120010000040800002710000d0000d21c")
FORCED_OPEN = bytes.fromhex("01100057000204000100012775")
FORCED_CLOSE = bytes.fromhex("0110005700020400010000e6b5")
FORCED_RELEASE = bytes.fromhex("0110005700020400000000b775")
FORCED_ACK = bytes.fromhex("011000570002f018")
SET_CLOCK = bytes.fromhex("0120035400050a1e140a050e03190000000b14")
OPEN_ACCOUNT = bytes.fromhex(
    "01200200001e3c010101000000000100000100000000010000000001000007d0000001f401000000780000005f"
    "000000410000002301000000000000010123072100851ec0"
)
LOAD_CONTROL = bytes.fromhex(
    "01200400000d1a01010113880bb803840106010003000000000000000000000000d83f"
)
# The maker's tool declares 10 data bytes here and sends 11.
FORCED_L1_BY_TOOL = bytes.fromhex("0120050000050a0101010000000000000000b635")
ADF_TOP_UP = bytes.fromhex("1910050d0003060000271000044ddc")
ADF_PRICES = bytes.fromhex("0d100537000810000000150000001500000012000000155047")


def ddsy(clock: HandClock, firmware: Firmware | None = None, **kept: int) -> tuple[Meter, Bus]:
    it = meter(clock, **kept)  # type: ignore[arg-type]
    return it, Bus({1: acrel_unit(DDSY1352, it, 1, firmware)})


def test_the_live_block_is_the_published_one() -> None:
    kwh = 1000 * W_MS_PER_WH
    look = Look(
        meter_number="012307210085",
        phases=(
            Phase(
                voltage_dv=2304,
                current_ca=1234,
                power_w=2805,
                reactive_var=312,
                power_factor_permille=994,
            ),
            Phase(),
            Phase(),
        ),
        energy_w_ms=(3000 * kwh, 4000 * kwh, 334567 * kwh // 100, 2000 * kwh, 0),
        remaining_fen=8856,
        purchase_count=12,
        total_purchased_fen=0,
        account=Account(alarm_1_fen=2000),
        load_limit=LoadLimit(trips_allowed=3),
        load_trips=0,
        relay_closed=True,
        prepaid_open=False,
        load_open=False,
        forced=Forced.RELEASED,
        dial_ms=dial_ms_of(datetime(2025, 3, 14, 10, 20, 30)),  # noqa: DTZ001
    )
    block = live_block(look, type_code=7)
    want = LIVE_VECTOR[3:-2]
    # The vector shows no demand at all; a meter without one still has a date of zero.
    assert block[:87] == want[:87]
    assert block[93:] == want[93:]
    long = live_block_8_rates(look, type_code=7)
    assert len(long) == 0x90
    assert long[:80] == block[:80]
    assert long[80:86] == bytes((25, 3, 14, 10, 20, 30)), "no weekday in the long block"


def test_reads_agree_with_each_other_and_with_the_meter() -> None:
    clock = HandClock()
    it, bus = ddsy(clock, credit_fen=70_000, count=9)
    clock.at_ms += 50 * HOUR_MS
    live = registers(bus.answer(read(1, 0x0200, 48)))
    prepaid = registers(bus.answer(read(1, 0x0400, 25)))
    low = registers(bus.answer(read(1, 0x0000, 10)))
    assert live[42:62] == low, "total and four rates stand in both places"
    assert struct.unpack_from(">i", live, 62) == struct.unpack_from(">i", prepaid, 40)
    assert struct.unpack_from(">i", prepaid, 40) == (it.remaining_fen,)
    assert struct.unpack_from(">H", live, 66) == (9,)
    assert registers(bus.answer(read(1, 0x0043, 3))).hex() == it.number
    assert registers(bus.answer(read(1, 0x0362, 3))).hex() == it.number


def test_three_phases_show_their_share() -> None:
    clock = HandClock()
    load = Load(seed=3, peak_w=9_000, phase_share_permille=(500, 300, 200))
    it = meter(clock, load, phases=3)
    live = registers(Bus({7: acrel_unit(DTSY1352, it, 7)}).answer(read(7, 0x0200, 48)))
    assert live[:2] == b"\0\5"
    l1, l2, l3, total = struct.unpack_from(">4h", live, 14)
    assert l1 > l2 > l3 > 0
    assert total == l1 + l2 + l3
    assert live[72] & 0xE0 == 0xE0, "all three relays closed"


@pytest.mark.parametrize(
    ("register", "words", "code"),
    [
        (0x0012, 1, 2),  # a hole
        (0x000F, 4, 2),  # runs into one
        (0x0200, 49, 2),  # one more than there is
        (0x0200, 0, 3),
        (0x0200, 126, 3),
        (0x5030, 2, 2),  # deep valley is not in this firmware
    ],
)
def test_refused_reads(register: int, words: int, code: int) -> None:
    _, bus = ddsy(HandClock())
    assert bus.answer(read(1, register, words)) == rtu.sealed(bytes((1, 0x83, code)))


def test_limits_of_firmware() -> None:
    _, bus = ddsy(HandClock(), Firmware(eight_rates=True, read_words_max=80))
    assert len(registers(bus.answer(read(1, 0x0200, 72)))) == 0x90
    assert len(registers(bus.answer(read(1, 0x5030, 2)))) == 4
    assert bus.answer(read(1, 0x0400, 81)) == rtu.sealed(b"\x01\x83\x03")


def test_silence_and_unknown_functions() -> None:
    _, bus = ddsy(HandClock())
    assert bus.answer(read(2, 0x0200, 48)) is None
    assert bus.answer(read(0, 0x0200, 48)) is None
    spoilt = bytearray(read(1, 0x0200, 48))
    spoilt[3] ^= 1
    assert bus.answer(bytes(spoilt)) is None
    factory = rtu.sealed(bytes((1, 0xAA)) + bytes(6))
    assert bus.answer(factory) == rtu.sealed(b"\x01\xaa\x01")
    assert bus.answer(bytes.fromhex("0111fedcba987654321006e5")) is not None


def test_forced_control_by_register() -> None:
    it, bus = ddsy(HandClock())
    for frame, forced in (
        (FORCED_OPEN, Forced.OPEN),
        (FORCED_CLOSE, Forced.CLOSED),
        (FORCED_RELEASE, Forced.RELEASED),
    ):
        assert bus.answer(frame) == FORCED_ACK
        assert it.forced is forced


def test_a_purchase_is_taken_once() -> None:
    it, bus = ddsy(HandClock(), count=12, credit_fen=8856)
    answer = bus.answer(PURCHASE_100_YUAN_COUNT_13)
    assert answer is not None
    assert len(answer) == 15
    assert rtu.is_sealed(answer)
    assert bus.answer(PURCHASE_100_YUAN_COUNT_13) == answer, "a repeat sounds the same"
    assert [(a.purchase_count, a.amount_fen) for a in it.applied] == [(13, 10_000)]
    assert it.remaining_fen == 18_856


def test_a_meter_that_refuses_a_wrong_count_aloud() -> None:
    it, bus = ddsy(HandClock(), Firmware(refuse_aloud=True), count=20)
    assert bus.answer(PURCHASE_100_YUAN_COUNT_13) == rtu.sealed(b"\x01\xa0\x03")
    assert not it.applied


def test_settings_clock_and_load_control() -> None:
    clock = HandClock()
    it, bus = ddsy(clock, count=5)
    for frame in (OPEN_ACCOUNT, SET_CLOCK, LOAD_CONTROL, FORCED_L1_BY_TOOL):
        assert len(bus.answer(frame) or b"") == 15
    assert it.account.prices_fen_per_kwh == (0x78, 0x5F, 0x41, 0x23)
    assert (it.account.alarm_1_fen, it.account.alarm_2_fen) == (2000, 500)
    assert (it.remaining_fen, it.purchase_count, it.number) == (0, 0, "012307210085")
    assert it.look().dial_ms == dial_ms_of(datetime(2025, 3, 14, 10, 20, 30))  # noqa: DTZ001
    assert it.load_limit == LoadLimit(
        on=True,
        max_w=5_000,
        trips_allowed=3,
        recover_s=60,
        step_w=3_000,
        power_factor_permille=900,
    )
    assert it.forced is Forced.OPEN


def test_a_written_day_table_changes_the_tariff() -> None:
    it, bus = ddsy(HandClock())
    table = bytes((3, 0, 0, 1, 30, 18)).ljust(42, b"\0")  # flat all day, sharp from 18:30
    body = struct.pack(">BBHHB", 1, 0x10, 0x2006, 21, 42) + table
    assert bus.answer(rtu.sealed(body)) is not None
    assert registers(bus.answer(read(1, 0x2006, 21))) == table
    assert it.day_table.encode() == table
    wrong = struct.pack(">BBHHB", 1, 0x10, 0x2006, 21, 42) + bytes((9, 0, 0)).ljust(42, b"\0")
    assert bus.answer(rtu.sealed(wrong)) == rtu.sealed(b"\x01\x90\x03")
    assert it.day_table.encode() == table


def cabinet() -> tuple[dict[int, Meter], Bus]:
    """Base 1: CT users at 1 and 4, three-phase at 7, 10, 13, single-phase from 16 to 36."""
    clock = HandClock()
    plan = CabinetPlan(base_unit=1, ct_users=2, three_phase_users=3, single_phase_users=21)
    load = Load(seed=5, peak_w=6_000, phase_share_permille=(500, 300, 200))
    meters = {
        unit: meter(
            clock,
            Load(seed=unit) if kind is UserKind.SINGLE_PHASE else load,
            phases=1 if kind is UserKind.SINGLE_PHASE else 3,
            credit_fen=1_000 * unit,
            count=3,
            number=f"{unit:012d}",
        )
        for unit, kind in plan.users()
    }
    units = cabinet_units(plan, list(meters.values()), number="241100000042")
    return meters, Bus(units)


def test_a_cabinet_answers_at_every_circuit() -> None:
    meters, bus = cabinet()
    assert list(bus.units) == list(range(1, 37))
    assert list(meters) == [1, 4, 7, 10, 13, *range(16, 37)]
    for unit in bus.units:
        live = registers(bus.answer(read(unit, 0x0200, 48)))
        assert live[:2] == b"\0\x0a"
        assert live[95] == (0 if unit in {1, 4, 7, 10, 13} else 1)


def test_three_phase_users_and_their_views() -> None:
    meters, bus = cabinet()
    values = registers(bus.answer(read(7, 0x033F, 88)))
    powers = struct.unpack_from(">3h", values, 2 * (0x0346 - 0x033F))
    for phase in range(3):
        view = registers(bus.answer(read(7 + phase, 0x0300, 33)))
        assert struct.unpack_from(">h", view, 4) == (powers[phase],)
    look = meters[7].look()
    money = registers(bus.answer(read(7, 0x0362, 5)))
    assert struct.unpack(">iIH", money) == (look.remaining_fen, look.total_purchased_fen, 3)
    assert bus.answer(read(16, 0x0362, 5)) == rtu.sealed(b"\x10\x83\x02")


def test_the_box_tells_how_it_is_wired() -> None:
    _, bus = cabinet()
    assert registers(bus.answer(read(1, 0x0903, 2))) == bytes((0, 3, 0, 21))
    assert registers(bus.answer(read(1, 0x0905, 3))).hex() == "241100000042"
    assert registers(bus.answer(read(1, 0x090F, 2))) == bytes((0, 0, 0, 36))
    assert registers(bus.answer(read(1, 0x0962, 1))) == b"\0\2"
    assert bus.answer(read(2, 0x0903, 2)) == rtu.sealed(b"\x02\x83\x02"), "only the base id"


def test_a_cabinet_circuit_keeps_purchases_and_prices() -> None:
    meters, bus = cabinet()
    assert bus.answer(ADF_TOP_UP) == rtu.sealed(bytes.fromhex("1910050d0003"))
    assert meters[25].remaining_fen == 25_000 + 10_000
    newest = registers(bus.answer(read(25, 0x1B00, 10)))
    assert newest[:6] == bytes((25, 3, 14, 10, 20, 30))
    assert struct.unpack_from(">HIi", newest, 6) == (4, 10_000, 35_000)
    assert registers(bus.answer(read(25, 0x1B01, 10))) == bytes(20)
    assert bus.answer(read(25, 0x1B00, 11)) == rtu.sealed(b"\x19\x83\x03")
    assert bus.answer(ADF_PRICES) is not None
    assert meters[13].account.prices_fen_per_kwh == (0x15, 0x15, 0x12, 0x15)


def test_a_box_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="cannot begin at unit 2"):
        CabinetPlan(base_unit=2, single_phase_users=1)
    with pytest.raises(ValueError, match="37 circuits do not fit"):
        CabinetPlan(base_unit=1, single_phase_users=37)


def test_requests_are_found_in_a_stream() -> None:
    first, second = read(1, 0x0200, 48), PURCHASE_100_YUAN_COUNT_13
    buffer = bytearray(b"\x00\xff" + first + second[:9])
    assert rtu.take_request(buffer) == first
    assert rtu.take_request(buffer) is None
    buffer += second[9:]
    assert rtu.take_request(buffer) == second
    assert not buffer


def test_a_meter_that_credits_any_count() -> None:
    it = meter(HandClock(), count=12, rule=CountRule.ANY, credit_fen=0)
    bus = Bus({1: acrel_unit(DDSY1352, it, 1)})
    bus.answer(PURCHASE_100_YUAN_COUNT_13)
    bus.answer(PURCHASE_100_YUAN_COUNT_13)
    assert it.remaining_fen == 20_000, "the witness shows the double credit"
