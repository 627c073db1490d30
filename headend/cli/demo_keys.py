"""The key service of the demonstration: a process of its own, as everywhere, with keys of a day.

    python -m headend.cli.demo_keys FOLDER

Five root keys are made from the components of two custodians who are this program, served on
FOLDER/keys.sock until a signal, and written for the makers of the simulated meters into
FOLDER/meter-keys.json: their slots hold them from the factory on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from pathlib import Path

from headend.domain.clock import SystemClock
from headend.keys.ceremony import Component, combine
from headend.keys.limits import Caller
from headend.keys.log import KeyLog
from headend.keys.primitives import Algorithm, kcv, wipe
from headend.keys.records import CREDITS, CreditField, KeyRecord
from headend.keys.service import KeyService, serving
from headend.keys.vault import Vault
from headend.settings import Settings
from protocols.card_image import AMOUNT_AT
from protocols.key_call import Operation, Purpose

SOCKET, LOG, METER_KEYS = "keys.sock", "key-log.jsonl", "meter-keys.json"
METERS = (Purpose.RECHARGE, Purpose.PARAMETERS, Purpose.WRITE_BACK)  # what a meter holds
PURPOSES = (*METERS, Purpose.TERMINAL_WRITE_BACK, Purpose.CARD_ACCESS)
CREDIT_FEN_PER_DAY = 1_000_000
ALLOWED = frozenset(
    {
        (Operation.MAC, Purpose.RECHARGE),
        (Operation.CHECK, Purpose.RECHARGE),
        (Operation.KCV, Purpose.RECHARGE),
        (Operation.CHECK, Purpose.WRITE_BACK),
        (Operation.MAC, Purpose.CARD_ACCESS),
        (Operation.MAC, Purpose.TERMINAL_WRITE_BACK),
        (Operation.CHECK, Purpose.TERMINAL_WRITE_BACK),
        (Operation.KCV, Purpose.TERMINAL_WRITE_BACK),
    }
)


def main(folder: Path) -> None:
    """Make the keys and serve them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault = Vault.create(folder / "vault.json", secrets.token_hex(16))
    told = {"area": Settings().card_area}
    for purpose in PURPOSES:
        key = _made(vault, purpose)
        if purpose in METERS:
            told[purpose.value] = key.hex()
        wipe(key)
    beside = folder / f"{METER_KEYS}.new"
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(told), encoding="ascii")
    beside.replace(folder / METER_KEYS)
    with contextlib.closing(KeyLog(folder / LOG)) as log, contextlib.closing(vault):
        caller = Caller(name="head-end", uid=os.getuid(), calls_per_minute=60_000, allow=ALLOWED)
        service = KeyService(vault, log, {caller.uid: caller}, SystemClock())
        asyncio.run(_serve(service, folder / SOCKET))


def _made(vault: Vault, purpose: Purpose) -> bytearray:
    algorithm = Algorithm.AES128
    components = [
        Component(custodian, bytearray(secrets.token_bytes(algorithm.key_bytes)))
        for custodian in ("first custodian", "second custodian")
    ]
    key = combine(components, algorithm)
    for component in components:
        component.wipe()
    at, makes_money = SystemClock().now(), purpose in CREDITS
    record = KeyRecord(
        purpose=purpose,
        scope=Settings().card_scope,
        version=1,
        algorithm=algorithm,
        kcv=kcv(algorithm, bytes(key)),
        kcv_method=algorithm.kcv_method,
        created_at=at,
        active_from=at,
        credit=CreditField(offset=AMOUNT_AT, length=4) if makes_money else None,
        credit_fen_per_day=CREDIT_FEN_PER_DAY if makes_money else None,
    )
    vault.add(record, key)
    return key


async def _serve(service: KeyService, sock: Path) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serving(service, sock):
        await ended.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
