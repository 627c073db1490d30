"""Puts a virtual card into the virtual reader of pcscd (vsmartcard's vpcd), and pulls it.

The reader's protocol: two bytes of length, high byte first, and a body. One byte: 0 off, 1 on, 2
reset, 4 "your ATR?"; more bytes: a command. Only the ATR and commands are answered.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from simulators.cards import Pulled, VirtualCard

SLOT_0 = 35963


class CardSlot:
    """A card on the reader from `insert` until `pull`, or until the card says that it is pulled."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def insert(self, card: VirtualCard) -> None:
        card.inserted_again()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(card, ready), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise TimeoutError("no virtual reader takes the card")

    def pull(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        if self._thread is not None:
            self._thread.join(10)
        self._socket = self._thread = None

    def _serve(self, card: VirtualCard, ready: threading.Event) -> None:
        try:
            with self._connect() as wire:
                self._socket = wire
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.set()
                while True:
                    body = _receive(wire)
                    if len(body) == 1 and body[0] == 4:
                        _send(wire, card.ATR)
                    elif len(body) == 1:
                        card.reset()
                    else:
                        _send(wire, card.apdu(body))
        except (OSError, EOFError, Pulled):
            return


def _receive(wire: socket.socket) -> bytes:
    (count,) = struct.unpack(">H", _exactly(wire, 2))
    return _exactly(wire, count)


def _exactly(wire: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        # The reader sends length and body apart: without this each command waits 40 ms.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = wire.recv(count - len(got))
        if not piece:
            raise EOFError
        got += piece
    return got


def _send(wire: socket.socket, body: bytes) -> None:
    wire.sendall(struct.pack(">H", len(body)) + body)
