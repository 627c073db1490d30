"""What the fuzzer does to JSON pushed over MQTT: by mapping files and by Acrel's own topics."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

from protocols.stream import Event, Pushed, Unrecognised
from protocols.uplink_acrel import understand
from protocols.uplink_json import INTEGER_MAX, SAMPLE_BYTES_MAX
from protocols.uplink_map import is_number, parse_points, parse_uplink_map

FOLDER = Path(__file__).parents[2] / "config" / "uplinks"
MAPS = [
    parse_uplink_map(path.name, tomllib.loads(path.read_text()))
    for path in sorted(FOLDER.glob("*.toml"))
]
POINTS = {
    name: point
    for path in sorted((FOLDER / "acrel").glob("*.toml"))
    for name, point in parse_points(path.name, tomllib.loads(path.read_text())["points"]).items()
}
TOPICS = (
    "kingpigeon/g/up",
    "/neuron/a/g/7",
    "teltonika/g/modbus",
    "/usr/g/data",
    "sys/dev/P/g",
    "data/up/P/g",
    "/gw/acrelHW/P/login/g",
    "/gw/acrelHW/P/data/g",
    "/gw/acrelHW/P/hstdata/g",
)
NOW = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
DIAL = datetime(2026, 3, 20, 10, 0)  # noqa: DTZ001  a dial


def uplinks(data: bytes) -> None:
    """A payload under a topic chosen by its first byte: sound looks with an instant, or nothing."""
    if not data:
        return
    topic, payload = TOPICS[data[0] % len(TOPICS)], data[1:]
    for mapping in MAPS:
        uplink = mapping.understand(topic, payload)
        _check(uplink.events if uplink else ())
    acrel = understand(topic, payload, now=NOW, dial_now=DIAL, points=POINTS)
    _check(acrel.events if acrel else ())
    if acrel and acrel.answer:
        assert acrel.answer.topic.endswith("/g")


def _check(events: tuple[Event, ...]) -> None:
    for event in events:
        if isinstance(event, Pushed):
            upload = event.upload
            assert upload.values
            assert (upload.at is None) != (upload.dial is None)
            assert 0 <= upload.unit <= 247
            assert not upload.number or is_number(upload.number)
            assert all(
                type(value) is int and abs(value) <= INTEGER_MAX for value in upload.values.values()
            )
        elif isinstance(event, Unrecognised):
            assert len(event.sample) <= SAMPLE_BYTES_MAX
