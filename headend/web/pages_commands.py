"""The command centre: what was ordered, where it is, what proves it, what a person may decide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime

from headend.domain.commands import IN_FLIGHT, Accepted, Command, CommandKind, CommandState
from headend.domain.problems import Problem
from headend.services.decisions import Verdict
from headend.services.services import Services
from headend.store import attempts, command_events, commands, desk_days, people
from headend.store.attempts import Attempt
from headend.store.command_events import CommandEvent
from headend.store.desk_days import Order
from headend.web import desk, forms, texts
from headend.web.common import Asked
from headend.web.desk import Decider, Form, PageProblem, Taker, Viewer, Visitor
from headend.web.stages import Stage, stages
from headend.web.texts import N_
from headend.web.told import said
from protocols.exchange import Evidence
from protocols.explain import explain

router = APIRouter(include_in_schema=False)

PAGE: Final = 50
S = CommandState
SHOWS: Final[Mapping[str, tuple[str, frozenset[CommandState] | None]]] = {
    "all": (N_("All"), None),
    "open": (N_("On their way"), IN_FLIGHT | {S.QUEUED}),
    "doubt": (N_("Unknown"), frozenset({S.UNKNOWN, S.ESCALATED})),
    "refused": (N_("Not done"), frozenset({S.REFUSED, S.EXPIRED, S.CANCELLED})),
}
KINDS: Final = (CommandKind.TOP_UP, CommandKind.CUT, CommandKind.RESTORE, CommandKind.CONFIGURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """One page of orders, the newest first."""

    orders: Sequence[Order]
    show: str
    kind: CommandKind | None
    counts: Mapping[CommandState, int]
    older: str | None  # the instant the next page begins before
    shows: Sequence[tuple[str, str]] = tuple((name, text) for name, (text, _) in SHOWS.items())
    kinds: Sequence[CommandKind] = KINDS


@router.get("/commands")
async def listing(
    services: Asked,
    viewer: Viewer,
    show: str = "all",
    kind: str = "",
    before: AwareDatetime | None = None,
) -> Response:
    """All, those on their way, the unknown, or those that were not done."""
    show = show if show in SHOWS else "all"
    asked = next((one for one in KINDS if one.value == kind), None)
    async with services.database.transaction() as tx:
        orders = await desk_days.orders(
            tx,
            viewer.scope,
            states=SHOWS[show][1],
            kinds=None if asked is None else {asked},
            before=before,
            limit=PAGE + 1,
        )
        counts = await desk_days.open_by_state(tx, viewer.scope)
    view = ListView(
        orders=orders[:PAGE],
        show=show,
        kind=asked,
        counts=counts,
        older=orders[PAGE - 1].ordered_at.isoformat() if len(orders) > PAGE else None,
    )
    return desk.show("commands.html", viewer, services, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """One frame of a try: when, which way, its bytes, their meaning."""

    at: str
    out: bool
    hex: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TryView:
    """One try with both looks and what passed on the wire."""

    attempt: Attempt
    looks: Sequence[tuple[str, str, str]]  # what, before, after
    frames: Sequence[FrameView]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandView:
    """Everything about one order."""

    command: Command
    meter: str
    room: str | None
    ordered_by: str
    approved_by: str | None
    events: Sequence[CommandEvent]
    stages: Sequence[Stage]  # of a top-up
    tries: Sequence[TryView]
    may_cancel: bool
    may_decide: bool
    over: bool
    form: Form = field(default_factory=Form)


@router.get("/commands/{command_id}")
async def one(services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """Its states with instants, each try with both looks and the frames."""
    view = await _view(services, viewer, command_id)
    return desk.show("command.html", viewer, services, view)


@router.get("/commands/{command_id}/live")
async def live(request: Request, services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """The same as it goes on, until it has ended."""
    await _view(services, viewer, command_id)

    async def pieces() -> AsyncIterator[str | None]:
        async with desk.bell(request).watched() as watch:
            while True:
                view = await _view(services, viewer, command_id)
                yield desk.rendered("command_now.html", viewer, services, view)
                if view.over:
                    yield None
                    return
                await watch.wait()

    return desk.stream(pieces())


async def _view(
    services: Services, viewer: Visitor, command_id: UUID, form: Form | None = None
) -> CommandView:
    async with services.database.transaction() as tx:
        command = await commands.find(tx, command_id)
        meter = services.lines.by_id.get(command.meter_id) if command else None
        assert viewer.caller is not None
        if command is None or meter is None or not viewer.caller.may_touch_meter(meter.known):
            raise PageProblem(viewer, Problem("no-such-command", detail=command_id))
        events = await command_events.events_of(tx, command_id)
        tries = await attempts.of_command(tx, command_id)
        ordered_by = await people.operator(tx, command.ordered_by)
        approved_by = (
            None if command.approved_by is None else await people.operator(tx, command.approved_by)
        )
    assert ordered_by is not None
    say = desk.gettext(viewer)
    return CommandView(
        command=command,
        meter=meter.known.name,
        room=meter.known.room,
        ordered_by=ordered_by.name,
        approved_by=approved_by.name if approved_by else None,
        events=events,
        stages=stages(command, events, tries[-1].after if tries else None)
        if command.kind is CommandKind.TOP_UP
        else (),
        tries=[_try(one, say) for one in tries],
        may_cancel=command.state is S.QUEUED and command.kind is not CommandKind.BURN,
        may_decide=command.state is S.ESCALATED,
        over=command.state not in IN_FLIGHT | {S.QUEUED},
        form=form or Form(),
    )


def _try(attempt: Attempt, say: Any) -> TryView:
    names = (
        ("purchase_count", say("Purchase count"), str),
        ("total_purchased_fen", say("Total purchased, yuan"), texts.yuan),
        ("remaining_credit_fen", say("Credit, yuan"), texts.yuan),
        (
            "relay_closed_bits",
            say("Relay"),
            lambda bits: say("relay closed") if bits else say("relay open"),
        ),
        ("forced", say("Forced control"), lambda on: say("yes") if on else say("no")),
    )

    def shown(evidence: Evidence | None, name: str, how: Any) -> str:
        found = None if evidence is None else getattr(evidence, name)
        return "–" if found is None else str(how(found))

    return TryView(
        attempt=attempt,
        looks=[
            (text, shown(attempt.before, name, how), shown(attempt.after, name, how))
            for name, text, how in names
            if getattr(attempt.before, name) is not None
            or (attempt.after is not None and getattr(attempt.after, name) is not None)
        ],
        frames=_frames(attempt),
    )


def _frames(attempt: Attempt) -> list[FrameView]:
    found: list[FrameView] = []
    asked: bytes | None = None
    for frame in attempt.frames:
        out = "out" in frame
        text = str(frame.get("out" if out else "in", ""))
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = b""
        meaning = str(frame.get("label") or frame.get("refused") or "")
        if frame.get("silence"):
            meaning = str(frame["silence"])
        elif data and not meaning:
            meaning = explain(data, None if out else asked)
        asked = data if out else asked
        found.append(
            FrameView(
                at=str(frame.get("at", ""))[11:23], out=out, hex=data.hex(" "), meaning=meaning
            )
        )
    return found


@router.post("/commands/{command_id}/cancel")
async def cancel(request: Request, services: Asked, taker: Taker, command_id: UUID) -> Response:
    """Take back an order that still waits; its money returns once no copy can land."""
    form = desk.form_of(await request.form())
    await _view(services, taker, command_id)
    why = forms.reason(form, taker)
    second = await forms.second_person(request, services, taker, form)
    status = 422
    if not form.errors:
        async with services.database.transaction() as tx:
            outcome = await services.decisions.cancel(
                tx,
                command_id,
                operator_id=taker.operator_id,
                reason=why,
                approver_id=second.operator_id,
            )
        if isinstance(outcome, Accepted):
            return desk.go(f"/commands/{command_id}")
        status = _told(form, taker, outcome.why.value, outcome.detail)
    view = await _view(services, taker, command_id, form)
    return desk.show("command.html", taker, services, view, status=status)


@router.post("/commands/{command_id}/decide")
async def decide(request: Request, services: Asked, decider: Decider, command_id: UUID) -> Response:
    """End an escalated order by a person's word, after looking at the meter."""
    form = desk.form_of(await request.form())
    await _view(services, decider, command_id)
    why, said = forms.reason(form, decider), form.get("carried_out")
    if said not in ("yes", "no"):
        form.wrong("carried_out", desk.gettext(decider)("Say whether the meter did as ordered."))
    second = await forms.second_person(request, services, decider, form)
    status = 422
    if not form.errors:
        async with services.database.transaction() as tx:
            outcome = await services.decisions.decide(
                tx,
                Verdict(
                    command_id=command_id,
                    carried_out=said == "yes",
                    operator_id=decider.operator_id,
                    reason=why,
                    approver_id=second.operator_id,
                ),
            )
        if isinstance(outcome, Accepted):
            return desk.go(f"/commands/{command_id}")
        status = _told(form, decider, outcome.why.value, outcome.detail)
    view = await _view(services, decider, command_id, form)
    return desk.show("command.html", decider, services, view, status=status)


def _told(form: Form, visitor: Visitor, code: str, detail: str) -> int:
    problem = Problem(code, meter="", detail=detail)
    form.wrong("approver" if "person" in code else "reason", said(problem, visitor.language))
    return problem.kind.http_status
