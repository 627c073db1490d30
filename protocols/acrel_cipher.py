"""Acrel's optional frame cipher: purchases and prepaid settings as ciphertext (spec acrel.md 3.6).

A 16-bit variant of TEA over the whole frame, checksum included, padded with zeros to blocks of four
bytes. It has no nonce: an old frame stays good, and what keeps it from crediting twice is the
purchase count alone. Whether answers are enciphered, too, is not published: both are understood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from protocols.exchange import Answer, Effect, NotReady, Refusal, Reply, ReplyReader, Request
from protocols.keys import SiteKey
from protocols.modbus import REFUSAL_BYTES, crc_ok

BLOCK_BYTES = 4
ROUNDS = 16
DELTA = 0x79B9  # the low word of TEA's 0x9E3779B9: the rest never matters
MASK = 0xFFFF

Key = tuple[int, int, int, int]


def encipher(plain: bytes, key: Key) -> bytes:
    """A whole frame as ciphertext, padded with zeros to full blocks."""
    blocks = plain.ljust(padded(len(plain)), b"\0")
    return b"".join(_encipher_block(a, b, key) for a, b in _halves(blocks))


def decipher(ciphertext: bytes, key: Key) -> bytes:
    """The inverse of encipher(), padding included. `ciphertext` is full blocks."""
    assert len(ciphertext) % BLOCK_BYTES == 0
    return b"".join(_decipher_block(a, b, key) for a, b in _halves(ciphertext))


def enciphered(request: Request, site_key: SiteKey | None) -> Request:
    """A write as ciphertext. Raises NotReady where there is no usable key."""
    assert request.effect is Effect.WRITE
    assert not request.enciphered
    if site_key is None:
        raise NotReady("this meter takes only enciphered purchases; import the site's key first")
    try:
        frame = encipher(request.frame, site_key.words())
    except ValueError as error:
        raise NotReady(str(error)) from None
    if crc_ok(frame):
        # One in 65536: a meter beside this one could take it for a plain frame of its own.
        raise NotReady("the enciphered frame would pass for a plain one; change the amount by 0.01")
    size = request.reply_bytes_max
    return replace(
        request,
        label=f"{request.label}, enciphered",
        frame=frame,
        enciphered=True,
        new_reader=partial(
            CipherReplyReader, request.new_reader, request.frame[:2], size, site_key
        ),
        reply_bytes_max=padded(size),
    )


class CipherReplyReader:
    """Finds the one answer to an enciphered write, plain or enciphered. Used once; never raises.

    `head` is unit and function of the plain frame, `size` the length of its plain answer.
    """

    __slots__ = ("_answer", "_buffer", "_key", "_plain", "_refusal", "_reply", "_size")

    def __init__(
        self, new_plain: Callable[[], ReplyReader], head: bytes, size: int, site_key: SiteKey
    ) -> None:
        self._plain = new_plain()
        self._key = site_key
        self._reply = head
        self._refusal = bytes((head[0], head[1] | 0x80))
        self._size = size
        self._buffer = b""
        self._answer: Answer | None = None

    def receive_data(self, data: bytes) -> None:
        self._plain.receive_data(data)
        if self._answer is not None or (answer := self._plain.next_event()) is not None:
            self._answer = self._answer or answer
            return
        self._buffer += data
        self._answer = self._search()
        # Fewer bytes than an answer has can only be the beginning of one.
        self._buffer = self._buffer[-(padded(self._size) - 1) :]

    def next_event(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def _search(self) -> Answer | None:
        try:
            key = self._key.words()
        except ValueError:  # taken away meanwhile: only a plain answer can be read
            return None
        for size, head in ((self._size, self._reply), (REFUSAL_BYTES, self._refusal)):
            for window in _windows(self._buffer, padded(size)):
                plain = decipher(window, key)
                frame = plain[:size]
                if frame[:2] == head and crc_ok(frame) and not any(plain[size:]):
                    return Reply(frame[2:-2]) if head is self._reply else Refusal(frame[2])
        return None


def _windows(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(len(data) - size + 1))


def padded(size: int) -> int:
    """How long a frame of this length is as ciphertext."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _halves(data: bytes) -> Iterator[tuple[int, int]]:
    for at in range(0, len(data), BLOCK_BYTES):
        yield int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")


def _encipher_block(a: int, b: int, key: Key) -> bytes:
    total = 0
    for _ in range(ROUNDS):
        total = total + DELTA & MASK
        a = a + (((b << 4) + key[0]) ^ (b + total) ^ ((b >> 5) + key[1])) & MASK
        b = b + (((a << 4) + key[2]) ^ (a + total) ^ ((a >> 5) + key[3])) & MASK
    return a.to_bytes(2, "big") + b.to_bytes(2, "big")


def _decipher_block(a: int, b: int, key: Key) -> bytes:
    total = DELTA * ROUNDS & MASK
    for _ in range(ROUNDS):
        b = b - (((a << 4) + key[2]) ^ (a + total) ^ ((a >> 5) + key[3])) & MASK
        a = a - (((b << 4) + key[0]) ^ (b + total) ^ ((b >> 5) + key[1])) & MASK
        total = total - DELTA & MASK
    return a.to_bytes(2, "big") + b.to_bytes(2, "big")
