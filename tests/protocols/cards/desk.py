"""A desk for tests: keys in software, cards as objects, a meter with a slot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from headend.keys import primitives
from headend.keys.primitives import Algorithm
from protocols.card_apdu import CardConversation, CardGone, Issuer, Medium, run
from protocols.card_cpu import CpuCard as CpuMedium
from protocols.card_desk import CardSeen, read_card, write_card
from protocols.card_image import CardKind, CardRecord
from protocols.card_memory import At24Card, Sle4442Card
from protocols.card_mifare import MifareCard
from protocols.key_call import Denial, KeyCall, KeyDenied, KeyResult, Operation, Purpose
from simulators.card_meter import CardReader
from simulators.cards import CpuCard, LogicCard, MemoryCard, Pulled, RfCard, VirtualCard

T = TypeVar("T")

AREA = b"AREA0001"
ISSUER = Issuer("site", AREA, b"12345678")
METER, CUSTOMER = "000000000101", "000000000001"
UID = b"\xde\xad\xbe\xef"
NEW_SERIAL = b"\0\0\x20\x26\0\0\0\x07"
ROOTS = {
    purpose: bytes((number,)) + bytes(range(1, 16))
    for number, purpose in enumerate(Purpose, start=1)
}
_TDES = frozenset({Purpose.CARD_EXTERNAL, Purpose.CARD_INTERNAL, Purpose.CARD_UPDATE})


@dataclass
class Keys:
    """The key service as a function: what it would answer, and what it was asked."""

    revoked: set[tuple[Purpose, int]] = field(default_factory=set)
    asked: list[KeyCall] = field(default_factory=list)

    def __call__(self, call: KeyCall) -> KeyResult | KeyDenied:
        self.asked.append(call)
        if (call.purpose, call.version) in self.revoked:
            return KeyDenied(Denial.KEY_STOPPED)
        algorithm = Algorithm.TDES2 if call.purpose in _TDES else Algorithm.AES128
        key = primitives.diversify(algorithm, ROOTS[call.purpose], call.path)
        if call.operation is Operation.ENCRYPT:
            return KeyResult(1, primitives.encrypt(algorithm, key, call.data))
        mac = primitives.mac(algorithm, key, call.iv, call.data)
        if call.operation is Operation.CHECK:
            return KeyResult(1, bytes((mac[: len(call.mac)] == call.mac,)))
        return KeyResult(1, mac)


def slot(card: VirtualCard) -> Callable[[bytes], bytes]:
    """A reader with this card on it."""

    def transmit(command: bytes) -> bytes:
        try:
            return card.apdu(command)
        except Pulled:
            raise CardGone("pulled") from None

    return transmit


def do(card: VirtualCard, conversation: CardConversation[T], keys: Keys | None = None) -> T:
    """Run a conversation on a card."""
    return run(conversation, slot(card), keys or Keys())


def read(medium: Medium, card: VirtualCard, keys: Keys | None = None) -> CardSeen:
    return do(card, read_card(medium, ISSUER), keys)


def meter(customer: str | None = CUSTOMER, serial: bytes | None = None) -> CardReader:
    """The meter the cards are for."""
    made = CardReader(
        METER,
        AREA,
        ROOTS[Purpose.RECHARGE],
        ROOTS[Purpose.PARAMETERS],
        ROOTS[Purpose.WRITE_BACK],
    )
    made.customer, made.serial = customer, serial
    return made


def purchase(serial: bytes, count: int = 1, fen: int = 5000, **other: object) -> CardRecord:
    """A purchase card for that meter."""
    made = CardRecord(
        kind=CardKind.PURCHASE,
        key_version=1,
        meter_number=METER,
        customer_number=CUSTOMER,
        serial=serial,
        issue_number=count,
        amount_fen=fen,
        purchase_count=count,
    )
    return replace(made, **other)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Family:
    """A medium and the card it drives, from the packet."""

    name: str
    medium: Medium
    fresh: Callable[[], VirtualCard]
    blank_is_ours: bool = False  # supplied with our keys

    def ours(self) -> tuple[VirtualCard, bytes]:
        """A card of ours, its zones empty, and its serial."""
        card = self.fresh()
        if not self.blank_is_ours:
            do(card, self.medium.personalise(ISSUER, NEW_SERIAL))
        serial = do(card, self.medium.open(ISSUER))
        card.inserted_again()
        return card, serial

    def sold(self, count: int = 1, fen: int = 5000) -> tuple[VirtualCard, CardRecord]:
        """One with a purchase on it."""
        card, serial = self.ours()
        record = purchase(serial, count, fen)
        do(card, write_card(self.medium, ISSUER, record))
        card.inserted_again()
        return card, record


def cpu_card() -> CpuCard:
    """As its supplier delivers it, with keys of our area."""
    wanted = (Purpose.CARD_EXTERNAL, Purpose.CARD_INTERNAL, Purpose.CARD_UPDATE)
    external, internal, update = (ROOTS[purpose] for purpose in wanted)
    return CpuCard((external, internal, update), AREA)


FAMILIES = (
    Family("rf_card", MifareCard(), lambda: RfCard(UID)),
    Family("logic_card", Sle4442Card(), LogicCard),
    Family("memory_card", At24Card(), MemoryCard),
    Family("cpu_card", CpuMedium(), cpu_card, blank_is_ours=True),
)
