"""Somebody else's program that takes webhooks: plain asyncio, and its own idea of a signature."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """Keeps what it was sent. `status`: what it answers."""

    port: int = 0
    status: int = 204
    extra: str = ""
    hangs: asyncio.Event | None = None  # it has read, and answers only when this is set
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def is_signed(self, secret: str) -> bool:
        headers, body = self.got[-1]
        said = headers["headend-signature"].removeprefix("v1=")
        stamped = headers["headend-timestamp"].encode() + b"." + body
        return said == hmac.new(secret.encode(), stamped, hashlib.sha256).hexdigest()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = (line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.got.append((headers | {"request": head[0]}, body))
                self.came.set()
                if self.hangs is not None:
                    await self.hangs.wait()
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\n{self.extra}content-length: 0\r\n\r\n".encode()
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        if one.hangs is not None:
            one.hangs.set()
        server.close()
        await server.wait_closed()
