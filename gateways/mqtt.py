"""One connection to the MQTT broker, kept open for as long as the program runs. aiomqtt's one home.

What is told (uplinks, answers, presence) goes with QoS 1 over a session that outlives connections,
so nothing of it is lost while we are away. Frames to meters do not: a broker that repeats or stores
a frame would write it twice, or tomorrow. They go with QoS 0, never retained, only while connected,
and with MQTT 5 the broker drops what it could not hand over in time. Their answers are heard with
QoS 0 too, and no line speaks before a mark of ours has come back through the session: whatever the
broker had kept for us has come before it, and an answer to yesterday's question is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateways.link import LinkDown
from gateways.mqtt_acks import Acks, ManualClient

log = logging.getLogger(__name__)

PAUSE_S_FIRST, PAUSE_S_MAX = 0.5, 30.0
OUTBOX_MAX = 1_000  # answers that wait for the broker; what does not fit was answered by nobody
WAITING_MAX = 20_000  # messages received and not yet looked at
SESSION_S = 7 * 24 * 3600  # how long the broker keeps what comes for us while we are away
PRESENCE = "headend/presence"
MARK = "headend/mark/{client_id}"
# What waited for us comes before the mark: a night of it may take some seconds.
MARK_S_MAX = 60.0
HELD_LOOK_S = 0.2  # how often it is asked whether we may connect
BAD_PROTOCOL = 132  # MQTT 5 reason code: unsupported protocol version
TIMED_OUT = "Operation timed out"  # aiomqtt's own words
REFUSED_US = (134, 135)  # MQTT 5 reason codes: bad user name or password, not authorised
# aiomqtt and paho say each lost connection; the fall and the rise are said once here.
logging.getLogger("mqtt").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPlace:
    """Where the broker is and who we are there."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    client_id: str = "headend"

    def __repr__(self) -> str:
        return f"BrokerPlace({self.host}:{self.port})"


class Mqtt:
    """`run()` until cancelled. `on_message(topic, payload)` and the others come back at once."""

    def __init__(
        self,
        place: BrokerPlace,
        filters: Callable[[], Mapping[str, int]],
        on_message: Callable[[str, bytes], asyncio.Future[Any] | None],
        *,
        on_rise: Callable[[], None] = lambda: None,
        on_fall: Callable[[str], None] = lambda reason: None,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`filters`: what to subscribe to and with which QoS, asked at each connection and by
        `resubscribe`. `on_message` gives what has to be done before its message is acknowledged, or
        None. `held`: why we must not connect now, as one clause; None: we may."""
        self.place = place
        self._held = held
        self._mark_topic = MARK.format(client_id=place.client_id)
        self.down_reason: str | None = "not connected yet"
        self.reconnects = 0
        self.dropped = 0  # answers that found the outbox full
        self._filters = filters
        self._on_message = on_message
        self._on_rise, self._on_fall = on_rise, on_fall
        self._client: aiomqtt.Client | None = None
        self._subscribed: dict[str, int] = {}
        self._outbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(OUTBOX_MAX)
        self._sending: set[asyncio.Task[None]] = set()
        self._protocol = aiomqtt.ProtocolVersion.V5

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    def tell(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1 as soon as the broker is there."""
        try:
            self._outbox.put_nowait((topic, payload))
        except asyncio.QueueFull:
            self.dropped += 1

    def send_now(self, topic: str, payload: bytes, *, expires_in_s: int) -> None:
        """Publish a frame once, now or never. Raises LinkDown when there is no connection."""
        client = self._client
        if client is None:
            raise LinkDown(self.down_reason)
        task = asyncio.create_task(self._send(client, topic, payload, expires_in_s))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def resubscribe(self) -> None:
        """Follow what `filters` says now."""
        client = self._client
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._subscribe(client)

    async def run(self) -> None:
        """Connect, receive, and connect again, with growing pauses."""
        pause_s = PAUSE_S_FIRST
        while True:
            if (reason := self._held()) is not None:
                self._fell(reason)
                pause_s = PAUSE_S_FIRST
                await asyncio.sleep(HELD_LOOK_S)
                continue
            try:
                async with self._new_client() as client:
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                if self._client is not None:
                    pause_s = PAUSE_S_FIRST
                self._fell(_why(self.place, error))
                if getattr(error, "rc", None) == BAD_PROTOCOL:
                    self._protocol = aiomqtt.ProtocolVersion.V311
            finally:
                self._client = None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _new_client(self) -> ManualClient:
        place, five = self.place, self._protocol is aiomqtt.ProtocolVersion.V5
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
        return ManualClient(
            place.host,
            place.port,
            username=place.user,
            password=place.password,
            identifier=place.client_id,
            protocol=self._protocol,
            clean_session=None if five else False,
            clean_start=False,
            properties=properties,
            tls_context=place.tls,
            will=aiomqtt.Will(PRESENCE, b"offline", qos=1, retain=True),
            max_queued_incoming_messages=WAITING_MAX,
            # Without it a request and its answer take 40 ms longer: small packets wait for company.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async def _serve(self, client: ManualClient) -> None:
        self._subscribed.clear()
        await self._subscribe(client)
        mark = secrets.token_bytes(8)
        await client.publish(self._mark_topic, mark, qos=1)
        pump: asyncio.Task[None] | None = None
        acks = Acks(client)
        try:
            async with asyncio.timeout(MARK_S_MAX) as patience:
                async for message in client.messages:
                    payload, topic = message.payload, message.topic.value
                    is_mark = topic == self._mark_topic
                    settled = None
                    if isinstance(payload, bytes) and not message.retain and not is_mark:
                        settled = self._hand_over(topic, payload)
                    acks.owe(message, settled)
                    if is_mark and payload == mark and pump is None:
                        patience.reschedule(None)
                        await client.publish(PRESENCE, b"online", qos=1, retain=True)
                        self._rose(client)
                        pump = asyncio.create_task(self._pump(client), name="mqtt outbox")
        except TimeoutError:
            raise aiomqtt.MqttError(
                f"what we publish under {self._mark_topic} does not come back to us; allow it"
            ) from None
        finally:
            acks.close()
            if pump is not None:
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await pump

    def _hand_over(self, topic: str, payload: bytes) -> asyncio.Future[Any] | None:
        try:
            return self._on_message(topic, payload)
        except Exception:
            log.exception("a message under %s met a fault", topic)
            return None

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        wanted = {**self._filters(), self._mark_topic: 1}
        for topic in sorted(wanted):
            if self._subscribed.get(topic) != wanted[topic]:
                await client.subscribe(topic, qos=wanted[topic])
        for topic in sorted(self._subscribed.keys() - wanted.keys()):
            await client.unsubscribe(topic)
        self._subscribed = wanted

    async def _pump(self, client: aiomqtt.Client) -> None:
        while True:
            topic, payload = await self._outbox.get()
            try:
                await client.publish(topic, payload, qos=1)
            except BaseException:
                # Not acknowledged: it goes first on the next connection.
                with contextlib.suppress(asyncio.QueueFull):
                    self._outbox.put_nowait((topic, payload))
                raise

    async def _send(
        self, client: aiomqtt.Client, topic: str, payload: bytes, expires_in_s: int
    ) -> None:
        properties = None
        if self._protocol is aiomqtt.ProtocolVersion.V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expires_in_s
        try:
            await client.publish(topic, payload, qos=0, properties=properties)
        except aiomqtt.MqttError as error:
            log.debug("a frame under %s did not leave: %s", topic, error)

    def _rose(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.down_reason = None
        self.reconnects += 1
        log.info("the MQTT broker %s:%d is there", self.place.host, self.place.port)
        self._on_rise()

    def _fell(self, reason: str) -> None:
        was_up, self._client = self._client is not None, None
        if was_up or reason != self.down_reason:
            log.warning("no MQTT: %s", reason)
        self.down_reason = reason
        self._on_fall(reason)


def _why(place: BrokerPlace, error: aiomqtt.MqttError) -> str:
    """One clause for people; never with a password in it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"its certificate is not accepted, {cause.verify_message}; check mqtt_ca_file"
    elif isinstance(cause, ssl.SSLError):
        text = f"there is no TLS with it, {cause.reason or cause}; check the certificates"
    elif any(getattr(error, "rc", None) == code for code in REFUSED_US):
        text = "it refuses our user and password, or our certificate"
    elif text == TIMED_OUT:
        text = "it does not answer" + (
            ", or may not accept our certificate; check mqtt_cert_file" if place.tls else ""
        )
    return f"the broker {place.host}:{place.port} cannot be used: {text}"
