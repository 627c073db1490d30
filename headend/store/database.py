"""The one door to PostgreSQL: transactions, notifications, and errors said in one sentence.

Only the store imports psycopg. Everything above gets a Transaction from `Database.transaction()`
and hands it to the functions of the other store modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, LiteralString, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors as pg_errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from headend.store.errors import DatabaseAway, DatabaseRefused, DiskFull, StoreError

log = logging.getLogger(__name__)
# The pool repeats itself while the database is away; we say the fall once and the rise once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

# Enough for every task that stores at once; each costs the server about 5 MB.
POOL_CONNECTIONS_MAX = 10
# How long somebody waits for a connection before the database counts as away.
CONNECT_S_MAX = 5
# The pool gives up an attempt after this and makes a fresh one for the next who asks. Short,
# because its waits double: after an outage of a minute it would sleep another one.
RECONNECT_S_MAX = 3.0
# A connection that was used less long ago than this is believed to be alive.
RESTED_S = 1.0
# An idle listener does not notice that its server is gone: it asks this often.
LISTEN_LOOK_S = 5.0
LISTEN_RETRY_S = 1.0

Parameter: TypeAlias = Any  # what psycopg can adapt; checked by the database, not by types
Row: TypeAlias = tuple[Any, ...]


class Transaction:
    """An open transaction. SQL is written in the store's modules only, hence LiteralString."""

    __slots__ = ("connection",)

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        self.connection = connection

    async def execute(
        self, query: LiteralString, *values: Parameter, named: Mapping[str, Parameter] | None = None
    ) -> int:
        """Run one statement; returns how many rows it touched.

        Parameters are given in order (%s) or, as `named`, by name (%(name)s).
        """
        cursor = await self.connection.execute(query, values if named is None else named)
        return cursor.rowcount

    async def execute_many(
        self, query: LiteralString, values: Sequence[Sequence[Parameter]]
    ) -> int:
        """Run one statement for each set of values, without waiting between two of them.

        Returns how many rows all of them touched.
        """
        cursor = self.connection.cursor()
        await cursor.executemany(query, values)
        return cursor.rowcount

    async def rows(
        self, query: LiteralString, *values: Parameter, named: Mapping[str, Parameter] | None = None
    ) -> list[Row]:
        """Every row, as tuples."""
        cursor = await self.connection.execute(query, values if named is None else named)
        return await cursor.fetchall()

    async def row(
        self, query: LiteralString, *values: Parameter, named: Mapping[str, Parameter] | None = None
    ) -> Row | None:
        """The first row, or None."""
        cursor = await self.connection.execute(query, values if named is None else named)
        return await cursor.fetchone()

    async def value(
        self, query: LiteralString, *values: Parameter, named: Mapping[str, Parameter] | None = None
    ) -> Any:
        """The first column of the first row, or None."""
        row = await self.row(query, *values, named=named)
        return row[0] if row else None


# What opens a transaction: Database.transaction, or something that limits how many there are.
Transact: TypeAlias = Callable[[], AbstractAsyncContextManager[Transaction]]


class Database:
    """A pool of connections to one database. Open it before use, close it at the end."""

    def __init__(
        self,
        conninfo: str,
        *,
        connections_max: int = POOL_CONNECTIONS_MAX,
        application_name: str = "headend",
    ) -> None:
        """`conninfo`: a postgresql:// URL or libpq's key=value text. Raises DatabaseRefused."""
        self.conninfo = session_conninfo(conninfo, application_name)
        self._away = False
        self._used_s: WeakKeyDictionary[psycopg.AsyncConnection[Row], float] = WeakKeyDictionary()
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            self.conninfo,
            open=False,
            min_size=1,
            max_size=connections_max,
            timeout=CONNECT_S_MAX,
            reconnect_timeout=RECONNECT_S_MAX,
            check=self._check_if_rested,
            name=application_name,
        )

    async def open(self) -> None:
        """Connect once, so that a wrong address or password is said now. Raises DatabaseAway."""
        await self.check()
        await self._pool.open()

    async def close(self) -> None:
        """Give every connection back to the server; safe to call twice."""
        await self._pool.close()

    async def check(self) -> None:
        """A fresh connection that answers. Raises DatabaseAway with the reason."""
        with translated(self.conninfo):
            async with await psycopg.AsyncConnection.connect(self.conninfo) as connection:
                await connection.execute("SELECT 1")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """All or nothing: commits at the end of the block, rolls back on any exception.

        Raises DatabaseAway when the server is gone; then it is not known whether a commit that was
        on its way arrived, which is why everything stored is idempotent.
        """
        try:
            with translated(self.conninfo):
                async with self._pool.connection() as connection, connection.transaction():
                    yield Transaction(connection)
                    self._used_s[connection] = asyncio.get_running_loop().time()
        except PoolTimeout:
            error = await self._why_away()
            self._fell(error)
            raise error from None
        except DatabaseAway as error:
            self._fell(error)
            raise
        self._rose()

    async def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Payloads notified on `channel`, for ever, over lost connections.

        An empty payload comes first and after every reconnection: something may have been missed,
        so the listener has to look by itself.
        """
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self.conninfo, autocommit=True
                ) as connection:
                    await connection.execute(
                        psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel))
                    )
                    yield ""
                    while True:
                        async for notice in connection.notifies(timeout=LISTEN_LOOK_S):
                            yield notice.payload
                        async with asyncio.timeout(LISTEN_LOOK_S):
                            await connection.execute("SELECT 1")
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                log.debug("listening on %s was interrupted: %s", channel, error)
                await asyncio.sleep(LISTEN_RETRY_S)

    async def _check_if_rested(self, connection: psycopg.AsyncConnection[Row]) -> None:
        """An idle connection does not notice that it lost its server: one that has rested is asked
        before it is used. One that worked a moment ago is not: that would be a round trip more in
        each transaction of a busy moment, and its first statement tells as well."""
        rested_s = asyncio.get_running_loop().time() - self._used_s.get(connection, -RESTED_S)
        if rested_s > RESTED_S:
            await AsyncConnectionPool.check_connection(connection)

    async def _why_away(self) -> DatabaseAway:
        try:
            await self.check()
        except DatabaseAway as error:
            return error
        except StoreError as error:
            return DatabaseAway(str(error))
        return DatabaseAway(f"all its connections stayed busy for {CONNECT_S_MAX} s.")

    def _fell(self, error: DatabaseAway) -> None:
        if not self._away:
            log.warning("%s", error)
        self._away = True

    def _rose(self) -> None:
        if self._away:
            log.info("the database answers again")
        self._away = False


def session_conninfo(conninfo: str, application_name: str) -> str:
    """The caller's conninfo with what every session of ours needs. Raises DatabaseRefused."""
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise DatabaseRefused(
            "The database URL cannot be read "
            f"({_first_line(error)}): write postgresql://user:password@host:port/name."
        ) from None
    # No local time in the database, whatever the server or the role is set to.
    options = f"{given.get('options') or ''} -c timezone=UTC".strip()
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_S_MAX,
        # A network that swallows packets: noticed after about 20 s instead of two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 20_000,
        "application_name": application_name,
    }
    return make_conninfo("", **(defaults | given | {"options": options}))


@contextlib.contextmanager
def translated(conninfo: str) -> Iterator[None]:
    """Errors of the database library leave as StoreErrors, each one sentence."""
    try:
        yield
    except PoolTimeout:
        raise
    except pg_errors.DiskFull:
        raise DiskFull("the database") from None
    except pg_errors.QueryCanceled as error:
        raise DatabaseAway(f"it gave up a statement: {_first_line(error)}.") from error
    except psycopg.OperationalError as error:
        raise DatabaseAway(_why_not_connected(conninfo, error)) from error
    except psycopg.InterfaceError as error:
        raise DatabaseAway(f"the connection broke: {_first_line(error)}.") from error
    except psycopg.Error as error:
        raise DatabaseRefused(f"The database refused: {_first_line(error)}.") from error


# What the server or the network says, and what a person can do about it.
_CAUSES: Sequence[tuple[tuple[str, ...], str]] = (
    (("password authentication failed", "no password supplied"),
     "the password for user {user} is wrong or missing; check --database-url."),
    (("no pg_hba.conf entry",),
     "the server {place} does not let user {user} in from here; its pg_hba.conf decides that."),
    (("database \"", "does not exist"),
     "the server {place} has no database {dbname}; create it with: createdb {dbname}."),
    (("role \"", "does not exist"),
     "the server {place} has no user {user}; create it with: createuser {user}."),
    (("permission denied for database",),
     "user {user} may not connect to database {dbname}; grant it CONNECT."),
    (("too many clients", "remaining connection slots"),
     "the server {place} has no free connection; raise its max_connections."),
    (("starting up", "shutting down", "recovery mode"),
     "the server {place} is starting or stopping; it is tried again."),
    (("Name or service not known", "resolve host", "failed to resolve",
      "No address associated", "name resolution"),
     "there is no host called {host}; check --database-url."),
    (("Connection refused", "No such file or directory"),
     "nothing listens at {place}; start the server or check --database-url."),
    (("could not access file",),
     "this database keeps its readings in TimescaleDB, which the server {place} does not load; "
     "put it back."),
    (("timeout expired", "timed out", "No route to host", "Network is unreachable"),
     "{place} does not answer; check the network and --database-url."),
)  # fmt: skip
_ALL_WORDS_NEEDED = ('database "', 'role "')


def _why_not_connected(conninfo: str, error: psycopg.Error) -> str:
    given = conninfo_to_dict(conninfo)
    host = str(given.get("host") or "localhost")
    facts = {
        "host": host,
        "place": host if host.startswith("/") else f"{host}:{given.get('port') or 5432}",
        "user": str(given.get("user") or "(none)"),
        "dbname": str(given.get("dbname") or given.get("user") or "(none)"),
    }
    text = str(error)
    for words, sentence in _CAUSES:
        needed = all if words[0] in _ALL_WORDS_NEEDED else any
        if needed(word in text for word in words):
            return sentence.format(**facts)
    return f"{facts['place']}: {_first_line(error)}."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
