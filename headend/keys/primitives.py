"""The few cryptographic steps of card keys, all from `cryptography`; nothing here is our invention.

3DES with two keys, as PBOC cards have it: diversification E(K, S) | E(K, ~S), the MAC of ISO/IEC
9797-1 algorithm 3 with padding method 2, the check value over zeros. AES: diversification by one
block S | ~S (PKCS#11's AES_ECB_ENCRYPT_DATA), CMAC, the check value over a CMAC of zeros
(ANSI X9.24). Spec cards_keys.md A.6, A.9, C.2.
"""

from __future__ import annotations

import enum
import hmac
import warnings

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

KCV_BYTES = 3


class Algorithm(enum.Enum):
    """What a root key is; decides how its devices are derived and what a MAC is."""

    TDES2 = "3des2"  # 16 bytes: two DES keys
    AES128 = "aes128"
    AES256 = "aes256"

    @property
    def key_bytes(self) -> int:
        """How long such a key is."""
        return 32 if self is Algorithm.AES256 else 16

    @property
    def block_bytes(self) -> int:
        """How long one block of it is."""
        return 8 if self is Algorithm.TDES2 else 16

    @property
    def kcv_method(self) -> str:
        """How its check value is made; stored with it, since both habits are about."""
        return "3des-zeros" if self is Algorithm.TDES2 else "aes-cmac-zeros"


def _tdes(key16: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 3DES is old is known; the cards are older
        cipher = Cipher(TripleDES(key16 + key16[:8]), modes.ECB())
    step = cipher.decryptor() if decrypt else cipher.encryptor()
    return step.update(data) + step.finalize()


def encrypt(algorithm: Algorithm, key: bytes, data: bytes) -> bytes:
    """ECB over whole blocks: for challenges, which are one block or two."""
    if len(data) % algorithm.block_bytes or not data:
        raise ValueError(f"whole blocks of {algorithm.block_bytes} bytes, not {len(data)} bytes")
    if algorithm is Algorithm.TDES2:
        return _tdes(key, data)
    step = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return step.update(data) + step.finalize()


def level_block(level: bytes) -> bytes:
    """Eight bytes and their complement: what a level is derived by."""
    return level + bytes(byte ^ 0xFF for byte in level)


def diversify(algorithm: Algorithm, key: bytes, path: tuple[bytes, ...]) -> bytes:
    """The key at the end of the path: 16 bytes, of the root's family."""
    for level in path:
        key = encrypt(algorithm, key, level_block(level))
    return key


def retail_mac(key16: bytes, iv: bytes, data: bytes) -> bytes:
    """ISO/IEC 9797-1 algorithm 3 with padding method 2, eight bytes."""
    left, right = key16[:8], key16[8:]
    block = iv or bytes(8)
    padded = data + b"\x80" + bytes(-(len(data) + 1) % 8)
    for at in range(0, len(padded), 8):
        mixed = bytes(a ^ b for a, b in zip(block, padded[at : at + 8], strict=True))
        block = _tdes(left + left, mixed)
    return _tdes(left + left, _tdes(right + right, block, decrypt=True))


def mac(algorithm: Algorithm, key: bytes, iv: bytes, data: bytes) -> bytes:
    """The MAC of this family: 8 bytes with 3DES, 16 with AES, which takes no first block."""
    if algorithm is Algorithm.TDES2:
        return retail_mac(key, iv, data)
    if iv:
        raise ValueError("a CMAC has no first block")
    cmac = CMAC(algorithms.AES(key))
    cmac.update(data)
    return cmac.finalize()


def kcv(algorithm: Algorithm, key: bytes) -> bytes:
    """Three bytes that say which key it is, not what it is."""
    if algorithm is Algorithm.TDES2:
        return _tdes(key, bytes(8))[:KCV_BYTES]
    return mac(algorithm, key, b"", bytes(16))[:KCV_BYTES]


def is_weak(algorithm: Algorithm, key: bytes) -> str | None:
    """Why no key like this may be used; None: it may."""
    if len(key) != algorithm.key_bytes:
        return f"it has {len(key)} bytes, not {algorithm.key_bytes}"
    if len(set(key)) == 1:
        return "all its bytes are equal"
    if algorithm is not Algorithm.TDES2:
        return None
    halves = [bytes(byte & 0xFE for byte in half) for half in (key[:8], key[8:])]  # no parity
    if halves[0] == halves[1]:
        return "its halves are equal: that is single DES"
    if any(half in _WEAK_DES for half in halves):
        return "one half is a weak DES key"
    return None


def _weak_des() -> frozenset[bytes]:
    """The 4 weak and 12 semi-weak DES keys, without parity bits."""
    parts = {
        (bytes(4), bytes(4)), (b"\xfe" * 4, b"\xfe" * 4),
        (b"\xe0" * 4, b"\xf0" * 4), (b"\x1e" * 4, b"\x0e" * 4),
    }  # fmt: skip
    pairs = (
        ("00fe00fe00fe00fe", "fe00fe00fe00fe00"), ("1ee01ee00ef00ef0", "e01ee01ef00ef00e"),
        ("00e000e000f000f0", "e000e000f000f000"), ("1efe1efe0efe0efe", "fe1efe1efe0efe0e"),
        ("001e001e000e000e", "1e001e000e000e00"), ("e0fee0fef0fef0fe", "fee0fee0fef0fef0"),
    )  # fmt: skip
    return frozenset(
        {left + right for left, right in parts}
        | {bytes.fromhex(one) for pair in pairs for one in pair}
    )


_WEAK_DES = _weak_des()


def same(one: bytes, other: bytes) -> bool:
    """Whether two MACs are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def wipe(secret: bytearray) -> None:
    """Overwrite a secret in place. Python may have copied it before; this wipes what we can reach.

    What was made from it as `bytes` cannot be wiped. The process should be short and without a
    core dump.
    """
    for index in range(len(secret)):
        secret[index] = 0
