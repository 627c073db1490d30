"""Mapping files and what they make of JSON: each maker's shape, its failures, any bytes."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.reading import Quantity as Q
from protocols.stream import Pushed, Unrecognised
from protocols.uplink import Upload
from protocols.uplink_map import POINTS_MAX, BadMapping, UplinkMap, parse_uplink_map

FILES = sorted((Path(__file__).parents[2] / "config" / "uplinks").glob("*.toml"))
AT = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
AT_S = int(AT.timestamp())


def the_map(name: str) -> UplinkMap:
    path = next(path for path in FILES if path.stem == name)
    return parse_uplink_map(path.name, tomllib.loads(path.read_text()))


VECTORS = {
    "usr": (
        "/usr/gw1/data",
        {"ts": AT_S, "params": {"3_kwh": "1234.56", "3_yuan": "-0.07", "4_kwh": 7}},
        [
            Upload(unit=3, at=AT, values={Q.ENERGY: 1_234_560, Q.REMAINING_CREDIT: -7}),
            Upload(unit=4, at=AT, values={Q.ENERGY: 7_000}),
        ],
    ),
    "neuron": (
        "/neuron/app/gw1/12",
        {
            "timestamp": AT_S * 1000,
            "node": "gw1",
            "tags": [{"name": "energy", "value": 99}, {"name": "count", "value": 4}],
        },
        [Upload(unit=12, at=AT, values={Q.ENERGY: 990, Q.PURCHASE_COUNT: 4})],
    ),
    "teltonika": (
        "teltonika/gw1/modbus",
        {"data": [{"timestamp": str(AT_S), "requests": [{"name": "7-power", "value": "-12"}]}]},
        [Upload(unit=7, at=AT, values={Q.POWER: -12})],
    ),
    "king_pigeon": (
        "kingpigeon/gw1/up",
        {
            "sensorDatas": [{"flag": "m9_v", "value": 230.1}],
            "time": AT_S,
            "retransmit": "enable",
        },
        [Upload(unit=9, at=AT, values={Q.VOLTAGE_L1: 2301}, is_history=True)],
    ),
}


def test_every_file_has_a_vector() -> None:
    assert {path.stem for path in FILES} == VECTORS.keys()


@pytest.mark.parametrize("name", VECTORS)
def test_what_a_gateway_says(name: str) -> None:
    topic, body, uploads = VECTORS[name]
    uplink = the_map(name).understand(topic, json.dumps(body).encode())
    assert uplink is not None
    assert uplink.gateway == "gw1"
    assert list(uplink.events) == [Pushed(upload) for upload in uploads]
    assert the_map(name).understand(f"{topic}/more", json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ({"3_kwh": "ERR"}, b"ERR"),  # the box's failure text in place of a value
        ({"3_yuan": "1.005"}, b"1.005"),  # half a fen
        ({"3_kwh": None}, b"None"),
        ({"300_kwh": 1}, b"300_kwh"),  # no unit id
        ({"3_moon": 1}, b"moon"),
        ({"3_kwh": 10**30}, b"kwh"),
    ],
)
def test_what_is_no_value_is_left_over_and_never_guessed(
    params: dict[str, object], left: bytes
) -> None:
    body = json.dumps({"ts": AT_S, "params": params}).encode()
    uplink = the_map("usr").understand("/usr/gw1/data", body)
    assert uplink is not None
    (event,) = uplink.events
    assert isinstance(event, Unrecognised)
    assert left in event.sample


@pytest.mark.parametrize("ts", ["yesterday", -1, 10**15, None, {}])
def test_a_look_without_its_instant_is_none(ts: object) -> None:
    body = json.dumps({"ts": ts, "params": {"3_kwh": 1}}).encode()
    uplink = the_map("usr").understand("/usr/gw1/data", body)
    assert uplink is not None
    assert [type(event) for event in uplink.events] == [Unrecognised]


def test_points_of_one_payload_are_bounded() -> None:
    params = {f"{1 + n % 247}_moon{n}": n for n in range(POINTS_MAX)}
    params["1_kwh"] = 1  # beyond the bound
    body = json.dumps({"ts": AT_S, "params": params}).encode()
    uplink = the_map("usr").understand("/usr/gw1/data", body)
    assert uplink is not None
    assert not any(isinstance(event, Pushed) for event in uplink.events)


@pytest.mark.parametrize("payload", [b"", b"[1]", b"{" * 9, b"[" * 200_000, b'{"ts":NaN}'])
def test_what_is_no_object_is_not_taken(payload: bytes) -> None:
    assert the_map("usr").understand("/usr/gw1/data", payload) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                [
                    "ts",
                    "params",
                    "1_kwh",
                    "tags",
                    "name",
                    "value",
                    "data",
                    "requests",
                    "sensorDatas",
                    "flag",
                    "time",
                    "timestamp",
                ]
            )
            | st.text(),
            inner,
        )
    ),
)


@settings(max_examples=50)
@given(st.sampled_from(sorted(VECTORS)), st.binary() | JSON.map(lambda j: json.dumps(j).encode()))
def test_any_bytes_give_an_uplink_or_nothing(name: str, payload: bytes) -> None:
    topic = VECTORS[name][0]
    uplink = the_map(name).understand(topic, payload)
    for event in uplink.events if uplink else ():
        assert isinstance(event, Pushed | Unrecognised)
        if isinstance(event, Pushed):
            assert all(type(value) is int for value in event.upload.values.values())


GOOD: dict[str, object] = {
    "topic": "a/{gateway}",
    "gateway": "topic:gateway",
    "points": {"x": {"quantity": "power_w"}},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"topc": "a"}, "x.toml: there is no key topc"),
        ({"topic": 3}, "x.toml: topic must be a text"),
        ({"topic": ""}, "x.toml: topic is missing"),
        ({"topic": "a/#"}, "x.toml: topic takes {words} in place of wildcards"),
        ({"topic": "a/x{gateway}"}, "x.toml: topic has a {word} that is no whole level"),
        ({"topic": "{gateway}/{gateway}"}, "x.toml: topic has {gateway} twice"),
        ({"gateway": "topic:sn"}, "x.toml: gateway names {sn}, which topic does not have"),
        ({"gateway": "item:sn"}, "x.toml: gateway must stand in the topic or the body"),
        ({"unit": "point:unit"}, "x.toml: unit names {unit}, which point does not have"),
        ({"time_form": "week"}, "x.toml: time_form must be one of s, ms, compact"),
        ({"history": "body:x"}, "x.toml: history and history_is belong together"),
        ({"point": "{unit}"}, "x.toml: point needs {point}, the point's name"),
        ({"points": {}}, "x.toml: points is missing"),
        ({"points": {"x": {"quantity": "kwh"}}}, "x.toml: points.x has no quantity of ours"),
        (
            {"points": {"x": {"quantity": "power_w", "times": 0}}},
            "x.toml: points.x has times that is no positive decimal",
        ),
        (
            {"points": {"x": {"quantity": "power_w", "time": 1}}},
            "x.toml: points.x must be { quantity, times }",
        ),
    ],
)
def test_a_bad_file_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    parse_uplink_map("x.toml", GOOD)
    with pytest.raises(BadMapping) as refused:
        parse_uplink_map("x.toml", GOOD | change)
    assert str(refused.value) == sentence
