"""Work around an account: opening, transfer, closure, meter exchange, each with its proof.

The idempotency key of what begins a case is its id: the same key again is the same case.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.cases import BY_ITSELF, Case, CaseKind, CaseWhy, Step, Stopped
from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.services import account_ending, account_opening, case_work, meter_exchange
from headend.services.account_ending import Confirmation, Credit
from headend.services.account_opening import Opening
from headend.services.case_work import Asked as Work
from headend.services.case_work import CannotLook, Untold
from headend.services.looks import MeterAtWork, Missed
from headend.services.meter_exchange import Device
from headend.services.services import Services
from headend.store import account_cases, customers
from headend.web.api_customers import PersonWish
from headend.web.api_orders import refusal
from headend.web.auth import (
    Approval,
    Configurer,
    IdempotencyKey,
    Seller,
    Taker,
    Viewer,
    meter_for,
    who_may_one_of,
)
from headend.web.common import Asked, Because
from headend.web.edits import AfterText, Limit, cursor, cut, instant_and_id
from protocols.catalog import load_meter_types
from protocols.meter_type import Addressing

router = APIRouter(prefix="/api/v1", tags=["accounts"])

MAY = {
    CaseKind.OPENING: Permission.SELL,
    CaseKind.TRANSFER: Permission.TAKE_BACK,
    CaseKind.CLOSURE: Permission.TAKE_BACK,
    CaseKind.EXCHANGE: Permission.CONFIGURE,
}
#: Whoever may do some of this work; which, is asked once the case is known.
Worker = Annotated[Caller, Depends(who_may_one_of(*dict.fromkeys(MAY.values())))]
FEN_MAX = 2**31


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OpeningWish(_Strict):
    """An account on a meter: for a customer who is there, or for a new one."""

    meter: str = Field(examples=["A-101"])
    customer_no: str = Field(
        default="",
        max_length=24,
        description="of who is there; of a new one: the number wished for, or none",
        examples=["10023"],
    )
    person: PersonWish | None = Field(default=None, description="null: the customer is there")
    amount_fen: int = Field(default=0, ge=0, description="the first credit", examples=[5000])
    open_meter: bool = Field(default=False, description="by the meter's own order")


class BeginWish(Because):
    """Why, and what a person says a dead meter held; then with X-Approver-Token."""

    dead_credit_fen: int | None = Field(
        default=None, ge=-FEN_MAX, le=FEN_MAX, description="null: look at the meter"
    )


class ConfirmWish(_Strict):
    """Settle as `plan` shows it: what changed meanwhile stops it."""

    credit_fen: int = Field(description="as shown in `plan`", examples=[1250])
    balance_fen: int = Field(description="as shown in `plan`", examples=[0])
    clear_meter: bool = Field(default=True, description="closure: by the meter's own order")
    credit: Literal["carried", "settled"] = Field(default="carried", description="transfer")
    customer_no: str = Field(default="", max_length=24, description="transfer: who comes")
    person: PersonWish | None = Field(default=None, description="transfer: who comes, when new")


class DeviceWish(_Strict):
    """What hangs there now."""

    meter_type: str = Field(examples=["acrel_ddsy1352"])
    unit: int | None = Field(default=None, ge=1, le=247, examples=[12])
    address: str | None = Field(default=None, max_length=24)
    meter_number: str | None = Field(default=None, pattern=r"^\d{12}$", examples=["000000000012"])


def case_record(case: Case, meter: str) -> dict[str, Any]:
    """A case for programs; `by_itself`: it waits for the meter, and nobody has to do anything."""
    return {
        "case_id": str(case.case_id),
        "kind": case.kind.value,
        "step": case.step.value,
        "by_itself": case.step in BY_ITSELF,
        "meter": meter,
        "holds_sales": case.holds_sales,
        "look": case.facts.get("look"),
        "note": case.note,
        "reason": case.reason,
        "began_at": case.began_at.isoformat(),
        "changed_at": case.changed_at.isoformat(),
    }


@router.post("/openings", summary="Open an account on a meter", status_code=201)
async def opening(
    services: Asked, seller: Seller, key: IdempotencyKey, wish: OpeningWish
) -> dict[str, Any]:
    """Booked and ordered in one step, or not at all. Follow it under /cases/{id}."""
    meter = meter_for(services, seller, wish.meter)
    if wish.person is None and not wish.customer_no:
        raise Problem("bad-request", detail="name a person, or the number of a customer")
    outcome = await account_opening.open_account(
        services,
        meter,
        Opening(
            asked=Work(case_id=key, operator_id=seller.operator.operator_id, reason="Opening"),
            customer_no=wish.customer_no,
            person=None if wish.person is None else wish.person.person(),
            amount_fen=wish.amount_fen,
            open_meter=wish.open_meter,
        ),
    )
    return _record(outcome, meter)


@router.post("/meters/{meter}/transfer", summary="Begin a transfer", status_code=201)
async def transfer(
    services: Asked,
    taker: Taker,
    approver: Approval,
    key: IdempotencyKey,
    meter: str,
    wish: BeginWish,
) -> dict[str, Any]:
    """Looks at the meter and holds its sales; then `plan` says what is settled. Confirm that."""
    at_work = meter_for(services, taker, meter)
    return await _begun(
        services, at_work, CaseKind.TRANSFER, _work(key, taker, approver, wish.reason), wish
    )


@router.post("/meters/{meter}/closure", summary="Begin a closure", status_code=201)
async def closure(
    services: Asked,
    taker: Taker,
    approver: Approval,
    key: IdempotencyKey,
    meter: str,
    wish: BeginWish,
) -> dict[str, Any]:
    """Looks at the meter and holds its sales; then `plan` says what is settled. Confirm that."""
    at_work = meter_for(services, taker, meter)
    return await _begun(
        services, at_work, CaseKind.CLOSURE, _work(key, taker, approver, wish.reason), wish
    )


@router.post("/meters/{meter}/exchange", summary="Begin a meter exchange", status_code=201)
async def exchange(
    services: Asked,
    configurer: Configurer,
    approver: Approval,
    key: IdempotencyKey,
    meter: str,
    wish: BeginWish,
) -> dict[str, Any]:
    """The last look at the old meter; then say under /cases/{id}/device what hangs there now."""
    at_work = meter_for(services, configurer, meter)
    return await _begun(
        services, at_work, CaseKind.EXCHANGE, _work(key, configurer, approver, wish.reason), wish
    )


async def _begun(
    services: Services, meter: MeterAtWork, kind: CaseKind, work: Work, wish: BeginWish
) -> dict[str, Any]:
    fen = wish.dead_credit_fen
    dead = None if fen is None else CannotLook(credit_fen=fen)
    return _record(await case_work.begin_looked(services, meter, kind, work, dead), meter)


@router.get("/cases", summary="Work around accounts, the newest first")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 100,
    ended: Annotated[bool, Query(description="ended ones too")] = False,
    meter: str | None = None,
    customer_no: Annotated[str | None, Query(max_length=24)] = None,
) -> list[dict[str, Any]]:
    """Openings, transfers, closures and exchanges of the meters the caller may see."""
    known = services.lines.by_id
    mine = {one for one, at_work in known.items() if viewer.may_touch_meter(at_work.known)}
    if meter is not None:
        mine = {meter_for(services, viewer, meter).known.meter_id}
    async with services.database.transaction() as tx:
        customer = None if customer_no is None else await customers.find(tx, customer_no)
        if customer_no is not None and customer is None:
            return []
        found = await account_cases.listing(
            tx,
            meter_ids=mine,
            customer_id=None if customer is None else customer.customer_id,
            open_only=not ended,
            before=instant_and_id(after),
            limit=limit + 1,
        )
    last = None
    if len(found) > limit:
        last = cursor(found[limit - 1].began_at, found[limit - 1].case_id)
    return [
        case_record(one, known[one.meter_id].known.name)
        for one in cut(request, response, found, last, limit)
    ]


@router.get("/cases/{case_id}", summary="One case: where it is, its plan and what proves it")
async def one(services: Asked, viewer: Viewer, case_id: UUID) -> dict[str, Any]:
    """`plan`, while a person has to confirm: what would be settled now, to be sent back as seen."""
    case, meter = await case_for(services, viewer, case_id)
    async with services.database.transaction() as tx:
        events = await account_cases.events(tx, case_id)
        photos = await account_cases.photos(tx, case_id)
        plan = await account_ending.plan_of(tx, case) if case.step is Step.CONFIRM else None
    return case_record(case, meter.known.name) | {
        "plan": None
        if plan is None
        else {
            "credit_fen": plan.credit_fen,
            "balance_fen": plan.balance_fen,
            "owed_fen": plan.owed_fen,
            "repaid_fen": plan.repaid_fen,
            "refund_fen": plan.refund_fen,
            "to_pay_fen": plan.to_pay_fen,
            "needs_second_person": plan.needs_second_person,
        },
        "events": [
            {"at": event.at.isoformat(), "step": event.step.value, "note": event.note}
            for event in events
        ],
        "photos": [
            {
                "number": photo.photo_id,
                "title": photo.title,
                "sha256": photo.sha256,
                "added_at": photo.added_at.isoformat(),
            }
            for photo in photos
        ],
    }


@router.post("/cases/{case_id}/look", summary="Look at the meter once more")
async def look(services: Asked, worker: Worker, case_id: UUID) -> dict[str, Any]:
    """Before anything is settled: a look older than half an hour settles nothing."""
    case, meter = await case_for(services, worker, case_id, to_work=True)
    return _record(await account_ending.look_again(services, meter, case), meter)


@router.post("/cases/{case_id}/confirm", summary="Settle as shown")
async def confirm(
    services: Asked, worker: Worker, approver: Approval, case_id: UUID, wish: ConfirmWish
) -> dict[str, Any]:
    """Close, or hand over to who comes. Once more is the same case."""
    case, meter = await case_for(services, worker, case_id, to_work=True)
    if case.kind is CaseKind.TRANSFER and wish.person is None and not wish.customer_no:
        raise Problem("bad-request", detail="name a person, or the number of a customer")
    outcome = await account_ending.confirm(
        services,
        meter,
        Confirmation(
            asked=_work(case_id, worker, approver, case.reason),
            credit_fen_shown=wish.credit_fen,
            balance_fen_shown=wish.balance_fen,
            clear_meter=wish.clear_meter,
            credit=Credit(wish.credit),
            customer_no=wish.customer_no,
            person=None if wish.person is None else wish.person.person(),
        ),
    )
    return _record(outcome, meter)


@router.post("/cases/{case_id}/device", summary="Say what hangs there now")
async def device(
    services: Asked, configurer: Configurer, case_id: UUID, wish: DeviceWish
) -> dict[str, Any]:
    """The new meter of an exchange: its type and its address, or its unit id, on the same line."""
    _, meter = await case_for(services, configurer, case_id, to_work=True)
    kind = load_meter_types().get(wish.meter_type)
    if kind is None:
        raise Problem("bad-request", detail=f"{wish.meter_type} is no meter type")
    by_unit = kind.addressing is Addressing.UNIT
    hung = Device(
        meter_type=kind.name,
        unit=wish.unit if by_unit else None,
        address=None if by_unit else wish.address,
        meter_number=wish.meter_number,
        energy_multiplier=meter.known.energy_multiplier,
    )
    wrong = meter_exchange.bad_place(kind, hung)
    if wrong:
        raise Problem("bad-request", detail=f"{wrong} does not fit a meter of this type")
    return _record(await meter_exchange.hang(services, meter, case_id, hung), meter)


@router.post("/cases/{case_id}/cancel", summary="Leave everything as it was")
async def cancel(
    services: Asked, worker: Worker, case_id: UUID, because: Because
) -> dict[str, Any]:
    """While nothing is settled yet: sales go on."""
    _, meter = await case_for(services, worker, case_id, to_work=True)
    return _record(await account_ending.cancel(services, case_id, because.reason), meter)


def _work(case_id: UUID, caller: Caller, approver: Caller | None, reason: str) -> Work:
    return Work(
        case_id=case_id,
        operator_id=caller.operator.operator_id,
        reason=reason,
        approver_id=None if approver is None else approver.operator.operator_id,
    )


async def case_for(
    services: Services, caller: Caller, case_id: UUID, *, to_work: bool = False
) -> tuple[Case, MeterAtWork]:
    """A case inside the caller's scope, whose work they may do where they want to."""
    async with services.database.transaction() as tx:
        case = await account_cases.find(tx, case_id)
    meter = None if case is None else services.lines.by_id.get(case.meter_id)
    if case is None or meter is None or not caller.may_touch_meter(meter.known):
        raise Problem("no-such-case", detail=case_id)
    if to_work and not caller.may(MAY[case.kind]):
        raise Problem(
            "not-allowed",
            operator=caller.operator.name,
            role=caller.operator.role.value,
            action=MAY[case.kind].value,
        )
    return case, meter


def _record(outcome: Case | Missed | Untold, meter: MeterAtWork) -> dict[str, Any]:
    name = meter.known.name
    if isinstance(outcome, Case):
        return case_record(outcome, name)
    if isinstance(outcome, Missed):
        raise Problem("meter-not-read", meter=name, detail=outcome.detail)
    if isinstance(outcome, Stopped) and outcome.why is CaseWhy.NO_SUCH_CASE:
        raise Problem("no-such-case", detail=outcome.detail)
    raise refusal(outcome, name)
