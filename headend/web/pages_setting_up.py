"""The first ten minutes: property, gateway, scan, rooms, first reading, first sale.

Every step adds a piece to what is stored and may be done again for the next gateway or floor. A
step shows what is missing, so that nobody has to know the order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request, Response

from headend.domain.gateway_tables import DTU_DIALECTS
from headend.domain.places import GatewayKind
from headend.domain.problems import Problem
from headend.domain.site_tables import SiteFileError
from headend.services import setting_up
from headend.services.scan import scan
from headend.services.services import Services
from headend.store import desk_setup
from headend.store.desk_setup import Progress
from headend.store.places import KnownSite
from headend.web import desk, forms_setting_up
from headend.web.common import Asked
from headend.web.desk import Configurer, Form, PageProblem, Visitor
from headend.web.forms_setting_up import PARITIES, gateway_tables, meter_tables, property_tables
from headend.web.told import said
from protocols.catalog import load_meter_types
from protocols.meter_type import Address
from protocols.modbus import UNIT_MAX

router = APIRouter(include_in_schema=False)

ZONES: Final = ("Asia/Shanghai", "Asia/Urumqi", "Asia/Hong_Kong", "Asia/Singapore", "UTC")
# A first look asks so many unit ids; what lies above is asked for by hand.
SCAN_LAST: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUpView:
    """Every property the visitor may set up, and how far each is."""

    sites: Sequence[tuple[str, Progress]]
    reading: Collection[str]  # properties whose meters are being read for the first time
    may_found: bool
    zones: Sequence[str] = ZONES
    form: Form = field(default_factory=Form)


@router.get("/setup")
async def steps(services: Asked, visitor: Configurer) -> Response:
    """What is done, what comes next."""
    return desk.show("setup.html", visitor, services, await _steps(services, visitor))


async def _steps(services: Services, visitor: Visitor, form: Form | None = None) -> SetUpView:
    assert visitor.caller is not None
    known = [
        site for site in services.lines.sites.values() if visitor.caller.may_touch(site.site_id)
    ]
    async with services.database.transaction() as tx:
        sites = [(site.name, await desk_setup.progress(tx, site.site_id)) for site in known]
    reads = services.nights.lines_being_read
    return SetUpView(
        sites=sites,
        reading={line.site for name, line in services.lines.lines.items() if name in reads},
        may_found=visitor.sites is None,
        form=form or Form(),
    )


@router.post("/setup")
async def found(request: Request, services: Asked, visitor: Configurer) -> Response:
    """A new property. Only who may see all of them founds another."""
    form = desk.form_of(await request.form())
    if visitor.sites is not None:
        raise PageProblem(visitor, Problem("no-such-page"))
    tables = property_tables(form, visitor)
    if tables is not None:
        try:
            name = await setting_up.found_property(services.database, tables, load_meter_types())
        except SiteFileError as error:
            forms_setting_up.blame(form, visitor, error)
        except Problem as problem:
            form.wrong("name", said(problem, visitor.language))
        else:
            await setting_up.until_known(services.lines, name)
            return desk.go(f"/setup/{quote(name)}/gateway")
    view = await _steps(services, visitor, form)
    return desk.show("setup.html", visitor, services, view, status=422)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """One gateway with its line, before it is added; and who dialled in and is nobody yet."""

    site: str
    strangers: Sequence[Mapping[str, Any]]
    kinds: Sequence[GatewayKind] = tuple(GatewayKind)
    dialects: Sequence[str] = tuple(DTU_DIALECTS)
    parities: Sequence[str] = PARITIES
    form: Form = field(default_factory=Form)


@router.get("/setup/{site}/gateway")
async def gateway_form(
    request: Request, services: Asked, visitor: Configurer, site: str
) -> Response:
    """Which box carries the bytes. A stranger that called fills the form."""
    site_for(services, visitor, site)
    view = _gateway_view(services, visitor, site, Form(dict(request.query_params)))
    return desk.show("setup_gateway.html", visitor, services, view)


def _gateway_view(services: Services, visitor: Visitor, site: str, form: Form) -> GatewayView:
    # A stranger belongs to no site yet: only who may see all of them may see it.
    strangers = services.strangers() if visitor.sites is None else []
    return GatewayView(
        site=site,
        strangers=[row | {"called": _called(row), "query": _query_of(row)} for row in strangers],
        form=form,
    )


def _called(stranger: Mapping[str, Any]) -> str:
    """How it says who it is, as the form wants it: what it said first, if nothing better."""
    if stranger["registration"]:
        return str(stranger["registration"])
    said = bytes.fromhex(str(stranger["sample"]).partition("  ")[0])
    readable = said.isascii() and said.decode("latin-1").isprintable()
    return f"ascii:{said.decode()}" if readable else f"hex:{said.hex()}"


def _query_of(stranger: Mapping[str, Any]) -> str:
    """The form as this stranger would fill it in."""
    dialect = stranger["dialect"] or "transparent"
    own_kind = dialect in ("acrel_4g", "acrel_gateway", "terminal", "mqtt")
    return urlencode(
        {
            "kind": dialect if own_kind else "dtu",
            "registration": _called(stranger),
            **({} if own_kind else {"dialect": dialect}),
        }
    )


@router.post("/setup/{site}/gateway")
async def add_gateway(
    request: Request, services: Asked, visitor: Configurer, site: str
) -> Response:
    """The gateway and its line; on to the scan of that line."""
    known = site_for(services, visitor, site)
    form = desk.form_of(await request.form())
    tables = gateway_tables(form, visitor)
    if tables is not None and await _added(services, visitor, known, tables, form):
        name = form.get("name")
        await setting_up.until_open(services.lines, name)
        return desk.go(f"/setup/{quote(site)}/meters?" + urlencode({"line": name}))
    view = _gateway_view(services, visitor, site, form)
    return desk.show("setup_gateway.html", visitor, services, view, status=422)


async def _added(
    services: Services, visitor: Visitor, known: KnownSite, tables: str, form: Form
) -> bool:
    try:
        await setting_up.add_to_property(services.database, known, tables, load_meter_types())
    except SiteFileError as error:
        forms_setting_up.blame(form, visitor, error)
    except Problem as problem:
        form.wrong("form", said(problem, visitor.language))
    else:
        return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which line is asked, and its unit ids. `line` "": the only one, if there is just one."""

    line: str = ""
    first: int = 1
    last: int = SCAN_LAST
    scan: bool = False

    @property
    def units(self) -> range:
        """What can be asked of that."""
        return range(max(1, self.first), min(self.last, UNIT_MAX) + 1)


WhichUnits = Annotated[Asking, Depends()]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundView:
    """What one unit id answered, and how far the scan is."""

    row: Mapping[str, Any]
    asked: int
    of: int
    found: int
    known: str | None  # the meter that is here already
    line: str
    form: Form = field(default_factory=Form)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetersView:
    """A line, and whom a scan of it finds."""

    site: str
    lines: Sequence[str]
    line: str  # "": none is chosen yet
    up: bool
    down_reason: str
    asking: Asking
    scanning: bool
    rows: Sequence[Mapping[str, Any]] = ()  # chosen before, when the form came back
    form: Form = field(default_factory=Form)


@router.get("/setup/{site}/meters")
async def meters_form(
    services: Asked, visitor: Configurer, site: str, asking: WhichUnits
) -> Response:
    """Which line, which unit ids; with `scan` they are asked, one after the other."""
    view = _meters_view(services, visitor, site, asking)
    return desk.show("setup_meters.html", visitor, services, view)


def _meters_view(
    services: Services, visitor: Visitor, site: str, asking: Asking, form: Form | None = None
) -> MetersView:
    known = site_for(services, visitor, site)
    of_site = {
        name: at_work
        for name, at_work in services.lines.lines.items()
        if at_work.known.site_id == known.site_id
    }
    chosen = of_site.get(asking.line)
    if chosen is None and len(of_site) == 1:
        (chosen,) = of_site.values()
    up = chosen is not None and chosen.line.is_up
    return MetersView(
        site=site,
        lines=sorted(of_site),
        line=chosen.name if chosen else "",
        up=up,
        down_reason="" if chosen is None or up else str(chosen.line.down_reason),
        asking=asking,
        scanning=asking.scan and up,
        rows=forms_setting_up.rows_of(form) if form else (),
        form=form or Form(),
    )


@router.get("/setup/{site}/meters/{line}/live")
async def scan_live(
    services: Asked, visitor: Configurer, site: str, asking: WhichUnits
) -> Response:
    """A row for each meter that answers, as it answers; polls and orders go on in between."""
    view = _meters_view(services, visitor, site, asking)
    if not view.line or view.line != asking.line:
        raise PageProblem(visitor, Problem("no-such-line", line=asking.line))
    at_work, units = services.lines.lines[view.line], asking.units
    known = {meter.known.unit: meter.known.name for meter in at_work.meters}

    async def pieces() -> AsyncIterator[str | None]:
        covered: set[int] = set()
        found = 0
        quiet_s = at_work.line.quiet_left_s(Address(units.start)) if units else 0.0
        if quiet_s > 1:
            waits = {"seconds": int(quiet_s)}
            yield desk.rendered("setup_waits.html", visitor, services, waits)
        async for row in scan(at_work.line, units):
            unit = int(str(row["unit"]))
            if isinstance(cabinet := row.get("cabinet"), dict):
                covered |= set(cabinet["units"])
            elif unit in covered:
                continue
            found += bool(row["found"])
            shown = FoundView(
                row=row,
                asked=unit - units.start + 1,
                of=len(units),
                found=found,
                known=known.get(unit),
                line=view.line,
            )
            yield desk.rendered("setup_found.html", visitor, services, shown)
        yield None

    return desk.stream(pieces())


@router.post("/setup/{site}/meters")
async def add_meters(request: Request, services: Asked, visitor: Configurer, site: str) -> Response:
    """The chosen meters with their rooms, all or none."""
    known = site_for(services, visitor, site)
    form = desk.form_of(await request.form())
    async with services.database.transaction() as tx:
        rooms = await desk_setup.rooms(tx, known.site_id)
    tables = meter_tables(form, visitor, rooms)
    if tables is not None and await _added(services, visitor, known, tables, form):
        return desk.go("/setup")
    view = _meters_view(services, visitor, site, Asking(line=form.get("line")), form)
    return desk.show("setup_meters.html", visitor, services, view, status=422)


@router.post("/setup/{site}/read")
async def read_all(services: Asked, visitor: Configurer, site: str) -> Response:
    """Ask every meter that was never read, line by line, while the page waits for nobody."""
    known = site_for(services, visitor, site)
    async with services.database.transaction() as tx:
        unread = await desk_setup.unread_meters(tx, known.site_id)
    services.nights.read_soon(
        [services.lines.meters[n] for n in unread if n in services.lines.meters]
    )
    return desk.go("/setup")


@router.get("/setup/{site}/file")
async def site_file(services: Asked, visitor: Configurer, site: str) -> Response:
    """What is stored, as a site file to keep."""
    known = site_for(services, visitor, site)
    async with services.database.transaction() as tx:
        text = await setting_up.property_file(tx, known)
    disposition = f"attachment; filename*=UTF-8''{quote(site)}.toml"
    return Response(
        text,
        media_type="application/toml",
        headers={**desk.HEADERS, "content-disposition": disposition},
    )


def site_for(services: Services, visitor: Visitor, name: str) -> KnownSite:
    """The property of that name inside the visitor's scope; outside of it there is none."""
    assert visitor.caller is not None
    site = services.lines.sites.get(name)
    if site is None or not visitor.caller.may_touch(site.site_id):
        raise PageProblem(visitor, Problem("no-such-site", site=name))
    return site
