"""Coverage-guided fuzzing of everything that reads bytes from a wire: `make fuzz`.

The first byte chooses what is fuzzed, the rest are the bytes. What must hold is checked by `check`,
which the ordinary tests replay over the corpus, without the fuzzer.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from datetime import datetime

from protocols.acrel_4g import frame_of
from protocols.catalog import load_meter_types
from protocols.dialects import Switchboard
from protocols.dtu import (
    BYTES_BEFORE_NAME_MAX,
    BadPattern,
    DtuPatterns,
    DtuStream,
    Registry,
    parse_pattern,
)
from protocols.exchange import Answer, Effect, ProtocolError, Refusal, Reply, Request, Silence
from protocols.explain import explain
from protocols.meter_type import Address, Addressing, MeterType
from protocols.modbus import read_registers, seal
from protocols.reading import Quantity, Values
from protocols.stream import Answer as StreamAnswer
from protocols.stream import Box, Bytes, Named, Pushed, Taken, Told
from tests.fuzz.cjt188_targets import cjt188
from tests.fuzz.dlt645_targets import dlt645, dlt645_driver
from tests.fuzz.gateway_targets import acrel_gateway, acrel_gateway_xml
from tests.fuzz.terminal_targets import ciphered, dlt645_ear, mqtt_payload, terminal
from tests.fuzz.uplink_targets import uplinks

REQUEST = read_registers(1, 0x0200, 48)
EVERYTHING = frozenset(Quantity)
TYPES = tuple(kind for kind in load_meter_types().values() if kind.addressing is Addressing.UNIT)
REGISTRY = Registry(
    {
        "a": DtuPatterns(parse_pattern("ascii:DTU-01"), parse_pattern("ascii:ping")),
        "b": DtuPatterns(parse_pattern("hex:0a0b0c"), parse_pattern("hex:fe")),
        "c": DtuPatterns(parse_pattern("regex:ID=[0-9]+;")),
    }
)
SWITCHBOARD = Switchboard(
    {
        "a": ("transparent", Box(registration="ascii:DTU-01", heartbeat="ascii:ping")),
        "m": ("acrel_4g", Box(registration="12307210720085")),
        "d": ("ddp", Box(registration="ascii:13912345678")),
        "f": ("four_faith", Box(registration="ascii:13912345678")),
    }
)
DIAL = datetime(2026, 3, 20, 10, 0)  # noqa: DTZ001  a dial


def check(data: bytes) -> None:
    """Raises only when a codec breaks its promise."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def reader(data: bytes) -> None:
    """Bytes in pieces of varying length: at most one answer, and only one that was there."""
    wire = data[1:]
    piece = 1 + (data[0] if data else 0) % 32
    found = REQUEST.new_reader()
    answers: list[Answer] = []
    for at in range(0, len(wire), piece):
        found.receive_data(wire[at : at + piece])
        if (answer := found.next_event()) is not None:
            answers.append(answer)
    assert len(answers) <= 1
    for answer in answers:
        if isinstance(answer, Reply):
            assert seal(b"\x01\x03\x60" + answer.payload) in wire
        else:
            assert seal(bytes((1, 0x83, answer.code))) in wire


def driver(data: bytes) -> None:
    """A meter that answers each request with the next bytes, checksum good: values or an error."""
    if not data:
        return
    meter_type = TYPES[data[0] % len(TYPES)]
    code = min(meter_type.type_codes, default=0).to_bytes(2, "big")
    values = _read(meter_type, code + data[1:])
    assert values.keys() <= meter_type.quantities
    assert values.get(Quantity.VOLTAGE_L1, 0) <= 10_000
    assert all(type(value) is int for value in values.values())


def _read(meter_type: MeterType, rest: bytes) -> Values:
    """One look at a meter that says `rest`; nothing when the driver raises a ProtocolError."""
    conversation = meter_type.new_driver({}).read(Address(1), EVERYTHING)
    try:
        step = next(conversation)
        while True:
            assert isinstance(step, Request)
            assert step.effect is Effect.READ
            length = step.reply_bytes_max - 5
            if len(rest) >= length:
                step = conversation.send(Reply(rest[:length]))
            elif rest:
                step = conversation.send(Refusal(rest[0]))
            else:
                step = conversation.throw(Silence(step.label))
            rest = rest[length:]
    except ProtocolError:
        return {}
    except StopIteration as stop:
        values: Values = stop.value
        return values


def dtu(data: bytes) -> None:
    """A stream cut by a byte that also says whether an answer is due."""
    stream = DtuStream(REGISTRY)
    names = 0
    for chunk in data.split(b"\xff"):
        for event in stream.receive(chunk[1:], answer_due=chunk[:1] == b"\x01"):
            names += isinstance(event, Named)
            assert not isinstance(event, Bytes) or event.data
    assert names == (stream.name is not None)
    assert len(stream.sample) <= BYTES_BEFORE_NAME_MAX


def pattern(data: bytes) -> None:
    """A site file's pattern is understood, or refused with BadPattern and nothing else."""
    with contextlib.suppress(BadPattern):
        parsed = parse_pattern(data.decode("utf-8", "replace"))
        Registry({"x": DtuPatterns(parsed)}).match(b"x")


def explained(data: bytes) -> None:
    """Every frame has one line of meaning, its checksum good or not."""
    half = len(data) // 2
    for frame in (data, seal(data), seal(data[:half])):
        assert explain(frame)
        assert explain(frame, seal(data[half:]))


def dialects(data: bytes) -> None:
    """Any box on a fresh connection, cut by a byte: named at most once, and only who is known; what
    goes to the line is never empty, and nobody unknown is answered."""
    stream = SWITCHBOARD.new_stream(lambda gateway: DIAL)
    names: list[str] = []
    for chunk in data.split(b"\xff"):
        for event in stream.receive(chunk, answer_due=bool(names)):
            if isinstance(event, Named):
                names.append(event.name)
            assert names or not isinstance(event, Bytes | StreamAnswer | Pushed | Told | Taken)
            assert not isinstance(event, Bytes) or event.data
    assert names == ([] if stream.name is None else [stream.name])
    assert len(stream.sample) <= BYTES_BEFORE_NAME_MAX
    assert stream.wrap(REQUEST.frame)


def acrel_4g_frames(data: bytes) -> None:
    """Good frames around any bodies, from a known meter: what is pushed is sound."""
    stream = SWITCHBOARD.new_stream(lambda gateway: DIAL)
    serial = b"12307210720085".ljust(20, b"\0")
    stream.receive(frame_of(0x93, serial))
    assert stream.name == "m"
    for body in data.split(b"\xff\xfe"):
        for event in stream.receive(frame_of(0x80 | body[0] & 0x1F, body[1:]) if body else b""):
            if isinstance(event, Pushed):
                values = event.upload.values
                assert all(type(value) is int for value in values.values())
                assert values.get(Quantity.VOLTAGE_L1, 0) <= 10_000


# New ones go to the end: the corpus knows them by number.
TARGETS: tuple[Callable[[bytes], None], ...] = (
    reader,
    driver,
    dtu,
    pattern,
    explained,
    dialects,
    acrel_4g_frames,
    acrel_gateway,
    acrel_gateway_xml,
    uplinks,
    cjt188,
    dlt645,
    dlt645_driver,
    terminal,
    dlt645_ear,
    ciphered,
    mqtt_payload,
)


def main() -> None:
    import atheris  # the fuzzer lives in its own environment: scripts/fuzz.sh

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
