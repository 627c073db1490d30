"""The roads of a trial: how bytes travel to the meters of a line, and what hangs at their ends.

Each seed draws some of them. The upper end is the product's own: its listener and dialects, its
links, its keepers. The lower end is a simulator's. MQTT alone has a stand-in between the two, since
a broker knows no virtual time: it takes the messages of the product's link and gives it those of
the gateway (see docs/decisions/0021).
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateways import dial_in, key_box
from gateways.mqtt import BrokerPlace, Mqtt
from gateways.mqtt_link import EXPIRY_S_MIN, MqttLink, Payload
from headend.services import dial_ins
from headend.trial.arrangement import Patch
from headend.trial.network import DIAL_IN
from protocols import acrel_gateway
from protocols.keys import GatewaySecret
from protocols.meter_type import Options
from simulators.acrel_4g import Acrel4gSpeech, Answers, Modem
from simulators.acrel_meter import DDSY1352, DTSY1352, Model, acrel_unit
from simulators.adf_cabinet import CabinetPlan, cabinet_units
from simulators.carried import Hex, Labelled, Manner, NewManner, Numbered, Spoken
from simulators.dialects import Ddp, FourFaith, Speech, Transparent
from simulators.dlt645_meter import Bus645, Unit645, opened
from simulators.dlt645_purse import SECURITY, Purse
from simulators.metering import Meter
from simulators.modbus_meter import Bus

ROADS_OF_A_SEED = 3
#: meters with a slot for cards: one on each road with two meters of a kind that has such a model
CARD_METERS: Mapping[str, str] = {
    "dtu-1": "acrel_ddsy1352",
    **{
        f"{road}-2": "acrel_dtsy1352"
        for road in ("tcp", "modbus_tcp", "ddp", "four_faith", "acrel_gateway", "mqtt")
    },
}
BROKER = "broker"
BOX = CabinetPlan(base_unit=1, size=12, three_phase_users=1, single_phase_users=1)
SERIAL, DDP_PHONE, FF_PHONE = "12307210720085", "13912345678", "13812345678"
BUILDING, NUMBER, SECRET = "310115D001", "01", "0123456789abcdef"
CHIP_KEY = bytes(range(32))
WRITES = (0x06, 0x10, 0x20)  # Modbus function codes that change something
WRITES_645 = (0x14, 0x1C)  # DL/T 645 control codes that do

NewMeter = Callable[[str, Model], Meter]  # by name


class Wires(Protocol):
    """What hangs behind a box."""

    def answer(self, frame: bytes) -> bytes | None: ...
    def party(self, frame: bytes) -> int: ...
    def meter(self, frame: bytes) -> Meter | None: ...
    def is_write(self, frame: bytes) -> bool: ...
    def power_cut(self, frame: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """One of them, with its line in the site file: the gateway, the line and the meters."""

    name: str
    site: str
    reply_timeout_ms: int
    reply_late_ms_max: int
    new_manner: NewManner
    new_wires: Callable[[NewMeter], Wires]
    #: where the head-end dials it; None: it dials the head-end, or the broker
    port: int | None = None
    calls: str = DIAL_IN
    #: what its connection carries is guarded by numbers of TCP's: damage happens behind it only
    is_guarded: bool = False
    #: its messages come whole or not at all
    is_whole: bool = False
    #: its meters speak Modbus, of which nobody knows for certain what a meter does with a count
    is_modbus: bool = True


class RtuWires:
    """Meters that speak Modbus RTU."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def answer(self, frame: bytes) -> bytes | None:
        return self._bus.answer(frame)

    def party(self, frame: bytes) -> int:
        return frame[0]

    def meter(self, frame: bytes) -> Meter | None:
        unit = self._bus.units.get(frame[0])
        return None if unit is None else unit.meter

    def is_write(self, frame: bytes) -> bool:
        return frame[1] in WRITES

    def power_cut(self, frame: bytes) -> None:
        pass


class Wires645:
    """Prepaid meters that speak DL/T 645. A power cut ends the session with their chip."""

    def __init__(self, units: Iterable[Unit645]) -> None:
        self._bus = Bus645(units)

    def answer(self, frame: bytes) -> bytes | None:
        return self._bus.answer(frame)

    def party(self, frame: bytes) -> int:
        return self._bus.party(frame)

    def meter(self, frame: bytes) -> Meter | None:
        unit = self._unit(frame)
        return None if unit is None else unit.meter

    def is_write(self, frame: bytes) -> bool:
        said = opened(frame)
        if said is None:
            return False
        _, control, data = said
        return control in WRITES_645 or data[:4] in SECURITY.values()

    def power_cut(self, frame: bytes) -> None:
        unit = self._unit(frame)
        if unit is not None and unit.purse is not None:
            unit.purse.end_session()

    def _unit(self, frame: bytes) -> Unit645 | None:
        said = opened(frame)
        return None if said is None else self._bus.units.get(said[0])


class BrokerStandIn(Mqtt):
    """What an MQTT link knows of a broker: one connection to a gateway that listens."""

    def __init__(self) -> None:
        super().__init__(BrokerPlace(host="trial", port=1883), dict, lambda topic, payload: None)
        self.transport: asyncio.Transport | None = None

    def send_now(self, topic: str, payload: bytes, *, expires_in_s: int) -> None:
        assert self.transport is not None, "a link is made on a connection"
        self.transport.write(payload)


class MqttProtocol(asyncio.Protocol):
    """The product's MQTT link over the stand-in: one message is one delivery."""

    def __init__(self, line: str, attach: Callable[[MqttLink], None]) -> None:
        self._broker = BrokerStandIn()
        down = f"headend/{line}/down/1"
        self._link = MqttLink(self._broker, line, down, Payload.HEX, expires_in_s=EXPIRY_S_MIN)
        self._attach = attach

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._broker.transport = transport
        self._attach(self._link)

    def data_received(self, data: bytes) -> None:
        self._link.hear(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost("the broker is gone")


# ---- what hangs at their ends --------------------------------------------------------------------


def _two(road: str) -> Callable[[NewMeter], Wires]:
    def new_wires(new_meter: NewMeter) -> Wires:
        first, second = new_meter(f"{road}-1", DDSY1352), new_meter(f"{road}-2", DTSY1352)
        return RtuWires(
            Bus({1: acrel_unit(DDSY1352, first, 1), 2: acrel_unit(DTSY1352, second, 2)})
        )

    return new_wires


def _cabinet(new_meter: NewMeter) -> Wires:
    bus = Bus({40: acrel_unit(DDSY1352, new_meter("dtu-1", DDSY1352), 40)})
    names = (("box-01", DTSY1352), ("box-02", DDSY1352))
    meters = [new_meter(name, model) for name, model in names]
    bus.add(cabinet_units(BOX, meters, number="249900000001"))
    return RtuWires(bus)


def _one(new_meter: NewMeter) -> Wires:
    return RtuWires(Bus({1: acrel_unit(DTSY1352, new_meter("acrel_4g-1", DTSY1352), 1)}))


def _address(number: int) -> str:
    return f"2306150000{number:02}"


def _chips(new_meter: NewMeter) -> Wires:
    return Wires645(
        Unit645(
            meter=new_meter(f"dlt645-{number}", DDSY1352),
            address=_address(number),
            purse=Purse(key=CHIP_KEY, seed=number),
        )
        for number in (1, 2)
    )


# ---- how they speak ------------------------------------------------------------------------------


def _spoken(new_speech: Callable[[], Speech]) -> NewManner:
    def new_manner() -> Manner:
        return Spoken(new_speech())

    return new_manner


def _bare() -> Speech:
    return Transparent(b"", None, on_every_packet=False)


def _beating(registration: bytes) -> NewManner:
    return _spoken(lambda: Transparent(registration, b"ping", on_every_packet=False))


def _modem() -> Speech:
    modem = Modem(serial=SERIAL, answers=Answers.SERIAL_AFTER_WRITE)
    return Acrel4gSpeech(modem, Counter(), lambda told: None)


# ---- the table -----------------------------------------------------------------------------------


def number_of(meter: str) -> str:
    """The twelve digits on the front of a meter of the trial."""
    return f"2499{zlib.crc32(meter.encode()) % 10**8:08d}"


def _numbered(meter: str) -> str:
    """In the site file: those with a slot for cards are sold cards by their number."""
    return f'meter_number = "{number_of(meter)}"\n' if meter in CARD_METERS else ""


def _site(name: str, gateway: str, timeout_ms: int, late_ms: int, meters: str = "") -> str:
    both = "".join(
        f'[[meters]]\nname = "{name}-{n}"\nline = "{name}"\ntype = "{kind}"\nunit = {n}\n'
        f"{_numbered(f'{name}-{n}')}"
        for n, kind in ((1, "acrel_ddsy1352"), (2, "acrel_dtsy1352"))
    )
    return (
        f'[[gateways]]\nname = "G {name}"\n{gateway}\n'
        f'[[lines]]\nname = "{name}"\ngateway = "G {name}"\n'
        f"reply_timeout_ms = {timeout_ms}\nreply_late_ms_max = {late_ms}\n{meters or both}"
    )


_CABINET = f"""[[meters]]
name = "dtu-1"
line = "dtu"
type = "acrel_ddsy1352"
unit = 40
{_numbered("dtu-1")}[[cabinets]]
name = "box"
line = "dtu"
type = "acrel_adf300l"
base_unit = 1
size = 12
three_phase_users = 1
single_phase_users = 1
options = {{ forced_open_state = 1 }}
"""
_ONE = '[[meters]]\nname = "acrel_4g-1"\nline = "acrel_4g"\ntype = "acrel_dtsy1352"\nunit = 1\n'
_CHIPS = "".join(
    f'[[meters]]\nname = "dlt645-{n}"\nline = "dlt645"\n'
    f'type = "dlt645_prepaid_single_phase"\naddress = "{_address(n)}"\n'
    for n in (1, 2)
)


def _road(
    name: str,
    gateway: str,
    new_manner: NewManner,
    *,
    timeout_ms: int = 3_000,
    late_ms: int = 30_000,
    meters: str = "",
    **given: Any,
) -> Road:
    if (port := given.get("port")) is not None:
        gateway += f'\nhost = "trial"\nport = {port}'
    return Road(
        name=name,
        site=_site(name, gateway, timeout_ms, late_ms, meters),
        reply_timeout_ms=timeout_ms,
        reply_late_ms_max=late_ms,
        new_manner=new_manner,
        **({"new_wires": _two(name)} | given),
    )


def _dtu(registration: str, dialect: str = "transparent") -> str:
    beat = '\nheartbeat = "ascii:ping"' if dialect == "transparent" else ""
    return (
        f'kind = "dtu"\nregistration = "ascii:{registration}"\nheartbeat_s = 240{beat}\n'
        f'options = {{ dialect = "{dialect}" }}'
    )


def _all() -> Iterable[Road]:
    # A converter of wires answers within two seconds or never; a box on a mobile network may park
    # a request for half a minute.
    wired: dict[str, Any] = {"timeout_ms": 1_000, "late_ms": 3_000}
    yield _road("tcp", 'kind = "tcp"', _spoken(_bare), port=502, **wired)
    yield _road("modbus_tcp", 'kind = "modbus_tcp"', Numbered, port=503, is_guarded=True, **wired)
    yield _road(
        "dtu", _dtu("trial-dtu"), _beating(b"trial-dtu"), meters=_CABINET, new_wires=_cabinet
    )
    four_g = f'kind = "acrel_4g"\nregistration = "{SERIAL}"'
    yield _road("acrel_4g", four_g, _spoken(_modem), meters=_ONE, new_wires=_one)
    yield _road("ddp", _dtu(DDP_PHONE, "ddp"), _spoken(lambda: Ddp(DDP_PHONE, Counter())))
    yield _road("four_faith", _dtu(FF_PHONE, "four_faith"), _spoken(lambda: FourFaith(FF_PHONE)))
    gateway = (
        f'kind = "acrel_gateway"\nregistration = "{BUILDING}/{NUMBER}"\nheartbeat_s = 240\n'
        f'options = {{ secret = "env:THE_TRIALS_OWN" }}'
    )
    yield _road(
        "acrel_gateway", gateway, lambda: Labelled(BUILDING, NUMBER, SECRET), late_ms=12_000
    )
    yield _road(
        "dlt645",
        _dtu("trial-645"),
        _beating(b"trial-645"),
        meters=_CHIPS,
        new_wires=_chips,
        is_modbus=False,
    )
    mqtt = 'kind = "mqtt"\nregistration = "E1"\noptions = { payload = "hex" }'
    yield _road("mqtt", mqtt, Hex, timeout_ms=2_000, late_ms=10_000, calls=BROKER, is_whole=True)


ROADS: Mapping[str, Road] = {road.name: road for road in _all()}


# ---- what must not be left to chance -------------------------------------------------------------

# The listener looks for silent boxes every second; on virtual time a look costs as much as an
# exchange, and hours pass.
SWEEP_S = 20.0


class _Chance:
    """Numbers nobody should guess, which a replayed seed must have again."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed} secrets")
        self.randbelow = self._chance.randrange
        self.token_bytes = self._chance.randbytes


def on_virtual_time(seed: int) -> tuple[Patch, ...]:
    """The product's own road code, for the length of a seed."""
    chance, secret = _Chance(seed), GatewaySecret(lambda: SECRET)

    def secret_of(options: Options) -> GatewaySecret | None:
        return secret if "secret" in options else None

    return (
        Patch(dial_ins, "gateway_secret", secret_of),
        Patch(dial_in, "SWEEP_S", SWEEP_S),
        Patch(acrel_gateway, "secrets", chance),
        Patch(key_box, "secrets", chance),
    )
