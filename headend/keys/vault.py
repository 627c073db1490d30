"""Keys in an encrypted file.

A passphrase becomes the key-encrypting key through Argon2id. Each root key is wrapped by itself
with AES-256-GCM, and everything that is known of it is bound into that: a row cannot be moved to
another purpose, a revoked version cannot be given its dates back. A seal over the whole file says
that no row was taken out. Whoever has the file alone has nothing. An older file put back
brings back what it said then; the service's log shows it (spec cards_keys.md C.4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from headend.keys import primitives
from headend.keys.box import BoxError, as_table, from_table
from headend.keys.records import KeyRecord

FORMAT: Final = "headend-vault-1"
# RFC 9106, the second recommendation: 64 MiB, three passes, four lanes.
_KDF: Final = {"time": 3, "memory_kib": 65536, "lanes": 4}
PASSPHRASE_LENGTH_MIN: Final = 12
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_CANNOT_OPEN: Final = "the vault does not open: the passphrase is wrong, or the file was changed"


@dataclass(slots=True)
class _Row:
    record: KeyRecord
    nonce: bytes
    wrapped: bytes  # empty: destroyed


class Vault:
    """An open vault. Root keys are unwrapped for one call and forgotten after it."""

    def __init__(self, path: Path, kdf: dict[str, Any], kek: bytearray, rows: list[_Row]) -> None:
        self._path = path
        self._kdf = kdf
        self._kek = kek
        self._rows = rows

    @classmethod
    def create(cls, path: Path, passphrase: str) -> Vault:
        """A new, empty vault. Raises BoxError; never writes over a file."""
        if path.exists():
            raise BoxError(f"{path} exists already")
        kdf = _KDF | {"salt": os.urandom(_SALT_BYTES).hex()}
        vault = cls(path, kdf, _kek_of(passphrase, kdf), [])
        vault._save()
        return vault

    @classmethod
    def open(cls, path: Path, passphrase: str) -> Vault:
        """An existing one. Raises BoxError when the passphrase or anything in the file is wrong."""
        try:
            told = json.loads(path.read_bytes())
            if told["format"] != FORMAT:
                raise BoxError(f"{path} is not a vault of this program")
            kdf, seal = dict(told["kdf"]), bytes.fromhex(told.pop("seal"))
            kek = _kek_of(passphrase, kdf)
        except OSError as error:
            raise BoxError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BoxError(f"{path} is not a vault") from error
        if not primitives.same(_seal(kek, told), seal):
            raise BoxError(_CANNOT_OPEN)
        rows = [
            _Row(
                from_table(row["record"]),
                bytes.fromhex(row["nonce"]),
                bytes.fromhex(row["wrapped"]),
            )
            for row in told["keys"]
        ]
        return cls(path, kdf, kek, rows)

    def records(self) -> list[KeyRecord]:
        """Every version of every key, destroyed ones too."""
        return [row.record for row in self._rows]

    def add(self, record: KeyRecord, secret: bytearray) -> None:
        """Wrap a new version and store it durably. Raises BoxError."""
        if any(known.key_id == record.key_id for known in self.records()):
            raise BoxError(f"there is a key {record.key_id} already")
        self._rows.append(self._wrapped(record, secret))
        self._save()

    def change(self, record: KeyRecord) -> None:
        """Other dates for a known version; a destroyed one loses its bytes here, not in copies."""
        index = self._index(record)
        if record.destroyed_at is not None:
            self._rows[index] = _Row(record, b"", b"")
        else:
            secret = self._unwrapped(self._rows[index])
            try:
                self._rows[index] = self._wrapped(record, secret)
            finally:
                primitives.wipe(secret)
        self._save()

    def mac(self, record: KeyRecord, path: tuple[bytes, ...], iv: bytes, data: bytes) -> bytes:
        """The whole MAC under the key at the end of the path. Raises BoxError."""
        return self._with_key(record, path, lambda key: _mac(record, key, iv, data))

    def encrypt(self, record: KeyRecord, path: tuple[bytes, ...], data: bytes) -> bytes:
        """ECB over whole blocks under the key at the end of the path. Raises BoxError."""
        return self._with_key(record, path, lambda key: _encrypt(record, key, data))

    def change_passphrase(self, passphrase: str) -> None:
        """A new passphrase: every row is wrapped anew, no key changes, no meter is touched."""
        kdf = _KDF | {"salt": os.urandom(_SALT_BYTES).hex()}
        kek = _kek_of(passphrase, kdf)
        opened = [(row.record, self._unwrapped(row) if row.wrapped else None) for row in self._rows]
        old, self._kek, self._kdf = self._kek, kek, kdf
        self._rows = [
            _Row(record, b"", b"") if secret is None else self._wrapped(record, secret)
            for record, secret in opened
        ]
        self._save()
        for secret in (old, *(secret for _, secret in opened if secret is not None)):
            primitives.wipe(secret)

    def export(self, backup_key: bytes) -> bytes:
        """Every key once more, under another key: for the backup whose key is held in shares."""
        keys = []
        for row in self._rows:
            secret = self._unwrapped(row) if row.wrapped else bytearray()
            keys.append({"record": as_table(row.record), "secret": secret.hex()})
            primitives.wipe(secret)
        nonce = os.urandom(_NONCE_BYTES)
        body = json.dumps(keys).encode()
        return nonce + AESGCM(backup_key).encrypt(nonce, body, BACKUP_FORMAT)

    def take_in(self, backup_key: bytes, backup: bytes) -> int:
        """The keys of such a backup into this empty vault; how many. Raises BoxError."""
        if self._rows:
            raise BoxError("a backup goes into an empty vault only")
        nonce, sealed = backup[:_NONCE_BYTES], backup[_NONCE_BYTES:]
        try:
            keys = json.loads(AESGCM(backup_key).decrypt(nonce, sealed, BACKUP_FORMAT))
        except (InvalidTag, ValueError) as error:
            raise BoxError("the backup does not open with these shares") from error
        for one in keys:
            record, secret = from_table(one["record"]), bytearray.fromhex(one["secret"])
            self._rows.append(self._wrapped(record, secret) if secret else _Row(record, b"", b""))
            primitives.wipe(secret)
        self._save()
        return len(keys)

    def close(self) -> None:
        """Forget the key-encrypting key, as far as Python can."""
        primitives.wipe(self._kek)
        self._rows = []

    def _with_key(
        self, record: KeyRecord, path: tuple[bytes, ...], use: Callable[[bytes], bytes]
    ) -> bytes:
        secret = self._unwrapped(self._rows[self._index(record)])
        leaf = bytearray(primitives.diversify(record.algorithm, bytes(secret), path))
        try:
            return use(bytes(leaf))
        except ValueError as error:
            raise BoxError(str(error)) from error
        finally:
            primitives.wipe(secret)
            primitives.wipe(leaf)

    def _index(self, record: KeyRecord) -> int:
        for index, row in enumerate(self._rows):
            if row.record.key_id == record.key_id:
                return index
        raise BoxError(f"there is no key {record.key_id}")

    def _wrapped(self, record: KeyRecord, secret: bytearray) -> _Row:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(bytes(self._kek)).encrypt(nonce, bytes(secret), _bound(record))
        return _Row(record, nonce, sealed)

    def _unwrapped(self, row: _Row) -> bytearray:
        if not row.wrapped:
            raise BoxError(f"the key {row.record.key_id} was destroyed")
        try:
            return bytearray(
                AESGCM(bytes(self._kek)).decrypt(row.nonce, row.wrapped, _bound(row.record))
            )
        except InvalidTag as error:
            raise BoxError(_CANNOT_OPEN) from error

    def _save(self) -> None:
        told: dict[str, Any] = {
            "format": FORMAT,
            "kdf": self._kdf,
            "keys": [
                {
                    "record": as_table(row.record),
                    "nonce": row.nonce.hex(),
                    "wrapped": row.wrapped.hex(),
                }
                for row in self._rows
            ],
        }
        told["seal"] = _seal(self._kek, told).hex()
        write_whole(self._path, json.dumps(told, indent=1).encode())


BACKUP_FORMAT: Final = b"headend-key-backup-1"


def _mac(record: KeyRecord, key: bytes, iv: bytes, data: bytes) -> bytes:
    return primitives.mac(record.algorithm, key, iv, data)


def _encrypt(record: KeyRecord, key: bytes, data: bytes) -> bytes:
    return primitives.encrypt(record.algorithm, key, data)


def _bound(record: KeyRecord) -> bytes:
    return json.dumps(as_table(record), sort_keys=True).encode()


def _kek_of(passphrase: str, kdf: dict[str, Any]) -> bytearray:
    if len(passphrase) < PASSPHRASE_LENGTH_MIN:
        raise BoxError(f"a passphrase has {PASSPHRASE_LENGTH_MIN} characters or more")
    return bytearray(
        hash_secret_raw(
            passphrase.encode(),
            bytes.fromhex(kdf["salt"]),
            time_cost=kdf["time"],
            memory_cost=kdf["memory_kib"],
            parallelism=kdf["lanes"],
            hash_len=32,
            type=Type.ID,
        )
    )


def _seal(kek: bytearray, told: dict[str, Any]) -> bytes:
    """HMAC-SHA256 over the file's content, under a key of its own made of the other one."""
    key = HKDFExpand(hashes.SHA256(), 32, b"headend vault seal").derive(bytes(kek))
    seal = hmac.HMAC(key, hashes.SHA256())
    content = {name: value for name, value in told.items() if name != "seal"}
    seal.update(json.dumps(content, sort_keys=True).encode())
    return seal.finalize()


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by a whole one, for its owner alone; a crash leaves the old or the new."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
