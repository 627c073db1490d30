"""The [[gateways]] of a site file: each kind has keys of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from headend.domain.broker_names import name_fault
from headend.domain.places import Gateway, GatewayKind
from headend.domain.secret_places import BadSecretPlace, parse_secret_place
from headend.domain.site_tables import Table
from protocols.acrel_4g import SERIAL
from protocols.dialects import TRANSPARENT
from protocols.dtu import BadPattern, Pattern, parse_pattern
from protocols.dtu_framed import DDP_PHONE_DIGITS, FF_PHONE_DIGITS, phone_of
from protocols.meter_type import Options
from protocols.terminal_stream import NAME_MAX as TERMINAL_NAME_MAX

# Boxes say they are there every few seconds up to once an hour.
HEARTBEAT_S_MIN, HEARTBEAT_S_MAX = 5, 3600
# How often a 4G meter beats is not published. Networks forget a flow after some minutes, so it must
# be more often than this; one that is dead is found sooner by TCP itself (gateways/sockets.py).
ACREL_4G_HEARTBEAT_S = 240
MODBUS_TCP_PORT = 502
# How fast a terminal on a serial port speaks.
WIRE_BAUD, WIRE_BAUDS = 115200, (9600, 19200, 38400, 57600, 115200)
MQTT_PAYLOADS = ("raw", "hex", "base64")
# What a DTU may speak (its option `dialect`), and how many digits its phone number has then.
DTU_DIALECTS: Mapping[str, str] = MappingProxyType(
    {TRANSPARENT: "", "ddp": DDP_PHONE_DIGITS, "four_faith": FF_PHONE_DIGITS}
)
_KEYS = ("device", "host", "port", "registration", "heartbeat", "heartbeat_s", "options")
# By kind: the keys it has besides name and kind.
KEYS_OF: Mapping[GatewayKind, Collection[str]] = MappingProxyType(
    {
        GatewayKind.SERIAL: ("device",),
        GatewayKind.TCP: ("host", "port"),
        GatewayKind.DTU: ("registration", "heartbeat", "heartbeat_s", "options"),
        GatewayKind.ACREL_4G: ("registration", "heartbeat_s", "options"),
        GatewayKind.ACREL_GATEWAY: ("registration", "heartbeat_s", "options"),
        GatewayKind.MODBUS_TCP: ("host", "port", "options"),
        GatewayKind.TERMINAL: ("registration", "heartbeat_s", "options"),
        GatewayKind.MQTT: ("registration", "heartbeat_s", "options"),
    }
)
assert set(KEYS_OF) == set(GatewayKind)
# And these where it has one: a terminal on a serial port of this machine.
_MAY_HAVE: Mapping[GatewayKind, Collection[str]] = MappingProxyType(
    {GatewayKind.TERMINAL: ("device",)}
)


class GatewayTables:
    """Reads the gateways in the order of the file and remembers what is taken."""

    def __init__(self) -> None:
        self.by_name: dict[str, Table] = {}
        self.kinds: dict[str, GatewayKind] = {}
        self._devices: dict[str, str] = {}
        self._addresses: dict[tuple[str, int], str] = {}
        # By kind, since the same digits may be a phone number to one and a serial to another.
        self._registrations: dict[tuple[GatewayKind, str | bytes], str] = {}

    def read(self, top: Table) -> Iterator[Gateway]:
        """Every gateway, checked."""
        read: Mapping[GatewayKind, Callable[[Table, str], Gateway]] = {
            GatewayKind.SERIAL: self._serial,
            GatewayKind.TCP: self._tcp,
            GatewayKind.DTU: self._dtu,
            GatewayKind.ACREL_4G: self._acrel_4g,
            GatewayKind.ACREL_GATEWAY: self._acrel_gateway,
            GatewayKind.MODBUS_TCP: self._modbus_tcp,
            GatewayKind.TERMINAL: self._terminal,
            GatewayKind.MQTT: self._mqtt,
        }
        for table in top.many("gateways", "gateway", {"name", "kind", *_KEYS}):
            name = table.unique_name(self.by_name)
            kind = GatewayKind(table.choice("kind", [kind.value for kind in GatewayKind]))
            allowed = {"name", "kind", *KEYS_OF[kind], *_MAY_HAVE.get(kind, ())}
            table.only(allowed, why=f"{table.who} is {kind.value}")
            self.kinds[name] = kind
            yield read[kind](table, name)

    def _serial(self, table: Table, name: str) -> Gateway:
        device = table.text("device")
        table.not_taken("device", self._devices, device, name, f"serial device {device}")
        return Gateway(name=name, kind=GatewayKind.SERIAL, device=device)

    def _tcp(self, table: Table, name: str) -> Gateway:
        host, port = self._dialled(table, name, None)
        return Gateway(name=name, kind=GatewayKind.TCP, host=host, port=port)

    def _modbus_tcp(self, table: Table, name: str) -> Gateway:
        host, port = self._dialled(table, name, MODBUS_TCP_PORT)
        return Gateway(
            name=name,
            kind=GatewayKind.MODBUS_TCP,
            host=host,
            port=port,
            options=_options(table, ()),
        )

    def _dialled(self, table: Table, name: str, port_default: int | None) -> tuple[str, int]:
        host, port = table.text("host"), table.integer("port", 1, 65535, port_default)
        address = (host.lower(), port)
        table.not_taken("host", self._addresses, address, name, f"address {host}:{port}")
        return host, port

    def _dtu(self, table: Table, name: str) -> Gateway:
        registration = table.text("registration")
        heartbeat = table.optional_text("heartbeat")
        options = _options(table, ("dialect",))
        dialect = options.get("dialect", TRANSPARENT)
        if dialect not in DTU_DIALECTS:
            known = ", ".join(DTU_DIALECTS)
            raise table.bad(
                "options", f"{table.who} speaks no dialect {dialect}; known are {known}"
            )
        pattern = _pattern(table, "registration", registration)
        if dialect != TRANSPARENT:
            self._framed_dtu(table, str(dialect), registration, heartbeat)
        elif heartbeat is not None:
            _pattern(table, "heartbeat", heartbeat)
        # ascii:AB and hex:4142 are the same bytes: both DTUs would be the same one.
        for spelling in pattern.exact or (registration,):
            self._not_registered(table, GatewayKind.DTU, spelling, name, registration)
        return Gateway(
            name=name,
            kind=GatewayKind.DTU,
            registration=registration,
            heartbeat=heartbeat,
            heartbeat_s=_heartbeat_s(table, 60),
            options=options,
        )

    def _framed_dtu(
        self, table: Table, dialect: str, registration: str, heartbeat: str | None
    ) -> None:
        """A DTU with frames of its own: named by its phone number, its heartbeat is known."""
        try:
            phone_of(registration, DTU_DIALECTS[dialect])
        except BadPattern as error:
            raise table.bad("registration", f"{table.who}: {error}") from None
        if heartbeat is not None:
            raise table.bad("heartbeat", f"{table.who} speaks {dialect}, whose heartbeat is known")

    def _acrel_4g(self, table: Table, name: str) -> Gateway:
        gateway = self._named(table, name, GatewayKind.ACREL_4G, ())
        assert gateway.registration is not None
        if not SERIAL.fullmatch(gateway.registration):
            raise table.bad(
                "registration",
                f"{table.who}: {gateway.registration} is no serial number: up to 20 digits, as "
                f"printed on the meter",
            )
        return replace(gateway, heartbeat_s=_heartbeat_s(table, ACREL_4G_HEARTBEAT_S))

    def _acrel_gateway(self, table: Table, name: str) -> Gateway:
        """Its building and gateway number, and where the secret lies that is set in it."""
        gateway = self._named(table, name, GatewayKind.ACREL_GATEWAY, ("secret",))
        building, _, number = (gateway.registration or "").partition("/")
        if not (building and number):
            raise table.bad(
                "registration",
                f"registration of {table.who} must be the building and the gateway number set in "
                'it, like "310115D001/01"',
            )
        return _with_secret(table, gateway)

    def _terminal(self, table: Table, name: str) -> Gateway:
        """The name set in it, and where its credential lies; `device` where it does not dial us
        but speaks over a serial port, at the speed of its option `baud`."""
        gateway = self._named(table, name, GatewayKind.TERMINAL, ("secret", "baud"))
        device = table.optional_text("device")
        if device is not None:
            table.not_taken("device", self._devices, device, name, f"serial device {device}")
            gateway = replace(gateway, device=device)
        if gateway.options.get("baud", WIRE_BAUD) not in WIRE_BAUDS:
            listed = ", ".join(map(str, WIRE_BAUDS))
            raise table.bad("options", f"option baud of {table.who} must be one of {listed}")
        if len(gateway.registration or "") > TERMINAL_NAME_MAX:
            raise table.bad(
                "registration",
                f"registration of {table.who} has at most {TERMINAL_NAME_MAX} letters",
            )
        return _with_secret(table, gateway)

    def _mqtt(self, table: Table, name: str) -> Gateway:
        """`payload` raw, hex or base64; `down` and `up`: topics with {id} and {port} in them."""
        gateway = self._named(table, name, GatewayKind.MQTT, ("payload", "down", "up"))
        if (fault := name_fault(str(gateway.registration))) is not None:
            raise table.bad("registration", f"registration of {table.who} cannot be used: {fault}")
        payload = gateway.options.get("payload", "raw")
        if payload not in MQTT_PAYLOADS:
            listed = ", ".join(MQTT_PAYLOADS)
            raise table.bad("options", f"{table.who} has no payload {payload}; known are {listed}")
        for key in ("down", "up"):
            if not _is_topic(gateway.options.get(key, "t")):
                raise table.bad(
                    "options",
                    f"option {key} of {table.who} must be a topic without + and #, with {{id}} and "
                    "{port} where its id and port belong",
                )
        return gateway

    def _named(
        self, table: Table, name: str, kind: GatewayKind, options: Collection[str]
    ) -> Gateway:
        """A box that says its name in the clear."""
        registration = table.text("registration")
        self._not_registered(table, kind, registration, name, registration)
        return Gateway(
            name=name,
            kind=kind,
            registration=registration,
            heartbeat_s=_heartbeat_s(table, 60),
            options=_options(table, options),
        )

    def _not_registered(
        self, table: Table, kind: GatewayKind, spelling: str | bytes, name: str, shown: str
    ) -> None:
        table.not_taken(
            "registration", self._registrations, (kind, spelling), name, f"registration {shown}"
        )


def _with_secret(table: Table, gateway: Gateway) -> Gateway:
    try:
        parse_secret_place(str(gateway.options.get("secret", "")))
    except BadSecretPlace as error:
        raise table.bad("options", f"option secret of {table.who} {error}") from None
    return gateway


def _is_topic(text: object) -> bool:
    if not isinstance(text, str) or not text or "+" in text or "#" in text:
        return False
    try:
        text.format(id="", port=1)
    except (KeyError, IndexError, ValueError):
        return False
    return True


def _heartbeat_s(table: Table, default_s: int) -> int:
    return table.integer("heartbeat_s", HEARTBEAT_S_MIN, HEARTBEAT_S_MAX, default_s)


def _pattern(table: Table, key: str, text: str) -> Pattern:
    try:
        return parse_pattern(text)
    except BadPattern as error:
        raise table.bad(key, f"{table.who}: {error}") from None


def _options(table: Table, known: Collection[str]) -> Options:
    options = table.options()
    for key in options:
        if key not in known:
            listed = f"known are {', '.join(known)}" if known else "it has none"
            raise table.bad("options", f"{table.who} has no option {key}; {listed}")
    return options
