"""Acrel gateways over real sockets: login, clock, reports, and money over two ports."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateways.line import Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.evidence import Verdict, judge
from protocols.exchange import Silence
from protocols.meter_type import Address, Supply, TopUp
from protocols.reading import Quantity
from simulators import rtu
from simulators.metering import Forced
from simulators.modbus_meter import Bus
from tests.gateways.acrel_property import DIAL, NAME, PLAN, SECRET, Property, property_of
from tests.gateways.field import PATIENCE_S, until
from tests.sim.helpers import START_MS

Q = Quantity
FIFTY = TopUp(purchase_count=4, amount_fen=5000)


async def up(place: Property) -> None:
    await place.gateway.plug()
    await until(lambda: all(line.is_up for line in place.lines.values()))


async def test_a_gateway_logs_in_and_sets_its_clock() -> None:
    async with property_of(replace(PLAN, clock_wrong_ms=7_200_000)) as place:
        assert place.gateway.dial == DIAL + timedelta(hours=2)
        await up(place)
        await until(lambda: place.gateway.counts["clock_set"] == 1)
        assert place.gateway.dial == DIAL
        (session,) = place.listener.sessions()
        assert (session.gateway, session.dialect) == (NAME, "acrel_gateway")
        await until(lambda: place.listener.sessions()[0].heartbeats == 1)
        assert place.listener.turned_away == 0


async def test_a_wrong_secret_is_turned_away_and_counted_until_it_is_right() -> None:
    async with property_of(secret="fedcba9876543210") as place:
        await place.gateway.plug()
        await until(lambda: place.listener.turned_away >= 2)
        assert place.gateway.counts["refused"] >= 1, "it is told so"
        assert not any(line.is_up for line in place.lines.values())
        (stranger,) = place.listener.strangers()
        assert "another secret" in stranger.turned_away
        assert SECRET not in stranger.turned_away
        place.gateway.set_secret("fedcba9876543210")
        await until(lambda: all(line.is_up for line in place.lines.values()))


async def test_an_unknown_gateway_is_a_stranger_under_the_name_to_adopt() -> None:
    async with property_of() as place:
        place.listener.remove_gateway(NAME)
        await place.gateway.plug()
        await until(lambda: bool(place.listener.strangers()))
        await until(lambda: place.listener.strangers()[0].registration == "310115D001/01")
        assert place.listener.strangers()[0].dialect == "acrel_gateway"
        assert place.listener.turned_away == 0
        place.listener.add_gateway(NAME, place.config)
        assert place.listener.strangers() == (), "adopted"
        await until(lambda: all(line.is_up for line in place.lines.values()))


@pytest.mark.parametrize("packed", [False, True])
async def test_reports_become_uploads_with_the_gateways_instant(packed: bool) -> None:
    async with property_of(replace(PLAN, packed=packed)) as place:
        await up(place)
        await until(lambda: place.gateway.counts["clock_set"] == 1)
        place.gateway.report_now()
        await until(lambda: len(place.uploads) == 3)
        places = {(upload.port, upload.unit): upload for upload in place.uploads}
        assert set(places) == set(place.meters)
        for at, upload in places.items():
            assert upload.values[Q.ENERGY] // 10 == place.meters[at].look().total_w_ms // 36_000_000
            assert upload.dial == DIAL
            assert not upload.is_history
        (session,) = place.listener.sessions()
        assert session.uploads == 3
        assert b"Ua=" in session.unrecognised_sample, "what is not known is kept and counted"


async def test_what_was_stored_while_away_comes_as_history() -> None:
    async with property_of() as place:
        for _ in range(3):
            place.gateway.report_now()
            place.clock.at_ms += 900_000
        await up(place)
        await until(lambda: len(place.uploads) == 9)
        assert all(upload.is_history for upload in place.uploads)
        assert sorted({upload.dial for upload in place.uploads if upload.dial}) == [
            DIAL + timedelta(minutes=15 * n) for n in range(3)
        ]


async def test_a_read_a_top_up_a_cut_and_a_restore_over_both_ports() -> None:
    async with property_of() as place:
        await up(place)
        for port, unit in ((1, 1), (2, 1), (1, 2)):
            at = Address(unit)
            meter = place.meters[port, unit]
            values = await place.lines[port].converse(
                unit, place.driver.read(at, frozenset(Q)), priority=Priority.NIGHTLY
            )
            assert values[Q.REMAINING_CREDIT] == meter.look().remaining_fen
            bought = await place.order(port, unit, place.driver.top_up(at, FIFTY))
            assert bought.verdict is Verdict.APPLIED
            assert [entry.amount_fen for entry in meter.applied] == [5000]
            for supply, forced in (
                (Supply.TRIP, Forced.OPEN),
                (Supply.CLOSE, Forced.CLOSED),
                (Supply.RELEASE, Forced.RELEASED),
            ):
                outcome = await place.order(port, unit, place.driver.set_supply(at, supply))
                assert outcome.held
                assert meter.forced is forced
        assert len(place.intents) == 12
        assert place.gateway.ports.counts["queued"] == 0


async def test_the_gateway_never_has_two_requests_however_many_ask() -> None:
    async with property_of() as place:
        await up(place)
        async with asyncio.TaskGroup() as group:
            for port, unit in [*place.meters] * 5:
                group.create_task(
                    place.lines[port].converse(
                        unit,
                        place.driver.read(Address(unit), frozenset({Q.ENERGY})),
                        priority=Priority.NIGHTLY,
                    )
                )
        assert place.gateway.ports.counts["asked"] >= 15
        assert place.gateway.ports.counts["queued"] == 0


async def test_a_session_replaced_in_the_middle_of_a_top_up_leaves_it_to_a_look() -> None:
    for heard in (True, False):
        async with property_of() as place:
            await up(place)
            meter = place.meters[2, 1]
            bus: Bus = place.gateway.ports.lines[2].bus
            answer = bus.answer
            writes: list[bytes] = []

            def interrupted(
                frame: bytes, heard: bool = heard, place: Property = place
            ) -> bytes | None:
                if frame[1] != rtu.MASKED_WRITE:
                    return answer(frame)  # noqa: B023  of this round
                writes.append(frame)  # noqa: B023
                if heard:
                    answer(frame)  # noqa: B023
                place.gateway.vanish()
                return None

            bus.answer = interrupted  # type: ignore[method-assign]
            with pytest.raises(Unsettled, match="dialled in again"):
                await place.order(2, 1, place.driver.top_up(Address(1), FIFTY))
            await until(lambda place=place: place.lines[2].is_up)  # type: ignore[misc]
            assert len(writes) == 1, "sent once"
            assert place.lines[2].quiet_left_s(1) > 0, "its answer may still come"
            assert place.lines[1].quiet_left_s(1) == 0, "the meter at the other port is another"
            assert [entry.amount_fen for entry in meter.applied] == ([5000] if heard else [])


async def test_the_look_after_it_settles_the_top_up() -> None:
    quick = LineTiming.network(
        mobile=True, reply_timeout_s=0.6, reply_late_s_max=0.9, start_quiet_s=0.0
    )
    async with property_of(timing=quick) as place:
        await up(place)
        bus: Bus = place.gateway.ports.lines[1].bus
        answer = bus.answer

        def deaf_to_the_answer(frame: bytes) -> bytes | None:
            answered = answer(frame)
            return None if frame[1] == rtu.MASKED_WRITE else answered

        bus.answer = deaf_to_the_answer  # type: ignore[method-assign]
        with pytest.raises(Unsettled):
            await place.order(1, 1, place.driver.top_up(Address(1), FIFTY))
        (before,) = place.intents
        after = await place.evidence(1, 1)
        assert judge(before, after, 5000) is Verdict.APPLIED
        assert [entry.amount_fen for entry in place.meters[1, 1].applied] == [5000]


async def test_an_answer_that_comes_late_is_nobodys() -> None:
    quick = LineTiming.network(
        mobile=True, reply_timeout_s=2.5, reply_late_s_max=PATIENCE_S, start_quiet_s=0.0
    )
    async with property_of(timing=quick) as place:
        await up(place)
        line, loop = place.gateway.ports.lines[1], asyncio.get_running_loop()
        bus: Bus = line.bus
        answer = bus.answer
        late: list[bytes] = []

        def slow(frame: bytes) -> bytes | None:
            answered = answer(frame)
            if frame[0] != 1 or answered is None or late:
                return answered
            late.append(answered)
            return None

        bus.answer = slow  # type: ignore[method-assign]
        with pytest.raises(Silence):
            await place.lines[1].converse(
                1,
                place.driver.read(Address(1), frozenset({Q.ENERGY})),
                priority=Priority.NIGHTLY,
                read_tries=1,
            )
        # It reaches the gateway while unit 2 is asked, which labels it as the answer of unit 2.
        place.clock.at_ms = START_MS + 60_000

        def with_the_old_one_first(frame: bytes) -> bytes | None:
            loop.call_soon(place.gateway.ports.from_wires, 1, late[0])
            return answer(frame)

        bus.answer = with_the_old_one_first  # type: ignore[method-assign]
        fresh = await place.lines[1].converse(
            2,
            place.driver.read(Address(2), frozenset({Q.ENERGY})),
            priority=Priority.NIGHTLY,
            read_tries=1,
        )
        assert fresh[Q.ENERGY] // 10 == place.meters[1, 2].look().total_w_ms // 36_000_000
        # Whichever of the two the gateway passed on first.
        await until(lambda: place.lines[1].health.late == 1)
        bus.answer = answer  # type: ignore[method-assign]
        other = await place.lines[2].converse(
            1, place.driver.read(Address(1), frozenset({Q.ENERGY})), priority=Priority.NIGHTLY
        )
        assert other[Q.ENERGY] // 10 == place.meters[2, 1].look().total_w_ms // 36_000_000


async def test_lines_of_a_gateway_that_is_gone_say_so() -> None:
    async with property_of() as place:
        await up(place)
        await place.gateway.unplug()
        await until(lambda: not any(line.is_up for line in place.lines.values()))
        with pytest.raises(LinkDown):
            await place.evidence(1, 1)
