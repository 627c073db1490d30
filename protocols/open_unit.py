"""An open unit: a maker's byte format over one of our media; its keys stay in the key service."""

from __future__ import annotations

from protocols import card_desk
from protocols.card_apdu import CardConversation, Issuer
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import RECORD_BYTES, CardFormat, CardRecord
from protocols.card_media import MEDIA
from protocols.card_note import LandingNote
from protocols.security_unit import Manifest

_NOBODY = Issuer("site", bytes(8))


class OpenUnit:
    """A SecurityUnit of a format and a medium."""

    def __init__(
        self, manifest: Manifest, card_format: CardFormat, issuer: Issuer = _NOBODY
    ) -> None:
        self._manifest = manifest
        self._format = card_format
        self._issuer = issuer
        self._medium = MEDIA[manifest.medium]

    @property
    def manifest(self) -> Manifest:
        """What it is for."""
        return self._manifest

    def for_issuer(self, issuer: Issuer) -> OpenUnit:
        """The same unit with a site's keys and fresh chance."""
        return OpenUnit(self._manifest, self._format, issuer)

    def read(self) -> CardConversation[CardSeen]:
        """What is on the card. Writes nothing."""
        return (yield from card_desk.read_card(self._medium, self._issuer, self._format))

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        """Put a record on the card and read it back."""
        return (yield from card_desk.write_card(self._medium, self._issuer, record, self._format))

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        """Put a landing on the card, at a terminal, and read it back."""
        return (yield from card_desk.write_note(self._medium, self._issuer, note, self._format))

    def clear(self) -> CardConversation[CardSeen]:
        """Take the records off."""
        return (yield from card_desk.clear_card(self._medium, self._issuer, self._format))

    def personalise(self, new_serial: bytes) -> CardConversation[bytes]:
        """A blank card becomes one of the unit's."""
        return (yield from self._medium.personalise(self._issuer, new_serial))

    def image(self, record: CardRecord) -> CardConversation[bytes]:
        """Body and MAC, 48 bytes."""
        return (yield from card_desk.seal(self._issuer, record, self._format))

    def parse(self, image: bytes) -> CardConversation[tuple[CardRecord, Seal] | None]:
        """The record of 48 bytes and what its MAC is worth."""
        record = self._format.record_of(image)
        if record is None or len(image) != RECORD_BYTES:
            return None
        worth = yield from card_desk.check_seal(
            self._issuer,
            card_desk.purpose_of(record),
            record.meter_number,
            record.key_version,
            image,
        )
        return record, worth
