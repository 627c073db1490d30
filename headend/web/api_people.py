"""Operators and their tokens over HTTP: who may come in, as what, to which properties."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.domain.roles import ROLES, Caller, Operator, Permission, Role
from headend.domain.sign_in import bad_password
from headend.services import sign_in
from headend.services.services import Services
from headend.store import desk_sessions, people
from headend.store.database import Transaction
from headend.store.people import Token
from headend.web.auth import Administrator
from headend.web.common import Asked, Words
from headend.web.edits import After, AfterText, Limit, cut, paged

router = APIRouter(prefix="/api/v1/operators", tags=["operators"])

TOKEN_DAYS_MAX = 3650
NUMBER_MAX = 2**31 - 1
OperatorId = Annotated[int, Path(ge=0, le=NUMBER_MAX)]
Name = Annotated[Words, Field(min_length=1, max_length=64)]
Password = Annotated[str, Field(max_length=1024, examples=["four lamps on a blue roof"])]


async def _of_everything(administrator: Administrator) -> Caller:
    """Who is kept to some properties makes nobody who sees others."""
    if administrator.operator.sites is not None:
        raise Problem(
            "not-allowed",
            operator=administrator.operator.name,
            role=administrator.operator.role.value,
            action=Permission.ADMINISTER.value,
        )
    return administrator


Chief = Annotated[Caller, Depends(_of_everything)]


class NewOperator(BaseModel):
    """One more. `sites` null: all properties; `buildings`: only these of them."""

    model_config = ConfigDict(extra="forbid")
    name: Name = Field(examples=["zhang"])
    role: Role = Field(examples=["cashier"])
    password: Password | None = Field(default=None, description="null: by tokens only")
    person: Annotated[Words, Field(max_length=64)] = Field(
        default="", description="who it is in flesh, where somebody has two names"
    )
    sites: list[str] | None = Field(default=None, max_length=1000, examples=[["Court"]])
    buildings: list[str] = Field(default_factory=list, max_length=1000, examples=[["A"]])


class NewPassword(BaseModel):
    """All sessions of the operator end."""

    model_config = ConfigDict(extra="forbid")
    password: Password


class NewToken(BaseModel):
    """What it is for, how long it works, and which of the role's rights it has; null: all."""

    model_config = ConfigDict(extra="forbid")
    name: Name = Field(examples=["accounting"])
    days: int = Field(ge=1, le=TOKEN_DAYS_MAX, examples=[365])
    permissions: list[Permission] | None = Field(default=None, examples=[["see", "sell"]])


def token_record(token: Token) -> dict[str, Any]:
    """A token as it is known afterwards: never its secret."""
    return {
        "token_id": token.token_id,
        "operator": token.operator,
        "name": token.name,
        "prefix": token.prefix,
        "permissions": sorted(one.value for one in token.permissions),
        "expires_at": token.expires_at.isoformat(),
        "revoked_at": None if token.revoked_at is None else token.revoked_at.isoformat(),
    }


def _record(operator: Operator) -> dict[str, Any]:
    return {
        "operator_id": operator.operator_id,
        "name": operator.name,
        "person": operator.person,
        "role": operator.role.value,
        "disabled_at": None if operator.disabled_at is None else operator.disabled_at.isoformat(),
    }


@router.get("", summary="Operators by name")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    _chief: Chief,
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """The disabled ones too, because orders and books name them."""
    async with services.database.transaction() as tx:
        found = await people.list_operators(tx)
    page = paged(request, response, found, key=lambda one: one.name, after=after, limit=limit)
    return [_record(one) for one in page]


@router.post("", summary="Add an operator", status_code=201)
async def add(services: Asked, chief: Chief, wish: NewOperator) -> dict[str, Any]:
    """Sees all properties where `sites` is null. 409 where the name is taken."""
    sites = None if wish.sites is None else [_site(services, name) for name in wish.sites]
    if sites == [] or (wish.buildings and sites is None):
        raise Problem("bad-request", detail="name the properties: sites")
    bad = None if wish.password is None else bad_password(wish.password, wish.name)
    if bad is not None:
        raise Problem("bad-password", detail=bad.value)
    at, by = services.clock.now(), chief.operator.operator_id
    async with services.database.transaction() as tx:
        known = await people.buildings_called(tx, sites or (), wish.buildings)
        for name in wish.buildings:
            if name not in known:
                raise Problem("no-such-building", building=name)
        made = await people.add_operator(
            tx,
            wish.name,
            wish.role,
            at=at,
            person=wish.person or None,
            sites=sites,
            created_by=by,
        )
        if made is None:
            raise Problem("name-taken", name=wish.name)
        await people.keep_to_buildings(tx, made.operator_id, sorted(known.values()))
        await desk_sessions.tell(tx, "operator-added", at=at, operator_id=by, subject=wish.name)
        if wish.password is not None:
            await sign_in.set_password(tx, made, wish.password, services.clock, by=by)
        return await _whole(tx, made.operator_id)


@router.get("/{operator_id}", summary="One operator")
async def one(services: Asked, _chief: Chief, operator_id: OperatorId) -> dict[str, Any]:
    """`scope` null: all properties; else each by name, a single building as "site / building"."""
    async with services.database.transaction() as tx:
        return await _whole(tx, operator_id)


@router.post("/{operator_id}/password", summary="Give an operator a new password")
async def password(
    services: Asked, chief: Chief, operator_id: OperatorId, wish: NewPassword
) -> dict[str, Any]:
    """Their sessions end, their wrong tries are forgiven."""
    async with services.database.transaction() as tx:
        found = await _operator(tx, operator_id)
        bad = await sign_in.set_password(
            tx, found, wish.password, services.clock, by=chief.operator.operator_id
        )
        if bad is not None:
            raise Problem("bad-password", detail=bad.value)
        return await _whole(tx, operator_id)


@router.post("/{operator_id}/second-factor/end", summary="Take an operator's second factor away")
async def no_factor(services: Asked, chief: Chief, operator_id: OperatorId) -> dict[str, Any]:
    """For who has lost the telephone it was on."""
    async with services.database.transaction() as tx:
        found = await _operator(tx, operator_id)
        await desk_sessions.end_totp(tx, operator_id)
        await _tell(services, tx, chief, "second-factor-off", found.name)
        return await _whole(tx, operator_id)


@router.post("/{operator_id}/disable", summary="Let an operator in no more")
async def disable(services: Asked, chief: Chief, operator_id: OperatorId) -> dict[str, Any]:
    """Their sessions end and none of their tokens works. Once more changes nothing."""
    if operator_id == chief.operator.operator_id:
        raise Problem("not-yourself")
    async with services.database.transaction() as tx:
        found = await _operator(tx, operator_id)
        if await people.disable_operator(tx, operator_id, services.clock.now()):
            await desk_sessions.end_sessions(tx, operator_id, services.clock.now())
            await _tell(services, tx, chief, "operator-disabled", found.name)
        return await _whole(tx, operator_id)


@router.get("/{operator_id}/tokens", summary="The tokens of an operator")
async def tokens(
    request: Request,
    response: Response,
    services: Asked,
    _chief: Chief,
    operator_id: OperatorId,
    after: After = 0,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """The newest first; never a secret."""
    async with services.database.transaction() as tx:
        await _operator(tx, operator_id)
        found = await people.tokens_of(tx, operator_id, before=after or None, limit=limit + 1)
    last = found[limit - 1].token_id if len(found) > limit else None
    return [token_record(token) for token in cut(request, response, found, last, limit)]


@router.post("/{operator_id}/tokens", summary="Make a token", status_code=201)
async def new_token(
    services: Asked, chief: Chief, operator_id: OperatorId, wish: NewToken
) -> dict[str, Any]:
    """`token` is shown this once. At most the rights of the operator's role."""
    at = services.clock.now()
    async with services.database.transaction() as tx:
        found = await _operator(tx, operator_id)
        beyond = sorted(one.value for one in set(wish.permissions or ()) - ROLES[found.role])
        if beyond or wish.permissions == []:
            raise Problem("bad-request", detail=f"permissions: {beyond or 'name at least one'}")
        secret = await people.add_token(
            tx,
            found,
            wish.name,
            at=at,
            expires_at=at + timedelta(days=wish.days),
            permissions=wish.permissions,
            created_by=chief.operator.operator_id,
        )
        await _tell(services, tx, chief, "token-added", f"{found.name}: {wish.name}")
        (made,) = await people.tokens_of(tx, operator_id, limit=1)
    return token_record(made) | {"token": secret}


@router.post("/{operator_id}/tokens/{token_id}/revoke", summary="End a token")
async def revoke(
    services: Asked,
    chief: Chief,
    operator_id: OperatorId,
    token_id: Annotated[int, Path(ge=0, le=NUMBER_MAX)],
) -> dict[str, Any]:
    """From now on it opens nothing."""
    async with services.database.transaction() as tx:
        found = await _operator(tx, operator_id)
        theirs = await people.tokens_of(tx, operator_id, before=token_id + 1, limit=1)
        mine = bool(theirs) and theirs[0].token_id == token_id
        if not mine or not await people.revoke_token(tx, token_id, services.clock.now()):
            raise Problem("no-such-token", token=token_id)
        await _tell(services, tx, chief, "token-revoked", f"{found.name}: {token_id}")
    return {"operator_id": operator_id, "token_id": token_id, "revoked": True}


async def _whole(tx: Transaction, operator_id: int) -> dict[str, Any]:
    found = await _operator(tx, operator_id)
    secret = await desk_sessions.secret_of(tx, operator_id)
    return _record(found) | {
        "scope": await people.scope_names(tx, found),
        "permissions": sorted(one.value for one in ROLES[found.role]),
        "has_password": secret is not None,
        "second_factor": secret is not None and secret.totp_since is not None,
    }


async def _operator(tx: Transaction, operator_id: int) -> Operator:
    found = await people.operator(tx, operator_id)
    if found is None:
        raise Problem("no-such-operator", operator=operator_id)
    return found


def _site(services: Services, name: str) -> int:
    site = services.lines.sites.get(name)
    if site is None:
        raise Problem("no-such-site", site=name)
    return site.site_id


async def _tell(
    services: Services, tx: Transaction, chief: Caller, action: str, subject: str
) -> None:
    await desk_sessions.tell(
        tx,
        action,
        at=services.clock.now(),
        operator_id=chief.operator.operator_id,
        subject=subject,
    )
