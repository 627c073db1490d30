"""The contract of a security unit: what one maker's meters want on a card, behind one interface.

A unit is found by the code of the meter type. It reads, writes and clears cards by conversations
and turns records into the maker's bytes. It keeps no count and no money: the head-end gives it both
and compares what it reads back. Public description: docs/security-units.md.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from protocols.card_apdu import CardConversation, Issuer
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind, CardRecord
from protocols.card_media import MEDIA, VIRTUAL
from protocols.card_note import LandingNote
from protocols.key_call import Purpose

API_VERSION = 1
ENTRY_POINT_GROUP = "headend.security_units"


class Channel(enum.Enum):
    """How a meter of this type may be given credit."""

    CARD = "card"
    REMOTE = "remote"
    TEXT = "text"
    TERMINAL = "terminal"


class UnitError(Exception):
    """Units that cannot be used; one sentence that names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a unit is for."""

    name: str  # "hanhe_rf": letters, digits and underscores
    maker: str
    version: str
    api_version: int
    #: codes of meter types, with * and ? as wildcards
    type_codes: tuple[str, ...]
    medium: str  # of protocols/card_media.py, or "virtual"
    reader_family: str  # "pcsc" for contactless, "acs" for contact cards through an ACS reader
    keys: frozenset[Purpose]  # none of a closed unit, which has its own
    channels: frozenset[Channel]
    kinds: frozenset[CardKind]

    def __post_init__(self) -> None:
        """Raises UnitError."""
        if not re.fullmatch(r"[a-z0-9_]{1,40}", self.name):
            raise UnitError(f"{self.name!r} is no name of a unit: a-z, 0-9 and _")
        if self.api_version != API_VERSION:
            raise UnitError(f"{self.name} speaks version {self.api_version}, not {API_VERSION}")
        if self.medium not in MEDIA and self.medium != VIRTUAL:
            known = ", ".join((*MEDIA, VIRTUAL))
            raise UnitError(f"{self.name}: {self.medium} is no medium; known are {known}")
        if not self.type_codes or not self.kinds or not self.channels:
            raise UnitError(f"{self.name}: type codes, card kinds and channels are named")

    def matches(self, type_code: str) -> bool:
        """Whether it is for meters of this type."""
        return any(fnmatch.fnmatchcase(type_code, pattern) for pattern in self.type_codes)


class SecurityUnit(Protocol):
    """One maker's cards. Each call is a conversation; a unit that needs no card yields no command.

    All of them raise CardError; none of them writes on a card that is not the unit's own.
    """

    @property
    def manifest(self) -> Manifest:
        """What it is for."""
        ...

    def for_issuer(self, issuer: Issuer) -> SecurityUnit:
        """The same unit with a site's keys and fresh chance; a closed unit has its own."""
        ...

    def read(self) -> CardConversation[CardSeen]:
        """What is on the card. Writes nothing."""
        ...

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        """Put a record on the card and read it back; run again, it finishes what was pulled."""
        ...

    def clear(self) -> CardConversation[CardSeen]:
        """Take the records off."""
        ...

    def personalise(self, new_serial: bytes) -> CardConversation[bytes]:
        """A blank card becomes one of the unit's; its serial."""
        ...

    def image(self, record: CardRecord) -> CardConversation[bytes]:
        """The record as the maker's bytes with its MAC: the same each time."""
        ...

    def parse(self, image: bytes) -> CardConversation[tuple[CardRecord, Seal] | None]:
        """The record of such bytes and what its MAC is worth; None where they are none."""
        ...


@runtime_checkable
class NotingUnit(SecurityUnit, Protocol):
    """A unit whose cards bear what a terminal writes on them; its manifest names the key."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        """Put a landing on the card and read it back; run again, it finishes what was pulled."""
        ...


class UnitRegister:
    """Every unit there is, by the code of a meter type."""

    def __init__(self, units: Iterable[SecurityUnit], type_codes: Iterable[str]) -> None:
        """Raises UnitError: two of one name, or two for one of `type_codes`."""
        self._units: dict[str, SecurityUnit] = {}
        for unit in units:
            if unit.manifest.name in self._units:
                raise UnitError(f"two units are called {unit.manifest.name}: rename one")
            self._units[unit.manifest.name] = unit
        for code in type_codes:
            found = self._matching(code)
            if len(found) > 1:
                raise UnitError(
                    f"{' and '.join(found)} are both for meters of type {code}: remove one"
                )

    @property
    def units(self) -> Mapping[str, SecurityUnit]:
        """By name."""
        return MappingProxyType(self._units)

    def for_type(self, type_code: str) -> SecurityUnit | None:
        """The one unit for this meter type; None: there is none, and nothing is sold by card.

        Raises UnitError for two: a type that nobody named at the start.
        """
        found = self._matching(type_code)
        if len(found) > 1:
            raise UnitError(f"{' and '.join(found)} are both for meters of type {type_code}")
        return self._units[found[0]] if found else None

    def _matching(self, code: str) -> list[str]:
        return sorted(name for name, unit in self._units.items() if unit.manifest.matches(code))
