"""What could not be proved is not written: meters that do not tell what a proof needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.exchange import Conversation, NotReady
from protocols.keys import SiteKey
from protocols.meter_type import Driver, Supply, TopUp
from protocols.reading import METER_EPOCH
from protocols.settings import Overdraft, Prices, ResetLoadTrips, SetClock, Setting
from tests.protocols.orders import AT, Bench, Wire
from tests.protocols.slave import sealed

FIFTY = TopUp(purchase_count=4, amount_fen=5000)
BURN = TopUp(purchase_count=4, amount_fen=0)
PRICES = Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35)
Order = Callable[[Driver], Conversation[object]]


def set_to(setting: Setting) -> Order:
    return lambda driver: driver.configure(AT, setting, lambda: METER_EPOCH)


def not_telling(bench: Bench, address: int, words: int) -> Wire:
    """The meter's answers with "not available" in these registers."""

    def wire(frame: bytes) -> bytes | None:
        heard = bench.bus.answer(frame)
        first, count = (int.from_bytes(frame[at : at + 2], "big") for at in (2, 4))
        if heard and heard[1] == 3 and first <= address < first + count:
            at = 3 + 2 * (address - first)
            return sealed(heard[:at] + b"\xff" * (2 * words) + heard[at + 2 * words : -2])
        return heard

    return wire


@pytest.mark.parametrize(
    ("order", "address", "words", "says"),
    [
        (lambda d: d.top_up(AT, BURN), 0x0412, 2, "no total of purchases"),
        (lambda d: d.set_supply(AT, Supply.TRIP), 0x0224, 2, "does not tell its relay"),
        (set_to(Overdraft(overdraft_fen=1)), 0x040E, 2, "does not tell overdraft_fen"),
        (set_to(SetClock()), 0x0228, 4, "shows no date"),
    ],
)
def test_without_its_witness_an_order_is_not_begun(
    order: Order, address: int, words: int, says: str
) -> None:
    bench = Bench("acrel_ddsy1352")
    with pytest.raises(NotReady, match=says):
        bench.play(order(bench.driver), not_telling(bench, address, words))
    assert not bench.intents
    assert not bench.writes


def test_a_count_that_is_told_by_neither_register_sells_nothing() -> None:
    bench = Bench("acrel_ddsy1352")
    live, prepaid = not_telling(bench, 0x0221, 1), not_telling(bench, 0x0401, 1)
    with pytest.raises(NotReady, match="no purchase count"):
        bench.play(
            bench.driver.top_up(AT, FIFTY),
            lambda frame: (live if frame[2] == 2 else prepaid)(frame),
        )
    assert not bench.intents


@pytest.mark.parametrize(
    "order", [lambda d: d.top_up(AT, FIFTY), set_to(PRICES)], ids=["top-up", "prices"]
)
def test_a_meter_without_a_prepaid_account_is_sold_nothing(order: Order) -> None:
    bench = Bench("acrel_ddsy1352")
    unit = bench.bus.units[AT.unit]
    unit.areas = [area for area in unit.areas if not area.covers(0x0400)]
    with pytest.raises(NotReady, match="no prepaid account"):
        bench.play(order(bench.driver))
    assert not bench.intents


def test_a_setting_the_meter_has_no_registers_for_is_not_written() -> None:
    bench = Bench("acrel_ddsy1352")
    unit = bench.bus.units[AT.unit]
    unit.areas = [area for area in unit.areas if not area.covers(0x0480)]

    with pytest.raises(NotReady, match="no registers 0x0480"):
        bench.play(set_to(ResetLoadTrips())(bench.driver))
    assert not bench.intents


def test_prepaid_settings_are_enciphered_as_the_meter_says_or_not_written() -> None:
    key = SiteKey(lambda: (1, 2, 3, 4))
    bench = Bench("acrel_ddsy1352", options={"encryption": True, "site_key": key})
    with pytest.raises(NotReady, match="takes plain purchases"):
        bench.play(set_to(PRICES)(bench.driver))
    assert not bench.intents
