"""Nanfeng's closed unit, as a maker would deliver it: one program, its own keys, its own format.

It speaks lines of JSON on standard input and output and imports nothing but the standard library.
Two copies of 64 bytes in sectors 8 and 9 (blocks 0 to 2 and the first of the next), each with a
number and its own check; the newer good one counts.
"""

# mypy: ignore-errors
# (as the maker delivers it: not ours to annotate)

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import sys

# A maker's secret: in the real one this is a dongle.
SECRET = hashlib.sha256(b"nanfeng works, batch 7").digest()
KINDS = ("opening", "purchase", "replacement")
FIELDS = struct.Struct(
    ">2sBH6s6s8sIIIH"
)  # mark kind version meter customer serial fen count issue gen
COPY_BYTES = 48
MARK = b"NF"


class Fail(Exception):
    def __init__(self, code, detail=""):
        self.code, self.detail = code, detail


def tell(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def card(command, write=False):
    tell({"apdu": command.hex(), "write": write})
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    told = json.loads(line)
    if told.get("gone"):
        raise Fail("gone", "the card was pulled")
    raw = bytes.fromhex(told["answer"])
    return raw[:-2], raw[-2:]


def sector_key(serial, sector, which):
    return hmac.digest(SECRET, b"sector" + serial + bytes((sector, which)), "sha256")[:6]


def enter(key, sector, which):
    card(b"\xff\x82\x00\x00\x06" + key)
    _, status = card(b"\xff\x86\x00\x00\x05\x01\x00" + bytes((sector * 4, which, 0)))
    return status == b"\x90\x00"


def serial_of_card():
    uid, status = card(b"\xff\xca\x00\x00\x00")
    if status != b"\x90\x00" or not uid:
        raise Fail("not-ours", "no card number")
    serial = uid[:8].ljust(8, b"\0")
    if enter(sector_key(serial, 8, 0x60), 8, 0x60):
        return serial
    if enter(b"\xff" * 6, 8, 0x60):
        raise Fail("blank", "the card is blank")
    raise Fail("not-ours", "the keys of this card are not Nanfeng's")


def read_block(block):
    data, status = card(b"\xff\xb0\x00" + bytes((block, 16)))
    if status != b"\x90\x00":
        raise Fail("refused", "a block cannot be read")
    return data


def write_block(block, data):
    _, status = card(b"\xff\xd6\x00" + bytes((block, 16)) + data, write=True)
    if status != b"\x90\x00":
        raise Fail("refused", "a block cannot be written")


def body_of(record, generation):
    kind = record["kind"]
    if kind not in KINDS:
        raise Fail("refused", "Nanfeng has no such cards")
    return FIELDS.pack(
        MARK,
        KINDS.index(kind),
        record["key_version"],
        bytes.fromhex(record["meter_number"]),
        bytes.fromhex(record["customer_number"]),
        bytes.fromhex(record["serial"]),
        record["amount_fen"],
        record["purchase_count"],
        record["issue_number"],
        generation,
    )


def sealed(record, generation):
    body = body_of(record, generation)
    # The number of the copy is outside the maker's seal, so the same purchase has the same one.
    mac = hmac.digest(SECRET, body[:-2], "sha256")[:8]
    return (body + mac).ljust(COPY_BYTES, b"\0")


def fen_and_count(body):
    _, _, version, _, _, _, fen, count, issue, _ = FIELDS.unpack(body)
    return version and 0 < fen <= 99_999_999 and 0 < count < 0xFFFF and issue


def parsed(copy):
    """Generation, record and whether the seal is good; None where nothing is."""
    if len(copy) < COPY_BYTES or copy[:2] != MARK or copy[2] >= len(KINDS):
        return None
    body, mac = copy[: FIELDS.size], copy[FIELDS.size : FIELDS.size + 8]
    if not (body[5:17].hex().isdecimal() and fen_and_count(body)):
        return None  # no record of ours: something else lies there
    _, kind, version, meter, customer, serial, fen, count, issue, generation = FIELDS.unpack(body)
    record = {
        "kind": KINDS[kind],
        "key_version": version,
        "meter_number": meter.hex(),
        "customer_number": customer.hex(),
        "serial": serial.hex(),
        "issue_number": issue,
        "amount_fen": fen,
        "purchase_count": count,
        "alarm_1_fen": 0,
        "alarm_2_fen": 0,
        "valid_until_s": 0,
    }
    right = hmac.compare_digest(mac, hmac.digest(SECRET, body[:-2], "sha256")[:8])
    return generation, record, right


def copies(serial):
    found = []
    for sector in (8, 9):
        if not enter(sector_key(serial, sector, 0x60), sector, 0x60):
            raise Fail("not-ours", "a sector has a key that is not Nanfeng's")
        found.append(b"".join(read_block(sector * 4 + index) for index in range(3)))
    return found


def current(serial):
    """Which copy counts, what it says, and the number of the next one."""
    best = None
    for index, copy in enumerate(copies(serial)):
        one = parsed(copy)
        if one is not None and (best is None or (one[0] - best[1]) % 65536 < 32768):
            best = (index, *one)
    return best


def seen(serial):
    best = current(serial)
    good = None if best is None else ("good" if best[3] else "bad")
    return {
        "serial": serial.hex(),
        "record": None if best is None else best[2],
        "seal": good,
        "back": None,
        "back_seal": None,
        "back_written": False,
    }


def write(record):
    serial = serial_of_card()
    if bytes.fromhex(record["serial"]) != serial:
        raise Fail("not-ours", "another card lies on the reader now")
    best = current(serial)
    target = 0 if best is None else 1 - best[0]
    generation = 1 if best is None else (best[1] + 1) % 65536
    raw = sealed(record, generation)
    sector = 8 + target
    enter(sector_key(serial, sector, 0x61), sector, 0x61)
    # The first block holds the mark: gone first, written last.
    write_block(sector * 4, bytes(16))
    for index in (1, 2):
        write_block(sector * 4 + index, raw[index * 16 : index * 16 + 16])
    write_block(sector * 4, raw[:16])
    return seen(serial)


def clear():
    serial = serial_of_card()
    best = current(serial)
    first = 1 if best is None else 1 - best[0]
    for target in (first, 1 - first):
        sector = 8 + target
        enter(sector_key(serial, sector, 0x61), sector, 0x61)
        write_block(sector * 4, bytes(16))
    return seen(serial)


def personalise():
    uid, _ = card(b"\xff\xca\x00\x00\x00")
    serial = uid[:8].ljust(8, b"\0")
    for sector in (9, 8):
        if enter(sector_key(serial, sector, 0x61), sector, 0x61):
            continue
        if not enter(b"\xff" * 6, sector, 0x60):
            raise Fail("not-ours", "the card is not blank")
        for index in range(3):
            write_block(sector * 4 + index, bytes(16))
        keys = sector_key(serial, sector, 0x60), sector_key(serial, sector, 0x61)
        write_block(sector * 4 + 3, keys[0] + bytes.fromhex("78778869") + keys[1])
    return serial.hex()


def parse(image):
    one = parsed(bytes.fromhex(image))
    return None if one is None else {"record": one[1], "seal": "good" if one[2] else "bad"}


def answer(told):
    call = told["call"]
    if call == "read":
        return seen(serial_of_card())
    if call == "write":
        return write(told["record"])
    if call == "clear":
        return clear()
    if call == "personalise":
        return personalise()
    if call == "image":
        return sealed(told["record"], 0).hex()
    if call == "parse":
        return parse(told["image"])
    raise Fail("refused", "no such call")


def main():
    for line in sys.stdin:
        try:
            tell({"done": answer(json.loads(line))})
        except Fail as fail:
            tell({"fail": fail.code, "detail": fail.detail})


if __name__ == "__main__":
    main()
