"""The receipt of a sale: a page to print, and a PDF; as often as wanted, always the same."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from fastapi import APIRouter, Response
from reportlab.lib.pagesizes import A5
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfgen.canvas import Canvas

from headend.domain.commands import CommandKind, CommandState
from headend.domain.problems import Problem
from headend.services.services import Services
from headend.store import accounts, commands, desk_rooms, ledger, people
from headend.web import desk, texts, words
from headend.web.common import Asked
from headend.web.desk import PageProblem, Viewer, Visitor

router = APIRouter(include_in_schema=False)

# One of the fonts every PDF reader brings for Chinese: nothing has to be embedded or licensed.
_FONT: Final = "STSong-Light"
_MARGIN: Final = 40
_LINE: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptView:
    """What was paid, by whom, for which meter. `number`: the payment's place in the books."""

    command_id: UUID
    number: str
    paid_at: datetime
    site: str
    room: str | None
    meter: str
    customer: str
    amount_fen: int  # what was paid; from balance: what went into the meter
    fee_fen: int
    repaid_fen: int
    from_balance: bool
    purchase_count: int
    state: CommandState
    cashier: str
    rows: Sequence[tuple[str, str]] = ()


@router.get("/receipts/{command_id}")
async def page(services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """The receipt on a page that prints well."""
    return desk.show("receipt.html", viewer, services, await _view(services, viewer, command_id))


@router.get("/receipts/{command_id}/pdf")
async def pdf(services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """The same as a file."""
    view = await _view(services, viewer, command_id)
    say = desk.gettext(viewer)
    drawn = await asyncio.to_thread(
        _drawn, say("Receipt for electricity"), view, say("This is no tax invoice.")
    )
    return Response(
        drawn,
        media_type="application/pdf",
        headers={
            **desk.HEADERS,
            "content-disposition": f'inline; filename="receipt-{view.number}.pdf"',
        },
    )


async def _view(services: Services, viewer: Visitor, command_id: UUID) -> ReceiptView:
    async with services.database.transaction() as tx:
        command = await commands.find(tx, command_id)
        if command is None or command.kind is not CommandKind.TOP_UP:
            raise PageProblem(viewer, Problem("no-such-command", detail=command_id))
        seen = await desk_rooms.of_meter(tx, viewer.scope, services.clock.now(), command.meter_id)
        if seen is None or seen.meter is None:
            raise PageProblem(viewer, Problem("no-such-command", detail=command_id))
        customer = await accounts.customer_of_meter(tx, command.meter_id, command.ordered_at)
        payment = await ledger.transfer(tx, uuid5(command_id, "payment"))
        fee_fen, repaid_fen = (0, 0)
        if command.sale_id is not None:
            fee_fen, repaid_fen = await ledger.beside_sale_fen(tx, command.sale_id)
        cashier = await people.operator(tx, command.ordered_by)
        number = await desk_rooms.entry_no(
            tx, uuid5(command_id, "payment" if payment is not None else "pending")
        )
    assert command.amount_fen is not None
    assert command.purchase_count is not None
    assert cashier is not None
    view = ReceiptView(
        command_id=command_id,
        number=f"{command.ordered_at:%Y%m%d}-{number:08}",
        paid_at=command.ordered_at,
        site=seen.site,
        room=seen.room,
        meter=seen.meter,
        customer=customer.name,
        amount_fen=command.amount_fen + fee_fen + repaid_fen,
        fee_fen=fee_fen,
        repaid_fen=repaid_fen,
        from_balance=payment is None,
        purchase_count=command.purchase_count,
        state=command.state,
        cashier=cashier.name,
    )
    return _with_rows(services, viewer, view)


def _with_rows(services: Services, viewer: Visitor, view: ReceiptView) -> ReceiptView:
    say = desk.gettext(viewer)
    paid_at = texts.local(view.paid_at, desk.zone_of(services))
    source = say("the customer's balance") if view.from_balance else say("taken at the counter")
    rows = (
        (say("Receipt no."), view.number),
        (say("Date"), paid_at),
        (say("Property"), view.site),
        (say("Room"), view.room or "–"),
        (say("Customer"), view.customer),
        (say("Meter"), view.meter),
        (say("Purchase count"), str(view.purchase_count)),
        (say("Money"), source),
        (say("Service fee"), texts.yuan(view.fee_fen)),
        *([(say("Debt share"), texts.yuan(view.repaid_fen))] if view.repaid_fen else []),
        (say("Goes into the meter"), texts.yuan(view.amount_fen - view.fee_fen - view.repaid_fen)),
        (say("State when printed"), words.said(view.state, viewer.language)),
        (say("Cashier"), view.cashier),
    )
    return ReceiptView(
        **{name: getattr(view, name) for name in view.__dataclass_fields__ if name != "rows"},
        rows=rows,
    )


def _drawn(title: str, view: ReceiptView, foot: str) -> bytes:
    registerFont(UnicodeCIDFont(_FONT))
    file = io.BytesIO()
    width, height = A5
    # Without the hour of printing in it, so that a reprint is the same file.
    canvas = Canvas(file, pagesize=A5, invariant=1)
    canvas.setTitle(f"{title} {view.number}")
    y = height - _MARGIN - 10
    canvas.setFont(_FONT, 17)
    canvas.drawString(_MARGIN, y, title)
    y -= 18
    canvas.line(_MARGIN, y, width - _MARGIN, y)
    y -= _LINE
    canvas.setFont(_FONT, 11)
    for name, value in view.rows:
        canvas.drawString(_MARGIN, y, name)
        canvas.drawRightString(width - _MARGIN, y, value)
        y -= _LINE
    canvas.line(_MARGIN, y + 10, width - _MARGIN, y + 10)
    y -= 14
    canvas.setFont(_FONT, 18)
    canvas.drawRightString(width - _MARGIN, y, f"¥ {texts.yuan(view.amount_fen)}")
    canvas.setFont(_FONT, 9)
    canvas.drawString(_MARGIN, _MARGIN, foot)
    canvas.drawRightString(width - _MARGIN, _MARGIN, str(view.command_id))
    canvas.save()
    return file.getvalue()
