"""Our own broker: real mosquittos, really killed, and who may do what on them."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headend.domain.broker_names import HEAD_END, BrokerUser, name_fault
from headend.store import child
from headend.store.broker import EmbeddedBroker, find_program
from headend.store.broker_files import password_hash, write_whole
from headend.store.programs import DatabaseUser
from tests.headend.party import Party, needs_mosquitto, until

pytestmark = needs_mosquitto
ROOT = os.geteuid() == 0
GATES = ("E0001", "E0002")

# Another head-end with a broker, in a process of its own: prints the broker's port and pid.
OWNER = """
import asyncio, pathlib, sys
from headend.store import broker, child
from tests.headend.store.test_broker import users
async def own():
    if "no-death-signal" in sys.argv:
        child._libc = type("Deaf", (), {"prctl": staticmethod(lambda *words: 0)})
    ours = broker.EmbeddedBroker(pathlib.Path(sys.argv[1]), broker.find_program(), port=0)
    await ours.start(users())
    print(ours.port, ours.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(own())
"""


def users(*names: str) -> list[BrokerUser]:
    """The head-end and devices; the password of each is its name backwards."""
    devices = [
        BrokerUser(
            name=name,
            password_hash=password_hash(name[::-1]),
            reads=(f"headend/{name}/down/1",),
            writes=(f"headend/{name}/up/1", f"/gw/acrelHW/+/+/{name}"),
        )
        for name in names or GATES
    ]
    own = BrokerUser(
        name=HEAD_END, password_hash=password_hash(HEAD_END[::-1]), reads=("#",), writes=("#",)
    )
    return [own, *devices]


def party(broker: EmbeddedBroker | int, name: str, **more: object) -> Party:
    port = broker if isinstance(broker, int) else broker.port
    return Party(port, name, name[::-1], **more)  # type: ignore[arg-type]  # options passed on


@pytest.fixture
def folder(reachable_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = reachable_folder / f"broker-{request.node.name.partition('[')[0][:40]}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running(folder: Path, port: int = 0) -> AsyncIterator[EmbeddedBroker]:
    program = find_program()
    assert program is not None
    broker = EmbeddedBroker(folder, program, port=port)
    await broker.start(users())
    try:
        yield broker
    finally:
        await broker.stop()


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "XZ"


class Owner:
    """A head-end in its own process, to be killed."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port, self.broker_pid = map(int, self.process.stdout.readline().split())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


# ---- who comes in, and what they may do ----------------------------------------------------------


async def test_nobody_comes_in_without_a_name_and_its_password(folder: Path) -> None:
    async with running(folder) as broker:
        assert broker.trouble is None
        for user, password, welcome in (
            ("E0001", "1000E", True),
            ("E0001", "2000E", False),  # another's
            ("E0001", "", False),
            ("E0009", "9000E", False),  # nobody's
            (None, None, False),
        ):
            async with Party(broker.port, user, password) as one:
                assert (one.received == 0) is welcome, user


async def test_a_device_neither_reads_nor_writes_what_is_anothers(folder: Path) -> None:
    """Everything a bad gateway can try, while the good one and the head-end are at work."""
    async with (
        running(folder) as broker,
        party(broker, HEAD_END) as us,
        party(broker, "E0002") as good,
        party(broker, "E0001") as bad,
    ):
        await us.hear("#")
        await good.hear("headend/E0002/down/1")
        await bad.hear(
            "#", "+/+/+/+", "headend/#", "headend/E0002/#", "headend/+/down/1", "$SYS/#",
            "headend/E0002/down/1", "$share/group/headend/E0002/down/1", "/gw/acrelHW/#",
        )  # fmt: skip
        for topic in (
            "headend/E0002/up/1",  # an answer of another's meter
            "headend/E0002/down/1",  # a frame to another's meter
            "headend/E0001/down/1",  # not even to its own: frames are ours
            "/gw/acrelHW/P1/data/E0002",
            "headend/presence",
            "headend/mark/headend",
            "headend/E0001/up/2",  # a port it does not have
        ):
            await bad.say(topic, b"forged")
            await bad.say(topic, b"forged and kept", retain=True)
        await us.say("headend/E0002/down/1", b"switch")
        await good.say("headend/E0002/up/1", b"switched")
        await good.say("/gw/acrelHW/P1/data/E0002", b"{}")
        await us.say("headend/E0001/down/1", b"look")
        await bad.say("headend/E0001/up/1", b"seen")
        await until(lambda: ("headend/E0001/up/1", b"seen") in us.heard)
        await until(lambda: bad.heard)
        assert bad.heard == [("headend/E0001/down/1", b"look")], "its own, once, and nothing else"
        assert good.heard == [("headend/E0002/down/1", b"switch")]
        assert [payload for _, payload in us.heard] == [
            b"switch", b"switched", b"{}", b"look", b"seen",
        ]  # fmt: skip


async def test_a_will_is_no_way_around_it(folder: Path) -> None:
    async with running(folder) as broker, party(broker, HEAD_END) as us:
        await us.hear("#")
        for name, will in (("E0001", b"forged"), ("E0002", b"gone")):
            gate = party(broker, name)
            gate.client.will_set("headend/E0002/up/1", will, qos=1)
            async with gate:
                gate.cut()
        await until(lambda: us.heard)
        assert us.heard == [("headend/E0002/up/1", b"gone")]


async def test_a_device_cannot_take_anothers_session(folder: Path) -> None:
    """With its client id it would put it out, and be handed what waits for it."""
    async with running(folder) as broker, party(broker, HEAD_END) as us:
        async with party(broker, "E0002", client_id="E0002", keeps_session=True) as good:
            await good.hear("headend/E0002/down/1")
        await us.say("headend/E0002/down/1", b"for E0002 alone")
        async with party(broker, "E0001", client_id="E0002", keeps_session=True) as bad:
            await bad.say("headend/E0001/up/1", b"here")
            assert bad.heard == []
            async with party(broker, "E0002", client_id="E0002", keeps_session=True) as good:
                await until(lambda: good.heard)
                assert good.heard == [("headend/E0002/down/1", b"for E0002 alone")]
            assert bad.falls == 0


async def test_who_is_no_longer_let_in_is_put_out_and_others_stay(folder: Path) -> None:
    async with (
        running(folder) as broker,
        party(broker, "E0001") as one,
        party(broker, "E0002") as two,
        party(broker, HEAD_END) as us,
    ):
        await broker.let_in(users("E0002", "E0003"))
        await until(lambda: one.falls)
        async with party(broker, "E0001") as again:
            assert again.received != 0
        async with party(broker, "E0003") as new:
            assert new.received == 0
        assert (two.falls, us.falls) == (0, 0)


def test_our_hash_is_mosquittos_own(tmp_path: Path) -> None:
    """Theirs recomputed with their salt, and ours taken by their program's own format."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    theirs = tmp_path / "passwords"
    theirs.touch(mode=0o600)
    subprocess.run([program, "-b", "-H", "sha512-pbkdf2", theirs, "E0001", "p:ä$ss"], check=True)
    name, _, hash_ = theirs.read_text().strip().partition(":")
    _, _, _, salt, _ = hash_.split("$")
    assert name == "E0001"
    assert password_hash("p:ä$ss", base64.b64decode(salt)) == hash_
    assert password_hash("p:ä$ss") != password_hash("p:ä$ss"), "each has a salt of its own"


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("E0001", True), ("310115D001-01", True), ("网关一", True), ("+", False), ("#", False),
        ("a/b", False), ("a:b", False), ("%u", False), ("$SYS", False), ("a b", False), ("", False),
        ("a\nuser headend", False), ("headend", False), ("x" * 65, False), ("a\u2028b", False),
    ],
)  # fmt: skip
def test_a_name_that_means_something_to_the_broker_is_no_name(name: str, may: bool) -> None:
    assert (name_fault(name) is None) is may


# ---- its life ------------------------------------------------------------------------------------


async def test_it_runs_as_nobody_in_particular_and_cannot_change_its_rules(folder: Path) -> None:
    async with running(folder) as broker:
        status = Path(f"/proc/{broker.pid}/status").read_text()
        uids = {int(word) for word in status.partition("Uid:")[2].splitlines()[0].split()}
        assert not ROOT or 0 not in uids
        for path in (folder / "settings").iterdir():
            seen = path.stat()
            assert seen.st_mode & 0o027 == 0, path
            assert not ROOT or seen.st_uid == 0
        private = (folder / "private").stat()
        assert (private.st_mode & 0o077, uids) == (0, {private.st_uid})
        assert "1000E" not in (folder / "settings" / "passwords").read_text()


async def test_what_waits_outlives_a_restart_and_frames_do_not(folder: Path) -> None:
    async with running(folder) as broker:
        async with party(broker, HEAD_END, keeps_session=True) as us:
            await us.hear("headend/#")
        async with party(broker, "E0002") as gate:
            await gate.say("headend/E0002/up/1", b"told while you were away")
            gate.client.publish("headend/E0002/up/1", b"for now or never", qos=0)
            await gate.say("headend/E0002/up/1", b"told last")
        port = broker.port
    async with running(folder, port) as broker, party(broker, HEAD_END, keeps_session=True) as us:
        await until(lambda: len(us.heard) == 2)
        assert [p for _, p in us.heard] == [b"told while you were away", b"told last"]


async def test_killing_the_owner_ends_it_clean(folder: Path) -> None:
    owner = Owner(folder)
    async with party(owner.port, HEAD_END, keeps_session=True) as us:
        await us.hear("headend/#")
    async with party(owner.port, "E0001") as gate:
        await gate.say("headend/E0001/up/1", b"kept")
        owner.kill()
        await until(lambda: not is_alive(owner.broker_pid))
    async with running(folder) as broker, party(broker, HEAD_END, keeps_session=True) as us:
        await until(lambda: us.heard)
        assert us.heard == [("headend/E0001/up/1", b"kept")]


async def test_an_orphan_is_stopped_before_a_new_one_starts(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Owner(folder, "no-death-signal")
    owner.kill()
    assert is_alive(owner.broker_pid)
    async with running(folder, owner.port) as broker:
        assert not is_alive(owner.broker_pid)
        assert broker.trouble is None
    assert f"still runs (process {owner.broker_pid})" in caplog.text


async def test_a_stale_pid_file_harms_nobody(folder: Path) -> None:
    innocent = subprocess.Popen(["/bin/sleep", "600"])  # noqa: ASYNC220  it comes back at once
    try:
        async with running(folder):
            pass
        (folder / "private" / "mosquitto.pid").write_text(f"{innocent.pid}\n")
        async with running(folder) as broker:
            assert broker.trouble is None
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_it_comes_back_when_it_dies_and_says_so_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder) as broker:
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: broker.pid not in (None, first))
        async with party(broker, "E0001") as gate:
            assert gate.received == 0
    assert caplog.text.count("the MQTT broker died (signal 9)") == 1


async def test_a_clash_is_one_sentence_and_ends_with_the_other_program(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with running(folder, port) as broker:
            assert broker.trouble is not None
            assert broker.trouble.code == "port-in-use"
            assert "mqtt_broker_port" in str(broker.trouble)
            assert broker.pid is None
            await asyncio.sleep(0.5)  # it has tried again
            other.close()
            await until(lambda: broker.trouble is None)
            async with party(broker, "E0001") as gate:
                assert gate.received == 0
    assert caplog.text.count("is in use by another program") == 1


async def test_a_second_head_end_on_the_same_folder_is_told_whose_it_is(folder: Path) -> None:
    async with running(folder) as first, running(folder) as second:
        assert first.trouble is None
        assert second.trouble is not None
        assert second.trouble.code == "data-folder-busy"
        assert str(os.getpid()) in str(second.trouble)


async def test_what_mosquitto_says_is_the_sentence(folder: Path, tmp_path: Path) -> None:
    program = find_program()
    assert program is not None
    broker = EmbeddedBroker(folder, program, host="192.0.2.1", port=0)
    await broker.start(users())
    assert broker.trouble is not None
    assert broker.trouble.code == "address-unusable"
    await broker.stop()
    false = Path(shutil.which("false") or "/bin/false")
    broken = EmbeddedBroker(folder, false, port=0)
    await broken.start(users())
    assert broken.trouble is not None
    assert broken.trouble.code == "broker-not-started"
    await broken.stop()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = DatabaseUser("me", os.geteuid(), os.getegid(), drops=False)
    path = tmp_path / "acl"
    assert write_whole(path, b"one", me)
    assert not write_whole(path, b"one", me), "nothing to reload"

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"two, much longer", me)
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["acl"]


async def test_its_log_is_bounded_as_the_databases_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(child, "LOG_BYTES_MAX", 10)
    monkeypatch.setattr("headend.store.broker.TEND_S", 0.05)
    async with running(folder) as broker:
        log = folder / "mosquitto.log"
        await until(lambda: log.stat().st_size == 0)
        async with party(broker, "E0001"):
            pass
        await until(lambda: "E0001" in log.with_suffix(".log.1").read_text())
