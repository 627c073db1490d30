"""Somebody on an MQTT broker, through paho: says what it hears and how it was received."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

WAIT_S = 30.0
needs_mosquitto = pytest.mark.skipif(
    not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()),
    reason="mosquitto is not installed",
)


async def until(true: Callable[[], Any], wait_s: float = WAIT_S) -> None:
    async with asyncio.timeout(wait_s):
        while not true():
            await asyncio.sleep(0.02)


class Party:
    """One client. `heard`: every message as (topic, payload)."""

    def __init__(
        self,
        port: int,
        user: str | None = None,
        password: str | None = None,
        *,
        client_id: str = "",
        keeps_session: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.received: int | None = None  # the broker's answer to CONNECT; 0: welcome
        self.falls = 0
        self._granted: set[int] = set()
        self._acked: set[int] = set()
        self._port = port
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"party-{secrets.token_hex(4)}",
            clean_session=not keeps_session,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        if user is not None:
            self.client.username_pw_set(user, password)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _c, _d, m: self.heard.append((m.topic, bytes(m.payload)))
        self.client.on_subscribe = lambda _c, _d, mid, *_: self._granted.add(mid)
        self.client.on_publish = lambda _c, _d, mid, *_: self._acked.add(mid)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, *_: Any) -> None:
        self.received = code.value

    def _on_disconnect(self, *_: Any) -> None:
        self.falls += 1

    async def __aenter__(self) -> Party:
        with suppress(OSError):  # a broker that hangs up in the handshake
            await asyncio.to_thread(self.client.connect, "localhost", self._port)
        self.client.loop_start()
        await until(lambda: self.received is not None or self.falls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)

    def cut(self) -> None:
        """Lose the connection without a word."""
        sock: Any = self.client.socket()
        sock.shutdown(socket.SHUT_RDWR)

    async def hear(self, *filters: str) -> None:
        """Subscribe; back when the broker has answered."""
        for one in filters:
            _, mid = self.client.subscribe(one, qos=1)
            assert mid is not None
            await until(lambda mid=mid: mid in self._granted)  # type: ignore[misc]

    async def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; back when the broker has answered, which it does for what it drops, too."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        await until(lambda: mid in self._acked)
