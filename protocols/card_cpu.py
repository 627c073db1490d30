"""CPU cards (ISO 7816-4, PBOC style): card and we prove ourselves, updates carry a MAC.

The card first answers our challenge (internal authentication): a fake one is found before a try of
the external authentication is spent. A challenge lives for exactly one command, so no recorded
command works again. All keys are 3DES, derived for this card inside the key service (spec A.6).
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
    ask_keys,
    transmit,
    transmit_ok,
)
from protocols.card_image import COMMIT_BYTES, RECORD_BYTES, SERIAL_BYTES, Copy
from protocols.exchange import Effect
from protocols.key_call import Operation, Purpose

_SERIAL_FILE: Final = 0x05
_FIRST_COPY_FILE: Final = 0x11  # four files, one a copy: down, down, up, up
_EXTERNAL_KEY, _INTERNAL_KEY = 1, 2
_FILE_ABSENT: Final = frozenset({0x6A82, 0x6B00, 0x6A83})
_CHALLENGE: Final = Apdu("get a challenge", b"\0\x84\0\0\x08")


class CpuCard:
    """A CPU card of ours: files under 3F00/DF01."""

    name = "cpu_card"
    is_copied_with_ease = False
    can_be_cloned = False

    def open(self, issuer: Issuer) -> CardConversation[bytes]:
        """The serial file, then the card's proof that it holds the keys of this serial."""
        for label, file in (("the root", b"\x3f\0"), ("our folder", b"\xdf\x01")):
            answer = yield from transmit(Apdu(f"select {label}", b"\0\xa4\0\0\x02" + file))
            if answer.status in _FILE_ABSENT:
                raise BlankCard("the card has no files of ours")
            if not answer.is_ok and answer.status >> 8 != 0x61:
                raise CardRefused(f"select {label}", answer.status)
        command = b"\0\xb0" + bytes((0x80 | _SERIAL_FILE, 0, SERIAL_BYTES))
        answer = yield from transmit(Apdu("read the serial", command))
        if answer.status in _FILE_ABSENT:
            raise BlankCard("the card has no serial of ours")
        if not answer.is_ok or len(answer.data) != SERIAL_BYTES:
            raise CardRefused("read the serial", answer.status)
        yield from self._it_proves(issuer, answer.data)
        return answer.data

    def read_copies(
        self, issuer: Issuer, serial: bytes, zone: ZoneName
    ) -> CardConversation[tuple[Copy, Copy]]:
        """One file a copy."""
        copies = []
        for copy in (0, 1):
            head = b"\0\xb0" + bytes((0x80 | _file(zone, copy), 0))
            raw = yield from transmit_ok(
                Apdu("read a copy", head + bytes((RECORD_BYTES + COMMIT_BYTES,)))
            )
            copies.append(Copy(raw[:RECORD_BYTES], raw[RECORD_BYTES:]))
        return copies[0], copies[1]

    def allow_writing(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        """External authentication, once; a no is not tried again."""
        challenge = yield from transmit_ok(_CHALLENGE)
        proof = yield from ask_keys(
            issuer.call(Operation.ENCRYPT, Purpose.CARD_EXTERNAL, serial, challenge)
        )
        command = b"\0\x82\0" + bytes((_EXTERNAL_KEY, 8)) + proof.value
        answer = yield from transmit(Apdu("prove ourselves", command, Effect.WRITE))
        if answer.status & 0xFFF0 == 0x63C0:
            raise NotOurCard(f"the card refuses us; {answer.status & 0xF} tries are left")
        if answer.status == 0x6983:
            raise CardSpent("the card is blocked")
        if not answer.is_ok:
            raise CardRefused("prove ourselves", answer.status)

    def write_record(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, record: bytes
    ) -> CardConversation[None]:
        """The first 48 bytes of a file."""
        yield from self._update(issuer, serial, _file(zone, copy), 0, record)

    def write_commit(
        self, issuer: Issuer, serial: bytes, zone: ZoneName, copy: int, commit: bytes
    ) -> CardConversation[None]:
        """The last 8 bytes of a file."""
        yield from self._update(issuer, serial, _file(zone, copy), RECORD_BYTES, commit)

    def personalise(self, issuer: Issuer, new_serial: bytes) -> CardConversation[bytes]:
        """Files and keys are put into a CPU card by its supplier, under a transport key."""
        yield from ()
        raise NotOurCard("a CPU card is made ours by its supplier")

    def _it_proves(self, issuer: Issuer, serial: bytes) -> CardConversation[None]:
        command = b"\0\x88\0" + bytes((_INTERNAL_KEY, 8)) + issuer.nonce
        answer = yield from transmit(Apdu("the card proves itself", command))
        if answer.status >> 8 == 0x61:
            count = bytes((answer.status & 0xFF,))
            answer = yield from transmit(Apdu("get the proof", b"\0\xc0\0\0" + count))
        right = yield from ask_keys(
            issuer.call(Operation.ENCRYPT, Purpose.CARD_INTERNAL, serial, issuer.nonce)
        )
        if not answer.is_ok or answer.data != right.value:
            raise NotOurCard("the card cannot prove that it is ours")

    def _update(
        self, issuer: Issuer, serial: bytes, file: int, offset: int, data: bytes
    ) -> CardConversation[None]:
        challenge = yield from transmit_ok(Apdu("get a challenge", b"\0\x84\0\0\x04"))
        head = b"\x04\xd6" + bytes((0x80 | file, offset, len(data) + 4))
        mac = yield from ask_keys(
            issuer.call(
                Operation.MAC,
                Purpose.CARD_UPDATE,
                serial,
                head + data,
                iv=challenge[:4].ljust(8, b"\0"),
            )
        )
        command = head + data + mac.value[:4]
        yield from transmit_ok(Apdu(f"update file {file:02X}", command, Effect.WRITE))


def _file(zone: ZoneName, copy: int) -> int:
    return _FIRST_COPY_FILE + 2 * zone.value + copy
