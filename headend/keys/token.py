"""Keys in a PKCS#11 device: they are derived, used and forgotten inside it.

Root keys are sensitive and cannot be extracted; what is known of them is a private data object
beside each. A device gives no single DES, so the retail MAC is made of 3DES steps under K|K, keys
which the device itself derives by data that repeat (spec cards_keys.md A.9). One thread only: the
library takes no locks.

SoftHSM2 is this interface in software, for tests and for trying: it has no lock-out and no tamper
protection.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.constants import DEFAULT, MechanismFlag

from headend.keys import primitives
from headend.keys.box import BoxError, as_table, from_table
from headend.keys.primitives import Algorithm
from headend.keys.records import KeyRecord

_LABEL: Final = "headend-key "
_KINDS: Final = {
    Algorithm.TDES2: KeyType.DES2,
    Algorithm.AES128: KeyType.AES,
    Algorithm.AES256: KeyType.AES,
}
# What every key in the device is: it answers, and it does not leave.
_KEPT: Final = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}


class Token:
    """An open session with one token of a device."""

    def __init__(self, library: Path, label: str, pin: str) -> None:
        """Raises BoxError when the library, the token or the PIN is not the right one."""
        try:
            device = pkcs11.lib(str(library)).get_token(token_label=label)
            self._session = device.open(user_pin=pin, rw=True)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise BoxError(f"the token {label} does not open: {type(error).__name__}") from None

    def records(self) -> list[KeyRecord]:
        """Every version of every key, destroyed ones too."""
        with _said("list its keys"):
            found = [from_table(json.loads(data[Attribute.VALUE])) for data in self._data()]
        return sorted(
            found, key=lambda record: (record.purpose.value, record.scope, record.version)
        )

    def add(self, record: KeyRecord, secret: bytearray) -> None:
        """Import a new version as sensitive and not extractable, and compare its check value."""
        if any(known.key_id == record.key_id for known in self.records()):
            raise BoxError(f"there is a key {record.key_id} already")
        with _said("take the key in"):
            key = self._session.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: _KINDS[record.algorithm],
                    Attribute.VALUE: bytes(secret),
                    Attribute.LABEL: _LABEL + record.key_id,
                    Attribute.TOKEN: True,
                    Attribute.PRIVATE: True,
                    Attribute.DERIVE: True,
                    Attribute.ENCRYPT: True,
                    Attribute.DECRYPT: False,
                    Attribute.SIGN: True,
                    Attribute.WRAP: False,
                    Attribute.UNWRAP: False,
                    **_KEPT,
                }
            )
            if self._kcv(record.algorithm, key) != record.kcv:
                key.destroy()
                raise BoxError("the device shows another check value: nothing was kept")
            self._keep(record)

    def change(self, record: KeyRecord) -> None:
        """Other dates for a known version; a destroyed one loses its object."""
        with _said("change the key"):
            if record.destroyed_at is not None:
                for key in self._session.get_objects(
                    {Attribute.CLASS: ObjectClass.SECRET_KEY, **_labelled(record)}
                ):
                    key.destroy()
            self._keep(record)

    def mac(self, record: KeyRecord, path: tuple[bytes, ...], iv: bytes, data: bytes) -> bytes:
        """The whole MAC under the key at the end of the path. Raises BoxError."""
        with _said("make a MAC"):
            if record.algorithm is Algorithm.TDES2:
                return self._retail_mac(record, path, iv, data)
            if iv:
                raise BoxError("a CMAC has no first block")
            with self._leaf(record, path) as leaf:
                return bytes(leaf.sign(data, mechanism=Mechanism.AES_CMAC))

    def encrypt(self, record: KeyRecord, path: tuple[bytes, ...], data: bytes) -> bytes:
        """ECB over whole blocks under the key at the end of the path. Raises BoxError."""
        if len(data) % record.algorithm.block_bytes or not data:
            raise BoxError(f"whole blocks of {record.algorithm.block_bytes} bytes")
        with _said("encipher"), self._leaf(record, path) as leaf:
            return _ecb(record.algorithm, leaf, data)

    def close(self) -> None:
        """Log out."""
        self._session.close()

    def _retail_mac(
        self, record: KeyRecord, path: tuple[bytes, ...], iv: bytes, data: bytes
    ) -> bytes:
        *above, device = path
        inverse = bytes(byte ^ 0xFF for byte in device)
        padded = data + b"\x80" + bytes(-(len(data) + 1) % 8)
        with (
            self._leaf(record, tuple(above)) as area,
            self._derived(Algorithm.TDES2, area, device * 2) as left,
            self._derived(Algorithm.TDES2, area, inverse * 2) as right,
        ):
            block = iv or bytes(8)
            for at in range(0, len(padded), 8):
                mixed = bytes(a ^ b for a, b in zip(block, padded[at : at + 8], strict=True))
                block = _ecb(Algorithm.TDES2, left, mixed)
            opened = bytes(right.decrypt(block, mechanism=Mechanism.DES3_ECB))
            return _ecb(Algorithm.TDES2, left, opened)

    @contextmanager
    def _leaf(self, record: KeyRecord, path: tuple[bytes, ...]) -> Iterator[Any]:
        key, made = self._root(record), []
        try:
            for level in path:
                key = self._derive(record.algorithm, key, primitives.level_block(level))
                made.append(key)
            yield key
        finally:
            for one in made:
                one.destroy()

    @contextmanager
    def _derived(self, algorithm: Algorithm, key: Any, data: bytes) -> Iterator[Any]:
        made = self._derive(algorithm, key, data)
        try:
            yield made
        finally:
            made.destroy()

    def _derive(self, algorithm: Algorithm, key: Any, data: bytes) -> Any:
        template = {
            Attribute.TOKEN: False,
            Attribute.DERIVE: True,
            Attribute.VALUE_LEN: 16,
            **_KEPT,
        }
        uses = (
            MechanismFlag.ENCRYPT
            | MechanismFlag.DECRYPT
            | MechanismFlag.SIGN
            | MechanismFlag.DERIVE
        )
        if algorithm is not Algorithm.TDES2:
            return key.derive_key(
                KeyType.AES,
                128,
                mechanism=Mechanism.AES_ECB_ENCRYPT_DATA,
                mechanism_param=data,
                capabilities=uses,
                template=template,
            )
        # The library has no wrapper for this mechanism's parameter: an address and a length. A DES2
        # key has one length only, and must not be told it.
        buffer = ctypes.create_string_buffer(data, len(data))
        return key.derive_key(
            KeyType.DES2,
            128,
            mechanism=Mechanism.DES3_ECB_ENCRYPT_DATA,
            mechanism_param=struct.pack("@PN", ctypes.addressof(buffer), len(data)),
            capabilities=uses,
            template=template | {Attribute.VALUE_LEN: DEFAULT},
        )

    def _root(self, record: KeyRecord) -> Any:
        found = list(
            self._session.get_objects(
                {Attribute.CLASS: ObjectClass.SECRET_KEY, **_labelled(record)}
            )
        )
        if len(found) != 1:
            raise BoxError(f"the device has {len(found)} keys {record.key_id}")
        return found[0]

    def _kcv(self, algorithm: Algorithm, key: Any) -> bytes:
        if algorithm is Algorithm.TDES2:
            return _ecb(algorithm, key, bytes(8))[: primitives.KCV_BYTES]
        return bytes(key.sign(bytes(16), mechanism=Mechanism.AES_CMAC))[: primitives.KCV_BYTES]

    def _data(self) -> list[Any]:
        return [
            data
            for data in self._session.get_objects({Attribute.CLASS: ObjectClass.DATA})
            if data[Attribute.LABEL].startswith(_LABEL)
        ]

    def _keep(self, record: KeyRecord) -> None:
        """Replace what is known of a key. A key without its data, after a crash, is unusable."""
        old = [data for data in self._data() if data[Attribute.LABEL] == _LABEL + record.key_id]
        for data in old:
            data.destroy()
        self._session.create_object(
            {
                Attribute.CLASS: ObjectClass.DATA,
                Attribute.LABEL: _LABEL + record.key_id,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.VALUE: json.dumps(as_table(record)).encode(),
            }
        )


def _labelled(record: KeyRecord) -> dict[Attribute, str]:
    return {Attribute.LABEL: _LABEL + record.key_id}


def _ecb(algorithm: Algorithm, key: Any, data: bytes) -> bytes:
    tdes = algorithm is Algorithm.TDES2
    return bytes(key.encrypt(data, mechanism=Mechanism.DES3_ECB if tdes else Mechanism.AES_ECB))


@contextmanager
def _said(what: str) -> Iterator[None]:
    try:
        yield
    except pkcs11.PKCS11Error as error:
        raise BoxError(f"the device did not {what}: {type(error).__name__}") from error
    except ValueError as error:
        raise BoxError(f"the device did not {what}") from error
