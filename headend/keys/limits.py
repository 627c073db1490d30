"""Who may ask the key service for what, how fast, and for how much money a day. Pure.

The amounts are read from the data under the MAC, at the place the key's record says, so that a
caller cannot name a smaller one. The same data again are the same purchase (a replaced card, a
repeated frame) and count once.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from headend.domain.money import yuan
from headend.domain.seals import Entry
from headend.keys.records import CREDITS, KeyRecord
from protocols.key_call import Denial, KeyCall, KeyDenied, Operation, Purpose

CALLS_PER_MINUTE_MAX = 60_000


class BadRules(ValueError):
    """The file of callers is wrong: one sentence that names the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A program that may ask, known by the user it runs as."""

    name: str
    uid: int
    calls_per_minute: int
    allow: frozenset[tuple[Operation, Purpose]]


def callers_of(text: str) -> dict[int, Caller]:
    """The callers of a TOML file, by uid. Raises BadRules.

    [[caller]]
    name = "head-end"
    uid = 998
    calls_per_minute = 600
    allow = ["derive_and_mac recharge", "derive_and_check write-back"]
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"the file of callers is not TOML: {error}") from error
    rows = table.pop("caller", [])
    if table or not isinstance(rows, list) or not rows:
        raise BadRules("the file of callers has [[caller]] tables and nothing else")
    callers: dict[int, Caller] = {}
    for row in rows:
        caller = _caller(row)
        if caller.uid in callers:
            raise BadRules(f"{caller.name} and {callers[caller.uid].name} have one uid")
        callers[caller.uid] = caller
    return callers


def _caller(row: Mapping[str, Any]) -> Caller:
    name, uid, pace = row.get("name"), row.get("uid"), row.get("calls_per_minute")
    if set(row) != {"name", "uid", "calls_per_minute", "allow"} or not isinstance(name, str):
        raise BadRules("a caller has name, uid, calls_per_minute and allow, and nothing else")
    if type(uid) is not int or uid < 0:
        raise BadRules(f"{name}: uid is the number of a user")
    if type(pace) is not int or not 1 <= pace <= CALLS_PER_MINUTE_MAX:
        raise BadRules(f"{name}: calls_per_minute is 1 to {CALLS_PER_MINUTE_MAX}")
    allow = set()
    for text in row["allow"]:
        operation, _, purpose = str(text).partition(" ")
        try:
            allow.add((Operation(operation), Purpose(purpose)))
        except ValueError:
            raise BadRules(f"{name}: {text} is not an operation and a purpose") from None
    return Caller(name=name, uid=uid, calls_per_minute=pace, allow=frozenset(allow))


def may_ask(caller: Caller | None, call: KeyCall) -> KeyDenied | None:
    """Whether this caller may make such a call at all."""
    if caller is None:
        return KeyDenied(Denial.NOT_ALLOWED, "no caller is known for this user")
    if (call.operation, call.purpose) not in caller.allow:
        return KeyDenied(
            Denial.NOT_ALLOWED, f"{caller.name}: {call.operation.value} {call.purpose.value}"
        )
    if call.operation is Operation.ENCRYPT and call.purpose in CREDITS:
        return KeyDenied(Denial.NOT_ALLOWED, "a key that makes money makes MACs only")
    return None


@dataclass(slots=True)
class Pace:
    """A bucket of calls by caller: full after a quiet minute."""

    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, caller: Caller, now_s: float) -> bool:
        """Whether one more call is within the caller's rate; counts it."""
        left, at_s = self._left.get(caller.name, (float(caller.calls_per_minute), now_s))
        refill = (now_s - at_s) * caller.calls_per_minute / 60
        left = min(float(caller.calls_per_minute), left + refill)
        if left < 1:
            self._left[caller.name] = (left, now_s)
            return False
        self._left[caller.name] = (left - 1, now_s)
        return True


@dataclass(slots=True)
class Credits:
    """What was credited today, by key, as the log tells it. A day is a day of UTC."""

    day: date = date.min
    fen: dict[str, int] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)  # key id, digest of the data

    @classmethod
    def of_log(cls, entries: Iterable[Entry], today: date) -> Credits:
        """Where the day stands after a restart."""
        day = cls(day=today)
        for entry in entries:
            fen, digest = entry.get("credit_fen"), entry.get("data_sha256")
            made = entry.get("outcome") == "done" and str(entry.get("at"))[:10] == str(today)
            if made and isinstance(fen, int) and isinstance(digest, str):
                day.add(str(entry["key"]), digest, fen)
        return day

    def may_add(
        self, record: KeyRecord, data: bytes, now: datetime
    ) -> tuple[int | None, KeyDenied | None]:
        """The credit in these data, and why it is too much, if it is. None: this key has none."""
        if record.credit is None or record.credit_fen_per_day is None:
            return None, None
        if now.date() != self.day:
            self.day, self.fen, self.seen = now.date(), {}, set()
        fen = record.credit.fen(data)
        if fen is None:
            return None, KeyDenied(Denial.BAD_CALL, "these data carry no amount")
        if (record.key_id, digest_of(data)) in self.seen:
            return fen, None
        today_fen = self.fen.get(record.key_id, 0) + fen
        if today_fen > record.credit_fen_per_day:
            return fen, KeyDenied(
                Denial.CREDIT_LIMIT,
                f"{yuan(today_fen)} yuan today, {yuan(record.credit_fen_per_day)} are allowed",
            )
        return fen, None

    def add(self, key_id: str, digest: str, fen: int) -> None:
        """Count what was credited."""
        if (key_id, digest) not in self.seen:
            self.seen.add((key_id, digest))
            self.fen[key_id] = self.fen.get(key_id, 0) + fen


def digest_of(data: bytes) -> str:
    """What stands in the log for these data."""
    return hashlib.sha256(data).hexdigest()
