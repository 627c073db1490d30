"""What every page of the desk needs: who looks, in which language, the form's check, the frame.

A page is a function that makes a frozen view of what it shows; a template turns that into HTML. A
look changes nothing; every change is a form that carries the session's token.
"""

from __future__ import annotations

import functools
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.datastructures import FormData

from headend.domain.problems import Problem
from headend.domain.reports import GROUPINGS
from headend.domain.roles import Caller, Permission, Scope
from headend.domain.rooms import RoomState
from headend.domain.tariffs import Rate
from headend.services.looks import MeterAtWork
from headend.services.services import Services
from headend.store import desk_sessions
from headend.store.desk_sessions import Session
from headend.web import texts, told, words
from headend.web.common import Asked
from headend.web.live import Bell

SESSION_COOKIE: Final = "headend_session"
FORM_COOKIE: Final = "headend_form"  # ties a form to its browser where nobody is signed in yet
LANGUAGE_COOKIE: Final = "headend_language"
THEME_COOKIE: Final = "headend_theme"
THEMES: Final = ("light", "dark", "auto")
# A photograph or a file of ten thousand accounts; whatever is larger is not read.
FORM_BYTES_MAX: Final = 8 * 1024 * 1024
YEAR_S: Final = 365 * 86_400
HERE: Final = Path(__file__).parent

# Our own files only, no inline script, nobody frames us.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # A page shows money and names: never from a cache, and Back asks again.
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks at a page. `caller` None: nobody is signed in."""

    caller: Caller | None
    csrf: str
    language: str
    theme: str
    path: str  # of this look, with its query: where a change of language comes back to

    def may(self, permission: Permission) -> bool:
        """Whether this visitor may do that."""
        return self.caller is not None and self.caller.may(permission)

    @property
    def sites(self) -> list[int] | None:
        """The sites they may see, for SQL; None: all."""
        assert self.caller is not None, "only who is signed in is asked"
        found = self.caller.operator.sites
        return None if found is None else sorted(found)

    @property
    def scope(self) -> Scope:
        """The branch of the property tree they may see, for SQL."""
        assert self.caller is not None, "only who is signed in is asked"
        return self.caller.operator.scope

    @property
    def operator_id(self) -> int:
        """Their number."""
        assert self.caller is not None, "only who is signed in is asked"
        return self.caller.operator.operator_id


class SignInFirst(Exception):
    """Nobody is signed in, or no longer: the sign-in page, then back to `where`."""

    def __init__(self, visitor: Visitor, where: str) -> None:
        self.visitor = visitor
        self.where = where


class PageProblem(Exception):
    """A problem that a page shows instead of itself."""

    def __init__(self, visitor: Visitor, problem: Problem) -> None:
        self.visitor = visitor
        self.problem = problem


async def visitor_of(request: Request, services: Asked) -> Visitor:
    """Whoever looks, signed in or not."""
    session: Session | None = None
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        async with services.database.transaction() as tx:
            session = await desk_sessions.session_of(tx, cookie, services.clock.now())
    visitor = nobody(request)
    if session is None:
        return visitor
    operator = session.operator
    caller = Caller(operator=operator, token_id=0, permissions=operator.permissions)
    return replace(visitor, caller=caller, csrf=session.csrf)


def nobody(request: Request) -> Visitor:
    """A browser in which nobody is signed in: its language, its theme, its own form token."""
    language = request.cookies.get(LANGUAGE_COOKIE, "")
    if language not in texts.LANGUAGES:
        language = texts.preferred(request.headers.get("accept-language", ""))
    theme = request.cookies.get(THEME_COOKIE, "auto")
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Visitor(
        caller=None,
        csrf=request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(16),
        language=language,
        theme=theme if theme in THEMES else "auto",
        path=path,
    )


Anybody = Annotated[Visitor, Depends(visitor_of)]


async def signed_in(request: Request, visitor: Anybody) -> Visitor:
    """A dependency: somebody who is signed in, and on a form its token. 401, 403."""
    if visitor.caller is None:
        raise SignInFirst(visitor, await _where_to_return(request, visitor))
    if request.method != "GET":
        await check_form(request, visitor)
    return visitor


async def check_form(request: Request, visitor: Visitor) -> None:
    """A form counts only with its browser's token, and never from another site."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise PageProblem(visitor, Problem("form-expired"))
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > FORM_BYTES_MAX:
        raise PageProblem(visitor, Problem("form-too-big"))
    form = await request.form()
    token = form.get("csrf")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
        raise PageProblem(visitor, Problem("form-expired"))


async def _where_to_return(request: Request, visitor: Visitor) -> str:
    """The page of a form whose session ended keeps what was typed, in its address."""
    if request.method == "GET":
        return visitor.path
    form = await request.form()
    typed = {k: v for k, v in form.items() if isinstance(v, str) and k not in ("csrf", "password")}
    back = typed.pop("page", "")
    if not is_local(back):
        return "/"
    return back + ("&" if "?" in back else "?") + urlencode(typed) if typed else back


def who_may(permission: Permission) -> Callable[[Visitor], Awaitable[Visitor]]:
    """A dependency: a visitor who may do that. 401 when not signed in, 403 without the right."""

    async def check(visitor: Annotated[Visitor, Depends(signed_in)]) -> Visitor:
        must(visitor, permission)
        return visitor

    return check


def must(visitor: Visitor, permission: Permission) -> None:
    """Raises PageProblem("not-allowed") for somebody who may not do that."""
    if visitor.may(permission):
        return
    assert visitor.caller is not None, "only who is signed in is asked"
    raise PageProblem(
        visitor,
        Problem(
            "not-allowed",
            operator=visitor.caller.operator.name,
            role=words.said(visitor.caller.operator.role, visitor.language),
            action=words.said(permission, visitor.language),
        ),
    )


SignedIn = Annotated[Visitor, Depends(signed_in)]
Viewer = Annotated[Visitor, Depends(who_may(Permission.SEE))]
Reader = Annotated[Visitor, Depends(who_may(Permission.READ_METER))]
Seller = Annotated[Visitor, Depends(who_may(Permission.SELL))]
Taker = Annotated[Visitor, Depends(who_may(Permission.TAKE_BACK))]
Switcher = Annotated[Visitor, Depends(who_may(Permission.SWITCH))]
Approver = Annotated[Visitor, Depends(who_may(Permission.APPROVE))]
Decider = Annotated[Visitor, Depends(who_may(Permission.DECIDE))]
Configurer = Annotated[Visitor, Depends(who_may(Permission.CONFIGURE))]
Protector = Annotated[Visitor, Depends(who_may(Permission.PROTECT))]
LockOuter = Annotated[Visitor, Depends(who_may(Permission.LOCK_OUT))]
Reporter = Annotated[Visitor, Depends(who_may(Permission.REPORT))]
Tender = Annotated[Visitor, Depends(who_may(Permission.TEND))]
Subscriber = Annotated[Visitor, Depends(who_may(Permission.SUBSCRIBE))]
Auditor = Annotated[Visitor, Depends(who_may(Permission.AUDIT))]
Administrator = Annotated[Visitor, Depends(who_may(Permission.ADMINISTER))]


def is_local(where: str) -> bool:
    """Whether an address stays on this desk: a path, no other host, no trick of slashes."""
    parts = urlsplit(where)
    return (
        where.startswith("/")
        and not where.startswith(("//", "/\\"))
        and not parts.scheme
        and not parts.netloc
        and not any(ord(sign) < 32 for sign in where)
    )


@dataclass(slots=True)
class Form:
    """What somebody typed, and what is wrong with it, field by field."""

    typed: Mapping[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """What was typed, without spaces around it."""
        return self.typed.get(name, "").strip()

    def wrong(self, name: str, text: str) -> None:
        """Beside this field; the first thing said counts."""
        self.errors.setdefault(name, text)


def form_of(data: FormData) -> Form:
    """The text fields of a form; of a repeated one the last."""
    # The one character no table can hold; nobody types it.
    return Form({k: v.replace("\0", "") for k, v in data.multi_items() if isinstance(v, str)})


@functools.cache
def _environment(language: str) -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.install_gettext_translations(  # type: ignore[attr-defined]  # the extension adds it
        texts.translations(language), newstyle=True
    )

    @pass_context
    def told_here(context: Context, text: str) -> str:
        return texts.on_the_wall(told.told(text, language), context["zone"])

    made.filters |= {
        "yuan": texts.yuan,
        "yuan_plain": texts.yuan_plain,
        "kwh": texts.kwh,
        "x4": texts.price_x4,
        "kwh_exact": texts.kwh_exact,
        "fen_x5": texts.fen_x5,
        "rate_word": lambda name: words.said(Rate(name), language),
        "told": told_here,
        "word": lambda value: words.said(value, language),
        "state_word": lambda name: words.said(RoomState(name), language),
    }
    made.globals |= {"P": Permission, "permille": texts.permille}
    made.globals["groupings_of"] = lambda kind: GROUPINGS.get(kind, (None,))
    return made


def rendered(template: str, visitor: Visitor, services: Services, view: object = None) -> str:
    """A template over a view; also for pieces that are sent into an open page."""
    now, zone = services.clock.now(), zone_of(services)

    def since(at: datetime | None) -> str:
        return "–" if at is None else texts.age(now - at, visitor.language)

    def between(begin: datetime, end: datetime) -> str:
        return texts.age(end - begin, visitor.language)

    def local(at: datetime | None, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
        return texts.local(at, zone, pattern)

    return (
        _environment(visitor.language)
        .get_template(template)
        .render(
            v=view,
            visitor=visitor,
            now=now,
            since=since,
            between=between,
            local=local,
            zone=zone,
            version=services.version,
        )
    )


def zone_of(services: Services) -> tzinfo:
    """The wall clock of the desk: that of the first property, as on its own walls."""
    for site in services.lines.sites.values():
        return site.place.time_zone
    return ZoneInfo("Asia/Shanghai")


def show(
    template: str, visitor: Visitor, services: Services, view: object = None, *, status: int = 200
) -> HTMLResponse:
    """A whole page."""
    page = HTMLResponse(
        rendered(template, visitor, services, view), status_code=status, headers=dict(HEADERS)
    )
    if visitor.caller is None:
        page.set_cookie(FORM_COOKIE, visitor.csrf, httponly=True, samesite="strict")
    return page


def go(where: str) -> Response:
    """On to another page after a form: a reload there repeats nothing."""
    return RedirectResponse(where, status_code=303, headers={"cache-control": "no-store"})


def stream(pieces: AsyncIterator[str | None]) -> StreamingResponse:
    """Pieces of HTML into an open page, as server-sent events; None: there will be no more."""

    async def told() -> AsyncIterator[str]:
        async for piece in pieces:
            if piece is None:
                yield "event: end\ndata: end\n\n"
                return
            lines = "".join(f"data: {line}\n" for line in piece.splitlines())
            yield f"{lines}\n" if lines else ": still here\n\n"

    return StreamingResponse(told(), media_type="text/event-stream", headers=dict(HEADERS))


def meter_for(services: Services, visitor: Visitor, name: str) -> MeterAtWork:
    """The meter of that name inside the visitor's scope; outside of it there is none."""
    meter = services.lines.meters.get(name)
    assert visitor.caller is not None
    if meter is None or not visitor.caller.may_touch_meter(meter.known):
        raise PageProblem(visitor, Problem("no-such-meter", meter=name))
    return meter


def gettext(visitor: Visitor) -> Callable[[str], str]:
    """The catalogue of a visitor, for sentences made in code."""
    return texts.translations(visitor.language).gettext


Fields = Mapping[str, Any]


def noon_s(day: date) -> int:
    """Where a day stands on a chart's axis: noon UTC, so that no browser moves it to another."""
    return int(datetime.combine(day, time(12), tzinfo=UTC).timestamp())


def bell(request: Request) -> Bell:
    """What rings open pages; one for the whole desk."""
    state = request.app.state
    if not hasattr(state, "bell"):
        state.bell = Bell(state.services.database)
    found = state.bell
    assert isinstance(found, Bell)
    return found
