"""MQTT gateways: their lines, what they push, and the answers they wait for.

A message belongs to a line when its topic is that line's; else the decoders are asked in turn
(Acrel's own topics, then the mapping files of config/uplinks/). What nobody understands is counted,
and the last of it is kept for people to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tomllib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from gateways.mqtt import BrokerPlace, Mqtt
from gateways.mqtt_link import MqttLink, Payload, expiry_s
from headend.domain.broker_names import name_fault
from headend.domain.clock import Clock
from headend.domain.places import Gateway, GatewayKind
from headend.domain.problems import Problem
from headend.services.lines import LineAtWork, LineBook
from headend.services.uplinks import Uplinks
from protocols import uplink_acrel
from protocols.stream import Event, Pushed, Told, Unrecognised
from protocols.uplink_json import sample_of
from protocols.uplink_map import BadMapping, Point, UplinkMap, parse_points, parse_uplink_map

log = logging.getLogger(__name__)

UPLINKS = Path("config/uplinks")
Mappings: TypeAlias = tuple[Sequence[UplinkMap], Mapping[str, Point]]

SAMPLES_MAX = 100  # unknown messages that are kept, one for each topic


def line_topics(gateway: Gateway, port: int) -> tuple[str, str]:
    """(down, up) of a line: as its gateway's options say, else our own."""
    words = {"id": gateway.registration, "port": port}
    down = str(gateway.options.get("down", "headend/{id}/down/{port}")).format(**words)
    up = str(gateway.options.get("up", "headend/{id}/up/{port}")).format(**words)
    return down, up


def load_mappings(folder: Path = UPLINKS) -> Mappings:
    """The mapping files, and Acrel's points. Raises Problem("settings-unreadable")."""
    maps: list[UplinkMap] = []
    points: dict[str, Point] = {}
    for path in sorted(folder.rglob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            if path.parent.name == "acrel":
                points |= parse_points(path.name, table.get("points"))
            else:
                maps.append(parse_uplink_map(path.name, table))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, BadMapping) as error:
            raise Problem("settings-unreadable", file=path, detail=error) from error
    return maps, points


class MqttRoads:
    """Everything this process does over MQTT."""

    def __init__(
        self,
        place: BrokerPlace,
        book: LineBook,
        uplinks: Uplinks,
        clock: Clock,
        *,
        share: str = "",
        mappings: Mappings | None = None,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`share`: a group of several processes that take pushed readings in turn ($share).
        `held`: why the broker must not be spoken to now; None: it may."""
        self._maps, self._points = load_mappings() if mappings is None else mappings
        self._book, self._uplinks, self._clock = book, uplinks, clock
        self._share = f"$share/{share}/" if share else ""
        self._links: dict[str, tuple[str, MqttLink]] = {}  # by topic up: line, link
        self._ups: set[str] = set()  # topics of lines
        self._gateways: dict[str, Gateway] = {}  # by registration
        self.counts: Counter[str] = Counter()
        self._unknown: OrderedDict[str, str] = OrderedDict()
        self._strangers: OrderedDict[str, dict[str, Any]] = OrderedDict()  # by registration
        self.mqtt = Mqtt(
            place,
            self._filters,
            self._message,
            on_rise=self._rose,
            on_fall=self._fell,
            held=held,
        )
        self._task: asyncio.Task[None] | None = None
        self._is_followed = asyncio.Event()

    def start(self) -> None:
        """Connect once the places are known, and after each loss."""
        self._task = asyncio.create_task(self._run(), name="mqtt")

    async def _run(self) -> None:
        # What was kept for us comes at once: before the first `follow` every gateway is a stranger.
        await self._is_followed.wait()
        await self.mqtt.run()

    async def stop(self) -> None:
        """Leave the broker; it keeps what comes for us."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._fell("closed by this program")

    async def follow(self) -> None:
        """After a reload of the places: new lines get links, new topics are subscribed."""
        lines = self._lines()
        self._gateways = {
            str(at_work.known.gateway.registration): at_work.known.gateway for at_work in lines
        }
        for registration in self._gateways:
            self._strangers.pop(registration, None)
        self._attach(lines)
        self._is_followed.set()
        await self.mqtt.resubscribe()

    def counted(self) -> dict[str, int]:
        """Messages since the start: answers of meters, those that came too late for anybody, what
        was pushed, what nobody understood."""
        return {name: self.counts[name] for name in ("frames", "late", "pushed", "unknown")}

    def strangers(self) -> list[dict[str, Any]]:
        """Gateways that pushed what we understand and that nobody knows, the last first."""
        return list(reversed(self._strangers.values()))

    def record(self) -> dict[str, Any]:
        """For JSON: the broker, counters, and what nobody understood."""
        return {
            "broker": f"{self.mqtt.place.host}:{self.mqtt.place.port}",
            "state": "up" if self.mqtt.is_connected else "down",
            "detail": self.mqtt.down_reason,
            "connections": self.mqtt.reconnects,
            "answers_dropped": self.mqtt.dropped,
            **self.counted(),
            "unknown_samples": [
                {"topic": topic, "sample": sample} for topic, sample in self._unknown.items()
            ],
        }

    # ---- lines ----------------------------------------------------------------------------------

    def _lines(self) -> list[LineAtWork]:
        return [
            at_work
            for at_work in self._book.lines.values()
            if at_work.known.gateway.kind is GatewayKind.MQTT
        ]

    def _attach(self, lines: Sequence[LineAtWork]) -> None:
        self._ups = {
            line_topics(at_work.known.gateway, at_work.known.place.port)[1] for at_work in lines
        }
        if not self.mqtt.is_connected:
            for at_work in lines:
                at_work.line.detach(self.mqtt.down_reason or "not connected yet")
            return
        wanted = {}
        for at_work in lines:
            gateway = at_work.known.gateway
            down, up = line_topics(gateway, at_work.known.place.port)
            kept = self._links.get(up)
            if kept is not None and kept[0] == at_work.name and at_work.line.is_up:
                wanted[up] = kept
                continue
            payload = Payload(str(gateway.options.get("payload", "raw")))
            expires_in_s = expiry_s(at_work.line.timing)
            link = MqttLink(self.mqtt, gateway.name, down, payload, expires_in_s=expires_in_s)
            wanted[up] = (at_work.name, link)
            at_work.line.attach(link)
        self._links = wanted

    def _rose(self) -> None:
        self._attach(self._lines())

    def _fell(self, reason: str) -> None:
        links, self._links = self._links, {}
        for _, link in links.values():
            link.lost(reason)
        for at_work in self._lines():
            if not at_work.line.is_up:
                at_work.line.detach(reason)

    # ---- messages -------------------------------------------------------------------------------

    def _filters(self) -> dict[str, int]:
        """What is pushed is kept for us; an answer is for the one who asked, now or never."""
        pushed = {*uplink_acrel.FILTERS, *(one.topic_filter for one in self._maps)}
        ups = (line_topics(a.known.gateway, a.known.place.port)[1] for a in self._lines())
        return {self._share + topic: 1 for topic in pushed} | dict.fromkeys(ups, 0)

    def _message(self, topic: str, payload: bytes) -> asyncio.Future[Any] | None:
        """What a message means; done once what it pushed is settled. None: nothing is owed."""
        there = self._links.get(topic)
        if there is not None:
            self.counts["frames"] += 1
            if not there[1].hear(payload):
                self._not_understood(topic, payload)
            return None
        if topic in self._ups:
            self.counts["late"] += 1  # the line it answered is not there any more
            return None
        now = self._clock.now()
        said = uplink_acrel.understand(
            topic, payload, now=now, dial_now=self._dial(topic, now), points=self._points
        )
        if said is not None:
            if said.answer is not None:
                self.mqtt.tell(said.answer.topic, said.answer.payload)
            return self._take(topic, payload, said.gateway, said.events)
        for mapping in self._maps:
            if (told := mapping.understand(topic, payload)) is not None:
                return self._take(topic, payload, told.gateway, told.events)
        self._not_understood(topic, payload)
        return None

    def _dial(self, topic: str, now: datetime) -> datetime:
        """The wall clock at the gateway a topic names last; UTC where it is nobody's."""
        gateway = self._gateways.get(topic.rpartition("/")[2])
        for at_work in self._lines():
            if gateway is not None and at_work.known.gateway == gateway:
                zone = self._book.sites[at_work.site].place.time_zone
                return now.astimezone(zone).replace(tzinfo=None)
        return now.replace(tzinfo=None)

    def _take(
        self, topic: str, payload: bytes, registration: str, events: Sequence[Event]
    ) -> asyncio.Future[Any] | None:
        gateway = self._gateways.get(registration)
        if gateway is None:
            self._not_understood(topic, payload)
            self._met(registration, topic)
            return None
        settled: list[asyncio.Future[None]] = []
        for event in events:
            match event:
                case Pushed():
                    self.counts["pushed"] += 1
                    settled.append(asyncio.get_running_loop().create_future())
                    self._uplinks.take(gateway.name, event.upload, partial(_done, settled[-1]))
                case Told():
                    self._book.dial_ins.on_facts(gateway.name, event.facts)
                case Unrecognised():
                    self._not_understood(topic, event.sample)
                case _:
                    pass  # a sign of life
        return asyncio.gather(*settled) if settled else None

    def _met(self, registration: str, topic: str) -> None:
        if name_fault(registration) is not None:
            return  # it cannot be adopted under that name
        before = self._strangers.pop(registration, None)
        if before is None:
            log.info("a stranger pushes over MQTT under %s: %s", topic, registration)
        self._strangers[registration] = {
            "sample": sample_of([topic]).decode("utf-8", "replace"),
            "dialect": GatewayKind.MQTT.value,
            "registration": registration,
            "turned_away": "",
            "address": "MQTT",
            "calls": 1 + (before["calls"] if before else 0),
            "last_seen_at": self._clock.now().isoformat(),
        }
        while len(self._strangers) > SAMPLES_MAX:
            self._strangers.popitem(last=False)

    def _not_understood(self, topic: str, payload: bytes) -> None:
        self.counts["unknown"] += 1
        self._unknown.pop(topic, None)
        sample = sample_of([payload.decode("utf-8", "replace")])
        self._unknown[topic] = sample.decode("utf-8", "replace")
        while len(self._unknown) > SAMPLES_MAX:
            self._unknown.popitem(last=False)


def _done(settled: asyncio.Future[None]) -> None:
    if not settled.done():
        settled.set_result(None)
