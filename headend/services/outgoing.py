"""Everything that leaves the house: webhooks, letters, short messages, out of one outbox.

An event is in the outbox by the transaction that made it true. Here it gets its position, its
deliveries and its letters, in one transaction. Then each is sent; only an answer makes it sent. A
program that dies between the answer and its note sends once more: the id is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time, tzinfo
from pathlib import Path
from typing import Any, Final

import httpx

from headend.domain.alarms import AlarmKind, Severity
from headend.domain.clock import Clock
from headend.domain.outgoing import (
    GIVE_UP_AFTER,
    Sms,
    alarm_mail,
    is_telephone,
    low_credit_text,
    retry_after,
    secret_of,
    signature,
    url_fault,
)
from headend.domain.problems import Problem
from headend.services.mail import Mailer
from headend.services.sms import SmsRoad
from headend.store import alarms, letters, outbox
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.store.letters import Letter, Wish
from headend.store.outbox import Delivery, Event, Webhook

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
ANSWER_S_MAX: Final = 10.0
A_TURN: Final = 20  # deliveries of one webhook before the others are looked at again
DIGEST_AT: Final = time(8, 0)
WARNINGS: Final = (AlarmKind.LOW_CREDIT.value, AlarmKind.VERY_LOW_CREDIT.value)
_RANK: Final = (Severity.NOTICE, Severity.WARNING, Severity.URGENT)
Say = Callable[[object, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """By which ways something leaves. None: not set up, nothing is written for it."""

    key: bytes
    say: Say  # the word of a kind in a language
    hosts: frozenset[str] = frozenset()
    mailer: Mailer | None = None
    sms: SmsRoad | None = None
    sms_language: str = "zh"
    sms_a_day_max: int = 2
    zone: tzinfo | None = None


def outgoing_key(folder: Path) -> bytes:
    """The key all webhook secrets come from; made when there is none. Raises OSError."""
    path = folder / "secrets" / "outgoing.key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        part = path.with_suffix(f".{os.getpid()}.part")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # whole, or somebody else's whole one stays
        finally:
            part.unlink()
    return path.read_bytes()


@dataclass(slots=True)
class Outgoing:
    """One for each process; `run` it."""

    database: Database
    clock: Clock
    roads: Roads
    http: httpx.AsyncClient = field(
        # No redirects: an address was looked at, and another one was not.
        default_factory=lambda: httpx.AsyncClient(
            timeout=ANSWER_S_MAX, follow_redirects=False, trust_env=False
        )
    )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(DatabaseAway):  # the database has said so itself
                await self.turn()
            await asyncio.sleep(LOOK_EVERY_S)

    async def turn(self) -> int:
        """One look; how many things left."""
        at = self.clock.now()
        async with self.database.transaction() as tx:
            for event in await outbox.give_positions(tx):
                if event.kind == "alarm.raised":
                    await self._write_about(tx, event, at)
            await self._digests(tx, at)
            hooks = await outbox.webhooks(tx, at_work=True)
        ready = [h for h in hooks if h.waiting and (h.rests_until or at) <= at]
        gone = sum(await asyncio.gather(*(self._tell(hook) for hook in ready)))
        return gone + await self._send_letters(at)

    # ---- webhooks -------------------------------------------------------------------------------

    async def _tell(self, hook: Webhook) -> int:
        async with self.database.transaction() as tx:
            waiting = await outbox.deliveries(tx, hook.webhook_id, "waiting", count=A_TURN)
        for done, delivery in enumerate(waiting):
            error = await self._post(hook, delivery.event)
            async with self.database.transaction() as tx:
                if error is None:
                    await outbox.delivered(
                        tx, hook.webhook_id, delivery.event.position, self.clock.now()
                    )
                else:
                    await self._failed(tx, hook, delivery, error)
                    return done
        return len(waiting)

    async def _post(self, hook: Webhook, event: Event) -> str | None:
        """None when it was taken; else why not."""
        if (fault := url_fault(hook.url, self.roads.hosts)) is not None:
            return fault
        body = json.dumps(event_record(event), ensure_ascii=False).encode()
        timestamp = str(int(self.clock.now().timestamp()))
        headers = {
            "content-type": "application/json",
            "headend-event-id": str(event.event_id),
            "headend-timestamp": timestamp,
            "headend-signature": signature(
                secret_of(self.roads.key, hook.webhook_id), timestamp, body
            ),
        }
        try:
            async with self.http.stream("POST", hook.url, content=body, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__
        return None if 200 <= status < 300 else f"it answered {status}"

    async def _failed(self, tx: Transaction, hook: Webhook, delivery: Delivery, error: str) -> None:
        at = self.clock.now()
        is_dead = at - (delivery.first_tried_at or at) >= GIVE_UP_AFTER
        if hook.failures == 0:
            log.warning("webhook %s does not take events: %s", hook.name, error)
        await outbox.not_delivered(
            tx,
            hook.webhook_id,
            delivery.event.position,
            error[:500],
            at=at,
            rests_until=at + retry_after(hook.failures + 1),
            is_dead=is_dead,
        )
        if is_dead:
            detail = f"webhook {hook.name} takes nothing since {GIVE_UP_AFTER.days} days: {error}"
            await alarms.raise_alarm(tx, AlarmKind.DELIVERY_GIVEN_UP, None, detail, at)

    # ---- letters --------------------------------------------------------------------------------

    async def _write_about(self, tx: Transaction, event: Event, at: datetime) -> None:
        """At once to whoever wants it at once, and to the tenant whose credit runs low."""
        body = event.body
        if self.roads.mailer is not None:
            for wish in await letters.wishes(tx):
                if _at_once(wish, event):
                    subject, text = alarm_mail(
                        wish.language,
                        word=self.roads.say(AlarmKind(body["code"]), wish.language),
                        where=body["meter"] or body["gateway"] or event.site or "–",
                        detail=body["detail"],
                        at=event.at,
                    )
                    await letters.write(
                        tx, road="mail", recipient=wish.email, subject=subject, body=text,
                        about=f"event {event.event_id}", at=at,
                    )  # fmt: skip
        if self.roads.sms is not None and body["code"] in WARNINGS:
            await self._warn_tenant(tx, event, at)

    async def _warn_tenant(self, tx: Transaction, event: Event, at: datetime) -> None:
        body, site_id = event.body, event.site_id
        telephone = None
        if site_id is not None and body["meter"]:
            telephone = await letters.telephone_of(tx, body["meter"], site_id)
        if telephone is None or not is_telephone(telephone):
            return
        before = await letters.written_since(tx, "sms", telephone, letters.day_before(at))
        if before >= self.roads.sms_a_day_max:
            log.info("no more messages today to the tenant of %s", body["meter"])
            return
        text = low_credit_text(
            self.roads.sms_language, AlarmKind(body["code"]), body["meter"], body["detail"]
        )
        await letters.write(
            tx, road="sms", recipient=telephone, subject="", body=text,
            about=f"event {event.event_id}", at=at,
        )  # fmt: skip

    async def _digests(self, tx: Transaction, at: datetime) -> None:
        """Each morning one letter with everything that stands, where anything does."""
        local = at.astimezone(self.roads.zone)
        if self.roads.mailer is None or local.time() < DIGEST_AT:
            return
        for wish in await letters.wishes(tx):
            standing = await alarms.standing(tx, wish.sites) if wish.digest else []
            if not standing:
                continue
            lines = [
                f"{one.raised_at:%Y-%m-%d %H:%M} UTC  "
                f"{self.roads.say(AlarmKind(one.code), wish.language)}  "
                f"{one.room or one.meter or one.gateway or '–'}  {one.detail}"
                for one in standing
            ]
            count = len(standing)
            title = f"{count} 条告警" if wish.language == "zh" else f"{count} alarms stand"
            await letters.write(
                tx, road="mail", recipient=wish.email, subject=title, body="\n".join(lines) + "\n",
                about=f"digest {local.date()}", at=at,
            )  # fmt: skip

    async def _send_letters(self, at: datetime) -> int:
        async with self.database.transaction() as tx:
            waiting = [
                *(await letters.due(tx, "mail", at) if self.roads.mailer else ()),
                *(await letters.due(tx, "sms", at) if self.roads.sms else ()),
            ]
        for letter in waiting:
            error = await self._carry(letter)
            async with self.database.transaction() as tx:
                if error is None:
                    await letters.went(tx, letter.letter_id)
                    continue
                log.warning("%s to %s did not leave: %s", letter.road, letter.recipient, error)
                now = self.clock.now()
                await letters.came_back(
                    tx, letter.letter_id, error,
                    next_try_at=now + retry_after(letter.tries + 1),
                    is_dead=now - letter.made_at >= GIVE_UP_AFTER,
                )  # fmt: skip
        return len(waiting)

    async def _carry(self, letter: Letter) -> str | None:
        try:
            if letter.road == "mail" and self.roads.mailer is not None:
                await self.roads.mailer.send(letter)
            elif self.roads.sms is not None:
                await self.roads.sms.send(
                    Sms(message_id=str(letter.letter_id), telephone=letter.recipient,
                        text=letter.body)
                )  # fmt: skip
        except Problem as problem:
            return str(problem)
        return None


def _at_once(wish: Wish, event: Event) -> bool:
    if wish.at_once is None or not (wish.sites is None or event.site_id in wish.sites):
        return False
    return _RANK.index(Severity(event.body["severity"])) >= _RANK.index(wish.at_once)


def event_record(event: Event) -> dict[str, Any]:
    """An event as programs get it (docs/webhooks.md)."""
    return {
        "id": str(event.event_id),
        "position": event.position,
        "kind": event.kind,
        "at": event.at.isoformat(),
        "site": event.site,
        "data": event.body,
    }
