"""The embedded PostgreSQL: a child process of ours in a data folder of ours.

Strategy. One owner per folder, by flock: the kernel drops it however the owner dies. The server is
a direct child in its own process group with a parent-death signal, so even `kill -9` of the owner
shuts it down clean. `initdb` works in a temporary folder that is renamed when whole. An orphan of a
former owner is stopped before a new server starts; a stale pid file is recognised by looking at the
process it names, never by the number alone. There is no TCP: the socket lies in a folder only the
database's user (and root) may enter, and only there `trust` holds.

    folder/                0711, ours          owner.lock  postgres.log  programs-…/
    folder/private/        0700, the database's user        .s.PGSQL.5432
    folder/private/cluster/                                 the data itself
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from headend.store.child import OwnerLock, bound_log, in_the_child, open_log, read_from
from headend.store.embedded_errors import explain, explain_os_error
from headend.store.errors import FolderUnusable, StoreError
from headend.store.postmaster import Postmaster, pid_file_of, server_of
from headend.store.programs import ENVIRONMENT, DatabaseUser, choose_user, find_programs

log = logging.getLogger(__name__)

PORT = 5432  # only names the socket file; nothing listens on it
ROLE = "headend"
# sun_path holds 108 bytes with the final zero (unix(7)).
SOCKET_PATH_BYTES_MAX = 107
# A fast shutdown writes a checkpoint; a slow card may need this long. Then we stop it hard, which
# costs the next start a recovery and loses nothing.
STOP_S_MAX = 30.0
# The server died under us: first try at once, then ever slower, because a full disk stays full.
RESTART_S_FIRST = 0.2
RESTART_S_MAX = 15.0
TEND_S = 30.0  # how often the size of the log is looked at

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    # Relative to the cluster folder, hence always short enough for a socket path.
    "unix_socket_directories": "..",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A box of 1 GB that also runs the head-end: the working set is last night and the last values.
    "shared_buffers": "96MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_connections": "60",
    # A committed reading is on the disk. This is the promise `kill -9` is tested against.
    "fsync": "on",
    "synchronous_commit": "on",
    # Plans made while a table was small are made anew once it has grown, and this notices that: a
    # bulk job fills the table of orders within seconds.
    "autovacuum_naptime": "10s",
    # Nobody replicates from the embedded server: less to write for each reading.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    # Short queries: compiling them costs more than running them.
    "jit": "off",
    # Containers give 64 MB of /dev/shm; parallel workers would fail there on a large sort.
    "max_parallel_workers_per_gather": "0",
    # Each monthly partition takes a lock when a query cannot prune: ten years and some.
    "max_locks_per_transaction": "256",
}


class EmbeddedPostgres:
    """One PostgreSQL server in `folder`, owned by this process from start() to stop()."""

    def __init__(self, folder: Path, *, timescale_folder: Path | None = None) -> None:
        """`timescale_folder`: where lib/ and share/extension/ of TimescaleDB lie, if anywhere."""
        self.folder = folder.absolute()
        self._timescale_folder = timescale_folder.absolute() if timescale_folder else None
        self._private = self.folder / "private"
        self._cluster = self._private / "cluster"
        self._log_file = self.folder / "postgres.log"
        self._lock = OwnerLock(self.folder)
        self._user: DatabaseUser | None = None
        self._programs = Path()
        self._server: Postmaster | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._server.pid if self._server else None

    async def start(self) -> str:
        """Start the server, making the cluster first if need be; returns its conninfo.

        Waits as long as recovery takes. Raises StoreError, each one sentence.
        """
        assert not self._lock.is_held, "started twice"
        try:
            await asyncio.to_thread(self._prepare)
            await self._start_server()
        except BaseException:
            self._lock.release()
            raise
        self._watch = asyncio.create_task(self._tend(), name="embedded postgres")
        return conninfo_of(self.folder)

    async def stop(self) -> None:
        """Shut the server down clean; safe to call twice."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._server is not None:
            await self._server.stop(STOP_S_MAX)
            self._server = None
        self._lock.release()

    def _prepare(self) -> None:
        """Everything before the server runs; may take a second, hence in a thread."""
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
                # The database's user may pass through, nobody may look around.
                self.folder.chmod(0o711)
            self._user = choose_user(self.folder, self._private)
            self._lock.take()
            self._programs = find_programs(self._user, self.folder)
            self._make_private_folder(self._user)
            if not (self._cluster / "PG_VERSION").exists():
                self._init_cluster(self._user)
        except OSError as error:
            raise explain_os_error(self.folder, error) from error

    def _make_private_folder(self, user: DatabaseUser) -> None:
        self._private.mkdir(mode=0o700, exist_ok=True)
        if user.drops and self._private.stat().st_uid != user.uid:
            os.chown(self._private, user.uid, user.gid)
        if not user.can_enter(self._private):
            raise FolderUnusable(
                self.folder,
                f"the database runs as user {user.name}, who cannot pass through the folders "
                "above it; choose one such as /var/lib/headend, or start as a normal user",
            )
        if self._timescale_folder and not user.can_enter(self._timescale_folder):
            raise FolderUnusable(
                self._timescale_folder,
                f"the database runs as user {user.name}, who cannot read it",
            )
        for former in self._private.glob("init.*"):
            shutil.rmtree(former, ignore_errors=True)

    def _init_cluster(self, user: DatabaseUser) -> None:
        part = self._private / f"init.{secrets.token_hex(4)}"
        done = user.run(
            self._programs / "bin" / "initdb",
            *("--pgdata", part, "--username", ROLE, "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=reject"),
        )
        if done.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            raise explain(self.folder, done.stdout)
        part.rename(self._cluster)  # a half-made cluster never gets the real name
        _sync_folder(self._private)
        log.info("a new database was made in %s, run by user %s", self.folder, user.name)

    async def _start_server(self) -> None:
        """One server process, ready. Raises StoreError with the server's own last words."""
        assert self._user is not None
        if orphan := server_of(self._cluster):
            log.warning(
                "the database of a former head-end still runs (process %d): stopping it", orphan.pid
            )
            await orphan.stop(STOP_S_MAX)
        self._remove_stale_files()
        log_begins_at = self._log_file.stat().st_size if self._log_file.exists() else 0
        server = Postmaster.child(self._spawn(self._user), self._cluster)
        try:
            ready = await server.wait_ready()
        except BaseException:
            await server.stop(STOP_S_MAX)
            raise
        if not ready:
            raise explain(self.folder, read_from(self._log_file, log_begins_at))
        self._server = server

    def _remove_stale_files(self) -> None:
        """Nobody serves this cluster, and the lock is ours: what names a process lies.

        PostgreSQL itself would trust a number that by now belongs to another program.
        """
        socket_lock = self._private / f".s.PGSQL.{PORT}.lock"
        for path in (pid_file_of(self._cluster), socket_lock):
            with contextlib.suppress(FileNotFoundError):
                words = path.read_text(errors="replace").split()
                path.unlink()
                log.warning(
                    "%s was left by process %s, which is gone or another program: removed",
                    path,
                    words[0] if words else "(empty)",
                )

    def _spawn(self, user: DatabaseUser) -> subprocess.Popen[bytes]:
        settings = SETTINGS | self._timescale_settings()
        arguments = [part for item in settings.items() for part in ("-c", "=".join(item))]
        log_fd = open_log(self._log_file)
        try:
            return subprocess.Popen(
                [str(self._programs / "bin" / "postgres"), "-D", str(self._cluster), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=ENVIRONMENT,
                cwd="/",
                # SIGINT is PostgreSQL's fast, clean shutdown.
                preexec_fn=in_the_child(user, signal.SIGINT),  # noqa: PLW1509  see there
            )
        finally:
            os.close(log_fd)

    def _timescale_settings(self) -> dict[str, str]:
        if self._timescale_folder is None:
            return {}
        return {
            "extension_control_path": f"$system:{self._timescale_folder}/share",
            "dynamic_library_path": f"{self._timescale_folder}/lib:$libdir",
            "shared_preload_libraries": "timescaledb",
            # It calls home by default; a meter room has no business doing so.
            "timescaledb.telemetry_level": "off",
            "max_worker_processes": "16",
        }

    async def _tend(self) -> None:
        """Start the server again whenever it dies, and keep its log bounded."""
        while True:
            assert self._server is not None
            try:
                async with asyncio.timeout(TEND_S):
                    await self._server.wait_ended()
            except TimeoutError:
                await asyncio.to_thread(bound_log, self._log_file)
                continue
            log.error("the database died (%s): starting it again", self._server.how_it_ended())
            await self._restart()
            log.info("the database is back")

    async def _restart(self) -> None:
        wait_s, said = RESTART_S_FIRST, ""
        while True:
            try:
                await self._start_server()
            except (StoreError, OSError) as error:
                if str(error) != said:  # the same trouble is said once
                    said = str(error)
                    log.error("the database does not start: %s", said)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RESTART_S_MAX)
            else:
                return


def conninfo_of(folder: Path) -> str:
    """How to reach the server in this folder, for this process and its children."""
    socket_folder = _socket_folder(folder.absolute() / "private")
    return f"host={socket_folder} port={PORT} user={ROLE} dbname=postgres"


def running_conninfo(folder: Path) -> str | None:
    """The conninfo of the server that some head-end runs in `folder` now; None when none does.

    Raises FolderUnusable when the folder belongs to another user.
    """
    folder = folder.absolute()
    cluster = folder / "private" / "cluster"
    try:
        server = server_of(cluster)
        return conninfo_of(folder) if server and server.is_ready() else None
    except PermissionError as error:
        raise FolderUnusable(
            folder, "it belongs to another user; run this as the user who runs the head-end"
        ) from error


@functools.cache
def _socket_folder(private: Path) -> str:
    """The folder of the socket, by another name when its own is too long for a socket path."""
    if len(os.fsencode(private / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES_MAX:
        return str(private)
    # A descriptor of the folder, kept open as long as this process lives: it needs no file
    # anywhere and keeps the folder's own permissions.
    fd = os.open(private, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/{os.getpid()}/fd/{fd}"


def _sync_folder(folder: Path) -> None:
    """A new name survives a power loss only when its folder is on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
