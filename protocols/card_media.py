"""Every medium by name, for the register of units and for tools."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.card_apdu import Medium
from protocols.card_cpu import CpuCard
from protocols.card_memory import At24Card, Sle4442Card
from protocols.card_mifare import MifareCard

_ALL: tuple[Medium, ...] = (MifareCard(), Sle4442Card(), At24Card(), CpuCard())

MEDIA: Mapping[str, Medium] = MappingProxyType({medium.name: medium for medium in _ALL})
#: a purchase as text needs no reader: card_virtual
VIRTUAL = "virtual"


def can_be_cloned(medium: str) -> bool:
    """Whether a second card of this medium can be made that no meter tells from the first; a
    purchase as text always can."""
    return medium == VIRTUAL or MEDIA[medium].can_be_cloned
