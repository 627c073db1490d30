"""Boxes that dial in, whatever they speak: which of them we know, whose lines they carry, and what
they say besides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, Protocol, TypeAlias

from gateways.dial_in import BoxConfig, DialIn, DialInLimits, ListenError
from gateways.line import Line
from gateways.link import LinkDown
from gateways.port_session import keep_session
from gateways.serial_link import SerialSettings
from gateways.session import PortLink, Session
from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.gateway_tables import WIRE_BAUD
from headend.domain.places import Gateway, GatewayKind
from headend.domain.problems import Problem
from headend.services.gateway_secrets import gateway_secret
from headend.services.looks import MeterAtWork
from headend.store.places import KnownLine
from protocols.dialects import TRANSPARENT
from protocols.dtu import printable
from protocols.exchange import ProtocolError
from protocols.stream import Box, Said
from protocols.uplink import Upload

log = logging.getLogger(__name__)

OnFacts: TypeAlias = Callable[[str, Mapping[str, str | int]], None]
OnUpload: TypeAlias = Callable[[str, Upload], None]
OnSaid: TypeAlias = Callable[[str, Said], None]

# Gateways of these kinds dial us; all of them on one port.
DIALS_IN = frozenset(
    {
        GatewayKind.DTU,
        GatewayKind.ACREL_4G,
        GatewayKind.ACREL_GATEWAY,
        GatewayKind.TERMINAL,
    }
)


class DialledLine(Protocol):
    """A line at work, as far as its link is concerned."""

    known: KnownLine
    line: Line
    meters: list[MeterAtWork]


class DialIns:
    """The listener, and the lines behind the boxes it knows."""

    def __init__(self, clock: Clock, *, on_facts: OnFacts, on_upload: OnUpload) -> None:
        self._clock = clock
        # The port is opened before there is a database: who keeps these may come later.
        self.on_facts = on_facts
        self.on_upload = on_upload
        self.on_said: OnSaid | None = None
        self._dial_in: DialIn | None = None
        self._lines: dict[str, dict[int, DialledLine]] = {}  # by gateway and port
        self._time_zones: Mapping[str, tzinfo] = {}  # by site
        self._configs: dict[str, BoxConfig] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self._at_ports: dict[tuple[str, str, int], asyncio.Task[None]] = {}

    async def listen(self, host: str, port: int, *, sockets_max: int) -> None:
        """Accept boxes. Raises Problem("dial-in")."""
        self._dial_in = DialIn(
            host,
            port,
            self._configs,
            self._dialled_in,
            on_facts=self._told,
            on_upload=self._pushed,
            on_said=self._said,
            dial_now=self._dial_now,
            idle_probe=self._speak_to,
            limits=DialInLimits(sockets_max=sockets_max),
        )
        try:
            await self._dial_in.start()
        except ListenError as error:
            self._dial_in = None
            raise Problem("dial-in", detail=error) from error

    @property
    def port(self) -> int:
        """The port boxes dial."""
        assert self._dial_in is not None, "listen() first"
        return self._dial_in.port

    def follow(self, lines: Iterable[DialledLine], time_zones: Mapping[str, tzinfo]) -> None:
        """Know the gateways of these lines from now on; the others are hung up on."""
        self._lines, self._time_zones = {}, time_zones
        for at_work in lines:
            place, gateway = at_work.known.place, at_work.known.gateway
            if gateway.kind in DIALS_IN:
                self._lines.setdefault(gateway.name, {})[place.port] = at_work
        configs = {
            gateway: box_config(next(iter(ports.values())).known.gateway, tuple(sorted(ports)))
            for gateway, ports in self._lines.items()
        }
        if self._dial_in is not None and configs != self._configs:
            self._dial_in.set_gateways(configs)
        self._configs = configs
        self._hold_ports()

    def _hold_ports(self) -> None:
        """Boxes on serial ports of this machine are met there: gateway, device and its speed."""
        wanted = {}
        for gateway, ports in self._lines.items():
            known = next(iter(ports.values())).known.gateway
            if known.device is not None:
                told = known.options.get("baud", WIRE_BAUD)
                assert isinstance(told, int), "the schema asks for it"
                baud = told
                wanted[gateway, known.device, baud] = known.device
        for key in self._at_ports.keys() - wanted.keys():
            self._at_ports.pop(key).cancel()
        for key in wanted.keys() - self._at_ports.keys():
            gateway, device, baud = key
            self._at_ports[key] = asyncio.create_task(
                keep_session(
                    device,
                    SerialSettings(baud=baud),
                    partial(self._at_port, device),
                    down=partial(self._no_port, gateway),
                ),
                name=f"holds {device}",
            )

    def _at_port(self, device: str) -> Session | None:
        return None if self._dial_in is None else self._dial_in.at_port(device)

    def _no_port(self, gateway: str, why: str) -> None:
        for at_work in self._lines.get(gateway, {}).values():
            at_work.line.detach(why)

    def forget(self, gone: DialledLine) -> None:
        """This line is being closed: a box that dials in meanwhile must not open it again, or
        frames would leave with the patience and the meters of before. It is hung up on, and dials
        once more; `follow` names the line that comes after."""
        ports = self._lines.get(gone.known.gateway.name, {})
        if ports.get(gone.known.place.port) is gone:
            del ports[gone.known.place.port]

    def strangers(self) -> list[dict[str, Any]]:
        """Who dialled in under no known name, or could not prove it, for the console."""
        if self._dial_in is None:
            return []
        return [
            {
                "sample": stranger.shown,
                "dialect": stranger.dialect,
                "registration": stranger.registration,
                "turned_away": stranger.turned_away,
                "address": stranger.address,
                "calls": stranger.calls,
                "last_seen_at": datetime.fromtimestamp(stranger.last_seen_s, UTC).isoformat(),
            }
            for stranger in self._dial_in.strangers()
        ]

    def sessions(self) -> list[dict[str, Any]]:
        """The boxes connected now, for the console; ages in seconds."""
        if self._dial_in is None:
            return []
        return [
            {
                "gateway": seen.gateway,
                "dialect": seen.dialect,
                "address": seen.address,
                "age_s": round(seen.age_s, 1),
                "heard_s_ago": round(seen.heard_s_ago, 1),
                "heartbeats": seen.heartbeats,
                "uploads": seen.uploads,
                "bytes_in": seen.bytes_in,
                "bytes_out": seen.bytes_out,
                "dropped_bytes": seen.dropped_bytes,
                "unrecognised": seen.unrecognised,
                "unrecognised_sample": printable(seen.unrecognised_sample),
            }
            for seen in self._dial_in.sessions()
        ]

    def say(self, gateway: str, data: bytes) -> bool:
        """Something for a box itself; False: it is not connected."""
        return self._dial_in is not None and self._dial_in.say(gateway, data)

    @property
    def turned_away(self) -> int:
        """Calls of boxes that could not prove who they are, since the start."""
        return 0 if self._dial_in is None else self._dial_in.turned_away

    async def close(self) -> None:
        """Hang up on every box."""
        for task in (*self._probes, *self._at_ports.values()):
            task.cancel()
        await asyncio.gather(*self._at_ports.values(), return_exceptions=True)
        self._at_ports.clear()
        if self._dial_in is not None:
            await self._dial_in.stop()

    # ---- called by the listener -----------------------------------------------------------------

    def _dialled_in(self, gateway: str, link: PortLink) -> None:
        at_work = self._lines.get(gateway, {}).get(link.port)
        if at_work is not None:
            at_work.line.attach(link)
        else:
            link.close()

    def _told(self, gateway: str, facts: Mapping[str, str | int]) -> None:
        try:
            self.on_facts(gateway, facts)
        except Exception:  # a fault there must not take the link down
            log.exception("what %s said about itself was not kept", gateway)

    def _pushed(self, gateway: str, upload: Upload) -> None:
        try:
            self.on_upload(gateway, upload)
        except Exception:
            log.exception("a reading pushed by %s was not kept", gateway)

    def _said(self, gateway: str, said: Said) -> None:
        if self.on_said is None:
            return
        try:
            self.on_said(gateway, said)
        except Exception:
            log.exception("what terminal %s said was not taken", gateway)

    def _dial_now(self, gateway: str) -> datetime:
        """The wall clock at the gateway's site; UTC in the moment in which its site is changed."""
        zone: tzinfo = UTC
        for at_work in self._lines.get(gateway, {}).values():
            zone = self._time_zones.get(at_work.known.site, UTC)
        return self._clock.now().astimezone(zone).replace(tzinfo=None)

    def _speak_to(self, gateway: str) -> None:
        """We have not spoken to this box for long and it would reboot: ask one of its meters."""
        lines = [at_work for at_work in self._lines.get(gateway, {}).values() if at_work.meters]
        if not lines:
            return
        line, meter = lines[0].line, lines[0].meters[0]

        async def ask() -> None:
            with contextlib.suppress(ProtocolError, LinkDown):
                # A person's priority: a meter known to be dead is asked all the same.
                await line.converse(
                    meter.address,
                    meter.driver.identify(meter.address),
                    priority=Priority.ASKED_NOW,
                )

        task = asyncio.create_task(ask(), name=f"keeps {gateway} awake")
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)


def box_config(gateway: Gateway, ports: tuple[int, ...]) -> BoxConfig:
    """How the listener recognises a gateway of the site file."""
    assert gateway.registration is not None, "the schema asks for it"
    dialect = gateway.kind.value
    if gateway.kind is GatewayKind.DTU:
        dialect = str(gateway.options.get("dialect", TRANSPARENT))
    return BoxConfig(
        dialect=dialect,
        box=Box(
            registration=gateway.registration,
            heartbeat=gateway.heartbeat,
            options=gateway.options,
            secret=gateway_secret(gateway.options),
        ),
        heartbeat_s=gateway.heartbeat_s,
        ports=ports,
    )
