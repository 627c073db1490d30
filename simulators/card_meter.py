"""The reader inside a meter: what it does with a card that is held to it.

Written from the format's description and the rules meters of this field follow: supply first, then
frame, MAC, meter, customer, registered card, count; credit before write-back; a failed card leaves
a reason. One write is one step here: count and credit are one record in the meter.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from simulators.cards import CpuCard, LogicCard, RfCard, VirtualCard

OPENING, PURCHASE, REPLACEMENT, MAKE_UP, REFUND, PARAMETER, PRESET, CLEAR, CHECK = range(1, 10)
MONEY = {OPENING, PURCHASE, REPLACEMENT, MAKE_UP, REFUND}
DONE, ALREADY, OLD, AHEAD, NOT_EMPTY, WRONG_METER, WRONG_CUSTOMER, WRONG_CARD = range(8)
NOT_OPENED, BAD_MAC, BAD_FORMAT, TOO_MUCH, LOW_VOLTAGE, EXPIRED = range(8, 14)
DOWN, UP = 0, 1
ANY = "000000000000"
MONEY_MAX_FEN = 99_999_999


def aes_block(key: bytes, block: bytes) -> bytes:
    step = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return step.update(block) + step.finalize()


def device_key(root: bytes, area: bytes, device: bytes) -> bytes:
    for level in (area, device):
        root = aes_block(root, level + bytes(byte ^ 0xFF for byte in level))
    return root


def cmac(key: bytes, message: bytes) -> bytes:
    made = CMAC(algorithms.AES(key))
    made.update(message)
    return made.finalize()


@dataclass
class Account:
    """What a meter keeps of money. `record`: what landed under each count, for who judges."""

    purchase_count: int = 0
    remaining_fen: int = 0
    total_fen: int = 0
    record: dict[int, int] = field(default_factory=dict)

    def credit(self, count: int, amount_fen: int) -> None:
        self.purchase_count = count
        self.remaining_fen += amount_fen
        self.total_fen += amount_fen
        self.record[count] = amount_fen


def slots(card: VirtualCard, zone: int, copy: int) -> tuple[bytearray, int, int]:
    """The memory of a copy's record and commit: where they are on this kind of card."""
    if isinstance(card, RfCard):
        return card.memory, (1 + 2 * zone + copy) * 64, (5 + zone) * 64 + 16 * copy
    if isinstance(card, LogicCard):
        at = 32 + 56 * (2 * zone + copy)
        return card.memory, at, at + 48
    assert isinstance(card, CpuCard)
    return card.files[0x11 + 2 * zone + copy], 0, 48


def whole(card: VirtualCard, zone: int, copy: int) -> tuple[int, bytes] | None:
    """Generation and record of a copy whose commit is right."""
    memory, at, commit_at = slots(card, zone, copy)
    record, commit = bytes(memory[at : at + 48]), bytes(memory[commit_at : commit_at + 8])
    mark, generation, crc = struct.unpack(">HHI", commit)
    right = zlib.crc32(commit[2:4] + record) == crc
    return (generation, record) if mark == 0xA55A and right else None


def newest(card: VirtualCard, zone: int) -> tuple[int, int, bytes] | None:
    """Copy, generation and record of the newer whole copy."""
    found = [(copy, *one) for copy in (0, 1) if (one := whole(card, zone, copy)) is not None]
    if len(found) == 2:
        return found[0] if (found[0][1] - found[1][1]) % 65536 < 32768 else found[1]
    return found[0] if found else None


def write(card: VirtualCard, zone: int, record: bytes) -> None:
    before = newest(card, zone)
    copy = 0 if before is None else 1 - before[0]
    generation = 1 if before is None else (before[1] + 1) % 65536
    memory, at, commit_at = slots(card, zone, copy)
    memory[commit_at : commit_at + 8] = bytes(8)
    memory[at : at + 48] = record
    counted = struct.pack(">H", generation)
    memory[commit_at : commit_at + 8] = struct.pack(
        ">HHI", 0xA55A, generation, zlib.crc32(counted + record)
    )


def is_blank_up(card: VirtualCard) -> bool:
    for copy in (0, 1):
        memory, _, commit_at = slots(card, UP, copy)
        if any(memory[commit_at : commit_at + 8]):
            return False
    return True


@dataclass
class CardReader:
    """One meter with a slot. Root keys by purpose come in; only this meter's keys are kept."""

    number: str
    area: bytes
    recharge: bytes = field(repr=False)
    parameters: bytes = field(repr=False)
    write_back: bytes = field(repr=False)
    account: Account = field(default_factory=Account)
    customer: str | None = None
    serial: bytes | None = None
    alarms_fen: tuple[int, int] = (0, 0)
    hoarding_fen: int = MONEY_MAX_FEN
    illegal: int = 0
    now_s: int = 1_800_000_000
    voltage_is_low: bool = False
    key_version: int = 1
    done_numbers: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        device = bytes(2) + bytes.fromhex(self.number)
        roots = {"recharge": self.recharge, "parameters": self.parameters}
        self.keys = {name: device_key(root, self.area, device) for name, root in roots.items()}
        self.area_key = device_key(self.parameters, self.area, bytes(8))
        self.back_key = device_key(self.write_back, self.area, device)

    def hold(self, card: VirtualCard) -> int:
        """A card is held to the reader; the reason the meter shows."""
        if self.voltage_is_low:
            return LOW_VOLTAGE  # a brown-out in mid-write tears: nothing is touched
        found = newest(card, DOWN)
        if found is None or found[2][0] != 0x48:
            return BAD_FORMAT
        record = found[2]
        reason = self.judge(record, is_blank_up(card))
        if reason in (BAD_MAC, WRONG_METER):
            self.illegal += reason == BAD_MAC
            return reason  # not a card of this meter: nothing is written on it
        self.write_back_on(card, record, reason)
        return reason

    def judge(self, record: bytes, blank_up: bool) -> int:
        kind = record[1]
        meter, customer = record[4:10].hex(), record[10:16].hex()
        if kind not in range(1, 10):
            return BAD_FORMAT
        if not self.mac_is_right(kind, meter, record):
            return BAD_MAC
        if meter not in (self.number, ANY) or (meter == ANY and kind in MONEY):
            return WRONG_METER
        if kind in MONEY:
            return self.judge_customer(kind, customer, record, blank_up)
        return self.obey(kind, record)

    def mac_is_right(self, kind: int, meter: str, record: bytes) -> bool:
        key = self.keys["recharge" if kind in MONEY else "parameters"]
        if kind not in MONEY and meter == ANY:
            key = self.area_key
        return cmac(key, record[:40])[:8] == record[40:48]

    def judge_customer(self, kind: int, customer: str, record: bytes, blank_up: bool) -> int:
        serial = record[16:24]
        if self.customer is None:
            if kind not in (OPENING, MAKE_UP):
                return NOT_OPENED
            if not blank_up:
                return NOT_EMPTY
        else:
            if customer != self.customer:
                return WRONG_CUSTOMER
            if kind not in (OPENING, REPLACEMENT, MAKE_UP) and serial != self.serial:
                return WRONG_CARD
        amount, count = struct.unpack(">II", record[24:32])
        reason = self.judge_count(amount, count, blank_up)
        takes_card = kind in (OPENING, REPLACEMENT, MAKE_UP)
        if takes_card and reason in (DONE, ALREADY):
            # An older card held again never becomes the registered one.
            self.customer, self.serial = customer, serial
        return reason

    def judge_count(self, amount: int, count: int, blank_up: bool) -> int:
        step = count - self.account.purchase_count
        if step < 0:
            return OLD
        if step == 0:
            return ALREADY
        if step > 1:
            return AHEAD
        if not blank_up:
            return NOT_EMPTY
        after = self.account.remaining_fen + amount
        if after > min(MONEY_MAX_FEN, self.hoarding_fen):
            return TOO_MUCH
        self.account.credit(count, amount)
        return DONE

    def obey(self, kind: int, record: bytes) -> int:
        first, second, number, end = struct.unpack(">IIII", record[24:40])
        if end and self.now_s > end:
            return EXPIRED
        if kind == CHECK:
            return DONE
        if number in self.done_numbers:
            return ALREADY  # each numbered card does its work once in a meter
        if kind == PRESET and (self.customer is not None or self.account.purchase_count):
            return NOT_OPENED
        self.done_numbers.add(number)
        if kind == PARAMETER:
            self.alarms_fen = (first, second)
        elif kind == PRESET:
            self.account.remaining_fen += first
        elif kind == CLEAR:
            self.account.remaining_fen = 0
        return DONE

    def write_back_on(self, card: VirtualCard, record: bytes, reason: int) -> None:
        body = (
            bytes((0x57, reason))
            + struct.pack(">H", self.key_version)
            + bytes.fromhex(self.number)
            + record[16:24]
            + struct.pack(">i", self.account.remaining_fen)
            + self.account.total_fen.to_bytes(5, "big")
            + struct.pack(">I", self.account.purchase_count)
            + bytes((min(self.illegal, 255),))
            + struct.pack(">I", self.now_s)
            + bytes(4)
        )
        write(card, UP, body + cmac(self.back_key, body)[:8])
