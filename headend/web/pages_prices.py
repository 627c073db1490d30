"""Prices and rules: the tariffs, their versions and drafts, where they hold, and the calendars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from fastapi import APIRouter, Request, Response

from headend.domain.friendly_hours import Calendar
from headend.domain.problems import Problem
from headend.domain.tariff_meter import rounded_x4
from headend.domain.tariffs import SEASONS_MAX, Rate, Terms
from headend.services import tariffs as service
from headend.services.services import Services
from headend.services.tariffs import AssignWish, NotDone, Publication
from headend.store import supply, tariff_places, tariff_pushes, tariffs
from headend.store.database import Transaction
from headend.store.places import KnownSite
from headend.store.tariff_places import PLACES, Place
from headend.store.tariff_pushes import Item, Push
from headend.store.tariffs import Listed, StoredVersion, Tariff
from headend.web import desk, forms, price_forms
from headend.web.common import Asked
from headend.web.desk import Configurer, Form, PageProblem, Viewer, Visitor
from headend.web.told import said

router = APIRouter(include_in_schema=False)

NAME_MAX: Final = 80
NOTE_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesView:
    """Every tariff, and the hours in which nobody is cut."""

    tariffs: Sequence[Listed]
    sites: Sequence[str]
    calendars: Sequence[tuple[str, Calendar]]
    today: date
    form: Form = field(default_factory=Form)


@router.get("/prices")
async def page(services: Asked, viewer: Viewer) -> Response:
    """The list; with the right, a form for a new one."""
    return desk.show("prices.html", viewer, services, await _list(services, viewer))


async def _list(services: Services, viewer: Visitor, form: Form | None = None) -> PricesView:
    today = today_of(services)
    sites = {site.site_id: name for name, site in sites_of(services, viewer).items()}
    async with services.database.transaction() as tx:
        known = await supply.calendars(tx)
        return PricesView(
            tariffs=await tariffs.listing(tx, viewer.sites, today),
            sites=list(sites.values()),
            calendars=[(sites[number], known[number]) for number in sites if number in known],
            today=today,
            form=form or Form(),
        )


@router.post("/prices")
async def add(request: Request, services: Asked, configurer: Configurer) -> Response:
    """A tariff without a version; its first draft is the next page."""
    form = desk.form_of(await request.form())
    name, site = form.get("name"), form.get("site")
    say = desk.gettext(configurer)
    mine = sites_of(services, configurer)
    if not 1 <= len(name) <= NAME_MAX:
        form.wrong("name", say("A name of 1 to 80 characters."))
    if (site and site not in mine) or (not site and configurer.sites is not None):
        form.wrong("site", say("Choose a property."))
    if not form.errors:
        async with services.database.transaction() as tx:
            made = await service.add(
                tx,
                name,
                site_id=mine[site].site_id if site else None,
                by=configurer.operator_id,
                at=services.clock.now(),
            )
        if isinstance(made, Tariff):
            return desk.go(f"/prices/{made.tariff_id}/draft")
        form.wrong("name", sentence(made, configurer))
    view = await _list(services, configurer, form)
    return desk.show("prices.html", configurer, services, view, status=422)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffView:
    """One tariff on one page."""

    tariff: Tariff
    versions: Sequence[StoredVersion]
    now: StoredVersion | None  # in force today
    draft: StoredVersion | None
    places: Sequence[Place]
    sites: Sequence[str]
    kinds: Sequence[str]
    day: Day | None
    push: Push | None
    counts: dict[str, int]
    items: Sequence[Item]
    rounded: dict[Rate, int]
    would: Publication | None  # what publishing the draft from today on would mean
    today: date
    form: Form = field(default_factory=Form)

    @property
    def runs(self) -> bool:
        """Whether the progress of the push is worth watching."""
        return self.push is not None and self.push.state in ("waits", "runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of one day: its minutes, its rate, its price, and its height in the picture."""

    begins: int
    ends: int
    rate: Rate
    price_x4: int
    height: int  # 0 to 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The prices of one day as a picture and a table."""

    day: date
    version: int
    stretches: Sequence[Stretch]


def day_of(terms: Terms, version: int, day: date) -> Day:
    """The stretches of a day with their prices, service fee included; pure."""
    slots = terms.hours_of(day).slots
    ends = [slot.minute for slot in slots[1:]] + [24 * 60]
    highest = max(terms.price_x4(slot.rate) for slot in slots) or 1
    return Day(
        day=day,
        version=version,
        stretches=[
            Stretch(
                begins=slot.minute,
                ends=until,
                rate=slot.rate,
                price_x4=terms.price_x4(slot.rate),
                height=max(2, terms.price_x4(slot.rate) * 100 // highest),
            )
            for slot, until in zip(slots, ends, strict=True)
        ],
    )


@router.get("/prices/{tariff_id}")
async def tariff(services: Asked, viewer: Viewer, tariff_id: int) -> Response:
    """Versions, the chart of the day, where it holds, and how far the meters are."""
    view = await view_of(services, viewer, tariff_id)
    return desk.show("tariff.html", viewer, services, view)


async def view_of(
    services: Services, viewer: Visitor, tariff_id: int, form: Form | None = None
) -> TariffView:
    """The page of one tariff; with a form, what is wrong stands beside its fields."""
    today = today_of(services)
    async with services.database.transaction() as tx:
        found = await tariff_for(tx, viewer, tariff_id)
        versions = await tariffs.versions(tx, tariff_id)
        now = in_force(versions, today)
        draft = next((one for one in versions if one.state == "draft"), None)
        push, counts, items = await _push_of(tx, viewer, versions, now)
        would = None
        if draft is not None:
            looked = await service.publication(tx, tariff_id, first_day(versions, today), today)
            would = looked if isinstance(looked, Publication) else None
        shown = now or draft
        return TariffView(
            tariff=found,
            versions=versions,
            now=now,
            draft=draft,
            places=await tariff_places.places_of(tx, tariff_id, viewer.sites),
            sites=list(sites_of(services, viewer)),
            kinds=PLACES,
            day=day_of(shown.terms, shown.number, today) if shown else None,
            push=push,
            counts=counts,
            items=items,
            rounded=rounded_x4(now.terms) if now else {},
            would=would,
            today=today,
            form=form or Form(),
        )


async def _push_of(
    tx: Transaction,
    viewer: Visitor,
    versions: Sequence[StoredVersion],
    now: StoredVersion | None,
) -> tuple[Push | None, dict[str, int], Sequence[Item]]:
    """The push of the version in force; before there is one, of the newest published."""
    published = [one for one in versions if one.state == "published"]
    shown = now or (published[0] if published else None)
    push = None if shown is None else await tariff_pushes.of_version(tx, shown.version_id)
    if push is None:
        return None, {}, ()
    counts = await tariff_pushes.counts(tx, push.push_id)
    return push, counts, await tariff_pushes.items(tx, push.push_id, viewer.sites)


def in_force(versions: Sequence[StoredVersion], today: date) -> StoredVersion | None:
    """The version of a day; pure."""
    begun = [
        one
        for one in versions
        if one.state == "published" and one.valid_from is not None and one.valid_from <= today
    ]
    return max(begun, key=lambda one: one.valid_from or date.min, default=None)


def first_day(versions: Sequence[StoredVersion], today: date) -> date:
    """Today, or tomorrow where a version begins today already; pure."""
    taken = {one.valid_from for one in versions if one.state == "published"}
    day = today
    while day in taken:
        day = date.fromordinal(day.toordinal() + 1)
    return day


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftView:
    """The editor."""

    tariff: Tariff
    edits: int  # how often the draft was edited when this page was made
    rates: Sequence[Rate]
    seasons: int  # how many are shown: those that are there, and one more
    form: Form


@router.get("/prices/{tariff_id}/draft")
async def draft(services: Asked, configurer: Configurer, tariff_id: int) -> Response:
    """The draft; without one, the terms in force as a beginning."""
    async with services.database.transaction() as tx:
        found = await tariff_for(tx, configurer, tariff_id, to_change=True)
        versions = await tariffs.versions(tx, tariff_id)
    open_one = next((one for one in versions if one.state == "draft"), None)
    begin = open_one or in_force(versions, today_of(services)) or next(iter(versions), None)
    typed = price_forms.typed(begin.terms) if begin else {"season_1_hours": "00:00 flat"}
    if open_one:
        typed["note"] = open_one.note
    view = _draft_view(found, Form(typed), open_one.edits if open_one else 0)
    return desk.show("tariff_draft.html", configurer, services, view)


def _draft_view(found: Tariff, form: Form, edits: int) -> DraftView:
    filled = [n for n in range(1, SEASONS_MAX + 1) if form.get(f"season_{n}_hours")]
    return DraftView(
        tariff=found,
        edits=edits,
        rates=list(Rate),
        seasons=min(SEASONS_MAX, max(filled, default=1) + 1),
        form=form,
    )


@router.post("/prices/{tariff_id}/draft")
async def keep(
    request: Request, services: Asked, configurer: Configurer, tariff_id: int
) -> Response:
    """Keep it; whatever is wrong stands beside its field and nothing is kept."""
    form = desk.form_of(await request.form())
    async with services.database.transaction() as tx:
        found = await tariff_for(tx, configurer, tariff_id, to_change=True)
    edits = int(form.get("edits")) if form.get("edits").isdecimal() else 0
    if len(form.get("note")) > NOTE_MAX:
        say = desk.gettext(configurer)
        form.wrong("note", say("At most 200 characters."))
    terms = price_forms.terms_of(form, configurer)
    if terms is not None and not form.errors:
        async with services.database.transaction() as tx:
            kept = await service.keep_draft(
                tx,
                tariff_id,
                terms,
                note=form.get("note"),
                by=configurer.operator_id,
                at=services.clock.now(),
                edits=edits,
            )
        if not isinstance(kept, NotDone):
            return desk.go(f"/prices/{tariff_id}")
        form.wrong("form", sentence(kept, configurer))
    view = _draft_view(found, form, edits)
    return desk.show("tariff_draft.html", configurer, services, view, status=422)


@router.post("/prices/{tariff_id}/drop")
async def drop(services: Asked, configurer: Configurer, tariff_id: int) -> Response:
    """Let the draft go; it stays on record."""
    async with services.database.transaction() as tx:
        await tariff_for(tx, configurer, tariff_id, to_change=True)
        await tariffs.drop_draft(tx, tariff_id)
    return desk.go(f"/prices/{tariff_id}")


@router.post("/prices/{tariff_id}/assign")
async def assign(
    request: Request, services: Asked, configurer: Configurer, tariff_id: int
) -> Response:
    """For a property, building, room or meter, from a day on."""
    form = desk.form_of(await request.form())
    say = desk.gettext(configurer)
    from_day = date_of(form, configurer, "from_day")
    why = forms.reason(form, configurer, "assign_reason")
    kind = form.get("kind")
    if kind not in PLACES:
        form.wrong("kind", say("Choose what it is for."))
    if form.get("place_site") not in sites_of(services, configurer):
        form.wrong("place_site", say("Choose a property."))
    async with services.database.transaction() as tx:
        found = await tariff_for(tx, configurer, tariff_id)
        mine = sites_of(services, configurer)
        here = form.get("place_site") in mine and mine[form.get("place_site")].site_id
        if found.site_id is not None and here and here != found.site_id:
            form.wrong("place_site", say("This tariff is of another property."))
        if not form.errors and from_day is not None:
            refused = await service.assign(
                tx,
                None if form.get("step") == "end" else tariff_id,
                AssignWish(
                    place=kind,
                    site=form.get("place_site"),
                    name=form.get("place_name"),
                    from_day=from_day,
                    reason=why,
                ),
                sites=configurer.sites,
                by=configurer.operator_id,
                at=services.clock.now(),
                today=today_of(services),
            )
            if refused is None:
                return desk.go(f"/prices/{tariff_id}")
            beside = "place_name" if refused.why.value == "no-such-place" else "from_day"
            form.wrong(beside, sentence(refused, configurer))
    view = await view_of(services, configurer, tariff_id, form)
    return desk.show("tariff.html", configurer, services, view, status=422)


async def tariff_for(
    tx: Transaction, visitor: Visitor, tariff_id: int, *, to_change: bool = False
) -> Tariff:
    """The tariff inside the visitor's scope; outside of it there is none.

    A tariff of every property is seen by all, and changed by those who are for every property.
    """
    found = await tariffs.find(tx, tariff_id, visitor.sites) if 0 <= tariff_id < 2**31 else None
    if found is None or (to_change and found.site_id is None and visitor.sites is not None):
        raise PageProblem(visitor, Problem("no-such-tariff", tariff=tariff_id))
    return found


def date_of(form: Form, visitor: Visitor, name: str) -> date | None:
    """A date as a browser's field writes it; None: the field says what is wrong."""
    try:
        return date.fromisoformat(form.get(name))
    except ValueError:
        say = desk.gettext(visitor)
        form.wrong(name, say("Choose a day, for instance 2026-10-01."))
        return None


def sentence(refused: NotDone, visitor: Visitor) -> str:
    """Why nothing was done, in the visitor's language."""
    problem = Problem(refused.why.value, detail=refused.detail, tariff=refused.detail)
    return said(problem, visitor.language)


def sites_of(services: Services, visitor: Visitor) -> dict[str, KnownSite]:
    """The properties inside the visitor's scope, by name."""
    assert visitor.caller is not None
    sites = services.lines.sites.items()
    return {name: site for name, site in sites if visitor.caller.may_touch(site.site_id)}


def today_of(services: Services) -> date:
    """The day on the wall clock of the desk."""
    at: datetime = services.clock.now()
    return at.astimezone(desk.zone_of(services)).date()
