"""What a desk does with a card on its reader, the same for every medium: read, write, clear, make.

A write never mixes: the zone's other copy loses its commit, gets the record, gets its commit, and
is read back. Pulled anywhere, the card shows the old record or the new one, and the same write run
again finishes it. The meter's write-back is cleared before a new record, and only once the caller
has kept what it said.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.card_apdu import (
    CardConversation,
    CardSpent,
    Issuer,
    KeyNo,
    Medium,
    NotOurCard,
    ZoneName,
    ask_keys,
)
from protocols.card_image import (
    BEARER_KINDS,
    BODY_BYTES,
    COMMIT_BYTES,
    MAC_BYTES,
    STANDARD,
    CardFormat,
    CardRecord,
    WriteBack,
    commit_of,
    generation_of,
    zone_of,
)
from protocols.card_note import LandingNote, note_body_of, note_of
from protocols.key_call import Denial, Operation, Purpose

#: the device of a card for every meter of an area
ANY_METER = "000000000000"


class Seal(enum.Enum):
    """What a MAC on a card is worth."""

    GOOD = "good"
    BAD = "bad"
    REVOKED = "revoked"  # the version of the key is not accepted any more


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSeen:
    """A card of ours as it lies on the reader."""

    serial: bytes
    record: CardRecord | None = None  # None: nothing whole, or nothing we can read
    seal: Seal | None = None  # of the record
    back: WriteBack | None = None  # None: the write-back zone is empty
    back_seal: Seal | None = None
    #: something lies in the write-back zone, whole or not
    back_written: bool = False
    #: what the head-end wrote there at a terminal; the zone holds this or a meter's word
    note: LandingNote | None = None
    note_seal: Seal | None = None

    @property
    def witness(self) -> WriteBack | LandingNote | None:
        """What lies in the write-back zone, if its seal is good; of a note: if it is this card's,
        since what says nothing of the card that bears it is a copy."""
        if self.back_seal is Seal.GOOD:
            return self.back
        if self.note_seal is Seal.GOOD and self.note is not None:
            return self.note if self.note.serial == self.serial else None
        return None

    @property
    def is_taken(self) -> bool:
        """The record is in its meter: a witness names this count, or a later one."""
        record = self.record
        return record is not None and self.tells(record.meter_number, record.purchase_count)

    def tells(self, meter_number: str, purchase_count: int) -> bool:
        """A witness says that this count is in this meter."""
        told = self.witness
        return (
            told is not None
            and told.meter_number == meter_number
            and told.purchase_count >= purchase_count
        )


def device_of(meter_number: str) -> bytes:
    """A meter number as the eight bytes its keys are derived by."""
    return bytes.fromhex(meter_number).rjust(8, b"\0")


def purpose_of(record: CardRecord) -> Purpose:
    """Which key seals a card of this kind."""
    return Purpose.PARAMETERS if record.kind in BEARER_KINDS else Purpose.RECHARGE


def seal(
    issuer: Issuer, record: CardRecord, card_format: CardFormat = STANDARD
) -> CardConversation[bytes]:
    """The 48 bytes of a record with its MAC, always the same for the same record.

    The version that issues now must be the one the record names. Raises KeyNo, NotOurCard.
    """
    try:
        body = card_format.body_of(record)
    except ValueError as error:
        raise NotOurCard(str(error)) from error
    made = yield from ask_keys(
        issuer.call(
            Operation.MAC,
            purpose_of(record),
            device_of(record.meter_number),
            body,
            version=record.key_version,
        )
    )
    return body + made.value[:MAC_BYTES]


def read_card(
    medium: Medium, issuer: Issuer, card_format: CardFormat = STANDARD
) -> CardConversation[CardSeen]:
    """What is on the card; writes nothing. Raises BlankCard, NotOurCard, CardSpent, CardGone."""
    serial = yield from medium.open(issuer)
    down = zone_of(*(yield from medium.read_copies(issuer, serial, ZoneName.DOWN)))
    ups = yield from medium.read_copies(issuer, serial, ZoneName.UP)
    up = zone_of(*ups)
    record = None if down.record is None else card_format.record_of(down.record)
    back = None if up.record is None else card_format.write_back_of(up.record)
    note = note_of(up.record) if up.record is not None and card_format.has_notes else None
    seen_seal = back_seal = note_seal = None
    if record is not None and down.record is not None:
        seen_seal = yield from check_seal(
            issuer, purpose_of(record), record.meter_number, record.key_version, down.record
        )
    if back is not None and up.record is not None:
        back_seal = yield from check_seal(
            issuer, Purpose.WRITE_BACK, back.meter_number, back.key_version, up.record
        )
    if note is not None and up.record is not None:
        note_seal = yield from _note_seal(issuer, note, up.record)
    return CardSeen(
        serial=serial,
        record=record,
        seal=seen_seal,
        back=back,
        back_seal=back_seal,
        back_written=any(any(copy.commit) for copy in ups),
        note=note,
        note_seal=note_seal,
    )


def write_card(
    medium: Medium, issuer: Issuer, record: CardRecord, card_format: CardFormat = STANDARD
) -> CardConversation[CardSeen]:
    """Put a record on the card that is on the reader, and read it back.

    The caller has seen the card before and kept its write-back. Raises NotOurCard when another
    card lies there now, or the medium may not carry such a card; CardSpent when the card does not
    keep what was written; CardGone, and then the next reading decides.
    """
    if medium.is_copied_with_ease and record.kind in BEARER_KINDS:
        raise NotOurCard(f"a {record.kind.name.lower()} card is never made of a {medium.name}")
    sealed = yield from seal(issuer, record, card_format)
    serial = yield from medium.open(issuer)
    if serial != record.serial:
        raise NotOurCard("another card lies on the reader now")
    yield from medium.allow_writing(issuer, serial)
    yield from _clear(medium, issuer, serial, ZoneName.UP)
    yield from _put(medium, issuer, serial, ZoneName.DOWN, sealed)
    seen = yield from read_card(medium, issuer, card_format)
    if seen.record != record or seen.seal is not Seal.GOOD or seen.back_written:
        raise CardSpent("the card does not keep what is written on it: take another one")
    return seen


def write_note(
    medium: Medium, issuer: Issuer, note: LandingNote, card_format: CardFormat = STANDARD
) -> CardConversation[CardSeen]:
    """Put a landing where a meter writes back, unless the card tells it already.

    Never beside a purchase that is to come: a meter takes that only while the zone is empty. The
    caller has kept what a meter wrote there. Raises NotOurCard before anything is written on a card
    it is not for; CardSpent when the card does not keep it; CardGone, and then the next reading
    decides.
    """
    assert card_format.has_notes, "asked of a unit that keeps notes"
    seen = yield from read_card(medium, issuer, card_format)
    if seen.serial != note.serial:
        raise NotOurCard("another card lies on the reader now")
    record = seen.record
    if record is not None and (
        seen.seal is not Seal.GOOD
        or record.meter_number != note.meter_number
        or record.purchase_count > note.purchase_count
    ):
        raise NotOurCard("the card carries something else now")
    if seen.tells(note.meter_number, note.purchase_count):
        return seen
    body = note_body_of(note)
    made = yield from ask_keys(
        issuer.call(
            Operation.MAC,
            Purpose.TERMINAL_WRITE_BACK,
            device_of(note.meter_number),
            body,
            version=note.key_version,
        )
    )
    yield from medium.allow_writing(issuer, seen.serial)
    yield from _put(medium, issuer, seen.serial, ZoneName.UP, body + made.value[:MAC_BYTES])
    seen = yield from read_card(medium, issuer, card_format)
    if seen.note != note or seen.note_seal is not Seal.GOOD:
        raise CardSpent("the card does not keep what is written on it: take another one")
    return seen


def clear_card(
    medium: Medium, issuer: Issuer, card_format: CardFormat = STANDARD
) -> CardConversation[CardSeen]:
    """Take both records off a card of ours."""
    serial = yield from medium.open(issuer)
    yield from medium.allow_writing(issuer, serial)
    yield from _clear(medium, issuer, serial, ZoneName.DOWN)
    yield from _clear(medium, issuer, serial, ZoneName.UP)
    seen = yield from read_card(medium, issuer, card_format)
    if seen.record is not None or seen.back_written:
        raise CardSpent("the card does not keep what is written on it: take another one")
    return seen


def check_seal(
    issuer: Issuer, purpose: Purpose, meter_number: str, version: int, record: bytes
) -> CardConversation[Seal]:
    """What the MAC behind a body is worth."""
    try:
        told = yield from ask_keys(
            issuer.call(
                Operation.CHECK,
                purpose,
                device_of(meter_number),
                record[:BODY_BYTES],
                mac=record[BODY_BYTES:],
                version=version,
            )
        )
    except KeyNo as no:
        if no.denied.denial in (Denial.KEY_STOPPED, Denial.NO_SUCH_KEY):
            return Seal.REVOKED
        raise
    return Seal.GOOD if told.value == b"\x01" else Seal.BAD


def _note_seal(issuer: Issuer, note: LandingNote, record: bytes) -> CardConversation[Seal]:
    """As any seal; a head-end that may not ask about these has no witness there, and goes on."""
    try:
        return (
            yield from check_seal(
                issuer, Purpose.TERMINAL_WRITE_BACK, note.meter_number, note.key_version, record
            )
        )
    except KeyNo as no:
        if no.denied.denial is Denial.NOT_ALLOWED:
            return Seal.REVOKED
        raise


def _put(
    medium: Medium, issuer: Issuer, serial: bytes, zone: ZoneName, record: bytes
) -> CardConversation[None]:
    copies = yield from medium.read_copies(issuer, serial, zone)
    state = zone_of(*copies)
    target = state.next_copy
    if state.record == record:
        return  # an earlier try came this far
    if any(copies[target].commit):
        yield from medium.write_commit(issuer, serial, zone, target, bytes(COMMIT_BYTES))
    yield from medium.write_record(issuer, serial, zone, target, record)
    commit = commit_of(record, state.next_generation)
    yield from medium.write_commit(issuer, serial, zone, target, commit)


def _clear(medium: Medium, issuer: Issuer, serial: bytes, zone: ZoneName) -> CardConversation[None]:
    """The copy that does not count first: pulled in between, the card still shows what it said."""
    copies = yield from medium.read_copies(issuer, serial, zone)
    other = zone_of(*copies).next_copy
    for copy in (other, 1 - other):
        if generation_of(copies[copy]) is not None or any(copies[copy].commit):
            yield from medium.write_commit(issuer, serial, zone, copy, bytes(COMMIT_BYTES))
