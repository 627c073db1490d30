"""How a recharge terminal speaks: frames, and one connection from its hello to its end
(docs/terminal-protocol.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

from simulators import rtu

if TYPE_CHECKING:
    from simulators.rf_terminal import RfTerminal

HELLO, CHALLENGE, PROOF, WELCOME, ALIVE, LINE = 0x02, 0x03, 0x04, 0x05, 0x06, 0x10
TAP, IDENTIFIED, BUY, BOUGHT, ASK_RECHARGES, RECHARGES = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25
CARD_ANSWER, CARD_COMMAND = 0x26, 0x27
ISLAND_SALE, ISLAND_TAKEN, CAP, SHOW = 0x30, 0x31, 0x33, 0x35


def sealed_frame(kind: int, sequence: int, body: bytes) -> bytes:
    """A frame of the terminal."""
    head = b"RF" + bytes((kind,)) + sequence.to_bytes(2, "big") + len(body).to_bytes(2, "big")
    return rtu.sealed(head + body)


def told(kind: int, sequence: int, /, **fields: Any) -> bytes:
    """A frame with a JSON body."""
    return sealed_frame(kind, sequence, json.dumps(fields).encode())


class TerminalSpeech:
    """One connection: hello, challenge, proof, then whatever is to be said."""

    def __init__(self, terminal: RfTerminal) -> None:
        self._terminal = terminal
        self._buffer = b""
        self._nonce = secrets.token_hex(8)
        self._theirs = ""
        self.is_in = False

    def hello(self) -> bytes:
        return told(HELLO, 1, name=self._terminal.name, version="1", nonce=self._nonce)

    def heartbeat(self) -> bytes | None:
        return sealed_frame(ALIVE, 0, b"") if self.is_in else None

    def packet(self, data: bytes) -> bytes:
        return sealed_frame(LINE, 0, data)

    def downlink(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        self._buffer += data
        frames: list[bytes] = []
        says: list[bytes] = []
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[5:7], "big")
            if len(self._buffer) < 9 + length:
                break
            whole, self._buffer = self._buffer[: 9 + length], self._buffer[9 + length :]
            assert whole[:2] == b"RF", "something between two frames"
            assert rtu.is_sealed(whole), "a frame with a wrong check"
            kind, body = whole[2], whole[7:-2]
            if kind == LINE:
                frames.append(body)
            elif body:
                says += self._heard(kind, json.loads(body))
        return frames, says

    def _heard(self, kind: int, fields: dict[str, Any]) -> list[bytes]:
        if kind == CHALLENGE:
            self._theirs = fields["nonce"]
            return [told(PROOF, 2, mac=self._mac(b"terminal"))]
        if kind == WELCOME:
            self.is_in = bool(fields["ok"]) and fields.get("mac") == self._mac(b"head-end")
            return self._terminal.welcomed() if self.is_in else []
        return self._terminal.heard(kind, fields) if self.is_in else []

    def _mac(self, side: bytes) -> str:
        terminal = self._terminal
        parts = (b"terminal login", side, terminal.name.encode(), self._nonce.encode())
        plain = b"\0".join((*parts, self._theirs.encode()))
        return hmac.new(terminal.secret, plain, hashlib.sha256).hexdigest()
