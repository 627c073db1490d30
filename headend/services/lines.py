"""The lines and meters this process works with: built from the database, kept open, followed.

`reload` compares what the database says with what runs: an unchanged line keeps its link and its
counters, a changed one is closed and made anew, a vanished one is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateways.dial_in import DialIn, DialInLimits, DtuConfig, ListenError
from gateways.keeper import keep_open
from gateways.line import Line
from gateways.link import ByteLink, LinkDown
from gateways.serial_link import SerialSettings, opener
from gateways.tcp_link import dialler
from gateways.timing import LineTiming
from gateways.turns import Priority
from headend.domain.places import Gateway, GatewayKind, LinePlace
from headend.domain.problems import Problem
from headend.services.looks import MeterAtWork
from headend.store.places import KnownLine, KnownMeter, KnownSite
from protocols.dtu import DtuPatterns, parse_pattern
from protocols.exchange import ProtocolError
from protocols.meter_type import BadOption, MeterType

log = logging.getLogger(__name__)


def timing_of(place: LinePlace, gateway: Gateway) -> LineTiming:
    """The patience of a line: what its file says, else what its kind of gateway needs."""
    given: dict[str, Any] = {
        "parity": place.parity,
        "stop_bits": place.stop_bits,
        "baud": place.baud,
        "turnaround_s": place.turnaround_ms / 1000,
    }
    if place.reply_timeout_ms is not None:
        given["reply_timeout_s"] = place.reply_timeout_ms / 1000
    if place.reply_late_ms_max is not None:
        given["reply_late_s_max"] = place.reply_late_ms_max / 1000
    if gateway.kind is GatewayKind.SERIAL:
        return LineTiming.serial(**given)
    return LineTiming.network(mobile=gateway.kind is GatewayKind.DTU, **given)


class LineAtWork:
    """One line with its gateway, its meters and whatever keeps it open."""

    def __init__(self, known: KnownLine) -> None:
        self.known = known
        self.meters: list[MeterAtWork] = []
        self.line = Line(known.place.name, timing_of(known.place, known.gateway))
        self._keeper: asyncio.Task[None] | None = None
        self._start_keeper()

    @property
    def name(self) -> str:
        return self.known.place.name

    @property
    def site(self) -> str:
        return self.known.site

    def _start_keeper(self) -> None:
        place, gateway = self.known.place, self.known.gateway
        match gateway.kind:
            case GatewayKind.SERIAL:
                assert gateway.device is not None, "the schema asks for it"
                settings = SerialSettings(
                    baud=place.baud, parity=place.parity, stop_bits=place.stop_bits
                )
                opened = keep_open(self.line, opener(gateway.device, settings))
            case GatewayKind.TCP:
                assert gateway.host is not None, "the schema asks for it"
                assert gateway.port is not None, "the schema asks for it"
                opened = keep_open(self.line, dialler(gateway.host, gateway.port))
            case GatewayKind.DTU:
                self.line.detach(f"DTU {gateway.name} has not dialled in")
                return
        self._keeper = asyncio.create_task(opened, name=f"keeps {self.name} open")

    async def close(self) -> None:
        """Close the link; whoever waits for the line is told."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self.line.detach("closed by this program")

    async def wait_up(self, patience_s: float | None) -> bool:
        """Wait until the line has a link; False when `patience_s` passed without one."""
        try:
            async with asyncio.timeout(patience_s):
                await self.line.wait_up()
        except TimeoutError:
            return False
        return True

    def record(self) -> dict[str, Any]:
        """For JSON: state, reason and counters."""
        seen = self.line.snapshot()
        return {
            "line": self.name,
            "site": self.site,
            "gateway": self.known.gateway.name,
            "kind": self.known.gateway.kind.value,
            "state": "up" if seen.is_up else "down",
            "detail": seen.link if seen.is_up else seen.down_reason,
            "down_since": self.line.down_since.isoformat() if self.line.down_since else None,
            "meters": len(self.meters),
            "silent_meters": sum(party.isolated for party in seen.parties),
            "exchanges": seen.exchanges,
            "answers": seen.answers,
            "refusals": seen.refusals,
            "silences": seen.silences,
            "garbled": seen.garbled,
            "late": seen.late,
            "stray_bytes": seen.stray_bytes,
            "bytes_out": seen.bytes_out,
            "bytes_in": seen.bytes_in,
            "busy_share": seen.busy_share,
            "p50_ms": seen.reply_ms_p50,
            "p95_ms": seen.reply_ms_p95,
        }


class LineBook:
    """Every line and meter of every site, by name and by number."""

    def __init__(self, meter_types: Mapping[str, MeterType]) -> None:
        self._meter_types = meter_types
        self._dial_in: DialIn | None = None
        self._dtus: dict[str, LineAtWork] = {}  # by gateway
        self._dtu_configs: dict[str, DtuConfig] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self.sites: dict[str, KnownSite] = {}
        self.lines: dict[str, LineAtWork] = {}
        self.meters: dict[str, MeterAtWork] = {}
        self.by_id: dict[int, MeterAtWork] = {}

    def find_line(self, name: str) -> LineAtWork:
        """Raises Problem("no-such-line")."""
        try:
            return self.lines[name]
        except KeyError:
            raise Problem("no-such-line", line=name) from None

    def find_meter(self, name: str) -> MeterAtWork:
        """Raises Problem("no-such-meter")."""
        try:
            return self.meters[name]
        except KeyError:
            raise Problem("no-such-meter", meter=name) from None

    async def reload(
        self,
        sites: Sequence[KnownSite],
        lines: Sequence[KnownLine],
        meters: Sequence[KnownMeter],
        energies_wh: Mapping[int, int],
    ) -> set[str]:
        """Follow the database; returns the sites whose lines or meters changed.

        `energies_wh`: the last energy of each meter, to notice a counter that fell.
        """
        changed = {site.name for site in sites} ^ set(self.sites)
        self.sites = {site.name: site for site in sites}
        changed |= await self._reload_lines(lines)
        changed |= self._reload_meters(meters, energies_wh)
        return changed & set(self.sites)

    async def _reload_lines(self, lines: Sequence[KnownLine]) -> set[str]:
        wanted = {known.place.name: known for known in lines}
        changed = set()
        for name, at_work in list(self.lines.items()):
            if wanted.get(name) != at_work.known:
                changed.add(at_work.site)
                del self.lines[name]
                await at_work.close()
        for name, known in wanted.items():
            if name not in self.lines:
                changed.add(known.site)
                self.lines[name] = LineAtWork(known)
        # The site file's order is the technician's order.
        self.lines = {name: self.lines[name] for name in wanted}
        self._follow_dial_in()
        return changed

    def _reload_meters(
        self, meters: Sequence[KnownMeter], energies_wh: Mapping[int, int]
    ) -> set[str]:
        before = self.by_id
        self.by_id = {}
        changed = set()
        for known in meters:
            meter = before.get(known.meter_id)
            if meter is None or meter.known != known:
                changed.add(known.site)
                meter = self._at_work(known, energies_wh.get(known.meter_id))
            if meter is not None:
                self.by_id[known.meter_id] = meter
        changed |= {
            meter.known.site for number, meter in before.items() if number not in self.by_id
        }
        self.meters = {meter.known.name: meter for meter in self.by_id.values()}
        for at_work in self.lines.values():
            at_work.meters = []
        for meter in self.by_id.values():
            self.lines[meter.known.line].meters.append(meter)
        return changed

    def _at_work(self, known: KnownMeter, energy_wh: int | None) -> MeterAtWork | None:
        meter_type = self._meter_types.get(known.meter_type)
        if meter_type is None:
            # Imported by a program that had this type; its cells keep saying "not tried".
            log.error("meter %s: this program has no type %s", known.name, known.meter_type)
            return None
        try:
            driver = meter_type.new_driver(known.options)
        except BadOption as error:
            log.error("meter %s: %s", known.name, error)
            return None
        return MeterAtWork(known, meter_type, driver, energy_wh)

    # ---- DTUs -----------------------------------------------------------------------------------

    async def listen(self, host: str, port: int, *, sockets_max: int) -> None:
        """Accept DTUs. Port 0 takes any free one, told by `dial_in_port`. Raises Problem."""
        self._dial_in = DialIn(
            host,
            port,
            {},
            self._dialled_in,
            idle_probe=self._speak_to,
            limits=DialInLimits(sockets_max=sockets_max),
        )
        try:
            await self._dial_in.start()
        except ListenError as error:
            self._dial_in = None
            raise Problem("dial-in", detail=error) from error

    @property
    def dial_in_port(self) -> int:
        """The port DTUs dial."""
        assert self._dial_in is not None, "listen() first"
        return self._dial_in.port

    def strangers(self) -> list[dict[str, Any]]:
        """DTUs that dialled in under no known name, for the console."""
        if self._dial_in is None:
            return []
        return [
            {
                "sample": stranger.shown,
                "address": stranger.address,
                "calls": stranger.calls,
                "last_seen_at": datetime.fromtimestamp(stranger.last_seen_s, UTC).isoformat(),
            }
            for stranger in self._dial_in.strangers()
        ]

    def _follow_dial_in(self) -> None:
        dtus = {
            at_work.known.gateway.name: at_work
            for at_work in self.lines.values()
            if at_work.known.gateway.kind is GatewayKind.DTU
        }
        configs = {name: _dtu_config(at_work.known.gateway) for name, at_work in dtus.items()}
        if self._dial_in is not None and configs != self._dtu_configs:
            self._dial_in.set_gateways(configs)
        self._dtus, self._dtu_configs = dtus, configs

    def _dialled_in(self, gateway: str, link: ByteLink) -> None:
        if (at_work := self._dtus.get(gateway)) is not None:
            at_work.line.attach(link)
        else:
            link.close()

    def _speak_to(self, gateway: str) -> None:
        """We have not spoken to this DTU for long and it would reboot: ask one of its meters."""
        at_work = self._dtus.get(gateway)
        if at_work is None or not at_work.meters:
            return
        meter = at_work.meters[0]

        async def ask() -> None:
            with contextlib.suppress(ProtocolError, LinkDown):
                # A person's priority: a meter known to be dead is asked all the same.
                await at_work.line.converse(
                    meter.address,
                    meter.driver.identify(meter.address),
                    priority=Priority.ASKED_NOW,
                )

        task = asyncio.create_task(ask(), name=f"keeps DTU {gateway} awake")
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def close(self) -> None:
        """Hang up on every DTU and close every line."""
        for task in tuple(self._probes):
            task.cancel()
        if self._dial_in is not None:
            await self._dial_in.stop()
        for at_work in self.lines.values():
            await at_work.close()
        self.lines.clear()


def _dtu_config(gateway: Gateway) -> DtuConfig:
    assert gateway.registration is not None, "the schema asks for it"
    return DtuConfig(
        patterns=DtuPatterns(
            registration=parse_pattern(gateway.registration),
            heartbeat=parse_pattern(gateway.heartbeat) if gateway.heartbeat else None,
        ),
        heartbeat_s=gateway.heartbeat_s,
    )
