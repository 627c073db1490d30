"""Slots for cards in a town's meters: fitted with the maker's keys, then cards are held to them.

A card comes and goes as its bytes: whoever holds it is another program.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.card_meter import CardReader
from simulators.cards import RfCard
from simulators.metering import CountRule, Meter

_PURPOSES = ("recharge", "parameters", "write-back")


@dataclass
class Registers:
    """The meter's own registers, as its slot sees them: count and credit are one record."""

    meter: Meter

    @property
    def purchase_count(self) -> int:
        return self.meter.purchase_count

    @property
    def remaining_fen(self) -> int:
        return self.meter.look().remaining_fen

    @property
    def total_fen(self) -> int:
        return self.meter.total_purchased_fen

    def credit(self, count: int, amount_fen: int) -> None:
        assert self.meter.purchase(amount_fen, count), "the slot has judged the count"


class Slots:
    """Every slot of a town, by the name of its meter."""

    def __init__(self) -> None:
        self._readers: dict[str, CardReader] = {}

    def fit(self, name: str, meter: Meter, keys_file: Path) -> None:
        """Build a slot into a meter, with the keys that its maker was given.

        The file: {"area": text, "recharge": hex, "parameters": hex, "write-back": hex}. Raises
        OSError, ValueError, KeyError.
        """
        told = json.loads(keys_file.read_text(encoding="utf-8"))
        recharge, parameters, write_back = (bytes.fromhex(told[purpose]) for purpose in _PURPOSES)
        # One wallet for card and line: one rule of counts for both.
        meter.count_rule = CountRule.NEXT_ONLY
        self._readers[name] = CardReader(
            meter.number,
            told["area"].encode(),
            recharge,
            parameters,
            write_back,
            account=Registers(meter),  # type: ignore[arg-type]
        )

    def hold(self, name: str, memory: bytes) -> dict[str, Any]:
        """Hold an RF card to a meter: its bytes afterwards, and the reason the display shows.

        Raises KeyError where the meter has no slot, ValueError for bytes that are no card.
        """
        reader, card = self._readers[name], RfCard()
        if len(memory) != len(card.memory):
            raise ValueError(f"an RF card has {len(card.memory)} bytes")
        card.memory[:] = memory
        reader.now_s = int(time.time())
        reason = reader.hold(card)
        return {"reason": reason, "memory": card.memory.hex()}
