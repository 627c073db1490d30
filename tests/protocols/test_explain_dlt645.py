from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.explain import explain
from protocols.explain_dlt645 import explain_dlt645

METER = "000012345678"


def framed(control: int, data: str, *, address: str = METER, preamble: int = 0) -> bytes:
    """A 645 frame by the letter of the standard, written for this test alone."""
    plain = bytes.fromhex(data)
    body = bytes((0x68, *bytes.fromhex(address)[::-1], 0x68, control, len(plain)))
    body += bytes((b + 0x33) & 0xFF for b in plain)
    return b"\xfe" * preamble + body + bytes((sum(body) & 0xFF, 0x16))


# Frames that others captured or published (spec vectors), and what a technician should see.
PUBLISHED = [
    ("FEFEFEFE68AAAAAAAAAAAA681300DF16", "to AAAAAAAAAAAA: read address"),
    ("FEFEFEFEFEFEFE6812907856341268930645C3AB8967450716", "123456789012 is here: 123456789012"),
    ("68610100000000681104333334331416", "to 000000000161: read 00010000"),
    (
        "FEFE6812907856341268910833333433896745335416",
        "123456789012 answers 00010000, forward energy 1234.56 kWh",
    ),
    (
        "68120000001020689118333234335C343333953333339333333336333333353333337416",
        "201000000012 answers 0001FF00, forward energy 1.29 / 0.62 / 0.60 / 0.03 / 0.02 kWh",
    ),
    ("6803000000000068010244E90316", "to 000000000003: read (1997) B611"),
    (
        "68120051050326680328",
        "10 bytes without a good checksum: 68 12 00 51 05 03 26 68 03 28",
    ),
    (
        "FEFEFEFE68785634120000681C1035896745343333334D338C8C566445593716",
        "to 000012345678: switch trip, level 02, valid until 2026-12-31 23:59:59",
    ),
    (
        "6878563412000068DC0253334816",
        "000012345678 refuses switch: code 0020, supply protection",
    ),
    (
        "6878563412000068D40137F016",
        "000012345678 refuses write: code 04, wrong password or no right",
    ),
    (
        "FEFEFEFE6878563412000068031E3235343A34333333435A33333933333303F3E3D3785634333333403F3E3DBD16",
        "to 000012345678: 070102FF, top-up: 100.00 under count 6, customer 000000012345",
    ),
    ("6878563412000068C30235331116", "000012345678 refuses security: code 0002, repeated top-up"),
    (
        "6878563412000068831E3235B43AC380333303F3E3D339333333403F3E3D785634333333343333336316",
        "000012345678 answers 078102FF, prepaid status: credit 198.56, purchase count 6, "
        "customer 000000012345",
    ),
    (
        "6878563412000068920D343363364445464748494A4B34F316",
        "000012345678 answers 03300001, part 2: 11 12 13 14 15 16 17 18",
    ),
    (
        "687856341200006891183434393889674533334333333353333389333333333745339A16",
        "000012345678 answers 05060101, "
        "frozen forward energy 1234.56 / 10.00 / 20.00 / 0.56 / 1204.00 kWh",
    ),
]


@pytest.mark.parametrize(("frame", "says"), PUBLISHED, ids=lambda value: value[:24])
def test_a_published_frame_says_what_it_means(frame: str, says: str) -> None:
    assert explain(bytes.fromhex(frame)) == says


@pytest.mark.parametrize(
    ("control", "data", "says"),
    [
        (0x91, "03050004 5000", "answers 04000503, relay open, ordered to trip"),
        (0x91, "03050004 0080", "answers 04000503, relay closed, ordered to close, no account"),
        (0x91, "00020900 56980100", "answers 00090200, 56 98 01 00"),
        (0x91, "00029000 56980100", "answers 00900200, credit 198.56 yuan"),
        (0x91, "00000302 122580", "answers 02030000, -0.2512 kW"),
        (0x91, "00000100 00000E00", "answers 00010000, forward energy no value"),
        (0x91, "00000100 123456", "answers 00010000, forward energy 12 34 56"),
        (0x91, "01013303 5623150326", "answers 03330101, dial 2026-03-15 23:56"),
        (0x91, "01023303 1200", "answers 03330201, purchase count 12"),
        (0x9C, "", "accepts the order to switch, which proves nothing"),
        (0xD1, "00", "refuses read: code 00, unknown reason"),
        (0xB1, "01003003 0102", "answers 03300001, 01 02, more follows"),
    ],
)
def test_an_answer_says_its_item_in_the_units_of_a_technician(
    control: int, data: str, says: str
) -> None:
    assert explain(framed(control, data)).startswith(f"{METER} {says}")


def test_to_all_meters() -> None:
    frame = framed(0x08, "512210050617", address="999999999999", preamble=4)

    assert explain(frame) == "to all meters: broadcast time 2017-06-05 10:22:51"


@pytest.mark.parametrize(
    ("control", "data"),
    [
        (0x14, "0C010004 02 c0ffee 01000000 45301002010826"),  # a write with its password
        (0x14, "0C010004 02 c0ffee"),  # the same, torn by a careless master
        (0x14, "030C0004 02 000000 01000000 03 c0ffee"),  # a new password
        (0x91, "030C0004 03 c0ffee"),  # a meter that tells one
        (0x04, "10C0 c0ffee 00"),
        (0x18, "030C0004 02 c0ffee 02 c0ffee"),
        (0x19, "02 c0ffee 01000000"),
        (0x1A, "02 c0ffee 01000000"),
        (0x1B, "02 c0ffee 01000000 ffffffff"),
        (0x1C, "02 c0ffee 01000000 1A00595923311226"),
        (0x1C, "98 c0ffee 01000000" + "c0ffee" * 6 + "0102"),
        (0x03, "FF000007 01000000" + "c0ffee" * 8),
        (0x03, "FF020107 01000000 10270000 06000000 c0ffee01 452301000000 c0ffee02"),
        (0x83, "FF028107 904D0000 c0ffee01 06000000 c0ffee02 452301000000 01000000"),
    ],
)
def test_no_password_and_no_mac_in_the_trace(control: int, data: str) -> None:
    said = explain(framed(control, data)).replace(" ", "")

    assert "without" not in said, "the frame itself must be sound"
    assert "c0ffee" not in said
    assert "eeffc0" not in said.lower()


@given(
    control=st.integers(0, 255),
    data=st.binary(max_size=60),
    address=st.binary(min_size=6, max_size=6),
)
@example(control=0x91, data=b"", address=bytes(6))
@example(control=0xC3, data=b"", address=bytes(6))
def test_any_sound_frame_is_explained(control: int, data: bytes, address: bytes) -> None:
    frame = framed(control, data.hex(), address=address.hex())

    assert explain_dlt645(frame), "one line, whatever it carries"
    assert "\n" not in explain(frame)


@given(st.integers(0, 15), st.integers(1, 255))
def test_one_changed_byte_makes_it_no_645_frame(at: int, change: int) -> None:
    frame = bytearray(framed(0x11, "00000100"))
    frame[at] ^= change

    assert explain_dlt645(bytes(frame)) is None


def test_a_text_that_cannot_be_printed_is_hex() -> None:
    assert explain(framed(0x91, "04040004 56302E303232")).endswith("220.0V")
    assert explain(framed(0x91, "04040004 560A2E303232")).endswith("56 0a 2e 30 32 32")
