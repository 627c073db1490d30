"""PORT COUNT HEARTBEAT_S: so many DTUs that dial in, beat and answer. Ends with standard input."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import cast

import uvloop
from fastcrc.crc16 import modbus as crc16

HEARTBEAT = b"ping"
AT_ONCE = 200  # connections opened together
SLICES = 100  # heartbeats are spread over their period in so many parts

_answers: dict[bytes, bytes] = {}


def registration(number: int) -> bytes:
    """Each box its own: an ICCID."""
    return b"8986%016d" % number


class Dtu(asyncio.Protocol):
    """One box with one meter behind it, as cheap as can be."""

    def __init__(self, number: int) -> None:
        self._number = number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(registration(self._number))

    def data_received(self, data: bytes) -> None:
        answer = _answers.get(data)
        if answer is None:
            words = bytes(2 * int.from_bytes(data[4:6], "big"))
            body = bytes((data[0], data[1], len(words))) + words
            answer = _answers[data] = body + crc16(body).to_bytes(2, "little")
        self.transport.write(answer)


async def main(port: int, count: int, heartbeat_s: float) -> None:
    """Dial in, then beat until told to end."""
    loop = asyncio.get_running_loop()
    boxes: list[Dtu] = []
    for first in range(0, count, AT_ONCE):
        calls = [
            loop.create_connection(partial(Dtu, n), "127.0.0.1", port)
            for n in range(first, min(first + AT_ONCE, count))
        ]
        boxes += [box for _, box in await asyncio.gather(*calls)]

    async def beat() -> None:
        while True:
            for part in range(SLICES):
                for box in boxes[part::SLICES]:
                    box.transport.write(HEARTBEAT)
                await asyncio.sleep(heartbeat_s / SLICES)

    beating = asyncio.create_task(beat())
    await loop.run_in_executor(None, sys.stdin.read)
    beating.cancel()


if __name__ == "__main__":
    from bench._child import allow_descriptors

    allow_descriptors(int(sys.argv[2]) + 100)
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
