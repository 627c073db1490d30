"""What is known of a key besides its bytes: purpose, scope, version, check value, its dates."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from headend.keys.primitives import Algorithm
from protocols.key_call import Purpose


class KeyState(enum.Enum):
    """After NIST SP 800-57: what a version may still do."""

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"  # issues and accepts
    DEACTIVATED = "deactivated"  # accepts what was issued under it
    STOPPED = "stopped"  # neither
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditField:
    """Where the data under a MAC carry money, so that the service reads the amount by itself."""

    offset: int
    length: int  # an unsigned integer of fen, high byte first

    def fen(self, data: bytes) -> int | None:
        """The amount in these data, None where they are too short to have one."""
        raw = data[self.offset : self.offset + self.length]
        return int.from_bytes(raw, "big") if len(raw) == self.length else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One version of one key."""

    purpose: Purpose
    scope: str
    version: int  # from 1; the next of this purpose and scope is one more
    algorithm: Algorithm
    kcv: bytes
    kcv_method: str
    created_at: datetime
    active_from: datetime
    stop_issue: datetime | None = None
    stop_accept: datetime | None = None
    destroyed_at: datetime | None = None
    #: with these a MAC counts against the daily credit limit of the key
    credit: CreditField | None = None
    credit_fen_per_day: int | None = None

    def __post_init__(self) -> None:
        if self.version < 1 or not self.scope or len(self.kcv) != 3:
            raise ValueError("a key has a version from 1, a scope and a check value of 3 bytes")
        if (self.credit is None) != (self.credit_fen_per_day is None):
            raise ValueError("a credit limit and where the credit stands belong together")
        if self.purpose in CREDITS and self.credit is None:
            raise ValueError(f"a key for {self.purpose.value} has a daily credit limit")

    @property
    def key_id(self) -> str:
        """The name of this version, and what its ciphertext is bound to."""
        return f"{self.purpose.value}|{self.scope}|{self.version}"

    def state(self, now: datetime) -> KeyState:
        """What it may do at this instant."""
        if self.destroyed_at is not None:
            return KeyState.DESTROYED
        if now < self.active_from:
            return KeyState.PRE_ACTIVE
        if self.stop_accept is not None and now >= self.stop_accept:
            return KeyState.STOPPED
        if self.stop_issue is not None and now >= self.stop_issue:
            return KeyState.DEACTIVATED
        return KeyState.ACTIVE

    def may_issue(self, now: datetime) -> bool:
        """Whether something new may be made under it."""
        return self.state(now) is KeyState.ACTIVE

    def may_accept(self, now: datetime) -> bool:
        """Whether what was made under it is still good."""
        return self.state(now) in (KeyState.ACTIVE, KeyState.DEACTIVATED)


#: purposes under which money is made: never without a limit by the day
CREDITS = frozenset({Purpose.RECHARGE, Purpose.REMOTE_RECHARGE, Purpose.TERMINAL_CAP})


def issuing(records: Iterable[KeyRecord], now: datetime) -> KeyRecord | None:
    """The one version that may issue: the newest active one."""
    active = [record for record in records if record.may_issue(now)]
    return max(active, key=lambda record: record.version, default=None)


def next_version(records: Iterable[KeyRecord]) -> int:
    """The version after the newest; a number is never used again, destroyed or not."""
    return max((record.version for record in records), default=0) + 1


def stopped(
    record: KeyRecord, *, issue: datetime | None = None, accept: datetime | None = None
) -> KeyRecord:
    """The record with an earlier end. An end is never moved to later: revoked stays revoked."""
    stop_issue = _earlier(record.stop_issue, issue)
    stop_accept = _earlier(record.stop_accept, accept)
    return replace(record, stop_issue=_earlier(stop_issue, stop_accept), stop_accept=stop_accept)


def _earlier(known: datetime | None, wished: datetime | None) -> datetime | None:
    return min((at for at in (known, wished) if at is not None), default=None)
