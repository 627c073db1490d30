"""Cards, keys and a reader for examinations. Nothing here is ever used for money."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from protocols.card_apdu import CardConversation, CardGone, run
from protocols.key_call import KeyCall, KeyResult, Operation, Purpose
from simulators.card_meter import aes_block, cmac
from simulators.cards import (
    CpuCard,
    LogicCard,
    MemoryCard,
    Pulled,
    RfCard,
    VirtualCard,
    derived,
    retail_mac,
    triple_des,
)

T = TypeVar("T")

AREA: Final = b"AREA0001"
_TDES: Final = frozenset({Purpose.CARD_EXTERNAL, Purpose.CARD_INTERNAL, Purpose.CARD_UPDATE})


@dataclass
class KitKeys:
    """The answers of a key service with well-known keys, made by the simulators' own steps."""

    roots: dict[Purpose, bytes] = field(
        default_factory=lambda: {
            purpose: bytes((number,)) + b"conformance kit"
            for number, purpose in enumerate(Purpose, start=1)
        }
    )
    asked: list[KeyCall] = field(default_factory=list)
    #: secrets that went to a card: they must not be in a log either
    made: list[str] = field(default_factory=list)

    def __call__(self, call: KeyCall) -> KeyResult:
        self.asked.append(call)
        root = self.roots[call.purpose]
        if call.purpose in _TDES:
            key = derived(root, *call.path)
            if call.operation is Operation.ENCRYPT:
                return KeyResult(1, triple_des(key, call.data))
            return KeyResult(1, retail_mac(key, call.iv or bytes(8), call.data))
        key = root
        for level in call.path:
            key = aes_block(key, level + bytes(byte ^ 0xFF for byte in level))
        mac = cmac(key, call.data)
        if call.operation is Operation.CHECK:
            return KeyResult(1, bytes((mac[: len(call.mac)] == call.mac,)))
        if call.purpose is Purpose.CARD_ACCESS and len(self.made) < 64:
            self.made.append(mac[:6].hex())
        return KeyResult(1, mac)


def on_reader(conversation: CardConversation[T], card: VirtualCard | None, keys: KitKeys) -> T:
    """Run a conversation on a card, or on none."""

    def transmit(command: bytes) -> bytes:
        if card is None:
            raise CardGone("no card lies there")
        try:
            return card.apdu(command)
        except Pulled:
            raise CardGone("pulled") from None

    return run(conversation, transmit, keys)


def fresh_card(medium: str, keys: KitKeys) -> VirtualCard:
    """A card from the packet; a CPU card from its supplier."""
    if medium == "cpu_card":
        wanted = (Purpose.CARD_EXTERNAL, Purpose.CARD_INTERNAL, Purpose.CARD_UPDATE)
        external, internal, update = (keys.roots[purpose] for purpose in wanted)
        return CpuCard((external, internal, update), AREA)
    if medium == "rf_card":
        return RfCard()
    return LogicCard() if medium == "logic_card" else MemoryCard()


def foreign_card(medium: str) -> VirtualCard:
    """Somebody else's card of that family."""
    if medium == "rf_card":
        card = RfCard(b"\1\2\3\4")
        for sector in range(16):
            card.memory[sector * 64 + 48 : sector * 64 + 54] = b"theirA"
            card.memory[sector * 64 + 58 : sector * 64 + 64] = b"theirB"
        return card
    if medium == "cpu_card":
        return CpuCard((bytes(16), bytes(range(16)), bytes(range(1, 17))), AREA)
    made = LogicCard(psc=b"\x12\x34\x56") if medium == "logic_card" else MemoryCard()
    made.memory[16:64] = bytes(range(16, 64))
    return made
