"""Acrel over MQTT: logins and clocks answered, reports read, history only under its own instant."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.reading import Quantity as Q
from protocols.stream import Event, Heartbeat, Pushed, Told, Unrecognised
from protocols.uplink import Upload
from protocols.uplink_acrel import AcrelUplink, Points, understand
from protocols.uplink_map import parse_points

NOW = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
DIAL = datetime(2026, 3, 20, 10, 0)  # noqa: DTZ001  a dial
NOW_S = int(NOW.timestamp())
FOLDER = Path(__file__).parents[2] / "config" / "uplinks" / "acrel"


def points(name: str) -> Points:
    return parse_points(name, tomllib.loads((FOLDER / f"{name}.toml").read_text())["points"])


POINTS = {**points("domestic"), **points("overseas")}


def said(topic: str, body: object) -> AcrelUplink:
    payload = json.dumps(body).encode()
    uplink = understand(topic, payload, now=NOW, dial_now=DIAL, points=POINTS)
    assert uplink is not None
    assert uplink.gateway == "SN1"
    return uplink


def pushed(events: tuple[Event, ...]) -> list[Upload]:
    return [event.upload for event in events if isinstance(event, Pushed)]


@pytest.mark.parametrize(("encrypt", "res"), [("0", 1), ("1", 0)])
def test_a_domestic_login_is_answered_and_a_sealed_one_refused(encrypt: str, res: int) -> None:
    payload = {"compress": "0", "encrypt": encrypt, "ccid": "8986", "upInterval": 300}
    uplink = said("sys/dev/P/SN1", {"msgid": "7", "method": "login", "payload": payload})
    assert uplink.events == (Told({"iccid": "8986", "interval_s": 300}),)
    assert uplink.answer is not None
    assert uplink.answer.topic == "sys/server/P/SN1"
    answer = json.loads(uplink.answer.payload)
    assert (answer["msgid"], answer["method"], answer["res"]) == ("7", "login", res)
    assert answer["timestamp"] == NOW_S


@pytest.mark.parametrize(
    ("source", "own", "counts"),
    [("REALTIME", None, True), ("HISTORY", None, False), ("HISTORY", NOW_S - 86400, True)],
)
def test_a_report_and_its_instant(source: str, own: int | None, counts: bool) -> None:
    meter = {"addr": "3", "EPI": "12.34", "Balance": -0.5} | ({"timestamp": own} if own else {})
    body = {
        "msgid": "8",
        "method": "report",
        "timestamp": NOW_S,
        "payload": {"reported": {"source": source, "meters": [meter]}},
    }
    uplink = said("data/up/P/SN1", body)
    values = {Q.ENERGY: 12_340, Q.REMAINING_CREDIT: -50}
    at = datetime.fromtimestamp(own or NOW_S, UTC)
    upload = Upload(unit=3, at=at, values=values, is_history=source == "HISTORY")
    assert pushed(uplink.events) == ([upload] if counts else [])
    assert counts or isinstance(uplink.events[0], Unrecognised)


def test_an_old_update_is_acknowledged_on_sys() -> None:
    meters = {"221000": {"Ua": 230.1, "moon": 1}}
    body = {"msgid": 9, "method": "update", "timestamp": NOW_S}
    uplink = said("data/up/P/SN1", body | {"payload": {"reported": {"meter": meters}}})
    assert pushed(uplink.events) == [Upload(number="221000", at=NOW, values={Q.VOLTAGE_L1: 2301})]
    assert uplink.events[1:] == (Unrecognised(b"moon=1"),)
    assert uplink.answer is not None
    assert uplink.answer.topic == "sys/server/P/SN1"


def test_an_overseas_login_and_its_clock() -> None:
    login = said("/gw/acrelHW/P/login/SN1", {"type": "login", "imei": "86", "rssi": 80})
    assert login.events == (Told({"imei": "86", "rssi_percent": 80}),)
    assert login.answer is not None
    assert login.answer.topic == "/server/acrelHW/P/login/SN1"
    assert json.loads(login.answer.payload) == {"type": "login", "res": 1}
    clock = said("/gw/acrelHW/P/time/SN1", {"type": "time"})
    assert clock.answer is not None
    assert json.loads(clock.answer.payload)["time"] == "20260320100000"
    heart = said("/gw/acrelHW/P/heart/SN1", {"type": "heart"})
    assert (heart.events, heart.answer) == ((Heartbeat(b"heart"),), None)


@pytest.mark.parametrize(("command", "is_history"), [("data", False), ("hstdata", True)])
@pytest.mark.parametrize(
    "fields",
    [
        {"meterSN": "M1", "ua": "230.1", "meterStatus": "normal"},
        {"data": [{"point": [{"id": 0, "val": "M1"}, {"id": 1, "val": 230.1}]}]},
    ],
)
def test_overseas_values_in_both_forms(
    command: str, is_history: bool, fields: dict[str, object]
) -> None:
    uplink = said(f"/gw/acrelHW/P/{command}/SN1", fields | {"time": "20260320100000"})
    values = {Q.VOLTAGE_L1: 2301}
    assert uplink.events == (
        Pushed(Upload(number="M1", dial=DIAL, values=values, is_history=is_history)),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"meterStatus": "missing"},
        {"time": "20261320100000"},
        {"meterSN": ""},
        {"meterSN": "M\x00"},
        {"ua": "-"},
    ],
)
def test_what_an_overseas_gateway_cannot_vouch_for_is_no_look(change: dict[str, object]) -> None:
    body = {"meterSN": "M1", "ua": 230, "time": "20260320100000"} | change
    assert pushed(said("/gw/acrelHW/P/data/SN1", body).events) == []


WORDS = [
    "method",
    "msgid",
    "payload",
    "reported",
    "meters",
    "meter",
    "addr",
    "EPI",
    "timestamp",
    "source",
    "time",
    "data",
    "point",
    "id",
    "val",
    "meterSN",
    "ua",
    "login",
    "update",
    "report",
    "HISTORY",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS), inner),
)
TOPICS = ("sys/dev/P/S", "data/up/P/S", "indicate/dev/P/S", "/gw/acrelHW/P/data/S", "other")


@settings(max_examples=50)
@given(st.sampled_from(TOPICS), st.binary() | JSON.map(lambda found: json.dumps(found).encode()))
def test_any_bytes_give_an_uplink_or_nothing(topic: str, payload: bytes) -> None:
    uplink = understand(topic, payload, now=NOW, dial_now=DIAL, points=POINTS)
    assert topic != "other" or uplink is None
    for upload in pushed(uplink.events) if uplink else ():
        assert (upload.at is None) != (upload.dial is None)
