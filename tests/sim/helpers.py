"""A hand-held clock and small masters: what the simulators' tests share."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from datetime import datetime

from simulators import rtu
from simulators.dial import Dial, dial_ms_of
from simulators.load import Load
from simulators.metering import Account, CountRule, LoadLimit, Meter
from simulators.tariff import COMMON_DAY, DayTable

# A Friday morning; the vectors were made for it.
START_MS = dial_ms_of(datetime(2025, 3, 14, 10, 20, 30))  # noqa: DTZ001  a dial has no zone
WAIT_S_MAX = 20.0  # far above what anything here takes, so that a slow machine does not matter


class HandClock:
    """A clock that moves when told."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


def meter(
    clock: HandClock,
    load: Load | None = None,
    account: Account | None = None,
    *,
    phases: int = 1,
    credit_fen: int = 1_000_000,
    count: int = 0,
    rule: CountRule = CountRule.NEXT_ONLY,
    limit: LoadLimit | None = None,
    drift_ppm: int = 0,
    offset_ms: int = 0,
    table: DayTable = COMMON_DAY,
    number: str = "012307210085",
) -> Meter:
    """A new meter with credit, its dial set by the clock."""
    return Meter(
        number=number,
        load=load or Load(seed=7),
        now_ms=clock.now_ms,
        phases=phases,
        account=account or Account(),
        load_limit=limit or LoadLimit(),
        day_table=table,
        dial=Dial(set_at_ms=clock.at_ms, set_to_ms=clock.at_ms + offset_ms, drift_ppm=drift_ppm),
        count_rule=rule,
        credited_fen=credit_fen,
        purchase_count=count,
    )


def read(unit: int, register: int, words: int) -> bytes:
    """A request for holding registers."""
    return rtu.sealed(struct.pack(">BBHH", unit, 3, register, words))


def registers(answer: bytes | None) -> bytes:
    """The data of a good answer to a read."""
    assert answer is not None
    assert rtu.is_sealed(answer)
    assert answer[1] == 3, f"exception {answer.hex()}"
    assert len(answer) == 5 + answer[2]
    return answer[3:-2]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():
            await asyncio.sleep(0.01)
