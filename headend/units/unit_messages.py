"""What is said to a closed unit and what it says, as JSON objects. docs/security-units.md"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind, CardReason, CardRecord, WriteBack


class BadUnitMessage(ValueError):
    """The unit said something that is none of the messages; the text quotes nothing of it."""


def record_message(record: CardRecord) -> dict[str, Any]:
    """A record for a unit."""
    return {
        "kind": record.kind.name.lower(),
        "key_version": record.key_version,
        "meter_number": record.meter_number,
        "customer_number": record.customer_number,
        "serial": record.serial.hex(),
        "issue_number": record.issue_number,
        "amount_fen": record.amount_fen,
        "purchase_count": record.purchase_count,
        "alarm_1_fen": record.alarm_1_fen,
        "alarm_2_fen": record.alarm_2_fen,
        "valid_until_s": record.valid_until_s,
    }


_NUMBERS = (
    "key_version",
    "issue_number",
    "amount_fen",
    "purchase_count",
    "alarm_1_fen",
    "alarm_2_fen",
    "valid_until_s",
)


def record_of(told: object) -> CardRecord:
    """A record from a unit. Raises BadUnitMessage."""
    fields = _object(told)
    try:
        if set(fields) != {"kind", "serial", "meter_number", "customer_number", *_NUMBERS}:
            raise BadUnitMessage("a record has exactly the fields of a record")
        if any(type(fields[name]) is not int for name in _NUMBERS):
            raise BadUnitMessage("a number of the record is none")
        return CardRecord(
            kind=CardKind[str(fields["kind"]).upper()],
            serial=bytes.fromhex(fields["serial"]),
            meter_number=str(fields["meter_number"]),
            customer_number=str(fields["customer_number"]),
            **{name: fields[name] for name in _NUMBERS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadUnitMessage("the record cannot be read") from error


def back_of(told: object) -> WriteBack:
    """A write-back from a unit. Raises BadUnitMessage."""
    fields = _object(told)
    try:
        numbers = {
            name: fields[name]
            for name in (
                "key_version",
                "remaining_credit_fen",
                "total_purchased_fen",
                "purchase_count",
                "illegal_cards",
                "written_at_s",
            )
        }
        if any(type(number) is not int for number in numbers.values()):
            raise BadUnitMessage("a number of the write-back is none")
        return WriteBack(
            meter_number=str(fields["meter_number"]),
            serial=bytes.fromhex(fields["serial"]),
            reason=CardReason[str(fields["reason"]).upper()],
            **numbers,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadUnitMessage("the write-back cannot be read") from error


def seen_of(told: object) -> CardSeen:
    """A card from a unit. Raises BadUnitMessage."""
    fields = _object(told)
    try:
        record, back = fields["record"], fields["back"]
        return CardSeen(
            serial=bytes.fromhex(fields["serial"]),
            record=None if record is None else record_of(record),
            seal=None if fields["seal"] is None else Seal(fields["seal"]),
            back=None if back is None else back_of(back),
            back_seal=None if fields["back_seal"] is None else Seal(fields["back_seal"]),
            back_written=bool(fields["back_written"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadUnitMessage("the card cannot be read") from error


def _object(told: object) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        raise BadUnitMessage("not an object")
    return told
