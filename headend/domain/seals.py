"""The seal over the books: a hash chain that anybody can recompute. docs/ledger-seal.md says how.

Each sealed row has a position; its chain value is SHA-256 over the chain value before it and the
row's canonical bytes. A day's seal is SHA-256 over the day's facts, the chain value reached and the
seal of the day before. Whoever changes a row has to change every value after it, and those that
somebody wrote down elsewhere do not change with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

Entry: TypeAlias = Mapping[str, str | int | None]

# Before the first row, and before the first day.
BEGINNING: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class BookedRow:
    """One row of a sealed table. `position` and `chain_sha256` are None until it is sealed."""

    source: str  # "transfer" or "command_event"
    entry_no: int
    entry: Entry | None  # None: the chain has it, its table does not
    position: int | None
    chain_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class DaySeal:
    """The close of a day over everything chained until then."""

    day: date
    last_position: int
    transfers: int  # chained since the seal before
    events: int
    chain_sha256: bytes
    previous_sha256: bytes
    sealed_at: datetime
    seal_sha256: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """A day's seal that somebody kept elsewhere: on paper, in a mail, on another machine."""

    day: date
    seal_sha256: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """The first row that is not as it was sealed."""

    table: str
    row: str  # its number, or the day of a seal
    day: date | None  # the sealed day it belongs to; None: not sealed yet
    what: str

    def __str__(self) -> str:
        day = f"sealed with the day {self.day}" if self.day else "not sealed with a day yet"
        return f"{self.table} {self.row} ({day}) {self.what}."


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found."""

    transfers: int
    events: int
    seals: int
    unsealed: int  # rows that no chain value covers yet
    last_day: date | None
    last_seal_sha256: bytes | None  # worth writing down: it proves everything before it
    fault: Fault | None

    @property
    def is_sound(self) -> bool:
        return self.fault is None


def instant(at: datetime) -> str:
    """An instant as it is sealed: UTC, six digits, Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(source: str, entry: Entry) -> bytes:
    """The bytes of a row: JSON of [table, object], keys sorted, no spaces, UTF-8 unescaped."""
    return json.dumps(
        [source, entry], sort_keys=True, ensure_ascii=False, separators=(",", ":")
    ).encode()


def next_link(chain_sha256: bytes, source: str, entry: Entry) -> bytes:
    """The chain value of a row that comes after `chain_sha256`."""
    return hashlib.sha256(chain_sha256 + canonical(source, entry)).digest()


def seal_entry(seal: DaySeal) -> Entry:
    """What a day's seal is computed over."""
    return {
        "day": seal.day.isoformat(),
        "last_position": seal.last_position,
        "transfers": seal.transfers,
        "events": seal.events,
        "chain_sha256": seal.chain_sha256.hex(),
        "previous_sha256": seal.previous_sha256.hex(),
        "sealed_at": instant(seal.sealed_at),
    }


def seal_digest(seal: DaySeal) -> bytes:
    """The seal itself."""
    return hashlib.sha256(canonical("day_seal", seal_entry(seal))).digest()


class Verifier:
    """Recomputes chain and seals over rows in the order of an export; names the first bad one.

    Without an anchor a tail that was cut off together with its chain and its seals leaves no trace;
    with one it does.
    """

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._anchor = anchor
        self._anchored = False
        self._fault: Fault | None = None
        self._position = 0
        self._chain_sha256 = BEGINNING
        self._previous_sha256 = BEGINNING
        self._last_day: date | None = None
        self._transfers = 0
        self._events = 0
        self._seals = 0
        #: rows that are not chained yet, by table and number
        self._unsealed: set[tuple[str, int]] = set()
        #: (transfers, events) at the seal before
        self._at_last_seal = (0, 0)
        #: by transfer id what is reserved and not resolved: (debit, credit, amount)
        self._reserved: dict[object, tuple[object, ...]] = {}

    def add(self, row: BookedRow | DaySeal) -> bool:
        """Look at one more; False: nothing after it can matter."""
        if isinstance(row, DaySeal):
            self._add_seal(row)
            return self._fault is None
        if self._fault is None:
            self._add_row(row)
        return True  # after a fault the next seal still tells its day

    def report(self) -> VerifyReport:
        """What was found; call it after the last row."""
        if self._anchor is not None and not self._anchored:
            self._found(
                "day_seal", self._anchor.day, "is missing, although its seal was kept elsewhere"
            )
        return VerifyReport(
            transfers=self._transfers,
            events=self._events,
            seals=self._seals,
            unsealed=len(self._unsealed),
            last_day=self._last_day,
            last_seal_sha256=self._previous_sha256 if self._seals else None,
            fault=self._fault,
        )

    def _found(self, table: str, row: object, what: str) -> None:
        if self._fault is None:
            self._fault = Fault(table, str(row), None, what)

    def _add_row(self, row: BookedRow) -> None:
        if row.position is None or row.chain_sha256 is None:
            if (row.source, row.entry_no) in self._unsealed:
                self._found(row.source, row.entry_no, "stands there twice")
            self._unsealed.add((row.source, row.entry_no))
        elif row.position != self._position + 1:
            self._found(
                row.source,
                row.entry_no,
                f"stands at position {row.position} of the chain, where position "
                f"{self._position + 1} is due: what stood there was deleted or moved",
            )
        elif row.entry is None:
            self._found(row.source, row.entry_no, "was deleted after it was sealed")
        else:
            self._position = row.position
            self._chain_sha256 = next_link(self._chain_sha256, row.source, row.entry)
            if self._chain_sha256 != row.chain_sha256:
                self._found(row.source, row.entry_no, "was changed or moved after it was sealed")
        if row.source == "transfer":
            self._transfers += 1
            self._check_transfer(row)
        else:
            self._events += 1

    def _check_transfer(self, row: BookedRow) -> None:
        """The database's own rules once more, since rows may have come in around them."""
        if self._fault is not None or row.entry is None:
            return
        entry = row.entry
        debit, credit = entry.get("debit"), entry.get("credit")
        amount_fen, phase = entry.get("amount_fen"), entry.get("phase")
        moves = (debit, credit, amount_fen)
        if not isinstance(amount_fen, int) or amount_fen <= 0 or debit == credit:
            self._found("transfer", row.entry_no, "moves no money")
        elif phase == "pending":
            self._reserved[entry.get("transfer_id")] = moves
        elif phase != "direct" and self._reserved.pop(entry.get("pending_id"), None) != moves:
            self._found(
                "transfer",
                row.entry_no,
                "resolves what was not reserved like this, or was resolved before",
            )

    def _add_seal(self, seal: DaySeal) -> None:
        if self._fault is not None:
            # Now it is known which day the bad row belongs to.
            self._fault = replace(self._fault, day=seal.day)
            return
        what = self._wrong_with(seal)
        if what is not None:
            self._fault = Fault("day_seal", seal.day.isoformat(), seal.day, what)
            return
        self._seals += 1
        self._last_day = seal.day
        self._previous_sha256 = seal.seal_sha256
        self._at_last_seal = (self._transfers, self._events)
        self._anchored |= self._anchor is not None and seal.day == self._anchor.day

    def _wrong_with(self, seal: DaySeal) -> str | None:
        if seal.last_position > self._position:
            return (
                f"covers positions up to {seal.last_position}, but the chain ends at "
                f"{self._position}: everything from position {self._position + 1} was cut off"
            )
        if seal.previous_sha256 != self._previous_sha256:
            return "does not follow the seal before it: a seal was deleted, changed or moved"
        transfers, events = self._at_last_seal
        said = (seal.last_position, seal.chain_sha256, seal.transfers, seal.events)
        if said != (
            self._position,
            self._chain_sha256,
            self._transfers - transfers,
            self._events - events,
        ) or (self._last_day is not None and seal.day <= self._last_day):
            return "does not say what the chain before it says"
        if seal_digest(seal) != seal.seal_sha256:
            return "was changed after it was made"
        kept = self._anchor
        if kept is not None and seal.day == kept.day and seal.seal_sha256 != kept.seal_sha256:
            return "is not the one that was kept elsewhere: the books were written anew"
        return None
