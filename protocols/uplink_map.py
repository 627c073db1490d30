"""JSON of any gateway, understood by a table: no two makers agree, so each is a file, not code.

A mapping file says which topics it is for, where in the body a meter, its instant and its points
stand, and which of our quantities each point is (spec field_protocols.md D). Where it is wrong,
one sentence says so with its key. What a payload has beyond the table is left over, and a sample
of it kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from protocols.reading import Quantity, Values
from protocols.stream import Event, Pushed, Unrecognised
from protocols.uplink import Upload
from protocols.uplink_json import dial_of, inside, instant_of, read_object, sample_of, scaled

POINTS_MAX = 5000  # in one payload: a cabinet of 36 circuits has some 1,500
UNIT_MAX = 247  # Modbus unit ids
NUMBER_CHARACTERS_MAX = 64

_CAPTURE = re.compile(r"\{([a-z]+)\}")
_TIMES = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?", re.ASCII)
_SOURCES = ("topic", "point", "item", "body")
_SECOND, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
_TIME_FORMS = ("s", "ms", "compact")
_TEXTS = frozenset(
    {"topic", "gateway", "unit", "number", "items", "values", "pair_name", "pair_value", "point"}
    | {"time", "time_form", "history", "history_is"}
)


def is_number(found: object) -> bool:
    """Whether this can name a meter or a gateway: short, and with nothing a database refuses."""
    return (
        isinstance(found, str) and 1 <= len(found) <= NUMBER_CHARACTERS_MAX and found.isprintable()
    )


class BadMapping(Exception):
    """A mapping file that cannot be used: one sentence with the file and the key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word stands: captured from the topic or a point's name, in the item, in the body."""

    source: str
    path: str


@dataclass(frozen=True, slots=True)
class Point:
    """One point: which quantity, and how many of our units one of the gateway's is."""

    quantity: Quantity
    times: Decimal


@dataclass(frozen=True, slots=True)
class Uplink:
    """What one payload said: the gateway as it names itself, and what it told."""

    gateway: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkMap:
    """One mapping file, checked. Made by parse_uplink_map()."""

    file: str
    topic: re.Pattern[str]
    topic_filter: str  # what to subscribe to
    topic_text: str  # as the file has it, with its {words}
    gateway: Place
    unit: Place | None
    number: Place | None
    items: str  # path to a list, or to one object
    values: str  # path in an item: an object of points, or a list of pairs
    pair_name: str
    pair_value: str
    point: re.Pattern[str] | None
    time: Place | None
    time_form: str
    history: Place | None
    history_is: str
    points: Mapping[str, Point]

    def topic_of(self, gateway: str) -> str | None:
        """The topics one gateway publishes under, as a filter; None where the topic does not say
        whose it is, so that nobody can be kept from speaking for another."""
        if self.gateway.source != "topic":
            return None
        return _CAPTURE.sub("+", self.topic_text.replace(f"{{{self.gateway.path}}}", gateway))

    def understand(self, topic: str, payload: bytes) -> Uplink | None:
        """What this payload says; None where topic or body is none of this table's."""
        captured = self.topic.fullmatch(topic)
        body = read_object(payload)
        if captured is None or body is None:
            return None
        words = captured.groupdict()
        gateway = _Look(words, body, body, {}).text(self.gateway)
        if not is_number(gateway):
            return None
        left_over: list[str] = []
        events: list[Event] = []
        budget = _Budget(POINTS_MAX)
        for item in _listed(inside(body, self.items)):
            events.extend(self._item(words, body, item, left_over, budget))
        if left_over or not events:
            events.append(
                Unrecognised(sample_of(left_over or [payload.decode("utf-8", "replace")]))
            )
        return Uplink(gateway, tuple(events))

    def _item(
        self,
        words: Mapping[str, str],
        body: object,
        item: object,
        left_over: list[str],
        budget: _Budget,
    ) -> Iterator[Event]:
        """The looks in one item: one for each meter its points name."""
        looks: dict[tuple[int, str], tuple[_Look, Values]] = {}
        for name, value in self._pairs(item):
            if not budget.take():
                return
            split = self.point.fullmatch(name) if self.point else None
            in_point = split.groupdict() if split else {}
            look = _Look(words, body, item, in_point)
            meter = self._meter(look)
            point = self.points.get(in_point.get("point", name))
            number = scaled(value, point.times, point.quantity) if point else None
            if meter is None or point is None or number is None:
                left_over.append(f"{name}={value!r:.40}")
                continue
            values = looks.setdefault(meter, (look, {}))[1]
            if values.setdefault(point.quantity, number) != number:
                left_over.append(f"{name}={value!r:.40} contradicts")
        for (unit, number_text), (look, values) in looks.items():
            yield self._event(look, unit, number_text, values)

    def _pairs(self, item: object) -> Iterator[tuple[str, object]]:
        found = inside(item, self.values)
        if isinstance(found, dict):
            yield from found.items()
        for pair in found if isinstance(found, list) else ():
            name = inside(pair, self.pair_name)
            if isinstance(name, str | int):
                yield str(name), inside(pair, self.pair_value)

    def _meter(self, look: _Look) -> tuple[int, str] | None:
        """Unit and number; None where the table says one stands there and none does."""
        unit, number = 0, ""
        if self.unit is not None:
            text = look.text(self.unit)
            if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= UNIT_MAX:
                return None
            unit = int(text)
        if self.number is not None:
            number = look.text(self.number)
            if not is_number(number):
                return None
        return unit, number

    def _event(self, look: _Look, unit: int, number: str, values: Values) -> Event:
        """A look; without its instant, where the table says one stands there, it is none."""
        at: datetime | None = None
        dial: datetime | None = None
        if self.time is not None:
            found = look.found(self.time)
            if self.time_form == "compact":
                dial = dial_of(found)
            else:
                at = instant_of(found, _SECOND if self.time_form == "s" else _MILLISECOND)
            if at is None and dial is None:
                return Unrecognised(sample_of([f"{self.time.path}={found!r:.60} is no instant"]))
        is_history = self.history is not None and look.text(self.history) == self.history_is
        return Pushed(
            Upload(unit=unit, number=number, at=at, dial=dial, values=values, is_history=is_history)
        )


@dataclass(slots=True)
class _Budget:
    """Points still to be looked at in this payload."""

    left: int

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


@dataclass(frozen=True, slots=True)
class _Look:
    """Everything a place can point into."""

    topic: Mapping[str, str]
    body: object
    item: object
    point: Mapping[str, str] = field(default_factory=dict)

    def found(self, place: Place) -> object:
        if place.source in ("topic", "point"):
            return (self.topic if place.source == "topic" else self.point).get(place.path)
        return inside(self.body if place.source == "body" else self.item, place.path)

    def text(self, place: Place) -> str:
        found = self.found(place)
        if isinstance(found, bool):
            return "true" if found else "false"
        if isinstance(found, int):
            return str(found) if abs(found) < 10**NUMBER_CHARACTERS_MAX else ""
        return found if isinstance(found, str) else ""


def _listed(found: object) -> list[object]:
    if isinstance(found, list):
        return found
    return [found] if isinstance(found, dict) else []


def parse_uplink_map(file: str, table: Mapping[str, object]) -> UplinkMap:
    """A mapping file's table, checked. Raises BadMapping."""
    texts: dict[str, str] = {}
    for key, value in table.items():
        if key == "points":
            continue
        if key not in _TEXTS:
            raise BadMapping(f"{file}: there is no key {key}")
        if not isinstance(value, str):
            raise BadMapping(f"{file}: {key} must be a text")
        texts[key] = value
    for key in ("topic", "gateway"):
        if not texts.get(key):
            raise BadMapping(f"{file}: {key} is missing")
    time_form = texts.get("time_form", "s")
    if time_form not in _TIME_FORMS:
        raise BadMapping(f"{file}: time_form must be one of {', '.join(_TIME_FORMS)}")
    if ("history" in texts) != ("history_is" in texts):
        raise BadMapping(f"{file}: history and history_is belong together")
    topic, topic_filter = _topic(file, texts["topic"])
    point = _pattern(file, "point", texts["point"]) if "point" in texts else None
    if point is not None and "point" not in point.groupindex:
        raise BadMapping(f"{file}: point needs {{point}}, the point's name")
    parts = {"topic": topic, "point": point}
    return UplinkMap(
        file=file,
        topic=topic,
        topic_filter=topic_filter,
        topic_text=texts["topic"],
        gateway=_place(file, "gateway", texts["gateway"], parts),
        unit=_optional_place(file, "unit", texts, parts),
        number=_optional_place(file, "number", texts, parts),
        items=texts.get("items", ""),
        values=texts.get("values", ""),
        pair_name=texts.get("pair_name", "name"),
        pair_value=texts.get("pair_value", "value"),
        point=point,
        time=_optional_place(file, "time", texts, parts),
        time_form=time_form,
        history=_optional_place(file, "history", texts, parts),
        history_is=texts.get("history_is", ""),
        points=parse_points(file, table.get("points")),
    )


def _topic(file: str, text: str) -> tuple[re.Pattern[str], str]:
    if any(sign in text for sign in "+#$"):
        raise BadMapping(f"{file}: topic takes {{words}} in place of wildcards")
    if any(_CAPTURE.search(level) and not _CAPTURE.fullmatch(level) for level in text.split("/")):
        raise BadMapping(f"{file}: topic has a {{word}} that is no whole level")
    return _pattern(file, "topic", text), _CAPTURE.sub("+", text)


def _pattern(file: str, key: str, text: str) -> re.Pattern[str]:
    """Text with {words}, each of which stands for one or more characters other than a slash."""
    pattern, words = "", set()
    for index, piece in enumerate(_CAPTURE.split(text)):
        if index % 2 == 0:
            pattern += re.escape(piece)
        elif piece in words:
            raise BadMapping(f"{file}: {key} has {{{piece}}} twice")
        else:
            words.add(piece)
            pattern += f"(?P<{piece}>[0-9]{{1,3}})" if piece == "unit" else f"(?P<{piece}>[^/]+?)"
    return re.compile(pattern)


def _optional_place(
    file: str, key: str, texts: Mapping[str, str], parts: Mapping[str, re.Pattern[str] | None]
) -> Place | None:
    return _place(file, key, texts[key], parts) if key in texts else None


def _place(file: str, key: str, text: str, parts: Mapping[str, re.Pattern[str] | None]) -> Place:
    source, colon, path = text.partition(":")
    if not colon or source not in _SOURCES or not path:
        raise BadMapping(
            f"{file}: {key} must be like topic:word, point:word, item:path or body:path"
        )
    if key == "gateway" and source not in ("topic", "body"):
        raise BadMapping(f"{file}: gateway must stand in the topic or the body")
    if source in parts:
        pattern = parts[source]
        if pattern is None or path not in pattern.groupindex:
            raise BadMapping(f"{file}: {key} names {{{path}}}, which {source} does not have")
    return Place(source, path)


def parse_points(file: str, found: object) -> Mapping[str, Point]:
    """The points of a file, checked. Raises BadMapping."""
    if not isinstance(found, dict) or not found:
        raise BadMapping(f"{file}: points is missing")
    points = {}
    for name, entry in found.items():
        key = f"points.{name}"
        if not isinstance(entry, dict) or entry.keys() - {"quantity", "times"}:
            raise BadMapping(f"{file}: {key} must be {{ quantity, times }}")
        try:
            quantity = Quantity(entry.get("quantity"))
        except ValueError:
            raise BadMapping(f"{file}: {key} has no quantity of ours") from None
        times = str(entry.get("times", "1"))
        if not _TIMES.fullmatch(times) or not Decimal(times):
            raise BadMapping(f"{file}: {key} has times that is no positive decimal")
        points[name] = Point(quantity, Decimal(times))
    return MappingProxyType(points)
