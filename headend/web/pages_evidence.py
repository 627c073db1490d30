"""Evidence packs at the desk: made for one meter's account, and which were made before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.services.evidence import USUAL, EvidenceDesk, Pack
from headend.services.services import Services
from headend.store import evidence
from headend.store.evidence import MadePack
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Auditor, Form, Visitor, meter_for

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceView:
    """The form, the key's fingerprint, the packs so far."""

    meter: str
    room: str | None
    first: date
    last: date
    fingerprint: str
    packs: Sequence[MadePack]
    form: Form = field(default_factory=Form)


def evidence_desk(services: Services) -> EvidenceDesk:
    """Where packs are made. Raises Problem where this program makes none."""
    if services.evidence is None:
        raise Problem("no-such-page")
    return services.evidence


@router.get("/meters/{meter}/evidence")
async def page(
    services: Asked,
    auditor: Auditor,
    meter: str,
    first: date | None = None,
    last: date | None = None,
) -> Response:
    """What the pack would be about."""
    view = await _view(services, auditor, meter, first, last)
    return desk.show("evidence.html", auditor, services, view)


async def _view(
    services: Services,
    auditor: Visitor,
    name: str,
    first: date | None,
    last: date | None,
    *,
    form: Form | None = None,
) -> EvidenceView:
    known = meter_for(services, auditor, name).known
    today = services.clock.now().astimezone(desk.zone_of(services)).date()
    async with services.database.transaction() as tx:
        packs = await evidence.packs_of(tx, known.meter_id)
    last = last or today
    return EvidenceView(
        meter=known.name,
        room=known.room,
        first=first or last - USUAL,
        last=last,
        fingerprint=evidence_desk(services).fingerprint(),
        packs=packs,
        form=form or Form(),
    )


@router.post("/meters/{meter}/evidence")
async def make(request: Request, services: Asked, auditor: Auditor, meter: str) -> Response:
    """The pack as a file; that it was made is kept."""
    known = meter_for(services, auditor, meter).known
    form = desk.form_of(await request.form())
    first, last = _day(form, auditor, "first"), _day(form, auditor, "last")
    if first is not None and last is not None and first > last:
        form.wrong("last", desk.gettext(auditor)("The last day comes before the first."))
    if form.errors or first is None or last is None:
        view = await _view(services, auditor, meter, first, last, form=form)
        return desk.show("evidence.html", auditor, services, view, status=422)
    zone = known.time_zone
    pack = await evidence_desk(services).make(
        known.meter_id,
        known.name,
        since=datetime.combine(first, time(), tzinfo=zone),
        until=datetime.combine(last + timedelta(days=1), time(), tzinfo=zone),
        made_by=auditor.operator_id,
    )
    return as_file(pack)


def as_file(pack: Pack) -> Response:
    """A pack as a browser or a program keeps it."""
    return Response(
        pack.data,
        media_type="application/zip",
        headers={
            **desk.HEADERS,
            "content-disposition": f"attachment; filename*=UTF-8''{quote(pack.name, safe='')}",
        },
    )


def _day(form: Form, visitor: Visitor, name: str) -> date | None:
    try:
        return date.fromisoformat(form.get(name))
    except ValueError:
        form.wrong(name, desk.gettext(visitor)("A day, for instance 2026-03-20."))
        return None
