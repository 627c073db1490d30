"""Letters and short messages that wait, and how operators want to hear of alarms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from headend.domain.alarms import Severity
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How one operator hears of alarms. `at_once` None: only by the digest, or not at all."""

    operator_id: int
    sites: frozenset[int] | None
    email: str
    language: str
    at_once: Severity | None
    digest: bool
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Something written that waits to leave."""

    letter_id: UUID
    road: str  # mail, sms
    recipient: str
    subject: str
    body: str
    made_at: datetime
    tries: int


async def write(
    tx: Transaction,
    *,
    road: str,
    recipient: str,
    subject: str,
    body: str,
    about: str,
    at: datetime,
) -> bool:
    """Put it into the outbox; False when the same was written to the same before."""
    touched = await tx.execute(
        "INSERT INTO letter (road, recipient, subject, body, made_at, next_try_at, about)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        road,
        recipient,
        subject,
        body,
        at,
        at,
        about,
    )
    return touched == 1


async def written_since(tx: Transaction, road: str, recipient: str, since: datetime) -> int:
    """How many went to somebody since then, or wait to."""
    count: int = await tx.value(
        "SELECT count(*) FROM letter WHERE road = %s AND recipient = %s AND made_at >= %s",
        road,
        recipient,
        since,
    )
    return count


async def due(tx: Transaction, road: str, now: datetime, *, count: int = 50) -> list[Letter]:
    """What may be tried now, the oldest first."""
    rows = await tx.rows(
        "SELECT letter_id, road, recipient, subject, body, made_at, tries FROM letter"
        " WHERE state = 'waiting' AND road = %s AND next_try_at <= %s"
        " ORDER BY letter_no LIMIT %s",
        road,
        now,
        count,
    )
    return [
        Letter(letter_id=r[0], road=r[1], recipient=r[2], subject=r[3], body=r[4], made_at=r[5],
               tries=r[6])
        for r in rows
    ]  # fmt: skip


async def went(tx: Transaction, letter_id: UUID) -> None:
    """It was taken by whoever carries it on."""
    await tx.execute(
        "UPDATE letter SET state = 'sent', tries = tries + 1, last_error = '' WHERE letter_id = %s",
        letter_id,
    )


async def came_back(
    tx: Transaction, letter_id: UUID, error: str, *, next_try_at: datetime, is_dead: bool
) -> None:
    """It was not taken."""
    await tx.execute(
        "UPDATE letter SET state = %s, tries = tries + 1, last_error = %s, next_try_at = %s"
        " WHERE letter_id = %s",
        "dead" if is_dead else "waiting",
        error[:500],
        next_try_at,
        letter_id,
    )


async def wishes(tx: Transaction, operator_id: int | None = None) -> list[Wish]:
    """Of every operator who may still come in, or of one."""
    rows = await tx.rows(
        """
        SELECT operator_id, CASE WHEN all_sites THEN NULL ELSE ARRAY(SELECT site_id
                FROM operator_site WHERE operator_site.operator_id = operator.operator_id) END,
            email, language, at_once, digest, version
        FROM notice_wish JOIN operator USING (operator_id)
        WHERE disabled_at IS NULL
            AND (%(operator_id)s::integer IS NULL OR operator_id = %(operator_id)s)""",
        named={"operator_id": operator_id},
    )
    return [
        Wish(operator_id=r[0], sites=None if r[1] is None else frozenset(r[1]), email=r[2],
             language=r[3], at_once=None if r[4] == "never" else Severity(r[4]), digest=r[5],
             version=r[6])
        for r in rows
    ]  # fmt: skip


async def set_wish(tx: Transaction, wish: Wish) -> int:
    """How somebody wants to hear of alarms from now on; the version."""
    version: int = await tx.value(
        """
        INSERT INTO notice_wish (operator_id, email, language, at_once, digest)
        VALUES (%s, %s, %s, %s, %s) ON CONFLICT (operator_id) DO UPDATE SET
            email = excluded.email, language = excluded.language, at_once = excluded.at_once,
            digest = excluded.digest, version = notice_wish.version + 1
        RETURNING version""",
        wish.operator_id,
        wish.email,
        wish.language,
        wish.at_once.value if wish.at_once else "never",
        wish.digest,
    )
    return version


async def telephone_of(tx: Transaction, meter: str, site_id: int) -> str | None:
    """How the tenant of a meter is reached."""
    found: str | None = await tx.value(
        """
        SELECT contact FROM account JOIN meter USING (meter_id)
        WHERE meter.name = %s AND meter.site_id = %s AND account.kind = 'customer'
            AND account.closed_at IS NULL""",
        meter,
        site_id,
    )
    return found


def day_before(at: datetime) -> datetime:
    """The beginning of the last 24 hours: a day for what one person is written at most."""
    return at - timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """How letters of one road fare: mail, or short messages."""

    road: str
    waiting: int
    sent: int
    dead: int
    last_made_at: datetime
    last_error: str  # of the newest that is not sent


async def roads(tx: Transaction) -> list[Road]:
    """Each road on which something was ever written."""
    rows = await tx.rows(
        """
        SELECT road, count(*) FILTER (WHERE state = 'waiting'),
            count(*) FILTER (WHERE state = 'sent'), count(*) FILTER (WHERE state = 'dead'),
            max(made_at), coalesce((SELECT last_error FROM letter AS one
                WHERE one.road = letter.road AND one.state IN ('waiting', 'dead')
                    AND last_error <> '' ORDER BY letter_no DESC LIMIT 1), '')
        FROM letter GROUP BY road ORDER BY road"""
    )
    return [
        Road(road=r[0], waiting=r[1], sent=r[2], dead=r[3], last_made_at=r[4], last_error=r[5])
        for r in rows
    ]


async def send_again(tx: Transaction, road: str, at: datetime) -> int:
    """Try now what waits on a road and what was given up; how many letters that are."""
    return await tx.execute(
        "UPDATE letter SET state = 'waiting', next_try_at = %s,"
        " tries = CASE state WHEN 'dead' THEN 0 ELSE tries END"
        " WHERE road = %s AND state IN ('waiting', 'dead')",
        at,
        road,
    )
