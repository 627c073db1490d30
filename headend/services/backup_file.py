"""The file of a backup: one stream of named parts, encrypted block by block.

    "HEADEND-BACKUP 1\\n"
    one line of JSON: when it was made, how the passphrase becomes the key
    blocks: 4 bytes of length, then AES-256-GCM of up to a mebibyte

The key is made from the passphrase by Argon2id. A block's nonce is its number and whether it is the
last one, and the first two lines are bound into every block: no block can be moved, left out, taken
from another file, or cut off the end without being noticed (the STREAM construction of Hoang,
Reyhanitabar, Rogaway and Vizár, 2015). Inside are the parts: a line of JSON with a name, its bytes
in pieces, an empty piece; the last part is the manifest, with the digest of every other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO, Final

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headend.domain.problems import Problem

MAGIC: Final = b"HEADEND-BACKUP 1\n"
MANIFEST: Final = "manifest.json"
BLOCK_BYTES: Final = 1 << 20
HEADER_BYTES_MAX: Final = 4096
_TAG_BYTES: Final = 16
# RFC 9106, the second recommendation: 64 MiB, three passes, four lanes.
KDF: Final = {"time": 3, "memory_kib": 65_536, "lanes": 4}
# What a foreign file may make us spend.
_KDF_MAX: Final = {"time": 16, "memory_kib": 1 << 20, "lanes": 16}
_LENGTH: Final = struct.Struct(">I")


class BackupWriter:
    """Writes one backup into an open file. Call `part` for each part, then `end`."""

    def __init__(self, file: BinaryIO, passphrase: bytes, made_at: datetime) -> None:
        kdf: dict[str, Any] = KDF | {"salt": os.urandom(16).hex()}
        key = _key_of(passphrase, kdf)
        header = {"made_at": made_at.isoformat(), "kdf": kdf, "check": _check(key)}
        self._head = MAGIC + json.dumps(header).encode() + b"\n"
        self._file, self._cipher = file, AESGCM(key)
        self._number, self._waiting = 0, bytearray()
        self._digests: list[dict[str, Any]] = []
        file.write(self._head)

    def part(self, name: str, pieces: Iterator[bytes], **about: object) -> int:
        """One part from its bytes; returns how many they were."""
        digest, size = hashlib.sha256(), 0
        self._put(json.dumps({"name": name, **about}).encode() + b"\n")
        for piece in pieces:
            if piece:
                digest.update(piece)
                size += len(piece)
                self._put(_LENGTH.pack(len(piece)) + piece)
        self._put(_LENGTH.pack(0))
        self._digests.append({"name": name, "bytes": size, "sha256": digest.hexdigest()})
        return size

    def end(self, facts: dict[str, Any]) -> None:
        """The manifest, and the block that says there is no more."""
        manifest = json.dumps({"parts": self._digests, "facts": facts}).encode()
        self._put(json.dumps({"name": MANIFEST}).encode() + b"\n")
        self._put(_LENGTH.pack(len(manifest)) + manifest + _LENGTH.pack(0))
        self._seal(bytes(self._waiting), is_last=True)

    def _put(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) > BLOCK_BYTES:
            self._seal(bytes(self._waiting[:BLOCK_BYTES]), is_last=False)
            del self._waiting[:BLOCK_BYTES]

    def _seal(self, block: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, is_last), block, self._head)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


class BackupReader:
    """Reads a backup and believes nothing of it before its tag was right.

    Raises Problem: not a backup, wrong passphrase, cut short, damaged.
    """

    def __init__(self, file: BinaryIO, passphrase: bytes, name: str) -> None:
        self._name, self._file = name, file
        head = file.readline(len(MAGIC))
        line = file.readline(HEADER_BYTES_MAX)
        try:
            header = json.loads(line)
            kdf, self.made_at = header["kdf"], datetime.fromisoformat(header["made_at"])
            if head != MAGIC or any(not 1 <= kdf[part] <= _KDF_MAX[part] for part in _KDF_MAX):
                raise ValueError
            key = _key_of(passphrase, kdf)
        except (ValueError, KeyError, TypeError) as error:
            raise Problem("not-a-backup", file=name) from error
        if not hmac.compare_digest(_check(key), str(header.get("check"))):
            raise Problem("backup-passphrase", file=name)
        self._head, self._cipher = head + line, AESGCM(key)
        self._number, self._ended, self._have = 0, False, bytearray()
        self.facts: dict[str, Any] = {}

    def parts(self) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
        """(about it, its bytes) of every part in turn; read each to its end before the next.

        After the last one everything was checked against the manifest, and `facts` is there.
        """
        digests: list[dict[str, Any]] = []
        while True:
            about = self._about()
            if about["name"] == MANIFEST:
                break
            digest = {"name": about["name"], "bytes": 0, "hash": hashlib.sha256()}
            digests.append(digest)
            yield about, self._pieces(digest)
        manifest = json.loads(b"".join(self._pieces({"bytes": 0, "hash": hashlib.sha256()})))
        found = [
            {"name": one["name"], "bytes": one["bytes"], "sha256": one["hash"].hexdigest()}
            for one in digests
        ]
        # The last block says that it is the last one: else more was there once.
        if found != manifest["parts"] or self._have or not self._ended or self._file.read(1):
            raise Problem("backup-damaged", file=self._name)
        self.facts = manifest["facts"]

    def _about(self) -> dict[str, Any]:
        while b"\n" not in self._have:
            self._next_block()
        line, _, rest = bytes(self._have).partition(b"\n")
        self._have = bytearray(rest)
        about: dict[str, Any] = json.loads(line)
        return about

    def _pieces(self, digest: dict[str, Any]) -> Iterator[bytes]:
        while size := _LENGTH.unpack(self._take(_LENGTH.size))[0]:
            piece = self._take(size)
            digest["hash"].update(piece)
            digest["bytes"] += size
            yield piece

    def _take(self, count: int) -> bytes:
        while len(self._have) < count:
            self._next_block()
        taken = bytes(self._have[:count])
        del self._have[:count]
        return taken

    def _next_block(self) -> None:
        size = self._file.read(_LENGTH.size)
        if self._ended or len(size) < _LENGTH.size:
            raise Problem("backup-cut-short", file=self._name)
        length = _LENGTH.unpack(size)[0]
        if not _TAG_BYTES <= length <= BLOCK_BYTES + _TAG_BYTES:
            raise Problem("backup-damaged", file=self._name)
        sealed = self._file.read(length)
        if len(sealed) < length:
            raise Problem("backup-cut-short", file=self._name)
        for is_last in (False, True):
            try:
                block = self._cipher.decrypt(_nonce(self._number, is_last), sealed, self._head)
            except InvalidTag:
                continue
            self._number, self._ended = self._number + 1, is_last
            self._have += block
            return
        raise Problem("backup-damaged", file=self._name)


def _nonce(number: int, is_last: bool) -> bytes:
    """Unique under this file's key: 11 bytes of number, one of whether it is the last."""
    return number.to_bytes(11, "big") + bytes([is_last])


def _key_of(passphrase: bytes, kdf: dict[str, Any]) -> bytes:
    return hash_secret_raw(
        passphrase,
        bytes.fromhex(kdf["salt"]),
        time_cost=kdf["time"],
        memory_cost=kdf["memory_kib"],
        parallelism=kdf["lanes"],
        hash_len=32,
        type=Type.ID,
    )


def _check(key: bytes) -> str:
    """Tells a wrong passphrase from a damaged file. Whoever guesses learns no more by it than by
    the first block."""
    return hmac.new(key, b"headend backup: is this the key?", "sha256").hexdigest()
