"""Vaults and tokens for tests, and keys to put into them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pkcs11
import pytest

from headend.keys import vault as vault_module
from headend.keys.box import KeyBox
from headend.keys.limits import Caller
from headend.keys.primitives import Algorithm, kcv
from headend.keys.records import CREDITS, CreditField, KeyRecord
from headend.keys.vault import Vault
from protocols.card_image import AMOUNT_AT
from protocols.key_call import Operation, Purpose

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
SCOPE = "site"
AREA, CARD = b"AREA0001", bytes.fromhex("deadbeef00000000")
PASSPHRASE = "correct horse battery staple"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
KEYS = {
    Algorithm.TDES2: bytes.fromhex("0123456789abcdeffedcba9876543210"),
    Algorithm.AES128: bytes(range(16)),
    Algorithm.AES256: bytes(range(32)),
}


def record(
    purpose: Purpose = Purpose.WRITE_BACK,
    algorithm: Algorithm = Algorithm.AES128,
    *,
    version: int = 1,
    credit_fen_per_day: int = 100_000,
) -> KeyRecord:
    """What is known of a test key."""
    makes_money = purpose in CREDITS
    return KeyRecord(
        purpose=purpose,
        scope=SCOPE,
        version=version,
        algorithm=algorithm,
        kcv=kcv(algorithm, KEYS[algorithm]),
        kcv_method=algorithm.kcv_method,
        created_at=NOW,
        active_from=NOW,
        credit=CreditField(offset=AMOUNT_AT, length=4) if makes_money else None,
        credit_fen_per_day=credit_fen_per_day if makes_money else None,
    )


def with_keys(box: KeyBox, *records: KeyRecord) -> KeyBox:
    """The box, with these keys in it."""
    for one in records:
        box.add(one, bytearray(KEYS[one.algorithm]))
    return box


def caller(*allow: tuple[Operation, Purpose], calls_per_minute: int = 1000) -> Caller:
    """A program that may do this."""
    return Caller(
        name="head-end", uid=4242, calls_per_minute=calls_per_minute, allow=frozenset(allow)
    )


def quick_kdf(patch: pytest.MonkeyPatch) -> None:
    """Argon2id as weak as it goes: these tests are not about its cost."""
    patch.setattr(vault_module, "_KDF", {"time": 1, "memory_kib": 64, "lanes": 1})


@contextmanager
def softhsm(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[KeyBox]:
    """A fresh token of SoftHSM2 in a folder of its own."""
    from headend.keys.token import Token

    tokens = folder / "tokens"
    if not tokens.exists():
        tokens.mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\n")
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        command = "softhsm2-util --init-token --free --label headend-keys --so-pin 12345678"
        subprocess.run([*command.split(), "--pin", "1234"], check=True, capture_output=True)
        pkcs11.lib(str(SOFTHSM)).reinitialize()  # it read the folder of the test before
    token = Token(SOFTHSM, "headend-keys", "1234")
    try:
        yield token
    finally:
        token.close()


@contextmanager
def vault(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[KeyBox]:
    """A fresh vault."""
    quick_kdf(patch)
    made = Vault.create(folder / "vault.json", PASSPHRASE)
    yield made
    made.close()
