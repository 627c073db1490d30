"""The embedded server: real processes, really killed. What was committed is there again."""

from __future__ import annotations

import asyncio
import importlib.machinery
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from headend.store import child, programs
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres, running_conninfo
from headend.store.errors import DatabaseAway, DatabaseRefused, DiskFull, FolderBusy, FolderUnusable

WAIT_S = 60  # far above what anything here needs
ROOT = os.geteuid() == 0

# Another head-end, in a process of its own: prints its conninfo, then its postmaster's pid.
OWNER = """
import asyncio, logging, pathlib, sys
from headend.store import child, embedded
logging.basicConfig(level=logging.INFO)
async def own():
    if "no-death-signal" in sys.argv:
        child._libc = type("Deaf", (), {"prctl": staticmethod(lambda *words: 0)})
    postgres = embedded.EmbeddedPostgres(pathlib.Path(sys.argv[1]))
    print(await postgres.start(), flush=True)
    print(postgres.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(own())
"""


class Owner:
    """A head-end in its own process, to be killed."""

    def __init__(self, folder: Path, *words: str, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[3],
            user=user,
            group=user,
        )
        assert self.process.stdout is not None
        self.conninfo = self.process.stdout.readline().strip()
        self.postmaster_pid = int(self.process.stdout.readline() or 0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def folder(reachable_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = reachable_folder / request.node.name.partition("[")[0][:40]
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def made_folder(made_once: Path, folder: Path) -> Path:
    """A folder whose database was made before, as at every start but the first."""
    subprocess.run(["cp", "-a", made_once, folder], check=True)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made_once(reachable_folder: Path) -> Path:
    async with running(reachable_folder / "made"):
        pass
    return reachable_folder / "made"


def innocent_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sleep", "600"])


def run(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    postgres = EmbeddedPostgres(folder)
    conninfo = await postgres.start()
    try:
        yield postgres, conninfo
    finally:
        await postgres.stop()


def write(conninfo: str, *numbers: int) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n integer)")
        for number in numbers:
            connection.execute("INSERT INTO kept VALUES (%s)", (number,))


def read(conninfo: str) -> list[int]:
    with psycopg.connect(conninfo) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM kept ORDER BY n")]


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "XZ"


async def gone(pid: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_a_second_start_finds_its_data(folder: Path) -> None:
    assert running_conninfo(folder) is None
    async with running(folder) as (_, conninfo):
        write(conninfo, 1)
        assert running_conninfo(folder) == conninfo
    assert running_conninfo(folder) is None
    async with running(folder) as (_, conninfo):
        assert read(conninfo) == [1]


async def test_nobody_else_can_come_near(made_folder: Path) -> None:
    folder = made_folder
    async with running(folder) as (postgres, conninfo):
        private = (folder / "private").stat()
        assert private.st_mode & 0o077 == 0
        status = Path(f"/proc/{postgres.pid}/status").read_text()
        uids = {int(word) for word in status.partition("Uid:")[2].splitlines()[0].split()}
        assert uids == {private.st_uid}
        assert 0 not in uids
        groups = status.partition("Groups:")[2].splitlines()[0].split()
        assert not ROOT or groups == []
        with psycopg.connect(conninfo) as connection:
            rows = connection.execute("SELECT setting FROM pg_settings WHERE name = ANY(%s)", (
                ["listen_addresses", "fsync", "synchronous_commit", "full_page_writes"],
            )).fetchall()  # fmt: skip
        assert sorted(rows) == [("",), ("on",), ("on",), ("on",)]


async def test_killing_the_owner_stops_the_server_and_loses_nothing(
    made_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made_folder
    owner = Owner(folder)
    write(owner.conninfo, 1, 2, 3)
    owner.kill()
    await gone(owner.postmaster_pid)
    caplog.set_level(logging.INFO)
    async with running(folder) as (_, conninfo):
        assert read(conninfo) == [1, 2, 3]
    assert f"the lock of process {owner.process.pid} on {folder} is stale" in caplog.text


async def test_killing_the_database_is_noticed_and_it_comes_back(
    made_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made_folder
    async with running(folder) as (postgres, conninfo):
        database = Database(conninfo)
        await database.open()
        write(conninfo, 1, 2, 3)
        first_pid = postgres.pid
        assert first_pid is not None
        os.kill(first_pid, signal.SIGKILL)
        await gone(first_pid)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    async with database.transaction() as tx:
                        assert await tx.rows("SELECT n FROM kept ORDER BY n") == [(1,), (2,), (3,)]
                    break
                except DatabaseAway:
                    await asyncio.sleep(0.05)
        assert postgres.pid != first_pid
        await database.close()
    assert caplog.text.count("the database died (signal 9)") == 1


async def test_both_killed_at_once_lose_nothing(made_folder: Path) -> None:
    folder = made_folder
    owner = Owner(folder)
    write(owner.conninfo, 1, 2, 3)
    os.kill(owner.postmaster_pid, signal.SIGKILL)
    owner.kill()
    await gone(owner.postmaster_pid)
    async with running(folder) as (_, conninfo):
        assert read(conninfo) == [1, 2, 3]


async def test_a_second_head_end_on_the_same_folder_is_refused(made_folder: Path) -> None:
    folder = made_folder
    async with running(folder) as (postgres, conninfo):
        with pytest.raises(
            FolderBusy, match=f"in use by the head-end with process id {os.getpid()}"
        ):
            await EmbeddedPostgres(folder).start()
        assert read_one(conninfo) == 1
        assert postgres.pid is not None


def read_one(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT 1").fetchone()
        assert row is not None
        return int(row[0])


async def test_an_orphan_is_stopped_before_a_new_server_starts(
    made_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made_folder
    owner = Owner(folder, "no-death-signal")
    write(owner.conninfo, 1)
    owner.kill()
    assert is_alive(owner.postmaster_pid)
    async with running(folder) as (_, conninfo):
        assert not is_alive(owner.postmaster_pid)
        assert read(conninfo) == [1]
    assert f"still runs (process {owner.postmaster_pid})" in caplog.text


@pytest.mark.parametrize("content", ["{pid}\n", "", "4194304\n", "-1\n", "nonsense\n"])
async def test_a_stale_pid_file_is_removed_and_its_process_spared(
    made_folder: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    """After a power loss the number may by now belong to anybody."""
    folder = made_folder
    innocent = innocent_process()
    try:
        text = content.format(pid=innocent.pid)
        pid_file = folder / "private" / "cluster" / "postmaster.pid"
        socket_lock = folder / "private" / ".s.PGSQL.5432.lock"
        for path in (pid_file, socket_lock):
            path.write_text(text)
        async with running(folder) as (_, conninfo):
            assert read_one(conninfo) == 1
        assert innocent.poll() is None
        assert "which is gone or another program: removed" in caplog.text
    finally:
        innocent.kill()
        innocent.wait()


async def test_what_a_killed_initdb_left_behind_is_cleared(folder: Path) -> None:
    (folder / "private" / "init.0badcafe").mkdir(parents=True)
    if ROOT:
        shutil.chown(folder / "private", programs.choose_user(folder, Path("/nonexistent")).name)
    async with running(folder):
        assert sorted(path.name for path in (folder / "private").iterdir()) == [
            ".s.PGSQL.5432",
            ".s.PGSQL.5432.lock",
            "cluster",
        ]


async def test_a_long_path_is_no_obstacle(folder: Path) -> None:
    async with running(folder / ("d" * 120)) as (_, conninfo):
        assert read_one(conninfo) == 1


async def test_another_major_version_is_one_sentence(made_folder: Path) -> None:
    folder = made_folder
    (folder / "private" / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseRefused, match="made by another major version of PostgreSQL"):
        await EmbeddedPostgres(folder).start()
    # The failed start let go of everything.
    (folder / "private" / "cluster" / "PG_VERSION").write_text("18\n")
    async with running(folder):
        pass


async def test_a_file_in_the_way_is_one_sentence(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("not a folder")
    with pytest.raises(FolderUnusable, match=f"The folder {folder}/db cannot be used"):
        await EmbeddedPostgres(folder / "db").start()
    folder.unlink()


@pytest.mark.skipif(not ROOT, reason="only root can mount a small disk")
async def test_a_full_disk_is_one_sentence(folder: Path) -> None:
    folder.mkdir()
    if not run("mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", folder):
        pytest.skip("this machine does not let root mount")
    try:
        with pytest.raises(DiskFull, match=f"The disk holding {folder}/db is full"):
            await EmbeddedPostgres(folder / "db").start()
        assert list((folder / "db" / "private").iterdir()) == []
    finally:
        assert run("umount", folder)


@pytest.mark.skipif(not ROOT, reason="only root drops to another user")
async def test_a_folder_the_database_cannot_reach_is_one_sentence(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with pytest.raises(FolderUnusable, match="choose one such as /var/lib/headend"):
        await EmbeddedPostgres(folder / "db").start()


@pytest.mark.skipif(not ROOT, reason="only root drops to another user")
async def test_programs_the_database_cannot_reach_are_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below /root."""
    found = importlib.util.find_spec(programs.PACKAGE)
    assert found is not None
    assert found.submodule_search_locations is not None
    site_packages = Path(found.submodule_search_locations[0]).parent
    tmp_path.chmod(0o700)
    for name in (programs.PACKAGE, f"{programs.PACKAGE}.libs"):
        (tmp_path / name).symlink_to(site_packages / name)
    spec = importlib.machinery.ModuleSpec(programs.PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / programs.PACKAGE)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    async with running(folder) as (postgres, conninfo):
        assert read_one(conninfo) == 1
        program = Path(f"/proc/{postgres.pid}/exe").readlink()
    assert program.is_relative_to(folder)
    assert program.stat().st_uid == 0
    assert program.stat().st_mode & 0o022 == 0


@pytest.mark.skipif(not ROOT, reason="already a normal user")
async def test_a_normal_user_needs_nothing_special(folder: Path) -> None:
    folder.mkdir()
    nobody = 65534
    os.chown(folder, nobody, nobody)
    user = programs.DatabaseUser("nobody", nobody, nobody, drops=True)
    if not all(
        user.can_enter(path)
        for path in (Path(__file__).parent, Path(sys.prefix), Path(sys.executable).resolve().parent)
    ):
        pytest.skip("a normal user cannot read this program here")
    owner = Owner(folder / "db", user=nobody)
    try:
        write(owner.conninfo, 1)
        assert Path(f"/proc/{owner.postmaster_pid}").stat().st_uid == nobody
    finally:
        owner.kill()
    await gone(owner.postmaster_pid)


def test_the_log_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LOG_BYTES_MAX", 10)
    log = tmp_path / "postgres.log"
    with log.open("ab") as server:
        for text in (b"first, long enough\n", b"second, long enough\n"):
            server.write(text)
            server.flush()
            child.bound_log(log)
    assert log.read_bytes() == b""
    assert (tmp_path / "postgres.log.1").read_bytes() == b"second, long enough\n"
