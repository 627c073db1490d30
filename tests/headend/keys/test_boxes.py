"""Both boxes do what the primitives do, and give nothing out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass

from headend.keys import primitives
from headend.keys.box import BoxError, KeyBox
from headend.keys.primitives import Algorithm
from headend.keys.records import KeyState
from headend.keys.token import Token
from headend.keys.vault import Vault
from protocols.key_call import Purpose
from tests.headend.keys.boxes import (
    AREA,
    CARD,
    KEYS,
    NOW,
    PASSPHRASE,
    SOFTHSM,
    quick_kdf,
    record,
    softhsm,
    vault,
    with_keys,
)

PATH = (AREA, CARD)


@pytest.fixture(params=["vault", "softhsm"])
def box(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KeyBox]:
    opened = vault if request.param == "vault" else softhsm
    with opened(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_box_derives_and_macs_as_the_standard_says(box: KeyBox, algorithm: Algorithm) -> None:
    known = record(algorithm=algorithm)
    with_keys(box, known)
    leaf = primitives.diversify(algorithm, KEYS[algorithm], PATH)
    for data in (b"x", bytes(40), bytes(range(100))):
        assert box.mac(known, PATH, b"", data) == primitives.mac(algorithm, leaf, b"", data)
    block = bytes(range(algorithm.block_bytes))
    assert box.encrypt(known, PATH, block) == primitives.encrypt(algorithm, leaf, block)
    assert box.mac(known, (AREA, b"OTHER001"), b"", b"x") != box.mac(known, PATH, b"", b"x")
    with pytest.raises(BoxError, match="whole blocks"):
        box.encrypt(known, PATH, b"odd")


def test_a_first_block_reaches_the_retail_mac(box: KeyBox) -> None:
    known = record(algorithm=Algorithm.TDES2)
    with_keys(box, known)
    leaf = primitives.diversify(Algorithm.TDES2, KEYS[Algorithm.TDES2], PATH)
    iv = b"\x11\x22\x33\x44\0\0\0\0"
    assert box.mac(known, PATH, iv, b"abc") == primitives.retail_mac(leaf, iv, b"abc")


def test_versions_live_and_are_destroyed(box: KeyBox) -> None:
    first, second = record(), record(version=2)
    with_keys(box, first, second)
    with pytest.raises(BoxError, match="already"):
        box.add(first, bytearray(KEYS[Algorithm.AES128]))
    gone = replace(first, destroyed_at=NOW, stop_accept=NOW, stop_issue=NOW)
    box.change(gone)
    assert {one.version: one.state(NOW) for one in box.records()} == {
        1: KeyState.DESTROYED,
        2: KeyState.ACTIVE,
    }
    with pytest.raises(BoxError):
        box.mac(gone, PATH, b"", b"x")
    ended = replace(second, stop_issue=NOW + timedelta(days=1))
    box.change(ended)
    assert ended in box.records()
    assert box.mac(ended, PATH, b"", b"x")


def test_a_vault_is_nothing_without_its_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vault(tmp_path, monkeypatch) as made:
        with_keys(made, record())
    file = tmp_path / "vault.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEYS[Algorithm.AES128].hex() not in file.read_text()
    with pytest.raises(BoxError, match="does not open"):
        Vault.open(file, "another passphrase")
    with pytest.raises(BoxError, match="exists already"):
        Vault.create(file, PASSPHRASE)
    with pytest.raises(BoxError, match="12 characters"):
        Vault.create(tmp_path / "other", "short")
    assert Vault.open(file, PASSPHRASE).records() == [record()]


def _tampered(told: dict[str, object], how: str) -> None:
    keys = told["keys"]
    assert isinstance(keys, list)
    if how == "another purpose":
        keys[0]["record"]["purpose"] = "control"
    elif how == "revival":
        keys[0]["record"]["stop_accept"] = None
    elif how == "a row less":
        keys.pop()
    else:
        keys[0]["wrapped"], keys[1]["wrapped"] = keys[1]["wrapped"], keys[0]["wrapped"]


@pytest.mark.parametrize("how", ["another purpose", "revival", "a row less", "swapped"])
def test_a_changed_vault_does_not_open(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vault(tmp_path, monkeypatch) as made:
        stop = NOW + timedelta(days=1)
        with_keys(made, replace(record(), stop_accept=stop, stop_issue=stop), record(version=2))
    file = tmp_path / "vault.json"
    told = json.loads(file.read_text())
    _tampered(told, how)
    file.write_text(json.dumps(told))
    with pytest.raises(BoxError, match="was changed"):
        Vault.open(file, PASSPHRASE)


def test_the_ciphertext_alone_is_bound_to_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with a seal made good again, a row cannot serve another purpose."""
    with vault(tmp_path, monkeypatch) as made:
        with_keys(made, record())
        moved = record(Purpose.CONTROL)
        made._rows[0].record = moved  # type: ignore[attr-defined]
        with pytest.raises(BoxError, match="was changed"):
            made.mac(moved, PATH, b"", b"x")


def test_a_new_passphrase_changes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vault(tmp_path, monkeypatch) as made:
        assert isinstance(made, Vault)
        with_keys(made, record())
        before = made.mac(record(), PATH, b"", b"x")
        made.change_passphrase("quite another passphrase")
        assert made.mac(record(), PATH, b"", b"x") == before
    again = Vault.open(tmp_path / "vault.json", "quite another passphrase")
    assert again.mac(record(), PATH, b"", b"x") == before


def test_a_backup_goes_into_an_empty_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_kdf(monkeypatch)
    first = Vault.create(tmp_path / "first", PASSPHRASE)
    with_keys(first, record(), record(Purpose.RECHARGE, Algorithm.TDES2))
    sealed = first.export(bytes(32))
    second = Vault.create(tmp_path / "second", "quite another passphrase")
    with pytest.raises(BoxError, match="these shares"):
        second.take_in(b"\1" * 32, sealed)
    assert second.take_in(bytes(32), sealed) == 2
    assert second.records() == first.records()
    assert second.mac(record(), PATH, b"", b"x") == first.mac(record(), PATH, b"", b"x")
    with pytest.raises(BoxError, match="empty vault"):
        second.take_in(bytes(32), sealed)


def test_a_device_gives_no_key_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with softhsm(tmp_path, monkeypatch) as made:
        with_keys(made, record(), record(Purpose.RECHARGE, Algorithm.TDES2))
        session = made._session  # type: ignore[attr-defined]
        found = list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))
        assert len(found) == 2
        for key in found:
            with pytest.raises(pkcs11.exceptions.AttributeSensitive):
                key[Attribute.VALUE]
            with pytest.raises(pkcs11.exceptions.AttributeReadOnly):
                key[Attribute.EXTRACTABLE] = True
    with pytest.raises(BoxError, match="does not open"):
        Token(SOFTHSM, "headend-keys", "9999")
    with pytest.raises(BoxError, match="does not open"):
        Token(tmp_path / "no-such-library.so", "headend-keys", "1234")


def test_a_device_compares_the_check_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with softhsm(tmp_path, monkeypatch) as made:
        with pytest.raises(BoxError, match="another check value"):
            made.add(replace(record(), kcv=b"abc"), bytearray(KEYS[Algorithm.AES128]))
        assert made.records() == []
        assert not list(
            made._session.get_objects(  # type: ignore[attr-defined]
                {Attribute.CLASS: ObjectClass.SECRET_KEY}
            )
        )
