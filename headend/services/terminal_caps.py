"""Caps for terminals: numbered, committed, sealed by the key service, and only then given out."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateways.key_client import KeyRefused, KeysAway
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.store import terminals
from headend.store.database import Database
from protocols.key_call import LEVEL_BYTES, KeyCall, KeyResult, Operation, Purpose
from protocols.terminal_island import Cap, cap_body

CAP_FEN_MAX = 5_000_000  # 50,000 yuan, as one sale


@dataclass(frozen=True, slots=True, kw_only=True)
class CapWish:
    """So much to a card and so much in all, until the end of the site's day."""

    terminal: str
    time_zone: ZoneInfo
    card_fen: int
    total_fen: int
    operator_id: int
    approver_id: int
    reason: str


def device_of(terminal: str) -> bytes:
    """A terminal's name as the eight bytes its key is derived by."""
    return hashlib.sha256(terminal.encode()).digest()[:LEVEL_BYTES]


class CapOffice:
    """Issues caps; `ask` is the way to the key service, None where none is set."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ask: Callable[[KeyCall], Awaitable[KeyResult]] | None,
        *,
        scope: str,
        area: bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ask = ask
        self._scope = scope
        self._area = area

    async def issue(self, wish: CapWish) -> Cap:
        """A new cap for today. Raises Problem; a cap that was not sealed is never given out."""
        if self._ask is None:
            raise Problem("cards-off")
        if not 1 <= wish.card_fen <= wish.total_fen <= CAP_FEN_MAX or not wish.reason.strip():
            raise Problem("bad-cap", most=CAP_FEN_MAX)
        version = await self._version()
        at = self._clock.now()
        local = at.astimezone(wish.time_zone)
        until = datetime.combine(local.date() + timedelta(days=1), time(0), wish.time_zone)
        async with self._database.transaction() as tx:
            number, first = await terminals.begin_cap(
                tx,
                terminals.NewCap(
                    terminal=wish.terminal,
                    day=local.date(),
                    card_fen=wish.card_fen,
                    total_fen=wish.total_fen,
                    valid_until=until,
                    issued_by=wish.operator_id,
                    approved_by=wish.approver_id,
                    reason=wish.reason,
                    at=at,
                ),
            )
        cap = Cap(
            number=number,
            terminal=wish.terminal,
            day=local.date().isoformat(),
            card_fen=wish.card_fen,
            total_fen=wish.total_fen,
            first_sequence=first,
            valid_until_s=int(until.timestamp()),
            key_version=version,
        )
        mac = await self._seal(cap)
        async with self._database.transaction() as tx:
            await terminals.seal_cap(tx, number, version, mac)
        return cap

    async def _version(self) -> int:
        """The one that may issue now: a terminal opens a cap with the key of its version."""
        call = KeyCall(operation=Operation.KCV, purpose=Purpose.TERMINAL_CAP, scope=self._scope)
        return (await self._asked(call)).version

    async def _seal(self, cap: Cap) -> bytes:
        call = KeyCall(
            operation=Operation.MAC,
            purpose=Purpose.TERMINAL_CAP,
            scope=self._scope,
            version=cap.key_version,
            path=(self._area, device_of(cap.terminal)),
            data=cap_body(cap),
        )
        return (await self._asked(call)).value

    async def _asked(self, call: KeyCall) -> KeyResult:
        assert self._ask is not None, "asked before"
        try:
            return await self._ask(call)
        except (KeysAway, KeyRefused) as error:
            raise Problem("cap-not-sealed", detail=error) from error
