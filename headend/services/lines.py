"""The lines and meters this process works with: built from the database, kept open, followed.

`reload` compares what the database says with what runs: an unchanged line keeps its link and its
counters, a changed one is closed and made anew, a vanished one is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateways.dial_in import nothing_pushed, nothing_told
from gateways.keeper import keep_open
from gateways.line import Line
from gateways.mqtt_link import LATE_AFTER_TIMEOUT_S_MIN
from gateways.serial_link import SerialSettings, opener
from gateways.tcp_link import dialler
from gateways.timing import LineTiming
from gateways.turns import Turns
from headend.domain.clock import Clock, SystemClock
from headend.domain.places import ONE_AT_A_TIME, Gateway, GatewayKind, LinePlace
from headend.domain.problems import Problem
from headend.services.dial_ins import DIALS_IN, DialIns, OnFacts, OnUpload
from headend.services.looks import MeterAtWork
from headend.store.places import KnownLine, KnownMeter, KnownSite
from protocols.keys import KeyHolder
from protocols.meter_type import BadOption, MeterType, Options

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
    timing = LineTiming.network(mobile=gateway.kind in DIALS_IN, **given)
    if gateway.kind is GatewayKind.MQTT:
        # A frame may lie in the broker for a moment, and is not dead before that is over.
        late_s_min = timing.reply_timeout_s + LATE_AFTER_TIMEOUT_S_MIN
        timing = replace(timing, reply_late_s_max=max(timing.reply_late_s_max, late_s_min))
    return timing


class LineAtWork:
    """One line with its gateway, its meters and whatever keeps it open."""

    def __init__(self, known: KnownLine, turns: Turns | None = None) -> None:
        """`turns`: those of its gateway, where that carries one request at a time."""
        self.known = known
        self.meters: list[MeterAtWork] = []
        self.line = Line(known.place.name, timing_of(known.place, known.gateway), turns=turns)
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
            case GatewayKind.ACREL_4G | GatewayKind.ACREL_GATEWAY | GatewayKind.TERMINAL:
                # A terminal on a serial port is held there by DialIns.
                self.line.detach(f"{gateway.name} has not dialled in")
                return
            case GatewayKind.MODBUS_TCP:
                # pymodbus is slow to import, and few sites have one of these.
                from gateways import modbus_tcp

                assert gateway.host is not None, "the schema asks for it"
                assert gateway.port is not None, "the schema asks for it"
                opened = keep_open(self.line, modbus_tcp.dialler(gateway.host, gateway.port))
            case GatewayKind.MQTT:
                self.line.detach(f"{gateway.name} has not been reached")
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

    def __init__(
        self,
        meter_types: Mapping[str, MeterType],
        *,
        clock: Clock | None = None,
        key_holder: KeyHolder | None = None,
        on_facts: OnFacts = nothing_told,
        on_upload: OnUpload = nothing_pushed,
    ) -> None:
        """`on_facts(gateway, facts)` and `on_upload(gateway, upload)`: what boxes that dial in say
        about themselves, and the readings they send by themselves; both must come back at once."""
        self._meter_types = meter_types
        self._key_holder = key_holder
        self.dial_ins = DialIns(clock or SystemClock(), on_facts=on_facts, on_upload=on_upload)
        self._turns: dict[str, Turns] = {}  # by gateway
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
                self.dial_ins.forget(at_work)
                await at_work.close()
        for name, known in wanted.items():
            if name not in self.lines:
                changed.add(known.site)
                self.lines[name] = LineAtWork(known, self._turns_of(known.gateway))
        # The site file's order is the technician's order.
        self.lines = {name: self.lines[name] for name in wanted}
        self.dial_ins.follow(
            self.lines.values(), {name: site.place.time_zone for name, site in self.sites.items()}
        )
        return changed

    def _turns_of(self, gateway: Gateway) -> Turns | None:
        if gateway.kind not in ONE_AT_A_TIME:
            return None
        # Kept over a change of one of its lines: the others are in the middle of theirs.
        return self._turns.setdefault(gateway.name, Turns())

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
            options: Options = known.options
            if meter_type.needs_key_holder and self._key_holder is not None:
                options = {**options, "key_holder": self._key_holder}
            driver = meter_type.new_driver(options)
        except BadOption as error:
            log.error("meter %s: %s", known.name, error)
            return None
        return MeterAtWork(known, meter_type, driver, energy_wh)

    # ---- what dials in --------------------------------------------------------------------------

    async def listen(self, host: str, port: int, *, sockets_max: int) -> None:
        """Accept boxes that dial in. Port 0 takes any free one, told by `dial_in_port`.

        Raises Problem.
        """
        await self.dial_ins.listen(host, port, sockets_max=sockets_max)

    @property
    def dial_in_port(self) -> int:
        """The port boxes dial."""
        return self.dial_ins.port

    def strangers(self) -> list[dict[str, Any]]:
        """Boxes that dialled in under no known name, for the console."""
        return self.dial_ins.strangers()

    async def close(self) -> None:
        """Hang up on every box and close every line."""
        await self.dial_ins.close()
        for at_work in self.lines.values():
            await at_work.close()
        self.lines.clear()
