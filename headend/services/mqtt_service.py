"""MQTT as one part of the head-end: the broker, who may come to it, and what travels over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headend.domain.clock import Clock
from headend.domain.places import GatewayKind
from headend.domain.problems import Problem
from headend.services.broker_places import broker_place_of, embedded_broker_of, own_place
from headend.services.broker_users import BrokerUsers
from headend.services.lines import LineBook
from headend.services.mqtt_roads import MqttRoads, load_mappings
from headend.services.uplinks import Uplinks
from headend.settings import Settings
from headend.store.broker import EmbeddedBroker
from headend.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttService:
    """`roads` is None where MQTT is off, and `off` says why."""

    lines: LineBook
    users: BrokerUsers
    roads: MqttRoads | None
    broker: EmbeddedBroker | None  # None: the site's own, or none
    off: Problem | None = None

    async def follow(self) -> None:
        """After a reload of the places: users first, so that who is subscribed to may come."""
        await self.users.follow()
        if self.roads is not None:
            await self.roads.follow()
            return
        for at_work in self.lines.lines.values():
            if at_work.known.gateway.kind is GatewayKind.MQTT:
                at_work.line.detach(self.detail or "MQTT is off")

    @property
    def state(self) -> str:
        """up, down or off."""
        if self.roads is None:
            return "off"
        return "up" if self.roads.mqtt.is_connected else "down"

    @property
    def detail(self) -> str | None:
        """Why it is not up, as one sentence or clause; None while it is."""
        if self.off is not None:
            return self.off.text("en")
        return None if self.roads is None else self.roads.mqtt.down_reason

    @property
    def told(self) -> str:
        """What a person reads beside the lines: one sentence."""
        if self.off is not None:
            return self.off.text("en")
        return "MQTT is up." if self.detail is None else f"No MQTT: {self.detail}".rstrip(".") + "."

    @property
    def is_needed(self) -> bool:
        """Whether a line of ours goes over MQTT."""
        return any(
            at_work.known.gateway.kind is GatewayKind.MQTT for at_work in self.lines.lines.values()
        )

    def strangers(self) -> list[dict[str, Any]]:
        """Gateways that push and that nobody knows, as the list of boxes that dial in."""
        return [] if self.roads is None else self.roads.strangers()

    def record(self) -> dict[str, Any]:
        """For JSON: the broker, its state and why, counters, what nobody understood."""
        trouble = self.off or (self.broker.trouble if self.broker else None)
        head = {
            "state": self.state,
            "code": trouble.code if trouble else None,
            "detail": self.detail,
            "embedded": self.broker is not None,
        }
        return head | (self.roads.record() if self.roads is not None else {})


@asynccontextmanager
async def mqtt_running(
    settings: Settings, database: Database, book: LineBook, uplinks: Uplinks, clock: Clock
) -> AsyncIterator[MqttService]:
    """MQTT for as long as the block runs. Raises Problem for settings that cannot be used; a broker
    that does not start stops nothing else."""
    mappings = load_mappings()
    place = broker_place_of(settings)
    made = None if place is not None else embedded_broker_of(settings)
    broker = made if isinstance(made, EmbeddedBroker) else None
    off = made if isinstance(made, Problem) else None
    told = "" if place is None else f"{place.host}:{place.port}"
    users = BrokerUsers(database, clock, mappings[0], broker, place=told, off=off)
    async with AsyncExitStack() as stack:
        if broker is not None:
            await broker.start(await users.users())
            stack.push_async_callback(broker.stop)
            place = own_place(broker, users.own_password)
        roads = None
        if place is not None:
            roads = MqttRoads(
                place,
                book,
                uplinks,
                clock,
                share=settings.mqtt_share,
                mappings=mappings,
                # Whoever has our port meanwhile is not our broker.
                held=lambda: _why_held(broker),
            )
            roads.start()
            stack.push_async_callback(roads.stop)
        yield MqttService(lines=book, users=users, roads=roads, broker=broker, off=off)


def _why_held(broker: EmbeddedBroker | None) -> str | None:
    return None if broker is None or broker.trouble is None else broker.trouble.text("en")
