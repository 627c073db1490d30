"""The two files a town writes: the site file for the head-end, the truth for whoever checks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulators.town_plan import (
    BUILDINGS,
    FEEDER_CT,
    SITE,
    TIME_ZONE,
    LineKind,
    LinePlan,
    MeterPlan,
    TownPlan,
)

DIALLED = frozenset({LineKind.DTU, LineKind.ACREL_4G, LineKind.ACREL_GATEWAY, LineKind.TERMINAL})
# Where a line is reached: device, host and port; what only the running town knows.
Place = Mapping[str, str | int | Mapping[str, str]]


def site_file(plan: TownPlan, places: Mapping[str, Place]) -> str:
    """The site as TOML; `places` by gateway name."""
    out = [
        _table(
            "site",
            {"name": SITE, "time_zone": TIME_ZONE, "night_opens": "23:55", "night_closes": "06:00"},
        )
    ]
    out += [_entry("buildings", {"name": name}) for name in BUILDINGS]
    out += [
        _entry("rooms", {"name": r.name, "building": r.building, "floor": r.floor})
        for r in plan.rooms
    ]
    gateways = {line.gateway: _gateway(line) for line in plan.lines}
    for name, gateway in gateways.items():
        out.append(_entry("gateways", {**gateway, **places.get(name, {})}))
    for line in plan.lines:
        settings: dict[str, Any] = {"name": line.name, "gateway": line.gateway}
        if line.port != 1:
            settings["port"] = line.port
        if line.baud != 9600:
            settings["baud"] = line.baud
        if line.parity != "N":
            settings["parity"] = line.parity
        if line.stop_bits != 1:
            settings["stop_bits"] = line.stop_bits
        if line.kind in DIALLED:
            # These boxes park nothing unless told to: a new head-end need not wait half a minute.
            settings["reply_late_ms_max"] = 5000
        out.append(_entry("lines", settings))
    for line in plan.lines:
        out += _cabinets(line)
        out += [
            _entry("meters", _meter(line, meter)) for meter in line.meters if meter.cabinet is None
        ]
    return "\n".join(out)


def truth(plan: TownPlan, *, control: Path, speed: int, pid: int) -> dict[str, Any]:
    """What is really out there, as JSON."""
    return {
        "site": SITE,
        "seed": plan.seed,
        "speed": speed,
        "pid": pid,
        "control": str(control),
        "lines": [
            {
                "name": line.name,
                "gateway": line.gateway,
                "kind": line.kind.value,
                "road": line.road,
                "dead": line.is_dead,
                "money": not line.speaks_188,
                "sold": not line.is_dead and not line.is_other_slave,
                "meters": len(line.meters),
            }
            for line in plan.lines
        ],
        "meters": [
            {
                "name": meter.name,
                "line": line.name,
                "unit": meter.unit,
                "type": meter.type,
                "room": meter.room,
                "cabinet": meter.cabinet,
                "meter_number": meter.number if meter.cabinet is None else None,
                "gap": None if meter.gap is None else meter.gap.value,
                "measures": meter.measures,
                "dark": meter.dark,
                "cut": meter.cut,
            }
            for line in plan.lines
            for meter in line.meters
        ],
    }


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half done."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)


def _gateway(line: LinePlan) -> dict[str, Any]:
    out: dict[str, Any] = {"name": line.gateway, "kind": line.kind.value}
    if line.dialect:
        # A framed box says a phone number, and says it again as its heartbeat.
        out["registration"] = f"ascii:{line.registration}"
    elif line.kind in (LineKind.ACREL_4G, LineKind.ACREL_GATEWAY, LineKind.MQTT, LineKind.TERMINAL):
        out["registration"] = line.registration
    elif line.kind is LineKind.DTU:
        out["registration"] = line.registration
        if line.heartbeat is not None:
            out["heartbeat"] = line.heartbeat
        out["heartbeat_s"] = line.heartbeat_s
    return out


def _meter(line: LinePlan, meter: MeterPlan) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": meter.name,
        "line": line.name,
        "type": meter.type,
        **(
            {"address": meter.address}
            if line.speaks_645 or line.speaks_188
            else {"unit": meter.unit}
        ),
        "room": meter.room,
        "meter_number": meter.number,
    }
    if meter.room is None:
        del out["room"]
    if meter.measures is not None:
        out["energy_multiplier"] = FEEDER_CT
    if meter.eight_rates:
        out["options"] = {"rates": 8}
    return out


def _cabinets(line: LinePlan) -> list[str]:
    out = []
    for cabinet in line.cabinets:
        plan = cabinet.plan
        masters = {m.measures: m.name for m in line.meters if m.measures is not None}
        master = {"master": masters[cabinet.name]} if cabinet.name in masters else {}
        out.append(
            _entry(
                "cabinets",
                {
                    "name": cabinet.name,
                    "line": line.name,
                    "type": cabinet.type,
                    "base_unit": plan.base_unit,
                    "size": plan.size,
                    "ct_users": plan.ct_users,
                    "three_phase_users": plan.three_phase_users,
                    "single_phase_users": plan.single_phase_users,
                    "rooms": [m.room for m in line.meters if m.cabinet == cabinet.name],
                    # On a real box somebody has to find out on the bench; here we made it.
                    "options": {"forced_open_state": 1},
                    **master,
                },
            )
        )
    return out


def _table(name: str, values: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _entry(name: str, values: Mapping[str, Any]) -> str:
    return _table(f"[{name}]", values)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    # A JSON string, number or list of them is a TOML one, too.
    return json.dumps(value, ensure_ascii=False)
