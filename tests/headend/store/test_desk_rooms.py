"""The room board: the order of states in SQL is that of the domain; the newest look counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import product

from headend.domain.rooms import LOW_BELOW_FEN, SILENT_AFTER, RoomState, room_state
from headend.store import desk_rooms
from headend.store.database import Database, Transaction
from tests.headend.house import TestClock

AGES = (None, timedelta(hours=1), SILENT_AFTER + timedelta(minutes=1))
CREDITS = (None, -1, 0, LOW_BELOW_FEN - 1, LOW_BELOW_FEN)


async def _house(tx: Transaction, meters: int) -> None:
    await tx.execute(
        "INSERT INTO site (name, time_zone, night_opens, night_closes)"
        " VALUES ('court', 'Asia/Shanghai', '23:55', '06:00')"
    )
    await tx.execute("INSERT INTO building (site_id, name) VALUES (1, 'A')")
    await tx.execute(
        "INSERT INTO room (site_id, building_id, name, floor)"
        " SELECT 1, 1, 'R' || n, 1 FROM generate_series(1, %s) AS n",
        meters + 1,  # the last one has no meter
    )
    await tx.execute(
        "INSERT INTO gateway (site_id, name, kind, host, port, heartbeat_s)"
        " VALUES (1, 'G', 'tcp', 'h', 1, 60)"
    )
    await tx.execute(
        "INSERT INTO line (site_id, gateway_id, name, baud, parity, stop_bits, turnaround_ms)"
        " VALUES (1, 1, 'L', 9600, 'N', 1, 20)"
    )
    await tx.execute(
        "INSERT INTO meter (site_id, line_id, room_id, name, meter_type, unit, energy_multiplier,"
        " options) SELECT 1, 1, n, 'M' || n, 'acrel_ddsy1352', n, 1, '{}'"
        " FROM generate_series(1, %s) AS n",
        meters,
    )
    await tx.execute(
        "INSERT INTO operator (name, person, role, all_sites, created_at)"
        " VALUES ('li', 'li', 'manager', true, now())"
    )


async def _seen(
    tx: Transaction, meter_id: int, at: datetime, credit_fen: int | None, *, dark: bool
) -> None:
    await tx.execute(
        "INSERT INTO meter_last (meter_id, at, received_at, origin, remaining_credit_fen,"
        " relay_closed_bits) VALUES (%s, %s, %s, 'polled', %s, %s)",
        meter_id,
        at,
        at,
        credit_fen,
        int(not dark),
    )


async def _order(tx: Transaction, meter_id: int, at: datetime, *states: str, kind: str) -> str:
    number: str = await tx.value(
        "INSERT INTO command (command_id, meter_id, kind, details, ordered_by, reason, ordered_at,"
        " changed_at, not_before, expires_at) VALUES (gen_random_uuid(), %s, %s, '{}', 1, 'r', %s,"
        " %s, %s, %s) RETURNING command_id",
        meter_id, kind, at, at, at, at + timedelta(hours=1),
    )  # fmt: skip
    for state in states:
        await tx.execute(
            "UPDATE command SET state = %s, look_again_at = CASE WHEN %s = 'unknown' THEN now() END"
            " WHERE command_id = %s",
            state,
            state,
            number,
        )
    return number


async def test_the_order_of_states_in_sql_is_that_of_the_domain(database: Database) -> None:
    now = TestClock().now()
    cases = list(product((False, True), (False, True), CREDITS, AGES))
    async with database.transaction() as tx:
        await _house(tx, len(cases))
        for number, (unknown, dark, credit_fen, age) in enumerate(cases, 1):
            if age is not None:
                await _seen(tx, number, now - age, credit_fen, dark=dark)
            if unknown:
                await _order(tx, number, now, "claimed", "sent", "unknown", kind="restore")
        rooms = await desk_rooms.rooms_of(tx, None, now, site="court", building="A")
        (house,) = await desk_rooms.buildings(tx, None, now)
        listed = await desk_rooms.worst(tx, None, now, list(RoomState), limit=3)
    by_id = {room.meter_id: room.state for room in rooms}
    assert by_id.pop(None) is RoomState.EMPTY
    for number, (unknown, dark, credit_fen, age) in enumerate(cases, 1):
        # What was never read shows no relay either.
        wanted = room_state(
            unknown=unknown, dark=dark and age is not None, credit_fen=credit_fen, age=age
        )
        assert by_id[number] is wanted, cases[number - 1]
    for state in set(RoomState) - {RoomState.EMPTY}:
        count = list(by_id.values()).count(state)
        assert house.counts.get(state, 0) == count, state
        assert listed[state][0] == count
        assert len(listed[state][1]) == min(3, count)


async def test_what_an_order_proved_after_the_reading_counts(database: Database) -> None:
    now = TestClock().now()
    async with database.transaction() as tx:
        await _house(tx, 2)
        for number in (1, 2):
            await _seen(tx, number, now - timedelta(hours=5), 5000, dark=False)
        command_id = await _order(tx, 1, now - timedelta(minutes=2), "claimed", "sent", kind="cut")
        await tx.execute(
            "INSERT INTO attempt (command_id, attempt_no, kind, meter_id, began_at, sent_at,"
            " before)"
            " VALUES (%s, 1, 'cut', 1, %s, %s, '{}')",
            command_id,
            now,
            now,
        )
        await tx.execute(
            "UPDATE attempt SET ended_at = %s, outcome = 'applied', after = '{}'"
            " WHERE command_id = %s",
            now,
            command_id,
        )
        await tx.execute("UPDATE command SET state = 'confirmed' WHERE command_id = %s", command_id)
        cut = await desk_rooms.of_meter(tx, None, now, 1)
        lit = await desk_rooms.of_meter(tx, None, now, 2)
        elsewhere = await desk_rooms.of_meter(tx, [99], now, 1)
    assert cut is not None
    assert (cut.state, cut.dark, cut.credit_fen, cut.seen_at) == (RoomState.DARK, True, 5000, now)
    assert lit is not None
    assert (lit.state, lit.waits) == (RoomState.FINE, False)
    assert elsewhere is None, "a meter outside the scope does not exist"


async def test_a_master_is_never_about_to_run_out(database: Database) -> None:
    now = TestClock().now()
    async with database.transaction() as tx:
        await _house(tx, 2)
        for meter_id in (1, 2):
            await _seen(tx, meter_id, now, 0, dark=False)
        assert await _states(tx, now) == [RoomState.LOW, RoomState.LOW]
        await tx.execute("UPDATE meter SET master_id = 1 WHERE meter_id = 2")
        assert await _states(tx, now) == [RoomState.FINE, RoomState.LOW]


async def _states(tx: Transaction, now: datetime) -> list[RoomState]:
    found = [await desk_rooms.of_meter(tx, None, now, meter_id) for meter_id in (1, 2)]
    return [one.state for one in found if one is not None]
