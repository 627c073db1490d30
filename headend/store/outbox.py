"""The outbox: events get their positions and their receivers; what became of each delivery.

Giving positions, writing deliveries and writing letters is one transaction, so nothing is told to
one and forgotten for another, whenever the program dies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from headend.domain.outgoing import wants
from headend.store.database import Row, Transaction

AT_ONCE_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, as programs outside are told."""

    position: int
    event_id: UUID
    kind: str
    at: datetime
    site_id: int | None
    site: str | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A program that wants to be told. `sites`: the scope of who let it in; None: all."""

    webhook_id: int
    name: str
    url: str
    kinds: Sequence[str]
    operator: str
    operator_id: int
    sites: frozenset[int] | None
    created_at: datetime
    disabled_at: datetime | None
    failures: int
    rests_until: datetime | None
    waiting: int
    dead: int
    delivered_at: datetime | None  # when it last took an event


_EVENT: LiteralString = (
    "SELECT position, event_id, kind, at, outgoing_event.site_id, site.name, body"
    " FROM outgoing_event LEFT JOIN site USING (site_id)"
)


def _event(row: Row) -> Event:
    return Event(position=row[0], event_id=row[1], kind=row[2], at=row[3], site_id=row[4],
                 site=row[5], body=row[6])  # fmt: skip


async def give_positions(tx: Transaction) -> list[Event]:
    """Positions for what has none yet, in order, and its deliveries; the events that got one.

    One at a time: whoever comes second waits for the first.
    """
    last: int = await tx.value("SELECT last FROM outgoing_position FOR UPDATE")
    rows = await tx.rows(
        """
        WITH fresh AS (
            SELECT event_no, row_number() OVER (ORDER BY event_no) AS step FROM (
                SELECT event_no FROM outgoing_event WHERE position IS NULL
                ORDER BY event_no LIMIT %s) AS picked
        )
        UPDATE outgoing_event SET position = %s + step FROM fresh
        WHERE outgoing_event.event_no = fresh.event_no RETURNING position""",
        AT_ONCE_MAX,
        last,
    )
    if not rows:
        return []
    await tx.execute("UPDATE outgoing_position SET last = %s", last + len(rows))
    events = await events_after(tx, last, None, count=len(rows))
    for hook in await webhooks(tx, at_work=True):
        await tx.execute_many(
            "INSERT INTO webhook_delivery (webhook_id, position) VALUES (%s, %s)"
            " ON CONFLICT DO NOTHING",
            [(hook.webhook_id, event.position) for event in events if concerns(hook, event)],
        )
    return events


def concerns(hook: Webhook, event: Event) -> bool:
    """Whether a webhook is told of an event."""
    in_scope = hook.sites is None or event.site_id in hook.sites
    return in_scope and wants(hook.kinds, event.kind)


async def events_after(
    tx: Transaction, after: int, sites: Collection[int] | None, *, count: int, kind: str = ""
) -> list[Event]:
    """Events past a cursor, in order, inside a scope. `kind`: of this kind or family."""
    rows = await tx.rows(
        _EVENT + " WHERE position > %(after)s"
        " AND (%(sites)s::integer[] IS NULL OR outgoing_event.site_id = ANY(%(sites)s))"
        " AND (%(kind)s = '' OR kind = %(kind)s OR split_part(kind, '.', 1) = %(kind)s)"
        " ORDER BY position LIMIT %(count)s",
        named={
            "after": after,
            "sites": None if sites is None else list(sites),
            "kind": kind,
            "count": count,
        },
    )
    return [_event(row) for row in rows]


async def webhooks(
    tx: Transaction, *, at_work: bool = False, webhook_id: int | None = None
) -> list[Webhook]:
    """Those at work, or all; or one by its number."""
    rows = await tx.rows(
        """
        SELECT webhook_id, webhook.name, url, kinds, operator.name, operator_id,
            CASE WHEN all_sites THEN NULL ELSE ARRAY(SELECT site_id FROM operator_site
                WHERE operator_site.operator_id = operator.operator_id) END,
            webhook.created_at, webhook.disabled_at, failures, rests_until,
            (SELECT count(*) FROM webhook_delivery AS d
                WHERE d.webhook_id = webhook.webhook_id AND state = 'waiting'),
            (SELECT count(*) FROM webhook_delivery AS d
                WHERE d.webhook_id = webhook.webhook_id AND state = 'dead'), delivered_at
        FROM webhook JOIN operator USING (operator_id)
        WHERE (NOT %(at_work)s OR webhook.disabled_at IS NULL AND operator.disabled_at IS NULL)
            AND (%(webhook_id)s::bigint IS NULL OR webhook_id = %(webhook_id)s)
        ORDER BY webhook_id""",
        named={"at_work": at_work, "webhook_id": webhook_id},
    )
    return [
        Webhook(webhook_id=r[0], name=r[1], url=r[2], kinds=r[3], operator=r[4], operator_id=r[5],
                sites=None if r[6] is None else frozenset(r[6]), created_at=r[7],
                disabled_at=r[8], failures=r[9], rests_until=r[10], waiting=r[11], dead=r[12],
                delivered_at=r[13])
        for r in rows
    ]  # fmt: skip


async def add_webhook(
    tx: Transaction, *, name: str, url: str, kinds: Sequence[str], by: int, at: datetime
) -> int:
    """A new one; it is told of what happens from now on."""
    number: int = await tx.value(
        "INSERT INTO webhook (name, url, kinds, operator_id, created_at)"
        " VALUES (%s, %s, %s, %s, %s) RETURNING webhook_id",
        name,
        url,
        list(kinds),
        by,
        at,
    )
    return number


async def disable_webhook(tx: Transaction, webhook_id: int, at: datetime) -> None:
    """Nothing more goes there."""
    await tx.execute(
        "UPDATE webhook SET disabled_at = coalesce(disabled_at, %s) WHERE webhook_id = %s",
        at,
        webhook_id,
    )


async def wake(tx: Transaction, webhook_id: int) -> None:
    """Try now what waits, instead of when its rest is over."""
    await tx.execute("UPDATE webhook SET rests_until = NULL WHERE webhook_id = %s", webhook_id)


async def replay(tx: Transaction, hook: Webhook, after: int) -> int:
    """Tell everything past a cursor again; how many events that are."""
    waiting, wanted = 0, after
    while events := await events_after(tx, wanted, hook.sites, count=AT_ONCE_MAX):
        chosen = [(hook.webhook_id, e.position) for e in events if concerns(hook, e)]
        await tx.execute_many(
            "INSERT INTO webhook_delivery (webhook_id, position) VALUES (%s, %s)"
            " ON CONFLICT (webhook_id, position) DO UPDATE SET state = 'waiting', tries = 0,"
            " first_tried_at = NULL, last_error = ''",
            chosen,
        )
        waiting, wanted = waiting + len(chosen), events[-1].position
    await tx.execute(
        "UPDATE webhook SET rests_until = NULL, failures = 0 WHERE webhook_id = %s",
        hook.webhook_id,
    )
    return waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one webhook."""

    event: Event
    state: str
    tries: int
    first_tried_at: datetime | None
    last_error: str


async def deliveries(
    tx: Transaction, webhook_id: int, state: str, *, after: int = 0, count: int = 100
) -> list[Delivery]:
    """In their order, in one state."""
    rows = await tx.rows(
        "SELECT position, event_id, kind, at, e.site_id, site.name, body, d.state, tries,"
        " first_tried_at, last_error FROM webhook_delivery AS d"
        " JOIN outgoing_event AS e USING (position) LEFT JOIN site ON site.site_id = e.site_id"
        " WHERE webhook_id = %s AND d.state = %s AND position > %s ORDER BY position LIMIT %s",
        webhook_id,
        state,
        after,
        count,
    )
    return [
        Delivery(event=_event(r), state=r[7], tries=r[8], first_tried_at=r[9], last_error=r[10])
        for r in rows
    ]


async def delivered(tx: Transaction, webhook_id: int, position: int, at: datetime) -> None:
    """The receiver has it."""
    await tx.execute(
        "UPDATE webhook_delivery SET state = 'delivered', tries = tries + 1, last_error = '',"
        " first_tried_at = coalesce(first_tried_at, %s) WHERE webhook_id = %s AND position = %s",
        at,
        webhook_id,
        position,
    )
    await tx.execute(
        "UPDATE webhook SET failures = 0, rests_until = NULL, delivered_at = %s"
        " WHERE webhook_id = %s",
        at,
        webhook_id,
    )


async def not_delivered(
    tx: Transaction,
    webhook_id: int,
    position: int,
    error: str,
    *,
    at: datetime,
    rests_until: datetime,
    is_dead: bool,
) -> None:
    """The receiver did not take it; the webhook rests."""
    await tx.execute(
        "UPDATE webhook_delivery SET state = %s, tries = tries + 1, last_error = %s,"
        " first_tried_at = coalesce(first_tried_at, %s) WHERE webhook_id = %s AND position = %s",
        "dead" if is_dead else "waiting",
        error,
        at,
        webhook_id,
        position,
    )
    await tx.execute(
        "UPDATE webhook SET failures = failures + 1, rests_until = %s WHERE webhook_id = %s",
        rests_until,
        webhook_id,
    )
