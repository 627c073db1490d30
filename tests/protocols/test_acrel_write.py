"""Frames of orders, byte for byte, and the cipher some of them go out under."""

from __future__ import annotations

import pickle
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acrel_adf_settings import register_requests
from protocols.acrel_cipher import decipher, encipher, enciphered
from protocols.acrel_controls import Tables, tariff_block
from protocols.acrel_settings import Block, prepaid_groups
from protocols.acrel_tables import MONTH_DAY_TABLE, TABLE_DAY_MONTH
from protocols.acrel_write import (
    CLOSE_WORDS,
    FORCED_AT,
    RELEASE_WORDS,
    TRIP_WORDS,
    MoneyToAll,
    clock,
    failed_boards,
    forced_by_phase,
    load_control,
    masked_write,
    prepaid_settings,
    purchase,
    purchase_registers,
    reset_load_trips,
)
from protocols.exchange import Effect, NotReady, Refusal, Reply, Request
from protocols.keys import SiteKey
from protocols.modbus import write_registers
from protocols.settings import (
    AlarmAmounts,
    DatePlan,
    DateZone,
    DayTable,
    LoadControl,
    OpenAccount,
    PrepaidSwitch,
    Prices,
    TariffSlot,
)
from tests.protocols.slave import checksum, sealed
from tests.protocols.vectors import ORDERS

WORDS = (0x0123, 0x4567, 0x89AB, 0xCDEF)  # a test's key
KEY = SiteKey(lambda: WORDS)
DDSY = Tables(day_tables=(0x2006, 0x201B), date_plan=0x2000)
DTSY = Tables(day_tables=(0x2000, 0x2015), date_plan=0x0028)
PURCHASE = purchase(1, 10_000, 13)
ACCOUNT = OpenAccount(
    prices=Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35),
    alarms=AlarmAmounts(alarm_1_fen=2000, alarm_2_fen=500),
    meter_number="012307210085",
)
TABLE = DayTable(
    number=1,
    slots=(TariffSlot(rate=1, minute_of_day=390), TariffSlot(rate=3, minute_of_day=1439)),
)
ZONES = DatePlan(zones=(DateZone(month=10, day=15, table=1), DateZone(month=6, day=5, table=4)))
ONE_ZONE = DatePlan(zones=(DateZone(month=3, day=2, table=1),))
LOAD = LoadControl(
    on=True,
    power_w_max=5000,
    power_step_w_max=3000,
    power_factor_permille=900,
    recover_s=60,
    trips_allowed=3,
)
FLAT_PRICES = Prices(sharp_fen=21, peak_fen=21, flat_fen=18, valley_fen=21)
FRIDAY = datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial has no zone


def only(block: Block) -> Request:
    (request,) = block.requests(b"")
    return request


def by_register(unit: int, at: int) -> Request:
    (request,) = register_requests(unit, at, prepaid_groups(FLAT_PRICES, 1))
    return request


ENCODED: dict[str, Request] = {
    "rtu_forced_trip": write_registers(1, FORCED_AT, TRIP_WORDS),
    "rtu_forced_close": write_registers(1, FORCED_AT, CLOSE_WORDS),
    "rtu_forced_release": write_registers(1, FORCED_AT, RELEASE_WORDS),
    "rtu_write_ct_300": write_registers(2, 0x0038, (300,)),
    "rtu_write_day_plan1_ddsy": only(tariff_block(7, DDSY, TABLE, TABLE_DAY_MONTH)),
    "rtu_write_date_plan_ddsy_ems4j_order": only(tariff_block(2, DDSY, ZONES, MONTH_DAY_TABLE)),
    "rtu_write_date_plan_ddsy_tool_order": only(tariff_block(2, DDSY, ZONES, TABLE_DAY_MONTH)),
    "rtu_write_date_plan_dtsy_ems4j_order": only(tariff_block(9, DTSY, ONE_ZONE, MONTH_DAY_TABLE)),
    "fc20_purchase_100yuan_count13": PURCHASE,
    "fc20_purchase_encrypted_testkey": enciphered(PURCHASE, KEY),
    "fc20_set_clock": clock(1, FRIDAY),
    "fc20_open_account": prepaid_settings(1, prepaid_groups(ACCOUNT, 1)),
    "fc20_prepaid_off": prepaid_settings(1, prepaid_groups(PrepaidSwitch(on=False), 1)),
    "fc20_load_control": load_control(1, 1, LOAD),
    "fc20_reset_load_counts_all": reset_load_trips(1),
    "fc20_forced_control_L1_tool_quirk": forced_by_phase(1, 1, force=True, state=1),
    "fc20_adf_clear_energy": masked_write(1, 0x0900, b"\0\0"),
    "adf_write_3ph_prices": by_register(13, 0x0536),
    "adf_write_1ph_topup_registers": purchase_registers(25, 0x050D, 10_000, 4),
}


def test_every_vector_of_an_order_is_encoded() -> None:
    answers = {"rtu_forced_ack"}
    assert ENCODED.keys() == ORDERS.keys() - answers


@pytest.mark.parametrize("name", ENCODED)
def test_an_order_is_its_vector_byte_for_byte(name: str) -> None:
    assert ENCODED[name].frame.hex() == ORDERS[name]
    assert ENCODED[name].effect is Effect.WRITE


def test_a_trip_is_acknowledged() -> None:
    reader = ENCODED["rtu_forced_trip"].new_reader()
    reader.receive_data(bytes.fromhex(ORDERS["rtu_forced_ack"]))
    assert isinstance(reader.next_event(), Reply)


def test_a_masked_write_is_answered_by_fifteen_bytes_whatever_they_say() -> None:
    reader = PURCHASE.new_reader()
    reader.receive_data(sealed(b"\x01\x20" + bytes(range(11))))
    assert reader.next_event() == Reply(bytes(range(11)))
    reader = PURCHASE.new_reader()
    reader.receive_data(sealed(b"\x01\xa0\x03"))
    assert reader.next_event() == Refusal(3)
    reader = PURCHASE.new_reader()
    reader.receive_data(b"\x01\x20" + bytes(13))
    assert reader.next_event() is None, "a bad checksum is no answer"


@pytest.mark.parametrize("boards", [12, 8, 4])
def test_a_write_to_all_circuits_is_answered_by_boards(boards: int) -> None:
    request = masked_write(1, 0x03FF, bytes(56), boards=boards)
    states = bytearray(boards)
    states[2] = 2
    frame = sealed(b"\x01\x20" + bytes((boards,)) + states)
    assert len(frame) == request.reply_bytes_max == {12: 17, 8: 13, 4: 9}[boards]
    reader = request.new_reader()
    reader.receive_data(frame)
    answer = reader.next_event()
    assert isinstance(answer, Reply)
    assert failed_boards(answer.payload) == (2,)


@pytest.mark.parametrize("address", [0x01FF, 0x02FF])
def test_money_never_goes_to_a_whole_cabinet(address: int) -> None:
    with pytest.raises(MoneyToAll):
        masked_write(1, address, bytes(8), boards=12)


def test_no_order_is_a_broadcast() -> None:
    with pytest.raises(AssertionError, match="broadcast"):
        purchase(0, 1, 1)


# ---- the cipher ---------------------------------------------------------------------------------

words = st.integers(0, 0xFFFF)


@given(st.binary(min_size=4, max_size=80), st.tuples(words, words, words, words))
def test_what_is_enciphered_is_deciphered(plain: bytes, key: tuple[int, int, int, int]) -> None:
    ciphertext = encipher(plain, key)
    assert len(ciphertext) % 4 == 0
    assert decipher(ciphertext, key).rstrip(b"\0") == plain.rstrip(b"\0")


def test_settings_grow_to_72_bytes() -> None:
    assert len(enciphered(ENCODED["fc20_open_account"], KEY).frame) == 72


@pytest.mark.parametrize("noise", [b"", b"\x01", b"\x01\x03\x05", b"ping"])
@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_answer_to_ciphertext_is_found_plain_or_enciphered(
    noise: bytes, piece: int, hidden: bool
) -> None:
    for frame, expected in (
        (sealed(b"\x01\x20" + bytes(range(11))), Reply(bytes(range(11)))),
        (sealed(b"\x01\xa0\x04"), Refusal(4)),
    ):
        wire = noise + (encipher(frame, WORDS) if hidden else frame)
        reader = enciphered(PURCHASE, KEY).new_reader()
        found = []
        for at in range(0, len(wire), piece):
            reader.receive_data(wire[at : at + piece])
            if (answer := reader.next_event()) is not None:
                found.append(answer)
        assert found == [expected]


@given(st.binary(max_size=60))
def test_noise_is_no_answer_to_ciphertext(noise: bytes) -> None:
    reader = enciphered(PURCHASE, KEY).new_reader()
    reader.receive_data(noise)
    assert reader.next_event() is None


def test_another_sites_answer_is_no_answer() -> None:
    reader = enciphered(PURCHASE, KEY).new_reader()
    reader.receive_data(encipher(sealed(b"\x01\x20" + bytes(11)), (1, 2, 3, 4)))
    assert reader.next_event() is None


def test_the_key_is_never_shown() -> None:
    request = enciphered(PURCHASE, KEY)
    shown = f"{KEY!r} {KEY!s} {request!r} {request.new_reader()!r}".lower()
    for word in WORDS:
        assert f"{word:04x}" not in shown
        assert str(word) not in shown.replace(f"count {word}", "")
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize("words_", [(), (1, 2, 3), (1, 2, 3, 0x1BEEF), (1, 2, 3, "BEEF")])
def test_a_bad_key_is_refused_without_being_told(words_: tuple[int, ...]) -> None:
    with pytest.raises(NotReady, match="four words of 16 bits") as refused:
        enciphered(PURCHASE, SiteKey(lambda: words_))
    assert "BEEF" not in str(refused.value)
    assert "114415" not in str(refused.value)
    with pytest.raises(NotReady, match="import the site's key"):
        enciphered(PURCHASE, None)


def test_ciphertext_that_passes_for_a_plain_frame_is_not_sent() -> None:
    """Searched for among counts: one in 65536 has, by chance, a good checksum."""
    for count in range(1, 0x10000):
        for amount in (1, 2, 3, 4):
            request = purchase(1, amount, count)
            frame = encipher(request.frame, WORDS)
            if checksum(frame[:-2]) == frame[-2:]:
                with pytest.raises(NotReady, match="pass for a plain one"):
                    enciphered(request, KEY)
                return
    pytest.skip("none among these purchases")
