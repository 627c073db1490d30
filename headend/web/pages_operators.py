"""Operators: who may come in, as what, to which properties; and their tokens for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.domain.roles import ROLES, Operator, Permission, Role
from headend.domain.sign_in import bad_password
from headend.services import sign_in
from headend.services.services import Services
from headend.store import desk_sessions, people
from headend.store.people import Token
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Administrator, Form, PageProblem, Visitor
from headend.web.pages_sign_in import BAD
from headend.web.told import said

router = APIRouter(include_in_schema=False)

TOKEN_DAYS_MAX: Final = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorsView:
    """Everybody, and the form for one more."""

    operators: Sequence[Operator]
    site_names: dict[int, str]
    form: Form = field(default_factory=Form)
    roles: Sequence[Role] = tuple(Role)


@router.get("/operators")
async def listing(services: Asked, administrator: Administrator) -> Response:
    """By name; the disabled ones too, because orders and books name them."""
    view = await _list_view(services, Form({"role": "cashier"}))
    return desk.show("operators.html", administrator, services, view)


async def _list_view(services: Services, form: Form) -> OperatorsView:
    async with services.database.transaction() as tx:
        found = await people.list_operators(tx)
    names = {site.site_id: name for name, site in services.lines.sites.items()}
    return OperatorsView(operators=found, site_names=names, form=form)


@router.post("/operators")
async def add(request: Request, services: Asked, administrator: Administrator) -> Response:
    """One more. Whoever is not limited to properties sees all of them."""
    data = await request.form()
    form, say = desk.form_of(data), desk.gettext(administrator)
    name, password = form.get("name"), form.typed.get("password", "")
    role = next((one for one in Role if one.value == form.get("role")), None)
    chosen = [site for site in data.getlist("site") if isinstance(site, str)]
    sites = [services.lines.sites[one].site_id for one in chosen if one in services.lines.sites]
    if not name or len(name) > 64:
        form.wrong("name", say("A name of 1 to 64 characters."))
    if role is None:
        form.wrong("role", say("Choose what this person does."))
    bad = bad_password(password, name)
    if bad is not None:
        form.wrong("password", say("Not taken: %s.") % say(BAD[bad]))
    if form.get("scope") == "some" and not sites:
        form.wrong("site", say("Choose at least one property."))
    buildings = await _buildings(services, administrator, form, sites)
    if not form.errors and role is not None:
        at = services.clock.now()
        async with services.database.transaction() as tx:
            made = await people.add_operator(
                tx,
                name,
                role,
                at=at,
                person=form.get("person") or None,
                sites=sites if form.get("scope") == "some" else None,
                created_by=administrator.operator_id,
            )
            if made is not None:
                await people.keep_to_buildings(tx, made.operator_id, buildings)
                await desk_sessions.tell(
                    tx,
                    "operator-added",
                    at=at,
                    operator_id=administrator.operator_id,
                    subject=name,
                )
                await sign_in.set_password(
                    tx, made, password, services.clock, by=administrator.operator_id
                )
                return desk.go(f"/operators/{made.operator_id}")
        form.wrong("name", said(Problem("name-taken", name=name), administrator.language))
    view = await _list_view(services, form)
    return desk.show("operators.html", administrator, services, view, status=422)


async def _buildings(
    services: Services, administrator: Visitor, form: Form, sites: Sequence[int]
) -> list[int]:
    """The single buildings that were typed, of the chosen properties; what is wrong is said."""
    wanted = {name.strip() for name in form.get("buildings").replace("，", ",").split(",")} - {""}
    if not wanted:
        return []
    say = desk.gettext(administrator)
    async with services.database.transaction() as tx:
        known = await people.buildings_called(tx, sites, wanted)
    missing = sorted(wanted - known.keys())
    if missing or form.get("scope") != "some":
        form.wrong(
            "buildings", say("No building of the chosen properties: %s.") % ", ".join(missing)
        )
    return sorted(known.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorView:
    """One operator. `token`: just made, shown this once."""

    operator: Operator
    scope: Sequence[str] | None
    second_factor: bool
    has_password: bool
    tokens: Sequence[Token]
    allowed: Sequence[Permission]
    token: str = ""
    done: str = ""
    form: Form = field(default_factory=Form)


@router.get("/operators/{operator_id}")
async def one(
    services: Asked, administrator: Administrator, operator_id: int, done: str = ""
) -> Response:
    """Password, second factor, tokens, and the end."""
    view = await _view(services, administrator, operator_id, done=done)
    return desk.show("operator.html", administrator, services, view)


async def _view(
    services: Services,
    administrator: Visitor,
    operator_id: int,
    *,
    form: Form | None = None,
    token: str = "",
    done: str = "",
) -> OperatorView:
    async with services.database.transaction() as tx:
        found = await people.operator(tx, operator_id)
        if found is None:
            raise PageProblem(administrator, Problem("no-such-operator", operator=str(operator_id)))
        secret = await desk_sessions.secret_of(tx, operator_id)
        tokens = [one for one in await people.list_tokens(tx) if one.operator == found.name]
        scope = await people.scope_names(tx, found)
    return OperatorView(
        operator=found,
        scope=scope,
        second_factor=secret is not None and secret.totp_since is not None,
        has_password=secret is not None,
        tokens=tokens,
        allowed=sorted(ROLES[found.role], key=lambda one: one.value),
        token=token,
        done=done if done in ("password", "factor", "disabled", "revoked") else "",
        form=form or Form(),
    )


@router.post("/operators/{operator_id}/{step}")
async def change(
    request: Request,
    services: Asked,
    administrator: Administrator,
    operator_id: int,
    step: str,
) -> Response:
    """A new password, no second factor, a token, a token's end, the operator's end."""
    steps = {
        "password": _new_password,
        "factor": _no_factor,
        "disable": _disable,
        "token": _new_token,
        "revoke": _revoke,
    }
    if step not in steps:
        raise PageProblem(administrator, Problem("no-such-page"))
    view = await _view(services, administrator, operator_id)
    form = desk.form_of(await request.form())
    return await steps[step](services, administrator, view.operator, form)


async def _new_password(
    services: Services, administrator: Visitor, operator: Operator, form: Form
) -> Response:
    say = desk.gettext(administrator)
    async with services.database.transaction() as tx:
        bad = await sign_in.set_password(
            tx,
            operator,
            form.typed.get("password", ""),
            services.clock,
            by=administrator.operator_id,
        )
    if bad is None:
        return desk.go(f"/operators/{operator.operator_id}?done=password")
    form.wrong("password", say("Not taken: %s.") % say(BAD[bad]))
    view = await _view(services, administrator, operator.operator_id, form=form)
    return desk.show("operator.html", administrator, services, view, status=422)


async def _no_factor(
    services: Services, administrator: Visitor, operator: Operator, _form: Form
) -> Response:
    async with services.database.transaction() as tx:
        await desk_sessions.end_totp(tx, operator.operator_id)
        await desk_sessions.tell(
            tx,
            "second-factor-off",
            at=services.clock.now(),
            operator_id=administrator.operator_id,
            subject=operator.name,
        )
    return desk.go(f"/operators/{operator.operator_id}?done=factor")


async def _disable(
    services: Services, administrator: Visitor, operator: Operator, form: Form
) -> Response:
    if operator.operator_id == administrator.operator_id:
        # The last one out would lock the door from inside.
        form.wrong("disable", desk.gettext(administrator)("You cannot disable yourself."))
        view = await _view(services, administrator, operator.operator_id, form=form)
        return desk.show("operator.html", administrator, services, view, status=422)
    at = services.clock.now()
    async with services.database.transaction() as tx:
        await people.disable_operator(tx, operator.operator_id, at)
        await desk_sessions.end_sessions(tx, operator.operator_id, at)
        await desk_sessions.tell(
            tx,
            "operator-disabled",
            at=at,
            operator_id=administrator.operator_id,
            subject=operator.name,
        )
    return desk.go(f"/operators/{operator.operator_id}?done=disabled")


async def _new_token(
    services: Services, administrator: Visitor, operator: Operator, form: Form
) -> Response:
    say = desk.gettext(administrator)
    days = int(form.get("days")) if form.get("days").isdecimal() else 0
    listed = [one for one in ROLES[operator.role] if form.get(f"may-{one.value}")]
    if not form.get("name"):
        form.wrong("name", say("Say what it is for."))
    if not 1 <= days <= TOKEN_DAYS_MAX:
        form.wrong("days", say("From 1 to 3650 days."))
    if not listed:
        form.wrong("may", say("Choose at least one right."))
    secret = ""
    if not form.errors:
        at = services.clock.now()
        async with services.database.transaction() as tx:
            secret = await people.add_token(
                tx,
                operator,
                form.get("name"),
                at=at,
                expires_at=at + timedelta(days=days),
                permissions=listed,
                created_by=administrator.operator_id,
            )
            await desk_sessions.tell(
                tx,
                "token-added",
                at=at,
                operator_id=administrator.operator_id,
                subject=f"{operator.name}: {form.get('name')}",
            )
    view = await _view(services, administrator, operator.operator_id, form=form, token=secret)
    status = 200 if secret else 422
    return desk.show("operator.html", administrator, services, view, status=status)


async def _revoke(
    services: Services, administrator: Visitor, operator: Operator, form: Form
) -> Response:
    number = int(form.get("token")) if form.get("token").isdecimal() else 0
    at = services.clock.now()
    async with services.database.transaction() as tx:
        if await people.revoke_token(tx, number, at):
            await desk_sessions.tell(
                tx,
                "token-revoked",
                at=at,
                operator_id=administrator.operator_id,
                subject=f"{operator.name}: {number}",
            )
    return desk.go(f"/operators/{operator.operator_id}?done=revoked")
