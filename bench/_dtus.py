"""PORT COUNT HEARTBEAT_S DIALECTS: so many boxes that dial in, beat and answer, the dialects in
turn. Ends with standard input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import uvloop
from fastcrc.crc16 import modbus as crc16

AT_ONCE = 200  # connections opened together
SLICES = 100  # heartbeats are spread over their period in so many parts
MIXED = ("transparent", "acrel_4g", "ddp", "four_faith")

_answers: dict[bytes, bytes] = {}


def name_of(number: int, dialect: str) -> str:
    """What box `number` calls itself, as in the site file."""
    if dialect == "transparent":
        return f"iccid:8986{number:016d}"
    return f"{number:014d}" if dialect == "acrel_4g" else f"ascii:{number:011d}"


def _framed_4g(command: int, body: bytes = b"") -> bytes:
    inside = bytes((command,)) + body
    return b"{{" + inside + crc16(inside).to_bytes(2, "little") + b"}}"


def _registration(number: int, dialect: str) -> bytes:
    name = name_of(number, dialect).rpartition(":")[2].encode("ascii")
    match dialect:
        case "acrel_4g":
            iccid = b"898604282219C0423610".ljust(30, b"\0")
            return _framed_4g(0x84, name.ljust(20, b"\0") + iccid + b"\x1a\1\0\1\0\1\0\x1e")
        case "ddp":
            return b"{\1\0\x16" + name + bytes(6) + b"{"
        case "four_faith":
            return b"\x78\x56\x34\x12" + name + b"\0\x0a\0\0\1\0"
        case _:
            return name


def _heartbeat(number: int, dialect: str) -> bytes:
    match dialect:
        case "acrel_4g":
            return _framed_4g(0x94)
        case "ddp":
            return _registration(number, dialect)
        case "four_faith":
            return b"\xfe"
        case _:
            return b"ping"


def _answer(frame: bytes) -> bytes:
    """To a read: zeros."""
    words = bytes(2 * int.from_bytes(frame[4:6], "big"))
    body = bytes((frame[0], frame[1], len(words))) + words
    return body + crc16(body).to_bytes(2, "little")


def _answer_4g(data: bytes) -> bytes:
    at = data.find(b"{{\x90")  # an acknowledgement may come glued before it
    return b"" if at < 0 else _framed_4g(0x90, _answer(data[at + 3 :]))


def _answer_ddp(data: bytes) -> bytes:
    while data and data[1] != 0x89:  # an acknowledgement, perhaps glued before it
        data = data[int.from_bytes(data[2:4], "big") :]
    if not data:
        return b""
    frame = _answer(data[15:-1])
    return b"{\x09" + (16 + len(frame)).to_bytes(2, "big") + data[4:15] + frame + b"{"


def _answer_four_faith(data: bytes) -> bytes:
    return _answer(data).replace(b"\xfd", b"\xfd\xed").replace(b"\xfe", b"\xfd\xee")


_ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "transparent": _answer,
    "acrel_4g": _answer_4g,
    "ddp": _answer_ddp,
    "four_faith": _answer_four_faith,
}


class Dtu(asyncio.Protocol):
    """One box with one meter behind it, as cheap as can be."""

    def __init__(self, number: int, dialect: str) -> None:
        self._number = number
        self._dialect = dialect
        self._answer = _ANSWERS[dialect]
        self.heartbeat = _heartbeat(number, dialect)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(_registration(self._number, self._dialect))

    def data_received(self, data: bytes) -> None:
        answer = _answers.get(data)
        if answer is None:
            answer = _answers[data] = self._answer(data)
        if answer:
            self.transport.write(answer)


async def main(port: int, count: int, heartbeat_s: float, dialects: Sequence[str]) -> None:
    """Dial in, then beat until told to end."""
    loop = asyncio.get_running_loop()
    boxes: list[Dtu] = []
    for first in range(0, count, AT_ONCE):
        calls = [
            loop.create_connection(partial(Dtu, n, dialects[n % len(dialects)]), "127.0.0.1", port)
            for n in range(first, min(first + AT_ONCE, count))
        ]
        boxes += [box for _, box in await asyncio.gather(*calls)]

    async def beat() -> None:
        while True:
            for part in range(SLICES):
                for box in boxes[part::SLICES]:
                    box.transport.write(box.heartbeat)
                await asyncio.sleep(heartbeat_s / SLICES)

    beating = asyncio.create_task(beat())
    await loop.run_in_executor(None, sys.stdin.read)
    beating.cancel()


if __name__ == "__main__":
    from bench._child import allow_descriptors

    allow_descriptors(int(sys.argv[2]) + 100)
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4].split(",")))
