"""A top-up from the order to the proof, over a real wire, through what can go wrong on it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headend.domain.commands import CommandState, Rejected, Why
from headend.domain.purchases import SaleState
from headend.services.resolver import ATTEMPTS_MAX
from headend.services.rules import Rules
from headend.store.database import Database
from tests.headend.house import ddsy
from tests.headend.money.shop import PATIENCE_S, Fate, always, once, shop

S = CommandState


async def test_fifty_yuan_arrive_once_and_every_step_is_kept(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        count = s.meter().purchase_count
        await s.open_sender()
        command_id = await s.sell(5_000)
        command = await s.reaches(command_id, S.CONFIRMED)
        assert s.credited() == [5_000]
        assert command.purchase_count == count + 1
        assert await s.books() == (5_000, 0, 0)
        assert (await s.sale(command)).state is SaleState.LANDED
        (attempt,) = await s.attempts(command_id)
        assert attempt.outcome == "applied"
        assert attempt.before.purchase_count == count
        assert attempt.after is not None
        assert attempt.after.purchase_count == count + 1
        assert len([f for f in attempt.frames if f.get("out", "").startswith("0120")]) == 1
        stages = [e.stage for e in await s.events(command_id)]
        assert [stage for stage in stages if stage] == ["paid", "sent", "in_meter"]
        second = await s.reaches(await s.sell(700), S.CONFIRMED)
        assert second.purchase_count == count + 2, "the books know the next number"
        assert s.credited() == [5_000, 700]


async def test_a_lost_answer_is_looked_up_and_nothing_is_sent_again(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.MUTE, write=True)
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == 1
        assert await s.books() == (5_000, 0, 0)
        assert "unknown" in [e.new_state for e in await s.events(command.command_id)]


async def test_a_lost_request_goes_out_again_byte_for_byte(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.LOSE, write=True)
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert s.credited() == [5_000]
        first, second = s.bus.writes()
        assert first == second, "the same count and the same amount"
        assert [a.outcome for a in await s.attempts(command.command_id)] == [
            "not_applied",
            "applied",
        ]
        assert (await s.sale(command)).copies_left == 2


@pytest.mark.parametrize("on", [True, False])
async def test_an_unknown_is_left_alone_while_something_may_be_in_flight(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = always(Fate.LOSE, write=True)
        await s.open_sender(rules=Rules(settle=on, in_flight_s=3_600))
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.UNKNOWN)
        if on:
            command = await s.command(command_id)
            unknown = (await s.events(command_id))[-1]
            assert command.look_again_at is not None
            assert (command.look_again_at - unknown.at).total_seconds() >= 3_600
        else:
            await s.reaches(command_id, S.QUEUED, S.SENT)  # judged at once, and sent again


@pytest.mark.parametrize("on", [True, False])
async def test_silence_after_a_write_is_never_answered_with_another_write(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.MUTE, write=True)
        await s.open_sender(rules=Rules(one_write=on))
        await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert (len(s.bus.writes()) == 1) is on


async def test_a_meter_that_refuses_costs_nothing_and_its_number_is_used_again_later(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.REFUSE, write=True)
        await s.open_sender(rules=Rules(in_flight_s=1.0))
        refused = await s.reaches(await s.sell(5_000), S.REFUSED)
        assert s.credited() == []
        assert await s.books() == (0, 5_000, 0), "the money is the customer's again"
        assert (await s.sale(refused)).state is SaleState.REVERSED
        accepted = await s.order(3_000)
        assert not isinstance(accepted, Rejected)
        again = await s.reaches(accepted.command.command_id, S.CONFIRMED)
        assert again.purchase_count == refused.purchase_count
        (ended,) = [a.ended_at for a in await s.attempts(refused.command_id)]
        (sent,) = [a.sent_at for a in await s.attempts(again.command_id)]
        assert ended is not None
        assert (sent - ended).total_seconds() >= 1.0, "a doubled copy must be dead first"
        assert await s.books() == (3_000, 2_000, 0)


async def test_a_meter_that_answers_and_does_nothing_ends_with_a_person(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = always(Fate.IGNORE, write=True)
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.ESCALATED)
        assert command.attempts == ATTEMPTS_MAX
        assert len(set(s.bus.writes())) == 1, "the same frame each time"
        assert len(s.bus.writes()) == ATTEMPTS_MAX
        assert await s.books() == (0, 0, 5_000), "nothing moves until somebody decides"


@pytest.mark.parametrize("on", [True, False])
async def test_a_purchase_from_elsewhere_stops_the_sale_and_every_next_one(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        meter = s.meter()
        meter.purchase(3_300, meter.purchase_count + 1)  # a card nobody told us of
        await s.open_sender(rules=Rules(look_first=on))
        command_id = await s.sell(5_000)
        if not on:
            await s.reaches(command_id, S.CONFIRMED)  # numbered anew: the other one stays hidden
            return
        command = await s.reaches(command_id, S.ESCALATED)
        assert s.bus.writes() == []
        assert "elsewhere" in command.outcome
        assert await s.books() == (0, 0, 5_000)
        await s.pay(700)
        rejected = await s.order(700)
        assert isinstance(rejected, Rejected)
        assert rejected.why is Why.SALES_FROZEN


@pytest.mark.parametrize("on", [True, False])
async def test_a_purchase_from_elsewhere_between_two_tries_is_not_numbered_anew(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.LOSE, write=True)
        sender = await s.open_sender(rules=Rules(same_count_on_retry=on))
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.UNKNOWN)
        await s.kill_sender()
        assert sender is not None
        # The look finds it not applied; before the next try a card lands.
        async with database.transaction() as tx:
            await tx.execute(
                "UPDATE command SET state = 'queued', look_again_at = NULL WHERE command_id = %s",
                command_id,
            )
            await tx.execute(
                "UPDATE attempt SET ended_at = now(), outcome = 'not_applied'"
                " WHERE command_id = %s",
                command_id,
            )
        meter = s.meter()
        meter.purchase(3_300, meter.purchase_count + 1)
        await s.open_sender(rules=Rules(same_count_on_retry=on))
        if on:
            await s.reaches(command_id, S.ESCALATED)
            assert s.credited() == [3_300]
        else:
            await s.reaches(command_id, S.CONFIRMED)
            assert s.credited() == [3_300, 5_000]


async def test_registers_that_do_not_fit_end_with_a_person_and_both_looks(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        meter = s.meter()

        def card_too(frame: bytes) -> Fate | None:
            if frame[1] != 0x20:
                return None
            meter.purchase(5_000, meter.purchase_count + 1)  # our count, from elsewhere …
            meter.purchase(3_300, meter.purchase_count + 1)  # … and one more
            s.bus.script = None
            return Fate.MUTE

        s.bus.script = card_too
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.ESCALATED)
        (attempt,) = await s.attempts(command.command_id)
        assert attempt.looks[-1]["purchase_count"] == (attempt.before.purchase_count or 0) + 2
        assert attempt.ended_at is None, "a person ends it"
        assert [f for f in attempt.frames if "in" in f]


async def test_another_meter_at_the_address_is_never_written_to(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path, places=(ddsy(1, "249900010001"),)) as s:
        s.meter().number = "249900019999"  # exchanged in the night
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.REFUSED, S.CONFIRMED)
        assert command.state is S.REFUSED
        assert "answers where" in command.outcome
        assert s.bus.writes() == []
        assert await s.books() == (0, 5_000, 0), "the money waits as balance"


async def test_a_silent_meter_does_not_hold_up_its_neighbour(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = lambda frame: Fate.LOSE if frame[0] == 1 else None
        silent = await s.sell(5_000, 1)
        lively = await s.sell(700, 2)
        await s.open_sender()
        await s.reaches(lively, S.CONFIRMED)
        assert (await s.command(silent)).state in {S.QUEUED, S.CLAIMED}
        s.bus.script = None
        s.later(minutes=10)
        await s.reaches(silent, S.CONFIRMED)
        assert (s.credited(1), s.credited(2)) == ([5_000], [700])


async def test_orders_wait_for_a_line_that_is_down(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        line = s.house.book.lines["L1"].line
        await s.unplug()
        async with asyncio.timeout(PATIENCE_S):
            while line.is_up:
                await asyncio.sleep(0.01)
        await s.open_sender()
        command_id = await s.sell(5_000)
        await s.plug()
        await s.reaches(command_id, S.CONFIRMED)
        assert s.credited() == [5_000]
