"""Frames with their meaning, from tests/vectors/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ACREL: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "acrel.json").read_text()
)
LIVE_FRAME = bytes.fromhex(ACREL["answers"][0]["hex"])
LIVE_PAYLOAD = LIVE_FRAME[3:-2]
ORDERS: dict[str, str] = ACREL["orders"]
ACREL_GATEWAY: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "acrel_gateway.json").read_text()
)
