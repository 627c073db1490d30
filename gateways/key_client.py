"""The way to the key service: a Unix socket, one call at a time, no key in either direction."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from protocols import key_call
from protocols.key_call import BadMessage, Denial, KeyCall, KeyDenied, KeyResult

# A box answers in a millisecond, its log in a few; a device under load may take longer.
ANSWER_S_MAX = 5.0


class KeysAway(Exception):
    """No key service answers. Nothing that needs a key can be made or accepted now."""


class KeyRefused(Exception):
    """The key service said no; `denied` says why. Nothing was made."""

    def __init__(self, denied: KeyDenied) -> None:
        super().__init__(": ".join(filter(None, (denied.denial.value, denied.detail))))
        self.denied = denied


class KeyBoxClient:
    """Asks the key service. Connects when it is first needed and again after a fall."""

    def __init__(self, path: Path, *, answer_s_max: float = ANSWER_S_MAX) -> None:
        self._path = path
        self._answer_s_max = answer_s_max
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def ask(self, call: KeyCall) -> KeyResult:
        """One call. Raises KeyRefused, KeysAway; after KeysAway it may have been done and logged,
        which harms nothing: the same data under the same key give the same MAC, counted once."""
        body = key_call.encode_call(call)
        async with self._turn:
            try:
                async with asyncio.timeout(self._answer_s_max):
                    answer = await self._exchange(body)
            except (OSError, asyncio.IncompleteReadError, BadMessage, TimeoutError) as error:
                self._drop()
                raise KeysAway(f"{self._path} does not answer") from error
            except asyncio.CancelledError:
                self._drop()  # its answer must not become the next call's
                raise
        if isinstance(answer, KeyDenied):
            raise KeyRefused(answer)
        return answer

    async def close(self) -> None:
        """Hang up."""
        self._drop()

    async def _exchange(self, body: bytes) -> KeyResult | KeyDenied:
        if self._streams is None or self._streams[1].is_closing():
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(key_call.frame(body))
        await writer.drain()
        head = await reader.readexactly(key_call.HEAD_BYTES)
        return key_call.decode_answer(await reader.readexactly(key_call.body_bytes(head)))

    def _drop(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(RuntimeError):
                self._streams[1].close()
            self._streams = None


__all__ = ["Denial", "KeyBoxClient", "KeyRefused", "KeysAway"]
