"""The second campaign: real time, real processes, real sockets, real `kill -9`; the same judge.

`python -m headend.trial.real --topups 500`. The virtual property runs as one process, `headend run`
as another. Clerks sell over HTTP while the head-end and its PostgreSQL are killed at random; they
press again with the same key until there is an answer. At the end the wires are calm, every order
has to end, and the meters' own books are compared with the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg

from headend.app import open_database
from headend.domain.clock import SystemClock
from headend.domain.roles import Role
from headend.domain.site_file import parse_site_file
from headend.services.importing import import_into
from headend.settings import Settings
from headend.store import people, places, readings
from headend.trial.judge import FINAL, Books, Witness, judge
from headend.trial.processes import Program, Town, free_port
from protocols.catalog import load_meter_types
from protocols.reading import Origin, Quantity, Reading
from simulators.metering import Forced
from simulators.town_plan import plan_town

CLERKS = 24  # each at a counter of its own, with its own meters
AMOUNT_TENS = (100, 4_000)  # whole ten fen; below what needs a second person
# Faults of each line. Late answers stay far inside the patience of every line of the property.
BAD_WIRES = {
    "request_lost": 0.02,
    "answer_lost": 0.02,
    "bit_error": 0.02,
    "noise": 0.03,
    "doubled": 0.02,
    "late": 0.03,
    "late_s_mean": 0.15,
    "reboot": 0.003,
    "reboot_s_mean": 1.0,
}
KILL_EVERY_S = (3.0, 9.0)
DATABASE_SHARE = 0.4  # of kills: PostgreSQL, not the head-end
AGAIN_S_MAX = 2.0
LOOK_S = 0.5
SETTLE_S_MAX = 900.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of the campaign."""

    topups: int = 0  # accepted
    confirmed: int = 0
    refused: int = 0  # answered with a no
    unanswered: int = 0  # presses without an answer, repeated
    headend_kills: int = 0
    postgres_kills: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


class Campaign:
    """One run: its processes, its clerks, its killer."""

    def __init__(self, folder: Path, topups: int, seed: int) -> None:
        self.outcome = Outcome()
        self._topups = topups
        self._seed = seed
        self._chance = random.Random(seed)
        dial_in_port = free_port()
        self._town = Town(folder / "town", dial_in_port, seed)
        self._program = Program(folder / "data", dial_in_port)
        self._token = ""
        self._paid_fen: dict[str, int] = {}
        self._left = itertools.count()

    async def run(self) -> Outcome:
        """All of it. Raises DidNotStart."""
        began = time.monotonic()
        try:
            truth = await self._town.start()
            meters = _usable(self._seed)
            await self._prepare(meters)
            await self._program.start()
            await self._set_wires(truth, BAD_WIRES)
            await self._bad_hours(meters)
            await self._set_wires(truth, {})
            await self._settle()
            await self._judge(meters)
        finally:
            await self._program.stop()
            await self._town.stop()
        self.outcome.headend_kills = self._program.kills
        self.outcome.postgres_kills = self._program.database_kills
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    async def _prepare(self, meters: Sequence[str]) -> None:
        """Import the property; what last night's collection knew; a cashier with a token."""
        text = (self._town.folder / "site.toml").read_text(encoding="utf-8")
        site = parse_site_file(text, "site.toml", load_meter_types())
        now = SystemClock().now()
        async with open_database(Settings(data_folder=self._program.data_folder)) as opened:
            await import_into(opened.database, site)
            async with opened.database.transaction() as tx:
                ids = {known.name: known.meter_id for known in await places.load_meters(tx)}
                looks = [await self._last_night(name, ids[name], now) for name in meters]
                await readings.store_readings(tx, looks)
                await people.add_operator(tx, "trial cashier", Role.CASHIER, at=now)
                cashier = await people.find_operator(tx, "trial cashier")
                assert cashier is not None
                self._token = await people.add_token(
                    tx, cashier, "trial", at=now, expires_at=now + timedelta(days=1)
                )

    async def _last_night(self, name: str, meter_id: int, now: datetime) -> Reading:
        seen = await self._town.ask(do="meter", name=name)
        at = now - timedelta(hours=1)
        values = {
            Quantity.PURCHASE_COUNT: seen["purchase_count"],
            Quantity.TOTAL_PURCHASED: seen["total_purchased_fen"],
            Quantity.REMAINING_CREDIT: seen["remaining_credit_fen"],
            Quantity.RELAY_CLOSED: int(seen["relay_closed"]),
        }
        return Reading(
            meter_id=meter_id, at=at, received_at=at, origin=Origin.POLLED, values=values
        )

    async def _set_wires(self, truth: dict[str, Any], rates: dict[str, float]) -> None:
        for line in truth["lines"]:
            with contextlib.suppress(OSError):  # lines without faults of their own
                await self._town.ask(do="faults", line=line["name"], rates=rates)

    # ---- the bad hours --------------------------------------------------------------------------

    async def _bad_hours(self, meters: Sequence[str]) -> None:
        killing = asyncio.create_task(self._kill())
        try:
            async with asyncio.TaskGroup() as clerks:
                for number in range(CLERKS):
                    clerks.create_task(self._clerk(list(meters[number::CLERKS])))
        finally:
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing

    async def _kill(self) -> None:
        """Never two deaths on top of each other: nothing could be sold in between."""
        while True:
            await asyncio.sleep(self._chance.uniform(*KILL_EVERY_S))
            if self._chance.random() < DATABASE_SHARE:
                self._program.kill_database()
            else:
                await self._program.kill()
                await self._program.start()

    async def _clerk(self, meters: list[str]) -> None:
        async with httpx.AsyncClient(
            trust_env=False, headers={"Authorization": f"Bearer {self._token}"}, timeout=20.0
        ) as client:
            while meters and next(self._left) < self._topups:
                name = self._chance.choice(meters)
                amount_fen = 10 * self._chance.randrange(*AMOUNT_TENS)
                if not await self._sell(client, name, amount_fen):
                    meters.remove(name)  # frozen or broken for good; the judge will say why

    async def _sell(self, client: httpx.AsyncClient, name: str, amount_fen: int) -> bool:
        """One sale, pressed until answered and watched until it ends."""
        key = uuid4()
        wish = {"meter": name, "amount_fen": amount_fen}
        presses = self._chance.choice((1, 1, 3))
        answers = await asyncio.gather(
            *(self._until_answered(client, key, wish) for _ in range(presses))
        )
        if len({answer.status_code < 300 for answer in answers}) != 1:
            self.outcome.broken.append(f"{name}: one sale was both accepted and refused")
        if answers[0].status_code >= 300:
            self.outcome.refused += 1
            return False
        self.outcome.topups += 1
        self._paid_fen[name] = self._paid_fen.get(name, 0) + amount_fen
        await self._until_ended(client, key)
        return True

    async def _until_answered(
        self, client: httpx.AsyncClient, key: UUID, wish: dict[str, Any]
    ) -> httpx.Response:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(
                    f"{self._program.url}/api/v1/topups",
                    json=wish,
                    headers={"Idempotency-Key": str(key)},
                )
                if answer.status_code < 500:
                    return answer
            self.outcome.unanswered += 1
            await asyncio.sleep(self._chance.uniform(0.1, AGAIN_S_MAX))

    async def _until_ended(self, client: httpx.AsyncClient, key: UUID) -> None:
        url = f"{self._program.url}/api/v1/commands/{key}"
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(url)
                if answer.status_code == 200 and answer.json()["state"] in (*FINAL, "escalated"):
                    return

    # ---- the end --------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Calm wires: until every order has ended, or patience has."""
        until = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < until:
            with contextlib.suppress(psycopg.OperationalError), self._asked() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM command WHERE state <> ALL(%s)", ([*FINAL, "escalated"],)
                ).fetchone()
                if row == (0,):
                    return
            await asyncio.sleep(LOOK_S)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self._program.conninfo(), autocommit=True) as connection:
            yield connection

    async def _judge(self, meters: Sequence[str]) -> None:
        with self._asked() as connection:
            books = Books.read(connection)
        witnesses = [await self._witness(name) for name in meters]
        self.outcome.broken += judge(witnesses, books, self._paid_fen)
        states = Counter(c.state for c in books.commands.values() if c.kind == "top_up")
        self.outcome.confirmed = states["confirmed"]
        if sum(states.values()) != self.outcome.topups:
            self.outcome.broken.append(
                f"{self.outcome.topups} top-ups were accepted, {sum(states.values())} are stored"
            )

    async def _witness(self, name: str) -> Witness:
        seen = await self._town.ask(do="meter", name=name)
        return Witness(
            name=name,
            own=tuple((taken["purchase_count"], taken["amount_fen"]) for taken in seen["applied"]),
            foreign=False,
            forced=Forced(seen["forced"]),
            credit_after_sale_fen=seen["remaining_credit_fen"],
        )


def _usable(seed: int) -> list[str]:
    """Meters that can be sold to: alive, of electricity, on wires whose slaves know the maker's own
    writes, and without a security chip, since nobody holds its key here."""
    lines = [
        line
        for line in plan_town(seed, has_broker=False).lines
        if not (line.is_dead or line.is_other_slave or line.speaks_645 or line.speaks_188)
    ]
    return [
        meter.name
        for line in lines
        for meter in line.meters
        if meter.gap is None and meter.measures is None
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. 0: nothing broken."""
    parser = argparse.ArgumentParser(prog="python -m headend.trial.real", description=__doc__)
    parser.add_argument("--topups", type=int, default=500, help="how many, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the property and of the deaths")
    wanted = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="headend-real-"))
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    try:
        outcome = asyncio.run(Campaign(folder, wanted.topups, wanted.seed).run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
