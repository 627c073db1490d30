from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Answer, Effect, Refusal, Reply
from protocols.modbus import (
    FACTORY_CODE_MAX,
    FACTORY_CODE_MIN,
    FactoryCode,
    RtuReplyReader,
    crc_ok,
    forbid_factory_codes,
    make_request,
    read_registers,
    seal,
    write_registers,
)
from tests.protocols.slave import checksum, sealed
from tests.protocols.vectors import ACREL

# Noise in front of an answer: nothing, one byte, a unit id, a torn answer, a DTU's heartbeat.
NOISE = (b"", b"\x00", b"\x01", b"\x01\x03", b"\x01\x03\x60\x00\x07", b"ping", b"\xfe" * 40)


def found(reader: Any, *chunks: bytes) -> Answer | None:
    for chunk in chunks:
        reader.receive_data(chunk)
    answer: Answer | None = reader.next_event()
    return answer


def dribbled(reader: Any, data: bytes) -> Answer | None:
    return found(reader, *(data[at : at + 1] for at in range(len(data))))


def meaning(vector: dict[str, Any]) -> Answer:
    if "refusal" in vector:
        return Refusal(vector["refusal"])
    frame = bytes.fromhex(vector["hex"])
    return Reply(bytes.fromhex(vector.get("payload", frame[3:-2].hex())))


@pytest.mark.parametrize("vector", ACREL["reads"], ids=lambda v: v["what"])
def test_read_requests_are_the_published_bytes(vector: dict[str, Any]) -> None:
    request = read_registers(vector["unit"], vector["address"], vector["count"])
    assert request.frame.hex() == vector["hex"]
    assert request.effect is Effect.READ
    assert request.reply_bytes_max == 5 + 2 * vector["count"]


@pytest.mark.parametrize("vector", ACREL["writes"], ids=lambda v: v["what"])
def test_write_requests_are_the_published_bytes(vector: dict[str, Any]) -> None:
    request = write_registers(vector["unit"], vector["address"], tuple(vector["words"]))
    assert request.frame.hex() == vector["hex"]
    assert request.effect is Effect.WRITE


@pytest.mark.parametrize("noise", NOISE, ids=lambda n: n[:4].hex() or "none")
@pytest.mark.parametrize("vector", ACREL["answers"], ids=lambda v: v["what"])
def test_answers_are_found_whole_dribbled_and_in_noise(
    vector: dict[str, Any], noise: bytes
) -> None:
    request = read_registers(vector["unit"], vector["address"], vector["count"])
    frame = bytes.fromhex(vector["hex"])
    if "refusal" in vector and noise.startswith(b"\x01\x03\x60"):
        return  # behind the head of an answer these bytes may be its data: the next test
    for wire in (frame, noise + frame, noise + frame + noise):
        assert found(request.new_reader(), wire) == meaning(vector)
        assert dribbled(request.new_reader(), wire) == meaning(vector)


@pytest.mark.parametrize("vector", ACREL["answers"], ids=lambda v: v["what"])
def test_no_answer_in_a_torn_foreign_or_damaged_frame(vector: dict[str, Any]) -> None:
    request = read_registers(vector["unit"], vector["address"], vector["count"])
    frame = bytes.fromhex(vector["hex"])
    for end in range(len(frame)):
        assert found(request.new_reader(), frame[:end]) is None
    for at in range(len(frame)):
        damaged = bytearray(frame)
        damaged[at] ^= 0x10
        assert found(request.new_reader(), bytes(damaged)) is None
    foreign = sealed(bytes((vector["unit"] + 1,)) + frame[1:-2])
    assert found(request.new_reader(), foreign) is None


def test_another_byte_count_is_not_the_answer() -> None:
    request = read_registers(1, 0x0200, 48)
    assert found(request.new_reader(), sealed(bytes((1, 3, 94)) + bytes(94))) is None
    assert found(request.new_reader(), sealed(bytes((1, 4, 96)) + bytes(96))) is None


def test_two_glued_answers_give_the_first_one_only() -> None:
    request = read_registers(1, 0, 1)
    reader = request.new_reader()
    one, two = sealed(b"\x01\x03\x02\x00\x01"), sealed(b"\x01\x03\x02\x00\x02")
    assert found(reader, one + two) == Reply(b"\x00\x01")
    assert found(reader, two) is None


def test_a_refusal_inside_an_unfinished_answer_is_data() -> None:
    inner = sealed(b"\x01\x83\x02")  # five bytes of an answer's data that look like a refusal
    frame = sealed(b"\x01\x03\x08" + inner + b"\x00\x00\x00")
    request = read_registers(1, 0, 4)
    assert dribbled(request.new_reader(), frame) == Reply(frame[3:-2])
    assert found(request.new_reader(), frame[:9], frame[9:]) == Reply(frame[3:-2])


def test_the_echo_of_a_write_is_its_answer() -> None:
    request = write_registers(1, 0x0057, (1, 1))
    assert found(request.new_reader(), sealed(bytes.fromhex("011000570002"))) == Reply(
        bytes.fromhex("00570002")
    )
    assert found(request.new_reader(), sealed(bytes.fromhex("011000580002"))) is None
    assert found(request.new_reader(), sealed(b"\x01\x90\x03")) == Refusal(3)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_give_an_answer_or_nothing_and_little_is_held(chunks: list[bytes]) -> None:
    reader = RtuReplyReader(b"\x01\x03\x08", 13, 3)
    for chunk in chunks:
        reader.receive_data(chunk)
        assert len(reader._buffer) < 13
        answer = reader.next_event()
        if isinstance(answer, Reply):
            wire = b"".join(chunks)
            assert sealed(b"\x01\x03\x08" + answer.payload) in wire


@given(
    st.binary(max_size=40), st.binary(min_size=8, max_size=8), st.integers(1, 60), st.integers(1, 9)
)
def test_a_good_answer_is_found_behind_any_noise_in_any_pieces(
    noise: bytes, data: bytes, piece: int, unit: int
) -> None:
    frame = sealed(bytes((unit, 3, 8)) + data)
    wire = noise + frame
    reader = read_registers(unit, 0x0100, 4).new_reader()
    answer = found(reader, *(wire[at : at + piece] for at in range(0, len(wire), piece)))
    assert answer == Reply(data)


@pytest.mark.parametrize("code", range(0x98, 0xAC), ids=hex)
def test_factory_codes_become_no_request_and_pass_no_line(code: int) -> None:
    frame = bytes((1, code, 0x64, 1, 0, 1))
    with pytest.raises(FactoryCode):
        forbid_factory_codes(seal(frame))
    with pytest.raises(FactoryCode):
        make_request("calibrate", frame, Effect.WRITE, head=frame[:2], size=8, skip=2)


def test_the_codes_beside_the_factory_range_pass() -> None:
    assert (FACTORY_CODE_MIN, FACTORY_CODE_MAX) == (0x98, 0xAB)
    for code in (3, 16, 0x20, 0x97, 0xAC):
        forbid_factory_codes(seal(bytes((1, code, 0, 0))))
    forbid_factory_codes(b"")


@pytest.mark.parametrize("unit", [0, 248, -1])
def test_nobody_is_asked_by_broadcast(unit: int) -> None:
    with pytest.raises(AssertionError):
        read_registers(unit, 0, 1)
    with pytest.raises(AssertionError):
        write_registers(unit, 0, (1,))


@given(st.binary(min_size=1, max_size=260))
def test_the_checksum_is_the_one_of_the_definition(data: bytes) -> None:
    assert seal(data) == data + checksum(data)
    assert crc_ok(data + checksum(data))
    assert not crc_ok(data + bytes(byte ^ 1 for byte in checksum(data)))


def test_equal_requests_are_built_once() -> None:
    assert read_registers(7, 0x0200, 48) is read_registers(7, 0x0200, 48)
