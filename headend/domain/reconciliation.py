"""Does a meter show what the books say was credited to it? Pure judgement, one meter at a time.

A look at the meter is one instant; sales land and are posted around it. What was posted before the
look must be in it. A sale that was open at that instant may be in it or not, and neither is a
difference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headend.domain.money import yuan


class DifferenceKind(enum.Enum):
    """Why a meter and the books differ."""

    IN_FLIGHT = "in_flight"  # explained by a sale that has not been proved yet
    ESCALATED = "escalated"  # a person has to decide on an order about money
    FOREIGN_PURCHASE = "foreign_purchase"  # the meter has more than was sold
    ROLLBACK = "rollback"  # the meter has less than was proved before
    RESET = "reset"  # its registers were cleared, or it is another meter
    WRONG_METER = "wrong_meter"  # what this one has too much, another one has too little


# With these nothing more is sold until a person has found out: the next count would be a guess.
FREEZES = frozenset(DifferenceKind) - {DifferenceKind.IN_FLIGHT, DifferenceKind.ESCALATED}


@dataclass(frozen=True, slots=True)
class Registers:
    """Cumulative purchases, as a meter shows them or the books expect them. None: not shown."""

    purchase_count: int | None
    total_purchased_fen: int | None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A sale that was open at the instant of the look."""

    #: what it may have brought, if it had landed: its amount; also 0 where it was being burned
    amounts_fen: tuple[int, ...]
    is_open: bool  # it still is: nothing is posted yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the books say about the instant of a look."""

    opening: Registers
    #: opening and everything posted or burned since, up to the look
    certain: Registers
    #: sales that may have landed by then, in the order of their counts
    doubtful: Sequence[Doubtful] = ()
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. Above 0: the meter is ahead of the books."""

    kind: DifferenceKind
    ahead_count: int | None
    ahead_fen: int | None
    detail: str


def classify(look: Registers, expected: Expected) -> Finding | None:
    """The difference between a look and the books, or None when they agree."""
    count = _less(look.purchase_count, expected.certain.purchase_count)
    fen = _less(look.total_purchased_fen, expected.certain.total_purchased_fen)
    if expected.escalated:
        return Finding(
            DifferenceKind.ESCALATED, count, fen, "an order about money waits for a person"
        )
    landed = _explained_by(count, fen, expected.doubtful)
    if landed is not None:
        if any(sale.is_open for sale in expected.doubtful[:landed]):
            return Finding(
                DifferenceKind.IN_FLIGHT, count, fen, "a sale landed that is not proved yet"
            )
        return None
    return Finding(kind := _kind(look, expected, count, fen), count, fen, _detail(kind, count, fen))


def _less(shown: int | None, expected: int | None) -> int | None:
    return None if shown is None or expected is None else shown - expected


def _explained_by(count: int | None, fen: int | None, doubtful: Sequence[Doubtful]) -> int | None:
    """How many of the doubtful sales the look has in it; None: no number of them explains it.

    Sales land in the order of their counts, so it is the first ones.
    """
    sums = {0}
    for landed in range(len(doubtful) + 1):
        if landed:
            amounts = doubtful[landed - 1].amounts_fen
            sums = {before + amount for before in sums for amount in amounts}
        if count in (None, landed) and (fen is None or fen in sums):
            return landed
    return None


def _kind(
    look: Registers, expected: Expected, count: int | None, fen: int | None
) -> DifferenceKind:
    for shown, opening, certain in (
        (look.purchase_count, expected.opening.purchase_count, expected.certain.purchase_count),
        (
            look.total_purchased_fen,
            expected.opening.total_purchased_fen,
            expected.certain.total_purchased_fen,
        ),
    ):
        if shown is None or opening is None or certain is None:
            continue
        if shown < opening or (shown == 0 and certain > 0):
            return DifferenceKind.RESET
    if (count is not None and count < 0) or (fen is not None and fen < 0):
        return DifferenceKind.ROLLBACK
    return DifferenceKind.FOREIGN_PURCHASE


def _detail(kind: DifferenceKind, count: int | None, fen: int | None) -> str:
    steps = " and ".join(
        part
        for part in (
            "" if count is None else f"{count:+d} purchases",
            "" if fen is None else f"{'+' if fen > 0 else ''}{yuan(fen)} yuan",
        )
        if part
    )
    return f"{_SAID[kind]}: {steps} against the books"


_SAID: Mapping[DifferenceKind, str] = {
    DifferenceKind.FOREIGN_PURCHASE: "the meter was credited from elsewhere",
    DifferenceKind.ROLLBACK: "the meter has lost purchases it once showed",
    DifferenceKind.RESET: "the meter's purchase registers were cleared",
}


def pair_wrong_meters(findings: Mapping[int, Finding]) -> dict[int, Finding]:
    """Findings by meter, those paired that mirror each other: one ahead by what one is behind.

    Paired only where there is exactly one of each; a guess would name an innocent meter.
    """
    ahead = _by_size(findings, DifferenceKind.FOREIGN_PURCHASE, sign=1)
    behind = _by_size(findings, DifferenceKind.ROLLBACK, sign=-1)
    paired = dict(findings)
    for size in ahead.keys() & behind.keys():
        if len(ahead[size]) == len(behind[size]) == 1:
            (more,), (less,) = ahead[size], behind[size]
            for meter_id, what, other in (
                (more, "has what was sold to", less),
                (less, "lacks what landed in", more),
            ):
                paired[meter_id] = replace(
                    findings[meter_id],
                    kind=DifferenceKind.WRONG_METER,
                    detail=f"this meter {what} meter number {other}",
                )
    return paired


def _by_size(
    findings: Mapping[int, Finding], kind: DifferenceKind, *, sign: int
) -> dict[tuple[int, int], list[int]]:
    sizes: dict[tuple[int, int], list[int]] = {}
    for meter_id, found in _of_kind(findings, kind):
        if found.ahead_count is not None and found.ahead_fen is not None:
            size = (sign * found.ahead_count, sign * found.ahead_fen)
            if min(size) > 0:
                sizes.setdefault(size, []).append(meter_id)
    return sizes


def _of_kind(
    findings: Mapping[int, Finding], kind: DifferenceKind
) -> Iterable[tuple[int, Finding]]:
    return ((meter_id, found) for meter_id, found in findings.items() if found.kind is kind)
