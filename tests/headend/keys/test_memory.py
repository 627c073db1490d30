"""No key in the memory of the process that serves the web, looked for byte by byte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headend.keys import primitives
from headend.keys.primitives import Algorithm
from headend.keys.vault import Vault
from protocols.card_image import AMOUNT_AT
from protocols.key_call import Purpose
from tests.headend.keys.boxes import AREA, CARD, NOW, PASSPHRASE, quick_kdf, record

# The process of the web: all its modules, and calls that use the keys. With "planted" as its last
# word it holds a root key by mistake.
WEB = """
import asyncio, sys
import headend.app, headend.web.server
from pathlib import Path
from gateways.key_client import KeyBoxClient
from protocols.key_call import KeyCall, Operation, Purpose
assert not any(name.startswith(("headend.keys", "pkcs11")) for name in sys.modules)
async def main():
    client = KeyBoxClient(Path(sys.argv[1]))
    for number in range(50):
        answer = await client.ask(KeyCall(
            operation=Operation.MAC, purpose=Purpose.RECHARGE, scope="site",
            path=(bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])),
            data=number.to_bytes(40, "big")))
    return answer.value
marker = asyncio.run(main())
kept = bytes.fromhex(sys.stdin.readline()) if sys.argv[4] == "planted" else b""
print(marker.hex(), flush=True)
sys.stdin.read()
"""


def in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """Which of these bytes are anywhere in the memory of a process that may be read."""
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if span is None or "[v" in line:
                continue
            start, end = int(span[1], 16), int(span[2], 16)
            try:
                memory.seek(start)
                held = memory.read(end - start)
            except (OSError, ValueError):
                continue
            found |= {name for name, needle in needles.items() if needle in held}
    return found


@pytest.fixture
def root_key() -> bytes:
    return os.urandom(16)  # one that no other test has ever had in its memory


@pytest.fixture
def key_service(tmp_path: Path, root_key: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`headend keys serve`, a real process."""
    quick_kdf(monkeypatch)
    vault = Vault.create(tmp_path / "vault.json", PASSPHRASE)
    known = record(Purpose.RECHARGE)
    assert known.credit is not None
    assert known.credit.offset == AMOUNT_AT
    secret = bytearray(root_key)
    vault.add(
        type(known)(
            purpose=known.purpose,
            scope=known.scope,
            version=1,
            algorithm=Algorithm.AES128,
            kcv=primitives.kcv(Algorithm.AES128, root_key),
            kcv_method=known.kcv_method,
            created_at=NOW,
            active_from=NOW,
            credit=known.credit,
            credit_fen_per_day=100,
        ),
        secret,
    )
    (tmp_path / "pass").write_text(PASSPHRASE)
    (tmp_path / "callers.toml").write_text(
        f'[[caller]]\nname = "web"\nuid = {os.getuid()}\ncalls_per_minute = 6000\n'
        'allow = ["derive_and_mac recharge"]\n'
    )
    command = [sys.executable, "-m", "headend", "keys", "serve", "--keys-folder", str(tmp_path)]
    command += ["--callers", str(tmp_path / "callers.toml"), "--socket", str(tmp_path / "sock")]
    environment = os.environ | {
        "HEADEND_KEYS_SECRET_FILE": str(tmp_path / "pass"),
        "HEADEND_LANG": "en",
    }
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    try:
        assert process.stdout is not None
        assert "answers on" in process.stdout.readline()
        yield tmp_path / "sock"
    finally:
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("how", ["honest", "planted"])
def test_the_memory_of_the_web_process_holds_no_key(
    key_service: Path, root_key: bytes, how: str
) -> None:
    area = primitives.diversify(Algorithm.AES128, root_key, (AREA,))
    card = primitives.diversify(Algorithm.AES128, root_key, (AREA, CARD))
    needles = {"root": root_key, "area": area, "card": card}
    needles |= {f"{name} in hex": key.hex().encode() for name, key in needles.items()}
    command = [sys.executable, "-c", WEB, str(key_service), AREA.hex(), CARD.hex(), how]
    web = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert web.stdin is not None
        assert web.stdout is not None
        if how == "planted":
            web.stdin.write(root_key.hex() + "\n")
            web.stdin.flush()
        marker = bytes.fromhex(web.stdout.readline())
        last = (49).to_bytes(40, "big")
        assert marker == primitives.mac(Algorithm.AES128, card, b"", last), "the keys were used"
        found = in_memory(web.pid, needles | {"the MAC": marker})
    finally:
        web.communicate()
    assert "the MAC" in found, "the search sees what is there"
    assert found - {"the MAC"} == (set() if how == "honest" else {"root", "root in hex"})
