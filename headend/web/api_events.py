"""Events for programs: read on from a cursor, or be told by a signed webhook (docs/webhooks.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.alarms import Severity
from headend.domain.outgoing import EVENT_KINDS, FAMILIES, secret_of, url_fault
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.outgoing import event_record
from headend.store import letters, outbox
from headend.store.database import Transaction
from headend.store.letters import Wish
from headend.store.outbox import Webhook
from headend.web.auth import Subscriber, Viewer
from headend.web.common import Asked, Reason
from headend.web.edits import NUMBER_MAX, After, IfMatch, Limit, Page, cut, same, tag

router = APIRouter(prefix="/api/v1", tags=["events"])

WebhookId = Annotated[int, Path(ge=0, le=2**31 - 1)]
KNOWN = frozenset((*EVENT_KINDS, *FAMILIES))
MAIL = r"^[^@\s<>,;\x00-\x1f]{1,64}@[^@\s<>,;\x00-\x1f]{1,190}$"
MAIL_CHARS_MAX = 254


class NewWebhook(BaseModel):
    """Where events go, and which: "sale" is every kind that begins so; none is all of them."""

    model_config = ConfigDict(extra="forbid")
    name: Reason = Field(examples=["accounting"])
    url: str = Field(max_length=500, examples=["https://accounting.example/headend"])
    kinds: list[str] = Field(default_factory=list, max_length=50, examples=[["sale", "alarm"]])


class Replay(BaseModel):
    """Everything past this position is told again; the receiver knows it by its id."""

    model_config = ConfigDict(extra="forbid")
    after: int = Field(ge=0, le=NUMBER_MAX, examples=[1200])


class Notices(BaseModel):
    """How somebody hears of alarms: at once from a severity on, and each morning what stands."""

    model_config = ConfigDict(extra="forbid")
    email: str = Field(max_length=MAIL_CHARS_MAX, pattern=MAIL, examples=["zhang@property.example"])
    language: Literal["zh", "en"] = "zh"
    at_once: Severity | None = Field(default=Severity.URGENT, examples=["urgent"])
    digest: bool = True


def webhook_record(hook: Webhook) -> dict[str, Any]:
    """A webhook for programs; its secret was shown once."""
    return {
        "webhook_id": hook.webhook_id,
        "name": hook.name,
        "url": hook.url,
        "kinds": list(hook.kinds),
        "operator": hook.operator,
        "created_at": hook.created_at.isoformat(),
        "disabled_at": None if hook.disabled_at is None else hook.disabled_at.isoformat(),
        "failures": hook.failures,
        "rests_until": None if hook.rests_until is None else hook.rests_until.isoformat(),
        "waiting": hook.waiting,
        "dead": hook.dead,
        "delivered_at": None if hook.delivered_at is None else hook.delivered_at.isoformat(),
    }


@router.get("/events", summary="What happened, read on from a cursor")
async def events(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: After = 0,
    limit: Limit = 100,
    kind: Annotated[str, Query(max_length=40, description="a kind, or a family of them")] = "",
) -> list[dict[str, Any]]:
    """In the order of `position`, without gaps for who reads on from the last one."""
    if kind and kind not in KNOWN:
        raise Problem("bad-request", detail=f"{kind} is no kind of event")
    async with services.database.transaction() as tx:
        found = await outbox.events_after(
            tx, after, viewer.operator.sites, count=limit + 1, kind=kind
        )
    last = found[limit - 1].position if len(found) > limit else None
    return [event_record(one) for one in cut(request, response, found, last, limit)]


@router.get("/webhooks", summary="Who is told of events")
async def webhooks(services: Asked, subscriber: Subscriber, page: Page) -> list[dict[str, Any]]:
    """Your own; those of others for who sees all properties."""
    async with services.database.transaction() as tx:
        found = await outbox.webhooks(tx)
    mine = [one for one in found if is_theirs(one, subscriber)]
    return [webhook_record(one) for one in page.of(mine, key=lambda one: f"{one.webhook_id:012}")]


@router.post("/webhooks", summary="Be told of events", status_code=201)
async def subscribe(services: Asked, subscriber: Subscriber, wanted: NewWebhook) -> dict[str, Any]:
    """`secret` is shown this once: what every delivery is signed with."""
    fault = url_fault(wanted.url, services.outgoing.hosts)
    unknown = sorted(set(wanted.kinds) - KNOWN)
    if fault is None and unknown:
        fault = f"{unknown[0]} is no kind of event"
    if fault is not None:
        raise Problem("bad-webhook", detail=fault)
    async with services.database.transaction() as tx:
        number = await outbox.add_webhook(
            tx,
            name=wanted.name,
            url=wanted.url,
            kinds=wanted.kinds,
            by=subscriber.operator.operator_id,
            at=services.clock.now(),
        )
        made = await _webhook(tx, number, subscriber)
    return webhook_record(made) | {"secret": secret_of(services.outgoing.key, number)}


@router.get("/webhooks/{webhook_id}", summary="One webhook and what it could not be told")
async def webhook(services: Asked, subscriber: Subscriber, webhook_id: WebhookId) -> dict[str, Any]:
    """`dead_letters`: events that were given up, the first hundred. Replay tells them again."""
    async with services.database.transaction() as tx:
        found = await _webhook(tx, webhook_id, subscriber)
        dead = await outbox.deliveries(tx, webhook_id, "dead")
        waiting = await outbox.deliveries(tx, webhook_id, "waiting", count=1)
    return webhook_record(found) | {
        "last_error": waiting[0].last_error if waiting else "",
        "dead_letters": [
            event_record(one.event) | {"tries": one.tries, "last_error": one.last_error}
            for one in dead
        ],
    }


@router.post("/webhooks/{webhook_id}/disable", summary="Tell it nothing more")
async def disable(services: Asked, subscriber: Subscriber, webhook_id: WebhookId) -> dict[str, Any]:
    """For good; make a new one to go on."""
    async with services.database.transaction() as tx:
        await _webhook(tx, webhook_id, subscriber)
        await outbox.disable_webhook(tx, webhook_id, services.clock.now())
        return webhook_record(await _webhook(tx, webhook_id, subscriber))


@router.post("/webhooks/{webhook_id}/replay", summary="Tell it again from a cursor")
async def replay(
    services: Asked, subscriber: Subscriber, webhook_id: WebhookId, wanted: Replay
) -> dict[str, Any]:
    """Dead letters too."""
    async with services.database.transaction() as tx:
        found = await _webhook(tx, webhook_id, subscriber)
        if found.disabled_at is not None:
            raise Problem("ended-already")
        count = await outbox.replay(tx, found, wanted.after)
    return {"webhook_id": webhook_id, "events": count}


@router.get("/notices", summary="How you hear of alarms")
async def notices(services: Asked, viewer: Viewer, response: Response) -> dict[str, Any]:
    """By mail; null where you never said."""
    async with services.database.transaction() as tx:
        found = await letters.wishes(tx, viewer.operator.operator_id)
    tag(response, found[0].version if found else 0)
    return _notices(found[0] if found else None)


@router.put("/notices", summary="Say how you want to hear of alarms")
async def set_notices(
    services: Asked, viewer: Viewer, wanted: Notices, version: IfMatch, response: Response
) -> dict[str, Any]:
    """Yours alone. `at_once` null: by the digest only."""
    wish = Wish(
        operator_id=viewer.operator.operator_id,
        sites=viewer.operator.sites,
        email=wanted.email,
        language=wanted.language,
        at_once=wanted.at_once,
        digest=wanted.digest,
    )
    async with services.database.transaction() as tx:
        now = await letters.wishes(tx, wish.operator_id)
        same(version, now[0].version if now else 0)
        tag(response, await letters.set_wish(tx, wish))
    return _notices(wish)


def _notices(wish: Wish | None) -> dict[str, Any]:
    if wish is None:
        return {"email": None, "language": "zh", "at_once": None, "digest": False}
    return {
        "email": wish.email,
        "language": wish.language,
        "at_once": None if wish.at_once is None else wish.at_once.value,
        "digest": wish.digest,
    }


def is_theirs(hook: Webhook, caller: Caller) -> bool:
    """Whether a caller may see and change this webhook."""
    operator = caller.operator
    return operator.sites is None or hook.operator_id == operator.operator_id


async def _webhook(tx: Transaction, number: int, caller: Caller) -> Webhook:
    found = await outbox.webhooks(tx, webhook_id=number)
    if not found or not is_theirs(found[0], caller):
        raise Problem("no-such-webhook", webhook=number)
    return found[0]
