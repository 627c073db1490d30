"""One look at one meter: its values, or the reason there are none.

A look never raises for what a field can do to us: silence, damage, a missing adapter and a stranger
at the address are answers too, and each has its GapReason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateways.line import Isolated, Line
from gateways.link import LinkDown
from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.nights import GapReason
from headend.store.places import KnownMeter
from protocols.exchange import (
    BadAnswer,
    Conversation,
    Garbled,
    ProtocolError,
    Refused,
    Silence,
    WrongMeter,
)
from protocols.meter_type import Address, Driver, MeterType
from protocols.reading import Quantity as Q
from protocols.reading import Values, billed, meter_dial

# What a night wants of every meter, as far as its type can tell it. Prices and ratios change by
# hand and are read by the settings screens; everything else costs no extra request.
NIGHTLY: frozenset[Q] = frozenset(Q) - {
    Q.PRICE_SHARP,
    Q.PRICE_PEAK,
    Q.PRICE_FLAT,
    Q.PRICE_VALLEY,
    Q.REACTIVE_ENERGY,
    Q.ENERGY_EXPORT,
}
ENERGIES = frozenset(q for q in Q if q.value.startswith(("energy_", "reactive_energy_")))


@dataclass(frozen=True, slots=True)
class Looked:
    """The meter answered. `drift_s`: its dial minus the site's wall clock, None without a dial."""

    at: datetime
    values: Values
    drift_s: int | None


@dataclass(frozen=True, slots=True)
class Missed:
    """The meter did not give a reading; the detail is one sentence for the technician."""

    at: datetime
    reason: GapReason
    detail: str


@dataclass(slots=True)
class MeterAtWork:
    """A meter as this process knows it: its record, its driver and what it last showed."""

    known: KnownMeter
    meter_type: MeterType
    driver: Driver
    energy_wh_last: int | None = None
    energy_at: datetime | None = None  # of energy_wh_last; None: not known here yet
    billed_last: int | None = None  # the same of a meter of water or heat, since the start

    @property
    def address(self) -> Address:
        return Address(self.known.unit or 0, self.known.address or "")

    def record(self) -> dict[str, object]:
        """For JSON: what it is and where it hangs."""
        known = self.known
        return {
            "meter": known.name,
            "site": known.site,
            "room": known.room,
            "cabinet": known.cabinet,
            "line": known.line,
            "unit": known.unit,
            "address": known.address,
            "type": known.meter_type,
            "title": self.meter_type.title,
            "meter_number": known.meter_number,
        }


def conversation(meter: MeterAtWork, wanted: frozenset[Q]) -> Conversation[Values]:
    """Make sure who answers, when the site file says who should, then read."""
    expected = meter.known.meter_number
    if expected is not None:
        identity = yield from meter.driver.identify(meter.address)
        if identity.meter_number is not None and identity.meter_number != expected:
            raise WrongMeter(f"meter number {identity.meter_number} answers, not {expected}")
    return (yield from meter.driver.read(meter.address, wanted))


async def look(
    line: Line,
    meter: MeterAtWork,
    clock: Clock,
    *,
    priority: Priority,
    wanted: frozenset[Q] = NIGHTLY,
    read_tries: int | None = None,
) -> Looked | Missed:
    """Ask one meter for `wanted`. Waits for its turn on the line.

    `read_tries`: 1 ends the look at the first silence, so that a night goes on with the neighbours
    instead of waiting until the old answer cannot come any more.
    """
    try:
        values = await line.converse(
            meter.address,
            conversation(meter, wanted),
            priority=priority,
            read_tries=read_tries,
        )
    except (ProtocolError, LinkDown) as error:
        reason, detail = explain_gap(error)
        return Missed(clock.now(), reason, detail)
    at = clock.now()
    values = with_multiplier(values, meter.known.energy_multiplier)
    counter = billed(values)
    before = meter.energy_wh_last if counter is Q.ENERGY else meter.billed_last
    if objection := implausible(values, before):
        return Missed(at, GapReason.IMPLAUSIBLE, objection)
    meter.energy_at = at
    if counter is Q.ENERGY:
        meter.energy_wh_last = values[counter]
    elif counter is not None:
        meter.billed_last = values[counter]
    return Looked(at, values, drift_s(values, at, meter.known))


# Most particular first: Isolated and Garbled are silences, WrongMeter is a bad answer.
_REASONS: tuple[tuple[type[Exception], GapReason], ...] = (
    (LinkDown, GapReason.LINE_DOWN),
    (Isolated, GapReason.METER_SILENT),
    (Garbled, GapReason.GARBLED),
    (Silence, GapReason.METER_SILENT),
    (Refused, GapReason.REFUSED),
    (WrongMeter, GapReason.WRONG_METER),
    (BadAnswer, GapReason.IMPLAUSIBLE),
)


def explain_gap(error: ProtocolError | LinkDown) -> tuple[GapReason, str]:
    """The reason and one sentence for each way a conversation can fail."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason, str(error)
    return GapReason.GARBLED, str(error)


def with_multiplier(values: Values, multiplier: int) -> Values:
    """Energies of a CT-fed meter that counts on the secondary side, brought to the primary."""
    if multiplier == 1:
        return values
    return {q: v * multiplier if q in ENERGIES else v for q, v in values.items()}


def implausible(values: Values, last: int | None) -> str:
    """Why these values cannot be the meter's, or an empty text. `last`: its counter before.

    A counter never falls. Where it does, the meter was exchanged or reset and a person has to say
    so: taking the number would turn into a bill.
    """
    counter = billed(values)
    if counter is None:
        return "the answer carries no energy, heat or volume"
    if last is not None and values[counter] < last:
        name, _, unit = counter.value.rpartition("_")
        unit = {"wh": "Wh"}.get(unit, unit)
        return f"{name} fell from {last} {unit} to {values[counter]} {unit}"
    return ""


def drift_s(values: Values, at: datetime, known: KnownMeter) -> int | None:
    """How far the meter's dial is ahead of the site's wall clock, in seconds."""
    clock_s = values.get(Q.CLOCK)
    if clock_s is None:
        return None
    wall = at.astimezone(known.time_zone).replace(tzinfo=None)
    return round((meter_dial(clock_s) - wall).total_seconds())


def as_record(outcome: Looked | Missed) -> dict[str, object]:
    """For JSON: quantities under their storage names."""
    record: dict[str, object] = {"at": outcome.at.isoformat()}
    if isinstance(outcome, Looked):
        record["values"] = {q.value: v for q, v in outcome.values.items()}
        record["clock_drift_s"] = outcome.drift_s
    else:
        record |= {"reason": outcome.reason.value, "detail": outcome.detail}
    return record
