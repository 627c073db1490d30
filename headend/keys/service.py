"""The key service: a process of its own that derives, MACs and enciphers, and gives no key out.

It listens on a Unix socket in a folder of its own, knows callers by the user they run as (the
kernel says, SO_PEERCRED), and answers calls one after the other: who may, how fast, which version,
how much money today, into the log, and only then into the box. There is no call that gives a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from headend.domain.clock import Clock
from headend.keys import primitives
from headend.keys.box import BoxError, KeyBox
from headend.keys.limits import Caller, Credits, Pace, digest_of, may_ask
from headend.keys.log import KeyLog, LogError
from headend.keys.records import KeyRecord, issuing
from protocols import key_call
from protocols.key_call import (
    BadMessage,
    Denial,
    KeyCall,
    KeyDenied,
    KeyResult,
    Operation,
)

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
_UCRED = struct.Struct("3i")  # pid, uid, gid


class KeyService:
    """Decides and does. `answer` is for one thread; `serve` puts it behind a socket."""

    def __init__(
        self,
        box: KeyBox,
        key_log: KeyLog,
        callers: Mapping[int, Caller],
        clock: Clock,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._box = box
        self._log = key_log
        self._callers = callers
        self._clock = clock
        self._monotonic_s = monotonic_s
        self._pace = Pace()
        self._credits = Credits.of_log(key_log.entries(), clock.now().date())

    def answer(self, uid: int, body: bytes) -> bytes:
        """The answer to a message of the process that runs as this user."""
        try:
            call = key_call.decode_call(body)
        except BadMessage as error:
            return key_call.encode_answer(KeyDenied(Denial.BAD_CALL, str(error)))
        return key_call.encode_answer(self.do(uid, call))

    def do(self, uid: int, call: KeyCall) -> KeyResult | KeyDenied:
        """One call: judged, logged, done."""
        now = self._clock.now()
        caller = self._callers.get(uid)
        record, credit_fen, denied = self._judged(caller, call, now)
        entry = _entry(call, record, credit_fen) | {
            "at": now.isoformat(),
            "uid": uid,
            "caller": None if caller is None else caller.name,
        }
        try:
            if denied is not None:
                self._log.write(entry | {"outcome": denied.denial.value})
                return denied
            assert record is not None, "what is not denied has a key"
            self._log.write(entry | {"outcome": "done"})
        except LogError as error:
            log.error("nothing is done without its line in the log: %s", error)
            return KeyDenied(Denial.LOG_FAILED)
        if credit_fen is not None:
            self._credits.add(record.key_id, digest_of(call.data), credit_fen)
        try:
            return KeyResult(record.version, self._value(record, call))
        except BoxError as error:
            log.error("the box refused: %s", error)
            return KeyDenied(Denial.FAILED, str(error))

    def _judged(
        self, caller: Caller | None, call: KeyCall, now: datetime
    ) -> tuple[KeyRecord | None, int | None, KeyDenied | None]:
        denied = may_ask(caller, call)
        if denied is not None or caller is None:
            return None, None, denied
        if not self._pace.take(caller, self._monotonic_s()):
            return None, None, KeyDenied(Denial.TOO_FAST, f"{caller.calls_per_minute} a minute")
        record = self._chosen(call, now)
        if isinstance(record, KeyDenied):
            return None, None, record
        if call.operation is not Operation.MAC:
            return record, None, None
        credit_fen, denied = self._credits.may_add(record, call.data, now)
        return record, credit_fen, denied

    def _chosen(self, call: KeyCall, now: datetime) -> KeyRecord | KeyDenied:
        records = [
            record
            for record in self._box.records()
            if (record.purpose, record.scope) == (call.purpose, call.scope)
        ]
        if call.version is None:
            found = issuing(records, now)
            stopped = bool(records)
        else:
            found = next((one for one in records if one.version == call.version), None)
            stopped = found is not None
        if found is None:
            return KeyDenied(Denial.KEY_STOPPED if stopped else Denial.NO_SUCH_KEY)
        issues = call.operation in (Operation.MAC, Operation.ENCRYPT)
        if not (found.may_issue(now) if issues else found.may_accept(now)):
            return KeyDenied(Denial.KEY_STOPPED, found.state(now).value)
        return found

    def _value(self, record: KeyRecord, call: KeyCall) -> bytes:
        if call.operation is Operation.KCV:
            return record.kcv
        if call.operation is Operation.ENCRYPT:
            return self._box.encrypt(record, call.path, call.data)
        made = self._box.mac(record, call.path, call.iv, call.data)
        if call.operation is Operation.MAC:
            return made
        return b"\x01" if primitives.same(made[: len(call.mac)], call.mac) else b"\x00"


def _entry(
    call: KeyCall, record: KeyRecord | None, credit_fen: int | None
) -> dict[str, str | int | None]:
    return {
        "operation": call.operation.value,
        "key": f"{call.purpose.value}|{call.scope}|{record.version if record else '?'}",
        "path": ".".join(level.hex() for level in call.path),
        "data_sha256": digest_of(call.data),
        "credit_fen": credit_fen,
    }


@contextlib.asynccontextmanager
async def serving(service: KeyService, path: Path) -> AsyncIterator[None]:
    """The service behind its socket for as long as the block runs.

    One thread does all the work: a PKCS#11 library takes no locks, and a log has one writer.
    """
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")
    connected: set[asyncio.StreamWriter] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(connected) >= CONNECTIONS_MAX:
            writer.close()
            return
        connected.add(writer)
        try:
            uid = _uid_of(writer)
            while True:
                head = await reader.readexactly(key_call.HEAD_BYTES)
                body = await reader.readexactly(key_call.body_bytes(head))
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(worker, service.answer, uid, body)
                writer.write(key_call.frame(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, BadMessage):
            pass  # it went, or it speaks something else: nothing is owed to it
        finally:
            connected.discard(writer)
            writer.close()

    _remove(path)
    server = await asyncio.start_unix_server(connection, path)
    _open_to_all(path)
    try:
        yield
    finally:
        server.close()
        for writer in list(connected):
            writer.close()
        worker.shutdown()
        _remove(path)


def _open_to_all(path: Path) -> None:
    """Who may connect is the folder's affair; who may ask is decided by user."""
    path.chmod(0o666)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _uid_of(writer: asyncio.StreamWriter) -> int:
    peer: socket.socket = writer.get_extra_info("socket")
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(told)
    return int(uid)
