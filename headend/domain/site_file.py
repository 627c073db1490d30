"""A site file: TOML text in, one checked Site out, or one sentence that names the file and line.

The file is checked as a whole before anything is imported. What a technician gets wrong (a key, a
name, an address used twice, a cabinet that cannot exist) is said with the line it stands on and,
where there is one, the word that was probably meant.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import time
from typing import TypeVar
from zoneinfo import ZoneInfo

from headend.domain.gateway_tables import GatewayTables
from headend.domain.places import (
    MANY_PORTS,
    Building,
    Cabinet,
    LinePlace,
    MeterPlace,
    Room,
    Site,
)
from headend.domain.site_masters import Masters
from headend.domain.site_tables import BadPlace, SiteFileError, Table, nearest
from headend.domain.toml_lines import TomlLines
from protocols.acrel_cabinet import BadCabinet, Circuit, circuits
from protocols.meter_type import Addressing, BadOption, MeterType, Options
from protocols.modbus import UNIT_MAX

__all__ = ["SiteFileError", "parse_site_file"]

# What an RS485 adapter and its meters can be set to.
BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
# Longer than the slowest mobile network answers; a larger number is a slip of the unit.
REPLY_MS_MAX = 120_000
TURNAROUND_MS_MAX = 5_000  # the slowest adapters need tens of milliseconds
PORT_MAX = 99  # two digits in the frames of the boxes that have ports
ENERGY_MULTIPLIER_MAX = 1_000_000  # PT ratio times CT ratio of the largest feeders
METER_NUMBER_DIGITS = 12  # as printed on the front

MeterTypes = Mapping[str, MeterType]
T = TypeVar("T")


def parse_site_file(text: str, file: str, meter_types: MeterTypes) -> Site:
    """The site in `text`. `file` is what errors call it. Raises SiteFileError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SiteFileError(file, *_split_toml_error(text, error)) from None
    try:
        return _Checker(tree, meter_types).site()
    except BadPlace as bad:
        lines = TomlLines(text)
        number = (
            lines.of_key(bad.table, bad.index, bad.key)
            if bad.item is None
            else lines.of_item(bad.table, bad.index, bad.key, bad.item)
        )
        raise SiteFileError(file, number, str(bad), bad) from None


def _split_toml_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """ "Invalid value (at line 3, column 8)" in its parts; the end of the text is its last line."""
    said, _, place = str(error).partition(" (at ")
    words = place.replace(",", "").split()
    at_line = words[:1] == ["line"] and words[1].isdigit()
    number = int(words[1]) if at_line else max(1, len(text.splitlines()))
    said = said[:1].lower() + said[1:]
    return number, f"this is not TOML: {said}"


class _Checker:
    """Reads the tables in the order of their references and remembers what is taken."""

    def __init__(self, tree: Mapping[str, object], meter_types: MeterTypes) -> None:
        self._top = Table("", 0, tree, "the file", {})
        self._meter_types = meter_types
        self._cabinet_types = sorted(
            name.removesuffix("_1p") for name in meter_types if name.endswith("_1p")
        )
        self._rooms: dict[str, Table] = {}
        self._gateways = GatewayTables()
        self._lines: dict[str, Table] = {}
        self._meters: set[str] = set()
        # (line, unit id or address): the meter that answers there. A three-phase user takes three.
        self._taken: dict[tuple[str, int | str], str] = {}
        self._drivers_tried: set[tuple[str, tuple[tuple[str, object], ...]]] = set()
        self._masters = Masters()

    def site(self) -> Site:
        """Everything, checked."""
        site = self._top.one("site", {"name", "time_zone", "night_opens", "night_closes"})
        self._top.only({"site", "buildings", "rooms", "gateways", "lines", "cabinets", "meters"})
        name = site.name()
        zone = self._time_zone(site)
        opens = site.clock_time("night_opens", time(23, 55))
        closes = site.clock_time("night_closes", time(6, 0))
        if opens == closes:
            raise site.bad("night_closes", f"the night closes when it opens, at {opens:%H:%M}")
        buildings = tuple(self._buildings())
        rooms = tuple(self._read_rooms({building.name for building in buildings}))
        gateways = tuple(self._gateways.read(self._top))
        lines = tuple(self._read_lines())
        cabinets, of_cabinets = self._read_cabinets()
        meters = (*of_cabinets, *self._read_meters())
        self._masters.check({meter.name: meter.master for meter in meters})
        return Site(
            name=name,
            time_zone=zone,
            night_opens=opens,
            night_closes=closes,
            buildings=buildings,
            rooms=rooms,
            gateways=gateways,
            lines=lines,
            cabinets=cabinets,
            meters=meters,
        )

    def _time_zone(self, site: Table) -> ZoneInfo:
        key = site.text("time_zone")
        try:
            return ZoneInfo(key)
        except (KeyError, ValueError, OSError):
            raise site.bad(
                "time_zone", f'there is no time zone "{key}"; write one like Asia/Shanghai'
            ) from None

    def _buildings(self) -> Iterable[Building]:
        seen: dict[str, Table] = {}
        for table in self._top.many("buildings", "building", {"name"}):
            yield Building(name=table.unique_name(seen))

    def _read_rooms(self, buildings: Iterable[str]) -> Iterable[Room]:
        buildings = set(buildings)
        for table in self._top.many("rooms", "room", {"name", "building", "floor"}):
            yield Room(
                name=table.unique_name(self._rooms),
                building=table.reference("building", "building", buildings),
                floor=table.optional_integer("floor", -20, 300),
            )

    def _read_lines(self) -> Iterable[LinePlace]:
        keys = {"name", "gateway", "port", "baud", "parity", "stop_bits"}
        keys |= {"reply_timeout_ms", "reply_late_ms_max", "turnaround_ms"}
        carried: dict[tuple[str, int], str] = {}
        for table in self._top.many("lines", "line", keys):
            name = table.unique_name(self._lines)
            gateway = table.reference("gateway", "gateway", self._gateways.by_name)
            # Serial port, converter and DTU have one RS485 side each, some boxes have several.
            many = self._gateways.kinds[gateway] in MANY_PORTS
            port = table.integer("port", 1, PORT_MAX if many else 1, 1)
            what = f"port {port} of gateway {gateway}" if many else f"gateway {gateway}"
            table.not_taken("gateway", carried, (gateway, port), name, what)
            baud = table.integer("baud", min(BAUDS), max(BAUDS), 9600)
            if baud not in BAUDS:
                listed = ", ".join(map(str, BAUDS))
                raise table.bad("baud", f"{baud} is no baud rate; use one of {listed}")
            yield LinePlace(
                name=name,
                gateway=gateway,
                port=port,
                baud=baud,
                parity=table.choice("parity", ("N", "E", "O"), "N"),
                stop_bits=table.integer("stop_bits", 1, 2, 1),
                reply_timeout_ms=table.optional_integer("reply_timeout_ms", 1, REPLY_MS_MAX),
                reply_late_ms_max=table.optional_integer("reply_late_ms_max", 0, REPLY_MS_MAX),
                turnaround_ms=table.integer("turnaround_ms", 0, TURNAROUND_MS_MAX, 0),
            )

    def _read_cabinets(self) -> tuple[tuple[Cabinet, ...], list[MeterPlace]]:
        keys = {"name", "line", "type", "base_unit", "size", "rooms", "master", "options"}
        keys |= {"ct_users", "three_phase_users", "single_phase_users"}
        cabinets: list[Cabinet] = []
        meters: list[MeterPlace] = []
        seen: dict[str, Table] = {}
        for table in self._top.many("cabinets", "cabinet", keys):
            cabinet = Cabinet(
                name=table.unique_name(seen),
                line=table.reference("line", "line", self._lines),
                meter_type=table.choice("type", self._cabinet_types),
                base_unit=table.integer("base_unit", 1, UNIT_MAX),
                size=table.integer("size", 12, 36, 36),
                ct_users=table.integer("ct_users", 0, 36, 0),
                three_phase_users=table.integer("three_phase_users", 0, 36, 0),
                single_phase_users=table.integer("single_phase_users", 0, 36, 0),
                master=self._masters.of(table),
            )
            users = (cabinet.ct_users, cabinet.three_phase_users, cabinet.single_phase_users)
            make = functools.partial(circuits, cabinet.base_unit, cabinet.size, *users)
            found = _checked(table, "base_unit", make, BadCabinet)
            if not found:
                raise table.bad(
                    "single_phase_users", f"{table.who} has no circuit; say how many users it has"
                )
            cabinets.append(cabinet)
            meters += self._circuits(table, cabinet, found)
        return tuple(cabinets), meters

    def _circuits(
        self, table: Table, cabinet: Cabinet, found: tuple[Circuit, ...]
    ) -> Iterable[MeterPlace]:
        """Each circuit is a meter of its own, called by the cabinet and its number: CAB1-07."""
        rooms = table.texts("rooms")
        if len(rooms) > len(found):
            raise table.bad(
                "rooms", f"{table.who} has {len(found)} circuits, but {len(rooms)} rooms are listed"
            )
        options = table.options()
        for circuit in found:
            meter_type = f"{cabinet.meter_type}_{circuit.kind.value}"
            self._try_driver(table, meter_type, options)
            room = rooms[circuit.number - 1] if circuit.number <= len(rooms) else ""
            if room and room not in self._rooms:
                raise table.bad("rooms", table.unknown("room", room, self._rooms), item=room)
            meter = MeterPlace(
                name=f"{cabinet.name}-{circuit.number:02d}",
                line=cabinet.line,
                meter_type=meter_type,
                unit=circuit.unit,
                room=room or None,
                cabinet=cabinet.name,
                master=cabinet.master,
                options=options,
            )
            wires = range(circuit.unit, circuit.unit + circuit.kind.units)
            yield self._take(table, "base_unit", meter, wires)

    def _read_meters(self) -> Iterable[MeterPlace]:
        keys = {"name", "line", "type", "unit", "address", "room", "meter_number", "master"}
        for table in self._top.many("meters", "meter", keys | {"energy_multiplier", "options"}):
            meter_type = self._meter_type(table)
            unit, address = self._wire_address(table, self._meter_types[meter_type])
            options = table.options()
            self._try_driver(table, meter_type, options)
            meter = MeterPlace(
                name=table.name(),
                line=table.reference("line", "line", self._lines),
                meter_type=meter_type,
                unit=unit,
                address=address,
                room=table.optional_reference("room", "room", self._rooms),
                meter_number=_meter_number(table),
                energy_multiplier=table.integer("energy_multiplier", 1, ENERGY_MULTIPLIER_MAX, 1),
                master=self._masters.of(table),
                options=options,
            )
            key = "unit" if address is None else "address"
            yield self._take(table, key, meter, [address or unit or 0])

    @staticmethod
    def _wire_address(table: Table, meter_type: MeterType) -> tuple[int | None, str | None]:
        """The unit id or the address, whichever meters of this type answer to."""
        why = f"{table.who} is of type {meter_type.name}"
        if meter_type.addressing is Addressing.UNIT:
            table.without("address", f"{why} and answers to a unit id: write unit, not address")
            return table.integer("unit", 1, UNIT_MAX), None
        table.without("unit", f"{why} and answers to a number: write address, not unit")
        address, digits = table.text("address"), meter_type.address_digits
        if not (address.isascii() and address.isdigit() and len(address) == digits):
            raise table.bad("address", f'"{address}" is no address: {digits} digits in quotes')
        return None, address

    def _meter_type(self, table: Table) -> str:
        name = table.text("type")
        if name in self._meter_types:
            return name
        if name in self._cabinet_types:
            raise table.bad("type", f"{name} is a cabinet; write it under [[cabinets]]")
        raise table.bad(
            "type",
            f'there is no meter type "{name}"{nearest(name, self._meter_types)}; '
            f"known are {', '.join(self._meter_types)}",
        )

    def _try_driver(self, table: Table, meter_type: str, options: Options) -> None:
        """Each combination once: a site has thousands of meters and few kinds of them."""
        combination = (meter_type, tuple(sorted(options.items())))
        if combination not in self._drivers_tried:
            new_driver = self._meter_types[meter_type].new_driver
            _checked(table, "options", lambda: new_driver(options), BadOption)
            self._drivers_tried.add(combination)

    def _take(
        self, table: Table, key: str, meter: MeterPlace, wires: Iterable[int | str]
    ) -> MeterPlace:
        """The meter's name and everything it answers to on its line are its own from now on."""
        name = meter.name
        if name in self._meters:
            raise table.bad("name", f'two meters are called "{name}"; rename one')
        self._meters.add(name)
        for wire in wires:
            other = self._taken.setdefault((meter.line, wire), name)
            if other != name:
                what = "address" if isinstance(wire, str) else "unit id"
                raise table.bad(
                    key,
                    f"meters {other} and {name} would both answer at {what} {wire} "
                    f"of line {meter.line}; change one of them",
                )
        return meter


def _meter_number(table: Table) -> str | None:
    number = table.optional_text("meter_number")
    if number is None or (
        len(number) == METER_NUMBER_DIGITS and number.isascii() and number.isdigit()
    ):
        return number
    raise table.bad(
        "meter_number", f'"{number}" is no meter number: {METER_NUMBER_DIGITS} digits in quotes'
    )


def _checked(table: Table, key: str, make: Callable[[], T], refusal: type[ValueError]) -> T:
    """Let a codec judge; its refusal becomes ours, with a place in the file."""
    try:
        return make()
    except refusal as error:
        raise table.bad(key, f"{table.who}: {error}") from None
