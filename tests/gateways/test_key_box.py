"""Key holders against the simulated chip: a file, a real PKCS#11 token, an encryptor over TCP."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateways.key_box import Encryptor, file_holder, token_holder
from headend.domain.problems import Problem
from headend.services.key_holders import key_holder_of
from protocols.exchange import KeysAway
from protocols.keys import KeyHolder
from simulators.dlt645_purse import code

KEY = bytes(range(32))
NUMBER = "230615000001"
DIVIDER = bytes(2) + bytes.fromhex(NUMBER)
CHALLENGE = b"\x01\x02\x03\x04"
FIELDS = (b"\x00\x00\x13\x88", b"\x00\x00\x00\x07", b"\x00\x00\x00\x01\x23\x45")
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY.hex() + "\n")
    path.chmod(0o600)
    return path


def speaks_to_the_chip(holder: KeyHolder) -> None:
    """The chip, which is written by somebody else, accepts every code and is proved by its own."""
    made = holder.authenticate(NUMBER)
    assert made[:8] == code(KEY, b"identity", DIVIDER, made[8:])
    macs = holder.seal(NUMBER, CHALLENGE, FIELDS)
    assert macs[:4] == code(KEY, b"purse", DIVIDER, CHALLENGE, *FIELDS)[:4]
    assert macs[4:] == code(KEY, b"customer", DIVIDER, CHALLENGE, FIELDS[2])[:4]
    told = code(KEY, b"query", DIVIDER, CHALLENGE, b"\x00\x00\x00\x07")[:4]
    assert holder.open(NUMBER, CHALLENGE, b"\x00\x00\x00\x07", told) == b"\x00\x00\x00\x07"
    with pytest.raises(KeysAway):
        holder.open(NUMBER, CHALLENGE, b"\x00\x00\x00\x08", told)


def test_a_key_file_speaks_to_the_chip(key_file: Path) -> None:
    speaks_to_the_chip(file_holder(key_file))


def test_two_sessions_never_begin_alike(key_file: Path) -> None:
    holder = file_holder(key_file)
    assert holder.authenticate(NUMBER) != holder.authenticate(NUMBER)


def test_a_key_file_that_others_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(KeysAway, match="chmod 600"):
        file_holder(key_file)
    key_file.chmod(0o600)
    key_file.write_text("beef")
    with pytest.raises(KeysAway, match="64 hex digits") as error:
        file_holder(key_file)
    assert "beef" not in str(error.value)


@pytest.mark.skipif(
    not SOFTHSM.exists() or not shutil.which("softhsm2-util"), reason="softhsm2 is not installed"
)
def test_a_token_speaks_to_the_chip_and_keeps_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process of its own: a PKCS#11 library reads its settings once and lives as long as it.
    config, store = tmp_path / "softhsm2.conf", tmp_path / "tokens"
    store.mkdir()
    config.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(config)}
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "t", "--pin", "1234"]
        + ["--so-pin", "1234"],
        env=environment,
        check=True,
        capture_output=True,
    )
    program = f"""
import pkcs11
from pathlib import Path
from tests.gateways.test_key_box import KEY, SOFTHSM, speaks_to_the_chip
from gateways.key_box import token_holder
from protocols.exchange import KeysAway
with pkcs11.lib({str(SOFTHSM)!r}).get_token(token_label="t").open(rw=True, user_pin="1234") as s:
    s.create_object({{
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
        pkcs11.Attribute.LABEL: "meters", pkcs11.Attribute.VALUE: KEY, pkcs11.Attribute.SIGN: True,
        pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.SENSITIVE: True,
        pkcs11.Attribute.EXTRACTABLE: False}})
speaks_to_the_chip(token_holder({str(SOFTHSM)!r}, "t", "1234", "meters"))
try:
    token_holder({str(SOFTHSM)!r}, "t", "9999", "meters").authenticate("{NUMBER}")
except KeysAway as error:
    assert "9999" not in str(error)
    print("well")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "well\n", ran.stderr


class _Maker(socketserver.StreamRequestHandler):
    """A maker's machine: answers one question for each connection."""

    said: ClassVar[dict[str, Any]] = {}

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        answer = type(self).said.get(asked["do"])
        if answer is not None:
            self.wfile.write(json.dumps(answer).encode() + b"\n")


@pytest.fixture
def maker() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Maker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_an_encryptor_is_asked_and_believed_only_when_it_makes_sense(maker: int) -> None:
    holder = Encryptor("127.0.0.1", maker)
    _Maker.said = {
        "authenticate": {"result": "11" * 16},
        "seal": {"error": "this meter is not on the list"},
        "open": {"result": "11"},
    }
    assert holder.authenticate(NUMBER) == b"\x11" * 16
    with pytest.raises(KeysAway, match="not on the list"):
        holder.seal(NUMBER, CHALLENGE, FIELDS)
    with pytest.raises(KeysAway, match="no sense"):
        holder.open(NUMBER, CHALLENGE, b"\x00\x00\x00\x07", b"\x00" * 4)


def test_an_encryptor_that_is_away_is_said_so() -> None:
    with pytest.raises(KeysAway, match=r"127\.0\.0\.1:1 cannot be asked: Connection refused"):
        Encryptor("127.0.0.1", 1).authenticate(NUMBER)


def test_settings_name_a_key_holder(key_file: Path) -> None:
    assert key_holder_of("") is None
    assert key_holder_of(f"file:{key_file}") is not None
    assert isinstance(key_holder_of("encryptor://127.0.0.1:7000"), Encryptor)
    for wrong in ("file:/nowhere", "vault:x", "pkcs11:/lib.so?token=t", "encryptor://host"):
        with pytest.raises(Problem) as error:
            key_holder_of(wrong)
        assert error.value.code == "settings-unreadable"


def test_a_token_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(KeysAway, match="does not work"):
        token_holder(str(tmp_path / "none.so"), "t", "1234", "meters").authenticate(NUMBER)
