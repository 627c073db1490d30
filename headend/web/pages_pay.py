"""A payment into the platform: money counted at once, and light for who sat in the dark."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from fastapi import APIRouter, Request, Response

from headend.domain.books import NotBooked
from headend.domain.ledger import Operation, Transfer
from headend.domain.problems import Problem
from headend.services import platform_money
from headend.services.books import Wish
from headend.services.price_facts import PriceFacts, price_facts
from headend.services.restore_clock import restore_chain
from headend.services.services import Services
from headend.store import accounts, desk_rooms, ledger
from headend.store.accounts import Account
from headend.store.chains import Chain
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Viewer, Visitor, meter_for
from headend.web.told import said

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayView:
    """The form of one payment."""

    payment_id: UUID
    meter: str
    customer: Account
    facts: PriceFacts
    form: Form = field(default_factory=Form)


@router.get("/pay/{payment_id}")
async def form_page(services: Asked, seller: Seller, payment_id: UUID, meter: str = "") -> Response:
    """Where the payment stands already, on to it."""
    async with services.database.transaction() as tx:
        if await ledger.transfer(tx, payment_id) is not None:
            return desk.go(f"/payments/{payment_id}")
    view = await _form_view(services, seller, payment_id, meter)
    return desk.show("pay.html", seller, services, view)


async def _form_view(
    services: Services, seller: Visitor, payment_id: UUID, name: str, form: Form | None = None
) -> PayView:
    number, now = meter_for(services, seller, name).known.meter_id, services.clock.now()
    async with services.database.transaction() as tx:
        return PayView(
            payment_id=payment_id,
            meter=name,
            customer=await accounts.customer_of_meter(tx, number, now),
            facts=await price_facts(tx, number, now),
            form=form or Form(),
        )


@router.post("/pay/{payment_id}")
async def take(request: Request, services: Asked, seller: Seller, payment_id: UUID) -> Response:
    """Book it once for this id; a "no" books nothing and keeps what was typed."""
    form = desk.form_of(await request.form())
    meter = meter_for(services, seller, form.get("meter"))
    amount = forms.amount_fen(form, seller)
    status = 422
    if amount is not None:
        async with services.database.transaction() as tx:
            done = await platform_money.pay(
                tx,
                Wish(transfer_id=payment_id, amount_fen=amount, operator_id=seller.operator_id),
                services.clock,
                meter_id=meter.known.meter_id,
            )
        if not isinstance(done, NotBooked):
            return desk.go(f"/payments/{payment_id}")
        code = "meter-money" if done.why.value == "wrong-accounts" else done.why.value
        problem = Problem(code, meter=meter.known.name, detail=done.detail)
        form.wrong("amount", said(problem, seller.language))
        status = problem.kind.http_status
    view = await _form_view(services, seller, payment_id, meter.known.name, form)
    return desk.show("pay.html", seller, services, view, status=status)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentView:
    """One payment, and the light that follows from it."""

    transfer: Transfer
    meter: str
    customer: str
    balance_fen: int
    chain: Chain | None  # None: it was not dark
    now: datetime

    @property
    def waits(self) -> bool:
        """Whether light is still to come."""
        return self.chain is not None and self.chain.light_on_at is None


@router.get("/payments/{payment_id}")
async def payment(services: Asked, viewer: Viewer, payment_id: UUID) -> Response:
    """Paid, sent, light on."""
    view = await _payment_view(services, viewer, payment_id)
    return desk.show("payment.html", viewer, services, view)


@router.get("/payments/{payment_id}/live")
async def live(request: Request, services: Asked, viewer: Viewer, payment_id: UUID) -> Response:
    """Until the light is on."""
    await _payment_view(services, viewer, payment_id)

    async def pieces() -> AsyncIterator[str | None]:
        async with desk.bell(request).watched() as watch:
            while True:
                view = await _payment_view(services, viewer, payment_id)
                yield desk.rendered("payment_now.html", viewer, services, view)
                if not view.waits:
                    yield None
                    return
                await watch.wait()

    return desk.stream(pieces())


async def _payment_view(services: Services, viewer: Visitor, payment_id: UUID) -> PaymentView:
    now = services.clock.now()
    async with services.database.transaction() as tx:
        transfer = await ledger.transfer(tx, payment_id)
        if transfer is None or transfer.operation is not Operation.PAYMENT:
            raise PageProblem(viewer, Problem("no-such-command", detail=payment_id))
        customer = await accounts.account(tx, transfer.credit)
        assert customer is not None
        meter_id = customer.meter_id
        seen = None
        if meter_id is not None:
            seen = await desk_rooms.of_meter(tx, viewer.scope, now, meter_id)
        if seen is None or seen.meter is None:
            raise PageProblem(viewer, Problem("no-such-command", detail=payment_id))
        return PaymentView(
            transfer=transfer,
            meter=seen.meter,
            customer=customer.name,
            balance_fen=await accounts.available_fen(tx, customer.account_id),
            chain=await restore_chain(tx, uuid5(payment_id, "restore")),
            now=now,
        )
