"""Reports of an Acrel gateway: XML that cannot hurt, packing that cannot swell, units that fit."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acrel_gateway_cipher import Undecipherable, decipher, encipher, unpack
from protocols.acrel_gateway_frames import FrameKind
from protocols.acrel_gateway_xml import XML_BYTES_MAX, BadXml, read_login, read_report
from protocols.reading import Quantity
from protocols.stream import Event, Pushed, Unrecognised
from tests.protocols.gateway_box import DIAL_NOW, KEY, hidden, logged_in, report

Q = Quantity
METER = '<meter id="03012"><function id="WPP">1.5</function></meter>'


def told(body: bytes) -> tuple[Event, ...]:
    return logged_in().receive(hidden(FrameKind.REPORT, body))


def pushed(body: bytes) -> Pushed:
    (event,) = told(body)
    assert isinstance(event, Pushed)
    return event


# ---- what it says -------------------------------------------------------------------------------


def test_a_report_in_both_packings_says_the_same() -> None:
    body = report(METER)
    packed = logged_in().receive(hidden(FrameKind.PACKED_REPORT, zlib.compress(body)))
    assert packed == told(body)
    upload = pushed(body).upload
    assert (upload.port, upload.unit, upload.values) == (3, 12, {Q.ENERGY: 1500})
    assert upload.dial == DIAL_NOW.replace(minute=15, second=0)
    assert not upload.is_history


@pytest.mark.parametrize(
    ("text", "wh"),
    [
        ("0", 0),
        ("123.45", 123_450),
        (" 7 ", 7_000),
        ("0.0014", 1),
        ("0.0016", 2),
        ("999999999999.999", 999_999_999_999_999),
        ("0.29", 290),  # 0.29 * 1000 is 289.99… in floats
    ],
)
def test_kwh_become_whole_wh(text: str, wh: int) -> None:
    body = report(f'<meter id="01001"><function id="wpp">{text}</function></meter>')
    assert pushed(body).upload.values == {Q.ENERGY: wh}


@pytest.mark.parametrize("text", ["", "-1", "1e9", "NaN", "0x10", "1,5", "１", "1" * 13, "1."])
def test_what_is_no_decimal_is_kept_and_not_believed(text: str) -> None:
    (event,) = told(report(f'<meter id="01001"><function id="WPP">{text}</function></meter>'))
    assert event == Unrecognised(f"01001 WPP={text}".encode())


def test_unknown_functions_are_kept_beside_the_known() -> None:
    functions = '<function id="WPP">2</function><function id="Ua">220.1</function>'
    twice = '<function id="WPP">3</function>'
    meters = f'<meter id="01001">{functions}{twice}</meter><meter id="7">{functions}</meter>'
    push, rest = told(report(meters))
    assert isinstance(push, Pushed)
    assert push.upload.values == {Q.ENERGY: 2000}
    assert rest == Unrecognised(b"meter '7'; 01001 Ua=220.1; 01001 WPP=3")


def test_a_sample_is_short_whatever_was_said() -> None:
    many = "".join(f'<function id="F{n}">{n}</function>' for n in range(500))
    (event,) = told(report(f'<meter id="01001">{many}</meter>'))
    assert isinstance(event, Unrecognised)
    assert len(event.sample) == 256


def test_what_was_kept_during_an_outage_is_history() -> None:
    assert pushed(report(METER, operation="continuous")).upload.is_history
    old = DIAL_NOW - timedelta(hours=2, seconds=1)
    assert pushed(report(METER, time=f"{old:%Y%m%d%H%M%S}")).upload.is_history
    assert not pushed(report(METER, operation="report")).upload.is_history


def test_many_meters_of_several_ports() -> None:
    ids = [(port, unit) for port in (1, 2, 16) for unit in (1, 100, 247)]
    body = report(
        "".join(
            f'<meter id="{port:02}{unit:03}"><function id="WPP">{unit}</function></meter>'
            for port, unit in ids
        )
    )
    uploads = [event.upload for event in told(body) if isinstance(event, Pushed)]
    assert [(u.port, u.unit, u.values[Q.ENERGY]) for u in uploads] == [
        (port, unit, unit * 1000) for port, unit in ids
    ]


# ---- what cannot hurt ---------------------------------------------------------------------------

LAUGHS = "".join(
    f'<!ENTITY l{n} "{"".join(f"&l{n - 1};" for _ in range(10))}">' for n in range(1, 10)
)
ATTACKS = {
    "billion laughs": f'<!DOCTYPE root [<!ENTITY l0 "ha">{LAUGHS}]><root>&l9;</root>',
    "quadratic blow-up": f'<!DOCTYPE root [<!ENTITY a "{"a" * 9000}">]><root>{"&a;" * 900}</root>',
    "external entity": '<!DOCTYPE root [<!ENTITY f SYSTEM "file://{file}">]><root>&f;</root>',
    "parameter entity": '<!DOCTYPE root [<!ENTITY % p SYSTEM "file://{file}">%p;]><root/>',
    "external DTD": '<!DOCTYPE root SYSTEM "http://127.0.0.1:9/x.dtd"><root/>',
    "plain DTD": "<!DOCTYPE root><root/>",
    "UTF-7": '<?xml version="1.0" encoding="utf-7"?>+ADw-root/+AD4-',
    "an encoding nobody has": '<?xml version="1.0" encoding="no-such"?><',
    "not closed": "<root><common>",
    "nothing": "",
    "a NUL": "<root>\0</root>",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attacks_are_refused(attack: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the crown jewels")
    body = attack.replace("{file}", str(secret)).encode()
    with pytest.raises(BadXml) as refused:
        read_report(body)
    assert "jewels" not in str(refused.value)
    with pytest.raises(BadXml):
        read_login(body)
    (event,) = told(body)
    assert isinstance(event, Unrecognised), "counted"


def test_an_entity_inside_a_good_report_spoils_it() -> None:
    body = b'<!DOCTYPE root [<!ENTITY kwh "999999">]>' + report(METER.replace("1.5", "&kwh;"))
    with pytest.raises(BadXml, match="DTDForbidden"):
        read_report(body)


def test_depth_and_breadth_cost_no_stack() -> None:
    deep = "<a>" * 35_000 + "</a>" * 35_000
    assert told(report(deep)) == ()
    assert told(report("<meter/>" * 25_000)) != ()


def test_bad_utf_8_and_too_much_are_refused() -> None:
    for body in (b"<root>\xff</root>", b"<a>" + b" " * XML_BYTES_MAX + b"</a>"):
        with pytest.raises(BadXml):
            read_report(body)


@pytest.mark.parametrize("time", ["", "2025", "20250230101500", "20251301000000", "2025031410150x"])
def test_a_report_without_a_time_is_not_taken(time: str) -> None:
    (event,) = told(report(METER, time=time))
    assert isinstance(event, Unrecognised)


def test_a_zip_bomb_is_not_unfolded() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    assert len(bomb) < 70_000
    (event,) = logged_in().receive(hidden(FrameKind.PACKED_REPORT, bomb))
    assert isinstance(event, Unrecognised)
    tracemalloc.start()
    try:
        with pytest.raises(Undecipherable, match="more than 1000 bytes"):
            unpack(bomb, 1000)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 1 << 20


def test_packing_that_is_torn_is_refused() -> None:
    whole = zlib.compress(report(METER))
    for packed in (whole[:-5], b"", b"no zlib", whole[1:]):
        with pytest.raises(Undecipherable):
            unpack(packed, XML_BYTES_MAX)


@given(st.binary(max_size=600))
def test_what_is_enciphered_is_deciphered(plain: bytes) -> None:
    assert decipher(encipher(plain, KEY), KEY) == plain
    assert unpack(zlib.compress(plain), 600) == plain


@given(st.binary(max_size=64))
def test_any_ciphertext_is_deciphered_or_refused(data: bytes) -> None:
    try:
        decipher(data, KEY)
    except Undecipherable:
        return
    assert data
    assert len(data) % 16 == 0


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_document_is_read_or_refused(data: bytes) -> None:
    for read in (read_login, read_report):
        with contextlib.suppress(BadXml):
            read(data)
