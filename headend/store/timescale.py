"""TimescaleDB, where the server has it: the same tables and names, a tenth of the space.

A database without readings adopts it by itself, since nothing has to be moved. One with readings
stays as it is until somebody asks (`headend migrate --adopt-timescale`): moving years of readings
takes minutes during which nothing can be stored, needs their space a second time, and is not undone
by taking the extension away again. Its licence keeps it optional for ever.
"""

from __future__ import annotations

import enum
import logging

import psycopg
from psycopg import errors as pg_errors

from headend.store.database import Row

log = logging.getLogger(__name__)

# Compressing a chunk blocks inserts into it for seconds, and back-filling reaches back some weeks:
# wait until a chunk is quiet.
COMPRESS_AFTER_DAYS = 35
CHUNK_DAYS = 7


class Timescale(enum.Enum):
    """What a database has to do with TimescaleDB."""

    UNAVAILABLE = "unavailable"  # not on this server, not loaded there, or under another licence
    AVAILABLE = "available"  # could be adopted
    ADOPTED = "adopted"


async def state(connection: psycopg.AsyncConnection[Row]) -> Timescale:
    """Look, change nothing."""
    # This setting exists only where the library was loaded at the server's start.
    cursor = await connection.execute(
        """
        SELECT current_setting('timescaledb.disable_load', true) IS NOT NULL
            AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
            (SELECT relkind FROM pg_class WHERE oid = 'reading'::regclass) = 'r'"""
    )
    row = await cursor.fetchone()
    assert row is not None, "one row always"
    available, is_hypertable = row
    if is_hypertable:  # elsewhere the table is partitioned by us
        return Timescale.ADOPTED
    return Timescale.AVAILABLE if available else Timescale.UNAVAILABLE


async def adopt(connection: psycopg.AsyncConnection[Row], *, move_readings: bool) -> Timescale:
    """Take TimescaleDB into use if that is possible; returns how things stand afterwards.

    Without `move_readings` only a database without readings is changed. One transaction: after a
    failure everything is as before. Safe to call again at any time.
    """
    found = await state(connection)
    if found is not Timescale.AVAILABLE:
        return found
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM reading)")
    row = await cursor.fetchone()
    if row is not None and row[0] and not move_readings:
        log.info(
            "this server has TimescaleDB: `headend migrate --adopt-timescale` moves the readings "
            "into it, at a quiet hour"
        )
        return found
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except pg_errors.InsufficientPrivilege:
        log.info(
            "this server has TimescaleDB, but this user may not create the extension: "
            "plain tables are used"
        )
        return Timescale.UNAVAILABLE
    cursor = await connection.execute("SHOW timescaledb.license")
    if await cursor.fetchone() != ("timescale",):
        # Under "apache" there is no columnstore and no continuous aggregate: not worth the move.
        log.info("TimescaleDB on this server has the licence apache: plain tables are used")
        return Timescale.UNAVAILABLE
    async with connection.transaction():
        for statement in _ADOPT:
            await connection.execute(statement)
        await _make_day_view_again(connection)
    log.info("readings are kept by TimescaleDB now")
    return Timescale.ADOPTED


async def _make_day_view_again(connection: psycopg.AsyncConnection[Row]) -> None:
    """The view reading_day as its migration made it, over the new table of the same name."""
    cursor = await connection.execute("SELECT definition FROM reading_day_was")
    row = await cursor.fetchone()
    assert row is not None, "kept a moment ago"
    await connection.execute(f"CREATE VIEW reading_day AS {row[0]}")


_ADOPT = (
    "LOCK TABLE reading IN ACCESS EXCLUSIVE MODE",
    """CREATE TEMP TABLE reading_day_was ON COMMIT DROP AS
        SELECT pg_get_viewdef('reading_day'::regclass) AS definition""",
    "DROP VIEW reading_day, reading_hour",
    "ALTER TABLE reading RENAME TO reading_plain",
    """ALTER TABLE reading_plain RENAME CONSTRAINT a_meter_has_one_reading_an_instant
        TO a_meter_had_one_reading_an_instant""",
    """CREATE TABLE reading (
        LIKE reading_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
        CONSTRAINT a_meter_has_one_reading_an_instant PRIMARY KEY (meter_id, at))""",
    f"""SELECT create_hypertable('reading', by_range('at', INTERVAL '{CHUNK_DAYS} days'),
        create_default_indexes => false)""",
    "INSERT INTO reading SELECT * FROM reading_plain",
    "DROP TABLE reading_plain",
    """ALTER TABLE reading SET (timescaledb.enable_columnstore,
        timescaledb.segmentby = 'meter_id', timescaledb.orderby = 'at')""",
    f"CALL add_columnstore_policy('reading', after => INTERVAL '{COMPRESS_AFTER_DAYS} days')",
    """CREATE MATERIALIZED VIEW reading_hour
        WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
        SELECT
            meter_id,
            time_bucket('1 hour', at) AS hour,
            min(energy_wh) AS energy_wh_min,
            max(energy_wh) AS energy_wh_max,
            max(power_w) AS power_w_max,
            min(remaining_credit_fen) AS remaining_credit_fen_min,
            count(*) AS readings
        FROM reading
        GROUP BY 1, 2
        WITH NO DATA""",
    # From the beginning of time: only what changed is worked out again, however old.
    """SELECT add_continuous_aggregate_policy('reading_hour', start_offset => NULL,
        end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour')""",
)
