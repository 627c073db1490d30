"""The HTTP server: it answers at once, and a stop ends what is open without an error in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from headend.web import server
from headend.web.server import bound_socket, serving


def endless() -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield ": still here\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.get("/work")
    async def work() -> None:
        await asyncio.Event().wait()

    return app


async def test_a_stop_ends_what_would_go_on_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream has its last piece, the waiting call its 503, and nothing is called an error."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(server, "SHUTDOWN_S_MAX", 0.2)
    at = bound_socket("127.0.0.1", 0)
    base = f"http://127.0.0.1:{at.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        streamed: list[str] = []
        begun = asyncio.Event()

        async def follow() -> None:
            async with http.stream("GET", "/stream") as answer:
                async for piece in answer.aiter_text():
                    streamed.append(piece)
                    begun.set()

        async with serving(endless(), at):
            follower = asyncio.create_task(follow())
            waiter = asyncio.create_task(http.get("/work"))
            await begun.wait()
            # Longer than any request needs to arrive; the stop is not about those on their way.
            await asyncio.sleep(0.1)
        await follower  # raises where the body was cut off in the middle
        assert streamed == [": still here\n\n"]
        assert (await waiter).status_code == 503
    assert [record.getMessage() for record in caplog.records] == []


async def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    """Sockets that are accepted have TCP_NODELAY: without it each answer came 40 ms late."""
    at = bound_socket("127.0.0.1", 0)
    found: asyncio.Queue[int] = asyncio.Queue()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        found.put_nowait(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(accepted, sock=at):
        _, writer = await asyncio.open_connection(*at.getsockname())
        assert await found.get() == 1
        writer.close()
