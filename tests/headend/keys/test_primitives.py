"""The steps against published examples, not against themselves."""

from __future__ import annotations

import pytest

from headend.keys.primitives import (
    Algorithm,
    diversify,
    encrypt,
    is_weak,
    kcv,
    mac,
    retail_mac,
    same,
    wipe,
)


def test_the_session_key_of_the_public_pboc_example() -> None:
    load_key = bytes.fromhex("11223344556677888877665544332211")
    told = encrypt(Algorithm.TDES2, load_key, bytes.fromhex("1122334400008000"))
    assert told.hex() == "9b1d924e05595603"  # spec cards_keys.md A.6


def test_the_retail_mac_of_the_passport_example() -> None:
    key = bytes.fromhex("7962d9ece03d1acd4c76089dce131543")  # ICAO 9303-11, appendix D
    data = bytes.fromhex("72c29c2371cc9bdb65b779b8e8d37b29ecc154aa56a8799fae2f498f76ed92f2")
    assert retail_mac(key, b"", data).hex() == "5f1448eea8ad90a7"


def test_the_cmac_of_the_rfc() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")  # RFC 4493
    data = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert mac(Algorithm.AES128, key, b"", data).hex() == "070a16b46b4d4144f79bdd9dd04a287c"


def test_a_first_block_changes_a_retail_mac_and_a_cmac_has_none() -> None:
    key = bytes(range(16))
    assert mac(Algorithm.TDES2, key, b"12345678", b"x") != mac(Algorithm.TDES2, key, b"", b"x")
    with pytest.raises(ValueError, match="no first block"):
        mac(Algorithm.AES128, key, b"12345678", b"x")


def test_two_levels_are_one_after_the_other() -> None:
    root = bytes.fromhex("0123456789abcdeffedcba9876543210")
    area, card = b"AREA0001", b"CARD0001"
    step = diversify(Algorithm.TDES2, root, (area,))
    assert diversify(Algorithm.TDES2, root, (area, card)) == diversify(
        Algorithm.TDES2, step, (card,)
    )
    inverse = bytes(byte ^ 0xFF for byte in area)
    assert step == encrypt(Algorithm.TDES2, root, area) + encrypt(Algorithm.TDES2, root, inverse)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("0123456789abcdeffedcba9876543210", None),
        ("0123456789abcdef0123456789abcdef", "halves"),
        ("0101010101010101fedcba9876543210", "weak"),
        ("0123456789abcdef1f1f1f1f0e0e0e0e", "weak"),
        ("0123456789abcdef01fe01fe01fe01fe", "weak"),
        ("0000000000000000000000000000000000", "17 bytes"),
        ("ff" * 16, "equal"),
    ],
)
def test_keys_that_may_not_be_used(key: str, told: str | None) -> None:
    why = is_weak(Algorithm.TDES2, bytes.fromhex(key))
    assert (why is None) if told is None else (why is not None and told in why)


def test_parity_bits_do_not_hide_equal_halves() -> None:
    left = bytes.fromhex("0123456789abcdef")
    flipped = bytes(byte ^ 1 for byte in left)
    assert "halves" in str(is_weak(Algorithm.TDES2, left + flipped))


def test_check_values_and_wiping() -> None:
    assert kcv(Algorithm.TDES2, bytes.fromhex("0123456789abcdeffedcba9876543210")).hex() == "08d7b4"
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)
    assert same(b"abc", b"abc")
    assert not same(b"abc", b"abd")
