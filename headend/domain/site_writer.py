"""A site as the text of its file: what parse_site_file() reads back as the same site.

Whoever adds to a property in the browser changes what is stored; this gives the file that says it
again, for keeping, for another machine, and for adding to it by the rules of every site file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headend.domain.gateway_tables import ACREL_4G_HEARTBEAT_S
from headend.domain.places import Cabinet, Gateway, GatewayKind, LinePlace, MeterPlace, Room, Site
from headend.domain.toml_lines import toml_table

_HEARTBEAT_S = 60  # of every kind that has none of its own


def site_file_text(site: Site) -> str:
    """The whole file. What has its usual value is left out, as people leave it out."""
    head: dict[str, object] = {
        "name": site.name,
        "time_zone": site.time_zone.key,
        "night_opens": f"{site.night_opens:%H:%M}",
        "night_closes": f"{site.night_closes:%H:%M}",
    }
    of_cabinet: dict[str, list[MeterPlace]] = {cabinet.name: [] for cabinet in site.cabinets}
    for meter in site.meters:
        if meter.cabinet is not None:
            of_cabinet[meter.cabinet].append(meter)
    return "\n".join(
        [
            toml_table("site", head, single=True),
            *(toml_table("buildings", {"name": building.name}) for building in site.buildings),
            *(toml_table("rooms", _room(room)) for room in site.rooms),
            *(toml_table("gateways", _gateway(gateway)) for gateway in site.gateways),
            *(toml_table("lines", _line(line)) for line in site.lines),
            *(
                toml_table("cabinets", _cabinet(cabinet, of_cabinet[cabinet.name]))
                for cabinet in site.cabinets
            ),
            *(toml_table("meters", _meter(meter)) for meter in site.meters if not meter.cabinet),
        ]
    )


def _told(values: Mapping[str, object], usual: Mapping[str, object]) -> dict[str, object]:
    """What differs from its usual value; what has none stands always."""
    return {key: value for key, value in values.items() if value != usual.get(key)}


def _room(room: Room) -> dict[str, object]:
    return _told({"name": room.name, "building": room.building, "floor": room.floor}, {})


def _gateway(gateway: Gateway) -> dict[str, object]:
    usual_s = ACREL_4G_HEARTBEAT_S if gateway.kind is GatewayKind.ACREL_4G else _HEARTBEAT_S
    dials_in = gateway.registration is not None
    return _told(
        {
            "name": gateway.name,
            "kind": gateway.kind.value,
            "device": gateway.device,
            "host": gateway.host,
            "port": gateway.port,
            "registration": gateway.registration,
            "heartbeat": gateway.heartbeat,
            "heartbeat_s": gateway.heartbeat_s if dials_in else None,
            "options": dict(gateway.options),
        },
        {"heartbeat_s": usual_s if dials_in else None, "options": {}},
    )


def _line(line: LinePlace) -> dict[str, object]:
    return _told(
        {
            "name": line.name,
            "gateway": line.gateway,
            "port": line.port,
            "baud": line.baud,
            "parity": line.parity,
            "stop_bits": line.stop_bits,
            "reply_timeout_ms": line.reply_timeout_ms,
            "reply_late_ms_max": line.reply_late_ms_max,
            "turnaround_ms": line.turnaround_ms,
        },
        {"port": 1, "baud": 9600, "parity": "N", "stop_bits": 1, "turnaround_ms": 0},
    )


def _cabinet(cabinet: Cabinet, circuits: Iterable[MeterPlace]) -> dict[str, object]:
    found = list(circuits)
    return _told(
        {
            "name": cabinet.name,
            "line": cabinet.line,
            "type": cabinet.meter_type,
            "base_unit": cabinet.base_unit,
            "size": cabinet.size,
            "ct_users": cabinet.ct_users,
            "three_phase_users": cabinet.three_phase_users,
            "single_phase_users": cabinet.single_phase_users,
            "master": cabinet.master,
            "rooms": [circuit.room or "" for circuit in found],
            "options": dict(found[0].options) if found else {},
        },
        {"size": 36, "ct_users": 0, "three_phase_users": 0, "single_phase_users": 0, "options": {}},
    )


def _meter(meter: MeterPlace) -> dict[str, object]:
    return _told(
        {
            "name": meter.name,
            "line": meter.line,
            "type": meter.meter_type,
            "unit": meter.unit,
            "address": meter.address,
            "room": meter.room,
            "meter_number": meter.meter_number,
            "energy_multiplier": meter.energy_multiplier,
            "master": meter.master,
            "options": dict(meter.options),
        },
        {"energy_multiplier": 1, "options": {}},
    )
