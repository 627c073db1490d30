"""Key holders: who makes the codes that a meter's security chip wants to see.

Three ways to one behaviour (protocols/keys.py KeyHolder): a key file, for tests and for meters that
still hold test keys; a PKCS#11 token, which never gives its key out; a maker's encryptor, a program
or a machine of the maker's that is asked over TCP, one JSON line for each question.

The file and the token compute the test scheme of docs/decisions/0018: HMAC-SHA-256 over the chip's
divider and the fields. A maker's own cipher lives in the maker's encryptor.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from protocols.exchange import KeysAway
from protocols.keys import KeyHolder

KEY_BYTES = 32
# An encryptor on the same network answers in milliseconds; a command keeps its line meanwhile.
ENCRYPTOR_S_MAX = 5.0
LINE_BYTES_MAX = 4096

Mac = Callable[[bytes], bytes]


class SchemeHolder:
    """The test scheme over any keyed HMAC: `mac` never shows its key."""

    def __init__(self, mac: Mac) -> None:
        self._mac = mac

    def authenticate(self, meter_number: str) -> bytes:
        """As in KeyHolder."""
        number = secrets.token_bytes(8)
        return self._code(b"identity", _divider(meter_number), number) + number

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        """As in KeyHolder."""
        divider, (_, _, customer) = _divider(meter_number), fields
        purchase = self._code(b"purse", divider, challenge, *fields)[:4]
        return purchase + self._code(b"customer", divider, challenge, customer)[:4]

    def open(self, meter_number: str, challenge: bytes, field: bytes, mac: bytes) -> bytes:
        """As in KeyHolder."""
        expected = self._code(b"query", _divider(meter_number), challenge, field)[:4]
        if not hmac.compare_digest(expected, mac):
            raise KeysAway("the chip's code is not the one of its key; it may hold another key")
        return field

    def _code(self, *parts: bytes) -> bytes:
        return self._mac(b"|".join(parts))[:8]


def _divider(meter_number: str) -> bytes:
    return bytes(2) + bytes.fromhex(meter_number)


def file_holder(path: Path) -> KeyHolder:
    """Keys from a file of 64 hex digits that only its owner may read. Raises KeysAway."""

    def mac(message: bytes) -> bytes:
        return hmac.new(_key_from(path), message, hashlib.sha256).digest()

    _key_from(path)  # a wrong file is said now
    return SchemeHolder(mac)


def _key_from(path: Path) -> bytes:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeysAway(f"{path} may be read by others: chmod 600 it")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise KeysAway(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise KeysAway(f"{path} does not hold {2 * KEY_BYTES} hex digits") from None
    if len(key) != KEY_BYTES:
        raise KeysAway(f"{path} does not hold {2 * KEY_BYTES} hex digits")
    return key


def token_holder(library: str, token: str, pin: str, label: str) -> KeyHolder:
    """Keys in a PKCS#11 token: the key called `label` computes, and stays inside. Raises KeysAway.

    One session for each call: a token that was unplugged and came back is found again.
    """
    import pkcs11

    lock = threading.Lock()  # PKCS#11 libraries need not bear two threads in one session

    def mac(message: bytes) -> bytes:
        try:
            with lock, pkcs11.lib(library).get_token(token_label=token).open(user_pin=pin) as open_:
                key = open_.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=label)
                # Which calls a key has is decided at run time, by its kind.
                sign: Callable[..., bytes] = key.sign  # type: ignore[attr-defined]
                return sign(message, mechanism=pkcs11.Mechanism.SHA256_HMAC)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            why = str(error) or type(error).__name__
            raise KeysAway(f"the key token {token} does not work: {why}") from None

    return SchemeHolder(mac)


class Encryptor:
    """A maker's encryptor over TCP: {"do": …, hex fields} and a newline out, the same back."""

    def __init__(self, host: str, port: int, *, answer_s_max: float = ENCRYPTOR_S_MAX) -> None:
        self._address = (host, port)
        self._answer_s_max = answer_s_max

    def authenticate(self, meter_number: str) -> bytes:
        """As in KeyHolder."""
        return self._ask("authenticate", 16, meter_number=meter_number)

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        """As in KeyHolder."""
        amount, count, customer = (field.hex() for field in fields)
        return self._ask(
            "seal",
            8,
            meter_number=meter_number,
            challenge=challenge.hex(),
            amount=amount,
            count=count,
            customer=customer,
        )

    def open(self, meter_number: str, challenge: bytes, field: bytes, mac: bytes) -> bytes:
        """As in KeyHolder."""
        return self._ask(
            "open",
            len(field),
            meter_number=meter_number,
            challenge=challenge.hex(),
            field=field.hex(),
            mac=mac.hex(),
        )

    def _ask(self, do: str, length: int, **fields: str) -> bytes:
        question = json.dumps({"do": do, **fields}).encode() + b"\n"
        answer = self._said(question)
        if isinstance(told := answer.get("error"), str):
            raise KeysAway(f"the encryptor refused: {told}")
        try:
            result = bytes.fromhex(str(answer.get("result")))
        except ValueError:
            result = b""
        if len(result) != length:
            raise KeysAway("the encryptor's answer makes no sense")
        return result

    def _said(self, question: bytes) -> dict[str, Any]:
        with self._connection() as connection:
            connection.sendall(question)
            said = b""
            while not said.endswith(b"\n") and len(said) < LINE_BYTES_MAX:
                more = connection.recv(LINE_BYTES_MAX)
                if not more:
                    break
                said += more
        try:
            answer = json.loads(said)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KeysAway("the encryptor's answer makes no sense")
        return answer

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        host, port = self._address
        try:
            with socket.create_connection(self._address, timeout=self._answer_s_max) as connection:
                yield connection
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else "it does not answer in time"
            raise KeysAway(f"the encryptor {host}:{port} cannot be asked: {why}") from None
