"""TLS, passwords and certificates from both sides, and our will: real mosquittos, theirs, ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateways.mqtt import PRESENCE, Mqtt
from headend.domain.broker_names import BrokerUser
from headend.domain.problems import Problem
from headend.services.broker_places import broker_place_of, embedded_broker_of
from headend.settings import Settings
from headend.store.broker import EmbeddedBroker, find_program
from headend.store.broker_files import password_hash
from tests.headend.certificates import Authority
from tests.headend.party import Party, needs_mosquitto, until

pytestmark = needs_mosquitto
HEADEND = str(Path(sys.executable).parent / "headend")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def theirs(folder: Path, *lines: str) -> AsyncIterator[int]:
    """A site's own broker with TLS, told by these lines of its settings; its port."""
    program, port = find_program(), free_port()
    assert program is not None
    passwords = folder / "passwords"
    passwords.write_text(f"head:{password_hash('secret')}\n")
    config = folder / "their.conf"
    user = ("user root",) if os.geteuid() == 0 else ()
    config.write_text("\n".join([*user, f"listener {port} localhost", *lines]) + "\n")
    child = subprocess.Popen(  # noqa: ASYNC220  it comes back at once
        [program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await until(lambda: _answers(port))
        yield port
    finally:
        child.kill()
        child.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
        return True
    return False


@asynccontextmanager
async def ours(**settings: Any) -> AsyncIterator[Mqtt]:
    """Our client with these settings."""
    place = broker_place_of(Settings(**settings))
    assert place is not None
    mqtt = Mqtt(place, dict, lambda topic, payload: None)
    task = asyncio.create_task(mqtt.run())
    try:
        await until(lambda: mqtt.is_connected or mqtt.down_reason != "not connected yet")
        yield mqtt
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_our_client_proves_itself_and_wants_proof(tmp_path: Path) -> None:
    site, other = Authority(tmp_path, "site"), Authority(tmp_path, "other")
    cert, key = site.signs("broker", "localhost")
    tls = (f"certfile {cert}", f"keyfile {key}")
    known = {"mqtt_ca_file": str(site.file)}
    with_password = ("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    async with theirs(tmp_path, *tls, *with_password) as port:
        url = f"mqtts://head:secret@localhost:{port}"
        async with ours(mqtt_url=url, **known) as mqtt:
            assert mqtt.is_connected
        wrong = f"mqtts://head:wrong@localhost:{port}"
        for settings, said in (
            ({"mqtt_url": wrong, **known}, "refuses our user and password"),
            ({"mqtt_url": url, "mqtt_ca_file": str(other.file)}, "certificate is not accepted"),
            ({"mqtt_url": url}, "certificate is not accepted"),  # the system knows no "site"
        ):
            async with ours(**settings) as mqtt:
                assert not mqtt.is_connected
                told = str(mqtt.down_reason)
                assert told.startswith(f"the broker localhost:{port} cannot be used: ")
                assert said in told
                assert "\n" not in told
                assert "secret" not in told


async def test_our_client_shows_its_certificate(tmp_path: Path) -> None:
    site, other = Authority(tmp_path, "site"), Authority(tmp_path, "other")
    cert, key = site.signs("broker", "localhost")
    lines = (
        f"certfile {cert}", f"keyfile {key}", f"cafile {site.file}", "require_certificate true",
        "use_identity_as_username true",
    )  # fmt: skip
    async with theirs(tmp_path, *lines) as port:
        known: dict[str, Any] = {
            "mqtt_url": f"mqtts://localhost:{port}",
            "mqtt_ca_file": str(site.file),
        }
        for signer, welcome in ((site, True), (other, False)):
            its_cert, its_key = signer.signs("headend")
            shown = {"mqtt_cert_file": str(its_cert), "mqtt_key_file": str(its_key)}
            async with ours(**known, **shown) as mqtt:
                assert mqtt.is_connected is welcome, mqtt.down_reason
                if not welcome:  # with TLS 1.3 the refusal comes after the handshake, as silence
                    assert "may not accept our certificate" in str(mqtt.down_reason)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mqtt_url": "mqtts://h", "mqtt_ca_file": "/none.pem"}, "certificates of MQTT"),
        ({"mqtt_url": "http://h"}, "mqtt_url must be"),
        ({"mqtt_url": "mqtt://h:99999"}, "mqtt_url must be"),
        ({"mqtt_broker": "perhaps"}, "mqtt_broker must be"),
        ({"mqtt_broker_port": 65_536}, "mqtt_broker_port must be a port"),
        ({"mqtt_broker_cert_file": "/c.pem"}, "belong together"),
        ({"mqtt_broker_client_ca_file": "/c.pem"}, "needs both"),
        (
            {"mqtt_broker_cert_file": "/c.pem", "mqtt_broker_key_file": "/k.pem"},
            "certificates of mqtt_broker",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(settings: Any, said: str) -> None:
    make = broker_place_of if "mqtt_url" in settings else embedded_broker_of
    with pytest.raises(Problem, match=said) as raised:
        make(Settings(**settings))
    assert raised.value.code == "settings-unreadable"


# ---- our own broker with TLS ---------------------------------------------------------------------


@asynccontextmanager
async def our_broker(folder: Path, **settings: Any) -> AsyncIterator[tuple[EmbeddedBroker, int]]:
    tls_port = free_port()
    made = embedded_broker_of(
        Settings(
            data_folder=folder,
            mqtt_broker_port=0,
            mqtt_broker_tls_port=tls_port,
            mqtt_broker_tls_host="127.0.0.1",
            **settings,
        )
    )
    assert isinstance(made, EmbeddedBroker)
    users = [
        BrokerUser(name=name, password_hash=password_hash(name[::-1]), writes=(f"{name}/up",))
        for name in ("E0001", "E0002")
    ]
    own = BrokerUser(name="headend", password_hash=password_hash("ours"), reads=("#",))
    await made.start([own, *users])
    try:
        assert made.trouble is None, made.trouble
        yield made, tls_port
    finally:
        await made.stop()


def context(ca: Authority, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(ca.file))
    if pair is not None:
        made.load_cert_chain(*pair)
    return made


async def test_devices_come_over_tls_with_their_passwords(
    reachable_folder: Path, tmp_path: Path
) -> None:
    site = Authority(tmp_path, "site")
    cert, key = site.signs("broker", "localhost")
    settings = {"mqtt_broker_cert_file": str(cert), "mqtt_broker_key_file": str(key)}
    async with our_broker(reachable_folder / "tls", **settings) as (broker, port):
        async with (
            Party(broker.port, "headend", "ours") as us,
            Party(port, "E0001", "1000E", tls=context(site)) as gate,
        ):
            await us.hear("#")
            await gate.say("E0002/up", b"forged")
            await gate.say("E0001/up", b"mine")
            await until(lambda: us.heard)
            assert us.heard == [("E0001/up", b"mine")]
        async with Party(port, "E0001", "wrong", tls=context(site)) as gate:
            assert gate.received != 0
        key_file = reachable_folder / "tls" / "broker" / "settings" / "key.pem"
        assert key_file.stat().st_mode & 0o007 == 0


async def test_a_certificates_name_is_the_device(reachable_folder: Path, tmp_path: Path) -> None:
    site, other = Authority(tmp_path, "site"), Authority(tmp_path, "other")
    cert, key = site.signs("broker", "localhost")
    settings = {
        "mqtt_broker_cert_file": str(cert),
        "mqtt_broker_key_file": str(key),
        "mqtt_broker_client_ca_file": str(site.file),
    }
    async with our_broker(reachable_folder / "mutual", **settings) as (broker, port):
        async with (
            Party(broker.port, "headend", "ours") as us,
            # The name it gives besides is not asked for.
            Party(port, "E0002", "2000E", tls=context(site, site.signs("E0001"))) as gate,
        ):
            await us.hear("#")
            await gate.say("E0002/up", b"forged")
            await gate.say("E0001/up", b"mine")
            await until(lambda: us.heard)
            assert us.heard == [("E0001/up", b"mine")]
        for pair in (None, other.signs("E0001")):
            async with Party(port, "E0001", "1000E", tls=context(site, pair)) as gate:
                assert gate.received != 0


# ---- our presence, and what is left of us after kill -9 ------------------------------------------


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is missing")
async def test_everybody_sees_us_come_and_go(dsn: str, tmp_path: Path) -> None:
    site = Authority(tmp_path, "site")
    cert, key = site.signs("broker", "localhost")
    lines = (
        f"certfile {cert}", f"keyfile {key}", "allow_anonymous false",
        f"password_file {tmp_path / 'passwords'}",
    )  # fmt: skip
    async with theirs(tmp_path, *lines) as port:
        settings = tmp_path / "headend.toml"
        settings.write_text(
            f'database_url = "{dsn}"\ndata_folder = "{tmp_path}"\nhttp_port = {free_port()}\n'
            f'dial_in_host = "127.0.0.1"\ndial_in_port = {free_port()}\n'
            f'mqtt_url = "mqtts://head:secret@localhost:{port}"\nmqtt_ca_file = "{site.file}"\n'
        )
        head_end = subprocess.Popen(  # noqa: ASYNC220  it comes back at once
            [HEADEND, "run", "--config", settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        watching = await asyncio.create_subprocess_exec(
            *("mosquitto_sub", "-h", "localhost", "-p", str(port), "--cafile", str(site.file)),
            *("-u", "head", "-P", "secret", "-i", "watcher", "-q", "1", "-t", PRESENCE),
            stdout=asyncio.subprocess.PIPE,
        )
        assert watching.stdout is not None
        try:
            async with asyncio.timeout(90):
                assert (await watching.stdout.readline()).strip() == b"online"
                late = await asyncio.create_subprocess_exec(
                    *("mosquitto_sub", "-h", "localhost", "-p", str(port), "-C", "1", "-u", "head"),
                    *("-P", "secret", "--cafile", str(site.file), "-t", PRESENCE, "-i", "late"),
                    stdout=asyncio.subprocess.PIPE,
                )
                assert (await late.communicate())[0].strip() == b"online", "it is retained"
                head_end.kill()
                assert (await watching.stdout.readline()).strip() == b"offline"
        finally:
            head_end.kill()
            head_end.wait()
            watching.terminate()
            await watching.wait()
