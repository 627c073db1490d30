from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.explain import explain
from tests.protocols.slave import sealed
from tests.protocols.test_acrel import PREPAID_PAYLOAD, live_payload
from tests.protocols.vectors import ACREL, LIVE_FRAME, ORDERS

ASK_LIVE = bytes.fromhex(ACREL["reads"][0]["hex"])
ASK_PREPAID = sealed(bytes.fromhex("010304000019"))


@pytest.mark.parametrize(
    ("frame", "request_", "says"),
    [
        (ASK_LIVE, None, "read 0x0200+48 of unit 1"),
        (ASK_LIVE, ASK_LIVE, "read 0x0200+48 of unit 1"),
        (
            LIVE_FRAME,
            ASK_LIVE,
            "answer of unit 1: 96 bytes, live block: type DDSY1352, 230.4 V, 12.340 A, 2805 W, "
            "12345.67 kWh, credit 88.56, purchase count 12, relay 001, controls prepaid, "
            "dial 2025-03-14 10:20:30",
        ),
        (
            LIVE_FRAME,
            None,
            "answer of unit 1: 96 bytes: 00 07 09 00 00 00 00 00 04 d2 00 00 00 00 0a f5 …",
        ),
        (
            sealed(b"\x01\x03\x32" + PREPAID_PAYLOAD),
            ASK_PREPAID,
            "answer of unit 1: 50 bytes, prepaid block: credit 88.56, purchase count 12, "
            "total purchased 500.00",
        ),
        (
            sealed(b"\x01\x03\x60" + live_payload(10, at_62="fffffffb", at_73="60")),
            ASK_LIVE,
            "answer of unit 1: 96 bytes, live block: type ADF300L/400L, 230.4 V, 12.340 A, 2805 W, "
            "12345.67 kWh, credit -0.05, purchase count 12, relay 001, "
            "alarms arrears+low_credit_1, controls prepaid, dial 2025-03-14 10:20:30",
        ),
        (
            sealed(b"\x01\x03\x60" + live_payload(at_2="fde8")),
            ASK_LIVE,
            "answer of unit 1: 96 bytes, voltage_l1_dv reads 65000, which no meter of this type "
            "can show; check the meter",
        ),
        (
            sealed(bytes.fromhex("0d030a fffffffb 00007530 0004")),
            bytes.fromhex("0d0303620005249f"),
            "answer of unit 13: 10 bytes, purchases: credit -0.05, purchase count 4, "
            "total purchased 300.00",
        ),
        (
            sealed(b"\x03\x03\x04\x00\x00\x30\x39"),
            sealed(bytes.fromhex("030300000002")),
            "answer of unit 3: 4 bytes, from 0x0000: 00 00 30 39",
        ),
        (
            sealed(b"\x01\x03\x02\x00\x01"),
            ASK_LIVE,
            "answer of unit 1: 2 bytes, but 96 were asked for: 00 01",
        ),
        (
            sealed(b"\x01\x83\x02"),
            ASK_LIVE,
            "unit 1 refuses function 0x03: code 2, no such address",
        ),
        (
            bytes.fromhex(ACREL["writes"][0]["hex"]),
            None,
            "write 0x0057+2 of unit 1: trip",
        ),
        (
            sealed(bytes.fromhex("011000570002")),
            bytes.fromhex(ACREL["writes"][0]["hex"]),
            "unit 1 has written 0x0057+2",
        ),
        (
            bytes.fromhex(ACREL["purchase of 100.00 yuan, count 13"]),
            None,
            "masked write 0x0100+4 of unit 1: purchase 100.00 under count 13",
        ),
        (
            bytes.fromhex(ORDERS["fc20_open_account"]),
            None,
            "masked write 0x0200+30 of unit 1: prepaid on, credit 0.00, purchase count 0, "
            "total purchased 0.00, base amount 0.00, alarms 20.00/5.00, "
            "prices 1.20/0.95/0.65/0.35, overdraft 0.00, meter number 012307210085",
        ),
        (
            bytes.fromhex(ORDERS["fc20_set_clock"]),
            None,
            "masked write 0x0354+5 of unit 1: dial 2025-03-14 10:20:30",
        ),
        (
            bytes.fromhex(ORDERS["fc20_load_control"]),
            None,
            "masked write 0x0400+13 of unit 1: load control of L1 on",
        ),
        (
            bytes.fromhex(ORDERS["fc20_forced_control_L1_tool_quirk"]),
            None,
            "masked write 0x0500+5 of unit 1: L1 forced to state 1",
        ),
        (
            bytes.fromhex(ORDERS["adf_write_3ph_prices"]),
            None,
            "write 0x0537+8 of unit 13: prices 0.21/0.21/0.18/0.21",
        ),
        (
            bytes.fromhex(ORDERS["adf_write_1ph_topup_registers"]),
            None,
            "write 0x050d+3 of unit 25: purchase 100.00 under count 4",
        ),
        (
            bytes.fromhex(ORDERS["fc20_purchase_encrypted_testkey"]),
            None,
            "20 bytes without a good checksum (as long as an enciphered purchase): ",
        ),
        (
            sealed(b"\x01\x20\x01\x00\x00\x04" + bytes(7)),
            bytes.fromhex(ORDERS["fc20_purchase_100yuan_count13"]),
            "unit 1 answers the masked write 0x0100, which proves nothing: "
            "01 00 00 04 00 00 00 00 00 00 00",
        ),
        (
            sealed(b"\x01\x20\x04\x00\x02\x00\x02"),
            sealed(bytes.fromhex("012003ff00010200 00")),
            "unit 1 answers the masked write 0x03ff for all circuits; boards that failed: 1, 3",
        ),
        (LIVE_FRAME[:40], ASK_LIVE, "40 bytes without a good checksum: "),
        (b"\x01", None, "1 bytes, too short for a frame: 01"),
        (b"", None, "0 bytes, too short for a frame: empty"),
    ],
)
def test_a_frame_is_said_in_a_technicians_words(
    frame: bytes, request_: bytes | None, says: str
) -> None:
    said = explain(frame, request_)
    assert said == says or (says.endswith(": ") and said.startswith(says))


@given(st.binary(max_size=80), st.one_of(st.none(), st.binary(max_size=12)), st.booleans())
def test_any_bytes_are_explained_in_one_line(
    body: bytes, request_: bytes | None, good_checksums: bool
) -> None:
    if good_checksums:
        body, request_ = sealed(body), sealed(request_ or b"")
    said = explain(body, request_)
    assert said
    assert "\n" not in said


@given(st.binary(min_size=96, max_size=96))
def test_any_live_block_is_explained_in_one_line(payload: bytes) -> None:
    said = explain(sealed(b"\x01\x03\x60" + payload), ASK_LIVE)
    assert said.startswith("answer of unit 1: 96 bytes, ")
    assert "\n" not in said
