"""Setting up: one flat price for a property, so that a first sale can follow; or none yet.

It is a tariff like every other: drafted, published for today and pushed to the meters with a look
at each. Hours, tiers and fees come later, on the page of prices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from headend.domain.tariffs import BadTerms, Rate, Terms
from headend.services import tariffs as service
from headend.services.services import Services
from headend.services.tariffs import AssignWish, NotDone, TariffWhy
from headend.store import desk_setup
from headend.store.database import Transaction
from headend.store.places import KnownSite
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Configurer, Form, Visitor
from headend.web.pages_prices import sentence, today_of
from headend.web.pages_setting_up import site_for
from headend.web.price_forms import price_x4, told

router = APIRouter(include_in_schema=False)

T = TypeVar("T")


class _NotPublished(Exception):
    """Something of it was refused: nothing of it stays."""

    def __init__(self, why: NotDone) -> None:
        super().__init__(why.why.value)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceView:
    """The form of one price."""

    site: str
    meters: int
    needs_second: bool
    form: Form = field(default_factory=Form)


@router.get("/setup/{site}/price")
async def price_form(services: Asked, visitor: Configurer, site: str) -> Response:
    """One price for every kWh of the property."""
    return await _show(services, visitor, site_for(services, visitor, site), Form())


async def _show(
    services: Services, visitor: Visitor, known: KnownSite, form: Form, *, status: int = 200
) -> Response:
    async with services.database.transaction() as tx:
        meters = (await desk_setup.progress(tx, known.site_id)).meters
    view = PriceView(
        site=known.name,
        meters=meters,
        needs_second=service.needs_second_person(meters, service.change_permille(None, _flat(1))),
        form=form,
    )
    return desk.show("setup_price.html", visitor, services, view, status=status)


def _flat(price: int) -> Terms:
    return Terms(prices_x4={Rate.FLAT: price})


@router.post("/setup/{site}/price")
async def set_price(request: Request, services: Asked, visitor: Configurer, site: str) -> Response:
    """Drafted, assigned to the property from today and published, or nothing at all."""
    known = site_for(services, visitor, site)
    form = desk.form_of(await request.form())
    price = price_x4(form, visitor, "price")
    if price is None:
        form.wrong("price", desk.gettext(visitor)("Enter the price of a kWh in yuan."))
    else:
        try:
            _flat(price)
        except BadTerms as bad:
            form.wrong("price", told(bad, visitor))
    second = await forms.second_person(request, services, visitor, form)
    if not form.errors and price is not None:
        try:
            async with services.database.transaction() as tx:
                number = await _publish(
                    tx, services, visitor, known, price=price, approver=second.operator_id
                )
        except _NotPublished as refused:
            persons = (TariffWhy.SECOND_PERSON_NEEDED, TariffWhy.SAME_PERSON)
            beside = "approver" if refused.why.why in persons else "price"
            form.wrong(beside, sentence(refused.why, visitor))
        else:
            return desk.go(f"/prices/{number}")
    return await _show(services, visitor, known, form, status=422)


async def _publish(
    tx: Transaction,
    services: Services,
    visitor: Visitor,
    known: KnownSite,
    *,
    price: int,
    approver: int | None,
) -> int:
    """The tariff's number. Raises _NotPublished."""
    at, today, by = services.clock.now(), today_of(services), visitor.operator_id
    name = desk.gettext(visitor)("One price for %s") % known.name
    tariff = _done(await service.add(tx, name, site_id=known.site_id, by=by, at=at))
    number = tariff.tariff_id
    _done(await service.keep_draft(tx, number, _flat(price), note="", by=by, at=at, edits=0))
    wish = AssignWish(place="site", site=known.name, name="", from_day=today, reason=name)
    _done(await service.assign(tx, number, wish, sites=visitor.sites, by=by, at=at, today=today))
    _done(
        await service.publish(
            tx, number, valid_from=today, by=by, approver=approver, at=at, today=today
        )
    )
    return number


def _done(outcome: T | NotDone) -> T:
    if isinstance(outcome, NotDone):
        raise _NotPublished(outcome)
    return outcome
