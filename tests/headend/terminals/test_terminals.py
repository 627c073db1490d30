"""Taps, an island of a day and its merge: a real socket, a real database, a terminal of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headend.domain.commands import CommandState
from headend.domain.purchases import SaleState
from headend.store.database import Database
from simulators.rf_terminal import PowerCut, RfTerminal, TerminalCard
from tests.headend.money.shop import Fate, once
from tests.headend.terminals.stand import NAME, Stand, service_of, stand

S = CommandState


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(database, tmp_path) as opened:
        yield opened


def last(terminal: RfTerminal) -> str:
    return terminal.verdict


async def tapped(at: Stand, card: TerminalCard) -> None:
    """On-line, to its end."""
    at.terminal.tap(card)
    await at.until(lambda: at.terminal.is_at_rest)


async def test_a_night_and_a_remote_top_up_go_through_the_terminals_line(at: Stand) -> None:
    assert await at.shop.house.collect() == {"M1": "read", "M2": "read"}
    await at.shop.open_sender()
    await at.shop.reaches(await at.shop.sell(3000), S.CONFIRMED)
    assert at.shop.credited() == [3000]


async def test_a_tap_credits_the_circuit_and_writes_back(at: Stand) -> None:
    await at.shop.open_sender()
    card, issue = await at.card()
    await tapped(at, card)
    assert at.shop.credited() == [5000]
    assert card.written_back == {"purchase_count": issue.purchase_count, "amount_fen": 5000}
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)
    await tapped(at, card)
    assert last(at.terminal) == "nothing", "the card is used"
    assert at.shop.credited() == [5000]
    at.terminal.ask_recharges(card)
    await at.until(lambda: bool(at.terminal.shown_recharges))
    assert [one["amount_fen"] for one in at.terminal.shown_recharges] == [5000]


async def test_a_purchase_out_of_the_balance_takes_the_next_count(at: Stand) -> None:
    await at.shop.open_sender()
    card, _ = await at.card()
    await tapped(at, card)
    await at.shop.pay(2000)
    at.terminal.buy(card, 2000)
    await at.until(lambda: not at.terminal.book.taps)
    assert at.shop.credited() == [5000, 2000]
    at.terminal.buy(card, 2000)
    await at.until(lambda: not at.terminal.book.taps)
    assert at.shop.credited() == [5000, 2000], "there is nothing left"


async def test_a_lost_answer_of_the_meter_is_unknown_and_looked_at(at: Stand) -> None:
    card, _ = await at.card()
    await at.shop.open_sender()
    at.shop.bus.script = once(Fate.MUTE, write=True)
    at.terminal.tap(card)
    await at.until(lambda: "unknown" in at.terminal.screen or not at.terminal.book.taps)
    at.shop.later(minutes=5)
    await at.until(lambda: not at.terminal.book.taps)
    assert last(at.terminal) == "in_meter"
    assert at.shop.credited() == [5000]
    assert len(at.shop.bus.writes()) == 1


async def test_a_link_cut_in_a_tap_ends_in_one_credit(at: Stand) -> None:
    card, _ = await at.card()
    at.terminal.tap(card)
    await at.until(lambda: "paid" in at.terminal.screen)
    at.terminal.drop()
    await at.until(lambda: at.terminal.screen.count("联机 / on-line") > 1)
    await at.shop.open_sender()
    await at.until(lambda: not at.terminal.book.taps)
    assert at.shop.credited() == [5000]


async def test_the_head_end_killed_in_a_tap_ends_in_one_credit(at: Stand) -> None:
    card, _ = await at.card()
    at.terminal.tap(card)
    await at.until(lambda: "paid" in at.terminal.screen)
    await at.kill()
    at.service = service_of(at.shop, at.counter.desk, at.keys)
    at.shop.house.book.dial_ins.on_said = at.service.take
    at.start()
    await at.shop.open_sender()
    at.terminal.drop()  # its connection fell with the program
    await at.until(lambda: at.terminal.is_at_rest)
    assert at.shop.credited() == [5000]
    assert card.written_back is not None


async def test_strange_cards_and_bad_frames_do_nothing(at: Stand) -> None:
    at.terminal.tap(TerminalCard("00" * 8, "000000000101", 1, 5000))
    await at.until(lambda: not at.terminal.book.taps)
    assert "柜台" in last(at.terminal)
    assert "counter" in last(at.terminal)
    shown = len(at.terminal.screen)
    for fields in ({}, {"id": "x"}, {"id": 5, "serial": "zz"}):
        at.terminal.say(at.terminal._told(0x20, **fields))
    await at.until(lambda: len(at.terminal.screen) == shown + 3)
    assert not at.shop.bus.writes()


# ---- alone ---------------------------------------------------------------------------------------


async def test_an_island_of_a_day_is_merged_once(at: Stand) -> None:
    await at.cap()
    card, issue = await at.card()
    await at.alone()
    at.terminal.tap(card)
    assert at.shop.credited() == [5000], "sold alone"
    at.terminal.tap(card)
    assert at.shop.credited() == [5000], "not the next purchase any more"
    told = list(at.terminal.book.untold)
    at.shop.later(hours=3)
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.log() == ["landed"]
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)
    # Its log is played back: nothing happens twice.
    at.terminal.book.untold = told
    at.terminal.drop()
    await at.until(lambda: not at.terminal.book.untold)
    assert (await at.log(), await at.clashes()) == (["landed"], [])
    assert await at.shop.books() == (5000, 0, 0)


async def test_power_lost_in_the_middle_is_settled_by_the_meter(at: Stand) -> None:
    await at.cap()
    card, issue = await at.card()
    await at.alone()
    at.terminal.cut_power_after = "credit"
    with pytest.raises(PowerCut):
        at.terminal.tap(card)
    at.shop.later(hours=1)
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    await at.service.merge.look_at_waiting()
    assert await at.log() == ["landed"]
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert at.shop.credited() == [5000]


async def test_without_a_cap_or_after_its_day_nothing_is_sold(at: Stand) -> None:
    card, _ = await at.card()
    await at.alone()
    at.terminal.tap(card)
    assert "no cap" in last(at.terminal)
    await at.back()
    await at.cap()
    await at.alone()
    at.shop.clock.later(hours=20)
    at.terminal.tap(card)
    assert "no cap" in last(at.terminal)
    assert at.shop.credited() == []


async def test_the_cap_holds_at_the_terminal(at: Stand) -> None:
    await at.cap(card_fen=4000, total_fen=4000)
    card, _ = await at.card()
    await at.alone()
    at.terminal.tap(card)
    assert "more than a card" in last(at.terminal)
    assert at.shop.credited() == []


async def test_forged_cards_cost_no_more_than_the_cap_and_are_named(at: Stand) -> None:
    await at.cap(card_fen=4000, total_fen=10_000)
    await at.alone()
    before = at.shop.meter().purchase_count
    for number in range(1, 4):  # a serial is made up as easily as an amount
        forged = TerminalCard(f"{number:02x}" * 8, "000000000101", before + number, 4000)
        at.terminal.tap(forged)
    assert "more than the terminal may sell" in last(at.terminal)
    assert at.shop.meter().purchase_count == before + 2, "4,000 fen twice, of 10,000"
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.clashes() == ["island-not-sold"] * 2
    assert await at.shop.books() == (0, 0, 0), "nothing of it is booked"


async def test_a_cap_with_a_wrong_seal_is_not_believed(at: Stand) -> None:
    key, at.terminal.cap_keys[1] = at.terminal.cap_keys[1], bytes(16)
    await at.cap_out()
    await at.until(lambda: "wrong seal" in last(at.terminal))
    assert at.terminal.book.cap is None
    at.terminal.cap_keys[1] = key
    await at.service.send_cap("G1")
    await at.until(lambda: at.terminal.book.cap is not None)


def sold_against_the_rules(at: Stand, card: TerminalCard, **more: Any) -> dict[str, Any]:
    """A terminal that keeps no rule brings it into the meter and tells of it."""
    cap = at.terminal.book.cap
    assert cap is not None
    meter = at.shop.meter()
    assert meter.purchase(card.amount_fen, card.purchase_count)
    seen = (meter.purchase_count, meter.total_purchased_fen)
    return at.terminal.record(card, more.get("cap", cap["number"]), seen)


@pytest.mark.parametrize(
    ("told", "clash"),
    [
        ("over_card", "island-over-card-cap"),
        ("no_cap", "island-no-cap"),
        ("expired", "island-cap-expired"),
        ("clock", "island-clock"),
        ("no_meter", "island-no-meter"),
        ("not_sold", "island-not-sold"),
        ("wrong_card", "island-wrong-card"),
        ("count_taken", "island-count-taken"),
    ],
)
async def test_each_clash_is_named_and_put_before_a_person(
    at: Stand, told: str, clash: str
) -> None:
    caps = {"over_card": (4000, 20_000)}
    await at.cap(*caps.get(told, (10_000, 20_000)))
    card, issue = await at.card(5000)
    await at.alone()
    if told == "expired":
        at.shop.clock.later(hours=20)
    if told == "clock":
        at.terminal.clock_wrong_s = -7 * 3600
    changed = TerminalCard(card.serial, card.meter_number, card.purchase_count, card.amount_fen)
    if told == "no_meter":
        changed.meter_number = "000000000999"
    if told == "not_sold":
        changed.purchase_count += 1
        at.shop.meter().purchase_count += 1
    if told == "wrong_card":
        changed.serial = "11" * 8
    if told == "count_taken":
        changed.amount_fen = 6000
    sold_against_the_rules(at, changed, **({"cap": 99} if told == "no_cap" else {}))
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.clashes() == [clash]
    assert await at.log() == ["clash"]
    assert "人工" in at.terminal.clashes[0]["zh"]
    assert await at.shop.books() == (0, 0, 5000), "nothing is booked, nothing paid is lost"
    assert (await at.counter.sale(issue)).state is SaleState.OPEN


async def test_a_person_books_what_the_meter_proves(at: Stand) -> None:
    await at.cap(card_fen=4000, total_fen=4000)
    card, issue = await at.card()
    await at.alone()
    sold_against_the_rules(at, card)
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.clashes() == ["island-over-card-cap"]
    await at.service.merge.settle(1, book=True, reason="a long night", by=at.shop.wang)
    assert await at.clashes() == []
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)


async def test_a_forged_record_is_no_part_of_the_log(at: Stand) -> None:
    await at.cap()
    card, issue = await at.card()
    await at.alone()
    record = sold_against_the_rules(at, card)
    record["amount_fen"] = 4999
    await at.back()
    await at.until(lambda: bool(at.terminal.clashes))
    assert await at.clashes() == ["island-forged"]
    assert await at.log() == []
    assert at.terminal.book.untold, "it is kept at the terminal"
    assert (await at.counter.sale(issue)).state is SaleState.OPEN


async def test_a_missing_and_a_changed_record_are_named(at: Stand) -> None:
    await at.cap()
    card, _ = await at.card()
    await at.alone()
    sold_against_the_rules(at, card)
    at.terminal.book.untold[0]["sequence"] = 2
    await at.back()
    await at.until(lambda: bool(at.terminal.clashes))
    at.terminal.book.untold[0]["sequence"] = 1
    at.terminal.drop()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.log() == ["landed"]
    at.terminal.record(card, 1, (9, 9))
    at.terminal.book.untold[0]["sequence"] = 1
    at.terminal.drop()
    await at.until(lambda: len(at.terminal.clashes) == 2)
    assert await at.clashes() == ["island-gap", "island-changed"]


async def test_a_terminal_with_another_secret_is_turned_away(at: Stand) -> None:
    thief = RfTerminal(
        at.shop.bus, name=NAME, secret=b"another secret!!", host=at.terminal.host,
        port=at.terminal.port, now_s=lambda: 0.0, meters={}, reconnect_s=0.02,
    )  # fmt: skip
    await thief.plug()
    await at.until(lambda: at.shop.house.book.dial_ins.turned_away > 0)
    assert not thief.is_online
    assert at.terminal.is_online, "the true one stays"
    await thief.unplug()
