"""How boxes with an envelope of their own carry a request and its answer, without a socket: Modbus
TCP's transaction numbers, and an Acrel gateway's login, cipher and labels (spec acrel.md 4.2)."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from typing import Protocol

from simulators import acrel_gateway_words as words
from simulators import rtu
from simulators.acrel_gateway_words import Type
from simulators.dialects import Speech

HEAD = struct.Struct(">HHHB")
_connections = itertools.count()
_ASKED = re.compile(rb"(\d\d\d\d\d)\|([0-9a-f]+)")


class Manner(Protocol):
    """One connection of a box. A request comes with a label, which its answer gets back."""

    def hello(self) -> bytes:
        """Said first; empty: nothing."""
        ...

    def heartbeat(self) -> bytes | None:
        """Said when idle; None: nothing."""
        ...

    def heard(self, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """What came down: requests for the wires with their labels, and what the box says to it."""
        ...

    def packet(self, answer: bytes, label: bytes) -> bytes | None:
        """An answer on its way up; None: it cannot be told on this connection."""
        ...


class Spoken:
    """A dialect that names no request: an answer goes up as it comes."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech

    def hello(self) -> bytes:
        return self._speech.hello()

    def heartbeat(self) -> bytes | None:
        return self._speech.heartbeat()

    def heard(self, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        frames, says = self._speech.downlink(data)
        return [(frame, b"") for frame in frames], says

    def packet(self, answer: bytes, label: bytes) -> bytes | None:
        return self._speech.packet(answer)


class Hex:
    """A gateway whose messages are the frame as hex digits; each is whole."""

    def hello(self) -> bytes:
        return b""

    def heartbeat(self) -> bytes | None:
        return None

    def heard(self, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        return [(bytes.fromhex(data.decode("ascii")), b"")], []

    def packet(self, answer: bytes, label: bytes) -> bytes | None:
        return answer.hex().encode("ascii")


class Numbered:
    """Modbus TCP. An answer is told under the number of its request, on the connection that asked;
    what came damaged from the wires is not told at all."""

    def __init__(self) -> None:
        self._buffer = b""
        self._connection = b"%d:" % next(_connections)

    def hello(self) -> bytes:
        return b""

    def heartbeat(self) -> bytes | None:
        return None

    def heard(self, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        self._buffer += data
        found: list[tuple[bytes, bytes]] = []
        while len(self._buffer) >= HEAD.size:
            _, protocol, length, unit = HEAD.unpack_from(self._buffer)
            assert protocol == 0
            end = HEAD.size - 1 + length
            if len(self._buffer) < end:
                break
            label = self._connection + self._buffer[:2]
            found.append((rtu.sealed(bytes((unit,)) + self._buffer[HEAD.size : end]), label))
            self._buffer = self._buffer[end:]
        return found, []

    def packet(self, answer: bytes, label: bytes) -> bytes | None:
        if label[:-2] != self._connection or not rtu.is_sealed(answer):
            return None
        number = int.from_bytes(label[-2:], "big")
        return HEAD.pack(number, 0, len(answer) - 2, answer[0]) + answer[1:-2]


class Labelled:
    """An Acrel gateway. Whatever its port brings gets the label of what was asked there last."""

    def __init__(self, building: str, number: str, secret: str) -> None:
        self._building, self._number, self._secret = building, number, secret
        self._buffer = bytearray()
        self._passed = False
        self._last = b""

    def hello(self) -> bytes:
        return words.framed(Type.LOGIN, words.login_request(self._building, self._number))

    def heartbeat(self) -> bytes | None:
        if not self._passed:
            return None
        return words.framed(Type.HEARTBEAT, words.heartbeat(self._building, self._number))

    def heard(self, data: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        self._buffer += data
        asked: list[tuple[bytes, bytes]] = []
        says: list[bytes] = []
        for kind, body in words.take_frames(self._buffer):
            if kind == Type.LOGIN:
                says += self._login(words.heard(body))
            elif kind == Type.ASK:
                found = _ASKED.fullmatch(words.unlock(body, self._secret))
                assert found is not None
                self._last = found[1]
                asked.append((bytes.fromhex(found[2].decode()), found[1]))
        return asked, says

    def _login(self, said: dict[str, str]) -> list[bytes]:
        if said["operation"] == "sequence":
            building, number = self._building, self._number
            proof = words.login_proof(building, number, self._secret, said["sequence"])
            return [words.framed(Type.LOGIN, proof)]
        self._passed = said.get("result") == "pass"
        return []

    def packet(self, answer: bytes, label: bytes) -> bytes | None:
        if not self._passed:
            return None
        plain = (self._last or label) + b"|" + answer.hex().encode()
        return words.framed(Type.ANSWER, words.lock(plain, self._secret))


NewManner = Callable[[], Manner]
