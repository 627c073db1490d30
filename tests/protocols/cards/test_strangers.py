"""Cards that are not ours, cards that refuse, and the rules inside the meter (spec B.3)."""

from __future__ import annotations

import pytest

from protocols.card_apdu import (
    Apdu,
    CardGone,
    CardRefused,
    CardSpent,
    NotOurCard,
    answer_of,
)
from protocols.card_desk import (
    clear_card,
    read_card,
    seal,
    write_card,
)
from protocols.card_image import CardKind, CardReason
from protocols.exchange import Effect
from protocols.key_call import KeyResult, Operation, Purpose
from simulators import card_meter
from simulators.cards import CpuCard, LogicCard, MemoryCard, RfCard, VirtualCard
from tests.protocols.cards.desk import (
    AREA,
    CUSTOMER,
    FAMILIES,
    ISSUER,
    METER,
    NEW_SERIAL,
    ROOTS,
    Family,
    Keys,
    cpu_card,
    do,
    meter,
    purchase,
    read,
)

# --- cards that are not ours ---


class Foreign(MemoryCard):
    """Somebody else's data."""

    def __init__(self) -> None:
        super().__init__()
        self.memory[:] = bytes(range(256))


class ForeignLogic(LogicCard):
    """Somebody else's data and code."""

    def __init__(self) -> None:
        super().__init__(psc=b"\x12\x34\x56")
        self.memory[16:64] = bytes(48 - 8) + b"stranger"
        self.memory[16:18] = b"XY"


def foreign_rf() -> RfCard:
    card = RfCard()
    for sector in range(16):
        card.memory[sector * 64 + 48 : sector * 64 + 54] = b"secret"
        card.memory[sector * 64 + 58 : sector * 64 + 64] = b"SECRET"
    return card


def foreign_cpu() -> CpuCard:
    return CpuCard((bytes(16), bytes(range(16)), bytes(range(16))), AREA)


@pytest.mark.parametrize(
    ("family", "card"),
    list(zip(FAMILIES, [foreign_rf(), ForeignLogic(), Foreign(), foreign_cpu()], strict=True)),
    ids=[family.name for family in FAMILIES],
)
def test_a_foreign_card_is_not_touched(family: Family, card: VirtualCard) -> None:
    for conversation in (
        read_card(family.medium, ISSUER),
        write_card(family.medium, ISSUER, purchase(b"12345678")),
        clear_card(family.medium, ISSUER),
        family.medium.personalise(ISSUER, NEW_SERIAL),
    ):
        with pytest.raises(NotOurCard):
            do(card, conversation)
        card.inserted_again()
    assert card.writes == 0
    if isinstance(card, LogicCard):
        assert card.tries_min == 3
    if isinstance(card, CpuCard):
        assert card.tries == 8, "a fake is found before a try is spent"


def test_a_wrong_code_costs_one_try_and_then_none() -> None:
    family = FAMILIES[1]
    card, record = family.sold()
    assert isinstance(card, LogicCard)
    card.psc = b"abc"  # somebody changed it
    for _ in range(5):
        with pytest.raises((NotOurCard, CardSpent)):
            do(card, write_card(family.medium, ISSUER, record))
        card.inserted_again()
    assert card.tries_min == 2, "one try, and with two left none is made"


def test_a_blank_card_with_another_transport_code_keeps_two_tries() -> None:
    card = LogicCard(psc=b"\x11\x22\x33")
    for _ in range(3):
        with pytest.raises((NotOurCard, CardSpent)):
            do(card, FAMILIES[1].medium.personalise(ISSUER, NEW_SERIAL))
        card.inserted_again()
    assert card.tries_min == 2


def test_ninety_zero_zero_after_a_code_is_locked_not_success() -> None:
    class Dead(LogicCard):
        def special(self, ins: int, at: int, data: bytes, *, torn: bool) -> bytes:
            return b"\x07\0\0\0\x90\0" if ins == 0xB1 else b"\x90\x00"

    card = Dead()
    with pytest.raises(NotOurCard):
        do(card, FAMILIES[1].medium.personalise(ISSUER, NEW_SERIAL))


def test_a_cpu_card_that_refuses_us_is_asked_once() -> None:
    family = FAMILIES[3]
    card = cpu_card()
    card.external = bytes(16)
    with pytest.raises(NotOurCard, match="7 tries are left"):
        do(card, write_card(family.medium, ISSUER, purchase(card.serial)))
    assert card.tries == 7
    card.tries = 0
    with pytest.raises(CardSpent, match="blocked"):
        do(card, write_card(family.medium, ISSUER, purchase(card.serial)))


def test_a_recorded_update_of_a_cpu_card_does_not_work_again() -> None:
    family = FAMILIES[3]
    card, record = family.sold()
    assert isinstance(card, CpuCard)
    recorded: list[bytes] = []
    inner = card.apdu

    def tapped(command: bytes) -> bytes:
        recorded.append(command)
        return inner(command)

    card.apdu = tapped  # type: ignore[method-assign]
    do(card, write_card(family.medium, ISSUER, purchase(record.serial, 2)))
    updates = [command for command in recorded if command[1] == 0xD6]
    assert updates
    card.apdu(b"\0\x84\0\0\x08")
    for command in updates:
        assert inner(command)[-2:] in (b"\x69\x88", b"\x69\x87")
        card.apdu(b"\0\x84\0\0\x04")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_card_that_does_not_keep_data_is_spent(family: Family) -> None:
    card, serial = family.ours()

    def forgets(memory: bytearray, at: int, data: bytes, *, torn: bool) -> None:
        card.writes += 1

    card.put = forgets  # type: ignore[method-assign]
    with pytest.raises(CardSpent, match="does not keep"):
        do(card, write_card(family.medium, ISSUER, purchase(serial)))


def test_a_short_answer_is_a_pulled_card() -> None:
    for raw in (b"", b"\x90"):
        with pytest.raises(CardGone):
            answer_of(raw)
    assert str(CardRefused("read", 0x6A82)) == "read: the card answered 6A82"


# --- the meter's own rules (spec B.3) ---


@pytest.mark.parametrize(
    ("customer", "kind", "count", "reason"),
    [
        (None, CardKind.PURCHASE, 1, CardReason.NOT_OPENED),
        (None, CardKind.OPENING, 1, CardReason.DONE),
        (CUSTOMER, CardKind.PURCHASE, 4, CardReason.OLD),
        (CUSTOMER, CardKind.PURCHASE, 5, CardReason.ALREADY),
        (CUSTOMER, CardKind.PURCHASE, 6, CardReason.DONE),
        (CUSTOMER, CardKind.PURCHASE, 7, CardReason.AHEAD),
        ("999999999999", CardKind.PURCHASE, 6, CardReason.WRONG_CUSTOMER),
        (CUSTOMER, CardKind.REPLACEMENT, 5, CardReason.ALREADY),
        (CUSTOMER, CardKind.REPLACEMENT, 6, CardReason.DONE),
    ],
)
def test_the_meter_decides_by_count(
    customer: str | None, kind: CardKind, count: int, reason: CardReason
) -> None:
    family = FAMILIES[0]
    card, serial = family.ours()
    at_home = meter(customer, serial)
    at_home.account.purchase_count = 0 if customer is None else 5
    do(card, write_card(family.medium, ISSUER, purchase(serial, count, kind=kind)))
    assert at_home.hold(card) == reason.value
    seen = read(family.medium, card)
    assert seen.back is not None
    assert seen.back.reason is reason
    assert (at_home.account.record == {count: 5000}) is (reason is CardReason.DONE)


def test_a_lost_card_that_is_found_dies_by_its_replacement() -> None:
    family = FAMILIES[0]
    lost, record = family.sold(count=6)
    at_home = meter(serial=record.serial)
    at_home.account.purchase_count = 5
    other = RfCard(b"\1\2\3\4")
    serial = do(other, family.medium.personalise(ISSUER, NEW_SERIAL))
    again = purchase(serial, 6, kind=CardKind.REPLACEMENT)
    do(other, write_card(family.medium, ISSUER, again))
    assert at_home.hold(other) == card_meter.DONE
    assert at_home.hold(lost) == card_meter.WRONG_CARD
    assert at_home.account.record == {6: 5000}


def test_a_used_card_that_was_written_anew_without_clearing_is_refused() -> None:
    family = FAMILIES[0]
    card, record = family.sold(count=1)
    at_home = meter(serial=record.serial)
    at_home.hold(card)
    sealed = do(card, seal(ISSUER, purchase(record.serial, 2)))
    card_meter.write(card, card_meter.DOWN, sealed)
    assert at_home.hold(card) == card_meter.NOT_EMPTY
    assert at_home.account.purchase_count == 1


def test_low_voltage_hoarding_and_another_meter() -> None:
    family = FAMILIES[0]
    card, record = family.sold(count=1, fen=5000)
    at_home = meter(serial=record.serial)
    at_home.voltage_is_low = True
    writes = card.writes
    assert at_home.hold(card) == card_meter.LOW_VOLTAGE
    at_home.voltage_is_low = False
    at_home.hoarding_fen = 4999
    assert at_home.hold(card) == card_meter.TOO_MUCH
    at_home.hoarding_fen = 5000
    other = purchase(record.serial, meter_number="000000000102")
    do(card, write_card(family.medium, ISSUER, other))
    assert at_home.hold(card) == card_meter.BAD_MAC, "sealed for another meter's key"
    assert writes
    assert METER


def test_only_writes_are_marked_as_writes() -> None:
    """What the runner calls outcome unknown hangs on it."""
    family = FAMILIES[1]
    card, record = family.sold()
    conversation = write_card(family.medium, ISSUER, record)
    keys, step = Keys(), next(conversation)
    kinds = set()
    try:
        while True:
            if isinstance(step, Apdu):
                kinds.add((step.command[1], step.effect))
                step = conversation.send(answer_of(card.apdu(step.command)))
            else:
                told = keys(step)
                assert isinstance(told, KeyResult)
                step = conversation.send(told)
    except StopIteration:
        pass
    written = {ins for ins, effect in kinds if effect is Effect.WRITE}
    assert written <= {0xD0, 0xD1, 0xD2, 0x20}
    assert not {ins for ins, effect in kinds if effect is Effect.READ} & {0xD0, 0xD1, 0xD2}


def test_every_key_call_names_a_device_and_no_purpose_twice() -> None:
    family = FAMILIES[3]
    card, record = family.sold()
    keys = Keys()
    do(card, write_card(family.medium, ISSUER, record), keys)
    assert all(len(call.path) == 2 for call in keys.asked)
    purposes = {(call.purpose, call.operation) for call in keys.asked}
    assert (Purpose.RECHARGE, Operation.ENCRYPT) not in purposes
    assert ROOTS
