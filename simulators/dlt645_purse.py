"""The money side of a prepaid DL/T 645 meter: its security chip, its session, its purse.

The chip is made up (HMAC-SHA-256 in place of the real cipher), its rules are the field's: a session
begins with a challenge, its codes work in that session only, failures are counted and lock, and a
purchase is taken only under the next count (spec field_protocols.md A5).
"""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import dataclass, field

from simulators.dial import dial_datetime
from simulators.metering import Look, Meter

# What changes something, by its name, as it stands at the head of a request.
SECURITY = {
    "open": bytes.fromhex("FF010107"),
    "top_up": bytes.fromhex("FF020107"),
}
AUTHENTICATE = bytes.fromhex("FF000007")
END_SESSION = bytes.fromhex("FF020007")
QUERY = bytes.fromhex("FF028107")
# Error word of the security group.
REPEATED, BAD_MAC, NO_SESSION, WRONG_CUSTOMER, WRONG_COUNT, OVER_LIMIT, LOCKED = (
    1 << bit for bit in (1, 2, 3, 4, 5, 6, 8)
)
MAC_FAILURES_MAX = 3  # then the session ends; twice that, and the meter is locked


def code(key: bytes, *parts: bytes) -> bytes:
    """The made-up chip's code over some parts: 8 bytes."""
    return hmac.new(key, b"|".join(parts), hashlib.sha256).digest()[:8]


@dataclass(slots=True, kw_only=True)
class Purse:
    """One security chip in one meter."""

    key: bytes  # this chip's own key
    customer: str = "000000000000"  # 12 digits
    is_open: bool = True
    hoard_fen: int = 10_000_000
    seed: int = 1
    mac_failures: int = 0
    repeats: int = 0  # purchases that came again under a count it had already
    _random: random.Random = field(init=False)
    _challenge: bytes | None = None
    _divider: bytes = b""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def is_locked(self) -> bool:
        return self.mac_failures >= 2 * MAC_FAILURES_MAX

    def end_session(self) -> None:
        """What a power cut does as well."""
        self._challenge = None

    # ---- items that anybody may read ------------------------------------------------------------

    def item(self, di: int, look: Look) -> bytes | None:
        remaining = look.remaining_fen
        shown = {
            0x00900200: _digits(max(0, remaining), 4),
            0x00900201: _digits(max(0, -remaining), 4),
        }
        if di in shown:
            return shown[di]
        if di >> 16 == 0x0333:
            return self._record(di >> 8 & 0xFF, di & 0xFF, look)
        return None

    def _record(self, kind: int, back: int, look: Look) -> bytes | None:
        if not 1 <= back <= len(look.recharges):
            return None
        bought = look.recharges[back - 1]
        before = bought.remaining_fen - bought.amount_fen
        total = look.total_purchased_fen - sum(one.amount_fen for one in look.recharges[: back - 1])
        parts = {
            1: _when(bought.dial_ms),
            2: _digits(bought.purchase_count, 2),
            3: _digits(bought.amount_fen, 4),
            4: _digits(max(0, before), 4),
            5: _digits(max(0, bought.remaining_fen), 4),
            6: _digits(total, 4),
        }
        return b"".join(parts.values()) if kind == 0xFF else parts.get(kind)

    # ---- the security group ---------------------------------------------------------------------

    def said(self, data: bytes, meter: Meter) -> bytes | int:
        """The answer's data, or an error word."""
        head, body = data[:4], data[8:]
        if head == AUTHENTICATE:
            return self._authenticate(head, body, meter)
        if self.is_locked or self._challenge is None:
            return LOCKED if self.is_locked else NO_SESSION
        if head == END_SESSION:
            self._challenge = None
            return head + _customer(self.customer) + self._money(meter) + bytes(4)
        if head in SECURITY.values():
            return self._credit(head, body, meter)
        return self._query(head, meter) if head == QUERY else 1

    def _authenticate(self, head: bytes, body: bytes, meter: Meter) -> bytes | int:
        if len(body) != 24:
            return 1
        cipher, number, divider = (body[at : at + 8][::-1] for at in (0, 8, 16))
        if divider != bytes(2) + bytes.fromhex(meter.number):
            return NO_SESSION
        if cipher != code(self.key, b"identity", divider, number):
            return self._failed()
        self._challenge = self._random.randbytes(4)
        self._divider = divider
        return head + self._challenge[::-1] + bytes(8)

    def _query(self, head: bytes, meter: Meter) -> bytes:
        look = meter.look()
        remaining = max(0, look.remaining_fen).to_bytes(4, "big")
        count = look.purchase_count.to_bytes(4, "big")
        assert self._challenge is not None
        session = (self._divider, self._challenge)
        macs = [code(self.key, b"query", *session, part)[:4] for part in (remaining, count)]
        return (
            head
            + remaining[::-1]
            + macs[0][::-1]
            + count[::-1]
            + macs[1][::-1]
            + _customer(self.customer)
            + bytes(4)
        )

    def _money(self, meter: Meter) -> bytes:
        look = meter.look()
        return max(0, look.remaining_fen).to_bytes(4, "little") + look.purchase_count.to_bytes(
            4, "little"
        )

    def _credit(self, head: bytes, body: bytes, meter: Meter) -> bytes | int:
        if len(body) != 22:
            return 1
        amount, count, mac1, customer, mac2 = (
            body[a:b][::-1] for a, b in ((0, 4), (4, 8), (8, 12), (12, 18), (18, 22))
        )
        assert self._challenge is not None
        bought = (self._divider, self._challenge, amount, count, customer)
        purchase = code(self.key, b"purse", *bought)[:4]
        owner = code(self.key, b"customer", self._divider, self._challenge, customer)[:4]
        if mac1 != purchase or mac2 != owner:
            return self._failed()
        self.mac_failures = 0
        return self._take(
            head, int.from_bytes(amount, "big"), int.from_bytes(count, "big"), customer, meter
        )

    def _take(
        self, head: bytes, fen: int, number: int, customer: bytes, meter: Meter
    ) -> bytes | int:
        stored = meter.look().purchase_count
        if number == stored and head == SECURITY["top_up"]:
            self.repeats += 1
            return REPEATED
        if head == SECURITY["open"]:
            self.is_open, self.customer = True, customer.hex()
            if number == stored:
                return head
        if customer.hex() != self.customer or not self.is_open:
            return WRONG_CUSTOMER
        if meter.look().remaining_fen + fen > self.hoard_fen:
            return OVER_LIMIT
        return head if meter.purchase(fen, number) else WRONG_COUNT

    def _failed(self) -> int:
        self.mac_failures += 1
        if self.mac_failures % MAC_FAILURES_MAX == 0:
            self._challenge = None
        return BAD_MAC


def _digits(value: int, length: int) -> bytes:
    return bytes.fromhex(f"{value:0{2 * length}d}"[-2 * length :])[::-1]


def _customer(number: str) -> bytes:
    return bytes.fromhex(number)[::-1]


def _when(dial_ms: int) -> bytes:
    return bytes.fromhex(f"{dial_datetime(dial_ms):%M%H%d%m%y}")
