"""Images of known records and landings under the kit's keys, by unit: what must never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protocols.card_image import CardKind, CardRecord
from protocols.card_note import LandingNote

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

_NOTE = LandingNote(
    key_version=1,
    meter_number="000000000101",
    serial=bytes.fromhex("deadbeef00000000"),
    amount_fen=5000,
    total_purchased_fen=5001,
    purchase_count=7,
    landed_at_s=1_700_000_000,
)
_CPU_NOTE = replace(_NOTE, serial=bytes.fromhex("0000202600001234"))
_STANDARD_NOTE = (
    "54000001000000000101deadbeef00000000000013880000"
    "00138900000007006553f10000000000fd7d10626814165d"
)
_STANDARD_CPU_NOTE = (
    "540000010000000001010000202600001234000013880000"
    "00138900000007006553f1000000000086422e853d22421c"
)

#: the 48 bytes that lie on the card after note()
GOLDEN_NOTES: Mapping[str, tuple[LandingNote, str]] = {
    "hanhe_rf": (_NOTE, _STANDARD_NOTE),
    "hanhe_cpu": (_CPU_NOTE, _STANDARD_CPU_NOTE),
    "hanhe_logic": (_NOTE, _STANDARD_NOTE),
}
