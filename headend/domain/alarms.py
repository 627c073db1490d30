"""Alarms: which there are, how bad each is, and when one rises and falls.

Pure. A condition rises at one value and falls at another, so that a value that trembles about a
threshold is one alarm. What is not known says nothing: neither that an alarm begins nor that it is
over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.domain.money import yuan


class AlarmKind(enum.Enum):
    """What an alarm is about; the value is its code everywhere."""

    LOW_CREDIT = "low-credit"  # the first of two warnings
    VERY_LOW_CREDIT = "very-low-credit"  # the second: light goes out soon
    ARREARS = "arrears"
    METER_OFFLINE = "meter-offline"
    GATEWAY_OFFLINE = "gateway-offline"
    TAMPER = "tamper"
    CLOCK_WRONG = "clock-wrong"
    LOSS = "loss"  # a master meter counted more than its circuits
    UNKNOWN_TOO_LONG = "unknown-too-long"
    GHOST_PURCHASE = "ghost-purchase"  # the meter was credited with what the books never sold
    BOOKS_DIFFER = "meter-and-books-differ"
    DOUBTFUL_UPLOAD = "doubtful-upload"
    BACKUP_OLD = "backup-old"
    BOOKS_RESTORED = "books-restored"
    DELIVERY_GIVEN_UP = "delivery-given-up"
    BILLING_STUCK = "billing-stuck"  # a meter the platform bills: its readings make no bill
    PLATFORM_CUTS_WAIT = "platform-cuts-wait"  # more balances ran out than are cut without a look
    TERMINAL_CLASH = "terminal-clash"  # what a terminal did alone does not fit the books
    FALSE_CARD = "false-card"  # a card at a terminal that could not prove its serial


class Severity(enum.Enum):
    """How soon somebody has to look."""

    NOTICE = "notice"
    WARNING = "warning"
    URGENT = "urgent"


class AlarmState(enum.Enum):
    """Raised → acknowledged → closed, and never back."""

    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


K = AlarmKind

SEVERITY: Final[Mapping[AlarmKind, Severity]] = {
    K.LOW_CREDIT: Severity.NOTICE,
    K.VERY_LOW_CREDIT: Severity.WARNING,
    K.ARREARS: Severity.WARNING,
    K.METER_OFFLINE: Severity.WARNING,
    K.GATEWAY_OFFLINE: Severity.URGENT,
    K.TAMPER: Severity.URGENT,
    K.CLOCK_WRONG: Severity.WARNING,
    K.LOSS: Severity.WARNING,
    K.UNKNOWN_TOO_LONG: Severity.URGENT,
    K.GHOST_PURCHASE: Severity.URGENT,
    K.BOOKS_DIFFER: Severity.URGENT,
    K.DOUBTFUL_UPLOAD: Severity.WARNING,
    K.BACKUP_OLD: Severity.URGENT,
    K.BOOKS_RESTORED: Severity.URGENT,
    K.DELIVERY_GIVEN_UP: Severity.WARNING,
    K.BILLING_STUCK: Severity.WARNING,
    K.PLATFORM_CUTS_WAIT: Severity.URGENT,
    K.TERMINAL_CLASH: Severity.URGENT,
    K.FALSE_CARD: Severity.WARNING,
}
assert set(SEVERITY) == set(AlarmKind)

# A balance older than this decides nothing: the meter's silence is an alarm of its own.
CREDIT_OLD: Final = timedelta(hours=48)
# Power through an open relay. A meter's own noise is a few watts.
TAMPER_RISES_W: Final = 30
TAMPER_FALLS_W: Final = 5
# A gateway that comes and goes has not come back.
GATEWAY_STEADY: Final = timedelta(minutes=2)
# A share of less than this is the steps of the registers, and no loss.
LOSS_LEAST_WH: Final = 1_000
# A loss that trembles about its threshold is one alarm: over at this share of it.
LOSS_FALLS_PERMILLE: Final = 800
# A credit falls and is topped up in steps of a yuan: closer than this above it is the same alarm.
CREDIT_BAND_FEN: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRules:
    """The thresholds of one property. Amounts in fen, waits in minutes, drift in seconds."""

    low_credit_fen: int = 2_000
    very_low_credit_fen: int = 500
    arrears_fen: int = 0  # owed more than this
    meter_offline_min: int = 30 * 60  # a night was missed, and the morning after it
    gateway_offline_min: int = 15
    clock_drift_s: int = 300
    unknown_min: int = 30
    loss_permille: int = 100  # of what a master meter counted

    def __post_init__(self) -> None:
        """Raises ValueError with the field in its text."""
        for name, least, most in RULE_RANGES:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is from {least} to {most}")
        if self.low_credit_fen < self.very_low_credit_fen:
            raise ValueError("low_credit_fen is not below very_low_credit_fen")


# Field, least, most.
RULE_RANGES: Final = (
    ("low_credit_fen", 0, 5_000_000),
    ("very_low_credit_fen", -5_000_000, 5_000_000),
    ("arrears_fen", 0, 5_000_000),
    ("meter_offline_min", 5, 60 * 24 * 90),
    ("gateway_offline_min", 1, 60 * 24 * 90),
    ("clock_drift_s", 5, 86_400),
    ("unknown_min", 1, 60 * 24 * 90),
    ("loss_permille", 1, 1_000),
)


class Turn(enum.Enum):
    """What a look says about one condition."""

    RISES = "rises"
    HOLDS = "holds"  # in the band between, or not known: as before
    FALLS = "falls"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterLook:
    """What is known of one meter. None: not known."""

    heard_at: datetime
    credit_fen: int | None
    credit_at: datetime | None
    relay_closed_bits: int | None
    power_w: int | None
    drift_s: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition of one look, with what an alarm about it says."""

    kind: AlarmKind
    turn: Turn
    detail: str = ""


def look_at_meter(look: MeterLook, rules: AlarmRules, now: datetime) -> Iterator[Finding]:
    """Every condition a meter's own values decide."""
    fresh = look.credit_at is not None and now - look.credit_at <= CREDIT_OLD
    credit_fen = look.credit_fen if fresh else None
    for kind, threshold_fen in (
        (K.LOW_CREDIT, rules.low_credit_fen),
        (K.VERY_LOW_CREDIT, rules.very_low_credit_fen),
    ):
        turn = below(credit_fen, threshold_fen, threshold_fen + CREDIT_BAND_FEN)
        yield Finding(kind, turn, f"remaining credit {yuan(credit_fen)} yuan")
    turn = below(credit_fen, -rules.arrears_fen - 1, 0)
    yield Finding(K.ARREARS, turn, f"arrears of {yuan(-(credit_fen or 0))} yuan")
    silent = now - look.heard_at
    offline = silent > timedelta(minutes=rules.meter_offline_min)
    detail = f"nothing heard since {look.heard_at:%Y-%m-%d %H:%M} UTC"
    yield Finding(K.METER_OFFLINE, Turn.RISES if offline else Turn.FALLS, detail)
    yield _tamper(look)
    yield _clock(look.drift_s, rules.clock_drift_s)


def look_at_gateway(
    *, down_since: datetime | None, up_since: datetime | None, rules: AlarmRules, now: datetime
) -> Finding:
    """Whether a gateway is away. `down_since`: none of its lines is up, since then."""
    if down_since is not None:
        gone = now - down_since > timedelta(minutes=rules.gateway_offline_min)
        detail = f"no line of it is up since {down_since:%Y-%m-%d %H:%M} UTC"
        return Finding(K.GATEWAY_OFFLINE, Turn.RISES if gone else Turn.HOLDS, detail)
    steady = up_since is not None and now - up_since >= GATEWAY_STEADY
    return Finding(K.GATEWAY_OFFLINE, Turn.FALLS if steady else Turn.HOLDS)


def look_at_loss(master_wh: int | None, circuits_wh: int | None, rules: AlarmRules) -> Finding:
    """Whether a master meter counted more than its circuits did together. None: not all read."""
    if master_wh is None or circuits_wh is None or master_wh < LOSS_LEAST_WH:
        return Finding(K.LOSS, Turn.HOLDS)
    lost_wh = master_wh - circuits_wh
    permille = lost_wh * 1_000 // master_wh
    falls_at = rules.loss_permille * LOSS_FALLS_PERMILLE // 1_000
    if permille > rules.loss_permille:
        turn = Turn.RISES
    else:
        turn = Turn.FALLS if permille <= falls_at else Turn.HOLDS
    share = f"{permille // 10}.{permille % 10} %"
    detail = f"{share} of {_kwh(master_wh)} kWh are on none of its circuits: {_kwh(lost_wh)} kWh"
    return Finding(K.LOSS, turn, detail)


def below(value: int | None, rises_at: int, falls_at: int) -> Turn:
    """At or below `rises_at` it rises, above `falls_at` or at it it falls, between it holds."""
    assert rises_at < falls_at
    if value is None:
        return Turn.HOLDS
    if value <= rises_at:
        return Turn.RISES
    return Turn.FALLS if value >= falls_at else Turn.HOLDS


def _tamper(look: MeterLook) -> Finding:
    if look.relay_closed_bits is None or look.power_w is None:
        return Finding(K.TAMPER, Turn.HOLDS)
    if look.relay_closed_bits != 0:
        return Finding(K.TAMPER, Turn.FALLS)
    turn = below(-look.power_w, -TAMPER_RISES_W, -TAMPER_FALLS_W)
    return Finding(K.TAMPER, turn, f"its relay is open and {look.power_w} W flow")


def _clock(drift_s: int | None, drift_s_max: int) -> Finding:
    if drift_s is None:
        return Finding(K.CLOCK_WRONG, Turn.HOLDS)
    turn = below(-abs(drift_s), -drift_s_max - 1, -drift_s_max // 2)
    way = "ahead of" if drift_s > 0 else "behind"
    return Finding(K.CLOCK_WRONG, turn, f"its clock is {_span(abs(drift_s))} {way} the wall clock")


def _span(seconds: int) -> str:
    """In the one unit that matters."""
    if seconds >= 2 * 86_400:
        return f"{seconds // 86_400} days"
    return f"{seconds // 60} min" if seconds >= 600 else f"{seconds} s"


def _kwh(wh: int) -> str:
    return f"{wh / 1_000:.1f}"
