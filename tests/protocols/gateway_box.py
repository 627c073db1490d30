"""An Acrel gateway in a test's hand: what it says, and a stream that has met it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from protocols.acrel_gateway import AcrelGatewayStream, known_gateways
from protocols.acrel_gateway_cipher import encipher
from protocols.acrel_gateway_frames import FrameKind, make_frame
from protocols.keys import GatewaySecret
from protocols.stream import Answer, Box, Event, Named
from tests.protocols.vectors import ACREL_GATEWAY

SECRET: str = ACREL_GATEWAY["secret"]
KEY = SECRET.encode()
REGISTRATION: str = ACREL_GATEWAY["registration"]
SEQUENCE: str = ACREL_GATEWAY["sequence"]
FRAMES: dict[str, bytes] = {
    name: bytes.fromhex(frame) for name, frame in ACREL_GATEWAY["frames"].items()
}
DIAL_NOW = datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial has no time zone


def secret_of(text: str) -> GatewaySecret:
    return GatewaySecret(lambda: text)


def knowing(boxes: Mapping[str, Box]) -> AcrelGatewayStream:
    """A new connection, to somebody who knows these gateways."""
    stream = known_gateways(boxes, new_sequence=lambda: SEQUENCE)(lambda _: DIAL_NOW)
    assert isinstance(stream, AcrelGatewayStream)
    return stream


def fresh(secret: str = SECRET) -> AcrelGatewayStream:
    """A new connection, to somebody who knows one gateway under this secret."""
    return knowing({"gateway-D": Box(registration=REGISTRATION, secret=secret_of(secret))})


def logged_in() -> AcrelGatewayStream:
    """A connection after its login."""
    stream = fresh()
    stream.receive(FRAMES["auth_request"])
    events = stream.receive(FRAMES["auth_md5"])
    assert events == (Named("gateway-D"), Answer(FRAMES["auth_result_pass"]))
    return stream


def dribbled(stream: AcrelGatewayStream, data: bytes) -> list[Event]:
    """What a stream says of bytes that come one by one."""
    return [event for byte in data for event in stream.receive(bytes((byte,)))]


def hidden(kind: FrameKind, plain: bytes) -> bytes:
    """A frame of enciphered data."""
    return make_frame(kind, encipher(plain, KEY))


def report(meters: str, *, time: str = "20250314101500", operation: str = "") -> bytes:
    """The XML of a report."""
    said = f' operation="{operation}"' if operation else ""
    return (
        f"<root><common><gateway_id>GW-001</gateway_id></common>"
        f"<data{said}><time>{time}</time>{meters}</data></root>"
    ).encode()


def answer(echo: str, frame: bytes) -> bytes:
    """What came back from the line of a port."""
    return hidden(FrameKind.ANSWER, f"{echo}|{frame.hex()}".encode())
