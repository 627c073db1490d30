"""Gateways on an MQTT broker, through paho's own client: one that passes bytes through, and others
that push what they have read. Written from the makers' descriptions, not from the head-end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from simulators.faults import Faults
from simulators.metering import W_MS_PER_WH, Meter
from simulators.modbus_meter import Bus
from simulators.wire import LineReport, SlaveLine, Wires, WireTiming

CONNECT_S_MAX = 20.0

CODES: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "raw": (bytes, bytes),
    "hex": (lambda data: data.hex().upper().encode(), lambda text: bytes.fromhex(text.decode())),
    "base64": (base64.b64encode, base64.b64decode),
}


class MqttClient:
    """One device on the broker. Messages are handed to the loop."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._name, self._address = name, (host, port)
        self._user, self._password = user, password
        self._client: paho.Client | None = None
        self._waiting: list[tuple[str, bytes]] = []  # said while it had no power
        self._heard: dict[str, Callable[[bytes], None]] = {}
        self.connected = asyncio.Event()
        self.on_connected: Callable[[], None] = lambda: None

    @property
    def has_access(self) -> bool:
        return self._user is None or self._password is not None

    def give_access(self, password: str) -> None:
        """Before `start`: what the broker wants to hear."""
        self._password = password

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Before `start`: what to do with messages under this topic."""
        self._heard[topic] = heard

    def say(self, topic: str, payload: bytes) -> None:
        """Published with QoS 1; after a lost connection it is said again, however late."""
        if self._client is None:
            self._waiting.append((topic, payload))
        else:
            self._client.publish(topic, payload, qos=1)

    async def start(self) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self._name)
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        client.reconnect_delay_set(min_delay=1, max_delay=2)
        client.on_connect = self._connected
        client.on_message = self._arrived
        self.connected.clear()
        client.connect_async(*self._address)
        client.loop_start()
        self._client = client
        waiting, self._waiting = self._waiting, []
        for topic, payload in waiting:
            self.say(topic, payload)

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    # in paho's thread

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, code: Any, *_: Any) -> None:
        if code.is_failure:
            return
        for topic in self._heard:
            client.subscribe(topic, qos=1)
        self._loop.call_soon_threadsafe(self.connected.set)
        self._loop.call_soon_threadsafe(self.on_connected)

    def _arrived(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        heard = self._heard.get(message.topic)
        if heard is not None:
            self._loop.call_soon_threadsafe(heard, bytes(message.payload))


class PassThroughGateway:
    """A box with one RS485 port: what comes down goes on the wires, what comes back goes up."""

    def __init__(
        self,
        bus: Wires,
        registration: str,
        *,
        host: str,
        port: int,
        payload: str = "raw",
        user: str | None = None,
        password: str | None = None,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._encode, self._decode = CODES[payload]
        self._up = f"headend/{registration}/up/1"
        self.client = MqttClient(registration, host, port, user=user, password=password)
        self.client.listen(f"headend/{registration}/down/1", self._down)
        self.line = SlaveLine(bus, self._answered, timing=timing, faults=faults)

    @property
    def report(self) -> LineReport:
        return self.line.report

    async def plug(self) -> None:
        """Power on; without its password it does not try to connect."""
        if self.client.has_access:
            await self.client.start()

    async def unplug(self) -> None:
        self.line.stop()
        await self.client.stop()

    async def give_access(self, password: str) -> None:
        """Type the password in, and wait until it is connected. Raises OSError after a while."""
        await self.client.stop()
        self.client.give_access(password)
        await self.client.start()
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await self.client.connected.wait()
        except TimeoutError:
            raise OSError("the broker does not let it in") from None

    def _down(self, payload: bytes) -> None:
        self.counts["down"] += 1
        self.line.bytes_from_master(self._decode(payload))

    def _answered(self, data: bytes) -> None:
        self.counts["up"] += 1
        self.client.say(self._up, self._encode(data))


class AcrelBox(PassThroughGateway):
    """An Acrel gateway of the domestic kind: it logs in, and once it was answered reports what its
    meters show. Frames pass through it like through any other."""

    PRODUCT = "P1"

    def __init__(self, bus: Bus, registration: str, **more: Any) -> None:
        super().__init__(bus, registration, **more)
        self._bus, self._sn = bus, registration
        self._messages = 0
        self._now_s = 0  # it has no clock of its own: the answer to its login tells the time
        self.client.listen(f"sys/server/{self.PRODUCT}/{registration}", self._told)
        self.client.on_connected = self._log_in

    def _log_in(self) -> None:
        login = {"compress": "0", "encrypt": "0", "softversion": "1.0", "upInterval": 300}
        self._say("sys/dev", "login", login)

    def _told(self, payload: bytes) -> None:
        answer = json.loads(payload)
        if (answer.get("method"), answer.get("res")) == ("login", 1):
            self.counts["logins"] += 1
            self._now_s = int(answer["timestamp"])
            meters = [self._shown(unit.meter) for unit in self._bus.units.values()]
            self._say("data/up", "report", {"reported": {"source": "REALTIME", "meters": meters}})

    @staticmethod
    def _shown(meter: Meter) -> dict[str, str]:
        look = meter.look()
        hundredths = look.total_w_ms // W_MS_PER_WH // 10  # as on its display: 0.01 kWh
        return {"addr": look.meter_number, "EPI": f"{hundredths // 100}.{hundredths % 100:02d}"}

    def _say(self, topic: str, method: str, payload: dict[str, Any]) -> None:
        self._messages += 1
        body = {
            "msgid": str(self._messages),
            "method": method,
            "sn": self._sn,
            "timestamp": self._now_s,
            "payload": payload,
        }
        self.client.say(f"{topic}/{self.PRODUCT}/{self._sn}", json.dumps(body).encode())


class OverseasGateway:
    """An Acrel gateway of the overseas kind: it asks the time and pushes energies."""

    def __init__(self, sn: str, *, host: str, port: int, product: str = "P1") -> None:
        self.sn, self.product = sn, product
        self.told: list[dict[str, Any]] = []
        self.client = MqttClient(sn, host, port)
        self.client.listen(self._topic("timeAck"), self._heard)
        self.client.listen(self._topic("loginAck"), self._heard)

    def _topic(self, command: str) -> str:
        return f"/gw/acrelHW/{self.product}/{command}/{self.sn}"

    def _heard(self, payload: bytes) -> None:
        self.told.append(json.loads(payload))

    def say(self, command: str, body: dict[str, Any]) -> None:
        self.client.say(self._topic(command), json.dumps(body).encode())
