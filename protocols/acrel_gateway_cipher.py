"""How an Acrel gateway proves and hides what it says (spec acrel.md 4.2).

The maker's choices, not ours: one secret of 16 bytes a gateway is the key and the first vector of
AES-128-CBC and goes into the MD5 of the login. There is no checksum of the content, so whoever
holds the secret can say anything, and an old frame sent again deciphers as well as a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK_BYTES = 16


class Undecipherable(ValueError):
    """Bytes that this secret, or this packing, does not explain. The text is one clause."""


def encipher(plain: bytes, key: bytes) -> bytes:
    """AES-128-CBC with the key as its first vector, padded to whole blocks."""
    padder = PKCS7(8 * BLOCK_BYTES).padder()
    encryptor = _cipher(key).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()


def decipher(ciphertext: bytes, key: bytes) -> bytes:
    """The inverse of encipher(). Raises Undecipherable."""
    if not ciphertext or len(ciphertext) % BLOCK_BYTES:
        raise Undecipherable("its length is not whole blocks")
    decryptor = _cipher(key).decryptor()
    unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Undecipherable("it was not enciphered with this secret") from None


def unpack(packed: bytes, bytes_max: int) -> bytes:
    """Inflate, but no further than `bytes_max`: a few kilobytes could unfold to gigabytes.
    Raises Undecipherable."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(packed, bytes_max + 1)
    except zlib.error:
        raise Undecipherable("it does not inflate") from None
    if len(plain) > bytes_max:
        raise Undecipherable(f"it inflates to more than {bytes_max} bytes")
    if not inflater.eof:
        raise Undecipherable("it ends before its end")
    return plain


def proof(secret: bytes, sequence: str) -> str:
    """What a gateway that knows the secret answers to a sequence: MD5 in hex, lower case."""
    # Not for security as we would choose it: the maker's protocol knows no other.
    return hashlib.md5(secret + sequence.encode(), usedforsecurity=False).hexdigest()


def is_proof(given: str, secret: bytes, sequence: str) -> bool:
    """Whether this is that answer, in upper or lower case; takes as long for a near miss."""
    return hmac.compare_digest(given.strip().lower().encode(), proof(secret, sequence).encode())


def _cipher(key: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES128(key), modes.CBC(key))
