"""Readings that wait on disk while the database is away. Plain files, no database.

Strategy. Records are appended to numbered segment files and forced to the disk before append()
returns. Each record is a length, a CRC-32 and JSON text, so a torn tail (power loss in the middle
of a write) is recognised and left out: it was never acknowledged. Reading goes oldest first and
takes whole records; how far it came is remembered in memory only. A segment is deleted when all of
it was stored. After a crash some records are therefore read again, which is harmless: a reading
has one row for its meter and instant, however often it is stored.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headend.store.nights import Look
from protocols.reading import Origin, Quantity, Reading

log = logging.getLogger(__name__)

# About five million readings: a week of 10,000 meters every 15 minutes.
SPOOL_BYTES_MAX = 1 << 30
# A segment is deleted as a whole: small enough to give the disk back soon, large enough that its
# creation costs nothing beside the writes.
SEGMENT_BYTES_MAX = 4 << 20
# A record is one reading, some hundred bytes. More than this in a length field is damage.
RECORD_BYTES_MAX = 64 << 10

_HEAD = struct.Struct("<II")  # length of the text, CRC-32 of the text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_QUANTITIES = {quantity.value: quantity for quantity in Quantity}


class SpoolFull(Exception):
    """The bound or the disk is reached: the readings given were not taken. One sentence."""


@dataclass(frozen=True, slots=True)
class Part:
    """Records from the front of the spool, and where they end."""

    looks: Sequence[Look]
    segment: Path | None
    ends_at: int
    ends_segment: bool


NOTHING = Part((), None, 0, ends_segment=False)


class Spool:
    """One folder of waiting readings. Used by one process; its threads may come at once."""

    def __init__(self, folder: Path, *, bytes_max: int = SPOOL_BYTES_MAX) -> None:
        """Takes up whatever an earlier process left in `folder`."""
        self.folder = folder
        self._bytes_max = bytes_max
        folder.mkdir(parents=True, exist_ok=True)
        self._segments = sorted(folder.glob("*.spool"))
        self._next_number = int(self._segments[-1].stem) + 1 if self._segments else 1
        self._lock = threading.Lock()
        self._read_to = 0  # in the first segment
        # Never appended to again: its tail may be torn, and nothing behind a tear would be found.
        self._open_segment: Path | None = None
        self.size_bytes = sum(path.stat().st_size for path in self._segments)
        if self._segments:
            log.info("%d bytes of readings wait in %s", self.size_bytes, folder)

    @property
    def is_empty(self) -> bool:
        return not self._segments

    def append(self, looks: Sequence[Look]) -> None:
        """Keep readings: when this returns they are on the disk. Raises SpoolFull, none kept."""
        with self._lock:
            self._append(looks)

    def _append(self, looks: Sequence[Look]) -> None:
        data = b"".join(map(_record, looks))
        if not data:
            return
        if self.size_bytes + len(data) > self._bytes_max:
            raise SpoolFull(
                f"The spool {self.folder} has reached its {self._bytes_max} bytes while the "
                "database is away: bring the database back"
            )
        segment = self._segment_for_writing()
        before = segment.stat().st_size if segment.exists() else 0
        try:
            _append(segment, data)
        except OSError as error:
            self._undo(segment, before)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpoolFull(
                    f"The disk holding {self.folder} is full: free space or bring the database back"
                ) from error
            raise SpoolFull(
                f"The spool {self.folder} cannot be written ({error.strerror}): check the disk"
            ) from error
        if segment not in self._segments:
            self._segments.append(segment)
        self.size_bytes += len(data)

    def _segment_for_writing(self) -> Path:
        open_one = self._open_segment
        if (
            open_one is None
            or open_one not in self._segments
            or _size(open_one) > SEGMENT_BYTES_MAX
        ):
            self._open_segment = self.folder / f"{self._next_number:012d}.spool"
            self._next_number += 1
        assert self._open_segment is not None
        return self._open_segment

    def _undo(self, segment: Path, size: int) -> None:
        """After a failed write: back to the last whole record, in a segment nobody appends to."""
        self._open_segment = None
        try:
            if segment in self._segments:
                os.truncate(segment, size)
            else:
                segment.unlink(missing_ok=True)
        except OSError:
            log.exception("the torn end of %s stays; it is left out when read", segment)

    def peek(self, rows_max: int) -> Part:
        """The oldest readings, at most `rows_max`, from one segment. They stay until forget()."""
        with self._lock:
            return self._peek(rows_max) if self._segments else NOTHING

    def _peek(self, rows_max: int) -> Part:
        segment = self._segments[0]
        looks: list[Look] = []
        ends_at = self._read_to
        with segment.open("rb") as file:
            file.seek(self._read_to)
            for text, end in _records(file.read()):
                ends_at = self._read_to + end
                if text is None:
                    log.error("a reading in %s is damaged: left out", segment)
                elif (look := _look(text)) is not None:
                    looks.append(look)
                if len(looks) == rows_max:
                    return Part(looks, segment, ends_at, ends_segment=ends_at == _size(segment))
        if torn := _size(segment) - ends_at:
            log.warning("%s ends with %d bytes of a torn record: left out", segment, torn)
        return Part(looks, segment, ends_at, ends_segment=True)

    def forget(self, part: Part) -> None:
        """The readings of `part` are stored: go on behind them; a finished segment is deleted."""
        with self._lock:
            if part.segment is not None and self._segments[:1] == [part.segment]:
                self._forget(part.segment, part)

    def _forget(self, segment: Path, part: Part) -> None:
        # Readings that were appended after the peek keep their segment.
        if part.ends_segment and (part.ends_at >= _size(segment) or segment != self._open_segment):
            self.size_bytes -= _size(segment)
            segment.unlink()
            del self._segments[0]
            self._read_to = 0
        else:
            self._read_to = part.ends_at


def _append(path: Path, data: bytes) -> None:
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:  # the name has to reach the disk too
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _size(path: Path) -> int:
    return path.stat().st_size


def _record(look: Look) -> bytes:
    text = json.dumps(_as_json(look), separators=(",", ":")).encode()
    assert len(text) <= RECORD_BYTES_MAX, "a reading has a few dozen integers"
    return _HEAD.pack(len(text), zlib.crc32(text)) + text


def _records(data: bytes) -> Iterator[tuple[bytes | None, int]]:
    """Whole records and where each ends, None for one with a bad checksum; stops at a tear."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        text = data[at + _HEAD.size : end]
        # Zeros are what some file systems leave behind after a power loss.
        if not 0 < length <= RECORD_BYTES_MAX or end > len(data):
            return
        yield (text if zlib.crc32(text) == crc else None), end
        at = end


def _as_json(look: Look) -> dict[str, Any]:
    reading = look.reading
    return {
        "meter_id": reading.meter_id,
        "at_us": (reading.at - _EPOCH) // _MICROSECOND,
        "received_at_us": (reading.received_at - _EPOCH) // _MICROSECOND,
        "origin": reading.origin.value,
        "values": {quantity.value: value for quantity, value in reading.values.items()},
        "drift_s": look.drift_s,
    }


def _look(text: bytes) -> Look | None:
    """None for a record of a program that knew more than this one: said, kept out, not fatal."""
    try:
        record = json.loads(text)
        reading = Reading(
            meter_id=record["meter_id"],
            at=_EPOCH + record["at_us"] * _MICROSECOND,
            received_at=_EPOCH + record["received_at_us"] * _MICROSECOND,
            origin=Origin(record["origin"]),
            values=dict(_known(record["values"].items())),
        )
        return Look(reading=reading, drift_s=record["drift_s"])
    except (ValueError, KeyError, TypeError) as error:
        log.error("a waiting reading cannot be understood (%s): %s", error, text[:200])
        return None


def _known(values: Iterable[tuple[str, int]]) -> Iterator[tuple[Quantity, int]]:
    for name, value in values:
        if name in _QUANTITIES:
            yield _QUANTITIES[name], value
        else:
            log.error("a waiting reading has an unknown quantity %s: left out", name)
