"""RF cards of the MIFARE Classic 1K kind, through a PC/SC contactless reader (spec A.4).

Sixteen sectors of three data blocks of 16 bytes and a trailer. A record fills the three blocks of a
sector, one sector a copy; the commits have sectors of their own. Every sector has two keys made for
this card and this sector; data are read with key A and written with key B, and no sector keeps a
factory key. The cipher of these cards is broken: what protects money is the MAC over the record and
the meter's counter, not the sector keys.
"""

from __future__ import annotations

from typing import Final

from protocols.card_apdu import (
    Apdu,
    BlankCard,
    CardConversation,
    CardRefused,
    Issuer,
    NotOurCard,
    ZoneName,
    padded_serial,
    secret_of,
    transmit,
    transmit_ok,
)
from protocols.card_image import COMMIT_BYTES, Copy
from protocols.exchange import Effect

BLOCK_BYTES: Final = 16
SECTORS: Final = 16
_FACTORY_KEY: Final = b"\xff" * 6
# Data blocks 100: read with A or B, written with B. Trailer 011: written with B. Then a spare byte.
_ACCESS: Final = bytes.fromhex("78778869")
_KEY_A, _KEY_B = 0x60, 0x61
_KEY_SLOT: Final = 0
_WRONG_KEY: Final = frozenset({0x6300, 0x6982, 0x6983, 0x6986})


def _record_sector(zone: ZoneName, copy: int) -> int:
    return 1 + 2 * zone.value + copy


def _commit_sector(zone: ZoneName) -> int:
    return 5 + zone.value


class MifareCard:
    """MIFARE Classic 1K behind a PC/SC part 3 reader."""

    name = "rf_card"
    can_be_cloned = True  # its cipher is broken, and blanks that take any UID are sold
    is_copied_with_ease = False  # its UID is registered in the meter; a full clone credits once

    def open(self, issuer: Issuer) -> CardConversation[bytes]:
        """The serial is the card's UID."""
        uid = yield from transmit_ok(Apdu("read the UID", b"\xff\xca\0\0\0"))
        serial = padded_serial(uid)
        if not uid or not any(uid):
            raise NotOurCard("the reader gave no UID")
        if (yield from self._enter(issuer, serial, 1, _KEY_A)):
            return serial
        if (yield from _enter_with(_FACTORY_KEY, 1, _KEY_A)):
            raise BlankCard("the card is blank")
        raise NotOurCard("the sectors of this card have keys that are not ours")

    def read_copies(
        self, issuer: Issuer, serial: bytes, zone: ZoneName
    ) -> CardConversation[tuple[Copy, Copy]]:
        """Two sectors with records, one with both commits."""
        yield from self._must_enter(issuer, serial, _commit_sector(zone), _KEY_A)
        commits = []
        for copy in (0, 1):
            block = yield from _read(4 * _commit_sector(zone) + copy)
            commits.append(block[:COMMIT_BYTES])
        records = []
        for copy in (0, 1):
            sector = _record_sector(zone, copy)
            yield from self._must_enter(issuer, serial, sector, _KEY_A)
            record = b""
            for index in range(3):
                record += yield from _read(4 * sector + index)
            records.append(record)
        return Copy(records[0], commits[0]), Copy(records[1], commits[1])

    def allow_writing(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        """Each sector is entered when it is written."""
        yield from ()

    def write_record(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, record: bytes
    ) -> CardConversation[None]:
        """Three blocks of one sector."""
        sector = _record_sector(zone, copy)
        yield from self._must_enter(issuer, serial, sector, _KEY_B)
        for index in range(3):
            block = record[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
            yield from _write(4 * sector + index, block)

    def write_commit(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, commit: bytes
    ) -> CardConversation[None]:
        """One block of the sector with both commits."""
        sector = _commit_sector(zone)
        yield from self._must_enter(issuer, serial, sector, _KEY_B)
        yield from _write(4 * sector + copy, commit.ljust(BLOCK_BYTES, b"\0"))

    def personalise(self, issuer: Issuer, new_serial: bytes) -> CardConversation[bytes]:
        """Each sector gets its two keys; a sector that has them already is left as it is.

        Sector 1 is last: until it is ours the card reads as blank, and this may be run again.
        """
        uid = yield from transmit_ok(Apdu("read the UID", b"\xff\xca\0\0\0"))
        serial = padded_serial(uid)
        for sector in (0, *range(2, SECTORS), 1):
            if (yield from self._enter(issuer, serial, sector, _KEY_B)):
                continue
            if not (yield from _enter_with(_FACTORY_KEY, sector, _KEY_A)):
                raise NotOurCard(f"sector {sector} has a key that is neither ours nor the maker's")
            if sector:
                for index in range(3):
                    yield from _write(4 * sector + index, bytes(BLOCK_BYTES))
            key_a = yield from _sector_key(issuer, serial, sector, _KEY_A)
            key_b = yield from _sector_key(issuer, serial, sector, _KEY_B)
            yield from _write(4 * sector + 3, key_a + _ACCESS + key_b)
        return serial

    def _enter(
        self, issuer: Issuer, serial: bytes, sector: int, which: int
    ) -> CardConversation[bool]:
        key = yield from _sector_key(issuer, serial, sector, which)
        return (yield from _enter_with(key, sector, which))

    def _must_enter(
        self, issuer: Issuer, serial: bytes, sector: int, which: int
    ) -> CardConversation[None]:
        if not (yield from self._enter(issuer, serial, sector, which)):
            raise NotOurCard(f"sector {sector} has a key that is not ours")


def _sector_key(issuer: Issuer, serial: bytes, sector: int, which: int) -> CardConversation[bytes]:
    return (yield from secret_of(issuer, serial, b"rf_card sector" + bytes((sector, which)), 6))


def _enter_with(key: bytes, sector: int, which: int) -> CardConversation[bool]:
    """Load a key into the reader and enter a sector with it; False: it is not the right one."""
    load = b"\xff\x82\0" + bytes((_KEY_SLOT, 6)) + key
    yield from transmit_ok(Apdu("load a key", load))
    enter = b"\xff\x86\0\0\x05\x01\0" + bytes((4 * sector, which, _KEY_SLOT))
    answer = yield from transmit(Apdu(f"enter sector {sector}", enter))
    if answer.status in _WRONG_KEY:
        return False
    if not answer.is_ok:
        raise CardRefused(f"enter sector {sector}", answer.status)
    return True


def _read(block: int) -> CardConversation[bytes]:
    data = yield from transmit_ok(
        Apdu(f"read block {block}", b"\xff\xb0\0" + bytes((block, BLOCK_BYTES)))
    )
    return data.ljust(BLOCK_BYTES, b"\0")


def _write(block: int, data: bytes) -> CardConversation[None]:
    command = b"\xff\xd6\0" + bytes((block, BLOCK_BYTES)) + data
    yield from transmit_ok(Apdu(f"write block {block}", command, Effect.WRITE))
