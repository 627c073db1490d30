"""Cards as somebody else would build them: they answer commands, keep their bytes, and get pulled.

RF card (MIFARE Classic 1K as a PC/SC reader shows it), SLE4442 and AT24C (as an ACS reader shows
them), and a CPU card (ISO 7816-4 with challenges, authentication and MACed updates).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from random import Random

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

OK = b"\x90\x00"


class Pulled(Exception):
    """The card is not on the reader any more."""


class VirtualCard(ABC):
    """What every card has: an ATR, commands, and somebody who may pull it.

    pull_at: the number of the command (from 0) before which it is pulled.
    tear_at: the number of the command in whose middle it is pulled: a write gets half its bytes.
    """

    ATR = b"\x3b\x00"

    def __init__(self) -> None:
        self.commands = 0
        self.writes = 0
        self.pull_at: int | None = None
        self.tear_at: int | None = None

    def apdu(self, command: bytes) -> bytes:
        if self.commands == self.pull_at:
            self.reset()
            raise Pulled
        torn = self.commands == self.tear_at
        self.commands += 1
        answer = self.handle(command, torn=torn)
        if torn:
            self.reset()
            raise Pulled
        return answer

    def inserted_again(self) -> None:
        self.pull_at = self.tear_at = None
        self.commands = 0
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """The card loses its power: whatever a session proved is forgotten."""

    @abstractmethod
    def handle(self, command: bytes, *, torn: bool) -> bytes:
        """The answer to one command. `torn`: power goes while it writes."""

    def put(self, memory: bytearray, at: int, data: bytes, *, torn: bool) -> None:
        self.writes += 1
        kept = data[: len(data) // 2] if torn else data
        memory[at : at + len(kept)] = kept


class RfCard(VirtualCard):
    """MIFARE Classic 1K. A sector's access bits are obeyed; trailers never show key A."""

    ATR = bytes.fromhex("3B8F8001804F0CA000000306030001000000006A")

    def __init__(self, uid: bytes = b"\xde\xad\xbe\xef") -> None:
        super().__init__()
        self.uid = uid
        self.memory = bytearray(1024)
        self.memory[: len(uid)] = uid
        for sector in range(16):
            trailer = b"\xff" * 6 + b"\xff\x07\x80\x69" + b"\xff" * 6
            self.memory[sector * 64 + 48 : sector * 64 + 64] = trailer
        self.slots: dict[int, bytes] = {}
        self.entered: tuple[int, str] | None = None

    def reset(self) -> None:
        self.entered = None
        self.slots.clear()

    def may(self, block: int, wish: str) -> bool:
        sector, index = divmod(block, 4)
        if self.entered is None or self.entered[0] != sector:
            return False
        trailer = self.memory[sector * 64 + 48 : sector * 64 + 64]
        bits = (
            trailer[7] >> 4 >> index & 1,
            trailer[8] >> index & 1,
            trailer[8] >> 4 >> index & 1,
        )
        if index == 3:
            writers = {(0, 0, 1): "A", (0, 1, 1): "B"}.get(bits, "")
            return self.entered[1] in ("AB" if wish == "read" else writers)
        readers, writers = {
            (0, 0, 0): ("AB", "AB"),
            (0, 1, 0): ("AB", ""),
            (1, 0, 0): ("AB", "B"),
            (1, 1, 0): ("AB", "B"),
            (0, 0, 1): ("AB", ""),
            (0, 1, 1): ("B", "B"),
            (1, 0, 1): ("B", ""),
            (1, 1, 1): ("", ""),
        }[bits]
        return self.entered[1] in (readers if wish == "read" else writers)

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        if command[0] != 0xFF:
            return b"\x6e\x00"
        step = {0xCA: self._uid, 0x82: self._load, 0x86: self._enter, 0xB0: self._read}
        if command[1] == 0xD6:
            return self._write(command, torn=torn)
        return step[command[1]](command) if command[1] in step else b"\x6d\x00"

    def _uid(self, command: bytes) -> bytes:
        return self.uid + OK

    def _load(self, command: bytes) -> bytes:
        self.slots[command[3]] = command[5:11]
        return OK

    def _enter(self, command: bytes) -> bytes:
        block, kind, slot = command[7:10]
        sector = block // 4
        trailer = self.memory[sector * 64 + 48 : sector * 64 + 64]
        wanted = trailer[:6] if kind == 0x60 else trailer[10:16]
        if self.slots.get(slot) != bytes(wanted):
            self.entered = None
            return b"\x63\x00"
        self.entered = (sector, "A" if kind == 0x60 else "B")
        return OK

    def _read(self, command: bytes) -> bytes:
        block = command[3]
        if not self.may(block, "read"):
            return b"\x69\x82"
        data = bytearray(self.memory[block * 16 : block * 16 + 16])
        if block % 4 == 3:
            data[:6] = bytes(6)
        return bytes(data) + OK

    def _write(self, command: bytes, *, torn: bool) -> bytes:
        block, data = command[3], command[5:21]
        if command[4] != 16 or len(data) != 16:
            return b"\x67\x00"
        if not self.may(block, "write"):
            return b"\x69\x82"
        # A block of this chip is written whole or not at all.
        if not torn:
            self.put(self.memory, block * 16, data, torn=False)
        return OK


# How a card shows the tries that are left.
TRIES_BITS = {3: 7, 2: 3, 1: 1, 0: 0}


class LogicCard(VirtualCard):
    """SLE4442: 256 bytes, 32 of them lockable, a code of three bytes with three tries."""

    ATR = bytes.fromhex("3B0492231091")
    TYPE = 0x06

    def __init__(self, psc: bytes = b"\xff\xff\xff") -> None:
        super().__init__()
        self.memory = bytearray(b"\xff" * 256)
        self.memory[:4] = bytes.fromhex("A2131091")
        self.locked: set[int] = set(range(4))
        self.psc = psc
        self.tries = 3
        self.tries_min = 3  # the lowest it ever was
        self.shown = False
        self.chosen = False

    def reset(self) -> None:
        self.shown = self.chosen = False

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        ins, at, data = command[1], int.from_bytes(command[2:4], "big"), command[5:]
        if ins == 0xA4:
            self.chosen = data[:1] == bytes((self.TYPE,))
            return OK if self.chosen else b"\x67\x00"
        if not self.chosen:
            return b"\x69\x85"
        if ins == 0xB0:
            return bytes(self.memory[at : at + (command[4] or 256)]) + OK
        return self.special(ins, at, data, torn=torn)

    def special(self, ins: int, at: int, data: bytes, *, torn: bool) -> bytes:
        if ins == 0xB1:
            return bytes((TRIES_BITS[self.tries], 0, 0, 0)) + OK
        if ins == 0x20:
            return self._show(data)
        if ins not in (0xD0, 0xD1, 0xD2):
            return b"\x6d\x00"
        if not self.shown:
            return b"\x69\x82"
        if ins == 0xD2:
            self.psc = bytes(data[:3])
        elif ins == 0xD1:
            self.locked |= {
                at + index for index, byte in enumerate(data) if self.memory[at + index] == byte
            }
        else:
            kept = bytearray(data)
            for index in range(len(data)):
                if at + index in self.locked:
                    kept[index] = self.memory[at + index]
            self.put(self.memory, at, bytes(kept), torn=torn)
        return OK

    def _show(self, code: bytes) -> bytes:
        if self.tries == 0:
            return b"\x90\x00"
        if code[:3] == self.psc:
            self.tries, self.shown = 3, True
        else:
            self.tries, self.shown = self.tries - 1, False
            self.tries_min = min(self.tries_min, self.tries)
        return bytes((0x90, TRIES_BITS[self.tries]))


class MemoryCard(LogicCard):
    """AT24C02: bytes, and nothing that protects them."""

    ATR = bytes.fromhex("3B00")
    TYPE = 0x01

    def __init__(self) -> None:
        super().__init__()
        self.memory = bytearray(b"\xff" * 256)

    def special(self, ins: int, at: int, data: bytes, *, torn: bool) -> bytes:
        if ins != 0xD0:
            return b"\x6d\x00"
        if at // 8 != (at + len(data) - 1) // 8:
            return b"\x67\x00"  # a page wraps round on the real chip: data would be lost
        self.put(self.memory, at, data, torn=torn)
        return OK


def triple_des(key: bytes, block: bytes, *, decrypt: bool = False) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cipher = Cipher(TripleDES(key + key[:8]), modes.ECB())
    step = cipher.decryptor() if decrypt else cipher.encryptor()
    return step.update(block) + step.finalize()


def derived(key: bytes, *levels: bytes) -> bytes:
    for level in levels:
        inverse = bytes(byte ^ 0xFF for byte in level)
        key = triple_des(key, level) + triple_des(key, inverse)
    return key


def retail_mac(key: bytes, block: bytes, message: bytes) -> bytes:
    message += b"\x80"
    message += bytes(-len(message) % 8)
    left, right = key[:8] * 2, key[8:] * 2
    for at in range(0, len(message), 8):
        block = triple_des(
            left, bytes(a ^ b for a, b in zip(block, message[at : at + 8], strict=True))
        )
    return triple_des(left, triple_des(right, block, decrypt=True))


class CpuCard(VirtualCard):
    """A CPU card made by its supplier for one area: a serial, three keys of its own, four files."""

    ATR = bytes.fromhex("3B6800000073C84013009000")

    def __init__(
        self,
        roots: tuple[bytes, bytes, bytes],  # external, internal, update
        area: bytes,
        serial: bytes = bytes.fromhex("0000202600001234"),
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.serial = serial
        self.external, self.internal, self.update = (derived(key, area, serial) for key in roots)
        self.files = {number: bytearray(56) for number in range(0x11, 0x15)}
        self.files[0x05] = bytearray(serial)
        self.chance = Random(seed)
        self.tries = 8
        self.challenge: bytes | None = None
        self.trusted = False

    def reset(self) -> None:
        self.challenge, self.trusted = None, False

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        # A challenge lives for one command, whatever that is.
        challenge, self.challenge = self.challenge, None
        ins = command[1]
        if ins == 0xA4:
            return OK
        if ins in (0x84, 0x82, 0x88):
            return self._prove(ins, challenge, command)
        file = self.files.get(command[2] & 0x1F)
        if file is None:
            return b"\x6a\x82"
        if ins == 0xB0:
            return bytes(file[command[3] : command[3] + command[4]]) + OK
        if ins == 0xD6:
            return self._update(file, challenge, command, torn=torn)
        return b"\x6d\x00"

    def _prove(self, ins: int, challenge: bytes | None, command: bytes) -> bytes:
        if ins == 0x84:
            self.challenge = self.chance.randbytes(command[4] or 8)
            return self.challenge + OK
        if ins == 0x82:
            return self._external(challenge, command[5:13])
        return triple_des(self.internal, command[5:13]) + OK

    def _external(self, challenge: bytes | None, proof: bytes) -> bytes:
        if self.tries == 0:
            return b"\x69\x83"
        if challenge is None or len(challenge) != 8:
            return b"\x69\x85"
        if proof != triple_des(self.external, challenge):
            self.tries -= 1
            return bytes((0x63, 0xC0 | self.tries))
        self.tries, self.trusted = 8, True
        return OK

    def _update(
        self, file: bytearray, challenge: bytes | None, command: bytes, *, torn: bool
    ) -> bytes:
        if not self.trusted or command[2] & 0x1F == 0x05:
            return b"\x69\x82"
        if command[0] & 0x0F != 4 or challenge is None:
            return b"\x69\x87"
        body, mac = command[5:-4], command[-4:]
        first = challenge[:4] + bytes(4)
        if retail_mac(self.update, first, command[:5] + body)[:4] != mac:
            return b"\x69\x88"
        self.put(file, command[3], body, torn=torn)
        return OK
