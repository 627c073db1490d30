"""The embedded MQTT broker: a mosquitto of ours, kept like the embedded database.

Strategy. The same as for PostgreSQL (embedded.py): one owner per folder by flock, a direct child
with a parent-death signal, an orphan of a former owner stopped first, started again when it dies,
its log bounded, an unprivileged user where we are root. What differs: it is not needed for the rest
of the head-end to work. So nothing here stops a start; `trouble` says why there is no broker, once
in the log, and it is tried again until it works.

    folder/             0711, ours                   owner.lock  mosquitto.log
    folder/settings/    0750, ours, its group reads  mosquitto.conf  passwords  acl  *.pem
    folder/private/     0700, the broker's user      mosquitto.db  mosquitto.pid
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from headend.domain.broker_names import BrokerUser
from headend.domain.problems import Problem
from headend.store import broker_files as files
from headend.store.broker_files import BrokerFiles, TlsListener
from headend.store.child import OwnerLock, Running, bound_log, in_the_child, open_log, read_from
from headend.store.embedded_errors import explain_os_error
from headend.store.errors import FolderUnusable, StoreError
from headend.store.programs import ENVIRONMENT, DatabaseUser, choose_user

log = logging.getLogger(__name__)

# Debian's own user for the broker when it is there; never a new one (headend/store/programs.py).
UNPRIVILEGED_USERS = ("mosquitto", "nobody")
PROGRAM_FOLDERS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
# Reading a large store of sessions takes seconds.
READY_S_MAX, READY_LOOK_S = 60.0, 0.01
STOP_S_MAX = 10.0
RESTART_S_FIRST, RESTART_S_MAX = 0.2, 15.0
TEND_S = 30.0  # how often the size of the log and the age of the certificates are looked at


def find_program() -> Path | None:
    """Where mosquitto is installed; None: it is not."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=PROGRAM_FOLDERS)
    return Path(found) if found else None


class EmbeddedBroker:
    """One mosquitto in `folder`, owned by this process from start() to stop()."""

    def __init__(
        self,
        folder: Path,
        program: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        tls: TlsListener | None = None,
    ) -> None:
        """`port` 0: any free one, kept until stop()."""
        self.folder = folder.absolute()
        self.host, self.port, self.tls = host, port, tls
        self.trouble: Problem | None = None
        self._program = program
        self._files = BrokerFiles(self.folder / "settings", self.folder / "private")
        self._log_file = self.folder / "mosquitto.log"
        self._lock = OwnerLock(self.folder)
        self._user: DatabaseUser | None = None
        self._users: Sequence[BrokerUser] = ()
        self._writing = asyncio.Lock()
        self._server: Running | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._server.pid if self._server else None

    async def start(self, users: Sequence[BrokerUser]) -> None:
        """Try to start it for these users; `trouble` says whether it did. Goes on trying."""
        assert self._watch is None, "started twice"
        self._users = users
        if self.port == 0:
            with contextlib.suppress(StoreError):  # told by the first try
                self.port = _free(self.host, 0, "mqtt_broker_port")
        await self._try()
        self._watch = asyncio.create_task(self._tend(), name="embedded broker")

    async def stop(self) -> None:
        """End it clean: sessions and what waits in them are kept. Safe to call twice."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._server is not None:
            await self._server.end(signal.SIGTERM, signal.SIGKILL, STOP_S_MAX)
            self._server = None
        self._lock.release()

    async def let_in(self, users: Sequence[BrokerUser]) -> None:
        """From now on these users and nobody else; who is no longer among them is put out."""
        if users == self._users:
            return
        self._users = users
        if self._user is None:
            return  # written when it starts
        try:
            changed = await self._write_users(self._user)
        except OSError as error:
            log.error("the users of the broker cannot be written: %s", error)
            return
        if changed and self._server is not None:
            self._server.signal(signal.SIGHUP)

    # ---- starting -------------------------------------------------------------------------------

    async def _try(self) -> bool:
        try:
            await self._start_server()
        except (StoreError, OSError) as error:
            trouble = explain_os_error(self.folder, error) if isinstance(error, OSError) else error
            if self.trouble is None or str(self.trouble) != str(trouble):  # said once
                log.error("no MQTT broker: %s", trouble)
            self.trouble = trouble
            return False
        self.trouble = None
        log.info("the MQTT broker listens on %s:%d", self.host, self.port)
        return True

    async def _start_server(self) -> None:
        """One broker, ready. Raises StoreError and OSError."""
        user = await asyncio.to_thread(self._prepare)
        if (orphan := server_of(self._files)) is not None:
            log.warning(
                "the broker of a former head-end still runs (process %d): stopping it", orphan.pid
            )
            await orphan.end(signal.SIGTERM, signal.SIGKILL, STOP_S_MAX)
        # Nobody serves these files, and the lock is ours: what names a process lies.
        self._files.pid.unlink(missing_ok=True)
        self.port = _free(self.host, self.port, "mqtt_broker_port")
        if self.tls is not None:
            _free(self.tls.host, self.tls.port, "mqtt_broker_tls_port")
        await asyncio.to_thread(self._write_settings, user)
        await self._write_users(user)
        self._user = user
        log_begins_at = self._log_file.stat().st_size if self._log_file.exists() else 0
        child = self._spawn(user)
        server = Running(child.pid, os.pidfd_open(child.pid), child)
        try:
            ready = await self._wait_ready(server, log_begins_at)
        except BaseException:
            await server.end(signal.SIGTERM, signal.SIGKILL, STOP_S_MAX)
            raise
        if not ready:
            raise _explain(read_from(self._log_file, log_begins_at))
        self._server = server

    def _prepare(self) -> DatabaseUser:
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self.folder.chmod(0o711)  # the broker's user may pass through, nobody may look around
        if not self._lock.is_held:
            self._lock.take()
        user = _broker_user(self.folder, self._files.private)
        self._files.private.mkdir(mode=0o700, exist_ok=True)
        self._files.settings.mkdir(mode=0o750, exist_ok=True)
        if user.drops:
            os.chown(self._files.private, user.uid, user.gid)
            os.chown(self._files.settings, 0, user.gid)
        if not (user.can_enter(self._files.private) and user.can_enter(self._files.settings)):
            raise FolderUnusable(
                self.folder,
                f"the broker runs as user {user.name}, who cannot pass through the folders above "
                "it; choose one such as /var/lib/headend, or start as a normal user",
            )
        return user

    def _write_settings(self, user: DatabaseUser) -> None:
        text = files.config_text(self._files, self.host, self.port, self.tls)
        files.write_whole(self._files.config, text.encode(), user)
        if self.tls is not None:
            files.write_certificates(self._files, self.tls, user)

    async def _write_users(self, user: DatabaseUser) -> bool:
        """True when a file changed."""
        async with self._writing:  # the last one called is the last one written
            texts = (
                (self._files.passwords, files.passwords_text(self._users)),
                (self._files.acl, files.acl_text(self._users)),
            )
            changed = [
                await asyncio.to_thread(files.write_whole, path, text.encode(), user)
                for path, text in texts
            ]
        return any(changed)

    def _spawn(self, user: DatabaseUser) -> subprocess.Popen[bytes]:
        log_fd = open_log(self._log_file)
        try:
            return subprocess.Popen(
                [str(self._program), "-c", str(self._files.config)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=ENVIRONMENT,
                cwd="/",
                # SIGTERM saves the sessions and ends it.
                preexec_fn=in_the_child(user, signal.SIGTERM),  # noqa: PLW1509  see there
            )
        finally:
            os.close(log_fd)

    async def _wait_ready(self, server: Running, log_begins_at: int) -> bool:
        """True when it takes connections, False when it ended or never said so."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + READY_S_MAX
        while loop.time() < until_s:
            if _says_running(read_from(self._log_file, log_begins_at)):
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_LOOK_S):
                    await server.wait_ended()
                    return False
        await server.end(signal.SIGTERM, signal.SIGKILL, STOP_S_MAX)
        return False

    # ---- tending --------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Start it again whenever it dies; keep its log bounded and its certificates new."""
        wait_s = RESTART_S_FIRST
        while True:
            if self._server is None:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RESTART_S_MAX)
                if await self._try():
                    wait_s = RESTART_S_FIRST
                continue
            try:
                async with asyncio.timeout(TEND_S):
                    await self._server.wait_ended()
            except TimeoutError:
                await self._look_after(self._server)
                continue
            how = self._server.how_it_ended()
            self._server = None
            self.trouble = StoreError("broker-not-started", detail=f"it died ({how})")
            log.error("the MQTT broker died (%s): starting it again", how)

    async def _look_after(self, server: Running) -> None:
        await asyncio.to_thread(bound_log, self._log_file)
        if self.tls is None or self._user is None:
            return
        try:
            renewed = await asyncio.to_thread(
                files.write_certificates, self._files, self.tls, self._user
            )
        except OSError as error:
            log.warning("the broker's certificates cannot be read anew: %s", error)
            return
        if renewed:
            server.signal(signal.SIGHUP)


def _says_running(text: str) -> bool:
    return any("mosquitto version" in line and "running" in line for line in text.splitlines())


def _broker_user(folder: Path, private: Path) -> DatabaseUser:
    if os.geteuid() == 0:
        return choose_user(folder, private, UNPRIVILEGED_USERS)
    return DatabaseUser(str(os.geteuid()), os.geteuid(), os.getegid(), drops=False)


def _free(host: str, port: int, option: str) -> int:
    """This port, or a free one for 0. Raises StoreError before another program's word is taken
    for our broker's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:  # socket.gaierror is one
        if error.errno == errno.EADDRINUSE:
            raise StoreError("port-in-use", host=host, port=port, option=option) from error
        raise StoreError(
            "address-unusable", host=host, port=port, detail=error.strerror, option=option
        ) from error


def _explain(output: str) -> StoreError:
    """The one sentence behind the last words of mosquitto."""
    lines = [line for line in output.splitlines() if "Error" in line or "Unable" in line]
    words = lines[-1] if lines else (output.strip().splitlines() or ["it said nothing"])[-1]
    words = words.partition(": ")[2] or words  # without its instant
    return StoreError("broker-not-started", detail=words.strip().removeprefix("Error: "))


def server_of(its: BrokerFiles) -> Running | None:
    """The live broker of these files, by its pid file and by what that process really is."""
    try:
        pid = int(its.pid.read_text(errors="replace").strip() or 0)
        if pid <= 0:
            return None
        # Held before it is looked at, so it cannot become another process in between.
        server = Running(pid, os.pidfd_open(pid))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    serves_it = words[0].endswith(b"mosquitto") and os.fsencode(its.config) in words
    return server if serves_it and state not in "XZ" else None
