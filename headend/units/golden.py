"""Images of known records under the kit's keys, by unit: what must never change."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.card_image import CardKind, CardRecord

_RECORD = CardRecord(
    kind=CardKind.PURCHASE,
    key_version=1,
    meter_number="000000000101",
    customer_number="000000000001",
    serial=bytes.fromhex("deadbeef00000000"),
    issue_number=7,
    amount_fen=5000,
    purchase_count=7,
)

_STANDARD = (
    "48020001000000000101000000000001deadbeef00000000"
    "000013880000000700000007000000005e9fabb56b85c318"
)
_BEICHEN = (
    "424350010101000000000100000000000000138807000000"
    "deadbeef000000000700000000000000c347339d8299f107"
)

GOLDEN: Mapping[str, tuple[tuple[CardRecord, str], ...]] = {
    "hanhe_rf": ((_RECORD, _STANDARD),),
    "hanhe_cpu": ((_RECORD, _STANDARD),),
    "hanhe_logic": ((_RECORD, _STANDARD),),
    "beichen": ((_RECORD, _BEICHEN),),
}
