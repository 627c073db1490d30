"""Debts of a customer, and the rules of a property: fees, and what a meter may hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.books import NotBooked
from headend.domain.customers import Customer
from headend.domain.deductions import SHARE_PERMILLE_MAX
from headend.domain.ledger import AMOUNT_FEN_MAX
from headend.domain.money import yuan
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services import debts as service
from headend.services.books import Wish
from headend.services.debts import NewDebt
from headend.services.services import Services
from headend.store import account_rules, customers, debts, desk_accounts, desk_sessions
from headend.store.account_rules import Rules
from headend.store.database import Transaction
from headend.store.debts import Debt
from headend.web.api_customers import CustomerNo, customer_for, debt_record
from headend.web.api_orders import refusal
from headend.web.auth import Approval, Decider, IdempotencyKey, Seller, Viewer
from headend.web.common import Asked, Because, Reason
from headend.web.edits import SeenVersion, fingerprint, same, tag
from protocols.settings import AlarmAmounts, BadSetting, OpenAccount, Prices, to_record

router = APIRouter(prefix="/api/v1", tags=["accounts"])

FEE_FEN_MAX = 100_000  # as the desk: more than this was typed in the wrong unit
Share = Annotated[int, Field(ge=0, le=SHARE_PERMILLE_MAX, examples=[200])]


class DebtWish(BaseModel):
    """What a customer owes, and the share of each payment that pays it back."""

    model_config = ConfigDict(extra="forbid", strict=True)
    amount_fen: int = Field(examples=[30000])
    share_permille: Share
    reason: Reason = Field(examples=["used behind the meter, March to May"])


class Repayment(BaseModel):
    """Money over the counter for one debt alone."""

    model_config = ConfigDict(extra="forbid", strict=True)
    amount_fen: int = Field(examples=[5000])


class ShareWish(BaseModel):
    """Another share of each payment from now on."""

    model_config = ConfigDict(extra="forbid", strict=True)
    share_permille: Share


class OpeningSettings(BaseModel):
    """What is written into a meter whose account is opened; fen a kWh, and fen."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sharp_fen: int = Field(examples=[90])
    peak_fen: int = Field(examples=[80])
    flat_fen: int = Field(examples=[60])
    valley_fen: int = Field(examples=[40])
    alarm_1_fen: int = Field(examples=[2000])
    alarm_2_fen: int = Field(examples=[500])
    overdraft_fen: int = Field(examples=[0])


class RulesWish(BaseModel):
    """What a property takes, allows in a meter, and writes into one that is opened."""

    model_config = ConfigDict(extra="forbid", strict=True)
    opening_fee_fen: int = Field(default=0, ge=0, le=FEE_FEN_MAX, examples=[1000])
    sale_fee_fen: int = Field(default=0, ge=0, le=FEE_FEN_MAX, examples=[100])
    hoarding_limit_fen: int | None = Field(
        default=None, ge=1, le=AMOUNT_FEN_MAX, description="null: none", examples=[100000]
    )
    opening: OpeningSettings | None = Field(
        default=None, description="null: a meter's own account is opened as it is"
    )


@router.post("/customers/{customer_no}/debts", summary="Book a debt", status_code=201)
async def book(
    services: Asked,
    decider: Decider,
    approver: Approval,
    key: IdempotencyKey,
    customer_no: CustomerNo,
    wish: DebtWish,
) -> dict[str, Any]:
    """Above the limit with X-Approver-Token. The same key again is the same debt."""
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, decider, customer_no)
        done = await service.book(
            tx,
            customer,
            NewDebt(
                debt_id=key,
                amount_fen=wish.amount_fen,
                share_permille=wish.share_permille,
                reason=wish.reason,
                operator_id=decider.operator.operator_id,
                approver_id=None if approver is None else approver.operator.operator_id,
            ),
            services.clock,
        )
        if isinstance(done, NotBooked):
            raise refusal(done, customer_no)
        await _tell(
            services, tx, decider, "debt-booked", f"{customer_no}: {yuan(wish.amount_fen)} yuan"
        )
    return debt_record(done)


@router.post("/debts/{debt_id}/repayments", summary="Take money for one debt", status_code=201)
async def repay(
    services: Asked, seller: Seller, key: IdempotencyKey, debt_id: UUID, wish: Repayment
) -> dict[str, Any]:
    """Over the counter, through the customer's account; at most what is left of it."""
    async with services.database.transaction() as tx:
        debt, customer = await _debt(tx, seller, debt_id)
        held = await desk_accounts.held_by(tx, customer.customer_id, seller.operator.scope)
        mine = [one for one in held if one.closed_at is None]
        if not mine:
            raise Problem("meter-has-no-customer", meter=customer.customer_no, detail="")
        done = await service.repay(
            tx,
            debt,
            mine[0].meter_id,
            services.clock,
            Wish(
                transfer_id=key,
                amount_fen=wish.amount_fen,
                operator_id=seller.operator.operator_id,
            ),
        )
        if isinstance(done, NotBooked):
            raise refusal(done, customer.customer_no)
        left = await debts.find(tx, debt_id)
    assert left is not None, "a debt is never deleted"
    return debt_record(left) | {"repeated": done.repeated}


@router.post("/debts/{debt_id}/share", summary="Another share of each payment")
async def share(
    services: Asked, decider: Decider, debt_id: UUID, wish: ShareWish
) -> dict[str, Any]:
    """In permille, at most 900: of each payment at least a tenth becomes light."""
    async with services.database.transaction() as tx:
        debt, customer = await _debt(tx, decider, debt_id)
        if debt.let_off_at is not None:
            raise Problem("ended-already")
        await debts.set_share(tx, debt_id, wish.share_permille)
        subject = f"{customer.customer_no}: {wish.share_permille} permille"
        await _tell(services, tx, decider, "debt-share-set", subject)
        return debt_record((await _debt(tx, decider, debt_id))[0])


@router.post("/debts/{debt_id}/let-off", summary="What is left is owed no more")
async def let_off(
    services: Asked, decider: Decider, debt_id: UUID, because: Because
) -> dict[str, Any]:
    """Kept with who did it and why; once more changes nothing."""
    async with services.database.transaction() as tx:
        debt, customer = await _debt(tx, decider, debt_id)
        if debt.let_off_at is None:
            await debts.let_off(
                tx,
                debt_id,
                by=decider.operator.operator_id,
                reason=because.reason,
                at=services.clock.now(),
            )
            subject = f"{customer.customer_no}: {because.reason}"
            await _tell(services, tx, decider, "debt-let-off", subject)
        return debt_record((await _debt(tx, decider, debt_id))[0])


@router.get("/account-rules/{site}", summary="What a property takes and allows")
async def rules(services: Asked, viewer: Viewer, site: str, response: Response) -> dict[str, Any]:
    """Fees on an opening and on a sale, the hoarding limit, and what an opened meter is given."""
    site_id = _site(services, viewer, site)
    async with services.database.transaction() as tx:
        known = await account_rules.of_site(tx, site_id)
    tag(response, _version(known))
    return _rules_record(site, known)


@router.put("/account-rules/{site}", summary="Set what a property takes and allows")
async def set_rules(
    services: Asked,
    decider: Decider,
    site: str,
    wish: RulesWish,
    version: SeenVersion,
    response: Response,
) -> dict[str, Any]:
    """From the next sale on; what held before stays on record. Only with the ETag of what holds."""
    site_id = _site(services, decider, site)
    opening = None if wish.opening is None else _opening(wish.opening)
    async with services.database.transaction() as tx:
        await account_rules.lock(tx, site_id)
        same(version, _version(await account_rules.of_site(tx, site_id)))
        await account_rules.set_for_site(
            tx,
            site_id,
            Rules(
                opening_fee_fen=wish.opening_fee_fen,
                sale_fee_fen=wish.sale_fee_fen,
                hoarding_limit_fen=wish.hoarding_limit_fen,
                opening=None if opening is None else to_record(opening),
            ),
            by=decider.operator.operator_id,
            at=services.clock.now(),
        )
        await _tell(services, tx, decider, "rules-set", site)
        now = await account_rules.of_site(tx, site_id)
    tag(response, _version(now))
    return _rules_record(site, now)


def _opening(wish: OpeningSettings) -> OpenAccount:
    try:
        return OpenAccount(
            prices=Prices(
                sharp_fen=wish.sharp_fen,
                peak_fen=wish.peak_fen,
                flat_fen=wish.flat_fen,
                valley_fen=wish.valley_fen,
            ),
            alarms=AlarmAmounts(alarm_1_fen=wish.alarm_1_fen, alarm_2_fen=wish.alarm_2_fen),
            overdraft_fen=wish.overdraft_fen,
        )
    except BadSetting as bad:
        raise Problem("bad-request", detail=f"opening: {bad}") from bad


def _rules_record(site: str, known: Rules) -> dict[str, Any]:
    opening = None
    if known.opening is not None:
        opening = {
            **{f"{rate}_fen": known.opening["prices"][f"{rate}_fen"] for rate in _RATES},
            "alarm_1_fen": known.opening["alarms"]["alarm_1_fen"],
            "alarm_2_fen": known.opening["alarms"]["alarm_2_fen"],
            "overdraft_fen": known.opening["overdraft_fen"],
        }
    return {
        "site": site,
        "opening_fee_fen": known.opening_fee_fen,
        "sale_fee_fen": known.sale_fee_fen,
        "hoarding_limit_fen": known.hoarding_limit_fen,
        "opening": opening,
        "since": None if known.since is None else known.since.isoformat(),
    }


_RATES = ("sharp", "peak", "flat", "valley")


def _version(known: Rules) -> int:
    return fingerprint(asdict(known))


def _site(services: Services, caller: Caller, name: str) -> int:
    site = services.lines.sites.get(name)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=name)
    return site.site_id


async def _debt(tx: Transaction, caller: Caller, debt_id: UUID) -> tuple[Debt, Customer]:
    debt = await debts.find(tx, debt_id)
    customer = None if debt is None else await customers.get(tx, debt.customer_id)
    if (
        debt is None
        or customer is None
        or not await desk_accounts.is_in_scope(tx, debt.customer_id, caller.operator.scope)
    ):
        raise Problem("no-such-debt", detail=debt_id)
    return debt, customer


async def _tell(
    services: Services, tx: Transaction, caller: Caller, action: str, subject: str
) -> None:
    await desk_sessions.tell(
        tx,
        action,
        at=services.clock.now(),
        operator_id=caller.operator.operator_id,
        subject=subject,
    )
