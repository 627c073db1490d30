"""What leaves the house, webhooks, letters and messages, and whether the books would come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter, Request, Response

from headend.domain.outgoing import EVENT_KINDS, FAMILIES, URL_CHARS_MAX, secret_of, url_fault
from headend.domain.problems import Problem
from headend.services.safety import Safety, safety
from headend.services.services import Services
from headend.store import letters, outbox
from headend.store.database import Transaction
from headend.store.letters import Road
from headend.store.outbox import Delivery, Webhook
from headend.web import desk
from headend.web.api_events import KNOWN, is_theirs
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Subscriber, Visitor
from headend.web.told import said

router = APIRouter(include_in_schema=False)

NAME_MAX: Final = 80
DELIVERIES_SHOWN: Final = 50
POSITION_DIGITS_MAX: Final = 18
ROADS: Final = ("mail", "sms")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingView:
    """Webhooks that this visitor may see; letters and backups for who sees all properties."""

    hooks: Sequence[Webhook]
    roads: Sequence[Road]
    safe: Safety | None
    mail_is_set: bool
    sms_is_set: bool
    form: Form = field(default_factory=Form)
    families: Sequence[str] = FAMILIES
    kinds: Sequence[str] = EVENT_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class HookView:
    """One webhook, what waits and what was given up. `secret`: it was made just now."""

    hook: Webhook
    waiting: Sequence[Delivery]
    dead: Sequence[Delivery]
    form: Form = field(default_factory=Form)
    secret: str = ""


@router.get("/outgoing")
async def outgoing(services: Asked, visitor: Subscriber) -> Response:
    """Who is told of events and how that goes; backups and rehearsals."""
    return await _show(services, visitor, Form())


async def _show(services: Services, visitor: Visitor, form: Form, *, status: int = 200) -> Response:
    assert visitor.caller is not None
    sees_all = visitor.caller.operator.sites is None
    async with services.database.transaction() as tx:
        hooks = [one for one in await outbox.webhooks(tx) if is_theirs(one, visitor.caller)]
        view = OutgoingView(
            hooks=hooks,
            roads=await letters.roads(tx) if sees_all else (),
            safe=await safety(tx, services) if sees_all else None,
            mail_is_set=services.outgoing.mailer is not None,
            sms_is_set=services.outgoing.sms is not None,
            form=form,
        )
    return desk.show("outgoing.html", visitor, services, view, status=status)


@router.post("/outgoing")
async def subscribe(request: Request, services: Asked, visitor: Subscriber) -> Response:
    """A new webhook; the page that answers shows its secret, once."""
    form = desk.form_of(await request.form())
    say = desk.gettext(visitor)
    name, url = form.get("name"), form.get("url")
    kinds = form.get("kinds").replace(",", " ").split()
    if not name or len(name) > NAME_MAX or not name.isprintable():
        form.wrong("name", say("A name of 1 to 80 characters."))
    fault = url_fault(url[: URL_CHARS_MAX + 1], services.outgoing.hosts)
    if fault is not None:
        form.wrong("url", said(Problem("bad-webhook", detail=fault), visitor.language))
    if unknown := sorted(set(kinds) - KNOWN):
        form.wrong(
            "kinds", say("“%s” is no kind of event: choose from the list.") % unknown[0][:40]
        )
    if form.errors:
        return await _show(services, visitor, form, status=422)
    async with services.database.transaction() as tx:
        number = await outbox.add_webhook(
            tx, name=name, url=url, kinds=kinds, by=visitor.operator_id, at=services.clock.now()
        )
    secret = secret_of(services.outgoing.key, number)
    return await _show_hook(services, visitor, number, Form(), secret=secret)


@router.get("/outgoing/{webhook_id}")
async def webhook(services: Asked, visitor: Subscriber, webhook_id: int) -> Response:
    """One webhook; another's does not exist."""
    return await _show_hook(services, visitor, webhook_id, Form())


async def _show_hook(
    services: Services,
    visitor: Visitor,
    number: int,
    form: Form,
    *,
    secret: str = "",
    status: int = 200,
) -> Response:
    async with services.database.transaction() as tx:
        hook = await _hook(tx, visitor, number)
        view = HookView(
            hook=hook,
            waiting=await outbox.deliveries(tx, number, "waiting", count=DELIVERIES_SHOWN),
            dead=await outbox.deliveries(tx, number, "dead", count=DELIVERIES_SHOWN),
            form=form,
            secret=secret,
        )
    return desk.show("webhook.html", visitor, services, view, status=status)


async def _hook(tx: Transaction, visitor: Visitor, number: int) -> Webhook:
    assert visitor.caller is not None
    found = await outbox.webhooks(tx, webhook_id=number) if 0 <= number < 2**31 else []
    if not found or not is_theirs(found[0], visitor.caller):
        raise PageProblem(visitor, Problem("no-such-webhook", webhook=number))
    return found[0]


@router.post("/outgoing/{webhook_id}/{step}")
async def step(
    request: Request, services: Asked, visitor: Subscriber, webhook_id: int, step: str
) -> Response:
    """Try now, tell again from a cursor, or tell nothing more."""
    form = desk.form_of(await request.form())
    after = form.get("after")
    async with services.database.transaction() as tx:
        hook = await _hook(tx, visitor, webhook_id)
        if step not in ("retry", "replay", "disable"):
            raise PageProblem(visitor, Problem("bad-request", detail=step[:40]))
        if hook.disabled_at is not None:
            raise PageProblem(visitor, Problem("ended-already"))
        if step == "disable":
            await outbox.disable_webhook(tx, webhook_id, services.clock.now())
        elif step == "retry":
            await outbox.wake(tx, webhook_id)
        elif after.isascii() and after.isdecimal() and len(after) <= POSITION_DIGITS_MAX:
            await outbox.replay(tx, hook, int(after))
        else:
            say = desk.gettext(visitor)
            form.wrong("after", say("A position is a number of digits; 0 tells everything again."))
    if form.errors:
        return await _show_hook(services, visitor, webhook_id, form, status=422)
    return desk.go(f"/outgoing/{webhook_id}")


@router.post("/letters/{road}")
async def send_again(services: Asked, visitor: Subscriber, road: str) -> Response:
    """Try now the letters or messages that wait or were given up."""
    assert visitor.caller is not None
    if road not in ROADS or visitor.caller.operator.sites is not None:
        raise PageProblem(visitor, Problem("no-such-page"))
    async with services.database.transaction() as tx:
        await letters.send_again(tx, road, services.clock.now())
    return desk.go("/outgoing")
