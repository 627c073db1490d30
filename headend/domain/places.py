"""The property tree and the wires to it, as imported from a site file."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import time
from zoneinfo import ZoneInfo

from protocols.meter_type import Options


class GatewayKind(enum.Enum):
    """How the bytes of a line travel."""

    SERIAL = "serial"  # an RS485 adapter on this machine
    TCP = "tcp"  # a converter we dial: RTU frames over TCP
    DTU = "dtu"  # a GPRS/4G box that dials us
    ACREL_4G = "acrel_4g"  # a meter with a modem of its own that dials us (7B7B frames)
    ACREL_GATEWAY = "acrel_gateway"  # a box of several RS485 ports that dials us (1F1F frames)
    MODBUS_TCP = "modbus_tcp"  # a meter or converter we dial: Modbus TCP
    TERMINAL = "terminal"  # a recharge terminal that dials us and carries its cabinet's line
    MQTT = "mqtt"  # a box that speaks through the broker


# Gateways of these kinds carry one line for each of their ports.
MANY_PORTS = frozenset({GatewayKind.ACREL_GATEWAY, GatewayKind.MQTT})
# Of these, those that carry one request at a time, whatever its port (spec field_protocols.md C4).
ONE_AT_A_TIME = frozenset({GatewayKind.ACREL_GATEWAY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One property. Night times are on the site's own wall clock."""

    name: str
    time_zone: ZoneInfo
    night_opens: time = time(23, 55)
    night_closes: time = time(6, 0)  # after this a cell that gets its reading is back-filled
    buildings: tuple[Building, ...]
    rooms: tuple[Room, ...]
    gateways: tuple[Gateway, ...]
    lines: tuple[LinePlace, ...]
    cabinets: tuple[Cabinet, ...]
    meters: tuple[MeterPlace, ...]  # those of cabinets included, one for each circuit


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """One building of a site."""

    name: str  # unique in its site


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Who pays: a flat, a shop, a pump room."""

    name: str  # unique in its site
    building: str
    floor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A box that carries bytes. Which fields are set depends on its kind."""

    name: str  # unique over all sites of this head-end
    kind: GatewayKind
    device: str | None = None  # serial: /dev/ttyUSB0 or /dev/serial/by-id/…
    host: str | None = None  # tcp, modbus_tcp
    port: int | None = None  # tcp, modbus_tcp
    # Who it says it is. dtu: "ascii:…", "hex:…", "iccid:…", "imei:…", "regex:…"; acrel_4g: its
    # serial number; acrel_gateway: its building and gateway number; terminal, mqtt: its name.
    registration: str | None = None
    heartbeat: str | None = None  # dtu: "ascii:…", "hex:…"; None: whatever comes when idle
    heartbeat_s: int = 60  # what dials in: how often it says so; idle at 2.5 times this
    options: Options = field(default_factory=dict)  # what only this kind has


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlace:
    """One half-duplex bus behind a gateway."""

    name: str  # unique over all sites of this head-end
    gateway: str
    port: int = 1  # of a gateway that has several
    baud: int = 9600
    parity: str = "N"  # N, E or O
    stop_bits: int = 1
    reply_timeout_ms: int | None = None  # None: by the gateway's kind
    reply_late_ms_max: int | None = None  # None: by the gateway's kind
    turnaround_ms: int = 0  # extra wait before each request, for slow 485 adapters


@dataclass(frozen=True, slots=True, kw_only=True)
class Cabinet:
    """A multi-circuit meter: up to 36 circuits, each its own unit id (spec acrel.md 2.9)."""

    name: str
    line: str
    meter_type: str  # "acrel_adf300l" …; its circuits become meters of the types for their phases
    base_unit: int
    size: int = 36  # 12, 24 or 36
    ct_users: int = 0
    three_phase_users: int = 0
    single_phase_users: int = 0
    master: str | None = None  # the meter that measures all its circuits once more


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPlace:
    """One metered, switched, billed way."""

    name: str  # unique over all sites of this head-end
    line: str
    meter_type: str
    unit: int | None = None  # where it answers: a unit id …
    address: str | None = None  # … or a number of digits, by the meter type's addressing
    room: str | None = None
    cabinet: str | None = None
    meter_number: str | None = None  # 12 digits; when given, another number read is a gap
    energy_multiplier: int = 1  # CT-fed meters that count on the secondary side
    master: str | None = None  # the meter that measures this one's energy once more
    options: Options = field(default_factory=dict)
