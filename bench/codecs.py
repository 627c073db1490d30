"""How long does it take to write and to understand one frame, and how long do others need?

Every row is one frame of its protocol, encoded and decoded many times in one process; programs take
turns, the fastest round of each counts. Where a maintained public package speaks the protocol it
does the same work beside ours: pymodbus for Modbus RTU, dlt645 for DL/T 645. For CJ/T 188 and the
frames of boxes that dial in no such package exists on the registries.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from datetime import datetime
from importlib import import_module

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from bench._table import Row, report
from protocols import acrel_4g, acrel_gateway_frames, cjt188, dlt645, dtu_framed
from protocols.exchange import Reply
from protocols.modbus import read_registers, seal
from protocols.stream import Box

ROUNDS = 5
SPAN_S = 0.2  # of one round
WORDS = 60
METER = "230615000007"
DIAL = datetime(2026, 3, 20, 10, 0)  # noqa: DTZ001  a dial

Work = Callable[[], object]


def fastest_us(works: dict[str, Work]) -> dict[str, float]:
    """Microseconds of each piece of work."""
    times = {}
    for name, work in works.items():
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SPAN_S / 4:
            work()
            count += 1
        times[name] = count * 4
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.perf_counter()
            for _ in range(times[name]):
                work()
            best[name] = min(best[name], (time.perf_counter() - began) / times[name] * 1e6)
    return best


def modbus() -> Row:
    """A request for 60 registers, and its answer."""
    answer = seal(bytes((1, 3, 2 * WORDS)) + bytes(range(2 * WORDS)))
    theirs_out, theirs_in = FramerRTU(DecodePDU(True)), FramerRTU(DecodePDU(False))

    def our_decode() -> object:
        reader = read_registers(1, 0, WORDS).new_reader()
        reader.receive_data(answer)
        event = reader.next_event()
        assert isinstance(event, Reply)
        return event

    def their_encode() -> object:
        pdu = ReadHoldingRegistersRequest(address=0, count=WORDS, dev_id=1)
        return theirs_out.buildFrame(pdu)

    def their_decode() -> object:
        used, pdu = theirs_in.handleFrame(answer, 1, 0)
        assert used == len(answer)
        return pdu

    found = fastest_us(
        {
            "encode": lambda: read_registers(1, 0, WORDS),
            "decode": our_decode,
            "their encode": their_encode,
            "their decode": their_decode,
        }
    )
    return _row("Modbus RTU", "pymodbus", found)


def six_four_five() -> Row:
    """A request for the total energy, and its answer."""
    theirs = import_module("dlt645.protocol.protocol").DLT645Protocol

    di = dlt645.di_bytes(0x00010000)
    frame = dlt645.Frame(METER, dlt645.READ, di)
    answer = dlt645.encode(dlt645.Frame(METER, dlt645.READ | dlt645.FROM_METER, di + bytes(4)), b"")
    address = bytes.fromhex(METER)[::-1]

    def our_decode() -> object:
        reader = dlt645.Dlt645Reader(METER, dlt645.READ, di)
        reader.receive_data(answer)
        event = reader.next_event()
        assert isinstance(event, Reply)
        return event

    def their_decode() -> object:
        found = theirs.deserialize(answer)
        assert found is not None
        return found

    found = fastest_us(
        {
            "encode": lambda: dlt645.encode(frame),
            "decode": our_decode,
            "their encode": lambda: theirs.build_frame(address, dlt645.READ, di),
            "their decode": their_decode,
        }
    )
    return _row("DL/T 645", "dlt645", found)


def water() -> Row:
    """An answer of a CJ/T 188 meter."""
    asked = cjt188.Frame(0x10, "00000019121301", 0x01, bytes((0x90, 0x1F, 0x00)))
    answered = cjt188.Frame(0x10, "00000019121301", 0x81, bytes((0x90, 0x1F, 0x00)) + bytes(19))
    answer = cjt188.encode(answered, b"")

    def decode() -> object:
        reader = cjt188.Cjt188Reader(asked)
        reader.receive_data(answer)
        event = reader.next_event()
        assert event is not None
        return event

    return _row(
        "CJ/T 188", "", fastest_us({"encode": lambda: cjt188.encode(asked), "decode": decode})
    )


def boxes() -> list[Row]:
    """An answer of a meter as each kind of box carries it."""
    answer = seal(bytes((1, 3, 2 * WORDS)) + bytes(range(2 * WORDS)))
    phone = "13912345678"
    box = {"a": Box(registration=f"ascii:{phone}")}
    ddp, ff = (
        new(box)(lambda _gateway: DIAL)
        for new in (dtu_framed.known_ddp, dtu_framed.known_four_faith)
    )
    packet = dtu_framed.ddp_packet(0x09, phone, answer)
    frame = acrel_4g.frame_of(0x94, answer)
    sealed = acrel_gateway_frames.make_frame(acrel_gateway_frames.FrameKind.HEARTBEAT, answer)

    def four_g() -> object:
        (inside,) = acrel_4g.Frames().receive(frame)
        return inside

    def gateway() -> object:
        limits = dict.fromkeys((kind.value for kind in acrel_gateway_frames.FrameKind), 4096)
        reader = acrel_gateway_frames.FrameReader(limits)
        reader.receive_data(sealed)
        found = reader.next_frame()
        assert found is not None
        return found

    escaped = dtu_framed.escape(answer)
    kind = acrel_gateway_frames.FrameKind.HEARTBEAT
    works: dict[str, tuple[Work, Work]] = {
        "Hongdian DDP": (lambda: ddp.wrap(answer), lambda: ddp.receive(packet)),
        "Four-Faith": (lambda: ff.wrap(answer), lambda: ff.receive(escaped)),
        "Acrel 4G": (lambda: acrel_4g.frame_of(0x94, answer), four_g),
        "Acrel gateway": (lambda: acrel_gateway_frames.make_frame(kind, answer), gateway),
    }
    return [
        _row(name, "", fastest_us({"encode": encode, "decode": decode}))
        for name, (encode, decode) in works.items()
    ]


def _row(codec: str, other: str, found: dict[str, float]) -> Row:
    row: dict[str, str | int | float | None] = {"codec": codec}
    for what in ("encode", "decode"):
        row[f"{what}_us"] = round(found[what], 2)
    row["other"] = other or None
    for what in ("encode", "decode"):
        theirs = found.get(f"their {what}")
        row[f"{what}_us_other"] = None if theirs is None else round(theirs, 2)
        row[f"times_faster_{what}"] = None if theirs is None else round(theirs / found[what], 2)
    return row


def main() -> int:
    """Nothing has to be met: the ratios are what is asked for."""
    with contextlib.redirect_stdout(io.StringIO()):  # a package that greets
        rows = [modbus(), six_four_five(), water(), *boxes()]
    notes = [
        "a request for registers is kept once it was made: our encoding of Modbus is a lookup",
        "what Four-Faith carries down is the frame itself",
    ]
    report("codecs", "How long does one frame take to write and to understand?", rows, notes=notes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
