"""Signing in and out, the language and the theme, and one's own password and second factor."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Final

import segno
from fastapi import APIRouter, Request, Response

from headend.domain.sign_in import (
    LOCKED_FOR,
    PASSWORD_CHARS_MAX,
    PASSWORD_CHARS_MIN,
    BadPassword,
    NotSignedIn,
)
from headend.services import sign_in as service
from headend.services.services import Services
from headend.store import desk_sessions
from headend.web import desk, texts
from headend.web.common import Asked
from headend.web.desk import Anybody, Form, Visitor
from headend.web.texts import N_

router = APIRouter(include_in_schema=False)

_REFUSED: Final = {
    NotSignedIn.LOCKED: (
        "form",
        N_("Too many wrong tries: signing in rests for %d minutes. Wait, or ask an administrator."),
    ),
    NotSignedIn.WRONG: ("password", N_("Name or password is wrong.")),
    NotSignedIn.CODE_NEEDED: ("code", N_("Enter the code your authenticator shows now.")),
    NotSignedIn.WRONG_CODE: (
        "code",
        N_("This code is wrong or was used already: wait for the next one."),
    ),
}
assert set(_REFUSED) == set(NotSignedIn)

BAD: Final = {
    BadPassword.TOO_SHORT: N_("it has fewer than 10 characters"),
    BadPassword.TOO_LONG: N_("it has more than 128 characters"),
    BadPassword.HOLDS_THE_NAME: N_("it holds the operator's name"),
    BadPassword.EASILY_GUESSED: N_("it is among the first that are guessed"),
}
assert set(BAD) == set(BadPassword)
assert (PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX) == (10, 128), "the sentences above say so"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInView:
    """The gate. `expired`: somebody was inside and their session ended."""

    form: Form
    next: str = "/"
    ask_code: bool = False
    expired: bool = False


@router.get("/sign-in")
async def gate(services: Asked, visitor: Anybody, next: str = "/") -> Response:  # noqa: A002
    """The sign-in page; who is inside already goes on."""
    where = next if desk.is_local(next) else "/"
    if visitor.caller is not None:
        return desk.go(where)
    return desk.show("sign_in.html", visitor, services, SignInView(form=Form(), next=where))


@router.post("/sign-in")
async def enter(request: Request, services: Asked, visitor: Anybody) -> Response:
    """A session for the right person, and back to where they were going."""
    if visitor.caller is None:
        await desk.check_form(request, visitor)
    form = desk.form_of(await request.form())
    where = form.get("next")
    where = where if desk.is_local(where) else "/"
    outcome = await service.sign_in(
        services.database,
        services.clock,
        name=form.get("name"),
        password=form.typed.get("password", ""),
        code=form.get("code"),
        address=request.client.host if request.client else "",
    )
    if isinstance(outcome, NotSignedIn):
        beside, text = _REFUSED[outcome]
        said = desk.gettext(visitor)(text)
        if outcome is NotSignedIn.LOCKED:
            said = said % (LOCKED_FOR.total_seconds() // 60)
        form.wrong(beside, said)
        view = SignInView(form=form, next=where, ask_code=beside == "code")
        return desk.show("sign_in.html", visitor, services, view, status=401)
    answer = desk.go(where)
    answer.set_cookie(
        desk.SESSION_COOKIE,
        outcome.cookie,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    answer.delete_cookie(desk.FORM_COOKIE)
    return answer


@router.post("/sign-out")
async def leave(request: Request, services: Asked, visitor: desk.SignedIn) -> Response:
    """The session ends here and in the database."""
    at = services.clock.now()
    async with services.database.transaction() as tx:
        await desk_sessions.end_session(tx, request.cookies[desk.SESSION_COOKIE], at)
        await desk_sessions.tell(tx, "signed-out", at=at, operator_id=visitor.operator_id)
    answer = desk.go("/sign-in")
    answer.delete_cookie(desk.SESSION_COOKIE)
    return answer


@router.post("/preference")
async def prefer(request: Request, visitor: Anybody) -> Response:
    """Language or theme, kept in this browser; back to the same page."""
    await desk.check_form(request, visitor)
    form = desk.form_of(await request.form())
    where = form.get("page")
    answer = desk.go(where if desk.is_local(where) else "/")
    if form.get("language") in texts.LANGUAGES:
        answer.set_cookie(
            desk.LANGUAGE_COOKIE, form.get("language"), max_age=desk.YEAR_S, samesite="lax"
        )
    if form.get("theme") in desk.THEMES:
        answer.set_cookie(desk.THEME_COOKIE, form.get("theme"), max_age=desk.YEAR_S, samesite="lax")
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class MeView:
    """One's own account at the desk. `qr`: the offered second factor, as an image."""

    second_factor: bool
    secret: str = ""
    qr: str = ""
    done: str = ""
    form: Form = field(default_factory=Form)


@router.get("/me")
async def me(services: Asked, visitor: desk.SignedIn, done: str = "") -> Response:
    """Password and second factor."""
    return desk.show("me.html", visitor, services, await _me(services, visitor, done=done))


async def _me(
    services: Services, visitor: Visitor, *, form: Form | None = None, done: str = ""
) -> MeView:
    assert visitor.caller is not None
    operator = visitor.caller.operator
    async with services.database.transaction() as tx:
        secret = await desk_sessions.secret_of(tx, operator.operator_id)
    offered = secret.totp_secret if secret and secret.totp_since is None else None
    image = ""
    if offered:
        drawn = io.BytesIO()
        segno.make(service.totp_uri(operator, offered)).save(drawn, kind="png", scale=5, border=2)
        image = "data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode()
    return MeView(
        second_factor=secret is not None and secret.totp_since is not None,
        secret=offered or "",
        qr=image,
        done=done if done in ("password", "on", "off") else "",
        form=form or Form(),
    )


@router.post("/me/password")
async def change_password(request: Request, services: Asked, visitor: desk.SignedIn) -> Response:
    """The old one once more, then the new one; all other browsers of this operator are out."""
    assert visitor.caller is not None
    operator, say = visitor.caller.operator, desk.gettext(visitor)
    form = desk.form_of(await request.form())
    old, new = form.typed.get("old", ""), form.typed.get("new", "")
    if not await service.knows_password(services.database, operator, old):
        form.wrong("old", say("This is not your password."))
    elif new != form.typed.get("again", ""):
        form.wrong("again", say("The two new passwords differ."))
    else:
        async with services.database.transaction() as tx:
            bad = await service.set_password(
                tx, operator, new, services.clock, by=operator.operator_id
            )
        if bad is not None:
            form.wrong("new", say("Not taken: %s.") % say(BAD[bad]))
    if form.errors:
        view = await _me(services, visitor, form=form)
        return desk.show("me.html", visitor, services, view, status=422)
    async with services.database.transaction() as tx:
        cookie = await desk_sessions.begin_session(
            tx,
            operator.operator_id,
            request.client.host if request.client else "",
            services.clock.now(),
        )
    answer = desk.go("/me?done=password")
    answer.set_cookie(desk.SESSION_COOKIE, cookie, httponly=True, samesite="lax")
    return answer


@router.post("/me/second-factor")
async def second_factor(request: Request, services: Asked, visitor: desk.SignedIn) -> Response:
    """Offer one, put it into force with its first code, or end it with the password."""
    assert visitor.caller is not None
    operator, say = visitor.caller.operator, desk.gettext(visitor)
    form = desk.form_of(await request.form())
    at, done = services.clock.now(), ""
    async with services.database.transaction() as tx:
        secret = await desk_sessions.secret_of(tx, operator.operator_id)
        if form.get("step") == "offer":
            await desk_sessions.offer_totp(tx, operator.operator_id, service.new_totp_secret())
        elif form.get("step") == "confirm" and secret and secret.totp_secret:
            step = service.right_step(secret.totp_secret, form.get("code"), at)
            if step is None:
                form.wrong("code", say("This code is wrong: wait for the next one."))
            else:
                await desk_sessions.begin_totp(tx, operator.operator_id, step, at)
                await desk_sessions.tell(
                    tx, "second-factor-on", at=at, operator_id=operator.operator_id
                )
                done = "on"
    if form.get("step") == "end":
        if await service.knows_password(
            services.database, operator, form.typed.get("password", "")
        ):
            async with services.database.transaction() as tx:
                await desk_sessions.end_totp(tx, operator.operator_id)
                await desk_sessions.tell(
                    tx, "second-factor-off", at=at, operator_id=operator.operator_id
                )
            done = "off"
        else:
            form.wrong("password", say("This is not your password."))
    if form.errors:
        view = await _me(services, visitor, form=form)
        return desk.show("me.html", visitor, services, view, status=422)
    return desk.go(f"/me?done={done}" if done else "/me")
