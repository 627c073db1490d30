"""Reading, a top-up, a cut and a restore over every dialect that dials in: real sockets, meters
that keep their own ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar

import pytest

from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.catalog import load_meter_types
from protocols.evidence import Verdict
from protocols.exchange import Conversation, Evidence, Silence, ask_reply
from protocols.meter_type import Address, Supply, TopUp
from protocols.modbus import read_registers
from protocols.reading import Quantity as Q
from simulators.acrel_4g import Acrel4g, Answers, frame
from simulators.faults import FaultRates, Faults
from simulators.modbus_meter import Written
from tests.e2e.roads import PHONE, ROADS, SERIAL, Road, Town, road_4g, town
from tests.gateways.field import PATIENCE_S, dtu, until

T = TypeVar("T")
Act: TypeAlias = Callable[[bytes], Written]
AT = Address(1)
DRIVER = load_meter_types()["acrel_ddsy1352"].new_driver({})
IMPATIENT = LineTiming.network(
    mobile=True, start_quiet_s=0.0, reply_timeout_s=0.15, reply_late_s_max=0.2
)
ALL = pytest.mark.parametrize("road", ROADS.values(), ids=list(ROADS))


async def recorded(before: Evidence) -> None:
    """Intents of these tests need no keeping."""


async def ask(line: Line, conversation: Conversation[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        await line.wait_up()
        return await line.converse(
            AT, conversation, priority=Priority.COMMAND, record_intent=recorded
        )


def sold(count: int) -> TopUp:
    return TopUp(purchase_count=count, amount_fen=5_000)


@ALL
async def test_a_night_a_top_up_a_cut_and_a_restore(road: Road) -> None:
    async with town(road) as t:
        values = await ask(t.line, DRIVER.read(AT, frozenset({Q.ENERGY, Q.PURCHASE_COUNT})))
        assert values[Q.PURCHASE_COUNT] == 4
        outcome = await ask(t.line, DRIVER.top_up(AT, sold(5)))
        assert outcome.verdict is Verdict.APPLIED
        assert [a.amount_fen for a in t.meter.applied] == [5_000]
        cut = await ask(t.line, DRIVER.set_supply(AT, Supply.TRIP))
        assert cut.held
        assert not t.meter.look().relay_closed
        assert (await ask(t.line, DRIVER.set_supply(AT, Supply.RELEASE))).held
        assert t.meter.look().relay_closed
        await until(lambda: t.listener.sessions()[0].heartbeats > 0)
        (state,) = t.listener.sessions()
        assert (state.dialect, state.unrecognised) == (road.config.dialect, 0)
        assert t.listener.strangers() == ()
        assert t.box.counts["bad_downlinks"] == 0


@ALL
async def test_split_and_glued_packets_change_nothing(road: Road) -> None:
    async with town(road, split=1.0, glue=1.0) as t:
        for count in (5, 6):
            outcome = await ask(t.line, DRIVER.top_up(AT, sold(count)))
            assert outcome.verdict is Verdict.APPLIED
        assert len(t.meter.applied) == 2


@ALL
async def test_a_session_replaced_in_a_top_up_is_settled_by_a_later_look(road: Road) -> None:
    """The radio goes with the answer of the write: it was taken, and nobody here can know."""
    async with town(road, timing=IMPATIENT) as t:
        await until(lambda: t.line.is_up)
        topping = asyncio.create_task(ask(t.line, DRIVER.top_up(AT, sold(5))))
        unit = t.box.line.bus.units[1]
        unit.masked = {at: _then(act, t.box.vanish) for at, act in unit.masked.items()}
        with pytest.raises(Unsettled):
            await topping
        await until(lambda: t.box.is_connected and t.line.is_up)
        assert (await ask(t.line, DRIVER.evidence(AT))).purchase_count == 5
        assert len(t.meter.applied) == 1
        assert len(t.listener.sessions()) == 1


def _then(act: Act, afterwards: Callable[[], None]) -> Act:
    def both(data: bytes) -> Written:
        outcome = act(data)
        afterwards()
        return outcome

    return both


@pytest.mark.parametrize("name", ["ddp", "4g, serial and rtu", "transparent", "four_faith"])
async def test_answers_stored_while_away_are_not_believed(name: str) -> None:
    """An old look, replayed after the registration, would show a top-up that landed as lost."""
    async with town(ROADS[name], timing=IMPATIENT, replay=True) as t:
        await until(lambda: t.line.is_up)
        for _ in range(3):
            t.box.plan = replace(t.box.plan, vanish=1.0)
            with pytest.raises((Silence, LinkDown)):
                await ask(t.line, DRIVER.evidence(AT))
            t.box.plan = replace(t.box.plan, vanish=0.0)
            await until(lambda: bool(t.listener.sessions()) and t.box.is_connected)
            await until(lambda: t.listener.sessions()[0].dropped_bytes > 0)
            t.meter.purchase(100, t.meter.purchase_count + 1)
            evidence = await ask(t.line, DRIVER.evidence(AT))
            assert evidence.purchase_count == t.meter.purchase_count


async def test_a_modem_that_only_says_it_took_a_write_proves_nothing() -> None:
    """The meter inside never heard it: the look says so, and the order is not proved."""
    async with town(ROADS["4g, serial after writes"]) as t:
        unit = t.box.line.bus.units[1]
        unit.masked = {register: lambda data: None for register in unit.masked}
        outcome = await ask(t.line, DRIVER.top_up(AT, sold(5)))
        assert outcome.verdict is Verdict.NOT_APPLIED
        assert outcome.refusal is None
        assert t.meter.applied == []


async def test_a_serial_number_alone_is_no_answer_to_a_read() -> None:
    async with town(road_4g(Answers.RTU), timing=IMPATIENT) as t:
        await until(lambda: t.line.is_up)
        nobody = ask_reply(read_registers(9, 0, 2))
        asking = asyncio.create_task(
            t.line.converse(9, nobody, priority=Priority.NIGHTLY, read_tries=1)
        )
        await until(lambda: t.line.health.bytes_out > 0)
        t.box.say(frame(0x90, SERIAL.encode().ljust(20, b"\0")))
        with pytest.raises(Silence):
            await asking


async def test_a_4g_meter_tells_itself_asks_the_time_and_pushes_its_readings() -> None:
    async with town(road_4g(Answers.RTU, eight_rates=True)) as t:
        box = t.box
        assert isinstance(box, Acrel4g)
        driver = load_meter_types()["acrel_ddsy1352"].new_driver({"rates": 8})
        await until(lambda: bool(box.told_times))
        assert box.told_times == [bytes((26, 3, 20, 5, 10, 0, 7))], "Friday, Sunday being 0"
        assert t.facts == {
            "yard": {
                "iccid": "898604282219C0423610",
                "rssi_dbm": -61,
                "firmware": "01.00 01.00 01.02",
                "interval_s": 1800,
            }
        }
        assert box.push()
        await until(lambda: len(t.uploads) == 1)
        await until(lambda: box.counts["got_91"] == 1)
        ((gateway, upload),) = t.uploads
        assert (gateway, upload.unit) == ("yard", 1)
        assert upload.dial == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  the meter's dial
        polled = await ask(t.line, driver.read(AT, frozenset(Q)))
        same = polled.keys() & upload.values.keys()
        assert {Q.ENERGY, Q.REMAINING_CREDIT, Q.PURCHASE_COUNT, Q.CLOCK} <= same
        assert {q: polled[q] for q in same} == {q: upload.values[q] for q in same}
        assert t.listener.sessions()[0].uploads == 1


@pytest.mark.parametrize(
    ("name", "registration"),
    [("4g, rtu", SERIAL), ("ddp", f"ascii:{PHONE}"), ("four_faith", f"ascii:{PHONE}")],
)
async def test_an_unknown_box_is_a_stranger_until_it_is_adopted(
    name: str, registration: str
) -> None:
    async with town(ROADS[name], known=False) as t:
        await until(lambda: bool(t.listener.strangers()))
        (stranger,) = t.listener.strangers()
        assert (stranger.dialect, stranger.registration) == (
            ROADS[name].config.dialect,
            registration,
        )
        await until(lambda: t.box.counts["sessions"] == 1)
        t.box.drop()
        await until(lambda: t.listener.strangers()[0].calls == 2)
        assert len(t.listener.strangers()) == 1, "one box, whatever its signal strength"
        assert sum(n for key, n in t.box.counts.items() if key.startswith("got_")) == 0
        t.listener.add_gateway("yard", ROADS[name].config)
        values = await ask(t.line, DRIVER.read(AT, frozenset({Q.ENERGY})))
        assert Q.ENERGY in values
        assert t.listener.strangers() == ()


async def test_who_changes_its_name_is_turned_away_and_listed() -> None:
    async with town(ROADS["4g, rtu"]) as t:
        await until(lambda: t.line.is_up)
        await t.box.unplug()
        async with dtu(t.listener.port, frame(0x93, SERIAL.encode().ljust(20, b"\0"))) as box:
            await until(lambda: t.line.is_up and bool(box.heard))
            box.say(frame(0x93, b"99999999999999".ljust(20, b"\0")))
            async with asyncio.timeout(PATIENCE_S):
                await box.hung_up.wait()
        assert t.listener.turned_away == 1
        (stranger,) = t.listener.strangers()
        assert stranger.turned_away == f"it called itself {SERIAL} and then 99999999999999"
        assert not t.line.is_up


@ALL
async def test_money_is_right_on_a_bad_day(road: Road) -> None:
    """Frames are lost, spoilt, doubled; answers are parked and boxes vanish. Each top-up is sent
    once, and what it came to is known by the next sound look."""
    rates = FaultRates(
        request_lost=0.05, answer_lost=0.1, bit_error=0.1, noise=0.2, truncated=0.1, doubled=0.2
    )
    bad = Faults(seed=7, rates=rates)
    async with town(
        road, timing=IMPATIENT, faults=bad, split=0.2, glue=0.2, vanish=0.05, replay=True
    ) as t:
        for _ in range(4):
            bad.calm = t.box.calm = False
            count = t.meter.purchase_count
            verdict = await _tried(t, sold(count + 1))
            bad.calm = t.box.calm = True
            applied = t.meter.purchase_count - count
            assert applied in (0, 1)
            if verdict is not None and verdict is not Verdict.UNCLEAR:
                assert (verdict is Verdict.APPLIED) == bool(applied)
            evidence = await _looked(t)
            assert evidence.purchase_count == t.meter.purchase_count
        assert len(t.meter.applied) == t.meter.purchase_count - 4, "none lost, none doubled"


async def _tried(t: Town, order: TopUp) -> Verdict | None:
    """None: unsettled, or not sent at all."""
    try:
        return (await ask(t.line, DRIVER.top_up(AT, order))).verdict
    except (Unsettled, Silence, LinkDown):
        return None


async def _looked(t: Town) -> Evidence:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask(t.line, DRIVER.evidence(AT))
            except (Silence, LinkDown):
                await asyncio.sleep(0.05)
