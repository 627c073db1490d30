"""What is asked of the key service, as bytes on its socket. No call gives out a key.

A call names a key by purpose and scope, the way from its root to one card or meter, and the data;
the answer is a MAC, a ciphertext or a yes. The way always leads through an area to one device: what
a shorter way would give is itself a key of the next level (spec cards_keys.md C.1, C.5).

A message is four bytes of length, high byte first, and that many bytes of JSON; byte strings are
hex in it.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

LEVEL_BYTES = 8  # an area, a card serial or a meter number: PBOC diversifies by eight bytes
PATH_LEVELS = 2  # area, then card or meter
DATA_BYTES_MAX = 4096
MESSAGE_BYTES_MAX = 3 * DATA_BYTES_MAX  # hex doubles the data; the rest is names
HEAD_BYTES = 4


class Purpose(enum.Enum):
    """What a key is for. A key of one purpose never serves another (C.1)."""

    CARD_ACCESS = "card-access"  # sector keys of an RF card, the PSC of a logic-encrypted one
    CARD_INTERNAL = "card-internal"  # a CPU card proves itself
    CARD_EXTERNAL = "card-external"  # we prove ourselves to a CPU card
    CARD_UPDATE = "card-update"  # MACs a CPU card wants with an update of its files
    RECHARGE = "recharge"  # the MAC over a purchase on a card
    REMOTE_RECHARGE = "remote-recharge"  # the MAC over a purchase in a frame
    CONTROL = "control"  # cut and restore
    PARAMETERS = "parameters"  # parameter, preset, clear and check cards
    WRITE_BACK = "write-back"  # what a meter wrote on a card
    REMOTE_IDENTITY = "remote-identity"
    KEY_UPDATE = "key-update"
    TERMINAL_CAP = "terminal-cap"  # what a terminal may sell while it is off-line
    AUDIT = "audit"
    BACKUP = "backup"
    TERMINAL_WRITE_BACK = "terminal-write-back"  # what we write on a card at a terminal


class Operation(enum.Enum):
    """The calls there are."""

    MAC = "derive_and_mac"
    CHECK = "derive_and_check"  # whether a MAC is right, without saying which it would be
    ENCRYPT = "derive_and_encrypt"
    KCV = "kcv"  # the check value of a key: says which one, not what it is


class Denial(enum.Enum):
    """Why the service does not do it; the values are stable codes."""

    BAD_CALL = "bad-call"
    NOT_ALLOWED = "not-allowed"  # this caller, this purpose, this operation
    NO_SUCH_KEY = "no-such-key"
    KEY_STOPPED = "key-stopped"  # no version of it may be used for this now
    TOO_FAST = "too-fast"
    CREDIT_LIMIT = "credit-limit"
    LOG_FAILED = "log-failed"  # what cannot be logged is not done
    FAILED = "failed"  # the box behind the service said no


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCall:
    """One call."""

    operation: Operation
    purpose: Purpose
    scope: str  # "site:demo", a supply group, a maker: which root of that purpose
    version: int | None = None  # None: the one that may issue now
    path: tuple[bytes, ...] = ()  # eight bytes a level; KCV has none
    iv: bytes = b""  # of a MAC with 3DES: eight bytes, or none for zeros
    data: bytes = field(default=b"", repr=False)
    mac: bytes = field(default=b"", repr=False)  # of CHECK: 3 to 16 bytes, compared from the left


@dataclass(frozen=True, slots=True)
class KeyResult:
    """The service did it: under this version, with this outcome. Of CHECK: b"\\x01" or b"\\x00"."""

    version: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyDenied:
    """The service did not do it; `detail` names no key, no data."""

    denial: Denial
    detail: str = ""


class BadMessage(ValueError):
    """These bytes are no message of this protocol; the text quotes none of them."""


def frame(body: bytes) -> bytes:
    """A message as it goes over the socket."""
    if len(body) > MESSAGE_BYTES_MAX:
        raise BadMessage(f"a message has at most {MESSAGE_BYTES_MAX} bytes")
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def body_bytes(head: bytes) -> int:
    """How many bytes follow this head. Raises BadMessage."""
    count = int.from_bytes(head, "big")
    if len(head) != HEAD_BYTES or not 2 <= count <= MESSAGE_BYTES_MAX:
        raise BadMessage("the length before the message is none")
    return count


def encode_call(call: KeyCall) -> bytes:
    """The body of a call."""
    return json.dumps(
        {
            "operation": call.operation.value,
            "purpose": call.purpose.value,
            "scope": call.scope,
            "version": call.version,
            "path": [level.hex() for level in call.path],
            "iv": call.iv.hex(),
            "data": call.data.hex(),
            "mac": call.mac.hex(),
        }
    ).encode()


_CALL_FIELDS = {"operation", "purpose", "scope", "version", "path", "iv", "data", "mac"}


def decode_call(body: bytes) -> KeyCall:
    """A call from its body. Raises BadMessage, whatever the bytes."""
    told = _object(body)
    if set(told) != _CALL_FIELDS:
        raise BadMessage("a call has exactly the fields of a call")
    version, scope, path = told["version"], told["scope"], told["path"]
    if not (version is None or (type(version) is int and 1 <= version <= 0xFFFF)):
        raise BadMessage("a version is a number from 1")
    if not (isinstance(scope, str) and 1 <= len(scope) <= 100 and scope.isprintable()):
        raise BadMessage("a scope is a short text")
    if not (isinstance(path, list) and len(path) <= PATH_LEVELS):
        raise BadMessage("a path has an area and a device")
    try:
        call = KeyCall(
            operation=Operation(told["operation"]),
            purpose=Purpose(told["purpose"]),
            scope=scope,
            version=version,
            path=tuple(bytes.fromhex(level) for level in path),
            iv=bytes.fromhex(told["iv"]),
            data=bytes.fromhex(told["data"]),
            mac=bytes.fromhex(told["mac"]),
        )
    except (ValueError, TypeError) as error:
        raise BadMessage("a field of the call cannot be read") from error
    _check(call)
    return call


def _check(call: KeyCall) -> None:
    levels = 0 if call.operation is Operation.KCV else PATH_LEVELS
    if len(call.path) != levels or any(len(level) != LEVEL_BYTES for level in call.path):
        raise BadMessage(f"{call.operation.value} has {levels} levels of {LEVEL_BYTES} bytes")
    if len(call.iv) not in (0, 8) or len(call.data) > DATA_BYTES_MAX:
        raise BadMessage("the data or its first block has the wrong length")
    if (call.operation is Operation.CHECK) != (3 <= len(call.mac) <= 16):
        raise BadMessage("only a check brings a MAC, of 3 to 16 bytes")
    if (call.operation is Operation.KCV) == bool(call.data):
        raise BadMessage("all but a check value need data")


def encode_answer(answer: KeyResult | KeyDenied) -> bytes:
    """The body of an answer."""
    if isinstance(answer, KeyResult):
        return json.dumps({"version": answer.version, "value": answer.value.hex()}).encode()
    return json.dumps({"denied": answer.denial.value, "detail": answer.detail}).encode()


def decode_answer(body: bytes) -> KeyResult | KeyDenied:
    """An answer from its body. Raises BadMessage, whatever the bytes."""
    told = _object(body)
    try:
        if "denied" in told:
            return KeyDenied(Denial(told["denied"]), str(told["detail"])[:200])
        version = told["version"]
        if type(version) is not int:
            raise BadMessage("an answer names the version")
        return KeyResult(version, bytes.fromhex(told["value"]))
    except (ValueError, TypeError, KeyError) as error:
        raise BadMessage("the answer cannot be read") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage("not JSON") from error
    if not isinstance(told, dict):
        raise BadMessage("not an object")
    return told
