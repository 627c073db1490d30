"""How one hears of alarms: one's own address, from which severity on at once, and the digest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter, Request, Response

from headend.domain.alarms import Severity
from headend.domain.problems import Problem
from headend.services.outgoing import DIGEST_AT
from headend.services.services import Services
from headend.store import letters
from headend.store.letters import Wish
from headend.web import desk, texts
from headend.web.api_events import MAIL, MAIL_CHARS_MAX
from headend.web.common import Asked
from headend.web.desk import Form, Viewer, Visitor
from headend.web.told import said

router = APIRouter(include_in_schema=False)

NEVER: Final = "never"
DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesView:
    """One's own settings as they are, or as they were just typed."""

    form: Form
    mail_is_set: bool
    sent_now: bool  # letters go to this person: they said an address once
    done: bool = False
    digest_at: str = DIGEST_AT.strftime("%H:%M")
    severities: Sequence[Severity] = (Severity.URGENT, Severity.WARNING, Severity.NOTICE)
    languages: Sequence[str] = field(default_factory=lambda: tuple(texts.LANGUAGES))


@router.get("/me/notices")
async def shown(services: Asked, viewer: Viewer, done: str = "") -> Response:
    """What holds now; who never said anything sees what is usual."""
    wish = await _wish(services, viewer)
    typed = {
        "email": wish.email if wish else "",
        "language": wish.language if wish else viewer.language,
        "at_once": _at_once(wish) if wish else Severity.URGENT.value,
        "digest": "on" if wish is None or wish.digest else "",
        "version": str(wish.version if wish else 0),
    }
    return _show(services, viewer, wish, Form(typed), done=done == "kept")


@router.post("/me/notices")
async def keep(request: Request, services: Asked, viewer: Viewer) -> Response:
    """They hold from the next alarm on. Written over only what this page has shown."""
    form = desk.form_of(await request.form())
    new = _understood(form, viewer)
    status = 422
    if new is not None:
        async with services.database.transaction() as tx:
            before = await letters.wishes(tx, viewer.operator_id)
            version = before[0].version if before else 0
            if form.get("version") == str(version):
                await letters.set_wish(tx, new)
                return desk.go("/me/notices?done=kept")
        problem = Problem("changed-meanwhile")
        form.wrong("form", said(problem, viewer.language))
        form = Form({**form.typed, "version": str(version)}, form.errors)
        status = problem.kind.http_status
    return _show(services, viewer, await _wish(services, viewer), form, status=status)


def _understood(form: Form, viewer: Visitor) -> Wish | None:
    """What somebody wants; None: the fields say what is wrong."""
    assert viewer.caller is not None
    say = desk.gettext(viewer)
    email, at_once = form.get("email"), form.get("at_once")
    if len(email) > MAIL_CHARS_MAX or re.fullmatch(MAIL, email) is None:
        form.wrong("email", say("One mail address, for instance zhang@property.example."))
    severity = next((one for one in Severity if one.value == at_once), None)
    if severity is None and at_once != NEVER:
        form.wrong("at_once", say("Choose from which alarms on."))
    if form.get("language") not in texts.LANGUAGES:
        form.wrong("language", say("Choose a language."))
    if form.errors:
        return None
    return Wish(
        operator_id=viewer.operator_id,
        sites=viewer.caller.operator.sites,
        email=email,
        language=form.get("language"),
        at_once=severity,
        digest=form.get("digest") == "on",
    )


def _at_once(wish: Wish) -> str:
    return NEVER if wish.at_once is None else wish.at_once.value


async def _wish(services: Services, viewer: Visitor) -> Wish | None:
    async with services.database.transaction() as tx:
        found = await letters.wishes(tx, viewer.operator_id)
    return found[0] if found else None


def _show(
    services: Services,
    viewer: Visitor,
    wish: Wish | None,
    form: Form,
    *,
    done: bool = False,
    status: int = 200,
) -> Response:
    view = NoticesView(
        form=form,
        mail_is_set=services.outgoing.mailer is not None,
        sent_now=wish is not None and (wish.at_once is not None or wish.digest),
        done=done,
    )
    return desk.show("notices.html", viewer, services, view, status=status)
