"""The network cuts and glues as it likes: a box must read a stream, not segments. A request that
came in one segment with an acknowledgement once got lost in a box of a bench."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest

from simulators import acrel_gateway_words, rtu
from simulators.acrel_4g import Acrel4gSpeech, Modem, frame
from simulators.dialects import Ddp, FourFaith, Speech

PHONE = "13800000000"
READ = rtu.sealed(bytes.fromhex("010302000030"))
MARKS_INSIDE = rtu.sealed(bytes.fromhex("01037d7d7d7d"))  # end marks that are none


def ddp_downlink(kind: int, data: bytes) -> bytes:
    length = 16 + len(data)
    return bytes((0x7B, kind, 0, length)) + PHONE.encode("ascii") + data + b"\x7b"


def acrel_4g() -> Speech:
    return Acrel4gSpeech(Modem(serial="12345678901234"), Counter(), lambda _: None)


def ddp() -> Speech:
    return Ddp(PHONE, Counter())


def four_faith() -> Speech:
    return FourFaith(PHONE)


@pytest.mark.parametrize(
    ("new", "stream", "meant"),
    [
        (
            acrel_4g,
            frame(0x84) + frame(0x90, READ) + frame(0x94) + frame(0x90, MARKS_INSIDE),
            READ + MARKS_INSIDE,
        ),
        (
            ddp,
            ddp_downlink(0x81, b"") + ddp_downlink(0x89, READ) + ddp_downlink(0x89, MARKS_INSIDE),
            READ + MARKS_INSIDE,
        ),
        (four_faith, b"\x01\xfd\xed\xfd\xee\x02\xfd\xee", b"\x01\xfd\xfe\x02\xfe"),
    ],
    ids=["acrel_4g", "ddp", "four_faith"],
)
def test_a_box_hears_the_same_however_the_stream_is_cut(
    new: Callable[[], Speech], stream: bytes, meant: bytes
) -> None:
    for first, second in combinations_with_replacement(range(len(stream) + 1), 2):
        speech = new()
        heard = b""
        for piece in (stream[:first], stream[first:second], stream[second:]):
            frames, _ = speech.downlink(piece)
            heard += b"".join(frames)
        assert heard == meant, f"cut at {first} and {second}"


def test_an_acrel_gateway_hears_the_same_however_the_stream_is_cut() -> None:
    said = [(2, b"beat"), (9, READ), (9, MARKS_INSIDE)]
    stream = b"".join(b"\x1f\x1f" + bytes((k, 0, 0, 0, len(d))) + d for k, d in said)
    for first, second in combinations_with_replacement(range(len(stream) + 1), 2):
        buffer = bytearray()
        heard: list[tuple[int, bytes]] = []
        for piece in (stream[:first], stream[first:second], stream[second:]):
            buffer += piece
            heard += acrel_gateway_words.take_frames(buffer)
        assert heard == said, f"cut at {first} and {second}"
