"""From a gateway's report to what its meters said: functions by their id become quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType

from protocols.acrel_gateway_xml import Report, ReportedMeter
from protocols.reading import Quantity, Values
from protocols.stream import Event, Pushed, Unrecognised
from protocols.uplink import Upload

Q = Quantity

# Ids in lower case, since gateways differ in it, and how many of our units one of theirs is: kWh as
# decimals (spec acrel.md 4.2). Which other ids there are depends on the template in the gateway.
FUNCTIONS: Mapping[str, tuple[Quantity, int]] = MappingProxyType(
    {
        "wpp": (Q.ENERGY, 1000),
        "powerhigher": (Q.ENERGY_SHARP, 1000),
        "powerhigh": (Q.ENERGY_PEAK, 1000),
        "powerflat": (Q.ENERGY_FLAT, 1000),
        "powerlow": (Q.ENERGY_VALLEY, 1000),
        "episg": (Q.ENERGY_DEEP_VALLEY, 1000),
    }
)
# The word for what was kept during an outage comes from the guideline these documents follow, which
# is inferred (spec acrel.md 4.2). A report much older than the clock we gave is the same thing:
# gateways report at least once an hour.
CONTINUED = "continuous"
FRESH = timedelta(hours=2)
SAMPLE_BYTES_MAX = 256  # of what was not understood in one report

_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def told_by(report: Report, dial_now: datetime) -> Iterator[Event]:
    """One Pushed for each meter with something to say, then at most one Unrecognised."""
    is_history = report.operation.lower() == CONTINUED or report.dial < dial_now - FRESH
    left_over = [f"meter {name!r}" for name in report.nameless]
    for meter in report.meters:
        values, unknown = _values(meter)
        left_over += unknown
        if values:
            yield Pushed(
                Upload(
                    unit=meter.unit,
                    port=meter.port,
                    dial=report.dial,
                    values=values,
                    is_history=is_history,
                )
            )
    if left_over:
        yield Unrecognised(_sample(left_over))


def _values(meter: ReportedMeter) -> tuple[Values, list[str]]:
    """What is known, and the rest as it was said."""
    values: Values = {}
    unknown = []
    for name, text in meter.functions:
        quantity, times = FUNCTIONS.get(name.lower(), (None, 0))
        if quantity is None or quantity in values or not _DECIMAL.fullmatch(text):
            unknown.append(f"{meter.port:02}{meter.unit:03} {name}={text}")
        else:
            values[quantity] = int((Decimal(text) * times).to_integral_value(ROUND_HALF_EVEN))
    return values, unknown


def _sample(parts: Iterable[str]) -> bytes:
    return "; ".join(parts).encode()[:SAMPLE_BYTES_MAX]
