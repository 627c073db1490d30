"""The card desk in a browser: cards that are out, one meter's card, work at the reader, a receipt.

The reader is served by `headend card desk` on the same machine (services/card_work.py). The id of a
piece of work is in the address of its form, so that a reload or a double click begins it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import TWO_PERSONS
from headend.domain.commands import Rejected
from headend.domain.problems import Problem
from headend.domain.purchases import Sale
from headend.services.card_counter import AtDesk, CardCounter
from headend.services.card_work import CardWork
from headend.services.services import Services
from headend.store import accounts, cards, desk_cards, sales
from headend.store.cards import Card
from headend.store.desk_cards import CardSteps
from headend.web import api_cards, desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Reader, Seller, Taker, Viewer, Visitor, meter_for
from headend.web.texts import N_
from headend.web.told import said
from protocols.card_image import CardKind, CardReason

router = APIRouter(include_in_schema=False)

#: what may be done with the card on the reader, in the order in which it is offered
ACTIONS: Final = {
    "read": N_("Read the card"),
    "opening": N_("Open an account and sell"),
    "purchase": N_("Sell and write"),
    "finish": N_("Go on writing"),
    "replacement": N_("Lost or broken: another card"),
    "take_back": N_("Give the money back, unused"),
    "clear_card": N_("Empty the card"),
    "make_up": N_("Credit of the old meter"),
    "parameter": N_("Parameter card"),
    "preset": N_("Preset card"),
    "clear": N_("Clear card"),
    "check": N_("Check card"),
}
PAPERS: Final = {
    "move": N_("Send the same over the line"),
    "lost": N_("Report the card lost"),
    "burn": N_("Use up its number, free the money"),
}
#: every kind and state of a card, as people say it
KINDS: Final = {
    "OPENING": N_("opening"),
    "PURCHASE": N_("purchase"),
    "REPLACEMENT": N_("replacement"),
    "MAKE_UP": N_("make-up"),
    "REFUND": N_("refund card"),
    "PARAMETER": N_("parameters"),
    "PRESET": N_("preset"),
    "CLEAR": N_("clear"),
    "CHECK": N_("check"),
}
STATES: Final = {
    "PENDING": N_("being written"),
    "ISSUED": N_("handed out"),
    "CLEARING": N_("being wiped"),
    "WIPED": N_("wiped"),
    "USED": N_("used"),
    "LOST": N_("lost"),
    "REVOKED": N_("revoked"),
}
assert set(KINDS) == set(CardKind.__members__)
assert set(STATES) == set(IssueState.__members__)
_WITH_AMOUNT: Final = frozenset({"opening", "purchase", "make_up", "preset"})
_WITH_REASON: Final = frozenset(ACTIONS) - {"read", "opening", "purchase", "finish", "clear_card"}
_BESIDE_APPROVER: Final = frozenset({"second-person-needed", "same-person"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutView:
    """Cards that are out, longest first, with their meters' names."""

    kinds: ClassVar = KINDS
    states: ClassVar = STATES

    out: Sequence[tuple[CardIssue, str]]
    has_desk: bool
    on: bool


@router.get("/cards")
async def out(services: Asked, viewer: Viewer, meter: str = "") -> Response:
    """Whoever holds one of these may still use it. A meter by its name goes to its card."""
    if meter.strip():
        meter_for(services, viewer, meter.strip())
        return desk.go(f"/cards/of/{quote(meter.strip(), safe='')}")
    async with services.database.transaction() as tx:
        found = await cards.out(tx)
    shown = []
    assert viewer.caller is not None
    for issue in found:
        known = None if issue.meter_id is None else services.lines.by_id.get(issue.meter_id)
        if known is not None and viewer.caller.may_touch(known.known.site_id):
            shown.append((issue, known.known.name))
        elif issue.meter_id is None and viewer.sites is None:
            shown.append((issue, ""))
    counter = services.cards
    asks = counter is not None and counter.works.has_desk(viewer.operator_id)
    view = OutView(out=shown, has_desk=asks, on=counter is not None)
    return desk.show("cards.html", viewer, services, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterCardView:
    """One meter's card, its sale and what may be done."""

    kinds: ClassVar = KINDS
    states: ClassVar = STATES

    meter: str
    work_id: UUID
    customer: str
    waiting_fen: int
    card: Card | None
    carried: CardIssue | None
    open_sale: Sale | None
    issues: Sequence[CardIssue]
    has_desk: bool
    actions: dict[str, str]
    papers: dict[str, str]
    form: Form = field(default_factory=Form)


@router.get("/cards/of/{meter}")
async def of_meter(services: Asked, viewer: Viewer, meter: str) -> Response:
    """What the books say of this meter's card, and the work that can be begun."""
    view = await _meter_view(services, viewer, meter, uuid4(), Form())
    return desk.show("card_meter.html", viewer, services, view)


@router.post("/cards/of/{meter}/work/{work_id}")
async def begin(
    request: Request, services: Asked, reader: Reader, meter: str, work_id: UUID
) -> Response:
    """Begin a piece of work at this person's reader, once for this id."""
    known = meter_for(services, reader, meter).known
    counter = _counter(services, reader)
    if counter.works.find(reader.operator_id, work_id) is not None:
        return desk.go(f"/cards/work/{work_id}")
    form = desk.form_of(await request.form())
    wish = _wish_of(reader, meter, form)
    second = await forms.second_person(request, services, reader, form)
    if wish is not None and second.operator_id is None and _needs_two(wish.action):
        problem = Problem("second-person-needed", meter=meter, detail=wish.action)
        form.wrong("approver", said(problem, reader.language))
    if not form.errors and not counter.works.has_desk(reader.operator_id):
        say = desk.gettext(reader)
        form.wrong("form", say("No reader of yours is there: start `headend card desk` first."))
    if form.errors or wish is None:
        view = await _meter_view(services, reader, meter, work_id, form)
        return desk.show("card_meter.html", reader, services, view, status=422)
    at = AtDesk(
        operator_id=reader.operator_id,
        approver_id=second.operator_id,
        meter_id=known.meter_id,
        meter=meter,
        meter_type=known.meter_type,
    )
    try:
        await counter.works.begin(
            reader.operator_id,
            work_id,
            action=wish.action,
            meter=meter,
            work=api_cards.work_of(counter, at, wish, work_id),
        )
    except Problem as problem:
        raise PageProblem(reader, problem) from problem
    return desk.go(f"/cards/work/{work_id}")


def _wish_of(visitor: Visitor, meter: str, form: Form) -> api_cards.Wish | None:
    """What was asked for; errors are beside their fields."""
    action, say = form.get("action"), desk.gettext(visitor)
    if action not in ACTIONS:
        form.wrong("action", say("Choose what is to be done."))
        return None
    right = api_cards.right_for(action)
    if not visitor.may(right):
        form.wrong("action", say("Your role may not do this."))
        return None
    amount = forms.amount_fen(form, visitor) if action in _WITH_AMOUNT else 0
    reason = forms.reason(form, visitor) if action in _WITH_REASON else form.get("reason")
    days = form.get("days") or "1"
    if not (days.isdecimal() and 1 <= int(days) <= 31):
        form.wrong("days", say("From 1 to 31 days."))
    alarms = [0, 0]
    if action == "parameter":
        alarms = [forms.cash_fen(form, visitor, f"alarm_{n}") or 0 for n in (1, 2)]
    if form.errors or amount is None:
        return None
    return api_cards.Wish.model_validate(
        {
            "action": action,
            "meter": meter,
            "amount_fen": amount,
            "alarm_1_fen": alarms[0],
            "alarm_2_fen": alarms[1],
            "days": int(days),
            "from_balance": bool(form.get("from_balance")),
            "new_card": action in ("opening", "purchase"),
            "reason": reason,
        }
    )


def _needs_two(action: str) -> bool:
    return CardKind.__members__.get(action.upper()) in TWO_PERSONS


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkView:
    """A piece of work and how far it is."""

    work: CardWork
    title: str
    sentence: str  # what went wrong, "" while nothing did
    refused: str  # why the books do not take the card that was read; "": they do
    meter_says: CardReason | None  # what the meter wrote on it when it was last held there
    amount_fen: int | None
    issue_id: UUID | str | None


@router.get("/cards/work/{work_id}")
async def work(services: Asked, reader: Reader, work_id: UUID) -> Response:
    """Put the card on the reader, wait, take it off."""
    view = await _work_view(services, reader, work_id)
    return desk.show("card_work.html", reader, services, view)


@router.get("/cards/work/{work_id}/now")
async def work_now(services: Asked, reader: Reader, work_id: UUID) -> Response:
    """The piece of the page that changes."""
    view = await _work_view(services, reader, work_id)
    return desk.show("card_work_now.html", reader, services, view)


async def _work_view(services: Services, visitor: Visitor, work_id: UUID) -> WorkView:
    counter = services.cards
    found = None if counter is None else counter.works.find(visitor.operator_id, work_id)
    if found is None:
        raise PageProblem(visitor, Problem("no-card-session"))
    done = found.done or {}
    issue_id = (done if "issue_id" in done else done.get("issue") or {}).get("issue_id")
    if issue_id is None and (sale_id := done.get("landed_sale_id")):
        async with services.database.transaction() as tx:
            issue_id = (await cards.of_sale(tx, UUID(sale_id)))[-1].issue_id
    no, back = done.get("refused"), done.get("meter")
    return WorkView(
        work=found,
        title=ACTIONS[found.action],
        sentence="" if found.problem is None else said(found.problem, visitor.language),
        refused=""
        if no is None
        else said(Problem(no, detail=done["refused_detail"]), visitor.language),
        meter_says=None if back is None else CardReason[back["reason"].upper()],
        amount_fen=done.get("amount_fen"),
        issue_id=issue_id,
    )


@router.post("/cards/of/{meter}/paper")
async def paper(request: Request, services: Asked, seller: Seller, meter: str) -> Response:
    """Report a loss, or send the same over the line."""
    return await _on_paper(request, services, seller, meter, ("move", "lost"))


@router.post("/cards/of/{meter}/burn")
async def burn(request: Request, services: Asked, taker: Taker, meter: str) -> Response:
    """Its count goes to the meter with amount 0; then its money is free."""
    return await _on_paper(request, services, taker, meter, ("burn",))


async def _on_paper(
    request: Request, services: Services, visitor: Visitor, meter: str, allowed: Sequence[str]
) -> Response:
    number = meter_for(services, visitor, meter).known.meter_id
    counter = _counter(services, visitor)
    form, say = desk.form_of(await request.form()), desk.gettext(visitor)
    what, reason = form.get("what"), forms.reason(form, visitor, "paper_reason")
    if what not in allowed:
        form.wrong("what", say("Choose what is to be done."))
    second = await forms.second_person(request, services, visitor, form)
    if not form.errors:
        by, returns = visitor.operator_id, counter.returns
        async with services.database.transaction() as tx:
            if what == "lost":
                told: object = await returns.report_loss(tx, number, reason=reason)
            elif what == "move":
                told = await returns.move_to_remote(tx, number, operator_id=by, reason=reason)
            else:
                told = await returns.burn(
                    tx, number, operator_id=by, reason=reason, approver_id=second.operator_id
                )
        if not isinstance(told, Rejected):
            return desk.go(f"/cards/of/{quote(meter, safe='')}")
        problem = Problem(told.why.value, meter=meter, detail=told.detail)
        beside = "approver" if told.why.value in _BESIDE_APPROVER else "what"
        form.wrong(beside, said(problem, visitor.language))
    view = await _meter_view(services, visitor, meter, uuid4(), form)
    return desk.show("card_meter.html", visitor, services, view, status=422)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueView:
    """A card that was issued: its four stages, and a receipt to print."""

    kinds: ClassVar = KINDS
    states: ClassVar = STATES

    issue: CardIssue
    steps: CardSteps
    meter: str
    customer: str


@router.get("/cards/issue/{issue_id}")
async def issue_page(services: Asked, viewer: Viewer, issue_id: UUID) -> Response:
    """Paid, on the card, in meter, light on."""
    assert viewer.caller is not None
    async with services.database.transaction() as tx:
        issue = await cards.find(tx, issue_id)
        known = None
        if issue is not None and issue.meter_id is not None:
            known = services.lines.by_id.get(issue.meter_id)
        if issue is None or known is None or not viewer.caller.may_touch(known.known.site_id):
            raise PageProblem(viewer, Problem("no-such-page"))
        steps = await desk_cards.steps_of(tx, issue)
        customer = await accounts.customer_of_meter(tx, known.known.meter_id, issue.begun_at)
    view = IssueView(issue=issue, steps=steps, meter=known.known.name, customer=customer.name)
    return desk.show("card_issue.html", viewer, services, view)


async def _meter_view(
    services: Services, visitor: Visitor, meter: str, work_id: UUID, form: Form
) -> MeterCardView:
    known, now = meter_for(services, visitor, meter).known, services.clock.now()
    number, counter = known.meter_id, _counter(services, visitor)
    actions = {a: t for a, t in ACTIONS.items() if visitor.may(api_cards.right_for(a))}
    if not counter.takes_back(known.meter_type):
        actions.pop("take_back", None)
    async with services.database.transaction() as tx:
        customer = await accounts.customer_of_meter(tx, number, now)
        card = await cards.card_of_meter(tx, number)
        return MeterCardView(
            meter=meter,
            work_id=work_id,
            customer=customer.name,
            waiting_fen=await accounts.available_fen(tx, customer.account_id),
            card=card,
            carried=None if card is None else await desk_cards.carried(tx, card.serial),
            open_sale=await sales.open_of_meter(tx, number),
            issues=await desk_cards.issues_of_meter(tx, number),
            has_desk=counter.works.has_desk(visitor.operator_id),
            actions=actions,
            papers=PAPERS,
            form=form,
        )


def _counter(services: Services, visitor: Visitor) -> CardCounter:
    if services.cards is None:
        raise PageProblem(visitor, Problem("cards-off"))
    return services.cards
