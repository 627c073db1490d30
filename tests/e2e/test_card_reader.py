"""Real PC/SC sessions with virtual cards: pyscard, pcscd, and a hand that pulls."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateways.card_reader import (
    CardUnsettled,
    NoCard,
    NoReader,
    PcscReader,
    ReaderBusy,
    readers,
)
from gateways.key_client import KeyRefused
from protocols.card_apdu import CardGone, KeyNo, Medium
from protocols.card_desk import CardSeen, read_card, write_card
from protocols.key_call import Denial, KeyCall, KeyDenied, KeyResult
from simulators import card_meter
from simulators.card_slot import CardSlot
from simulators.cards import LogicCard
from tests.e2e.pcsc import NEEDS_PCSC, pcscd
from tests.protocols.cards.desk import FAMILIES, ISSUER, Family, Keys, meter, purchase

pytestmark = NEEDS_PCSC
CARD_S_MAX = 20.0


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CardSlot]:
    with pcscd(tmp_path_factory.mktemp("pcsc")) as made:
        yield made


@pytest.fixture
def reader(slot: CardSlot) -> PcscReader:
    return PcscReader(next(name for name in readers() if name.endswith("00 00")))


async def keys(call: KeyCall) -> KeyResult:
    answer = Keys()(call)
    assert isinstance(answer, KeyResult)
    return answer


async def inserted(slot: CardSlot, reader: PcscReader, card: object) -> None:
    slot.pull()
    assert await reader.wait(present=False, timeout_s=CARD_S_MAX)
    slot.insert(card)  # type: ignore[arg-type]
    assert await reader.wait(present=True, timeout_s=CARD_S_MAX)


async def look(reader: PcscReader, medium: Medium) -> CardSeen:
    return await reader.converse(read_card(medium, ISSUER), keys)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_a_purchase_through_pcsc_reaches_the_meter(
    slot: CardSlot, reader: PcscReader, family: Family
) -> None:
    card, old = family.sold(count=1)
    await inserted(slot, reader, card)
    assert (await look(reader, family.medium)).record == old
    new = purchase(old.serial, 2, 7000)
    assert (await reader.converse(write_card(family.medium, ISSUER, new), keys)).record == new
    slot.pull()
    at_home = meter(serial=old.serial)
    at_home.account.purchase_count = 1
    assert at_home.hold(card) == card_meter.DONE
    await inserted(slot, reader, card)
    assert (await look(reader, family.medium)).is_taken


async def test_a_card_pulled_in_a_write_is_unsettled_and_the_next_look_decides(
    slot: CardSlot, reader: PcscReader
) -> None:
    family = FAMILIES[1]
    card, old = family.sold(count=1)
    new = purchase(old.serial, 2, 7000)
    await inserted(slot, reader, card)
    card.commands = 0
    card.tear_at = 9  # past the code, among the writes
    with pytest.raises(CardUnsettled, match="put it on the reader again"):
        await reader.converse(write_card(family.medium, ISSUER, new), keys)
    await inserted(slot, reader, card)
    assert (await look(reader, family.medium)).record in (old, new)
    assert (await reader.converse(write_card(family.medium, ISSUER, new), keys)).record == new
    assert isinstance(card, LogicCard)
    assert card.tries_min == 3


async def test_a_card_pulled_before_any_write_is_only_gone(
    slot: CardSlot, reader: PcscReader
) -> None:
    family = FAMILIES[0]
    card, _ = family.sold()
    await inserted(slot, reader, card)
    card.commands, card.pull_at = 0, 3
    with pytest.raises(CardGone):
        await look(reader, family.medium)
    slot.pull()
    assert await reader.wait(present=False, timeout_s=CARD_S_MAX)
    with pytest.raises(NoCard):
        await look(reader, family.medium)
    assert not await reader.wait(present=True, timeout_s=0.05)


async def test_a_reader_serves_one_program_and_a_key_that_is_refused_writes_nothing(
    slot: CardSlot, reader: PcscReader
) -> None:
    family = FAMILIES[1]
    card, old = family.sold()
    await inserted(slot, reader, card)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call: KeyCall) -> KeyResult:
        held.set()
        await go_on.wait()
        raise KeyRefused(KeyDenied(Denial.CREDIT_LIMIT))

    writes = card.writes
    first = asyncio.create_task(
        reader.converse(write_card(family.medium, ISSUER, purchase(old.serial, 2)), slow)
    )
    # The purchase is sealed before a command is sent; the connection is there already.
    await held.wait()
    other = PcscReader(reader.name)
    with pytest.raises(ReaderBusy):
        await look(other, family.medium)
    go_on.set()
    with pytest.raises(KeyNo, match="credit-limit"):
        await first
    assert card.writes == writes
    assert (await look(other, family.medium)).record == old
    await other.close()


async def test_no_such_reader(slot: CardSlot) -> None:
    with pytest.raises(NoReader):
        await look(PcscReader("No such reader 00 00"), FAMILIES[0].medium)


def test_no_service() -> None:
    # The library looks for the service once in a process.
    told = subprocess.run(
        [sys.executable, "-c", "from gateways.card_reader import readers; readers()"],
        env=os.environ | {"PCSCLITE_CSOCK_NAME": "/nonexistent/pcscd.comm"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NoReader: no PC/SC service" in told.stderr
