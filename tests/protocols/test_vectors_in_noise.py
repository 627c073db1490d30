"""Every published frame is taken out of its stream again, whatever comes before and behind it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from protocols import dlt645 as wire
from protocols.acrel_4g import frame_of
from protocols.dialects import Switchboard
from protocols.dlt645_search import Ear
from protocols.exchange import Refusal, Reply
from protocols.modbus import read_registers
from protocols.stream import Box, Bytes, Event, Named, Stream
from tests.protocols.gateway_box import FRAMES, logged_in
from tests.protocols.vectors import ACREL

FOLDER = Path(__file__).parent.parent / "vectors"
DLT645: list[dict[str, Any]] = json.loads((FOLDER / "dlt645.json").read_text(encoding="utf-8"))
DIAL_IN: dict[str, list[dict[str, str]]] = json.loads(
    (FOLDER / "dial_in.json").read_text(encoding="utf-8")
)
DIAL = datetime(2026, 3, 20, 10, 0)  # noqa: DTZ001  a dial
SERIAL = "12307210720085"
NOISE = (
    b"",
    b"\x00",
    b"\xff\xff",
    b"\xfe\xfe\xfe\xfe",  # preambles
    b"ping",
    b"\x68",  # a mark and no frame …
    b"\x68\x07\x00\x00\x15\x06\x23\x68\x91\xff",  # … and a head whose end never comes
    b"\x7b\x7b",
    b"\x1f",
    b"\x01\x03",  # as an answer begins
    bytes(range(0x20, 0x60)),
)
AROUND = list(itertools.product(NOISE, NOISE))


def pieces(data: bytes, at_once: int) -> Iterable[bytes]:
    return (data[at : at + at_once] for at in range(0, len(data), at_once))


def sound(vectors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in vectors if one.get("checksum_ok", True)]


@pytest.mark.parametrize("vector", sound(DLT645), ids=lambda vector: vector["name"])
def test_dlt645(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    (plain, rest) = wire.take_frame(frame)
    assert plain is not None
    assert rest == b""
    for before, behind in AROUND:
        if not plain.from_meter:  # what we say is heard by nobody of ours
            continue
        reader = wire.Dlt645Reader(plain.address, plain.function, b"")
        for piece in pieces(before + frame + behind, 3):
            reader.receive_data(piece)
        answer = reader.next_event()
        if plain.is_abnormal:
            assert answer == Refusal(int.from_bytes(plain.data[:2], "little")), (before, behind)
        else:
            assert answer == Reply(bytes((plain.control,)) + plain.data), (before, behind)


@pytest.mark.parametrize("vector", sound(DLT645), ids=lambda vector: vector["name"])
def test_dlt645_searched(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    plain, _ = wire.take_frame(frame)
    assert plain is not None
    for before, behind in AROUND:
        ear = Ear()
        ear.receive_data(before + frame + behind)
        found = ear.heard(wire.ANY_METER, plain.function).addresses
        is_one = plain.from_meter and plain.address.isdecimal()
        assert found == ((plain.address,) if is_one else ()), (before, behind)


@pytest.mark.parametrize("vector", ACREL["answers"], ids=lambda vector: vector["what"])
def test_modbus(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    is_refusal = bool(frame[1] & 0x80)
    count = 48 if is_refusal else frame[2] // 2
    meaning = Refusal(frame[2]) if is_refusal else Reply(frame[3:-2])
    for before, behind in AROUND:
        for at_once in (1, len(before + frame + behind)):
            reader = read_registers(vector["unit"], vector["address"], count).new_reader()
            for piece in pieces(before + frame + behind, at_once):
                reader.receive_data(piece)
            assert reader.next_event() == meaning, (before, behind)


def told(stream: Stream, data: bytes, at_once: int) -> tuple[list[Event], bytes]:
    """What a stream says besides bytes for its line, and those."""
    events = [e for piece in pieces(data, at_once) for e in stream.receive(piece, answer_due=True)]
    line = b"".join(event.data for event in events if isinstance(event, Bytes))
    return [event for event in events if not isinstance(event, Bytes)], line


def holds(found: Sequence[Event], wanted: Sequence[Event]) -> bool:
    """Whether all of `wanted` are in `found`, in their order."""
    left = iter(found)
    return all(any(one == other for other in left) for one in wanted)


def stands_in_noise(named: Callable[[], Stream], frame: bytes) -> None:
    meaning, line = told(named(), frame, len(frame))
    for before, behind in AROUND:
        whole = before + frame + behind
        for at_once in (1, len(whole)):
            found, bytes_ = told(named(), whole, at_once)
            assert holds(found, meaning), (before, behind)
            assert line in bytes_, (before, behind)


def opened(dialect: str, registration: str, first: bytes) -> Callable[[], Stream]:
    switchboard = Switchboard({"box": (dialect, Box(registration=registration))})

    def named() -> Stream:
        stream = switchboard.new_stream(lambda _: DIAL)
        assert Named("box") in stream.receive(first)
        return stream

    return named


FROM_METERS = [one for one in DIAL_IN["acrel_4g"] if one["direction"] == "meter->server"]


@pytest.mark.parametrize("vector", FROM_METERS, ids=lambda vector: vector["name"])
def test_acrel_4g(vector: dict[str, str]) -> None:
    frame = bytes.fromhex(vector["hex"])
    # A meter says its number in some frames; the stream knows one meter.
    digits = frame[3:23].rstrip(b"\0").decode("ascii", "replace")
    serial = digits if len(digits) == 14 and digits.isdecimal() else SERIAL
    hello = frame_of(0x93, serial.encode().ljust(20, b"\0"))
    stands_in_noise(opened("acrel_4g", serial, hello), frame)


@pytest.mark.parametrize("name", FRAMES)
def test_acrel_gateway(name: str) -> None:
    stands_in_noise(logged_in, FRAMES[name])


@pytest.mark.parametrize("behind", NOISE)
def test_four_faith(behind: bytes) -> None:
    """A registration comes first, or the box is taken for another."""
    frame = bytes.fromhex(DIAL_IN["four_faith"][0]["hex"])
    box = Box(registration=f"ascii:{frame[4:16].decode()}")
    for at_once in (1, len(frame + behind)):
        stream = Switchboard({"box": ("four_faith", box)}).new_stream(lambda _: DIAL)
        assert Named("box") in told(stream, frame + behind, at_once)[0]


@pytest.mark.parametrize("vector", DIAL_IN["ddp"], ids=lambda vector: vector["name"])
def test_ddp(vector: dict[str, str]) -> None:
    """The published ones are ours; a box's has the same clothes and another type."""
    ours = bytes.fromhex(vector["hex"])
    frame = b"\x7b\x09" + ours[2:]
    phone = ours[4:15].decode()
    hello = b"\x7b\x01\x00\x16" + ours[4:15] + bytes(6) + b"\x7b"
    stands_in_noise(opened("ddp", f"ascii:{phone}", hello), frame)
