"""The prepaid extension of DL/T 645: a session with the meter's security chip, and money in it.

Everything here is in control code 03H. Fields are binary and byte-reversed on the wire, amounts in
0.01 yuan. Codes come from a key holder; none is made here (spec field_protocols.md A5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols import dlt645 as wire
from protocols.exchange import BadAnswer, Conversation, Effect, Request, ask_keys, ask_reply
from protocols.keys import KeyHolder

AUTHENTICATE, END_SESSION = 0x070000FF, 0x070002FF
OPEN_ACCOUNT, TOP_UP, QUERY = 0x070101FF, 0x070102FF, 0x078102FF

# Error word of the group. "Repeated" means that the meter has this count already.
REPEATED, BAD_MAC, NO_SESSION, WRONG_CUSTOMER, WRONG_COUNT, OVER_LIMIT, SUSPENDED = (
    1 << bit for bit in (1, 2, 3, 4, 5, 6, 8)
)


@dataclass(frozen=True, slots=True)
class Session:
    """A session the chip has accepted: its challenge is in every code of it."""

    meter_number: str
    challenge: bytes


@dataclass(frozen=True, slots=True)
class PurseLook:
    """What the chip says of its purse, its codes proved by the key holder."""

    remaining_fen: int
    purchase_count: int
    customer: str


def security(
    label: str, address: str, di: int, operator: bytes, body: bytes = b"", *, effect: Effect
) -> Request:
    """One request of the group."""
    echoed = wire.di_bytes(di)
    data = echoed + operator + body
    made = wire.request(label, address, wire.SECURITY, data, effect=effect, echoed=echoed)
    return replace(made, wrong_code_bits=BAD_MAC)


def begin(
    address: str, operator: bytes, meter_number: str, keys: KeyHolder
) -> Conversation[Session]:
    """Open a session. Raises Refused (its code is the error word), KeysAway."""
    made = yield from ask_keys(lambda: keys.authenticate(meter_number))
    cipher, number = made[:8], made[8:16]
    divider = bytes(2) + bytes.fromhex(meter_number)
    body = cipher[::-1] + number[::-1] + divider[::-1]
    payload = yield from ask_reply(
        security("identify", address, AUTHENTICATE, operator, body, effect=Effect.READ)
    )
    if len(payload) < 5:
        raise BadAnswer("the meter's chip sent no challenge")
    return Session(meter_number, payload[1:5][::-1])


def query(
    address: str, operator: bytes, session: Session, keys: KeyHolder
) -> Conversation[PurseLook]:
    """Count and remaining credit as the chip holds them. Raises Refused, BadAnswer, KeysAway."""
    payload = yield from ask_reply(
        security("query the purse", address, QUERY, operator, effect=Effect.READ)
    )
    body = payload[1:]
    if len(body) < 22:
        raise BadAnswer("the meter's chip told too little of its purse")
    remaining, mac1, count, mac2, customer = (
        body[a:b][::-1] for a, b in ((0, 4), (4, 8), (8, 12), (12, 16), (16, 22))
    )
    for field, mac in ((remaining, mac1), (count, mac2)):
        yield from ask_keys(
            lambda field=field, mac=mac: keys.open(  # type: ignore[misc]
                session.meter_number, session.challenge, field, mac
            )
        )
    return PurseLook(int.from_bytes(remaining, "big"), int.from_bytes(count, "big"), customer.hex())


def credit(
    address: str,
    di: int,
    operator: bytes,
    session: Session,
    keys: KeyHolder,
    *,
    amount_fen: int,
    purchase_count: int,
    customer: str,
) -> Conversation[Request]:
    """The request that puts money under a count, or opens an account with it. Raises KeysAway."""
    amount, count = amount_fen.to_bytes(4, "big"), purchase_count.to_bytes(4, "big")
    owner = bytes.fromhex(customer)
    macs = yield from ask_keys(
        lambda: keys.seal(session.meter_number, session.challenge, (amount, count, owner))
    )
    return credit_request(address, di, operator, fields=(amount, count, owner), macs=macs)


def credit_request(
    address: str, di: int, operator: bytes, *, fields: tuple[bytes, bytes, bytes], macs: bytes
) -> Request:
    """The frame of a purchase: amount, count and customer, big-endian, as they were sealed."""
    label = "top up" if di == TOP_UP else "open the account"
    amount, count, customer = fields
    fields_on_wire = (amount, count, macs[:4], customer, macs[4:8])
    body = b"".join(field[::-1] for field in fields_on_wire)
    return security(label, address, di, operator, body, effect=Effect.WRITE)
