"""Where root keys are: a box that derives, MACs and enciphers, and gives none of them out.

Two boxes: `vault.Vault`, an encrypted file whose keys are in this process's memory for a moment of
each call, and `token.Token`, a PKCS#11 device whose keys never leave it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from headend.keys.primitives import Algorithm
from headend.keys.records import CreditField, KeyRecord
from protocols.key_call import Purpose


class BoxError(Exception):
    """The box does not do it. One sentence; it never holds a key, a PIN or a passphrase."""


class KeyBox(Protocol):
    """What a place for keys can do. Not for two threads at once."""

    def records(self) -> list[KeyRecord]:
        """Every version of every key, destroyed ones too."""
        ...

    def add(self, record: KeyRecord, secret: bytearray) -> None:
        """Take a new version in. The caller wipes `secret`. Raises BoxError."""
        ...

    def change(self, record: KeyRecord) -> None:
        """The same version with other dates; a destroyed one loses its bytes. Raises BoxError."""
        ...

    def mac(self, record: KeyRecord, path: tuple[bytes, ...], iv: bytes, data: bytes) -> bytes:
        """The whole MAC under the key at the end of the path. Raises BoxError."""
        ...

    def encrypt(self, record: KeyRecord, path: tuple[bytes, ...], data: bytes) -> bytes:
        """ECB over whole blocks under the key at the end of the path. Raises BoxError."""
        ...

    def close(self) -> None:
        """No call after this."""
        ...


def as_table(record: KeyRecord) -> dict[str, Any]:
    """A record as JSON, the same bytes each time: it is what a ciphertext is bound to."""
    credit = record.credit
    return {
        "purpose": record.purpose.value,
        "scope": record.scope,
        "version": record.version,
        "algorithm": record.algorithm.value,
        "kcv": record.kcv.hex(),
        "kcv_method": record.kcv_method,
        "created_at": record.created_at.isoformat(),
        "active_from": record.active_from.isoformat(),
        "stop_issue": _text(record.stop_issue),
        "stop_accept": _text(record.stop_accept),
        "destroyed_at": _text(record.destroyed_at),
        "credit": None if credit is None else [credit.offset, credit.length],
        "credit_fen_per_day": record.credit_fen_per_day,
    }


def from_table(table: dict[str, Any]) -> KeyRecord:
    """The record of such a table. Raises BoxError."""
    try:
        credit = table["credit"]
        return KeyRecord(
            purpose=Purpose(table["purpose"]),
            scope=table["scope"],
            version=table["version"],
            algorithm=Algorithm(table["algorithm"]),
            kcv=bytes.fromhex(table["kcv"]),
            kcv_method=table["kcv_method"],
            created_at=datetime.fromisoformat(table["created_at"]),
            active_from=datetime.fromisoformat(table["active_from"]),
            stop_issue=_instant(table["stop_issue"]),
            stop_accept=_instant(table["stop_accept"]),
            destroyed_at=_instant(table["destroyed_at"]),
            credit=None if credit is None else CreditField(offset=credit[0], length=credit[1]),
            credit_fen_per_day=table["credit_fen_per_day"],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BoxError("a record of a key cannot be read") from error


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
