"""Fuzz targets of CJ/T 188: the reader in a stream, and the data of its meters."""

from __future__ import annotations

from protocols import cjt188 as wire
from protocols.cjt188_driver import decode_heat, decode_water
from protocols.exchange import BadAnswer, Reply

NUMBER = "00000019121301"
ASKED = wire.Frame(0x10, NUMBER, wire.READ, b"\x1f\x90\x07")


def cjt188(data: bytes) -> None:
    """In pieces: at most one answer, and only one that was there; its data are integers or an
    error."""
    wire_bytes = data[1:]
    piece = 1 + (data[0] if data else 0) % 32
    reader = wire.Cjt188Reader(ASKED)
    answers = []
    for at in range(0, len(wire_bytes), piece):
        reader.receive_data(wire_bytes[at : at + piece])
        if (answer := reader.next_event()) is not None:
            answers.append(answer)
    assert len(answers) <= 1
    for answer in answers:
        if isinstance(answer, Reply):
            assert answer.payload in wire_bytes
    for decode in (decode_water, decode_heat):
        for payload in (wire_bytes, wire_bytes[:19], wire_bytes[:43]):
            try:
                values, status = decode(payload)
            except BadAnswer:
                continue
            assert all(type(value) is int and value >= 0 for value in values.values())
            assert 0 <= status <= 255
