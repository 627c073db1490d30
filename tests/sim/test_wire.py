"""The wires on virtual time: every byte costs its time, frames need silence, collisions spoil."""

from __future__ import annotations

import asyncio

import pytest

from simulators import clockloop, rtu
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.faults import FaultRates, Faults
from simulators.modbus_meter import Bus
from simulators.wire import SlaveLine, WireTiming
from tests.sim.helpers import HandClock, meter, read, registers

CHAR_S = 10 / 9600
GAP_S = 3.5 * CHAR_S
TURNAROUND_S = 0.02
ASK = read(1, 0x0200, 48)
ANSWER_BYTES = 101
PURCHASE_COUNT_13 = bytes.fromhex("0120010000040800002710000d0000d21c")
EXCHANGE_S = (len(ASK) + ANSWER_BYTES) * CHAR_S + TURNAROUND_S


class Master:
    """Puts bytes on the wires and notes what comes back, and when."""

    def __init__(self, rates: FaultRates | None = None, chunk_bytes: int = 256) -> None:
        self.meter = meter(HandClock(), count=12)
        bus = Bus({1: acrel_unit(DDSY1352, self.meter, 1)})
        self.heard: list[tuple[float, bytes]] = []
        self.loop = asyncio.get_running_loop()
        self.line = SlaveLine(
            bus,
            lambda data: self.heard.append((self.loop.time(), data)),
            timing=WireTiming(turnaround_s=TURNAROUND_S),
            faults=Faults(seed=1, rates=rates or FaultRates()),
            chunk_bytes=chunk_bytes,
        )

    @property
    def bytes_heard(self) -> bytes:
        return b"".join(data for _, data in self.heard)


def test_every_byte_costs_its_time() -> None:
    async def scene() -> None:
        master = Master(chunk_bytes=32)
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(1)
        ends = [at_s for at_s, _ in master.heard]
        assert [len(data) for _, data in master.heard] == [32, 32, 32, 5]
        start_s = len(ASK) * CHAR_S + TURNAROUND_S
        assert ends == pytest.approx([start_s + n * CHAR_S for n in (32, 64, 96, 101)])
        registers(master.bytes_heard)

    clockloop.run(scene())


@pytest.mark.parametrize(("pause_s", "violations"), [(GAP_S * 1.01, 0), (GAP_S * 0.5, 4)])
def test_the_report_counts_missing_silence(pause_s: float, violations: int) -> None:
    async def scene() -> None:
        master = Master()
        for _ in range(5):
            master.line.bytes_from_master(ASK)
            await asyncio.sleep(EXCHANGE_S + pause_s)
        report = master.line.report.as_json()
        assert report["polls"] == report["requests"] == 5
        assert report["gap_violations"] == violations
        limit_s, span_s = 5 * EXCHANGE_S + 4 * GAP_S, 5 * EXCHANGE_S + 4 * pause_s
        assert report["wire_pct"] == pytest.approx(100 * limit_s / span_s, abs=0.01)

    clockloop.run(scene())


def test_a_request_in_pieces_is_one_request() -> None:
    async def scene() -> None:
        master = Master()
        for at in range(len(ASK)):
            master.line.bytes_from_master(ASK[at : at + 1])
            await asyncio.sleep(CHAR_S)
        await asyncio.sleep(1)
        registers(master.bytes_heard)

    clockloop.run(scene())


@pytest.mark.parametrize("bad", [ASK[:-1], b"\xff" + ASK, ASK + ASK, ASK[:-1] + b"\0"])
def test_a_garbled_request_meets_silence_and_harms_nothing_after_it(bad: bytes) -> None:
    async def scene() -> None:
        master = Master()
        master.line.bytes_from_master(bad)
        await asyncio.sleep(1)
        assert master.heard == []
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(1)
        registers(master.bytes_heard)
        assert master.line.report.counts["garbled_requests"] == 1

    clockloop.run(scene())


def test_speaking_into_an_answer_spoils_it() -> None:
    async def scene() -> None:
        master = Master(chunk_bytes=1)
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(len(ASK) * CHAR_S + TURNAROUND_S + 10.5 * CHAR_S)
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(1)
        assert len(master.bytes_heard) == ANSWER_BYTES, "the second request is lost, too"
        assert not rtu.is_sealed(master.bytes_heard)
        assert master.line.report.counts["collisions"] == 1

    clockloop.run(scene())


def test_a_late_answer_comes_into_somebody_elses_time() -> None:
    async def scene() -> None:
        master = Master(FaultRates(late=1.0, late_s_mean=1_000.0))
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(2)
        assert master.heard == []
        master.line.faults.calm = True
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(2)
        assert len(master.bytes_heard) == ANSWER_BYTES, "the wires were free meanwhile"
        await asyncio.sleep(20_000)
        assert len(master.bytes_heard) == 2 * ANSWER_BYTES
        assert master.line.report.polls == 1

    clockloop.run(scene())


@pytest.mark.parametrize(
    ("rates", "applied", "bytes_heard"),
    [
        (FaultRates(), 1, 15),
        (FaultRates(request_lost=1.0), 0, 0),  # the two that look the same from outside
        (FaultRates(answer_lost=1.0), 1, 0),
        (FaultRates(doubled=1.0), 1, 30),
        (FaultRates(silence=1.0), 0, 0),
    ],
)
def test_what_a_fault_does_to_a_purchase(rates: FaultRates, applied: int, bytes_heard: int) -> None:
    async def scene() -> None:
        master = Master(rates)
        master.line.bytes_from_master(PURCHASE_COUNT_13)
        await asyncio.sleep(1)
        assert len(master.meter.applied) == applied
        assert len(master.bytes_heard) == bytes_heard

    clockloop.run(scene())


def test_cut_wires_deliver_nothing() -> None:
    async def scene() -> None:
        master = Master()
        master.line.bytes_from_master(ASK)
        await asyncio.sleep(EXCHANGE_S / 2)
        master.line.stop()
        await asyncio.sleep(1)
        assert master.heard == []

    clockloop.run(scene())


def test_virtual_time_finds_a_deadlock() -> None:
    async def scene() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(clockloop.SimTimeError, match="deadlock"):
        clockloop.run(scene())


def test_virtual_time_stands_while_a_transaction_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clockloop, "FROZEN_WAIT_S_MAX", 0.01)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, clockloop.SimLoop)
        await asyncio.sleep(3600)
        assert loop.time() == 3600
        loop.transactions_open += 1
        await asyncio.sleep(1)

    with pytest.raises(clockloop.SimTimeError, match="time is frozen"):
        clockloop.run(scene())
