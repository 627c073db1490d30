"""The small parts of a line, each by itself."""

from __future__ import annotations

import asyncio

import pytest

from gateways.breaker import PAUSE_S_MAX, PAUSE_S_MIN, SILENCES_TO_OPEN, Breaker
from gateways.health import BUSY_SPAN_S, LineHealth
from gateways.timing import LineTiming
from gateways.turns import Priority, Turns
from gateways.wiretap import Wiretap

# ---- breaker ------------------------------------------------------------------------------------


def test_the_pause_of_a_dead_meter_doubles_up_to_its_bound_and_begins_anew() -> None:
    breaker, now_s, pauses_s = Breaker(), 0.0, []
    for _ in range(SILENCES_TO_OPEN - 1):
        assert not breaker.unanswered(now_s)
    assert breaker.unanswered(now_s), "the one that opens it"
    for _ in range(8):
        assert breaker.open_until_s is not None
        pauses_s.append(breaker.open_until_s - now_s)
        assert breaker.keeps_out(breaker.open_until_s - 0.001)
        now_s = breaker.open_until_s
        assert not breaker.keeps_out(now_s)
        assert not breaker.unanswered(now_s), "it is open already"
    assert pauses_s[:3] == [PAUSE_S_MIN, 2 * PAUSE_S_MIN, 4 * PAUSE_S_MIN]
    assert pauses_s[-1] == PAUSE_S_MAX
    assert breaker.answered() == SILENCES_TO_OPEN + 8
    assert not breaker.is_open
    for _ in range(SILENCES_TO_OPEN):
        breaker.unanswered(now_s)
    assert breaker.open_until_s == now_s + PAUSE_S_MIN


def test_a_lost_frame_now_and_then_opens_nothing() -> None:
    breaker = Breaker()
    for _ in range(20):
        assert not breaker.unanswered(0.0)
        assert breaker.answered() == 0


# ---- turns --------------------------------------------------------------------------------------


async def test_a_turn_handed_to_somebody_just_cancelled_goes_on_to_the_next() -> None:
    turns = Turns()
    assert turns.try_take()
    gone = asyncio.create_task(turns.wait(Priority.COMMAND))
    waiting = asyncio.create_task(turns.wait(Priority.NIGHTLY))
    await asyncio.sleep(0)
    assert turns.wanted_before(Priority.NIGHTLY)
    turns.pass_on()
    gone.cancel()
    async with asyncio.timeout(5):
        await waiting
    turns.pass_on()
    assert turns.try_take(), "free again"


# ---- wiretap ------------------------------------------------------------------------------------


def test_the_ring_is_bounded_by_frames_and_by_bytes() -> None:
    tap = Wiretap(frames_max=3, bytes_max=100)
    for n in range(5):
        tap.record(float(n), True, bytes((n,)))
    assert [frame.data for frame in tap.frames()] == [b"\x02", b"\x03", b"\x04"]
    tap.record(5.0, False, bytes(99))
    assert [len(frame.data) for frame in tap.frames()] == [1, 99]
    tap.record(6.0, False, b"\x06")
    assert sum(len(frame.data) for frame in tap.frames()) == 100


async def test_a_slow_watcher_loses_the_oldest_frames_and_knows_how_many() -> None:
    tap = Wiretap()
    with tap.watch(frames_max=2) as watcher:
        for n in range(5):
            tap.record(float(n), True, bytes((n,)))
        seen = []
        async with asyncio.timeout(5):
            async for frame in watcher:
                seen.append(frame.data)
                if len(seen) == 2:
                    tap.record(9.0, False, b"new")
                if len(seen) == 3:
                    break
    assert seen == [b"\x03", b"\x04", b"new"]
    assert watcher.lost == 3
    tap.record(10.0, True, b"unseen")
    assert tap.frames()[-1].at.year == 1970


# ---- health -------------------------------------------------------------------------------------


def test_busy_is_told_over_the_last_whole_minute() -> None:
    health = LineHealth()
    health.took(1000.0, 0.0)
    health.took(1000.0 + BUSY_SPAN_S / 2, BUSY_SPAN_S / 4)
    assert health.busy_share(1000.0 + BUSY_SPAN_S) == pytest.approx(0.25)
    assert health.busy_share(1000.0 + 2 * BUSY_SPAN_S) == 0.0


def test_percentiles_of_replies() -> None:
    health = LineHealth()
    assert health.reply_ms(0.95) is None
    for n in range(100):
        health.answered(0.0, n / 1000)
    assert health.reply_ms(0.5) == 50.0
    assert health.reply_ms(0.95) == 95.0


# ---- timing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baud", "parity", "stop_bits", "silence_ms"),
    [(9600, "N", 1, 3.646), (2400, "E", 1, 16.042), (19200, "N", 2, 2.005), (38400, "N", 1, 1.75)],
)
def test_the_silence_between_frames(
    baud: int, parity: str, stop_bits: int, silence_ms: float
) -> None:
    timing = LineTiming.serial(baud=baud, parity=parity, stop_bits=stop_bits)
    assert 1000 * timing.silence_s == pytest.approx(silence_ms, abs=0.001)


def test_a_network_line_leaves_the_silence_to_its_box_but_allows_for_the_wire() -> None:
    timing = LineTiming.network(mobile=True, baud=1200)
    assert timing.silence_s == 0
    assert timing.char_s == pytest.approx(10 / 1200)
    assert timing.reply_late_s_max == 30.0


def test_patience_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(AssertionError, match="late begins after"):
        LineTiming(reply_timeout_s=5.0, reply_late_s_max=2.0)
