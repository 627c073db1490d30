"""Real PostgreSQL on virtual time, one statement a step, so that a seed has one history.

A statement runs to its end while everything else stands still: how long the server really took
can change nothing. Before each one the process may die and the server may hang up (see Fate);
between two of them any other task may run, in an order the seed decides. A statement that waits
for another transaction's lock lets the others go on, as a real one would.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready

from headend.store.database import Database, Row, Transaction, session_conninfo, translated
from headend.store.errors import DatabaseAway
from simulators.clockloop import SimLoop

# Open before a seed begins, so that a seed rarely has to connect: a fork of the server costs more
# than a hundred statements.
CONNECTIONS_KEPT = 8
# How long a statement is simply waited for before the server is asked whether a lock holds it up.
LOCK_LOOK_MS = 1
# Nothing here needs to survive the machine. Statements that wait for each other are told apart
# quickly: on virtual time nobody else will notice.
HANG_UP_S_MAX = 5.0
OPTIONS = "-c synchronous_commit=off -c deadlock_timeout=50ms -c plan_cache_mode=force_generic_plan"


class Fate(Protocol):
    """What may happen to a process between two steps."""

    @property
    def dead(self) -> bool: ...
    @property
    def database_away(self) -> bool: ...

    async def step(self) -> None:
        """Let others run; a process that dies here never comes back."""
        ...

    def hangs_up(self) -> bool:
        """Whether the server ends this session now, before it sees the statement."""
        ...

    def loses_the_answer(self) -> bool:
        """Whether the session breaks after the commit, before its answer comes."""
        ...

    def loses_a_notice(self) -> bool: ...


class Untroubled:
    """The fate of whoever nothing happens to."""

    dead = False
    database_away = False

    async def step(self) -> None:
        """Go on at once."""

    def hangs_up(self) -> bool:
        """Never."""
        return False

    def loses_the_answer(self) -> bool:
        """Never."""
        return False

    def loses_a_notice(self) -> bool:
        """Never."""
        return False


class StepConnection(psycopg.AsyncConnection[Row]):
    """A session whose every round trip is one step of virtual time. Used by one task at a time."""

    sessions: Sessions
    fate: Fate | None = None  # of the process that uses it now
    heard: set[str]  # channels it listens on

    async def wait(self, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Run one round trip. Raises OperationalError as a lost session does."""
        fate = self.fate
        if fate is None:
            return await self._round_trip(gen)
        await fate.step()
        if fate.dead:
            raise psycopg.OperationalError("this process is dead")
        if fate.hangs_up():
            self.sessions.hang_up(self)
        was_open = self.pgconn.transaction_status != TransactionStatus.IDLE
        result = await self._round_trip(gen)
        if was_open and self.pgconn.transaction_status == TransactionStatus.IDLE:
            self.sessions.let_go_locks()
            if fate.loses_the_answer():
                self.pgconn.finish()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            await fate.step()
        return result

    async def _round_trip(self, gen: Any) -> Any:
        poller = select.poll()
        poller.register(self.pgconn.socket)
        try:
            wanted = next(gen)
            while True:
                poller.modify(self.pgconn.socket, _EVENTS[int(wanted)])
                if events := poller.poll(LOCK_LOOK_MS):
                    wanted = gen.send(_ready(events[0][1]))
                elif self.sessions.is_blocked(self):
                    await self.sessions.others_go_on(self)
        except StopIteration as stop:
            return stop.value


_EVENTS = {1: select.POLLIN, 2: select.POLLOUT, 3: select.POLLIN | select.POLLOUT}


def _ready(events: int) -> Ready:
    readable = bool(events & (select.POLLIN | select.POLLHUP | select.POLLERR))
    writable = bool(events & select.POLLOUT)
    return Ready(readable + 2 * writable)


class Sessions:
    """The sessions of one campaign with its database, kept from seed to seed."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = session_conninfo(make_conninfo(conninfo, options=OPTIONS), "headend trial")
        self.admin = psycopg.connect(self.conninfo, autocommit=True)
        self._open: set[StepConnection] = set()
        self._idle: list[StepConnection] = []
        self._blocked: dict[StepConnection, asyncio.Future[None]] = {}
        self._channels: set[str] = set()
        self.listeners: dict[str, list[asyncio.Queue[str]]] = {}

    def reset(self) -> None:
        """Before a seed: nobody listens, and what idle sessions have heard is read.

        A session that rests for many seeds would fill its socket with notices; its server then
        waits to be read for ever, and with it whoever wants to drop a database beside.
        """
        self.listeners = {}
        for connection in self._idle:
            connection.pgconn.consume_input()
            while connection.pgconn.notifies() is not None:
                pass

    def forget(self) -> None:
        """After a seed that could not end: its sessions, and the locks they hold, are gone."""
        self._finish()
        self._blocked.clear()
        self.admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def fill(self) -> None:
        """Before a seed: enough open sessions, those of the last one still in use let go."""
        while len(self._idle) < CONNECTIONS_KEPT:
            self._idle.append(await self._connect())

    async def close(self) -> None:
        """Give every session back to the server."""
        self._finish()
        self.admin.close()

    def _finish(self) -> None:
        """Also those that were taken and never given back, by a task that was given up."""
        for connection in self._open:
            connection.pgconn.finish()
        self._open.clear()
        self._idle.clear()

    async def _connect(self) -> StepConnection:
        # Autocommit: BEGIN and COMMIT are said aloud, each a step of its own.
        connection = await StepConnection.connect(
            self.conninfo, autocommit=True, prepare_threshold=0
        )
        connection.prepared_max = None  # a campaign says the same things a thousand times
        connection.sessions = self
        connection.heard = set()
        self._open.add(connection)

        def noticed(notice: psycopg.Notify) -> None:
            fate = connection.fate
            # Each session hears all; its own word comes with the commit itself, hence in order.
            own = notice.pid == connection.pgconn.backend_pid
            if own and fate is not None and not fate.loses_a_notice():
                for queue in self.listeners.get(notice.channel, ()):
                    queue.put_nowait(notice.payload)

        connection.add_notify_handler(noticed)
        return connection

    async def take(self, fate: Fate) -> StepConnection:
        """A session that nobody else uses, as a pool gives it: known to answer."""
        connection = self._idle.pop() if self._idle else await self._connect()
        for channel in self._channels - connection.heard:
            _listen(connection, channel)
        connection.fate = fate
        return connection

    def give_back(self, connection: StepConnection) -> None:
        """Back from its user; what was not committed is gone, as when its socket closes."""
        connection.fate = None
        if connection.closed:
            self._open.discard(connection)
            return
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.ACTIVE:  # its user died while it waited for a lock
            self.hang_up(connection)
            connection.pgconn.finish()
            self._open.discard(connection)
            return
        if status != TransactionStatus.IDLE:
            connection.pgconn.exec_(b"ROLLBACK")
            self.let_go_locks()
        self._idle.append(connection)

    def follow(self, channel: str) -> asyncio.Queue[str]:
        """What is notified on this channel from now on."""
        self._channels.add(channel)
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.listeners.setdefault(channel, []).append(queue)
        return queue

    def unfollow(self, channel: str, queue: asyncio.Queue[str]) -> None:
        """The listener is gone."""
        self.listeners[channel].remove(queue)

    def hang_up(self, connection: StepConnection) -> None:
        """The server ends this session, as a restart or an operator does."""
        pid = connection.pgconn.backend_pid
        self.admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        # Its last words come as it goes; after them nothing of it holds a lock.
        if not select.select([connection.pgconn.socket], [], [], HANG_UP_S_MAX)[0]:
            raise AssertionError(f"session {pid} does not end")
        while self._is_there(pid):
            pass
        self.let_go_locks()

    def _is_there(self, pid: int) -> bool:
        row = self.admin.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", (pid,)
        ).fetchone()
        return row == (True,)

    # ---- locks ----------------------------------------------------------------------------------

    def is_blocked(self, connection: StepConnection) -> bool:
        """Whether another transaction holds what this session's statement waits for."""
        row = self.admin.execute(
            "SELECT cardinality(pg_blocking_pids(%s)) > 0", (connection.pgconn.backend_pid,)
        ).fetchone()
        return row is not None and bool(row[0])

    async def others_go_on(self, connection: StepConnection) -> None:
        """Come back once the server has an answer for this session."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        self._blocked[connection] = answered
        # Two that wait for each other are answered by the server alone, when it tells them apart.
        loop.add_reader(connection.pgconn.socket, _set, answered)
        try:
            await answered
        finally:
            loop.remove_reader(connection.pgconn.socket)
            del self._blocked[connection]

    def let_go_locks(self) -> None:
        """Locks were let go: who waited for one of them gets it now, first come first served."""
        for connection, answered in tuple(self._blocked.items()):
            while not self.is_blocked(connection):
                if _readable(connection):
                    _set(answered)
                    break


def _set(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _readable(connection: StepConnection) -> bool:
    return bool(select.select([connection.pgconn.socket], [], [], LOCK_LOOK_MS / 1000)[0])


def _listen(connection: StepConnection, channel: str) -> None:
    command = sql.SQL("LISTEN {}").format(sql.Identifier(channel)).as_bytes(connection)
    connection.pgconn.exec_(command)
    connection.heard.add(channel)


class StepDatabase(Database):
    """The product's database as one process of a trial has it."""

    def __init__(self, sessions: Sessions, fate: Fate) -> None:
        super().__init__(sessions.conninfo)
        self._sessions = sessions
        self._fate = fate

    async def open(self) -> None:
        """The sessions are open already."""

    async def close(self) -> None:
        """The sessions outlive the process."""

    async def check(self) -> None:
        """Whether the database answers. Raises DatabaseAway."""
        if self._fate.dead or self._fate.database_away:
            raise DatabaseAway("the server is starting or stopping; it is tried again.")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """As the product's, with time standing still inside. Raises DatabaseAway."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        await self.check()
        loop.transactions_open += 1
        connection: StepConnection | None = None
        try:
            connection = await self._sessions.take(self._fate)
            with translated(self.conninfo):
                await connection.execute("BEGIN")
                yield Transaction(connection)
                await connection.execute("COMMIT")
        finally:
            loop.transactions_open -= 1
            if connection is not None:
                self._sessions.give_back(connection)

    async def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Payloads notified on `channel` by committed transactions; an empty one first."""
        queue = self._sessions.follow(channel)
        try:
            yield ""
            while True:
                yield await queue.get()
        finally:
            with contextlib.suppress(ValueError):
                self._sessions.unfollow(channel, queue)
