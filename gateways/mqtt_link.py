"""A line behind an MQTT gateway that passes bytes through: frames down one topic, answers up one.

The payload is the frame as it is, in hex, or in base64. Nothing in it says to which request an
answer belongs, so the line's own patience holds: after silence a meter is left alone until no old
answer can come.
"""

from __future__ import annotations

import base64
import binascii
import enum

from gateways.link import LinkDown, LinkUser
from gateways.mqtt import Mqtt
from gateways.timing import LineTiming

FRAME_BYTES_MAX = 1024
# A broker counts whole seconds, and may hand over until the end of the last: what expires after n
# may leave it within n + 1. It takes 0 for "never".
EXPIRY_S_MIN, BROKER_STEP_S = 1, 1.0
# So a line over MQTT counts a frame as dead no earlier than this after its time-out.
LATE_AFTER_TIMEOUT_S_MIN = EXPIRY_S_MIN + BROKER_STEP_S


def expiry_s(timing: LineTiming) -> int:
    """The expiry of a line's frames in MQTT 5: the broker drops what it could not hand over early
    enough for the meter to answer before the line counts the frame as dead.

    Not the deadline of the command, which is hours: a frame that came after its in-flight time
    would meet a command that was looked at, found not done, and sent again.
    """
    room_s = timing.reply_late_s_max - timing.reply_timeout_s
    assert room_s >= LATE_AFTER_TIMEOUT_S_MIN, "as services/lines.py makes it"
    return int(room_s - BROKER_STEP_S)


class Payload(enum.Enum):
    """How a frame stands in a message."""

    RAW = "raw"
    HEX = "hex"
    BASE64 = "base64"

    def encode(self, frame: bytes) -> bytes:
        """The message for this frame."""
        if self is Payload.HEX:
            return frame.hex().encode("ascii")
        return base64.b64encode(frame) if self is Payload.BASE64 else frame

    def decode(self, payload: bytes) -> bytes | None:
        """The bytes in a message; None when it is none of this form."""
        if self is Payload.RAW:
            found: bytes | None = payload
        else:
            try:
                text = payload.decode("ascii").strip()
                hexed = self is Payload.HEX
                found = bytes.fromhex(text) if hexed else base64.b64decode(text, validate=True)
            except (ValueError, binascii.Error):
                found = None
        return found if found and len(found) <= FRAME_BYTES_MAX else None


class MqttLink:
    """A ByteLink for the life of one connection to the broker."""

    def __init__(
        self, mqtt: Mqtt, gateway: str, down: str, payload: Payload, *, expires_in_s: int
    ) -> None:
        """`expires_in_s`: of its frames, see expiry_s()."""
        self._expires_in_s = expires_in_s
        self.name = f"mqtt {gateway}"
        self._mqtt = mqtt
        self._down = down
        self._payload = payload
        self._user: LinkUser | None = None
        self._is_closed = False
        self.spoke = False

    def start(self, user: LinkUser) -> None:
        self._user = user

    def write(self, data: bytes) -> None:
        if self._is_closed:
            raise LinkDown(f"{self.name}: the connection is closed")
        self.spoke = True
        message = self._payload.encode(data)
        self._mqtt.send_now(self._down, message, expires_in_s=self._expires_in_s)

    def close(self) -> None:
        self._is_closed = True
        self._user = None

    def hear(self, payload: bytes) -> bool:
        """A message of the gateway's; False when it holds no bytes. What comes before our first
        request was asked for by nobody."""
        data = self._payload.decode(payload)
        if data is not None and self.spoke and self._user is not None:
            self._user.bytes_received(data)
        return data is not None

    def lost(self, reason: str) -> None:
        """The broker is gone."""
        user = self._user
        self.close()
        if user is not None:
            user.link_lost(reason)
