"""Recharge terminals in a browser: who is on-line, the last taps, caps, and clashes that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response

from headend.domain.commands import CommandState
from headend.domain.places import Gateway
from headend.domain.problems import Problem
from headend.services.services import Services
from headend.services.terminal_caps import CapWish
from headend.services.terminal_facts import (
    TerminalDetails,
    TerminalFacts,
    terminal_details,
    terminal_facts,
    terminal_place,
)
from headend.services.terminals import Terminals
from headend.store import terminals
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Decider, Form, PageProblem, Viewer, Visitor
from headend.web.texts import N_
from headend.web.told import said

router = APIRouter(include_in_schema=False)

#: what became of a record of a terminal's own log, as people say it
RECORDS: Final = {
    "landed": N_("booked"),
    "known": N_("was booked already"),
    "waiting": N_("waits for a look at the meter"),
    "clash": N_("does not fit"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalsView:
    """Every terminal of the visitor's sites."""

    terminals: Sequence[TerminalFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """One terminal; the sentence of each clash by its number."""

    records: ClassVar = RECORDS
    states: ClassVar = {state.value: state for state in CommandState}

    found: TerminalDetails
    sentences: dict[int, str]
    form: Form = field(default_factory=Form)


@router.get("/terminals")
async def listing(services: Asked, viewer: Viewer) -> Response:
    """State, last seen, last tap, cap, clashes, false cards."""
    assert viewer.caller is not None
    view = TerminalsView(terminals=await terminal_facts(services, viewer.caller))
    return desk.show("terminals.html", viewer, services, view)


@router.get("/terminals/{terminal}")
async def one(services: Asked, viewer: Viewer, terminal: str) -> Response:
    """Its taps, its caps, the end of its log, what does not fit."""
    return await _shown(services, viewer, terminal, Form())


async def _shown(
    services: Services, viewer: Visitor, terminal: str, form: Form, status: int = 200
) -> Response:
    assert viewer.caller is not None
    try:
        found = await terminal_details(services, viewer.caller, terminal)
    except Problem as problem:
        raise PageProblem(viewer, problem) from problem
    sentences = {one.clash_id: said(Problem(one.code), viewer.language) for one in found.clashes}
    view = TerminalView(found=found, sentences=sentences, form=form)
    return desk.show("terminal.html", viewer, services, view, status=status)


@router.post("/terminals/{terminal}/cap")
async def issue_cap(request: Request, services: Asked, decider: Decider, terminal: str) -> Response:
    """What it may sell alone until the end of the day; takes two persons."""
    place, time_zone = _place(services, decider, terminal)
    form = desk.form_of(await request.form())
    card_fen = forms.amount_fen(form, decider, "card_amount")
    total_fen = forms.amount_fen(form, decider, "total_amount")
    why = forms.reason(form, decider, "cap_reason")
    second = await forms.second_person(request, services, decider, form)
    if "approver" not in form.errors and second.operator is None:
        problem = Problem("second-person-needed", meter=terminal, detail="")
        form.wrong("approver", said(problem, decider.language))
    elif second.operator is not None and second.operator.person == _person(decider):
        problem = Problem("same-person", meter=terminal, detail="")
        form.wrong("approver", said(problem, decider.language))
    if form.errors or card_fen is None or total_fen is None or second.operator_id is None:
        return await _shown(services, decider, terminal, form, 422)
    service = _service(services)
    try:
        await service.caps.issue(
            CapWish(
                terminal=place.registration or "",
                time_zone=time_zone,
                card_fen=card_fen,
                total_fen=total_fen,
                operator_id=decider.operator_id,
                approver_id=second.operator_id,
                reason=why,
            )
        )
    except Problem as problem:
        form.wrong("card_amount", said(problem, decider.language))
        return await _shown(services, decider, terminal, form, problem.kind.http_status)
    await service.send_cap(place.name)
    return desk.go(f"/terminals/{quote(terminal, safe='')}")


@router.post("/terminals/{terminal}/clashes/{clash_id}")
async def settle(
    request: Request, services: Asked, decider: Decider, terminal: str, clash_id: int
) -> Response:
    """What a person found out: booked where the meter proves it, or put aside."""
    place, _ = _place(services, decider, terminal)
    form = desk.form_of(await request.form())
    beside = f"settle_reason_{clash_id}"
    why = forms.reason(form, decider, beside)
    async with services.database.transaction() as tx:
        found = await terminals.clash(tx, clash_id)
    if found is None or found.terminal != place.registration:
        raise PageProblem(decider, Problem("no-such-clash", clash=clash_id))
    if form.errors:
        return await _shown(services, decider, terminal, form, 422)
    try:
        await _service(services).merge.settle(
            clash_id, book=form.get("how") == "book", reason=why, by=decider.operator_id
        )
    except Problem as problem:
        form.wrong(beside, said(problem, decider.language))
        return await _shown(services, decider, terminal, form, problem.kind.http_status)
    return desk.go(f"/terminals/{quote(terminal, safe='')}")


def _place(services: Services, visitor: Visitor, terminal: str) -> tuple[Gateway, ZoneInfo]:
    assert visitor.caller is not None
    try:
        return terminal_place(services, visitor.caller, terminal)
    except Problem as problem:
        raise PageProblem(visitor, problem) from problem


def _person(visitor: Visitor) -> str:
    assert visitor.caller is not None
    return visitor.caller.operator.person


def _service(services: Services) -> Terminals:
    assert services.terminals is not None, "made at the start of every head-end"
    return services.terminals
