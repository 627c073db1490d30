"""Who calls: a Bearer token, the operator behind it, and what they may do.

Looking at places, lines and nights is also open to the key of this machine
(services/machine_key.py); everything else needs a token of somebody. What is outside the
operator's sites does not exist for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.services.lines import LineAtWork
from headend.services.looks import MeterAtWork
from headend.services.services import Services
from headend.store import people
from headend.web.common import Asked

bearer = HTTPBearer(auto_error=False, description="`headend token` makes one")


async def _caller(
    services: Asked, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
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
        return _checked(caller, permission)

    return check


def who_may_one_of(*permissions: Permission) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, who may do at least one of them; which, is asked again later."""

    async def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        allowed = next((one for one in permissions if caller.may(one)), permissions[0])
        return _checked(caller, allowed)

    return check


def who_looks(permission: Permission) -> Callable[..., Awaitable[Caller]]:
    """As `who_may`, and open to the key of this machine."""

    async def check(
        services: Asked, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Caller:
        here = None if given is None else services.machine_key.caller(given.credentials)
        return _checked(here or await _caller(services, given), permission)

    return check


def _checked(caller: Caller, permission: Permission) -> Caller:
    if not caller.may(permission):
        raise Problem(
            "not-allowed",
            operator=caller.operator.name,
            role=caller.operator.role.value,
            action=permission.value,
        )
    return caller


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
Configurer = Annotated[Caller, Depends(who_may(Permission.CONFIGURE))]
Protector = Annotated[Caller, Depends(who_may(Permission.PROTECT))]
LockOuter = Annotated[Caller, Depends(who_may(Permission.LOCK_OUT))]
Subscriber = Annotated[Caller, Depends(who_may(Permission.SUBSCRIBE))]
Tender = Annotated[Caller, Depends(who_may(Permission.TEND))]
Auditor = Annotated[Caller, Depends(who_may(Permission.AUDIT))]
Reporter = Annotated[Caller, Depends(who_may(Permission.REPORT))]
Administrator = Annotated[Caller, Depends(who_may(Permission.ADMINISTER))]
Viewer = Annotated[Caller, Depends(who_may(Permission.SEE))]
Looker = Annotated[Caller, Depends(who_looks(Permission.SEE))]
Asker = Annotated[Caller, Depends(who_looks(Permission.READ_METER))]


def _key(idempotency_key: Annotated[str | None, Header()] = None) -> UUID:
    try:
        return UUID(idempotency_key or "")
    except ValueError as error:
        raise Problem("idempotency-key") from error


IdempotencyKey = Annotated[UUID, Depends(_key)]


def meter_for(services: Services, caller: Caller, name: str) -> MeterAtWork:
    """The meter of that name inside the caller's scope. Raises Problem("no-such-meter")."""
    meter = services.lines.find_meter(name)
    if not caller.may_touch_meter(meter.known):
        raise Problem("no-such-meter", meter=name)
    return meter


def line_for(services: Services, caller: Caller, name: str) -> LineAtWork:
    """The line of that name inside the caller's scope. Raises Problem("no-such-line")."""
    at_work = services.lines.find_line(name)
    if not caller.may_touch(at_work.known.site_id):
        raise Problem("no-such-line", line=name)
    return at_work


def sites_for(services: Services, caller: Caller) -> list[str]:
    """The names of the sites the caller may touch as a whole."""
    sites = services.lines.sites.items()
    return [name for name, one in sites if caller.may_touch(one.site_id)]
