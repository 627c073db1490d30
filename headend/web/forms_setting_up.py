"""What is typed while a property is set up, as tables of its site file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from headend.domain.gateway_tables import KEYS_OF, MODBUS_TCP_PORT
from headend.domain.places import GatewayKind
from headend.domain.site_file import BAUDS
from headend.domain.site_tables import NAME_CHARS_MAX, SiteFileError
from headend.domain.toml_lines import toml_table
from headend.web import desk
from headend.web.desk import Form, Visitor
from protocols.dialects import TRANSPARENT

PARITIES: Final = ("N", "E", "O")
FLOOR_MIN, FLOOR_MAX = -20, 300
_PORT_MAX: Final = 65535
_INTEGER: Final = re.compile(r"-?\d{1,6}")
# The field that shows what a key of a table is: where they differ.
_FIELD_OF: Final = {"time_zone": "zone", "options": "option"}


def blame(form: Form, visitor: Visitor, error: SiteFileError) -> None:
    """Beside the field, if it is one of the form's; else above the form."""
    key = error.place.key if error.place else ""
    name = _FIELD_OF.get(key, key)
    text = desk.gettext(visitor)("This is not possible: %s.") % error.what
    form.wrong(name if name in form.typed else "form", text)


def property_tables(form: Form, visitor: Visitor) -> str | None:
    """[site] and its [[buildings]]; None: a field says what is wrong."""
    _name(form, visitor, "name")
    buildings = [one.strip() for one in re.split(r"[,，、;\n]", form.get("buildings"))]
    buildings = list(dict.fromkeys(filter(None, buildings)))
    if not buildings:
        form.wrong("buildings", desk.gettext(visitor)("Name at least one building."))
    if any(len(one) > NAME_CHARS_MAX for one in buildings):
        form.wrong("buildings", desk.gettext(visitor)("At most 60 characters for each name."))
    if form.errors:
        return None
    head = {"name": form.get("name"), "time_zone": form.get("zone")}
    return "\n".join(
        [
            toml_table("site", head, single=True),
            *(toml_table("buildings", {"name": one}) for one in buildings),
        ]
    )


def gateway_tables(form: Form, visitor: Visitor) -> str | None:
    """One of [[gateways]] and its line, of the same name; None: a field says what is wrong."""
    say = desk.gettext(visitor)
    name = _name(form, visitor, "name")
    try:
        kind = GatewayKind(form.get("kind"))
    except ValueError:
        form.wrong("kind", say("Choose what the box is."))
        return None
    wanted = KEYS_OF[kind]
    values: dict[str, object] = {"name": name, "kind": kind.value}
    for key in ("device", "host", "registration"):
        if key in wanted:
            values[key] = _needed(form, visitor, key)
    if "port" in wanted:
        usual = MODBUS_TCP_PORT if kind is GatewayKind.MODBUS_TCP else None
        values["port"] = _number(form, visitor, "port", least=1, most=_PORT_MAX, usual=usual)
    options: dict[str, str] = {}
    if kind is GatewayKind.DTU and form.get("dialect") not in ("", TRANSPARENT):
        options["dialect"] = form.get("dialect")
    if kind is GatewayKind.TERMINAL and form.get("device"):
        values["device"] = form.get("device")  # on a serial wire; else it dials in
    if kind in (GatewayKind.ACREL_GATEWAY, GatewayKind.TERMINAL):
        options["secret"] = _needed(form, visitor, "option")
    baud = _number(form, visitor, "baud", least=min(BAUDS), most=max(BAUDS), usual=9600)
    parity = form.get("parity") or "N"
    if parity not in PARITIES:
        form.wrong("parity", say("Choose one of the list."))
    if form.errors:
        return None
    line = {"name": name, "gateway": name, "baud": baud, "parity": parity}
    return "\n".join(
        [
            toml_table("gateways", values | ({"options": options} if options else {})),
            toml_table("lines", line),
        ]
    )


def rows_of(form: Form) -> Sequence[Mapping[str, Any]]:
    """What the scan had found, as the form brought it back."""
    rows: list[dict[str, Any]] = []
    for key in form.typed:
        if not (match := re.fullmatch(r"type-(\d{1,3})", key)):
            continue
        unit = int(match[1])
        row: dict[str, Any] = {"unit": unit, "found": True, "type": form.get(key), "detail": ""}
        row |= {"title": form.get(f"title-{unit}"), "meter_number": form.get(f"number-{unit}")}
        if f"size-{unit}" in form.typed:
            circuits: list[dict[str, int]] = [{}] * int(_digits(form, f"circuits-{unit}") or 0)
            row["cabinet"] = {
                "type": form.get(key),
                "base_unit": int(_digits(form, f"base-{unit}") or 0),
                "circuits": circuits,
                **{name: int(_digits(form, f"{name}-{unit}") or 0) for name in _CABINET},
            }
        rows.append(row)
    return rows


_CABINET: Final = ("size", "ct_users", "three_phase_users", "single_phase_users")


def meter_tables(form: Form, visitor: Visitor, known_rooms: Collection[str]) -> str | None:
    """[[meters]] and [[cabinets]] that are ticked, and the [[rooms]] they bring; None: a field
    says what is wrong."""
    say = desk.gettext(visitor)
    tables: list[str] = []
    rooms: dict[str, dict[str, object]] = {}
    chosen = [row for row in rows_of(form) if form.get(f"use-{row['unit']}")]
    if not chosen:
        form.wrong("form", say("Tick the meters that are to be added."))
    for row in chosen:
        unit = row["unit"]
        name = _name(form, visitor, f"name-{unit}")
        place = {"name": name, "line": form.get("line"), "type": row["type"]}
        floor = _number(
            form, visitor, f"floor-{unit}", least=FLOOR_MIN, most=FLOOR_MAX, needed=False
        )
        typed = [one.strip() for one in form.get(f"room-{unit}").splitlines()]
        for room in filter(None, typed):
            if room not in known_rooms:
                told: dict[str, object] = {"name": room, "building": form.get(f"building-{unit}")}
                if not told["building"]:
                    form.wrong(f"building-{unit}", say("In which building is this room?"))
                rooms[room] = told | ({} if floor is None else {"floor": floor})
        if cabinet := row.get("cabinet"):
            size = {key: cabinet[key] for key in _CABINET}
            of_cabinet = {"base_unit": cabinet["base_unit"], **size, "rooms": typed}
            if (opens := form.get(f"opens-{unit}")) in ("0", "1"):
                of_cabinet |= {"options": {"forced_open_state": int(opens)}}
            tables.append(toml_table("cabinets", place | of_cabinet))
        else:
            number = {"meter_number": row["meter_number"]} if row["meter_number"] else {}
            in_room = {"room": typed[0]} if typed and typed[0] else {}
            tables.append(toml_table("meters", place | {"unit": unit} | number | in_room))
    if form.errors:
        return None
    return "\n".join([*(toml_table("rooms", room) for room in rooms.values()), *tables])


def _name(form: Form, visitor: Visitor, name: str) -> str:
    typed = _needed(form, visitor, name)
    if len(typed) > NAME_CHARS_MAX:
        form.wrong(name, desk.gettext(visitor)("At most 60 characters."))
    return typed


def _needed(form: Form, visitor: Visitor, name: str) -> str:
    typed = form.get(name)
    if not typed:
        form.wrong(name, desk.gettext(visitor)("Fill this in."))
    return typed


def _digits(form: Form, name: str) -> str:
    typed = form.get(name)
    return typed if _INTEGER.fullmatch(typed) else ""


def _number(
    form: Form,
    visitor: Visitor,
    name: str,
    *,
    least: int,
    most: int,
    usual: int | None = None,
    needed: bool = True,
) -> int | None:
    typed = _digits(form, name)
    if not form.get(name) and (usual is not None or not needed):
        return usual
    if not typed or not least <= int(typed) <= most:
        say = desk.gettext(visitor)
        form.wrong(
            name, say("A whole number from %(least)s to %(most)s.") % {"least": least, "most": most}
        )
        return None
    return int(typed)
