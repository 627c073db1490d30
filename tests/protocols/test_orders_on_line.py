"""Orders as they run in the product: on a Line, in the clear and enciphered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from gateways.line import BrokenRule, Line, Unsettled
from gateways.turns import Priority
from protocols.acrel_cipher import encipher
from protocols.catalog import load_meter_types
from protocols.evidence import Verdict
from protocols.exchange import Conversation, Evidence, NotReady
from protocols.keys import SiteKey
from protocols.meter_type import Address, BadOption, Driver, Options, Supply, TopUp
from protocols.modbus import FACTORY_CODE_MAX, FACTORY_CODE_MIN
from protocols.reading import METER_EPOCH
from protocols.settings import Prices
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.metering import Forced, Meter
from simulators.modbus_meter import Bus, Memory
from tests.gateways.virtual import REPLY_S, FakeLink, Script, fake, line_on, virtual_time
from tests.protocols.orders import EVERY_TYPE, Bench
from tests.protocols.slave import checksum
from tests.sim.helpers import HandClock, meter

T = TypeVar("T")

AT = Address(1)
FIFTY = TopUp(purchase_count=4, amount_fen=5000)
KEY_WORDS = (0x0123, 0x4567, 0x89AB, 0xCDEF)  # a test's key
every_type = pytest.mark.parametrize("name", EVERY_TYPE)


def recorder(intents: list[Evidence]) -> Callable[[Evidence], Awaitable[None]]:
    async def record(before: Evidence) -> None:
        intents.append(before)

    return record


async def order(
    line: Line, conversation: Conversation[T], intents: list[Evidence] | None = None
) -> T:
    record = recorder([] if intents is None else intents)
    return await line.converse(
        AT.unit, conversation, priority=Priority.COMMAND, record_intent=record
    )


def link_to(bus: Bus) -> FakeLink:
    def script(frame: bytes) -> Script:
        answer = bus.answer(frame)
        return [] if answer is None else [(REPLY_S, answer)]

    return fake(script)


@every_type
@virtual_time
async def test_orders_of_every_type_run_on_a_line(name: str) -> None:
    bench = Bench(name)
    link = link_to(bench.bus)
    line = line_on(link)
    intents: list[Evidence] = []
    bought = await order(line, bench.driver.top_up(AT, FIFTY), intents)
    assert bought.verdict is Verdict.APPLIED
    assert intents == [bought.before]
    for supply in Supply:
        await order(line, bench.driver.set_supply(AT, supply), intents)
    assert bench.meter.forced is Forced.RELEASED
    assert len(intents) == 4
    assert line.health.unsettled == 0


@every_type
@virtual_time
async def test_a_lost_answer_leaves_the_order_unsettled_and_the_frame_sent_once(
    name: str,
) -> None:
    bench = Bench(name)
    link = fake(
        lambda frame: (
            [(REPLY_S, answer)] if (answer := bench.bus.answer(frame)) and frame[1] == 3 else []
        )
    )
    line = line_on(link)
    with pytest.raises(Unsettled):
        await order(line, bench.driver.top_up(AT, FIFTY))
    assert len([frame for frame in link.frames if frame[1] != 3]) == 1
    seen = await line.converse(AT.unit, bench.driver.evidence(AT), priority=Priority.COMMAND)
    assert seen.purchase_count == 4, "it had landed"


@virtual_time
async def test_an_order_without_a_way_to_record_its_intent_writes_nothing() -> None:
    bench = Bench("acrel_ddsy1352")
    link = link_to(bench.bus)
    with pytest.raises(BrokenRule):
        await line_on(link).converse(
            AT.unit, bench.driver.top_up(AT, FIFTY), priority=Priority.COMMAND
        )
    assert {frame[1] for frame in link.frames} == {3}


# ---- enciphered ---------------------------------------------------------------------------------


def opened(ciphertext: bytes) -> bytes:
    """The plain frame, written from the description of the cipher (spec acrel.md 3.6)."""
    k0, k1, k2, k3 = KEY_WORDS
    plain = b""
    for at in range(0, len(ciphertext), 4):
        a = int.from_bytes(ciphertext[at : at + 2], "big")
        b = int.from_bytes(ciphertext[at + 2 : at + 4], "big")
        for turn in range(16, 0, -1):
            s = turn * 0x9E3779B9
            b = (b - (((a << 4) + k2) ^ (a + s) ^ ((a >> 5) + k3))) % 0x10000
            a = (a - (((b << 4) + k0) ^ (b + s) ^ ((b >> 5) + k1))) % 0x10000
        plain += a.to_bytes(2, "big") + b.to_bytes(2, "big")
    return plain


class SecretiveMeter:
    """A DDSY1352 with encryption on: purchases and prepaid settings only as ciphertext."""

    def __init__(self, at: int = AT.unit) -> None:
        self.meter: Meter = meter(HandClock(), count=3)
        unit = acrel_unit(DDSY1352, self.meter, at)
        unit.areas = [area for area in unit.areas if not area.covers(0x0022)]
        unit.areas.append(Memory(0x0022, b"\x00\x61").area)  # encryption on
        self.bus = Bus({at: unit})
        self.secret: list[bytes] = []

    def answer(self, frame: bytes) -> bytes | None:
        if frame[1] == 0x20 and frame[2:4] in (b"\x01\x00", b"\x02\x00"):
            return None  # in the clear: ignored
        if frame[-2:] != checksum(frame[:-2]) and len(frame) in (20, 72):
            self.secret.append(frame)
            frame = opened(frame)[: 17 if len(frame) == 20 else 69]
        return self.bus.answer(frame)

    def script(self, frame: bytes) -> Script:
        answer = self.answer(frame)
        return [] if answer is None else [(REPLY_S, answer)]


def secret_driver(**options: str | bool | SiteKey) -> Driver:
    given: Options = {"encryption": True, "site_key": SiteKey(lambda: KEY_WORDS), **options}
    return load_meter_types()["acrel_ddsy1352"].new_driver(given)


@virtual_time
async def test_purchases_and_prices_go_out_enciphered_and_the_rest_in_the_clear() -> None:
    secretive = SecretiveMeter()
    link = fake(secretive.script)
    line = line_on(link)
    driver = secret_driver()
    bought = await order(line, driver.top_up(AT, FIFTY))
    assert bought.verdict is Verdict.APPLIED
    assert [a.amount_fen for a in secretive.meter.applied] == [5000]
    prices = Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35)
    assert await order(line, driver.configure(AT, prices, lambda: METER_EPOCH))
    assert [len(frame) for frame in secretive.secret] == [20, 72]
    await order(line, driver.set_supply(AT, Supply.TRIP))
    assert len(secretive.secret) == 2


@virtual_time
async def test_ciphertext_that_looks_like_a_factory_code_is_sent_all_the_same() -> None:
    """Its second byte is no function code, and hangs on unit and key alone: one meter in thirteen
    could never be sold anything."""
    unlucky = next(
        unit
        for unit in range(1, 248)
        if FACTORY_CODE_MIN <= encipher(bytes((unit, 0x20, 1, 0)), KEY_WORDS)[1] <= FACTORY_CODE_MAX
    )
    secretive = SecretiveMeter(unlucky)
    line = line_on(fake(secretive.script))
    bought = await order(line, secret_driver().top_up(Address(unlucky), FIFTY))
    assert bought.verdict is Verdict.APPLIED
    assert FACTORY_CODE_MIN <= secretive.secret[0][1] <= FACTORY_CODE_MAX


@virtual_time
async def test_a_meter_and_a_site_file_that_disagree_about_encryption_write_nothing() -> None:
    link = fake(SecretiveMeter().script)
    with pytest.raises(NotReady, match="takes enciphered purchases; set its option encryption"):
        await order(line_on(link), secret_driver(encryption=False).top_up(AT, FIFTY))
    plain = Bench("acrel_ddsy1352")
    with pytest.raises(NotReady, match="takes plain purchases"):
        await order(line_on(link_to(plain.bus)), secret_driver().top_up(AT, FIFTY))
    assert not plain.meter.applied


@virtual_time
async def test_without_its_key_nothing_is_written_and_no_key_is_ever_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    intents: list[Evidence] = []
    for key in (SiteKey(lambda: (0xBEEF,)), None):
        given: dict[str, SiteKey] = {} if key is None else {"site_key": key}
        driver = load_meter_types()["acrel_ddsy1352"].new_driver({"encryption": True, **given})
        link = fake(SecretiveMeter().script)
        with pytest.raises(NotReady, match="import"):
            await order(line_on(link), driver.top_up(AT, FIFTY), intents)
        assert {frame[1] for frame in link.frames} == {3}
    assert not intents
    assert str(0xBEEF) not in caplog.text
    assert "beef" not in caplog.text.lower()


def test_a_key_never_stands_in_a_site_file() -> None:
    with pytest.raises(BadOption, match="never stands in a file"):
        secret_driver(site_key="0123456789abcdef")
    with pytest.raises(BadOption, match="option rates is a key"):
        secret_driver(rates=SiteKey(lambda: KEY_WORDS))
