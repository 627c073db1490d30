"""Acrel over MQTT: what domestic and overseas gateways say, and the answers they wait for.

Domestic: sys/dev, data/up and indicate/dev, each /{product}/{sn}. Overseas: /gw/acrelHW/{product}/
{command}/{sn}. Login and time requests must be answered (spec acrel.md 4.3, field_protocols.md D).
Compressed or encrypted domestic payloads need the maker's product secret: such a login is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.reading import Values
from protocols.stream import Event, Heartbeat, Pushed, Told, Unrecognised
from protocols.uplink import Upload
from protocols.uplink_json import dial_of, inside, instant_of, read_object, sample_of, scaled
from protocols.uplink_map import UNIT_MAX, Point, is_number

Points = Mapping[str, Point]

FILTERS = ("sys/dev/+/+", "data/up/+/+", "indicate/dev/+/+", "/gw/acrelHW/+/+/+")
# Of one gateway: what it publishes under, and where it hears us. {sn} is its own.
_SAYS = ("sys/dev/+/{sn}", "data/up/+/{sn}", "indicate/dev/+/{sn}", "/gw/acrelHW/+/+/{sn}")
_HEARS = (
    "sys/server/+/{sn}",
    "data/down/+/{sn}",
    "indicate/server/+/{sn}",
    "/server/acrelHW/+/+/{sn}",
)
METERS_MAX = 500  # in one payload

_DOMESTIC = re.compile(r"(sys/dev|data/up|indicate/dev)/([^/]{1,64})/([^/]{1,64})")
_OVERSEAS = re.compile(r"/gw/acrelHW/([^/]{1,64})/([a-zA-Z]{1,32})/([^/]{1,64})")
_ANSWERED = {"sys/dev": "sys/server", "data/up": "sys/server"}  # an update is acknowledged on sys
_WORD_CHARACTERS_MAX = 64
_SECOND = timedelta(seconds=1)
# What stands beside the points of a meter and is no point.
_BESIDE = frozenset({"addr", "state", "timestamp"})
_BESIDE_OVERSEAS = frozenset(
    {"type", "gwSN", "meterSN", "meterName", "meterStatus", "time", "ch", "data"}
)


@dataclass(frozen=True, slots=True)
class Publish:
    """What the gateway waits for: publish it once, QoS 1, never retained."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class AcrelUplink:
    """What one payload said; `answer` is None where the gateway waits for none."""

    gateway: str  # its sn
    events: tuple[Event, ...]
    answer: Publish | None = None


def topics_of(sn: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(hears, says): the topics of the gateway of this serial number, as filters."""
    hears = tuple(topic.format(sn=sn) for topic in _HEARS)
    return hears, tuple(topic.format(sn=sn) for topic in _SAYS)


def understand(
    topic: str, payload: bytes, *, now: datetime, dial_now: datetime, points: Points
) -> AcrelUplink | None:
    """What an Acrel gateway says; None where the topic or the body is not Acrel's.

    `now` is aware, `dial_now` the wall clock at the gateway, naive: a time request is answered by
    them. `points` comes from config/uplinks/acrel/.
    """
    domestic, overseas = _DOMESTIC.fullmatch(topic), _OVERSEAS.fullmatch(topic)
    body = read_object(payload) if domestic or overseas else None
    if body is None:
        return None
    if domestic is not None:
        return _domestic(domestic, body, now, points)
    assert overseas is not None
    return _overseas(overseas, body, dial_now, points)


def _domestic(
    matched: re.Match[str], body: dict[str, object], now: datetime, points: Points
) -> AcrelUplink:
    kind, product, sn = matched.groups()
    method = body.get("method")
    events: tuple[Event, ...]
    works = True
    if kind == "sys/dev" and method == "login":
        login = body.get("payload")
        works = not any(inside(login, key) in ("1", 1) for key in ("compress", "encrypt"))
        events = (Told(_facts(login, _LOGIN)),)
    elif kind == "sys/dev" and method == "time":
        events = (Heartbeat(b"time"),)
    elif kind == "data/up" and method in ("report", "update"):
        events = tuple(_reported(body, points))
    else:  # answers to commands included: without an order of ours they mean nothing here
        return AcrelUplink(sn, (Unrecognised(sample_of([f"{kind} {method!r:.60}"])),))
    if method == "report" or not isinstance(body.get("msgid"), str | int):
        return AcrelUplink(sn, events)
    if len(str(body["msgid"])) > _WORD_CHARACTERS_MAX:
        return AcrelUplink(sn, events)
    answer = {
        "msgid": body["msgid"],
        "method": method,
        "sn": sn,
        "timestamp": int(now.timestamp()),
        "res": int(works),
        "errcode": 0 if works else 1,
    }
    return AcrelUplink(sn, events, _publish(f"{_ANSWERED[kind]}/{product}/{sn}", answer))


def _reported(body: dict[str, object], points: Points) -> Iterator[Event]:
    """A report's meters. History counts only with an instant of its own: the envelope's is that of
    sending, and old values under a new instant would be a lie."""
    payload = body.get("payload")
    reported = inside(payload, "reported")
    is_history = inside(reported, "source") == "HISTORY"
    meters = inside(reported, "meters")
    if isinstance(meters, list):
        listed = [(inside(meter, "addr"), meter) for meter in meters[:METERS_MAX]]
    else:
        old = inside(reported, "meter")
        listed = list(old.items())[:METERS_MAX] if isinstance(old, dict) else []
    if not listed:
        yield Unrecognised(sample_of(["a report without meters"]))
    for name, meter in listed:
        own = inside(meter, "timestamp")
        at = instant_of(body.get("timestamp") if own is None and not is_history else own, _SECOND)
        values, left_over = _values(meter, points, _BESIDE)
        who = _meter(name)
        if values and at is not None and who is not None:
            unit, number = who
            yield Pushed(
                Upload(unit=unit, number=number, at=at, values=values, is_history=is_history)
            )
        elif values:
            left_over.append(f"meter {name!r:.40} without instant or name")
        if left_over:
            yield Unrecognised(sample_of(left_over))


def _overseas(
    matched: re.Match[str], body: dict[str, object], dial_now: datetime, points: Points
) -> AcrelUplink:
    product, command, sn = matched.groups()
    events: tuple[Event, ...]
    answer: dict[str, object] | None = None
    match command:
        case "login":
            events, answer = (Told(_facts(body, _LOGIN)),), {"type": "login", "res": 1}
        case "time":
            # That the time stands under this key is inferred from the other bodies.
            events = (Heartbeat(b"time"),)
            answer = {"type": "time", "res": 1, "time": dial_now.strftime("%Y%m%d%H%M%S")}
        case "heart" | "para":
            events = (Heartbeat(command.encode()),)
        case "data" | "hstdata":
            events = tuple(_data(body, points, is_history=command == "hstdata"))
        case _:
            events = (Unrecognised(sample_of([f"acrelHW {command}"])),)
    if answer is None:
        return AcrelUplink(sn, events)
    return AcrelUplink(sn, events, _publish(f"/server/acrelHW/{product}/{command}/{sn}", answer))


def _data(body: dict[str, object], points: Points, *, is_history: bool) -> Iterator[Event]:
    """Values by name, or by id in data[].point[]; the meter is named by its serial number."""
    dial, listed = dial_of(body.get("time")), body.get("data")
    looks: list[tuple[object, object, frozenset[str]]] = []
    for entry in listed[:METERS_MAX] if isinstance(listed, list) else ():
        pairs = inside(entry, "point")
        by_id = {
            str(inside(pair, "id")): inside(pair, "val")
            for pair in (pairs if isinstance(pairs, list) else ())
        }
        looks.append((by_id.get("0"), by_id, frozenset({"0"})))
    if not looks:
        looks.append((body.get("meterSN"), body, _BESIDE_OVERSEAS))
    for name, fields, beside in looks:
        values, left_over = _values(fields, points, beside)
        if values and is_number(name) and dial is not None and body.get("meterStatus") != "missing":
            yield Pushed(Upload(number=str(name), dial=dial, values=values, is_history=is_history))
        else:
            left_over.append(f"meter {name!r:.40} missing, nameless, empty or without instant")
        if left_over:
            yield Unrecognised(sample_of(left_over))


def _values(fields: object, points: Points, beside: frozenset[str]) -> tuple[Values, list[str]]:
    """What the table knows, and the rest as it was said."""
    values: Values = {}
    left_over: list[str] = []
    for name, value in fields.items() if isinstance(fields, dict) else ():
        point = points.get(name)
        number = scaled(value, point.times, point.quantity) if point else None
        if point is None or number is None:
            if name not in beside:
                left_over.append(f"{name:.40}={value!r:.40}")
        elif values.setdefault(point.quantity, number) != number:
            left_over.append(f"{name}={value!r:.40} contradicts")
    return values, left_over


def _meter(name: object) -> tuple[int, str] | None:
    """A unit id, or else a number: "addr" is whichever the gateway was set up with."""
    text = str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""
    if not is_number(text):
        return None
    if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) and 1 <= int(text) <= UNIT_MAX:
        return int(text), ""
    return 0, text


# A login's words and ours. Signal strength overseas is in per cent.
_LOGIN = {
    "ccid": "iccid",
    "imei": "imei",
    "softversion": "firmware",
    "ver": "firmware",
    "upInterval": "interval_s",
    "rssi": "rssi_percent",
}


def _facts(found: object, words: Mapping[str, str]) -> dict[str, str | int]:
    facts: dict[str, str | int] = {}
    for theirs, ours in words.items():
        value = inside(found, theirs)
        if isinstance(value, str | int) and len(str(value)) <= _WORD_CHARACTERS_MAX:
            facts[ours] = value
    return facts


def _publish(topic: str, body: Mapping[str, object]) -> Publish:
    return Publish(topic, json.dumps(body, separators=(",", ":")).encode())
