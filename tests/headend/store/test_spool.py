"""Readings that wait on disk: none lost once append() returned, none in the way of another."""

from __future__ import annotations

import os
import random
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headend.store import spool as module
from headend.store.nights import Look
from headend.store.spool import Spool, SpoolFull
from protocols.reading import Origin, Quantity, Reading

AT = datetime(2026, 3, 20, 16, 0, 0, 123456, tzinfo=UTC)


def look(number: int) -> Look:
    return Look(
        reading=Reading(
            meter_id=number,
            at=AT + timedelta(seconds=number),
            received_at=AT,
            origin=Origin.POLLED,
            values={Quantity.ENERGY: number, Quantity.REMAINING_CREDIT: -number},
        ),
        drift_s=-5 if number % 2 else None,
    )


def drained(spool: Spool, rows_max: int = 7) -> list[Look]:
    """Everything, each part forgotten as if it had been stored."""
    found: list[Look] = []
    while not spool.is_empty:
        part = spool.peek(rows_max)
        assert len(part.looks) <= rows_max
        found += part.looks
        spool.forget(part)
    return found


def test_what_went_in_comes_out_in_order_and_the_disk_is_free_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    looks = [look(n) for n in range(100)]
    for begins in range(0, 100, 9):
        spool.append(looks[begins : begins + 9])
    assert drained(spool) == looks
    assert (spool.size_bytes, list(tmp_path.iterdir())) == (0, [])


def test_a_new_process_takes_up_what_the_old_one_left(tmp_path: Path) -> None:
    old = Spool(tmp_path)
    old.append([look(n) for n in range(10)])
    old.forget(old.peek(4))  # its progress was in memory only: storing again is harmless
    new = Spool(tmp_path)
    assert new.size_bytes == old.size_bytes
    new.append([look(10)])
    assert drained(new) == [look(n) for n in range(11)]


def test_readings_appended_between_peek_and_forget_are_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([look(1)])
    part = spool.peek(10)
    spool.append([look(2)])
    spool.forget(part)
    assert drained(spool) == [look(2)]


def test_a_torn_tail_is_left_out_at_every_byte(tmp_path: Path) -> None:
    """Power loss in the middle of a write: whole records stay, whatever the cut."""
    looks, ends = [look(1), look(2), look(3)], []
    first = Spool(tmp_path)
    for one in looks:
        first.append([one])
        ends.append(first.size_bytes)
    (segment,) = tmp_path.iterdir()
    whole = segment.read_bytes()
    for cut in range(len(whole)):
        segment.write_bytes(whole[:cut])
        spool = Spool(tmp_path)
        spool.append([look(9)])  # goes to a segment of its own, behind no tear
        assert drained(spool) == [*looks[: sum(end <= cut for end in ends)], look(9)]


def test_zeros_and_noise_at_the_end_are_left_out(tmp_path: Path) -> None:
    rng = random.Random(7)
    for tail in (bytes(4096), rng.randbytes(500), b"\xff" * 64):
        Spool(tmp_path).append([look(1)])
        (segment,) = tmp_path.iterdir()
        with segment.open("ab") as file:
            file.write(tail)
        assert drained(Spool(tmp_path)) == [look(1)]


def test_one_damaged_record_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    Spool(tmp_path).append([look(1), look(2), look(3)])
    (segment,) = tmp_path.iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert drained(Spool(tmp_path)) == [look(1), look(3)]


def test_the_bound_refuses_the_whole_batch_and_keeps_the_rest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=1000)
    spool.append([look(1)])
    with pytest.raises(SpoolFull, match="reached its 1000 bytes"):
        spool.append([look(n) for n in range(20)])
    assert drained(spool) == [look(1)]


def test_a_full_disk_is_a_sentence_and_leaves_no_torn_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([look(1)])
    real_fsync = os.fsync

    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(SpoolFull, match="is full"):
        spool.append([look(2)])
    monkeypatch.setattr(os, "fsync", real_fsync)
    spool.append([look(3)])
    assert drained(spool) == [look(1), look(3)]


def test_segments_are_given_back_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path)
    for number in range(30):
        spool.append([look(number)])
    segments = len(list(tmp_path.iterdir()))
    assert segments > 3
    spool.forget(spool.peek(100))
    assert len(list(tmp_path.iterdir())) == segments - 1


def test_what_only_a_newer_program_knew_is_said_and_does_not_stop_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.append([look(1)])
    (segment,) = tmp_path.iterdir()
    old = segment.read_bytes()[8:]
    for new in (
        old.replace(b"polled", b"dreamt"),
        old.replace(b'"remaining_credit_fen"', b'"moonlight_lux"'),
    ):
        with segment.open("ab") as file:
            file.write(struct.pack("<II", len(new), zlib.crc32(new)) + new)
    first, third = drained(Spool(tmp_path))
    assert first == look(1)
    assert third.reading.values == {Quantity.ENERGY: 1}
    assert "dreamt" in caplog.text
    assert "moonlight_lux" in caplog.text
