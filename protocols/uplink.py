"""What a box tells by itself: one meter's values with the instant the box gives them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.reading import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One pushed look at one meter of a gateway. Who it is in our places, the services find out.

    The instant is `at` where the box tells UTC, `dial` where it tells its own local time, and the
    arrival where it tells neither.
    """

    unit: int = 0  # the meter as the box calls it: a unit id …
    number: str = ""  # … or a number; neither: the only meter behind the box
    port: int = 1  # of a box with several lines
    at: datetime | None = None  # aware
    dial: datetime | None = None  # naive: the box's clock
    values: Values
    is_history: bool = False  # sent again from the box's memory after an outage
