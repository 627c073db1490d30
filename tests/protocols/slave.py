"""A scripted meter for conversations: registers in a dict, answers as bytes, no code of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from protocols.exchange import Conversation, Effect, Request, Silence

T = TypeVar("T")


def checksum(data: bytes) -> bytes:
    """CRC-16/MODBUS bit by bit, written from its definition."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return bytes((crc & 0xFF, crc >> 8))


def sealed(body: bytes) -> bytes:
    return body + checksum(body)


@dataclass
class Slave:
    """A Modbus slave that reads words; a missing word is refused as a real meter would."""

    words: dict[int, int]
    units: frozenset[int] = frozenset(range(1, 248))
    records: Mapping[int, bytes] = field(default_factory=dict)  # whole answers to one address
    words_max: int = 125
    asked: list[tuple[int, int]] = field(default_factory=list)  # address, count

    def __call__(self, frame: bytes) -> bytes | None:
        assert frame[-2:] == checksum(frame[:-2]), "a request must carry its checksum"
        unit, function = frame[0], frame[1]
        if unit not in self.units:
            return None
        if function != 3:
            return sealed(bytes((unit, function | 0x80, 1)))
        address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        self.asked.append((address, count))
        if address in self.records and 2 * count == len(self.records[address]):
            return sealed(bytes((unit, 3, 2 * count)) + self.records[address])
        if count > self.words_max:
            return sealed(bytes((unit, 0x83, 3)))
        if not all(at in self.words for at in range(address, address + count)):
            return sealed(bytes((unit, 0x83, 2)))
        data = b"".join(self.words[at].to_bytes(2, "big") for at in range(address, address + count))
        return sealed(bytes((unit, 3, 2 * count)) + data)


def words_of(address: int, data: bytes) -> dict[int, int]:
    """A block of bytes as registers from `address` on."""
    return {
        address + at: int.from_bytes(data[2 * at : 2 * at + 2], "big")
        for at in range(len(data) // 2)
    }


def play(conversation: Conversation[T], meter: Callable[[bytes], bytes | None]) -> T:
    """Run a conversation to its end against a meter; no answer is Silence, as on a line."""
    try:
        step = next(conversation)
        while True:
            assert isinstance(step, Request), "reading needs no intent"
            assert step.effect is Effect.READ
            heard = meter(step.frame)
            reader = step.new_reader()
            if heard:
                reader.receive_data(heard)
            answer = reader.next_event()
            step = (
                conversation.throw(Silence(step.label))
                if answer is None
                else conversation.send(answer)
            )
    except StopIteration as stop:
        result: T = stop.value
        return result
