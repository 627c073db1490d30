"""Contact cards of plain bytes: SLE4442 with its security code, AT24C without any (spec A.1, A.2).

Both lie alike: ours at the front with a serial of the issuer, since neither has one of its own,
then two zones of two copies, 56 bytes each. The reader turns its own commands (ACS family) into the
card's signals.

SLE4442: the code (PSC) is three bytes, and three wrong ones kill the card. So the counter is read
before each try, and with fewer than three tries left none is made: through us it never goes below
two. A code is only ever shown to a card that carries our mark, or to a blank one. And `90 00` after
a code means locked, not success.
"""

from __future__ import annotations

from typing import Final

from protocols.card_apdu import (
    Apdu,
    BlankCard,
    CardConversation,
    CardRefused,
    CardSpent,
    Issuer,
    NotOurCard,
    ZoneName,
    secret_of,
    transmit,
    transmit_ok,
)
from protocols.card_image import COMMIT_BYTES, RECORD_BYTES, SERIAL_BYTES, Copy
from protocols.exchange import Effect

COPY_BYTES: Final = RECORD_BYTES + COMMIT_BYTES
ZONES_AT: Final = 32
MEMORY_BYTES: Final = ZONES_AT + 4 * COPY_BYTES
assert MEMORY_BYTES == 256, "an SLE4442 has 256 bytes"
_MARK: Final = b"HE"
# Being made ours: the code may be the maker's or ours. One byte differs, so that the change is
# never torn.
_MAKING: Final = b"hE"
# Within the 32 bytes an SLE4442 can protect, behind what its maker wrote.
_MARK_AT: Final = 16
# The last two: pulled in the middle of the mark, long before anything else changed.
_BLANK: Final = frozenset({b"\xff\xff", b"\0\0", b"h\xff", b"h\0"})


class _MemoryCard:
    """What both have in common."""

    name = ""
    is_copied_with_ease = True
    can_be_cloned = True
    _select = b""
    _write_bytes_max = 0  # in one command

    def open(self, issuer: Issuer) -> CardConversation[bytes]:
        """The serial our mark stands before."""
        mark, serial = yield from self._front()
        if mark in _BLANK:
            raise BlankCard("the card is blank")
        if mark == _MAKING:
            raise CardSpent("the card was pulled while it was made ours: take another one")
        if mark != _MARK:
            raise NotOurCard("the card carries another issuer's data")
        return serial

    def read_copies(
        self, issuer: Issuer, serial: bytes, zone: ZoneName
    ) -> CardConversation[tuple[Copy, Copy]]:
        """Both copies in two reads."""
        copies = []
        for copy in (0, 1):
            raw = yield from self._read(_at(zone, copy), COPY_BYTES)
            copies.append(Copy(raw[:RECORD_BYTES], raw[RECORD_BYTES:]))
        return copies[0], copies[1]

    def allow_writing(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        """Nothing to show."""
        yield from ()

    def write_record(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, record: bytes
    ) -> CardConversation[None]:
        """The first 48 bytes of a copy."""
        yield from self._write(_at(zone, copy), record)

    def write_commit(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, commit: bytes
    ) -> CardConversation[None]:
        """The last 8 bytes of a copy."""
        yield from self._write(_at(zone, copy) + RECORD_BYTES, commit)

    def _front(self) -> CardConversation[tuple[bytes, bytes]]:
        yield from transmit_ok(Apdu("choose the card type", self._select))
        front = yield from self._read(_MARK_AT, 2 + SERIAL_BYTES)
        return front[:2], front[2:]

    def _read(self, at: int, count: int) -> CardConversation[bytes]:
        command = b"\xff\xb0" + at.to_bytes(2, "big") + bytes((count,))
        data = yield from transmit_ok(Apdu(f"read {count} bytes at {at}", command))
        if len(data) != count:
            raise CardRefused(f"read {count} bytes at {at}", 0x6282)
        return data

    def _write(self, at: int, data: bytes) -> CardConversation[None]:
        """In pieces that do not cross a page."""
        while data:
            room = self._write_bytes_max - at % self._write_bytes_max
            piece, data = data[:room], data[room:]
            command = b"\xff\xd0" + at.to_bytes(2, "big") + bytes((len(piece),)) + piece
            yield from transmit_ok(Apdu(f"write at {at}", command, Effect.WRITE))
            at += len(piece)


class At24Card(_MemoryCard):
    """AT24C: a memory. Whoever holds one can copy it; purchases only."""

    name = "memory_card"
    _select = b"\xff\xa4\0\0\x01\x01"
    _write_bytes_max = 8  # the page a reader assumes after each insertion

    def personalise(self, issuer: Issuer, new_serial: bytes) -> CardConversation[bytes]:
        """Empty zones, the serial, and the mark last."""
        mark, _ = yield from self._front()
        if mark not in (*_BLANK, _MAKING):
            raise NotOurCard("the card is not blank")
        yield from self._write(ZONES_AT, bytes(4 * COPY_BYTES))
        yield from self._write(_MARK_AT, _MAKING + new_serial)
        yield from self._write(_MARK_AT, _MARK)
        return new_serial

    def open(self, issuer: Issuer) -> CardConversation[bytes]:
        """As above; one that was pulled while it was made ours is as good as blank."""
        mark, serial = yield from self._front()
        if mark in (*_BLANK, _MAKING):
            raise BlankCard("the card is blank")
        if mark != _MARK:
            raise NotOurCard("the card carries another issuer's data")
        return serial


class Sle4442Card(_MemoryCard):
    """SLE4442: read by everybody, written with a code of three bytes."""

    name = "logic_card"
    can_be_cloned = True
    is_copied_with_ease = True  # the code crosses the contacts in clear
    _select = b"\xff\xa4\0\0\x01\x06"
    _write_bytes_max = 256

    _FACTORY_PSC = b"\xff\xff\xff"
    _ALL_TRIES = 0x07

    def allow_writing(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        """Show the code, if all three tries are left."""
        psc = yield from _psc(issuer, serial)
        yield from self._present(psc)

    def personalise(self, issuer: Issuer, new_serial: bytes) -> CardConversation[bytes]:
        """Empty zones, the serial, our code, the mark, and the serial burnt in."""
        mark, _ = yield from self._front()
        if mark == _MAKING:
            raise CardSpent("the card was pulled while it was made ours: take another one")
        if mark not in _BLANK:
            raise NotOurCard("the card is not blank")
        yield from self._present(self._FACTORY_PSC)
        yield from self._write(ZONES_AT, bytes(4 * COPY_BYTES))
        psc = yield from _psc(issuer, new_serial)
        yield from self._write(_MARK_AT, _MAKING + new_serial)
        change = Apdu("change the code", b"\xff\xd2\0\x01\x03" + psc, Effect.WRITE)
        yield from transmit_ok(change)
        yield from self._write(_MARK_AT, _MARK)
        burn = b"\xff\xd1\0" + bytes((_MARK_AT, 2 + SERIAL_BYTES)) + _MARK + new_serial
        yield from transmit_ok(Apdu("burn the serial in", burn, Effect.WRITE))
        return new_serial

    def _present(self, psc: bytes) -> CardConversation[None]:
        counter = yield from transmit_ok(Apdu("read the tries left", b"\xff\xb1\0\0\x04"))
        if counter[:1] != bytes((self._ALL_TRIES,)):
            raise CardSpent("not all tries of the code are left: the card stays as it is")
        shown = yield from transmit(Apdu("show the code", b"\xff\x20\0\0\x03" + psc, Effect.WRITE))
        if shown.status >> 8 != 0x90:
            raise CardRefused("show the code", shown.status)
        if shown.status & 0xFF != self._ALL_TRIES:
            raise NotOurCard("the code of this card is not ours; two tries are left, none is made")


def _psc(issuer: Issuer, serial: bytes) -> CardConversation[bytes]:
    return (yield from secret_of(issuer, serial, b"logic_card code", 3))


def _at(zone: ZoneName, copy: int) -> int:
    return ZONES_AT + COPY_BYTES * (2 * zone.value + copy)
