"""How an answer ends that would go on for ever, when the head-end stops.

Open pages follow their orders by event streams, a desk's reader waits for work, somebody watches a
line. A stop waits a little for what is nearly done and then ends the rest in order: a stream gets
its last piece, a call that was not answered yet gets 503. Without this each of them would end as
an error of the program, on every stop.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Endings:
    """The application, every answer of which can be ended. An ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[asyncio.Task[None]] = set()
        self._is_ending = False

    def end(self) -> None:
        """End what is still being answered."""
        self._is_ending = True
        for task in self._open:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One answer, to its end or to ours."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        task = asyncio.current_task()
        assert task is not None, "a server answers in tasks"
        self._open.add(task)
        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if not self._is_ending:
                raise
            # uvicorn waits for this task: the cancelling was ours and has done its work.
            task.uncancel()
            if not begun:
                await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._open.discard(task)
