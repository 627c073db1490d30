"""What wants somebody: alarms, differences, the dark who paid, guarded meters."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from headend.domain.alarms import AlarmKind, AlarmState, Severity
from headend.domain.problems import Problem
from headend.services import restore_clock
from headend.services.books import asker
from headend.services.reconcile import accept_meter
from headend.services.restore_clock import RestoreClock
from headend.services.services import Services
from headend.services.tending import may_own_some
from headend.store import alarms, desk_guards, people, reconcile
from headend.store.alarms import Alarm, AlarmFilter
from headend.store.desk_guards import Guard
from headend.store.reconcile import Difference
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Decider, Form, Viewer, Visitor, meter_for
from headend.web.told import said

router = APIRouter(include_in_schema=False)

E = TypeVar("E", bound=enum.Enum)

OLD: Final = timedelta(days=1)
ROWS: Final = 100  # alarms on one page
TONES: Final = {"notice": "plain", "warning": "warn", "urgent": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsView:
    """What was asked for, the oldest first; and what guards meters."""

    alarms: Sequence[Alarm]
    code: str
    severity: str
    state: str
    tenders: Sequence[str]
    next: str
    refused: str
    differences: Sequence[Difference]
    clocks: Sequence[RestoreClock]
    protections: Sequence[Guard]
    lock_outs: Sequence[Guard]
    form: Form = field(default_factory=Form)
    old: timedelta = OLD
    kinds: Sequence[AlarmKind] = tuple(AlarmKind)
    severities: Sequence[Severity] = tuple(Severity)
    states: Sequence[AlarmState] = tuple(AlarmState)
    tones: Mapping[str, str] = field(default_factory=lambda: TONES)


@router.get("/alarms")
async def shown(request: Request, services: Asked, viewer: Viewer) -> Response:
    """Raised once, cleared when the cause is gone."""
    return desk.show("alarms.html", viewer, services, await view_of(request, services, viewer))


@router.post("/alarms/accept")
async def accept(request: Request, services: Asked, decider: Decider) -> Response:
    """What the meter shows is right: its books begin anew there. No money moves by it."""
    form = desk.form_of(await request.form())
    meter = meter_for(services, decider, form.get("meter"))
    why = forms.reason(form, decider)
    second = await forms.second_person(request, services, decider, form)
    status = 422
    if not form.errors:
        async with services.database.transaction() as tx:
            approved = second.operator_id and await asker(tx, second.operator_id)
            refused = await accept_meter(
                tx,
                meter.known.meter_id,
                services.clock,
                asked_by=await asker(tx, decider.operator_id),
                approved_by=approved or None,
                reason=why,
            )
        if refused is None:
            return desk.go("/alarms")
        problem = Problem(refused.why.value, meter=meter.known.name, detail=refused.detail)
        form.wrong(
            "approver" if "person" in refused.why.value else "reason",
            said(problem, decider.language),
        )
        status = problem.kind.http_status
    view = await view_of(request, services, decider, form=form)
    return desk.show("alarms.html", decider, services, view, status=status)


async def view_of(
    request: Request,
    services: Services,
    viewer: Visitor,
    *,
    form: Form | None = None,
    refused: str = "",
) -> AlarmsView:
    """The page as its address asks for it."""
    asked = request.query_params
    kind = _of(AlarmKind, asked.get("code"))
    wanted = AlarmFilter(
        whose=viewer.scope,
        open_only=not asked.get("state"),
        state=_of(AlarmState, asked.get("state")),
        severity=_of(Severity, asked.get("severity")),
        code=kind and kind.value,
    )
    after = asked.get("after", "")[:18]
    now = services.clock.now()
    assert viewer.caller is not None
    mine = {
        number
        for number, meter in services.lines.by_id.items()
        if viewer.caller.may_touch_meter(meter.known)
    }
    async with services.database.transaction() as tx:
        found = await alarms.page(
            tx, wanted, after=int(after) if after.isdecimal() else 0, count=ROWS + 1
        )
        return AlarmsView(
            alarms=found[:ROWS],
            code=asked.get("code", ""),
            severity=asked.get("severity", ""),
            state=asked.get("state", ""),
            tenders=[
                one.name
                for one in await people.list_operators(tx)
                if may_own_some(one, viewer.scope)
            ],
            next=_next(asked, found),
            refused=refused,
            differences=[
                one for one in await reconcile.open_differences(tx) if one.meter_id in mine
            ],
            clocks=[
                one
                for one in await restore_clock.restore_clocks(tx, now)
                if one.chain.meter_id in mine
            ],
            protections=await desk_guards.protections(tx, viewer.scope, now),
            lock_outs=await desk_guards.lock_outs(tx, viewer.scope),
            form=form or Form(),
        )


def _of(kind: type[E], typed: str | None) -> E | None:
    """The member somebody chose; an address nobody made means no choice."""
    return next((member for member in kind if member.value == typed), None)


def _next(asked: Mapping[str, str], found: Sequence[Alarm]) -> str:
    """Where the next page is; "" at the end."""
    if len(found) <= ROWS:
        return ""
    return "/alarms?" + urlencode(dict(asked) | {"after": str(found[ROWS - 1].alarm_id)})
