"""A box that dialled in for the first time becomes a gateway, by the rules of every site file.

What it becomes is written as a piece of a site file, checked as one, and given back as one: whoever
keeps the site's file pastes it in, or the next import retires what was adopted here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headend.domain.places import Site
from headend.domain.problems import Problem
from headend.domain.site_file import SiteFileError, parse_site_file
from headend.domain.toml_lines import toml_table
from headend.store.database import Database
from headend.store.places import Clash, KnownSite, add_to_site
from protocols.dialects import TRANSPARENT
from protocols.dtu import SAMPLE_BYTES_MAX
from protocols.meter_type import Addressing, MeterType

log = logging.getLogger(__name__)

# Dialects that are kinds of gateways themselves; every other one is an option of a DTU.
MQTT = "mqtt"
_KINDS = frozenset({"acrel_4g", "acrel_gateway", "terminal", MQTT})


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionWish:
    """Which stranger, and what it is to be called."""

    stranger: str  # its registration, or the beginning of what it said first, as hex
    site: str
    name: str  # of the gateway and of its line
    registration: str | None = None  # None: the one its dialect told
    #: "mqtt": `stranger` is its device id, and it need not have called: our own broker lets nobody
    #: in who is not known. None: it is on the list.
    kind: str | None = None
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    options: Mapping[str, str] = field(default_factory=dict)  # of the gateway: a secret's place
    meter: str | None = None  # the one behind it; a 4G meter is one
    meter_type: str | None = None
    address: str | None = None  # a unit id or a number, by the meter type; None: 1


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was added, and the text for the site's file."""

    gateway: str
    fragment: str


async def adopt(
    database: Database,
    strangers: Sequence[Mapping[str, Any]],
    site: KnownSite,
    wish: AdoptionWish,
    meter_types: Mapping[str, MeterType],
) -> Adopted:
    """Add the gateway, its line and, where given, its meter to the stored site.

    `strangers`: the rows of the console's list. All or nothing; a running head-end follows.
    Raises Problem("no-such-stranger") and Problem("not-adopted").
    """
    if wish.kind not in (None, MQTT):
        raise Problem("not-adopted", detail=f"only {MQTT} need not have called, not {wish.kind}.")
    if wish.kind == MQTT:
        stranger: Mapping[str, Any] = {"dialect": MQTT, "registration": wish.stranger, "sample": ""}
    else:
        stranger = _chosen(strangers, wish.stranger)
    fragment = _fragment(stranger, wish, meter_types)
    piece = _checked(fragment, site.place, meter_types)
    async with database.transaction() as tx:
        clash = await add_to_site(tx, site.site_id, piece)
    if isinstance(clash, Clash):
        raise Problem(
            "not-adopted",
            detail=f"{clash.kind} {clash.name} and a {clash.kind} of site {clash.other_site} have "
            f"the same {clash.what}, {clash.value}; choose another.",
        )
    log.info("adopted %s as gateway %s of site %s", wish.stranger, wish.name, wish.site)
    return Adopted(wish.name, fragment)


def _chosen(strangers: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    hexes = wanted.replace(" ", "").lower()
    fits = [row for row in strangers if row["registration"] == wanted]
    if not fits and hexes:
        fits = [row for row in strangers if _said_hex(row).startswith(hexes)]
    if len(fits) != 1:
        raise Problem("no-such-stranger", stranger=wanted)
    return fits[0]


def _said_hex(row: Mapping[str, Any]) -> str:
    """The sample of a row ("68 65 6c  hel") without its blanks and without its text."""
    told: str = row["sample"]
    return told.partition("  ")[0].replace(" ", "")


def _fragment(
    stranger: Mapping[str, Any], wish: AdoptionWish, meter_types: Mapping[str, MeterType]
) -> str:
    dialect = stranger["dialect"] or TRANSPARENT
    registration = wish.registration or stranger["registration"]
    if not registration:
        said = _said_hex(stranger)
        if not said or len(said) // 2 >= SAMPLE_BYTES_MAX:
            raise Problem(
                "not-adopted",
                detail="it did not tell a registration; give one with --registration, like "
                '"iccid:8986…" or "ascii:…".',
            )
        registration = f"hex:{said}"
    options: dict[str, str] = dict(wish.options)
    kind = dialect if dialect in _KINDS else "dtu"
    if kind == "dtu" and dialect != TRANSPARENT:
        options["dialect"] = dialect
    if kind == "acrel_4g" and wish.meter_type is None:
        raise Problem(
            "not-adopted", detail="it is a 4G meter: say of which type it is, with --type."
        )
    gateway = {"name": wish.name, "kind": kind, "registration": registration}
    tables = [toml_table("gateways", gateway | ({"options": options} if options else {}))]
    line = {"baud": wish.baud, "parity": wish.parity, "stop_bits": wish.stop_bits}
    tables.append(toml_table("lines", {"name": wish.name, "gateway": wish.name} | line))
    if wish.meter_type is not None:
        tables.append(toml_table("meters", _meter(wish, meter_types)))
    return "\n".join(tables)


def _meter(wish: AdoptionWish, meter_types: Mapping[str, MeterType]) -> dict[str, object]:
    known = meter_types.get(wish.meter_type or "")
    if known is not None and known.addressing is Addressing.NUMBER:
        place: dict[str, object] = {"address": wish.address or ""}
    else:
        unit = wish.address or "1"
        if not (unit.isascii() and unit.isdigit()):
            raise Problem("not-adopted", detail=f"{unit} is no unit id.")
        place = {"unit": int(unit)}
    head = {"name": wish.meter or wish.name, "line": wish.name, "type": wish.meter_type}
    return head | place


def _checked(fragment: str, site: Site, meter_types: Mapping[str, MeterType]) -> Site:
    head = toml_table("site", {"name": site.name, "time_zone": site.time_zone.key}, single=True)
    try:
        return parse_site_file(f"{head}\n{fragment}", "the adoption", meter_types)
    except SiteFileError as error:
        detail = error.text("en").removeprefix("the adoption, ").partition(": ")[2]
        raise Problem("not-adopted", detail=detail) from error
