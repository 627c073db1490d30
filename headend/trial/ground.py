"""The ground every seed stands on: one database with the trial's site, swept clean in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from psycopg import sql

from headend.services.importing import import_into
from headend.store import readings
from headend.store.database import Database
from headend.trial.steps import Sessions, StepDatabase, Untroubled
from headend.trial.world import World, trial_site
from protocols.catalog import load_meter_types
from protocols.reading import Origin, Quantity, Reading

# Who orders and who approves; two different persons.
OPERATORS = (("trial manager", "manager"), ("trial cashier", "cashier"), ("trial admin", "admin"))
# Swept rows leave room behind; taken back this often, in seeds.
VACUUM_EVERY = 200
# The night before: what a head-end knows of its meters when a day begins.
LAST_NIGHT = timedelta(hours=3)


class Ground:
    """A prepared database and its sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        rows = sessions.admin.execute("SELECT name, meter_id FROM meter").fetchall()
        self.meter_ids: dict[str, int] = dict(rows)
        rows = sessions.admin.execute("SELECT role, operator_id FROM operator").fetchall()
        self.operators: dict[str, int] = dict(rows)
        self.names = {number: name for name, number in self.meter_ids.items()}
        self._sweep = _sweeping(sessions)
        self._swept = 0

    def sweep(self) -> None:
        """Before a seed: no order, no money, no reading; sessions open."""
        self.sessions.reset()
        self.sessions.admin.execute(self._sweep)
        self._swept += 1
        if self._swept % VACUUM_EVERY == 0:
            self.sessions.admin.execute("VACUUM")
        asyncio.run(self.sessions.fill())

    async def remember_last_night(self, world: World) -> None:
        """One reading of each meter, as last night's collection left it."""
        at = world.clock.now() - LAST_NIGHT
        looks = []
        for name, meter in world.meters.items():
            look = meter.meter.look()
            values = {
                Quantity.PURCHASE_COUNT: look.purchase_count,
                Quantity.TOTAL_PURCHASED: look.total_purchased_fen,
                Quantity.REMAINING_CREDIT: look.remaining_fen,
                Quantity.RELAY_CLOSED: (1 if meter.meter.phases == 1 else 7) * look.relay_closed,
                Quantity.ENERGY: 0,
            }
            looks.append(
                Reading(
                    meter_id=self.meter_ids[name],
                    at=at,
                    received_at=at,
                    origin=Origin.POLLED,
                    values=values,
                )
            )
        async with StepDatabase(self.sessions, Untroubled()).transaction() as tx:
            await readings.store_readings(tx, looks)


@contextmanager
def ground_on(conninfo: str) -> Iterator[Ground]:
    """Prepare a migrated, empty database. Its tables are this trial's alone."""
    asyncio.run(_settle(conninfo))
    sessions = Sessions(conninfo)
    try:
        for name, role in OPERATORS:
            sessions.admin.execute(
                "INSERT INTO operator (name, person, role, all_sites, created_at)"
                " VALUES (%s, %s, %s, true, now())",
                (name, name, role),
            )
        yield Ground(sessions)
    finally:
        asyncio.run(sessions.close())


async def _settle(conninfo: str) -> None:
    database = Database(conninfo)
    await database.open()
    try:
        await import_into(database, trial_site(load_meter_types()))
    finally:
        await database.close()


def _sweeping(sessions: Sessions) -> sql.Composed:
    """One statement that empties every table that is empty now. Evidence is append-only for the
    product; only here, past its triggers, a seed is forgotten."""
    names = sessions.admin.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
    ).fetchall()
    empty = [
        name
        for (name,) in names
        if sessions.admin.execute(
            sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(sql.Identifier(name))
        ).fetchone()
        == (True,)
    ]
    deletes = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in empty]
    return sql.SQL("; ").join(
        [
            sql.SQL("SET session_replication_role = replica"),
            *deletes,
            sql.SQL("SET session_replication_role = origin"),
        ]
    )
