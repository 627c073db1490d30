"""GET /metrics for Prometheus: gathered when asked, with few labels (decision 17)."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateways.health import LineHealth
from headend.domain.problems import Problem
from headend.domain.roles import Permission
from headend.services.gateway_health import gateway_records
from headend.services.lines import LineBook
from headend.services.services import Services
from headend.store import people, queue
from headend.store.errors import DatabaseAway
from headend.web.auth import bearer
from headend.web.common import Asked

router = APIRouter(tags=["health"])

# Gateways with series of their own. Above it only sums are told, and that is told too.
GATEWAYS_SHOWN_MAX = 2_000
_EXCHANGES = ("answers", "refusals", "silences", "garbled", "late", "cut_off", "unsettled")
_COUNTED = (*_EXCHANGES, "bytes_in", "bytes_out", "stray_bytes", "links")


class LineTotals:
    """Sums over lines by site and kind that never fall, although lines come and go.

    What a line counted between the last look and its end is not in them.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[LineHealth, dict[str, int]]] = {}
        self.totals: dict[tuple[str, str], Counter[str]] = {}

    def look(self, lines: LineBook) -> Mapping[tuple[str, str], Counter[str]]:
        """The sums as they are now."""
        seen: dict[str, tuple[LineHealth, dict[str, int]]] = {}
        for name, at_work in lines.lines.items():
            health = at_work.line.health
            now = {field: int(getattr(health, field)) for field in _COUNTED}
            known, before = self._seen.get(name, (health, {}))
            if known is not health:
                before = {}  # made anew: its counters began at nothing
            key = (at_work.site, at_work.known.gateway.kind.value)
            total = self.totals.setdefault(key, Counter())
            for field, value in now.items():
                total[field] += value - before.get(field, 0)
            seen[name] = (health, now)
        self._seen = seen
        return self.totals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # the registry keeps it in a dict
class _Gathered(Collector):
    """Everything one scrape tells."""

    services: Services
    totals: Mapping[tuple[str, str], Counter[str]]
    commands: Mapping[str, int] | None  # None: the database is away

    def collect(self) -> Iterator[Metric]:
        yield from self._process()
        yield from self._mqtt()
        yield from self._lines()
        yield from self._gateways()

    def _process(self) -> Iterator[Metric]:
        state = self.services.sink.state()
        up_s = (self.services.clock.now() - self.services.started_at).total_seconds()
        yield _gauge("headend_uptime_seconds", "Since this process began", up_s)
        yield _gauge(
            "headend_database_up",
            "1 while the database answers",
            int(self.commands is not None),
        )
        yield _gauge("headend_readings_waiting", "Readings not stored yet", state.waiting)
        yield _gauge("headend_readings_spooled_bytes", "Of them on disk", state.spooled_bytes)
        yield CounterMetricFamily("headend_readings_stored", "Readings stored", value=state.stored)
        yield CounterMetricFamily(
            "headend_turned_away",
            "Calls of boxes that could not prove who they are",
            value=self.services.lines.dial_ins.turned_away,
        )
        if self.commands is not None:
            open_commands = GaugeMetricFamily(
                "headend_open_commands", "Commands that have not ended, by state", labels=["state"]
            )
            for name, count in self.commands.items():
                open_commands.add_metric([name], count)
            yield open_commands

    def _mqtt(self) -> Iterator[Metric]:
        mqtt = self.services.mqtt
        yield _gauge(
            "headend_mqtt_up", "1 while the MQTT broker is reached", int(mqtt.state == "up")
        )
        yield _gauge("headend_mqtt_off", "1 where there is no broker", int(mqtt.state == "off"))
        if mqtt.roads is None:
            return
        messages = CounterMetricFamily(
            "headend_mqtt_messages", "What came over MQTT, by what became of it", labels=["kind"]
        )
        for kind, count in mqtt.roads.counted().items():
            messages.add_metric([kind], count)
        yield messages
        yield CounterMetricFamily(
            "headend_mqtt_connections",
            "How often the broker was reached",
            value=mqtt.roads.mqtt.reconnects,
        )

    def _lines(self) -> Iterator[Metric]:
        lines = GaugeMetricFamily(
            "headend_lines", "Lines by site, kind and state", labels=["site", "kind", "state"]
        )
        counted = Counter(
            (at_work.site, at_work.known.gateway.kind.value, at_work.line.is_up)
            for at_work in self.services.lines.lines.values()
        )
        for site, kind in sorted({key[:2] for key in counted}):
            for is_up in (True, False):
                state = "up" if is_up else "down"
                lines.add_metric([site, kind, state], counted[(site, kind, is_up)])
        yield lines
        labels = ["site", "kind"]
        exchanges = CounterMetricFamily(
            "headend_exchanges", "What came of requests to meters", labels=[*labels, "outcome"]
        )
        passed = CounterMetricFamily(
            "headend_line_bytes", "Bytes on lines", labels=[*labels, "direction"]
        )
        links = CounterMetricFamily("headend_links", "How often a link came up", labels=labels)
        for key, total in self.totals.items():
            for outcome in _EXCHANGES:
                exchanges.add_metric([*key, outcome], total[outcome])
            for direction in ("in", "out"):
                passed.add_metric([*key, direction], total[f"bytes_{direction}"])
            passed.add_metric([*key, "stray"], total["stray_bytes"])
            links.add_metric([*key], total["links"])
        yield from (exchanges, passed, links)

    def _gateways(self) -> Iterator[Metric]:
        rows = gateway_records(self.services.lines, self.services.facts, self.services.clock)
        hidden = len(rows) if len(rows) > GATEWAYS_SHOWN_MAX else 0
        yield _gauge("headend_gateways_not_shown", "Too many for series of their own", hidden)
        if hidden:
            return
        yield _by_gateway(
            "headend_gateway_up",
            "1 while every line of the gateway has a link",
            ((row, int(row["state"] == "up")) for row in rows),
        )
        yield _by_gateway(
            "headend_gateway_signal_dbm",
            "Signal the box told last",
            ((row, row["rssi_dbm"]) for row in rows),
        )
        yield _by_gateway(
            "headend_gateway_error_ratio",
            "Share of its recent exchanges without a good answer",
            ((row, _share(row["error_permille"])) for row in rows),
        )


def _share(permille: int | None) -> float | None:
    return None if permille is None else permille / 1000


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _by_gateway(
    name: str, told: str, values: Iterable[tuple[Mapping[str, Any], float | None]]
) -> Metric:
    family = GaugeMetricFamily(name, told, labels=["site", "gateway"])
    for row, value in values:
        if value is not None:  # nothing told is no series, never a zero
            family.add_metric([row["site"], row["gateway"]], value)
    return family


async def _scraper(
    request: Request,
    services: Asked,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> None:
    """This machine itself, or a token that may see. A proxy's call counts as from elsewhere."""
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    if given is None:
        if request.client is not None and not forwarded and _is_here(request.client.host):
            return
        raise Problem("no-token")
    async with services.database.transaction() as tx:
        caller = await people.caller_of(tx, given.credentials, services.clock.now())
    if caller is None:
        raise Problem("bad-token")
    if not caller.may(Permission.SEE) or caller.operator.sites is not None:
        raise Problem(
            "not-allowed",
            operator=caller.operator.name,
            role=caller.operator.role.value,
            action=f"{Permission.SEE.value} every site",
        )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@router.get("/metrics", summary="For Prometheus", dependencies=[Depends(_scraper)])
async def metrics(request: Request, services: Asked) -> Response:
    """Text of Prometheus. From this machine without a token, from elsewhere with one that may see
    every site. Its counters begin with the process."""
    totals: LineTotals = request.app.state.line_totals
    registry = CollectorRegistry()  # of this scrape: nothing global, nothing left behind
    try:
        async with services.database.transaction() as tx:
            commands = await queue.open_by_state(tx)
    except DatabaseAway:
        commands = None
    gathered = _Gathered(services=services, totals=totals.look(services.lines), commands=commands)
    registry.register(gathered)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
