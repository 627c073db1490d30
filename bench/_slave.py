"""The uvloop stand-in for c/slave.c: RTU over TCP only, each answer computed once."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from fastcrc.crc16 import modbus as crc16


class Slave(asyncio.Protocol):
    """One connection; one whole request in each packet."""

    def __init__(self) -> None:
        self._answers: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answers.get(data)
        if answer is None:
            words = b"".join(n.to_bytes(2, "big") for n in range(int.from_bytes(data[4:6], "big")))
            body = bytes((data[0], data[1], len(words))) + words
            answer = self._answers[data] = body + crc16(body).to_bytes(2, "little")
        self._transport.write(answer)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Slave, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
