"""Who calls: a Bearer token, the operator behind it, and what they may do.

Reading places, lines and nights from this machine needs no token yet; money and switching always
do. A meter outside the operator's sites does not exist for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.services.looks import MeterAtWork
from headend.services.services import Services
from headend.store import people
from headend.web.common import Asked

_bearer = HTTPBearer(auto_error=False, description="`headend token` makes one")


async def _caller(
    services: Asked, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if given is None:
        raise Problem("no-token")
    async with services.database.transaction() as tx:
        caller = await people.caller_of(tx, given.credentials, services.clock.now())
    if caller is None:
        raise Problem("bad-token")
    return caller


def who_may(permission: Permission) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, who may do that. 401 without a token, 403 without the right."""

    async def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        if not caller.may(permission):
            raise Problem(
                "not-allowed",
                operator=caller.operator.name,
                role=caller.operator.role.value,
                action=permission.value,
            )
        return caller

    return check


async def _approver(
    services: Asked, x_approver_token: Annotated[str | None, Header()] = None
) -> Caller | None:
    """The second person, by a token of their own; None: nobody approves."""
    if x_approver_token is None:
        return None
    async with services.database.transaction() as tx:
        caller = await people.caller_of(tx, x_approver_token, services.clock.now())
    if caller is None:
        raise Problem("bad-token")
    return await who_may(Permission.APPROVE)(caller)


Approval = Annotated[Caller | None, Depends(_approver)]
Seller = Annotated[Caller, Depends(who_may(Permission.SELL))]
Taker = Annotated[Caller, Depends(who_may(Permission.TAKE_BACK))]
Switcher = Annotated[Caller, Depends(who_may(Permission.SWITCH))]
Approver = Annotated[Caller, Depends(who_may(Permission.APPROVE))]
Decider = Annotated[Caller, Depends(who_may(Permission.DECIDE))]
Protector = Annotated[Caller, Depends(who_may(Permission.PROTECT))]
LockOuter = Annotated[Caller, Depends(who_may(Permission.LOCK_OUT))]
Viewer = Annotated[Caller, Depends(who_may(Permission.SEE))]


def _key(idempotency_key: Annotated[str | None, Header()] = None) -> UUID:
    try:
        return UUID(idempotency_key or "")
    except ValueError as error:
        raise Problem("idempotency-key") from error


IdempotencyKey = Annotated[UUID, Depends(_key)]


def meter_for(services: Services, caller: Caller, name: str) -> MeterAtWork:
    """The meter of that name inside the caller's scope. Raises Problem("no-such-meter")."""
    meter = services.lines.find_meter(name)
    if not caller.may_touch(meter.known.site_id):
        raise Problem("no-such-meter", meter=name)
    return meter
