"""What the fuzzer does to an Acrel gateway's stream and to its XML."""

from __future__ import annotations

import contextlib

from protocols.acrel_gateway import AcrelGatewayStream
from protocols.acrel_gateway_cipher import encipher
from protocols.acrel_gateway_frames import REPORT_FRAME_BYTES_MAX, FrameKind, make_frame
from protocols.acrel_gateway_report import SAMPLE_BYTES_MAX
from protocols.acrel_gateway_xml import BadXml, read_login, read_report
from protocols.modbus import read_registers
from protocols.stream import Bytes, Named, Pushed, TurnedAway, Unrecognised
from tests.protocols.gateway_box import KEY, fresh, hidden, logged_in, report

KINDS = tuple(FrameKind)
HEADS = (b"\x01\x03\x60", b"\x01\x83")  # of an answer to the one request, and of a refusal


def acrel_gateway(data: bytes) -> None:
    """Pieces cut by a byte: as they are to a stranger, and each as the hidden data of a frame to
    one that has logged in and waits for one answer."""
    stream = fresh()
    for piece in data.split(b"\xfe"):
        events = stream.receive(piece)
        assert not any(isinstance(event, Bytes | Pushed | Unrecognised) for event in events)
    known = logged_in()
    known.wrap(read_registers(1, 0x0200, 48).frame)
    answers = 0
    for piece in data.split(b"\xfe"):
        kind = KINDS[piece[0] % len(KINDS)] if piece else FrameKind.REPORT
        for frame in (piece, make_frame(kind, encipher(piece[1:], KEY))):
            answers += _heard(known, frame)
    assert answers <= 1


def _heard(stream: AcrelGatewayStream, data: bytes) -> int:
    answers = 0
    for event in stream.receive(data):
        assert not isinstance(event, Named), "said once"
        assert not isinstance(event, TurnedAway) or stream.receive(data) == ()
        assert not isinstance(event, Unrecognised) or len(event.sample) <= SAMPLE_BYTES_MAX
        if isinstance(event, Pushed):
            assert all(type(value) is int and value >= 0 for value in event.upload.values.values())
        answers += isinstance(event, Bytes) and any(head in event.data for head in HEADS)
    assert len(stream._frames._buffer) <= REPORT_FRAME_BYTES_MAX + 8
    return answers


def acrel_gateway_xml(data: bytes) -> None:
    """A document as it is, and inside a report: read, or refused with BadXml and nothing else."""
    for read in (read_login, read_report):
        with contextlib.suppress(BadXml):
            read(data)
    stream = logged_in()
    stream.receive(hidden(FrameKind.REPORT, report(data.decode("utf-8", "replace"))))
